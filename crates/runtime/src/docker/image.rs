//! Images that the engine has, and fetching more. Does not: verify signatures, keep credentials of registries.

use bollard::{
    errors::Error,
    models::{ImageConfig, ImageInspect},
    query_parameters::{CreateImageOptionsBuilder, ImportImageOptions, RemoveImageOptions},
};
use futures::StreamExt;
use std::time::Duration;
use tokio::sync::mpsc;

use super::{Inner, probe::found};
use crate::{Image, PullError, PullEvent, RuntimeError, SourceError};

/// Attempts at a removal that another removal of shared layers gets in the way of; each time one of those is done.
const REMOVE_TRIES: u32 = 8;
/// How long an engine may take to unpack an image that it is given.
const LOADING: Duration = Duration::from_secs(1_800);

impl Inner {
    pub(super) async fn image(&self, reference: &str) -> Result<Option<Image>, RuntimeError> {
        check_reference(reference)?;
        let mut looked = found(self.docker.inspect_image(reference).await);
        if let (Ok(None), Some(name)) = (&looked, by_digest(reference)) {
            looked = found(self.docker.inspect_image(&name).await);
        }
        match looked {
            Ok(image) => Ok(image.map(describe)),
            Err(Error::DockerResponseServerError { status_code: 400, message }) => {
                Err(RuntimeError::Invalid { field: "image", why: message })
            }
            Err(error) => Err(self.engine_error(error)),
        }
    }

    pub(super) async fn pull(&self, reference: &str, progress: mpsc::Sender<PullEvent>) -> Result<Image, PullError> {
        check_reference(reference)?;
        self.on_public_address(reference).await.map_err(|why| RuntimeError::Invalid { field: "image", why })?;
        if let Some(image) = self.brought(reference, &progress).await? {
            return Ok(image);
        }
        let options = CreateImageOptionsBuilder::default().from_image(&with_tag(reference)).build();
        let mut told = self.docker.create_image(Some(options), None, None);
        while let Some(item) = told.next().await {
            let info = item.map_err(|error| self.pull_error(reference, error))?;
            let Some(status) = info.status else { continue };
            let number = |value: Option<i64>| value.and_then(|n| u64::try_from(n).ok());
            let amounts = info.progress_detail.and_then(|detail| Some((number(detail.current)?, number(detail.total)?)));
            let event = PullEvent { layer: info.id.unwrap_or_default(), status, progress: amounts };
            // Nobody listening is no reason to stop.
            let _ = progress.send(event).await;
        }
        let image = self.image(reference).await?;
        image.ok_or_else(|| PullError::Registry {
            reference: reference.to_owned(),
            message: "the engine has no such image afterwards".into(),
        })
    }

    /// Takes in an image that somebody else brings; nothing if nobody does, or not this one: then the engine may try.
    pub(super) async fn brought(&self, reference: &str, progress: &mpsc::Sender<PullEvent>) -> Result<Option<Image>, PullError> {
        let Some(source) = self.source.get() else { return Ok(None) };
        let name = by_digest(reference).unwrap_or_else(|| with_tag(reference));
        let brought = source.image(reference, &self.facts.architecture, vec![full_name(&name)], progress.clone()).await;
        let archive = match brought {
            Ok(archive) => archive,
            Err(SourceError::NotFound(message)) => return Err(PullError::NotFound { reference: reference.to_owned(), message }),
            Err(SourceError::Refused(why)) => return Err(RuntimeError::Invalid { field: "image", why }.into()),
            Err(SourceError::Failed(error)) => {
                tracing::info!(error, reference, "an image was not brought: the engine pulls it");
                return Ok(None);
            }
        };
        // The engine says nothing until it has unpacked a layer.
        let patient = self.docker.clone().with_timeout(LOADING);
        let mut told = patient.import_image_stream(ImportImageOptions::default(), archive.bytes, None);
        while let Some(item) = told.next().await {
            if let Err(error) = item {
                tracing::warn!(%error, reference, "the engine does not take an image's archive: it pulls it itself");
                return Ok(None);
            }
        }
        let image = self.image(&archive.id).await?;
        if image.is_none() {
            tracing::warn!(reference, id = archive.id, "the engine took an image's archive and has no such image");
        }
        Ok(image)
    }

    pub(super) fn pull_error(&self, reference: &str, error: Error) -> PullError {
        let reference = reference.to_owned();
        match error {
            Error::DockerResponseServerError { status_code: 404, message } => PullError::NotFound { reference, message },
            Error::DockerStreamError { error: message } | Error::DockerResponseServerError { message, .. } => {
                let absent = ["manifest unknown", "not found", "denied", "does not exist"];
                if absent.iter().any(|words| message.contains(words)) {
                    PullError::NotFound { reference, message }
                } else {
                    PullError::Registry { reference, message }
                }
            }
            other => PullError::Runtime(self.engine_error(other)),
        }
    }

    pub(super) async fn remove_image(&self, reference: &str) -> Result<(), RuntimeError> {
        check_reference(reference)?;
        if let Some(name) = by_digest(reference) {
            // One that was brought; one that was pulled goes by the name itself.
            found(self.docker.remove_image(&name, None::<RemoveImageOptions>, None).await).map_err(|error| match error {
                Error::DockerResponseServerError { status_code: 409, message } => RuntimeError::Conflict(message),
                error => self.engine_error(error),
            })?;
        }
        let mut tries = REMOVE_TRIES;
        loop {
            tries -= 1;
            match found(self.docker.remove_image(reference, None::<RemoveImageOptions>, None).await) {
                Ok(_) => return Ok(()),
                // What was built upon its layers went while the engine looked. The name is gone, which the next try finds; the image is not removed
                // by its id, which may have another build's name by now.
                Err(Error::DockerResponseServerError { status_code: 409, message }) if tries > 0 && message.contains(CHILDREN) => {}
                Err(Error::DockerResponseServerError { status_code: 409, message }) => return Err(RuntimeError::Conflict(message)),
                // A removal of another image that was built upon the same layers was faster.
                Err(Error::DockerResponseServerError { status_code: 500, message }) if tries > 0 && message.contains("sha256:") => {}
                Err(error) => return Err(self.engine_error(error)),
            }
        }
    }
}

/// Part of what an engine says when other images are built upon one.
const CHILDREN: &str = "dependent child images";

impl Inner {
    /// What an image asks for when it runs, if it can run here at all: an engine only warns of another machine's programs.
    pub(super) async fn fitting(&self, reference: &str) -> Result<ImageConfig, RuntimeError> {
        check_reference(reference)?;
        let image = found(self.docker.inspect_image(reference).await).map_err(|error| self.engine_error(error))?;
        let image = image.ok_or_else(|| RuntimeError::NotFound { what: "image", name: reference.to_owned() })?;
        let (its, ours) = (image.architecture.as_deref().unwrap_or_default(), self.facts.architecture.as_str());
        if !runs(ours, its) {
            let why = format!("is for {its} processors, this machine has {ours}; use an image for {ours}, or one for several");
            return Err(RuntimeError::Invalid { field: "image", why });
        }
        Ok(image.config.unwrap_or_default())
    }
}

/// The name that images use for the architecture of a host, which hosts name otherwise.
pub(super) fn image_architecture(host: &str) -> &str {
    match host {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Whether a machine runs programs of this architecture. What is not said is not held against it.
fn runs(ours: &str, its: &str) -> bool {
    its.is_empty() || ours.is_empty() || its == ours || matches!((ours, its), ("amd64", "386") | ("arm64", "arm"))
}

fn describe(image: ImageInspect) -> Image {
    Image {
        id: image.id.unwrap_or_default(),
        size_bytes: image.size.and_then(|size| u64::try_from(size).ok()).unwrap_or(0),
        architecture: image.architecture.unwrap_or_default(),
        os: image.os.unwrap_or_default(),
        tags: image.repo_tags.unwrap_or_default(),
    }
}

/// A reference becomes part of a request path; what could change the path is refused here.
fn check_reference(reference: &str) -> Result<(), RuntimeError> {
    /// Registries take 255 for name and 128 for tag.
    const MAX_REFERENCE_LEN: usize = 512;
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'/' | b':' | b'@');
    let plain = reference.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    if plain && reference.len() <= MAX_REFERENCE_LEN && reference.bytes().all(legal) && !reference.contains("..") {
        return Ok(());
    }
    Err(RuntimeError::Invalid { field: "image", why: format!("{reference:?} is not an image name") })
}

/// Host and port of the registry that an image's name begins with; nothing for those of the engine's usual registry.
pub(super) fn registry(reference: &str) -> Option<(&str, u16)> {
    /// Where registries listen that say nothing else.
    const HTTPS: u16 = 443;
    let (first, _) = reference.split_once('/')?;
    let named = first.contains(['.', ':']) || first.eq_ignore_ascii_case("localhost");
    let (host, port) = first.rsplit_once(':').map_or((first, None), |(host, port)| (host, port.parse().ok()));
    named.then_some((host, port.unwrap_or(HTTPS)))
}

/// What an image that is named by its digest is called once it was brought: no engine gives such a name back by a load, and no registry can
/// ever answer for this one.
fn by_digest(reference: &str) -> Option<String> {
    reference.split_once("@sha256:").map(|(_, digits)| format!("by-digest.pasture.invalid/sha256:{digits}"))
}

/// A name with the usual registry, where it says none: as all engines read it the same.
fn full_name(name: &str) -> String {
    match name.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host.eq_ignore_ascii_case("localhost") => name.to_owned(),
        Some(_) => format!("docker.io/{name}"),
        None => format!("docker.io/library/{name}"),
    }
}

/// Without a tag the engine would fetch every one there is.
pub(super) fn with_tag(reference: &str) -> String {
    let name = reference.rsplit('/').next().unwrap_or(reference);
    if name.contains(':') || reference.contains('@') { reference.to_owned() } else { format!("{reference}:latest") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_are_told_from_names() {
        assert_eq!([registry("busybox"), registry("a/b:1"), registry("a/b.c/d")], [None; 3]);
        assert_eq!(registry("127.0.0.1:5000/a"), Some(("127.0.0.1", 5000)));
        assert_eq!(registry("LocalHost/a"), Some(("LocalHost", 443)));
        assert_eq!(registry("ghcr.example/a/b:1"), Some(("ghcr.example", 443)));
    }

    #[test]
    fn programs_of_other_machines_do_not_run() {
        for (ours, its, fits) in
            [("amd64", "amd64", true), ("amd64", "386", true), ("amd64", "arm64", false), ("arm64", "amd64", false), ("amd64", "", true)]
        {
            assert_eq!(runs(ours, its), fits, "{its} on {ours}");
        }
        assert_eq!(["x86_64", "aarch64", "riscv64"].map(image_architecture), ["amd64", "arm64", "riscv64"]);
    }

    #[test]
    fn what_is_brought_has_one_name_on_all_engines() {
        for (name, full) in [
            ("busybox:1", "docker.io/library/busybox:1"),
            ("a/b:1", "docker.io/a/b:1"),
            ("ghcr.example/a:1", "ghcr.example/a:1"),
            ("localhost/a:1", "localhost/a:1"),
        ] {
            assert_eq!(full_name(name), full);
        }
        assert_eq!(by_digest("a/b:1"), None);
        assert_eq!(by_digest("a/b@sha256:00ff").as_deref(), Some("by-digest.pasture.invalid/sha256:00ff"));
    }

    #[test]
    fn references_are_checked_and_tagged() {
        for (reference, tagged) in
            [("busybox", "busybox:latest"), ("a/b:1", "a/b:1"), ("host:5000/a", "host:5000/a:latest"), ("a@sha256:00", "a@sha256:00")]
        {
            check_reference(reference).unwrap();
            assert_eq!(with_tag(reference), tagged);
        }
        for bad in ["", "/a", "a b", "a?x", "a/../b", "é", "-a"] {
            assert!(check_reference(bad).is_err(), "{bad:?}");
        }
    }
}
