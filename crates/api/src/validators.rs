//! Who orders blocks, who would like to, and what stands behind them.
//!
//! Guarantees: amounts are nano-credits as decimal strings, times are milliseconds and include the halts so far. Who is elected is the
//! ledger's to say (`docs/specs/stake.md` §8); nothing is worked out here.

use crate::deposit::{Leaving, SuspensionView};
use pasture_types::validator::Seating;
use pasture_types::{AccountId, Amount, Height, Millis, NodeId, Timestamp};
use serde::{Deserialize, Serialize};

/// Validators of a network.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ValidatorsView {
    /// Height of the last final block.
    pub height: Height,
    /// Its time.
    pub time: Timestamp,
    /// The validator that answers.
    pub this: ThisValidator,
    /// The term of now.
    pub term: TermView,
    /// Most seats of a term.
    pub seats: u32,
    /// Whether seats are elected at all: from four seats on.
    pub elections: bool,
    /// The least deposit with which a validator stands for election.
    pub min_bond: Amount,
    /// How long a deposit that is taken back still answers.
    pub unbond_delay: Millis,
    /// Those who are seated, then those who stand, then the others; each by deposit, the largest first.
    pub validators: Vec<ValidatorView>,
    /// Whether there are more than are listed.
    pub more: bool,
}

/// The validator that answers, as its engine is now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ThisValidator {
    /// Its public key.
    pub key: NodeId,
    /// Whether it is one of those who certify the next block. The engine takes new seats over a few blocks after the ledger.
    pub certifies: bool,
    /// How many certify the next block.
    pub certifiers: u32,
    /// The engine's term: a number of blocks, at whose end those who certify may change.
    pub engine_term: u64,
    /// How many others it is connected with.
    pub peers: u32,
}

/// A term.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TermView {
    /// Its number.
    pub number: u64,
    /// The time of the block that began it.
    pub began: Timestamp,
    /// Its seats order blocks above this height.
    pub height: Height,
    /// From when on a block begins the next one.
    pub ends: Timestamp,
    /// How its seats were found.
    pub seating: Seating,
    /// How many seats it has.
    pub seats: u32,
    /// Blocks that were proposed in it so far; not counted while one validator sits.
    pub blocks: u64,
}

/// A validator.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ValidatorView {
    /// Its public key.
    pub key: NodeId,
    /// Whose it is.
    pub operator: AccountId,
    /// Its deposit.
    pub bond: Amount,
    /// What of it is on its way back.
    pub leaving: Vec<Leaving>,
    /// What was forfeited, in all.
    pub forfeited: Amount,
    /// Whether it has a seat in this term.
    pub seated: bool,
    /// Whether it stands for election.
    pub stands: bool,
    /// Blocks that it proposed in this term.
    pub proposed: u64,
    /// Its suspension.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspended: Option<SuspensionView>,
    /// Since when it is known.
    pub registered: Timestamp,
}

impl ValidatorsView {
    /// The validator with this key.
    #[must_use]
    pub fn of(&self, key: &NodeId) -> Option<&ValidatorView> {
        self.validators.iter().find(|v| v.key == *key)
    }
}

impl TermView {
    /// Blocks that a seat proposes on average in this term so far, rounded down.
    #[must_use]
    pub const fn share(&self) -> u64 {
        match self.blocks.checked_div(self.seats as u64) {
            Some(share) => share,
            None => 0,
        }
    }
}
