//! Terms of the engine: who certifies changes by transactions, while everybody runs.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests: clippy.toml exempts test functions only"
)]

mod common;

use common::zone::{A_WHILE, CLERK, SOON, Zone, soon};
use common::{ADD, CANDIDATES, Counter, Members, PUT, SEATS, after, counter, options, tx};
use pasture_chain::{Chain, Entries, Genesis, Handover, Identity, Options, StoredState, stored_state};
use pasture_types::state::StateRead as _;
use std::collections::BTreeSet;
use std::num::NonZeroU64;
use std::sync::Arc;

/// Short, so that a test sees several terms.
const TERM_BLOCKS: u64 = 8;
/// The first of `count` found it and run.
fn start(founders: u8, count: u8) -> Zone {
    Zone::start(Members::founded_by(founders, count, TERM_BLOCKS), usize::from(founders))
}

fn key(number: u8) -> [u8; 32] {
    Identity::from_secret(&[number; 32]).unwrap().public_key()
}

/// The first height of the term after that of `height`.
fn next_term(height: u64) -> u64 {
    (height / TERM_BLOCKS + 1) * TERM_BLOCKS
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_validator_passes_from_term_to_term_and_over_restarts_between() {
    let dir = tempfile::tempdir().unwrap();
    let of_four = |genesis: Genesis| Genesis { term_blocks: NonZeroU64::new(4).unwrap(), ..genesis };
    let start = || {
        let usual = options(dir.path());
        Chain::start(Options { genesis: of_four(usual.genesis.clone()), ..usual }, Arc::new(Counter)).unwrap()
    };
    let mut chain = start();
    for seq in 0..20u64 {
        // Restarted before the end of a term, at it, and after it.
        if seq > 0 && seq % 3 == 0 {
            chain.shutdown(SOON).await.unwrap();
            chain = start();
        }
        let height = soon(chain.submit(tx(1, 0, seq, ADD, b"")).unwrap()).await;
        let block = chain.block(height).await.unwrap().unwrap();
        assert_eq!(block.header.term, height / 4, "at {height}");
        assert_eq!(block.header.validators, block.header.next_validators);
    }
    assert_eq!(counter(&chain.state().unwrap(), 1), 20);
    let status = chain.status();
    assert!(status.seated && status.term == (status.height + 1) / 4, "{status:?}");
    let head = chain.state().unwrap().header().clone();
    assert_eq!(chain.handovers(head.validators, 10).await.unwrap(), Some(vec![]), "the same validators all the time");
    assert_eq!(chain.handovers([1; 32], 10).await.unwrap(), None, "never seen");
    chain.shutdown(SOON).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_validator_with_nothing_to_do_lets_in_who_stands_and_is_idle_again() {
    let mut zone = start(1, 2);
    zone.up_naming(1, &[0, 1]);
    let height = zone.write(0, CANDIDATES, &[2]).await;
    // The end of the term comes without another transaction, and the newcomer after it.
    zone.until_height(1, next_term(height) - 1).await;
    assert!(!zone.chain(1).status().seated);
    let rests = zone.agree().await;
    let mut blocks = zone.chain(0).subscribe();
    assert!(tokio::time::timeout(A_WHILE, blocks.next()).await.is_err(), "blocks go on after {rests}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seat_goes_to_another_validator_at_the_end_of_a_term_while_all_run() {
    let mut zone = start(4, 5);
    // It is told of one only, and may not connect before the ledger says who it is.
    zone.up_naming(4, &[0, 4]);
    let height = zone.write(0, CANDIDATES, &[5]).await;
    zone.until_height(4, height).await;
    assert!(!zone.chain(4).status().seated);
    let height = zone.write(1, SEATS, &[1, 2, 3, 5]).await;
    for index in 0..5 {
        zone.until_height(index, next_term(height) + 4).await;
        assert_eq!(zone.chain(index).status().seated, index != 3, "node {index}");
        assert_eq!(zone.chain(index).status().validators, 4);
    }
    assert!(!zone.proposers(0, 3).await.contains(&key(4)));
    // Three of the four new ones are enough, and they need the new one: so the set is the new one.
    zone.down(3).await;
    zone.down(0).await;
    zone.add(4, 1, 0).await;
    zone.add(1, 1, 1).await;
    assert!(zone.proposers(4, 6).await.contains(&key(5)));
    zone.down(2).await;
    let waits = zone.chain(4).submit(tx(1, 0, 2, ADD, b"")).unwrap();
    assert!(tokio::time::timeout(A_WHILE, waits.finalized()).await.is_err(), "two of four made a block");
    // All of them are back, with what they have on disk.
    for index in [0, 2, 3] {
        zone.up(index);
    }
    zone.until(3, "the third transaction", |chain| counter(&chain.state().unwrap(), 1) == 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn others_take_over_altogether_and_a_newcomer_follows_the_history_to_them() {
    let mut zone = start(4, 9);
    let height = zone.write(0, CANDIDATES, &[5, 6, 7, 8, 9]).await;
    for index in 4..8 {
        zone.up(index);
    }
    for index in 4..8 {
        zone.until_height(index, height).await;
    }
    let founders = zone.chain(0).state().unwrap().header().validators;
    let height = zone.write(0, SEATS, &[5, 6, 7, 8]).await;
    for index in 0..8 {
        zone.until_height(index, next_term(height) + 2).await;
    }
    for index in 0..4 {
        assert!(!zone.chain(index).status().seated);
        zone.down(index).await;
    }
    zone.add(5, 1, 0).await;
    // The newcomer knows the founders from the genesis, of whom nobody is there, and the address of one of today's.
    zone.up_naming(8, &[6, 8]);
    zone.until(8, "the history", |chain| counter(&chain.state().unwrap(), 1) == 1).await;
    let handovers = zone.chain(8).handovers(founders, 10).await.unwrap().unwrap();
    let [Handover { header, certificate, validators }] = &handovers[..] else { panic!("{handovers:?}") };
    assert_eq!((header.validators, header.height + 1), (founders, next_term(height)));
    assert!(!certificate.is_empty());
    assert_eq!(validators.iter().map(|v| v.key).collect::<BTreeSet<_>>(), (5..9).map(key).collect());
    assert_eq!(zone.chain(8).handovers(header.next_validators, 10).await.unwrap(), Some(vec![]));
    // It is seated and needed like the rest.
    let height = zone.write(7, SEATS, &[5, 6, 7, 9]).await;
    zone.until_height(8, next_term(height) + 2).await;
    zone.down(7).await;
    zone.down(5).await;
    zone.add(8, 2, 0).await;
    // After a restart of all of them it is the same.
    for index in [4, 6, 8] {
        zone.down(index).await;
    }
    for index in [4, 6, 8] {
        zone.up(index);
    }
    zone.add(6, 2, 1).await;
    assert_eq!(zone.chain(6).handovers(founders, 10).await.unwrap().unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_validator_alone_hands_over_although_nothing_else_happens() {
    let mut zone = start(1, 2);
    zone.write(0, CANDIDATES, &[2]).await;
    zone.up_naming(1, &[0, 1]);
    let height = zone.write(0, SEATS, &[1, 2]).await;
    for index in 0..2 {
        zone.until_height(index, next_term(height)).await;
        zone.until(index, "two seats", |chain| chain.status().seated && chain.status().validators == 2).await;
    }
    zone.add(1, 1, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_lost_what_it_signed_signs_from_the_next_term_on() {
    let mut zone = start(4, 4);
    let height = zone.add(0, 1, 0).await;
    zone.down(0).await;
    let after = zone.add(1, 1, 1).await;
    let now = zone.chain(1).state().unwrap().header().timestamp_ms;
    let options = Options { signs_from_ms: now, ..zone.members.options(0, &zone.dir(0)) };
    zone.begin(0, options);
    zone.until_height(0, after).await;
    let next = next_term(after);
    zone.until_height(1, next + TERM_BLOCKS).await;
    let chain = zone.chain(1);
    for at in height + 1..next {
        assert_ne!(chain.block(at).await.unwrap().unwrap().header.proposer, key(1), "at {at}");
    }
    let mut later = BTreeSet::new();
    for at in next..=next + TERM_BLOCKS {
        later.insert(chain.block(at).await.unwrap().unwrap().header.proposer);
    }
    assert!(later.contains(&key(1)));
}

/// A run that goes on from where another ended.
fn carried(from: &StoredState, options: Options) -> Options {
    Options { genesis: Genesis { validators: from.next.clone(), base: Some(after(from)), ..options.genesis.clone() }, ..options }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_chain_says_who_took_over_from_whom_and_they_go_on_with_its_state_in_later_terms() {
    let mut zone = start(1, 3);
    zone.write(0, CANDIDATES, &[2, 3]).await;
    for index in [1, 2] {
        zone.up_naming(index, &[0, 1, 2]);
    }
    let height = zone.write(0, SEATS, &[1, 2]).await;
    zone.until_height(1, next_term(height)).await;
    let height = zone.write(0, SEATS, &[2]).await;
    // Alone it makes no block for nothing.
    zone.until_height(1, next_term(height) - 1).await;
    zone.add(1, 1, 0).await;
    let known = zone.chain(1).handovers(zone.chain(1).block(1).await.unwrap().unwrap().header.validators, 10).await.unwrap().unwrap();
    for index in 0..3 {
        zone.down(index).await;
    }
    let options = zone.members.options(1, &zone.dir(1));
    let stored = stored_state(&zone.dir(1), &options.genesis).unwrap();
    assert_eq!((stored.handovers.len(), &stored.handovers), (2, &known));
    assert_eq!(stored.next.iter().map(|v| v.key).collect::<Vec<_>>(), [key(2)]);
    // Each is what a light client follows.
    let set = |validators: &[pasture_chain::Validator]| {
        let member = |v: &pasture_chain::Validator| pasture_light::Validator { key: v.key, bls_key: v.bls_key.clone().try_into().unwrap() };
        pasture_light::ValidatorSet::new(options.genesis.zone, validators.iter().map(member).collect()).unwrap()
    };
    let mut trusted = set(&options.genesis.validators);
    for Handover { header, certificate, validators } in &stored.handovers {
        let header = header.encode().try_into().unwrap();
        trusted = trusted.follow(&pasture_light::Handover { header, certificate: certificate.clone(), next: set(validators) }).unwrap();
    }
    let headers = stored.finality.headers.iter().map(|h| h.encode().try_into().unwrap()).collect::<Vec<_>>();
    let (last, _) = pasture_light::verify_header(&trusted, &headers, &stored.finality.certificate).unwrap();
    assert_eq!(last.height, stored.header().height);

    // The one that was left goes on alone, and hands over in turn.
    let mut entries: Entries = vec![];
    stored.state.each(&mut |key, value| entries.push((key.to_vec(), value.to_vec())));
    let begin = |index: usize, name: &str| carried(&stored, zone.members.options(index, &zone.root.path().join(name)));
    let machine = Arc::new(common::Carried(Ok(entries)));
    let two = Chain::start(begin(1, "again"), machine.clone()).unwrap();
    assert_eq!((counter(&two.state().unwrap(), 1), two.status().term), (1, stored.header().term + 1));
    soon(two.submit(tx(1, 0, 1, ADD, b"")).unwrap()).await;
    let three = Chain::start(begin(2, "newcomer"), machine).unwrap();
    let until = async |holds: &dyn Fn() -> bool| {
        let mut blocks = three.subscribe();
        while !holds() {
            tokio::time::timeout(SOON, blocks.next()).await.unwrap().unwrap();
        }
    };
    until(&|| counter(&three.state().unwrap(), 1) == 2).await;
    let clerk = zone.clerk;
    let height = soon(two.submit(tx(CLERK, 0, clerk, PUT, &[SEATS, 3])).unwrap()).await;
    until(&|| three.status().seated).await;
    let last = soon(three.submit(tx(1, 0, 2, ADD, b"")).unwrap()).await;
    assert!(last > height && three.state().unwrap().get(&common::named_key(SEATS)).is_some());
    let header = three.block(last).await.unwrap().unwrap().header;
    assert!(header.term > stored.header().term && header.base == stored.header().height, "{header:?}");
    for chain in [two, three] {
        chain.shutdown(SOON).await.unwrap();
    }
    let dir = zone.root.path().join("newcomer");
    let options = carried(&stored, zone.members.options(2, &dir));
    let again = stored_state(&dir, &options.genesis).unwrap();
    assert_eq!((again.handovers.len(), again.next[0].key), (1, key(3)));
}
