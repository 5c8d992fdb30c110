//! Delegated grants: what a delegate may, what it may never, and every way we thought of to get more. Spec: `docs/specs/accounts.md` §1.

#![cfg(test)]

mod common;

use common::*;
use pasture_ledger::*;
use pasture_types::account::KeyAction;
use pasture_types::event::Event;
use pasture_types::grant::*;
use pasture_types::market::Constraint;
use pasture_types::tx::*;
use pasture_types::*;
use proptest::prelude::*;

const HOUR: Millis = Millis(3_600_000);

fn code<T: std::fmt::Debug>(r: Result<T, TxError>) -> u16 {
    r.unwrap_err().code()
}

fn delegate() -> SigningKey {
    key(40)
}

fn transfer(to: u8, amount: u128) -> Action {
    Action::Transfer { to: key(to).account(), asset: AssetId::CREDIT, amount: Amount(amount) }
}

fn kinds(samples: &[Action]) -> Vec<ActionKind> {
    let mut out: Vec<_> = samples.iter().map(ActionKind::of).collect();
    out.sort();
    out.dedup();
    out
}

fn act(samples: &[Action]) -> GrantUse {
    GrantUse::Act { kinds: kinds(samples), recipients: vec![], max_rate_per_hour: None }
}

fn terms(w: &World, may: GrantUse, credits: u64) -> GrantTerms {
    let budget = if credits > 0 { vec![Budget { asset: AssetId::CREDIT, amount: Amount::credits(credits) }] } else { vec![] };
    GrantTerms { key: delegate().public(), may, budget, expires: w.now.plus(HOUR) }
}

fn create(w: &mut World, terms: GrantTerms) -> Result<GrantId, TxError> {
    let events = w.user_act(vec![Action::Grant(GrantAction::Create { terms: Box::new(terms) })])?;
    let Event::Grant(GrantEvent::Created { grant, .. }) = events[0] else { panic!("{events:?}") };
    Ok(grant)
}

/// A grant to send up to this many credits.
fn spender(w: &mut World, credits: u64) -> GrantId {
    let may = act(&[transfer(1, 0)]);
    let terms = terms(w, may, credits);
    create(w, terms).unwrap()
}

fn delegated(w: &mut World, grant: GrantId, actions: Vec<Action>) -> Envelope {
    let account = w.user.account();
    let body = w.body(account, Auth::Delegated(grant), actions);
    body.sign(&delegate())
}

fn use_it(w: &mut World, grant: GrantId, actions: Vec<Action>) -> Result<Vec<Event>, TxError> {
    let envelope = delegated(w, grant, actions);
    w.send(&envelope)
}

fn left(w: &World, grant: &GrantId) -> Amount {
    query::grant(&w.state, grant).unwrap().left(AssetId::CREDIT)
}

fn claim_of(w: &World, grant: GrantId, new: &SigningKey) -> Action {
    let keys = vec![new.public()];
    let proof = new.sign(&claim_digest(&w.genesis.zone(), &grant, &keys, 1));
    Action::Grant(GrantAction::Claim { keys, threshold: 1, proof })
}

#[test]
fn a_delegate_spends_within_its_budget_fees_included() {
    let mut w = World::new();
    let grant = spender(&mut w, 2);
    let before = w.balance(&w.user);
    let envelope = delegated(&mut w, grant, vec![transfer(9, 1_000_000_000)]);
    let fee = fee_for(&w.genesis.params, &envelope);
    w.send(&envelope).unwrap();
    assert_eq!(w.balance(&key(9)), Amount::credits(1));
    assert_eq!(left(&w, &grant), Amount(1_000_000_000 - fee.0));
    assert_eq!(w.balance(&w.user).0, before.0 - 1_000_000_000 - fee.0);
    assert_eq!(query::next_seq(&w.state, &w.user.account().0, 0), 1, "the account's own lane is untouched");
    assert_eq!(query::next_seq(&w.state, &grant.0, 0), 1);
    // The whole rest, but not the fee beside it.
    let rest = left(&w, &grant).0;
    let error = use_it(&mut w, grant, vec![transfer(9, rest)]).unwrap_err();
    assert!(matches!(error, TxError::GrantBudget { .. }), "{error}");
    assert_eq!(left(&w, &grant).0, rest - fee.0, "a failed attempt costs its fee, out of the budget");
    use_it(&mut w, grant, vec![transfer(9, rest - 2 * fee.0)]).unwrap();
    assert_eq!(left(&w, &grant), Amount::ZERO);
    assert_eq!(code(use_it(&mut w, grant, vec![transfer(9, 0)])), 71, "not even a fee is left, so it cannot be in a block");
}

#[test]
fn a_budget_cannot_be_split_over_actions_lanes_or_refunds() {
    let mut w = World::new();
    let grant = spender(&mut w, 1);
    let third = Amount::credits(1).0 / 3 + 1;
    let error = use_it(&mut w, grant, vec![transfer(9, third), transfer(10, third), transfer(11, third)]).unwrap_err();
    assert_eq!(error.code(), 71);
    assert_eq!(w.balance(&key(9)), Amount::ZERO, "all or nothing");
    for lane in 0..MAX_GRANT_LANES {
        let mut body = w.body(w.user.account(), Auth::Delegated(grant), vec![transfer(9, third)]);
        body.lane = lane;
        body.seq = query::next_seq(&w.state, &grant.0, lane);
        let sent = w.send(&body.sign(&delegate()));
        assert_eq!(sent.is_ok(), lane < 2, "lane {lane}: {sent:?}");
    }
    let mut body = w.body(w.user.account(), Auth::Delegated(grant), vec![transfer(9, 1)]);
    (body.lane, body.seq) = (MAX_GRANT_LANES, 0);
    assert_eq!(code(w.send(&body.sign(&delegate()))), 5, "a grant has fewer lanes than an account");
    // Money that comes back, by whatever way, does not refill it.
    let spent = left(&w, &grant);
    let payee = key(9);
    let mut back = w.body(
        payee.account(),
        Auth::Single,
        vec![Action::RegisterAccount { keys: vec![payee.public()], threshold: 1 }, transfer(1, 1_000)],
    );
    back.fee_payer = Some(w.provider.account());
    let provider = w.provider.clone();
    w.send(&back.sign(&payee).and_sign(provider.account(), &provider)).unwrap();
    assert_eq!(left(&w, &grant), spent);
}

#[test]
fn what_an_order_may_hold_counts_when_it_is_placed_and_does_not_come_back() {
    let mut w = World::offered();
    let order = w.order_terms();
    let place = Action::PlaceOrder { terms: Box::new(order.clone()) };
    let cancel = Action::CancelOrder { order: OrderId([0; 32]) };
    let may = act(&[place.clone(), cancel]);
    let t = terms(&w, may, 6);
    let grant = create(&mut w, t).unwrap();
    let events = use_it(&mut w, grant, vec![place.clone()]).unwrap();
    let Event::OrderPlaced { order: id, .. } = events[0] else { panic!("{events:?}") };
    let hold = Amount::credits(2).0 + w.genesis.params.order_deposit.0; // two credits an hour for an hour
    let after = left(&w, &grant).0;
    assert!(after < 6_000_000_000 - hold && after > 6_000_000_000 - hold - 1_000_000, "{after}");
    use_it(&mut w, grant, vec![Action::CancelOrder { order: id }]).unwrap();
    assert!(left(&w, &grant).0 < after, "a cancelled order returns its deposit to the account, not to the budget");
    use_it(&mut w, grant, vec![place.clone()]).unwrap();
    assert_eq!(code(use_it(&mut w, grant, vec![place])), 71, "three orders could hold more than the budget");
}

#[test]
fn a_refund_in_the_same_transaction_hides_nothing() {
    let mut w = World::new();
    let mut order = w.order_terms();
    order.max_price_per_hour = Amount(0);
    order.budget = Amount(0);
    let place = Action::PlaceOrder { terms: Box::new(order) };
    let may = act(&[place.clone(), Action::CancelOrder { order: OrderId([0; 32]) }, transfer(1, 0)]);
    let mut t = terms(&w, may, 1);
    let deposit = w.genesis.params.order_deposit;
    t.budget[0].amount = Amount(deposit.0 / 2);
    let grant = create(&mut w, t).unwrap();
    // The owner's order returns its deposit within the delegate's transaction; the transfer beside it is still measured alone.
    let id = w.place({
        let mut o = w.order_terms();
        o.budget = Amount(1_000_000_000);
        o
    });
    let error = use_it(&mut w, grant, vec![Action::CancelOrder { order: id }, transfer(9, deposit.0 * 9 / 10)]).unwrap_err();
    assert_eq!(error.code(), 71);
}

#[test]
fn a_delegate_does_granted_kinds_only_and_never_grants_revokes_or_changes_keys() {
    let mut w = World::new();
    let grant = spender(&mut w, 5);
    let mine = terms(&w, act(&[transfer(1, 0)]), 50);
    let never = [
        Action::Grant(GrantAction::Create { terms: Box::new(mine.clone()) }),
        Action::Grant(GrantAction::Revoke { grant }),
        Action::Keys(KeyAction::Set { keys: vec![delegate().public()], threshold: 1, timelock: Millis(0) }),
        Action::Keys(KeyAction::Cancel),
        Action::RegisterAccount { keys: vec![delegate().public()], threshold: 1 },
        Action::RegisterProvider { name: "p".into() },
        claim_of(&w, grant, &key(41)),
    ];
    for action in never {
        assert_eq!(code(use_it(&mut w, grant, vec![transfer(9, 1), action])), 70);
    }
    for forbidden in [
        Action::Grant(GrantAction::Revoke { grant }),
        Action::Keys(KeyAction::Cancel),
        Action::RegisterAccount { keys: vec![], threshold: 0 },
    ] {
        let t = terms(&w, act(&[forbidden]), 5);
        assert_eq!(code(create(&mut w, t)), 6, "such a grant cannot even be made");
    }
}

#[test]
fn only_the_granted_key_signs_and_only_for_its_account() {
    let mut w = World::new();
    let (user, provider) = (w.user.clone(), w.provider.clone());
    let grant = spender(&mut w, 5);
    let body = w.body(user.account(), Auth::Delegated(grant), vec![transfer(9, 1)]);
    assert_eq!(code(w.send(&body.clone().sign(&user))), 21, "not even the account's own key");
    assert_eq!(code(w.send(&body.clone().sign(&delegate()).and_sign(user.account(), &user))), 21);
    assert_eq!(code(w.send(&Envelope { body: body.clone(), signatures: vec![] })), 22);
    let mut other = body.clone();
    other.account = provider.account();
    assert_eq!(code(w.send(&other.sign(&delegate()))), 42, "the grant is of another account");
    // As the account itself, or as its fee payer, the delegate's key is nobody's.
    let mut single = body.clone();
    single.auth = Auth::Single;
    single.seq = query::next_seq(&w.state, &user.account().0, 0);
    assert_eq!(code(w.send(&single.sign(&delegate()))), 21);
    let mut payer = w.body(provider.account(), Auth::Single, vec![transfer(9, 1)]);
    payer.fee_payer = Some(user.account());
    assert_eq!(code(w.send(&payer.sign(&provider).and_sign(user.account(), &delegate()))), 21, "a grant is no right to pay others' fees");
}

#[test]
fn a_delegate_that_pays_the_fee_itself_spares_the_budget_and_nothing_else() {
    let mut w = World::new();
    let payer = w.provider.clone();
    let mut t = terms(&w, act(&[transfer(1, 0)]), 1);
    t.key = payer.public();
    let grant = create(&mut w, t).unwrap();
    let mut body = w.body(w.user.account(), Auth::Delegated(grant), vec![transfer(9, 1_000_000_000)]);
    body.fee_payer = Some(payer.account());
    let once = body.clone().sign(&payer);
    assert_eq!(code(w.send(&once)), 22, "it signs as the payer too");
    w.send(&body.sign(&payer).and_sign(payer.account(), &payer)).unwrap();
    assert_eq!(left(&w, &grant), Amount::ZERO, "all of the budget went to the transfer");
    let mut body = w.body(w.user.account(), Auth::Delegated(grant), vec![transfer(9, 1)]);
    body.fee_payer = Some(payer.account());
    assert_eq!(code(w.send(&body.sign(&payer).and_sign(payer.account(), &payer))), 71);
    // The account named as its own payer pays from the budget like without a name.
    let grant = spender(&mut w, 1);
    let mut body = w.body(w.user.account(), Auth::Delegated(grant), vec![transfer(9, 1)]);
    body.fee_payer = Some(w.user.account());
    let fee = fee_for(&w.genesis.params, &body.clone().sign(&delegate()));
    w.send(&body.sign(&delegate())).unwrap();
    assert_eq!(left(&w, &grant).0, 1_000_000_000 - 1 - fee.0);
    let mut body = w.body(w.user.account(), Auth::Delegated(grant), vec![transfer(9, 1)]);
    body.tip = Amount::credits(1);
    assert_eq!(code(w.send(&body.sign(&delegate()))), 71, "a tip is paid from the budget too");
}

#[test]
fn a_replay_on_another_lane_or_under_another_right_is_refused() {
    let mut w = World::new();
    let grant = spender(&mut w, 5);
    let envelope = delegated(&mut w, grant, vec![transfer(9, 1)]);
    w.send(&envelope).unwrap();
    assert_eq!(code(w.send(&envelope)), 12);
    let mut moved = envelope.clone();
    (moved.body.lane, moved.body.seq) = (1, 0);
    assert_eq!(code(w.send(&moved)), 20, "the lane is signed");
    let second = spender(&mut w, 5);
    let mut other = envelope.clone();
    other.body.auth = Auth::Delegated(second);
    assert_eq!(code(w.send(&other)), 20, "so is the grant");
    // Nor does its id come back: after it is gone, what was signed for it is void, whatever the lane says.
    w.user_act(vec![Action::Grant(GrantAction::Revoke { grant })]).unwrap();
    assert_eq!(query::next_seq(&w.state, &grant.0, 0), 0, "its lanes are forgotten");
    assert_eq!(code(w.send(&envelope)), 40);
}

#[test]
fn a_grant_ends_at_once_when_revoked_also_for_what_waits() {
    let mut w = World::new();
    let grant = spender(&mut w, 5);
    let waiting = codec::encode(&delegated(&mut w, grant, vec![transfer(9, 1)]));
    let user = w.user.clone();
    let revoke = w.body(user.account(), Auth::Single, vec![Action::Grant(GrantAction::Revoke { grant })]).sign(&user);
    let applied = w.block(10, &[codec::encode(&revoke), waiting]);
    assert!(matches!(applied[0], Applied::Done { .. }));
    assert!(matches!(&applied[1], Applied::NotIncludable { error, .. } if error.code() == 40), "{:?}", applied[1]);
    assert_eq!(code(w.user_act(vec![Action::Grant(GrantAction::Revoke { grant })])), 40);
    let foreign = spender(&mut w, 5);
    let provider = w.provider.clone();
    assert_eq!(code(w.act(&provider, vec![Action::Grant(GrantAction::Revoke { grant: foreign })])), 42);
}

#[test]
fn a_grant_that_expires_inside_a_block_does_nothing_in_it() {
    let mut w = World::new();
    let mut t = terms(&w, act(&[transfer(1, 0)]), 5);
    t.expires = w.now.plus(Millis(1_000));
    let expires = t.expires;
    let grant = create(&mut w, t).unwrap();
    let early = codec::encode(&delegated(&mut w, grant, vec![transfer(9, 1)]));
    let mut late = w.body(w.user.account(), Auth::Delegated(grant), vec![transfer(9, 1)]);
    late.seq = 1;
    let late = codec::encode(&late.sign(&delegate()));
    let just_before = expires.0 - 1 - w.now.0;
    assert!(matches!(w.block(just_before, &[early])[0], Applied::Done { .. }));
    assert!(query::grant(&w.state, &grant).is_some(), "the record is pruned at the end of a later block only");
    let applied = w.block(1, &[late]).remove(0);
    assert!(matches!(&applied, Applied::NotIncludable { error, .. } if error.code() == 70), "{applied:?}");
    assert!(query::grant(&w.state, &grant).is_none());
    assert!(w.events.contains(&Event::Grant(GrantEvent::Ended { grant, account: w.user.account(), why: GrantEnd::Expired })));
    assert!(query::grants_of_account(&w.state, &w.user.account()).is_empty());
}

#[test]
fn recipients_and_rates_are_kept_to() {
    let mut w = World::offered();
    let (friend, provider) = (key(9).account(), w.provider.account());
    let mut recipients = vec![friend, provider];
    recipients.sort();
    let place = |o: pasture_types::market::OrderTerms| Action::PlaceOrder { terms: Box::new(o) };
    let kinds = kinds(&[
        transfer(1, 0),
        place(w.order_terms()),
        Action::RegisterProvider { name: String::new() },
        Action::Stake { amount: Amount(1) },
    ]);
    let may = GrantUse::Act { kinds, recipients, max_rate_per_hour: Some(Amount::credits(1)) };
    let t = terms(&w, may, 20);
    let grant = create(&mut w, t).unwrap();
    use_it(&mut w, grant, vec![transfer(9, 5)]).unwrap();
    assert_eq!(code(use_it(&mut w, grant, vec![transfer(10, 5)])), 70);
    let mut order = w.order_terms();
    assert_eq!(code(use_it(&mut w, grant, vec![place(order.clone())])), 70, "two credits an hour");
    order.max_price_per_hour = Amount::credits(1);
    assert_eq!(code(use_it(&mut w, grant, vec![place(order.clone())])), 70, "to whomever is drawn");
    order.constraints = vec![Constraint::Provider(provider)];
    use_it(&mut w, grant, vec![place(order)]).unwrap();
    use_it(&mut w, grant, vec![Action::RegisterProvider { name: "p".into() }]).unwrap();
    assert_eq!(code(use_it(&mut w, grant, vec![Action::Stake { amount: Amount(1) }])), 70, "a deposit goes to no recipient");
}

#[test]
fn grants_are_bounded_and_well_formed() {
    let mut w = World::new();
    let good = terms(&w, act(&[transfer(1, 0)]), 1);
    let with = |change: &dyn Fn(&mut GrantTerms)| {
        let mut t = good.clone();
        change(&mut t);
        t
    };
    for (t, want) in [
        (with(&|t| t.expires = Timestamp(START)), 6),
        (with(&|t| t.expires = Timestamp(START).plus(MAX_GRANT_LIFE).plus(HOUR)), 5),
        (with(&|t| t.budget = vec![t.budget[0], t.budget[0]]), 6),
        (with(&|t| t.may = GrantUse::Act { kinds: vec![], recipients: vec![], max_rate_per_hour: None }), 6),
        (with(&|t| t.may = GrantUse::Act { kinds: vec![ActionKind(5), ActionKind(4)], recipients: vec![], max_rate_per_hour: None }), 6),
        (with(&|t| t.may = GrantUse::Watch { watcher: key(1).account() }), 6),
        (
            with(&|t| {
                t.may = GrantUse::Invite;
                t.budget = vec![]
            }),
            6,
        ),
        (
            with(&|t| {
                t.may = GrantUse::Invite;
                t.budget[0].asset = AssetId(1)
            }),
            6,
        ),
    ] {
        assert_eq!(code(create(&mut w, t.clone())), want, "{t:?}");
    }
    for n in 0..32 {
        assert!(create(&mut w, good.clone()).is_ok(), "grant {n}");
    }
    assert_eq!(code(create(&mut w, good.clone())), 5);
    let first = query::grants_of_account(&w.state, &w.user.account())[0].id;
    w.user_act(vec![Action::Grant(GrantAction::Revoke { grant: first })]).unwrap();
    create(&mut w, good).unwrap();
}

#[test]
fn new_keys_make_every_earlier_grant_void() {
    let mut w = World::new();
    let grant = spender(&mut w, 5);
    let user = w.user.clone();
    w.user_act(vec![Action::Keys(KeyAction::Set { keys: vec![key(50).public()], threshold: 1, timelock: Millis(0) })]).unwrap();
    assert_eq!(code(use_it(&mut w, grant, vec![transfer(9, 1)])), 70, "whoever stole the old key may have made it");
    let body = w.body(user.account(), Auth::Single, vec![Action::Grant(GrantAction::Revoke { grant })]);
    let envelope = Envelope { body, signatures: vec![] }.and_sign(user.account(), &key(50));
    w.send(&envelope).unwrap();
}

#[test]
fn a_watchers_grant_is_for_confirming_only() {
    let mut w = World::new();
    let (watcher, user) = (w.provider.account(), w.user.account());
    let t = terms(&w, GrantUse::Watch { watcher }, 3);
    let grant = create(&mut w, t.clone()).unwrap();
    assert_eq!(code(create(&mut w, t)), 41, "one for each watcher");
    assert_eq!(code(use_it(&mut w, grant, vec![transfer(9, 1)])), 70);
    let left = |w: &World, key: &SigningKey| query::watch_left(&w.state, &user, &watcher, &key.public(), AssetId::CREDIT);
    assert_eq!(left(&w, &delegate()), Some(Amount::credits(3)));
    assert_eq!(left(&w, &key(41)), None, "with the named key only");
    assert_eq!(query::watch_left(&w.state, &watcher, &user, &delegate().public(), AssetId::CREDIT), None);
    w.user_act(vec![Action::Grant(GrantAction::Revoke { grant })]).unwrap();
    assert_eq!(left(&w, &delegate()), None);
}

fn invite(w: &mut World, credits: u64) -> GrantId {
    let t = terms(w, GrantUse::Invite, credits);
    create(w, t).unwrap()
}

#[test]
fn an_invite_opens_one_fresh_account_with_what_is_left() {
    let mut w = World::new();
    let grant = invite(&mut w, 5);
    let before = w.balance(&w.user);
    let new = key(60);
    let claim = claim_of(&w, grant, &new);
    let envelope = delegated(&mut w, grant, vec![claim]);
    let fee = fee_for(&w.genesis.params, &envelope);
    w.send(&envelope).unwrap();
    assert_eq!(w.balance(&new).0, 5_000_000_000 - fee.0);
    assert_eq!(w.balance(&w.user).0, before.0 - 5_000_000_000, "the inviter loses exactly the credits of the invite");
    w.act(&new, vec![transfer(9, 1)]).unwrap();
    let again = claim_of(&w, grant, &key(61));
    assert_eq!(code(use_it(&mut w, grant, vec![again])), 40, "once");
    let account = query::account(&w.state, &new.account()).unwrap();
    assert_eq!((account.keys, account.threshold), (vec![new.public()], 1));
}

#[test]
fn a_leaked_invite_costs_at_most_its_credits() {
    let mut w = World::new();
    let grant = invite(&mut w, 1);
    let before = w.balance(&w.user);
    assert_eq!(code(use_it(&mut w, grant, vec![transfer(9, 1)])), 70);
    let two = vec![claim_of(&w, grant, &key(60)), claim_of(&w, grant, &key(61))];
    assert_eq!(code(use_it(&mut w, grant, two)), 70);
    // For an account that exists, or another's key without its consent.
    let own = claim_of(&w, grant, &w.provider.clone());
    assert_eq!(code(use_it(&mut w, grant, vec![own])), 41);
    let mut keys = vec![key(62).public(), key(63).public()];
    keys.sort();
    let mallory = if keys[0] == key(62).public() { key(63) } else { key(62) };
    let proof = mallory.sign(&claim_digest(&w.genesis.zone(), &grant, &keys, 1));
    assert_eq!(code(use_it(&mut w, grant, vec![Action::Grant(GrantAction::Claim { keys, threshold: 1, proof })])), 20);
    let stolen = claim_of(&w, GrantId([7; 32]), &key(64));
    assert_eq!(code(use_it(&mut w, grant, vec![stolen])), 20, "a proof is for one invite");
    // Failing on purpose burns fees of the invite, never more.
    for _ in 0..2_000 {
        let own = claim_of(&w, grant, &w.provider.clone());
        let mut body = w.body(w.user.account(), Auth::Delegated(grant), vec![own]);
        body.tip = Amount(900_000);
        if w.send(&body.sign(&delegate())).unwrap_err().code() == 71 {
            break;
        }
    }
    assert!(before.0 - w.balance(&w.user).0 <= 1_000_000_000);
    assert!(left(&w, &grant).0 < 1_000_000, "and the test did burn it");
}

#[test]
fn an_invite_needs_its_inviters_money_and_may_be_taken_back() {
    let mut w = World::new();
    let grant = invite(&mut w, 50);
    w.user_act(vec![transfer(9, Amount::credits(60).0)]).unwrap();
    let claim = claim_of(&w, grant, &key(60));
    assert_eq!(code(use_it(&mut w, grant, vec![claim.clone()])), 31);
    w.user_act(vec![Action::Grant(GrantAction::Revoke { grant })]).unwrap();
    assert_eq!(code(use_it(&mut w, grant, vec![claim])), 40);
    assert_eq!(w.balance(&key(60)), Amount::ZERO);
    // The claim is of an invite only: an ordinary right opens no account with it.
    let ordinary = claim_of(&w, grant, &key(60));
    assert_eq!(code(w.user_act(vec![ordinary])), 70);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    /// Whatever a delegate sends, the account loses at most the budget, and exactly what the record says was spent.
    #[test]
    fn a_delegate_never_costs_more_than_its_budget(
        budget in 1u64..3_000_000_000,
        moves in proptest::collection::vec((0u8..5, 0u64..900_000_000, 0u8..3, 0u64..2_000_000), 1..24),
    ) {
        let mut w = World::offered();
        let place = Action::PlaceOrder { terms: Box::new(w.order_terms()) };
        let samples = [transfer(1, 0), place, Action::CancelOrder { order: OrderId([0; 32]) }];
        let mut t = terms(&w, act(&samples), 1);
        t.budget[0].amount = Amount(budget.into());
        let grant = create(&mut w, t).unwrap();
        let before = w.balance(&w.user);
        let mut placed = vec![];
        for (what, amount, lane, tip) in moves {
            let actions = match what {
                0 | 1 => vec![transfer(9, amount.into()); usize::from(what) + 1],
                2 => { let mut o = w.order_terms(); o.budget = Amount(amount.into()); o.max_price_per_hour = Amount(u128::from(amount) / 2); vec![Action::PlaceOrder { terms: Box::new(o) }] }
                3 => placed.pop().map_or(vec![transfer(9, 0)], |order| vec![Action::CancelOrder { order }]),
                _ => vec![transfer(9, amount.into()), transfer(1, amount.into())],
            };
            let mut body = w.body(w.user.account(), Auth::Delegated(grant), actions);
            body.lane = lane;
            body.seq = query::next_seq(&w.state, &grant.0, lane);
            body.tip = Amount(tip.into());
            if let Ok(events) = w.send(&body.sign(&delegate())) {
                placed.extend(events.iter().filter_map(|e| if let Event::OrderPlaced { order, .. } = e { Some(*order) } else { None }));
            }
            w.idle();
            let lost = before.0.saturating_sub(w.balance(&w.user).0);
            let record = query::grant(&w.state, &grant).unwrap();
            prop_assert!(lost <= record.spent[0].0, "lost {lost}, counted {}", record.spent[0].0);
            prop_assert!(record.spent[0].0 <= u128::from(budget));
        }
    }
}

fn fleet(w: &mut World, nodes: u32) -> Result<GrantId, TxError> {
    let t = GrantTerms {
        budget: vec![Budget { asset: AssetId::CREDIT, amount: Amount::credits(1) }],
        ..terms(w, GrantUse::Enroll { nodes }, 0)
    };
    let provider = w.provider.clone();
    let events = w.act(&provider, vec![Action::Grant(GrantAction::Create { terms: Box::new(t) })])?;
    let Event::Grant(GrantEvent::Created { grant, .. }) = events[0] else { panic!("{events:?}") };
    Ok(grant)
}

fn joins(w: &mut World, grant: GrantId, actions: Vec<Action>) -> Result<Vec<Event>, TxError> {
    let account = w.provider.account();
    let body = w.body(account, Auth::Delegated(grant), actions);
    w.send(&body.sign(&delegate()))
}

/// A machine's own word: with its own key, for its provider.
fn says(w: &mut World, node: &SigningKey, actions: Vec<Action>) -> Result<Vec<Event>, TxError> {
    let account = w.provider.account();
    let body = w.body(account, Auth::Node(node.node_id()), actions);
    w.send(&body.sign(node))
}

fn put_offer(node: &SigningKey) -> Action {
    Action::PutOffer { node: node.node_id(), number: 0, terms: Box::new(offer_terms()) }
}

#[test]
fn machines_join_a_fleet_with_its_code_and_offer_with_their_own_keys() {
    let mut w = World::offered();
    let grant = fleet(&mut w, 2).unwrap();
    let (one, two, three) = (key(70), key(71), key(72));
    let provider = w.provider.clone();
    let before = w.balance(&provider);
    let added = w.register_node(&provider, &one, declaration());
    let events = joins(&mut w, grant, vec![added]).unwrap();
    assert_eq!(events, vec![Event::NodeRegistered { node: one.node_id(), provider: provider.account() }]);
    assert!(before > w.balance(&provider), "the account pays the fee");
    assert_eq!(query::grant(&w.state, &grant).unwrap().terms.may, GrantUse::Enroll { nodes: 1 });
    // It offers without its account's key, more than once, and takes it back.
    says(&mut w, &one, vec![put_offer(&one)]).unwrap();
    let offer = offer_id(&one.node_id(), 0);
    assert_eq!(query::offer(&w.state, &offer).unwrap().provider, provider.account());
    let again = w.register_node(&provider, &one, declaration());
    says(&mut w, &one, vec![again, Action::WithdrawOffer { offer }, put_offer(&one)]).unwrap();
    // The last one uses the code up.
    let added = w.register_node(&provider, &two, declaration());
    let events = joins(&mut w, grant, vec![added]).unwrap();
    assert!(events.contains(&Event::Grant(GrantEvent::Ended { grant, account: provider.account(), why: GrantEnd::UsedUp })), "{events:?}");
    let added = w.register_node(&provider, &three, declaration());
    assert_eq!(code(joins(&mut w, grant, vec![added])), 40);
    assert!(query::node(&w.state, &three.node_id()).is_none());
}

#[test]
fn the_code_of_a_fleet_adds_new_machines_and_does_nothing_else() {
    let mut w = World::offered();
    let (grant, provider, node) = (fleet(&mut w, 5).unwrap(), w.provider.clone(), w.node.clone());
    let (one, two) = (key(70), key(71));
    assert_eq!(code(joins(&mut w, grant, vec![transfer(9, 1)])), 70);
    let both = vec![w.register_node(&provider, &one, declaration()), w.register_node(&provider, &two, declaration())];
    assert_eq!(code(joins(&mut w, grant, both)), 70, "one at a time");
    let known = w.register_node(&provider, &node, declaration());
    assert_eq!(code(joins(&mut w, grant, vec![known])), 70, "not one that is there");
    let add_and_offer = vec![w.register_node(&provider, &one, declaration()), put_offer(&one)];
    assert_eq!(code(joins(&mut w, grant, add_and_offer)), 70);
    // Another's machine, that never agreed to it.
    let digest = node_registration_digest(&w.genesis.zone(), &provider.account(), &one.node_id(), &declaration());
    let forged = Action::RegisterNode { node: one.node_id(), declaration: declaration(), node_signature: two.sign(&digest) };
    assert_eq!(code(joins(&mut w, grant, vec![forged])), 20);
    assert_eq!(query::grant(&w.state, &grant).unwrap().terms.may, GrantUse::Enroll { nodes: 5 }, "what fails uses nothing up but its fee");
    // Neither is every grant of this kind one.
    assert_eq!(code(fleet(&mut w, 0)), 6);
    assert_eq!(code(fleet(&mut w, MAX_ENROLLED + 1)), 5);
    let t = terms(&w, GrantUse::Enroll { nodes: 1 }, 0);
    assert_eq!(code(create(&mut w, t)), 6, "its fees need a budget");
    w.act(&provider, vec![Action::Grant(GrantAction::Revoke { grant })]).unwrap();
    let late = w.register_node(&provider, &one, declaration());
    assert_eq!(code(joins(&mut w, grant, vec![late])), 40, "taken back");
}

#[test]
fn a_machine_speaks_for_itself_alone_and_cannot_spend_its_account() {
    let mut w = World::offered();
    let (grant, provider, node) = (fleet(&mut w, 1).unwrap(), w.provider.clone(), w.node.clone());
    let one = key(70);
    let added = w.register_node(&provider, &one, declaration());
    joins(&mut w, grant, vec![added]).unwrap();
    assert_eq!(code(says(&mut w, &one, vec![put_offer(&node)])), 24, "another machine of the same fleet");
    let others = w.register_node(&provider, &node, declaration());
    assert_eq!(code(says(&mut w, &one, vec![others])), 24);
    assert_eq!(code(says(&mut w, &one, vec![Action::WithdrawOffer { offer: offer_id(&node.node_id(), 0) }])), 24);
    assert_eq!(code(says(&mut w, &one, vec![transfer(9, 1)])), 24);
    // Its fee is all that it can have its account pay, and once more to go first.
    let mut body = w.body(provider.account(), Auth::Node(one.node_id()), vec![put_offer(&one)]);
    body.tip = Amount::credits(1);
    assert_eq!(code(w.send(&body.clone().sign(&one))), 6);
    body.tip = Amount(1);
    w.send(&body.sign(&one)).unwrap();
}

#[test]
fn a_dismissed_machine_offers_nothing_until_its_provider_takes_it_back() {
    let mut w = World::offered();
    let (provider, node) = (w.provider.clone(), w.node.clone());
    let lease = w.accepted(w.order_terms());
    let dismiss = Action::Market(pasture_types::market_rules::MarketAction::DismissNode { node: node.node_id() });
    assert_eq!(code(w.node_act(vec![dismiss.clone()])), 24, "not by itself");
    assert_eq!(code(w.user_act(vec![dismiss.clone()])), 42, "nor by anybody else");
    w.act(&provider, vec![dismiss.clone()]).unwrap();
    assert!(query::offers_of_node(&w.state, &node.node_id()).is_empty());
    assert!(query::is_dismissed(&w.state, &node.node_id()));
    assert_eq!(code(w.act(&provider, vec![dismiss])), 43, "once");
    let back = w.register_node(&provider, &node, declaration());
    assert_eq!(code(w.node_act(vec![back.clone()])), 24, "it does not take itself back");
    assert_eq!(code(w.node_act(vec![put_offer(&node)])), 43);
    assert_eq!(code(w.act(&provider, vec![put_offer(&node)])), 43);
    // What it was leased for goes on to its end.
    w.beat();
    w.close_by_node(&lease);
    w.wait(120_000);
    assert_eq!(w.lease(&lease).state, pasture_types::lease::LeaseState::Closed);
    w.act(&provider, vec![back, put_offer(&node)]).unwrap();
    assert!(!query::is_dismissed(&w.state, &node.node_id()));
}

#[test]
fn a_providers_machines_are_listed_in_pages() {
    let mut w = World::offered();
    let (grant, provider) = (fleet(&mut w, 9).unwrap(), w.provider.clone());
    for n in 70..76 {
        let added = w.register_node(&provider, &key(n), declaration());
        joins(&mut w, grant, vec![added]).unwrap();
    }
    let (mut found, mut after) = (vec![], None);
    loop {
        let (page, next) = query::nodes_of_provider(&w.state, &provider.account(), after.as_ref(), 2, 3);
        assert!(page.len() <= 2);
        found.extend(page.into_iter().map(|n| n.id));
        after = next;
        if after.is_none() {
            break;
        }
    }
    let mut all: Vec<NodeId> = (70..76).map(|n| key(n).node_id()).chain([w.node.node_id()]).collect();
    all.sort();
    assert_eq!(found, all);
    assert_eq!(query::nodes_of_provider(&w.state, &w.user.account(), None, 9, 99), (vec![], None));
}
