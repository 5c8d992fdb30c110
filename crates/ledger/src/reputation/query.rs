//! What is shown of reputation: scores with their parts, so that each can be explained.
//!
//! Guarantees: reads only, as of the last block.

use super::records::{Pair, Rating, Side};
use super::score::Score;
use crate::env::Env;
use crate::tables;
use pasture_types::state::StateRead;
use pasture_types::{AccountId, LeaseId};

/// An account's score in a role, with its parts.
#[must_use]
pub fn reputation(s: &dyn StateRead, role: Side, account: &AccountId) -> Option<Score> {
    Some(super::score_of(s, &Env::load(s)?, role, account))
}

/// What a provider and a user gave each other.
#[must_use]
pub fn reputation_pair(s: &dyn StateRead, provider: &AccountId, user: &AccountId) -> Option<Pair> {
    Some(super::pair(s, &Env::load(s)?, provider, user))
}

/// A lease's rating; it is kept while it can be changed and some time longer.
#[must_use]
pub fn rating(s: &dyn StateRead, lease: &LeaseId) -> Option<Rating> {
    super::rating(s, &tables::lease(s, lease)?)
}
