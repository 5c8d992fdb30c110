//! Somebody else confirms a job's service while its user is away.

use crate::support::{Folder, PATIENCE, paid, shared, until};
use pasture_types::Amount;
use pasture_types::event::ConfirmedBy;

const LASTING: &str = "trap 'exit 0' TERM; while true; do sleep 0.1; done";

#[test]
fn a_watcher_that_the_order_names_confirms_and_is_on_the_receipt() {
    let (user, friend) = (shared().stranger(), shared().stranger().with_credits());
    let account = friend.account().to_string();
    let folder = Folder::script("watched", LASTING);
    // An order that the ledger refuses leaves nothing behind that bears its name.
    let _ = user.run(&folder, &["--watch", &"ab".repeat(32)]).exits(125);
    let done = user.run(&folder, &["-d", "--watch", &account]).exits(0).says(&["may confirm its service:  farm watch"]);
    let lease = user.lease().id.to_string();
    assert!(done.all().contains(&lease));
    let _ = user.farm(&["status", "watched"]).exits(0).says(&[&account]);
    // Nobody else may.
    let stranger = shared().stranger().with_credits();
    let _ = stranger.farm(&["watch", &lease]).exits(125).says(&["is not watched by your account", "farm watcher"]);
    let mut watching = friend.start(&["watch", &lease]);
    until("the watcher has confirmed", || {
        assert!(watching.ended().is_none(), "{}", watching.stderr());
        watching.stderr().matches("\nconfirmed ").count() >= 2
    });
    let _ = user.farm(&["stop", "watched"]).exits(0);
    let (lease, settlement) = user.settled();
    let _ = paid(&lease);
    assert_eq!(settlement.confirmed_by, ConfirmedBy::Watcher(friend.account()), "{settlement:?}");
    let _ = watching.finish(PATIENCE).exits(0).says(&["you confirmed"]);
    let _ = user.farm(&["receipt", "watched"]).exits(0).says(&["service confirmed by your watcher"]);
    // What the job wrote is none of the watcher's business.
    let _ = friend.farm(&["logs", "watched"]).exits(125);
}

#[test]
fn a_user_that_takes_its_watchers_grant_back_takes_nothing_from_the_machine() {
    let (user, friend) = (shared().stranger(), shared().stranger().with_credits());
    let account = friend.account().to_string();
    let _ = user.run(&Folder::script("taken-back", LASTING), &["-d", "--watch", &account]).exits(0);
    let grants = user.farm(&["account", "grants", "--json"]).exits(0).json();
    let _ = user.farm(&["account", "revoke", grants[0]["id"].as_str().unwrap()]).exits(0);
    let lease = user.lease().id.to_string();
    let watching = friend.start(&["watch", &lease]);
    until("the watcher has given its word", || watching.stderr().matches("\nconfirmed ").count() >= 1);
    let _ = user.farm(&["stop", "taken-back"]).exits(0);
    let (lease, settlement) = user.settled();
    let _ = (paid(&lease), watching.finish(PATIENCE));
    assert_eq!(settlement.confirmed_by, ConfirmedBy::NoObjection, "{settlement:?}");
    assert!(settlement.to_provider > Amount::ZERO, "{settlement:?}");
}

#[test]
fn a_second_job_with_the_same_watcher_has_a_grant_for_both() {
    let (user, friend) = (shared().stranger(), shared().stranger().with_credits());
    let account = friend.account().to_string();
    let folder = Folder::script("both", LASTING);
    let left = || user.farm(&["account", "grants", "--json"]).exits(0).json()[0]["left"].as_str().unwrap().parse::<u64>().unwrap();
    let _ = user.run(&folder, &["-d", "--name", "first", "--budget", "1", "--watch", &account]).exits(0);
    let first = left();
    let _ = user.run(&folder, &["-d", "--name", "second", "--budget", "2", "--watch", &account]).exits(0);
    let grants = user.farm(&["account", "grants", "--json"]).exits(0).json();
    assert_eq!(grants.as_array().unwrap().len(), 1, "an account has one grant for each watcher: {grants}");
    assert_eq!(left(), first + 2_000_000_000, "what the first had left, and what the second may cost");
    for job in ["first", "second"] {
        let _ = user.farm(&["stop", job]).exits(0);
    }
}

#[test]
fn jobs_that_begin_together_share_their_watchers_grant() {
    let (user, friend) = (shared().stranger().with_credits(), shared().stranger().with_credits());
    let account = friend.account().to_string();
    let names = ["one", "two", "three"];
    let small = ["--cpu", "0.1", "--memory", "32Mi", "--disk", "64Mi"];
    let begun: Vec<_> = names
        .iter()
        .map(|name| {
            user.start(
                &[&["run", "-d", "--watch", &account, "--name", name], &small[..], &["pasture/busybox:1", "--", "sleep", "60"]].concat(),
            )
        })
        .collect();
    begun.into_iter().for_each(|run| drop(run.finish(PATIENCE).exits(0)));
    let grants = user.farm(&["account", "grants", "--json"]).exits(0).json();
    assert_eq!(grants.as_array().unwrap().len(), 1, "{grants}");
    let left: u64 = grants[0]["left"].as_str().unwrap().parse().unwrap();
    let budgets: u64 = names.iter().map(|name| held(&user.farm(&["status", name, "--json"]).exits(0).json())).sum();
    assert!(left >= budgets, "{left} for jobs that may cost {budgets}");
    names.iter().for_each(|name| drop(user.farm(&["stop", name]).exits(0)));
}

/// What a job has put on hold, in nano-credits.
fn held(job: &serde_json::Value) -> u64 {
    job["lease"]["escrow"].as_str().unwrap().parse().unwrap()
}

#[test]
fn a_watcher_is_named_later_and_dismissed() {
    let (user, friend) = (shared().stranger(), shared().stranger().with_credits());
    let account = friend.account().to_string();
    let _ = user.run(&Folder::script("later", LASTING), &["-d"]).exits(0).says(&["nobody confirms its service"]);
    let lease = user.lease().id.to_string();
    let _ = friend.farm(&["watch", &lease]).exits(125);
    let _ = user.farm(&["watcher", "later", &account]).exits(0).says(&["farm watch"]);
    let watching = friend.start(&["watch", &lease]);
    until("the watcher has confirmed", || watching.stderr().contains("\nconfirmed "));
    let _ = user.farm(&["watcher", "later"]).exits(0).says(&["nobody confirms"]);
    let _ = watching.finish(PATIENCE).exits(0).says(&["you watch it no more"]);
    let _ = user.farm(&["stop", "later"]).exits(0);
    let _ = user.settled();
}
