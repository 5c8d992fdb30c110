//! A machine that is a process of its own, apart from the network that it serves: what its death does to a job.

use crate::support::{Engine, Folder, Net, Options, PATIENCE, Running, Signal, User, eventually, paid, until};
use pasture_api::OfferView;
use pasture_types::lease::EndReason;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// `farm up` with a folder of its own; what its node left in the engine goes with it.
struct Machine<'a> {
    net: &'a Net,
    operator: User,
    data: PathBuf,
    process: Option<Running>,
    node: String,
}

impl<'a> Machine<'a> {
    fn start(net: &'a Net) -> Self {
        let operator = net.stranger();
        let data = operator.home().join("machine");
        let mut this = Self { net, operator, data, process: None, node: String::new() };
        this.start_again();
        this
    }
    fn start_again(&mut self) {
        let mut command = self.operator.command(&["up", "--name", "apart", "--cpu", "0.5", "--memory", "128Mi", "--disk", "1Gi"]);
        command.arg("--data").arg(&self.data).arg("--engine").arg(&self.net.engine.socket).env("FARM_LOG", "warn");
        let mut process = Running::start(command);
        until("the machine is offered", || {
            assert!(process.ended().is_none(), "it ended: {}", process.stderr());
            process.stderr().contains("this machine is offered")
        });
        self.process = Some(process);
        self.node = eventually("its offer can be reached", PATIENCE, || {
            let offers: Vec<OfferView> = self.net.api(async |api| api.offers().await);
            offers.into_iter().find(|o| o.provider_name == "apart" && o.reachable).map(|o| o.node.to_string())
        });
    }
    fn kill(&mut self) {
        let process = self.process.take().unwrap();
        process.signal(Signal::KILL);
        assert_eq!(process.finish(PATIENCE).code, 137);
    }
    fn engine(&self) -> &Engine {
        &self.net.engine
    }
}

impl Drop for Machine<'_> {
    fn drop(&mut self) {
        drop(self.process.take());
        self.engine().clear(&self.node);
    }
}

#[test]
fn a_machine_that_is_killed_takes_its_job_up_again_and_nothing_is_lost_or_doubled() {
    let net = Net::start(Options { args: vec!["--no-provider".into()], ..Options::default() });
    let mut machine = Machine::start(&net);
    let user = net.stranger();
    let out = user.home().join("out");
    let script = "trap 'exit 0' TERM; n=0; while [ $n -lt 30 ]; do n=$((n+1)); echo $n; sleep 0.5; done; echo left > $FARM_OUTPUT_DIR/x";
    let folder = Folder::script("apart", script);
    let mut running = user.start_run(&folder, &["--out", out.to_str().unwrap()]);
    running.shows("2\n");
    let container = machine.engine().containers(&machine.node);
    assert_eq!(container.len(), 1, "{container:?}");
    for seen in ["4\n", "12\n"] {
        running.shows(seen);
        machine.kill();
        // The job does not notice.
        assert_eq!(machine.engine().containers(&machine.node), container);
        machine.start_again();
        assert_eq!(machine.engine().containers(&machine.node), container, "the same container, and no other");
    }
    let done = running.finish(PATIENCE).exits(0).says(&["\u{2713} apart finished", "the machine answers again"]);
    let numbered: String = (1..=30).map(|n| format!("{n}\n")).collect();
    assert_eq!(done.stdout, numbered, "{}", done.all());
    assert_eq!(user.farm(&["logs", "apart"]).exits(0).stdout, numbered);
    assert_eq!(std::fs::read_to_string(out.join("x")).unwrap(), "left\n");
    let json = user.farm(&["receipt", "apart", "--wait", "--json"]).exits(0).json();
    let (lease, settlement) = user.settled();
    assert_eq!(lease.reason, Some(EndReason::Exited { code: 0 }));
    assert_eq!(json["settlement"], serde_json::to_value(&settlement).unwrap(), "the receipt is what the ledger paid");
    let s = paid(&lease);
    assert!(s.billed_ms.0 >= 15_000, "thirty half seconds are billed: {s:?}");
    until("nothing is left behind", || machine.engine().leftovers(&machine.node).is_empty());
    let _ = user.farm(&["ledger", "check"]).exits(0);
}

#[test]
fn three_providers_share_a_machine_and_none_is_left_when_the_network_ends() {
    let args = ["--providers", "3", "--json"].map(str::to_owned).to_vec();
    let mut net = Net::start(Options { args, kept: false, ..Options::default() });
    let user = net.user();
    let offers: Vec<OfferView> = net.api(async |api| api.offers().await);
    assert_eq!(offers.len(), 3, "{offers:?}");
    assert_eq!(offers.iter().map(|o| o.provider).collect::<BTreeSet<_>>().len(), 3, "each is an account of its own");
    // More than half of what one has: each job is on another one.
    let millis = offers[0].free.cpu_millis * 6 / 10;
    let names = ["first", "second", "third"];
    for name in names {
        let args = ["run", "pasture/busybox:1", "-d", "--name", name, "--cpu", &format!("{millis}m"), "--memory", "32Mi", "--disk", "64Mi"];
        let _ = user.farm(&[&args[..], &["--egress", "none", "--", "sleep", "600"]].concat()).exits(0);
    }
    let nodes: BTreeSet<_> = user.jobs().iter().map(|job| job.lease.as_ref().unwrap().node).collect();
    assert_eq!(nodes.len(), 3, "{nodes:?}");
    for name in names {
        let _ = user.farm(&["exec", name, "--", "true"]).exits(0);
    }
    let ended = net.stop();
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    for node in nodes {
        assert_eq!(net.engine.leftovers(&node.to_string()), [] as [String; 0]);
    }
}
