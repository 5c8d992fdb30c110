//! What the tables of audits hold. Spec: `docs/specs/audits.md`.
//!
//! Guarantees: borsh, frozen by golden fixtures; every list is bounded. They hold no money.

use borsh::{BorshDeserialize, BorshSerialize};
use pasture_types::audit::{Answer, AuditTerms, GpuClaim, MemoryClaim, Receipt, SAMPLE_UNIT, Verdict};
use pasture_types::event::Hash32;
use pasture_types::{Millis, NodeId, Timestamp};
use serde::{Deserialize, Serialize};

/// Most stretches of failed epochs that are told apart; the two oldest then count as one, which only pays less.
pub(crate) const MAX_FAILED: usize = 16;
const PPM: u32 = 1_000_000;

/// Where the draws stand.
#[derive(Clone, PartialEq, Eq, Default, Debug, BorshSerialize, BorshDeserialize)]
pub struct AuditState {
    /// The next audit's number.
    pub next: u64,
    /// Groups on the roster.
    pub groups: u32,
    /// Entries in the queues of deadlines, ends, repeats and deletions.
    pub queued: u64,
    /// The next tick, less halts.
    pub tick_shifted: Timestamp,
    /// A tick whose draw is not finished.
    pub drawing: Option<Drawing>,
}

/// A tick that came; what it draws is decided by randomness from after it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Drawing {
    /// The block that made the tick.
    pub height: u64,
    /// Groups on the roster then.
    pub groups: u32,
    /// Groups drawn so far.
    pub drawn: u32,
}

/// An audit that is not over.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct OpenAudit {
    /// Its number; `None` while a failed one waits for the randomness of its repetition.
    pub audit: Option<u64>,
    /// The epoch of its first draw.
    pub epoch: u64,
    /// When to look again, less halts.
    pub until_shifted: Timestamp,
    /// Its first attempt failed for want of an answer in time.
    pub missed: bool,
    /// Its first attempt failed with an answer in time that shows too little work.
    pub weak: bool,
    /// The CPU's part is settled by the first attempt; the repetition is for the GPUs.
    pub cpu_settled: bool,
    /// The GPUs' part is.
    pub gpu_settled: bool,
    /// Its first attempt was lacking: a pass of the repetition pays, but not for a while.
    pub lacking: bool,
    /// The same of the GPUs.
    pub gpu_lacking: bool,
    /// The memory's part is settled, or was not asked: a repetition does not ask for it.
    pub memory_settled: bool,
    /// The first attempt was lacking for the memory.
    pub memory_lacking: bool,
}

impl OpenAudit {
    /// One that was drawn, or waits, in this epoch.
    #[must_use]
    pub const fn new(audit: Option<u64>, epoch: u64, until_shifted: Timestamp) -> Self {
        Self {
            audit,
            epoch,
            until_shifted,
            missed: false,
            weak: false,
            cpu_settled: false,
            gpu_settled: false,
            lacking: false,
            gpu_lacking: false,
            memory_settled: false,
            memory_lacking: false,
        }
    }
}

/// What audits know of a node's GPUs.
pub type GpuAudit = ClassAudit<Vec<GpuClaim>>;

/// What audits know of a node's memory; what is proven is how many bytes.
pub type MemoryAudit = ClassAudit<u64>;

/// What audits know of a class of a node that is judged apart from its CPU.
#[derive(Clone, PartialEq, Eq, Default, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct ClassAudit<P> {
    /// Epoch of the first audit that it passed.
    pub first_pass: Option<u64>,
    /// Epoch of the last one.
    pub last_pass: Option<u64>,
    /// From which epoch on it counts as failed, until it passes again.
    pub failing_from: Option<u64>,
    /// Stretches of failed epochs: from, and the first one after.
    pub failed: Vec<(u64, u64)>,
    /// What the last passed audit proved.
    pub proven: P,
    /// Audits passed.
    pub passes: u32,
    /// Audits failed, repeated ones once.
    pub failures: u32,
}

impl<P> ClassAudit<P> {
    /// It passed an audit of an epoch.
    pub(crate) fn pass(&mut self, epoch: u64, proven: P) {
        end_failing(&mut self.failing_from, &mut self.failed, epoch);
        self.first_pass.get_or_insert(epoch);
        self.last_pass = self.last_pass.max(Some(epoch));
        self.proven = proven;
        self.passes = self.passes.saturating_add(1);
    }
    /// It passed only when asked again: what is behind is not paid, nor so many epochs from this one on.
    pub(crate) fn lapse(&mut self, behind: (u64, u64), from: u64, epochs: u64) {
        add_lapse(&mut self.failed, behind, from, epochs);
    }
    /// It failed, after repetition.
    pub(crate) fn fail(&mut self) {
        self.failing_from = Some(failing_since(self.failing_from, self.last_pass));
        self.failures = self.failures.saturating_add(1);
    }
}

/// Ends a stretch of failed epochs.
fn end_failing(failing_from: &mut Option<u64>, failed: &mut Vec<(u64, u64)>, epoch: u64) {
    let Some(from) = failing_from.take() else { return };
    add_failed(failed, (from, epoch.max(from)));
}

/// Adds failed epochs, and such as are still to come: those after what is known already, so that what is lacking twice costs twice.
fn add_lapse(failed: &mut Vec<(u64, u64)>, behind: (u64, u64), from: u64, epochs: u64) {
    add_failed(failed, behind);
    let from = failed.iter().map(|(_, after)| *after).max().unwrap_or(0).max(from);
    add_failed(failed, (from, from.saturating_add(epochs)));
}

/// Adds failed epochs in their order; stretches that touch are one.
fn add_failed(failed: &mut Vec<(u64, u64)>, stretch: (u64, u64)) {
    failed.push(stretch);
    failed.sort_unstable();
    failed.dedup_by(|next, last| {
        let touch = next.0 <= last.1;
        last.1 = if touch { last.1.max(next.1) } else { last.1 };
        touch
    });
    if failed.len() > MAX_FAILED
        && let Some((oldest, _)) = failed.first().copied()
    {
        failed.remove(0);
        if let Some(next) = failed.first_mut() {
            next.0 = oldest;
        }
    }
}

/// What a lapse leaves unproven: the epochs after the last pass, up to the audit that it missed.
pub(super) fn behind(last_pass: Option<u64>, missed: u64) -> (u64, u64) {
    let from = last_pass.map_or(0, |epoch| epoch.saturating_add(1));
    (from, missed.saturating_add(1).max(from))
}

/// Nothing since the last pass is proven.
fn failing_since(failing_from: Option<u64>, last_pass: Option<u64>) -> u64 {
    let from = last_pass.map_or(0, |e| e.saturating_add(1));
    failing_from.map_or(from, |f| f.min(from))
}

/// What audits know of a node's CPU.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct NodeAudit {
    /// Which node.
    pub node: NodeId,
    /// Where the validators find it, if others are there too.
    pub place: Option<Hash32>,
    /// The epoch of that word.
    pub place_epoch: u64,
    /// Since which block ticks may draw it.
    pub roster: Option<u64>,
    /// How often it was declared anew: an audit of an earlier declaration counts for nothing.
    pub declared: u32,
    /// The audit that is not over.
    pub open: Option<OpenAudit>,
    /// Epoch of the first audit that it passed.
    pub first_pass: Option<u64>,
    /// Epoch of the last one.
    pub last_pass: Option<u64>,
    /// From which epoch on it counts as failed, until it passes again.
    pub failing_from: Option<u64>,
    /// Stretches of failed epochs: from, and the first one after.
    pub failed: Vec<(u64, u64)>,
    /// Its proven share of the declared rate, in parts per million.
    pub proven_ppm: u32,
    /// Samples of its last audits at the proven rate, oldest first.
    pub pool: Vec<u32>,
    /// Audits passed.
    pub passes: u32,
    /// Audits failed, repeated ones once.
    pub failures: u32,
    /// Of them, those since it passed last.
    pub in_a_row: u32,
    /// Audits that counted for nobody.
    pub voids: u32,
    /// Epoch and verdict of the last audit.
    pub last: Option<(u64, Verdict)>,
    /// Its GPUs, once an audit asked them.
    pub gpu: Option<GpuAudit>,
    /// Its memory, once an audit asked for it.
    pub memory: Option<MemoryAudit>,
}

impl NodeAudit {
    /// Of a node that no audit knows yet.
    #[must_use]
    pub const fn new(node: NodeId) -> Self {
        Self {
            node,
            place: None,
            place_epoch: 0,
            roster: None,
            declared: 0,
            open: None,
            first_pass: None,
            last_pass: None,
            failing_from: None,
            failed: Vec::new(),
            proven_ppm: PPM,
            pool: Vec::new(),
            passes: 0,
            failures: 0,
            in_a_row: 0,
            voids: 0,
            last: None,
            gpu: None,
            memory: None,
        }
    }
    /// Whether nothing is left to show for one that holds no leases.
    pub(crate) fn is_shown(&self) -> bool {
        self.first_pass.is_some() && !self.lacks_memory()
    }
    /// Whether its memory stands failed.
    pub(crate) fn lacks_memory(&self) -> bool {
        self.memory.as_ref().is_some_and(|memory| memory.failing_from.is_some())
    }
    /// It passed an audit of an epoch.
    pub(crate) fn pass(&mut self, epoch: u64) {
        end_failing(&mut self.failing_from, &mut self.failed, epoch);
        self.in_a_row = 0;
        self.first_pass.get_or_insert(epoch);
        self.last_pass = self.last_pass.max(Some(epoch));
        self.passes = self.passes.saturating_add(1);
    }
    /// It passed only when asked again: what is behind is not paid, nor so many epochs from this one on.
    pub fn lapse(&mut self, behind: (u64, u64), from: u64, epochs: u64) {
        add_lapse(&mut self.failed, behind, from, epochs);
    }
    /// It failed, after repetition: nothing since the last pass is proven.
    pub(crate) fn fail(&mut self) {
        self.failing_from = Some(failing_since(self.failing_from, self.last_pass));
        self.failures = self.failures.saturating_add(1);
        self.in_a_row = self.in_a_row.saturating_add(1);
    }
    /// The sum of its pool, in units of [`SAMPLE_UNIT`].
    #[must_use]
    pub fn pooled(&self) -> u64 {
        self.pool.iter().map(|x| u64::from(*x)).sum()
    }
    /// The mean of its pool, in shares, for people.
    #[must_use]
    pub fn mean_shares(&self) -> u64 {
        self.pooled() / SAMPLE_UNIT / (self.pool.len() as u64).max(1)
    }
}

/// What a witness said of an audit.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, BorshSerialize, BorshDeserialize)]
pub enum Said {
    /// Nothing yet.
    #[default]
    Nothing,
    /// This.
    Receipt(Receipt),
    /// Two different things; neither counts.
    Both,
}

/// What a node answered, as it was carried: whoever has the record can hash the shares and check the signature again.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Answered {
    /// What it signed.
    pub answer: Answer,
    /// The largest hash of its shares.
    pub largest: u64,
}

/// Why an audit counts for nobody although enough witnesses spoke.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Voided {
    /// Audits were switched off.
    Off,
    /// The node was declared anew since it was drawn.
    DeclaredAnew,
}

/// An audit.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct AuditRecord {
    /// Its number.
    pub number: u64,
    /// Of which node.
    pub node: NodeId,
    /// Of which of its declarations.
    pub declared: u32,
    /// 1, or 2 for a repetition.
    pub attempt: u8,
    /// The epoch of the draw.
    pub epoch: u64,
    /// When it was drawn: the parameters of that time judge it.
    pub drawn_at: Timestamp,
    /// Part of the seed.
    pub randomness: Hash32,
    /// Hashes per second that it is held to.
    pub rate: u64,
    /// What held when it was drawn.
    pub terms: AuditTerms,
    /// The GPUs that are asked.
    pub gpus: Vec<GpuClaim>,
    /// The memory that is asked.
    pub memory: Option<MemoryClaim>,
    /// Who watches.
    pub witnesses: Vec<NodeId>,
    /// Until when statements are taken, less halts.
    pub until_shifted: Timestamp,
    /// What each witness said.
    pub said: Vec<Said>,
    /// What the node answered.
    pub answer: Option<Answered>,
    /// The node contradicted itself.
    pub contradicted: bool,
    /// What came in between, besides what was said.
    pub voided: Option<Voided>,
    /// How it ended for the CPU.
    pub verdict: Option<Verdict>,
    /// And for the GPUs, if any were asked.
    pub gpu_verdict: Option<Verdict>,
    /// And for the memory.
    pub memory_verdict: Option<Verdict>,
}

impl AuditRecord {
    /// The longest that an answer may take, without the round trip: a walk comes before the burst.
    #[must_use]
    pub fn longest(&self) -> Millis {
        Millis(self.terms.longest().0.saturating_add(self.memory.map_or(0, |claim| claim.limit.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_stretches_are_bounded_and_only_grow_together() {
        let mut r = NodeAudit::new(NodeId([1; 32]));
        for n in 0..40u64 {
            r.fail();
            r.pass(10 * n + 5);
            r.pass(10 * n + 8);
        }
        assert_eq!(r.failed.len(), MAX_FAILED);
        assert_eq!(r.failed[0], (0, 10 * 24 + 5));
        assert_eq!(r.failed[15], (10 * 38 + 9, 10 * 39 + 5));
        assert_eq!((r.first_pass, r.last_pass, r.failing_from), (Some(5), Some(398), None));
    }

    #[test]
    fn lapses_come_one_after_another() {
        let mut r = NodeAudit::new(NodeId([1; 32]));
        r.lapse((2, 4), 7, 10);
        r.lapse((5, 6), 9, 10);
        r.lapse((30, 38), 40, 10);
        assert_eq!(r.failed, [(2, 4), (5, 6), (7, 27), (30, 38), (40, 50)]);
        // It fails meanwhile, and passes before and after the lapse ends.
        r.pass(29);
        r.fail();
        r.pass(45);
        assert_eq!(r.failed, [(2, 4), (5, 6), (7, 27), (30, 50)]);
    }
}
