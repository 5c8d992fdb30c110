//! The declared rate against what pooled shares show: de-rating, and the way back. Spec: `docs/specs/audits.md` §6.
//!
//! Guarantees: a node is held to what it declared times its proven share; that share only falls on a conviction by
//! [`overclaims`] and only rises on a full pool that shows more. It takes no deposit: see `seams::slash`.

use super::draw::enqueue;
use super::records::{AuditState, NodeAudit};
use super::{EXCESS, gpu, node_audit, put_node_audit, queue_key};
use crate::env::Env;
use crate::records::Node;
use pasture_types::audit::{AuditEvent, AuditParams, full_rate, overclaims, pooled_rate_ppm};
use pasture_types::event::Event;
use pasture_types::state::{StateRead, StateWrite};
use pasture_types::tx::NodeDeclaration;
use pasture_types::{NodeId, Resources};

const PPM: u64 = 1_000_000;
/// After a de-rate the youngest leases end when so many epochs have begun: their users see it coming, and two are not over.
const NOTICE_EPOCHS: u64 = 1;
/// A de-rated node whose full pool shows this much more than its proven rate gets it back.
const REGAIN_PPM: u32 = 1_050_000;
/// The least proven share: a rate of nothing could never be measured again.
const LEAST_PPM: u32 = 1_000;

fn scaled(amount: u64, ppm: u32) -> u64 {
    u64::try_from(u128::from(amount) * u128::from(ppm) / u128::from(PPM)).unwrap_or(u64::MAX)
}

/// Hashes per second that a node is held to.
pub(super) fn proven(declaration: &NodeDeclaration, proven_ppm: u32) -> u64 {
    scaled(full_rate(declaration), proven_ppm).max(1)
}

/// Cuts resources of a node to what audits have left of its CPU.
pub(crate) fn within_proven(s: &dyn StateRead, env: &Env, node: &Node, resources: &mut Resources) {
    resources.cpu_millis = resources.cpu_millis.min(proven_cpu(s, node));
    if !env.zone.params.market.gpu_leases {
        gpu::within_proven(s, env, node, resources);
    }
}

/// The CPU that a node may lease out.
pub(super) fn proven_cpu(s: &dyn StateRead, node: &Node) -> u32 {
    let ppm = node_audit(s, &node.id).map_or(PPM, |r| u64::from(r.proven_ppm));
    let all = u64::from(node.declaration.resources.cpu_millis);
    u32::try_from(all * ppm / PPM).unwrap_or(u32::MAX)
}

/// Adds a sample to a node's pool, and acts on what the pool shows.
pub(super) fn pool(s: &mut dyn StateWrite, env: &Env, all: &mut AuditState, record: &mut NodeAudit, sample: u32, events: &mut Vec<Event>) {
    let Some(rated) = pooled(record, &env.zone.params.audits, sample) else { return };
    events.push(Event::Audit(AuditEvent::Rated { node: record.node, proven_ppm: record.proven_ppm }));
    if rated == Rated::Less {
        let at = env.shift(env.zone.epoch_start(env.epoch().saturating_add(NOTICE_EPOCHS)));
        enqueue(s, all, queue_key(EXCESS, at, &record.node.0));
    }
}

/// How a node's proven share changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rated {
    /// The pool convicted it.
    Less,
    /// A full pool shows more.
    More,
}

/// Adds a sample to a node's pool; whether its proven share changes by what the pool then shows.
pub fn pooled(record: &mut NodeAudit, params: &AuditParams, sample: u32) -> Option<Rated> {
    let most = usize::from(params.pool).max(1);
    record.pool.push(sample);
    let surplus = record.pool.len().saturating_sub(most);
    record.pool.drain(..surplus);
    let (sum, audits) = (record.pooled(), record.pool.len());
    let shown = pooled_rate_ppm(sum, audits);
    let derated = overclaims(sum, audits, params);
    let regained = !derated && u64::from(record.proven_ppm) < PPM && audits == most && shown >= REGAIN_PPM;
    if !derated && !regained {
        return None;
    }
    let next = u64::from(record.proven_ppm) * u64::from(shown) / PPM;
    record.proven_ppm = u32::try_from(next.min(PPM)).unwrap_or(LEAST_PPM).max(LEAST_PPM);
    record.pool.clear();
    Some(if derated { Rated::Less } else { Rated::More })
}

/// A node was declared anew, without leases: its audits begin again, but what its hashes showed stays with it.
pub(crate) fn declared_anew(s: &mut dyn StateWrite, id: &NodeId, old: &NodeDeclaration, new: &NodeDeclaration) {
    let Some(mut record) = node_audit(s, id) else { return };
    let (before, after) = (u128::from(full_rate(old)), u128::from(full_rate(new)));
    let anew = |n: u128| n * after / before.max(1);
    // A proven rate stays what it is in hashes; only a node that was never de-rated is believed again at a new rate.
    if u64::from(record.proven_ppm) < PPM {
        let kept = u128::from(record.proven_ppm) * before / after.max(1);
        record.proven_ppm = u32::try_from(kept.min(u128::from(PPM))).unwrap_or(LEAST_PPM).max(LEAST_PPM);
    } else {
        for sample in &mut record.pool {
            *sample = u32::try_from(anew(u128::from(*sample))).unwrap_or(u32::MAX);
        }
    }
    record.declared = record.declared.saturating_add(1);
    (record.first_pass, record.last_pass, record.failing_from, record.last) = (None, None, None, None);
    record.failed.clear();
    (record.gpu, record.memory) = (None, None);
    put_node_audit(s, &record);
    super::roster::changed(s, id);
}
