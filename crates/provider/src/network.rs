//! What a provider needs of the network. `node` implements it over the API's client.
//!
//! Guarantees asked of an implementation: calls end (with [`NetworkError::Unavailable`] at the latest after its own deadline);
//! [`Network::submit`] may be repeated with the same envelope; an event stream ends when it may have missed something.

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use pasture_api::AuditDetail;
use pasture_api::channel::Frame;
use pasture_api::client::ApiError;
use pasture_api::private::Replica;
use pasture_api::views::{AccountView, GrantView, LeaseView, LedgerEvent, NetworkStatus, NodeAddress, NodeView, OfferView, TxResult};
use pasture_types::tx::Envelope;
use pasture_types::{AccountId, ContentDigest, LeaseId, NodeId, SigningKey};

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// Nobody answers, or the connection broke off: what was asked may or may not have been done.
    #[error("the network does not answer: {0}")]
    Unavailable(String),
    /// Who answered cannot be believed: what it says is not what the validators certified, or older than what was seen.
    #[error("do not believe this gateway: {0}")]
    Unproven(String),
    /// The network answered no.
    #[error("{detail}")]
    Refused {
        /// The ledger's own error number, where it was the ledger.
        code: Option<u16>,
        /// What is wrong and what to do.
        detail: String,
    },
}

impl NetworkError {
    /// Whether the same call may succeed a moment later.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Unproven(_))
    }
}

impl From<ApiError> for NetworkError {
    fn from(error: ApiError) -> Self {
        if error.is_transient() {
            return Self::Unavailable(error.to_string());
        }
        Self::Refused { code: error.problem().and_then(|p| p.ledger_code), detail: error.to_string() }
    }
}

/// Ledger events as they become final.
pub type LedgerEvents = BoxStream<'static, Result<LedgerEvent, NetworkError>>;

/// What a channel to a job on another machine tells.
pub type Frames = BoxStream<'static, Result<Frame, NetworkError>>;

/// Bytes of a blob as they come.
pub type BlobBytes = BoxStream<'static, Result<Bytes, NetworkError>>;

/// The network as a provider sees it.
#[async_trait]
pub trait Network: Send + Sync + 'static {
    /// The network's parameters and time.
    async fn status(&self) -> Result<NetworkStatus, NetworkError>;
    /// Submits a transaction and waits until it is final. One that failed on the ledger is `Ok` with `ok: false`.
    async fn submit(&self, tx: &Envelope) -> Result<TxResult, NetworkError>;
    /// An account; `None` if it is not registered.
    async fn account(&self, id: &AccountId) -> Result<Option<AccountView>, NetworkError>;
    /// An account's standing grants; none if it is not registered.
    async fn grants(&self, id: &AccountId) -> Result<Vec<GrantView>, NetworkError>;
    /// A node; `None` if it is not registered.
    async fn node(&self, id: &NodeId) -> Result<Option<NodeView>, NetworkError>;
    /// The standing offers of a node.
    async fn node_offers(&self, id: &NodeId) -> Result<Vec<OfferView>, NetworkError>;
    /// A node's leases that are not closed.
    async fn node_leases(&self, id: &NodeId) -> Result<Vec<LeaseView>, NetworkError>;
    /// A lease in any state; `None` if there is none of this id.
    async fn lease(&self, id: &LeaseId) -> Result<Option<LeaseView>, NetworkError>;
    /// An epoch's randomness; `None` if the ledger has not recorded the epoch.
    async fn epoch(&self, epoch: u64) -> Result<Option<[u8; 32]>, NetworkError>;
    /// An audit; `None` if the ledger has drawn none of this number, or keeps it no more.
    async fn audit(&self, number: u64) -> Result<Option<AuditDetail>, NetworkError>;
    /// Follows the events of a node, and the beginnings of epochs.
    async fn events(&self, node: &NodeId) -> Result<LedgerEvents, NetworkError>;
    /// Opens a connection to a port of a job on another machine, signed with this node's key; what `said` yields goes out.
    async fn connect(&self, key: &SigningKey, to: &Replica, port: u16, said: BoxStream<'static, Frame>) -> Result<Frames, NetworkError>;
    /// Machines that say that they have a blob of an image.
    async fn holders(&self, digest: &ContentDigest) -> Result<Vec<NodeId>, NetworkError>;
    /// Bytes of a blob from another machine, signed with this node's key; to be checked.
    async fn blob(
        &self,
        key: &SigningKey,
        node: &NodeId,
        digest: &ContentDigest,
        from: u64,
        length: Option<u64>,
    ) -> Result<BlobBytes, NetworkError>;
    /// Tells the gateway where the node's data plane listens.
    async fn announce(&self, node: &NodeId, address: &NodeAddress) -> Result<(), NetworkError>;
}
