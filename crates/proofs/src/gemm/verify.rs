//! The verifier: Freivalds' test of each opened row in F_p, p = 2^31 - 1, a range check, and the leaf.
//!
//! Guarantees: exact integers, no allocation but the test vectors and one row; the time is that of the shape whatever the bytes
//! are. What is known of a round ([`Check`]) serves all its proofs of that width.

use super::next;
use super::prove::{row_bytes, seed};
use super::shape::{OPENED, Round, Shape};
use crate::challenge::pick;
use crate::merkle::{Digest, Tree};
use crate::{Beacon, Challenge};

/// The field: wide enough that two sums within the range differ in it, narrow enough for 64-bit products.
const P: u64 = (1 << 31) - 1;

/// Why a proof is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GemmError {
    /// The check was made for another width.
    #[error("the check is for products of width {0}")]
    Width(u32),
    /// Not as long as its shape and the drawn rows say.
    #[error("the proof has a wrong length")]
    Length,
    /// A sum that no product of int8 can have.
    #[error("row {0} holds a sum that no product can have")]
    Range(u32),
    /// Not the product.
    #[error("row {row} is not the product in layer {layer}")]
    Product {
        /// Which row.
        row: u32,
        /// Which layer.
        layer: u32,
    },
    /// Right, perhaps, but not what was committed to.
    #[error("the opened rows are not what was committed to")]
    Commitment,
}

/// What a verifier needs of a round: the test vector r and B r. Made once for all proofs of a width: n^2 multiply-adds.
#[derive(Clone, Debug)]
pub struct Check {
    n: u32,
    beacon: Beacon,
    r: Vec<u32>,
    /// B r mod p.
    v: Vec<u32>,
    sum_r: u64,
    sum_v: u64,
}

impl Check {
    /// The check of a round's products of a shape's width.
    #[must_use]
    pub fn new(shape: Shape, round: &Round, beacon: Beacon) -> Self {
        let n = shape.n() as usize;
        let mut stream = round.test_vector(shape.n(), beacon);
        let mut bytes = vec![0; 4 * n];
        stream.fill(&mut bytes);
        // 31 bits; p itself stands for zero, which so has twice the chance of another value.
        let r: Vec<u32> = bytes.as_chunks().0.iter().map(|b| u32::from_le_bytes(*b) >> 1).collect();
        let sum_r = r.iter().map(|r| u64::from(*r)).sum();
        let (mut row, mut matrix) = (vec![0; n], round.matrix(shape.n()));
        let v: Vec<u32> = (0..n)
            .map(|_| {
                matrix.fill(&mut row);
                small(shifted_dot(&row, &r), sum_r)
            })
            .collect();
        let sum_v = v.iter().map(|v| u64::from(*v)).sum();
        Self { n: shape.n(), beacon, r, v, sum_r, sum_v }
    }

    /// The width of the products that it checks.
    #[must_use]
    pub const fn n(&self) -> u32 {
        self.n
    }

    /// Checks a proof's bytes against the root that was fixed before the beacon.
    ///
    /// # Errors
    /// [`GemmError`] says what is wrong with it.
    pub fn verify(&self, shape: Shape, challenge: &Challenge, root: &[u8; 32], proof: &[u8]) -> Result<(), GemmError> {
        if shape.n() != self.n {
            return Err(GemmError::Width(self.n));
        }
        if proof.len() as u64 > shape.longest_proof() {
            return Err(GemmError::Length);
        }
        let opened = usize::try_from(shape.opened_bytes()).map_err(|_| GemmError::Length)?;
        let (rows, path) = proof.split_at_checked(opened).ok_or(GemmError::Length)?;
        let seed = seed(shape, challenge);
        let tree = Tree::new(&seed, shape.rows());
        let places = pick(&seed, root, self.beacon, shape.rows(), OPENED);
        let n = shape.n() as usize;
        let (mut x, mut sums) = (vec![0u8; n], vec![0u32; n]);
        let mut leaves: Vec<(u32, Digest)> = Vec::with_capacity(places.len());
        for (row, bytes) in places.iter().zip(rows.chunks_exact(4 * n * shape.layers() as usize)) {
            row_bytes(&seed, *row, &mut x);
            for (layer, bytes) in (0..).zip(bytes.chunks_exact(4 * n)) {
                self.product(*row, layer, &x, bytes, &mut sums)?;
                x.iter_mut().zip(bytes.as_chunks().0).for_each(|(to, sum)| *to = next(i32::from_le_bytes(*sum)) as u8);
            }
            leaves.push((*row, *tree.leaf(*row).update(bytes).finalize().as_bytes()));
        }
        match tree.lead(leaves, path) {
            None => Err(GemmError::Length),
            Some(led) if led != *root => Err(GemmError::Commitment),
            Some(_) => Ok(()),
        }
    }

    /// `c r = x (B r)`, with every sum within its range.
    fn product(&self, row: u32, layer: u32, x: &[u8], bytes: &[u8], sums: &mut [u32]) -> Result<(), GemmError> {
        // Sums moved up by n 2^14, so that those in range are 0 ..= n 2^15 and all products are unsigned.
        let most = self.n << 14;
        let mut largest = 0;
        for (to, sum) in sums.iter_mut().zip(bytes.as_chunks().0) {
            *to = u32::from_le_bytes(*sum).wrapping_add(most);
            largest = largest.max(*to);
        }
        if largest > 2 * most {
            return Err(GemmError::Range(row));
        }
        let left = dot(sums, &self.r) + (P - u64::from(most) * (self.sum_r % P) % P);
        let right = small(shifted_dot(x, &self.v), self.sum_v);
        if left % P == u64::from(right) { Ok(()) } else { Err(GemmError::Product { row, layer }) }
    }
}

/// `sum of c[j] r[j]` mod p, for c below 2^30: halves of 31 bits are summed apart, and 2^31 = 1 in the field.
fn dot(c: &[u32], r: &[u32]) -> u64 {
    let (mut low, mut high) = (0u64, 0u64);
    for (c, r) in c.iter().zip(r) {
        let product = u64::from(*c) * u64::from(*r);
        // Neither sum can wrap; said so that no check keeps the loop from becoming vectors.
        low = low.wrapping_add(product & P);
        high = high.wrapping_add(product >> 31);
    }
    (low % P + high % P) % P
}

/// `sum of (x[j] + 128) r[j]` for int8 as bytes: below 2^14 x 2^8 x 2^31.
fn shifted_dot(x: &[u8], r: &[u32]) -> u64 {
    x.iter().zip(r).map(|(x, r)| u64::from(x ^ 0x80) * u64::from(*r)).fold(0, u64::wrapping_add)
}

/// That less `128 x sum of r`, in the field.
fn small(shifted: u64, sum: u64) -> u32 {
    u32::try_from((shifted % P + P - 128 * (sum % P) % P) % P).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_fields_arithmetic_is_exact(x in prop::collection::vec(any::<i8>(), 64), c in prop::collection::vec(0u32..=1 << 29, 64), r in prop::collection::vec(0u32..=0x7fff_ffff, 64)) {
            let bytes: Vec<u8> = x.iter().map(|x| *x as u8).collect();
            let exact: i128 = x.iter().zip(&r).map(|(x, r)| i128::from(*x) * i128::from(*r)).sum();
            let sum = r.iter().map(|r| u64::from(*r)).sum();
            prop_assert_eq!(i128::from(small(shifted_dot(&bytes, &r), sum)), exact.rem_euclid(i128::from(P)));
            let exact: u128 = c.iter().zip(&r).map(|(c, r)| u128::from(*c) * u128::from(*r)).sum();
            prop_assert_eq!(u128::from(dot(&c, &r)), exact % u128::from(P));
        }
    }
}
