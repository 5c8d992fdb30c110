//! What the chain asks of a state machine, and what it gives it.
//!
//! Guarantees: the chain calls [`Machine`] with bytes and ordered tables only; it never looks into a
//! transaction. Everything between [`Machine::begin`] and [`Machine::end`] happens on one thread, in block order,
//! over the post-state of the parent block. The machine must be deterministic: same state, context and bytes,
//! same writes and same outcomes. It must not read a clock, randomness, files or sockets.

use crate::genesis::Validator;
use bytes::Bytes;
use pasture_types::state::{StateRead, StateWrite};

/// What a block tells the transactions in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockContext {
    /// Height of the block; genesis is 0 and is never executed.
    pub height: u64,
    /// Ledger time: milliseconds since the Unix epoch, never before the parent's.
    pub timestamp_ms: u64,
    /// Ledger time of the parent.
    pub parent_timestamp_ms: u64,
    /// This block's randomness: not known to anyone but the proposer before the block.
    pub randomness: [u8; 32],
    /// Ed25519 key of the validator that proposed the block.
    pub proposer: [u8; 32],
}

/// What became of one transaction offered to a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TxOutcome {
    /// It is in the block. With `ok: false` it changed nothing but the fee and the sequence.
    Applied {
        /// Identity of the transaction.
        id: [u8; 32],
        /// Whether its actions took effect.
        ok: bool,
        /// Machine-defined result code; 0 where there is nothing to say.
        code: u16,
        /// For people.
        message: String,
        /// Encoded events, in order.
        events: Vec<Vec<u8>>,
    },
    /// It must not be in any block on this state; it changed nothing.
    NotIncludable {
        /// Identity of the transaction.
        id: [u8; 32],
        /// Machine-defined reason.
        code: u16,
        /// For people.
        message: String,
    },
}

impl TxOutcome {
    /// Identity of the transaction.
    #[must_use]
    pub const fn id(&self) -> [u8; 32] {
        match self {
            Self::Applied { id, .. } | Self::NotIncludable { id, .. } => *id,
        }
    }
}

/// When a block is due although no transaction waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// At once.
    Now,
    /// When ledger time reaches this many milliseconds.
    At(u64),
    /// Not before the next transaction.
    Never,
}

/// A transaction that may wait for a block, and how it is ordered among the waiting ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    /// Identity: two submissions with one id are one transaction.
    pub id: [u8; 32],
    /// The account whose sequence it uses.
    pub sender: [u8; 32],
    /// Which of the account's independent sequences.
    pub lane: u8,
    /// Position in the lane.
    pub seq: u64,
    /// The position that the lane expects next in the state given to [`Machine::admit`].
    pub next_seq: u64,
    /// Ledger time after which no block may contain it.
    pub expires_ms: u64,
    /// What it pays to go first.
    pub tip: u128,
    /// Measured cost in microseconds, against the block's cost limit.
    pub cost_us: u32,
}

/// Why a transaction was not admitted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} (code {code})")]
pub struct Rejection {
    /// Machine-defined reason.
    pub code: u16,
    /// For people.
    pub message: String,
}

/// Keys with their values.
pub type Entries = Vec<(Vec<u8>, Vec<u8>)>;

/// A deterministic state machine over ordered tables.
pub trait Machine: Send + Sync + 'static {
    /// The entries that the state has before the first block of this run; the same on every node of a zone. Called at a
    /// start from nothing and at a replay only.
    ///
    /// # Errors
    /// Why they cannot be read: the chain then does not start.
    fn genesis(&self) -> Result<Entries, String>;

    /// Decides whether a transaction may wait for a block: decoding, signatures, sequence, balance.
    /// Called outside any lock and in parallel for many submitters; `state` is the latest final state.
    ///
    /// # Errors
    /// The reason, which the submitter sees.
    fn admit(&self, tx: &[u8], state: &dyn StateRead, now_ms: u64) -> Result<Admission, Rejection>;

    /// The position that a lane of an account expects next on a state: what [`Machine::admit`] gives as [`Admission::next_seq`].
    fn next_seq(&self, sender: &[u8; 32], lane: u8, state: &dyn StateRead) -> u64;

    /// Stateless check of every signature in a block that another validator proposed.
    fn verify(&self, txs: &[Bytes]) -> bool;

    /// Whether this program can execute the block that follows a state. Asked before each block that it builds or executes; an error
    /// stops the chain before anything of that block is signed.
    ///
    /// # Errors
    /// Why not, and what to do.
    fn ready(&self, _state: &dyn StateRead) -> Result<(), String> {
        Ok(())
    }

    /// What the transactions of the block that follows a state may cost together, in the microseconds of [`Admission`]: a proposer
    /// chooses no more. What the machine does in [`Machine::begin`] and [`Machine::end`] is not in it.
    fn block_cost_us(&self, state: &dyn StateRead) -> u64;

    /// Opens a block; returns its encoded events.
    fn begin(&self, state: &mut dyn StateWrite, ctx: &BlockContext) -> Vec<Vec<u8>>;

    /// Applies one transaction: everything or nothing, but for the fee and the sequence.
    fn apply(&self, state: &mut dyn StateWrite, ctx: &BlockContext, tx: &[u8]) -> TxOutcome;

    /// Closes a block; returns its encoded events.
    fn end(&self, state: &mut dyn StateWrite, ctx: &BlockContext) -> Vec<Vec<u8>>;

    /// Who certifies from the next term of the engine on, by the state after the last block of one. `None`, nobody, or keys that are
    /// none: the same as before.
    fn seats(&self, _state: &dyn StateRead) -> Option<Vec<Validator>> {
        None
    }

    /// Who may follow the others without a seat: the keys of those who could get one, the nearest to it first. Not all may find a place.
    fn candidates(&self, _state: &dyn StateRead) -> Vec<[u8; 32]> {
        Vec::new()
    }

    /// When the next block is due on this state although no transaction waits. A machine that always answers
    /// [`Due::Now`] makes blocks without end.
    fn next_due(&self, state: &dyn StateRead) -> Due;
}
