//! What the gateway asks of the node below it.
//!
//! Guarantees asked for: views are of final state only; an event of a block is sent after the views show that block.
//! It does not say how: `node` implements this over the chain and the ledger, tests over a few maps.

use async_trait::async_trait;
use bytes::Bytes;
use pasture_api::{
    AccountView, AuditDetail, CheckView, EpochView, ExplainView, GrantView, HandoversView, HeadView, JobView, LeaseView, NetworkStatus,
    NodePage, NodeView, OfferView, OrderView, Problem, ProposalView, StateValue, TransactionView, TxResult, ValidatorsView,
};
use pasture_types::event::Event;
use pasture_types::market::OrderTerms;
use pasture_types::tx::Envelope;
use pasture_types::{AccountId, GrantId, Height, LeaseId, NodeId, OrderId, Timestamp, TxId};
use std::sync::Arc;
use tokio::sync::{broadcast, mpsc};

/// What one final block did.
#[derive(Clone, Debug)]
pub struct BlockEvents {
    /// The block.
    pub height: Height,
    /// Its time.
    pub time: Timestamp,
    /// In the order in which they happened.
    pub events: Vec<Event>,
}

/// The whole state on its way out, in the form of `docs/specs/light.md` §7.
pub struct ExportStream {
    /// Pieces of the file, in order; a broken state ends with an error.
    pub pieces: mpsc::Receiver<Result<Bytes, std::io::Error>>,
}

/// The node as its gateway sees it. `Ok(None)` is "there is no such thing"; methods that are not `async` must not block
/// for longer than a look into memory takes.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// Takes an encoded envelope and returns once its block is final.
    ///
    /// # Errors
    /// The problem to answer with, as for every method here; a transaction that is in a block is never an error.
    async fn submit(&self, tx: Bytes) -> Result<TxResult, Problem>;
    /// A transaction of a recent block.
    ///
    /// # Errors
    /// A problem.
    async fn transaction(&self, id: TxId) -> Result<Option<TransactionView>, Problem>;
    /// In a development zone: adds the funder's signature as fee payer, if all that the transaction does is open an
    /// account and take test credits within the limits.
    ///
    /// # Errors
    /// 404 where there is no funder, 403 if the transaction does anything else.
    fn cosign_newcomer(&self, tx: Envelope) -> Result<Envelope, Problem>;
    /// The network's status.
    ///
    /// # Errors
    /// A problem, when the ledger does not answer.
    fn status(&self) -> Result<NetworkStatus, Problem>;
    /// An account.
    ///
    /// # Errors
    /// A problem.
    fn account(&self, id: AccountId) -> Result<Option<AccountView>, Problem>;
    /// An account's jobs, newest first; none for an account that does not exist.
    ///
    /// # Errors
    /// A problem.
    fn jobs(&self, account: AccountId) -> Result<Vec<JobView>, Problem>;
    /// An account's standing grants; none for an account that does not exist.
    ///
    /// # Errors
    /// A problem.
    fn grants(&self, account: AccountId) -> Result<Vec<GrantView>, Problem>;
    /// A standing grant.
    ///
    /// # Errors
    /// A problem.
    fn grant(&self, id: GrantId) -> Result<Option<GrantView>, Problem>;
    /// A node. The gateway fills in `reachable`.
    ///
    /// # Errors
    /// A problem.
    fn node(&self, id: NodeId) -> Result<Option<NodeView>, Problem>;
    /// A provider's nodes by id, those after one: a page. The gateway fills in `reachable`.
    ///
    /// # Errors
    /// A problem.
    fn nodes(&self, provider: AccountId, after: Option<NodeId>) -> Result<NodePage, Problem>;
    /// A node's leases that are not closed.
    ///
    /// # Errors
    /// A problem.
    fn node_leases(&self, node: NodeId) -> Result<Vec<LeaseView>, Problem>;
    /// All standing offers. The gateway fills in `reachable`.
    ///
    /// # Errors
    /// A problem.
    fn offers(&self) -> Result<Vec<OfferView>, Problem>;
    /// An order.
    ///
    /// # Errors
    /// A problem.
    fn order(&self, id: OrderId) -> Result<Option<OrderView>, Problem>;
    /// A lease.
    ///
    /// # Errors
    /// A problem.
    fn lease(&self, id: LeaseId) -> Result<Option<LeaseView>, Problem>;
    /// An epoch that has begun.
    ///
    /// # Errors
    /// A problem.
    fn epoch(&self, epoch: u64) -> Result<Option<EpochView>, Problem>;
    /// An audit whose record is kept.
    ///
    /// # Errors
    /// A problem.
    fn audit(&self, number: u64) -> Result<Option<AuditDetail>, Problem>;
    /// The newest proposals, newest first.
    ///
    /// # Errors
    /// A problem.
    fn proposals(&self) -> Result<Vec<ProposalView>, Problem>;
    /// The validators, their seats and deposits.
    ///
    /// # Errors
    /// A problem.
    async fn validators(&self) -> Result<ValidatorsView, Problem>;
    /// Entries in the ledger's state.
    fn entries(&self) -> u64;
    /// What would happen to an order now.
    ///
    /// # Errors
    /// 400 if the terms are not ones that the ledger would take.
    fn explain(&self, terms: OrderTerms) -> Result<ExplainView, Problem>;
    /// The last final block.
    ///
    /// # Errors
    /// A problem.
    async fn head(&self) -> Result<HeadView, Problem>;
    /// A final block by height.
    ///
    /// # Errors
    /// A problem.
    async fn block(&self, height: Height) -> Result<Option<HeadView>, Problem>;
    /// What the network began with, in the ledger's encoding.
    fn genesis(&self) -> Vec<u8>;
    /// The value of a raw key of the state, or that there is none.
    ///
    /// # Errors
    /// A problem.
    async fn state(&self, key: Vec<u8>) -> Result<StateValue, Problem>;
    /// How others took the seats of the validators with this hash: at most [`pasture_api::MAX_HANDOVERS`]. `None` if the network never
    /// had them.
    ///
    /// # Errors
    /// A problem.
    async fn handovers(&self, from: [u8; 32]) -> Result<Option<HandoversView>, Problem>;
    /// The whole state at the last final block.
    ///
    /// # Errors
    /// A problem: no block yet, or none with a certificate.
    async fn export(&self) -> Result<ExportStream, Problem>;
    /// Checks the ledger's invariants, off the threads that serve requests.
    ///
    /// # Errors
    /// A problem.
    async fn check(&self) -> Result<CheckView, Problem>;
    /// Blocks from now on. A receiver that falls behind the channel's length loses blocks, and is told so.
    fn events(&self) -> broadcast::Receiver<Arc<BlockEvents>>;
}
