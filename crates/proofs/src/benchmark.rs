//! The CPU benchmark: how many share hashes one thread computes in a second.
//!
//! Guarantees: measures the very function that heartbeats are made of, for as long as the caller's clock says. It reads no
//! clock itself. It does not smooth over a busy machine: what it measured is what the node may declare.

use pasture_types::proof::share_hash;
use std::time::Duration;

/// How long a benchmark runs: long enough that a scheduler's time slice does not matter.
pub const BENCHMARK_LENGTH: Duration = Duration::from_millis(300);

/// Hashes between two looks at the clock: about a millisecond.
const STEP: u64 = 4_096;
/// Most hashes of one benchmark, in case the clock stands still.
const MOST_HASHES: u64 = 1 << 34;

/// Hashes per second of the calling thread, measured for `length`. `elapsed` tells the time since some fixed moment.
pub fn benchmark_cpu(length: Duration, mut elapsed: impl FnMut() -> Duration) -> u64 {
    let begin = elapsed();
    let seed = [0xa5; 32];
    let (mut nonce, mut mix) = (0u64, 0u64);
    let mut spent = Duration::ZERO;
    while spent < length && nonce < MOST_HASHES {
        for _ in 0..STEP {
            mix ^= share_hash(&seed, nonce);
            nonce += 1;
        }
        spent = elapsed().saturating_sub(begin);
    }
    // Without a use of the result the loop could be optimised away.
    std::hint::black_box(mix);
    let per_second = u128::from(nonce) * 1_000_000_000 / spent.as_nanos().max(1);
    u64::try_from(per_second).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_hashes_over_the_callers_time() {
        // A clock that moves 1 ms a look: the first look is the beginning, then 10 steps make 10 ms.
        let mut looks = 0u64;
        let rate = benchmark_cpu(Duration::from_millis(10), || {
            looks += 1;
            Duration::from_millis(looks)
        });
        assert_eq!((rate, looks), (STEP * 1000, 11));
    }
}
