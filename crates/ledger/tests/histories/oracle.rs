//! What must hold after every block, worked out from the events and the transactions alone, beside the ledger's own check.
//!
//! Guarantees: nothing here calls the rules that it judges; an epoch is proven because a heartbeat's event was seen, service
//! is claimed because a usage was sent. It reads records through the public queries.

use crate::coverage::Coverage;
use pasture_ledger::{Lease, OrderState, check, query};
use pasture_types::event::Event;
use pasture_types::lease::{EndReason, LeaseState, Usage};
use pasture_types::state::MemoryState;
use pasture_types::{AccountId, Amount, AssetId, LeaseId, Millis, NodeId, OrderId, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// What was claimed for a lease.
#[derive(Default)]
struct Claims {
    /// Largest service that its user confirmed.
    confirmed: u64,
    /// Largest service that its node claimed.
    claimed: u64,
    started: Option<Timestamp>,
    last_seen: Option<LeaseState>,
    paid: Amount,
    settled: u32,
}

/// The judge of one history.
pub(crate) struct Oracle {
    minted: Amount,
    leases: BTreeMap<LeaseId, Claims>,
    orders: BTreeMap<OrderId, &'static str>,
    beats: BTreeSet<(NodeId, u64)>,
    epochs: BTreeSet<u64>,
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

/// Edges that a lease may take between two blocks, those that pass a state within one block among them.
fn lease_may(from: Option<LeaseState>, to: LeaseState) -> bool {
    use LeaseState::{Accepted, Closed, Closing, Matched, Running};
    matches!(
        (from, to),
        (None, Matched | Closed)
            | (Some(Matched), Accepted | Running | Closing | Closed)
            | (Some(Accepted), Running | Closing | Closed)
            | (Some(Running), Closing | Closed)
            | (Some(Closing), Closed)
    )
}

impl Oracle {
    pub(crate) fn new(minted: Amount) -> Self {
        Self { minted, leases: BTreeMap::new(), orders: BTreeMap::new(), beats: BTreeSet::new(), epochs: BTreeSet::new() }
    }

    /// A usage that the ledger took.
    pub(crate) fn took_usage(&mut self, usage: &Usage, confirmed: bool) {
        let claims = self.leases.entry(usage.lease).or_default();
        claims.claimed = claims.claimed.max(usage.served_ms.0);
        if confirmed {
            claims.confirmed = claims.confirmed.max(usage.served_ms.0);
        }
        if usage.served_ms.0 > 0 {
            claims.started.get_or_insert(usage.started);
        }
    }

    /// Test credits that the ledger took.
    pub(crate) fn took_mint(&mut self, amount: Amount) {
        self.minted = self.minted.checked_add(amount).unwrap();
    }

    /// One event of a block.
    pub(crate) fn saw(&mut self, state: &MemoryState, event: &Event, coverage: &mut Coverage) {
        match event {
            Event::EpochStarted { epoch, .. } => assert!(self.epochs.insert(*epoch), "epoch {epoch} began twice"),
            Event::HeartbeatRecorded { node, epoch } => {
                assert!(self.epochs.contains(epoch), "a heartbeat for an epoch without randomness");
                assert!(self.beats.insert((*node, *epoch)), "a heartbeat counted twice");
            }
            Event::LeaseSettled { lease, settlement: s, .. } => {
                let record = query::lease(state, lease).expect("a settled lease has a record");
                let claims = self.leases.entry(*lease).or_default();
                claims.settled += 1;
                coverage.settled += 1;
                assert_eq!(claims.settled, 1, "{lease:?} settled twice");
                let (started, confirmed, claimed) = (claims.started, claims.confirmed, claims.claimed);
                assert_eq!(s.charged.checked_add(s.refunded), Some(record.escrow), "{lease:?}: charge and refund are the escrow");
                let parts = [s.to_provider, s.to_treasury, s.to_model, s.withheld];
                let sum = parts.iter().try_fold(Amount::ZERO, |a, b| a.checked_add(*b)).unwrap();
                assert_eq!(sum, s.charged, "{lease:?}: the shares are the charge");
                assert!(s.to_provider.0 * 1_000_000 <= (s.charged.0 - s.withheld.0) * 850_000, "{lease:?}: the provider's share");
                assert!(s.billed_ms.0 <= claimed, "{lease:?}: billed more than was ever claimed");
                assert!(s.billed_ms <= record.max_duration, "{lease:?}: billed past the cap");
                self.only_what_is_proven(state, &record, s.billed_ms, started);
                let disputed = record.end_reason() == Some(&EndReason::ServiceStopped);
                if disputed && record.ripened.served.0 == 0 {
                    assert!(s.billed_ms.0 <= confirmed, "{lease:?}: disputed service was paid");
                }
                assert_eq!(record.held, Amount::ZERO);
            }
            _ => {}
        }
    }

    /// Billed time fits into the epochs whose heartbeat was seen (or that a later one vouches for after a halt).
    fn only_what_is_proven(&self, state: &MemoryState, lease: &Lease, billed: Millis, started: Option<Timestamp>) {
        let Some(started) = started else {
            assert_eq!(billed.0, 0, "{:?}: billed without usage", lease.id);
            return;
        };
        let zone = query::zone(state).unwrap();
        let claims = &self.leases[&lease.id];
        let end = started.plus(Millis(claims.claimed));
        let mut proven = 0;
        let mut at = started;
        while at < end {
            let epoch = zone.epoch_of(at);
            let stop = zone.epoch_start(epoch + 1).min(end);
            let voucher = self.epochs.range(epoch..).next();
            if voucher.is_some_and(|e| self.beats.contains(&(lease.node, *e))) {
                proven += stop.since(at).0;
            }
            at = stop;
        }
        assert!(billed.0 <= proven, "{:?}: billed {} ms, proven at most {proven}", lease.id, billed.0);
    }

    /// The end of a block.
    pub(crate) fn judge(&mut self, state: &MemoryState, accounts: &[AccountId], now: Timestamp, coverage: &mut Coverage) {
        if let Err(broken) = check(state) {
            panic!("the ledger's own check: {broken:#?}");
        }
        assert_eq!(query::supply(state, AssetId::CREDIT), self.minted, "money came from nowhere");
        for account in accounts {
            for lease in query::leases_of_account(state, account, None, 500) {
                self.judge_lease(&lease, now, coverage);
            }
            for order in query::orders_of_account(state, account, None, 500) {
                let name = order_name(&order.state);
                let before = self.orders.insert(order.id, name).unwrap_or("-");
                if before != name {
                    coverage.edge(format!("order {before} > {name}"));
                    assert!(!matches!(before, "served" | "expired" | "cancelled"), "{:?} came back from {before}", order.id);
                }
            }
        }
    }

    fn judge_lease(&mut self, lease: &Lease, now: Timestamp, coverage: &mut Coverage) {
        let claims = self.leases.entry(lease.id).or_default();
        if claims.last_seen != Some(lease.state) {
            assert!(lease_may(claims.last_seen, lease.state), "{:?}: {:?} > {:?}", lease.id, claims.last_seen, lease.state);
            let before = claims.last_seen.map_or("-", lease_name);
            coverage.edge(format!("lease {before} > {}", lease_name(lease.state)));
            claims.last_seen = Some(lease.state);
        }
        let parts = [lease.paid.provider, lease.paid.treasury, lease.paid.model];
        let paid = parts.iter().try_fold(Amount::ZERO, |a, b| a.checked_add(*b)).unwrap();
        assert!(paid >= claims.paid, "{:?}: a payment was taken back", lease.id);
        claims.paid = paid;
        assert!(paid.checked_add(lease.held).unwrap() <= lease.escrow, "{:?}: paid more than was put on hold", lease.id);
        // Whatever is said, nobody is paid for time that has not passed since the lease was taken (and the slack of clocks).
        let since = lease.accepted_at.unwrap_or(lease.matched_at);
        let building = lease.last_claim().build.0;
        let most = lease.rate_per_hour.0 * u128::from(now.since(since).0 + 4_000 + building) / 3_600_000 + 2;
        assert!(paid.0 <= most, "{:?}: paid {} where {most} is the most that time allows", lease.id, paid.0);
    }
}
