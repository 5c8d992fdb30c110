//! Capacity checks of memory: a machine that has what it declares is shown and paid as proven; such as lack it, in two ways, lose.

use crate::support::{Folder, Net, Options, PATIENCE, Running, Signal, User, ask, eventually, farm_binary, paid};
use pasture_api::{MemoryAuditView, StandingView};
use pasture_types::audit::Verdict;
use pasture_types::{Amount, NodeId};
use std::process::Command;
use std::time::Duration;

/// A verdict takes up to four periods for each attempt, and a check that was drawn in vain is drawn again after 100 s.
const JUDGED_WITHIN: Duration = Duration::from_secs(300);
const IMAGE: &str = "pasture/busybox:1";

fn audited(more: &[&str]) -> Net {
    let args = ["--audits"].iter().chain(more).map(|arg| (*arg).to_owned()).collect();
    Net::start(Options { args, ..Options::default() })
}

fn memory(standing: &StandingView) -> Option<MemoryAuditView> {
    standing.audits.as_ref()?.memory
}

/// What is known of a machine's memory as soon as it fits.
#[track_caller]
fn known(net: &Net, node: NodeId, what: &str, fits: impl Fn(&MemoryAuditView) -> bool) -> StandingView {
    let fits = |standing: &StandingView| memory(standing).is_some_and(|memory| fits(&memory));
    eventually(what, JUDGED_WITHIN, || net.api(async |api| api.node(&node).await).standing.map(|s| *s).filter(fits))
}

#[test]
fn memory_that_is_there_is_shown_and_paid_as_proven() {
    let net = audited(&[]);
    let node: NodeId = net.node().parse().unwrap();
    let standing = known(&net, node, "its memory passes a capacity check", |memory| memory.passes > 0);
    assert_eq!(memory(&standing).map(|m| (m.proven_bytes, m.failing_from)), Some((32 << 20, None)), "{standing:?}");
    let user = net.user();
    let _ = user.farm(&["offers", net.node()]).exits(0).says(&["memory proven, 32 MiB that no job had"]);
    let number = eventually("the check that it passed is shown", PATIENCE, || {
        let shown = (0..8u64).filter_map(|number| ask(net.url(), async |api| api.audit(number).await).ok());
        shown.into_iter().find(|audit| audit.memory_verdict == Some(Verdict::Passed)).map(|audit| audit.number)
    });
    let said = ["memory asked", "32 MiB", "its memory was proven", "memory, again", "passed: proven to 1 of 1 witness"];
    let _ = user.farm(&["verify", "check", &number.to_string()]).exits(0).says(&said);
    let passed = standing.audits.is_some_and(|audits| audits.passes > 0);
    if !passed {
        let _ = eventually("its processor passes, too", JUDGED_WITHIN, || {
            net.api(async |api| api.node(&node).await).standing?.audits.filter(|a| a.passes > 0)
        });
    }
    let folder = Folder::script("remembered", "sleep 1");
    let _ = user.run(&folder, &[]).exits(0);
    let (lease, settlement) = user.settled();
    assert!(settlement.audited && settlement.epochs_proven == settlement.epochs, "{settlement:?}");
    assert!(paid(&lease).charged > Amount::ZERO, "{settlement:?}");
    let _ = user.farm(&["ledger", "check"]).exits(0);
}

/// A machine that lacks memory in this way, in a network that asks for what it declares.
fn loses(way: &str) {
    let net = audited(&["--no-provider"]);
    let user: User = net.stranger().with_credits();
    let binary = farm_binary().with_file_name("farm-cheat");
    assert!(binary.exists(), "{} is missing: cargo build -p pasture-cheats", binary.display());
    let mut command = Command::new(binary);
    command.arg("--data").arg(user.home().join("cheat"));
    command.args(["--api-url", net.url(), "--region", "shady", "--memory", way, "--engine"]).arg(&net.engine.socket);
    let process = Running::start(command);
    let node = eventually("it is on offer", PATIENCE, || {
        user.api(async |api| api.offers().await).into_iter().find(|o| o.terms.region == "shady" && o.reachable).map(|o| o.node)
    });
    let failed = known(&net, node, "its memory fails its capacity check", |memory| memory.failing_from.is_some());
    assert_eq!(memory(&failed).map(|m| (m.passes, m.failing_from)), Some((0, Some(0))), "{failed:?}");
    let _ = user.farm(&["offers", &node.to_string()]).exits(0).says(&["memory failed: from period 0 on CPU and memory are not paid"]);
    let _ = user.farm(&["run", IMAGE, "--name", "unproven", "--region", "shady", "--", "sleep", "1"]).exits(0);
    let (lease, settlement) = user.settled();
    assert_eq!((lease.node, settlement.epochs_proven), (node, 0), "{settlement:?}");
    assert_eq!(paid(&lease).charged, Amount::ZERO, "{settlement:?}");
    let _ = user.farm(&["ledger", "check"]).exits(0);
    process.signal(Signal::TERM);
    let _ = process.finish(PATIENCE);
    net.engine.clear(&node.to_string());
}

#[test]
fn states_that_are_made_up_are_not_paid() {
    loses("made-up");
}

#[test]
fn lines_that_are_computed_when_asked_are_not_paid() {
    loses("computed");
}
