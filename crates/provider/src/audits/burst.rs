//! The work of a burst: all cores hash for a time, and the smallest hashes are kept.
//!
//! Guarantees: each nonce is hashed once, whatever the number of threads; the work ends with its time or with the provider,
//! whichever comes first; memory is constant. It signs nothing and knows no audit.

use pasture_rt::{ShutdownToken, TaskKind};
use pasture_types::audit::{AUDIT_SHARES, MAX_NONCE};
use pasture_types::proof::share_hash;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

/// Hashes between two looks at the clock: a fraction of a millisecond.
const BATCH: u64 = 1_024;

/// The smallest hashes with their nonces, the largest of them on top.
type Best = BinaryHeap<(u64, u64)>;

fn keep(best: &mut Best, hash: u64, nonce: u64) {
    if best.len() >= AUDIT_SHARES && best.peek().is_some_and(|(largest, _)| hash >= *largest) {
        return;
    }
    best.push((hash, nonce));
    if best.len() > AUDIT_SHARES {
        best.pop();
    }
}

/// One of `threads` threads: every `threads`-th batch of nonces, from its own on.
fn work(seed: &[u8; 32], thread: u64, threads: u64, go_on: impl Fn() -> bool) -> Best {
    let mut best = Best::with_capacity(AUDIT_SHARES + 1);
    let mut from = thread * BATCH;
    while go_on() && from <= MAX_NONCE - BATCH {
        for nonce in from..from + BATCH {
            keep(&mut best, share_hash(seed, nonce), nonce);
        }
        from += threads * BATCH;
    }
    best
}

/// The nonces of the smallest hashes that `threads` threads find in a time, and how long it took; `None` if they were called off.
pub(super) async fn compute(seed: [u8; 32], threads: u64, time: Duration, cancel: ShutdownToken) -> Option<(Vec<u64>, Duration)> {
    let begun = Instant::now();
    let threads = threads.max(1);
    let running: Vec<_> = (0..threads)
        .map(|thread| {
            let cancel = cancel.clone();
            let go_on = move || begun.elapsed() < time && !cancel.is_requested();
            pasture_rt::spawn_blocking(TaskKind::Audit, move || work(&seed, thread, threads, go_on))
        })
        .collect();
    let mut all = Best::with_capacity(AUDIT_SHARES + 1);
    for thread in running {
        for (hash, nonce) in thread.join().await? {
            keep(&mut all, hash, nonce);
        }
    }
    let nonces = all.into_iter().map(|(_, nonce)| nonce).collect();
    (!cancel.is_requested()).then(|| (nonces, begun.elapsed()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn threads_share_the_nonces_and_find_the_smallest_of_all() {
        let seed = [3; 32];
        let batches = 8u64;
        let mut found = Best::new();
        for thread in 0..4 {
            let left = Cell::new(2u32);
            let part = work(&seed, thread, 4, || left.replace(left.get().saturating_sub(1)) > 0);
            part.into_iter().for_each(|(hash, nonce)| keep(&mut found, hash, nonce));
        }
        let mut all: Vec<(u64, u64)> = (0..batches * BATCH).map(|n| (share_hash(&seed, n), n)).collect();
        all.sort_unstable();
        assert_eq!(found.into_sorted_vec(), all[..AUDIT_SHARES]);
    }

    #[tokio::test]
    async fn a_burst_ends_with_the_provider() {
        let stop = pasture_rt::Shutdown::new();
        stop.trigger();
        assert_eq!(compute([1; 32], 2, Duration::from_secs(3_600), stop.token()).await, None);
    }
}
