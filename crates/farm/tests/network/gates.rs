//! A network that several validators let others into: what becomes of those who joined by one of them when it is gone for good.

use crate::nat::{Resident, offer};
use crate::support::{Folder, Host, Lab, Nat, PATIENCE, Running, SMALL, Signal, User, ask, eventually, until};
use pasture_net::Ticket;
use serde_json::Value;
use std::path::Path;

const VALIDATORS: u16 = 4;
/// Ports of the validators' own network begin here, those of their gates and relays there.
const OWN: u16 = 8_600;
const GATES: u16 = 8_730;

fn arg(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// Four validators on one machine of the internet, each with a gate and a relay.
fn found(user: &User, host: &Host) -> Vec<(Running, Value)> {
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
    let run = |n: u16| {
        let data = arg(&at(&format!("v{n}")));
        let _ = user.farm(&["validator", "join", "--data", &data, "--genesis", &genesis, "--network", &network]).exits(0);
        let public = format!("{}:{}", host.address(), GATES + 10 * n);
        let args = ["validator", "run", "--json", "--data", &data, "--listen", "127.0.0.1:0", "--public", &public];
        let running = Running::start(host.on(&user.command(&args)));
        let ready = eventually("a validator is up", PATIENCE, || running.stdout().lines().find_map(|line| serde_json::from_str(line).ok()));
        (running, ready)
    };
    (0..VALIDATORS).map(run).collect()
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
    let api = validators[0].1["api_url"].as_str().unwrap().to_owned();
    let all = usize::from(VALIDATORS);
    until("the gates know each other", || {
        let shown = hall.inside(|| ask(&api, async |api| api.gates().await));
        shown.is_ok_and(|shown| Ticket::parse(&shown.ticket).is_ok_and(|t| (t.gates.len(), t.relays.len()) == (all, all)))
    });
    let shown = Ticket::parse(validators[0].1["ticket"].as_str().unwrap()).unwrap();
    let ticket = shown.first(1);
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
