//! An image by its name: what the name means, its parts from whoever has them, and an archive for the engine.

use crate::archive::Archive;
use crate::download::{Came, DownloadError, Origin, OriginError, Pieces, download, small};
use crate::manifest::{Blob, Document, MAX_DOCUMENT, ManifestError, read};
use crate::reference::{Reference, ReferenceError};
use crate::registry::{Registries, RegistryError, Upstream};
use crate::store::Store;
use async_trait::async_trait;
use futures::TryStreamExt as _;
use pasture_rt::TaskKind;
use pasture_types::{ContentDigest, NodeId};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Machines that one blob is fetched from at once.
const MAX_PEERS: usize = 4;
/// Layers that come at once.
const LAYERS: usize = 2;
/// For how long one that sent wrong bytes is asked no more.
const DISTRUST: Duration = Duration::from_secs(3_600);
/// Most machines that this is remembered of.
const MAX_DISTRUSTED: usize = 4_096;
/// Most documents between a name and its image.
const MAX_INDEXES: usize = 3;

/// Other machines that keep blobs.
#[async_trait]
pub trait Peers: Send + Sync {
    /// Machines that say that they have a blob, in any order. Nobody, if nobody knows.
    async fn holders(&self, digest: &ContentDigest) -> Vec<NodeId>;
    /// Bytes of a blob from a machine.
    async fn read(&self, node: &NodeId, digest: &ContentDigest, from: u64, length: Option<u64>) -> Result<Pieces, OriginError>;
}

/// Told of an image as it comes.
pub trait Progress: Send + Sync {
    /// So many more bytes of a layer are here.
    fn came(&self, layer: &Blob, bytes: u64);
    /// A layer is here whole: nothing of it had to come, or so many bytes from machines and from the registry.
    fn whole(&self, layer: &Blob, machines: u64, registry: u64);
}

/// An image did not come.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// Its name is none.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// Its registry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// Its manifest.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// It is larger than this machine takes.
    #[error("the image has {bytes} bytes, and this machine takes at most {most}")]
    TooLarge {
        /// Its layers as they come.
        bytes: u64,
        /// The limit.
        most: u64,
    },
    /// A part of it that nobody gave, or that could not be kept.
    #[error("{0}")]
    Part(String),
}

/// Fetches images.
pub struct Fetcher {
    store: Arc<Store>,
    registries: Registries,
    peers: Arc<dyn Peers>,
    /// Most bytes of an image.
    most: u64,
    distrusted: Mutex<HashMap<NodeId, Instant>>,
    /// One at a time brings the same blob.
    coming: Mutex<BTreeMap<ContentDigest, Arc<tokio::sync::Mutex<()>>>>,
}

struct Machine {
    peers: Arc<dyn Peers>,
    node: NodeId,
}

#[async_trait]
impl Origin for Machine {
    fn name(&self) -> String {
        format!("machine {}", self.node.short())
    }
    async fn read(&self, digest: &ContentDigest, from: u64, length: Option<u64>) -> Result<Pieces, OriginError> {
        self.peers.read(&self.node, digest, from, length).await
    }
}

impl Fetcher {
    /// Fetches images of at most so many bytes into a cache.
    pub fn new(store: Arc<Store>, registries: Registries, peers: Arc<dyn Peers>, most: u64) -> Self {
        Self { store, registries, peers, most, distrusted: Mutex::default(), coming: Mutex::default() }
    }
    /// The cache.
    #[must_use]
    pub const fn store(&self) -> &Arc<Store> {
        &self.store
    }
    /// Has an image in the cache whole. `architecture`: this machine's, as images name it.
    ///
    /// # Errors
    /// [`ImageError`].
    pub async fn image(&self, reference: &str, architecture: &str, progress: &dyn Progress) -> Result<Archive, ImageError> {
        let reference = Reference::parse(reference)?;
        let (config, layers) = self.manifest(&reference, architecture).await?;
        let bytes = layers.iter().fold(0u64, |sum, layer| sum.saturating_add(layer.size));
        if bytes > self.most {
            return Err(ImageError::TooLarge { bytes, most: self.most });
        }
        let digests: Vec<ContentDigest> = layers.iter().map(|layer| layer.digest).collect();
        let pinned = self.store.pin(std::iter::once(config.digest).chain(digests.iter().copied()).collect());
        self.blob(&reference, &config, None).await?;
        let all = futures::stream::iter(layers.iter().map(Ok));
        all.try_for_each_concurrent(LAYERS, |layer| self.blob(&reference, layer, Some(progress))).await?;
        Ok(Archive { store: Arc::clone(&self.store), config: config.digest, layers: digests, pinned })
    }
    /// What a name leads to: asked of its registry, unless it says itself exactly which image it is.
    async fn manifest(&self, reference: &Reference, architecture: &str) -> Result<(Blob, Vec<Blob>), ImageError> {
        let mut bytes = match reference.digest() {
            Some(digest) => self.document(reference, &digest).await?,
            None => {
                let (digest, bytes) = self.registries.document(reference).await?;
                self.keep(&digest, &bytes).await;
                bytes.into()
            }
        };
        for _ in 0..MAX_INDEXES {
            match read(&bytes, architecture)? {
                Document::Image { config, layers } => return Ok((config, layers)),
                Document::Index(digest) => bytes = self.document(reference, &digest).await?,
            }
        }
        Err(ManifestError::Form("it leads from one index to the next".into()).into())
    }
    /// A manifest or an index of a digest.
    async fn document(&self, of: &Reference, digest: &ContentDigest) -> Result<Vec<u8>, ImageError> {
        let (store, wanted) = (Arc::clone(&self.store), *digest);
        let kept = pasture_rt::spawn_blocking(TaskKind::Files, move || store.read_small(&wanted, MAX_DOCUMENT as u64).ok()).join().await;
        if let Some(bytes) = kept.flatten() {
            return Ok(bytes);
        }
        let (nodes, origins) = self.machines(digest).await;
        if !origins.is_empty() {
            match small(&self.store, *digest, MAX_DOCUMENT as u64, &origins, &|_| ()).await {
                Ok((came, bytes)) => {
                    self.note(&nodes, &came);
                    return Ok(bytes.into());
                }
                Err(error) => tracing::debug!(%error, "no machine gave a manifest"),
            }
        }
        // Registries keep documents apart from other blobs.
        let (_, bytes) = self.registries.document(&of.at(*digest)).await?;
        self.keep(digest, &bytes).await;
        Ok(bytes.into())
    }
    /// Keeps a document; without it the next one has to be asked for again, and nothing else happens.
    async fn keep(&self, digest: &ContentDigest, bytes: &bytes::Bytes) {
        let (store, digest, bytes) = (Arc::clone(&self.store), *digest, bytes.clone());
        let kept = pasture_rt::spawn_blocking(TaskKind::Files, move || store.keep(&digest, &bytes)).join().await;
        if let Some(Err(error)) = kept {
            tracing::warn!(%error, "the cache of images cannot be written");
        }
    }
    async fn blob(&self, of: &Reference, blob: &Blob, progress: Option<&dyn Progress>) -> Result<(), ImageError> {
        let turn = Arc::clone(self.coming.lock().unwrap_or_else(PoisonError::into_inner).entry(blob.digest).or_default());
        let held = turn.lock().await;
        let brought = self.bring(of, blob, progress).await;
        drop(held);
        let mut coming = self.coming.lock().unwrap_or_else(PoisonError::into_inner);
        // Ours and the map's: nobody waits.
        if Arc::strong_count(&turn) <= 2 {
            coming.remove(&blob.digest);
        }
        brought
    }
    async fn bring(&self, of: &Reference, blob: &Blob, progress: Option<&dyn Progress>) -> Result<(), ImageError> {
        if self.store.has(&blob.digest).is_some() {
            progress.iter().for_each(|p| p.whole(blob, 0, 0));
            return Ok(());
        }
        let (nodes, mut origins) = self.machines(&blob.digest).await;
        origins.push(Arc::new(Upstream { registries: self.registries.clone(), image: of.clone() }));
        let told = |bytes| progress.iter().for_each(|p| p.came(blob, bytes));
        let came =
            download(&self.store, *blob, &origins, &told).await.map_err(|error: DownloadError| ImageError::Part(error.to_string()))?;
        self.note(&nodes, &came);
        let registry = came.bytes.last().copied().unwrap_or(0);
        let machines = came.bytes.iter().fold(0u64, |sum, bytes| sum.saturating_add(*bytes)).saturating_sub(registry);
        progress.iter().for_each(|p| p.whole(blob, machines, registry));
        Ok(())
    }
    /// Machines to ask for a blob.
    async fn machines(&self, digest: &ContentDigest) -> (Vec<NodeId>, Vec<Arc<dyn Origin>>) {
        let mut nodes = self.peers.holders(digest).await;
        {
            let distrusted = self.distrusted.lock().unwrap_or_else(PoisonError::into_inner);
            nodes.retain(|node| distrusted.get(node).is_none_or(|since| since.elapsed() >= DISTRUST));
        }
        nodes.truncate(MAX_PEERS);
        let origin = |node: &NodeId| Arc::new(Machine { peers: Arc::clone(&self.peers), node: *node }) as Arc<dyn Origin>;
        let origins = nodes.iter().map(origin).collect();
        (nodes, origins)
    }
    /// Remembers who sent something else than was asked for.
    fn note(&self, nodes: &[NodeId], came: &Came) {
        for liar in came.liars.iter().filter_map(|index| nodes.get(*index)) {
            tracing::warn!(node = %liar.short(), "a machine sent wrong bytes of an image: it is asked no more for an hour");
            let mut distrusted = self.distrusted.lock().unwrap_or_else(PoisonError::into_inner);
            if distrusted.len() >= MAX_DISTRUSTED {
                distrusted.retain(|_, since| since.elapsed() < DISTRUST);
            }
            distrusted.insert(*liar, Instant::now());
        }
    }
}
