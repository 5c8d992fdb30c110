//! A network of one machine: `farm dev` as a process, with a folder of its own.
//!
//! Guarantees: at its end the process is asked to stop, killed if it does not, and what its node left in the engine is
//! removed. The network that tests share ends with the test program, however that ends.

use super::{Engine, PATIENCE, Running, Signal, User, eventually, farm_binary};
use pasture_api::{ApiClient, ApiError, OfferView};
use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Longest that a network may take to stop; then it is killed.
const STOP_WITHIN: Duration = Duration::from_secs(90);
/// Ports for networks that are started again at the same address: below those that the system gives out.
const FIXED_PORTS: std::ops::Range<u16> = 21_000..31_000;
/// Ends what it started when its input ends, which it does when the test program ends, also by a signal.
const KEEPER: &str = r#"dir=$1; log=$2; shift 2; exec 3<&0; "$@" 3<&- 2>"$log" & pid=$!
(read -r _; kill -TERM $pid) <&3 >/dev/null 2>&1 &
wait $pid; code=$?; rm -rf "$dir"; exit $code"#;
/// What a network logs, for those who look for a fault.
const LOG: &str = "warn,pasture_provider=debug";
/// Lines of a network's log that a failed test shows.
const SHOWN_LOG_LINES: usize = 60;

/// How to start a network.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Further arguments of `farm dev`.
    pub(crate) args: Vec<String>,
    /// Cores and memory on offer.
    pub(crate) cpu: String,
    pub(crate) memory: String,
    /// Starts again at the same address.
    pub(crate) fixed_port: bool,
    /// Whether the network has a folder that outlives it; if not, its jobs end with it.
    pub(crate) kept: bool,
}

impl Default for Options {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self { args: vec![], cpu: cores.to_string(), memory: "1Gi".into(), fixed_port: false, kept: true }
    }
}

/// How a process ended that was to be a network.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stderr: String,
}

/// A network.
pub(crate) struct Net {
    pub(crate) engine: Engine,
    dir: PathBuf,
    temp: Option<TempDir>,
    options: Options,
    port: u16,
    process: Option<Running>,
    url: String,
    nodes: BTreeSet<String>,
    log: String,
}

impl Net {
    /// Starts a network in a new folder and waits until its machine can be matched.
    #[track_caller]
    pub(crate) fn start(options: Options) -> Self {
        let mut net = Self::prepare(options);
        net.start_again();
        net
    }

    /// A network that is not started yet.
    pub(crate) fn prepare(options: Options) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let port = if options.fixed_port { free_port() } else { 0 };
        Self {
            engine: Engine::find(),
            dir: temp.path().into(),
            temp: Some(temp),
            options,
            port,
            process: None,
            url: String::new(),
            nodes: BTreeSet::new(),
            log: String::new(),
        }
    }

    /// The network's folder.
    pub(crate) fn data(&self) -> PathBuf {
        self.dir.join("data")
    }
    /// The folder for the configuration and keys of this network's own user.
    fn home(&self) -> PathBuf {
        self.dir.join("home")
    }
    pub(crate) fn url(&self) -> &str {
        &self.url
    }
    /// What its process has written to standard output.
    pub(crate) fn stdout(&self) -> String {
        self.process.as_ref().map_or_else(String::new, Running::stdout)
    }
    /// What its processes have written to standard error.
    pub(crate) fn log(&self) -> String {
        let now = self.process.as_ref().map_or_else(String::new, Running::stderr);
        format!("{}{now}", self.log)
    }
    /// The machine's id, which is the label of all that it makes in the engine.
    pub(crate) fn node(&self) -> &str {
        self.nodes.first().expect("the network has a machine")
    }
    /// The user for whom the network was started: no flag, no variable, only the context that it set.
    pub(crate) fn user(&self) -> User {
        User::at(self.home(), self.url.clone())
    }
    /// Somebody else on this machine.
    pub(crate) fn stranger(&self) -> User {
        User::new(self.url.clone())
    }

    /// The command that starts it.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(farm_binary());
        command.args(["dev", "--listen"]).arg(format!("127.0.0.1:{}", self.port));
        if self.options.kept {
            command.arg("--data").arg(self.data());
        }
        command.arg("--engine").arg(&self.engine.socket).args(["--cpu", &self.options.cpu, "--memory", &self.options.memory]);
        command.args(["--disk", "8Gi"]).args(&self.options.args);
        std::fs::create_dir_all(self.home()).unwrap();
        super::user::environment(&mut command, &self.home());
        command.env("FARM_LOG", LOG);
        command
    }

    /// Starts the process; it may not be ready yet.
    pub(crate) fn launch(&mut self, failpoint: Option<&str>) {
        assert!(self.process.is_none(), "the network runs already");
        let mut command = self.command();
        if let Some(failpoint) = failpoint {
            command.env("FARM_FAILPOINT", failpoint);
        }
        self.process = Some(Running::start(command));
    }

    /// Waits until its machine can be matched, or the process has ended.
    pub(crate) fn ready(&mut self) -> Result<(), Ended> {
        let ready = eventually("the network answers and offers its machine", PATIENCE, || {
            if let Some(ended) = self.ended() {
                return Some(Err(ended));
            }
            let url = announced(&self.process.as_ref()?.stdout())?;
            let offers = offers(&url).ok()?;
            let wants_machine = !self.options.args.iter().any(|a| a == "--no-provider");
            if wants_machine && !offers.iter().any(|o| o.reachable) {
                return None;
            }
            self.nodes.extend(offers.iter().map(|o| o.node.to_string()));
            self.url = url;
            Some(Ok(()))
        });
        // A process that died between two looks is not ready.
        match self.ended() {
            Some(ended) => Err(ended),
            None => ready,
        }
    }

    /// Starts it, or starts it again on the same folder, and waits until it is ready.
    #[track_caller]
    pub(crate) fn start_again(&mut self) {
        self.launch(None);
        if let Err(ended) = self.ready() {
            panic!("the network ended with {} before it was ready\n{}", ended.code, ended.stderr);
        }
    }

    /// If the process has ended: how. It can be started again then.
    pub(crate) fn ended(&mut self) -> Option<Ended> {
        self.process.as_mut()?.ended()?;
        let done = self.process.take()?.finish(STOP_WITHIN);
        self.log += &done.stderr;
        Some(Ended { code: done.code, stderr: done.stderr })
    }

    /// Kills the process as a crash would.
    pub(crate) fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            process.signal(Signal::KILL);
            self.log += &process.finish(STOP_WITHIN).stderr;
        }
    }

    /// Asks it to stop and waits.
    #[track_caller]
    pub(crate) fn stop(&mut self) -> Ended {
        let process = self.process.take().expect("the network runs");
        process.signal(Signal::TERM);
        let done = process.finish(STOP_WITHIN);
        self.log += &done.stderr;
        Ended { code: done.code, stderr: done.stderr }
    }

    /// Asks the API.
    #[track_caller]
    pub(crate) fn api<T>(&self, ask: impl AsyncFnOnce(&ApiClient) -> Result<T, ApiError>) -> T {
        super::user::ask(&self.url, ask).unwrap_or_else(|e| panic!("{}: {e}", self.url))
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("--- the network's log\n{}", lines[lines.len().saturating_sub(SHOWN_LOG_LINES)..].join("\n"));
            if let Some(temp) = self.temp.take() {
                eprintln!("--- the network's folder is kept: {}", temp.keep().display());
            }
        }
        if let Some(mut process) = self.process.take() {
            process.signal(Signal::TERM);
            let began = Instant::now();
            while process.ended().is_none() && began.elapsed() < STOP_WITHIN {
                std::thread::sleep(super::LOOK_EVERY);
            }
        }
        for node in &self.nodes {
            self.engine.clear(node);
        }
        unmount_below(&self.dir);
    }
}

/// A network that died may have left the file systems of its jobs' outputs mounted.
pub(crate) fn unmount_below(dir: &Path) {
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    let below = mounts.lines().filter_map(|line| line.split(' ').nth(1)).filter(|path| Path::new(path).starts_with(dir));
    for path in below {
        let _ = Command::new("umount").arg(path).status();
    }
}

fn announced(stdout: &str) -> Option<String> {
    let (_, rest) = stdout.split_once("http://127.0.0.1:")?;
    let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
    // Digits that end the text may not be all of them.
    (rest.len() > port.len()).then(|| format!("http://127.0.0.1:{port}"))
}

fn offers(url: &str) -> Result<Vec<OfferView>, ApiError> {
    super::user::ask(url, async |api| api.offers().await)
}

/// A port that is free now, that the system gives to nobody who does not ask for it, and that no other test gets.
pub(crate) fn free_port() -> u16 {
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    // Two test programs at once begin at different ports.
    let start = FIXED_PORTS.start + u16::try_from(std::process::id() % 7_000).unwrap();
    let mut ports = std::iter::repeat_with(|| start + TAKEN.fetch_add(1, Ordering::Relaxed)).take_while(|port| FIXED_PORTS.contains(port));
    ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("a free port")
}

/// The network that all tests share which leave it as it is. Each test is a user of its own. Its log outlives it, in cargo's
/// folder for tests.
pub(crate) fn shared() -> &'static Net {
    static SHARED: OnceLock<Net> = OnceLock::new();
    SHARED.get_or_init(|| {
        let mut net = Net::prepare(Options { kept: false, ..Options::default() });
        // Kept by the process below: a static is never dropped.
        let temp = net.temp.take().unwrap().keep();
        let log = Path::new(env!("CARGO_TARGET_TMPDIR")).join("shared-network.log");
        let plain = net.command();
        let mut command = Command::new("sh");
        command.args(["-c", KEEPER, "keeper"]).args([&temp, &log]).arg(plain.get_program()).args(plain.get_args());
        super::user::environment(&mut command, &net.home());
        command.env("FARM_LOG", LOG);
        net.process = Some(Running::start_with(command, Stdio::piped()));
        if let Err(ended) = net.ready() {
            let log = std::fs::read_to_string(&log).unwrap_or_default();
            panic!("the shared network ended with {} before it was ready\n{log}", ended.code);
        }
        net
    })
}
