//! Joining by state instead of by blocks.
//!
//! ```text
//!  find   "what came after this term?" ─► somebody ─► changes of seats: each checked by the seats before it, then kept
//!                                                └──► the last block that ended a term, with its certificate: where to begin
//!  then the engine: that block, the operations that make its state (`source`), and blocks from there on
//!  serve  the same to others
//! ```
//! Guarantees: nothing is believed that the seats of its own term did not certify, from the genesis on; whoever shows something else is kept
//! away. The state is checked against the block operation by operation before it is used, so a peer can delay and not deceive. Who has
//! held most keys of a set that sat long ago could show another history to somebody who knows the genesis alone: no node that follows
//! from the genesis can tell (`docs/adr/0014`).

mod source;

pub(crate) use source::{Joining, Progress, SERVED_AT_ONCE, largest_answer};

use crate::app::Rt;
use crate::block::{Digest, HEADER_SIZE, Header};
use crate::core::Core;
#[cfg(not(any(test, feature = "simulation")))]
use crate::genesis::memo;
use crate::genesis::{MAX_VALIDATORS, Roster, Seats};
#[cfg(any(test, feature = "simulation"))]
use crate::sim::memo;
use crate::stack::Marshal;
use crate::terms::{Book, Change, Kept, Terms, term_of};
use bytes::Bytes;
use commonware_codec::{
    Buf, Decode as _, DecodeExt as _, Encode as _, EncodeSize, Error as CodecError, RangeCfg, Read, ReadExt as _, Write,
};
use commonware_consensus::simplex::{scheme::ed25519::Scheme, types::Finalization};
use commonware_consensus::types::{Epoch, Epocher as _};
use commonware_cryptography::ed25519::PublicKey;
use commonware_p2p::{Blocker, CheckedSender as _, LimitedSender, Receiver, Recipients, Sender};
use commonware_parallel::Sequential;
use commonware_runtime::{BufMut, IoBuf};
use rand_core::CryptoRng;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Most changes in one answer; there is another for more.
const MAX_CHANGES: usize = 16;
/// Longest answer: that many changes of the largest sets.
pub(crate) const MAX_ANSWER_BYTES: usize = 2 << 20;
/// How long the others may take to answer before they are asked again.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// How long somebody who is not connected waits before it looks again.
const CONNECT_WITHIN: Duration = Duration::from_millis(250);

/// How a node without blocks comes to today's state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Join {
    /// It fetches all blocks and executes them.
    #[default]
    Blocks,
    /// It fetches the state after a recent block, and the blocks from there on. Where nothing ended yet that it could begin with, it
    /// fetches the blocks.
    State,
}

/// How far a node is that joins by state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinStep {
    /// Nobody lets it in yet: the others let in who has a seat, stands for election, or is named by their operators, and look at that when a
    /// term of the engine begins.
    Waiting,
    /// It fetches the state after this block.
    State {
        /// Height of the block.
        height: u64,
        /// Operations that are here.
        have: u64,
        /// Operations that make the state.
        of: u64,
    },
    /// It has the state after this block, and goes on with blocks.
    Joined {
        /// Height of the block.
        height: u64,
    },
}

/// Hears how far it is.
pub type OnJoin = Arc<dyn Fn(JoinStep) + Send + Sync>;

/// How a node comes to its blocks, and how many stay.
#[derive(Clone, Default)]
pub struct History {
    /// How it comes to today's state if it has no blocks; not heeded with one validator.
    pub join: Join,
    /// Hears how far it is while it joins by state, on a thread of the engine's.
    pub on_join: Option<OnJoin>,
    /// How many of the latest blocks stay on disk, at least those of two terms; all if none. A node that does not keep all cannot be
    /// replayed from the genesis.
    pub keep_blocks: Option<u64>,
}

type Certificate = Finalization<Scheme, Digest>;

/// A block that ended a term.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct End {
    header: Header,
    certificate: Bytes,
}

/// What is said on the channel.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Said {
    /// The asker knows who sits from this term on, up to the next change.
    Ask { known: u64 },
    /// The answer.
    Tell(Box<Told>),
}

/// The changes after what was known, and, unless there are more changes, the last block that ended a term.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Told {
    changes: Vec<Change>,
    more: bool,
    end: Option<End>,
}

impl Write for Said {
    fn write(&self, buf: &mut impl BufMut) {
        match self {
            Self::Ask { known } => {
                0u8.write(buf);
                known.write(buf);
            }
            Self::Tell(told) => {
                let Told { changes, more, end } = told.as_ref();
                1u8.write(buf);
                changes.write(buf);
                more.write(buf);
                end.is_some().write(buf);
                if let Some(end) = end {
                    end.header.write(buf);
                    end.certificate.write(buf);
                }
            }
        }
    }
}

impl EncodeSize for Said {
    fn encode_size(&self) -> usize {
        let end = |end: &End| HEADER_SIZE.saturating_add(end.certificate.encode_size());
        match self {
            Self::Ask { .. } => 9,
            Self::Tell(told) => told.changes.encode_size().saturating_add(3).saturating_add(told.end.as_ref().map_or(0, end)),
        }
    }
}

impl Read for Said {
    type Cfg = ();
    fn read_cfg(buf: &mut impl Buf, (): &()) -> Result<Self, CodecError> {
        match u8::read(buf)? {
            0 => Ok(Self::Ask { known: u64::read(buf)? }),
            1 => {
                let changes = Vec::<Change>::read_cfg(buf, &(RangeCfg::from(0..=MAX_CHANGES), ()))?;
                let more = bool::read(buf)?;
                let end = match bool::read(buf)? {
                    true => {
                        let header = Header::read(buf)?;
                        let certificate = Bytes::read_cfg(buf, &RangeCfg::from(0..=crate::terms::MAX_CERTIFICATE_BYTES))?;
                        Some(End { header, certificate })
                    }
                    false => None,
                };
                Ok(Self::Tell(Box::new(Told { changes, more, end })))
            }
            other => Err(CodecError::InvalidEnum(other)),
        }
    }
}

/// What somebody showed is not what the seats certified.
#[derive(Debug, PartialEq, Eq)]
struct Lie(&'static str);

impl fmt::Display for Lie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// The certificate of a term's last header, if `seats` made it.
fn certified<R: CryptoRng>(rng: &mut R, roster: &Roster, terms: &Terms, seats: &Seats, end: &End) -> Result<Certificate, Lie> {
    let header = &end.header;
    let height = roster.engine_height(header.height).filter(|_| roster.ends_term(header)).ok_or(Lie("a block that ends no term"))?;
    if header.zone != roster.zone || header.base != roster.genesis.header.base || term_of(&roster.terms(), height) != header.term {
        return Err(Lie("a block of another network"));
    }
    if header.validators != seats.hash {
        return Err(Lie("a block of other validators"));
    }
    let certificate = Certificate::decode_cfg(end.certificate.clone(), &MAX_VALIDATORS).map_err(|_| Lie("no certificate"))?;
    let same = certificate.proposal.payload == header.id() && certificate.round().epoch() == Epoch::new(header.term);
    let verify = || certificate.verify(rng, &terms.onlooker(seats), &Sequential);
    if !same || !memo::certified(&[&roster.zone, &seats.hash, &header.id().0, &end.certificate], verify) {
        return Err(Lie("a certificate that is none"));
    }
    Ok(certificate)
}

/// What one answer taught.
enum Learned {
    /// Who sits after changes that were not known.
    Changes(Vec<Kept>),
    /// A block to begin with.
    End(Box<Begin>),
    /// That no term ended yet.
    Young,
    /// What was known.
    Nothing,
}

/// Where a node begins: a final block that ended a term.
pub(crate) struct Begin {
    pub(crate) finalization: Certificate,
    pub(crate) header: Header,
}

/// Checks one answer.
fn learn<R: CryptoRng>(rng: &mut R, (roster, terms): (&Roster, &Terms), told: Told) -> Result<Learned, Lie> {
    let Told { changes, more, end } = told;
    let Some((mut from, mut seats)) = terms.latest() else { return Ok(Learned::Nothing) };
    let mut learned = Vec::new();
    for change in changes {
        // Another's answer to the same question was faster.
        if change.from() <= from {
            continue;
        }
        certified(rng, roster, terms, &seats, &End { header: change.header.clone(), certificate: change.certificate.clone() })?;
        let next = Seats::decode(&change.seats).map_err(|_| Lie("validators that cannot be"))?;
        if next.hash != change.header.next_validators || next.hash == seats.hash {
            return Err(Lie("other validators than the block names"));
        }
        (from, seats) = (change.from(), Arc::new(next));
        learned.push((Arc::new(change), Arc::clone(&seats)));
    }
    if !learned.is_empty() {
        return Ok(Learned::Changes(learned));
    }
    let Some(end) = end else { return Ok(if more || from > 0 { Learned::Nothing } else { Learned::Young }) };
    // The end of the term before the last change was certified by those before; its certificate is the change's.
    let last = terms.changes(from.saturating_sub(1)).into_iter().find(|change| change.header == end.header);
    let by = match &last {
        Some(_) => terms.of(end.header.term).map(|(seats, _)| seats).ok_or(Lie("a term that is not known"))?,
        None => seats,
    };
    if last.is_none() && end.header.term < from {
        // It has not come as far as whoever showed the last change.
        return Ok(Learned::Nothing);
    }
    if last.is_none() && end.header.next_validators != by.hash {
        return Err(Lie("a block after what it did not show"));
    }
    let finalization = certified(rng, roster, terms, &by, &end)?;
    Ok(Learned::End(Box::new(Begin { finalization, header: end.header })))
}

/// Asks until somebody shows where to begin; `None` if all who answer say that no term ended yet.
pub(crate) async fn find<E, S, R, B>(
    context: &mut E,
    core: &Core,
    mut book: Book<E>,
    (mouth, ear): &mut (S, R),
    mut blocker: B,
    on_join: Option<&OnJoin>,
) -> (Book<E>, Option<Box<Begin>>)
where
    E: Rt,
    S: Sender<PublicKey = PublicKey>,
    R: Receiver<PublicKey = PublicKey>,
    B: Blocker<PublicKey = PublicKey>,
{
    let mut said = false;
    loop {
        let known = core.terms.latest().map_or(0, |(from, _)| from);
        let asked = ask(mouth, known);
        if asked.is_empty() {
            if !std::mem::replace(&mut said, true) {
                tracing::info!("waiting for a validator that lets this one in");
                on_join.inspect(|say| say(JoinStep::Waiting));
            }
            context.sleep(CONNECT_WITHIN).await;
            continue;
        }
        let (mut best, mut answered, mut young): (Option<Box<Begin>>, BTreeSet<PublicKey>, usize) = (None, BTreeSet::new(), 0);
        let mut over = Box::pin(context.sleep(ANSWER_WITHIN));
        while !asked.is_subset(&answered) {
            let (from, message) = tokio::select! {
                biased;
                heard = ear.recv() => match heard {
                    Ok(heard) => heard,
                    // The network is gone, and this with it.
                    Err(_) => return std::future::pending().await,
                },
                () = &mut over => break,
            };
            let learned = match Said::decode(message) {
                // It has nothing to tell yet.
                Ok(Said::Ask { .. }) => continue,
                Ok(Said::Tell(told)) => learn(context, (&core.roster, &core.terms), *told),
                Err(_) => Err(Lie("what is no answer")),
            };
            answered.insert(from.clone());
            match learned {
                Ok(Learned::Changes(changes)) => {
                    for (change, seats) in changes {
                        book = book.keep(&change).await;
                        core.terms.add(change.from(), seats, Some(Arc::clone(&change)));
                        core.terms.reach(change.from());
                    }
                    // Whoever showed them is asked what comes after.
                    best = None;
                    break;
                }
                Ok(Learned::End(begin)) => {
                    if best.as_ref().is_none_or(|best| best.header.height < begin.header.height) {
                        best = Some(begin);
                    }
                }
                Ok(Learned::Young) => young = young.saturating_add(1),
                Ok(Learned::Nothing) => {}
                Err(lie) => {
                    tracing::warn!(%lie, "a validator showed a joining one what its seats did not certify");
                    let _ = blocker.block(from);
                }
            }
        }
        if let Some(begin) = best {
            core.terms.reach(begin.header.term.saturating_add(1));
            return (book, Some(begin));
        }
        if young > 0 && young == answered.len() {
            return (book, None);
        }
    }
}

/// Asks everybody who is connected, and says who that is.
fn ask<S: Sender<PublicKey = PublicKey>>(mouth: &mut S, known: u64) -> BTreeSet<PublicKey> {
    let Ok(open) = LimitedSender::check(mouth, Recipients::All) else { return BTreeSet::new() };
    let asked = open.recipients().into_iter().collect();
    // Who was asked and did not hear it is asked again.
    let _ = open.send(IoBuf::from(Said::Ask { known }.encode()), false);
    asked
}

/// Answers those who join.
pub(crate) async fn serve<S, R, B>(core: Arc<Core>, marshal: Marshal, (mut mouth, mut ear): (S, R), mut blocker: B)
where
    S: Sender<PublicKey = PublicKey>,
    R: Receiver<PublicKey = PublicKey>,
    B: Blocker<PublicKey = PublicKey>,
{
    while let Ok((from, message)) = ear.recv().await {
        match Said::decode(message) {
            Ok(Said::Ask { known }) => {
                let told = tell(&core, &marshal, known).await;
                // Who is gone asks somebody else.
                let _ = mouth.send(Recipients::One(from), IoBuf::from(told.encode()), false);
            }
            // Late, for what this one asked when it joined.
            Ok(Said::Tell(_)) => {}
            Err(_) => {
                let _ = blocker.block(from);
            }
        }
    }
}

async fn tell(core: &Core, marshal: &Marshal, known: u64) -> Said {
    let all = core.terms.changes(known);
    let more = all.len() > MAX_CHANGES;
    let changes = all.iter().take(MAX_CHANGES).map(|change| change.as_ref().clone()).collect();
    let end = if more { None } else { end(core, marshal).await };
    Said::Tell(Box::new(Told { changes, more, end }))
}

/// The last block that ended a term, with its certificate.
async fn end(core: &Core, marshal: &Marshal) -> Option<End> {
    let term = Epoch::new(core.terms.last()).previous()?;
    let height = core.roster.terms().last(term)?;
    let (block, certificate) = (marshal.get_block(height).await?, marshal.get_finalization(height).await?);
    Some(End { header: block.inner().header.clone(), certificate: certificate.encode() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::genesis::{Genesis, Identity};
    use commonware_consensus::simplex::types::{Finalize, Proposal};
    use commonware_consensus::types::{Round, View};
    use commonware_cryptography::certificate::Scheme as _;
    use commonware_runtime::{Runner as _, deterministic};
    use commonware_utils::non_empty;
    use std::num::NonZeroU64;

    const TERM_BLOCKS: u64 = 8;

    /// What the validators of these numbers say.
    struct World {
        roster: Roster,
        identities: Vec<Identity>,
    }

    impl World {
        fn new() -> Self {
            let identities: Vec<Identity> = (1..=8).map(|n| Identity::from_secret(&[n; 32]).unwrap()).collect();
            let validators = identities.iter().take(4).map(Identity::validator).collect();
            let term_blocks = NonZeroU64::new(TERM_BLOCKS).unwrap();
            let genesis = Genesis { zone: [42; 32], timestamp_ms: 0, validators, term_blocks, base: None };
            Self { roster: Roster::new(&genesis, [0; 32], (0, 1)).unwrap(), identities }
        }
        fn terms(&self) -> Terms {
            Terms::new(&self.identities[7], &self.roster)
        }
        fn seats(&self, numbers: &[usize]) -> Seats {
            Seats::new(&numbers.iter().map(|n| self.identities[*n].validator()).collect::<Vec<_>>()).unwrap()
        }
        /// The last block of a term, certified by these of `seats`.
        fn end(&self, term: u64, seats: &[usize], next: &[usize], signers: &[usize]) -> End {
            let sitting = self.seats(seats);
            let header = Header {
                height: (term + 1) * TERM_BLOCKS - 1,
                term,
                view: 9,
                validators: sitting.hash,
                next_validators: self.seats(next).hash,
                ..self.roster.genesis.header.clone()
            };
            let proposal = Proposal::new(Round::new(Epoch::new(term), View::new(9)), View::new(8), header.id());
            let namespace = pasture_types::votes::vote_namespace(&pasture_types::ZoneId(self.roster.zone));
            let scheme = |n: &usize| Scheme::signer(&namespace, sitting.participants(), self.identities[*n].signer().clone()).unwrap();
            let votes: Vec<_> = signers.iter().map(|n| Finalize::sign(&scheme(n), proposal.clone()).unwrap()).collect();
            let by = scheme(&signers[0]);
            assert!(by.me().is_some());
            let certificate = Finalization::from_finalizes(&by, non_empty![@votes.iter()], &Sequential).unwrap();
            End { header, certificate: certificate.encode() }
        }
        fn change(&self, term: u64, seats: &[usize], next: &[usize], signers: &[usize]) -> Change {
            let End { header, certificate } = self.end(term, seats, next, signers);
            Change { header, certificate, seats: self.seats(next).encode().into() }
        }
        fn learn(&self, terms: &Terms, told: Told) -> Result<Learned, Lie> {
            // What is said is read as it comes over the wire.
            let Said::Tell(told) = Said::decode(Said::Tell(Box::new(told)).encode()).unwrap() else { panic!("an answer") };
            deterministic::Runner::default().start(|mut context| async move { learn(&mut context, (&self.roster, terms), *told) })
        }
    }

    fn told(changes: Vec<Change>, end: Option<End>) -> Told {
        Told { changes, more: false, end }
    }

    fn add(terms: &Terms, learned: Learned) {
        let Learned::Changes(changes) = learned else { panic!("changes") };
        for (change, seats) in changes {
            terms.add(change.from(), seats, Some(Arc::clone(&change)));
            terms.reach(change.from());
        }
    }

    const FIRST: &[usize] = &[0, 1, 2, 3];
    const SECOND: &[usize] = &[0, 4, 5, 6];
    /// Three of four are enough.
    const MOST: &[usize] = &[0, 1, 2];

    #[test]
    fn changes_are_believed_one_after_another_and_then_a_beginning() {
        let world = World::new();
        let terms = world.terms();
        let (there, back) = (world.change(2, FIRST, SECOND, MOST), world.change(5, SECOND, FIRST, &[0, 4, 6]));
        add(&terms, world.learn(&terms, told(vec![there.clone(), back.clone()], None)).unwrap());
        assert_eq!(terms.changes(0), [Arc::new(there.clone()), Arc::new(back.clone())]);
        assert_eq!(terms.of(4).unwrap().0.hash, world.seats(SECOND).hash);
        // Others tell the same a moment later.
        assert!(matches!(world.learn(&terms, told(vec![there, back.clone()], None)), Ok(Learned::Nothing)));
        let end = world.end(7, FIRST, FIRST, MOST);
        let Ok(Learned::End(begin)) = world.learn(&terms, told(vec![], Some(end.clone()))) else { panic!("a beginning") };
        assert_eq!(begin.header, end.header);
        // Somebody who lags behind the last change is no liar, and no help.
        let behind = world.end(4, SECOND, SECOND, &[0, 4, 6]);
        assert!(matches!(world.learn(&terms, told(vec![], Some(behind))), Ok(Learned::Nothing)));
        // The block with which the last change came is one too.
        let change = End { header: back.header, certificate: back.certificate };
        assert!(matches!(world.learn(&terms, told(vec![], Some(change))), Ok(Learned::End(_))));
    }

    #[test]
    fn a_network_without_an_ended_term_is_young_and_one_with_more_to_tell_is_not() {
        let world = World::new();
        assert!(matches!(world.learn(&world.terms(), told(vec![], None)), Ok(Learned::Young)));
        assert!(matches!(world.learn(&world.terms(), Told { more: true, ..Told::default() }), Ok(Learned::Nothing)));
    }

    #[test]
    fn nothing_is_believed_that_the_seats_did_not_certify() {
        let world = World::new();
        let good = || world.change(2, FIRST, SECOND, MOST);
        let with = |spoil: &dyn Fn(&mut Change)| {
            let mut change = good();
            spoil(&mut change);
            told(vec![change], None)
        };
        let lies = [
            // Signed by strangers, by a term's later seats, for other validators, for another block, of another zone.
            told(vec![world.change(2, SECOND, FIRST, SECOND)], None),
            told(vec![world.change(5, SECOND, FIRST, &[0, 4, 5])], None),
            with(&|change| change.seats = world.seats(&[1, 2, 3, 4]).encode().into()),
            with(&|change| change.seats = Bytes::from_static(b"nobody")),
            with(&|change| change.header.next_validators = world.seats(&[1, 2, 3, 4]).hash),
            with(&|change| change.header.height += 1),
            with(&|change| change.header.height += TERM_BLOCKS),
            with(&|change| change.header.zone = [43; 32]),
            with(&|change| change.certificate = world.change(3, FIRST, SECOND, MOST).certificate),
            with(&|change| change.certificate = Bytes::from_static(b"signed")),
            // A change to the same is none.
            told(vec![world.change(2, FIRST, FIRST, MOST)], None),
            // A beginning after a change that was not shown, and one that is no end of a term.
            told(vec![], Some(world.end(7, SECOND, SECOND, &[0, 4, 5]))),
            told(vec![], Some(world.end(2, FIRST, SECOND, MOST))),
            told(vec![], Some(End { header: world.roster.genesis.header.clone(), certificate: good().certificate })),
        ];
        for (index, lie) in lies.into_iter().enumerate() {
            assert!(world.learn(&world.terms(), lie).is_err(), "lie {index} is believed");
        }
    }

    #[test]
    fn an_answer_of_the_largest_sets_fits_into_a_message() {
        let certificate = Finalization::<Scheme, Digest>::max_encode_size(u32::try_from(MAX_VALIDATORS).unwrap());
        assert!(certificate <= crate::terms::MAX_CERTIFICATE_BYTES);
        let world = World::new();
        let one = world.seats(&[0]).encode().len();
        let change = HEADER_SIZE + certificate + MAX_VALIDATORS * one + 16;
        assert!((MAX_CHANGES + 1) * change < MAX_ANSWER_BYTES, "{change} bytes a change");
    }
}
