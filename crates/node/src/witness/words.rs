//! What a witness has to say and has not yet seen on the ledger.
//!
//! Guarantees: of each audit one word, never changed; what the ledger has, or takes no more, is forgotten; batches hold their
//! bounds. No clock, no I/O.

use pasture_ledger::{AuditRecord, Said};
use pasture_types::NodeId;
use pasture_types::audit::{Answer, MAX_ANSWERS, MAX_RECEIPTS, Receipt, ReceiptBatch};
use std::collections::BTreeMap;

/// Words that may wait; the oldest are given up then, as they are the first to be too late.
const MAX_WAITING: usize = 8_192;

/// Of one audit.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Word {
    receipt: Receipt,
    answer: Option<Answer>,
}

/// What is to be said.
#[derive(Default, Debug)]
pub(super) struct Words(BTreeMap<u64, Word>);

impl Words {
    /// Notes what was seen of an audit, unless something was noted before.
    pub(super) fn note(&mut self, audit: u64, receipt: Receipt, answer: Option<Answer>) {
        self.0.entry(audit).or_insert(Word { receipt, answer });
        while self.0.len() > MAX_WAITING {
            self.0.pop_first();
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Forgets what the ledger knows or takes no more.
    pub(super) fn forget(&mut self, own: &NodeId, on_ledger: impl Fn(u64) -> Option<AuditRecord>) {
        self.0.retain(|number, word| {
            let Some(record) = on_ledger(*number).filter(|r| r.verdict.is_none()) else { return false };
            let said = record.witnesses.iter().position(|w| w == own).and_then(|at| record.said.get(at).copied());
            if record.answer.is_some() {
                word.answer = None;
            }
            said == Some(Said::Nothing) || (said.is_some() && word.answer.is_some())
        });
    }

    /// Receipts that the ledger does not have, in one batch; the rest comes with the next.
    pub(super) fn batch(&self, own: &NodeId, on_ledger: impl Fn(u64) -> Option<AuditRecord>) -> Option<ReceiptBatch> {
        let unsaid = |number: u64| {
            let record = on_ledger(number)?;
            let at = record.witnesses.iter().position(|w| w == own)?;
            record.said.get(at).copied()
        };
        let mut waiting = self.0.iter().filter(|(number, _)| unsaid(**number) == Some(Said::Nothing)).peekable();
        let base = **waiting.peek().map(|(number, _)| number)?;
        let receipts = waiting
            .map_while(|(number, word)| Some(Receipt { offset: u16::try_from(number.checked_sub(base)?).ok()?, ..word.receipt }))
            .take(MAX_RECEIPTS)
            .collect();
        Some(ReceiptBatch { witness: *own, base, receipts })
    }

    /// Answers that are this witness's to carry.
    pub(super) fn answers(&self, is_ours: impl Fn(u64) -> bool) -> Vec<Answer> {
        self.0.iter().filter(|(number, _)| is_ours(**number)).filter_map(|(_, word)| word.answer.clone()).take(MAX_ANSWERS).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pasture_ledger::Answered;
    use pasture_types::SigningKey;
    use pasture_types::audit::{NonceSet, PackedShares, Verdict};

    const OWN: NodeId = NodeId([1; 32]);

    fn record(number: u64) -> AuditRecord {
        super::super::unspoken(number, NodeId([9; 32]), vec![NodeId([0; 32]), OWN])
    }

    fn receipt(tag: u64) -> Receipt {
        Receipt { offset: 0, elapsed_ms: 5, rtt_ms: 1, tag }
    }

    fn answer(audit: u64) -> Answer {
        let set = NonceSet { mask: 1, nonces: vec![1] };
        Answer {
            audit,
            set,
            shares: PackedShares(vec![]),
            roots: vec![],
            walk: None,
            signature: SigningKey::from_seed([1; 32]).sign(&[0; 32]),
        }
    }

    #[test]
    fn a_batch_holds_what_the_ledger_lacks() {
        let mut words = Words::default();
        words.note(70_000, receipt(3), Some(answer(70_000)));
        words.note(5, receipt(1), Some(answer(5)));
        words.note(5, receipt(9), None);
        words.note(9, receipt(2), None);
        let batch = words.batch(&OWN, |n| Some(record(n))).unwrap();
        let offsets: Vec<(u16, u64)> = batch.receipts.iter().map(|r| (r.offset, r.tag)).collect();
        assert_eq!((batch.base, offsets), (5, vec![(0, 1), (4, 2)]), "the first word stands, and 70,000 is too far for a batch");
        let known = |n: u64| {
            let mut r = record(n);
            r.said[1] = if n == 5 { Said::Receipt(receipt(1)) } else { Said::Nothing };
            r.verdict = (n == 9).then_some(Verdict::Failed);
            r.answer = (n == 70_000).then(|| Answered { answer: answer(n), largest: 1 });
            Some(r)
        };
        words.forget(&OWN, known);
        assert_eq!(words.answers(|_| true), vec![answer(5)], "the ledger has the other answer, and 9 is judged");
        assert_eq!(words.batch(&OWN, known).map(|b| b.base), Some(70_000));
        words.forget(&OWN, |_| None);
        assert!(words.is_empty());
    }
}
