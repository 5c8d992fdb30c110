//! Votes of one validator that contradict each other, as the engine meets them.
//!
//! Guarantees: what is passed on was signed by whom it accuses, and nobody honest signs it ([`Contradiction::is_one`]). It is best effort:
//! the engine forgets votes once a certificate is there. It punishes nobody: the ledger does, by a transaction.

use crate::block::Digest;
use crate::core::Core;
use crate::genesis::{Seats, raw};
use commonware_actor::Feedback;
use commonware_codec::{Encode as _, ReadExt as _};
use commonware_consensus::{
    Reporter,
    simplex::{
        scheme::ed25519::Scheme,
        types::{Activity, Finalize, Notarize, Nullify},
    },
    types::Round,
};
use commonware_cryptography::certificate::Attestation;
use commonware_utils::Participant;
use pasture_types::ZoneId;
use pasture_types::votes::{Contradiction, Vote, VoteKind};
use std::sync::Arc;

/// A validator that contradicted itself, with the proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contradicted {
    /// Its Ed25519 key.
    pub validator: [u8; 32],
    /// The two votes.
    pub votes: Contradiction,
}

/// Picks contradictions out of what a term's engine reports.
#[derive(Clone)]
pub(crate) struct Witness<R> {
    pub(crate) inner: R,
    pub(crate) core: Arc<Core>,
    /// Who votes in the term: votes name their voter by position.
    pub(crate) seats: Arc<Seats>,
}

impl<R: Reporter<Activity = Activity<Scheme, Digest>>> Reporter for Witness<R> {
    type Activity = Activity<Scheme, Digest>;
    fn report(&mut self, activity: Self::Activity) -> Feedback {
        if let Some(found) = contradicted(&activity, &self.seats) {
            self.pass_on(found);
        }
        self.inner.report(activity)
    }
}

impl<R> Witness<R> {
    fn pass_on(&self, found: Contradicted) {
        let zone = ZoneId(self.core.roster.zone);
        if found.votes.is_one() && found.votes.verify(&zone, &found.validator).is_ok() {
            tracing::warn!(validator = %crate::handle::hex(&found.validator), term = found.votes.term, view = found.votes.view, "a validator contradicted itself");
            // Nobody may listen.
            let _ = self.core.contradictions.send(found);
        }
    }
}

fn contradicted(activity: &Activity<Scheme, Digest>, seats: &Seats) -> Option<Contradicted> {
    // The engine keeps the two votes to itself, but encodes them one after the other.
    let (encoded, kinds) = match activity {
        Activity::ConflictingNotarize(votes) => (votes.encode(), [Kind::Notarize; 2]),
        Activity::ConflictingFinalize(votes) => (votes.encode(), [Kind::Finalize; 2]),
        Activity::NullifyFinalize(votes) => (votes.encode(), [Kind::Nullify, Kind::Finalize]),
        _ => return None,
    };
    let mut bytes = encoded;
    let [one, other] = kinds.map(|kind| kind.read(&mut bytes));
    let ((round, signer, one), (_, _, other)) = (one?, other?);
    let validator = seats.keys.keys().nth(usize::from(signer)).map(raw)?;
    Some(Contradicted { validator, votes: Contradiction { term: round.epoch().get(), view: round.view().get(), one, other } })
}

#[derive(Clone, Copy)]
enum Kind {
    Notarize,
    Nullify,
    Finalize,
}

type Cast = (Round, Participant, Vote);

impl Kind {
    fn read(self, bytes: &mut bytes::Bytes) -> Option<Cast> {
        match self {
            Self::Notarize => Notarize::<Scheme, Digest>::read(bytes).ok().and_then(|vote| {
                let kind = VoteKind::Notarize { parent: vote.proposal.parent.get(), block: vote.proposal.payload.0 };
                cast(vote.proposal.round, &vote.attestation, kind)
            }),
            Self::Finalize => Finalize::<Scheme, Digest>::read(bytes).ok().and_then(|vote| {
                let kind = VoteKind::Finalize { parent: vote.proposal.parent.get(), block: vote.proposal.payload.0 };
                cast(vote.proposal.round, &vote.attestation, kind)
            }),
            Self::Nullify => Nullify::<Scheme>::read(bytes).ok().and_then(|vote| cast(vote.round, &vote.attestation, VoteKind::Nullify)),
        }
    }
}

fn cast(round: Round, attestation: &Attestation<Scheme>, kind: VoteKind) -> Option<Cast> {
    let signature = <[u8; 64]>::try_from(attestation.signature.get()?.as_ref()).ok()?;
    Some((round, attestation.signer, Vote { kind, signature }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::genesis::Identity;
    use crate::terms::Terms;
    use commonware_consensus::simplex::types::{ConflictingFinalize, ConflictingNotarize, NullifyFinalize, Proposal};
    use commonware_consensus::types::{Epoch, View};
    use commonware_cryptography::sha256;
    use std::num::NonZeroU64;

    /// The ledger's idea of what a vote signs is the engine's: else no contradiction would ever be believed.
    #[test]
    fn a_contradiction_of_the_engines_is_one_that_the_ledger_believes() {
        let identities: Vec<Identity> = (1..=4).map(|n| Identity::from_secret(&[n; 32]).unwrap()).collect();
        let genesis = crate::Genesis {
            zone: [42; 32],
            timestamp_ms: 0,
            validators: identities.iter().map(Identity::validator).collect(),
            term_blocks: NonZeroU64::new(8).unwrap(),
            base: None,
        };
        let roster = crate::genesis::Roster::new(&genesis, [0; 32], (0, 1)).unwrap();
        let terms = Terms::new(&identities[2], &roster);
        let (seats, scheme) = terms.of(0).unwrap();
        let proposal = |block: u8| Proposal::new(Round::new(Epoch::new(0), View::new(300)), View::new(299), sha256::Digest([block; 32]));
        let notarize = |block| Notarize::sign(&*scheme, proposal(block)).unwrap();
        let finalize = |block| Finalize::sign(&*scheme, proposal(block)).unwrap();
        let nullify = Nullify::sign::<Digest>(&*scheme, proposal(1).round).unwrap();
        let found = [
            Activity::ConflictingNotarize(ConflictingNotarize::new(notarize(1), notarize(2))),
            Activity::ConflictingFinalize(ConflictingFinalize::new(finalize(1), finalize(2))),
            Activity::NullifyFinalize(NullifyFinalize::new(nullify, finalize(1))),
        ];
        for activity in found {
            let Contradicted { validator, votes } = contradicted(&activity, &seats).unwrap();
            assert_eq!(validator, identities[2].public_key());
            assert!(votes.is_one(), "{votes:?}");
            votes.verify(&ZoneId([42; 32]), &validator).unwrap();
            assert!(votes.verify(&ZoneId([43; 32]), &validator).is_err(), "a vote in another zone is none here");
            assert!(votes.verify(&ZoneId([42; 32]), &identities[1].public_key()).is_err());
        }
        assert_eq!(contradicted(&Activity::Notarize(notarize(1)), &seats), None);
    }
}
