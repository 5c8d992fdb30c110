//! The ledger's state in memory, for many reads: values by hash, keys in order beside them.
//!
//! Guarantees: reads like [`MemoryState`]; the order of a hash map is never seen. It stores nothing durably.

use pasture_types::state::{MemoryState, StateRead, StateWrite};
use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;

/// A state.
#[derive(Default)]
pub struct Memory {
    values: HashMap<Vec<u8>, Vec<u8>>,
    order: BTreeSet<Vec<u8>>,
}

impl Memory {
    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.order.len()
    }
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

impl From<MemoryState> for Memory {
    fn from(state: MemoryState) -> Self {
        let order = state.0.keys().cloned().collect();
        Self { values: state.0.into_iter().collect(), order }
    }
}

impl StateRead for Memory {
    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.values.get(key).cloned()
    }
    fn scan(&self, start: &[u8], end: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) {
        if start >= end {
            return;
        }
        for key in self.order.range::<[u8], _>((Bound::Included(start), Bound::Excluded(end))) {
            if !visit(key, self.values.get(key).map_or(&[], Vec::as_slice)) {
                return;
            }
        }
    }
}

impl StateWrite for Memory {
    fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        if let Some(old) = self.values.get_mut(&key) {
            *old = value;
            return;
        }
        self.order.insert(key.clone());
        self.values.insert(key, value);
    }
    fn delete(&mut self, key: &[u8]) {
        if self.values.remove(key).is_some() {
            self.order.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(s: &dyn StateRead) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut out = vec![];
        s.scan(&[], &[255; 3], &mut |k, v| {
            out.push((k.to_vec(), v.to_vec()));
            out.len() < 40
        });
        out
    }

    #[test]
    fn it_reads_like_the_ordered_state() {
        let (mut ours, mut theirs) = (Memory::default(), MemoryState::default());
        let mut dice = crate::dice::Dice::new(7);
        for _ in 0..2_000 {
            let key = vec![u8::try_from(dice.below(9)).unwrap(), u8::try_from(dice.below(9)).unwrap()];
            if dice.below(3) == 0 {
                ours.delete(&key);
                theirs.delete(&key);
            } else {
                let value = dice.next().to_be_bytes().to_vec();
                ours.put(key.clone(), value.clone());
                theirs.put(key.clone(), value);
            }
            assert_eq!(ours.get(&key), theirs.get(&key));
            assert_eq!(all(&ours), all(&theirs));
        }
        assert_eq!((ours.len(), ours.is_empty()), (theirs.0.len(), false));
    }
}
