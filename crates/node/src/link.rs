//! The provider's [`Network`] over the API's client: one code path, whether the gateway is in this process or elsewhere.

use crate::believed::{Believed, unbelieved};
use crate::checker::CheckError;
use crate::proven::RecordKind;
use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use pasture_api::channel::{Frame, Opening, Purpose};
use pasture_api::client::{EventFilter, LeaseClient};
use pasture_api::private::Replica;
use pasture_api::{
    AccountView, ApiClient, ApiError, AuditDetail, GrantView, LeaseView, LedgerEvent, NetworkStatus, NodeAddress, NodeView, OfferView,
    TxResult,
};
use pasture_net::{Endpoint, Service};
use pasture_provider::{BlobBytes, Frames, LedgerEvents, Network, NetworkError};
use pasture_rt::{Clock as _, SystemClock, TaskKind};
use pasture_types::lease::LeaseState;
use pasture_types::tx::Envelope;
use pasture_types::{AccountId, ContentDigest, LeaseId, NodeId, SigningKey};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;

/// How often a gateway that does not know the node yet is told again where it is, and the pause between.
const ANNOUNCE_TRIES: u32 = 10;
const ANNOUNCE_PAUSE: Duration = Duration::from_millis(200);
/// How long one of a network's gates may take to hear where a machine is.
const TELLING: Duration = Duration::from_secs(20);

/// A network behind a gateway.
pub(crate) struct ApiLink {
    api: ApiClient,
    /// Further gateways that are only told where the machine is: their validators watch its capacity checks.
    also: Vec<ApiClient>,
    gates: Option<Gates>,
    /// By whom answers are checked; `None`: the gateway is believed, as one in this process is.
    believed: Option<Believed>,
}

/// The gates of a network that was joined, who are all told where the machine is.
#[derive(Clone)]
pub(crate) struct Gates {
    endpoint: Endpoint,
    door: String,
    /// Held while they are told. The clients that were made for them.
    clients: Arc<Mutex<HashMap<NodeId, ApiClient>>>,
}

impl Gates {
    pub(crate) fn new(endpoint: Endpoint, door: String) -> Self {
        Self { endpoint, door, clients: Arc::default() }
    }

    /// Tells all of them. One that is away must not hold up the machine: this goes on by itself, once at a time.
    fn tell(&self, node: NodeId, address: NodeAddress) {
        let gates = self.clone();
        pasture_rt::spawn(TaskKind::ClientFollow, async move {
            let Ok(mut clients) = gates.clients.try_lock() else { return };
            let named = gates.endpoint.gates();
            clients.retain(|gate, _| named.contains(gate));
            for gate in named {
                if let Entry::Vacant(free) = clients.entry(gate)
                    && let Ok(client) = ApiClient::by(&Service::Api.url(&gate), Some(&gates.door))
                {
                    free.insert(client);
                }
            }
            let told = clients.values().map(|client| async {
                match tokio::time::timeout(TELLING, announce(client, &node, &address)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => tracing::info!(url = client.base(), %error, "a gateway was not told where this machine is"),
                    Err(_) => tracing::info!(url = client.base(), "a gateway does not answer"),
                }
            });
            futures::future::join_all(told).await;
        });
    }
}

impl ApiLink {
    /// The network that a client talks to; `also` and the network's gates are told where the machine is.
    #[must_use]
    pub(crate) const fn new(api: ApiClient, also: Vec<ApiClient>, gates: Option<Gates>, believed: Option<Believed>) -> Self {
        Self { api, also, gates, believed }
    }

    /// A record as the validators have it.
    async fn shown<V>(&self, kind: RecordKind, id: &[u8; 32], said: Option<V>) -> Result<Option<V>, NetworkError>
    where
        V: Serialize + DeserializeOwned + Send + Sync,
    {
        let Some(believed) = &self.believed else { return Ok(said) };
        let unsaid = said.is_none();
        match believed.record(&self.api, kind, id, said).await {
            // It came to be between the two questions, and what no proof determines of it is missing.
            Err(CheckError::Form(_)) if unsaid => Err(NetworkError::Unavailable("the gateway is behind the ledger".into())),
            shown => shown.map_err(|error| self.doubt(error)),
        }
    }

    /// Who lied is not asked again soon, where there are others.
    fn doubt(&self, error: CheckError) -> NetworkError {
        if error.is_lie() {
            self.believed.iter().for_each(Believed::disbelieved);
            let gate = self.gates.as_ref().and_then(|gates| gates.endpoint.disbelieve());
            tracing::warn!(%error, url = self.api.base(), gate = gate.map(tracing::field::display), "the gateway is not believed");
        }
        unbelieved(error)
    }
}

/// Tells a gateway where the node is. Its validator may be some blocks behind the one that this node registered with.
async fn announce(client: &ApiClient, node: &NodeId, address: &NodeAddress) -> Result<(), ApiError> {
    let mut tries = 0;
    loop {
        match client.announce(node, address).await {
            Err(error) if tries < ANNOUNCE_TRIES && error.problem().is_some_and(|p| p.status == 404) => tries += 1,
            told => return told,
        }
        tokio::time::sleep(ANNOUNCE_PAUSE).await;
    }
}

fn now_ms() -> u64 {
    SystemClock.now_ms()
}

fn found<T>(answer: Result<T, ApiError>) -> Result<Option<T>, NetworkError> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(e) if e.problem().is_some_and(|p| p.status == 404) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

#[async_trait]
impl Network for ApiLink {
    async fn status(&self) -> Result<NetworkStatus, NetworkError> {
        Ok(self.api.status().await?)
    }
    async fn submit(&self, tx: &Envelope) -> Result<TxResult, NetworkError> {
        Ok(self.api.submit(tx).await?)
    }
    async fn account(&self, id: &AccountId) -> Result<Option<AccountView>, NetworkError> {
        let said = found(self.api.account(id).await)?;
        self.shown(RecordKind::Account, &id.0, said).await
    }
    async fn grants(&self, id: &AccountId) -> Result<Vec<GrantView>, NetworkError> {
        Ok(self.api.grants(id).await?)
    }
    async fn node(&self, id: &NodeId) -> Result<Option<NodeView>, NetworkError> {
        let said = found(self.api.node(id).await)?;
        self.shown(RecordKind::Node, &id.0, said).await
    }
    async fn node_offers(&self, id: &NodeId) -> Result<Vec<OfferView>, NetworkError> {
        let mut offers = self.api.offers().await?;
        offers.retain(|o| o.node == *id);
        Ok(offers)
    }
    async fn node_leases(&self, id: &NodeId) -> Result<Vec<LeaseView>, NetworkError> {
        let mut leases = vec![];
        for said in self.api.node_leases(id).await? {
            let named = said.id;
            match self.shown(RecordKind::Lease, &named.0, Some(said)).await? {
                // It may have been closed meanwhile.
                Some(lease) if lease.node == *id && lease.state != LeaseState::Closed => leases.push(lease),
                Some(lease) if lease.node == *id => {}
                _ => tracing::warn!(lease = %named, url = self.api.base(), "the gateway names a lease of this machine that there is not"),
            }
        }
        Ok(leases)
    }
    async fn lease(&self, id: &LeaseId) -> Result<Option<LeaseView>, NetworkError> {
        let said = found(self.api.lease(id).await)?;
        self.shown(RecordKind::Lease, &id.0, said).await
    }
    async fn epoch(&self, epoch: u64) -> Result<Option<[u8; 32]>, NetworkError> {
        Ok(found(self.api.epoch(epoch).await)?.map(|e| e.randomness.0))
    }
    async fn audit(&self, number: u64) -> Result<Option<AuditDetail>, NetworkError> {
        match (found(self.api.audit(number).await)?, &self.believed) {
            (Some(said), Some(believed)) => believed.audit(&self.api, number, said).await.map_err(|error| self.doubt(error)),
            (said, _) => Ok(said),
        }
    }
    async fn events(&self, node: &NodeId) -> Result<LedgerEvents, NetworkError> {
        let filter = EventFilter { node: Some(*node), ..EventFilter::default() };
        let events = self.api.events(filter).await?;
        Ok(events.map(|e: Result<LedgerEvent, ApiError>| e.map_err(NetworkError::from)).boxed())
    }
    async fn connect(&self, key: &SigningKey, to: &Replica, port: u16, said: BoxStream<'static, Frame>) -> Result<Frames, NetworkError> {
        let client = LeaseClient::new(self.api.clone(), key.clone(), to.lease, to.node, now_ms);
        let mut salt = [0; 16];
        getrandom::fill(&mut salt).map_err(|e| NetworkError::Unavailable(format!("the system gives no random numbers: {e}")))?;
        let opening = Opening { salt: hex::encode(salt), at_ms: now_ms(), purpose: Purpose::Port { port } };
        let told = client.channel(&opening, said).await?;
        Ok(told.map(|frame| frame.map_err(NetworkError::from)).boxed())
    }
    async fn holders(&self, digest: &ContentDigest) -> Result<Vec<NodeId>, NetworkError> {
        Ok(self.api.holders(digest).await?.nodes)
    }
    async fn blob(
        &self,
        key: &SigningKey,
        node: &NodeId,
        digest: &ContentDigest,
        from: u64,
        length: Option<u64>,
    ) -> Result<BlobBytes, NetworkError> {
        let bytes = self.api.blob(key, node, digest, (from, length), now_ms()).await?;
        Ok(bytes.map(|chunk| chunk.map_err(NetworkError::from)).boxed())
    }
    async fn announce(&self, node: &NodeId, address: &NodeAddress) -> Result<(), NetworkError> {
        let (first, others) = futures::join!(
            self.api.announce(node, address),
            futures::future::join_all(self.also.iter().map(|c| announce(c, node, address)))
        );
        if let Some(gates) = &self.gates {
            gates.tell(*node, address.clone());
        }
        // One that is away is told again with the next announcement.
        for (client, error) in self.also.iter().zip(others).filter_map(|(c, told)| Some((c, told.err()?))) {
            tracing::info!(url = client.base(), %error, "a gateway was not told where this machine is");
        }
        Ok(first?)
    }
}
