//! The smallest scenario: numbered transactions, so that what is lost, repeated or out of order shows.
//!
//! Guarantees: a transaction is `client(1) seq(8)`; a block may contain it only when `seq` is what the state expects of that client. Each
//! leaves one event: the client's total afterwards.

use super::scenario::{Founders, Life, Model, Scenario};
use super::{Answer, Door};
use crate::core::FinalizedBlock;
use crate::genesis::Validator;
use crate::machine::{Admission, BlockContext, Due, Entries, Machine, Rejection, TxOutcome};
use crate::mempool::TxId;
use bytes::Bytes;
use pasture_types::state::{StateRead, StateWrite};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Who hands transactions in.
const CLIENTS: u8 = 5;
/// A rejection that says that a transaction is already in the state.
const ALREADY: u16 = 2;

/// How long a transaction may wait; what expired is handed in again by its client.
const EXPIRY_MS: u64 = 30_000;
/// Between two blocks that are due by a timer.
const TIMER_MS: u64 = 7_000;
/// Transactions of the first client after which another one loses its seat.
const TURN: u64 = 3;
const TIMER_KEY: &[u8] = b"t";

/// Whether the machine does as it must.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    Sound,
    /// A seeded bug: results differ between this machine and others.
    Undetermined,
}

/// Counts for each client.
struct Tally {
    manner: Manner,
    applied: AtomicU64,
    /// Who has a seat; one after the other loses it for a while. Empty: seats never change.
    founders: Vec<Validator>,
    /// Has the seat of whoever lost it.
    newcomer: Option<Validator>,
}

fn tx(client: u8, seq: u64) -> Bytes {
    [&[client][..], &seq.to_be_bytes()].concat().into()
}

fn id(tx: &[u8]) -> TxId {
    *blake3::hash(tx).as_bytes()
}

fn parse(tx: &[u8]) -> Option<(u8, u64)> {
    let (client, seq) = tx.split_first()?;
    Some((*client, u64::from_be_bytes(seq.try_into().ok()?)))
}

/// What a client's next sequence number is in a state: how many it has applied.
fn total(state: &dyn StateRead, client: u8) -> u64 {
    number(state, &[b'c', client])
}

fn number(state: &dyn StateRead, key: &[u8]) -> u64 {
    state.get(key).and_then(|v| v.try_into().ok()).map_or(0, u64::from_be_bytes)
}

impl Machine for Tally {
    fn genesis(&self) -> Result<Entries, String> {
        Ok(vec![(b"g".to_vec(), b"in the beginning".to_vec())])
    }

    fn admit(&self, tx: &[u8], state: &dyn StateRead, now_ms: u64) -> Result<Admission, Rejection> {
        let (client, seq) = parse(tx).ok_or(Rejection { code: 1, message: "malformed".into() })?;
        let next_seq = total(state, client);
        if seq < next_seq {
            return Err(Rejection { code: ALREADY, message: "sequence already used".into() });
        }
        Ok(Admission { id: id(tx), sender: [client; 32], lane: 0, seq, next_seq, expires_ms: now_ms + EXPIRY_MS, tip: 0, cost_us: 5 })
    }

    fn next_seq(&self, sender: &[u8; 32], _: u8, state: &dyn StateRead) -> u64 {
        total(state, sender[0])
    }

    fn seats(&self, state: &dyn StateRead) -> Option<Vec<Validator>> {
        let turn = total(state, 0) / TURN;
        // In half of the turns everybody sits.
        let away = usize::try_from(turn / 2).ok()?.checked_rem(self.founders.len()).filter(|_| turn % 2 == 1);
        let seated = self.founders.iter().enumerate().filter(|(index, _)| Some(*index) != away);
        let newcomer = self.newcomer.iter().filter(|_| away.is_some());
        Some(seated.map(|(_, validator)| validator).chain(newcomer).cloned().collect())
    }

    fn verify(&self, txs: &[Bytes]) -> bool {
        txs.iter().all(|tx| parse(tx).is_some())
    }

    fn block_cost_us(&self, _: &dyn StateRead) -> u64 {
        100_000
    }

    fn begin(&self, state: &mut dyn StateWrite, ctx: &BlockContext) -> Vec<Vec<u8>> {
        if number(state, TIMER_KEY) <= ctx.timestamp_ms {
            state.put(TIMER_KEY.to_vec(), (ctx.timestamp_ms + TIMER_MS).to_be_bytes().to_vec());
        }
        Vec::new()
    }

    fn apply(&self, state: &mut dyn StateWrite, _: &BlockContext, tx: &[u8]) -> TxOutcome {
        let id = id(tx);
        let Some((client, seq)) = parse(tx) else { return TxOutcome::NotIncludable { id, code: 1, message: "malformed".into() } };
        if total(state, client) != seq {
            return TxOutcome::NotIncludable { id, code: ALREADY, message: "out of sequence".into() };
        }
        let mut value = (seq + 1).to_be_bytes().to_vec();
        if self.manner == Manner::Undetermined {
            // As if it had read a clock or the order of a hash map.
            value.push(u8::from(self.applied.fetch_add(1, Ordering::SeqCst).is_multiple_of(2)));
            state.put(vec![b'x', client], value.clone());
            value.truncate(8);
        }
        state.put(vec![b'c', client], value.clone());
        TxOutcome::Applied { id, ok: true, code: 0, message: String::new(), events: vec![value] }
    }

    fn end(&self, _: &mut dyn StateWrite, _: &BlockContext) -> Vec<Vec<u8>> {
        Vec::new()
    }

    fn next_due(&self, state: &dyn StateRead) -> Due {
        Due::At(number(state, TIMER_KEY))
    }
}

/// Clients that hand in one transaction after another on this machine.
pub(super) struct Small {
    manner: Manner,
    founders: Vec<Validator>,
    newcomer: Option<Validator>,
}

impl Small {
    pub(super) fn new(founders: Founders, manner: Manner) -> Self {
        let newcomer = founders.newcomer.filter(|_| founders.may_rotate).map(|newcomer| newcomer.validator);
        Self { manner, founders: if founders.may_rotate { founders.validators } else { Vec::new() }, newcomer }
    }
}

impl Scenario for Small {
    fn zone(&self) -> ([u8; 32], u64) {
        ([42; 32], 1_000)
    }
    fn machine(&self) -> Arc<dyn Machine> {
        Arc::new(Tally {
            manner: self.manner,
            applied: AtomicU64::new(0),
            founders: self.founders.clone(),
            newcomer: self.newcomer.clone(),
        })
    }
    fn model(&self) -> Box<dyn Model> {
        Box::new(Totals::default())
    }
    fn clients(&self) -> usize {
        usize::from(CLIENTS)
    }
    /// One transaction after another, and none is ever given up.
    fn live(&self, client: usize, door: Door) -> Life {
        let client = u8::try_from(client).expect("few");
        Box::pin(async move {
            for seq in 0.. {
                door.pass(0, 1_500).await;
                while !hand_in(&door, client, seq).await {
                    door.pass(50, 400).await;
                }
            }
        })
    }
}

/// Whether the transaction is final as far as the client was told.
async fn hand_in(door: &Door, client: u8, seq: u64) -> bool {
    let Some(desk) = door.ask() else { return false };
    match door.hand_in(&desk, tx(client, seq)).await {
        Answer::Final(_) => true,
        Answer::Rejected { code: ALREADY, .. } => {
            door.claimed(id(&tx(client, seq)));
            true
        }
        Answer::Rejected { .. } | Answer::Nothing => false,
    }
}

/// What each client's total is after each block.
#[derive(Default)]
struct Totals {
    /// By client, after the last block.
    now: BTreeMap<u8, u64>,
    /// What was counted, by height.
    counted: BTreeMap<u64, Vec<u8>>,
}

impl Model for Totals {
    fn block(&mut self, block: &FinalizedBlock) {
        let height = block.header.height;
        for done in &block.txs {
            let (client, seq) = parse(&done.tx).expect("a transaction of ours");
            let total = self.now.entry(client).or_default();
            assert_eq!(*total, seq, "SEQUENCE: transaction {seq} of client {client} in block {height}");
            *total += 1;
            let events = vec![total.to_be_bytes().to_vec()];
            let said = TxOutcome::Applied { id: id(&done.tx), ok: true, code: 0, message: String::new(), events };
            assert_eq!(done.outcome, said, "MODEL: what transaction {seq} of client {client} did");
            self.counted.entry(height).or_default().push(client);
        }
    }

    fn close(&self, validator: usize, height: u64, state: &dyn StateRead) {
        let mut expected: BTreeMap<u8, u64> = self.now.keys().map(|client| (*client, 0)).collect();
        for client in self.counted.range(..=height).flat_map(|(_, clients)| clients) {
            *expected.entry(*client).or_default() += 1;
        }
        for (client, expected) in expected {
            assert_eq!(total(state, client), expected, "STATE: validator {validator}'s total of client {client} at {height}");
        }
    }
}
