//! Backups of a node: what of its directory must not be lost, and how it comes back.
//!
//! ```text
//!  DATA/zone/ node.key provider/ ledger/ ──backup──► FILE ──restore──► NEW/...  and, of a validator among several, NEW/zone/restored
//! ```
//! Guarantees: a ledger is copied of a stopped node only, whose directory is held meanwhile. Whatever can be had again is left out: the
//! engine's scratch, unfinished uploads. A directory that holds a node is never overwritten.
//!
//! **A restored validator does not vote until it is safe.** Its record of votes is as old as the backup, so it could contradict what the lost
//! machine signed since. A vote is bound to a term of the engine. Every vote of the lost machine is of a term that began before the restore;
//! so a restored validator follows, and votes only in a term that began after it ([`votes_after`]). `zone/restored` says from when on.

use crate::NodeError;
use crate::zone::{GENESIS, NETWORK, OPERATOR_KEY, VALIDATOR_KEY, read_genesis};
use pasture_rt::Clock;
use pasture_store::backup::{self, Backup, Manifest};
use pasture_store::{DataDir, StoreError, keys, write_atomic};
use pasture_types::{Millis, NodeId, SigningKey, Timestamp, ZoneId};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Since when a restored validator may vote, within a data directory.
pub(crate) const RESTORED: &str = "zone/restored";
/// The key of a machine that is offered.
const MACHINE_KEY: &str = "node.key";
/// Added to the time of the restore: clocks of validators may be 30 seconds apart, and blocks two seconds ahead.
const MARGIN: Millis = Millis(60_000);
/// Largest mark.
const MAX_MARK: u64 = 4 << 10;

/// What a backup is of.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// Version of the program that made it.
    pub program: String,
    /// When.
    pub made: Timestamp,
    /// Whether the ledger is in it.
    pub whole: bool,
    /// The validator's public key, if it is one.
    pub validator: Option<NodeId>,
    /// Its network.
    pub network: Option<ZoneId>,
    /// The network's name.
    pub name: Option<String>,
    /// Whether its network has several validators.
    pub several: bool,
    /// The public key of the machine that is offered, if one is.
    pub machine: Option<NodeId>,
}

/// What is to be in a backup.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// Everything, of a stopped node.
    Whole,
    /// Keys, genesis and addresses, also of a running one.
    Keys,
}

/// Since when a restored validator may vote.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mark {
    restored: Timestamp,
    votes_after: Timestamp,
}

/// Copies what must not be lost of a node's directory into a file, locked with a passphrase.
///
/// # Errors
/// No node there; one that runs, if its ledger is wanted; links; a file that is there already.
pub fn backup(
    data: &Path,
    file: &Path,
    scope: Scope,
    passphrase: &[u8],
    clock: &dyn Clock,
    progress: backup::Progress<'_>,
) -> Result<Manifest<About>, NodeError> {
    let about = about(data, scope, clock)?;
    // Held until all is copied.
    let _held = if scope == Scope::Whole { hold(data)? } else { vec![] };
    let files = backup::collect(data, &|path| is_wanted(path, scope))?;
    Ok(backup::write(data, &files, about, passphrase, file, progress)?)
}

/// Takes the locks of everything that runs on a directory: the node's own, and those of the machines in it.
fn hold(data: &Path) -> Result<Vec<DataDir>, NodeError> {
    let machines = ["provider", "provider/provider"].map(|name| data.join(name)).into_iter().filter(|dir| dir.join("lock").exists());
    std::iter::once(data.to_path_buf()).chain(machines).map(|dir| Ok(DataDir::open(&dir)?)).collect()
}

fn about(data: &Path, scope: Scope, clock: &dyn Clock) -> Result<About, NodeError> {
    let genesis = read_genesis(&data.join(GENESIS))?;
    let key_of = |name: &str| -> Result<Option<NodeId>, StoreError> {
        Ok(keys::load_seed(&data.join(name))?.map(|seed| SigningKey::from_seed(seed).node_id()))
    };
    let validator = key_of(VALIDATOR_KEY)?;
    let machine = match key_of(MACHINE_KEY)? {
        Some(own) => Some(own),
        None => key_of(&format!("provider/{MACHINE_KEY}"))?,
    };
    if validator.is_none() && machine.is_none() {
        return Err(NodeError::Options(format!("{} has no node: name the folder that --data named when it ran", data.display())));
    }
    Ok(About {
        program: env!("CARGO_PKG_VERSION").into(),
        made: Timestamp(clock.now_ms()),
        whole: scope == Scope::Whole,
        validator,
        network: genesis.as_ref().map(pasture_types::genesis::Genesis::zone),
        several: genesis.as_ref().is_some_and(|g| g.validators.len() > 1) || data.join(NETWORK).exists(),
        name: genesis.map(|g| g.name),
        machine,
    })
}

/// Whether a path belongs in a backup; folders end with a slash.
fn is_wanted(path: &str, scope: Scope) -> bool {
    let mut parts = path.trim_end_matches('/').split('/');
    let first = parts.next().unwrap_or_default();
    let last = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let passing = ["lock", "runtime", "simulated-gpus", "control.sock"].contains(&last)
        || [".partial", ".draft", ".sock"].iter().any(|end| last.ends_with(end));
    let (is_dir, is_key) = (path.ends_with('/'), [VALIDATOR_KEY, OPERATOR_KEY].contains(&path) || last.ends_with(".key"));
    if passing {
        return false;
    }
    match (first, scope) {
        ("zone", _) => true,
        (MACHINE_KEY, _) => !is_dir,
        ("ledger", Scope::Whole) => true,
        ("provider", Scope::Whole) => true,
        // Down to the keys that lie at its top.
        ("provider", Scope::Keys) => path == "provider/" || (is_key && !is_dir && parts.count() == 1),
        _ => false,
    }
}

/// What a restore did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Restored {
    /// What the backup is of.
    pub manifest: Manifest<About>,
    /// Until when at least the validator follows without a vote.
    pub votes_after: Option<Timestamp>,
}

/// Puts a backup into a directory that has nothing in it. Everything is checked before anything is written.
///
/// # Errors
/// A wrong passphrase, a backup that is not whole, a directory that has something in it.
pub fn restore(
    file: &Path,
    data: &Path,
    passphrase: &[u8],
    clock: &dyn Clock,
    progress: backup::Progress<'_>,
) -> Result<Restored, NodeError> {
    backup::is_free(data)?;
    let opened = Backup::open(file, passphrase)?;
    let checked: Manifest<About> = opened.verify(progress)?;
    let about = checked.about;
    // Alone it has nobody to contradict but itself, and nobody would begin a term without its vote.
    let must_wait = about.validator.is_some() && about.several;
    let now = Timestamp(clock.now_ms());
    let votes_after = must_wait.then(|| now.plus(MARGIN));
    let manifest = opened.unpack(data, progress, |draft| match votes_after {
        Some(votes_after) => mark(draft, &Mark { restored: now, votes_after }),
        None => Ok(()),
    })?;
    Ok(Restored { manifest, votes_after })
}

fn mark(dir: &Path, mark: &Mark) -> Result<(), NodeError> {
    let text = serde_json::to_string(mark).map_err(|e| NodeError::Options(e.to_string()))?;
    Ok(write_atomic(&dir.join(RESTORED), text.as_bytes())?)
}

/// Since when the validator of a directory may vote: only in terms of the engine that began after this. `None` unless it was restored
/// from a backup.
///
/// # Errors
/// The mark is damaged: whoever cannot read it must not vote.
pub fn votes_after(dir: &Path) -> Result<Option<Timestamp>, NodeError> {
    let path = dir.join(RESTORED);
    let damaged = |detail: &str| StoreError::Corrupt { path: path.clone(), detail: detail.into() };
    match std::fs::metadata(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Ok(found) if found.len() > MAX_MARK => return Err(damaged("it is too large").into()),
        _ => {}
    }
    let text = std::fs::read_to_string(&path).map_err(|source| StoreError::Io { action: "read", path: path.clone(), source })?;
    let mark: Mark = serde_json::from_str(&text).map_err(|e| damaged(&e.to_string()))?;
    Ok(Some(mark.votes_after))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Launch, announce, settle};
    use pasture_rt::ManualClock;

    const PASS: &[u8] = b"correct horse battery";

    /// A validator's folder of a network of two, with a machine in it.
    fn folder() -> tempfile::TempDir {
        let clock = ManualClock::new(5_000);
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let said = |n: usize| announce(dirs[n].path(), std::net::SocketAddr::from(([127, 0, 0, 1], 8000 + n as u16))).unwrap();
        let launch = Launch {
            name: "meadow".into(),
            dev: true,
            audits: false,
            gpus: vec![],
            memory: false,
            founders: vec![said(0), said(1)],
            accounts: vec![],
        };
        let (genesis, network) = launch.make(&clock).unwrap();
        let [dir, _] = dirs;
        settle(dir.path(), &genesis, &network, None, None).unwrap();
        let put = |path: &str, content: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        };
        put("ledger/store/chain-votes-0/0", "votes");
        put("ledger/lock", "1");
        put("provider/leases/ab/state", "lease");
        put("provider/leases/ab/context.partial", "half");
        put("provider/runtime/x", "scratch");
        put("mine.txt", "not the node's");
        keys::load_or_create(&dir.path().join("provider/node.key")).unwrap();
        dir
    }

    fn paths(manifest: &Manifest<About>) -> Vec<&str> {
        manifest.files.iter().map(|f| f.path.as_str()).collect()
    }

    #[test]
    fn a_stopped_node_comes_back_whole_and_a_validator_among_several_waits_with_its_votes() {
        let (dir, out) = (folder(), tempfile::tempdir().unwrap());
        let (file, to) = (out.path().join("b"), out.path().join("to"));
        let clock = ManualClock::new(70_000);
        let held = DataDir::open(dir.path()).unwrap();
        let whole = |file: &Path| backup(dir.path(), file, Scope::Whole, PASS, &clock, &mut |_, _| ());
        assert!(whole(&file).unwrap_err().to_string().contains("in use"), "not while it runs");
        drop(held);
        let made = whole(&file).unwrap();
        let expected = [
            "ledger/store/chain-votes-0/0",
            "provider/leases/ab/state",
            "provider/node.key",
            "zone/genesis",
            "zone/network.toml",
            "zone/operator.key",
            "zone/validator.key",
        ];
        assert_eq!(paths(&made), expected);
        assert!(made.about.whole && made.about.several && made.about.machine.is_some() && made.about.name.as_deref() == Some("meadow"));
        let done = restore(&file, &to, PASS, &clock, &mut |_, _| ()).unwrap();
        assert_eq!((done.manifest, done.votes_after), (made, Some(Timestamp(130_000))));
        assert_eq!(votes_after(&to).unwrap(), Some(Timestamp(130_000)));
        assert_eq!(votes_after(dir.path()).unwrap(), None);
        assert_eq!(crate::validator_key(&to).unwrap(), crate::validator_key(dir.path()).unwrap());
        assert!(restore(&file, &to, PASS, &clock, &mut |_, _| ()).unwrap_err().to_string().contains("nothing is overwritten"));
        std::fs::write(to.join(RESTORED), "{}").unwrap();
        assert!(votes_after(&to).unwrap_err().to_string().contains("damaged"), "who cannot read it does not vote");
    }

    #[test]
    fn keys_are_copied_of_a_running_node() {
        let (dir, out) = (folder(), tempfile::tempdir().unwrap());
        let clock = ManualClock::new(0);
        let _held = DataDir::open(dir.path()).unwrap();
        let made = backup(dir.path(), &out.path().join("k"), Scope::Keys, PASS, &clock, &mut |_, _| ()).unwrap();
        assert_eq!(paths(&made), ["provider/node.key", "zone/genesis", "zone/network.toml", "zone/operator.key", "zone/validator.key"]);
        assert!(!made.about.whole);
    }

    #[test]
    fn a_folder_without_a_node_is_not_backed_up_and_links_are_refused() {
        let (empty, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let clock = ManualClock::new(0);
        let try_it = |dir: &Path| backup(dir, &out.path().join("b"), Scope::Whole, PASS, &clock, &mut |_, _| ()).unwrap_err().to_string();
        assert!(try_it(empty.path()).contains("has no node"));
        assert_eq!(std::fs::read_dir(empty.path()).unwrap().count(), 0);
        let dir = folder();
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("zone/link")).unwrap();
        assert!(try_it(dir.path()).contains("a link"));
        assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 0);
    }
}
