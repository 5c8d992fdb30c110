//! Matrix products as proof of work: int8 times int8, exact in int32, every row committed to before any is asked for.
//! Spec: `docs/specs/gemm.md`.
//!
//! ```text
//!   round (randomness, epoch, n) --> B, n x n, the same for all           Prover::leaves   rows of C, layer by layer
//!   challenge (node, ..., nonces) --> X_0, rows x n, one's own            commit           root
//!   C_l = X_l B,  X_{l+1} = bits 4..12 of C_l                              beacon --> r, rows to open
//!   leaf i = H(i, row i of C_0, C_1, ..)                                   open / verify    Freivalds, range, leaf
//! ```
//!
//! Guarantees: exact integers only; whoever runs it gets the same bits; bytes of a proof that are not the honest ones are
//! refused (but for 2^-30), and none makes the verifier panic or allocate more than the shape says. It knows no clock: that the
//! root came in time, and the beacon after it, is the caller's to see.

mod audited;
mod fraud;
mod kernel;
mod prove;
mod shape;
mod verify;

pub use audited::{Audited, Product};
pub use fraud::{WrongEntry, find as find_wrong_entry};
pub use prove::{Plan, Prover, Rows, benchmark_gemm};
pub use shape::{MAX_LAYERS, MAX_N, MAX_ROWS, MIN_N, OPENED, Round, Shape};
pub use verify::{Check, GemmError};

/// Seed of a node's own rows.
const ROWS_DOMAIN: &str = "pasture 2026-11 gemm rows v1";

/// The next layer's entry: eight bits from the middle of a sum, where they are near uniform at every `n` in use.
const fn next(sum: i32) -> i8 {
    (sum >> 4) as i8
}
