//! The invariants of the ledger, checked over the whole state. Spec: `docs/specs/ledger.md` §8.
//!
//! Guarantees: reads only; every violation is named with the record it concerns. It is for tests, simulation and
//! `farm ledger check`, not for the path of a block: its work grows with the state.

use crate::channels::{CHANNEL_OF_CLIENT, CHANNEL_OF_PROVIDER};
use crate::credentials::CREDENTIAL_OF;
use crate::grants::{GRANT_OF_ACCOUNT, WATCH_GRANT};
use crate::records::{Account, Lease, Node, Offer, Order, OrderState, Provider};
use crate::registry::ready_height;
use crate::tables::{
    self, ACCOUNT, BALANCE, LEASE, LEASE_OF_ACCOUNT, LEASE_OF_NODE, LEASE_OPEN, META_FEES, META_POOL, META_TIPS, MODEL, NODE, OFFER,
    OFFER_AGEING, OFFER_IN_REGION, OFFER_OF_NODE, OFFER_OF_PROVIDER, ORDER, ORDER_OF_ACCOUNT, ORDER_OPEN, ORDER_PENDING, ORDER_WAITING,
    PROVIDER, TABLES_END, TIMER, TimerKind, ageing_key, asset_meta, key, pending_key, region_key, timer_key,
};
use crate::{bank, channels, credentials, governance, grants, registry, reputation, service, stake, validators};
use borsh::BorshDeserialize;
use pasture_types::lease::LeaseState;
use pasture_types::state::StateRead;
use pasture_types::{Amount, AssetId, NodeId, Resources};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// Most violations that one check names.
const MAX_VIOLATIONS: usize = 100;

/// A broken invariant.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, thiserror::Error)]
#[error("{rule}: {detail}")]
pub struct Violation {
    /// Which invariant.
    pub rule: &'static str,
    /// Where, and by how much.
    pub detail: String,
}

/// What was looked at, when nothing is broken.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize)]
pub struct CheckReport {
    /// The last block.
    pub height: u64,
    /// Keys in all tables.
    pub keys: u64,
    /// Accounts.
    pub accounts: u64,
    /// Nodes.
    pub nodes: u64,
    /// Standing offers.
    pub offers: u64,
    /// Orders, open or over.
    pub orders: u64,
    /// Leases, open or closed.
    pub leases: u64,
    /// Leases that are not closed.
    pub open_leases: u64,
    /// All credits.
    pub supply: Amount,
}

/// Everything that is in the tables, read once.
#[derive(Default)]
struct All {
    accounts: Vec<Account>,
    providers: Vec<Provider>,
    nodes: BTreeMap<NodeId, Node>,
    offers: Vec<Offer>,
    orders: Vec<Order>,
    leases: Vec<Lease>,
    deposits: stake::check::Found,
    violations: Vec<Violation>,
    keys: u64,
}

impl All {
    fn broken(&mut self, rule: &'static str, detail: String) {
        if self.violations.len() < MAX_VIOLATIONS {
            self.violations.push(Violation { rule, detail });
        }
    }
    fn hold(&mut self, holds: bool, rule: &'static str, detail: impl FnOnce() -> String) {
        if !holds {
            self.broken(rule, detail());
        }
    }
}

/// Checks every invariant.
///
/// # Errors
/// The first hundred violations.
pub fn check(state: &dyn StateRead) -> Result<CheckReport, Vec<Violation>> {
    let mut all = read(state);
    deposits(state, &mut all);
    money(state, &mut all);
    resources(&mut all);
    leases(state, &mut all);
    let found = std::mem::take(&mut all.leases);
    service::check::check(state, &found, &mut |rule, detail| all.broken(rule, detail));
    all.leases = found;
    indexes(state, &mut all);
    governance::check(state, &mut |rule, detail| all.broken(rule, detail));
    reputation::check(state, &mut |rule, detail| all.broken(rule, detail));
    for (rule, detail) in crate::audits::check::check(state) {
        all.broken(rule, detail);
    }
    market(state, &mut all);
    if !all.violations.is_empty() {
        return Err(all.violations);
    }
    Ok(CheckReport {
        height: tables::clock(state).height,
        keys: all.keys,
        accounts: all.accounts.len() as u64,
        nodes: all.nodes.len() as u64,
        offers: all.offers.len() as u64,
        orders: all.orders.len() as u64,
        leases: all.leases.len() as u64,
        open_leases: all.leases.iter().filter(|l| l.state != LeaseState::Closed).count() as u64,
        supply: bank::supply(state, AssetId::CREDIT),
    })
}

fn market(state: &dyn StateRead, all: &mut All) {
    let mut found = vec![];
    let params = tables::zone(state).map(|z| z.params.market);
    let mut broken = |rule, detail| found.push((rule, detail));
    crate::market::check::check(state, params.as_ref(), &all.nodes, &all.offers, &all.leases, &mut broken);
    found.into_iter().for_each(|(rule, detail)| all.broken(rule, detail));
    let dismissed = all.offers.iter().find(|o| registry::is_dismissed(state, &o.node)).map(|o| o.id);
    all.hold(dismissed.is_none(), "a dismissed node offers nothing", || format!("offer {dismissed:?}"));
}

fn decode<T: BorshDeserialize>(all: &mut All, k: &[u8], v: &[u8]) -> Option<T> {
    let read = borsh::from_slice(v).ok();
    all.hold(read.is_some(), "every record decodes", || format!("table {:#04x}, {} bytes", k.first().copied().unwrap_or(0), v.len()));
    read
}

fn read(state: &dyn StateRead) -> All {
    let mut all = All::default();
    state.scan(&[], &[u8::MAX; 2], &mut |k, v| {
        all.keys += 1;
        let table = k.first().copied().unwrap_or(0);
        all.hold(table > 0 && table < TABLES_END, "every key is in a table", || format!("table {table:#04x}"));
        match table {
            ACCOUNT => {
                if let Some(r) = decode(&mut all, k, v) {
                    all.accounts.push(r);
                }
            }
            PROVIDER => {
                if let Some(r) = decode(&mut all, k, v) {
                    all.providers.push(r);
                }
            }
            NODE => {
                if let Some(r) = decode::<Node>(&mut all, k, v) {
                    all.nodes.insert(r.id, r);
                }
            }
            OFFER => {
                if let Some(r) = decode(&mut all, k, v) {
                    all.offers.push(r);
                }
            }
            ORDER => {
                if let Some(r) = decode(&mut all, k, v) {
                    all.orders.push(r);
                }
            }
            LEASE => {
                if let Some(r) = decode(&mut all, k, v) {
                    all.leases.push(r);
                }
            }
            _ => {}
        }
        true
    });
    all
}

/// Deposits and validators, whose modules know their own tables.
fn deposits(state: &dyn StateRead, all: &mut All) {
    all.deposits = stake::check::check(state, &all.providers, &all.leases);
    validators::check::check(state, &mut all.deposits);
    for (rule, detail) in std::mem::take(&mut all.deposits.broken) {
        all.broken(rule, detail);
    }
}

/// supply = balances + escrow + deposits + stake + treasury + model shares + fees in flight + validator pool.
fn money(state: &dyn StateRead, all: &mut All) {
    let known = service::assets::ids(state);
    for table in [BALANCE, MODEL] {
        state.scan(&[table], &[table + 1], &mut |k, _| {
            let listed = known.iter().any(|a| k.ends_with(&a.0.to_be_bytes()));
            all.hold(listed, "only known assets exist", || format!("table {table:#04x}"));
            true
        });
    }
    for asset in known {
        money_of(state, all, asset);
    }
}

fn money_of(state: &dyn StateRead, all: &mut All, asset: AssetId) {
    let supply = bank::supply(state, asset);
    let mut parts: Vec<Amount> = vec![bank::treasury(state, asset)];
    parts.extend([META_FEES, META_TIPS, META_POOL].iter().filter_map(|m| tables::get::<Amount>(state, &asset_meta(*m, asset))));
    for table in [BALANCE, MODEL] {
        state.scan(&[table], &[table + 1], &mut |k, v| {
            if k.ends_with(&asset.0.to_be_bytes()) {
                parts.extend(decode::<Amount>(all, k, v));
            }
            true
        });
    }
    parts.extend(channels::held(state, asset));
    if asset == AssetId::CREDIT {
        parts.push(governance::held(state));
        parts.extend(all.deposits.money.iter().copied());
    }
    parts.extend(all.leases.iter().filter(|l| l.asset == asset).map(|l| l.held));
    parts.extend(all.orders.iter().filter(|o| o.terms.asset == asset).map(|o| o.deposit));
    parts.extend(all.providers.iter().filter(|_| asset == AssetId::CREDIT).map(|p| p.stake));
    let sum = parts.iter().try_fold(Amount::ZERO, |a, b| a.checked_add(*b));
    all.hold(sum == Some(supply), "supply is the sum of everything that is held", || {
        format!("asset {}: supply {}, held {}", asset.0, supply.0, sum.map_or_else(|| "overflow".into(), |s| s.0.to_string()))
    });
}

/// No node holds more than it declared, and what it is said to hold is the sum over its leases.
fn resources(all: &mut All) {
    let mut held: BTreeMap<NodeId, (Resources, u32)> = BTreeMap::new();
    for l in all.leases.iter().filter(|l| l.state != LeaseState::Closed) {
        let entry = held.entry(l.node).or_default();
        entry.1 += 1;
        if l.holds_resources() {
            entry.0 = entry.0.checked_add(&l.resources).unwrap_or_default();
        }
    }
    for node in all.nodes.values().cloned().collect::<Vec<_>>() {
        let (sum, open) = held.remove(&node.id).unwrap_or_default();
        all.hold(node.committed == sum, "a node holds what its leases hold", || format!("node {}: {} != {sum}", node.id, node.committed));
        all.hold(node.open_leases == open, "a node counts its open leases", || format!("node {}: {} != {open}", node.id, node.open_leases));
        let covered = node.declaration.resources.covers(&sum);
        all.hold(covered, "no node holds more than it declared", || format!("node {}: {sum}", node.id));
    }
    all.hold(held.is_empty(), "a lease's node exists", || format!("{} nodes are missing", held.len()));
    for o in all.offers.clone() {
        let fits = all.nodes.get(&o.node).is_some_and(|n| n.declaration.resources.covers(&o.terms.resources));
        all.hold(fits, "an offer is within its node", || format!("offer {}", o.id));
    }
}

/// Each lease is in exactly one state and its amounts add up.
fn leases(state: &dyn StateRead, all: &mut All) {
    let (mut live, mut open) = (0, 0);
    for l in all.leases.clone() {
        live += u64::from(l.is_live());
        open += u64::from(l.state != LeaseState::Closed);
        let spent = [l.paid.provider, l.paid.treasury, l.paid.model, l.held].iter().fold(Amount::ZERO, |a, b| a.saturating_add(*b));
        all.hold(spent <= l.escrow, "a lease pays no more than its escrow", || format!("lease {}: {} of {}", l.id, spent.0, l.escrow.0));
        // Until the end nothing leaves but what is paid; at the end the rest has returned.
        let rest_is_held = l.state == LeaseState::Closed || spent == l.escrow;
        all.hold(rest_is_held, "an open lease holds what it has not paid", || format!("lease {}", l.id));
        let shape = match l.state {
            LeaseState::Matched => l.accepted_at.is_none() && l.closing.is_none(),
            LeaseState::Accepted => l.accepted_at.is_some() && l.last.is_none() && l.closing.is_none(),
            LeaseState::Running => l.accepted_at.is_some() && l.started_at.is_some() && l.closing.is_none(),
            LeaseState::Closing => l.accepted_at.is_some() && l.closing.is_some() && l.settlement.is_none(),
            LeaseState::Closed => l.held.is_zero() && l.closing.is_some() && l.settlement.is_some() == l.accepted_at.is_some(),
        };
        all.hold(shape, "a lease's record fits its state", || format!("lease {} is {:?}", l.id, l.state));
        if let Some(end) = &l.settlement {
            let out = [end.to_provider, end.to_treasury, end.to_model, end.withheld].iter().fold(Amount::ZERO, |a, b| a.saturating_add(*b));
            let adds_up = out == end.charged && end.charged.saturating_add(end.refunded) == l.escrow;
            all.hold(adds_up, "a settlement adds up to the escrow", || format!("lease {}", l.id));
            let service = end.billed_ms <= l.max_duration && end.epochs_proven <= end.epochs;
            all.hold(service, "a lease pays at most its time", || format!("lease {}", l.id));
        }
        let timed = l.timer_shifted.is_some() == (l.state != LeaseState::Closed);
        all.hold(timed, "an open lease has a timer", || format!("lease {} is {:?}", l.id, l.state));
    }
    let counts = tables::counts(state);
    all.hold(counts.live == live && counts.open == open, "leases are counted", || format!("{counts:?}, found {live} and {open}"));
}

/// Every index entry and timer belongs to a record, and every record has its entries.
fn indexes(state: &dyn StateRead, all: &mut All) {
    let mut want: BTreeSet<Vec<u8>> = BTreeSet::new();
    // Offers that came of age in a block that had no room for them are taken off in the next.
    let mut may: BTreeSet<Vec<u8>> = BTreeSet::new();
    let zone = tables::zone(state);
    let (age, height) = (zone.map_or(0, |z| z.params.offer_age_blocks), tables::clock(state).height);
    for o in &all.offers {
        want.insert(key(OFFER_OF_NODE, &[&o.node.0, &o.id.0]));
        want.insert(key(OFFER_OF_PROVIDER, &[&o.provider.0, &o.id.0]));
        want.insert(region_key(&o.terms.region, &o.id));
        let ready = ready_height(age, o);
        if ready > height { &mut want } else { &mut may }.insert(ageing_key(ready, &o.id));
    }
    for o in &all.orders {
        want.insert(key(ORDER_OF_ACCOUNT, &[&o.account.0, &o.placed_at.0.to_be_bytes(), &o.id.0]));
        want.extend(o.timer_shifted.map(|at| timer_key(at, TimerKind::Order, &o.id.0)));
        match o.state {
            OrderState::Pending { from } => {
                want.insert(pending_key(o.terms.priority, from, &o.id));
                want.insert(key(ORDER_OPEN, &[&o.account.0, &o.id.0]));
            }
            OrderState::Waiting => {
                want.insert(key(ORDER_WAITING, &[&o.id.0]));
                want.insert(key(ORDER_OPEN, &[&o.account.0, &o.id.0]));
            }
            OrderState::Drawn { .. } => {
                want.insert(key(ORDER_OPEN, &[&o.account.0, &o.id.0]));
            }
            OrderState::Served { .. } | OrderState::Expired | OrderState::Cancelled => {}
        }
    }
    for l in &all.leases {
        want.insert(key(LEASE_OF_ACCOUNT, &[&l.account.0, &l.matched_at.0.to_be_bytes(), &l.id.0]));
        want.insert(key(LEASE_OF_NODE, &[&l.node.0, &l.matched_at.0.to_be_bytes(), &l.id.0]));
        want.extend(l.timer_shifted.map(|at| timer_key(at, TimerKind::Lease, &l.id.0)));
        want.extend(l.tenure.timer_shifted.map(|at| timer_key(at, TimerKind::Market, &l.id.0)));
        if l.state != LeaseState::Closed {
            want.insert(key(LEASE_OPEN, &[&l.node.0, &l.id.0]));
        }
    }
    want.extend(governance::timers(state));
    want.extend(std::mem::take(&mut all.deposits.timers));
    service::check::wanted(state, &mut want);
    for of_area in [grants::check, channels::check, credentials::check] {
        want.extend(of_area(state, &mut |rule, detail| all.broken(rule, detail)));
    }
    let mut have: BTreeSet<Vec<u8>> = BTreeSet::new();
    for table in service::check::INDEXES.into_iter().chain([
        GRANT_OF_ACCOUNT,
        WATCH_GRANT,
        CHANNEL_OF_CLIENT,
        CHANNEL_OF_PROVIDER,
        CREDENTIAL_OF,
        OFFER_OF_NODE,
        OFFER_OF_PROVIDER,
        OFFER_IN_REGION,
        OFFER_AGEING,
        ORDER_OF_ACCOUNT,
        ORDER_OPEN,
        ORDER_PENDING,
        ORDER_WAITING,
        LEASE_OF_ACCOUNT,
        LEASE_OF_NODE,
        LEASE_OPEN,
        TIMER,
    ]) {
        state.scan(&[table], &[table + 1], &mut |k, _| {
            have.insert(k.to_vec());
            true
        });
    }
    for k in want.symmetric_difference(&have).filter(|k| !may.contains(*k)).cloned().collect::<Vec<_>>() {
        let (table, missing) = (k.first().copied().unwrap_or(0), want.contains(&k));
        let what = if missing { "missing" } else { "left over" };
        all.broken("indexes and timers agree with records", format!("table {table:#04x}: {what}"));
    }
    orders(all);
}

/// An order's state agrees with its lease.
fn orders(all: &mut All) {
    let leases: BTreeMap<_, _> = all.leases.iter().map(|l| (l.id, (l.order, l.state))).collect();
    for o in all.orders.clone() {
        let fits = match o.state {
            OrderState::Drawn { lease } => leases.get(&lease) == Some(&(o.id, LeaseState::Matched)),
            OrderState::Served { lease } => leases.get(&lease).is_some_and(|(order, s)| *order == o.id && *s != LeaseState::Matched),
            _ => true,
        };
        all.hold(fits, "an order agrees with its lease", || format!("order {} is {:?}", o.id, o.state));
        let open = matches!(o.state, OrderState::Pending { .. } | OrderState::Waiting | OrderState::Drawn { .. });
        all.hold(open || o.deposit.is_zero(), "an order that is over locks nothing", || format!("order {}", o.id));
        let timed = o.timer_shifted.is_some() == matches!(o.state, OrderState::Pending { .. } | OrderState::Waiting);
        all.hold(timed, "an order that waits has a timer", || format!("order {} is {:?}", o.id, o.state));
    }
}
