//! Validators that do not follow the protocol, written apart from it.
//!
//! Guarantees: they hold a real validator's key and sign with it whatever helps them. [`Evil::Twin`] and the silent ones are made of the
//! honest implementation (in `node`); [`lie`] is not. Those that deceive who joins are the honest implementation but for what it says to
//! them, which is `deceiver`'s.

use super::dice::Dice;
use super::frame::{Ballot, ballot};
use super::net::{BACKFILL, BLOCKS, CERTIFICATES, Ear, JOINING, Mouth, OPERATIONS, RESOLVER, TRANSACTIONS, VOTES};
use crate::block::Digest;
use bytes::Bytes;
use commonware_codec::Encode as _;
use commonware_consensus::simplex::{
    scheme::ed25519::Scheme,
    types::{Finalize, Notarize, Nullify, Proposal, Vote},
};
use commonware_cryptography::sha256;
use commonware_p2p::{Receiver as _, Recipients, Sender as _};
use commonware_runtime::{IoBuf, Spawner as _, Supervisor as _, deterministic::Context};

/// How a validator is dishonest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evil {
    /// Runs twice with one key; each half of the others hears another one: two proposals, two votes in a view.
    Twin,
    /// Proposes and votes, and gives nobody a block.
    Withholding,
    /// Listens and says nothing: its turns pass.
    Silent,
    /// Signs both what it hears and the opposite, and sends again what is long past.
    Conflicting,
    /// Sends what is no message at all, and messages with a byte changed.
    Garbling,
    /// Takes part, and tells those who join of seats that were never given and blocks that were never made.
    FalseSeats,
    /// Takes part, and gives those who join operations that are not the state's.
    FalseState,
    /// Takes part, and leaves those who join without an answer.
    Mute,
}

impl Evil {
    pub(super) const ALL: [Self; 5] = [Self::Twin, Self::Withholding, Self::Silent, Self::Conflicting, Self::Garbling];

    /// What matters only to those who join by state.
    pub(super) const TO_JOINING: [Self; 3] = [Self::FalseSeats, Self::FalseState, Self::Mute];

    pub(super) fn silent_on(self) -> Vec<u64> {
        match self {
            Self::Withholding => vec![BLOCKS, BACKFILL],
            Self::Silent => vec![VOTES, CERTIFICATES, RESOLVER, BACKFILL, BLOCKS, JOINING, OPERATIONS, TRANSACTIONS],
            Self::Mute => vec![JOINING, OPERATIONS],
            Self::Twin | Self::Conflicting | Self::Garbling | Self::FalseSeats | Self::FalseState => vec![],
        }
    }
}

/// Votes that are remembered to be sent again.
const REMEMBERED: usize = 256;
/// Longest message of noise.
const NOISE: u64 = 300;

/// Answers each message with lies, on every channel.
pub(super) fn lie(context: &Context, dice: &Dice, evil: Evil, scheme: &Scheme, channels: Vec<(u64, (Mouth, Ear))>) {
    for (channel, (mouth, ear)) in channels {
        let (dice, scheme) = (dice.clone(), scheme.clone());
        context.child("lies").spawn(move |_| async move {
            match evil {
                Evil::Conflicting if channel == VOTES => conflict(&dice, &scheme, mouth, ear).await,
                Evil::Garbling => garble(&dice, mouth, ear).await,
                _ => listen(ear).await,
            }
        });
    }
}

async fn listen(mut ear: Ear) {
    while ear.recv().await.is_ok() {}
}

async fn conflict(dice: &Dice, scheme: &Scheme, mut mouth: Mouth, mut ear: Ear) {
    let mut old: Vec<IoBuf> = Vec::new();
    while let Ok((_, message)) = ear.recv().await {
        let Some((prefix, heard)) = ballot(message.as_ref()) else { continue };
        for vote in opposites(dice, scheme, &heard) {
            let signed = IoBuf::from(Bytes::from([prefix, &vote.encode()[..]].concat()));
            mouth.send(Recipients::All, signed.clone(), true);
            if old.len() < REMEMBERED {
                old.push(signed);
            }
        }
        if !old.is_empty() && dice.percent(20) {
            let again = dice.index(old.len());
            mouth.send(Recipients::All, old[again].clone(), true);
        }
    }
}

/// Both sides of every question.
fn opposites(dice: &Dice, scheme: &Scheme, heard: &Ballot) -> Vec<Ballot> {
    let mut random = [0; 32];
    random[..8].copy_from_slice(&dice.word().to_be_bytes());
    let other = |proposal: &Proposal<Digest>| Proposal::new(proposal.round, proposal.parent, sha256::Digest(random));
    let notarize = |proposal| Notarize::sign(scheme, proposal).map(Vote::Notarize);
    let finalize = |proposal| Finalize::sign(scheme, proposal).map(Vote::Finalize);
    let nullify = |round| Nullify::sign::<Digest>(scheme, round).map(Vote::Nullify);
    let votes = match heard {
        Vote::Notarize(vote) => vec![notarize(vote.proposal.clone()), notarize(other(&vote.proposal)), nullify(vote.proposal.round)],
        Vote::Finalize(vote) => vec![finalize(vote.proposal.clone()), finalize(other(&vote.proposal)), nullify(vote.proposal.round)],
        Vote::Nullify(vote) => vec![nullify(vote.round)],
    };
    votes.into_iter().flatten().collect()
}

async fn garble(dice: &Dice, mut mouth: Mouth, mut ear: Ear) {
    while let Ok((from, message)) = ear.recv().await {
        let mut bytes = message.as_ref().to_vec();
        if dice.percent(50) {
            bytes = (0..dice.below(NOISE)).map(|_| u8::try_from(dice.below(256)).unwrap_or(0)).collect();
        } else if !bytes.is_empty() {
            let at = dice.index(bytes.len());
            bytes[at] ^= u8::try_from(dice.range(1, 255)).unwrap_or(1);
        }
        let to = if dice.percent(50) { Recipients::One(from) } else { Recipients::All };
        mouth.send(to, IoBuf::from(Bytes::from(bytes)), false);
    }
}
