//! A network of several validators is moved to new folders, after its validators changed.

use crate::elections::{Elected, elected, listed, stop};
use crate::operate::arg;
use crate::support::{Running, User, until};
use crate::validators::{head, run_validator};
use pasture_types::{AccountId, Amount};
use std::path::PathBuf;

#[test]
fn a_network_whose_validators_changed_goes_on_in_new_folders_and_its_clients_are_led_to_them() {
    let nobody = User::new("http://127.0.0.1:1".into());
    let Elected { dirs, launch, running, user } = elected(&nobody, |_, _| ());
    let at = |name: &str| user.home().join(name);
    let term = listed(&user, &running[0].1)["this"]["engine_term"].as_u64().unwrap();
    let file = arg(&at("running.export"));
    let exported = user.farm(&["ledger", "export", &file, "--json"]).exits(0).json();
    assert_eq!((exported["validators"].as_u64(), exported["votes"].as_u64() >= Some(3)), (Some(4), true), "{exported}");
    // A founder without a seat has the same.
    stop(running);
    let stopped = user.farm(&["ledger", "export", &arg(&at("stopped.export")), "--data", &arg(&dirs[3]), "--json"]).exits(0).json();
    assert!(stopped["height"].as_u64() >= exported["height"].as_u64() && stopped["validators"] == 4, "{stopped}");

    // Without addresses nobody finds the others.
    let new: Vec<PathBuf> = (0..5).map(|n| at(&format!("new{n}"))).collect();
    let import = |to: usize, keys: &str| user.farm(&["ledger", "import", &file, "--data", &arg(&new[to]), "--keys", keys, "--json"]);
    let book = dirs[0].join("zone/network.toml");
    std::fs::rename(&book, at("book")).unwrap();
    let _ = import(0, &arg(&dirs[0])).exits(125).says(&["network.toml", "--keys"]);
    assert!(!new[0].exists());
    std::fs::rename(at("book"), &book).unwrap();
    for (n, dir) in dirs.iter().enumerate() {
        let done = import(n, &arg(dir)).exits(0).json();
        assert_eq!((&done["digest"], &done["height"]), (&exported["digest"], &exported["height"]));
    }

    // Those who were elected go on, the founder without a seat follows.
    let before = exported["height"].as_u64().unwrap();
    let running: Vec<(Running, String)> = new.iter().map(|dir| run_validator(&nobody, dir, 0)).collect();
    let urls: Vec<&str> = running.iter().map(|(_, url)| url.as_str()).collect();
    until("the next blocks", || urls.iter().all(|url| head(url).height.0 > before + 2));
    for (n, url) in urls.iter().enumerate() {
        assert_eq!(listed(&user, url)["this"]["certifies"], n != 3, "validator {n}");
    }
    assert!(listed(&user, urls[4])["this"]["engine_term"].as_u64() > Some(term), "a vote of before could contradict one of now");
    let (here, somebody) = (User::at(user.home().into(), urls[4].to_owned()), AccountId([9; 32]).to_string());
    let had = here.books().free;
    let _ = user.farm(&["--api-url", urls[4], "account", "transfer", &somebody, "5", "-y"]).exits(0);
    assert!(here.books().free < had.saturating_sub(Amount::credits(4)));
    let _ = user.farm(&["--api-url", urls[0], "ledger", "check"]).exits(0);

    // A client that knows the founders by the genesis alone is led to those of now.
    let trusting = User::at(at("trusting"), urls[0].to_owned());
    std::fs::create_dir(at("trusting")).unwrap();
    let genesis = arg(&launch.join("genesis"));
    let _ = trusting.farm(&["context", "create", "meadow", "--api-url", urls[0], "--trust", &genesis]).exits(0);
    let account = user.account().to_string();
    let proven = trusting.farm(&["ledger", "get", "account", &account, "--json", "--context", "meadow"]).exits(0).json();
    assert!(proven["verified"]["validators"] == 4 && proven["verified"]["height"].as_u64() > Some(before), "{proven}");

    // What is exported now carries the changes of before, too.
    let again = arg(&at("again.export"));
    let twice = user.farm(&["--api-url", urls[1], "ledger", "export", &again, "--json"]).exits(0).json();
    assert!(twice["height"].as_u64() > Some(before) && twice["validators"] == 4, "{twice}");
    let last = user.farm(&["ledger", "import", &again, "--data", &arg(&at("last")), "--keys", &arg(&new[4])]);
    let _ = last.exits(0).says(&["imported"]);
    stop(running);
    let replayed = user.farm(&["ledger", "replay", "--json", "--data", &arg(&new[4])]).exits(0).json();
    assert!(replayed["difference"].is_null(), "{replayed}");
}
