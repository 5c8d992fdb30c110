//! Assets besides the native credit: what a zone lists, and what fees cost in them. Spec: `docs/specs/assets.md`.
//!
//! Guarantees: an asset's id, decimals and origin never change once it is listed, at genesis or by a vote; all amounts count in billionths of a unit (as credits
//! do), whatever the decimals, which only say how exactly the asset is known elsewhere. It moves nothing.

use crate::amount::NANOS_PER_CREDIT;
use crate::{AccountId, Amount, AssetId};
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

/// Most assets that a zone lists besides the credit.
pub const MAX_ASSETS: usize = 64;
/// Longest symbol, in bytes.
pub const MAX_SYMBOL: usize = 12;
/// Most decimals: amounts count billionths.
pub const MAX_DECIMALS: u8 = 9;
/// Most assets that fees may be paid in, besides the credit.
pub const MAX_FEE_ASSETS: usize = 8;

/// Most that one credit may cost in an asset: amounts of any supply can still be converted.
pub const MAX_PER_CREDIT: Amount = Amount::credits(1_000_000_000);

/// Somebody's first money in an asset.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Allocation {
    /// Whose.
    pub account: AccountId,
    /// How much.
    pub amount: Amount,
}

/// An asset that a zone lists.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Asset {
    /// Its number; never that of the credit.
    pub id: AssetId,
    /// Its short name, e.g. `USDC`.
    pub symbol: String,
    /// Decimals that it has where it comes from.
    pub decimals: u8,
    /// It stands for money on another chain.
    pub bridged: bool,
}

/// An asset at genesis, with who has it.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct GenesisAsset {
    /// What it is.
    pub asset: Asset,
    /// Its first money.
    pub allocations: Vec<Allocation>,
}

/// What fees cost in an asset.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct FeeRate {
    /// Which asset.
    pub asset: AssetId,
    /// How much of it one credit of fees costs.
    pub per_credit: Amount,
}

impl FeeRate {
    /// What an amount of credits is in the asset, rounded up: a fee is never rounded to nothing. `None` on overflow.
    #[must_use]
    pub const fn from_credits(&self, credits: Amount) -> Option<Amount> {
        match credits.0.checked_mul(self.per_credit.0) {
            Some(product) => Some(Amount(product.div_ceil(NANOS_PER_CREDIT))),
            None => None,
        }
    }
    /// What an amount of the asset is in credits, rounded down. `None` on overflow or without a rate.
    #[must_use]
    pub const fn to_credits(&self, amount: Amount) -> Option<Amount> {
        amount.mul_div(NANOS_PER_CREDIT, self.per_credit.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fees_round_up_and_what_they_are_worth_rounds_down() {
        let half = FeeRate { asset: AssetId(1), per_credit: Amount(500_000_000) };
        assert_eq!(half.from_credits(Amount(3)), Some(Amount(2)));
        assert_eq!(half.to_credits(Amount(2)), Some(Amount(4)));
        assert_eq!(half.from_credits(Amount(u128::MAX)), None);
        assert_eq!(FeeRate { per_credit: Amount::ZERO, ..half }.to_credits(Amount(1)), None);
    }
}
