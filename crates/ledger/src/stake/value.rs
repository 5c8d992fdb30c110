//! How much value a provider may hold under its deposit. Spec: `docs/specs/stake.md` §3.
//!
//! Guarantees: what a lease needs is fixed when it is matched (and anew when it is extended) and given back exactly when it
//! is settled, over all nodes of the provider together; needs round up, room rounds down. It chooses no offer.

use super::{LEASE_NEED, LeaseNeed, Start, node_bond, provider, put_node_bond};
use crate::env::Env;
use crate::error::TxError;
use crate::records::{Lease, Provider};
use crate::seams::{self, Capacity};
use crate::settle::INTERIM_EPOCHS;
use crate::tables::{self, get, key, put, put_provider};
use pasture_types::state::{StateRead, StateWrite};
use pasture_types::{AccountId, Amount, AssetId, LeaseId, Millis, NodeId};

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

/// The deposit that a rate needs: `rate x unsettled x 2 / chance`; `None` if no deposit is enough.
pub(crate) fn needs(env: &Env, chance_ppm: u32, rate: Amount) -> Option<Amount> {
    if rate.is_zero() {
        return Some(Amount::ZERO);
    }
    let value = mul_div_up(rate, u128::from(unsettled(env).0), HOUR_MS)?;
    mul_div_up(value, 2 * PPM, u128::from(chance_ppm))
}

/// The highest rate that a free deposit takes; its need is never more than that deposit.
pub(super) fn rate_under(env: &Env, chance_ppm: u32, free: Amount) -> Amount {
    let value = free.mul_div(u128::from(chance_ppm), 2 * PPM);
    value.and_then(|v| v.mul_div(HOUR_MS, u128::from(unsettled(env).0))).unwrap_or(Amount::ZERO)
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

pub(crate) fn suspended(s: &dyn StateRead, env: &Env, id: &AccountId, node: &NodeId) -> bool {
    let good = tables::provider(s, id).is_some_and(|p| p.bond.jail.is_none() && in_standing(env, &p));
    !good || node_bond(s, node).jail.is_some()
}

pub(crate) fn rate_room(s: &dyn StateRead, env: &Env, id: &AccountId, node: &NodeId) -> Amount {
    let Some(p) = tables::provider(s, id) else { return Amount::ZERO };
    // A newcomer has nothing to lose but its next lease: without its capacity it gets none.
    if is_newcomer(env, &p) && seams::capacity(s, env, node, env.epoch()) == Capacity::Failed {
        return Amount::ZERO;
    }
    let chance = seams::audit_chance_ppm(s, env, node);
    rate_under(env, chance, counted(env, &p, chance).saturating_sub(p.bond.locked))
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
    let chance = seams::audit_chance_ppm(s, env, &lease.node);
    // Without any chance of an audit only a rate of nothing is matched, which needs nothing.
    let rate = seams::value_in_credits(env, lease.asset, lease.rate_per_hour).unwrap_or(lease.rate_per_hour);
    let needs = needs(env, chance, rate).unwrap_or(Amount::ZERO);
    let need = LeaseNeed { provider: lease.provider, node: lease.node, rate_per_hour: rate, needs };
    put(s, need_key(&lease.id), &need);
    count(s, &need, Amount::saturating_add);
}

/// A lease was settled, or its match undone.
pub(crate) fn closed(s: &mut dyn StateWrite, id: &LeaseId) {
    if let Some(need) = lease_need(s, id) {
        s.delete(&need_key(id));
        count(s, &need, Amount::saturating_sub);
    }
}

/// More time for a lease is taken like a match: under the deposit, the chance and the suspensions of now.
pub(crate) fn extend(s: &mut dyn StateWrite, env: &Env, lease: &Lease) -> Result<(), TxError> {
    if suspended(s, env, &lease.provider, &lease.node) {
        let hint = "its open leases go on, but none is extended; place a new order";
        return Err(TxError::BadState { what: "the provider", state: "suspended or without its deposit".into(), hint });
    }
    let p = provider(s, &lease.provider)?;
    let chance = seams::audit_chance_ppm(s, env, &lease.node);
    let has = counted(env, &p, chance);
    let others = p.bond.locked.saturating_sub(lease_need(s, &lease.id).map_or(Amount::ZERO, |n| n.needs));
    let rate = seams::value_in_credits(env, lease.asset, lease.rate_per_hour).ok_or(TxError::AmountTooLarge)?;
    let needs = needs(env, chance, rate).and_then(|n| others.checked_add(n)).ok_or(TxError::AmountTooLarge)?;
    if needs > has {
        return Err(TxError::ValueLimit { needs, has });
    }
    closed(s, &lease.id);
    opened(s, env, lease);
    Ok(())
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
