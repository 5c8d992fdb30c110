//! Images among machines: what this one fetches for jobs, and what others have from it.
//!
//! Guarantees: what an image's name means is its registry's word alone; nothing is taken in whose digest is wrong, nothing is given but what
//! any job here may have. It does not unpack or run anything: the engine takes archives in.

use crate::network::Network;
use async_trait::async_trait;
use futures::StreamExt as _;
use pasture_api::blobs::MAX_TOLD;
use pasture_blobs::{
    Blob, Fetcher, ImageError, ManifestError, OriginError, Peers, Pieces, Progress, Registries, RegistryError, RegistryUrl, Store,
};
use pasture_rt::TaskKind;
use pasture_runtime::{ImageArchive, ImageSource, PullEvent, SourceError, is_public};
use pasture_types::{ContentDigest, NodeId, SigningKey};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;

/// What a machine keeps of images for itself and for others.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BlobOptions {
    /// Most bytes; none: it fetches every image by its engine, and has nothing for others.
    pub limit_bytes: u64,
    /// Whether others may have what it has, and it says so.
    pub shared: bool,
    /// Registries that may have addresses which are not public.
    pub registries: Vec<RegistryUrl>,
}

impl Default for BlobOptions {
    fn default() -> Self {
        Self { limit_bytes: 10 << 30, shared: true, registries: vec![] }
    }
}

/// The machine's part in it.
pub(crate) struct Pool {
    fetcher: Fetcher,
    registries: Registries,
    shared: bool,
}

struct Machines {
    network: Arc<dyn Network>,
    node: NodeId,
    key: SigningKey,
}

#[async_trait]
impl Peers for Machines {
    async fn holders(&self, digest: &ContentDigest) -> Vec<NodeId> {
        match self.network.holders(digest).await {
            Ok(nodes) => nodes.into_iter().filter(|node| *node != self.node).collect(),
            Err(error) => {
                tracing::debug!(%error, "nobody says who has a blob");
                vec![]
            }
        }
    }
    async fn read(&self, node: &NodeId, digest: &ContentDigest, from: u64, length: Option<u64>) -> Result<Pieces, OriginError> {
        let bytes = self.network.blob(&self.key, node, digest, from, length).await;
        let bytes = bytes.map_err(|error| OriginError(format!("machine {}: {error}", node.short())))?;
        Ok(bytes.map(|chunk| chunk.map_err(io::Error::other)).boxed())
    }
}

impl Pool {
    /// Opens the cache in the machine's data directory; nothing if it is to have none. `most`: the largest image in bytes.
    pub(crate) fn open(
        dir: &Path,
        options: &BlobOptions,
        most: u64,
        network: Arc<dyn Network>,
        key: &SigningKey,
    ) -> io::Result<Option<Self>> {
        if options.limit_bytes == 0 {
            return Ok(None);
        }
        let store = Arc::new(Store::open(&dir.join("blobs"), options.limit_bytes)?);
        let registries = Registries::new(&options.registries, is_public).map_err(io::Error::other)?;
        let machines = Machines { network, node: key.node_id(), key: key.clone() };
        let fetcher = Fetcher::new(store, registries.clone(), Arc::new(machines), most);
        Ok(Some(Self { fetcher, registries, shared: options.shared }))
    }
    /// What it has, if others may.
    pub(crate) fn store(&self) -> Option<&Arc<Store>> {
        self.shared.then(|| self.fetcher.store())
    }
    /// What it says that it has.
    pub(crate) fn told(&self) -> Vec<ContentDigest> {
        self.store().map(|store| store.recent(MAX_TOLD)).unwrap_or_default()
    }
    /// Removes all of it that nobody uses now. Writes to disk: not for the async pool.
    pub(crate) fn clear(&self) {
        self.fetcher.store().clear();
    }
}

/// What a job's log says while an image comes.
struct Telling {
    events: mpsc::Sender<PullEvent>,
    came: Mutex<BTreeMap<ContentDigest, u64>>,
}

impl Telling {
    fn tell(&self, layer: &Blob, status: String, progress: Option<(u64, u64)>) {
        // Who does not keep up misses a number, not the image.
        let _ = self.events.try_send(PullEvent { layer: layer.digest.short(), status, progress });
    }
}

impl Progress for Telling {
    fn came(&self, layer: &Blob, bytes: u64) {
        let sum = {
            let mut came = self.came.lock().unwrap_or_else(PoisonError::into_inner);
            let sum = came.entry(layer.digest).or_default();
            *sum = sum.saturating_add(bytes).min(layer.size);
            *sum
        };
        self.tell(layer, "Downloading".into(), Some((sum, layer.size)));
    }
    fn whole(&self, layer: &Blob, machines: u64, registry: u64) {
        let whence = match (machines, registry) {
            (0, 0) => "Already here",
            (0, _) => "Download complete, from its registry",
            (_, 0) => "Download complete, from other machines",
            _ => "Download complete, from other machines and its registry",
        };
        self.tell(layer, whence.into(), None);
    }
}

#[async_trait]
impl ImageSource for Pool {
    async fn image(
        &self,
        reference: &str,
        architecture: &str,
        names: Vec<String>,
        progress: mpsc::Sender<PullEvent>,
    ) -> Result<ImageArchive, SourceError> {
        let telling = Telling { events: progress, came: Mutex::default() };
        let archive = self.fetcher.image(reference, architecture, &telling).await.map_err(why)?;
        let store = Arc::clone(self.fetcher.store());
        let id = archive.id().to_string();
        let bytes = archive.stream(names);
        // Beyond the limit it goes as soon as the engine has it.
        let trimmed = futures::stream::once(async move {
            pasture_rt::spawn_blocking(TaskKind::Files, move || store.trim()).join().await;
            Ok(bytes::Bytes::new())
        });
        Ok(ImageArchive { id, bytes: bytes.chain(trimmed).boxed() })
    }
    fn is_own(&self, reference: &str) -> bool {
        self.registries.is_own(reference)
    }
}

fn why(error: ImageError) -> SourceError {
    let text = error.to_string();
    match error {
        ImageError::Registry(RegistryError::NotFound { .. }) => SourceError::NotFound(text),
        ImageError::Reference(_) | ImageError::TooLarge { .. } | ImageError::Manifest(ManifestError::Platform { .. }) => {
            SourceError::Refused(text)
        }
        ImageError::Registry(_) | ImageError::Manifest(_) | ImageError::Part(_) => SourceError::Failed(text),
    }
}
