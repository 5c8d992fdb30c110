//! The roster: which nodes ticks may draw, in groups that are drawn as one. Spec: `docs/specs/audits.md` §2.
//!
//! Guarantees: groups are numbered without a gap, so that each is drawn with the same chance whatever its id; joining and
//! leaving take a bounded number of writes. Who is exempt is asked at the draw.

use super::records::{AuditState, NodeAudit};
use super::{GROUP, MEMBER, NEIGHBOUR, SLOT, node_audit, put_node_audit, put_state, state};
use crate::records::Node;
use crate::tables::{self, OFFER_OF_NODE, any, get, key, keys_between, mark, prefix_end, put, tail_id};
use pasture_types::event::Hash32;
use pasture_types::state::{StateRead, StateWrite};
use pasture_types::{AccountId, NodeId};

/// Most nodes that one draw audits at once; of a larger group, those that follow a drawn point.
pub(super) const MAX_GROUP_NODES: usize = 1_024;

/// A node's leases or offers changed: puts it on the roster while it has open leases, or stands to get its first.
pub(crate) fn changed(s: &mut dyn StateWrite, id: &NodeId) {
    let Some(node) = tables::node(s, id) else { return };
    let found = node_audit(s, id);
    let shown = found.as_ref().is_some_and(NodeAudit::is_shown);
    let on = found.as_ref().is_some_and(|r| r.roster.is_some());
    let wanted = wanted(s, &node, shown);
    if wanted == on {
        return;
    }
    let mut record = found.unwrap_or_else(|| NodeAudit::new(*id));
    if wanted {
        record.roster = Some(tables::clock(s).height);
        join(s, &node.provider, &record);
    } else {
        record.roster = None;
        leave(s, &node.provider, &record);
    }
    put_node_audit(s, &record);
}

/// Who is watched: nodes with open leases, and of those on offer who never passed, or lacks memory, or declares GPUs, which are matched
/// only while a proof of them stands.
pub(super) fn wanted(s: &dyn StateRead, node: &Node, shown: bool) -> bool {
    let unproven = !shown || !node.declaration.resources.gpus.is_empty();
    node.open_leases > 0 || (unproven && any(s, &key(OFFER_OF_NODE, &[&node.id.0])))
}

fn slot_key(slot: u32) -> Vec<u8> {
    key(SLOT, &[&slot.to_be_bytes()])
}

fn group_key(operator: &AccountId) -> Vec<u8> {
    key(GROUP, &[&operator.0])
}

fn join(s: &mut dyn StateWrite, operator: &AccountId, record: &NodeAudit) {
    mark(s, key(MEMBER, &[&operator.0, &record.node.0]));
    if let Some(place) = &record.place {
        mark(s, key(NEIGHBOUR, &[&place.0, &record.node.0]));
    }
    if s.get(&group_key(operator)).is_none() {
        let mut all = state(s);
        put(s, slot_key(all.groups), operator);
        put(s, group_key(operator), &all.groups);
        all.groups = all.groups.saturating_add(1);
        put_state(s, &all);
    }
}

fn leave(s: &mut dyn StateWrite, operator: &AccountId, record: &NodeAudit) {
    s.delete(&key(MEMBER, &[&operator.0, &record.node.0]));
    if let Some(place) = &record.place {
        s.delete(&key(NEIGHBOUR, &[&place.0, &record.node.0]));
    }
    if any(s, &key(MEMBER, &[&operator.0])) {
        return;
    }
    let Some(slot) = get::<u32>(s, &group_key(operator)) else { return };
    let mut all = state(s);
    all.groups = all.groups.saturating_sub(1);
    // The last group takes the slot that became free.
    if let Some(last) = get::<AccountId>(s, &slot_key(all.groups)).filter(|last| last != operator) {
        put(s, slot_key(slot), &last);
        put(s, group_key(&last), &slot);
    }
    s.delete(&slot_key(all.groups));
    s.delete(&group_key(operator));
    put_state(s, &all);
}

/// Moves a node to another place.
pub(super) fn place(s: &mut dyn StateWrite, record: &mut NodeAudit, place: Option<Hash32>) {
    if record.roster.is_some() {
        if let Some(old) = &record.place {
            s.delete(&key(NEIGHBOUR, &[&old.0, &record.node.0]));
        }
        if let Some(new) = &place {
            mark(s, key(NEIGHBOUR, &[&new.0, &record.node.0]));
        }
    }
    record.place = place;
}

/// Nodes under a prefix, at most `limit`, from a drawn point on and around.
fn around(s: &dyn StateRead, prefix: &[u8], point: &[u8; 32], limit: usize) -> Vec<NodeId> {
    let middle = [prefix, point].concat();
    let mut found = keys_between(s, &middle, &prefix_end(prefix), limit);
    let rest = limit.saturating_sub(found.len());
    found.extend(keys_between(s, prefix, &middle, rest));
    found.iter().filter_map(|k| tail_id(k)).map(NodeId).collect()
}

/// The group in a slot: its operator's nodes and, where places count, their neighbours. Each node comes once.
pub(super) fn group(s: &dyn StateRead, places: bool, slot: u32, point: &[u8; 32]) -> Vec<NodeId> {
    let Some(operator) = get::<AccountId>(s, &slot_key(slot)) else { return Vec::new() };
    let mut nodes = around(s, &key(MEMBER, &[&operator.0]), point, MAX_GROUP_NODES);
    if places {
        let mut seen: Vec<Hash32> = Vec::new();
        for node in nodes.clone() {
            let Some(place) = node_audit(s, &node).and_then(|r| r.place).filter(|p| !seen.contains(p)) else { continue };
            seen.push(place);
            let room = MAX_GROUP_NODES.saturating_sub(nodes.len());
            nodes.extend(around(s, &key(NEIGHBOUR, &[&place.0]), point, room));
        }
        nodes.sort_unstable();
        nodes.dedup();
    }
    nodes
}

/// What `check` holds the roster against.
pub(super) fn is_dense(s: &dyn StateRead, all: &AuditState) -> bool {
    let slots: Vec<AccountId> = (0..all.groups).filter_map(|n| get(s, &slot_key(n))).collect();
    let back = slots.iter().zip(0u32..).all(|(operator, slot)| get::<u32>(s, &group_key(operator)) == Some(slot));
    let end = slot_key(all.groups);
    back && slots.len() == all.groups as usize && keys_between(s, &end, &[SLOT + 1], 1).is_empty()
}
