//! Which host name leads to which ports of which leases.
//!
//! Guarantees: a name is entered only if a key of the account that is part of it signed for exactly that lease and port, and the ledger says that
//! the lease is that account's, is open, and is where it was announced from; so no machine can invent or take a name. Names live as long as the
//! address of their machine. A domain of an owner's own leads to a name only while its owner says so ([`super::domains`]). Bounded.

use super::kept::Kept;
use super::visitors::Visitors;
use crate::backend::Backend;
use pasture_api::delegate::stands_in;
use pasture_api::publication::{Protocol, Publication, SignedPublication};
use pasture_api::{LeaseView, Problem};
use pasture_types::lease::LeaseState;
use pasture_types::{NodeId, Timestamp, ZoneId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Most publications of one machine that are looked at.
pub(crate) const MAX_OF_NODE: usize = 256;
/// How long it is believed what the ledger said of a lease.
const STANDS_FOR: Duration = Duration::from_secs(1);
/// Most that are kept.
const MAX_ALL: usize = 65_536;

/// A port of one lease.
#[derive(Clone, Debug)]
pub(super) struct Replica {
    pub(super) node: NodeId,
    pub(super) publication: Arc<Publication>,
    pub(super) load: Arc<Load>,
}

/// What a name leads to.
#[derive(Clone, Default, Debug)]
pub(super) struct Route {
    pub(super) replicas: Vec<Replica>,
    pub(super) visitors: Arc<Visitors>,
}

/// How a replica is doing, as this gateway sees it.
#[derive(Default, Debug)]
pub(super) struct Load {
    open: AtomicUsize,
    /// Until when it is asked only if nobody else is left.
    avoided: Mutex<Option<Instant>>,
    pub(super) kept: Kept,
    /// What the ledger last said of its lease, and when.
    stands: Mutex<Option<(Instant, bool)>>,
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
    /// Whether its lease is open and where it should be; the ledger is asked again after [`STANDS_FOR`].
    pub(super) fn stands(&self, now: Instant, ask: impl FnOnce() -> bool) -> bool {
        let known = *lock(&self.stands);
        match known.filter(|(at, _)| now.saturating_duration_since(*at) < STANDS_FOR) {
            Some((_, stands)) => stands,
            None => {
                let stands = ask();
                *lock(&self.stands) = Some((now, stands));
                stands
            }
        }
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
    believed: Vec<Arc<Publication>>,
}

#[derive(Default, Debug)]
struct Names {
    nodes: BTreeMap<NodeId, Announced>,
    labels: BTreeMap<String, Route>,
    /// The names that a domain's owner says it leads to.
    proven: BTreeMap<String, BTreeSet<String>>,
    all: usize,
}

/// The table. A lock and no owner task: it is held for a look-up, or while one machine's few entries are exchanged.
#[derive(Debug)]
pub(crate) struct Table {
    names: Mutex<Names>,
    /// Is told of each change.
    changed: watch::Sender<()>,
}

impl Default for Table {
    fn default() -> Self {
        Self { names: Mutex::default(), changed: watch::Sender::new(()) }
    }
}

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
        if lock(&self.names).nodes.get(&node).map_or(said.is_empty(), same) {
            return;
        }
        let believed = said.iter().take(MAX_OF_NODE).filter_map(|signed| match believe(backend, zone, &node, signed, now) {
            Ok(()) => Some(Arc::new(signed.publication.clone())),
            Err(problem) => {
                let lease = signed.publication.lease.short();
                tracing::info!(node = %node.short(), %lease, why = problem.detail, "a publication does not count");
                None
            }
        });
        let believed: Vec<_> = believed.collect();
        // What does not count yet may count when it is said again: the lease may be younger than this gateway's last block.
        let said = (believed.len() == said.len()).then_some(said);
        let mut names = lock(&self.names);
        if names.all.saturating_add(believed.len()) > MAX_ALL {
            let gone: Vec<NodeId> = names.nodes.keys().filter(|node| !known(node)).copied().collect();
            for node in gone {
                names.exchange(node, Announced::default());
            }
        }
        names.exchange(node, Announced { said, believed });
        drop(names);
        self.changed.send_replace(());
    }

    /// Is told of each change.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Where a name leads.
    pub(super) fn route(&self, label: &str, protocol: Protocol) -> Option<Route> {
        lock(&self.names).route(label, &|publication| publication.protocol == protocol)
    }

    /// Where a domain of somebody's own leads.
    pub(super) fn route_of(&self, domain: &str) -> Option<Route> {
        let names = lock(&self.names);
        let leads = |publication: &Publication| publication.domains.iter().any(|named| named == domain);
        names.proven.get(domain)?.iter().find_map(|label| names.route(label, &leads))
    }

    /// The names at which this is spoken.
    pub(super) fn labels(&self, protocol: Protocol) -> BTreeSet<String> {
        let speaks = |route: &Route| route.replicas.iter().any(|r| r.publication.protocol == protocol);
        lock(&self.names).labels.iter().filter(|(_, route)| speaks(route)).map(|(label, _)| label.clone()).collect()
    }

    /// The domains that are said to lead to names, each with the name.
    pub(super) fn claims(&self) -> BTreeSet<(String, String)> {
        let names = lock(&self.names);
        let of = |(label, route): (&String, &Route)| {
            let domains = route.replicas.iter().flat_map(|replica| replica.publication.domains.clone());
            domains.map(|domain| (domain, label.clone())).collect::<Vec<_>>()
        };
        names.labels.iter().flat_map(of).collect()
    }

    /// The domains whose owners say where they lead.
    pub(super) fn proven(&self) -> BTreeMap<String, BTreeSet<String>> {
        lock(&self.names).proven.clone()
    }

    /// Exchanges these.
    pub(super) fn prove(&self, proven: BTreeMap<String, BTreeSet<String>>) {
        let mut names = lock(&self.names);
        if names.proven != proven {
            names.proven = proven;
            drop(names);
            self.changed.send_replace(());
        }
    }

    /// Closes connections that were kept long enough.
    pub(super) fn sweep(&self, now: Instant) {
        for replica in lock(&self.names).labels.values().flat_map(|route| &route.replicas) {
            replica.load.kept.sweep(now);
        }
    }
}

impl Names {
    fn route(&self, label: &str, fits: &dyn Fn(&Publication) -> bool) -> Option<Route> {
        let route = self.labels.get(label)?;
        let replicas: Vec<Replica> = route.replicas.iter().filter(|replica| fits(&replica.publication)).cloned().collect();
        (!replicas.is_empty()).then(|| Route { replicas, visitors: Arc::clone(&route.visitors) })
    }

    /// One machine's entries for others of it; ports that stay keep their load. Where there is no room for them, it has none.
    fn exchange(&mut self, node: NodeId, new: Announced) {
        let before = self.nodes.remove(&node).unwrap_or_default();
        self.all = self.all.saturating_sub(before.believed.len());
        let fits = self.all.saturating_add(new.believed.len()) <= MAX_ALL;
        let new = if fits { new } else { Announced::default() };
        let mut loads = BTreeMap::new();
        for gone in before.believed.iter().filter(|publication| !new.believed.contains(publication)) {
            let label = gone.label();
            let Some(route) = self.labels.get_mut(&label) else { continue };
            route.replicas.retain(|replica| {
                let is_it = replica.node == node && replica.publication == *gone;
                if is_it {
                    loads.insert((gone.lease, gone.port), Arc::clone(&replica.load));
                }
                !is_it
            });
        }
        for publication in new.believed.iter().filter(|publication| !before.believed.contains(publication)) {
            let load = loads.get(&(publication.lease, publication.port)).cloned().unwrap_or_default();
            let replica = Replica { node, publication: Arc::clone(publication), load };
            self.labels.entry(publication.label()).or_default().replicas.push(replica);
        }
        for gone in &before.believed {
            let label = gone.label();
            if self.labels.get(&label).is_some_and(|route| route.replicas.is_empty()) {
                self.labels.remove(&label);
            }
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
    use pasture_api::publication::Rules;
    use pasture_types::{AccountId, LeaseId};

    fn published(name: &str, lease: u8) -> Publication {
        let (account, lease) = (AccountId([7; 32]), LeaseId([lease; 32]));
        Publication { account, lease, name: name.into(), port: 80, protocol: Protocol::Http, rules: Rules::default(), domains: vec![] }
    }

    fn announced(entries: &[Publication]) -> Announced {
        Announced { said: None, believed: entries.iter().cloned().map(Arc::new).collect() }
    }

    fn leases(table: &Table, name: &str) -> Vec<u8> {
        let route = table.route(&published(name, 0).label(), Protocol::Http);
        route.unwrap_or_default().replicas.iter().map(|r| r.publication.lease.0[0]).collect()
    }

    fn exchange(table: &Table, node: u8, entries: &[Publication]) {
        lock(&table.names).exchange(NodeId([node; 32]), announced(entries));
    }

    #[test]
    fn names_come_and_go_with_what_machines_say() {
        let table = Table::default();
        let [shop, blog, other] = [published("shop", 1), published("blog", 2), published("shop", 3)];
        exchange(&table, 1, &[shop.clone(), blog.clone()]);
        exchange(&table, 2, std::slice::from_ref(&other));
        assert_eq!((leases(&table, "shop"), leases(&table, "blog")), (vec![1, 3], vec![2]));
        let first = || table.route(&shop.label(), Protocol::Http).unwrap().replicas.into_iter().find(|r| r.node.0[0] == 1).unwrap();
        let busy = first().load.enter();
        exchange(&table, 1, std::slice::from_ref(&shop));
        assert_eq!(
            (leases(&table, "shop"), leases(&table, "blog"), first().load.open()),
            (vec![1, 3], vec![], 1),
            "what stays keeps its load"
        );
        // Also if its rules change.
        let limited = Publication { rules: Rules { per_second: Some(1), ..Rules::default() }, ..shop.clone() };
        exchange(&table, 1, &[limited]);
        assert_eq!((first().load.open(), first().publication.rules.per_second), (1, Some(1)));
        drop(busy);
        exchange(&table, 1, &[]);
        assert_eq!(leases(&table, "shop"), vec![3]);
        // One that would be too much is left out, and takes nobody else's place.
        lock(&table.names).all += MAX_ALL - 1;
        exchange(&table, 1, &[shop, blog]);
        assert_eq!((leases(&table, "shop"), leases(&table, "blog")), (vec![3], vec![]));
        lock(&table.names).all -= MAX_ALL - 1;
        exchange(&table, 2, &[]);
        let names = lock(&table.names);
        assert!(names.labels.is_empty() && names.nodes.is_empty() && names.all == 0);
    }

    #[test]
    fn a_domain_leads_where_its_owner_says_and_a_publication_names_it() {
        let table = Table::default();
        let own = "www.example.org".to_owned();
        let shop = Publication { domains: vec![own.clone()], ..published("shop", 1) };
        exchange(&table, 1, &[shop.clone(), published("shop", 2), published("blog", 3)]);
        assert!(table.route_of(&own).is_none(), "what a publication says of a domain is a claim");
        assert_eq!(table.claims(), BTreeSet::from([(own.clone(), shop.label())]));
        table.prove(BTreeMap::from([(own.clone(), BTreeSet::from([published("blog", 3).label(), shop.label()]))]));
        let route = table.route_of(&own).unwrap();
        assert_eq!(route.replicas.iter().map(|r| r.publication.lease.0[0]).collect::<Vec<_>>(), [1], "not to those that do not name it");
        table.prove(BTreeMap::new());
        assert!(table.route_of(&own).is_none());
    }
}
