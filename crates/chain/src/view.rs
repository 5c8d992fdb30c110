//! The state in memory: ordered, persistent (a copy costs nothing), one version per block.
//!
//! Guarantees: a [`View`] never changes; [`View::with`] shares everything that did not change with its parent.
//! It holds the same entries as the authenticated store at that block; keeping the two equal is `app`'s job.

use bytes::Bytes;
use pasture_types::state::{Changes, StateRead};
use pasture_types::tree::Tree;

/// An immutable version of the state.
#[derive(Clone, Default)]
pub(crate) struct View(Tree);

impl View {
    pub(crate) fn from_entries(entries: impl IntoIterator<Item = (Bytes, Bytes)>) -> Self {
        Self(Tree::from_entries(&entries.into_iter().collect::<Vec<_>>()))
    }

    /// This state with changes.
    pub(crate) fn with(&self, changes: &Changes) -> Self {
        Self(self.0.with(changes))
    }

    /// Every entry in ascending order.
    pub(crate) fn each(&self, visit: &mut dyn FnMut(&[u8], &[u8])) {
        self.0.each(visit);
    }

    pub(crate) const fn len(&self) -> usize {
        self.0.len()
    }
}

impl StateRead for View {
    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.0.get(key)
    }

    fn scan(&self, start: &[u8], end: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) {
        self.0.scan(start, end, visit);
    }
}
