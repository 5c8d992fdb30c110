//! What is decided about an audit: whose nonces it takes, and when there are enough of them.
//!
//! Guarantees: the first nonce of each witness counts, and the first of more than two thirds of them make the set, which is never
//! changed again; who is no witness of the audit is refused. No clock, no I/O.

use super::products::Asked;
use pasture_api::AuditDetail;
use pasture_proofs::gemm::Audited;
use pasture_proofs::memory::AuditedMemory;
use pasture_types::audit::{GpuClaim, MAX_AUDITED_GPUS, MAX_WITNESSES, MemoryClaim, NonceSet, audit_seed, quorum};
use pasture_types::keys::Signature;
use pasture_types::proof::ResourceClass;
use pasture_types::{Millis, NodeId, Timestamp};
use std::collections::BTreeMap;

/// Longest burst, whatever the ledger's parameters say (`AuditParams::check`).
const MAX_BURST: Millis = Millis(30_000);
/// Longest walk, likewise.
const MAX_WALK: Millis = Millis(5_000);

/// An audit that the ledger drew for this node.
#[derive(Clone, Debug)]
pub(super) struct Audit {
    pub(super) number: u64,
    node: NodeId,
    epoch: u64,
    randomness: [u8; 32],
    witnesses: Vec<NodeId>,
    /// How long its burst is.
    pub(super) burst: Millis,
    /// The GPUs that are asked, and what of each.
    gpus: Vec<GpuClaim>,
    /// The memory that is asked.
    memory: Option<MemoryClaim>,
    /// Until when statements about it are taken.
    pub(super) until: Timestamp,
    offers: BTreeMap<usize, (u64, Signature)>,
    closed: bool,
}

/// What is to be done about a nonce.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Taken {
    /// More are needed.
    Waits,
    /// These are enough: the set, and the signatures under which its nonces came.
    Complete(NonceSet, Vec<Signature>),
    /// The set was complete before.
    AfterSet,
    /// Its sender is no witness of this audit.
    Stranger,
}

impl Audit {
    /// `None` if it is another node's, or over, or nothing that a ledger draws.
    pub(super) fn new(detail: &AuditDetail, node: &NodeId) -> Option<Self> {
        let devices: u32 = detail.gpus.iter().map(|claim| u32::from(claim.count)).sum();
        let sound =
            (1..=MAX_WITNESSES).contains(&detail.witnesses.len()) && detail.burst <= MAX_BURST && devices <= u32::from(MAX_AUDITED_GPUS);
        let sound = sound && detail.memory.is_none_or(|claim| claim.limit <= MAX_WALK);
        (sound && detail.node == *node && detail.verdict.is_none()).then(|| Self {
            number: detail.number,
            node: detail.node,
            epoch: detail.epoch,
            randomness: detail.randomness.0,
            witnesses: detail.witnesses.iter().map(|w| w.witness).collect(),
            burst: detail.burst,
            gpus: detail.gpus.clone(),
            memory: detail.memory,
            until: detail.until,
            offers: BTreeMap::new(),
            closed: false,
        })
    }

    /// Whether this validator watches it.
    pub(super) fn is_watched_by(&self, witness: &NodeId) -> bool {
        self.witnesses.contains(witness)
    }

    /// Takes a nonce whose signature was checked.
    pub(super) fn take(&mut self, witness: &NodeId, nonce: u64, signature: Signature) -> Taken {
        let Some(at) = self.witnesses.iter().position(|w| w == witness) else { return Taken::Stranger };
        if self.closed {
            return Taken::AfterSet;
        }
        self.offers.entry(at).or_insert((nonce, signature));
        if self.offers.len() < quorum(self.witnesses.len()) {
            return Taken::Waits;
        }
        self.closed = true;
        let mask = self.offers.keys().fold(0u64, |mask, at| mask | 1 << at);
        let (nonces, signatures) = self.offers.values().copied().unzip();
        Taken::Complete(NonceSet { mask, nonces }, signatures)
    }

    /// What its GPUs compute, in the order of devices: claim after claim.
    pub(super) fn products(&self, set: &NonceSet) -> Vec<Asked> {
        let Self { randomness, epoch, node, burst, .. } = *self;
        let audited = Audited { randomness, epoch, node, nonces: set.digest().0, burst };
        let each = self.gpus.iter().flat_map(|claim| (0..claim.count).map(move |number| (claim, number)));
        let asked = |(device, (claim, number)): (u16, (&GpuClaim, u16))| {
            let product = audited.product(device, claim.macs_per_s)?;
            Some(Asked { model: claim.model.clone(), number, product })
        };
        (0u16..).zip(each).map(asked).collect::<Option<_>>().unwrap_or_default()
    }

    /// The table and walk of its memory, and the most time for the walk.
    pub(super) fn memory(&self) -> Option<(AuditedMemory, Millis)> {
        let Self { number: audit, randomness, epoch, node, .. } = *self;
        let MemoryClaim { chunks, lanes, window, limit, .. } = self.memory?;
        Some((AuditedMemory { audit, randomness, epoch, node, chunks, lanes, window }, limit))
    }

    /// What the burst is computed from.
    pub(super) fn seed(&self, set: &NonceSet) -> [u8; 32] {
        audit_seed(&self.randomness, self.number, &self.node, self.epoch, ResourceClass::Cpu, 0, set)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pasture_api::WitnessView;
    use pasture_types::SigningKey;
    use pasture_types::audit::Verdict;
    use pasture_types::event::Hash32;

    fn detail(witnesses: u8) -> AuditDetail {
        AuditDetail {
            number: 4,
            node: NodeId([9; 32]),
            attempt: 1,
            epoch: 2,
            drawn_at: Timestamp(1),
            until: Timestamp(9),
            randomness: Hash32([1; 32]),
            rate: 1,
            burst: Millis(100),
            witnesses: (0..witnesses).map(|n| WitnessView { witness: NodeId([n; 32]), word: None }).collect(),
            gpus: vec![],
            answer: None,
            verdict: None,
            memory: None,
            gpu_verdict: None,
            memory_verdict: None,
        }
    }

    #[test]
    fn the_first_nonces_of_two_thirds_make_the_set_and_nothing_changes_it() {
        let mut audit = Audit::new(&detail(4), &NodeId([9; 32])).unwrap();
        let signature = |n: u64| SigningKey::from_seed([1; 32]).sign(&[n as u8; 32]);
        assert_eq!(audit.take(&NodeId([8; 32]), 1, signature(1)), Taken::Stranger);
        assert_eq!(audit.take(&NodeId([2; 32]), 20, signature(20)), Taken::Waits);
        assert_eq!(audit.take(&NodeId([2; 32]), 21, signature(21)), Taken::Waits, "its first one stays");
        assert_eq!(audit.take(&NodeId([0; 32]), 0, signature(0)), Taken::Waits);
        let set = NonceSet { mask: 0b1101, nonces: vec![0, 20, 30] };
        let complete = Taken::Complete(set.clone(), vec![signature(0), signature(20), signature(30)]);
        assert_eq!(audit.take(&NodeId([3; 32]), 30, signature(30)), complete);
        assert!(set.is_sound(4));
        assert_eq!(audit.take(&NodeId([1; 32]), 10, signature(10)), Taken::AfterSet);
        assert_eq!(audit.take(&NodeId([3; 32]), 31, signature(31)), Taken::AfterSet);
    }

    #[test]
    fn what_is_not_this_nodes_open_audit_is_none() {
        assert!(Audit::new(&detail(1), &NodeId([8; 32])).is_none());
        assert!(Audit::new(&detail(65), &NodeId([9; 32])).is_none() && Audit::new(&detail(0), &NodeId([9; 32])).is_none());
        let endless = AuditDetail { burst: Millis(u64::MAX), ..detail(1) };
        assert!(Audit::new(&endless, &NodeId([9; 32])).is_none());
        assert!(Audit::new(&AuditDetail { verdict: Some(Verdict::Void), ..detail(1) }, &NodeId([9; 32])).is_none());
    }
}
