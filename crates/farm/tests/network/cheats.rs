//! A provider that kills its tenant's container and goes on proving capacity (`farm-cheat`), seen by the tenant.

use crate::support::{Folder, Net, Options, PATIENCE, Running, Signal, farm_binary, paid, until};
use pasture_types::Amount;
use pasture_types::event::ConfirmedBy;
use pasture_types::lease::EndReason;
use std::process::Command;

/// When the cheat kills the container, after its start.
const KILLED_AFTER_MS: u64 = 7_000;
/// How old the last line may be, as the order says.
const LOG_WITHIN_MS: u64 = 3_000;
/// What the tenant's program allows for clocks and for the network.
const SLACK_MS: u64 = 2_000;

#[test]
fn a_provider_that_kills_the_job_and_goes_on_proving_is_paid_nothing_from_then_on() {
    let net = Net::start(Options { args: vec!["--no-provider".into()], ..Options::default() });
    let cheat_binary = farm_binary().with_file_name("farm-cheat");
    assert!(cheat_binary.exists(), "{} is missing: cargo build -p pasture-cheats", cheat_binary.display());
    let user = net.stranger().with_credits();
    let mut command = Command::new(cheat_binary);
    command
        .arg("--data")
        .arg(user.home().join("cheat"))
        .args(["--api-url", net.url(), "--region", "shady", "--engine"])
        .arg(&net.engine.socket);
    command.args(["--kill-after-ms", &KILLED_AFTER_MS.to_string()]);
    let cheat = Running::start(command);
    let node = crate::support::eventually("the cheat is on offer", PATIENCE, || {
        user.api(async |api| api.offers().await).into_iter().find(|o| o.terms.region == "shady" && o.reachable).map(|o| o.node)
    });
    // A new offer has to stand for two blocks before it is drawn.
    until("the cheat can be drawn", || user.farm(&["explain", "pasture/busybox:1", "--region", "shady"]).stdout.contains("1 of 1 offer"));

    let before = user.books();
    let folder = Folder::script("watched", "for i in $(seq 60); do echo tick $i; sleep 1; done");
    let done = user.run(&folder, &["--region", "shady", "--alive", "log:3s"]).exits(125);
    let done = done.says(&["watched was closed", "no sign of life"]);
    let ticks = done.stdout.lines().count() as u64;
    assert!((4..12).contains(&ticks), "{}", done.all());

    let (lease, _) = user.settled();
    assert_eq!((lease.node, lease.reason.clone()), (node, Some(EndReason::ServiceStopped)));
    let s = paid(&lease);
    // The last line was written before the kill; from where the check failed nothing is charged, and nobody is paid.
    assert!(s.billed_ms.0 <= KILLED_AFTER_MS + LOG_WITHIN_MS + SLACK_MS, "{s:?}");
    // What the provider claimed beyond is at most withheld for two periods, and then the receipt says so.
    let two_periods = lease.rate_per_hour.per_hour_for(2 * net.api(async |api| api.status().await).params.epoch.0).unwrap();
    // One more for rounding: what is withheld is a difference of two charges that are rounded down.
    assert!(s.withheld.0 <= two_periods.0 + 1, "{s:?}");
    let free = "nothing was charged from";
    let words = if s.withheld == Amount::ZERO { free } else { "withheld" };
    assert!(done.stderr.contains(words) && (s.withheld == Amount::ZERO || !done.stderr.contains(free)), "{s:?}\n{}", done.all());
    assert_eq!(s.epochs_proven, s.epochs, "it did go on proving: {s:?}");
    assert!(matches!(s.confirmed_by, ConfirmedBy::User | ConfirmedBy::Objection | ConfirmedBy::Nothing), "{s:?}");
    let owner = lease.provider;
    let earned = user.api(async |api| api.account(&owner).await);
    assert!(earned.on_hold == Amount::ZERO && s.to_provider <= s.charged, "{earned:?} {s:?}");
    // All that is not charged came back.
    let after = user.books();
    assert_eq!(after.on_hold, Amount::ZERO);
    let spent = before.free.saturating_sub(after.free).saturating_sub(s.charged);
    assert!(spent.0 < 20_000_000, "more than fees is gone: {before:?} {after:?} {s:?}");
    let _ = user.farm(&["receipt", "watched", "--wait", "--details"]).exits(0).says(&[words]);
    let _ = user.farm(&["ledger", "check"]).exits(0);

    // It is asked again only because there is nobody else, and that is said.
    let _ = user.run(&folder, &["-d", "--region", "shady"]).says(&["nobody else fits"]);
    cheat.signal(Signal::TERM);
    let _ = cheat.finish(PATIENCE);
    net.engine.clear(&node.to_string());
}
