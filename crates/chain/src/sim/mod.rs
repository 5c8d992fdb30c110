//! Deterministic simulation: the real stack of four to seven validators in virtual time, on faulty networks, disks and clocks, among
//! dishonest ones; any state machine and its users on top.
//!
//! ```text
//!  seed ─► world ─┬─► node ×4..7 ─► stack, core, app, gossip (as in production)
//!                 │      └─ context: runtime   disk: torn writes   net: overtaking, silence   liar, deceiver: dishonesty
//!                 ├─► scenario: state machine, clients ─► door ─► Core::submit
//!                 └─► history: every rule, after every final block and every vote ─► the scenario's model
//! ```
//! Guarantees: the same seed gives the same run. The rules themselves are tested: with a fault put in on purpose a run fails.
//! In some runs a further validator begins with an empty disk and joins by state while all of this happens, and some lie to it.
//! It does not simulate the authenticated connections (`net`). No product links it: it is here for the tests, and behind
//! the feature `simulation` for `crates/sim`, which runs the ledger on it.
//!
//! The tests run a small machine: `SEED=7` runs one seed, `SEEDS=1000` as many from 0 on, `SECONDS=60` makes the faults last longer.

#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "what is wrong must end the run")]

mod context;
mod deceiver;
mod dice;
mod disk;
mod door;
mod frame;
mod history;
mod liar;
pub(crate) mod memo;
mod net;
mod node;
mod scenario;
#[cfg(test)]
mod small;
#[cfg(test)]
mod tests;
mod verdict;
mod world;

pub use dice::Dice;
pub use door::{Answer, Desk, Door};
pub use liar::Evil;
pub use scenario::{Founders, Life, Model, Newcomer, Scenario};
pub use world::{BEGIN, Joined, Outcome, Setup};

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// What no validator survives, put in on purpose to see that it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A validator forgets at a crash what it voted.
    ForgetsVotes,
    /// The disk says that all is synchronised and it is not: what was acknowledged is gone after a crash.
    LyingDisk,
    /// Who joins by state takes every certificate for a right one.
    BelievesCertificates,
}

/// Runs a scenario on the calling thread.
///
/// # Errors
/// The first rule that was broken, and what the run was made of.
pub fn attempt(setup: Setup, mut make: impl FnMut(Founders) -> Arc<dyn Scenario>) -> Result<Outcome, String> {
    catch_unwind(AssertUnwindSafe(|| world::run(setup, &mut make))).map_err(|_| {
        let why = verdict::broken().unwrap_or_else(|| "it panicked".into());
        format!("{why} ({})", verdict::what())
    })
}
