//! The ledger as the engine's state machine.
//!
//! Guarantees: nothing but translation. The engine sees bytes and tables, the ledger sees blocks and transactions; neither
//! knows the other, so that a change of the ledger does not build the engine again.

use crate::moving;
use crate::zone::LocalZone;
use bytes::Bytes;
use pasture_chain::{Admission, BlockContext, Due, Entries, Machine, Rejection, TxOutcome};
use pasture_ledger::{Applied, BlockCtx, Signatures, TxError};
use pasture_types::event::Event;
use pasture_types::genesis::Genesis;
use pasture_types::state::{StateRead, StateWrite};
use pasture_types::{Timestamp, codec};
use std::path::PathBuf;

/// Largest encoded event.
const MAX_EVENT_BYTES: usize = 64 * 1024;

/// The ledger of one zone.
pub struct LedgerMachine {
    genesis: Genesis,
    /// The file that the zone goes on from, and the digest of its entries, if its state was carried here.
    base: Option<(PathBuf, [u8; 32])>,
}

impl LedgerMachine {
    /// The ledger that a genesis begins.
    #[must_use]
    pub const fn new(genesis: Genesis) -> Self {
        Self { genesis, base: None }
    }

    /// The ledger of a zone of this node: begins with its genesis, or with the state that was carried here.
    #[must_use]
    pub fn of(zone: &LocalZone) -> Self {
        let base = zone.base.as_ref().map(|base| (base.path.clone(), base.chain.entries));
        Self { genesis: zone.genesis.clone(), base }
    }
}

fn context(ctx: &BlockContext) -> BlockCtx {
    BlockCtx {
        height: ctx.height,
        now: Timestamp(ctx.timestamp_ms),
        parent_time: Timestamp(ctx.parent_timestamp_ms),
        randomness: ctx.randomness,
        proposer: ctx.proposer,
    }
}

fn encode(events: &[Event]) -> Vec<Vec<u8>> {
    events.iter().map(codec::encode).collect()
}

/// Reads events back. An unreadable one is left out: events are a feed, not state.
pub(crate) fn decode_events<'a>(events: impl IntoIterator<Item = &'a Vec<u8>>) -> Vec<Event> {
    events.into_iter().filter_map(|bytes| codec::decode(bytes, MAX_EVENT_BYTES).ok()).collect()
}

fn rejection(error: &TxError) -> Rejection {
    Rejection { code: error.code(), message: error.to_string() }
}

impl Machine for LedgerMachine {
    fn genesis(&self) -> Result<Entries, String> {
        match &self.base {
            None => Ok(pasture_ledger::genesis_entries(&self.genesis)),
            Some((path, digest)) => moving::entries(path, digest),
        }
    }

    fn admit(&self, tx: &[u8], state: &dyn StateRead, now_ms: u64) -> Result<Admission, Rejection> {
        let a = pasture_ledger::admit(state, Timestamp(now_ms), tx).map_err(|e| rejection(&e))?;
        Ok(Admission {
            id: a.id.0,
            sender: a.sender,
            lane: a.lane,
            seq: a.seq,
            next_seq: a.next_seq,
            expires_ms: a.valid_until.0,
            tip: a.tip.0,
            cost_us: a.cost_us,
        })
    }

    fn verify(&self, txs: &[Bytes]) -> bool {
        txs.iter().all(|tx| pasture_ledger::verify_stateless(tx).is_ok())
    }

    fn begin(&self, state: &mut dyn StateWrite, ctx: &BlockContext) -> Vec<Vec<u8>> {
        encode(&pasture_ledger::begin_block(state, &context(ctx)))
    }

    fn apply(&self, state: &mut dyn StateWrite, ctx: &BlockContext, tx: &[u8]) -> TxOutcome {
        // Signatures were verified at admission, or by `verify` for another validator's block.
        match pasture_ledger::apply(state, &context(ctx), tx, Signatures::Verified) {
            Applied::Done { id, events } => {
                TxOutcome::Applied { id: id.0, ok: true, code: 0, message: String::new(), events: encode(&events) }
            }
            Applied::Failed { id, error, .. } => {
                TxOutcome::Applied { id: id.0, ok: false, code: error.code(), message: error.to_string(), events: vec![] }
            }
            Applied::NotIncludable { id, error } => TxOutcome::NotIncludable { id: id.0, code: error.code(), message: error.to_string() },
        }
    }

    fn end(&self, state: &mut dyn StateWrite, ctx: &BlockContext) -> Vec<Vec<u8>> {
        encode(&pasture_ledger::end_block(state, &context(ctx)))
    }

    fn next_due(&self, state: &dyn StateRead) -> Due {
        match pasture_ledger::next_due(state) {
            pasture_ledger::Due::Now => Due::Now,
            pasture_ledger::Due::At(time) => Due::At(time.0),
            pasture_ledger::Due::Never => Due::Never,
        }
    }
}
