//! Ten thousand nodes and a hundred thousand leases at once, on the ledger alone: how much memory and time that takes.
//!
//! ```text
//!  join ─► orders ─► matches ─► accepts ─► all leases open at once ─► heartbeats, usage ─► closes ─► settlements
//! ```
//! Guarantees: **an oracle orders the blocks in place of the engine** ([`crate::chain`]): there is no consensus here, and no network. All
//! else is the ledger's own code, within the limits of its blocks; every invariant is checked several times on the way and at the end. A
//! part of nodes and users is dishonest. A seed repeats a run.

use crate::SimError;
use crate::chain::{BLOCK_GAP, Chain, Signer};
use crate::config::CORE_HASHES;
use crate::dice::Dice;
use crate::world::{START, seed_of};
use pasture_ledger::query;
use pasture_types::audit::{AuditAction, HeartbeatBundle, MAX_BUNDLED_EPOCHS, PackedShares};
use pasture_types::event::Event;
use pasture_types::genesis::{Genesis, GenesisAccount, GenesisValidator, Params, RULES_VERSION};
use pasture_types::lease::{Countersignature, EndReason, LeaseState, SignedUsage, Usage};
use pasture_types::market::{Constraint, OfferTerms, OrderTerms, Rates};
use pasture_types::proof::{HEARTBEAT_SHARES, ResourceClass, heartbeat_seed, share_hash, threshold};
use pasture_types::tx::{Action, NodeDeclaration, node_registration_digest};
use pasture_types::{AccountId, Amount, BlobHash, LeaseId, Millis, NodeId, Resources, Timestamp};
use serde::Serialize;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// Nodes of a region: what a draw looks at.
const PER_REGION: usize = 50;
/// Leases of a user: as many as orders may be open.
const PER_USER: usize = 50;
/// Orders in one transaction, and such transactions at a time.
const PER_ORDER_TX: usize = 10;
const ORDER_TXS: usize = 11;
/// Machines that a node has to spare beyond its part of the leases: stalled orders find another node.
const SPARE: u32 = 2;
const PURSE: Amount = Amount::credits(100_000);
const STAKE: Amount = Amount::credits(10_000);
const VALIDATORS: u8 = 4;
/// Of a hundred nodes, so many never prove.
const NO_PROOF_PERCENT: u64 = 2;
/// Of a hundred users, so many confirm nothing and object at the end.
const OBJECTS_PERCENT: u64 = 2;
/// How long a job runs after the last lease is open.
const JOB: Millis = Millis(240_000);
/// How often every invariant is checked: after so much of the way.
const CHECK_EVERY_PERCENT: u64 = 25;
/// Blocks in which nothing new may happen before a run is given up.
const MAX_IDLE_BLOCKS: u64 = 20_000;

/// How large.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Provider nodes, each of its own provider.
    pub nodes: usize,
    /// Leases that are open at once.
    pub leases: usize,
    /// What all chance comes from.
    pub seed: u64,
}

/// What a run came to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Scale {
    /// Who orders the blocks.
    pub ordering: &'static str,
    /// Provider nodes.
    pub nodes: usize,
    /// Users.
    pub users: usize,
    /// Leases that were settled.
    pub leases: u64,
    /// Most that were taken and not settled at one time.
    pub open_at_once: u64,
    /// Of the settled, those whose provider was paid.
    pub paid: u64,
    /// Blocks.
    pub blocks: u64,
    /// Transactions.
    pub transactions: u64,
    /// Transactions that the ledger refused, by code.
    pub refused: Vec<(u16, u64, String)>,
    /// Virtual time.
    pub virtual_ms: u64,
    /// Keys of the state, at most.
    pub keys: usize,
    /// How often every invariant of the ledger was checked.
    pub checks: u32,
}

/// What somebody does next.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Wake {
    Prove(usize),
    Accept(usize, LeaseId),
    Close(usize, LeaseId),
    Object(usize, LeaseId),
}

struct Node {
    provider: Signer,
    node: Signer,
    proves: bool,
    open: u32,
    ticking: bool,
    prove_from: u64,
}

struct User {
    signer: Signer,
    objects: bool,
}

/// A run under way.
pub struct Fair {
    size: Size,
    /// The ledger and its blocks.
    pub chain: Chain,
    nodes: Vec<Node>,
    users: Vec<User>,
    node_by_id: BTreeMap<NodeId, usize>,
    user_by_id: BTreeMap<AccountId, usize>,
    agenda: BinaryHeap<Reverse<(Timestamp, u64, Wake)>>,
    turn: u64,
    dice: Dice,
    open: BTreeMap<LeaseId, (usize, Timestamp)>,
    /// Orders that were sent.
    ordered: usize,
    /// When all leases were open, if they are.
    full: Option<Timestamp>,
    report: Scale,
}

fn resources(times: u32) -> Resources {
    Resources { cpu_millis: 1_000 * times, memory_bytes: u64::from(times) << 30, ..Resources::default() }
}

fn params() -> Params {
    Params { max_lease: Millis(4 * 3_600_000), heartbeat_work: Millis(100), min_stake: Amount::credits(100), ..Params::production() }
}

fn epoch_of(at: Timestamp) -> u64 {
    at.since(START).0 / params().epoch.0
}

fn region(node: usize) -> String {
    format!("r{}", node / PER_REGION)
}

impl Fair {
    /// Everybody at the beginning.
    #[must_use]
    pub fn new(size: Size) -> Self {
        let mut dice = Dice::new(size.seed);
        let node = |dice: &mut Dice, n: usize| {
            let provider = Signer::account(seed_of("provider", n as u64));
            let node = Signer::node(seed_of("node", n as u64), provider.account);
            Node { provider, node, proves: dice.below(100) >= NO_PROOF_PERCENT, open: 0, ticking: false, prove_from: 0 }
        };
        let nodes: Vec<Node> = (0..size.nodes).map(|n| node(&mut dice, n)).collect();
        let user = |dice: &mut Dice, n: usize| User {
            signer: Signer::account(seed_of("user", n as u64)),
            objects: dice.below(100) < OBJECTS_PERCENT,
        };
        let users: Vec<User> = (0..size.leases.div_ceil(PER_USER)).map(|n| user(&mut dice, n)).collect();
        let everybody = nodes.iter().map(|n| n.provider.public()).chain(users.iter().map(|u| u.signer.public()));
        let genesis = Genesis {
            name: "scale".into(),
            time: START,
            rules_version: RULES_VERSION,
            params: params(),
            validators: validators(),
            accounts: everybody.map(|key| GenesisAccount { key, balance: PURSE }).collect(),
            assets: vec![],
        };
        let report = Scale {
            ordering: "an oracle orders the blocks in place of the engine",
            nodes: nodes.len(),
            users: users.len(),
            leases: 0,
            open_at_once: 0,
            paid: 0,
            blocks: 0,
            transactions: 0,
            refused: vec![],
            virtual_ms: 0,
            keys: 0,
            checks: 0,
        };
        Self {
            size,
            chain: Chain::new(&genesis, size.seed, false),
            node_by_id: nodes.iter().enumerate().map(|(at, n)| (n.node.node_id(), at)).collect(),
            user_by_id: users.iter().enumerate().map(|(at, u)| (u.signer.account, at)).collect(),
            nodes,
            users,
            agenda: BinaryHeap::new(),
            turn: 0,
            dice,
            open: BTreeMap::new(),
            ordered: 0,
            full: None,
            report,
        }
    }

    /// Leases that are taken and not settled.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open.len()
    }

    /// Leases that were settled.
    #[must_use]
    pub const fn settled(&self) -> u64 {
        self.report.leases
    }

    fn wake(&mut self, at: Timestamp, what: Wake) {
        self.turn += 1;
        self.agenda.push(Reverse((at, self.turn, what)));
    }

    /// Runs until every lease is settled; `progress` hears of each thousandth block.
    ///
    /// # Errors
    /// A violation of the ledger's invariants, or a run that does not come to an end.
    pub fn run(mut self, progress: &mut dyn FnMut(&Self)) -> Result<Scale, SimError> {
        self.join();
        let (mut idle, mut next_check) = (0, CHECK_EVERY_PERCENT);
        while self.report.leases < self.size.leases as u64 {
            let before = (self.chain.transactions, self.report.leases);
            self.step();
            idle = if before == (self.chain.transactions, self.report.leases) { idle + 1 } else { 0 };
            if idle > MAX_IDLE_BLOCKS {
                return Err(SimError::Endless(self.chain.height));
            }
            if self.percent() >= next_check {
                self.check()?;
                next_check += CHECK_EVERY_PERCENT;
            }
            if self.chain.height.is_multiple_of(1_000) {
                progress(&self);
            }
        }
        self.check()?;
        progress(&self);
        let refused = self.chain.refused.iter().map(|(code, (times, why))| (*code, *times, why.clone())).collect();
        let virtual_ms = self.chain.now.since(START).0;
        Ok(Scale { blocks: self.chain.height, transactions: self.chain.transactions, refused, virtual_ms, ..self.report })
    }

    /// How far the run is: a hundred when all leases are open, two hundred when all are settled.
    fn percent(&self) -> u64 {
        let done = if self.full.is_none() { self.open.len() as u64 } else { self.size.leases as u64 + self.report.leases };
        done * 100 / self.size.leases.max(1) as u64
    }

    fn check(&mut self) -> Result<(), SimError> {
        self.report.checks += 1;
        match self.chain.violations().first() {
            Some(v) => Err(SimError::Invariant { rule: v.rule, height: self.chain.height, detail: v.detail.clone() }),
            None => Ok(()),
        }
    }

    /// One block, and what follows from it.
    fn step(&mut self) {
        let least = self.chain.now.plus(BLOCK_GAP);
        let waits = self.chain.waits().then_some(least);
        let agent = self.agenda.peek().map(|next| next.0.0.max(least));
        let at = waits.into_iter().chain(agent).chain(self.chain.due()).min().unwrap_or(least);
        while let Some(Reverse((_, _, what))) = self.agenda.peek().filter(|next| next.0.0 <= at).copied() {
            self.agenda.pop();
            self.act(what);
        }
        for event in self.chain.block(at) {
            self.hear(at, &event);
        }
        self.report.keys = self.report.keys.max(self.chain.state.len());
        // A node that is drawn has two seconds to answer: its answer must not wait behind orders that nobody draws yet.
        if !self.chain.waits() {
            self.order();
        }
        if self.full.is_none() && self.report.leases == 0 && self.open.len() >= self.size.leases {
            self.full = Some(at);
            self.end_all(at);
        }
    }

    /// Providers with their nodes and offers.
    fn join(&mut self) {
        let slots = u32::try_from(self.size.leases.div_ceil(self.size.nodes.max(1))).unwrap_or(1) + SPARE;
        for (at, n) in self.nodes.iter().enumerate() {
            let (node, resources) = (n.node.node_id(), resources(slots));
            let declaration = NodeDeclaration {
                resources: resources.clone(),
                cpu_hashes_per_s: CORE_HASHES,
                cpu_model: "simulated".into(),
                arch: "x86_64".into(),
            };
            let digest = node_registration_digest(&self.chain.zone, &n.provider.account, &node, &declaration);
            let rates = Rates { cpu_core: Amount(900_000_000), memory_gib: Amount(100_000_000), ..Rates::default() };
            let terms = OfferTerms { resources, rates, region: region(at), max_duration: Millis(3 * 3_600_000), ..OfferTerms::default() };
            let actions = vec![
                Action::RegisterProvider { name: format!("provider {at}") },
                Action::RegisterNode { node, declaration, node_signature: n.node.key.sign(&digest) },
                Action::Stake { amount: STAKE },
                Action::PutOffer { node, number: 0, terms: Box::new(terms) },
            ];
            self.chain.send(&n.provider.clone(), actions);
        }
    }

    /// As many orders as a block or two can draw: each goes to the region of another node.
    fn order(&mut self) {
        let expires = self.chain.now.plus(Millis(3 * 3_600_000));
        for _ in 0..ORDER_TXS {
            let (at, left) = (self.ordered / PER_USER, self.size.leases - self.ordered);
            let many = PER_ORDER_TX.min(left).min(PER_USER - self.ordered % PER_USER);
            let Some(user) = self.users.get(at).filter(|_| many > 0) else { return };
            let orders = (0..many).map(|n| order(region((self.ordered + n) % self.size.nodes.max(1)), expires)).collect();
            self.chain.send(&user.signer.clone(), orders);
            self.ordered += many;
        }
    }

    /// Every job ends at a time of its own.
    fn end_all(&mut self, now: Timestamp) {
        let ends: Vec<(Timestamp, Wake)> =
            self.open.iter().map(|(id, (node, _))| (now.plus(Millis(JOB.0 + self.dice.below(JOB.0))), Wake::Close(*node, *id))).collect();
        for (at, what) in ends {
            self.wake(at, what);
        }
    }

    fn act(&mut self, what: Wake) {
        match what {
            Wake::Prove(at) => self.prove(at),
            Wake::Accept(at, lease) => {
                if let Some(n) = self.nodes.get(at) {
                    self.chain.send(&n.node.clone(), vec![Action::AcceptLease { lease }]);
                }
            }
            Wake::Close(at, lease) => self.close(at, lease),
            Wake::Object(at, lease) => {
                if let Some(u) = self.users.get(at) {
                    self.chain.send(&u.signer.clone(), vec![Action::Object { lease }]);
                }
            }
        }
    }

    fn hear(&mut self, now: Timestamp, event: &Event) {
        match event {
            Event::LeaseMatched { lease, node, .. } => {
                if let Some(at) = self.node_by_id.get(node).copied() {
                    self.wake(now, Wake::Accept(at, *lease));
                }
            }
            Event::LeaseChanged { lease, node, account, state, .. } => {
                let Some(at) = self.node_by_id.get(node).copied() else { return };
                match state {
                    LeaseState::Accepted => self.taken(at, *lease, now),
                    LeaseState::Closing => {
                        let user = self.user_by_id.get(account).copied().filter(|at| self.users.get(*at).is_some_and(|u| u.objects));
                        if let Some(user) = user {
                            self.wake(now, Wake::Object(user, *lease));
                        }
                    }
                    _ => {}
                }
            }
            Event::LeaseSettled { lease, settlement, .. } => {
                self.report.leases += 1;
                self.report.paid += u64::from(!settlement.to_provider.is_zero());
                if let Some((at, _)) = self.open.remove(lease)
                    && let Some(n) = self.nodes.get_mut(at)
                {
                    n.open = n.open.saturating_sub(1);
                }
            }
            _ => {}
        }
    }

    fn taken(&mut self, at: usize, lease: LeaseId, now: Timestamp) {
        self.open.insert(lease, (at, now));
        self.report.open_at_once = self.report.open_at_once.max(self.open.len() as u64);
        let Some(n) = self.nodes.get_mut(at) else { return };
        n.open += 1;
        if n.ticking || !n.proves {
            return;
        }
        n.ticking = true;
        n.prove_from = epoch_of(now);
        let phase = Millis(self.dice.below(params().epoch.0));
        self.wake(now.plus(phase), Wake::Prove(at));
    }

    /// Proves all periods that began since the last time, in bundles.
    fn prove(&mut self, at: usize) {
        let to = epoch_of(self.chain.now);
        let round = Millis(params().epoch.0 * (MAX_BUNDLED_EPOCHS as u64 - 1));
        let Some(n) = self.nodes.get(at) else { return };
        let (mut from, signer, open) = (n.prove_from, n.node.clone(), n.open);
        while from <= to && open > 0 {
            let last = to.min(from + MAX_BUNDLED_EPOCHS as u64 - 1);
            let node = signer.node_id();
            let shares = (from..=last).map(|epoch| self.shares(&node, epoch)).collect();
            let bundle = HeartbeatBundle { node, class: ResourceClass::Cpu, device: 0, first: from, shares };
            self.chain.send(&signer, vec![Action::Audit(Box::new(AuditAction::Heartbeats(bundle)))]);
            from = last + 1;
        }
        if let Some(n) = self.nodes.get_mut(at) {
            n.prove_from = from;
            n.ticking = open > 0;
        }
        if open > 0 {
            self.wake(self.chain.now.plus(round), Wake::Prove(at));
        }
    }

    fn shares(&self, node: &NodeId, epoch: u64) -> PackedShares {
        let Some(randomness) = query::epoch_randomness(&self.chain.state, epoch) else { return PackedShares::default() };
        let seed = heartbeat_seed(&randomness, node, ResourceClass::Cpu, 0, epoch);
        let limit = threshold(CORE_HASHES, params().heartbeat_work);
        let good: Vec<u64> = (0..).filter(|n| share_hash(&seed, *n) <= limit).take(HEARTBEAT_SHARES).collect();
        PackedShares::pack(&good).unwrap_or_default()
    }

    /// A job is over: its node says so, and its user confirms what it saw.
    fn close(&mut self, at: usize, lease: LeaseId) {
        let (Some(n), Some((_, started))) = (self.nodes.get(at), self.open.get(&lease)) else { return };
        let record = query::lease(&self.chain.state, &lease);
        let user = record.and_then(|l| self.user_by_id.get(&l.account)).and_then(|at| self.users.get(*at));
        let Some(user) = user else { return };
        let served = self.chain.now.since(*started);
        let usage = Usage {
            lease,
            generation: 1,
            epoch: epoch_of(started.plus(served)),
            started: *started,
            served_ms: served,
            build_ms: Millis(0),
            log_root: BlobHash([0; 32]),
            log_bytes: 0,
            steal_ms: Millis(0),
        };
        let by = &user.signer;
        let countersignature = (!user.objects).then(|| Countersignature {
            account: by.account,
            key: by.public(),
            signature: by.key.sign(&usage.counter_digest()),
        });
        let signed = SignedUsage { node_signature: n.node.key.sign(&usage.digest()), node: n.node.node_id(), usage, countersignature };
        let actions =
            vec![Action::SubmitUsage { usage: Box::new(signed) }, Action::CloseLease { lease, reason: EndReason::Exited { code: 0 } }];
        self.chain.send(&n.node.clone(), actions);
    }
}

fn order(region: String, expires: Timestamp) -> Action {
    let terms = OrderTerms {
        resources: resources(1),
        constraints: vec![Constraint::Region(region)],
        max_price_per_hour: Amount::credits(2),
        max_duration: Millis(3 * 3_600_000),
        budget: Amount::credits(100),
        spec_hash: BlobHash([9; 32]),
        expires,
        ..OrderTerms::default()
    };
    Action::PlaceOrder { terms: Box::new(terms) }
}

fn validators() -> Vec<GenesisValidator> {
    let one = |n: u8| {
        let operator = Signer::account(seed_of("operator", u64::from(n)));
        let key = Signer::node(seed_of("validator", u64::from(n)), operator.account).node_id().0;
        GenesisValidator { key, bls_key: vec![1; 96], bls_pop: vec![2; 48], operator: operator.account }
    };
    let mut all: Vec<GenesisValidator> = (0..VALIDATORS).map(one).collect();
    all.sort_by_key(|v| v.key);
    all
}
