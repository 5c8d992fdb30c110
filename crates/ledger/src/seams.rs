//! Where the modules of the rules ask each other: one function a question, answered by the module that owns the answer.
//!
//! Guarantees: `market`, `lease` and `settle` name no other module's tables; whoever changes an answer changes it here or
//! behind it. It decides nothing by itself.

use crate::env::Env;
use crate::error::TxError;
use crate::records::Lease;
use crate::reputation::records::Role;
use crate::stake::{newcomers, value};
use crate::{governance, reputation, tables};
use pasture_types::event::Settlement;
use pasture_types::genesis::Params;
use pasture_types::governance::AssetTerms;
use pasture_types::state::{StateRead, StateWrite};
use pasture_types::tx::{Action, TxBody};
use pasture_types::{AccountId, Amount, AssetId, Millis, NodeId};

/// Asked at each match and by `explain`: whether a provider or node is suspended and takes no new leases.
pub(crate) fn suspended(s: &dyn StateRead, env: &Env, provider: &AccountId, node: &NodeId) -> bool {
    value::suspended(s, env, provider, node)
}

/// Asked at each match and by `explain`: the highest rate per hour that a node may still take on under its deposit, beside
/// what it holds; `None` without a bound.
pub(crate) fn rate_room(s: &dyn StateRead, env: &Env, provider: &AccountId, node: &NodeId) -> Option<Amount> {
    Some(value::rate_room(s, env, provider, node))
}

/// Asked at each match: the chance, in parts per million, that a node is audited before what it serves now is paid.
pub(crate) fn audit_chance_ppm(_s: &dyn StateRead, env: &Env, _node: &NodeId) -> u32 {
    env.zone.params.stake.audit_chance_ppm
}

/// Told once when a lease is matched: it holds part of its provider's deposit.
pub(crate) fn lease_opened(s: &mut dyn StateWrite, env: &Env, lease: &Lease) {
    value::opened(s, env, lease);
}

/// Told once when a lease is settled or its match undone.
pub(crate) fn lease_closed(s: &mut dyn StateWrite, lease: &Lease) {
    value::closed(s, &lease.id);
}

/// Asked before a lease is extended: whether its provider may still take that on.
pub(crate) fn may_extend(s: &mut dyn StateWrite, env: &Env, lease: &Lease) -> Result<(), TxError> {
    value::extend(s, env, lease)
}

/// Asked of each transaction: how much of its fee is not the payer's to pay.
pub(crate) fn fee_covered(s: &dyn StateRead, env: &Env, body: &TxBody, payer: &AccountId, fee: Amount) -> Result<Amount, TxError> {
    newcomers::covers(s, env, body, payer, fee)
}

/// The same when the fee is charged: takes that part from where it is set aside and puts it to the fees.
pub(crate) fn take_fee_cover(s: &mut dyn StateWrite, env: &Env, body: &TxBody, payer: &AccountId, fee: Amount) -> Result<Amount, TxError> {
    newcomers::take(s, env, body, payer, fee)
}

/// Asked by the score: a provider's standing in parts per million; half for one of whom nothing is known.
pub(crate) fn reputation_ppm(s: &dyn StateRead, env: &Env, provider: &AccountId) -> u64 {
    reputation::score_of(s, env, Role::Provider, provider).ppm
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
pub(crate) fn keep_for_deposit(s: &mut dyn StateWrite, env: &Env, provider: &AccountId, asset: AssetId, earned: Amount) -> Amount {
    value::keep_back(s, env, provider, asset, earned)
}

/// Told once when a lease is settled.
pub(crate) fn settled(s: &mut dyn StateWrite, env: &Env, lease: &Lease, settlement: &Settlement) {
    reputation::settled(s, env, lease, settlement);
}

/// Asked before each action: whether the guardian's pause holds it back.
pub(crate) fn paused(s: &dyn StateRead, env: &Env, action: &Action) -> bool {
    governance::paused(s, env, action)
}

/// Asked by votes: what an account may vote with now, its bonded deposits as a provider and as a validator's operator.
pub(crate) fn voting_power(s: &dyn StateRead, _env: &Env, account: &AccountId) -> Amount {
    tables::provider(s, account).map_or(Amount::ZERO, |p| p.stake)
}

/// Asked by proposals: all of it. Never a scan.
pub(crate) fn total_voting_power(s: &dyn StateRead, _env: &Env) -> Amount {
    governance::total_power(s)
}

/// Told after every change of what [`voting_power`] says of an account, with what it said before: a deposit that grows, shrinks,
/// unbonds or is forfeited. Open votes go on counting what stood when they began; without this call the power would vote twice
/// (`check` finds that out).
pub(crate) fn voting_power_changed(s: &mut dyn StateWrite, env: &Env, account: &AccountId, before: Amount) {
    let after = voting_power(s, env, account);
    governance::power_changed(s, account, before, after);
}

/// Asked by settlement: the parameters that were in force when a lease was matched. A vote on shares changes no lease that runs:
/// its parts are paid as differences of running totals, which must not fall.
pub(crate) fn params_of(s: &dyn StateRead, env: &Env, lease: &Lease) -> Params {
    governance::params_at(s, env, lease.matched_at)
}

/// Asked when old epochs are deleted: the longest lease that may still be open, whatever votes allow now.
pub(crate) fn longest_lease(s: &dyn StateRead, env: &Env) -> Millis {
    env.zone.params.max_lease.max(governance::longest_lease(s))
}

/// Asked by credentials: whether the zone believes an issuer.
#[allow(dead_code, reason = "the credentials ask")]
pub(crate) fn issuer_accepted(s: &dyn StateRead, _env: &Env, issuer: &AccountId) -> bool {
    governance::issuer_since(s, issuer).is_some()
}

/// A vote admits an asset or changes its terms.
pub(crate) fn set_asset(_s: &mut dyn StateWrite, _env: &Env, _asset: AssetId, _terms: &AssetTerms) -> Result<(), TxError> {
    Err(TxError::NotActive("other assets than credits are"))
}
