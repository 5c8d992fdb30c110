//! Connections that break off while a command talks to the network: the command goes on, says so, and does nothing twice.

use crate::support::{Broken, Folder, PATIENCE, User, paid, shared};
use pasture_types::lease::EndReason;

const WAITS: &str = "trying again for up to";

/// A user whose connection breaks at the first request that looks like this.
fn user_broken_at(request: &'static str, broken: Broken) -> User {
    let proxy = crate::support::proxy(shared().url(), request, broken);
    User::new(proxy)
}

#[test]
fn a_call_that_breaks_off_early_is_made_again() {
    for request in ["GET /v1/status", "GET /v1/accounts/", "POST /v1/explain", "GET /v1/events", "GET /v1/orders/"] {
        let user = user_broken_at(request, Broken::BeforeTheRequest);
        let done = user.run(&Folder::script("early", "echo on it"), &[]).exits(0).says(&[WAITS]);
        assert_eq!(done.stdout, "on it\n", "{request}: {}", done.all());
        assert_eq!(user.jobs().len(), 1, "{request}");
    }
}

#[test]
fn a_transaction_whose_answer_is_lost_is_looked_up_and_not_done_twice() {
    let user = user_broken_at("POST /v1/transactions", Broken::BeforeTheAnswer);
    // The account opens by another way; the first transaction of its own is the order.
    let done = user.run(&Folder::script("once", "echo once"), &[]).exits(0).says(&[WAITS]);
    assert_eq!(done.stdout, "once\n", "{}", done.all());
    assert_eq!(user.jobs().len(), 1, "one order");

    let credits = user_broken_at("POST /v1/test-credits", Broken::BeforeTheAnswer);
    let _ = credits.farm(&["account", "test-credits", "7"]).exits(0).says(&[WAITS, "balance 7"]);
}

#[test]
fn a_stop_that_breaks_off_is_asked_for_again() {
    let user = user_broken_at("/data/stop", Broken::BeforeTheRequest);
    let folder = Folder::script("halted", "trap 'echo asked; exit 0' TERM; while true; do sleep 0.1; done");
    let _ = user.run(&folder, &["-d"]).exits(0);
    let _ = user.start(&["stop", "halted"]).finish(PATIENCE).exits(0).says(&[WAITS, "was stopped"]);
    let (lease, _) = user.settled();
    assert_eq!(lease.reason, Some(EndReason::StoppedByUser));
    let _ = paid(&lease);
}
