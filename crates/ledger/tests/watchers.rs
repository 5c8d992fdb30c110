//! Watchers and evidence: what they may confirm, what a lying one can gain, and that it can gain no more. Spec: `docs/specs/settlement.md`
//! §5, §7.

#![cfg(test)]

mod common;
mod crowd;

use common::*;
use crowd::*;
use pasture_ledger::*;
use pasture_types::event::{ConfirmedBy, Event, Settlement};
use pasture_types::genesis::Params;
use pasture_types::grant::*;
use pasture_types::lease::{Countersignature, EndReason, LeaseState, SignedUsage};
use pasture_types::market::{AliveCheck, Failover, OrderTerms};
use pasture_types::service::*;
use pasture_types::tx::Action;
use pasture_types::*;

/// What an objection reaches back over in a development zone.
const REACH: u64 = 10_000;

fn watched(params: Params) -> (World, SigningKey) {
    let mut w = World::with(params, 1);
    w.offer();
    let watcher = key(20);
    join(&mut w, &watcher);
    (w, watcher)
}

fn terms(w: &World, watcher: &SigningKey) -> OrderTerms {
    OrderTerms { watcher: Some(watcher.account()), ..w.order_terms() }
}

fn capped(ms: u64) -> Params {
    let mut params = Params::dev();
    params.service.watcher_per_day = Millis(ms);
    params
}

fn settled(w: &mut World, lease: &LeaseId) -> Settlement {
    w.wait_beating(30_000);
    w.lease(lease).settlement.expect("settled")
}

#[test]
fn a_watcher_confirms_in_the_users_place_and_the_receipt_names_it() {
    let (mut w, watcher) = watched(Params::dev());
    let lease = w.accepted(terms(&w, &watcher));
    let started = w.now;
    w.wait_beating(12_000);
    confirm(&mut w, &lease, started, 12_000, &watcher).unwrap();
    w.close_by_node(&lease);
    let s = settled(&mut w, &lease);
    assert_eq!((s.billed_ms, s.confirmed_by), (Millis(12_000), ConfirmedBy::Watcher(watcher.account())));
    // The user's own word on top is the user's.
    let lease = w.accepted(terms(&w, &watcher));
    let started = w.now;
    w.wait_beating(6_000);
    confirm(&mut w, &lease, started, 5_000, &watcher).unwrap();
    w.confirmed(&lease, started, 6_000).unwrap();
    w.close_by_node(&lease);
    assert_eq!(settled(&mut w, &lease).confirmed_by, ConfirmedBy::User);
}

/// Attack: a watcher that confirms everything, over many leases, within each lease's cap.
#[test]
fn over_all_leases_a_watcher_confirms_no_more_than_its_grant() {
    let (mut w, watcher) = watched(Params::dev());
    let user = w.user.account();
    let grant = let_watch(&mut w, &watcher, cost(20_000));
    let left = |w: &World| query::watch_left(&w.state, &user, &watcher.account(), &watcher.public(), AssetId::CREDIT).unwrap();
    let one = w.accepted(terms(&w, &watcher));
    let started = w.now;
    let two = w.accepted(terms(&w, &watcher));
    let later = w.now;
    w.wait_beating(15_000);
    confirm(&mut w, &one, started, 8_000, &watcher).unwrap();
    assert_eq!(left(&w), cost(20_000).checked_sub(cost(8_000)).unwrap());
    confirm(&mut w, &two, later, 8_000, &watcher).unwrap();
    // What counts already costs nothing again; what is new does, whichever lease it is of.
    confirm(&mut w, &one, started, 8_500, &watcher).unwrap();
    assert_eq!(left(&w), cost(20_000).checked_sub(cost(16_500)).unwrap());
    assert_eq!(code(confirm(&mut w, &two, later, 12_000, &watcher)), 71, "3.5 s are left, 4 s were asked");
    confirm(&mut w, &two, later, 11_500, &watcher).unwrap();
    assert_eq!(left(&w), Amount::ZERO);
    assert_eq!(code(confirm(&mut w, &one, started, 8_501, &watcher)), 71);
    let spent = query::grant(&w.state, &grant).unwrap().spent;
    assert_eq!(spent, [cost(20_000), Amount::ZERO], "in the lease's asset");
    // The user's own word costs the watcher nothing.
    w.confirmed(&one, started, 9_000).unwrap();
    w.close_by_node(&one);
    w.close_by_node(&two);
    assert_eq!(settled(&mut w, &one).confirmed_by, ConfirmedBy::User);
    assert_eq!(w.lease(&two).settlement.unwrap().confirmed_by, ConfirmedBy::Watcher(watcher.account()));
}

#[test]
fn a_watcher_confirms_by_its_grant_only_and_with_its_key() {
    let (mut w, watcher) = watched(Params::dev());
    let lease = w.accepted(terms(&w, &watcher));
    let started = w.now;
    w.wait_beating(6_000);
    let usage = |w: &World, served| w.usage(&lease, started, served);
    let (node, user) = (w.node.clone(), w.user.clone());
    let by_account = usage_by(&node, usage(&w, 5_000), Some(&watcher));
    assert_eq!(code(w.node_act(vec![by_account.clone()])), 70, "the order names it, but nobody gave it a grant");
    // The grant's key signs, not the account's: the watcher's own keys stay at home.
    let hot = key(61);
    let with_key = GrantTerms {
        key: hot.public(),
        may: GrantUse::Watch { watcher: watcher.account() },
        budget: vec![Budget { asset: AssetId::CREDIT, amount: Amount::credits(1) }],
        expires: w.now.plus(Millis::secs(3600)),
    };
    let events = w.user_act(vec![Action::Grant(GrantAction::Create { terms: Box::new(with_key) })]).unwrap();
    let Event::Grant(GrantEvent::Created { grant, .. }) = events[0] else { panic!("{events:?}") };
    assert_eq!(code(w.node_act(vec![by_account])), 70);
    let signed = |w: &World, served| {
        let usage = usage(w, served);
        let signature = hot.sign(&usage.counter_digest());
        let countersignature = Some(Countersignature { account: watcher.account(), key: hot.public(), signature });
        let node_signature = node.sign(&usage.digest());
        Action::SubmitUsage { usage: Box::new(SignedUsage { usage, node: node.node_id(), node_signature, countersignature }) }
    };
    let action = signed(&w, 4_000);
    let events = w.node_act(vec![action]).unwrap();
    assert!(matches!(events[0], Event::UsageRecorded { confirmed_by: Some(by), .. } if by == watcher.account()), "{events:?}");
    // For a lease that the user did not put under its watch, the grant is worth nothing.
    w.user_act(vec![act(ServiceAction::Watch { lease, watcher: None })]).unwrap();
    let action = signed(&w, 5_000);
    assert_eq!(code(w.node_act(vec![action])), 21);
    w.user_act(vec![act(ServiceAction::Watch { lease, watcher: Some(watcher.account()) })]).unwrap();
    // Taken back, it ends at once.
    w.act(&user, vec![Action::Grant(GrantAction::Revoke { grant })]).unwrap();
    let action = signed(&w, 5_000);
    assert_eq!(code(w.node_act(vec![action])), 70);
    let events = w.confirmed(&lease, started, 5_000).unwrap();
    assert!(matches!(events[0], Event::UsageRecorded { confirmed_by: Some(by), .. } if by == user.account()), "{events:?}");
}

#[test]
fn nobody_else_confirms_and_a_dismissed_watcher_does_not_either() {
    let (mut w, watcher) = watched(Params::dev());
    let stranger = key(21);
    join(&mut w, &stranger);
    let lease = w.accepted(terms(&w, &watcher));
    let started = w.now;
    w.wait_beating(6_000);
    assert_eq!(code(confirm(&mut w, &lease, started, 5_000, &stranger)), 21);
    let watch = |watcher| act(ServiceAction::Watch { lease, watcher });
    assert_eq!(code(w.act(&stranger, vec![watch(None)])), 42, "only the user chooses");
    assert_eq!(code(w.node_act(vec![watch(None)])), 24);
    w.user_act(vec![watch(None)]).unwrap();
    assert_eq!(code(w.user_act(vec![watch(None)])), 130, "nothing changes");
    assert_eq!(code(confirm(&mut w, &lease, started, 5_000, &watcher)), 21);
    assert_eq!(code(w.user_act(vec![watch(Some(AccountId([77; 32])))])), 23);
    w.user_act(vec![watch(Some(stranger.account()))]).unwrap();
    confirm(&mut w, &lease, started, 5_000, &stranger).unwrap();
    assert_eq!(w.lease(&lease).confirmed_by, Some(stranger.account()));
    w.close_by_node(&lease);
    settled(&mut w, &lease);
    assert_eq!(code(w.user_act(vec![watch(None)])), 130, "it is settled");
}

#[test]
fn a_watcher_never_shares_an_operator_with_the_provider() {
    let mut w = World::new();
    // The node is also a validator of the operator, who is not its provider.
    w.genesis.validators[0].key = w.node.node_id().0;
    w.state = pasture_ledger::genesis(&w.genesis);
    w.offer();
    let operator = w.operator.clone();
    let lease = w.accepted(w.order_terms());
    let started = w.now;
    w.wait_beating(6_000);
    let watch = |k: &SigningKey| act(ServiceAction::Watch { lease, watcher: Some(k.account()) });
    let provider = w.provider.clone();
    assert_eq!(code(w.user_act(vec![watch(&provider)])), 130, "the provider itself");
    join(&mut w, &operator);
    assert_eq!(code(w.user_act(vec![watch(&operator)])), 130, "it earns for a validator with the node's key");
    // An account that holds one of the provider's keys beside its own.
    let mut keys = vec![key(30).public(), provider.public()];
    keys.sort_unstable();
    let id = keys[0].account();
    let signer = if keys[0] == provider.public() { provider.clone() } else { key(30) };
    if id != provider.account() {
        let user = w.user.clone();
        let mut body = w.body(id, pasture_types::tx::Auth::Single, vec![Action::RegisterAccount { keys, threshold: 1 }]);
        body.fee_payer = Some(user.account());
        w.send(&body.sign(&signer).and_sign(user.account(), &user)).unwrap();
        assert_eq!(code(w.user_act(vec![act(ServiceAction::Watch { lease, watcher: Some(id) })])), 130, "a common key");
    }
    // An order that names the provider as its watcher is not served by it.
    let order = w.place(OrderTerms { watcher: Some(provider.account()), ..w.order_terms() });
    w.wait(5_000);
    assert!(query::lease_of_order(&w.state, &order).is_none());
    w.confirmed(&lease, started, 5_000).unwrap();
}

/// What a provider gets that proves and serves nothing, while the user is away from `0` to `away` and then objects. A watcher
/// confirms what it may just before the user is back.
fn lie(cap: Option<u64>, away: u64, window: u64) -> Settlement {
    let params = Params { objection_epochs: window, ..capped(cap.unwrap_or(0)) };
    let (mut w, watcher) = watched(params);
    let lease = w.accepted(terms(&w, &watcher));
    let started = w.now;
    // One claim ripens at a time: the best one is made just so that its window ends before the user is back.
    if away > REACH + 1_000 {
        w.wait_beating(away - REACH - 500);
        let served = w.now.since(started).0;
        w.bare(&lease, started, served).unwrap();
    }
    let rest = away - 100 - w.now.since(started).0;
    w.wait_beating(rest);
    let served = w.now.since(started).0;
    w.bare(&lease, started, served).unwrap();
    if let Some(cap) = cap {
        let served = w.now.since(started).0.min(cap + w.lease(&lease).accepted_claim().served.0);
        confirm(&mut w, &lease, started, served, &watcher).unwrap();
        // Beyond the cap, on any pretext, it is refused.
        assert!(served < cap || confirm(&mut w, &lease, started, served + 1, &watcher).is_err());
    }
    if w.lease(&lease).last_claim() == w.lease(&lease).accepted_claim() {
        w.user_act(vec![Action::CloseLease { lease, reason: EndReason::ServiceStopped }]).unwrap();
    } else {
        w.user_act(vec![Action::Object { lease }]).unwrap();
    }
    w.wait_beating(60_000);
    w.lease(&lease).settlement.expect("settled")
}

#[test]
fn a_lying_watcher_gains_two_epochs_at_most_and_reaches_it() {
    for away in [8_000, 14_000, 21_000, 33_000] {
        let without = lie(None, away, 2);
        let silent = away.saturating_sub(REACH);
        assert!(without.billed_ms.0 <= silent, "silence pays what an objection does not reach: {} of {silent}", without.billed_ms.0);
        for cap in [4_000, 9_000, 60_000] {
            // G <= max(x - 2 E, 0) + min(C, 2 E, x) bounds what a liar is paid for, whatever it confirms when.
            let bound = silent + cap.min(REACH).min(away);
            let with = lie(Some(cap), away, 2);
            assert!(with.billed_ms.0 <= bound, "away {away} cap {cap}: {} of {bound}", with.billed_ms.0);
            // It gets within a second of it: the bound is not merely large.
            assert!(with.billed_ms.0 + 1_000 > bound, "away {away} cap {cap}: {} of {bound}", with.billed_ms.0);
            assert!(with.to_provider <= cost(bound) && with.withheld <= cost(REACH), "the user loses two epochs more at most");
            // With a longer window nothing has ripened when the user is back: the objection reaches no less far.
            let with = lie(Some(cap), away, 10);
            assert!(with.billed_ms.0 <= silent.max(cap.min(away)), "away {away} cap {cap}: {}", with.billed_ms.0);
        }
    }
}

#[test]
fn the_cap_is_the_leases_and_a_days() {
    let (mut w, watcher) = watched(capped(6_000));
    let second = key(21);
    join(&mut w, &second);
    let lease = w.accepted(OrderTerms { max_duration: Millis::secs(24 * 3600), budget: Amount::credits(30), ..terms(&w, &watcher) });
    let started = w.now;
    w.wait_beating(9_000);
    confirm(&mut w, &lease, started, 4_000, &watcher).unwrap();
    assert_eq!(code(confirm(&mut w, &lease, started, 6_001, &watcher)), 130);
    // Another watcher, or none for a while, resets nothing.
    w.user_act(vec![act(ServiceAction::Watch { lease, watcher: None })]).unwrap();
    w.user_act(vec![act(ServiceAction::Watch { lease, watcher: Some(second.account()) })]).unwrap();
    assert_eq!(code(confirm(&mut w, &lease, started, 6_001, &second)), 130);
    // Building counts like service.
    let mut usage = w.usage(&lease, started, 4_000);
    usage.build_ms = Millis(2_001);
    let node = w.node.clone();
    assert_eq!(code(w.node_act(vec![usage_by(&node, usage, Some(&second))])), 130);
    confirm(&mut w, &lease, started, 6_000, &second).unwrap();
    // What the user confirms itself is not the watcher's.
    w.confirmed(&lease, started, 8_000).unwrap();
    assert_eq!(code(confirm(&mut w, &lease, started, 8_500, &second)), 130);
    // The next day it may confirm as much again.
    w.block(20 * 3_600_000, &[]);
    confirm(&mut w, &lease, started, 14_000, &second).unwrap();
    assert_eq!(code(confirm(&mut w, &lease, started, 14_001, &second)), 130);
}

#[test]
fn evidence_of_the_orders_watcher_returns_what_is_in_dispute() {
    let (mut w, watcher) = watched(Params::dev());
    let lease = w.accepted(terms(&w, &watcher));
    let started = w.now;
    w.wait_beating(10_000);
    w.confirmed(&lease, started, 10_000).unwrap();
    w.wait_beating(6_000);
    w.bare(&lease, started, 16_000).unwrap();
    let events = w.act(&watcher.clone(), vec![evidence(&w, &lease, w.epoch(), &watcher)]).unwrap();
    assert!(matches!(events[0], Event::Service(ServiceEvent::CheckFailed { .. })), "{events:?}");
    assert_eq!(w.lease(&lease).state, LeaseState::Closing, "it is an objection in the user's place");
    let before = w.balance(&w.user);
    let s = settled(&mut w, &lease);
    assert_eq!((s.billed_ms, s.withheld), (Millis(10_000), Amount::ZERO));
    assert_eq!(s.confirmed_by, ConfirmedBy::Evidence(watcher.account()));
    assert_eq!(w.balance(&w.user).checked_sub(before), Some(s.refunded));
    let told = w.events.iter().any(|e| matches!(e, Event::Service(ServiceEvent::Objected { watcher: Some(_), .. })));
    assert!(told, "both sides' standing is told");
}

#[test]
fn an_offline_user_with_an_honest_watcher_pays_for_nothing_after_the_failure() {
    let (mut w, watcher) = watched(Params::dev());
    let lease = w.accepted(terms(&w, &watcher));
    let started = w.now;
    w.wait_beating(10_000);
    confirm(&mut w, &lease, started, 10_000, &watcher).unwrap();
    // The job dies; the node claims on, the watcher says so, the user never shows up.
    w.wait_beating(5_000);
    w.act(&watcher.clone(), vec![evidence(&w, &lease, w.epoch(), &watcher)]).unwrap();
    let _ = w.bare(&lease, started, 15_000);
    let s = settled(&mut w, &lease);
    assert_eq!((s.billed_ms, s.withheld), (Millis(10_000), Amount::ZERO));
}

#[test]
fn evidence_that_shows_nothing_is_refused_or_returns_nothing() {
    let (mut w, watcher) = watched(Params::dev());
    let late = key(21);
    join(&mut w, &late);
    let lease = w.accepted(OrderTerms { alive: AliveCheck::Port(80), ..terms(&w, &watcher) });
    let started = w.now;
    w.wait_beating(11_000);
    w.confirmed(&lease, started, 11_000).unwrap();
    let send = |w: &mut World, report: FailedCheck, by: &SigningKey| {
        let signature = by.sign(&report.digest());
        w.user_act(vec![act(ServiceAction::ReportFailure { report, key: by.public(), signature })])
    };
    let good = FailedCheck { lease, generation: 1, epoch: w.epoch(), check: AliveCheck::Port(80) };
    assert_eq!(code(send(&mut w, FailedCheck { generation: 2, ..good.clone() }, &watcher)), 131);
    assert_eq!(code(send(&mut w, FailedCheck { check: AliveCheck::Exec, ..good.clone() }, &watcher)), 131);
    assert_eq!(code(send(&mut w, FailedCheck { epoch: good.epoch + 1, ..good.clone() }, &watcher)), 131, "the future");
    assert_eq!(code(send(&mut w, good.clone(), &late)), 21, "somebody else's key");
    let forged = act(ServiceAction::ReportFailure { report: good.clone(), key: watcher.public(), signature: late.sign(&good.digest()) });
    assert_eq!(code(w.user_act(vec![forged])), 20);
    // A watcher that the user named after the start may confirm, but its evidence would be the user's own word.
    w.user_act(vec![act(ServiceAction::Watch { lease, watcher: Some(late.account()) })]).unwrap();
    assert_eq!(code(send(&mut w, good.clone(), &late)), 131);
    // Evidence of an epoch that was accepted long ago does not make a later objection pay.
    let (mut w, watcher) = watched(Params::dev());
    let lease = w.accepted(terms(&w, &watcher));
    let started = w.now;
    w.wait_beating(6_000);
    let old = w.epoch();
    w.wait_beating(10_000);
    w.confirmed(&lease, started, 15_000).unwrap();
    w.wait_beating(5_000);
    w.bare(&lease, started, 20_000).unwrap();
    w.act(&watcher.clone(), vec![evidence(&w, &lease, old, &watcher)]).unwrap();
    let s = settled(&mut w, &lease);
    assert_eq!((s.confirmed_by, s.withheld), (ConfirmedBy::Objection, cost(20_000).saturating_sub(cost(15_000))));
}

#[test]
fn a_user_that_is_its_own_watcher_shows_nothing() {
    let mut w = World::offered();
    let user = w.user.clone();
    let lease = w.accepted(OrderTerms { watcher: Some(user.account()), ..w.order_terms() });
    w.wait_beating(6_000);
    let action = evidence(&w, &lease, w.epoch(), &user);
    assert_eq!(code(w.user_act(vec![action])), 131);
}

#[test]
fn a_user_whose_watcher_lies_gains_two_epochs_at_most() {
    // The user's own second account watches and says that good service failed.
    let (mut w, accomplice) = watched(Params::dev());
    let lease = w.accepted(terms(&w, &accomplice));
    let started = w.now;
    w.wait_beating(9_900);
    w.bare(&lease, started, 9_900).unwrap();
    // The longest it can wait: the window of the first claim is almost over.
    w.wait_beating(9_000);
    w.bare(&lease, started, 18_900).unwrap();
    w.act(&accomplice.clone(), vec![evidence(&w, &lease, w.epoch(), &accomplice)]).unwrap();
    let s = settled(&mut w, &lease);
    assert_eq!((s.billed_ms, s.charged), (Millis(8_900), cost(8_900)), "two epochs are lost, not what waited longer");
    // A node that had the epochs confirmed as they passed loses what came since, two epochs at most.
    let lease = w.accepted(terms(&w, &accomplice));
    let started = w.now;
    w.wait_beating(20_000);
    w.confirmed(&lease, started, 10_000).unwrap();
    w.bare(&lease, started, 20_000).unwrap();
    w.act(&accomplice.clone(), vec![evidence(&w, &lease, w.epoch(), &accomplice)]).unwrap();
    assert_eq!(settled(&mut w, &lease).billed_ms, Millis(10_000));
}

#[test]
fn with_failover_evidence_is_kept_and_closes_nothing() {
    let (mut w, watcher) = watched(Params::dev());
    let lease = w.accepted(OrderTerms { failover: Failover::Cold, ..terms(&w, &watcher) });
    let started = w.now;
    w.wait_beating(6_000);
    w.bare(&lease, started, 5_000).unwrap();
    w.act(&watcher.clone(), vec![evidence(&w, &lease, w.epoch(), &watcher)]).unwrap();
    assert_eq!(w.lease(&lease).state, LeaseState::Running);
    assert_eq!(code(w.act(&watcher.clone(), vec![evidence(&w, &lease, w.epoch(), &watcher)])), 131, "said already");
    w.user_act(vec![Action::Object { lease }]).unwrap();
    assert_eq!(settled(&mut w, &lease).confirmed_by, ConfirmedBy::Evidence(watcher.account()));
}
