//! How a state machine reads and writes its tables, whoever stores them.
//!
//! Guarantees: [`Overlay`] changes everything or nothing of what lies below it. Keys are ordered bytes;
//! the first byte names the table. It promises no durability: that is the store's.

use std::collections::BTreeMap;

/// Reads ordered tables.
pub trait StateRead {
    /// The value under a key.
    fn get(&self, key: &[u8]) -> Option<Vec<u8>>;
    /// Visits entries with `start <= key < end` in ascending order until `visit` returns false.
    fn scan(&self, start: &[u8], end: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> bool);
}

/// Reads and writes ordered tables.
pub trait StateWrite: StateRead {
    /// Sets a value.
    fn put(&mut self, key: Vec<u8>, value: Vec<u8>);
    /// Removes a key; removing an absent key does nothing.
    fn delete(&mut self, key: &[u8]);
}

/// What an [`Overlay`] changed: `None` marks a removed key.
pub type Changes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// Changes held above a state that stays untouched until they are merged.
pub struct Overlay<'a> {
    base: &'a dyn StateRead,
    changes: Changes,
}

impl<'a> Overlay<'a> {
    /// An overlay without changes.
    #[must_use]
    pub fn new(base: &'a dyn StateRead) -> Self {
        Self { base, changes: Changes::new() }
    }
    /// The changes, for the owner of the base to merge.
    #[must_use]
    pub fn into_changes(self) -> Changes {
        self.changes
    }
}

/// Writes changes into a state.
pub fn merge(state: &mut dyn StateWrite, changes: Changes) {
    for (key, value) in changes {
        match value {
            Some(v) => state.put(key, v),
            None => state.delete(&key),
        }
    }
}

impl StateRead for Overlay<'_> {
    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        match self.changes.get(key) {
            Some(change) => change.clone(),
            None => self.base.get(key),
        }
    }

    fn scan(&self, start: &[u8], end: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) {
        if start >= end {
            return;
        }
        let mut ours = self.changes.range::<[u8], _>((std::ops::Bound::Included(start), std::ops::Bound::Excluded(end))).peekable();
        let mut stopped = false;
        self.base.scan(start, end, &mut |key, value| {
            while let Some((k, v)) = ours.next_if(|(k, _)| k.as_slice() < key) {
                if let Some(v) = v
                    && !visit(k, v)
                {
                    stopped = true;
                    return false;
                }
            }
            let shown = match ours.next_if(|(k, _)| k.as_slice() == key) {
                Some((_, Some(v))) => visit(key, v),
                Some((_, None)) => true,
                None => visit(key, value),
            };
            stopped = !shown;
            shown
        });
        if stopped {
            return;
        }
        for (k, v) in ours {
            if let Some(v) = v
                && !visit(k, v)
            {
                return;
            }
        }
    }
}

impl StateWrite for Overlay<'_> {
    fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.changes.insert(key, Some(value));
    }
    fn delete(&mut self, key: &[u8]) {
        self.changes.insert(key.to_vec(), None);
    }
}

/// A state in memory: for tests, simulation and replay.
#[derive(Clone, Default, Debug, PartialEq, Eq)]
pub struct MemoryState(pub BTreeMap<Vec<u8>, Vec<u8>>);

impl StateRead for MemoryState {
    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.0.get(key).cloned()
    }
    fn scan(&self, start: &[u8], end: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) {
        if start >= end {
            return;
        }
        for (k, v) in self.0.range::<[u8], _>((std::ops::Bound::Included(start), std::ops::Bound::Excluded(end))) {
            if !visit(k, v) {
                return;
            }
        }
    }
}

impl StateWrite for MemoryState {
    fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.0.insert(key, value);
    }
    fn delete(&mut self, key: &[u8]) {
        self.0.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(s: &dyn StateRead) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut out = vec![];
        s.scan(&[], &[255; 4], &mut |k, v| {
            out.push((k.to_vec(), v.to_vec()));
            true
        });
        out
    }

    proptest! {
        #[test]
        fn an_overlay_reads_as_if_merged(
            base in proptest::collection::btree_map(proptest::collection::vec(0u8..4, 1..3), proptest::collection::vec(any::<u8>(), 0..3), 0..12),
            changes in proptest::collection::vec((proptest::collection::vec(0u8..4, 1..3), proptest::option::of(proptest::collection::vec(any::<u8>(), 0..3))), 0..12),
            stop in 0usize..8,
        ) {
            let base = MemoryState(base);
            let mut merged = base.clone();
            let mut overlay = Overlay::new(&base);
            for (k, v) in changes {
                match v {
                    Some(v) => { overlay.put(k.clone(), v.clone()); merged.put(k, v); }
                    None => { overlay.delete(&k); merged.delete(&k); }
                }
            }
            prop_assert_eq!(all(&overlay), all(&merged));
            let mut some = vec![];
            overlay.scan(&[], &[255; 4], &mut |k, _| { some.push(k.to_vec()); some.len() < stop.max(1) });
            prop_assert_eq!(some, all(&merged).into_iter().map(|(k, _)| k).take(stop.max(1)).collect::<Vec<_>>());
            let mut again = base.clone();
            let changes = overlay.into_changes();
            merge(&mut again, changes);
            prop_assert_eq!(again, merged);
        }
    }
}
