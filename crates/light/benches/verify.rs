//! Size of a state proof and time to verify it, by number of validators: `cargo bench -p pasture-light`.
//!
//! Beside each time stands its floor in the same run: the signature checks alone. One thread; the median of many runs.

#![allow(clippy::print_stdout, reason = "a benchmark prints what it measured")]
#![allow(clippy::disallowed_methods, reason = "a benchmark measures real time")]

#[path = "../tests/common/mod.rs"]
mod common;

use common::{Validators, frozen};
use pasture_light::{Certificate, StateProof, verify};
use std::time::{Duration, Instant};

/// Runs of each measurement; with --quick fewer.
const RUNS: usize = 2_000;
const QUICK_RUNS: usize = 100;

fn main() {
    let runs = if std::env::args().any(|a| a == "--quick") { QUICK_RUNS } else { RUNS };
    println!("state proofs (a record of 8 bytes in a log of 276 operations; the store's part grows with the logarithm of its size)");
    println!("{:>10} {:>6} {:>12} {:>12} {:>14} {:>16}", "validators", "votes", "present B", "absent B", "verify us", "signatures us");
    for n in [1u8, 4, 7, 10, 13, 16, 64, 128] {
        let validators = Validators::new(n);
        let quorum = validators.quorum();
        let [present, absent] = frozen().map(|proof| validators.prove(proof, &quorum).encode());
        let whole = median(runs, || {
            let shown = StateProof::decode(&present).and_then(|proof| verify(&validators.set, &proof));
            assert!(shown.is_ok(), "{shown:?}");
        });
        let decoded = StateProof::decode(&present).and_then(|proof| Certificate::decode(&proof.certificate));
        let signatures = median(runs, || assert!(decoded.as_ref().is_ok_and(|c| c.verify(&validators.set).is_ok())));
        println!(
            "{n:>10} {:>6} {:>12} {:>12} {:>14.1} {:>16.1}",
            quorum.len(),
            present.len(),
            absent.len(),
            micros(whole),
            micros(signatures)
        );
    }
}

fn median(runs: usize, mut work: impl FnMut()) -> Duration {
    let mut times: Vec<Duration> = (0..runs)
        .map(|_| {
            let begun = Instant::now();
            work();
            begun.elapsed()
        })
        .collect();
    times.sort_unstable();
    times.get(runs / 2).copied().unwrap_or_default()
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
