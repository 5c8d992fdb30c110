//! Whoever brings images otherwise than by the engine's own pull.

use crate::PullEvent;
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use std::net::IpAddr;
use tokio::sync::mpsc;

/// An image that somebody brought: an archive as engines take it in.
pub struct ImageArchive {
    /// The id that the engine will give it: its configuration's digest.
    pub id: String,
    /// Its bytes.
    pub bytes: BoxStream<'static, std::io::Result<Bytes>>,
}

/// Why an image was not brought.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SourceError {
    /// There is none of this name that everybody may have, as its registry says: the engine need not ask again.
    #[error("{0}")]
    NotFound(String),
    /// It may not be fetched here.
    #[error("{0}")]
    Refused(String),
    /// It did not come; perhaps the engine can do what this cannot.
    #[error("{0}")]
    Failed(String),
}

/// Brings images.
#[async_trait]
pub trait ImageSource: Send + Sync + 'static {
    /// An image for processors of this architecture, as images name it (`amd64`), with the names that the engine is to give it.
    async fn image(
        &self,
        reference: &str,
        architecture: &str,
        names: Vec<String>,
        progress: mpsc::Sender<PullEvent>,
    ) -> Result<ImageArchive, SourceError>;
    /// Whether an image's registry is one that this machine's owner named, on whatever address.
    fn is_own(&self, reference: &str) -> bool;
}

/// Whether an address is one of the public internet.
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    crate::docker::is_public(address)
}
