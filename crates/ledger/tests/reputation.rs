//! Reputation: what lifts and lowers it, who may rate; and what those try who want it cheaply.

#![cfg(test)]

mod common;

use common::*;
use pasture_ledger::query::reputation as rep;
use pasture_ledger::*;
use pasture_types::event::Event;
use pasture_types::genesis::Params;
use pasture_types::lease::EndReason;
use pasture_types::reputation::*;
use pasture_types::tx::*;
use pasture_types::*;

fn aged_world() -> World {
    let mut w = World::offered();
    w.wait(11_000);
    w
}

fn provider_score(w: &World) -> Score {
    rep::reputation(&w.state, Side::Provider, &w.provider.account()).unwrap()
}

fn user_score(w: &World) -> Score {
    rep::reputation(&w.state, Side::User, &w.user.account()).unwrap()
}

/// A lease of the world's user that serves so long and settles; its fee.
fn served(w: &mut World, ms: u64) -> (LeaseId, Amount) {
    let terms = w.order_terms();
    let id = w.accepted(terms);
    let started = w.now;
    w.wait_beating(ms);
    w.confirmed(&id, started, ms).unwrap();
    w.close_by_node(&id);
    w.wait_beating(12_000);
    let fee = w.lease(&id).settlement.expect("settled").to_treasury;
    (id, fee)
}

fn resident(w: &mut World, n: u8) -> SigningKey {
    let (k, genesis_user) = (key(n), key(1));
    w.act(&genesis_user, vec![Action::TestCredits { to: k.account(), amount: Amount::credits(20) }]).unwrap();
    let body = w.body(k.account(), Auth::Single, vec![Action::RegisterAccount { keys: vec![k.public()], threshold: 1 }]);
    w.send(&body.sign(&k)).unwrap();
    k
}

fn rate(lease: LeaseId, stars: u8) -> Action {
    Action::Reputation(ReputationAction::Rate { lease, stars })
}

#[test]
fn strangers_are_in_the_middle_and_paid_service_lifts_both_sides() {
    let mut w = aged_world();
    assert_eq!((provider_score(&w).ppm, user_score(&w).ppm), (NEUTRAL_PPM, NEUTRAL_PPM));
    let (_, fee) = served(&mut w, 10_000);
    let score = provider_score(&w);
    // What counted fades from the epoch of settlement on.
    assert!(score.standing.fees <= fee && score.standing.fees.0 > fee.0 * 98 / 100, "{score:?} of {fee:?}");
    assert!(score.ppm > NEUTRAL_PPM && user_score(&w).ppm > NEUTRAL_PPM);
    assert_eq!(score.ppm, NEUTRAL_PPM + score.from_fees);
    assert_eq!((score.from_ratings, score.from_harm, score.mean_stars_milli), (0, 0, None));
}

/// Attack: many tiny leases instead of one.
#[test]
fn many_tiny_leases_give_no_more_than_their_fees() {
    let (mut many, mut one) = (aged_world(), aged_world());
    let mut fees = 0;
    for _ in 0..10 {
        fees += served(&mut many, 500).1.0;
    }
    let (_, fee) = served(&mut one, 5_000);
    // Each settlement rounds its fee up by less than two nano-credits, which are paid like the rest.
    assert!(fees <= fee.0 + 20, "{fees} of {fee:?}");
    assert!(provider_score(&many).standing.fees.0 <= fees);
    assert!(provider_score(&many).ppm <= provider_score(&one).ppm + 1);
}

#[test]
fn one_counterparty_gives_at_most_its_cap() {
    let mut w = aged_world();
    let cap = w.genesis.params.reputation.pair_cap;
    let mut fees = 0;
    while fees < 3 * cap.0 {
        fees += served(&mut w, 30_000).1.0;
    }
    assert!(provider_score(&w).standing.fees <= cap);
    assert!(user_score(&w).standing.fees <= cap);
    let pair = rep::reputation_pair(&w.state, &w.provider.account(), &w.user.account()).unwrap();
    assert!(pair.provider_fees <= cap && pair.provider_fees.0 > cap.0 * 9 / 10);
}

/// Attack: the same money through n Sybils. Each pays its fee for real and gives at most its cap; together never more than
/// the fees, so a point of reputation has its price however it is split.
#[test]
fn sybils_gain_no_more_than_what_they_pay_and_their_caps() {
    for sybils in [1u8, 2, 4] {
        let mut w = aged_world();
        let cap = w.genesis.params.reputation.pair_cap.0;
        let users: Vec<_> = (0..sybils).map(|n| resident(&mut w, 60 + n)).collect();
        w.wait(11_000);
        let treasury = query::treasury(&w.state, AssetId::CREDIT).0;
        let mut bound = 0;
        for user in users {
            w.user = user;
            let (_, fee) = served(&mut w, 48_000 / u64::from(sybils));
            bound += fee.0.min(cap);
        }
        let gained = provider_score(&w).standing.fees.0;
        let paid = query::treasury(&w.state, AssetId::CREDIT).0 - treasury;
        assert!(gained <= bound, "{sybils} Sybils: {gained} of {bound}");
        assert!(gained <= paid, "each unit of standing was paid to the treasury");
    }
}

/// Attack: fresh accounts, made for it.
#[test]
fn what_young_accounts_pay_does_not_count() {
    let params = Params { reputation: ReputationParams { min_age: Millis(120_000), ..ReputationParams::dev() }, ..Params::dev() };
    let mut w = World::with(params, 1);
    w.offer();
    w.wait(130_000);
    w.user = resident(&mut w, 60);
    let (id, fee) = served(&mut w, 10_000);
    assert!(!fee.is_zero());
    assert_eq!(provider_score(&w).ppm, NEUTRAL_PPM);
    assert!(user_score(&w).ppm > NEUTRAL_PPM, "the provider is old enough to vouch for its user");
    let user = w.user.clone();
    assert!(matches!(w.act(&user, vec![rate(id, 5)]), Err(TxError::Rating(_))), "nor do their ratings");
}

/// Attack: serve yourself.
#[test]
fn who_serves_itself_gains_nothing() {
    let mut w = aged_world();
    w.user = w.provider.clone();
    let (id, fee) = served(&mut w, 10_000);
    assert!(!fee.is_zero());
    assert_eq!(provider_score(&w).ppm, NEUTRAL_PPM);
    let me = w.user.clone();
    assert_eq!(w.act(&me, vec![rate(id, 5)]), Err(TxError::Rating("you cannot rate your own node")));
}

#[test]
fn a_rating_counts_once_by_what_was_paid_and_can_be_changed_in_time() {
    let mut w = aged_world();
    let (id, fee) = served(&mut w, 10_000);
    let before = provider_score(&w);
    let user = w.user.clone();
    w.act(&user, vec![rate(id, 5)]).unwrap();
    let five = provider_score(&w);
    assert!(five.ppm > before.ppm && five.mean_stars_milli == Some(5_000), "{five:?}");
    assert!(five.standing.rated <= fee);
    w.act(&user, vec![rate(id, 1)]).unwrap();
    let one = provider_score(&w);
    assert!(one.from_ratings < 0, "{one:?}");
    assert_eq!(one.standing.rated, five.standing.rated, "changed, not given twice");
    assert_eq!(one.mean_stars_milli, Some(1_000));
    assert_eq!(rep::rating(&w.state, &id).unwrap().stars, 1);
    for stars in [0, 6, 255] {
        assert!(matches!(w.act(&user, vec![rate(id, stars)]), Err(TxError::Rating(_))));
    }
    let provider = w.provider.clone();
    assert_eq!(w.act(&provider, vec![rate(id, 5)]), Err(TxError::NotYours("the lease")));
    w.wait(3_600_001);
    assert!(matches!(w.act(&user, vec![rate(id, 5)]), Err(TxError::Rating(_))), "the window is over");
}

#[test]
fn ratings_of_one_user_weigh_no_more_than_its_cap() {
    let mut w = aged_world();
    let cap = w.genesis.params.reputation.pair_cap;
    let user = w.user.clone();
    for _ in 0..4 {
        let (id, _) = served(&mut w, 30_000);
        w.act(&user, vec![rate(id, 1)]).unwrap();
    }
    assert!(provider_score(&w).standing.rated <= cap);
}

/// Attack: rate without having paid.
#[test]
fn without_payment_there_is_no_rating() {
    let mut w = aged_world();
    let user = w.user.clone();
    let terms = w.order_terms();
    let id = w.accepted(terms);
    assert!(matches!(w.act(&user, vec![rate(id, 1)]), Err(TxError::Rating(_))), "it still runs");
    w.close_by_node(&id);
    w.wait(20_000);
    assert!(w.lease(&id).settlement.is_some());
    assert!(matches!(w.act(&user, vec![rate(id, 1)]), Err(TxError::Rating(_))), "nothing was paid");
    assert!(matches!(w.act(&user, vec![rate(LeaseId([1; 32]), 1)]), Err(TxError::Unknown { .. })));
    assert_eq!(provider_score(&w).ppm, NEUTRAL_PPM);
}

#[test]
fn an_objection_lowers_both_by_what_was_withheld_and_once_for_each_pair() {
    let mut w = aged_world();
    let cap = w.genesis.params.reputation.pair_cap;
    let mut last = (NEUTRAL_PPM, NEUTRAL_PPM);
    for n in 0..6 {
        let terms = w.order_terms();
        let id = w.accepted(terms);
        let started = w.now;
        w.wait_beating(9_000);
        w.bare(&id, started, 8_000).unwrap();
        w.user_act(vec![Action::Object { lease: id }]).unwrap();
        w.wait_beating(20_000);
        let end = w.lease(&id).settlement.unwrap();
        assert!(!end.withheld.is_zero());
        let now = (provider_score(&w).ppm, user_score(&w).ppm);
        if n == 0 {
            assert!(now.0 < last.0 && now.1 < last.1, "both are lowered: {now:?}");
            let weighed = end.withheld.0 * 150_000 / 1_000_000 * 5;
            assert!(provider_score(&w).standing.harm.0 <= weighed, "by what it cost, times the penalty");
        }
        last = now;
    }
    assert!(provider_score(&w).standing.harm <= cap, "one user alone cannot ruin a provider");
}

/// Attack: a user closes at once and says there was no service, again and again, at no cost.
#[test]
fn an_objection_that_costs_nothing_takes_nothing() {
    let mut w = aged_world();
    for _ in 0..3 {
        let terms = w.order_terms();
        let id = w.accepted(terms);
        w.user_act(vec![Action::CloseLease { lease: id, reason: EndReason::ServiceStopped }]).unwrap();
        w.wait_beating(20_000);
        assert!(w.lease(&id).settlement.is_some());
    }
    assert_eq!(provider_score(&w).standing.harm, Amount::ZERO);
}

#[test]
fn a_lease_that_its_provider_breaks_lowers_the_provider_alone() {
    let mut w = aged_world();
    let terms = w.order_terms();
    let id = w.accepted(terms);
    w.node_act(vec![Action::CloseLease { lease: id, reason: EndReason::StoppedByProvider }]).unwrap();
    w.wait(20_000);
    assert!(provider_score(&w).ppm < NEUTRAL_PPM);
    assert_eq!(user_score(&w).ppm, NEUTRAL_PPM);
    // Whitewashing gives back the middle and not a point more; it costs the identity its deposit stands on.
    let fresh = rep::reputation(&w.state, Side::Provider, &key(99).account()).unwrap();
    assert_eq!(fresh.ppm, NEUTRAL_PPM);
}

#[test]
fn a_lost_lease_lowers_its_provider() {
    let mut w = aged_world();
    let terms = w.order_terms();
    let id = w.accepted(terms);
    w.wait(1_900_000);
    assert_eq!(w.lease(&id).end_reason(), Some(&EndReason::Lost));
    assert!(w.lease(&id).settlement.is_some());
    assert!(provider_score(&w).ppm < NEUTRAL_PPM);
}

#[test]
fn standing_fades_by_half_lives_and_a_halt_costs_none() {
    let mut w = aged_world();
    served(&mut w, 20_000);
    let fees = provider_score(&w).standing.fees.0;
    let half_life = w.genesis.params.reputation.half_life_epochs * 5_000;
    // A halt: a lease's epoch was due, and no block came for three half-lives.
    let terms = w.order_terms();
    w.accepted(terms);
    let before = provider_score(&w).standing.fees.0;
    w.block(3 * half_life, &[]);
    assert!(provider_score(&w).standing.fees.0 > before * 99 / 100, "a halt fades nothing");
    w.wait(half_life);
    w.block(1, &[]);
    let after = provider_score(&w).standing.fees.0;
    assert!(after > fees * 45 / 100 && after < fees * 55 / 100, "{after} of {fees}");
    // Long after, nothing is left, and the score is the middle again but for what the lost lease did, which fades as well.
    w.wait(1_000 * half_life);
    w.block(1_000, &[]);
    let end = provider_score(&w);
    assert_eq!((end.ppm, end.standing.fees, end.standing.harm), (NEUTRAL_PPM, Amount::ZERO, Amount::ZERO));
}

#[test]
fn ratings_past_their_time_are_deleted_and_what_they_gave_stays() {
    let mut w = aged_world();
    let (id, _) = served(&mut w, 10_000);
    w.user_act(vec![rate(id, 5)]).unwrap();
    w.now = w.now.plus(MAX_RATING_WINDOW).plus(Millis(60_000));
    w.block(1, &[]);
    assert!(rep::rating(&w.state, &id).is_none());
    assert_eq!(w.events.iter().filter(|e| matches!(e, Event::Reputation(_))).count(), 1);
}
