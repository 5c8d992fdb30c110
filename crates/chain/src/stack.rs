//! Wires the engine: archives, marshal, stateful application, store, votes.
//!
//! Guarantees: generic over runtime and network here, and instantiated once, in `handle`. Buffers are a fraction of
//! the engine's defaults: a validator of a small zone is a process beside others on somebody's machine.
//! Blocks are handed over once the state is in memory ([`Gate`]).

use crate::app::{App, Dbs, Rt, fail, genesis_view};
use crate::block::{Block, Digest};
use crate::core::Core;
use crate::genesis::{MAX_VALIDATORS, Roster, TermLengths};
use crate::join::{self, History, Join, JoinStep, Joining, Progress, SERVED_AT_ONCE};
use crate::records::records;
use crate::terms::{Book, Boundaries, Terms, Track};
use crate::view::View;
use crate::votes::{self, Voting};
use commonware_actor::Feedback;
use commonware_broadcast::buffered;
use commonware_codec::RangeCfg;
use commonware_consensus::{
    Reporter, Reporters,
    marshal::{
        self, Identifier, Update,
        core::Actor as MarshalActor,
        core::Floor as DeliveryFloor,
        core::Mailbox as MarshalMailbox,
        resolver::p2p as marshal_resolver,
        standard::{Deferred, Standard},
    },
    simplex::{scheme::ed25519::Scheme, types::Finalization},
    types::ViewDelta,
};
use commonware_cryptography::{Digested, Digestible as _, Signer as _, ed25519};
use commonware_glue::stateful::{
    self, PruneConfig, Stateful, SyncPlan,
    db::{SyncEngineConfig, p2p},
};
use commonware_p2p::{Blocker, Provider as PeerProvider, Receiver, Sender};
use commonware_parallel::Sequential;
use commonware_runtime::{Handle, buffer::paged::CacheRef};
use commonware_storage::{
    archive::{Archive as _, Identifier as Stored, prunable},
    journal::contiguous::variable::Config as LogConfig,
    merkle::full::Config as MerkleConfig,
    qmdb::current::VariableConfig,
    translator::EightCap,
};
use commonware_utils::{NZDuration, NZU16, NZU64, NZUsize};
use futures::FutureExt as _;
use std::num::{NonZeroU16, NonZeroU64, NonZeroUsize};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Name of every partition's files.
pub(crate) const PREFIX: &str = "chain";
/// Page of the on-disk stores. Part of the on-disk format: changing it makes old pages unreadable.
const PAGE: NonZeroU16 = NZU16!(4096);
/// How much memory the parts of an engine take, in production by default. Nothing of it is part of the on-disk format, or of what is said.
#[derive(Clone, Copy)]
pub(crate) struct Sizes {
    /// Pages kept in memory, for all stores together.
    pub(crate) pages: NonZeroUsize,
    pub(crate) write_buffer: NonZeroUsize,
    pub(crate) replay_buffer: NonZeroUsize,
    /// Messages in an engine part's queue; what does not fit is retried or fetched again by the engine. Each term makes some, and a queue
    /// takes its memory at once.
    pub(crate) mailbox: NonZeroUsize,
}

impl Default for Sizes {
    fn default() -> Self {
        Self { pages: NZUsize!(2048), write_buffer: NZUsize!(128 << 10), replay_buffer: NZUsize!(256 << 10), mailbox: NZUsize!(256) }
    }
}

/// Terms whose blocks share a file: 65,536 blocks in production. Every file stays open, so a year of two blocks a second must not be many;
/// and what is forgotten goes by whole files. Part of the on-disk format, as are the operations in a file.
const TERMS_PER_FILE: NonZeroU64 = NZU64!(256);
const OPS_PER_FILE: NonZeroU64 = NZU64!(1 << 18);
/// Fewest and most keys that are remembered while the store's index is built.
const LEAST_REMEMBERED: usize = 1 << 12;
const MOST_REMEMBERED: usize = 1 << 22;
/// Operations of a store whose size is not known before it is open.
pub(crate) const MANY_OPERATIONS: u64 = 1 << 21;
/// Largest record in the store.
pub(crate) const MAX_RECORD: usize = 2 << 20;
/// Blocks between two looks at what may be forgotten.
const PRUNE_EACH: NonZeroUsize = NZUsize!(64);
/// Terms whose blocks stay at the least: a node joins at the end of one, and its votes begin on that block.
const LEAST_TERMS: u64 = 2;
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
    /// Where to begin, for who joins by state.
    pub(crate) joining: Channel<S, R>,
    /// The operations that make a state.
    pub(crate) operations: Channel<S, R>,
}

/// What is forgotten, and when.
fn pruning(keep_blocks: Option<u64>, term_blocks: u64) -> Option<PruneConfig> {
    let least = term_blocks.saturating_mul(LEAST_TERMS);
    let blocks = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
    let keep = keep_blocks?.max(least);
    Some(PruneConfig { maintenance_interval: PRUNE_EACH, retained_marshal_blocks: blocks(keep), retained_qmdb_blocks: blocks(least) })
}

/// A running engine.
pub(crate) struct Running<E: Rt> {
    pub(crate) marshal: Marshal,
    pub(crate) dbs: Dbs<E>,
    pub(crate) tasks: Vec<Handle<()>>,
}

pub(crate) fn page_cache(sizes: Sizes) -> CacheRef {
    CacheRef::new(PAGE, sizes.pages)
}

type DbConfig = VariableConfig<EightCap, ((), RangeCfg<usize>), Sequential>;

/// How many keys are remembered while the index of a store of so many operations is built. Adding a record rewrites the one before it, so
/// most operations replace another, whose key is read from the disk where it is not remembered: one read for each. Some 50 bytes an
/// operation, until the index is there.
fn remembered(operations: u64) -> NonZeroUsize {
    let most = usize::try_from(operations).unwrap_or(usize::MAX).clamp(LEAST_REMEMBERED, MOST_REMEMBERED);
    NonZeroUsize::new(most).unwrap_or(NonZeroUsize::MIN)
}

/// How the state is stored. `operations`: about how many make it.
pub(crate) fn db_config(prefix: &str, page_cache: CacheRef, (operations, sizes): (u64, Sizes)) -> DbConfig {
    VariableConfig {
        merkle_config: MerkleConfig {
            journal_partition: format!("{prefix}-state-merkle"),
            metadata_partition: format!("{prefix}-state-merkle-meta"),
            items_per_blob: OPS_PER_FILE,
            write_buffer: sizes.write_buffer,
            replay_buffer: sizes.replay_buffer,
            strategy: Sequential,
            page_cache: page_cache.clone(),
        },
        journal_config: LogConfig {
            partition: format!("{prefix}-state-log"),
            items_per_section: OPS_PER_FILE,
            compression: None,
            codec_config: ((), RangeCfg::from(0..=MAX_RECORD)),
            page_cache,
            write_buffer: sizes.write_buffer,
            replay_buffer: sizes.replay_buffer,
        },
        grafted_metadata_partition: format!("{prefix}-state-bitmap"),
        translator: EightCap,
        init_cache: Some(remembered(operations)),
        init_buffer: sizes.replay_buffer,
        init_concurrency: (),
    }
}

const fn blocks_per_file(roster: &Roster) -> NonZeroU64 {
    roster.term_blocks.saturating_mul(TERMS_PER_FILE)
}

pub(crate) fn archive_config<C>(
    name: &str,
    (roster, sizes): (&Roster, Sizes),
    page_cache: CacheRef,
    codec_config: C,
) -> prunable::Config<EightCap, C> {
    prunable::Config {
        translator: EightCap,
        metadata_partition: format!("{PREFIX}-{name}-meta"),
        key_partition: format!("{PREFIX}-{name}-key"),
        key_page_cache: page_cache,
        value_partition: format!("{PREFIX}-{name}-value"),
        compression: None,
        codec_config,
        items_per_section: blocks_per_file(roster),
        key_write_buffer: sizes.write_buffer,
        value_write_buffer: sizes.write_buffer,
        replay_buffer: sizes.replay_buffer,
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
    let entries = records(&db).await.unwrap_or_else(|error| corrupt(error));
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
fn backfill_config<P, B>(
    me: ed25519::PublicKey,
    peer_provider: P,
    blocker: B,
    sizes: Sizes,
) -> marshal_resolver::Config<ed25519::PublicKey, P, B>
where
    P: PeerProvider<PublicKey = ed25519::PublicKey>,
    B: Blocker<PublicKey = ed25519::PublicKey>,
{
    marshal_resolver::Config {
        public_key: me,
        peer_provider,
        blocker,
        mailbox_size: sizes.mailbox,
        fetch_timeout: NZDuration!(Duration::from_secs(2)),
        fetch_retry_delay: Duration::from_millis(100),
        priority_requests: false,
        priority_responses: false,
    }
}

/// How proposed blocks are spread to peers.
fn dissemination_config<P>(
    me: ed25519::PublicKey,
    peer_provider: P,
    sizes: Sizes,
) -> buffered::Config<ed25519::PublicKey, (), P, Sequential>
where
    P: PeerProvider<PublicKey = ed25519::PublicKey>,
{
    buffered::Config {
        public_key: me,
        mailbox_size: sizes.mailbox,
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
    let sizes = core.sizes;
    marshal::Config {
        provider: core.terms.clone(),
        epocher: core.roster.terms(),
        start,
        partition_prefix: PREFIX.into(),
        mailbox_size: sizes.mailbox,
        view_retention: ViewDelta::new(16),
        prunable_items_per_section: blocks_per_file(&core.roster),
        page_cache,
        replay_buffer: sizes.replay_buffer,
        key_write_buffer: sizes.write_buffer,
        value_write_buffer: sizes.write_buffer,
        block_codec_config: (),
        max_repair: NZUsize!(16),
        max_pending_acks: MAX_PENDING_ACKS,
        strategy: Sequential,
    }
}

type StateConfig<E> = stateful::Config<E, App, Standard<Block>, Joining<E>, Sequential>;
type Plan<E> = SyncPlan<E, Scheme, Standard<Block>>;

/// How the state follows the final blocks.
fn state_config<E: Rt>(
    core: &Arc<Core>,
    delivery: (Marshal, DeliveryFloor),
    plan: Plan<E>,
    resolvers: Joining<E>,
    prune_config: Option<PruneConfig>,
    db_config: DbConfig,
) -> StateConfig<E> {
    stateful::Config {
        application: App(Arc::clone(core)),
        db_config,
        provider: (),
        marshal: delivery,
        mailbox_size: core.sizes.mailbox,
        plan,
        resolvers,
        sync_config: SyncEngineConfig {
            fetch_batch_size: SERVED_AT_ONCE,
            apply_batch_size: NZU64!(4096),
            max_outstanding_requests: NZUsize!(8),
        },
        prune_config,
        strategy: Sequential,
    }
}

/// How the operations of a state are fetched from peers, and shown to them.
fn operations_config<P, B, DB>(
    me: ed25519::PublicKey,
    peer_provider: P,
    blocker: B,
    sizes: Sizes,
) -> p2p::Config<ed25519::PublicKey, P, B, DB>
where
    P: PeerProvider<PublicKey = ed25519::PublicKey>,
    B: Blocker<PublicKey = ed25519::PublicKey>,
{
    p2p::Config {
        peer_provider,
        blocker,
        database: None,
        mailbox_size: sizes.mailbox,
        me: Some(me),
        fetch_timeout: NZDuration!(Duration::from_secs(5)),
        fetch_retry_delay: Duration::from_millis(100),
        max_serve_ops: SERVED_AT_ONCE,
        priority_requests: false,
        priority_responses: false,
    }
}

/// Hands final blocks over once the state is loaded. While the state is fetched the engine would execute what comes meanwhile before it
/// gives the state to anybody, and executing waits for the state in memory.
#[derive(Clone)]
struct Gate(mpsc::UnboundedSender<Update<Block>>);

impl Gate {
    fn new<E: Rt>(context: &E, core: &Arc<Core>, mut beyond: stateful::Mailbox<E, App>) -> (Self, Handle<()>) {
        // Bounded by the blocks that the engine hands over without an acknowledgement.
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let core = Arc::clone(core);
        let open = context.child("gate").spawn(move |_| async move {
            core.ready().await;
            while let Some(update) = receiver.recv().await {
                let _ = beyond.report(update);
            }
        });
        (Self(sender), open)
    }
}

impl Reporter for Gate {
    type Activity = Update<Block>;
    fn report(&mut self, update: Update<Block>) -> Feedback {
        // Without a receiver the engine is going down, and what was not acknowledged is handed over again.
        let _ = self.0.send(update);
        Feedback::Ok
    }
}

/// Finds out where a node begins that joins by state; `None` where it does not, or goes on with what it began.
async fn begin<E, S, R, B>(
    context: &mut E,
    core: &Core,
    history: &History,
    (book, plan): (Book<E>, Plan<E>),
    channel: &mut (S, R),
    (blocker, track): (B, &Track),
) -> (Book<E>, Plan<E>, Option<Progress>)
where
    E: Rt,
    S: Sender<PublicKey = ed25519::PublicKey>,
    R: Receiver<PublicKey = ed25519::PublicKey>,
    B: Blocker<PublicKey = ed25519::PublicKey>,
{
    if !plan.should_sync(history.join == Join::State) {
        return (book, plan, None);
    }
    // Those whom the genesis and the operator name; who sits today is not known yet.
    track(0, core.roster.founders.participants(), vec![]);
    let (book, found) = join::find(context, core, book, channel, blocker, (history.on_join.as_ref(), history.anchor)).await;
    let Some(found) = found else {
        tracing::info!("the network is young: it is followed by blocks");
        return (book, plan, None);
    };
    let header = &found.header;
    tracing::info!(height = header.height, "joining by the state after a final block");
    let progress = Progress { height: header.height, operations: header.operations(), on_join: history.on_join.clone() };
    (book, plan.set_floor(found.finalization).await, Some(progress))
}

/// Builds and checks blocks ahead of their votes.
pub(crate) type Builder<E> = Deferred<E, Scheme, stateful::Mailbox<E, App>, Block, TermLengths>;

type Store<E, V> = prunable::Archive<EightCap, E, Digest, V>;

/// About how many operations make the state: what is coming, or what the last stored block says.
async fn operations<E: Rt>(coming: Option<&Progress>, blocks: &Store<E, Arc<Block>>, last: u64) -> u64 {
    if let Some(coming) = coming {
        return coming.operations;
    }
    // A block that cannot be read is said to be that when all are looked at.
    blocks.get(Stored::Index(last)).await.ok().flatten().map_or(0, |last| last.header.operations())
}

/// Certificates and blocks on disk.
async fn archives<E: Rt>(context: &E, core: &Core, cache: &CacheRef) -> (Store<E, Finalization<Scheme, Digest>>, Store<E, Arc<Block>>) {
    let of = (&core.roster, core.sizes);
    let config = archive_config("finality", of, cache.clone(), MAX_VALIDATORS);
    let finality = Store::init(context.child("finality"), config).await.unwrap_or_else(|error| fail(&format!("finality store: {error}")));
    let config = archive_config("blocks", of, cache.clone(), ());
    let blocks = Store::init(context.child("blocks"), config).await.unwrap_or_else(|error| fail(&format!("block store: {error}")));
    (finality, blocks)
}

/// Starts every part of the engine on one runtime and network. `track` hears who belongs to the network.
pub(crate) async fn start<E, S, R, P, B>(
    mut context: E,
    mut channels: Channels<S, R>,
    peers: P,
    blocker: B,
    track: Track,
    core: Arc<Core>,
    history: History,
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
    let (sizes, page_cache) = (core.sizes, page_cache(core.sizes));
    let mut tasks = Vec::new();

    let backfill_config = backfill_config(me.clone(), peers.clone(), blocker.clone(), sizes);
    let backfill = marshal_resolver::init(context.child("backfill"), backfill_config, channels.backfill);
    let (dissemination, buffer) =
        buffered::Engine::new(context.child("dissemination"), dissemination_config(me.clone(), peers.clone(), sizes));
    tasks.push(dissemination.start(channels.blocks));
    let operations_config = operations_config(me, peers, blocker.clone(), sizes);
    let (serving, fetching) = p2p::Actor::new(context.child("operations"), operations_config);
    tasks.push(serving.start(channels.operations));

    let (finality, blocks) = archives(&context, &core, &page_cache).await;
    let stored = blocks.last_index().unwrap_or_default();
    let book = Book::open(context.child("terms"), PREFIX, &core.terms, &terms, stored).await;
    let plan = SyncPlan::init(context.child("plan"), PREFIX).await;
    let peering = (blocker.clone(), &track);
    let (book, plan, progress) = begin(&mut context, &core, &history, (book, plan), &mut channels.joining, peering).await;
    let (joins, joined) = (plan.floor().is_some(), progress.clone());
    let operations = operations(progress.as_ref(), &blocks, stored).await;
    let joining = Joining::new(context.child("joining"), fetching, progress);
    let first = plan.marshal_start(Digested::precomputed(genesis.clone(), genesis.digest()));
    let delivery_config = delivery_config(&core, first, page_cache.clone());
    let (delivery, marshal, floor) =
        MarshalActor::<_, Standard<Block>, _, _, _, _, _>::init(context.child("delivery"), finality, blocks, delivery_config).await;
    let pruning = pruning(history.keep_blocks, core.roster.term_blocks.get());
    let db_config = db_config(PREFIX, page_cache.clone(), (operations, sizes));
    let state_config = state_config(&core, (marshal.clone(), floor), plan, joining, pruning, db_config);
    let (state, stateful) = Stateful::new(context.child("state"), state_config);
    let deferred = Deferred::new(context.child("deferred"), stateful.clone(), marshal.clone(), terms);

    let (boundaries, ends) = Boundaries::new(&core);
    let (gate, opening) = Gate::new(&context, &core, stateful.clone());
    tasks.push(opening);
    tasks.push(delivery.start(Reporters::from((gate, boundaries)), buffer, backfill));
    // The block that a node begins with is fetched first.
    if !joins {
        check_blocks(&marshal).await;
    }
    tasks.push(state.start());
    let Ok(dbs) = AssertUnwindSafe(stateful.subscribe_databases()).catch_unwind().await else {
        // The actor panicked: its own panic, which says more than ours, is about to end the runtime.
        return std::future::pending().await;
    };
    load(&core, &marshal, &dbs).await;
    if let Some(Progress { height, on_join, .. }) = joined {
        on_join.inspect(|say| say(JoinStep::Joined { height }));
    }
    let (own, blocks, asking) = (Arc::clone(&core), marshal.clone(), blocker.clone());
    tasks.push(context.child("join").spawn(move |_| join::serve(own, blocks, channels.joining, asking)));

    let latest = marshal.get_info(Identifier::Latest).await.map_or(0, |(height, _)| height.get());
    let resumed = core.roster.genesis.header.base.saturating_add(latest);
    let voting = Voting { core: Arc::clone(&core), marshal: marshal.clone(), deferred, blocker, page_cache, track, resumed };
    let channels = (channels.votes, channels.certificates, channels.resolver);
    tasks.push(context.child("voting").spawn(move |context| votes::run(context, voting, book, ends, channels)));
    // Blocks that were final before a crash and are not in the store yet are executed again before anyone looks.
    core.reached(resumed).await;
    Running { marshal, dbs, tasks }
}
