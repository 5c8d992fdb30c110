//! Atomic writes and checksummed records.

use crate::StoreError;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::File;
use std::io::Write as _;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

/// Largest record file.
const MAX_RECORD_BYTES: u64 = 16 << 20;

/// Replaces a file's content: temporary file, fsync, rename, fsync of the directory.
///
/// # Errors
/// [`StoreError::Io`]; the old content is then still there.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let dir = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let mut temp = tempfile::NamedTempFile::new_in(dir).map_err(StoreError::io("create a file in", dir))?;
    temp.write_all(bytes).map_err(StoreError::io("write", path))?;
    temp.as_file().sync_all().map_err(StoreError::io("sync", path))?;
    temp.persist(path).map_err(|e| StoreError::io("replace", path)(e.error))?;
    sync_dir(dir)
}

/// Makes renames and removals in a directory durable.
///
/// # Errors
/// [`StoreError::Io`].
pub fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    File::open(dir).and_then(|d| d.sync_all()).map_err(StoreError::io("sync", dir))
}

/// One JSON value in a file, with a checksum in its first line.
#[derive(Debug, Clone)]
pub struct RecordFile<T> {
    path: PathBuf,
    kind: PhantomData<fn() -> T>,
}

impl<T: Serialize + DeserializeOwned> RecordFile<T> {
    /// A record at a path; the file need not exist.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), kind: PhantomData }
    }
    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
    /// Reads the record; `None` if there is no file.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if it is not what was written.
    pub fn load(&self) -> Result<Option<T>, StoreError> {
        let size = match std::fs::metadata(&self.path) {
            Ok(m) => m.len(),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(StoreError::io("read", &self.path)(e)),
        };
        let corrupt = |detail: String| StoreError::Corrupt { path: self.path.clone(), detail };
        if size > MAX_RECORD_BYTES {
            return Err(corrupt(format!("{size} bytes where at most {MAX_RECORD_BYTES} are expected")));
        }
        let bytes = std::fs::read(&self.path).map_err(StoreError::io("read", &self.path))?;
        let text = String::from_utf8(bytes).map_err(|_| corrupt("it is not text".into()))?;
        let (sum, body) = text.split_once('\n').ok_or_else(|| corrupt("it has no checksum line".into()))?;
        if sum != checksum(body) {
            return Err(corrupt("its checksum does not match".into()));
        }
        serde_json::from_str(body).map(Some).map_err(|e| corrupt(e.to_string()))
    }
    /// Replaces the record durably.
    ///
    /// # Errors
    /// [`StoreError::Io`]; the old record is then still there.
    pub fn save(&self, value: &T) -> Result<(), StoreError> {
        let body = serde_json::to_string(value).map_err(|e| StoreError::Corrupt { path: self.path.clone(), detail: e.to_string() })?;
        write_atomic(&self.path, format!("{}\n{body}", checksum(&body)).as_bytes())
    }
    /// Removes the record; an absent one is fine.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn remove(&self) -> Result<(), StoreError> {
        match std::fs::remove_file(&self.path) {
            Ok(()) => self.path.parent().map_or(Ok(()), sync_dir),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(StoreError::io("remove", &self.path)(e)),
        }
    }
}

fn checksum(body: &str) -> String {
    format!("blake3:{}", blake3::hash(body.as_bytes()).to_hex())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_back_or_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let record = RecordFile::<Vec<u32>>::new(dir.path().join("r"));
        assert!(record.load().unwrap().is_none());
        record.save(&vec![1, 2]).unwrap();
        assert_eq!(record.load().unwrap(), Some(vec![1, 2]));
        let mut bytes = std::fs::read(record.path()).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(record.path(), bytes).unwrap();
        let error = record.load().unwrap_err();
        assert!(error.to_string().contains(&record.path().display().to_string()), "{error}");
        record.remove().unwrap();
        assert!(record.load().unwrap().is_none());
    }
}
