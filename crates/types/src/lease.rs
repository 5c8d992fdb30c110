//! Leases: their states, the usage that is signed for them, and how they end. Spec: `docs/specs/settlement.md`.
//!
//! ```text
//!  order -> Matched --accept--> Accepted --first usage--> Running --close--> Closing --settle--> Closed
//!              |  no accept in time: next candidate, else the order expires
//!              +--reject--> next candidate, else Closed(Rejected)
//! ```
//! Guarantees: a usage binds lease, generation and epoch, and is cumulative, so that replaying an old one gains nothing.

use crate::ids::derive;
use crate::keys::Signature;
use crate::{AccountId, BlobHash, LeaseId, Millis, NodeId, PublicKey, Timestamp};
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

const USAGE_DOMAIN: &str = "pasture 2026-11 usage v1";
const COUNTER_DOMAIN: &str = "pasture 2026-11 usage countersignature v1";

/// Where a lease is in its life.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LeaseState {
    /// Drawn; the node has until a deadline to accept.
    Matched,
    /// The node took it and prepares the job; nothing is billed yet.
    Accepted,
    /// The first usage is recorded.
    Running,
    /// Ended; waits for its conditions before it settles.
    Closing,
    /// Settled.
    Closed,
}

/// Why a lease ended.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum EndReason {
    /// The job's process ended by itself.
    Exited {
        /// Its exit code (128 + signal when a signal ended it).
        code: i32,
    },
    /// The job was killed for using more memory than it asked for.
    OutOfMemory,
    /// The Dockerfile did not build, or the image could not be had.
    BuildFailed,
    /// The container could not be started.
    StartFailed,
    /// The user stopped it.
    StoppedByUser,
    /// The time or money cap was reached.
    CapReached,
    /// The provider stopped it (drain, shutdown).
    StoppedByProvider,
    /// The node was lost: nothing was heard of it by the lease's end.
    Lost,
    /// The user saw no service any more and closed the lease.
    ServiceStopped,
    /// The node refused the match.
    Rejected,
    /// The job's spec never reached the node.
    NoSpec,
    /// The node turned out to be smaller than it declared; the youngest leases had to go.
    Derated,
    /// The node needed its machine and had given notice.
    Preempted,
    /// The standby took over: it serves the lease itself now.
    TookOver,
}

impl EndReason {
    /// Whether the job itself ran to its end.
    #[must_use]
    pub const fn is_exit(&self) -> bool {
        matches!(self, Self::Exited { .. })
    }
}

/// Cumulative service of a lease as its node measured it.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Usage {
    /// Which lease.
    pub lease: LeaseId,
    /// Which generation of it (fencing token).
    pub generation: u32,
    /// The settlement epoch this reaches into.
    pub epoch: u64,
    /// When the job's process began, in ledger time.
    pub started: Timestamp,
    /// Milliseconds served since then, in all.
    pub served_ms: Millis,
    /// Milliseconds spent building the image, in all; billed beyond the free allowance.
    pub build_ms: Millis,
    /// Hash of the log so far: a Merkle root over its chunks (BLAKE3 of the bytes).
    pub log_root: BlobHash,
    /// Log bytes under the root.
    pub log_bytes: u64,
    /// Milliseconds of the service that capacity checks took from the job, in all; never billed.
    pub steal_ms: Millis,
}

impl Usage {
    /// What the node signs.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        derive(USAGE_DOMAIN, &[&crate::codec::encode(self)])
    }
    /// What the user or a watcher signs to confirm it; also fixes the node's signature.
    #[must_use]
    pub fn counter_digest(&self) -> [u8; 32] {
        derive(COUNTER_DOMAIN, &[&crate::codec::encode(self)])
    }
    /// When the service reached so far ended.
    #[must_use]
    pub const fn served_until(&self) -> Timestamp {
        self.started.plus(self.served_ms)
    }
}

/// A confirmation by the user or a watcher.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Countersignature {
    /// Who confirms: the lease's account or its watcher.
    pub account: AccountId,
    /// With which of the account's keys.
    pub key: PublicKey,
    /// Over [`Usage::counter_digest`].
    pub signature: Signature,
}

/// A usage with its signatures, as it goes on the ledger.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct SignedUsage {
    /// The statement.
    pub usage: Usage,
    /// The node that serves.
    pub node: NodeId,
    /// Its signature over [`Usage::digest`].
    pub node_signature: Signature,
    /// The user's or watcher's confirmation, if there is one.
    pub countersignature: Option<Countersignature>,
}
