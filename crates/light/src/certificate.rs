//! A finality certificate: which block, and who signed for it. Layout: `docs/specs/light.md` §3.
//!
//! Guarantees: it verifies only with at least a quorum of valid signatures of different trusted validators. Signatures are judged
//! by ZIP-215 (`docs/adr/0003`), as the engine judges them. A certificate names its signers by a bitmap, so that nobody can be
//! named twice.

use crate::codec::{Cursor, put_varint};
use crate::error::LightError;
use crate::validators::{MAX_VALIDATORS, ValidatorSet};
use ed25519_zebra::{Signature, VerificationKey};

/// What votes are signed under, followed by the zone: a vote in one zone is none in another.
const VOTE_NAMESPACE: &[u8] = b"pasture 2026-11 votes v2";
/// What the engine adds for a vote that makes a block final.
const FINALIZE: &[u8] = b"_FINALIZE";
const PART: &str = "certificate";

/// A finality certificate, decoded but not verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Digest of the header that was signed.
    pub digest: [u8; 32],
    /// The engine's term.
    pub term: u64,
    /// The engine's round within the term.
    pub view: u64,
    /// Size of the set that signed.
    pub validators: usize,
    /// Positions of the signers in the set, ascending, each with its signature.
    pub signatures: Vec<(usize, [u8; 64])>,
    /// The signed bytes, as they came.
    proposal: Vec<u8>,
}

impl Certificate {
    /// Reads a certificate from exactly its bytes.
    ///
    /// # Errors
    /// [`LightError`] if they are none.
    pub fn decode(bytes: &[u8]) -> Result<Self, LightError> {
        let mut cursor = Cursor::new(PART, bytes);
        let (term, view, parent) = (cursor.varint()?, cursor.varint()?, cursor.varint()?);
        let digest: [u8; 32] = cursor.array()?;
        let mut proposal = Vec::new();
        for number in [term, view, parent] {
            put_varint(number, &mut proposal);
        }
        proposal.extend_from_slice(&digest);

        let validators = usize::try_from(cursor.u64()?).unwrap_or(usize::MAX);
        cursor.limited(validators, MAX_VALIDATORS)?;
        let bitmap = cursor.take(validators.div_ceil(8))?;
        let signers: Vec<usize> =
            (0..bitmap.len() * 8).filter(|bit| bitmap.get(bit / 8).is_some_and(|b| b >> (bit % 8) & 1 == 1)).collect();
        if let Some(index) = signers.iter().find(|index| **index >= validators) {
            return Err(LightError::UnknownSigner { index: *index, validators });
        }
        let count = cursor.count(MAX_VALIDATORS)?;
        if count != signers.len() {
            return Err(LightError::SignerCount { signers: signers.len(), signatures: count });
        }
        let mut signatures = Vec::with_capacity(count);
        for index in signers {
            signatures.push((index, cursor.array()?));
        }
        cursor.end()?;
        Ok(Self { digest, term, view, validators, signatures, proposal })
    }

    /// Checks the signatures against the trusted set.
    ///
    /// # Errors
    /// [`LightError`]: another set, too few votes, or a bad signature.
    pub fn verify(&self, trusted: &ValidatorSet) -> Result<(), LightError> {
        let members = trusted.members();
        if let Some((index, _)) = self.signatures.iter().find(|(index, _)| *index >= members.len()) {
            return Err(LightError::UnknownSigner { index: *index, validators: members.len() });
        }
        if self.validators != members.len() {
            return Err(LightError::WrongSetSize { found: self.validators, validators: members.len() });
        }
        let (votes, quorum) = (self.signatures.len(), trusted.quorum());
        if votes < quorum {
            return Err(LightError::TooFewVotes { votes, validators: members.len(), quorum });
        }
        let namespace = [VOTE_NAMESPACE, trusted.zone(), FINALIZE].concat();
        let mut message = Vec::with_capacity(1 + namespace.len() + self.proposal.len());
        put_varint(namespace.len() as u64, &mut message);
        message.extend_from_slice(&namespace);
        message.extend_from_slice(&self.proposal);
        for (member, (index, signature)) in self.signatures.iter().filter_map(|vote| Some((members.get(vote.0)?, vote))) {
            let valid = VerificationKey::try_from(member.key).and_then(|key| key.verify(&Signature::from_bytes(signature), &message));
            valid.map_err(|_| LightError::BadSignature { index: *index })?;
        }
        Ok(())
    }
}
