//! A validator's disk: files in memory, with what a loss of power does to them.
//!
//! ```text
//!  write, resize ─► seen by readers ─► unsynced, in order ─(synchronised)─► durable
//!                                          └─(loss of power)─► some of it, the last write torn ─► durable = what readers see next
//! ```
//! Guarantees: what was synchronised survives [`Disk::lose_power`]; of what was written since, each write survives wholly, in part
//! (its beginning or some sectors of it) or not at all, as the dice say, in the order of the writes to each file. Synchronising takes
//! time, so that a crash can fall into it. It is the simulation's own and not the runtime's: that one copies whole files at each
//! synchronisation and opening, and hashes every byte.
//! Creating and removing a file are durable at once, and never fail.

use super::dice::Dice;
use commonware_runtime::{
    Blob, BlobVersion, BufMut as _, Clock as _, Error, Handle, IoBuf, IoBufMut, IoBufs, IoBufsMut, ReadOptions, WriteOptions,
    deterministic::Context,
};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

/// What a device writes at once or not at all.
const SECTOR: usize = 512;
/// Longest time that synchronising takes.
const SYNC_MS: u64 = 4;

#[derive(Clone)]
enum Change {
    Write(u64, IoBuf),
    /// Was synchronised by itself, so it survives whatever is lost of the ones before.
    Sure(u64, IoBuf),
    Resize(u64),
}

/// What a file holds.
#[derive(Default)]
struct Content {
    /// As it is read.
    seen: Vec<u8>,
    /// As it is after a loss of power, but for what is unsynced.
    durable: Vec<u8>,
    unsynced: Vec<Change>,
    /// Synchronisations that were asked for and nobody needs to wait for: when each is over.
    under_way: Vec<SystemTime>,
}

fn write(bytes: &mut Vec<u8>, at: u64, new: &[u8]) {
    let at = usize::try_from(at).expect("a file fits into memory");
    let end = at + new.len();
    if end > bytes.len() {
        bytes.resize(end, 0);
    }
    bytes[at..end].copy_from_slice(new);
}

fn resize(bytes: &mut Vec<u8>, len: u64) {
    bytes.resize(usize::try_from(len).expect("a file fits into memory"), 0);
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write(at, new) | Change::Sure(at, new) => write(bytes, *at, new.as_ref()),
        Change::Resize(len) => resize(bytes, *len),
    }
}

impl Content {
    fn change(&mut self, change: Change, now: SystemTime) {
        self.settle(now);
        apply(&mut self.seen, &change);
        self.unsynced.push(change);
    }

    fn synchronise(&mut self) {
        for change in self.unsynced.drain(..) {
            apply(&mut self.durable, &change);
        }
    }

    /// Makes durable what a synchronisation that nobody waited for has reached by now.
    fn settle(&mut self, now: SystemTime) {
        if self.under_way.iter().any(|over| *over <= now) {
            self.under_way.retain(|over| *over > now);
            self.synchronise();
        }
    }

    /// What survives, up to the write that the power went away in.
    fn tear(&mut self, dice: &Dice) {
        let changes = std::mem::take(&mut self.unsynced);
        let kept = if changes.is_empty() { 0 } else { dice.index(changes.len() + 1) };
        let sure = changes.iter().rposition(|change| matches!(change, Change::Sure(..)));
        for (index, change) in changes.iter().enumerate() {
            match change {
                Change::Sure(..) => apply(&mut self.durable, change),
                // A file system keeps the lengths that what it promised needs.
                Change::Resize(_) if index < kept || sure.is_some_and(|sure| index < sure) => apply(&mut self.durable, change),
                Change::Write(..) if index + 1 < kept || (index + 1 == kept && dice.percent(30)) => apply(&mut self.durable, change),
                Change::Write(at, bytes) if index + 1 == kept => tear_write(&mut self.durable, *at, bytes.as_ref(), dice),
                Change::Write(..) | Change::Resize(_) => {}
            }
        }
    }
}

fn tear_write(durable: &mut Vec<u8>, at: u64, bytes: &[u8], dice: &Dice) {
    if dice.percent(50) {
        return write(durable, at, &bytes[..dice.index(bytes.len() + 1)]);
    }
    for (index, sector) in bytes.chunks(SECTOR).enumerate() {
        if dice.percent(50) {
            write(durable, at + (index * SECTOR) as u64, sector);
        }
    }
}

type Shared = Arc<Mutex<Content>>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct File {
    version: BlobVersion,
    content: Shared,
}

type Partition = BTreeMap<Vec<u8>, File>;

/// One validator's disk. Clones are the same disk.
#[derive(Clone)]
pub(super) struct Disk {
    dice: Dice,
    /// A seeded bug: it says that all is synchronised and does nothing.
    lies: bool,
    partitions: Arc<Mutex<BTreeMap<String, Partition>>>,
}

fn missing(partition: &str) -> Error {
    Error::PartitionMissing(partition.to_owned())
}

impl Disk {
    pub(super) fn new(dice: Dice, lies: bool) -> Self {
        Self { dice, lies, partitions: Arc::default() }
    }

    /// What a crash of the machine leaves of the writes that were not synchronised. Every task that used the disk is gone.
    pub(super) fn lose_power(&self, now: SystemTime) {
        for file in lock(&self.partitions).values().flat_map(BTreeMap::values) {
            let mut content = lock(&file.content);
            content.settle(now);
            content.under_way.clear();
            if self.lies {
                content.unsynced.clear();
            } else {
                content.tear(&self.dice);
            }
            let Content { seen, durable, .. } = &mut *content;
            seen.clone_from(durable);
        }
    }

    /// A seeded bug: everything in the partitions that begin so is gone.
    pub(super) fn forget(&self, partition: &str) {
        lock(&self.partitions).remove(partition);
    }

    pub(super) fn open(
        &self,
        context: &Arc<Context>,
        partition: &str,
        name: &[u8],
        versions: &RangeInclusive<BlobVersion>,
    ) -> Result<(SimBlob, u64, BlobVersion), Error> {
        let mut partitions = lock(&self.partitions);
        let files = partitions.entry(partition.to_owned()).or_default();
        let new = || File { version: *versions.end(), content: Shared::default() };
        let file = files.entry(name.to_vec()).or_insert_with(new);
        if !versions.contains(&file.version) {
            return Err(Error::BlobVersionMismatch { expected: versions.clone(), found: file.version });
        }
        // Who is killed drops its files; whoever else has this one open is a bug of the engine's.
        if Arc::strong_count(&file.content) > 1 {
            return Err(Error::BlobAlreadyOpen(partition.to_owned(), String::from_utf8_lossy(name).into_owned()));
        }
        let len = lock(&file.content).seen.len() as u64;
        let blob = SimBlob { content: Arc::clone(&file.content), dice: self.dice.clone(), lies: self.lies, context: Arc::clone(context) };
        Ok((blob, len, file.version))
    }

    pub(super) fn remove(&self, partition: &str, name: Option<&[u8]>) -> Result<(), Error> {
        let mut partitions = lock(&self.partitions);
        let Some(name) = name else { return partitions.remove(partition).map(|_| ()).ok_or_else(|| missing(partition)) };
        let files = partitions.get_mut(partition).ok_or_else(|| missing(partition))?;
        let gone = || Error::BlobMissing(partition.to_owned(), String::from_utf8_lossy(name).into_owned());
        files.remove(name).map(|_| ()).ok_or_else(gone)
    }

    pub(super) fn scan(&self, partition: &str) -> Result<Vec<Vec<u8>>, Error> {
        lock(&self.partitions).get(partition).map(|files| files.keys().cloned().collect()).ok_or_else(|| missing(partition))
    }
}

/// An open file of a disk.
pub(super) struct SimBlob {
    content: Shared,
    dice: Dice,
    lies: bool,
    context: Arc<Context>,
}

impl SimBlob {
    fn delay(&self) -> Duration {
        self.dice.millis(0, SYNC_MS)
    }
}

impl Blob for SimBlob {
    async fn read_at_buf(&self, offset: u64, len: usize, bufs: impl Into<IoBufsMut> + Send, _: ReadOptions) -> Result<IoBufsMut, Error> {
        let mut bufs = bufs.into();
        let at = usize::try_from(offset).map_err(|_| Error::OffsetOverflow)?;
        let end = at.checked_add(len).ok_or(Error::OffsetOverflow)?;
        let content = lock(&self.content);
        let bytes = content.seen.get(at..end).ok_or(Error::BlobInsufficientLength)?;
        if bufs.len() == len {
            bufs.copy_from_slice(bytes);
            return Ok(bufs);
        }
        if let Some(single) = bufs.as_single_mut() {
            single.truncate(0);
        }
        assert!(bufs.is_empty(), "a part of what is read into is in use");
        bufs.put_slice(bytes);
        Ok(bufs)
    }

    async fn read_at(&self, offset: u64, len: usize, options: ReadOptions) -> Result<IoBufsMut, Error> {
        self.read_at_buf(offset, len, IoBufMut::with_capacity(len), options).await
    }

    async fn write_at(&self, offset: u64, bufs: impl Into<IoBufs> + Send, options: WriteOptions) -> Result<(), Error> {
        let bytes = bufs.into().coalesce();
        let sure = options.contains(WriteOptions::SYNC) && !self.lies;
        if options.contains(WriteOptions::SYNC) {
            self.context.sleep(self.delay()).await;
        }
        let change = if sure { Change::Sure(offset, bytes) } else { Change::Write(offset, bytes) };
        lock(&self.content).change(change, self.context.current());
        Ok(())
    }

    async fn resize(&self, len: u64) -> Result<(), Error> {
        lock(&self.content).change(Change::Resize(len), self.context.current());
        Ok(())
    }

    async fn sync(&self) -> Result<(), Error> {
        self.context.sleep(self.delay()).await;
        if !self.lies {
            lock(&self.content).synchronise();
        }
        Ok(())
    }

    /// It goes on when nobody waits for it: the disk knows when it is over.
    async fn start_sync(&self) -> Handle<()> {
        let over = self.context.current() + self.delay();
        if !self.lies {
            lock(&self.content).under_way.push(over);
        }
        let (content, until) = (Arc::downgrade(&self.content), self.context.sleep_until(over));
        Handle::from_future(async move {
            until.await;
            // Who closed or removed the file meanwhile has nothing to wait for.
            if let Some(content) = content.upgrade() {
                lock(&content).settle(over);
            }
            Ok(())
        })
    }
}
