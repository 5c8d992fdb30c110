//! Money besides the credit: it pays, is put on hold, split and returned like it; fees in it; models and their creators. Spec:
//! `docs/specs/assets.md`, `docs/specs/settlement.md` §11.

#![cfg(test)]

mod common;
mod crowd;

use common::*;
use crowd::*;
use pasture_ledger::service::query as more;
use pasture_ledger::*;
use pasture_types::asset::{Allocation, Asset, FeeRate, GenesisAsset};
use pasture_types::genesis::Params;
use pasture_types::market::{Failover, OrderTerms};
use pasture_types::service::*;
use pasture_types::tx::*;
use pasture_types::*;
use proptest::prelude::*;

fn dollars(w: &World, k: &SigningKey) -> Amount {
    query::balance(&w.state, &k.account(), DOLLAR)
}

/// A zone whose provider is paid in dollars.
fn dollar_zone() -> World {
    let mut w = world_with_dollars(Params::dev());
    w.offer();
    let (provider, node) = (w.provider.clone(), w.node.node_id());
    let terms = market::OfferTerms { asset: DOLLAR, ..offer_terms() };
    w.act(&provider, vec![Action::PutOffer { node, number: 0, terms: Box::new(terms) }]).unwrap();
    w.idle();
    w
}

#[test]
fn a_lease_in_dollars_pays_splits_and_returns_dollars() {
    let mut w = dollar_zone();
    let (user, provider) = (w.user.clone(), w.provider.clone());
    let model = BlobHash([5; 32]);
    let lease = w.accepted(OrderTerms { asset: DOLLAR, model: Some(model), ..w.order_terms() });
    assert_eq!(dollars(&w, &user), Amount::credits(99), "an hour is on hold");
    let started = w.now;
    w.wait_beating(36_000);
    w.confirmed(&lease, started, 36_000).unwrap();
    w.close_by_node(&lease);
    w.wait_beating(10_000);
    let s = w.lease(&lease).settlement.unwrap();
    assert_eq!((s.asset, s.charged), (DOLLAR, cost(36_000)));
    assert_eq!(dollars(&w, &provider), cost(36_000).mul_div(80, 100).unwrap());
    assert_eq!(query::treasury(&w.state, DOLLAR), cost(36_000).mul_div(15, 100).unwrap());
    assert_eq!(more::held_for_model(&w.state, &model, DOLLAR), cost(36_000).mul_div(5, 100).unwrap());
    assert_eq!(query::treasury(&w.state, AssetId::CREDIT), Amount::ZERO);
    assert_eq!(dollars(&w, &user), Amount::credits(100).checked_sub(cost(36_000)).unwrap());
    assert_eq!(query::supply(&w.state, DOLLAR), Amount::credits(100));
}

#[test]
fn an_order_in_one_asset_is_not_served_in_another() {
    let mut w = dollar_zone();
    let order = w.place(w.order_terms());
    w.wait(5_000);
    assert!(query::lease_of_order(&w.state, &order).is_none());
    // A warm lease in dollars has a standby in dollars, and moves in dollars.
    let b = farm(&mut w, 40, 150);
    let order = query::order(&w.state, &order).unwrap();
    assert!(matches!(order.state, OrderState::Drawn { .. }), "the other one takes credits: {order:?}");
    let lease = w.matched(OrderTerms { asset: DOLLAR, failover: Failover::Warm, ..w.order_terms() });
    w.node_act(vec![Action::AcceptLease { lease }]).unwrap();
    w.idle();
    assert_eq!(more::failover(&w.state, &lease).unwrap().standby, None, "{:?} takes no dollars", b.node.node_id());
}

#[test]
fn unknown_assets_are_refused_everywhere() {
    let mut w = dollar_zone();
    let none = AssetId(8);
    let to = key(9).account();
    assert_eq!(code(w.user_act(vec![Action::Transfer { to, asset: none, amount: Amount::ZERO }])), 40);
    assert_eq!(code(w.user_act(vec![act(ServiceAction::TestAsset { to, asset: none, amount: Amount(1) })])), 40);
    let terms = OrderTerms { asset: none, ..w.order_terms() };
    assert_eq!(code(w.user_act(vec![Action::PlaceOrder { terms: Box::new(terms) }])), 40);
    let terms = market::OfferTerms { asset: none, ..offer_terms() };
    let (provider, node) = (w.provider.clone(), w.node.node_id());
    assert_eq!(code(w.act(&provider, vec![Action::PutOffer { node, number: 1, terms: Box::new(terms) }])), 40);
    let user = w.user.clone();
    let mut body = w.body(user.account(), Auth::Single, vec![Action::Transfer { to, asset: DOLLAR, amount: Amount(1) }]);
    body.fee_asset = none;
    assert_eq!(code(w.send(&body.sign(&user))), 140);
}

#[test]
fn fees_in_dollars_cost_the_governed_rate_and_go_where_fees_go() {
    let mut w = world_with_dollars(Params::dev());
    let (user, operator, to) = (w.user.clone(), w.operator.clone(), key(9).account());
    let mut body = w.body(user.account(), Auth::Single, vec![Action::Transfer { to, asset: DOLLAR, amount: Amount(5) }]);
    body.fee_asset = DOLLAR;
    body.tip = Amount(1_000);
    let envelope = body.clone().sign(&user);
    let in_credits = fee_for(&w.genesis.params, &envelope);
    let fee = Amount(in_credits.0.div_ceil(2));
    let admitted = admit(&w.state, w.now, &codec::encode(&envelope)).unwrap();
    assert_eq!((admitted.fee, admitted.tip), (fee, Amount(2_000)), "its tip counts as what it is worth");
    let (before, credits) = (dollars(&w, &user), w.balance(&user));
    w.send(&envelope).unwrap();
    assert_eq!(dollars(&w, &user), before.checked_sub(Amount(fee.0 + 1_000 + 5)).unwrap());
    assert_eq!(w.balance(&user), credits, "no credit was touched");
    assert_eq!(dollars(&w, &operator), Amount(fee.0 + 1_000));
    // Within max_fee, in that asset; and who has none of it cannot pay with it.
    body.seq += 1;
    body.max_fee = Amount(fee.0 - 1);
    assert_eq!(code(w.send(&body.sign(&user))), 30);
    let provider = w.provider.clone();
    let mut body = w.body(provider.account(), Auth::Single, vec![Action::Transfer { to, asset: AssetId::CREDIT, amount: Amount(5) }]);
    body.fee_asset = DOLLAR;
    assert_eq!(code(w.send(&body.sign(&provider))), 31);
}

#[test]
fn test_money_of_an_asset_is_for_development_only_and_counted() {
    let mut w = world_with_dollars(Params::dev());
    let to = w.provider.account();
    let mint = |amount| act(ServiceAction::TestAsset { to, asset: DOLLAR, amount });
    w.user_act(vec![mint(Amount::credits(3))]).unwrap();
    assert_eq!((query::balance(&w.state, &to, DOLLAR), query::supply(&w.state, DOLLAR)), (Amount::credits(3), Amount::credits(103)));
    assert_eq!(code(w.user_act(vec![mint(Amount::credits(10_001))])), 6);
    let mut real = world_with_dollars(Params::production());
    assert_eq!(code(real.user_act(vec![mint(Amount(1))])), 7);
}

#[test]
fn a_genesis_lists_only_assets_that_make_sense() {
    let mut w = World::new();
    let to = w.user.account();
    let asset = |id, symbol: &str, decimals| GenesisAsset {
        asset: Asset { id: AssetId(id), symbol: symbol.into(), decimals, bridged: false },
        allocations: vec![Allocation { account: to, amount: Amount(7) }],
    };
    w.genesis.assets =
        vec![asset(0, "CR", 9), asset(1, "OK", 9), asset(2, "", 9), asset(3, "TOO LONG", 9), asset(4, "X", 10), asset(1, "AGAIN", 9)];
    w.state = pasture_ledger::genesis(&w.genesis);
    check(&w.state).unwrap();
    assert_eq!(more::assets(&w.state).iter().map(|a| a.id).collect::<Vec<_>>(), vec![AssetId(1)]);
    assert_eq!(query::balance(&w.state, &to, AssetId(1)), Amount(7));
    assert_eq!(query::balance(&w.state, &to, AssetId::CREDIT), Amount::credits(100));
    assert_eq!(more::asset(&w.state, AssetId(1)).unwrap().symbol, "OK");
}

fn claim(w: &World, model: BlobHash, by: &SigningKey, payee: AccountId, manifest: Option<Vec<u8>>) -> Action {
    let signature = by.sign(&model_digest(&w.genesis.zone(), &model, &payee));
    act(ServiceAction::RegisterModel { claim: ModelClaim { model, key: by.public(), signature, manifest } })
}

/// A job that earns a model its share.
fn earn(w: &mut World, model: BlobHash) {
    let lease = w.accepted(OrderTerms { model: Some(model), ..w.order_terms() });
    let started = w.now;
    w.wait_beating(6_000);
    w.confirmed(&lease, started, 6_000).unwrap();
    w.close_by_node(&lease);
    w.wait_beating(10_000);
}

#[test]
fn a_models_creator_collects_what_was_held_and_is_paid_from_then_on() {
    let mut w = World::offered();
    let (model, creator) = (BlobHash([5; 32]), key(30));
    join(&mut w, &creator);
    earn(&mut w, model);
    let share = cost(6_000).mul_div(5, 100).unwrap();
    assert_eq!(more::held_for_model(&w.state, &model, AssetId::CREDIT), share);
    let before = w.balance(&creator);
    let action = claim(&w, model, &creator, creator.account(), None);
    w.act(&creator, vec![action]).unwrap();
    let fee = before.checked_add(share).unwrap().checked_sub(w.balance(&creator)).unwrap();
    assert!(fee < Amount(10_000), "what was held is there, less a fee: {}", fee.0);
    let before = w.balance(&creator);
    earn(&mut w, model);
    assert_eq!(w.balance(&creator), before.checked_add(share).unwrap());
    assert_eq!(more::held_for_model(&w.state, &model, AssetId::CREDIT), Amount::ZERO);
}

#[test]
fn a_claim_needs_the_creators_signature_for_this_account_and_comes_first() {
    let mut w = World::new();
    let (a, b) = (key(30), key(31));
    join(&mut w, &a);
    join(&mut w, &b);
    let model = BlobHash([5; 32]);
    // Copied by somebody else, it names another account than the one that sends it.
    let copied = claim(&w, model, &a, a.account(), None);
    assert_eq!(code(w.act(&b, vec![copied.clone()])), 20);
    w.act(&a, vec![copied.clone()]).unwrap();
    assert_eq!(code(w.act(&a, vec![copied])), 133, "once");
    let late = claim(&w, model, &b, b.account(), None);
    assert_eq!(code(w.act(&b, vec![late])), 133);
}

#[test]
fn a_manifest_that_names_its_creator_beats_whoever_came_first() {
    let mut w = World::new();
    let (squatter, creator) = (key(30), key(31));
    join(&mut w, &squatter);
    join(&mut w, &creator);
    let mut manifest = MANIFEST_MAGIC.to_vec();
    manifest.extend_from_slice(&creator.account().0);
    manifest.extend_from_slice(b"weights: ...");
    let model = blob::hash(&manifest);
    let action = claim(&w, model, &squatter, squatter.account(), None);
    w.act(&squatter, vec![action]).unwrap();
    // The squatter cannot show the manifest as its own, nor another one.
    let action = claim(&w, model, &squatter, squatter.account(), Some(manifest.clone()));
    assert_eq!(code(w.act(&squatter, vec![action])), 133);
    let mut other = MANIFEST_MAGIC.to_vec();
    other.extend_from_slice(&squatter.account().0);
    let action = claim(&w, model, &squatter, squatter.account(), Some(other));
    assert_eq!(code(w.act(&squatter, vec![action])), 133);
    let action = claim(&w, model, &creator, creator.account(), Some(vec![0; MAX_MANIFEST + 1]));
    assert_eq!(code(w.act(&creator, vec![action])), 5);
    let action = claim(&w, model, &creator, creator.account(), Some(manifest.clone()));
    w.act(&creator, vec![action]).unwrap();
    let owner = more::model(&w.state, &model).unwrap();
    assert_eq!((owner.account, owner.named), (creator.account(), true));
    let action = claim(&w, model, &creator, creator.account(), Some(manifest));
    assert_eq!(code(w.act(&creator, vec![action])), 133, "it is settled for good");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whoever sends what to whom in which asset, with fees in either: each asset adds up after every block, and a fee is what its rate says.
    #[test]
    fn every_asset_adds_up(
        moves in proptest::collection::vec((0usize..3, 0usize..3, any::<bool>(), any::<bool>(), 0u64..200_000_000_000, 0u64..5_000), 1..40),
        rate in 1u64..5_000_000_000,
    ) {
        let mut w = world_with_dollars(Params::dev());
        w.genesis.params.service.fee_rates[0] = Some(FeeRate { asset: DOLLAR, per_credit: Amount(u128::from(rate)) });
        w.state = pasture_ledger::genesis(&w.genesis);
        let keys = [w.user.clone(), w.provider.clone(), w.operator.clone()];
        join(&mut w, &keys[2]);
        let asset = |dollars: bool| if dollars { DOLLAR } else { AssetId::CREDIT };
        for (from, to, what, fee, amount, tip) in moves {
            let key = keys[from].clone();
            let action = Action::Transfer { to: keys[to].account(), asset: asset(what), amount: Amount(u128::from(amount)) };
            let mut body = w.body(key.account(), Auth::Single, vec![action]);
            body.fee_asset = asset(fee);
            body.tip = Amount(u128::from(tip));
            let _ = w.send(&body.sign(&key));
            prop_assert_eq!(query::supply(&w.state, DOLLAR), Amount::credits(100));
        }
    }
}
