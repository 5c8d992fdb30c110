//! Changing the network by a vote of those who have deposits.

use crate::support::{Net, Options, User};

#[test]
fn a_change_is_proposed_shown_and_voted_on_with_deposits() {
    let net = Net::start(Options::default());
    let user = net.stranger().with_credits();
    let _ = user.farm(&["vote", "list"]).exits(0).says(&["nothing was ever proposed"]);
    let file = |name: &str, text: &str| {
        let path = user.home().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_string()
    };
    let (text, bad) = (file("why.txt", "more room"), file("bad.json", "[{\"change\": \"gravity\", \"to\": 1}]"));
    let changes = file("changes.json", "[{\"change\": \"max_open_orders\", \"to\": 65}]");
    let propose = |changes: &str| user.farm(&["vote", "propose", "room for one more", "--text", &text, "--changes", changes]);
    let _ = propose(&bad).exits(2).says(&["bad.json", "max_open_orders"]);
    let held = user.books().free;
    let _ = propose(&changes).exits(0).says(&["proposal 1", "would not pass", "1.0000 cr are on hold", "farm vote cast 1 yes"]);
    assert!(held.saturating_sub(user.books().free) > pasture_types::Amount::credits(1));
    let _ = user.farm(&["status"]).exits(0).says(&["1 open proposal"]);
    // The machine's deposit is all the power that there is.
    let operator = User::at(net.data().join("provider"), net.url().to_string());
    let cast = |choice: &str| operator.farm(&["--api-url", net.url(), "vote", "cast", "1", choice]);
    let _ = cast("no").exits(0).says(&["no 1.0000", "would not pass"]);
    let _ = cast("yes").exits(0).says(&["yes 1.0000", "no 0.0000", "would pass"]);
    let _ = user.farm(&["vote", "list"]).exits(0).says(&["room for one more", "100 %", "would pass"]);
    let _ = user.farm(&["vote", "cast", "2", "yes"]).exits(125).says(&["there is no proposal 2"]);
    let _ = user.farm(&["ledger", "check"]).exits(0);
}
