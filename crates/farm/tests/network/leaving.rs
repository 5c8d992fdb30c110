//! The owner of a machine pauses it, drains it, and leaves: what jobs notice, what the ledger shows, and that nothing is left.

use crate::support::{Engine, Folder, Net, Options, PATIENCE, Running, Signal, User, eventually, until};
use pasture_api::{DepositView, OfferView};
use pasture_types::Amount;
use pasture_types::lease::EndReason;
use std::path::PathBuf;

/// A job that says that it began, ends when it is asked to, and else after some time.
const SLOW: &str = "trap 'exit 0' TERM; echo begun; n=0; while [ $n -lt 40 ]; do n=$((n+1)); sleep 0.5; done; echo over";

/// `farm up` with a folder of its own, which is not the usual one.
struct Owned<'a> {
    net: &'a Net,
    owner: User,
    data: PathBuf,
    name: &'static str,
    process: Option<Running>,
    node: String,
}

impl<'a> Owned<'a> {
    fn start(net: &'a Net, name: &'static str) -> Self {
        let owner = net.stranger();
        let data = owner.home().join("machine-files");
        let mut this = Self { net, owner, data, name, process: None, node: String::new() };
        this.start_again();
        this.node = eventually("its offer can be reached", PATIENCE, || this.offer().filter(|o| o.reachable).map(|o| o.node.to_string()));
        this
    }
    fn start_again(&mut self) {
        let mut command = self.owner.command(&["up", "--name", self.name, "--cpu", "0.6", "--memory", "128Mi", "--disk", "1Gi"]);
        command.arg("--data").arg(&self.data).arg("--engine").arg(&self.net.engine.socket);
        let mut process = Running::start(command);
        until("the machine is up", || {
            assert!(process.ended().is_none(), "it ended: {}", process.stderr());
            process.stderr().contains("this machine is offered")
        });
        self.process = Some(process);
    }
    fn says(&self) -> String {
        self.process.as_ref().unwrap().stderr()
    }
    fn offer(&self) -> Option<OfferView> {
        let offers: Vec<OfferView> = self.net.api(async |api| api.offers().await);
        offers.into_iter().find(|o| o.provider_name == self.name)
    }
    fn deposit(&self) -> DepositView {
        let id = self.owner.account();
        *self.owner.api(async |api| api.account(&id).await).standing.unwrap()
    }
    fn engine(&self) -> &Engine {
        &self.net.engine
    }
    /// Stops it as a crash would.
    fn kill(&mut self) {
        let process = self.process.take().unwrap();
        process.signal(Signal::KILL);
        assert_eq!(process.finish(PATIENCE).code, 137);
    }
    /// That nothing of it is left, but the key.
    fn is_gone(&self, images: &[String]) {
        assert_eq!(self.engine().leftovers(&self.node), Vec::<String>::new());
        for image in images {
            assert!(!self.engine().has_image(image), "{image}");
        }
        assert!(!self.data.exists(), "{}", self.data.display());
        let mut names: Vec<String> =
            std::fs::read_dir(self.owner.home()).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        assert_eq!(names, ["account.key"], "nothing but the key");
        assert_eq!(self.offer().map(|o| o.node), None);
    }
}

impl Drop for Owned<'_> {
    fn drop(&mut self) {
        drop(self.process.take());
        self.engine().clear(&self.node);
    }
}

fn network() -> Net {
    Net::start(Options { args: vec!["--no-provider".into()], ..Options::default() })
}

/// The image that was built for the newest job of a user.
fn built_for(user: &User) -> String {
    let lease = user.lease();
    format!("pasture-lease/{}:{}", lease.id, lease.generation)
}

#[test]
fn a_paused_machine_takes_no_job_until_it_is_resumed_and_stays_paused_over_a_restart() {
    let net = network();
    let mut machine = Owned::start(&net, "pausing");
    let user = net.stranger();
    let goes_on = Folder::script("goes-on", SLOW);
    let mut running = user.start_run(&goes_on, &["--timeout", "2m"]);
    running.shows("begun");
    let _ = machine.owner.farm(&["pause"]).exits(0).says(&["takes no more jobs", "1 job still to finish", "farm resume"]);
    assert!(machine.offer().is_none(), "the offer is withdrawn before the command returns");
    let _ = machine.owner.farm(&["status"]).exits(0).says(&["takes no jobs:  farm resume, 1 job running", "of images kept"]);
    let json = machine.owner.farm(&["status", "--json"]).exits(0).json();
    assert_eq!(json["machines"][0]["node"], machine.node.as_str());
    assert_eq!(json["machines"][0]["offer"], "withdrawn");
    assert_eq!(json["machines"][0]["images"]["count"], 1, "the job's own: {json}");
    let load = &json["machines"][0]["load"];
    assert!(load["memory"]["total"].as_u64() > load["memory"]["used"].as_u64() && load["cpu_permille"].as_u64() <= Some(1000), "{load}");
    // A crash in between: the job goes on, and no offer comes back.
    machine.kill();
    machine.start_again();
    assert!(machine.says().contains("it takes no jobs:  farm resume"), "{}", machine.says());
    assert!(machine.offer().is_none());
    let _ = user.farm(&["run", "--timeout", "30s", "pasture/busybox:1", "--", "true"]).exits(125);
    let _ = running.finish(PATIENCE).exits(0).says(&["over"]);

    let _ = machine.owner.farm(&["resume"]).exits(0).says(&["the machine takes jobs"]);
    assert!(machine.offer().is_some());
    let _ = user.run(&Folder::script("taken-again", "echo again"), &[]).exits(0).says(&["again"]);

    // One that does not run is paused as well: its offer goes at once.
    machine.kill();
    assert!(machine.offer().is_some(), "it stands while nobody takes it away");
    let json = machine.owner.farm(&["pause", "--json"]).exits(0).json();
    assert_eq!((&json["running"], &json["offer_withdrawn"]), (&false.into(), &true.into()), "{json}");
    assert!(machine.offer().is_none());
    let _ = machine.owner.farm(&["drain", "--wait"]).exits(125).says(&["does not run", "farm up"]);
    machine.start_again();
    assert!(machine.says().contains("it takes no jobs"), "{}", machine.says());
}

#[test]
fn draining_waits_for_the_last_job_or_ends_those_that_are_left() {
    let net = network();
    let machine = Owned::start(&net, "draining");
    let user = net.stranger();
    let short_one = Folder::script("short", "echo begun; sleep 3; echo done");
    let mut short = user.start_run(&short_one, &[]);
    short.shows("begun");
    let _ = machine.owner.farm(&["drain", "--wait"]).exits(0).says(&["1 job still to finish ...", "takes no more jobs"]);
    let _ = short.finish(PATIENCE).exits(0).says(&["done"]);
    assert_eq!(user.lease().reason, Some(EndReason::Exited { code: 0 }), "it was over on the ledger when draining ended");

    // With a time: one job agreed to be ended with notice, the other did not.
    let _ = machine.owner.farm(&["resume"]).exits(0);
    let (agreed, other) = (net.stranger(), net.stranger());
    let with_notice = Folder::script("agreed", SLOW);
    let mut first = agreed.start_run(&with_notice, &["--preemptible", "--timeout", "5m"]);
    let without = Folder::script("other", SLOW);
    let mut second = other.start_run(&without, &["--timeout", "5m"]);
    first.shows("begun");
    second.shows("begun");
    let _ = machine.owner.farm(&["drain", "--within", "nonsense"]).exits(2);
    let _ = machine.owner.farm(&["drain", "--within", "2s", "--wait"]).exits(0).says(&["jobs that run are being ended"]);
    let _ = second.finish(PATIENCE).exits(125).says(&["by the provider"]);
    assert_eq!(other.lease().reason, Some(EndReason::StoppedByProvider));
    let _ = first.finish(PATIENCE);
    let reason = agreed.lease().reason;
    assert!(matches!(reason, Some(EndReason::Preempted | EndReason::Exited { code: 0 })), "its notice is longer than it runs: {reason:?}");
    let _ = net.user().farm(&["ledger", "check"]).exits(0);
}

#[test]
fn a_machine_that_goes_down_finishes_its_job_takes_its_deposit_back_and_leaves_nothing() {
    let net = network();
    let mut machine = Owned::start(&net, "leaving");
    let (user, stood) = (net.stranger(), machine.deposit().own);
    assert!(stood >= Amount::credits(1), "{stood}");
    let last_one = Folder::script("last", "echo begun; sleep 3; echo done");
    let mut running = user.start_run(&last_one, &[]);
    running.shows("begun");
    let image = built_for(&user);
    assert!(machine.engine().has_image(&image));
    let down = machine.owner.farm(&["down"]).exits(0);
    let down = down.says(&["1 job still to finish", "has left the network", "come back to your account in", "account.key"]);
    let _ = running.finish(PATIENCE).exits(0).says(&["done"]);
    let process = machine.process.take().unwrap().finish(PATIENCE).exits(0);
    assert!(process.stderr.contains("has left the network"), "{}", process.stderr);
    machine.is_gone(&[image]);
    let d = machine.deposit();
    assert_eq!((d.own, d.leaving.len(), d.leaving[0].amount), (Amount::ZERO, 1, stood), "{}", down.all());
    assert_eq!(d.in_use, Amount::ZERO);
    let (_, settlement) = user.settled();
    assert!(!settlement.to_provider.is_zero(), "its last job was paid: {settlement:?}");
    let _ = machine.owner.farm(&["down"]).exits(125).says(&["offers no machine"]);
    let _ = net.user().farm(&["ledger", "check"]).exits(0);
}

#[test]
fn a_machine_that_does_not_run_leaves_too_and_finishes_what_goes_on() {
    let net = network();
    let mut machine = Owned::start(&net, "asleep");
    let user = net.stranger();
    let survivor = Folder::script("survivor", "echo begun; sleep 8; echo done");
    let mut running = user.start_run(&survivor, &[]);
    running.shows("begun");
    let image = built_for(&user);
    machine.kill();
    let mut command = machine.owner.command(&["down", "--keep-deposit", "--json"]);
    command.arg("--data").arg(&machine.data).arg("--engine").arg(&net.engine.socket);
    let left = Running::start(command).finish(2 * PATIENCE).exits(0).json();
    let _ = running.finish(PATIENCE).exits(0).says(&["done"]);
    assert_eq!(left["node"], machine.node.as_str());
    assert_eq!(left["deposit_stays"], "you asked to keep it", "{left}");
    assert_eq!(left["kept_files"], serde_json::json!([]), "{left}");
    assert!(machine.deposit().own >= Amount::credits(1), "it stands still");
    machine.is_gone(&[image]);
}

#[test]
fn the_machine_of_a_local_network_can_be_paused_but_leaves_only_with_it() {
    let net = Net::start(Options::default());
    let owner = net.user();
    let _ = owner.farm(&["down"]).exits(125).says(&["local network", "Ctrl-C"]);
    let _ = owner.farm(&["pause"]).exits(0);
    let offers: Vec<OfferView> = net.api(async |api| api.offers().await);
    assert!(offers.is_empty());
    let data = net.data();
    let _ = owner.farm(&["resume", "--data", data.to_str().unwrap()]).exits(0);
    let offers: Vec<OfferView> = net.api(async |api| api.offers().await);
    assert_eq!(offers.len(), 1);
    let elsewhere = net.stranger();
    let _ = elsewhere.farm(&["pause"]).exits(125).says(&["offers no machine", "farm up"]);
    // Only its owner may open the door.
    use std::os::unix::fs::PermissionsExt as _;
    let socket = data.join("provider/provider/control.sock");
    assert_eq!(std::fs::metadata(socket).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn what_offering_means_is_said_before_the_first_yes_and_only_then() {
    let net = network();
    let owner = net.stranger();
    let folder = Folder::script("mine", "true");
    let args = ["up", "--cpu", "0.5", "--memory", "128Mi", "--disk", "1Gi", "--power-price", "0.3", "--watts", "100"];
    let mut command = owner.command(&args);
    let data = owner.home().join("node");
    command.arg("--engine").arg(&net.engine.socket).current_dir(folder.path());
    let mut up = Running::start(command);
    until("the machine is up", || {
        assert!(up.ended().is_none(), "it ended: {}", up.stderr());
        up.stderr().contains("this machine is offered")
    });
    let said = up.stderr();
    for part in [
        "the rest stays yours",
        "never your own network, this machine or its files",
        "1.0000 cr",
        "after the network's share",
        "100 W more",
        "no jobs yet",
        "farm down",
        "farm run .",
    ] {
        assert!(said.contains(part), "{part}\n{said}");
    }
    up.signal(Signal::INT);
    let _ = up.finish(PATIENCE).exits(0);
    // At a terminal, a no is a no; and who said yes before is not asked again.
    let other = net.stranger();
    let mut asked = other.on_terminal(&["up", "--engine", net.engine.socket.to_str().unwrap()]);
    asked.shows("Offer it? [y/N]");
    asked.type_in("n\n");
    let done = asked.finish(PATIENCE);
    assert!(done.all().contains("nothing was offered"), "{}", done.all());
    assert!(!other.home().join("node").exists(), "nothing was written");
    let mut again = owner.command(&args);
    again.arg("--engine").arg(&net.engine.socket);
    let mut again = Running::start(again);
    until("the machine is up again", || {
        assert!(again.ended().is_none(), "it ended: {}", again.stderr());
        again.stderr().contains("this machine is offered")
    });
    assert!(!again.stderr().contains("no jobs yet"), "{}", again.stderr());
    again.signal(Signal::INT);
    let _ = again.finish(PATIENCE).exits(0);
    let node = hex_node(&data);
    net.engine.clear(&node);
}

/// The id of the node whose files are there.
fn hex_node(data: &std::path::Path) -> String {
    pasture_store::keys::load_or_create(&data.join("node.key")).unwrap().node_id().to_string()
}

#[test]
fn images_over_the_limit_go_when_nobody_uses_them() {
    let net = network();
    let owner_home = Owned::start(&net, "small-cache");
    let mut machine = owner_home;
    // The limit is read at the start.
    let process = machine.process.take().unwrap();
    process.signal(Signal::INT);
    let _ = process.finish(PATIENCE).exits(0);
    std::fs::write(machine.owner.home().join("config.toml"), "[images]\nlimit = \"1Mi\"\n").unwrap();
    machine.start_again();
    let user = net.stranger();
    let in_use_folder = Folder::script("in-use", SLOW);
    let mut first = user.start_run(&in_use_folder, &["--timeout", "2m"]);
    first.shows("begun");
    let in_use = built_for(&user);
    let other = net.stranger();
    let _ = other.run(&Folder::script("second", "echo two"), &[]).exits(0);
    let second = built_for(&other);
    assert!(machine.engine().has_image(&in_use), "what is in use stays, whatever the limit");
    let _ = user.farm(&["stop", "in-use"]).exits(0);
    let _ = first.finish(PATIENCE);
    until("the first job is over", || machine.owner.farm(&["status", "--json"]).exits(0).json()["machines"][0]["unfinished"] == 0);
    let third = net.stranger();
    let _ = third.run(&Folder::script("third", "echo three"), &[]).exits(0);
    until("the others made room for the third", || !machine.engine().has_image(&in_use) && !machine.engine().has_image(&second));
    assert!(machine.engine().has_image("pasture/busybox:1"), "what was here before is not ours to remove");
    let json = machine.owner.farm(&["status", "--json"]).exits(0).json();
    assert_eq!(json["machines"][0]["images"]["limit_bytes"], 1 << 20, "{json}");
    assert_eq!(json["machines"][0]["images"]["count"], 1, "{json}");
}
