//! One blob from several that may have it, in pieces.
//!
//! ```text
//!  pieces that are missing ─┬─▶ origin 1 ─┐
//!                           ├─▶ origin 1 ─┤   whoever is free takes the next ones; at the end also
//!                           ├─▶ origin 2 ─┼─▶ what somebody else is slow with
//!                           └─▶ origin 2 ─┘
//!  all there ─▶ digest right: done, or wrong: from one alone at a time; who sent what turns out to be wrong is named
//! ```
//! Guarantees: one origin that is slow, stops, fails or lies costs time and nothing else, as long as another is left; memory is a piece for each
//! read that is under way. It does not choose origins, nor remember who lied.

use crate::manifest::Blob;
use crate::partial::{PIECE, Partial, pieces};
use crate::store::{Store, digest};
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::stream::{BoxStream, FuturesUnordered};
use futures::{FutureExt as _, StreamExt as _};
use pasture_rt::TaskKind;
use pasture_types::ContentDigest;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Reads at once from each origin: one asks while the other's bytes come.
const READS: usize = 2;
/// Until an origin begins to send.
const BEGIN: Duration = Duration::from_secs(30);
/// How long one that sends may pause, and take for one piece: less is of no use.
const PAUSE: Duration = Duration::from_secs(15);
const PIECE_TIME: Duration = Duration::from_secs(60);
/// Failures one after the other after which an origin is asked no more for this blob.
const FAILURES: u32 = 2;
/// After which somebody free takes what another one has not brought.
const SLOW: Duration = Duration::from_secs(1);

/// Bytes as they come.
pub type Pieces = BoxStream<'static, io::Result<Bytes>>;

/// An origin did not give what was asked for.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct OriginError(pub String);

/// Somebody that may have a blob.
#[async_trait]
pub trait Origin: Send + Sync {
    /// For people.
    fn name(&self) -> String;
    /// How many pieces of a MiB one request is for, at most.
    fn pieces_at_once(&self) -> u64 {
        4
    }
    /// Bytes from an offset, so many or up to the end. They are checked afterwards.
    async fn read(&self, digest: &ContentDigest, from: u64, length: Option<u64>) -> Result<Pieces, OriginError>;
}

/// A blob did not come.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DownloadError {
    /// Nobody gave it.
    #[error("nobody gave {digest}: {}", why.join("; "))]
    Nobody {
        /// Which.
        digest: ContentDigest,
        /// What each of them said last.
        why: Vec<String>,
    },
    /// This machine's disk.
    #[error("the cache of images cannot be written: {0}")]
    Disk(io::Error),
}

/// How a blob came.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Came {
    /// Bytes of each origin.
    pub(crate) bytes: Vec<u64>,
    /// Origins that sent something else.
    pub(crate) liars: BTreeSet<usize>,
}

/// Fetches a blob into the cache. Origins are best first; the last one is asked alone first if the others together made something wrong.
pub(crate) async fn download(
    store: &Arc<Store>,
    blob: Blob,
    origins: &[Arc<dyn Origin>],
    told: &(dyn Fn(u64) + Send + Sync),
) -> Result<Came, DownloadError> {
    if blob.size <= PIECE {
        return small(store, blob.digest, blob.size, origins, told).await.map(|(came, _)| came);
    }
    large(store, blob, origins, told).await
}

/// A blob of at most so many bytes, from one origin after the other.
pub(crate) async fn small(
    store: &Arc<Store>,
    wanted: ContentDigest,
    most: u64,
    origins: &[Arc<dyn Origin>],
    told: &(dyn Fn(u64) + Send + Sync),
) -> Result<(Came, Bytes), DownloadError> {
    let mut came = Came { bytes: vec![0; origins.len()], ..Came::default() };
    let mut why = vec![];
    for (index, origin) in origins.iter().enumerate() {
        let bytes = match tokio::time::timeout(PIECE_TIME, whole(&**origin, &wanted, most)).await {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(OriginError(error))) => {
                why.push(error);
                continue;
            }
            Err(_) => {
                why.push(format!("{} is too slow", origin.name()));
                continue;
            }
        };
        if digest(&bytes) != wanted {
            came.liars.insert(index);
            why.push(format!("{} sends something else", origin.name()));
            continue;
        }
        let (kept, store) = (bytes.clone(), Arc::clone(store));
        blocking(move || store.keep(&wanted, &kept)).await?;
        told(bytes.len() as u64);
        came.bytes.get_mut(index).into_iter().for_each(|sum| *sum = bytes.len() as u64);
        return Ok((came, bytes));
    }
    Err(DownloadError::Nobody { digest: wanted, why })
}

async fn whole(origin: &dyn Origin, wanted: &ContentDigest, most: u64) -> Result<Bytes, OriginError> {
    let mut stream = origin.read(wanted, 0, None).await?;
    let mut all = BytesMut::new();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|error| OriginError(format!("{} broke off: {error}", origin.name())))?;
        if (all.len() as u64).saturating_add(chunk.len() as u64) > most {
            return Err(OriginError(format!("{} sends more than it should", origin.name())));
        }
        all.extend_from_slice(&chunk);
    }
    Ok(all.freeze())
}

async fn large(
    store: &Arc<Store>,
    blob: Blob,
    origins: &[Arc<dyn Origin>],
    told: &(dyn Fn(u64) + Send + Sync),
) -> Result<Came, DownloadError> {
    let path = store.coming(&blob.digest);
    let (partial, here) = blocking(move || Partial::open(&path, blob.size)).await?;
    let partial = Arc::new(partial);
    let mut came = Came { bytes: vec![0; origins.len()], ..Came::default() };
    // What each sent of a whole that was wrong.
    let mut suspects: Vec<BTreeMap<u64, (usize, [u8; 32])>> = vec![];
    let mut why = vec![];
    let all: Vec<usize> = (0..origins.len()).collect();
    let alone = (0..origins.len()).rev().map(|one| vec![one]);
    for (round, asked) in std::iter::once(all).chain(alone).enumerate() {
        let missing = if round == 0 { missing(&here) } else { (0..pieces(blob.size)).collect() };
        let job = Job::new(blob.digest, Arc::clone(&partial), missing, origins, told);
        let complete = job.run(&asked).await?;
        let plan = job.end();
        plan.bytes.iter().zip(came.bytes.iter_mut()).for_each(|(new, sum)| *sum = sum.saturating_add(*new));
        if !complete {
            why = plan.why;
            // Alone it may fail where others are left that do not.
            if round == 0 { break } else { continue }
        }
        let (taken, into, file) = (blob.digest, Arc::clone(store), partial.path().to_owned());
        if blocking(move || into.admit(&taken, &file)).await? {
            let partial = Arc::clone(&partial);
            let lied = blocking(move || Ok(wrong(&partial, &suspects))).await?;
            came.liars.extend(lied);
            return Ok(came);
        }
        let emptied = Arc::clone(&partial);
        blocking(move || emptied.forget()).await?;
        match asked.as_slice() {
            [one] => {
                came.liars.insert(*one);
                why.push(format!("{} sends something else", origins.get(*one).map_or_else(String::new, |o| o.name())));
            }
            _ => suspects.push(plan.marks),
        }
    }
    Err(DownloadError::Nobody { digest: blob.digest, why })
}

fn missing(here: &[bool]) -> BTreeSet<u64> {
    (0u64..).zip(here).filter(|(_, here)| !**here).map(|(piece, _)| piece).collect()
}

/// Who sent pieces that are not those of the whole. Ends the notes of what is there.
fn wrong(partial: &Partial, suspects: &[BTreeMap<u64, (usize, [u8; 32])>]) -> BTreeSet<usize> {
    let sent = suspects.iter().flatten();
    let liars = sent.filter(|(piece, (_, hash))| partial.hash(**piece).is_ok_and(|right| right != *hash)).map(|(_, (origin, _))| *origin);
    let liars = liars.collect();
    partial.done();
    liars
}

/// Work on the disk, away from what must not wait.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T, DownloadError> {
    let done = pasture_rt::spawn_blocking(TaskKind::Files, work).join().await;
    done.unwrap_or_else(|| Err(io::Error::other("the writer ended"))).map_err(DownloadError::Disk)
}

/// One attempt at all pieces that are missing.
struct Job<'a> {
    digest: ContentDigest,
    partial: Arc<Partial>,
    origins: &'a [Arc<dyn Origin>],
    told: &'a (dyn Fn(u64) + Send + Sync),
    plan: Mutex<Plan>,
    changed: Notify,
}

#[derive(Default)]
struct Plan {
    missing: BTreeSet<u64>,
    /// Pieces that somebody is bringing: who, and since when.
    flying: BTreeMap<u64, Vec<(usize, Instant)>>,
    marks: BTreeMap<u64, (usize, [u8; 32])>,
    bytes: Vec<u64>,
    why: Vec<String>,
    disk: Option<DownloadError>,
}

impl Plan {
    fn is_over(&self) -> bool {
        self.disk.is_some() || (self.missing.is_empty() && self.flying.is_empty())
    }
    /// What an origin brings next: pieces that nobody brings, one after the other, or one that somebody else is slow with.
    fn next(&mut self, origin: usize, most: u64) -> Option<Range<u64>> {
        let now = Instant::now();
        if let Some(first) = self.missing.first().copied() {
            // So that the end is shared.
            let most = most.min((self.missing.len() as u64).div_ceil(2 * READS as u64)).max(1);
            let mut end = first;
            while end.saturating_sub(first) < most && self.missing.remove(&end) {
                self.flying.insert(end, vec![(origin, now)]);
                end = end.saturating_add(1);
            }
            return Some(first..end);
        }
        let slow = |bringing: &Vec<(usize, Instant)>| match bringing.as_slice() {
            [(other, since)] if *other != origin && now.duration_since(*since) >= SLOW => Some(*since),
            _ => None,
        };
        let (piece, _) =
            self.flying.iter().filter_map(|(piece, bringing)| Some((*piece, slow(bringing)?))).min_by_key(|(_, since)| *since)?;
        self.flying.get_mut(&piece)?.push((origin, now));
        Some(piece..piece.saturating_add(1))
    }
    /// An origin does not bring these; whether somebody else has to.
    fn give_back(&mut self, origin: usize, run: Range<u64>) {
        for piece in run {
            if let Some(bringing) = self.flying.get_mut(&piece) {
                if let Some(at) = bringing.iter().position(|(who, _)| *who == origin) {
                    bringing.remove(at);
                }
                if bringing.is_empty() {
                    self.flying.remove(&piece);
                    self.missing.insert(piece);
                }
            }
        }
    }
}

impl<'a> Job<'a> {
    fn new(
        digest: ContentDigest,
        partial: Arc<Partial>,
        missing: BTreeSet<u64>,
        origins: &'a [Arc<dyn Origin>],
        told: &'a (dyn Fn(u64) + Send + Sync),
    ) -> Self {
        let plan = Plan { missing, bytes: vec![0; origins.len()], ..Plan::default() };
        Self { digest, partial, origins, told, plan: Mutex::new(plan), changed: Notify::new() }
    }
    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }
    fn end(self) -> Plan {
        self.plan.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
    /// Has these origins bring what is missing; whether it is all there.
    async fn run(&self, asked: &[usize]) -> Result<bool, DownloadError> {
        let mut readers: FuturesUnordered<_> =
            asked.iter().flat_map(|origin| std::iter::repeat_n(*origin, READS)).map(|origin| self.reader(origin).boxed()).collect();
        while !self.plan().is_over() {
            let over = self.over();
            tokio::select! {
                () = over => {}
                ended = readers.next() => if ended.is_none() { break },
            }
        }
        drop(readers);
        let mut plan = self.plan();
        match plan.disk.take() {
            Some(error) => Err(error),
            None => Ok(plan.is_over()),
        }
    }
    async fn over(&self) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if self.plan().is_over() {
                return;
            }
            changed.await;
        }
    }
    /// Brings pieces from one origin until there are none, or it fails too often.
    async fn reader(&self, origin: usize) {
        let Some(from) = self.origins.get(origin) else { return };
        let mut failures = 0;
        while let Some(run) = self.take(origin, from.pieces_at_once()).await {
            match self.bring(origin, &**from, run.clone()).await {
                Ok(()) => failures = 0,
                Err(OriginError(why)) => {
                    failures += 1;
                    let mut plan = self.plan();
                    plan.give_back(origin, run);
                    plan.why.push(why);
                    drop(plan);
                    self.changed.notify_waiters();
                    if failures >= FAILURES {
                        return;
                    }
                }
            }
        }
    }
    async fn take(&self, origin: usize, most: u64) -> Option<Range<u64>> {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            {
                let mut plan = self.plan();
                if plan.is_over() {
                    return None;
                }
                if let Some(run) = plan.next(origin, most) {
                    return Some(run);
                }
            }
            // Somebody may become slow without saying anything.
            let _ = tokio::time::timeout(SLOW, changed).await;
        }
    }
    async fn bring(&self, origin: usize, from: &dyn Origin, run: Range<u64>) -> Result<(), OriginError> {
        let (first, _) = self.partial.span(run.start);
        let (last, length) = self.partial.span(run.end.saturating_sub(1));
        let length = last.saturating_add(length).saturating_sub(first);
        let late = |what: &str| OriginError(format!("{} {what}", from.name()));
        let opened = tokio::time::timeout(BEGIN, from.read(&self.digest, first, Some(length))).await;
        let mut stream = opened.map_err(|_| late("does not answer"))??;
        let mut rest = BytesMut::new();
        for piece in run.clone() {
            let (_, wanted) = self.partial.span(piece);
            let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
            let filled = tokio::time::timeout(PIECE_TIME, fill(&mut stream, &mut rest, wanted, from)).await;
            filled.map_err(|_| late("is too slow"))??;
            let bytes = rest.split_to(wanted.min(rest.len())).freeze();
            if !self.came(origin, piece, bytes).await {
                // Another one was faster with this, and perhaps with what follows.
                self.plan().give_back(origin, piece..run.end);
                return Ok(());
            }
        }
        Ok(())
    }
    /// Writes a piece down; whether nobody else had.
    async fn came(&self, origin: usize, piece: u64, bytes: Bytes) -> bool {
        if !self.plan().flying.contains_key(&piece) {
            return false;
        }
        let (hash, length) = (*blake3::hash(&bytes).as_bytes(), bytes.len() as u64);
        let partial = Arc::clone(&self.partial);
        let written = blocking(move || partial.write(piece, &bytes)).await;
        let news = {
            let mut plan = self.plan();
            match written {
                Err(error) => {
                    plan.disk = Some(error);
                    false
                }
                // Two may write the same piece: whoever is noted last wrote last, if not in this moment, which the digest would tell.
                Ok(()) => {
                    plan.marks.insert(piece, (origin, hash));
                    let news = plan.flying.remove(&piece).is_some();
                    plan.bytes.get_mut(origin).into_iter().for_each(|sum| *sum = sum.saturating_add(length));
                    news
                }
            }
        };
        self.changed.notify_waiters();
        if news {
            (self.told)(length);
        }
        news
    }
}

/// Reads until so many bytes are there.
async fn fill(stream: &mut Pieces, rest: &mut BytesMut, wanted: usize, from: &dyn Origin) -> Result<(), OriginError> {
    while rest.len() < wanted {
        let chunk = match tokio::time::timeout(PAUSE, stream.next()).await {
            Err(_) => return Err(OriginError(format!("{} stopped in the middle", from.name()))),
            Ok(None) => return Err(OriginError(format!("{} sends less than it should", from.name()))),
            Ok(Some(Err(error))) => return Err(OriginError(format!("{} broke off: {error}", from.name()))),
            Ok(Some(Ok(chunk))) => chunk,
        };
        rest.extend_from_slice(&chunk);
    }
    Ok(())
}

#[cfg(test)]
#[path = "download_tests.rs"]
mod tests;
