//! Reputation: its parameters, ratings and events. Spec: `docs/specs/reputation.md`.
//!
//! Guarantees: every number of the formula is a parameter with bounds. How a score is made is the ledger's to say.

use crate::governance::{OutOfBounds, within};
use crate::{AccountId, Amount, LeaseId, Millis};
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

/// Longest time after a lease's end in which it may be rated: what is kept for it.
pub const MAX_RATING_WINDOW: Millis = Millis(90 * 24 * 3_600_000);
/// Most stars.
pub const MAX_STARS: u8 = 5;

/// Parameters of reputation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct ReputationParams {
    /// Standing fades by half in so many epochs.
    pub half_life_epochs: u64,
    /// Network fees that lift a score half the way: the price of reputation.
    pub half_point: Amount,
    /// Most standing that one counterparty gives (or takes).
    pub pair_cap: Amount,
    /// An account must be registered so long before what it pays counts.
    pub min_age: Millis,
    /// What a broken lease takes away, as a multiple of what its fee would have given.
    pub penalty: u32,
    /// So many epochs of a broken lease's rate are what it is weighed by, at most.
    pub penalty_epochs: u64,
    /// Most that fees lift a score above the middle.
    pub fees_ppm: u32,
    /// Most that ratings lift or lower it.
    pub rating_ppm: u32,
    /// How long after a lease's end it can be rated, and a rating changed.
    pub rating_window: Millis,
}

impl ReputationParams {
    /// Of a development zone: it grows and fades within the hour.
    #[must_use]
    pub const fn dev() -> Self {
        Self {
            half_life_epochs: 720,
            half_point: Amount(10_000_000),
            pair_cap: Amount(1_000_000),
            min_age: Millis(10_000),
            penalty: 5,
            penalty_epochs: 10,
            fees_ppm: 400_000,
            rating_ppm: 100_000,
            rating_window: Millis(3_600_000),
        }
    }
    /// Of a production zone: a month's half-life, a hundred credits of fees half the way, ten counterparties at least.
    #[must_use]
    pub const fn production() -> Self {
        Self {
            half_life_epochs: 43_200,
            half_point: Amount::credits(100),
            pair_cap: Amount::credits(10),
            min_age: Millis(7 * 24 * 3_600_000),
            rating_window: Millis(14 * 24 * 3_600_000),
            ..Self::dev()
        }
    }

    /// Checks the bounds of each and of the set.
    ///
    /// # Errors
    /// The first bound that is broken.
    pub fn check(&self) -> Result<(), OutOfBounds> {
        within("reputation.half_life_epochs", self.half_life_epochs, 10u64, 10_000_000u64)?;
        within("reputation.half_point", self.half_point.0, 1_000u32, Amount::credits(1_000_000_000).0)?;
        // One counterparty gives at most a quarter of the way to the half point.
        within("reputation.pair_cap", self.pair_cap.0, 1u32, self.half_point.0 / 4)?;
        within("reputation.min_age", self.min_age.0, 0u64, 366 * 24 * 3_600_000u64)?;
        within("reputation.penalty", self.penalty, 1u32, 100u32)?;
        within("reputation.penalty_epochs", self.penalty_epochs, 1u64, 1_000u64)?;
        within("reputation.fees_ppm + rating_ppm", u64::from(self.fees_ppm) + u64::from(self.rating_ppm), 1u32, 500_000u32)?;
        within("reputation.rating_window", self.rating_window.0, 0u64, MAX_RATING_WINDOW.0)
    }
}

/// What users do about reputation. Variants are only ever added at the end.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub enum ReputationAction {
    /// Rates the provider of a lease that the acting account paid for, or changes that rating.
    Rate {
        /// Which lease.
        lease: LeaseId,
        /// 1 to [`MAX_STARS`].
        stars: u8,
    },
}

/// What became of it. Variants are only ever added at the end.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "reputation")]
pub enum ReputationEvent {
    /// A lease was rated.
    Rated {
        /// Which.
        lease: LeaseId,
        /// Whose node served it.
        provider: AccountId,
        /// Who paid for it.
        account: AccountId,
        /// How well.
        stars: u8,
    },
}
