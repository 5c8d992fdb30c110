//! How much value a provider may hold under its deposit. Spec: `docs/specs/stake.md` §3.
//!
//! Guarantees: what a lease needs is fixed when it is matched (and anew when it is extended) and given back exactly when it
//! is settled, over all nodes of the provider together; needs round up, room rounds down. It chooses no offer.

use super::{LEASE_NEED, LeaseNeed, NodeBond, Start, node_bond, provider, put_node_bond};
use crate::env::Env;
use crate::error::TxError;
use crate::lease::END_GRACE_EPOCHS;
use crate::records::{Lease, Provider};
use crate::seams::{self, Capacity};
use crate::settle::INTERIM_EPOCHS;
use crate::tables::{self, get, key, put, put_provider};
use pasture_types::state::{StateRead, StateWrite};
use pasture_types::{AccountId, Amount, AssetId, LeaseId, Millis, NodeId, Timestamp};

const PPM: u128 = 1_000_000;
const HOUR_MS: u128 = 3_600_000;

/// The longest service of a lease whose payment can be undecided: an interim period, the window in which nobody objects, and
/// the time in which its heartbeats may still come.
pub(crate) fn unsettled(env: &Env) -> Millis {
    let params = &env.zone.params;
    env.epochs(INTERIM_EPOCHS.saturating_add(params.objection_epochs).saturating_add(params.heartbeat_grace_epochs).saturating_add(1))
}

fn mul_div_up(a: Amount, num: u128, den: u128) -> Option<Amount> {
    let product = a.0.checked_mul(num)?;
    if den == 0 { None } else { Some(Amount(product.div_ceil(den))) }
}

/// How long a machine may go unaudited for a lease of this length that must not be disturbed: until the ledger ends it.
fn quiet_time(env: &Env, length: Millis) -> Millis {
    Millis(length.0.saturating_add(env.zone.params.start_window.0).saturating_add(env.epochs(END_GRACE_EPOCHS).0))
}

/// Time that adds up.
const fn and(a: Millis, b: Millis) -> Millis {
    Millis(a.0.saturating_add(b.0))
}

/// The deposit that a rate needs for so long: `rate x time x 2 / chance`; `None` if no deposit is enough.
fn needs_for(chance_ppm: u32, rate: Amount, time: Millis) -> Option<Amount> {
    if rate.is_zero() || time.0 == 0 {
        return Some(Amount::ZERO);
    }
    let value = mul_div_up(rate, u128::from(time.0), HOUR_MS)?;
    mul_div_up(value, 2 * PPM, u128::from(chance_ppm))
}

/// The deposit that a rate needs where audits are not held off.
pub(crate) fn needs(env: &Env, chance_ppm: u32, rate: Amount) -> Option<Amount> {
    needs_for(chance_ppm, rate, unsettled(env))
}

/// The highest rate that a free deposit takes for so long; its need is never more than that deposit.
fn rate_for(chance_ppm: u32, free: Amount, time: Millis) -> Amount {
    let value = free.mul_div(u128::from(chance_ppm), 2 * PPM);
    value.and_then(|v| v.mul_div(HOUR_MS, u128::from(time.0))).unwrap_or(Amount::ZERO)
}

/// The same where audits are not held off.
#[cfg(test)]
pub(super) fn rate_under(env: &Env, chance_ppm: u32, free: Amount) -> Amount {
    rate_for(chance_ppm, free, unsettled(env))
}

/// What a match on a node leaves unaudited for how long.
struct Unaudited {
    /// What it takes on itself.
    own: Millis,
    /// By how much longer than before what the node holds already goes unaudited.
    others: Millis,
}

/// A lease that must not be disturbed for `quiet` keeps audits off its whole machine: it answers for what else is there, too.
fn unaudited(env: &Env, on: &NodeBond, quiet: Option<Millis>) -> Unaudited {
    let left = on.quiet_until_shifted.since(env.shifted());
    let until = quiet.map_or(left, |length| left.max(quiet_time(env, length)));
    Unaudited { own: and(unsettled(env), until), others: Millis(until.0.saturating_sub(left.0)) }
}

/// Whether a node's machine is not to be disturbed now.
pub(crate) fn quiet(s: &dyn StateRead, node: &NodeId) -> bool {
    node_bond(s, node).quiet > 0
}

/// A lease holds its node's machine.
pub(crate) fn held(s: &mut dyn StateWrite, lease: &Lease) {
    if lease.uninterrupted {
        let mut bond = node_bond(s, &lease.node);
        bond.quiet = bond.quiet.saturating_add(1);
        put_node_bond(s, &lease.node, &bond);
    }
}

/// It gave it back.
pub(crate) fn freed(s: &mut dyn StateWrite, lease: &Lease) {
    if lease.uninterrupted {
        let mut bond = node_bond(s, &lease.node);
        bond.quiet = bond.quiet.saturating_sub(1);
        if bond.quiet == 0 {
            bond.quiet_until_shifted = Timestamp::default();
        }
        put_node_bond(s, &lease.node, &bond);
    }
}

/// How long a lease keeps audits off, if it does: while it holds the machine.
fn quiet_length(lease: &Lease, total: Millis) -> Option<Millis> {
    (lease.uninterrupted && lease.holds_resources()).then_some(total)
}

/// What a lease of this whole length needs beside what its node holds without it.
fn lease_needs(s: &dyn StateRead, env: &Env, lease: &Lease, total: Millis) -> Option<(Amount, Amount)> {
    let rate = seams::value_in_credits(env, lease.asset, lease.rate_per_hour)?;
    let chance = seams::audit_chance_ppm(s, env, &lease.node);
    let on = node_bond(s, &lease.node);
    let time = unaudited(env, &on, quiet_length(lease, total));
    let own = needs_for(chance, rate, time.own)?;
    Some((rate, own.checked_add(needs_for(chance, on.rate_per_hour, time.others)?)?))
}

/// What stands: the own deposit and the sponsors'.
pub(crate) fn deposit(p: &Provider) -> Amount {
    p.stake.saturating_add(p.bond.sponsored)
}

/// Whether a provider may do without its deposit still: it began so, and committed no fault.
fn is_newcomer(env: &Env, p: &Provider) -> bool {
    p.bond.start == Start::Newcomer && deposit(p) < env.zone.params.min_stake
}

/// Whether it may hold leases at all.
fn in_standing(env: &Env, p: &Provider) -> bool {
    deposit(p) >= env.zone.params.min_stake || is_newcomer(env, p)
}

/// The deposit that counts: what stands or, for a newcomer, what its first rate would need, if that is more.
fn counted(env: &Env, p: &Provider, chance_ppm: u32) -> Amount {
    let has = deposit(p);
    if !in_standing(env, p) {
        return Amount::ZERO;
    }
    if is_newcomer(env, p) { has.max(needs(env, chance_ppm, env.zone.params.stake.newcomer_rate).unwrap_or(Amount::ZERO)) } else { has }
}

/// What stands behind a node, as the market asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Backing {
    /// The node or its provider takes no new leases.
    pub(crate) suspended: bool,
    /// The highest further rate per hour that the deposit covers.
    pub(crate) room: Amount,
}

/// What stands behind a node; its room, in credits, is for a lease that must not be disturbed for `quiet` or may be. A draw asks this of
/// each offer: the records are read once.
pub(crate) fn backing(s: &dyn StateRead, env: &Env, id: &AccountId, node: &NodeId, quiet: Option<Millis>) -> Backing {
    let Some(p) = tables::provider(s, id) else { return Backing { suspended: true, room: Amount::ZERO } };
    let on = node_bond(s, node);
    let suspended = p.bond.jail.is_some() || !in_standing(env, &p) || on.jail.is_some();
    Backing { suspended, room: rate_room(s, env, &p, &on, node, quiet) }
}

fn rate_room(s: &dyn StateRead, env: &Env, p: &Provider, on: &NodeBond, node: &NodeId, quiet: Option<Millis>) -> Amount {
    // A newcomer has nothing to lose but its next lease: without its capacity it gets none.
    if is_newcomer(env, p) && seams::capacity(s, env, node, env.epoch()) == Capacity::Failed {
        return Amount::ZERO;
    }
    // Nobody hides from its first audit behind a lease that must not be disturbed.
    let active = env.zone.params.audits.active;
    if quiet.is_some() && active && seams::capacity(s, env, node, env.epoch()) != Capacity::Audited {
        return Amount::ZERO;
    }
    let chance = seams::audit_chance_ppm(s, env, node);
    let time = unaudited(env, on, quiet);
    let free = counted(env, p, chance).saturating_sub(p.bond.locked);
    let left = needs_for(chance, on.rate_per_hour, time.others).and_then(|others| free.checked_sub(others));
    rate_for(chance, left.unwrap_or_default(), time.own)
}

/// Whether a provider may stand for a price.
pub(crate) fn may_offer(env: &Env, p: &Provider, asset: AssetId) -> Result<(), TxError> {
    if !in_standing(env, p) {
        return Err(TxError::StakeTooSmall { needs: env.zone.params.min_stake, has: deposit(p) });
    }
    if is_newcomer(env, p) && asset != AssetId::CREDIT {
        return Err(TxError::Invalid("a provider without its deposit is paid in credits, of which its deposit is kept".into()));
    }
    Ok(())
}

/// Whether a provider itself may lower its deposit to this.
pub(crate) fn may_lower(p: &Provider, left: Amount) -> Result<(), TxError> {
    if left < p.bond.locked {
        return Err(TxError::DepositInUse { needs: p.bond.locked, left });
    }
    Ok(())
}

/// A newcomer's leases may need more than it has, so it ends them before it takes anything back.
pub(crate) fn may_leave(p: &Provider) -> Result<(), TxError> {
    may_lower(p, Amount::ZERO)
}

fn need_key(lease: &LeaseId) -> Vec<u8> {
    key(LEASE_NEED, &[&lease.0])
}

pub(crate) fn lease_need(s: &dyn StateRead, lease: &LeaseId) -> Option<LeaseNeed> {
    get(s, &need_key(lease))
}

/// Counts a need at the provider and at the node.
fn count(s: &mut dyn StateWrite, need: &LeaseNeed, change: impl Fn(Amount, Amount) -> Amount) {
    if let Some(mut p) = tables::provider(s, &need.provider) {
        p.bond.locked = change(p.bond.locked, need.needs);
        p.bond.rate_per_hour = change(p.bond.rate_per_hour, need.rate_per_hour);
        put_provider(s, &need.provider, &p);
    }
    let mut bond = node_bond(s, &need.node);
    bond.locked = change(bond.locked, need.needs);
    bond.rate_per_hour = change(bond.rate_per_hour, need.rate_per_hour);
    put_node_bond(s, &need.node, &bond);
}

/// A lease was matched: it holds part of the deposit until it is settled.
pub(crate) fn opened(s: &mut dyn StateWrite, env: &Env, lease: &Lease) {
    open_for(s, env, lease, lease.max_duration);
}

fn open_for(s: &mut dyn StateWrite, env: &Env, lease: &Lease, total: Millis) {
    // Without any chance of an audit only a rate of nothing is matched, which needs nothing.
    let (rate, needs) = lease_needs(s, env, lease, total).unwrap_or((lease.rate_per_hour, Amount::ZERO));
    if let Some(length) = quiet_length(lease, total) {
        let mut bond = node_bond(s, &lease.node);
        bond.quiet_until_shifted = bond.quiet_until_shifted.max(env.shifted().plus(quiet_time(env, length)));
        put_node_bond(s, &lease.node, &bond);
    }
    let need = LeaseNeed { provider: lease.provider, node: lease.node, rate_per_hour: rate, needs };
    hold_need(s, &lease.id, &need);
}

fn hold_need(s: &mut dyn StateWrite, lease: &LeaseId, need: &LeaseNeed) {
    put(s, need_key(lease), need);
    count(s, need, Amount::saturating_add);
}

/// A lease was settled, or its match undone.
pub(crate) fn closed(s: &mut dyn StateWrite, id: &LeaseId) {
    if let Some(need) = lease_need(s, id) {
        s.delete(&need_key(id));
        count(s, &need, Amount::saturating_sub);
    }
}

/// More time for a lease is taken like a match: under the deposit, the chance and the suspensions of now.
pub(crate) fn extend(s: &mut dyn StateWrite, env: &Env, lease: &Lease, total: Millis) -> Result<(), TxError> {
    if backing(s, env, &lease.provider, &lease.node, None).suspended {
        let hint = "its open leases go on, but none is extended; place a new order";
        return Err(TxError::BadState { what: "the provider", state: "suspended or without its deposit".into(), hint });
    }
    let p = provider(s, &lease.provider)?;
    let chance = seams::audit_chance_ppm(s, env, &lease.node);
    let has = counted(env, &p, chance);
    // Without this lease the node holds so much less.
    let held = lease_need(s, &lease.id);
    closed(s, &lease.id);
    let others = provider(s, &lease.provider)?.bond.locked;
    let needs = lease_needs(s, env, lease, total).and_then(|(_, n)| others.checked_add(n)).ok_or(TxError::AmountTooLarge);
    match needs {
        Ok(needs) if needs <= has => {
            open_for(s, env, lease, total);
            Ok(())
        }
        refused => {
            // A renewal is no transaction that would be undone: what the lease held, it holds again.
            if let Some(held) = held {
                hold_need(s, &lease.id, &held);
            }
            Err(refused.map_or_else(|error| error, |needs| TxError::ValueLimit { needs, has }))
        }
    }
}

/// How much of a newcomer's earnings goes to its deposit, and puts it there.
pub(crate) fn keep_back(s: &mut dyn StateWrite, env: &Env, id: &AccountId, asset: AssetId, earned: Amount) -> Amount {
    let Some(mut p) = tables::provider(s, id) else { return Amount::ZERO };
    let missing = env.zone.params.min_stake.saturating_sub(if cfg!(mutant_4) { p.stake } else { deposit(&p) });
    let kept = earned.min(missing);
    if asset != AssetId::CREDIT || !matches!(p.bond.start, Start::Newcomer | Start::Owing) || kept.is_zero() {
        return Amount::ZERO;
    }
    p.stake = p.stake.saturating_add(kept);
    p.bond.withheld = p.bond.withheld.saturating_add(kept);
    if deposit(&p) >= env.zone.params.min_stake {
        p.bond.start = Start::Over;
    }
    crate::registry::save_provider(s, &p);
    kept
}
