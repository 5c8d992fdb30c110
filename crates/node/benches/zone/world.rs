//! The zone: its chain, its keys, and transactions of theirs.

use crate::Plan;
use crate::report::{Failure, say};
use bytes::Bytes;
use futures::executor::block_on;
use pasture_chain::{Chain, Genesis as ChainGenesis, Identity, Limits, Options, Pending, Snapshot, TxOutcome, Validator};
use pasture_ledger::query;
use pasture_light::ValidatorSet;
use pasture_node::{LedgerMachine, trusted_by};
use pasture_rt::{Clock, SystemClock};
use pasture_types::genesis::{Genesis, GenesisAccount, GenesisValidator, Params, RULES_VERSION};
use pasture_types::ids::derive;
use pasture_types::market::{Constraint, Egress, OfferTerms, OrderTerms, Rates};
use pasture_types::tx::{Action, Auth, ENVELOPE_VERSION, NodeDeclaration, TxBody, node_registration_digest, order_id};
use pasture_types::{AccountId, Amount, AssetId, LeaseId, Millis, NodeId, OrderId, Resources, SigningKey, Timestamp, TxId, ZoneId, codec};
use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The rate that nodes declare: small, so that the load generator finds their shares quickly.
pub(crate) const HASHES_PER_S: u64 = 1_000;
/// Threads that hand transactions in, and so check signatures.
const SUBMITTERS: u8 = 2;
/// Transactions under way at any time, for each of them.
const DEPTH: usize = 3_000;
/// How long leases may take to be drawn.
const PATIENCE: Duration = Duration::from_secs(300);
const POLL: Duration = Duration::from_millis(5);
/// Orders of one user that wait at any time: half of what is allowed.
const ORDERS_OF_USER: usize = 32;
/// The most that reaches this size is what a user pays for a day of one core.
const BUDGET: Amount = Amount::credits(30);

/// The system's time, and what was added.
#[derive(Default)]
pub(crate) struct SetForward(AtomicU64);

impl Clock for SetForward {
    fn now_ms(&self) -> u64 {
        SystemClock.now_ms() + self.0.load(Ordering::SeqCst)
    }
}

impl SetForward {
    pub(crate) fn by(&self, ms: Millis) {
        self.0.fetch_add(ms.0, Ordering::SeqCst);
    }
}

/// When the engine reached which point, see `pasture_chain::Options::failpoint`.
#[derive(Default)]
pub(crate) struct Points(Mutex<Vec<(&'static str, Instant)>>);

impl Points {
    fn reached(&self, name: &'static str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((name, Instant::now()));
    }
    pub(crate) fn take(&self) -> Vec<(&'static str, Instant)> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A transaction and who submits it: a lane stays with one thread.
pub(crate) struct Tx {
    by: u8,
    pub(crate) bytes: Bytes,
}

pub(crate) struct NodeKey {
    pub(crate) key: SigningKey,
    pub(crate) id: NodeId,
    pub(crate) owner: AccountId,
}

/// An open lease.
#[derive(Clone, Copy)]
pub(crate) struct Served {
    pub(crate) lease: LeaseId,
    /// Index of its node.
    pub(crate) node: usize,
    /// Index of its user.
    pub(crate) user: usize,
    pub(crate) started: Timestamp,
}

pub(crate) struct World {
    pub(crate) chain: Chain,
    pub(crate) machine: Arc<LedgerMachine>,
    pub(crate) clock: Arc<SetForward>,
    pub(crate) points: Arc<Points>,
    pub(crate) zone: ZoneId,
    pub(crate) trusted: ValidatorSet,
    pub(crate) ledger_dir: PathBuf,
    pub(crate) users: Vec<SigningKey>,
    providers: Vec<SigningKey>,
    pub(crate) nodes: Vec<NodeKey>,
    nodes_each: usize,
    /// Leases that stay open.
    pub(crate) served: Vec<Served>,
    seqs: BTreeMap<([u8; 32], u8), u64>,
    turn: usize,
}

fn keys(what: &str, count: usize) -> Vec<SigningKey> {
    (0..count as u64).map(|n| SigningKey::from_seed(derive("bench key", &[what.as_bytes(), &n.to_le_bytes()]))).collect()
}

fn resources(cores: u32, gib: u64) -> Resources {
    Resources { cpu_millis: cores * 1_000, memory_bytes: gib << 30, disk_bytes: gib << 30, ..Resources::default() }
}

/// What every transaction must have done.
pub(crate) fn applied(outcome: &TxOutcome) -> Result<(), Failure> {
    match outcome {
        TxOutcome::Applied { ok: true, .. } => Ok(()),
        TxOutcome::Applied { message, .. } | TxOutcome::NotIncludable { message, .. } => {
            Err(format!("a transaction failed: {message}").into())
        }
    }
}

fn succeeded(pending: Pending) -> Result<(), Failure> {
    applied(&block_on(pending.finalized())?.outcome)
}

impl World {
    pub(crate) fn start(dir: &Path, plan: Plan) -> Result<Self, Failure> {
        let identity = Identity::from_secret(&[7; 32]).ok_or("the validator's key")?;
        let clock = Arc::new(SetForward::default());
        let (users, providers) = (keys("user", plan.users), keys("provider", plan.providers));
        let nodes = keys("node", plan.nodes()).into_iter().enumerate();
        let own: Validator = identity.validator();
        let rich = |key: &SigningKey| GenesisAccount { key: key.public(), balance: Amount::credits(1_000_000) };
        let operator = SigningKey::from_seed([8; 32]).account();
        let genesis = Genesis {
            name: "bench".into(),
            time: Timestamp(clock.now_ms()),
            rules_version: RULES_VERSION,
            // A production zone; only that a node may take as long to answer and to begin as the load generator makes it wait.
            params: Params { accept_window: Millis::secs(600), start_window: Millis::secs(12 * 3_600), ..Params::production() },
            validators: vec![GenesisValidator { key: own.key, bls_key: own.bls_key.clone(), bls_pop: own.bls_pop.clone(), operator }],
            accounts: users.iter().chain(&providers).map(rich).collect(),
            assets: vec![],
        };
        let (zone, trusted) = (genesis.zone(), trusted_by(&genesis)?);
        let (points, ledger_dir) = (Arc::new(Points::default()), dir.join("ledger"));
        let seen = Arc::clone(&points);
        let options = Options {
            data_dir: ledger_dir.clone(),
            genesis: ChainGenesis {
                zone: zone.0,
                timestamp_ms: genesis.time.0,
                validators: vec![own],
                term_blocks: std::num::NonZeroU64::MIN.saturating_add(255),
                base: None,
            },
            identity,
            network: None,
            signs_from_ms: 0,
            history: Default::default(),
            limits: Limits::default(),
            clock: clock.clone(),
            failpoint: Some(Arc::new(move |name| seen.reached(name))),
        };
        let machine = Arc::new(LedgerMachine::new(genesis));
        let chain = Chain::start(options, machine.clone())?;
        let owner = |n: usize| providers.get(n / plan.nodes_each).map(SigningKey::account);
        let nodes = nodes.filter_map(|(n, key)| Some(NodeKey { id: key.node_id(), owner: owner(n)?, key })).collect();
        let (nodes_each, served, seqs, turn) = (plan.nodes_each, vec![], BTreeMap::new(), 0);
        Ok(Self { chain, machine, clock, points, zone, trusted, ledger_dir, users, providers, nodes, nodes_each, served, seqs, turn })
    }

    pub(crate) fn now(&self) -> Timestamp {
        Timestamp(self.clock.now_ms())
    }

    fn envelope(&mut self, key: &SigningKey, account: AccountId, auth: Auth, lane: u8, actions: Vec<Action>) -> Tx {
        let sender = if let Auth::Node(node) = auth { node.0 } else { account.0 };
        let next = self.seqs.entry((sender, lane)).or_default();
        let seq = *next;
        *next += 1;
        let body = TxBody {
            version: ENVELOPE_VERSION,
            zone: self.zone,
            account,
            auth,
            lane,
            seq,
            valid_until: self.now().plus(Millis::secs(6 * 3_600)),
            max_fee: Amount::credits(10),
            tip: Amount::ZERO,
            fee_asset: AssetId::CREDIT,
            fee_payer: None,
            actions,
        };
        Tx { by: sender.first().copied().unwrap_or_default() % SUBMITTERS, bytes: codec::encode(&body.sign(key)).into() }
    }

    /// A transaction of a user.
    pub(crate) fn by_user(&mut self, user: usize, lane: u8, actions: Vec<Action>) -> Result<Tx, Failure> {
        let key = self.users.get(user).ok_or("no such user")?.clone();
        let account = key.account();
        Ok(self.envelope(&key, account, Auth::Single, lane, actions))
    }

    /// A transaction of a node.
    pub(crate) fn by_node(&mut self, node: usize, lane: u8, actions: Vec<Action>) -> Result<Tx, Failure> {
        let node = self.nodes.get(node).ok_or("no such node")?;
        let (key, id, owner) = (node.key.clone(), node.id, node.owner);
        Ok(self.envelope(&key, owner, Auth::Node(id), lane, actions))
    }

    /// Forgets numbers that were used in a block that was thrown away.
    pub(crate) fn rewind(&mut self) -> Result<(), Failure> {
        let state = self.chain.state()?;
        for ((sender, lane), next) in &mut self.seqs {
            *next = query::next_seq(&state, sender, *lane);
        }
        Ok(())
    }

    /// Providers register with all their nodes, and each node offers.
    pub(crate) fn register(&mut self) -> Result<(), Failure> {
        say(&format!("{} nodes and offers ...", self.nodes.len()));
        let declaration = NodeDeclaration {
            resources: resources(128, 256),
            cpu_hashes_per_s: HASHES_PER_S,
            cpu_model: "bench".into(),
            arch: "x86_64".into(),
        };
        let mut txs = vec![];
        for (at, key) in self.providers.clone().iter().enumerate() {
            let account = key.account();
            let mut actions =
                vec![Action::RegisterProvider { name: format!("provider {at}") }, Action::Stake { amount: Amount::credits(10_000) }];
            for node in self.nodes.iter().skip(at * self.nodes_each).take(self.nodes_each) {
                let digest = node_registration_digest(&self.zone, &account, &node.id, &declaration);
                let node_signature = node.key.sign(&digest);
                actions.push(Action::RegisterNode { node: node.id, declaration: declaration.clone(), node_signature });
                actions.push(Action::PutOffer { node: node.id, number: 0, terms: Box::new(offer(at)) });
            }
            txs.push(self.envelope(key, account, Auth::Single, 0, actions));
        }
        self.submit(&txs)?;
        Ok(())
    }

    /// Hands transactions in, as many at a time as it takes, and waits for all of them; how long that took.
    pub(crate) fn submit(&self, txs: &[Tx]) -> Result<Duration, Failure> {
        let begun = Instant::now();
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..SUBMITTERS).map(|by| scope.spawn(move || self.submit_share(txs, by))).collect();
            workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| "a submitter panicked")?)
        })?;
        Ok(begun.elapsed())
    }

    fn submit_share(&self, txs: &[Tx], by: u8) -> Result<(), Failure> {
        let mut under_way = VecDeque::new();
        for tx in txs.iter().filter(|tx| tx.by == by) {
            if under_way.len() >= DEPTH
                && let Some(oldest) = under_way.pop_front()
            {
                succeeded(oldest)?;
            }
            under_way.push_back(self.chain.submit(tx.bytes.clone())?);
        }
        under_way.into_iter().try_for_each(succeeded)
    }

    /// A lone transfer, in milliseconds until it is final.
    pub(crate) fn lone_transfer(&mut self) -> Result<f64, Failure> {
        let tx = self.transfer()?;
        let begun = Instant::now();
        succeeded(self.chain.submit(tx.bytes)?)?;
        Ok(crate::millis(begun.elapsed()))
    }

    /// The next transfer, round and round over users and some lanes.
    pub(crate) fn transfer(&mut self) -> Result<Tx, Failure> {
        self.turn += 1;
        let from = self.turn % self.users.len();
        let to = self.users.get((from + 1 + self.turn / self.users.len()) % self.users.len()).ok_or("no such user")?.account();
        let lane = u8::try_from(self.turn / self.users.len() % 4)?;
        self.by_user(from, lane, vec![Action::Transfer { to, asset: AssetId::CREDIT, amount: Amount(1) }])
    }

    /// Opens one more lease on each of some nodes, which take it.
    pub(crate) fn lease_on(&mut self, nodes: std::ops::Range<usize>) -> Result<(), Failure> {
        let all: Vec<usize> = nodes.collect();
        for some in all.chunks(self.users.len() * ORDERS_OF_USER) {
            let mut orders = vec![];
            let mut txs = vec![];
            for (n, node) in some.iter().enumerate() {
                let user = n % self.users.len();
                let only = self.nodes.get(*node).ok_or("no such node")?.id;
                let tx = self.by_user(user, 10, vec![Action::PlaceOrder { terms: Box::new(order(self.now(), Some(only))) }])?;
                orders.push((order_of(&tx.bytes)?, *node, user));
                txs.push(tx);
            }
            self.submit(&txs)?;
            let leases = self.drawn(&orders)?;
            let mut accepts = vec![];
            for ((_, node, _), lease) in orders.iter().zip(&leases) {
                accepts.push(self.by_node(*node, 0, vec![Action::AcceptLease { lease: *lease }])?);
            }
            self.submit(&accepts)?;
            let state = self.chain.state()?;
            for ((_, node, user), lease) in orders.into_iter().zip(leases) {
                let started = query::lease(&state, &lease).and_then(|l| l.accepted_at).ok_or("a lease was not taken")?;
                self.served.push(Served { lease, node, user, started });
            }
        }
        Ok(())
    }

    /// Waits until every order has its lease.
    fn drawn(&self, orders: &[(OrderId, usize, usize)]) -> Result<Vec<LeaseId>, Failure> {
        let begun = Instant::now();
        loop {
            let state: Snapshot = self.chain.state()?;
            let leases: Option<Vec<LeaseId>> =
                orders.iter().map(|(order, ..)| query::lease_of_order(&state, order).map(|lease| lease.id)).collect();
            if let Some(leases) = leases {
                return Ok(leases);
            }
            if begun.elapsed() > PATIENCE {
                return Err("orders are not drawn".into());
            }
            std::thread::sleep(POLL);
        }
    }
}

/// The order that a transaction places.
pub(crate) fn order_of(tx: &[u8]) -> Result<OrderId, Failure> {
    let envelope: pasture_types::tx::Envelope = codec::decode(tx, pasture_types::tx::MAX_TX_BYTES)?;
    let id: TxId = envelope.body.id();
    Ok(order_id(&id, 0))
}

/// Offers differ a little in price, so that there is something to rank.
fn offer(n: usize) -> OfferTerms {
    let rates = Rates { cpu_core: Amount(800_000_000 + n as u128 * 100_000), memory_gib: Amount(50_000_000), ..Rates::default() };
    OfferTerms {
        resources: resources(128, 256),
        rates,
        asset: AssetId::CREDIT,
        region: "eu-west".into(),
        egress: Egress::Open,
        max_duration: Millis::secs(24 * 3_600),
        ..OfferTerms::default()
    }
}

/// A core for a day, anywhere or on one node.
pub(crate) fn order(now: Timestamp, only: Option<NodeId>) -> OrderTerms {
    OrderTerms {
        resources: resources(1, 1),
        constraints: only.map(Constraint::Node).into_iter().collect(),
        max_price_per_hour: Amount::credits(2),
        max_duration: Millis::secs(12 * 3_600),
        budget: BUDGET,
        expires: now.plus(Millis::secs(3_600)),
        ..OrderTerms::default()
    }
}
