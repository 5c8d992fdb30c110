//! A lease's life after it was taken: usage, closing, objections, extensions. Spec: `docs/specs/settlement.md`.
//!
//! Guarantees: usage only grows and is bound to lease, node and generation; a lease has at most one timer and leaves a
//! state once. What is paid is `settle`'s to say.

use crate::apply::Tx;
use crate::env::Env;
use crate::error::TxError;
use crate::records::{Claim, Closing, Lease, Party, Ripening, Role};
use crate::service::{failover, watch};
use crate::tables::{self, TimerKind, mark, put_lease, timer_key, update_counts};
use crate::{bank, market, seams, settle, validate};
use pasture_scheduler::price_for;
use pasture_types::event::Event;
use pasture_types::keys::Signature;
use pasture_types::lease::{Countersignature, EndReason, LeaseState, SignedUsage, Usage};
use pasture_types::service::generation_id;
use pasture_types::state::{StateRead, StateWrite};
use pasture_types::{LeaseId, Millis, NodeId, PublicKey, Timestamp};

/// How far a node's clock may differ at a lease's beginning and end: not at all where a generation or a standby borders on it.
pub(crate) const fn clock_slack(lease: &Lease) -> Millis {
    match lease.role {
        Role::Primary if lease.generation == 1 || cfg!(mutant_1) => USAGE_SLACK,
        Role::Primary | Role::Standby { .. } | Role::Past { .. } => Millis(0),
    }
}

/// How far a node's clock may be ahead of the block's time, or behind the block that accepted its lease.
pub(crate) const USAGE_SLACK: Millis = Millis(2_000);
/// Epochs after a lease's cap within which its node closes it; then the ledger does.
pub(crate) const END_GRACE_EPOCHS: u64 = 3;
/// Largest build time that a usage may claim.
const MAX_BUILD: Millis = Millis(24 * 3_600_000);

pub(crate) fn set_timer(s: &mut dyn StateWrite, lease: &mut Lease, at: Option<Timestamp>) {
    if let Some(old) = lease.timer_shifted {
        s.delete(&timer_key(old, TimerKind::Lease, &lease.id.0));
    }
    if let Some(at) = at {
        mark(s, timer_key(at, TimerKind::Lease, &lease.id.0));
    }
    lease.timer_shifted = at;
}

pub(crate) const fn state_name(state: LeaseState) -> &'static str {
    match state {
        LeaseState::Matched => "matched",
        LeaseState::Accepted => "accepted",
        LeaseState::Running => "running",
        LeaseState::Closing => "closing",
        LeaseState::Closed => "closed",
    }
}

pub(crate) fn changed(lease: &Lease) -> Event {
    Event::LeaseChanged {
        lease: lease.id,
        account: lease.account,
        node: lease.node,
        state: lease.state,
        reason: lease.end_reason().cloned(),
    }
}

pub(crate) fn closing(env: &Env, reason: EndReason, by: Party) -> Closing {
    let params = &env.zone.params;
    Closing {
        reason,
        by,
        at: env.now(),
        final_shifted: env.shifted().plus(env.epochs(params.heartbeat_grace_epochs.saturating_add(1))),
        objection_shifted: env.shifted().plus(env.epochs(params.objection_epochs)),
        complete: by == Party::Node,
    }
}

fn bad_state(lease: &Lease, hint: &'static str) -> TxError {
    TxError::BadState { what: "the lease", state: state_name(lease.state).into(), hint }
}

/// In whose name a transaction acts on a lease: a node's key always acts for the node.
fn party(tx: &Tx<'_>, lease: &Lease) -> Result<Party, TxError> {
    match tx.node {
        Some(node) if node == lease.node => Ok(Party::Node),
        None if lease.account == tx.account => Ok(Party::User),
        None if lease.provider == tx.account => Ok(Party::Node),
        _ => Err(TxError::NotYours("the lease")),
    }
}

fn load(s: &dyn StateRead, id: &LeaseId) -> Result<Lease, TxError> {
    tables::lease(s, id).ok_or_else(|| TxError::unknown("lease", id))
}

/// The record that a usage is of: the lease, or the one that settles an earlier generation of it.
fn served_generation(s: &dyn StateRead, usage: &Usage) -> Result<Lease, TxError> {
    let current = load(s, &usage.lease)?;
    if let Role::Past { .. } = current.role {
        return Err(TxError::Usage("it names an earlier generation's record; name the lease itself and the generation"));
    }
    if usage.generation < current.generation {
        return Ok(tables::lease(s, &generation_id(&usage.lease, usage.generation)).unwrap_or(current));
    }
    Ok(current)
}

pub(crate) fn submit_usage(s: &mut dyn StateWrite, tx: &mut Tx<'_>, signed: &SignedUsage) -> Result<(), TxError> {
    take_usage(s, tx, &signed.usage, signed.node, Some(&signed.node_signature), signed.countersignature.as_ref())
}

/// Takes a node's usage. Its signature is absent where the envelope's stands for it. A refusal has written nothing.
pub(crate) fn take_usage(
    s: &mut dyn StateWrite,
    tx: &mut Tx<'_>,
    usage: &Usage,
    node: NodeId,
    signature: Option<&Signature>,
    countersignature: Option<&Countersignature>,
) -> Result<(), TxError> {
    let mut lease = served_generation(s, usage)?;
    let by = party(tx, &lease)?;
    let env = tx.env;
    if !lease.is_live() && lease.state != LeaseState::Closing {
        return Err(bad_state(&lease, "usage is taken once the lease is accepted and until it is settled"));
    }
    check_usage(env, &lease, usage, node)?;
    if let Some(signature) = signature {
        PublicKey::from(node).verify(&usage.digest(), signature).map_err(|source| TxError::Signature { whose: "usage", source })?;
    }
    settle::ripen(env, &mut lease);
    if lease.last_claim().served.0 == 0 {
        lease.started_at = Some(usage.started);
        lease.metered.until = usage.started;
    }
    match countersignature {
        Some(counter) => {
            // First: a watcher's word is counted against its grant, which a refusal within a bundle does not undo.
            may_confirm(&lease, usage)?;
            check_countersignature(s, env, &mut lease, usage, counter)?;
            take_confirmed(&mut lease, usage, by);
        }
        None => take_bare(env, &mut lease, usage)?,
    }
    tx.events.push(Event::UsageRecorded {
        lease: lease.id,
        account: lease.account,
        served_ms: usage.served_ms,
        countersigned: countersignature.is_some(),
        confirmed_by: countersignature.map(|c| c.account),
    });
    if lease.state == LeaseState::Accepted {
        lease.state = LeaseState::Running;
        tx.events.push(changed(&lease));
    }
    match lease.state {
        LeaseState::Closing => set_timer(s, &mut lease, Some(env.shifted())),
        _ => {
            let end = end_timer(env, &lease);
            set_timer(s, &mut lease, Some(end));
            // What nobody objected to in time is as good as confirmed: a lease without a countersigner is paid as it goes, too.
            settle::interim(s, env, &mut lease);
        }
    }
    put_lease(s, &lease.id.clone(), &lease);
    Ok(())
}

/// When the ledger ends a running lease by itself: its cap and some grace, less halts. Without service yet (building), the
/// cap counts from the end of the start window.
fn end_timer(env: &Env, lease: &Lease) -> Timestamp {
    let accepted = lease.accepted_at.unwrap_or(lease.matched_at);
    let from = match lease.started_at {
        Some(at) if lease.last_claim().served.0 > 0 => at,
        _ => accepted.plus(env.zone.params.start_window),
    };
    env.shift(from.plus(lease.max_duration)).plus(env.epochs(END_GRACE_EPOCHS))
}

/// What every usage must satisfy, countersigned or not.
fn check_usage(env: &Env, lease: &Lease, usage: &Usage, node: NodeId) -> Result<(), TxError> {
    let no = |why| Err(TxError::Usage(why));
    if node != lease.node {
        return no("another node serves this lease; only its usage counts");
    }
    if usage.generation != lease.generation {
        return no("it is of another generation of the lease; sign for the current one");
    }
    let Some(accepted) = lease.accepted_at else { return no("the lease was never accepted") };
    // A lease that moved here begins exactly where the generation before it ends: no time is paid twice.
    if usage.started.plus(clock_slack(lease)) < accepted {
        return no("it begins before the lease was accepted; check the node's clock");
    }
    if usage.started.0.checked_add(usage.served_ms.0).is_none() || usage.served_until() > env.now().plus(USAGE_SLACK) {
        return no("it claims service that lies in the future; check the node's clock");
    }
    let spent = usage.build_ms.0.saturating_add(usage.served_ms.0);
    if usage.build_ms > MAX_BUILD || spent > env.now().plus(USAGE_SLACK).plus(USAGE_SLACK).since(accepted).0 {
        return no("it claims more building and service than time has passed since the lease was accepted");
    }
    if usage.steal_ms > usage.served_ms {
        return no("it says that capacity checks took more than was served");
    }
    if usage.epoch > env.zone.epoch_of(env.now().plus(USAGE_SLACK)) || usage.epoch < env.zone.epoch_of(usage.started) {
        return no("its period lies outside the lease's time");
    }
    let began = lease.last_claim().served.0 > 0;
    if began && lease.started_at.is_some_and(|at| at != usage.started) {
        return no("its beginning differs from the one recorded");
    }
    Ok(())
}

fn check_countersignature(
    s: &mut dyn StateWrite,
    env: &Env,
    lease: &mut Lease,
    usage: &Usage,
    counter: &Countersignature,
) -> Result<(), TxError> {
    let whose = "countersignature";
    let by_user = counter.account == lease.account;
    if !by_user && lease.watch.is_none_or(|w| w.account != counter.account) {
        return Err(TxError::KeyNotAllowed { key: counter.key.to_string(), whose: "the lease's account" });
    }
    let account = tables::account(s, &counter.account).ok_or_else(|| TxError::UnknownAccount(counter.account.short()))?;
    if by_user && account.keys.binary_search(&counter.key).is_err() {
        return Err(TxError::KeyNotAllowed { key: counter.key.to_string(), whose: "the lease's account" });
    }
    counter.key.verify(&usage.counter_digest(), &counter.signature).map_err(|source| TxError::Signature { whose, source })?;
    if !by_user {
        watch::confirm(s, env, lease, usage, &counter.account, &counter.key)?;
    }
    lease.confirmed_by = (!by_user).then_some(counter.account);
    Ok(())
}

/// Whether `next` is at least `last` in every cumulative part.
fn grows(last: &Usage, next: &Usage) -> bool {
    next.epoch >= last.epoch
        && next.served_ms >= last.served_ms
        && next.build_ms >= last.build_ms
        && next.log_bytes >= last.log_bytes
        && next.steal_ms >= last.steal_ms
}

/// Whether a confirmation adds to what was confirmed before.
fn may_confirm(lease: &Lease, usage: &Usage) -> Result<(), TxError> {
    if let Some(last) = &lease.confirmed {
        if !grows(last, usage) {
            return Err(TxError::Usage("it is less than what was countersigned before"));
        }
        if last == usage && lease.closing.as_ref().is_none_or(|c| c.complete) {
            return Err(TxError::Recorded("this usage"));
        }
    }
    Ok(())
}

fn take_confirmed(lease: &mut Lease, usage: &Usage, by: Party) {
    // The user may confirm less than the node claimed without it; the claim then stays open beyond.
    if lease.last.as_ref().is_none_or(|last| grows(last, usage)) {
        lease.last = Some(usage.clone());
    }
    lease.confirmed = Some(usage.clone());
    // Only the node can say that nothing more comes: a user could cut off what the node has not yet sent.
    if let Some(closing) = &mut lease.closing {
        closing.complete |= by == Party::Node;
    }
}

fn take_bare(env: &Env, lease: &mut Lease, usage: &Usage) -> Result<(), TxError> {
    if let Some(last) = &lease.last {
        if !grows(last, usage) {
            return Err(TxError::Usage("it is less than what was recorded before"));
        }
        if last == usage {
            return Err(TxError::Recorded("this usage"));
        }
    }
    if let Some(closing) = &mut lease.closing {
        if closing.complete || env.shifted() > closing.final_shifted {
            return Err(TxError::Late("the lease is closed, so that only countersigned usage is taken now"));
        }
        // The user gets the whole window to look at what came late.
        let window = env.epochs(env.zone.params.objection_epochs);
        closing.objection_shifted = closing.objection_shifted.max(env.shifted().plus(window));
    }
    lease.last = Some(usage.clone());
    if lease.ripening.is_none() {
        lease.ripening = Some(Ripening { claim: Claim::of(usage), since_shifted: env.shifted() });
    }
    Ok(())
}

pub(crate) fn close_lease(s: &mut dyn StateWrite, tx: &mut Tx<'_>, id: &LeaseId, reason: &EndReason) -> Result<(), TxError> {
    let mut lease = load(s, id)?;
    let by = party(tx, &lease)?;
    if by == Party::User && !matches!(reason, EndReason::StoppedByUser | EndReason::ServiceStopped) {
        return Err(TxError::Invalid("a user closes a lease as stopped by the user or because service stopped".into()));
    }
    match lease.state {
        LeaseState::Matched if by == Party::User => {
            market::abandon_match(s, tx, &mut lease, reason.clone());
            Ok(())
        }
        LeaseState::Matched => Err(bad_state(&lease, "reject it instead")),
        LeaseState::Accepted | LeaseState::Running => {
            market::tenure::may_end(tx.env, &lease, by, reason)?;
            if by == Party::User {
                market::tenure::leave(s, tx.env, &mut lease, reason, &mut tx.events);
            }
            // What nobody objected to in time stays paid, whatever is said now.
            settle::ripen(tx.env, &mut lease);
            lease.disputed |= by == Party::User && *reason == EndReason::ServiceStopped;
            let events = begin_closing(s, tx.env, &mut lease, closing(tx.env, reason.clone(), by));
            tx.events.extend(events);
            Ok(())
        }
        // The node says that nothing more comes, so that settlement need not wait for it.
        LeaseState::Closing if by == Party::Node && lease.closing.as_ref().is_some_and(|c| !c.complete) => {
            if let Some(c) = &mut lease.closing {
                c.complete = true;
            }
            set_timer(s, &mut lease, Some(tx.env.shifted()));
            put_lease(s, id, &lease);
            Ok(())
        }
        LeaseState::Closing | LeaseState::Closed => Err(bad_state(&lease, "it has ended already")),
    }
}

/// Ends a live lease: its machine is free, its service is over, its settlement begins at the end of this block.
pub(crate) fn begin_closing(s: &mut dyn StateWrite, env: &Env, lease: &mut Lease, how: Closing) -> Vec<Event> {
    settle::ripen(env, lease);
    market::free_resources(s, lease);
    update_counts(s, |c| c.live = c.live.saturating_sub(1));
    lease.state = LeaseState::Closing;
    lease.closing = Some(how);
    set_timer(s, lease, Some(env.shifted()));
    put_lease(s, &lease.id.clone(), lease);
    let mut events = vec![changed(lease)];
    failover::on_close(s, env, lease, &mut events);
    events
}

pub(crate) fn object(s: &mut dyn StateWrite, tx: &mut Tx<'_>, id: &LeaseId) -> Result<(), TxError> {
    let mut lease = load(s, id)?;
    if tx.node.is_some() || lease.account != tx.account {
        return Err(TxError::NotYours("the lease"));
    }
    let env = tx.env;
    if !lease.is_live() && lease.state != LeaseState::Closing {
        return Err(bad_state(&lease, "only usage of an open lease can be objected to"));
    }
    settle::ripen(env, &mut lease);
    if lease.disputed {
        return Err(TxError::Objection("you have objected to this lease already"));
    }
    if lease.last_claim() == lease.accepted_claim() && lease.is_live() {
        return Err(TxError::Objection("no usage waits for one; close the lease if service stopped"));
    }
    if lease.is_live() {
        market::tenure::leave(s, env, &mut lease, &EndReason::ServiceStopped, &mut tx.events);
    }
    object_to(s, tx, lease);
    Ok(())
}

/// An objection by the user, or by a watcher in its place: what is not accepted is in dispute, and the lease ends.
pub(crate) fn object_to(s: &mut dyn StateWrite, tx: &mut Tx<'_>, mut lease: Lease) {
    let env = tx.env;
    lease.disputed = true;
    if lease.state == LeaseState::Closing {
        set_timer(s, &mut lease, Some(env.shifted()));
        put_lease(s, &lease.id.clone(), &lease);
        return;
    }
    let how = closing(env, EndReason::ServiceStopped, Party::User);
    let events = begin_closing(s, env, &mut lease, how);
    tx.events.extend(events);
}

pub(crate) fn extend(s: &mut dyn StateWrite, tx: &mut Tx<'_>, id: &LeaseId, duration: Millis) -> Result<(), TxError> {
    let mut lease = load(s, id)?;
    if tx.node.is_some() || lease.account != tx.account {
        return Err(TxError::NotYours("the lease"));
    }
    if !lease.is_live() {
        return Err(bad_state(&lease, "only an accepted or running lease can be extended"));
    }
    if lease.role != Role::Primary {
        return Err(TxError::Invalid("a standby lasts as long as the lease that it is for; extend that one".into()));
    }
    if duration.0 == 0 {
        return Err(TxError::Invalid("an extension by nothing; give a duration".into()));
    }
    let env = tx.env;
    let longest = market::tenure::extension_limit(env, &lease);
    market::tenure::may_extend(&lease, duration)?;
    let total = lease.max_duration.0.saturating_add(duration.0);
    validate::at_most("milliseconds of duration, extensions included", total, longest.0)?;
    let extended = lengthen(s, env, &mut lease, duration)?;
    tx.events.push(extended);
    Ok(())
}

/// Puts more on hold for a live lease and lets it run so much longer.
pub(crate) fn lengthen(s: &mut dyn StateWrite, env: &Env, lease: &mut Lease, duration: Millis) -> Result<Event, TxError> {
    let total = lease.max_duration.0.saturating_add(duration.0);
    let more = price_for(lease.rate_per_hour, duration);
    // Asked before anything changes: a renewal by the ledger is no transaction that would be undone.
    let (needs, has) = (more, bank::balance(s, &lease.account, lease.asset));
    if has < needs {
        return Err(TxError::InsufficientBalance { what: "the extension", needs, has });
    }
    seams::may_extend(s, env, lease, Millis(total))?;
    bank::debit(s, &lease.account, lease.asset, more, "the extension")?;
    lease.escrow = lease.escrow.saturating_add(more);
    lease.held = lease.held.saturating_add(more);
    lease.max_duration = Millis(total);
    if lease.state == LeaseState::Running {
        let end = end_timer(env, lease);
        set_timer(s, lease, Some(end));
    }
    market::tenure::lengthened(s, env, lease, duration);
    put_lease(s, &lease.id.clone(), lease);
    let from = lease.started_at.or(lease.accepted_at).unwrap_or(lease.matched_at);
    Ok(Event::LeaseExtended { lease: lease.id, node: lease.node, ends: from.plus(lease.max_duration) })
}

/// A lease's timer fired.
pub(crate) fn lease_timer(s: &mut dyn StateWrite, env: &Env, id: &LeaseId, events: &mut Vec<Event>) {
    let Some(mut lease) = tables::lease(s, id) else { return };
    match lease.state {
        LeaseState::Matched => market::lapse_match(s, env, &mut lease, events),
        LeaseState::Accepted | LeaseState::Running => {
            let reason = if reached_cap(env, &lease) { EndReason::CapReached } else { EndReason::Lost };
            let changes = begin_closing(s, env, &mut lease, closing(env, reason, Party::Ledger));
            events.extend(changes);
        }
        LeaseState::Closing => settle::settle(s, env, &mut lease, events),
        LeaseState::Closed => set_timer(s, &mut lease, None),
    }
}

/// Whether the node reported service until close to the cap.
fn reached_cap(env: &Env, lease: &Lease) -> bool {
    lease.last_claim().served.0.saturating_add(env.epochs(2).0) >= lease.max_duration.0 && lease.last_claim().served.0 > 0
}
