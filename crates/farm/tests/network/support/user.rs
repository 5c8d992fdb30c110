//! Somebody who uses a network: a folder with a key of their own, and the `farm` program.

use super::{Done, Folder, PATIENCE, Running, eventually, farm_binary};
use pasture_api::{ApiClient, ApiError, JobView, LeaseView};
use pasture_store::{keys, locked};
use pasture_types::event::Settlement;
use pasture_types::lease::LeaseState;
use pasture_types::{AccountId, Amount, SigningKey};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// Longest that a command may take.
const COMMAND_WITHIN: Duration = Duration::from_secs(300);
/// A job that leaves room for others.
pub(crate) const SMALL: [&str; 6] = ["--cpu", "0.2", "--memory", "32Mi", "--disk", "64Mi"];
/// Parts per million of a payment that a provider gets where no model is named.
const PROVIDER_PPM: u128 = 850_000;

/// A user.
pub(crate) struct User {
    home: PathBuf,
    _temp: Option<TempDir>,
    url: String,
    /// Whether each command is told the address; otherwise the context decides.
    told: bool,
}

/// What a user has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Books {
    pub(crate) free: Amount,
    pub(crate) on_hold: Amount,
}

/// Nothing of the environment of the test program reaches the program under test.
pub(super) fn environment(command: &mut Command, home: &Path) {
    command.env_clear().env("FARM_HOME", home).env("HOME", home);
    for kept in ["PATH", "TMPDIR"] {
        if let Some(value) = std::env::var_os(kept) {
            command.env(kept, value);
        }
    }
}

/// Asks an API from a thread that has no runtime.
pub(crate) fn ask<T>(url: &str, ask: impl AsyncFnOnce(&ApiClient) -> Result<T, ApiError>) -> Result<T, ApiError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { ask(&ApiClient::new(url)?).await })
}

impl User {
    /// A newcomer.
    pub(crate) fn new(url: String) -> Self {
        let temp = tempfile::tempdir().unwrap();
        Self { home: temp.path().into(), _temp: Some(temp), url, told: true }
    }
    /// Somebody who knows no network yet.
    pub(crate) fn at_home() -> Self {
        let temp = tempfile::tempdir().unwrap();
        Self { home: temp.path().into(), _temp: Some(temp), url: String::new(), told: false }
    }
    /// The user of a folder, who has a context there.
    pub(crate) fn at(home: PathBuf, url: String) -> Self {
        Self { home, _temp: None, url, told: false }
    }
    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    /// The API that the user asks.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// A command of this user.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(farm_binary());
        environment(&mut command, &self.home);
        if self.told {
            command.env("FARM_API_URL", &self.url);
        }
        command.args(args).current_dir(&self.home);
        command
    }
    #[track_caller]
    pub(crate) fn farm(&self, args: &[&str]) -> Done {
        self.start(args).finish(COMMAND_WITHIN)
    }
    pub(crate) fn start(&self, args: &[&str]) -> Running {
        Running::start(self.command(args))
    }
    /// Starts a command on a terminal of its own, to be typed into; what it shows comes on standard output.
    pub(crate) fn on_terminal(&self, args: &[&str]) -> Running {
        let plain = self.command(args);
        let words = std::iter::once(plain.get_program()).chain(plain.get_args());
        let line: Vec<String> = words.map(|w| format!("'{}'", w.to_str().unwrap().replace('\'', r"'\''"))).collect();
        self.shell_on_terminal(&format!("exec {}", line.join(" ")))
    }
    /// The same with a line for a shell; `farm` is the program, and the folder is this user's home.
    pub(crate) fn shell_on_terminal(&self, line: &str) -> Running {
        let plain = self.command(&[]);
        // util-linux: gives the command a terminal and its exit code to us.
        let mut command = Command::new("script");
        environment(&mut command, &self.home);
        command.args(["--quiet", "--return", "--flush", "--echo", "never", "--command", line, "/dev/null"]);
        command.envs(plain.get_envs().filter_map(|(k, v)| Some((k, v?)))).env("TERM", "xterm").current_dir(&self.home);
        Running::start_with(command, std::process::Stdio::piped())
    }
    /// Runs a folder as a small job; `more` are further arguments.
    #[track_caller]
    pub(crate) fn run(&self, folder: &Folder, more: &[&str]) -> Done {
        self.start_run(folder, more).finish(COMMAND_WITHIN)
    }
    pub(crate) fn start_run(&self, folder: &Folder, more: &[&str]) -> Running {
        self.start(&[&["run", folder.arg()], &SMALL[..], more].concat())
    }

    pub(crate) fn key(&self) -> SigningKey {
        keys::load_or_create(&self.home.join("account.key")).unwrap()
    }
    pub(crate) fn account(&self) -> AccountId {
        // Seen without its passphrase, where it is locked.
        let key = locked::load(&self.home.join("account.key")).unwrap();
        key.map_or_else(|| self.key().account(), |key| key.public().account())
    }
    pub(crate) fn try_api<T>(&self, what: impl AsyncFnOnce(&ApiClient) -> Result<T, ApiError>) -> Result<T, ApiError> {
        ask(&self.url, what)
    }
    #[track_caller]
    pub(crate) fn api<T>(&self, what: impl AsyncFnOnce(&ApiClient) -> Result<T, ApiError>) -> T {
        self.try_api(what).unwrap_or_else(|e| panic!("{}: {e}", self.url))
    }

    /// Takes test credits, which opens the account.
    #[track_caller]
    pub(crate) fn with_credits(self) -> Self {
        let _ = self.farm(&["account", "test-credits", "1000"]).exits(0);
        self
    }
    /// What the ledger has of this user.
    #[track_caller]
    pub(crate) fn books(&self) -> Books {
        let id = self.account();
        let view = self.api(async |api| api.account(&id).await);
        Books { free: view.balance, on_hold: view.on_hold }
    }
    /// All jobs, newest first.
    #[track_caller]
    pub(crate) fn jobs(&self) -> Vec<JobView> {
        let id = self.account();
        self.api(async |api| api.jobs(&id).await)
    }
    /// The newest job's lease.
    #[track_caller]
    pub(crate) fn lease(&self) -> LeaseView {
        let jobs = self.jobs();
        jobs.first().and_then(|j| j.lease.clone()).unwrap_or_else(|| panic!("no lease: {jobs:?}"))
    }
    /// The newest job's lease once it is settled, with its account.
    #[track_caller]
    pub(crate) fn settled(&self) -> (LeaseView, Settlement) {
        let lease = eventually("the newest lease is settled", PATIENCE, || {
            Some(self.lease()).filter(|l| l.state == LeaseState::Closed && l.settlement.is_some())
        });
        let settlement = lease.settlement.clone().unwrap();
        (lease, settlement)
    }
}

/// Checks that a final account adds up, and gives it.
#[track_caller]
pub(crate) fn paid(lease: &LeaseView) -> &Settlement {
    let s = lease.settlement.as_ref().unwrap_or_else(|| panic!("not settled: {lease:?}"));
    let sum = |parts: &[Amount]| Amount(parts.iter().map(|a| a.0).sum());
    assert_eq!(sum(&[s.charged, s.refunded]), lease.escrow, "charged and returned are what was on hold: {s:?}");
    assert_eq!(sum(&[s.to_provider, s.to_treasury, s.to_model, s.withheld]), s.charged, "the shares are what was charged: {s:?}");
    // Each class of resources has a line of its own, rounded for itself.
    let rates: Vec<Amount> = s.lines.iter().map(|l| l.rate_per_hour).collect();
    assert_eq!(sum(&rates), lease.rate_per_hour, "the lines' rates are the lease's: {s:?}");
    let lines: Vec<Amount> = s.lines.iter().map(|l| l.rate_per_hour.per_hour_for(l.billed_ms.0).unwrap()).collect();
    let service = sum(&lines);
    let build = lease.rate_per_hour.per_hour_for(s.billed_build_ms.0).unwrap();
    assert_eq!(s.charged, sum(&[service, build, s.withheld]), "the charge is rate by time: {s:?}");
    let served = s.charged.saturating_sub(s.withheld);
    assert_eq!(s.to_provider, served.mul_div(PROVIDER_PPM, 1_000_000).unwrap(), "the provider's share: {s:?}");
    assert_eq!(s.to_model, Amount::ZERO);
    assert!(s.epochs_proven <= s.epochs, "{s:?}");
    s
}
