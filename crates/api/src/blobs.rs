//! Blobs of images among machines: who has one, and its bytes.
//!
//! | where | what |
//! |---|---|
//! | `GET /v1/blobs/{digest}` at a gateway | [`Holders`]: machines that say that they have it |
//! | `GET /blobs/{digest}?from=B&length=N` at a machine | its bytes, to any node of the ledger that signs for it (`from` and `length` as said or left out) |
//! | `GET /v1/nodes/{node}/blobs/{digest}?...` at a gateway | the same, forwarded |
//!
//! A digest is 64 hex digits here, as the SHA-256 of what registries name. What comes is hostile until its digest is right.

use pasture_types::{ContentDigest, NodeId};
use serde::{Deserialize, Serialize};

/// Most blobs that a machine says that it has: those used last.
pub const MAX_TOLD: usize = 512;
/// Most machines that a gateway names.
pub const MAX_HOLDERS: usize = 16;
/// Most bytes that one request is for.
pub const MAX_LENGTH: u64 = 64 << 20;

/// Who has a blob.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct Holders {
    /// Machines that said so lately, in no order: others may have it as well, and these may have it no more.
    pub nodes: Vec<NodeId>,
}

/// Where a machine gives bytes of a blob, as its requests are signed.
#[must_use]
pub fn path(digest: &ContentDigest, from: u64, length: Option<u64>) -> String {
    let length = length.map_or_else(String::new, |length| format!("&length={length}"));
    format!("/blobs/{}?from={from}{length}", digest.digits())
}
