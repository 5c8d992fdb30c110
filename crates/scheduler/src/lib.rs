//! Matching, ranking and explaining in fixed point. Spec: `docs/specs/market.md`.
//!
//! ```text
//!  order + offers -> evaluate (filters, rate, escrow) -> score (parts, fit) -> rank (top three)
//!                             \-> explain (the same verdicts, counted) -> relax (the nearest changes)
//! ```
//! Guarantees: pure and deterministic (integers only, ties broken by a drawn hash), and explaining runs the very code that
//! matches. It does not know where offers are kept, whose money is moved or when a draw happens: that is the ledger's.

mod evaluate;
mod explain;
pub mod fit;
mod rank;
mod relax;
mod score;
mod words;

pub use evaluate::{
    Exclusion, MAX_RATE_PER_HOUR, Need, OfferView, Quote, Verdict, affordable, evaluate, hold_for, least_covered, lock_wanted, price_for,
};
pub use explain::{Explanation, Step, explain};
pub use fit::fit_part;
pub use pasture_types::market_rules::FitPolicy;
pub use rank::{Candidate, Ranking, TOP, rank};
pub use relax::{Change, MAX_RELAXATIONS, Relaxation};
