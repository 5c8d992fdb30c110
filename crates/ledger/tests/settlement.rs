//! What a lease pays, rule by rule. Spec: `docs/specs/settlement.md`.

#![cfg(test)]

mod common;

use common::*;
use pasture_ledger::*;
use pasture_types::event::{ConfirmedBy, Event};
use pasture_types::genesis::Params;
use pasture_types::lease::{EndReason, LeaseState};
use pasture_types::tx::Action;
use pasture_types::*;

/// 1.0 credit an hour, in nano-credits for a time.
fn cost(ms: u64) -> Amount {
    Amount::credits(1).per_hour_for(ms).unwrap()
}

#[test]
fn a_confirmed_and_proven_job_pays_its_seconds_and_the_rest_returns() {
    let mut w = World::offered();
    let before = w.balance(&w.user);
    let lease = w.accepted(w.order_terms());
    assert_eq!(w.lease(&lease).escrow, Amount::credits(1), "an hour at the matched rate");
    let started = w.now;
    w.wait_beating(12_000);
    w.confirmed(&lease, started, 12_000).unwrap();
    let provider = w.balance(&w.provider);
    w.close_by_node(&lease);
    w.wait_beating(6_000);
    let l = w.lease(&lease);
    assert_eq!(l.state, LeaseState::Closed);
    let s = l.settlement.unwrap();
    assert_eq!(s.billed_ms, Millis(12_000));
    assert_eq!(s.charged, cost(12_000));
    assert_eq!(s.to_provider, s.charged.mul_div(85, 100).unwrap(), "no model: its share is the provider's");
    assert_eq!(s.to_treasury, s.charged.checked_sub(s.to_provider).unwrap());
    assert_eq!((s.epochs, s.epochs_proven), (3, 3));
    assert_eq!(s.confirmed_by, ConfirmedBy::User);
    assert_eq!(s.refunded, Amount::credits(1).checked_sub(s.charged).unwrap());
    assert_eq!(query::treasury(&w.state, AssetId::CREDIT), s.to_treasury);
    let fees = before.checked_sub(w.balance(&w.user)).unwrap().checked_sub(s.charged).unwrap();
    assert!(fees < Amount(100_000), "beyond the charge only transaction fees are gone: {}", fees.0);
    assert!(w.balance(&w.provider) > provider);
    assert!(matches!(next_due(&w.state), Due::Never), "a settled zone is idle");
}

#[test]
fn epochs_without_heartbeat_are_not_paid() {
    let mut w = World::offered();
    let lease = w.accepted(w.order_terms());
    let started = w.now;
    w.beat();
    w.wait(25_000);
    w.beat();
    w.confirmed(&lease, started, 25_000).unwrap();
    w.close_by_node(&lease);
    w.wait(20_000);
    let s = w.lease(&lease).settlement.unwrap();
    assert!(s.epochs_proven < s.epochs, "{s:?}");
    assert!(s.billed_ms < Millis(25_000) && s.billed_ms.0 > 0);
    assert_eq!(s.charged, cost(s.billed_ms.0));
}

#[test]
fn a_dead_container_behind_good_heartbeats_earns_nothing_beyond_what_was_countersigned() {
    let mut w = World::offered();
    let lease = w.accepted(w.order_terms());
    let started = w.now;
    w.wait_beating(10_000);
    w.confirmed(&lease, started, 10_000).unwrap();
    // The container dies here; the node goes on proving and claims on.
    w.wait_beating(8_000);
    w.bare(&lease, started, 18_000).unwrap();
    w.user_act(vec![Action::Object { lease }]).unwrap();
    w.wait_beating(30_000);
    let l = w.lease(&lease);
    let s = l.settlement.unwrap();
    assert_eq!(s.confirmed_by, ConfirmedBy::Objection);
    assert_eq!(s.billed_ms, Millis(10_000));
    assert_eq!(s.to_provider, cost(10_000).mul_div(85, 100).unwrap());
    assert!(s.withheld <= cost(10_000), "at most two epochs of 5 s are withheld");
    assert_eq!(s.withheld, cost(18_000).checked_sub(cost(10_000)).unwrap());
    assert_eq!(l.closing.unwrap().reason, EndReason::ServiceStopped);
}

#[test]
fn a_service_that_stopped_is_closed_by_the_user_and_later_claims_are_withheld() {
    let mut w = World::offered();
    let lease = w.accepted(w.order_terms());
    let started = w.now;
    w.wait_beating(10_000);
    w.confirmed(&lease, started, 10_000).unwrap();
    w.wait_beating(4_000);
    w.user_act(vec![Action::CloseLease { lease, reason: EndReason::ServiceStopped }]).unwrap();
    w.bare(&lease, started, 14_000).unwrap();
    w.wait_beating(30_000);
    let s = w.lease(&lease).settlement.unwrap();
    assert_eq!(s.billed_ms, Millis(10_000));
    assert_eq!(s.confirmed_by, ConfirmedBy::Objection);
    assert_eq!(s.withheld, cost(14_000).checked_sub(cost(10_000)).unwrap());
}

#[test]
fn a_user_who_never_confirms_and_never_objects_pays_after_the_window() {
    let mut w = World::offered();
    let lease = w.accepted(w.order_terms());
    let started = w.now;
    w.wait_beating(8_000);
    w.bare(&lease, started, 8_000).unwrap();
    w.close_by_node(&lease);
    let closed = w.now;
    w.wait_beating(8_000);
    assert_eq!(w.lease(&lease).state, LeaseState::Closing, "the window of two epochs is open");
    w.wait_beating(4_000);
    let l = w.lease(&lease);
    let s = l.settlement.unwrap();
    assert_eq!((s.billed_ms, s.confirmed_by), (Millis(8_000), ConfirmedBy::NoObjection));
    assert!(l.closed_at.unwrap().since(closed) >= Millis(10_000));
}

#[test]
fn bare_usage_that_ripened_survives_a_late_objection() {
    let mut w = World::offered();
    let lease = w.accepted(w.order_terms());
    let started = w.now;
    w.wait_beating(10_000);
    w.bare(&lease, started, 10_000).unwrap();
    w.wait_beating(11_000);
    w.bare(&lease, started, 21_000).unwrap();
    w.user_act(vec![Action::CloseLease { lease, reason: EndReason::ServiceStopped }]).unwrap();
    w.wait_beating(30_000);
    let s = w.lease(&lease).settlement.unwrap();
    assert_eq!(s.billed_ms, Millis(11_000), "an objection reaches two epochs back and no further");
    assert_eq!(s.withheld, cost(21_000).checked_sub(cost(11_000)).unwrap(), "of the rest, two epochs");
}

#[test]
fn a_user_cannot_cut_off_usage_that_the_node_has_not_sent_yet() {
    let mut w = World::offered();
    let lease = w.accepted(w.order_terms());
    let started = w.now;
    w.wait_beating(5_000);
    w.confirmed(&lease, started, 5_000).unwrap();
    w.wait_beating(5_000);
    w.user_act(vec![Action::CloseLease { lease, reason: EndReason::StoppedByUser }]).unwrap();
    // The user repeats the older statement, countersigned, to have it settled at once.
    let old = w.signed(w.usage(&lease, started, 5_000), true);
    w.user_act(vec![old]).unwrap();
    w.idle();
    assert_eq!(w.lease(&lease).state, LeaseState::Closing);
    w.confirmed(&lease, started, 10_000).unwrap();
    w.wait_beating(6_000);
    assert_eq!(w.lease(&lease).settlement.unwrap().billed_ms, Millis(10_000));
}

#[test]
fn a_closed_lease_without_claims_returns_everything() {
    let mut w = World::offered();
    let lease = w.accepted(w.order_terms());
    w.user_act(vec![Action::CloseLease { lease, reason: EndReason::StoppedByUser }]).unwrap();
    w.wait(11_000);
    let s = w.lease(&lease).settlement.unwrap();
    assert_eq!((s.charged, s.refunded, s.confirmed_by), (Amount::ZERO, Amount::credits(1), ConfirmedBy::Nothing));
}

#[test]
fn the_node_can_say_that_nothing_more_comes() {
    let mut w = World::offered();
    let lease = w.accepted(w.order_terms());
    w.user_act(vec![Action::CloseLease { lease, reason: EndReason::StoppedByUser }]).unwrap();
    w.node_act(vec![Action::CloseLease { lease, reason: EndReason::StoppedByUser }]).unwrap();
    w.idle();
    assert_eq!(w.lease(&lease).state, LeaseState::Closed);
}

#[test]
fn usage_only_grows_and_is_bound_to_its_lease_and_time() {
    let mut w = World::offered();
    let lease = w.accepted(w.order_terms());
    let started = w.now;
    w.wait_beating(10_000);
    w.confirmed(&lease, started, 10_000).unwrap();
    let code = |r: Result<Vec<Event>, TxError>| r.unwrap_err().code();
    assert_eq!(code(w.confirmed(&lease, started, 9_000)), 50, "less than before");
    assert_eq!(code(w.confirmed(&lease, started, 10_000)), 50, "a replay");
    assert_eq!(code(w.confirmed(&lease, started, 60_000)), 50, "the future");
    assert_eq!(code(w.confirmed(&lease, Timestamp(started.0 - 1), 10_500)), 50, "another beginning");
    assert_eq!(code(w.confirmed(&lease, Timestamp(started.0 - 10_000), 10_500)), 50, "before it was accepted");
    let mut other = w.usage(&lease, started, 11_000);
    other.generation = 2;
    let other = w.signed(other, true);
    assert_eq!(code(w.node_act(vec![other])), 50, "another generation");
    let Action::SubmitUsage { mut usage } = w.signed(w.usage(&lease, started, 10_100), true) else { unreachable!() };
    usage.usage.served_ms = Millis(10_200);
    assert_eq!(code(w.node_act(vec![Action::SubmitUsage { usage }])), 20, "not what was signed");
    let Action::SubmitUsage { mut usage } = w.signed(w.usage(&lease, started, 10_100), true) else { unreachable!() };
    let fake = w.provider.sign(&usage.usage.counter_digest());
    let counter = usage.countersignature.as_mut().unwrap();
    (counter.key, counter.signature) = (w.provider.public(), fake);
    assert_eq!(code(w.node_act(vec![Action::SubmitUsage { usage }])), 21, "confirmed by the provider itself");
}

#[test]
fn building_is_free_within_the_daily_allowance_and_billed_beyond() {
    let mut params = Params::dev();
    params.build_allowance = Millis(4_000);
    let mut w = World::with(params, 1);
    w.offer();
    let lease = w.accepted(w.order_terms());
    w.wait_beating(7_000);
    let started = w.now;
    let build = |w: &World, lease: &LeaseId, started, build| {
        let mut usage = w.usage(lease, started, 0);
        usage.build_ms = Millis(build);
        w.signed(usage, true)
    };
    let action = build(&w, &lease, started, 60_000);
    assert_eq!(w.node_act(vec![action]).unwrap_err().code(), 50, "more than has passed since the acceptance");
    let action = build(&w, &lease, started, 6_500);
    w.node_act(vec![action]).unwrap();
    w.node_act(vec![Action::CloseLease { lease, reason: EndReason::BuildFailed }]).unwrap();
    w.idle();
    let s = w.lease(&lease).settlement.unwrap();
    assert_eq!((s.billed_build_ms, s.charged), (Millis(2_500), cost(2_500)));
    // The allowance of the day is used up: the next build pays from its first second.
    let lease = w.accepted(w.order_terms());
    w.wait_beating(3_000);
    let action = build(&w, &lease, w.now, 3_000);
    w.node_act(vec![action]).unwrap();
    w.node_act(vec![Action::CloseLease { lease, reason: EndReason::BuildFailed }]).unwrap();
    w.idle();
    assert_eq!(w.lease(&lease).settlement.unwrap().billed_build_ms, Millis(3_000));
}

#[test]
fn a_long_lease_is_paid_in_parts_that_add_up_to_the_whole() {
    let mut w = World::offered();
    let mut terms = w.order_terms();
    terms.model = Some(BlobHash([7; 32]));
    let lease = w.accepted(terms);
    let started = w.now;
    let provider = w.balance(&w.provider);
    w.wait_beating(80_000);
    w.confirmed(&lease, started, 80_000).unwrap();
    let paid = w.lease(&lease).paid;
    assert!(!paid.provider.is_zero() && !paid.model.is_zero() && !paid.treasury.is_zero());
    assert!(w.balance(&w.provider) > provider, "paid before the end");
    w.wait_beating(83_000);
    w.confirmed(&lease, started, 163_007).unwrap();
    w.wait_beating(1_000);
    w.close_by_node(&lease);
    w.wait_beating(6_000);
    let s = w.lease(&lease).settlement.unwrap();
    assert_eq!(s.billed_ms, Millis(163_007));
    assert_eq!(s.charged, cost(163_007));
    assert_eq!(s.to_provider, s.charged.mul_div(80, 100).unwrap());
    assert_eq!(s.to_model, s.charged.mul_div(5, 100).unwrap());
    assert_eq!(s.epochs, s.epochs_proven);
}

#[test]
fn service_beyond_the_cap_or_the_budget_is_not_paid() {
    let mut w = World::offered();
    let mut terms = w.order_terms();
    // Ten seconds at one credit an hour.
    terms.budget = cost(10_000);
    terms.max_price_per_hour = Amount::credits(1);
    let lease = w.accepted(terms);
    assert_eq!(w.lease(&lease).max_duration, Millis(9_999), "the budget's nano-credits are rounded down");
    let started = w.now;
    w.wait_beating(20_000);
    w.confirmed(&lease, started, 20_000).unwrap();
    w.close_by_node(&lease);
    w.wait_beating(6_000);
    let s = w.lease(&lease).settlement.unwrap();
    assert_eq!(s.billed_ms, Millis(9_999));
    assert!(s.charged <= cost(10_000));
}

#[test]
fn a_node_that_is_never_heard_of_loses_the_lease_and_the_user_pays_nothing() {
    let mut w = World::offered();
    let lease = w.accepted(w.order_terms());
    w.wait(w.genesis.params.start_window.0 + 20_000);
    let l = w.lease(&lease);
    assert_eq!(l.closing.unwrap().reason, EndReason::Lost);
    assert_eq!(l.settlement.unwrap().refunded, Amount::credits(1));
}

#[test]
fn the_ledger_ends_a_lease_at_its_cap_if_the_node_does_not() {
    let mut w = World::offered();
    let mut terms = w.order_terms();
    terms.max_duration = Millis(20_000);
    let lease = w.accepted(terms);
    let started = w.now;
    w.wait_beating(19_000);
    w.confirmed(&lease, started, 19_000).unwrap();
    w.wait_beating(40_000);
    let l = w.lease(&lease);
    assert_eq!(l.closing.unwrap().reason, EndReason::CapReached);
    assert_eq!(l.settlement.unwrap().billed_ms, Millis(19_000));
}

#[test]
fn an_extension_adds_money_and_time() {
    let mut w = World::offered();
    let mut terms = w.order_terms();
    terms.max_duration = Millis(20_000);
    let lease = w.accepted(terms);
    let started = w.now;
    w.user_act(vec![Action::Extend { lease, duration: Millis(20_000) }]).unwrap();
    assert_eq!(w.lease(&lease).max_duration, Millis(40_000));
    w.wait_beating(35_000);
    w.confirmed(&lease, started, 35_000).unwrap();
    w.close_by_node(&lease);
    w.wait_beating(6_000);
    assert_eq!(w.lease(&lease).settlement.unwrap().billed_ms, Millis(35_000));
    let too_long = w.user_act(vec![Action::Extend { lease, duration: Millis(1) }]);
    assert_eq!(too_long.unwrap_err().code(), 43, "it has ended");
}

#[test]
fn a_halt_lengthens_every_window_and_its_epochs_are_vouched_for_afterwards() {
    let mut w = World::offered();
    let lease = w.accepted(w.order_terms());
    let started = w.now;
    w.wait_beating(6_000);
    w.bare(&lease, started, 6_000).unwrap();
    w.close_by_node(&lease);
    // The zone stands still for five minutes, far beyond the objection window.
    w.block(300_000, &[]);
    assert_eq!(w.lease(&lease).state, LeaseState::Closing, "the user still has its window");
    w.user_act(vec![Action::Object { lease }]).unwrap();
    w.wait(20_000);
    assert_eq!(w.lease(&lease).settlement.unwrap().confirmed_by, ConfirmedBy::Objection);

    let lease = w.accepted(w.order_terms());
    let started = w.now;
    w.beat();
    w.block(60_000, &[]);
    w.beat();
    w.confirmed(&lease, started, 60_000).unwrap();
    w.close_by_node(&lease);
    w.wait_beating(12_000);
    let s = w.lease(&lease).settlement.unwrap();
    assert_eq!((s.billed_ms, s.epochs), (Millis(60_000), s.epochs_proven), "{s:?}");
}

#[test]
fn heartbeats_are_checked_in_every_part() {
    let mut w = World::offered();
    let lease = w.accepted(w.order_terms());
    let epoch = w.epoch();
    let good = w.shares(epoch);
    let send = |w: &mut World, heartbeat| w.node_act(vec![Action::SubmitHeartbeat { heartbeat }]).unwrap_err().code();
    let mut weak = good.clone();
    weak.nonces = (0..16).collect();
    assert_eq!(send(&mut w, weak), 52);
    let mut elsewhere = good.clone();
    elsewhere.epoch += 7;
    assert_eq!(send(&mut w, elsewhere), 51, "an epoch that has not begun");
    let mut gpu = good.clone();
    gpu.class = proof::ResourceClass::Gpu;
    assert_eq!(send(&mut w, gpu), 7);
    w.node_act(vec![Action::SubmitHeartbeat { heartbeat: good.clone() }]).unwrap();
    assert_eq!(send(&mut w, good.clone()), 51, "twice");
    w.wait(1_000);
    let late = w.epoch();
    w.wait(30_000);
    let mut old = good.clone();
    old.epoch = late + 1;
    old.nonces = w.shares(late + 1).nonces;
    assert_eq!(send(&mut w, old), 51, "too late");
    let idle = w.lease(&lease);
    assert_eq!(idle.state, LeaseState::Accepted);
}

/// A month-long rental whose user never looks: the node is paid as the windows pass, not only at the end.
#[test]
fn what_nobody_objected_to_in_time_is_paid_as_the_lease_goes() {
    let mut w = World::offered();
    let terms = pasture_types::market::OrderTerms { budget: Amount::credits(9), ..w.order_terms() };
    let lease = w.accepted(terms);
    let started = w.now;
    let mut paid = vec![];
    for _ in 0..4 {
        w.wait_beating(80_000);
        let served = w.now.since(started).0;
        w.bare(&lease, started, served).unwrap();
        paid.push(w.lease(&lease).paid.provider);
    }
    assert_eq!(paid[0], Amount::ZERO, "nothing was waiting long enough");
    assert!(paid[1] > cost(60_000).mul_div(85, 100).unwrap() && paid[2] > paid[1] && paid[3] > paid[2], "{paid:?}");
    let l = w.lease(&lease);
    assert!(l.paid.provider <= cost(l.accepted_claim().served.0), "no more than what is as good as confirmed");
    assert!(l.confirmed.is_none());
    // The user is back and objects: what is older than the objection reaches was the node's already.
    let claimed = l.last_claim().served.0;
    w.user_act(vec![Action::Object { lease }]).unwrap();
    w.wait_beating(30_000);
    let s = w.lease(&lease).settlement.unwrap();
    assert_eq!((s.billed_ms, s.withheld), (Millis(claimed - 10_000), cost(claimed).checked_sub(cost(claimed - 10_000)).unwrap()));
    assert!(s.to_provider >= l.paid.provider);
}

/// Attack: the node claims much at once and has it paid before the user can look.
#[test]
fn a_bare_claim_is_never_paid_before_its_window() {
    let mut w = World::offered();
    let lease = w.accepted(w.order_terms());
    let started = w.now;
    w.wait_beating(80_000);
    for n in 0..5 {
        let served = w.now.since(started).0;
        w.bare(&lease, started, served).unwrap();
        assert_eq!(w.lease(&lease).paid.provider, Amount::ZERO, "{n}");
        w.wait_beating(1_900);
    }
    w.user_act(vec![Action::Object { lease }]).unwrap();
    w.wait_beating(30_000);
    assert!(w.lease(&lease).settlement.unwrap().withheld > Amount::ZERO);
}
