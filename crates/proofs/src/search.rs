//! The search for a heartbeat's shares: the smallest hashes among at least the declared work.
//!
//! Guarantees: memory is constant, each nonce is hashed once, and the shares come in strictly ascending order of their
//! hashes. It never gives up by itself: with bad luck or too high a declared rate it goes on until the threshold is met.

use pasture_types::Millis;
use pasture_types::proof::{HEARTBEAT_SHARES, heartbeat_hashes, share_hash, threshold};
use std::collections::BinaryHeap;

/// Hashes between two looks at whether to go on: a few milliseconds of one core.
pub const BATCH: u64 = 16_384;

/// Where a search stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SearchState {
    /// More hashes are needed.
    Working,
    /// The shares are there.
    Done,
}

/// A search for the shares of one seed.
#[derive(Clone, Debug)]
pub struct Search {
    seed: [u8; 32],
    threshold: u64,
    work: u64,
    tried: u64,
    /// The smallest hashes so far with their nonces; the largest of them on top.
    best: BinaryHeap<(u64, u64)>,
}

impl Search {
    /// A search that is worth `work` of hashing at the declared rate.
    #[must_use]
    pub fn new(seed: [u8; 32], declared_hashes_per_s: u64, work: Millis) -> Self {
        Self {
            seed,
            threshold: threshold(declared_hashes_per_s, work),
            work: u64::try_from(heartbeat_hashes(declared_hashes_per_s, work)).unwrap_or(u64::MAX),
            tried: 0,
            best: BinaryHeap::with_capacity(HEARTBEAT_SHARES + 1),
        }
    }

    /// Hashes at most `hashes` further nonces and says whether the shares are there.
    pub fn advance(&mut self, hashes: u64) -> SearchState {
        for _ in 0..hashes {
            if self.is_done() {
                return SearchState::Done;
            }
            self.keep(self.tried);
            self.tried = self.tried.wrapping_add(1);
        }
        if self.is_done() { SearchState::Done } else { SearchState::Working }
    }

    /// Takes in what was hashed elsewhere (on a graphics card): of the nonces from [`Search::tried`] up to `end`, those whose hashes
    /// are below [`Search::bound`], ascending. The shares are those that [`Search::advance`] finds, and so is where it ends; what was
    /// named is hashed here once more, so that a wrong name does no harm, and one that was left out costs a share.
    pub fn take(&mut self, end: u64, found: &[u64]) -> SearchState {
        for nonce in found.iter().copied().filter(|nonce| *nonce < end) {
            if nonce < self.tried {
                continue;
            }
            if self.skip(nonce) == SearchState::Done {
                return SearchState::Done;
            }
            self.keep(nonce);
            self.tried = nonce.wrapping_add(1);
        }
        self.skip(end)
    }

    /// Goes on to `end` over nonces that are worth nothing, or to where the work is done.
    fn skip(&mut self, end: u64) -> SearchState {
        let good = self.is_full() && self.largest() <= self.threshold;
        let end = if good { end.min(self.work) } else { end };
        self.tried = self.tried.max(end);
        if self.is_done() { SearchState::Done } else { SearchState::Working }
    }

    fn keep(&mut self, nonce: u64) {
        let hash = share_hash(&self.seed, nonce);
        // Two nonces with one hash would break the strict order; the first of them stays.
        if (!self.is_full() || hash < self.largest()) && !self.best.iter().any(|(known, _)| *known == hash) {
            self.best.push((hash, nonce));
            if self.best.len() > HEARTBEAT_SHARES {
                self.best.pop();
            }
        }
    }

    fn is_full(&self) -> bool {
        self.best.len() == HEARTBEAT_SHARES
    }

    fn largest(&self) -> u64 {
        self.best.peek().map_or(u64::MAX, |(largest, _)| *largest)
    }

    fn is_done(&self) -> bool {
        self.tried >= self.work && self.is_full() && self.largest() <= self.threshold
    }

    /// Only a hash below this can still become a share; `u64::MAX` as long as any can.
    #[must_use]
    pub fn bound(&self) -> u64 {
        if self.is_full() { self.largest() } else { u64::MAX }
    }

    /// The seed.
    #[must_use]
    pub const fn seed(&self) -> &[u8; 32] {
        &self.seed
    }

    /// Hashes that the declared rate asks for; bad luck asks for more.
    #[must_use]
    pub const fn work(&self) -> u64 {
        self.work
    }

    /// Hashes computed so far.
    #[must_use]
    pub const fn tried(&self) -> u64 {
        self.tried
    }

    /// The shares in ascending order of their hashes, once [`SearchState::Done`].
    #[must_use]
    pub fn shares(self) -> Option<Vec<u64>> {
        self.is_done().then(|| self.best.into_sorted_vec().into_iter().map(|(_, nonce)| nonce).collect())
    }
}

/// Runs a whole search; `go_on` is asked between batches of [`BATCH`] hashes, and `None` says that it said no.
pub fn find_shares(seed: [u8; 32], declared_hashes_per_s: u64, work: Millis, mut go_on: impl FnMut() -> bool) -> Option<Vec<u64>> {
    let mut search = Search::new(seed, declared_hashes_per_s, work);
    while go_on() {
        if search.advance(BATCH) == SearchState::Done {
            return search.shares();
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use pasture_types::NodeId;
    use pasture_types::proof::{ResourceClass, ShareError, heartbeat_seed, verify_shares};
    use proptest::prelude::*;

    const WORK: Millis = Millis(20);
    const RATE: u64 = 500_000;

    /// What a node computes that hashes at `rate` but claims [`RATE`]: its best hashes, threshold or not.
    fn best_of(seed: &[u8; 32], rate: u64) -> Vec<u64> {
        let n = u64::try_from(heartbeat_hashes(rate, WORK)).unwrap();
        let mut all: Vec<(u64, u64)> = (0..n).map(|nonce| (share_hash(seed, nonce), nonce)).collect();
        all.sort_unstable();
        all.into_iter().take(HEARTBEAT_SHARES).map(|(_, nonce)| nonce).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn found_shares_verify_and_only_for_their_seed(
            randomness in any::<[u8; 32]>(), node in any::<[u8; 32]>(), epoch in any::<u64>(), rate in 1u64..1_000_000,
        ) {
            let node = NodeId(node);
            let seed = heartbeat_seed(&randomness, &node, ResourceClass::Cpu, 0, epoch);
            let shares = find_shares(seed, rate, WORK, || true).unwrap();
            let limit = threshold(rate, WORK);
            prop_assert_eq!(verify_shares(&seed, &shares, limit), Ok(()));
            let mut other_node = node;
            other_node.0[0] ^= 1;
            let mut other_randomness = randomness;
            other_randomness[31] ^= 1;
            for wrong in [
                heartbeat_seed(&randomness, &other_node, ResourceClass::Cpu, 0, epoch),
                heartbeat_seed(&randomness, &node, ResourceClass::Cpu, 0, epoch ^ 1),
                heartbeat_seed(&randomness, &node, ResourceClass::Cpu, 1, epoch),
                heartbeat_seed(&randomness, &node, ResourceClass::Gpu, 0, epoch),
                heartbeat_seed(&other_randomness, &node, ResourceClass::Cpu, 0, epoch),
            ] {
                prop_assert!(verify_shares(&wrong, &shares, limit).is_err());
            }
        }
    }

    #[test]
    fn a_search_finds_the_smallest_hashes_of_its_work() {
        for epoch in 0..10 {
            let seed = heartbeat_seed(&[1; 32], &NodeId([2; 32]), ResourceClass::Cpu, 0, epoch);
            let mut search = Search::new(seed, RATE, WORK);
            // Batches of any size give the same shares.
            while search.advance(777) == SearchState::Working {}
            assert_eq!(search.tried(), 10_000);
            assert_eq!(search.shares().unwrap(), best_of(&seed, RATE));
        }
    }

    #[test]
    fn what_was_hashed_elsewhere_gives_the_same_shares_and_ends_at_the_same_nonce() {
        for epoch in 0..20 {
            let seed = heartbeat_seed(&[1; 32], &NodeId([3; 32]), ResourceClass::Gpu, 0, epoch);
            // A rate of which 40 % are done when the work is: some end with it, some go on until the threshold is met.
            let mut plain = Search { work: 4_000, ..Search::new(seed, RATE, WORK) };
            while plain.advance(1_000) == SearchState::Working {}
            let mut other = Search { work: 4_000, ..Search::new(seed, RATE, WORK) };
            other.advance(100);
            while !other.is_done() {
                let (from, end, bound) = (other.tried(), other.tried() + 777, other.bound());
                let found: Vec<u64> = (from..end).filter(|nonce| share_hash(&seed, *nonce) < bound).collect();
                other.take(end, &found);
            }
            assert_eq!((other.tried(), other.shares()), (plain.tried(), plain.shares()));
        }
    }

    #[test]
    fn a_node_that_claims_too_much_is_found_out() {
        // The threshold asks for 40 % of the declared work on average: the full rate always passes, 15 % almost never.
        let limit = threshold(RATE, WORK);
        let passes = |rate: u64| {
            (0..100u64)
                .filter(|epoch| {
                    let seed = heartbeat_seed(&[5; 32], &NodeId([6; 32]), ResourceClass::Cpu, 0, *epoch);
                    verify_shares(&seed, &best_of(&seed, rate), limit).is_ok()
                })
                .count()
        };
        assert_eq!(passes(RATE), 100);
        assert!(passes(RATE * 15 / 100) <= 1);
        // Where the decision lies: as many pass as fail.
        assert!((25..=75).contains(&passes(RATE * 40 / 100)), "{}", passes(RATE * 40 / 100));
    }

    #[test]
    fn a_slow_node_works_longer_until_the_threshold_is_met() {
        let seed = heartbeat_seed(&[7; 32], &NodeId([8; 32]), ResourceClass::Cpu, 0, 1);
        let mut search = Search::new(seed, RATE, WORK);
        assert_eq!(search.advance(1_000), SearchState::Working);
        let early = search.best.clone().into_sorted_vec().into_iter().map(|(_, nonce)| nonce).collect::<Vec<_>>();
        assert_eq!(verify_shares(&seed, &early, threshold(RATE, WORK)), Err(ShareError::Weak));
        assert_eq!(search.clone().shares(), None);
        while search.advance(1_000) == SearchState::Working {}
        assert_eq!(verify_shares(&seed, &search.shares().unwrap(), threshold(RATE, WORK)), Ok(()));
    }

    #[test]
    fn a_search_can_be_called_off() {
        let mut batches = 0;
        let found = find_shares([1; 32], u64::MAX, Millis(u64::MAX), || {
            batches += 1;
            batches < 3
        });
        assert_eq!((found, batches), (None, 3));
    }
}
