//! The consensus engine behind a small door.
//!
//! ```text
//!   submit(bytes) ─► mempool ─► propose ─► simplex ─► marshal ─► finalized ─► state(), subscribe(), Pending
//!                      ▲ wait here          votes      blocks and     │
//!                      └── pace: work waits, or a timer is due        └─► authenticated store (QMDB)
//! ```
//!
//! This is the only crate that names the engine (commonware). Bytes go in and come out; the state machine is an
//! `Arc<dyn Machine>`, so that editing it does not compile the engine again. Nothing public is generic.
//!
//! Guarantees: one code path for one or more validators; a transaction whose [`Pending`] resolved survives `kill -9` and loss of
//! power; restarting continues with the same state; an idle chain makes no blocks. A failed write stops the chain
//! ([`Chain::failed`]), it never limps on.
//! It does not know what a transaction means, and keeps no index of transactions. A node comes to today's state by blocks or by a state
//! that it checks ([`Join`]). The decisions behind it are in `docs/adr/0001-consensus-engine.md`.

mod app;
mod block;
mod clock;
mod core;
mod diagnose;
mod error;
mod evidence;
mod execute;
mod genesis;
mod gossip;
mod handle;
mod join;
mod machine;
pub mod mempool;
mod net;
mod notices;
mod offline;
mod pace;
mod records;
mod replay;
#[cfg(any(test, feature = "simulation"))]
pub mod sim;
mod stack;
mod terms;
mod view;
mod votes;

pub use block::{HEADER_SIZE, HEADER_VERSION, Header, tx_root};
pub use core::{Failpoint, FinalTx, FinalizedBlock, TxReceipt};
pub use error::{ChainError, Dropped, SubmitError};
pub use evidence::Contradicted;
pub use genesis::{Base, Genesis, Identity, Validator};
pub use handle::{BlockStream, Certified, Chain, Handover, NextBlock, Options, Pending, Snapshot, StateProof, Status, StoredBlock};
pub use join::{Anchor, History, Join, JoinStep, OnJoin};
pub use machine::{Admission, BlockContext, Due, Entries, Machine, Rejection, TxOutcome};
pub use mempool::Limits;
pub use net::Network;
pub use notices::MAX_NOTICE;
pub use offline::{StoredState, stored_state};
pub use replay::{ReplayReport, replay};
