//! A kept audit, from a record that a client has proven to itself: what each witness said, and whether the verdict follows.
//! Spec: `docs/specs/audits.md` §11.
//!
//! Guarantees: pure; it reads the record and nothing else, and counts with the ledger's own lines. Whether the record is the
//! ledger's is the caller's to have proven.

use crate::standing;
use pasture_api::AuditDetail;
use pasture_ledger::{AuditRecord, Recount, RecountError, query, recount};
use pasture_types::{Millis, ZoneId, codec};

/// Largest record: 64 witnesses with their words and an answer.
const MAX_RECORD: usize = 8 * 1024;

/// A kept audit, counted again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AuditEvidence {
    /// As the ledger keeps it; `until` without the time that the network halted.
    pub audit: AuditDetail,
    /// What its statements amount to, or what in them is not as the rules make it.
    pub recount: Result<Recount, RecountError>,
}

impl AuditEvidence {
    /// Whether the verdict that is recorded is the one that follows; `None` while there is none.
    #[must_use]
    pub fn follows(&self) -> Option<bool> {
        let verdict = self.audit.verdict?;
        let (gpus, memory) = (self.audit.gpu_verdict, self.audit.memory_verdict);
        let same = |again: &Recount| again.verdict == verdict && again.gpu_verdict == gpus && again.memory_verdict == memory;
        Some(self.recount.as_ref().is_ok_and(same))
    }
}

/// Where the ledger keeps an audit.
#[must_use]
pub fn audit_key(number: u64) -> Vec<u8> {
    query::audit_key(number)
}

/// What a record of an audit says; `None` if it is none.
#[must_use]
pub fn audit_evidence(record: &[u8], zone: &ZoneId) -> Option<AuditEvidence> {
    let record: AuditRecord = codec::decode(record, MAX_RECORD).ok()?;
    let recount = recount(&record, zone);
    Some(AuditEvidence { audit: standing::detail(record, Millis(0)), recount })
}

#[cfg(test)]
mod tests {
    use super::*;
    use pasture_ledger::Said;
    use pasture_types::NodeId;
    use pasture_types::audit::Verdict;

    #[test]
    fn a_verdict_that_does_not_follow_is_seen() {
        let mut record = crate::witness::unspoken(7, NodeId([9; 32]), vec![NodeId([1; 32])]);
        let read = |record: &AuditRecord| audit_evidence(&codec::encode(record), &ZoneId([5; 32])).unwrap();
        assert_eq!(read(&record).follows(), None, "not judged");
        record.verdict = Some(Verdict::Void);
        assert_eq!(read(&record).follows(), Some(true), "its witness never spoke");
        record.verdict = Some(Verdict::Passed);
        assert_eq!(read(&record).follows(), Some(false));
        record.said = vec![Said::Nothing; 2];
        assert_eq!((read(&record).recount, read(&record).follows()), (Err(RecountError::Words), Some(false)));
        assert_eq!(audit_evidence(&[0; 40], &ZoneId([5; 32])), None);
    }
}
