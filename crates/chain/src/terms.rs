//! The engine's terms: who certifies in which, and one engine of votes after another.
//!
//! ```text
//!  final blocks ─► Boundaries ─► the last block of a term: its state names the next seats
//!                                  │ 1. kept on disk   2. known to whoever checks certificates   3. acknowledged
//!                                  └─► votes of this term end, votes of the next begin on that block
//! ```
//! Guarantees: a term's certificates are checked by that term's seats alone, and by nobody before they are known; the block that ends a
//! term is acknowledged after the next seats are on disk, so that they are there after a crash at any point. What shows a change of seats
//! (the last header before it, with its certificate) is kept for good, also where blocks are pruned or were never here. A node that hears
//! votes of a later term asks whoever sent them for the end of its own.
//! Source of the arrangement: one simplex engine for each epoch, as the engine's own orchestrator has it.

use crate::app::{Rt, fail};
use crate::block::{Block, HEADER_SIZE, Header};
use crate::core::Core;
use crate::error::ChainError;
use crate::genesis::{Identity, Roster, Seats, TermLengths};
use crate::stack::Marshal;
use bytes::Bytes;
use commonware_actor::Feedback;
use commonware_codec::{Buf, DecodeExt as _, Encode as _, EncodeSize, Error as CodecError, RangeCfg, Read, ReadExt as _, Write};
use commonware_consensus::{
    Reporter,
    marshal::Update,
    simplex::scheme::ed25519::Scheme,
    types::{Epoch, Epocher as _, Height},
};
use commonware_cryptography::{Digested, certificate, ed25519};
use commonware_runtime::BufMut;
use commonware_storage::metadata::{Config, Metadata};
use commonware_utils::{acknowledgement::Acknowledgement as _, acknowledgement::Exact, ordered::Set, sequence::U64};
use pasture_types::ZoneId;
use pasture_types::votes::vote_namespace;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;

/// Tells the network who belongs to it from a term on: the term, its seats, and who else may follow, the nearest to a seat first.
pub(crate) type Track = Box<dyn Fn(u64, Set<ed25519::PublicKey>, Vec<ed25519::PublicKey>) + Send + Sync>;

/// Who certifies in which term, as far as it is known.
#[derive(Clone)]
pub(crate) struct Terms {
    signer: ed25519::PrivateKey,
    /// What votes are signed under: a vote in one zone is none in another.
    namespace: Arc<Vec<u8>>,
    known: Arc<Mutex<Known>>,
}

struct Known {
    /// The last term whose seats are known.
    last: u64,
    /// By the term from which they sit.
    seats: BTreeMap<u64, Sitting>,
}

#[derive(Clone)]
struct Sitting {
    seats: Arc<Seats>,
    scheme: Arc<Scheme>,
    /// What shows that they follow those before; the founders need nothing.
    change: Option<Arc<Change>>,
}

/// How often the certificate of a term's last block is looked for.
const CERTIFICATE_RETRY: Duration = Duration::from_millis(50);
/// Longest certificate: a signature of each validator, and who they are.
pub(crate) const MAX_CERTIFICATE_BYTES: usize = 128 << 10;
/// Longest encoded set.
const MAX_SEATS_BYTES: usize = 64 << 10;

/// How the seats of one term were given to others: what somebody who knows the former needs to know the latter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// The last header of the term; its `next_validators` names the others.
    pub(crate) header: Header,
    /// Its certificate by the former.
    pub(crate) certificate: Bytes,
    /// The others, as [`Seats::encode`] gives them.
    pub(crate) seats: Bytes,
}

impl Change {
    /// The term from which the others sit.
    pub(crate) const fn from(&self) -> u64 {
        self.header.term.saturating_add(1)
    }
}

impl Write for Change {
    fn write(&self, buf: &mut impl BufMut) {
        self.header.write(buf);
        self.certificate.write(buf);
        self.seats.write(buf);
    }
}

impl EncodeSize for Change {
    fn encode_size(&self) -> usize {
        HEADER_SIZE.saturating_add(self.certificate.encode_size()).saturating_add(self.seats.encode_size())
    }
}

impl Read for Change {
    type Cfg = ();
    fn read_cfg(buf: &mut impl Buf, (): &()) -> Result<Self, CodecError> {
        let header = Header::read(buf)?;
        let certificate = Bytes::read_cfg(buf, &RangeCfg::from(0..=MAX_CERTIFICATE_BYTES))?;
        let seats = Bytes::read_cfg(buf, &RangeCfg::from(0..=MAX_SEATS_BYTES))?;
        Ok(Self { header, certificate, seats })
    }
}

impl Terms {
    /// The founders sit in the first term.
    pub(crate) fn new(identity: &Identity, roster: &Roster) -> Self {
        let known = Arc::new(Mutex::new(Known { last: 0, seats: BTreeMap::new() }));
        let namespace = Arc::new(vote_namespace(&ZoneId(roster.zone)));
        let terms = Self { signer: identity.signer().clone(), namespace, known };
        terms.add(0, Arc::clone(&roster.founders), None);
        terms
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // A panic while holding the lock already stopped the engine.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes who sits from a term on.
    pub(crate) fn add(&self, term: u64, seats: Arc<Seats>, change: Option<Arc<Change>>) {
        let signer = Scheme::signer(&self.namespace, seats.participants(), self.signer.clone());
        let scheme = Arc::new(signer.unwrap_or_else(|| self.onlooker(&seats)));
        self.lock().seats.insert(term, Sitting { seats, scheme, change });
    }

    /// Checks votes and casts none.
    pub(crate) fn onlooker(&self, seats: &Seats) -> Scheme {
        Scheme::verifier(&self.namespace, seats.participants())
    }

    /// The seats of every term up to this one are known.
    pub(crate) fn reach(&self, term: u64) {
        let mut known = self.lock();
        known.last = known.last.max(term);
    }

    /// Who sits in a term; `None` while that is not known.
    pub(crate) fn of(&self, term: u64) -> Option<(Arc<Seats>, Arc<Scheme>)> {
        let known = self.lock();
        let (_, found) = known.seats.range(..=term).next_back().filter(|_| term <= known.last)?;
        Some((Arc::clone(&found.seats), Arc::clone(&found.scheme)))
    }

    /// Every set that ever sat, by the term from which it did, oldest first.
    pub(crate) fn history(&self) -> Vec<(u64, Arc<Seats>)> {
        self.lock().seats.iter().map(|(term, sitting)| (*term, Arc::clone(&sitting.seats))).collect()
    }

    /// The changes after a term, oldest first.
    pub(crate) fn changes(&self, after: u64) -> Vec<Arc<Change>> {
        let later = (Bound::Excluded(after), Bound::Unbounded);
        self.lock().seats.range(later).filter_map(|(_, sitting)| sitting.change.clone()).collect()
    }

    /// Who sits after the last change that is known, and from which term on.
    pub(crate) fn latest(&self) -> Option<(u64, Arc<Seats>)> {
        self.lock().seats.last_key_value().map(|(term, sitting)| (*term, Arc::clone(&sitting.seats)))
    }

    /// The last term whose seats are known.
    pub(crate) fn last(&self) -> u64 {
        self.lock().last
    }

    /// The set with this hash, if one ever sat.
    pub(crate) fn named(&self, hash: &[u8; 32]) -> Option<Arc<Seats>> {
        self.lock().seats.values().map(|sitting| &sitting.seats).find(|seats| seats.hash == *hash).cloned()
    }
}

impl certificate::Provider for Terms {
    type Scope = Epoch;
    type Scheme = Scheme;
    fn scoped(&self, term: Epoch) -> Option<certificate::Scoped<Scheme>> {
        self.of(term.get()).map(|(_, scheme)| certificate::Scoped::scheme(scheme))
    }
}

/// A change, and who sits after it.
pub(crate) type Kept = (Arc<Change>, Arc<Seats>);

/// The sets on disk: by the term from which they sit, the founders left out.
pub(crate) struct Book<E: Rt>(Metadata<E, U64, Vec<u8>>);

impl<E: Rt> Book<E> {
    /// Opens it and tells `terms` what it holds. `stored` is the last height of the engine whose block is on disk.
    pub(crate) async fn open(context: E, prefix: &str, terms: &Terms, epocher: &TermLengths, stored: u64) -> Self {
        let book = Self::read(context, prefix).await.unwrap_or_else(|error| fail(&format!("term store: {error}")));
        let kept = book.kept().unwrap_or_else(|error| fail(&format!("term store: {error}")));
        for (change, seats) in kept {
            terms.add(change.from(), seats, Some(change));
        }
        terms.reach(term_of(epocher, Height::new(stored)));
        book
    }

    /// Opens it.
    pub(crate) async fn read(context: E, prefix: &str) -> Result<Self, String> {
        let config = Config { partition: format!("{prefix}-terms"), codec_config: ((0..).into(), ()) };
        Ok(Self(Metadata::<E, U64, Vec<u8>>::init(context, config).await.map_err(|error| error.to_string())?))
    }

    /// The changes that it holds, oldest first, with who sits after each.
    pub(crate) fn kept(&self) -> Result<Vec<Kept>, ChainError> {
        let unreadable = |_| ChainError::Genesis("a stored change of validators is unreadable".into());
        let mut terms: Vec<u64> = self.0.keys().map(u64::from).collect();
        terms.sort_unstable();
        let held = terms.into_iter().filter_map(|term| self.0.get(&U64::new(term)));
        held.map(|bytes| {
            let change = Change::decode(Bytes::copy_from_slice(bytes)).map_err(unreadable)?;
            let seats = Arc::new(Seats::decode(&change.seats)?);
            Ok((Arc::new(change), seats))
        })
        .collect()
    }

    /// Keeps who sits from a term on.
    pub(crate) async fn keep(self, change: &Change) -> Self {
        match self.0.put_sync(U64::new(change.from()), change.encode().to_vec()).await {
            Ok(store) => Self(store),
            Err(error) => fail(&format!("term store: {error}")),
        }
    }
}

/// The term that a height of the engine belongs to.
pub(crate) fn term_of(terms: &TermLengths, height: Height) -> u64 {
    terms.containing(height).map_or(0, |info| info.epoch().get())
}

/// A final block that ends a term, with what says that it was dealt with.
pub(crate) type Boundary = (Digested<Block>, Exact);

/// Picks the blocks that end a term out of the final ones.
#[derive(Clone)]
pub(crate) struct Boundaries {
    core: Arc<Core>,
    /// Bounded by the blocks that the engine hands over without an acknowledgement.
    found: mpsc::UnboundedSender<Boundary>,
}

impl Boundaries {
    pub(crate) fn new(core: &Arc<Core>) -> (Self, mpsc::UnboundedReceiver<Boundary>) {
        let (found, boundaries) = mpsc::unbounded_channel();
        (Self { core: Arc::clone(core), found }, boundaries)
    }
}

impl Reporter for Boundaries {
    type Activity = Update<Block>;
    fn report(&mut self, update: Update<Block>) -> Feedback {
        if let Update::Block(block, done) = update {
            if self.core.roster.ends_term(&block.inner().header) {
                // Without a receiver the engine is going down, and the block is handed over again at the next start.
                let _ = self.found.send((block, done));
            } else {
                done.acknowledge();
            }
        }
        Feedback::Ok
    }
}

/// Notes who sits after a term's last block, and returns the next term. The block's state is known from here on.
pub(crate) async fn turn<E: Rt>(context: &E, core: &Core, marshal: &Marshal, mut book: Book<E>, last: &Header) -> (Book<E>, u64) {
    let term = last.term;
    let next = term.saturating_add(1);
    core.reached(last.height).await;
    let before = core.terms.of(term).map(|(seats, _)| seats);
    let changed = before.as_ref().is_none_or(|seats| seats.hash != last.next_validators);
    let kept = core.terms.history().iter().any(|(from, _)| *from == next);
    if changed && !kept {
        let Some(seats) = core.next_seats().filter(|seats| seats.hash == last.next_validators) else {
            fail(&format!("who certifies after block {} is not known any more", last.height))
        };
        let certificate = certificate(context, core, marshal, last).await;
        let change = Change { header: last.clone(), certificate, seats: seats.encode().into() };
        book = book.keep(&change).await;
        tracing::info!(term = next, validators = seats.keys.len(), "other validators certify from here on");
        core.terms.add(next, seats, Some(Arc::new(change)));
    }
    core.terms.reach(next);
    (book, next)
}

/// The certificate of a term's last block. No block of the term follows it, so nothing else can have made it final; it may be a moment
/// behind the block.
async fn certificate<E: Rt>(context: &E, core: &Core, marshal: &Marshal, last: &Header) -> Bytes {
    let height = core.roster.engine_height(last.height).unwrap_or_else(Height::zero);
    loop {
        if let Some(found) = marshal.get_finalization(height).await {
            return found.encode();
        }
        context.sleep(CERTIFICATE_RETRY).await;
    }
}
