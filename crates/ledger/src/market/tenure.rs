//! Leases that go on: top-ups, renewals at the locked price, warnings, leaving early, notice. Spec: `docs/specs/market.md` §6.
//!
//! Guarantees: a lease's rate never changes; the ledger by itself puts no more on hold than the order's budget; a lease has at
//! most one timer here, none once it closes. What is paid for service is `settle`'s to say.

use super::records::Tenure;
use crate::apply::Tx;
use crate::env::Env;
use crate::error::TxError;
use crate::proofs::{EpochProof, epoch_proof};
use crate::records::{Lease, Offer, Order, Party};
use crate::tables::{self, TimerKind, mark, put_lease, timer_key};
use crate::{bank, lease, seams};
use pasture_scheduler::{affordable, price_for};
use pasture_types::event::Event;
use pasture_types::lease::EndReason;
use pasture_types::market::{LeaseLine, Term, open_for};
use pasture_types::market_rules::{MarketEvent, PPM};
use pasture_types::state::{StateRead, StateWrite};
use pasture_types::{Amount, LeaseId, Millis, Timestamp};

/// Leaving early costs nothing if the node proved none of so many epochs before: it was not there.
const PROOF_EPOCHS: u64 = 3;
/// A timer here is set at least this far ahead, so that it cannot spin.
const LEAST_AHEAD: Millis = Millis(1_000);

/// On which terms an order's match is taken.
pub(crate) fn of_order(order: &Order, lines: Vec<LeaseLine>, span: Millis) -> Tenure {
    let terms = &order.terms;
    let (renew, span) = match terms.term {
        Term::Fixed | Term::Open => (false, span),
        Term::Rental { unit, renew, .. } => (renew, unit.length()),
    };
    Tenure { lines, term: terms.term, budget: terms.budget, span, renew, preemptible: terms.preemptible, ..Tenure::default() }
}

/// How long a lease may become by extensions: what the offer takes or keeps its price for, and while it is available.
pub(crate) fn longest(env: &Env, order: &Order, offer: &Offer) -> Millis {
    let terms = &offer.terms;
    let by_term = match order.terms.term {
        Term::Fixed => terms.max_duration,
        Term::Open => terms.price_lock,
        Term::Rental { .. } => pasture_scheduler::lock_wanted(&order.terms),
    };
    if order.terms.preemptible {
        return by_term;
    }
    by_term.min(open_for(&terms.windows, env.now()).unwrap_or_default())
}

/// The bound of a lease's whole length, extensions included.
pub(crate) fn extension_limit(env: &Env, lease: &Lease) -> Millis {
    let params = &env.zone.params;
    let most = match lease.tenure.term {
        Term::Fixed => params.max_lease,
        Term::Open | Term::Rental { .. } => params.market.max_rental,
    };
    most.min(lease.offer_max_duration)
}

/// Whether a lease may be extended by a time: a rental by whole units only.
pub(crate) fn may_extend(lease: &Lease, by: Millis) -> Result<(), TxError> {
    match lease.tenure.term {
        Term::Rental { unit, .. } if !by.0.is_multiple_of(unit.length().0) => {
            Err(TxError::Invalid("a rental is extended by whole units; give a multiple of its hour or month".into()))
        }
        _ => Ok(()),
    }
}

fn set_timer(s: &mut dyn StateWrite, lease: &mut Lease, at: Option<Timestamp>) {
    if let Some(old) = lease.tenure.timer_shifted {
        s.delete(&timer_key(old, TimerKind::Market, &lease.id.0));
    }
    if let Some(at) = at {
        mark(s, timer_key(at, TimerKind::Market, &lease.id.0));
    }
    lease.tenure.timer_shifted = at;
}

/// When a lease ends unless more is put on hold; before its service began that is as if it began now.
fn ends(env: &Env, lease: &Lease) -> Timestamp {
    lease.started_at.unwrap_or_else(|| env.now()).plus(lease.max_duration)
}

/// The last part of the span, when it is time to warn or to renew.
fn low(env: &Env, lease: &Lease) -> Millis {
    let part = u128::from(lease.tenure.span.0) * u128::from(env.zone.params.market.low_ppm) / u128::from(PPM);
    Millis(u64::try_from(part).unwrap_or(u64::MAX))
}

/// Sets the timer to when little is left. Leases of a fixed length have none.
pub(crate) fn arm(s: &mut dyn StateWrite, env: &Env, lease: &mut Lease) {
    if lease.tenure.term == Term::Fixed || !lease.is_live() {
        return;
    }
    let at = Timestamp(ends(env, lease).0.saturating_sub(low(env, lease).0));
    let at = env.shift(at).max(env.shifted().plus(LEAST_AHEAD));
    set_timer(s, lease, Some(at));
}

/// The lease holds its machine no more.
pub(crate) fn disarm(s: &mut dyn StateWrite, lease: &mut Lease) {
    set_timer(s, lease, None);
}

/// More was put on hold for a time.
pub(crate) fn lengthened(s: &mut dyn StateWrite, env: &Env, lease: &mut Lease, by: Millis) {
    lease.tenure.warned = false;
    if lease.tenure.term == Term::Open {
        lease.tenure.span = by;
    }
    arm(s, env, lease);
}

/// A lease's timer here fired: it goes on by a unit, or its user is told.
pub(crate) fn timer(s: &mut dyn StateWrite, env: &Env, id: &LeaseId, events: &mut Vec<Event>) {
    let Some(mut lease) = tables::lease(s, id) else { return };
    lease.tenure.timer_shifted = None;
    let due = env.now().plus(low(env, &lease)) >= ends(env, &lease);
    if !lease.is_live() || lease.tenure.term == Term::Fixed {
        put_lease(s, id, &lease);
    } else if !due {
        // It began later than was thought, or more was put on hold.
        arm(s, env, &mut lease);
        put_lease(s, id, &lease);
    } else if !renew(s, env, &mut lease, events) {
        let last_look = !lease.tenure.warned;
        if last_look {
            lease.tenure.warned = true;
            events.push(Event::Market(MarketEvent::LeaseLow { lease: *id, account: lease.account, ends: ends(env, &lease) }));
        }
        // Money may come in: a rental is tried once more, just before its end.
        if last_look && lease.tenure.renew {
            let at = env.shift(ends(env, &lease)).max(env.shifted().plus(LEAST_AHEAD));
            set_timer(s, &mut lease, Some(at));
        }
        put_lease(s, id, &lease);
    }
}

/// Puts a rental's next unit on hold, if it has one that the budget and the balance cover.
fn renew(s: &mut dyn StateWrite, env: &Env, lease: &mut Lease, events: &mut Vec<Event>) -> bool {
    let Term::Rental { unit, .. } = lease.tenure.term else { return false };
    let (unit, more) = (unit.length(), price_for(lease.rate_per_hour, unit.length()));
    let fits = lease.max_duration.0.saturating_add(unit.0) <= extension_limit(env, lease).0;
    if !lease.tenure.renew || !fits || lease.escrow.saturating_add(more) > lease.tenure.budget {
        return false;
    }
    let Ok(extended) = lease::lengthen(s, env, lease, unit) else { return false };
    events.push(extended);
    let ends = ends(env, lease);
    events.push(Event::Market(MarketEvent::RentalRenewed { lease: lease.id, account: lease.account, escrow: more, ends }));
    true
}

fn own(s: &dyn StateRead, tx: &Tx<'_>, id: &LeaseId) -> Result<Lease, TxError> {
    let lease = tables::lease(s, id).ok_or_else(|| TxError::unknown("lease", id))?;
    if tx.node.is_some() || lease.account != tx.account {
        return Err(TxError::NotYours("the lease"));
    }
    if lease.is_live() {
        return Ok(lease);
    }
    Err(TxError::BadState {
        what: "the lease",
        state: lease::state_name(lease.state).into(),
        hint: "only an accepted or running lease goes on",
    })
}

/// Adds money to a lease without an end: the time that it pays for, within what the offer keeps its price for.
pub(crate) fn top_up(s: &mut dyn StateWrite, tx: &mut Tx<'_>, id: &LeaseId, amount: Amount) -> Result<(), TxError> {
    let lease = own(s, tx, id)?;
    if lease.tenure.term != Term::Open {
        return Err(TxError::Invalid("only a lease without an end is topped up; extend this one by a duration".into()));
    }
    let room = extension_limit(tx.env, &lease).0.saturating_sub(lease.max_duration.0);
    let time = affordable(amount, lease.rate_per_hour).min(Millis(room));
    lease::extend(s, tx, id, time)
}

pub(crate) fn stop_renewal(s: &mut dyn StateWrite, tx: &Tx<'_>, id: &LeaseId) -> Result<(), TxError> {
    let mut lease = own(s, tx, id)?;
    if !lease.tenure.renew {
        return Err(TxError::Invalid("it is not renewed by itself; there is nothing to stop".into()));
    }
    lease.tenure.renew = false;
    put_lease(s, id, &lease);
    Ok(())
}

/// The node gives notice of the end of a preemptible lease.
pub(crate) fn preempt(s: &mut dyn StateWrite, tx: &mut Tx<'_>, id: &LeaseId) -> Result<(), TxError> {
    let mut lease = super::for_node(s, tx, id)?;
    let bad = |hint| Err(TxError::BadState { what: "the lease", state: lease::state_name(lease.state).into(), hint });
    if !lease.is_live() {
        return bad("only an accepted or running lease is preempted");
    }
    if !lease.tenure.preemptible {
        return bad("its user did not agree to an early end; let it run, or stop it as the provider");
    }
    if lease.tenure.preempt_shifted.is_some() {
        return bad("notice was given already");
    }
    let notice = tx.env.zone.params.market.preempt_notice;
    lease.tenure.preempt_shifted = Some(tx.env.shifted().plus(notice));
    put_lease(s, id, &lease);
    let (account, node, at) = (lease.account, lease.node, tx.env.now().plus(notice));
    tx.events.push(Event::Market(MarketEvent::PreemptNotice { lease: *id, account, node, at }));
    Ok(())
}

/// Whether somebody may end a live lease for a reason that the market has a say in.
pub(crate) fn may_end(env: &Env, lease: &Lease, by: Party, reason: &EndReason) -> Result<(), TxError> {
    if *reason != EndReason::Preempted {
        return Ok(());
    }
    let told = lease.tenure.preempt_shifted.is_some_and(|at| env.shifted() >= at);
    if by == Party::Node && told {
        return Ok(());
    }
    Err(TxError::Invalid("a lease is preempted by its node, after notice and the time that the notice gives".into()))
}

/// The user leaves a rental before its committed end: part of the price of the rest goes to the provider as if it had been
/// earned or, if he says that service stopped, to the treasury, so that neither gains by what he says. Nothing before service
/// began, nor if the node proved none of its last epochs.
pub(crate) fn leave(s: &mut dyn StateWrite, env: &Env, lease: &mut Lease, reason: &EndReason, events: &mut Vec<Event>) {
    let (Term::Rental { unit, committed, .. }, Some(started)) = (lease.tenure.term, lease.started_at) else { return };
    let committed_end = started.plus(Millis(unit.length().0.saturating_mul(u64::from(committed))));
    let rest = committed_end.since(env.now());
    if rest.0 == 0 || !was_there(s, env, lease, started) {
        return;
    }
    // What leaving costs was agreed to with the rental.
    let (params, ppm) = (&seams::params_of(s, env, lease), u128::from(PPM));
    let price = lease.rate_per_hour.per_hour_for(rest.0).unwrap_or_default();
    let fee = price.mul_div(u128::from(params.market.early_cancel_ppm), ppm).unwrap_or_default().min(lease.held);
    let to_provider = match reason {
        EndReason::ServiceStopped => Amount::ZERO,
        _ => fee.saturating_sub(fee.mul_div(u128::from(params.treasury_ppm), ppm).unwrap_or_default()),
    };
    let kept = seams::keep_for_deposit(s, env, &lease.provider, lease.asset, to_provider).min(to_provider);
    bank::credit(s, &lease.provider, lease.asset, to_provider.saturating_sub(kept));
    bank::to_treasury(s, lease.asset, fee.saturating_sub(to_provider));
    lease.held = lease.held.saturating_sub(fee);
    lease.escrow = lease.escrow.saturating_sub(fee);
    lease.tenure.cancel_fee = fee;
    events.push(Event::Market(MarketEvent::RentalCancelled { lease: lease.id, account: lease.account, fee }));
}

/// Whether the node proved one of the last epochs that can be proven no more.
fn was_there(s: &dyn StateRead, env: &Env, lease: &Lease, started: Timestamp) -> bool {
    let grace = env.zone.params.heartbeat_grace_epochs.saturating_add(1);
    let first = env.zone.epoch_of(started);
    let now = env.epoch();
    (1..=PROOF_EPOCHS.saturating_add(grace))
        .filter_map(|back| now.checked_sub(back))
        .filter(|epoch| *epoch >= first)
        .any(|epoch| epoch_proof(s, env, &lease.node, epoch, lease.halt_grace).0 == EpochProof::Proven)
}
