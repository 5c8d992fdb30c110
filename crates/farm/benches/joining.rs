//! One command on a machine that knows nothing: how long until it has accepted its first job.
//!
//! A network with a gate on loopback, and machines that join it by a ticket, one after the other, each with a home of its own, in turn with
//! machines that are told the API's address and make no way of their own. A user's order is sent the moment that the offer can be matched. What
//! distances and routers add is not in it: `crates/farm/tests/network/nat.rs` has those.
//! `cargo bench -p pasture-farm --bench joining -- [--quick]`; needs `scripts/engine.sh base`; `FARM_TEST_ENGINE` names the engine's socket.

#[path = "run/process.rs"]
mod process;
#[path = "../../../bench/report.rs"]
mod report;

use pasture_api::{ApiClient, LeaseView};
use process::{Process, failed, farm, wait};
use report::{Failure, Figure, Goal, Report, Spread, quick, say};
use serde_json::{Value, json};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const IMAGE: &str = "pasture/busybox:1";
/// Where an engine usually listens, ours first.
const SOCKETS: [&str; 2] = ["/run/pasture/docker.sock", "/var/run/docker.sock"];
/// Until the first job is accepted.
const GOAL_S: f64 = 60.0;
/// Between two looks at the ledger.
const LOOK: Duration = Duration::from_millis(20);
/// Longest that one machine is waited for.
const DEADLINE: Duration = Duration::from_secs(120);

fn engine() -> Result<PathBuf, Failure> {
    let named = std::env::var_os("FARM_TEST_ENGINE").map(PathBuf::from);
    let candidates = named.map_or_else(|| SOCKETS.iter().map(PathBuf::from).collect(), |named| vec![named]);
    let found = candidates.into_iter().find(|socket| UnixStream::connect(socket).is_ok());
    Ok(found.ok_or("no container engine answers; scripts/engine.sh base starts one")?)
}

/// A port that is free for the API, and the next one for the relay.
fn port() -> Result<u16, Failure> {
    for _ in 0..100 {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok() && UdpSocket::bind(("127.0.0.1", port)).is_ok();
        if port < u16::MAX && free(port) && free(port + 1) {
            return Ok(port);
        }
    }
    Err("no two ports beside each other are free".into())
}

/// A network without machines, and its user.
struct Network {
    scratch: PathBuf,
    engine: PathBuf,
    url: String,
    ticket: String,
    gate: Process,
    runtime: tokio::runtime::Runtime,
    api: ApiClient,
}

/// What passed since a machine's command was typed.
struct Took {
    /// Until its offer could be matched, in seconds.
    offered: f64,
    /// Until it had accepted a job.
    accepted: f64,
}

impl Network {
    fn start(scratch: &Path) -> Result<Self, Failure> {
        let (port, engine) = (port()?, engine()?);
        let url = format!("http://127.0.0.1:{port}");
        let mut dev = farm(&scratch.join("gate"));
        dev.args(["dev", "--no-provider", "--no-lan", "--json", "--host", "127.0.0.1", "--listen", &format!("127.0.0.1:{port}"), "--data"]);
        dev.arg(scratch.join("network"));
        let gate = Process::start(dev, scratch, "gate")?;
        let ticket = wait("the network", &gate, || {
            let text = std::fs::read_to_string(scratch.join("gate.out")).ok()?;
            let ready: Value = text.lines().find_map(|line| serde_json::from_str(line).ok())?;
            ready.get("ticket")?.as_str().map(str::to_owned)
        })?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let api = ApiClient::new(&url)?;
        let network = Self { scratch: scratch.into(), engine, url, ticket, gate, runtime, api };
        network.user(&["account", "test-credits", "1000"])?;
        Ok(network)
    }

    fn user(&self, args: &[&str]) -> Result<(), Failure> {
        let ran = farm(&self.scratch.join("user")).args(["--api-url", &self.url, "--yes"]).args(args).output()?;
        if ran.status.success() { Ok(()) } else { Err(failed(&args.join(" "), &ran)) }
    }

    fn until<T>(&self, what: &str, look: impl AsyncFn(&ApiClient) -> Option<T>) -> Result<T, Failure> {
        let begun = Instant::now();
        while begun.elapsed() < DEADLINE {
            if let Some(found) = self.runtime.block_on(look(&self.api)) {
                return Ok(found);
            }
            std::thread::sleep(LOOK);
        }
        Err(format!("{what} took more than {} s", DEADLINE.as_secs()).into())
    }

    /// A new machine in a region of its own, from its command to its first job.
    fn machine(&self, name: &str, by: &[&str]) -> Result<Took, Failure> {
        let mut up = farm(&self.scratch.join(name));
        up.args(["--yes", "--json"]).args(by.iter().filter(|word| word.starts_with("--api-url") || word.starts_with("http://")));
        up.arg("up").args(by.iter().filter(|word| !(word.starts_with("--api-url") || word.starts_with("http://"))));
        up.args(["--region", name, "--cpu", "0.5", "--memory", "128Mi", "--disk", "256Mi", "--data"]);
        up.arg(self.scratch.join(name).join("machine")).arg("--engine").arg(&self.engine);
        let begun = Instant::now();
        let machine = Process::start(up, &self.scratch, name)?;
        self.until("an offer", async |api| {
            let offers = api.offers().await.ok()?;
            offers.iter().any(|offer| offer.terms.region == name && offer.reachable).then_some(())
        })?;
        let offered = begun.elapsed().as_secs_f64();
        let small = ["--cpu", "0.1", "--memory", "32Mi", "--disk", "16Mi", "--egress", "none"];
        self.user(&[&["run", IMAGE, "-d", "--name", name, "--region", name][..], &small, &["--", "sleep", "60"]].concat())?;
        let node = self.until("the offer's machine", async |api| {
            api.offers().await.ok()?.into_iter().find(|offer| offer.terms.region == name).map(|offer| offer.node)
        })?;
        self.until("the first job", async |api| {
            let leases: Vec<LeaseView> = api.node_leases(&node).await.ok()?;
            leases.iter().any(|lease| lease.accepted.is_some()).then_some(())
        })?;
        let accepted = begun.elapsed().as_secs_f64();
        self.user(&["stop", name, "--grace", "1s"])?;
        machine.stop()?;
        Ok(Took { offered, accepted })
    }
}

fn main() -> Result<(), Failure> {
    let quick = quick()?;
    let rounds = if quick { 1 } else { 7 };
    let scratch = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let mut report = Report::begin("joining", quick, scratch.path());
    report.plan(json!({ "rounds": rounds }));
    let network = Network::start(scratch.path())?;
    let (mut joined, mut told): (Vec<Took>, Vec<Took>) = (vec![], vec![]);
    for round in 0..rounds {
        say(&format!("machine {} of {rounds}, by a ticket and by an address ...", round + 1));
        joined.push(network.machine(&format!("joined-{round}"), &["--join", &network.ticket])?);
        told.push(network.machine(&format!("told-{round}"), &["--api-url", &network.url])?);
    }
    network.gate.stop()?;
    let spread = |of: &[Took], part: fn(&Took) -> f64| Spread::median(&of.iter().map(part).collect::<Vec<_>>());
    let accepted = Figure::new("`farm up --join TICKET` until the first job is accepted", "s", spread(&joined, |took| took.accepted));
    report.add(accepted.against("told the API's address", "s", spread(&told, |took| took.accepted)).goal(Goal::Most(GOAL_S)));
    let offered = Figure::new("of it until its offer can be matched", "s", spread(&joined, |took| took.offered));
    report.add(offered.against("told the API's address", "s", spread(&told, |took| took.offered)));
    report.finish()
}
