//! A network that several validators let others into: what becomes of those who joined by one of them when it is gone for good.

use crate::nat::{ECHO, Resident, echo, offer, reached_directly};
use crate::support::{Folder, Host, Lab, Nat, PATIENCE, Running, SMALL, Signal, User, ask, eventually, until};
use pasture_net::Ticket;
use serde_json::Value;
use std::path::Path;

pub(crate) const VALIDATORS: u16 = 4;
/// Ports of the validators' own network begin here, those of their gates and relays there.
const OWN: u16 = 8_600;
const GATES: u16 = 8_730;

fn arg(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// Four validators on one machine of the internet, each with a gate and a relay.
pub(crate) fn found(user: &User, host: &Host) -> Vec<(Running, Value)> {
    let at = |name: &str| user.home().join(name);
    let (key, out) = (user.key().public().to_string(), arg(&at("launch")));
    let funds = format!("{key}=100000");
    let mut make: Vec<String> = ["genesis", "--name", "meadow", "--dev", "--account", &funds, "--out", &out].map(str::to_owned).to_vec();
    for n in 0..VALIDATORS {
        let (data, announced) = (arg(&at(&format!("v{n}"))), arg(&at(&format!("v{n}.json"))));
        let address = format!("127.0.0.1:{}", OWN + n);
        let _ = user.farm(&["validator", "init", "--data", &data, "--address", &address, "--out", &announced]).exits(0);
        make.extend(["--validator".into(), announced]);
    }
    let _ = user.farm(&make.iter().map(String::as_str).collect::<Vec<_>>()).exits(0);
    let (genesis, network) = (arg(&at("launch/genesis")), arg(&at("launch/network.toml")));
    for n in 0..VALIDATORS {
        let data = arg(&at(&format!("v{n}")));
        let _ = user.farm(&["validator", "join", "--data", &data, "--genesis", &genesis, "--network", &network]).exits(0);
    }
    (0..VALIDATORS).map(|n| run(user, host, n)).collect()
}

/// Runs one of them, also after a kill; with what it says when it is ready.
pub(crate) fn run(user: &User, host: &Host, n: u16) -> (Running, Value) {
    let data = arg(&user.home().join(format!("v{n}")));
    let public = format!("{}:{}", host.address(), GATES + 10 * n);
    let args = ["validator", "run", "--json", "--data", &data, "--listen", "127.0.0.1:0", "--public", &public];
    let running = Running::start(host.on(&user.command(&args)));
    let ready = eventually("a validator is up", PATIENCE, || running.stdout().lines().find_map(|line| serde_json::from_str(line).ok()));
    (running, ready)
}

/// Waits until each gate knows all of them; a ticket of the network.
pub(crate) fn known(hall: &Host, validators: &[(Running, Value)]) -> Ticket {
    let api = validators[0].1["api_url"].as_str().unwrap();
    let all = usize::from(VALIDATORS);
    until("the gates know each other", || {
        let shown = hall.inside(|| ask(api, async |api| api.gates().await));
        shown.is_ok_and(|shown| Ticket::parse(&shown.ticket).is_ok_and(|t| (t.gates.len(), t.relays.len()) == (all, all)))
    });
    Ticket::parse(validators[0].1["ticket"].as_str().unwrap()).unwrap()
}

/// How many gates a file of what was learned names.
fn learned(file: &Path) -> usize {
    std::fs::read_to_string(file).ok().and_then(|text| Ticket::parse(&text).ok()).map_or(0, |ticket| ticket.gates.len())
}

#[test]
fn a_network_is_found_again_when_all_that_the_ticket_named_are_gone() {
    let lab = Lab::new("gates");
    let (hall, home, cafe) = (lab.public("hall"), lab.behind_nat("home", Nat::KeepsPorts), lab.behind_nat("cafe", Nat::KeepsPorts));
    let founder = User::new("http://127.0.0.1:1".into());
    let mut validators = found(&founder, &hall);
    let all = usize::from(VALIDATORS);
    let ticket = known(&hall, &validators).first(1);
    let zone = ticket.zone.to_string();
    let ticket = ticket.to_text();

    let engine = home.engine();
    let (owner, ann) = (Resident::of(&home), Resident::of(&cafe));
    let up = offer(&owner, &ticket, engine.socket());
    let _ = ann.farm(&["join", &ticket]).exits(0);
    assert_eq!(learned(&ann.user.home().join("networks").join(&zone)), all);
    let machine = owner.user.home().join("machine");
    until("the machine knows them, too", || learned(&machine.join("network")) == all);

    let (gone, _) = validators.remove(0);
    gone.signal(Signal::KILL);
    let _ = gone.finish(PATIENCE);
    up.signal(Signal::KILL);
    let _ = up.finish(PATIENCE);
    // Both begin anew, with a ticket that names nobody who is there.
    let _up = offer(&owner, &ticket, engine.socket());
    let folder = Folder::script("later", "echo still here");
    let done = ann.farm(&[&["run", folder.arg()], &SMALL[..]].concat()).exits(0);
    assert_eq!(done.stdout, "still here\n");
    let receipt = eventually("it is settled", PATIENCE, || {
        let value: Value = serde_json::from_str(&ann.farm(&["receipt", "later", "--json"]).stdout).ok()?;
        value["settlement"].is_object().then_some(value)
    });
    assert_eq!(receipt["final"], true);
    // Each gate that is left knows the way, whichever the machine asked.
    let node = eventually("an offer", PATIENCE, || ann.farm(&["offers", "--json"]).json()[0]["node"].as_str().map(str::to_owned));
    let node = node.parse().unwrap();
    for (_, ready) in &validators {
        let api = ready["api_url"].as_str().unwrap();
        until("a gate knows where the machine is", || hall.inside(|| ask(api, async |api| api.place(&node).await)).is_ok());
    }
}

/// A door of the user's machine to a job's port 7000.
pub(crate) fn door(ann: &Resident<'_>, job: &str) -> (Running, u16) {
    let mut forward = ann.start(&["port-forward", job, "0:7000", "--json"]);
    forward.shows("]\n");
    let doors: Value = serde_json::from_str(&forward.stdout()).unwrap();
    let port = doors[0]["local"].as_str().unwrap().rsplit_once(':').unwrap().1.parse().unwrap();
    (forward, port)
}

/// The promise in one: two machines and a user behind routers of their own; gateway and relay, then all validators, then a machine are lost.
#[test]
fn what_runs_on_two_machines_behind_routers_outlives_gateway_validators_and_one_of_them() {
    let lab = Lab::new("losses");
    let (hall, cafe) = (lab.public("hall"), lab.behind_nat("cafe", Nat::KeepsPorts));
    let homes = ["home", "shed"].map(|name| lab.behind_nat(name, Nat::KeepsPorts));
    let founder = User::new("http://127.0.0.1:1".into());
    let mut validators = found(&founder, &hall);
    let ticket = known(&hall, &validators).to_text();
    let engines = homes.each_ref().map(Host::engine);
    let owners = homes.each_ref().map(Resident::of);
    let mut machines: Vec<Running> = owners.iter().zip(&engines).map(|(owner, engine)| offer(owner, &ticket, engine.socket())).collect();
    let ann = Resident::of(&cafe);
    let _ = ann.farm(&["join", &ticket]).exits(0);
    let folder = Folder::script("echo", ECHO);
    // A machine has room for one.
    let half = ["--cpu", "0.4", "--memory", "64Mi", "--disk", "64Mi"];
    for name in ["one", "two"] {
        let _ = ann.farm(&[&["run", folder.arg(), "--name", name, "--detach", "--timeout", "1h"], &half[..]].concat()).exits(0);
    }
    let mut served: Vec<(&str, Running, u16)> =
        ["one", "two"].map(|name| door(&ann, name)).into_iter().zip(["one", "two"]).map(|((f, p), n)| (n, f, p)).collect();
    for (name, forward, port) in &served {
        until(&format!("{name} answers"), || echo(&cafe, *port, name.as_bytes()).is_ok_and(|said| said == name.as_bytes()));
        until(&format!("{name} is reached directly"), || forward.stderr().contains("reached directly at"));
    }
    let at = |name: &str| eventually("where it is", PATIENCE, || reached_directly(&ann.status(name)));
    let (one, two) = (at("one"), at("two"));
    assert_ne!(one.split(':').next(), two.split(':').next(), "each has a machine of its own");
    let kill = |running: Running| {
        running.signal(Signal::KILL);
        let _ = running.finish(PATIENCE);
    };
    let all_answer = |served: &[(&str, Running, u16)], when: &str| {
        for (name, _, port) in served {
            let word = format!("{name} {when}");
            until(&word, || echo(&cafe, *port, word.as_bytes()).is_ok_and(|said| said == word.as_bytes()));
        }
    };

    // A gateway with its relay; then nobody is left who could decide anything.
    kill(validators.remove(0).0);
    all_answer(&served, "without a gateway and its relay");
    for (running, _) in validators.drain(..) {
        kill(running);
    }
    all_answer(&served, "without validators");
    // A machine with all that it has: its program, and its cable.
    let lost = usize::from(!two.starts_with(&homes[0].outside().to_string()));
    let (name, forward, _) = served.remove(1);
    assert_eq!(name, "two");
    kill(machines.remove(lost));
    homes[lost].link(false);
    drop(forward);
    all_answer(&served, "without the other machine");

    validators.extend((0..VALIDATORS).map(|n| run(&founder, &hall, n)));
    all_answer(&served, "when they are back");
    let confirmed = |name: &str| ann.status(name)["lease"]["served_ms"].as_u64().unwrap_or(0);
    let before = confirmed("one");
    until("what ran on is told", || confirmed("one") > before);
    for name in ["one", "two"] {
        let _ = ann.farm(&["stop", name]);
    }
    let receipt = |name: &str| {
        eventually(&format!("{name} is settled"), PATIENCE, || {
            let value: Value = serde_json::from_str(&ann.farm(&["receipt", name, "--json"]).stdout).ok()?;
            (value["final"] == true).then_some(value)
        })
    };
    let (kept, gone) = (receipt("one"), receipt("two"));
    let charged = |receipt: &Value| receipt["charged"].as_str().unwrap().parse::<u128>().unwrap();
    assert!(charged(&kept) > charged(&gone), "{kept}\n{gone}");
    assert!(kept["served_ms"].as_u64() > gone["served_ms"].as_u64());
    let _ = ann.farm(&["ledger", "check"]).exits(0);
}
