//! GPUs that do not compute the products that capacity audits ask of them, each in a way of its own.
//!
//! Guarantees (of dishonesty): what is committed to and what is opened follow `docs/specs/gemm.md` in everything but the sums; the rest of the
//! machine is honest. Products of one layer only, which is what GPUs are asked for.

use pasture_node::{Asked, Committed, ProductEngine};
use pasture_proofs::Beacon;
use pasture_proofs::gemm::{Plan, Product};
use pasture_types::ids::derive;

/// The field's modulus.
const P: i64 = (1 << 31) - 1;
const TEST_DOMAIN: &str = "pasture 2026-11 gemm test vector v1";
/// Every so many rows the lazy one leaves out.
const SKIPPED_EVERY: u32 = 5;

/// How it cheats.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum Way {
    /// Commits to noise, and opens it.
    Garbage,
    /// Commits to noise, and computes the rows that are asked for.
    Late,
    /// Commits to noise, and makes up sums whose projection is right once the test vector is known.
    Projected,
    /// Moves each sum by the field's modulus, which the projection alone does not see.
    Shifted,
    /// Leaves every fifth row out, and computes it if it is asked for.
    Skipping,
}

/// Cheating GPUs.
pub(crate) struct CheatingGpus(pub(crate) Way);

struct Made {
    way: Way,
    product: Product,
    plan: Plan,
    /// B, row by row.
    matrix: Vec<i8>,
    leaves: Vec<[u8; 32]>,
}

fn stream(key: &[u8; 32], from: u64, bytes: usize) -> Vec<u8> {
    let mut out = vec![0; bytes];
    let mut reader = blake3::Hasher::new_keyed(key).finalize_xof();
    reader.set_position(from);
    reader.fill(&mut out);
    out
}

fn bytes(sums: &[i32]) -> Vec<u8> {
    sums.iter().flat_map(|sum| sum.to_le_bytes()).collect()
}

impl ProductEngine for CheatingGpus {
    fn prove(&self, asked: &Asked, _: &dyn Fn() -> bool) -> Option<Box<dyn Committed>> {
        let Self(way) = *self;
        let product = asked.product.clone();
        let n = product.shape.n();
        let matrix = stream(&product.round.matrix_key(n), 0, (n * n) as usize).into_iter().map(|b| b as i8).collect();
        let plan = Plan::new(product.shape, &product.challenge);
        let mut made = Made { way, product, plan, matrix, leaves: vec![] };
        made.leaves = (0..made.product.shape.rows()).map(|row| made.plan.leaf(row, &bytes(&made.committed(row)))).collect();
        eprintln!("cheat: committed to a product, {way:?}");
        Some(Box::new(made))
    }
}

impl Made {
    fn width(&self) -> usize {
        self.product.shape.n() as usize
    }

    fn first(&self, row: u32) -> Vec<i8> {
        stream(self.plan.rows_key(), u64::from(row) * u64::from(self.product.shape.n()), self.width())
            .into_iter()
            .map(|b| b as i8)
            .collect()
    }

    fn honest(&self, row: u32) -> Vec<i32> {
        let mut sums = vec![0; self.width()];
        for (x, of_matrix) in self.first(row).into_iter().zip(self.matrix.chunks_exact(self.width())) {
            sums.iter_mut().zip(of_matrix).for_each(|(sum, b)| *sum += i32::from(x) * i32::from(*b));
        }
        sums
    }

    /// Sums in range that have nothing to do with the product.
    fn noise(&self, row: u32) -> Vec<i32> {
        let random = stream(&[77; 32], u64::from(row) * 65_536, 4 * self.width());
        random.as_chunks().0.iter().map(|b| i32::from_le_bytes(*b) % (1 << 16)).collect()
    }

    fn shifted(&self, row: u32) -> Vec<i32> {
        let by = i32::MAX;
        self.honest(row).into_iter().map(|sum| if sum < 0 { sum + by } else { sum - by }).collect()
    }

    fn committed(&self, row: u32) -> Vec<i32> {
        match self.way {
            Way::Garbage | Way::Late | Way::Projected => self.noise(row),
            Way::Shifted => self.shifted(row),
            Way::Skipping if row.is_multiple_of(SKIPPED_EVERY) => self.noise(row),
            Way::Skipping => self.honest(row),
        }
    }

    fn shown(&self, row: u32, beacon: Beacon) -> Vec<i32> {
        match self.way {
            Way::Garbage => self.noise(row),
            Way::Shifted => self.shifted(row),
            Way::Late | Way::Skipping => self.honest(row),
            Way::Projected => self.projected(row, beacon),
        }
    }

    fn test_vector(&self, beacon: Beacon) -> Vec<i64> {
        let (round, n) = (&self.product.round, self.product.shape.n());
        let key = derive(TEST_DOMAIN, &[&round.randomness, &round.epoch.to_le_bytes(), &n.to_le_bytes(), &beacon.0]);
        stream(&key, 0, 4 * self.width()).as_chunks().0.iter().map(|w| i64::from(u32::from_le_bytes(*w) >> 1)).collect()
    }

    /// Noise whose first two sums are chosen so that the projection is that of the product.
    fn projected(&self, row: u32, beacon: Beacon) -> Vec<i32> {
        let r = self.test_vector(beacon);
        let wide = |row: &[i8]| row.iter().map(|b| i64::from(*b)).collect::<Vec<i64>>();
        let of_matrix: Vec<i64> = self.matrix.chunks_exact(self.width()).map(|of_row| dot(&wide(of_row), &r)).collect();
        let mut sums: Vec<i64> = self.noise(row).into_iter().map(i64::from).collect();
        let ([r0, r1, r_rest @ ..], [_, _, rest @ ..]) = (&r[..], &sums[..]) else { return vec![] };
        let missing = dot(&wide(&self.first(row)), &of_matrix) - dot(rest, r_rest);
        let inverse = power(*r1, P - 2);
        let most = i64::from(self.product.shape.n()) << 14;
        let fitting = (-most..most).find_map(|first| {
            let second = (missing - first * r0 % P).rem_euclid(P) * inverse % P;
            (second <= most).then_some((first, second))
        });
        if let (Some((first, second)), [s0, s1, ..]) = (fitting, &mut sums[..]) {
            (*s0, *s1) = (first, second);
        }
        sums.into_iter().filter_map(|sum| i32::try_from(sum).ok()).collect()
    }
}

impl Committed for Made {
    fn root(&self) -> [u8; 32] {
        self.plan.root(&self.leaves)
    }
    fn open(&self, beacon: Beacon) -> Option<Vec<u8>> {
        let drawn = self.plan.drawn(&self.root(), beacon);
        let sums = drawn.iter().flat_map(|row| bytes(&self.shown(*row, beacon))).collect();
        eprintln!("cheat: opened a product, {:?}", self.way);
        Some(self.plan.proof(&self.leaves, &drawn, sums))
    }
}

fn dot(a: &[i64], b: &[i64]) -> i64 {
    a.iter().zip(b).fold(0, |sum, (a, b)| (sum + a * b).rem_euclid(P))
}

fn power(base: i64, exponent: i64) -> i64 {
    let (mut result, mut base, mut left) = (1, base % P, exponent);
    while left > 0 {
        if left % 2 == 1 {
            result = result * base % P;
        }
        base = base * base % P;
        left /= 2;
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum as _;
    use pasture_proofs::gemm::{Audited, Check, GemmError, find_wrong_entry};
    use pasture_types::{Millis, NodeId};

    #[test]
    fn every_way_loses_and_two_leave_proof() {
        let audited = Audited { randomness: [1; 32], epoch: 2, node: NodeId([3; 32]), nonces: [4; 32], burst: Millis(100) };
        let asked = Asked { model: "H100".into(), number: 0, product: audited.product(0, 100_000_000).unwrap() };
        let Product { shape, round, challenge } = &asked.product;
        let beacon = Beacon([5; 32]);
        let check = Check::new(*shape, round, beacon);
        for way in Way::value_variants() {
            let made = CheatingGpus(*way).prove(&asked, &|| true).unwrap();
            let opened = made.open(beacon).unwrap();
            let error = check.verify(*shape, challenge, &made.root(), &opened).unwrap_err();
            let seen = match way {
                Way::Garbage => matches!(error, GemmError::Product { .. }),
                Way::Shifted => matches!(error, GemmError::Range(_)),
                Way::Late | Way::Projected | Way::Skipping => error == GemmError::Commitment,
            };
            assert!(seen, "{way:?}: {error}");
            let convicts = find_wrong_entry(*shape, round, challenge, &made.root(), beacon, &opened).is_some();
            assert_eq!(convicts, matches!(way, Way::Garbage | Way::Shifted), "{way:?}");
        }
    }
}
