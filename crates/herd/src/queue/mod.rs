//! The decisions of a herd: what is taken, what runs next, what is tried again, what is given out.
//!
//! ```text
//!  submit ─▶ Held ─admit─▶ Ready ─next─▶ Running ─answer─▶ Finished ─acknowledge─▶ remembered key ─▶ forgotten
//!              │             ▲ ▲            │ │
//!           withdraw         │ └─ Delayed ◀─┘ │ attempt failed (charged)
//!                            └── Suspect ◀────┘ worker lost: runs alone next time
//! ```
//!
//! **Guarantees**
//! - No I/O, clock or randomness: the same calls give the same queue, and the entries of [`Queue::take_log`], replayed by
//!   [`Queue::restore`], give it back (but for what was running, which is ready again).
//! - A task ends exactly once. Results are numbered without a gap and kept until they are acknowledged.
//! - The same key with the same payload is the same task, also for [`KEYS_REMEMBERED`] acknowledged tasks.
//! - Nothing grows beyond [`Limits`]: what does not fit is refused with what would fit, and nothing is begun whose result
//!   could not be kept.
//! - Every charged attempt was really begun alone or as a worker's oldest task. A task that was at a worker which died runs
//!   alone afterwards, so that of several tasks the one that kills workers is found, and no other fails for it.

mod entry;
mod ready;
#[cfg(test)]
mod tests;
mod workers;

pub use entry::Entry;
pub use workers::WorkerId;

use crate::limits::{
    KEYS_REMEMBERED, Limits, MAX_GROUP_BYTES, MAX_KEY_BYTES, MAX_PAYLOAD_BYTES, MAX_REASON_BYTES, MAX_RESULT_BYTES, MAX_TIMEOUT_MS,
};
use crate::receipt::Chain;
use crate::task::{Answer, Busy, Finished, HerdStatus, MAX_PRIORITY, NewTask, Outcome, Seq, TaskId};
use bytes::Bytes;
use ready::Ready;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use workers::Workers;

/// A task on its way to a worker.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dispatch {
    /// To whom.
    pub worker: WorkerId,
    /// Its number.
    pub id: TaskId,
    /// Which attempt, from 1 on.
    pub attempt: u8,
    /// What the worker is given.
    pub payload: Bytes,
}

/// What a worker says about a task.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Said {
    /// The result.
    Done(Bytes),
    /// It did not work this time.
    Failed(Bytes),
    /// It will never work.
    Hopeless(Bytes),
}

/// Why a worker is gone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Gone {
    /// It was told to go; nobody is to blame.
    Dismissed,
    /// It ended by itself or was ended for being late; its oldest task is to blame, in these words.
    Lost(String),
}

/// Entries that do not make a queue.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the journal contradicts itself: {0}")]
pub struct Contradiction(String);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Held,
    Ready,
    Delayed(u64),
    Suspect,
    Running,
}

#[derive(Debug)]
struct Task {
    new: NewTask,
    key: Arc<str>,
    payload_hash: [u8; 32],
    attempts: u8,
    suspect: bool,
    state: State,
}

#[derive(Clone, Debug)]
struct Known {
    id: TaskId,
    payload_hash: [u8; 32],
}

/// The queue.
#[derive(Debug)]
pub struct Queue {
    limits: Limits,
    herd: [u8; 16],
    next_id: TaskId,
    tasks: BTreeMap<TaskId, Task>,
    payload_bytes: u64,
    keys: HashMap<Arc<str>, Known>,
    remembered: VecDeque<Arc<str>>,
    ready: Ready,
    delayed: BTreeSet<(u64, TaskId)>,
    suspects: BTreeSet<TaskId>,
    running: u64,
    workers: Workers,
    results: VecDeque<(Finished, Chain)>,
    result_bytes: u64,
    acknowledged: Chain,
    submitted: u64,
    retried: u64,
    lost: u64,
    log: Vec<Entry>,
}

fn cut(text: &str, most: usize) -> Bytes {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    Bytes::copy_from_slice(text.get(..end).unwrap_or_default().as_bytes())
}

impl Queue {
    /// An empty queue. The first entries of a journal are [`Queue::snapshot`]'s.
    #[must_use]
    pub fn new(limits: Limits, herd: [u8; 16]) -> Self {
        Self {
            limits,
            herd,
            next_id: 1,
            tasks: BTreeMap::new(),
            payload_bytes: 0,
            keys: HashMap::new(),
            remembered: VecDeque::new(),
            ready: Ready::default(),
            delayed: BTreeSet::new(),
            suspects: BTreeSet::new(),
            running: 0,
            workers: Workers::default(),
            results: VecDeque::new(),
            result_bytes: 0,
            acknowledged: Chain::default(),
            submitted: 0,
            retried: 0,
            lost: 0,
            log: vec![],
        }
    }

    /// Which herd it is.
    #[must_use]
    pub const fn herd(&self) -> &[u8; 16] {
        &self.herd
    }

    /// Takes the entries that the calls since the last time made.
    pub fn take_log(&mut self) -> Vec<Entry> {
        std::mem::take(&mut self.log)
    }

    // ---- submitting ----

    fn room(&self) -> (u64, u64) {
        let tasks = self.limits.tasks.saturating_sub(self.tasks.len() as u64);
        (tasks, self.limits.bytes.saturating_sub(self.payload_bytes))
    }

    fn refusal(&self, task: &NewTask) -> Option<String> {
        let too_long =
            |what: &str, len: usize, most: usize| (len > most).then(|| format!("the {what} has {len} bytes; at most {most} fit"));
        too_long("key", task.key.len(), MAX_KEY_BYTES)
            .or_else(|| too_long("group", task.group.len(), MAX_GROUP_BYTES))
            .or_else(|| too_long("payload", task.payload.len(), MAX_PAYLOAD_BYTES))
            .or_else(|| (task.payload.len() as u64 > self.limits.bytes).then(|| "the payload is larger than the herd's memory".into()))
            .or_else(|| (task.priority > MAX_PRIORITY).then(|| format!("priority {}: 0 to {MAX_PRIORITY} are possible", task.priority)))
            .or_else(|| (task.timeout_ms > MAX_TIMEOUT_MS).then(|| format!("a timeout is at most {MAX_TIMEOUT_MS} ms")))
            .or_else(|| {
                let line = std::str::from_utf8(&task.payload).is_ok_and(|text| !text.contains(['\n', '\r']));
                (self.limits.lines && !line).then(|| "this herd's workers read lines: the payload must be one line of text".into())
            })
    }

    /// Takes a task, to be admitted or withdrawn when it is known whether it was kept.
    ///
    /// # Errors
    /// [`Busy::Full`] if it does not fit now.
    pub fn submit(&mut self, task: NewTask) -> Result<Answer, Busy> {
        if let Some(why) = self.refusal(&task) {
            return Ok(Answer::Refused { why });
        }
        let payload_hash = *blake3::hash(&task.payload).as_bytes();
        if let Some(known) = self.keys.get(task.key.as_str()).filter(|_| !task.key.is_empty()) {
            let id = known.id;
            return Ok(if known.payload_hash == payload_hash { Answer::Known { id } } else { Answer::Conflict { id } });
        }
        let (tasks, bytes) = self.room();
        if tasks == 0 || bytes < task.payload.len() as u64 {
            return Err(Busy::Full { tasks, bytes });
        }
        let id = self.next_id;
        self.log.push(Entry::Submitted { id, task: task.clone() });
        self.insert(id, task, payload_hash, State::Held);
        Ok(Answer::New { id })
    }

    fn insert(&mut self, id: TaskId, new: NewTask, payload_hash: [u8; 32], state: State) {
        self.next_id = id.saturating_add(1);
        self.submitted = self.submitted.saturating_add(1);
        self.payload_bytes = self.payload_bytes.saturating_add(new.payload.len() as u64);
        let key: Arc<str> = new.key.as_str().into();
        if !key.is_empty() {
            self.keys.insert(Arc::clone(&key), Known { id, payload_hash });
        }
        self.tasks.insert(id, Task { new, key, payload_hash, attempts: 0, suspect: false, state });
    }

    /// Lets a task begin that was held.
    pub fn admit(&mut self, id: TaskId) {
        if self.tasks.get(&id).is_some_and(|t| t.state == State::Held) {
            self.make_ready(id);
        }
    }

    /// Forgets a task that was held: it could not be kept.
    pub fn withdraw(&mut self, id: TaskId) {
        if self.tasks.get(&id).is_some_and(|t| t.state == State::Held)
            && let Some(task) = self.remove(id)
        {
            self.keys.remove(&task.key);
            self.submitted = self.submitted.saturating_sub(1);
        }
    }

    fn make_ready(&mut self, id: TaskId) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        if task.suspect {
            task.state = State::Suspect;
            self.suspects.insert(id);
        } else {
            task.state = State::Ready;
            self.ready.insert(id, &task.new);
        }
    }

    /// Takes a task out of everything but the workers' hands.
    fn remove(&mut self, id: TaskId) -> Option<Task> {
        let task = self.tasks.remove(&id)?;
        self.payload_bytes = self.payload_bytes.saturating_sub(task.new.payload.len() as u64);
        match task.state {
            State::Held => {}
            State::Ready => self.ready.remove(id, &task.new),
            State::Delayed(at) => drop(self.delayed.remove(&(at, id))),
            State::Suspect => drop(self.suspects.remove(&id)),
            State::Running => self.running = self.running.saturating_sub(1),
        }
        Some(task)
    }

    // ---- working ----

    /// A worker is up and has nothing in hand.
    pub fn worker_up(&mut self, worker: WorkerId, now: u64) {
        self.workers.up(worker, now);
    }

    /// The next task for some worker, if there is one and its result could be kept.
    pub fn next(&mut self, now: u64) -> Option<Dispatch> {
        while let Some((at, id)) = self.delayed.first().copied().filter(|(at, _)| *at <= now) {
            self.delayed.remove(&(at, id));
            self.make_ready(id);
        }
        let kept = (self.results.len() as u64).saturating_add(self.running);
        if kept >= self.limits.results || self.result_bytes >= self.limits.result_bytes {
            return None;
        }
        // A suspect runs alone; while one waits, workers run empty for it.
        let (worker, id, alone) = if let Some(id) = self.suspects.first().copied() {
            let worker = self.workers.idle()?;
            self.suspects.remove(&id);
            (worker, id, true)
        } else {
            if self.ready.len() == 0 {
                return None;
            }
            (self.workers.with_room()?, self.ready.pop()?, false)
        };
        let deadline = self.deadline(id, now);
        let task = self.tasks.get_mut(&id)?;
        task.state = State::Running;
        self.running = self.running.saturating_add(1);
        let dispatch = Dispatch { worker, id, attempt: task.attempts.saturating_add(1), payload: task.new.payload.clone() };
        self.workers.give(worker, id, alone, now, deadline);
        Some(dispatch)
    }

    fn deadline(&self, id: TaskId, now: u64) -> u64 {
        let asked = self.tasks.get(&id).map_or(0, |t| t.new.timeout_ms);
        now.saturating_add(if asked == 0 { self.limits.timeout_ms } else { asked })
    }

    /// A worker answered. An answer to what is not in its hand is dropped; `false` then.
    pub fn answer(&mut self, worker: WorkerId, id: TaskId, said: Said, now: u64) -> bool {
        let (held, oldest) = self.workers.take(worker, id, now);
        if !held {
            return false;
        }
        if let Some(oldest) = oldest {
            let deadline = self.deadline(oldest, now);
            self.workers.set_deadline(worker, deadline);
        }
        match said {
            Said::Done(result) if result.len() > MAX_RESULT_BYTES => {
                let why = format!("the result has {} bytes; at most {MAX_RESULT_BYTES} fit", result.len());
                self.finish(id, Outcome::Failed, why.into());
            }
            Said::Done(result) => self.finish(id, Outcome::Done, result),
            Said::Hopeless(why) => {
                let attempts = self.tasks.get(&id).map_or(0, |t| t.attempts.saturating_add(1));
                if let Some(task) = self.tasks.get_mut(&id) {
                    task.attempts = attempts;
                }
                self.finish(id, Outcome::Failed, why.slice(..why.len().min(MAX_REASON_BYTES)));
            }
            Said::Failed(why) => self.charge(id, why.slice(..why.len().min(MAX_REASON_BYTES)), now),
        }
        true
    }

    /// A worker is gone, with what it had in hand.
    pub fn worker_down(&mut self, worker: WorkerId, gone: &Gone, now: u64) {
        let Some(hand) = self.workers.down(worker) else { return };
        if matches!(gone, Gone::Lost(_)) {
            self.lost = self.lost.saturating_add(1);
        }
        for (at, id) in hand.into_iter().enumerate() {
            let Some(task) = self.tasks.get_mut(&id) else { continue };
            match gone {
                Gone::Dismissed => self.requeue(id),
                Gone::Lost(why) => {
                    task.suspect = true;
                    if at == 0 { self.charge(id, cut(why, MAX_REASON_BYTES), now) } else { self.requeue(id) }
                }
            }
        }
    }

    /// Back to where it came from, uncharged.
    fn requeue(&mut self, id: TaskId) {
        self.running = self.running.saturating_sub(1);
        self.make_ready(id);
    }

    fn charge(&mut self, id: TaskId, why: Bytes, now: u64) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        task.attempts = task.attempts.saturating_add(1);
        let most = if task.new.attempts == 0 { self.limits.attempts } else { task.new.attempts };
        if task.attempts >= most {
            self.finish(id, Outcome::Failed, why);
            return;
        }
        let (attempts, at) = (task.attempts, now.saturating_add(self.limits.backoff(task.attempts)));
        task.state = State::Delayed(at);
        self.running = self.running.saturating_sub(1);
        self.delayed.insert((at, id));
        self.retried = self.retried.saturating_add(1);
        self.log.push(Entry::Charged { id, attempts });
    }

    fn finish(&mut self, id: TaskId, outcome: Outcome, result: Bytes) {
        // One that was called off meanwhile has ended already.
        let Some(task) = self.remove(id) else { return };
        let attempts = if outcome == Outcome::Done { task.attempts.saturating_add(1) } else { task.attempts };
        let seq = self.last_seq().saturating_add(1);
        let finished = Finished { seq, id, key: task.new.key, outcome, attempts, payload_hash: task.payload_hash, result };
        self.log.push(Entry::Finished(finished.clone()));
        self.keep(finished);
    }

    fn keep(&mut self, finished: Finished) -> bool {
        let mut chain = self.chain();
        let fits = chain.push(&finished);
        self.result_bytes = self.result_bytes.saturating_add(finished.result.len() as u64);
        self.results.push_back((finished, chain));
        fits
    }

    /// Workers whose oldest task has had its time: they are to be ended, then reported as lost.
    #[must_use]
    pub fn late(&self, now: u64) -> Vec<WorkerId> {
        self.workers.late(now)
    }

    /// Calls tasks off; gives how many had not ended. A worker that has one is not disturbed, its answer is dropped.
    pub fn cancel(&mut self, ids: &[TaskId]) -> u64 {
        let mut count = 0u64;
        for id in ids {
            if self.tasks.get(id).is_some_and(|t| t.state != State::Held) {
                self.finish(*id, Outcome::Cancelled, Bytes::new());
                count = count.saturating_add(1);
            }
        }
        count
    }

    // ---- results ----

    /// Number of the last result.
    #[must_use]
    pub fn last_seq(&self) -> Seq {
        self.chain().seq
    }

    /// The chain over all results.
    #[must_use]
    pub fn chain(&self) -> Chain {
        self.results.back().map_or(self.acknowledged, |(_, chain)| *chain)
    }

    /// The chain at a result that is kept, or at the last acknowledged one.
    #[must_use]
    pub fn chain_at(&self, seq: Seq) -> Option<Chain> {
        let Some(at) = seq.checked_sub(self.acknowledged.seq.saturating_add(1)) else {
            return (seq == self.acknowledged.seq).then_some(self.acknowledged);
        };
        self.results.get(usize::try_from(at).ok()?).map(|(_, chain)| *chain)
    }

    /// Up to where results are acknowledged.
    #[must_use]
    pub const fn acknowledged(&self) -> Seq {
        self.acknowledged.seq
    }

    /// Results after `after` and up to `upto`, as many as fit into both limits, at least one if there is one.
    #[must_use]
    pub fn results(&self, after: Seq, upto: Seq, most: usize, most_bytes: usize) -> Vec<Finished> {
        let skip = usize::try_from(after.saturating_sub(self.acknowledged.seq)).unwrap_or(usize::MAX);
        let mut bytes = 0usize;
        let fits = |f: &&Finished| {
            let first = bytes == 0;
            bytes = bytes.saturating_add(f.result.len()).saturating_add(f.key.len()).saturating_add(128);
            f.seq <= upto && (first || bytes <= most_bytes)
        };
        self.results.range(skip.min(self.results.len())..).map(|(f, _)| f).take(most).take_while(fits).cloned().collect()
    }

    /// Forgets results up to `upto` (at most the last one); their keys are remembered.
    pub fn acknowledge(&mut self, upto: Seq) {
        let upto = upto.min(self.last_seq());
        if upto <= self.acknowledged.seq {
            return;
        }
        self.log.push(Entry::Acknowledged { upto });
        while let Some((finished, chain)) = self.results.pop_front() {
            self.result_bytes = self.result_bytes.saturating_sub(finished.result.len() as u64);
            self.acknowledged = chain;
            if let Some((key, _)) = self.keys.get_key_value(finished.key.as_str()) {
                let key = Arc::clone(key);
                self.remember(key);
            }
            if chain.seq >= upto {
                break;
            }
        }
    }

    fn remember(&mut self, key: Arc<str>) {
        self.remembered.push_back(key);
        if self.remembered.len() > KEYS_REMEMBERED
            && let Some(oldest) = self.remembered.pop_front()
        {
            self.keys.remove(&oldest);
        }
    }

    // ---- as a whole ----

    /// When something may change by time alone.
    #[must_use]
    pub fn waits_for_time(&self) -> bool {
        !self.delayed.is_empty() || self.running > 0
    }

    /// Bytes that a snapshot would have, roughly.
    #[must_use]
    pub fn live_bytes(&self) -> u64 {
        const EACH: u64 = 256;
        let many = (self.tasks.len() as u64).saturating_add(self.results.len() as u64).saturating_add(self.remembered.len() as u64);
        self.payload_bytes.saturating_add(self.result_bytes).saturating_add(many.saturating_mul(EACH))
    }

    /// Entries that make this queue as it is now, in place of all that were taken so far or wait to be taken.
    #[must_use]
    pub fn snapshot(&self) -> Vec<Entry> {
        let live = self.tasks.len() as u64;
        let charged = self.tasks.values().filter(|t| t.attempts > 0).count() as u64;
        let mut out = vec![Entry::Began {
            herd: self.herd,
            next_id: self.next_id,
            acknowledged: self.acknowledged,
            // Replaying the live ones counts them again.
            submitted: self.submitted.saturating_sub(live),
            retried: self.retried.saturating_sub(charged),
        }];
        let known = |key: &Arc<str>| self.keys.get(key).map(|k| (key.to_string(), k.payload_hash, k.id));
        let remembered = self.remembered.iter().filter_map(known);
        out.extend(remembered.map(|(key, payload_hash, id)| Entry::Remembered { key, payload_hash, id }));
        out.extend(self.results.iter().map(|(f, _)| Entry::Finished(f.clone())));
        for (id, task) in &self.tasks {
            out.push(Entry::Submitted { id: *id, task: task.new.clone() });
            if task.attempts > 0 {
                out.push(Entry::Charged { id: *id, attempts: task.attempts });
            }
        }
        out
    }

    /// Makes a queue from entries. What was running is ready again.
    ///
    /// # Errors
    /// [`Contradiction`] if no queue can have made these entries.
    pub fn restore(limits: Limits, entries: impl IntoIterator<Item = Entry>) -> Result<Self, Contradiction> {
        let mut queue = Self::new(limits, [0; 16]);
        let mut begun = false;
        for entry in entries {
            if !begun && !matches!(entry, Entry::Began { .. }) {
                return Err(Contradiction("it has no beginning".into()));
            }
            begun = true;
            queue.replay(entry)?;
        }
        let held: Vec<TaskId> = queue.tasks.keys().copied().collect();
        for id in held {
            queue.admit(id);
        }
        Ok(queue)
    }

    fn replay(&mut self, entry: Entry) -> Result<(), Contradiction> {
        match entry {
            Entry::Began { herd, next_id, acknowledged, submitted, retried } => {
                *self = Self { next_id, acknowledged, submitted, retried, ..Self::new(self.limits.clone(), herd) };
            }
            Entry::Remembered { key, payload_hash, id } => {
                let key: Arc<str> = key.into();
                self.keys.insert(Arc::clone(&key), Known { id, payload_hash });
                self.remember(key);
            }
            Entry::Submitted { id, task } => {
                if self.tasks.contains_key(&id) {
                    return Err(Contradiction(format!("task {id} was taken twice")));
                }
                let (hash, next) = (*blake3::hash(&task.payload).as_bytes(), self.next_id);
                self.insert(id, task, hash, State::Held);
                self.next_id = self.next_id.max(next);
            }
            Entry::Charged { id, attempts } => {
                let task = self.tasks.get_mut(&id).ok_or_else(|| Contradiction(format!("an attempt of task {id}, which there is not")))?;
                task.attempts = attempts;
                self.retried = self.retried.saturating_add(1);
                // Whatever it did, it begins alone.
                task.suspect = true;
            }
            Entry::Finished(finished) => {
                let known = Known { id: finished.id, payload_hash: finished.payload_hash };
                if !finished.key.is_empty() {
                    self.keys.insert(finished.key.as_str().into(), known);
                }
                self.remove(finished.id);
                let seq = finished.seq;
                if !self.keep(finished) {
                    return Err(Contradiction(format!("result {seq} does not follow result {}", self.acknowledged.seq)));
                }
            }
            Entry::Acknowledged { upto } => {
                self.acknowledge(upto);
                self.log.clear();
            }
        }
        Ok(())
    }

    /// The queue in numbers; what it does not know of is left at nothing.
    #[must_use]
    pub fn status(&self) -> HerdStatus {
        let chain = self.chain();
        HerdStatus {
            herd: hex::encode(self.herd),
            waiting: (self.tasks.len() as u64).saturating_sub(self.running),
            running: self.running,
            payload_bytes: self.payload_bytes,
            unacknowledged: self.results.len() as u64,
            result_bytes: self.result_bytes,
            last_seq: chain.seq,
            acknowledged: self.acknowledged.seq,
            submitted: self.submitted,
            done: chain.done,
            failed: chain.failed,
            cancelled: chain.cancelled,
            retried: self.retried,
            workers: self.workers.len() as u64,
            workers_lost: self.lost,
            ..HerdStatus::default()
        }
    }
}
