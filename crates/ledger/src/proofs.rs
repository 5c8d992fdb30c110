//! Epochs and heartbeats: which epochs are recorded, which shares are taken, what they prove. Spec: `docs/specs/proofs.md`.
//!
//! Guarantees: a heartbeat counts once, for an epoch whose randomness the ledger published, within its deadline. It does not
//! pay: see `settle`.

use crate::apply::Tx;
use crate::env::Env;
use crate::error::TxError;
use crate::records::Epoch;
use crate::tables::{self, HEARTBEAT, LEASE_OPEN, epoch_key, key, keys_between, keys_with, put, tail_id};
use crate::{lease, seams};
use pasture_types::event::{Event, Hash32};
use pasture_types::lease::LeaseState;
use pasture_types::proof::{Heartbeat, ResourceClass, heartbeat_seed, threshold, verify_shares};
use pasture_types::service::MAX_HALT_GRACE;
use pasture_types::state::{StateRead, StateWrite};
use pasture_types::{LeaseId, Millis, NodeId, Timestamp};

/// Most leases of a node that a heartbeat sends to settlement at once; the rest settle on their timers.
const MAX_LEASES_PER_HEARTBEAT: usize = 256;
/// Most old epochs and heartbeats that one block deletes.
const MAX_PRUNED_PER_BLOCK: usize = 256;

/// Records the epoch of now, once, while any lease is accepted or running.
pub(crate) fn record_epoch(s: &mut dyn StateWrite, env: &Env, randomness: &[u8; 32], events: &mut Vec<Event>) {
    let number = env.epoch();
    if tables::counts(s).live == 0 || tables::epoch(s, number).is_some() {
        return;
    }
    let grace = env.zone.params.heartbeat_grace_epochs;
    let deadline = env.zone.epoch_start(number.saturating_add(1).saturating_add(grace));
    let epoch = Epoch { number, randomness: Hash32(*randomness), recorded_at: env.now(), deadline_shifted: env.shift(deadline) };
    put(s, epoch_key(number), &epoch);
    events.push(Event::EpochStarted { epoch: number, randomness: epoch.randomness });
}

fn heartbeat_key(epoch: u64, node: &NodeId, class: ResourceClass, device: u16) -> Vec<u8> {
    key(HEARTBEAT, &[&epoch.to_be_bytes(), &node.0, &[class as u8], &device.to_be_bytes()])
}

/// Whether a heartbeat of the node's CPU is recorded for an epoch.
pub(crate) fn has_heartbeat(s: &dyn StateRead, node: &NodeId, epoch: u64) -> bool {
    s.get(&heartbeat_key(epoch, node, ResourceClass::Cpu, 0)).is_some()
}

pub(crate) fn submit_heartbeat(s: &mut dyn StateWrite, tx: &mut Tx<'_>, heartbeat: &Heartbeat) -> Result<(), TxError> {
    let id = heartbeat.node;
    let node = tables::node(s, &id).ok_or_else(|| TxError::unknown("node", &id))?;
    if node.provider != tx.account || tx.node.is_some_and(|n| n != id) {
        return Err(TxError::NotYours("the node"));
    }
    if heartbeat.class != ResourceClass::Cpu || heartbeat.device != 0 {
        return Err(TxError::NotActive("heartbeats of other devices than the CPU are"));
    }
    let epoch = tables::epoch(s, heartbeat.epoch)
        .ok_or(TxError::Heartbeat("the ledger has no such period; wait until it has started, or compute the current one"))?;
    if tx.env.shifted() > epoch.deadline_shifted {
        return Err(TxError::Heartbeat("it is too late for this period; go on with the current one"));
    }
    if s.get(&heartbeat_key(epoch.number, &id, heartbeat.class, heartbeat.device)).is_some() {
        return Err(TxError::Heartbeat("this period's is recorded already"));
    }
    let open = keys_with(s, &key(LEASE_OPEN, &[&id.0]), MAX_LEASES_PER_HEARTBEAT);
    let open: Vec<_> = open.iter().filter_map(|k| tables::lease(s, &LeaseId(tail_id(k)?))).collect();
    if !open.iter().any(|l| l.state != LeaseState::Matched) {
        return Err(TxError::Heartbeat("the node has no lease; nothing is to be proven"));
    }
    let seed = heartbeat_seed(&epoch.randomness.0, &id, heartbeat.class, heartbeat.device, epoch.number);
    // The node hashed by what held when the period began.
    let work = seams::params_at(s, tx.env, epoch.recorded_at).heartbeat_work;
    let limit = threshold(node.declaration.cpu_hashes_per_s, work);
    verify_shares(&seed, &heartbeat.nonces, limit).map_err(TxError::Shares)?;
    put(s, heartbeat_key(epoch.number, &id, heartbeat.class, heartbeat.device), &tx.env.clock.height);
    for mut l in open.into_iter().filter(|l| l.state == LeaseState::Closing) {
        lease::set_timer(s, &mut l, Some(tx.env.shifted()));
        tables::put_lease(s, &l.id, &l);
    }
    tx.events.push(Event::HeartbeatRecorded { node: id, epoch: epoch.number });
    Ok(())
}

/// What is known of a node in an epoch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum EpochProof {
    /// Its heartbeat is in.
    Proven,
    /// It is not, and it is too late.
    Missing,
    /// It may still come until then (less halts).
    Open(Timestamp),
}

/// Whether a node's heartbeat vouches for an epoch, and which recorded epoch says so. An epoch without a block (a halt) is
/// vouched for by the first recorded one after it, if a recorded one lies at most `grace` epochs before it.
pub(crate) fn epoch_proof(s: &dyn StateRead, env: &Env, node: &NodeId, number: u64, grace: u32) -> (EpochProof, u64) {
    let record = tables::epoch(s, number).or_else(|| within_grace(s, number, grace).then(|| first_epoch_from(s, number)).flatten());
    let by = record.map_or(number, |e| e.number);
    match record {
        Some(e) if has_heartbeat(s, node, e.number) => (EpochProof::Proven, by),
        Some(e) if env.shifted() <= e.deadline_shifted => (EpochProof::Open(e.deadline_shifted.plus(Millis(1))), by),
        _ => (EpochProof::Missing, by),
    }
}

/// Whether a halt had lasted at most so many epochs when this one came.
fn within_grace(s: &dyn StateRead, number: u64, grace: u32) -> bool {
    let from = number.saturating_sub(u64::from(grace));
    !keys_between(s, &epoch_key(from), &epoch_key(number), 1).is_empty()
}

/// The latest recorded epochs whose heartbeats can come no more, newest first, at most `limit`, none before `from`.
pub(crate) fn decided_epochs(s: &dyn StateRead, env: &Env, from: u64, limit: usize) -> Vec<u64> {
    let window = (limit as u64).saturating_add(env.zone.params.heartbeat_grace_epochs).saturating_add(2);
    let start = from.max(env.epoch().saturating_sub(window));
    let keys = keys_between(s, &epoch_key(start), &[tables::EPOCH + 1], usize::try_from(window).unwrap_or(usize::MAX).saturating_add(1));
    let decided = keys.iter().filter_map(|k| tables::get::<Epoch>(s, k)).filter(|e| e.deadline_shifted < env.shifted());
    let mut numbers: Vec<u64> = decided.map(|e| e.number).collect();
    numbers.reverse();
    numbers.truncate(limit);
    numbers
}

fn first_epoch_from(s: &dyn StateRead, number: u64) -> Option<Epoch> {
    let found = keys_between(s, &epoch_key(number), &[tables::EPOCH + 1], 1);
    found.first().and_then(|k| tables::get(s, k))
}

/// Deletes epochs and heartbeats that no settlement can ask for any more.
pub(crate) fn prune(s: &mut dyn StateWrite, env: &Env) {
    let params = &env.zone.params;
    let keep_from = if tables::counts(s).open == 0 {
        env.epoch()
    } else {
        // An open lease began at most so long ago: its service, its windows, and the halts that lengthened them.
        let windows =
            env.epochs(params.objection_epochs.saturating_add(params.heartbeat_grace_epochs).saturating_add(u64::from(MAX_HALT_GRACE)));
        let max_lease = seams::longest_lease(s, env);
        let longest = Millis(max_lease.0.saturating_add(params.start_window.0).saturating_add(windows.0));
        let halted = env.clock.halted;
        env.zone.epoch_of(Timestamp(env.now().0.saturating_sub(longest.0.saturating_mul(2)).saturating_sub(halted.0)))
    };
    let mut left = MAX_PRUNED_PER_BLOCK;
    for table in [tables::EPOCH, HEARTBEAT] {
        let old = keys_between(s, &[table], &key(table, &[&keep_from.to_be_bytes()]), left);
        left = left.saturating_sub(old.len());
        for k in old {
            s.delete(&k);
        }
    }
}
