//! What the parts of a provider share: the network, the engine, the clock, the registry of leases.
//!
//! Guarantees: nothing here decides; the registry is the one place that knows which leases this node has.

use crate::audits::BurstHandle;
use crate::config::Options;
use crate::failpoint::Failpoints;
use crate::lease::{Epochs, Shared};
use crate::network::Network;
use crate::prover::ProverHandle;
use crate::submit::{LedgerClock, Submitter};
use pasture_api::data::Phase;
use pasture_api::views::NetworkStatus;
use pasture_rt::{Clock, ShutdownToken};
use pasture_runtime::{Owner, Runtime};
use pasture_types::genesis::Params;
use pasture_types::{LeaseId, NodeId, Resources, Timestamp, ZoneId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// What a provider remembers of its network, so that it can go on without it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Facts {
    pub(crate) zone: ZoneId,
    pub(crate) genesis_time: Timestamp,
    pub(crate) params: Params,
}

impl Facts {
    pub(crate) const fn epochs(&self) -> Epochs {
        Epochs { genesis: self.genesis_time, length: self.params.epoch }
    }
}

impl From<&NetworkStatus> for Facts {
    fn from(s: &NetworkStatus) -> Self {
        Self { zone: s.zone, genesis_time: s.genesis_time, params: s.params.clone() }
    }
}

/// Everything that the parts of one provider need.
pub(crate) struct Context {
    pub(crate) options: Options,
    pub(crate) node: NodeId,
    pub(crate) owner: Owner,
    pub(crate) facts: Facts,
    pub(crate) network: Arc<dyn Network>,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ledger_clock: LedgerClock,
    /// Signs with the node's key.
    pub(crate) submitter: Submitter,
    /// Signs what concerns the offer: with the account's key, or with the node's where that is elsewhere.
    pub(crate) account_submitter: Submitter,
    pub(crate) prover: ProverHandle,
    pub(crate) bursts: BurstHandle,
    pub(crate) leases: Leases,
    pub(crate) herds: crate::herds::Herds,
    pub(crate) channels: crate::channels::Channels,
    /// Told when what jobs publish has changed.
    pub(crate) published: tokio::sync::Notify,
    pub(crate) volumes: crate::volumes::Volumes,
    pub(crate) account_keys: crate::server::AccountKeys,
    pub(crate) known_nodes: crate::server::KnownNodes,
    /// Images among machines, if this one takes part.
    pub(crate) pool: Option<Arc<crate::pool::Pool>>,
    pub(crate) blob_reads: Arc<tokio::sync::Semaphore>,
    pub(crate) delegates: crate::server::Delegates,
    pub(crate) pause: crate::pause::Pause,
    pub(crate) tenants: crate::tenants::Tenants,
    pub(crate) images: Arc<crate::images::Images>,
    pub(crate) leases_dir: PathBuf,
    pub(crate) failpoints: Failpoints,
    pub(crate) counters: Counters,
    /// No further leases are taken until this process ends.
    pub(crate) draining: AtomicBool,
    pub(crate) cancel: ShutdownToken,
}

impl Context {
    /// Ledger time as far as we know.
    pub(crate) fn now(&self) -> Timestamp {
        self.ledger_clock.now()
    }
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed) || self.pause.wish().is_some()
    }
}

/// What was counted since the start.
#[derive(Default)]
pub(crate) struct Counters {
    heartbeats: AtomicU64,
    missed: AtomicU64,
    connected: AtomicBool,
}

impl Counters {
    pub(crate) fn proven(&self) {
        self.heartbeats.fetch_add(1, Ordering::Relaxed);
    }
    pub(crate) fn unproven(&self) {
        self.missed.fetch_add(1, Ordering::Relaxed);
    }
    pub(crate) fn heartbeats(&self) -> (u64, u64) {
        (self.heartbeats.load(Ordering::Relaxed), self.missed.load(Ordering::Relaxed))
    }
    pub(crate) fn set_connected(&self, connected: bool) {
        self.connected.store(connected, Ordering::Relaxed);
    }
    pub(crate) fn connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }
}

/// The leases of this node, running and kept. A lock and not an owner task, because the data plane asks on every request and
/// nobody holds it across an await.
#[derive(Default)]
pub(crate) struct Leases(RwLock<BTreeMap<LeaseId, Arc<Shared>>>);

impl Leases {
    pub(crate) fn get(&self, id: &LeaseId) -> Option<Arc<Shared>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }
    pub(crate) fn all(&self) -> Vec<Arc<Shared>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
    /// Adds a lease unless it is there.
    pub(crate) fn insert(&self, lease: Arc<Shared>) -> bool {
        let mut leases = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let id = lease.terms.lease;
        if leases.contains_key(&id) {
            return false;
        }
        leases.insert(id, lease);
        true
    }
    pub(crate) fn remove(&self, id: &LeaseId) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(id);
    }
    /// What leases hold: all that was asked for while their process may run; from its end until its output is kept, the disk alone.
    /// The ledger counts the rest as free from then on, and may match it at once.
    pub(crate) fn held(&self) -> Resources {
        let of = |l: &Shared| match l.status() {
            status if status.phase == Phase::Ended => Resources::default(),
            status if status.end.is_some() => Resources { disk_bytes: l.terms.resources.disk_bytes, ..Resources::default() },
            _ => l.terms.resources.clone(),
        };
        self.all().iter().fold(Resources::default(), |sum, l| sum.checked_add(&of(l)).unwrap_or(sum))
    }
    /// Ids of the GPUs that leases hold whose process may run.
    pub(crate) fn held_gpus(&self) -> BTreeSet<String> {
        let running = self.all().into_iter().filter(|l| l.status().end.is_none());
        running.flat_map(|l| l.gpus.iter().map(|g| g.uuid.clone()).collect::<Vec<_>>()).collect()
    }
    /// Whether a lease is accepted or running.
    pub(crate) fn any_served(&self) -> bool {
        self.all().iter().any(|l| l.is_accepted() && l.status().phase != Phase::Ended)
    }
}
