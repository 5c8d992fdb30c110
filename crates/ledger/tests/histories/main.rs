//! Random histories: eight accounts and five nodes do sensible and senseless things, and after every block the books hold.
//!
//! Guarantees: a seed makes the same history for ever; a failure prints its seed and the command that repeats it; each kind
//! of action, each error and each edge of a lifecycle is counted and must have come up often enough. `HISTORIES` says how
//! many (default 300, `make histories` runs 12,000), `HISTORY` repeats one. It runs no consensus and no real time.

#![cfg(test)]

mod climate;
mod coverage;
mod deeds;
mod edges;
mod keys;
mod names;
mod oracle;
mod rng;
mod zone;

use coverage::{Coverage, FULL};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use zone::Zone;

/// Transactions of one history, each of one action or more.
const ACTIONS: usize = 200;
/// Histories of a normal run.
const USUAL: u64 = 300;
/// Progress is told so often in a long run.
const TOLD_EVERY: u64 = 500;

fn history(seed: u64) -> (Coverage, Zone) {
    let mut zone = Zone::new(seed);
    let mut coverage = Coverage::default();
    coverage.histories = 1;
    let mut done = 0;
    while done < ACTIONS {
        done += zone.turn(&mut coverage);
    }
    (coverage, zone)
}

/// How far a run is.
#[derive(Default)]
struct Progress {
    told: AtomicU64,
    broken: AtomicBool,
}

/// The history; if it breaks, how to repeat it.
fn told(seed: u64, progress: &Progress) -> Coverage {
    match std::panic::catch_unwind(|| history(seed).0) {
        Ok(coverage) => coverage,
        Err(why) => {
            progress.broken.store(true, Ordering::Relaxed);
            eprintln!("history {seed} broke after {} others; repeat it with:", progress.told.load(Ordering::Relaxed));
            eprintln!("  HISTORY={seed} cargo test --package pasture-ledger --test histories -- --nocapture");
            std::panic::resume_unwind(why)
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "how long a test runs is set from outside")]
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|v| v.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// All histories on all cores. The first that breaks ends the run.
fn run(count: u64) -> Coverage {
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let progress = Progress::default();
    let worker = |first: u64| {
        let mut all = Coverage::default();
        for seed in (first..count).step_by(threads as usize) {
            if progress.broken.load(Ordering::Relaxed) {
                break;
            }
            all.add(&told(seed, &progress));
            let n = progress.told.fetch_add(1, Ordering::Relaxed) + 1;
            if n.is_multiple_of(TOLD_EVERY) {
                eprintln!("{n} of {count} histories");
            }
        }
        all
    };
    std::thread::scope(|scope| {
        let worker = &worker;
        let workers: Vec<_> = (0..threads).map(|first| scope.spawn(move || worker(first))).collect();
        let mut all = Coverage::default();
        for worker in workers {
            all.add(&worker.join().expect("a history broke; its seed is above"));
        }
        all
    })
}

#[test]
fn every_history_keeps_every_invariant() {
    if let Some(seed) = number("HISTORY") {
        let _ = told(seed, &Progress::default());
        return;
    }
    let count = number("HISTORIES").unwrap_or(USUAL);
    let all = run(count);
    println!("{all}");
    let amiss = all.amiss();
    assert!(amiss.is_empty(), "less often than {} times in {count} histories (of {FULL}):\n  {}", all.least(), amiss.join("\n  "));
}

#[test]
fn the_same_seed_makes_the_same_ledger() {
    for seed in 0..4 {
        let (a, b) = (history(seed).1, history(seed).1);
        assert_eq!(a.height, b.height);
        assert!(a.state.0 == b.state.0, "history {seed} is not deterministic");
    }
}
