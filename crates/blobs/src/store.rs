//! The cache: blobs on disk under their digests, those used longest ago first to go.
//!
//! Guarantees: a file under a digest had that digest when it came, and was on disk before it had that name; over the limit goes what nobody
//! uses now, the longest unused first; what was being fetched when a process ended is found again. All of it writes or reads disk: none is for
//! an async pool but [`Store::has`] and what is said of how full it is.

use pasture_types::ContentDigest;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

/// Below the cache's folder: what is whole, and what is still coming.
const WHOLE: &str = "sha256";
const COMING: &str = "coming";
/// Bytes that are hashed at once.
const BUFFER: usize = 1 << 18;

/// The cache. A lock and not an owner task: nobody holds it across a wait.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    limit: u64,
    state: Mutex<State>,
}

#[derive(Default, Debug)]
struct State {
    held: BTreeMap<ContentDigest, Held>,
    pins: BTreeMap<ContentDigest, usize>,
    /// Counts uses.
    clock: u64,
}

#[derive(Debug)]
struct Held {
    bytes: u64,
    used: u64,
}

/// Blobs that stay as long as this is kept.
#[derive(Debug)]
pub struct Pinned {
    store: Arc<Store>,
    digests: Vec<ContentDigest>,
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let mut state = self.store.state();
        for digest in &self.digests {
            if let Some(count) = state.pins.get_mut(digest) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    state.pins.remove(digest);
                }
            }
        }
    }
}

impl Store {
    /// Opens the cache in a folder of its own, or makes it; at most `limit` bytes stay in it.
    ///
    /// # Errors
    /// What the system says of the folder.
    pub fn open(dir: &Path, limit: u64) -> io::Result<Self> {
        let this = Self { dir: dir.to_owned(), limit, state: Mutex::default() };
        fs::create_dir_all(dir.join(WHOLE))?;
        fs::create_dir_all(dir.join(COMING))?;
        let mut found = vec![];
        for entry in fs::read_dir(dir.join(WHOLE))? {
            let entry = entry?;
            let named = entry.file_name().to_str().and_then(|name| ContentDigest::of_digits(name).ok());
            match named {
                Some(digest) => {
                    let facts = entry.metadata()?;
                    found.push((facts.modified().unwrap_or(SystemTime::UNIX_EPOCH), digest, facts.len()));
                }
                None => tracing::warn!(path = %entry.path().display(), "a file in the cache of images that is not ours"),
            }
        }
        found.sort_unstable();
        {
            let mut state = this.state();
            for (_, digest, bytes) in found {
                state.clock += 1;
                let used = state.clock;
                state.held.insert(digest, Held { bytes, used });
            }
        }
        this.trim();
        Ok(this)
    }
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// Its size in bytes, if it is here. Looks in memory only.
    #[must_use]
    pub fn has(&self, digest: &ContentDigest) -> Option<u64> {
        self.state().held.get(digest).map(|held| held.bytes)
    }
    /// What is here, the most recently used first: at most so many. Looks in memory only.
    #[must_use]
    pub fn recent(&self, most: usize) -> Vec<ContentDigest> {
        let state = self.state();
        let mut all: Vec<(u64, ContentDigest)> = state.held.iter().map(|(digest, held)| (held.used, *digest)).collect();
        all.sort_unstable_by(|a, b| b.cmp(a));
        all.into_iter().take(most).map(|(_, digest)| digest).collect()
    }
    /// How many blobs and bytes are here. Looks in memory only.
    #[must_use]
    pub fn full(&self) -> (usize, u64) {
        let state = self.state();
        (state.held.len(), state.held.values().fold(0, |sum, held| sum.saturating_add(held.bytes)))
    }
    /// The most bytes that stay.
    #[must_use]
    pub const fn limit(&self) -> u64 {
        self.limit
    }
    fn path(&self, digest: &ContentDigest) -> PathBuf {
        self.dir.join(WHOLE).join(digest.digits())
    }
    /// Where a blob that is coming grows.
    pub(crate) fn coming(&self, digest: &ContentDigest) -> PathBuf {
        self.dir.join(COMING).join(digest.digits())
    }
    /// Keeps blobs from going, also those that are not here yet.
    #[must_use]
    pub fn pin(self: &Arc<Self>, digests: Vec<ContentDigest>) -> Pinned {
        let mut state = self.state();
        for digest in &digests {
            *state.pins.entry(*digest).or_default() += 1;
        }
        drop(state);
        Pinned { store: Arc::clone(self), digests }
    }
    /// Opens a blob for reading; that counts as a use.
    ///
    /// # Errors
    /// `NotFound` if it is not here.
    pub fn read(&self, digest: &ContentDigest) -> io::Result<(File, u64)> {
        if self.has(digest).is_none() {
            return Err(io::ErrorKind::NotFound.into());
        }
        let file = File::open(self.path(digest)).inspect_err(|error| {
            // Somebody took it away.
            if error.kind() == io::ErrorKind::NotFound {
                self.state().held.remove(digest);
            }
        })?;
        let bytes = file.metadata()?.len();
        let mut state = self.state();
        state.clock += 1;
        let used = state.clock;
        if let Some(held) = state.held.get_mut(digest) {
            held.used = used;
        }
        drop(state);
        // For the next process; one that may not write there loses the order only.
        let _ = file.set_modified(now());
        Ok((file, bytes))
    }
    /// All of a small one.
    ///
    /// # Errors
    /// `NotFound` if it is not here, or too large for that.
    pub fn read_small(&self, digest: &ContentDigest, most: u64) -> io::Result<Vec<u8>> {
        let (file, bytes) = self.read(digest)?;
        if bytes > most {
            return Err(io::ErrorKind::NotFound.into());
        }
        let mut all = Vec::new();
        file.take(most).read_to_end(&mut all)?;
        Ok(all)
    }
    /// Takes a file in whose digest is right; otherwise it stays where it is.
    ///
    /// # Errors
    /// What the system says of the file.
    pub(crate) fn admit(&self, digest: &ContentDigest, coming: &Path) -> io::Result<bool> {
        let file = File::open(coming)?;
        let (found, bytes) = digest_of(&file)?;
        if found != *digest {
            return Ok(false);
        }
        file.sync_all()?;
        fs::rename(coming, self.path(digest))?;
        File::open(self.dir.join(WHOLE))?.sync_all()?;
        let mut state = self.state();
        state.clock += 1;
        let used = state.clock;
        state.held.insert(*digest, Held { bytes, used });
        drop(state);
        self.trim();
        Ok(true)
    }
    /// Keeps bytes whose digest is right.
    ///
    /// # Errors
    /// What the system says of the file; `InvalidData`: it is another digest's.
    pub(crate) fn keep(&self, digest: &ContentDigest, bytes: &[u8]) -> io::Result<()> {
        let path = self.coming(digest).with_extension("small");
        fs::write(&path, bytes)?;
        if self.admit(digest, &path)? { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
    }
    /// Lets go what is too much; whoever held something back does this afterwards.
    pub fn trim(&self) {
        let mut state = self.state();
        let mut bytes = state.held.values().fold(0u64, |sum, held| sum.saturating_add(held.bytes));
        while bytes > self.limit {
            let State { held, pins, .. } = &mut *state;
            let oldest = held.iter().filter(|(digest, _)| !pins.contains_key(digest)).min_by_key(|(_, held)| held.used);
            let Some((digest, held)) = oldest.map(|(digest, held)| (*digest, held.bytes)) else { return };
            if let Err(error) = fs::remove_file(self.path(&digest))
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(%error, %digest, "a blob of the cache of images cannot be removed");
            }
            state.held.remove(&digest);
            bytes = bytes.saturating_sub(held);
        }
    }
    /// Removes all that nobody uses now.
    pub fn clear(&self) {
        let mut state = self.state();
        let State { held, pins, .. } = &mut *state;
        let unused: Vec<ContentDigest> = held.keys().filter(|digest| !pins.contains_key(digest)).copied().collect();
        for digest in unused {
            let _ = fs::remove_file(self.path(&digest));
            held.remove(&digest);
        }
    }
}

/// The digest and size of a file.
pub(crate) fn digest_of(mut file: &File) -> io::Result<(ContentDigest, u64)> {
    let (mut hasher, mut buffer, mut total) = (Sha256::new(), vec![0; BUFFER], 0u64);
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            return Ok((ContentDigest(hasher.finalize().into()), total));
        }
        hasher.update(buffer.get(..n).unwrap_or_default());
        total = total.saturating_add(n as u64);
    }
}

/// The digest of bytes.
pub(crate) fn digest(bytes: &[u8]) -> ContentDigest {
    ContentDigest(Sha256::digest(bytes).into())
}

#[allow(clippy::disallowed_methods)] // when a file was used last, for the order in which they go
fn now() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(store: &Store, n: u8) -> ContentDigest {
        let bytes = vec![n; 100];
        let digest = digest(&bytes);
        store.keep(&digest, &bytes).unwrap();
        digest
    }

    #[test]
    fn what_was_used_longest_ago_goes_first_and_what_is_used_stays() {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(dir.path(), 300).unwrap());
        let [a, b, c] = [1, 2, 3].map(|n| kept(&store, n));
        assert_eq!(store.read_small(&a, 1_000).unwrap(), vec![1; 100]);
        let pin = store.pin(vec![b]);
        let d = kept(&store, 4);
        assert_eq!([a, b, c, d].map(|digest| store.has(&digest).is_some()), [true, true, false, true]);
        assert_eq!(store.recent(2), [d, a]);
        drop(pin);
        let e = kept(&store, 5);
        assert_eq!([a, b, d, e].map(|digest| store.has(&digest).is_some()), [true, false, true, true]);
        assert_eq!(store.full(), (3, 300));
        assert!(store.read(&b).is_err() && store.read_small(&a, 99).is_err());
    }

    #[test]
    fn a_later_process_finds_it_and_keeps_to_its_own_limit() {
        let dir = tempfile::tempdir().unwrap();
        let all = {
            let store = Store::open(dir.path(), 1_000).unwrap();
            [1, 2, 3].map(|n| kept(&store, n))
        };
        fs::write(dir.path().join(WHOLE).join("not ours"), b"x").unwrap();
        let store = Store::open(dir.path(), 200).unwrap();
        assert_eq!(store.full(), (2, 200));
        assert!(all.iter().filter(|digest| store.has(digest).is_some()).count() == 2);
        store.clear();
        assert_eq!(store.full(), (0, 0));
    }

    #[test]
    fn wrong_bytes_are_not_taken_in() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), 1_000).unwrap();
        let wanted = digest(b"wanted");
        assert_eq!(store.keep(&wanted, b"other").unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(store.has(&wanted), None);
    }
}
