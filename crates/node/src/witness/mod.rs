//! A validator as witness of audits: it visits the nodes that the ledger drew, and tells the ledger what it saw.
//! Spec: `docs/specs/audits.md` §1, §10.
//!
//! ```text
//!  block: Drawn, we are a witness ──► visit (many at once, each bounded) ──► words ──► receipts, answers ──► ledger
//! ```
//! Guarantees: it speaks only of audits that were drawn while this process ran, once of each, so that no restart makes it say two
//! different things; a node that is slow or gone holds up no other. The operator's account pays. It judges nothing.

mod products;
mod visit;
mod words;

use crate::purse::Purse;
use pasture_chain::{Chain, FinalizedBlock, NextBlock, Snapshot, TxOutcome};
use pasture_gateway::Addresses;
use pasture_ledger::{AuditRecord, query};
use pasture_machine::decode_events;
use pasture_rt::{Clock, TaskHandle, TaskKind};
use pasture_types::audit::{Answer, AuditAction, AuditEvent, Receipt, WrongProduct, shown_tag};
use pasture_types::event::Event;
use pasture_types::tx::Action;
use pasture_types::{Millis, NodeId, SigningKey, Timestamp, ZoneId};
use products::Frauds;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use visit::Visit;
use words::Words;

/// A lane of the operator's account that nothing else of the program uses.
const LANE: u8 = 14;
/// How long a transaction may wait for its block: less than an epoch of production.
const VALID_FOR: Millis = Millis(30_000);
/// Visits at once: twice what a block draws. Of an audit beyond it nothing is said.
const MAX_VISITS: usize = 512;
/// An older draw comes too late to be watched: its other witnesses have sent their nonces long ago.
const FRESH: Millis = Millis(10_000);
/// An epoch has so many times at which what waits goes on the ledger; half of the time is left to whoever carries it then.
const FLUSHES_PER_EPOCH: u64 = 8;
/// Opening products may take this part of the time that an audit has.
const OPENING_PART: u64 = 4;
/// The most often that happens.
const LEAST_FLUSH: Duration = Duration::from_millis(250);
/// How long after the start an unknown address is this validator's own fault: nodes announce themselves again within it.
const LEARNING: Millis = pasture_api::ANNOUNCED_FOR;
/// Nodes whose round trips are remembered.
const MAX_NODES: usize = 65_536;
/// A round trip counts for this long, or up to twice as long: half of a day.
const ROUND_TRIPS_FOR: Millis = Millis(12 * 3_600_000);

/// What a witness needs.
pub(crate) struct Witness {
    chain: Chain,
    addresses: Addresses,
    key: SigningKey,
    zone: ZoneId,
    clock: Arc<dyn Clock>,
    purse: Purse,
}

/// The lowest round trips of this half day and of the one before.
#[derive(Default)]
struct RoundTrips {
    since: Timestamp,
    now: BTreeMap<NodeId, Millis>,
    before: BTreeMap<NodeId, Millis>,
}

impl RoundTrips {
    fn lowest(&self, node: &NodeId) -> Option<Millis> {
        self.now.get(node).into_iter().chain(self.before.get(node)).min().copied()
    }
    fn learn(&mut self, node: NodeId, took: Millis, now: Timestamp) {
        if now.since(self.since) >= ROUND_TRIPS_FOR || self.now.len() >= MAX_NODES {
            (self.since, self.before) = (now, std::mem::take(&mut self.now));
        }
        let lowest = self.now.entry(node).or_insert(took);
        *lowest = took.min(*lowest);
    }
}

/// How a visit ended.
struct Visited {
    audit: u64,
    node: NodeId,
    round_trip: Option<Millis>,
    receipt: Receipt,
    answer: Option<Answer>,
    wrong: Option<WrongProduct>,
}

impl Witness {
    pub(crate) fn new(
        chain: Chain,
        addresses: Addresses,
        (key, operator): (SigningKey, SigningKey),
        zone: ZoneId,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let purse = Purse { chain: chain.clone(), operator, zone, clock: Arc::clone(&clock), lane: LANE, valid_for: VALID_FOR };
        Self { chain, addresses, key, zone, clock, purse }
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.clock.now_ms())
    }

    /// Watches until the chain is gone.
    pub(crate) async fn run(self) {
        let mut blocks = self.chain.subscribe();
        let (height, began) = (self.chain.status().height, self.now());
        let (done, mut visited) = mpsc::channel(MAX_VISITS);
        let (mut words, mut frauds) = (Words::default(), Frauds::default());
        let (mut round_trips, mut visits) = (RoundTrips::default(), 0usize);
        let mut flush = tokio::time::interval(self.flush_every());
        flush.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut saying: Option<TaskHandle<()>> = None;
        loop {
            tokio::select! {
                block = blocks.next() => match block {
                    Some(NextBlock::Block(block)) if block.header.height > height => {
                        for audit in self.drawn(&block) {
                            if visits < MAX_VISITS && self.begin(audit, began, &round_trips, &done) {
                                visits += 1;
                            }
                        }
                    }
                    // What was missed is not watched: the others do.
                    Some(_) => {}
                    None => return,
                },
                Some(seen) = visited.recv() => {
                    visits = visits.saturating_sub(1);
                    if let Some(took) = seen.round_trip {
                        round_trips.learn(seen.node, took, self.now());
                    }
                    words.note(seen.audit, seen.receipt, seen.answer);
                    frauds.note(seen.wrong);
                }
                _ = flush.tick(), if !(words.is_empty() && frauds.is_empty()) && saying.as_ref().is_none_or(TaskHandle::is_finished) => {
                    saying = self.say(&mut words, &mut frauds);
                }
            }
        }
    }

    fn flush_every(&self) -> Duration {
        let epoch = self.chain.state().ok().and_then(|s| query::zone(&s)).map_or(Millis(5_000), |zone| zone.params.epoch);
        Duration::from_millis(epoch.0 / FLUSHES_PER_EPOCH).max(LEAST_FLUSH)
    }

    /// The audits that a block drew and that this validator watches.
    fn drawn(&self, block: &FinalizedBlock) -> Vec<AuditRecord> {
        if self.now().since(Timestamp(block.header.timestamp_ms)) > FRESH {
            return vec![];
        }
        let own = self.key.node_id();
        let from_txs = block.txs.iter().flat_map(|tx| match &tx.outcome {
            TxOutcome::Applied { events, .. } => events.as_slice(),
            TxOutcome::NotIncludable { .. } => &[],
        });
        let events = decode_events(block.begin_events.iter().chain(from_txs).chain(&block.end_events));
        let ours = events.into_iter().filter_map(|event| match event {
            Event::Audit(AuditEvent::Drawn { audit, witnesses, .. }) if witnesses.contains(&own) => Some(audit),
            _ => None,
        });
        let Ok(state) = self.chain.state() else { return vec![] };
        ours.filter_map(|number| query::audit(&state, number)).filter(|a| !self.has_spoken(a)).collect()
    }

    /// Whether the ledger has this validator's word on an audit, by whatever process.
    fn has_spoken(&self, audit: &AuditRecord) -> bool {
        let at = audit.witnesses.iter().position(|w| *w == self.key.node_id());
        at.and_then(|at| audit.said.get(at)).is_none_or(|said| *said != pasture_ledger::Said::Nothing)
    }

    /// Begins to watch an audit; `false` if there is nothing to be done, or said, about it.
    fn begin(&self, audit: AuditRecord, began: Timestamp, round_trips: &RoundTrips, done: &mpsc::Sender<Visited>) -> bool {
        let (number, node) = (audit.number, audit.node);
        let url = self.addresses.of(&node);
        if url.is_none() && self.now().since(began) < LEARNING {
            return false;
        }
        // A witness that waits for products must still have its receipt there in time.
        let halted = self.chain.state().map_or(Millis::default(), |state| query::clock(&state).halted);
        let open_within = Duration::from_millis(audit.until_shifted.plus(halted).since(audit.drawn_at).0 / OPENING_PART);
        let (zone, key, round_trip) = (self.zone, self.key.clone(), round_trips.lowest(&node));
        // The node fills a table first; what it may take for that follows from the record.
        let fill = Duration::from_millis(audit.memory.map_or(0, |claim| claim.fill.0));
        let visit = url.map(|url| Visit { zone, key, audit, url, door: self.addresses.door(), round_trip, open_within });
        let (done, zone, own) = (done.clone(), self.zone, self.key.node_id());
        pasture_rt::spawn(TaskKind::Audit, async move {
            tokio::time::sleep(fill).await;
            let (round_trip, seen) = match &visit {
                Some(visit) => visit.make().await,
                None => (None, Err(visit::Unseen::Wrong("the node has not said where it is"))),
            };
            let rtt_ms = round_trip.map_or(0, |ms| u16::try_from(ms.0).unwrap_or(u16::MAX));
            let (receipt, answer, wrong) = match seen {
                Ok(seen) => {
                    let elapsed_ms = u16::try_from(seen.elapsed.0).unwrap_or(u16::MAX);
                    let digest = seen.answer.statement().digest(&zone, number, &node);
                    let tag = shown_tag(&own, &digest, seen.opened.shown);
                    tracing::debug!(number, node = %node.short(), elapsed_ms, rtt_ms, "watched a capacity check");
                    (Receipt { offset: 0, elapsed_ms, rtt_ms, tag }, Some(seen.answer), seen.opened.wrong)
                }
                Err(why) => {
                    tracing::info!(number, node = %node.short(), %why, "a capacity check was not answered in time");
                    (Receipt { offset: 0, elapsed_ms: 0, rtt_ms, tag: 0 }, None, None)
                }
            };
            // The witness is gone with its chain.
            let _ = done.send(Visited { audit: number, node, round_trip, receipt, answer, wrong }).await;
        });
        true
    }

    /// Puts what waits on the ledger; what does not get there is tried again with the next round.
    fn say(&self, words: &mut Words, frauds: &mut Frauds) -> Option<TaskHandle<()>> {
        let state = self.chain.state().ok()?;
        let own = self.key.node_id();
        let record = |number| query::audit(&state, number);
        words.forget(&own, record);
        let batch = words.batch(&own, record);
        let answers = words.answers(|number| record(number).is_some_and(|audit| self.carries(&state, &audit)));
        let wrong = frauds.shown(record);
        if batch.is_none() && answers.is_empty() && wrong.is_empty() {
            return None;
        }
        // Apart: an answer that another carried meanwhile must not take the receipts with it.
        let mut transactions = Vec::new();
        if let Some(batch) = batch {
            let signature = self.key.sign(&batch.digest(&self.zone));
            transactions.push(AuditAction::Receipts { batch, signature });
        }
        if !answers.is_empty() {
            transactions.push(AuditAction::Answers(answers));
        }
        transactions.extend(wrong.into_iter().map(AuditAction::WrongProduct));
        let purse = self.purse.clone();
        Some(pasture_rt::spawn(TaskKind::Audit, async move {
            for action in transactions {
                if let Err(why) = purse.submit(vec![Action::Audit(Box::new(action))]).await {
                    tracing::warn!(why, "what was seen of capacity checks is not on the ledger yet; it is sent again");
                }
            }
        }))
    }

    /// Whether this witness puts an audit's answer on the ledger now: one of them at once, the others only if that one does not.
    fn carries(&self, state: &Snapshot, audit: &AuditRecord) -> bool {
        let count = audit.witnesses.len().max(1) as u64;
        let turn = usize::try_from(audit.number % count).unwrap_or_default();
        let until = audit.until_shifted.plus(query::clock(state).halted);
        let quarter = Millis(until.since(audit.drawn_at).0 / 4);
        audit.witnesses.get(turn) == Some(&self.key.node_id()) || self.now() >= audit.drawn_at.plus(quarter)
    }
}

/// An audit of which nobody has spoken yet.
#[cfg(test)]
pub(crate) fn unspoken(number: u64, node: NodeId, witnesses: Vec<NodeId>) -> AuditRecord {
    AuditRecord {
        number,
        node,
        declared: 0,
        attempt: 1,
        epoch: 3,
        drawn_at: Timestamp(1),
        randomness: pasture_types::event::Hash32([2; 32]),
        rate: 1,
        terms: pasture_types::audit::AuditParams::production().terms(),
        gpus: vec![],
        memory: None,
        said: vec![pasture_ledger::Said::Nothing; witnesses.len()],
        witnesses,
        until_shifted: Timestamp(9),
        answer: None,
        contradicted: false,
        voided: None,
        verdict: None,
        gpu_verdict: None,
        memory_verdict: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_round_trip_counts_for_a_day_and_no_longer() {
        let mut known = RoundTrips::default();
        let node = NodeId([1; 32]);
        let at = |half_days: u64| Timestamp(half_days * ROUND_TRIPS_FOR.0 + 1);
        known.learn(node, Millis(7), at(1));
        known.learn(node, Millis(9), at(1));
        assert_eq!(known.lowest(&node), Some(Millis(7)));
        known.learn(node, Millis(20), at(2));
        assert_eq!(known.lowest(&node), Some(Millis(7)));
        known.learn(node, Millis(30), at(3));
        assert_eq!(known.lowest(&node), Some(Millis(20)));
    }
}
