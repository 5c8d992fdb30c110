//! A gate, a machine and a user that have IPv6 and nothing else, two of them behind routers that let in only what answers.

use crate::gates::door;
use crate::nat::{ECHO, Resident, echo, offer, reached_directly};
use crate::support::{Folder, Lab, PATIENCE, Signal, eventually, until};
use serde_json::Value;

#[test]
fn who_has_ipv6_alone_joins_and_is_reached_directly_through_two_firewalls() {
    if !std::path::Path::new("/proc/sys/net/ipv6").exists() {
        eprintln!("NOT RUN: this machine has no IPv6");
        return;
    }
    let lab = Lab::new("v6");
    let (gate, at) = lab.public_v6("gate");
    let ((home, machine_at), (cafe, _)) = (lab.behind_firewall_v6("home"), lab.behind_firewall_v6("cafe"));
    let engine = home.engine();
    let (host, owner, ann) = (Resident::of(&gate), Resident::of(&home), Resident::of(&cafe));
    let data = host.user.home().join("network");
    let listen = format!("[{at}]:8730");
    let mut dev = host.start(&["dev", "--json", "--no-provider", "--data", data.to_str().unwrap(), "--listen", &listen]);
    dev.shows("\"event\":\"ready\"");
    let ready: Value = serde_json::from_str(dev.stdout().lines().next().unwrap()).unwrap();
    let ticket = ready["ticket"].as_str().unwrap();

    let _up = offer(&owner, ticket, engine.socket());
    let _ = ann.farm(&["join", ticket]).exits(0).says(&["joined"]);
    let folder = Folder::script("echo", ECHO);
    let small = ["--cpu", "0.4", "--memory", "64Mi", "--disk", "64Mi"];
    let _ = ann.farm(&[&["run", folder.arg(), "--name", "six", "--detach", "--timeout", "1h"], &small[..]].concat()).exits(0);
    let (forward, port) = door(&ann, "six");
    until("the job answers", || echo(&cafe, port, b"over six").is_ok_and(|said| said == b"over six"));
    until("it is reached directly", || forward.stderr().contains("reached directly at"));
    let shown = eventually("where it is", PATIENCE, || reached_directly(&ann.status("six")));
    assert!(shown.starts_with(&format!("[{machine_at}]:")), "{shown}");

    // The gate with its relay is not needed for what is reached directly.
    dev.signal(Signal::KILL);
    let _ = dev.finish(PATIENCE);
    until("it answers without the gate", || echo(&cafe, port, b"alone").is_ok_and(|said| said == b"alone"));
    drop(forward);
}
