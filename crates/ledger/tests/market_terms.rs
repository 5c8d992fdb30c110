//! What offers and orders may say beyond machine and price, rule by rule. Spec: `docs/specs/market.md` §1, §2, §4, §5.

#![cfg(test)]

mod common;

use common::*;
use pasture_ledger::*;
use pasture_types::credential::{CredentialKind, CredentialQuery};
use pasture_types::event::Event;
use pasture_types::genesis::Params;
use pasture_types::lease::EndReason;
use pasture_types::market::*;
use pasture_types::market_rules::{MarketAction, MarketEvent};
use pasture_types::tx::*;
use pasture_types::*;

fn code<T: std::fmt::Debug>(r: Result<T, TxError>) -> u16 {
    r.unwrap_err().code()
}

/// A world whose one offer was changed.
fn offering(change: impl Fn(&mut OfferTerms)) -> World {
    let mut w = World::offered();
    put(&mut w, change).unwrap();
    w.idle();
    w
}

fn put(w: &mut World, change: impl Fn(&mut OfferTerms)) -> Result<Vec<Event>, TxError> {
    let mut terms = offer_terms();
    change(&mut terms);
    let (provider, node) = (w.provider.clone(), w.node.node_id());
    w.act(&provider, vec![Action::PutOffer { node, number: 0, terms: Box::new(terms) }])
}

/// The lease of an order with these terms, if it is matched at once.
fn draw(w: &mut World, change: impl Fn(&mut OrderTerms)) -> Option<Lease> {
    let mut terms = w.order_terms();
    change(&mut terms);
    let order = w.place(terms);
    w.idle();
    query::lease_of_order(&w.state, &order)
}

fn place(w: &mut World, change: impl Fn(&mut OrderTerms)) -> Result<Vec<Event>, TxError> {
    let mut terms = w.order_terms();
    change(&mut terms);
    w.user_act(vec![Action::PlaceOrder { terms: Box::new(terms) }])
}

fn offer(w: &World) -> OfferId {
    offer_id(&w.node.node_id(), 0)
}

/// The minute of the week that it is in a world.
fn minute(w: &World) -> u16 {
    u16::try_from((w.now.0 / 60_000 + 3 * 1_440) % u64::from(WEEK_MINUTES)).unwrap()
}

#[test]
fn a_lease_ends_within_the_offers_hours_or_may_be_preempted() {
    let mut w = World::offered();
    let now = minute(&w);
    let open = move |t: &mut OfferTerms| t.windows = vec![Window { from: now, to: now + 30 }];
    put(&mut w, open).unwrap();
    w.idle();
    let minutes = |n: u64| move |t: &mut OrderTerms| t.max_duration = Millis(n * 60_000);
    assert!(draw(&mut w, minutes(31)).is_none(), "it would reach over the end");
    let fits = draw(&mut w, minutes(20)).expect("within");
    w.node_act(vec![Action::AcceptLease { lease: fits.id }]).unwrap();
    assert_eq!(code(w.user_act(vec![Action::Extend { lease: fits.id, duration: Millis(15 * 60_000) }])), 5, "nor later by an extension");
    let preemptible = draw(&mut w, |t| (t.max_duration, t.preemptible) = (Millis(60 * 60_000), true));
    assert!(preemptible.is_some(), "who may be ended may reach over it");
    w.wait(31 * 60_000);
    assert!(draw(&mut w, |t| t.preemptible = true).is_none(), "closed");
    for wrong in
        [vec![(5, 5)], vec![(0, 10_081)], vec![(10, 20), (15, 30)], vec![(10, 20), (0, 5)], (0..15).map(|n| (n * 10, n * 10 + 5)).collect()]
    {
        let windows: Vec<_> = wrong.into_iter().map(|(from, to)| Window { from, to }).collect();
        assert!([5, 6].contains(&code(put(&mut w, |t| t.windows.clone_from(&windows)))));
    }
}

#[test]
fn a_paused_offer_rests_and_comes_back_without_ageing() {
    let mut w = World::offered();
    let (provider, id) = (w.provider.clone(), offer(&w));
    let pause = |paused| vec![Action::Market(MarketAction::PauseOffer { offer: id, paused })];
    assert_eq!(code(w.user_act(pause(true))), 42);
    assert_eq!(code(w.node_act(pause(true))), 24);
    assert_eq!(code(w.act(&provider, pause(false))), 43);
    w.act(&provider, pause(true)).unwrap();
    let height = query::offer(&w.state, &id).unwrap().height;
    let waiting = w.place(w.order_terms());
    w.idle();
    assert!(query::lease_of_order(&w.state, &waiting).is_none());
    let e = explain(&w.state, &w.order_terms(), w.now);
    assert_eq!(e.relaxations[0].change, "wait: the offers that fit are paused");
    w.act(&provider, pause(false)).unwrap();
    assert!(query::lease_of_order(&w.state, &waiting).is_some(), "in the very block");
    assert_eq!(query::offer(&w.state, &id).unwrap().height, height, "it has stood all the time");
}

#[test]
fn an_offer_takes_so_many_leases_of_such_lengths_until_it_lapses() {
    let mut w = offering(|t| (t.max_leases, t.min_duration) = (1, Millis::secs(600)));
    assert!(draw(&mut w, |t| t.max_duration = Millis::secs(599)).is_none());
    let first = draw(&mut w, |_| {}).expect("long enough");
    w.node_act(vec![Action::AcceptLease { lease: first.id }]).unwrap();
    assert_eq!(query::leases_of_offer(&w.state, &offer(&w)), 1);
    let second = w.place(w.order_terms());
    w.idle();
    assert!(query::lease_of_order(&w.state, &second).is_none(), "one at a time");
    // A new offer of the same number still counts the lease.
    let (provider, id) = (w.provider.clone(), offer(&w));
    w.act(&provider, vec![Action::WithdrawOffer { offer: id }]).unwrap();
    put(&mut w, |t| (t.max_leases, t.min_duration) = (1, Millis::secs(600))).unwrap();
    w.idle();
    assert!(query::lease_of_order(&w.state, &second).is_none());
    w.close_by_node(&first.id);
    assert!(query::lease_of_order(&w.state, &second).is_some(), "its place is free");

    let end = World::offered().now.plus(Millis::secs(30));
    let mut w = offering(move |t| t.valid_until = Some(end));
    assert!(draw(&mut w, |_| {}).is_some());
    w.wait(31_000);
    assert!(draw(&mut w, |_| {}).is_none(), "its prices are old");
    assert_eq!(code(put(&mut w, move |t| t.valid_until = Some(end))), 6);
    assert_eq!(code(put(&mut w, |t| t.min_duration = Millis(t.max_duration.0 + 1))), 6);
}

#[test]
fn classes_have_their_own_rates_and_lines() {
    let class = |name: &str, units| ServiceLine { class: name.into(), units };
    let mut w = World::new();
    let (provider, node) = (w.provider.clone(), w.node.clone());
    let mut declared = declaration();
    declared.resources.gpus = vec![GpuLine { model: "H100".into(), count: 2, vram_bytes: 80 << 30 }];
    declared.resources.services = vec![class("inference.tokens", 1_000_000), class("storage.gib", 100)];
    let mut terms = offer_terms();
    terms.resources = declared.resources.clone();
    terms.rates.gpus = vec![Amount::credits(2)];
    // A class of tokens an hour: the rate of a unit is the price of a token.
    terms.rates.services = vec![Amount(2_000), Amount(1_000_000)];
    let offer = |terms: OfferTerms| Action::PutOffer { node: node.node_id(), number: 0, terms: Box::new(terms) };
    let register = w.register_node(&provider, &node, declared);
    w.act(&provider, vec![Action::RegisterProvider { name: "p".into() }, register, Action::Stake { amount: Amount::credits(1) }]).unwrap();
    let mut unpriced = terms.clone();
    unpriced.rates.services.pop();
    assert_eq!(code(w.act(&provider, vec![offer(unpriced)])), 6, "each line has a rate");
    let mut other = terms.clone();
    other.resources.gpus[0].vram_bytes = 40 << 30;
    assert_eq!(code(w.act(&provider, vec![offer(other)])), 6, "the node has no such GPU");
    w.act(&provider, vec![offer(terms)]).unwrap();
    w.idle();
    let asked = |t: &mut OrderTerms| {
        t.resources.gpus = vec![GpuLine { model: "H100".into(), count: 1, vram_bytes: 40 << 30 }];
        t.resources.services = vec![class("inference.tokens", 600_000)];
        (t.max_price_per_hour, t.budget) = (Amount::credits(10), Amount::credits(10));
    };
    let lease = draw(&mut w, asked).expect("it has all of it");
    assert_eq!(lease.rate_per_hour, Amount(1_000_000_000 + 2_000_000_000 + 1_200_000_000));
    let line = |class: LineClass| lease.tenure.lines.iter().find(|l| l.class == class).map(|l| (l.units, l.rate_per_hour));
    assert_eq!(line(LineClass::Gpu("H100".into())), Some((1, Amount::credits(2))));
    assert_eq!(line(LineClass::Service("inference.tokens".into())), Some((600_000, Amount(1_200_000_000))));
    assert_eq!(lease.resources.gpus[0].vram_bytes, 80 << 30, "the GPU that it got, not the least that was asked");
    let free = query::free_resources(&w.state, &w.node.node_id()).unwrap();
    assert_eq!((free.gpus[0].count, free.units_of("inference.tokens"), free.units_of("storage.gib")), (1, 400_000, 100));
    assert!(draw(&mut w, asked).is_none(), "a GPU is left, but too few tokens");
    assert!(draw(&mut w, |t| t.resources.services = vec![class("storage.tib", 1)]).is_none(), "nobody has that class");
    for wrong in [vec![class("Storage", 1)], vec![class("a", 0)], vec![class("a", 1), class("a", 2)], vec![class("", 1)]] {
        assert_eq!(code(place(&mut w, |t| t.resources.services.clone_from(&wrong))), 6);
    }
}

#[test]
fn gpus_wait_for_their_proofs_outside_development() {
    let mut params = Params::dev();
    params.market.gpu_leases = false;
    let mut w = World::with(params, 1);
    w.offer();
    let line = vec![GpuLine { model: "H100".into(), count: 1, vram_bytes: 1 }];
    assert_eq!(code(place(&mut w, |t| t.resources.gpus.clone_from(&line))), 7);
    assert_eq!(code(put(&mut w, |t| t.resources.gpus.clone_from(&line))), 7);
}

#[test]
fn a_target_makes_cheaper_than_hoped_for_worth_nothing_more() {
    let mut w = World::offered();
    let (provider, second) = (w.provider.clone(), key(40));
    let register = w.register_node(&provider, &second, declaration());
    let mut terms = offer_terms();
    // Half the price, but twice as large: a worse fit.
    terms.rates = Rates { cpu_core: Amount(400_000_000), memory_gib: Amount(100_000_000), ..Rates::default() };
    let put = Action::PutOffer { node: second.node_id(), number: 0, terms: Box::new(terms) };
    w.act(&provider, vec![register, put]).unwrap();
    w.idle();
    let cheap = draw(&mut w, |t| t.resources = resources(1, 1)).unwrap();
    assert_eq!(cheap.node, second.node_id());
    let best = |t: &OrderTerms| explain(&w.state, t, w.now).best.iter().map(|c| c.score).collect::<Vec<_>>();
    let mut content = w.order_terms();
    content.target_price_per_hour = Amount::credits(1);
    let scores = best(&content);
    assert!(scores[0] - scores[1] < 100_000, "price does not tell them apart: {scores:?}");
    assert_eq!(code(place(&mut w, |t| t.target_price_per_hour = Amount::credits(3))), 6, "above the highest price");
}

#[test]
fn priority_is_paid_for_when_the_order_is_placed_and_not_returned() {
    let mut w = World::offered();
    let (before, treasury) = (w.balance(&w.user), query::treasury(&w.state, AssetId::CREDIT));
    let events = place(&mut w, |t| (t.priority, t.constraints) = (100, vec![Constraint::Node(NodeId([0; 32]))])).unwrap();
    let Event::OrderPlaced { order, .. } = events[0] else { panic!("{events:?}") };
    w.idle();
    w.user_act(vec![Action::CancelOrder { order }]).unwrap();
    let price = w.genesis.params.market.priority_price.0 * 100;
    assert_eq!(query::treasury(&w.state, AssetId::CREDIT).0 - treasury.0, price);
    let gone = before.0 - w.balance(&w.user).0;
    assert!(gone >= price && gone < price + 100_000, "{gone}");
}

#[test]
fn drawing_in_vain_for_long_costs_part_of_the_deposit() {
    let mut w = World::new();
    let hopeless = |t: &mut OrderTerms| t.expires = t.expires.plus(Millis::secs(3_600));
    let before = w.balance(&w.user);
    place(&mut w, hopeless).unwrap();
    w.wait(3_700_000);
    let order = query::orders_of_account(&w.state, &w.user.account(), None, 1)[0].clone();
    assert_eq!(order.state, OrderState::Expired);
    let p = &w.genesis.params.market;
    let charged = query::treasury(&w.state, AssetId::CREDIT);
    assert_eq!(charged, Amount(p.draw_price.0 * u128::from(order.retries - p.free_draws)), "after {} draws", order.retries);
    assert!(charged > Amount::ZERO && charged < w.genesis.params.order_deposit);
    let gone = before.0 - w.balance(&w.user).0 - charged.0;
    assert!(gone < 100_000, "the rest of the deposit is back: {gone}");
}

#[test]
fn a_credential_that_nobody_has_excludes_everybody() {
    let w = World::offered();
    let mut terms = w.order_terms();
    terms.constraints = vec![Constraint::Credential(CredentialQuery { issuer: None, kind: CredentialKind::DataCentreTier, at_least: 3 })];
    let e = explain(&w.state, &terms, w.now);
    assert_eq!((e.matching, e.steps[0].excluded), (0, 1));
    assert_eq!(e.steps[0].filter, "certificate of data-centre tier 3 or better");
    assert_eq!(e.relaxations[0].rate_per_hour, Some(Amount::credits(1)), "what it would cost without");
}

#[test]
fn a_provider_that_served_well_is_preferred_by_that_user() {
    let mut w = World::offered();
    let (user, provider) = (w.user.account(), w.provider.account());
    for _ in 0..2 {
        let id = w.accepted(w.order_terms());
        let started = w.now;
        w.wait_beating(10_000);
        w.confirmed(&id, started, 10_000).unwrap();
        w.close_by_node(&id);
        w.wait_beating(6_000);
    }
    assert_eq!(query::history(&w.state, &user, &provider), History { good: 2, bad: 0 });
    let before = explain(&w.state, &w.order_terms(), w.now).best[0].score;
    let order = w.place(w.order_terms());
    w.idle();
    let drawn = query::order(&w.state, &order).unwrap().drawn[0];
    assert!(drawn.score > before, "an explanation knows nobody's history");
    let id = query::lease_of_order(&w.state, &order).unwrap().id;
    w.node_act(vec![Action::AcceptLease { lease: id }]).unwrap();
    let started = w.now;
    w.wait_beating(10_000);
    w.confirmed(&id, started, 10_000).unwrap();
    w.node_act(vec![Action::CloseLease { lease: id, reason: EndReason::StoppedByProvider }]).unwrap();
    w.wait_beating(6_000);
    assert_eq!(query::history(&w.state, &user, &provider), History { good: 2, bad: 1 });
}

#[test]
fn a_preemptible_lease_ends_after_notice_and_no_other_does() {
    let mut w = World::offered();
    let firm = w.accepted(w.order_terms());
    let notice = |lease| vec![Action::Market(MarketAction::Preempt { lease })];
    let preempted = |lease| vec![Action::CloseLease { lease, reason: EndReason::Preempted }];
    assert_eq!(code(w.node_act(notice(firm))), 43, "its user did not agree");
    assert_eq!(code(w.node_act(preempted(firm))), 6);
    let mut terms = w.order_terms();
    terms.preemptible = true;
    let lease = w.accepted(terms);
    assert_eq!(code(w.node_act(preempted(lease))), 6, "no notice yet");
    assert_eq!(code(w.user_act(notice(lease))), 42);
    let events = w.node_act(notice(lease)).unwrap();
    let Event::Market(MarketEvent::PreemptNotice { at, .. }) = events[0] else { panic!("{events:?}") };
    assert_eq!(code(w.node_act(notice(lease))), 43);
    assert_eq!(code(w.node_act(preempted(lease))), 6, "too early");
    w.wait(at.since(w.now).0);
    w.node_act(preempted(lease)).unwrap();
    assert_eq!(w.lease(&lease).end_reason(), Some(&EndReason::Preempted));
}
