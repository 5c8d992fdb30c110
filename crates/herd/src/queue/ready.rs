//! Tasks that may begin: by priority, then in turn by group, then oldest first.
//!
//! Guarantees: every operation is logarithmic in the number of tasks; a task is in it at most once.

use crate::task::{MAX_PRIORITY, NewTask, TaskId};
use std::collections::{BTreeMap, BTreeSet};

/// Groups share so many lanes within a priority; those that fall into one lane share its turns.
const LANES: u16 = 1024;

#[derive(Default, Debug)]
struct Level {
    lanes: BTreeMap<u16, BTreeSet<TaskId>>,
    last: u16,
}

impl Level {
    fn pop(&mut self) -> Option<TaskId> {
        let next = self.last.saturating_add(1);
        let lane = self.lanes.range(next..).next().or_else(|| self.lanes.iter().next()).map(|(lane, _)| *lane)?;
        let ids = self.lanes.get_mut(&lane)?;
        let id = ids.pop_first();
        if ids.is_empty() {
            self.lanes.remove(&lane);
        }
        self.last = lane;
        id
    }
}

/// The ready tasks.
#[derive(Default, Debug)]
pub(super) struct Ready {
    /// By priority; highest last.
    levels: BTreeMap<u8, Level>,
    len: usize,
}

fn place(task: &NewTask) -> (u8, u16) {
    let lane = if task.group.is_empty() {
        0
    } else {
        let hash = blake3::hash(task.group.as_bytes());
        let [a, b, ..] = *hash.as_bytes();
        u16::from_le_bytes([a, b]) % LANES
    };
    (task.priority.min(MAX_PRIORITY), lane)
}

impl Ready {
    pub(super) fn insert(&mut self, id: TaskId, task: &NewTask) {
        let (priority, lane) = place(task);
        if self.levels.entry(priority).or_default().lanes.entry(lane).or_default().insert(id) {
            self.len = self.len.saturating_add(1);
        }
    }

    pub(super) fn remove(&mut self, id: TaskId, task: &NewTask) {
        let (priority, lane) = place(task);
        let Some(level) = self.levels.get_mut(&priority) else { return };
        let Some(ids) = level.lanes.get_mut(&lane) else { return };
        if ids.remove(&id) {
            self.len = self.len.saturating_sub(1);
        }
        if ids.is_empty() {
            level.lanes.remove(&lane);
        }
    }

    pub(super) fn pop(&mut self) -> Option<TaskId> {
        let id = self.levels.values_mut().rev().find_map(Level::pop)?;
        self.len = self.len.saturating_sub(1);
        Some(id)
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }
}
