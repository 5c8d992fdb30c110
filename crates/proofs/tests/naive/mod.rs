//! A prover written from `docs/specs/gemm.md` alone, in the plainest way: a second implementation to compare with, and what the
//! cheats are made of. Rows come from the caller, honest or not.

use pasture_proofs::gemm::{OPENED, Round, Shape};
use pasture_proofs::{Beacon, Challenge};
use pasture_types::NodeId;
use pasture_types::ids::derive;
use pasture_types::proof::ResourceClass;
use std::collections::BTreeSet;

/// The field's modulus.
pub(crate) const P: i64 = (1 << 31) - 1;

/// Whose proof it is.
pub(crate) fn challenge() -> Challenge {
    Challenge { randomness: [1; 32], node: NodeId([2; 32]), class: ResourceClass::Cpu, device: 0, epoch: 7, nonces: [3; 32] }
}

/// And in which round.
pub(crate) fn round() -> Round {
    Round { randomness: [1; 32], epoch: 7 }
}

/// The challenge and round above, in one shape.
pub(crate) struct Naive {
    shape: Shape,
    seed: [u8; 32],
    tree: [u8; 32],
    matrix: Vec<Vec<i64>>,
}

fn xof(key: &[u8; 32], from: u64, bytes: usize) -> Vec<u8> {
    let mut out = vec![0; bytes];
    let mut reader = blake3::Hasher::new_keyed(key).finalize_xof();
    reader.set_position(from);
    reader.fill(&mut out);
    out
}

fn int8(bytes: &[u8]) -> Vec<i64> {
    bytes.iter().map(|b| i64::from(*b as i8)).collect()
}

impl Naive {
    pub(crate) fn new(shape: Shape) -> Self {
        let (c, r) = (challenge(), round());
        let (n, domain) = (shape.n() as usize, "pasture 2026-11 gemm rows v1");
        let parts: [&[u8]; 6] = [&c.randomness, &c.node.0, &[0], &c.device.to_le_bytes(), &c.epoch.to_le_bytes(), &c.nonces];
        let sizes = [shape.n(), shape.layers(), shape.rows()].map(u32::to_le_bytes).concat();
        let seed = derive(domain, &[&derive(domain, &parts), &sizes]);
        let key = derive("pasture 2026-11 gemm matrix v1", &[&r.randomness, &r.epoch.to_le_bytes(), &shape.n().to_le_bytes(), &[]]);
        let matrix = xof(&key, 0, n * n).chunks(n).map(int8).collect();
        let tree = derive("pasture 2026-11 proof tree v1", &[&seed, &shape.rows().to_le_bytes()]);
        Self { shape, seed, tree, matrix }
    }

    fn first(&self, row: u32) -> Vec<i64> {
        let n = self.shape.n() as usize;
        int8(&xof(&self.seed, u64::from(row) * n as u64, n))
    }

    /// A row's sums, layer by layer.
    pub(crate) fn sums(&self, row: u32) -> Vec<Vec<i32>> {
        let mut x = self.first(row);
        let layer = |_| {
            let column = |j: usize| i32::try_from(x.iter().zip(&self.matrix).map(|(x, b)| x * b[j]).sum::<i64>()).unwrap();
            let sums: Vec<i32> = (0..x.len()).map(column).collect();
            x = sums.iter().map(|s| i64::from((s >> 4) as i8)).collect();
            sums
        };
        (0..self.shape.layers()).map(layer).collect()
    }

    /// Sums in range that have nothing to do with the product.
    pub(crate) fn noise(&self, row: u32) -> Vec<i32> {
        let bytes = xof(&[77; 32], u64::from(row) * 65_536, 4 * self.shape.n() as usize);
        let most = 1 << 16;
        bytes.chunks(4).map(|b| i32::from_le_bytes([b[0], b[1], b[2], b[3]]) % most).collect()
    }

    fn hash(&self, level: u8, index: u32, content: &[u8]) -> [u8; 32] {
        *blake3::keyed_hash(&self.tree, &[&[level], index.to_le_bytes().as_slice(), content].concat()).as_bytes()
    }

    pub(crate) fn leaves(&self, sums: impl Fn(u32) -> Vec<Vec<i32>>) -> Vec<[u8; 32]> {
        (0..self.shape.rows()).map(|row| self.hash(0, row, &bytes(&sums(row)))).collect()
    }

    fn levels(&self, leaves: &[[u8; 32]]) -> Vec<Vec<[u8; 32]>> {
        let mut levels = vec![leaves.to_vec()];
        while levels[levels.len() - 1].len() > 1 {
            let level = u8::try_from(levels.len()).unwrap();
            let pair = |(i, p): (usize, &[[u8; 32]])| if p.len() == 2 { self.hash(level, i as u32, &p.concat()) } else { p[0] };
            let above = levels[levels.len() - 1].chunks(2).enumerate().map(pair).collect();
            levels.push(above);
        }
        levels
    }

    pub(crate) fn root(&self, leaves: &[[u8; 32]]) -> [u8; 32] {
        let levels = self.levels(leaves);
        levels[levels.len() - 1][0]
    }

    fn picked(&self, root: &[u8; 32], beacon: Beacon) -> BTreeSet<u32> {
        let key = derive("pasture 2026-11 proof openings v1", &[&self.seed, root, &beacon.0]);
        let draws = xof(&key, 0, 8 * OPENED as usize);
        let mut picked = BTreeSet::new();
        for (last, draw) in (self.shape.rows() - OPENED..self.shape.rows()).zip(draws.chunks(8)) {
            let draw = u64::from_le_bytes(draw.try_into().unwrap());
            let place = ((u128::from(draw) * u128::from(last + 1)) >> 64) as u32;
            if !picked.insert(place) {
                picked.insert(last);
            }
        }
        picked
    }

    /// A proof over these leaves that shows these sums.
    pub(crate) fn open(&self, leaves: &[[u8; 32]], beacon: Beacon, sums: impl Fn(u32) -> Vec<Vec<i32>>) -> Vec<u8> {
        let mut known = self.picked(&self.root(leaves), beacon);
        let mut out: Vec<u8> = known.iter().flat_map(|row| bytes(&sums(*row))).collect();
        for level in self.levels(leaves) {
            let beside = known.iter().map(|place| place ^ 1).filter(|place| !known.contains(place));
            out.extend(beside.filter_map(|place| level.get(place as usize)).flatten());
            known = known.iter().map(|place| place / 2).collect();
        }
        out
    }

    /// The hashes from one leaf to the root.
    pub(crate) fn path(&self, leaves: &[[u8; 32]], row: u32) -> Vec<[u8; 32]> {
        let levels = self.levels(leaves);
        (0..levels.len() - 1).filter_map(|level| levels[level].get((row as usize >> level) ^ 1)).copied().collect()
    }

    fn r(&self, beacon: Beacon) -> Vec<i64> {
        let (round, n) = (round(), self.shape.n());
        let key =
            derive("pasture 2026-11 gemm test vector v1", &[&round.randomness, &round.epoch.to_le_bytes(), &n.to_le_bytes(), &beacon.0]);
        let words = xof(&key, 0, 4 * n as usize);
        words.chunks(4).map(|w| i64::from(u32::from_le_bytes(w.try_into().unwrap()) >> 1)).collect()
    }

    fn projection(&self, x: &[i64], r: &[i64]) -> i64 {
        let br = self.matrix.iter().map(|row| dot(row, r));
        dot(x, &br.collect::<Vec<_>>())
    }

    /// Whether a row of the first layer holds in the field.
    pub(crate) fn projects(&self, row: u32, sums: &[i32], beacon: Beacon) -> bool {
        let r = self.r(beacon);
        let sums: Vec<i64> = sums.iter().map(|s| i64::from(*s)).collect();
        dot(&sums, &r) == self.projection(&self.first(row), &r)
    }

    /// Sums in range that hold in the field for a known beacon, without a product: noise with its first two sums chosen.
    pub(crate) fn projected(&self, row: u32, beacon: Beacon) -> Vec<Vec<i32>> {
        let (r, most) = (self.r(beacon), i64::from(self.shape.n()) << 14);
        let inverse = power(r[1], P - 2);
        let mut x = self.first(row);
        let layer = |_| {
            let mut sums: Vec<i64> = self.noise(row).into_iter().map(i64::from).collect();
            let missing = self.projection(&x, &r) - dot(&sums[2..], &r[2..]);
            let fitting = (-most..most).find_map(|first| {
                let second = (missing - first * r[0] % P).rem_euclid(P) * inverse % P;
                (second <= most).then_some((first, second))
            });
            (sums[0], sums[1]) = fitting.expect("one of a thousand fits");
            x = sums.iter().map(|s| i64::from((s >> 4) as i8)).collect();
            sums.iter().map(|s| i32::try_from(*s).unwrap()).collect()
        };
        (0..self.shape.layers()).map(layer).collect()
    }
}

fn bytes(sums: &[Vec<i32>]) -> Vec<u8> {
    sums.iter().flatten().flat_map(|s| s.to_le_bytes()).collect()
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
