//! Service and its price: what was claimed, confirmed and proven bounds what is paid.
//!
//! Guarantees: an epoch counts as proven only where a heartbeat's event was seen, a millisecond as served only where the node
//! said so, as confirmed only where user or watcher did; a lease is settled once, and each generation by itself.

use pasture_ledger::{Lease, Role, query};
use pasture_types::event::{ConfirmedBy, Event, Settlement};
use pasture_types::genesis::Params;
use pasture_types::lease::LeaseState;
use pasture_types::service::ServiceEvent;
use pasture_types::state::MemoryState;
use pasture_types::{AccountId, Amount, LeaseId, Millis, NodeId, PublicKey, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

const DAY_MS: u64 = 24 * 3_600_000;

/// What was claimed for one generation of a lease.
#[derive(Default)]
struct Claims {
    /// Largest service that its user or watcher confirmed.
    confirmed: u64,
    /// Largest service that its node claimed.
    claimed: u64,
    started: Option<Timestamp>,
    last_seen: Option<LeaseState>,
    generation: u32,
    paid: u128,
    settled: u32,
    /// Day, and what watchers confirmed on it beyond what counted anyway.
    watched: (u64, u64),
    /// The shares of its match.
    shares: Option<(u32, u32)>,
}

/// All leases of a history.
#[derive(Default)]
pub(super) struct Leases {
    all: BTreeMap<LeaseId, Claims>,
    open: BTreeSet<LeaseId>,
    beats: BTreeSet<(NodeId, u64)>,
    epochs: BTreeSet<u64>,
}

/// Edges that a lease may take between two blocks, those that pass a state within one block among them.
fn may(from: Option<LeaseState>, to: LeaseState, role: Role) -> bool {
    use LeaseState::{Accepted, Closed, Closing, Matched, Running};
    let past = matches!(role, Role::Past { .. });
    matches!(
        (from, to),
        (None, Matched | Closed)
            | (Some(Matched), Accepted | Running | Closing | Closed)
            | (Some(Accepted), Running | Closing | Closed)
            | (Some(Running), Closing | Closed)
            | (Some(Closing), Closed)
    ) || past && matches!((from, to), (None, Closing))
}

fn params(state: &MemoryState) -> Params {
    query::zone(state).expect("a zone").params
}

/// Whether two accounts have a key in common, or one put up the other's deposit.
fn related(state: &MemoryState, a: &AccountId, b: &AccountId) -> bool {
    let keys = |id: &AccountId| query::account(state, id).map(|x| x.keys).unwrap_or_default();
    let shared = keys(a).iter().any(|k| keys(b).contains(k));
    let backs = |p: &AccountId, s: &AccountId| query::deposits::sponsorship(state, p, s).is_some();
    a == b || shared || backs(a, b) || backs(b, a)
}

impl Leases {
    /// A usage that the ledger took, alone or in a bundle.
    fn took(&mut self, state: &MemoryState, id: &LeaseId, served: u64, by: Option<AccountId>) {
        let lease = query::lease(state, id).expect("a lease that was served");
        let now = query::clock(state).time;
        let started = lease.started_at.expect("whoever serves has begun");
        if lease.generation > 1 || matches!(lease.role, Role::Standby { .. }) {
            // The generation before may be paid until that very moment.
            assert!(lease.started_at >= lease.accepted_at, "{id:?}: served before it was taken over");
        }
        let claims = self.all.entry(*id).or_default();
        if let Some(by) = by {
            if by != lease.account {
                assert!(!related(state, &lease.provider, &by), "{by:?} confirmed service of its own operator");
                let today = now.0 / DAY_MS;
                let more = served.saturating_sub(claims.confirmed.max(lease.ripened.served.0));
                claims.watched = if claims.watched.0 == today { (today, claims.watched.1 + more) } else { (today, more) };
                assert!(claims.watched.1 <= params(state).service.watcher_per_day.0, "watchers confirmed more than they may on a day");
                assert_eq!(lease.confirmed_by, Some(by), "the receipt says who confirmed");
            }
            claims.confirmed = claims.confirmed.max(served);
        }
        claims.claimed = claims.claimed.max(served);
        if served > 0 {
            let known = *claims.started.get_or_insert(started);
            assert_eq!(known, started, "{id:?}: its beginning moved");
        }
        assert!(started.0 + served <= now.0 + 2_000, "{id:?}: service of the future was taken");
    }

    pub(super) fn saw(&mut self, state: &MemoryState, event: &Event) {
        match event {
            Event::EpochStarted { epoch, .. } => assert!(self.epochs.insert(*epoch), "epoch {epoch} began twice"),
            Event::HeartbeatRecorded { node, epoch } => {
                assert!(self.epochs.contains(epoch), "a heartbeat for an epoch without randomness");
                assert!(self.beats.insert((*node, *epoch)), "a heartbeat counted twice");
            }
            Event::UsageRecorded { lease, served_ms, confirmed_by, .. } => self.took(state, lease, served_ms.0, *confirmed_by),
            Event::LeaseMatched { lease, .. } => {
                let p = params(state);
                self.all.entry(*lease).or_default().shares = Some((p.provider_ppm, p.model_ppm));
                self.open.insert(*lease);
            }
            Event::Service(ServiceEvent::LeaseMoved { lease, past, generation, .. }) => self.moved(state, lease, past, *generation),
            Event::LeaseSettled { lease, settlement, .. } => self.settled(state, lease, settlement),
            _ => {}
        }
    }

    /// What was claimed of the generation before goes with its record; the new one begins with nothing.
    fn moved(&mut self, state: &MemoryState, id: &LeaseId, past: &LeaseId, generation: u32) {
        let old = self.all.remove(id).expect("a lease that moved was matched");
        assert_eq!(old.generation.max(1) + 1, generation, "{id:?}: generations follow one another");
        let (root, before) = (query::lease(state, id).expect("a lease"), query::lease(state, past).expect("a generation"));
        assert_ne!(root.node, before.node, "{id:?}: moved to where it was");
        let fresh = Claims { generation, shares: old.shares, ..Claims::default() };
        self.all.insert(*id, fresh);
        self.all.insert(*past, Claims { last_seen: None, ..old });
        self.open.insert(*past);
    }

    fn settled(&mut self, state: &MemoryState, id: &LeaseId, s: &Settlement) {
        let record = query::lease(state, id).expect("a settled lease has a record");
        let claims = self.all.entry(*id).or_default();
        claims.settled += 1;
        assert_eq!(claims.settled, 1, "{id:?} settled twice");
        let (started, confirmed, claimed) = (claims.started, claims.confirmed, claims.claimed);
        assert_eq!(s.charged.checked_add(s.refunded), Some(record.escrow), "{id:?}: charge and refund are the escrow");
        let parts = [s.to_provider, s.to_treasury, s.to_model, s.withheld];
        let sum: u128 = parts.iter().map(|a| a.0).sum();
        assert_eq!(sum, s.charged.0, "{id:?}: the shares are the charge");
        let (provider, model) = claims.shares.unwrap_or_default();
        let due = s.charged.0 - s.withheld.0;
        let (p, m) = if record.model.is_some() { (provider, model) } else { (provider + model, 0) };
        let share = |ppm: u32| due * u128::from(ppm) / 1_000_000;
        assert_eq!((s.to_provider.0, s.to_model.0), (share(p), share(m)), "{id:?}: shares of the match, rounded down");
        assert!(s.billed_ms.0 <= claimed, "{id:?}: billed more than was ever claimed");
        assert!(s.billed_ms <= record.max_duration, "{id:?}: billed past the cap");
        // Service is paid for the time that is billed, at the rate of the match, rounded down.
        let most = record.rate_per_hour.0 * u128::from(s.billed_ms.0 + s.billed_build_ms.0) / 3_600_000;
        assert!(due <= most, "{id:?}: {due} for {} ms at {}", s.billed_ms.0, record.rate_per_hour.0);
        self.only_what_is_proven(state, &record, s.billed_ms, started);
        if record.disputed && record.ripened.served.0 == 0 {
            let reach = params(state).epoch.0 * 2;
            let certain = claimed.saturating_sub(reach).max(confirmed);
            assert!(s.billed_ms.0 <= certain, "{id:?}: disputed service was paid");
        }
        let unconfirmed = matches!(s.confirmed_by, ConfirmedBy::User | ConfirmedBy::Watcher(_));
        assert!(!unconfirmed || confirmed >= s.billed_ms.0, "{id:?}: the receipt names who never confirmed it");
        assert_eq!(record.held, Amount::ZERO);
    }

    /// Billed time fits into the epochs whose heartbeat was seen (or that a later one vouches for after a halt), and in which
    /// no audit had failed.
    fn only_what_is_proven(&self, state: &MemoryState, lease: &Lease, billed: Millis, started: Option<Timestamp>) {
        let Some(started) = started else {
            assert_eq!(billed.0, 0, "{:?}: billed without usage", lease.id);
            return;
        };
        let zone = query::zone(state).unwrap();
        let failed = query::node_audit(state, &lease.node).map(|a| a.failed).unwrap_or_default();
        let claims = &self.all[&lease.id];
        let end = started.plus(Millis(claims.claimed));
        let end = lease.closing.as_ref().map_or(end, |c| end.min(c.at.plus(Millis(2_000))));
        let mut proven = 0;
        let mut at = started;
        while at < end {
            let epoch = zone.epoch_of(at);
            let stop = zone.epoch_start(epoch + 1).min(end);
            let voucher = self.epochs.range(epoch..).next();
            let shown =
                voucher.is_some_and(|e| self.beats.contains(&(lease.node, *e)) && !failed.iter().any(|(a, b)| (*a..*b).contains(e)));
            // What was paid before a failure came to light stays paid: only what no payment preceded is held against it.
            if shown || (voucher.is_some_and(|e| self.beats.contains(&(lease.node, *e))) && !lease.paid.provider.is_zero()) {
                proven += stop.since(at).0;
            }
            at = stop;
        }
        assert!(billed.0 <= proven, "{:?}: billed {} ms, proven at most {proven}", lease.id, billed.0);
    }

    /// The end of a block.
    pub(super) fn judge(&mut self, state: &MemoryState, now: Timestamp) {
        for id in self.open.clone() {
            let lease = query::lease(state, &id).expect("leases stay");
            self.judge_lease(&lease, now);
            if lease.state == LeaseState::Closed {
                self.open.remove(&id);
            }
        }
    }

    fn judge_lease(&mut self, lease: &Lease, now: Timestamp) {
        let claims = self.all.entry(lease.id).or_default();
        if claims.generation > 1 && claims.last_seen.is_none() && matches!(lease.role, Role::Primary) {
            // A generation begins where a standby was taken over.
            claims.last_seen = Some(LeaseState::Matched);
        }
        if claims.last_seen != Some(lease.state) {
            assert!(may(claims.last_seen, lease.state, lease.role), "{:?}: {:?} > {:?}", lease.id, claims.last_seen, lease.state);
            claims.last_seen = Some(lease.state);
        }
        let paid = lease.paid.provider.0 + lease.paid.treasury.0 + lease.paid.model.0;
        assert!(paid >= claims.paid, "{:?}: a payment was taken back", lease.id);
        claims.paid = paid;
        assert!(paid + lease.held.0 <= lease.escrow.0, "{:?}: paid more than was put on hold", lease.id);
        // Whatever is said, nobody is paid for time that has not passed since the lease was taken (and the slack of clocks).
        let since = lease.accepted_at.unwrap_or(lease.matched_at);
        let building = lease.last_claim().build.0;
        let most = lease.rate_per_hour.0 * u128::from(now.since(since).0 + 4_000 + building) / 3_600_000 + 2;
        assert!(paid <= most, "{:?}: paid {paid} where {most} is the most that time allows", lease.id);
        let node = lease.node;
        assert!(lease.watch.is_none_or(|w| PublicKey::from(node).account() != w.account), "a node watches itself");
    }
}
