//! The authenticated store's proofs: from a record up to the state root. Rules: `docs/specs/light.md` §4.
//!
//! The store is a log of operations under a Merkle mountain range, with a bitmap that marks the operations in force grafted onto
//! it, a chunk of the bitmap at each subtree of 256 operations. An update names its key, its value and the next key in order:
//! so one operation in force shows a value, and also that nothing lies between two keys.
//!
//! Guarantees: everything in a proof is hashed into the root or compared with something that is; there is one accepted
//! encoding. The rules are those of commonware's `qmdb::current::ordered` over an MMR, which `chain`'s tests compare with
//! this code. Proofs of absence from an empty store are refused: a zone's state is never empty.

use crate::codec::{Cursor, put_varint};
use crate::error::LightError;
use sha2::{Digest as _, Sha256};

/// Bytes of a bitmap chunk.
const CHUNK: usize = 32;
/// Operations that a chunk covers, and the height of their subtree.
const CHUNK_BITS: u64 = 256;
const GRAFT_HEIGHT: u32 = 8;
/// Largest number of operations in a log.
const MAX_OPERATIONS: u64 = 1 << 62;
/// Most digests in a proof: a path of 62, and as many peaks.
const MAX_DIGESTS: usize = 128;
const UPDATE: u8 = 0xd2;
const BETWEEN: u8 = 0;
const KEY_DOMAIN: &[u8] = b"pasture 2026-11 state key v1";
/// Which tree, and how its peaks are folded: a mountain range, from the back.
const ROOT_DOMAIN: [u8; 2] = [0, 1];
const PART: &str = "store proof";

type Hash = [u8; 32];

fn hash(parts: &[&[u8]]) -> Hash {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().into()
}

/// Where a key lives in the store.
fn store_key(key: &[u8]) -> Hash {
    hash(&[KEY_DOMAIN, key])
}

/// An update as the log holds it.
fn update(hashed: &Hash, stored: &[u8], next: &Hash) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + 32 + 5 + stored.len() + 32);
    out.push(UPDATE);
    out.extend_from_slice(hashed);
    put_varint(stored.len() as u64, &mut out);
    out.extend_from_slice(stored);
    out.extend_from_slice(next);
    out
}

/// The state root that a proof leads to, if `key` has this value, or none, in that state.
pub(crate) fn root(key: &[u8], value: Option<&[u8]>, proof: &[u8], max_value: usize) -> Result<Hash, LightError> {
    let mut cursor = Cursor::new(PART, proof);
    let hashed = store_key(key);
    match value {
        Some(value) => {
            let path = Path::read(&mut cursor)?;
            let next: Hash = cursor.array()?;
            cursor.end()?;
            let mut stored = Vec::with_capacity(4 + key.len() + value.len());
            stored.extend_from_slice(&u32::try_from(key.len()).unwrap_or(u32::MAX).to_be_bytes());
            stored.extend_from_slice(key);
            stored.extend_from_slice(value);
            path.root(&update(&hashed, &stored, &next))
        }
        None => {
            if cursor.u8()? != BETWEEN {
                return Err(cursor.wrong("it shows absence in a way that a network's state never needs"));
            }
            let path = Path::read(&mut cursor)?;
            let before: Hash = cursor.array()?;
            let length = cursor.count(max_value)?;
            let stored = cursor.take(length)?;
            let next: Hash = cursor.array()?;
            cursor.end()?;
            if !between(&before, &next, &hashed) {
                return Err(LightError::NotBetween);
            }
            path.root(&update(&before, stored, &next))
        }
    }
}

/// Whether a key lies after one key and before the next; the last key's next is the first.
fn between(before: &Hash, next: &Hash, key: &Hash) -> bool {
    if before < next { before < key && key < next } else { before < key || (key < next && key != before) }
}

/// The way from an operation to the root.
struct Path {
    /// The operation's place in the log.
    place: u64,
    /// The chunk of the bitmap that its bit is in.
    chunk: [u8; CHUNK],
    /// Operations in the log.
    operations: u64,
    /// Peaks at the front that are folded separately.
    inactive: usize,
    digests: Vec<Hash>,
    /// Hash of the bitmap's last chunk, if that is not full.
    partial: Option<Hash>,
    /// Root of the log without the bitmap.
    log_root: Hash,
}

/// A perfect subtree: its height and the first operation below it.
#[derive(Clone, Copy)]
struct Subtree {
    height: u32,
    first: u64,
}

impl Subtree {
    const fn end(self) -> u64 {
        self.first + (1 << self.height)
    }
    /// The number of its root among all nodes in the order in which they are made. Numbers are below `2^63`.
    const fn position(self) -> u64 {
        2 * self.first - self.first.count_ones() as u64 + (1 << (self.height + 1)) - 2
    }
    const fn children(self) -> Option<(Self, Self)> {
        match self.height.checked_sub(1) {
            Some(height) => Some((Self { height, first: self.first }, Self { height, first: self.first + (1 << height) })),
            None => None,
        }
    }
}

/// The perfect subtrees that a log of so many operations consists of, largest first.
fn peaks(operations: u64) -> Vec<Subtree> {
    let mut first = 0;
    let heights = (0..u64::BITS).rev().filter(|height| operations >> height & 1 == 1);
    heights
        .map(|height| {
            let peak = Subtree { height, first };
            first += 1 << height;
            peak
        })
        .collect()
}

/// Digests that are still to be used, in order.
struct Digests<'a>(std::slice::Iter<'a, Hash>);

impl Digests<'_> {
    fn next(&mut self) -> Result<Hash, LightError> {
        self.0.next().copied().ok_or(LightError::Path("a digest is missing"))
    }
    fn some(&mut self, count: usize) -> Result<Vec<Hash>, LightError> {
        (0..count).map(|_| self.next()).collect()
    }
}

impl Path {
    fn read(cursor: &mut Cursor<'_>) -> Result<Self, LightError> {
        let place = cursor.varint()?;
        let chunk = cursor.array()?;
        let operations = cursor.varint()?;
        let inactive = usize::try_from(cursor.varint()?).unwrap_or(usize::MAX);
        let count = cursor.count(MAX_DIGESTS)?;
        let mut digests = Vec::with_capacity(count);
        for _ in 0..count {
            digests.push(cursor.array()?);
        }
        let partial = if cursor.flag()? { Some(cursor.array()?) } else { None };
        let log_root = cursor.array()?;
        Ok(Self { place, chunk, operations, inactive, digests, partial, log_root })
    }

    fn in_force(&self) -> bool {
        let bit = (self.place % CHUNK_BITS) as usize;
        self.chunk.get(bit / 8).is_some_and(|byte| byte >> (bit % 8) & 1 == 1)
    }

    /// The root that this path leads to from an operation.
    fn root(&self, operation: &[u8]) -> Result<Hash, LightError> {
        if self.operations > MAX_OPERATIONS || self.place >= self.operations {
            return Err(LightError::Path("the record lies outside the log"));
        }
        if !self.in_force() {
            return Err(LightError::Inactive);
        }
        let tree = self.tree_root(operation)?;
        let full_chunks = self.operations / CHUNK_BITS;
        match (self.operations % CHUNK_BITS, &self.partial) {
            (0, None) => Ok(hash(&[&self.log_root, &tree])),
            (next_bit, Some(partial)) if next_bit != 0 => {
                if self.place / CHUNK_BITS == full_chunks && *partial != hash(&[&self.chunk]) {
                    return Err(LightError::Path("the bitmap's last chunk is another one"));
                }
                Ok(hash(&[&self.log_root, &tree, &next_bit.to_be_bytes(), partial]))
            }
            _ => Err(LightError::Path("the bitmap's last chunk is given although it is full, or missing")),
        }
    }

    /// Root of the mountain range with the bitmap grafted onto it.
    fn tree_root(&self, operation: &[u8]) -> Result<Hash, LightError> {
        let all = peaks(self.operations);
        let before = all.iter().filter(|peak| peak.end() <= self.place).count();
        let ours = all.get(before).copied().ok_or(LightError::Path("the record lies outside the log"))?;
        let after = all.len() - before - 1;
        if self.inactive > all.len() {
            return Err(LightError::Path("more peaks are set apart than there are"));
        }
        // In this order: the peaks before ours that are set apart, folded into one; those that are not; those after ours that
        // are set apart; the others after ours, folded into one; then the siblings on our way up.
        let folded = self.inactive.min(before);
        let apart = self.inactive.saturating_sub(before + 1).min(after);
        let mut digests = Digests(self.digests.iter());
        let mut folds = digests.some(usize::from(folded > 0))?;
        folds.extend(digests.some(before - folded)?);
        let mut later = digests.some(apart)?;
        later.extend(digests.some(usize::from(after > apart))?);
        folds.push(self.climb(ours, operation, &mut digests)?);
        folds.extend(later);
        if digests.0.next().is_some() {
            return Err(LightError::Path("there are more digests than the path has"));
        }
        // What was folded already counts as one.
        let to_fold = if folded > 0 { self.inactive - folded + 1 } else { self.inactive };
        let bag = fold(&folds, to_fold).ok_or(LightError::Path("more peaks are set apart than there are"))?;
        let operations = self.operations.to_be_bytes();
        Ok(match self.inactive {
            0 => hash(&[&ROOT_DOMAIN, &operations, &bag]),
            apart => hash(&[&ROOT_DOMAIN, &operations, &(apart as u64).to_be_bytes(), &bag]),
        })
    }

    /// Digest of a subtree that the operation is in. As deep as the tree: at most 62.
    fn climb(&self, tree: Subtree, operation: &[u8], digests: &mut Digests<'_>) -> Result<Hash, LightError> {
        let position = tree.position().to_be_bytes();
        let Some((left, right)) = tree.children() else { return Ok(hash(&[&position, operation])) };
        let (left, right) = if self.place < right.first {
            (self.climb(left, operation, digests)?, digests.next()?)
        } else {
            (digests.next()?, self.climb(right, operation, digests)?)
        };
        let node = hash(&[&position, &left, &right]);
        // The chunk is not all zeros: our own bit is set.
        Ok(if tree.height == GRAFT_HEIGHT { hash(&[&self.chunk, &node]) } else { node })
    }
}

/// The first `front` from the front, the rest from the back, then both.
fn fold(peaks: &[Hash], front: usize) -> Option<Hash> {
    let (first, rest) = peaks.split_first()?;
    let (set_apart, rest) = rest.split_at_checked(front.saturating_sub(1))?;
    let bag = set_apart.iter().fold(*first, |bag, peak| hash(&[&bag, peak]));
    let back = rest.iter().rev().copied().reduce(|bag, peak| hash(&[&peak, &bag]));
    Some(back.map_or(bag, |back| hash(&[&bag, &back])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_numbered_as_they_are_made() {
        // The tree of 11 operations, as the engine's documentation draws it.
        let found: Vec<(u32, u64)> = peaks(11).into_iter().map(|p| (p.height, p.position())).collect();
        assert_eq!(found, [(3, 14), (1, 17), (0, 18)]);
        let (left, right) = peaks(8).first().unwrap().children().unwrap();
        assert_eq!((left.position(), right.position()), (6, 13));
        assert_eq!(peaks(MAX_OPERATIONS).first().unwrap().position(), i64::MAX as u64 - 1);
    }

    #[test]
    fn the_last_key_goes_round_to_the_first() {
        let k = |b: u8| [b; 32];
        assert!(
            between(&k(2), &k(6), &k(4)) && !between(&k(2), &k(6), &k(2)) && !between(&k(2), &k(6), &k(6)) && !between(&k(2), &k(6), &k(7))
        );
        assert!(
            between(&k(6), &k(2), &k(7)) && between(&k(6), &k(2), &k(1)) && !between(&k(6), &k(2), &k(2)) && !between(&k(6), &k(2), &k(6))
        );
        assert!(between(&k(3), &k(3), &k(9)) && between(&k(3), &k(3), &k(1)) && !between(&k(3), &k(3), &k(3)));
    }
}
