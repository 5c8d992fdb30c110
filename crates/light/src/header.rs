//! A block's header, as far as a client needs it. Layout: `docs/specs/light.md` §2.
//!
//! Guarantees: one encoding per header; the digest commits to every byte. It is the same encoding as `chain`'s, which a test
//! there compares byte for byte.

use crate::codec::Cursor;
use crate::error::LightError;
use sha2::{Digest as _, Sha256};

/// The header format that is understood.
pub const HEADER_VERSION: u16 = 3;
/// Bytes of a header.
pub const HEADER_SIZE: usize = 2 + 32 * 9 + 48 + 8 * 8;
const HEADER_DOMAIN: &[u8] = b"pasture 2026-11 header v3";

/// What a finality certificate vouches for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The zone.
    pub zone: [u8; 32],
    /// Height; genesis is 0.
    pub height: u64,
    /// Digest of the parent's header.
    pub parent: [u8; 32],
    /// Ledger time in milliseconds since the Unix epoch.
    pub timestamp_ms: u64,
    /// Root of the state after this block.
    pub state_root: [u8; 32],
    /// Hash of the validator set that may certify this block.
    pub validators: [u8; 32],
    /// Hash of the set that certifies the next block: another one only in the last block of a term after which the seats change.
    pub next_validators: [u8; 32],
    /// Digest of this header: the block's identity.
    pub digest: [u8; 32],
}

impl Header {
    /// Reads a header from exactly its bytes.
    ///
    /// # Errors
    /// [`LightError::Malformed`] or [`LightError::UnknownVersion`].
    pub fn decode(bytes: &[u8; HEADER_SIZE]) -> Result<Self, LightError> {
        let mut cursor = Cursor::new("header", bytes);
        let version = cursor.u16()?;
        if version != HEADER_VERSION {
            return Err(LightError::UnknownVersion { part: "the header", found: version, known: HEADER_VERSION });
        }
        let (zone, height) = (cursor.array()?, cursor.u64()?);
        let _base = cursor.u64()?;
        let (parent, timestamp_ms, state_root) = (cursor.array()?, cursor.u64()?, cursor.array()?);
        // Root and range of the operations log, and the transactions' root: for nodes.
        let _: [u8; 32 + 8 + 8 + 32] = cursor.array()?;
        let (validators, next_validators) = (cursor.array()?, cursor.array()?);
        // Proposer, randomness and its proof, term, view, parent's view: for validators.
        let _: [u8; 32 + 32 + 48 + 8 * 3] = cursor.array()?;
        cursor.end()?;
        let digest = Sha256::new().chain_update(HEADER_DOMAIN).chain_update(bytes).finalize().into();
        Ok(Self { zone, height, parent, timestamp_ms, state_root, validators, next_validators, digest })
    }

    /// Whether another set certifies the blocks after this one.
    #[must_use]
    pub fn hands_over(&self) -> bool {
        self.validators != self.next_validators
    }
}
