//! A block's own work: epochs and halts at its begin; timers, ageing, draws, fees at its end. Spec: `docs/specs/ledger.md` §6.
//!
//! Guarantees: each kind of work has a limit per block and leaves the rest for the next one, which `next_due` then asks for
//! at once; an idle zone asks for no block. It does not decide who proposes.

use crate::env::Env;
use crate::records::Clock;
use crate::tables::{
    self, META_CLOCK, META_WAKE, OFFER_AGEING, ORDER_PENDING, TIMER, TimerKind, any, head_number, key, keys_between, keys_with, meta, put,
    tail_id,
};
use crate::validators::{beacon, terms};
use crate::{audits, bank, channels, credentials, governance, grants, keys, lease, load, market, proofs, reputation, service, stake};
use pasture_types::event::Event;
use pasture_types::state::{StateRead, StateWrite};
use pasture_types::{AccountId, ChannelId, CredentialId, GrantId, LeaseId, Millis, OrderId, Timestamp};

/// Most timers that one block fires.
const MAX_TIMERS_PER_BLOCK: usize = 256;
/// Most offers that come of age in one block.
const MAX_AGED_PER_BLOCK: usize = 1_024;
/// A block that comes more than so many epochs after it was due ends a halt.
const HALT_EPOCHS: u64 = 2;

/// What a block tells the rules.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BlockCtx {
    /// Its height; genesis is 0.
    pub height: u64,
    /// Its timestamp: ledger time.
    pub now: Timestamp,
    /// Its parent's.
    pub parent_time: Timestamp,
    /// Its randomness.
    pub randomness: [u8; 32],
    /// The key of the validator that proposed it.
    pub proposer: [u8; 32],
}

/// When a block must come although no transaction waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Due {
    /// At once.
    Now,
    /// At this ledger time.
    At(Timestamp),
    /// Not before the next transaction.
    Never,
}

/// When the next block is due on a state.
#[must_use]
pub fn next_due(state: &dyn StateRead) -> Due {
    let Some(env) = Env::load(state) else { return Due::Never };
    let waits = (any(state, &[ORDER_PENDING]) && !governance::matching(state, &env))
        || any(state, &[OFFER_AGEING])
        || state.get(&meta(META_WAKE)).is_some()
        || service::failover::waits(state);
    if waits {
        return Due::Now;
    }
    let epoch = (tables::counts(state).live > 0).then(|| env.zone.epoch_start(env.epoch().saturating_add(1)));
    let timer = keys_with(state, &[TIMER], 1).first().and_then(|k| head_number(k));
    let timer = timer.map(|at| Timestamp(at).plus(env.clock.halted));
    let audits = match audits::due(state, &env) {
        Some(Due::Now) => return Due::Now,
        Some(Due::At(at)) => Some(at),
        Some(Due::Never) | None => None,
    };
    match epoch.into_iter().chain(timer).chain(terms::due(state, &env)).chain(audits).min() {
        Some(at) if at <= env.now() => Due::Now,
        Some(at) => Due::At(at),
        None => Due::Never,
    }
}

/// How long the zone stood still: the whole gap since the parent, if a block was due more than [`HALT_EPOCHS`] ago. An idle
/// zone makes no blocks, so a gap in which none was due is no halt.
fn halt(state: &dyn StateRead, env: &Env, ctx: &BlockCtx) -> Millis {
    let due = match next_due(state) {
        Due::Never => return Millis(0),
        Due::Now => ctx.parent_time,
        Due::At(at) => at.max(ctx.parent_time),
    };
    if ctx.now.since(due) > env.epochs(HALT_EPOCHS) { ctx.now.since(ctx.parent_time) } else { Millis(0) }
}

/// Opens a block: notes its time, lengthens windows by a halt, records the epoch.
pub fn begin_block(state: &mut dyn StateWrite, ctx: &BlockCtx) -> Vec<Event> {
    let mut events = Vec::new();
    let Some(mut env) = Env::load(state) else { return events };
    let halted = Millis(env.clock.halted.0.saturating_add(halt(state, &env, ctx).0));
    env.clock = Clock { height: ctx.height, time: ctx.now.max(env.clock.time), halted };
    put(state, meta(META_CLOCK), &env.clock);
    governance::activate(state, &mut env, &mut events);
    if !governance::known(&env) {
        // A program that does not know the rules does nothing of its own: see `supported`.
        return events;
    }
    beacon::note(state, ctx);
    proofs::record_epoch(state, &env, &ctx.randomness, &mut events);
    events
}

/// Closes a block: everything that happens by itself.
pub fn end_block(state: &mut dyn StateWrite, ctx: &BlockCtx) -> Vec<Event> {
    let mut events = Vec::new();
    let Some(env) = Env::within(state, ctx).filter(governance::known) else { return events };
    age_offers(state, &env);
    fire_timers(state, &env, &mut events);
    // A vote that was carried out just now holds for all that follows.
    let Some(env) = Env::within(state, ctx) else { return events };
    audits::end_block(state, &env, &mut events);
    market::wake_waiting(state, &env);
    // Leases that lost their node come before orders; all share the block's time for draws.
    let spent = service::failover::draw(state, &env, &ctx.randomness, &mut events);
    if !governance::matching(state, &env) {
        market::draw(state, &env, &ctx.randomness, spent, &mut events);
    }
    bank::distribute_fees(state, &env, &ctx.proposer);
    terms::advance(state, &env, &ctx.proposer, &mut events);
    // A lease that was taken in this block needs its epoch; the next block may be an epoch away.
    proofs::record_epoch(state, &env, &ctx.randomness, &mut events);
    proofs::prune(state, &env);
    governance::prune(state);
    reputation::prune(state, &env);
    load::close(state, &env);
    events
}

fn age_offers(s: &mut dyn StateWrite, env: &Env) {
    let end = key(OFFER_AGEING, &[&env.clock.height.saturating_add(1).to_be_bytes()]);
    let aged = keys_between(s, &[OFFER_AGEING], &end, MAX_AGED_PER_BLOCK);
    for k in &aged {
        s.delete(k);
    }
    if !aged.is_empty() {
        market::wake(s);
    }
}

fn fire_timers(s: &mut dyn StateWrite, env: &Env, events: &mut Vec<Event>) {
    let end = key(TIMER, &[&env.shifted().0.saturating_add(1).to_be_bytes()]);
    for k in keys_between(s, &[TIMER], &end, MAX_TIMERS_PER_BLOCK) {
        // A timer that an earlier one of this block moved or removed is not due any more.
        if s.get(&k).is_none() {
            continue;
        }
        s.delete(&k);
        match (k.get(9).copied(), tail_id(&k)) {
            (Some(kind), Some(id)) if kind == TimerKind::Order as u8 => market::order_timer(s, env, &OrderId(id), events),
            (Some(kind), Some(id)) if kind == TimerKind::Governance as u8 => governance::timer(s, env, &id, events),
            (Some(kind), Some(id)) if kind == TimerKind::Deposit as u8 => stake::timer(s, env, &id, events),
            (Some(kind), Some(id)) if kind == TimerKind::Market as u8 => market::tenure::timer(s, env, &LeaseId(id), events),
            (Some(kind), Some(id)) if kind == TimerKind::Service as u8 => service::failover::timer(s, env, &LeaseId(id), events),
            (Some(kind), Some(id)) if kind == TimerKind::Grant as u8 => grants::timer(s, &GrantId(id), events),
            (Some(kind), Some(id)) if kind == TimerKind::Channel as u8 => channels::timer(s, env, &ChannelId(id), events),
            (Some(kind), Some(id)) if kind == TimerKind::Credential as u8 => credentials::timer(s, env, &CredentialId(id), events),
            (Some(kind), Some(id)) if kind == TimerKind::Keys as u8 => keys::timer(s, env, &AccountId(id), events),
            (Some(_), Some(id)) => lease::lease_timer(s, env, &LeaseId(id), events),
            _ => {}
        }
    }
}
