//! Heartbeat proofs as they go on the ledger: the k smallest hash shares of an epoch. Spec: `docs/specs/proofs.md`.
//!
//! Guarantees: the seed binds node, epoch, class, device and the zone's randomness, so that nothing can be computed
//! before the epoch began nor reused after it. Finding and checking shares is in `proofs`.

use crate::NodeId;
use crate::ids::derive;
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

const SEED_DOMAIN: &str = "pasture 2026-11 heartbeat seed v1";

/// Shares in one heartbeat: the k smallest hashes.
pub const HEARTBEAT_SHARES: usize = 16;

/// A class of resource that is proven by itself.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ResourceClass {
    /// CPU; memory, disk and network follow its verdict for now.
    Cpu,
    /// GPUs (no rules yet).
    Gpu,
}

/// One node's answer to one epoch's heartbeat: at most 160 bytes on the ledger.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Heartbeat {
    /// Which node.
    pub node: NodeId,
    /// Which class.
    pub class: ResourceClass,
    /// Which device of the class (0 for the CPU).
    pub device: u16,
    /// Which settlement epoch.
    pub epoch: u64,
    /// Nonces of the k smallest hashes, in ascending order of their hashes.
    pub nonces: Vec<u64>,
}

/// The seed that a node's shares of an epoch are computed from.
#[must_use]
pub fn heartbeat_seed(epoch_randomness: &[u8; 32], node: &NodeId, class: ResourceClass, device: u16, epoch: u64) -> [u8; 32] {
    derive(SEED_DOMAIN, &[epoch_randomness, &node.0, &[class as u8], &device.to_le_bytes(), &epoch.to_le_bytes()])
}
