//! One run: a seed chooses validators, network and faults; clients hand transactions in; then everything is mended and must go on.
//!
//! Guarantees: nothing but the seed, the length and the seeded bug decides what happens. A broken rule of [`History`] panics as it happens;
//! whoever does not get on after the faults are mended fails the run too.

use super::context::now_ms;
use super::dice::Dice;
use super::history::History;
use super::liar::Evil;
use super::machine::{self, tx};
use super::net::Quality;
use super::node::{Node, Zone, lock};
use super::{ALREADY, Bug, verdict};
use crate::core::Core;
use crate::error::SubmitError;
use crate::genesis::{Genesis, Identity};
use commonware_cryptography::ed25519::PublicKey;
use commonware_p2p::{Manager as _, simulated};
use commonware_runtime::{Clock as _, Runner as _, Spawner as _, Supervisor as _, deterministic};
use commonware_utils::{NZUsize, ordered::Set};
use deterministic::Context;
use futures::future::{Either, select};
use std::num::NonZeroU64;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

/// When simulated time begins: 2027, so that skewed clocks stay after the genesis.
const BEGIN: Duration = Duration::from_secs(1_800_000_000);
/// Who hands transactions in.
const CLIENTS: u8 = 5;
/// How long a client waits for an answer before it asks another validator.
const PATIENCE: Duration = Duration::from_secs(8);
/// How often the faults are looked at.
const TICK: Duration = Duration::from_millis(100);
/// Blocks that every honest validator must have made final after everything was mended...
const MORE_BLOCKS: u64 = 12;
/// ... and transactions that clients must have had acknowledged...
const MORE_ACKS: usize = 12;
/// ... within this time. A leader that is away costs a second, a view that nobody certifies two, and what is missing is asked for
/// again each two seconds.
const RECOVERY: Duration = Duration::from_secs(60);
/// Largest message of the network.
const MAX_MESSAGE: u32 = 8 << 20;
/// After mending.
const GOOD: Quality = Quality { latency_ms: 20, jitter_ms: 5, loss_percent: 0 };

/// What a run is made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setup {
    pub(super) seed: u64,
    /// How long faults happen, in simulated seconds.
    pub(super) seconds: u64,
    pub(super) bug: Option<Bug>,
}

/// What a run came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    /// The runtime's own hash over every task, message and random number.
    pub(super) auditor: String,
    /// Ours over what became final, where and when.
    pub(super) trace: [u8; 32],
    pub(super) validators: usize,
    pub(super) evil: Vec<Evil>,
    pub(super) rotates: bool,
    pub(super) height: u64,
    pub(super) acknowledged: usize,
    pub(super) crashes: u64,
    pub(super) partitions: u64,
    pub(super) virtual_ms: u64,
}

/// Runs; panics when a rule is broken.
pub(super) fn run(setup: Setup) -> Outcome {
    let limit = Duration::from_secs(setup.seconds) + RECOVERY * 2;
    let config = deterministic::Config::new().with_seed(setup.seed).with_start_time(UNIX_EPOCH + BEGIN).with_timeout(Some(limit));
    // A dishonest validator may give up; `verdict` keeps what an honest one panics with.
    let config = config.with_catch_panics(true);
    let _listening = verdict::listen();
    deterministic::Runner::new(config).start(|context| async move { World::new(context, setup).await.play().await })
}

struct World {
    context: Context,
    setup: Setup,
    dice: Dice,
    zone: Zone,
    nodes: Vec<Node>,
    quality: Quality,
    /// For each validator: which side of a partition it is on, if there is one.
    sides: Option<Vec<bool>>,
    /// Whether only one direction is cut.
    one_way: bool,
    heal_at: u64,
    /// When a crashed validator comes back.
    back_at: Vec<Option<u64>>,
    /// How likely a partition or a crash begins in a tick: some runs are calm, some are not.
    parts_per_mille: u64,
    crashes_per_mille: u64,
    crashes: u64,
    partitions: u64,
}

fn identities(count: usize) -> Vec<Identity> {
    (1..=count).map(|n| Identity::from_secret(&[u8::try_from(n).expect("few"); 32]).expect("a secret")).collect()
}

impl World {
    async fn new(context: Context, setup: Setup) -> Self {
        let dice = Dice::new(setup.seed);
        let count = usize::try_from(dice.range(4, 7)).expect("few");
        let identities = identities(count);
        let validators: Vec<_> = identities.iter().map(Identity::validator).collect();
        let term_blocks = NonZeroU64::new(dice.range(4, 24)).expect("not zero");
        let genesis = Genesis { zone: [42; 32], timestamp_ms: 1_000, validators, term_blocks, base: None };
        let config = simulated::Config {
            max_size: MAX_MESSAGE,
            max_peers_per_set: NZUsize!(16),
            disconnect_on_block: true,
            tracked_peer_sets: NZUsize!(2),
        };
        let (network, oracle) = simulated::Network::<_, PublicKey>::new(context.child("network"), config);
        network.start();
        let dishonest = dice.some(dice.index((count - 1) / 3 + 1), count);
        let zone = Zone {
            genesis,
            oracle,
            history: Arc::new(Mutex::new(History::new(count))),
            ready: Arc::new(Mutex::new(vec![None; count])),
            overtake_percent: dice.below(8),
            // One seat fewer must still bear them.
            rotates: dishonest.len() <= (count - 2) / 3 && dice.percent(50),
            bug: setup.bug,
        };
        let node = |(index, identity): (usize, Identity)| {
            let evil = dishonest.contains(&index).then(|| Evil::ALL[dice.index(Evil::ALL.len())]);
            let skew_ms = i64::try_from(dice.below(2_001)).expect("small") - 1_000;
            Node::new(index, identity, skew_ms, evil, Dice::new(dice.word()), setup.bug)
        };
        let nodes: Vec<Node> = identities.into_iter().enumerate().map(node).collect();
        zone.oracle.manager().track(0, Set::from_iter_dedup(nodes.iter().map(Node::key)));
        let back_at = vec![None; count];
        let (parts_per_mille, crashes_per_mille) = (dice.below(40), dice.below(40));
        Self {
            context,
            setup,
            dice,
            zone,
            nodes,
            quality: GOOD,
            sides: None,
            one_way: false,
            heal_at: 0,
            back_at,
            parts_per_mille,
            crashes_per_mille,
            crashes: 0,
            partitions: 0,
        }
    }

    fn now(&self) -> u64 {
        now_ms(&self.context)
    }

    async fn play(mut self) -> Outcome {
        let begin = self.now();
        self.quality = self.some_quality();
        self.link().await;
        let dishonest: Vec<_> = self.nodes.iter().filter_map(|node| node.evil.map(|evil| (node.index, evil))).collect();
        println!("seed {}: {} validators, dishonest {dishonest:?}, {:?}", self.setup.seed, self.nodes.len(), self.quality);
        for node in &mut self.nodes {
            node.start(&self.context, &self.zone);
        }
        for client in 0..CLIENTS {
            self.client(client);
        }
        let until = begin + self.setup.seconds * 1_000;
        while self.now() < until {
            self.tick().await;
            self.disturb().await;
        }
        self.mend().await;
        self.recover().await;
        self.close(begin).await
    }

    /// Lets time pass, and ends the run if something broke meanwhile.
    async fn tick(&self) {
        self.context.sleep(TICK).await;
        if let Some(why) = verdict::broken() {
            panic!("{why}");
        }
    }

    fn some_quality(&self) -> Quality {
        let latency_ms = self.dice.range(5, 120);
        Quality { latency_ms, jitter_ms: self.dice.below(latency_ms / 2 + 1), loss_percent: self.dice.below(16) }
    }

    /// Sets every link to what it is now.
    async fn link(&self) {
        for (from, sender) in self.nodes.iter().enumerate() {
            for (to, receiver) in self.nodes.iter().enumerate().filter(|(to, _)| *to != from) {
                let (sender, receiver) = (sender.key(), receiver.key());
                // There is none at first.
                let _ = self.zone.oracle.remove_link(sender.clone(), receiver.clone()).await;
                if !self.is_cut(from, to) {
                    self.zone.oracle.add_link(sender, receiver, self.quality.link()).await.expect("the network is up");
                }
            }
        }
    }

    fn is_cut(&self, from: usize, to: usize) -> bool {
        let Some(sides) = &self.sides else { return false };
        sides[from] != sides[to] && (!self.one_way || sides[from])
    }

    /// What may happen in one tick.
    async fn disturb(&mut self) {
        let now = self.now();
        for index in 0..self.nodes.len() {
            if self.back_at[index].is_some_and(|at| at <= now) {
                self.back_at[index] = None;
                self.nodes[index].start(&self.context, &self.zone);
            }
        }
        if self.sides.is_some() && self.heal_at <= now {
            self.sides = None;
            self.quality = self.some_quality();
            self.link().await;
        } else if self.sides.is_none() && self.dice.below(1_000) < self.parts_per_mille {
            self.part(now).await;
        }
        if self.dice.below(1_000) < self.crashes_per_mille {
            self.crash_some(now).await;
        }
    }

    async fn part(&mut self, now: u64) {
        self.partitions += 1;
        let alone = self.dice.index(self.nodes.len());
        let isolate = self.dice.percent(40);
        let side = |index| if isolate { index == alone } else { self.dice.percent(50) };
        self.sides = Some((0..self.nodes.len()).map(side).collect());
        self.one_way = self.dice.percent(25);
        self.heal_at = now + self.dice.range(300, 6_000);
        self.link().await;
    }

    async fn crash_some(&mut self, now: u64) {
        let up: Vec<usize> = self.nodes.iter().filter(|node| node.is_up() && node.evil.is_none()).map(|node| node.index).collect();
        let many = if self.dice.percent(60) { 1 } else { self.dice.index(up.len() + 1) };
        for at in self.dice.some(many.min(up.len()), up.len()) {
            let index = up[at];
            self.crashes += 1;
            self.nodes[index].crash(&self.context, &self.zone).await;
            let longest = if self.dice.percent(50) { 300 } else { 5_000 };
            self.back_at[index] = Some(now + self.dice.range(20, longest));
        }
    }

    /// Every fault ends; the dishonest stay.
    async fn mend(&mut self) {
        self.sides = None;
        self.quality = GOOD;
        self.link().await;
        for node in &mut self.nodes {
            if !node.is_up() {
                node.start(&self.context, &self.zone);
            }
        }
    }

    fn heights(&self) -> Vec<Option<u64>> {
        let ready = lock(&self.zone.ready);
        let honest = self.nodes.iter().filter(|node| node.evil.is_none());
        honest.map(|node| ready[node.index].as_ref().and_then(|core| core.tip()).map(|tip| tip.header.height)).collect()
    }

    async fn recover(&self) {
        let (height, acks) = {
            let history = lock(&self.zone.history);
            (history.tip() + MORE_BLOCKS, history.acknowledged() + MORE_ACKS)
        };
        let until = self.now() + u64::try_from(RECOVERY.as_millis()).expect("small");
        loop {
            let reached = self.heights().iter().all(|have| have.is_some_and(|have| have >= height));
            let heard = lock(&self.zone.history).acknowledged() >= acks;
            if reached && heard {
                return;
            }
            let have = self.heights();
            assert!(self.now() < until, "STUCK: {RECOVERY:?} after mending, blocks {have:?} of {height}, clients heard: {heard}");
            self.tick().await;
        }
    }

    async fn close(mut self, begin: u64) -> Outcome {
        let honest: Vec<PublicKey> = self.nodes.iter().filter(|node| node.evil.is_none()).map(Node::key).collect();
        for (from, to) in self.zone.oracle.blocked().await.expect("the network is up") {
            assert!(!(honest.contains(&from) && honest.contains(&to)), "BLOCKED: an honest validator keeps another one away");
        }
        let tips: Vec<_> = lock(&self.zone.ready).iter().map(|core| core.as_ref().and_then(|core| core.tip())).collect();
        let told = lock(&self.zone.history).told();
        // Whoever watches a validator may be about to say what its clients already know.
        self.tick().await;
        let history = lock(&self.zone.history);
        for (index, tip) in tips.into_iter().enumerate() {
            let Some(tip) = tip else { continue };
            history.close(index, tip.header.height, told, |client| machine::total(&tip.view, client));
        }
        let outcome = Outcome {
            auditor: self.context.auditor().state(),
            trace: history.trace(),
            validators: self.nodes.len(),
            evil: self.nodes.iter().filter_map(|node| node.evil).collect(),
            rotates: self.zone.rotates,
            height: history.tip(),
            acknowledged: history.acknowledged(),
            crashes: self.crashes,
            partitions: self.partitions,
            virtual_ms: self.now() - begin,
        };
        drop(history);
        for node in &mut self.nodes {
            node.stop();
        }
        outcome
    }

    /// Somebody who hands in one transaction after another, and never gives one up.
    fn client(&self, client: u8) {
        let (dice, zone) = (Dice::new(self.dice.word()), self.zone.clone());
        self.context.child("client").with_attribute("client", client).spawn(move |context| async move {
            for seq in 0.. {
                context.sleep(dice.millis(0, 1_500)).await;
                while !hand_in(&context, &dice, &zone, client, seq).await {
                    context.sleep(dice.millis(50, 400)).await;
                }
            }
        });
    }
}

fn pick(dice: &Dice, zone: &Zone) -> Option<(usize, Arc<Core>)> {
    let ready = lock(&zone.ready);
    let index = dice.index(ready.len());
    ready.get(index)?.clone().map(|core| (index, core))
}

/// Whether the transaction is final as far as the client was told.
async fn hand_in(context: &Context, dice: &Dice, zone: &Zone, client: u8, seq: u64) -> bool {
    let Some((node, core)) = pick(dice, zone) else { return false };
    let (id, receiver) = match core.submit(tx(client, seq)) {
        Ok(accepted) => accepted,
        Err(SubmitError::Rejected { code: ALREADY, .. }) => {
            lock(&zone.history).claimed(tx_id(client, seq));
            return true;
        }
        Err(_) => return false,
    };
    // A validator that crashes takes its answer with it. What it held is kept until nobody waits for it: it would wake those who do in
    // the random order of a hash map, and the run could not be repeated.
    let crashed = async {
        for _ in 0..PATIENCE.as_millis() / TICK.as_millis() {
            context.sleep(TICK).await;
            if !lock(&zone.ready)[node].as_ref().is_some_and(|running| Arc::ptr_eq(running, &core)) {
                return;
            }
        }
    };
    let answer = match select(pin!(receiver), pin!(crashed)).await {
        Either::Left((answer, _)) => answer,
        Either::Right(_) => return false,
    };
    let Ok(Ok(receipt)) = answer else { return false };
    lock(&zone.history).acknowledge(now_ms(context), node, id, receipt.height);
    true
}

fn tx_id(client: u8, seq: u64) -> [u8; 32] {
    machine::id(&tx(client, seq))
}
