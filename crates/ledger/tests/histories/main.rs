//! Random histories: eight accounts and five nodes do sensible and senseless things, and after every block the books hold.
//!
//! Guarantees: a seed makes the same history for ever; a failure prints its seed and the command that repeats it; each kind
//! of action, each error and each edge of a lifecycle is counted and must have come up often. `HISTORIES` says how many
//! (default 400, `make test-all` runs 10,000). It runs no consensus and no real time.

#![cfg(test)]

mod coverage;
mod deeds;
mod oracle;
mod zone;

use coverage::{Coverage, LEAST};
use zone::Zone;

/// Things done in one history.
const STEPS: usize = 200;
/// Histories of a normal run.
const USUAL: u64 = 400;
/// Histories after which every count must have reached [`LEAST`]; a shorter run only reports.
const ENOUGH: u64 = 400;
const FIRST_SEED: u64 = 0x5eed_0000;

fn history(seed: u64) -> (Coverage, Zone) {
    let mut zone = Zone::new(seed);
    let mut coverage = Coverage::default();
    let mut done = 0;
    while done < STEPS {
        done += zone.turn(&mut coverage);
    }
    (coverage, zone)
}

fn told(seed: u64) -> Coverage {
    match std::panic::catch_unwind(|| history(seed).0) {
        Ok(coverage) => coverage,
        Err(why) => {
            eprintln!("history {seed:#x} broke; repeat it with HISTORY={seed} cargo test -p pasture-ledger --test histories");
            std::panic::resume_unwind(why)
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "how long a test runs is set from outside")]
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|v| v.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

#[test]
fn every_history_keeps_every_invariant() {
    if let Some(seed) = number("HISTORY") {
        let _ = told(seed);
        return;
    }
    let count = number("HISTORIES").unwrap_or(USUAL);
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let workers: Vec<_> = (0..threads)
        .map(|t| {
            std::thread::spawn(move || {
                let mut all = Coverage::default();
                for n in (t..count).step_by(threads as usize) {
                    all.add(&told(FIRST_SEED + n));
                }
                all
            })
        })
        .collect();
    let mut all = Coverage::default();
    for worker in workers {
        all.add(&worker.join().expect("a history broke; its seed is above"));
    }
    println!("{count} histories of {STEPS} steps\n{all}");
    let rare = all.rare();
    assert!(count < ENOUGH || rare.is_empty(), "seen less than {LEAST} times: {rare:?}");
}

#[test]
fn the_same_seed_makes_the_same_ledger() {
    for seed in 0..4 {
        let (a, b) = (history(seed).1, history(seed).1);
        assert_eq!(a.height, b.height);
        assert!(a.state.0 == b.state.0, "history {seed} is not deterministic");
    }
}
