//! Where the modules of the rules ask each other: one function a question, answered by the module that owns the answer.
//!
//! Guarantees: `market`, `lease` and `settle` name no other module's tables; whoever changes an answer changes it here or
//! behind it. It decides nothing by itself.

use crate::env::Env;
use crate::error::TxError;
use crate::records::Lease;
use crate::{credentials, grants};
use pasture_types::credential::CredentialQuery;
use pasture_types::event::Settlement;
use pasture_types::state::{StateRead, StateWrite};
use pasture_types::tx::Action;
use pasture_types::{AccountId, Amount, AssetId, NodeId, PublicKey};

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

/// Asked when earnings are paid out: how much of them is kept back for the provider's missing deposit (and moved there).
pub(crate) fn keep_for_deposit(_s: &mut dyn StateWrite, _env: &Env, _provider: &AccountId, _asset: AssetId, _earned: Amount) -> Amount {
    Amount::ZERO
}

/// Told once when a lease is settled.
pub(crate) fn settled(_s: &mut dyn StateWrite, _env: &Env, _lease: &Lease, _settlement: &Settlement) {}

/// Told when a channel pays a voucher's growth; `fee` is the treasury's part.
pub(crate) fn channel_paid(_s: &mut dyn StateWrite, _env: &Env, _client: &AccountId, _provider: &AccountId, _asset: AssetId, _fee: Amount) {
}

/// Asked at each match and by `explain`: whether a node or its provider has a credential that an order asks for.
pub(crate) fn has_credential(s: &dyn StateRead, env: &Env, provider: &AccountId, node: &NodeId, query: &CredentialQuery) -> bool {
    credentials::has(s, env, provider, node, query)
}

/// Asked when a watcher's countersignature comes: how much value it may still confirm for the account with this key, which
/// the account's grant names; `None` if it may not confirm at all.
pub(crate) fn watch_left(
    s: &dyn StateRead,
    env: &Env,
    account: &AccountId,
    watcher: &AccountId,
    key: &PublicKey,
    asset: AssetId,
) -> Option<Amount> {
    grants::watch_left(s, env, account, watcher, key, asset)
}

/// Told when a watcher's countersignature is taken: counts the value that it newly confirmed, or refuses it.
#[allow(dead_code, reason = "usage takes no watcher's countersignature yet")]
pub(crate) fn watch_spend(
    s: &mut dyn StateWrite,
    env: &Env,
    account: &AccountId,
    watcher: &AccountId,
    key: &PublicKey,
    asset: AssetId,
    amount: Amount,
) -> Result<(), TxError> {
    grants::watch_spend(s, env, account, watcher, key, asset, amount)
}

/// Asked before each action: whether the guardian's pause holds it back.
pub(crate) fn paused(_s: &dyn StateRead, _env: &Env, _action: &Action) -> bool {
    false
}
