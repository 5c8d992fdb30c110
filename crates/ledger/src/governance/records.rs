//! What governance keeps: proposals, votes, power at snapshots, the pause. Spec: `docs/specs/governance.md`.
//!
//! Guarantees: borsh, frozen by golden fixtures; the only money held is a proposal's deposit.

use borsh::{BorshDeserialize, BorshSerialize};
use pasture_types::governance::{Change, GovernanceRules, PauseSet, Rejection, VoteChoice};
use pasture_types::{AccountId, Amount, BlobHash, Millis, ProposalId, Timestamp};
use serde::{Deserialize, Serialize};

/// Where a proposal is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum ProposalState {
    /// It is voted on.
    Voting {
        /// Until when, less halts.
        ends_shifted: Timestamp,
    },
    /// It passed and waits.
    Passed {
        /// Until when, less halts.
        executes_shifted: Timestamp,
    },
    /// It did not pass.
    Rejected {
        /// Why.
        why: Rejection,
    },
    /// It is done.
    Executed {
        /// Since when.
        at: Timestamp,
    },
    /// It passed, and could not be done any more.
    Failed {
        /// The error's code.
        code: u16,
        /// When that was.
        at: Timestamp,
    },
}

/// Running sums of a vote.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Tally {
    /// For it.
    pub yes: Amount,
    /// Against it.
    pub no: Amount,
    /// Against it and its deposit.
    pub veto: Amount,
    /// Counts for the quorum only.
    pub abstain: Amount,
}

/// A proposal.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Proposal {
    /// Which.
    pub id: ProposalId,
    /// Its number in the zone, from 1: the moment at which power is counted.
    pub number: u64,
    /// Who made it.
    pub proposer: AccountId,
    /// What it is, in a line.
    pub title: String,
    /// The text that explains it.
    pub text: BlobHash,
    /// What is done if it passes.
    pub changes: Vec<Change>,
    /// When it was made.
    pub opened_at: Timestamp,
    /// In which block.
    pub height: u64,
    /// The rules that this vote is held under.
    pub rules: GovernanceRules,
    /// What it still locks.
    pub deposit: Amount,
    /// All voting power when it was made.
    pub power: Amount,
    /// What was voted so far.
    pub tally: Tally,
    /// How often its end has moved.
    pub extensions: u32,
    /// Where it is.
    pub state: ProposalState,
}

/// An account's vote.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Vote {
    /// How.
    pub choice: VoteChoice,
    /// With what power.
    pub weight: Amount,
}

/// An account's power as it was, for votes that began before it changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct PowerThen {
    /// The last proposal that had been made by then.
    pub number: u64,
    /// The power.
    pub power: Amount,
}

/// How many proposals there are and were.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct GovernanceCounts {
    /// Voted on, or passed and waiting.
    pub open: u32,
    /// The number of the last one ever made.
    pub last: u64,
}

/// The guardian's last pause.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Pause {
    /// What is held back; nothing once it is over.
    pub kinds: PauseSet,
    /// Until when, less halts.
    pub until_shifted: Timestamp,
}

/// What a member of the guardian asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GuardianWish {
    /// A pause.
    Pause {
        /// Of what.
        kinds: PauseSet,
        /// For how long.
        duration: Millis,
    },
    /// Its end.
    Unpause,
}

/// A member's wish, until enough share it or it is forgotten.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct GuardianCall {
    /// What.
    pub wish: GuardianWish,
    /// Until when it counts, less halts.
    pub until_shifted: Timestamp,
}

/// Rules that come into force.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct PendingRules {
    /// Their version.
    pub version: u32,
    /// The first height under them.
    pub height: u64,
}
