//! What the validator tables hold. Public, so that the gateway and the engine's side read the same records.
//!
//! Guarantees: a validator's deposit, what of it is on its way back included, is money and is counted by `check`.

use crate::stake::{Jail, Tranche};
use borsh::{BorshDeserialize, BorshSerialize};
use pasture_types::event::Hash32;
use pasture_types::validator::Seating;
use pasture_types::{AccountId, Amount, NodeId, Timestamp};
use serde::{Deserialize, Serialize};

/// A validator, seated or not.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize)]
pub struct Validator {
    /// Its consensus key, which is also its node's id.
    pub id: NodeId,
    /// Its BLS12-381 public key for the randomness.
    #[serde(skip_serializing)]
    pub bls_key: Vec<u8>,
    /// The proof that it holds that key.
    #[serde(skip_serializing)]
    pub bls_pop: Vec<u8>,
    /// Whose it is.
    pub operator: AccountId,
    /// Its deposit.
    pub bond: Amount,
    /// What of it is on its way back, first due first.
    pub leaving: Vec<Tranche>,
    /// Its suspension.
    pub jail: Option<Jail>,
    /// What was forfeited, in all.
    pub forfeited: Amount,
    /// Since when.
    pub registered_at: Timestamp,
    /// When the first part of its deposit is free, less halts.
    pub timer_shifted: Option<Timestamp>,
}

/// A seat of a term.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Seat {
    /// Who sits.
    pub validator: NodeId,
    /// Whose it is.
    pub operator: AccountId,
    /// Its deposit when the term began.
    pub bond: Amount,
}

/// A term: who orders blocks, and since when.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct SeatTerm {
    /// Its number; terms count from the genesis by time, and one without a block is left out.
    pub number: u64,
    /// The block time at which it began.
    pub began_at: Timestamp,
    /// Its seats order blocks above this height.
    pub height: u64,
    /// How its seats were found.
    pub seating: Seating,
    /// Its seats, by key.
    pub seats: Vec<Seat>,
}

/// One block's part of the randomness.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Beacon {
    /// Who proposed it.
    pub proposer: NodeId,
    /// Its randomness: that of its parent mixed with its proposer's unique signature.
    pub randomness: Hash32,
}

/// Who decides what a block holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ordering {
    /// One validator: it is trusted not to leave transactions out.
    TrustedSequencer,
    /// Several that the genesis or a vote named, or one operator with a third of the seats or more.
    Permissioned,
    /// At least four, elected by stake, no operator with a third of them.
    ByStake,
}
