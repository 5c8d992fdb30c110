//! Orders and matches: placing, drawing, accepting, lapsing. Spec: `docs/specs/market.md`.
//!
//! ```text
//!  Pending --draw--> Drawn --accept--> Served
//!     ^  \            | reject / no answer: next candidate, then Pending
//!     |   +--nobody--> Waiting --timer, new offer, freed machine--> Pending
//!     Pending, Waiting --expiry--> Expired     Pending, Waiting --cancel--> Cancelled
//! ```
//! Guarantees: an open order has exactly one index entry for its state; a match moves its escrow and reserves its machine in
//! the same step. Which offer is best is the scheduler's to say.

pub(crate) mod check;
pub(crate) mod history;
pub(crate) mod index;
pub(crate) mod records;
pub(crate) mod tenure;

use crate::apply::Tx;
use crate::env::Env;
use crate::error::TxError;
use crate::records::{Drawn, Lease, Offer, Order, OrderState, Role, Watch, Watched};
use crate::tables::{
    self, LEASE_OF_ACCOUNT, LEASE_OF_NODE, LEASE_OPEN, META_WAKE, ORDER_OF_ACCOUNT, ORDER_OPEN, ORDER_PENDING, ORDER_WAITING, TimerKind,
    any, key, keys_with, mark, meta, offer_key, pending_key, put, put_lease, put_node, put_order, tail_id, timer_key, update_counts,
};
use crate::{bank, lease, offers, registry, seams, service, validate};
use offers::{Asker, Standing};
use pasture_scheduler::{Candidate, Need, Ranking, affordable, evaluate};
use pasture_types::event::Event;
use pasture_types::ids::derive;
use pasture_types::lease::{EndReason, LeaseState};
use pasture_types::market::{LeaseLine, OrderTerms};
use pasture_types::market_rules::{MarketAction, MarketEvent};
use pasture_types::state::{StateRead, StateWrite};
use pasture_types::tx::{lease_id, order_id};
use pasture_types::{Amount, AssetId, LeaseId, Millis, OfferId, OrderId, Resources, Timestamp};

/// name, zero, value, zero, offer -> nothing
const OFFER_WITH_ATTRIBUTE: u8 = 0x68;
/// model, zero, offer -> nothing
const OFFER_WITH_GPU: u8 = 0x69;
/// service class, zero, offer -> nothing
const OFFER_WITH_SERVICE: u8 = 0x6a;
/// size class of the CPU that is free, offer -> nothing
const OFFER_BY_CPU: u8 = 0x6b;
/// size class of the memory that is free, offer -> nothing
const OFFER_BY_MEMORY: u8 = 0x6c;
/// offer -> how many leases hold its machine
const OFFER_LEASES: u8 = 0x6d;
/// account, provider -> [`records::History`]
const HISTORY: u8 = 0x6e;

/// Most draws at the end of one block, also if they cost nothing; the rest is drawn in the next.
const MAX_DRAWS_PER_BLOCK: usize = 256;
/// What a draw costs by itself, in microseconds, and for each offer that it looks at (measured: `docs/specs/market.md` §4).
const DRAW_BASE_US: u32 = 60;
const OFFER_US: u32 = 6;
/// What one condition on certificates adds for each offer at worst: sixteen certificates each of node and provider, with their issuers.
const CERTIFICATE_US: u32 = 20;
/// Most waiting orders that are looked at to choose them.
const MAX_PENDING_SCANNED: usize = 1_024;
/// Most orders that a new offer or a freed machine wakes in one block.
const MAX_WOKEN_PER_BLOCK: usize = 256;
/// Most matches that an order gets before it ends unserved.
const MAX_MATCHES_PER_ORDER: u32 = 64;
/// A fruitless draw is repeated after the accept window, doubled so often at most.
const MAX_PAUSE_DOUBLINGS: u32 = 6;

const DRAW_DOMAIN: &str = "pasture 2026-11 order draw v1";

pub(crate) fn set_timer(s: &mut dyn StateWrite, order: &mut Order, at: Option<Timestamp>) {
    if let Some(old) = order.timer_shifted {
        s.delete(&timer_key(old, TimerKind::Order, &order.id.0));
    }
    if let Some(at) = at {
        mark(s, timer_key(at, TimerKind::Order, &order.id.0));
    }
    order.timer_shifted = at;
}

/// Moves an order to a state, its index entries and timer with it.
fn enter(s: &mut dyn StateWrite, order: &mut Order, state: OrderState, timer: Option<Timestamp>) {
    match order.state {
        OrderState::Pending { from } => s.delete(&pending_key(order.terms.priority, from, &order.id)),
        OrderState::Waiting => s.delete(&key(ORDER_WAITING, &[&order.id.0])),
        OrderState::Drawn { .. } | OrderState::Served { .. } | OrderState::Expired | OrderState::Cancelled => {}
    }
    match state {
        OrderState::Pending { from } => mark(s, pending_key(order.terms.priority, from, &order.id)),
        OrderState::Waiting => mark(s, key(ORDER_WAITING, &[&order.id.0])),
        OrderState::Drawn { .. } => {}
        OrderState::Served { .. } | OrderState::Expired | OrderState::Cancelled => {
            s.delete(&key(ORDER_OPEN, &[&order.account.0, &order.id.0]));
            bank::credit(s, &order.account, order.terms.asset, order.deposit);
            order.deposit = Amount::ZERO;
        }
    }
    order.state = state;
    set_timer(s, order, timer);
    put_order(s, &order.id.clone(), order);
}

pub(crate) fn place_order(s: &mut dyn StateWrite, tx: &mut Tx<'_>, terms: &OrderTerms) -> Result<(), TxError> {
    let (env, params) = (tx.env, &tx.env.zone.params);
    validate::order(terms, env, env.now())?;
    service::assets::must_be_known(s, terms.asset)?;
    service::watch::must_exist(s, terms)?;
    let open = keys_with(s, &key(ORDER_OPEN, &[&tx.account.0]), params.max_open_orders as usize).len() as u64;
    validate::at_most("open orders", open + 1, u64::from(params.max_open_orders))?;
    let priority = Amount(params.market.priority_price.0.saturating_mul(u128::from(terms.priority)));
    bank::debit(s, &tx.account, AssetId::CREDIT, priority, "the order's priority")?;
    bank::to_treasury(s, AssetId::CREDIT, priority);
    let needs = params.order_deposit.checked_add(validate::largest_hold(terms)).ok_or(TxError::AmountTooLarge)?;
    let has = bank::balance(s, &tx.account, terms.asset);
    if has < needs {
        return Err(TxError::InsufficientBalance { what: "the order (what is put on hold, and its deposit)", needs, has });
    }
    bank::debit(s, &tx.account, terms.asset, params.order_deposit, "the order's deposit")?;
    let id = order_id(&tx.id, tx.index);
    let from = env.clock.height.saturating_add(1);
    let expires_shifted = env.shift(terms.expires);
    let mut order = Order {
        id,
        account: tx.account,
        terms: terms.clone(),
        placed_at: env.now(),
        expires_shifted,
        state: OrderState::Pending { from },
        deposit: params.order_deposit,
        drawn: Vec::new(),
        tried: 0,
        refused: Vec::new(),
        attempts: 0,
        fruitless: 0,
        retries: 0,
        timer_shifted: None,
    };
    mark(s, key(ORDER_OF_ACCOUNT, &[&tx.account.0, &env.now().0.to_be_bytes(), &id.0]));
    mark(s, key(ORDER_OPEN, &[&tx.account.0, &id.0]));
    enter(s, &mut order, OrderState::Pending { from }, Some(expires_shifted));
    tx.events.push(Event::OrderPlaced { order: id, account: tx.account });
    Ok(())
}

pub(crate) fn cancel_order(s: &mut dyn StateWrite, tx: &mut Tx<'_>, id: &OrderId) -> Result<(), TxError> {
    let mut order = tables::order(s, id).ok_or_else(|| TxError::unknown("order", id))?;
    if order.account != tx.account {
        return Err(TxError::NotYours("the order"));
    }
    let bad = |state: &str, hint| Err(TxError::BadState { what: "the order", state: state.into(), hint });
    match order.state {
        OrderState::Pending { .. } | OrderState::Waiting => {}
        OrderState::Drawn { .. } | OrderState::Served { .. } => return bad("matched", "close its lease instead"),
        OrderState::Expired | OrderState::Cancelled => return bad("over", "there is nothing left to cancel"),
    }
    end_order(s, &mut order, OrderState::Cancelled, &mut tx.events);
    Ok(())
}

fn end_order(s: &mut dyn StateWrite, order: &mut Order, state: OrderState, events: &mut Vec<Event>) {
    enter(s, order, state, None);
    events.push(Event::OrderEnded { order: order.id, account: order.account, cancelled: state == OrderState::Cancelled });
}

/// The lease, if the signer may act for its node.
pub(crate) fn for_node(s: &dyn StateRead, tx: &Tx<'_>, id: &LeaseId) -> Result<Lease, TxError> {
    let lease = tables::lease(s, id).ok_or_else(|| TxError::unknown("lease", id))?;
    let mine = match tx.node {
        Some(node) => lease.node == node,
        None => lease.provider == tx.account,
    };
    if mine { Ok(lease) } else { Err(TxError::NotYours("the lease")) }
}

fn must_be_matched(lease: &Lease) -> Result<(), TxError> {
    if lease.state == LeaseState::Matched {
        return Ok(());
    }
    Err(TxError::BadState { what: "the lease", state: lease::state_name(lease.state).into(), hint: "only a fresh match can be answered" })
}

pub(crate) fn accept_lease(s: &mut dyn StateWrite, tx: &mut Tx<'_>, id: &LeaseId) -> Result<(), TxError> {
    let mut lease = for_node(s, tx, id)?;
    must_be_matched(&lease)?;
    let env = tx.env;
    lease.state = LeaseState::Accepted;
    lease.accepted_at = Some(env.now());
    lease.interim_epoch = env.epoch();
    lease.halt_grace = service::halts::of_node(s, env, &lease.node);
    lease::set_timer(s, &mut lease, Some(env.shifted().plus(env.zone.params.start_window)));
    tenure::arm(s, env, &mut lease);
    put_lease(s, id, &lease);
    update_counts(s, |c| c.live = c.live.saturating_add(1));
    if let Some(mut order) = tables::order(s, &lease.order).filter(|_| lease.role == Role::Primary) {
        enter(s, &mut order, OrderState::Served { lease: *id }, None);
    }
    tx.events.push(lease::changed(&lease));
    service::failover::on_accept(s, env, id, &mut tx.events);
    Ok(())
}

pub(crate) fn reject_lease(s: &mut dyn StateWrite, tx: &mut Tx<'_>, id: &LeaseId) -> Result<(), TxError> {
    let mut lease = for_node(s, tx, id)?;
    must_be_matched(&lease)?;
    undo_match(s, tx.env, &mut lease, EndReason::Rejected, &mut tx.events);
    next_candidate(s, tx.env, &lease, &mut tx.events);
    Ok(())
}

/// The user closes a match that no node has taken yet: the order goes with it.
pub(crate) fn abandon_match(s: &mut dyn StateWrite, tx: &mut Tx<'_>, lease: &mut Lease, reason: EndReason) {
    undo_match(s, tx.env, lease, reason, &mut tx.events);
    if let Role::Standby { of } = lease.role {
        service::failover::standby_gone(s, tx.env, &of, lease, true);
        return;
    }
    if let Some(mut order) = tables::order(s, &lease.order) {
        end_order(s, &mut order, OrderState::Cancelled, &mut tx.events);
    }
}

/// No answer in time.
pub(crate) fn lapse_match(s: &mut dyn StateWrite, env: &Env, lease: &mut Lease, events: &mut Vec<Event>) {
    undo_match(s, env, lease, EndReason::Rejected, events);
    next_candidate(s, env, lease, events);
}

/// Closes a match that was not taken: everything on hold returns.
pub(crate) fn undo_match(s: &mut dyn StateWrite, env: &Env, lease: &mut Lease, reason: EndReason, events: &mut Vec<Event>) {
    free_resources(s, lease);
    if !(cfg!(mutant_2) && lease.role != Role::Primary) {
        bank::credit(s, &lease.account, lease.asset, lease.held);
    }
    lease.held = Amount::ZERO;
    lease.state = LeaseState::Closed;
    lease.closed_at = Some(env.now());
    lease.closing = Some(lease::closing(env, reason, crate::records::Party::Ledger));
    close_indexes(s, lease);
    lease::set_timer(s, lease, None);
    put_lease(s, &lease.id.clone(), lease);
    events.push(lease::changed(lease));
}

/// Takes a closed lease out of the indexes of open ones.
pub(crate) fn close_indexes(s: &mut dyn StateWrite, lease: &Lease) {
    s.delete(&key(LEASE_OPEN, &[&lease.node.0, &lease.id.0]));
    seams::lease_closed(s, lease);
    update_counts(s, |c| c.open = c.open.saturating_sub(1));
    if let Some(mut node) = tables::node(s, &lease.node) {
        node.open_leases = node.open_leases.saturating_sub(1);
        put_node(s, &lease.node, &node);
        seams::node_changed(s, &lease.node);
    }
}

/// Gives a lease's machine back and wakes orders that wait for one.
pub(crate) fn free_resources(s: &mut dyn StateWrite, lease: &mut Lease) {
    index::release(s, lease);
    tenure::disarm(s, lease);
    wake(s);
}

/// Notes that waiting orders are worth another draw.
pub(crate) fn wake(s: &mut dyn StateWrite) {
    if any(s, &[ORDER_WAITING]) {
        mark(s, meta(META_WAKE));
    }
}

/// After a refusal: the order is drawn again at the end of this block, without that node.
fn next_candidate(s: &mut dyn StateWrite, env: &Env, lease: &Lease, events: &mut Vec<Event>) {
    if let Role::Standby { of } = lease.role {
        service::failover::standby_gone(s, env, &of, lease, false);
        return;
    }
    let Some(mut order) = tables::order(s, &lease.order) else { return };
    order.refused.push(lease.node);
    if env.shifted() >= order.expires_shifted || order.attempts >= MAX_MATCHES_PER_ORDER {
        end_order(s, &mut order, OrderState::Expired, events);
        return;
    }
    let expires = order.expires_shifted;
    enter(s, &mut order, OrderState::Pending { from: env.clock.height }, Some(expires));
}

/// An order's timer fired: it expired, or its pause is over.
pub(crate) fn order_timer(s: &mut dyn StateWrite, env: &Env, id: &OrderId, events: &mut Vec<Event>) {
    let Some(mut order) = tables::order(s, id) else { return };
    if env.shifted() >= order.expires_shifted {
        end_order(s, &mut order, OrderState::Expired, events);
        return;
    }
    let params = &env.zone.params.market;
    order.retries = order.retries.saturating_add(1);
    if order.retries > params.free_draws {
        // Drawing in vain costs the zone work: it is taken from the deposit, as far as that goes.
        let cost = params.draw_price.min(order.deposit);
        order.deposit = order.deposit.saturating_sub(cost);
        bank::to_treasury(s, order.terms.asset, cost);
    }
    // Nodes that refused get another chance after a pause, and only then: a wake must not make a refusal a busy loop.
    order.refused.clear();
    let expires = order.expires_shifted;
    enter(s, &mut order, OrderState::Pending { from: env.clock.height }, Some(expires));
}

/// Puts orders that nobody served back into the draw, since an offer came or a machine was freed.
pub(crate) fn wake_waiting(s: &mut dyn StateWrite, env: &Env) {
    if s.get(&meta(META_WAKE)).is_none() {
        return;
    }
    let waiting = keys_with(s, &[ORDER_WAITING], MAX_WOKEN_PER_BLOCK);
    for k in &waiting {
        if let Some(mut order) = tail_id(k).and_then(|id| tables::order(s, &OrderId(id))) {
            let expires = order.expires_shifted;
            enter(s, &mut order, OrderState::Pending { from: env.clock.height }, Some(expires));
        }
    }
    if waiting.len() < MAX_WOKEN_PER_BLOCK {
        s.delete(&meta(META_WAKE));
    }
}

/// What looking at so many offers for an order costs, in microseconds.
pub(crate) fn draw_cost(terms: &OrderTerms, offers: usize) -> u32 {
    let each = OFFER_US.saturating_add(CERTIFICATE_US.saturating_mul(validate::certificates(terms)));
    DRAW_BASE_US.saturating_add(u32::try_from(offers).unwrap_or(u32::MAX).saturating_mul(each))
}

/// Draws orders that are due: higher priority first, drawn order within a priority. `spent` of the time for draws is gone already.
pub(crate) fn draw(s: &mut dyn StateWrite, env: &Env, randomness: &[u8; 32], spent: u32, events: &mut Vec<Event>) {
    let mut due: Vec<(u8, [u8; 32], OrderId)> = Vec::new();
    for k in keys_with(s, &[ORDER_PENDING], MAX_PENDING_SCANNED) {
        let from = k.get(2..10).and_then(|b| b.first_chunk::<8>()).map(|b| u64::from_be_bytes(*b));
        if let (Some(urgency), Some(from), Some(id)) = (k.get(1), from, tail_id(&k))
            && from <= env.clock.height
        {
            due.push((*urgency, derive(DRAW_DOMAIN, &[randomness, &id]), OrderId(id)));
        }
    }
    due.sort_unstable();
    let mut left = env.zone.params.market.draw_cost_us.saturating_sub(spent);
    for (_, seed, id) in due.into_iter().take(MAX_DRAWS_PER_BLOCK) {
        if left == 0 {
            return;
        }
        if let Some(order) = tables::order(s, &id) {
            let terms = order.terms.clone();
            let looked = draw_one(s, env, order, &seed, events);
            left = left.saturating_sub(draw_cost(&terms, looked));
        }
    }
}

/// Draws one order; how many offers that looked at.
fn draw_one(s: &mut dyn StateWrite, env: &Env, mut order: Order, seed: &[u8; 32], events: &mut Vec<Event>) -> usize {
    if env.shifted() >= order.expires_shifted {
        end_order(s, &mut order, OrderState::Expired, events);
        return 0;
    }
    if try_candidates(s, env, &mut order, seed, events) {
        return 0;
    }
    let balance = Some(bank::balance(s, &order.account, order.terms.asset));
    let mut ranking = Ranking::new(need(env, &order.terms, balance, seed));
    let asker = Asker { account: Some(order.account), terms: &order.terms, refused: &order.refused };
    let mut looked = 0;
    for standing in index::for_order(s, &order.terms, seed).iter().filter_map(|id| Standing::load(s, env, id, &asker)) {
        looked += 1;
        if !ranking.consider(&standing.view(env)) {
            break;
        }
    }
    let found = ranking.best();
    order.drawn = found.iter().map(|c| Drawn { offer: c.offer, node: c.node, rate_per_hour: c.rate_per_hour, score: c.score }).collect();
    order.tried = 0;
    if try_candidates(s, env, &mut order, seed, events) {
        return looked;
    }
    let pause = env.zone.params.accept_window.0.max(1) << order.fruitless.min(MAX_PAUSE_DOUBLINGS);
    order.fruitless = order.fruitless.saturating_add(1);
    let again = env.shifted().plus(Millis(pause)).min(order.expires_shifted);
    enter(s, &mut order, OrderState::Waiting, Some(again));
    looked
}

/// What the scheduler is told of an order.
pub(crate) const fn need<'a>(env: &'a Env, terms: &'a OrderTerms, balance: Option<Amount>, seed: &'a [u8; 32]) -> Need<'a> {
    let params = &env.zone.params;
    Need { terms, epoch: params.epoch, now: env.now(), max_lease: params.max_lease, balance, market: &params.market, seed }
}

/// Matches the order with the first drawn candidate that still serves it.
fn try_candidates(s: &mut dyn StateWrite, env: &Env, order: &mut Order, seed: &[u8; 32], events: &mut Vec<Event>) -> bool {
    while let Some(candidate) = order.drawn.get(order.tried as usize).copied() {
        order.tried += 1;
        let asker = Asker { account: Some(order.account), terms: &order.terms, refused: &order.refused };
        let Some(standing) = Standing::load(s, env, &candidate.offer, &asker) else { continue };
        let balance = Some(bank::balance(s, &order.account, order.terms.asset));
        let view = standing.view(env);
        let Some(quote) = evaluate(&need(env, &order.terms, balance, seed), &view).serves() else { continue };
        if service::watch::conflicts(s, &order.terms, &standing.offer.provider, &standing.offer.node) {
            continue;
        }
        let Some((taken, lines)) = takes(&standing, &view.free, &order.terms) else { continue };
        let escrow = service::modes::primary_hold(&order.terms, &env.zone.params.service, quote.escrow);
        let lease = new_lease(env, order, &standing.offer, taken, lines, escrow);
        if matched(s, env, order, lease, events).is_ok() {
            return true;
        }
    }
    false
}

/// What an order takes of an offer's machine, and what that costs line by line: the GPU lines that serve it are the machine's.
pub(crate) fn takes(standing: &Standing, free: &Resources, terms: &OrderTerms) -> Option<(Resources, Vec<LeaseLine>)> {
    let all = &standing.offer.terms;
    let taken = free.place(&terms.resources)?;
    let lines = all.rates.lines(&all.resources, &taken)?;
    Some((taken, lines))
}

fn matched(s: &mut dyn StateWrite, env: &Env, order: &mut Order, mut lease: Lease, events: &mut Vec<Event>) -> Result<(), TxError> {
    bank::debit(s, &order.account, order.terms.asset, lease.escrow, "what is put on hold")?;
    hold_machine(s, env, &mut lease, events)?;
    order.attempts += 1;
    (order.fruitless, order.retries) = (0, 0);
    enter(s, order, OrderState::Drawn { lease: lease.id }, None);
    Ok(())
}

/// Writes a fresh match: its machine is held, its indexes stand, its node has until a deadline to answer.
pub(crate) fn hold_machine(s: &mut dyn StateWrite, env: &Env, lease: &mut Lease, events: &mut Vec<Event>) -> Result<(), TxError> {
    index::hold(s, lease)?;
    update_counts(s, |c| c.open = c.open.saturating_add(1));
    let (id, at) = (lease.id, env.now().0.to_be_bytes());
    mark(s, key(LEASE_OF_ACCOUNT, &[&lease.account.0, &at, &id.0]));
    mark(s, key(LEASE_OF_NODE, &[&lease.node.0, &at, &id.0]));
    mark(s, key(LEASE_OPEN, &[&lease.node.0, &id.0]));
    lease::set_timer(s, lease, Some(env.shifted().plus(env.zone.params.accept_window)));
    put_lease(s, &id, lease);
    seams::lease_opened(s, env, lease);
    seams::node_changed(s, &lease.node);
    events.push(Event::LeaseMatched {
        lease: id,
        order: lease.order,
        account: lease.account,
        node: lease.node,
        rate_per_hour: lease.rate_per_hour,
        escrow: lease.escrow,
        accept_by: env.now().plus(env.zone.params.accept_window),
    });
    Ok(())
}

/// The best offers for a lease that needs another node, without some nodes. Its money is on hold already.
pub(crate) fn redraw(s: &dyn StateRead, env: &Env, asker: &Asker<'_>, seed: &[u8; 32]) -> Vec<Candidate> {
    let mut ranking = Ranking::new(need(env, asker.terms, None, seed));
    for standing in index::for_order(s, asker.terms, seed).iter().filter_map(|id| Standing::load(s, env, id, asker)) {
        if !ranking.consider(&standing.view(env)) {
            break;
        }
    }
    ranking.best()
}

/// The lease of an order's next match: what it takes of the machine, line by line, and what is put on hold.
pub(crate) fn new_lease(env: &Env, order: &Order, offer: &Offer, taken: Resources, lines: Vec<LeaseLine>, escrow: Amount) -> Lease {
    let rate = lines.iter().fold(Amount::ZERO, |sum, line| sum.saturating_add(line.rate_per_hour));
    let max_duration = order.terms.max_duration.min(affordable(escrow, rate));
    Lease {
        id: lease_id(&order.id, order.attempts),
        order: order.id,
        account: order.account,
        provider: offer.provider,
        node: offer.node,
        offer: offer.id,
        attempt: order.attempts,
        generation: 1,
        resources: taken,
        asset: order.terms.asset,
        rate_per_hour: rate,
        max_duration,
        offer_max_duration: tenure::longest(env, order, offer),
        spec_hash: order.terms.spec_hash,
        model: order.terms.model,
        state: LeaseState::Matched,
        matched_at: env.now(),
        accept_shifted: env.shifted().plus(env.zone.params.accept_window),
        accepted_at: None,
        started_at: None,
        closing: None,
        closed_at: None,
        escrow,
        held: escrow,
        last: None,
        confirmed: None,
        ripened: crate::records::Claim::default(),
        ripening: None,
        disputed: false,
        metered: crate::records::Metered::default(),
        paid: crate::records::Paid::default(),
        interim_epoch: 0,
        timer_shifted: None,
        settlement: None,
        tenure: tenure::of_order(order, lines, max_duration),
        role: Role::Primary,
        verification: order.terms.verification,
        failover: order.terms.failover,
        fence: order.terms.fence,
        halt_grace: 0,
        watch: order.terms.watcher.map(|account| Watch { account, named: true }),
        watched: Watched::default(),
        confirmed_by: None,
        evidence: None,
        uninterrupted: order.terms.uninterrupted,
    }
}

/// What the market does besides offers and orders.
pub(crate) fn act(s: &mut dyn StateWrite, tx: &mut Tx<'_>, action: &MarketAction) -> Result<(), TxError> {
    match action {
        MarketAction::PauseOffer { offer, paused } => pause_offer(s, tx, offer, *paused),
        MarketAction::TopUp { lease, amount } => tenure::top_up(s, tx, lease, *amount),
        MarketAction::StopRenewal { lease } => tenure::stop_renewal(s, tx, lease),
        MarketAction::Preempt { lease } => tenure::preempt(s, tx, lease),
        MarketAction::DismissNode { node } => registry::dismiss_node(s, tx, node),
    }
}

/// The cost of one of the market's own actions in microseconds.
pub(crate) const fn cost_us(action: &MarketAction) -> u32 {
    match action {
        MarketAction::PauseOffer { .. } | MarketAction::TopUp { .. } | MarketAction::StopRenewal { .. } | MarketAction::Preempt { .. } => {
            10
        }
        // As many offers as a node may have are taken away.
        MarketAction::DismissNode { .. } => 150,
    }
}

/// Takes an offer out of the draws, or back into them. Its age and its terms stay.
fn pause_offer(s: &mut dyn StateWrite, tx: &mut Tx<'_>, id: &OfferId, paused: bool) -> Result<(), TxError> {
    let mut offer = tables::offer(s, id).ok_or_else(|| TxError::unknown("offer", id))?;
    if offer.provider != tx.account {
        return Err(TxError::NotYours("the offer"));
    }
    if offer.paused == paused {
        let state = if paused { "paused" } else { "open" };
        return Err(TxError::BadState { what: "the offer", state: state.into(), hint: "there is nothing to change" });
    }
    offer.paused = paused;
    put(s, offer_key(id), &offer);
    if !paused {
        wake(s);
    }
    tx.events.push(Event::Market(MarketEvent::OfferPaused { offer: *id, paused }));
    Ok(())
}
