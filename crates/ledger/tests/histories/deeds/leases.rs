//! A lease's life: answers, usage, heartbeats, ends, extensions, notices.

use super::Deed;
use super::market::HASHES_PER_S;
use crate::climate::START;
use crate::zone::{Machine, Zone};
use pasture_ledger::{Lease, Role, query};
use pasture_types::bundle::{BundledUsage, Confirmed, Confirmer, Known, UsageBundle};
use pasture_types::keys::Signature;
use pasture_types::lease::{Countersignature, EndReason, LeaseState, SignedUsage, Usage};
use pasture_types::market::Term;
use pasture_types::market_rules::MarketAction;
use pasture_types::proof::{HEARTBEAT_SHARES, Heartbeat, ResourceClass, heartbeat_hashes, heartbeat_seed, share_hash};
use pasture_types::service::ServiceAction;
use pasture_types::tx::Action;
use pasture_types::{AccountId, Amount, BlobHash, LeaseId, Millis, NodeId, Timestamp};

/// Leases that a maker looks at, newest first.
const LOOKS_AT: usize = 24;
pub(super) const LIVE: [LeaseState; 2] = [LeaseState::Accepted, LeaseState::Running];

/// A recent lease that fits, or now and then any.
pub(super) fn some_lease(zone: &mut Zone, fits: impl Fn(&Lease) -> bool) -> Option<Lease> {
    let ids: Vec<LeaseId> = zone.seen.leases.iter().rev().take(LOOKS_AT).copied().collect();
    let all: Vec<_> = ids.iter().filter_map(|id| query::lease(&zone.state, id)).collect();
    let fitting: Vec<_> = all.iter().filter(|l| fits(l)).cloned().collect();
    // Now and then one that does not fit; but mostly nothing is done where there is none.
    if zone.rng.once_in(16) { zone.rng.pick(&all).cloned() } else { zone.rng.pick(&fitting).cloned() }
}

fn in_state(zone: &mut Zone, states: &[LeaseState]) -> Option<Lease> {
    some_lease(zone, |l| states.contains(&l.state))
}

/// As the node, as its provider, or as somebody who may not.
fn for_node(zone: &mut Zone, lease: &Lease, action: Action) -> Option<Deed> {
    match zone.rng.below(14) {
        0 => {
            let who = zone.someone();
            Some(zone.by(&who, vec![action]))
        }
        1 | 2 => {
            let who = zone.key_of(&lease.provider).cloned()?;
            Some(zone.by(&who, vec![action]))
        }
        _ => {
            let m = zone.machine_of(&lease.node).cloned()?;
            Some(zone.by_node(&m, vec![action]))
        }
    }
}

fn for_user(zone: &mut Zone, lease: &Lease, action: Action) -> Option<Deed> {
    let who = if zone.rng.once_in(12) { zone.someone() } else { zone.key_of(&lease.account).cloned()? };
    Some(zone.by(&who, vec![action]))
}

pub(super) fn accept(zone: &mut Zone) -> Option<Deed> {
    let lease = in_state(zone, &[LeaseState::Matched])?;
    for_node(zone, &lease, Action::AcceptLease { lease: lease.id })
}

pub(super) fn reject(zone: &mut Zone) -> Option<Deed> {
    let lease = in_state(zone, &[LeaseState::Matched])?;
    for_node(zone, &lease, Action::RejectLease { lease: lease.id })
}

/// What the node of a lease would truthfully say now, or a bit more or less.
fn statement(zone: &mut Zone, lease: &Lease) -> Usage {
    let accepted = lease.accepted_at.unwrap_or(zone.now);
    let named = (lease.usage_id(), lease.generation);
    let began = zone.seen.started.get(&named).copied().or(lease.started_at.filter(|_| lease.last_claim().served.0 > 0));
    let started = began.unwrap_or_else(|| accepted.plus(Millis(zone.now.since(accepted).0 / 4)));
    let end = lease.closing.as_ref().map_or(zone.now, |c| c.at);
    let mut served = end.since(started).0.min(lease.max_duration.0);
    if zone.rng.once_in(4) {
        served /= 2;
    }
    let last = lease.last_claim();
    let served = served.max(if zone.rng.once_in(3) { 0 } else { last.served.0 });
    let build = last.build.0.max(if zone.rng.once_in(3) { started.since(accepted).0 } else { 0 });
    let steal = last.steal.0.max(if zone.rng.once_in(6) { served / 50 } else { 0 });
    let zone_record = query::zone(&zone.state).expect("a zone");
    Usage {
        lease: lease.usage_id(),
        generation: lease.generation,
        epoch: zone_record.epoch_of(started.plus(Millis(served))).max(lease.last.as_ref().map_or(0, |u| u.epoch)),
        started,
        served_ms: Millis(served),
        build_ms: Millis(build),
        log_root: BlobHash([0; 32]),
        log_bytes: lease.last.as_ref().map_or(0, |u| u.log_bytes),
        steal_ms: Millis(steal),
    }
}

fn countersigned(zone: &Zone, by: &AccountId, usage: &Usage) -> Option<Countersignature> {
    let key = zone.signer(by)?;
    Some(Countersignature { account: *by, key: key.public(), signature: key.sign(&usage.counter_digest()) })
}

fn signed(zone: &Zone, lease: &Lease, usage: Usage, by: Option<AccountId>) -> Option<Action> {
    let machine = zone.machine_of(&lease.node).cloned()?;
    let countersignature = match by {
        Some(by) => Some(countersigned(zone, &by, &usage)?),
        None => None,
    };
    let node_signature = machine.key.sign(&usage.digest());
    Some(Action::SubmitUsage { usage: Box::new(SignedUsage { usage, node: lease.node, node_signature, countersignature }) })
}

pub(super) fn usage(zone: &mut Zone) -> Option<Deed> {
    let lease = in_state(zone, &[LeaseState::Accepted, LeaseState::Running, LeaseState::Closing])?;
    let usage = statement(zone, &lease);
    let watcher = lease.watch.map(|w| w.account);
    let by = match zone.rng.below(6) {
        0 | 1 => None,
        2 | 3 if watcher.is_some() => watcher,
        4 if zone.rng.once_in(8) => Some(zone.someone().account()),
        _ => Some(lease.account),
    };
    let action = signed(zone, &lease, usage, by)?;
    for_node(zone, &lease, action)
}

/// What a node says of all its leases at once.
pub(super) fn bundle(zone: &mut Zone) -> Option<Deed> {
    let m = busy(zone);
    let epoch = query::zone(&zone.state)?.epoch_of(zone.now) + 1;
    let mut usages = vec![];
    for lease in query::open_leases_of_node(&zone.state, &m.key.node_id()) {
        if lease.accepted_at.is_none() {
            continue;
        }
        let usage = statement(zone, &lease);
        let by = match zone.rng.below(4) {
            0 => None,
            1 if lease.watch.is_some() => Some(Confirmer::Watcher),
            _ => Some(Confirmer::User),
        };
        let account = if by == Some(Confirmer::Watcher) { lease.watch?.account } else { lease.account };
        let key = zone.signer(&account)?;
        let number = zone.keys_of(&account).iter().position(|k| *k == key.public())? as u8;
        let confirmed = by.map(|by| Confirmed { by, key: number, signature: key.sign(&usage.counter_digest()) });
        let known = Known { lease: lease.id, generation: lease.generation, started: lease.started_at, last: lease.last.as_ref() };
        usages.push(BundledUsage::pack(&usage, epoch, &known, confirmed));
    }
    let action = ServiceAction::Usage(UsageBundle { epoch, usages });
    Some(zone.by_node(&m, vec![Action::Service(Box::new(action))]))
}

pub(super) fn wrong_usage(zone: &mut Zone) -> Option<Deed> {
    let taken_over = |l: &Lease| l.generation > 1 && LIVE.contains(&l.state);
    let lease = some_lease(zone, taken_over).filter(|_| zone.height.is_multiple_of(2)).or_else(|| in_state(zone, &LIVE))?;
    let mut usage = statement(zone, &lease);
    match zone.rng.below(9) {
        // A bit too early: fair for a first generation, whose clock may be behind.
        7 | 8 => usage.started = Timestamp(usage.started.0.min(lease.accepted_at?.0) - 900),
        0 => usage.served_ms = Millis(usage.served_ms.0 + 3_600_000),
        1 => usage.generation += 1,
        2 => usage.started = Timestamp(START),
        3 => usage.epoch += 7,
        4 => usage.served_ms = Millis(0),
        5 => usage.steal_ms = Millis(usage.served_ms.0 + 1),
        _ => usage.build_ms = Millis(u64::MAX),
    }
    let mut action = signed(zone, &lease, usage, Some(lease.account))?;
    if zone.rng.once_in(4)
        && let Action::SubmitUsage { usage } = &mut action
    {
        usage.node_signature = Signature::Ed25519([1; 64]);
    }
    for_node(zone, &lease, action)
}

pub(super) fn shares(zone: &Zone, node: &NodeId, randomness: &[u8; 32], epoch: u64) -> Vec<u64> {
    let seed = heartbeat_seed(randomness, node, ResourceClass::Cpu, 0, epoch);
    let hashes = heartbeat_hashes(HASHES_PER_S, zone.genesis.params.heartbeat_work) as u64;
    let mut all: Vec<_> = (0..hashes.max(HEARTBEAT_SHARES as u64)).map(|n| (share_hash(&seed, n), n)).collect();
    all.sort_unstable();
    all.into_iter().take(HEARTBEAT_SHARES).map(|(_, n)| n).collect()
}

/// A machine that has something to prove.
pub(super) fn busy(zone: &mut Zone) -> Machine {
    let busy: Vec<Machine> =
        zone.machines.iter().filter(|m| !query::open_leases_of_node(&zone.state, &m.key.node_id()).is_empty()).cloned().collect();
    if busy.is_empty() { zone.machine() } else { busy[zone.rng.below(busy.len() as u64) as usize].clone() }
}

fn beat(zone: &mut Zone, spoil: bool) -> Option<Deed> {
    let epochs = query::open_epochs(&zone.state);
    let epoch = zone.rng.pick(&epochs).copied()?;
    let m = if spoil { zone.machine() } else { busy(zone) };
    let node = m.key.node_id();
    if !spoil && query::has_heartbeat(&zone.state, &node, epoch.number) && !zone.rng.once_in(10) {
        return None;
    }
    let nonces = shares(zone, &node, &epoch.randomness.0, epoch.number);
    let mut heartbeat = Heartbeat { node, class: ResourceClass::Cpu, device: 0, epoch: epoch.number, nonces };
    if spoil {
        match zone.rng.below(5) {
            0 => heartbeat.nonces.reverse(),
            1 => heartbeat.epoch += 1_000,
            2 => heartbeat.class = ResourceClass::Gpu,
            3 => drop(heartbeat.nonces.pop()),
            _ => heartbeat.epoch = heartbeat.epoch.saturating_sub(4),
        }
    }
    Some(zone.by_node(&m, vec![Action::SubmitHeartbeat { heartbeat }]))
}

pub(super) fn heartbeat(zone: &mut Zone) -> Option<Deed> {
    beat(zone, false)
}

pub(super) fn wrong_beat(zone: &mut Zone) -> Option<Deed> {
    beat(zone, true)
}

pub(super) fn close(zone: &mut Zone) -> Option<Deed> {
    let told = zone.now;
    let ripe = |l: &Lease| l.tenure.preempt_shifted.is_some_and(|at| at <= told);
    let lease = match zone.rng.below(3) {
        0 => some_lease(zone, |l| LIVE.contains(&l.state) && ripe(l))?,
        _ => in_state(zone, &[LeaseState::Accepted, LeaseState::Running, LeaseState::Matched])?,
    };
    if zone.rng.once_in(2) && !ripe(&lease) {
        let reason = match zone.rng.below(8) {
            0 | 1 => EndReason::ServiceStopped,
            2 => EndReason::OutOfMemory,
            _ => EndReason::StoppedByUser,
        };
        return for_user(zone, &lease, Action::CloseLease { lease: lease.id, reason });
    }
    let code = zone.rng.below(3) as i32;
    let reasons = [
        EndReason::Exited { code },
        EndReason::Exited { code },
        EndReason::OutOfMemory,
        EndReason::BuildFailed,
        EndReason::StartFailed,
        EndReason::StoppedByProvider,
        EndReason::CapReached,
        EndReason::NoSpec,
        EndReason::Preempted,
    ];
    let at = if ripe(&lease) { 8 } else { zone.rng.below(9) as usize };
    for_node(zone, &lease, Action::CloseLease { lease: lease.id, reason: reasons[at].clone() })
}

pub(super) fn object(zone: &mut Zone) -> Option<Deed> {
    let lease = some_lease(zone, |l| {
        matches!(l.state, LeaseState::Running | LeaseState::Closing) && !l.disputed && l.last_claim() != l.accepted_claim()
    })?;
    for_user(zone, &lease, Action::Object { lease: lease.id })
}

pub(super) fn extend(zone: &mut Zone) -> Option<Deed> {
    // Where a sponsor left, the deposit does not carry what it carried.
    let all = zone.accounts.iter().filter_map(|k| query::provider(&zone.state, &k.account()));
    let short: Vec<_> = all.filter(|p| p.bond.locked > p.stake.saturating_add(p.bond.sponsored)).map(|p| p.account).collect();
    let bare = |l: &Lease| short.contains(&l.provider);
    let live = |l: &Lease| LIVE.contains(&l.state) && l.role == Role::Primary;
    let lease = some_lease(zone, |l| live(l) && bare(l)).or_else(|| some_lease(zone, live))?;
    let duration = match (lease.tenure.term, zone.rng.below(6)) {
        (_, 0) => Millis(0),
        (_, 1) => Millis::secs(100_000_000),
        (Term::Rental { .. }, 2..=4) => Millis::secs(3_600),
        (_, n) => Millis::secs(30 * n),
    };
    for_user(zone, &lease, Action::Extend { lease: lease.id, duration })
}

pub(super) fn top_up(zone: &mut Zone) -> Option<Deed> {
    let lease = some_lease(zone, |l| LIVE.contains(&l.state) && l.tenure.term == Term::Open)?;
    let amount = Amount(u128::from(zone.rng.below(5)) * 20_000_000);
    for_user(zone, &lease, Action::Market(MarketAction::TopUp { lease: lease.id, amount }))
}

pub(super) fn stop_renewal(zone: &mut Zone) -> Option<Deed> {
    let lease = some_lease(zone, |l| LIVE.contains(&l.state) && l.tenure.renew)?;
    for_user(zone, &lease, Action::Market(MarketAction::StopRenewal { lease: lease.id }))
}

pub(super) fn preempt(zone: &mut Zone) -> Option<Deed> {
    let lease = some_lease(zone, |l| LIVE.contains(&l.state) && l.tenure.preemptible && l.tenure.preempt_shifted.is_none())?;
    for_node(zone, &lease, Action::Market(MarketAction::Preempt { lease: lease.id }))
}
