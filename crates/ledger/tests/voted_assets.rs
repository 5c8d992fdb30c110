//! An asset that a vote admits: a bridged dollar that pays, is put on hold, split and returned like the credit. Spec:
//! `docs/specs/assets.md` §1.

#![cfg(test)]

mod common;
mod crowd;
mod town;

use common::*;
use crowd::*;
use pasture_ledger::query::{deposits, reputation as rep};
use pasture_ledger::service::query as more;
use pasture_ledger::*;
use pasture_types::channel::*;
use pasture_types::genesis::Params;
use pasture_types::governance::{AssetTerms, Change, MAX_CHANGES};
use pasture_types::market::{OfferTerms, OrderTerms};
use pasture_types::service::ServiceAction;
use pasture_types::tx::*;
use pasture_types::*;
use town::{enact, params, pass, propose, town};

/// Two credits are worth a dollar.
fn terms() -> AssetTerms {
    AssetTerms { symbol: "USDX".into(), decimals: 6, bridged: true, per_credit: Some(Amount(500_000_000)) }
}

fn list(asset: AssetId, terms: AssetTerms) -> Change {
    Change::Asset { asset, terms }
}

fn dollars(w: &World, k: &SigningKey) -> Amount {
    query::balance(&w.state, &k.account(), DOLLAR)
}

/// A zone that has voted a dollar in; its user has 100, its provider takes them.
fn dollar_town() -> World {
    let mut w = town(Params::dev());
    w.offer();
    let to = w.user.account();
    let mint = || vec![act(ServiceAction::TestAsset { to, asset: DOLLAR, amount: Amount::credits(100) })];
    assert_eq!(code(w.user_act(mint())), 40, "it does not exist before the vote");
    enact(&mut w, vec![list(DOLLAR, terms())]);
    w.user_act(mint()).unwrap();
    let (provider, node) = (w.provider.clone(), w.node.node_id());
    let terms = OfferTerms { asset: DOLLAR, ..offer_terms() };
    w.act(&provider, vec![Action::PutOffer { node, number: 0, terms: Box::new(terms) }]).unwrap();
    w.idle();
    w
}

#[test]
fn a_voted_dollar_pays_escrows_splits_and_returns_like_the_credit() {
    let mut w = dollar_town();
    let (user, provider) = (w.user.clone(), w.provider.clone());
    let model = BlobHash([5; 32]);
    let credits = query::treasury(&w.state, AssetId::CREDIT);
    let lease = w.accepted(OrderTerms { asset: DOLLAR, model: Some(model), ..w.order_terms() });
    assert_eq!(dollars(&w, &user), Amount::credits(99), "an hour is on hold");
    let started = w.now;
    w.wait_beating(80_000);
    w.confirmed(&lease, started, 79_000).unwrap();
    let interim = dollars(&w, &provider);
    assert!(!interim.is_zero(), "an interim payment in dollars");
    w.user_act(vec![Action::Extend { lease, duration: Millis::secs(60) }]).unwrap();
    w.close_by_node(&lease);
    w.wait_beating(10_000);
    let s = w.lease(&lease).settlement.unwrap();
    assert_eq!((s.asset, s.charged), (DOLLAR, cost(79_000)));
    assert_eq!(dollars(&w, &provider), s.to_provider);
    assert_eq!(s.to_provider, cost(79_000).mul_div(80, 100).unwrap());
    assert_eq!(query::treasury(&w.state, DOLLAR), s.to_treasury);
    assert_eq!(more::held_for_model(&w.state, &model, DOLLAR), s.to_model);
    assert_eq!(dollars(&w, &user), Amount::credits(100).checked_sub(s.charged).unwrap());
    assert_eq!(query::treasury(&w.state, AssetId::CREDIT), credits, "no credit moved");
    assert_eq!(query::supply(&w.state, DOLLAR), Amount::credits(100));
    // The treasury spends it by a vote, and it counts for standing at its rate.
    let to = key(77).account();
    enact(&mut w, vec![Change::Spend { to, asset: DOLLAR, amount: s.to_treasury }]);
    assert_eq!(query::balance(&w.state, &to, DOLLAR), s.to_treasury);
    let standing = rep::reputation(&w.state, Side::Provider, &provider.account()).unwrap().standing;
    assert!(!standing.fees.is_zero());
}

#[test]
fn channels_fees_transfers_and_watchers_take_it_too() {
    let mut w = dollar_town();
    let (user, provider) = (w.user.clone(), w.provider.clone());
    let purse = key(70);
    let (asset, expires) = (DOLLAR, w.now.plus(Millis::secs(600)));
    let open =
        ChannelAction::Open { provider: provider.account(), asset, amount: Amount::credits(10), key: purse.public(), expires, model: None };
    w.user_act(vec![Action::Channel(open)]).unwrap();
    let c = query::channel(&w.state, &channel_id(&user.account(), &provider.account(), DOLLAR)).unwrap();
    let voucher = Voucher { zone: w.genesis.zone(), channel: c.id, generation: c.generation, amount: Amount::credits(2) }.sign(&purse);
    w.act(&provider, vec![Action::Channel(ChannelAction::Cash { voucher })]).unwrap();
    assert_eq!(dollars(&w, &provider), Amount(1_700_000_000));
    // Fees cost what the vote said: half of what they are in credits.
    let transfer = Action::Transfer { to: key(9).account(), asset: DOLLAR, amount: Amount(5) };
    let mut body = w.body(user.account(), Auth::Single, vec![transfer]);
    body.fee_asset = DOLLAR;
    let envelope = body.sign(&user);
    let fee = Amount(fee_for(&params(&w), &envelope).0.div_ceil(2));
    let before = dollars(&w, &user);
    w.send(&envelope).unwrap();
    assert_eq!(dollars(&w, &user), before.checked_sub(Amount(fee.0 + 5)).unwrap());
    // A watcher's budget is per asset.
    let watcher = key(20);
    join(&mut w, &watcher);
    let lease = w.accepted(OrderTerms { asset: DOLLAR, watcher: Some(watcher.account()), ..w.order_terms() });
    let started = w.now;
    w.wait_beating(6_000);
    confirm(&mut w, &lease, started, 5_000, &watcher).unwrap();
    let left = |asset| query::watch_left(&w.state, &user.account(), &watcher.account(), &watcher.public(), asset).unwrap();
    assert_eq!(
        (left(AssetId::CREDIT), left(DOLLAR)),
        (Amount::credits(1_000_000), Amount::credits(1_000_000).checked_sub(cost(5_000)).unwrap())
    );
}

#[test]
fn a_vote_changes_name_and_fees_but_not_what_amounts_mean() {
    let mut w = dollar_town();
    enact(&mut w, vec![list(DOLLAR, AssetTerms { symbol: "USDY".into(), per_credit: None, ..terms() })]);
    assert_eq!(more::assets(&w.state)[0].symbol, "USDY");
    assert_eq!(params(&w).service.fee_rates, Params::dev().service.fee_rates, "no fees in it any more");
    let user = w.user.clone();
    let mut body = w.body(user.account(), Auth::Single, vec![Action::Transfer { to: key(9).account(), asset: DOLLAR, amount: Amount(5) }]);
    body.fee_asset = DOLLAR;
    assert_eq!(code(w.send(&body.sign(&user))), 140);
    for (what, change, wanted) in [
        ("decimals", list(DOLLAR, AssetTerms { decimals: 9, ..terms() }), 6),
        ("where it comes from", list(DOLLAR, AssetTerms { bridged: false, ..terms() }), 6),
        ("the credit", list(AssetId::CREDIT, terms()), 6),
        ("another asset's symbol", list(AssetId(8), AssetTerms { symbol: "usdy".into(), ..terms() }), 41),
        ("the credit's symbol", list(AssetId(8), AssetTerms { symbol: "Credits".into(), ..terms() }), 41),
        ("no symbol", list(AssetId(8), AssetTerms { symbol: String::new(), ..terms() }), 6),
        ("a symbol that hides something", list(AssetId(8), AssetTerms { symbol: "US\u{202e}D".into(), ..terms() }), 6),
        ("a long symbol", list(AssetId(8), AssetTerms { symbol: "DOLLARDOLLARS".into(), ..terms() }), 6),
        ("more decimals than amounts have", list(AssetId(8), AssetTerms { symbol: "EUR".into(), decimals: 10, ..terms() }), 5),
        ("a rate of nothing", list(AssetId(8), AssetTerms { symbol: "EUR".into(), per_credit: Some(Amount::ZERO), ..terms() }), 101),
        (
            "a rate beyond counting",
            list(AssetId(8), AssetTerms { symbol: "EUR".into(), per_credit: Some(Amount(u128::MAX)), ..terms() }),
            101,
        ),
    ] {
        assert_eq!(propose(&mut w, vec![change]).unwrap_err().code(), wanted, "{what}");
    }
    // One proposal may admit an asset and set its fees among others, in any order of the two.
    let mut service = params(&w).service;
    service.fee_rates[2] = Some(asset::FeeRate { asset: AssetId(9), per_credit: Amount(7) });
    let euro = list(AssetId(9), AssetTerms { symbol: "EUR".into(), per_credit: Some(Amount(7)), ..terms() });
    enact(&mut w, vec![Change::Service(Box::new(service)), euro]);
    assert_eq!(params(&w).service.fee_rates.iter().flatten().count(), 1);
}

#[test]
fn assets_are_bounded_and_so_are_those_that_pay_fees() {
    let mut w = town(Params::dev());
    let named = |n: u32, per_credit| list(AssetId(n), AssetTerms { symbol: format!("A{n}"), per_credit, ..terms() });
    let eight = (1..=8).map(|n| named(n, Some(Amount(n.into())))).collect();
    enact(&mut w, eight);
    assert_eq!(propose(&mut w, vec![named(9, Some(Amount(9)))]).unwrap_err().code(), 5, "a ninth asset for fees");
    let rest: Vec<Change> = (9..=64).map(|n| named(n, None)).collect();
    for part in rest.chunks(MAX_CHANGES) {
        enact(&mut w, part.to_vec());
    }
    assert_eq!(propose(&mut w, vec![named(65, None)]).unwrap_err().code(), 5, "a sixty-fifth asset");
    enact(&mut w, vec![named(64, None), named(1, None)]);
}

/// Attack: take leases in an asset of which one unit is worth many credits, as if it were worth one.
#[test]
fn a_deposit_carries_what_a_rate_is_worth_in_credits() {
    let mut w = dollar_town();
    let room = deposits::rate_room(&w.state, &w.node.node_id()).unwrap();
    // A hundred credits a dollar: what a dollar an hour needs is a hundred times what a credit an hour needs.
    enact(&mut w, vec![list(DOLLAR, AssetTerms { per_credit: Some(Amount(10_000_000)), ..terms() })]);
    assert!(room < Amount::credits(100), "{room:?}");
    let order = w.place(OrderTerms { asset: DOLLAR, ..w.order_terms() });
    w.wait(5_000);
    assert!(query::lease_of_order(&w.state, &order).is_none(), "one dollar an hour is a hundred credits");
    // And one that is worth little needs little.
    enact(&mut w, vec![list(DOLLAR, AssetTerms { per_credit: Some(Amount::credits(100)), ..terms() })]);
    let before = deposits::rate_room(&w.state, &w.node.node_id()).unwrap();
    w.accepted(OrderTerms { asset: DOLLAR, ..w.order_terms() });
    let after = deposits::rate_room(&w.state, &w.node.node_id()).unwrap();
    let taken = before.checked_sub(after).unwrap();
    assert!(taken >= Amount(10_000_000) && taken < Amount(10_100_000), "a hundredth of a credit an hour: {taken:?}");
}

#[test]
fn the_pool_of_validators_pays_every_asset_out() {
    let mut w = World::with(Params::dev(), 2);
    town::found(&mut w);
    enact(&mut w, vec![list(DOLLAR, terms())]);
    let (user, operator) = (w.user.clone(), w.operator.clone());
    w.user_act(vec![act(ServiceAction::TestAsset { to: user.account(), asset: DOLLAR, amount: Amount::credits(1) })]).unwrap();
    w.wait(w.genesis.params.validators.term.0);
    w.block(10, &[]);
    let mut body = w.body(user.account(), Auth::Single, vec![Action::Transfer { to: key(9).account(), asset: DOLLAR, amount: Amount(5) }]);
    body.fee_asset = DOLLAR;
    let envelope = body.sign(&user);
    let fee = fee_for(&params(&w), &envelope).0.div_ceil(2);
    w.send(&envelope).unwrap();
    assert_eq!(dollars(&w, &operator), Amount(fee - fee / 2), "its proposer's half");
    w.wait(w.genesis.params.validators.term.0 + 1_000);
    w.block(10, &[]);
    let shared = dollars(&w, &operator).0 + query::treasury(&w.state, DOLLAR).0;
    assert_eq!(shared, fee, "the other half did not stay in the pool");
    assert!(dollars(&w, &operator).0 >= fee - 2);
}

#[test]
fn a_vote_on_an_asset_that_fails_later_changes_nothing() {
    let mut w = town(Params::dev());
    let first = pass(&mut w, vec![list(AssetId(8), terms())], |_, _| {});
    assert!(matches!(first, ProposalState::Voting { .. }));
    let second = pass(&mut w, vec![Change::MinStake(Amount(5)), list(AssetId(9), terms())], |w, ms| w.wait(ms));
    assert!(matches!(second, ProposalState::Failed { code: 41, .. }), "the symbol was taken meanwhile: {second:?}");
    assert_ne!(params(&w).min_stake, Amount(5));
    assert_eq!(more::assets(&w.state).len(), 1);
}
