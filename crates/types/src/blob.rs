//! Content addresses: the BLAKE3 hash of a blob's bytes.

use crate::ids::BlobHash;

/// The address of some bytes.
#[must_use]
pub fn hash(bytes: &[u8]) -> BlobHash {
    BlobHash(*blake3::hash(bytes).as_bytes())
}
