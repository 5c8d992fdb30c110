//! The commitment to what a prover computed: a tree of keyed BLAKE3 over numbered leaves, opened at many places at once.
//! Spec: `docs/specs/gemm.md` §3.
//!
//! Guarantees: each hash says at which level and place it stands, under a key made of the proof's seed and the number of
//! leaves, so that no leaf, node or opening is good anywhere else. An opening has one encoding: what can be computed is not in it.

use pasture_types::ids::derive;

/// A hash.
pub(crate) type Digest = [u8; 32];
/// Bytes of one.
pub(crate) const DIGEST: usize = 32;
const TREE_DOMAIN: &str = "pasture 2026-11 proof tree v1";

/// The shape and key of a tree.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    key: [u8; 32],
    leaves: u32,
}

impl Tree {
    pub(crate) fn new(seed: &[u8; 32], leaves: u32) -> Self {
        Self { key: derive(TREE_DOMAIN, &[seed, &leaves.to_le_bytes()]), leaves }
    }

    /// Under which all its hashes are made.
    pub(crate) const fn key(&self) -> &[u8; 32] {
        &self.key
    }

    /// Begins the hash of a leaf; its content follows.
    pub(crate) fn leaf(&self, index: u32) -> blake3::Hasher {
        self.begin(0, index)
    }

    fn begin(&self, level: u8, index: u32) -> blake3::Hasher {
        let [a, b, c, d] = index.to_le_bytes();
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(&[level, a, b, c, d]);
        hasher
    }

    fn node(&self, level: u8, index: u32, left: &Digest, right: &Digest) -> Digest {
        let [a, b, c, d] = index.to_le_bytes();
        let mut input = [0; 5 + 2 * DIGEST];
        let (place, children) = input.split_at_mut(5);
        place.copy_from_slice(&[level, a, b, c, d]);
        let (first, second) = children.split_at_mut(DIGEST);
        first.copy_from_slice(left);
        second.copy_from_slice(right);
        *blake3::keyed_hash(&self.key, &input).as_bytes()
    }

    /// The nodes above some nodes of a level; one without a neighbour goes up as it is.
    fn above(&self, level: u8, below: &[Digest]) -> Vec<Digest> {
        let pair = |(index, pair): (usize, &[Digest])| match pair {
            [left, right] => self.node(level, u32::try_from(index).unwrap_or(u32::MAX), left, right),
            rest => rest.first().copied().unwrap_or_default(),
        };
        below.chunks(2).enumerate().map(pair).collect()
    }

    /// The root over all leaves.
    pub(crate) fn root(&self, leaves: &[Digest]) -> Digest {
        let (mut nodes, mut level) = (leaves.to_vec(), 0);
        while nodes.len() > 1 {
            level += 1;
            nodes = self.above(level, &nodes);
        }
        nodes.first().copied().unwrap_or_default()
    }

    /// The hashes that lead from the leaves at `places` (ascending) to the root, level by level, left to right.
    pub(crate) fn open(&self, leaves: &[Digest], places: &[u32]) -> Vec<Digest> {
        let (mut nodes, mut level, mut path) = (leaves.to_vec(), 0, Vec::new());
        let mut known = places.to_vec();
        while nodes.len() > 1 {
            let beside = known.iter().map(|place| place ^ 1).filter(|place| known.binary_search(place).is_err());
            path.extend(beside.filter_map(|place| nodes.get(place as usize)));
            level += 1;
            nodes = self.above(level, &nodes);
            known.iter_mut().for_each(|place| *place /= 2);
            known.dedup();
        }
        path
    }

    /// The root that leaves at their places (ascending) and a path lead to; `None` if the path is not exactly as long as it must be.
    pub(crate) fn lead(&self, leaves: Vec<(u32, Digest)>, path: &[u8]) -> Option<Digest> {
        let (mut known, mut level, mut width) = (leaves, 0, self.leaves);
        let (path, rest) = path.as_chunks::<DIGEST>();
        let mut path = path.iter();
        while width > 1 {
            level += 1;
            let mut above: Vec<(u32, Digest)> = Vec::with_capacity(known.len());
            let mut below = known.into_iter().peekable();
            while let Some((place, digest)) = below.next() {
                let digest = if place % 2 == 1 {
                    self.node(level, place / 2, path.next()?, &digest)
                } else if let Some((_, right)) = below.next_if(|(next, _)| *next == place + 1) {
                    self.node(level, place / 2, &digest, &right)
                } else if place + 1 < width {
                    self.node(level, place / 2, &digest, path.next()?)
                } else {
                    digest
                };
                above.push((place / 2, digest));
            }
            known = above;
            width = width.div_ceil(2);
        }
        let [(_, root)] = known.as_slice() else { return None };
        (rest.is_empty() && path.next().is_none()).then_some(*root)
    }

    /// The path of one of the leaves that another opening opened, made from that opening; `None` if it is none of them.
    pub(crate) fn single(&self, leaves: Vec<(u32, Digest)>, path: &[u8], place: u32) -> Option<Vec<Digest>> {
        let (mut known, mut level, mut width, mut at) = (leaves, 0, self.leaves, place);
        known.binary_search_by_key(&place, |(place, _)| *place).ok()?;
        let mut path = path.as_chunks::<DIGEST>().0.iter();
        let mut out = Vec::new();
        while width > 1 {
            level += 1;
            // With what the path brings, every known node of this level has its neighbour beside it.
            let mut whole: Vec<(u32, Digest)> = Vec::with_capacity(2 * known.len());
            let mut below = known.iter().peekable();
            while let Some((place, digest)) = below.next() {
                if place % 2 == 1 {
                    whole.push((place - 1, *path.next()?));
                    whole.push((*place, *digest));
                } else {
                    whole.push((*place, *digest));
                    if let Some(right) = below.next_if(|(next, _)| *next == place + 1) {
                        whole.push(*right);
                    } else if place + 1 < width {
                        whole.push((place + 1, *path.next()?));
                    }
                }
            }
            out.extend(whole.iter().find(|(place, _)| *place == at ^ 1).map(|(_, digest)| *digest));
            known = whole
                .chunk_by(|(a, _), (b, _)| a / 2 == b / 2)
                .filter_map(|pair| match pair {
                    [(place, left), (_, right)] => Some((place / 2, self.node(level, place / 2, left, right))),
                    [(place, alone)] => Some((place / 2, *alone)),
                    _ => None,
                })
                .collect();
            (width, at) = (width.div_ceil(2), at / 2);
        }
        Some(out)
    }

    /// The most hashes that open `places` leaves: each level has at most so many, and at most half its nodes.
    pub(crate) fn longest_path(leaves: u32, places: u32) -> u64 {
        let (mut width, mut hashes) = (u64::from(leaves), 0);
        while width > 1 {
            hashes += u64::from(places).min(width / 2);
            width = width.div_ceil(2);
        }
        hashes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn leaves(tree: &Tree, count: u32) -> Vec<Digest> {
        (0..count).map(|n| *tree.leaf(n).update(&n.to_le_bytes()).finalize().as_bytes()).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn what_is_opened_leads_to_the_root_and_nothing_else_does(
            count in 2u32..300, wanted in prop::collection::btree_set(any::<u32>(), 1..40), flip in any::<prop::sample::Index>(), bit in 0u8..8,
        ) {
            let tree = Tree::new(&[7; 32], count);
            let all = leaves(&tree, count);
            let root = tree.root(&all);
            let places: Vec<u32> = wanted.iter().map(|w| w % count).collect::<BTreeSet<_>>().into_iter().collect();
            let path = tree.open(&all, &places);
            prop_assert!(path.len() as u64 <= Tree::longest_path(count, u32::try_from(places.len()).unwrap()));
            let bytes = path.concat();
            let opened: Vec<(u32, Digest)> = places.iter().map(|p| (*p, all[*p as usize])).collect();
            prop_assert_eq!(tree.lead(opened.clone(), &bytes), Some(root));
            prop_assert_eq!(tree.lead(opened.clone(), &[bytes.as_slice(), &[0]].concat()), None);
            prop_assert_eq!(tree.lead(opened.clone(), &[bytes.as_slice(), &[0; 32]].concat()), None);
            if !bytes.is_empty() {
                prop_assert_eq!(tree.lead(opened.clone(), &bytes[1..]), None);
                prop_assert_eq!(tree.lead(opened.clone(), &bytes[32..]), None);
                let mut changed = bytes.clone();
                changed[flip.index(bytes.len())] ^= 1 << bit;
                prop_assert_ne!(tree.lead(opened.clone(), &changed), Some(root));
            }
            let mut other = opened.clone();
            other[0].1[usize::from(bit)] ^= 1;
            prop_assert_ne!(tree.lead(other, &bytes), Some(root));
            for place in &places {
                let single = tree.single(opened.clone(), &bytes, *place).unwrap();
                prop_assert_eq!(&single, &tree.open(&all, &[*place]));
            }
            prop_assert_ne!(Tree::new(&[8; 32], count).lead(opened, &bytes), Some(root));
        }
    }

    #[test]
    fn a_tree_says_how_many_leaves_it_has() {
        let (three, four) = (Tree::new(&[7; 32], 3), Tree::new(&[7; 32], 4));
        assert_ne!(three.root(&leaves(&three, 3)), four.root(&leaves(&three, 3)));
    }
}
