//! Usage of many leases in one action: the same effect as alone, and no way to take what alone is refused.

#![cfg(test)]

mod common;
mod crowd;

use common::*;
use crowd::*;
use pasture_ledger::*;
use pasture_types::bundle::{BundledUsage, Confirmed, Confirmer, Known, Short, UsageBundle};
use pasture_types::lease::{EndReason, Usage};
use pasture_types::service::ServiceAction;
use pasture_types::tx::*;
use pasture_types::*;

const LEASES: usize = 4;

/// A zone with running leases of one node.
fn running() -> (World, Vec<LeaseId>) {
    let mut w = World::offered();
    let leases: Vec<LeaseId> =
        (0..LEASES).map(|_| w.accepted(market::OrderTerms { resources: resources(1, 1), ..w.order_terms() })).collect();
    w.wait(1_000);
    (w, leases)
}

fn packed(w: &World, usage: &Usage, confirmed: bool) -> BundledUsage {
    let lease = w.lease(&usage.lease);
    let known = Known { lease: lease.id, generation: lease.generation, started: lease.started_at, last: lease.last.as_ref() };
    let signature = w.user.sign(&usage.counter_digest());
    let confirmed = confirmed.then_some(Confirmed { by: Confirmer::User, key: 0, signature });
    BundledUsage::pack(usage, w.epoch() + 1, &known, confirmed)
}

fn bundle(w: &World, usages: Vec<BundledUsage>) -> Action {
    Action::Service(Box::new(ServiceAction::Usage(UsageBundle { epoch: w.epoch() + 1, usages })))
}

fn usages(w: &World, leases: &[LeaseId], served: u64) -> Vec<Usage> {
    let started = w.lease(&leases[0]).started_at.unwrap_or(w.now);
    leases
        .iter()
        .map(|l| Usage { log_bytes: served, log_root: BlobHash([served.to_le_bytes()[0]; 32]), ..w.usage(l, started, served) })
        .collect()
}

#[test]
fn a_bundle_does_what_its_usages_do_alone() {
    let (mut alone, leases) = running();
    let (mut bundled, same) = running();
    assert_eq!(leases, same);
    for (round, served) in [0, 3_000, 9_000].into_iter().enumerate() {
        let all = usages(&alone, &leases, served);
        // Each second one is confirmed.
        let one_by_one = all.iter().enumerate().map(|(n, u)| alone.signed(u.clone(), n % 2 == round % 2)).collect();
        let together = all.iter().enumerate().map(|(n, u)| packed(&bundled, u, n % 2 == round % 2)).collect();
        let events = alone.node_act(one_by_one).unwrap();
        let action = bundle(&bundled, together);
        assert_eq!(bundled.node_act(vec![action]).unwrap(), events);
        for lease in &leases {
            assert_eq!(alone.lease(lease), bundled.lease(lease));
        }
        alone.wait_beating(6_000);
        bundled.wait_beating(6_000);
    }
    assert!(leases.iter().all(|l| bundled.lease(l).confirmed.is_some() && bundled.lease(l).last.is_some()));
}

#[test]
fn a_bundle_is_a_third_of_its_usages() {
    let (mut w, leases) = running();
    let begun = usages(&w, &leases, 10).iter().map(|u| w.signed(u.clone(), true)).collect();
    w.node_act(begun).unwrap();
    w.wait(2_000);
    let all = usages(&w, &leases, 2_000);
    let alone: usize = all.iter().map(|u| codec::encode(&w.signed(u.clone(), true)).len()).sum();
    let together = codec::encode(&bundle(&w, all.iter().map(|u| packed(&w, u, true)).collect())).len();
    assert!(together * 5 < alone * 2, "{together} of {alone} bytes");
}

#[test]
fn what_is_refused_costs_its_neighbours_nothing() {
    let (mut w, leases) = running();
    let gone = leases[1];
    w.user_act(vec![Action::CloseLease { lease: gone, reason: EndReason::StoppedByUser }]).unwrap();
    w.wait(120_000);
    let all: Vec<_> = usages(&w, &leases, 500).into_iter().map(|u| Usage { started: w.now, served_ms: Millis(0), ..u }).collect();
    let closed = w.lease(&gone);
    assert_eq!(closed.state, lease::LeaseState::Closed);
    let items: Vec<_> = all.iter().map(|u| packed(&w, u, true)).collect();
    let action = bundle(&w, items.clone());
    let events = w.node_act(vec![action]).unwrap();
    let recorded = events.iter().filter(|e| matches!(e, event::Event::UsageRecorded { .. })).count();
    assert_eq!(recorded, LEASES - 1);
    assert_eq!(w.lease(&gone), closed, "nothing of it was touched");
    // The same again: everything is recorded already, and so the whole is refused.
    let again = bundle(&w, items);
    assert!(matches!(w.node_act(vec![again]), Err(TxError::Recorded(_))));
}

/// Attack: a node that shows a watcher's old word again and again, to use its grant up.
#[test]
fn a_refused_usage_costs_its_watcher_nothing() {
    let mut w = World::offered();
    let watcher = key(20);
    join(&mut w, &watcher);
    let grant = let_watch(&mut w, &watcher, Amount::credits(1));
    let own = w.accepted(w.order_terms());
    let watched = w.accepted(market::OrderTerms { watcher: Some(watcher.account()), ..w.order_terms() });
    let started = w.now;
    w.wait_beating(12_000);
    let item = |w: &World, served: u64, log_bytes: u64| {
        let usage = Usage { log_bytes, ..w.usage(&watched, started, served) };
        let signature = watcher.sign(&usage.counter_digest());
        BundledUsage { confirmed: Some(Confirmed { by: Confirmer::Watcher, key: 0, signature }), ..packed(w, &usage, false) }
    };
    let first = item(&w, 6_000, 100);
    let action = bundle(&w, vec![first]);
    w.node_act(vec![action]).unwrap();
    let spent = query::grant(&w.state, &grant).unwrap().spent;
    // More service with less of a log is refused; the other lease's usage is taken all the same.
    let beside = packed(&w, &w.usage(&own, started, 5_000), true);
    let shrunk = item(&w, 9_000, 50);
    let action = bundle(&w, vec![shrunk, beside]);
    w.node_act(vec![action]).unwrap();
    assert!(w.lease(&own).confirmed.is_some());
    assert_eq!(query::grant(&w.state, &grant).unwrap().spent, spent);
}

#[test]
fn nothing_is_taken_that_alone_would_not_be() {
    let (mut w, leases) = running();
    let honest = usages(&w, &leases, 100).remove(0);
    let good = packed(&w, &honest, true);
    let confirmed = good.confirmed.unwrap();
    let refused: Vec<(&str, BundledUsage)> = vec![
        ("more than the user confirmed", BundledUsage { served_ms: Short(200), ..good.clone() }),
        ("another log than the user confirmed", BundledUsage { log: None, ..good.clone() }),
        ("a key that the account has not", BundledUsage { confirmed: Some(Confirmed { key: 1, ..confirmed }), ..good.clone() }),
        (
            "a watcher that nobody named",
            BundledUsage { confirmed: Some(Confirmed { by: Confirmer::Watcher, ..confirmed }), ..good.clone() },
        ),
        ("a lease that the node has not", BundledUsage { lease: [0xee; 8], ..good.clone() }),
        ("service in the future", BundledUsage { served_ms: Short(1 << 40), confirmed: None, ..good.clone() }),
        ("an epoch before the first", BundledUsage { epochs_ago: Short(1 << 20), ..good.clone() }),
        ("no beginning", BundledUsage { started: None, confirmed: None, ..good.clone() }),
    ];
    for (what, item) in refused {
        let action = bundle(&w, vec![item]);
        let before = w.lease(&leases[0]);
        assert!(w.node_act(vec![action]).is_err(), "{what}");
        assert_eq!(w.lease(&leases[0]), before, "{what}");
    }
    // Only the node's own key signs for its service.
    let action = bundle(&w, vec![good.clone()]);
    let provider = w.provider.clone();
    assert!(matches!(w.act(&provider, vec![action.clone()]), Err(TxError::Usage(_))));
    assert!(matches!(w.user_act(vec![action]), Err(TxError::Usage(_))));
    let none = bundle(&w, vec![]);
    assert!(matches!(w.node_act(vec![none]), Err(TxError::Usage(_))));
    let many = bundle(&w, vec![good.clone(); 65]);
    assert!(matches!(w.node_act(vec![many]), Err(TxError::Limit { .. })));
    let fine = bundle(&w, vec![good]);
    w.node_act(vec![fine]).unwrap();
}
