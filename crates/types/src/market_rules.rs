//! The market's own actions, events and parameters. Spec: `docs/specs/market.md`.
//!
//! Guarantees: frozen formats; a set of parameters can say whether it makes sense. It draws nothing: see `scheduler`.

use crate::governance::{OutOfBounds, within};
use crate::{AccountId, Amount, LeaseId, Millis, NodeId, OfferId, Timestamp};
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

/// A whole, in the fixed point of scores and shares.
pub const PPM: u32 = 1_000_000;
/// Most offers that one draw may score.
pub const MAX_CANDIDATES: u32 = 128;
/// Most that all draws of one block may cost: what its own work leaves of the time that a block keeps for it.
pub const MAX_DRAW_COST_US: u32 = 40_000;
/// Typical jobs that placement against fragmentation looks at.
pub const TYPICAL_JOBS: usize = 8;

/// What the market does besides offers and orders.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub enum MarketAction {
    /// Takes an offer out of the draws, or back into them; it keeps its age.
    PauseOffer {
        /// Which.
        offer: OfferId,
        /// Whether it rests from now on.
        paused: bool,
    },
    /// Adds money to a lease without an end, and the time that it pays for.
    TopUp {
        /// Which.
        lease: LeaseId,
        /// At most how much.
        amount: Amount,
    },
    /// Lets a rental end with the units that are paid.
    StopRenewal {
        /// Which.
        lease: LeaseId,
    },
    /// The node gives notice that it will end a preemptible lease.
    Preempt {
        /// Which.
        lease: LeaseId,
    },
    /// Takes a machine's offers away, and its right to make others, until its provider registers it again. Its leases go on.
    DismissNode {
        /// Which.
        node: NodeId,
    },
}

/// What the market did.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "market")]
pub enum MarketEvent {
    /// An offer rests, or is back.
    OfferPaused {
        /// Which.
        offer: OfferId,
        /// Whether it rests.
        paused: bool,
    },
    /// What is on hold for a lease is about to run out.
    LeaseLow {
        /// Which.
        lease: LeaseId,
        /// Whose.
        account: AccountId,
        /// When it ends unless more is put on hold.
        ends: Timestamp,
    },
    /// A rental went on by a unit.
    RentalRenewed {
        /// Which.
        lease: LeaseId,
        /// Whose.
        account: AccountId,
        /// Put on hold for it.
        escrow: Amount,
        /// When it ends now.
        ends: Timestamp,
    },
    /// A rental was left before its committed end.
    RentalCancelled {
        /// Which.
        lease: LeaseId,
        /// Whose.
        account: AccountId,
        /// What that cost.
        fee: Amount,
    },
    /// A node will end a lease.
    PreemptNotice {
        /// Which.
        lease: LeaseId,
        /// Whose.
        account: AccountId,
        /// On which node.
        node: NodeId,
        /// Not before this.
        at: Timestamp,
    },
    /// A machine may offer nothing more.
    NodeDismissed {
        /// Which.
        node: NodeId,
        /// Whose.
        provider: AccountId,
    },
}

/// How well an order fits a machine: what the fit part of the score measures.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FitPolicy {
    /// The used share of what is free.
    BestFit,
    /// Drawn: no preference at all.
    Random,
    /// The shape of the order against the shape of what is free.
    DotProduct,
    /// Where the GPUs that typical jobs cannot use grow least; best fit where no GPU is concerned.
    #[default]
    Fragmentation,
}

/// A job as it is often asked for, for the measure of fragmentation.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct TypicalJob {
    /// Its CPU.
    pub cpu_millis: u32,
    /// Its memory in MiB.
    pub memory_mib: u32,
    /// Its GPUs.
    pub gpus: u16,
    /// How much of each it takes, in thousandths.
    pub gpu_millis: u16,
    /// How often it is asked for, relative to the others; zero leaves it out.
    pub weight: u32,
}

/// What the parts of a score weigh, in parts per million; together [`PPM`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Weights {
    /// A low price.
    pub price: u32,
    /// The client's own ranking.
    pub preference: u32,
    /// A good fit.
    pub fit: u32,
    /// The very region that was asked.
    pub region: u32,
    /// The provider's standing.
    pub reputation: u32,
    /// The user's own leases with that provider.
    pub history: u32,
}

/// The market's parameters.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct MarketParams {
    /// Whether GPUs can be offered and leased: only where nothing needs to be proven.
    pub gpu_leases: bool,
    /// What the parts of a score weigh.
    pub weights: Weights,
    /// What the fit part measures.
    pub fit: FitPolicy,
    /// What is often asked for.
    pub typical: [TypicalJob; TYPICAL_JOBS],
    /// Most offers that one draw scores, at most [`MAX_CANDIDATES`].
    pub candidates: u32,
    /// What all draws of one block may cost, in microseconds.
    pub draw_cost_us: u32,
    /// Price of one point of priority, paid to the treasury when the order is placed.
    pub priority_price: Amount,
    /// Draws after pauses that an order has for nothing.
    pub free_draws: u32,
    /// What each further one takes from the order's deposit.
    pub draw_price: Amount,
    /// Longest rental and longest lease without an end.
    pub max_rental: Millis,
    /// What leaving a rental early costs, in parts per million of the price of the rest of the committed term.
    pub early_cancel_ppm: u32,
    /// At which share of the last hold the warning comes, or the renewal, in parts per million.
    pub low_ppm: u32,
    /// How long before its end a preempted lease is told.
    pub preempt_notice: Millis,
}

const fn job(cpu_millis: u32, memory_mib: u32, gpus: u16, gpu_millis: u16, weight: u32) -> TypicalJob {
    TypicalJob { cpu_millis, memory_mib, gpus, gpu_millis, weight }
}

impl MarketParams {
    /// Parameters of a development zone.
    #[must_use]
    pub const fn dev() -> Self {
        Self {
            gpu_leases: true,
            weights: Weights { price: 350_000, preference: 300_000, fit: 150_000, region: 50_000, reputation: 100_000, history: 50_000 },
            fit: FitPolicy::Fragmentation,
            typical: [
                job(1_000, 2_048, 0, 0, 30),
                job(4_000, 8_192, 0, 0, 15),
                job(4_000, 16_384, 1, 1_000, 25),
                job(8_000, 32_768, 1, 1_000, 10),
                job(16_000, 65_536, 2, 1_000, 8),
                job(32_000, 131_072, 4, 1_000, 6),
                job(64_000, 262_144, 8, 1_000, 6),
                job(0, 0, 0, 0, 0),
            ],
            candidates: 64,
            draw_cost_us: 40_000,
            priority_price: Amount(100_000),
            free_draws: 8,
            draw_price: Amount(8_500),
            max_rental: Millis(366 * 24 * 3_600_000),
            early_cancel_ppm: 200_000,
            low_ppm: 200_000,
            preempt_notice: Millis(30_000),
        }
    }

    /// Parameters of a production zone.
    #[must_use]
    pub const fn production() -> Self {
        Self { gpu_leases: false, preempt_notice: Millis(120_000), ..Self::dev() }
    }

    /// Checks the bounds of each and of the set.
    ///
    /// # Errors
    /// The first bound that is broken.
    pub fn check(&self) -> Result<(), OutOfBounds> {
        const DAY: u64 = 24 * 3_600_000;
        let w = &self.weights;
        let sum: u64 = [w.price, w.preference, w.fit, w.region, w.reputation, w.history].iter().map(|x| u64::from(*x)).sum();
        within("the sum of market.weights", sum, PPM, PPM)?;
        for job in &self.typical {
            within("market.typical, thousandths of each GPU,", job.gpu_millis, 0u16, 1_000u16)?;
            within("market.typical, GPUs,", job.gpus, 0u16, 1_024u16)?;
            within("market.typical, weight,", job.weight, 0u32, PPM)?;
        }
        within("market.candidates", self.candidates, 1u32, MAX_CANDIDATES)?;
        // More would not fit into what a block keeps for its own work; however little it is, one order is drawn.
        within("market.draw_cost_us", self.draw_cost_us, 100u32, MAX_DRAW_COST_US)?;
        within("market.priority_price", self.priority_price.0, 0u32, Amount::credits(1_000).0)?;
        within("market.free_draws", self.free_draws, 0u32, 10_000u32)?;
        within("market.draw_price", self.draw_price.0, 0u32, Amount::credits(1).0)?;
        within("market.max_rental", self.max_rental.0, 3_600_000u64, 366 * DAY)?;
        within("market.early_cancel_ppm", self.early_cancel_ppm, 0u32, PPM)?;
        // A renewal or a warning needs time before the end.
        within("market.low_ppm", self.low_ppm, 10_000u32, PPM)?;
        within("market.preempt_notice", self.preempt_notice.0, 1_000u64, DAY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_parameters_make_sense_and_others_are_told_apart() {
        for p in [MarketParams::dev(), MarketParams::production()] {
            assert_eq!(p.check(), Ok(()));
            assert!(MarketParams { candidates: MAX_CANDIDATES + 1, ..p.clone() }.check().is_err());
            assert!(MarketParams { weights: Weights { price: 1, ..p.weights }, ..p.clone() }.check().is_err());
            assert!(MarketParams { weights: Weights { price: u32::MAX, ..p.weights }, ..p.clone() }.check().is_err());
            assert!(MarketParams { low_ppm: PPM + 1, ..p.clone() }.check().is_err());
            let unknown = MarketParams { draw_cost_us: MAX_DRAW_COST_US + 1, ..p }.check().unwrap_err();
            assert_eq!(unknown.to_string(), "market.draw_cost_us may be 100 to 40000, not 40001");
        }
        assert!(!MarketParams::production().gpu_leases, "no proofs of GPUs yet");
    }
}
