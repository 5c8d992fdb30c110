//! Who is seated: D'Hondt over the operators' deposits, less than a third for each. Spec: `docs/specs/stake.md` §8.
//!
//! Guarantees: pure; the result depends on the set of contenders, not on their order; exact arithmetic for any amounts; no
//! operator has a third of the seats. It knows no state.

use pasture_types::{AccountId, Amount, NodeId};
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// From so many seats on, less than a third of them can be one operator's.
pub const LEAST_SEATS: usize = 4;
/// Most seats of a term, whatever the parameter says: an election compares so many times the contenders.
pub const MAX_SEATS: usize = pasture_types::validator::MAX_SEATS as usize;

/// Who stands for election.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Contender {
    /// Its key.
    pub validator: NodeId,
    /// Whose it is.
    pub operator: AccountId,
    /// Its deposit.
    pub bond: Amount,
}

/// Most seats of one operator: less than a third.
#[must_use]
pub const fn operator_cap(seats: usize) -> usize {
    seats.saturating_sub(1) / 3
}

struct Party {
    operator: AccountId,
    votes: Amount,
    /// Most seats it can fill: its validators, within the cap.
    most: usize,
    seats: usize,
    /// Its validators, the largest deposit first.
    list: Vec<Contender>,
}

impl Party {
    /// Compares `votes / (seats + 1)` exactly: whole parts first, then the remainders, which are small.
    fn compare(&self, other: &Self) -> Ordering {
        let (a, b) = (self.seats as u128 + 1, other.seats as u128 + 1);
        let whole = (self.votes.0 / a).cmp(&(other.votes.0 / b));
        let rest = || (self.votes.0 % a * b).cmp(&(other.votes.0 % b * a));
        // A tie goes to who has fewer seats, then to the lower id.
        whole.then_with(rest).then_with(|| other.seats.cmp(&self.seats)).then_with(|| other.operator.cmp(&self.operator))
    }
}

/// The seats of a term, by key; none if not even four can be filled under the cap.
#[must_use]
pub fn elect(contenders: &[Contender], most_seats: usize) -> Vec<Contender> {
    let mut by_operator: BTreeMap<AccountId, Vec<Contender>> = BTreeMap::new();
    for c in contenders {
        by_operator.entry(c.operator).or_default().push(*c);
    }
    let mut parties: Vec<Party> = by_operator
        .into_iter()
        .map(|(operator, mut list)| {
            list.sort_by(|a, b| b.bond.cmp(&a.bond).then_with(|| a.validator.cmp(&b.validator)));
            list.dedup_by_key(|c| c.validator);
            let votes = list.iter().fold(Amount::ZERO, |a, c| a.saturating_add(c.bond));
            Party { operator, votes, most: 0, seats: 0, list }
        })
        .collect();
    let all: usize = parties.iter().map(|p| p.list.len()).sum();
    // The largest number of seats that can be filled while nobody has a third of them.
    let fills = |n: &usize| parties.iter().map(|p| p.list.len().min(operator_cap(*n))).sum::<usize>() >= *n;
    let Some(seats) = (LEAST_SEATS..=all.min(most_seats).min(MAX_SEATS)).rev().find(fills) else { return Vec::new() };
    for party in &mut parties {
        party.most = party.list.len().min(operator_cap(seats));
    }
    for _ in 0..seats {
        let next = parties.iter_mut().filter(|p| p.seats < p.most).max_by(|a, b| a.compare(b));
        if let Some(party) = next {
            party.seats += 1;
        }
    }
    let mut seated: Vec<Contender> = parties.into_iter().flat_map(|p| p.list.into_iter().take(p.seats)).collect();
    seated.sort_unstable();
    seated
}
