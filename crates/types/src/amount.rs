//! Money: nano-credits in a `u128`, with checked arithmetic only.
//!
//! Guarantees: no operation wraps or rounds silently. It knows nothing of who owns what.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// Nano-credits in one credit.
pub const NANOS_PER_CREDIT: u128 = 1_000_000_000;

/// An amount of money in nano-credits (or nano-units of another asset).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug, BorshSerialize, BorshDeserialize)]
pub struct Amount(pub u128);

/// Which asset an [`Amount`] counts. `0` is the native credit.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct AssetId(pub u32);

impl AssetId {
    /// The native credit.
    pub const CREDIT: Self = Self(0);
}

/// A string is not an amount of credits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an amount of credits: a number such as 1.25 with at most nine decimals is expected")]
pub struct ParseAmountError(pub String);

impl Amount {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// Whole credits.
    #[must_use]
    pub const fn credits(n: u64) -> Self {
        Self(n as u128 * NANOS_PER_CREDIT)
    }
    /// Sum, or `None` on overflow.
    #[must_use]
    pub const fn checked_add(self, other: Self) -> Option<Self> {
        match self.0.checked_add(other.0) {
            Some(v) => Some(Self(v)),
            None => None,
        }
    }
    /// Difference, or `None` if it would be negative.
    #[must_use]
    pub const fn checked_sub(self, other: Self) -> Option<Self> {
        match self.0.checked_sub(other.0) {
            Some(v) => Some(Self(v)),
            None => None,
        }
    }
    /// Difference, at least zero.
    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
    /// Sum, at most the largest amount.
    #[must_use]
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
    /// `self * num / den`, rounded down; `None` on overflow or division by zero.
    #[must_use]
    pub const fn mul_div(self, num: u128, den: u128) -> Option<Self> {
        if den == 0 {
            return None;
        }
        match self.0.checked_mul(num) {
            Some(v) => Some(Self(v / den)),
            None => None,
        }
    }
    /// Whether this is nothing.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }
    /// What a rate of `self` per hour costs for `ms` milliseconds, rounded down (the remainder favours the payer).
    #[must_use]
    pub const fn per_hour_for(self, ms: u64) -> Option<Self> {
        self.mul_div(ms as u128, 3_600_000)
    }
    /// Credits with a fixed number of decimals (0 to 9), rounded down: what people read.
    #[must_use]
    pub fn display(self, decimals: u32) -> String {
        let decimals = decimals.min(9);
        let whole = self.0 / NANOS_PER_CREDIT;
        let fraction = (self.0 % NANOS_PER_CREDIT) / 10u128.pow(9 - decimals);
        if decimals == 0 { format!("{whole}") } else { format!("{whole}.{fraction:0width$}", width = decimals as usize) }
    }
}

impl fmt::Display for Amount {
    /// Credits with as many decimals as needed, at least four.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let full = self.display(9);
        let keep = full.find('.').map_or(full.len(), |dot| dot + 5);
        let trimmed = full.trim_end_matches('0');
        f.write_str(full.get(..trimmed.len().max(keep)).unwrap_or(&full))
    }
}

impl FromStr for Amount {
    type Err = ParseAmountError;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let bad = || ParseAmountError(s.chars().take(40).collect());
        let (whole, fraction) = s.split_once('.').unwrap_or((s, ""));
        let digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty() || whole.len() > 20 || fraction.len() > 9 || !digits(whole) || !digits(fraction) {
            return Err(bad());
        }
        let whole: u128 = whole.parse().map_err(|_| bad())?;
        let nanos: u128 = if fraction.is_empty() { 0 } else { format!("{fraction:0<9}").parse().map_err(|_| bad())? };
        whole.checked_mul(NANOS_PER_CREDIT).and_then(|w| w.checked_add(nanos)).map(Self).ok_or_else(bad)
    }
}

/// JSON carries nano-credits as a decimal string, since a `u128` does not fit a JSON number.
impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.0.to_string())
    }
}
impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        <String as Deserialize>::deserialize(d)?.parse().map(Self).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credits_round_trip_and_refuse_nonsense() {
        assert_eq!("1.25".parse::<Amount>(), Ok(Amount(1_250_000_000)));
        assert_eq!(Amount(1_250_000_000).to_string(), "1.2500");
        assert_eq!(Amount(1).to_string(), "0.000000001");
        assert_eq!(Amount(12_000_000).display(4), "0.0120");
        for bad in ["", "-1", "1.0000000001", "1e9", ".5", "99999999999999999999999999999999999999999"] {
            assert!(bad.parse::<Amount>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_hourly_rate_rounds_down() {
        assert_eq!(Amount(3_600_000).per_hour_for(1), Some(Amount(1)));
        assert_eq!(Amount(3_599_999).per_hour_for(1), Some(Amount(0)));
        assert_eq!(Amount(u128::MAX).per_hour_for(2), None);
    }
}
