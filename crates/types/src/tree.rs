//! A state whose copy costs nothing: an ordered tree of shared nodes, one version for each block.
//!
//! ```text
//!  inner: (least key, node), (least key, node), ...      at most WIDTH each; all leaves at one depth
//!  leaf:  (key, value), (key, value), ...
//! ```
//! Guarantees: a [`Tree`] never changes; [`Tree::with`] copies the nodes on the way to what changed and shares the rest; a read, and the
//! beginning of a scan, look at one node of each level, however many entries there are. It holds no secrets of a store: see `chain`.

use crate::state::{Changes, StateRead};
use std::sync::Arc;

/// Most entries of a node: a write copies one node of each level, a read searches it.
const WIDTH: usize = 64;
/// Neighbours that have no more than this together become one.
const SMALL: usize = WIDTH / 2;

type Blob = Arc<[u8]>;
/// A change: a new value, or none.
type Edit<'a> = (&'a [u8], Option<&'a [u8]>);
/// A node with the least key that may be in it.
type Child = (Blob, Arc<Node>);

/// Things in the order of their keys. The beginnings of the keys stand close together: a search reads those, and a key only where
/// its beginning is that of another.
#[derive(Debug)]
struct Run<T> {
    heads: Box<[u64]>,
    items: Vec<(Blob, T)>,
}

#[derive(Debug)]
enum Node {
    Leaf(Run<Blob>),
    Inner(Run<Arc<Node>>),
}

/// The first eight bytes of a key, as a number that is ordered as they are.
fn head(key: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    bytes.iter_mut().zip(key).for_each(|(to, from)| *to = *from);
    u64::from_be_bytes(bytes)
}

impl<T> Run<T> {
    fn new(items: Vec<(Blob, T)>) -> Self {
        Self { heads: items.iter().map(|(key, _)| head(key)).collect(), items }
    }

    /// How many keys are less than this one, and whether the next is this one.
    fn find(&self, key: &[u8]) -> (usize, bool) {
        let wanted = head(key);
        let from = self.heads.partition_point(|h| *h < wanted);
        let same = self.heads.iter().skip(from).take_while(|h| **h == wanted).count();
        let alike = self.items.get(from..from + same).unwrap_or_default();
        let at = from + alike.partition_point(|(k, _)| **k < *key);
        (at, self.items.get(at).is_some_and(|(k, _)| at < from + same && **k == *key))
    }

    /// Where a key would be, if each item holds the keys from its own to the next one's.
    fn place(&self, key: &[u8]) -> usize {
        match self.find(key) {
            (at, true) => at,
            (at, false) => at.saturating_sub(1),
        }
    }
}

/// An immutable version of a state.
#[derive(Clone, Default, Debug)]
pub struct Tree {
    root: Option<Arc<Node>>,
    len: usize,
}

impl Node {
    fn len(&self) -> usize {
        match self {
            Self::Leaf(entries) => entries.items.len(),
            Self::Inner(children) => children.items.len(),
        }
    }

    fn get(&self, key: &[u8]) -> Option<&Blob> {
        match self {
            Self::Leaf(entries) => {
                let (at, found) = entries.find(key);
                entries.items.get(at).filter(|_| found).map(|(_, value)| value)
            }
            Self::Inner(children) => children.items.get(children.place(key)).and_then(|(_, child)| child.get(key)),
        }
    }

    /// Whether to go on. Counts the nodes that it looks at.
    fn scan(&self, start: &[u8], end: Option<&[u8]>, visit: &mut dyn FnMut(&Blob, &Blob) -> bool, looked: &mut usize) -> bool {
        *looked += 1;
        let before_end = |key: &[u8]| end.is_none_or(|end| key < end);
        match self {
            Self::Leaf(entries) => {
                let (from, _) = entries.find(start);
                entries.items.iter().skip(from).all(|(k, v)| before_end(k) && visit(k, v))
            }
            Self::Inner(children) => {
                let from = children.place(start);
                let mut some = children.items.iter().enumerate().skip(from);
                // The first one may begin before `start`, which is before `end`.
                some.all(|(at, (least, child))| (at == from || before_end(least)) && child.scan(start, end, visit, looked))
            }
        }
    }

    /// The nodes of the same level that take this one's place, and by how much there are more entries.
    fn with(&self, edits: &[Edit<'_>], more: &mut isize) -> Vec<Child> {
        match self {
            Self::Leaf(entries) => {
                let merged = merge(&entries.items, edits);
                *more += signed(merged.len()) - signed(entries.items.len());
                leaves(merged)
            }
            Self::Inner(children) => {
                let children = &children.items;
                let mut out: Vec<Child> = Vec::with_capacity(children.len() + 1);
                let mut rest = edits;
                let mut next = children.iter().skip(1).map(|(least, _)| Some(least)).chain([None]);
                for child in children {
                    let until = next.next().flatten();
                    let (own, others) = rest.split_at(until.map_or(rest.len(), |least| rest.partition_point(|(key, _)| *key < &**least)));
                    rest = others;
                    if own.is_empty() {
                        out.push(child.clone());
                    } else {
                        let (_, node) = child;
                        node.with(own, more).into_iter().for_each(|new| push(&mut out, new));
                    }
                }
                inners(out)
            }
        }
    }
}

fn signed(n: usize) -> isize {
    isize::try_from(n).unwrap_or(isize::MAX)
}

/// Adds a node behind others, into the last one if both are small.
fn push(out: &mut Vec<Child>, new: Child) {
    let joined = match out.last() {
        Some((least, last)) if last.len() + new.1.len() <= SMALL => match (&**last, &*new.1) {
            (Node::Leaf(a), Node::Leaf(b)) => Some((least.clone(), Arc::new(Node::Leaf(joined(a, b))))),
            (Node::Inner(a), Node::Inner(b)) => Some((least.clone(), Arc::new(Node::Inner(joined(a, b))))),
            // All nodes of a level are of one kind.
            _ => None,
        },
        _ => None,
    };
    match joined {
        Some(joined) => {
            out.pop();
            out.push(joined);
        }
        None => out.push(new),
    }
}

fn joined<T: Clone>(a: &Run<T>, b: &Run<T>) -> Run<T> {
    Run::new(a.items.iter().chain(&b.items).cloned().collect())
}

/// Two sorted lists as one; an edit replaces or removes what was there.
fn merge(entries: &[(Blob, Blob)], edits: &[Edit<'_>]) -> Vec<(Blob, Blob)> {
    let mut out = Vec::with_capacity(entries.len() + edits.len());
    let mut rest = entries;
    for (key, value) in edits {
        let (before, from) = rest.split_at(rest.partition_point(|(k, _)| **k < **key));
        out.extend_from_slice(before);
        let (old, behind) = match from.split_first() {
            Some((first, behind)) if *first.0 == **key => (Some(&first.0), behind),
            _ => (None, from),
        };
        rest = behind;
        if let Some(value) = value {
            out.push((old.cloned().unwrap_or_else(|| Blob::from(*key)), Blob::from(*value)));
        }
    }
    out.extend_from_slice(rest);
    out
}

/// Pieces of about equal length, none longer than [`WIDTH`].
fn pieces<T>(mut all: Vec<T>) -> Vec<Vec<T>> {
    let mut out = Vec::new();
    let count = all.len().div_ceil(WIDTH);
    for n in (1..count).rev() {
        // From the end, so that nothing is moved twice.
        out.push(all.split_off(all.len() * n / (n + 1)));
    }
    if !all.is_empty() {
        out.push(all);
    }
    out.reverse();
    out
}

fn leaves(entries: Vec<(Blob, Blob)>) -> Vec<Child> {
    pieces(entries).into_iter().filter_map(|some| Some((some.first()?.0.clone(), Arc::new(Node::Leaf(Run::new(some)))))).collect()
}

fn inners(children: Vec<Child>) -> Vec<Child> {
    pieces(children).into_iter().filter_map(|some| Some((some.first()?.0.clone(), Arc::new(Node::Inner(Run::new(some)))))).collect()
}

impl Tree {
    /// A state of these entries; of two with one key the later counts.
    #[must_use]
    pub fn from_entries<K: AsRef<[u8]>, V: AsRef<[u8]>>(entries: &[(K, V)]) -> Self {
        let mut edits: Vec<Edit<'_>> = entries.iter().map(|(k, v)| (k.as_ref(), Some(v.as_ref()))).collect();
        edits.sort_by_key(|(key, _)| *key);
        edits.reverse();
        // The sort is stable: of equal keys the last one stands first now.
        edits.dedup_by_key(|(key, _)| *key);
        edits.reverse();
        Self::default().edited(&edits)
    }

    /// This state with changes.
    #[must_use]
    pub fn with(&self, changes: &Changes) -> Self {
        let edits: Vec<Edit<'_>> = changes.iter().map(|(key, value)| (key.as_slice(), value.as_deref())).collect();
        if edits.is_empty() { self.clone() } else { self.edited(&edits) }
    }

    /// With changes in the order of their keys, each once.
    fn edited(&self, edits: &[Edit<'_>]) -> Self {
        let mut more = 0;
        let empty = Node::Leaf(Run::new(Vec::new()));
        let mut level = self.root.as_deref().unwrap_or(&empty).with(edits, &mut more);
        while level.len() > 1 {
            level = inners(level);
        }
        let mut root = level.pop().map(|(_, node)| node);
        // A root of one child is no level of its own.
        while let Some(Node::Inner(children)) = root.as_deref() {
            let [(_, only)] = children.items.as_slice() else { break };
            root = Some(Arc::clone(only));
        }
        Self { root, len: self.len.saturating_add_signed(more) }
    }

    /// Every entry in ascending order.
    pub fn each(&self, visit: &mut dyn FnMut(&[u8], &[u8])) {
        self.look(&[], None, &mut |key, value| {
            visit(key, value);
            true
        });
    }

    /// How many nodes a scan looked at.
    fn look(&self, start: &[u8], end: Option<&[u8]>, visit: &mut dyn FnMut(&Blob, &Blob) -> bool) -> usize {
        let mut looked = 0;
        if let Some(root) = &self.root {
            root.scan(start, end, visit, &mut looked);
        }
        looked
    }

    /// How many entries there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl StateRead for Tree {
    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.root.as_ref()?.get(key).map(|value| value.to_vec())
    }

    fn scan(&self, start: &[u8], end: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) {
        if start < end {
            self.look(start, Some(end), &mut |key, value| visit(key, value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::MemoryState;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn all(s: &dyn StateRead, start: &[u8], end: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut out = vec![];
        s.scan(start, end, &mut |k, v| {
            out.push((k.to_vec(), v.to_vec()));
            true
        });
        out
    }

    /// All leaves at one depth, nothing empty, nothing too wide, keys where they belong.
    fn sound(node: &Node) -> usize {
        assert!((1..=WIDTH).contains(&node.len()));
        match node {
            Node::Leaf(entries) => {
                assert!(entries.heads.iter().zip(&entries.items).all(|(h, (k, _))| *h == head(k)));
                assert!(entries.items.windows(2).all(|w| w[0].0 < w[1].0));
                1
            }
            Node::Inner(children) => {
                assert!(children.heads.len() == children.items.len());
                let children = &children.items;
                let depths: Vec<usize> = children.iter().map(|(_, child)| sound(child)).collect();
                assert!(depths.windows(2).all(|w| w[0] == w[1]) && children.windows(2).all(|w| w[0].0 < w[1].0));
                depths[0] + 1
            }
        }
    }

    fn same(tree: &Tree, model: &MemoryState) {
        assert_eq!(all(tree, &[], &[255; 9]), all(model, &[], &[255; 9]));
        assert_eq!((tree.len(), tree.is_empty()), (model.0.len(), model.0.is_empty()));
        tree.root.as_deref().map(sound);
    }

    fn number(n: u32) -> Vec<u8> {
        n.to_be_bytes().to_vec()
    }

    proptest! {
        #[test]
        fn it_is_a_map_and_older_versions_stay(
            rounds in proptest::collection::vec(
                proptest::collection::btree_map(0..2_000u32, proptest::option::weighted(0.6, 0..9u8), 0..400),
                1..12,
            ),
            from in 0..2_000u32,
            to in 0..2_000u32,
            stop in 1..50usize,
        ) {
            let (mut tree, mut model) = (Tree::default(), MemoryState::default());
            let mut older: Vec<(Tree, MemoryState)> = vec![];
            for round in rounds {
                older.push((tree.clone(), model.clone()));
                let changes: Changes = round.into_iter().map(|(k, v)| (number(k), v.map(|v| vec![v; usize::from(v)]))).collect();
                tree = tree.with(&changes);
                for (k, v) in changes {
                    match v {
                        Some(v) => model.0.insert(k, v),
                        None => model.0.remove(&k),
                    };
                }
                same(&tree, &model);
            }
            older.iter().for_each(|(tree, model)| same(tree, model));
            prop_assert_eq!(all(&tree, &number(from), &number(to)), all(&model, &number(from), &number(to)));
            prop_assert_eq!(tree.get(&number(from)), model.get(&number(from)));
            let mut some = vec![];
            tree.scan(&number(from), &[255; 9], &mut |k, _| { some.push(k.to_vec()); some.len() < stop });
            let expected: Vec<_> = all(&model, &number(from), &[255; 9]).into_iter().map(|(k, _)| k).take(stop).collect();
            prop_assert_eq!(some, expected);
        }
    }

    proptest! {
        /// Keys of all lengths, many with the same beginning, also where one is another with zeros behind it.
        #[test]
        fn keys_are_in_the_order_of_their_bytes(keys in proptest::collection::btree_set(
            (0..3usize, proptest::collection::vec(0..3u8, 0..4)).prop_map(|(long, tail)| [vec![7; long * 4], tail].concat()), 0..150,
        ), probe in (0..3usize, proptest::collection::vec(0..3u8, 0..4))) {
            let probe = [vec![7; probe.0 * 4], probe.1].concat();
            let list: Vec<_> = keys.iter().map(|k| (k.clone(), vec![1])).collect();
            let tree = Tree::from_entries(&list);
            same(&tree, &MemoryState(list.iter().cloned().collect()));
            prop_assert_eq!(tree.get(&probe).is_some(), keys.contains(&probe));
            let behind: Vec<_> = all(&tree, &probe, &[255]).into_iter().map(|(k, _)| k).collect();
            prop_assert_eq!(behind, keys.range(probe..).cloned().collect::<Vec<_>>());
        }
    }

    #[test]
    fn of_equal_keys_the_later_counts() {
        let tree = Tree::from_entries(&[(b"b", b"1"), (b"a", b"2"), (b"b", b"3")]);
        assert_eq!((tree.len(), tree.get(b"b")), (2, Some(b"3".to_vec())));
        assert_eq!(tree.get(b"c"), None);
    }

    #[test]
    fn a_scan_looks_at_few_nodes_wherever_it_begins() {
        let entries: Vec<_> = (0..200_000u32).map(|n| (number(n), vec![1])).collect();
        let mut tree = Tree::from_entries(&entries);
        // Holes, and places where much was written.
        let odd: Changes = (0..200_000).filter(|n| n % 3 == 0).map(|n| (number(n), None)).collect();
        tree = tree.with(&odd);
        let dense: Changes = (0..5_000u32).map(|n| ([number(77_777), number(n)].concat(), Some(vec![2]))).collect();
        tree = tree.with(&dense);
        let depth = sound(tree.root.as_deref().unwrap());
        assert!(depth <= 4, "{depth} levels");
        for n in (0..200_000).step_by(997) {
            // Found at once, found never, and found across the edge of a leaf.
            for (end, most) in [(number(n + 1), 1), (number(n), 0), (number(n + 30), 21)] {
                let mut found = 0;
                let looked = tree.look(&number(n), Some(&end), &mut |_, _| {
                    found += 1;
                    found <= most
                });
                assert!(looked <= 2 * depth, "{looked} nodes for {found} entries from {n}");
            }
        }
    }

    #[test]
    fn all_can_go() {
        let entries: BTreeMap<u32, ()> = (0..10_000).map(|n| (n, ())).collect();
        let list: Vec<_> = entries.keys().map(|n| (number(*n), vec![])).collect();
        let tree = Tree::from_entries(&list);
        let gone: Changes = entries.keys().map(|n| (number(*n), None)).collect();
        let none = tree.with(&gone);
        assert!(none.is_empty() && none.root.is_none() && all(&none, &[], &[255]).is_empty());
        assert_eq!(tree.len(), 10_000);
        assert_eq!(tree.with(&Changes::new()).len(), 10_000);
    }
}
