//! Roles, wiring and lifecycle: the only place where chain, ledger, gateway and provider meet.
//!
//! ```text
//!  farm dev = Validator (chain + ledger machine + gateway) + provider over loopback HTTP
//!  farm up  = provider against somebody's gateway
//! ```
//! Guarantees: roles start in the order in which they need each other and stop in reverse, each with a deadline; a provider
//! in the same process takes the same path as one elsewhere. It renders nothing and reads no arguments.

mod accuse;
mod backend;
mod backup;
mod believed;
mod candidate;
mod checker;
mod checkpoint;
pub mod control;
mod dev;
mod engine;
mod error;
mod evidence;
mod gates;
mod gpus;
mod launch;
mod leave;
mod link;
mod local;
mod machine;
mod moving;
mod offline;
mod peers;
mod price;
mod proven;
mod public;
mod purse;
mod recent;
mod seats;
mod standing;
mod up;
mod validator;
mod views;
mod votes;
mod witness;
mod zone;

pub use backup::{About, Restored, Scope, backup, restore, votes_after};
pub use candidate::{Registration, operator_key, registration, validator_key};
pub use checker::{CheckError, Checker, MAX_FOLLOWED, Source, Trust};
pub use checkpoint::{trusted_in_file, write_checkpoint};
pub use dev::{DevOptions, DevReady, dev};
pub use engine::{Priority, engine, engine_gives_way, engine_probe};
pub use error::NodeError;
pub use evidence::{AuditEvidence, audit_evidence, audit_key};
pub use gates::{learn, with_learned};
pub use gpus::{GpuOffer, SUGGESTED_GPU_RATE, look_at_gpus};
pub use launch::{Announcement, Launch, MAX_FOUNDERS, Place, announce, genesis_in_file, settle, write_genesis};
pub use leave::Left;
pub use local::{LocalProvider, LocalValidator, MAX_LOCAL_VALIDATORS};
pub use moving::{Imported, Moved, Progress, export_stopped, import, verify_export};
pub use offline::ledger_replay;
pub use pasture_chain::{Failpoint, ReplayReport};
pub use pasture_chain::{Join, JoinStep};
pub use pasture_gateway::{AcmeOptions, CertificateOptions, IngressOptions, TlsOptions};
pub use pasture_ledger::Heard;
pub use pasture_machine::LedgerMachine;
pub use pasture_provider::{
    Asked, Blocked, Cleared, Committed, Filled, Gauge, Gpus, ImagesSummary, Machine, Mandate, MemoryEngine, MissingDeposit, OfferState,
    Paused, ProductEngine, SimulatedGpu, Tenancy, VolumeOptions, block_stopped, blocked, detect, gauge, pause_stopped, tenancies,
};
pub use pasture_runtime::{Capabilities, EgressFilter, GpuSupport};
pub use peers::{NetworkFile, Peer};
pub use price::{Seen, Suggestion, observed, suggest};
pub use proven::{Proven, RecordKind};
pub use public::{PublicOptions, door_to, host_of, joined_genesis};
pub use up::{BlobSettings, ENROLLED, OfferLimits, UpOptions, UpReady, half_of, image_limit, leave, suggested_rates, unheld, up, up_with};
pub use validator::{Validator, ValidatorOptions};
pub use zone::{LocalZone, trusted_by};
