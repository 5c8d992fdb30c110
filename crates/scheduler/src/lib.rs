//! Matching, ranking and explaining in fixed point. Spec: `docs/specs/market.md`.
//!
//! ```text
//!  order + offers -> evaluate (filters, rate, escrow, score) -> rank (top three)
//!                             \-> explain (the same verdicts, counted)
//! ```
//! Guarantees: pure and deterministic (integers only, ties broken by a drawn hash), and explaining runs the very code that
//! matches. It does not know where offers are kept, whose money is moved or when a draw happens: that is the ledger's.

mod evaluate;
mod explain;
mod rank;

pub use evaluate::{Exclusion, MAX_RATE_PER_HOUR, Need, OfferView, Quote, Verdict, affordable, evaluate, hold_for, price_for};
pub use explain::{Explanation, Relaxation, Step, explain};
pub use rank::{Candidate, MAX_CANDIDATES, TOP, rank};
