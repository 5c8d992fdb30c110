//! The rules of audits as functions of what they are given: what a verdict is, what follows, what that costs. The ledger itself goes by
//! them; a simulation can, for a million days of a node. Spec: `docs/specs/audits.md`.
//!
//! Guarantees: they read and write no state. When they are asked, and with what, is the ledger's to say.

pub use super::draw::{drawn_slot, draws, witnesses};
pub use super::judge::{Consequence, Now, Then, consequence, lapse, standing};
pub use super::rate::{Rated, pooled};
pub use super::recount::{Count, in_time, verdict};
pub use crate::seams::Capacity;
pub use crate::settle::INTERIM_EPOCHS;
pub use crate::stake::forfeit::{AuditCosts, audit_costs};

use crate::env::Env;
use crate::records::{Clock, Zone};
use pasture_types::genesis::Params;
use pasture_types::{Amount, Timestamp, ZoneId};

/// The surroundings of a zone with these parameters in which nothing happened yet.
fn at_first(params: &Params) -> Env {
    let zone = Zone {
        id: ZoneId([0; 32]),
        name: String::new(),
        genesis_at: Timestamp(0),
        rules_version: 1,
        params: params.clone(),
        validators: 1,
    };
    Env { zone, clock: Clock::default() }
}

/// The chance of an audit before a payout, in parts per million and rounded down.
#[must_use]
pub fn chance_before_payout_ppm(params: &Params) -> u32 {
    super::chance_ppm(&at_first(params))
}

/// The deposit that a lease of this rate an hour needs; `None` if no deposit is enough.
#[must_use]
pub fn deposit_for(params: &Params, rate: Amount) -> Option<Amount> {
    let env = at_first(params);
    crate::stake::value::needs(&env, super::chance_ppm(&env), rate)
}
