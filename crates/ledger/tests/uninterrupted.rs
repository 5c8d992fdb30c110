//! Leases that must not be disturbed: no audit meanwhile, and a deposit for all that goes unaudited. Spec: `docs/specs/stake.md` §3,
//! `docs/specs/audits.md` §2.

#![cfg(test)]

mod audit_common;
mod common;

use audit_common::*;
use common::*;
use pasture_ledger::query::deposits;
use pasture_ledger::*;
use pasture_types::audit::*;
use pasture_types::genesis::Params;
use pasture_types::lease::EndReason;
use pasture_types::market::OrderTerms;
use pasture_types::tx::*;
use pasture_types::*;

const HOUR: u64 = 3_600_000;

fn quiet(w: &World, ms: u64) -> OrderTerms {
    OrderTerms { uninterrupted: true, max_duration: Millis(ms), ..w.order_terms() }
}

fn bond(w: &World) -> NodeBond {
    deposits::node_bond(&w.state, &w.node.node_id())
}

/// What a rate needs for a time: twice its value, by the chance.
fn needs(w: &World, rate: Amount, ms: u64) -> Amount {
    let value = (rate.0 * u128::from(ms)).div_ceil(u128::from(HOUR));
    let chance = u128::from(w.genesis.params.stake.audit_chance_ppm);
    Amount((value * 2_000_000).div_ceil(chance))
}

/// The service that can be undecided, and the longest time that a lease of this length keeps audits off.
fn times(p: &Params, ms: u64) -> (u64, u64) {
    let unsettled = (15 + p.objection_epochs + p.heartbeat_grace_epochs + 1) * p.epoch.0;
    (unsettled, ms + p.start_window.0 + 3 * p.epoch.0)
}

fn rich(mut w: World) -> World {
    let provider = w.provider.clone();
    w.act(&provider, vec![Action::Stake { amount: Amount::credits(50) }]).unwrap();
    w
}

#[test]
fn nobody_is_audited_while_a_lease_must_not_be_disturbed() {
    let mut w = rich(world(4, params()));
    assert_eq!(w.audited(BURST_HASHES), Verdict::Passed);
    let first = w.accepted(quiet(&w, 600_000));
    // What was drawn before runs out; then nothing is.
    w.wait_beating(20_000);
    while let Some(open) = w.open() {
        w.run(&open, BURST_HASHES, &|_| Word::InTime);
        w.until(open.number);
    }
    let before = query::audit_state(&w.state).next;
    w.wait_beating(120_000);
    assert_eq!(query::audit_state(&w.state).next, before);
    assert_eq!(bond(&w).quiet, 1);
    w.user_act(vec![Action::CloseLease { lease: first, reason: EndReason::StoppedByUser }]).unwrap();
    assert_eq!((bond(&w).quiet, bond(&w).quiet_until_shifted), (0, Timestamp(0)), "at once, not when it is settled");
    w.accepted(w.order_terms());
    assert_eq!(w.audited(BURST_HASHES), Verdict::Passed, "and the next tick finds it");
}

#[test]
fn its_epochs_are_paid_and_say_unaudited_once_the_last_audit_stands_no_more() {
    let mut p = params();
    p.audits.stands_epochs = 2;
    let mut w = rich(world(4, p));
    assert_eq!(w.audited(BURST_HASHES), Verdict::Passed);
    let id = w.accepted(quiet(&w, 600_000));
    let started = w.now;
    w.wait_beating(60_000);
    w.confirmed(&id, started, 60_000).unwrap();
    w.close_by_node(&id);
    w.wait_beating(10_000);
    let s = w.lease(&id).settlement.unwrap();
    assert_eq!((s.billed_ms, s.audited), (Millis(60_000), false));
    assert_eq!(s.epochs_proven, s.epochs);
}

#[test]
fn its_whole_length_is_unaudited_value_and_so_is_what_else_is_there() {
    let mut w = rich(World::offered());
    let p = w.genesis.params.clone();
    let (unsettled, length) = times(&p, HOUR);
    let plain = w.accepted(w.order_terms());
    let rate = w.lease(&plain).rate_per_hour;
    assert_eq!(bond(&w).locked, needs(&w, rate, unsettled));
    // It answers for itself and for what it keeps audits off.
    let room = deposits::rate_room(&w.state, &w.node.node_id()).unwrap();
    let long = w.accepted(quiet(&w, HOUR));
    let mine = needs(&w, rate, unsettled + length).saturating_add(needs(&w, rate, length));
    assert_eq!(deposits::lease_need(&w.state, &long).unwrap().needs, mine);
    assert_eq!(bond(&w).locked, needs(&w, rate, unsettled).saturating_add(mine));
    assert!(deposits::rate_room(&w.state, &w.node.node_id()).unwrap() < room);
    // Whoever comes while it is there is unaudited for as long as it stays.
    let left = bond(&w).quiet_until_shifted.since(w.now.plus(Millis(30))).0;
    let third = w.accepted(w.order_terms());
    let got = deposits::lease_need(&w.state, &third).unwrap().needs;
    assert!(got > needs(&w, rate, left - 1_000) && got <= needs(&w, rate, unsettled + left + 1_000), "{got:?}");
    // A second one, no longer than the first, takes nothing more of the others.
    let short = w.accepted(quiet(&w, 60_000));
    let got = deposits::lease_need(&w.state, &short).unwrap().needs;
    assert!(got <= needs(&w, rate, unsettled + length), "{got:?}");
}

/// Attack: shield a machine by a small lease of one's own, and lease out the rest under the usual deposit.
#[test]
fn a_shield_costs_the_deposit_for_everything_behind_it() {
    let mut w = World::offered();
    // A deposit of one credit carries a credit an hour for the usual time, and not for a day.
    let terms = OrderTerms { max_duration: Millis(20 * HOUR), budget: Amount::credits(30), ..quiet(&w, 20 * HOUR) };
    let order = w.place(terms);
    w.wait(5_000);
    assert!(query::lease_of_order(&w.state, &order).is_none(), "twenty hours without an audit are worth twenty credits");
    w.user_act(vec![Action::CancelOrder { order }]).unwrap();
    w.accepted(w.order_terms());
    let tiny = Resources { cpu_millis: 1, memory_bytes: 1 << 20, ..Resources::default() };
    let shield = OrderTerms { resources: tiny, max_duration: Millis(20 * HOUR), ..quiet(&w, 20 * HOUR) };
    let order = w.place(shield);
    w.wait(5_000);
    assert!(query::lease_of_order(&w.state, &order).is_none(), "it would answer for the lease that is there");
}

#[test]
fn nobody_hides_from_its_first_audit() {
    let mut w = rich(world(4, params()));
    let order = w.place(quiet(&w, 60_000));
    w.wait(1_000);
    assert!(query::lease_of_order(&w.state, &order).is_none());
    assert_eq!(w.audited(BURST_HASHES), Verdict::Passed);
    let order = w.place(quiet(&w, 60_000));
    w.idle();
    w.wait(100);
    assert!(query::lease_of_order(&w.state, &order).is_some());
}

#[test]
fn an_extension_is_measured_by_its_whole_length() {
    let mut w = rich(World::offered());
    let p = w.genesis.params.clone();
    let id = w.accepted(quiet(&w, HOUR));
    let rate = w.lease(&id).rate_per_hour;
    w.user_act(vec![Action::Extend { lease: id, duration: Millis(HOUR) }]).unwrap();
    let (unsettled, length) = times(&p, 2 * HOUR);
    let got = deposits::lease_need(&w.state, &id).unwrap().needs;
    assert!(got >= needs(&w, rate, unsettled + length), "{got:?}");
    w.user_act(vec![Action::Transfer { to: w.user.account(), asset: AssetId::CREDIT, amount: Amount::ZERO }]).unwrap();
    let too_long = w.user_act(vec![Action::Extend { lease: id, duration: Millis(20 * HOUR) }]);
    assert!(
        matches!(too_long, Err(TxError::ValueLimit { .. } | TxError::InsufficientBalance { .. })) || bond(&w).locked > got,
        "{too_long:?}"
    );
}

/// An extension that is refused leaves what the lease held: also where no transaction is undone, at a renewal by the ledger.
#[test]
fn a_refused_extension_changes_nothing() {
    let mut w = World::offered();
    let provider = w.provider.clone();
    w.act(&provider, vec![Action::Stake { amount: Amount::credits(1) }]).unwrap();
    let id = w.accepted(quiet(&w, 60_000));
    let before = (bond(&w), deposits::lease_need(&w.state, &id));
    let refused = w.user_act(vec![Action::Extend { lease: id, duration: Millis(23 * HOUR) }]);
    assert!(matches!(refused, Err(TxError::ValueLimit { .. })), "{refused:?}");
    assert_eq!((bond(&w), deposits::lease_need(&w.state, &id)), before);
}
