//! After a de-rate: the youngest leases of a node end until what is left fits what it has proven. Spec: `docs/specs/audits.md` §6.
//!
//! Guarantees: the youngest end first, and no more of them than must; what they served is settled like any other end.

use super::draw::{dequeue, enqueue};
use super::records::AuditState;
use super::{EXCESS, due_keys, queue_key, rate};
use crate::env::Env;
use crate::records::{Lease, Party};
use crate::tables::{self, LEASE_OPEN, head_number, key, keys_with, tail_id};
use crate::{lease, market, seams};
use pasture_types::event::Event;
use pasture_types::lease::{EndReason, LeaseState};
use pasture_types::state::StateWrite;
use pasture_types::{LeaseId, Millis, NodeId};

/// Most nodes whose leases one block ends.
const MAX_NODES_PER_BLOCK: usize = 16;
/// Most open leases of a node that are looked at in one block; the rest in the next.
const MAX_LEASES_PER_NODE: usize = 256;

pub(super) fn end_due(s: &mut dyn StateWrite, env: &Env, all: &mut AuditState, events: &mut Vec<Event>) {
    for k in due_keys(s, EXCESS, env.shifted().0, MAX_NODES_PER_BLOCK) {
        dequeue(s, all, &k);
        let (Some(at), Some(node)) = (head_number(&k), tail_id(&k).map(NodeId)) else { continue };
        if seams::end_youngest(s, env, &node, events) {
            enqueue(s, all, queue_key(EXCESS, pasture_types::Timestamp(at).plus(Millis(1)), &node.0));
        }
    }
}

/// Ends the youngest leases of a node that exceed its proven CPU; whether some are left for another block.
pub(crate) fn end_youngest(s: &mut dyn StateWrite, env: &Env, id: &NodeId, events: &mut Vec<Event>) -> bool {
    let keys = keys_with(s, &key(LEASE_OPEN, &[&id.0]), MAX_LEASES_PER_NODE);
    let mut leases: Vec<Lease> =
        keys.iter().filter_map(|k| tables::lease(s, &LeaseId(tail_id(k)?))).filter(Lease::holds_resources).collect();
    leases.sort_by_key(|l| (l.matched_at, l.id));
    let fits = |s: &dyn StateWrite| tables::node(s, id).is_none_or(|node| node.committed.cpu_millis <= rate::proven_cpu(s, &node));
    while !fits(s) {
        let Some(mut youngest) = leases.pop() else { return keys.len() == MAX_LEASES_PER_NODE };
        if youngest.state == LeaseState::Matched {
            market::lapse_match(s, env, &mut youngest, events);
        } else {
            let how = lease::closing(env, EndReason::Derated, Party::Ledger);
            events.extend(lease::begin_closing(s, env, &mut youngest, how));
        }
    }
    false
}
