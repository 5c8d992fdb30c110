//! Beginning without credits, and what an army of beginners can gain. Spec: `docs/specs/stake.md` §5, §6.

#![cfg(test)]

mod common;

use common::*;
use pasture_ledger::query::deposits;
use pasture_ledger::*;
use pasture_types::audit::{AuditAction, HeartbeatBundle};
use pasture_types::event::Event;
use pasture_types::genesis::Params;
use pasture_types::market::Constraint;
use pasture_types::market_rules::MarketAction;
use pasture_types::proof::ResourceClass;
use pasture_types::stake::{DepositAction, Stamp};
use pasture_types::tx::*;
use pasture_types::*;

const DAY_MS: u64 = 24 * 3_600_000;

fn code<T: std::fmt::Debug>(r: Result<T, TxError>) -> u16 {
    r.unwrap_err().code()
}

/// A world in which the treasury earned something: a lease of 200 s was paid.
fn earned(params: Params) -> World {
    let mut w = World::with(params, 1);
    w.offer();
    let terms = w.order_terms();
    let lease = w.accepted(terms);
    let started = w.now;
    w.wait_beating(200_000);
    w.confirmed(&lease, started, 200_000).unwrap();
    w.close_by_node(&lease);
    w.wait_beating(6_000);
    assert!(query::treasury(&w.state, AssetId::CREDIT) > Amount(5_000_000));
    w
}

fn stamp(w: &World, key: &SigningKey) -> Stamp {
    Stamp::search(&w.genesis.zone(), &key.account(), w.now.0 / DAY_MS, 1, 0, 100).unwrap()
}

fn begin_with(w: &World, key: &SigningKey, node: &SigningKey, stamp: Stamp) -> Vec<Action> {
    vec![
        Action::RegisterAccount { keys: vec![key.public()], threshold: 1 },
        Action::RegisterProvider { name: "new".into() },
        Action::Deposit(DepositAction::Newcomer { stamp }),
        w.register_node(key, node, declaration()),
        Action::PutOffer { node: node.node_id(), number: 0, terms: Box::new(offer_terms()) },
    ]
}

/// Begins without a credit; the provider's key and its node's.
fn begin(w: &mut World, n: u8) -> (SigningKey, SigningKey) {
    let (provider, node) = (key(n), key(n + 1));
    let stamp = stamp(w, &provider);
    let actions = begin_with(w, &provider, &node, stamp);
    w.act(&provider, actions).unwrap();
    w.idle();
    (provider, node)
}

/// Makes the newcomer the provider that the world's helpers act for.
fn act_as(w: &mut World, who: &(SigningKey, SigningKey)) {
    (w.provider, w.node) = who.clone();
}

/// Serves an order on the world's node for so many seconds and settles it.
fn serve(w: &mut World, secs: u64) -> Option<LeaseId> {
    let mut terms = w.order_terms();
    terms.constraints = vec![Constraint::Node(w.node.node_id())];
    let order = w.place(terms);
    w.idle();
    let Some(lease) = query::lease_of_order(&w.state, &order).map(|l| l.id) else {
        w.user_act(vec![Action::CancelOrder { order }]).unwrap();
        return None;
    };
    w.node_act(vec![Action::AcceptLease { lease }]).unwrap();
    let started = w.now;
    w.wait_beating(secs * 1_000);
    w.confirmed(&lease, started, secs * 1_000).unwrap();
    w.close_by_node(&lease);
    w.wait_beating(6_000);
    assert_eq!(w.lease(&lease).state, pasture_types::lease::LeaseState::Closed);
    Some(lease)
}

fn record(w: &World, key: &SigningKey) -> Provider {
    query::provider(&w.state, &key.account()).unwrap()
}

/// Whether a node may hold a beginner's rate, up to what rounding up its need gives.
fn is_first_rate(w: &World, node: &SigningKey) -> bool {
    let (room, first) = (deposits::rate_room(&w.state, &node.node_id()).unwrap(), w.genesis.params.stake.newcomer_rate);
    room >= first && room.0 - first.0 < 100
}

#[test]
fn a_node_without_a_credit_begins_serves_and_earns_its_deposit() {
    let mut params = Params::dev();
    params.min_stake = Amount(100_000_000);
    params.stake.newcomer_rate = Amount(1_000_000_000);
    let mut w = earned(params);
    let treasury = query::treasury(&w.state, AssetId::CREDIT);
    let who = begin(&mut w, 20);
    assert_eq!(record(&w, &who.0).bond.start, Start::Newcomer);
    let left = deposits::first_fees(&w.state, &who.0.account()).unwrap();
    let set_aside = deposits::newcomers(&w.state).fees;
    assert!(set_aside <= treasury && left < set_aside, "the first fees were paid from what was set aside");
    assert_eq!(w.balance(&who.0), Amount::ZERO);
    act_as(&mut w, &who);
    assert!(is_first_rate(&w, &w.node));
    let lease = serve(&mut w, 60).unwrap();
    let paid = w.lease(&lease).settlement.unwrap().to_provider;
    let p = record(&w, &who.0);
    assert_eq!((p.stake, p.bond.withheld), (paid, paid), "all of it is kept for the deposit");
    assert_eq!(w.balance(&who.0), Amount::ZERO);
    // 0.85 credits an hour: after 424 s the deposit of a tenth of a credit is there, and the rest is paid out.
    serve(&mut w, 300).unwrap();
    assert_eq!(record(&w, &who.0).bond.start, Start::Newcomer);
    serve(&mut w, 100).unwrap();
    let p = record(&w, &who.0);
    assert_eq!((p.stake, p.bond.start), (Amount(100_000_000), Start::Over));
    assert!(w.balance(&who.0) > Amount::ZERO);
    // Its leases grow under the same limit as anybody's.
    assert!(deposits::rate_room(&w.state, &w.node.node_id()).unwrap() > Amount(1_700_000_000));
}

#[test]
fn a_newcomer_holds_no_more_than_its_rate() {
    let mut params = Params::dev();
    params.stake.newcomer_rate = Amount(1_500_000_000);
    let mut w = earned(params);
    let who = begin(&mut w, 20);
    act_as(&mut w, &who);
    let place = |w: &mut World| {
        let mut terms = w.order_terms();
        terms.constraints = vec![Constraint::Node(w.node.node_id())];
        let order = w.place(terms);
        w.idle();
        query::lease_of_order(&w.state, &order).is_some()
    };
    assert!(place(&mut w));
    assert!(!place(&mut w), "1.0 + 1.0 credits an hour are more than 1.5");
    let mut terms = offer_terms();
    terms.asset = AssetId(1);
    let other = Action::PutOffer { node: w.node.node_id(), number: 1, terms: Box::new(terms) };
    assert!(w.act(&who.0, vec![other]).is_err(), "nothing is earned past the deposit");
}

#[test]
fn first_fees_pay_a_providers_own_work_only_and_return() {
    let mut w = earned(Params::dev());
    let (provider, _) = begin(&mut w, 20);
    let transfer = Action::Transfer { to: w.user.account(), asset: AssetId::CREDIT, amount: Amount::ZERO };
    assert_eq!(code(w.act(&provider, vec![transfer])), 31);
    let mut tipped = w.body(provider.account(), Auth::Single, vec![Action::RegisterProvider { name: "x".into() }]);
    tipped.tip = Amount(1);
    assert_eq!(code(w.send(&tipped.sign(&provider))), 31, "a tip is never paid from them");
    // What is refused for another reason was not refused for want of a fee.
    let bundle = HeartbeatBundle { node: key(21).node_id(), class: ResourceClass::Cpu, device: 0, first: 0, shares: vec![] };
    let own = [
        Action::Market(MarketAction::Preempt { lease: pasture_types::LeaseId([9; 32]) }),
        Action::Audit(Box::new(AuditAction::Heartbeats(bundle))),
    ];
    for action in own {
        assert_ne!(code(w.act(&provider, vec![action.clone()])), 31, "{action:?}");
    }
    let left = deposits::first_fees(&w.state, &provider.account()).unwrap();
    let treasury = query::treasury(&w.state, AssetId::CREDIT);
    w.wait(30 * DAY_MS + 1_000);
    assert_eq!(deposits::first_fees(&w.state, &provider.account()), Some(Amount::ZERO));
    assert_eq!(query::treasury(&w.state, AssetId::CREDIT), treasury.checked_add(left).unwrap());
}

#[test]
fn a_stamp_is_taken_once_for_its_account_and_day_with_its_work() {
    let mut w = earned(Params::dev());
    let (provider, node) = (key(20), key(21));
    let good = stamp(&w, &provider);
    let send = |w: &mut World, stamp: Stamp| {
        let actions = begin_with(w, &provider, &node, stamp);
        w.act(&provider, actions)
    };
    let others = stamp(&w, &key(30));
    assert_eq!(code(send(&mut w, others)), 87, "another account's");
    assert_eq!(code(send(&mut w, Stamp { day: good.day - 2, ..good })), 87, "an old one");
    assert_eq!(code(send(&mut w, Stamp { day: good.day + 1, ..good })), 87, "one of tomorrow");
    assert_eq!(code(send(&mut w, Stamp { nonce: good.nonce + 1, ..good })), 87, "another nonce");
    let weak = (0..200).find_map(|n| Stamp::search(&w.genesis.zone(), &provider.account(), good.day, 0, n, 1).filter(|s| s.bits() == 0));
    assert_eq!(code(send(&mut w, weak.unwrap())), 87, "too little work");
    let twice = vec![Action::Deposit(DepositAction::Newcomer { stamp: good }); 2];
    assert_eq!(code(w.act(&w.provider.clone(), twice)), 87, "two in one");
    send(&mut w, good).unwrap();
    let set_aside = deposits::newcomers(&w.state).fees;
    let again = Action::Deposit(DepositAction::Newcomer { stamp: good });
    assert_eq!(code(w.act(&provider, vec![again.clone()])), 41, "nobody begins twice");
    assert_eq!(deposits::newcomers(&w.state).fees, set_aside);
    // The check of another validator's block refuses a stamp whose work was not done, like a bad signature.
    let envelope =
        w.body(provider.account(), Auth::Single, vec![Action::Deposit(DepositAction::Newcomer { stamp: others })]).sign(&provider);
    assert_eq!(code(verify_stateless(&codec::encode(&envelope))), 87);
}

#[test]
fn who_has_its_deposit_does_not_begin_without() {
    let mut w = World::offered();
    let provider = w.provider.clone();
    let stamp = stamp(&w, &provider);
    assert_eq!(code(w.act(&provider, vec![Action::Deposit(DepositAction::Newcomer { stamp })])), 43);
}

#[test]
fn who_offered_before_withdraws_before_it_begins() {
    let mut w = World::offered();
    let provider = w.provider.clone();
    w.act(&provider, vec![Action::Deposit(DepositAction::Unbond { amount: Amount::credits(1) })]).unwrap();
    let newcomer = Action::Deposit(DepositAction::Newcomer { stamp: stamp(&w, &provider) });
    assert_eq!(code(w.act(&provider, vec![newcomer.clone()])), 43);
    w.act(&provider, vec![Action::WithdrawOffer { offer: offer_id(&w.node.node_id(), 0) }, newcomer]).unwrap();
}

#[test]
fn an_empty_treasury_sets_nothing_aside_and_a_sponsor_pays_the_fee() {
    let mut w = World::new();
    let (provider, node, user) = (key(20), key(21), w.user.clone());
    let stamp = stamp(&w, &provider);
    let actions = begin_with(&w, &provider, &node, stamp);
    assert_eq!(code(w.act(&provider, actions.clone())), 31);
    let mut body = w.body(provider.account(), Auth::Single, actions);
    body.fee_payer = Some(user.account());
    let envelope = body.sign(&provider).and_sign(user.account(), &user);
    w.send(&envelope).unwrap();
    assert_eq!(record(&w, &provider).bond.start, Start::Newcomer);
    assert_eq!(deposits::first_fees(&w.state, &provider.account()), None);
}

#[test]
fn a_block_takes_so_many_newcomers_and_a_day_so_much_of_the_treasury() {
    let mut params = Params::dev();
    params.stake.newcomers_per_block = 2;
    params.stake.newcomer_fees = Amount(1_000_000);
    params.stake.newcomer_fees_per_day = Amount(2_500_000);
    let mut w = earned(params);
    let envelopes: Vec<Vec<u8>> = (0..4u8)
        .map(|n| {
            let (provider, node) = (key(50 + 2 * n), key(51 + 2 * n));
            let stamp = stamp(&w, &provider);
            let actions = begin_with(&w, &provider, &node, stamp);
            codec::encode(&w.body(provider.account(), Auth::Single, actions).sign(&provider))
        })
        .collect();
    let done = w.block(10, &envelopes);
    let full = |a: &Applied| matches!(a, Applied::NotIncludable { error, .. } if error.code() == 88);
    assert_eq!(done.iter().filter(|a| full(a)).count(), 2, "{done:?}");
    let done = w.block(10, &envelopes[2..]);
    assert!(matches!(done[0], Applied::Done { .. }), "{done:?}");
    assert!(matches!(&done[1], Applied::NotIncludable { error, .. } if error.code() == 31), "nothing is left to set aside: {done:?}");
    let left: Vec<Option<Amount>> = (0..4u8).map(|n| deposits::first_fees(&w.state, &key(50 + 2 * n).account())).collect();
    assert!(left[1] > left[2] && left[2] < Some(Amount(500_000)) && left[3].is_none(), "{left:?}");
    assert_eq!(deposits::newcomers(&w.state).fees, Amount(2_500_000), "never above the day's cap");
    // The next day has its own.
    w.block(DAY_MS, &[]);
    begin(&mut w, 80);
    assert_eq!(deposits::newcomers(&w.state).fees, Amount(1_000_000));
}

#[test]
fn an_army_of_newcomers_holds_its_number_times_the_rate_and_pockets_nothing() {
    let mut params = Params::dev();
    params.stake.newcomer_rate = Amount(1_000_000_000);
    params.stake.newcomer_fees = Amount(1_000_000);
    let mut w = earned(params);
    let army: Vec<_> = (0..3u8).map(|n| begin(&mut w, 60 + 2 * n)).collect();
    let mut held = Amount::ZERO;
    for who in &army {
        act_as(&mut w, who);
        for _ in 0..2 {
            let mut terms = w.order_terms();
            terms.constraints = vec![Constraint::Node(w.node.node_id())];
            let order = w.place(terms);
            w.idle();
            if let Some(lease) = query::lease_of_order(&w.state, &order) {
                w.node_act(vec![Action::AcceptLease { lease: lease.id }]).unwrap();
                held = held.checked_add(lease.rate_per_hour).unwrap();
                // It serves nothing and claims everything; the user is away and objects to nothing.
                let started = w.now;
                w.wait_beating(30_000);
                w.bare(&lease.id, started, 30_000).unwrap();
                w.close_by_node(&lease.id);
            } else {
                w.user_act(vec![Action::CancelOrder { order }]).unwrap();
            }
        }
    }
    assert!(held <= Amount::credits(3), "n x newcomer_rate");
    for _ in 0..30 {
        for who in &army {
            act_as(&mut w, who);
            if !query::open_leases_of_node(&w.state, &w.node.node_id()).is_empty() {
                w.beat();
            }
        }
        w.wait(1_000);
    }
    for who in &army {
        assert_eq!(w.balance(&who.0), Amount::ZERO, "what they got is kept where it can be forfeited");
        assert!(record(&w, &who.0).stake > Amount::ZERO);
    }
}

#[test]
fn whitewashing_returns_with_the_first_rate_only() {
    let mut params = Params::dev();
    params.stake.newcomer_fees = Amount(1_000_000);
    let mut w = earned(params);
    let who = begin(&mut w, 20);
    act_as(&mut w, &who);
    serve(&mut w, 60).unwrap();
    let mut terms = w.order_terms();
    terms.constraints = vec![Constraint::Node(w.node.node_id())];
    let lease = w.accepted(terms);
    let kept = record(&w, &who.0).stake;
    let unbond = Action::Deposit(DepositAction::Unbond { amount: kept });
    // With a debt open it cannot leave.
    assert_eq!(code(w.act(&who.0, vec![unbond.clone()])), 85);
    w.close_by_node(&lease);
    w.wait(6_000);
    w.act(&who.0, vec![unbond]).unwrap();
    assert!(deposits::is_suspended(&w.state, &w.node.node_id()), "who takes it back needs a deposit from now on");
    let again = Action::Deposit(DepositAction::Newcomer { stamp: stamp(&w, &who.0) });
    assert_eq!(code(w.act(&who.0, vec![again])), 41);
    // Until the delay is over all of it can still be forfeited.
    assert_eq!((w.balance(&who.0), record(&w, &who.0).bond.leaving[0].amount), (Amount::ZERO, kept));
    // A new key costs a new stamp, and holds what any beginner holds.
    let new = begin(&mut w, 24);
    assert!(is_first_rate(&w, &new.1));
    // Its node's key stays with the old account.
    let taken = w.register_node(&new.0, &who.1, declaration());
    assert_eq!(code(w.act(&new.0, vec![taken])), 42);
    let began = w.events.iter().filter(|e| matches!(e, Event::Deposit(stake::DepositEvent::NewcomerBegan { .. }))).count();
    assert_eq!(began, 2);
}
