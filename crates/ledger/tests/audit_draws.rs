//! Draws, groups, bundled heartbeats, and the bytes that audits take.

#![cfg(test)]

mod audit_common;
mod common;

use audit_common::*;
use common::*;
use pasture_ledger::*;
use pasture_types::audit::*;
use pasture_types::event::{Event, Hash32};
use pasture_types::genesis::Params;
use pasture_types::tx::*;
use pasture_types::*;
use std::collections::{BTreeMap, BTreeSet};

/// A world with further operators, each with so many offered nodes; one tick in ten draws a group.
fn crowd(mut params: Params, operators: u8, nodes: u8) -> World {
    params.audits.interval = Millis(params.audits.tick.0 * 10);
    let mut w = world(4, params);
    for o in 0..operators {
        let operator = SigningKey::from_seed([20 + o; 32]);
        let money = Action::Transfer { to: operator.account(), asset: AssetId::CREDIT, amount: Amount::credits(3) };
        w.user_act(vec![money]).unwrap();
        let keys = vec![operator.public()];
        let stake = Action::Stake { amount: Amount::credits(1) };
        let mut actions = vec![Action::RegisterAccount { keys, threshold: 1 }, Action::RegisterProvider { name: "x".into() }, stake];
        for n in 0..nodes {
            let node = SigningKey::from_seed([40 + o * 16 + n; 32]);
            actions.push(w.register_node(&operator, &node, declared(CORE)));
            actions.push(Action::PutOffer { node: node.node_id(), number: 0, terms: Box::new(offer_terms()) });
        }
        w.act(&operator, actions).unwrap();
    }
    w
}

fn drawn(events: &[Event]) -> Vec<(u64, NodeId, u64)> {
    let of = |e: &Event| match e {
        Event::Audit(AuditEvent::Drawn { audit, node, epoch, attempt: 1, .. }) => Some((*audit, *node, *epoch)),
        _ => None,
    };
    events.iter().filter_map(of).collect()
}

/// Nodes that were drawn in one block.
fn together(w: &mut World, ticks: u64) -> Vec<BTreeSet<NodeId>> {
    let mut out = vec![];
    let end = w.now.plus(Millis(ticks * w.genesis.params.audits.tick.0));
    while w.now < end {
        let before = w.events.len();
        w.block(500, &[]);
        let nodes: BTreeSet<NodeId> = drawn(&w.events[before..]).into_iter().map(|(_, node, _)| node).collect();
        if !nodes.is_empty() {
            out.push(nodes);
        }
    }
    out
}

#[test]
fn groups_are_drawn_whole_and_each_as_often_as_the_next() {
    // Five operators with three nodes each, and the world's own with one. Nobody answers, so all stay on the roster.
    let mut w = crowd(params(), 5, 3);
    let mut times: BTreeMap<NodeId, u32> = BTreeMap::new();
    let ticks = 1_200;
    for nodes in together(&mut w, ticks) {
        let operators: BTreeSet<AccountId> = nodes.iter().map(|n| query::node(&w.state, n).unwrap().provider).collect();
        for operator in operators.iter().filter(|o| **o != w.provider.account()) {
            let of_it = nodes.iter().filter(|n| query::node(&w.state, n).unwrap().provider == *operator).count();
            assert_eq!(of_it, 3, "all identities of an operator in the same window");
        }
        for n in nodes {
            *times.entry(n).or_default() += 1;
        }
    }
    assert_eq!(times.len(), 16);
    // One in ten ticks: 120, less what falls into an audit that is open (up to eight ticks); standard deviation about 10.
    assert!(times.values().all(|n| (40..=125).contains(n)), "{times:?}");
    let (least, most) = (times.values().min().unwrap(), times.values().max().unwrap());
    assert!(most - least <= 45, "{times:?}");
}

#[test]
fn nodes_in_one_place_are_drawn_together_whoever_owns_them() {
    let mut p = params();
    p.audits.places = true;
    let mut w = crowd(p, 2, 1);
    let nodes: Vec<NodeId> = [40u8, 56].iter().map(|n| SigningKey::from_seed([*n; 32]).node_id()).collect();
    let place = |w: &World, node: NodeId, epoch: u64, signers: &[u8]| {
        let placement = Placement { node, place: Some(Hash32([7; 32])), epoch };
        let digest = placement.digest(&w.zone());
        let mut signatures: Vec<_> = signers.iter().map(|n| (validator_key(*n).node_id(), validator_key(*n).sign(&digest))).collect();
        signatures.sort_by_key(|(key, _)| *key);
        Action::Audit(Box::new(AuditAction::Place { placement, signatures }))
    };
    w.wait(30_000);
    let now = w.epoch();
    let few = place(&w, nodes[0], now, &[0, 1]);
    assert!(matches!(w.say(few), Err(TxError::SignatureCount { want: 3, .. })), "half of the validators are not enough");
    let stranger = place(&w, nodes[0], now, &[0, 1, 9]);
    assert!(matches!(w.say(stranger), Err(TxError::KeyNotAllowed { .. })));
    let early = place(&w, nodes[0], now + 100, &[0, 1, 2]);
    assert!(matches!(w.say(early), Err(TxError::Audit(_))));
    for node in &nodes {
        let action = place(&w, *node, now, &[0, 1, 2]);
        w.say(action.clone()).unwrap();
        assert!(matches!(w.say(action), Err(TxError::Audit(_))), "replayed");
    }
    let mut seen = 0;
    for drawn in together(&mut w, 200) {
        let found = nodes.iter().filter(|n| drawn.contains(n)).count();
        seen += found;
        assert_ne!(found, 1, "{drawn:?}");
    }
    assert!(seen >= 4);
}

#[test]
fn grouping_by_place_is_off_in_development() {
    let mut w = world(1, params());
    let placement = Placement { node: w.node.node_id(), place: None, epoch: 1 };
    let action = Action::Audit(Box::new(AuditAction::Place { placement, signatures: vec![] }));
    assert!(matches!(w.say(action), Err(TxError::NotActive(_))));
}

#[test]
fn a_node_that_joins_after_the_tick_is_not_drawn_by_it() {
    let mut w = world(1, params());
    // A tick has come, its draw waits for the next block, and the world's node is free to be drawn.
    while query::audit_state(&w.state).drawing.is_none() || w.of_node().open.is_some() {
        w.block(500, &[]);
    }
    let (provider, second) = (w.provider.clone(), key(70));
    let register = w.register_node(&provider, &second, declared(CORE));
    let offer = Action::PutOffer { node: second.node_id(), number: 0, terms: Box::new(offer_terms()) };
    let before = w.events.len();
    // Its operator's group is drawn in the very block that this is in.
    w.act(&provider, vec![register, offer]).unwrap();
    let now: Vec<NodeId> = drawn(&w.events[before..]).into_iter().map(|(_, node, _)| node).collect();
    assert_eq!(now, vec![w.node.node_id()]);
    w.wait(20_000);
    assert!(query::open_audits(&w.state).iter().any(|a| a.node == second.node_id()), "a later tick draws it");
}

#[test]
fn large_validator_sets_send_sixteen_and_all_repeat() {
    let mut w = world(30, params());
    let audit = w.drawn();
    assert_eq!(audit.witnesses.len(), 16);
    w.run(&audit, BURST_HASHES, &|_| Word::Late);
    w.until(audit.number);
    let again = w.drawn();
    assert_eq!((again.attempt, again.witnesses.len()), (2, 30));
    assert_ne!(again.randomness, audit.randomness);
    w.run(&again, BURST_HASHES, &|i| if i < 9 { Word::Late } else { Word::InTime });
    assert_eq!(w.until(again.number).verdict, Some(Verdict::Passed));
    assert_eq!(w.of_node().failing_from, None);
}

/// Blocks of one proposer alone: more than are kept, and no randomness for draws.
fn lonely(w: &mut World) {
    let kept = 512;
    for _ in 0..kept + 20 {
        let ctx = BlockCtx { proposer: validator_key(0).node_id().0, ..w.ctx(10) };
        let events = [begin_block(&mut w.state, &ctx), end_block(&mut w.state, &ctx)].concat();
        assert_eq!(drawn(&events), vec![], "no few proposers decide");
        w.events.extend(events);
    }
    check(&w.state).unwrap();
}

#[test]
fn a_draw_whose_randomness_is_gone_is_drawn_anew() {
    let mut w = world(4, params());
    while query::audit_state(&w.state).drawing.is_none() || w.of_node().open.is_some() {
        w.block(500, &[]);
    }
    let before = query::audit_state(&w.state).drawing.unwrap();
    lonely(&mut w);
    let anew = query::audit_state(&w.state).drawing.unwrap();
    assert!(anew.height > before.height && anew.height < w.height, "{before:?}, {anew:?}");
    // f + 1 = 2 of four proposers.
    w.block(10, &[]);
    w.block(10, &[]);
    let audit = w.open().expect("drawn");
    w.run(&audit, BURST_HASHES, &|_| Word::InTime);
    assert_eq!(w.until(audit.number).verdict, Some(Verdict::Passed));
}

#[test]
fn a_repetition_whose_randomness_is_gone_takes_what_there_is() {
    let mut w = world(4, params());
    let first = w.drawn();
    w.run(&first, BURST_HASHES, &|_| Word::Late);
    while query::audit(&w.state, first.number).unwrap().verdict.is_none() {
        w.block(500, &[]);
    }
    assert_eq!(w.of_node().open.map(|o| o.audit), Some(None), "it waits for randomness");
    lonely(&mut w);
    assert_eq!(w.of_node().open.map(|o| o.audit), Some(None));
    w.block(10, &[]);
    w.block(10, &[]);
    let again = w.open().expect("drawn");
    assert_eq!(again.attempt, 2);
    assert_ne!(again.randomness, first.randomness);
    w.run(&again, BURST_HASHES, &|_| Word::InTime);
    assert_eq!(w.until(again.number).verdict, Some(Verdict::Passed));
}

fn bundle(w: &World, epochs: &[u64]) -> HeartbeatBundle {
    let first = epochs[0];
    let last = *epochs.last().unwrap();
    let shares = (first..=last)
        .map(|e| if epochs.contains(&e) { PackedShares::pack(&w.shares(e).nonces).unwrap() } else { PackedShares::default() })
        .collect();
    HeartbeatBundle { node: w.node.node_id(), class: proof::ResourceClass::Cpu, device: 0, first, shares }
}

#[test]
fn five_epochs_of_heartbeats_go_in_one_transaction() {
    let mut p = Params::dev();
    p.heartbeat_grace_epochs = 5;
    let mut w = world(1, p);
    let terms = w.order_terms();
    w.accepted(terms);
    let first = w.epoch();
    w.wait(4 * 5_000);
    let epochs: Vec<u64> = (first..first + 5).collect();
    let action = |b: HeartbeatBundle| Action::Audit(Box::new(AuditAction::Heartbeats(b)));
    // The node's own key may send them, for itself alone.
    let all = bundle(&w, &epochs);
    let foreign = HeartbeatBundle { node: NodeId([9; 32]), ..all.clone() };
    assert!(w.node_act(vec![action(foreign)]).is_err());
    let one = bundle(&w, &[first + 2]);
    w.node_act(vec![action(one.clone())]).unwrap();
    assert!(matches!(w.node_act(vec![action(one)]), Err(TxError::Recorded(_))), "nothing new");
    let events = w.node_act(vec![action(all.clone())]).unwrap();
    assert_eq!(events.len(), 4, "the one that was there is passed over");
    assert!(epochs.iter().all(|e| query::has_heartbeat(&w.state, &w.node.node_id(), *e)));
    let mut long = all;
    long.shares.push(PackedShares::default());
    assert!(matches!(w.node_act(vec![action(long)]), Err(TxError::Limit { .. })));
}

/// Bytes of an action and of the envelope around it.
fn sizes(w: &mut World, action: Action) -> (usize, usize) {
    let node = w.node.clone();
    let provider = w.provider.account();
    let bare = codec::encode(&action).len();
    let whole = codec::encode(&w.body(provider, Auth::Node(node.node_id()), vec![action]).sign(&node)).len();
    (bare, whole - bare)
}

#[test]
fn ten_thousand_nodes_take_under_three_gigabytes_a_day() {
    let mut w = world(16, params());
    let audit = w.drawn();
    let p = AuditParams::production();
    // Nonces as an 8-core node of 10 MH/s a core would find them.
    let spread = |k: u64, hashes: u64| PackedShares::pack(&(1..=k).map(|n| n * (hashes / k) - 1).collect::<Vec<_>>()).unwrap();
    let answer = Answer { shares: spread(32, 8 * 10_000_000 * p.burst.0 / 1_000), ..w.answer(&audit, BURST_HASHES) };
    let (answer, envelope) = sizes(&mut w, Action::Audit(Box::new(AuditAction::Answers(vec![answer]))));
    let receipt = codec::encode(&Receipt { offset: 0, elapsed_ms: 0, rtt_ms: 0, tag: 0 }).len();
    let heartbeat = HeartbeatBundle { shares: vec![spread(16, 10_000_000 * 3 / 10); 5], ..bundle_of(&w) };
    let (beats, _) = sizes(&mut w, Action::Audit(Box::new(AuditAction::Heartbeats(heartbeat))));
    assert!((beats + envelope) / 5 <= 256, "at most 256 bytes a node-epoch");

    let day = 24 * 3_600_000;
    let audits = day / usize::try_from(p.interval.0).unwrap();
    let epochs = day / usize::try_from(Params::production().epoch.0).unwrap();
    // Witnesses carry answers with their receipts: sixteen to an envelope.
    let per_audit = answer + envelope / 16 + 16 * receipt;
    let of_audits = audits * per_audit;
    let of_beats = epochs / 5 * (beats + envelope);
    let of_all = 10_000 * (of_audits + of_beats);
    println!("an envelope {envelope}, an answer {answer}, a receipt {receipt}, five heartbeats {beats} bytes");
    println!("a node-day: audits {of_audits}, heartbeats {of_beats} bytes; 10,000 nodes: {of_all} bytes a day");
    assert!(of_all < 3_000_000_000);
    assert!(of_all > 1_000_000_000, "the estimate has lost something");
}

fn bundle_of(w: &World) -> HeartbeatBundle {
    HeartbeatBundle { node: w.node.node_id(), class: proof::ResourceClass::Cpu, device: 0, first: 0, shares: vec![] }
}
