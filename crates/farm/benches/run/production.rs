//! A network by production rules, launched as its operators would: a validator, and a machine as a process of its own. What that machine
//! costs beside a job is what its owner and its jobs feel of heartbeats and checks; a development network makes them thirty times as often.

use crate::process::{Process, failed, farm, wait};
use crate::report::{Failure, cpu_seconds, say};
use crate::{Engine, IMAGE};
use pasture_store::keys;
use pasture_types::audit::AuditParams;
use serde_json::Value;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What user and provider have at the beginning.
const CREDITS: u64 = 100_000;

/// What a network by production rules is made of.
#[derive(Clone)]
pub(crate) struct Shape {
    /// What its machine offers.
    pub(crate) cores: usize,
    /// Audits that run from the beginning.
    pub(crate) audits: Option<AuditParams>,
}

/// The network: its user's home, and its processes.
pub(crate) struct Production {
    home: PathBuf,
    url: String,
    validator: Process,
    machine: Process,
}

/// Processor time of the machine's process and of the validator's, as shares of one core.
#[allow(dead_code, reason = "each bench uses its part")]
pub(crate) struct Beside {
    pub(crate) machine: f64,
    pub(crate) validator: f64,
}

impl Production {
    pub(crate) fn start(scratch: &Path, engine: &Engine, shape: &Shape) -> Result<Self, Failure> {
        let (home, owner) = (scratch.join("user"), scratch.join("owner"));
        let path = |name: &str| scratch.join(name).to_string_lossy().into_owned();
        let money = |home: &Path| -> Result<String, Failure> {
            std::fs::create_dir_all(home)?;
            Ok(format!("{}={CREDITS}", keys::load_or_create(&home.join("account.key"))?.public()))
        };
        let (users, owners) = (money(&home)?, money(&owner)?);
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let (data, said, out) = (path("validator"), path("validator.json"), path("launch"));
        let ours = |args: &[&str]| -> Result<(), Failure> {
            let ran = farm(&home).args(args).stdin(Stdio::null()).output()?;
            if ran.status.success() { Ok(()) } else { Err(failed(&args.join(" "), &ran)) }
        };
        ours(&["validator", "init", "--data", &data, "--address", &format!("127.0.0.1:{port}"), "--out", &said])?;
        ours(&["genesis", "--name", "bench", "--validator", &said, "--account", &users, "--account", &owners, "--out", &out])?;
        let (genesis, network) = (path("launch/genesis"), path("launch/network.toml"));
        if let Some(audits) = &shape.audits {
            let mut begins = pasture_node::genesis_in_file(Path::new(&genesis))?;
            begins.params.audits = audits.clone();
            pasture_node::write_genesis(Path::new(&genesis), &begins)?;
        }
        ours(&["validator", "join", "--data", &data, "--genesis", &genesis, "--network", &network])?;
        let mut run = farm(&home);
        run.args(["validator", "run", "--json", "--data", &data, "--listen", "127.0.0.1:0"]);
        let validator = Process::start(run, scratch, "validator")?;
        let url = wait("the validator", &validator, || {
            let text = std::fs::read_to_string(scratch.join("validator.out")).ok()?;
            let ready: Value = text.lines().find_map(|line| serde_json::from_str(line).ok())?;
            ready.get("api_url")?.as_str().map(str::to_owned)
        })?;
        let mut up = farm(&owner);
        up.args(["--api-url", &url, "--yes", "up", "--data", &path("machine"), "--engine"]).arg(&engine.socket);
        up.args(["--cpu", &shape.cores.to_string(), "--memory", "1Gi", "--disk", "2Gi"]);
        let machine = Process::start(up, scratch, "machine")?;
        let network = Self { home, url, validator, machine };
        wait("the machine", &network.machine, || {
            let offers = network.farm(&["offers", "--json"]).output().ok()?;
            (offers.status.success() && offers.stdout.windows(5).any(|part| part == b"local")).then_some(())
        })?;
        Ok(network)
    }

    /// Where its validator answers.
    #[allow(dead_code, reason = "each bench uses its part")]
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Its user's.
    #[allow(dead_code, reason = "each bench uses its part")]
    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    /// The number of its machine's process.
    #[allow(dead_code, reason = "each bench uses its part")]
    pub(crate) fn machine(&self) -> String {
        self.machine.id()
    }

    pub(crate) fn farm(&self, args: &[&str]) -> Command {
        let mut command = farm(&self.home);
        command.args(["--api-url", &self.url, "--yes"]).args(args).stdin(Stdio::null());
        command
    }

    /// What is used beside a job that does nothing, for so long.
    #[allow(dead_code, reason = "each bench uses its part")]
    pub(crate) fn beside(&self, time: Duration) -> Result<Beside, Failure> {
        let ours = |args: &[&str]| -> Result<(), Failure> {
            let ran = self.farm(args).output()?;
            if ran.status.success() { Ok(()) } else { Err(failed("farm failed", &ran)) }
        };
        ours(&["run", IMAGE, "-d", "--name", "quiet", "--egress", "none", "--", "sleep", "3600"])?;
        say(&format!("a job that does nothing on a network by production rules, for {} s ...", time.as_secs()));
        let [machine, validator] = [&self.machine, &self.validator].map(|process| process.id());
        let (before, begun) = ([cpu_seconds(&machine)?, cpu_seconds(&validator)?], Instant::now());
        std::thread::sleep(time);
        let passed = begun.elapsed().as_secs_f64();
        let beside =
            Beside { machine: (cpu_seconds(&machine)? - before[0]) / passed, validator: (cpu_seconds(&validator)? - before[1]) / passed };
        ours(&["stop", "quiet", "--grace", "1s"])?;
        Ok(beside)
    }

    /// A job, to its end; what it said.
    #[allow(dead_code, reason = "each bench uses its part")]
    pub(crate) fn says(&self, command: &str) -> Result<String, Failure> {
        let ran = self.farm(&["run", IMAGE, "--egress", "none", "--cpu", "1", "--", "sh", "-c", command]).output()?;
        if ran.status.success() { Ok(String::from_utf8_lossy(&ran.stdout).into_owned()) } else { Err(failed("a job failed", &ran)) }
    }

    pub(crate) fn stop(self) -> Result<(), Failure> {
        self.machine.stop()?;
        self.validator.stop()
    }
}
