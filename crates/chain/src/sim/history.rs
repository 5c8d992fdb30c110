//! What every validator said was final, and what it signed: checked against each other at once.
//!
//! Guarantees: independent of the chain's own bookkeeping; it shows the blocks to a [`Model`] once each, in order. A broken rule panics,
//! which ends the run. Rules: one block at a height; heights grow by one; each block names the one before it; each transaction is in at
//! most one block; what was acknowledged is final where it was said to be, and still is on that validator's disk after a crash; an
//! honest validator never signs two different votes where it may sign one.

use super::frame::Said;
use super::scenario::Model;
use crate::core::FinalizedBlock;
use crate::mempool::TxId;
use pasture_types::state::StateRead;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Blocks whose contents are compared with what others say of them; whoever is further behind is compared by digest.
const COMPARED: u64 = 4_096;

#[derive(Default)]
struct Node {
    /// Of the running incarnation.
    latest: Option<u64>,
    /// What this validator ever said was final.
    highest: u64,
}

/// What one validator signed in one view.
#[derive(Default, Debug)]
struct Votes {
    notarized: Option<[u8; 32]>,
    finalized: Option<[u8; 32]>,
    nullified: bool,
}

/// The history of one run.
pub(super) struct History {
    nodes: Vec<Node>,
    blocks: BTreeMap<u64, Arc<FinalizedBlock>>,
    digests: BTreeMap<u64, [u8; 32]>,
    /// Up to where [`History::follow`] has replayed.
    replayed: u64,
    model: Box<dyn Model>,
    included: HashMap<TxId, u64>,
    acknowledged: Vec<(TxId, u64)>,
    /// What a client was told is final, without where.
    claimed: Vec<TxId>,
    votes: HashMap<(usize, u64, u64), Votes>,
    trace: blake3::Hasher,
}

impl History {
    pub(super) fn new(nodes: usize, model: Box<dyn Model>) -> Self {
        Self {
            nodes: (0..nodes).map(|_| Node::default()).collect(),
            blocks: BTreeMap::new(),
            digests: BTreeMap::new(),
            replayed: 0,
            model,
            included: HashMap::new(),
            acknowledged: Vec::new(),
            claimed: Vec::new(),
            votes: HashMap::new(),
            trace: blake3::Hasher::new(),
        }
    }

    fn note(&mut self, now_ms: u64, what: &str, node: usize, number: u64, bytes: &[u8]) {
        self.trace.update(format!("{now_ms} {what} {node} {number} ").as_bytes());
        self.trace.update(bytes);
    }

    /// A hash over everything that was told here, with its times.
    pub(super) fn trace(&self) -> [u8; 32] {
        *self.trace.finalize().as_bytes()
    }

    /// A validator crashed.
    pub(super) fn crashed(&mut self, now_ms: u64, node: usize) {
        self.nodes[node].latest = None;
        self.note(now_ms, "crash", node, 0, &[]);
    }

    /// A validator has read what its disk holds.
    pub(super) fn started(&mut self, now_ms: u64, node: usize, height: u64) {
        self.note(now_ms, "start", node, height, &[]);
        let highest = self.nodes[node].highest;
        assert!(height >= highest, "DURABLE: validator {node} said that block {highest} is final and has {height} after a crash");
    }

    /// A validator said that a block is final.
    pub(super) fn finalized(&mut self, now_ms: u64, node: usize, block: &Arc<FinalizedBlock>) {
        let height = block.header.height;
        self.note(now_ms, "final", node, height, &block.digest);
        let known = &mut self.nodes[node];
        if let Some(latest) = known.latest {
            assert_eq!(height, latest + 1, "ORDER: validator {node} went from block {latest} to {height}");
        }
        known.latest = Some(height);
        known.highest = known.highest.max(height);
        let first = *self.digests.entry(height).or_insert(block.digest);
        assert_eq!(first, block.digest, "FORK: validator {node} has another block at height {height}");
        match self.blocks.get(&height) {
            Some(other) => {
                let same = other.txs == block.txs && other.begin_events == block.begin_events && other.end_events == block.end_events;
                assert!(same, "STATE: validator {node} got other results from block {height}");
            }
            None if height > self.replayed => {
                self.blocks.insert(height, Arc::clone(block));
                self.follow();
            }
            None => {}
        }
    }

    /// Shows blocks to the model as far as there is no gap.
    fn follow(&mut self) {
        while let Some(block) = self.blocks.get(&(self.replayed + 1)).cloned() {
            let height = self.replayed + 1;
            if let Some(before) = self.digests.get(&self.replayed) {
                assert_eq!(block.header.parent, *before, "LINK: block {height} does not follow the one before it");
            }
            for done in &block.txs {
                let twice = self.included.insert(done.outcome.id(), height);
                assert_eq!(twice, None, "ONCE: a transaction is in block {height} again");
            }
            self.model.block(&block);
            self.replayed = height;
            self.blocks.remove(&height.saturating_sub(COMPARED));
        }
    }

    /// A client was told that its transaction is final.
    pub(super) fn acknowledge(&mut self, now_ms: u64, node: usize, id: TxId, height: u64) {
        self.note(now_ms, "ack", node, height, &id);
        self.acknowledged.push((id, height));
        let known = &mut self.nodes[node];
        known.highest = known.highest.max(height);
    }

    pub(super) fn acknowledged(&self) -> usize {
        self.acknowledged.len()
    }

    /// A client was told that its transaction is already in the state.
    pub(super) fn claimed(&mut self, id: TxId) {
        self.claimed.push(id);
    }

    /// A vote left an honest validator.
    pub(super) fn signed(&mut self, node: usize, said: Said) {
        let votes = self.votes.entry((node, said.epoch(), said.view())).or_default();
        match said {
            Said::Notarize { payload, .. } => {
                let before = *votes.notarized.get_or_insert(payload);
                assert_eq!(before, payload, "TWICE: validator {node} notarized two proposals: {said:?}");
            }
            Said::Finalize { payload, .. } => {
                let before = *votes.finalized.get_or_insert(payload);
                assert_eq!(before, payload, "TWICE: validator {node} finalized two proposals: {said:?}");
            }
            Said::Nullify { .. } => votes.nullified = true,
        }
        assert!(!(votes.nullified && votes.finalized.is_some()), "TWICE: validator {node} nullified and finalized: {said:?}");
        let differs = votes.finalized.is_some_and(|f| votes.notarized.is_some_and(|n| n != f));
        assert!(!differs, "TWICE: validator {node} finalized what it did not notarize: {said:?}");
    }

    /// The highest block that anybody has.
    pub(super) fn tip(&self) -> u64 {
        self.digests.last_key_value().map_or(0, |(height, _)| *height)
    }

    /// How much clients were told so far.
    pub(super) fn told(&self) -> (usize, usize) {
        (self.acknowledged.len(), self.claimed.len())
    }

    /// The rules that can only be judged at the end, of a validator's state at a height; `told` is what clients knew then.
    pub(super) fn close(&self, node: usize, height: u64, (acknowledged, claimed): (usize, usize), state: &dyn StateRead) {
        assert!(self.replayed >= height, "GAP: validator {node} is at {height}; the blocks are known up to {}", self.replayed);
        for (id, at) in self.acknowledged.iter().take(acknowledged) {
            assert_eq!(self.included.get(id), Some(at), "LOST: an acknowledged transaction is not in block {at}");
        }
        for id in self.claimed.iter().take(claimed) {
            assert!(self.included.contains_key(id), "LOST: a transaction that was said to be in the state is in no block");
        }
        self.model.close(node, height, state);
    }
}
