//! Heartbeat proofs as they go on the ledger: the k smallest hash shares of an epoch. Spec: `docs/specs/proofs.md`.
//!
//! Guarantees: the seed binds node, epoch, class, device and the zone's randomness, so that nothing can be computed
//! before the epoch began nor reused after it. The hash, the threshold and the check live here, so that the ledger
//! and the prover cannot disagree. Finding shares is in `proofs`.

use crate::ids::derive;
use crate::{Millis, NodeId};
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

/// One node's answer to one epoch's heartbeat: 175 bytes on the ledger.
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

/// The hash of one nonce under a seed: the first eight bytes (little-endian) of BLAKE3(seed || nonce as 8 bytes little-endian).
#[must_use]
pub fn share_hash(seed: &[u8; 32], nonce: u64) -> u64 {
    let mut input = [0u8; 40];
    let (head, tail) = input.split_at_mut(32);
    head.copy_from_slice(seed);
    tail.copy_from_slice(&nonce.to_le_bytes());
    let digest = *blake3::hash(&input).as_bytes();
    let [a, b, c, d, e, f, g, h, ..] = digest;
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

/// Hashes that one heartbeat is worth: `rate x work`, at least one.
#[must_use]
pub fn heartbeat_hashes(declared_hashes_per_s: u64, work: Millis) -> u128 {
    (u128::from(declared_hashes_per_s) * u128::from(work.0) / 1000).max(1)
}

/// The largest hash that a share may have.
///
/// A node that computes `n = heartbeat_hashes(..)` hashes expects its k-th smallest at `2^64 x k / n`. The threshold is
/// `floor(2^64 x k x 5 / (n x 2))`, 2.5 times that, at most `u64::MAX`: 40 % of the work suffices on average, and an honest
/// node that does all of it fails less than once in 10^5 epochs. Lenient on purpose: it decides payment, not blame.
#[must_use]
pub fn threshold(declared_hashes_per_s: u64, work: Millis) -> u64 {
    let n = heartbeat_hashes(declared_hashes_per_s, work);
    let scaled = (1u128 << 64) * (HEARTBEAT_SHARES as u128) * 5;
    // n is below 2^118 for any work up to a year, so doubling it cannot overflow; saturate all the same.
    u64::try_from(scaled / n.saturating_mul(2)).unwrap_or(u64::MAX)
}

/// Why an epoch's shares were refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ShareError {
    /// Not [`HEARTBEAT_SHARES`] of them.
    #[error("{0} shares where {HEARTBEAT_SHARES} are needed")]
    Count(usize),
    /// The hashes do not ascend strictly (a nonce used twice has the same hash twice).
    #[error("the shares are not in strictly ascending order of their hashes")]
    Order,
    /// The largest hash is above the threshold: too little work.
    #[error("the shares show less work than the node's declared rate asks")]
    Weak,
}

/// Checks an epoch's shares: [`HEARTBEAT_SHARES`] nonces in strictly ascending order of [`share_hash`], the last at most `threshold`.
///
/// # Errors
/// [`ShareError`] says which rule is broken.
pub fn verify_shares(seed: &[u8; 32], nonces: &[u64], threshold: u64) -> Result<(), ShareError> {
    if nonces.len() != HEARTBEAT_SHARES {
        return Err(ShareError::Count(nonces.len()));
    }
    let mut last: Option<u64> = None;
    for nonce in nonces {
        let hash = share_hash(seed, *nonce);
        if last.is_some_and(|l| hash <= l) {
            return Err(ShareError::Order);
        }
        if hash > threshold {
            return Err(ShareError::Weak);
        }
        last = Some(hash);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(seed: &[u8; 32], hashes: u64) -> Vec<u64> {
        let mut all: Vec<(u64, u64)> = (0..hashes).map(|n| (share_hash(seed, n), n)).collect();
        all.sort_unstable();
        all.into_iter().take(HEARTBEAT_SHARES).map(|(_, n)| n).collect()
    }

    #[test]
    fn honest_work_passes_and_a_fifth_of_it_does_not() {
        let limit = threshold(1_000_000, Millis(20));
        for epoch in 0..20 {
            let seed = heartbeat_seed(&[3; 32], &NodeId([4; 32]), ResourceClass::Cpu, 0, epoch);
            assert_eq!(verify_shares(&seed, &find(&seed, 20_000), limit), Ok(()));
            assert_eq!(verify_shares(&seed, &find(&seed, 2_000), limit), Err(ShareError::Weak));
        }
    }

    #[test]
    fn shares_are_bound_to_their_seed_order_and_number() {
        let seed = [1; 32];
        let good = find(&seed, 5_000);
        let limit = threshold(5_000, Millis(1000));
        assert_eq!(verify_shares(&seed, &good, limit), Ok(()));
        assert!(verify_shares(&[2; 32], &good, limit).is_err());
        let mut twice = good.clone();
        twice[1] = twice[0];
        assert_eq!(verify_shares(&seed, &twice, limit), Err(ShareError::Order));
        assert_eq!(verify_shares(&seed, &good[1..], limit), Err(ShareError::Count(15)));
    }

    #[test]
    fn the_threshold_is_exact_integer_arithmetic() {
        assert_eq!(threshold(0, Millis(0)), u64::MAX);
        assert_eq!(threshold(40, Millis(1000)), u64::MAX);
        assert_eq!(threshold(80, Millis(1000)), 1 << 63);
        assert_eq!(threshold(u64::MAX, Millis(u64::MAX)), 0);
    }
}
