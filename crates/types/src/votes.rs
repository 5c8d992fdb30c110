//! What a validator signs when it votes, and what proves that it contradicted itself. Spec: `docs/specs/stake.md` §7.
//!
//! Guarantees: [`Vote::message`] is byte for byte what the consensus engine signs, for one zone; a [`Contradiction`] is only one that no
//! honest validator can sign, whatever it saw. It knows no state: who the key belongs to is the ledger's.
//! Source: Simplex consensus (Chan and Pass, TCC 2023), whose safety needs that nobody votes for two blocks in a view, nor for a block and
//! for leaving the view out.

use crate::NodeId;
use crate::ids::ZoneId;
use crate::keys::{PublicKey, Signature, SignatureError};
use borsh::{BorshDeserialize, BorshSerialize};

const VOTE_DOMAIN: &[u8] = b"pasture 2026-11 votes v2";

/// What every vote in a zone is signed under, before the kind of the vote.
#[must_use]
pub fn vote_namespace(zone: &ZoneId) -> Vec<u8> {
    [VOTE_DOMAIN, &zone.0].concat()
}

/// What a vote says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub enum VoteKind {
    /// This block may be built on.
    Notarize {
        /// The view of its parent.
        parent: u64,
        /// The block's digest.
        block: [u8; 32],
    },
    /// This view is over without a block.
    Nullify,
    /// This block is final.
    Finalize {
        /// The view of its parent.
        parent: u64,
        /// The block's digest.
        block: [u8; 32],
    },
}

/// One vote in a view of a term of the engine.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Vote {
    /// What it says.
    pub kind: VoteKind,
    /// The voter's signature over [`Vote::message`].
    pub signature: [u8; 64],
}

/// Two votes of one validator in one view that contradict each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Contradiction {
    /// The term of the engine.
    pub term: u64,
    /// The view within it.
    pub view: u64,
    /// One vote.
    pub one: Vote,
    /// The other.
    pub other: Vote,
}

/// Seven bits a byte, lowest first, in the fewest bytes.
fn varint(out: &mut Vec<u8>, mut value: u64) {
    loop {
        let low = u8::try_from(value & 0x7f).unwrap_or_default();
        value >>= 7;
        if value == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

impl Vote {
    /// What the voter signs in a zone.
    #[must_use]
    pub fn message(&self, zone: &ZoneId, term: u64, view: u64) -> Vec<u8> {
        let kind: &[u8] = match self.kind {
            VoteKind::Notarize { .. } => b"_NOTARIZE",
            VoteKind::Nullify => b"_NULLIFY",
            VoteKind::Finalize { .. } => b"_FINALIZE",
        };
        let namespace = [&vote_namespace(zone)[..], kind].concat();
        let mut out = Vec::with_capacity(namespace.len() + 64);
        varint(&mut out, namespace.len() as u64);
        out.extend_from_slice(&namespace);
        varint(&mut out, term);
        varint(&mut out, view);
        if let VoteKind::Notarize { parent, block } | VoteKind::Finalize { parent, block } = self.kind {
            varint(&mut out, parent);
            out.extend_from_slice(&block);
        }
        out
    }
}

impl Contradiction {
    /// Whether nobody honest casts both votes in one view: for two blocks, or for a block's finality and for leaving the view out.
    #[must_use]
    pub fn is_one(&self) -> bool {
        use VoteKind::{Finalize, Notarize, Nullify};
        match (self.one.kind, self.other.kind) {
            (Notarize { .. }, Notarize { .. }) | (Finalize { .. }, Finalize { .. }) => self.one.kind != self.other.kind,
            (Nullify, Finalize { .. }) | (Finalize { .. }, Nullify) => true,
            _ => false,
        }
    }

    /// Checks that both votes are this key's in this zone.
    ///
    /// # Errors
    /// One of them is not.
    pub fn verify(&self, zone: &ZoneId, key: &[u8; 32]) -> Result<(), SignatureError> {
        let key = PublicKey::from(NodeId(*key));
        for vote in [&self.one, &self.other] {
            key.verify_message(&vote.message(zone, self.term, self.view), &Signature::Ed25519(vote.signature))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use VoteKind::{Finalize, Notarize, Nullify};

    fn contradiction(one: VoteKind, other: VoteKind) -> Contradiction {
        let vote = |kind| Vote { kind, signature: [0; 64] };
        Contradiction { term: 300, view: 5, one: vote(one), other: vote(other) }
    }

    #[test]
    fn only_what_no_honest_validator_signs_is_a_contradiction() {
        let (a, b) = ([1; 32], [2; 32]);
        let cases = [
            (Notarize { parent: 4, block: a }, Notarize { parent: 4, block: b }, true),
            (Notarize { parent: 4, block: a }, Notarize { parent: 3, block: a }, true),
            (Notarize { parent: 4, block: a }, Notarize { parent: 4, block: a }, false),
            (Finalize { parent: 4, block: a }, Finalize { parent: 4, block: b }, true),
            (Finalize { parent: 4, block: a }, Finalize { parent: 4, block: a }, false),
            (Nullify, Finalize { parent: 4, block: a }, true),
            (Nullify, Nullify, false),
            // Giving a view up after a vote for its block is what an honest validator does when time runs out.
            (Notarize { parent: 4, block: a }, Nullify, false),
            // A vote for a block's finality follows one for the block.
            (Notarize { parent: 4, block: a }, Finalize { parent: 4, block: a }, false),
        ];
        for (one, other, is) in cases {
            assert_eq!(contradiction(one, other).is_one(), is, "{one:?} {other:?}");
            assert_eq!(contradiction(other, one).is_one(), is, "{other:?} {one:?}");
        }
    }

    #[test]
    fn a_vote_is_signed_for_one_zone_term_and_view() {
        let vote = Vote { kind: Finalize { parent: 200, block: [7; 32] }, signature: [0; 64] };
        let zone = ZoneId([9; 32]);
        let message = vote.message(&zone, 300, 5);
        // Length, domain, zone, kind; then 300, 5 and 200 as varints, and the digest.
        assert_eq!(message[0] as usize, VOTE_DOMAIN.len() + 32 + 9);
        assert_eq!(&message[1 + VOTE_DOMAIN.len() + 32..][..9], b"_FINALIZE");
        assert_eq!(&message[1 + VOTE_DOMAIN.len() + 32 + 9..][..5], &[0xac, 0x02, 5, 0xc8, 0x01]);
        assert!(message.ends_with(&[7; 32]));
        for other in [vote.message(&ZoneId([8; 32]), 300, 5), vote.message(&zone, 301, 5), vote.message(&zone, 300, 6)] {
            assert_ne!(message, other);
        }
    }
}
