//! A chain of one validator, seen from outside.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests: clippy.toml exempts test functions only"
)]

mod common;

use common::{ADD, Counter, DELETE, FAIL, GENESIS_KEY, NEVER, PUT, TIMER, counter, counter_key, fired_key, named_key, options, start, tx};
use pasture_chain::{Chain, ChainError, Dropped, NextBlock, SubmitError, TxOutcome, replay};
use pasture_rt::ManualClock;
use pasture_types::state::StateRead as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(60);

async fn stop(chain: Chain) {
    chain.shutdown(SOON).await.unwrap();
}

async fn at_height(chain: &Chain, height: u64) {
    let mut blocks = chain.subscribe();
    while chain.status().height < height {
        tokio::time::timeout(SOON, blocks.next()).await.unwrap();
    }
}

#[tokio::test]
async fn a_transaction_becomes_final_and_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let chain = start(dir.path());
    let receipt = chain.submit(tx(1, 0, 0, ADD, b"")).unwrap().finalized().await.unwrap();
    assert!(matches!(&receipt.outcome, TxOutcome::Applied { ok: true, events, .. } if events.len() == 1));
    let snapshot = chain.state().unwrap();
    assert_eq!(counter(&snapshot, 1), 1);
    assert_eq!(snapshot.get(GENESIS_KEY).unwrap(), b"in the beginning");
    let stored = chain.block(receipt.height).await.unwrap().unwrap();
    assert_eq!(stored.header.digest(), stored.digest);
    assert_eq!(stored.txs, vec![tx(1, 0, 0, ADD, b"")]);
    assert!(chain.finality(receipt.height).await.unwrap().is_some());
    let (height, root) = (chain.status().height, snapshot.header().state_root);
    stop(chain).await;

    let chain = start(dir.path());
    assert_eq!(counter(&chain.state().unwrap(), 1), 1);
    assert!(chain.status().height >= height);
    assert_eq!(chain.block(height).await.unwrap().unwrap().header.state_root, root);
    let again = chain.submit(tx(1, 0, 0, ADD, b""));
    assert!(matches!(again, Err(SubmitError::Rejected { code: 2, .. })));
    chain.submit(tx(1, 0, 1, ADD, b"")).unwrap().finalized().await.unwrap();
    assert_eq!(counter(&chain.state().unwrap(), 1), 2);
    stop(chain).await;
}

#[tokio::test]
async fn lanes_keep_their_order_and_a_gap_waits() {
    let dir = tempfile::tempdir().unwrap();
    let chain = start(dir.path());
    let late: Vec<_> = (1..5).rev().map(|seq| chain.submit(tx(1, 0, seq, ADD, b"")).unwrap()).collect();
    let other = chain.submit(tx(1, 7, 0, ADD, b"")).unwrap().finalized().await.unwrap();
    assert_eq!(chain.status().waiting, 4, "the gap holds its lane back, not the other");
    let first = chain.submit(tx(1, 0, 0, ADD, b"")).unwrap().finalized().await.unwrap();
    assert!(first.height > other.height);
    let mut places = Vec::new();
    for pending in late.into_iter().rev() {
        let receipt = pending.finalized().await.unwrap();
        places.push((receipt.height, receipt.index));
    }
    assert!(places.is_sorted());
    assert_eq!(counter(&chain.state().unwrap(), 1), 6);
    stop(chain).await;
}

#[tokio::test]
async fn outcomes_say_what_happened() {
    let dir = tempfile::tempdir().unwrap();
    let chain = start(dir.path());
    assert!(matches!(chain.submit(vec![1, 2, 3].into()), Err(SubmitError::Rejected { code: 1, .. })));
    let failed = chain.submit(tx(1, 0, 0, FAIL, b"")).unwrap().finalized().await.unwrap();
    assert!(matches!(failed.outcome, TxOutcome::Applied { ok: false, .. }));
    let never = chain.submit(tx(2, 0, 0, NEVER, b"")).unwrap().finalized().await;
    assert!(matches!(never, Err(Dropped::Rejected { code: 3, .. })));
    let twice = [chain.submit(tx(3, 0, 0, ADD, b"")).unwrap(), chain.submit(tx(3, 0, 0, ADD, b"")).unwrap()];
    let [a, b] = twice.map(|pending| pending.finalized());
    assert_eq!(a.await.unwrap(), b.await.unwrap(), "the same transaction twice is one");
    assert_eq!(counter(&chain.state().unwrap(), 3), 1);
    stop(chain).await;
}

#[tokio::test]
async fn a_timer_makes_a_block_and_idleness_makes_none() {
    let dir = tempfile::tempdir().unwrap();
    let chain = start(dir.path());
    at_height(&chain, 1).await;
    let mut blocks = chain.subscribe();
    let now = chain.submit(tx(1, 0, 0, ADD, b"")).unwrap().finalized().await.unwrap().timestamp_ms;
    let at = now + 400;
    let set = chain.submit(tx(1, 0, 1, TIMER, &at.to_be_bytes())).unwrap().finalized().await.unwrap();
    let mut timed = None;
    while timed.is_none() {
        let Some(NextBlock::Block(block)) = tokio::time::timeout(SOON, blocks.next()).await.unwrap() else { panic!("no block") };
        if !block.begin_events.is_empty() {
            timed = Some(block);
        }
    }
    let timed = timed.unwrap();
    assert_eq!(timed.header.height, set.height + 1, "nothing in between, and one block for the timer");
    assert!((at..at + 300).contains(&timed.header.timestamp_ms), "{} is not soon after {at}", timed.header.timestamp_ms);
    assert!(chain.state().unwrap().get(&fired_key(at)).is_some());
    // Idle: nothing may come within a while.
    assert!(tokio::time::timeout(Duration::from_millis(1_500), blocks.next()).await.is_err());
    assert_eq!(chain.status().height, timed.header.height);
    stop(chain).await;
}

#[tokio::test]
async fn a_clock_set_back_neither_stops_timers_nor_turns_time_back() {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::new(10_000_000);
    let mut options = options(dir.path());
    options.clock = Arc::new(clock.clone());
    let chain = Chain::start(options, Arc::new(Counter)).unwrap();
    let before = chain.submit(tx(1, 0, 0, ADD, b"")).unwrap().finalized().await.unwrap().timestamp_ms;
    assert_eq!(before, 10_000_000);
    clock.set(3_000_000);
    let at = before + 300;
    let set = chain.submit(tx(1, 0, 1, TIMER, &at.to_be_bytes())).unwrap().finalized().await.unwrap();
    assert!(set.timestamp_ms >= before);
    at_height(&chain, set.height + 1).await;
    let state = chain.state().unwrap();
    assert!(state.get(&fired_key(at)).is_some() && state.header().timestamp_ms >= at);
    clock.set(20_000_000);
    let after = chain.submit(tx(1, 0, 2, ADD, b"")).unwrap().finalized().await.unwrap();
    assert_eq!(after.timestamp_ms, 20_000_000);
    stop(chain).await;
}

#[tokio::test]
async fn proofs_show_presence_and_absence() {
    let dir = tempfile::tempdir().unwrap();
    let chain = start(dir.path());
    chain.submit(tx(1, 0, 0, PUT, b"\x05hello")).unwrap().finalized().await.unwrap();
    let there = chain.prove(&named_key(5)).await.unwrap();
    assert_eq!(there.value.as_deref(), Some(&b"hello"[..]));
    assert_eq!(there.header.state_root, chain.state().unwrap().header().state_root);
    let absent = chain.prove(&named_key(6)).await.unwrap();
    assert!(absent.value.is_none() && !absent.proof.is_empty());
    chain.submit(tx(1, 0, 1, DELETE, b"\x05")).unwrap().finalized().await.unwrap();
    assert!(chain.prove(&named_key(5)).await.unwrap().value.is_none());
    assert!(chain.prove(GENESIS_KEY).await.unwrap().value.is_some());
    stop(chain).await;
}

#[tokio::test]
async fn replay_gives_the_same_roots() {
    let dir = tempfile::tempdir().unwrap();
    let chain = start(dir.path());
    for seq in 0..20 {
        chain.submit(tx(1, 0, seq, if seq % 5 == 4 { FAIL } else { ADD }, b"")).unwrap().finalized().await.unwrap();
    }
    let busy = replay(dir.path(), &common::genesis(), Arc::new(Counter));
    assert!(matches!(busy, Err(ChainError::InUse { .. })));
    let tip = chain.state().unwrap();
    stop(chain).await;
    for _ in 0..2 {
        let report = replay(dir.path(), &common::genesis(), Arc::new(Counter)).unwrap();
        assert_eq!(report.difference, None);
        assert_eq!((report.blocks, report.txs, report.failed_txs), (tip.height(), 20, 4));
        assert_eq!(report.state_root, tip.header().state_root);
    }
    let chain = start(dir.path());
    assert_eq!(counter(&chain.state().unwrap(), 1), 16);
    stop(chain).await;
}

#[tokio::test]
async fn a_directory_belongs_to_one_process_and_one_zone() {
    let dir = tempfile::tempdir().unwrap();
    let chain = start(dir.path());
    assert!(matches!(Chain::start(options(dir.path()), Arc::new(Counter)), Err(ChainError::InUse { .. })));
    stop(chain).await;
    let mut other = options(dir.path());
    other.genesis.zone = [43; 32];
    assert!(matches!(Chain::start(other, Arc::new(Counter)), Err(ChainError::OtherZone { .. })));
    let mut stranger = options(dir.path());
    stranger.genesis.validators[0].bls_pop[3] ^= 1;
    assert!(matches!(Chain::start(stranger, Arc::new(Counter)), Err(ChainError::Genesis(_))));
}

/// Files under a directory whose path contains `part`, largest first.
fn files(dir: &Path, part: &str) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    let mut todo = vec![dir.to_path_buf()];
    while let Some(next) = todo.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                todo.push(path);
            } else if path.to_string_lossy().contains(part) {
                found.push(path);
            }
        }
    }
    found.sort_by_key(|path| std::cmp::Reverse(path.metadata().unwrap().len()));
    found
}

#[tokio::test]
async fn a_damaged_store_is_named() {
    for part in ["chain-state-log", "chain-blocks-value"] {
        let dir = tempfile::tempdir().unwrap();
        let chain = start(dir.path());
        for seq in 0..60 {
            let big = [&[seq as u8][..], &[7; 2_000]].concat();
            chain.submit(tx(1, 0, seq, PUT, &big)).unwrap().finalized().await.unwrap();
        }
        stop(chain).await;
        let file = files(dir.path(), part).remove(0);
        let mut bytes = std::fs::read(&file).unwrap();
        // Not the header, not the end: a torn end is repaired, damage in the middle is not.
        for at in (9_000..bytes.len().min(60_000)).step_by(1_000) {
            bytes[at] ^= 0xff;
        }
        std::fs::write(&file, bytes).unwrap();
        let error = match Chain::start(options(dir.path()), Arc::new(Counter)) {
            Err(error) => error,
            Ok(chain) => match replay_after(chain, dir.path()).await {
                Err(error) => error,
                Ok(report) => panic!("damage to {part} went unseen: {report:?}"),
            },
        };
        let text = error.to_string();
        assert!(matches!(error, ChainError::Corrupt { .. }), "{part}: {text}");
        assert!(text.contains("Restore the directory from a backup") && text.contains("chain-"), "{part}: {text}");
    }
}

/// A chain need not read every old block to run; a replay does.
async fn replay_after(chain: Chain, dir: &Path) -> Result<pasture_chain::ReplayReport, ChainError> {
    stop(chain).await;
    replay(dir, &common::genesis(), Arc::new(Counter))
}

#[tokio::test]
async fn waiting_submitters_hear_of_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let chain = start(dir.path());
    let waits = chain.submit(tx(1, 0, 3, ADD, b"")).unwrap();
    let begun = Instant::now();
    chain.shutdown(SOON).await.unwrap();
    assert!(begun.elapsed() < SOON);
    assert_eq!(waits.finalized().await, Err(Dropped::Stopped));
    assert!(matches!(chain.submit(tx(1, 0, 0, ADD, b"")), Err(SubmitError::Stopped)));
    assert!(matches!(chain.failed().await, ChainError::Stopped));
    assert_eq!(counter_key(1).len(), 33);
}
