//! Verdicts: what the statements about an audit amount to once its time is over. Spec: `docs/specs/audits.md` §4, §5, §7.
//!
//! Guarantees: a verdict depends on the set of statements alone; a third of the witnesses can neither fail an honest node nor
//! pass one that more than half of the others saw late; timing alone never slashes. It ends no lease: see `excess`; what is
//! counted, and how, is in `recount`.

use super::draw::{dequeue, enqueue, repeat_key};
use super::records::{AuditRecord, AuditState, NodeAudit, OpenAudit, Voided};
use super::recount::{Count, count, verdict};
use super::{AUDIT_DUE, KEEP, KEEP_EPOCHS, audit, due_keys, node_audit, put_audit, put_node_audit, queue_key, rate, roster, tail_number};
use crate::env::Env;
use crate::seams::{self, Capacity};
use pasture_types::audit::{AUDIT_SHARES, AuditEvent, AuditParams, SAMPLE_UNIT, Verdict, sample};
use pasture_types::event::Event;
use pasture_types::state::{StateRead, StateWrite};
use pasture_types::{Millis, NodeId, Timestamp};

/// Most audits that one block judges.
const MAX_JUDGED_PER_BLOCK: usize = 256;

/// What a first attempt without an answer in time adds to the pool once the second one passes: the work of one and a half.
const MISSED_SAMPLE: u32 = (AUDIT_SHARES as u64 * SAMPLE_UNIT * 3 / 2) as u32;

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

/// What comes after a verdict.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Then {
    /// Nothing more.
    Nothing,
    /// A second attempt before all validators.
    Repeat {
        /// This one failed for want of an answer in time.
        missed: bool,
        /// This one failed with an answer in time that shows too little work.
        weak: bool,
    },
    /// A failure that counts: the deposits are told.
    Failed {
        /// Both attempts show too little work.
        weak: bool,
    },
}

/// What follows from a verdict, before anything of it is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Consequence {
    /// What comes after it.
    pub then: Then,
    /// What joins the node's pool, in this order.
    pub samples: [Option<u32>; 2],
}

/// What follows from a verdict: takes the node's open audit from it, and notes the verdict unless it is repeated.
pub fn consequence(record: &AuditRecord, node: &mut NodeAudit, count: &Count, verdict: Verdict) -> Consequence {
    let repeated = record.attempt == 1 && matches!(verdict, Verdict::Failed | Verdict::Void) && record.voided.is_none();
    let shown = 2 * count.in_time > record.witnesses.len();
    let (missed_before, weak_before) = node.open.take().map_or((false, false), |open| (open.missed, open.weak));
    // Shares that its node signed and most witnesses saw in time: nobody but the node can have made them too weak.
    let weak = verdict == Verdict::Failed && shown;
    let then = if repeated {
        Then::Repeat { missed: verdict == Verdict::Failed && !shown, weak }
    } else {
        conclude(node, record.epoch, verdict);
        if verdict == Verdict::Failed { Then::Failed { weak: weak && weak_before } } else { Then::Nothing }
    };
    // Work that was shown in time is evidence about the rate, whether it was enough to pay or not.
    let counts = shown && matches!(verdict, Verdict::Passed | Verdict::Failed);
    let Some(answer) = record.answer.as_ref().filter(|_| counts) else { return Consequence { then, samples: [None; 2] } };
    // Who holds an unlucky answer back and passes the repetition must not be better off for it.
    let missed = (missed_before && verdict == Verdict::Passed).then_some(MISSED_SAMPLE);
    Consequence { then, samples: [missed, Some(sample(answer.largest, record.rate, count.charged))] }
}

fn judge(s: &mut dyn StateWrite, env: &Env, all: &mut AuditState, mut record: AuditRecord, events: &mut Vec<Event>) {
    let Some(mut node) = node_audit(s, &record.node) else { return };
    // The node worked, and its witnesses measured, by what held when it was drawn; whether audits are on is asked now.
    let anew = node.declared != record.declared;
    record.voided = if anew { Some(Voided::DeclaredAnew) } else { (!env.zone.params.audits.active).then_some(Voided::Off) };
    let count = count(&record, &env.zone.id);
    let verdict = verdict(&record, &count);
    let follows = consequence(&record, &mut node, &count, verdict);
    let repeated = matches!(follows.then, Then::Repeat { .. });
    match follows.then {
        Then::Repeat { missed, weak } => {
            enqueue(s, all, repeat_key(env.clock.height, &record.node));
            let until_shifted = env.shifted().plus(env.zone.params.epoch);
            node.open = Some(OpenAudit { audit: None, epoch: record.epoch, until_shifted, missed, weak });
        }
        Then::Failed { weak } => seams::audit_failed(s, env, &record.node, node.in_a_row, weak, events),
        Then::Nothing => {}
    }
    for sample in follows.samples.into_iter().flatten() {
        rate::pool(s, env, all, &mut node, sample, events);
    }
    put_node_audit(s, &node);
    roster::changed(s, &record.node);
    record.verdict = Some(verdict);
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
    let now = Now { epoch: env.epoch(), shifted: env.shifted(), again: env.shifted().plus(env.zone.params.epoch) };
    standing(&record, &env.zone.params.audits, now, epoch)
}

/// When it is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Now {
    /// The epoch.
    pub epoch: u64,
    /// The time, less halts.
    pub shifted: Timestamp,
    /// When to look again where nothing says when, less halts.
    pub again: Timestamp,
}

/// [`capacity`] from a node's record alone.
#[must_use]
pub fn standing(record: &NodeAudit, params: &AuditParams, now: Now, epoch: u64) -> Capacity {
    if record.failed.iter().any(|(from, after)| (*from..*after).contains(&epoch)) {
        return Capacity::Failed;
    }
    let judged = record.last_pass.is_some_and(|last| epoch <= last);
    if judged {
        // What came before the first audit was paid, or waits, on the benchmark's word.
        let audited = record.first_pass.is_some_and(|first| epoch >= first);
        return if audited { Capacity::Audited } else { Capacity::Unaudited };
    }
    // Where audits are active, a benchmark's word is not enough for one that never passed: its epochs wait for the first verdict. If
    // none comes for as long as one would stand, nobody looked, and it is paid as unaudited.
    let soonest = now.shifted.plus(Millis(1));
    if params.active
        && record.last_pass.is_none()
        && record.failing_from.is_none()
        && now.epoch < epoch.saturating_add(params.stands_epochs)
    {
        return Capacity::Open(record.open.map_or(now.again, |open| open.until_shifted.plus(Millis(1)).max(soonest).min(now.again)));
    }
    let failing = record.failing_from.is_some_and(|from| epoch >= from);
    if let Some(open) = &record.open
        && !(failing && epoch < open.epoch)
    {
        return Capacity::Open(open.until_shifted.plus(Millis(1)).max(soonest));
    }
    if failing {
        return Capacity::Failed;
    }
    let stands = record.last_pass.is_some_and(|last| epoch <= last.saturating_add(params.stands_epochs));
    if stands { Capacity::Audited } else { Capacity::Unaudited }
}
