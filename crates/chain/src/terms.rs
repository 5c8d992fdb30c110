//! The engine's terms: who certifies in which, and one engine of votes after another.
//!
//! ```text
//!  final blocks ─► Boundaries ─► the last block of a term: its state names the next seats
//!                                  │ 1. kept on disk   2. known to whoever checks certificates   3. acknowledged
//!                                  └─► votes of this term end, votes of the next begin on that block
//! ```
//! Guarantees: a term's certificates are checked by that term's seats alone, and by nobody before they are known; the block that ends a
//! term is acknowledged after the next seats are on disk, so that they are there after a crash at any point. A node that hears votes of a
//! later term asks whoever sent them for the end of its own.
//! Source of the arrangement: one simplex engine for each epoch, as the engine's own orchestrator has it.

use crate::app::{Rt, fail};
use crate::block::{Block, Header};
use crate::core::Core;
use crate::error::ChainError;
use crate::genesis::{Identity, Roster, Seats, TermLengths};
use commonware_actor::Feedback;
use commonware_consensus::{
    Reporter,
    marshal::Update,
    simplex::scheme::ed25519::Scheme,
    types::{Epoch, Epocher as _, Height},
};
use commonware_cryptography::{Digested, certificate, ed25519};
use commonware_storage::metadata::{Config, Metadata};
use commonware_utils::{acknowledgement::Acknowledgement as _, acknowledgement::Exact, ordered::Set, sequence::U64};
use pasture_types::ZoneId;
use pasture_types::votes::vote_namespace;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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
    seats: BTreeMap<u64, (Arc<Seats>, Arc<Scheme>)>,
}

impl Terms {
    /// The founders sit in the first term.
    pub(crate) fn new(identity: &Identity, roster: &Roster) -> Self {
        let known = Arc::new(Mutex::new(Known { last: 0, seats: BTreeMap::new() }));
        let namespace = Arc::new(vote_namespace(&ZoneId(roster.zone)));
        let terms = Self { signer: identity.signer().clone(), namespace, known };
        terms.add(0, Arc::clone(&roster.founders));
        terms
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // A panic while holding the lock already stopped the engine.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes who sits from a term on.
    fn add(&self, term: u64, seats: Arc<Seats>) {
        let signer = Scheme::signer(&self.namespace, seats.participants(), self.signer.clone());
        let scheme = signer.unwrap_or_else(|| self.onlooker(&seats));
        self.lock().seats.insert(term, (seats, Arc::new(scheme)));
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
        Some(found.clone())
    }

    /// Every set that ever sat, by the term from which it did, oldest first.
    pub(crate) fn history(&self) -> Vec<(u64, Arc<Seats>)> {
        self.lock().seats.iter().map(|(term, (seats, _))| (*term, Arc::clone(seats))).collect()
    }

    /// The last term whose seats are known.
    pub(crate) fn last(&self) -> u64 {
        self.lock().last
    }

    /// The set with this hash, if one ever sat.
    pub(crate) fn named(&self, hash: &[u8; 32]) -> Option<Arc<Seats>> {
        self.lock().seats.values().map(|(seats, _)| seats).find(|seats| seats.hash == *hash).cloned()
    }
}

impl certificate::Provider for Terms {
    type Scope = Epoch;
    type Scheme = Scheme;
    fn scoped(&self, term: Epoch) -> Option<certificate::Scoped<Scheme>> {
        self.of(term.get()).map(|(_, scheme)| certificate::Scoped::scheme(scheme))
    }
}

/// The sets on disk: by the term from which they sit, the founders left out.
pub(crate) struct Book<E: Rt>(Metadata<E, U64, Vec<u8>>);

impl<E: Rt> Book<E> {
    /// Opens it and tells `terms` what it holds. `stored` is the last height of the engine whose block is on disk.
    pub(crate) async fn open(context: E, prefix: &str, terms: &Terms, epocher: &TermLengths, stored: u64) -> Self {
        let book = Self::read(context, prefix).await.unwrap_or_else(|error| fail(&format!("term store: {error}")));
        let kept = book.kept().unwrap_or_else(|error| fail(&format!("term store: {error}")));
        for (term, seats) in kept {
            terms.add(term, Arc::new(seats));
        }
        terms.reach(term_of(epocher, Height::new(stored)));
        book
    }

    /// Opens it.
    pub(crate) async fn read(context: E, prefix: &str) -> Result<Self, String> {
        let config = Config { partition: format!("{prefix}-terms"), codec_config: ((0..).into(), ()) };
        Ok(Self(Metadata::<E, U64, Vec<u8>>::init(context, config).await.map_err(|error| error.to_string())?))
    }

    /// What it holds, by the term from which they sit.
    pub(crate) fn kept(&self) -> Result<BTreeMap<u64, Seats>, ChainError> {
        let held = self.0.keys().filter_map(|term| Some((u64::from(term), self.0.get(term)?)));
        held.map(|(term, bytes)| Ok((term, Seats::decode(bytes)?))).collect()
    }

    /// Keeps who sits from a term on.
    async fn keep(self, term: u64, seats: &Seats) -> Self {
        match self.0.put_sync(U64::new(term), seats.encode()).await {
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
pub(crate) async fn turn<E: Rt>(core: &Core, mut book: Book<E>, term: u64, last: &Header) -> (Book<E>, u64) {
    let next = term.saturating_add(1);
    core.reached(last.height).await;
    let before = core.terms.of(term).map(|(seats, _)| seats);
    let changed = before.as_ref().is_none_or(|seats| seats.hash != last.next_validators);
    let kept = core.terms.history().iter().any(|(from, _)| *from == next);
    if changed && !kept {
        let Some(seats) = core.next_seats().filter(|seats| seats.hash == last.next_validators) else {
            fail(&format!("who certifies after block {} is not known any more", last.height))
        };
        book = book.keep(next, &seats).await;
        tracing::info!(term = next, validators = seats.keys.len(), "other validators certify from here on");
        core.terms.add(next, seats);
    }
    core.terms.reach(next);
    (book, next)
}
