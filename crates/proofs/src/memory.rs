//! Memory as proof: a table that only its owner's seed makes, and a walk whose every step needs the last step's content.
//! Spec: `docs/specs/memory.md`.
//!
//! ```text
//!   challenge --> table of 16 KiB chunks, each Argon2d's memory (RFC 9106) after four passes        Table::fill, at leisure
//!   first beacon --> walk: line -> state -> line -> ..., timed by the verifiers                     Walk::advance
//!   every fourth state is a leaf --> root; second beacon --> 16 stretches                           Walk::root, open
//!   the verifier makes the chunks of those stretches itself                                         Walk::verify
//! ```
//!
//! Guarantees: exact; the memory is the caller's, so that it can be anything that holds words; bytes of a proof that are not the
//! honest ones are refused, and none makes the verifier panic or work more than 64 chunks. It knows no clock: whether the walk
//! ended within [`Walk::limit`] is the caller's to see, and without that it proves nothing.

mod audited;
mod table;
mod walk;

pub use audited::AuditedMemory;
pub use table::{BLOCKS_PER_CHUNK, CHUNK_BYTES, CHUNK_WORDS, LINE_WORDS, Line, Lines, Table};
pub use walk::{CHECKED, MAX_STRETCHES, MemoryError, STEPS, Walk};
