//! Audits of this node: witnesses hand in nonces, all cores hash, each witness gets the shares. Spec: `docs/specs/audits.md` §1, §10.
//!
//! ```text
//!  drawn, memory is filled --more than 2/3 of the nonces--> computing --T--> answered --half of the time, nobody carried it--> carried
//! ```
//! Guarantees: nothing is computed for an audit that the ledger does not name, nor for who is no witness of it; one burst at a
//! time, each for the ledger's T; what is signed is on disk before it leaves, so that after a crash the same is said again, or
//! nothing. What leases lose by it is told to each. It judges nothing.

mod burst;
mod memory;
mod products;
mod state;

pub use memory::{Filled, MemoryEngine};
pub use products::{Asked, Committed, ProductEngine};

use crate::context::Context;
use crate::detect;
use crate::lease::Event;
use memory::{Held, Ram, Walked};
use pasture_api::data::Phase;
use pasture_api::{BeaconWord, BurstWord, Problem, SignedSet, SignedShares, WalkRoot};
use pasture_proofs::Beacon;
use pasture_rt::{ShutdownToken, TaskHandle, TaskKind};
use pasture_store::{RecordFile, StoreError};
use pasture_types::audit::{Answer, AuditAction, NonceSet, PackedShares, Statement};
use pasture_types::event::Hash32;
use pasture_types::keys::Signature;
use pasture_types::tx::Action;
use pasture_types::{Millis, NodeId, PublicKey, Timestamp};
use products::Products;
use serde::{Deserialize, Serialize};
use state::{Audit, Taken};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// Nonces that may wait; more are refused, and their witnesses say that nothing came.
const QUEUE: usize = 128;
/// Audits that are remembered as signed: a node has one at a time, with one repetition.
const REMEMBERED: usize = 16;
/// Audits that are kept in memory: those of the last minutes.
const KEPT: usize = 8;
/// Least time between two questions to the ledger about audits that nobody here has heard of.
const LOOK_PAUSE: Duration = Duration::from_millis(200);
/// Longest that such a question may take: bursts wait for it.
const LOOK_DEADLINE: Duration = Duration::from_secs(2);
/// A witness hears a set, a walk's root and shares, and no more.
const WORDS: usize = 3;
/// Times that one witness may have products and walk opened: its answer may break off on the way.
const OPENINGS: u8 = 3;
/// GPUs may take this part of the burst longer than the CPU, whose answer waits for them.
const PRODUCTS_LATER: u32 = 8;

/// What was signed about an audit.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Signed {
    audit: u64,
    set: SignedSet,
    shares: Option<SignedShares>,
}

/// A witness's nonce, whose signature was checked.
struct Offer {
    audit: u64,
    witness: NodeId,
    nonce: u64,
    signature: Signature,
    reply: oneshot::Sender<Result<mpsc::Receiver<BurstWord>, Problem>>,
}

/// A witness that has the roots asks for rows.
struct Opening {
    audit: u64,
    word: BeaconWord,
    reply: oneshot::Sender<Result<Vec<u8>, Problem>>,
}

enum Request {
    Open(Opening),
    /// The ledger told of an audit of this node.
    Drawn(u64),
    Offer(Offer),
}

/// Hands nonces in.
#[derive(Clone)]
pub(crate) struct BurstHandle(mpsc::Sender<Request>);

/// The other end, to be run.
pub(crate) struct BurstQueue(mpsc::Receiver<Request>);

pub(crate) fn channel() -> (BurstHandle, BurstQueue) {
    let (send, receive) = mpsc::channel(QUEUE);
    (BurstHandle(send), BurstQueue(receive))
}

impl BurstHandle {
    /// The ledger drew this node: its record is fetched before the witnesses come.
    pub(crate) fn drawn(&self, audit: u64) {
        // Where the queue is full, the first nonce has it fetched.
        let _ = self.0.try_send(Request::Drawn(audit));
    }
    /// Hands in a nonce of a witness that signed it; what the node says of its burst comes as it is known.
    pub(crate) async fn offer(
        &self,
        audit: u64,
        witness: NodeId,
        nonce: u64,
        signature: Signature,
    ) -> Result<mpsc::Receiver<BurstWord>, Problem> {
        let (reply, answer) = oneshot::channel();
        let busy = |_| Problem::unavailable("too many nonces wait here");
        self.0.try_send(Request::Offer(Offer { audit, witness, nonce, signature, reply })).map_err(busy)?;
        answer.await.unwrap_or_else(|_| Err(Problem::unavailable("this node is stopping")))
    }
    /// Opens what the answer to an audit commits to for a witness.
    pub(crate) async fn open(&self, audit: u64, word: BeaconWord) -> Result<Vec<u8>, Problem> {
        let (reply, answer) = oneshot::channel();
        let busy = |_| Problem::unavailable("too many requests wait here");
        self.0.try_send(Request::Open(Opening { audit, word, reply })).map_err(busy)?;
        answer.await.unwrap_or_else(|_| Err(Problem::unavailable("this node is stopping")))
    }
}

/// An audit and those who listen to it.
struct Open {
    audit: Audit,
    listeners: Vec<mpsc::Sender<BurstWord>>,
    signed: Option<Signed>,
    /// A former process signed its set: there will be no more than is on disk.
    spent: bool,
    /// Where the walk over its memory led, once it is over.
    root: Option<WalkRoot>,
    /// What its answer commits to, and how often each witness had it opened.
    committed: Option<Shown>,
    opened: BTreeMap<NodeId, u8>,
}

/// What an answer commits to, with what names it.
#[derive(Clone)]
struct Shown {
    products: Option<Products>,
    walked: Option<Arc<Walked>>,
    named: Hash32,
}

impl Shown {
    /// All that a beacon draws: the rows of each device, then the walk's stretches.
    fn open(&self, beacon: Beacon) -> Option<Vec<u8>> {
        let rows = self.products.iter().flat_map(|all| all.iter()).map(|made| made.open(beacon));
        let walk = self.walked.iter().map(|walked| Some(walked.open(beacon)));
        rows.chain(walk).collect::<Option<Vec<_>>>().map(|opened| pasture_api::join_opened(&opened))
    }
}

/// What a burst found.
struct Found {
    nonces: Vec<u64>,
    took: Duration,
    products: Option<Products>,
    walked: Option<Arc<Walked>>,
}

/// A burst that is computed.
struct Computing {
    number: u64,
    set: NonceSet,
    /// Tells the walk's root as soon as it is known.
    walk: Option<oneshot::Receiver<WalkRoot>>,
    work: TaskHandle<Option<Found>>,
}

struct Bursts {
    ctx: Arc<Context>,
    file: RecordFile<VecDeque<Signed>>,
    log: VecDeque<Signed>,
    open: BTreeMap<u64, Open>,
    /// Complete sets that wait for the burst before them.
    ready: VecDeque<(u64, NonceSet, Vec<Signature>)>,
    computing: Option<Computing>,
    looked: Option<Instant>,
    threads: u64,
    engine: Option<Arc<dyn ProductEngine>>,
    memory: Arc<dyn MemoryEngine>,
    /// The table of the audit that was drawn last.
    held: Option<Held>,
}

/// Runs until shutdown.
pub(crate) async fn run(ctx: Arc<Context>, queue: BurstQueue, cancel: ShutdownToken) {
    let file = RecordFile::new(ctx.options.data_dir.join("audits"));
    let log = match file.load() {
        Ok(log) => log.unwrap_or_default(),
        Err(error) => {
            // Without it, something might be signed twice: better to fail audits than to contradict oneself.
            tracing::error!(%error, "what was signed about capacity checks cannot be read: this machine answers none");
            return;
        }
    };
    let threads = u64::from(detect::cpu_cores());
    let engine = products::engine(ctx.options.product_engine.as_ref(), ctx.options.gpus.as_ref());
    let memory = ctx.options.memory_engine.clone().unwrap_or_else(|| Arc::new(Ram));
    let (open, ready) = (BTreeMap::new(), VecDeque::new());
    let bursts = Bursts { ctx, file, log, open, ready, computing: None, looked: None, threads, engine, memory, held: None };
    let _ = cancel.guard(bursts.serve(queue)).await;
}

/// What comes of the work that goes on.
enum Step {
    /// The walk is over, or there is none.
    Root(Option<WalkRoot>),
    /// All of it is.
    Found(Option<Found>),
}

/// The next step of the burst that is computed; never, if there is none.
async fn next(computing: &mut Option<Computing>) -> Step {
    match computing {
        Some(Computing { walk: Some(walk), .. }) => Step::Root(walk.await.ok()),
        Some(computing) => Step::Found(computing.work.ended().await.flatten()),
        None => std::future::pending().await,
    }
}

/// When a table that nobody asked for is given back.
async fn expired(held: Option<&Held>) {
    match held {
        Some(held) => held.expired().await,
        None => std::future::pending().await,
    }
}

impl Bursts {
    async fn serve(mut self, mut queue: BurstQueue) {
        loop {
            tokio::select! {
                request = queue.0.recv() => match request {
                    Some(Request::Offer(offer)) => self.take(offer).await,
                    Some(Request::Open(opening)) => self.open_for(opening),
                    Some(Request::Drawn(number)) => {
                        self.looked = None;
                        if let Err(problem) = self.known(number).await {
                            tracing::warn!(%problem, number, "the record of a capacity check cannot be read yet");
                        }
                    }
                    None => return,
                },
                step = next(&mut self.computing) => match step {
                    Step::Root(root) => self.tell_root(root),
                    Step::Found(found) => self.found(found).await,
                },
                () = expired(self.held.as_ref()) => self.held = None,
            }
            self.begin().await;
        }
    }

    async fn take(&mut self, offer: Offer) {
        let Offer { audit, witness, nonce, signature, reply } = offer;
        let answer = match self.known(audit).await {
            Ok(()) => self.listen(audit, &witness, nonce, signature),
            Err(problem) => Err(problem),
        };
        // A witness that went away again is no error.
        let _ = reply.send(answer);
    }

    /// Looks an audit up, unless it is known.
    async fn known(&mut self, number: u64) -> Result<(), Problem> {
        if self.open.contains_key(&number) {
            return Ok(());
        }
        let not_drawn = || Problem::not_found("audit of this node");
        if self.looked.is_some_and(|at| at.elapsed() < LOOK_PAUSE) {
            return Err(Problem::unavailable("this audit is not known here yet; ask again in a moment"));
        }
        self.looked = Some(Instant::now());
        let found = tokio::time::timeout(LOOK_DEADLINE, self.ctx.network.audit(number)).await;
        let detail = match found {
            Ok(Ok(found)) => found.ok_or_else(not_drawn)?,
            Ok(Err(error)) => return Err(Problem::unavailable(format!("the ledger cannot be asked: {error}"))),
            Err(_) => return Err(Problem::unavailable("the ledger does not answer")),
        };
        let audit = Audit::new(&detail, &self.ctx.node).ok_or_else(not_drawn)?;
        // The next one is not kept waiting for what was found.
        self.looked = None;
        let signed = self.log.iter().find(|s| s.audit == number).cloned();
        let spent = signed.is_some();
        if !spent {
            self.hold(&audit);
        }
        self.open.insert(number, Open { audit, listeners: vec![], signed, spent, root: None, committed: None, opened: BTreeMap::new() });
        while self.open.len() > KEPT {
            self.open.pop_first();
        }
        Ok(())
    }

    /// Begins to fill the table that an audit asks for, one at a time: the ledger draws no other for a node before the last one is judged,
    /// so what is still held then is for nothing.
    fn hold(&mut self, audit: &Audit) {
        let Some((asked, _)) = audit.memory() else { return };
        let Some(table) = asked.table() else { return };
        let time = Duration::from_millis(audit.until.since(self.ctx.now()).0);
        let threads = usize::try_from(self.threads).unwrap_or(1);
        if self.held.as_ref().is_none_or(|held| held.audit < audit.number) {
            let (engine, before, cancel) = (Arc::clone(&self.memory), self.held.take(), self.ctx.cancel.clone());
            self.held = Some(Held::begin(engine, (audit.number, table), threads, time, before, cancel));
        }
    }

    fn listen(&mut self, number: u64, witness: &NodeId, nonce: u64, signature: Signature) -> Result<mpsc::Receiver<BurstWord>, Problem> {
        let open = self.open.get_mut(&number).ok_or_else(|| Problem::not_found("audit of this node"))?;
        if !open.audit.is_watched_by(witness) {
            return Err(Problem::forbidden("this key is not one of the audit's witnesses"));
        }
        let (tell, words) = mpsc::channel(WORDS);
        if let Some(signed) = &open.signed {
            let shares = signed.shares.clone().map(BurstWord::Shares);
            if open.spent && shares.is_none() {
                return Err(Problem::conflict("this machine was stopped during the burst"));
            }
            let root = open.root.or_else(|| Some(WalkRoot { root: signed.shares.as_ref()?.walk? }));
            for word in [Some(BurstWord::Set(signed.set.clone())), root.map(BurstWord::Walk), shares].into_iter().flatten() {
                let _ = tell.try_send(word);
            }
            if signed.shares.is_none() {
                open.listeners.push(tell);
            }
            return Ok(words);
        }
        if let Taken::Complete(set, signatures) = open.audit.take(witness, nonce, signature) {
            self.ready.push_back((number, set, signatures));
        }
        open.listeners.push(tell);
        Ok(words)
    }

    /// Begins the next burst, if none is computed.
    async fn begin(&mut self) {
        if self.computing.is_some() {
            return;
        }
        let Some((number, set, signatures)) = self.ready.pop_front() else { return };
        let Some(open) = self.open.get_mut(&number) else { return };
        // The work begins at once; what it is computed from is signed meanwhile.
        let (seed, time) = (open.audit.seed(&set), Duration::from_millis(open.audit.burst.0));
        let (threads, cancel) = (self.threads, self.ctx.cancel.clone());
        let asked = open.audit.memory();
        let within = asked.map_or(Duration::ZERO, |(_, limit)| Duration::from_millis(limit.0));
        let held = self.held.take_if(|held| held.audit == number);
        let lanes = u32::try_from(threads).unwrap_or(1);
        let walking = memory::walk(held, asked.map(|(asked, _)| asked), set.digest().0, lanes, within, cancel.clone());
        let asked_gpus = open.audit.products(&set);
        let products = products::compute(self.engine.clone(), asked_gpus, within + time + time / PRODUCTS_LATER, cancel.clone());
        let (tell, walk) = oneshot::channel();
        let begun = Instant::now();
        let work = pasture_rt::spawn(TaskKind::Audit, async move {
            // The walk has a clock of its own, and comes first.
            let hashing = async {
                let walked = walking.await.map(Arc::new);
                if let Some(walked) = &walked {
                    // The loop is gone with the provider.
                    let _ = tell.send(WalkRoot { root: Hash32(walked.root) });
                }
                let walking = begun.elapsed();
                let hashed = burst::compute(seed, threads, time, cancel).await;
                (walked, hashed.map(|(nonces, hashing)| (nonces, walking + hashing)))
            };
            let ((walked, hashed), products) = tokio::join!(hashing, products);
            hashed.map(|(nonces, took)| Found { nonces, took, products, walked })
        });
        let statement = Statement { set: set.digest(), shares: None };
        let signature = self.ctx.options.node_key.sign(&statement.digest(&self.ctx.facts.zone, number, &self.ctx.node));
        let signed = Signed { audit: number, set: SignedSet::new(&set, &signature, &signatures), shares: None };
        self.computing = Some(Computing { number, set, walk: Some(walk), work });
        match self.write(signed.clone()).await {
            Ok(()) => self.tell(number, signed),
            Err(error) => self.give_up(number, &error),
        }
    }

    /// Adds what is about to be said to what is remembered, on disk.
    async fn write(&mut self, signed: Signed) -> Result<(), StoreError> {
        self.log.retain(|s| s.audit != signed.audit);
        self.log.push_back(signed);
        while self.log.len() > REMEMBERED {
            self.log.pop_front();
        }
        let (file, log) = (self.file.clone(), self.log.clone());
        pasture_rt::spawn_blocking(TaskKind::Files, move || file.save(&log)).join().await.unwrap_or(Ok(()))
    }

    /// Tells those who listen what was signed last.
    fn tell(&mut self, number: u64, signed: Signed) {
        let Some(open) = self.open.get_mut(&number) else { return };
        let word = match &signed.shares {
            None => BurstWord::Set(signed.set.clone()),
            Some(shares) => BurstWord::Shares(shares.clone()),
        };
        for listener in &open.listeners {
            // There is room for both words; who went away hears nothing.
            let _ = listener.try_send(word.clone());
        }
        if signed.shares.is_some() {
            open.listeners.clear();
        }
        open.signed = Some(signed);
    }

    /// Tells where the walk led; the answer's signature is over it too.
    fn tell_root(&mut self, root: Option<WalkRoot>) {
        let Some(computing) = &mut self.computing else { return };
        computing.walk = None;
        let Some((open, root)) = self.open.get_mut(&computing.number).zip(root) else { return };
        open.root = Some(root);
        for listener in &open.listeners {
            let _ = listener.try_send(BurstWord::Walk(root));
        }
    }

    fn give_up(&mut self, number: u64, error: &StoreError) {
        tracing::error!(%error, number, "a capacity check cannot be answered: what is signed could not be written down");
        if let Some(open) = self.open.get_mut(&number) {
            open.listeners.clear();
        }
    }

    /// A burst is over.
    async fn found(&mut self, found: Option<Found>) {
        let Some(Computing { number, set, .. }) = self.computing.take() else { return };
        let Some(Found { nonces, took, products, walked }) = found else { return };
        let took = Millis(u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
        self.tell_leases(took);
        let Some((mut signed, until)) = self.open.get(&number).and_then(|o| Some((o.signed.clone()?, o.audit.until))) else { return };
        let Some(shares) = PackedShares::pack(&nonces) else { return };
        let roots: Vec<Hash32> = products.iter().flat_map(|all| all.iter()).map(|made| Hash32(made.root())).collect();
        let found = (roots, walked.as_ref().map(|walked| Hash32(walked.root)));
        let answer = Answer::with_found(&self.ctx.facts.zone, number, set, shares, found, &self.ctx.options.node_key);
        signed.shares = Some(SignedShares::new(&answer));
        if let Err(error) = self.write(signed.clone()).await {
            self.give_up(number, &error);
            return;
        }
        if let Some(open) = self.open.get_mut(&number) {
            open.committed = Some(Shown { products, walked, named: answer.committed() });
        }
        self.tell(number, signed);
        tracing::info!(number, ms = took.0, "a capacity check was answered");
        self.carry_later(answer, until);
    }

    /// Opens what an answer commits to for a witness; rows are computed again beside the loop.
    fn open_for(&mut self, opening: Opening) {
        let Opening { audit, word, reply } = opening;
        match self.may_open(audit, &word) {
            Ok((shown, beacon)) => {
                pasture_rt::spawn_blocking(TaskKind::Audit, move || {
                    let opened = shown.open(beacon);
                    // A witness that went away again is no error.
                    let _ = reply.send(opened.ok_or_else(|| Problem::unavailable("its GPUs could not compute the rows again")));
                });
            }
            Err(problem) => {
                let _ = reply.send(Err(problem));
            }
        }
    }

    fn may_open(&mut self, number: u64, word: &BeaconWord) -> Result<(Shown, Beacon), Problem> {
        let (zone, node) = (self.ctx.facts.zone, self.ctx.node);
        let open = self.open.get_mut(&number).ok_or_else(|| Problem::not_found("audit of this node"))?;
        let witness = word.offer.witness;
        if !open.audit.is_watched_by(&witness) {
            return Err(Problem::forbidden("this key is not one of the audit's witnesses"));
        }
        let nothing = || Problem::conflict("this machine proved neither GPUs nor memory in this audit");
        let shown = open.committed.clone().filter(|shown| shown.products.is_some() || shown.walked.is_some()).ok_or_else(nothing)?;
        let bad = |_| Problem::unauthorized("this is not signed by the witness that it names");
        let signature = Signature::try_from(&word.signature).map_err(bad)?;
        PublicKey::from(witness).verify(&word.offer.digest(&zone, number, &node, &shown.named), &signature).map_err(bad)?;
        let times = open.opened.entry(witness).or_default();
        if *times >= OPENINGS {
            return Err(Problem::conflict("this witness had them opened often enough"));
        }
        *times += 1;
        let beacon = Beacon(word.offer.beacon(&zone, number, &node, &shown.named));
        Ok((shown, beacon))
    }

    /// The burst took this from those who run here.
    fn tell_leases(&self, took: Millis) {
        let running: Vec<_> = self.ctx.leases.all().into_iter().filter(|l| l.status().phase == Phase::Running).collect();
        let cancel = self.ctx.cancel.clone();
        pasture_rt::spawn(TaskKind::Audit, async move {
            let telling = async {
                for lease in running {
                    lease.tell(Event::Stolen(took)).await;
                }
            };
            cancel.guard(telling).await
        });
    }

    /// Witnesses carry answers; if none has by half of the time that is left, this node does it.
    fn carry_later(&self, answer: Answer, until: Timestamp) {
        let (ctx, number) = (Arc::clone(&self.ctx), answer.audit);
        let wait = Duration::from_millis(until.since(ctx.now()).0 / 2);
        pasture_rt::spawn(TaskKind::Audit, async move {
            let carry = async {
                tokio::time::sleep(wait).await;
                match ctx.network.audit(number).await {
                    Ok(Some(detail)) if detail.answer.is_none() && detail.verdict.is_none() => {
                        let action = Action::Audit(Box::new(AuditAction::Answers(vec![answer])));
                        if let Err(error) = ctx.submitter.submit(vec![action]).await {
                            tracing::warn!(%error, number, "the answer to a capacity check could not be put on the ledger");
                        }
                    }
                    Ok(_) => {}
                    Err(error) => tracing::warn!(%error, number, "whether a capacity check's answer is on the ledger is not known"),
                }
            };
            ctx.cancel.guard(carry).await
        });
    }
}
