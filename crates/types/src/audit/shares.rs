//! Shares as few bytes: nonces ascending, each as its distance from the one before, in groups of seven bits.
//!
//! Guarantees: a set of nonces has one encoding, so that digests of it agree; distinct by construction. It hashes nothing.

use crate::event::Hash32;
use crate::ids::derive;
use borsh::{BorshDeserialize, BorshSerialize};

/// Largest nonce: 2^42 - 1 is more than any device hashes in a burst, and six bytes of seven bits.
pub const MAX_NONCE: u64 = (1 << 42) - 1;
/// Longest encoding of a set of shares, in bytes.
pub const MAX_PACKED: usize = 192;

const SHARES_DOMAIN: &str = "pasture 2026-11 audit shares v1";

/// Packed shares.
#[derive(Clone, PartialEq, Eq, Default, Debug, BorshSerialize, BorshDeserialize)]
pub struct PackedShares(pub Vec<u8>);

impl PackedShares {
    /// Names them in what a node signs.
    #[must_use]
    pub fn digest(&self) -> Hash32 {
        Hash32(derive(SHARES_DOMAIN, &[&self.0]))
    }
    /// Packs nonces, in any order; `None` if one comes twice, is above [`MAX_NONCE`], or there are too many.
    #[must_use]
    pub fn pack(nonces: &[u64]) -> Option<Self> {
        let mut sorted = nonces.to_vec();
        sorted.sort_unstable();
        let mut out = Vec::with_capacity(sorted.len() * 4);
        let mut least = 0u64;
        for nonce in sorted {
            let mut rest = nonce.checked_sub(least)?;
            least = nonce.checked_add(1).filter(|_| nonce <= MAX_NONCE)?;
            while rest >= 0x80 {
                out.push(0x80 | u8::try_from(rest & 0x7f).ok()?);
                rest >>= 7;
            }
            out.push(u8::try_from(rest).ok()?);
        }
        (out.len() <= MAX_PACKED).then_some(Self(out))
    }

    /// The nonces, ascending; `None` if the bytes are not what [`PackedShares::pack`] makes of them.
    #[must_use]
    pub fn unpack(&self) -> Option<Vec<u64>> {
        if self.0.len() > MAX_PACKED {
            return None;
        }
        let mut out = Vec::with_capacity(self.0.len());
        let (mut least, mut value, mut bits) = (0u64, 0u64, 0u32);
        for byte in &self.0 {
            // Six groups at most, and the last group of several is not empty: one encoding each.
            if bits >= 42 || (bits > 0 && *byte == 0) {
                return None;
            }
            value |= u64::from(byte & 0x7f) << bits;
            bits += 7;
            if byte & 0x80 == 0 {
                let nonce = least.checked_add(value).filter(|n| *n <= MAX_NONCE)?;
                out.push(nonce);
                (least, value, bits) = (nonce + 1, 0, 0);
            }
        }
        (bits == 0).then_some(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sixteen_shares_of_a_heartbeat_take_under_fifty_bytes() {
        // 0.3 s at 10 MH/s: distances of 190,000 on average, three groups each.
        let nonces: Vec<u64> = (1..=16).map(|n| n * 187_500).collect();
        assert_eq!(PackedShares::pack(&nonces).unwrap().0.len(), 48);
    }

    #[test]
    fn the_edges_are_refused() {
        assert_eq!(PackedShares::pack(&[1, 1]), None);
        assert_eq!(PackedShares::pack(&[MAX_NONCE + 1]), None);
        assert_eq!(PackedShares::pack(&[MAX_NONCE]).unwrap().unpack(), Some(vec![MAX_NONCE]));
        assert_eq!(PackedShares::pack(&[]).unwrap().unpack(), Some(vec![]));
        for bad in [vec![0x80], vec![0x80, 0x00], vec![0xff; 7], vec![0; MAX_PACKED + 1]] {
            assert_eq!(PackedShares(bad.clone()).unpack(), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn nonces_survive(nonces in proptest::collection::btree_set(0..=MAX_NONCE, 0..32)) {
            let sorted: Vec<u64> = nonces.into_iter().collect();
            let mut turned = sorted.clone();
            turned.reverse();
            let packed = PackedShares::pack(&turned).unwrap();
            prop_assert_eq!(packed.unpack(), Some(sorted));
        }
        #[test]
        fn bytes_have_one_meaning(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Some(nonces) = PackedShares(bytes.clone()).unpack() {
                prop_assert_eq!(PackedShares::pack(&nonces).unwrap().0, bytes);
            }
        }
    }
}
