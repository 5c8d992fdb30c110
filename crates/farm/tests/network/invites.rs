//! Inviting somebody who has nothing, and taking it back.

use crate::support::{Folder, Net, Options, paid, shared};
use pasture_types::Amount;

/// The code that `farm invite` printed.
fn code_of(value: &serde_json::Value) -> String {
    value["code"].as_str().expect("a code").to_string()
}

#[test]
fn an_invite_opens_an_account_once_and_costs_what_it_carries() {
    let host = shared().stranger().with_credits();
    let before = host.books().free;
    let invite = host.farm(&["invite", "--credits", "3", "--expires", "1h", "--json"]).exits(0).json();
    let code = code_of(&invite);
    let _ = host.farm(&["invite", "list"]).exits(0).says(&["3.0000 cr", "invite"]);
    let guest = shared().stranger();
    let _ = guest.farm(&["account", "claim", &code]).exits(0).says(&["is open with 3.0000 cr"]);
    let got = guest.books().free;
    assert!(got < Amount::credits(3) && got > Amount(2_990_000_000), "{got}");
    let spent = before.saturating_sub(host.books().free);
    assert!(spent >= Amount::credits(3) && spent < Amount(3_010_000_000), "{spent}");
    let again = shared().stranger();
    let _ = again.farm(&["account", "claim", &code]).exits(125).says(&["was used, taken back, or has expired"]);
    let _ = guest.farm(&["account", "claim", &code]).exits(125).says(&["your account is open already"]);
    let _ = host.farm(&["invite", "list"]).exits(0).says(&["no invite stands"]);
}

#[test]
fn an_invite_is_taken_back_and_a_mistyped_or_foreign_one_is_said_to_be_that() {
    let host = shared().stranger().with_credits();
    let invite = host.farm(&["invite", "--json"]).exits(0).json();
    let (code, id) = (code_of(&invite), invite["id"].as_str().expect("an id").to_string());
    let guest = shared().stranger();
    let mistyped = code.replace("pasture-invite-", "pasture-invite-0");
    let _ = guest.farm(&["account", "claim", &mistyped]).exits(2).says(&["mistyped or incomplete"]);
    let _ = guest.farm(&["account", "claim", "hello"]).exits(2).says(&["this is not an invite"]);
    let other = Net::start(Options::default());
    let _ = other.stranger().farm(&["account", "claim", &code]).exits(125).says(&["this invite is for network"]);
    let _ = host.farm(&["invite", "revoke", &id[..8]]).exits(0).says(&["is taken back"]);
    let _ = guest.farm(&["account", "claim", &code]).exits(125).says(&["was used, taken back, or has expired"]);
    let _ = host.farm(&["invite", "revoke", &id[..8]]).exits(125).says(&["no invite of yours begins with"]);
    let _ = host.farm(&["invite", "--credits", "100000"]).exits(125).says(&["you have"]);
}

#[test]
fn a_grant_is_listed_and_taken_back() {
    let host = shared().stranger().with_credits();
    let key = shared().stranger().key().public().to_string();
    let made = host.farm(&["account", "grant", "--key", &key, "--allow", "transfer,order", "--credits", "2", "--json"]).exits(0).json();
    let _ = host.farm(&["account", "grants"]).exits(0).says(&["order, transfer", "2.0000 cr"]);
    let id = made["id"].as_str().expect("an id").to_string();
    let _ = host.farm(&["account", "revoke", &id]).exits(0);
    let _ = host.farm(&["account", "grants"]).exits(0).says(&["no grant stands"]);
    let _ =
        host.farm(&["account", "grant", "--key", &key, "--allow", "keys", "--credits", "2"]).exits(2).says(&["cannot be granted by name"]);
}

#[test]
fn a_guest_runs_a_job_on_what_an_invite_carried_and_on_nothing_else() {
    let host = shared().stranger().with_credits();
    let code = code_of(&host.farm(&["invite", "--credits", "2", "--json"]).exits(0).json());
    let guest = shared().stranger();
    let _ = guest.farm(&["account", "claim", &code]).exits(0);
    let before = guest.books();
    // More than the invite carried cannot be put on hold.
    let folder = Folder::script("guest", "echo invited; sleep 2");
    let _ = guest.run(&folder, &["--budget", "5", "--max-price", "5"]).exits(125).says(&["you have"]);
    assert_eq!(guest.books(), before);
    let done = guest.run(&folder, &["--budget", "1"]).exits(0);
    assert_eq!(done.stdout, "invited\n", "{}", done.all());
    let (lease, _) = guest.settled();
    let charged = paid(&lease).charged;
    let after = guest.books();
    assert_eq!(after.on_hold, Amount::ZERO);
    let spent = before.free.saturating_sub(after.free);
    assert!(!charged.is_zero() && spent >= charged && spent < Amount(charged.0 + 10_000_000), "{spent} for {charged}, fees included");
    let _ = guest.farm(&["receipt", "guest", "--wait"]).exits(0).says(&["service confirmed by you", "unaudited"]);
}
