//! Whom a client trusts, since when, and when it last saw that they are the ones. Format: `docs/specs/light.md` §1.
//!
//! Guarantees: a checkpoint moves forward only: by a handover of a later block, and to a later time. Nothing of a block that is not
//! after its own is believed.
//!
//! It has no clock. Validators that left can sign another history once their deposits are back, and nothing in that history tells
//! it from the true one; so a checkpoint is worth something only for as long as deposits are held after whoever trusts it last saw
//! its validators at work. [`Checkpoint::outlived`] answers that for a time that the caller knows.

use crate::codec::Cursor;
use crate::error::LightError;
use crate::handover::Handover;
use crate::proof::{StateProof, Verified, verify};
use crate::validators::{MAX_SET, ValidatorSet};

/// The format of [`Checkpoint::encode`]. A bare set begins with 1.
pub const CHECKPOINT_VERSION: u8 = 2;
/// Largest encoded checkpoint.
pub const MAX_CHECKPOINT: usize = 1 + 3 * 8 + MAX_SET;
const PART: &str = "checkpoint";

/// A set of validators that somebody trusts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    validators: ValidatorSet,
    since: u64,
    seen_ms: u64,
    holds_ms: u64,
}

impl Checkpoint {
    /// The validators of a genesis, from its ledger time on. `holds_ms` is how long a validator's deposit is held after it left
    /// (`validators.unbond_delay` of the genesis); 0 if that does not matter, as for a network on one's own machine.
    #[must_use]
    pub const fn genesis(validators: ValidatorSet, time_ms: u64, holds_ms: u64) -> Self {
        Self { validators, since: 0, seen_ms: time_ms, holds_ms }
    }

    /// Who is trusted.
    #[must_use]
    pub const fn validators(&self) -> &ValidatorSet {
        &self.validators
    }
    /// They certify the blocks after this one.
    #[must_use]
    pub const fn since(&self) -> u64 {
        self.since
    }
    /// Ledger time at which they were last seen to be the ones, in milliseconds since the Unix epoch.
    #[must_use]
    pub const fn seen_ms(&self) -> u64 {
        self.seen_ms
    }
    /// How long a deposit is held after its validator left; 0 if that does not matter.
    #[must_use]
    pub const fn holds_ms(&self) -> u64 {
        self.holds_ms
    }

    /// By how much it is older, at a time, than deposits are held: then those it names may have nothing to lose any more. Ask with
    /// the caller's own clock as well as with the ledger time of a proof: whoever forges a history chooses its times.
    #[must_use]
    pub const fn outlived(&self, now_ms: u64) -> Option<u64> {
        match now_ms.saturating_sub(self.seen_ms).checked_sub(self.holds_ms) {
            Some(over) if over > 0 && self.holds_ms > 0 => Some(over),
            _ => None,
        }
    }

    /// Checks a proof against the trusted validators, as [`verify`] does; of blocks since the checkpoint only.
    ///
    /// # Errors
    /// [`LightError`]: the first thing that is wrong. [`LightError::OtherValidators`] asks for handovers.
    pub fn verify(&self, proof: &StateProof) -> Result<Verified, LightError> {
        let shown = verify(&self.validators, proof)?;
        self.after(shown.header.height)?;
        Ok(shown)
    }

    /// The next checkpoint.
    ///
    /// # Errors
    /// [`LightError`]: the first thing that is wrong.
    pub fn follow(&self, handover: &Handover) -> Result<Self, LightError> {
        let header = self.validators.hand_over(handover)?;
        self.after(header.height)?;
        let next = Self { validators: handover.next.clone(), since: header.height, seen_ms: self.seen_ms, holds_ms: self.holds_ms };
        Ok(next.seen(header.timestamp_ms))
    }

    /// The same, seen at work at a ledger time that was verified.
    #[must_use]
    pub fn seen(mut self, time_ms: u64) -> Self {
        self.seen_ms = self.seen_ms.max(time_ms);
        self
    }

    const fn after(&self, height: u64) -> Result<(), LightError> {
        if height <= self.since { Err(LightError::BeforeCheckpoint { height, since: self.since }) } else { Ok(()) }
    }

    /// The checkpoint as bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![CHECKPOINT_VERSION];
        for number in [self.since, self.seen_ms, self.holds_ms] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        out.extend_from_slice(&self.validators.encode());
        out
    }

    /// Reads a checkpoint from exactly its bytes.
    ///
    /// # Errors
    /// [`LightError`] if they are none.
    pub fn decode(bytes: &[u8]) -> Result<Self, LightError> {
        let mut cursor = Cursor::new(PART, bytes);
        cursor.limited(bytes.len(), MAX_CHECKPOINT)?;
        let version = cursor.u8()?;
        if version != CHECKPOINT_VERSION {
            return Err(LightError::UnknownVersion { part: "the checkpoint", found: version.into(), known: CHECKPOINT_VERSION.into() });
        }
        let (since, seen_ms, holds_ms) = (cursor.u64()?, cursor.u64()?, cursor.u64()?);
        Ok(Self { validators: ValidatorSet::decode(cursor.rest())?, since, seen_ms, holds_ms })
    }
}
