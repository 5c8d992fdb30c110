//! What the statements about an audit amount to: counted by the ledger at the deadline, and by anybody again while the record is
//! kept. Spec: `docs/specs/audits.md` §4.
//!
//! Guarantees: pure functions of the record and the zone's id; the ledger's verdict and a reader's come from the same lines. What
//! they cannot see again: that each receipt came under its witness's signature, which the ledger checked when it took it.

use super::records::{AuditRecord, Said, Voided};
use pasture_types::audit::{AuditTerms, Receipt, Shown, Verdict, audit_seed, audit_threshold, largest_share, quorum, shown_tag};
use pasture_types::proof::ResourceClass;
use pasture_types::{Millis, PublicKey, ZoneId};
use serde::Serialize;

/// What a witness's word amounts to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case", tag = "word")]
pub enum Heard {
    /// It said nothing.
    Nothing,
    /// Two different things, which count as nothing.
    Both,
    /// No answer came in time.
    Late,
    /// An answer came in time, but not the one that the node put on the ledger.
    Other,
    /// The answer came, so long after the nonce, round trip taken off.
    Slow {
        /// So long.
        took: Millis,
    },
    /// The answer came in time.
    InTime {
        /// So long after the nonce, round trip taken off.
        took: Millis,
        /// The products of its GPUs were opened for this witness, and are right.
        proven: bool,
        /// A walk over its memory was, and came in its own time.
        memory: bool,
    },
}

/// Each thing that a witness may have been shown besides an answer.
const KINDS: [Shown; 4] = [
    Shown { products: false, memory: false },
    Shown { products: true, memory: false },
    Shown { products: false, memory: true },
    Shown { products: true, memory: true },
];

/// Whether a receipt, taken at its word, is within the deadline `T x (1 + slack) + RTT`; how long the burst took then.
#[must_use]
pub fn in_time(terms: &AuditTerms, receipt: &Receipt, tag: u64) -> Option<Millis> {
    match Heard::of(terms, terms.longest(), &Said::Receipt(*receipt), Some(&[tag])) {
        Heard::InTime { took, .. } => Some(took),
        _ => None,
    }
}

impl Heard {
    /// `tags` are those of [`KINDS`], if there is an answer.
    fn of(terms: &AuditTerms, longest: Millis, said: &Said, tags: Option<&[u64]>) -> Self {
        let receipt: &Receipt = match said {
            Said::Nothing => return Self::Nothing,
            Said::Both => return Self::Both,
            Said::Receipt(receipt) => receipt,
        };
        let rtt = u64::from(receipt.rtt_ms).min(terms.rtt_cap.0);
        let took = Millis(u64::from(receipt.elapsed_ms).saturating_sub(rtt));
        if receipt.tag == 0 {
            return Self::Late;
        }
        let named = tags.and_then(|tags| tags.iter().zip(KINDS).find(|(tag, _)| **tag == receipt.tag));
        let Some((_, Shown { products, memory })) = named else { return Self::Other };
        if took <= longest { Self::InTime { took, proven: products, memory } } else { Self::Slow { took } }
    }
}

/// What witnesses said, counted.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Count {
    /// Each witness's word, in the order of the record; none where only numbers are known.
    pub heard: Vec<Heard>,
    /// Who said anything that counts.
    pub spoke: usize,
    /// Who saw this node's answer in time.
    pub in_time: usize,
    /// Who found the products of its GPUs right besides.
    pub proven: usize,
    /// Who found the walk over its memory right besides.
    pub memory: usize,
    /// How long the burst counts for, by the witness in the middle.
    pub charged: Millis,
}

impl Count {
    /// Of so many witnesses, so many of whom spoke; `took` is what those saw who saw it in time, in any order. It does not know who they are.
    #[must_use]
    pub fn new(terms: &AuditTerms, witnesses: usize, spoke: usize, took: &mut [Millis]) -> Self {
        took.sort_unstable();
        // Whoever did not see it in time counts as having seen it last, so that less than half of the witnesses move the middle
        // only between what honest ones saw.
        let middle = took.get(witnesses / 2).copied().unwrap_or(terms.longest());
        Self { heard: Vec::new(), spoke, in_time: took.len(), proven: 0, memory: 0, charged: terms.charged(middle) }
    }
}

/// Counts what was said of an answer.
#[must_use]
pub(super) fn count(record: &AuditRecord, zone: &ZoneId) -> Count {
    let digest = record.answer.as_ref().map(|a| a.answer.statement().digest(zone, record.number, &record.node));
    let longest = record.longest();
    let heard: Vec<Heard> = (record.witnesses.iter().zip(&record.said))
        .map(|(witness, said)| {
            let tags = digest.as_ref().map(|digest| KINDS.map(|shown| shown_tag(witness, digest, shown)));
            Heard::of(&record.terms, longest, said, tags.as_ref().map(<[u64; 4]>::as_slice))
        })
        .collect();
    let spoke = heard.iter().filter(|h| !matches!(h, Heard::Nothing | Heard::Both)).count();
    let mut took: Vec<Millis> = heard.iter().filter_map(|h| if let Heard::InTime { took, .. } = h { Some(*took) } else { None }).collect();
    let proven = heard.iter().filter(|h| matches!(h, Heard::InTime { proven: true, .. })).count();
    let memory = heard.iter().filter(|h| matches!(h, Heard::InTime { memory: true, .. })).count();
    Count { heard, proven, memory, ..Count::new(&record.terms, record.witnesses.len(), spoke, &mut took) }
}

/// What an audit's statements amount to.
#[must_use]
pub fn verdict(record: &AuditRecord, count: &Count) -> Verdict {
    let witnesses = record.witnesses.len();
    let enough = |largest: u64| largest <= audit_threshold(record.rate, record.terms.burst);
    if record.contradicted {
        Verdict::Contradicted
    } else if record.voided.is_some() || count.spoke < quorum(witnesses) {
        Verdict::Void
    } else if 2 * count.in_time > witnesses && record.answer.as_ref().is_some_and(|answer| enough(answer.largest)) {
        Verdict::Passed
    } else {
        Verdict::Failed
    }
}

/// And for the GPUs that it asked, apart from the CPU.
#[must_use]
pub(super) fn gpu_verdict(record: &AuditRecord, count: &Count) -> Option<Verdict> {
    let answered = record.answer.as_ref().is_some_and(|answer| !answer.answer.roots.is_empty());
    (!record.gpus.is_empty()).then(|| class_verdict(record, count, answered, count.proven))
}

/// And for the memory that it asked.
#[must_use]
pub(super) fn memory_verdict(record: &AuditRecord, count: &Count) -> Option<Verdict> {
    let answered = record.answer.as_ref().is_some_and(|answer| answer.answer.walk.is_some());
    record.memory.map(|_| class_verdict(record, count, answered, count.memory))
}

fn class_verdict(record: &AuditRecord, count: &Count, answered: bool, proven: usize) -> Verdict {
    let witnesses = record.witnesses.len();
    if record.contradicted {
        Verdict::Contradicted
    } else if record.voided.is_some() || count.spoke < quorum(witnesses) {
        Verdict::Void
    } else if answered && 2 * proven > witnesses {
        Verdict::Passed
    } else {
        Verdict::Failed
    }
}

/// Why a kept audit does not say what it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecountError {
    /// Not one word for each witness.
    #[error("the record does not have one word for each witness")]
    Words,
    /// The set is not one of this audit.
    #[error("the node's set does not hold one nonce each of more than two thirds of the witnesses")]
    Set,
    /// Signed by somebody else, or changed since.
    #[error("the node did not sign the answer that is recorded")]
    Signature,
    /// Not the hashes of this audit.
    #[error("the recorded shares are not the packed nonces of 32 different hashes")]
    Shares,
    /// They hash to something else than the record says.
    #[error("the shares' largest hash is {found}, and the record says {recorded}")]
    Largest {
        /// By the record.
        recorded: u64,
        /// Hashed again.
        found: u64,
    },
}

/// A kept audit, counted again.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Recount {
    /// What the witnesses said.
    #[serde(flatten)]
    pub count: Count,
    /// The largest hash of the answer's shares, hashed again.
    pub largest: Option<u64>,
    /// The largest that passes.
    pub most: u64,
    /// Why it counts for nobody, whatever was said: the ledger's word.
    pub voided: Option<Voided>,
    /// What follows from it for the CPU.
    pub verdict: Verdict,
    /// And for the GPUs that it asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu_verdict: Option<Verdict>,
    /// And for the memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_verdict: Option<Verdict>,
}

/// Counts a kept audit again, with the answer's signature and each of its hashes.
///
/// # Errors
/// What in the record is not as the ledger's rules make it.
pub fn recount(record: &AuditRecord, zone: &ZoneId) -> Result<Recount, RecountError> {
    if record.said.len() != record.witnesses.len() {
        return Err(RecountError::Words);
    }
    let mut largest = None;
    if let Some(answered) = &record.answer {
        let answer = &answered.answer;
        if answer.audit != record.number || !answer.set.is_sound(record.witnesses.len()) {
            return Err(RecountError::Set);
        }
        let digest = answer.statement().digest(zone, record.number, &record.node);
        PublicKey::from(record.node).verify(&digest, &answer.signature).map_err(|_| RecountError::Signature)?;
        let seed = audit_seed(&record.randomness.0, record.number, &record.node, record.epoch, ResourceClass::Cpu, 0, &answer.set);
        let found = answer.shares.unpack().and_then(|nonces| largest_share(&seed, &nonces)).ok_or(RecountError::Shares)?;
        if found != answered.largest {
            return Err(RecountError::Largest { recorded: answered.largest, found });
        }
        largest = Some(found);
    }
    let count = count(record, zone);
    let (gpu_verdict, memory_verdict) = (gpu_verdict(record, &count), memory_verdict(record, &count));
    let verdict = verdict(record, &count);
    let most = audit_threshold(record.rate, record.terms.burst);
    Ok(Recount { count, largest, most, voided: record.voided, verdict, gpu_verdict, memory_verdict })
}
