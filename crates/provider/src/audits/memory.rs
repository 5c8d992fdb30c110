//! Memory in an audit: a table that is filled from the draw on, and a walk over it once the witnesses have spoken. Spec: `docs/specs/audits.md` §13.
//!
//! Guarantees: a table is begun only where the machine has that much to spare and some over; it is given back when the walk is over, or the
//! audit's time is, or the machine runs short, or the node is asked anew; filling and walking end with that, or with the provider. What is
//! filled too late costs the rest of the audit no more than the time that the walk has. It signs nothing.

use crate::detect;
use pasture_proofs::Beacon;
use pasture_proofs::memory::{AuditedMemory, CHUNK_WORDS, LINE_WORDS, Line, Lines, Table, Walk};
use pasture_rt::{ShutdownToken, TaskHandle, TaskKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Chunks between two looks at whether to go on: some milliseconds.
const PIECE: usize = 256;
/// Stretches between two such looks.
const STRETCHES: u32 = 1_024;
/// What is left to the machine at least, and as a part of what is available: its own system and its leases must not feel it.
const LEAST_LEFT: u64 = 128 << 20;
const LEFT_PART: u64 = 8;
/// A table is given back where less than this part of that is left: others began to want it.
const SHORT_PART: u64 = 2;
/// Pause between two looks at what is left while a table is held.
const LOOK: Duration = Duration::from_millis(500);
/// Longest that a table is held, whatever a gateway says of the audit's time.
const LONGEST: Duration = Duration::from_secs(3_600);

/// Where tables lie: one for all audits of a machine.
pub trait MemoryEngine: Send + Sync {
    /// A filled table; `None` if there is no room for it, or `go_on` said no.
    fn fill(&self, table: &Table, threads: usize, go_on: &(dyn Fn() -> bool + Sync)) -> Option<Box<dyn Filled>>;
}

/// A table that is filled.
pub trait Filled: Send + Sync {
    /// The states of one lane; `None` if `go_on` said no.
    fn walk(&self, walk: &Walk, lane: u32, go_on: &dyn Fn() -> bool) -> Option<Vec<u64>>;
}

/// This machine's memory.
pub(super) struct Ram;

/// A table in parts of so many lines, the last of which may be shorter: each was filled by a thread of its own.
struct Words {
    parts: Vec<Vec<u64>>,
    lines: u64,
}

impl MemoryEngine for Ram {
    fn fill(&self, table: &Table, threads: usize, go_on: &(dyn Fn() -> bool + Sync)) -> Option<Box<dyn Filled>> {
        let chunks = usize::try_from(table.chunks()).ok()?;
        let bytes = u64::try_from(chunks.checked_mul(CHUNK_WORDS)?).ok()?.checked_mul(8)?;
        if !fits(bytes, detect::available_memory()) {
            tracing::warn!(bytes, "a capacity check asks for more memory than this machine can spare now: it is answered without");
            return None;
        }
        let part = chunks.div_ceil(threads.max(1));
        let parts: Option<Vec<Vec<u64>>> = std::thread::scope(|scope| {
            let begun =
                (0..chunks).step_by(part).map(|first| scope.spawn(move || fill_part(table, first, part.min(chunks - first), go_on)));
            let begun: Vec<_> = begun.collect();
            begun.into_iter().map(|thread| thread.join().ok().flatten()).collect()
        });
        Some(Box::new(Words { parts: parts?, lines: u64::try_from(part * CHUNK_WORDS / LINE_WORDS).ok()? }))
    }
}

/// So many chunks from one on; their memory is taken piece by piece, as it is filled. `None` if there is none, or `go_on` said no.
fn fill_part(table: &Table, first: usize, chunks: usize, go_on: &(dyn Fn() -> bool + Sync)) -> Option<Vec<u64>> {
    let words = chunks.checked_mul(CHUNK_WORDS)?;
    let mut memory = Vec::new();
    memory.try_reserve_exact(words).ok()?;
    while memory.len() < words {
        if !go_on() {
            return None;
        }
        let filled = memory.len();
        memory.resize(words.min(filled + PIECE * CHUNK_WORDS), 0);
        table.fill(u32::try_from(first + filled / CHUNK_WORDS).ok()?, memory.get_mut(filled..)?);
    }
    Some(memory)
}

impl Lines for &Words {
    fn line(&mut self, index: u64) -> Line {
        let part = usize::try_from(index / self.lines).ok().and_then(|part| self.parts.get(part));
        part.map_or_else(Line::default, |part| part.as_slice().line(index % self.lines))
    }
}

impl Filled for Words {
    fn walk(&self, walk: &Walk, lane: u32, go_on: &dyn Fn() -> bool) -> Option<Vec<u64>> {
        let mut states = Vec::new();
        while !walk.advance(lane, &mut states, &mut &*self, STRETCHES) {
            if !go_on() {
                return None;
            }
        }
        Some(states)
    }
}

/// What a table has to leave of what is available.
const fn left(available: u64) -> u64 {
    if available / LEFT_PART > LEAST_LEFT { available / LEFT_PART } else { LEAST_LEFT }
}

/// Whether it leaves that.
const fn fits(bytes: u64, available: u64) -> bool {
    bytes <= available.saturating_sub(left(available))
}

/// A table that is filled, or was, for an audit.
pub(super) struct Held {
    pub(super) audit: u64,
    /// When it is given back, whether it was asked for or not.
    until: tokio::time::Instant,
    /// What the machine has to have left meanwhile.
    floor: u64,
    stop: Stop,
    work: TaskHandle<Option<Box<dyn Filled>>>,
}

/// Ends the filling with whoever holds it.
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Held {
    /// Begins to fill the table of an audit that is judged in so long, once what was held before is given back.
    pub(super) fn begin(
        engine: Arc<dyn MemoryEngine>,
        (audit, table): (u64, Table),
        threads: usize,
        time: Duration,
        before: Option<Self>,
        cancel: ShutdownToken,
    ) -> Self {
        let (begun, time, stop) = (Instant::now(), time.min(LONGEST), Arc::new(AtomicBool::new(false)));
        let floor = left(detect::available_memory()) / SHORT_PART;
        let before = before.map(|before| {
            drop(before.stop);
            before.work
        });
        let stopped = Arc::clone(&stop);
        let go_on = move || {
            begun.elapsed() < time && !cancel.is_requested() && !stopped.load(Ordering::Relaxed) && detect::available_memory() >= floor
        };
        let work = pasture_rt::spawn(TaskKind::Audit, async move {
            if let Some(before) = before {
                drop(before.join().await);
            }
            pasture_rt::spawn_blocking(TaskKind::Audit, move || engine.fill(&table, threads, &go_on)).join().await.flatten()
        });
        Self { audit, until: tokio::time::Instant::now() + time, floor, stop: Stop(stop), work }
    }

    /// Ends when it is to be given back: its time is over, or the machine runs short.
    pub(super) async fn expired(&self) {
        while tokio::time::Instant::now() < self.until {
            if detect::available_memory() < self.floor {
                tracing::warn!(audit = self.audit, "this machine runs short of memory: a capacity check is answered without");
                return;
            }
            tokio::time::sleep_until(self.until.min(tokio::time::Instant::now() + LOOK)).await;
        }
    }
}

/// A walk that is over.
pub(super) struct Walked {
    walk: Walk,
    states: Vec<u64>,
    pub(super) root: [u8; 32],
}

impl Walked {
    /// What a witness's beacon draws of it.
    pub(super) fn open(&self, beacon: Beacon) -> Vec<u8> {
        self.walk.open(&self.states, beacon)
    }
}

/// Walks over the table that an audit asked for; `None` if there is none, or it took too long. The table is gone then.
pub(super) async fn walk(
    held: Option<Held>,
    asked: Option<AuditedMemory>,
    set: [u8; 32],
    threads: u32,
    within: Duration,
    cancel: ShutdownToken,
) -> Option<Walked> {
    let begun = Instant::now();
    let (held, walk) = (held?, asked?.walk(&set)?);
    // Dropped with this function: what is still filled then is wanted no more.
    let Held { work, stop: _stop, .. } = held;
    let filled = tokio::time::timeout(within, work.join()).await.ok().flatten().flatten()?;
    let filled: Arc<dyn Filled> = Arc::from(filled);
    let threads = threads.clamp(1, walk.lanes());
    let running: Vec<_> = (0..threads)
        .map(|thread| {
            let (walk, filled, cancel) = (walk.clone(), Arc::clone(&filled), cancel.clone());
            let go_on = move || begun.elapsed() < within && !cancel.is_requested();
            let lanes = move || -> Option<Vec<(u32, Vec<u64>)>> {
                let own = (thread..walk.lanes()).step_by(usize::try_from(threads).unwrap_or(1));
                own.map(|lane| Some((lane, filled.walk(&walk, lane, &go_on)?))).collect()
            };
            pasture_rt::spawn_blocking(TaskKind::Audit, lanes)
        })
        .collect();
    drop(filled);
    let mut lanes = Vec::new();
    for thread in running {
        lanes.extend(thread.join().await.flatten()?);
    }
    lanes.sort_unstable_by_key(|(lane, _)| *lane);
    let states: Vec<u64> = lanes.into_iter().flat_map(|(_, states)| states).collect();
    let finish = move || {
        let root = walk.root(&states);
        Walked { walk, states, root }
    };
    pasture_rt::spawn_blocking(TaskKind::Audit, finish).join().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use pasture_types::{Millis, NodeId};

    const HOUR: Duration = Duration::from_secs(3_600);

    fn asked(chunks: u32) -> AuditedMemory {
        AuditedMemory { audit: 1, randomness: [2; 32], epoch: 3, node: NodeId([4; 32]), chunks, lanes: 3, window: Millis(100) }
    }

    fn hold(asked: &AuditedMemory, left: Duration, cancel: ShutdownToken) -> Held {
        Held::begin(Arc::new(Ram), (1, asked.table().unwrap()), 7, left, None, cancel)
    }

    #[tokio::test]
    async fn threads_fill_and_walk_what_a_witness_accepts() {
        let (asked, stop) = (asked(150), pasture_rt::Shutdown::new());
        let walked = walk(Some(hold(&asked, HOUR, stop.token())), Some(asked), [5; 32], 2, HOUR, stop.token()).await.unwrap();
        let (walk, beacon) = (asked.walk(&[5; 32]).unwrap(), Beacon([6; 32]));
        assert_eq!(walk.verify(&walked.root, beacon, &walked.open(beacon)), Ok(()));
        assert!(walk.verify(&walked.root, Beacon([7; 32]), &walked.open(beacon)).is_err());
        assert!(asked.walk(&[8; 32]).unwrap().verify(&walked.root, beacon, &walked.open(beacon)).is_err(), "another set");
    }

    #[tokio::test]
    async fn what_has_no_time_no_room_or_no_provider_is_left_out() {
        let (asked, stop) = (asked(150), pasture_rt::Shutdown::new());
        assert!(walk(None, Some(asked), [5; 32], 2, HOUR, stop.token()).await.is_none());
        assert!(walk(Some(hold(&asked, HOUR, stop.token())), Some(asked), [5; 32], 2, Duration::ZERO, stop.token()).await.is_none());
        assert!(walk(Some(hold(&asked, Duration::ZERO, stop.token())), Some(asked), [5; 32], 2, HOUR, stop.token()).await.is_none());
        // 64 TiB: no machine has that.
        let huge = AuditedMemory { chunks: u32::MAX, ..asked };
        assert!(walk(Some(hold(&huge, HOUR, stop.token())), Some(huge), [5; 32], 2, HOUR, stop.token()).await.is_none());
        stop.trigger();
        assert!(walk(Some(hold(&asked, HOUR, stop.token())), Some(asked), [5; 32], 2, HOUR, stop.token()).await.is_none());
        assert!(fits(1 << 30, 2 << 30) && !fits(2 << 30, 2 << 30) && !fits(1 << 20, LEAST_LEFT));
    }

    /// Fills until it is told not to, which it tells.
    struct Endless(Arc<AtomicBool>);

    impl MemoryEngine for Endless {
        fn fill(&self, _table: &Table, _threads: usize, go_on: &(dyn Fn() -> bool + Sync)) -> Option<Box<dyn Filled>> {
            while go_on() {
                std::thread::yield_now();
            }
            self.0.store(true, Ordering::Relaxed);
            None
        }
    }

    #[tokio::test]
    async fn what_is_asked_anew_takes_the_place_of_what_was_filled() {
        let (asked, stop, ended) = (asked(150), pasture_rt::Shutdown::new(), Arc::new(AtomicBool::new(false)));
        let endless = || Arc::new(Endless(Arc::clone(&ended)));
        let first = Held::begin(endless(), (1, asked.table().unwrap()), 2, HOUR, None, stop.token());
        let second = Held::begin(Arc::new(Ram), (2, asked.table().unwrap()), 2, HOUR, Some(first), stop.token());
        assert!(walk(Some(second), Some(asked), [5; 32], 2, HOUR, stop.token()).await.is_some());
        assert!(ended.load(Ordering::Relaxed), "the first one was given back before");
        // What is not filled in the time of the walk is not waited for.
        let never = Held::begin(endless(), (3, asked.table().unwrap()), 2, HOUR, None, stop.token());
        assert!(walk(Some(never), Some(asked), [5; 32], 2, Duration::from_millis(1), stop.token()).await.is_none());
    }

    #[tokio::test]
    async fn a_table_is_given_back_when_its_time_is_over_or_the_machine_runs_short() {
        let (asked, stop) = (asked(1), pasture_rt::Shutdown::new());
        let held = hold(&asked, HOUR, stop.token());
        let short = Held { floor: u64::MAX, ..held };
        short.expired().await;
        hold(&asked, Duration::ZERO, stop.token()).expired().await;
        let long = Held::begin(Arc::new(Ram), (1, asked.table().unwrap()), 1, Duration::MAX, None, stop.token());
        assert!(long.until <= tokio::time::Instant::now() + LONGEST, "whatever a gateway says");
    }
}
