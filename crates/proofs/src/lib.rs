//! Compute-power puzzles: finding a heartbeat's shares, and the CPU benchmark behind a node's declared rate.
//! Spec: `docs/specs/proofs.md`.
//!
//! Guarantees: pure (a benchmark takes its clock from the caller); whatever [`Search`] hands out passes
//! [`pasture_types::proof::verify_shares`] for the same seed and threshold; work comes in batches of the caller's size, so
//! that it can be cancelled and paced. It does not judge shares (that is in `types`) and does not schedule (see `provider`).

mod benchmark;
mod search;

pub use benchmark::{BENCHMARK_LENGTH, benchmark_cpu};
pub use search::{BATCH, Search, SearchState, find_shares};
