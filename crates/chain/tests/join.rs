//! Joining by state, and what stays of the history, each node with its engine, disk and sockets.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests: clippy.toml exempts test functions only"
)]

mod common;

use common::zone::{SOON, Zone, soon};
use common::{CANDIDATES, Counter, Members, SEATS, counter};
use pasture_chain::{Chain, ChainError, Join, JoinStep, replay};
use pasture_types::state::StateRead as _;
use std::sync::{Arc, Mutex};

/// Short, so that a test sees several terms.
const TERM_BLOCKS: u64 = 8;

/// The first `founders` of `count` run, and the rest may follow.
async fn found(founders: u8, count: u8) -> Zone {
    found_with(founders, count, TERM_BLOCKS, None).await
}

async fn found_with(founders: u8, count: u8, term_blocks: u64, keep_blocks: Option<u64>) -> Zone {
    let mut zone = Zone::keeping(Members::founded_by(founders, count, term_blocks), usize::from(founders), keep_blocks);
    let all: Vec<u8> = (1..=count).collect();
    zone.write(0, CANDIDATES, &all).await;
    zone
}

/// Starts one that joins by state, and says what it told.
async fn join(zone: &mut Zone, index: usize) -> Vec<JoinStep> {
    let told = Arc::new(Mutex::new(Vec::new()));
    let (mut options, hears) = (zone.options(index), Arc::clone(&told));
    options.history.join = Join::State;
    options.history.on_join = Some(Arc::new(move |step| hears.lock().unwrap().push(step)));
    // It waits for the others, who must go on meanwhile.
    let started = tokio::task::spawn_blocking(move || Chain::start(options, Arc::new(Counter)).unwrap());
    zone.keep(index, tokio::time::timeout(SOON, started).await.unwrap().unwrap());
    let told = told.lock().unwrap();
    told.clone()
}

/// Each of these adds once, through one node.
async fn add(zone: &Zone, index: usize, senders: std::ops::Range<u8>, seq: u64) {
    let pending: Vec<_> = senders.map(|sender| zone.hand_in(index, sender, seq)).collect();
    for one in pending {
        soon(one).await;
    }
}

/// The change takes effect at the end of a term.
async fn seated(zone: &Zone, index: usize, seats: usize) {
    let height = zone.chain(0).status().height;
    zone.until_height(index, height + 2 * TERM_BLOCKS).await;
    let status = zone.chain(index).status();
    assert_eq!((status.seated, status.validators), (true, seats), "{status:?}");
}

fn entries(chain: &Chain) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut all = Vec::new();
    chain.state().unwrap().each(&mut |key, value| all.push((key.to_vec(), value.to_vec())));
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newcomer_takes_the_state_is_elected_and_starts_again() {
    let mut zone = found(4, 5).await;
    for seq in 0..3 {
        add(&zone, 0, 1..200, seq).await;
    }
    zone.until_height(0, 5 * TERM_BLOCKS).await;
    let told = join(&mut zone, 4).await;
    let Some(JoinStep::Joined { height: begun }) = told.last().copied() else { panic!("{told:?}") };
    assert!(begun >= 4 * TERM_BLOCKS && (begun + 1).is_multiple_of(TERM_BLOCKS), "{told:?}");
    let newcomer = zone.chain(4);
    assert_eq!(newcomer.block(begun - 1).await.unwrap(), None, "what is before was never fetched");
    assert_eq!(zone.digest_at(4, begun).await, zone.digest_at(0, begun).await);
    assert_eq!((1..200).map(|sender| counter(&newcomer.state().unwrap(), sender)).collect::<Vec<_>>(), [3; 199]);

    // What is handed to it becomes final, it is elected, and the others cannot do without it.
    add(&zone, 4, 1..20, 3).await;
    zone.write(4, SEATS, &[1, 2, 3, 4, 5]).await;
    seated(&zone, 4, 5).await;
    zone.down(3).await;
    add(&zone, 4, 1..20, 4).await;

    zone.down(4).await;
    zone.up(4);
    add(&zone, 4, 1..20, 5).await;
    let height = zone.chain(4).status().height;
    zone.until_height(0, height).await;
    assert_eq!(zone.digest_at(4, height).await, zone.digest_at(0, height).await);
    let proof = zone.chain(4).prove(&common::named_key(SEATS)).await.unwrap();
    assert_eq!(proof.value.as_deref(), Some(&[1, 2, 3, 4, 5][..]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newcomer_follows_each_change_of_seats_and_can_tell_of_them() {
    let mut zone = found(1, 4).await;
    zone.up(1);
    zone.up(2);
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
    let told = join(&mut zone, 3).await;
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
    let mut zone = found_with(1, 2, SHORT_TERM, Some(2 * SHORT_TERM)).await;
    let mut wrote = 0;
    while zone.chain(0).block(1).await.unwrap().is_some() {
        assert!(wrote < BLOCKS_PER_FILE + 200, "{:?}", zone.chain(0).status());
        add(&zone, 0, 1..2, wrote).await;
        wrote += 1;
    }
    let height = zone.chain(0).status().height;
    assert!(zone.chain(0).block(height - 2 * SHORT_TERM).await.unwrap().is_some(), "what is to stay stays");
    // It starts again, and who joins needs none of what is gone.
    zone.down(0).await;
    let whole = replay(&zone.dir(0), &zone.options(0).genesis, Arc::new(Counter));
    assert!(matches!(whole, Err(ChainError::Partial { first }) if first > 1), "{whole:?}");
    zone.up(0);
    let told = join(&mut zone, 1).await;
    assert!(matches!(told.last(), Some(JoinStep::Joined { .. })), "{told:?}");
    add(&zone, 1, 1..2, wrote).await;
    assert_eq!(counter(&zone.chain(1).state().unwrap(), 1), wrote + 1);
    zone.until_height(0, zone.chain(1).status().height).await;
    assert_eq!(entries(zone.chain(1)), entries(zone.chain(0)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_no_term_ended_yet_a_newcomer_takes_the_blocks() {
    // A lone validator makes no block without a reason; that somebody stands for election would be one, so this one is named by its operator.
    let mut zone = Zone::start(Members::founded_by(1, 2, TERM_BLOCKS), 1);
    zone.write(0, 6, b"before the newcomer").await;
    let told = join(&mut zone, 1).await;
    assert!(!told.iter().any(|step| matches!(step, JoinStep::Joined { .. })), "{told:?}");
    zone.write(1, 7, b"through the newcomer").await;
    let height = zone.chain(0).status().height;
    assert!(height < TERM_BLOCKS);
    assert_eq!(zone.digest_at(1, 1).await, zone.digest_at(0, 1).await);
    assert!(zone.chain(1).state().unwrap().get(&common::named_key(6)).is_some());
}
