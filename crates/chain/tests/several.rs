//! A chain of several validators, each with its engine, disk and sockets, seen from outside.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests: clippy.toml exempts test functions only"
)]

mod common;

use common::{ADD, Counter, Members, counter, genesis, tx};
use pasture_chain::{Chain, ChainError, Identity, Pending};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(60);
/// Long enough for a block where there can be one; used to see that there is none.
const A_WHILE: Duration = Duration::from_secs(3);

/// Validators of one zone; some may be stopped.
struct Zone {
    members: Members,
    root: TempDir,
    chains: Vec<Option<Chain>>,
}

impl Zone {
    fn start(count: u8) -> Self {
        let mut zone = Self { members: Members::new(count), root: tempfile::tempdir().unwrap(), chains: vec![] };
        zone.chains.resize_with(usize::from(count), || None);
        (0..usize::from(count)).for_each(|index| zone.up(index));
        zone
    }
    fn dir(&self, index: usize) -> PathBuf {
        self.root.path().join(index.to_string())
    }
    fn up(&mut self, index: usize) {
        let options = self.members.options(index, &self.dir(index));
        self.chains[index] = Some(Chain::start(options, Arc::new(Counter)).unwrap());
    }
    async fn down(&mut self, index: usize) {
        self.chains[index].take().unwrap().shutdown(SOON).await.unwrap();
    }
    fn chain(&self, index: usize) -> &Chain {
        self.chains[index].as_ref().unwrap()
    }
    fn add(&self, index: usize, sender: u8, seq: u64) -> Pending {
        self.chain(index).submit(tx(sender, 0, seq, ADD, b"")).unwrap()
    }
    /// Waits until a validator has a final block of this height, and gives its digest.
    async fn digest_at(&self, index: usize, height: u64) -> [u8; 32] {
        let chain = self.chain(index);
        let mut blocks = chain.subscribe();
        while chain.status().height < height {
            tokio::time::timeout(SOON, blocks.next()).await.unwrap().unwrap();
        }
        chain.block(height).await.unwrap().unwrap().digest
    }
    /// All that run have the same block at the height of the highest.
    async fn agree(&self) -> u64 {
        let running: Vec<usize> = (0..self.chains.len()).filter(|index| self.chains[*index].is_some()).collect();
        let height = running.iter().map(|index| self.chain(*index).status().height).max().unwrap();
        let first = self.digest_at(running[0], height).await;
        for index in &running[1..] {
            assert_eq!(self.digest_at(*index, height).await, first, "validator {index} at {height}");
        }
        height
    }
}

async fn soon(pending: Pending) -> u64 {
    tokio::time::timeout(SOON, pending.finalized()).await.unwrap().unwrap().height
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_validators_make_one_history_of_what_each_is_handed() {
    let zone = Zone::start(4);
    let mut height = 0;
    for seq in 0..5 {
        let round: Vec<_> = (0..4u8).map(|index| zone.add(usize::from(index), index + 1, seq)).collect();
        for pending in round {
            height = height.max(soon(pending).await);
        }
    }
    for index in 0..4 {
        zone.digest_at(index, height).await;
        let state = zone.chain(index).state().unwrap();
        assert_eq!((1..=4).map(|sender| counter(&state, sender)).collect::<Vec<_>>(), [5; 4], "validator {index}");
    }
    zone.agree().await;
    let proposers = proposers(&zone, height).await;
    assert!(proposers.len() > 1, "they take turns");
}

async fn proposers(zone: &Zone, height: u64) -> std::collections::BTreeSet<[u8; 32]> {
    let mut found = std::collections::BTreeSet::new();
    for at in 1..=height {
        found.insert(zone.chain(0).block(at).await.unwrap().unwrap().header.proposer);
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_one_of_four_gone_it_goes_on_and_with_two_it_waits() {
    let mut zone = Zone::start(4);
    soon(zone.add(0, 1, 0)).await;
    zone.down(3).await;
    soon(zone.add(0, 1, 1)).await;
    soon(zone.add(1, 2, 0)).await;
    zone.down(2).await;
    let stuck = zone.add(0, 1, 2);
    let mut stuck = Box::pin(stuck.finalized());
    assert!(tokio::time::timeout(A_WHILE, &mut stuck).await.is_err(), "two of four made a block final");
    let before = zone.agree().await;

    zone.up(3);
    let receipt = tokio::time::timeout(SOON, stuck).await.unwrap().unwrap();
    assert!(receipt.height > before);
    zone.up(2);
    // What it missed it fetches, and then takes part.
    assert_eq!(zone.digest_at(2, receipt.height).await, zone.digest_at(0, receipt.height).await);
    zone.down(0).await;
    soon(zone.add(2, 1, 3)).await;
    assert_eq!(counter(&zone.chain(2).state().unwrap(), 1), 4);
    zone.agree().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_validator_was_handed_is_not_lost_with_its_turn_or_its_connections() {
    let mut zone = Zone::start(4);
    soon(zone.add(0, 1, 0)).await;
    // Nobody hears of these but two, who cannot make a block alone.
    zone.down(1).await;
    zone.down(2).await;
    let pending = [zone.add(3, 1, 1), zone.add(3, 1, 2), zone.add(0, 2, 0)];
    zone.up(1);
    for pending in pending {
        soon(pending).await;
    }
    zone.up(2);
    let height = zone.agree().await;
    zone.digest_at(2, height).await;
    let state = zone.chain(2).state().unwrap();
    assert_eq!((counter(&state, 1), counter(&state, 2)), (3, 1));
}

#[tokio::test]
async fn it_says_what_is_wrong_with_its_network() {
    let members = Members::new(4);
    let dir = tempfile::tempdir().unwrap();
    let start = |change: &dyn Fn(&mut pasture_chain::Options)| {
        let mut options = members.options(0, dir.path());
        change(&mut options);
        Chain::start(options, Arc::new(Counter)).err().unwrap()
    };
    assert!(matches!(start(&|o| o.network = None), ChainError::Network(why) if why.contains("how they reach each other")));
    let stranger = start(&|o| {
        o.identity = Identity::from_secret(&[99; 32]).unwrap();
        o.genesis = genesis();
        o.network = None;
    });
    assert!(matches!(stranger, ChainError::Genesis(why) if why.contains("where they are")));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = start(&|o| o.network.as_mut().unwrap().listen = taken.local_addr().unwrap());
    assert!(matches!(taken, ChainError::Network(why) if why.contains("cannot listen")));
}
