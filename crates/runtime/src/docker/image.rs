//! Images that the engine has, and fetching more. Does not: verify signatures, keep credentials of registries.

use bollard::{
    errors::Error,
    models::{ImageConfig, ImageInspect},
    query_parameters::{CreateImageOptionsBuilder, RemoveImageOptions},
};
use futures::StreamExt;
use tokio::sync::mpsc;

use super::{Inner, probe::found};
use crate::{Image, PullError, PullEvent, RuntimeError};

/// Attempts at a removal that another removal of shared layers gets in the way of; each time one of those is done.
const REMOVE_TRIES: u32 = 8;

impl Inner {
    pub(super) async fn image(&self, reference: &str) -> Result<Option<Image>, RuntimeError> {
        check_reference(reference)?;
        match found(self.docker.inspect_image(reference).await) {
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
