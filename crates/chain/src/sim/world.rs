//! One run: a seed chooses validators, network and faults; clients hand transactions in; then everything is mended and must go on.
//!
//! Guarantees: nothing but the seed, the length, the scenario and the seeded fault decides what happens. A broken rule of [`History`] panics as it happens;
//! whoever does not get on after the faults are mended fails the run too.

use super::context::now_ms;
use super::dice::Dice;
use super::door::Door;
use super::history::History;
use super::liar::Evil;
use super::net::Quality;
use super::node::{Node, Zone, lock};
use super::scenario::{Founders, Newcomer, Scenario};
use super::{Fault, memo, verdict};
use crate::genesis::{Genesis, Identity};
use crate::join::JoinStep;
use commonware_cryptography::ed25519::PublicKey;
use commonware_p2p::{Manager as _, simulated};
use commonware_runtime::{Clock as _, Runner as _, Spawner as _, Supervisor as _, deterministic};
use commonware_utils::{NZUsize, ordered::Set};
use deterministic::Context;
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

/// When simulated time begins, in milliseconds since the Unix epoch: 2027, so that skewed clocks stay after a genesis.
pub const BEGIN: u64 = 1_800_000_000_000;
/// How often the faults are looked at.
const TICK: Duration = Duration::from_millis(100);
/// Blocks that every honest validator must have made final after everything was mended...
const MORE_BLOCKS: u64 = 12;
/// ... and transactions that clients must have had acknowledged...
const MORE_ACKS: usize = 12;
/// Largest message of the network.
const MAX_MESSAGE: u32 = 8 << 20;
/// The most often that a kind of fault strikes...
const OFTEN_MS: u64 = 2_000;
/// ... and the most seldom in a run so short that a tenth of it is less.
const SELDOM_MS: u64 = 10_000;
/// Runs in which somebody joins by state...
const JOINS_PERCENT: u64 = 40;
/// ... and, of their dishonest validators, those that lie to it and do nothing else.
const DECEIVES_PERCENT: u64 = 50;
/// After mending.
const GOOD: Quality = Quality { latency_ms: 20, jitter_ms: 5, loss_percent: 0 };

/// What a run is made of, but for its scenario.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Chooses everything.
    pub seed: u64,
    /// How long faults happen, in simulated seconds.
    pub seconds: u64,
    /// A fault that no validator survives, to see that it is found.
    pub fault: Option<Fault>,
}

/// How a newcomer came to its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Joined {
    /// No term had ended when it looked, and it followed by blocks.
    Blocks,
    /// It took the state after this block.
    State(u64),
}

/// What a run came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The runtime's own hash over every task, message and random number.
    pub auditor: String,
    /// Ours over what became final, where and when.
    pub trace: [u8; 32],
    /// How many validators there were.
    pub validators: usize,
    /// What the dishonest among them did.
    pub evil: Vec<Evil>,
    /// Whether seats could change hands.
    pub rotates: bool,
    /// How somebody joined, if anybody did.
    pub joined: Option<Joined>,
    /// The highest final block.
    pub height: u64,
    /// Transactions that clients were told are final.
    pub acknowledged: usize,
    /// Crashes of honest validators.
    pub crashes: u64,
    /// Partitions of the network.
    pub partitions: u64,
    /// How long it lasted in simulated time.
    pub virtual_ms: u64,
}

fn joined(zone: &Zone) -> Joined {
    match *lock(&zone.joined) {
        Some(JoinStep::Joined { height }) => Joined::State(height),
        _ => Joined::Blocks,
    }
}

/// In how many of a million ticks a kind of fault strikes in a run: from each [`OFTEN_MS`] to each tenth of the run, every factor alike, so
/// that there are storms, and calms in which much can build up before the next fault.
fn strikes(dice: &Dice, seconds: u64) -> u64 {
    let seldom_ms = (seconds * 100).max(SELDOM_MS);
    let (mut every_ms, mut all) = (OFTEN_MS, vec![OFTEN_MS]);
    while every_ms < seldom_ms {
        every_ms = (every_ms * 11 / 10).min(seldom_ms);
        all.push(every_ms);
    }
    let tick_ms = u64::try_from(TICK.as_millis()).expect("small");
    1_000_000 * tick_ms / all[dice.index(all.len())]
}

fn some_evil(dice: &Dice, joins: bool, fault: Option<Fault>) -> Evil {
    if fault == Some(Fault::BelievesCertificates) {
        return Evil::FalseSeats;
    }
    if joins && dice.percent(DECEIVES_PERCENT) {
        return Evil::TO_JOINING[dice.index(Evil::TO_JOINING.len())];
    }
    Evil::ALL[dice.index(Evil::ALL.len())]
}

type Make<'a> = &'a mut dyn FnMut(Founders) -> Arc<dyn Scenario>;

/// Runs; panics when a rule is broken.
pub(super) fn run(setup: Setup, make: Make<'_>) -> Outcome {
    let _listening = verdict::listen();
    let _remembering = memo::Remembering::begin(setup.fault);
    let (scene, scenario) = Scene::new(setup, make);
    let limit = Duration::from_secs(setup.seconds) + scenario.recovery() * 2;
    let config = deterministic::Config::new().with_seed(setup.seed).with_timeout(Some(limit));
    let config = config.with_start_time(UNIX_EPOCH + Duration::from_millis(BEGIN));
    // A dishonest validator may give up; `verdict` keeps what an honest one panics with.
    let config = config.with_catch_panics(true);
    deterministic::Runner::new(config).start(|context| async move { World::new(context, setup, scene, scenario).play().await })
}

/// What a seed chooses before anything runs.
struct Scene {
    dice: Dice,
    identities: Vec<Identity>,
    term_blocks: u64,
    dishonest: Vec<usize>,
    rotates: bool,
    newcomer: Option<Identity>,
}

impl Scene {
    fn new(Setup { seed, fault, .. }: Setup, make: Make<'_>) -> (Self, Arc<dyn Scenario>) {
        let dice = Dice::new(seed);
        let count = usize::try_from(dice.range(4, 7)).expect("few");
        let mut identities = identities(count + 1);
        let newcomer = identities.pop().filter(|_| dice.percent(JOINS_PERCENT) || fault == Some(Fault::BelievesCertificates));
        let term_blocks = dice.range(4, 24);
        let dishonest = dice.some(dice.index((count - 1) / 3 + 1), count);
        // One seat fewer must still bear them.
        let rotates = dishonest.len() <= (count - 2) / 3 && dice.percent(50);
        let validators = identities.iter().map(Identity::validator).collect();
        let founders = Founders {
            validators,
            dishonest: dishonest.clone(),
            may_rotate: rotates,
            newcomer: newcomer.as_ref().map(|identity| Newcomer { validator: identity.validator(), secret: secret(count) }),
            dice: Dice::new(dice.word()),
        };
        let scenario = make(founders);
        (Self { dice, identities, term_blocks, dishonest, rotates, newcomer }, scenario)
    }
}

struct World {
    context: Context,
    setup: Setup,
    dice: Dice,
    zone: Zone,
    nodes: Vec<Node>,
    rotates: bool,
    /// Which of the nodes joins, if any.
    newcomer: Option<usize>,
    quality: Quality,
    /// For each validator: which side of a partition it is on, if there is one.
    sides: Option<Vec<bool>>,
    /// Whether only one direction is cut.
    one_way: bool,
    heal_at: u64,
    /// When a crashed validator comes back.
    back_at: Vec<Option<u64>>,
    /// In how many of a million ticks a partition or a crash begins.
    parts_ppm: u64,
    crashes_ppm: u64,
    crashes: u64,
    partitions: u64,
}

fn secret(index: usize) -> [u8; 32] {
    [u8::try_from(index + 1).expect("few"); 32]
}

fn identities(count: usize) -> Vec<Identity> {
    (0..count).map(|index| Identity::from_secret(&secret(index)).expect("a secret")).collect()
}

impl World {
    fn new(context: Context, setup: Setup, scene: Scene, scenario: Arc<dyn Scenario>) -> Self {
        let Scene { dice, identities, term_blocks, dishonest, rotates, newcomer } = scene;
        let count = identities.len();
        let (zone, timestamp_ms) = scenario.zone();
        let validators: Vec<_> = identities.iter().map(Identity::validator).collect();
        let term_blocks = NonZeroU64::new(term_blocks).expect("not zero");
        let genesis = Genesis { zone, timestamp_ms, validators, term_blocks, base: None };
        let config = simulated::Config {
            max_size: MAX_MESSAGE,
            max_peers_per_set: NZUsize!(16),
            disconnect_on_block: true,
            tracked_peer_sets: NZUsize!(2),
        };
        let (network, oracle) = simulated::Network::<_, PublicKey>::new(context.child("network"), config);
        network.start();
        let everybody = count + usize::from(newcomer.is_some());
        let zone = Zone {
            genesis,
            oracle,
            history: Arc::new(Mutex::new(History::new(everybody, scenario.model()))),
            ready: Arc::new(Mutex::new(vec![None; everybody])),
            contradictions: Arc::default(),
            joined: Arc::default(),
            overtake_percent: dice.below(8),
            scenario,
            fault: setup.fault,
        };
        let node = |(index, identity): (usize, Identity)| {
            let evil = dishonest.contains(&index).then(|| some_evil(&dice, newcomer.is_some(), setup.fault));
            let skew_ms = i64::try_from(dice.below(2_001)).expect("small") - 1_000;
            Node::new(index, identity, skew_ms, evil, Dice::new(dice.word()), setup.fault)
        };
        let mut nodes: Vec<Node> = identities.into_iter().enumerate().map(node).collect();
        nodes.extend(newcomer.clone().map(|identity| node((count, identity)).joining()));
        let newcomer = newcomer.map(|_| count);
        zone.oracle.manager().track(0, Set::from_iter_dedup(nodes.iter().map(Node::key)));
        let back_at = vec![None; everybody];
        let (parts_ppm, crashes_ppm) = (strikes(&dice, setup.seconds), strikes(&dice, setup.seconds));
        Self {
            context,
            setup,
            dice,
            zone,
            nodes,
            rotates,
            newcomer,
            quality: GOOD,
            sides: None,
            one_way: false,
            heal_at: 0,
            back_at,
            parts_ppm,
            crashes_ppm,
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
        verdict::about(format!("{} validators, dishonest {dishonest:?}, {:?}", self.nodes.len(), self.quality));
        for node in self.nodes.iter_mut().filter(|node| Some(node.index) != self.newcomer) {
            node.start(&self.context, &self.zone);
        }
        if let Some(newcomer) = self.newcomer {
            // From when perhaps no term has ended yet to when the faults are nearly over.
            self.back_at[newcomer] = Some(begin + self.dice.below(self.setup.seconds * 900 + 1));
        }
        for client in 0..self.zone.scenario.clients() {
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
        } else if self.sides.is_none() && self.dice.below(1_000_000) < self.parts_ppm {
            self.part(now).await;
        }
        if self.dice.below(1_000_000) < self.crashes_ppm {
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
        self.zone.scenario.mended();
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
        let patience = self.zone.scenario.recovery();
        let until = self.now() + u64::try_from(patience.as_millis()).expect("small");
        loop {
            let have = self.heights();
            let reached = have.iter().all(|have| have.is_some_and(|have| have >= height));
            let heard = lock(&self.zone.history).acknowledged() >= acks;
            let missing = self.zone.scenario.missing();
            if reached && heard && missing.is_none() {
                return;
            }
            let late = self.now() >= until;
            assert!(
                !late,
                "STUCK: {patience:?} after mending, blocks {have:?} of {height}, clients heard: {heard}, missing: {}",
                missing.unwrap_or_else(|| "nothing".into())
            );
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
            history.close(index, tip.header.height, told, &tip.view);
        }
        let outcome = Outcome {
            auditor: self.context.auditor().state(),
            trace: history.trace(),
            validators: self.nodes.len(),
            evil: self.nodes.iter().filter_map(|node| node.evil).collect(),
            rotates: self.rotates,
            joined: self.newcomer.map(|_| joined(&self.zone)),
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

    fn client(&self, client: usize) {
        let (dice, zone) = (Dice::new(self.dice.word()), self.zone.clone());
        self.context.child("client").with_attribute("client", client).spawn(move |context| {
            let scenario = Arc::clone(&zone.scenario);
            scenario.live(client, Door { context, dice, zone })
        });
    }
}
