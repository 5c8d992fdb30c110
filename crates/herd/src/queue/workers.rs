//! What each worker has in hand, and how much more it is given.
//!
//! A worker's window follows its pace: it begins at one task and grows until about [`TARGET_MS`] of work lie before it, so
//! that a fast worker never waits for us and a slow one delays nobody else's task. The next task goes to the worker with
//! the least in hand.

use crate::limits::{MAX_WINDOW, TARGET_MS};
use crate::task::TaskId;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// One life of a worker's process.
pub type WorkerId = u64;

/// Fixed point of the measured pace.
const SCALE: u64 = 1024;
/// One answer changes the measured pace by this part of what it differs.
const INERTIA: u64 = 8;

#[derive(Debug)]
pub(super) struct Worker {
    /// Oldest first. Tasks that were called off stay in it until they are answered.
    pub(super) hand: VecDeque<TaskId>,
    /// When the oldest became the oldest.
    pub(super) since: u64,
    /// When the oldest is late.
    pub(super) deadline: u64,
    /// It has one task that must be alone.
    pub(super) alone: bool,
    pace: u64,
}

impl Worker {
    fn new(now: u64) -> Self {
        Self { hand: VecDeque::new(), since: now, deadline: u64::MAX, alone: false, pace: TARGET_MS.saturating_mul(SCALE) }
    }

    fn window(&self) -> usize {
        let tasks = TARGET_MS.saturating_mul(SCALE).checked_div(self.pace.max(1)).unwrap_or(1);
        usize::try_from(tasks.clamp(1, MAX_WINDOW.into())).unwrap_or(1)
    }

    /// Notes how long its oldest task took.
    fn note(&mut self, now: u64) {
        let took = now.saturating_sub(self.since).saturating_mul(SCALE);
        self.pace = self.pace.saturating_sub(self.pace.div_ceil(INERTIA)).saturating_add(took.checked_div(INERTIA).unwrap_or(0));
    }
}

/// All workers that are up.
#[derive(Default, Debug)]
pub(super) struct Workers {
    by_id: BTreeMap<WorkerId, Worker>,
    /// The same by what they have in hand.
    by_load: BTreeSet<(usize, WorkerId)>,
}

impl Workers {
    pub(super) fn up(&mut self, id: WorkerId, now: u64) {
        let _ = self.down(id);
        self.by_id.insert(id, Worker::new(now));
        self.by_load.insert((0, id));
    }

    /// Takes a worker out, with what it had in hand; `None` if it is not up.
    pub(super) fn down(&mut self, id: WorkerId) -> Option<VecDeque<TaskId>> {
        let worker = self.by_id.remove(&id)?;
        self.by_load.remove(&(worker.hand.len(), id));
        Some(worker.hand)
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// A worker with nothing in hand.
    pub(super) fn idle(&self) -> Option<WorkerId> {
        self.by_load.first().filter(|(load, _)| *load == 0).map(|(_, id)| *id)
    }

    /// The worker that should be given the next task, if any has room.
    pub(super) fn with_room(&self) -> Option<WorkerId> {
        let room = |id: &WorkerId| self.by_id.get(id).is_some_and(|w| !w.alone && w.hand.len() < w.window());
        self.by_load.iter().map(|(_, id)| *id).find(room)
    }

    /// Puts a task into a worker's hand; `deadline` counts if it is the only one there.
    pub(super) fn give(&mut self, id: WorkerId, task: TaskId, alone: bool, now: u64, deadline: u64) {
        let Some(worker) = self.by_id.get_mut(&id) else { return };
        self.by_load.remove(&(worker.hand.len(), id));
        if worker.hand.is_empty() {
            worker.since = now;
            worker.deadline = deadline;
        }
        worker.alone = alone;
        worker.hand.push_back(task);
        self.by_load.insert((worker.hand.len(), id));
    }

    /// Takes an answered task out of a worker's hand: whether it was there, and which is now the oldest if that changed.
    pub(super) fn take(&mut self, id: WorkerId, task: TaskId, now: u64) -> (bool, Option<TaskId>) {
        let Some(worker) = self.by_id.get_mut(&id) else { return (false, None) };
        let Some(at) = worker.hand.iter().position(|t| *t == task) else { return (false, None) };
        self.by_load.remove(&(worker.hand.len(), id));
        worker.hand.remove(at);
        worker.alone = false;
        self.by_load.insert((worker.hand.len(), id));
        if at > 0 {
            return (true, None);
        }
        worker.note(now);
        worker.since = now;
        worker.deadline = u64::MAX;
        (true, worker.hand.front().copied())
    }

    pub(super) fn set_deadline(&mut self, id: WorkerId, deadline: u64) {
        if let Some(worker) = self.by_id.get_mut(&id) {
            worker.deadline = deadline;
        }
    }

    pub(super) fn late(&self, now: u64) -> Vec<WorkerId> {
        self.by_id.iter().filter(|(_, w)| !w.hand.is_empty() && w.deadline <= now).map(|(id, _)| *id).collect()
    }

    #[cfg(test)]
    pub(super) fn in_hand(&self) -> impl Iterator<Item = (WorkerId, TaskId)> {
        self.by_id.iter().flat_map(|(id, w)| w.hand.iter().map(|t| (*id, *t)))
    }
}
