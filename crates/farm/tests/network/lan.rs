//! Networks in the same LAN: found without a ticket, and told of to nobody else.

use crate::nat::Resident;
use crate::support::{Host, Lab, Nat, PATIENCE, Running, eventually, until};

/// A network that lets others in, on a machine of the lab.
fn network(at: &Resident<'_>, host: &Host, more: &[&str]) -> Running {
    let listen = format!("{}:8730", host.address());
    let mut running = at.start(&[&["dev", "--no-provider", "--data", "net", "--listen", &listen], more].concat());
    eventually("the network is ready", PATIENCE, || {
        assert!(running.ended().is_none(), "{}", running.stderr());
        running.stderr().contains("Ctrl-C ends it").then_some(())
    });
    running
}

#[test]
fn a_network_in_the_same_lan_is_found_by_its_name_and_told_of_to_nobody_else() {
    let lab = Lab::new("lan");
    let (desktop, laptop, silent) = (lab.public("desktop"), lab.public("laptop"), lab.public("silent"));
    let elsewhere = lab.behind_nat("elsewhere", Nat::KeepsPorts);
    let (owner, ann, hermit, bob) = (Resident::of(&desktop), Resident::of(&laptop), Resident::of(&silent), Resident::of(&elsewhere));
    let _ = ann.farm(&["join"]).exits(125).says(&["no network was found in this LAN", "farm join TICKET"]);
    let _network = network(&owner, &desktop, &[]);
    let _silent = network(&hermit, &silent, &["--no-lan"]);

    // A machine that is busy answers later than one looks.
    let found = eventually("a network is told of", PATIENCE, || {
        let found = ann.farm(&["join", "--json"]).exits(0).json();
        found.as_array().is_some_and(|all| !all.is_empty()).then_some(found)
    });
    let all = found.as_array().unwrap();
    assert_eq!(all.len(), 1, "one of the two tells of itself: {found}");
    let (name, id) = (all[0]["name"].as_str().unwrap(), all[0]["network"].as_str().unwrap());
    assert!(all[0]["ticket"].as_str().unwrap().starts_with("pasture-join-"), "{found}");
    // Nobody was asked, so nothing is joined.
    until("it is named", || ann.farm(&["join"]).all().contains("is in this LAN; join it:  farm join"));
    assert!(!ann.farm(&["context", "list"]).exits(0).all().contains("peer to peer"));
    let _ = ann.farm(&["join", "nonsense"]).exits(2).says(&["no network in this LAN is called so"]);
    until("it is joined by its name", || ann.farm(&["join", name]).code == 0);
    let _ = ann.farm(&["context", "list"]).exits(0).says(&["peer to peer"]);
    let status = ann.farm(&["status", "--json"]).exits(0).json();
    assert_eq!(status["network"]["zone"], id, "{status}");

    let _ = bob.farm(&["join"]).exits(125).says(&["no network was found in this LAN"]);
}
