//! Who says that a lease's node is lost: drawn observers, or its missing heartbeats. Spec: `docs/specs/settlement.md` §8.
//!
//! Guarantees: a report counts for one generation and a few epochs, an observer once; two thirds must agree. What follows from a loss is
//! `failover`'s.

use super::failover;
use super::records::Vote;
use crate::apply::Tx;
use crate::env::Env;
use crate::error::TxError;
use crate::proofs::{decided_epochs, has_heartbeat};
use crate::records::{Lease, Order};
use crate::validate::at_most;
use crate::{seams, tables};
use pasture_types::ids::derive;
use pasture_types::service::{LossReport, MAX_OBSERVERS, ObserverSignature};
use pasture_types::state::{StateRead, StateWrite};
use pasture_types::{NodeId, PublicKey, Timestamp};

/// Below so many eligible validators all of them observe.
const FEW: usize = 3;

const OBSERVER_DOMAIN: &str = "pasture 2026-11 observer draw v1";

/// Draws a lease's observers among the validators that gain nothing by a move: their operators have no candidate for the lease. Below
/// three such, all validators observe.
pub(crate) fn draw(s: &dyn StateRead, env: &Env, root: &Lease, order: &Order, seed: &[u8; 32]) -> Vec<[u8; 32]> {
    let seated = seams::seated(s);
    let mut nodes: Vec<NodeId> = order.drawn.iter().map(|d| d.node).collect();
    nodes.push(root.node);
    let operators: Vec<_> = nodes.iter().filter_map(|n| tables::node(s, n)).map(|n| n.provider).collect();
    let gains = |key: &NodeId, operator| operators.contains(operator) || nodes.contains(key);
    let eligible: Vec<[u8; 32]> = seated.iter().filter(|(key, operator)| !gains(key, operator)).map(|(key, _)| key.0).collect();
    let among = if eligible.len() < FEW { seated.into_iter().map(|(key, _)| key.0).collect() } else { eligible };
    let mut ranked: Vec<_> = among.into_iter().map(|key| (derive(OBSERVER_DOMAIN, &[seed, &key]), key)).collect();
    ranked.sort_unstable();
    let most = usize::from(env.zone.params.service.observers).clamp(1, MAX_OBSERVERS);
    ranked.into_iter().take(most).map(|(_, key)| key).collect()
}

/// Whether so many of the observers agree: two thirds of them, and so the only one of a zone with one validator.
const fn enough(votes: usize, observers: usize) -> bool {
    observers > 0 && votes * 3 >= observers * 2
}

pub(crate) fn report(
    s: &mut dyn StateWrite,
    tx: &mut Tx<'_>,
    report: &LossReport,
    signatures: &[ObserverSignature],
) -> Result<(), TxError> {
    let no = |why| Err(TxError::Loss(why));
    at_most("observers' signatures", signatures.len() as u64, MAX_OBSERVERS as u64)?;
    let root = tables::lease(s, &report.lease).ok_or_else(|| TxError::unknown("lease", &report.lease))?;
    let Some(mut record) = failover::load(s, &report.lease).filter(|_| root.is_live()) else {
        return no("the lease has no failover, or it is over");
    };
    if report.generation != root.generation {
        return no("it is of another generation of the lease");
    }
    let (now, window) = (tx.env.epoch(), tx.env.zone.params.service.report_epochs);
    if report.epoch > now || report.epoch.saturating_add(window) < now {
        return no("it is not of these periods; look again and sign for the current one");
    }
    if record.lost.is_some() {
        return no("the node is found lost already; somebody is being asked to take over");
    }
    if signatures.is_empty() {
        return no("nobody signed it");
    }
    for one in signatures {
        let Some(observer) = record.observers.iter().position(|o| *o == one.observer) else {
            return no("it is signed by somebody who does not observe this lease");
        };
        let observer = u8::try_from(observer).unwrap_or(u8::MAX);
        PublicKey::Ed25519(one.observer)
            .verify(&report.digest(), &one.signature)
            .map_err(|source| TxError::Signature { whose: "report", source })?;
        record.votes.retain(|v| v.observer != observer);
        record.votes.push(Vote { observer, epoch: report.epoch });
    }
    // Reports that nobody renewed say nothing of now.
    record.votes.retain(|v| v.epoch.saturating_add(window) >= now);
    if enough(record.votes.len(), record.observers.len()) {
        failover::lose(s, tx.env, &root, &mut record, true, &mut tx.events);
        failover::advance(s, tx.env, &root, &mut record, &mut tx.events);
    } else {
        failover::save(s, &root.id, &record);
    }
    Ok(())
}

/// The first epoch that the node of this generation had as a whole.
fn first_epoch(env: &Env, lease: &Lease) -> u64 {
    env.zone.epoch_of(lease.accepted_at.unwrap_or(lease.matched_at)).saturating_add(1)
}

fn lost_after(env: &Env) -> usize {
    usize::try_from(env.zone.params.service.lost_epochs.max(1)).unwrap_or(usize::MAX)
}

/// Whether the heartbeats of the last so many recorded epochs are missing, all of them. A halt records none and loses nobody.
pub(crate) fn heartbeats_missing(s: &dyn StateRead, env: &Env, lease: &Lease) -> bool {
    let epochs = decided_epochs(s, env, first_epoch(env, lease), lost_after(env));
    epochs.len() >= lost_after(env) && epochs.iter().all(|e| !has_heartbeat(s, &lease.node, *e))
}

/// Whether the node's heartbeat of the last decided epoch, or of a later one, is there.
pub(crate) fn heard_again(s: &dyn StateRead, env: &Env, lease: &Lease) -> bool {
    let last = decided_epochs(s, env, first_epoch(env, lease), 1).first().copied();
    // At most the epochs whose heartbeats may still come are newer than that.
    let from = last.unwrap_or_else(|| env.epoch().saturating_sub(env.zone.params.heartbeat_grace_epochs.saturating_add(1)));
    (from..=env.epoch()).any(|e| has_heartbeat(s, &lease.node, e))
}

/// When it is worth looking again: the earliest time at which enough heartbeats in a row can be missing, at least an epoch ahead.
pub(crate) fn next_look(s: &dyn StateRead, env: &Env, lease: &Lease) -> Timestamp {
    let first = first_epoch(env, lease);
    let recent = decided_epochs(s, env, first, lost_after(env));
    let heard = recent.iter().find(|e| has_heartbeat(s, &lease.node, **e)).map(|e| e.saturating_add(1));
    // Without any decided epoch that was heard, the run of missing ones began with the first that is still looked at.
    let from = heard.or_else(|| recent.last().copied()).unwrap_or(first);
    let grace = env.zone.params.heartbeat_grace_epochs;
    let decided = from.saturating_add(env.zone.params.service.lost_epochs.max(1)).saturating_add(grace);
    let at = env.shift(env.zone.epoch_start(decided)).plus(pasture_types::Millis(1));
    at.max(env.shifted().plus(env.zone.params.epoch))
}
