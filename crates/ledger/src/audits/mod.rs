//! Capacity audits: who is audited when and by whom, what was said about it, what follows. Spec: `docs/specs/audits.md`.
//!
//! ```text
//!  roster --tick, draw--> open(1) --deadline--> Passed | Void
//!                            |                  Contradicted
//!                            +-- failed --> waits for randomness --> open(2) --deadline--> Passed | Failed | Void | Contradicted
//! ```
//! Guarantees: a verdict is a function of the set of statements that came before its deadline, not of their order; a failure
//! costs nothing before all validators have repeated it; each block's work is bounded by named limits. It runs no burst and
//! measures no time: witnesses do, and sign what they saw.

pub(crate) mod check;
mod draw;
mod excess;
mod gpu;
mod judge;
mod memory;
pub(crate) mod query;
mod rate;
pub(crate) mod records;
pub(crate) mod recount;
mod roster;
pub mod rules;
mod say;

pub(crate) use draw::{due, end_block};
pub(crate) use excess::end_youngest;
pub(crate) use gpu::gpu_capacity;
pub(crate) use judge::capacity;
pub(crate) use memory::{both, memory_capacity};
pub(crate) use rate::{declared_anew, within_proven};
pub(crate) use roster::changed;
pub(crate) use say::act;

use crate::env::Env;
use crate::tables::{self, get, key, meta, put};
use pasture_types::audit::AuditAction;
use pasture_types::proof::ResourceClass;
use pasture_types::state::{StateRead, StateWrite};
use pasture_types::{NodeId, Timestamp};
use records::{AuditRecord, AuditState, NodeAudit};

/// node, class, device -> [`NodeAudit`]
pub(crate) const NODE_AUDIT: u8 = 0x58;
/// audit -> [`AuditRecord`]
pub(crate) const AUDIT: u8 = 0x59;
/// deadline (less halts), audit -> nothing, while it is open
pub(crate) const AUDIT_DUE: u8 = 0x5a;
/// slot -> operator: the groups that ticks draw from, numbered without a gap
pub(crate) const SLOT: u8 = 0x5b;
/// operator -> slot
pub(crate) const GROUP: u8 = 0x5c;
/// operator, node -> nothing, while it is on the roster
pub(crate) const MEMBER: u8 = 0x5d;
/// place, node -> nothing, while it is on the roster
pub(crate) const NEIGHBOUR: u8 = 0x5e;
/// time (less halts), node -> nothing: its youngest leases end then
pub(crate) const EXCESS: u8 = 0x5f;
/// height of the failure, node -> nothing, until the audit is repeated
pub(crate) const REPEAT: u8 = 0x60;
/// time (less halts), audit -> nothing: its record is deleted then
pub(crate) const KEEP: u8 = 0x61;
/// Single value: [`AuditState`].
const META_AUDITS: u8 = 0x58;

/// An audit's record is kept so many epochs after its verdict, for evidence.
const KEEP_EPOCHS: u64 = 15;
/// A running lease is paid so often at most; an audit within that time comes before the payout.
const PAYOUT_EPOCHS: u64 = crate::settle::INTERIM_EPOCHS;

fn state(s: &dyn StateRead) -> AuditState {
    get(s, &meta(META_AUDITS)).unwrap_or_default()
}

fn put_state(s: &mut dyn StateWrite, state: &AuditState) {
    put(s, meta(META_AUDITS), state);
}

fn node_audit_key(node: &NodeId) -> Vec<u8> {
    key(NODE_AUDIT, &[&node.0, &[ResourceClass::Cpu as u8], &0u16.to_be_bytes()])
}

fn node_audit(s: &dyn StateRead, node: &NodeId) -> Option<NodeAudit> {
    get(s, &node_audit_key(node))
}

fn put_node_audit(s: &mut dyn StateWrite, record: &NodeAudit) {
    put(s, node_audit_key(&record.node), record);
}

fn audit_key(number: u64) -> Vec<u8> {
    key(AUDIT, &[&number.to_be_bytes()])
}

fn audit(s: &dyn StateRead, number: u64) -> Option<AuditRecord> {
    get(s, &audit_key(number))
}

fn put_audit(s: &mut dyn StateWrite, record: &AuditRecord) {
    put(s, audit_key(record.number), record);
}

/// A key of the queues by time.
fn queue_key(table: u8, at: Timestamp, id: &[u8]) -> Vec<u8> {
    key(table, &[&at.0.to_be_bytes(), id])
}

/// The entries of a queue that are due by a number in their keys.
fn due_keys(s: &dyn StateRead, table: u8, until: u64, limit: usize) -> Vec<Vec<u8>> {
    tables::keys_between(s, &[table], &key(table, &[&until.saturating_add(1).to_be_bytes()]), limit)
}

/// The audit's number at the end of a queue's key.
fn tail_number(k: &[u8]) -> Option<u64> {
    k.last_chunk::<8>().map(|b| u64::from_be_bytes(*b))
}

/// The chance, in parts per million and rounded down, that a group is drawn before its earnings are paid out:
/// `1 - exp(-payout / interval)`. Without active audits there is none to wait for and the answer is one.
pub(crate) fn chance_ppm(env: &Env) -> u32 {
    const ONE: u128 = 1_000_000_000_000;
    /// `(1 + x / 2^HALVINGS) ^ (2^HALVINGS)` is at most `exp(x)`, so the chance comes out no higher than it is.
    const HALVINGS: u32 = 10;
    let params = &env.zone.params.audits;
    if !params.active {
        return 1_000_000;
    }
    let payout = u128::from(env.epochs(PAYOUT_EPOCHS).0);
    // From e^20 on, nothing is left of a millionth.
    let x = (payout * ONE / u128::from(params.interval.0.max(1))).min(20 * ONE);
    let mut grown = ONE + (x >> HALVINGS);
    for _ in 0..HALVINGS {
        grown = grown * grown / ONE;
    }
    let missed = (ONE * 1_000_000).div_ceil(grown.max(ONE));
    u32::try_from(1_000_000u128.saturating_sub(missed)).unwrap_or(0)
}

/// What an audit action costs, in microseconds: measured, see the spec §9.
pub(crate) const fn cost_us(action: &AuditAction) -> u32 {
    /// Verifying one Ed25519 signature.
    const SIGNATURE_US: u32 = 40;
    /// Reading and writing an audit's record for one receipt.
    const RECEIPT_US: u32 = 3;
    /// Hashing an answer's shares, and its part of opening and judging the audit.
    const ANSWER_US: u32 = 20;
    /// What a heartbeat costs by itself.
    const HEARTBEAT_US: u32 = 10;
    /// One entry of a product: 8,192 places of a stream, 40 KB of hashing, at the most.
    const ENTRY_US: u32 = 3_000;
    /// A batch is at most 64 KiB, so that its length fits.
    #[allow(clippy::cast_possible_truncation, reason = "lengths are bounded by the size of a transaction")]
    const fn times(n: usize, us: u32) -> u32 {
        (n as u32).saturating_mul(us)
    }
    match action {
        AuditAction::Receipts { batch, .. } => SIGNATURE_US + times(batch.receipts.len(), RECEIPT_US),
        AuditAction::Answers(answers) => times(answers.len(), SIGNATURE_US + ANSWER_US),
        AuditAction::Contradiction { .. } => 2 * SIGNATURE_US + ANSWER_US,
        AuditAction::Place { signatures, .. } => ANSWER_US + times(signatures.len(), SIGNATURE_US),
        AuditAction::Heartbeats(bundle) => times(bundle.shares.len(), HEARTBEAT_US),
        AuditAction::WrongProduct(_) => ENTRY_US,
    }
}

/// Whether a node's own key may do it.
pub(crate) fn node_may(action: &AuditAction, node: &NodeId) -> bool {
    match action {
        AuditAction::Answers(_) => true,
        AuditAction::Heartbeats(bundle) => bundle.node == *node,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::{Clock, Zone};
    use pasture_types::genesis::Params;
    use pasture_types::{Millis, ZoneId};

    #[test]
    fn the_chance_of_an_audit_before_payout() {
        let chance = |interval: u64, active: bool| {
            let mut params = Params::production();
            params.audits.active = active;
            params.audits.interval = Millis(interval);
            let (id, name, genesis_at, rules_version, validators) = (ZoneId([0; 32]), String::new(), Timestamp(0), 1, 1);
            chance_ppm(&Env { zone: Zone { id, name, genesis_at, rules_version, params, validators }, clock: Clock::default() })
        };
        // Payout after 15 epochs of 60 s: 1 - e^-2, 1 - e^-1, 1 - e^-0.001; a little less, never more.
        for (interval, exact) in [(450_000, 864_664), (900_000, 632_120), (900_000_000, 999)] {
            let got = chance(interval, true);
            assert!(got <= exact && exact - got <= 600, "{got} for {exact}");
        }
        assert!(chance(1, true) >= 999_990 && chance(0, true) >= 999_990);
        assert!(chance(u64::MAX, true) <= 1);
        assert_eq!(chance(450_000, false), 1_000_000, "nothing to wait for");
    }
}
