//! Which volumes this node keeps, for whom and until when: the decisions, without clock, disk or engine.
//!
//! Guarantees: a volume is of one account and name; one job writes to it, or several read it; what is promised never exceeds the space
//! for one account and for all; nothing in use is removed or replaced. The book is what counts: a file system that is not in it is
//! nobody's.

use pasture_api::volumes::{SnapshotView, VolumeView};
use pasture_runtime::VolumeKey;
use pasture_types::keep::VolumeMount;
use pasture_types::{AccountId, LeaseId, Millis, Timestamp};
use serde::{Deserialize, Serialize};

use super::error::VolumeError;

/// Most volumes of one account.
pub(crate) const MAX_PER_ACCOUNT: usize = 32;
/// Most volumes in all: the record is one file.
pub(crate) const MAX_IN_ALL: usize = 4096;
/// Most snapshots of one volume.
pub(crate) const MAX_SNAPSHOTS: usize = 16;
/// Most jobs that read one volume at once.
const MAX_USERS: usize = 64;

/// How much is kept, and for how long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Limits {
    /// After the last job that had it.
    pub(crate) keep: Millis,
    /// Sizes of all volumes and snapshots together.
    pub(crate) bytes: u64,
    /// The same for one account.
    pub(crate) account_bytes: u64,
}

/// A job that has a volume.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct User {
    pub(crate) lease: LeaseId,
    pub(crate) read_only: bool,
}

/// A snapshot.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Snapshot {
    pub(crate) name: String,
    pub(crate) key: VolumeKey,
    pub(crate) created: Timestamp,
}

/// A volume.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Volume {
    pub(crate) account: AccountId,
    pub(crate) name: String,
    pub(crate) key: VolumeKey,
    pub(crate) bytes: u64,
    pub(crate) created: Timestamp,
    /// When it was last let go of, or made.
    pub(crate) used: Timestamp,
    pub(crate) users: Vec<User>,
    pub(crate) snapshots: Vec<Snapshot>,
}

impl Volume {
    /// Its own and its snapshots' sizes.
    fn promised(&self) -> u64 {
        self.bytes.saturating_mul(self.snapshots.len() as u64 + 1)
    }
    pub(crate) fn snapshot(&self, name: &str) -> Option<&Snapshot> {
        self.snapshots.iter().find(|s| s.name == name)
    }
    /// Everything of it that lies on the disk.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &VolumeKey> {
        std::iter::once(&self.key).chain(self.snapshots.iter().map(|s| &s.key))
    }
    pub(crate) fn unused(&self) -> Result<(), VolumeError> {
        match self.users.first() {
            Some(user) => Err(VolumeError::InUse { name: self.name.clone(), lease: user.lease }),
            None => Ok(()),
        }
    }
    fn kept_until(&self, limits: &Limits) -> Option<Timestamp> {
        self.users.is_empty().then(|| self.used.plus(limits.keep))
    }
    /// As its account sees it; `stored` tells what a file system takes of the disk.
    pub(crate) fn view(&self, limits: &Limits, stored: &[u64]) -> VolumeView {
        let mut stored = stored.iter().copied();
        VolumeView {
            name: self.name.clone(),
            bytes: self.bytes,
            stored_bytes: stored.next().unwrap_or_default(),
            created: self.created,
            used_by: self.users.iter().map(|u| u.lease).collect(),
            read_only: !self.users.is_empty() && self.users.iter().all(|u| u.read_only),
            kept_until: self.kept_until(limits),
            snapshots: self
                .snapshots
                .iter()
                .map(|s| SnapshotView { name: s.name.clone(), created: s.created, stored_bytes: stored.next().unwrap_or_default() })
                .collect(),
        }
    }
}

/// All volumes of this node.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub(crate) struct Book {
    /// Number of the next file system; never used again.
    next: u64,
    pub(crate) volumes: Vec<Volume>,
}

impl Book {
    /// A name for a file system that none had before.
    pub(crate) fn fresh(&mut self) -> Result<VolumeKey, VolumeError> {
        self.next = self.next.saturating_add(1);
        Ok(VolumeKey::parse(&format!("v{}", self.next))?)
    }

    /// Takes the keys that another book gave out as given out.
    pub(crate) fn spend(&mut self, other: &Self) {
        self.next = self.next.max(other.next);
    }

    pub(crate) fn of<'a>(&'a self, account: &'a AccountId) -> impl Iterator<Item = &'a Volume> {
        self.volumes.iter().filter(move |v| v.account == *account)
    }
    pub(crate) fn find(&self, account: &AccountId, name: &str) -> Result<&Volume, VolumeError> {
        let found = self.volumes.iter().find(|v| v.account == *account && v.name == name);
        found.ok_or_else(|| VolumeError::NoVolume(name.to_owned()))
    }
    pub(crate) fn find_mut(&mut self, account: &AccountId, name: &str) -> Result<&mut Volume, VolumeError> {
        let found = self.volumes.iter_mut().find(|v| v.account == *account && v.name == name);
        found.ok_or_else(|| VolumeError::NoVolume(name.to_owned()))
    }

    /// Whether there is room for so many bytes more of an account.
    pub(crate) fn room(&self, account: &AccountId, bytes: u64, limits: &Limits) -> Result<(), VolumeError> {
        let sum = |volumes: &mut dyn Iterator<Item = &Volume>| volumes.fold(bytes, |sum, v| sum.saturating_add(v.promised()));
        if sum(&mut self.of(account)) > limits.account_bytes {
            return Err(VolumeError::Full { whose: "one account", limit: limits.account_bytes });
        }
        if sum(&mut self.volumes.iter()) > limits.bytes {
            return Err(VolumeError::Full { whose: "all accounts together", limit: limits.bytes });
        }
        Ok(())
    }

    /// Adds a volume that was made, of this size.
    pub(crate) fn add(
        &mut self,
        account: AccountId,
        name: &str,
        bytes: u64,
        limits: &Limits,
        now: Timestamp,
    ) -> Result<&mut Volume, VolumeError> {
        if self.of(&account).any(|v| v.name == name) {
            return Err(VolumeError::Exists(name.to_owned()));
        }
        if self.of(&account).count() >= MAX_PER_ACCOUNT || self.volumes.len() >= MAX_IN_ALL {
            return Err(VolumeError::TooMany("volumes"));
        }
        self.room(&account, bytes, limits)?;
        let key = self.fresh()?;
        let volume = Volume { account, name: name.to_owned(), key, bytes, created: now, used: now, users: vec![], snapshots: vec![] };
        self.volumes.push(volume);
        self.volumes.last_mut().ok_or_else(|| VolumeError::NoVolume(name.to_owned()))
    }

    /// Gives a job a volume that is there; once more changes nothing.
    pub(crate) fn give(&mut self, account: &AccountId, mount: &VolumeMount, lease: LeaseId) -> Result<VolumeKey, VolumeError> {
        let volume = self.find_mut(account, &mount.name)?;
        if !mount.read_only && mount.bytes != volume.bytes {
            return Err(VolumeError::Size { name: mount.name.clone(), has: volume.bytes });
        }
        let user = User { lease, read_only: mount.read_only };
        if volume.users.contains(&user) {
            return Ok(volume.key.clone());
        }
        // One that writes is alone.
        if let Some(other) = volume.users.iter().find(|u| !u.read_only || !mount.read_only) {
            return Err(VolumeError::InUse { name: mount.name.clone(), lease: other.lease });
        }
        if volume.users.len() >= MAX_USERS {
            return Err(VolumeError::TooMany("jobs with this volume"));
        }
        volume.users.push(user);
        Ok(volume.key.clone())
    }

    /// Forgets users that have ended; gives the volumes that nobody uses any more. Whether anything changed is whether there are any,
    /// or fewer users.
    pub(crate) fn let_go(&mut self, ended: impl Fn(&LeaseId) -> bool, now: Timestamp) -> (bool, Vec<VolumeKey>) {
        let (mut changed, mut resting) = (false, vec![]);
        for volume in &mut self.volumes {
            let before = volume.users.len();
            volume.users.retain(|u| !ended(&u.lease));
            if volume.users.len() != before {
                changed = true;
                volume.used = now;
                if volume.users.is_empty() {
                    resting.push(volume.key.clone());
                }
            }
        }
        (changed, resting)
    }

    /// Takes those out that were kept long enough.
    pub(crate) fn expire(&mut self, limits: &Limits, now: Timestamp, busy: impl Fn(&VolumeKey) -> bool) -> Vec<Volume> {
        let over = |v: &mut Volume| v.kept_until(limits).is_some_and(|until| until <= now) && !busy(&v.key);
        self.volumes.extract_if(.., over).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { keep: Millis(100), bytes: 1000, account_bytes: 600 };
    const NOW: Timestamp = Timestamp(1_000);

    fn account(n: u8) -> AccountId {
        AccountId([n; 32])
    }
    fn lease(n: u8) -> LeaseId {
        LeaseId([n; 32])
    }
    fn mount(name: &str, bytes: u64, read_only: bool) -> VolumeMount {
        VolumeMount { name: name.into(), path: "/d".into(), bytes, read_only }
    }

    #[test]
    fn one_writes_or_several_read_and_another_account_sees_nothing() {
        let mut book = Book::default();
        let key = book.add(account(1), "data", 200, &LIMITS, NOW).unwrap().key.clone();
        assert!(matches!(book.give(&account(2), &mount("data", 200, false), lease(1)), Err(VolumeError::NoVolume(_))));
        assert!(matches!(book.give(&account(1), &mount("data", 300, false), lease(1)), Err(VolumeError::Size { has: 200, .. })));
        assert_eq!(book.give(&account(1), &mount("data", 200, false), lease(1)).unwrap(), key);
        assert_eq!(book.give(&account(1), &mount("data", 200, false), lease(1)).unwrap(), key, "asked again after a crash");
        for read_only in [true, false] {
            let bytes = if read_only { 0 } else { 200 };
            let refused = book.give(&account(1), &mount("data", bytes, read_only), lease(2));
            assert!(matches!(refused, Err(VolumeError::InUse { lease: l, .. }) if l == lease(1)));
        }
        assert_eq!(book.let_go(|l| *l == lease(2), NOW), (false, vec![]));
        assert_eq!(book.let_go(|l| *l == lease(1), NOW), (true, vec![key.clone()]));
        for n in 3..5 {
            assert_eq!(book.give(&account(1), &mount("data", 0, true), lease(n)).unwrap(), key);
        }
        assert!(book.give(&account(1), &mount("data", 200, false), lease(5)).is_err());
        assert_eq!(book.let_go(|l| *l == lease(3), NOW), (true, vec![]), "one still reads");
    }

    #[test]
    fn what_is_promised_has_limits() {
        let mut book = Book::default();
        assert!(matches!(book.add(account(1), "a", 601, &LIMITS, NOW), Err(VolumeError::Full { limit: 600, .. })));
        let volume = book.add(account(1), "a", 200, &LIMITS, NOW).unwrap();
        let (key, created) = (volume.key.clone(), NOW);
        volume.snapshots.push(Snapshot { name: "s".into(), key, created });
        assert!(matches!(book.add(account(1), "a", 1, &LIMITS, NOW), Err(VolumeError::Exists(_))));
        assert!(book.add(account(1), "b", 201, &LIMITS, NOW).is_err(), "a snapshot counts like its volume");
        assert!(book.add(account(1), "b", 200, &LIMITS, NOW).is_ok());
        assert!(matches!(book.add(account(2), "a", 500, &LIMITS, NOW), Err(VolumeError::Full { limit: 1000, .. })));
        let mut many = Book::default();
        for n in 0..MAX_PER_ACCOUNT {
            assert!(many.add(account(1), &format!("v{n}"), 1, &LIMITS, NOW).is_ok());
        }
        assert!(matches!(many.add(account(1), "more", 1, &LIMITS, NOW), Err(VolumeError::TooMany(_))));
    }

    #[test]
    fn what_nobody_used_for_long_goes_unless_it_is_being_copied() {
        let mut book = Book::default();
        let first = book.add(account(1), "a", 1, &LIMITS, NOW).unwrap().key.clone();
        let second = book.add(account(1), "b", 1, &LIMITS, NOW).unwrap().key.clone();
        assert_ne!(first, second);
        book.give(&account(1), &mount("b", 1, false), lease(1)).unwrap();
        assert!(book.expire(&LIMITS, Timestamp(1_099), |_| false).is_empty());
        assert!(book.expire(&LIMITS, Timestamp(1_100), |k| *k == first).is_empty());
        let gone = book.expire(&LIMITS, Timestamp(1_100), |_| false);
        assert_eq!(gone.iter().map(|v| v.name.as_str()).collect::<Vec<_>>(), ["a"], "one in use stays");
        book.let_go(|_| true, Timestamp(2_000));
        assert_eq!(book.find(&account(1), "b").unwrap().view(&LIMITS, &[5]).kept_until, Some(Timestamp(2_100)));
    }

    #[test]
    fn numbers_are_not_used_again_after_a_restart() {
        let mut book = Book::default();
        let first = book.add(account(1), "a", 1, &LIMITS, NOW).unwrap().key.clone();
        book.volumes.clear();
        let mut read: Book = serde_json::from_str(&serde_json::to_string(&book).unwrap()).unwrap();
        assert_ne!(read.add(account(1), "a", 1, &LIMITS, NOW).unwrap().key, first);
    }
}
