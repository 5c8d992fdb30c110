//! The product of one device in an audit: what node, witness and ledger must agree on. Spec: `docs/specs/audits.md` §12.
//!
//! Guarantees: the same for all who have the audit's record and its set of nonces; bound to node, device and set.

use super::shape::{Round, Shape};
use crate::Challenge;
use pasture_types::proof::ResourceClass;
use pasture_types::{Millis, NodeId};

/// What all products of an audit have in common.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Audited {
    /// The audit's randomness.
    pub randomness: [u8; 32],
    /// The epoch of its draw.
    pub epoch: u64,
    /// Of which node.
    pub node: NodeId,
    /// Digest of the witnesses' nonces.
    pub nonces: [u8; 32],
    /// How long its burst is.
    pub burst: Millis,
}

/// A device's product.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Product {
    /// How large.
    pub shape: Shape,
    /// In which round.
    pub round: Round,
    /// Whose.
    pub challenge: Challenge,
}

impl Audited {
    /// What a GPU is to compute that is held to this rate; `None` if that is too little to prove.
    #[must_use]
    pub fn product(&self, device: u16, macs_per_s: u64) -> Option<Product> {
        let Self { randomness, epoch, node, nonces, burst } = *self;
        let shape = Shape::filling(ResourceClass::Gpu, macs_per_s, burst)?;
        let challenge = Challenge { randomness, node, class: ResourceClass::Gpu, device, epoch, nonces };
        Some(Product { shape, round: Round { randomness, epoch }, challenge })
    }
}
