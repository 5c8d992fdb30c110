//! Errors of the chain, and what a caller may do about each.

use crate::mempool::Refused;
use std::path::PathBuf;

/// Why the chain did not start, or stopped.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ChainError {
    /// Another process runs on this data directory.
    #[error("{} is in use by another node: stop that node, or choose another data directory", .dir.display())]
    InUse {
        /// The data directory.
        dir: PathBuf,
    },
    /// The directory holds another zone's ledger.
    #[error("{} holds the ledger of zone {found}, not of zone {expected}: use its own genesis, or another data directory", .dir.display())]
    OtherZone {
        /// The data directory.
        dir: PathBuf,
        /// The zone asked for.
        expected: String,
        /// The zone found.
        found: String,
    },
    /// The genesis makes no sense.
    #[error("the genesis is not usable: {0}")]
    Genesis(String),
    /// The validators' network cannot be used as it is described.
    #[error("the validators' network cannot be used: {0}")]
    Network(String),
    /// Stored data does not read back as it was written.
    #[error("the ledger's {part} store is damaged ({}): {detail}. Restore the directory from a backup, or move it away to start over", .path.display())]
    Corrupt {
        /// Which store: `state`, `blocks`, `finality`, `votes`, `delivery`.
        part: &'static str,
        /// Where its files are.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// The disk is full, or the quota of whoever runs the node is used up.
    #[error(
        "there is no room to keep the ledger in {}: {detail}. What was acknowledged is there; make room, then start the node again",
        .path.display()
    )]
    NoRoom {
        /// Where it is kept.
        path: PathBuf,
        /// What the system said.
        detail: String,
    },
    /// The system did not write, or did not keep what it had written.
    #[error(
        "the ledger could not be written to {}: {detail}. What was acknowledged was kept before that; look at the disk (dmesg, smartctl), and start \
         the node again when it can be relied on, on another one if need be",
        .path.display()
    )]
    Unwritten {
        /// Where it is kept.
        path: PathBuf,
        /// What the system said.
        detail: String,
    },
    /// The operating system refused.
    #[error("{}: {detail}", .path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        detail: String,
    },
    /// The engine stopped and cannot go on; a restart of the process may help.
    #[error("the chain stopped: {0}")]
    Fatal(String),
    /// A final block is this validator's, and this process did not make it.
    #[error(
        "another process signs with this validator's key: find it and stop one of the two before this validator is found to contradict itself"
    )]
    Twin,
    /// No certificate on this node covers the block yet; a later block's may.
    #[error("block {height} is not covered by a certificate here yet: ask again")]
    Uncertified {
        /// The block.
        height: u64,
    },
    /// The node did not stop in order: the state on disk is older than the last final block.
    #[error("the state on disk is at block {state}, but block {last} is final: start the node once and stop it, then try again")]
    Behind {
        /// Height of the state.
        state: u64,
        /// Height of the last final block.
        last: u64,
    },
    /// The node did not keep its history.
    #[error(
        "the blocks before block {first} are not here, since this node joined by state or forgets old blocks: ask a node that keeps all of them"
    )]
    Partial {
        /// The first block that is here.
        first: u64,
    },
    /// There is no block yet.
    #[error("there is no block yet, so there is nothing that could be proven or moved")]
    Empty,
    /// The chain was shut down.
    #[error("the chain is shut down")]
    Stopped,
    /// Shutdown took longer than its deadline; nothing is lost, since every acknowledged block is on disk.
    #[error("the chain did not stop in time")]
    Deadline,
}

impl ChainError {
    pub(crate) fn io(path: impl Into<PathBuf>, error: &std::io::Error) -> Self {
        use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        let (path, detail) = (path.into(), error.to_string());
        match error.kind() {
            StorageFull | QuotaExceeded | FileTooLarge => Self::NoRoom { path, detail },
            _ => Self::Io { path, detail },
        }
    }
}

/// Why a transaction does not wait for a block.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The state machine refused it; sending it again unchanged will not help.
    #[error("{message}")]
    Rejected {
        /// Machine-defined reason.
        code: u16,
        /// For people.
        message: String,
    },
    /// It cannot wait among the others.
    #[error("{0}")]
    Refused(#[from] Refused),
    /// The chain is not running.
    #[error("the chain is not running")]
    Stopped,
}

impl SubmitError {
    /// Whether the same transaction may be accepted later.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Refused(Refused::Full | Refused::AccountFull | Refused::PeerFull | Refused::Ahead) | Self::Stopped)
    }
}

/// Why a transaction that waited will not be in a block.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Dropped {
    /// The state changed so that no block may contain it.
    #[error("{message}")]
    Rejected {
        /// Machine-defined reason.
        code: u16,
        /// For people.
        message: String,
    },
    /// Its time ran out before its turn.
    #[error("the transaction expired before its turn")]
    Expired,
    /// Another one with its sequence number is in a block.
    #[error("another transaction with its sequence number, which paid a higher tip, is in a block")]
    Replaced,
    /// The chain stopped first: it may still become final after a restart of a zone with several validators.
    #[error("the chain stopped before the transaction was final")]
    Stopped,
}
