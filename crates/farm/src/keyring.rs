//! The keys of this machine: the account's own, which may be locked, and a device's that daily commands sign with while it is.
//!
//! ```text
//!  account.key   plain: everything signs with it          locked: opened for one command, by its passphrase
//!  device.key    -                                        signs daily commands, within a grant (`device.rs`)
//! ```
//! Guarantees: without a locked key nothing here asks anybody anything, and no device key is made. An opened key stays in this process.
//! Formats: `docs/specs/keys.md`.

use crate::config::Paths;
use crate::exit::Failure;
use crate::passphrase::{ATTEMPTS, Asker, Passphrase};
use crate::render::Output;
use crate::session::random;
use pasture_store::locked::{self, KeyFile, LockError, LockedKey};
use pasture_store::sealed::ReaderKey;
use pasture_store::{Vault, keys, write_atomic};
use pasture_types::{AccountId, Amount, PublicKey, SigningKey};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use zeroize::Zeroizing;

/// What a device may spend in a day unless its user says otherwise.
pub(crate) const DEFAULT_DAILY: Amount = Amount::credits(10);
/// What the file of a device key says that it is.
const DEVICE_FORM: &str = "pasture device key 1";
/// What locks the user's secrets is made from the account's key with this.
const VAULT_DOMAIN: &str = "pasture 2026-11 local secrets v1";

/// A device's key, and what it needs beside it.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Device {
    form: String,
    /// For which account.
    pub(crate) account: AccountId,
    seed: String,
    /// What it may spend in a day.
    pub(crate) daily: Amount,
    /// What locks the user's secrets: made from the account's key, of which it tells nothing.
    vault: String,
}

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Device({}, secret)", self.account.short())
    }
}

impl Device {
    /// A new one.
    pub(crate) fn make(main: &SigningKey, daily: Amount) -> Result<Self, Failure> {
        let (seed, vault) = (Zeroizing::new(random::<32>()?), Zeroizing::new(main.derive_secret(VAULT_DOMAIN)));
        let (seed, vault) = (hex::encode(seed.as_slice()), hex::encode(vault.as_slice()));
        Ok(Self { form: DEVICE_FORM.into(), account: main.account(), seed, daily, vault })
    }
    /// The same with another limit.
    pub(crate) fn with_daily(&self, daily: Amount) -> Self {
        Self { daily, ..self.clone() }
    }
    fn damaged(path: &Path) -> Failure {
        Failure::new("files", format!("{} is damaged, or of another version", path.display()))
            .next("move it away; the next command then asks for your main key's passphrase and makes another")
    }
    /// The device's key in a file; `None` if there is none.
    pub(crate) fn load(path: &Path) -> Result<Option<Self>, Failure> {
        let Some(text) = keys::read_private(path)?.map(Zeroizing::new) else { return Ok(None) };
        let device: Self = serde_json::from_str(&text).map_err(|_| Self::damaged(path))?;
        let whole = device.form == DEVICE_FORM && [&device.seed, &device.vault].iter().all(|s| bytes(s).is_some());
        if whole { Ok(Some(device)) } else { Err(Self::damaged(path)) }
    }
    /// Keeps it, readable by its owner only.
    pub(crate) fn save(&self, path: &Path) -> Result<(), Failure> {
        let text = serde_json::to_string(self).map(Zeroizing::new).map_err(|e| Failure::new("internal", e.to_string()))?;
        Ok(write_atomic(path, text.as_bytes())?)
    }
    /// Its key.
    pub(crate) fn key(&self) -> SigningKey {
        // Looked at when it was read.
        SigningKey::from_seed(bytes(&self.seed).unwrap_or_default())
    }
    /// The account by whose name it confirms service: that of its own key.
    pub(crate) fn watcher(&self) -> AccountId {
        self.key().account()
    }
}

fn bytes(text: &str) -> Option<[u8; 32]> {
    let mut out = [0; 32];
    hex::decode_to_slice(text, &mut out).ok().map(|()| out)
}

#[derive(Debug)]
enum Main {
    Plain,
    Locked(LockedKey),
}

/// The keys of this machine. Copies share an opened key.
#[derive(Clone, Debug)]
pub(crate) struct Keyring {
    main: Arc<Main>,
    public: PublicKey,
    opened: Arc<OnceLock<SigningKey>>,
    device: Option<Device>,
    asker: Asker,
    out: Output,
}

impl Keyring {
    /// Looks at what is there, and makes a first key if there is none. While the main key is locked there is a device's key, too.
    pub(crate) fn load(out: Output, paths: &Paths, asker: Asker) -> Result<Self, Failure> {
        paths.ensure_data_dir()?;
        let path = paths.account_key();
        let file = match locked::load(&path)? {
            Some(file) => file,
            None => {
                keys::load_or_create(&path)?;
                locked::load(&path)?.ok_or_else(|| Failure::new("internal", "the new key is gone"))?
            }
        };
        let public = file.public();
        let opened = OnceLock::new();
        let main = match file {
            KeyFile::Plain(seed) => {
                let _ = opened.set(SigningKey::from_seed(*seed));
                Main::Plain
            }
            KeyFile::Locked(locked) => Main::Locked(locked),
        };
        let mut ring = Self { main: Arc::new(main), public, opened: Arc::new(opened), device: None, asker, out };
        if ring.is_locked() {
            let known = Device::load(&paths.device_key())?.filter(|d| d.account == ring.account());
            ring.device = Some(match known {
                Some(device) => device,
                None => {
                    let main = ring.main("this device has no key of its own yet")?;
                    let device = Device::make(&main, DEFAULT_DAILY)?;
                    device.save(&paths.device_key())?;
                    device
                }
            });
        }
        Ok(ring)
    }

    /// The ring of an account whose key lies elsewhere, unlocked.
    pub(crate) fn of(key: SigningKey, out: Output, asker: Asker) -> Self {
        let public = key.public();
        Self { main: Arc::new(Main::Plain), public, opened: Arc::new(OnceLock::from(key)), device: None, asker, out }
    }

    /// The account.
    pub(crate) fn account(&self) -> AccountId {
        self.public.account()
    }
    /// The main key, without the secret of it.
    pub(crate) const fn public(&self) -> PublicKey {
        self.public
    }
    /// Whether the file needs a passphrase.
    pub(crate) fn is_locked(&self) -> bool {
        self.locked().is_some()
    }
    /// The locked file, if it is one.
    pub(crate) fn locked(&self) -> Option<&LockedKey> {
        match self.main.as_ref() {
            Main::Plain => None,
            Main::Locked(locked) => Some(locked),
        }
    }
    /// The device that signs in the place of a locked key.
    pub(crate) const fn device(&self) -> Option<&Device> {
        self.device.as_ref()
    }
    /// The main key, if nobody needs to be asked for it (any more).
    pub(crate) fn open_already(&self) -> Option<&SigningKey> {
        self.opened.get()
    }
    /// Who signs where either key will do.
    pub(crate) fn signer(&self) -> Result<SigningKey, Failure> {
        match (&self.device, self.opened.get()) {
            (Some(device), _) => Ok(device.key()),
            (None, Some(key)) => Ok(key.clone()),
            (None, None) => Err(Failure::new("internal", "a locked key without a device")),
        }
    }

    /// The main key; `why` it is needed is said to whoever is asked for the passphrase.
    pub(crate) fn main(&self, why: &str) -> Result<SigningKey, Failure> {
        self.main_with_passphrase(why).map(|(key, _)| key)
    }

    /// The same with the passphrase, if it was asked for now.
    pub(crate) fn main_with_passphrase(&self, why: &str) -> Result<(SigningKey, Option<Passphrase>), Failure> {
        if let Some(key) = self.opened.get() {
            return Ok((key.clone(), None));
        }
        let Main::Locked(locked) = self.main.as_ref() else { return Err(Failure::new("internal", "a plain key is open")) };
        let (seed, passphrase) = open(self.out, &self.asker, locked, "main key", why)?;
        let key = SigningKey::from_seed(*seed);
        Ok((self.opened.get_or_init(|| key).clone(), Some(passphrase)))
    }

    /// The user's secrets.
    pub(crate) fn vault(&self, paths: &Paths) -> Result<Vault, Failure> {
        Ok(Vault::new(paths.secrets(), self.local_key()?))
    }
    /// What opens the logs and the output of the account's jobs: the same on each of its devices, and in a copy of the main key.
    pub(crate) fn reader(&self) -> Result<ReaderKey, Failure> {
        Ok(ReaderKey::derived(&self.local_key()?))
    }
    /// The secret that is made from the main key for what is locked and opened on the user's machines.
    fn local_key(&self) -> Result<[u8; 32], Failure> {
        Ok(match (&self.device, self.opened.get()) {
            (Some(device), _) => bytes(&device.vault).unwrap_or_default(),
            (None, Some(key)) => key.derive_secret(VAULT_DOMAIN),
            (None, None) => return Err(Failure::new("internal", "a locked key without a device")),
        })
    }
}

/// Opens a locked key with the passphrase that somebody is asked for.
pub(crate) fn open(
    out: Output,
    asker: &Asker,
    locked: &LockedKey,
    what: &str,
    why: &str,
) -> Result<(Zeroizing<[u8; 32]>, Passphrase), Failure> {
    if asker.is_person() {
        out.warn(why);
    }
    for attempt in 1..=ATTEMPTS {
        let passphrase = asker.ask(&format!("Passphrase of your {what}: "))?.ok_or_else(|| nobody(what, why))?;
        match locked.open(&passphrase) {
            Ok(seed) => return Ok((seed, passphrase)),
            Err(LockError::WrongPassphrase) if asker.is_person() && attempt < ATTEMPTS => out.warn("that is not it"),
            Err(LockError::WrongPassphrase) => {
                return Err(Failure::new("wrong-passphrase", format!("{} is not the passphrase of your {what}", asker.source()))
                    .next("try again; a copy may have another one:  farm keys restore FILE"));
            }
            Err(e @ LockError::Damaged(_)) => {
                return Err(
                    Failure::new("files", format!("your {what} does not open: {e}")).next("take your copy:  farm keys restore FILE")
                );
            }
            Err(e @ LockError::Unable(_)) => return Err(Failure::new("internal", e.to_string())),
        }
    }
    Err(Failure::new("internal", "asked too often"))
}

fn nobody(what: &str, why: &str) -> Failure {
    Failure::new("locked", format!("{why}; that needs your {what}, which is locked, and nobody can be asked here for its passphrase"))
        .next("run it at a terminal")
        .next("or name a file with the passphrase, which only you can read:  --passphrase-file FILE  (also: FARM_PASSPHRASE_FILE)")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_device_file_is_private_whole_and_tells_nothing_of_the_main_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("device.key");
        let main = SigningKey::from_seed([9; 32]);
        let device = Device::make(&main, Amount::credits(3)).unwrap();
        assert!(Device::load(&path).unwrap().is_none());
        device.save(&path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains(&hex::encode([9; 32])));
        let read = Device::load(&path).unwrap().unwrap();
        assert_eq!((read.key().public(), read.daily, read.account), (device.key().public(), device.daily, main.account()));
        assert!(!format!("{read:?}").contains(&read.seed));
        std::fs::write(&path, &text[..text.len() - 9]).unwrap();
        assert_eq!(Device::load(&path).unwrap_err().code, "files");
        std::fs::write(&path, text.replace(&device.seed, "00")).unwrap();
        assert_eq!(Device::load(&path).unwrap_err().code, "files");
        std::fs::write(&path, &text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(Device::load(&path).unwrap_err().code, "files");
    }
}
