//! Several jobs as one: `farm deploy` and what belongs to it.
//!
//! ```text
//!  source (path, folder, address) ─▶ pasture_jobfile ─▶ services ┐
//!  record (what we remember) ───────────────────────────────────┼─▶ plan ─▶ drive ─▶ orders; tend looks after each
//!  the ledger (what is) ────────────────────────────────────────┘
//! ```
//! Guarantees: a deployment is known on this machine only, never on the ledger, which sees single orders. The same command twice
//! changes nothing the second time; cut off, it goes on. It does not connect jobs with each other: each has a machine of its own.

pub(crate) mod address;
pub(crate) mod drive;
pub(crate) mod group;
pub(crate) mod inplace;
pub(crate) mod plan;
mod private;
pub(crate) mod record;
pub(crate) mod source;
pub(crate) mod tend;
