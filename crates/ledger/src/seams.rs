//! Where the modules of the rules ask each other: one function a question, answered by the module that owns the answer.
//!
//! Guarantees: `market`, `lease` and `settle` name no other module's tables; whoever changes an answer changes it here or
//! behind it. It decides nothing by itself.

use crate::env::Env;
use crate::records::Lease;
use crate::tables::{VALIDATOR, get, keys_with, tail_id};
use pasture_types::event::Settlement;
use pasture_types::state::{StateRead, StateWrite};
use pasture_types::tx::Action;
use pasture_types::{AccountId, Amount, AssetId, NodeId};

/// Asked at each match and by `explain`: whether a provider or node is suspended and takes no new leases.
pub(crate) fn suspended(_s: &dyn StateRead, _env: &Env, _provider: &AccountId, _node: &NodeId) -> bool {
    false
}

/// Asked at each match and by `explain`: the highest rate per hour that a node may still take on under its deposit, beside
/// what it holds; `None` without a bound.
pub(crate) fn rate_room(_s: &dyn StateRead, _env: &Env, _provider: &AccountId, _node: &NodeId) -> Option<Amount> {
    None
}

/// Asked by the score: a provider's standing in parts per million; half for one of whom nothing is known.
pub(crate) fn reputation_ppm(_s: &dyn StateRead, _env: &Env, _provider: &AccountId) -> u64 {
    500_000
}

/// What stands behind a node's declared capacity in an epoch, besides its heartbeat.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(dead_code, reason = "the audits construct the rest")]
pub(crate) enum Capacity {
    /// Its co-signed benchmark only: no audit rule is active, or none was due yet.
    Unaudited,
    /// The last audit stands.
    Audited,
    /// An audit of this node is open; look again after this time (less halts).
    Open(pasture_types::Timestamp),
    /// The last audit failed.
    Failed,
}

/// Asked by settlement for each epoch of service.
pub(crate) fn capacity(_s: &dyn StateRead, _env: &Env, _node: &NodeId, _epoch: u64) -> Capacity {
    Capacity::Unaudited
}

/// Asked by settlement for each epoch of a lease with GPUs: what stands behind the GPUs. A CPU's verdict says nothing of them.
pub(crate) fn gpu_capacity(_s: &dyn StateRead, _env: &Env, _node: &NodeId, _epoch: u64) -> Capacity {
    Capacity::Unaudited
}

/// Asked when observers are drawn and when they report: the seated validators and their operators, at most `limit`.
pub(crate) fn seated(s: &dyn StateRead, limit: usize) -> Vec<([u8; 32], AccountId)> {
    let keys = keys_with(s, &[VALIDATOR], limit);
    keys.iter().filter_map(|k| Some((tail_id(k)?, get(s, k)?))).collect()
}

/// Asked when observers are drawn: the randomness of draws that come after what they decide was committed.
pub(crate) fn draw_randomness(_s: &dyn StateRead, _env: &Env, of_block: &[u8; 32]) -> [u8; 32] {
    *of_block
}

/// Asked before a watcher's word counts: the accounts that put up a provider's deposit besides itself.
pub(crate) fn sponsors(_s: &dyn StateRead, _env: &Env, _provider: &AccountId) -> Vec<AccountId> {
    Vec::new()
}

/// Told once for each lease that is settled with service in dispute: it counts against both reputations. `shown`: a watcher's
/// evidence shows the failure, so that it counts against the provider alone.
pub(crate) fn objected(_s: &mut dyn StateWrite, _env: &Env, _lease: &Lease, _shown: bool) {}

/// Asked when earnings are paid out: how much of them is kept back for the provider's missing deposit (and moved there).
pub(crate) fn keep_for_deposit(_s: &mut dyn StateWrite, _env: &Env, _provider: &AccountId, _asset: AssetId, _earned: Amount) -> Amount {
    Amount::ZERO
}

/// Told once when a lease is settled.
pub(crate) fn settled(_s: &mut dyn StateWrite, _env: &Env, _lease: &Lease, _settlement: &Settlement) {}

/// Asked before each action: whether the guardian's pause holds it back.
pub(crate) fn paused(_s: &dyn StateRead, _env: &Env, _action: &Action) -> bool {
    false
}
