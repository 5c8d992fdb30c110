//! The typed client.
//!
//! Guarantees: each method is one HTTP call with a deadline (streams have none, but end when the peer does); errors are
//! [`ApiError`], and say whether trying again may help. It retries nothing by itself.

mod account;
mod blobs;
mod burst;
mod nodes;
mod straight;

pub use account::AccountClient;
pub use blobs::BlobBytes;
pub use burst::BurstWord;
use straight::{Book, Straight};

use crate::auth;
use crate::channel;
use crate::data::{AliveAnswer, ContextStatus, CountersignRequest, JobStats, LeaseStatus, NodeEvent};
use crate::private::PrivateNetwork;
use crate::problem::Problem;
use crate::publication::{IngressView, NameView, SignedPublication};
use crate::secrets::SealingKey;
use crate::sse::SseDecoder;
use crate::views::{
    AccountView, CheckView, EpochView, ExplainView, GenesisView, GrantView, HandoversView, HeadView, JobView, LeaseView, LedgerEvent,
    NetworkStatus, NodeAddress, NodeView, OfferView, OrderView, PlaceView, ProposalView, StateValue, TicketView, TransactionView, TxResult,
};
use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use pasture_types::market::OrderTerms;
use pasture_types::spec::Port;
use pasture_types::tx::Envelope;
use pasture_types::{AccountId, GrantId, LeaseId, NodeId, OrderId, SigningKey, TxId};
use serde::de::DeserializeOwned;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Deadline of an ordinary call. A transaction's call ends when it is final, normally within milliseconds.
const CALL_DEADLINE: Duration = Duration::from_secs(30);
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// The same where a node is called by its name.
const NODE_DEADLINE: Duration = Duration::from_secs(15);

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// Nobody answers at this address.
    #[error("no network answers at {url}")]
    Unreachable {
        /// Where.
        url: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// The server refused.
    #[error(transparent)]
    Problem(#[from] Problem),
    /// The connection broke off, or the call took too long.
    #[error("the connection to {url} broke off")]
    Broken {
        /// Where.
        url: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// The answer is not what the API says.
    #[error("an unexpected answer from {url}: {detail}")]
    Malformed {
        /// From where.
        url: String,
        /// What was wrong.
        detail: String,
    },
}

impl ApiError {
    /// Whether the same call may succeed a moment later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Broken { .. } => true,
            Self::Problem(p) => p.is_transient(),
            Self::Malformed { .. } => false,
        }
    }
    /// The server's problem, if it answered with one.
    #[must_use]
    pub const fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Problem(p) => Some(p),
            _ => None,
        }
    }
}

/// A stream of typed events.
pub type EventStream<T> = Pin<Box<dyn Stream<Item = Result<T, ApiError>> + Send>>;

/// Which ledger events to follow. Events that name none of these (epochs) always come.
#[derive(Clone, Copy, Default, Debug)]
pub struct EventFilter {
    /// Events of this account.
    pub account: Option<AccountId>,
    /// Events of this node.
    pub node: Option<NodeId>,
    /// Events of this lease.
    pub lease: Option<LeaseId>,
}

/// A call as an observer hears of it: no headers and no bodies, which hold signatures.
#[derive(Clone, Copy, Debug)]
pub struct HttpCall<'a> {
    /// `GET`.
    pub method: &'a str,
    /// Where, with its query; a name and password in it are left out.
    pub url: &'a str,
    /// The answer's status; `None` if there was no answer.
    pub status: Option<u16>,
    /// From asking to the head of the answer.
    pub took: Duration,
}

/// Who hears of calls.
#[derive(Clone, Default)]
struct Observer(Option<Arc<Sees>>);

/// Called with each request and its answer.
type Sees = dyn Fn(&HttpCall<'_>) + Send + Sync;

impl std::fmt::Debug for Observer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "Observer(some)" } else { "Observer(none)" })
    }
}

/// A client of one gateway (or of one node's data plane).
#[derive(Clone, Debug)]
pub struct ApiClient {
    base: String,
    http: reqwest::Client,
    observer: Observer,
    /// Which machines can be called by their names, where there is a door to nodes.
    book: Option<Arc<Book>>,
    /// The way to the machine that it is about.
    straight: Option<Straight>,
}

impl ApiClient {
    /// A client of the API at a base URL such as `http://127.0.0.1:8730`.
    ///
    /// # Errors
    /// If the HTTP client cannot be made.
    pub fn new(base: &str) -> Result<Self, ApiError> {
        Self::by(base, None)
    }
    /// The same, which reaches nodes by their names (`http://<node>.api`) through a door of this process (`pasture_net::Doorway`).
    ///
    /// # Errors
    /// If the HTTP client cannot be made.
    pub fn by(base: &str, door: Option<&str>) -> Result<Self, ApiError> {
        let base = base.trim_end_matches('/').to_string();
        // To another node it may be a relay, and a try at a direct path.
        let deadline = if door.is_some() { NODE_DEADLINE } else { CONNECT_DEADLINE };
        let with_certificates = |builder| if base.starts_with("https://") { crate::door::trusting(builder) } else { builder };
        let http = crate::door::http(door)
            .and_then(|builder| with_certificates(builder).connect_timeout(deadline).build())
            .map_err(|source| ApiError::Unreachable { url: base.clone(), source })?;
        Ok(Self { base, http, observer: Observer::default(), book: door.map(|_| Arc::default()), straight: None })
    }
    /// The same client, each call of which somebody hears of once its answer begins.
    #[must_use]
    pub fn observed(self, observer: impl Fn(&HttpCall<'_>) + Send + Sync + 'static) -> Self {
        Self { observer: Observer(Some(Arc::new(observer))), ..self }
    }
    /// The base URL.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }
    fn failed(&self, source: reqwest::Error) -> ApiError {
        let url = self.base.clone();
        if let Some(straight) = self.straight.as_ref().filter(|_| source.is_connect()) {
            straight.failed();
        }
        if source.is_connect() { ApiError::Unreachable { url, source } } else { ApiError::Broken { url, source } }
    }
    /// Sends a request, and tells who observes.
    async fn send(&self, request: reqwest::RequestBuilder) -> Result<reqwest::Response, ApiError> {
        let request = match &self.straight {
            Some(straight) => straight.turned(&self.http, request).await,
            None => request,
        };
        let Observer(Some(observer)) = &self.observer else { return request.send().await.map_err(|e| self.failed(e)) };
        let (http, request) = request.build_split();
        let request = request.map_err(|e| self.failed(e))?;
        let (method, mut url) = (request.method().clone(), request.url().clone());
        // Fails only for addresses that cannot have them.
        let _ = url.set_username("").and_then(|()| url.set_password(None));
        let begun = Instant::now();
        let answer = http.execute(request).await;
        let status = answer.as_ref().ok().map(|a| a.status().as_u16());
        observer(&HttpCall { method: method.as_str(), url: url.as_str(), status, took: begun.elapsed() });
        answer.map_err(|e| self.failed(e))
    }
    async fn answer(&self, request: reqwest::RequestBuilder) -> Result<reqwest::Response, ApiError> {
        let response = self.send(request).await?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = response.bytes().await.map_err(|e| self.failed(e))?;
        Err(match serde_json::from_slice::<Problem>(&body) {
            Ok(p) => ApiError::Problem(p),
            Err(_) => ApiError::Malformed { url: self.base.clone(), detail: format!("status {status} without a problem document") },
        })
    }
    async fn json<T: DeserializeOwned>(&self, request: reqwest::RequestBuilder) -> Result<T, ApiError> {
        let response = self.answer(request.timeout(CALL_DEADLINE)).await?;
        let body = response.bytes().await.map_err(|e| self.failed(e))?;
        serde_json::from_slice(&body).map_err(|e| ApiError::Malformed { url: self.base.clone(), detail: e.to_string() })
    }
    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ApiError> {
        self.json(self.http.get(self.url(path))).await
    }

    /// The newest proposals to change the network, newest first.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn proposals(&self) -> Result<Vec<ProposalView>, ApiError> {
        self.get("/v1/proposals").await
    }

    /// The validators, their seats and deposits.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn validators(&self) -> Result<crate::ValidatorsView, ApiError> {
        self.get("/v1/validators").await
    }

    /// The network's status.
    ///
    /// # Errors
    /// [`ApiError`], as for every method here.
    pub async fn status(&self) -> Result<NetworkStatus, ApiError> {
        self.get("/v1/status").await
    }
    /// Submits a transaction and waits until it is final. A transaction that failed on the ledger is `Ok` with `ok: false`.
    ///
    /// # Errors
    /// [`ApiError::Problem`] if it was not accepted at all.
    pub async fn submit(&self, tx: &Envelope) -> Result<TxResult, ApiError> {
        self.submit_to("/v1/transactions", tx).await
    }
    /// A transaction by its id, if a recent block has it: for one whose answer did not arrive.
    ///
    /// # Errors
    /// [`ApiError::Problem`] with status 404 if no recent block has it.
    pub async fn transaction(&self, id: &TxId) -> Result<TransactionView, ApiError> {
        self.get(&format!("/v1/transactions/{id}")).await
    }
    /// Has the development funder co-sign and submit a newcomer's first transaction.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn test_credits(&self, tx: &Envelope) -> Result<TxResult, ApiError> {
        self.submit_to("/v1/test-credits", tx).await
    }
    async fn submit_to(&self, path: &str, tx: &Envelope) -> Result<TxResult, ApiError> {
        self.json(self.http.post(self.url(path)).body(pasture_types::codec::encode(tx))).await
    }
    /// An account.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn account(&self, id: &AccountId) -> Result<AccountView, ApiError> {
        self.get(&format!("/v1/accounts/{id}")).await
    }
    /// An account's jobs, newest first.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn jobs(&self, id: &AccountId) -> Result<Vec<JobView>, ApiError> {
        self.get(&format!("/v1/accounts/{id}/jobs")).await
    }
    /// An account's grants and invites.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn grants(&self, id: &AccountId) -> Result<Vec<GrantView>, ApiError> {
        self.get(&format!("/v1/accounts/{id}/grants")).await
    }
    /// A grant, while it stands.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn grant(&self, id: &GrantId) -> Result<GrantView, ApiError> {
        self.get(&format!("/v1/grants/{id}")).await
    }
    /// A node.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn node(&self, id: &NodeId) -> Result<NodeView, ApiError> {
        self.get(&format!("/v1/nodes/{id}")).await
    }
    /// A node's leases that are not closed.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn node_leases(&self, id: &NodeId) -> Result<Vec<LeaseView>, ApiError> {
        self.get(&format!("/v1/nodes/{id}/leases")).await
    }
    /// All standing offers.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn offers(&self) -> Result<Vec<OfferView>, ApiError> {
        self.get("/v1/offers").await
    }
    /// An order.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn order(&self, id: &OrderId) -> Result<OrderView, ApiError> {
        self.get(&format!("/v1/orders/{id}")).await
    }
    /// A lease.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn lease(&self, id: &LeaseId) -> Result<LeaseView, ApiError> {
        self.get(&format!("/v1/leases/{id}")).await
    }
    /// An epoch's randomness.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn epoch(&self, epoch: u64) -> Result<EpochView, ApiError> {
        self.get(&format!("/v1/epochs/{epoch}")).await
    }
    /// What would happen to an order.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn explain(&self, terms: &OrderTerms) -> Result<ExplainView, ApiError> {
        self.json(self.http.post(self.url("/v1/explain")).json(terms)).await
    }
    /// The last final block.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn head(&self) -> Result<HeadView, ApiError> {
        self.get("/v1/ledger/head").await
    }
    /// A block by height.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn block(&self, height: u64) -> Result<HeadView, ApiError> {
        self.get(&format!("/v1/ledger/blocks/{height}")).await
    }
    /// A raw value of the state by its hex key.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn state(&self, hex_key: &str) -> Result<StateValue, ApiError> {
        self.get(&format!("/v1/ledger/state/{hex_key}")).await
    }
    /// How others took the seats of the validators with this hash (hex), oldest first.
    ///
    /// # Errors
    /// [`ApiError::Problem`] with status 404 if the network never had such validators.
    pub async fn handovers(&self, from: &str) -> Result<HandoversView, ApiError> {
        self.get(&format!("/v1/ledger/handovers?from={from}")).await
    }
    /// Checks the ledger's invariants.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn check(&self) -> Result<CheckView, ApiError> {
        self.get("/v1/ledger/check").await
    }
    /// The whole state as a file's bytes, in the form of `docs/specs/light.md` §7. It has no deadline; whether it is whole, the file
    /// itself says.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn export(&self) -> Result<EventStream<Bytes>, ApiError> {
        let response = self.answer(self.http.get(self.url("/v1/ledger/export"))).await?;
        let url = self.base.clone();
        Ok(Box::pin(response.bytes_stream().map(move |piece| piece.map_err(|source| ApiError::Broken { url: url.clone(), source }))))
    }
    /// What the network began with.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn genesis(&self) -> Result<GenesisView, ApiError> {
        self.get("/v1/genesis").await
    }
    /// What a machine needs to reach this network.
    ///
    /// # Errors
    /// [`ApiError`]; the problem `not-found` where nobody is let in peer to peer.
    pub async fn ticket(&self) -> Result<TicketView, ApiError> {
        self.get("/v1/ticket").await
    }
    /// Who serves this network's API and at which relays its nodes wait, as far as the one that answers knows: up to sixteen, as a ticket.
    ///
    /// # Errors
    /// [`ApiError`]; the problem `not-found` where nobody is let in peer to peer.
    pub async fn gates(&self) -> Result<TicketView, ApiError> {
        self.get("/v1/gates").await
    }
    /// Where everybody reaches what is published, through the gateway that answers.
    ///
    /// # Errors
    /// [`ApiError`]; the problem `not-found` where it lets nobody in.
    pub async fn ingress(&self) -> Result<IngressView, ApiError> {
        self.get("/v1/ingress").await
    }
    /// What the gateway that answers knows of a name, by its first label.
    ///
    /// # Errors
    /// [`ApiError`]; the problem `not-found` where it knows no such name.
    pub async fn public_name(&self, label: &str) -> Result<NameView, ApiError> {
        self.get(&format!("/v1/ingress/{label}")).await
    }
    /// Where a machine can be called peer to peer.
    ///
    /// # Errors
    /// [`ApiError`]; the problem `not-found` if it cannot, or is not connected.
    pub async fn place(&self, node: &NodeId) -> Result<PlaceView, ApiError> {
        self.get(&format!("/v1/nodes/{node}/place")).await
    }
    /// Announces a node's data plane address.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn announce(&self, node: &NodeId, address: &NodeAddress) -> Result<(), ApiError> {
        let request = self.http.put(self.url(&format!("/v1/nodes/{node}/address"))).json(address);
        self.answer(request.timeout(CALL_DEADLINE)).await.map(|_| ())
    }
    /// Follows ledger events. When this returns, nothing that happens from now on is missed; read state after it.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn events(&self, filter: EventFilter) -> Result<EventStream<LedgerEvent>, ApiError> {
        let mut query = vec![];
        query.extend(filter.account.map(|v| format!("account={v}")));
        query.extend(filter.node.map(|v| format!("node={v}")));
        query.extend(filter.lease.map(|v| format!("lease={v}")));
        let mut events = self.sse(self.http.get(self.url(&format!("/v1/events?{}", query.join("&"))))).await?;
        match events.next().await {
            Some(Ok(e)) if e.name == "ready" => {}
            Some(Ok(e)) => return Err(self.malformed(format!("the event stream begins with `{}`", e.name))),
            Some(Err(e)) => return Err(e),
            None => return Err(self.malformed("the event stream ended at once".into())),
        }
        let url = self.base.clone();
        Ok(Box::pin(events.map(move |e| parse(&url, &e?.data))))
    }
    fn malformed(&self, detail: String) -> ApiError {
        ApiError::Malformed { url: self.base.clone(), detail }
    }

    async fn sse(&self, request: reqwest::RequestBuilder) -> Result<EventStream<crate::sse::SseEvent>, ApiError> {
        let response = self.answer(request).await?;
        let url = self.base.clone();
        let bytes = response.bytes_stream();
        let state = Some((Box::pin(bytes), SseDecoder::default(), url));
        // The state is gone after an error: a stream that broke has nothing more to say.
        Ok(Box::pin(futures::stream::unfold(state, |state| async move {
            let (mut bytes, mut decoder, url) = state?;
            loop {
                match decoder.next_event() {
                    Ok(Some(event)) => return Some((Ok(event), Some((bytes, decoder, url)))),
                    Ok(None) => {}
                    Err(e) => return Some((Err(ApiError::Malformed { url, detail: e.to_string() }), None)),
                }
                match bytes.next().await? {
                    Ok(chunk) => decoder.push(&chunk),
                    Err(source) => return Some((Err(ApiError::Broken { url, source }), None)),
                }
            }
        })))
    }
}

fn parse<T: DeserializeOwned>(url: &str, text: &str) -> Result<T, ApiError> {
    serde_json::from_str(text).map_err(|e| ApiError::Malformed { url: url.into(), detail: e.to_string() })
}

/// Opens a sealed text about a lease, or gives what stands for one that does not open.
pub type OpenText = std::sync::Arc<dyn Fn(&LeaseId, &[u8]) -> String + Send + Sync>;

/// The data plane of one lease, through a gateway, signed by the lease's account.
#[derive(Clone)]
pub struct LeaseClient {
    api: ApiClient,
    key: SigningKey,
    lease: LeaseId,
    node: NodeId,
    now_ms: fn() -> u64,
    open: Option<OpenText>,
}

impl std::fmt::Debug for LeaseClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LeaseClient({} on {})", self.lease, self.node)
    }
}

impl LeaseClient {
    /// A client for one lease. `now_ms` tells the time that requests are signed with. Where nodes can be called by their names it calls the
    /// lease's machine itself, and the gateway if that does not answer.
    #[must_use]
    pub fn new(api: ApiClient, key: SigningKey, lease: LeaseId, node: NodeId, now_ms: fn() -> u64) -> Self {
        let straight = api.book.as_ref().map(|book| Straight::new(Arc::clone(book), &api.base, &lease, node));
        let api = ApiClient { straight, ..api };
        Self { api, key, lease, node, now_ms, open: None }
    }

    /// From now on the texts in what the node says are opened as they come; else they stay sealed.
    #[must_use]
    pub fn opening(self, open: OpenText) -> Self {
        Self { open: Some(open), ..self }
    }

    fn request(&self, method: reqwest::Method, rest: &str) -> reqwest::RequestBuilder {
        let signed = format!("/leases/{}/{rest}", self.lease);
        let header = auth::authorize(&self.key, method.as_str(), &signed, &self.node, (self.now_ms)());
        let url = self.api.url(&format!("/v1/leases/{}/data/{rest}", self.lease));
        self.api.http.request(method, url).header("authorization", header)
    }

    /// Which lease it is about.
    #[must_use]
    pub const fn lease(&self) -> LeaseId {
        self.lease
    }
    /// On which node.
    #[must_use]
    pub const fn node(&self) -> NodeId {
        self.node
    }

    /// The node's key for sealing, if it is the node's: one that was put in on the way is an error.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn sealing_key(&self) -> Result<[u8; 32], ApiError> {
        let offer: SealingKey = self.api.json(self.request(reqwest::Method::GET, "sealing-key")).await?;
        offer.verify(&self.node).map_err(|_| self.api.malformed("the sealing key is not the machine's".into()))
    }
    /// What secrets of this lease are bound to.
    #[must_use]
    pub fn secrets_context(&self) -> Vec<u8> {
        crate::secrets::context(&self.node, &self.lease)
    }
    /// Hands over sealed secrets, before the manifest that names them.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn put_secrets(&self, sealed: Vec<u8>) -> Result<(), ApiError> {
        let hash = pasture_types::blob::hash(&sealed);
        let request = self.request(reqwest::Method::PUT, &format!("secrets?hash={hash}")).body(sealed);
        self.api.answer(request.timeout(CALL_DEADLINE)).await.map(|_| ())
    }
    /// Hands over the manifest.
    ///
    /// # Errors
    /// [`ApiError`], as for every method here.
    pub async fn put_manifest(&self, bytes: Vec<u8>) -> Result<(), ApiError> {
        let request = self.request(reqwest::Method::PUT, "manifest").body(bytes);
        self.api.answer(request.timeout(CALL_DEADLINE)).await.map(|_| ())
    }
    /// Has another manifest take the place of the one that runs.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn update(&self, bytes: Vec<u8>) -> Result<(), ApiError> {
        let request = self.request(reqwest::Method::PUT, "update").body(bytes);
        self.api.answer(request.timeout(CALL_DEADLINE)).await.map(|_| ())
    }
    /// How much of the build context has arrived.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn context(&self) -> Result<ContextStatus, ApiError> {
        self.api.json(self.request(reqwest::Method::GET, "context")).await
    }
    /// Sends the build context from an offset on.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn put_context<S>(&self, offset: u64, body: S) -> Result<ContextStatus, ApiError>
    where
        S: Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static,
    {
        let request = self.request(reqwest::Method::PUT, &format!("context?offset={offset}")).body(reqwest::Body::wrap_stream(body));
        let response = self.api.answer(request).await?;
        let bytes = response.bytes().await.map_err(|e| self.api.failed(e))?;
        parse(&self.api.base, &String::from_utf8_lossy(&bytes))
    }
    /// The lease as its node sees it.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn status(&self) -> Result<LeaseStatus, ApiError> {
        let mut status: LeaseStatus = self.api.json(self.request(reqwest::Method::GET, "status")).await?;
        if let Some(open) = &self.open {
            status.each_text(|said| said.open(|sealed| open(&self.lease, sealed)));
        }
        Ok(status)
    }
    /// Follows the node's events, beginning with the current status.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn events(&self) -> Result<EventStream<NodeEvent>, ApiError> {
        let events = self.api.sse(self.request(reqwest::Method::GET, "events")).await?;
        let (url, lease, open) = (self.api.base.clone(), self.lease, self.open.clone());
        Ok(Box::pin(events.map(move |e| {
            let mut event: NodeEvent = parse(&url, &e?.data)?;
            if let Some(open) = &open {
                event.each_text(|said| said.open(|sealed| open(&lease, sealed)));
            }
            Ok(event)
        })))
    }
    /// What the running job uses, once a second, until it has ended.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn stats(&self) -> Result<EventStream<JobStats>, ApiError> {
        let events = self.api.sse(self.request(reqwest::Method::GET, "stats")).await?;
        let url = self.api.base.clone();
        Ok(Box::pin(events.map(move |event| {
            let event = event?;
            match event.name.as_str() {
                "problem" => Err(ApiError::Problem(parse(&url, &event.data)?)),
                _ => parse(&url, &event.data),
            }
        })))
    }
    /// Reads the sealed log from the record at `from` on, as its bytes come. With `follow`, until the job has ended.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn logs(&self, from: u64, follow: bool) -> Result<EventStream<Bytes>, ApiError> {
        let response = self.api.answer(self.request(reqwest::Method::GET, &format!("logs?from={from}&follow={follow}"))).await?;
        let url = self.api.base.clone();
        Ok(Box::pin(response.bytes_stream().map(move |piece| piece.map_err(|source| ApiError::Broken { url: url.clone(), source }))))
    }
    /// Makes the order's alive check now.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn alive(&self) -> Result<AliveAnswer, ApiError> {
        self.api.json(self.request(reqwest::Method::POST, "alive")).await
    }
    /// Confirms a usage.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn countersign(&self, request: &CountersignRequest) -> Result<(), ApiError> {
        let request = self.request(reqwest::Method::POST, "countersign").json(request);
        self.api.answer(request.timeout(CALL_DEADLINE)).await.map(|_| ())
    }
    /// Asks the node to stop the job.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn stop(&self, grace_ms: u64) -> Result<(), ApiError> {
        let request = self.request(reqwest::Method::POST, &format!("stop?grace_ms={grace_ms}"));
        self.api.answer(request.timeout(CALL_DEADLINE)).await.map(|_| ())
    }
    /// Opens the sealed output from an offset on.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn output(&self, offset: u64) -> Result<reqwest::Response, ApiError> {
        self.api.answer(self.request(reqwest::Method::GET, &format!("output?offset={offset}"))).await
    }
    /// What of the job is published.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn published(&self) -> Result<Vec<SignedPublication>, ApiError> {
        self.api.json(self.request(reqwest::Method::GET, "public")).await
    }
    /// Publishes these ports of the job and no others; none withdraws all.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn publish(&self, all: &[SignedPublication]) -> Result<(), ApiError> {
        let request = self.request(reqwest::Method::PUT, "public").json(all);
        self.api.answer(request.timeout(CALL_DEADLINE)).await.map(|_| ())
    }
    /// The ports that the job's description names.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn ports(&self) -> Result<Vec<Port>, ApiError> {
        self.api.json(self.request(reqwest::Method::GET, "ports")).await
    }
    /// Sets what the job reaches in the private network of its deployment, and who reaches it, in the place of what was set before.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn put_private(&self, network: &PrivateNetwork) -> Result<(), ApiError> {
        let (bytes, hash) = network.to_wire();
        let request = self.request(reqwest::Method::PUT, &format!("private?hash={hash}")).body(bytes);
        self.api.answer(request.timeout(CALL_DEADLINE)).await.map(|_| ())
    }
    /// Opens a channel to the job's container. What `said` yields goes out while the answer comes in.
    ///
    /// # Errors
    /// [`ApiError`] if it is refused before it begins, or the opening makes no sense.
    pub async fn channel<S>(&self, opening: &channel::Opening, said: S) -> Result<EventStream<channel::Frame>, ApiError>
    where
        S: Stream<Item = channel::Frame> + Send + 'static,
    {
        let wrong = |detail| ApiError::Problem(Problem::bad_request(detail));
        let (first, hash) = opening.to_wire().map_err(wrong)?;
        let body = futures::stream::once(async move { first }).chain(said.map(|frame| frame.encoded()));
        let body = reqwest::Body::wrap_stream(body.map(Ok::<_, std::convert::Infallible>));
        // Its answer may end before its body: then the server hangs up, and a request that took the connection next would break off with it.
        let request = self.request(reqwest::Method::POST, &format!("channel?hash={hash}")).header("connection", "close").body(body);
        let answer = self.api.answer(request).await?;
        let state = Some((Box::pin(answer.bytes_stream()), channel::Decoder::default(), self.api.base.clone()));
        // The state is gone after an error: a channel that broke has nothing more to say.
        Ok(Box::pin(futures::stream::unfold(state, |state| async move {
            let (mut bytes, mut decoder, url) = state?;
            loop {
                match decoder.next_frame() {
                    Ok(Some(frame)) => return Some((Ok(frame), Some((bytes, decoder, url)))),
                    Ok(None) => {}
                    Err(e) => return Some((Err(ApiError::Malformed { url, detail: e.to_string() }), None)),
                }
                match bytes.next().await? {
                    Ok(chunk) => decoder.push(&chunk),
                    Err(source) => return Some((Err(ApiError::Broken { url, source }), None)),
                }
            }
        })))
    }
    /// A request of the lease's herd; `rest` is the route below it with its query. The body goes out while the answer comes in; an
    /// answer that is no success is given as it is.
    ///
    /// # Errors
    /// [`ApiError`] if there is no answer.
    pub async fn herd<S>(&self, method: &str, rest: &str, body: S) -> Result<HerdAnswer, ApiError>
    where
        S: Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static,
    {
        let malformed = |detail: String| ApiError::Malformed { url: self.api.base.clone(), detail };
        let method = reqwest::Method::from_bytes(method.as_bytes()).map_err(|e| malformed(e.to_string()))?;
        let path = if rest.is_empty() || rest.starts_with('?') { format!("herd{rest}") } else { format!("herd/{rest}") };
        let request = self.request(method, &path).body(reqwest::Body::wrap_stream(body));
        let answer = self.api.send(request).await?;
        let kind = answer.headers().get("content-type").and_then(|v| v.to_str().ok()).map(str::to_owned);
        let (status, url) = (answer.status().as_u16(), self.api.base.clone());
        let body = answer.bytes_stream().map(move |piece| piece.map_err(|source| ApiError::Broken { url: url.clone(), source }));
        Ok(HerdAnswer { status, kind, body: Box::pin(body) })
    }
}

/// What a herd answered.
pub struct HerdAnswer {
    /// HTTP status.
    pub status: u16,
    /// Media type.
    pub kind: Option<String>,
    /// The body as it comes.
    pub body: EventStream<Bytes>,
}
