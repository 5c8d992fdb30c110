//! The `/v1` API of a node: ledger views, transactions, events, and a way to the machine that serves a lease.
//!
//! ```text
//!  client --HTTP--> listener --> routes --+--> Backend (a trait: `node` implements it over the ledger)
//!                   (slots)   (counted)   +--> events: Backend's blocks, filtered, as server-sent events
//!                                         +--> forward: address book --> the node's data plane, streamed both ways
//! ```
//! Guarantees: serves exactly the routes that `pasture_api` lists; every answer that is not a success is a problem
//! document with a stable code; connections, streams and bodies are bounded by named limits; a stop has a deadline,
//! after which no connection is left. It calls no address but those that registered nodes announced under their own
//! signature, and by default only on this machine.
//!
//! It does not know the ledger or the engine, keeps nothing on disk, and does not judge who may use a lease: the node
//! that serves it checks each request's signature.

mod backend;
mod book;
mod config;
mod error;
mod events;
mod forward;
mod handovers;
mod holders;
mod hosts;
mod ingress;
mod listener;
mod metrics;
mod process;
mod reply;
mod routes;
mod server;
mod streams;

pub use backend::{Backend, BlockEvents, ExportStream};
pub use config::{AcmeOptions, CertificateOptions, GatewayOptions, IngressOptions, OptionsError, Peers, TlsOptions};
pub use error::GatewayError;
pub use server::{Addresses, Gateway};
