//! Memory in audits: which ones ask for it and for how much, and what stands behind it. Spec: `docs/specs/audits.md` §13.
//!
//! Guarantees: what leases hold at the draw is not asked; where memory stands failed, or was never asked, each audit asks, so that nobody
//! waits for the lot to be paid again. It changes nothing that the CPU's verdict says.

use super::judge::{Stand, now, stands};
use super::node_audit;
use super::records::NodeAudit;
use crate::env::Env;
use crate::records::Node;
use crate::seams::Capacity;
use pasture_types::audit::MemoryClaim;
use pasture_types::state::StateRead;
use pasture_types::{Millis, NodeId};

/// Filling may take this part of an epoch: of the one to two that an audit has.
const FILL_PART: u64 = 3;

/// What an audit asks of a node's memory; `None` if nothing.
pub(super) fn asked(env: &Env, node: &Node, known: &NodeAudit, mix: &[u8; 32], audit: u64) -> Option<MemoryClaim> {
    let ask = env.zone.params.audits.memory?;
    let repeated = known.open.is_some();
    let due = repeated || known.memory.is_none() || known.lacks_memory() || ask.is_drawn(mix, audit);
    let declared = &node.declaration.resources;
    let free = declared.memory_bytes.saturating_sub(node.committed.memory_bytes);
    due.then(|| ask.claim(free, declared.cpu_millis, Millis(env.zone.params.epoch.0 / FILL_PART))).flatten()
}

/// What audits say of a node's memory in an epoch; what they never asked is `Unaudited`.
pub(crate) fn memory_capacity(s: &dyn StateRead, env: &Env, node: &NodeId, epoch: u64) -> Capacity {
    let Some(record) = node_audit(s, node) else { return Capacity::Unaudited };
    let Some(memory) = &record.memory else { return Capacity::Unaudited };
    let known =
        Stand { first_pass: memory.first_pass, last_pass: memory.last_pass, failing_from: memory.failing_from, failed: &memory.failed };
    stands(&env.zone.params.audits, now(env), epoch, &known, record.open.filter(|open| !open.memory_settled).as_ref())
}

/// What stands behind CPU and memory together: memory can fail it or have it wait, and adds nothing to what the CPU's audits say.
pub(crate) const fn both(cpu: Capacity, memory: Capacity) -> Capacity {
    match (cpu, memory) {
        (Capacity::Failed, _) | (_, Capacity::Failed) => Capacity::Failed,
        (Capacity::Open(one), Capacity::Open(other)) => Capacity::Open(if one.0 < other.0 { one } else { other }),
        (_, Capacity::Open(at)) => Capacity::Open(at),
        (cpu, Capacity::Audited | Capacity::Unaudited) => cpu,
    }
}
