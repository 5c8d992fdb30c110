//! A data directory: private to its owner, locked by one process.

use crate::StoreError;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// A directory that this process owns for as long as the value lives.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    lock: File,
}

impl DataDir {
    /// Creates the directory if needed (mode 0700) and locks it.
    ///
    /// # Errors
    /// [`StoreError::Locked`] if another process uses it.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(StoreError::io("create", path))?;
        let lock_path = path.join("lock");
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&lock_path)
            .map_err(StoreError::io("open", &lock_path))?;
        lock.set_permissions(std::fs::Permissions::from_mode(0o600)).map_err(StoreError::io("protect", &lock_path))?;
        if lock.try_lock().is_err() {
            let mut pid = String::new();
            let _ = lock.read_to_string(&mut pid);
            return Err(StoreError::Locked { path: path.into(), holder: pid.trim().parse().ok() });
        }
        lock.set_len(0)
            .and_then(|()| lock.rewind())
            .and_then(|()| writeln!(lock, "{}", std::process::id()))
            .map_err(StoreError::io("write", &lock_path))?;
        Ok(Self { path: path.into(), lock })
    }
    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
    /// A subdirectory, created if needed.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn sub(&self, name: &str) -> Result<PathBuf, StoreError> {
        let path = self.path.join(name);
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(StoreError::io("create", &path))?;
        Ok(path)
    }
}

impl Drop for DataDir {
    /// Said, and not left to the closing of the file: a program that this process is just starting has a copy of it until it runs.
    fn drop(&mut self) {
        let _ = self.lock.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_directory_has_one_owner() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataDir::open(&dir.path().join("d")).unwrap();
        let error = DataDir::open(first.path()).unwrap_err();
        assert!(error.to_string().contains(&format!("pid {}", std::process::id())), "{error}");
        let path = first.path().to_path_buf();
        // As a program has it that was forked and does not run yet.
        let _copy = first.lock.try_clone().unwrap();
        drop(first);
        DataDir::open(&path).unwrap();
    }
}
