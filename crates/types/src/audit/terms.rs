//! What an audit is held to from its draw to its verdict, whatever is voted meanwhile. Spec: `docs/specs/audits.md` §4.
//!
//! Guarantees: exact integers, nothing overflows; the record of an audit has them, so that who counts it again needs no other.

use crate::Millis;
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

/// The part of the parameters that a verdict depends on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct AuditTerms {
    /// Length of the burst (T).
    pub burst: Millis,
    /// It may take this much longer, in parts per million.
    pub slack_ppm: u32,
    /// One that the witness in the middle saw this much longer, in parts per million, counts as slow.
    pub punctual_ppm: u32,
    /// Most of a witness's lowest round trip that counts.
    pub rtt_cap: Millis,
}

impl AuditTerms {
    /// The longest burst, without the round trip: `T x (1 + slack)`.
    #[must_use]
    pub const fn longest(&self) -> Millis {
        self.longer_by(self.slack_ppm)
    }
    /// How long a burst counts for that took `took` for the witness in the middle: T if it was punctual, whenever within that
    /// it ended, so that stopping at a lucky moment gains nothing; half as much again as it took if it was not, so that going
    /// on in the hope of better luck does not either.
    #[must_use]
    pub const fn charged(&self, took: Millis) -> Millis {
        if took.0 <= self.longer_by(self.punctual_ppm).0 { self.burst } else { Millis(took.0.saturating_add(took.0 / 2)) }
    }
    const fn longer_by(&self, ppm: u32) -> Millis {
        Millis(self.burst.0.saturating_add(self.burst.0.saturating_mul(ppm as u64) / 1_000_000))
    }
}
