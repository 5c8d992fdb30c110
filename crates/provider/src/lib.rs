//! The provider agent: turns leases of the ledger into running work on this machine, measures it, proves it, serves it.
//!
//! ```text
//!            ledger events, leases                     data plane (HTTP, signed requests)
//!  Network ──────────────────────▶ reconcile ─┐    ┌── server ◀────────────── gateway ◀── client
//!     ▲                                       ▼    ▼
//!     │ accept, usage, close               lease::actor ── state (decides) ── record, log on disk
//!     ├──────────────────── submit ◀──────────┤
//!     │ heartbeats                            ▼
//!     ├──────────────────── prover         Runtime (containers)
//!     └──────────────────── audits ◀── server ◀── witnesses
//! ```
//! Guarantees: what the ledger says is desired, what the engine shows is observed, and after any crash the two are brought
//! together again: the same container goes on, its log continues without a gap or a repeat, its service is counted from the
//! engine's own times, or the lease ends with an honest reason. Containers that are not this node's are never touched.
//! A network that is away stops no running lease.
//!
//! It does not match, price or settle (see `ledger`), and runs nothing by itself (see `runtime`).

mod agenda;
mod audits;
mod channels;
mod config;
mod context;
mod detect;
mod error;
mod failpoint;
mod gauge;
mod gpus;
mod handle;
mod herds;
mod images;
mod lease;
pub mod monitor;
mod network;
mod pause;
mod pool;
mod prover;
mod provider;
mod reconcile;
mod register;
mod secrets;
mod server;
mod submit;
mod tenants;
mod volumes;

pub use audits::{Asked, Committed, Filled, MemoryEngine, ProductEngine};
pub use config::{Mandate, MissingDeposit, Options};
pub use detect::{Machine, detect};
pub use error::ProviderError;
pub use failpoint::{FAILPOINTS, Failpoint};
pub use gauge::{Gauge, gauge};
pub use gpus::{GpuError, GpuSource, Gpus, Inventory, NvidiaGpus, SimulatedGpu, SimulatedGpus};
pub use handle::{Cleared, ProviderHandle};
pub use images::ImagesSummary;
pub use network::{BlobBytes, Frames, LedgerEvents, Network, NetworkError};
pub use pasture_blobs::RegistryUrl;
pub use pause::{OfferState, Paused, pause_stopped};
pub use pool::BlobOptions;
pub use provider::{Provider, ProviderStatus, ShutdownMode};
pub use tenants::{Blocked, Tenancy, block_stopped, blocked, tenancies};
pub use volumes::VolumeOptions;
