//! Matches: each fits the machine, the order and the deposit, worked out from the records of offer, order and provider.
//!
//! Guarantees: capacity, price, budget, conditions and the value limit are computed here a second time, for every match of a
//! block, after the block.

use pasture_ledger::{Lease, Order, Role, Start, query};
use pasture_types::event::Event;
use pasture_types::lease::LeaseState;
use pasture_types::market::{Constraint, OfferTerms};
use pasture_types::service::ServiceEvent;
use pasture_types::state::MemoryState;
use pasture_types::{AccountId, Amount, AssetId, LeaseId, NodeId, Resources};
use std::collections::{BTreeMap, BTreeSet};

/// What open leases were matched for.
#[derive(Default)]
pub(super) struct Matches {
    /// Provider and what its deposit must cover for it, since its match.
    needs: BTreeMap<LeaseId, (AccountId, u128)>,
    /// Providers that took a lease over, which no deposit was asked for.
    took_over: BTreeSet<AccountId>,
}

/// The price of a vector by an offer's terms, each class rounded down.
fn price(offered: &OfferTerms, taken: &Resources) -> u128 {
    let r = &offered.rates;
    let per = |rate: Amount, units: u128, unit: u128| rate.0 * units / unit;
    let gib = 1u128 << 30;
    let mut sum = per(r.cpu_core, u128::from(taken.cpu_millis), 1_000)
        + per(r.memory_gib, u128::from(taken.memory_bytes), gib)
        + per(r.disk_gib, u128::from(taken.disk_bytes), gib);
    for (line, rate) in offered.resources.gpus.iter().zip(&r.gpus) {
        let count: u128 =
            taken.gpus.iter().filter(|g| g.model == line.model && g.vram_bytes == line.vram_bytes).map(|g| u128::from(g.count)).sum();
        sum += rate.0 * count;
    }
    for (line, rate) in offered.resources.services.iter().zip(&r.services) {
        let units: u128 = taken.services.iter().filter(|s| s.class == line.class).map(|s| u128::from(s.units)).sum();
        sum += rate.0 * units;
    }
    sum
}

/// CPU, memory and GPUs that a vector has in all: enough to tell whether a machine is overbooked.
fn sizes(r: &Resources) -> [u128; 5] {
    let gpus = r.gpus.iter().map(|g| u128::from(g.count)).sum();
    let units = r.services.iter().map(|s| u128::from(s.units)).sum();
    [u128::from(r.cpu_millis), u128::from(r.memory_bytes), u128::from(r.disk_bytes), gpus, units]
}

fn holds(state: &MemoryState, lease: &Lease, terms: &OfferTerms, constraint: &Constraint) -> bool {
    match constraint {
        Constraint::Region(wanted) => terms.region == *wanted || terms.region.starts_with(&format!("{wanted}-")),
        Constraint::Attribute { name, value } => terms.attributes.contains(&(name.clone(), value.clone())),
        Constraint::Node(node) => lease.node == *node,
        Constraint::Provider(provider) => lease.provider == *provider,
        Constraint::NotNode(node) => lease.node != *node,
        Constraint::Egress(egress) => terms.egress >= *egress,
        Constraint::Credential(query) => {
            let subjects =
                [pasture_types::credential::Subject::Node(lease.node), pasture_types::credential::Subject::Provider(lease.provider)];
            let all = subjects.iter().flat_map(|s| query::credentials_of(state, s));
            all.map(|c| c.statement).any(|s| {
                let kind = s.claim.kind() == query.kind && query.kind.answers(s.claim.number(), query.at_least);
                kind && query.issuer.is_none_or(|i| i == s.issuer) && s.expires > query::clock(state).time
            })
        }
    }
}

impl Matches {
    /// Whoever takes a lease over holds it whatever its deposit is.
    pub(super) fn saw(&mut self, state: &MemoryState, event: &Event) {
        if let Event::Service(ServiceEvent::LeaseMoved { lease, to, .. }) = event {
            self.needs.remove(lease);
            self.took_over.extend(query::node(state, to).map(|n| n.provider));
        }
    }

    /// The matches of a block's end. Offers change in transactions only, so that those of now are those of the draw.
    pub(super) fn ended(&mut self, state: &MemoryState, events: &[Event]) {
        let drawn: BTreeSet<LeaseId> =
            events.iter().filter_map(|e| if let Event::LeaseMatched { lease, .. } = e { Some(*lease) } else { None }).collect();
        self.needs.retain(|id, _| query::lease(state, id).is_some_and(|l| l.state != LeaseState::Closed));
        for id in &drawn {
            let lease = query::lease(state, id).expect("a lease that was drawn");
            if lease.state == LeaseState::Matched {
                self.judge(state, &lease);
            }
        }
        let nodes: BTreeSet<NodeId> = drawn.iter().filter_map(|id| query::lease(state, id)).map(|l| l.node).collect();
        nodes.iter().for_each(|node| room(state, node));
    }

    fn judge(&mut self, state: &MemoryState, lease: &Lease) {
        let order = query::order(state, &lease.order).expect("a lease has an order");
        let offer = query::offer(state, &lease.offer).expect("a fresh lease has an offer");
        let (terms, asked) = (&order.terms, sizes(&order.terms.resources));
        assert_eq!((offer.node, offer.provider), (lease.node, lease.provider), "the offer is the node's");
        assert_eq!(offer.terms.asset, terms.asset, "an order is paid in its own asset");
        let refused = lease.role == Role::Primary && order.refused.contains(&lease.node);
        assert!(!offer.paused && !refused, "a match with whom it must not be");
        let full = price(&offer.terms, &lease.resources);
        assert!(full <= terms.max_price_per_hour.0, "a match above the highest price");
        assert!(sizes(&lease.resources).iter().zip(asked).all(|(has, asked)| *has >= asked), "a match gives less than was asked");
        for constraint in &terms.constraints {
            assert!(holds(state, lease, &offer.terms, constraint), "a match against {constraint:?}");
        }
        // A user may extend a lease beyond its order's budget; the ledger by itself puts no more on hold then.
        let budget = spent(state, &order);
        let fits = budget <= terms.budget.0 || lease.escrow.is_zero();
        assert!(fits, "an order holds {budget} of a budget of {}", terms.budget.0);
        if lease.role == Role::Primary {
            assert_eq!(lease.rate_per_hour.0, full, "the rate is the offer's");
            self.covered(state, lease);
        }
    }

    /// The value limit: what a provider's open leases may come to before anybody knows better is covered by its deposit.
    fn covered(&mut self, state: &MemoryState, lease: &Lease) {
        let zone = query::zone(state).expect("a zone");
        let p = &zone.params;
        // The chance depends on how often audits are drawn; only where there are none it is a plain parameter.
        if p.audits.active {
            return;
        }
        let unsettled = u128::from(p.epoch.0 * (15 + p.objection_epochs + p.heartbeat_grace_epochs + 1));
        let need = |rate: u128| ((rate * unsettled).div_ceil(3_600_000) * 2_000_000).div_ceil(u128::from(p.stake.audit_chance_ppm));
        // What another asset is worth the ledger says; it is the sum that is judged.
        let own = if lease.asset == AssetId::CREDIT { need(lease.rate_per_hour.0) } else { noted(state, &lease.id) };
        self.needs.insert(lease.id, (lease.provider, own));
        let provider = query::provider(state, &lease.provider).expect("a provider");
        // A vote may have changed since what another asset is worth.
        let today = |id: &LeaseId, n: u128| match query::lease(state, id) {
            Some(l) if l.asset != AssetId::CREDIT => noted(state, id),
            _ => n,
        };
        let all: u128 = self.needs.iter().filter(|(_, (of, _))| *of == lease.provider).map(|(id, (_, n))| today(id, *n)).sum();
        let has = provider.stake.0 + provider.bond.sponsored.0;
        let newcomer = provider.bond.start == Start::Newcomer && has < p.min_stake.0;
        let has = if newcomer { has.max(need(p.stake.newcomer_rate.0)) } else { has };
        let anyone = newcomer || has >= p.min_stake.0;
        assert!(anyone && provider.bond.jail.is_none(), "a match with whom nothing stands behind");
        if !self.took_over.contains(&lease.provider) {
            assert!(all <= has, "leases that need a deposit of {all} were matched under one of {has}");
        }
    }
}

fn noted(state: &MemoryState, id: &LeaseId) -> u128 {
    query::deposits::lease_need(state, id).map_or(0, |n| n.needs.0)
}

/// What an order's leases hold or paid in all.
fn spent(state: &MemoryState, order: &Order) -> u128 {
    let Some(root) = query::lease_of_order(state, &order.id) else { return 0 };
    let standby =
        pasture_ledger::service::query::failover(state, &root.id).and_then(|f| f.standby).and_then(|s| query::lease(state, &s.lease));
    root.escrow.0 + standby.map_or(0, |l| l.escrow.0)
}

/// No machine is leased twice: what its open leases hold is within what it declared, and within each offer under which it is leased.
fn room(state: &MemoryState, node: &NodeId) {
    let record = query::node(state, node).expect("a node");
    let open: Vec<Lease> = query::open_leases_of_node(state, node).into_iter().filter(Lease::holds_resources).collect();
    let mut sum = [0u128; 5];
    for lease in &open {
        sum.iter_mut().zip(sizes(&lease.resources)).for_each(|(a, b)| *a += b);
    }
    let all = sizes(&record.declaration.resources);
    assert!(sum.iter().zip(all).all(|(held, has)| *held <= has), "{node:?} is leased beyond what it has: {sum:?} of {all:?}");
    // What an offer gives counts less what the machine held before: of one fresh match, all that it holds now is within its offer.
    let now = query::clock(state).time;
    let fresh: Vec<_> = open.iter().filter(|l| l.matched_at == now && l.state == LeaseState::Matched).collect();
    if let [one] = fresh.as_slice()
        && let Some(offer) = query::offer(state, &one.offer)
    {
        let within = sizes(&offer.terms.resources);
        assert!(sum.iter().zip(within).take(3).all(|(held, has)| *held <= has), "{node:?} is leased beyond what it offers");
    }
}
