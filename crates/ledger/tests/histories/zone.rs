//! One history's zone in memory: eight accounts, five nodes, virtual time, and blocks of what [`crate::deeds`] makes up.
//!
//! Guarantees: all randomness comes from the seed. Envelopes are applied as already verified unless their signature is the
//! point, since checking ours would take most of the time.

use crate::coverage::Coverage;
use crate::deeds::{self, Deed};
use crate::oracle::Oracle;
use pasture_ledger::{Applied, BlockCtx, Due, Signatures, apply, begin_block, end_block, genesis, next_due, query};
use pasture_types::event::Event;
use pasture_types::genesis::{Genesis, GenesisAccount, GenesisValidator, Params, RULES_VERSION};
use pasture_types::keys::Signature;
use pasture_types::state::{MemoryState, StateRead as _};
use pasture_types::tx::{Action, Auth, ENVELOPE_VERSION, Envelope, TxBody, TxSignature};
use pasture_types::{AccountId, Amount, AssetId, LeaseId, Millis, NodeId, OfferId, OrderId, SigningKey, Timestamp, codec, ids};
use std::collections::BTreeMap;

pub(crate) const START: u64 = 1_800_000_000_000;
const ACCOUNTS: u8 = 8;
const NODES: u8 = 5;
/// Most transactions in one block of a history.
const MOST_IN_BLOCK: u64 = 4;
const FIRST_MONEY: Amount = Amount::credits(50);

/// Splitmix64.
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }
    /// True once in `n`.
    pub(crate) fn once_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
    pub(crate) fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        of.get(self.below(of.len() as u64) as usize)
    }
}

/// A node of this history: its key and whose it is meant to be.
#[derive(Clone)]
pub(crate) struct Machine {
    pub(crate) key: SigningKey,
    pub(crate) owner: usize,
}

pub(crate) struct Zone {
    pub(crate) state: MemoryState,
    pub(crate) genesis: Genesis,
    pub(crate) now: Timestamp,
    pub(crate) height: u64,
    pub(crate) rng: Rng,
    pub(crate) accounts: Vec<SigningKey>,
    pub(crate) machines: Vec<Machine>,
    pub(crate) orders: Vec<OrderId>,
    pub(crate) leases: Vec<LeaseId>,
    pub(crate) offers: Vec<OfferId>,
    /// When each lease's process is said to have begun.
    pub(crate) started: BTreeMap<LeaseId, Timestamp>,
    oracle: Oracle,
}

fn key(kind: u8, n: u8) -> SigningKey {
    SigningKey::from_seed([kind.wrapping_mul(31).wrapping_add(n).wrapping_add(1); 32])
}

impl Zone {
    pub(crate) fn new(seed: u64) -> Self {
        let accounts: Vec<_> = (0..ACCOUNTS).map(|n| key(1, n)).collect();
        let machines = (0..NODES).map(|n| Machine { key: key(5, n), owner: usize::from(n % 3) }).collect();
        let mut params = Params::dev();
        // Limits low enough that histories of this length meet them.
        params.max_open_orders = 3;
        params.start_window = Millis::secs(60);
        params.build_allowance = Millis::secs(20);
        let dev = !seed.is_multiple_of(16);
        params.dev = dev;
        let genesis_of = Genesis {
            name: "history".into(),
            time: Timestamp(START),
            rules_version: RULES_VERSION,
            params,
            validators: vec![GenesisValidator {
                key: [7; 32],
                bls_key: vec![1; 96],
                bls_pop: vec![2; 48],
                operator: accounts[7].account(),
            }],
            accounts: accounts.iter().map(|k| GenesisAccount { key: k.public(), balance: FIRST_MONEY }).collect(),
        };
        let state = genesis(&genesis_of);
        let minted = query::supply(&state, AssetId::CREDIT);
        let mut zone = Self {
            state,
            genesis: genesis_of,
            now: Timestamp(START),
            height: 0,
            rng: Rng(seed),
            accounts,
            machines,
            orders: vec![],
            leases: vec![],
            offers: vec![],
            started: BTreeMap::new(),
            oracle: Oracle::new(minted),
        };
        // Most begin with something to rent; the rest begins with nothing.
        if !seed.is_multiple_of(8) {
            zone.open();
        }
        zone
    }

    fn open(&mut self) {
        let deeds = deeds::opening(self);
        let mut unseen = Coverage::default();
        let ctx = self.ctx(10);
        let mut events = begin_block(&mut self.state, &ctx);
        for deed in deeds {
            events.extend(self.perform(&ctx, &deed, &mut unseen));
        }
        events.extend(end_block(&mut self.state, &ctx));
        self.close(&events, &mut unseen);
    }

    /// One block with a few deeds in it; how many there were.
    pub(crate) fn turn(&mut self, coverage: &mut Coverage) -> usize {
        let count = 1 + self.rng.below(MOST_IN_BLOCK);
        let ms = self.pause();
        let ctx = self.ctx(ms);
        let mut events = begin_block(&mut self.state, &ctx);
        let mut done = 0;
        for _ in 0..count {
            let deed = deeds::any(self);
            events.extend(self.perform(&ctx, &deed, coverage));
            done += 1;
        }
        events.extend(end_block(&mut self.state, &ctx));
        self.close(&events, coverage);
        // The blocks that the ledger itself asks for.
        for _ in 0..3 {
            let Due::Now = next_due(&self.state) else { break };
            let ctx = self.ctx(10);
            let mut events = begin_block(&mut self.state, &ctx);
            events.extend(end_block(&mut self.state, &ctx));
            self.close(&events, coverage);
        }
        done
    }

    fn close(&mut self, events: &[Event], coverage: &mut Coverage) {
        coverage.blocks += 1;
        for event in events {
            match event {
                Event::OrderPlaced { order, .. } => self.orders.push(*order),
                Event::LeaseMatched { lease, .. } => self.leases.push(*lease),
                Event::OfferPut { offer, .. } if !self.offers.contains(offer) => self.offers.push(*offer),
                _ => {}
            }
            self.oracle.saw(&self.state, event, coverage);
        }
        let accounts: Vec<AccountId> = self.accounts.iter().map(SigningKey::account).collect();
        self.oracle.judge(&self.state, &accounts, self.now, coverage);
    }

    /// Mostly short pauses, at times a period, seldom a halt.
    fn pause(&mut self) -> u64 {
        match self.rng.below(40) {
            0 => 60_000 + self.rng.below(600_000),
            1..=4 => 5_000 + self.rng.below(5_000),
            5..=20 => 1_000 + self.rng.below(1_500),
            _ => 10 + self.rng.below(200),
        }
    }

    fn ctx(&mut self, ms: u64) -> BlockCtx {
        let parent_time = self.now;
        self.now = self.now.plus(Millis(ms));
        self.height += 1;
        let randomness = ids::derive("history randomness", &[&self.height.to_be_bytes(), &self.rng.next().to_be_bytes()]);
        BlockCtx { height: self.height, now: self.now, parent_time, randomness, proposer: [7; 32] }
    }

    fn perform(&mut self, ctx: &BlockCtx, deed: &Deed, coverage: &mut Coverage) -> Vec<Event> {
        let bytes = deed.bytes.clone().unwrap_or_else(|| codec::encode(&deed.envelope));
        let before = self.state.clone();
        let applied = apply(&mut self.state, ctx, &bytes, deed.signatures);
        let actions = &deed.envelope.body.actions;
        match applied {
            Applied::Done { events, .. } => {
                for action in actions {
                    coverage.action(action, true);
                    match action {
                        Action::SubmitUsage { usage } => {
                            self.oracle.took_usage(&usage.usage, usage.countersignature.is_some());
                            self.started.entry(usage.usage.lease).or_insert(usage.usage.started);
                        }
                        Action::TestCredits { amount, .. } => self.oracle.took_mint(*amount),
                        _ => {}
                    }
                }
                events
            }
            Applied::Failed { error, .. } => {
                coverage.error(&error);
                actions.iter().for_each(|a| coverage.action(a, false));
                self.nothing_but_fee_and_lane(&before, &deed.envelope.body);
                vec![]
            }
            Applied::NotIncludable { error, .. } => {
                coverage.error(&error);
                actions.iter().for_each(|a| coverage.action(a, false));
                assert!(self.state.0 == before.0, "a transaction that was not includable changed something: {error}");
                vec![]
            }
        }
    }

    /// A failed transaction costs its fee and its number, and nobody else anything.
    fn nothing_but_fee_and_lane(&self, before: &MemoryState, body: &TxBody) {
        let payer = body.fee_payer.unwrap_or(body.account);
        let paid = |s: &MemoryState, a: &AccountId| query::balance(s, a, AssetId::CREDIT);
        for account in self.accounts.iter().map(SigningKey::account) {
            let (was, is) = (paid(before, &account), paid(&self.state, &account));
            if account == payer {
                assert!(
                    is <= was && was.saturating_sub(is) <= body.max_fee.checked_add(body.tip).unwrap(),
                    "the payer lost more than the fee"
                );
            } else {
                assert_eq!(was, is, "a failed transaction moved somebody else's money");
            }
        }
        let mut changed = 0;
        for (k, v) in &self.state.0 {
            changed += usize::from(before.get(k).as_ref() != Some(v));
        }
        changed += before.0.keys().filter(|k| !self.state.0.contains_key(*k)).count();
        // The payer's balance, the lane, the pots of fees and tips.
        assert!(changed <= 4, "a failed transaction changed {changed} records");
    }

    // ---- making envelopes ------------------------------------------------------------------------------------------

    pub(crate) fn body(&self, account: AccountId, auth: Auth, actions: Vec<Action>) -> TxBody {
        let owner = match auth {
            Auth::Node(n) => n.0,
            Auth::Single | Auth::Multi | Auth::Delegated(_) => account.0,
        };
        TxBody {
            version: ENVELOPE_VERSION,
            zone: self.genesis.zone(),
            account,
            auth,
            lane: 0,
            seq: query::next_seq(&self.state, &owner, 0),
            valid_until: self.now.plus(Millis::secs(600)),
            max_fee: Amount::credits(1),
            tip: Amount::ZERO,
            fee_asset: AssetId::CREDIT,
            fee_payer: None,
            actions,
        }
    }

    /// By the account's own key, as if its signature had been checked.
    pub(crate) fn by(&self, who: &SigningKey, actions: Vec<Action>) -> Deed {
        Deed::checked(self.body(who.account(), Auth::Single, actions), who)
    }

    /// By a node's key.
    pub(crate) fn by_node(&self, machine: &Machine, actions: Vec<Action>) -> Deed {
        let owner = query::node(&self.state, &machine.key.node_id()).map_or_else(|| self.accounts[machine.owner].account(), |n| n.provider);
        Deed::checked(self.body(owner, Auth::Node(machine.key.node_id()), actions), &machine.key)
    }

    pub(crate) fn someone(&mut self) -> SigningKey {
        let n = self.rng.below(self.accounts.len() as u64) as usize;
        self.accounts[n].clone()
    }

    pub(crate) fn machine_of(&self, node: &NodeId) -> Option<&Machine> {
        self.machines.iter().find(|m| m.key.node_id() == *node)
    }

    pub(crate) fn key_of(&self, account: &AccountId) -> Option<&SigningKey> {
        self.accounts.iter().find(|k| k.account() == *account)
    }
}

impl Deed {
    /// An envelope that names its signer, and whose signature nobody checks.
    pub(crate) fn checked(body: TxBody, who: &SigningKey) -> Self {
        let signature = TxSignature { account: body.account, key: who.public(), signature: Signature::Ed25519([0; 64]) };
        Self { envelope: Envelope { body, signatures: vec![signature] }, bytes: None, signatures: Signatures::Verified }
    }
}
