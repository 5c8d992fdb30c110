//! A network of several validators, each a process with its disk and sockets: what becomes of it when some of them die.

use crate::support::{Folder, Net, Options, PATIENCE, Running, Signal, User, eventually, paid, until};
use pasture_api::HeadView;
use pasture_types::{AccountId, Amount};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A validator besides the first.
struct Other {
    pid: u32,
    url: String,
    data: PathBuf,
}

/// A network of four validators and a machine.
fn four() -> (Net, Vec<Other>) {
    let args = ["--validators", "4", "--json"].map(str::to_owned).to_vec();
    let net = Net::start(Options { args, ..Options::default() });
    let ready: Value = eventually("the ready line", PATIENCE, || net.stdout().lines().find_map(|line| serde_json::from_str(line).ok()));
    let text = |v: &Value| v.as_str().unwrap().to_owned();
    let other = |v: &Value| Other {
        pid: u32::try_from(v["process"].as_u64().unwrap()).unwrap(),
        url: text(&v["api_url"]),
        data: text(&v["data"]).into(),
    };
    let others: Vec<Other> = ready["validators"].as_array().unwrap().iter().map(other).collect();
    assert_eq!(others.len(), 3, "{ready}");
    (net, others)
}

/// Ends a process that the network started.
fn kill(other: &Other) {
    let status = Command::new("kill").args(["-KILL", &other.pid.to_string()]).status().unwrap();
    assert!(status.success());
}

/// Runs a validator of this folder by hand, and gives its API's address as well. Port 0 takes a free one.
pub(crate) fn run_validator(user: &User, data: &Path, port: u16) -> (Running, String) {
    let listen = format!("127.0.0.1:{port}");
    let running = user.start(&["validator", "run", "--json", "--data", data.to_str().unwrap(), "--listen", &listen]);
    let ready: Value =
        eventually("a validator is up", PATIENCE, || running.stdout().lines().find_map(|line| serde_json::from_str(line).ok()));
    let url = ready["api_url"].as_str().unwrap().to_owned();
    (running, url)
}

pub(crate) fn head(url: &str) -> HeadView {
    crate::support::ask(url, async |api| api.head().await).unwrap()
}

/// All have the same block at the height of the highest.
#[track_caller]
fn agree(urls: &[&str]) {
    let highest = urls.iter().map(|url| head(url).height.0).max().unwrap();
    let digests: Vec<String> = urls
        .iter()
        .map(|url| {
            until(&format!("{url} is at block {highest}"), || head(url).height.0 >= highest);
            crate::support::ask(url, async |api| api.block(highest).await).unwrap().digest
        })
        .collect();
    assert!(digests.windows(2).all(|pair| pair[0] == pair[1]), "at {highest}: {digests:?}");
}

#[test]
fn with_one_of_four_validators_killed_jobs_run_and_with_two_nothing_is_decided_until_one_is_back() {
    let (mut net, others) = four();
    let user = net.user();
    let folder = Folder::script("voted", "echo decided by four; sleep 1");
    let _ = user.run(&folder, &[]).exits(0).says(&["decided by four"]);
    let _ = paid(&user.lease());
    // What was handed to another one's API is final everywhere, and believed because a quorum signed it.
    let elsewhere = User::new(others[0].url.clone()).with_credits();
    let account = elsewhere.account().to_string();
    until("the account is known here", || user.farm(&["ledger", "get", "account", &account]).code == 0);
    let _ = user.farm(&["ledger", "get", "account", &account]).exits(0).says(&["of 4 trusted validators"]);
    let _ = user.farm(&["status"]).exits(0).says(&["permissioned, 4 validators"]);

    kill(&others[2]);
    let _ = user.run(&folder, &[]).exits(0).says(&["decided by four"]);
    let _ = user.farm(&["account", "transfer", &account, "3", "-y"]).exits(0);
    agree(&[net.url(), &others[0].url, &others[1].url]);

    kill(&others[1]);
    // Reading goes on; what was asked for waits.
    let had = elsewhere.books().free;
    let waits = user.start(&["account", "transfer", &account, "5", "-y"]);
    until("the transfer waits on two nodes", || {
        let waiting = |url: &str| crate::support::ask(url, async |api| api.status().await).unwrap().pending_transactions;
        waiting(net.url()) > 0 && waiting(&others[0].url) > 0
    });
    let stuck = head(net.url()).height;
    assert_eq!(elsewhere.books().free, had);
    let (second, second_url) = run_validator(&user, &others[1].data, 0);
    let done = waits.finish(PATIENCE);
    assert_eq!(done.code, 0, "{}", done.all());
    assert!(head(net.url()).height > stuck);
    let five = Amount::credits(5);
    until("it arrived at the other one", || elsewhere.books().free == had.saturating_add(five));
    let (third, third_url) = run_validator(&user, &others[2].data, 0);
    agree(&[net.url(), &others[0].url, &second_url, &third_url]);
    let _ = user.run(&folder, &[]).exits(0).says(&["decided by four"]);

    for running in [third, second] {
        running.signal(Signal::TERM);
        let done = running.finish(PATIENCE);
        assert_eq!(done.code, 0, "{}", done.all());
    }
    let data = net.data();
    net.kill();
    // The last one ends with the process that started it.
    until("nobody holds its folder", || user.farm(&["ledger", "replay", "--data", others[0].data.to_str().unwrap()]).code == 0);
    let replayed = |dir: &Path| user.farm(&["ledger", "replay", "--json", "--data", dir.to_str().unwrap()]).exits(0).json();
    for dir in [&data, &others[1].data, &others[2].data] {
        let report = replayed(dir);
        assert!(report["difference"].is_null() && report["transactions"].as_u64() > Some(5), "{report}");
    }
}

#[test]
fn a_network_is_launched_from_what_its_validators_announce() {
    let user = User::new("http://127.0.0.1:1".into());
    let at = |name: &str| user.home().join(name);
    let arg = |path: &Path| path.to_str().unwrap().to_owned();
    for n in 0..4 {
        let port = crate::support::free_port();
        let (data, out, address) = (arg(&at(&format!("v{n}"))), arg(&at(&format!("v{n}.json"))), format!("127.0.0.1:{port}"));
        let _ = user.farm(&["validator", "init", "--data", &data, "--address", &address, "--out", &out]).exits(0);
        let _ = user.farm(&["validator", "run", "--data", &data]).exits(2).says(&["belongs to no network yet", "farm validator join"]);
    }
    let key = user.key().public().to_string();
    let (out, funds) = (arg(&at("launch")), format!("{key}=1000"));
    let mut make: Vec<String> = ["genesis", "--name", "meadow", "--account", &funds, "--out", &out].map(str::to_owned).to_vec();
    for n in 0..4 {
        make.extend(["--validator".into(), arg(&at(&format!("v{n}.json")))]);
    }
    let make: Vec<&str> = make.iter().map(String::as_str).collect();
    let made = user.farm(&[&make[..], &["--json"]].concat()).exits(0).json();
    assert_eq!((made["name"].as_str(), made["validators"].as_array().map(Vec::len)), (Some("meadow"), Some(4)), "{made}");
    assert_eq!(made["dev"], false);
    let _ = user.farm(&make).exits(2).says(&["is there already"]);
    let (genesis, network) = (arg(&at("launch/genesis")), arg(&at("launch/network.toml")));
    let _ = user.farm(&["genesis", "--show", &genesis]).exits(0).says(&["3 make a block final"]);
    assert!(std::fs::read_to_string(at("launch/LAUNCH.md")).unwrap().contains("farm validator join"));
    // Whom the genesis does not name must say where it is.
    let stranger = arg(&at("stranger"));
    let join = |data: &str| user.farm(&["validator", "join", "--data", data, "--genesis", &genesis, "--network", &network]);
    let _ = join(&stranger).exits(125).says(&["names the validator of", "--address"]);
    let mut running = Vec::new();
    for n in 0..4 {
        let data = at(&format!("v{n}"));
        let _ = join(&arg(&data)).exits(0);
        let _ = join(&arg(&data)).exits(125).says(&["belongs to a network already"]);
        running.push(run_validator(&user, &data, 0));
    }
    let zone = made["network"].as_str().unwrap();
    let url = &running[3].1;
    until("the first block", || head(&running[0].1).height.0 > 0);
    let status = crate::support::ask(url, async |api| api.status().await).unwrap();
    assert_eq!((status.zone.to_string().as_str(), status.name.as_str()), (zone, "meadow"));
    let nobody = AccountId([9; 32]).to_string();
    let _ = user.farm(&["--api-url", url, "account", "transfer", &nobody, "5", "-y"]).exits(0);
    let balance = crate::support::ask(url, async |api| api.account(&user.account()).await).unwrap().balance;
    assert!(balance < Amount::credits(995), "{balance}");
    let urls: Vec<&str> = running.iter().map(|(_, url)| url.as_str()).collect();
    agree(&urls);
    for (running, _) in running {
        running.signal(Signal::INT);
        let done = running.finish(PATIENCE);
        assert_eq!(done.code, 0, "{}", done.all());
    }
}
