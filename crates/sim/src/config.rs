//! What a run is made of: how many, how long, who, at which parameters of the zone and at which costs of the world outside.
//!
//! Guarantees: production parameters but for what [`zone_params`] names. `docs/SIMULATION.md` says why each differs.

use crate::strategy::{Serving, Using};
use pasture_types::audit::AuditParams;
use pasture_types::genesis::Params;
use pasture_types::market::Rates;
use pasture_types::{Amount, Millis, Resources};

/// One hour in milliseconds.
pub const HOUR_MS: u64 = 3_600_000;
/// One day in milliseconds.
pub const DAY_MS: u64 = 24 * HOUR_MS;
/// Longest job: below the longest lease.
pub const MAX_JOB: Millis = Millis(20 * HOUR_MS);
/// Orders stop so long before a run's end: the longest job, its start and its windows.
pub const TAIL: Millis = Millis(22 * HOUR_MS);
/// Mean length of a job.
pub const MEAN_JOB: Millis = Millis(8 * HOUR_MS);
/// Mean time between a user's jobs.
pub const MEAN_THINK: Millis = Millis(16 * HOUR_MS);
/// How often an absent user looks.
pub const LOOK: Millis = Millis(6 * HOUR_MS);
/// Declared hashes a second of a core: the least that the ledger takes, so that a month's proofs can be computed.
pub const CORE_HASHES: u64 = 1_000;
/// Every provider begins with so much.
pub const PURSE: Amount = Amount::credits(1_000);
/// Validators; each witnesses every audit.
pub const VALIDATORS: u8 = 4;
/// Most nodes that one user keeps away from, after they failed it: an order has 16 conditions, and one is the region.
pub const MAX_AVOIDED: usize = 15;

/// A run.
#[derive(Clone, Debug)]
pub struct Config {
    /// Providers, each with one node.
    pub nodes: u32,
    /// Honest users. Three to five nodes, each with a job a third of the time, leave one node in five busy.
    pub users: u32,
    /// How long, in ledger time.
    pub length: Millis,
    /// What all randomness comes from.
    pub seed: u64,
    /// Honest users who are absent and named no watcher, in parts per million.
    pub absent_ppm: u64,
    /// Honest users who are absent and named a watcher that lies for some providers, in parts per million.
    pub deceived_ppm: u64,
    /// How often absent users look.
    pub look: Millis,
    /// How many nodes that failed it a user keeps away from.
    pub avoids: usize,
    /// The zone's penalty for harm (`docs/specs/reputation.md` §4).
    pub penalty: u32,
    /// Weight of reputation in a draw's score, in parts per million; the price gives what it takes.
    pub reputation_weight: u32,
    /// Weight of a user's own history with a provider, in parts per million; the client's preferences give what it takes.
    pub history_weight: u32,
    /// Sign each envelope, admit it like a mempool and verify it in the block; else the ledger is told that this was done.
    pub verify: bool,
    /// Call the ledger's own check of all its invariants every so much ledger time, and at the end.
    pub check_every: Millis,
}

impl Config {
    /// A month of a thousand nodes.
    #[must_use]
    pub const fn full(seed: u64) -> Self {
        Self {
            nodes: 1_000,
            users: 600,
            length: Millis(30 * DAY_MS),
            seed,
            absent_ppm: 10_000,
            deceived_ppm: 5_000,
            look: LOOK,
            avoids: MAX_AVOIDED,
            penalty: 5,
            reputation_weight: 100_000,
            history_weight: 50_000,
            verify: false,
            check_every: Millis(10 * DAY_MS),
        }
    }
    /// Of a thousand nodes, how many follow a strategy; at least two.
    #[must_use]
    pub fn nodes_of(&self, serving: Serving) -> u32 {
        match serving {
            Serving::Honest => {
                let others: u32 = Serving::ALL.iter().filter(|s| **s != Serving::Honest).map(|s| self.nodes_of(*s)).sum();
                self.nodes.saturating_sub(others)
            }
            _ => (self.nodes / 50).max(2),
        }
    }
    /// The zone's rules.
    #[must_use]
    pub fn params(&self) -> Params {
        let mut params = zone_params();
        params.reputation.penalty = self.penalty;
        let weights = &mut params.market.weights;
        weights.price = (weights.price + weights.reputation).saturating_sub(self.reputation_weight);
        weights.reputation = self.reputation_weight;
        weights.preference = (weights.preference + weights.history).saturating_sub(self.history_weight);
        weights.history = self.history_weight;
        params
    }
    /// How many users follow a strategy.
    #[must_use]
    pub fn users_of(&self, using: Using) -> u32 {
        let honest = u64::from(self.users);
        let part = |ppm: u64| u32::try_from(honest * ppm / 1_000_000).unwrap_or(u32::MAX).max(u32::from(ppm > 0));
        let (watched, deceived, absent) = (part(230_000), part(self.deceived_ppm), part(self.absent_ppm));
        match using {
            Using::Attentive => self.users.saturating_sub(watched + deceived + absent),
            Using::Watched => watched,
            Using::Deceived => deceived,
            Using::Absent => absent,
            Using::Objects => part(20_000).max(2),
            Using::Spams => part(5_000).max(2),
            Using::Sybil => 0,
        }
    }
}

/// A machine: four cores and eight GiB; an order takes all of it.
#[must_use]
pub fn machine(times: u32) -> Resources {
    Resources {
        cpu_millis: 4_000 * times,
        memory_bytes: u64::from(8 * times) << 30,
        disk_bytes: u64::from(8 * times) << 30,
        ..Resources::default()
    }
}

/// Regions; an order names one.
pub const REGIONS: u64 = 8;

/// A region's name.
#[must_use]
pub fn region(n: u64) -> String {
    format!("r{}", n % REGIONS)
}

/// What a whole machine costs at list prices: 4.4 credits an hour.
#[must_use]
pub fn list_rates(ppm: u128) -> Rates {
    Rates { cpu_core: Amount(900 * ppm), memory_gib: Amount(100 * ppm), ..Rates::default() }
}

/// [`list_rates`] of a machine for an hour.
pub const LIST_RATE: Amount = Amount(4_400_000_000);

/// The zone: production, but for the length of a lease (how long heartbeats are kept in memory), the work of a heartbeat, and
/// audits (production waits for the machines' bursts; here they run, rarer and shorter). Hashes are what a run spends most on.
#[must_use]
pub fn zone_params() -> Params {
    let audits = AuditParams {
        active: true,
        tick: Millis(60_000),
        interval: Millis(2 * HOUR_MS),
        burst: Millis(500),
        places: false,
        ..AuditParams::production()
    };
    Params { audits, max_lease: Millis(DAY_MS), heartbeat_work: Millis(100), ..Params::production() }
}

/// What the world outside the ledger charges and is worth, in parts per million of [`LIST_RATE`].
pub mod costs {
    /// Power and wear of a machine that runs a job.
    pub const SERVING_PPM: u128 = 300_000;
    /// A core's 0.3 s of 60 and a burst now and then, while there is a lease to prove for.
    pub const PROVING_PPM: u128 = 15_000;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_is_counted_once_and_the_rules_make_sense() {
        for nodes in [40, 200, 1_000] {
            let config = Config { nodes, users: nodes, ..Config::full(1) };
            assert_eq!(Serving::ALL.iter().map(|s| config.nodes_of(*s)).sum::<u32>(), nodes);
            let honest: u32 = Using::ALL.iter().filter(|u| u.is_honest()).map(|u| config.users_of(*u)).sum();
            assert_eq!(honest, nodes);
        }
        let config = Config { absent_ppm: 0, deceived_ppm: 0, reputation_weight: 300_000, history_weight: 200_000, ..Config::full(1) };
        assert_eq!((config.users_of(Using::Absent), config.users_of(Using::Deceived)), (0, 0));
        let params = config.params();
        assert_eq!((params.market.check(), params.reputation.check().is_ok()), (Ok(()), true));
        assert_eq!((params.epoch, params.min_stake, params.dev), (Params::production().epoch, Params::production().min_stake, false));
        assert_eq!(list_rates(1_000_000).hourly(&machine(1)), Some(LIST_RATE));
    }
}
