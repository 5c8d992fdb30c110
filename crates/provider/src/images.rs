//! The images that this node pulled or built, and how much disk they may take.
//!
//! Guarantees: only what came through this node is ever removed, never an image that the engine had before or that somebody
//! else's container uses; an image that an unfinished lease of ours uses stays; over the limit those go first that were used
//! longest ago. The record is replaced as a whole, so that a crash forgets at most the newest image, which then merely stays.
//!
//! Sizes are the engine's own: layers that two images share count for both, so what is on disk is rather less than what is
//! counted here. It does not decide what a lease may run.

use crate::lease::Shared;
use pasture_api::data::ImageView;
use pasture_rt::TaskKind;
use pasture_runtime::{Image, Runtime, RuntimeError};
use pasture_store::{RecordFile, StoreError};
use pasture_types::{LeaseId, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// Most images remembered. Beyond it the oldest unused one goes, however small it is.
const MAX_IMAGES: usize = 1_000;

/// Most images that are told of: more than a page nobody reads.
const MAX_ADVERTISED: usize = 100;

/// How an image came here.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Origin {
    /// Fetched from a registry, for a job or as the base of a build.
    Pulled,
    /// Built from a job's folder.
    Built,
}

/// One of them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Entry {
    bytes: u64,
    used: Timestamp,
    origin: Origin,
    /// Leases that run it; those that are over are dropped when somebody looks.
    leases: BTreeSet<LeaseId>,
}

/// How full the cache is.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct ImagesSummary {
    /// How many images.
    pub count: usize,
    /// Their bytes, shared layers counted for each.
    pub bytes: u64,
    /// Most bytes; what is in use is kept beyond it.
    pub limit_bytes: u64,
}

/// The cache. A lock and not an owner task: nobody holds it across an await.
pub(crate) struct Images {
    file: RecordFile<BTreeMap<String, Entry>>,
    known: Mutex<BTreeMap<String, Entry>>,
    limit_bytes: u64,
    /// One eviction at a time, so that two do not remove more than is needed.
    evicting: tokio::sync::Mutex<()>,
}

impl Images {
    /// What a former process knew.
    pub(crate) fn load(data_dir: &Path, limit_bytes: u64) -> Result<Self, StoreError> {
        let file = RecordFile::new(data_dir.join("images"));
        let known = Mutex::new(file.load()?.unwrap_or_default());
        Ok(Self { file, known, limit_bytes, evicting: tokio::sync::Mutex::new(()) })
    }

    fn change<T>(&self, change: impl FnOnce(&mut BTreeMap<String, Entry>) -> T) -> T {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let out = change(&mut known);
        if let Err(error) = self.file.save(&known) {
            tracing::warn!(%error, "the list of images cannot be written: what was fetched now stays when this node leaves");
        }
        out
    }

    /// An image came here for a lease. Writes to disk: not for the async pool.
    pub(crate) fn fetched(&self, name: &str, image: &Image, origin: Origin, lease: LeaseId, now: Timestamp) {
        self.change(|known| {
            let entry = known.entry(name.to_owned()).or_insert(Entry { bytes: 0, used: now, origin, leases: BTreeSet::new() });
            (entry.bytes, entry.used) = (image.size_bytes, now);
            entry.leases.insert(lease);
        });
    }

    /// An image that is here is used again; nothing happens if it did not come through us. Writes to disk.
    pub(crate) fn used(&self, name: &str, lease: LeaseId, now: Timestamp) {
        let ours = self.known.lock().unwrap_or_else(PoisonError::into_inner).contains_key(name);
        if ours {
            self.change(|known| {
                if let Some(entry) = known.get_mut(name) {
                    entry.used = now;
                    entry.leases.insert(lease);
                }
            });
        }
    }

    /// An image was removed elsewhere. Writes to disk.
    pub(crate) fn forget(&self, name: &str) {
        let ours = self.known.lock().unwrap_or_else(PoisonError::into_inner).contains_key(name);
        if ours {
            self.change(|known| known.remove(name));
        }
    }

    /// The same, from an async task.
    pub(crate) async fn forgotten(self: &Arc<Self>, name: &str) {
        let (this, name) = (Arc::clone(self), name.to_owned());
        pasture_rt::spawn_blocking(TaskKind::Reconciler, move || this.forget(&name)).join().await;
    }

    /// How full it is.
    pub(crate) fn summary(&self) -> ImagesSummary {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = known.values().fold(0u64, |sum, e| sum.saturating_add(e.bytes));
        ImagesSummary { count: known.len(), bytes, limit_bytes: self.limit_bytes }
    }

    /// What it has of registries, the largest first: what is here starts without being fetched. Never what was built for somebody.
    pub(crate) fn advertised(&self) -> Vec<ImageView> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let pulled = known.iter().filter(|(_, e)| e.origin == Origin::Pulled);
        let mut out: Vec<ImageView> = pulled.map(|(name, e)| ImageView { name: name.clone(), bytes: e.bytes }).collect();
        out.sort_by(|a, b| (b.bytes, &a.name).cmp(&(a.bytes, &b.name)));
        out.truncate(MAX_ADVERTISED);
        out
    }

    /// Which have to go, those used longest ago first. `live`: leases that are not over.
    fn surplus(&self, live: &BTreeSet<LeaseId>) -> Vec<String> {
        self.change(|known| {
            for entry in known.values_mut() {
                entry.leases.retain(|lease| live.contains(lease));
            }
            let mut bytes = known.values().fold(0u64, |sum, e| sum.saturating_add(e.bytes));
            let mut count = known.len();
            let mut idle: Vec<_> = known.iter().filter(|(_, e)| e.leases.is_empty()).collect();
            idle.sort_by_key(|(_, e)| e.used);
            let mut out = vec![];
            for (name, entry) in idle {
                if bytes <= self.limit_bytes && count <= MAX_IMAGES {
                    break;
                }
                bytes = bytes.saturating_sub(entry.bytes);
                count -= 1;
                out.push(name.clone());
            }
            out
        })
    }

    /// Removes what is over the limit and not in use.
    pub(crate) async fn evict(self: &Arc<Self>, runtime: &dyn Runtime, leases: &[Arc<Shared>]) {
        let _turn = self.evicting.lock().await;
        let live: BTreeSet<LeaseId> = leases.iter().filter(|l| !l.is_finished()).map(|l| l.id()).collect();
        let this = Arc::clone(self);
        let surplus = pasture_rt::spawn_blocking(TaskKind::Reconciler, move || this.surplus(&live)).join().await;
        for name in surplus.unwrap_or_default() {
            tracing::info!(name, "removing an image: the cache is full");
            self.remove(runtime, &name).await;
        }
    }

    /// Removes an image of ours. `false`: it stays, because somebody uses it or the engine does not answer.
    async fn remove(self: &Arc<Self>, runtime: &dyn Runtime, name: &str) -> bool {
        match runtime.remove_image(name).await {
            Ok(()) => {
                self.forgotten(name).await;
                true
            }
            // Another's container runs it: it is no more ours alone.
            Err(RuntimeError::Conflict(why)) => {
                tracing::debug!(name, why, "the image stays");
                self.forgotten(name).await;
                false
            }
            Err(error) => {
                tracing::warn!(%error, name, "the image cannot be removed now");
                false
            }
        }
    }

    /// Removes all of them: how many went, and which stay.
    pub(crate) async fn clear(self: &Arc<Self>, runtime: &dyn Runtime) -> (usize, Vec<String>) {
        let _turn = self.evicting.lock().await;
        // What was built goes first: it stands upon what was pulled.
        let names: Vec<(Origin, String)> = {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.iter().map(|(name, e)| (e.origin, name.clone())).collect()
        };
        let (built, pulled): (Vec<_>, Vec<_>) = names.into_iter().partition(|(origin, _)| *origin == Origin::Built);
        let (mut gone, mut kept) = (0, vec![]);
        for (_, name) in built.into_iter().chain(pulled) {
            match self.remove(runtime, &name).await {
                true => gone += 1,
                false => kept.push(name),
            }
        }
        (gone, kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(bytes: u64) -> Image {
        Image { id: "sha256:0".into(), size_bytes: bytes, architecture: "amd64".into(), os: "linux".into(), tags: vec![] }
    }
    fn lease(n: u8) -> LeaseId {
        LeaseId([n; 32])
    }

    #[test]
    fn what_was_used_longest_ago_goes_first_and_what_is_in_use_never() {
        let dir = tempfile::tempdir().unwrap();
        let images = Images::load(dir.path(), 100).unwrap();
        for (n, name) in [(1u8, "a"), (2, "b"), (3, "c")] {
            images.fetched(name, &image(50), Origin::Pulled, lease(n), Timestamp(u64::from(n)));
        }
        images.fetched("pasture-lease/somebody's", &image(70), Origin::Built, lease(9), Timestamp(9));
        let told: Vec<String> = images.advertised().into_iter().map(|i| i.name).collect();
        assert_eq!(told, ["a", "b", "c"], "what was built for somebody is nobody else's business");
        images.forget("pasture-lease/somebody's");
        let none = BTreeSet::new();
        assert_eq!(images.surplus(&BTreeSet::from([lease(1), lease(2), lease(3)])), Vec::<String>::new(), "all are in use");
        images.used("a", lease(4), Timestamp(9));
        images.used("never seen", lease(4), Timestamp(9));
        assert_eq!(images.summary(), ImagesSummary { count: 3, bytes: 150, limit_bytes: 100 });
        assert_eq!(images.surplus(&BTreeSet::from([lease(2)])), ["c"], "b is in use, a was used again");
        images.forget("c");
        assert_eq!(images.surplus(&none), Vec::<String>::new(), "what is left fits");
        let again = Images::load(dir.path(), 40).unwrap();
        assert_eq!(again.summary().count, 2, "a restart forgets nothing");
        assert_eq!(again.surplus(&none), ["b", "a"]);
    }
}
