//! The simulation in small, in each landing: every strategy acts, every bound of the specs holds, a seed repeats a run, and
//! verified signatures change nothing.
//!
//! What two nodes of a kind gain in two days is chance where it is close; the full run (`make sim`) compares that. Here only
//! what is far apart is compared.
#![cfg(test)]

use pasture_sim::config::HOUR_MS;
use pasture_sim::strategy::{Serving, Using};
use pasture_sim::{Config, Report};
use pasture_types::Millis;

/// More users than in the full run, so that few nodes of a kind get leases in a short time.
fn config(nodes: u32, hours: u64) -> Config {
    Config {
        nodes,
        users: nodes * 3 / 2,
        length: Millis(hours * HOUR_MS),
        check_every: Millis(12 * HOUR_MS),
        absent_ppm: 50_000,
        deceived_ppm: 20_000,
        ..Config::full(1)
    }
}

fn run(config: Config) -> Report {
    pasture_sim::run(config, &mut |_| {}).unwrap()
}

fn profit(report: &Report, strategy: Serving) -> i128 {
    report.providers.iter().find(|r| r.strategy == strategy).unwrap().profit
}

#[test]
fn every_strategy_acts_within_its_bounds() {
    let report = run(config(60, 48));
    let beyond: Vec<_> = report.findings.iter().filter(|f| !f.contains("gains as much")).collect();
    assert!(beyond.is_empty(), "{beyond:#?}");
    let honest = profit(&report, Serving::Honest);
    assert!(honest > 0);
    assert!(profit(&report, Serving::NoProof) < 0, "serving costs and nothing is paid");
    assert!(profit(&report, Serving::Stall) <= 0, "nothing is paid");
    for strategy in Serving::ALL.into_iter().filter(|s| s.pretends()) {
        let row = report.providers.iter().find(|r| r.strategy == strategy).unwrap();
        assert!(row.user_loss.reached_ppm > 500_000, "{strategy:?} tried hard enough for the bound to say something");
    }
    let objects = report.users.iter().find(|r| r.strategy == Using::Objects).unwrap();
    assert!((500_000..=1_000_000).contains(&objects.provider_loss.reached_ppm), "{:?}", objects.provider_loss);
    assert!(report.verdicts.iter().any(|(s, v, n)| *s == Serving::Honest && v == "Passed" && *n > 0));
    assert!(!report.verdicts.iter().any(|(s, v, _)| *s == Serving::Honest && v != "Passed"), "{:?}", report.verdicts);
}

#[test]
fn pretending_to_serve_gains_nothing_from_users_who_look_or_are_watched() {
    let report = run(Config { absent_ppm: 0, deceived_ppm: 0, ..config(40, 30) });
    for strategy in Serving::ALL.into_iter().filter(|s| s.pretends()) {
        let row = report.providers.iter().find(|r| r.strategy == strategy).unwrap();
        assert!(row.leases > 0 && row.profit < 0, "{row:?}");
    }
}

#[test]
fn a_seed_repeats_a_run_and_signatures_change_nothing() {
    let small = || config(40, 26);
    let plain = run(small());
    let verified = run(Config { verify: true, ..small() });
    assert_eq!(serde_json::to_string(&plain).unwrap(), serde_json::to_string(&verified).unwrap());
    let other = run(Config { seed: 2, ..small() });
    assert_ne!(serde_json::to_string(&plain).unwrap(), serde_json::to_string(&other).unwrap());
}
