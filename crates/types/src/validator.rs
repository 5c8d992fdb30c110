//! Validators: their parameters, actions and events. Spec: `docs/specs/stake.md` §7-§9.
//!
//! Guarantees: a consensus key consents to its operator by signing zone, operator and its key for the randomness. It does
//! not verify the proof of possession of that key: who knows the curve does (the node, where it verifies signatures).

use crate::genesis::GenesisValidator;
use crate::governance::{OutOfBounds, within};
use crate::ids::derive;
use crate::keys::Signature;
use crate::stake::{Fault, Forfeit};
use crate::votes::Contradiction;
use crate::{AccountId, Amount, AssetId, Millis, NodeId, Timestamp, ZoneId};
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

const CONSENT_DOMAIN: &str = "pasture 2026-11 validator registration v1";
/// Bytes of a BLS12-381 public key (MinSig).
pub const BLS_KEY_BYTES: usize = 96;
/// Bytes of a proof of possession.
pub const BLS_PROOF_BYTES: usize = 48;

/// What a validator's consensus key signs at registration: it consents to belong to the operator.
#[must_use]
pub fn validator_consent_digest(zone: &ZoneId, operator: &AccountId, key: &[u8; 32], bls_key: &[u8]) -> [u8; 32] {
    derive(CONSENT_DOMAIN, &[&zone.0, &operator.0, key, bls_key])
}

/// Parameters of validators.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct ValidatorParams {
    /// Most seats of a term. Below four there are no elections: the validators of the genesis keep their seats.
    pub seats: u32,
    /// How long a term is.
    pub term: Millis,
    /// The least deposit with which a validator stands for election.
    pub min_bond: Amount,
    /// How long a validator's deposit that is taken back still answers for what it signed.
    pub unbond_delay: Millis,
}

impl ValidatorParams {
    /// Of a development zone: no elections, as the engine runs the genesis's validators.
    #[must_use]
    pub const fn dev() -> Self {
        Self { seats: 1, term: Millis(600_000), min_bond: Amount::credits(10), unbond_delay: Millis(1_200_000) }
    }
    /// Of a production zone: no elections either until a vote raises the seats.
    #[must_use]
    pub const fn production() -> Self {
        Self { term: Millis(24 * 3_600_000), min_bond: Amount::credits(10_000), unbond_delay: Millis(21 * 24 * 3_600_000), ..Self::dev() }
    }
}

/// Most seats of a term.
pub const MAX_SEATS: u32 = 64;

impl ValidatorParams {
    /// Checks the bounds of each and of the set.
    ///
    /// # Errors
    /// The first bound that is broken.
    pub fn check(&self, dev: bool) -> Result<(), OutOfBounds> {
        const DAY: u64 = 24 * 3_600_000;
        let (term, delay) = if dev { (1_000u64, 1_000u64) } else { (3_600_000, DAY.max(self.term.0)) };
        within("validators.seats", self.seats, 1u32, MAX_SEATS)?;
        within("validators.term", self.term.0, term, 90 * DAY)?;
        // A seat that costs nothing would be anybody's.
        within("validators.min_bond", self.min_bond.0, 1u32, Amount::credits(100_000_000).0)?;
        within("validators.unbond_delay, which outlasts a term,", self.unbond_delay.0, delay, 366 * DAY)
    }
}

/// What an operator does with its validators. Variants are only ever added at the end.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub enum ValidatorAction {
    /// Adds to a validator's deposit.
    Bond {
        /// Its consensus key.
        key: [u8; 32],
        /// How much.
        amount: Amount,
    },
    /// Takes part of a validator's deposit back; it returns after the delay.
    Unbond {
        /// Its consensus key.
        key: [u8; 32],
        /// How much.
        amount: Amount,
    },
    /// Ends a suspension whose time has passed.
    Unjail {
        /// The validator's consensus key.
        key: [u8; 32],
    },
    /// Shows that a validator contradicted itself; anybody may.
    Accuse {
        /// The validator's consensus key.
        key: [u8; 32],
        /// The two votes.
        votes: Box<Contradiction>,
    },
    /// Replaces a validator's keys by others, with its deposit.
    Rotate {
        /// The consensus key that is replaced.
        key: [u8; 32],
        /// The keys that replace it; the operator is the same.
        new: Box<GenesisValidator>,
        /// The new consensus key's consent, as at a registration.
        consent: Signature,
    },
}

/// What happened to validators. Variants are only ever added at the end.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum ValidatorEvent {
    /// A validator stands for election.
    Registered {
        /// Its consensus key, as a node's id.
        validator: NodeId,
        /// Whose.
        operator: AccountId,
    },
    /// Its deposit grew.
    Bonded {
        /// Which.
        validator: NodeId,
        /// By how much.
        amount: Amount,
    },
    /// Part of its deposit is on its way back.
    Unbonding {
        /// Which.
        validator: NodeId,
        /// How much.
        amount: Amount,
        /// When it is free, unless a halt delays it.
        release: Timestamp,
    },
    /// Part of its deposit is back.
    Released {
        /// Which.
        validator: NodeId,
        /// To whom.
        operator: AccountId,
        /// How much.
        amount: Amount,
    },
    /// A deposit was forfeited.
    Forfeited {
        /// Which.
        validator: NodeId,
        /// Why.
        fault: Fault,
        /// From where to where.
        forfeit: Forfeit,
    },
    /// It is not elected until it is reinstated, and earns nothing of the pool.
    Suspended {
        /// Which.
        validator: NodeId,
        /// Until when at least.
        until: Timestamp,
        /// Why.
        fault: Fault,
    },
    /// Its suspension is over.
    Reinstated {
        /// Which.
        validator: NodeId,
    },
    /// A term began.
    TermBegan {
        /// Its number.
        term: u64,
        /// How many seats it has.
        seats: u32,
        /// How they were found.
        seating: Seating,
    },
    /// An operator's part of the last term's fees.
    FeesPaid {
        /// For which term.
        term: u64,
        /// For which validator.
        validator: NodeId,
        /// To whom.
        operator: AccountId,
        /// In which asset.
        asset: AssetId,
        /// How much.
        amount: Amount,
    },
    /// A validator's keys were replaced, and its deposit is the new keys'.
    Rotated {
        /// The keys before.
        validator: NodeId,
        /// Those that replace them.
        successor: NodeId,
    },
}

impl ValidatorEvent {
    /// The validator, if it concerns one alone.
    #[must_use]
    pub const fn validator(&self) -> Option<NodeId> {
        match self {
            Self::Registered { validator, .. }
            | Self::Bonded { validator, .. }
            | Self::Unbonding { validator, .. }
            | Self::Released { validator, .. }
            | Self::Forfeited { validator, .. }
            | Self::Suspended { validator, .. }
            | Self::Reinstated { validator }
            | Self::Rotated { validator, .. }
            | Self::FeesPaid { validator, .. } => Some(*validator),
            Self::TermBegan { .. } => None,
        }
    }
    /// Its operator, where money moved to or from it.
    #[must_use]
    pub const fn operator(&self) -> Option<AccountId> {
        match self {
            Self::Registered { operator, .. } | Self::Released { operator, .. } | Self::FeesPaid { operator, .. } => Some(*operator),
            _ => None,
        }
    }
}

/// Whether a term's seats were elected.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Seating {
    /// Elected by stake at its beginning.
    Elected,
    /// Those of the term before, since no election could be held.
    Kept,
}
