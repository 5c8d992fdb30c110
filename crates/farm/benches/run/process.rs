//! Processes of the built `farm` that a bench starts.

use crate::report::Failure;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const FARM: &str = env!("CARGO_BIN_EXE_farm");
/// Between two looks.
pub(crate) const POLL: Duration = Duration::from_millis(100);
/// Longest until something is up.
pub(crate) const READY_DEADLINE: Duration = Duration::from_secs(60);
/// Longest until something has ended.
pub(crate) const STOP_DEADLINE: Duration = Duration::from_secs(20);
/// Lines of a log that are shown when something failed.
pub(crate) const LAST_WORDS: usize = 15;

/// The program with a home of its own and nothing of the caller's context.
pub(crate) fn farm(home: &Path) -> Command {
    let mut command = Command::new(FARM);
    command.env("FARM_HOME", home).env_remove("FARM_API_URL").env_remove("FARM_CONTEXT");
    command
}

pub(crate) fn failed(what: &str, output: &Output) -> Failure {
    format!("{what} ({}): {}", output.status, String::from_utf8_lossy(&output.stderr).trim()).into()
}

/// The end of a file of log.
pub(crate) fn last_words(log: &Path) -> String {
    let log = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    lines.get(lines.len().saturating_sub(LAST_WORDS)..).unwrap_or_default().join("\n")
}

/// A process; killed if it is dropped without [`Process::stop`].
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    pub(crate) fn start(mut command: Command, scratch: &Path, name: &str) -> Result<Self, Failure> {
        let log = scratch.join(format!("{name}.log"));
        let out = File::create(scratch.join(format!("{name}.out")))?;
        let child = command.stdin(Stdio::null()).stdout(out).stderr(File::create(&log)?).spawn()?;
        Ok(Self { child, log })
    }

    /// Its id, as text.
    #[allow(dead_code, reason = "each bench uses its part")]
    pub(crate) fn id(&self) -> String {
        self.child.id().to_string()
    }

    /// Asks it to end, and waits.
    pub(crate) fn stop(mut self) -> Result<(), Failure> {
        kill_process(Pid::from_raw(i32::try_from(self.child.id())?).ok_or("process 0")?, Signal::TERM)?;
        let begun = Instant::now();
        while begun.elapsed() < STOP_DEADLINE {
            if let Some(status) = self.child.try_wait()? {
                return if status.success() { Ok(()) } else { Err(format!("it ended with {status}: {}", last_words(&self.log)).into()) };
            }
            std::thread::sleep(POLL);
        }
        Err(format!("it did not end within {} s", STOP_DEADLINE.as_secs()).into())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only if it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Looks until there is something.
pub(crate) fn wait<T>(what: &str, process: &Process, mut look: impl FnMut() -> Option<T>) -> Result<T, Failure> {
    let begun = Instant::now();
    while begun.elapsed() < READY_DEADLINE {
        if let Some(found) = look() {
            return Ok(found);
        }
        std::thread::sleep(POLL);
    }
    Err(format!("{what} was not ready in time\n{}", last_words(&process.log)).into())
}
