//! A validator's disk: the runtime's simulated storage, with what a loss of power does to it.
//!
//! Guarantees: what was synchronised survives [`Disk::lose_power`]; of what was written since, each write survives wholly, in part
//! (its beginning or some sectors of it) or not at all, as the dice say, in the order of the writes to each file. Synchronising takes
//! time, so that a crash can fall into it.

use super::dice::Dice;
use commonware_runtime::{
    Blob, BlobVersion, Clock as _, Error, Handle, IoBuf, IoBufs, IoBufsMut, ReadOptions, Spawner as _, Storage, Supervisor as _,
    WriteOptions, deterministic::Context,
};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What a device writes at once or not at all.
const SECTOR: usize = 512;
/// Longest time that synchronising takes.
const SYNC_MS: u64 = 4;

type RawBlob = <Context as Storage>::Blob;
type File = (String, Vec<u8>);

enum Change {
    Write(u64, IoBuf),
    Resize(u64),
}

#[derive(Default)]
struct Unsynced {
    files: BTreeMap<File, Vec<Change>>,
    versions: BTreeMap<File, BlobVersion>,
}

/// One validator's disk. Clones are the same disk.
#[derive(Clone)]
pub(super) struct Disk {
    /// Whose partitions these are.
    prefix: String,
    dice: Dice,
    /// A seeded bug: it says that all is synchronised and does nothing.
    lies: bool,
    unsynced: Arc<Mutex<Unsynced>>,
}

impl Disk {
    pub(super) fn new(prefix: String, dice: Dice, lies: bool) -> Self {
        Self { prefix, dice, lies, unsynced: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Unsynced> {
        self.unsynced.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn partition(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    /// What a crash of the machine leaves of the writes that were not synchronised. Every task that used the disk is gone.
    pub(super) async fn lose_power(&self, context: &Context) {
        let Unsynced { files, versions } = std::mem::take(&mut *self.lock());
        for (file, changes) in files {
            let Some(version) = versions.get(&file) else { continue };
            if self.lies || changes.is_empty() {
                continue;
            }
            let (blob, _, _) = context.open_versioned(&self.partition(&file.0), &file.1, *version..=*version).await.expect("a file opens");
            self.tear(&blob, changes).await;
            blob.sync().await.expect("the device is sound");
        }
    }

    /// Applies what survives, up to the write that the power went away in.
    async fn tear(&self, blob: &RawBlob, mut changes: Vec<Change>) {
        changes.truncate(self.dice.index(changes.len() + 1));
        let last = changes.len();
        for (index, change) in changes.into_iter().enumerate() {
            match change {
                Change::Resize(len) => blob.resize(len).await.expect("the device is sound"),
                Change::Write(at, bytes) if index + 1 < last || self.dice.percent(30) => {
                    blob.write_at(at, bytes, WriteOptions::default()).await.expect("the device is sound");
                }
                Change::Write(at, bytes) => self.tear_write(blob, at, &bytes).await,
            }
        }
    }

    async fn tear_write(&self, blob: &RawBlob, at: u64, bytes: &IoBuf) {
        let bytes = bytes.as_ref();
        if self.dice.percent(50) {
            let kept = bytes[..self.dice.index(bytes.len() + 1)].to_vec();
            blob.write_at(at, kept, WriteOptions::default()).await.expect("the device is sound");
            return;
        }
        for (index, sector) in bytes.chunks(SECTOR).enumerate() {
            if self.dice.percent(50) {
                blob.write_at(at + (index * SECTOR) as u64, sector.to_vec(), WriteOptions::default()).await.expect("the device is sound");
            }
        }
    }

    /// A seeded bug: everything in the partitions that begin so is gone.
    pub(super) async fn forget(&self, context: &Context, partition: &str) {
        // The partition may not exist yet.
        let _ = context.remove(&self.partition(partition), None).await;
        self.lock().files.retain(|(name, _), _| name != partition);
    }

    pub(super) async fn open(
        &self,
        context: &Arc<Context>,
        partition: &str,
        name: &[u8],
        versions: RangeInclusive<BlobVersion>,
    ) -> Result<(SimBlob, u64, BlobVersion), Error> {
        let (inner, len, version) = context.open_versioned(&self.partition(partition), name, versions).await?;
        let file = (partition.to_owned(), name.to_vec());
        self.lock().versions.insert(file.clone(), version);
        Ok((SimBlob { inner: Arc::new(inner), disk: self.clone(), file, context: Arc::clone(context) }, len, version))
    }

    pub(super) async fn remove(&self, context: &Context, partition: &str, name: Option<&[u8]>) -> Result<(), Error> {
        self.lock().files.retain(|(p, n), _| p != partition || name.is_some_and(|name| n != name));
        context.remove(&self.partition(partition), name).await
    }

    pub(super) async fn scan(&self, context: &Context, partition: &str) -> Result<Vec<Vec<u8>>, Error> {
        context.scan(&self.partition(partition)).await
    }
}

/// An open file of a disk.
pub(super) struct SimBlob {
    inner: Arc<RawBlob>,
    disk: Disk,
    file: File,
    context: Arc<Context>,
}

impl SimBlob {
    fn changed(&self, change: Change) {
        self.disk.lock().files.entry(self.file.clone()).or_default().push(change);
    }
    fn delay(&self) -> Duration {
        self.disk.dice.millis(0, SYNC_MS)
    }
}

async fn synchronise(inner: &RawBlob, disk: &Disk, file: &File) -> Result<(), Error> {
    if disk.lies {
        return Ok(());
    }
    disk.lock().files.remove(file);
    inner.sync().await
}

impl Blob for SimBlob {
    async fn read_at_buf(
        &self,
        offset: u64,
        len: usize,
        bufs: impl Into<IoBufsMut> + Send,
        options: ReadOptions,
    ) -> Result<IoBufsMut, Error> {
        self.inner.read_at_buf(offset, len, bufs, options).await
    }

    async fn read_at(&self, offset: u64, len: usize, options: ReadOptions) -> Result<IoBufsMut, Error> {
        self.inner.read_at(offset, len, options).await
    }

    async fn write_at(&self, offset: u64, bufs: impl Into<IoBufs> + Send, options: WriteOptions) -> Result<(), Error> {
        let bytes = bufs.into().coalesce();
        if options.contains(WriteOptions::SYNC) {
            self.context.sleep(self.delay()).await;
            let options = if self.disk.lies { options.without(WriteOptions::SYNC) } else { options };
            return self.inner.write_at(offset, bytes, options).await;
        }
        self.changed(Change::Write(offset, bytes.clone()));
        self.inner.write_at(offset, bytes, options).await
    }

    async fn resize(&self, len: u64) -> Result<(), Error> {
        self.changed(Change::Resize(len));
        self.inner.resize(len).await
    }

    async fn sync(&self) -> Result<(), Error> {
        self.context.sleep(self.delay()).await;
        synchronise(&self.inner, &self.disk, &self.file).await
    }

    async fn start_sync(&self) -> Handle<()> {
        let (inner, disk, file, delay) = (Arc::clone(&self.inner), self.disk.clone(), self.file.clone(), self.delay());
        // It goes on when nobody waits for it, and ends with the validator.
        self.context.child("sync").spawn(move |context| async move {
            context.sleep(delay).await;
            // The only error is that the file was removed meanwhile.
            let _ = synchronise(&inner, &disk, &file).await;
        })
    }
}
