//! What a vote's sums mean. Spec: `docs/specs/governance.md` §3.
//!
//! Guarantees: pure; the same sums always give the same outcome, whoever asks and when.

use super::records::{Proposal, Tally};
use pasture_types::Amount;
use pasture_types::governance::{Change, Rejection, VoteChoice};

const PPM: u128 = 1_000_000;

impl Tally {
    /// Everything that was voted.
    pub(crate) fn cast(&self) -> Amount {
        self.decisive().saturating_add(self.abstain)
    }
    fn decisive(&self) -> Amount {
        self.yes.saturating_add(self.no).saturating_add(self.veto)
    }
    /// The sum that a choice adds to.
    pub(crate) const fn of(&mut self, choice: VoteChoice) -> &mut Amount {
        match choice {
            VoteChoice::Yes => &mut self.yes,
            VoteChoice::No => &mut self.no,
            VoteChoice::Veto => &mut self.veto,
            VoteChoice::Abstain => &mut self.abstain,
        }
    }
}

/// `part / whole` against a share, without overflow: amounts too large to multiply are compared a million times coarser, against the part.
fn share(part: Amount, whole: Amount, ppm: u32) -> std::cmp::Ordering {
    match (part.0.checked_mul(PPM), whole.0.checked_mul(u128::from(ppm))) {
        (Some(a), Some(b)) => a.cmp(&b),
        _ => part.0.cmp(&whole.0.div_ceil(PPM).saturating_mul(u128::from(ppm))),
    }
}

/// How a vote ends with these sums.
pub(crate) fn outcome(p: &Proposal) -> Result<(), Rejection> {
    let (t, r) = (&p.tally, &p.rules);
    if t.cast().is_zero() || share(t.cast(), p.power, r.quorum_ppm).is_lt() {
        return Err(Rejection::NoQuorum);
    }
    if share(t.veto, t.cast(), r.veto_ppm).is_gt() {
        return Err(Rejection::Vetoed);
    }
    let needs = if p.changes.iter().any(Change::is_grave) { r.grave_ppm } else { r.majority_ppm };
    if share(t.yes, t.decisive(), needs).is_gt() { Ok(()) } else { Err(Rejection::NoMajority) }
}
