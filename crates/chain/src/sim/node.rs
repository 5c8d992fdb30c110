//! One validator: the real chain on a simulated runtime, network, disk and clock; or a dishonest one in its place.
//!
//! Guarantees: an incarnation is one task with everything below it, so that aborting it leaves nothing behind but the disk. If a part of an
//! honest validator ends by itself, the run fails.

use super::Fault;
use super::context::{NodeContext, SkewedClock, now_ms};
use super::deceiver::Deceiver;
use super::dice::Dice;
use super::disk::Disk;
use super::history::History;
use super::liar::{Evil, lie};
use super::net::{BACKFILL, BLOCKS, CERTIFICATES, Ear, JOINING, Manner, Mouth, OPERATIONS, RESOLVER, TRANSACTIONS, VOTES, Wiring};
use super::scenario::Scenario;
use super::verdict;
use crate::app::empty_target;
use crate::clock::LedgerClock;
use crate::core::{Core, Settings};
use crate::evidence::Contradicted;
use crate::genesis::{Genesis, Identity, Roster};
use crate::gossip;
use crate::join::{Join, JoinStep};
use crate::stack::{self, Channels, Running, Sizes};
use crate::terms::{Terms, Track};
use commonware_cryptography::{Signer as _, ed25519::PublicKey};
use commonware_p2p::simulated::{Oracle, SplitTarget};
use commonware_runtime::{Clock as _, Handle, Spawner as _, Supervisor as _, deterministic::Context};
use commonware_utils::NZUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{broadcast::error::RecvError, mpsc};

const CHANNELS: [u64; 8] = [VOTES, CERTIFICATES, RESOLVER, BACKFILL, BLOCKS, JOINING, OPERATIONS, TRANSACTIONS];
/// As little as the engine works with: memory is what a validator that starts again and again costs most, and small queues and caches
/// run full as those of production do under load.
const SIZES: Sizes =
    Sizes { pages: NZUsize!(128), write_buffer: NZUsize!(8 << 10), replay_buffer: NZUsize!(8 << 10), mailbox: NZUsize!(32) };
/// Until every task of a validator that was stopped is gone.
const SETTLE: Duration = Duration::from_millis(5);

/// Terms whose votes are forgotten by [`Fault::ForgetsVotes`], before and after the one of now.
const TERMS_FORGOTTEN: u64 = 1_000;
/// Most contradictions that are kept for clients.
const MAX_CONTRADICTIONS: usize = 64;

/// What all validators of a run share.
#[derive(Clone)]
pub(super) struct Zone {
    pub(super) genesis: Genesis,
    pub(super) oracle: Oracle<PublicKey, Context>,
    pub(super) history: Arc<Mutex<History>>,
    /// The honest validators that are up and have read their disks.
    pub(super) ready: Arc<Mutex<Vec<Option<Arc<Core>>>>>,
    /// Proofs of contradiction that honest validators met, each once.
    pub(super) contradictions: Arc<Mutex<Vec<Contradicted>>>,
    /// How far the one is that joins.
    pub(super) joined: Arc<Mutex<Option<JoinStep>>>,
    pub(super) overtake_percent: u64,
    pub(super) scenario: Arc<dyn Scenario>,
    pub(super) fault: Option<Fault>,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A validator of a run.
pub(super) struct Node {
    pub(super) index: usize,
    pub(super) evil: Option<Evil>,
    identity: Identity,
    /// Whether it began without blocks when the others had some, and joins by state.
    joins: bool,
    skew_ms: i64,
    dice: Dice,
    /// Two for a twin.
    disks: [Disk; 2],
    life: u64,
    running: Option<Handle<()>>,
}

impl Node {
    pub(super) fn new(index: usize, identity: Identity, skew_ms: i64, evil: Option<Evil>, dice: Dice, fault: Option<Fault>) -> Self {
        let joins = false;
        let disk = || Disk::new(dice.clone(), fault == Some(Fault::LyingDisk));
        Self { index, evil, identity, joins, skew_ms, disks: [disk(), disk()], dice, life: 0, running: None }
    }

    /// The same, but it begins without blocks when the others have some, and joins by state.
    pub(super) fn joining(self) -> Self {
        Self { joins: true, ..self }
    }

    pub(super) fn key(&self) -> PublicKey {
        self.identity.signer().public_key()
    }

    pub(super) const fn is_up(&self) -> bool {
        self.running.is_some()
    }

    pub(super) fn start(&mut self, context: &Context, zone: &Zone) {
        self.life += 1;
        let root = context.child("validator").with_attribute("index", self.index).with_attribute("life", self.life);
        let incarnation = Incarnation {
            index: self.index,
            identity: self.identity.clone(),
            joins: self.joins,
            skew_ms: self.skew_ms,
            dice: self.dice.clone(),
            zone: zone.clone(),
        };
        let (evil, disks) = (self.evil, self.disks.clone());
        self.running = Some(root.spawn(move |context| async move {
            match evil {
                None => incarnation.honest(&context, disks[0].clone()).await,
                Some(Evil::Twin) => incarnation.twins(&context, disks).await,
                Some(evil @ (Evil::Withholding | Evil::FalseSeats | Evil::FalseState | Evil::Mute)) => {
                    incarnation.engine(&context, disks[0].clone(), evil).await;
                }
                Some(evil) => incarnation.liar(&context, evil).await,
            }
        }));
    }

    pub(super) fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.abort();
        }
    }

    /// The machine loses its power.
    pub(super) async fn crash(&mut self, context: &Context, zone: &Zone) {
        let Some(running) = self.running.take() else { return };
        running.abort();
        // A task of it that was due already may run once more.
        context.sleep(SETTLE).await;
        lock(&zone.ready)[self.index] = None;
        lock(&zone.history).crashed(now_ms(context), self.index);
        for disk in &self.disks {
            disk.lose_power(context.current());
            if zone.fault == Some(Fault::ForgetsVotes) {
                for term in 0..TERMS_FORGOTTEN {
                    disk.forget(&format!("{}-votes-{term}", stack::PREFIX));
                }
            }
        }
    }
}

/// What an incarnation is made of.
struct Incarnation {
    index: usize,
    identity: Identity,
    joins: bool,
    skew_ms: i64,
    dice: Dice,
    zone: Zone,
}

impl Incarnation {
    fn wiring(&self, context: &Context, manner: Manner) -> Wiring {
        Wiring {
            context: Arc::new(context.child("wire")),
            dice: self.dice.clone(),
            overtake_percent: self.zone.overtake_percent,
            manner,
            history: Arc::clone(&self.zone.history),
        }
    }

    async fn channels(&self, wiring: &Wiring) -> Vec<(u64, (Mouth, Ear))> {
        let control = self.zone.oracle.control(self.identity.signer().public_key());
        let mut channels = Vec::new();
        for channel in CHANNELS {
            channels.push((channel, wiring.open(&control, channel).await));
        }
        channels
    }

    async fn honest(self, context: &Context, disk: Disk) {
        let manner = Manner { honest: Some(self.index), silent: vec![], audience: None, deceiver: None };
        let channels = self.channels(&self.wiring(context, manner)).await;
        let (core, running) = self.run(context, disk, channels, true).await;
        let height = core.tip().map_or(0, |tip| tip.header.height);
        lock(&self.zone.history).started(now_ms(context), self.index, height);
        lock(&self.zone.ready)[self.index] = Some(core);
        ended(self.index, running, true).await;
    }

    /// The honest implementation with its mouth held shut here and there.
    async fn engine(self, context: &Context, disk: Disk, evil: Evil) {
        let lies = matches!(evil, Evil::FalseSeats | Evil::FalseState);
        let (dice, identity) = (self.dice.clone(), self.identity.clone());
        let deceiver = lies.then(|| Deceiver { evil, dice, identity, roster: Arc::new(self.roster()) });
        let manner = Manner { honest: None, silent: evil.silent_on(), audience: None, deceiver };
        let channels = self.channels(&self.wiring(context, manner)).await;
        let (_core, running) = self.run(context, disk, channels, false).await;
        ended(self.index, running, false).await;
    }

    async fn twins(self, context: &Context, disks: [Disk; 2]) {
        let me = self.identity.signer().public_key();
        let control = self.zone.oracle.control(me.clone());
        let others: Vec<PublicKey> = self.keys().into_iter().filter(|key| *key != me).collect();
        let (one, other) = others.split_at(others.len() / 2 + usize::from(self.dice.percent(50)));
        let wirings = [one, other].map(|audience| {
            let manner = Manner { honest: None, silent: vec![], audience: Some(audience.to_vec()), deceiver: None };
            self.wiring(context, manner)
        });
        let mut channels = [Vec::new(), Vec::new()];
        for channel in CHANNELS {
            let (sender, receiver) = control.register(channel, super::net::QUOTA).await.expect("the network is up");
            let (left, right) = receiver.split_with(context.child("split"), |_: &_| SplitTarget::Both);
            channels[0].push((channel, wirings[0].wire(channel, sender.clone(), left)));
            channels[1].push((channel, wirings[1].wire(channel, sender, right)));
        }
        let ([left, right], [disk, second]) = (channels, disks);
        let (first, second) = (context.child("first"), (context.child("second"), second));
        let one = async { ended(self.index, self.run(&first, disk, left, false).await.1, false).await };
        let two = async { ended(self.index, self.run(&second.0, second.1, right, false).await.1, false).await };
        futures::join!(one, two);
    }

    async fn liar(self, context: &Context, evil: Evil) {
        let manner = Manner { honest: None, silent: evil.silent_on(), audience: None, deceiver: None };
        let channels = self.channels(&self.wiring(context, manner)).await;
        let (_, scheme) = Terms::new(&self.identity, &self.roster()).of(0).expect("the first term is known");
        lie(context, &self.dice, evil, &scheme, channels);
        std::future::pending().await
    }

    fn roster(&self) -> Roster {
        let (ops_root, ops) = empty_target::<NodeContext>();
        Roster::new(&self.zone.genesis, ops_root, ops).expect("a genesis of ours")
    }

    fn keys(&self) -> Vec<PublicKey> {
        let keys = self.zone.genesis.validators.iter().map(|validator| validator.parse().expect("a validator of ours").0);
        keys.collect()
    }

    /// Runs the real thing until its disk is read.
    async fn run(
        &self,
        context: &Context,
        disk: Disk,
        channels: Vec<(u64, (Mouth, Ear))>,
        watched: bool,
    ) -> (Arc<Core>, Running<NodeContext>) {
        let runtime = NodeContext::new(context.child("node"), disk);
        let clock = LedgerClock::new(Arc::new(SkewedClock { context: context.child("clock"), skew_ms: self.skew_ms }));
        let (outbox, sending) = mpsc::channel(gossip::OUTBOX);
        let machine = self.zone.scenario.machine();
        let settings = Settings { sizes: SIZES, ..Settings::default() };
        let core = Core::new(machine, self.roster(), self.identity.clone(), clock, settings, Some(outbox));
        let core = Arc::new(core);
        if watched {
            self.watch(context, &core);
        }
        let mut channels = channels.into_iter().map(|(_, channel)| channel);
        let mut next = || channels.next().expect("as many as there are");
        let (votes, certificates, resolver, backfill, blocks) = (next(), next(), next(), next(), next());
        let engine = Channels { votes, certificates, resolver, backfill, blocks, joining: next(), operations: next() };
        let control = self.zone.oracle.control(self.identity.signer().public_key());
        gossip::start(&runtime, &core, sending, next(), control.clone());
        let peers = self.zone.oracle.manager();
        // Everybody is reachable in every term: who may connect is the authenticated network's business.
        let track: Track = Box::new(|_, _, _| ());
        let running = stack::start(runtime.child("engine"), engine, peers, control, track, Arc::clone(&core), self.history()).await;
        (core, running)
    }

    /// How it comes to its blocks.
    fn history(&self) -> crate::join::History {
        if !self.joins {
            return crate::join::History::default();
        }
        let joined = Arc::clone(&self.zone.joined);
        let on_join = Arc::new(move |step| *lock(&joined) = Some(step));
        crate::join::History { join: Join::State, anchor: None, on_join: Some(on_join), keep_blocks: None }
    }

    /// Tells the history what becomes final here.
    fn watch(&self, context: &Context, core: &Core) {
        let (mut blocks, history, index) = (core.subscribe(), Arc::clone(&self.zone.history), self.index);
        context.child("watch").spawn(move |context| async move {
            loop {
                match blocks.recv().await {
                    Ok(block) => lock(&history).finalized(now_ms(&context), index, &block),
                    Err(RecvError::Lagged(missed)) => panic!("the watcher of validator {index} missed {missed} blocks"),
                    Err(RecvError::Closed) => return,
                }
            }
        });
        let (mut found, known) = (core.contradictions.subscribe(), Arc::clone(&self.zone.contradictions));
        context.child("accuser").spawn(move |_| async move {
            // Whoever lags behind so many has heard enough.
            while let Ok(contradicted) = found.recv().await {
                let mut known = lock(&known);
                if known.len() < MAX_CONTRADICTIONS && !known.contains(&contradicted) {
                    known.push(contradicted);
                }
            }
        });
    }
}

/// Waits for the end of a part: it must not come, but to the dishonest, who are stopped when they see their other selves.
async fn ended(index: usize, running: Running<NodeContext>, honest: bool) {
    let Running { tasks, .. } = running;
    let _ = futures::future::select_all(tasks).await;
    assert!(!honest, "ENDED: a part of validator {index} ended by itself: {}", verdict::error().unwrap_or_default());
}
