//! A herd: thousands of small tasks inside one lease, without the ledger. Rules and formats: `docs/specs/herd.md`.
//!
//! ```text
//!  shepherd ──frames or JSON lines──▶ session ─▶ ┌ actor ─────────┐ ─▶ yard ──stdin/stdout──▶ workers
//!           ◀──answers, results, receipts──────  │ queue (decides)│ ◀─
//!                                                └──▶ journal ────┘    (durable herds)
//! ```
//!
//! **Guarantees**
//! - What was acknowledged to a shepherd (a task taken, a result acknowledged) is kept: in a durable herd over `kill -9`, else
//!   as long as the process lives. A result is shown only once it is kept, so what was shown is never taken back.
//! - Every task is run at least once and ends exactly once; the same idempotency key is the same task.
//! - Memory, journal and messages have limits ([`Limits`]); a shepherd that is too fast is told `busy` and what fits.
//! - Results come in one order, and the node's receipts are about exactly that order.
//!
//! **Not done here**: starting containers, deciding who may be a shepherd, splitting a task, moving a herd to another node.

mod actor;
pub mod door;
mod framing;
mod herd;
pub mod http;
pub mod journal;
pub mod limits;
pub mod protocol;
mod queue;
mod receipt;
pub mod session;
mod spec;
mod task;
mod yard;

pub use framing::{Decoder, Format, FramingError, encode};
pub use herd::{Herd, HerdError, Options, Page};
pub use limits::Limits;
pub use queue::{Contradiction, Dispatch, Entry, Gone, Queue, Said, WorkerId};
pub use receipt::{Chain, Receipt, ReceiptError, Signer};
pub use spec::HerdSpec;
pub use task::{Answer, Busy, DEFAULT_PRIORITY, Finished, HerdStatus, MAX_PRIORITY, NewTask, Outcome, Seq, Submitted, TaskId};
pub use yard::{LocalYard, Process, Yard};
