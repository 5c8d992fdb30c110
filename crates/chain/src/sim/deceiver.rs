//! Validators that take part and lie to those who join, written apart from what these check.
//!
//! Guarantees: a lie is made of the truth, so that it is as near to it as it can be: the real answer is read by its form on the wire,
//! changed, and signed with the liar's own key where a signature belongs. It alone never certifies anything: its seats are less than a third.

use super::dice::Dice;
use super::liar::Evil;
use super::net::{JOINING, OPERATIONS};
use crate::block::{Digest, Header};
use crate::genesis::{Identity, Roster, Seats};
use crate::terms::{Change, MAX_CERTIFICATE_BYTES};
use bytes::Bytes;
use commonware_codec::{Encode as _, RangeCfg, Read as _, ReadExt as _, Write as _};
use commonware_consensus::simplex::{
    scheme::ed25519::Scheme,
    types::{Finalization, Finalize, Proposal},
};
use commonware_consensus::types::{Epoch, Round, View};
use commonware_parallel::Sequential;
use commonware_utils::non_empty;
use pasture_types::votes::vote_namespace;
use std::sync::Arc;

/// Most changes of seats in an answer that is read.
const MAX_CHANGES: usize = 16;
/// The first byte of an answer about changes of seats.
const TELL: u8 = 1;
/// An answer with operations begins with its number, and this after it.
const ANSWER_AT: usize = 8;
const ANSWER: u8 = 1;
/// What stands before the operations of such an answer at the least: its number, two tags, lengths.
const BEFORE_OPERATIONS: usize = 16;

/// What one liar is made of.
#[derive(Clone)]
pub(super) struct Deceiver {
    pub(super) evil: Evil,
    pub(super) dice: Dice,
    pub(super) identity: Identity,
    pub(super) roster: Arc<Roster>,
}

/// An answer about changes of seats, as it is on the wire.
struct Told {
    changes: Vec<Change>,
    more: bool,
    end: Option<(Header, Bytes)>,
}

impl Told {
    fn read(message: &[u8]) -> Option<Self> {
        let (first, rest) = message.split_first()?;
        let mut rest = Bytes::copy_from_slice(rest);
        if *first != TELL {
            return None;
        }
        let changes = Vec::<Change>::read_cfg(&mut rest, &(RangeCfg::from(0..=MAX_CHANGES), ())).ok()?;
        let more = bool::read(&mut rest).ok()?;
        let end = match bool::read(&mut rest).ok()? {
            true => Some((Header::read(&mut rest).ok()?, Bytes::read_cfg(&mut rest, &RangeCfg::from(0..=MAX_CERTIFICATE_BYTES)).ok()?)),
            false => None,
        };
        Some(Self { changes, more, end })
    }

    fn encode(&self) -> Bytes {
        let mut out = vec![TELL];
        self.changes.write(&mut out);
        self.more.write(&mut out);
        self.end.is_some().write(&mut out);
        if let Some((header, certificate)) = &self.end {
            header.write(&mut out);
            certificate.write(&mut out);
        }
        out.into()
    }
}

impl Deceiver {
    /// What it says instead of what it would say if it were honest; `None` if it says nothing.
    pub(super) fn instead(&self, channel: u64, message: &[u8]) -> Option<Bytes> {
        let changed = match (self.evil, channel) {
            (Evil::FalseSeats, JOINING) => Told::read(message).map(|told| self.forge(told).encode()),
            (Evil::FalseState, OPERATIONS) if message.get(ANSWER_AT) == Some(&ANSWER) => return self.falsify(message),
            _ => None,
        };
        Some(changed.unwrap_or_else(|| Bytes::copy_from_slice(message)))
    }

    /// Other operations than the state's, none, or no answer.
    fn falsify(&self, message: &[u8]) -> Option<Bytes> {
        let mut bytes = message.to_vec();
        match self.dice.below(4) {
            0 => return None,
            1 => bytes.truncate(self.dice.index(bytes.len())),
            _ => {
                // Most of an answer are keys and values, which read as well with another byte.
                let low = BEFORE_OPERATIONS.min(bytes.len() - 1);
                let at = low + self.dice.index(bytes.len() - low);
                bytes[at] ^= u8::try_from(self.dice.range(1, 255)).unwrap_or(1);
            }
        }
        Some(bytes.into())
    }

    /// Seats that were never given, blocks that were never made.
    fn forge(&self, mut told: Told) -> Told {
        let mine = Seats::new(&[self.identity.validator()]).expect("a validator of ours");
        match (self.dice.below(5), told.end.clone()) {
            // It alone sits from a change on that it certifies itself, and what came after is certified by it.
            (0 | 1, Some((header, _))) => {
                let header = Header { next_validators: mine.hash, ..header };
                let (certificate, seats) = (self.certify(&header, &mine), mine.encode().into());
                let after = self.next_end(&header, &mine);
                told.changes.push(Change { header, certificate, seats });
                told.end = Some(after);
            }
            // The block is another one, under the real certificate or one of its own.
            (2, Some((header, certificate))) => {
                let header = Header { ops_root: self.random(), state_root: self.random(), ..header };
                let own = self.certify(&header, &mine);
                told.end = Some((header, if self.dice.percent(50) { own } else { certificate }));
            }
            // The real change, to other seats.
            (3, _) if !told.changes.is_empty() => {
                let at = self.dice.index(told.changes.len());
                let change = &mut told.changes[at];
                change.seats = mine.encode().into();
                if self.dice.percent(50) {
                    change.header.next_validators = mine.hash;
                }
                if self.dice.percent(50) {
                    change.certificate = self.certify(&change.header, &mine);
                }
            }
            // As if nothing had happened since the beginning, or more than it shows.
            _ => told = Told { changes: Vec::new(), more: self.dice.percent(50), end: None },
        }
        told
    }

    /// The last block of the term after one, as if it alone had made it.
    fn next_end(&self, before: &Header, mine: &Seats) -> (Header, Bytes) {
        let header = Header {
            height: before.height + self.roster.term_blocks.get(),
            term: before.term + 1,
            parent: self.random(),
            ops_root: self.random(),
            state_root: self.random(),
            validators: mine.hash,
            next_validators: mine.hash,
            ..before.clone()
        };
        let certificate = self.certify(&header, mine);
        (header, certificate)
    }

    fn random(&self) -> [u8; 32] {
        std::array::from_fn(|_| u8::try_from(self.dice.below(256)).unwrap_or(0))
    }

    /// A certificate that is right for a set of which it has the only key.
    fn certify(&self, header: &Header, mine: &Seats) -> Bytes {
        let namespace = vote_namespace(&pasture_types::ZoneId(self.roster.zone));
        let scheme = Scheme::signer(&namespace, mine.participants(), self.identity.signer().clone()).expect("its own key");
        let proposal: Proposal<Digest> =
            Proposal::new(Round::new(Epoch::new(header.term), View::new(header.view)), View::new(header.parent_view), header.id());
        let votes = [Finalize::sign(&scheme, proposal).expect("it signs")];
        Finalization::from_finalizes(&scheme, non_empty![@votes.iter()], &Sequential).expect("one of one").encode()
    }
}
