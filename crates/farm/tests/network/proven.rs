//! Capacity checks of GPUs: simulated ones that compute what they are asked are paid as proven; such as cheat, each in a way of its own, lose.

use crate::support::{Net, Options, PATIENCE, Running, SMALL, Signal, User, eventually, farm_binary, paid};
use pasture_api::StandingView;
use pasture_types::audit::Verdict;
use pasture_types::proof::ResourceClass;
use pasture_types::{Amount, NodeId};
use std::process::Command;
use std::time::Duration;

/// A verdict takes up to four periods for each attempt, and a check that was drawn in vain is drawn again after 100 s.
const JUDGED_WITHIN: Duration = Duration::from_secs(300);
const IMAGE: &str = "pasture/busybox:1";

fn audited(more: &[&str]) -> Net {
    let args = ["--audits", "--simulated-gpu", "H100:2:80Gi"].iter().chain(more).map(|arg| (*arg).to_owned()).collect();
    Net::start(Options { args, ..Options::default() })
}

/// What is known of a machine as soon as it fits.
#[track_caller]
fn known(net: &Net, node: NodeId, what: &str, fits: impl Fn(&StandingView) -> bool) -> StandingView {
    eventually(what, JUDGED_WITHIN, || net.api(async |api| api.node(&node).await).standing.map(|s| *s).filter(&fits))
}

fn on_a_gpu(user: &User, name: &str, region: &str) {
    let args = [&["run", IMAGE, "--name", name, "--gpu", "H100:1", "--region", region][..], &SMALL, &["--", "sleep", "1"]].concat();
    let _ = user.farm(&args).exits(0);
}

#[test]
fn gpus_that_compute_what_they_are_asked_are_shown_and_paid_as_proven() {
    let net = audited(&[]);
    let node: NodeId = net.node().parse().unwrap();
    let passed = |s: &StandingView| s.audits.as_ref().and_then(|a| a.gpus.as_ref()).is_some_and(|gpus| gpus.passes > 0);
    let standing = known(&net, node, "its GPUs pass a capacity check", passed);
    let gpus = standing.audits.unwrap().gpus.unwrap();
    let proven: Vec<(&str, u16)> = gpus.proven.iter().map(|claim| (claim.model.as_str(), claim.count)).collect();
    assert_eq!((proven, gpus.failing_from), (vec![("H100", 2)], None));
    let user = net.user();
    let _ = user.farm(&["offers", net.node()]).exits(0).says(&["GPUs proven, 2x H100", "100.0M/s of multiply-adds"]);
    let number = eventually("the check that they passed is shown", PATIENCE, || {
        let shown = (0..8u64).filter_map(|number| crate::support::ask(net.url(), async |api| api.audit(number).await).ok());
        shown.into_iter().find(|audit| audit.gpu_verdict == Some(Verdict::Passed)).map(|audit| audit.number)
    });
    let said = ["GPUs asked", "2x H100", "and its GPUs", "GPUs, again", "passed: proven to 1 of 1 witness"];
    let _ = user.farm(&["verify", "check", &number.to_string()]).exits(0).says(&said);

    on_a_gpu(&user, "proven", "local");
    let (lease, settlement) = user.settled();
    assert!(settlement.lines.iter().all(|line| line.audited && line.epochs_proven == settlement.epochs), "{settlement:?}");
    assert!(settlement.lines.len() == 2 && paid(&lease).charged > Amount::ZERO, "{settlement:?}");
    let _ = user.farm(&["ledger", "check"]).exits(0);
}

/// A machine whose GPU cheats in this way, in a network that asks of it what it declares.
struct Cheat {
    net: Net,
    user: User,
    node: NodeId,
    process: Running,
}

impl Cheat {
    fn start(way: &str) -> Self {
        let net = audited(&["--no-provider"]);
        let user = net.stranger().with_credits();
        let binary = farm_binary().with_file_name("farm-cheat");
        assert!(binary.exists(), "{} is missing: cargo build -p pasture-cheats", binary.display());
        let mut command = Command::new(binary);
        command.arg("--data").arg(user.home().join("cheat"));
        command.args(["--api-url", net.url(), "--region", "shady", "--gpus", way, "--engine"]).arg(&net.engine.socket);
        let process = Running::start(command);
        let node = eventually("it is on offer", PATIENCE, || {
            user.api(async |api| api.offers().await).into_iter().find(|o| o.terms.region == "shady" && o.reachable).map(|o| o.node)
        });
        Self { net, user, node, process }
    }

    fn end(self) {
        let _ = self.user.farm(&["ledger", "check"]).exits(0);
        self.process.signal(Signal::TERM);
        let _ = self.process.finish(PATIENCE);
        self.net.engine.clear(&self.node.to_string());
    }

    /// It shows rows that are not what it committed to: its GPU is not paid, and nothing is proven against it.
    fn ends_unpaid(self) {
        let failed = |s: &StandingView| s.audits.as_ref().and_then(|a| a.gpus.as_ref()).is_some_and(|gpus| gpus.failing_from.is_some());
        let audits = known(&self.net, self.node, "its GPU fails its capacity check", failed).audits.unwrap();
        let gpus = audits.gpus.as_ref().unwrap();
        assert_eq!((gpus.passes, gpus.failures, gpus.failing_from), (0, 1, Some(0)), "{audits:?}");
        assert_ne!(audits.last.map(|last| last.verdict), Some(Verdict::Contradicted), "{audits:?}");
        let _ = self.user.farm(&["offers", &self.node.to_string()]).exits(0).says(&["GPUs failed: from period 0 on they are not paid"]);
        on_a_gpu(&self.user, "unproven", "shady");
        let (lease, settlement) = self.user.settled();
        let gpu = settlement.lines.iter().find(|line| line.class == ResourceClass::Gpu);
        let came_to = gpu.map(|line| (line.epochs_proven, line.charged));
        assert_eq!((lease.node, came_to), (self.node, Some((0, Amount::ZERO))), "{settlement:?}");
        self.end();
    }

    /// It shows rows that it committed to and that are wrong: each is proof against it.
    fn ends_convicted(self) {
        let convicted = |s: &StandingView| s.audits.as_ref().is_some_and(|a| a.last.is_some_and(|l| l.verdict == Verdict::Contradicted));
        let standing = known(&self.net, self.node, "it is convicted", |s| convicted(s) && s.suspended);
        assert!(standing.audits.unwrap().gpus.is_some_and(|gpus| gpus.failing_from.is_some()));
        assert!(standing.deposit.forfeited > Amount::ZERO, "{:?}", standing.deposit);
        self.end();
    }
}

#[test]
fn garbage_convicts_whoever_signed_it() {
    Cheat::start("garbage").ends_convicted();
}

#[test]
fn sums_shifted_by_the_modulus_convict_whoever_signed_them() {
    Cheat::start("shifted").ends_convicted();
}

#[test]
fn rows_that_are_computed_when_asked_are_not_paid() {
    Cheat::start("late").ends_unpaid();
}

#[test]
fn projections_without_a_product_are_not_paid() {
    Cheat::start("projected").ends_unpaid();
}

#[test]
fn a_product_with_rows_left_out_is_not_paid() {
    Cheat::start("skipping").ends_unpaid();
}
