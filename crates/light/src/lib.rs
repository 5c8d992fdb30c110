//! Checks what a gateway says about the ledger: finality certificates and state proofs, against a validator set that the
//! caller trusts. Spec: `docs/specs/light.md`.
//!
//! ```text
//!  key, value ──► record ──► store's tree ──► state root ─┐
//!                                                         ├─ header ── headers after it ── certificate ── validators
//!                             zone, height, time ─────────┘   (trusted: [`ValidatorSet`])
//!
//!  [`Checkpoint`]: genesis' set ── [`Handover`], signed by a quorum of it ──► next set ── [`Handover`] ──► today's set
//! ```
//! Guarantees: pure; no clock, network, file or engine; builds for wasm32. Hostile bytes give a [`LightError`], never a panic,
//! and sizes are checked before anything is allocated. [`verify`] returns `Ok` only if at least a quorum of the trusted validators
//! signed a header, of the trusted zone, whose state has that value (or none) under that key.
//! A set is replaced only by the one that a quorum of it named. It does not know what a record means, which height is the latest
//! (a gateway can withhold: see [`Verified::since`]), or the time: whether a checkpoint is too old to be followed is the caller's
//! question ([`Checkpoint::outlived`]).

mod certificate;
mod checkpoint;
mod codec;
mod error;
mod handover;
mod header;
mod proof;
mod store;
mod validators;

pub use certificate::Certificate;
pub use checkpoint::{CHECKPOINT_VERSION, Checkpoint, MAX_CHECKPOINT};
pub use error::LightError;
pub use handover::{HANDOVER_VERSION, Handover, MAX_HANDOVER};
pub use header::{HEADER_SIZE, HEADER_VERSION, Header};
pub use proof::{
    MAX_CERTIFICATE, MAX_HEADERS, MAX_KEY, MAX_PROOF, MAX_STORE_PROOF, MAX_VALUE, PROOF_VERSION, StateProof, Verified, verify,
    verify_header,
};
pub use validators::{MAX_SET, MAX_VALIDATORS, SetError, Validator, ValidatorSet};
