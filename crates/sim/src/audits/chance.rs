//! What a burst of hashes shows, drawn instead of hashed, and the tails of that distribution.
//!
//! Guarantees: exact up to the precision of a double: a hash is evenly distributed, so the k smallest of n are what they are for n even
//! numbers (A. Renyi, 1953). It knows nothing of machines.

use crate::dice::Dice;
use pasture_types::audit::AUDIT_SHARES;

/// A number as a real one; what is counted here has less than 53 bits.
#[expect(clippy::cast_precision_loss, reason = "counts below 2^53")]
#[must_use]
pub const fn real(n: u64) -> f64 {
    n as f64
}

/// A real number rounded down, held to what a whole one can be.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the conversion saturates")]
#[must_use]
pub const fn whole(x: f64) -> u64 {
    x as u64
}

/// One part of some, in parts per million.
#[must_use]
pub fn ppm(part: u64, of: u64) -> f64 {
    real(part) * 1e6 / real(of.max(1))
}

/// 2^64, as large as hashes are.
const RANGE: f64 = 18_446_744_073_709_551_616.0;

/// Exponentially distributed around a mean.
pub fn waiting(dice: &mut Dice, mean: f64) -> f64 {
    -(1.0 - dice.unit()).ln() * mean
}

/// The [`AUDIT_SHARES`] smallest of so many even numbers in [0, 1), ascending; fewer if there are fewer.
pub fn smallest(dice: &mut Dice, many: u64) -> impl Iterator<Item = f64> {
    let mut sum = 0.0;
    (0..many.min(AUDIT_SHARES as u64)).map(move |i| {
        sum += (1.0 - dice.unit()).ln() / real(many - i);
        -f64::exp_m1(sum)
    })
}

/// The largest hash of the shares of a burst of so many hashes; none if they are fewer than the shares.
pub fn largest(dice: &mut Dice, hashes: u64) -> Option<u64> {
    (hashes >= AUDIT_SHARES as u64).then(|| smallest(dice, hashes).last()).flatten().map(|x| whole(x * RANGE))
}

/// The largest hash of a burst, and that of the same burst after further hashes.
pub fn largest_twice(dice: &mut Dice, hashes: u64, further: u64) -> Option<(u64, u64)> {
    let mut all: Vec<f64> = smallest(dice, hashes).collect();
    let first = *all.get(AUDIT_SHARES - 1)?;
    all.extend(smallest(dice, further));
    all.sort_by(f64::total_cmp);
    let second = *all.get(AUDIT_SHARES - 1)?;
    Some((whole(first * RANGE), whole(second * RANGE)))
}

/// The chance that a sum of so many waiting times of mean one exceeds `x`: a gamma distribution's tail, a Poisson one's head.
#[must_use]
pub fn gamma_above(shape: u64, x: f64) -> f64 {
    let mut log_term = -x;
    let mut sum = 0.0;
    for i in 0..shape {
        sum += log_term.exp();
        log_term += (x / real(i + 1)).ln();
    }
    sum
}

/// The logarithm of how many ways there are to choose.
fn ln_choose(n: u64, k: u64) -> f64 {
    (0..k).map(|i| (real(n - i) / real(k - i)).ln()).sum()
}

/// The chance that of `drawn` out of `all`, `marked` of which are marked, at least so many are marked.
#[must_use]
pub fn marked_at_least(least: u64, all: u64, marked: u64, drawn: u64) -> f64 {
    let fits = |i: &u64| *i <= marked && drawn - i <= all - marked;
    let one = |i: u64| (ln_choose(marked, i) + ln_choose(all - marked, drawn - i) - ln_choose(all, drawn)).exp();
    (least..=drawn).filter(fits).map(one).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use pasture_types::proof::share_hash;

    #[test]
    fn what_is_drawn_is_what_hashing_gives() {
        // The mean and the spread of the 32nd smallest of 1,000: 32/1001, and sqrt(32 x 969 / 1001^2 / 1002) of it.
        let (rounds, hashes) = (4_000u64, 1_000u64);
        let mut dice = Dice::new(3);
        let drawn: Vec<f64> = (0..rounds).map(|_| real(largest(&mut dice, hashes).unwrap()) / RANGE).collect();
        let hashed: Vec<f64> = (0..400u64)
            .map(|round| {
                let mut seed = [0; 32];
                seed[..8].copy_from_slice(&round.to_le_bytes());
                let mut all: Vec<u64> = (0..hashes).map(|n| share_hash(&seed, n)).collect();
                real(*all.select_nth_unstable(AUDIT_SHARES - 1).1) / RANGE
            })
            .collect();
        let mean = |of: &[f64]| of.iter().sum::<f64>() / real(of.len() as u64);
        let spread = |of: &[f64]| (of.iter().map(|x| (x - mean(of)).powi(2)).sum::<f64>() / real(of.len() as u64)).sqrt();
        assert!((mean(&drawn) * 1001.0 / 32.0 - 1.0).abs() < 0.012, "{}", mean(&drawn));
        assert!((mean(&hashed) / mean(&drawn) - 1.0).abs() < 0.04);
        assert!((spread(&drawn) / 0.005_559 - 1.0).abs() < 0.05, "{}", spread(&drawn));
        assert!((spread(&hashed) / spread(&drawn) - 1.0).abs() < 0.15);
        assert_eq!(largest(&mut dice, 31), None);
    }

    #[test]
    fn going_on_finds_no_larger_hash_and_as_many_as_at_once() {
        let mut dice = Dice::new(4);
        let (mut once, mut twice) = (0.0, 0.0);
        for _ in 0..4_000 {
            let (first, second) = largest_twice(&mut dice, 900, 100).unwrap();
            assert!(second <= first);
            twice += real(second);
            once += real(largest(&mut dice, 1_000).unwrap());
        }
        assert!((twice / once - 1.0_f64).abs() < 0.015, "{}", twice / once);
    }

    #[test]
    fn tails_are_those_of_the_tables() {
        assert!((gamma_above(1, 2.0) - (-2.0f64).exp()).abs() < 1e-12);
        assert!((gamma_above(2, 2.0) - 3.0 * (-2.0f64).exp()).abs() < 1e-12);
        // Two of four drawn, two marked: one in six has both.
        assert!((marked_at_least(2, 4, 2, 2) - 1.0 / 6.0).abs() < 1e-12);
        assert!((marked_at_least(0, 9, 3, 4) - 1.0).abs() < 1e-9);
    }
}
