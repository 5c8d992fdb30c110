//! Orders that make no sense, or that nobody serves: a clear word, and nothing is lost.

use crate::support::{Folder, SMALL, User, shared};
use pasture_types::Amount;
use std::net::TcpListener;

/// Most that a refused attempt may cost: the fee of an order that was placed and came back.
const FEE: Amount = Amount(10_000_000);

fn refused(user: &User, args: &[&str], code: i32, words: &[&str]) {
    let before = user.books();
    let _ = user.farm(args).exits(code).says(words);
    let after = user.books();
    assert_eq!(after.on_hold.0, 0, "something stays on hold");
    assert!(before.free.saturating_sub(after.free) <= FEE, "{args:?} cost {before:?} -> {after:?}");
}

fn image(more: &[&'static str]) -> Vec<&'static str> {
    [&["run", "pasture/busybox:1"], more, &["--", "true"]].concat()
}

#[test]
fn an_unknown_field_is_named_with_its_line_and_what_was_probably_meant() {
    let user = shared().stranger().with_credits();
    let folder = Folder::script("typo", "true");
    folder.write("farm.yaml", "name: typo\n# a comment\nresources:\n  memroy: 64Mi\n");
    refused(&user, &["run", folder.arg()], 125, &["farm.yaml:4", "unknown field `memroy`", "did you mean `memory`?"]);
    assert_eq!(user.jobs().len(), 0);
}

#[test]
fn contradictory_fields_are_named_with_their_line() {
    let user = shared().stranger().with_credits();
    let folder = Folder::script("both", "true");
    folder.write("farm.yaml", "image: pasture/busybox:1\n\nbuild:\n  context: .\n");
    refused(&user, &["run", folder.arg()], 125, &["farm.yaml:3", "contradicts"]);
    folder.write("farm.yaml", "name: both\nalive:\n  port: 80\n  log: 3s\n");
    refused(&user, &["run", folder.arg()], 125, &["farm.yaml:2", "contradict"]);
    // The same on the command line: the flag is named.
    refused(&user, &image(&["--memory", "1Mi"]), 2, &["--memory", "at least"]);
    refused(&user, &image(&["--timeout", "soon"]), 2, &["--timeout", "soon"]);
}

#[test]
fn an_order_that_nobody_can_serve_is_explained_and_costs_nothing() {
    let user = shared().stranger().with_credits();
    refused(&user, &image(&["--memory", "900Gi"]), 125, &["memory", "900"]);
    refused(&user, &image(&["--region", "mars"]), 125, &["region", "mars"]);
    refused(&user, &image(&[SMALL[0], SMALL[1], SMALL[2], SMALL[3], "--max-price", "0.0001"]), 125, &["at most 0.0001", "per hour"]);
    // `explain` says the same without ordering anything.
    let jobs = user.jobs().len();
    let explained = user.farm(&["explain", "pasture/busybox:1", "--region", "mars"]);
    let ways = explained.says(&["mars", "would help: leave out the condition", "cr per hour", "cr in all"]);
    assert!(ways.stdout.matches("would help").count() <= 3, "{}", ways.all());
    // A price that nobody offers: what would do, and what the job costs then.
    let cheap = user.farm(&["explain", "pasture/busybox:1", "--timeout", "30m", "--max-price", "0.0001"]);
    let _ = cheap.says(&["excluded by", "would help: allow", "at most"]);
    assert_eq!(user.jobs().len(), jobs);
    let _ = user.farm(&[&["explain", "pasture/busybox:1"], &SMALL[..]].concat()).exits(0).says(&["PRICE PER HOUR", "this machine"]);
}

#[test]
fn a_budget_or_balance_that_is_too_small_is_said_before_anything_runs() {
    let user = shared().stranger().with_credits();
    refused(&user, &image(&["--budget", "0.000000001"]), 125, &["budget"]);
    refused(&user, &image(&["--budget", "0"]), 2, &["--budget"]);
    // What a period really costs is named, not what one at the dearest thinkable price would.
    let explained = user.farm(&[&["explain", "pasture/busybox:1", "--budget", "0.000000001"], &SMALL[..]].concat()).exits(0).stdout;
    let needs = explained.split("costs ").nth(1).and_then(|rest| rest.split(';').next()).unwrap_or_else(|| panic!("{explained}"));
    assert!(needs.parse::<Amount>().unwrap() < Amount(10_000_000), "{explained}");
    // All but a little goes to somebody else.
    let other = shared().stranger().with_credits();
    let free = user.books().free;
    let most = free.saturating_sub(Amount(20_000_000));
    let _ = user.farm(&["account", "transfer", &other.account().to_string(), &most.to_string()]).exits(0);
    refused(&user, &image(&["--cpu", "1", "--timeout", "1h"]), 125, &["credits"]);
}

#[test]
fn without_a_network_the_two_ways_on_are_told() {
    // A port that was free a moment ago and that nobody is asked for.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let user = User::new(format!("http://127.0.0.1:{port}"));
    let folder = Folder::script("alone", "true");
    let _ = user.run(&folder, &[]).exits(125).says(&["no network answers", "farm dev", "farm context create"]);
    let _ = user.farm(&["ps"]).exits(125).says(&["no network answers"]);
    assert_eq!(user.farm(&["doctor"]).code, 125, "doctor finds that no network answers");
}

#[test]
fn a_job_that_does_not_exist_is_said_to_be_none() {
    let user = shared().stranger().with_credits();
    for command in ["status", "logs", "stop", "receipt"] {
        let _ = user.farm(&[command, "nonesuch"]).exits(125).says(&["nonesuch", "farm ps"]);
    }
    let _ = user.farm(&["frobnicate"]).exits(2);
}
