//! Before a build: what the engine itself would do for it is looked at, and done by us as far as possible.
//!
//! Guarantees: a build that passes makes the engine fetch nothing but what we know by name, from registries on public addresses,
//! and unpack no more than the image may have. Base images are here before the build begins, and what their `ONBUILD` asks for is
//! judged like the Dockerfile itself. Does not: keep a registry on a public address from sending the engine on to another one.

use std::{net::IpAddr, path::Path, sync::Arc};

use bollard::{models::BuildInfo, query_parameters::CreateImageOptionsBuilder};
use bytes::Bytes;
use futures::{Stream, StreamExt};
use pasture_rt::TaskKind;
use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};

use super::{
    Inner,
    builder::Teller,
    context::{self, Contents},
    dockerfile::{self, Asks},
    firewall,
    image::{registry, with_tag},
    probe::found,
};
use crate::{BuildError, BuildRequest, RuntimeError, build::is_built};

/// Pieces of a context that wait for the engine.
const PIECES_AHEAD: usize = 4;

fn failed(message: String) -> BuildError {
    BuildError::Failed { step: None, code: None, message, output_tail: String::new() }
}

impl Inner {
    /// Looks at all that a build asks the engine for. Afterwards its base images are here.
    pub(super) async fn prepare(&self, req: &BuildRequest, deadline: Instant, teller: &mut Teller<'_>) -> Result<(), BuildError> {
        let late = |_| BuildError::TimedOut { after: req.timeout, step: None, output_tail: String::new() };
        let opening = |error| RuntimeError::io(format!("open {}", req.context_tar.display()), error);
        drop(tokio::fs::File::open(&req.context_tar).await.map_err(opening)?);
        let (tar, name) = (req.context_tar.clone(), req.dockerfile.clone());
        let contents = timeout_at(deadline, blocking(move || context::read(&tar, &name))).await.map_err(late)??;
        let mut asks = dockerfile::read(&contents.dockerfile, &req.build_args).map_err(failed)?;
        for base in asks.bases.clone() {
            timeout_at(deadline, self.have(&base, teller)).await.map_err(late)??;
            for trigger in self.triggers(&base).await? {
                dockerfile::trigger(&trigger, &mut asks).map_err(|why| failed(format!("{why} (ONBUILD of the base image {base})")))?;
            }
        }
        for image in &asks.copied {
            timeout_at(deadline, self.have(image, teller)).await.map_err(late)??;
        }
        timeout_at(deadline, self.weigh(req, contents, asks)).await.map_err(late)?
    }

    /// Fetches an image that a build names and that is not here.
    async fn have(&self, base: &str, teller: &mut Teller<'_>) -> Result<(), BuildError> {
        if is_built(base) {
            return Err(failed(format!("{base} was built for somebody's job and is nobody else's to build upon")));
        }
        // The engine would also take the beginning of an image's id for a name: then it is anybody's image.
        if self.image(base).await?.is_some_and(|image| image.is_called(base)) {
            return Ok(());
        }
        self.on_public_address(base).await.map_err(failed)?;
        // The engine's builder looks for what is named by a digest under that name alone, which only a pull gives.
        if !base.contains('@') && self.brought_base(base, teller).await? {
            return Ok(());
        }
        let options = CreateImageOptionsBuilder::default().from_image(&with_tag(base)).build();
        let mut told = self.docker.create_image(Some(options), None, None);
        while let Some(item) = told.next().await {
            let info = item.map_err(|error| self.base_error(base, error))?;
            teller.tell(BuildInfo { id: info.id, status: info.status, ..Default::default() }).await;
        }
        Ok(())
    }

    /// The same, by whoever brings images; whether it is here now.
    async fn brought_base(&self, base: &str, teller: &mut Teller<'_>) -> Result<bool, BuildError> {
        let (progress, mut told) = mpsc::channel(64);
        let bringing = self.brought(base, &progress);
        let mut bringing = std::pin::pin!(bringing);
        loop {
            tokio::select! {
                brought = &mut bringing => {
                    return match brought {
                        Ok(image) => Ok(image.is_some()),
                        Err(crate::PullError::Runtime(error)) => Err(BuildError::Runtime(error)),
                        Err(error) => Err(failed(error.to_string())),
                    };
                }
                Some(event) = told.recv() => {
                    let crate::PullEvent { layer, status, .. } = event;
                    teller.tell(BuildInfo { id: Some(layer), status: Some(status), ..Default::default() }).await;
                }
            }
        }
    }

    fn base_error(&self, base: &str, error: bollard::errors::Error) -> BuildError {
        match self.pull_error(base, error) {
            crate::PullError::Runtime(error) => BuildError::Runtime(error),
            error => failed(error.to_string()),
        }
    }

    async fn triggers(&self, base: &str) -> Result<Vec<String>, BuildError> {
        let image = found(self.docker.inspect_image(base).await).map_err(|error| self.engine_error(error))?;
        let image = image.ok_or_else(|| RuntimeError::NotFound { what: "image", name: base.to_owned() })?;
        Ok(image.config.and_then(|config| config.on_build).unwrap_or_default())
    }

    /// The engine asks registries from the host's own network: none on an address that only the host can reach.
    pub(super) async fn on_public_address(&self, reference: &str) -> Result<(), String> {
        let Some((host, port)) = registry(reference) else { return Ok(()) };
        if self.source.get().is_some_and(|source| source.is_own(reference)) {
            return Ok(());
        }
        let refused = |address: IpAddr| format!("the registry of {reference} has the address {address}, which is not a public one");
        if let Ok(address) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
            return if firewall::is_public(address) { Ok(()) } else { Err(refused(address)) };
        }
        // One that is not found is for the engine to say.
        let mut found = tokio::net::lookup_host((host, port)).await.into_iter().flatten();
        found.find(|address| !firewall::is_public(address.ip())).map_or(Ok(()), |address| Err(refused(address.ip())))
    }

    /// Unpacks on trial what `ADD` would unpack without a limit.
    async fn weigh(&self, req: &BuildRequest, contents: Contents, asks: Asks) -> Result<(), BuildError> {
        let limit = req.limits.image_bytes;
        let mut total = 0u64;
        let contents = Arc::new(contents);
        for (number, archive) in contents.archives.iter().enumerate() {
            if !asks.added.iter().any(|source| dockerfile::may_name(source, &archive.path, &contents.links)) {
                continue;
            }
            let (tar, all, left) = (req.context_tar.clone(), Arc::clone(&contents), limit.saturating_sub(total));
            let bytes = blocking(move || all.archives.get(number).map_or(Ok(0), |archive| context::unpacked_bytes(&tar, archive, left)));
            total = total.saturating_add(bytes.await?);
            if total > limit {
                return Err(BuildError::TooLarge { limit_bytes: limit, found_bytes: total, step: None, output_tail: String::new() });
            }
        }
        Ok(())
    }
}

/// Work on files, away from the tasks that must not wait.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, String> + Send + 'static) -> Result<T, BuildError> {
    let done = pasture_rt::spawn_blocking(TaskKind::Files, work).join().await;
    let gone = || RuntimeError::io("read the build context", std::io::Error::other("the reader ended"));
    done.ok_or_else(gone)?.map_err(failed)
}

/// The context as the engine gets it. The thread that writes it ends with the stream.
pub(super) fn pieces(tar: &Path) -> impl Stream<Item = std::io::Result<Bytes>> + Send + 'static + use<> {
    let (sender, receiver) = mpsc::channel(PIECES_AHEAD);
    let tar = tar.to_owned();
    drop(pasture_rt::spawn_blocking(TaskKind::Files, move || context::send(&tar, sender)));
    futures::stream::unfold(receiver, |mut receiver| async move { Some((receiver.recv().await?, receiver)) })
}
