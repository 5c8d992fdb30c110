//! From a standing to a score in parts per million. Spec: `docs/specs/reputation.md` §3.
//!
//! Guarantees: pure; 500,000 for one of whom nothing is known; within 0 and a million; more fees never lower it, more harm
//! never lifts it.

use super::records::Standing;
use pasture_types::Amount;
use pasture_types::reputation::ReputationParams;
use serde::Serialize;

/// The score of one of whom nothing is known.
pub const NEUTRAL_PPM: u64 = 500_000;
/// Most that harm lowers a score.
const HARM_PPM: u128 = 500_000;
const MAX_PPM: i128 = 1_000_000;

/// A score and what it is made of: `500,000 + from_fees + from_ratings - from_harm`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Score {
    /// The score.
    pub ppm: u64,
    /// What network fees lift it by.
    pub from_fees: u64,
    /// What ratings lift or lower it by.
    pub from_ratings: i64,
    /// What broken leases lower it by.
    pub from_harm: u64,
    /// The mean rating in thousandths of a star, weighed by fees; `None` without ratings.
    pub mean_stars_milli: Option<u64>,
    /// The standing behind it, as of now.
    pub standing: Standing,
}

/// `ppm x part / whole`: parts are below 2^70 (what fades), ppm below 2^20.
fn part(ppm: u128, part: Amount, whole: u128) -> u128 {
    ppm.saturating_mul(part.0).checked_div(whole).unwrap_or(0)
}

/// The score of a standing.
pub(crate) fn score(p: &ReputationParams, standing: Standing) -> Score {
    let half = p.half_point.0.max(1);
    let whole = standing.fees.0.saturating_add(standing.harm.0).saturating_add(half);
    let from_fees = part(u128::from(p.fees_ppm), standing.fees, whole);
    let from_harm = part(HARM_PPM, standing.harm, whole);
    // (mean - 3) / 2, from -1 to 1, times rated / (rated + half_point).
    let middle = standing.rated.0.saturating_mul(3);
    let (up, distance) = (standing.stars.0 >= middle, Amount(standing.stars.0.abs_diff(middle)));
    let bend = part(u128::from(p.rating_ppm), distance, standing.rated.0.saturating_add(half).saturating_mul(2));
    let bend = i128::try_from(bend.min(u128::from(p.rating_ppm))).unwrap_or(0);
    let from_ratings = if up { bend } else { -bend };
    let signed = |n: u128| i128::try_from(n).unwrap_or(MAX_PPM);
    let ppm = (i128::from(NEUTRAL_PPM) + signed(from_fees) + from_ratings - signed(from_harm)).clamp(0, MAX_PPM);
    Score {
        ppm: u64::try_from(ppm).unwrap_or(NEUTRAL_PPM),
        from_fees: u64::try_from(from_fees).unwrap_or(0),
        from_ratings: i64::try_from(from_ratings).unwrap_or(0),
        from_harm: u64::try_from(from_harm).unwrap_or(0),
        mean_stars_milli: standing.stars.0.saturating_mul(1_000).checked_div(standing.rated.0).and_then(|m| u64::try_from(m).ok()),
        standing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn standing(fees: u128, harm: u128, rated: u128, mean_milli: u128) -> Standing {
        Standing {
            fees: Amount(fees),
            harm: Amount(harm),
            rated: Amount(rated),
            stars: Amount(rated * mean_milli / 1_000),
            pairs: 0,
            epoch: 0,
        }
    }

    #[test]
    fn the_middle_is_for_strangers_and_the_half_point_lifts_half_the_way() {
        let p = ReputationParams::dev();
        let half = p.half_point.0;
        assert_eq!(score(&p, Standing::default()).ppm, NEUTRAL_PPM);
        assert_eq!(score(&p, standing(half, 0, 0, 0)).ppm, 700_000);
        assert_eq!(score(&p, standing(0, half, 0, 0)).ppm, 250_000);
        assert_eq!(score(&p, standing(0, 0, half, 5_000)).ppm, 550_000);
        assert_eq!(score(&p, standing(0, 0, half, 1_000)).ppm, 450_000);
        assert_eq!(score(&p, standing(0, 0, half, 3_000)).from_ratings, 0);
    }

    proptest! {
        #[test]
        fn it_moves_the_right_way(fees in 0u128..1 << 67, harm in 0u128..1 << 67, rated in 0u128..1 << 67, mean in 1_000u128..=5_000, more in 1u128..1 << 60) {
            let p = ReputationParams::production();
            let here = score(&p, standing(fees, harm, rated, mean));
            prop_assert!(here.ppm <= 1_000_000);
            prop_assert!(score(&p, standing(fees + more, harm, rated, mean)).ppm >= here.ppm);
            prop_assert!(score(&p, standing(fees, harm + more, rated, mean)).ppm <= here.ppm + 1, "rounding of both parts");
            // A new identity has exactly the middle; only harm or bad ratings put one below it.
            if harm == 0 && mean >= 3_000 {
                prop_assert!(here.ppm >= NEUTRAL_PPM);
            }
        }
    }
}
