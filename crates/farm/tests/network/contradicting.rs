//! A validator that signs both sides of every question (`farm-cheat-votes`), found out by the others and shown to the ledger.

use crate::elections::{key, kill, listed, stop};
use crate::operate::{arg, found, join};
use crate::support::{PATIENCE, Running, Signal, User, farm_binary, free_port, until};
use crate::validators::{head, run_validator};
use pasture_types::AccountId;
use serde_json::Value;
use std::path::Path;
use std::process::Command;

fn cheat(dir: &Path) -> Running {
    let binary = farm_binary().with_file_name("farm-cheat-votes");
    assert!(binary.exists(), "{} is missing: cargo build -p pasture-cheats", binary.display());
    let mut command = Command::new(binary);
    command.arg("--data").arg(dir);
    Running::start(command)
}

fn of(user: &User, url: &str, key: &str) -> Value {
    let all = listed(user, url);
    all["validators"].as_array().unwrap().iter().find(|v| v["key"] == *key).cloned().unwrap_or_default()
}

#[test]
fn a_validator_that_contradicts_itself_loses_deposit_and_seat_while_the_others_go_on() {
    let nobody = User::new("http://127.0.0.1:1".into());
    let (dirs, launch) = found(&nobody, 4, &["--dev", "--seats", "4", "--term", "5s", "--min-deposit", "10"]);
    let mut running: Vec<(Running, String)> = dirs.iter().map(|dir| run_validator(&nobody, dir, 0)).collect();
    let url = running[0].1.clone();
    until("the first block", || head(&url).height.0 > 0);
    let user = User::new(url.clone()).with_credits();
    for dir in &dirs {
        let _ = user.farm(&["validator", "deposit", &key(&nobody, dir), "100", "--operator", &arg(dir)]).exits(0);
    }
    // Somebody else stands by with a smaller deposit.
    let fifth = user.home().join("fifth");
    let _ = join(&user, &fifth, &launch, &["--address", &format!("127.0.0.1:{}", free_port())]).exits(0);
    let _ = user.farm(&["validator", "register", "--data", &arg(&fifth), "--deposit", "20"]).exits(0);
    let (next, next_url) = run_validator(&user, &fifth, 0);
    until("the fifth follows", || head(&next_url).height.0 > 0);

    let bad = key(&nobody, &dirs[3]);
    let before = of(&user, &url, &bad);
    assert_eq!((&before["seated"], before["suspended"].is_null()), (&Value::Bool(true), true), "{before}");
    kill(running.pop().unwrap().0);
    let cheat = cheat(&dirs[3]);
    let forfeited = |v: &Value| v["forfeited"].as_str().and_then(|text| text.parse::<u128>().ok()).unwrap_or_default();
    until("the ledger was shown", || forfeited(&of(&user, &url, &bad)) > 0);
    let shown = of(&user, &url, &bad);
    assert!(!shown["suspended"].is_null() && shown["stands"] == false, "{shown}");
    let bond = |v: &Value| v["bond"].as_str().unwrap().parse::<u128>().unwrap();
    assert_eq!(bond(&before), bond(&shown) + forfeited(&shown), "{shown}");
    let _ = user.farm(&["validator", "ls"]).exits(0).says(&[&bad[..8], "suspended"]);

    // The others go on, and at the term's end the one that stood by has the seat.
    let at = head(&url).height.0;
    until("more blocks", || head(&url).height.0 > at + 3);
    until("the seat is another's", || of(&user, &url, &bad)["seated"] == false);
    until("the fifth certifies", || listed(&user, &next_url)["this"]["certifies"] == true);
    let _ = user.farm(&["account", "transfer", &AccountId([9; 32]).to_string(), "5", "-y"]).exits(0);
    // Nobody honest was accused, although the cheat repeats what they sign.
    let all = listed(&user, &url);
    let others: Vec<&Value> = all["validators"].as_array().unwrap().iter().filter(|v| v["key"] != *bad).collect();
    assert!(others.len() == 4 && others.iter().all(|v| forfeited(v) == 0 && v["suspended"].is_null()), "{all}");

    cheat.signal(Signal::KILL);
    let _ = cheat.finish(PATIENCE);
    running.push((next, next_url));
    stop(running);
}
