//! The engine's clock readings. Guarantees: nanosecond exact, ordered, totally parsed (no panic on hostile text).
//! Does not: read any clock itself, or promise that the engine's clock never steps back.

use std::fmt;

use serde::{Deserialize, Serialize};

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// A moment as the engine's clock showed it: nanoseconds since 1970-01-01 UTC. It is wall time, so it can step back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EngineTime(pub u64);

impl EngineTime {
    /// Whole milliseconds since 1970-01-01 UTC.
    pub fn as_millis(self) -> u64 {
        self.0 / 1_000_000
    }

    /// Parses RFC 3339 (`2026-11-21T09:35:00.123456789Z`, or with an offset). `None` for anything else and for the
    /// engine's "never", the year 1.
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let (date, rest) = text.split_once('T')?;
        let mut ymd = date.splitn(3, '-');
        let year: i64 = digits(ymd.next()?, 4)?;
        let month: i64 = digits(ymd.next()?, 2)?;
        let day: i64 = digits(ymd.next()?, 2)?;
        if !(1970..=2500).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
            return None;
        }
        let zone_at = rest.find(['Z', '+', '-'])?;
        let (clock, zone) = rest.split_at_checked(zone_at)?;
        let (clock, fraction) = clock.split_once('.').unwrap_or((clock, ""));
        let mut hms = clock.splitn(3, ':');
        let hour: i64 = digits(hms.next()?, 2)?;
        let minute: i64 = digits(hms.next()?, 2)?;
        let second: i64 = digits(hms.next()?, 2)?;
        if hour > 23 || minute > 59 || second > 60 {
            return None;
        }
        let seconds = days_since_1970(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second;
        let seconds = u64::try_from(seconds - offset_seconds(zone)?).ok()?;
        seconds.checked_mul(NANOS_PER_SECOND)?.checked_add(nanos(fraction)?).map(Self)
    }
}

impl fmt::Display for EngineTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09}", self.0 / NANOS_PER_SECOND, self.0 % NANOS_PER_SECOND)
    }
}

fn digits(text: &str, width: usize) -> Option<i64> {
    (text.len() == width && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
}

fn nanos(fraction: &str) -> Option<u64> {
    if fraction.is_empty() {
        return Some(0);
    }
    if fraction.len() > 9 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    format!("{fraction:0<9}").parse().ok()
}

fn offset_seconds(zone: &str) -> Option<i64> {
    let (sign, hm) = match zone.split_at_checked(1)? {
        ("Z", "") => return Some(0),
        ("+", hm) => (1, hm),
        ("-", hm) => (-1, hm),
        _ => return None,
    };
    let (hours, minutes) = hm.split_once(':')?;
    Some(sign * (digits(hours, 2)? * 3_600 + digits(minutes, 2)? * 60))
}

/// Howard Hinnant's days-from-civil: exact for the proleptic Gregorian calendar.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments_are_exact() {
        for (text, nanos) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1970-01-01T00:00:00.000000001Z", 1),
            ("2000-02-29T23:59:59.5Z", 951_868_799_500_000_000),
            ("2026-11-21T09:35:00.123456789Z", 1_795_253_700_123_456_789),
            ("2026-11-21T11:35:00.123456789+02:00", 1_795_253_700_123_456_789),
            ("2026-11-21T04:05:00.123456789-05:30", 1_795_253_700_123_456_789),
        ] {
            assert_eq!(EngineTime::parse_rfc3339(text), Some(EngineTime(nanos)), "{text}");
        }
    }

    #[test]
    fn never_and_nonsense_are_none() {
        for text in [
            "0001-01-01T00:00:00Z",
            "",
            "T",
            "2026-11-21",
            "2026-11-21T09:35:00",
            "2026-13-01T00:00:00Z",
            "2026-11-21T25:00:00Z",
            "2026-11-21T09:35:00.1234567890Z",
            "2026-11-21T09:35:00.12a4Z",
            "é026-11-21T09:35:00Z",
            "2026-11-21T09:35:00é",
            "2026-11-21T09:35:00+é",
        ] {
            assert_eq!(EngineTime::parse_rfc3339(text), None, "{text}");
        }
    }
}
