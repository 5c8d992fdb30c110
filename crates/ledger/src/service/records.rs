//! What the tables of this area hold.
//!
//! Guarantees: borsh, frozen by golden fixtures; none of them holds money: a standby's escrow is in its own lease record.

use borsh::{BorshDeserialize, BorshSerialize};
use pasture_types::{AccountId, Amount, LeaseId, NodeId, PublicKey, Timestamp};
use serde::{Deserialize, Serialize};

/// An observer's report.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Vote {
    /// Which of the lease's observers.
    pub observer: u8,
    /// The epoch that it reported.
    pub epoch: u64,
}

/// That a lease's node is lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Lost {
    /// From when on another node may take over, less halts.
    pub free_shifted: Timestamp,
    /// Observers said so; otherwise its heartbeats are missing.
    pub reported: bool,
}

/// A machine that is kept ready for a lease, or asked to take over.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Standby {
    /// Its own lease record.
    pub lease: LeaseId,
    /// The rate per hour at which it serves once it took over.
    pub full_rate: Amount,
}

/// The failover of one lease.
#[derive(Clone, PartialEq, Eq, Default, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Failover {
    /// A standby is kept: the order says `warm`, and the user has not dismissed it.
    pub warm: bool,
    /// Who may report its node lost: validator keys, drawn for the current generation.
    pub observers: Vec<[u8; 32]>,
    /// What they reported of the current generation.
    pub votes: Vec<Vote>,
    /// Its node is lost.
    pub lost: Option<Lost>,
    /// Its standby.
    pub standby: Option<Standby>,
    /// Standbys drawn so far.
    pub number: u32,
    /// Nodes that were lost, refused, or gave up.
    pub refused: Vec<NodeId>,
    /// Draws that found nobody, in a row.
    pub fruitless: u32,
    /// The height from which it waits for a draw.
    pub draw_from: Option<u64>,
    /// Its timer, less halts.
    pub timer_shifted: Option<Timestamp>,
}

/// Who collects a model's share.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize)]
pub struct Model {
    /// The account.
    pub account: AccountId,
    /// The creator's key.
    #[serde(serialize_with = "as_text")]
    pub key: PublicKey,
    /// The model's manifest names the creator; nobody can take its place.
    pub named: bool,
    /// Since when.
    pub registered_at: Timestamp,
}

fn as_text<S: serde::Serializer>(key: &PublicKey, s: S) -> Result<S::Ok, S::Error> {
    s.collect_str(key)
}
