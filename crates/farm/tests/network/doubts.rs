//! A machine that believes no gateway: what it does for whom is what the validators certified.

use crate::support::{Folder, Liar, Net, Options, Running, User, eventually, until};
use pasture_api::LeaseView;
use pasture_types::lease::EndReason;
use serde_json::Value;
use std::cell::RefCell;

/// Most memory of the program of a machine that follows its own leases.
const MEMORY: u64 = 100 << 20;

/// A machine that reaches its network through somebody whom it does not trust.
struct Doubter<'a> {
    net: &'a Net,
    owner: User,
    process: Running,
    node: String,
}

impl<'a> Doubter<'a> {
    fn start(net: &'a Net, gateway: &str, more: &[&str]) -> Self {
        let owner = User::at_home();
        let founding = net.data().join("zone/genesis");
        let _ = owner.farm(&["context", "create", "far", "--api-url", gateway, "--trust", founding.to_str().unwrap()]).exits(0);
        let (engine, data) = (net.engine.socket.display().to_string(), owner.home().join("machine").display().to_string());
        let offer = ["--cpu", "0.5", "--memory", "128Mi", "--disk", "1Gi"];
        let process = owner.start(&[&["up", "--yes", "--engine", &engine, "--data", &data], &offer[..], more].concat());
        let mut this = Self { net, owner, process, node: String::new() };
        until("the machine is offered", || {
            assert!(this.process.ended().is_none(), "it ended: {}", this.says());
            this.says().contains("this machine is offered")
        });
        let shown = this.owner.farm(&["provider", "status", "--json"]).exits(0).json();
        this.node = shown[0]["node"].as_str().unwrap().to_owned();
        this
    }
    fn says(&self) -> String {
        self.process.stderr()
    }
    /// Which leases its program knows.
    fn jobs(&self) -> Vec<Value> {
        let shown = self.owner.farm(&["provider", "status", "--json"]).exits(0).json();
        shown[0]["jobs"].as_array().cloned().unwrap_or_default()
    }
}

impl Drop for Doubter<'_> {
    fn drop(&mut self) {
        self.net.engine.clear(&self.node);
    }
}

#[test]
fn a_machine_does_nothing_on_a_gateways_word_alone() {
    let net = Net::start(Options { args: vec!["--no-provider".into()], kept: true, ..Options::default() });
    let liar = Liar::before(net.url());
    let machine = Doubter::start(&net, &liar.url, &[]);
    assert!(machine.says().contains("against 1 validator"), "{}", machine.says());

    // An honest job through it: proofs hold, it runs, it is paid. It lasts three periods: a busy machine may miss the proof of one.
    let user = net.stranger();
    let done = user.run(&Folder::script("calm", "echo through somebody else; sleep 11"), &[]).exits(0);
    assert!(done.stdout.contains("through somebody else"), "{}", done.all());
    let (lease, settlement) = user.settled();
    assert_eq!((lease.node.to_string(), lease.reason.clone()), (machine.node.clone(), Some(EndReason::Exited { code: 0 })));
    assert!(!settlement.to_provider.is_zero());

    // It invents a lease that nobody pays for: the same one under another name.
    let mut phantom = serde_json::to_value(&lease).unwrap();
    phantom["id"] = "ab".repeat(32).into();
    phantom["state"] = "matched".into();
    let named = RefCell::new(phantom);
    liar.says(move |path, said| {
        let asked = path.contains("/leases") && path.contains("/nodes/");
        match said {
            Value::Array(leases) if asked => leases.push(named.borrow().clone()),
            _ if path.contains(&"ab".repeat(32)) && path.contains("/v1/leases/") => *said = named.borrow().clone(),
            _ => return false,
        }
        true
    });
    until("the machine was told of it and says so", || machine.says().contains("names a lease of this machine that there is not"));
    assert!(liar.lied() > 0 && machine.jobs().iter().all(|job| job["lease"] != "ab".repeat(32).as_str()), "{:?}", machine.jobs());

    // It says of a lease that there is more time and money than there is, and that another's key belongs to its account: nobody is let in.
    let thief = net.stranger().with_credits();
    let key = serde_json::to_value(thief.api(async |api| api.account(&thief.account()).await)).unwrap()["keys"].clone();
    liar.says(move |path, said| {
        if path.starts_with("/v1/leases/") && said["max_duration"].is_number() {
            said["max_duration"] = 86_400_000.into();
        } else if path.starts_with("/v1/accounts/") && said["keys"].is_array() {
            said["keys"] = key.clone();
        } else {
            return false;
        }
        true
    });
    let user = net.stranger();
    let folder = Folder::script("guarded", "while [ ! -e /tmp/stop ]; do sleep 0.2; done; echo stopped by its owner");
    let _ = user.run(&folder, &["--name", "guarded", "--detach", "--timeout", "10m"]).exits(0);
    let lease: LeaseView = eventually("it has a lease", crate::support::PATIENCE, || {
        user.jobs().first().and_then(|job| job.lease.clone()).filter(|lease| lease.accepted.is_some())
    });
    // The owner's own keys are asked of the ledger and proven, whatever the gateway says of them.
    let _ = user.farm(&["exec", "guarded", "--", "touch", "/tmp/stop"]).exits(0);
    assert!(liar.lied() > 0);
    let (lease, settlement) = {
        until("it ends", || user.lease().settlement.is_some());
        (lease, user.settled().1)
    };
    assert!(lease.max_duration.0 <= 600_000 && !settlement.to_provider.is_zero(), "{lease:?} {settlement:?}");
    begins_nothing_unproven(&net, &liar, &machine);
}

/// Proofs that do not hold: no job is begun, and the machine says why; when the gateway says the truth again, it is.
fn begins_nothing_unproven(net: &Net, liar: &Liar, machine: &Doubter<'_>) {
    liar.says(|path, said| {
        let Some(proof) = said["proof"].as_str().filter(|_| path.contains("/state/")) else { return false };
        let (at, digit) = (proof.len() / 2, if proof.as_bytes()[proof.len() / 2] == b'0' { "1" } else { "0" });
        said["proof"] = format!("{}{digit}{}", &proof[..at], &proof[at + 1..]).into();
        true
    });
    let user = net.stranger();
    let folder = Folder::script("later", "echo begun at last");
    let mut waiting = user.start_run(&folder, &[]);
    until("it is not believed", || machine.says().contains("not believed"));
    assert!(waiting.ended().is_none(), "{}", waiting.stderr());
    assert!(net.engine.containers(&machine.node).is_empty(), "a container was started");
    liar.repents();
    let done = waiting.finish(crate::support::PATIENCE * 2).exits(0);
    assert!(done.stdout.contains("begun at last"), "{}", done.all());
    let shown = machine.owner.farm(&["provider", "status", "--json"]).exits(0).json();
    let checked = &shown[0]["checked"];
    assert_eq!(checked["validators"], 1, "{shown}");
    assert!(checked["block"].as_u64() > Some(0) && checked["disbelieved"].as_u64() > Some(0), "{checked}");
    let _ = machine.owner.farm(&["provider", "status"]).exits(0).says(&["checked against 1 validator", "not believed"]);
    // It follows its own leases and no replica.
    let held = machine.process.resident_bytes();
    assert!(held < MEMORY, "its program holds {} MiB", held >> 20);
}

#[test]
fn a_machine_that_believes_no_gateway_answers_capacity_checks_in_time() {
    let net = Net::start(Options { args: ["--no-provider", "--audits"].map(str::to_owned).to_vec(), kept: true, ..Options::default() });
    // A tenth of its speed: other programs work here.
    let machine = Doubter::start(&net, net.url(), &["--declare-speed", "10"]);
    let node = machine.node.parse().unwrap();
    let audits = eventually("it passes a capacity check", 2 * crate::support::PATIENCE, || {
        net.api(async |api| api.node(&node).await).standing?.audits.filter(|audits| audits.passes > 0)
    });
    assert_eq!((audits.proven_ppm, audits.failing_from), (1_000_000, None), "{audits:?}");
    let shown = machine.owner.farm(&["provider", "status", "--json"]).exits(0).json();
    assert_eq!(shown[0]["checked"]["disbelieved"], 0, "{shown}");
}
