//! The pool's decisions: order, gaps, limits, expiry.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests: clippy.toml exempts test functions only"
)]

use bytes::Bytes;
use pasture_chain::Admission;
use pasture_chain::mempool::{BlockLimits, Inserted, Limits, Mempool, Origin, Refused, TxId};
use std::collections::HashSet;

const ALL: BlockLimits = BlockLimits { count: 1_000, bytes: 1 << 20, cost_us: 1_000_000 };

fn id(sender: u8, lane: u8, seq: u64) -> TxId {
    let mut id = [0; 32];
    id[0] = sender;
    id[1] = lane;
    id[2..10].copy_from_slice(&seq.to_be_bytes());
    id
}

fn admission(sender: u8, lane: u8, seq: u64, next_seq: u64) -> Admission {
    Admission { id: id(sender, lane, seq), sender: [sender; 32], lane, seq, next_seq, expires_ms: 1_000, tip: 0, cost_us: 10 }
}

fn add(pool: &mut Mempool, sender: u8, lane: u8, seq: u64) {
    assert_eq!(pool.insert(&admission(sender, lane, seq, 0), Bytes::from(vec![0; 100]), Origin::Here, 0), Ok(Inserted::New));
}

fn selected(pool: &Mempool, limits: BlockLimits, carried: &[TxId]) -> Vec<TxId> {
    pool.select(limits, &carried.iter().copied().collect::<HashSet<_>>()).into_iter().map(|(id, _)| id).collect()
}

#[test]
fn a_lane_comes_out_in_sequence_and_a_gap_waits() {
    let mut pool = Mempool::new(Limits::default());
    for seq in [2, 0, 4, 1] {
        add(&mut pool, 1, 0, seq);
    }
    assert_eq!(selected(&pool, ALL, &[]), [id(1, 0, 0), id(1, 0, 1), id(1, 0, 2)]);
    add(&mut pool, 1, 0, 3);
    assert_eq!(selected(&pool, ALL, &[]).len(), 5);
}

#[test]
fn what_unfinal_blocks_carry_is_not_offered_again() {
    let mut pool = Mempool::new(Limits::default());
    for seq in 0..4 {
        add(&mut pool, 1, 0, seq);
    }
    let carried = [id(1, 0, 0), id(1, 0, 1)];
    assert_eq!(selected(&pool, ALL, &carried), [id(1, 0, 2), id(1, 0, 3)]);
    let all: HashSet<_> = (0..4).map(|seq| id(1, 0, seq)).collect();
    assert!(!pool.has_ready(&all));
    // The blocks never became final: everything is still there.
    assert_eq!(selected(&pool, ALL, &[]).len(), 4);
    pool.finalized(&id(1, 0, 0));
    pool.finalized(&id(1, 0, 1));
    assert_eq!(selected(&pool, ALL, &[]), [id(1, 0, 2), id(1, 0, 3)]);
}

#[test]
fn the_higher_tip_goes_first_then_the_earlier() {
    let mut pool = Mempool::new(Limits::default());
    add(&mut pool, 1, 0, 0);
    add(&mut pool, 2, 0, 0);
    let rich = Admission { tip: 5, ..admission(3, 0, 0, 0) };
    pool.insert(&rich, Bytes::from_static(b"x"), Origin::Here, 0).unwrap();
    assert_eq!(selected(&pool, ALL, &[]), [id(3, 0, 0), id(1, 0, 0), id(2, 0, 0)]);
    // A tip does not overtake within its lane.
    let next = Admission { tip: 9, ..admission(1, 0, 1, 0) };
    pool.insert(&next, Bytes::from_static(b"y"), Origin::Here, 0).unwrap();
    assert_eq!(selected(&pool, ALL, &[]), [id(3, 0, 0), id(1, 0, 0), id(1, 0, 1), id(2, 0, 0)]);
}

#[test]
fn every_limit_refuses() {
    let limits = Limits { count: 4, bytes: 1_000, per_account: 2, per_peer: 9, seq_ahead: 5, tx_bytes: 400 };
    let mut pool = Mempool::new(limits);
    let mut insert = |a: Admission, len: usize| pool.insert(&a, Bytes::from(vec![0; len]), Origin::Here, 0);
    assert_eq!(insert(admission(1, 0, 0, 0), 401), Err(Refused::Large));
    assert_eq!(insert(admission(1, 0, 6, 0), 1), Err(Refused::Ahead));
    assert_eq!(insert(admission(1, 0, 6, 7), 1), Err(Refused::Past));
    assert_eq!(insert(admission(1, 0, 0, 0), 1), Ok(Inserted::New));
    assert_eq!(insert(admission(1, 0, 0, 0), 1), Ok(Inserted::Known));
    let rival = Admission { id: [9; 32], ..admission(1, 0, 0, 0) };
    assert_eq!(insert(rival, 1), Err(Refused::Taken));
    assert_eq!(insert(admission(1, 1, 0, 0), 1), Ok(Inserted::New));
    assert_eq!(insert(admission(1, 2, 0, 0), 1), Err(Refused::AccountFull));
    assert_eq!(insert(admission(2, 0, 0, 0), 400), Ok(Inserted::New));
    assert_eq!(insert(admission(3, 0, 0, 0), 400), Ok(Inserted::New));
    assert_eq!(insert(admission(4, 0, 0, 0), 1), Err(Refused::Full));
    pool.remove(&id(3, 0, 0));
    assert!(!pool.contains(&id(3, 0, 0)));
    assert_eq!(pool.insert(&admission(4, 0, 0, 0), Bytes::from(vec![0; 300]), Origin::Here, 0), Ok(Inserted::New));
}

#[test]
fn a_block_respects_count_bytes_and_cost() {
    let mut pool = Mempool::new(Limits::default());
    for sender in 0..10 {
        add(&mut pool, sender, 0, 0);
    }
    assert_eq!(selected(&pool, BlockLimits { count: 3, ..ALL }, &[]).len(), 3);
    assert_eq!(selected(&pool, BlockLimits { bytes: 450, ..ALL }, &[]).len(), 4);
    assert_eq!(selected(&pool, BlockLimits { cost_us: 25, ..ALL }, &[]).len(), 2);
    assert_eq!(selected(&pool, BlockLimits { cost_us: 1, ..ALL }, &[]).len(), 1, "an expensive one gets a block of its own");
}

#[test]
fn expiry_removes_in_time_and_frees_room() {
    let mut pool = Mempool::new(Limits { count: 2, ..Limits::default() });
    add(&mut pool, 1, 0, 0);
    let later = Admission { expires_ms: 2_000, ..admission(2, 0, 0, 0) };
    pool.insert(&later, Bytes::new(), Origin::Here, 0).unwrap();
    assert_eq!(pool.next_expiry(), Some(1_000));
    assert!(pool.expire(1_000).is_empty(), "it may still be in a block of this very time");
    assert_eq!(pool.expire(1_001), [id(1, 0, 0)]);
    assert_eq!((pool.len(), pool.next_expiry()), (1, Some(2_000)));
    add(&mut pool, 1, 0, 0);
}

#[test]
fn one_validator_does_not_fill_the_pool_of_another() {
    let mut pool = Mempool::new(Limits { per_peer: 2, ..Limits::default() });
    let mut hear = |sender: u8, peer: u8| pool.insert(&admission(sender, 0, 0, 0), Bytes::from_static(b"x"), Origin::Peer([peer; 32]), 0);
    assert_eq!((hear(1, 7), hear(2, 7)), (Ok(Inserted::New), Ok(Inserted::New)));
    assert_eq!(hear(3, 7), Err(Refused::PeerFull));
    assert_eq!(hear(3, 8), Ok(Inserted::New), "another one has room of its own");
    assert_eq!(hear(1, 8), Ok(Inserted::Known));
    // What is handed in here too is nobody else's any more.
    assert_eq!(pool.insert(&admission(1, 0, 0, 0), Bytes::from_static(b"x"), Origin::Here, 0), Ok(Inserted::Known));
    assert_eq!(pool.insert(&admission(4, 0, 0, 0), Bytes::from_static(b"x"), Origin::Peer([7; 32]), 0), Ok(Inserted::New));
    pool.remove(&id(1, 0, 0));
    pool.remove(&id(2, 0, 0));
    assert_eq!(pool.insert(&admission(5, 0, 0, 0), Bytes::from_static(b"x"), Origin::Peer([7; 32]), 0), Ok(Inserted::New));
}

#[test]
fn what_was_handed_in_here_is_sent_again_and_no_more_often_than_asked() {
    let mut pool = Mempool::new(Limits::default());
    add(&mut pool, 1, 0, 0);
    pool.insert(&admission(2, 0, 0, 0), Bytes::from_static(b"theirs"), Origin::Peer([7; 32]), 0).unwrap();
    pool.insert(&admission(3, 0, 0, 0), Bytes::from_static(b"ours"), Origin::Here, 50).unwrap();
    assert!(pool.stale(99, 100, 1_000).is_empty());
    assert_eq!(pool.stale(100, 100, 1_000), [Bytes::from(vec![0; 100])], "the other is not old enough, the third not ours");
    assert!(pool.stale(120, 100, 1_000).is_empty());
    assert_eq!(pool.stale(500, 100, 10).len(), 1, "no more bytes than asked, but for the first");
    assert_eq!(pool.stale(500, 100, 10), [Bytes::from(vec![0; 100])], "the one that was left");
}

#[test]
fn a_lane_goes_on_after_what_never_waited_here() {
    let mut pool = Mempool::new(Limits::default());
    add(&mut pool, 1, 0, 1);
    add(&mut pool, 2, 0, 0);
    assert_eq!(pool.gaps(), [([1; 32], 0)]);
    assert_eq!(selected(&pool, ALL, &[]), [id(2, 0, 0)]);
    pool.advance([1; 32], 0, 1);
    assert!(pool.gaps().is_empty());
    assert_eq!(selected(&pool, ALL, &[]), [id(1, 0, 1), id(2, 0, 0)]);
    pool.advance([9; 32], 0, 1);
}

fn bid(sender: u8, seq: u64, tip: u128) -> Admission {
    let mut id = id(sender, 0, seq);
    id[16..].copy_from_slice(&tip.to_be_bytes());
    Admission { id, tip, ..admission(sender, 0, seq, 0) }
}

fn offer(pool: &mut Mempool, bid: &Admission, origin: Origin) -> Result<Inserted, Refused> {
    pool.insert(bid, Bytes::from(vec![0; 100]), origin, 0)
}

#[test]
fn a_tip_that_is_a_tenth_higher_takes_the_place_of_another() {
    let mut pool = Mempool::new(Limits { per_account: 2, ..Limits::default() });
    let (low, enough, high) = (bid(1, 0, 100), bid(1, 0, 111), bid(1, 0, 200));
    assert_eq!(offer(&mut pool, &low, Origin::Peer([5; 32])), Ok(Inserted::New));
    assert_eq!(offer(&mut pool, &bid(1, 1, 0), Origin::Here), Ok(Inserted::New));
    assert_eq!(offer(&mut pool, &bid(1, 0, 110), Origin::Here), Err(Refused::Taken));
    // The account's room is full, and a replacement needs none.
    assert_eq!(offer(&mut pool, &enough, Origin::Here), Ok(Inserted::Instead));
    assert_eq!(offer(&mut pool, &high, Origin::Peer([5; 32])), Ok(Inserted::Instead));
    assert_eq!(offer(&mut pool, &high, Origin::Here), Ok(Inserted::Known));
    assert_eq!(offer(&mut pool, &low, Origin::Here), Err(Refused::Taken), "it had its place");
    assert_eq!(pool.len(), 2);
    assert_eq!(selected(&pool, ALL, &[]), [high.id, bid(1, 1, 0).id]);
    // While a block carries one of them, the position is not offered again; if that block fails, it is.
    assert_eq!(selected(&pool, ALL, &[low.id]), [bid(1, 1, 0).id]);
    // Whichever becomes final decides for all of them.
    assert_eq!(pool.finalized(&enough.id), [low.id, high.id]);
    assert_eq!(selected(&pool, ALL, &[]), [bid(1, 1, 0).id]);
    assert!(pool.finalized(&high.id).is_empty());
}

#[test]
fn replacements_are_bounded_and_leave_nothing_behind() {
    let mut pool = Mempool::new(Limits::default());
    let bids: Vec<Admission> = (0..40u32).map(|n| bid(1, 0, 1 << n)).collect();
    let taken: Vec<_> = bids.iter().map(|bid| offer(&mut pool, bid, Origin::Here)).collect();
    assert_eq!(taken.iter().filter(|t| **t == Ok(Inserted::Instead)).count(), 16);
    assert_eq!(taken.last(), Some(&Err(Refused::Taken)));
    assert_eq!((pool.len(), pool.next_expiry()), (1, Some(1_000)));
    assert_eq!(pool.expire(2_000).len(), 17, "all of the position hear that it expired");
    assert!(pool.is_empty() && pool.next_expiry().is_none());
    assert_eq!(offer(&mut pool, &bids[0], Origin::Here), Ok(Inserted::New), "what was replaced is forgotten");
    assert!(pool.remove(&bids[0].id).is_empty());
}
