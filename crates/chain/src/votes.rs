//! Casts votes: one simplex engine for each term, on sub-channels of its own.
//!
//! Guarantees: votes begin when every block that was final at the start is executed; a term's engine is gone before the next one begins,
//! and its journal is removed after. A node without a seat, or one that must not sign in a term ([`Core::may_sign`]), runs the same
//! engine as an onlooker: it follows each vote and casts none.

use crate::app::{Rt, fail};
use crate::block::Digest;
use crate::core::Core;
use crate::evidence::Witness;
use crate::genesis::TermLengths;
use crate::pace::Paced;
use crate::stack::{Builder, Channel, Marshal, PREFIX};
use crate::terms::{Book, Boundary, Track, term_of, turn};
use commonware_consensus::{
    Heightable as _,
    simplex::{
        self, SkipBudget,
        config::{Floor, ForwardPolicy, SkipPolicy},
        elector::RoundRobin,
        scheme::ed25519::Scheme,
    },
    types::{Epoch, Epocher as _, Height, ViewDelta},
};
use commonware_cryptography::{Digestible as _, Sha256, ed25519};
use commonware_p2p::{
    Blocker, Receiver, Sender,
    utils::mux::{Builder as _, Muxer},
};
use commonware_parallel::Sequential;
use commonware_runtime::{Handle, buffer::paged::CacheRef};
use commonware_utils::{NZDuration, acknowledgement::Acknowledgement as _, vec::NonEmptyVec};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// With one validator nobody waits for the leader, and giving up on a view only writes an empty one to disk. It is needed after
/// a crash: a view whose vote was journalled and whose certificate was not is left by this timeout alone.
const LEADER_TIMEOUT_ALONE: Duration = Duration::from_secs(3);
/// With several: the turn of a leader that is away costs this much, until it was away for five times as long and is skipped at once.
const LEADER_TIMEOUT: Duration = Duration::from_secs(1);

type VoteConfig<E, B> =
    simplex::Config<Scheme, RoundRobin<Sha256>, B, Digest, Paced<E, Builder<E>>, Builder<E>, Witness<Builder<E>>, Sequential>;

/// What every term's engine is made of.
pub(crate) struct Voting<E: Rt, B> {
    pub(crate) core: Arc<Core>,
    pub(crate) marshal: Marshal,
    /// Builds and checks blocks.
    pub(crate) deferred: Builder<E>,
    pub(crate) blocker: B,
    pub(crate) page_cache: CacheRef,
    /// Hears who belongs to the network.
    pub(crate) track: Track,
    /// Height up to which blocks were final at the start.
    pub(crate) resumed: u64,
}

/// The block that a term begins on.
struct Begin {
    digest: Digest,
    timestamp_ms: u64,
}

/// Where a term's votes are kept. What an onlooker saw is kept apart: its journal must not hold votes that somebody else cast with its key.
fn partition(term: u64, signs: bool) -> String {
    let kept = if signs { "votes" } else { "seen" };
    format!("{PREFIX}-{kept}-{term}")
}

impl<E: Rt, B: Blocker<PublicKey = ed25519::PublicKey> + Sync> Voting<E, B> {
    /// How votes are cast in a term.
    fn config(&self, context: &E, term: u64, begin: &Begin) -> VoteConfig<E, B> {
        let Some((seats, scheme)) = self.core.terms.of(term) else { fail(&format!("who votes in term {term} is not known")) };
        let alone = seats.keys.len() == 1;
        let may_sign = alone || self.core.may_sign(begin.timestamp_ms);
        let scheme = if may_sign { scheme.as_ref().clone() } else { self.core.terms.onlooker(&seats) };
        let leader_timeout = if alone { LEADER_TIMEOUT_ALONE } else { LEADER_TIMEOUT };
        let skip_rule = SkipPolicy::Enabled { timeout: leader_timeout * 5, budget: SkipBudget::Participants };
        let pace = Arc::new(context.child("pace"));
        simplex::Config {
            scheme,
            elector: RoundRobin::default(),
            blocker: self.blocker.clone(),
            automaton: Paced { inner: self.deferred.clone(), core: Arc::clone(&self.core), context: pace, alone },
            relay: self.deferred.clone(),
            reporter: Witness { inner: self.deferred.clone(), core: Arc::clone(&self.core), seats },
            strategy: Sequential,
            partition: partition(term, may_sign),
            mailbox_size: self.core.sizes.mailbox,
            epoch: Epoch::new(term),
            floor: Floor::Genesis(begin.digest),
            replay_buffer: self.core.sizes.replay_buffer,
            write_buffer: self.core.sizes.write_buffer,
            page_cache: self.page_cache.clone(),
            leader_timeout,
            certification_timeout: leader_timeout * 2,
            timeout_retry: leader_timeout * 2,
            view_retention: ViewDelta::new(64),
            skip: if alone { SkipPolicy::Disabled } else { skip_rule },
            fetch_timeout: NZDuration!(Duration::from_secs(2)),
            fetch_retry_delay: Duration::from_millis(200),
            forward: ForwardPolicy::Disabled,
            track_historical_votes: false,
        }
    }

    /// The term to begin with, and the block it begins on: none where all that is left of the term is its end, which a node has that
    /// joined by state.
    async fn resume(&self, terms: &TermLengths) -> (u64, Option<Begin>) {
        let processed = self.marshal.get_processed().await.map_or(0, |found| found.height().get());
        let next = Height::new(processed.saturating_add(1));
        let term = term_of(terms, next);
        let last = Epoch::new(term).previous().and_then(|before| terms.last(before));
        let header = match last {
            None => self.core.roster.genesis.header.clone(),
            Some(height) => match self.marshal.get_block(height).await {
                Some(block) => block.inner().header.clone(),
                None if terms.last(Epoch::new(term)) == Some(next) => return (term, None),
                None => fail(&format!("block store: block {height} is missing")),
            },
        };
        (term, Some(Begin { digest: header.id(), timestamp_ms: header.timestamp_ms }))
    }

    /// Tells the network who belongs to it.
    fn track(&self, term: u64) {
        if let Some((seats, _)) = self.core.terms.of(term) {
            (self.track)(term, seats.participants(), self.core.let_in());
        }
    }

    /// Somebody votes in a later term: it has the end of this one.
    fn behind(&self, term: u64, last: Height, voted_in: u64, voter: ed25519::PublicKey) {
        if voted_in > term {
            self.marshal.hint_finalized(last, NonEmptyVec::new(voter));
        }
    }
}

/// Returns when a term's engine is gone.
async fn ended(engine: &mut Option<Handle<()>>) {
    if let Some(engine) = engine {
        // How it ended is in its own panic, if it did not end in order.
        let _ = engine.await;
    }
}

/// Runs one term after another for as long as the engine lives.
pub(crate) async fn run<E, B, S, R>(
    context: E,
    voting: Voting<E, B>,
    mut book: Book<E>,
    mut ends: mpsc::UnboundedReceiver<Boundary>,
    (votes, certificates, resolver): (Channel<S, R>, Channel<S, R>, Channel<S, R>),
) where
    E: Rt,
    B: Blocker<PublicKey = ed25519::PublicKey> + Sync,
    S: Sender<PublicKey = ed25519::PublicKey>,
    R: Receiver<PublicKey = ed25519::PublicKey>,
{
    let (mux, mut votes, mut later_votes) = Muxer::builder(context.child("votes_mux"), votes.0, votes.1).with_backup().build();
    mux.start();
    let (mux, mut certificates, mut later_certificates) =
        Muxer::builder(context.child("certificates_mux"), certificates.0, certificates.1).with_backup().build();
    mux.start();
    let (mux, mut resolver) = Muxer::new(context.child("resolver_mux"), resolver.0, resolver.1);
    mux.start();
    let terms = voting.core.roster.terms();
    let (mut term, mut begin) = voting.resume(&terms).await;
    voting.core.terms.reach(term);
    loop {
        voting.track(term);
        let Some(last) = terms.last(Epoch::new(term)) else { return };
        let mut engine: Option<Handle<()>> = None;
        let (block, done) = loop {
            tokio::select! {
                biased;
                found = ends.recv() => match found {
                    // The end of a term before this one is handed over once more after a crash.
                    Some((block, done)) if block.height() < last => done.acknowledge(),
                    Some(boundary) => break boundary,
                    None => return,
                },
                () = voting.core.reached(voting.resumed), if engine.is_none() && begin.is_some() => {
                    let Some(begin) = &begin else { continue };
                    let channels = (votes.register(term).await, certificates.register(term).await, resolver.register(term).await);
                    // Each term asks for its own once, so there are none only when the network is being stopped: as below.
                    let (Ok(votes), Ok(certificates), Ok(resolver)) = channels else { return };
                    let context = context.child("votes").with_attribute("term", term);
                    let config = voting.config(&context, term, begin);
                    engine = Some(simplex::Engine::new(context, config).start(votes, certificates, resolver));
                }
                // It is being stopped with everything else, or whoever watches this task learns of it.
                () = ended(&mut engine), if engine.is_some() => return,
                heard = later_votes.recv() => match heard {
                    Some((voted_in, (voter, _))) => voting.behind(term, last, voted_in, voter),
                    None => return,
                },
                heard = later_certificates.recv() => match heard {
                    Some((voted_in, (voter, _))) => voting.behind(term, last, voted_in, voter),
                    None => return,
                },
            }
        };
        if let Some(engine) = engine {
            engine.abort();
            // How it ended is no news: it was told to.
            let _ = engine.await;
        }
        let header = block.inner().header.clone();
        begin = Some(Begin { digest: block.digest(), timestamp_ms: header.timestamp_ms });
        let over = term;
        (book, term) = turn(&context, &voting.core, &voting.marshal, book, &header).await;
        done.acknowledge();
        for signs in [true, false] {
            if let Err(error) = context.remove(&partition(over, signs), None).await {
                tracing::debug!(term = over, signs, %error, "no journal of votes to remove");
            }
        }
    }
}
