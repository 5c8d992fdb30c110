//! What the market keeps beside offers and orders. Spec: `docs/specs/market.md` §6.
//!
//! Guarantees: borsh, frozen by golden fixtures; no amount here is money that is held (the lease's own record counts that).

use borsh::{BorshDeserialize, BorshSerialize};
use pasture_types::market::{LeaseLine, Term};
use pasture_types::{Amount, Millis, Timestamp};
use serde::{Deserialize, Serialize};

/// On which terms a lease was taken, and how it goes on.
#[derive(Clone, PartialEq, Eq, Default, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Tenure {
    /// Its resource classes with their rates; together the lease's rate, which never changes.
    pub lines: Vec<LeaseLine>,
    /// How long it is meant to be.
    pub term: Term,
    /// Most that the ledger puts on hold for it by itself, in all.
    pub budget: Amount,
    /// What was last put on hold pays for this.
    pub span: Millis,
    /// A rental goes on by itself.
    pub renew: bool,
    /// It was said that it is about to end; taken back when more is put on hold.
    pub warned: bool,
    /// Its node may end it early, with notice.
    pub preemptible: bool,
    /// Not before this the node may end it, less halts; set by its notice.
    pub preempt_shifted: Option<Timestamp>,
    /// What leaving it early cost; taken from its escrow.
    pub cancel_fee: Amount,
    /// Its timer here, less halts.
    pub timer_shifted: Option<Timestamp>,
}

/// How an account's leases with a provider went; old ones fade.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct History {
    /// Settled as they should.
    pub good: u32,
    /// Ended by the provider's fault, or in dispute.
    pub bad: u32,
}
