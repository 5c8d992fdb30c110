//! Several validators and providers on one machine: directories of their own, processes of their own, addresses on loopback.
//!
//! ```text
//!  DIR/zone, DIR/ledger, DIR/provider   the first of each, in the process of `farm dev`
//!  DIR/validators/2/{zone,ledger,log}   the second validator, a process `farm validator run`
//!  DIR/providers/2/{home,machine,log}   the second provider with an account of its own, a process `farm up`
//! ```
//! Guarantees: the same directory always gives the same validators. A process that ends by itself is told of and not started again. None
//! outlives the one that started it: each ends when its standard input does.

use crate::NodeError;
use crate::launch::{Launch, announcement, audited, settle_in};
use crate::zone::LocalZone;
use pasture_rt::{Clock, TaskKind, spawn};
use pasture_store::StoreError;
use pasture_types::audit::GpuRate;
use pasture_types::genesis::Params;
use pasture_types::{NodeId, Resources};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc;

/// Most validators of a local network, and most providers: each is a process.
pub const MAX_LOCAL_VALIDATORS: usize = 16;
/// How long a process may take to open its store and listen.
const READY: Duration = Duration::from_secs(60);
/// How long a process may take to stop before it is ended.
const STOP: Duration = Duration::from_secs(15);
/// Where validators listen, on loopback: below what the system gives to outgoing connections.
const PORTS: std::ops::Range<u16> = 18_740..28_740;

/// A validator in a process of its own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LocalValidator {
    /// Its public key.
    pub key: NodeId,
    /// Base URL of its API.
    pub api_url: String,
    /// Its process.
    pub pid: u32,
    /// Its directory.
    pub data: PathBuf,
}

/// What `farm validator run --json` says when it is up.
#[derive(Deserialize)]
struct Ready {
    validator: NodeId,
    api_url: String,
}

/// A provider in a process of its own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LocalProvider {
    /// Its machine.
    pub node: NodeId,
    /// Its process.
    pub pid: u32,
    /// Its directory.
    pub data: PathBuf,
}

/// What `farm up --json` says when it is up.
#[derive(Deserialize)]
struct Offered {
    node: NodeId,
}

/// Processes that end with this one.
#[derive(Debug)]
struct Children {
    running: Vec<(u32, ChildStdin)>,
    over: mpsc::Sender<u32>,
    ended: mpsc::Receiver<u32>,
}

/// The validators besides the one of this process.
#[derive(Debug)]
pub(crate) struct Others {
    pub(crate) validators: Vec<LocalValidator>,
    children: Children,
}

/// The providers besides the one of this process.
#[derive(Debug)]
pub(crate) struct Machines {
    pub(crate) providers: Vec<LocalProvider>,
    children: Children,
}

fn folder(dir: &Path, number: usize) -> PathBuf {
    dir.join("validators").join(number.to_string())
}

/// Makes the directories of a network of `count` validators, or finds that they are there. `dir` is held; the others are of nobody but it.
/// `audits`: whether its machines are audited, and what is asked of their GPUs.
pub(crate) fn prepare(dir: &Path, count: usize, audits: Option<&[GpuRate]>, clock: &dyn Clock) -> Result<(), NodeError> {
    if !(1..=MAX_LOCAL_VALIDATORS).contains(&count) {
        return Err(NodeError::Options(format!("a local network has 1 to {MAX_LOCAL_VALIDATORS} validators")));
    }
    if let Some(zone) = LocalZone::load(dir)? {
        let has = zone.genesis.validators.len();
        if audits.is_some() && !zone.genesis.params.audits.active {
            let what = "was made without capacity checks: take another folder, or have its validators vote for them";
            return Err(NodeError::Options(format!("the network in {} {what}", dir.display())));
        }
        return match has == count {
            true => Ok(()),
            false => Err(NodeError::Options(format!("the network in {} has {has} validators, not {count}", dir.display()))),
        };
    }
    if count == 1 {
        let params = audits.map_or_else(Params::dev, |gpus| audited(Params::dev(), gpus));
        return LocalZone::create(dir, params, clock).map(|_| ());
    }
    let ports = free_ports(count)?;
    let dirs: Vec<PathBuf> = (1..=count).map(|n| if n == 1 { dir.into() } else { folder(dir, n) }).collect();
    let at = |port: &u16| SocketAddr::from((Ipv4Addr::LOCALHOST, *port));
    let founders = dirs.iter().zip(&ports).map(|(dir, port)| announcement(dir, at(port))).collect::<Result<Vec<_>, _>>()?;
    let gpus = audits.unwrap_or_default().to_vec();
    let launch = Launch { name: "dev".into(), dev: true, audits: audits.is_some(), gpus, memory: false, founders, accounts: vec![] };
    let (genesis, network) = launch.make(clock)?;
    // The first one last: where it has a zone, all have.
    dirs.iter().rev().try_for_each(|dir| settle_in(dir, &genesis, &network, None).map(|_| ()))
}

fn free_ports(count: usize) -> Result<Vec<u16>, NodeError> {
    let mut held = Vec::new();
    // From a place of its own, so that networks that are made at one moment do not look at the same ports.
    let from = usize::try_from(std::process::id()).unwrap_or_default() % PORTS.len();
    for port in PORTS.cycle().skip(from).take(PORTS.len()) {
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            held.push((port, listener));
        }
        if held.len() == count {
            return Ok(held.into_iter().map(|(port, _)| port).collect());
        }
    }
    Err(NodeError::Options(format!("no {count} free ports between {} and {}", PORTS.start, PORTS.end)))
}

impl Children {
    fn none() -> Self {
        let (over, ended) = mpsc::channel(MAX_LOCAL_VALIDATORS);
        Self { running: vec![], over, ended }
    }

    /// Waits until a process says that it is up; its id, and what it said.
    async fn ready<T: DeserializeOwned>(&mut self, mut child: Child, what: &'static str, data: &Path) -> Result<(u32, T), NodeError> {
        let said = tokio::time::timeout(READY, ready_line(&mut child)).await;
        let (Some(said), Some(pid), Some(stdin)) = (said.ok().flatten(), child.id(), child.stdin.take()) else {
            return Err(NodeError::Options(format!("a {what} did not start: its log is {}", data.join("log").display())));
        };
        self.running.push((pid, stdin));
        spawn(TaskKind::Server, watch(child, what, pid, self.over.clone()));
        Ok((pid, said))
    }

    /// Ends them all and waits for them.
    async fn stop(mut self) {
        let mut left: Vec<u32> = self.running.iter().map(|(pid, _)| *pid).collect();
        // Their standard input ends here.
        self.running.clear();
        let all_over = async {
            while !left.is_empty() {
                match self.ended.recv().await {
                    Some(pid) => left.retain(|p| *p != pid),
                    None => break,
                }
            }
        };
        if tokio::time::timeout(STOP, all_over).await.is_err() {
            tracing::warn!("a process of this network did not stop in time");
        }
    }
}

impl Others {
    /// None.
    pub(crate) fn none() -> Self {
        Self { validators: vec![], children: Children::none() }
    }

    /// Starts the processes of a prepared directory, the first validator excepted.
    pub(crate) async fn start(program: &Path, dir: &Path, count: usize) -> Result<Self, NodeError> {
        let mut others = Self::none();
        let mut starting = Vec::new();
        for number in 2..=count {
            let data = folder(dir, number);
            let args = ["validator", "run", "--json", "--with-parent", "--listen", "127.0.0.1:0", "--data"].map(OsString::from);
            let child = launch(program, &data, None, args.into_iter().chain([data.clone().into()]))?;
            starting.push((data, child));
        }
        for (data, child) in starting {
            let (pid, Ready { validator, api_url }) = others.children.ready(child, "validator", &data).await?;
            others.validators.push(LocalValidator { key: validator, api_url, pid, data });
        }
        Ok(others)
    }

    /// Ends them all and waits for them.
    pub(crate) async fn stop(self) {
        self.children.stop().await;
    }
}

/// What all machines of a local network have in common.
pub(crate) struct Fleet<'a> {
    pub(crate) program: &'a Path,
    pub(crate) dir: &'a Path,
    pub(crate) api_url: &'a str,
    /// Further gateways that are told where each is.
    pub(crate) announce_to: &'a [String],
    /// What each declares of its speed.
    pub(crate) declared_percent: u8,
    pub(crate) engine: Option<&'a Path>,
    pub(crate) region: &'a str,
    /// What each offers.
    pub(crate) resources: &'a Resources,
    /// Whether its jobs end with it.
    pub(crate) stop_jobs: bool,
}

impl Machines {
    /// None.
    pub(crate) fn none() -> Self {
        Self { providers: vec![], children: Children::none() }
    }

    /// Starts the providers, the first excepted.
    pub(crate) async fn start(fleet: &Fleet<'_>, count: usize) -> Result<Self, NodeError> {
        let mut machines = Self::none();
        let mut starting = Vec::new();
        for number in 2..=count {
            let data = fleet.dir.join("providers").join(number.to_string());
            let home = data.join("home");
            std::fs::create_dir_all(&home).map_err(|source| StoreError::Io { action: "create", path: home.clone(), source })?;
            starting.push((launch(fleet.program, &data, Some(&home), fleet.args(&data, number))?, data));
        }
        for (child, data) in starting {
            let (pid, Offered { node }) = machines.children.ready(child, "provider", &data).await?;
            machines.providers.push(LocalProvider { node, pid, data });
        }
        Ok(machines)
    }

    /// Ends them all and waits for them.
    pub(crate) async fn stop(self) {
        self.children.stop().await;
    }
}

impl Fleet<'_> {
    fn args(&self, data: &Path, number: usize) -> Vec<OsString> {
        let mut args: Vec<OsString> = ["--api-url", self.api_url, "--yes", "--json", "up", "--with-parent", "--usual-priority", "--data"]
            .map(OsString::from)
            .to_vec();
        args.push(data.join("machine").into());
        let r = self.resources;
        let sizes = [
            ("--cpu", format!("{}m", r.cpu_millis)),
            ("--memory", format!("{}Mi", r.memory_bytes >> 20)),
            ("--disk", format!("{}Mi", r.disk_bytes >> 20)),
            ("--region", self.region.to_owned()),
            ("--name", format!("machine {number}")),
        ];
        args.extend(sizes.into_iter().flat_map(|(flag, size)| [flag.into(), size.into()]));
        args.extend(self.announce_to.iter().flat_map(|url| ["--announce".into(), url.into()]));
        args.extend(["--declare-speed".into(), self.declared_percent.to_string().into()]);
        if let Some(engine) = self.engine {
            args.extend(["--engine".into(), engine.into()]);
        }
        if self.stop_jobs {
            args.push("--stop-jobs".into());
        }
        args
    }
}

fn launch(program: &Path, data: &Path, home: Option<&Path>, args: impl IntoIterator<Item = OsString>) -> Result<Child, NodeError> {
    let path = data.join("log");
    let io = |action, path: &Path| {
        let path = path.to_path_buf();
        move |source| NodeError::from(StoreError::Io { action, path, source })
    };
    let log = std::fs::OpenOptions::new().create(true).append(true).open(&path).map_err(io("open", &path))?;
    let mut command = Command::new(program);
    if let Some(home) = home {
        command.env("FARM_HOME", home);
    }
    // Of its own: Ctrl-C ends the network in its order.
    command.args(args).process_group(0).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log).spawn().map_err(io("run", program))
}

async fn ready_line<T: DeserializeOwned>(child: &mut Child) -> Option<T> {
    let mut lines = BufReader::new(child.stdout.take()?).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if let Ok(ready) = serde_json::from_str(&line) {
            // Whatever else it says goes nowhere, but its pipe stays open.
            spawn(TaskKind::Server, async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return Some(ready);
        }
    }
    None
}

async fn watch(mut child: Child, what: &'static str, pid: u32, over: mpsc::Sender<u32>) {
    let ended = child.wait().await;
    match ended {
        Ok(status) if status.success() => tracing::info!(what, pid, "a process of this network stopped"),
        Ok(status) => tracing::warn!(what, pid, %status, "a process of this network ended"),
        Err(error) => tracing::warn!(what, pid, %error, "a process of this network cannot be waited for"),
    }
    // Nobody waits for it any more.
    let _ = over.send(pid).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zone::trusted_by;
    use crate::{NetworkFile, Place, announce, settle};
    use pasture_light::Checkpoint;
    use pasture_rt::ManualClock;

    #[test]
    fn a_directory_keeps_its_validators() {
        let dir = tempfile::tempdir().unwrap();
        let clock = ManualClock::new(5_000);
        prepare(dir.path(), 4, None, &clock).unwrap();
        let zones: Vec<_> = (2..=4).map(|n| LocalZone::load(&folder(dir.path(), n)).unwrap().unwrap()).collect();
        let first = LocalZone::load(dir.path()).unwrap().unwrap();
        assert_eq!((first.genesis.validators.len(), first.genesis.accounts.len()), (4, 4));
        for zone in &zones {
            assert_eq!(zone.genesis, first.genesis);
            let network = zone.network.as_ref().unwrap();
            assert_eq!(network.peers, first.network.as_ref().unwrap().peers);
            let own = network.peers.iter().find(|(key, _)| *key == zone.identity.public_key()).unwrap();
            assert_eq!((network.listen, network.private), (own.1, true));
        }
        prepare(dir.path(), 4, None, &clock).unwrap();
        let error = prepare(dir.path(), 1, None, &clock).unwrap_err().to_string();
        assert!(error.contains("has 4 validators, not 1"), "{error}");
        let error = prepare(dir.path(), 4, Some(&[]), &clock).unwrap_err().to_string();
        assert!(error.contains("without capacity checks"), "{error}");
        let audited = tempfile::tempdir().unwrap();
        prepare(audited.path(), 1, Some(&[]), &clock).unwrap();
        assert!(LocalZone::load(audited.path()).unwrap().unwrap().genesis.params.audits.active);
        assert!(prepare(dir.path(), 17, None, &clock).is_err() && prepare(dir.path(), 0, None, &clock).is_err());
    }

    #[test]
    fn a_network_that_makes_no_sense_is_not_made() {
        let dirs: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
        let clock = ManualClock::new(5_000);
        let at = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let said: Vec<_> = dirs.iter().zip(1..).map(|(dir, port)| announce(dir.path(), at(port)).unwrap()).collect();
        let launch = |founders: Vec<crate::Announcement>| Launch {
            name: "n".into(),
            dev: true,
            audits: false,
            gpus: vec![],
            memory: false,
            founders,
            accounts: vec![],
        };
        let refused = |launch: Launch| launch.make(&clock).unwrap_err().to_string();
        assert!(launch(said.clone()).make(&clock).is_ok());
        assert!(refused(launch(vec![])).contains("1 to 64"));
        assert!(refused(launch(vec![said[0].clone(), said[0].clone()])).contains("named twice"));
        let moved = crate::Announcement { address: at(1), ..said[1].clone() };
        assert!(refused(launch(vec![said[0].clone(), moved])).contains("another one is at"));
        let forged = crate::Announcement { bls_pop: said[1].bls_pop.clone(), ..said[0].clone() };
        assert!(refused(launch(vec![forged])).contains("do not belong together"));
        let unreadable = crate::Announcement { operator: "me".into(), ..said[0].clone() };
        assert!(refused(launch(vec![unreadable])).contains("not a public key"));
        assert!(refused(Launch { name: "\n".into(), ..launch(said.clone()) }).contains("name"));
        assert!(refused(Launch { dev: false, ..launch(said.clone()) }).contains("money"));
        // Somebody who is not named has no place in it, and a directory has one network.
        let (genesis, network) = launch(said[..2].to_vec()).make(&clock).unwrap();
        let refused = |dir: usize, address: Option<&str>| {
            settle(dirs[dir].path(), &genesis, &network, address.map(|a| a.parse().unwrap()), None).unwrap_err().to_string()
        };
        // Whom the genesis does not name must say where it is.
        assert!(refused(2, None).contains("--address"));
        let (other, _) = launch(said[1..].to_vec()).make(&clock).unwrap();
        let checkpoint = |genesis| Checkpoint::genesis(trusted_by(genesis).unwrap(), 0, 0);
        let candidate = |given: &Checkpoint| settle(dirs[2].path(), &genesis, &network, Some("127.0.0.1:7".parse().unwrap()), Some(given));
        assert!(candidate(&checkpoint(&other)).unwrap_err().to_string().contains("another network's"));
        assert_eq!(candidate(&checkpoint(&genesis)).unwrap(), Place::Candidate);
        let anchor = crate::checkpoint::anchor_in(dirs[2].path()).unwrap().unwrap();
        assert_eq!((anchor.since, &anchor.validators), (0, trusted_by(&genesis).unwrap().hash()));
        assert!(crate::checkpoint::anchor_in(dirs[1].path()).unwrap().is_none());
        let book = NetworkFile::load(dirs[2].path()).unwrap().unwrap();
        assert_eq!(book.validators.len(), network.validators.len() + 1);
        assert!(LocalZone::load(dirs[2].path()).unwrap().unwrap().genesis == genesis);
        assert_eq!(settle(dirs[0].path(), &genesis, &network, None, None).unwrap(), Place::Founder);
        assert!(refused(0, None).contains("belongs to a network"));
    }
}
