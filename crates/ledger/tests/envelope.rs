//! Envelopes, rights, lanes, fees and the bank, rule by rule. Spec: `docs/specs/ledger.md`.

#![cfg(test)]

mod common;

use common::*;
use pasture_ledger::*;
use pasture_types::event::Event;
use pasture_types::genesis::Params;
use pasture_types::state::MemoryState;
use pasture_types::tx::*;
use pasture_types::*;

fn transfer(to: &SigningKey, amount: u128) -> Action {
    Action::Transfer { to: to.account(), asset: AssetId::CREDIT, amount: Amount(amount) }
}

fn code<T: std::fmt::Debug>(r: Result<T, TxError>) -> u16 {
    r.unwrap_err().code()
}

/// Sends a changed envelope of the user, signed by the user.
fn with(w: &mut World, change: impl FnOnce(&mut TxBody)) -> Result<Vec<Event>, TxError> {
    let user = w.user.clone();
    let to = key(9);
    let mut body = w.body(user.account(), Auth::Single, vec![transfer(&to, 5)]);
    change(&mut body);
    w.send(&body.sign(&user))
}

#[test]
fn a_transfer_moves_money_and_pays_its_fee() {
    let mut w = World::new();
    let (user, to) = (w.user.clone(), key(9));
    let before = w.balance(&user);
    let mut body = w.body(user.account(), Auth::Single, vec![transfer(&to, 5)]);
    body.tip = Amount(77);
    let envelope = body.sign(&user);
    let fee = fee_for(&w.genesis.params, &envelope);
    w.send(&envelope).unwrap();
    assert_eq!(w.balance(&to), Amount(5));
    assert_eq!(w.balance(&user), before.checked_sub(Amount(5 + 77)).unwrap().checked_sub(fee).unwrap());
    assert_eq!(w.balance(&w.operator), fee.saturating_add(Amount(77)), "one validator earns all of it");
}

#[test]
fn with_several_validators_half_of_the_fees_is_pooled() {
    let mut w = World::with(Params::dev(), 3);
    let (user, to) = (w.user.clone(), key(9));
    let envelope = w.body(user.account(), Auth::Single, vec![transfer(&to, 5)]).sign(&user);
    let fee = fee_for(&w.genesis.params, &envelope);
    w.send(&envelope).unwrap();
    assert_eq!(w.balance(&w.operator), Amount(fee.0 - fee.0 / 2));
}

#[test]
fn each_field_of_the_envelope_is_checked() {
    let mut w = World::new();
    assert_eq!(code(with(&mut w, |b| b.version = 2)), 3);
    assert_eq!(code(with(&mut w, |b| b.zone = ZoneId([1; 32]))), 4);
    assert_eq!(code(with(&mut w, |b| b.lane = MAX_LANES)), 5);
    assert_eq!(code(with(&mut w, |b| b.actions.clear())), 6);
    assert_eq!(code(with(&mut w, |b| b.actions = vec![b.actions[0].clone(); MAX_ACTIONS + 1])), 5);
    assert_eq!(code(with(&mut w, |b| b.valid_until = Timestamp(START - 1))), 10);
    assert_eq!(code(with(&mut w, |b| b.valid_until = b.valid_until.plus(MAX_VALIDITY))), 11);
    assert_eq!(code(with(&mut w, |b| b.max_fee = Amount(1))), 30);
    assert_eq!(code(with(&mut w, |b| b.tip = Amount::credits(101))), 31);
    assert_eq!(code(with(&mut w, |b| b.fee_asset = AssetId(1))), 140);
    assert_eq!(code(with(&mut w, |b| b.seq = MAX_LANE_AHEAD)), 13);
    assert_eq!(code(with(&mut w, |b| b.auth = Auth::Delegated(GrantId([0; 32])))), 40);
    assert_eq!(code(with(&mut w, |b| b.account = AccountId([5; 32]))), 23);
    with(&mut w, |b| b.lane = MAX_LANES - 1).unwrap();
    with(&mut w, |b| b.seq = 0).unwrap();
    assert_eq!(code(with(&mut w, |b| b.seq = 0)), 12, "a replay");
}

#[test]
fn a_transaction_ahead_of_its_lane_may_wait_but_not_be_in_a_block() {
    let mut w = World::new();
    let (user, to) = (w.user.clone(), key(9));
    let mut body = w.body(user.account(), Auth::Single, vec![transfer(&to, 5)]);
    body.seq = 1;
    let bytes = codec::encode(&body.sign(&user));
    let admitted = admit(&w.state, w.now, &bytes).unwrap();
    assert_eq!((admitted.seq, admitted.next_seq), (1, 0));
    let before = w.state.clone();
    let Applied::NotIncludable { error, .. } = w.block(0, &[bytes]).remove(0) else { panic!("included") };
    assert_eq!(error.code(), 13);
    assert_eq!(balances(&before), balances(&w.state));
}

fn balances(s: &MemoryState) -> Vec<(Vec<u8>, Vec<u8>)> {
    s.0.iter().filter(|(k, _)| k[0] == 3 || k[0] == 4).map(|(k, v)| (k.clone(), v.clone())).collect()
}

#[test]
fn only_registered_keys_sign() {
    let mut w = World::new();
    let (user, to) = (w.user.clone(), key(9));
    let body = w.body(user.account(), Auth::Single, vec![transfer(&to, 5)]);
    let foreign = Envelope { body: body.clone(), signatures: vec![] }.and_sign(user.account(), &key(8));
    assert_eq!(code(w.send(&foreign)), 21);
    let unsigned = Envelope { body: body.clone(), signatures: vec![] };
    assert_eq!(code(w.send(&unsigned)), 22);
    let stranger = body.clone().sign(&user).and_sign(key(8).account(), &key(8));
    assert_eq!(code(w.send(&stranger)), 21);
    let mut forged = body.clone().sign(&user);
    forged.body.tip = Amount(1);
    assert_eq!(code(w.send(&forged)), 20);
    let twice = body.sign(&user).and_sign(user.account(), &user);
    assert_eq!(code(w.send(&twice)), 6);
}

#[test]
fn a_new_account_is_opened_with_a_fee_payer_and_acts_in_the_same_transaction() {
    let mut w = World::new();
    let (user, new) = (w.user.clone(), key(20));
    let register = Action::RegisterAccount { keys: vec![new.public()], threshold: 1 };
    let mut body = w.body(new.account(), Auth::Single, vec![register.clone(), Action::RegisterProvider { name: "n".into() }]);
    assert_eq!(code(w.send(&body.clone().sign(&new))), 31, "it has nothing to pay with");
    body.fee_payer = Some(user.account());
    assert_eq!(code(w.send(&body.clone().sign(&new))), 22, "the payer did not sign");
    let before = w.balance(&user);
    w.send(&body.sign(&new).and_sign(user.account(), &user)).unwrap();
    assert!(w.balance(&user) < before);
    assert!(query::provider(&w.state, &new.account()).is_some());
    let mut again = w.body(new.account(), Auth::Single, vec![register]);
    again.fee_payer = Some(user.account());
    assert_eq!(code(w.send(&again.sign(&new).and_sign(user.account(), &user))), 41);
    let wrong = w.body(key(21).account(), Auth::Single, vec![Action::RegisterAccount { keys: vec![key(22).public()], threshold: 1 }]);
    assert_eq!(code(w.send(&wrong.sign(&key(22)))), 6, "the id is not that of the key");
}

#[test]
fn an_account_of_several_keys_needs_its_threshold() {
    let mut w = World::new();
    let user = w.user.clone();
    let mut owners = [key(30), key(31), key(32)];
    owners.sort_by_key(SigningKey::public);
    let keys: Vec<_> = owners.iter().map(SigningKey::public).collect();
    let account = owners[0].account();
    let mut body = w.body(account, Auth::Multi, vec![Action::RegisterAccount { keys, threshold: 2 }]);
    body.fee_payer = Some(user.account());
    let sign =
        |b: TxBody, who: &[usize]| who.iter().fold(Envelope { body: b, signatures: vec![] }, |e, i| e.and_sign(account, &owners[*i]));
    let without_first = sign(body.clone(), &[1, 2]).and_sign(user.account(), &user);
    assert_eq!(code(w.send(&without_first)), 21, "the key that the id is made of must sign");
    w.send(&sign(body, &[0, 2]).and_sign(user.account(), &user)).unwrap();
    w.user_act(vec![Action::Transfer { to: account, asset: AssetId::CREDIT, amount: Amount::credits(1) }]).unwrap();
    let spend = |w: &mut World, auth| w.body(account, auth, vec![transfer(&key(9), 5)]);
    let body = spend(&mut w, Auth::Multi);
    assert_eq!(code(w.send(&sign(body.clone(), &[1]))), 22);
    w.send(&sign(body, &[1, 2])).unwrap();
    let body = spend(&mut w, Auth::Single);
    assert_eq!(code(w.send(&sign(body, &[0]))), 22, "one key alone is not enough, whatever the envelope says");
}

#[test]
fn a_node_key_does_the_nodes_work_and_nothing_else() {
    let mut w = World::offered();
    let thief = w.node_act(vec![transfer(&key(9), 5)]);
    assert_eq!(code(thief), 24);
    let lease = w.matched(w.order_terms());
    w.node_act(vec![Action::AcceptLease { lease }]).unwrap();
    let node = w.node.clone();
    let body = w.body(w.user.account(), Auth::Node(node.node_id()), vec![Action::RejectLease { lease }]);
    assert_eq!(code(w.send(&body.sign(&node))), 42, "the node of another account");
    let body = w.body(w.provider.account(), Auth::Node(node.node_id()), vec![Action::RejectLease { lease }]);
    let provider = w.provider.clone();
    assert_eq!(code(w.send(&body.sign(&provider))), 22, "the node did not sign");
}

#[test]
fn a_failed_transaction_pays_and_advances_and_changes_nothing_else() {
    let mut w = World::new();
    let user = w.user.clone();
    let mut actions = vec![transfer(&key(9), 5); 3];
    actions.push(transfer(&key(9), u128::MAX));
    let envelope = w.body(user.account(), Auth::Single, actions).sign(&user);
    let fee = fee_for(&w.genesis.params, &envelope);
    let before = w.balance(&user);
    let applied = w.block(10, &[codec::encode(&envelope)]).remove(0);
    assert!(matches!(applied, Applied::Failed { ref error, .. } if error.code() == 31), "{applied:?}");
    assert_eq!(w.balance(&user), before.checked_sub(fee).unwrap());
    assert_eq!(w.balance(&key(9)), Amount::ZERO);
    assert_eq!(query::next_seq(&w.state, &user.account().0, 0), 1);
}

#[test]
fn test_credits_are_for_development_and_capped() {
    let mut w = World::new();
    let mint = |credits| vec![Action::TestCredits { to: key(9).account(), amount: Amount::credits(credits) }];
    let supply = query::supply(&w.state, AssetId::CREDIT);
    w.user_act(mint(10_000)).unwrap();
    assert_eq!(query::supply(&w.state, AssetId::CREDIT), supply.saturating_add(Amount::credits(10_000)));
    assert_eq!(code(w.user_act([mint(5_000), mint(5_001)].concat())), 6);
    let mut real = World::with(Params::production(), 1);
    assert_eq!(code(real.user_act(mint(1))), 7);
}

#[test]
fn bytes_that_are_no_transaction_are_refused_without_a_trace() {
    let mut w = World::new();
    let before = w.state.clone();
    assert_eq!(admit(&w.state, w.now, &[1, 2, 3]).unwrap_err().code(), 1);
    assert_eq!(admit(&w.state, w.now, &vec![0; MAX_TX_BYTES + 1]).unwrap_err().code(), 1);
    let applied = w.block(0, &[vec![7; 100]]).remove(0);
    assert!(matches!(applied, Applied::NotIncludable { .. }));
    assert_eq!(balances(&before), balances(&w.state));
    assert!(verify_stateless(&[0]).is_err());
}

#[test]
fn providers_and_nodes_are_registered_with_consent() {
    let mut w = World::new();
    let (provider, node, user) = (w.provider.clone(), w.node.clone(), w.user.clone());
    let consent = w.register_node(&provider, &node, declaration());
    assert_eq!(code(w.act(&provider, vec![consent.clone()])), 40, "not a provider yet");
    w.act(&provider, vec![Action::RegisterProvider { name: "p".into() }]).unwrap();
    assert_eq!(code(w.act(&provider, vec![Action::RegisterProvider { name: "p".into() }])), 41);
    let Action::RegisterNode { node: id, declaration: d, .. } = consent.clone() else { unreachable!() };
    let forged = Action::RegisterNode { node: id, declaration: d, node_signature: provider.sign(&[0; 32]) };
    assert_eq!(code(w.act(&provider, vec![forged])), 20);
    w.act(&provider, vec![consent]).unwrap();
    w.act(&user, vec![Action::RegisterProvider { name: "u".into() }]).unwrap();
    let stolen = w.register_node(&user, &node, declaration());
    assert_eq!(code(w.act(&user, vec![stolen])), 42, "a node belongs to one provider");
    let offer = |terms| Action::PutOffer { node: node.node_id(), number: 0, terms: Box::new(terms) };
    assert_eq!(code(w.act(&provider, vec![offer(offer_terms())])), 34, "no deposit");
    w.act(&provider, vec![Action::Stake { amount: Amount::credits(1) }]).unwrap();
    let mut large = offer_terms();
    large.resources = resources(5, 8);
    assert_eq!(code(w.act(&provider, vec![offer(large)])), 6);
    let mut gpus = offer_terms();
    gpus.resources.gpus = vec![GpuLine { model: "H100".into(), count: 1, vram_bytes: 1 }];
    assert_eq!(code(w.act(&provider, vec![offer(gpus)])), 6);
    let mut unsorted = offer_terms();
    unsorted.attributes = vec![("b".into(), "1".into()), ("a".into(), "1".into())];
    assert_eq!(code(w.act(&provider, vec![offer(unsorted)])), 6);
    w.act(&provider, vec![offer(offer_terms())]).unwrap();
    let mut smaller = declaration();
    smaller.resources = resources(2, 2);
    let smaller = w.register_node(&provider, &node, smaller);
    assert_eq!(code(w.act(&provider, vec![smaller])), 6, "its offer would exceed it");
    w.act(&provider, vec![Action::WithdrawOffer { offer: offer_id(&node.node_id(), 0) }]).unwrap();
    assert_eq!(code(w.act(&provider, vec![Action::WithdrawOffer { offer: offer_id(&node.node_id(), 0) }])), 40);
}
