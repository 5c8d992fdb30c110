//! The state machine of a zone: bank, registry, market, leases, proofs, settlement. Spec: `docs/specs/`.
//!
//! ```text
//!  block:  begin_block -> apply, apply, ... -> end_block      (the chain drives)
//!            epochs         fee, then all      timers, ageing, draws,
//!            halts          actions or none    fees, pruning
//!  between blocks: admit (may it wait?), next_due (when must a block come?), explain, query, check
//! ```
//! Guarantees: deterministic (same state, context and bytes, same writes), no clock, randomness, file or socket; a
//! transaction changes everything or nothing but the fee and its lane; each block's own work is bounded by named
//! limits and the rest waits for the next block; hostile bytes give an error, never a panic.
//! It does not order transactions, store anything durably or know how votes work: that is the chain's and the store's.

// The modules' own tests use the world of the tests beside the crate, which names the crate from outside.
#[cfg(test)]
#[path = "../tests/common/mod.rs"]
mod common;
#[cfg(test)]
extern crate self as pasture_ledger;

mod apply;
mod audits;
mod auth;
mod bank;
mod block;
mod channels;
mod check;
mod cost;
mod credentials;
mod env;
mod error;
mod explain;
mod genesis;
mod governance;
mod grants;
mod keys;
mod lease;
mod load;
mod market;
mod offers;
mod proofs;
pub mod query;
mod records;
mod registry;
mod reputation;
mod seams;
pub mod service;
mod settle;
mod stake;
mod tables;
mod validate;
mod validators;

pub use apply::{Applied, Signatures, apply};
pub use audits::records::{
    Answered, AuditRecord, AuditState, ClassAudit, Drawing, GpuAudit, MemoryAudit, NodeAudit, OpenAudit, Said, Voided,
};
pub use audits::recount::{Count, Heard, Recount, RecountError, recount};
pub use audits::rules as audit_rules;
pub use auth::{Admitted, MAX_LANE_AHEAD, admit, verify_stateless};
pub use block::{BlockCtx, Due, begin_block, end_block, next_due};
pub use channels::Channel;
pub use check::{CheckReport, Violation, check};
pub use cost::{action_cost_us, fee_for, tx_cost_us};
pub use credentials::{Credential, Cutoff};
pub use error::TxError;
pub use explain::explain;
pub use genesis::{genesis, genesis_entries};
pub use governance::records::*;
pub use governance::{SUPPORTED_RULES, UnsupportedRules, supported};
pub use grants::Grant;
pub use keys::{KeyPolicy, PendingKeys};
pub use load::{END_WORK_US, Load, block_tx_cost_us};
pub use pasture_scheduler::{Candidate, Change, Explanation, Relaxation, Step};
pub use records::*;
pub use reputation::records::*;
pub use reputation::{NEUTRAL_PPM, Score};
pub use stake::{Bond, FeeGrant, Jail, LeaseNeed, NewcomerCount, NodeBond, Sponsorship, Start, Tranche};
pub use validators::{Beacon, Ordering, Seat, SeatTerm, Validator, proofs_of_possession};
