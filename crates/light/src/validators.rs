//! The validators that a client trusts.
//!
//! Guarantees: a [`ValidatorSet`] has between one and [`MAX_VALIDATORS`] different keys, in the engine's order, whoever made it.
//! Quorum and hash are those of the engine and the header.

use crate::codec::Cursor;
use sha2::{Digest as _, Sha256};

/// Most validators of a zone.
pub const MAX_VALIDATORS: usize = 128;
/// Largest encoded set.
pub const MAX_SET: usize = 1 + 32 + 1 + MAX_VALIDATORS * (32 + 96);
/// The format of [`ValidatorSet::encode`].
const SET_VERSION: u8 = 1;
const VALIDATORS_DOMAIN: &[u8] = b"pasture 2026-11 validators v1";

/// A validator's public keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Validator {
    /// Ed25519 key: signs votes.
    pub key: [u8; 32],
    /// BLS12-381 key (96 bytes): makes randomness. Part of the set's hash, otherwise not used here.
    pub bls_key: [u8; 96],
}

/// Why keys are no validator set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetError {
    /// None, or too many.
    #[error("a network has between 1 and {MAX_VALIDATORS} validators, not {0}")]
    Size(usize),
    /// One vote was to count twice.
    #[error("validator {} is named twice", crate::error::hex(.0))]
    Twice([u8; 32]),
    /// The bytes are not an encoded set.
    #[error("these bytes are not a set of validators")]
    Malformed,
}

/// Validators of a zone. Which one a client trusts comes from the zone's genesis or a [`crate::Checkpoint`], which the client got from
/// somebody it believes, never from the gateway that is to be checked; another one only over a [`crate::Handover`] of the one before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidatorSet {
    zone: [u8; 32],
    members: Vec<Validator>,
    hash: [u8; 32],
}

impl ValidatorSet {
    /// A set of validators, in any order.
    ///
    /// # Errors
    /// [`SetError`].
    pub fn new(zone: [u8; 32], mut members: Vec<Validator>) -> Result<Self, SetError> {
        if members.is_empty() || members.len() > MAX_VALIDATORS {
            return Err(SetError::Size(members.len()));
        }
        members.sort_unstable();
        if let Some(twice) = members.windows(2).find_map(|pair| match pair {
            [a, b] if a.key == b.key => Some(a.key),
            _ => None,
        }) {
            return Err(SetError::Twice(twice));
        }
        let mut hasher = Sha256::new().chain_update(VALIDATORS_DOMAIN);
        for member in &members {
            hasher.update(member.key);
            hasher.update(member.bls_key);
        }
        Ok(Self { zone, members, hash: hasher.finalize().into() })
    }

    /// The set as bytes: version, zone, how many, then each validator's two keys.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![SET_VERSION];
        out.extend_from_slice(&self.zone);
        out.push(u8::try_from(self.members.len()).unwrap_or(u8::MAX));
        for member in &self.members {
            out.extend_from_slice(&member.key);
            out.extend_from_slice(&member.bls_key);
        }
        out
    }

    /// Reads a set from exactly its bytes.
    ///
    /// # Errors
    /// [`SetError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, SetError> {
        let (set, rest) = Self::split(bytes)?;
        if rest.is_empty() { Ok(set) } else { Err(SetError::Malformed) }
    }

    /// Reads a set from the beginning of some bytes; the rest comes back.
    ///
    /// # Errors
    /// [`SetError`].
    pub fn split(bytes: &[u8]) -> Result<(Self, &[u8]), SetError> {
        let mut cursor = Cursor::new("validators", bytes);
        let mut read = || {
            let (version, zone, count) = (cursor.u8()?, cursor.array()?, cursor.u8()?);
            let members = (0..count).map(|_| Ok(Validator { key: cursor.array()?, bls_key: cursor.array()? }));
            Ok::<_, crate::LightError>((version, zone, members.collect::<Result<Vec<_>, crate::LightError>>()?))
        };
        let (version, zone, members) = read().map_err(|_| SetError::Malformed)?;
        if version != SET_VERSION {
            return Err(SetError::Malformed);
        }
        Ok((Self::new(zone, members)?, cursor.rest()))
    }

    /// The zone.
    #[must_use]
    pub const fn zone(&self) -> &[u8; 32] {
        &self.zone
    }
    /// The validators in the engine's order.
    #[must_use]
    pub fn members(&self) -> &[Validator] {
        &self.members
    }
    /// How many there are; never zero.
    #[must_use]
    #[allow(clippy::len_without_is_empty)] // a set is never empty
    pub fn len(&self) -> usize {
        self.members.len()
    }
    /// The hash that headers name.
    #[must_use]
    pub const fn hash(&self) -> &[u8; 32] {
        &self.hash
    }
    /// Signatures that make a block final: `n - floor((n - 1) / 3)`, that is `2f + 1` of `3f + 1`.
    #[must_use]
    pub fn quorum(&self) -> usize {
        let n = self.members.len();
        n - n.saturating_sub(1) / 3
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(n: usize) -> Result<ValidatorSet, SetError> {
        ValidatorSet::new([7; 32], (0..n).map(|i| Validator { key: [i as u8; 32], bls_key: [0; 96] }).collect())
    }

    #[test]
    fn a_quorum_is_two_thirds_and_one() {
        let quorums = [(1, 1), (2, 2), (3, 3), (4, 3), (5, 4), (6, 5), (7, 5), (10, 7), (16, 11), (100, 67), (128, 86)];
        for (n, quorum) in quorums {
            assert_eq!(set(n).unwrap().quorum(), quorum, "of {n}");
        }
    }

    #[test]
    fn a_set_is_refused_when_it_is_none() {
        assert_eq!(set(0), Err(SetError::Size(0)));
        assert_eq!(set(129), Err(SetError::Size(129)));
        let one = Validator { key: [1; 32], bls_key: [2; 96] };
        let again = Validator { bls_key: [3; 96], ..one };
        assert_eq!(ValidatorSet::new([0; 32], vec![one, again]), Err(SetError::Twice([1; 32])));
    }

    #[test]
    fn a_set_reads_back_and_nothing_else_does() {
        let set = set(4).unwrap();
        let bytes = set.encode();
        assert_eq!(ValidatorSet::decode(&bytes), Ok(set));
        for length in 0..bytes.len() {
            assert_eq!(ValidatorSet::decode(bytes.get(..length).unwrap()), Err(SetError::Malformed), "{length}");
        }
        assert_eq!(ValidatorSet::decode(&[&bytes[..], &[0]].concat()), Err(SetError::Malformed));
        assert_eq!(ValidatorSet::decode(&[&[2], &bytes[1..]].concat()), Err(SetError::Malformed));
    }

    #[test]
    fn the_order_of_naming_changes_nothing() {
        let a = Validator { key: [1; 32], bls_key: [9; 96] };
        let b = Validator { key: [2; 32], bls_key: [8; 96] };
        let set = ValidatorSet::new([0; 32], vec![b, a]).unwrap();
        assert_eq!(set, ValidatorSet::new([0; 32], vec![a, b]).unwrap());
        assert_eq!(set.members(), [a, b]);
    }
}
