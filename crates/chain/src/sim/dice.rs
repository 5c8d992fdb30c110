//! Random choices of a simulated run.
//!
//! Guarantees: the same seed and the same questions in the same order give the same answers, on every machine and with every version
//! of any crate. Clones ask the same dice.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// SplitMix64: one word of state, no dependency, good enough to choose faults.
#[derive(Clone, Debug)]
pub struct Dice(Arc<Mutex<u64>>);

impl Dice {
    /// Dice for a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(seed)))
    }
    /// Sixty-four random bits.
    #[must_use]
    pub fn word(&self) -> u64 {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
    /// Less than `end`, which is not zero.
    #[must_use]
    pub fn below(&self, end: u64) -> u64 {
        self.word() % end.max(1)
    }
    /// One of the indices below `end`.
    #[must_use]
    pub fn index(&self, end: usize) -> usize {
        usize::try_from(self.below(end as u64)).unwrap_or(0)
    }
    /// From `low` to `high`, both included.
    #[must_use]
    pub fn range(&self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }
    /// So many milliseconds, both included.
    #[must_use]
    pub fn millis(&self, low: u64, high: u64) -> Duration {
        Duration::from_millis(self.range(low, high))
    }
    /// Yes in this many of a hundred.
    #[must_use]
    pub fn percent(&self, percent: u64) -> bool {
        self.below(100) < percent
    }
    /// `count` different numbers below `end`, ascending.
    #[must_use]
    pub fn some(&self, count: usize, end: usize) -> Vec<usize> {
        let mut all: Vec<usize> = (0..end).collect();
        while all.len() > count {
            all.remove(self.index(all.len()));
        }
        all
    }
}
