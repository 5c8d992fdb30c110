//! A row that was committed to and is not the product: found by who had it opened, shown to who does not want to multiply.
//! Spec: `docs/specs/gemm.md` §6.
//!
//! Guarantees: [`WrongEntry::holds`] is true only of rows whose sums lie under the root in a leaf of their own, and of an entry of them
//! that is not the one sum it must be: no honest prover can be shown to have one, whatever beacon or opening there was. It
//! costs one entry: n bytes of the row, n entries of one column. [`find`] costs as much as computing the opened rows.

use super::next;
use super::prove::{row_bytes, seed};
use super::shape::{OPENED, Round, Shape};
use crate::challenge::pick;
use crate::merkle::{Digest, Tree};
use crate::{Beacon, Challenge};

/// A wrong entry of a committed row.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WrongEntry {
    /// Which row.
    pub row: u32,
    /// Which layer.
    pub layer: u32,
    /// Which column.
    pub column: u32,
    /// The row's sums, layer by layer, as they were committed to.
    pub sums: Vec<u8>,
    /// The hashes that lead from its leaf to the root.
    pub path: Vec<[u8; 32]>,
}

/// The row that a layer multiplies, as bytes of int8: the node's own, or the middle bits of the layer before.
fn input(seed: &[u8; 32], row: u32, layer: u32, n: usize, sums: &[u8]) -> Option<Vec<u8>> {
    let mut x = vec![0; n];
    let Some(before) = (layer as usize).checked_sub(1) else {
        row_bytes(seed, row, &mut x);
        return Some(x);
    };
    let before = sums.get(before * 4 * n..(before + 1) * 4 * n)?;
    x.iter_mut().zip(before.as_chunks().0).for_each(|(to, sum)| *to = next(i32::from_le_bytes(*sum)) as u8);
    Some(x)
}

const fn product(x: u8, b: u8) -> i32 {
    (x as i8 as i32) * (b as i8 as i32)
}

impl WrongEntry {
    /// Whether the row lies under the root and the entry is not what it must be.
    #[must_use]
    pub fn holds(&self, shape: Shape, round: &Round, challenge: &Challenge, root: &[u8; 32]) -> bool {
        self.is_wrong(shape, round, challenge, root).unwrap_or(false)
    }

    fn is_wrong(&self, shape: Shape, round: &Round, challenge: &Challenge, root: &[u8; 32]) -> Option<bool> {
        let n = shape.n() as usize;
        let within = self.row < shape.rows() && self.layer < shape.layers() && self.column < shape.n();
        if !within || self.sums.len() != 4 * n * shape.layers() as usize {
            return None;
        }
        let seed = seed(shape, challenge);
        let tree = Tree::new(&seed, shape.rows());
        let leaf: Digest = *tree.leaf(self.row).update(&self.sums).finalize().as_bytes();
        if tree.lead(vec![(self.row, leaf)], &self.path.concat())? != *root {
            return None;
        }
        let x = input(&seed, self.row, self.layer, n, &self.sums)?;
        let (mut matrix, mut right, mut entry) = (round.matrix(shape.n()), 0i32, [0; 1]);
        for (k, x) in (0u64..).zip(&x) {
            matrix.set_position(k * u64::from(shape.n()) + u64::from(self.column));
            matrix.fill(&mut entry);
            let [b] = entry;
            right += product(*x, b);
        }
        let at = (self.layer as usize * n + self.column as usize) * 4;
        let said: [u8; 4] = self.sums.get(at..at + 4)?.try_into().ok()?;
        Some(i32::from_le_bytes(said) != right)
    }
}

/// The first wrong entry that a proof opens, if the proof leads to its root at all: one that does not, or that comes not, proves
/// nothing against anybody.
#[must_use]
pub fn find(shape: Shape, round: &Round, challenge: &Challenge, root: &[u8; 32], beacon: Beacon, proof: &[u8]) -> Option<WrongEntry> {
    let (rows, path) = proof.split_at_checked(usize::try_from(shape.opened_bytes()).ok()?)?;
    let n = shape.n() as usize;
    let seed = seed(shape, challenge);
    let tree = Tree::new(&seed, shape.rows());
    let places = pick(&seed, root, beacon, shape.rows(), OPENED);
    let opened = || places.iter().copied().zip(rows.chunks_exact(4 * n * shape.layers() as usize));
    let leaves: Vec<(u32, Digest)> = opened().map(|(row, sums)| (row, *tree.leaf(row).update(sums).finalize().as_bytes())).collect();
    if tree.lead(leaves.clone(), path)? != *root {
        return None;
    }
    for (row, sums) in opened() {
        for (layer, said) in (0..).zip(sums.chunks_exact(4 * n)) {
            let x = input(&seed, row, layer, n, sums)?;
            let Some(column) = differs(&x, round, shape.n(), said) else { continue };
            let path = tree.single(leaves, path, row)?;
            return Some(WrongEntry { row, layer, column, sums: sums.to_vec(), path });
        }
    }
    None
}

/// The first column in which `x B` is not what was said.
fn differs(x: &[u8], round: &Round, n: u32, said: &[u8]) -> Option<u32> {
    let (mut sums, mut b, mut matrix) = (vec![0i32; n as usize], vec![0u8; n as usize], round.matrix(n));
    for x in x {
        matrix.fill(&mut b);
        sums.iter_mut().zip(&b).for_each(|(sum, b)| *sum += product(*x, *b));
    }
    (0..).zip(sums.iter().zip(said.as_chunks().0)).find(|(_, (right, said))| **right != i32::from_le_bytes(**said)).map(|(at, _)| at)
}
