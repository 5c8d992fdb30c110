//! What a proof is bound to, and the beacon that comes after its commitment. Spec: `docs/specs/gemm.md` §1.
//!
//! Guarantees: two challenges that differ in any field have different seeds, and so has each kind of proof; nothing can be
//! computed before the last of randomness and nonces is known, nor used for another node, class, device or epoch.

use pasture_types::NodeId;
use pasture_types::ids::derive;
use pasture_types::proof::ResourceClass;

const PICK_DOMAIN: &str = "pasture 2026-11 proof openings v1";

/// Whose capacity is proven, and when.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Challenge {
    /// The epoch's randomness.
    pub randomness: [u8; 32],
    /// The node.
    pub node: NodeId,
    /// The class of resource.
    pub class: ResourceClass,
    /// Which device of the class.
    pub device: u16,
    /// The epoch.
    pub epoch: u64,
    /// Digest of the witnesses' nonces (`NonceSet::digest`); zero where there are none.
    pub nonces: [u8; 32],
}

impl Challenge {
    /// The seed of one kind of proof.
    #[must_use]
    pub(crate) fn seed(&self, domain: &str) -> [u8; 32] {
        let (device, epoch) = (self.device.to_le_bytes(), self.epoch.to_le_bytes());
        derive(domain, &[&self.randomness, &self.node.0, &[self.class as u8], &device, &epoch, &self.nonces])
    }
}

/// Randomness that nobody knew when the proof's commitment was fixed: what is opened is drawn from it.
///
/// The caller answers for the order: a beacon that a prover knew beforehand, or could try several of, proves nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Beacon(pub [u8; 32]);

/// `count` different numbers below `end`, each set with the same chance (Floyd's method: so many draws and no more); all of
/// them if there are no more.
pub(crate) fn pick(seed: &[u8; 32], root: &[u8; 32], beacon: Beacon, end: u32, count: u32) -> Vec<u32> {
    let mut stream = blake3::Hasher::new_keyed(&derive(PICK_DOMAIN, &[seed, root, &beacon.0])).finalize_xof();
    let mut picked = std::collections::BTreeSet::new();
    for last in end.saturating_sub(count)..end {
        let mut bytes = [0; 8];
        stream.fill(&mut bytes);
        // At most 2^20 numbers from 2^64: the bias is below 2^-44.
        let drawn = u32::try_from((u128::from(u64::from_le_bytes(bytes)) * u128::from(u64::from(last) + 1)) >> 64).unwrap_or(last);
        if !picked.insert(drawn) {
            picked.insert(last);
        }
    }
    picked.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn picks_are_different_uniform_and_bound_to_root_and_beacon() {
        let mut seen = [0u32; 100];
        for n in 0..1_000u32 {
            let mut beacon = [0; 32];
            beacon[..4].copy_from_slice(&n.to_le_bytes());
            let picked = pick(&[1; 32], &[2; 32], Beacon(beacon), 100, 64);
            assert!(picked.len() == 64 && picked.is_sorted_by(|a, b| a < b));
            picked.iter().for_each(|p| seen[*p as usize] += 1);
            assert_ne!(picked, pick(&[1; 32], &[3; 32], Beacon(beacon), 100, 64));
            assert_ne!(picked, pick(&[3; 32], &[2; 32], Beacon(beacon), 100, 64));
        }
        // 640 expected, sd 15.2: six of them either way.
        assert!(seen.iter().all(|s| (549..=731).contains(s)), "{seen:?}");
        assert_eq!(pick(&[1; 32], &[2; 32], Beacon([0; 32]), 5, 64), [0, 1, 2, 3, 4]);
    }
}
