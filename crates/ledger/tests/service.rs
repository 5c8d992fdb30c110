//! Halts that a node serves through, windows that halts lengthen, jobs whose result is checked, time that checks took. Spec:
//! `docs/specs/settlement.md` §4, §9, §10.

#![cfg(test)]

mod common;
mod crowd;

use common::*;
use crowd::*;
use pasture_ledger::service::query as more;
use pasture_ledger::*;
use pasture_types::event::ConfirmedBy;
use pasture_types::genesis::Params;
use pasture_types::lease::{EndReason, LeaseState};
use pasture_types::market::{Disclose, OrderTerms, Verification};
use pasture_types::service::*;
use pasture_types::tx::Action;
use pasture_types::*;

fn graced(w: &mut World, epochs: u32) {
    let (provider, node) = (w.provider.clone(), w.node.node_id());
    w.act(&provider, vec![act(ServiceAction::SetHaltGrace { node, epochs })]).unwrap();
}

/// A job that serves through a halt of so many epochs, all of it countersigned afterwards, at a node that states so much grace.
fn through_a_halt(grace: u32, halt_epochs: u64) -> (pasture_types::event::Settlement, u64) {
    let mut w = World::offered();
    graced(&mut w, grace);
    let lease = w.accepted(w.order_terms());
    let started = w.now;
    w.wait_beating(7_000);
    w.block(halt_epochs * 5_000, &[]);
    w.wait_beating(6_000);
    let served = w.now.since(started).0;
    w.confirmed(&lease, started, served).unwrap();
    w.close_by_node(&lease);
    w.wait_beating(15_000);
    (w.lease(&lease).settlement.unwrap(), served)
}

#[test]
fn a_halt_is_paid_as_long_as_the_node_states_and_no_longer() {
    let (s, served) = through_a_halt(60, 40);
    assert_eq!((s.billed_ms, s.epochs), (Millis(served), s.epochs_proven), "all of it: {s:?}");
    let (s, _) = through_a_halt(10, 40);
    // Of some forty epochs without a block the first ten are paid.
    let unpaid = s.epochs - s.epochs_proven;
    assert!((28..=31).contains(&unpaid), "{unpaid} of {}", s.epochs);
    let (s, _) = through_a_halt(0, 40);
    assert!(s.epochs - s.epochs_proven >= 38, "{s:?}");
}

#[test]
fn what_a_node_states_later_changes_no_lease() {
    let mut w = World::offered();
    assert_eq!(more::halt_grace(&w.state, &w.node.node_id()), Some(60));
    graced(&mut w, 5);
    let lease = w.accepted(w.order_terms());
    graced(&mut w, 1_000);
    assert_eq!(w.lease(&lease).halt_grace, 5, "fixed at the acceptance: nobody raises it once the halt has come");
    let (user, node) = (w.user.clone(), w.node.node_id());
    assert_eq!(code(w.act(&user, vec![act(ServiceAction::SetHaltGrace { node, epochs: 1 })])), 42);
    let provider = w.provider.clone();
    assert_eq!(code(w.act(&provider, vec![act(ServiceAction::SetHaltGrace { node, epochs: MAX_HALT_GRACE + 1 })])), 5);
    assert_eq!(code(w.node_act(vec![act(ServiceAction::SetHaltGrace { node, epochs: 1 })])), 24);
}

#[test]
fn a_halt_never_pays_beyond_what_is_on_hold() {
    let mut w = World::offered();
    let lease = w.accepted(OrderTerms { max_duration: Millis(20_000), ..w.order_terms() });
    let (started, escrow) = (w.now, w.lease(&lease).escrow);
    w.wait_beating(6_000);
    w.block(200_000, &[]);
    w.wait_beating(6_000);
    let served = w.now.since(started).0;
    w.confirmed(&lease, started, served).unwrap();
    w.close_by_node(&lease);
    w.wait_beating(15_000);
    let s = w.lease(&lease).settlement.unwrap();
    assert_eq!(s.billed_ms, Millis(20_000));
    assert!(s.charged <= escrow);
}

#[test]
fn uncountersigned_service_in_a_halt_waits_for_the_whole_window() {
    let mut w = World::offered();
    let lease = w.accepted(w.order_terms());
    let started = w.now;
    w.wait_beating(7_000);
    w.block(100_000, &[]);
    w.wait_beating(2_000);
    let served = w.now.since(started).0;
    w.bare(&lease, started, served).unwrap();
    w.close_by_node(&lease);
    w.wait_beating(8_000);
    assert_eq!(w.lease(&lease).state, LeaseState::Closing);
    w.wait_beating(8_000);
    let s = w.lease(&lease).settlement.unwrap();
    assert_eq!((s.billed_ms, s.confirmed_by), (Millis(served), ConfirmedBy::NoObjection));
}

#[test]
fn each_window_and_deadline_is_longer_by_a_halt() {
    // The start window, an accept window and a heartbeat's deadline would all have passed.
    let mut params = Params::dev();
    params.start_window = Millis(20_000);
    let mut w = World::with(params, 1);
    w.offer();
    let starting = w.accepted(w.order_terms());
    let order = w.place(w.order_terms());
    w.idle();
    let matched = query::lease_of_order(&w.state, &order).unwrap().id;
    let epoch = w.epoch();
    w.block(60_000, &[]);
    assert_eq!(w.lease(&starting).state, LeaseState::Accepted);
    w.node_act(vec![Action::AcceptLease { lease: matched }]).unwrap();
    let heartbeat = w.shares(epoch);
    w.node_act(vec![Action::SubmitHeartbeat { heartbeat }]).unwrap();
    // And they do end.
    w.wait(25_000);
    assert_eq!(w.lease(&starting).closing.unwrap().reason, EndReason::Lost);
}

#[test]
fn two_halts_lengthen_a_window_twice() {
    let mut w = World::offered();
    let lease = w.accepted(w.order_terms());
    let started = w.now;
    w.wait_beating(6_000);
    w.bare(&lease, started, 6_000).unwrap();
    w.close_by_node(&lease);
    for _ in 0..2 {
        w.block(90_000, &[]);
        w.wait(3_000);
        assert_eq!(w.lease(&lease).state, LeaseState::Closing);
    }
    w.user_act(vec![Action::Object { lease }]).unwrap();
    w.wait(20_000);
    assert_eq!(w.lease(&lease).settlement.unwrap().confirmed_by, ConfirmedBy::Objection);
}

fn checked(verification: Verification, disclose: Disclose) -> impl Fn(&World) -> OrderTerms {
    move |w| OrderTerms { verification, disclose, ..w.order_terms() }
}

fn place(w: &mut World, terms: OrderTerms) -> u16 {
    match w.user_act(vec![Action::PlaceOrder { terms: Box::new(terms) }]) {
        Ok(_) => 0,
        Err(e) => e.code(),
    }
}

#[test]
fn checked_jobs_are_taken_only_where_disputes_can_be_executed() {
    let mut w = World::offered();
    for v in [Verification::Replicate(2), Verification::Audit(10_000)] {
        let terms = checked(v, Disclose::Committee)(&w);
        assert_eq!(place(&mut w, terms), 7);
    }
    let mut params = Params::dev();
    params.service.disputes_active = true;
    let mut w = World::with(params, 1);
    w.offer();
    for (v, d, want) in [
        (Verification::Replicate(2), Disclose::Committee, 0),
        (Verification::Audit(10_000), Disclose::Probe, 0),
        (Verification::Audit(10_000), Disclose::Nobody, 6),
        (Verification::Replicate(2), Disclose::Nobody, 6),
        (Verification::Replicate(1), Disclose::Committee, 6),
        (Verification::Replicate(9), Disclose::Committee, 5),
        (Verification::Audit(0), Disclose::Committee, 6),
        (Verification::Audit(1_000_001), Disclose::Committee, 5),
        (Verification::None, Disclose::Committee, 6),
        (Verification::None, Disclose::Probe, 6),
        (Verification::Tee, Disclose::Committee, 6),
        (Verification::Tee, Disclose::Probe, 6),
        (Verification::Tee, Disclose::Nobody, 7),
        (Verification::Zk, Disclose::Nobody, 7),
    ] {
        let terms = checked(v, d)(&w);
        assert_eq!(place(&mut w, terms), want, "{v:?} {d:?}");
    }
    let user = w.user.account();
    let terms = OrderTerms { watcher: Some(user), ..checked(Verification::None, Disclose::Probe)(&w) };
    assert_eq!(place(&mut w, terms), 0, "a watcher may probe");
    let why = w.user_act(vec![Action::PlaceOrder { terms: Box::new(checked(Verification::Tee, Disclose::Probe)(&w)) }]).unwrap_err();
    assert!(why.to_string().contains("trusted environment discloses its inputs to nobody"), "{why}");
}

#[test]
fn a_checked_job_pays_after_its_dispute_window_and_nothing_before() {
    let mut params = Params::dev();
    params.service.disputes_active = true;
    params.service.dispute_epochs = 6;
    let mut w = World::with(params, 1);
    w.offer();
    let lease = w.accepted(checked(Verification::Replicate(2), Disclose::Committee)(&w));
    let started = w.now;
    // Long enough for a payment in between, were it any other job.
    w.wait_beating(90_000);
    w.confirmed(&lease, started, 90_000).unwrap();
    assert_eq!(w.lease(&lease).paid, Paid::default());
    w.close_by_node(&lease);
    let closed = w.now;
    w.wait_beating(30_000);
    assert_eq!(w.lease(&lease).state, LeaseState::Closing);
    w.wait_beating(20_000);
    let l = w.lease(&lease);
    assert_eq!(l.settlement.unwrap().billed_ms, Millis(90_000));
    assert!(l.closed_at.unwrap().since(closed).0 > 6 * 5_000);
}

#[test]
fn time_that_checks_took_is_on_the_receipt_and_unbilled() {
    let mut w = World::offered();
    let lease = w.accepted(w.order_terms());
    let started = w.now;
    w.wait_beating(20_000);
    let mut usage = w.usage(&lease, started, 20_000);
    usage.steal_ms = Millis(20_001);
    let too_much = w.signed(usage.clone(), true);
    assert_eq!(code(w.node_act(vec![too_much])), 50);
    usage.steal_ms = Millis(3_000);
    let action = w.signed(usage.clone(), true);
    w.node_act(vec![action]).unwrap();
    usage.steal_ms = Millis(2_000);
    let less = w.signed(usage, true);
    assert_eq!(code(w.node_act(vec![less])), 50, "it only grows");
    w.close_by_node(&lease);
    w.wait_beating(10_000);
    let s = w.lease(&lease).settlement.unwrap();
    assert_eq!((s.steal_ms, s.billed_ms, s.charged), (Millis(3_000), Millis(17_000), cost(17_000)));
    assert_eq!(s.lines.len(), 1);
    assert_eq!((s.lines[0].class, s.lines[0].charged, s.lines[0].audited), (proof::ResourceClass::Cpu, cost(17_000), false));
}

#[test]
fn steal_reported_after_a_payment_takes_nothing_back_and_breaks_nothing() {
    let mut w = World::offered();
    let lease = w.accepted(w.order_terms());
    let started = w.now;
    w.wait_beating(80_000);
    w.confirmed(&lease, started, 80_000).unwrap();
    let paid = w.lease(&lease).paid.provider;
    assert!(paid > Amount::ZERO);
    w.wait_beating(1_000);
    let mut usage = w.usage(&lease, started, 81_000);
    usage.steal_ms = Millis(60_000);
    let action = w.signed(usage, true);
    w.node_act(vec![action]).unwrap();
    w.close_by_node(&lease);
    w.wait_beating(15_000);
    let s = w.lease(&lease).settlement.unwrap();
    assert!(s.to_provider >= paid, "{s:?}");
    assert_eq!(s.charged.saturating_add(s.refunded), Amount::credits(1));
}

/// A checked job is paid at the end, but counted as it goes: its old periods are not kept for ever.
#[test]
fn a_checked_job_is_counted_while_its_periods_are_kept() {
    let mut params = Params::dev();
    params.service.disputes_active = true;
    let mut w = World::with(params, 1);
    w.offer();
    let verification = Verification::Audit(500_000);
    let lease = w.accepted(OrderTerms { verification, disclose: Disclose::Committee, ..w.order_terms() });
    let started = w.now;
    w.wait_beating(80_000);
    let served = w.now.since(started).0;
    w.confirmed(&lease, started, served).unwrap();
    let l = w.lease(&lease);
    assert!(l.paid.provider.is_zero(), "nothing before nobody can dispute it any more");
    assert!(l.metered.until > started.plus(Millis(70_000)) && l.metered.cpu.epochs > 10, "{:?}", l.metered);
    w.close_by_node(&lease);
    w.wait_beating(40_000);
    assert_eq!(w.lease(&lease).settlement.unwrap().billed_ms, Millis(served));
}
