//! The one canonical codec: borsh, with a size limit before anything is allocated.
//!
//! Guarantees: a value has exactly one encoding, decoding rejects trailing bytes and never panics.
//! Frozen by golden fixtures; see `docs/adr/0002-canonical-codec.md`.

use borsh::{BorshDeserialize, BorshSerialize};

/// Bytes could not be decoded into the expected type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The input is longer than this type may be.
    #[error("{got} bytes where at most {limit} are allowed")]
    TooLong {
        /// Bytes received.
        got: usize,
        /// Most bytes accepted.
        limit: usize,
    },
    /// The bytes are not the canonical encoding of the type.
    #[error("malformed bytes: {0}")]
    Malformed(String),
}

/// Encodes a value. Encoding into memory cannot fail for the types of this crate.
#[must_use]
pub fn encode<T: BorshSerialize>(value: &T) -> Vec<u8> {
    // Writing to a Vec is infallible; the only other source of errors is a length above u32::MAX.
    borsh::to_vec(value).unwrap_or_default()
}

/// Decodes a value of at most `limit` bytes; the whole input must be used.
///
/// # Errors
/// [`CodecError`] if the input is too long, malformed or has trailing bytes.
pub fn decode<T: BorshDeserialize>(bytes: &[u8], limit: usize) -> Result<T, CodecError> {
    if bytes.len() > limit {
        return Err(CodecError::TooLong { got: bytes.len(), limit });
    }
    borsh::from_slice(bytes).map_err(|e| CodecError::Malformed(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_map_has_one_encoding() {
        let map = BTreeMap::from([(1u8, 7u8), (2, 8)]);
        let bytes = encode(&map);
        assert_eq!(bytes, [2, 0, 0, 0, 1, 7, 2, 8]);
        assert_eq!(decode(&bytes, 8), Ok(map));
        for other in [[2, 0, 0, 0, 2, 8, 1, 7], [2, 0, 0, 0, 1, 6, 1, 7]] {
            assert!(decode::<BTreeMap<u8, u8>>(&other, 8).is_err(), "{other:?}");
        }
    }
}
