//! Deposits from outside: delay, sponsors, the value limit and the ways around it. Spec: `docs/specs/stake.md` §1-§3.

#![cfg(test)]

mod common;

use common::*;
use pasture_ledger::query::deposits;
use pasture_ledger::*;
use pasture_types::event::Event;
use pasture_types::genesis::Params;
use pasture_types::lease::LeaseState;
use pasture_types::market::{Constraint, OrderTerms};
use pasture_types::stake::{DepositAction, DepositEvent};
use pasture_types::tx::*;
use pasture_types::*;

fn code<T: std::fmt::Debug>(r: Result<T, TxError>) -> u16 {
    r.unwrap_err().code()
}

fn deposit(w: &mut World, key: &SigningKey, action: DepositAction) -> Result<Vec<Event>, TxError> {
    w.act(key, vec![Action::Deposit(action)])
}

fn unbond(w: &mut World, nanos: u128) -> Result<Vec<Event>, TxError> {
    let provider = w.provider.clone();
    deposit(w, &provider, DepositAction::Unbond { amount: Amount(nanos) })
}

/// A world whose deposits carry little, so that the limit is near: one credit carries 0.947 credits an hour.
fn narrow(stake: u64) -> World {
    let mut params = Params::dev();
    params.stake.audit_chance_ppm = 50_000;
    let mut w = World::with(params, 1);
    w.offer();
    let provider = w.provider.clone();
    if stake > 1 {
        w.act(&provider, vec![Action::Stake { amount: Amount::credits(stake - 1) }]).unwrap();
    }
    w
}

/// An order of so many thousandths of a core, and as many of memory, at 1 credit an hour for a whole.
fn small(w: &World, thousandths: u32) -> OrderTerms {
    let mut terms = w.order_terms();
    terms.resources.cpu_millis = thousandths;
    terms.resources.memory_bytes = (u64::from(thousandths) << 30) / 1000;
    terms.resources.disk_bytes = 1 << 20;
    terms.budget = Amount::credits(1);
    terms
}

fn try_match(w: &mut World, terms: OrderTerms) -> Option<LeaseId> {
    let order = w.place(terms);
    w.idle();
    let lease = query::lease_of_order(&w.state, &order).map(|l| l.id);
    if lease.is_none() {
        // It would be matched as soon as something is freed.
        w.user_act(vec![Action::CancelOrder { order }]).unwrap();
    }
    lease
}

fn try_small(w: &mut World, thousandths: u32) -> Option<LeaseId> {
    let terms = small(w, thousandths);
    try_match(w, terms)
}

fn provider_record(w: &World) -> Provider {
    query::provider(&w.state, &w.provider.account()).unwrap()
}

#[test]
fn a_deposit_returns_after_its_delay_and_never_from_under_an_open_lease() {
    let mut w = World::offered();
    let terms = w.order_terms();
    let lease = w.accepted(terms);
    // 1 credit/h x 95 s x 2 / 0.9, rounded up.
    let need = deposits::lease_need(&w.state, &lease).unwrap().needs;
    let value = (1_000_000_000u128 * 95_000).div_ceil(3_600_000);
    assert_eq!(need, Amount((value * 2_000_000).div_ceil(900_000)));
    assert_eq!(provider_record(&w).bond.locked, need);
    assert_eq!(code(unbond(&mut w, 1_000_000_000 - need.0 + 1)), 85);
    assert_eq!(code(unbond(&mut w, 2_000_000_000)), 31);
    assert_eq!(code(unbond(&mut w, 0)), 6);
    let before = w.balance(&w.provider);
    unbond(&mut w, 1_000_000_000 - need.0).unwrap();
    let left = provider_record(&w);
    assert_eq!((left.stake, left.bond.leaving.len()), (need, 1));
    w.wait_beating(59_000);
    assert!(w.balance(&w.provider) < before, "nothing returns early");
    assert_eq!(provider_record(&w).bond.leaving.len(), 1);
    w.wait_beating(3_000);
    let back = w.events.iter().any(|e| {
        matches!(e, Event::Deposit(DepositEvent::Released { owner, amount, .. })
        if *owner == w.provider.account() && amount.0 == 1_000_000_000 - need.0)
    });
    assert!(back && provider_record(&w).bond.leaving.is_empty());
    assert!(w.balance(&w.provider) > before);
}

#[test]
fn a_halt_lengthens_the_delay() {
    let mut w = World::offered();
    unbond(&mut w, 500_000_000).unwrap();
    // No block for an hour, then one: the delay has not passed, since the zone stood still.
    w.block(60_000 + 3_600_000, &[]);
    assert_eq!(provider_record(&w).bond.leaving.len(), 1);
    w.wait(61_000);
    assert!(provider_record(&w).bond.leaving.is_empty());
}

#[test]
fn parts_on_their_way_back_are_bounded() {
    let mut w = World::offered();
    for _ in 0..8 {
        unbond(&mut w, 1_000).unwrap();
    }
    assert_eq!(code(unbond(&mut w, 1_000)), 5);
    w.wait(61_000);
    unbond(&mut w, 1_000).unwrap();
}

#[test]
fn whoever_takes_its_deposit_back_gets_no_new_lease() {
    let mut w = World::offered();
    unbond(&mut w, 1).unwrap();
    assert!(deposits::is_suspended(&w.state, &w.node.node_id()));
    assert_eq!(try_small(&mut w, 1_000), None);
    let node = w.node.node_id();
    let provider = w.provider.clone();
    let offer = Action::PutOffer { node, number: 1, terms: Box::new(offer_terms()) };
    assert_eq!(code(w.act(&provider, vec![offer])), 34);
    w.act(&provider, vec![Action::Stake { amount: Amount(1) }]).unwrap();
    assert!(try_small(&mut w, 1_000).is_some());
}

#[test]
fn a_sponsor_posts_for_another_and_takes_it_back() {
    let mut w = World::offered();
    let (user, provider) = (w.user.clone(), w.provider.clone());
    let p = provider.account();
    let sponsor = |amount: u128| DepositAction::Sponsor { provider: p, amount: Amount(amount) };
    let withdraw = |amount: u128| DepositAction::WithdrawSponsorship { provider: p, amount: Amount(amount) };
    assert_eq!(code(deposit(&mut w, &user, sponsor(99_999_999))), 34, "too small");
    assert_eq!(code(deposit(&mut w, &provider, sponsor(1_000_000_000))), 6, "nobody sponsors itself");
    assert_eq!(code(deposit(&mut w, &user, DepositAction::Sponsor { provider: key(99).account(), amount: Amount::credits(1) })), 40);
    let before = w.balance(&user);
    deposit(&mut w, &user, sponsor(500_000_000)).unwrap();
    deposit(&mut w, &user, sponsor(1)).unwrap();
    assert_eq!(deposits::deposit(&w.state, &p), Amount(1_500_000_001));
    assert_eq!(provider_record(&w).bond.sponsors, 1);
    // The provider may now lower its own part: together they still have the least deposit.
    unbond(&mut w, 500_000_000).unwrap();
    assert!(!deposits::is_suspended(&w.state, &w.node.node_id()));
    assert_eq!(code(deposit(&mut w, &user, withdraw(450_000_000))), 34, "what stays is at least the smallest");
    assert_eq!(code(deposit(&mut w, &user, withdraw(600_000_000))), 31);
    assert_eq!(code(deposit(&mut w, &provider, withdraw(1))), 40, "not its own");
    deposit(&mut w, &user, withdraw(500_000_001)).unwrap();
    assert!(deposits::is_suspended(&w.state, &w.node.node_id()), "it counts no more from the moment it leaves");
    w.wait(61_000);
    assert_eq!(deposits::sponsors(&w.state, &p), vec![]);
    assert!(before.saturating_sub(w.balance(&user)) < Amount(100_000), "all but the fees is back");
}

#[test]
fn a_provider_sends_unwanted_sponsors_away() {
    let mut w = World::offered();
    let (provider, p) = (w.provider.clone(), w.provider.account());
    for n in 0..17u8 {
        let key = key(100 + n);
        let mint = Action::TestCredits { to: key.account(), amount: Amount::credits(1) };
        w.user_act(vec![mint]).unwrap();
        let register = Action::RegisterAccount { keys: vec![key.public()], threshold: 1 };
        let sponsor = Action::Deposit(DepositAction::Sponsor { provider: p, amount: Amount(100_000_000) });
        let done = w.act(&key, vec![register, sponsor]);
        assert_eq!(done.is_ok(), n < 16, "{n}");
    }
    assert_eq!(code(deposit(&mut w, &provider, DepositAction::DismissSponsor { sponsor: key(200).account() })), 40);
    deposit(&mut w, &provider, DepositAction::DismissSponsor { sponsor: key(100).account() }).unwrap();
    assert_eq!(provider_record(&w).bond.sponsors, 16, "its place is free when it has its money");
    w.wait(61_000);
    assert_eq!(provider_record(&w).bond.sponsors, 15);
    assert_eq!(deposits::deposit(&w.state, &p), Amount(2_500_000_000));
}

#[test]
fn no_splitting_gets_a_provider_beyond_its_limit() {
    // Two credits carry 1.894 credits an hour: one lease of 1.0, or 18 of 0.1, not 19.
    let mut w = narrow(2);
    let room = deposits::rate_room(&w.state, &w.node.node_id()).unwrap();
    assert_eq!(room, Amount(2_000_000_000 * 50_000 / 2_000_000 * 3_600_000 / 95_000));
    assert_eq!(try_small(&mut w, 1_900), None, "one large lease");
    let mut open = 0;
    while let Some(lease) = try_small(&mut w, 100) {
        w.node_act(vec![Action::AcceptLease { lease }]).unwrap();
        open += 1;
        assert!(open < 30);
    }
    assert_eq!(open, 18, "many small leases");
    assert_eq!(provider_record(&w).bond.rate_per_hour, query_rate(&w));
    // Another node of the same provider shares the deposit.
    let (provider, second) = (w.provider.clone(), key(33));
    let register = w.register_node(&provider, &second, declaration());
    let offer = Action::PutOffer { node: second.node_id(), number: 0, terms: Box::new(offer_terms()) };
    w.act(&provider, vec![register, offer]).unwrap();
    w.idle();
    let mut there = small(&w, 100);
    there.constraints = vec![Constraint::Node(second.node_id())];
    assert_eq!(try_match(&mut w, there), None, "another node");
}

fn query_rate(w: &World) -> Amount {
    let open = query::open_leases_of_node(&w.state, &w.node.node_id());
    open.iter().fold(Amount::ZERO, |a, l| a.saturating_add(l.rate_per_hour))
}

#[test]
fn an_ended_lease_holds_its_part_until_it_is_settled() {
    let mut w = narrow(2);
    let lease = try_small(&mut w, 1_000).unwrap();
    w.node_act(vec![Action::AcceptLease { lease }]).unwrap();
    let started = w.now;
    w.wait_beating(2_000);
    w.bare(&lease, started, 2_000).unwrap();
    // Ended and the machine is free, but its pay is not decided: short leases one after the other gain no room.
    w.close_by_node(&lease);
    assert_eq!(w.lease(&lease).state, LeaseState::Closing);
    assert_eq!(query::free_resources(&w.state, &w.node.node_id()).unwrap().cpu_millis, 4000);
    assert_eq!(try_small(&mut w, 1_000), None);
    w.wait_beating(30_000);
    assert_eq!(w.lease(&lease).state, LeaseState::Closed);
    assert_eq!(provider_record(&w).bond.locked, Amount::ZERO);
    assert!(try_small(&mut w, 1_000).is_some());
}

#[test]
fn a_lapsed_match_gives_its_part_back() {
    let mut w = narrow(2);
    let lease = try_small(&mut w, 1_000).unwrap();
    assert!(!provider_record(&w).bond.locked.is_zero());
    w.node_act(vec![Action::RejectLease { lease }]).unwrap();
    assert!(provider_record(&w).bond.locked.is_zero());
    assert_eq!(deposits::lease_need(&w.state, &lease), None);
}

#[test]
fn more_time_is_taken_under_the_deposit_of_now() {
    let mut w = narrow(2);
    let lease = try_small(&mut w, 1_000).unwrap();
    w.node_act(vec![Action::AcceptLease { lease }]).unwrap();
    let extend = Action::Extend { lease, duration: Millis(60_000) };
    w.user_act(vec![extend.clone()]).unwrap();
    // A provider that is leaving keeps its open lease, and gets no more time for it.
    unbond(&mut w, 900_000_000).unwrap();
    w.user_act(vec![extend.clone()]).unwrap();
    assert_eq!(code(unbond(&mut w, 50_000_000)), 85);
    // The chance of an audit fell by a vote: the same lease needs twice the deposit.
    let mut zone = query::zone(&w.state).unwrap();
    zone.params.stake.audit_chance_ppm = 25_000;
    set_zone(&mut w, &zone);
    assert_eq!(code(w.user_act(vec![extend.clone()])), 86);
    let provider = w.provider.clone();
    w.act(&provider, vec![Action::Stake { amount: Amount::credits(2) }]).unwrap();
    w.user_act(vec![extend]).unwrap();
    let need = deposits::lease_need(&w.state, &lease).unwrap().needs;
    assert!(need > Amount::credits(2) && provider_record(&w).bond.locked == need);
}

#[test]
fn without_any_chance_of_an_audit_only_what_is_free_is_matched() {
    let mut w = narrow(2);
    let mut zone = query::zone(&w.state).unwrap();
    zone.params.stake.audit_chance_ppm = 0;
    set_zone(&mut w, &zone);
    assert_eq!(deposits::rate_room(&w.state, &w.node.node_id()), Some(Amount::ZERO));
    assert_eq!(try_small(&mut w, 100), None);
}

fn set_zone(w: &mut World, zone: &Zone) {
    let k = w.state.0.iter().find(|(_, v)| **v == codec::encode(&query::zone(&w.state).unwrap())).unwrap().0.clone();
    w.state.0.insert(k, codec::encode(zone));
}

#[test]
fn each_of_several_providers_needs_its_own_deposit() {
    // What splitting over providers gives is what the same deposits give together, never more.
    let mut w = narrow(2);
    let (user, first) = (w.user.clone(), w.provider.clone());
    let second = key(40);
    let register = Action::RegisterAccount { keys: vec![second.public()], threshold: 1 };
    w.act(&user, vec![Action::Transfer { to: second.account(), asset: AssetId::CREDIT, amount: Amount::credits(5) }]).unwrap();
    let node = w.register_node(&second, &key(41), declaration());
    let offer = Action::PutOffer { node: key(41).node_id(), number: 0, terms: Box::new(offer_terms()) };
    let name = Action::RegisterProvider { name: "second".into() };
    w.act(&second, vec![register, name, node]).unwrap();
    assert_eq!(code(w.act(&second, vec![offer.clone()])), 34, "no deposit, no offer");
    w.act(&second, vec![Action::Stake { amount: Amount::credits(2) }, offer]).unwrap();
    w.idle();
    let mut open = 0;
    while try_small(&mut w, 500).is_some() {
        open += 1;
        assert!(open < 20);
    }
    let rate = |k: &SigningKey| query::provider(&w.state, &k.account()).unwrap().bond.rate_per_hour;
    let limit = Amount(2_000_000_000 * 50_000 / 2_000_000 * 3_600_000 / 95_000);
    assert!(rate(&first) <= limit && rate(&second) <= limit);
    assert_eq!(open, 6);
}
