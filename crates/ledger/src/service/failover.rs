//! Leases that survive their node: standbys, losses, and when another node takes over. Spec: `docs/specs/settlement.md` §8.
//!
//! ```text
//!  accepted --draw--> watched --observers or heartbeats--> lost --fence--> free --standby accepts--> moved, next generation
//!                       ^  (warm: a standby is drawn, accepts, is paid)      |
//!                       +---- heartbeats are back before anyone took over ---+
//! ```
//! Guarantees: a lease with failover has one record, at most one standby and one timer or a place in the draw; the record ends with
//! the lease. How a lease moves is `takeover`'s, who says that a node is lost `observers`'.

use super::records::{Failover, Lost, Standby};
use super::{DRAW_DUE, FAILOVER, modes, observers, takeover};
use crate::env::Env;
use crate::lease::{begin_closing, closing};
use crate::offers::{Asker, Standing};
use crate::records::{Lease, Order, Party, Role};
use crate::tables::{self, TimerKind, any, get, head_number, key, keys_between, mark, put, tail_id, timer_key};
use crate::{bank, market, seams};
use pasture_scheduler::{affordable, price_for};
use pasture_types::event::Event;
use pasture_types::ids::derive;
use pasture_types::lease::{EndReason, LeaseState};
use pasture_types::market::{Failover as Mode, Fence, OrderTerms};
use pasture_types::service::{ServiceEvent, standby_id};
use pasture_types::state::{StateRead, StateWrite};
use pasture_types::{Amount, LeaseId, Millis, Timestamp};

/// Most leases whose observers or standby one block draws; the rest is drawn in the next.
const MAX_DRAWS_PER_BLOCK: usize = 8;
/// Most standbys that a lease gets in its life: a job that kills every node must come to an end.
const MAX_STANDBYS: u32 = 64;
/// A fruitless draw is repeated after the accept window, doubled so often at most.
const MAX_PAUSE_DOUBLINGS: u32 = 6;
/// With less time left it is not worth moving.
const MIN_REMAINING: Millis = Millis(1_000);
/// Most nodes that are kept as having refused; then they are asked again.
const MAX_REFUSED: usize = 32;

const DRAW_DOMAIN: &str = "pasture 2026-11 failover draw v1";

fn record_key(lease: &LeaseId) -> Vec<u8> {
    key(FAILOVER, &[&lease.0])
}

pub(crate) fn draw_key(from: u64, lease: &LeaseId) -> Vec<u8> {
    key(DRAW_DUE, &[&from.to_be_bytes(), &lease.0])
}

pub(crate) fn load(s: &dyn StateRead, lease: &LeaseId) -> Option<Failover> {
    get(s, &record_key(lease))
}

fn set_timer(s: &mut dyn StateWrite, lease: &LeaseId, record: &mut Failover, at: Option<Timestamp>) {
    if let Some(old) = record.timer_shifted {
        s.delete(&timer_key(old, TimerKind::Service, &lease.0));
    }
    if let Some(at) = at {
        mark(s, timer_key(at, TimerKind::Service, &lease.0));
    }
    record.timer_shifted = at;
}

fn set_draw(s: &mut dyn StateWrite, lease: &LeaseId, record: &mut Failover, from: Option<u64>) {
    if let Some(old) = record.draw_from {
        s.delete(&draw_key(old, lease));
    }
    if let Some(from) = from {
        mark(s, draw_key(from, lease));
    }
    record.draw_from = from;
}

pub(crate) fn save(s: &mut dyn StateWrite, lease: &LeaseId, record: &Failover) {
    put(s, record_key(lease), record);
}

/// Whether any draw is waiting, so that a block must come.
pub(crate) fn waits(s: &dyn StateRead) -> bool {
    any(s, &[DRAW_DUE])
}

/// A node took a lease, or a standby.
pub(crate) fn on_accept(s: &mut dyn StateWrite, env: &Env, lease: &LeaseId, events: &mut Vec<Event>) {
    let Some(lease) = tables::lease(s, lease) else { return };
    match lease.role {
        Role::Primary if lease.failover != Mode::Off => {
            let mut record = Failover { warm: lease.failover == Mode::Warm, ..Failover::default() };
            begin_generation(s, env, &lease, &mut record);
        }
        Role::Standby { of } => {
            if let (Some(root), Some(mut record)) = (tables::lease(s, &of), load(s, &of)) {
                advance(s, env, &root, &mut record, events);
            }
        }
        Role::Primary | Role::Past { .. } => {}
    }
}

/// A generation begins: its observers and, with `warm`, its standby are drawn with the randomness of the next block.
pub(crate) fn begin_generation(s: &mut dyn StateWrite, env: &Env, root: &Lease, record: &mut Failover) {
    record.observers.clear();
    record.votes.clear();
    record.lost = None;
    record.fruitless = 0;
    set_draw(s, &root.id, record, Some(env.clock.height.saturating_add(1)));
    let at = observers::next_look(s, env, root);
    set_timer(s, &root.id, record, Some(at));
    save(s, &root.id, record);
}

/// A lease ended: with the lease itself goes its standby; without a standby another one is drawn.
pub(crate) fn on_close(s: &mut dyn StateWrite, env: &Env, lease: &Lease, events: &mut Vec<Event>) {
    match lease.role {
        Role::Primary => {
            let Some(mut record) = load(s, &lease.id) else { return };
            set_timer(s, &lease.id, &mut record, None);
            set_draw(s, &lease.id, &mut record, None);
            s.delete(&record_key(&lease.id));
            let reason = lease.end_reason().cloned().unwrap_or(EndReason::CapReached);
            end_standby(s, env, &record, reason, events);
        }
        Role::Standby { of } => {
            let by_user = lease.closing.as_ref().is_some_and(|c| c.by == Party::User);
            standby_gone(s, env, &of, lease, by_user);
        }
        Role::Past { .. } => {}
    }
}

/// A standby was refused, lapsed, or ended.
pub(crate) fn standby_gone(s: &mut dyn StateWrite, env: &Env, of: &LeaseId, standby: &Lease, dismissed: bool) {
    let Some(mut record) = load(s, of) else { return };
    if record.standby.is_none_or(|x| x.lease != standby.id) {
        return;
    }
    record.standby = None;
    record.warm &= !dismissed;
    refuse(&mut record, standby);
    if record.warm || record.lost.is_some() {
        pause(s, env, of, &mut record);
    }
    save(s, of, &record);
}

pub(crate) fn refuse(record: &mut Failover, by: &Lease) {
    if record.refused.len() >= MAX_REFUSED {
        record.refused.clear();
    }
    record.refused.push(by.node);
}

/// Ends a lease's standby, whatever it was at.
fn end_standby(s: &mut dyn StateWrite, env: &Env, record: &Failover, reason: EndReason, events: &mut Vec<Event>) {
    let Some(mut standby) = record.standby.and_then(|x| tables::lease(s, &x.lease)) else { return };
    match standby.state {
        LeaseState::Matched => market::undo_match(s, env, &mut standby, reason, events),
        LeaseState::Accepted | LeaseState::Running => {
            let how = closing(env, reason, Party::Ledger);
            let more = begin_closing(s, env, &mut standby, how);
            events.extend(more);
        }
        LeaseState::Closing | LeaseState::Closed => {}
    }
}

/// The next draw comes after a pause, which grows while nobody is found.
fn pause(s: &mut dyn StateWrite, env: &Env, of: &LeaseId, record: &mut Failover) {
    let pause = env.zone.params.accept_window.0.max(1) << record.fruitless.min(MAX_PAUSE_DOUBLINGS);
    record.fruitless = record.fruitless.saturating_add(1);
    let at = env.shifted().plus(Millis(pause));
    let at = record.timer_shifted.map_or(at, |t| t.min(at));
    set_timer(s, of, record, Some(at));
}

/// A failover's timer fired.
pub(crate) fn timer(s: &mut dyn StateWrite, env: &Env, id: &LeaseId, events: &mut Vec<Event>) {
    let (Some(root), Some(mut record)) = (tables::lease(s, id), load(s, id)) else { return };
    record.timer_shifted = None;
    let missing = observers::heartbeats_missing(s, env, &root);
    match record.lost {
        None if missing => lose(s, env, &root, &mut record, false, events),
        // It is back, and nobody took over: the lease stays where it is.
        Some(Lost { reported: false, .. }) if observers::heard_again(s, env, &root) => record.lost = None,
        None | Some(_) => {}
    }
    advance(s, env, &root, &mut record, events);
}

/// Notes that a lease's node is lost. With `fence: stop` nobody takes over before the old copy has stopped.
pub(crate) fn lose(s: &mut dyn StateWrite, env: &Env, root: &Lease, record: &mut Failover, reported: bool, events: &mut Vec<Event>) {
    let wait = match root.fence {
        Fence::Stop => env.epochs(env.zone.params.service.fence_epochs),
        Fence::Serve => Millis(0),
    };
    record.lost = Some(Lost { free_shifted: env.shifted().plus(wait), reported });
    record.fruitless = 0;
    save(s, &root.id, record);
    let (account, node, generation) = (root.account, root.node, root.generation);
    events.push(Event::Service(ServiceEvent::NodeLost { lease: root.id, account, node, generation }));
}

/// Does what can be done for a lease now, and sets its timer for what comes later.
pub(crate) fn advance(s: &mut dyn StateWrite, env: &Env, root: &Lease, record: &mut Failover, events: &mut Vec<Event>) {
    let id = root.id;
    let look = observers::next_look(s, env, root);
    let free = record.lost.map(|l| l.free_shifted);
    if free.is_some_and(|at| at <= env.shifted()) && takeover::try_standby(s, env, root, record, events) {
        return;
    }
    let wanted = record.standby.is_none() && record.number < MAX_STANDBYS;
    let due = match free {
        None => record.warm,
        // A cold takeover is drawn for when the old copy has stopped.
        Some(at) => at <= env.shifted(),
    };
    if wanted && due && record.draw_from.is_none() {
        set_draw(s, &id, record, Some(env.clock.height.saturating_add(1)));
    }
    let at = free.filter(|at| *at > env.shifted()).map_or(look, |at| at.min(look));
    set_timer(s, &id, record, Some(at));
    save(s, &id, record);
}

/// Draws observers and standbys that are due; what that cost of the block's time for draws, in microseconds.
pub(crate) fn draw(s: &mut dyn StateWrite, env: &Env, randomness: &[u8; 32], events: &mut Vec<Event>) -> u32 {
    let mut spent = 0u32;
    let end = key(DRAW_DUE, &[&env.clock.height.saturating_add(1).to_be_bytes()]);
    for k in keys_between(s, &[DRAW_DUE], &end, MAX_DRAWS_PER_BLOCK) {
        // What was decided in the block before: nobody who could foresee the mix had a say in it. Later ones wait no less.
        let committed = head_number(&k).unwrap_or_default().saturating_sub(1);
        let Some(randomness) = seams::draw_randomness(s, env, committed, randomness) else { return spent };
        s.delete(&k);
        let Some(id) = tail_id(&k).map(LeaseId) else { continue };
        let (Some(root), Some(mut record)) = (tables::lease(s, &id), load(s, &id)) else { continue };
        record.draw_from = None;
        let seed = derive(DRAW_DOMAIN, &[&randomness, &id.0, &root.generation.to_le_bytes(), &record.number.to_le_bytes()]);
        let Some(order) = tables::order(s, &root.order) else { continue };
        if record.observers.is_empty() {
            record.observers = observers::draw(s, env, &root, &order, &seed);
            let observers = record.observers.iter().map(|o| pasture_types::event::Hash32(*o)).collect();
            events.push(Event::Service(ServiceEvent::ObserversDrawn { lease: id, observers }));
        }
        if record.standby.is_none() && (record.warm || record.lost.is_some()) {
            spent = spent.saturating_add(market::draw_cost(&order.terms, market::index::MAX_OFFERS_SCANNED));
            let found = record.number < MAX_STANDBYS && ask(s, env, &root, &order, &mut record, &seed, events);
            if !found {
                // Whoever refused, or was lost and is back, may be asked again after the pause.
                record.refused.clear();
                pause(s, env, &id, &mut record);
            }
        }
        save(s, &id, &record);
    }
    spent
}

/// Asks the best node that can take the lease over to be its standby, or to take over at once if its node is lost.
fn ask(
    s: &mut dyn StateWrite,
    env: &Env,
    root: &Lease,
    order: &Order,
    record: &mut Failover,
    seed: &[u8; 32],
    events: &mut Vec<Event>,
) -> bool {
    let remaining = takeover::remaining(env, root);
    if remaining < MIN_REMAINING {
        return false;
    }
    let terms = OrderTerms { max_duration: remaining, budget: takeover::rest_of_escrow(env, root), ..order.terms.clone() };
    let mut excluded = record.refused.clone();
    excluded.push(root.node);
    let asker = Asker { account: Some(root.account), terms: &terms, refused: &excluded };
    for candidate in market::redraw(s, env, &asker, seed) {
        let Some(found) = Standing::load(s, env, &candidate.offer, &asker) else { continue };
        if super::watch::conflicts(s, &terms, &found.offer.provider, &found.offer.node) {
            continue;
        }
        let Some((taken, lines)) = market::takes(&found, &found.view(env).free, &terms) else { continue };
        // A lost node's successor is paid from the lease itself once it has accepted.
        let (rate, escrow) = match record.lost {
            Some(_) => (candidate.rate_per_hour, Amount::ZERO),
            None => {
                let rate = modes::standby_rate(&env.zone.params.service, candidate.rate_per_hour);
                (rate, standby_hold(s, order, root, rate, remaining))
            }
        };
        let least = price_for(rate, env.zone.params.epoch.min(remaining));
        if record.lost.is_none() && (escrow < least || bank::debit(s, &root.account, root.asset, escrow, "the standby").is_err()) {
            continue;
        }
        let id = standby_id(&root.id, record.number);
        let mut standby = market::new_lease(env, order, &found.offer, taken, lines, escrow);
        (standby.id, standby.rate_per_hour) = (id, rate);
        standby.tenure.lines = takeover::scaled(&standby.tenure.lines, rate);
        standby.role = Role::Standby { of: root.id };
        standby.watch = root.watch;
        let time = if record.lost.is_some() { remaining } else { remaining.min(affordable(escrow, rate)) };
        standby.max_duration = time;
        record.number += 1;
        record.standby = Some(Standby { lease: id, full_rate: candidate.rate_per_hour });
        // Its node was found a moment ago, so that it can be held.
        return market::hold_machine(s, env, &mut standby, events).is_ok();
    }
    false
}

/// What is put on hold for a standby: within what the order's budget leaves and the account has.
fn standby_hold(s: &dyn StateRead, order: &Order, root: &Lease, rate: Amount, time: Millis) -> Amount {
    let left = order.terms.budget.saturating_sub(root.escrow);
    price_for(rate, time).min(left).min(bank::balance(s, &root.account, root.asset))
}
