//! Fading by half-lives in fixed point. Spec: `docs/specs/reputation.md` §2.
//!
//! Guarantees: pure; no result is larger than what went in; fading in many steps is fading in one, up to a unit each, so that
//! touching a record often gains nothing; any number of epochs is fine.

/// Largest value that fades without overflow in 128 bits; about 10^11 credits.
pub(crate) const MAX_VALUE: u128 = 1 << 67;
const ONE_BITS: u32 = 60;
/// `2^60 x 2^(-1/2^i)` for i = 1 to 32, rounded down.
const ROOTS: [u64; 32] = [
    815_238_614_083_298_888,
    969_487_560_292_816_559,
    1_057_233_681_222_091_666,
    1_104_041_415_199_452_354,
    1_128_216_774_188_376_115,
    1_140_502_249_370_840_087,
    1_146_695_063_803_852_932,
    1_149_804_069_520_534_666,
    1_151_361_731_965_541_101,
    1_152_141_354_333_077_008,
    1_152_531_363_459_347_061,
    1_152_726_417_527_650_499,
    1_152_823_956_940_537_958,
    1_152_872_729_741_971_125,
    1_152_897_116_916_473_259,
    1_152_909_310_697_175_487,
    1_152_915_407_635_889_989,
    1_152_918_456_117_338_161,
    1_152_919_980_361_084_986,
    1_152_920_742_483_714_085,
    1_152_921_123_545_217_557,
    1_152_921_314_076_016_523,
    1_152_921_409_341_427_813,
    1_152_921_456_974_136_410,
    1_152_921_480_790_491_447,
    1_152_921_492_698_669_150,
    1_152_921_498_652_758_047,
    1_152_921_501_629_802_508,
    1_152_921_503_118_324_741,
    1_152_921_503_862_585_858,
    1_152_921_504_234_716_417,
    1_152_921_504_420_781_696,
];

/// `floor(value x 2^(-epochs / half_life))`, up to one unit less.
pub(crate) fn fade(value: u128, epochs: u64, half_life: u64) -> u128 {
    let half_life = half_life.max(1);
    let halvings = epochs / half_life;
    // The rest of a half-life as a binary fraction of 32 digits; each digit has its factor.
    let fraction = (u128::from(epochs % half_life) << 32) / u128::from(half_life);
    let mut factor = 1u128 << ONE_BITS;
    for (digit, root) in (0u32..).zip(ROOTS) {
        if fraction >> (31 - digit) & 1 == 1 {
            factor = (factor * u128::from(root)) >> ONE_BITS;
        }
    }
    let scaled = value.min(MAX_VALUE) * factor;
    u32::try_from(halvings).ok().and_then(|h| scaled.checked_shr(ONE_BITS.saturating_add(h))).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn half_a_life_halves_and_extreme_times_are_nothing() {
        assert_eq!(fade(1_000_000, 0, 720), 1_000_000);
        assert_eq!(fade(1_000_000, 720, 720), 500_000);
        assert_eq!(fade(1_000_000, 360, 720), 707_106);
        assert_eq!(fade(1_000_000, 7_200, 720), 976);
        for epochs in [128 * 720, u64::MAX - 1, u64::MAX] {
            assert_eq!(fade(u128::MAX, epochs, 720), 0, "{epochs}");
        }
        assert_eq!(fade(u128::MAX, 0, 0), MAX_VALUE);
        assert_eq!(fade(MAX_VALUE, 1, u64::MAX), MAX_VALUE, "an endless half-life fades nothing");
    }

    proptest! {
        #[test]
        fn it_only_falls_and_steps_do_not_matter(value in 0u128..=MAX_VALUE, a in 0u64..100_000, b in 0u64..100_000, half in 1u64..50_000) {
            let once = fade(value, a + b, half);
            let twice = fade(fade(value, a, half), b, half);
            prop_assert!(once <= value && fade(value, a + b + 1, half) <= once);
            // Parts in a billion for the digits cut off, and a unit for each of the three.
            prop_assert!(once.abs_diff(twice) <= once / 1_000_000_000 + 3, "{once} {twice}");
        }
    }
}
