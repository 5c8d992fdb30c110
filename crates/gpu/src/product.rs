//! Matrix products on a card: the same rows, leaves, roots and proofs as `pasture_proofs::gemm` makes. Spec: `docs/specs/gemm.md`.
//!
//! ```text
//!   matrix key --> expand --> pack --> B in pieces of whole columns          once, stays on the card
//!   rows key --> expand --> X --> multiply --> C --> next --> X ...          a block of rows at a time
//!   all layers of C --> chunks --> merge --> 32 bytes a row                  nothing else comes back, but the rows that are opened
//! ```
//!
//! Guarantees: memory of the card is the matrix (n^2 bytes) and one block (at most [`BLOCK_BYTES`] and some percent); on this side 32 bytes a row. Rows
//! that are opened are computed once more and compared with their leaves, so that what verifiers would refuse is an error here.

use crate::device::{Ask, Device, Kernel, words};
use crate::error::GpuError;
use crate::multiply::{self, TILE};
use crate::work::{Ended, Line, Pace};
use pasture_proofs::gemm::{OPENED, Plan, Round, Rows, Shape};
use pasture_proofs::{Beacon, Challenge};
use std::ops::Range;
use std::time::{Duration, Instant};
use wgpu::Buffer;

/// Most bytes of sums on the card at a time, where it binds so much.
const BLOCK_BYTES: u64 = 256 << 20;
/// Most rows of a block.
const BLOCK_ROWS: u32 = 4_096;
/// Leaves that wait on the card: 1 MiB.
const LEAVES: u32 = 1 << 15;
/// Bytes of a leaf.
const LEAF: u64 = 32;
/// Bytes of the matrix that are expanded at a time.
const STRIP_BYTES: u64 = 16 << 20;
/// Bytes of a chunk of BLAKE3.
const CHUNK: u64 = 1_024;
/// Bytes before the sums in a leaf's message.
const PREFIX: u64 = 5;
/// Blocks go together while they are worth no more than so many pieces; then their leaves are fetched.
const TOGETHER: u64 = 8;
/// Least multiply-adds of a piece of work.
const LEAST: u64 = 1 << 25;
/// Invocations of a workgroup but the product's.
const GROUP: u32 = 64;

/// The shaders, compiled once for a device.
#[derive(Clone, Debug)]
pub(crate) struct Kernels {
    expand: Kernel,
    pack: Kernel,
    multiply: Kernel,
    next: Kernel,
    chunks: Kernel,
    merge: Kernel,
}

impl Kernels {
    pub(crate) fn new(device: &Device) -> Self {
        let hashing = |name, source: &str| device.kernel(name, &[include_str!("shaders/blake3.wgsl"), source].concat());
        Self {
            expand: hashing("expand", include_str!("shaders/expand.wgsl")),
            pack: device.kernel("pack", include_str!("shaders/pack.wgsl")),
            multiply: device.kernel("multiply", &multiply::shader()),
            next: device.kernel("next", include_str!("shaders/next.wgsl")),
            chunks: hashing("chunks", include_str!("shaders/chunks.wgsl")),
            merge: hashing("merge", include_str!("shaders/merge.wgsl")),
        }
    }
}

/// Some columns of the matrix.
#[derive(Debug)]
struct Piece {
    first: u32,
    columns: u32,
    words: Buffer,
}

/// What a block of rows is computed in.
#[derive(Debug)]
struct Block {
    most_rows: u32,
    rows: Buffer,
    x: Buffer,
    sums: Buffer,
    values: Buffer,
    leaves: Buffer,
}

/// One challenge's product on a card.
#[derive(Debug)]
pub struct Prover {
    device: Device,
    kernels: Kernels,
    plan: Plan,
    matrix: Vec<Piece>,
    block: Block,
    pace: Pace,
}

/// What a card computed and committed to; its proof can be had once the beacon is there.
#[derive(Debug)]
pub struct Commitment {
    prover: Prover,
    leaves: Rows,
    root: [u8; 32],
}

impl Commitment {
    /// What the node signs and sends before the beacon is known.
    #[must_use]
    pub const fn root(&self) -> &[u8; 32] {
        &self.root
    }

    /// The proof's bytes, for `pasture_proofs::gemm::Check`.
    ///
    /// # Errors
    /// The card fails, or computes a row otherwise than before.
    pub fn open(&mut self, beacon: Beacon) -> Result<Vec<u8>, GpuError> {
        self.prover.open(&self.leaves, beacon)
    }
}

impl Prover {
    /// Makes the matrix of the round on the card.
    ///
    /// # Errors
    /// The card fails, or has no room.
    pub fn new(device: &Device, shape: Shape, round: &Round, challenge: &Challenge) -> Result<Self, GpuError> {
        Self::cut(device, device.adapter().max_buffer_bytes(), shape, round, challenge)
    }

    /// The same with a largest buffer of choice: results do not depend on it.
    pub(crate) fn cut(device: &Device, most_bytes: u64, shape: Shape, round: &Round, challenge: &Challenge) -> Result<Self, GpuError> {
        let kernels = device.product_kernels().clone();
        let matrix = matrix(device, &kernels, most_bytes, shape.n(), &round.matrix_key(shape.n()))?;
        let block = Block::new(device, shape, most_bytes.min(BLOCK_BYTES));
        device.check()?;
        Ok(Self { device: device.clone(), kernels, plan: Plan::new(shape, challenge), matrix, block, pace: Pace::new(LEAST) })
    }

    /// Computes all rows and commits to them; `go_on` is asked between pieces of work, and `None` says that it said no.
    ///
    /// # Errors
    /// The card fails.
    pub fn commit(mut self, mut go_on: impl FnMut() -> bool) -> Result<Option<Commitment>, GpuError> {
        let Some(leaves) = self.all_leaves(&mut go_on)? else { return Ok(None) };
        let root = self.root(&leaves);
        Ok(Some(Commitment { prover: self, leaves, root }))
    }

    /// All leaves; `None` if `go_on` said no.
    ///
    /// # Errors
    /// The card fails.
    pub fn all_leaves(&mut self, go_on: &mut dyn FnMut() -> bool) -> Result<Option<Rows>, GpuError> {
        let mut out = vec![[0; 32]; self.plan.shape().rows() as usize];
        let done = self.leaves(0..self.plan.shape().rows(), &mut out, go_on)?;
        Ok(done.then_some(out))
    }

    /// Computes rows and their leaves; `out` has one place for each. `false` if `go_on` said no.
    ///
    /// # Errors
    /// The card fails.
    pub fn leaves(&mut self, rows: Range<u32>, out: &mut [[u8; 32]], go_on: &mut dyn FnMut() -> bool) -> Result<bool, GpuError> {
        let (mut next, mut out) = (rows.start, out);
        while next < rows.end {
            let (ended, done) = self.some_leaves(next..rows.end, go_on)?;
            if ended == Ended::CalledOff {
                return Ok(false);
            }
            let bytes = self.device.read(&self.block.leaves, u64::from(done) * LEAF)?;
            let (mine, rest) = out.split_at_mut(out.len().min(done as usize));
            mine.iter_mut().zip(bytes.as_chunks().0).for_each(|(to, leaf)| *to = *leaf);
            (next, out) = (next.saturating_add(done), rest);
        }
        Ok(true)
    }

    /// Computes rows from `first` on for about `length`, and forgets them; says how many.
    pub(crate) fn some(&mut self, first: u32, length: Duration) -> Result<u32, GpuError> {
        let (begin, mut next) = (Instant::now(), first);
        while begin.elapsed() < length && next < self.plan.shape().rows() {
            let (_, done) = self.some_leaves(next..self.plan.shape().rows(), &mut || true)?;
            next = next.saturating_add(done);
        }
        Ok(next - first)
    }

    /// Computes as many rows as go together, and leaves their leaves on the card; says how many.
    fn some_leaves(&mut self, rows: Range<u32>, go_on: &mut dyn FnMut() -> bool) -> Result<(Ended, u32), GpuError> {
        let shape = self.plan.shape();
        let (most, row_worth) = (self.block_rows(), shape.macs() / u64::from(shape.rows()));
        let mut line = Line::new(&self.device, go_on);
        let mut done = 0;
        while done < rows.len() as u32 {
            let first = rows.start + done;
            let some: Vec<u32> = (first..rows.end.min(first.saturating_add(most))).collect();
            let count = some.len() as u32;
            let over = done > 0 && u64::from(done) * row_worth >= TOGETHER * self.pace.piece();
            if over || done + count > LEAVES {
                break;
            }
            if self.multiply(&some, &mut line)? == Ended::CalledOff || line.send(self.hash(count, done))? == Ended::CalledOff {
                // What is under way ends before the buffers are used again.
                line.finish()?;
                return Ok((Ended::CalledOff, done));
            }
            done += count;
        }
        let took = line.finish()?;
        self.pace.learn(u64::from(done) * row_worth, took);
        Ok((Ended::Done, done))
    }

    /// What the node signs and sends before the beacon is known.
    #[must_use]
    pub fn root(&self, leaves: &[[u8; 32]]) -> [u8; 32] {
        self.plan.root(leaves)
    }

    /// The proof's bytes: the opened rows are computed once more.
    ///
    /// # Errors
    /// The card fails, or computes a row otherwise than before.
    pub fn open(&mut self, leaves: &[[u8; 32]], beacon: Beacon) -> Result<Vec<u8>, GpuError> {
        let drawn = self.plan.drawn(&self.root(leaves), beacon);
        let mut always = || true;
        let mut line = Line::new(&self.device, &mut always);
        // Nobody calls it off.
        let _ = self.multiply(&drawn, &mut line)?;
        line.finish()?;
        let row_bytes = self.row_bytes();
        let sums = self.device.read(&self.block.sums, drawn.len() as u64 * row_bytes)?;
        for (row, sums) in drawn.iter().zip(sums.chunks_exact(usize::try_from(row_bytes).unwrap_or(usize::MAX))) {
            if leaves.get(*row as usize) != Some(&self.plan.leaf(*row, sums)) {
                return Err(GpuError::Wrong(*row));
            }
        }
        Ok(self.plan.proof(leaves, &drawn, sums))
    }

    /// Bytes of a row's sums in all layers.
    fn row_bytes(&self) -> u64 {
        row_bytes(self.plan.shape())
    }

    /// Rows of a block: no more than fit, and no more than a piece is with the narrowest part of the product.
    fn block_rows(&self) -> u32 {
        let narrowest = u64::from(self.plan.shape().n()) * u64::from(TILE);
        let fits = u32::try_from(self.pace.piece() / narrowest).unwrap_or(u32::MAX);
        fits.max(OPENED).min(self.block.most_rows)
    }

    /// Sums of all layers of some rows, at most a block.
    fn multiply(&self, rows: &[u32], line: &mut Line<'_>) -> Result<Ended, GpuError> {
        let (shape, count) = (self.plan.shape(), rows.len() as u32);
        let (n, all) = (shape.n(), shape.n() * shape.layers());
        let (width, key) = (n / 4, words(self.plan.rows_key()));
        let Block { rows: numbers, x, sums, .. } = &self.block;
        self.device.write(numbers, rows);
        let mut work = self.device.encoder();
        expand(&self.device, &self.kernels, &mut work, &key, [width, count], &[numbers, x]);
        let fits = u32::try_from(self.pace.piece() / (u64::from(n) * u64::from(count.max(1)))).unwrap_or(u32::MAX);
        let most = (fits / TILE).max(1).saturating_mul(TILE);
        for layer in 0..shape.layers() {
            if layer > 0 {
                let ask: Ask = [width, count, all, (layer - 1) * n, 0, 0, 0, 0];
                self.device.run(&mut work, &self.kernels.next, &key, ask, &[sums, x], [width.div_ceil(GROUP), count]);
            }
            for piece in &self.matrix {
                for first in (0..piece.columns).step_by(most as usize) {
                    let columns = most.min(piece.columns - first);
                    let ask: Ask = [width, count, piece.columns, first, columns, all, layer * n + piece.first, 0];
                    let groups = [columns.div_ceil(TILE), count.div_ceil(TILE)];
                    self.device.run(&mut work, &self.kernels.multiply, &key, ask, &[x, &piece.words, sums], groups);
                    if line.send(std::mem::replace(&mut work, self.device.encoder()))? == Ended::CalledOff {
                        return Ok(Ended::CalledOff);
                    }
                }
            }
        }
        Ok(Ended::Done)
    }

    /// Leaves of the block's rows, put behind `done` others.
    fn hash(&self, count: u32, done: u32) -> wgpu::CommandEncoder {
        let shape = self.plan.shape();
        let (all, chunks) = (shape.n() * shape.layers(), chunks(shape));
        let key = words(self.plan.leaves_key());
        let Block { rows, sums, values, leaves, .. } = &self.block;
        let mut work = self.device.encoder();
        let ask: Ask = [all, count, chunks, 0, 0, 0, 0, 0];
        self.device.run(&mut work, &self.kernels.chunks, &key, ask, &[rows, sums, values], [chunks.div_ceil(GROUP), count]);
        let ask: Ask = [count, chunks, done, 0, 0, 0, 0, 0];
        self.device.run(&mut work, &self.kernels.merge, &key, ask, &[values, leaves], [count.div_ceil(GROUP), 1]);
        work
    }
}

impl Block {
    fn new(device: &Device, shape: Shape, most_bytes: u64) -> Self {
        let fits = u32::try_from(most_bytes / row_bytes(shape)).unwrap_or(u32::MAX);
        let most_rows = fits.min(BLOCK_ROWS).min(shape.rows()).max(OPENED);
        let rows = u64::from(most_rows);
        Self {
            most_rows,
            rows: device.buffer(rows * 4),
            x: device.buffer(rows * u64::from(shape.n())),
            sums: device.buffer(rows * row_bytes(shape)),
            values: device.buffer(rows * u64::from(chunks(shape)) * LEAF),
            leaves: device.buffer(u64::from(shape.rows().min(LEAVES)) * LEAF),
        }
    }
}

fn row_bytes(shape: Shape) -> u64 {
    4 * u64::from(shape.n()) * u64::from(shape.layers())
}

fn chunks(shape: Shape) -> u32 {
    u32::try_from((row_bytes(shape) + PREFIX).div_ceil(CHUNK)).unwrap_or(u32::MAX)
}

/// Rows of a key's stream, `[words of a row, rows]`.
fn expand(
    device: &Device,
    kernels: &Kernels,
    work: &mut wgpu::CommandEncoder,
    key: &[u32; 8],
    [width, rows]: [u32; 2],
    buffers: &[&Buffer],
) {
    // A row that does not begin with a block touches one more.
    let blocks = width.div_ceil(16) + u32::from(!width.is_multiple_of(16));
    device.run(work, &kernels.expand, key, [width, rows, blocks, 0, 0, 0, 0, 0], buffers, [blocks.div_ceil(GROUP), rows]);
}

/// The round's matrix on the card.
fn matrix(device: &Device, kernels: &Kernels, most_bytes: u64, n: u32, key: &[u8; 32]) -> Result<Vec<Piece>, GpuError> {
    let key = words(key);
    // Whole columns, in fours.
    let most = u32::try_from(most_bytes / u64::from(n)).unwrap_or(u32::MAX).min(n) / 4 * 4;
    let pieces: Vec<Piece> = (0..n)
        .step_by(most.max(4) as usize)
        .map(|first| {
            let columns = most.max(4).min(n - first);
            Piece { first, columns, words: device.buffer(u64::from(columns) * u64::from(n)) }
        })
        .collect();
    let width = n / 4;
    let strip_rows = u32::try_from(STRIP_BYTES / u64::from(n)).unwrap_or(u32::MAX).min(n) / 4 * 4;
    let (numbers, strip) = (device.buffer(u64::from(strip_rows) * 4), device.buffer(u64::from(strip_rows) * u64::from(n)));
    let mut always = || true;
    let mut line = Line::new(device, &mut always);
    for first in (0..n).step_by(strip_rows as usize) {
        let rows: Vec<u32> = (first..n.min(first + strip_rows)).collect();
        let count = rows.len() as u32;
        device.write(&numbers, &rows);
        let mut work = device.encoder();
        expand(device, kernels, &mut work, &key, [width, count], &[&numbers, &strip]);
        for piece in &pieces {
            let columns = piece.columns / 4;
            let ask: Ask = [width, piece.first / 4, columns, count / 4, first / 4, 0, 0, 0];
            device.run(&mut work, &kernels.pack, &key, ask, &[&strip, &piece.words], [columns.div_ceil(GROUP), count / 4]);
        }
        // Nobody calls it off.
        let _ = line.send(work)?;
    }
    line.finish()?;
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;
    use pasture_types::NodeId;
    use pasture_types::proof::ResourceClass;

    /// Buffers so small that the matrix is in pieces and the rows in blocks, against the processor's prover.
    #[test]
    fn no_cut_changes_a_bit() {
        let adapters = crate::adapters().expect("scripts/setup.sh installs an adapter in software");
        let device = adapters.iter().find(|a| a.kind() == Kind::Software).unwrap().open().unwrap();
        let challenge =
            Challenge { randomness: [1; 32], node: NodeId([2; 32]), class: ResourceClass::Gpu, device: 0, epoch: 7, nonces: [4; 32] };
        let round = Round { randomness: [1; 32], epoch: 7 };
        let shape = Shape::new(200, 2, 170).unwrap();
        let expected = pasture_proofs::gemm::Prover::new(shape, &round, &challenge).all_leaves();
        for (most_bytes, pieces) in [(128 << 20, 1), (12_000, 4), (800, 50)] {
            let mut prover = Prover::cut(&device, most_bytes, shape, &round, &challenge).unwrap();
            assert_eq!(prover.matrix.len(), pieces);
            assert_eq!(prover.all_leaves(&mut || true).unwrap().as_ref(), Some(&expected), "{most_bytes}");
        }
    }

    #[test]
    fn a_block_fits_what_the_adapter_binds() {
        let largest = Shape::new(16_384, 16, 1 << 20).unwrap();
        assert_eq!((row_bytes(largest), chunks(largest)), (1 << 20, 1_025));
        assert!(u64::from(OPENED) * row_bytes(largest) <= 128 << 20, "what is opened is one block");
    }
}
