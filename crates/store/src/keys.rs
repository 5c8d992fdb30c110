//! Key files: 32 secret bytes in hex, readable by their owner only.

use crate::{StoreError, write_atomic};
use pasture_types::SigningKey;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// Loads the Ed25519 key at a path, or makes one. The file's mode must keep others out.
///
/// # Errors
/// [`StoreError::KeyExposed`], [`StoreError::Corrupt`] or [`StoreError::Io`].
pub fn load_or_create(path: &Path) -> Result<SigningKey, StoreError> {
    load_or_create_seed(path).map(SigningKey::from_seed)
}

/// The same for a raw 32-byte seed (for keys of other schemes).
///
/// # Errors
/// As [`load_or_create`].
pub fn load_or_create_seed(path: &Path) -> Result<[u8; 32], StoreError> {
    if let Some(seed) = load_seed(path)? {
        return Ok(seed);
    }
    let mut seed = [0u8; 32];
    getrandom::fill(&mut seed).map_err(|e| StoreError::io("make a key for", path)(std::io::Error::other(e.to_string())))?;
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).map_err(StoreError::io("create", dir))?;
    }
    save_seed(path, &seed)?;
    Ok(seed)
}

/// Writes a seed, readable by its owner only; replaces what is there.
///
/// # Errors
/// [`StoreError::Io`].
pub fn save_seed(path: &Path, seed: &[u8; 32]) -> Result<(), StoreError> {
    // `write_atomic` goes through a temporary file that is created with mode 0600.
    write_atomic(path, format!("{}\n", hex::encode(seed)).as_bytes())
}

/// Loads a seed; `None` if there is no file.
///
/// # Errors
/// As [`load_or_create`].
pub fn load_seed(path: &Path) -> Result<Option<[u8; 32]>, StoreError> {
    let Some(text) = read_private(path)? else { return Ok(None) };
    let mut seed = [0u8; 32];
    hex::decode_to_slice(text.trim(), &mut seed)
        .map_err(|_| StoreError::Corrupt { path: path.into(), detail: "it is not 64 hex digits".into() })?;
    Ok(Some(seed))
}

/// The text of a file that its owner alone may read; `None` if there is none.
///
/// # Errors
/// As [`load_or_create`].
pub fn read_private(path: &Path) -> Result<Option<String>, StoreError> {
    let meta = match std::fs::metadata(path) {
        Ok(m) => m,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(StoreError::io("read", path)(e)),
    };
    let mode = meta.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(StoreError::KeyExposed { path: path.into(), mode });
    }
    std::fs::read_to_string(path).map(Some).map_err(StoreError::io("read", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_kept_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub/key");
        let key = load_or_create(&path).unwrap();
        assert_eq!(load_or_create(&path).unwrap().public(), key.public());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(load_or_create(&path), Err(StoreError::KeyExposed { mode: 0o644, .. })));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&path, "zz").unwrap();
        assert!(matches!(load_or_create(&path), Err(StoreError::Corrupt { .. })));
    }
}
