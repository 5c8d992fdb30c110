//! Elections with real processes: who certifies blocks changes by deposits while everybody runs, and clients follow the change.

use crate::operate::{arg, found, join};
use crate::support::{PATIENCE, Running, Signal, User, free_port, until};
use crate::validators::{head, run_validator};
use pasture_types::{AccountId, Amount};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// What a validator says of itself and of the seats.
pub(crate) fn listed(user: &User, url: &str) -> Value {
    user.farm(&["--api-url", url, "validator", "ls", "--json"]).exits(0).json()
}

pub(crate) fn kill(running: Running) {
    running.signal(Signal::KILL);
    let _ = running.finish(PATIENCE);
}

/// A network of four founders, of whom the one with the smallest deposit gave its seat to a fifth validator.
pub(crate) struct Elected {
    /// The founders' folders, then the fifth's.
    pub(crate) dirs: Vec<PathBuf>,
    pub(crate) launch: PathBuf,
    /// All five, in the same order.
    pub(crate) running: Vec<(Running, String)>,
    /// Whose the fifth is.
    pub(crate) user: User,
}

/// Founds it, and waits until the fifth certifies.
pub(crate) fn elected(nobody: &User, watch: impl FnOnce(&User, &Path)) -> Elected {
    let (mut dirs, launch) = found(nobody, 4, &["--dev", "--seats", "4", "--term", "5s", "--min-deposit", "10"]);
    let mut running: Vec<(Running, String)> = dirs.iter().map(|dir| run_validator(nobody, dir, 0)).collect();
    let url = running[0].1.clone();
    until("the first block", || head(&url).height.0 > 0);
    let user = User::new(url).with_credits();
    watch(&user, &launch);
    for (n, dir) in dirs.iter().enumerate() {
        let deposit = (100 - 10 * n).to_string();
        let _ = user.farm(&["validator", "deposit", &key(nobody, dir), &deposit, "--operator", &arg(dir)]).exits(0);
    }
    let fifth = nobody.home().join("fifth");
    let _ = join(&user, &fifth, &launch, &["--address", &format!("127.0.0.1:{}", free_port())]).exits(0);
    let _ = user.farm(&["validator", "register", "--data", &arg(&fifth), "--deposit", "500"]).exits(0);
    let (newcomer, newcomer_url) = run_validator(&user, &fifth, 0);

    // It may connect when the engine's term ends, catches up, and certifies a term of the engine later at most.
    until("the newcomer follows", || head(&newcomer_url).height.0 > 0);
    until("the newcomer certifies", || listed(&user, &newcomer_url)["this"]["certifies"] == true);
    until("the founder with the smallest deposit does not", || listed(&user, &running[3].1)["this"]["certifies"] == false);
    dirs.push(fifth);
    running.push((newcomer, newcomer_url));
    Elected { dirs, launch, running, user }
}

/// The public key of a folder's validator.
pub(crate) fn key(user: &User, dir: &Path) -> String {
    let init = user.farm(&["validator", "init", "--data", &arg(dir), "--address", "127.0.0.1:1"]).exits(0).json();
    init["key"].as_str().unwrap().to_owned()
}

/// Asks all of them to stop.
pub(crate) fn stop(running: Vec<(Running, String)>) {
    for (running, _) in running {
        running.signal(Signal::TERM);
        let done = running.finish(PATIENCE);
        assert_eq!(done.code, 0, "{}", done.all());
    }
}

/// Two more follow as candidates: one with the checkpoint, one with another that names the same validators a block too late. The block of the
/// checkpoint.
fn joins_past_a_checkpoint(user: &User, launch: &Path, checkpoint: &Path) -> u64 {
    let trusted = pasture_node::trusted_in_file(checkpoint).unwrap();
    let (mut bytes, late) = (trusted.encode(), trusted.since() + 1);
    bytes[1..9].copy_from_slice(&late.to_be_bytes());
    let other = user.home().join("late");
    pasture_node::write_checkpoint(&other, &pasture_light::Checkpoint::decode(&bytes).unwrap()).unwrap();
    let start = |name: &str, checkpoint: &Path| {
        let dir = user.home().join(name);
        let address = format!("127.0.0.1:{}", free_port());
        let _ = join(user, &dir, launch, &["--address", &address, "--checkpoint", &arg(checkpoint)])
            .exits(0)
            .says(&["whoever shows it a history"]);
        let _ = user.farm(&["validator", "register", "--data", &arg(&dir), "--deposit", "20"]).exits(0);
        Running::start(user.command(&["validator", "run", "--data", &arg(&dir), "--listen", "127.0.0.1:0"]))
    };
    let mut all = [start("sixth", checkpoint), start("seventh", &other)];
    let [sixth, seventh] = &mut all;
    until("one joins by state", || {
        assert!(sixth.ended().is_none(), "{}", sixth.stderr());
        sixth.stderr().contains("the state after block")
    });
    until("the other believes nobody", || {
        assert!(seventh.ended().is_none(), "{}", seventh.stderr());
        seventh.stderr().contains("no change where the checkpoint has one")
    });
    assert!(!seventh.stderr().contains("the state after block"));
    all.into_iter().for_each(kill);
    trusted.since()
}

#[test]
fn a_newcomer_with_a_larger_deposit_takes_a_seat_while_all_run_and_a_client_follows() {
    let nobody = User::new("http://127.0.0.1:1".into());
    let trusted = |user: &User| User::at(user.home().into(), user.url().into());
    let proven = |user: &User| {
        let account = user.account().to_string();
        trusted(user).farm(&["ledger", "get", "account", &account, "--json", "--context", "meadow"]).exits(0).json()
    };
    let Elected { mut running, user, launch, .. } = elected(&nobody, |user, launch| {
        // A client that trusts the founders, by the genesis alone.
        let genesis = arg(&launch.join("genesis"));
        let _ = trusted(user).farm(&["context", "create", "meadow", "--api-url", user.url(), "--trust", &genesis]).exits(0);
        assert_eq!(proven(user)["verified"]["validators"], 4);
    });
    let url = running[0].1.clone();
    assert_eq!(listed(&user, &url)["this"]["certifiers"], 4);

    // The client is led from the founders to today's validators, keeps what it learned, and notices who makes something up.
    let height = head(&url).height.0;
    until("a proof by the new validators", || proven(&user)["verified"]["height"].as_u64() > Some(height));
    assert_eq!(proven(&user)["verified"]["validators"], 4);

    // What the client knows keeps who joins by state from being led elsewhere.
    let checkpoint = user.home().join("checkpoint");
    let _ = trusted(&user).farm(&["context", "checkpoint", &arg(&checkpoint), "--context", "meadow"]).exits(0);
    let since = joins_past_a_checkpoint(&user, &launch, &checkpoint);
    assert!(since > 0, "the checkpoint is of the change");

    // With the founder without a seat and one more gone the rest is a quorum only if the newcomer is one of them.
    let (newcomer, newcomer_url) = running.pop().unwrap();
    kill(running.pop().unwrap().0);
    kill(running.pop().unwrap().0);
    let (before, somebody) = (user.books().free, AccountId([9; 32]).to_string());
    let _ = user.farm(&["--api-url", &newcomer_url, "account", "transfer", &somebody, "5", "-y"]).exits(0);
    until("a founder has the payment", || user.books().free < before.saturating_sub(Amount::credits(4)));
    running.push((newcomer, newcomer_url));
    stop(running);
}
