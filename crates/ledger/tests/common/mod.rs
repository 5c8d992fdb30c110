//! A zone in memory with virtual time: one user, one provider with a node, blocks on demand.
//!
//! Guarantees: every block ends with `check`; a transaction goes through `admit` and `apply` like in a node.
//! It runs no consensus.

#![allow(dead_code, unreachable_pub)]

use pasture_ledger::*;
use pasture_types::event::Event;
use pasture_types::genesis::{Genesis, GenesisAccount, GenesisValidator, Params, RULES_VERSION};
use pasture_types::lease::{Countersignature, EndReason, SignedUsage, Usage};
use pasture_types::market::*;
use pasture_types::proof::{HEARTBEAT_SHARES, Heartbeat, ResourceClass, heartbeat_seed, share_hash};
use pasture_types::state::MemoryState;
use pasture_types::tx::*;
use pasture_types::*;
use std::collections::BTreeMap;

pub const START: u64 = 1_800_000_000_000;
pub const HASHES_PER_S: u64 = 20_000;

pub fn key(n: u8) -> SigningKey {
    SigningKey::from_seed([n; 32])
}

pub struct World {
    pub state: MemoryState,
    pub genesis: Genesis,
    pub now: Timestamp,
    pub height: u64,
    pub seqs: BTreeMap<([u8; 32], u8), u64>,
    pub events: Vec<Event>,
    pub user: SigningKey,
    pub provider: SigningKey,
    pub node: SigningKey,
    pub operator: SigningKey,
}

pub fn resources(cores: u32, gib: u64) -> Resources {
    Resources { cpu_millis: cores * 1000, memory_bytes: gib << 30, disk_bytes: gib << 30, ..Resources::default() }
}

/// One core and one GiB cost 1.0 credit an hour: 0.9 for the core, 0.1 for the memory.
pub fn rates() -> Rates {
    Rates { cpu_core: Amount(900_000_000), memory_gib: Amount(100_000_000), ..Rates::default() }
}

pub fn offer_terms() -> OfferTerms {
    OfferTerms {
        resources: resources(4, 8),
        rates: rates(),
        asset: AssetId::CREDIT,
        region: "eu-west".into(),
        egress: Egress::Open,
        max_duration: Millis::secs(24 * 3600),
        ..OfferTerms::default()
    }
}

pub fn declaration() -> NodeDeclaration {
    NodeDeclaration { resources: resources(4, 8), cpu_hashes_per_s: HASHES_PER_S, cpu_model: "test".into(), arch: "x86_64".into() }
}

impl World {
    pub fn new() -> Self {
        Self::with(Params::dev(), 1)
    }

    pub fn with(params: Params, validators: u8) -> Self {
        let (user, provider, node, operator) = (key(1), key(2), key(3), key(4));
        let account = |k: &SigningKey, credits| GenesisAccount { key: k.public(), balance: Amount::credits(credits) };
        let genesis = Genesis {
            name: "test".into(),
            time: Timestamp(START),
            rules_version: RULES_VERSION,
            params,
            validators: (0..validators)
                .map(|v| GenesisValidator { key: [v; 32], bls_key: vec![1; 96], bls_pop: vec![2; 48], operator: operator.account() })
                .collect(),
            accounts: vec![account(&user, 100), account(&provider, 100)],
            assets: vec![],
        };
        let state = pasture_ledger::genesis(&genesis);
        let now = Timestamp(START);
        Self { state, genesis, now, height: 0, seqs: BTreeMap::new(), events: vec![], user, provider, node, operator }
    }

    /// A world with a provider whose offer can be drawn.
    pub fn offered() -> Self {
        let mut w = Self::new();
        w.offer();
        w
    }

    pub fn offer(&mut self) -> OfferId {
        let provider = self.provider.clone();
        let node = self.node.clone();
        self.act(
            &provider,
            vec![
                Action::RegisterProvider { name: "p".into() },
                self.register_node(&provider, &node, declaration()),
                Action::Stake { amount: Amount::credits(1) },
                Action::PutOffer { node: node.node_id(), number: 0, terms: Box::new(offer_terms()) },
            ],
        )
        .unwrap();
        self.idle();
        offer_id(&node.node_id(), 0)
    }

    pub fn register_node(&self, provider: &SigningKey, node: &SigningKey, declaration: NodeDeclaration) -> Action {
        let digest = node_registration_digest(&self.genesis.zone(), &provider.account(), &node.node_id(), &declaration);
        Action::RegisterNode { node: node.node_id(), declaration, node_signature: node.sign(&digest) }
    }

    pub fn body(&mut self, account: AccountId, auth: Auth, actions: Vec<Action>) -> TxBody {
        let owner = match auth {
            Auth::Node(n) => n.0,
            Auth::Delegated(g) => g.0,
            _ => account.0,
        };
        TxBody {
            version: ENVELOPE_VERSION,
            zone: self.genesis.zone(),
            account,
            auth,
            lane: 0,
            seq: query::next_seq(&self.state, &owner, 0),
            valid_until: self.now.plus(Millis::secs(60)),
            max_fee: Amount::credits(1),
            tip: Amount::ZERO,
            fee_asset: AssetId::CREDIT,
            fee_payer: None,
            actions,
        }
    }

    pub fn ctx(&mut self, ms: u64) -> BlockCtx {
        let parent_time = self.now;
        self.now = self.now.plus(Millis(ms));
        self.height += 1;
        let randomness = ids::derive("test randomness", &[&self.height.to_be_bytes()]);
        // The validators of the beginning take turns: draws wait for blocks of several proposers.
        let turn = usize::try_from(self.height).unwrap() % self.genesis.validators.len().max(1);
        let proposer = self.genesis.validators.get(turn).map_or([0; 32], |v| v.key);
        BlockCtx { height: self.height, now: self.now, parent_time, randomness, proposer }
    }

    /// One block, `ms` after the last, with these transactions.
    pub fn block(&mut self, ms: u64, txs: &[Vec<u8>]) -> Vec<Applied> {
        let ctx = self.ctx(ms);
        let mut events = begin_block(&mut self.state, &ctx);
        let mut out = vec![];
        for tx in txs {
            let applied = apply(&mut self.state, &ctx, tx, Signatures::Verify);
            if let Applied::Done { events: more, .. } = &applied {
                events.extend(more.clone());
            }
            out.push(applied);
        }
        events.extend(end_block(&mut self.state, &ctx));
        self.events.extend(events);
        if let Err(violations) = check(&self.state) {
            panic!("height {}: {violations:#?}", self.height);
        }
        out
    }

    /// Sends an envelope through the mempool's check into a block of its own, 10 ms after the last.
    pub fn send(&mut self, envelope: &Envelope) -> Result<Vec<Event>, TxError> {
        let bytes = codec::encode(envelope);
        let admitted = admit(&self.state, self.now, &bytes)?;
        assert_eq!(admitted.id, envelope.body.id());
        match self.block(10, &[bytes]).remove(0) {
            Applied::Done { events, .. } => Ok(events),
            Applied::Failed { error, .. } | Applied::NotIncludable { error, .. } => Err(error),
        }
    }

    pub fn act(&mut self, key: &SigningKey, actions: Vec<Action>) -> Result<Vec<Event>, TxError> {
        let envelope = self.body(key.account(), Auth::Single, actions).sign(key);
        self.send(&envelope)
    }

    /// Acts with the node's key.
    pub fn node_act(&mut self, actions: Vec<Action>) -> Result<Vec<Event>, TxError> {
        let node = self.node.clone();
        let provider = self.provider.account();
        let envelope = self.body(provider, Auth::Node(node.node_id()), actions).sign(&node);
        self.send(&envelope)
    }

    pub fn user_act(&mut self, actions: Vec<Action>) -> Result<Vec<Event>, TxError> {
        let user = self.user.clone();
        self.act(&user, actions)
    }

    /// Makes the blocks that are due at once.
    pub fn idle(&mut self) {
        for _ in 0..64 {
            match next_due(&self.state) {
                Due::Now => self.block(10, &[]),
                Due::At(_) | Due::Never => return,
            };
        }
        panic!("the zone never comes to rest");
    }

    /// Lets time pass; blocks come when they are due.
    pub fn wait(&mut self, ms: u64) {
        let end = self.now.plus(Millis(ms));
        for _ in 0..100_000 {
            match next_due(&self.state) {
                Due::Now => {
                    self.block(10, &[]);
                }
                Due::At(at) if at <= end => {
                    self.block(at.since(self.now).0, &[]);
                }
                Due::At(_) | Due::Never => {
                    let rest = end.since(self.now).0;
                    if rest > 0 {
                        self.now = end;
                    }
                    return;
                }
            }
        }
        panic!("too many blocks");
    }

    pub fn balance(&self, key: &SigningKey) -> Amount {
        query::balance(&self.state, &key.account(), AssetId::CREDIT)
    }

    pub fn order_terms(&self) -> OrderTerms {
        OrderTerms {
            resources: resources(1, 1),
            max_price_per_hour: Amount::credits(2),
            max_duration: Millis::secs(3600),
            budget: Amount::credits(5),
            spec_hash: BlobHash([9; 32]),
            expires: self.now.plus(Millis::secs(60)),
            ..OrderTerms::default()
        }
    }

    pub fn place(&mut self, terms: OrderTerms) -> OrderId {
        let events = self.user_act(vec![Action::PlaceOrder { terms: Box::new(terms) }]).unwrap();
        let Event::OrderPlaced { order, .. } = events[0] else { panic!("{events:?}") };
        order
    }

    /// Places an order, lets it be drawn, returns the match.
    pub fn matched(&mut self, terms: OrderTerms) -> LeaseId {
        let order = self.place(terms);
        self.idle();
        query::lease_of_order(&self.state, &order).expect("matched").id
    }

    pub fn accepted(&mut self, terms: OrderTerms) -> LeaseId {
        let lease = self.matched(terms);
        self.node_act(vec![Action::AcceptLease { lease }]).unwrap();
        lease
    }

    pub fn lease(&self, id: &LeaseId) -> Lease {
        query::lease(&self.state, id).unwrap()
    }

    /// The epoch of now.
    pub fn epoch(&self) -> u64 {
        query::zone(&self.state).unwrap().epoch_of(self.now)
    }

    /// The node's honest answer to an epoch.
    pub fn shares(&self, epoch: u64) -> Heartbeat {
        let randomness = query::epoch_randomness(&self.state, epoch).expect("recorded epoch");
        let node = self.node.node_id();
        let seed = heartbeat_seed(&randomness, &node, ResourceClass::Cpu, 0, epoch);
        let work = self.genesis.params.heartbeat_work.0 * HASHES_PER_S / 1000;
        let mut all: Vec<_> = (0..work).map(|n| (share_hash(&seed, n), n)).collect();
        all.sort_unstable();
        let nonces = all.into_iter().take(HEARTBEAT_SHARES).map(|(_, n)| n).collect();
        Heartbeat { node, class: ResourceClass::Cpu, device: 0, epoch, nonces }
    }

    /// Sends every heartbeat that can still be sent.
    pub fn beat(&mut self) {
        for epoch in query::open_epochs(&self.state) {
            let late = epoch.deadline_shifted.plus(query::clock(&self.state).halted) < self.now.plus(Millis(10));
            if !late && !query::has_heartbeat(&self.state, &self.node.node_id(), epoch.number) {
                let heartbeat = self.shares(epoch.number);
                self.node_act(vec![Action::SubmitHeartbeat { heartbeat }]).unwrap();
            }
        }
    }

    /// Lets time pass, answering every epoch.
    pub fn wait_beating(&mut self, ms: u64) {
        let end = self.now.plus(Millis(ms));
        while self.now < end {
            self.beat();
            self.wait(end.since(self.now).0.min(1_000));
        }
        self.beat();
    }

    pub fn usage(&self, lease: &LeaseId, started: Timestamp, served: u64) -> Usage {
        Usage {
            lease: *lease,
            generation: 1,
            epoch: query::zone(&self.state).unwrap().epoch_of(started.plus(Millis(served))),
            started,
            served_ms: Millis(served),
            build_ms: Millis(0),
            log_root: BlobHash([0; 32]),
            log_bytes: 0,
            steal_ms: Millis(0),
        }
    }

    pub fn signed(&self, usage: Usage, confirmed: bool) -> Action {
        let countersignature = confirmed.then(|| Countersignature {
            account: self.user.account(),
            key: self.user.public(),
            signature: self.user.sign(&usage.counter_digest()),
        });
        let node_signature = self.node.sign(&usage.digest());
        Action::SubmitUsage { usage: Box::new(SignedUsage { usage, node: self.node.node_id(), node_signature, countersignature }) }
    }

    pub fn bare(&mut self, lease: &LeaseId, started: Timestamp, served: u64) -> Result<Vec<Event>, TxError> {
        let action = self.signed(self.usage(lease, started, served), false);
        self.node_act(vec![action])
    }

    pub fn confirmed(&mut self, lease: &LeaseId, started: Timestamp, served: u64) -> Result<Vec<Event>, TxError> {
        let action = self.signed(self.usage(lease, started, served), true);
        self.node_act(vec![action])
    }

    pub fn close_by_node(&mut self, lease: &LeaseId) {
        self.node_act(vec![Action::CloseLease { lease: *lease, reason: EndReason::Exited { code: 0 } }]).unwrap();
    }
}
