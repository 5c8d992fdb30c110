//! Where the modules of the rules ask each other: one function a question, answered by the module that owns the answer.
//!
//! Guarantees: `market`, `lease` and `settle` name no other module's tables; whoever changes an answer changes it here or
//! behind it. It decides nothing by itself.

use crate::env::Env;
use crate::records::{Lease, Node};
use crate::{audits, tables};
use pasture_types::event::{Event, Settlement};
use pasture_types::state::{StateRead, StateWrite};
use pasture_types::tx::{Action, NodeDeclaration};
use pasture_types::{AccountId, Amount, AssetId, NodeId, Resources};

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
pub(crate) fn capacity(s: &dyn StateRead, env: &Env, node: &NodeId, epoch: u64) -> Capacity {
    audits::capacity(s, env, node, epoch)
}

/// Asked by the value limit: the chance, in parts per million, that a node is audited before its earnings are paid out.
#[allow(dead_code, reason = "the value limit asks")]
pub(crate) fn audit_chance_ppm(_s: &dyn StateRead, env: &Env, _node: &NodeId) -> u32 {
    audits::chance_ppm(env)
}

/// Asked at the draw: whether a node is not audited now (it holds a lease that must not be disturbed). What it earns
/// meanwhile counts as unaudited value.
pub(crate) fn audit_exempt(_s: &dyn StateRead, _env: &Env, _node: &NodeId) -> bool {
    false
}

/// Asked by draws: randomness mixed from blocks after `height`, of at least f+1 proposers; `None` until there are so many.
/// Here: of the one block after it.
pub(crate) fn beacon(s: &dyn StateRead, env: &Env, height: u64) -> Option<[u8; 32]> {
    if env.clock.height > height { audits::last_randomness(s) } else { None }
}

/// Asked by draws and statements: the seated validators' keys with their operators, ascending by key.
pub(crate) fn seated(s: &dyn StateRead) -> Vec<(NodeId, AccountId)> {
    /// More than any zone seats.
    const MAX_SEATED: usize = 256;
    let keys = tables::keys_with(s, &[tables::VALIDATOR], MAX_SEATED);
    keys.iter().filter_map(|k| Some((NodeId(tables::tail_id(k)?), tables::get(s, k)?))).collect()
}

/// Told once for each proven fraud: whose deposit answers for it, which key signed, and what.
pub(crate) fn slash(_s: &mut dyn StateWrite, _env: &Env, _account: &AccountId, _key: &NodeId, _why: &'static str) {}

/// Told whenever a node's leases or offers change.
pub(crate) fn node_changed(s: &mut dyn StateWrite, node: &NodeId) {
    audits::changed(s, node);
}

/// Told when a node without leases is declared anew.
pub(crate) fn node_declared_anew(s: &mut dyn StateWrite, node: &NodeId, old: &NodeDeclaration, new: &NodeDeclaration) {
    audits::declared_anew(s, node, old, new);
}

/// Asked at each match and by `explain`: cuts what a node offers to what its audits have left.
pub(crate) fn within_proven(s: &dyn StateRead, node: &Node, offered: &mut Resources) {
    audits::within_proven(s, node, offered);
}

/// Told a while after a node was de-rated: ends its youngest leases until the rest fits; whether another block must go on.
pub(crate) fn end_youngest(s: &mut dyn StateWrite, env: &Env, node: &NodeId, events: &mut Vec<Event>) -> bool {
    audits::end_youngest(s, env, node, events)
}

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
