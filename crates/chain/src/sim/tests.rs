//! The simulation of the small machine: seeds hold, a seed repeats a run, what is put in on purpose is found.

use super::small::{Manner, Small};
use super::{Fault, Outcome, Setup, attempt};
use std::sync::Arc;
use std::time::Instant;

/// Seeds of an ordinary test run: seconds on a busy machine.
const SEEDS: u64 = 5;
/// How long faults happen in each, in simulated seconds.
const SECONDS: u64 = 20;
/// Seeds among which a seeded bug must show.
const BUG_SEEDS: u64 = 12;

/// Seeds that are run twice: with crashes, with partitions, with a twin.
const SAME: [u64; 4] = [6, 13, 34, 43];

#[allow(clippy::disallowed_methods, reason = "a test is told what to repeat by whoever starts it")]
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn sound(seed: u64, seconds: u64) -> Result<Outcome, String> {
    attempt(Setup { seed, seconds, fault: None }, |founders| Arc::new(Small::new(founders, Manner::Sound)))
}

#[test]
fn seeds_keep_every_rule() {
    let seconds = number("SECONDS").unwrap_or(SECONDS);
    let (first, count) = number("SEED").map_or((0, number("SEEDS").unwrap_or(SEEDS)), |seed| (seed, 1));
    let mut failed = Vec::new();
    for seed in first..first + count {
        let begin = Instant::now();
        match sound(seed, seconds) {
            Ok(run) => println!(
                "seed {seed} holds: {} validators, dishonest {:?}, seats change: {}, {} blocks, {} acknowledged, {} crashes, {} partitions, {:.1} s virtual, {:.1} s",
                run.validators,
                run.evil,
                run.rotates,
                run.height,
                run.acknowledged,
                run.crashes,
                run.partitions,
                run.virtual_ms as f64 / 1e3,
                begin.elapsed().as_secs_f32(),
            ),
            Err(why) => {
                println!(
                    "seed {seed} failed: {why}\n  repeat: SEED={seed} SECONDS={seconds} cargo test -p pasture-chain --lib sim::tests::seeds"
                );
                failed.push(seed);
            }
        }
    }
    assert!(failed.is_empty(), "seeds {failed:?} failed; see above how to repeat them");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let twice = |seed| {
        let (first, second) = (sound(seed, 8).unwrap(), sound(seed, 8).unwrap());
        assert_eq!(first, second);
        assert!(first.height > 0 && first.acknowledged > 0, "something happened: {first:?}");
        first
    };
    let runs: Vec<Outcome> = SAME.into_iter().map(twice).collect();
    assert_ne!(runs[0].trace, runs[1].trace, "another seed is another run");
    assert!(runs.iter().any(|run| run.crashes > 0) && runs.iter().any(|run| run.partitions > 0), "faults are repeated too: {runs:?}");
}

/// Some seed must fail, and for one of these reasons.
fn is_found(what: &str, fault: Option<Fault>, manner: Manner, reasons: &[&str]) {
    for seed in 0..BUG_SEEDS {
        let setup = Setup { seed, seconds: SECONDS, fault };
        if let Err(why) = attempt(setup, |founders| Arc::new(Small::new(founders, manner))) {
            assert!(reasons.iter().any(|reason| why.contains(reason)), "found by something else: {why}");
            println!("{what} is found by seed {seed}: {why}");
            return;
        }
    }
    panic!("{what}: not found by {BUG_SEEDS} seeds");
}

#[test]
fn votes_forgotten_at_a_crash_are_found() {
    is_found("a forgotten vote", Some(Fault::ForgetsVotes), Manner::Sound, &["TWICE"]);
}

#[test]
fn an_acknowledgement_before_the_disk_is_found() {
    is_found("a lying disk", Some(Fault::LyingDisk), Manner::Sound, &["DURABLE", "TWICE", "FORK"]);
}

#[test]
fn a_machine_that_is_not_determined_is_found() {
    is_found(
        "an undetermined machine",
        None,
        Manner::Undetermined,
        &["STATE", "STUCK", "MODEL", "does not follow", "finalize reconstruction"],
    );
}
