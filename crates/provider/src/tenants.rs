//! Whom this machine serves: accounts that its owner turned away, and who had which job when.
//!
//! ```text
//!  DATA/blocked         the accounts that get no job here
//!  DATA/leases/*/state  jobs of the last days; afterwards a line each of
//!  DATA/tenants.jsonl   who had a job, from when to when, and what it reached
//! ```
//! Guarantees: what is blocked is on disk before a call answers, and holds for the next lease that is drawn; a lease that is deleted
//! leaves its line first. The journal names accounts and times, and nothing of what a job was.

use crate::ProviderError;
use crate::lease::LeaseRecord;
use pasture_store::{DataDir, RecordFile, StoreError, write_atomic};
use pasture_types::market::Egress;
use pasture_types::{AccountId, LeaseId, Timestamp};
use serde::{Deserialize, Serialize};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::RwLock;

/// Most accounts that are turned away.
const MAX_BLOCKED: usize = 10_000;
/// The journal's size from which on its older half is dropped: some 40,000 jobs.
const MAX_JOURNAL: u64 = 8 << 20;

/// An account that gets no job on this machine.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Blocked {
    /// Which.
    pub account: AccountId,
    /// Since when.
    pub since: Timestamp,
    /// Why, for the machine's owner.
    #[serde(default)]
    pub why: String,
}

/// Who had a job on this machine, and when.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Tenancy {
    /// The job's lease.
    pub lease: LeaseId,
    /// Who pays for it.
    pub account: AccountId,
    /// When it was drawn for this machine.
    pub matched: Timestamp,
    /// When its process began, if it did.
    pub started: Option<Timestamp>,
    /// When that was over; `None`: it runs.
    pub ended: Option<Timestamp>,
    /// What it could reach from here.
    pub egress: Egress,
}

impl From<&LeaseRecord> for Tenancy {
    fn from(r: &LeaseRecord) -> Self {
        let terms = &r.terms;
        // A job that never began ended where it was given up.
        let ended = r.ended.or_else(|| r.end.is_some().then_some(r.started.unwrap_or(terms.matched)));
        Self { lease: terms.lease, account: terms.account, matched: terms.matched, started: r.started, ended, egress: terms.egress }
    }
}

/// What a machine knows of whom it serves.
pub(crate) struct Tenants {
    file: RecordFile<Vec<Blocked>>,
    blocked: RwLock<Vec<Blocked>>,
    dir: PathBuf,
}

impl Tenants {
    /// As a former process left it.
    pub(crate) fn load(data_dir: &Path) -> Result<Self, StoreError> {
        let file = blocked_file(data_dir);
        let blocked = RwLock::new(file.load()?.unwrap_or_default());
        Ok(Self { file, blocked, dir: data_dir.into() })
    }

    /// Whether an account gets no job here.
    pub(crate) fn is_blocked(&self, account: &AccountId) -> bool {
        self.blocked.read().is_ok_and(|all| all.iter().any(|b| b.account == *account))
    }

    /// Turns an account away, or no longer. Writes to disk: not for the async pool.
    pub(crate) fn set(&self, account: AccountId, blocked: Option<Blocked>) -> Result<(), ProviderError> {
        let mut all = self.blocked.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut next: Vec<Blocked> = all.iter().filter(|b| b.account != account).cloned().collect();
        next.extend(blocked);
        if next.len() > MAX_BLOCKED {
            let problem = format!("{MAX_BLOCKED} accounts are blocked already; unblock some first");
            return Err(ProviderError::Options { field: "blocked", problem });
        }
        self.file.save(&next)?;
        *all = next;
        Ok(())
    }

    /// Notes a lease whose files are about to be deleted. Writes to disk: not for the async pool.
    pub(crate) fn note(&self, lease_dir: &Path) -> Result<(), StoreError> {
        let Some(record) = RecordFile::<LeaseRecord>::new(lease_dir.join("state")).load()? else { return Ok(()) };
        let path = journal(&self.dir);
        let io = |action: &'static str| {
            let path = path.clone();
            move |source| StoreError::Io { action, path, source }
        };
        if std::fs::metadata(&path).is_ok_and(|about| about.len() > MAX_JOURNAL) {
            let text = std::fs::read_to_string(&path).map_err(io("read"))?;
            let half = text.len() / 2;
            let from = text.char_indices().find(|(at, c)| *at >= half && *c == '\n').map_or(text.len(), |(at, _)| at + 1);
            write_atomic(&path, text.get(from..).unwrap_or_default().as_bytes())?;
        }
        let line = serde_json::to_string(&Tenancy::from(&record)).map_err(|e| io("write")(std::io::Error::other(e)))?;
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(&path).map_err(io("open"))?;
        file.write_all(format!("{line}\n").as_bytes()).and_then(|()| file.sync_data()).map_err(io("write"))
    }
}

fn blocked_file(data_dir: &Path) -> RecordFile<Vec<Blocked>> {
    RecordFile::new(data_dir.join("blocked"))
}

fn journal(data_dir: &Path) -> PathBuf {
    data_dir.join("tenants.jsonl")
}

/// The accounts that get no job on a machine, running or not. `data_dir` is [`crate::Options::data_dir`].
///
/// # Errors
/// The list cannot be read.
pub fn blocked(data_dir: &Path) -> Result<Vec<Blocked>, StoreError> {
    Ok(blocked_file(data_dir).load()?.unwrap_or_default())
}

/// Turns an account away from a machine that does not run, or no longer.
///
/// # Errors
/// It runs, or the list cannot be written.
pub fn block_stopped(data_dir: &Path, account: AccountId, blocked: Option<Blocked>) -> Result<(), ProviderError> {
    let dir = DataDir::open(data_dir)?;
    Tenants::load(dir.path())?.set(account, blocked)
}

/// Who had jobs on a machine between two moments, oldest first; running or not. Lines of the journal that cannot be read are left out.
///
/// # Errors
/// The records cannot be read.
pub fn tenancies(data_dir: &Path, from: Timestamp, to: Timestamp) -> Result<Vec<Tenancy>, StoreError> {
    let mut all: Vec<Tenancy> = vec![];
    let leases = data_dir.join("leases");
    let gone = |e: &std::io::Error| e.kind() == std::io::ErrorKind::NotFound;
    match std::fs::read_dir(&leases) {
        Err(e) if gone(&e) => {}
        Err(source) => return Err(StoreError::Io { action: "read", path: leases, source }),
        // One that is deleted meanwhile is in the journal.
        Ok(entries) => {
            for entry in entries.flatten() {
                let record = RecordFile::<LeaseRecord>::new(entry.path().join("state")).load().ok().flatten();
                all.extend(record.as_ref().map(Tenancy::from));
            }
        }
    }
    let path = journal(data_dir);
    match std::fs::read_to_string(&path) {
        Err(e) if gone(&e) => {}
        Err(source) => return Err(StoreError::Io { action: "read", path, source }),
        Ok(text) => all.extend(text.lines().filter_map(|line| serde_json::from_str(line).ok())),
    }
    all.retain(|t| t.matched <= to && t.ended.is_none_or(|end| end >= from));
    all.sort_by_key(|t| (t.matched, t.lease));
    all.dedup_by_key(|t| t.lease);
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::Terms;
    use pasture_types::lease::EndReason;
    use pasture_types::market::{AliveCheck, Term};
    use pasture_types::{Amount, BlobHash, Millis, OrderId, Resources};

    fn record(n: u8, matched: u64, ended: Option<u64>) -> LeaseRecord {
        let terms = Terms {
            lease: LeaseId([n; 32]),
            order: OrderId([n; 32]),
            account: AccountId([n; 32]),
            generation: 1,
            resources: Resources::default(),
            rate_per_hour: Amount(1),
            escrow: Amount(1),
            max_duration: Millis(1),
            alive: AliveCheck::default(),
            egress: Egress::Open,
            spec_hash: BlobHash([0; 32]),
            matched: Timestamp(matched),
            preemptible: false,
            term: Term::default(),
        };
        let mut record = LeaseRecord::new(terms);
        record.started = Some(Timestamp(matched + 1));
        record.ended = ended.map(Timestamp);
        record.end = ended.map(|_| EndReason::StoppedByUser);
        record
    }

    fn kept(dir: &Path, record: &LeaseRecord) -> PathBuf {
        let at = dir.join("leases").join(record.terms.lease.to_string());
        std::fs::create_dir_all(&at).unwrap();
        RecordFile::new(at.join("state")).save(record).unwrap();
        at
    }

    #[test]
    fn who_had_a_job_is_told_also_when_its_files_are_gone() {
        let dir = tempfile::tempdir().unwrap();
        let tenants = Tenants::load(dir.path()).unwrap();
        let _runs = kept(dir.path(), &record(1, 100, None));
        let over = kept(dir.path(), &record(2, 50, Some(90)));
        tenants.note(&over).unwrap();
        let at =
            |from, to| -> Vec<u8> { tenancies(dir.path(), Timestamp(from), Timestamp(to)).unwrap().iter().map(|t| t.lease.0[0]).collect() };
        assert_eq!(at(0, 1_000), [2, 1], "each once, while both are there");
        std::fs::remove_dir_all(&over).unwrap();
        assert_eq!(at(0, 1_000), [2, 1]);
        assert_eq!(at(60, 60), [2]);
        assert_eq!(at(95, 99), [] as [u8; 0]);
        assert_eq!(at(500, 600), [1], "it still runs");
        std::fs::write(journal(dir.path()), "broken\n").unwrap();
        assert_eq!(at(0, 1_000), [1], "a broken line hides nothing else");
    }

    #[test]
    fn a_journal_that_grows_loses_its_older_half() {
        let dir = tempfile::tempdir().unwrap();
        let tenants = Tenants::load(dir.path()).unwrap();
        let line = serde_json::to_string(&Tenancy::from(&record(3, 10, Some(20)))).unwrap();
        let lines = MAX_JOURNAL as usize / line.len() + 2;
        std::fs::write(journal(dir.path()), format!("{line}\n").repeat(lines)).unwrap();
        tenants.note(&kept(dir.path(), &record(4, 50, Some(90)))).unwrap();
        let text = std::fs::read_to_string(journal(dir.path())).unwrap();
        assert!(text.len() < MAX_JOURNAL as usize * 6 / 10, "{}", text.len());
        assert!(text.lines().all(|l| serde_json::from_str::<Tenancy>(l).is_ok()), "cut between lines");
    }

    #[test]
    fn who_is_blocked_stays_blocked() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (AccountId([1; 32]), AccountId([2; 32]));
        let entry = |account| Blocked { account, since: Timestamp(5), why: "scans others".into() };
        let tenants = Tenants::load(dir.path()).unwrap();
        tenants.set(one, Some(entry(one))).unwrap();
        tenants.set(one, Some(entry(one))).unwrap();
        assert!(tenants.is_blocked(&one) && !tenants.is_blocked(&two));
        drop(tenants);
        block_stopped(dir.path(), two, Some(entry(two))).unwrap();
        block_stopped(dir.path(), one, None).unwrap();
        assert_eq!(blocked(dir.path()).unwrap(), [entry(two)]);
        assert!(Tenants::load(dir.path()).unwrap().is_blocked(&two));
    }
}
