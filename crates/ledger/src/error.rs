//! Why a transaction was refused: one enum with stable codes, each message with a next step.
//!
//! Guarantees: a code never changes its meaning and is never reused. It does not say whether a fee was taken: `Applied` does.

use crate::governance::UnsupportedRules;
use pasture_types::channel::VoucherError;
use pasture_types::governance::OutOfBounds;
use pasture_types::keys::SignatureError;
use pasture_types::proof::ShareError;
use pasture_types::{Amount, Millis, Timestamp};

/// Why a transaction was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TxError {
    /// The bytes are not an envelope.
    #[error("not a transaction: {0}; encode it with the current client")]
    Malformed(String),
    /// The state has no genesis.
    #[error("this ledger has no genesis; start the zone first")]
    NoGenesis,
    /// An envelope of another version.
    #[error("envelope version {got} is not known here (version {want} is); update the client")]
    Version {
        /// What came.
        got: u16,
        /// What is known.
        want: u16,
    },
    /// For another zone.
    #[error("signed for network {got}, but this is {want}; choose the right context")]
    WrongZone {
        /// Signed for, shortened.
        got: String,
        /// This zone, shortened.
        want: String,
    },
    /// A limit of the format is exceeded.
    #[error("{what}: {got} where at most {limit} are allowed")]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// How much came.
        got: u64,
        /// How much may.
        limit: u64,
    },
    /// A field has a value that makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// The format is final, the rules come later.
    #[error("{0} not available in this version")]
    NotActive(&'static str),
    /// `valid_until` has passed.
    #[error("expired: valid until {valid_until}, it is {now}; sign it again")]
    Expired {
        /// Signed.
        valid_until: Timestamp,
        /// Ledger time.
        now: Timestamp,
    },
    /// `valid_until` is too far ahead.
    #[error("valid until {valid_until}, more than {limit} ms ahead of {now}; sign it with an earlier end (and check the clock)")]
    TooFarInFuture {
        /// Signed.
        valid_until: Timestamp,
        /// Ledger time.
        now: Timestamp,
        /// Most.
        limit: Millis,
    },
    /// The lane is past this number.
    #[error("sequence {got} of lane {lane} was used, next is {next}; sign it again with {next}")]
    SeqUsed {
        /// Which lane.
        lane: u8,
        /// What came.
        got: u64,
        /// What is next.
        next: u64,
    },
    /// The lane is not there yet.
    #[error("sequence {got} of lane {lane} is ahead, next is {next}; send the ones between first")]
    SeqAhead {
        /// Which lane.
        lane: u8,
        /// What came.
        got: u64,
        /// What is next.
        next: u64,
    },
    /// A signature does not verify.
    #[error("{whose}: {source}; sign with the key that is named")]
    Signature {
        /// Which signature.
        whose: &'static str,
        /// Why.
        source: SignatureError,
    },
    /// A key that may not sign here.
    #[error("key {key} may not sign for {whose}; use one of its registered keys")]
    KeyNotAllowed {
        /// The key.
        key: String,
        /// For whom it signed.
        whose: &'static str,
    },
    /// Not enough signatures, or too many.
    #[error("{whose} has {got} signatures where {want} are needed")]
    SignatureCount {
        /// Whose.
        whose: &'static str,
        /// How many came.
        got: usize,
        /// How many are needed.
        want: usize,
    },
    /// The account is not registered.
    #[error("account {0} is not registered; register it first (the fee payer can pay)")]
    UnknownAccount(String),
    /// The action may not be done by this right.
    #[error("a node's key may only accept, reject, report usage, send heartbeats and close; sign with the provider's account")]
    NotForNodeKeys,
    /// The fee is above `max_fee`.
    #[error("the fee is {needs}, above the allowed {max_fee}; raise max_fee")]
    FeeTooLow {
        /// What it costs.
        needs: Amount,
        /// What was allowed.
        max_fee: Amount,
    },
    /// Not enough money.
    #[error("balance too small for {what}: needs {needs}, has {has}; add credits or ask for less")]
    InsufficientBalance {
        /// For what.
        what: &'static str,
        /// How much is needed.
        needs: Amount,
        /// How much there is.
        has: Amount,
    },
    /// The budget does not even cover the first epoch.
    #[error("budget {has} is too small: one period at the highest allowed price costs {needs}; raise the budget or lower the price")]
    BudgetTooSmall {
        /// How much is needed.
        needs: Amount,
        /// What was given.
        has: Amount,
    },
    /// An amount overflows.
    #[error("the amount is too large")]
    AmountTooLarge,
    /// No such thing.
    #[error("no {what} {id}; check the id")]
    Unknown {
        /// What kind.
        what: &'static str,
        /// Its id, shortened.
        id: String,
    },
    /// It exists already.
    #[error("{0} exists already")]
    Exists(&'static str),
    /// It belongs to somebody else.
    #[error("{0} is not yours; sign with its owner's account")]
    NotYours(&'static str),
    /// Not in this state.
    #[error("{what} is {state}: {hint}")]
    BadState {
        /// What.
        what: &'static str,
        /// Its state.
        state: String,
        /// What to do.
        hint: &'static str,
    },
    /// The deposit is too small.
    #[error("deposit {has} is below the least of {needs}; add to the deposit first")]
    StakeTooSmall {
        /// Least.
        needs: Amount,
        /// Deposited.
        has: Amount,
    },
    /// Usage that contradicts what is known.
    #[error("usage refused: {0}")]
    Usage(&'static str),
    /// A heartbeat that is not taken.
    #[error("heartbeat refused: {0}")]
    Heartbeat(&'static str),
    /// It was said before: whoever sends it again has nothing to do.
    #[error("{0} is recorded already; there is nothing to do")]
    Recorded(&'static str),
    /// It would have been taken earlier.
    #[error("too late: {0}")]
    Late(&'static str),
    /// An objection that objects to nothing.
    #[error("objection refused: {0}")]
    Objection(&'static str),
    /// The guardian paused this kind of action.
    #[error("the network is paused for this by its guardian; running jobs go on, try again later")]
    Paused,
    /// Open leases need the deposit.
    #[error("open leases need a deposit of {needs}, but {left} would be left; wait until they are settled, or take less")]
    DepositInUse {
        /// What they need.
        needs: Amount,
        /// What would be left.
        left: Amount,
    },
    /// The provider's deposit does not carry this.
    #[error("the provider's leases would need a deposit of {needs}, it has {has}; choose another provider or ask for less")]
    ValueLimit {
        /// What they would need.
        needs: Amount,
        /// What there is.
        has: Amount,
    },
    /// A newcomer's stamp that is not taken.
    #[error("stamp refused: {0}")]
    Stamp(&'static str),
    /// This block has its newcomers.
    #[error("this block has as many newcomers as it may; send it again")]
    NewcomersFull,
    /// A validator's BLS key without its proof.
    #[error("the proof of possession of the validator's BLS key does not hold; make it with that key")]
    Possession,
    /// The grant does not cover this.
    #[error("the grant does not allow this: {0}")]
    GrantRefused(&'static str),
    /// The grant's budget does not suffice.
    #[error("the grant's budget is too small: this takes {needs}, {left} is left; ask the account's owner for a new grant")]
    GrantBudget {
        /// What it takes.
        needs: Amount,
        /// What is left.
        left: Amount,
    },
    /// A voucher that pays nothing.
    #[error("voucher refused: {0}")]
    Voucher(VoucherError),
    /// A credential that does not count.
    #[error("certificate refused: {0}")]
    Credential(&'static str),
    /// A heartbeat whose shares do not hold.
    #[error("heartbeat refused: {0}; compute the shares anew from the period's randomness")]
    Shares(ShareError),
    /// A rating that is not taken.
    #[error("rating refused: {0}")]
    Rating(&'static str),
    /// The block has no room left for this transaction; the next one may.
    #[error("the block is full: {used} of {limit} us are used and this costs {cost} us; it waits for the next block")]
    BlockFull {
        /// What the block's transactions cost so far.
        used: u64,
        /// What this one costs.
        cost: u32,
        /// What they may cost together.
        limit: u64,
    },
    /// A parameter, or the set of them, would lie outside its bounds.
    #[error("{0}; propose a value within these bounds")]
    Bounds(OutOfBounds),
    /// The vote is over.
    #[error("this vote is over; see what became of the proposal")]
    VoteOver,
    /// No deposit stood behind the account when the proposal was made, or none stands now.
    #[error("no deposit of this account counts for this proposal: it counts what stood when the proposal was made and stands now")]
    NoVotingPower,
    /// Votes cannot be changed any more.
    #[error("this vote was lengthened, since its outcome turned late; votes that were given stay as they are")]
    VoteFixed,
    /// Not a member of the guardian.
    #[error("this account is no member of the network's guardian; ask one of them, or propose it to a vote")]
    NotGuardian,
    /// This program does not know the rules in force.
    #[error("{0}")]
    Rules(UnsupportedRules),
    /// A statement about an audit that is not taken.
    #[error("refused: {0}")]
    Audit(&'static str),
    /// A watcher that may not watch, or not so much.
    #[error("watcher refused: {0}")]
    Watcher(&'static str),
    /// Evidence that shows nothing.
    #[error("evidence refused: {0}")]
    Evidence(&'static str),
    /// A report of a lost node that does not count.
    #[error("report refused: {0}")]
    Loss(&'static str),
    /// A claim to a model that does not hold.
    #[error("model claim refused: {0}")]
    Model(&'static str),
    /// Fees are not taken in this asset.
    #[error("fees are not taken in asset {0}; pay them in credits, or in one that the network's parameters list")]
    FeeAsset(u32),
}

impl TxError {
    /// The stable number of this kind of error; 0 is never used.
    #[must_use]
    pub const fn code(&self) -> u16 {
        match self {
            Self::Malformed(_) => 1,
            Self::NoGenesis => 2,
            Self::Version { .. } => 3,
            Self::WrongZone { .. } => 4,
            Self::Limit { .. } => 5,
            Self::Invalid(_) => 6,
            Self::NotActive(_) => 7,
            Self::Expired { .. } => 10,
            Self::TooFarInFuture { .. } => 11,
            Self::SeqUsed { .. } => 12,
            Self::SeqAhead { .. } => 13,
            Self::Signature { .. } => 20,
            Self::KeyNotAllowed { .. } => 21,
            Self::SignatureCount { .. } => 22,
            Self::UnknownAccount(_) => 23,
            Self::NotForNodeKeys => 24,
            Self::FeeTooLow { .. } => 30,
            Self::InsufficientBalance { .. } => 31,
            Self::BudgetTooSmall { .. } => 32,
            Self::AmountTooLarge => 33,
            Self::StakeTooSmall { .. } => 34,
            Self::Unknown { .. } => 40,
            Self::Exists(_) => 41,
            Self::NotYours(_) => 42,
            Self::BadState { .. } => 43,
            Self::Usage(_) => 50,
            Self::Heartbeat(_) => 51,
            Self::Shares(_) => 52,
            Self::Recorded(_) => 53,
            Self::Late(_) => 54,
            Self::Objection(_) => 55,
            Self::Paused => 60,
            Self::Rating(_) => 95,
            Self::BlockFull { .. } => 100,
            Self::Bounds(_) => 101,
            Self::VoteOver => 102,
            Self::NoVotingPower => 103,
            Self::VoteFixed => 104,
            Self::NotGuardian => 105,
            Self::Rules(_) => 106,
            Self::DepositInUse { .. } => 85,
            Self::ValueLimit { .. } => 86,
            Self::Stamp(_) => 87,
            Self::NewcomersFull => 88,
            Self::Possession => 89,
            Self::Audit(_) => 110,
            Self::Watcher(_) => 130,
            Self::Evidence(_) => 131,
            Self::Loss(_) => 132,
            Self::Model(_) => 133,
            Self::FeeAsset(_) => 140,
            Self::GrantRefused(_) => 70,
            Self::GrantBudget { .. } => 71,
            Self::Voucher(_) => 75,
            Self::Credential(_) => 80,
        }
    }

    pub(crate) fn unknown(what: &'static str, id: &impl ToString) -> Self {
        Self::Unknown { what, id: id.to_string().chars().take(8).collect() }
    }
}
