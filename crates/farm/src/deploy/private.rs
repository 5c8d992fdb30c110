//! The private network of a deployment: which of its parts reaches which, told to the machines. Spec: `docs/specs/private.md`.
//!
//! Guarantees: a part reaches the named ports of the deployment's services and nothing else by it; machines are told again until they have
//! heard, and of every change.

use super::record::Key;
use crate::render::Output;
use crate::session::Session;
use pasture_api::LeaseView;
use pasture_api::private::{Admitted, PrivateName, PrivateNetwork, Replica};
use pasture_rt::{Shutdown, TaskKind};
use pasture_types::lease::LeaseState;
use pasture_types::spec::CheckedSpec;
use pasture_types::{LeaseId, NodeId, OrderId};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::sync::watch;

/// Pause before a machine that did not hear is told again.
const AGAIN: Duration = Duration::from_secs(1);
/// How long the end of a command waits for machines that have not heard.
const LAST_WORD: Duration = Duration::from_secs(20);

/// What each lease is to be told.
type Wanted = BTreeMap<LeaseId, (LeaseView, PrivateNetwork)>;

/// Tells the machines.
pub(crate) struct Links {
    wanted: watch::Sender<Wanted>,
    /// Which of it they have heard.
    heard: watch::Receiver<BTreeMap<LeaseId, PrivateNetwork>>,
    _stop: Stop,
}

struct Stop(Shutdown);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.trigger();
    }
}

impl Links {
    /// Begins, if the parts of a deployment have anything to reach: several parts, and ports.
    pub(crate) fn begin(session: &Session, specs: &BTreeMap<String, CheckedSpec>) -> Option<Self> {
        let parts: u32 = specs.values().map(|spec| spec.fleet.size.count()).sum();
        if parts < 2 || specs.values().all(|spec| spec.ports.is_empty()) {
            return None;
        }
        let (wanted, asked) = watch::channel(Wanted::new());
        let (tell, heard) = watch::channel(BTreeMap::new());
        let (stop, session) = (Shutdown::new(), session.clone());
        let token = stop.token();
        pasture_rt::spawn(TaskKind::ClientFollow, async move { token.guard(work(session, asked, tell)).await });
        Some(Self { wanted, heard, _stop: Stop(stop) })
    }

    /// Says how it is to be: `orders`: which part each serves; `leases`: as they were last seen.
    pub(crate) fn set(
        &self,
        orders: &BTreeMap<OrderId, Key>,
        leases: &BTreeMap<OrderId, LeaseView>,
        specs: &BTreeMap<String, CheckedSpec>,
    ) {
        let live = orders.iter().filter_map(|(order, key)| Some((key.clone(), leases.get(order)?.clone())));
        let live: Vec<_> = live.filter(|(_, lease)| matches!(lease.state, LeaseState::Accepted | LeaseState::Running)).collect();
        let all = networks(&live, specs);
        self.wanted.send_if_modified(|old| {
            let same = old.len() == all.len() && all.iter().all(|(id, (_, net))| old.get(id).is_some_and(|(_, known)| known == net));
            *old = all;
            !same
        });
    }

    /// Waits until all machines have heard, and says if some have not.
    pub(crate) async fn settle(&mut self, out: Output) {
        let wanted = self.wanted.borrow().clone();
        let missing = |heard: &BTreeMap<LeaseId, PrivateNetwork>| wanted.iter().filter(|(id, (_, net))| heard.get(id) != Some(net)).count();
        let all = self.heard.wait_for(|heard| missing(heard) == 0);
        let _ = tokio::time::timeout(LAST_WORD, all).await.map(|heard| heard.is_ok());
        if missing(&self.heard.borrow()) > 0 {
            out.warn("! not every machine has heard what the parts reach of each other; the same command tells them again");
        }
    }
}

async fn work(session: Session, mut asked: watch::Receiver<Wanted>, tell: watch::Sender<BTreeMap<LeaseId, PrivateNetwork>>) {
    loop {
        let wanted = asked.borrow_and_update().clone();
        let mut missing = false;
        for (id, (lease, network)) in &wanted {
            if tell.borrow().get(id) == Some(network) {
                continue;
            }
            match session.lease_client(lease).put_private(network).await {
                Ok(()) => tell.send_modify(|heard| drop(heard.insert(*id, network.clone()))),
                Err(error) => {
                    tracing::debug!(%error, lease = %id, "a machine was not told of the private network");
                    missing = true;
                }
            }
        }
        tokio::select! {
            changed = asked.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(AGAIN), if missing => {}
        }
    }
}

/// What each part reaches, and who reaches it.
fn networks(live: &[(Key, LeaseView)], specs: &BTreeMap<String, CheckedSpec>) -> Wanted {
    let replica = |lease: &LeaseView| Replica { lease: lease.id, node: lease.node };
    let ports = |service: &str| -> Vec<u16> {
        let all: BTreeSet<u16> = specs.get(service).into_iter().flat_map(|spec| &spec.ports).map(|p| p.port).collect();
        all.into_iter().collect()
    };
    let mut names = vec![];
    for (service, spec) in specs.iter().filter(|(_, spec)| !spec.ports.is_empty()) {
        let of: Vec<&(Key, LeaseView)> = live.iter().filter(|(key, _)| key.service == *service).collect();
        let all = of.iter().map(|(_, lease)| replica(lease)).collect();
        names.push(PrivateName { name: service.clone(), ports: ports(service), replicas: all });
        if spec.fleet.size.count() > 1 {
            let each = of.iter().map(|(key, lease)| PrivateName {
                name: format!("{service}-{}", key.index),
                ports: ports(service),
                replicas: vec![replica(lease)],
            });
            // A service of that very name goes first.
            names.extend(each.filter(|name| !specs.contains_key(&name.name)));
        }
    }
    let machines: BTreeSet<NodeId> = live.iter().map(|(_, lease)| lease.node).collect();
    let network = |key: &Key| {
        let ports = ports(&key.service);
        let admits = machines.iter().filter(|_| !ports.is_empty()).map(|node| Admitted { node: *node, ports: ports.clone() }).collect();
        PrivateNetwork { names: names.clone(), admits }
    };
    live.iter().map(|(key, lease)| (lease.id, (lease.clone(), network(key)))).collect()
}
