//! Runs a block's transactions through the state machine, in memory.
//!
//! Guarantees: pure; the same view, context and transactions give the same result on every node and at every replay.

use crate::machine::{BlockContext, Machine, TxOutcome};
use crate::mempool::TxId;
use crate::view::View;
use bytes::Bytes;
use pasture_types::state::{Changes, Overlay, StateRead as _};

/// What to do with a transaction that no block may contain.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Leave it out: the block is being built.
    Build,
    /// Refuse the block that contains it.
    Check,
}

/// What a block did.
#[derive(Default)]
pub(crate) struct Executed {
    /// Only keys whose value differs from the parent's state.
    pub(crate) changes: Changes,
    pub(crate) txs: Vec<Bytes>,
    pub(crate) outcomes: Vec<TxOutcome>,
    pub(crate) begin_events: Vec<Vec<u8>>,
    pub(crate) end_events: Vec<Vec<u8>>,
    /// Transactions left out while building, with the reason.
    pub(crate) dropped: Vec<(TxId, u16, String)>,
}

/// Executes transactions on a state; `None` if the block contains one that it must not.
pub(crate) fn execute(machine: &dyn Machine, view: &View, context: &BlockContext, txs: Vec<Bytes>, mode: Mode) -> Option<Executed> {
    let mut overlay = Overlay::new(view);
    let mut done = Executed { begin_events: machine.begin(&mut overlay, context), ..Executed::default() };
    for tx in txs {
        match machine.apply(&mut overlay, context, &tx) {
            outcome @ TxOutcome::Applied { .. } => {
                done.txs.push(tx);
                done.outcomes.push(outcome);
            }
            TxOutcome::NotIncludable { id, code, message } => match mode {
                Mode::Build => done.dropped.push((id, code, message)),
                Mode::Check => {
                    tracing::warn!(height = context.height, code, message, "a block contains a transaction that no block may contain");
                    return None;
                }
            },
        }
    }
    done.end_events = machine.end(&mut overlay, context);
    done.changes = overlay.into_changes();
    done.changes.retain(|key, value| view.get(key) != *value);
    Some(done)
}
