//! How a validator set is replaced: the last block of a term names the next one, and the old one certifies that block.
//! Format: `docs/specs/light.md` §5.
//!
//! Guarantees: [`ValidatorSet::follow`] returns a set only if at least a quorum of the set before signed a block of the same zone that
//! names it. Hostile bytes give a [`LightError`], and sizes are checked before anything is allocated. Which of several handovers
//! comes first, and how old one may be, is [`crate::Checkpoint`]'s.

use crate::codec::Cursor;
use crate::error::LightError;
use crate::header::{HEADER_SIZE, Header};
use crate::proof::{MAX_CERTIFICATE, get, put, verify_header};
use crate::validators::{MAX_SET, ValidatorSet};

/// The format of [`Handover::encode`].
pub const HANDOVER_VERSION: u8 = 1;
/// Largest encoded handover: 128 signatures under a header, and 128 validators.
pub const MAX_HANDOVER: usize = 1 + HEADER_SIZE + 4 + MAX_CERTIFICATE + MAX_SET;
const PART: &str = "handover";

/// The last block of a term after which the seats change, and whose they are then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handover {
    /// The block's header.
    pub header: [u8; HEADER_SIZE],
    /// The finality certificate of exactly that header, by the set before.
    pub certificate: Vec<u8>,
    /// Who certifies the blocks after it.
    pub next: ValidatorSet,
}

impl Handover {
    /// The handover as bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![HANDOVER_VERSION];
        out.extend_from_slice(&self.header);
        put(&mut out, &self.certificate);
        out.extend_from_slice(&self.next.encode());
        out
    }

    /// Reads a handover from exactly its bytes. It is not verified yet.
    ///
    /// # Errors
    /// [`LightError`] if they are none.
    pub fn decode(bytes: &[u8]) -> Result<Self, LightError> {
        let mut cursor = Cursor::new(PART, bytes);
        cursor.limited(bytes.len(), MAX_HANDOVER)?;
        let version = cursor.u8()?;
        if version != HANDOVER_VERSION {
            return Err(LightError::UnknownVersion { part: "the handover", found: version.into(), known: HANDOVER_VERSION.into() });
        }
        let header = cursor.array()?;
        let certificate = get(&mut cursor, MAX_CERTIFICATE)?;
        let next = ValidatorSet::decode(cursor.rest())?;
        Ok(Self { header, certificate, next })
    }
}

impl ValidatorSet {
    /// The header of a handover by this set, and the set that follows it.
    pub(crate) fn hand_over(&self, handover: &Handover) -> Result<Header, LightError> {
        let (header, _) = verify_header(self, &[handover.header], &handover.certificate)?;
        if !header.hands_over() {
            return Err(LightError::NoHandover);
        }
        if handover.next.zone() != self.zone() {
            return Err(LightError::WrongZone { found: *handover.next.zone() });
        }
        if *handover.next.hash() != header.next_validators {
            return Err(LightError::OtherSuccessors { named: header.next_validators });
        }
        Ok(header)
    }

    /// The set that follows this one, as a quorum of this one certified.
    ///
    /// # Errors
    /// [`LightError`]: the first thing that is wrong.
    pub fn follow(&self, handover: &Handover) -> Result<Self, LightError> {
        self.hand_over(handover).map(|_| handover.next.clone())
    }
}
