//! Machines behind routers: a network on an internet of its own, machines and people in homes that let nobody in.

use crate::support::{Folder, Host, Lab, Nat, PATIENCE, Running, SMALL, Signal, User, eventually, until};
use serde_json::Value;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

const PORT: u16 = 8_730;
/// Answers each connection to port 7000 with what it is sent.
pub(crate) const ECHO: &str = "echo up; while true; do nc -l -p 7000 -e cat; done";

/// Somebody at a machine of the lab.
pub(crate) struct Resident<'a> {
    host: &'a Host,
    pub(crate) user: User,
}

impl<'a> Resident<'a> {
    pub(crate) fn of(host: &'a Host) -> Self {
        Self { host, user: User::at_home() }
    }
    pub(crate) fn start(&self, args: &[&str]) -> Running {
        Running::start(self.host.on(&self.user.command(args)))
    }
    #[track_caller]
    pub(crate) fn farm(&self, args: &[&str]) -> crate::support::Done {
        self.start(args).finish(Duration::from_secs(300))
    }
    pub(crate) fn status(&self, job: &str) -> Value {
        self.farm(&["status", job, "--json"]).exits(0).json()
    }
}

/// The node that others join by, with its relay: no machine of its own, one validator, on the internet.
pub(crate) struct Gate {
    host: Host,
    data: TempDir,
    running: Option<Running>,
    pub(crate) ticket: String,
}

impl Gate {
    pub(crate) fn open(lab: &Lab) -> Self {
        let mut gate = Self { host: lab.public("gate"), data: tempfile::tempdir().unwrap(), running: None, ticket: String::new() };
        gate.start();
        gate
    }
    fn command(data: &Path, at: Ipv4Addr) -> Command {
        let user = User::at(data.join("home"), String::new());
        user.command(&["dev", "--json", "--no-provider", "--data", data.join("net").to_str().unwrap(), "--listen", &format!("{at}:{PORT}")])
    }
    /// Also after a kill: the same network under the same ticket.
    fn start(&mut self) {
        std::fs::create_dir_all(self.data.path().join("home")).unwrap();
        let mut running = Running::start(self.host.on(&Self::command(self.data.path(), self.host.address())));
        running.shows("\"event\":\"ready\"");
        let line = running.stdout();
        let ready: Value = serde_json::from_str(line.lines().next().unwrap()).unwrap();
        let ticket = ready["ticket"].as_str().unwrap().to_owned();
        assert!(self.ticket.is_empty() || self.ticket == ticket, "a ticket holds over a restart");
        self.ticket = ticket;
        self.running = Some(running);
    }
    pub(crate) fn kill(&mut self) {
        let running = self.running.take().unwrap();
        running.signal(Signal::KILL);
        let _ = running.finish(PATIENCE);
    }
}

/// Offers a machine of the lab to a ticket's network.
pub(crate) fn offer(resident: &Resident<'_>, ticket: &str, engine: &str) -> Running {
    offer_with(resident, ticket, engine, &[])
}

pub(crate) fn offer_with(resident: &Resident<'_>, ticket: &str, engine: &str, more: &[&str]) -> Running {
    let data = resident.user.home().join("machine");
    let most = ["--cpu", "0.5", "--memory", "256Mi", "--disk", "256Mi"];
    let mut up = resident
        .start(&[&["up", "--yes", "--join", ticket, "--engine", engine, "--data", data.to_str().unwrap()], &most[..], more].concat());
    eventually("the machine is offered", PATIENCE, || match up.ended() {
        Some(_) => panic!("{}", up.stderr()),
        None => up.stderr().contains("this machine is offered").then_some(()),
    });
    up
}

/// One echo through a door of this host.
pub(crate) fn echo(host: &Host, port: u16, what: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = host.inside(|| TcpStream::connect((Ipv4Addr::LOCALHOST, port)))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(what)?;
    let mut answer = vec![0; what.len()];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}

pub(crate) fn reached_directly(status: &Value) -> Option<String> {
    status["reached"]["direct"].as_str().map(str::to_owned)
}

#[test]
fn a_job_runs_behind_a_router_and_goes_on_without_gateway_and_relay() {
    let lab = Lab::new("direct");
    let mut gate = Gate::open(&lab);
    let (home, cafe) = (lab.behind_nat("home", Nat::KeepsPorts), lab.behind_nat("cafe", Nat::KeepsPorts));
    let engine = home.engine();
    let (owner, ann) = (Resident::of(&home), Resident::of(&cafe));
    let mut up = offer(&owner, &gate.ticket, engine.socket());

    let joined = ann.farm(&["join", &gate.ticket, "--name", "friends"]).exits(0);
    let _ = joined.says(&["joined friends"]);
    let _ = ann.farm(&["context", "list"]).exits(0).says(&["friends", "peer to peer", "1 validator since the founding"]);
    let folder = Folder::script("echo", ECHO);
    let mut run = ann.start(&[&["run", folder.arg()], &SMALL[..]].concat());
    run.shows("up");
    let direct = eventually("a direct path between two routers that keep ports", PATIENCE, || reached_directly(&ann.status("echo")));
    assert!(direct.starts_with(&format!("{}:", home.outside())), "{direct}");

    let mut forward = ann.start(&["port-forward", "echo", "0:7000", "--json"]);
    forward.shows("]\n");
    let doors: Value = serde_json::from_str(&forward.stdout()).unwrap();
    let port: u16 = doors[0]["local"].as_str().unwrap().rsplit_once(':').unwrap().1.parse().unwrap();
    until("the port answers", || echo(&cafe, port, b"with all").is_ok_and(|answer| answer == b"with all"));

    // Each connection finds its own way: this one begins by the relay, too.
    until("it says that it is direct", || forward.stderr().contains("reached directly at"));

    // The only validator, the gateway and the relay are one process; nobody is left but the two.
    gate.kill();
    for n in 0..5u8 {
        until("it serves with nobody else there", || echo(&cafe, port, &[n; 9]).is_ok_and(|answer| answer == [n; 9]));
    }
    assert!(forward.ended().is_none() && up.ended().is_none(), "{}\n{}", forward.stderr(), up.stderr());
    gate.start();
    until("it serves when they are back", || echo(&cafe, port, b"again").is_ok_and(|answer| answer == b"again"));
    drop(forward);
    let paid_for = |receipt: &Value| receipt["served_ms"].as_u64().unwrap_or(0);
    until("time of service is confirmed", || {
        let status = ann.status("echo");
        status["lease"]["confirmed_ms"].as_u64().is_some_and(|ms| ms > 0)
    });
    let _ = ann.farm(&["stop", "echo"]).exits(0);
    let _ = run.finish(PATIENCE);
    let receipt = eventually("it is settled", PATIENCE, || {
        let receipt = ann.farm(&["receipt", "echo", "--json"]);
        let value: Value = serde_json::from_str(&receipt.stdout).ok()?;
        value["settlement"].is_object().then_some(value)
    });
    assert!(paid_for(&receipt) > 0 && receipt["charged"] != "0", "{receipt}");
    assert_eq!(receipt["final"], true);
}

#[test]
fn where_routers_let_no_direct_path_through_a_relay_carries_what_it_cannot_read() {
    let lab = Lab::new("relayed");
    let gate = Gate::open(&lab);
    let (home, cafe) = (lab.behind_nat("home", Nat::RandomPorts), lab.behind_nat("cafe", Nat::RandomPorts));
    let engine = home.engine();
    let (owner, ann) = (Resident::of(&home), Resident::of(&cafe));
    let _up = offer(&owner, &gate.ticket, engine.socket());
    let _ = ann.farm(&["join", &gate.ticket]).exits(0);
    let out = tempfile::tempdir().unwrap();
    let folder = Folder::script("away", "echo here; head -c 3000000 /dev/urandom >$FARM_OUTPUT_DIR/noise; sleep 2");
    let done = ann.farm(&[&["run", folder.arg(), "--out", out.path().to_str().unwrap()], &SMALL[..]].concat()).exits(0);
    assert_eq!(done.stdout, "here\n");
    assert_eq!(std::fs::metadata(out.path().join("noise")).unwrap().len(), 3_000_000);
    let status = ann.status("away");
    assert!(status["reached"]["rtt_us"].is_u64() && reached_directly(&status).is_none(), "{}", status["reached"]);
    let _ = ann.farm(&["status", "away"]).exits(0).says(&["by a relay"]);
}

#[test]
fn a_bad_ticket_and_another_network_are_named() {
    let lab = Lab::new("tickets");
    let (gate, desk) = (Gate::open(&lab), lab.behind_nat("desk", Nat::KeepsPorts));
    let ann = Resident::of(&desk);
    let _ = ann.farm(&["join", "pasture-invite-00"]).exits(2).says(&["this is not a ticket"]);
    let mistyped = gate.ticket.replace("pasture-join-a", "pasture-join-b");
    let _ = ann.farm(&["join", &mistyped]).exits(2).says(&["mistyped"]);
    // The right gate, under another network's name: whoever forges a ticket gains no trust.
    let ticket = pasture_net::Ticket::parse(&gate.ticket).unwrap();
    let forged = pasture_net::Ticket { zone: pasture_types::ZoneId([7; 32]), ..ticket };
    let _ = ann.farm(&["join", &forged.to_text()]).exits(125).says(&["another network"]);
    let _ = ann.farm(&["context", "list", "--json"]).exits(0);
    assert!(!ann.user.home().join("config.toml").exists(), "nothing is kept of it");
}
