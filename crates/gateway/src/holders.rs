//! Who has which blob of an image, as machines say with their announcements.
//!
//! Guarantees: memory has a bound, whatever machines say; a machine that announces itself no more is named no more. It is not checked whether
//! they have it: bytes show.

use pasture_api::blobs::{MAX_HOLDERS, MAX_TOLD};
use pasture_types::{ContentDigest, NodeId};
use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Most blobs of all machines together.
const MAX_ENTRIES: usize = 1 << 20;

/// The index. A lock: it is held for one change or look.
#[derive(Default)]
pub(crate) struct HolderIndex(Mutex<Entries>);

#[derive(Default)]
struct Entries {
    of_node: HashMap<NodeId, BTreeSet<ContentDigest>>,
    of_blob: HashMap<ContentDigest, Vec<NodeId>>,
    count: usize,
    /// Where among many the next answer begins.
    turn: usize,
}

impl HolderIndex {
    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// What a machine has now, in the place of what it said before. A full index is the time to look who is still there.
    pub(crate) fn set(&self, node: NodeId, blobs: &[ContentDigest], is_there: impl Fn(&NodeId) -> bool) {
        let mut entries = self.entries();
        if entries.count >= MAX_ENTRIES {
            let gone: Vec<NodeId> = entries.of_node.keys().filter(|node| !is_there(node)).copied().collect();
            gone.into_iter().for_each(|node| entries.replace(node, BTreeSet::new()));
        }
        entries.replace(node, blobs.iter().take(MAX_TOLD).copied().collect());
    }
    /// Some of those that have a blob and are still there; others the next time.
    pub(crate) fn of(&self, digest: &ContentDigest, is_there: impl Fn(&NodeId) -> bool) -> Vec<NodeId> {
        let mut entries = self.entries();
        entries.turn = entries.turn.wrapping_add(1);
        let turn = entries.turn;
        let Some(all) = entries.of_blob.get(digest) else { return vec![] };
        let from = turn.checked_rem(all.len()).unwrap_or(0);
        all.iter().cycle().skip(from).take(all.len()).filter(|node| is_there(node)).take(MAX_HOLDERS).copied().collect()
    }
}

impl Entries {
    fn replace(&mut self, node: NodeId, now: BTreeSet<ContentDigest>) {
        let before = self.of_node.remove(&node).unwrap_or_default();
        for gone in before.difference(&now) {
            self.remove(&node, gone);
        }
        let mut kept: BTreeSet<ContentDigest> = before.intersection(&now).copied().collect();
        for new in now.difference(&before) {
            if self.count >= MAX_ENTRIES {
                break;
            }
            self.count = self.count.saturating_add(1);
            self.of_blob.entry(*new).or_default().push(node);
            kept.insert(*new);
        }
        if !kept.is_empty() {
            self.of_node.insert(node, kept);
        }
    }

    fn remove(&mut self, node: &NodeId, digest: &ContentDigest) {
        let Some(nodes) = self.of_blob.get_mut(digest) else { return };
        if let Some(at) = nodes.iter().position(|other| other == node) {
            nodes.swap_remove(at);
            self.count = self.count.saturating_sub(1);
        }
        if nodes.is_empty() {
            self.of_blob.remove(digest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_has_what_it_said_last() {
        let index = HolderIndex::default();
        let [a, b] = [1, 2].map(|n| NodeId([n; 32]));
        let [x, y] = [1, 2].map(|n| ContentDigest([n; 32]));
        let all = |_: &NodeId| true;
        index.set(a, &[x, y], all);
        index.set(b, &[y], all);
        assert_eq!((index.of(&x, |_| true), index.of(&y, |_| true).len()), (vec![a], 2));
        assert_ne!(index.of(&y, |_| true)[0], index.of(&y, |_| true)[0], "in turn");
        assert_eq!(index.of(&y, |node| *node == b), [b]);
        index.set(a, &[y], all);
        assert!(index.of(&x, |_| true).is_empty());
        index.set(a, &[], all);
        index.set(b, &[], all);
        assert!(index.entries().of_blob.is_empty() && index.entries().count == 0);
    }

    #[test]
    fn one_machine_says_so_much_and_no_more() {
        let index = HolderIndex::default();
        let many: Vec<ContentDigest> =
            (0..MAX_TOLD + 5).map(|n| ContentDigest(*pasture_types::blob::hash(&n.to_le_bytes()).as_bytes())).collect();
        index.set(NodeId([1; 32]), &many, |_| true);
        assert_eq!(index.entries().count, MAX_TOLD);
    }
}
