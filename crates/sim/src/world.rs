//! The world of a run: who there is, what was really served, when who acts next.
//!
//! Guarantees: what really happened ([`Service`]) is known to the world alone; people see of it what they could see, and the
//! ledger sees transactions. Everything happens in the order of time and of its making, so a seed repeats a run.

use crate::SimError;
use crate::chain::{Chain, Signer};
use crate::config::{self, Config, VALIDATORS};
use crate::dice::Dice;
use crate::strategy::{Serving, Using};
use crate::tally::Tally;
use crate::witness::Bursts;
use pasture_ledger::query;
use pasture_types::event::Event;
use pasture_types::genesis::{Genesis, GenesisAccount, GenesisValidator, RULES_VERSION};
use pasture_types::lease::LeaseState;
use pasture_types::{AccountId, Amount, AssetId, LeaseId, Millis, NodeId, Timestamp, ids};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

/// When the ledger begins.
pub const START: Timestamp = Timestamp(1_800_000_000_000);
/// People act on this grid, so that a block serves many of them.
const GRID_MS: u64 = 5_000;
/// A run that makes more blocks than this for each second of its time does not come to an end.
const MAX_BLOCKS_PER_S: u64 = 4;

/// What somebody does next.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Wake {
    /// A node takes a lease that it was drawn for.
    Accept(usize, LeaseId),
    /// A node proves and reports.
    Tick(usize),
    /// A node's job is over, or what it pretends to be one.
    Done(usize, LeaseId),
    /// A node stops serving before it is done.
    Stop(usize, LeaseId),
    /// A user places an order.
    Order(usize),
    /// A user, or its watcher, has seen two checks fail.
    SeenFailing(usize, LeaseId),
    /// An absent user looks.
    Look(usize, LeaseId),
    /// A user objects at the end of a lease that served it.
    ObjectAnyway(usize, LeaseId),
    /// A provider begins under another name.
    Rename(usize),
    /// Audited nodes have answered.
    Answers,
}

/// A provider and its node.
pub struct Node {
    /// What it does.
    pub serving: Serving,
    /// The provider's account of now.
    pub provider: Signer,
    /// The node's key of now.
    pub node: Signer,
    /// All accounts that are the provider's, other names included.
    pub accounts: Vec<AccountId>,
    /// Its price in parts per million of the list price.
    pub price_ppm: u128,
    /// Leases that it took and that are not settled.
    pub open: BTreeSet<LeaseId>,
    /// The next epoch to prove.
    pub prove_from: u64,
    /// Whether a tick is on its way.
    pub ticking: bool,
    /// When within five epochs it proves.
    pub phase: Millis,
    /// Ticks so far.
    pub ticks: u64,
    /// Which name this is.
    pub name: u32,
    /// Leases that ended in dispute under this name.
    pub disputes: u32,
}

/// A user.
pub struct User {
    /// What it does.
    pub using: Using,
    /// Its account.
    pub signer: Signer,
    /// How long its next job runs.
    pub job: Millis,
    /// Which watcher it names.
    pub watcher: usize,
    /// Nodes that failed it, newest last.
    pub avoids: Vec<NodeId>,
    /// The provider whose other name it is.
    pub of: Option<usize>,
}

/// A watcher.
pub struct Watcher {
    /// Its account.
    pub signer: Signer,
    /// Whether it lies for [`Serving::LyingWatcher`].
    pub lies: bool,
}

/// What really happens under a lease.
#[derive(Clone, Debug)]
pub struct Service {
    /// By whom.
    pub node: usize,
    /// For whom.
    pub user: usize,
    /// At which rate.
    pub rate: Amount,
    /// From when on the node says that it serves.
    pub started: Timestamp,
    /// When service really ends, as far as is known: at the start, if there is none at all.
    pub until: Timestamp,
    /// The longest that it may run.
    pub max: Millis,
    /// When its user or watcher looked last.
    pub looked: Timestamp,
    /// The node said that it is over.
    pub ended: bool,
    /// When it was closed.
    pub closed: Option<Timestamp>,
    /// The user, or a watcher for it, said that service stopped.
    pub objected: bool,
    /// Served at this part of its speed, in parts per million.
    pub speed_ppm: u128,
}

impl Service {
    /// How long it was really served by a time.
    #[must_use]
    pub fn served(&self, at: Timestamp) -> Millis {
        let end = self.closed.map_or(at, |c| at.min(c));
        end.min(self.until).since(self.started)
    }
}

/// All of it.
pub struct World {
    /// What the run is made of.
    pub config: Config,
    /// The ledger.
    pub chain: Chain,
    /// Chance.
    pub dice: Dice,
    /// Providers.
    pub nodes: Vec<Node>,
    /// Users.
    pub users: Vec<User>,
    /// Watchers.
    pub watchers: Vec<Watcher>,
    /// What happens under each open lease.
    pub services: BTreeMap<LeaseId, Service>,
    /// Audits under way.
    pub bursts: Bursts,
    /// What came of it.
    pub tally: Tally,
    /// Which node has a key.
    pub node_by_id: BTreeMap<NodeId, usize>,
    user_by_id: BTreeMap<AccountId, usize>,
    agenda: BinaryHeap<Reverse<(Timestamp, u64, Wake)>>,
    turn: u64,
}

/// A seed for a key by what it is of.
#[must_use]
pub fn seed_of(what: &str, number: u64) -> [u8; 32] {
    ids::derive("pasture simulation key", &[what.as_bytes(), &number.to_be_bytes()])
}

impl World {
    /// Everybody at the beginning.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let mut dice = Dice::new(config.seed);
        let mut accounts = Vec::new();
        let mut nodes = Vec::new();
        let mut users = Vec::new();
        for serving in Serving::ALL {
            let many = config.nodes_of(serving);
            for n in 0..many {
                // Prices differ by a tenth to both sides, in the same way for each strategy.
                let around = 900_000 + 200_000 * u128::from(n) / u128::from(many.saturating_sub(1).max(1));
                nodes.push(new_node(serving, nodes.len(), around, &mut dice));
            }
        }
        for using in Using::ALL {
            for _ in 0..config.users_of(using) {
                users.push(new_user(using, users.len(), &mut dice, None));
            }
        }
        for (at, node) in nodes.iter_mut().enumerate().filter(|(_, n)| n.serving == Serving::SelfDeal) {
            for _ in 0..crate::provider::OTHER_NAMES {
                let user = new_user(Using::Sybil, users.len(), &mut dice, Some(at));
                node.accounts.push(user.signer.account);
                users.push(user);
            }
        }
        let watcher = |lies, n| Watcher { signer: Signer::account(seed_of("watcher", n)), lies };
        let watchers = vec![watcher(false, 0), watcher(true, 1)];
        for node in &nodes {
            accounts.push((node.provider.public(), config::PURSE));
        }
        for user in &users {
            let purse = if user.of.is_some() { crate::provider::OTHER_NAME_PURSE } else { Amount::credits(1_000_000) };
            accounts.push((user.signer.public(), purse));
        }
        accounts.extend(watchers.iter().map(|w| (w.signer.public(), Amount::credits(1_000))));
        let bursts = Bursts::new();
        accounts.extend(bursts.operators().map(|o| (o.public(), Amount::credits(1_000))));
        let genesis = genesis(&bursts, accounts, &config);
        let chain = Chain::new(&genesis, config.seed, config.verify);
        let node_by_id = nodes.iter().enumerate().map(|(i, n)| (n.node.node_id(), i)).collect();
        let user_by_id = users.iter().enumerate().map(|(i, u)| (u.signer.account, i)).collect();
        let mut world = Self {
            config,
            chain,
            dice,
            nodes,
            users,
            watchers,
            services: BTreeMap::new(),
            bursts,
            tally: Tally::default(),
            node_by_id,
            user_by_id,
            agenda: BinaryHeap::new(),
            turn: 0,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        for at in 0..self.nodes.len() {
            self.join_as_provider(at);
        }
        for at in 0..self.users.len() {
            self.first_order(at);
        }
    }

    /// When the run is over.
    #[must_use]
    pub fn end(&self) -> Timestamp {
        START.plus(self.config.length)
    }

    /// Whether new orders are still placed.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.chain.now.plus(config::TAIL) < self.end()
    }

    /// The settlement epoch of a time.
    #[must_use]
    pub fn epoch_of(&self, at: Timestamp) -> u64 {
        at.since(START).0 / self.epoch().0
    }

    /// How long an epoch is.
    #[must_use]
    pub fn epoch(&self) -> Millis {
        config::zone_params().epoch
    }

    /// Wakes somebody at the grid's next point.
    pub fn wake(&mut self, at: Timestamp, what: Wake) {
        let at = Timestamp(at.0.div_ceil(GRID_MS) * GRID_MS);
        self.wake_exactly(at, what);
    }

    /// Wakes somebody in the first block from then on.
    pub fn wake_exactly(&mut self, at: Timestamp, what: Wake) {
        self.turn += 1;
        self.agenda.push(Reverse((at, self.turn, what)));
    }

    /// What an account has.
    #[must_use]
    pub fn balance(&self, account: &AccountId) -> Amount {
        query::balance(&self.chain.state, account, AssetId::CREDIT)
    }

    /// Runs until the end; `progress` hears of each day.
    ///
    /// # Errors
    /// The first violation of the ledger's invariants, or a run that does not end.
    pub fn run(&mut self, progress: &mut dyn FnMut(&Self)) -> Result<(), SimError> {
        let most = self.config.length.0 / 1_000 * MAX_BLOCKS_PER_S;
        let (mut day, mut checked) = (START.plus(Millis(config::DAY_MS)), START);
        while let Some(at) = self.next_block() {
            if self.chain.height >= most {
                return Err(SimError::Endless(most));
            }
            while let Some(Reverse((_, _, what))) = self.agenda.peek().filter(|next| next.0.0 <= at).copied() {
                self.agenda.pop();
                self.act(at, what);
            }
            let events = self.chain.block(at);
            for event in events {
                self.hear(at, &event);
            }
            if at.since(checked) >= self.config.check_every {
                checked = at;
                self.check()?;
            }
            if at >= day {
                day = day.plus(Millis(config::DAY_MS));
                progress(self);
            }
        }
        self.check()
    }

    fn check(&self) -> Result<(), SimError> {
        match self.chain.violations().first() {
            Some(v) => Err(SimError::Invariant { rule: v.rule, height: self.chain.height, detail: v.detail.clone() }),
            None => Ok(()),
        }
    }

    /// When the next block comes; `None` at the end.
    fn next_block(&self) -> Option<Timestamp> {
        let least = self.chain.now.plus(crate::chain::BLOCK_GAP);
        let waits = self.chain.waits().then_some(least);
        let agent = self.agenda.peek().map(|next| next.0.0.max(least));
        waits.into_iter().chain(agent).chain(self.chain.due()).min().filter(|at| *at <= self.end())
    }

    fn act(&mut self, now: Timestamp, what: Wake) {
        match what {
            Wake::Accept(node, lease) => self.accept(node, lease),
            Wake::Tick(node) => self.tick(node, now),
            Wake::Done(node, lease) => self.done(node, lease, now),
            Wake::Stop(node, lease) => self.stop_early(node, lease, now),
            Wake::Rename(node) => self.rename(node, now),
            Wake::Order(user) => self.order(user, now),
            Wake::SeenFailing(user, lease) => self.seen_failing(user, lease, now),
            Wake::Look(user, lease) => self.look(user, lease, now),
            Wake::ObjectAnyway(user, lease) => self.object_anyway(user, lease),
            Wake::Answers => self.answer_audits(),
        }
    }

    fn hear(&mut self, now: Timestamp, event: &Event) {
        match event {
            Event::LeaseMatched { lease, node, .. } => {
                if let Some(at) = self.node_by_id.get(node).copied() {
                    self.wake_exactly(now, Wake::Accept(at, *lease));
                }
            }
            Event::LeaseChanged { lease, account, node, state, .. } => {
                let parties = (self.node_by_id.get(node).copied(), self.user_by_id.get(account).copied());
                match (state, parties) {
                    (LeaseState::Accepted, (Some(node), Some(user))) => self.taken(node, user, *lease, now),
                    (LeaseState::Closing, (Some(node), Some(user))) => self.closing(node, user, *lease, now),
                    _ => {}
                }
            }
            Event::LeaseSettled { lease, settlement, .. } => {
                let Some(service) = self.services.remove(lease) else { return };
                let node = service.node;
                if let (Some(n), Some(u)) = (self.nodes.get_mut(node), self.users.get(service.user)) {
                    n.open.remove(lease);
                    self.tally.settled(&service, settlement, n.serving, u.using);
                }
                self.after_settlement(node, &service, settlement, now);
            }
            Event::OrderEnded { account, cancelled: false, .. } => {
                if let Some(user) = self.user_by_id.get(account).copied() {
                    self.unserved(user, now);
                }
            }
            Event::Audit(event) => self.hear_audit(event, now),
            _ => {}
        }
    }
}

fn new_node(serving: Serving, at: usize, around: u128, dice: &mut Dice) -> Node {
    let provider = Signer::account(seed_of("provider", at as u64));
    let node = Signer::node(seed_of("node", at as u64), provider.account);
    let phase = Millis(dice.below(60) * GRID_MS);
    Node {
        serving,
        accounts: vec![provider.account],
        provider,
        node,
        price_ppm: around * serving.price_ppm() / 1_000_000,
        open: BTreeSet::new(),
        prove_from: 0,
        ticking: false,
        phase,
        ticks: dice.below(6),
        name: 0,
        disputes: 0,
    }
}

fn new_user(using: Using, at: usize, dice: &mut Dice, of: Option<usize>) -> User {
    let signer = Signer::account(seed_of("user", at as u64));
    let watcher = usize::from(using == Using::Deceived);
    User { using, signer, job: Millis(dice.around(config::MEAN_JOB.0)), watcher, avoids: Vec::new(), of }
}

fn genesis(bursts: &Bursts, accounts: Vec<(pasture_types::PublicKey, Amount)>, config: &Config) -> Genesis {
    let mut validators: Vec<GenesisValidator> = bursts
        .witnesses()
        .map(|(key, operator)| GenesisValidator { key: key.0, bls_key: vec![1; 96], bls_pop: vec![2; 48], operator })
        .collect();
    validators.sort_by_key(|v| v.key);
    debug_assert_eq!(validators.len(), usize::from(VALIDATORS));
    Genesis {
        name: "simulation".into(),
        time: START,
        rules_version: RULES_VERSION,
        params: config.params(),
        validators,
        accounts: accounts.into_iter().map(|(key, balance)| GenesisAccount { key, balance }).collect(),
        assets: vec![],
    }
}
