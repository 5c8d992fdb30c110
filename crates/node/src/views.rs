//! Ledger records as the API shows them.
//!
//! Guarantees: reads one snapshot per answer; leaves out what only rules need. `reachable` is the gateway's to fill in.

use crate::standing;
use pasture_api::{
    AccountView, AssetBalance, BestOffer, EpochView, Exclusion, ExplainView, GrantView, JobView, LeaseView, NodePage, NodeView, OfferView,
    OrderState, OrderView, RelaxationView, TenureView,
};
use pasture_ledger::service::query as service;
use pasture_ledger::{Channel, Grant, Lease, Order, Role, query};
use pasture_types::market::{AliveCheck, Egress, OrderTerms};
use pasture_types::state::StateRead;
use pasture_types::tx::MAX_LANES;
use pasture_types::{AccountId, Amount, AssetId, GrantId, LeaseId, Millis, NodeId, OrderId, Resources, Timestamp};

/// Most jobs of one account that are listed; older ones are found by their id.
const MAX_JOBS: usize = 2_000;
/// Most nodes of a page of a provider's.
const NODES_OF_PAGE: usize = 100;
/// Most nodes of all providers that are looked at for one.
const NODES_LOOKED_AT: usize = 20_000;
/// How matching says that offers are too new: the one filter that only time passes.
const AGEING: &str = "offer has stood long enough";

pub(crate) fn account(state: &dyn StateRead, id: &AccountId) -> Option<AccountView> {
    let account = query::account(state, id)?;
    let provider = query::provider(state, id);
    Some(AccountView {
        id: account.id,
        balance: query::balance(state, id, AssetId::CREDIT),
        on_hold: on_hold(state, id),
        deposit: provider.as_ref().map(|p| p.stake).unwrap_or_default(),
        lanes: lanes(state, &id.0),
        keys: account.keys.iter().map(ToString::to_string).collect(),
        provider: provider.map(|p| p.name),
        build_allowance_left: query::build_allowance_left(state, id),
        standing: standing::deposit(state, id).map(Box::new),
        assets: assets(state, id),
    })
}

fn assets(state: &dyn StateRead, id: &AccountId) -> Vec<AssetBalance> {
    let listed = service::assets(state).into_iter();
    let balances = listed.map(|a| AssetBalance { asset: a.id, symbol: a.symbol, balance: query::balance(state, id, a.id) });
    balances.filter(|b| !b.balance.is_zero()).collect()
}

pub(crate) fn grants(state: &dyn StateRead, account: &AccountId) -> Vec<GrantView> {
    query::grants_of_account(state, account).iter().map(|g| grant_view(state, g)).collect()
}

pub(crate) fn grant(state: &dyn StateRead, id: &GrantId) -> Option<GrantView> {
    query::grant(state, id).map(|g| grant_view(state, &g))
}

fn grant_view(state: &dyn StateRead, grant: &Grant) -> GrantView {
    GrantView {
        id: grant.id,
        account: grant.account,
        key: grant.terms.key.to_string(),
        may: grant.terms.may.clone(),
        budget: grant.terms.budget.clone(),
        spent: grant.spent.clone(),
        left: grant.left(AssetId::CREDIT),
        expires: grant.expires_shifted.plus(query::clock(state).halted),
        void: grant.key_set != query::key_policy(state, &grant.account).key_set,
        lanes: lanes(state, &grant.id.0),
    }
}

pub(crate) fn node(state: &dyn StateRead, id: &NodeId) -> Option<NodeView> {
    let node = query::node(state, id)?;
    Some(NodeView {
        id: node.id,
        provider: node.provider,
        provider_name: provider_name(state, &node.provider),
        resources: node.declaration.resources,
        leased: node.committed,
        cpu_hashes_per_s: node.declaration.cpu_hashes_per_s,
        cpu_model: node.declaration.cpu_model,
        lanes: lanes(state, &id.0),
        reachable: false,
        standing: standing::node(state, id).map(Box::new),
        dismissed: query::is_dismissed(state, id),
    })
}

/// A provider's nodes by id, those after one.
pub(crate) fn nodes(state: &dyn StateRead, provider: &AccountId, after: Option<&NodeId>) -> NodePage {
    let (found, next) = query::nodes_of_provider(state, provider, after, NODES_OF_PAGE, NODES_LOOKED_AT);
    NodePage { nodes: found.iter().filter_map(|n| node(state, &n.id)).collect(), next }
}

fn lanes(state: &dyn StateRead, owner: &[u8; 32]) -> Vec<(u8, u64)> {
    (0..MAX_LANES).map(|lane| (lane, query::next_seq(state, owner, lane))).filter(|(_, next)| *next > 0).collect()
}

fn all_orders(state: &dyn StateRead, account: &AccountId) -> Vec<Order> {
    let mut all: Vec<Order> = vec![];
    loop {
        let page = query::orders_of_account(state, account, all.last(), query::MAX_PAGE);
        if page.is_empty() {
            return all;
        }
        all.extend(page);
    }
}

fn on_hold(state: &dyn StateRead, account: &AccountId) -> Amount {
    let held = |order: &Order| {
        let lease = query::lease_of_order(state, &order.id).map(|l| l.held).unwrap_or_default();
        order.deposit.saturating_add(lease)
    };
    let orders = all_orders(state, account);
    let channels = query::channels_of_client(state, account);
    let in_credits = channels.iter().filter(|c| c.asset == AssetId::CREDIT).map(Channel::held);
    orders.iter().map(held).chain(in_credits).fold(Amount::ZERO, Amount::saturating_add)
}

fn provider_name(state: &dyn StateRead, id: &AccountId) -> String {
    query::provider(state, id).map(|p| p.name).unwrap_or_default()
}

pub(crate) fn offers(state: &dyn StateRead) -> Vec<OfferView> {
    query::offers(state, None, query::MAX_PAGE)
        .into_iter()
        .filter_map(|offer| {
            let node = query::node(state, &offer.node)?;
            let free = offer.terms.resources.checked_sub(&node.committed).unwrap_or_else(|| clamp(&offer.terms.resources, &node.committed));
            Some(OfferView {
                id: offer.id,
                node: offer.node,
                provider: offer.provider,
                provider_name: provider_name(state, &offer.provider),
                terms: offer.terms,
                free,
                cpu_model: node.declaration.cpu_model,
                reachable: false,
            })
        })
        .collect()
}

/// What is left class by class, when a node holds more of one class than this offer has.
fn clamp(all: &Resources, used: &Resources) -> Resources {
    all.saturating_sub(used)
}

pub(crate) fn order_view(order: &Order) -> OrderView {
    use pasture_ledger::OrderState as S;
    let (state, lease) = match order.state {
        S::Pending { .. } | S::Waiting => (OrderState::Open, None),
        S::Drawn { lease } => (OrderState::Open, Some(lease)),
        S::Served { lease } => (OrderState::Matched, Some(lease)),
        S::Expired => (OrderState::Expired, None),
        S::Cancelled => (OrderState::Cancelled, None),
    };
    OrderView {
        id: order.id,
        account: order.account,
        state,
        placed: order.placed_at,
        expires: order.expires_shifted,
        resources: order.terms.resources.clone(),
        lease,
    }
}

pub(crate) fn order(state: &dyn StateRead, id: &OrderId) -> Option<OrderView> {
    query::order(state, id).as_ref().map(order_view)
}

pub(crate) fn lease(state: &dyn StateRead, id: &LeaseId) -> Option<LeaseView> {
    query::lease(state, id).map(|lease| lease_view(state, lease))
}

fn lease_view(state: &dyn StateRead, lease: Lease) -> LeaseView {
    let order = query::order(state, &lease.order);
    let offer = query::offer(state, &lease.offer);
    let paid = lease.paid.provider.saturating_add(lease.paid.treasury).saturating_add(lease.paid.model);
    let accepted = lease.accepted_claim();
    LeaseView {
        id: lease.id,
        order: lease.order,
        account: lease.account,
        node: lease.node,
        provider: lease.provider,
        provider_name: provider_name(state, &lease.provider),
        region: offer.as_ref().map(|o| o.terms.region.clone()).unwrap_or_default(),
        generation: lease.generation,
        state: lease.state,
        rate_per_hour: lease.rate_per_hour,
        escrow: lease.escrow,
        asset: lease.asset,
        max_duration: lease.max_duration,
        alive: order.as_ref().map_or_else(AliveCheck::default, |o| o.terms.alive),
        egress: offer.map_or_else(Egress::default, |o| o.terms.egress),
        spec_hash: lease.spec_hash,
        matched: lease.matched_at,
        accepted: lease.accepted_at,
        closed: lease.closing.as_ref().map(|c| c.at).or(lease.closed_at),
        served_ms: lease.last_claim().served,
        confirmed_ms: accepted.served,
        paid,
        reason: lease.end_reason().cloned(),
        settlement: lease.settlement.clone(),
        tenure: TenureView {
            term: lease.tenure.term,
            renews: lease.tenure.renew,
            preemptible: lease.tenure.preemptible,
            preempting: lease.tenure.preempt_shifted.is_some(),
            cancel_fee: lease.tenure.cancel_fee,
            watcher: lease.watch.map(|w| w.account),
            standby_of: match lease.role {
                Role::Standby { of } => Some(of),
                Role::Primary | Role::Past { .. } => None,
            },
        },
        resources: lease.resources,
    }
}

pub(crate) fn jobs(state: &dyn StateRead, account: &AccountId) -> Vec<JobView> {
    all_orders(state, account)
        .iter()
        .rev()
        .take(MAX_JOBS)
        .map(|order| {
            let view = order_view(order);
            let lease = view.lease.and_then(|id| lease(state, &id));
            JobView { order: view, lease }
        })
        .collect()
}

pub(crate) fn node_leases(state: &dyn StateRead, node: &NodeId) -> Vec<LeaseView> {
    query::open_leases_of_node(state, node).into_iter().map(|l| lease_view(state, l)).collect()
}

pub(crate) fn epoch(state: &dyn StateRead, number: u64) -> Option<EpochView> {
    query::epoch(state, number).map(|e| EpochView { epoch: e.number, randomness: e.randomness })
}

pub(crate) fn explain(state: &dyn StateRead, terms: &OrderTerms, now: Timestamp) -> ExplainView {
    let e = pasture_ledger::explain(state, terms, now);
    let mut excluded: Vec<Exclusion> =
        e.steps.iter().filter(|s| s.excluded > 0).map(|s| Exclusion { reason: s.filter.clone(), offers: u64::from(s.excluded) }).collect();
    if let Some(problem) = e.problem {
        excluded.insert(0, Exclusion { reason: problem, offers: u64::from(e.offers) });
    }
    let best = e
        .best
        .iter()
        .filter_map(|c| {
            let offer = query::offer(state, &c.offer)?;
            Some(BestOffer {
                node: offer.node,
                provider_name: provider_name(state, &offer.provider),
                region: offer.terms.region,
                rate_per_hour: c.rate_per_hour,
            })
        })
        .collect();
    let ageing = e.steps.iter().find(|s| s.filter == AGEING).map_or(0, |s| u64::from(s.excluded));
    let way_out = |r: &pasture_ledger::Relaxation| {
        let changed = r.apply(terms);
        RelaxationView {
            change: r.change.clone(),
            offers: u64::from(r.offers),
            rate_per_hour: r.rate_per_hour,
            at_most: r.rate_per_hour.map(|rate| cost(rate, changed.max_duration).min(changed.budget)),
        }
    };
    let relaxations = e.relaxations.iter().map(way_out).collect();
    ExplainView { offers: u64::from(e.offers), suitable: u64::from(e.matching), excluded, best, relaxations, ageing }
}

/// What a machine costs for a time, rounded up as a hold is.
fn cost(rate: Amount, time: Millis) -> Amount {
    const HOUR_MS: u128 = 3_600_000;
    Amount(rate.0.saturating_mul(u128::from(time.0)).div_ceil(HOUR_MS))
}

/// What a clean check looked at, in words.
pub(crate) fn checked(report: &pasture_ledger::CheckReport) -> Vec<String> {
    vec![
        format!("money: {} credits are balances, holds, deposits and treasury, nothing negative", report.supply),
        format!("resources: no match exceeds one of {} nodes", report.nodes),
        format!("leases: each of {} is in exactly one state, {} are open", report.leases, report.open_leases),
        format!("indexes and timers agree with the records of {} keys", report.keys),
        format!("records: accounts {}, offers {}, orders {}", report.accounts, report.offers, report.orders),
    ]
}

#[cfg(test)]
mod tests {
    use pasture_types::{Amount, Millis};

    #[test]
    fn a_way_outs_cost_rounds_up() {
        assert_eq!(super::cost(Amount(3_600_001), Millis(1_000)), Amount(1_001));
        assert_eq!(super::cost(Amount(u128::MAX), Millis(3_600_000)), Amount(u128::MAX.div_ceil(3_600_000)), "no overflow");
    }

    #[test]
    fn matching_still_says_that_an_offer_is_too_new_in_the_words_that_are_looked_for() {
        let matching = include_str!("../../scheduler/src/words.rs");
        assert!(matching.contains(&format!("Exclusion::Ageing => \"{}\"", super::AGEING)));
    }
}
