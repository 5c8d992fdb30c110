//! What the tests share: processes, networks, users, folders, the engine, and waiting for a condition.
//!
//! Guarantees: every wait has a deadline and says what it waited for; what a test starts ends with it.

mod engine;
mod lab;
mod liar;
mod net;
mod process;
mod proxy;
mod user;
mod wires;

pub(crate) use engine::{Container, Engine};
pub(crate) use lab::{Host, HostEngine, Lab, Nat};
pub(crate) use liar::Liar;
pub(crate) use net::{Ended, Net, Options, free_port, shared, unmount_below};
pub(crate) use process::{Done, Running, Signal, cpu_ticks};
pub(crate) use proxy::{Broken, proxy};
pub(crate) use user::{Books, SMALL, User, ask, paid};
pub(crate) use wires::{Wires, alone};

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Longest that something may take which takes moments on an idle machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);
/// Pause between two looks at a condition.
const LOOK_EVERY: Duration = Duration::from_millis(40);

/// Looks until there is something, at most for `within`.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, within: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < within, "not within {within:?}: {what}");
        std::thread::sleep(LOOK_EVERY);
    }
}

/// The same for something that holds or not.
#[track_caller]
pub(crate) fn until(what: &str, holds: impl FnMut() -> bool) {
    let mut holds = holds;
    eventually(what, PATIENCE, || holds().then_some(()));
}

/// The program under test.
pub(crate) fn farm_binary() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_farm"))
}

/// Splitmix64: the same times for the same seed.
pub(crate) fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A folder to run: its name becomes the job's.
pub(crate) struct Folder {
    path: PathBuf,
    _dir: TempDir,
}

impl Folder {
    /// A folder of this name with these files.
    pub(crate) fn new(name: &str, files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::create_dir(&path).unwrap();
        let folder = Self { path, _dir: dir };
        for (file, text) in files {
            folder.write(file, text);
        }
        folder
    }
    /// A folder whose image runs a shell script.
    pub(crate) fn script(name: &str, script: &str) -> Self {
        Self::new(name, &[("Dockerfile", "FROM pasture/busybox:1\nCOPY job.sh /job.sh\nCMD [\"sh\", \"/job.sh\"]\n"), ("job.sh", script)])
    }
    pub(crate) fn write(&self, file: &str, text: &str) {
        let path = self.path.join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
    /// As an argument.
    pub(crate) fn arg(&self) -> &str {
        self.path.to_str().unwrap()
    }
}
