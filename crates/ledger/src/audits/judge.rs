//! Verdicts: what the statements about an audit amount to once its time is over. Spec: `docs/specs/audits.md` §4, §5, §7.
//!
//! Guarantees: a verdict depends on the set of statements alone; a third of the witnesses can neither fail an honest node nor
//! pass one that more than half of the others saw late; timing alone never slashes. It ends no lease: see `excess`.

use super::draw::{dequeue, enqueue, repeat_key};
use super::records::{AuditRecord, AuditState, NodeAudit, OpenAudit, Said};
use super::{AUDIT_DUE, KEEP, KEEP_EPOCHS, audit, due_keys, node_audit, put_audit, put_node_audit, queue_key, rate, roster, tail_number};
use crate::env::Env;
use crate::seams::{self, Capacity};
use pasture_types::audit::{
    AUDIT_SHARES, AuditEvent, AuditParams, Receipt, SAMPLE_UNIT, Verdict, audit_threshold, quorum, receipt_tag, sample,
};
use pasture_types::event::Event;
use pasture_types::state::{StateRead, StateWrite};
use pasture_types::{Millis, NodeId};

/// Most audits that one block judges.
const MAX_JUDGED_PER_BLOCK: usize = 256;

/// What a first attempt without an answer in time adds to the pool once the second one passes: the work of one and a half.
const MISSED_SAMPLE: u32 = (AUDIT_SHARES as u64 * SAMPLE_UNIT * 3 / 2) as u32;

/// What witnesses said, counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Count {
    /// Who said anything that counts.
    pub(super) spoke: usize,
    /// Who saw this node's answer in time.
    pub(super) in_time: usize,
    /// How long the burst counts for, by the witness in the middle.
    pub(super) charged: Millis,
}

/// Whether a receipt, taken at its word, is within the deadline `T x (1 + slack) + RTT`; how long the burst took then.
fn in_time(params: &AuditParams, receipt: &Receipt, tag: u64) -> Option<Millis> {
    let rtt = u64::from(receipt.rtt_ms).min(params.rtt_cap.0);
    let took = Millis(u64::from(receipt.elapsed_ms).saturating_sub(rtt));
    (receipt.tag != 0 && receipt.tag == tag && took <= params.longest()).then_some(took)
}

/// Counts what was said of an answer.
pub(super) fn count(record: &AuditRecord, params: &AuditParams, digest: Option<&[u8; 32]>) -> Count {
    let spoke = record.said.iter().filter(|said| matches!(said, Said::Receipt(_))).count();
    let mut took: Vec<Millis> = record
        .witnesses
        .iter()
        .zip(&record.said)
        .filter_map(|(witness, said)| match (said, digest) {
            (Said::Receipt(r), Some(digest)) => in_time(params, r, receipt_tag(witness, digest)),
            _ => None,
        })
        .collect();
    took.sort_unstable();
    let in_time = took.len();
    // Whoever did not see it in time counts as having seen it last, so that less than half of the witnesses move the middle
    // only between what honest ones saw.
    let middle = took.get(record.witnesses.len() / 2).copied().unwrap_or(params.longest());
    Count { spoke, in_time, charged: params.charged(middle) }
}

/// Judges audits whose time is over.
pub(super) fn judge_due(s: &mut dyn StateWrite, env: &Env, all: &mut AuditState, events: &mut Vec<Event>) {
    // Statements are taken until the deadline itself.
    let Some(until) = env.shifted().0.checked_sub(1) else { return };
    for k in due_keys(s, AUDIT_DUE, until, MAX_JUDGED_PER_BLOCK) {
        dequeue(s, all, &k);
        if let Some(record) = tail_number(&k).and_then(|n| audit(s, n)) {
            judge(s, env, all, record, events);
        }
    }
}

/// What an audit's statements amount to.
pub(super) fn verdict(record: &AuditRecord, params: &AuditParams, count: &Count) -> Verdict {
    let witnesses = record.witnesses.len();
    if record.contradicted {
        Verdict::Contradicted
    } else if !params.active || count.spoke < quorum(witnesses) {
        Verdict::Void
    } else if 2 * count.in_time > witnesses
        && record.answer.is_some_and(|answer| answer.largest <= audit_threshold(record.rate, params.burst))
    {
        Verdict::Passed
    } else {
        Verdict::Failed
    }
}

fn judge(s: &mut dyn StateWrite, env: &Env, all: &mut AuditState, mut record: AuditRecord, events: &mut Vec<Event>) {
    // The node worked, and its witnesses measured, by what held when it was drawn; whether audits are on is asked now.
    let then = seams::params_at(s, env, record.drawn_at).audits;
    let params = AuditParams { active: env.zone.params.audits.active, ..then };
    let digest = record.answer.map(|a| a.statement.digest(&env.zone.id, record.number, &record.node));
    let count = count(&record, &params, digest.as_ref());
    let mut verdict = verdict(&record, &params, &count);
    let Some(mut node) = node_audit(s, &record.node) else { return };
    if node.declared != record.declared && verdict != Verdict::Contradicted {
        verdict = Verdict::Void;
    }
    let repeated =
        record.attempt == 1 && matches!(verdict, Verdict::Failed | Verdict::Void) && node.declared == record.declared && params.active;
    let shown = 2 * count.in_time > record.witnesses.len();
    let missed_before = node.open.take().is_some_and(|open| open.missed);
    if repeated {
        enqueue(s, all, repeat_key(env.clock.height, &record.node));
        let until_shifted = env.shifted().plus(env.zone.params.epoch);
        let missed = verdict == Verdict::Failed && !shown;
        node.open = Some(OpenAudit { audit: None, epoch: record.epoch, until_shifted, missed });
    } else {
        conclude(&mut node, record.epoch, verdict);
    }
    // Work that was shown in time is evidence about the rate, whether it was enough to pay or not.
    if let Some(answer) = record.answer
        && shown
        && matches!(verdict, Verdict::Passed | Verdict::Failed)
    {
        // Who holds an unlucky answer back and passes the repetition must not be better off for it.
        if missed_before && verdict == Verdict::Passed {
            rate::pool(s, env, all, &mut node, MISSED_SAMPLE, events);
        }
        rate::pool(s, env, all, &mut node, sample(answer.largest, record.rate, count.charged), events);
    }
    put_node_audit(s, &node);
    roster::changed(s, &record.node);
    record.verdict = Some(verdict);
    record.said.clear();
    events.push(Event::Audit(AuditEvent::Judged {
        audit: record.number,
        node: record.node,
        verdict,
        in_time: u8::try_from(count.in_time).unwrap_or(u8::MAX),
        witnesses: u8::try_from(record.witnesses.len()).unwrap_or(u8::MAX),
        repeated,
    }));
    put_audit(s, &record);
    let gone = env.shifted().plus(env.epochs(KEEP_EPOCHS));
    enqueue(s, all, queue_key(KEEP, gone, &record.number.to_be_bytes()));
}

/// Notes a verdict that is not repeated.
fn conclude(node: &mut NodeAudit, epoch: u64, verdict: Verdict) {
    match verdict {
        Verdict::Passed => node.pass(epoch),
        Verdict::Failed | Verdict::Contradicted => node.fail(),
        Verdict::Void => node.voids = node.voids.saturating_add(1),
    }
    node.last = Some((epoch, verdict));
}

/// A contradiction that came to light after the verdict.
pub(super) fn convict(s: &mut dyn StateWrite, record: &mut AuditRecord) {
    record.verdict = Some(Verdict::Contradicted);
    if let Some(mut node) = node_audit(s, &record.node).filter(|node| node.declared == record.declared) {
        conclude(&mut node, record.epoch, Verdict::Contradicted);
        put_node_audit(s, &node);
    }
}

/// What audits say of a node's capacity in an epoch.
pub(crate) fn capacity(s: &dyn StateRead, env: &Env, node: &NodeId, epoch: u64) -> Capacity {
    let Some(record) = node_audit(s, node) else { return Capacity::Unaudited };
    if record.failed.iter().any(|(from, after)| (*from..*after).contains(&epoch)) {
        return Capacity::Failed;
    }
    let judged = record.last_pass.is_some_and(|last| epoch <= last);
    if judged {
        // What came before the first audit was paid, or waits, on the benchmark's word.
        let audited = record.first_pass.is_some_and(|first| epoch >= first);
        return if audited { Capacity::Audited } else { Capacity::Unaudited };
    }
    let failing = record.failing_from.is_some_and(|from| epoch >= from);
    if let Some(open) = &record.open
        && !(failing && epoch < open.epoch)
    {
        return Capacity::Open(open.until_shifted.plus(Millis(1)).max(env.shifted().plus(Millis(1))));
    }
    if failing {
        return Capacity::Failed;
    }
    let stands = record.last_pass.is_some_and(|last| epoch <= last.saturating_add(env.zone.params.audits.stands_epochs));
    if stands { Capacity::Audited } else { Capacity::Unaudited }
}
