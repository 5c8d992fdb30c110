//! What somebody sees who runs a network or offers a machine.

use crate::support::{Engine, Folder, Net, Options, PATIENCE, Running, Signal, User, eventually, paid, shared, until};
use pasture_api::OfferView;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs a command that must end by itself.
fn ends(command: Command) -> crate::support::Done {
    Running::start(command).finish(PATIENCE)
}

#[test]
fn a_port_that_is_taken_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (_, port) = address.split_once(':').unwrap();
    let user = shared().stranger();
    let data = user.home().join("d");
    let _ = user.farm(&["dev", "--data", data.to_str().unwrap(), "--listen", &address]).exits(125).says(&["taken", port, "--listen"]);
}

#[test]
fn an_engine_that_does_not_answer_is_named_with_a_way_out() {
    let user = shared().stranger();
    let socket = user.home().join("no-engine.sock");
    let data = user.home().join("d");
    let args = ["dev", "--data", data.to_str().unwrap(), "--listen", "127.0.0.1:0", "--engine", socket.to_str().unwrap()];
    let _ = user.farm(&args).exits(125).says(&["no container engine answers", "no-engine.sock", "farm doctor --fix"]);
    let doctor = user.farm(&["doctor", "--engine", socket.to_str().unwrap()]);
    assert_ne!(doctor.code, 0, "{}", doctor.all());
}

#[test]
fn a_machine_is_tested_before_it_is_offered() {
    let net = shared();
    let user = net.stranger();
    let before: Vec<OfferView> = net.api(async |api| api.offers().await);
    let socket = net.engine.socket.to_str().unwrap();
    let report = user.farm(&["provider", "self-test", "--json", "--engine", socket]).exits(0).json();
    for figure in ["core_hashes", "cpu_hashes", "cores", "memory_bytes", "disk_bytes", "disk_syncs"] {
        assert!(report["gauge"][figure].as_u64().unwrap() > 0, "{figure}: {report}");
    }
    assert!(!report["rates"]["cpu_core"].is_null() && report["engine"].as_str().unwrap().contains("Engine"), "{report}");
    // The network of the tests has one other machine, which is no market.
    assert_eq!(report["rates_from"], "fixed: too few others offer machines");
    let now: Vec<OfferView> = net.api(async |api| api.offers().await);
    assert_eq!(now.len(), before.len(), "nothing is offered");
    let nowhere = user.home().join("no-engine.sock");
    let failed = user.farm(&["provider", "self-test", "--engine", nowhere.to_str().unwrap()]);
    assert_ne!(failed.code, 0);
    let _ = failed.says(&["jobs cannot run here", "farm doctor --fix", "one core", "price an hour"]);
}

/// On the adapter in software that the tests of crates/gpu use too; a machine may have others beside it.
#[test]
fn what_vulkan_finds_is_measured_and_software_is_called_that() {
    let user = shared().stranger();
    let cards = user.farm(&["provider", "self-test", "--gpu", "--json"]).exits(0).json();
    let software = cards.as_array().unwrap().iter().find(|card| card["software"] == true).expect("scripts/setup.sh installs one");
    for figure in ["macs_per_s", "hashes_per_s", "product_width", "max_buffer_bytes"] {
        assert!(software[figure].as_u64().unwrap() > 0, "{figure}: {software}");
    }
    assert_eq!((&software["kind"], &software["problem"]), (&"software".into(), &serde_json::Value::Null));
}

#[test]
fn two_nodes_do_not_share_a_folder() {
    let net = Net::start(Options::default());
    let other = net.stranger();
    let mut second = net.command();
    second.env("FARM_HOME", other.home());
    let _ = ends(second).exits(125).says(&["in use by another process", "pid", "--data"]);
    // The first goes on.
    let _ = net.user().farm(&["ledger", "check"]).exits(0);
}

#[test]
fn a_network_that_comes_back_knows_accounts_jobs_and_receipts() {
    let mut net = Net::start(Options::default());
    let user = net.user();
    let _ = user.run(&Folder::script("before", "echo remembered"), &[]).exits(0);
    let (lease, settlement) = user.settled();
    let books = user.books();
    let head = net.api(async |api| api.head().await);
    let ended = net.stop();
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    // Its context goes with it.
    let _ = user.farm(&["ps"]).exits(125);
    net.start_again();
    let user = net.user();
    assert_eq!(user.books(), books);
    let (again, settlement_again) = user.settled();
    assert_eq!((again.id, settlement_again), (lease.id, settlement));
    assert!(net.api(async |api| api.head().await).height >= head.height);
    // Logs are kept as well, and the next job is served.
    assert_eq!(user.farm(&["logs", "before"]).exits(0).stdout, "remembered\n");
    let _ = user.run(&Folder::script("after", "echo served"), &[]).exits(0).says(&["served"]);
}

#[test]
fn a_job_outlives_a_network_that_is_stopped_and_started_again() {
    let mut net = Net::start(Options { fixed_port: true, ..Options::default() });
    let user = net.user();
    let folder = Folder::script("lasting", "trap 'echo asked; exit 0' TERM; n=0; while true; do n=$((n+1)); echo line $n; sleep 0.2; done");
    let _ = user.run(&folder, &["-d"]).exits(0);
    let before = net.engine.containers(net.node());
    assert_eq!(before.len(), 1, "{before:?}");
    let _ = net.stop();
    assert_eq!(net.engine.containers(net.node()), before, "a network with a folder leaves its jobs running");
    net.start_again();
    assert_eq!(net.engine.containers(net.node()), before);
    // Killed and started within a period: its capacity check is there already, which is no fault.
    net.kill();
    net.start_again();
    let mut logs = user.start(&["logs", "-f", "lasting"]);
    logs.shows("line 9\n");
    let _ = user.farm(&["stop", "lasting"]).exits(0);
    let text = logs.finish(PATIENCE).exits(0).stdout;
    let lines: Vec<&str> = text.lines().collect();
    let numbered: Vec<String> = (1..lines.len()).map(|n| format!("line {n}")).chain(["asked".into()]).collect();
    assert_eq!(lines, numbered);
    let (lease, _) = user.settled();
    let _ = paid(&lease);
    assert!(!net.log().contains("the heartbeat was not recorded"), "{}", net.log());
    until("nothing is left behind", || net.engine.leftovers(net.node()).is_empty());
}

#[test]
fn a_network_without_a_folder_leaves_nothing_behind() {
    let engine = Engine::find();
    let home = tempfile::tempdir().unwrap();
    let user = User::at(home.path().into(), String::new());
    let mut command = user.command(&["dev", "--listen", "127.0.0.1:0", "--cpu", "1", "--memory", "256Mi", "--disk", "1Gi"]);
    command.arg("--engine").arg(&engine.socket);
    let mut dev = Running::start(command);
    dev.shows("http://127.0.0.1:");
    let node = eventually("its machine is on offer", PATIENCE, || {
        let done = user.farm(&["offers", "--json"]);
        let offers: Vec<OfferView> = serde_json::from_str(&done.stdout).ok()?;
        offers.first().filter(|o| o.reachable).map(|o| o.node.to_string())
    });
    let _ = user.run(&Folder::script("temp", "while true; do sleep 0.1; done"), &["-d"]).exits(0);
    assert_eq!(engine.containers(&node).len(), 1);
    dev.signal(Signal::TERM);
    let done = dev.finish(PATIENCE).exits(0);
    assert_eq!(engine.leftovers(&node), Vec::<String>::new(), "{}", done.all());
    let kept = files(home.path());
    assert!(kept.iter().all(|(path, _)| !path.to_str().unwrap().contains("/dev-")), "{kept:?}");
    // The context that it had set is gone with it.
    let _ = user.farm(&["context", "list", "--json"]).exits(0);
    let config = std::fs::read_to_string(home.path().join("config.toml")).unwrap();
    assert!(!config.contains("http://"), "{config}");
}

#[test]
fn a_second_machine_joins_a_network_and_is_asked_for_by_region() {
    let net = shared();
    let user = net.stranger();
    let home = user.home().join("operator");
    let data = user.home().join("machine");
    let mut command =
        user.command(&["up", "--region", "far-north", "--name", "second", "--cpu", "0.5", "--memory", "128Mi", "--disk", "1Gi"]);
    command.arg("--data").arg(&data).arg("--engine").arg(&net.engine.socket).env("FARM_HOME", &home);
    let up = Running::start(command);
    let offer = eventually("the second machine is on offer", PATIENCE, || {
        let offers: Vec<OfferView> = user.api(async |api| api.offers().await);
        offers.into_iter().find(|o| o.terms.region == "far-north" && o.reachable)
    });
    // A new offer has to stand for two blocks before it is drawn: the client waits for that.
    let done = user.run(&Folder::script("northern", "echo from the north"), &["--region", "far"]).exits(0);
    let done = done.says(&["second", "far-north"]);
    assert_eq!(done.stdout, "from the north\n");
    assert_eq!(user.lease().node, offer.node);
    let _ = user.settled();
    up.signal(Signal::TERM);
    let _ = up.finish(PATIENCE).exits(0);
    assert_eq!(net.engine.leftovers(&offer.node.to_string()), Vec::<String>::new());
}

/// Every file below a folder with its size.
fn files(dir: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = vec![];
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let meta = entry.metadata().unwrap();
        if meta.is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push((entry.path(), meta.len()));
        }
    }
    found.sort();
    found
}

/// Damages a file, gives what is said then, and puts the file back.
fn refused_with(net: &Net, file: &Path, damage: impl Fn(&mut Vec<u8>)) -> String {
    let good = std::fs::read(file).unwrap();
    let mut bad = good.clone();
    damage(&mut bad);
    std::fs::write(file, &bad).unwrap();
    let done = ends(net.command()).exits(125);
    std::fs::write(file, &good).unwrap();
    done.all()
}

/// Turns over some bits in the middle.
fn flip(bytes: &mut [u8]) {
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x55;
}

#[test]
fn a_corrupted_record_of_the_network_is_refused_by_name_with_a_way_out() {
    let mut net = Net::start(Options { args: vec!["--no-provider".into()], ..Options::default() });
    let _ = net.stop();
    let genesis = net.data().join("zone/genesis");
    let said = refused_with(&net, &genesis, |bytes| flip(bytes));
    assert!(said.contains(genesis.to_str().unwrap()) && said.contains("damaged") && said.contains("move it away"), "{said}");
    net.start_again();
}

#[test]
fn a_corrupted_record_of_a_machine_is_refused_by_name_with_a_way_out() {
    let mut net = Net::start(Options::default());
    let user = net.user();
    // A running lease, so that the machine has a record of one.
    let _ = user.run(&Folder::script("kept", "trap 'exit 0' TERM; while true; do sleep 0.1; done"), &["-d"]).exits(0);
    let lease = user.lease().id.to_string();
    let _ = net.stop();
    let all = files(&net.data().join("provider"));
    let is_record = |p: &Path| std::fs::read(p).is_ok_and(|b| b.starts_with(b"blake3:"));
    let record = all.iter().map(|(p, _)| p).find(|p| p.to_str().unwrap().contains(&lease) && is_record(p));
    let record = record.unwrap_or_else(|| panic!("no record of lease {lease} in {all:?}"));
    let said = refused_with(&net, record, |bytes| flip(bytes));
    assert!(said.contains(record.to_str().unwrap()) && said.contains("damaged") && said.contains("move it away"), "{said}");
    // Put back, everything works, and the job is still there.
    net.start_again();
    let _ = net.user().farm(&["stop", "kept"]).exits(0);
    let _ = net.user().settled();
}

#[test]
fn a_corrupted_store_of_the_ledger_is_refused_by_name_with_a_way_out() {
    let mut net = Net::start(Options { args: vec!["--no-provider".into()], ..Options::default() });
    let _ = net.user().farm(&["account", "test-credits", "5"]).exits(0);
    let _ = net.stop();
    let store = net.data().join("ledger");
    let all = files(&store);
    let of_state = all.iter().filter(|(p, _)| p.to_str().unwrap().contains("chain-state"));
    let (state, _) = of_state.max_by_key(|(_, size)| *size).unwrap_or_else(|| panic!("{all:?}"));
    let said = refused_with(&net, state, |bytes| bytes.iter_mut().for_each(|byte| *byte ^= 0x55));
    assert!(said.contains(store.to_str().unwrap()) && said.contains("chain-state"), "{state:?} is not named:\n{said}");
    // Put back, the books are what they were.
    net.start_again();
    let _ = net.user().farm(&["ledger", "check"]).exits(0);
}
