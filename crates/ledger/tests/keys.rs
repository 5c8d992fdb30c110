//! Several keys, wallets' signatures, and changing keys with and without a timelock. Spec: `docs/specs/accounts.md` §2 and §3.

#![cfg(test)]

mod common;

use common::*;
use k256::ecdsa::signature::hazmat::PrehashSigner as _;
use pasture_ledger::*;
use pasture_types::account::*;
use pasture_types::event::Event;
use pasture_types::keys::Signature;
use pasture_types::tx::*;
use pasture_types::*;

const DAY: Millis = Millis(24 * 3_600_000);

fn code<T: std::fmt::Debug>(r: Result<T, TxError>) -> u16 {
    r.unwrap_err().code()
}

fn transfer(amount: u128) -> Action {
    Action::Transfer { to: key(9).account(), asset: AssetId::CREDIT, amount: Amount(amount) }
}

fn set(keys: &[&SigningKey], threshold: u8, timelock: Millis) -> Action {
    let mut keys: Vec<_> = keys.iter().map(|k| k.public()).collect();
    keys.sort();
    Action::Keys(KeyAction::Set { keys, threshold, timelock })
}

/// An envelope for the user's account, whoever signs.
fn by(w: &mut World, auth: Auth, signers: &[&SigningKey], actions: Vec<Action>) -> Envelope {
    let account = w.user.account();
    let body = w.body(account, auth, actions);
    signers.iter().fold(Envelope { body, signatures: vec![] }, |e, k| e.and_sign(account, k))
}

fn act_as(w: &mut World, auth: Auth, signers: &[&SigningKey], actions: Vec<Action>) -> Result<Vec<Event>, TxError> {
    let envelope = by(w, auth, signers, actions);
    w.send(&envelope)
}

#[test]
fn the_threshold_counts_distinct_registered_keys_whatever_the_envelope_says() {
    let mut w = World::new();
    let (a, b, c) = (key(30), key(31), key(32));
    w.user_act(vec![set(&[&a, &b, &c], 2, Millis(0))]).unwrap();
    let pay = || vec![transfer(1)];
    assert_eq!(code(act_as(&mut w, Auth::Single, &[&a], pay())), 22);
    assert_eq!(code(act_as(&mut w, Auth::Single, &[&a, &b], pay())), 22, "two signatures do not make `single` of a threshold of two");
    assert_eq!(code(act_as(&mut w, Auth::Multi, &[&a], pay())), 22);
    assert_eq!(code(act_as(&mut w, Auth::Multi, &[&a, &a], pay())), 6, "one key twice is one key");
    assert_eq!(code(act_as(&mut w, Auth::Multi, &[&a, &key(33)], pay())), 21);
    let old = w.user.clone();
    assert_eq!(code(act_as(&mut w, Auth::Multi, &[&a, &old], pay())), 21, "the first key is gone, the id stays");
    act_as(&mut w, Auth::Multi, &[&c, &b], pay()).unwrap();
    act_as(&mut w, Auth::Multi, &[&a, &b, &c], pay()).unwrap();
    // As a fee payer it needs its threshold as well.
    let provider = w.provider.clone();
    let mut body = w.body(provider.account(), Auth::Single, pay());
    body.fee_payer = Some(old.account());
    let half = body.clone().sign(&provider).and_sign(old.account(), &a);
    assert_eq!(code(w.send(&half)), 22);
    w.send(&half.and_sign(old.account(), &b)).unwrap();
}

#[test]
fn key_sets_are_sorted_bounded_and_can_be_met() {
    let mut w = World::new();
    let raw = |keys, threshold| vec![Action::Keys(KeyAction::Set { keys, threshold, timelock: Millis(0) })];
    let (a, b) = (key(30).public().min(key(31).public()), key(30).public().max(key(31).public()));
    for (keys, threshold, want) in
        [(vec![], 1, 6), (vec![b, a], 1, 6), (vec![a, a], 1, 6), (vec![a], 0, 6), (vec![a], 2, 6), (vec![a; 17], 1, 5)]
    {
        assert_eq!(code(w.user_act(raw(keys, threshold))), want);
    }
    let long = Action::Keys(KeyAction::Set { keys: vec![a], threshold: 1, timelock: Millis(31 * DAY.0) });
    assert_eq!(code(w.user_act(vec![long])), 5);
    assert_eq!(code(w.user_act(vec![Action::Keys(KeyAction::Cancel)])), 43);
    let before = w.user.account();
    w.user_act(raw(vec![a, b], 2)).unwrap();
    let account = query::account(&w.state, &before).unwrap();
    assert_eq!((account.id, account.keys, account.threshold), (before, vec![a, b], 2));
}

#[test]
fn old_signatures_in_the_mempool_are_void_once_the_keys_changed() {
    let mut w = World::new();
    let (old, new) = (w.user.clone(), key(30));
    let change = codec::encode(&by(&mut w, Auth::Single, &[&old], vec![set(&[&new], 1, Millis(0))]));
    let mut waiting = by(&mut w, Auth::Single, &[&old], vec![transfer(5)]);
    waiting.body.lane = 1;
    let waiting = codec::encode(&waiting.body.clone().sign(&old));
    assert!(admit(&w.state, w.now, &waiting).is_ok(), "it was admitted before");
    // As the chain does: verified once at the door, so not again in the block.
    let ctx = w.ctx(10);
    begin_block(&mut w.state, &ctx);
    assert!(matches!(apply(&mut w.state, &ctx, &change, Signatures::Verified), Applied::Done { .. }));
    let applied = apply(&mut w.state, &ctx, &waiting, Signatures::Verified);
    assert!(matches!(&applied, Applied::NotIncludable { error, .. } if error.code() == 21), "{applied:?}");
    end_block(&mut w.state, &ctx);
    assert_eq!(w.balance(&key(9)), Amount::ZERO);
    act_as(&mut w, Auth::Single, &[&new], vec![transfer(5)]).unwrap();
}

#[test]
fn with_a_timelock_a_change_waits_and_its_owner_can_stop_it() {
    let mut w = World::new();
    let (owner, thief) = (w.user.clone(), key(66));
    w.user_act(vec![set(&[&owner], 1, DAY)]).unwrap();
    // The key is stolen: the thief can spend, but not lock the owner out, nor shorten the timelock.
    let events = w.user_act(vec![set(&[&thief], 1, Millis(0))]).unwrap();
    let effective = w.now.plus(DAY);
    assert_eq!(events, vec![Event::Keys(KeyEvent::Pending { account: owner.account(), effective })]);
    assert_eq!(code(act_as(&mut w, Auth::Single, &[&thief], vec![transfer(1)])), 21);
    assert_eq!(code(w.user_act(vec![set(&[&thief], 1, Millis(0))])), 43, "one change at a time");
    w.wait(DAY.0 - 100);
    w.user_act(vec![Action::Keys(KeyAction::Cancel)]).unwrap();
    w.wait(2 * DAY.0);
    act_as(&mut w, Auth::Single, &[&owner], vec![transfer(1)]).unwrap();
    assert_eq!(query::key_policy(&w.state, &owner.account()).pending, None);
    // Left alone it takes effect by itself, at its time and not before.
    w.user_act(vec![set(&[&thief], 1, Millis(0))]).unwrap();
    w.wait(DAY.0 - 100);
    act_as(&mut w, Auth::Single, &[&owner], vec![transfer(1)]).unwrap();
    w.wait(200);
    assert_eq!(code(act_as(&mut w, Auth::Single, &[&owner], vec![transfer(1)])), 21);
    act_as(&mut w, Auth::Single, &[&thief], vec![transfer(1)]).unwrap();
    assert_eq!(query::key_policy(&w.state, &owner.account()).timelock, Millis(0), "the shorter timelock holds from then on");
    assert!(w.events.contains(&Event::Keys(KeyEvent::Changed { account: owner.account() })));
}

#[test]
fn a_halt_lengthens_a_timelock() {
    let mut w = World::offered();
    let owner = w.user.clone();
    w.user_act(vec![set(&[&owner], 1, Millis::secs(30))]).unwrap();
    let lease = w.accepted(w.order_terms());
    w.user_act(vec![set(&[&key(66)], 1, Millis(0))]).unwrap();
    w.block(3_600_000, &[]);
    assert!(query::clock(&w.state).halted >= Millis::secs(3_600));
    w.user_act(vec![Action::Keys(KeyAction::Cancel)]).expect("nobody could cancel while the network stood still");
    w.user_act(vec![Action::CloseLease { lease, reason: pasture_types::lease::EndReason::StoppedByUser }]).unwrap();
}

#[test]
fn a_wallet_acts_with_typed_data_and_with_personal_messages() {
    let mut w = World::new();
    let secret = k256::ecdsa::SigningKey::from_slice(&[9; 32]).unwrap();
    let mut bytes = [0u8; 33];
    bytes.copy_from_slice(secret.verifying_key().to_sec1_point(true).as_bytes());
    let wallet = PublicKey::Secp256k1(bytes);
    let id = wallet.account();
    w.user_act(vec![Action::Transfer { to: id, asset: AssetId::CREDIT, amount: Amount::credits(1) }]).unwrap();
    let sign = |body: TxBody, typed: bool| {
        let hash = if typed { eip712::hash(&body) } else { keys::eip191_hash(&body.id().0) };
        let made: k256::ecdsa::Signature = secret.sign_prehash(&hash).unwrap();
        let raw: [u8; 64] = made.normalize_s().to_bytes().into();
        let signature = if typed { Signature::Eip712(raw) } else { Signature::Eip191(raw) };
        Envelope { signatures: vec![TxSignature { account: id, key: wallet, signature }], body }
    };
    let open = w.body(id, Auth::Single, vec![Action::RegisterAccount { keys: vec![wallet], threshold: 1 }]);
    w.send(&sign(open, true)).unwrap();
    for typed in [true, false] {
        let pay = w.body(id, Auth::Single, vec![transfer(5)]);
        let mut swapped = sign(pay.clone(), typed);
        swapped.body.actions = vec![transfer(6)];
        assert_eq!(code(w.send(&swapped)), 20);
        w.send(&sign(pay, typed)).unwrap();
    }
    assert_eq!(w.balance(&key(9)), Amount(10));
}
