//! How much work shares show: the largest of the k smallest hashes, alone against a lenient threshold, pooled against the
//! declared rate. Spec: `docs/specs/audits.md` §5, §6.
//!
//! Guarantees: exact integers; whoever hashes faster never looks slower by more than rounding (a unit in 32,768). With `n`
//! hashes computed, `h x n / 2^64` of the k-th smallest hash `h` is gamma-distributed with shape k (for n far above k); sums
//! over audits have the sum of the shapes, so the sum is all that a pool needs to keep.

use super::AuditParams;
use crate::Millis;
use crate::proof::share_hash;
use crate::tx::NodeDeclaration;

/// Shares of one audit (k).
pub const AUDIT_SHARES: usize = 32;
/// Samples are kept in 1/1024 of a share.
pub const SAMPLE_UNIT: u64 = 1_024;

/// Hashes per second of a whole machine: the declared rate of a core times its declared cores.
#[must_use]
pub fn full_rate(declaration: &NodeDeclaration) -> u64 {
    let rate = u128::from(declaration.cpu_hashes_per_s) * u128::from(declaration.resources.cpu_millis) / 1_000;
    u64::try_from(rate).unwrap_or(u64::MAX).max(1)
}

fn hashes(rate: u64, time: Millis) -> u128 {
    (u128::from(rate) * u128::from(time.0) / 1_000).max(1)
}

/// The largest hash of a set of [`AUDIT_SHARES`] distinct nonces under a seed; `None` if it is no such set.
#[must_use]
pub fn largest_share(seed: &[u8; 32], nonces: &[u64]) -> Option<u64> {
    let distinct = nonces.iter().zip(nonces.iter().skip(1)).all(|(a, b)| a < b);
    if nonces.len() != AUDIT_SHARES || !distinct {
        return None;
    }
    nonces.iter().map(|n| share_hash(seed, *n)).max()
}

/// The largest hash that pays: 2.5 times what the full rate is expected to reach in a burst, so 40 % of the work suffices.
#[must_use]
pub fn audit_threshold(rate: u64, burst: Millis) -> u64 {
    let scaled = (1u128 << 64) * (AUDIT_SHARES as u128) * 5;
    u64::try_from(scaled / hashes(rate, burst).saturating_mul(2)).unwrap_or(u64::MAX)
}

/// What one audit adds to the pool: `h x rate x time / 2^64` shares; [`AUDIT_SHARES`] on average for a node that keeps `rate`,
/// more for a slower one. At most what still pays, so that one burst on a choked machine convicts nobody.
#[must_use]
pub fn sample(largest: u64, rate: u64, time: Millis) -> u32 {
    // Below 2^64 x 2^63, shifted by 64 - 10.
    let expected = hashes(rate, time).min(1 << 63);
    let most = AUDIT_SHARES as u128 * u128::from(SAMPLE_UNIT) * 5 / 2;
    u32::try_from(((u128::from(largest) * expected) >> 54).min(most)).unwrap_or(u32::MAX)
}

/// Whether a pool of `audits` samples convicts a node of declaring too much.
///
/// With `a = k x audits` and `S = sum x (1 - tolerance)`: if `S > a` and `(S - a)^2 >= 2 L S`. For a node at the edge of the
/// tolerance `S` is gamma-distributed with shape `a`, and `P(S >= a(1 + d)) <= exp(-a (d - ln(1 + d))) <= exp(-a d^2 / (2 (1 + d)))`:
/// at most `exp(-L)`.
#[must_use]
pub fn overclaims(sum: u64, audits: usize, params: &AuditParams) -> bool {
    let kept = u128::from(1_000_000u32.saturating_sub(params.tolerance_ppm));
    let shares = u128::from(sum) * kept / 1_000_000;
    let expected = (AUDIT_SHARES as u128) * (audits as u128) * u128::from(SAMPLE_UNIT);
    let Some(excess) = shares.checked_sub(expected) else { return false };
    let bound = 2 * u128::from(params.error_exponent) * u128::from(SAMPLE_UNIT) * shares;
    audits > 0 && excess.checked_mul(excess).is_none_or(|square| square >= bound)
}

/// The rate that a pool shows, in parts per million of the rate its samples were taken at.
#[must_use]
pub fn pooled_rate_ppm(sum: u64, audits: usize) -> u32 {
    let expected = (AUDIT_SHARES as u128) * (audits as u128) * u128::from(SAMPLE_UNIT);
    u32::try_from(expected * 1_000_000 / u128::from(sum.max(1))).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const P: AuditParams = AuditParams::production();
    const BURST: Millis = Millis(1_000);

    /// The k smallest of the first `hashes` hashes, and the largest of them.
    fn burst(seed: u64, hashes: u64) -> (Vec<u64>, u64) {
        let mut s = [0; 32];
        s[..8].copy_from_slice(&seed.to_le_bytes());
        let mut all: Vec<(u64, u64)> = (0..hashes).map(|n| (share_hash(&s, n), n)).collect();
        all.select_nth_unstable(AUDIT_SHARES - 1);
        let mut nonces: Vec<u64> = all.iter().take(AUDIT_SHARES).map(|(_, n)| *n).collect();
        nonces.sort_unstable();
        let largest = largest_share(&s, &nonces).unwrap();
        (nonces, largest)
    }

    #[test]
    fn arithmetic_is_exact() {
        assert_eq!(audit_threshold(80, BURST), u64::MAX);
        assert_eq!(audit_threshold(160, BURST), 1 << 63);
        assert_eq!(audit_threshold(u64::MAX, Millis(u64::MAX)), 0);
        assert_eq!(sample(1 << 63, 64, BURST), 32 * 1_024);
        assert_eq!(sample(u64::MAX, u64::MAX, Millis(u64::MAX)), 80 * 1_024);
        assert!(!overclaims(80 * 1_024, 1, &P) && overclaims(160 * 1_024, 2, &P));
        assert_eq!(pooled_rate_ppm(32 * 1_024 * 6, 5), 833_333);
        assert!(!overclaims(u64::MAX, 0, &P) && !overclaims(0, 128, &P) && overclaims(u64::MAX, 128, &P));
    }

    #[test]
    fn a_set_of_another_size_or_with_repeats_is_none() {
        let (nonces, _) = burst(1, 200);
        assert!(largest_share(&[0; 32], &nonces[1..]).is_none());
        let mut twice = nonces.clone();
        twice[1] = twice[0];
        assert!(largest_share(&[0; 32], &twice).is_none());
    }

    #[test]
    fn ten_thousand_honest_audits_pass_and_none_of_their_pools_convicts() {
        // 1,000 hashes each: enough that the gamma distribution holds to a few percent.
        let (rate, audits) = (1_000, 10_000);
        let limit = audit_threshold(rate, BURST);
        let samples: Vec<u64> = (0..audits)
            .map(|n| burst(n, rate))
            .map(|(_, h)| {
                assert!(h <= limit, "P < 10^-8 each");
                u64::from(sample(h, rate, BURST))
            })
            .collect();
        let mean = samples.iter().sum::<u64>() / audits / SAMPLE_UNIT;
        assert!((31..=32).contains(&mean), "k = 32 expected, {mean}");
        // The mean of (x - 32)^2 is k for a gamma distribution with shape k.
        let var = samples.iter().map(|x| (*x as i64 / 1024 - 32).pow(2)).sum::<i64>() / 10_000;
        assert!((28..=36).contains(&var), "{var}");
        for size in [1usize, 2, 4, 16, 64, 128] {
            for pool in samples.windows(size) {
                assert!(!overclaims(pool.iter().sum(), size, &P));
            }
        }
    }

    #[test]
    fn who_claims_a_fifth_too_much_is_convicted_within_the_pool() {
        // Each cheat computes 1,000 hashes and claims 1,200.
        let mut when = Vec::new();
        for cheat in 0..60u64 {
            let mut sum = 0;
            let caught = (1..=128usize).find(|n| {
                sum += u64::from(sample(burst(1_000_000 + cheat * 1_000 + *n as u64, 1_000).1, 1_200, BURST));
                overclaims(sum, *n, &P)
            });
            when.extend(caught);
        }
        when.sort_unstable();
        // The spec says: half of them by audit 60, more than 99 % by 128.
        assert!(when.len() >= 59, "{} of 60 were caught", when.len());
        assert!((30..=80).contains(&when[30]), "half of them by audit {}", when[30]);
    }

    /// What a cheat's burst adds to its pool that claims `claim` per mille of its rate, has faked 300 ms of round trip in 4 s,
    /// uses every slack, and goes on past the punctual end whenever that looks better.
    fn cunning(seed: u64, claim: u64) -> u32 {
        let (claimed, long) = (claim, |ms: u64| burst(seed, 1_000 * ms / 4_000).1);
        let charged = |took: u64| Millis(P.terms().charged(Millis(took)).0 / 4);
        let punctual = sample(long(4_300 + 300), claimed, charged(4_300));
        let late = sample(long(5_200 + 300), claimed, charged(5_200));
        punctual.min(late)
    }

    #[test]
    fn who_uses_every_slack_gains_no_more_than_the_spec_says() {
        let convicted = |claim: u64| {
            (0..30u64)
                .filter(|cheat| {
                    let mut sum = 0;
                    (1..=128usize).any(|n| {
                        sum += u64::from(cunning(20_000_000 + cheat * 1_000 + n as u64, claim));
                        overclaims(sum, n, &P)
                    })
                })
                .count()
        };
        // audits.md §6: 1.32 is where one full pool convicts half the time; 1.45 hardly ever survives, 1.15 hardly ever falls.
        assert!(convicted(1_450) >= 29);
        assert!(convicted(1_150) <= 1);
    }

    #[test]
    fn who_claims_double_is_convicted_at_once() {
        for cheat in 0..20u64 {
            let mut sum = 0;
            let caught = (1..=10usize).find(|n| {
                sum += u64::from(sample(burst(5_000_000 + cheat * 100 + *n as u64, 500).1, 1_000, BURST));
                overclaims(sum, *n, &P)
            });
            assert!(caught.is_some_and(|n| n <= 8), "{caught:?}");
        }
    }

    #[test]
    fn the_false_positive_bound_holds_where_it_is_tight_enough_to_measure() {
        // With L = 2 a node exactly at the edge may be convicted by at most 13.5 % of tests; the bound is not tight.
        let params = AuditParams { error_exponent: 2, ..P };
        let rate = 950;
        let mut convicted = 0;
        for pool in 0..400u64 {
            let sum = (0..8u64).map(|n| u64::from(sample(burst(9_000_000 + pool * 8 + n, rate).1, 1_000, BURST))).sum();
            convicted += u32::from(overclaims(sum, 8, &params));
        }
        assert!((1..=54).contains(&convicted), "{convicted} of 400");
    }
}
