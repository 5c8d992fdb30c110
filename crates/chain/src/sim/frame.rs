//! What a vote on the wire says.
//!
//! Guarantees: reads the engine's own encoding. What is not a vote gives `None`.

use crate::block::Digest;
use bytes::Bytes;
use commonware_codec::DecodeExt as _;
use commonware_consensus::{
    simplex::{scheme::ed25519::Scheme, types::Vote},
    types::Round,
};

pub(super) type Ballot = Vote<Scheme, Digest>;

/// A vote without its signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Notarize { round: Round, payload: [u8; 32] },
    Nullify { round: Round },
    Finalize { round: Round, payload: [u8; 32] },
}

impl Said {
    fn round(self) -> Round {
        match self {
            Self::Notarize { round, .. } | Self::Nullify { round } | Self::Finalize { round, .. } => round,
        }
    }
    pub(super) fn epoch(self) -> u64 {
        self.round().epoch().get()
    }
    pub(super) fn view(self) -> u64 {
        self.round().view().get()
    }
}

/// The vote in a message, and the number of the term's sub-channel that precedes it: a varint, whose bytes but the last have the high bit.
pub(super) fn ballot(message: &[u8]) -> Option<(&[u8], Ballot)> {
    let length = 1 + message.iter().take_while(|byte| **byte & 0x80 != 0).count();
    let (prefix, rest) = message.split_at_checked(length)?;
    Some((prefix, Ballot::decode(Bytes::copy_from_slice(rest)).ok()?))
}

pub(super) fn said(message: &[u8]) -> Option<Said> {
    Some(match ballot(message)?.1 {
        Vote::Notarize(vote) => Said::Notarize { round: vote.proposal.round, payload: vote.proposal.payload.0 },
        Vote::Nullify(vote) => Said::Nullify { round: vote.round },
        Vote::Finalize(vote) => Said::Finalize { round: vote.proposal.round, payload: vote.proposal.payload.0 },
    })
}
