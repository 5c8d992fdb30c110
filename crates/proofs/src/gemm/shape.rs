//! How large a product is, by class and declared rate, and the matrix that a round shares.
//!
//! Guarantees: a [`Shape`] is within its bounds; [`Shape::filling`] is exact integer arithmetic and never asks for more work than
//! the declared rate does in the burst.

use super::super::merkle::{DIGEST, Tree};
use pasture_types::Millis;
use pasture_types::ids::derive;
use pasture_types::proof::ResourceClass;

/// Rows opened (k): skipping a part `1 - f` of them is caught with `1 - f^64` at least.
pub const OPENED: u32 = 64;
/// Narrowest product, for tests.
pub const MIN_N: u32 = 8;
/// Widest product: a sum of products is below 2^28 then, and a matrix of 256 MiB.
pub const MAX_N: u32 = 16_384;
/// Most rows: 32 MiB of leaves.
pub const MAX_ROWS: u32 = 1 << 20;
/// Longest chain.
pub const MAX_LAYERS: u32 = 16;

/// Rows below which a narrower product is chosen: opening computes 64 rows again, 6 % of so many.
const FEW_ROWS: u128 = 1_024;
/// Below this width hashing the rows would be most of the work.
const NARROW: u32 = 256;
/// Where a CPU begins: its matrix (2 MiB as the kernel keeps it) stays in its caches, and hashing a row costs some percent of computing it.
const CPU_N: u32 = 1_024;
/// Where a GPU begins: it multiplies a thousand times as fast as it hashes.
const GPU_N: u32 = 8_192;

const MATRIX_DOMAIN: &str = "pasture 2026-11 gemm matrix v1";
const TEST_DOMAIN: &str = "pasture 2026-11 gemm test vector v1";

/// The size of a proof's product.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    n: u32,
    layers: u32,
    rows: u32,
}

impl Shape {
    /// A product of `rows` rows with an `n` by `n` matrix, `layers` times; `None` outside the bounds.
    #[must_use]
    pub fn new(n: u32, layers: u32, rows: u32) -> Option<Self> {
        let sound = (MIN_N..=MAX_N).contains(&n)
            && n.is_multiple_of(8)
            && (1..=MAX_LAYERS).contains(&layers)
            && (OPENED..=MAX_ROWS).contains(&rows);
        sound.then_some(Self { n, layers, rows })
    }

    /// The shape that keeps a device of this class busy for `burst` at `macs_per_s` multiply-adds a second: at most that work, and
    /// less by one row of each layer at most, unless it is more than the largest shape has. `None` if it is too little to prove.
    ///
    /// The narrowest product that has no more than [`MAX_ROWS`] rows: verifying costs in proportion to `n`, not to the work.
    #[must_use]
    pub fn filling(class: ResourceClass, macs_per_s: u64, burst: Millis) -> Option<Self> {
        let work = u128::from(macs_per_s) * u128::from(burst.0) / 1_000;
        let rows = |n: u32| work / (u128::from(n) * u128::from(n));
        let mut n = match class {
            ResourceClass::Cpu => CPU_N,
            ResourceClass::Gpu => GPU_N,
        };
        while n > NARROW && rows(n) < FEW_ROWS {
            n /= 2;
        }
        while n < MAX_N && rows(n) > u128::from(MAX_ROWS) {
            n *= 2;
        }
        let layers = rows(n).div_ceil(u128::from(MAX_ROWS)).clamp(1, u128::from(MAX_LAYERS));
        let rows = (rows(n) / layers).min(u128::from(MAX_ROWS));
        Self::new(n, u32::try_from(layers).ok()?, u32::try_from(rows).ok()?)
    }

    /// Width of the product.
    #[must_use]
    pub const fn n(&self) -> u32 {
        self.n
    }
    /// Products one after another.
    #[must_use]
    pub const fn layers(&self) -> u32 {
        self.layers
    }
    /// Rows of each.
    #[must_use]
    pub const fn rows(&self) -> u32 {
        self.rows
    }
    /// Multiply-adds in all.
    #[must_use]
    pub const fn macs(&self) -> u64 {
        self.n as u64 * self.n as u64 * self.layers as u64 * self.rows as u64
    }
    /// Bytes of the rows that a proof opens; hashes follow.
    #[must_use]
    pub const fn opened_bytes(&self) -> u64 {
        OPENED as u64 * self.layers as u64 * self.n as u64 * 4
    }
    /// The longest proof: refuse more before reading it.
    #[must_use]
    pub fn longest_proof(&self) -> u64 {
        self.opened_bytes() + Tree::longest_path(self.rows, OPENED) * DIGEST as u64
    }

    pub(super) fn bytes(self) -> [u8; 12] {
        let mut out = [0; 12];
        let fields = [self.n, self.layers, self.rows];
        out.as_chunks_mut().0.iter_mut().zip(fields).for_each(|(to, field): (&mut [u8; 4], u32)| *to = field.to_le_bytes());
        out
    }
}

/// What all provers of an epoch share: the matrix B, and with a beacon the verifiers' test vector.
///
/// Every root of the round must be fixed before its beacon is known; a later one could be made to fit the vector.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Round {
    /// The epoch's randomness.
    pub randomness: [u8; 32],
    /// The epoch.
    pub epoch: u64,
}

impl Round {
    fn key(&self, domain: &str, n: u32, more: &[u8]) -> [u8; 32] {
        derive(domain, &[&self.randomness, &self.epoch.to_le_bytes(), &n.to_le_bytes(), more])
    }
    /// The entries of B are, row by row, the bytes of BLAKE3's output stream under this key over nothing.
    #[must_use]
    pub fn matrix_key(&self, n: u32) -> [u8; 32] {
        self.key(MATRIX_DOMAIN, n, &[])
    }
    /// The entries of B, row by row, as bytes of int8.
    pub(super) fn matrix(&self, n: u32) -> blake3::OutputReader {
        blake3::Hasher::new_keyed(&self.matrix_key(n)).finalize_xof()
    }
    pub(super) fn test_vector(&self, n: u32, beacon: super::super::Beacon) -> blake3::OutputReader {
        blake3::Hasher::new_keyed(&self.key(TEST_DOMAIN, n, &beacon.0)).finalize_xof()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]
        #[test]
        fn a_shape_fills_the_burst_and_no_more(gpu in any::<bool>(), mantissa in 1u64..1_000, zeros in 0u32..14, burst in 1u64..30_000) {
            let class = if gpu { ResourceClass::Gpu } else { ResourceClass::Cpu };
            let rate = mantissa * 10u64.pow(zeros);
            let work = u128::from(rate) * u128::from(burst) / 1_000;
            let Some(shape) = Shape::filling(class, rate, Millis(burst)) else {
                // Less than 64 rows of the narrowest product.
                prop_assert!(work < 64 * 65_536);
                return Ok(());
            };
            prop_assert!(u128::from(shape.macs()) <= work);
            let largest = Shape::new(MAX_N, MAX_LAYERS, MAX_ROWS).unwrap();
            let row = u64::from(shape.n) * u64::from(shape.n) * u64::from(shape.layers);
            prop_assert!(shape == largest || u128::from(shape.macs() + row) > work, "{:?} for {}", shape, work);
            prop_assert!(shape.longest_proof() <= 70 << 20);
        }
    }

    #[test]
    fn devices_of_each_size_have_a_shape() {
        let shape = |class, rate| Shape::filling(class, rate, Millis(4_000)).map(|s| (s.n, s.layers, s.rows));
        assert_eq!(shape(ResourceClass::Cpu, 1_000_000), None);
        assert_eq!(shape(ResourceClass::Cpu, 20_000_000), Some((256, 1, 1_220)));
        assert_eq!(shape(ResourceClass::Cpu, 10_000_000_000), Some((1_024, 1, 38_146)));
        assert_eq!(shape(ResourceClass::Cpu, 160_000_000_000), Some((1_024, 1, 610_351)));
        assert_eq!(shape(ResourceClass::Cpu, 1_000_000_000_000), Some((2_048, 1, 953_674)));
        assert_eq!(shape(ResourceClass::Gpu, 20_000_000_000_000), Some((16_384, 1, 298_023)));
        assert_eq!(shape(ResourceClass::Gpu, 1_000_000_000_000_000), Some((16_384, 15, 993_410)));
        assert_eq!(shape(ResourceClass::Gpu, u64::MAX), Some((16_384, 16, 1 << 20)));
    }

    #[test]
    fn shapes_outside_the_bounds_do_not_exist() {
        for (n, layers, rows) in [(0, 1, 64), (12, 1, 64), (16_392, 1, 64), (64, 0, 64), (64, 17, 64), (64, 1, 63), (64, 1, (1 << 20) + 1)]
        {
            assert_eq!(Shape::new(n, layers, rows), None);
        }
        assert_eq!(Shape::new(1_024, 1, 4_096).unwrap().opened_bytes(), 262_144);
    }
}
