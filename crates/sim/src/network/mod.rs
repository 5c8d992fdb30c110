//! The ledger on the real engine: validators under faults, providers and users who act through whichever of them answers.
//!
//! ```text
//!  pasture_chain::sim: engine, gossip, store of 4..7 validators; loss, partitions, torn writes, skewed clocks, dishonest validators
//!     machine: the ledger, as nodes run it (crates/machine)          agents: provider, user, operator, payer
//!     model: the same blocks on the ledger alone, and every invariant after each; what was acknowledged; sequences
//! ```
//! Guarantees: a seed repeats a run; what is simulated is the product's own code but for time, network, disk and people. Whoever is
//! dishonest is a separate implementation. A seed that fails says why and how to repeat it.
//! It does not simulate containers, the data plane, gateways or the authenticated connections. Agents reach every validator that is up.

mod agent;
pub mod bugs;
mod machine;
mod model;
mod operator;
mod provider;
mod town;
mod user;

pub use bugs::Bug;
pub use model::Counts;
pub use pasture_chain::sim::Fault;

use pasture_chain::sim::{Joined, Outcome, Setup, attempt};
use serde::Serialize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use town::Town;

/// How long faults happen in a run of the full measure, in virtual seconds.
pub const SECONDS: u64 = 1_000;

/// A run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// What everything follows from.
    pub seed: u64,
    /// How long faults happen, in virtual seconds.
    pub seconds: u64,
    /// How many provider nodes; chosen by the seed if not given.
    pub nodes: Option<usize>,
    /// A bug put in on purpose.
    pub bug: Option<Bug>,
    /// A fault of the validators put in on purpose.
    pub fault: Option<Fault>,
}

impl Options {
    /// A run of a seed.
    #[must_use]
    pub const fn new(seed: u64, seconds: u64) -> Self {
        Self { seed, seconds, nodes: None, bug: None, fault: None }
    }

    /// The command that repeats it.
    #[must_use]
    pub fn command(&self) -> String {
        let nodes = self.nodes.map_or_else(String::new, |n| format!(" --nodes {n}"));
        let bug = self.bug.map_or_else(String::new, |bug| format!(" --bug {}", bug.name()));
        format!("farm-sim network --seed {} --seconds {}{nodes}{bug}", self.seed, self.seconds)
    }
}

/// What a run that held came to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Held {
    /// Its seed.
    pub seed: u64,
    /// Validators.
    pub validators: usize,
    /// What the dishonest among them did.
    pub evil: Vec<String>,
    /// Whether the ledger elects them.
    pub elects: bool,
    /// Whether somebody joined meanwhile.
    pub joins: bool,
    /// The height of the block whose state it took, if it took one.
    pub joined_at: Option<u64>,
    /// Provider nodes.
    pub nodes: usize,
    /// What happened on the ledger.
    pub counts: Counts,
    /// Final blocks.
    pub blocks: u64,
    /// Transactions that clients were told are final.
    pub acknowledged: usize,
    /// Crashes of honest validators.
    pub crashes: u64,
    /// Partitions of the network.
    pub partitions: u64,
    /// Virtual time, with that of getting on after the faults.
    pub virtual_ms: u64,
    /// A hash over all that became final, where and when, and over every step of every task.
    pub trace: String,
}

/// A run that broke a rule.
#[derive(Clone, Debug, thiserror::Error)]
#[error("seed {seed} failed: {why}\n  repeat: {command}")]
pub struct Failed {
    /// Its seed.
    pub seed: u64,
    /// Which rule, and how.
    pub why: String,
    /// What repeats it.
    pub command: String,
}

/// Runs a seed on the calling thread.
///
/// # Errors
/// The first rule that was broken.
pub fn run(options: Options) -> Result<Held, Failed> {
    let town = Mutex::new(None);
    let setup = Setup { seed: options.seed, seconds: options.seconds, fault: options.fault };
    let outcome = attempt(setup, |founders| {
        let made = Arc::new(Town::new(founders, &options));
        *lock(&town) = Some(Arc::clone(&made));
        made
    });
    let town = lock(&town).take();
    match (outcome, town) {
        (Ok(outcome), Some(town)) => Ok(held(options.seed, outcome, &town)),
        (Ok(_), None) => Err(Failed { seed: options.seed, why: "nobody was there".into(), command: options.command() }),
        (Err(why), _) => Err(Failed { seed: options.seed, why, command: options.command() }),
    }
}

fn held(seed: u64, outcome: Outcome, town: &Town) -> Held {
    let trace = pasture_types::ids::derive("pasture simulation trace", &[&outcome.trace, outcome.auditor.as_bytes()]);
    let joined_at = match outcome.joined {
        Some(Joined::State(height)) => Some(height),
        Some(Joined::Blocks) | None => None,
    };
    Held {
        seed,
        validators: outcome.validators,
        evil: outcome.evil.iter().map(|evil| format!("{evil:?}")).collect(),
        elects: town.elects(),
        joins: outcome.joined.is_some(),
        joined_at,
        nodes: town.nodes(),
        counts: town.counts(),
        blocks: outcome.height,
        acknowledged: outcome.acknowledged,
        crashes: outcome.crashes,
        partitions: outcome.partitions,
        virtual_ms: outcome.virtual_ms,
        trace: pasture_types::BlobHash(trace).to_string(),
    }
}

/// One thread runs a simulation, so nobody waits here; what a panic left behind is read once more to say so.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
