//! The state in memory: ordered, persistent (a copy costs nothing), one version per block.
//!
//! Guarantees: a [`View`] never changes; [`View::with`] shares everything that did not change with its parent.
//! It holds the same entries as the authenticated store at that block; keeping the two equal is `app`'s job.

use bytes::Bytes;
use immutable_chunkmap::map::Map;
use pasture_types::state::{Changes, StateRead};
use std::ops::Bound;

/// Entries per chunk: a write copies the chunks it touches, a read searches one.
const CHUNK: usize = 64;

/// An immutable version of the state.
#[derive(Clone, Default)]
pub(crate) struct View(Map<Bytes, Bytes, CHUNK>);

impl View {
    pub(crate) fn from_entries(entries: impl IntoIterator<Item = (Bytes, Bytes)>) -> Self {
        Self(Map::new().insert_many(entries))
    }

    /// This state with changes.
    pub(crate) fn with(&self, changes: &Changes) -> Self {
        let edits = changes.iter().map(|(key, value)| (Bytes::copy_from_slice(key), value.as_ref().map(|v| Bytes::copy_from_slice(v))));
        Self(self.0.update_many(edits, |key, value, _| value.map(|v| (key, v))))
    }

    /// Every entry in ascending order.
    pub(crate) fn each(&self, visit: &mut dyn FnMut(&[u8], &[u8])) {
        for (key, value) in &self.0 {
            visit(key, value);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

impl StateRead for View {
    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.0.get(key).map(|value| value.to_vec())
    }

    fn scan(&self, start: &[u8], end: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) {
        if start >= end {
            return;
        }
        for (key, value) in self.0.range::<[u8], _>((Bound::Included(start), Bound::Excluded(end))) {
            if !visit(key, value) {
                return;
            }
        }
    }
}
