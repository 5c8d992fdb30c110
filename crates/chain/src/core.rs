//! What every part of a running chain shares: the post-states of unfinal blocks, the pool, the latest final state.
//!
//! Guarantees: [`Core::tip`] only moves to the next height; a waiting submitter hears exactly once. Decisions are
//! synchronous and hold a lock only for as long as they take; nothing here awaits or touches a file.
//! Two mutexes instead of an owner task: proposing, verifying, finalizing and submitting run on different engine
//! tasks and threads, and each holds a lock for microseconds.

use crate::block::{Block, Digest, Header};
use crate::clock::LedgerClock;
use crate::error::{Dropped, SubmitError};
use crate::evidence::Contradicted;
use crate::execute::{Executed, Mode, execute};
use crate::genesis::{Identity, Roster, Seats, public_key};
use crate::machine::{BlockContext, Due, Machine, TxOutcome};
use crate::mempool::{Inserted, Limits, Mempool, Origin, Refused, TxId};
use crate::notices::Notices;
use crate::stack::Sizes;
use crate::terms::Terms;
use crate::view::View;
use bytes::Bytes;
use commonware_cryptography::{Digestible as _, ed25519};
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering as AtomicOrdering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, broadcast, mpsc, oneshot, watch};

/// Final blocks that a slow subscriber may lag behind before it loses some.
const SUBSCRIBER_LAG: usize = 1_024;
/// Blocks of its own that a process remembers: more than can be on their way at a time.
const REMEMBERED_BUILT: usize = 4_096;
/// Contradictions that a slow listener may lag behind: one of a validator is enough.
const CONTRADICTIONS: usize = 64;
/// Why a validator stops whose key another process uses; `diagnose` knows it.
pub(crate) const TWIN: &str = "another process signs with this validator's key";

/// Called at named points between durable writes; tests use it to die there.
pub type Failpoint = Arc<dyn Fn(&'static str) + Send + Sync>;

/// A transaction in a final block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FinalTx {
    /// Its bytes.
    pub tx: Bytes,
    /// What it did.
    pub outcome: TxOutcome,
}

/// A block that can no longer be undone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FinalizedBlock {
    /// Its header.
    pub header: Header,
    /// Digest of the header.
    pub digest: [u8; 32],
    /// Its transactions in order.
    pub txs: Vec<FinalTx>,
    /// Events from opening the block.
    pub begin_events: Vec<Vec<u8>>,
    /// Events from closing it.
    pub end_events: Vec<Vec<u8>>,
}

/// What a submitter learns when its transaction is final.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxReceipt {
    /// Height of the block.
    pub height: u64,
    /// Ledger time of the block.
    pub timestamp_ms: u64,
    /// Position in the block.
    pub index: u32,
    /// What it did.
    pub outcome: TxOutcome,
}

/// The latest final block and the state after it.
pub(crate) struct Tip {
    pub(crate) header: Header,
    pub(crate) digest: Digest,
    pub(crate) view: View,
}

/// The state after a block that may or may not become final.
pub(crate) struct Post {
    pub(crate) header: Header,
    pub(crate) view: View,
    pub(crate) executed: Executed,
    /// Who certifies the block after it.
    pub(crate) next: Arc<Seats>,
}

#[derive(Default)]
struct Posts(HashMap<Digest, Arc<Post>>);

type Waiter = oneshot::Sender<Result<TxReceipt, Dropped>>;

struct Waiting {
    pool: Mempool,
    waiters: HashMap<TxId, Vec<Waiter>>,
    stopped: bool,
}

/// What a node sets for itself.
#[derive(Default)]
pub(crate) struct Settings {
    pub(crate) limits: Limits,
    /// Ledger time before which this node signed already, elsewhere or in a life whose journal is lost.
    pub(crate) signs_from_ms: u64,
    pub(crate) failpoint: Option<Failpoint>,
    pub(crate) sizes: Sizes,
}

/// Shared by the engine's tasks and the handles.
pub(crate) struct Core {
    pub(crate) machine: Arc<dyn Machine>,
    pub(crate) roster: Roster,
    pub(crate) identity: Identity,
    pub(crate) clock: LedgerClock,
    pub(crate) sizes: Sizes,
    /// Who certifies in which term.
    pub(crate) terms: Terms,
    /// Ledger time before which this node signed already, elsewhere or in a life whose journal is lost: it signs in no term that
    /// began before it.
    signs_from_ms: u64,
    /// When this process began: no block that an earlier one built is younger.
    began_ms: AtomicU64,
    built: Mutex<HashSet<Digest>>,
    posts: Mutex<Posts>,
    waiting: Mutex<Waiting>,
    tip: watch::Sender<Option<Arc<Tip>>>,
    bus: broadcast::Sender<Arc<FinalizedBlock>>,
    wake: Notify,
    /// Who may follow without a seat, as the network was told when this term began; none where nobody was told.
    let_in: Mutex<Option<HashSet<[u8; 32]>>>,
    /// Votes of one validator that contradict each other, as they are found.
    pub(crate) contradictions: broadcast::Sender<Contradicted>,
    /// Transactions for the other validators; none with one validator.
    outbox: Option<mpsc::Sender<Bytes>>,
    /// What validators tell each other beside the ledger.
    pub(crate) notices: Notices,
    failpoint: Option<Failpoint>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic while holding the lock already stopped the engine; the data is read once more to say so.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Core {
    pub(crate) fn new(
        machine: Arc<dyn Machine>,
        roster: Roster,
        identity: Identity,
        clock: LedgerClock,
        settings: Settings,
        outbox: Option<mpsc::Sender<Bytes>>,
    ) -> Self {
        let Settings { limits, signs_from_ms, failpoint, sizes } = settings;
        Self {
            terms: Terms::new(&identity, &roster),
            sizes,
            signs_from_ms,
            began_ms: AtomicU64::new(u64::MAX),
            built: Mutex::default(),
            machine,
            roster,
            identity,
            clock,
            posts: Mutex::default(),
            waiting: Mutex::new(Waiting { pool: Mempool::new(limits), waiters: HashMap::new(), stopped: false }),
            tip: watch::Sender::new(None),
            bus: broadcast::Sender::new(SUBSCRIBER_LAG),
            wake: Notify::new(),
            let_in: Mutex::default(),
            contradictions: broadcast::Sender::new(CONTRADICTIONS),
            outbox,
            notices: Notices::new(),
            failpoint,
        }
    }

    pub(crate) fn failpoint(&self, name: &'static str) {
        if let Some(failpoint) = &self.failpoint {
            failpoint(name);
        }
    }

    /// Where the chain continues from, read from the store at start.
    pub(crate) fn set_base(&self, header: Header, digest: Digest, view: View, next: Arc<Seats>) {
        self.began_ms.store(self.clock.now(header.timestamp_ms), AtomicOrdering::Relaxed);
        let post = Post { header: header.clone(), view: view.clone(), executed: Executed::default(), next };
        lock(&self.posts).0.insert(digest, Arc::new(post));
        self.tip.send_replace(Some(Arc::new(Tip { header, digest, view })));
        self.wake.notify_waiters();
    }

    /// Waits until [`Core::set_base`] was called.
    pub(crate) async fn ready(&self) {
        self.until(|_| true).await;
    }

    /// Waits until a block of at least this height is final here.
    pub(crate) async fn reached(&self, height: u64) {
        self.until(|tip| tip.header.height >= height).await;
    }

    /// Waits on [`Core::woken`], which wakes in the order of waiting, and not on the tip's own channel, which wakes in a random one: a
    /// simulated run could not be repeated.
    async fn until(&self, holds: impl Fn(&Tip) -> bool) {
        loop {
            let woken = self.woken();
            if self.tip().is_some_and(|tip| holds(&tip)) {
                return;
            }
            woken.await;
        }
    }

    pub(crate) fn tip(&self) -> Option<Arc<Tip>> {
        self.tip.borrow().clone()
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Arc<FinalizedBlock>> {
        self.bus.subscribe()
    }

    pub(crate) fn post(&self, digest: &Digest) -> Option<Arc<Post>> {
        lock(&self.posts).0.get(digest).cloned()
    }

    pub(crate) fn insert_post(&self, digest: Digest, post: Arc<Post>) {
        lock(&self.posts).0.insert(digest, post);
        self.wake.notify_waiters();
    }

    /// Who certifies the block after one that `seats` certify, by the state after it.
    pub(crate) fn seats_after(&self, header: &Header, view: &View, seats: &Arc<Seats>) -> Arc<Seats> {
        if !self.roster.ends_term(header) {
            return Arc::clone(seats);
        }
        match self.machine.seats(view) {
            Some(named) if !named.is_empty() && !seats.are(&named) => match Seats::new(&named) {
                Ok(next) => Arc::new(next),
                Err(error) => {
                    tracing::error!(height = header.height, %error, "the ledger seats validators that cannot be; the seats stay");
                    Arc::clone(seats)
                }
            },
            _ => Arc::clone(seats),
        }
    }

    /// Who certifies the block after the latest final one.
    pub(crate) fn next_seats(&self) -> Option<Arc<Seats>> {
        self.post(&self.tip()?.digest).map(|post| Arc::clone(&post.next))
    }

    /// Who may follow without a seat, by the latest final state. They are let in from here on.
    pub(crate) fn let_in(&self) -> Vec<ed25519::PublicKey> {
        let named = self.tip().map(|tip| self.machine.candidates(&tip.view)).unwrap_or_default();
        *lock(&self.let_in) = Some(named.iter().copied().collect());
        named.iter().filter_map(public_key).collect()
    }

    /// Whether this node may sign in a term that began at a ledger time.
    pub(crate) const fn may_sign(&self, began_ms: u64) -> bool {
        began_ms >= self.signs_from_ms
    }

    /// Notes a block that this process built.
    pub(crate) fn built(&self, digest: Digest) {
        let mut built = lock(&self.built);
        // What is older than this is long final or forgotten.
        if built.len() >= REMEMBERED_BUILT {
            built.clear();
        }
        built.insert(digest);
    }

    /// Stops the engine if a block of this validator's is none that this process made: another process signs with its key.
    fn must_be_mine(&self, block: &Block, digest: &Digest) {
        let fresh = block.header.timestamp_ms > self.began_ms.load(AtomicOrdering::Relaxed).saturating_add(crate::app::MAX_AHEAD_MS);
        if fresh && block.header.proposer == self.identity.public_key() && !lock(&self.built).contains(digest) {
            crate::app::fail(TWIN);
        }
    }

    /// Stops the engine if this program cannot execute the block after a state: going on would fork it from the network.
    pub(crate) fn must_be_ready(&self, view: &View) {
        if let Err(why) = self.machine.ready(view) {
            crate::app::fail(&why);
        }
    }

    /// Executes a block in memory on its parent's state and remembers the result.
    pub(crate) fn derive(&self, block: &Block, parent: &Post) -> Option<Arc<Post>> {
        let context = context_of(&block.header, &parent.header);
        self.must_be_ready(&parent.view);
        let executed = execute(&*self.machine, &parent.view, &context, block.txs.clone(), Mode::Check)?;
        let view = parent.view.with(&executed.changes);
        let next = self.seats_after(&block.header, &view, &parent.next);
        let post = Arc::new(Post { header: block.header.clone(), view, executed, next });
        self.insert_post(block.digest(), Arc::clone(&post));
        Some(post)
    }

    /// Transactions that the unfinal ancestors of a block on `parent` already carry.
    pub(crate) fn carried(&self, parent: &Digest) -> HashSet<TxId> {
        let finalized = self.tip().map_or(0, |tip| tip.header.height);
        let posts = lock(&self.posts);
        let mut carried = HashSet::new();
        let mut cursor = *parent;
        while let Some(post) = posts.0.get(&cursor) {
            if post.header.height <= finalized {
                break;
            }
            carried.extend(post.executed.outcomes.iter().map(TxOutcome::id));
            cursor = commonware_cryptography::sha256::Digest(post.header.parent);
        }
        carried
    }

    pub(crate) fn select(&self, limits: crate::mempool::BlockLimits, carried: &HashSet<TxId>) -> Vec<Bytes> {
        lock(&self.waiting).pool.select(limits, carried).into_iter().map(|(_, tx)| tx).collect()
    }

    /// Tells submitters that no block may contain their transactions.
    pub(crate) fn reject(&self, dropped: &[(TxId, u16, String)]) {
        let mut waiting = lock(&self.waiting);
        for (id, code, message) in dropped {
            let replaced = waiting.pool.remove(id);
            for id in replaced.iter().chain([id]) {
                waiting.resolve(id, &Err(Dropped::Rejected { code: *code, message: message.clone() }));
            }
        }
    }

    /// Takes a transaction in, or tells why not.
    pub(crate) fn submit(&self, tx: Bytes) -> Result<(TxId, oneshot::Receiver<Result<TxReceipt, Dropped>>), SubmitError> {
        let (sender, receiver) = oneshot::channel();
        let (id, inserted) = self.admit(tx.clone(), Origin::Here, Some(sender))?;
        if inserted != Inserted::Known
            && let Some(outbox) = &self.outbox
        {
            // What finds no place is sent with what has waited for long.
            let _ = outbox.try_send(tx);
        }
        Ok((id, receiver))
    }

    /// Takes in what another validator sent.
    pub(crate) fn hear(&self, tx: Bytes, from: [u8; 32]) -> Result<(), SubmitError> {
        self.admit(tx, Origin::Peer(from), None).map(|_| ())
    }

    fn admit(&self, tx: Bytes, origin: Origin, waiter: Option<Waiter>) -> Result<(TxId, Inserted), SubmitError> {
        /// A block may become final between admission and insertion; then the lane's position is read again.
        const TRIES: usize = 16;
        lock(&self.waiting).pool.has_room(tx.len()).map_err(SubmitError::Refused)?;
        for _ in 0..TRIES {
            let tip = self.tip().ok_or(SubmitError::Stopped)?;
            let now = self.clock.now(tip.header.timestamp_ms);
            let admission =
                self.machine.admit(&tx, &tip.view, now).map_err(|r| SubmitError::Rejected { code: r.code, message: r.message })?;
            let mut waiting = lock(&self.waiting);
            if waiting.stopped {
                return Err(SubmitError::Stopped);
            }
            if self.tip().is_some_and(|latest| latest.digest != tip.digest) {
                continue;
            }
            let inserted = waiting.pool.insert(&admission, tx, origin, now).map_err(SubmitError::Refused)?;
            if let Some(waiter) = waiter {
                waiting.waiters.entry(admission.id).or_default().push(waiter);
            }
            drop(waiting);
            if inserted != Inserted::Known {
                self.wake.notify_waiters();
            }
            return Ok((admission.id, inserted));
        }
        // Inserting with an outdated position could leave a gap that never fills; the submitter tries again.
        Err(SubmitError::Refused(Refused::Full))
    }

    /// Transactions handed in here that have waited for a while, to be sent once more.
    pub(crate) fn waiting_since(&self, age: Duration, bytes: usize) -> Vec<Bytes> {
        let Some(tip) = self.tip() else { return Vec::new() };
        let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        lock(&self.waiting).pool.stale(self.clock.now(tip.header.timestamp_ms), age, bytes)
    }

    /// How many transactions wait.
    pub(crate) fn waiting(&self) -> usize {
        lock(&self.waiting).pool.len()
    }

    /// Nothing more will become final here.
    pub(crate) fn stop(&self) {
        let mut waiting = lock(&self.waiting);
        waiting.stopped = true;
        for (_, waiters) in waiting.waiters.drain() {
            for waiter in waiters {
                // A submitter that went away does not care.
                let _ = waiter.send(Err(Dropped::Stopped));
            }
        }
    }

    /// A block became final and is on disk: publishes it and forgets its rivals. `None` if it does not follow the tip.
    pub(crate) fn finalize(&self, block: &Block) -> Option<()> {
        let digest = block.digest();
        self.must_be_mine(block, &digest);
        let post = match self.post(&digest) {
            Some(post) => post,
            None => {
                let parent = self.post(&commonware_cryptography::sha256::Digest(block.header.parent))?;
                self.derive(block, &parent)?
            }
        };
        self.tip.send_replace(Some(Arc::new(Tip { header: block.header.clone(), digest, view: post.view.clone() })));
        lock(&self.posts).forget_rivals(digest, block.header.height);
        self.publish(block, digest, &post.executed);
        // What one validator alone makes final has waited here.
        if self.outbox.is_some() {
            self.close_gaps(&post.view);
        }
        self.wake.notify_waiters();
        Some(())
    }

    fn publish(&self, block: &Block, digest: Digest, executed: &Executed) {
        let mut waiting = lock(&self.waiting);
        for (index, outcome) in executed.outcomes.iter().enumerate() {
            let id = outcome.id();
            for other in waiting.pool.finalized(&id) {
                waiting.resolve(&other, &Err(Dropped::Replaced));
            }
            if waiting.waiters.contains_key(&id) {
                let receipt = TxReceipt {
                    height: block.header.height,
                    timestamp_ms: block.header.timestamp_ms,
                    index: u32::try_from(index).unwrap_or(u32::MAX),
                    outcome: outcome.clone(),
                };
                waiting.resolve(&id, &Ok(receipt));
            }
        }
        drop(waiting);
        if self.bus.receiver_count() > 0 {
            let txs = block.txs.iter().zip(&executed.outcomes).map(|(tx, outcome)| FinalTx { tx: tx.clone(), outcome: outcome.clone() });
            let finalized = FinalizedBlock {
                header: block.header.clone(),
                digest: digest.0,
                txs: txs.collect(),
                begin_events: executed.begin_events.clone(),
                end_events: executed.end_events.clone(),
            };
            // Receivers may have gone between the count and here.
            let _ = self.bus.send(Arc::new(finalized));
        }
    }

    /// What another validator's block carried may never have waited here: its lane goes on all the same.
    fn close_gaps(&self, view: &View) {
        let mut waiting = lock(&self.waiting);
        for (sender, lane) in waiting.pool.gaps() {
            let next = self.machine.next_seq(&sender, lane, view);
            waiting.pool.advance(sender, lane, next);
        }
    }

    /// Waits for anything that could change [`Core::due`]. Enable it before asking.
    pub(crate) fn woken(&self) -> tokio::sync::futures::Notified<'_> {
        self.wake.notified()
    }

    /// When a block on `parent` is due, after the ledger time now; `None` while the parent's state is not known.
    /// Expired transactions leave on the way.
    pub(crate) fn due(&self, parent: &Digest) -> Option<(u64, Due)> {
        let post = self.post(parent)?;
        let now = self.clock.now(post.header.timestamp_ms);
        let carried = self.carried(parent);
        let mut waiting = lock(&self.waiting);
        for id in waiting.pool.expire(now) {
            waiting.resolve(&id, &Err(Dropped::Expired));
        }
        // The first block writes the genesis entries into the authenticated store.
        if post.header.is_base() || waiting.pool.has_ready(&carried) || self.hands_over(&post) {
            return Some((now, Due::Now));
        }
        let expiry = waiting.pool.next_expiry().map(|at| at.saturating_add(1));
        drop(waiting);
        let timer = self.machine.next_due(&post.view);
        let due = match (timer, expiry) {
            (Due::Now, _) => Due::Now,
            (Due::At(at), _) if at <= now => Due::Now,
            (Due::At(at), Some(expiry)) => Due::At(at.min(expiry)),
            (Due::At(at), None) | (Due::Never, Some(at)) => Due::At(at),
            (Due::Never, None) => Due::Never,
        };
        Some((now, due))
    }
}

impl Core {
    /// Whether the one validator that certifies makes blocks to the end of the term, which would not come by itself: others are to certify
    /// from then on, or somebody waits to be let in. Several make blocks all the time.
    fn hands_over(&self, post: &Post) -> bool {
        let alone = post.next.keys.len() == 1;
        alone && (self.seats_change(post) || self.somebody_waits(post))
    }

    /// Whether the seats are others after this term.
    fn seats_change(&self, post: &Post) -> bool {
        // Seats that cannot be stay as they are, so nothing would come of more blocks.
        self.machine.seats(&post.view).is_some_and(|named| !post.next.are(&named) && Seats::new(&named).is_ok())
    }

    /// Whether somebody may follow who was not let in when the term began.
    fn somebody_waits(&self, post: &Post) -> bool {
        let let_in = lock(&self.let_in);
        let Some(let_in) = let_in.as_ref() else { return false };
        self.machine.candidates(&post.view).iter().any(|key| !let_in.contains(key))
    }
}

impl Waiting {
    fn resolve(&mut self, id: &TxId, result: &Result<TxReceipt, Dropped>) {
        for waiter in self.waiters.remove(id).into_iter().flatten() {
            // A submitter that went away does not care.
            let _ = waiter.send(result.clone());
        }
    }
}

impl Posts {
    /// Keeps the final block and what descends from it.
    fn forget_rivals(&mut self, digest: Digest, height: u64) {
        let mut kept: HashSet<Digest> = HashSet::from([digest]);
        let mut by_height: Vec<(u64, Digest, [u8; 32])> =
            self.0.iter().filter(|(_, post)| post.header.height > height).map(|(d, p)| (p.header.height, *d, p.header.parent)).collect();
        by_height.sort_unstable_by_key(|(height, ..)| *height);
        for (_, child, parent) in by_height {
            if kept.contains(&commonware_cryptography::sha256::Digest(parent)) {
                kept.insert(child);
            }
        }
        self.0.retain(|digest, _| kept.contains(digest));
    }
}

/// The context that a block's transactions see.
pub(crate) const fn context_of(header: &Header, parent: &Header) -> BlockContext {
    BlockContext {
        height: header.height,
        timestamp_ms: header.timestamp_ms,
        parent_timestamp_ms: parent.timestamp_ms,
        randomness: header.randomness,
        proposer: header.proposer,
    }
}
