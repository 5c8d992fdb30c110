//! A second opinion on every final block: the ledger alone, and all of its invariants.
//!
//! Guarantees: executes each final block on a state of its own, with every signature verified, and compares outcomes and events with what
//! the validators said; then checks every invariant of the ledger and that each sequence has no gap. It shares no code with the chain but
//! the ledger's own.

use super::bugs::{Bug, end_with};
use super::lock;
use pasture_chain::sim::Model;
use pasture_chain::{FinalizedBlock, TxOutcome};
use pasture_ledger::{Applied, BlockCtx, Signatures, apply, begin_block, check, end_block, query};
use pasture_types::event::Event;
use pasture_types::genesis::Genesis;
use pasture_types::lease::LeaseState;
use pasture_types::state::{Overlay, StateRead};
use pasture_types::tree::Tree;
use pasture_types::tx::{Auth, Envelope, MAX_TX_BYTES};
use pasture_types::validator::ValidatorEvent;
use pasture_types::{Timestamp, codec};
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

/// States that are kept to be compared with those of validators that are behind at the end.
const KEPT: usize = 512;
/// Kinds of refusals that are told apart.
const MAX_REFUSALS: usize = 256;

/// What happened on the ledger.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize)]
pub struct Counts {
    /// Transactions in final blocks.
    pub transactions: u64,
    /// Of them, those that took nothing but their fee.
    pub failed: u64,
    /// Leases that were matched.
    pub matched: u64,
    /// Leases that a node took.
    pub accepted: u64,
    /// Leases that were settled.
    pub settled: u64,
    /// Of them, those whose provider was paid.
    pub paid: u64,
    /// Orders that ended without a machine.
    pub unserved: u64,
    /// Heartbeats that were recorded.
    pub heartbeats: u64,
    /// Terms that began with seats given by an election.
    pub elections: u64,
    /// Validators that lost a part of their deposit.
    pub forfeits: u64,
    /// Why transactions failed, or were refused when they were handed in, by code.
    pub refused: BTreeMap<u16, u64>,
}

impl Counts {
    pub(super) fn refuse(&mut self, code: u16) {
        if self.refused.len() < MAX_REFUSALS || self.refused.contains_key(&code) {
            *self.refused.entry(code).or_default() += 1;
        }
    }

    fn hear(&mut self, event: &Event) {
        match event {
            Event::LeaseMatched { .. } => self.matched += 1,
            Event::LeaseChanged { state: LeaseState::Accepted, .. } => self.accepted += 1,
            Event::LeaseSettled { settlement, .. } => {
                self.settled += 1;
                self.paid += u64::from(!settlement.to_provider.is_zero());
            }
            Event::OrderEnded { cancelled: false, .. } => self.unserved += 1,
            Event::HeartbeatRecorded { .. } => self.heartbeats += 1,
            Event::Validator(ValidatorEvent::Forfeited { .. }) => self.forfeits += 1,
            Event::Validator(ValidatorEvent::TermBegan { seating, .. }) => {
                self.elections += u64::from(*seating == pasture_types::validator::Seating::Elected);
            }
            _ => {}
        }
    }

    /// Adds what happened elsewhere.
    pub fn add(&mut self, other: &Self) {
        let Self { transactions, failed, matched, accepted, settled, paid, unserved, heartbeats, elections, forfeits, refused } = other;
        let pairs = [
            (&mut self.transactions, transactions),
            (&mut self.failed, failed),
            (&mut self.matched, matched),
            (&mut self.accepted, accepted),
            (&mut self.settled, settled),
            (&mut self.paid, paid),
            (&mut self.unserved, unserved),
            (&mut self.heartbeats, heartbeats),
            (&mut self.elections, elections),
            (&mut self.forfeits, forfeits),
        ];
        for (mine, theirs) in pairs {
            *mine += theirs;
        }
        for (code, times) in refused {
            *self.refused.entry(*code).or_default() += times;
        }
    }
}

/// The ledger after the final blocks.
pub(super) struct Ledger {
    pub(super) counts: Counts,
    /// Paid leases that were accepted since then, counted from the moment that faults are mended.
    pub(super) paid_since: Option<(Timestamp, u64)>,
    now: Timestamp,
    state: Tree,
    kept: VecDeque<(u64, Tree)>,
    sequences: BTreeMap<([u8; 32], u8), u64>,
    bug: Option<Bug>,
}

impl Ledger {
    pub(super) fn new(genesis: &Genesis, bug: Option<Bug>) -> Self {
        let state = Tree::from_entries(&pasture_ledger::genesis_entries(genesis));
        Self {
            counts: Counts::default(),
            paid_since: None,
            now: genesis.time,
            state,
            kept: VecDeque::new(),
            sequences: BTreeMap::new(),
            bug,
        }
    }

    /// Begins to count what is paid for leases that are accepted from now on.
    pub(super) const fn count_from_now(&mut self) {
        self.paid_since = Some((self.now, 0));
    }

    fn execute(&mut self, block: &FinalizedBlock) {
        let header = &block.header;
        let height = header.height;
        let ctx = BlockCtx {
            height,
            now: Timestamp(header.timestamp_ms),
            parent_time: self.now,
            randomness: header.randomness,
            proposer: header.proposer,
        };
        let before = self.state.clone();
        let mut overlay = Overlay::new(&before);
        let begun = begin_block(&mut overlay, &ctx);
        assert!(encoded(&begun) == block.begin_events, "MODEL: block {height} began otherwise");
        let mut events = begun;
        for (at, done) in block.txs.iter().enumerate() {
            let (said, more) = outcome(apply(&mut overlay, &ctx, &done.tx, Signatures::Verify));
            assert!(said == done.outcome, "MODEL: transaction {at} of block {height} gives {said:?}, not {:?}", done.outcome);
            events.extend(more);
            self.in_sequence(&done.tx, height);
            self.counts.transactions += 1;
            if let TxOutcome::Applied { ok: false, code, .. } = said {
                self.counts.failed += 1;
                self.counts.refuse(code);
            }
        }
        let ended = end_with(self.bug, &mut overlay, |state| end_block(state, &ctx));
        assert!(encoded(&ended) == block.end_events, "MODEL: block {height} ended otherwise");
        events.extend(ended);
        let changes = overlay.into_changes();
        self.state = before.with(&changes);
        self.now = ctx.now;
        for event in &events {
            self.counts.hear(event);
            self.count_paid(event);
        }
    }

    fn count_paid(&mut self, event: &Event) {
        if let (Event::LeaseSettled { lease, settlement, .. }, Some((since, paid))) = (event, &mut self.paid_since) {
            let accepted = query::lease(&self.state, lease).and_then(|lease| lease.accepted_at);
            *paid += u64::from(accepted > Some(*since) && !settlement.to_provider.is_zero());
        }
    }

    /// What everybody signs is numbered, from nothing and without a gap.
    fn in_sequence(&mut self, tx: &[u8], height: u64) {
        let read: Result<Envelope, _> = codec::decode(tx, MAX_TX_BYTES);
        assert!(read.is_ok(), "MODEL: block {height} has bytes that are no transaction");
        let Ok(Envelope { body, .. }) = read else { return };
        let owner = match body.auth {
            Auth::Node(node) => node.0,
            Auth::Delegated(grant) => grant.0,
            Auth::Single | Auth::Multi => body.account.0,
        };
        let next = self.sequences.entry((owner, body.lane)).or_default();
        assert_eq!(*next, body.seq, "SEQUENCE: a transaction of {} in block {height}", body.account);
        *next += 1;
    }

    fn invariants(&self, height: u64) {
        if let Err(broken) = check(&self.state) {
            let all: Vec<String> = broken.iter().map(ToString::to_string).collect();
            assert!(broken.is_empty(), "INVARIANT: after block {height}: {}", all.join("; "));
        }
        for ((owner, lane), next) in &self.sequences {
            let have = query::next_seq(&self.state, owner, *lane);
            assert_eq!(have, *next, "SEQUENCE: the ledger's number of a lane after block {height}");
        }
    }
}

fn encoded(events: &[Event]) -> Vec<Vec<u8>> {
    events.iter().map(codec::encode).collect()
}

/// What the ledger did, in the chain's words; and the events.
fn outcome(applied: Applied) -> (TxOutcome, Vec<Event>) {
    match applied {
        Applied::Done { id, events } => {
            (TxOutcome::Applied { id: id.0, ok: true, code: 0, message: String::new(), events: encoded(&events) }, events)
        }
        Applied::Failed { id, error } => {
            (TxOutcome::Applied { id: id.0, ok: false, code: error.code(), message: error.to_string(), events: vec![] }, vec![])
        }
        Applied::NotIncludable { id, error } => {
            (TxOutcome::NotIncludable { id: id.0, code: error.code(), message: error.to_string() }, vec![])
        }
    }
}

/// The model of a run, whose ledger its scenario reads too.
pub(super) struct Opinion(pub(super) Arc<Mutex<Ledger>>);

impl Model for Opinion {
    fn block(&mut self, block: &FinalizedBlock) {
        let mut ledger = lock(&self.0);
        ledger.execute(block);
        ledger.invariants(block.header.height);
        let state = ledger.state.clone();
        ledger.kept.push_back((block.header.height, state));
        if ledger.kept.len() > KEPT {
            ledger.kept.pop_front();
        }
    }

    fn close(&self, validator: usize, height: u64, state: &dyn StateRead) {
        let ledger = lock(&self.0);
        let kept = ledger.kept.iter().find(|(at, _)| *at == height);
        // Whoever is that far behind is dishonest: honest ones have caught up.
        let Some((_, ours)) = kept else { return };
        let mut theirs = Vec::with_capacity(ours.len());
        state.scan(&[], &[u8::MAX; 2], &mut |key, value| {
            theirs.push((key.to_vec(), value.to_vec()));
            true
        });
        let mut at = theirs.iter();
        let mut same = ours.len() == theirs.len();
        ours.each(&mut |key, value| same &= at.next().is_some_and(|(k, v)| k == key && v == value));
        assert!(same, "STATE: validator {validator} has another state than the ledger alone at {height}");
    }
}
