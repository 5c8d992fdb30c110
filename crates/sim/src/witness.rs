//! Capacity audits: nodes that were drawn hash their burst, validators say what they saw.
//!
//! Guarantees: shares are really computed, as many hashes as the node's real machine makes; all witnesses are honest. Nonces and
//! clocks are made up: there is no network. Spec: `docs/specs/audits.md`.

use crate::chain::Signer;
use crate::config::{CORE_HASHES, VALIDATORS, zone_params};
use crate::strategy::Serving;
use crate::world::{Wake, World, seed_of};
use pasture_ledger::{AuditRecord, query};
use pasture_types::audit::{
    AUDIT_SHARES, Answer, AuditAction, AuditEvent, NonceSet, PackedShares, Receipt, ReceiptBatch, audit_seed, quorum, receipt_tag,
};
use pasture_types::proof::{ResourceClass, share_hash};
use pasture_types::tx::Action;
use pasture_types::{AccountId, Millis, NodeId, Timestamp};

/// Audits whose answers go into one transaction.
const PER_TRANSACTION: usize = 16;
/// A round trip.
const RTT_MS: u16 = 20;
/// Cores of a real machine.
const REAL_CORES: u64 = 4;

/// Validators, and audits that wait for their answers.
pub struct Bursts {
    validators: Vec<(Signer, Signer)>,
    waiting: Vec<(u64, usize)>,
}

impl Bursts {
    /// The validators, each of its own operator.
    #[must_use]
    pub fn new() -> Self {
        let one = |n: u8| {
            let operator = Signer::account(seed_of("operator", u64::from(n)));
            (Signer::node(seed_of("validator", u64::from(n)), operator.account), operator)
        };
        Self { validators: (0..VALIDATORS).map(one).collect(), waiting: Vec::new() }
    }
    /// Their keys and who earns for them.
    pub fn witnesses(&self) -> impl Iterator<Item = (NodeId, AccountId)> {
        self.validators.iter().map(|(key, operator)| (key.node_id(), operator.account))
    }
    /// Their operators.
    pub fn operators(&self) -> impl Iterator<Item = &Signer> {
        self.validators.iter().map(|(_, operator)| operator)
    }
}

impl Default for Bursts {
    fn default() -> Self {
        Self::new()
    }
}

impl World {
    /// What an audit does to those who take part.
    pub fn hear_audit(&mut self, event: &AuditEvent, now: Timestamp) {
        match event {
            AuditEvent::Drawn { audit, node, .. } => {
                let Some(at) = self.node_by_id.get(node).copied() else { return };
                if self.bursts.waiting.is_empty() {
                    self.wake(now.plus(Millis(5_000)), Wake::Answers);
                }
                self.bursts.waiting.push((*audit, at));
            }
            AuditEvent::Judged { verdict, node, .. } => {
                let serving = self.node_by_id.get(node).and_then(|at| self.nodes.get(*at)).map_or(Serving::Honest, |n| n.serving);
                *self.tally.verdicts.entry((serving, format!("{verdict:?}"))).or_default() += 1;
            }
            AuditEvent::Rated { .. } => self.tally.rated += 1,
            // Nobody here has GPUs, or is asked for memory.
            AuditEvent::GpusJudged { .. } | AuditEvent::MemoryJudged { .. } => {}
        }
    }

    /// Answers of all nodes that answer, and what the witnesses say of all of them.
    pub fn answer_audits(&mut self) {
        let waiting = std::mem::take(&mut self.bursts.waiting);
        for some in waiting.chunks(PER_TRANSACTION) {
            let answered: Vec<(AuditRecord, Option<Answer>)> = some.iter().filter_map(|(n, at)| self.burst(*n, *at)).collect();
            let answers: Vec<Answer> = answered.iter().filter_map(|(_, a)| a.clone()).collect();
            let mut actions: Vec<Action> = Vec::new();
            if !answers.is_empty() {
                actions.push(Action::Audit(Box::new(AuditAction::Answers(answers))));
            }
            actions.extend((0..self.bursts.validators.len()).filter_map(|v| self.receipts(v, &answered)));
            if let Some(operator) = self.bursts.operators().next().cloned().filter(|_| !actions.is_empty()) {
                self.chain.send(&operator, actions);
            }
        }
    }

    /// A node's burst: so many hashes as its real machine makes in the time.
    fn burst(&self, number: u64, at: usize) -> Option<(AuditRecord, Option<Answer>)> {
        let audit = query::audit(&self.chain.state, number)?;
        let node = self.nodes.get(at)?;
        if !node.serving.proves() || node.node.node_id() != audit.node {
            return Some((audit, None));
        }
        let members = quorum(audit.witnesses.len());
        let set = NonceSet { mask: (1 << members) - 1, nonces: (0..members as u64).map(|n| number * 1_000 + n).collect() };
        let seed = audit_seed(&audit.randomness.0, number, &audit.node, audit.epoch, ResourceClass::Cpu, 0, &set);
        let hashes = CORE_HASHES * REAL_CORES * zone_params().audits.burst.0 / 1_000;
        let mut all: Vec<(u64, u64)> = (0..hashes).map(|n| (share_hash(&seed, n), n)).collect();
        let last = AUDIT_SHARES.min(all.len().saturating_sub(1));
        all.select_nth_unstable(last);
        let smallest: Vec<u64> = all.into_iter().take(AUDIT_SHARES).map(|(_, n)| n).collect();
        let shares = PackedShares::pack(&smallest)?;
        let answer = Answer::signed(&self.chain.zone, number, set, shares, &node.node.key);
        Some((audit, Some(answer)))
    }

    /// What one witness says of these audits.
    fn receipts(&self, validator: usize, answered: &[(AuditRecord, Option<Answer>)]) -> Option<Action> {
        let witness = &self.bursts.validators.get(validator)?.0;
        let id = witness.node_id();
        let seen = answered.iter().filter(|(a, _)| a.witnesses.contains(&id));
        let base = seen.clone().map(|(a, _)| a.number).min()?;
        let took = u16::try_from(zone_params().audits.burst.0).ok()? + RTT_MS;
        let receipts: Vec<Receipt> = seen
            .filter_map(|(audit, answer)| {
                let offset = u16::try_from(audit.number - base).ok()?;
                let tag = answer.as_ref().map(|a| receipt_tag(&id, &a.statement().digest(&self.chain.zone, audit.number, &audit.node)));
                Some(Receipt { offset, elapsed_ms: tag.map_or(0, |_| took), rtt_ms: RTT_MS, tag: tag.unwrap_or(0) })
            })
            .collect();
        let batch = ReceiptBatch { witness: id, base, receipts };
        let signature = witness.key.sign(&batch.digest(&self.chain.zone));
        Some(Action::Audit(Box::new(AuditAction::Receipts { batch, signature })))
    }
}
