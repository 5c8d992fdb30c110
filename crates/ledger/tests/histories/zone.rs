//! One history's zone in memory: eight accounts, five nodes, virtual time, and blocks of what [`crate::deeds`] makes up.
//!
//! Guarantees: all randomness comes from the seed. Envelopes are applied as already verified unless their signature is the
//! point, since checking ours would take most of the time.

use crate::climate::{Climate, START};
use crate::coverage::Coverage;
use crate::deeds::{self, Deed, Maker};
use crate::keys::Keys;
use crate::oracle::Oracle;
use crate::rng::Rng;
use pasture_ledger::{Applied, BlockCtx, Due, apply, begin_block, end_block, genesis, next_due, query};
use pasture_types::audit::AuditEvent;
use pasture_types::channel::ChannelEvent;
use pasture_types::credential::CredentialEvent;
use pasture_types::event::Event;
use pasture_types::genesis::Genesis;
use pasture_types::governance::GovernanceEvent;
use pasture_types::grant::GrantEvent;
use pasture_types::keys::Signature;
use pasture_types::service::ServiceEvent;
use pasture_types::state::{Changes, MemoryState, Overlay, merge};
use pasture_types::tx::{Action, Auth, ENVELOPE_VERSION, TxBody, TxSignature};
use pasture_types::{
    AccountId, Amount, AssetId, ChannelId, CredentialId, GrantId, LeaseId, Millis, NodeId, OfferId, OrderId, ProposalId, PublicKey,
    SigningKey, Timestamp, codec, ids,
};
use std::collections::{BTreeMap, VecDeque};

/// Most transactions in one block of a history.
const MOST_IN_BLOCK: u64 = 4;
/// Most records that a transaction may change which fails: balance, lane, two pots, load, and of first fees grant, count,
/// timer and treasury.
const MOST_OF_A_FAILURE: usize = 9;

/// A node of this history: its key and whose it is meant to be.
#[derive(Clone)]
pub(crate) struct Machine {
    pub(crate) key: SigningKey,
    pub(crate) owner: usize,
    /// It claims more than it computes.
    pub(crate) boasts: bool,
}

/// What came up, newest last.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) orders: Vec<OrderId>,
    pub(crate) leases: Vec<LeaseId>,
    pub(crate) offers: Vec<OfferId>,
    pub(crate) grants: Vec<GrantId>,
    pub(crate) channels: Vec<ChannelId>,
    pub(crate) credentials: Vec<CredentialId>,
    pub(crate) proposals: Vec<ProposalId>,
    pub(crate) audits: Vec<u64>,
    /// When each generation's process is said to have begun.
    pub(crate) started: BTreeMap<(LeaseId, u32), Timestamp>,
    /// Accounts that were opened on the way.
    pub(crate) fresh: Vec<SigningKey>,
}

pub(crate) struct Zone {
    pub(crate) state: MemoryState,
    pub(crate) genesis: Genesis,
    pub(crate) now: Timestamp,
    pub(crate) height: u64,
    pub(crate) rng: Rng,
    pub(crate) accounts: Vec<SigningKey>,
    pub(crate) machines: Vec<Machine>,
    pub(crate) seen: Seen,
    /// What follows the last deed by design.
    pub(crate) next: VecDeque<Maker>,
    oracle: Oracle,
}

impl Zone {
    pub(crate) fn new(seed: u64) -> Self {
        let climate = Climate::of(seed);
        let keys = Keys::all();
        let mut rng = Rng(seed);
        let machines =
            keys.nodes.iter().enumerate().map(|(n, k)| Machine { key: k.clone(), owner: n % 3, boasts: n < 3 && rng.once_in(2) }).collect();
        let genesis_of = climate.genesis();
        let state = genesis(&genesis_of);
        let oracle = Oracle::new(&state, &genesis_of);
        let mut zone = Self {
            state,
            genesis: genesis_of,
            now: Timestamp(START),
            height: 0,
            rng,
            accounts: keys.accounts.clone(),
            machines,
            seen: Seen::default(),
            next: VecDeque::new(),
            oracle,
        };
        // Most begin with something to rent; the rest begins with nothing.
        if climate.opened {
            zone.open();
        }
        zone
    }

    fn open(&mut self) {
        let mut unseen = Coverage::default();
        let deeds = deeds::opening(self);
        self.block(10, &mut unseen, |zone, ctx, coverage| deeds.iter().flat_map(|deed| zone.perform(ctx, deed, coverage)).collect());
    }

    /// One block with a few deeds in it; how many there were, each of one action or more.
    pub(crate) fn turn(&mut self, coverage: &mut Coverage) -> usize {
        let count = 1 + self.rng.below(MOST_IN_BLOCK);
        let ms = self.pause();
        let mut done = 0;
        self.block(ms, coverage, |zone, ctx, coverage| {
            let mut events = vec![];
            for _ in 0..count {
                let deed = deeds::any(zone);
                done += 1;
                events.extend(zone.perform(ctx, &deed, coverage));
            }
            events
        });
        // The blocks that the ledger itself asks for.
        for _ in 0..3 {
            let Due::Now = next_due(&self.state) else { break };
            self.block(10, coverage, |_, _, _| vec![]);
        }
        done
    }

    /// A block after a pause, with whatever happens in it.
    fn block(&mut self, ms: u64, coverage: &mut Coverage, inside: impl FnOnce(&mut Self, &BlockCtx, &mut Coverage) -> Vec<Event>) {
        let ctx = self.ctx(ms);
        let begun = begin_block(&mut self.state, &ctx);
        self.oracle.begun(&self.state, &ctx, &begun);
        let mut events = begun;
        events.extend(inside(self, &ctx, coverage));
        let ended = end_block(&mut self.state, &ctx);
        self.oracle.ended(&self.state, &ended);
        events.extend(ended);
        coverage.blocks += 1;
        for event in &events {
            coverage.event(event);
            self.note(event);
        }
        self.oracle.judge(&self.state, self.now, coverage);
    }

    fn note(&mut self, event: &Event) {
        let seen = &mut self.seen;
        match event {
            Event::OrderPlaced { order, .. } => seen.orders.push(*order),
            Event::LeaseMatched { lease, .. } | Event::Service(ServiceEvent::LeaseMoved { past: lease, .. }) => seen.leases.push(*lease),
            Event::UsageRecorded { lease, .. } => {
                let record = query::lease(&self.state, lease);
                if let Some((lease, at)) = record.and_then(|l| Some((l.clone(), l.started_at?))) {
                    seen.started.entry((lease.usage_id(), lease.generation)).or_insert(at);
                }
            }
            Event::OfferPut { offer, .. } if !seen.offers.contains(offer) => seen.offers.push(*offer),
            Event::Grant(GrantEvent::Created { grant, .. }) => seen.grants.push(*grant),
            Event::Channel(ChannelEvent::Opened { channel, .. }) if !seen.channels.contains(channel) => seen.channels.push(*channel),
            Event::Credential(CredentialEvent::Put { credential, .. }) if !seen.credentials.contains(credential) => {
                seen.credentials.push(*credential);
            }
            Event::Governance(GovernanceEvent::Proposed { proposal, .. }) => seen.proposals.push(*proposal),
            Event::Audit(AuditEvent::Drawn { audit, .. }) => seen.audits.push(*audit),
            _ => {}
        }
    }

    /// Mostly short pauses, at times a period, seldom a halt.
    fn pause(&mut self) -> u64 {
        match self.rng.below(50) {
            0 => 60_000 + self.rng.below(600_000),
            1..=11 => 3_000 + self.rng.below(4_000),
            12..=30 => 1_000 + self.rng.below(1_500),
            _ => 10 + self.rng.below(200),
        }
    }

    fn ctx(&mut self, ms: u64) -> BlockCtx {
        let parent_time = self.now;
        self.now = self.now.plus(Millis(ms));
        self.height += 1;
        let randomness = ids::derive("history randomness", &[&self.height.to_be_bytes(), &self.rng.next().to_be_bytes()]);
        BlockCtx { height: self.height, now: self.now, parent_time, randomness, proposer: self.proposer() }
    }

    /// One of those who sit or, seldom, a stranger.
    fn proposer(&mut self) -> [u8; 32] {
        let term = query::validators::term(&self.state);
        let seats: Vec<_> = term.iter().flat_map(|t| t.seats.iter().map(|s| s.validator.0)).collect();
        if self.rng.once_in(100) { [9; 32] } else { self.rng.pick(&seats).copied().unwrap_or([9; 32]) }
    }

    fn perform(&mut self, ctx: &BlockCtx, deed: &Deed, coverage: &mut Coverage) -> Vec<Event> {
        let bytes = deed.bytes.clone().unwrap_or_else(|| codec::encode(&deed.envelope));
        let (applied, changes) = {
            let mut overlay = Overlay::new(&self.state);
            let applied = apply(&mut overlay, ctx, &bytes, deed.signatures);
            (applied, overlay.into_changes())
        };
        let body = &deed.envelope.body;
        for action in &body.actions {
            coverage.action(action, matches!(applied, Applied::Done { .. }));
        }
        let events = match applied {
            Applied::Done { events, .. } => Some(events),
            Applied::Failed { error, .. } => {
                coverage.error(&error);
                assert!(changes.len() <= MOST_OF_A_FAILURE, "a failed transaction changed {} records: {error}", changes.len());
                None
            }
            Applied::NotIncludable { error, .. } => {
                coverage.error(&error);
                assert!(changes.is_empty(), "a transaction that was not includable changed something: {error}");
                return vec![];
            }
        };
        assert!(!deed.forged, "a transaction was included whose sender had no right to it: {body:?}");
        self.include(deed, changes, events.as_deref());
        events.unwrap_or_default()
    }

    fn include(&mut self, deed: &Deed, changes: Changes, events: Option<&[Event]>) {
        self.oracle.before(&self.state, &deed.envelope);
        merge(&mut self.state, changes);
        self.oracle.after(&self.state, &deed.envelope, events);
    }

    // ---- making envelopes ------------------------------------------------------------------------------------------

    pub(crate) fn body(&self, account: AccountId, auth: Auth, actions: Vec<Action>) -> TxBody {
        let owner = match auth {
            Auth::Node(n) => n.0,
            Auth::Delegated(g) => g.0,
            Auth::Single | Auth::Multi => account.0,
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

    /// By as many of the account's own keys as it asks for, as if their signatures had been checked.
    pub(crate) fn by(&self, who: &SigningKey, actions: Vec<Action>) -> Deed {
        let account = who.account();
        let keys = self.keys_of(&account);
        let (threshold, keys) = match query::account(&self.state, &account) {
            Some(record) => (usize::from(record.threshold), keys),
            None => (1, vec![who.public()]),
        };
        let auth = if threshold > 1 { Auth::Multi } else { Auth::Single };
        let body = self.body(account, auth, actions);
        let signed = |key: &PublicKey| TxSignature { account, key: *key, signature: Signature::Ed25519([0; 64]) };
        Deed::with(body, keys.iter().take(threshold).map(signed).collect())
    }

    /// By a node's key.
    pub(crate) fn by_node(&self, machine: &Machine, actions: Vec<Action>) -> Deed {
        let owner = query::node(&self.state, &machine.key.node_id()).map_or_else(|| self.accounts[machine.owner].account(), |n| n.provider);
        Deed::checked(self.body(owner, Auth::Node(machine.key.node_id()), actions), &machine.key)
    }

    /// An account's keys of now.
    pub(crate) fn keys_of(&self, account: &AccountId) -> Vec<PublicKey> {
        query::account(&self.state, account).map(|a| a.keys).unwrap_or_default()
    }

    /// A key that an account signs statements with now.
    pub(crate) fn signer(&self, account: &AccountId) -> Option<SigningKey> {
        self.keys_of(account).iter().find_map(|k| Keys::all().private(k).cloned())
    }

    pub(crate) fn someone(&mut self) -> SigningKey {
        let n = self.rng.below(self.accounts.len() as u64) as usize;
        self.accounts[n].clone()
    }

    pub(crate) fn someone_but(&mut self, not: &AccountId) -> SigningKey {
        loop {
            let who = self.someone();
            if who.account() != *not {
                return who;
            }
        }
    }

    pub(crate) fn machine(&mut self) -> Machine {
        let n = self.rng.below(self.machines.len() as u64) as usize;
        self.machines[n].clone()
    }

    pub(crate) fn machine_of(&self, node: &NodeId) -> Option<&Machine> {
        self.machines.iter().find(|m| m.key.node_id() == *node)
    }

    /// The first key of one of our accounts: its name for [`Self::by`].
    pub(crate) fn key_of(&self, account: &AccountId) -> Option<&SigningKey> {
        self.accounts.iter().chain(&self.seen.fresh).find(|k| k.account() == *account)
    }

    pub(crate) fn index_of(&self, account: &AccountId) -> Option<usize> {
        self.accounts.iter().position(|k| k.account() == *account)
    }

    /// One of the newest of some ids.
    pub(crate) fn recent<T: Copy>(&mut self, of: impl Fn(&Seen) -> &Vec<T>, most: usize) -> Option<T> {
        let all = of(&self.seen);
        let from = all.len().saturating_sub(most);
        let count = (all.len() - from) as u64;
        let at = self.rng.below(count) as usize;
        of(&self.seen).get(from + at).copied()
    }
}
