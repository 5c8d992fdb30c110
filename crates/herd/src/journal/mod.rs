//! The journal of a durable herd: entries in batches, one write and one fsync for a batch. Format: `docs/specs/herd.md` §4.
//!
//! **Guarantees**
//! - When [`Journal::append`] or [`Journal::replace`] returns `Ok`, the entries survive a crash at any later moment; after an
//!   error none of them does, unless the error is [`JournalError::Broken`], which ends this journal.
//! - A batch counts whole or not at all. What a crash left behind the last whole batch is cut off when the journal is opened.
//! - Damage before the last whole batch is no crash: it is refused by name and place, and nothing is cut off.
//! - A disk that is full costs nothing that was acknowledged: the file is cut back to its last whole batch and goes on as soon
//!   as there is room.
//!
//! Not done here: deciding when to compact, or what the entries mean.

mod place;
#[cfg(test)]
mod tests;

pub use place::{Directory, LogFile, Place};

use crate::queue::Entry;
use std::io;

/// Begins every batch.
const MAGIC: [u8; 4] = *b"HRD1";
/// Magic, length of the entries, number of the batch, check.
const HEADER: usize = 4 + 4 + 8 + CHECK;
const CHECK: usize = 16;
const CHECK_DOMAIN: &str = "pasture 2026-11 herd journal v1";
/// Most bytes of entries in a batch of a snapshot; more are split. A reader refuses longer ones before it allocates.
const BATCH_BYTES: usize = 64 << 20;

/// Why the journal could not do something.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// There is no room: nothing was written, what was written before is safe, trying again later makes sense.
    #[error("the disk is full")]
    Full(#[source] io::Error),
    /// The disk did not do what it must: this journal writes nothing more. What was acknowledged is on the disk as far as the
    /// disk kept its word.
    #[error("the journal cannot be written any more")]
    Broken(#[source] io::Error),
    /// The journal cannot be read.
    #[error("the journal cannot be read")]
    Unreadable(#[source] io::Error),
    /// A batch in the middle is damaged.
    #[error(
        "journal {file} is damaged at byte {at}, and whole batches follow: this is no crash; restore the file, or move it away to begin a new herd"
    )]
    Damaged {
        /// Which file.
        file: u64,
        /// Where the damaged batch begins.
        at: u64,
    },
}

/// An open journal. Every call blocks until the disk has answered.
pub struct Journal {
    place: Box<dyn Place>,
    file: Box<dyn LogFile>,
    number: u64,
    next_batch: u64,
    bytes: u64,
    /// Why nothing more is written.
    broken: Option<io::ErrorKind>,
}

fn check(length: u32, number: u64, entries: &[u8]) -> [u8; CHECK] {
    let mut hasher = blake3::Hasher::new_derive_key(CHECK_DOMAIN);
    hasher.update(&length.to_le_bytes());
    hasher.update(&number.to_le_bytes());
    hasher.update(entries);
    let mut out = [0; CHECK];
    hasher.finalize_xof().fill(&mut out);
    out
}

/// Puts entries into one batch, as many as fit, and gives how many that were.
fn batch(entries: &[Entry], number: u64, out: &mut Vec<u8>) -> usize {
    let mut body = Vec::new();
    let mut taken = 0usize;
    for entry in entries {
        if taken > 0 && body.len() >= BATCH_BYTES / 2 {
            break;
        }
        // Writing to memory cannot fail, and no entry is near 4 GiB.
        let _ = borsh::to_writer(&mut body, entry);
        taken = taken.saturating_add(1);
    }
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&number.to_le_bytes());
    out.extend_from_slice(&check(length, number, &body));
    out.extend_from_slice(&body);
    taken
}

/// Reads the whole batch at the beginning of `bytes`: its number, its entries' bytes.
fn read_batch(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let rest = bytes.strip_prefix(&MAGIC)?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (number, rest) = rest.split_first_chunk::<8>()?;
    let (said, rest) = rest.split_first_chunk::<CHECK>()?;
    let (length, number) = (u32::from_le_bytes(*length), u64::from_le_bytes(*number));
    let body = rest.get(..usize::try_from(length).ok().filter(|l| *l <= BATCH_BYTES)?)?;
    (check(length, number, body) == *said).then_some((number, body))
}

/// Whether a whole batch with a number after `after` begins anywhere in `bytes`.
fn any_batch(bytes: &[u8], after: u64) -> bool {
    (0..bytes.len()).any(|at| {
        let rest = bytes.get(at..).unwrap_or_default();
        rest.starts_with(&MAGIC) && read_batch(rest).is_some_and(|(number, _)| number > after)
    })
}

fn entries_of(mut body: &[u8], out: &mut Vec<Entry>) -> io::Result<()> {
    while !body.is_empty() {
        out.push(borsh::BorshDeserialize::deserialize(&mut body)?);
    }
    Ok(())
}

/// What a file holds: its entries, the length up to the last whole batch, the number of the next batch.
fn read(file: u64, bytes: &[u8]) -> Result<(Vec<Entry>, u64, u64), JournalError> {
    let (mut entries, mut at, mut next) = (vec![], 0usize, 0u64);
    loop {
        let rest = bytes.get(at..).unwrap_or_default();
        match read_batch(rest) {
            Some((number, body)) if number == next => {
                entries_of(body, &mut entries).map_err(JournalError::Unreadable)?;
                at = at.saturating_add(HEADER).saturating_add(body.len());
                next = next.saturating_add(1);
            }
            // The next batch is begun only when this one is on the disk: if there is one, this one was.
            _ if any_batch(rest, next) => return Err(JournalError::Damaged { file, at: at as u64 }),
            _ => return Ok((entries, at as u64, next)),
        }
    }
}

impl Journal {
    /// Opens the newest journal of a place and reads it, or begins one with the entries that `fresh` gives.
    ///
    /// # Errors
    /// [`JournalError`]; a damaged journal is left as it is.
    pub fn open(mut place: Box<dyn Place>, fresh: impl FnOnce() -> Vec<Entry>) -> Result<(Self, Vec<Entry>), JournalError> {
        let mut files = place.list().map_err(JournalError::Unreadable)?;
        files.sort_unstable();
        // An older one is still there only if a crash came before its removal; the newest is whole when it has its name.
        if let Some(number) = files.last().copied() {
            let bytes = place.read(number).map_err(JournalError::Unreadable)?;
            let (entries, length, next_batch) = read(number, &bytes)?;
            let broken = JournalError::Broken;
            let mut file = place.reopen(number).map_err(broken)?;
            if length < bytes.len() as u64 {
                file.set_len(length).and_then(|()| file.sync()).map_err(broken)?;
            }
            for old in files.iter().rev().skip(1) {
                place.remove(*old).map_err(broken)?;
            }
            if !entries.is_empty() {
                return Ok((Self { place, file, number, next_batch, bytes: length, broken: None }, entries));
            }
        }
        let number = files.last().map_or(1, |n| n.saturating_add(1));
        let entries = fresh();
        let (file, next_batch, bytes) = write_new(place.as_mut(), number, &entries)?;
        for old in files {
            place.remove(old).map_err(JournalError::Broken)?;
        }
        Ok((Self { place, file, number, next_batch, bytes, broken: None }, entries))
    }

    /// Bytes in the file.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    fn usable(&self) -> Result<(), JournalError> {
        self.broken.map_or(Ok(()), |kind| Err(JournalError::Broken(kind.into())))
    }

    /// Writes entries as one batch (large ones as several), and waits until they are on the disk.
    ///
    /// # Errors
    /// [`JournalError::Full`] or [`JournalError::Broken`].
    pub fn append(&mut self, entries: &[Entry]) -> Result<(), JournalError> {
        self.usable()?;
        if entries.is_empty() {
            return Ok(());
        }
        let mut bytes = Vec::new();
        // More than one only if they are very large; a crash may then keep the first and not the second, both unacknowledged.
        let mut rest = entries;
        let mut number = self.next_batch;
        while !rest.is_empty() {
            let taken = batch(rest, number, &mut bytes);
            rest = rest.get(taken..).unwrap_or_default();
            number = number.saturating_add(1);
        }
        if let Err(error) = self.file.write_all(&bytes) {
            let full = is_full(&error);
            // What was written of it must not be there when the next batch comes.
            return match self.file.set_len(self.bytes) {
                Ok(()) if full => Err(JournalError::Full(error)),
                Ok(()) => Err(self.fail(error)),
                Err(worse) => Err(self.fail(worse)),
            };
        }
        if let Err(error) = self.file.sync() {
            // What the disk has of it nobody knows, and it may have thrown away what it did not write.
            return Err(self.fail(error));
        }
        self.bytes = self.bytes.saturating_add(bytes.len() as u64);
        self.next_batch = number;
        Ok(())
    }

    /// Begins a new file with these entries in place of all before.
    ///
    /// # Errors
    /// [`JournalError::Full`]: the old file goes on. [`JournalError::Broken`].
    pub fn replace(&mut self, entries: &[Entry]) -> Result<(), JournalError> {
        self.usable()?;
        let number = self.number.saturating_add(1);
        let (file, next_batch, bytes) = match write_new(self.place.as_mut(), number, entries) {
            Ok(made) => made,
            Err(JournalError::Broken(error)) => return Err(self.fail(error)),
            Err(other) => return Err(other),
        };
        let old = self.number;
        (self.file, self.number, self.next_batch, self.bytes) = (file, number, next_batch, bytes);
        // If this fails the old one goes when the journal is next opened.
        if let Err(error) = self.place.remove(old) {
            tracing::warn!(%error, old, "an old journal stays for now");
        }
        Ok(())
    }

    fn fail(&mut self, error: io::Error) -> JournalError {
        self.broken = Some(error.kind());
        JournalError::Broken(error)
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge)
}

/// Writes a file and gives it its name once it is whole.
fn write_new(place: &mut dyn Place, number: u64, entries: &[Entry]) -> Result<(Box<dyn LogFile>, u64, u64), JournalError> {
    let sort = |error: io::Error| if is_full(&error) { JournalError::Full(error) } else { JournalError::Broken(error) };
    let mut file = place.create(number).map_err(sort)?;
    let (mut rest, mut next, mut bytes) = (entries, 0u64, 0u64);
    while !rest.is_empty() {
        let mut buffer = Vec::new();
        let taken = batch(rest, next, &mut buffer);
        rest = rest.get(taken..).unwrap_or_default();
        next = next.saturating_add(1);
        bytes = bytes.saturating_add(buffer.len() as u64);
        if let Err(error) = file.write_all(&buffer) {
            place.abandon(number);
            return Err(sort(error));
        }
    }
    file.sync().map_err(JournalError::Broken)?;
    place.publish(number).map_err(JournalError::Broken)?;
    Ok((file, next, bytes))
}
