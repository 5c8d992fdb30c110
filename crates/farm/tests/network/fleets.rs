//! Many machines of one account whose key is on none of them: added with a code, earning, dismissed, leaving.

use crate::support::{Folder, Net, Options, PATIENCE, Running, User, eventually, until};
use pasture_api::OfferView;
use pasture_types::lease::EndReason;
use std::path::PathBuf;

/// A machine where nobody types: `farm up` with a file that says the rest.
struct Member<'a> {
    net: &'a Net,
    home: User,
    process: Option<Running>,
    node: String,
}

impl<'a> Member<'a> {
    /// Begins with a code, and does not wait.
    fn begin(net: &'a Net, code: &str) -> Self {
        let this = Self { net, home: net.stranger(), process: None, node: String::new() };
        std::fs::create_dir_all(this.home.home()).unwrap();
        std::fs::write(this.home.home().join("code"), format!("{code}\n")).unwrap();
        let config = format!(
            "enroll = \"@{}\"\ndata = \"{}\"\nengine = \"{}\"\ncpu = 0.5\nmemory = \"128Mi\"\ndisk = \"1Gi\"\nlabel = [\"rack=7\"]\nyes = true\n",
            this.home.home().join("code").display(),
            this.data().display(),
            net.engine.socket.display()
        );
        std::fs::write(this.config(), config).unwrap();
        this
    }
    fn data(&self) -> PathBuf {
        self.home.home().join("machine")
    }
    fn config(&self) -> PathBuf {
        self.home.home().join("config-of-machine.toml")
    }
    fn start(&mut self) {
        self.process = Some(Running::start(self.home.command(&["up", "--config", self.config().to_str().unwrap()])));
    }
    fn is_offered(&mut self) {
        let process = self.process.as_mut().unwrap();
        until("the machine is offered", || {
            assert!(process.ended().is_none(), "it ended: {}", process.stderr());
            process.stderr().contains("this machine is offered")
        });
        let shown = self.home.farm(&["provider", "status", "--json"]).exits(0).json();
        self.node = shown[0]["node"].as_str().unwrap().to_owned();
    }
    fn stop(&mut self) {
        drop(self.process.take());
    }
}

impl Drop for Member<'_> {
    fn drop(&mut self) {
        self.stop();
        if !self.node.is_empty() {
            self.net.engine.clear(&self.node);
        }
    }
}

fn offers_of(net: &Net, owner: &User) -> Vec<OfferView> {
    let account = owner.account();
    let offers: Vec<OfferView> = net.api(async |api| api.offers().await);
    offers.into_iter().filter(|o| o.provider == account).collect()
}

#[test]
fn machines_of_a_fleet_earn_for_an_account_whose_key_they_never_see() {
    let net = Net::start(Options { args: vec!["--no-provider".into()], ..Options::default() });
    let owner = net.stranger();
    let _ = owner.farm(&["provider", "enroll", "--nodes", "0"]).exits(2);
    let shown = owner.farm(&["provider", "enroll", "--nodes", "2", "--expires", "1h", "--name", "barn", "--json"]).exits(0).json();
    let (code, grant) = (shown["code"].as_str().unwrap().to_owned(), shown["id"].as_str().unwrap().to_owned());
    assert!(code.starts_with("pasture-enroll-"), "{shown}");
    let _ = owner.farm(&["account", "grants"]).exits(0).says(&["adding 2 machines"]);
    let _ = owner.farm(&["provider", "machines"]).exits(0).says(&["your account has no machines"]);

    // Both at once, with one code.
    let mut members = [Member::begin(&net, &code), Member::begin(&net, &code)];
    members.iter_mut().for_each(Member::start);
    for member in &mut members {
        member.is_offered();
        assert!(!member.home.home().join("account.key").exists(), "no key of an account is made there");
        let says = member.process.as_ref().unwrap().stderr();
        assert!(says.contains("whose key is not here"), "{says}");
    }
    let offers = offers_of(&net, &owner);
    assert_eq!(offers.len(), 2, "{offers:?}");
    assert!(offers.iter().all(|o| o.provider_name == "barn"), "{offers:?}");
    let _ = owner.farm(&["account", "grants"]).exits(0).says(&["no grant stands"]);

    // The code is used up, and says so; what was begun with it is nobody's.
    let mut late = Member::begin(&net, &code);
    late.start();
    let _ = late.process.take().unwrap().finish(PATIENCE).exits(125).says(&["not part of account", "farm provider enroll"]);

    // A job on one of them pays the account. It lasts three periods: a busy machine may miss the proof of one.
    let user = net.stranger();
    let folder = Folder::script("milk", "echo from the barn; sleep 11");
    let done = user.run(&folder, &[]).exits(0);
    assert!(done.stdout.contains("from the barn"), "{}", done.all());
    let (lease, settlement) = user.settled();
    assert_eq!((lease.provider, lease.reason), (owner.account(), Some(EndReason::Exited { code: 0 })));
    assert!(!settlement.to_provider.is_zero(), "{settlement:?}");

    // Without the code from the second start on.
    let [one, two] = &mut members;
    one.stop();
    let config = std::fs::read_to_string(one.config()).unwrap();
    std::fs::write(one.config(), config.lines().filter(|l| !l.starts_with("enroll")).collect::<Vec<_>>().join("\n")).unwrap();
    std::fs::remove_file(one.home.home().join("code")).unwrap();
    one.start();
    one.is_offered();

    // Its owner lets one offer nothing more, from elsewhere.
    let _ = owner.farm(&["provider", "dismiss", &two.node[..8], "--yes"]).exits(0).says(&["offers nothing more"]);
    let left: Vec<String> = offers_of(&net, &owner).iter().map(|o| o.node.to_string()).collect();
    assert_eq!(left, [one.node.as_str()]);
    let _ = owner.farm(&["provider", "machines"]).exits(0).says(&["offered", "dismissed"]);
    two.stop();
    two.start();
    let _ = two.process.take().unwrap().finish(PATIENCE).exits(125).says(&["dismissed"]);

    // And one leaves by itself; the deposit stays.
    let left = one.home.farm(&["down", "--yes", "--data", one.data().to_str().unwrap()]).exits(0);
    assert!(left.all().contains("whose key is elsewhere"), "{}", left.all());
    assert!(!one.data().exists(), "{}", left.all());
    until("nothing is offered", || offers_of(&net, &owner).is_empty());
    let _ = owner.farm(&["account", "revoke", &grant[..8]]).exits(125).says(&["no grant of yours begins with"]);
    let _ = user.farm(&["ledger", "check"]).exits(0);
}

#[test]
fn a_stopped_machine_of_a_fleet_is_paused_and_leaves_with_its_own_key() {
    let net = Net::start(Options { args: vec!["--no-provider".into()], ..Options::default() });
    let owner = net.stranger();
    let shown = owner.farm(&["provider", "enroll", "--nodes", "1", "--json"]).exits(0).json();
    let mut member = Member::begin(&net, shown["code"].as_str().unwrap());
    member.start();
    member.is_offered();
    member.stop();
    eventually("it still stands on the ledger", PATIENCE, || (offers_of(&net, &owner).len() == 1).then_some(()));
    let data = member.data();
    let _ = member.home.farm(&["pause", "--data", data.to_str().unwrap()]).exits(0).says(&["no offer of it stands"]);
    assert!(offers_of(&net, &owner).is_empty());
    let socket = net.engine.socket.to_str().unwrap();
    let _ = member.home.farm(&["down", "--yes", "--data", data.to_str().unwrap(), "--engine", socket]).exits(0);
    assert!(!data.exists());
    // Its owner's own machine is another matter.
    let _ = owner.farm(&["up", "--enroll", "pasture-enroll-00"]).exits(2).says(&["mistyped or incomplete"]);
}

#[test]
fn who_had_a_job_is_named_and_gets_no_more_once_it_is_blocked() {
    let net = Net::start(Options { args: vec!["--no-provider".into()], ..Options::default() });
    let owner = net.stranger();
    let shown = owner.farm(&["provider", "enroll", "--nodes", "1", "--json"]).exits(0).json();
    let mut member = Member::begin(&net, shown["code"].as_str().unwrap());
    member.start();
    member.is_offered();
    let data = member.data();
    let at = |args: &[&str]| member.home.farm(&[&["provider"], args, &["--data", data.to_str().unwrap()]].concat());
    let _ = at(&["tenants"]).exits(0).says(&["nobody had a job on this machine"]);

    let user = net.stranger();
    let account = user.account().to_string();
    let stays = Folder::script("stays", "trap 'exit 0' TERM; echo begun; while true; do sleep 0.1; done");
    let mut running = user.start_run(&stays, &[]);
    running.shows("begun");
    let found = at(&["tenants", "--json"]).exits(0).json();
    assert_eq!((found[0]["account"].as_str(), found[0]["ended"].is_null()), (Some(account.as_str()), true), "{found}");
    let _ = at(&["tenants", "--at", "1h"]).exits(0).says(&["nobody had a job"]);
    let _ = at(&["tenants", "--at", "yesterday"]).exits(2).says(&["is no time"]);

    let _ = at(&["block", "nobody"]).exits(2).says(&["is no account"]);
    let _ = at(&["block", &account, "--why", "scans others", "--now"]).exits(0).says(&["its jobs here are being ended"]);
    let _ = running.finish(PATIENCE);
    let (lease, _) = user.settled();
    assert_eq!(lease.reason, Some(EndReason::StoppedByProvider));
    let _ = at(&["blocked"]).exits(0).says(&[&account, "scans others"]);
    let again = Folder::script("again", "echo served");
    let refused = user.run(&again, &["--timeout", "10s"]);
    assert!(refused.code != 0 && !refused.stdout.contains("served"), "{}", refused.all());
    // Somebody else is served meanwhile.
    let other = net.stranger();
    let done = other.run(&again, &[]).exits(0);
    assert_eq!(done.stdout, "served\n");

    // It holds over a restart, and until the owner says otherwise.
    member.stop();
    member.start();
    member.is_offered();
    let at = |args: &[&str]| member.home.farm(&[&["provider"], args, &["--data", data.to_str().unwrap()]].concat());
    let _ = at(&["blocked"]).exits(0).says(&[&account]);
    let _ = at(&["unblock", &account[..8]]).exits(0).says(&["is served again"]);
    let _ = at(&["unblock", &account[..8]]).exits(125).says(&["no account that begins with"]);
    let done = user.run(&again, &[]).exits(0);
    assert_eq!(done.stdout, "served\n");
}
