//! Memory in an audit: a table that is filled from the draw on, and a walk over it once the witnesses have spoken. Spec: `docs/specs/audits.md` §13.
//!
//! Guarantees: a table is begun only where the machine has that much to spare and some over; it is given back when the walk is over, or the
//! audit's time is; filling and walking end with their time or with the provider. It signs nothing.

use crate::detect;
use pasture_proofs::Beacon;
use pasture_proofs::memory::{AuditedMemory, CHUNK_WORDS, Table, Walk};
use pasture_rt::{ShutdownToken, TaskHandle, TaskKind};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Chunks between two looks at whether to go on: some milliseconds.
const PIECE: usize = 64;
/// Stretches between two such looks.
const STRETCHES: u32 = 1_024;
/// What is left to the machine at least, and as a part of what is available: its own system and its leases must not feel it.
const LEAST_LEFT: u64 = 128 << 20;
const LEFT_PART: u64 = 8;

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

struct Words(Vec<u64>);

impl MemoryEngine for Ram {
    fn fill(&self, table: &Table, threads: usize, go_on: &(dyn Fn() -> bool + Sync)) -> Option<Box<dyn Filled>> {
        let words = usize::try_from(table.chunks()).ok()?.checked_mul(CHUNK_WORDS)?;
        let bytes = u64::try_from(words).ok()?.checked_mul(8)?;
        if !fits(bytes, detect::available_memory()) {
            tracing::warn!(bytes, "a capacity check asks for more memory than this machine can spare now: it is answered without");
            return None;
        }
        let mut memory = Vec::new();
        memory.try_reserve_exact(words).ok()?;
        memory.resize(words, 0);
        let part = usize::try_from(table.chunks()).ok()?.div_ceil(threads.max(1));
        std::thread::scope(|scope| {
            for (first, part) in (0..).step_by(part).zip(memory.chunks_mut(part * CHUNK_WORDS)) {
                scope.spawn(move || {
                    for (piece, words) in (first..).step_by(PIECE).zip(part.chunks_mut(PIECE * CHUNK_WORDS)) {
                        match u32::try_from(piece) {
                            Ok(chunk) if go_on() => table.fill(chunk, words),
                            _ => return,
                        }
                    }
                });
            }
        });
        go_on().then(|| Box::new(Words(memory)) as Box<dyn Filled>)
    }
}

impl Filled for Words {
    fn walk(&self, walk: &Walk, lane: u32, go_on: &dyn Fn() -> bool) -> Option<Vec<u64>> {
        let mut states = Vec::new();
        while !walk.advance(lane, &mut states, &mut self.0.as_slice(), STRETCHES) {
            if !go_on() {
                return None;
            }
        }
        Some(states)
    }
}

/// Whether a table leaves enough of what is available.
const fn fits(bytes: u64, available: u64) -> bool {
    let left = if available / LEFT_PART > LEAST_LEFT { available / LEFT_PART } else { LEAST_LEFT };
    bytes <= available.saturating_sub(left)
}

/// A table that is filled, or was, for an audit.
pub(super) struct Held {
    pub(super) audit: u64,
    /// When it is given back, whether it was asked for or not.
    pub(super) until: tokio::time::Instant,
    work: TaskHandle<Option<Box<dyn Filled>>>,
}

impl Held {
    /// Begins to fill the table of an audit that is judged in so long.
    pub(super) fn begin(
        engine: Arc<dyn MemoryEngine>,
        audit: u64,
        table: Table,
        threads: usize,
        left: Duration,
        cancel: ShutdownToken,
    ) -> Self {
        let begun = Instant::now();
        let go_on = move || begun.elapsed() < left && !cancel.is_requested();
        let work = pasture_rt::spawn_blocking(TaskKind::Audit, move || engine.fill(&table, threads, &go_on));
        Self { audit, until: tokio::time::Instant::now() + left, work }
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
    let filled: Arc<dyn Filled> = Arc::from(held.work.join().await.flatten()?);
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
        Held::begin(Arc::new(Ram), 1, asked.table().unwrap(), 2, left, cancel)
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
}
