//! The ledger on the real engine, in each landing: a few seeds hold, a seed repeats a run, and five bugs that are put in on purpose are
//! found. `make sim-long` runs thousands.
#![cfg(test)]

use pasture_sim::network::{Bug, Fault, Held, Options, run};

/// Seeds of an ordinary test run, and how long faults happen in each, in virtual seconds.
const SEEDS: std::ops::Range<u64> = 0..4;
const SECONDS: u64 = 20;
/// Seeds among which a bug must show.
const BUG_SEEDS: u64 = 8;

fn held(seed: u64, seconds: u64) -> Held {
    run(Options { nodes: Some(6), ..Options::new(seed, seconds) }).unwrap_or_else(|failed| panic!("{failed}"))
}

#[test]
fn seeds_keep_every_rule_of_engine_and_ledger() {
    let runs: Vec<Held> = SEEDS.map(|seed| held(seed, SECONDS)).collect();
    for run in &runs {
        assert!(run.counts.paid >= 2 && run.counts.heartbeats > 0 && run.blocks > SECONDS / 4, "{run:?}");
    }
    assert!(runs.iter().any(|run| run.counts.elections > 0), "some seed elects: {runs:#?}");
    assert!(runs.iter().any(|run| run.crashes > 0) && runs.iter().any(|run| run.partitions > 0), "{runs:#?}");
    assert!(runs.iter().any(|run| run.counts.failed > 0), "somebody tries what is refused");
}

#[test]
fn a_seed_repeats_a_run_and_another_is_another() {
    let (one, again, other) = (held(1, 6), held(1, 6), held(2, 6));
    assert_eq!(one, again);
    assert_ne!(one.trace, other.trace);
}

/// Seeds in which somebody joins, and one of those who serve gives it false operations, or tells of false seats and blocks.
const JOINING: [(u64, &str); 2] = [(78, "FalseState"), (196, "FalseSeats")];

/// Seeds with dishonest validators and so short terms that one is over when somebody joins.
const SHORT_TERMS: [u64; 2] = [62, 196];

#[test]
fn who_joins_takes_the_state_under_faults_and_from_liars() {
    for (seed, liar) in JOINING {
        let run = held(seed, SECONDS);
        assert!(run.joined_at.is_some_and(|height| height > 0) && run.evil.iter().any(|evil| evil == liar), "{run:?}");
    }
}

#[test]
fn certificates_that_who_joins_does_not_check_are_found() {
    for seed in SHORT_TERMS {
        let options = Options { nodes: Some(6), fault: Some(Fault::BelievesCertificates), ..Options::new(seed, SECONDS) };
        if let Err(failed) = run(options) {
            assert!(["STUCK", "BLOCKED", "ENDED"].iter().any(|reason| failed.why.contains(reason)), "found by something else: {failed}");
            println!("found by seed {seed}: {}", failed.why);
            return;
        }
    }
    panic!("not found by {SHORT_TERMS:?}");
}

/// Some seed must fail, and for one of these reasons.
fn is_found(bug: Bug, reasons: &[&str]) {
    for seed in 0..BUG_SEEDS {
        let options = Options { nodes: Some(6), bug: Some(bug), ..Options::new(seed, SECONDS) };
        if let Err(failed) = run(options) {
            assert!(reasons.iter().any(|reason| failed.why.contains(reason)), "found by something else: {failed}");
            assert!(failed.command.contains(&format!("--seed {seed} ")) && failed.command.contains(bug.name()), "{failed}");
            println!("{bug:?} is found by seed {seed}: {}", failed.why);
            return;
        }
    }
    panic!("{bug:?}: not found by {BUG_SEEDS} seeds");
}

/// How validators end whose machines disagree.
const DISAGREE: [&str; 5] = ["STATE", "STUCK", "MODEL", "does not follow", "finalize reconstruction"];

#[test]
fn payments_that_a_machine_remembers_are_found() {
    is_found(Bug::PaysLater, &DISAGREE);
}

#[test]
fn a_draw_that_is_not_determined_is_found() {
    is_found(Bug::Unordered, &DISAGREE);
}

#[test]
fn an_escrow_that_is_kept_is_found() {
    is_found(Bug::KeepsEscrow, &["INVARIANT"]);
}

#[test]
fn a_settlement_that_pays_twice_is_found() {
    is_found(Bug::PaysTwice, &["INVARIANT"]);
}

#[test]
fn an_expiry_that_is_lost_is_found() {
    is_found(Bug::LosesExpiry, &["INVARIANT"]);
}
