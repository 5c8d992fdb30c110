//! Reads of validators, seats and randomness, for the gateway, the engine's side and tests.
//!
//! Guarantees: reads only, bounded. It shows the state as it is.

pub use super::election::{Contender, LEAST_SEATS, MAX_SEATS, elect, operator_cap};
pub use super::records::{Beacon, Ordering, Seat, SeatTerm, Validator};
use super::{PROPOSED, VALIDATORS, beacon, terms};
use crate::tables::{get, key, keys_with, tail_id};
use pasture_types::state::StateRead;
use pasture_types::{NodeId, Timestamp};
use std::collections::BTreeMap;

/// A validator's record.
#[must_use]
pub fn validator(s: &dyn StateRead, id: &NodeId) -> Option<Validator> {
    super::validator(s, id)
}

/// The last term of the engine for which a validator was punished for contradicting itself.
#[must_use]
pub fn accused(s: &dyn StateRead, id: &NodeId) -> Option<u64> {
    super::faults::accused(s, id)
}

/// Who stands for election.
#[must_use]
pub fn standing(s: &dyn StateRead) -> Vec<Validator> {
    super::standing(s)
}

/// Every validator that was ever registered, by key, at most so many.
#[must_use]
pub fn all(s: &dyn StateRead, most: usize) -> Vec<Validator> {
    keys_with(s, &[VALIDATORS], most).iter().filter_map(|k| super::validator(s, &NodeId(tail_id(k)?))).collect()
}

/// Whether a validator stands for election.
#[must_use]
pub fn stands(s: &dyn StateRead, id: &NodeId) -> bool {
    s.get(&super::standing_key(id)).is_some()
}

/// Blocks that a validator proposed in the term of now; nobody's are counted while one validator sits.
#[must_use]
pub fn proposed(s: &dyn StateRead, id: &NodeId) -> u64 {
    get(s, &key(PROPOSED, &[&id.0])).unwrap_or(0)
}

/// From when on a block begins the next term.
#[must_use]
pub fn term_ends(s: &dyn StateRead) -> Option<Timestamp> {
    terms::ends(&crate::tables::zone(s)?, &terms::current(s)?)
}

/// The term of now.
#[must_use]
pub fn term(s: &dyn StateRead) -> Option<SeatTerm> {
    terms::current(s)
}

/// A term that is over, while it is kept.
#[must_use]
pub fn past_term(s: &dyn StateRead, number: u64) -> Option<SeatTerm> {
    terms::past(s, number)
}

/// Who decides what a block holds.
#[must_use]
pub fn ordering(s: &dyn StateRead) -> Option<Ordering> {
    let term = terms::current(s)?;
    if term.seats.len() <= 1 {
        return Some(Ordering::TrustedSequencer);
    }
    let mut by_operator = BTreeMap::new();
    for seat in &term.seats {
        *by_operator.entry(seat.operator).or_insert(0usize) += 1;
    }
    let spread = by_operator.values().all(|n| *n <= operator_cap(term.seats.len()));
    // Only an election gives seats to deposits; seats that are kept from one are still those that it gave.
    let elected = term.seats.len() >= LEAST_SEATS && term.seats.iter().all(|x| !x.bond.is_zero());
    Some(if elected && spread { Ordering::ByStake } else { Ordering::Permissioned })
}

/// A block's part of the randomness, while it is kept.
#[must_use]
pub fn beacon_of(s: &dyn StateRead, height: u64) -> Option<Beacon> {
    beacon::beacon(s, height)
}

/// The randomness for draws about what block `height` committed, once enough proposers have followed it.
#[must_use]
pub fn mix_after(s: &dyn StateRead, height: u64) -> Option<[u8; 32]> {
    beacon::mix_after(s, height)
}
