//! Where a node that joins by state begins: it asks until somebody shows a block that the right seats certified.
//!
//! Guarantees: nothing is kept that the seats of its own term did not certify, from the genesis on. Where a checkpoint is given, nothing is kept
//! before one and the same peer has shown all changes up to it: who shows another history is kept away, and so leaves no trace.

use super::{ANSWER_WITHIN, CONNECT_WITHIN, Certificate, End, JoinStep, OnJoin, Said, Told};
use crate::app::{Rt, fail};
use crate::block::Header;
use crate::core::Core;
#[cfg(not(any(test, feature = "simulation")))]
use crate::genesis::memo;
use crate::genesis::{MAX_VALIDATORS, Roster, Seats};
#[cfg(any(test, feature = "simulation"))]
use crate::sim::memo;
use crate::terms::{Book, Change, Kept, Terms, term_of};
use commonware_codec::{Decode as _, DecodeExt as _, Encode as _};
use commonware_consensus::types::Epoch;
use commonware_cryptography::ed25519::PublicKey;
use commonware_p2p::{Blocker, CheckedSender as _, LimitedSender, Receiver, Recipients, Sender};
use commonware_parallel::Sequential;
use commonware_runtime::IoBuf;
use rand_core::CryptoRng;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// Whom a newcomer knows besides the founders: what somebody whom it believes gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// Height of the block after which they certify.
    pub since: u64,
    /// The hash of their set.
    pub validators: [u8; 32],
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

/// Somewhere on the way of the seats from the genesis to today.
#[derive(Clone)]
struct Place {
    /// The term from which they sit.
    from: u64,
    /// Height of the block before that term.
    since: u64,
    /// Who sits.
    seats: Arc<Seats>,
}

impl Place {
    /// After the last change that is kept.
    fn kept(roster: &Roster, terms: &Terms) -> Option<Self> {
        let (from, seats) = terms.latest()?;
        let change = terms.changes(from.saturating_sub(1)).pop();
        Some(Self { from, since: change.map_or(roster.genesis.header.height, |change| change.header.height), seats })
    }

    /// After a change.
    fn after((change, seats): &Kept) -> Self {
        Self { from: change.from(), since: change.header.height, seats: Arc::clone(seats) }
    }
}

impl Anchor {
    /// Whether it is this place, or was passed on the way to it from the genesis.
    fn is_behind(self, roster: &Roster, terms: &Terms, at: &Place) -> Result<bool, Lie> {
        if at.since < self.since {
            return Ok(false);
        }
        let named =
            |hash: [u8; 32]| if hash == self.validators { Ok(true) } else { Err(Lie("other validators than the checkpoint names")) };
        if roster.genesis.header.height == self.since {
            return named(roster.founders.hash);
        }
        let there = terms.changes(0).into_iter().find(|change| change.header.height == self.since);
        there.map_or(Err(Lie("no change where the checkpoint has one")), |change| named(change.header.next_validators))
    }

    /// Whether the changes that follow a place before it lead to it.
    fn is_among(self, changes: &[Kept]) -> Result<bool, Lie> {
        match changes.iter().find(|(change, _)| change.header.height >= self.since) {
            None => Ok(false),
            Some((change, _)) if change.header.height > self.since => Err(Lie("no change where the checkpoint has one")),
            Some((change, _)) if change.header.next_validators == self.validators => Ok(true),
            Some(_) => Err(Lie("other validators than the checkpoint names")),
        }
    }
}

/// The changes after a place that were not known there, each checked by the seats before it.
fn follow<R: CryptoRng>(rng: &mut R, (roster, terms): (&Roster, &Terms), from: &Place, changes: Vec<Change>) -> Result<Vec<Kept>, Lie> {
    let (mut at, mut followed) = (from.clone(), Vec::new());
    for change in changes {
        // Another's answer to the same question was faster.
        if change.from() <= at.from {
            continue;
        }
        certified(rng, roster, terms, &at.seats, &End { header: change.header.clone(), certificate: change.certificate.clone() })?;
        let next = Seats::decode(&change.seats).map_err(|_| Lie("validators that cannot be"))?;
        if next.hash != change.header.next_validators || next.hash == at.seats.hash {
            return Err(Lie("other validators than the block names"));
        }
        let kept = (Arc::new(change), Arc::new(next));
        at = Place::after(&kept);
        followed.push(kept);
    }
    Ok(followed)
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

/// Checks one answer to a question after `at`.
fn learn<R: CryptoRng>(rng: &mut R, (roster, terms): (&Roster, &Terms), at: &Place, told: Told) -> Result<Learned, Lie> {
    let Told { changes, more, end } = told;
    let learned = follow(rng, (roster, terms), at, changes)?;
    if !learned.is_empty() {
        return Ok(Learned::Changes(learned));
    }
    let Place { from, seats, .. } = at;
    let Some(end) = end else { return Ok(if more || *from > 0 { Learned::Nothing } else { Learned::Young }) };
    // The end of the term before the last change was certified by those before; its certificate is the change's.
    let last = terms.changes(from.saturating_sub(1)).into_iter().find(|change| change.header == end.header);
    let by = match &last {
        Some(_) => terms.of(end.header.term).map(|(seats, _)| seats).ok_or(Lie("a term that is not known"))?,
        None => Arc::clone(seats),
    };
    if last.is_none() && end.header.term < *from {
        // It has not come as far as whoever showed the last change.
        return Ok(Learned::Nothing);
    }
    if last.is_none() && end.header.next_validators != by.hash {
        return Err(Lie("a block after what it did not show"));
    }
    let finalization = certified(rng, roster, terms, &by, &end)?;
    Ok(Learned::End(Box::new(Begin { finalization, header: end.header })))
}

/// What one peer has shown on the way to the checkpoint; nobody keeps it yet.
struct Path {
    by: PublicKey,
    changes: Vec<Kept>,
}

/// What an answer means for the search.
enum Heard {
    /// Changes that may be kept.
    Keep(Vec<Kept>),
    /// Its sender has more to show before anything may be kept.
    Further,
    /// A block to begin with.
    End(Box<Begin>),
    /// That no term ended yet.
    Young,
    /// Nothing that helps.
    Nothing,
}

/// The search of one start.
struct Search<'a> {
    roster: &'a Roster,
    terms: &'a Terms,
    /// The checkpoint that was not passed yet.
    anchor: Option<Anchor>,
    path: Option<Path>,
    /// Whose history ends before the checkpoint: they are behind, and others are asked first.
    short: BTreeSet<PublicKey>,
}

impl<'a> Search<'a> {
    /// A checkpoint that was passed before this start is not asked for again.
    fn new(roster: &'a Roster, terms: &'a Terms, anchor: Option<Anchor>) -> Result<Self, Lie> {
        let at = Place::kept(roster, terms).ok_or(Lie("nobody"))?;
        // A start that was cut off may have kept changes, and begun with no block.
        terms.reach(at.from);
        let anchor = match anchor {
            Some(anchor) if anchor.is_behind(roster, terms, &at)? => None,
            other => other,
        };
        Ok(Self { roster, terms, anchor, path: None, short: BTreeSet::new() })
    }

    /// After what is asked next.
    fn at(&self) -> Option<Place> {
        let shown = self.path.as_ref().and_then(|path| path.changes.last()).map(Place::after);
        shown.or_else(|| Place::kept(self.roster, self.terms))
    }

    /// Whom to ask.
    fn whom(&self) -> Recipients<PublicKey> {
        self.path.as_ref().map_or(Recipients::All, |path| Recipients::One(path.by.clone()))
    }

    /// Takes an answer; a lie ends its sender's path.
    fn hear<R: CryptoRng>(&mut self, rng: &mut R, from: &PublicKey, told: Told) -> Result<Heard, Lie> {
        let Some(at) = self.at() else { return Ok(Heard::Nothing) };
        let learned = learn(rng, (self.roster, self.terms), &at, told);
        let Some(anchor) = self.anchor else {
            return Ok(match learned? {
                Learned::Changes(changes) => Heard::Keep(changes),
                Learned::End(begin) => Heard::End(begin),
                Learned::Young => Heard::Young,
                Learned::Nothing => Heard::Nothing,
            });
        };
        if self.path.as_ref().is_some_and(|path| path.by != *from) || self.short.contains(from) {
            return Ok(Heard::Nothing);
        }
        let shown = self.path.take().map_or_else(Vec::new, |path| path.changes);
        match learned? {
            Learned::Changes(more) => {
                let passed = anchor.is_among(&more)?;
                let changes = [shown, more].concat();
                if passed {
                    self.anchor = None;
                    return Ok(Heard::Keep(changes));
                }
                self.path = Some(Path { by: from.clone(), changes });
                Ok(Heard::Further)
            }
            Learned::End(begin) if begin.header.height > anchor.since => Err(Lie("no change where the checkpoint has one")),
            Learned::End(_) | Learned::Young | Learned::Nothing => {
                self.short.insert(from.clone());
                Ok(Heard::Nothing)
            }
        }
    }

    /// Nobody who was asked has anything to add for now.
    fn over(&mut self) {
        match self.path.take() {
            // It showed a part and then nothing more.
            Some(path) => drop(self.short.insert(path.by)),
            // All were asked; they may have come further when they are asked again.
            None => self.short.clear(),
        }
    }
}

/// Asks until somebody shows where to begin; `None` if all who answer say that no term ended yet.
pub(crate) async fn find<E, S, R, B>(
    context: &mut E,
    core: &Core,
    mut book: Book<E>,
    (mouth, ear): &mut (S, R),
    mut blocker: B,
    (on_join, anchor): (Option<&OnJoin>, Option<Anchor>),
) -> (Book<E>, Option<Box<Begin>>)
where
    E: Rt,
    S: Sender<PublicKey = PublicKey>,
    R: Receiver<PublicKey = PublicKey>,
    B: Blocker<PublicKey = PublicKey>,
{
    let search = Search::new(&core.roster, &core.terms, anchor);
    let mut search = search.unwrap_or_else(|lie| fail(&format!("the checkpoint is of another history than this folder's: {lie}")));
    let mut said = false;
    loop {
        let known = search.at().map_or(0, |at| at.from);
        let asked = ask(mouth, search.whom(), known);
        if asked.is_empty() {
            search.over();
            if !std::mem::replace(&mut said, true) {
                on_join.inspect(|say| say(JoinStep::Waiting));
            }
            context.sleep(CONNECT_WITHIN).await;
            continue;
        }
        let (mut best, mut answered, mut young): (Option<Box<Begin>>, BTreeSet<PublicKey>, usize) = (None, BTreeSet::new(), 0);
        let (mut over, mut news) = (Box::pin(context.sleep(ANSWER_WITHIN)), false);
        while !news && !asked.is_subset(&answered) {
            let (from, message) = tokio::select! {
                biased;
                heard = ear.recv() => match heard {
                    Ok(heard) => heard,
                    // The network is gone, and this with it.
                    Err(_) => return std::future::pending().await,
                },
                () = &mut over => break,
            };
            let heard = match Said::decode(message) {
                // It has nothing to tell yet.
                Ok(Said::Ask { .. }) => continue,
                Ok(Said::Tell(told)) => search.hear(context, &from, *told),
                Err(_) => Err(Lie("what is no answer")),
            };
            answered.insert(from.clone());
            match heard {
                // Whoever showed them is asked what comes after.
                Ok(Heard::Keep(changes)) => {
                    book = keep(core, book, changes).await;
                    (best, news) = (None, true);
                }
                Ok(Heard::Further) => news = true,
                Ok(Heard::End(begin)) => {
                    if best.as_ref().is_none_or(|best| best.header.height < begin.header.height) {
                        best = Some(begin);
                    }
                }
                Ok(Heard::Young) => young = young.saturating_add(1),
                Ok(Heard::Nothing) => {}
                Err(lie) => {
                    let _ = blocker.block(from);
                    lied(&lie, on_join);
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
        if !news {
            search.over();
            context.sleep(CONNECT_WITHIN).await;
        }
    }
}

fn lied(lie: &Lie, on_join: Option<&OnJoin>) {
    tracing::warn!(%lie, "a validator showed a joining one what its seats did not certify");
    on_join.inspect(|say| say(JoinStep::Lied { why: lie.0 }));
}

/// Keeps changes on disk, and in mind.
async fn keep<E: Rt>(core: &Core, mut book: Book<E>, changes: Vec<Kept>) -> Book<E> {
    for (change, seats) in changes {
        book = book.keep(&change).await;
        core.terms.add(change.from(), seats, Some(Arc::clone(&change)));
        core.terms.reach(change.from());
    }
    book
}

/// Asks those of them who are connected, and says who that is.
fn ask<S: Sender<PublicKey = PublicKey>>(mouth: &mut S, whom: Recipients<PublicKey>, known: u64) -> BTreeSet<PublicKey> {
    let Ok(open) = LimitedSender::check(mouth, whom) else { return BTreeSet::new() };
    let asked = open.recipients().into_iter().collect();
    // Who was asked and did not hear it is asked again.
    let _ = open.send(IoBuf::from(Said::Ask { known }.encode()), false);
    asked
}

#[cfg(test)]
mod tests {
    use super::super::{Change, HEADER_SIZE, MAX_ANSWER_BYTES, MAX_CHANGES};
    use super::*;
    use crate::block::Digest;
    use crate::genesis::{Genesis, Identity};
    use bytes::Bytes;
    use commonware_consensus::simplex::scheme::ed25519::Scheme;
    use commonware_consensus::simplex::types::{Finalization, Finalize, Proposal};
    use commonware_consensus::types::{Round, View};
    use commonware_cryptography::Signer as _;
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
            deterministic::Runner::default().start(|mut context| async move {
                let at = Place::kept(&self.roster, terms).unwrap();
                learn(&mut context, (&self.roster, terms), &at, *told)
            })
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

    /// What this one of the peers said, in order.
    fn hear(world: &World, search: &mut Search<'_>, peer: usize, told: Told) -> Result<Heard, Lie> {
        let from = world.identities[peer].signer().public_key();
        deterministic::Runner::default().start(|mut context| async move { search.hear(&mut context, &from, told) })
    }

    fn anchor(world: &World, change: &Change) -> Anchor {
        Anchor { since: change.header.height, validators: world.seats(FIRST).hash }
    }

    #[test]
    fn a_history_that_does_not_come_by_the_checkpoint_leaves_no_trace() {
        let world = World::new();
        let terms = world.terms();
        let (there, back) = (world.change(2, FIRST, SECOND, MOST), world.change(5, SECOND, FIRST, &[0, 4, 6]));
        let mut search = Search::new(&world.roster, &terms, Some(anchor(&world, &back))).unwrap();
        // Who left may sign what it likes, with every certificate in order: another change, the same to others, none.
        let others = |term| world.change(term, SECOND, &[1, 2, 3, 7], &[0, 4, 6]);
        assert!(matches!(hear(&world, &mut search, 1, told(vec![there.clone()], None)), Ok(Heard::Further)));
        assert!(hear(&world, &mut search, 1, told(vec![others(4), world.change(7, &[1, 2, 3, 7], FIRST, &[1, 2, 3])], None)).is_err());
        for lie in [vec![there.clone(), others(5)], vec![there.clone(), others(6)], vec![world.change(7, FIRST, SECOND, MOST)]] {
            assert!(hear(&world, &mut search, 1, told(lie, None)).is_err());
        }
        assert!(hear(&world, &mut search, 1, told(vec![], Some(world.end(7, FIRST, FIRST, MOST)))).is_err());
        assert_eq!((terms.changes(0), search.at().unwrap().from), (vec![], 0), "a lie left something");
        // What others say meanwhile neither helps nor hurts whoever is on the way.
        assert!(matches!(hear(&world, &mut search, 2, told(vec![there.clone()], None)), Ok(Heard::Further)));
        assert!(matches!(hear(&world, &mut search, 3, told(vec![others(4)], None)), Ok(Heard::Nothing)));
        assert_eq!(search.at().unwrap().from, 3);
        let Ok(Heard::Keep(all)) = hear(&world, &mut search, 2, told(vec![back.clone()], None)) else { panic!("the checkpoint is passed") };
        assert_eq!(all.iter().map(|(change, _)| change.as_ref().clone()).collect::<Vec<_>>(), [there, back]);
        add(&terms, Learned::Changes(all));
        assert!(search.anchor.is_none() && search.at().unwrap().from == 6);
        let end = told(vec![], Some(world.end(7, FIRST, FIRST, MOST)));
        assert!(matches!(hear(&world, &mut search, 3, end), Ok(Heard::End(_))));
    }

    #[test]
    fn who_is_behind_the_checkpoint_is_asked_again_after_all_others() {
        let world = World::new();
        let terms = world.terms();
        let (there, back) = (world.change(2, FIRST, SECOND, MOST), world.change(5, SECOND, FIRST, &[0, 4, 6]));
        let mut search = Search::new(&world.roster, &terms, Some(anchor(&world, &back))).unwrap();
        assert!(matches!(hear(&world, &mut search, 1, told(vec![], None)), Ok(Heard::Nothing)), "young, says who is behind");
        assert!(matches!(hear(&world, &mut search, 1, told(vec![there.clone()], None)), Ok(Heard::Nothing)), "it was asked already");
        assert!(matches!(hear(&world, &mut search, 2, told(vec![there.clone()], None)), Ok(Heard::Further)));
        // It has no more to show.
        assert!(matches!(hear(&world, &mut search, 2, told(vec![], Some(world.end(4, SECOND, SECOND, &[0, 4, 6])))), Ok(Heard::Nothing)));
        assert!(matches!(search.whom(), Recipients::All));
        search.over();
        assert!(matches!(hear(&world, &mut search, 1, told(vec![there, back], None)), Ok(Heard::Keep(_))));
    }

    #[test]
    fn a_checkpoint_is_compared_with_what_is_kept_already() {
        let world = World::new();
        let (there, back) = (world.change(2, FIRST, SECOND, MOST), world.change(5, SECOND, FIRST, &[0, 4, 6]));
        let start = |terms: &Terms, anchor| Search::new(&world.roster, terms, Some(anchor)).map(|search| search.anchor);
        let terms = world.terms();
        let founders = Anchor { since: 0, validators: world.seats(FIRST).hash };
        assert_eq!(start(&terms, founders), Ok(None));
        assert!(start(&terms, Anchor { validators: world.seats(SECOND).hash, ..founders }).is_err());
        assert_eq!(start(&terms, anchor(&world, &back)), Ok(Some(anchor(&world, &back))));
        add(&terms, world.learn(&terms, told(vec![there.clone(), back.clone()], None)).unwrap());
        assert_eq!(start(&terms, anchor(&world, &back)), Ok(None));
        assert!(start(&terms, anchor(&world, &there)).is_err(), "others sat then");
        assert!(start(&terms, Anchor { since: back.header.height - 1, ..founders }).is_err(), "nobody was seated there");
    }

    #[test]
    fn who_was_cut_off_after_it_kept_changes_begins_with_the_last_of_them() {
        let world = World::new();
        let terms = world.terms();
        let last = world.change(2, FIRST, SECOND, MOST);
        // As they are read from disk.
        terms.add(last.from(), Arc::new(world.seats(SECOND)), Some(Arc::new(last.clone())));
        let mut search = Search::new(&world.roster, &terms, None).unwrap();
        let end = End { header: last.header, certificate: last.certificate };
        assert!(matches!(hear(&world, &mut search, 1, told(vec![], Some(end))), Ok(Heard::End(_))));
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
