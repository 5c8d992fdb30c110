//! A key file that needs a passphrase. Form and reasons: `docs/specs/keys.md` §1.
//!
//! ```text
//!  pasture locked key 1
//!  key ed25519:...                      whose it is: seen without the passphrase
//!  kdf argon2id 65536 3 1               KiB, passes, lanes
//!  salt ...
//!  locked ...                           the seed, locked (`seal.rs`) and bound to the lines above
//!  check ...                            of all lines above: damage is told apart from a wrong passphrase
//! ```
//! Guarantees: without the passphrase the file tells nothing of the seed; a changed file does not open, and what a file asks of this
//! machine is bounded before it is done. Files are replaced as a whole, mode 0600, and what they replace is overwritten. It asks
//! nobody for a passphrase and keeps none.

use crate::keys::{read_private, save_seed};
use crate::seal::{lock, unlock};
use crate::{StoreError, write_atomic};
use argon2::{Algorithm, Argon2, Params, Version};
use pasture_types::ids::derive;
use pasture_types::keys::parse_public_key;
use pasture_types::{PublicKey, SigningKey};
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::Path;
use zeroize::Zeroizing;

/// First line of the file.
const MAGIC: &str = "pasture locked key 1";
const CHECK_DOMAIN: &str = "pasture 2026-11 locked key check v1";
/// Memory for one try, in KiB: what RFC 9106 advises where memory is short. A guesser pays it for each guess.
const MEMORY_KIB: u32 = 64 * 1024;
/// Passes over it.
const PASSES: u32 = 3;
/// Most that a file may ask for, so that a changed one cannot take this machine's memory or hours.
const MAX_MEMORY_KIB: u32 = 1024 * 1024;
/// The same for passes.
const MAX_PASSES: u32 = 32;
/// The same for lanes.
const MAX_LANES: u32 = 16;
const SALT: usize = 16;
const CHECK: usize = 8;
/// Largest file: it has a tenth of that, and room for remarks.
const MAX_FILE_BYTES: u64 = 8 * 1024;

/// Why a locked key does not open.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// It is not what was written.
    #[error("the file is damaged: {0}")]
    Damaged(String),
    /// The passphrase is another one.
    #[error("the passphrase is wrong")]
    WrongPassphrase,
    /// The machine cannot do it.
    #[error("the key cannot be locked or opened here: {0}")]
    Unable(String),
}

/// What a passphrase must be turned into, and how dear that is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Cost {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

/// A key that needs a passphrase.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LockedKey {
    public: PublicKey,
    cost: Cost,
    salt: [u8; SALT],
    locked: Vec<u8>,
}

pub(crate) fn chance<const N: usize>() -> Result<[u8; N], LockError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|e| LockError::Unable(format!("the system gives no random numbers: {e}")))?;
    Ok(bytes)
}

impl Cost {
    /// What is asked of this machine for a new one.
    pub(crate) const NEW: Self = Self { memory_kib: MEMORY_KIB, passes: PASSES, lanes: 1 };

    /// The key that a passphrase makes.
    pub(crate) fn stretch(self, passphrase: &[u8], salt: &[u8]) -> Result<Zeroizing<[u8; 32]>, LockError> {
        let unable = |e: argon2::Error| LockError::Unable(e.to_string());
        let params = Params::new(self.memory_kib, self.passes, self.lanes, Some(32)).map_err(unable)?;
        let mut out = Zeroizing::new([0; 32]);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params).hash_password_into(passphrase, salt, out.as_mut()).map_err(unable)?;
        Ok(out)
    }
}

impl std::fmt::Display for Cost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "argon2id {} {} {}", self.memory_kib, self.passes, self.lanes)
    }
}

impl LockedKey {
    /// Locks a key's seed with a passphrase.
    ///
    /// # Errors
    /// [`LockError::Unable`].
    pub fn lock(seed: &[u8; 32], passphrase: &[u8]) -> Result<Self, LockError> {
        let cost = Cost::NEW;
        let mut made = Self { public: SigningKey::from_seed(*seed).public(), cost, salt: chance()?, locked: vec![] };
        let key = cost.stretch(passphrase, &made.salt)?;
        made.locked = lock(&key, made.head().as_bytes(), seed, chance()?).map_err(|e| LockError::Unable(e.to_string()))?;
        Ok(made)
    }

    /// The seed.
    ///
    /// # Errors
    /// [`LockError::WrongPassphrase`], or what is wrong with the file.
    pub fn open(&self, passphrase: &[u8]) -> Result<Zeroizing<[u8; 32]>, LockError> {
        let key = self.cost.stretch(passphrase, &self.salt)?;
        let plain = Zeroizing::new(unlock(&key, self.head().as_bytes(), &self.locked).map_err(|_| LockError::WrongPassphrase)?);
        let seed: [u8; 32] = plain.as_slice().try_into().map_err(|_| LockError::Damaged("what is locked is no key".into()))?;
        if SigningKey::from_seed(seed).public() != self.public {
            return Err(LockError::Damaged("what is locked is another key than the file says".into()));
        }
        Ok(Zeroizing::new(seed))
    }

    /// Whose it is.
    #[must_use]
    pub const fn public(&self) -> PublicKey {
        self.public
    }

    fn head(&self) -> String {
        format!("{MAGIC}\nkey {}\nkdf {}\nsalt {}\n", self.public, self.cost, hex::encode(self.salt))
    }

    /// The file, without remarks.
    #[must_use]
    pub fn to_text(&self) -> String {
        let body = format!("{}locked {}\n", self.head(), hex::encode(&self.locked));
        let check = check(&body);
        format!("{body}check {check}\n")
    }

    /// Whether a file's text is a locked key, whole or not; otherwise it is a plain one.
    #[must_use]
    pub fn is_one(text: &str) -> bool {
        text.lines().find(|line| !is_remark(line)).is_some_and(|line| line.starts_with("pasture locked key"))
    }

    /// Reads a file's text.
    ///
    /// # Errors
    /// [`LockError::Damaged`].
    pub fn parse(text: &str) -> Result<Self, LockError> {
        let damaged = |why: &str| LockError::Damaged(why.into());
        let mut lines = text.lines().filter(|line| !is_remark(line));
        if lines.next() != Some(MAGIC) {
            return Err(damaged("it is no locked key of a version that is known here"));
        }
        let mut field = |name: &str| {
            let line = lines.next().and_then(|l| l.strip_prefix(name)?.strip_prefix(' '));
            line.map(str::to_owned).ok_or_else(|| LockError::Damaged(format!("its line `{name}` is missing")))
        };
        let (public, kdf, salt) = (field("key")?, field("kdf")?, field("salt")?);
        let (locked, sum) = (field("locked")?, field("check")?);
        let public = parse_public_key(&public).map_err(|_| damaged("its key cannot be read"))?;
        let made = Self { public, cost: cost(&kdf)?, salt: bytes(&salt)?, locked: bytes::<80>(&locked)?.to_vec() };
        if check(&format!("{}locked {}\n", made.head(), hex::encode(&made.locked))) != sum {
            return Err(damaged("its check does not fit"));
        }
        Ok(made)
    }
}

/// Lines for people; blank ones too, as copying adds some.
fn is_remark(line: &str) -> bool {
    line.is_empty() || line.starts_with('#')
}

fn check(body: &str) -> String {
    hex::encode(derive(CHECK_DOMAIN, &[body.as_bytes()]).first_chunk::<CHECK>().unwrap_or(&[0; CHECK]))
}

fn bytes<const N: usize>(text: &str) -> Result<[u8; N], LockError> {
    let mut out = [0; N];
    hex::decode_to_slice(text, &mut out)
        .map_err(|_| LockError::Damaged("a line has the wrong length or other signs than hex digits".into()))?;
    Ok(out)
}

pub(crate) fn cost(text: &str) -> Result<Cost, LockError> {
    let mut words = text.split(' ');
    if words.next() != Some("argon2id") {
        return Err(LockError::Damaged("it was locked in a way that is not known here".into()));
    }
    let mut number = |most: u32| {
        let n = words.next().and_then(|w| w.parse::<u32>().ok()).filter(|n| (1..=most).contains(n));
        n.ok_or_else(|| LockError::Damaged("what it asks of this machine is out of bounds".into()))
    };
    Ok(Cost { memory_kib: number(MAX_MEMORY_KIB)?, passes: number(MAX_PASSES)?, lanes: number(MAX_LANES)? })
}

/// What a key file holds.
pub enum KeyFile {
    /// The seed, as it is.
    Plain(Zeroizing<[u8; 32]>),
    /// A key that needs a passphrase.
    Locked(LockedKey),
}

impl KeyFile {
    /// Whose key it is.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        match self {
            Self::Plain(seed) => SigningKey::from_seed(**seed).public(),
            Self::Locked(locked) => locked.public(),
        }
    }
}

/// Loads a key file of either form; `None` if there is none.
///
/// # Errors
/// [`StoreError::KeyExposed`], [`StoreError::Corrupt`] or [`StoreError::Io`].
pub fn load(path: &Path) -> Result<Option<KeyFile>, StoreError> {
    let Some(text) = read_private(path)?.map(Zeroizing::new) else { return Ok(None) };
    if LockedKey::is_one(&text) {
        let corrupt = |e: LockError| StoreError::Corrupt { path: path.into(), detail: e.to_string() };
        return LockedKey::parse(&text).map(|k| Some(KeyFile::Locked(k))).map_err(corrupt);
    }
    Ok(crate::keys::load_seed(path)?.map(|seed| KeyFile::Plain(Zeroizing::new(seed))))
}

/// Puts a key file in the place of what is there, which is overwritten once the new one lies on the disk.
///
/// # Errors
/// [`StoreError`]; before the new file lies there, the old one still does.
pub fn save(path: &Path, key: &KeyFile) -> Result<(), StoreError> {
    let old = OpenOptions::new().write(true).open(path).ok();
    match key {
        KeyFile::Plain(seed) => save_seed(path, seed)?,
        KeyFile::Locked(locked) => write_atomic(path, locked.to_text().as_bytes())?,
    }
    // The new file has another inode. A file system that never writes in place keeps the old bytes all the same.
    old.map_or(Ok(()), |mut old| overwrite(&mut old)).map_err(StoreError::io("overwrite what was before in", path))
}

fn overwrite(file: &mut File) -> std::io::Result<()> {
    let len = usize::try_from(file.metadata()?.len().min(MAX_FILE_BYTES)).unwrap_or(0);
    file.write_all(&vec![0; len])?;
    file.sync_all()
}

/// Reads a copy that somebody kept elsewhere: its mode is their business, since it is locked.
///
/// # Errors
/// [`StoreError::Io`] or [`StoreError::Corrupt`].
pub fn read_copy(path: &Path) -> Result<LockedKey, StoreError> {
    let mut text = String::new();
    File::open(path).and_then(|f| f.take(MAX_FILE_BYTES).read_to_string(&mut text)).map_err(StoreError::io("read", path))?;
    LockedKey::parse(&text).map_err(|e| StoreError::Corrupt { path: path.into(), detail: e.to_string() })
}

/// Writes a copy with remarks for people, where no file is yet.
///
/// # Errors
/// [`StoreError::Io`], also where there is one.
pub fn write_copy(path: &Path, key: &LockedKey, remarks: &[&str]) -> Result<(), StoreError> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let said: String = remarks.iter().map(|line| format!("# {line}\n")).collect();
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(StoreError::io("create", path))?;
    file.write_all(format!("{said}{}", key.to_text()).as_bytes()).and_then(|()| file.sync_all()).map_err(StoreError::io("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    const SEED: [u8; 32] = [7; 32];

    /// As dear as tests can bear.
    fn cheap(passphrase: &[u8]) -> LockedKey {
        let cost = Cost { memory_kib: 64, passes: 1, lanes: 1 };
        let mut made = LockedKey { public: SigningKey::from_seed(SEED).public(), cost, salt: [1; SALT], locked: vec![] };
        let key = cost.stretch(passphrase, &made.salt).unwrap();
        made.locked = lock(&key, made.head().as_bytes(), &SEED, [2; 32]).unwrap();
        made
    }

    #[test]
    fn a_key_opens_with_its_passphrase_alone() {
        let locked = LockedKey::lock(&SEED, b"correct horse").unwrap();
        let read = LockedKey::parse(&locked.to_text()).unwrap();
        assert_eq!(read, locked);
        assert_eq!(*read.open(b"correct horse").unwrap(), SEED);
        assert!(matches!(read.open(b"correct horsf"), Err(LockError::WrongPassphrase)));
        assert!(matches!(read.open(b""), Err(LockError::WrongPassphrase)));
        assert!(!locked.to_text().contains(&hex::encode(SEED)));
    }

    #[test]
    fn the_form_is_frozen() {
        assert_eq!(cheap(b"passphrase").to_text(), include_str!("../tests/golden/locked_key.txt"));
    }

    #[test]
    fn a_changed_or_cut_file_is_damaged_and_not_a_wrong_passphrase() {
        let text = cheap(b"p").to_text();
        for at in 0..text.len() - 1 {
            assert!(matches!(LockedKey::parse(&text[..at]), Err(LockError::Damaged(_))), "cut at {at}");
            let mut changed = text.clone().into_bytes();
            changed[at] = if changed[at] == b'1' { b'2' } else { b'1' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(matches!(LockedKey::parse(&changed), Err(LockError::Damaged(_))), "changed at {at}");
        }
        let remarked = format!("# mine\n\n{text}");
        assert_eq!(LockedKey::parse(&remarked).unwrap(), cheap(b"p"));
        assert!(LockedKey::is_one(&remarked) && LockedKey::is_one(&text[..40]) && !LockedKey::is_one("00ff"));
    }

    #[test]
    fn who_changes_the_head_and_its_check_opens_nothing() {
        let mut other = cheap(b"p");
        other.public = SigningKey::from_seed([8; 32]).public();
        let read = LockedKey::parse(&other.to_text()).unwrap();
        assert!(matches!(read.open(b"p"), Err(LockError::WrongPassphrase)));
    }

    #[test]
    fn a_file_cannot_ask_for_all_memory() {
        for kdf in ["argon2id 4294967295 3 1", "argon2id 65536 1000000 1", "argon2id 65536 3 0", "argon2id 65536 3", "scrypt 1 2 3"] {
            assert!(cost(kdf).is_err(), "{kdf}");
        }
        assert!(cost("argon2id 65536 3 1").is_ok());
    }

    #[test]
    fn files_are_private_and_what_was_there_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("account.key");
        assert!(load(&path).unwrap().is_none());
        save_seed(&path, &SEED).unwrap();
        // Another name for the old file shows what becomes of it.
        let old = dir.path().join("old");
        std::fs::hard_link(&path, &old).unwrap();
        let Some(KeyFile::Plain(seed)) = load(&path).unwrap() else { panic!() };
        assert_eq!(*seed, SEED);
        save(&path, &KeyFile::Locked(cheap(b"p"))).unwrap();
        assert!(std::fs::read(&old).unwrap().iter().all(|b| *b == 0));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let Some(KeyFile::Locked(locked)) = load(&path).unwrap() else { panic!() };
        assert_eq!(*locked.open(b"p").unwrap(), SEED);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(load(&path), Err(StoreError::KeyExposed { mode: 0o640, .. })));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&path, &cheap(b"p").to_text()[..200]).unwrap();
        assert!(matches!(load(&path), Err(StoreError::Corrupt { .. })));
    }

    #[test]
    fn a_copy_replaces_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("copy");
        write_copy(&path, &cheap(b"p"), &["a copy"]).unwrap();
        assert!(std::fs::read_to_string(&path).unwrap().starts_with("# a copy\n"));
        assert_eq!(read_copy(&path).unwrap(), cheap(b"p"));
        assert!(write_copy(&path, &cheap(b"q"), &[]).is_err());
        assert_eq!(read_copy(&path).unwrap(), cheap(b"p"));
    }
}
