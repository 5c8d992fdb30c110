//! Audits in small, in each landing: no honest machine loses a deposit, cheats are found out, a wrong rule is noticed, a seed repeats a run,
//! and the specs' figures come out.
#![cfg(test)]

use pasture_sim::audits::{Audits, Config, Fault, Row, confirm, run};
use pasture_types::audit::AuditParams;

/// A tenth of the machines, for days instead of years.
fn config() -> Config {
    Config { nodes: 100, node_days: 500, days: 14, ..Config::full(1) }
}

fn audits(config: &Config) -> Audits {
    run(config, &mut |_, _| {})
}

fn row<'a>(audits: &'a Audits, name: &str) -> &'a Row {
    audits.cheats.iter().find(|row| row.name == name).unwrap()
}

/// How much of what an honest machine earns.
fn gain(audits: &Audits, name: &str) -> f64 {
    row(audits, name).profit / row(audits, "quiet machine").profit
}

const RARELY_AWAY: &str = "away in 0.1 of the epochs, back for repetitions";

#[test]
fn who_is_honest_is_not_slashed_and_who_cheats_is_found_out() {
    let audits = audits(&config());
    for row in &audits.honest {
        assert_eq!(row.slashed, 0, "{row:?}");
        assert!(row.audits > 2_000, "{row:?}");
    }
    for name in
        ["away always, silent", "30 % left always, answers", "half the power", "claims 2", "away always, 5 of 16 witnesses lie for it"]
    {
        let row = row(&audits, name);
        assert_eq!(row.caught, row.nodes, "{row:?}");
        assert!(row.caught_p99.is_some_and(|epochs| epochs < 1_440), "{row:?}");
    }
    for name in ["away always, silent", "30 % left always, answers", "half the power", "away once it passed; new name when caught"] {
        assert!(gain(&audits, name) < 0.95, "{:?}", row(&audits, name));
    }
    assert!(row(&audits, "30 % left always, answers").slashed > 0);
    assert_eq!(row(&audits, "away always, silent").slashed, 0, "silence alone forfeits nothing");
    // Nor does it pay to be away rarely, and an honest machine loses next to nothing by what keeps it from paying.
    assert!(gain(&audits, RARELY_AWAY) < 0.99, "{:?}", row(&audits, RARELY_AWAY));
    assert!(row(&audits, "quiet machine").paid > 0.99, "{:?}", row(&audits, "quiet machine"));
    assert!(audits.findings.is_empty(), "{:?}", audits.findings);
}

#[test]
fn a_wrong_rule_is_noticed() {
    let found = |config: Config, what: [&str; 2]| audits(&config).findings.iter().any(|f| what.iter().all(|part| f.contains(part)));
    let forfeited = ["restarts", "forfeited"];
    assert!(!found(config(), forfeited));
    assert!(found(Config { fault: Some(Fault::SlashAtOnce), ..config() }, forfeited));
    let gains = [RARELY_AWAY, "gains"];
    assert!(!found(config(), gains));
    assert!(found(Config { fault: Some(Fault::NoLapse), ..config() }, gains));
    let sharp = AuditParams { tolerance_ppm: 0, error_exponent: 8, ..config().audits };
    let derated = ["at the edge", "de-rated"];
    assert!(!found(config(), derated));
    assert!(found(Config { audits: sharp, ..config() }, derated));
}

#[test]
fn a_seed_repeats_a_run() {
    let small = |seed| serde_json::to_string(&audits(&Config { nodes: 60, node_days: 60, days: 1, ..Config::full(seed) })).unwrap();
    assert_eq!(small(1), small(1));
    assert_ne!(small(1), small(2));
}

#[test]
fn the_figures_of_the_specs_come_out() {
    let figures = confirm(2, 1);
    let wrong: Vec<_> = figures.iter().filter(|f| !f.holds).collect();
    assert!(figures.len() > 30 && wrong.is_empty(), "{wrong:#?}");
}
