//! Leases that survive their node: losses, moves, standbys, fences, and who is paid for what. Spec: `docs/specs/settlement.md` §8.

#![cfg(test)]

mod common;
mod crowd;

use common::*;
use crowd::*;
use pasture_ledger::service::query as more;
use pasture_ledger::*;
use pasture_types::event::{ConfirmedBy, Event};
use pasture_types::genesis::Params;
use pasture_types::lease::{EndReason, LeaseState};
use pasture_types::market::{Failover, Fence, OrderTerms};
use pasture_types::service::*;
use pasture_types::tx::Action;
use pasture_types::*;

/// Two farms of which the first is cheaper.
fn pair() -> (World, Farm, Farm) {
    let mut w = World::offered();
    let a = first(&w);
    let b = farm(&mut w, 40, 150);
    (w, a, b)
}

fn moved(w: &World, lease: &LeaseId) -> Option<(NodeId, NodeId, u32)> {
    w.events.iter().rev().find_map(|e| match e {
        Event::Service(ServiceEvent::LeaseMoved { lease: l, from, to, generation, .. }) if l == lease => Some((*from, *to, *generation)),
        _ => None,
    })
}

fn lost(w: &World, lease: &LeaseId) -> usize {
    w.events.iter().filter(|e| matches!(e, Event::Service(ServiceEvent::NodeLost { lease: l, .. }) if l == lease)).count()
}

/// Lets the first node fall silent until the lease has moved to the other.
fn until_moved(w: &mut World, lease: &LeaseId, farms: &[&Farm]) {
    for _ in 0..120 {
        if moved(w, lease).is_some() {
            return;
        }
        accept_all(w, farms);
        serve(w, farms, 1_000);
    }
    panic!("never moved: {:?}", more::failover(&w.state, lease));
}

/// The validator key of the zone, whose seed is the test's.
fn observed() -> (World, Farm, Farm, Vec<SigningKey>) {
    let mut w = World::with(Params::dev(), 4);
    let validators: Vec<SigningKey> = (60..64).map(key).collect();
    for (v, k) in w.genesis.validators.iter_mut().zip(&validators) {
        v.key = k.node_id().0;
    }
    w.state = pasture_ledger::genesis(&w.genesis);
    w.offer();
    let a = first(&w);
    let b = farm(&mut w, 40, 150);
    (w, a, b, validators)
}

fn loss(w: &World, lease: &LeaseId, by: &[&SigningKey]) -> Action {
    let report = LossReport { lease: *lease, generation: w.lease(lease).generation, epoch: w.epoch() };
    let sign = |k: &&SigningKey| ObserverSignature { observer: k.node_id().0, signature: k.sign(&report.digest()) };
    act(ServiceAction::ReportLoss { report, signatures: by.iter().map(sign).collect() })
}

#[test]
fn a_silent_node_loses_its_lease_to_the_next_and_each_is_paid_for_its_own_time() {
    let (mut w, a, b) = pair();
    let lease = w.accepted(failover_terms(&w, Failover::Cold));
    assert_eq!(w.lease(&lease).node, a.node.node_id());
    let escrow = w.lease(&lease).escrow;
    let before = w.now;
    serve(&mut w, &[&a], 12_000);
    w.confirmed(&lease, before, 12_000).unwrap();
    until_moved(&mut w, &lease, &[&b]);
    assert_eq!(moved(&w, &lease), Some((a.node.node_id(), b.node.node_id(), 2)));
    let l = w.lease(&lease);
    assert_eq!((l.generation, l.node, l.state), (2, b.node.node_id(), LeaseState::Accepted));
    let past = more::generations(&w.state, &l).remove(0);
    assert_eq!((past.role, past.generation), (Role::Past { of: lease }, 1));
    assert_eq!(past.escrow.saturating_add(l.escrow), escrow, "the escrow is split, not doubled");
    let (moved_at, second) = (l.accepted_at.unwrap(), w.now);
    serve(&mut w, &[&b], 10_000);
    with(&mut w, &b, |w| confirm(w, &lease, second, 10_000, &w.user.clone())).unwrap();
    with(&mut w, &b, |w| w.close_by_node(&lease));
    serve(&mut w, &[&b], 12_000);
    w.wait(30_000);
    let (old, new) = (w.lease(&past.id).settlement.unwrap(), w.lease(&lease).settlement.unwrap());
    assert_eq!((old.billed_ms, old.generation, old.confirmed_by), (Millis(12_000), 1, ConfirmedBy::User));
    assert_eq!((new.billed_ms, new.generation, new.confirmed_by), (Millis(10_000), 2, ConfirmedBy::User));
    assert_eq!(new.rate_per_hour, Amount(1_500_000_000), "the new node's own price");
    assert_eq!(w.lease(&past.id).closing.unwrap().at, moved_at);
    assert_eq!(old.charged.saturating_add(old.refunded).saturating_add(new.charged).saturating_add(new.refunded), escrow);
}

#[test]
fn usage_of_an_old_generation_pays_the_old_node_and_only_until_the_move() {
    let (mut w, a, b) = pair();
    let lease = w.accepted(failover_terms(&w, Failover::Cold));
    let started = w.now;
    serve(&mut w, &[&a], 11_000);
    // It keeps running (fence: serve) but is not heard of; then it is back and claims all the time until now.
    until_moved(&mut w, &lease, &[&b]);
    let cut = w.lease(&lease).accepted_at.unwrap();
    serve(&mut w, &[&b], 8_000);
    let long = w.now.since(started).0;
    let user = w.user.clone();
    let node = w.node.clone();
    let mut usage = w.usage(&lease, started, long);
    usage.generation = 1;
    w.node_act(vec![usage_by(&node, usage.clone(), Some(&user))]).unwrap();
    // Under the new generation's number it is not its usage.
    usage.generation = 2;
    assert_eq!(code(w.node_act(vec![usage_by(&node, usage.clone(), Some(&user))])), 42, "it may not act for the lease any more");
    assert_eq!(code(with(&mut w, &b, |w| w.node_act(vec![usage_by(&node, usage.clone(), Some(&user))]))), 50, "another node's");
    // The new node cannot claim the time before it took over either, not by a millisecond.
    let early = |w: &mut World, ms: u64| confirm(w, &lease, Timestamp(cut.0 - ms), 1_000, &user);
    assert_eq!(code(with(&mut w, &b, |w| early(w, 1))), 50);
    with(&mut w, &b, |w| early(w, 0)).unwrap();
    serve(&mut w, &[&b], 12_000);
    w.wait(20_000);
    let past = more::generations(&w.state, &w.lease(&lease)).remove(0);
    let s = past.settlement.unwrap();
    assert!(s.billed_ms <= cut.since(started), "never past the move: {s:?}");
    assert!(s.epochs_proven < s.epochs, "silent epochs are unpaid: {s:?}");
}

#[test]
fn a_warm_standby_is_paid_for_standing_by_and_takes_over() {
    let (mut w, a, b) = pair();
    let terms = OrderTerms { budget: Amount::credits(5), ..failover_terms(&w, Failover::Warm) };
    let lease = w.accepted(terms);
    w.idle();
    accept_all(&mut w, &[&b]);
    let standby = more::failover(&w.state, &lease).unwrap().standby.unwrap();
    let record = w.lease(&standby.lease);
    assert_eq!((record.node, record.state, record.role), (b.node.node_id(), LeaseState::Accepted, Role::Standby { of: lease }));
    assert_eq!(record.rate_per_hour, Amount(450_000_000), "three tenths of its price");
    let ready = w.now;
    serve(&mut w, &[&a, &b], 10_000);
    w.confirmed(&lease, ready, 10_000).unwrap();
    let user = w.user.clone();
    with(&mut w, &b, |w| confirm(w, &standby.lease, ready, 10_000, &user)).unwrap();
    until_moved(&mut w, &lease, &[&b]);
    let l = w.lease(&lease);
    assert_eq!((l.generation, l.node), (2, b.node.node_id()));
    assert_eq!(l.rate_per_hour, standby.full_rate);
    serve(&mut w, &[&b], 20_000);
    let s = w.lease(&standby.lease);
    assert_eq!(s.closing.unwrap().reason, EndReason::TookOver);
    let s = s.settlement.unwrap();
    assert_eq!((s.billed_ms, s.charged), (Millis(10_000), Amount(450_000_000).per_hour_for(10_000).unwrap()));
}

#[test]
fn a_standby_that_does_not_prove_or_serve_earns_nothing() {
    let (mut w, a, b) = pair();
    let lease = w.accepted(failover_terms(&w, Failover::Warm));
    w.idle();
    accept_all(&mut w, &[&b]);
    let standby = more::failover(&w.state, &lease).unwrap().standby.unwrap().lease;
    let started = w.now;
    serve(&mut w, &[&a], 20_000);
    let user = w.user.clone();
    // Confirmed but unproven: its heartbeats are missing.
    with(&mut w, &b, |w| confirm(w, &standby, started, 20_000, &user)).unwrap();
    w.user_act(vec![Action::CloseLease { lease, reason: EndReason::StoppedByUser }]).unwrap();
    assert_eq!(w.lease(&standby).state, LeaseState::Closing, "it ends with its lease");
    w.wait(30_000);
    assert_eq!(w.lease(&standby).settlement.unwrap().charged, Amount::ZERO);
    assert!(more::failover(&w.state, &lease).is_none());
}

#[test]
fn a_silent_standby_does_not_take_over() {
    let (mut w, a, b) = pair();
    let c = farm(&mut w, 41, 170);
    let lease = w.accepted(OrderTerms { max_price_per_hour: Amount::credits(3), ..failover_terms(&w, Failover::Warm) });
    w.idle();
    accept_all(&mut w, &[&b]);
    assert_eq!(w.lease(&more::failover(&w.state, &lease).unwrap().standby.unwrap().lease).node, b.node.node_id());
    serve(&mut w, &[&a], 10_000);
    // Both fall silent. The lease waits for one that is there: the standby's end is the user's or the ledger's to say.
    w.wait(30_000);
    assert_eq!((lost(&w, &lease), moved(&w, &lease)), (1, None));
    let standby = more::failover(&w.state, &lease).unwrap().standby.unwrap().lease;
    with(&mut w, &b, |w| w.node_act(vec![Action::CloseLease { lease: standby, reason: EndReason::StoppedByProvider }])).unwrap();
    until_moved(&mut w, &lease, &[&c]);
    assert_eq!(w.lease(&lease).node, c.node.node_id());
}

#[test]
fn a_user_may_dismiss_the_standby_and_the_lease_is_cold_from_then_on() {
    let (mut w, a, b) = pair();
    let lease = w.accepted(failover_terms(&w, Failover::Warm));
    w.idle();
    accept_all(&mut w, &[&b]);
    let standby = more::failover(&w.state, &lease).unwrap().standby.unwrap().lease;
    assert_eq!(code(w.user_act(vec![Action::Extend { lease: standby, duration: Millis(1_000) }])), 6);
    w.user_act(vec![Action::CloseLease { lease: standby, reason: EndReason::StoppedByUser }]).unwrap();
    serve(&mut w, &[&a, &b], 15_000);
    let record = more::failover(&w.state, &lease).unwrap();
    assert_eq!((record.warm, record.standby), (false, None));
    assert!(w.lease(&lease).is_live());
    until_moved(&mut w, &lease, &[&b]);
}

#[test]
fn a_standby_that_refuses_is_not_asked_again_at_once() {
    let (mut w, a, b) = pair();
    let c = farm(&mut w, 41, 170);
    let lease = w.accepted(OrderTerms { max_price_per_hour: Amount::credits(3), ..failover_terms(&w, Failover::Warm) });
    w.idle();
    let asked = more::failover(&w.state, &lease).unwrap().standby.unwrap().lease;
    assert_eq!(w.lease(&asked).node, b.node.node_id());
    with(&mut w, &b, |w| w.node_act(vec![Action::RejectLease { lease: asked }])).unwrap();
    assert_eq!(w.lease(&asked).state, LeaseState::Closed);
    serve(&mut w, &[&a], 4_000);
    let next = more::failover(&w.state, &lease).unwrap().standby.unwrap().lease;
    assert_eq!(w.lease(&next).node, c.node.node_id());
    // Neither answers: it lapses, and whoever is asked next is asked after a pause.
    serve(&mut w, &[&a], 10_000);
    assert_eq!(w.lease(&next).state, LeaseState::Closed);
    assert!(w.lease(&lease).is_live());
}

#[test]
fn with_fence_stop_nobody_takes_over_before_the_old_copy_has_stopped() {
    let (mut w, a, b) = pair();
    let t = w.genesis.params.service.fence_epochs * w.genesis.params.epoch.0;
    for (fence, wait) in [(Fence::Stop, t), (Fence::Serve, 0)] {
        w.events.clear();
        let lease = w.accepted(OrderTerms { fence, ..failover_terms(&w, Failover::Cold) });
        let (old, new) = if w.lease(&lease).node == a.node.node_id() { (&a, &b) } else { (&b, &a) };
        serve(&mut w, &[old], 6_000);
        let mut lost_at = None;
        while moved(&w, &lease).is_none() {
            accept_all(&mut w, &[new]);
            w.wait(500);
            if lost(&w, &lease) > 0 {
                lost_at = lost_at.or(Some(w.now));
            }
        }
        let took = w.lease(&lease).accepted_at.unwrap().since(lost_at.unwrap()).0;
        assert!(took + 1_000 >= wait, "{fence:?}: {took} of {wait}");
        assert!(took < wait + 4_000, "{fence:?}: {took} of {wait}");
        with(&mut w, new, |w| w.node_act(vec![Action::CloseLease { lease, reason: EndReason::StoppedByProvider }])).unwrap();
        w.wait(40_000);
    }
}

#[test]
fn a_node_that_is_back_before_anyone_took_over_keeps_its_lease() {
    let mut w = World::offered();
    let a = first(&w);
    let lease = w.accepted(failover_terms(&w, Failover::Cold));
    serve(&mut w, &[&a], 6_000);
    w.wait(35_000);
    assert_eq!((lost(&w, &lease), moved(&w, &lease)), (1, None), "nobody else is there");
    serve(&mut w, &[&a], 15_000);
    assert_eq!(more::failover(&w.state, &lease).unwrap().lost, None);
    let b = farm(&mut w, 40, 150);
    serve(&mut w, &[&a, &b], 20_000);
    assert_eq!((w.lease(&lease).generation, w.lease(&lease).node), (1, a.node.node_id()));
}

#[test]
fn two_thirds_of_the_observers_move_a_lease_and_fewer_do_not() {
    let (mut w, a, b, validators) = observed();
    let lease = w.accepted(failover_terms(&w, Failover::Cold));
    w.idle();
    let observers = more::failover(&w.state, &lease).unwrap().observers;
    assert_eq!(observers.len(), 4);
    let [v0, v1, v2, _] = &validators[..] else { unreachable!() };
    serve(&mut w, &[&a], 6_000);
    let report = loss(&w, &lease, &[v0]);
    w.user_act(vec![report.clone()]).unwrap();
    // The same one again counts once; a stranger not at all.
    w.user_act(vec![report, loss(&w, &lease, &[v0])]).unwrap();
    assert_eq!(code(w.user_act(vec![loss(&w, &lease, &[&key(99)])])), 132);
    let mut forged = LossReport { lease, generation: 1, epoch: w.epoch() };
    let signature = v1.sign(&forged.digest());
    forged.epoch -= 1;
    let forged = ServiceAction::ReportLoss { report: forged, signatures: vec![ObserverSignature { observer: v1.node_id().0, signature }] };
    assert_eq!(code(w.user_act(vec![act(forged)])), 20);
    w.user_act(vec![loss(&w, &lease, &[v1])]).unwrap();
    assert_eq!(lost(&w, &lease), 0, "two of four are too few");
    w.user_act(vec![loss(&w, &lease, &[v2])]).unwrap();
    assert_eq!(lost(&w, &lease), 1);
    assert_eq!(code(w.user_act(vec![loss(&w, &lease, &[v2])])), 132, "it is lost already");
    until_moved(&mut w, &lease, &[&a, &b]);
    // Nobody's old report moves the new generation.
    let old = LossReport { lease, generation: 1, epoch: w.epoch() };
    let signatures = [v0, v1, v2].map(|k| ObserverSignature { observer: k.node_id().0, signature: k.sign(&old.digest()) });
    let old = act(ServiceAction::ReportLoss { report: old, signatures: signatures.to_vec() });
    assert_eq!(code(w.user_act(vec![old])), 132);
}

#[test]
fn reports_lapse() {
    let (mut w, a, _, validators) = observed();
    let lease = w.accepted(failover_terms(&w, Failover::Cold));
    w.idle();
    let [v0, v1, v2, _] = &validators[..] else { unreachable!() };
    serve(&mut w, &[&a], 6_000);
    let stale = loss(&w, &lease, &[v2]);
    w.user_act(vec![loss(&w, &lease, &[v0, v1])]).unwrap();
    serve(&mut w, &[&a], 25_000);
    assert_eq!(code(w.user_act(vec![stale])), 132, "it is of too long ago");
    w.user_act(vec![loss(&w, &lease, &[v2])]).unwrap();
    assert_eq!(lost(&w, &lease), 0, "what the others said long ago does not count any more");
}

#[test]
fn with_one_validator_it_alone_decides() {
    let mut w = World::new();
    let validator = key(60);
    w.genesis.validators[0].key = validator.node_id().0;
    w.state = pasture_ledger::genesis(&w.genesis);
    w.offer();
    let a = first(&w);
    let b = farm(&mut w, 40, 150);
    let lease = w.accepted(failover_terms(&w, Failover::Cold));
    w.idle();
    serve(&mut w, &[&a], 6_000);
    w.user_act(vec![loss(&w, &lease, &[&validator])]).unwrap();
    until_moved(&mut w, &lease, &[&a, &b]);
    assert_eq!(w.lease(&lease).node, b.node.node_id());
}

#[test]
fn observers_have_no_candidate_for_the_lease_unless_too_few_are_left() {
    // One of four validators earns for the provider itself, another one for the next candidate's.
    let mut w = World::with(Params::dev(), 6);
    for (n, v) in w.genesis.validators.iter_mut().enumerate() {
        v.key = key(60 + u8::try_from(n).unwrap()).node_id().0;
    }
    w.genesis.validators[0].operator = key(2).account();
    w.genesis.validators[1].operator = key(40).account();
    w.state = pasture_ledger::genesis(&w.genesis);
    w.offer();
    let _b = farm(&mut w, 40, 150);
    let lease = w.accepted(failover_terms(&w, Failover::Cold));
    w.idle();
    let observers = more::failover(&w.state, &lease).unwrap().observers;
    assert_eq!(observers.len(), 4, "of six, four gain nothing");
    for v in &w.genesis.validators[..2] {
        assert!(!observers.contains(&v.key));
    }
    // Below three eligible ones all observe.
    let mut w = World::with(Params::dev(), 3);
    w.genesis.validators[0].operator = key(2).account();
    w.state = pasture_ledger::genesis(&w.genesis);
    w.offer();
    let lease = w.accepted(failover_terms(&w, Failover::Cold));
    w.idle();
    assert_eq!(more::failover(&w.state, &lease).unwrap().observers.len(), 3);
}

#[test]
fn a_halt_loses_no_node() {
    let (mut w, a, b) = pair();
    let lease = w.accepted(failover_terms(&w, Failover::Cold));
    serve(&mut w, &[&a], 6_000);
    w.block(600_000, &[]);
    serve(&mut w, &[&a, &b], 20_000);
    assert_eq!((lost(&w, &lease), w.lease(&lease).generation), (0, 1));
}

#[test]
fn a_move_leaves_no_more_than_was_on_hold_even_after_many() {
    let (mut w, a, b) = pair();
    let lease = w.accepted(failover_terms(&w, Failover::Cold));
    let escrow = w.lease(&lease).escrow;
    let user = w.user.clone();
    for _ in 0..4 {
        let l = w.lease(&lease);
        let (on, off) = if l.node == a.node.node_id() { (&a, &b) } else { (&b, &a) };
        let started = w.now;
        serve(&mut w, &[on], 6_000);
        with(&mut w, on, |w| confirm(w, &lease, started, 6_000, &user)).unwrap();
        w.events.clear();
        // The one that was lost before is back, and asked again when nobody else is found.
        until_moved(&mut w, &lease, &[off]);
    }
    assert_eq!(w.lease(&lease).generation, 5);
    w.user_act(vec![Action::CloseLease { lease, reason: EndReason::StoppedByUser }]).unwrap();
    w.wait(60_000);
    let l = w.lease(&lease);
    let all = more::generations(&w.state, &l).into_iter().chain([l]);
    let sum = all.map(|l| l.settlement.unwrap()).fold(Amount::ZERO, |sum, s| sum.saturating_add(s.charged).saturating_add(s.refunded));
    assert_eq!(sum, escrow);
}

#[test]
fn a_closed_lease_forgets_its_failover() {
    let (mut w, a, _) = pair();
    let lease = w.accepted(failover_terms(&w, Failover::Warm));
    serve(&mut w, &[&a], 6_000);
    w.user_act(vec![Action::CloseLease { lease, reason: EndReason::StoppedByUser }]).unwrap();
    assert!(more::failover(&w.state, &lease).is_none());
    assert_eq!(code(w.user_act(vec![loss(&w, &lease, &[&key(60)])])), 132);
    w.wait(60_000);
    assert_eq!(w.lease(&lease).state, LeaseState::Closed);
    assert_eq!(next_due(&w.state), Due::Never, "nothing is left to do");
}

/// Attack: the proposer of the very next block chooses, by the block it makes, who observes.
#[test]
fn observers_are_drawn_when_so_many_proposers_have_followed_that_one_is_honest() {
    let mut w = World::with(Params::dev(), 7);
    w.offer();
    let lease = w.matched(failover_terms(&w, Failover::Cold));
    w.node_act(vec![Action::AcceptLease { lease }]).unwrap();
    let observers = |w: &World| pasture_ledger::service::query::failover(&w.state, &lease).unwrap().observers;
    // f = 2 of seven seats may lie: three different ones must have proposed after the acceptance.
    for _ in 0..2 {
        w.block(10, &[]);
        assert!(observers(&w).is_empty());
        assert_eq!(next_due(&w.state), Due::Now, "a block is asked for until then");
    }
    w.block(10, &[]);
    assert_eq!(observers(&w).len(), 5);
    w.idle();
}
