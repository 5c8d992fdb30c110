//! Joining by state, and what stays of the history, each node with its engine, disk and sockets.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests: clippy.toml exempts test functions only"
)]

mod common;

use common::{ADD, CANDIDATES, Counter, Members, PUT, SEATS, counter, tx};
use pasture_chain::{Chain, ChainError, History, Join, JoinStep, Options, replay};
use pasture_types::state::StateRead as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(60);
/// Short, so that a test sees several terms.
const TERM_BLOCKS: u64 = 8;
/// Who changes the seats.
const CLERK: u8 = 250;

/// Nodes of one zone; some may be stopped.
struct Zone {
    members: Members,
    root: TempDir,
    chains: Vec<Option<Chain>>,
    clerk: u64,
    keep_blocks: Option<u64>,
}

impl Zone {
    /// The first `founders` of `count` are started, and the rest may follow.
    async fn found(founders: u8, count: u8) -> Self {
        Self::found_with(founders, count, TERM_BLOCKS, None).await
    }
    async fn found_with(founders: u8, count: u8, term_blocks: u64, keep_blocks: Option<u64>) -> Self {
        let members = Members::founded_by(founders, count, term_blocks);
        let mut zone = Self { members, root: tempfile::tempdir().unwrap(), chains: vec![], clerk: 0, keep_blocks };
        zone.chains.resize_with(usize::from(count), || None);
        (0..usize::from(founders)).for_each(|index| zone.up(index, Join::Blocks));
        let all: Vec<u8> = (1..=count).collect();
        zone.write(0, CANDIDATES, &all).await;
        zone
    }
    fn dir(&self, index: usize) -> PathBuf {
        self.root.path().join(index.to_string())
    }
    fn options(&self, index: usize, join: Join) -> Options {
        let history = History { join, keep_blocks: self.keep_blocks, ..History::default() };
        Options { history, ..self.members.options(index, &self.dir(index)) }
    }
    fn up(&mut self, index: usize, join: Join) {
        let chain = Chain::start(self.options(index, join), Arc::new(Counter)).unwrap();
        self.keep(index, chain);
    }
    fn keep(&mut self, index: usize, chain: Chain) {
        let ends = chain.clone();
        self.chains[index] = Some(chain);
        pasture_rt::spawn(pasture_rt::TaskKind::Server, async move { eprintln!("node {index} ended: {}", ends.failed().await) });
    }
    /// Starts one that joins by state, and says what it told.
    async fn joins(&mut self, index: usize) -> Vec<JoinStep> {
        let told = Arc::new(Mutex::new(Vec::new()));
        let (mut options, hears) = (self.options(index, Join::State), Arc::clone(&told));
        options.history.on_join = Some(Arc::new(move |step| hears.lock().unwrap().push(step)));
        // It waits for the others, who must go on meanwhile.
        let started = tokio::task::spawn_blocking(move || Chain::start(options, Arc::new(Counter)).unwrap());
        let chain = tokio::time::timeout(SOON, started).await.unwrap().unwrap();
        self.keep(index, chain);
        let told = told.lock().unwrap();
        told.clone()
    }
    async fn down(&mut self, index: usize) {
        self.chains[index].take().unwrap().shutdown(SOON).await.unwrap();
    }
    fn chain(&self, index: usize) -> &Chain {
        self.chains[index].as_ref().unwrap()
    }
    async fn write(&mut self, index: usize, name: u8, value: &[u8]) {
        let pending = self.chain(index).submit(tx(CLERK, 0, self.clerk, PUT, &[&[name], value].concat())).unwrap();
        self.clerk += 1;
        tokio::time::timeout(SOON, pending.finalized()).await.unwrap().unwrap();
    }
    /// Everybody of so many adds once, through one node.
    async fn add(&self, index: usize, senders: std::ops::Range<u8>, seq: u64) {
        let pending: Vec<_> = senders.map(|sender| self.chain(index).submit(tx(sender, 0, seq, ADD, b"")).unwrap()).collect();
        for one in pending {
            tokio::time::timeout(SOON, one.finalized()).await.unwrap().unwrap();
        }
    }
    async fn reaches(&self, index: usize, height: u64) {
        let chain = self.chain(index);
        let mut blocks = chain.subscribe();
        while chain.status().height < height {
            tokio::time::timeout(SOON, blocks.next()).await.unwrap().unwrap();
        }
    }
    async fn digest(&self, index: usize, height: u64) -> [u8; 32] {
        self.chain(index).block(height).await.unwrap().unwrap().digest
    }
    async fn seated(&self, index: usize, seats: usize) {
        let height = self.chain(0).status().height;
        // The change takes effect at the end of a term.
        self.reaches(index, height + 2 * TERM_BLOCKS).await;
        let status = self.chain(index).status();
        assert_eq!((status.seated, status.validators), (true, seats), "{status:?}");
    }
}

fn entries(chain: &Chain) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut all = Vec::new();
    chain.state().unwrap().each(&mut |key, value| all.push((key.to_vec(), value.to_vec())));
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newcomer_takes_the_state_is_elected_and_starts_again() {
    let mut zone = Zone::found(4, 5).await;
    for seq in 0..3 {
        zone.add(0, 1..200, seq).await;
    }
    zone.reaches(0, 5 * TERM_BLOCKS).await;
    let told = zone.joins(4).await;
    let Some(JoinStep::Joined { height: begun }) = told.last().copied() else { panic!("{told:?}") };
    assert!(begun >= 4 * TERM_BLOCKS && (begun + 1).is_multiple_of(TERM_BLOCKS), "{told:?}");
    let newcomer = zone.chain(4);
    assert_eq!(newcomer.block(begun - 1).await.unwrap(), None, "what is before was never fetched");
    assert_eq!(zone.digest(4, begun).await, zone.digest(0, begun).await);
    assert_eq!((1..200).map(|sender| counter(&newcomer.state().unwrap(), sender)).collect::<Vec<_>>(), [3; 199]);

    // What is handed to it becomes final, it is elected, and the others cannot do without it.
    zone.add(4, 1..20, 3).await;
    zone.write(4, SEATS, &[1, 2, 3, 4, 5]).await;
    zone.seated(4, 5).await;
    zone.down(3).await;
    zone.add(4, 1..20, 4).await;

    zone.down(4).await;
    zone.up(4, Join::State);
    zone.add(4, 1..20, 5).await;
    let height = zone.chain(4).status().height;
    zone.reaches(0, height).await;
    assert_eq!(zone.digest(4, height).await, zone.digest(0, height).await);
    let proof = zone.chain(4).prove(&common::named_key(SEATS)).await.unwrap();
    assert_eq!(proof.value.as_deref(), Some(&[1, 2, 3, 4, 5][..]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newcomer_follows_each_change_of_seats_and_can_tell_of_them() {
    let mut zone = Zone::found(1, 4).await;
    zone.up(1, Join::Blocks);
    zone.up(2, Join::Blocks);
    let founders = zone.chain(0).block(1).await.unwrap().unwrap().header.validators;
    // To three, to two others, and back: each set has to be learned from the one before.
    for (changes, seats) in [(1, &[1, 2, 3][..]), (2, &[2, 3]), (3, &[1, 2, 3]), (4, &[1, 3])] {
        zone.write(0, SEATS, seats).await;
        // The founder alone makes no block without a reason. Twice a term, since the change may have come with a term's last block.
        for turn in 0.. {
            if zone.chain(0).handovers(founders, 16).await.unwrap().unwrap().len() == changes {
                break;
            }
            assert!(turn < 2 * TERM_BLOCKS, "{:?}", zone.chain(0).status());
            zone.write(0, 7, b"more").await;
        }
    }
    let told = zone.joins(3).await;
    assert!(matches!(told.last(), Some(JoinStep::Joined { .. })), "{told:?}");
    let all = zone.chain(0).handovers(founders, 16).await.unwrap().unwrap();
    assert_eq!(all.len(), 4);
    assert_eq!(zone.chain(3).handovers(founders, 16).await.unwrap().unwrap(), all);
    zone.write(3, 8, b"through the newcomer").await;
    assert_eq!(zone.chain(3).validators(), zone.chain(0).validators());
}

/// The shortest term.
const SHORT_TERM: u64 = 4;
/// Blocks of one file, which are forgotten together.
const BLOCKS_PER_FILE: u64 = 256 * SHORT_TERM;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_blocks_are_forgotten_and_the_zone_goes_on() {
    let mut zone = Zone::found_with(1, 2, SHORT_TERM, Some(2 * SHORT_TERM)).await;
    let mut wrote = 0;
    while zone.chain(0).block(1).await.unwrap().is_some() {
        assert!(wrote < BLOCKS_PER_FILE + 200, "{:?}", zone.chain(0).status());
        zone.add(0, 1..2, wrote).await;
        wrote += 1;
    }
    let height = zone.chain(0).status().height;
    assert!(zone.chain(0).block(height - 2 * SHORT_TERM).await.unwrap().is_some(), "what is to stay stays");
    // It starts again, and who joins needs none of what is gone.
    zone.down(0).await;
    let whole = replay(&zone.dir(0), &zone.options(0, Join::Blocks).genesis, Arc::new(Counter));
    assert!(matches!(whole, Err(ChainError::Partial { first }) if first > 1), "{whole:?}");
    zone.up(0, Join::Blocks);
    let told = zone.joins(1).await;
    assert!(matches!(told.last(), Some(JoinStep::Joined { .. })), "{told:?}");
    zone.add(1, 1..2, wrote).await;
    assert_eq!(counter(&zone.chain(1).state().unwrap(), 1), wrote + 1);
    zone.reaches(0, zone.chain(1).status().height).await;
    assert_eq!(entries(zone.chain(1)), entries(zone.chain(0)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_no_term_ended_yet_a_newcomer_takes_the_blocks() {
    // A lone validator makes no block without a reason.
    let mut zone = Zone::found(1, 2).await;
    let told = zone.joins(1).await;
    assert!(!told.iter().any(|step| matches!(step, JoinStep::Joined { .. })), "{told:?}");
    zone.write(1, 7, b"through the newcomer").await;
    let height = zone.chain(0).status().height;
    assert!(height < TERM_BLOCKS);
    assert_eq!(zone.digest(1, 1).await, zone.digest(0, 1).await);
    assert!(zone.chain(1).state().unwrap().get(&common::named_key(CANDIDATES)).is_some());
}
