//! Files of a running instance, out and in, as archives. The engine itself keeps what it unpacks inside the instance's root.

use std::{sync::Arc, time::Duration};

use bollard::{
    body_try_stream,
    errors::Error,
    query_parameters::{ContainerArchiveInfoOptionsBuilder, DownloadFromContainerOptionsBuilder, UploadToContainerOptionsBuilder},
};
use bytes::Bytes;
use futures::{
    StreamExt,
    stream::{BoxStream, once},
};

use super::{Inner, instance::gone, podman};
use crate::{InstanceId, PathKind, RuntimeError};

/// Longest that the engine may unpack: some gigabytes on a slow disk.
const UPLOAD_DEADLINE: Duration = Duration::from_secs(1800);
/// The bit by which the engine marks a folder in a mode.
const FOLDER: u32 = 1 << 31;
/// The bit by which it marks a link.
const LINK: u32 = 1 << 27;
/// How many links that lead to links are followed.
const MAX_LINKS: usize = 8;

/// The archive of a path. Only an instance of ours is looked into.
pub(super) fn read(inner: Arc<Inner>, id: InstanceId, path: String) -> BoxStream<'static, Result<Bytes, RuntimeError>> {
    let begin = async move {
        match inner.look(&id).await {
            Ok(Some(_)) => {}
            Ok(None) => return once(async move { Err(gone(&id)) }).boxed(),
            Err(error) => return once(async move { Err(error) }).boxed(),
        }
        let is_podman = inner.facts.podman;
        let asked = if is_podman { podman::plain_path(&path) } else { &path };
        let options = DownloadFromContainerOptionsBuilder::default().path(asked).build();
        let pieces = inner.docker.download_from_container(&id.0, Some(options));
        let named = path.clone();
        let mut pieces = pieces.map(move |piece| piece.map_err(|error| at(&inner, &path, error))).boxed();
        if !is_podman {
            return pieces;
        }
        match pieces.next().await {
            Some(Ok(first)) => podman::renamed(first, pieces, named),
            other => futures::stream::iter(other).boxed(),
        }
    };
    once(begin).flatten().boxed()
}

fn at(inner: &Inner, path: &str, error: Error) -> RuntimeError {
    match error {
        Error::DockerResponseServerError { status_code: 404, .. } => RuntimeError::NotFound { what: "path", name: path.to_owned() },
        // A path that leads through a file; the engine's words name a path of the host's.
        Error::DockerResponseServerError { status_code: 500, message } if message.contains("not a directory") => {
            RuntimeError::NotFound { what: "path", name: path.to_owned() }
        }
        Error::DockerResponseServerError { status_code: 400 | 403 | 409, message } => RuntimeError::Conflict(message),
        error => inner.engine_error(error),
    }
}

impl Inner {
    pub(super) async fn look_at(&self, id: &InstanceId, path: &str) -> Result<Option<PathKind>, RuntimeError> {
        self.look(id).await?.ok_or_else(|| gone(id))?;
        let mut path = path.to_owned();
        for _ in 0..MAX_LINKS {
            let options = ContainerArchiveInfoOptionsBuilder::default().path(&path).build();
            let stat = match self.docker.get_container_archive_info(&id.0, Some(options)).await {
                Ok(stat) => stat,
                // 500: it leads through a file. The answer to this question has no words that would tell.
                Err(Error::DockerResponseServerError { status_code: 404 | 500, .. }) => return Ok(None),
                Err(error) => return Err(at(self, &path, error)),
            };
            if stat.file_mode & FOLDER != 0 {
                return Ok(Some(PathKind::Folder));
            }
            // The engine has resolved where a link leads, inside the instance.
            if stat.file_mode & LINK == 0 || !stat.link_target.starts_with('/') {
                return Ok(Some(PathKind::Other));
            }
            path = stat.link_target;
        }
        Ok(Some(PathKind::Other))
    }

    pub(super) async fn write_files(
        &self,
        id: &InstanceId,
        folder: &str,
        archive: BoxStream<'static, std::io::Result<Bytes>>,
    ) -> Result<(), RuntimeError> {
        self.look(id).await?.ok_or_else(|| gone(id))?;
        // Podman makes a folder that is not there.
        if self.facts.podman && self.look_at(id, folder).await? != Some(PathKind::Folder) {
            return Err(RuntimeError::NotFound { what: "path", name: folder.to_owned() });
        }
        let options = UploadToContainerOptionsBuilder::default().path(folder).no_overwrite_dir_non_dir("true").build();
        // The engine answers when all is unpacked, not when it begins.
        let docker = self.docker.clone().with_timeout(UPLOAD_DEADLINE);
        let sent = docker.upload_to_container(&id.0, Some(options), body_try_stream(archive)).await;
        sent.map_err(|error| at(self, folder, error))
    }
}
