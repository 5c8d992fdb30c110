//! A user's secrets on their own machine: one locked file each.
//!
//! ```text
//!  secrets/NAME    the value, locked (`seal.rs`) and bound to its name
//! ```
//! Guarantees: files are replaced as a whole, mode 0600 in a folder 0700; a file that was changed or renamed is refused. The key is the
//! caller's: who has it and the files has the secrets. It keeps no list: the folder is the list.

use crate::seal::{lock, unlock};
use crate::{StoreError, write_atomic};
use pasture_types::keep::check_kept_name;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

/// Largest value. It travels with the others in one request.
pub const MAX_SECRET_BYTES: usize = 16 << 10;
/// Most secrets of one user.
pub const MAX_KEPT_SECRETS: usize = 1024;
/// Largest file: a value with its nonce and check.
const MAX_FILE_BYTES: u64 = MAX_SECRET_BYTES as u64 + 64;

/// A folder of locked secrets.
pub struct Vault {
    dir: PathBuf,
    key: [u8; 32],
}

impl Vault {
    /// The vault in a folder, which need not exist.
    #[must_use]
    pub const fn new(dir: PathBuf, key: [u8; 32]) -> Self {
        Self { dir, key }
    }

    fn corrupt(path: &Path, detail: &str) -> StoreError {
        StoreError::Corrupt { path: path.into(), detail: detail.into() }
    }

    fn file(&self, name: &str) -> Result<PathBuf, StoreError> {
        check_kept_name(name).map_err(|why| Self::corrupt(&self.dir, &why))?;
        Ok(self.dir.join(name))
    }

    /// Keeps a value, in place of one of this name.
    ///
    /// # Errors
    /// [`StoreError`]; what was there is then still there.
    pub fn set(&self, name: &str, value: &[u8]) -> Result<(), StoreError> {
        let path = self.file(name)?;
        if value.len() > MAX_SECRET_BYTES {
            return Err(Self::corrupt(&path, &format!("a secret has at most {MAX_SECRET_BYTES} bytes")));
        }
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir).map_err(StoreError::io("create", &self.dir))?;
        if !path.exists() && self.names()?.len() >= MAX_KEPT_SECRETS {
            return Err(Self::corrupt(&self.dir, &format!("there are {MAX_KEPT_SECRETS} secrets already")));
        }
        let mut chance = [0; 32];
        getrandom::fill(&mut chance).map_err(|e| StoreError::io("lock", &path)(std::io::Error::other(e.to_string())))?;
        let locked = lock(&self.key, name.as_bytes(), value, chance).map_err(|e| Self::corrupt(&path, &e.to_string()))?;
        write_atomic(&path, &locked)
    }

    /// A value; `None` if there is none of this name.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if it was changed or locked with another key.
    pub fn get(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.file(name)?;
        match fs::metadata(&path) {
            Ok(meta) if meta.len() > MAX_FILE_BYTES => return Err(Self::corrupt(&path, "it is larger than a secret can be")),
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(StoreError::io("read", &path)(e)),
        }
        let locked = fs::read(&path).map_err(StoreError::io("read", &path))?;
        let value = unlock(&self.key, name.as_bytes(), &locked);
        value.map(Some).map_err(|_| Self::corrupt(&path, "it was changed, or locked with another account's key"))
    }

    /// All names, sorted.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn names(&self) -> Result<Vec<String>, StoreError> {
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(vec![]),
            Err(e) => return Err(StoreError::io("read", &self.dir)(e)),
        };
        let mut names = vec![];
        for entry in entries {
            let name = entry.map_err(StoreError::io("read", &self.dir))?.file_name();
            // A file that was being written when the machine went down is no secret.
            names.extend(name.to_str().filter(|n| check_kept_name(n).is_ok()).map(str::to_owned));
        }
        names.sort();
        Ok(names)
    }

    /// Removes a secret; whether there was one.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn remove(&self, name: &str) -> Result<bool, StoreError> {
        let path = self.file(name)?;
        match fs::remove_file(&path) {
            Ok(()) => crate::sync_dir(&self.dir).map(|()| true),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
            Err(e) => Err(StoreError::io("remove", &path)(e)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_secret_is_locked_private_and_bound_to_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let vault = Vault::new(dir.path().join("secrets"), [1; 32]);
        assert_eq!((vault.names().unwrap(), vault.get("a").unwrap()), (vec![], None));
        vault.set("token", b"open sesame").unwrap();
        vault.set("token", b"another").unwrap();
        vault.set("cert", &[0; MAX_SECRET_BYTES]).unwrap();
        assert_eq!(vault.names().unwrap(), ["cert", "token"]);
        assert_eq!(vault.get("token").unwrap().unwrap(), b"another");
        let path = dir.path().join("secrets/token");
        let bytes = fs::read(&path).unwrap();
        assert!(!bytes.windows(7).any(|w| w == b"another"));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(dir.path().join("secrets")).unwrap().permissions().mode() & 0o777, 0o700);
        fs::rename(&path, dir.path().join("secrets/other")).unwrap();
        assert!(matches!(vault.get("other"), Err(StoreError::Corrupt { .. })), "a value cannot be passed off as another");
        assert!(matches!(Vault::new(dir.path().join("secrets"), [2; 32]).get("cert"), Err(StoreError::Corrupt { .. })));
        assert!(vault.set("big", &[0; MAX_SECRET_BYTES + 1]).is_err());
        for name in ["", "..", "../x", "a/b"] {
            assert!(vault.set(name, b"x").is_err() && vault.get(name).is_err() && vault.remove(name).is_err(), "{name}");
        }
        assert!(vault.remove("other").unwrap() && !vault.remove("other").unwrap());
    }
}
