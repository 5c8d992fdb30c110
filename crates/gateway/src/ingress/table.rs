//! Which host name leads to which ports of which leases.
//!
//! Guarantees: a name is entered only if a key of the account that is part of it signed for exactly that lease and port, and the ledger says that
//! the lease is that account's, is open, and is where it was announced from; so no machine can invent or take a name. Names live as long as the
//! address of their machine. Bounded.

use crate::backend::Backend;
use pasture_api::delegate::stands_in;
use pasture_api::publication::{Publication, SignedPublication};
use pasture_api::{LeaseView, Problem};
use pasture_types::lease::LeaseState;
use pasture_types::{LeaseId, NodeId, Timestamp, ZoneId};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Most publications of one machine that are looked at.
pub(crate) const MAX_OF_NODE: usize = 256;
/// Most that are kept.
const MAX_ALL: usize = 65_536;

/// A port of one lease.
#[derive(Clone, Debug)]
pub(super) struct Replica {
    pub(super) node: NodeId,
    pub(super) lease: LeaseId,
    pub(super) port: u16,
    pub(super) load: Arc<Load>,
}

/// How a replica is doing, as this gateway sees it.
#[derive(Default, Debug)]
pub(super) struct Load {
    open: AtomicUsize,
    /// Until when it is asked only if nobody else is left.
    avoided: Mutex<Option<Instant>>,
}

impl Load {
    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }
    pub(super) fn is_avoided(&self, now: Instant) -> bool {
        lock(&self.avoided).is_some_and(|until| now < until)
    }
    pub(super) fn avoid(&self, until: Instant) {
        *lock(&self.avoided) = Some(until);
    }
    pub(super) fn is_well(&self) {
        *lock(&self.avoided) = None;
    }
    /// Counts a request until what is returned is dropped.
    pub(super) fn enter(self: &Arc<Self>) -> Busy {
        self.open.fetch_add(1, Ordering::Relaxed);
        Busy(Arc::clone(self))
    }
}

/// A request that a replica has.
#[derive(Debug)]
pub(super) struct Busy(Arc<Load>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What one machine announced, and what of it is believed.
#[derive(Default, Debug)]
struct Announced {
    /// `None` if not all of it is believed yet.
    said: Option<Vec<SignedPublication>>,
    believed: Vec<(String, LeaseId, u16)>,
}

#[derive(Default, Debug)]
struct Names {
    nodes: BTreeMap<NodeId, Announced>,
    labels: BTreeMap<String, Vec<Replica>>,
    all: usize,
}

/// The table. A lock and no owner task: it is held for a look-up, or while one machine's few entries are exchanged.
#[derive(Default, Debug)]
pub(crate) struct Table(Mutex<Names>);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that can panic runs while one is held.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Table {
    /// Enters what a machine announced, in the place of what it announced before. The same again costs nothing.
    /// `known`: whether a machine still announces itself; when the table is full, names of those that do not go.
    pub(crate) fn set(
        &self,
        (backend, zone): (&dyn Backend, &ZoneId),
        node: NodeId,
        said: Vec<SignedPublication>,
        now: Timestamp,
        known: &dyn Fn(&NodeId) -> bool,
    ) {
        let same = |before: &Announced| before.said.as_ref() == Some(&said);
        if lock(&self.0).nodes.get(&node).map_or(said.is_empty(), same) {
            return;
        }
        let believed = said.iter().take(MAX_OF_NODE).filter_map(|signed| match believe(backend, zone, &node, signed, now) {
            Ok(()) => Some((signed.publication.label(), signed.publication.lease, signed.publication.port)),
            Err(problem) => {
                let lease = signed.publication.lease.short();
                tracing::info!(node = %node.short(), %lease, why = problem.detail, "a publication does not count");
                None
            }
        });
        let believed: Vec<_> = believed.collect();
        // What does not count yet may count when it is said again: the lease may be younger than this gateway's last block.
        let said = (believed.len() == said.len()).then_some(said);
        let mut names = lock(&self.0);
        if names.all.saturating_add(believed.len()) > MAX_ALL {
            let gone: Vec<NodeId> = names.nodes.keys().filter(|node| !known(node)).copied().collect();
            for node in gone {
                names.exchange(node, Announced::default());
            }
        }
        names.exchange(node, Announced { said, believed });
    }

    /// The replicas that a name leads to.
    pub(super) fn replicas(&self, label: &str) -> Vec<Replica> {
        lock(&self.0).labels.get(label).cloned().unwrap_or_default()
    }
}

impl Names {
    /// One machine's entries for others of it; those that stay keep their load. Where there is no room for them, it has none.
    fn exchange(&mut self, node: NodeId, new: Announced) {
        let before = self.nodes.remove(&node).unwrap_or_default();
        self.all = self.all.saturating_sub(before.believed.len());
        let fits = self.all.saturating_add(new.believed.len()) <= MAX_ALL;
        let new = if fits { new } else { Announced::default() };
        for entry in before.believed.iter().filter(|entry| !new.believed.contains(entry)) {
            if let Some(replicas) = self.labels.get_mut(&entry.0) {
                replicas.retain(|r| (r.node, r.lease, r.port) != (node, entry.1, entry.2));
                if replicas.is_empty() {
                    self.labels.remove(&entry.0);
                }
            }
        }
        for (label, lease, port) in new.believed.iter().filter(|entry| !before.believed.contains(entry)) {
            let replica = Replica { node, lease: *lease, port: *port, load: Arc::default() };
            self.labels.entry(label.clone()).or_default().push(replica);
        }
        self.all = self.all.saturating_add(new.believed.len());
        if !new.believed.is_empty() {
            self.nodes.insert(node, new);
        }
    }
}

/// Whether a lease is where its publication says, and can be reached.
pub(super) fn serves(lease: &LeaseView, node: &NodeId) -> bool {
    lease.node == *node && matches!(lease.state, LeaseState::Accepted | LeaseState::Running)
}

fn believe(backend: &dyn Backend, zone: &ZoneId, node: &NodeId, signed: &SignedPublication, now: Timestamp) -> Result<(), Problem> {
    let Publication { account, lease, .. } = &signed.publication;
    signed.publication.check().map_err(Problem::bad_request)?;
    let view = backend.lease(*lease)?.ok_or_else(|| Problem::not_found("lease"))?;
    if view.account != *account || !serves(&view, node) {
        return Err(Problem::forbidden("the lease is not that account's, or not at this machine"));
    }
    let key = signed.signer(zone).map_err(|e| Problem::unauthorized(e.to_string()))?;
    let owner = backend.account(*account)?.ok_or_else(|| Problem::not_found("account"))?;
    let (text, grants) = (key.to_string(), || backend.grants(*account).unwrap_or_default());
    if owner.keys.contains(&text) || grants().iter().any(|grant| stands_in(grant, &key, now)) {
        return Ok(());
    }
    Err(Problem::forbidden("the key that signed is not the account's"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn announced(entries: &[(&str, u8)]) -> Announced {
        let entry = |(label, lease): &(&str, u8)| ((*label).to_owned(), LeaseId([*lease; 32]), 80);
        Announced { said: None, believed: entries.iter().map(entry).collect() }
    }

    #[test]
    fn names_come_and_go_with_what_machines_say() {
        let table = Table::default();
        let leases = |label: &str| table.replicas(label).iter().map(|r| r.lease.0[0]).collect::<Vec<_>>();
        lock(&table.0).exchange(NodeId([1; 32]), announced(&[("shop", 1), ("blog", 2)]));
        lock(&table.0).exchange(NodeId([2; 32]), announced(&[("shop", 3)]));
        assert_eq!((leases("shop"), leases("blog")), (vec![1, 3], vec![2]));
        let busy = table.replicas("shop")[0].load.enter();
        lock(&table.0).exchange(NodeId([1; 32]), announced(&[("shop", 1)]));
        assert_eq!(
            (leases("shop"), leases("blog"), table.replicas("shop")[0].load.open()),
            (vec![1, 3], vec![], 1),
            "what stays keeps its load"
        );
        drop(busy);
        lock(&table.0).exchange(NodeId([1; 32]), announced(&[]));
        assert_eq!((leases("shop"), table.replicas("shop")[0].load.open()), (vec![3], 0));
        // One that would be too much is left out, and takes nobody else's place.
        lock(&table.0).all += MAX_ALL - 1;
        lock(&table.0).exchange(NodeId([1; 32]), announced(&[("shop", 1), ("blog", 2)]));
        assert_eq!((leases("shop"), leases("blog")), (vec![3], vec![]));
        lock(&table.0).all -= MAX_ALL - 1;
        lock(&table.0).exchange(NodeId([2; 32]), announced(&[]));
        let names = lock(&table.0);
        assert!(names.labels.is_empty() && names.nodes.is_empty() && names.all == 0);
    }
}
