//! A lease moves: its generation rises, the old one becomes a record of its own, the new node serves on. Spec: `docs/specs/settlement.md`
//! §8.
//!
//! Guarantees: the old generation keeps on hold what it can have earned until the move and not more; the new one begins at that very
//! moment, so that no time is paid twice; machines, indexes and counters move in the same step.

use super::failover::{self, begin_generation, refuse};
use super::observers;
use super::records::Failover;
use crate::env::Env;
use crate::lease::{begin_closing, changed, closing, set_timer};
use crate::records::{Claim, Lease, Metered, Paid, Party, Role};
use crate::tables::{self, LEASE_OF_ACCOUNT, LEASE_OF_NODE, LEASE_OPEN, key, mark, put_lease, update_counts};
use crate::{market, seams, service::halts, settle};
use pasture_scheduler::{affordable, price_for};
use pasture_types::event::Event;
use pasture_types::lease::{EndReason, LeaseState};
use pasture_types::market::LeaseLine;
use pasture_types::service::{ServiceEvent, generation_id};
use pasture_types::state::StateWrite;
use pasture_types::{Amount, Millis, Timestamp};

/// How long a generation has had its lease.
fn age(env: &Env, root: &Lease) -> Millis {
    env.now().since(root.accepted_at.unwrap_or(root.matched_at))
}

/// How much of its time a lease has left, counted from when this generation took it.
pub(crate) fn remaining(env: &Env, root: &Lease) -> Millis {
    Millis(root.max_duration.0.saturating_sub(age(env, root).0))
}

fn paid(lease: &Lease) -> Amount {
    lease.paid.provider.saturating_add(lease.paid.treasury).saturating_add(lease.paid.model)
}

/// What the current generation can have earned until now: building and service together last no longer than it had the lease.
fn earned_at_most(env: &Env, root: &Lease) -> Amount {
    let most = price_for(root.rate_per_hour, Millis(age(env, root).0.saturating_add(crate::lease::USAGE_SLACK.0)));
    most.max(paid(root)).min(root.escrow)
}

/// What is left of the escrow for whoever serves next.
pub(crate) fn rest_of_escrow(env: &Env, root: &Lease) -> Amount {
    root.escrow.saturating_sub(earned_at_most(env, root))
}

/// Moves a lost lease to its standby, if that is ready and heard of.
pub(crate) fn try_standby(s: &mut dyn StateWrite, env: &Env, root: &Lease, record: &mut Failover, events: &mut Vec<Event>) -> bool {
    let Some(standby) = record.standby.and_then(|x| tables::lease(s, &x.lease)) else { return false };
    if !standby.is_live() || observers::heartbeats_missing(s, env, &standby) {
        return false;
    }
    move_to(s, env, root.clone(), standby, record, events);
    true
}

fn move_to(s: &mut dyn StateWrite, env: &Env, mut root: Lease, mut standby: Lease, record: &mut Failover, events: &mut Vec<Event>) {
    let full_rate = record.standby.map_or(standby.rate_per_hour, |x| x.full_rate);
    // Forgotten first, so that the standby's end does not have another one drawn for the old generation.
    record.standby = None;
    refuse(record, &root);
    failover::save(s, &root.id, record);
    let how = closing(env, EndReason::TookOver, Party::Ledger);
    let more = begin_closing(s, env, &mut standby, how);
    events.extend(more);
    let (from, past_escrow) = (root.node, earned_at_most(env, &root));
    let left = remaining(env, &root);
    let past = part(s, env, &mut root, past_escrow, events);
    let rest = root.escrow.saturating_sub(past_escrow);
    root.generation = root.generation.saturating_add(1);
    (root.node, root.provider, root.offer) = (standby.node, standby.provider, standby.offer);
    (root.rate_per_hour, root.offer_max_duration) = (full_rate, standby.offer_max_duration);
    root.resources = standby.resources.clone();
    root.tenure.lines = scaled(&standby.tenure.lines, full_rate);
    root.max_duration = left.min(affordable(rest, full_rate));
    (root.escrow, root.held, root.paid) = (rest, rest, Paid::default());
    root.state = LeaseState::Accepted;
    (root.accepted_at, root.started_at) = (Some(env.now()), None);
    (root.last, root.confirmed, root.confirmed_by) = (None, None, None);
    (root.ripened, root.ripening, root.evidence) = (Claim::default(), None, None);
    (root.metered, root.interim_epoch) = (Metered::default(), env.epoch());
    root.halt_grace = halts::of_node(s, env, &root.node);
    root.timer_shifted = None;
    set_timer(s, &mut root, Some(env.shifted().plus(env.zone.params.start_window)));
    settle_in(s, env, &root);
    put_lease(s, &root.id.clone(), &root);
    let (lease, account, to, generation) = (root.id, root.account, root.node, root.generation);
    events.push(Event::Service(ServiceEvent::LeaseMoved { lease, account, from, to, generation, past }));
    events.push(changed(&root));
    begin_generation(s, env, &root, record);
}

/// The old generation becomes a closing record of its own: it takes over its node's index entries and keeps its part of the escrow.
fn part(s: &mut dyn StateWrite, env: &Env, root: &mut Lease, escrow: Amount, events: &mut Vec<Event>) -> pasture_types::LeaseId {
    settle::ripen(env, root);
    market::free_resources(s, root);
    set_timer(s, root, None);
    let mut past = root.clone();
    past.id = generation_id(&root.id, root.generation);
    past.role = Role::Past { of: root.id };
    past.state = LeaseState::Closing;
    // A node that was cut off has the objection window, too, to come back and say what it served.
    let mut how = closing(env, EndReason::Lost, Party::Ledger);
    how.final_shifted = how.final_shifted.plus(env.epochs(env.zone.params.objection_epochs));
    past.closing = Some(how);
    past.held = escrow.saturating_sub(paid(root));
    past.escrow = escrow;
    set_timer(s, &mut past, Some(env.shifted()));
    let at = past.matched_at.0.to_be_bytes();
    s.delete(&key(LEASE_OPEN, &[&past.node.0, &root.id.0]));
    s.delete(&key(LEASE_OF_NODE, &[&past.node.0, &at, &root.id.0]));
    index(s, &past, past.matched_at);
    mark(s, key(LEASE_OF_ACCOUNT, &[&past.account.0, &at, &past.id.0]));
    update_counts(s, |c| c.open = c.open.saturating_add(1));
    // The part of the deposit that answers for what was served goes with it.
    seams::lease_closed(s, root);
    seams::lease_opened(s, env, &past);
    put_lease(s, &past.id.clone(), &past);
    events.push(changed(&past));
    past.id
}

fn index(s: &mut dyn StateWrite, lease: &Lease, at: Timestamp) {
    mark(s, key(LEASE_OPEN, &[&lease.node.0, &lease.id.0]));
    mark(s, key(LEASE_OF_NODE, &[&lease.node.0, &at.0.to_be_bytes(), &lease.id.0]));
}

/// The lease holds its new node's machine, which its standby has just given back.
fn settle_in(s: &mut dyn StateWrite, env: &Env, root: &Lease) {
    index(s, root, root.matched_at);
    // Its node served the standby until now, so that it exists and has the room.
    let _ = market::index::hold(s, root);
    seams::lease_opened(s, env, root);
    seams::node_changed(s, &root.node);
}

/// Lines at another rate for all of them: each in proportion, rounded down, what is left over on the first.
pub(crate) fn scaled(lines: &[LeaseLine], rate: Amount) -> Vec<LeaseLine> {
    let whole = lines.iter().fold(Amount::ZERO, |sum, l| sum.saturating_add(l.rate_per_hour));
    let part = |l: &LeaseLine| l.rate_per_hour.mul_div(rate.0, whole.0).unwrap_or(Amount::ZERO);
    let mut out: Vec<_> =
        lines.iter().map(|l| LeaseLine { rate_per_hour: if whole.is_zero() { whole } else { part(l) }, ..l.clone() }).collect();
    let sum = out.iter().fold(Amount::ZERO, |sum, l| sum.saturating_add(l.rate_per_hour));
    if let Some(first) = out.first_mut() {
        first.rate_per_hour = first.rate_per_hour.saturating_add(rate.saturating_sub(sum));
    }
    out
}
