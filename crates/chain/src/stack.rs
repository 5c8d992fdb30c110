//! Wires the engine: archives, marshal, stateful application, store, votes.
//!
//! Guarantees: generic over runtime and network here, and instantiated once, in `handle`. Buffers are a fraction of
//! the engine's defaults: a validator of a small zone is a process beside others on somebody's machine.
//! What must be read first at start is asked for before the delivery of blocks begins (see [`start`]).

use crate::app::{App, Dbs, Rt, fail, genesis_view, split_value};
use crate::block::{Block, Digest};
use crate::core::Core;
use crate::genesis::{MAX_VALIDATORS, TermLengths};
use crate::net::NoSource;
use crate::terms::{Book, Boundaries, Terms, Track};
use crate::view::View;
use crate::votes::{self, Voting};
use bytes::Bytes;
use commonware_broadcast::buffered;
use commonware_codec::RangeCfg;
use commonware_consensus::{
    Reporters,
    marshal::{
        self, Identifier,
        core::Actor as MarshalActor,
        core::Floor as DeliveryFloor,
        core::Mailbox as MarshalMailbox,
        resolver::p2p as marshal_resolver,
        standard::{Deferred, Standard},
    },
    simplex::scheme::ed25519::Scheme,
    types::ViewDelta,
};
use commonware_cryptography::{Digested, Digestible as _, Signer as _, ed25519};
use commonware_glue::stateful::{self, Stateful, SyncPlan, db::SyncEngineConfig};
use commonware_p2p::{Blocker, Provider as PeerProvider, Receiver, Sender};
use commonware_parallel::Sequential;
use commonware_runtime::{Handle, buffer::paged::CacheRef};
use commonware_storage::{
    archive::{Archive as _, prunable},
    journal::contiguous::variable::Config as LogConfig,
    merkle::full::Config as MerkleConfig,
    qmdb::current::VariableConfig,
    translator::EightCap,
};
use commonware_utils::{NZDuration, NZU16, NZU64, NZUsize};
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use std::num::{NonZeroU16, NonZeroU64, NonZeroUsize};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

/// Name of every partition's files.
pub(crate) const PREFIX: &str = "chain";
/// Page of the on-disk stores. Part of the on-disk format: changing it makes old pages unreadable.
const PAGE: NonZeroU16 = NZU16!(4096);
/// Pages kept in memory, for all stores together: 8 MiB.
const PAGES: NonZeroUsize = NZUsize!(2048);
pub(crate) const WRITE_BUFFER: NonZeroUsize = NZUsize!(128 << 10);
pub(crate) const REPLAY_BUFFER: NonZeroUsize = NZUsize!(256 << 10);
/// Messages in an engine part's queue; what does not fit is retried or fetched again by the engine.
pub(crate) const MAILBOX: NonZeroUsize = NZUsize!(256);
/// Blocks or operations per file. Part of the on-disk format.
const BLOCKS_PER_FILE: NonZeroU64 = NZU64!(4096);
const OPS_PER_FILE: NonZeroU64 = NZU64!(1 << 18);
/// Largest record in the store.
const MAX_RECORD: usize = 2 << 20;
/// Operations in one answer to a joining node.
const SYNC_BATCH: NonZeroU64 = NZU64!(256);
/// Final blocks handed over before the store has made the first of them durable.
const MAX_PENDING_ACKS: NonZeroUsize = NZUsize!(16);

/// A two-way channel of the network.
pub(crate) type Channel<S, R> = (S, R);
pub(crate) type Marshal = MarshalMailbox<Scheme, Standard<Block>>;

/// The network's channels, one for each conversation.
pub(crate) struct Channels<S, R> {
    pub(crate) votes: Channel<S, R>,
    pub(crate) certificates: Channel<S, R>,
    pub(crate) resolver: Channel<S, R>,
    pub(crate) backfill: Channel<S, R>,
    pub(crate) blocks: Channel<S, R>,
}

/// A running engine.
pub(crate) struct Running<E: Rt> {
    pub(crate) marshal: Marshal,
    pub(crate) dbs: Dbs<E>,
    pub(crate) tasks: Vec<Handle<()>>,
}

pub(crate) fn page_cache() -> CacheRef {
    CacheRef::new(PAGE, PAGES)
}

pub(crate) fn db_config(prefix: &str, page_cache: CacheRef) -> VariableConfig<EightCap, ((), RangeCfg<usize>), Sequential> {
    VariableConfig {
        merkle_config: MerkleConfig {
            journal_partition: format!("{prefix}-state-merkle"),
            metadata_partition: format!("{prefix}-state-merkle-meta"),
            items_per_blob: OPS_PER_FILE,
            write_buffer: WRITE_BUFFER,
            replay_buffer: REPLAY_BUFFER,
            strategy: Sequential,
            page_cache: page_cache.clone(),
        },
        journal_config: LogConfig {
            partition: format!("{prefix}-state-log"),
            items_per_section: OPS_PER_FILE,
            compression: None,
            codec_config: ((), RangeCfg::from(0..=MAX_RECORD)),
            page_cache,
            write_buffer: WRITE_BUFFER,
            replay_buffer: REPLAY_BUFFER,
        },
        grafted_metadata_partition: format!("{prefix}-state-bitmap"),
        translator: EightCap,
        init_cache: Some(NZUsize!(1 << 16)),
        init_buffer: REPLAY_BUFFER,
        init_concurrency: (),
    }
}

pub(crate) fn archive_config<C>(name: &str, page_cache: CacheRef, codec_config: C) -> prunable::Config<EightCap, C> {
    prunable::Config {
        translator: EightCap,
        metadata_partition: format!("{PREFIX}-{name}-meta"),
        key_partition: format!("{PREFIX}-{name}-key"),
        key_page_cache: page_cache,
        value_partition: format!("{PREFIX}-{name}-value"),
        compression: None,
        codec_config,
        items_per_section: BLOCKS_PER_FILE,
        key_write_buffer: WRITE_BUFFER,
        value_write_buffer: WRITE_BUFFER,
        replay_buffer: REPLAY_BUFFER,
    }
}

/// Reads the state that the store holds, and the block it belongs to, into memory.
async fn load<E: Rt>(core: &Core, marshal: &Marshal, dbs: &Dbs<E>) {
    let db = dbs.read().await;
    let corrupt = |what: String| -> ! { fail(&format!("state store: {what}")) };
    let height = match db.get_metadata().await {
        Ok(None) => None,
        Ok(Some(bytes)) => match bytes.first_chunk::<8>() {
            Some(height) => Some(u64::from_be_bytes(*height)),
            None => corrupt("its height is unreadable".into()),
        },
        Err(error) => corrupt(error.to_string()),
    };
    let Some(height) = height else {
        let genesis = &core.roster.genesis;
        core.set_base(genesis.header.clone(), genesis.digest(), genesis_view(core), Arc::clone(&core.roster.founders));
        return;
    };
    let found = match core.roster.engine_height(height) {
        Some(height) => marshal.get_block(height).await,
        None => None,
    };
    let Some(block) = found else { fail(&format!("block store: block {height} is missing")) };
    let header = block.inner().header.clone();
    if db.root().0 != header.state_root {
        corrupt(format!("its root is not the one that block {height} commits to"));
    }
    let entries: Result<Vec<(Bytes, Bytes)>, String> = db
        .stream_range(..)
        .map(|entry| {
            entry.map_err(|e| e.to_string()).and_then(|(_, stored)| split_value(&stored).ok_or_else(|| "a record is unreadable".into()))
        })
        .try_collect()
        .await;
    let entries = entries.unwrap_or_else(|error| corrupt(error));
    tracing::info!(height, entries = entries.len(), "ledger state loaded");
    let view = View::from_entries(entries);
    let seats = core.terms.named(&header.validators);
    // After the last block of a term its state says who is next; else the store does.
    let next = core.terms.named(&header.next_validators).or_else(|| seats.map(|seats| core.seats_after(&header, &view, &seats)));
    let next = next.filter(|next| next.hash == header.next_validators);
    let Some(next) = next else { corrupt(format!("who certifies after block {height} is not known any more")) };
    core.set_base(header, block.digest(), view, next);
}

/// The block store repairs a damaged end by cutting it off. What was delivered must not be among it: the engine would
/// quietly go back to an older state.
async fn check_blocks(marshal: &Marshal) {
    if let Some(processed) = marshal.get_processed().await
        && marshal.get_block(processed.height()).await.is_none()
    {
        fail(&format!("block store: block {} is missing", processed.height()));
    }
}

/// How missing final blocks are fetched from peers.
fn backfill_config<P, B>(me: ed25519::PublicKey, peer_provider: P, blocker: B) -> marshal_resolver::Config<ed25519::PublicKey, P, B>
where
    P: PeerProvider<PublicKey = ed25519::PublicKey>,
    B: Blocker<PublicKey = ed25519::PublicKey>,
{
    marshal_resolver::Config {
        public_key: me,
        peer_provider,
        blocker,
        mailbox_size: MAILBOX,
        fetch_timeout: NZDuration!(Duration::from_secs(2)),
        fetch_retry_delay: Duration::from_millis(100),
        priority_requests: false,
        priority_responses: false,
    }
}

/// How proposed blocks are spread to peers.
fn dissemination_config<P>(me: ed25519::PublicKey, peer_provider: P) -> buffered::Config<ed25519::PublicKey, (), P, Sequential>
where
    P: PeerProvider<PublicKey = ed25519::PublicKey>,
{
    buffered::Config {
        public_key: me,
        mailbox_size: MAILBOX,
        deque_size: 16,
        priority: false,
        codec_config: (),
        peer_provider,
        strategy: Sequential,
    }
}

type DeliveryConfig = marshal::Config<Terms, TermLengths, Sequential, Block, Digested<Block>, Digest>;

/// How final blocks are kept and handed over in order.
fn delivery_config(core: &Core, start: marshal::Start<Scheme, Digest, Digested<Block>>, page_cache: CacheRef) -> DeliveryConfig {
    marshal::Config {
        provider: core.terms.clone(),
        epocher: core.roster.terms(),
        start,
        partition_prefix: PREFIX.into(),
        mailbox_size: MAILBOX,
        view_retention: ViewDelta::new(16),
        prunable_items_per_section: BLOCKS_PER_FILE,
        page_cache,
        replay_buffer: REPLAY_BUFFER,
        key_write_buffer: WRITE_BUFFER,
        value_write_buffer: WRITE_BUFFER,
        block_codec_config: (),
        max_repair: NZUsize!(16),
        max_pending_acks: MAX_PENDING_ACKS,
        strategy: Sequential,
    }
}

type StateConfig<E> = stateful::Config<E, App, Standard<Block>, NoSource, Sequential>;

/// How the state follows the final blocks.
fn state_config<E: Rt>(
    core: &Arc<Core>,
    delivery: (Marshal, DeliveryFloor),
    plan: SyncPlan<E, Scheme, Standard<Block>>,
    page_cache: CacheRef,
) -> StateConfig<E> {
    stateful::Config {
        application: App(Arc::clone(core)),
        db_config: db_config(PREFIX, page_cache),
        provider: (),
        marshal: delivery,
        mailbox_size: MAILBOX,
        plan,
        resolvers: NoSource,
        sync_config: SyncEngineConfig {
            fetch_batch_size: SYNC_BATCH,
            apply_batch_size: NZU64!(4096),
            max_outstanding_requests: NZUsize!(8),
        },
        // Every block stays: replay starts at genesis.
        prune_config: None,
        strategy: Sequential,
    }
}

/// Builds and checks blocks ahead of their votes.
pub(crate) type Builder<E> = Deferred<E, Scheme, stateful::Mailbox<E, App>, Block, TermLengths>;
/// Starts every part of the engine on one runtime and network. `track` hears who belongs to the network.
pub(crate) async fn start<E, S, R, P, B>(
    context: E,
    channels: Channels<S, R>,
    peers: P,
    blocker: B,
    track: Track,
    core: Arc<Core>,
) -> Running<E>
where
    E: Rt,
    S: Sender<PublicKey = ed25519::PublicKey>,
    R: Receiver<PublicKey = ed25519::PublicKey>,
    P: PeerProvider<PublicKey = ed25519::PublicKey>,
    B: Blocker<PublicKey = ed25519::PublicKey> + Sync,
{
    let me = core.identity.signer().public_key();
    let genesis = core.roster.genesis.clone();
    let terms = core.roster.terms();
    let page_cache = page_cache();
    let mut tasks = Vec::new();

    let backfill_config = backfill_config(me.clone(), peers.clone(), blocker.clone());
    let backfill = marshal_resolver::init(context.child("backfill"), backfill_config, channels.backfill);
    let (dissemination, buffer) = buffered::Engine::new(context.child("dissemination"), dissemination_config(me, peers));
    tasks.push(dissemination.start(channels.blocks));

    let finality = prunable::Archive::init(context.child("finality"), archive_config("finality", page_cache.clone(), MAX_VALIDATORS))
        .await
        .unwrap_or_else(|error| fail(&format!("finality store: {error}")));
    let blocks =
        prunable::Archive::<_, _, Digest, Arc<Block>>::init(context.child("blocks"), archive_config("blocks", page_cache.clone(), ()))
            .await
            .unwrap_or_else(|error| fail(&format!("block store: {error}")));
    let stored = blocks.last_index().unwrap_or_default();
    let book = Book::open(context.child("terms"), PREFIX, &core.terms, &terms, stored).await;
    let plan = SyncPlan::init(context.child("plan"), PREFIX).await;
    let first = plan.marshal_start(Digested::precomputed(genesis.clone(), genesis.digest()));
    let delivery_config = delivery_config(&core, first, page_cache.clone());
    let (delivery, marshal, floor) =
        MarshalActor::<_, Standard<Block>, _, _, _, _, _>::init(context.child("delivery"), finality, blocks, delivery_config).await;
    let state_config = state_config(&core, (marshal.clone(), floor), plan, page_cache.clone());
    let (state, stateful) = Stateful::new(context.child("state"), state_config);
    let deferred = Deferred::new(context.child("deferred"), stateful.clone(), marshal.clone(), terms);

    // The request for the store must be queued before the first block is delivered: processing a block waits for
    // the loaded state, and the stateful actor answers nothing else while it finalizes one.
    let mut databases = Box::pin(AssertUnwindSafe(stateful.subscribe_databases()).catch_unwind());
    let early = futures::poll!(&mut databases);
    let (boundaries, ends) = Boundaries::new(&core);
    tasks.push(delivery.start(Reporters::from((stateful.clone(), boundaries)), buffer, backfill));
    check_blocks(&marshal).await;
    tasks.push(state.start());
    let opened = match early {
        Poll::Ready(opened) => opened,
        Poll::Pending => databases.await,
    };
    let Ok(dbs) = opened else {
        // The actor panicked: its own panic, which says more than ours, is about to end the runtime.
        return std::future::pending().await;
    };
    load(&core, &marshal, &dbs).await;

    let latest = marshal.get_info(Identifier::Latest).await.map_or(0, |(height, _)| height.get());
    let resumed = core.roster.genesis.header.base.saturating_add(latest);
    let voting = Voting { core: Arc::clone(&core), marshal: marshal.clone(), deferred, blocker, page_cache, track, resumed };
    let channels = (channels.votes, channels.certificates, channels.resolver);
    tasks.push(context.child("voting").spawn(move |context| votes::run(context, voting, book, ends, channels)));
    // Blocks that were final before a crash and are not in the store yet are executed again before anyone looks.
    core.reached(resumed).await;
    Running { marshal, dbs, tasks }
}
