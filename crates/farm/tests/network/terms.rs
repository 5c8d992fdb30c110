//! Jobs without a fixed length, and machines that are there at some hours only.

use crate::support::{Folder, PATIENCE, Running, Signal, eventually, paid, shared, until};
use pasture_api::OfferView;
use pasture_types::Amount;
use pasture_types::lease::EndReason;
use pasture_types::market::Term;

const LASTING: &str = "trap 'exit 0' TERM; while true; do sleep 0.1; done";

#[test]
fn a_job_without_an_end_runs_on_what_is_added_and_stops_when_that_is_spent() {
    let user = shared().stranger().with_credits();
    let folder = Folder::script("endless", LASTING);
    let done = user.run(&folder, &["-d", "--open", "--timeout", "12s"]).exits(0);
    let _ = done.says(&["term     runs until it is stopped"]);
    let before = user.lease();
    assert_eq!((before.tenure.term, before.max_duration.0), (Term::Open, 12_000));
    let _ = user.farm(&["status", "endless"]).exits(0).says(&["runs until it is stopped"]);
    let added = user.farm(&["top-up", "endless", "0.0003", "--json"]).exits(0).json();
    let after = user.lease();
    assert!(after.max_duration > before.max_duration, "{after:?}");
    let more = after.escrow.saturating_sub(before.escrow);
    assert!(!more.is_zero() && more <= Amount(300_000), "never more than was asked: {more}");
    assert_eq!(added["added"], serde_json::to_value(more).unwrap());
    // Nobody adds more: it is stopped when what is on hold is spent.
    let (lease, _) = user.settled();
    assert_eq!(lease.reason, Some(EndReason::CapReached));
    assert!(paid(&lease).billed_ms.0 > 12_000, "it ran on what was added: {lease:?}");
    let _ = user.run(&Folder::script("fixed", "sleep 1"), &["-d"]).exits(0);
    let _ = user.farm(&["top-up", "fixed", "1"]).exits(125).says(&["farm extend"]);
}

#[test]
fn a_rental_keeps_its_price_goes_on_if_wanted_and_costs_when_left_early() {
    let user = shared().stranger().with_credits();
    let folder = Folder::script("rented", LASTING);
    let done = user.run(&folder, &["-d", "--hourly", "1", "--lock", "3", "--renew", "--priority", "10"]).exits(0);
    let _ = done.says(&["rented for 1 hour, at a price that stays for 3, renewed by itself"]);
    assert!(user.lease().tenure.renews);
    let _ = user.farm(&["stop", "rented", "--at-the-end"]).exits(0).says(&["is not renewed any more"]);
    assert!(!user.lease().tenure.renews);
    let _ = user.farm(&["stop", "rented", "--at-the-end"]).exits(125).says(&["is not renewed by itself"]);
    let _ = user.farm(&["extend", "rented", "--for", "30m"]).exits(125).says(&["whole units"]);
    until("its service is on the ledger", || user.lease().served_ms.0 > 0);
    let rented = user.lease().escrow;
    let _ = user.farm(&["stop", "rented"]).exits(0);
    let (lease, _) = user.settled();
    let _ = paid(&lease);
    // A fifth of the price of the hour, of which some seconds were used.
    let fee = lease.tenure.cancel_fee;
    assert!(fee.0 > rented.0 * 18 / 100 && fee.0 <= rented.0 / 5, "{fee} of {rented}");
    let _ = user.farm(&["receipt", "rented"]).exits(0).says(&["leaving the rented time early cost"]);
}

#[test]
fn a_machine_says_its_hours_and_limits_and_takes_only_what_fits_them() {
    let net = shared();
    let user = net.stranger();
    let data = user.home().join("machine");
    let mut command = user.command(&["up", "--region", "night-shift", "--name", "limited", "--cpu", "0.5", "--memory", "128Mi"]);
    command.args(["--disk", "1Gi", "--hours", "00:00-24:00", "--longest", "10m", "--shortest", "5s", "--most-jobs", "1"]);
    command.args(["--price-lock", "0", "--label", "disk=ssd"]).arg("--data").arg(&data).arg("--engine").arg(&net.engine.socket);
    command.env("FARM_HOME", user.home().join("operator"));
    let up = Running::start(command);
    let offer = eventually("the machine is on offer", PATIENCE, || {
        let offers: Vec<OfferView> = user.api(async |api| api.offers().await);
        offers.into_iter().find(|o| o.provider_name == "limited" && o.reachable)
    });
    assert_eq!((offer.terms.max_leases, offer.terms.windows.len()), (1, 1), "{:?}", offer.terms);
    let shown = user.farm(&["offers", "limited"]).exits(0);
    let _ = shown.says(&["jobs of 5s to 10m 00s, 1 at once", "Mon 00:00 to Sun 24:00 (UTC)", "disk=ssd"]);
    let image = "pasture/busybox:1";
    let explain = |more: &[&str]| {
        let small = ["--region", "night", "--cpu", "0.1", "--memory", "32Mi", "--disk", "64Mi"];
        user.farm(&[&["explain", image][..], &small, more].concat()).exits(0).stdout
    };
    until("it can be drawn", || explain(&["--timeout", "1m", "--label", "disk=ssd"]).contains("1 of "));
    assert!(explain(&["--timeout", "20m"]).contains("would help: ask for at most 600 s"), "{}", explain(&["--timeout", "20m"]));
    assert!(explain(&["--timeout", "1s"]).contains("as short as 1 s"), "{}", explain(&["--timeout", "1s"]));
    assert!(explain(&["--timeout", "1m", "--open"]).contains("keeps its price for 60 s"), "{}", explain(&["--open"]));
    assert!(explain(&["--timeout", "1m", "--label", "disk=tape"]).contains("disk = tape"));
    up.signal(Signal::TERM);
    let _ = up.finish(PATIENCE).exits(0);
    net.engine.clear(&offer.node.to_string());
}
