//! Lifecycles as they are seen between the ends of blocks: orders, leases by their role, offers, providers, seats, failovers,
//! channels' and keys' records. What events tell apart is counted by [`crate::names`].
//!
//! Guarantees: nothing comes back from a state that is an end.

use crate::coverage::Coverage;
use crate::keys::Keys;
use pasture_ledger::{Lease, OrderState, Role, Start, query};
use pasture_types::event::Event;
use pasture_types::lease::LeaseState;
use pasture_types::service::ServiceEvent;
use pasture_types::state::MemoryState;
use pasture_types::{AccountId, LeaseId, NodeId, OrderId};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Default)]
pub(super) struct Lives {
    orders: BTreeMap<OrderId, &'static str>,
    leases: BTreeMap<LeaseId, (&'static str, u32)>,
    open: BTreeSet<LeaseId>,
    waiting: BTreeSet<OrderId>,
    others: BTreeMap<(&'static str, [u8; 32]), &'static str>,
    rates: BTreeMap<NodeId, u32>,
    fresh: Vec<AccountId>,
    halted: u64,
}

const fn lease_name(state: LeaseState) -> &'static str {
    match state {
        LeaseState::Matched => "matched",
        LeaseState::Accepted => "accepted",
        LeaseState::Running => "running",
        LeaseState::Closing => "closing",
        LeaseState::Closed => "closed",
    }
}

const fn role_name(role: &Role) -> &'static str {
    match role {
        Role::Primary => "lease",
        Role::Standby { .. } => "standby",
        Role::Past { .. } => "generation",
    }
}

const fn order_name(state: &OrderState) -> &'static str {
    match state {
        OrderState::Pending { .. } => "pending",
        OrderState::Waiting => "waiting",
        OrderState::Drawn { .. } => "drawn",
        OrderState::Served { .. } => "served",
        OrderState::Expired => "expired",
        OrderState::Cancelled => "cancelled",
    }
}

const fn start_name(start: Start) -> &'static str {
    match start {
        Start::Deposit => "ordinary",
        Start::Newcomer => "newcomer",
        Start::Owing => "owing",
        Start::Over => "over",
    }
}

fn failover_name(f: &pasture_ledger::service::records::Failover) -> &'static str {
    match (f.lost, f.standby) {
        (None, None) => "watched",
        (None, Some(_)) => "with standby",
        (Some(l), None) if l.reported => "reported lost",
        (Some(l), Some(_)) if l.reported => "reported lost with standby",
        (Some(_), None) => "silent",
        (Some(_), Some(_)) => "silent with standby",
    }
}

impl Lives {
    pub(super) fn saw(&mut self, event: &Event) {
        match event {
            Event::OrderPlaced { order, .. } => drop(self.waiting.insert(*order)),
            Event::LeaseMatched { lease, .. } | Event::Service(ServiceEvent::LeaseMoved { past: lease, .. }) => {
                self.open.insert(*lease);
            }
            Event::AccountRegistered { account } => self.fresh.push(*account),
            _ => {}
        }
    }

    fn other(&mut self, kind: &'static str, id: [u8; 32], now: &'static str, coverage: &mut Coverage) {
        let before = self.others.insert((kind, id), now).unwrap_or("-");
        if before != now {
            coverage.edge(format!("{kind} {before} > {now}"));
        }
    }

    pub(super) fn look(&mut self, state: &MemoryState, coverage: &mut Coverage) {
        self.orders(state, coverage);
        for id in self.open.clone() {
            let lease = query::lease(state, &id).expect("leases stay");
            self.lease(&lease, coverage);
            if lease.role == Role::Primary && lease.failover != pasture_types::market::Failover::Off {
                let record = pasture_ledger::service::query::failover(state, &id);
                let name = record.as_ref().map_or("off", failover_name);
                self.other("failover", id.0, name, coverage);
            }
        }
        for key in &Keys::all().accounts {
            self.account(state, &key.account(), coverage);
        }
        for account in self.fresh.clone() {
            self.account(state, &account, coverage);
        }
        let term = query::validators::term(state).expect("a term");
        for id in Keys::all().validators.iter().map(|k| k.node_id()) {
            let seated = term.seats.iter().any(|s| s.validator == id);
            let known = query::validators::validator(state, &id).is_some();
            let name = if seated {
                "seated"
            } else if known {
                "candidate"
            } else {
                "-"
            };
            self.other("validator", id.0, name, coverage);
        }
        for key in &Keys::all().nodes {
            let name = match query::node_audit(state, &key.node_id()) {
                Some(a) if a.failing_from.is_some() => "failed",
                Some(a) if a.open.is_some() => "audited",
                Some(a) if a.last_pass.is_some() => "passed",
                Some(_) => "unaudited",
                None => "-",
            };
            self.other("capacity", key.node_id().0, name, coverage);
            let rate = query::node_audit(state, &key.node_id()).map_or(1_000_000, |a| a.proven_ppm);
            match rate.cmp(&self.rates.insert(key.node_id(), rate).unwrap_or(1_000_000)) {
                Ordering::Less => coverage.edge("node's rate falls".into()),
                Ordering::Greater => coverage.edge("node's rate rises".into()),
                Ordering::Equal => {}
            }
        }
        let halted = query::clock(state).halted.0;
        if halted > self.halted {
            coverage.edge("network stood still".into());
        }
        self.halted = halted;
    }

    fn orders(&mut self, state: &MemoryState, coverage: &mut Coverage) {
        for id in self.waiting.clone() {
            let order = query::order(state, &id).expect("orders stay");
            let name = order_name(&order.state);
            let before = self.orders.insert(id, name).unwrap_or("-");
            if before != name {
                coverage.edge(format!("order {before} > {name}"));
            }
            if matches!(name, "served" | "expired" | "cancelled") {
                self.waiting.remove(&id);
            }
        }
    }

    fn lease(&mut self, lease: &Lease, coverage: &mut Coverage) {
        let name = lease_name(lease.state);
        let (before, generation) = self.leases.insert(lease.id, (name, lease.generation)).unwrap_or(("-", lease.generation));
        let role = role_name(&lease.role);
        if generation != lease.generation {
            coverage.edge(format!("{role} {before} > next generation"));
        } else if before != name {
            coverage.edge(format!("{role} {before} > {name}"));
        }
        if lease.state == LeaseState::Closed {
            self.open.remove(&lease.id);
        }
    }

    fn account(&mut self, state: &MemoryState, account: &AccountId, coverage: &mut Coverage) {
        if let Some(p) = query::provider(state, account) {
            self.other("start", account.0, start_name(p.bond.start), coverage);
        }
        let waits = query::key_policy(state, account).pending.is_some();
        self.other("keys", account.0, if waits { "waiting" } else { "standing" }, coverage);
        let fees = match query::deposits::first_fees(state, account) {
            None => "-",
            Some(left) if left.is_zero() => "gone",
            Some(_) => "there",
        };
        self.other("first fees", account.0, fees, coverage);
    }
}
