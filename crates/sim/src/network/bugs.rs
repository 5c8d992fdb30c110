//! Bugs put in on purpose, to see that the simulation finds them: a machine around the ledger's that does one thing wrong.
//!
//! Guarantees: no product code has a switch for any of this. A bug of the ledger is in every validator and in the model alike, so that
//! only an invariant or a lack of progress can show it; a bug of its use is in the validators alone.

use super::lock;
use bytes::Bytes;
use pasture_chain::{Admission, BlockContext, Due, Entries, Machine, Rejection, TxOutcome, Validator};
use pasture_ledger::query;
use pasture_machine::decode_events;
use pasture_types::event::{Event, Settlement};
use pasture_types::state::{Changes, Overlay, StateRead, StateWrite, merge};
use pasture_types::{AccountId, Amount, AssetId, LeaseId, codec};
use std::sync::{Arc, Mutex};

/// The ledger's tables that are tampered with (`crates/ledger/src/tables.rs`).
const BALANCE: u8 = 0x03;
const TIMER: u8 = 0x17;
/// Where the kind stands in a timer's key, and what it is for an order.
const KIND_AT: usize = 9;
const OF_ORDER: u8 = 1;
/// Longest encoded amount.
const AMOUNT_BYTES: usize = 16;

/// What is wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bug {
    /// Its use: settlements pay what a machine remembers from the block before, so that a proposal that fails or a crash makes
    /// payments twice or never.
    PaysLater,
    /// Its use: a draw depends on how often this machine executed blocks, as if on the order of a hash map.
    Unordered,
    /// The ledger: what a lease did not use is not returned.
    KeepsEscrow,
    /// The ledger: a provider is paid twice for what is settled.
    PaysTwice,
    /// The ledger: an order that waits forgets when it is to be looked at again, and so never expires.
    LosesExpiry,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::PaysLater, Self::Unordered, Self::KeepsEscrow, Self::PaysTwice, Self::LosesExpiry];

    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::PaysLater => "pays-later",
            Self::Unordered => "unordered",
            Self::KeepsEscrow => "keeps-escrow",
            Self::PaysTwice => "pays-twice",
            Self::LosesExpiry => "loses-expiry",
        }
    }

    /// The bug of a name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|bug| bug.name() == name)
    }
}

fn balance_key(account: &AccountId, asset: AssetId) -> Vec<u8> {
    [&[BALANCE][..], &account.0, &asset.0.to_be_bytes()].concat()
}

fn balance(state: &dyn StateRead, key: &[u8]) -> Amount {
    state.get(key).and_then(|bytes| codec::decode(&bytes, AMOUNT_BYTES).ok()).unwrap_or_default()
}

fn pay(state: &mut dyn StateWrite, account: &AccountId, asset: AssetId, amount: Amount) {
    let key = balance_key(account, asset);
    let after = balance(state, &key).saturating_add(amount);
    state.put(key, codec::encode(&after));
}

fn take(state: &mut dyn StateWrite, account: &AccountId, asset: AssetId, amount: Amount) {
    let key = balance_key(account, asset);
    let after = balance(state, &key).saturating_sub(amount);
    state.put(key, codec::encode(&after));
}

fn settled(events: &[Event]) -> impl Iterator<Item = (LeaseId, AccountId, &Settlement)> {
    events.iter().filter_map(|event| match event {
        Event::LeaseSettled { lease, account, settlement, .. } => Some((*lease, *account, &**settlement)),
        _ => None,
    })
}

/// Closes a block with a ledger that has a bug: `end` is the ledger's own end of a block.
pub(super) fn end_with(bug: Option<Bug>, state: &mut dyn StateWrite, end: impl FnOnce(&mut dyn StateWrite) -> Vec<Event>) -> Vec<Event> {
    let mut overlay = Overlay::new(state);
    let events = end(&mut overlay);
    let mut changes = overlay.into_changes();
    if bug == Some(Bug::LosesExpiry) {
        forget_timers(&mut changes);
    }
    merge(state, changes);
    for (lease, account, settlement) in settled(&events) {
        let provider = query::lease(state, &lease).map(|lease| lease.provider);
        match (bug, provider) {
            (Some(Bug::KeepsEscrow), _) => take(state, &account, settlement.asset, settlement.refunded),
            (Some(Bug::PaysTwice), Some(provider)) => pay(state, &provider, settlement.asset, settlement.to_provider),
            _ => {}
        }
    }
    events
}

fn forget_timers(changes: &mut Changes) {
    changes.retain(|key, value| !(value.is_some() && key.first() == Some(&TIMER) && key.get(KIND_AT) == Some(&OF_ORDER)));
}

/// What a machine must not remember.
#[derive(Default)]
struct Memory {
    owed: Vec<(AccountId, AssetId, Amount)>,
    executed: u64,
}

/// A machine with a bug.
pub(super) struct Wrong {
    inner: Arc<dyn Machine>,
    bug: Bug,
    memory: Mutex<Memory>,
}

impl Wrong {
    pub(super) fn new(inner: Arc<dyn Machine>, bug: Bug) -> Self {
        Self { inner, bug, memory: Mutex::default() }
    }

    /// What was settled is paid at the beginning of whichever block this machine executes next.
    fn defer(&self, state: &mut dyn StateWrite, events: &[Event]) {
        for (lease, _, settlement) in settled(events) {
            if let Some(lease) = query::lease(state, &lease) {
                take(state, &lease.provider, settlement.asset, settlement.to_provider);
                lock(&self.memory).owed.push((lease.provider, settlement.asset, settlement.to_provider));
            }
        }
    }
}

impl Machine for Wrong {
    fn begin(&self, state: &mut dyn StateWrite, ctx: &BlockContext) -> Vec<Vec<u8>> {
        for (account, asset, amount) in std::mem::take(&mut lock(&self.memory).owed) {
            pay(state, &account, asset, amount);
        }
        self.inner.begin(state, ctx)
    }

    fn end(&self, state: &mut dyn StateWrite, ctx: &BlockContext) -> Vec<Vec<u8>> {
        let mut ctx = ctx.clone();
        if self.bug == Bug::Unordered {
            let mut memory = lock(&self.memory);
            memory.executed += 1;
            if let Some(byte) = ctx.randomness.first_mut() {
                *byte ^= u8::from(memory.executed.is_multiple_of(2));
            }
        }
        let mut said = Vec::new();
        let events = end_with(Some(self.bug), state, |state| {
            said = self.inner.end(state, &ctx);
            decode_events(&said)
        });
        if self.bug == Bug::PaysLater {
            self.defer(state, &events);
        }
        said
    }

    fn genesis(&self) -> Result<Entries, String> {
        self.inner.genesis()
    }
    fn admit(&self, tx: &[u8], state: &dyn StateRead, now_ms: u64) -> Result<Admission, Rejection> {
        self.inner.admit(tx, state, now_ms)
    }
    fn next_seq(&self, sender: &[u8; 32], lane: u8, state: &dyn StateRead) -> u64 {
        self.inner.next_seq(sender, lane, state)
    }
    fn verify(&self, txs: &[Bytes]) -> bool {
        self.inner.verify(txs)
    }
    fn ready(&self, state: &dyn StateRead) -> Result<(), String> {
        self.inner.ready(state)
    }
    fn block_cost_us(&self, state: &dyn StateRead) -> u64 {
        self.inner.block_cost_us(state)
    }
    fn apply(&self, state: &mut dyn StateWrite, ctx: &BlockContext, tx: &[u8]) -> TxOutcome {
        self.inner.apply(state, ctx, tx)
    }
    fn seats(&self, state: &dyn StateRead) -> Option<Vec<Validator>> {
        self.inner.seats(state)
    }
    fn candidates(&self, state: &dyn StateRead) -> Vec<[u8; 32]> {
        self.inner.candidates(state)
    }
    fn next_due(&self, state: &dyn StateRead) -> Due {
        self.inner.next_due(state)
    }
}
