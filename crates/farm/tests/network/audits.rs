//! Capacity checks by validators: an honest machine is measured and paid as such, one that declares more than it has is not paid.
//!
//! Nothing here depends on how fast the machine is: the honest one declares a tenth of its speed, the other hundreds of times its cores.

use crate::support::{Folder, Net, Options, PATIENCE, Running, SMALL, Signal, User, ask, eventually, farm_binary, paid, until};
use pasture_api::{AuditDetail, AuditView};
use pasture_types::audit::Verdict;
use pasture_types::{Amount, NodeId};
use std::process::Command;
use std::time::Duration;

/// A verdict takes up to four periods, a check that was drawn in vain is drawn again after 100 s.
const JUDGED_WITHIN: Duration = Duration::from_secs(300);
const IMAGE: &str = "pasture/busybox:1";
/// Cores that no machine has.
const BOASTED_CORES: &str = "16384";

/// What capacity checks know of a machine that has one behind it.
fn judged(net: &Net, node: NodeId) -> AuditView {
    eventually("a capacity check is judged", JUDGED_WITHIN, || {
        let audits = net.api(async |api| api.node(&node).await).standing?.audits?;
        (audits.passes + audits.failures > 0).then_some(audits)
    })
}

#[test]
fn a_machine_is_measured_by_the_validators_and_its_work_is_paid_as_checked() {
    let net = Net::start(Options { args: vec!["--audits".into()], ..Options::default() });
    let user = net.user();
    let node: NodeId = net.node().parse().unwrap();
    let audits = eventually("it passes a capacity check", JUDGED_WITHIN, || {
        net.api(async |api| api.node(&node).await).standing?.audits.filter(|a| a.passes > 0)
    });
    // It declared a tenth of its speed, and is held to no less.
    assert_eq!((audits.proven_ppm, audits.failing_from), (1_000_000, None), "{audits:?}");
    let _ = user.farm(&["offers", net.node()]).exits(0).says(&["checked, last in period"]);
    let _ = user.farm(&["status"]).exits(0).says(&["checked, last in period"]);

    let folder = Folder::script("checked", "sleep 1");
    let _ = user.run(&folder, &[]).exits(0);
    let (lease, settlement) = user.settled();
    assert!(settlement.audited && settlement.epochs_proven == settlement.epochs, "{settlement:?}");
    assert!(paid(&lease).charged > Amount::ZERO, "{settlement:?}");
    let receipt = user.farm(&["receipt", "checked", "--wait"]).exits(0);
    assert!(!receipt.stdout.contains("unaudited"), "{}", receipt.all());

    // A first check asks for memory as well, and measures no rate then; while it has a job there are further ones, of which half, by lot, do not.
    let folder = Folder::script("held", "sleep 3600");
    let _ = user.run(&folder, &["--name", "held", "--detach", "--timeout", "1h"]).exits(0);
    let audits = eventually("its rate is measured", 6 * JUDGED_WITHIN, || {
        net.api(async |api| api.node(&node).await).standing?.audits.filter(|a| a.measured_ppm.is_some())
    });
    assert!(audits.measured_ppm.is_some_and(|ppm| ppm > 1_000_000) && audits.failing_from.is_none(), "{audits:?}");
    let _ = user.farm(&["offers", net.node()]).exits(0).says(&["% of what it declared was measured"]);
    let _ = user.farm(&["stop", "held"]).exits(0);
    let _ = user.farm(&["ledger", "check"]).exits(0);
}

#[test]
fn four_validators_watch_together() {
    let net = Net::start(Options { args: ["--audits", "--validators", "4"].map(str::to_owned).to_vec(), ..Options::default() });
    let node: NodeId = net.node().parse().unwrap();
    let _ = eventually("it passes a capacity check", JUDGED_WITHIN, || {
        net.api(async |api| api.node(&node).await).standing?.audits.filter(|a| a.passes > 0)
    });
    // Which one it passed: on a busy machine the first attempt may have failed.
    let detail = eventually("the check that it passed is shown", PATIENCE, || {
        let all = (0..8).filter_map(|number| user_audit(&net, number));
        all.into_iter().find(|a| a.verdict == Some(Verdict::Passed))
    });
    assert_eq!((detail.node, detail.witnesses.len()), (node, 4), "{detail:?}");
    assert!(detail.answer.is_some_and(|a| a.largest <= a.most), "{detail:?}");
    counted_again(&net, detail.number);
}

/// Its user counts the check again, then from a file alone.
fn counted_again(net: &Net, number: u64) {
    let user = net.user();
    let file = user.home().join("evidence");
    let (number, path) = (number.to_string(), file.to_str().unwrap());
    let shown = user.farm(&["verify", "audit", &number, "--save", path, "--json"]).exits(0).says(&["✓ verified"]).json();
    assert_eq!((&shown["follows"], &shown["recount"]["verdict"]), (&true.into(), &"passed".into()), "{shown}");
    let spoke = shown["recount"]["heard"].as_array().unwrap().len();
    assert_eq!(spoke, 4, "{shown}");
    let _ = user.farm(&["verify", "audit", path]).exits(0).says(&["in time", "counted again", "passed"]);
    // Without its network: an address at which nobody answers.
    let _ = user.farm(&["verify", "audit", path, "--api-url", "http://127.0.0.1:1"]).exits(125).says(&["nobody-trusted"]);
    let mut forged: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    let proof = forged["proof"].as_str().unwrap().to_owned();
    let middle = proof.len() / 2;
    let other = if &proof[middle..=middle] == "0" { "1" } else { "0" };
    forged["proof"] = format!("{}{other}{}", &proof[..middle], &proof[middle + 1..]).into();
    std::fs::write(&file, forged.to_string()).unwrap();
    let _ = user.farm(&["verify", "audit", path]).exits(125).says(&["unproven"]);
    let _ = user.farm(&["verify", "audit", "999999"]).exits(125).says(&["not-found"]);
}

fn user_audit(net: &Net, number: u64) -> Option<AuditDetail> {
    ask(net.url(), async |api| api.audit(number).await).ok()
}

/// A machine that declares what it has not, in a region of its own.
fn boaster(net: &Net, user: &User, region: &str) -> (Running, NodeId) {
    let binary = farm_binary().with_file_name("farm-cheat");
    assert!(binary.exists(), "{} is missing: cargo build -p pasture-cheats", binary.display());
    let mut command = Command::new(binary);
    command.arg("--data").arg(user.home().join(region));
    command.args(["--api-url", net.url(), "--region", region, "--declare-cores", BOASTED_CORES, "--engine"]).arg(&net.engine.socket);
    let running = Running::start(command);
    let node = eventually("it is on offer", PATIENCE, || {
        user.api(async |api| api.offers().await).into_iter().find(|o| o.terms.region == region && o.reachable).map(|o| o.node)
    });
    (running, node)
}

fn is_suspended(net: &Net, node: NodeId) -> bool {
    net.api(async |api| api.node(&node).await).standing.is_some_and(|s| s.suspended)
}

fn end(net: &Net, cheat: Running, node: NodeId) {
    cheat.signal(Signal::TERM);
    let _ = cheat.finish(PATIENCE);
    net.engine.clear(&node.to_string());
}

#[test]
fn a_machine_that_declares_more_than_it_has_fails_and_is_not_paid() {
    let net = Net::start(Options { args: vec!["--no-provider".into(), "--audits".into()], ..Options::default() });
    let user = net.stranger().with_credits();
    // The first machine of a network is checked at once, and suspended once it failed twice. Where that was faster than the job's order,
    // the next one has until the next tick.
    let (cheat, node) = ["shady", "shadier"]
        .into_iter()
        .find_map(|region| {
            let (cheat, node) = boaster(&net, &user, region);
            let can_be_drawn = || user.farm(&["explain", IMAGE, "--region", region]).stdout.contains("1 of 1 offer");
            until("it can be drawn, or is suspended", || can_be_drawn() || is_suspended(&net, node));
            // It really serves; what it lies about is what it has.
            let args = [&["run", IMAGE, "--name", "boasted", "--region", region][..], &SMALL, &["--", "sleep", "1"]].concat();
            if user.farm(&args).code == 0 {
                return Some((cheat, node));
            }
            until("it is suspended", || is_suspended(&net, node));
            end(&net, cheat, node);
            None
        })
        .expect("a job was served");
    let audits = judged(&net, node);
    assert_eq!((audits.passes, audits.failures, audits.failing_from), (0, 1, Some(0)), "{audits:?}");
    assert_eq!(audits.last.map(|l| l.verdict), Some(Verdict::Failed), "{audits:?}");

    let (lease, settlement) = user.settled();
    assert_eq!(lease.node, node);
    assert_eq!((settlement.epochs_proven, settlement.to_provider), (0, Amount::ZERO), "{settlement:?}");
    assert_eq!(settlement.charged, Amount::ZERO, "{settlement:?}");
    let _ = user.farm(&["status", "boasted"]).exits(0).says(&["not paid", "failed its capacity check"]);
    let _ = user.farm(&["receipt", "boasted"]).exits(0).says(&["failed its capacity check"]);
    let _ = user.farm(&["ledger", "check"]).exits(0);
    end(&net, cheat, node);
}
