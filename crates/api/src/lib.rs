//! Wire types and the typed client of the `/v1` API; this is also the Rust SDK.
//!
//! Guarantees: wire types are separate from ledger records, so that a record can change without breaking clients; every
//! answer that is not a success is a [`Problem`] (problem+json). It holds no keys and decides nothing.
//!
//! | route | answer |
//! |---|---|
//! | `GET /healthz`, `GET /readyz` | 200 when the process, the ledger answers |
//! | `GET /v1/status` | [`NetworkStatus`] |
//! | `POST /v1/transactions` (borsh envelope) | [`TxResult`], once final |
//! | `GET /v1/transactions/{id}` | [`TransactionView`]; 404 if no recent block has it |
//! | `POST /v1/test-credits` (borsh envelope that names the funder as fee payer) | [`TxResult`]; development only |
//! | `GET /v1/events?account=&node=&lease=` | server-sent [`LedgerEvent`]s; the first is a `ready` |
//! | `GET /v1/accounts/{id}`, `/v1/nodes/{id}`, `/v1/offers`, `/v1/orders/{id}`, `/v1/leases/{id}` | views |
//! | `GET /v1/accounts/{id}/jobs`, `GET /v1/nodes/{id}/leases` | lists |
//! | `GET /v1/accounts/{id}/nodes?after=` | a provider's machines by id, a page: [`NodePage`] |
//! | `GET /v1/accounts/{id}/grants`, `GET /v1/grants/{id}` | an account's grants and invites, or one: [`GrantView`] |
//! | `GET /v1/epochs/{n}` | [`EpochView`] |
//! | `GET /v1/audits/{n}` | [`AuditDetail`]; 404 once its record is gone |
//! | `GET /v1/proposals` | the newest [`ProposalView`]s, newest first |
//! | `GET /v1/validators` | the term's seats, who stands for election and who is suspended: [`ValidatorsView`] |
//! | `POST /v1/explain` ([`OrderTerms`](pasture_types::market::OrderTerms)) | [`ExplainView`] |
//! | `GET /v1/ledger/head`, `/v1/ledger/blocks/{height}`, `/v1/ledger/state/{hex key}`, `/v1/ledger/check` | the ledger itself |
//! | `GET /v1/ledger/handovers?from={hex hash of a set}` | how others took the seats of those validators: [`HandoversView`] |
//! | `GET /v1/genesis` | what the network began with: [`GenesisView`] |
//! | `GET /v1/ticket` | what a machine needs to reach this network: [`TicketView`]; 404 where nobody is let in peer to peer |
//! | `GET /v1/gates` | the same with all that is known of who serves it: [`TicketView`] |
//! | `GET /v1/ingress` | where everybody reaches what is published: [`publication::IngressView`]; 404 where nobody is let in |
//! | `GET /v1/ingress/{label}` | what is known of a name: [`publication::NameView`] |
//! | `GET /v1/nodes/{id}/place` | where a machine can be called peer to peer: [`PlaceView`] |
//! | `PUT /v1/nodes/{id}/address` ([`NodeAddress`]) | where a node's data plane listens |
//! | `ANY /v1/leases/{id}/data/{rest}` | forwarded to the node: see [`data`] |
//! | `ANY /v1/nodes/{id}/accounts/{account}/{rest}` | forwarded to the node: see [`volumes`] |

pub mod auth;
pub mod blobs;
pub mod burst;
pub mod channel;
pub mod client;
pub mod data;
pub mod delegate;
pub mod deposit;
pub mod door;
pub mod frames;
pub mod invite;
pub mod newcomer;
pub mod private;
pub mod problem;
pub mod publication;
pub mod said;
pub mod secrets;
pub mod sse;
pub mod validators;
pub mod views;
pub mod volumes;

pub use burst::*;
pub use client::{ApiClient, ApiError, BurstWord};
pub use deposit::*;
pub use problem::Problem;
pub use validators::*;
pub use views::*;
