//! A zone in memory that the targets send hostile input to: two users, a provider with a node and an offer, a running
//! lease, a matched one and an order nobody serves.
//!
//! Guarantees: it is the same in every run, so that an input reproduces its crash; [`World::submit`] holds each transaction
//! to all or nothing, and the ledger's own `check` follows. It runs no consensus.

pub mod areas;
pub mod light;
pub mod seeds;
pub mod targets;

use borsh::{BorshDeserialize, BorshSerialize};
use pasture_ledger::{Applied, BlockCtx, Due, Signatures, admit, apply, begin_block, check, end_block, next_due, query};
use pasture_types::genesis::{Genesis, GenesisAccount, GenesisValidator, Params, RULES_VERSION};
use pasture_types::lease::{Countersignature, SignedUsage, Usage};
use pasture_types::market::{AliveCheck, Disclose, Egress, Failover, Fence, OfferTerms, OrderTerms, Rates, Verification};
use pasture_types::proof::{HEARTBEAT_SHARES, Heartbeat, ResourceClass, heartbeat_seed, share_hash};
use pasture_types::state::MemoryState;
use pasture_types::tx::{Action, Auth, ENVELOPE_VERSION, Envelope, NodeDeclaration, TxBody, node_registration_digest, offer_id};
use pasture_types::{
    AccountId, Amount, AssetId, BlobHash, LeaseId, Millis, NodeId, OfferId, OrderId, Resources, SigningKey, Timestamp, ZoneId, ids,
};
use std::sync::LazyLock;

/// When the zone begins.
pub const START: u64 = 1_800_000_000_000;
/// The declared rate of nodes; small, so that honest shares are found quickly.
const HASHES_PER_S: u64 = 20_000;
/// Keys that the targets may act with: two users, the provider, its node, the operator, a second node.
const KEYS: u8 = 6;
/// Most blocks that one wait makes.
const MAX_BLOCKS: usize = 64;
/// First bytes of the keys that a failed transaction may change: single values (fees, tips), balances, lanes.
const FEE_TABLES: [u8; 3] = [0x01, 0x03, 0x04];

/// A key that the targets hold, see [`who`].
#[must_use]
pub fn key(n: u8) -> &'static SigningKey {
    &OURS[usize::from(n % KEYS)].key
}

/// A key with its account, made once: an input takes far less time than a key.
struct Ours {
    key: SigningKey,
    account: AccountId,
}

static OURS: LazyLock<Vec<Ours>> = LazyLock::new(|| {
    let keys = (1..=KEYS).map(|n| SigningKey::from_seed([n; 32]));
    keys.map(|key| Ours { account: key.account(), key }).collect()
});
static ZONE: LazyLock<ZoneId> = LazyLock::new(|| genesis().zone());

fn by_account(account: &AccountId) -> Option<&'static SigningKey> {
    OURS.iter().find(|o| o.account == *account).map(|o| &o.key)
}

fn by_node(node: &NodeId) -> Option<&'static SigningKey> {
    OURS.iter().find(|o| o.key.node_id() == *node).map(|o| &o.key)
}

/// Index of each key, see [`key`].
pub mod who {
    /// Rents.
    pub const USER: u8 = 0;
    /// Rents too.
    pub const OTHER: u8 = 1;
    /// Offers.
    pub const PROVIDER: u8 = 2;
    /// The provider's node.
    pub const NODE: u8 = 3;
    /// Runs the validator.
    pub const OPERATOR: u8 = 4;
    /// A node that is not registered yet.
    pub const SECOND_NODE: u8 = 5;
}

/// What one account does in one transaction of the `ledger` target.
#[derive(Clone, Debug, BorshSerialize, BorshDeserialize)]
pub struct Step {
    /// Which [`key`] acts.
    pub who: u8,
    /// Time that passes before.
    pub wait_ms: u16,
    /// What is done.
    pub actions: Vec<Action>,
}

/// The genesis of the zone.
#[must_use]
pub fn genesis() -> Genesis {
    let account = |n: u8| GenesisAccount { key: key(n).public(), balance: Amount::credits(100) };
    Genesis {
        name: "fuzz".into(),
        time: Timestamp(START),
        rules_version: RULES_VERSION,
        params: Params::dev(),
        validators: vec![GenesisValidator {
            key: [0; 32],
            bls_key: vec![1; 96],
            bls_pop: vec![2; 48],
            operator: key(who::OPERATOR).account(),
        }],
        accounts: vec![account(who::USER), account(who::OTHER), account(who::PROVIDER)],
        assets: vec![],
    }
}

/// A machine of some cores and GiB.
#[must_use]
pub fn resources(cores: u32, gib: u64) -> Resources {
    Resources { cpu_millis: cores * 1000, memory_bytes: gib << 30, disk_bytes: gib << 30, ..Resources::default() }
}

/// What nodes declare.
#[must_use]
pub fn declaration() -> NodeDeclaration {
    NodeDeclaration { resources: resources(4, 8), cpu_hashes_per_s: HASHES_PER_S, cpu_model: "fuzz".into(), arch: "x86_64".into() }
}

/// What nodes offer.
#[must_use]
pub fn offer_terms() -> OfferTerms {
    OfferTerms {
        resources: resources(4, 8),
        rates: Rates { cpu_core: Amount(900_000_000), memory_gib: Amount(100_000_000), ..Rates::default() },
        asset: AssetId::CREDIT,
        region: "eu-west".into(),
        egress: Egress::Open,
        max_duration: Millis::secs(24 * 3600),
        attributes: vec![("disk".into(), "nvme".into())],
        ..OfferTerms::default()
    }
}

/// An order that the offer serves.
#[must_use]
pub fn order_terms(cores: u32) -> OrderTerms {
    OrderTerms {
        resources: resources(cores, 1),
        constraints: vec![],
        max_price_per_hour: Amount::credits(20),
        // Short, so that leases reach their end within the time that an input lets pass.
        max_duration: Millis::secs(30),
        budget: Amount::credits(5),
        asset: AssetId::CREDIT,
        priority: 50,
        verification: Verification::None,
        alive: AliveCheck::Exec,
        failover: Failover::Off,
        fence: Fence::Serve,
        disclose: Disclose::Nobody,
        spec_hash: BlobHash([9; 32]),
        model: None,
        watcher: None,
        preferences: vec![],
        expires: Timestamp(START + 3_600_000),
        ..OrderTerms::default()
    }
}

/// The zone.
#[derive(Clone)]
pub struct World {
    /// Its tables.
    pub state: MemoryState,
    /// Ledger time.
    pub now: Timestamp,
    height: u64,
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

impl World {
    /// The zone after its first blocks.
    ///
    /// # Panics
    /// If the rules refuse what everybody does first.
    #[must_use]
    pub fn new() -> Self {
        let mut w = Self { state: pasture_ledger::genesis(&genesis()), now: Timestamp(START), height: 0 };
        for step in opening() {
            let applied = w.step(step);
            assert!(matches!(applied, Applied::Done { .. }), "{applied:?}");
            w.idle();
        }
        let lease = query::leases_of_account(&w.state, &key(who::USER).account(), None, 8)[0].id;
        let accepted = w.step(Step { who: who::NODE, wait_ms: 10, actions: vec![Action::AcceptLease { lease }] });
        assert!(matches!(accepted, Applied::Done { .. }), "{accepted:?}");
        w
    }

    /// The surroundings of the next block, `ms` after the last.
    fn next_ctx(&mut self, ms: u64) -> BlockCtx {
        let parent_time = self.now;
        self.now = self.now.plus(Millis(ms));
        self.height += 1;
        let randomness = ids::derive("fuzz randomness", &[&self.height.to_be_bytes()]);
        BlockCtx { height: self.height, now: self.now, parent_time, randomness, proposer: [0; 32] }
    }

    /// A block of one transaction, or of none.
    fn block(&mut self, ms: u64, tx: Option<&[u8]>) -> Option<Applied> {
        let ctx = self.next_ctx(ms);
        begin_block(&mut self.state, &ctx);
        let applied = tx.map(|tx| all_or_nothing(&mut self.state, &ctx, tx));
        end_block(&mut self.state, &ctx);
        applied
    }

    /// Holds the tables to the ledger's own invariants; after each transaction and after each wait, not after every empty
    /// block, since it reads everything.
    fn check(&self) {
        if let Err(violations) = check(&self.state) {
            panic!("height {}: {violations:#?}", self.height);
        }
    }

    /// A transaction's bytes on their way through the mempool's check into a block of their own.
    ///
    /// # Panics
    /// If a promise of the ledger is broken.
    pub fn submit(&mut self, tx: &[u8]) -> Applied {
        let applied = self.block(10, Some(tx)).expect("a transaction was given");
        self.check();
        applied
    }

    /// Makes the blocks that are due at once.
    fn idle(&mut self) {
        for _ in 0..MAX_BLOCKS {
            if next_due(&self.state) != Due::Now {
                return;
            }
            self.block(10, None);
        }
        panic!("the zone never comes to rest");
    }

    /// Lets time pass; blocks come when they are due.
    pub fn wait(&mut self, ms: u64) {
        let end = self.now.plus(Millis(ms));
        for _ in 0..MAX_BLOCKS {
            match next_due(&self.state) {
                Due::Now => self.block(10, None),
                Due::At(at) if at <= end => self.block(at.since(self.now).0, None),
                Due::At(_) | Due::Never => break,
            };
        }
        self.now = self.now.max(end);
        self.check();
    }

    /// Does a step: ids that name nothing are led to something that exists, and what a holder of the keys could sign is
    /// signed, so that the rules behind the signatures are reached.
    pub fn step(&mut self, step: Step) -> Applied {
        self.wait(u64::from(step.wait_ms));
        let signer = key(step.who);
        let (account, auth) = match step.who % KEYS {
            who::NODE | who::SECOND_NODE => (key(who::PROVIDER).account(), Auth::Node(signer.node_id())),
            _ => (signer.account(), Auth::Single),
        };
        let actions = step.actions.into_iter().map(|a| self.lead(a)).collect();
        let envelope = self.body(account, auth, actions).sign(signer);
        self.submit(&pasture_types::codec::encode(&envelope))
    }

    /// A body that fits the zone as it is.
    #[must_use]
    pub fn body(&self, account: AccountId, auth: Auth, actions: Vec<Action>) -> TxBody {
        let sender = if let Auth::Node(node) = auth { node.0 } else { account.0 };
        TxBody {
            version: ENVELOPE_VERSION,
            zone: *ZONE,
            account,
            auth,
            lane: 0,
            seq: query::next_seq(&self.state, &sender, 0),
            valid_until: self.now.plus(Millis::secs(60)),
            max_fee: Amount::credits(1),
            tip: Amount::ZERO,
            fee_asset: AssetId::CREDIT,
            fee_payer: None,
            actions,
        }
    }

    /// The same wish, valid in form: zone, version and signatures are set right if a key of ours may sign.
    #[must_use]
    pub fn repair(&self, mut envelope: Envelope) -> Envelope {
        let body = &mut envelope.body;
        body.version = ENVELOPE_VERSION;
        body.zone = *ZONE;
        body.valid_until = self.now.plus(Millis::secs(60));
        let account = body.account;
        let signer = match body.auth {
            Auth::Node(node) => by_node(&node),
            Auth::Single | Auth::Multi | Auth::Delegated(_) => by_account(&account),
        };
        let payer = body.fee_payer.filter(|p| *p != account);
        envelope.signatures.clear();
        if let Some(signer) = signer {
            envelope = envelope.and_sign(account, signer);
        }
        match payer.and_then(|p| by_account(&p).map(|k| (p, k))) {
            Some((payer, signer)) => envelope.and_sign(payer, signer),
            None => envelope,
        }
    }

    fn lease(&self, id: LeaseId) -> LeaseId {
        if query::lease(&self.state, &id).is_some() {
            return id;
        }
        let all = query::leases_of_node(&self.state, &key(who::NODE).node_id(), None, 64);
        all.get(usize::from(id.0[0]) % all.len().max(1)).map_or(id, |l| l.id)
    }

    fn order(&self, id: OrderId) -> OrderId {
        if query::order(&self.state, &id).is_some() {
            return id;
        }
        let all = query::orders_of_account(&self.state, &key(id.0[1] % 2).account(), None, 64);
        all.get(usize::from(id.0[0]) % all.len().max(1)).map_or(id, |o| o.id)
    }

    fn lead(&self, action: Action) -> Action {
        match action {
            Action::CancelOrder { order } => Action::CancelOrder { order: self.order(order) },
            Action::AcceptLease { lease } => Action::AcceptLease { lease: self.lease(lease) },
            Action::RejectLease { lease } => Action::RejectLease { lease: self.lease(lease) },
            Action::CloseLease { lease, reason } => Action::CloseLease { lease: self.lease(lease), reason },
            Action::Object { lease } => Action::Object { lease: self.lease(lease) },
            Action::Extend { lease, duration } => Action::Extend { lease: self.lease(lease), duration },
            Action::RegisterNode { node, declaration, .. } => {
                let ours = (0..KEYS).find(|n| key(*n).node_id() == node);
                register_node(ours.unwrap_or(node.0[0]), declaration)
            }
            Action::PutOffer { node, number, terms } => Action::PutOffer { node: known_node(node), number: number % 4, terms },
            Action::WithdrawOffer { offer } => Action::WithdrawOffer { offer: known_offer(offer) },
            Action::SubmitUsage { usage } => self.signed_usage(*usage),
            Action::SubmitHeartbeat { heartbeat } => Action::SubmitHeartbeat { heartbeat: self.shares(heartbeat) },
            other => self.lead_area(other),
        }
    }

    /// Small numbers of a usage count from where its lease stands: hitting the millisecond by chance takes too long.
    fn in_its_time(&self, mut usage: Usage) -> Usage {
        let Some(lease) = query::lease(&self.state, &usage.lease) else { return usage };
        let Some(zone) = query::zone(&self.state) else { return usage };
        let from = lease.started_at.or(lease.accepted_at).unwrap_or(self.now);
        if usage.started.0 < START {
            usage.started = from.plus(Millis(usage.started.0));
        }
        if usage.epoch < START / 5_000 {
            usage.epoch = usage.epoch.saturating_add(zone.epoch_of(usage.served_until()));
        }
        usage.generation = usage.generation.saturating_add(lease.generation);
        usage
    }

    /// A usage with the signatures it needs; its user confirms it if somebody did.
    fn signed_usage(&self, given: SignedUsage) -> Action {
        let usage = self.in_its_time(Usage { lease: self.lease(given.usage.lease), ..given.usage });
        let node = key(who::NODE);
        let user = query::lease(&self.state, &usage.lease).and_then(|l| by_account(&l.account)).unwrap_or_else(|| key(who::USER));
        let countersignature = given.countersignature.map(|_| Countersignature {
            account: user.account(),
            key: user.public(),
            signature: user.sign(&usage.counter_digest()),
        });
        let node_signature = node.sign(&usage.digest());
        Action::SubmitUsage { usage: Box::new(SignedUsage { usage, node: node.node_id(), node_signature, countersignature }) }
    }

    /// A heartbeat without nonces gets honest ones for an epoch that is open.
    fn shares(&self, given: Heartbeat) -> Heartbeat {
        let open = query::open_epochs(&self.state);
        let Some(epoch) = open.get(usize::try_from(given.epoch).unwrap_or(0) % open.len().max(1)) else { return given };
        if !given.nonces.is_empty() {
            return given;
        }
        let node = known_node(given.node);
        let Some(randomness) = query::epoch_randomness(&self.state, epoch.number) else { return given };
        let seed = heartbeat_seed(&randomness, &node, ResourceClass::Cpu, 0, epoch.number);
        let work = Params::dev().heartbeat_work.0 * HASHES_PER_S / 1000;
        let mut all: Vec<_> = (0..work).map(|n| (share_hash(&seed, n), n)).collect();
        all.sort_unstable();
        let nonces = all.into_iter().take(HEARTBEAT_SHARES).map(|(_, n)| n).collect();
        Heartbeat { node, class: ResourceClass::Cpu, device: 0, epoch: epoch.number, nonces }
    }
}

fn zone_id() -> ZoneId {
    *ZONE
}

fn known_offer(offer: OfferId) -> OfferId {
    let node = key(if offer.0[0].is_multiple_of(2) { who::NODE } else { who::SECOND_NODE }).node_id();
    offer_id(&node, u32::from(offer.0[1] % 4))
}

fn known_node(node: NodeId) -> NodeId {
    key(if node.0[0] % 4 == 3 { who::SECOND_NODE } else { who::NODE }).node_id()
}

fn register_node(n: u8, declaration: NodeDeclaration) -> Action {
    let node = key(n);
    let digest = node_registration_digest(&ZONE, &key(who::PROVIDER).account(), &node.node_id(), &declaration);
    Action::RegisterNode { node: node.node_id(), declaration, node_signature: node.sign(&digest) }
}

/// What everybody does first.
#[must_use]
pub fn opening() -> Vec<Step> {
    let node = key(who::NODE).node_id();
    let place = |cores| Action::PlaceOrder { terms: Box::new(order_terms(cores)) };
    let step = |who, actions| Step { who, wait_ms: 10, actions };
    vec![
        step(
            who::PROVIDER,
            vec![
                Action::RegisterProvider { name: "fuzz".into() },
                register_node(who::NODE, declaration()),
                Action::Stake { amount: Amount::credits(1) },
                Action::PutOffer { node, number: 0, terms: Box::new(offer_terms()) },
            ],
        ),
        step(who::USER, vec![place(1)]),
        step(who::OTHER, vec![place(1), place(64)]),
    ]
}

/// Applies a transaction and holds the ledger to what it promises of one: what was admitted is includable, checking
/// signatures again changes nothing, and what did not happen left no trace.
fn all_or_nothing(state: &mut MemoryState, ctx: &BlockCtx, tx: &[u8]) -> Applied {
    let before = state.clone();
    let admitted = admit(state, ctx.now, tx);
    let applied = apply(state, ctx, tx, Signatures::Verify);
    match &applied {
        Applied::NotIncludable { error, .. } => {
            assert!(*state == before, "not includable ({error}) and yet something changed");
            let next = admitted.as_ref().is_ok_and(|a| a.seq == a.next_seq);
            assert!(!next, "{admitted:?} was admitted as the next of its lane, then: {error}");
        }
        Applied::Failed { error, .. } => {
            assert!(admitted.is_ok(), "{admitted:?}, and yet its fee was taken: {error}");
            for (k, v) in before.0.iter().chain(&state.0) {
                let same = before.0.get(k) == Some(v) && state.0.get(k) == Some(v);
                assert!(same || FEE_TABLES.contains(&k[0]), "failed ({error}) and yet changed {}", hex::encode(k));
            }
        }
        Applied::Done { .. } => assert!(admitted.is_ok(), "{admitted:?}, and yet it was done"),
    }
    if !matches!(applied, Applied::NotIncludable { .. }) {
        let mut again = before;
        assert_eq!(apply(&mut again, ctx, tx, Signatures::Verified), applied);
        assert!(again == *state, "the same transaction on the same state wrote something else");
    }
    applied
}
