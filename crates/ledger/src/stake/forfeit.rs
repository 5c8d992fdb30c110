//! What a fault costs: deposits are forfeited and the provider suspended. Spec: `docs/specs/stake.md` §4.
//!
//! Guarantees: the own deposit pays first, then what of it is on its way back, then the sponsors by their parts, whether
//! they stay or leave; nobody pays more than it has; what is taken is what arrives. It does not judge: its callers do.

use super::{Jail, Sponsorship, Start, Tranche, node_bond, put_node_bond, save, save_sponsorship, sponsors, total};
use crate::bank;
use crate::env::Env;
use crate::tables::{self, put_provider};
use pasture_types::event::Event;
use pasture_types::stake::{DepositEvent, Fault, Forfeit, StakeParams};
use pasture_types::state::StateWrite;
use pasture_types::{AccountId, Amount, AssetId, Millis, NodeId};

const PPM: u128 = 1_000_000;

/// Takes from what stands.
pub(crate) fn take(from: &mut Amount, rest: &mut Amount) -> Amount {
    let cut = (*from).min(*rest);
    *from = from.saturating_sub(cut);
    *rest = rest.saturating_sub(cut);
    cut
}

/// Takes from what is on its way back, what is due first before the rest.
pub(crate) fn take_leaving(from: &mut Vec<Tranche>, rest: &mut Amount) -> Amount {
    let mut cut = Amount::ZERO;
    for tranche in from.iter_mut() {
        cut = cut.saturating_add(take(&mut tranche.amount, rest));
    }
    from.retain(|t| !t.amount.is_zero());
    cut
}

/// A part of an amount, rounded down.
pub(crate) fn part(of: Amount, ppm: u32) -> Amount {
    of.mul_div(u128::from(ppm).min(PPM), PPM).unwrap_or(of)
}

/// Pays out what was forfeited: the reporter's part, the rest to the treasury.
pub(crate) fn pay_out(s: &mut dyn StateWrite, env: &Env, forfeit: &mut Forfeit, reporter: Option<&AccountId>) {
    let taken = forfeit.taken();
    if let Some(reporter) = reporter {
        forfeit.to_reporter = part(taken, env.zone.params.stake.reporter_ppm);
        bank::credit(s, reporter, AssetId::CREDIT, forfeit.to_reporter);
    }
    forfeit.to_treasury = taken.saturating_sub(forfeit.to_reporter);
    bank::to_treasury(s, AssetId::CREDIT, forfeit.to_treasury);
}

fn whole(x: &Sponsorship) -> Amount {
    x.amount.saturating_add(total(&x.leaving))
}

/// Takes from sponsors by their parts of all that they posted; what rounding leaves is taken in the order of their ids.
pub(super) fn take_from_sponsors(all: &mut [Sponsorship], rest: &mut Amount) -> Amount {
    let sum = all.iter().fold(Amount::ZERO, |a, x| a.saturating_add(whole(x)));
    let due = (*rest).min(sum);
    let mut cut = Amount::ZERO;
    // Where the exact product is too large, millionths are exact enough.
    let millionths = |x: Amount| x.mul_div(PPM, sum.0).and_then(|p| due.mul_div(p.0, PPM));
    let fair_of = |x: Amount| due.mul_div(x.0, sum.0).or_else(|| millionths(x)).unwrap_or(Amount::ZERO);
    let fair: Vec<Amount> = all.iter().map(|x| fair_of(whole(x))).collect();
    // First everybody's part, then what is left of the sum.
    for parts in [Some(fair), None] {
        for (i, x) in all.iter_mut().enumerate() {
            let left = due.saturating_sub(cut);
            let mut own = parts.as_ref().map_or(left, |p| p.get(i).copied().unwrap_or_default().min(left));
            let standing = take(&mut x.amount, &mut own);
            cut = cut.saturating_add(standing).saturating_add(take_leaving(&mut x.leaving, &mut own));
        }
    }
    *rest = rest.saturating_sub(cut);
    cut
}

/// How much of everything that stands behind a provider is forfeited.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cut {
    /// A part of it, in parts per million.
    Ppm(u32),
    /// So much, or all of it.
    Amount(Amount),
}

/// Forfeits a part of everything that stands behind a provider, in parts per million.
pub(crate) fn slash(
    s: &mut dyn StateWrite,
    env: &Env,
    id: &AccountId,
    amount_ppm: u32,
    fault: Fault,
    reporter: Option<&AccountId>,
    events: &mut Vec<Event>,
) -> Forfeit {
    take_from_all(s, env, id, Cut::Ppm(amount_ppm), fault, reporter, events)
}

/// What a failed audit costs a node beside its pay.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AuditCosts {
    /// What its open leases need of the deposits.
    pub forfeits: bool,
    /// It takes no leases for a while.
    pub suspends: bool,
}

/// What so many failures in a row cost, the last of them by two attempts that show too little work, or not.
#[must_use]
pub fn audit_costs(params: &StakeParams, in_a_row: u32, weak: bool) -> AuditCosts {
    AuditCosts { forfeits: weak, suspends: weak || in_a_row.is_multiple_of(params.failed_audits.max(1)) }
}

/// A node failed an audit and its repetition. Work that it signed, that was seen in time and that was too little, twice, is fraud:
/// what its leases need is forfeited, which is what makes the value limit hold. Without that only so many failures in a row
/// suspend it: being late or silent costs no deposit.
pub(crate) fn audit_failed(s: &mut dyn StateWrite, env: &Env, id: &NodeId, in_a_row: u32, weak: bool, events: &mut Vec<Event>) {
    let Some(node) = tables::node(s, id) else { return };
    let params = env.zone.params.stake;
    let cost = audit_costs(&params, in_a_row, weak);
    if cost.forfeits {
        let needs = node_bond(s, id).locked;
        let _ = take_from_all(s, env, &node.provider, Cut::Amount(needs), Fault::FailedAudit, None, events);
    }
    if cost.suspends {
        jail(s, env, &node.provider, Some(id), params.suspension, Fault::FailedAudit, events);
    }
}

fn take_from_all(
    s: &mut dyn StateWrite,
    env: &Env,
    id: &AccountId,
    cut: Cut,
    fault: Fault,
    reporter: Option<&AccountId>,
    events: &mut Vec<Event>,
) -> Forfeit {
    let mut forfeit = Forfeit::default();
    let Some(mut p) = tables::provider(s, id) else { return forfeit };
    let mut theirs = sponsors(s, id);
    let all = theirs.iter().fold(p.stake.saturating_add(total(&p.bond.leaving)), |a, x| a.saturating_add(whole(x)));
    let mut rest = match cut {
        Cut::Ppm(ppm) => part(all, ppm),
        Cut::Amount(amount) => amount.min(all),
    };
    forfeit.own = take(&mut p.stake, &mut rest);
    forfeit.unbonding = take_leaving(&mut p.bond.leaving, &mut rest);
    // Whoever pays for the fault earns nothing by reporting it.
    let reporter = reporter.filter(|r| *r != id && !theirs.iter().any(|x| x.sponsor == **r));
    let before = theirs.iter().fold(Amount::ZERO, |a, x| a.saturating_add(x.amount));
    forfeit.sponsors = take_from_sponsors(&mut theirs, &mut rest);
    let after = theirs.iter().fold(Amount::ZERO, |a, x| a.saturating_add(x.amount));
    p.bond.sponsored = p.bond.sponsored.saturating_sub(before.saturating_sub(after));
    for x in &theirs {
        save_sponsorship(s, &mut p, x);
    }
    p.bond.forfeited = p.bond.forfeited.saturating_add(forfeit.taken());
    if p.bond.start == Start::Newcomer {
        p.bond.start = Start::Owing;
    }
    save(s, &mut p);
    pay_out(s, env, &mut forfeit, reporter);
    events.push(Event::Deposit(DepositEvent::Forfeited { provider: *id, fault, forfeit }));
    forfeit
}

/// A suspension of now on, never shorter than one in force.
pub(crate) fn jail_for(env: &Env, old: Option<Jail>, length: Millis, fault: Fault) -> Jail {
    let until = env.shifted().plus(length);
    Jail { until_shifted: old.map_or(until, |j| j.until_shifted.max(until)), fault }
}

/// Suspends a provider, or one of its nodes: open leases go on, no new one comes and none is extended.
pub(crate) fn jail(
    s: &mut dyn StateWrite,
    env: &Env,
    id: &AccountId,
    node: Option<&NodeId>,
    length: Millis,
    fault: Fault,
    events: &mut Vec<Event>,
) {
    let jail = match node {
        Some(node) => {
            let mut bond = node_bond(s, node);
            let jail = jail_for(env, bond.jail, length, fault);
            bond.jail = Some(jail);
            put_node_bond(s, node, &bond);
            jail
        }
        None => {
            let Some(mut p) = tables::provider(s, id) else { return };
            let jail = jail_for(env, p.bond.jail, length, fault);
            p.bond.jail = Some(jail);
            put_provider(s, id, &p);
            jail
        }
    };
    let until = jail.until_shifted.plus(env.clock.halted);
    events.push(Event::Deposit(DepositEvent::Suspended { provider: *id, node: node.copied(), until, fault }));
}
