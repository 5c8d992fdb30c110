//! Money and time as people read them.
//!
//! Guarantees: credits with four decimals, rounded to the nearest so that parts add up on the screen; an amount that is not
//! nothing is never shown as nothing.

use pasture_types::{Amount, Millis};

const UNIT: u128 = 100_000; // nano-credits in the fourth decimal
const SMALLEST_SHOWN: u128 = UNIT / 2;

/// Credits: `0.0120`; what would round to nothing in full.
pub(crate) fn credits(amount: Amount) -> String {
    if amount.0 > 0 && amount.0 < SMALLEST_SHOWN {
        return amount.to_string();
    }
    Amount((amount.0.saturating_add(SMALLEST_SHOWN) / UNIT).saturating_mul(UNIT)).display(4)
}

/// A rate: `0.0240 cr per hour`.
pub(crate) fn per_hour(amount: Amount) -> String {
    format!("{} cr per hour", credits(amount))
}

/// A length of time: `13ms`, `0.4s`, `12s`, `1m 12s`, `2h 05m`, `3d 04h`.
pub(crate) fn duration(ms: Millis) -> String {
    let s = ms.0 / 1000;
    match s {
        0 if ms.0 > 0 && ms.0 < 100 => format!("{}ms", ms.0),
        0..10 if !ms.0.is_multiple_of(1000) => format!("{s}.{}s", ms.0 % 1000 / 100),
        0..60 => format!("{s}s"),
        60..3600 => format!("{}m {:02}s", s / 60, s % 60),
        3600..86_400 => format!("{}h {:02}m", s / 3600, s % 3600 / 60),
        _ => format!("{}d {:02}h", s / 86_400, s % 86_400 / 3600),
    }
}

/// One of something or several: `1 file`, `3 files`.
pub(crate) fn count(n: u64, one: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{n} {one}s") }
}

/// So many a second, with a unit that leaves few digits.
pub(crate) fn each_second(n: u64) -> String {
    match n {
        0..10_000 => format!("{n}/s"),
        10_000..10_000_000 => format!("{}k/s", n / 1_000),
        10_000_000..10_000_000_000 => format!("{}.{}M/s", n / 1_000_000, n / 100_000 % 10),
        _ => format!("{}.{}G/s", n / 1_000_000_000, n / 100_000_000 % 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credits_round_to_the_nearest_and_never_to_nothing() {
        assert_eq!(credits(Amount(12_040_000)), "0.0120");
        assert_eq!(credits(Amount(987_960_000)), "0.9880");
        assert_eq!(credits(Amount(49_999)), "0.000049999");
        assert_eq!(credits(Amount(50_000)), "0.0001");
        assert_eq!(credits(Amount::ZERO), "0.0000");
        assert_eq!(credits(Amount::credits(1000)), "1000.0000");
    }

    #[test]
    fn figures_are_short() {
        let figures = [(7, "7/s"), (9_999, "9999/s"), (4_123_456, "4123k/s"), (12_345_678, "12.3M/s"), (12_095_400_000, "12.0G/s")];
        for (n, text) in figures {
            assert_eq!(each_second(n), text);
        }
    }

    #[test]
    fn times_are_short() {
        for (ms, text) in [
            (13, "13ms"),
            (400, "0.4s"),
            (2_000, "2s"),
            (12_900, "12s"),
            (72_000, "1m 12s"),
            (7_500_000, "2h 05m"),
            (273_600_000, "3d 04h"),
            (0, "0s"),
        ] {
            assert_eq!(duration(Millis(ms)), text);
        }
    }
}
