//! A run that begins with the state of another: heights, time and randomness go on, the records are there.

#![cfg(test)]

mod common;

use common::{ADD, Carried, Counter, DELETE, PUT, after, counter, genesis, named_key, options, start, tx};
use pasture_chain::{
    Admission, BlockContext, Chain, ChainError, Due, Entries, Machine, Options, Rejection, StoredState, TxOutcome, replay, stored_state,
};
use pasture_types::state::{StateRead, StateWrite};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

/// [`Counter`], by a program that does not know what follows once the record `stop` is there.
struct Old;

impl Machine for Old {
    fn genesis(&self) -> Result<Entries, String> {
        Counter.genesis()
    }
    fn admit(&self, tx: &[u8], state: &dyn StateRead, now_ms: u64) -> Result<Admission, Rejection> {
        Counter.admit(tx, state, now_ms)
    }
    fn next_seq(&self, sender: &[u8; 32], lane: u8, state: &dyn StateRead) -> u64 {
        Counter.next_seq(sender, lane, state)
    }
    fn verify(&self, txs: &[bytes::Bytes]) -> bool {
        Counter.verify(txs)
    }
    fn ready(&self, state: &dyn StateRead) -> Result<(), String> {
        match state.get(&named_key(4)) {
            Some(_) => Err("install a newer version".into()),
            None => Ok(()),
        }
    }
    fn block_cost_us(&self, state: &dyn StateRead) -> u64 {
        Counter.block_cost_us(state)
    }
    fn begin(&self, state: &mut dyn StateWrite, ctx: &BlockContext) -> Vec<Vec<u8>> {
        Counter.begin(state, ctx)
    }
    fn apply(&self, state: &mut dyn StateWrite, ctx: &BlockContext, tx: &[u8]) -> TxOutcome {
        Counter.apply(state, ctx, tx)
    }
    fn end(&self, state: &mut dyn StateWrite, ctx: &BlockContext) -> Vec<Vec<u8>> {
        Counter.end(state, ctx)
    }
    fn next_due(&self, state: &dyn StateRead) -> Due {
        Counter.next_due(state)
    }
}

fn entries(stored: &StoredState) -> Entries {
    let mut all = vec![];
    stored.state.each(&mut |key, value| all.push((key.to_vec(), value.to_vec())));
    all
}

fn moved_options(dir: &Path, from: &StoredState) -> Options {
    let mut options = options(dir);
    options.genesis.base = Some(after(from));
    options
}

async fn stop(chain: Chain) {
    chain.shutdown(SOON).await.unwrap();
}

#[tokio::test]
async fn a_moved_state_goes_on_where_it_was() {
    let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let chain = start(old.path());
    for seq in 0..10 {
        chain.submit(tx(1, 0, seq, ADD, b"")).unwrap().finalized().await.unwrap();
    }
    chain.submit(tx(1, 0, 10, PUT, b"\x05hello")).unwrap().finalized().await.unwrap();
    assert!(matches!(stored_state(old.path(), &genesis()), Err(ChainError::InUse { .. })));
    let tip = chain.state().unwrap();
    stop(chain).await;

    let stored = stored_state(old.path(), &genesis()).unwrap();
    assert_eq!((stored.state.digest(), stored.state.entries()), (tip.digest(), entries(&stored).len()));
    assert!(entries(&stored).is_sorted());
    assert!(!stored.finality.certificate.is_empty());

    let options = moved_options(new.path(), &stored);
    let machine = Arc::new(Carried(Ok(entries(&stored))));
    let chain = Chain::start(options.clone(), Arc::clone(&machine) as Arc<dyn Machine>).unwrap();
    assert_eq!(counter(&chain.state().unwrap(), 1), 10, "the records are there before any block");
    let receipt = chain.submit(tx(1, 0, 11, ADD, b"")).unwrap().finalized().await.unwrap();
    assert!(receipt.height > tip.height() && receipt.timestamp_ms >= tip.header().timestamp_ms);
    // A record of the old run, one of the new, and one that goes: all proven under the new root.
    chain.submit(tx(1, 0, 12, DELETE, b"\x05")).unwrap().finalized().await.unwrap();
    assert!(chain.prove(&named_key(5)).await.unwrap().value.is_none());
    let proven = chain.prove(&common::counter_key(200)).await.unwrap();
    assert_eq!(proven.value.as_deref(), Some(&7u64.to_be_bytes()[..]));
    assert_eq!(proven.header.base, tip.height());
    let first = chain.block(tip.height() + 1).await.unwrap().unwrap();
    assert_eq!(first.header.height, tip.height() + 1);
    assert!(chain.block(tip.height() - 1).await.unwrap().is_none(), "blocks before the move stay where they were");
    let height = chain.status().height;
    stop(chain).await;

    // It restarts like any other, without the entries, and replays with them.
    let again = Chain::start(options.clone(), Arc::new(Carried(Err("not read again".into())))).unwrap();
    assert!(again.status().height >= height);
    assert_eq!(counter(&again.state().unwrap(), 1), 11);
    stop(again).await;
    let report = replay(new.path(), &options.genesis, machine).unwrap();
    assert_eq!(report.difference, None);
    assert_eq!(report.txs, 2);

    // And can be moved again.
    let twice = stored_state(new.path(), &options.genesis).unwrap();
    assert_eq!(twice.header().base, tip.height());
    assert!(twice.header().height > tip.height());
}

#[tokio::test]
async fn entries_that_cannot_be_read_keep_the_chain_from_starting() {
    let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let chain = start(old.path());
    chain.submit(tx(1, 0, 0, ADD, b"")).unwrap().finalized().await.unwrap();
    stop(chain).await;
    let stored = stored_state(old.path(), &genesis()).unwrap();
    let failed = Chain::start(moved_options(new.path(), &stored), Arc::new(Carried(Err("the file is torn".into()))));
    assert!(matches!(failed.err().unwrap(), ChainError::Genesis(why) if why == "the file is torn"));
    let chain = Chain::start(moved_options(new.path(), &stored), Arc::new(Carried(Ok(entries(&stored))))).unwrap();
    assert_eq!(counter(&chain.state().unwrap(), 1), 1);
    stop(chain).await;
}

#[test]
fn an_empty_directory_has_nothing_to_move() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(stored_state(dir.path(), &genesis()), Err(ChainError::Empty)));
}

#[tokio::test]
async fn a_block_that_this_program_cannot_execute_stops_it_before_it_signs_anything() {
    let dir = tempfile::tempdir().unwrap();
    let chain = Chain::start(options(dir.path()), Arc::new(Old)).unwrap();
    chain.submit(tx(1, 0, 0, ADD, b"")).unwrap().finalized().await.unwrap();
    let last = chain.submit(tx(1, 0, 1, PUT, b"\x04now")).unwrap().finalized().await.unwrap();
    // The next block is due for this one; nobody builds it.
    let _ = chain.submit(tx(1, 0, 2, ADD, b""));
    let failed = tokio::time::timeout(SOON, chain.failed()).await.unwrap();
    assert!(failed.to_string().contains("install a newer version"), "{failed}");
    let _ = chain.shutdown(SOON).await;
    // A newer program goes on from there.
    let chain = start(dir.path());
    let next = chain.submit(tx(1, 0, 2, ADD, b"")).unwrap().finalized().await.unwrap();
    assert!(next.height > last.height);
    stop(chain).await;
}

#[tokio::test]
async fn a_block_costs_no_more_than_the_state_allows() {
    let dir = tempfile::tempdir().unwrap();
    let chain = start(dir.path());
    // From here on two transactions fill a block.
    let from = chain.submit(tx(1, 0, 0, PUT, b"\x06")).unwrap().finalized().await.unwrap().height;
    let waiting: Vec<_> = (1..=9).map(|seq| chain.submit(tx(1, 0, seq, ADD, b"")).unwrap()).collect();
    let mut last = from;
    for one in waiting {
        last = one.finalized().await.unwrap().height;
    }
    assert!(last >= from + 5, "nine transactions need five blocks");
    for height in from + 1..=last {
        assert!(chain.block(height).await.unwrap().unwrap().txs.len() <= 2);
    }
    stop(chain).await;
}
