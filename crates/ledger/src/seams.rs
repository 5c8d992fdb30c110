//! Where the modules of the rules ask each other: one function a question, answered by the module that owns the answer.
//!
//! Guarantees: `market`, `lease` and `settle` name no other module's tables; whoever changes an answer changes it here or
//! behind it. It decides nothing by itself.

use crate::env::Env;
use crate::error::TxError;
use crate::records::{Lease, Node, Offer};
use crate::reputation::records::Side;
use crate::service::assets;
use crate::stake::value::Backing;
use crate::stake::{forfeit, newcomers, value};
use crate::validators::{self, beacon};
use crate::{audits, credentials, governance, grants, reputation, tables};
use pasture_types::credential::CredentialQuery;
use pasture_types::event::{Event, Settlement};
use pasture_types::genesis::Params;
use pasture_types::governance::AssetTerms;
use pasture_types::market::OrderTerms;
use pasture_types::service::ServiceParams;
use pasture_types::stake::Fault;
use pasture_types::state::{StateRead, StateWrite};
use pasture_types::tx::{Action, NodeDeclaration, TxBody};
use pasture_types::{AccountId, Amount, AssetId, Millis, NodeId, PublicKey, Resources, Timestamp};

/// Asked at each match and by `explain`: whether an offer's provider or node is suspended and takes no new leases, and the highest rate
/// per hour, in the asset of the offer, that the node may still take on under its deposit, beside what it holds.
pub(crate) fn backing(s: &dyn StateRead, env: &Env, offer: &Offer, terms: &OrderTerms) -> Backing {
    let quiet = terms.uninterrupted.then_some(terms.max_duration);
    let backing = value::backing(s, env, &offer.provider, &offer.node, quiet);
    Backing { room: credits_in(env, offer.terms.asset, backing.room), ..backing }
}

/// Told once when a lease is matched: it holds part of its provider's deposit.
pub(crate) fn lease_opened(s: &mut dyn StateWrite, env: &Env, lease: &Lease) {
    value::opened(s, env, lease);
}

/// Told once when a lease is settled or its match undone.
pub(crate) fn lease_closed(s: &mut dyn StateWrite, lease: &Lease) {
    value::closed(s, &lease.id);
}

/// Asked before a lease is extended to a whole length: whether its provider may still take that on.
pub(crate) fn may_extend(s: &mut dyn StateWrite, env: &Env, lease: &Lease, total: Millis) -> Result<(), TxError> {
    value::extend(s, env, lease, total)
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
    reputation::score_of(s, env, Side::Provider, provider).ppm
}

/// What stands behind a node's declared capacity in an epoch, besides its heartbeat.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Capacity {
    /// Its co-signed benchmark only: no audit rule is active, or none was due yet.
    Unaudited,
    /// The last audit stands.
    Audited,
    /// An audit of this node is open; look again after this time (less halts).
    Open(Timestamp),
    /// The last audit failed.
    Failed,
}

/// Asked by settlement for each epoch of service.
pub(crate) fn capacity(s: &dyn StateRead, env: &Env, node: &NodeId, epoch: u64) -> Capacity {
    audits::capacity(s, env, node, epoch)
}

/// Asked by the value limit: the chance, in parts per million, that a node is audited before its earnings are paid out. Where no
/// audits are active, a parameter stands for it.
pub(crate) fn audit_chance_ppm(_s: &dyn StateRead, env: &Env, _node: &NodeId) -> u32 {
    if env.zone.params.audits.active { audits::chance_ppm(env) } else { env.zone.params.stake.audit_chance_ppm }
}

/// Asked at the draw: whether a node is not audited now (it holds a lease that must not be disturbed). What it earns
/// meanwhile counts as unaudited value.
pub(crate) fn audit_exempt(s: &dyn StateRead, node: &NodeId) -> bool {
    value::quiet(s, node)
}

/// Told when a lease begins to hold its node's machine.
pub(crate) fn machine_held(s: &mut dyn StateWrite, lease: &Lease) {
    value::held(s, lease);
}

/// Told when it gives the machine back.
pub(crate) fn machine_freed(s: &mut dyn StateWrite, lease: &Lease) {
    value::freed(s, lease);
}

/// Asked by draws: randomness mixed from blocks after `height`, of at least f+1 proposers; `None` until there are so many.
pub(crate) fn beacon(s: &dyn StateRead, height: u64) -> Option<[u8; 32]> {
    beacon::mix_after(s, height)
}

/// Asked by draws that waited: the first height for which `beacon` may still answer; none answers ever again for one below.
pub(crate) const fn first_with_beacon(env: &Env) -> u64 {
    beacon::first_mixed(env.clock.height)
}

/// Asked by draws and statements: the seated validators' keys with their operators, ascending by key.
pub(crate) fn seated(s: &dyn StateRead) -> Vec<(NodeId, AccountId)> {
    /// More than any zone seats.
    const MAX_SEATED: usize = 256;
    let keys = tables::keys_with(s, &[tables::VALIDATOR], MAX_SEATED);
    keys.iter().filter_map(|k| Some((NodeId(tables::tail_id(k)?), tables::get(s, k)?))).collect()
}

/// Told once for each proven contradiction of a node's statements: its provider's deposit answers for it.
pub(crate) fn node_contradicted(
    s: &mut dyn StateWrite,
    env: &Env,
    provider: &AccountId,
    node: &NodeId,
    reporter: &AccountId,
    events: &mut Vec<Event>,
) {
    let ppm = env.zone.params.stake.equivocation_ppm;
    let _ = forfeit::slash(s, env, provider, ppm, Fault::Equivocation, Some(reporter), events);
    let length = env.zone.params.stake.suspension;
    forfeit::jail(s, env, provider, Some(node), length, Fault::Equivocation, events);
}

/// Told once for each audit that a node failed after its repetition: how many in a row that makes, and whether both attempts show
/// work in time that is too little.
pub(crate) fn audit_failed(s: &mut dyn StateWrite, env: &Env, node: &NodeId, in_a_row: u32, weak: bool, events: &mut Vec<Event>) {
    forfeit::audit_failed(s, env, node, in_a_row, weak, events);
}

/// Told once for each proven contradiction of a validator's statements: its own deposit answers for it.
pub(crate) fn validator_contradicted(s: &mut dyn StateWrite, env: &Env, key: &NodeId, reporter: &AccountId, events: &mut Vec<Event>) {
    let params = &env.zone.params.stake;
    let _ = validators::slash(s, env, key, params.equivocation_ppm, Fault::Equivocation, Some(reporter), events);
    validators::jail(s, env, key, params.suspension, Fault::Equivocation, events);
}

/// Told whenever a node's leases or offers change.
pub(crate) fn node_changed(s: &mut dyn StateWrite, node: &NodeId) {
    audits::changed(s, node);
}

/// Told when a node without leases is declared anew.
pub(crate) fn node_declared_anew(s: &mut dyn StateWrite, node: &NodeId, old: &NodeDeclaration, new: &NodeDeclaration) {
    audits::declared_anew(s, node, old, new);
}

/// Asked at each match and by `explain`: cuts what a node offers to what its audits have left.
pub(crate) fn within_proven(s: &dyn StateRead, env: &Env, node: &Node, offered: &mut Resources) {
    audits::within_proven(s, env, node, offered);
}

/// Told a while after a node was de-rated: ends its youngest leases until the rest fits; whether another block must go on.
pub(crate) fn end_youngest(s: &mut dyn StateWrite, env: &Env, node: &NodeId, events: &mut Vec<Event>) -> bool {
    audits::end_youngest(s, env, node, events)
}

/// Asked by settlement for each epoch of a lease with GPUs: what stands behind the GPUs. A CPU's verdict says nothing of them.
pub(crate) fn gpu_capacity(s: &dyn StateRead, env: &Env, node: &NodeId, epoch: u64) -> Capacity {
    audits::gpu_capacity(s, env, node, epoch)
}

/// Asked by settlement for each epoch of a lease: what stands behind CPU and memory together.
pub(crate) fn cpu_and_memory(s: &dyn StateRead, env: &Env, node: &NodeId, epoch: u64) -> Capacity {
    audits::both(capacity(s, env, node, epoch), audits::memory_capacity(s, env, node, epoch))
}

/// Asked when observers and standbys are drawn for what block `height` committed: the mix of f+1 proposers after it, `None` while they
/// are too few. Only where fewer have proposed in all the blocks that are kept does the block's own randomness stand in.
pub(crate) fn draw_randomness(s: &dyn StateRead, env: &Env, height: u64, of_block: &[u8; 32]) -> Option<[u8; 32]> {
    let too_old = height < first_with_beacon(env);
    beacon::mix_after(s, height).or_else(|| too_old.then_some(*of_block))
}

/// Asked before a watcher's word counts: the accounts that put up a provider's deposit besides itself.
pub(crate) fn sponsors(s: &dyn StateRead, provider: &AccountId) -> Vec<AccountId> {
    crate::stake::sponsors(s, provider).into_iter().map(|x| x.sponsor).collect()
}

/// Asked when earnings are paid out: how much of them is kept back for the provider's missing deposit (and moved there).
pub(crate) fn keep_for_deposit(s: &mut dyn StateWrite, env: &Env, provider: &AccountId, asset: AssetId, earned: Amount) -> Amount {
    value::keep_back(s, env, provider, asset, earned)
}

/// Told once when a lease is settled.
pub(crate) fn settled(s: &mut dyn StateWrite, env: &Env, lease: &Lease, settlement: &Settlement) {
    reputation::settled(s, env, lease, settlement);
    crate::market::history::note(s, lease, settlement);
}

/// Told when a channel pays a voucher's growth; `fee` is the treasury's part.
pub(crate) fn channel_paid(s: &mut dyn StateWrite, env: &Env, client: &AccountId, provider: &AccountId, asset: AssetId, fee: Amount) {
    reputation::channel_paid(s, env, client, provider, asset, fee);
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
pub(crate) fn paused(s: &dyn StateRead, env: &Env, action: &Action) -> bool {
    governance::paused(s, env, action)
}

/// Asked by votes: what an account may vote with now, its bonded deposits as a provider and as a validator's operator.
pub(crate) fn voting_power(s: &dyn StateRead, _env: &Env, account: &AccountId) -> Amount {
    governance::own_power(s, account)
}

/// Asked by proposals: all of it. Never a scan.
pub(crate) fn total_voting_power(s: &dyn StateRead, _env: &Env) -> Amount {
    governance::total_power(s)
}

/// Told after every change of a deposit that votes: one that grows, shrinks, unbonds or is forfeited. Open votes go on counting
/// what stood when they began; without this call the power would vote twice (`check` finds that out).
pub(crate) fn deposit_moved(s: &mut dyn StateWrite, account: &AccountId, from: Amount, to: Amount) {
    governance::power_moved(s, account, from, to);
}

/// Asked by settlement: the parameters that were in force when a lease was matched. A vote on shares changes no lease that runs:
/// its parts are paid as differences of running totals, which must not fall.
pub(crate) fn params_of(s: &dyn StateRead, env: &Env, lease: &Lease) -> Params {
    governance::params_at(s, env, lease.matched_at)
}

/// Asked where somebody worked by the parameters of a moment: those that were in force then, whatever was voted since.
pub(crate) fn params_at(s: &dyn StateRead, env: &Env, at: Timestamp) -> Params {
    governance::params_at(s, env, at)
}

/// Asked when old epochs are deleted: the longest lease that may still be open, whatever votes allow now.
pub(crate) fn longest_lease(s: &dyn StateRead, env: &Env) -> Millis {
    env.zone.params.max_lease.max(governance::longest_lease(s))
}

/// Asked by credentials: whether the zone believes an issuer.
pub(crate) fn issuer_accepted(s: &dyn StateRead, issuer: &AccountId) -> bool {
    governance::issuer_since(s, issuer).is_some()
}

/// Asked by votes that name an asset.
pub(crate) fn asset_known(s: &dyn StateRead, asset: AssetId) -> Result<(), TxError> {
    assets::must_be_known(s, asset)
}

/// Told when a vote changed what elections go by: the next term comes even if nothing else asks for it.
pub(crate) fn election_changed(s: &mut dyn StateWrite) {
    validators::election_changed(s);
}

/// A vote admits an asset or changes its terms.
pub(crate) fn set_asset(s: &mut dyn StateWrite, asset: AssetId, terms: &AssetTerms) -> Result<(), TxError> {
    assets::set(s, asset, terms)
}

/// The same vote says what fees cost in it.
pub(crate) fn set_fee_rate(params: &mut ServiceParams, asset: AssetId, per_credit: Option<Amount>) -> Result<(), TxError> {
    assets::set_fee_rate(params, asset, per_credit)
}

/// Asked by deposits: what an amount of any asset counts in credits, rounded up. Without a rate it counts one to one.
pub(crate) fn value_in_credits(env: &Env, asset: AssetId, amount: Amount) -> Option<Amount> {
    assets::value_in_credits(&env.zone.params.service, asset, amount)
}

/// Asked by deposits: what an amount of credits is in an asset, rounded down, by the same rate.
pub(crate) fn credits_in(env: &Env, asset: AssetId, credits: Amount) -> Amount {
    assets::credits_in(&env.zone.params.service, asset, credits)
}

/// Asked by reputation: what an amount of any asset is worth in credits, rounded down; nothing where no rate is known.
pub(crate) fn worth_in_credits(env: &Env, asset: AssetId, amount: Amount) -> Amount {
    assets::worth_in_credits(&env.zone.params.service, asset, amount)
}
