//! Typed reads of audits for the gateway, the machines and tests.
//!
//! Guarantees: reads only, pages are bounded.

use super::records::{AuditRecord, AuditState, NodeAudit};
use super::{AUDIT_DUE, audit as load, node_audit as of_node, state, tail_number};
use crate::tables::{self, keys_with};
use pasture_types::NodeId;
use pasture_types::state::StateRead;

/// Most open audits of one page.
const MAX_PAGE: usize = crate::query::MAX_PAGE;

/// Where the draws stand.
#[must_use]
pub fn audit_state(s: &dyn StateRead) -> AuditState {
    state(s)
}

/// What audits know of a node.
#[must_use]
pub fn node_audit(s: &dyn StateRead, node: &NodeId) -> Option<NodeAudit> {
    of_node(s, node)
}

/// An audit, open or over, while its record is kept.
#[must_use]
pub fn audit(s: &dyn StateRead, number: u64) -> Option<AuditRecord> {
    load(s, number)
}

/// Where [`audit`] is kept.
#[must_use]
pub fn audit_key(number: u64) -> Vec<u8> {
    super::audit_key(number)
}

/// Audits that are open, the first due first.
#[must_use]
pub fn open_audits(s: &dyn StateRead) -> Vec<AuditRecord> {
    keys_with(s, &[AUDIT_DUE], MAX_PAGE).iter().filter_map(|k| load(s, tail_number(k)?)).collect()
}

/// The CPU that a node may lease out after audits, in milli-cores.
#[must_use]
pub fn proven_cpu_millis(s: &dyn StateRead, node: &NodeId) -> Option<u32> {
    Some(super::rate::proven_cpu(s, &tables::node(s, node)?))
}
