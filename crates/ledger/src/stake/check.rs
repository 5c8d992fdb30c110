//! The invariants of deposits. Spec: `docs/specs/stake.md` §10.
//!
//! Guarantees: reads only; names the record that breaks one. Its work grows with the state.

use super::newcomers::grant_id;
use super::{FEE_GRANT, FeeGrant, LEASE_NEED, LeaseNeed, MAX_SPONSORS, MAX_TRANCHES, NODE_BOND, NodeBond, SPONSOR, Sponsorship, total};
use crate::records::{Lease, Provider};
use crate::tables::{TimerKind, timer_key};
use borsh::BorshDeserialize;
use pasture_types::lease::LeaseState;
use pasture_types::state::StateRead;
use pasture_types::{AccountId, Amount, AssetId, LeaseId, NodeId};
use std::collections::{BTreeMap, BTreeSet};

/// What the deposit tables say: their money, their timers, what is broken.
#[derive(Default)]
pub(crate) struct Found {
    pub(crate) money: Vec<Amount>,
    pub(crate) timers: BTreeSet<Vec<u8>>,
    pub(crate) broken: Vec<(&'static str, String)>,
}

impl Found {
    pub(crate) fn hold(&mut self, holds: bool, rule: &'static str, detail: impl FnOnce() -> String) {
        if !holds {
            self.broken.push((rule, detail()));
        }
    }
}

/// Every record of a table with the id at the end of its key.
pub(crate) fn all<T: BorshDeserialize>(s: &dyn StateRead, table: u8, found: &mut Found) -> Vec<([u8; 32], T)> {
    let mut out = Vec::new();
    s.scan(&[table], &[table + 1], &mut |k, v| {
        match (crate::tables::tail_id(k), borsh::from_slice(v)) {
            (Some(id), Ok(record)) => out.push((id, record)),
            _ => found.broken.push(("every record decodes", format!("table {table:#04x}, {} bytes", v.len()))),
        }
        true
    });
    out
}

#[derive(Default, PartialEq, Eq, Debug)]
struct Held {
    rate: Amount,
    locked: Amount,
}

impl Held {
    fn add(&mut self, need: &LeaseNeed) {
        self.rate = self.rate.saturating_add(need.rate_per_hour);
        self.locked = self.locked.saturating_add(need.needs);
    }
}

pub(crate) fn check(s: &dyn StateRead, providers: &[Provider], leases: &[Lease]) -> Found {
    let mut found = Found::default();
    needs(s, providers, leases, &mut found);
    sponsors(s, providers, &mut found);
    for (id, grant) in all::<FeeGrant>(s, FEE_GRANT, &mut found) {
        found.money.push(grant.left);
        found.timers.extend(grant.timer_shifted.map(|at| timer_key(at, TimerKind::Deposit, &id)));
        let shape = id == grant_id(&grant.account) && (grant.timer_shifted.is_some() || grant.left.is_zero());
        found.hold(shape, "first fees belong to their account and end", || format!("account {}", grant.account));
    }
    found
}

/// What leases need is what their provider and node are said to hold.
fn needs(s: &dyn StateRead, providers: &[Provider], leases: &[Lease], found: &mut Found) {
    let (mut by_provider, mut by_node): (BTreeMap<AccountId, Held>, BTreeMap<NodeId, Held>) = Default::default();
    let open: BTreeMap<LeaseId, &Lease> = leases.iter().filter(|l| l.state != LeaseState::Closed).map(|l| (l.id, l)).collect();
    let needs = all::<LeaseNeed>(s, LEASE_NEED, found);
    found.hold(needs.len() == open.len(), "each open lease needs its part of a deposit", || format!("{} of {}", needs.len(), open.len()));
    for (id, need) in &needs {
        let fits = open.get(&LeaseId(*id)).is_some_and(|l| {
            l.provider == need.provider && l.node == need.node && (l.asset != AssetId::CREDIT || l.rate_per_hour == need.rate_per_hour)
        });
        found.hold(fits, "a need belongs to an open lease", || format!("lease {}", LeaseId(*id)));
        by_provider.entry(need.provider).or_default().add(need);
        by_node.entry(need.node).or_default().add(need);
    }
    for p in providers {
        let held = Held { rate: p.bond.rate_per_hour, locked: p.bond.locked };
        let fits = by_provider.remove(&p.account).unwrap_or_default() == held;
        found.hold(fits, "a provider holds what its leases need", || format!("provider {}: {held:?}", p.account));
    }
    found.hold(by_provider.is_empty(), "a need has a provider", || format!("{} are missing", by_provider.len()));
    for (id, bond) in all::<NodeBond>(s, NODE_BOND, found) {
        let held = Held { rate: bond.rate_per_hour, locked: bond.locked };
        let fits = by_node.remove(&NodeId(id)).unwrap_or_default() == held;
        found.hold(fits, "a node holds what its leases need", || format!("node {}: {held:?}", NodeId(id)));
    }
    let rest = by_node.values().all(|h| *h == Held::default());
    found.hold(rest, "a need has a node", || format!("{} are missing", by_node.len()));
}

fn sponsors(s: &dyn StateRead, providers: &[Provider], found: &mut Found) {
    let mut by_provider: BTreeMap<AccountId, Vec<Sponsorship>> = BTreeMap::new();
    for (id, x) in all::<Sponsorship>(s, SPONSOR, found) {
        found.money.push(x.amount.saturating_add(total(&x.leaving)));
        let shape = id == x.sponsor.0 && x.provider != x.sponsor && x.leaving.len() <= MAX_TRANCHES;
        let empty = x.amount.is_zero() && x.leaving.is_empty();
        found.hold(shape && !empty, "a sponsor has posted something", || format!("sponsor {}", x.sponsor));
        by_provider.entry(x.provider).or_default().push(x);
    }
    for p in providers {
        found.money.push(total(&p.bond.leaving));
        let theirs = by_provider.remove(&p.account).unwrap_or_default();
        let sum = theirs.iter().fold(Amount::ZERO, |a, x| a.saturating_add(x.amount));
        let fits = p.bond.sponsored == sum && p.bond.sponsors as usize == theirs.len() && theirs.len() <= MAX_SPONSORS;
        found.hold(fits, "a provider counts its sponsors", || format!("provider {}: {} of {}", p.account, sum.0, p.bond.sponsored.0));
        let tranches = p.bond.leaving.iter().chain(theirs.iter().flat_map(|x| x.leaving.iter()));
        let (mut first, mut full) = (None, true);
        for t in tranches {
            full &= !t.amount.is_zero();
            first = Some(first.map_or(t.release_shifted, |f: pasture_types::Timestamp| f.min(t.release_shifted)));
        }
        let bounded = p.bond.leaving.len() <= MAX_TRANCHES && full;
        found.hold(bounded && p.bond.timer_shifted == first, "a deposit on its way back has a timer", || format!("provider {}", p.account));
        found.timers.extend(p.bond.timer_shifted.map(|at| timer_key(at, TimerKind::Deposit, &p.account.0)));
    }
    found.hold(by_provider.is_empty(), "a sponsor has a provider", || format!("{} are missing", by_provider.len()));
}
