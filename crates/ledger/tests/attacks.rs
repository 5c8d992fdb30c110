//! Each way to be paid for nothing, or to be served for nothing, next to what an honest party gets: none gains. Spec:
//! `docs/specs/settlement.md` §12.

#![cfg(test)]

mod common;
mod crowd;

use common::*;
use crowd::*;
use pasture_ledger::service::query as more;
use pasture_ledger::*;
use pasture_types::event::Settlement;
use pasture_types::genesis::Params;
use pasture_types::lease::{EndReason, LeaseState};
use pasture_types::market::{Failover, OrderTerms};
use pasture_types::tx::*;
use pasture_types::*;

fn settled(w: &mut World, lease: &LeaseId) -> Settlement {
    w.wait_beating(40_000);
    w.lease(lease).settlement.expect("settled")
}

/// What an honest job of so long pays.
fn honest(ms: u64) -> Settlement {
    let mut w = World::offered();
    let lease = w.accepted(w.order_terms());
    let started = w.now;
    w.wait_beating(ms);
    w.confirmed(&lease, started, ms).unwrap();
    w.close_by_node(&lease);
    settled(&mut w, &lease)
}

#[test]
fn stopping_just_before_an_epochs_end_pays_what_was_served() {
    let mut w = World::offered();
    let lease = w.accepted(w.order_terms());
    let started = w.now;
    // It stops one millisecond after the epoch's heartbeat is in, and claims the whole epoch.
    w.wait_beating(11_000);
    w.confirmed(&lease, started, 10_000).unwrap();
    w.wait_beating(500);
    w.bare(&lease, started, 13_500).expect("within the clocks' tolerance");
    assert_eq!(code(w.bare(&lease, started, 15_500)), 50, "not what lies ahead");
    w.close_by_node(&lease);
    w.user_act(vec![Action::Object { lease }]).unwrap();
    let s = settled(&mut w, &lease);
    assert_eq!(s.billed_ms, Millis(10_000));
    assert!(s.to_provider < honest(12_000).to_provider);
    // Stopping before the heartbeat costs the epoch: there is nothing to gain on that side either.
    let mut w = World::offered();
    let lease = w.accepted(w.order_terms());
    let started = w.now;
    w.wait_beating(9_000);
    w.wait(6_000);
    w.confirmed(&lease, started, 14_900).unwrap();
    w.close_by_node(&lease);
    w.wait(40_000);
    let s = w.lease(&lease).settlement.unwrap();
    assert!(s.billed_ms < Millis(10_500) && s.epochs_proven < s.epochs, "{s:?}");
}

#[test]
fn objecting_always_saves_nothing() {
    // The user is served well, never confirms, and objects at the best moment for it: before anything has ripened.
    for window in [2, 10] {
        let params = Params { objection_epochs: window, ..Params::dev() };
        for served in [4_000, 9_900, 17_000, 45_000] {
            let mut w = World::with(params.clone(), 1);
            w.offer();
            let lease = w.accepted(w.order_terms());
            let started = w.now;
            w.wait_beating(served);
            w.bare(&lease, started, served).unwrap();
            w.user_act(vec![Action::Object { lease }]).unwrap();
            w.wait_beating(80_000);
            let s = w.lease(&lease).settlement.unwrap();
            assert_eq!(s.charged, cost(served), "window {window}, {served} ms: it pays all that it got");
            let lost = honest(served).to_provider.saturating_sub(s.to_provider);
            assert!(lost <= cost(10_000), "window {window}, {served} ms: the node loses two epochs at most");
        }
    }
}

#[test]
fn objecting_to_building_saves_nothing_either() {
    let params = Params { build_allowance: Millis(1_000), ..Params::dev() };
    let mut w = World::with(params, 1);
    w.offer();
    let lease = w.accepted(w.order_terms());
    w.wait_beating(31_000);
    let mut usage = w.usage(&lease, w.now, 0);
    usage.build_ms = Millis(31_000);
    let action = w.signed(usage, false);
    w.node_act(vec![action]).unwrap();
    w.user_act(vec![Action::Object { lease }]).unwrap();
    let s = settled(&mut w, &lease);
    assert_eq!((s.charged, s.billed_build_ms), (cost(30_000), Millis(20_000)));
    // One more for rounding: it is a difference of two charges that are rounded down.
    assert!(s.withheld.0 <= cost(10_000).0 + 1);
}

#[test]
fn serving_without_proving_pays_nothing() {
    let mut w = World::offered();
    let lease = w.accepted(w.order_terms());
    let started = w.now;
    w.wait(20_000);
    w.confirmed(&lease, started, 20_000).unwrap();
    w.close_by_node(&lease);
    w.wait(40_000);
    let s = w.lease(&lease).settlement.unwrap();
    assert_eq!((s.charged, s.epochs_proven), (Amount::ZERO, 0));
}

#[test]
fn proving_without_serving_pays_nothing_where_the_user_looks() {
    let mut w = World::offered();
    let lease = w.accepted(w.order_terms());
    let started = w.now;
    w.wait_beating(9_000);
    // The user sees nothing and says so within two epochs, before or after the node claims.
    w.user_act(vec![Action::CloseLease { lease, reason: EndReason::ServiceStopped }]).unwrap();
    w.bare(&lease, started, 9_000).unwrap();
    let s = settled(&mut w, &lease);
    assert_eq!((s.to_provider, s.billed_ms), (Amount::ZERO, Millis(0)));
    assert!(s.withheld <= cost(10_000), "the user loses two epochs at most");
}

#[test]
fn no_time_is_paid_twice_over_generations() {
    let mut w = World::offered();
    let a = first(&w);
    let b = farm(&mut w, 40, 150);
    let lease = w.accepted(OrderTerms { failover: Failover::Warm, ..w.order_terms() });
    w.idle();
    let (one, two) = if w.lease(&lease).node == a.node.node_id() { (&a, &b) } else { (&b, &a) };
    let started = w.now;
    accept_all(&mut w, &[two]);
    serve(&mut w, &[one, two], 11_000);
    for _ in 0..60 {
        if w.lease(&lease).generation > 1 {
            break;
        }
        serve(&mut w, &[two], 500);
    }
    let cut = w.lease(&lease).accepted_at.unwrap();
    serve(&mut w, &[two], 6_000);
    // Everybody claims all there is, and an accomplice of both confirms all of it.
    let user = w.user.clone();
    let long = w.now.since(started).0;
    let mut usage = w.usage(&lease, started, long);
    usage.generation = 1;
    let action = usage_by(&one.node, usage, Some(&user));
    with(&mut w, one, |w| w.node_act(vec![action])).unwrap();
    let standby = query::leases_of_node(&w.state, &two.node.node_id(), None, 50);
    let standby = standby.iter().find(|l| matches!(l.role, Role::Standby { .. })).unwrap().id;
    let ready = w.lease(&standby).accepted_at.unwrap();
    let long = w.now.since(ready).0;
    let action = usage_by(&two.node, w.usage(&standby, ready, long), Some(&user));
    with(&mut w, two, |w| w.node_act(vec![action])).unwrap();
    let long = w.now.since(cut).0;
    with(&mut w, two, |w| confirm(w, &lease, cut, long, &user)).unwrap();
    with(&mut w, two, |w| w.close_by_node(&lease));
    let end = w.now;
    serve(&mut w, &[two], 12_000);
    w.wait(30_000);
    let l = w.lease(&lease);
    let past = more::generations(&w.state, &l).remove(0);
    let (old, new) = (past.settlement.unwrap(), l.settlement.unwrap());
    assert!(old.billed_ms <= cut.since(started), "{old:?}");
    assert!(old.billed_ms.0 + new.billed_ms.0 <= end.since(started).0, "together at most the time there was");
    let standby = w.lease(&standby).settlement.unwrap();
    assert!(standby.billed_ms <= cut.since(ready), "standing by ends where serving begins");
}

#[test]
fn usage_from_the_past_or_the_future_and_replays_pay_nothing_more() {
    let mut w = World::offered();
    let lease = w.accepted(w.order_terms());
    let started = w.now;
    w.wait_beating(10_000);
    let first = w.signed(w.usage(&lease, started, 6_000), true);
    let second = w.signed(w.usage(&lease, started, 9_000), true);
    w.node_act(vec![second.clone()]).unwrap();
    for (replay, wanted) in [(first, 50), (second, 53)] {
        assert_eq!(code(w.node_act(vec![replay.clone()])), wanted);
        assert_eq!(code(w.user_act(vec![replay])), wanted);
    }
    assert_eq!(code(w.confirmed(&lease, started, 14_000)), 50, "the future");
    let before = Timestamp(started.0 - 5_000);
    assert_eq!(code(w.confirmed(&lease, before, 14_000)), 50, "before the lease");
    let mut epoch = w.usage(&lease, started, 9_500);
    epoch.epoch += 9;
    let epoch = w.signed(epoch, true);
    assert_eq!(code(w.node_act(vec![epoch])), 50, "an epoch that has not begun");
    w.close_by_node(&lease);
    let s = settled(&mut w, &lease);
    assert_eq!(s.billed_ms, Millis(9_000));
    // Nor does anything count for a lease that is settled, or for another one.
    assert_eq!(code(w.confirmed(&lease, started, 9_500)), 43);
    let other = w.accepted(w.order_terms());
    let moved = w.signed(w.usage(&other, started, 9_000), true);
    assert_eq!(code(w.node_act(vec![moved])), 50, "it began before this one was accepted");
}

#[test]
fn usage_split_over_lanes_and_transactions_pays_once() {
    let mut w = World::offered();
    let lease = w.accepted(w.order_terms());
    let started = w.now;
    w.wait_beating(12_000);
    // The same service in parts of which each is sent on its own lane, in every order, in one block.
    let (node, provider) = (w.node.clone(), w.provider.account());
    let mut txs = vec![];
    for (lane, served) in [(1u8, 9_000u64), (2, 3_000), (3, 12_000), (4, 6_000), (5, 12_000)] {
        let action = w.signed(w.usage(&lease, started, served), true);
        let mut body = w.body(provider, Auth::Node(node.node_id()), vec![action]);
        body.lane = lane;
        body.seq = 0;
        txs.push(codec::encode(&body.sign(&node)));
    }
    let applied = w.block(10, &txs);
    let done: Vec<bool> = applied.iter().map(|a| matches!(a, Applied::Done { .. })).collect();
    assert_eq!(done, [true, false, true, false, false], "only what grows is taken");
    w.close_by_node(&lease);
    let s = settled(&mut w, &lease);
    assert_eq!((s.billed_ms, s.charged), (Millis(12_000), cost(12_000)));
}

#[test]
fn a_heartbeat_pays_no_epoch_but_its_own() {
    let mut w = World::offered();
    let lease = w.accepted(w.order_terms());
    let started = w.now;
    w.wait(6_000);
    let heartbeat = w.shares(w.epoch());
    w.node_act(vec![Action::SubmitHeartbeat { heartbeat: heartbeat.clone() }]).unwrap();
    w.wait(5_000);
    let mut again = heartbeat;
    again.epoch = w.epoch();
    assert_eq!(code(w.node_act(vec![Action::SubmitHeartbeat { heartbeat: again }])), 52, "its shares are of another epoch");
    w.confirmed(&lease, started, 10_900).unwrap();
    w.close_by_node(&lease);
    w.wait(40_000);
    let s = w.lease(&lease).settlement.unwrap();
    assert_eq!(s.epochs_proven, 1);
    assert!(s.billed_ms <= Millis(5_000));
}

#[test]
fn losing_ones_own_lease_on_purpose_earns_no_more() {
    // Both nodes are one provider's: it drops the lease to be paid for it again by the other.
    let mut w = World::offered();
    let a = first(&w);
    let (provider, second) = (w.provider.clone(), key(50));
    let actions = vec![
        w.register_node(&provider, &second, declaration()),
        Action::PutOffer { node: second.node_id(), number: 0, terms: Box::new(offer_terms()) },
    ];
    w.act(&provider, actions).unwrap();
    w.idle();
    let b = Farm { provider, node: second };
    let lease = w.matched(OrderTerms { failover: Failover::Cold, ..w.order_terms() });
    accept_all(&mut w, &[&a, &b]);
    let escrow = w.lease(&lease).escrow;
    let started = w.now;
    let (one, two) = if w.lease(&lease).node == a.node.node_id() { (&a, &b) } else { (&b, &a) };
    serve(&mut w, &[one], 10_000);
    for _ in 0..60 {
        accept_all(&mut w, &[two]);
        serve(&mut w, &[two], 500);
        if w.lease(&lease).generation > 1 {
            break;
        }
    }
    let from = w.now;
    serve(&mut w, &[two], 10_000);
    let end = w.now.since(started).0;
    let user = w.user.clone();
    with(&mut w, two, |w| confirm(w, &lease, from, 10_000, &user)).unwrap();
    let mut usage = w.usage(&lease, started, end);
    usage.generation = 1;
    let action = usage_by(&one.node, usage, Some(&user));
    with(&mut w, one, |w| w.node_act(vec![action])).unwrap();
    with(&mut w, two, |w| w.close_by_node(&lease));
    serve(&mut w, &[two], 10_000);
    w.wait(40_000);
    let l = w.lease(&lease);
    assert_eq!(l.state, LeaseState::Closed);
    let all: Vec<Settlement> = more::generations(&w.state, &l).into_iter().chain([l]).map(|l| l.settlement.unwrap()).collect();
    let billed: u64 = all.iter().map(|s| s.billed_ms.0).sum();
    assert!(all.len() == 2 && billed < end, "{billed} of {end}");
    let spent = all.iter().fold(Amount::ZERO, |sum, s| sum.saturating_add(s.charged));
    assert!(spent <= escrow && spent < honest(end).charged);
}
