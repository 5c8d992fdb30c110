//! Blobs that arrive in pieces: a partial file that grows, and a hash that must be right before it counts.

use crate::StoreError;
use crate::file::sync_dir;
use pasture_types::BlobHash;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

/// A blob of known hash and size that is being received into a file.
#[derive(Debug)]
pub struct PartialBlob {
    path: PathBuf,
    partial: PathBuf,
    file: File,
    received: u64,
    size: u64,
    hash: BlobHash,
}

impl PartialBlob {
    /// Opens the partial file beside `path`, keeping what has arrived before.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn open(path: &Path, hash: BlobHash, size: u64) -> Result<Self, StoreError> {
        let partial = path.with_extension("partial");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&partial)
            .map_err(StoreError::io("open", &partial))?;
        let received = file.metadata().map_err(StoreError::io("read", &partial))?.len();
        let mut this = Self { path: path.into(), partial, file, received, size, hash };
        if received > size {
            this.truncate(0)?;
        }
        Ok(this)
    }
    /// Bytes stored so far: where the sender goes on.
    #[must_use]
    pub const fn received(&self) -> u64 {
        self.received
    }
    fn truncate(&mut self, to: u64) -> Result<(), StoreError> {
        self.file.set_len(to).map_err(StoreError::io("truncate", &self.partial))?;
        self.received = to;
        Ok(())
    }
    /// Appends bytes that begin at `offset`, which must be [`PartialBlob::received`].
    ///
    /// # Errors
    /// [`StoreError::Mismatch`] for a wrong offset or more bytes than announced.
    pub fn append(&mut self, offset: u64, bytes: &[u8]) -> Result<(), StoreError> {
        let mismatch = |detail: String| StoreError::Mismatch { path: self.path.clone(), detail };
        if offset != self.received {
            return Err(mismatch(format!("bytes from {offset} were sent where {} was next", self.received)));
        }
        let end = self.received.saturating_add(bytes.len() as u64);
        if end > self.size {
            return Err(mismatch(format!("more than the announced {} bytes were sent", self.size)));
        }
        self.file.seek(SeekFrom::Start(offset)).map_err(StoreError::io("seek in", &self.partial))?;
        self.file.write_all(bytes).map_err(StoreError::io("write", &self.partial))?;
        self.received = end;
        Ok(())
    }
    /// If all bytes are there, checks the hash and moves the file to its place. Says whether the blob is complete.
    ///
    /// # Errors
    /// [`StoreError::Mismatch`] if the hash is wrong; the partial file is then emptied, so that sending can start over.
    pub fn finish(&mut self) -> Result<bool, StoreError> {
        if self.received < self.size {
            self.file.sync_data().map_err(StoreError::io("sync", &self.partial))?;
            return Ok(false);
        }
        self.file.sync_all().map_err(StoreError::io("sync", &self.partial))?;
        let (hash, _) = hash_file(&self.partial)?;
        if hash != self.hash {
            self.truncate(0)?;
            return Err(StoreError::Mismatch { path: self.path.clone(), detail: format!("its hash is {hash}, not {}", self.hash) });
        }
        std::fs::rename(&self.partial, &self.path).map_err(StoreError::io("rename", &self.partial))?;
        self.path.parent().map_or(Ok(()), sync_dir)?;
        Ok(true)
    }
}

/// The BLAKE3 hash and size of a file, read in pieces.
///
/// # Errors
/// [`StoreError::Io`].
pub fn hash_file(path: &Path) -> Result<(BlobHash, u64), StoreError> {
    let mut file = File::open(path).map_err(StoreError::io("open", path))?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0u8; 1 << 16];
    let mut total = 0u64;
    loop {
        let n = file.read(&mut buffer).map_err(StoreError::io("read", path))?;
        if n == 0 {
            return Ok((BlobHash(*hasher.finalize().as_bytes()), total));
        }
        hasher.update(buffer.get(..n).unwrap_or_default());
        total = total.saturating_add(n as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_resumes_and_a_wrong_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("context.tar");
        let hash = pasture_types::blob::hash(b"hello world");
        let mut blob = PartialBlob::open(&path, hash, 11).unwrap();
        blob.append(0, b"hello").unwrap();
        assert!(!blob.finish().unwrap());
        drop(blob);
        let mut blob = PartialBlob::open(&path, hash, 11).unwrap();
        assert_eq!(blob.received(), 5);
        assert!(matches!(blob.append(4, b"x"), Err(StoreError::Mismatch { .. })));
        blob.append(5, b" w0rld").unwrap();
        assert!(matches!(blob.finish(), Err(StoreError::Mismatch { .. })));
        assert_eq!(blob.received(), 0);
        blob.append(0, b"hello world").unwrap();
        assert!(blob.finish().unwrap());
        assert_eq!(std::fs::read(&path).unwrap(), b"hello world");
        let mut more = PartialBlob::open(&path.with_file_name("b"), hash, 11).unwrap();
        assert!(matches!(more.append(0, &[0; 12]), Err(StoreError::Mismatch { .. })));
    }
}
