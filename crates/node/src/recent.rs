//! What the last transactions did, for clients whose answer was lost on the way.
//!
//! Guarantees: holds the newest [`KEPT`] results since the start of this process, found by id, and says up to which block it knows
//! them all. It forgets at a restart: the blocks on disk still say which transactions they have.

use pasture_api::TxResult;
use pasture_chain::{FinalizedBlock, TxOutcome};
use pasture_machine::decode_events;
use pasture_types::{Height, Timestamp, TxId};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// Results kept: some seconds of a full load, hours of an ordinary one; a few MiB.
const KEPT: usize = 8_192;
/// Longest wait for the results of a block that is on disk already.
const PATIENCE: Duration = Duration::from_secs(2);

/// The newest results. A lock and not a task of its own: each use is one look into memory.
#[derive(Default)]
pub(crate) struct Recent {
    kept: Mutex<Kept>,
    /// Height of the newest block whose results were kept; 0 before the first.
    through: watch::Sender<u64>,
}

#[derive(Default)]
struct Kept {
    results: BTreeMap<TxId, TxResult>,
    order: VecDeque<TxId>,
}

impl Recent {
    /// Nothing is known of the blocks up to this one, nor will be.
    pub(crate) fn begin(&self, height: u64) {
        self.through.send_replace(height);
    }

    /// Keeps what a block's transactions did.
    pub(crate) fn remember(&self, block: &FinalizedBlock) {
        let (height, time) = (Height(block.header.height), Timestamp(block.header.timestamp_ms));
        for tx in &block.txs {
            if let TxOutcome::Applied { id, ok, code, message, events } = &tx.outcome {
                let events = decode_events(events);
                self.keep(TxResult { id: TxId(*id), height, time, ok: *ok, code: *code, message: message.clone(), events });
            }
        }
        self.through.send_replace(height.0);
    }

    /// Waits until the results of a block were kept. A block is on disk, and its submitters are answered, a moment before; one
    /// that this process did not see become final is never waited for, nor any beyond [`PATIENCE`].
    pub(crate) async fn reach(&self, height: Height) {
        let mut through = self.through.subscribe();
        // Too late or never: the caller looks again and finds what there is.
        let _ = tokio::time::timeout(PATIENCE, through.wait_for(|through| *through >= height.0)).await;
    }

    fn keep(&self, result: TxResult) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let id = result.id;
        if kept.results.insert(id, result).is_none() {
            kept.order.push_back(id);
        }
        if kept.order.len() > KEPT
            && let Some(oldest) = kept.order.pop_front()
        {
            kept.results.remove(&oldest);
        }
    }

    /// What a transaction did.
    pub(crate) fn find(&self, id: &TxId) -> Option<TxResult> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).results.get(id).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_kept_and_no_more() {
        let recent = Recent::default();
        let id = |n: usize| TxId(pasture_types::ids::derive("test", &[&n.to_le_bytes()]));
        for n in 0..KEPT + 2 {
            let result =
                TxResult { id: id(n), height: Height(1), time: Timestamp(1), ok: true, code: 0, message: String::new(), events: vec![] };
            recent.keep(result.clone());
            recent.keep(result);
        }
        assert!(recent.find(&id(0)).is_none() && recent.find(&id(1)).is_none());
        assert!(recent.find(&id(2)).is_some() && recent.find(&id(KEPT + 1)).is_some());
    }
}
