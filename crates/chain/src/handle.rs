//! The door: a cheap handle on a chain that runs on threads of its own.
//!
//! Guarantees: methods may be called from any thread or runtime; the engine lives until [`Chain::shutdown`] or until
//! the last handle goes. A panic of the engine ends in [`ChainError`], in [`Chain::failed`] and in the answer to
//! every waiting submitter.

use crate::app::{Dbs, Encoding, empty_target, store_key, store_value};
use crate::block::{Block, Digest, Header};
use crate::clock::LedgerClock;
use crate::core::{Core, Failpoint, FinalizedBlock, Settings, Tip, TxReceipt};
use crate::error::{ChainError, Dropped, SubmitError};
use crate::evidence::Contradicted;
use crate::genesis::{Genesis, Identity, Roster, Seats, Validator};
use crate::gossip;
use crate::join::{History, Join};
use crate::machine::Machine;
use crate::mempool::{Limits, TxId};
use crate::net::{Link, Network};
use crate::stack::{self, Running, Sizes};
use crate::terms::Change;
use bytes::Bytes;
use commonware_codec::Encode as _;
use commonware_consensus::types::Height;
use commonware_cryptography::{Digestible as _, Sha256};
use commonware_runtime::{Metrics as _, Runner as _, Spawner as _, Supervisor as _, tokio as engine_runtime};
use pasture_rt::Clock;
use pasture_types::state::StateRead;
use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

/// Questions to the engine that wait for an answer; more wait in their callers.
const QUESTIONS: usize = 64;
/// Threads of the engine. One executes while another writes.
const WORKERS: usize = 2;
/// Threads for file operations, which are short.
const FILE_THREADS: usize = 8;
/// Blocks between a block and the certificate that covers it. The engine certifies nearly every block; a light client refuses
/// more headers than this.
const MAX_DESCENT: usize = 64;
const STORE_DIR: &str = "store";
const LOCK_FILE: &str = "lock";
const ZONE_FILE: &str = "zone";

/// How a chain is started.
#[derive(Clone)]
pub struct Options {
    /// Where everything is kept; created if missing. One chain per directory.
    pub data_dir: PathBuf,
    /// What the zone starts from; must be the same at every start.
    pub genesis: Genesis,
    /// This node's secrets.
    pub identity: Identity,
    /// How validators reach each other; not used with one validator.
    pub network: Option<Network>,
    /// Ledger time before which this validator signed already in a life whose journal is lost: it signs in no term of the engine
    /// that began earlier, but follows. 0 where nothing was lost. Not heeded with one validator, which nobody can contradict.
    pub signs_from_ms: u64,
    /// How it comes to its blocks and how many stay.
    pub history: History,
    /// How much may wait in the pool.
    pub limits: Limits,
    /// Where block time comes from.
    pub clock: Arc<dyn Clock>,
    /// Called at named points between durable writes (`chain.proposed`, `chain.before_apply`, `chain.after_apply`,
    /// `chain.after_finalized`), for kill tests.
    pub failpoint: Option<Failpoint>,
}

/// A handle on a running chain.
#[derive(Clone)]
pub struct Chain(Arc<Inner>);

struct Inner {
    core: Arc<Core>,
    questions: mpsc::Sender<Question>,
    /// Set once the engine is gone.
    ended: watch::Receiver<Option<ChainError>>,
    stop: watch::Sender<bool>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

enum Question {
    Block(u64, oneshot::Sender<Option<StoredBlock>>),
    Finality(u64, oneshot::Sender<Option<Vec<u8>>>),
    Certify(u64, oneshot::Sender<Result<Certified, ChainError>>),
    Prove(Vec<u8>, oneshot::Sender<Result<StateProof, ChainError>>),
    Handovers([u8; 32], usize, oneshot::Sender<Result<Option<Vec<Handover>>, ChainError>>),
    Peers(oneshot::Sender<usize>),
}

/// A block read back from disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredBlock {
    /// Its header.
    pub header: Header,
    /// Digest of the header.
    pub digest: [u8; 32],
    /// Its transactions.
    pub txs: Vec<Bytes>,
}

/// A block with what makes it final for somebody who was not there. Not every block has a certificate of its own: one of a
/// later block covers it through the headers between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certified {
    /// The block's header, then its descendants' up to the block that the certificate names; never empty.
    pub headers: Vec<Header>,
    /// The encoded finality certificate of the last of them.
    pub certificate: Vec<u8>,
}

/// Evidence that a key has a value, or none, in the state that a certified header commits to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateProof {
    /// The header whose `state_root` it is checked against.
    pub header: Header,
    /// What makes that header final; its first header is the one above.
    pub finality: Certified,
    /// The value; `None` if the proof shows that there is none.
    pub value: Option<Vec<u8>>,
    /// Encoded proof: of inclusion if there is a value, else of exclusion.
    pub proof: Vec<u8>,
}

/// How the validators of one term handed over to others: what a client that trusts the former needs to trust the latter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handover {
    /// The last header of the term; its `next_validators` names the new set.
    pub header: Header,
    /// That header's encoded certificate by the old set.
    pub certificate: Vec<u8>,
    /// The new set, ascending by key.
    pub validators: Vec<Validator>,
}

impl Handover {
    pub(crate) fn of(change: &Change, seats: &Seats) -> Self {
        Self { header: change.header.clone(), certificate: change.certificate.to_vec(), validators: seats.named.clone() }
    }
}

/// How the chain is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Height of the latest final block.
    pub height: u64,
    /// Its ledger time.
    pub timestamp_ms: u64,
    /// Transactions that wait.
    pub waiting: usize,
    /// Entries in the state.
    pub entries: usize,
    /// Validators that may certify the next block.
    pub validators: usize,
    /// The engine's term that the next block belongs to.
    pub term: u64,
    /// Whether this node is one of them.
    pub seated: bool,
}

/// The state after a final block: immutable, shared, cheap to clone.
#[derive(Clone)]
pub struct Snapshot(Arc<Tip>);

impl Snapshot {
    pub(crate) const fn new(tip: Arc<Tip>) -> Self {
        Self(tip)
    }
    /// How many entries there are.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.0.view.len()
    }
    /// Visits every entry in ascending order.
    pub fn each(&self, visit: &mut dyn FnMut(&[u8], &[u8])) {
        self.0.view.each(visit);
    }
    /// Height of the block.
    #[must_use]
    pub fn height(&self) -> u64 {
        self.0.header.height
    }
    /// The block's header.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.0.header
    }
    /// Digest of the header.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        self.0.digest.0
    }
}

impl StateRead for Snapshot {
    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.0.view.get(key)
    }
    fn scan(&self, start: &[u8], end: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) {
        self.0.view.scan(start, end, visit);
    }
}

/// A transaction on its way into a final block.
#[derive(Debug)]
pub struct Pending {
    id: TxId,
    receiver: oneshot::Receiver<Result<TxReceipt, Dropped>>,
}

impl Pending {
    /// Identity of the transaction.
    #[must_use]
    pub const fn id(&self) -> TxId {
        self.id
    }

    /// Waits until the transaction's block is final and on disk.
    ///
    /// # Errors
    /// Why it will not be in a block of this run.
    pub async fn finalized(self) -> Result<TxReceipt, Dropped> {
        self.receiver.await.unwrap_or(Err(Dropped::Stopped))
    }
}

/// Final blocks in order, from the moment of [`Chain::subscribe`].
pub struct BlockStream(broadcast::Receiver<Arc<FinalizedBlock>>);

/// What [`BlockStream::next`] found.
#[derive(Clone, Debug)]
pub enum NextBlock {
    /// The next final block.
    Block(Arc<FinalizedBlock>),
    /// The subscriber was too slow and this many blocks are lost to it: read [`Chain::state`] afresh.
    Missed(u64),
}

impl BlockStream {
    /// The next final block; `None` when the chain is gone.
    pub async fn next(&mut self) -> Option<NextBlock> {
        match self.0.recv().await {
            Ok(block) => Some(NextBlock::Block(block)),
            Err(broadcast::error::RecvError::Lagged(missed)) => Some(NextBlock::Missed(missed)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

impl Chain {
    /// Starts a chain and returns when its state is loaded.
    ///
    /// # Errors
    /// A data directory that is in use, of another zone, damaged or unusable; a genesis that makes no sense.
    pub fn start(options: Options, machine: Arc<dyn Machine>) -> Result<Self, ChainError> {
        if options.genesis.validators.len() > 1 && options.network.is_none() {
            return Err(ChainError::Network("the zone has several validators, and nobody says how they reach each other".into()));
        }
        let hold = Hold::take(&options.data_dir, &options.genesis.zone)?;
        let (started, start) = std::sync::mpsc::sync_channel(1);
        let (stop, stopping) = watch::channel(false);
        let (end, ended) = watch::channel(None);
        let (questions, asked) = mpsc::channel(QUESTIONS);
        let store = options.data_dir.join(STORE_DIR);
        let thread = std::thread::Builder::new().name("chain".into());
        let run = move || {
            let reached = Arc::new(std::sync::Mutex::new(None));
            let slot = Arc::clone(&reached);
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                run_engine(&store, options, machine, asked, stopping, &started, &slot)
            }));
            let error = match outcome {
                Ok(Ok(())) => ChainError::Stopped,
                Ok(Err(error)) => error,
                Err(panic) => explain(&store, &*panic),
            };
            // The lock goes before anyone hears of the end, so that a restart finds the directory free.
            drop(hold);
            if let Some(core) = reached.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take() {
                Core::stop(&core);
            }
            // Only one of the two has a listener, depending on how far the start came.
            let _ = started.send(Err(error.clone()));
            end.send_replace(Some(error));
        };
        thread.spawn(run).map_err(|e| ChainError::Fatal(format!("cannot start a thread: {e}")))?;
        let core = start.recv().map_err(|_| ChainError::Fatal("the engine thread is gone".into()))??;
        Ok(Self(Arc::new(Inner { core, questions, ended, stop })))
    }

    /// Hands a transaction in. It is checked here, on the caller's thread; the same transaction again is the same one.
    ///
    /// # Errors
    /// Why it may not wait for a block.
    pub fn submit(&self, tx: Bytes) -> Result<Pending, SubmitError> {
        let (id, receiver) = self.0.core.submit(tx)?;
        Ok(Pending { id, receiver })
    }

    /// From now on tells the other validators this, beside the ledger: at most [`crate::MAX_NOTICE`] bytes, which mean nothing here.
    pub fn say(&self, notice: &[u8]) {
        self.0.core.notices.say(notice);
    }

    /// The last that each of the others said so, by their public keys.
    #[must_use]
    pub fn heard(&self) -> Vec<([u8; 32], Bytes)> {
        self.0.core.notices.heard()
    }

    /// Changes whenever one of them says something new.
    #[must_use]
    pub fn news(&self) -> watch::Receiver<u64> {
        self.0.core.notices.news()
    }

    /// The latest final state.
    ///
    /// # Errors
    /// Never once [`Chain::start`] has returned; kept so that a future joining node can say it is not ready.
    pub fn state(&self) -> Result<Snapshot, ChainError> {
        self.0.core.tip().map(Snapshot).ok_or(ChainError::Stopped)
    }

    /// Final blocks from now on.
    #[must_use]
    pub fn subscribe(&self) -> BlockStream {
        BlockStream(self.0.core.subscribe())
    }

    /// A block from disk; `None` above the tip, and where it was never here or does not stay.
    ///
    /// # Errors
    /// The chain is not running.
    pub async fn block(&self, height: u64) -> Result<Option<StoredBlock>, ChainError> {
        self.ask(|answer| Question::Block(height, answer)).await
    }

    /// The encoded finality certificate of a block; `None` if this node has none for that height.
    ///
    /// # Errors
    /// The chain is not running.
    pub async fn finality(&self, height: u64) -> Result<Option<Vec<u8>>, ChainError> {
        self.ask(|answer| Question::Finality(height, answer)).await
    }

    /// A final block's header with what makes it final.
    ///
    /// # Errors
    /// The chain is not running, or no certificate on this node covers the block yet.
    pub async fn certified(&self, height: u64) -> Result<Certified, ChainError> {
        self.ask(|answer| Question::Certify(height, answer)).await?
    }

    /// Evidence for a key's value, or for its absence, in the latest state on disk (from the first block on).
    ///
    /// # Errors
    /// The chain is not running, has no block yet, or has no certificate for the latest one yet.
    pub async fn prove(&self, key: &[u8]) -> Result<StateProof, ChainError> {
        let key = key.to_vec();
        self.ask(|answer| Question::Prove(key, answer)).await?
    }

    /// How the validators with the hash `from` handed over to others and those to today's, oldest first and at most `most` of them:
    /// none if they are today's. `None` if this chain never had such validators.
    ///
    /// # Errors
    /// The chain is not running, or a certificate is not here yet.
    pub async fn handovers(&self, from: [u8; 32], most: usize) -> Result<Option<Vec<Handover>>, ChainError> {
        self.ask(|answer| Question::Handovers(from, most, answer)).await?
    }

    /// Validators that are found to contradict themselves from now on. A slow listener loses the oldest.
    #[must_use]
    pub fn contradictions(&self) -> broadcast::Receiver<Contradicted> {
        self.0.core.contradictions.subscribe()
    }

    /// Who may certify the next block, ascending by key.
    #[must_use]
    pub fn validators(&self) -> Vec<Validator> {
        self.0.core.next_seats().map(|seats| seats.named.clone()).unwrap_or_default()
    }

    /// How many of the others this node is connected with now.
    ///
    /// # Errors
    /// The chain is not running.
    pub async fn peers(&self) -> Result<usize, ChainError> {
        self.ask(Question::Peers).await
    }

    /// How the chain is doing.
    #[must_use]
    pub fn status(&self) -> Status {
        let core = &self.0.core;
        let (tip, seats) = (core.tip(), core.next_seats());
        let own = core.identity.public_key();
        Status {
            height: tip.as_ref().map_or(0, |tip| tip.header.height),
            timestamp_ms: tip.as_ref().map_or(0, |tip| tip.header.timestamp_ms),
            waiting: core.waiting(),
            entries: tip.as_ref().map_or(0, |tip| tip.view.len()),
            validators: seats.as_ref().map_or(0, |seats| seats.keys.len()),
            term: core.terms.last(),
            seated: seats.is_some_and(|seats| seats.named.iter().any(|v| v.key == own)),
        }
    }

    /// Waits until the engine is gone and says why; [`ChainError::Stopped`] after an orderly shutdown.
    pub async fn failed(&self) -> ChainError {
        let mut ended = self.0.ended.clone();
        match ended.wait_for(Option::is_some).await {
            Ok(error) => error.clone().unwrap_or(ChainError::Stopped),
            Err(_) => ChainError::Stopped,
        }
    }

    /// Stops the engine and waits for it. Waiting transactions hear [`Dropped::Stopped`]; nothing final is lost.
    ///
    /// # Errors
    /// [`ChainError::Deadline`] if it takes longer, or how the engine had failed before.
    pub async fn shutdown(&self, deadline: Duration) -> Result<(), ChainError> {
        self.0.stop.send_replace(true);
        match tokio::time::timeout(deadline, self.failed()).await {
            Ok(ChainError::Stopped) => Ok(()),
            Ok(error) => Err(error),
            Err(_) => Err(ChainError::Deadline),
        }
    }

    async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> Question) -> Result<T, ChainError> {
        let (answer, receiver) = oneshot::channel();
        self.0.questions.send(question(answer)).await.map_err(|_| ChainError::Stopped)?;
        receiver.await.map_err(|_| ChainError::Stopped)
    }
}

type Started = std::sync::mpsc::SyncSender<Result<Arc<Core>, ChainError>>;
type Reached = std::sync::Mutex<Option<Arc<Core>>>;

/// Runs the engine until it is told to stop. Panics where the engine panics.
fn run_engine(
    store: &Path,
    options: Options,
    machine: Arc<dyn Machine>,
    asked: mpsc::Receiver<Question>,
    mut stopping: watch::Receiver<bool>,
    started: &Started,
    reached: &Reached,
) -> Result<(), ChainError> {
    let runner = engine_runtime::Runner::new(
        engine_runtime::Config::new().with_worker_threads(WORKERS).with_max_blocking_threads(FILE_THREADS).with_storage_directory(store),
    );
    runner.start(|context| async move {
        let (ops_root, ops) = empty_target::<engine_runtime::Context>();
        let roster = Roster::new(&options.genesis, ops_root, ops)?;
        let founded = roster.founders.named.iter().any(|v| v.key == options.identity.public_key());
        if !founded && options.network.is_none() {
            return Err(ChainError::Genesis("this node is not one of its validators, and nobody says where they are".into()));
        }
        let link = match options.network {
            Some(network) => Link::start(&context, &network, options.identity.signer().clone(), &roster)?,
            None => Link::none(&roster),
        };
        let clock = LedgerClock::new(options.clock);
        let (outbox, sending) = mpsc::channel(gossip::OUTBOX);
        let outbox = link.task.is_some().then_some(outbox);
        let settings = Settings {
            limits: options.limits,
            signs_from_ms: options.signs_from_ms,
            failpoint: options.failpoint,
            sizes: Sizes::default(),
        };
        let core = Arc::new(Core::new(machine, roster, options.identity, clock, settings, outbox));
        *reached.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(Arc::clone(&core));
        let Link { channels, transactions, peers, track, task } = link;
        let join = if task.is_some() { options.history.join } else { Join::Blocks };
        let history = History { join, ..options.history };
        if task.is_some() {
            gossip::start(&context, &core, sending, transactions, peers.clone());
        }
        let Running { marshal, dbs, tasks } =
            stack::start(context.child("engine"), channels, peers.clone(), peers, track, Arc::clone(&core), history).await;
        let archive = Archive { marshal, base: core.roster.genesis.header.base };
        let own = Arc::clone(&core);
        let answers = context.child("answers").spawn(move |context| answer(context, asked, archive, dbs, own));
        // The caller waits for exactly this.
        let _ = started.send(Ok(core));
        let over = futures::future::select_all(tasks.into_iter().chain([answers]).chain(task));
        tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => Ok(()),
            _ = over => Err(ChainError::Fatal("a part of the engine ended by itself".into())),
        }
    })
}

/// Answers questions about stored blocks, one at a time.
async fn answer(
    context: engine_runtime::Context,
    mut asked: mpsc::Receiver<Question>,
    archive: Archive,
    dbs: Dbs<engine_runtime::Context>,
    core: Arc<Core>,
) {
    while let Some(question) = asked.recv().await {
        // Whoever asked may have gone; the answer is then dropped.
        match question {
            Question::Block(height, answer) => {
                let _ = answer.send(archive.block(height).await);
            }
            Question::Finality(height, answer) => {
                let _ = answer.send(archive.certificate(height).await);
            }
            Question::Certify(height, answer) => {
                let _ = answer.send(archive.certified(height).await);
            }
            Question::Prove(key, answer) => {
                let _ = answer.send(prove(&key, &archive, &dbs).await);
            }
            Question::Handovers(from, most, answer) => {
                let _ = answer.send(handovers(&core, from, most));
            }
            Question::Peers(answer) => {
                let _ = answer.send(connected(&context.encode()));
            }
        }
    }
    // All handles are gone: the stop signal that follows ends the engine, not this task.
    std::future::pending::<()>().await;
}

/// Stored blocks and certificates by ledger height.
struct Archive {
    marshal: stack::Marshal,
    base: u64,
}

impl Archive {
    async fn block(&self, height: u64) -> Option<StoredBlock> {
        let block = self.marshal.get_block(Height::new(height.checked_sub(self.base)?)).await?;
        Some(stored(block.inner(), block.digest()))
    }

    async fn certificate(&self, height: u64) -> Option<Vec<u8>> {
        let certificate = self.marshal.get_finalization(Height::new(height.checked_sub(self.base)?)).await?;
        Some(certificate.encode().to_vec())
    }

    async fn certified(&self, height: u64) -> Result<Certified, ChainError> {
        let mut headers = Vec::new();
        for at in (height..).take(MAX_DESCENT) {
            let Some(block) = self.block(at).await else { break };
            headers.push(block.header);
            if let Some(certificate) = self.certificate(at).await {
                return Ok(Certified { headers, certificate });
            }
        }
        Err(ChainError::Uncertified { height })
    }
}

/// What shows how the seats changed after those with the hash `from`.
fn handovers(core: &Core, from: [u8; 32], most: usize) -> Result<Option<Vec<Handover>>, ChainError> {
    let history = core.terms.history();
    let Some((since, _)) = history.iter().rfind(|(_, seats)| seats.hash == from) else { return Ok(None) };
    let changes = core.terms.changes(*since).into_iter().take(most);
    changes.map(|change| Ok(Handover::of(&change, &Seats::decode(&change.seats)?))).collect::<Result<_, _>>().map(Some)
}

/// How many others the network's own figures name as connected.
fn connected(figures: &str) -> usize {
    figures.lines().filter(|line| !line.starts_with('#') && line.contains("directory_connected{")).count()
}

fn stored(block: &Block, digest: Digest) -> StoredBlock {
    StoredBlock { header: block.header.clone(), digest: digest.0, txs: block.txs.clone() }
}

async fn prove(key: &[u8], archive: &Archive, dbs: &Dbs<engine_runtime::Context>) -> Result<StateProof, ChainError> {
    let broken = |what: String| ChainError::Fatal(format!("state store: {what}"));
    let db = dbs.read().await;
    let height = db.get_metadata().await.map_err(|e| broken(e.to_string()))?;
    let height = height.and_then(|bytes| bytes.first_chunk::<8>().map(|b| u64::from_be_bytes(*b))).ok_or(ChainError::Empty)?;
    let hashed = store_key(key);
    let stored = db.get(&hashed).await.map_err(|e| broken(e.to_string()))?;
    let (value, proof) = match stored {
        Some(stored) => {
            let proof = db.key_value_proof(hashed).await.map_err(|e| broken(e.to_string()))?;
            let (_, value) = crate::app::split_value(&stored).ok_or_else(|| broken("a record is unreadable".into()))?;
            let sound = proof.verify::<Sha256, Encoding>(hashed, store_value(key, &value), &db.root());
            if !sound {
                return Err(broken("a proof does not verify".into()));
            }
            (Some(value.to_vec()), proof.encode().to_vec())
        }
        None => {
            let proof = db.exclusion_proof(&hashed).await.map_err(|e| broken(e.to_string()))?;
            if !proof.verify::<Sha256>(&hashed, &db.root()) {
                return Err(broken("a proof does not verify".into()));
            }
            (None, proof.encode().to_vec())
        }
    };
    drop(db);
    let finality = archive.certified(height).await?;
    let header = finality.headers.first().cloned().ok_or_else(|| broken(format!("block {height} is missing")))?;
    Ok(StateProof { header, finality, value, proof })
}

/// The data directory, held for one process and one zone.
pub(crate) struct Hold {
    /// Locked until dropped; the operating system lets go when the process dies.
    lock: File,
}

impl Drop for Hold {
    /// Said, and not left to the closing of the file: a program that this process is just starting has a copy of it until it runs.
    fn drop(&mut self) {
        let _ = self.lock.unlock();
    }
}

impl Hold {
    pub(crate) fn take(dir: &Path, zone: &[u8; 32]) -> Result<Self, ChainError> {
        std::fs::create_dir_all(dir).map_err(|e| ChainError::io(dir, &e))?;
        let lock_path = dir.join(LOCK_FILE);
        let lock =
            OpenOptions::new().create(true).truncate(false).write(true).open(&lock_path).map_err(|e| ChainError::io(&lock_path, &e))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(ChainError::InUse { dir: dir.to_path_buf() }),
            Err(TryLockError::Error(e)) => return Err(ChainError::io(&lock_path, &e)),
        }
        let zone_path = dir.join(ZONE_FILE);
        let expected = hex(zone);
        match std::fs::read_to_string(&zone_path) {
            Ok(found) if found.trim() == expected => {}
            Ok(found) => {
                let found = found.trim().chars().take(64).collect();
                return Err(ChainError::OtherZone { dir: dir.to_path_buf(), expected, found });
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                // Written aside and renamed: a crash leaves either no file or a whole one.
                let aside = dir.join("zone.new");
                write_durably(&aside, &expected).map_err(|e| ChainError::io(&aside, &e))?;
                std::fs::rename(&aside, &zone_path).map_err(|e| ChainError::io(&zone_path, &e))?;
                File::open(dir).and_then(|d| d.sync_all()).map_err(|e| ChainError::io(dir, &e))?;
            }
            Err(e) => return Err(ChainError::io(&zone_path, &e)),
        }
        Ok(Self { lock })
    }
}

fn write_durably(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    let mut file = File::create(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn store_dir(data_dir: &Path) -> PathBuf {
    data_dir.join(STORE_DIR)
}

/// What the engine's panic means to the operator.
pub(crate) fn explain(store: &Path, panic: &(dyn std::any::Any + Send)) -> ChainError {
    let text = panic
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()))
        .unwrap_or_else(|| "the engine panicked".to_owned());
    crate::diagnose::explain(store, text)
}
