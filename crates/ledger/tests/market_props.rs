//! The market under random histories: prices and budgets are bounds, a locked price never rises, a draw depends on the state
//! alone. That no node's classes are over-committed is checked after every block by `check`. Spec: `docs/specs/market.md` §8.

#![cfg(test)]

mod common;

use common::*;
use pasture_ledger::*;
use pasture_types::event::Event;
use pasture_types::genesis::Params;
use pasture_types::lease::{EndReason, LeaseState};
use pasture_types::market::Term;
use pasture_types::market::*;
use pasture_types::market_rules::MarketAction;
use pasture_types::tx::*;
use pasture_types::*;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use std::collections::BTreeMap;

const HOUR: u64 = 3_600_000;
const NODES: u8 = 4;

#[derive(Clone, Debug)]
enum Op {
    Offer { node: u8, number: u32, core: u64, gpus: u16, tokens: u64, lock: u64, leases: u32, open_minutes: u16 },
    Pause { node: u8, number: u32, paused: bool },
    Withdraw { node: u8, number: u32 },
    Order { cores: u32, gpus: u16, tokens: u64, price: u64, budget: u64, term: u8, minutes: u64, preemptible: bool, priority: u8 },
    Answer { pick: usize, accept: bool },
    Begin { pick: usize },
    Close { pick: usize, by_user: bool },
    Extend { pick: usize, minutes: u64 },
    TopUp { pick: usize, amount: u64 },
    Preempt { pick: usize },
    StopRenewal { pick: usize },
    Wait { minutes: u64 },
}

fn op() -> impl Strategy<Value = Op> {
    let pick = 0usize..32;
    let at = (0..NODES, 0u32..2);
    prop_oneof![
        4 => (at.clone(), 1u64..2_000_000_000, 0u16..3, 0u64..3, 0u64..5, 0u32..3, prop_oneof![2 => Just(0u16), 1 => 1u16..600])
            .prop_map(|((node, number), core, gpus, tokens, lock, leases, open_minutes)| Op::Offer { node, number, core, gpus, tokens, lock, leases, open_minutes }),
        1 => (at.clone(), any::<bool>()).prop_map(|((node, number), paused)| Op::Pause { node, number, paused }),
        1 => at.prop_map(|(node, number)| Op::Withdraw { node, number }),
        8 => ((1u32..5, prop_oneof![3 => Just(0u16), 1 => 1u16..3], prop_oneof![3 => Just(0u64), 1 => 1u64..3]), 1u64..9_000_000_000, 1u64..9_000_000_000, 0u8..5, 1u64..90, any::<bool>(), 0u8..3)
            .prop_map(|((cores, gpus, tokens), price, budget, term, minutes, preemptible, priority)| Op::Order { cores, gpus, tokens, price, budget, term, minutes, preemptible, priority }),
        6 => (pick.clone(), prop::bool::weighted(0.9)).prop_map(|(pick, accept)| Op::Answer { pick, accept }),
        3 => pick.clone().prop_map(|pick| Op::Begin { pick }),
        2 => (pick.clone(), any::<bool>()).prop_map(|(pick, by_user)| Op::Close { pick, by_user }),
        1 => (pick.clone(), 1u64..120).prop_map(|(pick, minutes)| Op::Extend { pick, minutes }),
        1 => (pick.clone(), 1u64..3_000_000_000).prop_map(|(pick, amount)| Op::TopUp { pick, amount }),
        1 => pick.clone().prop_map(|pick| Op::Preempt { pick }),
        1 => pick.prop_map(|pick| Op::StopRenewal { pick }),
        4 => (0u64..50).prop_map(|minutes| Op::Wait { minutes }),
    ]
}

fn gpus(count: u16) -> Vec<GpuLine> {
    if count == 0 { vec![] } else { vec![GpuLine { model: "H100".into(), count, vram_bytes: 80 << 30 }] }
}

fn tokens(units: u64) -> Vec<ServiceLine> {
    if units == 0 { vec![] } else { vec![ServiceLine { class: "inference.tokens".into(), units }] }
}

fn node(n: u8) -> SigningKey {
    key(100 + n)
}

fn world() -> World {
    let mut w = World::with(Params { epoch: Millis(60_000), ..Params::dev() }, 1);
    let provider = w.provider.clone();
    let mut actions = vec![Action::RegisterProvider { name: "p".into() }, Action::Stake { amount: Amount::credits(1) }];
    for n in 0..NODES {
        let mut d = declaration();
        (d.resources.gpus, d.resources.services) = (gpus(2), tokens(2));
        actions.push(w.register_node(&provider, &node(n), d));
    }
    w.act(&provider, actions).unwrap();
    w
}

fn leases(w: &World) -> Vec<Lease> {
    query::leases_of_account(&w.state, &w.user.account(), None, 500)
}

/// Does one thing; most of them fail on some states, as they should.
fn run(w: &mut World, op: &Op) {
    let (provider, user) = (w.provider.clone(), w.user.clone());
    let all = leases(w);
    let lease = |pick: usize| all.iter().filter(|l| l.state != LeaseState::Closed).nth(pick % all.len().max(1)).cloned();
    let market = |action| Some(vec![Action::Market(action)]);
    let (by_user, actions) = match op {
        Op::Offer { node: n, number, core, gpus: g, tokens: t, lock, leases, open_minutes } => {
            let mut terms = offer_terms();
            (terms.resources.gpus, terms.resources.services) = (gpus(*g), tokens(*t));
            terms.rates = Rates {
                cpu_core: Amount((*core).into()),
                gpus: vec![Amount(7); terms.resources.gpus.len()],
                services: vec![Amount(9); terms.resources.services.len()],
                ..rates()
            };
            (terms.price_lock, terms.max_leases) = (Millis(lock * HOUR), *leases);
            if *open_minutes > 0 {
                terms.windows = Window::daily(0, *open_minutes);
            }
            (false, Some(vec![Action::PutOffer { node: node(*n).node_id(), number: *number, terms: Box::new(terms) }]))
        }
        Op::Pause { node: n, number, paused } => {
            (false, market(MarketAction::PauseOffer { offer: offer_id(&node(*n).node_id(), *number), paused: *paused }))
        }
        Op::Withdraw { node: n, number } => (false, Some(vec![Action::WithdrawOffer { offer: offer_id(&node(*n).node_id(), *number) }])),
        Op::Order { cores, gpus: g, tokens: t, price, budget, term, minutes, preemptible, priority } => {
            let mut terms = w.order_terms();
            terms.resources = Resources { gpus: gpus(*g), services: tokens(*t), ..resources(*cores, 1) };
            (terms.max_price_per_hour, terms.budget) = (Amount((*price).into()), Amount((*budget).into()));
            (terms.max_duration, terms.preemptible, terms.priority) = (Millis(minutes * 60_000), *preemptible, *priority);
            match term {
                0 => terms.term = Term::Open,
                1 => {
                    terms.term = Term::Rental { unit: BillingUnit::Hour, committed: 1, locked: 3, renew: true };
                    terms.max_duration = Millis(HOUR);
                }
                _ => {}
            }
            (true, Some(vec![Action::PlaceOrder { terms: Box::new(terms) }]))
        }
        Op::Answer { pick, accept } => {
            let action = |l: Lease| if *accept { Action::AcceptLease { lease: l.id } } else { Action::RejectLease { lease: l.id } };
            (false, lease(*pick).map(|l| vec![action(l)]))
        }
        Op::Begin { pick } => {
            let begun = lease(*pick).and_then(|l| Some((l.clone(), (0..NODES).find(|n| node(*n).node_id() == l.node)?, l.accepted_at?)));
            let usage = begun.map(|(l, n, at)| {
                w.node = node(n);
                let served = w.now.since(at).0.min(l.max_duration.0);
                vec![w.signed(w.usage(&l.id, at, served), false)]
            });
            (false, usage)
        }
        Op::Close { pick, by_user } => {
            let reason = if *by_user { EndReason::StoppedByUser } else { EndReason::StoppedByProvider };
            (*by_user, lease(*pick).map(|l| vec![Action::CloseLease { lease: l.id, reason }]))
        }
        Op::Extend { pick, minutes } => {
            (true, lease(*pick).map(|l| vec![Action::Extend { lease: l.id, duration: Millis(minutes * 60_000) }]))
        }
        Op::TopUp { pick, amount } => {
            (true, lease(*pick).and_then(|l| market(MarketAction::TopUp { lease: l.id, amount: Amount((*amount).into()) })))
        }
        Op::Preempt { pick } => (false, lease(*pick).and_then(|l| market(MarketAction::Preempt { lease: l.id }))),
        Op::StopRenewal { pick } => (true, lease(*pick).and_then(|l| market(MarketAction::StopRenewal { lease: l.id }))),
        Op::Wait { minutes } => {
            w.wait(minutes * 60_000);
            (true, None)
        }
    };
    if let Some(actions) = actions {
        let _ = w.act(if by_user { &user } else { &provider }, actions);
    }
    if matches!(op, Op::Order { priority: 0 | 1, .. }) {
        take(w);
    }
}

/// Most matches are taken at once and begin: what is later is what this is about.
fn take(w: &mut World) {
    let provider = w.provider.clone();
    w.idle();
    let fresh: Vec<Lease> = leases(w).into_iter().filter(|l| l.state == LeaseState::Matched).collect();
    let accept = fresh.iter().map(|l| Action::AcceptLease { lease: l.id }).collect();
    // An older match may lapse in that very block; then none is taken, and that is a history too.
    if !fresh.is_empty() && w.act(&provider, accept).is_ok() {
        w.now = w.now.plus(Millis(1_000));
        for l in &fresh {
            w.node = (0..NODES).map(node).find(|n| n.node_id() == l.node).unwrap();
            let usage = w.usage(&l.id, w.lease(&l.id).accepted_at.unwrap(), 1_000);
            w.act(&provider, vec![w.signed(usage, false)]).unwrap();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn prices_and_budgets_are_bounds_and_a_locked_price_never_rises(ops in proptest::collection::vec(op(), 1..60)) {
        let mut w = world();
        let mut locked: BTreeMap<LeaseId, Amount> = BTreeMap::new();
        let mut by_hand: BTreeMap<LeaseId, Amount> = BTreeMap::new();
        for op in &ops {
            let before: BTreeMap<LeaseId, Amount> = leases(&w).iter().map(|l| (l.id, l.escrow)).collect();
            // Every block ends with `check`, which panics on a broken invariant.
            run(&mut w, op);
            for l in leases(&w) {
                let order = query::order(&w.state, &l.order).unwrap();
                prop_assert!(l.rate_per_hour <= order.terms.max_price_per_hour, "never above the highest price");
                prop_assert_eq!(*locked.entry(l.id).or_insert(l.rate_per_hour), l.rate_per_hour, "a price is locked");
                if matches!(op, Op::Extend { .. } | Op::TopUp { .. }) {
                    let more = l.escrow.saturating_sub(before.get(&l.id).copied().unwrap_or_default());
                    let all = by_hand.entry(l.id).or_default();
                    *all = all.saturating_add(more);
                }
                let own = by_hand.get(&l.id).copied().unwrap_or_default();
                prop_assert!(l.escrow <= order.terms.budget.saturating_add(own), "the ledger alone stays within the budget");
            }
        }
        // Everybody goes home: nothing is left on hold and no timer ticks for ever.
        let (user, provider) = (w.user.clone(), w.provider.clone());
        for l in leases(&w).iter().filter(|l| l.is_live()) {
            w.act(&user, vec![Action::CloseLease { lease: l.id, reason: EndReason::StoppedByUser }]).unwrap();
            w.act(&provider, vec![Action::CloseLease { lease: l.id, reason: EndReason::StoppedByProvider }]).unwrap();
        }
        w.wait(HOUR);
        prop_assert_eq!(query::counts(&w.state), Counts::default());
        prop_assert_eq!(next_due(&w.state), Due::Never);
    }

    #[test]
    fn a_draw_is_the_same_whichever_offer_came_first(cores in proptest::collection::vec(1u64..4, 2..8), turn in 1usize..8, asked in 1u32..5) {
        // The same offers, put in one block in two different orders.
        let drawn = |order: Vec<usize>| {
            let mut w = World::new();
            let provider = w.provider.clone();
            let mut actions = vec![Action::RegisterProvider { name: "p".into() }, Action::Stake { amount: Amount::credits(1) }];
            actions.extend((0..cores.len()).map(|n| w.register_node(&provider, &key(60 + n as u8), declaration())));
            w.act(&provider, actions).unwrap();
            let put = |n: &usize| {
                let mut terms = offer_terms();
                terms.rates.cpu_core = Amount(u128::from(cores[*n]) * 100_000_000);
                Action::PutOffer { node: key(60 + *n as u8).node_id(), number: 0, terms: Box::new(terms) }
            };
            w.act(&provider, order.iter().map(put).collect()).unwrap();
            w.idle();
            let mut terms = w.order_terms();
            (terms.resources, terms.max_price_per_hour) = (resources(asked, 1), Amount::credits(20));
            let id = w.place(terms);
            w.idle();
            // The order's id depends on the transaction alone, which is the same in both.
            (id, query::order(&w.state, &id).unwrap().drawn)
        };
        let mut turned: Vec<usize> = (0..cores.len()).collect();
        let straight = drawn(turned.clone());
        let by = turn % turned.len();
        turned.rotate_left(by);
        prop_assert_eq!(drawn(turned), straight);
    }
}

#[test]
fn the_histories_reach_what_they_are_about() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    for _ in 0..300 {
        let ops = proptest::collection::vec(op(), 60..61).new_tree(&mut runner).unwrap().current();
        let mut w = world();
        ops.iter().for_each(|op| run(&mut w, op));
        for event in &w.events {
            let name = match event {
                Event::Market(m) => format!("{m:?}").split(' ').next().unwrap().to_owned(),
                Event::LeaseExtended { .. } => "LeaseExtended".into(),
                Event::LeaseMatched { .. } => "LeaseMatched".into(),
                _ => continue,
            };
            *seen.entry(name).or_default() += 1;
        }
        for l in leases(&w) {
            let kind = format!("{:?}", l.tenure.term).split(' ').next().unwrap().to_owned();
            *seen.entry(kind).or_default() += 1;
            *seen.entry("with GPUs".into()).or_default() += u32::from(!l.resources.gpus.is_empty());
            *seen.entry("with services".into()).or_default() += u32::from(!l.resources.services.is_empty());
        }
    }
    for what in [
        "OfferPaused",
        "LeaseLow",
        "RentalRenewed",
        "PreemptNotice",
        "LeaseExtended",
        "LeaseMatched",
        "Open",
        "Rental",
        "Fixed",
        "with GPUs",
        "with services",
    ] {
        assert!(seen.get(what).is_some_and(|n| *n >= 3), "{what}: {seen:?}");
    }
}
