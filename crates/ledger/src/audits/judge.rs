//! Verdicts: what the statements about an audit amount to once its time is over. Spec: `docs/specs/audits.md` §4, §5, §7.
//!
//! Guarantees: a verdict depends on the set of statements alone; a third of the witnesses can neither fail an honest node nor
//! pass one that more than half of the others saw late; timing alone never slashes. It ends no lease: see `excess`; what is
//! counted, and how, is in `recount`.

use super::draw::{dequeue, enqueue, repeat_key};
use super::records::{AuditRecord, AuditState, ClassAudit, NodeAudit, OpenAudit, Voided, behind};
use super::recount::{Count, count, gpu_verdict, memory_verdict, verdict};
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
        /// At most a third of the witnesses saw an answer in time, or it shows too little work.
        lacking: bool,
    },
    /// A failure that counts: the deposits are told.
    Failed {
        /// Both attempts show too little work.
        weak: bool,
    },
}

impl Then {
    /// The audit of an epoch that waits for its repetition until then.
    #[must_use]
    pub const fn reopened(self, epoch: u64, until_shifted: Timestamp) -> OpenAudit {
        let (missed, weak, lacking) = match self {
            Self::Repeat { missed, weak, lacking } => (missed, weak, lacking),
            Self::Nothing | Self::Failed { .. } => (false, false, false),
        };
        OpenAudit { missed, weak, lacking, ..OpenAudit::new(None, epoch, until_shifted) }
    }
}

/// What follows from a verdict, before anything of it is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Consequence {
    /// What comes after it.
    pub then: Then,
    /// What joins the node's pool, in this order.
    pub samples: [Option<u32>; 2],
    /// It passed, and its first attempt was lacking: these epochs are not paid, nor [`lapse`] ones from the next one on.
    pub lapses: Option<(u64, u64)>,
}

/// How long a machine is not paid that passed at the repetition only, after a first attempt that was lacking, in epochs: what lies between two
/// audits on average, and two epochs in which one is open. A machine that is away in a part of the time loses that part of its pay at
/// least, as nobody can foresee a draw.
#[must_use]
pub fn lapse(params: &AuditParams, epoch: Millis) -> u64 {
    params.interval.0.div_ceil(epoch.0.max(1)).saturating_add(2)
}

/// Whether a verdict is one that a second attempt may mend.
fn repeats(record: &AuditRecord, verdict: Verdict) -> bool {
    record.attempt == 1 && matches!(verdict, Verdict::Failed | Verdict::Void) && record.voided.is_none()
}

/// What follows from a verdict: takes the node's open audit from it, and notes the verdict unless it is repeated.
pub fn consequence(record: &AuditRecord, node: &mut NodeAudit, count: &Count, verdict: Verdict) -> Consequence {
    let shown = 2 * count.in_time > record.witnesses.len();
    let before = node.open.take();
    let (missed_before, weak_before) = before.map_or((false, false), |open| (open.missed, open.weak));
    let lacking = before.filter(|open| verdict == Verdict::Passed && open.lacking && !open.cpu_settled);
    let lapses = lacking.map(|open| behind(node.last_pass, open.epoch));
    // What is repeated for the GPUs' sake alone has its verdict; a contradiction is one in whichever attempt.
    let settled = before.is_some_and(|open| open.cpu_settled) && verdict != Verdict::Contradicted;
    // Shares that its node signed and most witnesses saw in time: nobody but the node can have made them too weak.
    let weak = verdict == Verdict::Failed && shown;
    let then = if repeats(record, verdict) {
        let unseen = verdict == Verdict::Failed && lacks(count.in_time, record);
        Then::Repeat { missed: verdict == Verdict::Failed && !shown, weak, lacking: weak || unseen }
    } else if settled {
        Then::Nothing
    } else {
        conclude(node, record.epoch, verdict);
        if verdict == Verdict::Failed { Then::Failed { weak: weak && weak_before } } else { Then::Nothing }
    };
    // Work that was shown in time is evidence about the rate, whether it was enough to pay or not.
    // Where a walk came before the burst, its time says nothing about the rate.
    let counts = shown && matches!(verdict, Verdict::Passed | Verdict::Failed) && record.memory.is_none();
    let Some(answer) = record.answer.as_ref().filter(|_| counts) else { return Consequence { then, samples: [None; 2], lapses } };
    // Who holds an unlucky answer back and passes the repetition must not be better off for it.
    let missed = (missed_before && verdict == Verdict::Passed).then_some(MISSED_SAMPLE);
    Consequence { then, samples: [missed, Some(sample(answer.largest, record.rate, count.charged))], lapses }
}

/// Whether so few witnesses saw what was asked that no third of them can have made it so by lying.
const fn lacks(seen: usize, record: &AuditRecord) -> bool {
    3 * seen <= record.witnesses.len()
}

fn judge(s: &mut dyn StateWrite, env: &Env, all: &mut AuditState, mut record: AuditRecord, events: &mut Vec<Event>) {
    let Some(mut node) = node_audit(s, &record.node) else { return };
    // The node worked, and its witnesses measured, by what held when it was drawn; whether audits are on is asked now.
    let anew = node.declared != record.declared;
    record.voided = if anew { Some(Voided::DeclaredAnew) } else { (!env.zone.params.audits.active).then_some(Voided::Off) };
    let count = count(&record, &env.zone.id);
    let verdict = verdict(&record, &count);
    let before = node.open;
    let follows = consequence(&record, &mut node, &count, verdict);
    let repeated = matches!(follows.then, Then::Repeat { .. });
    let gpus = Apart::of(&record, gpu_verdict(&record, &count), count.proven);
    let memory = Apart::of(&record, memory_verdict(&record, &count), count.memory);
    if repeated || gpus.repeated || memory.repeated {
        enqueue(s, all, repeat_key(env.clock.height, &record.node));
        node.open = Some(OpenAudit {
            cpu_settled: !repeated,
            gpu_settled: !gpus.repeated,
            gpu_lacking: gpus.lacking,
            memory_settled: !memory.repeated,
            memory_lacking: memory.lacking,
            ..follows.then.reopened(record.epoch, env.shifted().plus(env.zone.params.epoch))
        });
    }
    if let Then::Failed { weak } = follows.then {
        seams::audit_failed(s, env, &record.node, node.in_a_row, weak, events);
    }
    let (next, long) = (env.epoch().saturating_add(1), lapse(&env.zone.params.audits, env.zone.params.epoch));
    let missed = |lacking: bool| before.filter(|_| lacking).map(|open| open.epoch);
    if let Some(verdict) = gpus.concludes(before.is_some_and(|open| open.gpu_settled)) {
        let missed = missed(before.is_some_and(|open| open.gpu_lacking));
        conclude_class(&mut node.gpu, record.epoch, record.gpus.clone(), verdict, missed.map(|missed| (missed, next, long)));
    }
    if let Some(verdict) = memory.concludes(before.is_some_and(|open| open.memory_settled)) {
        let missed = missed(before.is_some_and(|open| open.memory_lacking));
        conclude_class(&mut node.memory, record.epoch, asked_bytes(&record), verdict, missed.map(|missed| (missed, next, long)));
    }
    if let Some(behind) = follows.lapses {
        node.lapse(behind, next, long);
    }
    for sample in follows.samples.into_iter().flatten() {
        rate::pool(s, env, all, &mut node, sample, events);
    }
    put_node_audit(s, &node);
    roster::changed(s, &record.node);
    (record.verdict, record.gpu_verdict, record.memory_verdict) = (Some(verdict), gpus.verdict, memory.verdict);
    tell(&record, &count, [repeated, gpus.repeated, memory.repeated], events);
    put_audit(s, &record);
    let gone = env.shifted().plus(env.epochs(KEEP_EPOCHS));
    enqueue(s, all, queue_key(KEEP, gone, &record.number.to_be_bytes()));
}

/// How an audit ended for a class that is judged apart from the CPU.
struct Apart {
    verdict: Option<Verdict>,
    repeated: bool,
    /// So few witnesses saw it that no third of them can have made it so.
    lacking: bool,
}

impl Apart {
    fn of(record: &AuditRecord, verdict: Option<Verdict>, proven: usize) -> Self {
        let repeated = verdict.is_some_and(|verdict| repeats(record, verdict));
        Self { verdict, repeated, lacking: verdict == Some(Verdict::Failed) && lacks(proven, record) }
    }
    /// The verdict that counts; a contradiction is one in whichever attempt.
    fn concludes(&self, settled: bool) -> Option<Verdict> {
        self.verdict.filter(|verdict| !self.repeated && (!settled || *verdict == Verdict::Contradicted))
    }
}

fn asked_bytes(record: &AuditRecord) -> u64 {
    record.memory.map_or(0, |claim| claim.bytes())
}

fn tell(record: &AuditRecord, count: &Count, repeated: [bool; 3], events: &mut Vec<Event>) {
    let (audit, node) = (record.number, record.node);
    let short = |n: usize| u8::try_from(n).unwrap_or(u8::MAX);
    let (in_time, witnesses) = (short(count.in_time), short(record.witnesses.len()));
    let [cpu_repeated, gpus_repeated, memory_repeated] = repeated;
    if let Some(verdict) = record.verdict {
        events.push(Event::Audit(AuditEvent::Judged { audit, node, verdict, in_time, witnesses, repeated: cpu_repeated }));
    }
    if let Some(verdict) = record.gpu_verdict {
        let proven = short(count.proven);
        events.push(Event::Audit(AuditEvent::GpusJudged { audit, node, verdict, proven, witnesses, repeated: gpus_repeated }));
    }
    if let Some(verdict) = record.memory_verdict {
        let proven = short(count.memory);
        events.push(Event::Audit(AuditEvent::MemoryJudged { audit, node, verdict, proven, witnesses, repeated: memory_repeated }));
    }
}

/// The same for a class that it asked; `lapse`: the epoch of a first attempt that was lacking, the next epoch, how many then are not paid.
fn conclude_class<P: Default>(known: &mut Option<ClassAudit<P>>, epoch: u64, proven: P, verdict: Verdict, lapse: Option<(u64, u64, u64)>) {
    let last_pass = known.as_ref().and_then(|class| class.last_pass);
    match verdict {
        Verdict::Passed => known.get_or_insert_default().pass(epoch, proven),
        Verdict::Failed | Verdict::Contradicted => known.get_or_insert_default().fail(),
        Verdict::Void => return,
    }
    if let Some((missed, next, long)) = lapse.filter(|_| verdict == Verdict::Passed) {
        known.get_or_insert_default().lapse(behind(last_pass, missed), next, long);
    }
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
    record.gpu_verdict = (!record.gpus.is_empty()).then_some(Verdict::Contradicted);
    record.memory_verdict = record.memory.map(|_| Verdict::Contradicted);
    if let Some(mut node) = node_audit(s, &record.node).filter(|node| node.declared == record.declared) {
        conclude(&mut node, record.epoch, Verdict::Contradicted);
        if record.gpu_verdict.is_some() {
            conclude_class(&mut node.gpu, record.epoch, Vec::new(), Verdict::Contradicted, None);
        }
        if record.memory_verdict.is_some() {
            conclude_class(&mut node.memory, record.epoch, 0, Verdict::Contradicted, None);
        }
        put_node_audit(s, &node);
    }
}

/// What is known of a class of a node.
pub(super) struct Stand<'a> {
    /// Epoch of the first passed audit.
    pub(super) first_pass: Option<u64>,
    /// Epoch of the last one.
    pub(super) last_pass: Option<u64>,
    /// From which epoch on it counts as failed.
    pub(super) failing_from: Option<u64>,
    /// Stretches of failed epochs.
    pub(super) failed: &'a [(u64, u64)],
}

/// What audits say of a node's capacity in an epoch.
pub(crate) fn capacity(s: &dyn StateRead, env: &Env, node: &NodeId, epoch: u64) -> Capacity {
    let Some(record) = node_audit(s, node) else { return Capacity::Unaudited };
    standing(&record, &env.zone.params.audits, now(env), epoch)
}

/// When it is asked: in this block.
pub(super) fn now(env: &Env) -> Now {
    Now { epoch: env.epoch(), shifted: env.shifted(), again: env.shifted().plus(env.zone.params.epoch) }
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
    let known =
        Stand { first_pass: record.first_pass, last_pass: record.last_pass, failing_from: record.failing_from, failed: &record.failed };
    stands(params, now, epoch, &known, record.open.filter(|open| !open.cpu_settled).as_ref())
}

/// What they say of a class of it; `open` is an audit that is not over for that class.
pub(super) fn stands(params: &AuditParams, now: Now, epoch: u64, known: &Stand<'_>, open: Option<&OpenAudit>) -> Capacity {
    if known.failed.iter().any(|(from, after)| (*from..*after).contains(&epoch)) {
        return Capacity::Failed;
    }
    let judged = known.last_pass.is_some_and(|last| epoch <= last);
    if judged {
        // What came before the first audit was paid, or waits, on the benchmark's word.
        let audited = known.first_pass.is_some_and(|first| epoch >= first);
        return if audited { Capacity::Audited } else { Capacity::Unaudited };
    }
    // Where audits are active, a benchmark's word is not enough for one that never passed: its epochs wait for the first verdict. If
    // none comes for as long as one would stand, nobody looked, and it is paid as unaudited.
    let soonest = now.shifted.plus(Millis(1));
    if params.active && known.last_pass.is_none() && known.failing_from.is_none() && now.epoch < epoch.saturating_add(params.stands_epochs)
    {
        return Capacity::Open(open.map_or(now.again, |open| open.until_shifted.plus(Millis(1)).max(soonest).min(now.again)));
    }
    let failing = known.failing_from.is_some_and(|from| epoch >= from);
    if let Some(open) = open
        && !(failing && epoch < open.epoch)
    {
        return Capacity::Open(open.until_shifted.plus(Millis(1)).max(soonest));
    }
    if failing {
        return Capacity::Failed;
    }
    let stands = known.last_pass.is_some_and(|last| epoch <= last.saturating_add(params.stands_epochs));
    if stands { Capacity::Audited } else { Capacity::Unaudited }
}
