//! Somebody else confirms a job's service while its user is away.

use crate::support::{Folder, PATIENCE, paid, shared, until};
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
