//! What the tests stand on: a ledger of fixed values behind a real gateway, and keys that fit it.

use async_trait::async_trait;
use bytes::Bytes;
use pasture_api::{
    AccountView, ApiClient, AuditDetail, BestOffer, CheckView, EpochView, Exclusion, ExplainView, GrantView, HandoversView, HeadView,
    JobView, LeaseView, NetworkStatus, NodeAddress, NodePage, NodeView, OfferView, OrderState, OrderView, Problem, ProposalView,
    StateValue, TenureView, TermView, ThisValidator, TransactionView, TxResult, ValidatorView, ValidatorsView, auth,
};
use pasture_gateway::{Backend, BlockEvents, ExportStream, Gateway, GatewayError, GatewayOptions};
use pasture_rt::{ManualClock, Shutdown};
use pasture_types::event::{Event, Hash32};
use pasture_types::genesis::Params;
use pasture_types::grant::{Budget, GrantUse};
use pasture_types::lease::LeaseState;
use pasture_types::market::{AliveCheck, Egress, OfferTerms, OrderTerms, Rates};
use pasture_types::tx::{Action, Auth, Envelope, TxBody};
use pasture_types::validator::Seating;
use pasture_types::{
    AccountId, Amount, AssetId, BlobHash, GrantId, Height, LeaseId, Millis, NodeId, OfferId, OrderId, Resources, SigningKey, Timestamp,
    TxId, ZoneId, codec,
};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Notify, broadcast};

/// When it is, for everybody here.
pub(crate) const NOW: u64 = 1_700_000_000_000;
/// Blocks that a reader may fall behind.
pub(crate) const FEED: usize = 4;
pub(crate) const ORDER: OrderId = OrderId([0x0d; 32]);
pub(crate) const GRANT: GrantId = GrantId([0x6e; 32]);
pub(crate) const LEASE: LeaseId = LeaseId([0x1e; 32]);
pub(crate) const OFFER: OfferId = OfferId([0x0f; 32]);
pub(crate) const NOBODY: AccountId = AccountId([0xee; 32]);

pub(crate) fn now() -> u64 {
    NOW
}
pub(crate) fn user() -> SigningKey {
    SigningKey::from_seed([1; 32])
}
pub(crate) fn node_key() -> SigningKey {
    SigningKey::from_seed([2; 32])
}
pub(crate) fn funder() -> SigningKey {
    SigningKey::from_seed([3; 32])
}

/// Waits for something that must come soon.
pub(crate) async fn soon<F: Future>(what: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(30), what).await.expect("nothing happened for 30 s")
}

/// A ledger of fixed values.
pub(crate) struct Ledger {
    pub(crate) feed: broadcast::Sender<Arc<BlockEvents>>,
    pub(crate) submitted: Mutex<Vec<Bytes>>,
    /// No block takes any transaction.
    pub(crate) stuck: AtomicBool,
    /// The ledger does not answer.
    pub(crate) broken: AtomicBool,
    pub(crate) asked: Notify,
}

impl Ledger {
    pub(crate) fn publish(&self, height: u64, events: Vec<Event>) {
        let block = BlockEvents { height: Height(height), time: Timestamp(NOW), events };
        self.feed.send(Arc::new(block)).expect("somebody follows");
    }
    fn lease_view() -> LeaseView {
        LeaseView {
            id: LEASE,
            order: ORDER,
            account: user().account(),
            node: node_key().node_id(),
            provider: user().account(),
            provider_name: "meadow".into(),
            region: "eu-west".into(),
            generation: 1,
            state: LeaseState::Running,
            resources: Resources::default(),
            rate_per_hour: Amount(7),
            escrow: Amount(7),
            asset: AssetId::CREDIT,
            max_duration: Millis(1),
            alive: AliveCheck::Exec,
            egress: Egress::Open,
            spec_hash: BlobHash([9; 32]),
            matched: Timestamp(NOW),
            accepted: None,
            closed: None,
            served_ms: Millis(0),
            confirmed_ms: Millis(0),
            paid: Amount(0),
            reason: None,
            settlement: None,
            tenure: TenureView::default(),
        }
    }
    fn grant_view() -> GrantView {
        GrantView {
            id: GRANT,
            account: user().account(),
            key: node_key().public().to_string(),
            may: GrantUse::Invite,
            budget: vec![Budget { asset: AssetId::CREDIT, amount: Amount(9) }],
            spent: vec![Amount(2)],
            left: Amount(7),
            expires: Timestamp(NOW),
            void: false,
            lanes: vec![(0, 3)],
        }
    }
    fn order_view() -> OrderView {
        OrderView {
            id: ORDER,
            account: user().account(),
            state: OrderState::Matched,
            placed: Timestamp(NOW),
            expires: Timestamp(NOW),
            resources: Resources::default(),
            lease: Some(LEASE),
        }
    }
    fn head_view(height: u64) -> HeadView {
        HeadView {
            height: Height(height),
            time: Timestamp(NOW),
            digest: "00".into(),
            parent: "00".into(),
            state_root: "00".into(),
            randomness: "00".into(),
            proposer: "00".into(),
            transactions: 0,
            certificate: "00".into(),
        }
    }
}

#[async_trait]
impl Backend for Ledger {
    async fn submit(&self, tx: Bytes) -> Result<TxResult, Problem> {
        self.asked.notify_one();
        if self.stuck.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        let envelope: Envelope = codec::decode(&tx, tx.len()).map_err(|e| Problem::bad_request(e.to_string()))?;
        self.submitted.lock().unwrap().push(tx);
        let id = envelope.body.id();
        Ok(TxResult { id, height: Height(8), time: Timestamp(NOW), ok: true, code: 0, message: String::new(), events: vec![] })
    }
    async fn transaction(&self, id: TxId) -> Result<Option<TransactionView>, Problem> {
        let submitted = self.submitted.lock().unwrap();
        let taken = submitted.iter().any(|tx| codec::decode::<Envelope>(tx, tx.len()).is_ok_and(|e| e.body.id() == id));
        Ok(taken.then_some(TransactionView { id, height: Height(8), time: Timestamp(NOW), result: None }))
    }
    fn cosign_newcomer(&self, tx: Envelope) -> Result<Envelope, Problem> {
        if tx.body.fee_payer != Some(funder().account()) {
            return Err(Problem::forbidden("the funder is not the fee payer"));
        }
        Ok(tx.and_sign(funder().account(), &funder()))
    }
    fn status(&self) -> Result<NetworkStatus, Problem> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(Problem::unavailable("the ledger has stopped"));
        }
        Ok(NetworkStatus {
            version: "0.1.0".into(),
            name: "test".into(),
            zone: ZoneId([5; 32]),
            rules_version: 1,
            height: Height(7),
            time: Timestamp(NOW),
            pending_transactions: 3,
            validators: 1,
            mode: "trusted sequencer".into(),
            params: Params::dev(),
            funder: Some(funder().account()),
            genesis_time: Timestamp(NOW),
            paused: None,
            open_proposals: 0,
        })
    }
    fn account(&self, id: AccountId) -> Result<Option<AccountView>, Problem> {
        Ok((id == user().account()).then(|| AccountView {
            id,
            balance: Amount::credits(5),
            on_hold: Amount(0),
            deposit: Amount(0),
            lanes: vec![(0, 2)],
            keys: vec![user().public().to_string()],
            provider: None,
            build_allowance_left: Millis(1),
            standing: None,
            assets: vec![],
        }))
    }
    fn jobs(&self, account: AccountId) -> Result<Vec<JobView>, Problem> {
        let job = JobView { order: Self::order_view(), lease: Some(Self::lease_view()) };
        Ok(if account == user().account() { vec![job] } else { vec![] })
    }
    fn grants(&self, account: AccountId) -> Result<Vec<GrantView>, Problem> {
        Ok(if account == user().account() { vec![Self::grant_view()] } else { vec![] })
    }
    fn grant(&self, id: GrantId) -> Result<Option<GrantView>, Problem> {
        Ok(Some(Self::grant_view()).filter(|g| g.id == id))
    }
    fn node(&self, id: NodeId) -> Result<Option<NodeView>, Problem> {
        Ok((id == node_key().node_id()).then(|| NodeView {
            id,
            provider: user().account(),
            provider_name: "meadow".into(),
            resources: Resources::default(),
            leased: Resources::default(),
            cpu_hashes_per_s: 1,
            cpu_model: "model".into(),
            lanes: vec![],
            reachable: false,
            standing: None,
            dismissed: false,
        }))
    }
    fn nodes(&self, provider: AccountId, after: Option<NodeId>) -> Result<NodePage, Problem> {
        let node = node_key().node_id();
        let fits = provider == user().account() && after.is_none_or(|after| node > after);
        Ok(NodePage { nodes: if fits { self.node(node)?.into_iter().collect() } else { vec![] }, next: None })
    }
    fn node_leases(&self, node: NodeId) -> Result<Vec<LeaseView>, Problem> {
        Ok(if node == node_key().node_id() { vec![Self::lease_view()] } else { vec![] })
    }
    fn offers(&self) -> Result<Vec<OfferView>, Problem> {
        let terms = OfferTerms {
            resources: Resources::default(),
            rates: Rates::default(),
            asset: AssetId::CREDIT,
            region: "eu-west".into(),
            egress: Egress::Open,
            max_duration: Millis(1),
            ..OfferTerms::default()
        };
        Ok(vec![OfferView {
            id: OFFER,
            node: node_key().node_id(),
            provider: user().account(),
            provider_name: "meadow".into(),
            terms,
            free: Resources::default(),
            cpu_model: "model".into(),
            reachable: false,
        }])
    }
    fn order(&self, id: OrderId) -> Result<Option<OrderView>, Problem> {
        Ok((id == ORDER).then(Self::order_view))
    }
    fn lease(&self, id: LeaseId) -> Result<Option<LeaseView>, Problem> {
        Ok((id == LEASE).then(Self::lease_view))
    }
    fn epoch(&self, epoch: u64) -> Result<Option<EpochView>, Problem> {
        Ok((epoch <= 3).then_some(EpochView { epoch, randomness: Hash32([6; 32]) }))
    }
    fn audit(&self, number: u64) -> Result<Option<AuditDetail>, Problem> {
        Ok((number <= 3).then(|| AuditDetail {
            number,
            node: NodeId([9; 32]),
            attempt: 1,
            epoch: 2,
            drawn_at: Timestamp(5),
            until: Timestamp(6),
            randomness: Hash32([6; 32]),
            rate: 7,
            burst: pasture_types::Millis(8),
            witnesses: vec![],
            answer: None,
            verdict: None,
            gpus: vec![],
            memory: None,
            gpu_verdict: None,
            memory_verdict: None,
        }))
    }
    fn proposals(&self) -> Result<Vec<ProposalView>, Problem> {
        Ok(vec![])
    }
    async fn validators(&self) -> Result<ValidatorsView, Problem> {
        let status = self.status()?;
        let term = TermView {
            number: 4,
            began: Timestamp(NOW - 5_000),
            height: Height(2),
            ends: Timestamp(NOW + 5_000),
            seating: Seating::Elected,
            seats: 2,
            blocks: 5,
        };
        let validator = |n: u8, seated: bool, proposed: u64| ValidatorView {
            key: NodeId([n; 32]),
            operator: user().account(),
            bond: Amount::credits(12),
            leaving: vec![],
            forfeited: Amount::ZERO,
            seated,
            stands: true,
            proposed,
            suspended: None,
            registered: Timestamp(0),
        };
        Ok(ValidatorsView {
            height: status.height,
            time: status.time,
            this: ThisValidator { key: NodeId([1; 32]), certifies: true, certifiers: 2, engine_term: 3, peers: 1 },
            term,
            seats: 4,
            elections: true,
            min_bond: Amount::credits(10),
            unbond_delay: Millis(1),
            validators: vec![validator(1, true, 1), validator(2, true, 4), validator(3, false, 0)],
            more: false,
        })
    }
    fn entries(&self) -> u64 {
        77
    }
    fn explain(&self, terms: OrderTerms) -> Result<ExplainView, Problem> {
        let best = BestOffer {
            node: node_key().node_id(),
            provider_name: "meadow".into(),
            region: "eu-west".into(),
            rate_per_hour: terms.max_price_per_hour,
        };
        let excluded = vec![Exclusion { reason: "memory".into(), offers: 1 }];
        Ok(ExplainView { offers: 2, suitable: 1, excluded, best: vec![best], relaxations: vec![], ageing: 0 })
    }
    fn genesis(&self) -> Vec<u8> {
        vec![7; 9]
    }
    async fn head(&self) -> Result<HeadView, Problem> {
        Ok(Self::head_view(7))
    }
    async fn block(&self, height: Height) -> Result<Option<HeadView>, Problem> {
        Ok((height.0 <= 7).then(|| Self::head_view(height.0)))
    }
    async fn state(&self, key: Vec<u8>) -> Result<StateValue, Problem> {
        Ok(StateValue { key: hex::encode(key), value: Some("2a".into()), height: Height(7), proof: None })
    }
    async fn handovers(&self, from: [u8; 32]) -> Result<Option<HandoversView>, Problem> {
        let view = |handovers| HandoversView { today: "0b".repeat(32), handovers };
        Ok(match from {
            [10, ..] => Some(view(vec!["01".into(), "02".into()])),
            [11, ..] => Some(view(vec![])),
            _ => None,
        })
    }
    async fn check(&self) -> Result<CheckView, Problem> {
        Ok(CheckView { height: Height(7), checked: vec!["money".into()], violations: vec![] })
    }
    async fn export(&self) -> Result<ExportStream, Problem> {
        let (send, pieces) = tokio::sync::mpsc::channel(4);
        for piece in [Ok("the whole"), Ok(" state"), Err("and no more")] {
            send.send(piece.map(|p| p.as_bytes().into()).map_err(std::io::Error::other)).await.unwrap();
        }
        Ok(ExportStream { pieces })
    }
    fn events(&self) -> broadcast::Receiver<Arc<BlockEvents>> {
        self.feed.subscribe()
    }
}

/// A gateway over such a ledger.
pub(crate) struct World {
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) gateway: Gateway,
    pub(crate) api: ApiClient,
    pub(crate) http: reqwest::Client,
    pub(crate) base: String,
    pub(crate) stop: Shutdown,
}

pub(crate) fn loopback() -> GatewayOptions {
    GatewayOptions::new(SocketAddr::from(([127, 0, 0, 1], 0)))
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(loopback()).await
    }
    pub(crate) async fn with(options: GatewayOptions) -> Self {
        Self::try_with(options).await.unwrap()
    }
    pub(crate) async fn try_with(options: GatewayOptions) -> Result<Self, GatewayError> {
        let ledger = Arc::new(Ledger {
            feed: broadcast::channel(FEED).0,
            submitted: Mutex::default(),
            stuck: AtomicBool::new(false),
            broken: AtomicBool::new(false),
            asked: Notify::new(),
        });
        let stop = Shutdown::new();
        let backend: Arc<dyn Backend> = ledger.clone();
        let gateway = Gateway::start(options, backend, Arc::new(ManualClock::new(NOW)), stop.token()).await?;
        let base = format!("http://{}", gateway.local_addr());
        let http = pasture_api::door::http(None).unwrap().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Ok(Self { ledger, api: ApiClient::new(&base).unwrap(), http, base, gateway, stop })
    }
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }
    /// Asks, and expects a problem.
    pub(crate) async fn refused(&self, method: &str, path: &str, body: impl Into<reqwest::Body>) -> Problem {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let response = soon(self.http.request(method, self.url(path)).body(body).send()).await.unwrap();
        let status = response.status().as_u16();
        assert_eq!(response.headers()["content-type"], "application/problem+json", "{path}");
        let problem: Problem = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
        assert_eq!(problem.status, status, "{path}");
        problem
    }
    pub(crate) async fn text(&self, path: &str) -> String {
        soon(async { self.http.get(self.url(path)).send().await.unwrap().text().await.unwrap() }).await
    }
    /// Announces the node's address with its own key.
    pub(crate) async fn announce(&self, address: SocketAddr) {
        soon(self.api.announce(&node_key().node_id(), &announcement(&node_key(), &format!("http://{address}")))).await.unwrap();
    }
}

/// The announcement of the node's address, signed with a key.
pub(crate) fn announcement(key: &SigningKey, address: &str) -> NodeAddress {
    let node = node_key().node_id();
    let authorization = auth::authorize(key, "PUT", &NodeAddress::signed_path(&node, address), &node, NOW);
    NodeAddress { address: address.into(), authorization, public: vec![], blobs: vec![] }
}

/// A newcomer's first transaction.
pub(crate) fn newcomer(fee_payer: Option<AccountId>) -> Envelope {
    let account = user().account();
    let register = Action::RegisterAccount { keys: vec![user().public()], threshold: 1 };
    TxBody {
        version: 1,
        zone: ZoneId([5; 32]),
        account,
        auth: Auth::Single,
        lane: 0,
        seq: 0,
        valid_until: Timestamp(NOW),
        max_fee: Amount(1),
        tip: Amount(0),
        fee_asset: AssetId::CREDIT,
        fee_payer,
        actions: vec![register, Action::TestCredits { to: account, amount: Amount::credits(1) }],
    }
    .sign(&user())
}

pub(crate) fn tx_id(tx: &Envelope) -> TxId {
    tx.body.id()
}
