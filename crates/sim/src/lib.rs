//! Honest and dishonest people on the real ledger, in virtual time: what each strategy gains, and what the other side loses at most;
//! the same ledger on the real engine under faults ([`network`]), with very many nodes and leases ([`scale`]), and what audits find out ([`audits`]).
//!
//! ```text
//!  world: who acts when, what is really served      chain: blocks on the ledger's state
//!    provider, client, witness  -- transactions -->   begin_block, apply, end_block
//!                               <-- events, queries --
//!  tally: what was paid for what was served   -->   report: rows, bounds, findings
//! ```
//! Guarantees: no rule of the ledger is repeated here; people act through transactions and read through queries. A seed repeats
//! a run. Only [`network`] has consensus and a network, and nothing has containers: what is served is a number. For development only;
//! nothing depends on it. `docs/SIMULATION.md` says how to read it.

pub mod audits;
pub mod chain;
pub mod client;
pub mod config;
pub mod dice;
pub mod memory;
pub mod network;
pub mod provider;
pub mod report;
pub mod scale;
pub mod strategy;
pub mod tally;
pub mod witness;
pub mod world;

pub use config::Config;
pub use report::Report;
pub use world::World;

/// Why a run stopped.
#[derive(Debug, thiserror::Error)]
pub enum SimError {
    /// The ledger's own check found something.
    #[error("the ledger's invariant `{rule}` is broken at height {height}: {detail}")]
    Invariant {
        /// Which.
        rule: &'static str,
        /// After which block.
        height: u64,
        /// What is wrong.
        detail: String,
    },
    /// More blocks than any run needs.
    #[error("the run does not come to an end: {0} blocks")]
    Endless(u64),
}

/// Runs a world to its end; `progress` hears of each day.
///
/// # Errors
/// A violation of the ledger's invariants.
pub fn run(config: Config, progress: &mut dyn FnMut(&World)) -> Result<Report, SimError> {
    let mut world = World::new(config);
    world.run(progress)?;
    Ok(report::report(&world))
}
