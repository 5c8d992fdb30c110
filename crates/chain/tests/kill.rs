//! Kills a validator, at named points between durable writes and from outside, and looks at what is left.
//!
//! The victim is this test program again, told by an argument to be [`victim`]; its orders come on standard input.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests: clippy.toml exempts test functions only"
)]

mod common;

use common::{ADD, Counter, counter, options, start, tx};
use pasture_chain::{Chain, replay};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);
const POINTS: [&str; 4] = ["chain.proposed", "chain.before_apply", "chain.after_apply", "chain.after_finalized"];
/// A point that is never reached: the victim runs until it is killed from outside.
const NOWHERE: &str = "nowhere";
const LANES: u8 = 4;
/// To the harness a filter that fits no test; to the test the word that it is the victim.
const BE_VICTIM: &str = "be-the-victim";

/// Submits to several lanes and says what became final, until it dies.
async fn victim() -> ! {
    let mut orders = String::new();
    std::io::stdin().read_to_string(&mut orders).unwrap();
    let mut orders = orders.lines();
    let dir = orders.next().unwrap().to_owned();
    let point = orders.next().unwrap().to_owned();
    let at: u32 = orders.next().unwrap().parse().unwrap();
    let hits = AtomicU32::new(0);
    let mut options = options(Path::new(&dir));
    options.failpoint = Some(Arc::new(move |name| {
        if name == point && hits.fetch_add(1, Ordering::SeqCst) + 1 == at {
            // No destructor runs and nothing is flushed, as with SIGKILL.
            std::process::abort();
        }
    }));
    let chain = Chain::start(options, Arc::new(Counter)).unwrap();
    let mut next: Vec<u64> = (0..LANES).map(|lane| counter(&chain.state().unwrap(), lane + 1)).collect();
    // Past the harness, which keeps what is printed.
    let mut said = std::io::stdout();
    loop {
        let pending: Vec<_> = (0..LANES).map(|lane| chain.submit(tx(lane + 1, 0, next[usize::from(lane)], ADD, b"")).unwrap()).collect();
        for (lane, pending) in pending.into_iter().enumerate() {
            pending.finalized().await.unwrap();
            next[lane] += 1;
            writeln!(said, "final {lane} {}", next[lane]).unwrap();
        }
    }
}

/// Runs a victim to its death; what it said was final, per lane.
fn run_victim(dir: &Path, point: &str, at: u32, lines_before_kill: usize) -> Vec<u64> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["what_was_final_survives_every_kill", BE_VICTIM, "--exact", "--test-threads", "1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let orders = format!("{}\n{point}\n{at}\n", dir.display());
    child.stdin.take().unwrap().write_all(orders.as_bytes()).unwrap();
    let mut finals = vec![0; usize::from(LANES)];
    let mut seen = 0;
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let Ok(line) = line else { break };
        // The harness may put its own words on the same line.
        let Some((_, said)) = line.split_once("final ") else { continue };
        let (lane, count) = said.split_once(' ').unwrap();
        finals[lane.parse::<usize>().unwrap()] = count.parse().unwrap();
        seen += 1;
        if point == NOWHERE && seen == lines_before_kill {
            child.kill().unwrap();
        }
    }
    assert!(!child.wait().unwrap().success());
    finals
}

async fn check(dir: &Path, finals: &[u64], before: &mut [u64], what: &str) {
    let chain = start(dir);
    let state = chain.state().unwrap();
    for (lane, said) in finals.iter().enumerate() {
        let now = counter(&state, lane as u8 + 1);
        assert!(now >= *said && now >= before[lane], "{what}: lane {lane} went back from {said} (or {}) to {now}", before[lane]);
        before[lane] = now;
    }
    // It goes on.
    let after = chain.submit(tx(1, 0, before[0], ADD, b"")).unwrap().finalized().await.unwrap();
    before[0] += 1;
    assert!(after.height > state.height());
    chain.shutdown(SOON).await.unwrap();
}

#[tokio::test]
async fn what_was_final_survives_every_kill() {
    if std::env::args().any(|argument| argument == BE_VICTIM) {
        victim().await;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut before = vec![0; usize::from(LANES)];
    for (round, point) in POINTS.iter().cycle().take(16).enumerate() {
        let at = [1, 2, 5, 11][round / POINTS.len()];
        let finals = run_victim(dir.path(), point, at, 0);
        check(dir.path(), &finals, &mut before, &format!("{point} hit {at}")).await;
    }
    for lines in [1, 2, 3, 7, 20, 41, 90, 150] {
        let finals = run_victim(dir.path(), NOWHERE, 0, lines);
        assert!(finals.iter().sum::<u64>() > 0);
        check(dir.path(), &finals, &mut before, &format!("killed after {lines} lines")).await;
    }
    let report = replay(dir.path(), &common::genesis(), Arc::new(Counter)).unwrap();
    assert_eq!((report.difference, report.failed_txs), (None, 0));
    assert_eq!(report.txs, before.iter().sum::<u64>());
}
