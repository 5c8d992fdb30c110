//! The prover: rows in any order and on any number of threads, leaves of 32 bytes, and the opened rows computed again.
//!
//! Guarantees: memory is the matrix (2 n^2 bytes), 32 bytes a row, and a block of rows for each thread; what it makes verifies.
//! It starts no threads and looks at no clock.

use super::kernel::{BLOCK, multiply};
use super::shape::{OPENED, Round, Shape};
use super::{ROWS_DOMAIN, next};
use crate::challenge::pick;
use crate::merkle::{Digest, Tree};
use crate::{Beacon, Challenge};
use std::ops::Range;
use std::time::Duration;

/// What a challenge asks for, without a product: its keys, its tree, and what is opened. Whoever computes rows elsewhere (a graphics
/// card) makes the same proof with it as [`Prover`] does.
#[derive(Clone, Debug)]
pub struct Plan {
    shape: Shape,
    seed: [u8; 32],
    tree: Tree,
}

/// One challenge's product.
#[derive(Debug)]
pub struct Prover {
    plan: Plan,
    /// B, column by column, widened for the kernel.
    columns: Vec<i16>,
}

/// Rows of the matrix that are turned into columns together: a line of the cache in each column.
const STRIP: usize = 32;

/// The leaves that threads fill: 32 bytes for each row.
pub type Rows = Vec<[u8; 32]>;

/// What one thread works in.
struct Work {
    x: Vec<i16>,
    c: Vec<i32>,
    bytes: Vec<u8>,
}

impl Plan {
    /// What `challenge` asks for in this shape.
    #[must_use]
    pub fn new(shape: Shape, challenge: &Challenge) -> Self {
        let seed = seed(shape, challenge);
        Self { shape, seed, tree: Tree::new(&seed, shape.rows()) }
    }

    /// The shape.
    #[must_use]
    pub const fn shape(&self) -> Shape {
        self.shape
    }
    /// Row i of `X_0` is the n bytes at `i n` of BLAKE3's output stream under this key over nothing.
    #[must_use]
    pub const fn rows_key(&self) -> &[u8; 32] {
        &self.seed
    }
    /// Leaf i is BLAKE3 under this key over a zero byte, i as four bytes, and the sums of row i layer by layer; all little-endian.
    #[must_use]
    pub const fn leaves_key(&self) -> &[u8; 32] {
        self.tree.key()
    }
    /// The leaf of a row, from the bytes of its sums.
    #[must_use]
    pub fn leaf(&self, row: u32, sums: &[u8]) -> [u8; 32] {
        *self.tree.leaf(row).update(sums).finalize().as_bytes()
    }
    /// What the node signs and sends before the beacon is known.
    #[must_use]
    pub fn root(&self, leaves: &[[u8; 32]]) -> [u8; 32] {
        self.tree.root(leaves)
    }
    /// The rows that a beacon opens under a root, ascending.
    #[must_use]
    pub fn drawn(&self, root: &[u8; 32], beacon: Beacon) -> Vec<u32> {
        pick(&self.seed, root, beacon, self.shape.rows(), OPENED)
    }
    /// Completes a proof: `sums` holds those of the `drawn` rows, row by row, layer by layer; the tree's hashes follow.
    #[must_use]
    pub fn proof(&self, leaves: &[[u8; 32]], drawn: &[u32], mut sums: Vec<u8>) -> Vec<u8> {
        sums.extend(self.tree.open(leaves, drawn).into_iter().flatten());
        sums
    }
}

impl Prover {
    /// Makes the matrix of the round; the same for all nodes, so it can be made once for several devices.
    #[must_use]
    pub fn new(shape: Shape, round: &Round, challenge: &Challenge) -> Self {
        let n = shape.n() as usize;
        let (mut columns, mut strip, mut stream) = (vec![0; n * n], vec![0; STRIP * n], round.matrix(shape.n()));
        for first in (0..n).step_by(STRIP) {
            let rows = strip.get_mut(..STRIP.min(n - first) * n).unwrap_or_default();
            stream.fill(rows);
            for (at, column) in columns.chunks_exact_mut(n).enumerate() {
                let down = rows.iter().skip(at).step_by(n);
                column.iter_mut().skip(first).zip(down).for_each(|(to, byte)| *to = i16::from(*byte as i8));
            }
        }
        Self { plan: Plan::new(shape, challenge), columns }
    }

    /// Computes rows and their leaves; `out` has one place for each, and threads may take ranges of their own.
    pub fn leaves(&self, rows: Range<u32>, out: &mut [[u8; 32]]) {
        let mut work = Work::new(self.plan.shape);
        let all: Vec<u32> = rows.collect();
        for (rows, out) in all.chunks(BLOCK).zip(out.chunks_mut(BLOCK)) {
            let mut leaves: Vec<blake3::Hasher> = rows.iter().map(|row| self.plan.tree.leaf(*row)).collect();
            self.block(rows, &mut work, |at, bytes| {
                if let Some(leaf) = leaves.get_mut(at) {
                    leaf.update(bytes);
                }
            });
            out.iter_mut().zip(leaves).for_each(|(to, leaf)| *to = *leaf.finalize().as_bytes());
        }
    }

    /// All leaves, on the calling thread.
    #[must_use]
    pub fn all_leaves(&self) -> Rows {
        let mut out = vec![[0; 32]; self.plan.shape.rows() as usize];
        self.leaves(0..self.plan.shape.rows(), &mut out);
        out
    }

    /// What the node signs and sends before the beacon is known.
    #[must_use]
    pub fn root(&self, leaves: &[[u8; 32]]) -> [u8; 32] {
        self.plan.root(leaves)
    }

    /// The proof's bytes: the opened rows' sums, layer by layer, rows ascending, each int32 little-endian; then the tree's hashes.
    #[must_use]
    pub fn open(&self, leaves: &[[u8; 32]], beacon: Beacon) -> Vec<u8> {
        let places = self.plan.drawn(&self.root(leaves), beacon);
        let mut out = Vec::with_capacity(usize::try_from(self.plan.shape.longest_proof()).unwrap_or(0));
        let mut work = Work::new(self.plan.shape);
        for rows in places.chunks(BLOCK) {
            let mut opened = vec![Vec::new(); rows.len()];
            self.block(rows, &mut work, |at, bytes| {
                if let Some(row) = opened.get_mut(at) {
                    row.extend_from_slice(bytes);
                }
            });
            out.extend(opened.into_iter().flatten());
        }
        self.plan.proof(leaves, &places, out)
    }

    /// Computes a block of rows; `sink` gets each layer's sums of each row as bytes, layers in order.
    fn block(&self, rows: &[u32], work: &mut Work, mut sink: impl FnMut(usize, &[u8])) {
        let n = self.plan.shape.n() as usize;
        let used = rows.len() * n;
        let (x, c) = (work.x.get_mut(..used).unwrap_or_default(), work.c.get_mut(..used).unwrap_or_default());
        for (row, x) in rows.iter().zip(x.chunks_exact_mut(n)) {
            first_row(&self.plan.seed, *row, &mut work.bytes, x);
        }
        for layer in 0..self.plan.shape.layers() {
            if layer > 0 {
                x.iter_mut().zip(c.iter()).for_each(|(to, sum)| *to = i16::from(next(*sum)));
            }
            multiply(x, &self.columns, n, c);
            for (at, sums) in c.chunks_exact(n).enumerate() {
                work.bytes.as_chunks_mut().0.iter_mut().zip(sums).for_each(|(to, sum)| *to = sum.to_le_bytes());
                sink(at, &work.bytes);
            }
        }
    }
}

impl Work {
    fn new(shape: Shape) -> Self {
        let n = shape.n() as usize;
        Self { x: vec![0; BLOCK * n], c: vec![0; BLOCK * n], bytes: vec![0; 4 * n] }
    }
}

/// The seed of a node's rows, bound to the shape too.
pub(super) fn seed(shape: Shape, challenge: &Challenge) -> [u8; 32] {
    pasture_types::ids::derive(ROWS_DOMAIN, &[&challenge.seed(ROWS_DOMAIN), &shape.bytes()])
}

/// The bytes (int8) of a row of X_0.
pub(super) fn row_bytes(seed: &[u8; 32], row: u32, out: &mut [u8]) {
    let mut stream = blake3::Hasher::new_keyed(seed).finalize_xof();
    stream.set_position(u64::from(row) * out.len() as u64);
    stream.fill(out);
}

fn first_row(seed: &[u8; 32], row: u32, scratch: &mut [u8], x: &mut [i16]) {
    let bytes = scratch.get_mut(..x.len()).unwrap_or_default();
    row_bytes(seed, row, bytes);
    x.iter_mut().zip(bytes).for_each(|(to, byte)| *to = i16::from(*byte as i8));
}

/// Multiply-adds per second of the calling thread, hashing of rows included, measured for `length` with the caller's clock.
pub fn benchmark_gemm(length: Duration, mut elapsed: impl FnMut() -> Duration) -> u64 {
    let Some(shape) = Shape::new(1_024, 1, 1 << 16) else { return 0 };
    let challenge = Challenge {
        randomness: [0xa5; 32],
        node: pasture_types::NodeId([0; 32]),
        class: pasture_types::proof::ResourceClass::Cpu,
        device: 0,
        epoch: 0,
        nonces: [0; 32],
    };
    let prover = Prover::new(shape, &Round { randomness: [0xa5; 32], epoch: 0 }, &challenge);
    let (mut row, mut spent, mut leaves) = (0, Duration::ZERO, [Digest::default(); BLOCK]);
    let begin = elapsed();
    while spent < length && row < shape.rows() {
        prover.leaves(row..row + BLOCK as u32, &mut leaves);
        row += BLOCK as u32;
        spent = elapsed().saturating_sub(begin);
    }
    std::hint::black_box(leaves);
    let macs = u128::from(row) * u128::from(shape.n()) * u128::from(shape.n());
    u64::try_from(macs * 1_000_000_000 / spent.as_nanos().max(1)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_multiply_adds_over_the_callers_time() {
        let mut looks = 0u64;
        let rate = benchmark_gemm(Duration::from_millis(3), || {
            looks += 1;
            Duration::from_millis(looks)
        });
        // Three blocks of 16 rows in 3 ms.
        assert_eq!((rate, looks), (16 * 1_024 * 1_024 * 1_000, 4));
    }
}
