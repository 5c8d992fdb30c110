//! What the deposit tables hold. Public, so that the gateway reads the same records that the rules write.
//!
//! Guarantees: every amount in here but rates and needs is money and is counted by `check`.

use borsh::{BorshDeserialize, BorshSerialize};
use pasture_types::stake::Fault;
use pasture_types::{AccountId, Amount, NodeId, Timestamp};
use serde::{Deserialize, Serialize};

/// Part of a deposit on its way back; it still answers for what was done under it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Tranche {
    /// How much.
    pub amount: Amount,
    /// When it is free, less halts.
    pub release_shifted: Timestamp,
}

/// A suspension; it lasts until its owner ends it after this time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Jail {
    /// Until when at least, less halts.
    pub until_shifted: Timestamp,
    /// Why.
    pub fault: Fault,
}

/// Whether a provider began without a deposit.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// It did not.
    #[default]
    Deposit,
    /// It did, and its earnings are kept back for the least deposit.
    Newcomer,
    /// It did, and committed a fault: it needs its deposit now, for which its earnings are still kept back.
    Owing,
    /// It did, and has had its deposit since or left; nobody begins twice.
    Over,
}

/// What stands behind a provider besides its own deposit, and what its leases need of it. Part of its record, so that a draw
/// reads one record for it.
#[derive(Clone, PartialEq, Eq, Default, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Bond {
    /// What sponsors posted and have not taken back.
    pub sponsored: Amount,
    /// Sponsors, those on their way out included.
    pub sponsors: u32,
    /// Its own deposit on its way back, first due first.
    pub leaving: Vec<Tranche>,
    /// The deposit that its open leases need.
    pub locked: Amount,
    /// The hourly rate of its open leases.
    pub rate_per_hour: Amount,
    /// Its suspension.
    pub jail: Option<Jail>,
    /// How it began.
    pub start: Start,
    /// What was kept back from earnings, in all.
    pub withheld: Amount,
    /// What was forfeited by it or for it, in all.
    pub forfeited: Amount,
    /// When the first tranche, its own or a sponsor's, is due, less halts.
    pub timer_shifted: Option<Timestamp>,
}

/// What somebody posted for a provider.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Sponsorship {
    /// For whom.
    pub provider: AccountId,
    /// Who.
    pub sponsor: AccountId,
    /// What stands.
    pub amount: Amount,
    /// What is on its way back, first due first.
    pub leaving: Vec<Tranche>,
}

/// What a node holds of its provider's deposit, and its own suspension.
#[derive(Clone, PartialEq, Eq, Default, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct NodeBond {
    /// The hourly rate of its open leases, in credits.
    pub rate_per_hour: Amount,
    /// The deposit that they need.
    pub locked: Amount,
    /// Its suspension.
    pub jail: Option<Jail>,
}

/// What an open lease needs of the deposit behind it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct LeaseNeed {
    /// Whose deposit.
    pub provider: AccountId,
    /// On which node.
    pub node: NodeId,
    /// Its rate per hour, in credits.
    pub rate_per_hour: Amount,
    /// The deposit it needs.
    pub needs: Amount,
}

/// What the treasury set aside for a newcomer's first fees; it stays when it is used up, since nobody gets it twice.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct FeeGrant {
    /// For whom.
    pub account: AccountId,
    /// What is left.
    pub left: Amount,
    /// When the rest returns to the treasury, less halts.
    pub timer_shifted: Option<Timestamp>,
}

/// How many newcomers began.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct NewcomerCount {
    /// The day that is counted.
    pub day: u64,
    /// What the treasury set aside on it.
    pub fees: Amount,
    /// The block that is counted.
    pub height: u64,
    /// Stamps in it.
    pub stamps: u32,
}
