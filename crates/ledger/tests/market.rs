//! Orders, draws and matches, rule by rule. Spec: `docs/specs/market.md`.

#![cfg(test)]

mod common;

use common::*;
use pasture_ledger::*;
use pasture_types::event::Event;
use pasture_types::lease::{EndReason, LeaseState};
use pasture_types::market::*;
use pasture_types::tx::*;
use pasture_types::*;

fn place(w: &mut World, change: impl FnOnce(&mut OrderTerms)) -> Result<Vec<Event>, TxError> {
    let mut terms = w.order_terms();
    change(&mut terms);
    w.user_act(vec![Action::PlaceOrder { terms: Box::new(terms) }])
}

fn code<T: std::fmt::Debug>(r: Result<T, TxError>) -> u16 {
    r.unwrap_err().code()
}

#[test]
fn an_order_is_drawn_in_the_next_block_and_the_deposit_returns_when_it_is_taken() {
    let mut w = World::offered();
    let before = w.balance(&w.user);
    let order = w.place(w.order_terms());
    assert_eq!(query::order(&w.state, &order).unwrap().state, OrderState::Pending { from: w.height + 1 });
    assert_eq!(next_due(&w.state), Due::Now);
    w.block(10, &[]);
    let record = query::order(&w.state, &order).unwrap();
    let OrderState::Drawn { lease } = record.state else { panic!("{:?}", record.state) };
    assert_eq!(record.drawn.len(), 1);
    assert_eq!(record.deposit, w.genesis.params.order_deposit);
    let l = w.lease(&lease);
    assert_eq!((l.rate_per_hour, l.escrow), (Amount::credits(1), Amount::credits(1)));
    assert_eq!(query::free_resources(&w.state, &w.node.node_id()).unwrap().cpu_millis, 3000);
    w.node_act(vec![Action::AcceptLease { lease }]).unwrap();
    let record = query::order(&w.state, &order).unwrap();
    assert_eq!((record.state, record.deposit), (OrderState::Served { lease }, Amount::ZERO));
    let gone = before.checked_sub(w.balance(&w.user)).unwrap();
    assert!(gone >= Amount::credits(1) && gone < Amount(1_001_000_000));
    assert_eq!(code(w.node_act(vec![Action::AcceptLease { lease }])), 43);
}

#[test]
fn an_offer_stands_for_two_blocks_before_it_is_drawn() {
    let mut w = World::new();
    w.offer();
    let put = query::offers(&w.state, None, 10)[0].clone();
    assert_eq!(w.height, put.height + 2, "the zone made the blocks that the offer needed, and no more");
    assert_eq!(next_due(&w.state), Due::Never);
}

#[test]
fn orders_that_make_no_sense_or_come_too_early_for_this_version_are_refused() {
    let mut w = World::offered();
    assert_eq!(code(place(&mut w, |t| t.resources.cpu_millis = 0)), 6);
    assert_eq!(code(place(&mut w, |t| t.verification = Verification::Tee)), 7);
    assert_eq!(code(place(&mut w, |t| t.verification = Verification::Zk)), 7);
    assert_eq!(code(place(&mut w, |t| t.watcher = Some(AccountId([1; 32])))), 23);
    assert_eq!(code(place(&mut w, |t| t.asset = AssetId(1))), 40);
    assert_eq!(code(place(&mut w, |t| t.priority = 101)), 5);
    assert_eq!(code(place(&mut w, |t| t.max_duration = Millis(u64::MAX))), 5);
    assert_eq!(code(place(&mut w, |t| t.max_duration = Millis(10))), 6);
    assert_eq!(code(place(&mut w, |t| t.expires = Timestamp(START))), 6);
    assert_eq!(code(place(&mut w, |t| t.expires = t.expires.plus(Millis::secs(86_400)))), 5);
    assert_eq!(code(place(&mut w, |t| t.constraints = vec![Constraint::Region("EU".into())])), 6);
    assert_eq!(code(place(&mut w, |t| t.constraints = vec![Constraint::Node(NodeId([0; 32])); 17])), 5);
    assert_eq!(code(place(&mut w, |t| t.budget = Amount(1))), 32);
    assert_eq!(code(place(&mut w, |t| (t.budget, t.max_price_per_hour) = (Amount::credits(500), Amount::credits(500)))), 31);
    let open = w.genesis.params.max_open_orders;
    for _ in 0..open {
        let w = &mut w;
        place(w, |t| t.constraints = vec![Constraint::Node(NodeId([0; 32]))]).unwrap();
    }
    assert_eq!(code(place(&mut w, |_| {})), 5);
}

#[test]
fn an_order_that_nobody_serves_expires_with_its_deposit_and_is_drawn_again_when_an_offer_comes() {
    let mut w = World::new();
    let before = w.balance(&w.user);
    let order = w.place(w.order_terms());
    w.idle();
    assert_eq!(query::order(&w.state, &order).unwrap().state, OrderState::Waiting);
    assert!(matches!(next_due(&w.state), Due::At(_)), "no busy loop");
    w.offer();
    w.idle();
    assert!(matches!(query::order(&w.state, &order).unwrap().state, OrderState::Drawn { .. }));

    let mut terms = w.order_terms();
    terms.constraints = vec![Constraint::Node(NodeId([0; 32]))];
    let hopeless = w.place(terms);
    w.wait(61_000);
    let record = query::order(&w.state, &hopeless).unwrap();
    assert_eq!((record.state, record.deposit), (OrderState::Expired, Amount::ZERO));
    let fees = before.checked_sub(w.balance(&w.user)).unwrap();
    assert!(fees < Amount(100_000), "only fees are gone: {}", fees.0);
}

#[test]
fn a_node_that_does_not_answer_or_refuses_loses_the_match() {
    let mut w = World::offered();
    let lease = w.matched(w.order_terms());
    let l = w.lease(&lease);
    w.node_act(vec![Action::RejectLease { lease }]).unwrap();
    assert_eq!(w.lease(&lease).end_reason(), Some(&EndReason::Rejected));
    assert_eq!(query::order(&w.state, &l.order).unwrap().state, OrderState::Waiting, "nobody else; drawn again after a pause");
    w.wait(2_100);
    let second = query::lease_of_order(&w.state, &l.order).expect("the same node gets another chance").id;
    assert_ne!(second, lease);
    w.wait(2_100);
    assert_eq!(w.lease(&second).state, LeaseState::Closed, "no answer within the window");
    assert_eq!(query::counts(&w.state).open, 0);
    w.wait(120_000);
    assert_eq!(query::order(&w.state, &l.order).unwrap().state, OrderState::Expired);
    assert_eq!(next_due(&w.state), Due::Never);
}

#[test]
fn a_refusal_passes_the_order_to_the_next_candidate() {
    let mut w = World::offered();
    let (provider, second) = (w.provider.clone(), key(40));
    let register = w.register_node(&provider, &second, declaration());
    let mut terms = offer_terms();
    terms.rates.cpu_core = Amount::credits(1);
    let put = Action::PutOffer { node: second.node_id(), number: 0, terms: Box::new(terms) };
    w.act(&provider, vec![register, put]).unwrap();
    w.idle();
    let lease = w.matched(w.order_terms());
    assert_eq!(w.lease(&lease).node, w.node.node_id(), "the cheaper one first");
    let order = w.lease(&lease).order;
    assert_eq!(query::order(&w.state, &order).unwrap().drawn.len(), 2);
    w.node_act(vec![Action::RejectLease { lease }]).unwrap();
    let next = query::lease_of_order(&w.state, &order).unwrap();
    assert_eq!((next.node, next.attempt), (second.node_id(), 1), "in the same block");
}

#[test]
fn the_clients_ranking_outweighs_a_small_difference_in_price() {
    let mut w = World::offered();
    let (provider, second) = (w.provider.clone(), key(40));
    let register = w.register_node(&provider, &second, declaration());
    let mut terms = offer_terms();
    terms.rates.cpu_core = Amount(950_000_000);
    let put = Action::PutOffer { node: second.node_id(), number: 0, terms: Box::new(terms) };
    w.act(&provider, vec![register, put]).unwrap();
    w.idle();
    let mut order = w.order_terms();
    order.preferences = vec![second.node_id()];
    let lease = w.matched(order);
    assert_eq!(w.lease(&lease).node, second.node_id());
}

#[test]
fn higher_priority_is_drawn_first() {
    let mut w = World::offered();
    let user = w.user.clone();
    let terms = |w: &World, priority| {
        let mut t = w.order_terms();
        (t.resources, t.priority, t.max_price_per_hour) = (resources(4, 8), priority, Amount::credits(10));
        Action::PlaceOrder { terms: Box::new(t) }
    };
    let body = w.body(user.account(), Auth::Single, vec![terms(&w, 0), terms(&w, 50), terms(&w, 10)]);
    let id = body.id();
    w.send(&body.sign(&user)).unwrap();
    w.idle();
    assert!(matches!(query::order(&w.state, &order_id(&id, 1)).unwrap().state, OrderState::Drawn { .. }));
    assert_eq!(query::order(&w.state, &order_id(&id, 0)).unwrap().state, OrderState::Waiting, "the node is full");
}

#[test]
fn a_freed_machine_wakes_an_order_that_waits_for_it() {
    let mut w = World::offered();
    let mut big = w.order_terms();
    (big.resources, big.max_price_per_hour) = (resources(4, 8), Amount::credits(10));
    let lease = w.accepted(big.clone());
    let waiting = w.place(big);
    w.idle();
    assert_eq!(query::order(&w.state, &waiting).unwrap().state, OrderState::Waiting);
    w.close_by_node(&lease);
    assert!(matches!(query::order(&w.state, &waiting).unwrap().state, OrderState::Drawn { .. }), "in the same block");
}

#[test]
fn an_order_is_cancelled_by_its_owner_only_and_a_match_is_abandoned() {
    let mut w = World::offered();
    let mut terms = w.order_terms();
    terms.constraints = vec![Constraint::Node(NodeId([0; 32]))];
    let order = w.place(terms);
    w.idle();
    let provider = w.provider.clone();
    assert_eq!(code(w.act(&provider, vec![Action::CancelOrder { order }])), 42);
    w.user_act(vec![Action::CancelOrder { order }]).unwrap();
    assert_eq!(code(w.user_act(vec![Action::CancelOrder { order }])), 43);
    let lease = w.matched(w.order_terms());
    let order = w.lease(&lease).order;
    assert_eq!(code(w.user_act(vec![Action::CancelOrder { order }])), 43, "it is matched");
    assert_eq!(code(w.act(&provider, vec![Action::CloseLease { lease, reason: EndReason::StoppedByProvider }])), 43, "reject it");
    w.user_act(vec![Action::CloseLease { lease, reason: EndReason::StoppedByUser }]).unwrap();
    assert_eq!(w.lease(&lease).held, Amount::ZERO);
    assert_eq!(query::order(&w.state, &order).unwrap().state, OrderState::Cancelled);
}

#[test]
fn open_leases_keep_their_price_when_the_offer_changes() {
    let mut w = World::offered();
    let lease = w.accepted(w.order_terms());
    let (provider, node) = (w.provider.clone(), w.node.node_id());
    let mut terms = offer_terms();
    terms.rates.cpu_core = Amount::credits(5);
    w.act(&provider, vec![Action::PutOffer { node, number: 0, terms: Box::new(terms) }]).unwrap();
    assert_eq!(w.lease(&lease).rate_per_hour, Amount::credits(1));
}

#[test]
fn regions_and_attributes_filter() {
    let mut w = World::offered();
    let served = |w: &mut World, c: Constraint| {
        let mut terms = w.order_terms();
        terms.constraints = vec![c];
        let order = w.place(terms);
        w.idle();
        query::lease_of_order(&w.state, &order).is_some()
    };
    assert!(served(&mut w, Constraint::Region("eu".into())));
    assert!(served(&mut w, Constraint::Region("eu-west".into())));
    assert!(!served(&mut w, Constraint::Region("e".into())));
    assert!(!served(&mut w, Constraint::Region("us".into())));
    assert!(!served(&mut w, Constraint::Attribute { name: "gpu".into(), value: "yes".into() }));
    let node = w.node.node_id();
    assert!(!served(&mut w, Constraint::NotNode(node)));
    let provider = w.provider.account();
    assert!(served(&mut w, Constraint::Provider(provider)));
}

#[test]
fn an_explanation_counts_what_each_condition_excluded_and_names_the_way_out() {
    let mut w = World::offered();
    let explain_with = |w: &World, change: &dyn Fn(&mut OrderTerms)| {
        let mut terms = w.order_terms();
        change(&mut terms);
        explain(&w.state, &terms, w.now)
    };
    let fits = explain_with(&w, &|_| {});
    assert_eq!((fits.offers, fits.matching, fits.relaxations.is_empty()), (1, 1, true));
    assert_eq!(fits.best[0].rate_per_hour, Amount::credits(1));
    let dear = explain_with(&w, &|t| t.max_price_per_hour = Amount(500_000_000));
    assert_eq!(dear.matching, 0);
    assert_eq!(dear.relaxations[0].change, "allow 1.0000 per hour");
    let step = dear.steps.iter().find(|s| s.excluded == 1).unwrap();
    assert_eq!((step.filter.as_str(), step.remain), ("at most 0.5000 per hour", 0));
    let large = explain_with(&w, &|t| (t.resources.cpu_millis, t.max_price_per_hour) = (16_000, Amount::credits(100)));
    assert_eq!(large.relaxations[0].change, "ask for at most 4000 milli-cores");
    let elsewhere = explain_with(&w, &|t| t.constraints = vec![Constraint::Attribute { name: "tier".into(), value: "4".into() }]);
    assert_eq!(elsewhere.relaxations[0].change, "leave out the condition `tier = 4`");
    let refused = explain_with(&w, &|t| t.verification = Verification::Zk);
    assert!(refused.problem.unwrap().contains("not available in this version"));
    let json = serde_json::to_string(&explain_with(&w, &|_| {})).unwrap();
    assert_eq!(serde_json::from_str::<Explanation>(&json).unwrap(), explain_with(&w, &|_| {}));
    // The explanation and the draw agree.
    let order = w.place(w.order_terms());
    w.idle();
    let drawn = query::order(&w.state, &order).unwrap().drawn[0];
    assert_eq!((drawn.offer, drawn.rate_per_hour), (fits.best[0].offer, fits.best[0].rate_per_hour));
}

#[test]
fn only_the_nodes_side_answers_a_match() {
    let mut w = World::offered();
    let lease = w.matched(w.order_terms());
    assert_eq!(code(w.user_act(vec![Action::AcceptLease { lease }])), 42);
    assert_eq!(code(w.user_act(vec![Action::RejectLease { lease }])), 42);
    assert_eq!(code(w.user_act(vec![Action::Extend { lease, duration: Millis(1) }])), 43);
    let provider = w.provider.clone();
    w.act(&provider, vec![Action::AcceptLease { lease }]).unwrap();
}

#[test]
fn more_than_a_block_may_spend_on_draws_is_drawn_in_the_next() {
    let mut params = genesis::Params::dev();
    // A draw that looks at nobody costs 60.
    params.market.draw_cost_us = 60 * 32;
    let mut w = World::with(params, 1);
    w.offer();
    let mut terms = w.order_terms();
    terms.constraints = vec![Constraint::Node(NodeId([0; 32]))];
    let orders = vec![Action::PlaceOrder { terms: Box::new(terms) }; 40];
    w.user_act(orders).unwrap();
    let waiting = |w: &World| {
        let all = query::orders_of_account(&w.state, &w.user.account(), None, 100);
        all.iter().filter(|o| o.state == OrderState::Waiting).count()
    };
    assert_eq!(next_due(&w.state), Due::Now);
    w.block(10, &[]);
    assert_eq!((waiting(&w), next_due(&w.state)), (32, Due::Now));
    w.block(10, &[]);
    assert_eq!(waiting(&w), 40);
    assert!(matches!(next_due(&w.state), Due::At(_)));
}

#[test]
fn a_check_that_nothing_can_pass_is_refused() {
    let mut w = World::offered();
    for alive in [AliveCheck::Port(0), AliveCheck::Log(Millis(0))] {
        let terms = OrderTerms { alive, ..w.order_terms() };
        let error = w.user_act(vec![Action::PlaceOrder { terms: Box::new(terms) }]).unwrap_err();
        assert_eq!(error.code(), 6, "{error}");
    }
    let terms = OrderTerms { alive: AliveCheck::Port(80), ..w.order_terms() };
    w.matched(terms);
}

/// Attack: an order whose draw costs a block many times what it pays, by looking up certificates at every offer.
#[test]
fn conditions_on_certificates_are_few_and_paid_for() {
    use pasture_types::credential::{CredentialKind, CredentialQuery};
    let mut w = World::offered();
    let asks = |n: u64| -> Vec<Constraint> {
        (0..n)
            .map(|at_least| Constraint::Credential(CredentialQuery { issuer: None, kind: CredentialKind::DataCentreTier, at_least }))
            .collect()
    };
    let cost = |n| action_cost_us(&Action::PlaceOrder { terms: Box::new(OrderTerms { constraints: asks(n), ..OrderTerms::default() }) });
    assert_eq!((cost(0), cost(1), cost(4)), (860, 1_710, 4_260));
    let terms = OrderTerms { constraints: asks(5), ..w.order_terms() };
    let error = w.user_act(vec![Action::PlaceOrder { terms: Box::new(terms) }]).unwrap_err();
    assert_eq!(error.code(), 5, "{error}");
    w.place(OrderTerms { constraints: asks(4), ..w.order_terms() });
}
