//! What reputation keeps: an account's standing, what one counterparty gave of it, ratings. Spec: `docs/specs/reputation.md`.
//!
//! Guarantees: borsh, frozen by golden fixtures; holds no money.

use super::fade::{MAX_VALUE, fade};
use borsh::{BorshDeserialize, BorshSerialize};
use pasture_types::reputation::MAX_STARS;
use pasture_types::{AccountId, Amount, LeaseId, Timestamp};
use serde::{Deserialize, Serialize};

/// In which part an account is judged.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// As one who serves.
    Provider,
    /// As one who pays.
    User,
}

/// An account's standing in one role, as of an epoch; it fades from there.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Standing {
    /// Network fees that counted.
    pub fees: Amount,
    /// Broken leases, weighed in fees.
    pub harm: Amount,
    /// Network fees behind its ratings.
    pub rated: Amount,
    /// The same times the stars.
    pub stars: Amount,
    /// Counterparties that are remembered.
    pub pairs: u32,
    /// As of when; epochs without halts.
    pub epoch: u64,
}

/// What a provider and a user gave each other.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Pair {
    /// Fees that counted for the provider.
    pub provider_fees: Amount,
    /// Fees that counted for the user.
    pub user_fees: Amount,
    /// Objections, weighed in fees.
    pub harm: Amount,
    /// Fees behind the user's ratings.
    pub rated: Amount,
    /// As of when.
    pub epoch: u64,
}

/// A rating.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Rating {
    /// Of which lease.
    pub lease: LeaseId,
    /// Whose node served it.
    pub provider: AccountId,
    /// Who paid for it.
    pub account: AccountId,
    /// How well.
    pub stars: u8,
    /// How much it counts, as of [`Rating::epoch`].
    pub weight: Amount,
    /// When it was first given, as an epoch without halts.
    pub epoch: u64,
    /// When it was last changed.
    pub at: Timestamp,
}

fn faded(amount: Amount, epochs: u64, half_life: u64) -> Amount {
    Amount(fade(amount.0, epochs, half_life))
}

/// A sum that still fades without overflow.
pub(crate) fn plus(a: Amount, b: Amount) -> Amount {
    a.saturating_add(b).min(Amount(MAX_VALUE))
}

impl Standing {
    /// The same as of a later epoch.
    pub(crate) fn at(self, epoch: u64, half_life: u64) -> Self {
        let passed = epoch.saturating_sub(self.epoch);
        let rated = faded(self.rated, passed, half_life);
        // Each is rounded down by itself: without the bound, a mean of five stars would become a little more.
        let most = Amount(rated.0.saturating_mul(u128::from(MAX_STARS)));
        Self {
            fees: faded(self.fees, passed, half_life),
            harm: faded(self.harm, passed, half_life),
            rated,
            stars: faded(self.stars, passed, half_life).min(most),
            pairs: self.pairs,
            epoch: self.epoch.max(epoch),
        }
    }
}

impl Pair {
    /// The same as of a later epoch.
    pub(crate) fn at(self, epoch: u64, half_life: u64) -> Self {
        let passed = epoch.saturating_sub(self.epoch);
        Self {
            provider_fees: faded(self.provider_fees, passed, half_life),
            user_fees: faded(self.user_fees, passed, half_life),
            harm: faded(self.harm, passed, half_life),
            rated: faded(self.rated, passed, half_life),
            epoch: self.epoch.max(epoch),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mean_of_five_stars_never_fades_to_more() {
        for rated in [999_999u128, 1_000_001, 988_514, 7] {
            let full = Standing { rated: Amount(rated), stars: Amount(rated * u128::from(MAX_STARS)), ..Standing::default() };
            for epoch in 0..2_000 {
                let then = full.at(epoch, 720);
                assert!(then.stars.0 <= then.rated.0 * u128::from(MAX_STARS), "{then:?}");
                assert!(then.stars >= then.rated || then.rated.is_zero(), "{then:?}");
            }
        }
    }
}
