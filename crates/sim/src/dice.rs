//! Randomness of the simulation: one stream from one seed (SplitMix64), so that a run can be repeated.
//!
//! Guarantees: the same seed and the same questions give the same answers. It protects nothing: it is no generator for keys.

/// A stream of random numbers.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// A stream for a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed ^ 0x5061_7374_7572_6521)
    }

    /// The next number.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `n`; 0 for 0.
    pub const fn below(&mut self, n: u64) -> u64 {
        match self.next().checked_rem(n) {
            Some(r) => r,
            None => 0,
        }
    }

    /// Evenly in [0, 1).
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Exponentially distributed around a mean of so many milliseconds.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "times of days in milliseconds"
    )]
    pub fn around(&mut self, mean_ms: u64) -> u64 {
        (-(1.0 - self.unit()).ln() * mean_ms as f64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_and_means_are_met() {
        let draw = |seed| {
            let mut d = Dice::new(seed);
            (0..10_000).map(|_| d.around(1_000)).collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        let mean = draw(3).iter().sum::<u64>() / 10_000;
        assert!((950..1_050).contains(&mean), "{mean}");
        assert_eq!(Dice::new(1).below(0), 0);
    }
}
