//! Leases that go on: rentals at a locked price, leases without an end, leaving early. Spec: `docs/specs/market.md` §6.

#![cfg(test)]

mod common;

use common::*;
use pasture_ledger::*;
use pasture_types::event::Event;
use pasture_types::genesis::Params;
use pasture_types::lease::{EndReason, LeaseState};
use pasture_types::market::Term;
use pasture_types::market::*;
use pasture_types::market_rules::{MarketAction, MarketEvent};
use pasture_types::tx::*;
use pasture_types::*;

const HOUR: u64 = 3_600_000;

fn code<T: std::fmt::Debug>(r: Result<T, TxError>) -> u16 {
    r.unwrap_err().code()
}

/// A world whose offer keeps its price for some hours, in epochs of a minute.
fn locking(hours: u64) -> World {
    let mut w = World::with(Params { epoch: Millis(60_000), ..Params::dev() }, 1);
    w.offer();
    price(&mut w, 900_000_000, hours);
    w
}

/// Puts the offer anew, at another price.
fn price(w: &mut World, core: u64, hours: u64) {
    let mut terms = offer_terms();
    (terms.rates.cpu_core, terms.price_lock) = (Amount(core.into()), Millis(hours * HOUR));
    let (provider, node) = (w.provider.clone(), w.node.node_id());
    w.act(&provider, vec![Action::PutOffer { node, number: 0, terms: Box::new(terms) }]).unwrap();
    w.idle();
}

const fn hours(committed: u32, locked: u32, renew: bool) -> Term {
    Term::Rental { unit: BillingUnit::Hour, committed, locked, renew }
}

fn rental(w: &World, term: Term) -> OrderTerms {
    let Term::Rental { unit, committed, .. } = term else { panic!("{term:?}") };
    OrderTerms { term, max_duration: Millis(unit.length().0 * u64::from(committed)), budget: Amount::credits(20), ..w.order_terms() }
}

fn place(w: &mut World, terms: OrderTerms) -> Result<Vec<Event>, TxError> {
    w.user_act(vec![Action::PlaceOrder { terms: Box::new(terms) }])
}

/// Runs a lease of these terms from now on; its beginning.
fn running(w: &mut World, terms: impl Fn(&World) -> OrderTerms) -> (LeaseId, Timestamp) {
    let terms = terms(w);
    let id = w.accepted(terms);
    let started = w.now;
    w.wait_beating(2_000);
    w.bare(&id, started, 1_000).unwrap();
    (id, started)
}

fn events(w: &World, of: impl Fn(&MarketEvent) -> bool) -> usize {
    w.events.iter().filter(|e| matches!(e, Event::Market(m) if of(m))).count()
}

#[test]
fn a_rental_is_renewed_at_its_locked_price_until_the_lock_ends() {
    let mut w = locking(3);
    let (id, started) = running(&mut w, |w| rental(w, hours(1, 3, true)));
    assert_eq!((w.lease(&id).escrow, w.lease(&id).rate_per_hour), (Amount::credits(1), Amount::credits(1)));
    price(&mut w, 5_000_000_000, 3);
    w.wait(HOUR * 9 / 10);
    let lease = w.lease(&id);
    assert_eq!((lease.max_duration, lease.escrow), (Millis(2 * HOUR), Amount::credits(2)), "the second hour, at the old price");
    w.wait(HOUR);
    assert_eq!(w.lease(&id).max_duration, Millis(3 * HOUR));
    w.wait(HOUR);
    let lease = w.lease(&id);
    assert_eq!((lease.max_duration, lease.rate_per_hour), (Millis(3 * HOUR), Amount::credits(1)), "no more than was locked");
    assert_eq!(events(&w, |e| matches!(e, MarketEvent::RentalRenewed { .. })), 2);
    assert_eq!(events(&w, |e| matches!(e, MarketEvent::LeaseLow { .. })), 1, "and the user is told");
    assert_eq!(code(w.user_act(vec![Action::Extend { lease: id, duration: Millis(HOUR) }])), 5);
    w.wait(HOUR);
    assert!(!w.lease(&id).is_live(), "it ended {} after its start", w.now.since(started));
}

#[test]
fn a_renewal_stays_within_the_budget_the_balance_and_the_users_word() {
    let mut w = locking(9);
    let tight = |w: &World| OrderTerms { budget: Amount(2_500_000_000), ..rental(w, hours(1, 9, true)) };
    let (id, _) = running(&mut w, tight);
    w.wait(3 * HOUR);
    assert_eq!(w.lease(&id).escrow, Amount::credits(2), "a third hour would be beyond the budget");

    let mut w = locking(9);
    let (id, _) = running(&mut w, |w| rental(w, hours(1, 9, true)));
    let poor = w.balance(&w.user).checked_sub(Amount(500_000_000)).unwrap();
    let to = key(77).account();
    w.user_act(vec![Action::Transfer { to, asset: AssetId::CREDIT, amount: poor }]).unwrap();
    w.wait(HOUR * 9 / 10);
    assert_eq!(w.lease(&id).max_duration, Millis(HOUR), "no money");
    assert_eq!(events(&w, |e| matches!(e, MarketEvent::LeaseLow { .. })), 1);
    let user = w.user.account();
    w.user_act(vec![Action::TestCredits { to: user, amount: Amount::credits(5) }]).unwrap();
    w.wait(HOUR / 9);
    assert_eq!(w.lease(&id).max_duration, Millis(2 * HOUR), "it came in before the end");
    let stop = vec![Action::Market(MarketAction::StopRenewal { lease: id })];
    w.user_act(stop.clone()).unwrap();
    assert_eq!(code(w.user_act(stop)), 6);
    w.wait(HOUR);
    assert_eq!(w.lease(&id).max_duration, Millis(2 * HOUR));
    assert_eq!(code(w.user_act(vec![Action::Extend { lease: id, duration: Millis(HOUR + 1) }])), 6, "whole units");
    w.user_act(vec![Action::Extend { lease: id, duration: Millis(HOUR) }]).unwrap();
    assert_eq!(w.lease(&id).max_duration, Millis(3 * HOUR), "by hand");
}

#[test]
fn a_rental_needs_an_offer_that_locks_its_price_and_makes_sense() {
    let mut w = locking(2);
    let order = |w: &mut World, terms| {
        let order = w.place(terms);
        w.idle();
        query::lease_of_order(&w.state, &order).is_some()
    };
    let three = rental(&w, hours(1, 3, false));
    assert!(!order(&mut w, three.clone()));
    let e = explain(&w.state, &three, w.now);
    assert_eq!(e.relaxations[0].change, "lock the price for at most 2 units");
    let two = rental(&w, hours(1, 2, false));
    assert!(order(&mut w, two));
    let mut wrong = rental(&w, hours(2, 2, false));
    wrong.max_duration = Millis(HOUR);
    assert_eq!(code(place(&mut w, wrong)), 6);
    for (committed, locked) in [(0, 1), (2, 1)] {
        let mut t = rental(&w, hours(1, 1, false));
        t.term = hours(committed, locked, false);
        assert_eq!(code(place(&mut w, t)), 6);
    }
    let long = rental(&w, Term::Rental { unit: BillingUnit::Month, committed: 1, locked: 13, renew: false });
    assert_eq!(code(place(&mut w, OrderTerms { budget: Amount::credits(2_000), ..long })), 5, "more than a year");
    let poor = rental(&w, hours(2, 2, false));
    assert_eq!(code(place(&mut w, OrderTerms { budget: Amount::credits(3), ..poor })), 32, "the budget covers the committed term");
}

#[test]
fn leaving_a_rental_early_costs_part_of_the_rest() {
    let mut w = locking(10);
    let (id, started) = running(&mut w, |w| rental(w, hours(10, 10, false)));
    w.wait_beating(HOUR);
    let before = w.balance(&w.provider);
    w.user_act(vec![Action::CloseLease { lease: id, reason: EndReason::StoppedByUser }]).unwrap();
    let rest = 10 * HOUR - w.now.since(started).0;
    let fee = Amount(u128::from(rest) * 1_000_000_000 / u128::from(HOUR) / 5);
    let lease = w.lease(&id);
    assert_eq!(lease.tenure.cancel_fee, fee, "a fifth of the rest");
    let earned = w.balance(&w.provider).checked_sub(before).unwrap();
    assert_eq!(earned, fee.checked_sub(fee.mul_div(150_000, 1_000_000).unwrap()).unwrap());
    w.node_act(vec![Action::CloseLease { lease: id, reason: EndReason::StoppedByProvider }]).unwrap();
    w.wait_beating(600_000);
    let lease = w.lease(&id);
    assert_eq!(lease.state, LeaseState::Closed);
    let end = lease.settlement.unwrap();
    assert_eq!(end.refunded, Amount::credits(10).checked_sub(fee).unwrap().checked_sub(end.charged).unwrap(), "the rest is back");
}

#[test]
fn saying_that_service_stopped_saves_nothing_unless_the_node_was_gone() {
    for object in [false, true] {
        let mut w = locking(10);
        let (id, started) = running(&mut w, |w| rental(w, hours(10, 10, false)));
        w.wait_beating(HOUR);
        w.bare(&id, started, HOUR).unwrap();
        let (provider, treasury) = (w.balance(&w.provider), query::treasury(&w.state, AssetId::CREDIT));
        let action =
            if object { Action::Object { lease: id } } else { Action::CloseLease { lease: id, reason: EndReason::ServiceStopped } };
        w.user_act(vec![action]).unwrap();
        let fee = w.lease(&id).tenure.cancel_fee;
        assert!(fee > Amount(1_700_000_000), "{fee}");
        assert!(w.balance(&w.provider) <= provider, "the provider gains nothing by it either");
        assert_eq!(query::treasury(&w.state, AssetId::CREDIT).checked_sub(treasury), Some(fee));
    }
    let mut w = locking(10);
    let (id, _) = running(&mut w, |w| rental(w, hours(10, 10, false)));
    w.wait(HOUR);
    w.user_act(vec![Action::CloseLease { lease: id, reason: EndReason::StoppedByUser }]).unwrap();
    assert_eq!(w.lease(&id).tenure.cancel_fee, Amount::ZERO, "no proof of its last epochs: it was not there");

    let mut w = locking(10);
    let id = w.accepted(rental(&w, hours(10, 10, false)));
    w.wait_beating(HOUR / 10);
    w.user_act(vec![Action::CloseLease { lease: id, reason: EndReason::StoppedByUser }]).unwrap();
    assert_eq!(w.lease(&id).tenure.cancel_fee, Amount::ZERO, "service never began");
}

#[test]
fn a_lease_without_an_end_warns_is_topped_up_and_stops_when_its_money_is_gone() {
    let mut w = locking(5);
    let open = |w: &World| OrderTerms { term: Term::Open, max_duration: Millis(HOUR), ..w.order_terms() };
    let (id, started) = running(&mut w, open);
    w.wait(HOUR * 7 / 10);
    assert_eq!(events(&w, |_| true), 0);
    w.wait(HOUR / 5);
    let Some(Event::Market(MarketEvent::LeaseLow { ends, .. })) = w.events.iter().find(|e| matches!(e, Event::Market(_))) else {
        panic!("no warning at a fifth left")
    };
    assert_eq!(*ends, started.plus(Millis(HOUR)));
    let top_up = |amount| vec![Action::Market(MarketAction::TopUp { lease: id, amount: Amount(amount) })];
    w.user_act(top_up(1_500_000_000)).unwrap();
    let lease = w.lease(&id);
    assert_eq!((lease.max_duration, lease.escrow), (Millis(HOUR * 5 / 2), Amount(2_500_000_000)));
    w.wait(HOUR * 8 / 10);
    assert_eq!(events(&w, |_| true), 1, "not at a fifth of the first hold");
    w.wait(HOUR / 2);
    assert_eq!(events(&w, |_| true), 2);
    // Beyond the price lock nothing is taken.
    w.user_act(top_up(50_000_000_000)).unwrap();
    assert_eq!(w.lease(&id).max_duration, Millis(5 * HOUR));
    assert_eq!(w.lease(&id).escrow, Amount::credits(5));
    assert_eq!(code(w.user_act(top_up(50_000_000_000))), 6);
    let provider = w.provider.clone();
    assert_eq!(code(w.act(&provider, top_up(1))), 42);
    // Within the grace after the end it may still be topped up; then it closes.
    let mut w = locking(5);
    let (id, _) = running(&mut w, open);
    let top_up = vec![Action::Market(MarketAction::TopUp { lease: id, amount: Amount::credits(1) })];
    w.wait(HOUR + 100_000);
    assert!(w.lease(&id).is_live());
    w.user_act(top_up.clone()).unwrap();
    w.wait(HOUR);
    assert!(w.lease(&id).is_live());
    w.wait(300_000);
    assert!(!w.lease(&id).is_live());
    assert_eq!(code(w.user_act(top_up)), 43);
    let (fixed, _) = running(&mut w, World::order_terms);
    assert_eq!(code(w.user_act(vec![Action::Market(MarketAction::TopUp { lease: fixed, amount: Amount::credits(1) })])), 6);
}
