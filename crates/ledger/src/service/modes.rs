//! Which modes an order may ask for, together and apart. Spec: `docs/specs/settlement.md` §10.
//!
//! Guarantees: what passes here has rules behind it in this zone. It looks at no state.

use crate::error::TxError;
use crate::records::Lease;
use crate::validate::at_most;
use pasture_scheduler::price_for;
use pasture_types::market::{Disclose, Failover, OrderTerms, Verification};
use pasture_types::service::ServiceParams;
use pasture_types::{Amount, Millis};

/// Most providers that run one job to compare their results.
const MAX_REPLICAS: u8 = 8;
const PPM: u128 = 1_000_000;

fn invalid(text: &str) -> TxError {
    TxError::Invalid(text.into())
}

/// Whether a result is checked after the job, so that its payment waits for the dispute window.
pub(crate) const fn waits_for_disputes(verification: Verification) -> bool {
    matches!(verification, Verification::Replicate(_) | Verification::Audit(_))
}

pub(crate) fn order(t: &OrderTerms, params: &ServiceParams) -> Result<(), TxError> {
    if t.verification == Verification::Tee && t.disclose != Disclose::Nobody {
        return Err(invalid(
            "a job in a trusted environment discloses its inputs to nobody: its attestation shows what ran; leave disclose out, \
             or choose another verification",
        ));
    }
    match t.verification {
        Verification::None => {}
        Verification::Replicate(_) if !params.disputes_active => {
            return Err(TxError::NotActive("redundant execution (verify: replicate) is"));
        }
        Verification::Audit(_) if !params.disputes_active => return Err(TxError::NotActive("re-execution (verify: audit) is")),
        Verification::Replicate(n) => {
            at_most("providers that run the job", u64::from(n), u64::from(MAX_REPLICAS))?;
            if n < 2 {
                return Err(invalid("comparing results takes at least two providers; ask for replicate: 2"));
            }
        }
        Verification::Audit(ppm) => {
            at_most("parts per million", u64::from(ppm), 1_000_000)?;
            if ppm == 0 {
                return Err(invalid("an audit with probability zero checks nothing; leave it out or raise it"));
            }
        }
        Verification::Zk => return Err(TxError::NotActive("zero-knowledge proofs (verify: zk) are")),
        Verification::Tee => return Err(TxError::NotActive("hardware attestation (verify: tee) is")),
    }
    disclosure(t)
}

fn disclosure(t: &OrderTerms) -> Result<(), TxError> {
    let checked = waits_for_disputes(t.verification);
    match t.disclose {
        Disclose::Nobody if checked => {
            Err(invalid("checking a result means running the job again, which needs its inputs; allow it with disclose: committee"))
        }
        Disclose::Committee if !checked => {
            Err(invalid("no committee looks at a job that is not checked; leave disclose out, or ask for verify: replicate or audit"))
        }
        Disclose::Probe if !checked && t.watcher.is_none() => {
            Err(invalid("nobody would probe this job; name a watcher, or leave disclose out"))
        }
        Disclose::Nobody | Disclose::Committee | Disclose::Probe => Ok(()),
    }
}

/// The part of a hold that pays the lease itself; the rest of a warm order's budget is kept for its standby.
pub(crate) fn primary_hold(t: &OrderTerms, params: &ServiceParams, hold: Amount) -> Amount {
    if t.failover != Failover::Warm {
        return hold;
    }
    hold.min(t.budget.mul_div(PPM, PPM + u128::from(params.standby_ppm)).unwrap_or(hold))
}

/// What a standby costs per hour.
pub(crate) fn standby_rate(params: &ServiceParams, full: Amount) -> Amount {
    full.mul_div(u128::from(params.standby_ppm), PPM).unwrap_or(full)
}

/// What a budget must cover at least: one epoch at the highest price, of a standby too.
pub(crate) fn least_budget(t: &OrderTerms, params: &ServiceParams, epoch: Millis) -> Amount {
    let own = price_for(t.max_price_per_hour, epoch);
    if t.failover != Failover::Warm {
        return own;
    }
    // One more: the lease's part of the budget is rounded down.
    let standby = price_for(standby_rate(params, t.max_price_per_hour), epoch);
    own.saturating_add(standby).saturating_add(Amount(1))
}

/// Whether a lease keeps its payment until its dispute window has passed.
pub(crate) const fn pays_late(lease: &Lease) -> bool {
    waits_for_disputes(lease.verification)
}
