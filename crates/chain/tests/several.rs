//! A chain of several validators, each with its engine, disk and sockets, seen from outside.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests: clippy.toml exempts test functions only"
)]

mod common;

use common::zone::{A_WHILE, SOON, Zone, soon};
use common::{Counter, Members, counter, genesis};
use pasture_chain::{Chain, ChainError, Identity};
use std::sync::Arc;

/// All of `count` run.
fn start(count: u8) -> Zone {
    Zone::start(Members::new(count), usize::from(count))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_validators_make_one_history_of_what_each_is_handed() {
    let zone = start(4);
    let mut height = 0;
    for seq in 0..5 {
        let round: Vec<_> = (0..4u8).map(|index| zone.hand_in(usize::from(index), index + 1, seq)).collect();
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
    let proposers = zone.proposers(0, height).await;
    assert!(proposers.len() > 1, "they take turns");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn validators_hear_the_last_that_each_said_beside_the_ledger() {
    let zone = start(4);
    let keys: Vec<[u8; 32]> = (0..4).map(|index| zone.options(index).identity.public_key()).collect();
    let mut news = zone.chain(3).news();
    for index in 0..3u8 {
        zone.chain(usize::from(index)).say(b"first");
        zone.chain(usize::from(index)).say(&[index; 9]);
    }
    let all = |heard: &[([u8; 32], bytes::Bytes)]| {
        (0..3u8).all(|index| heard.iter().any(|(from, word)| *from == keys[usize::from(index)] && word[..] == [index; 9]))
    };
    let waiting = async {
        while !all(&zone.chain(3).heard()) {
            news.changed().await.unwrap();
        }
    };
    tokio::time::timeout(SOON, waiting).await.expect("the fourth hears of the others");
    assert_eq!(zone.chain(3).heard().len(), 3, "of each the last");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_one_of_four_gone_it_goes_on_and_with_two_it_waits() {
    let mut zone = start(4);
    zone.add(0, 1, 0).await;
    zone.down(3).await;
    zone.add(0, 1, 1).await;
    zone.add(1, 2, 0).await;
    zone.down(2).await;
    let stuck = zone.hand_in(0, 1, 2);
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
    zone.add(2, 1, 3).await;
    assert_eq!(counter(&zone.chain(2).state().unwrap(), 1), 4);
    zone.agree().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_validator_was_handed_is_not_lost_with_its_turn_or_its_connections() {
    let mut zone = start(4);
    zone.add(0, 1, 0).await;
    // Nobody hears of these but two, who cannot make a block alone.
    zone.down(1).await;
    zone.down(2).await;
    let pending = [zone.hand_in(3, 1, 1), zone.hand_in(3, 1, 2), zone.hand_in(0, 2, 0)];
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
