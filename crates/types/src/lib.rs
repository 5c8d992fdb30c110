//! The words that every other crate speaks: ids, amounts, resources, offers, orders, signed envelopes.
//!
//! Guarantees: pure (no clock, randomness, file, socket or environment), one canonical encoding
//! ([`codec`], borsh), checked arithmetic, and a domain tag in everything that is signed.
//! It does not decide anything: rules live in `ledger` and `scheduler`.

pub mod account;
pub mod amount;
pub mod asset;
pub mod audit;
pub mod blob;
pub mod bundle;
pub mod channel;
pub mod codec;
pub mod credential;
pub mod describe;
pub mod digest;
pub mod eip712;
pub mod event;
pub mod fleet;
pub mod genesis;
pub mod governance;
pub mod gpu;
pub mod grant;
pub mod ids;
pub mod keep;
pub mod keys;
pub mod lease;
pub mod life;
pub mod market;
pub mod market_rules;
pub mod proof;
pub mod public;
pub mod reputation;
pub mod resources;
pub mod service;
pub mod spec;
pub mod stake;
pub mod state;
pub mod time;
pub mod tree;
pub mod tx;
pub mod validator;
pub mod votes;

pub use amount::{Amount, AssetId};
pub use digest::ContentDigest;
pub use ids::{AccountId, BlobHash, ChannelId, CredentialId, GrantId, LeaseId, NodeId, OfferId, OrderId, ProposalId, TxId, ZoneId};
pub use keys::{PublicKey, SigningKey};
pub use resources::{GpuLine, Resources, ServiceLine};
pub use time::{Height, Millis, Timestamp};
