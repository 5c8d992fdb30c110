//! GPUs in audits: what stands behind them, what of them may be leased, and the entry that convicts. Spec: `docs/specs/audits.md` §12.
//!
//! Guarantees: where a zone leases GPUs only when they are proven, a line counts no more devices than the node's last passed audit
//! proved, and none once that proof is too old; a conviction needs one wrong entry under a root that the node signed, and
//! nobody's word.

use super::judge::{Stand, now, stands};
use super::node_audit;
use super::records::{AuditRecord, GpuAudit};
use crate::env::Env;
use crate::records::Node;
use crate::seams::Capacity;
use pasture_proofs::gemm::{Audited, WrongEntry};
use pasture_types::audit::{WrongProduct, gpu_devices};
use pasture_types::state::StateRead;
use pasture_types::{NodeId, Resources};

/// What audits say of a node's GPUs in an epoch.
pub(crate) fn gpu_capacity(s: &dyn StateRead, env: &Env, node: &NodeId, epoch: u64) -> Capacity {
    let Some(record) = node_audit(s, node) else { return Capacity::Unaudited };
    let Some(gpu) = &record.gpu else { return Capacity::Unaudited };
    let known = Stand { first_pass: gpu.first_pass, last_pass: gpu.last_pass, failing_from: gpu.failing_from, failed: &gpu.failed };
    stands(&env.zone.params.audits, now(env), epoch, &known, record.open.filter(|open| !open.gpu_settled).as_ref())
}

/// The proof that stands for a node's GPUs now.
fn standing(s: &dyn StateRead, env: &Env, node: &NodeId) -> Option<GpuAudit> {
    let gpu = node_audit(s, node)?.gpu?;
    let until = gpu.last_pass?.saturating_add(env.zone.params.audits.stands_epochs);
    (gpu.failing_from.is_none() && env.epoch() <= until).then_some(gpu)
}

/// Cuts the GPUs of an offer to those that its node has proven; lines stay, as their prices go by their order.
pub(super) fn within_proven(s: &dyn StateRead, env: &Env, node: &Node, resources: &mut Resources) {
    if resources.gpus.is_empty() {
        return;
    }
    let mut left = standing(s, env, &node.id).map(|gpu| gpu.proven).unwrap_or_default();
    for line in &mut resources.gpus {
        let proven = left.iter_mut().find(|claim| claim.model == line.model);
        let counts = proven.as_ref().map_or(0, |claim| claim.count.min(line.count));
        if let Some(claim) = proven {
            claim.count -= counts;
        }
        line.count = counts;
    }
}

/// Whether an entry is wrong in the product of a device, under the root that is in the audit's answer.
pub(super) fn is_wrong(record: &AuditRecord, wrong: &WrongProduct) -> bool {
    let found = || {
        let answer = &record.answer.as_ref()?.answer;
        let root = answer.roots.get(usize::from(wrong.device))?;
        let rate = *gpu_devices(&record.gpus).get(usize::from(wrong.device))?;
        let audited = Audited {
            randomness: record.randomness.0,
            epoch: record.epoch,
            node: record.node,
            nonces: answer.set.digest().0,
            burst: record.terms.burst,
        };
        let product = audited.product(wrong.device, rate)?;
        let WrongProduct { row, layer, column, ref sums, ref path, .. } = *wrong;
        let path = path.iter().map(|hash| hash.0).collect();
        let entry = WrongEntry { row, layer, column, sums: sums.clone(), path };
        Some(entry.holds(product.shape, &product.round, &product.challenge, &root.0))
    };
    found().unwrap_or(false)
}
