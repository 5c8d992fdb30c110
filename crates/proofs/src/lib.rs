//! Compute-power puzzles: finding a heartbeat's shares, matrix products, memory, and the benchmarks behind declared rates.
//! Spec: `docs/specs/proofs.md`, `docs/specs/gemm.md`, `docs/specs/memory.md`.
//!
//! Guarantees: pure (a benchmark takes its clock from the caller); whatever [`Search`] hands out passes
//! [`pasture_types::proof::verify_shares`] for the same seed and threshold; work comes in pieces of the caller's size, so
//! that it can be cancelled, paced and spread over threads; verifiers use exact integers only and survive any bytes. It does not
//! judge shares (that is in `types`) and does not schedule (see `provider`).

mod benchmark;
mod challenge;
pub mod gemm;
pub mod memory;
mod merkle;
mod search;

pub use benchmark::{BENCHMARK_LENGTH, benchmark_cpu};
pub use challenge::{Beacon, Challenge};
pub use search::{BATCH, Search, SearchState, find_shares};
