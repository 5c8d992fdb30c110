//! A ledger of one node in memory, behind the provider's `Network` trait: a test double that checks what the real one checks
//! (signatures, lanes, growth of usage, shares) and nothing of what does not concern a provider.

use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use pasture_api::channel::Frame;
use pasture_api::private::Replica;
use pasture_api::views::{
    AccountView, GrantView, LeaseView, LedgerEvent, NetworkStatus, NodeAddress, NodeView, OfferView, TenureView, TxResult,
};
use pasture_api::{AuditDetail, Beginning, DepositView};
use pasture_provider::{BlobBytes, Frames, LedgerEvents, Network, NetworkError};
use pasture_types::audit::{Answer, AuditAction};
use pasture_types::event::{Event, Hash32};
use pasture_types::genesis::Params;
use pasture_types::ids::derive;
use pasture_types::lease::{EndReason, LeaseState, SignedUsage};
use pasture_types::market::{OfferTerms, Term};
use pasture_types::market_rules::{MarketAction, MarketEvent};
use pasture_types::proof::{Heartbeat, ResourceClass, heartbeat_seed, share_hash, threshold, verify_shares};
use pasture_types::spec::Manifest;
use pasture_types::stake::DepositAction;
use pasture_types::tx::{Action, Auth, Envelope, NodeDeclaration, node_registration_digest, offer_id};
use pasture_types::{
    AccountId, Amount, AssetId, ContentDigest, Height, LeaseId, Millis, NodeId, OrderId, PublicKey, Resources, SigningKey, Timestamp,
    ZoneId,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::broadcast;

pub(crate) const ZONE: ZoneId = ZoneId([5; 32]);
const RATE: Amount = Amount(3_600_000_000);

#[derive(Default)]
pub(crate) struct Ledger {
    /// Whether it began without a deposit.
    pub(crate) newcomer: bool,
    /// Whether leases that are matched may be ended early.
    pub(crate) preemptible: bool,
    /// For how long they are meant.
    pub(crate) term: Term,
    /// How many epochs a heartbeat may be late; none: as in development.
    pub(crate) patient: Option<u64>,
    /// How many heartbeats came together, transaction by transaction.
    pub(crate) bundles: Vec<usize>,
    /// Leases whose early end was told.
    pub(crate) noticed: Vec<LeaseId>,
    height: u64,
    lanes: BTreeMap<([u8; 32], u8), u64>,
    pub(crate) provider: Option<String>,
    pub(crate) deposit: Amount,
    pub(crate) node: Option<NodeDeclaration>,
    pub(crate) offer: Option<OfferView>,
    pub(crate) leases: BTreeMap<LeaseId, LeaseView>,
    pub(crate) usages: Vec<SignedUsage>,
    pub(crate) heartbeats: BTreeSet<u64>,
    pub(crate) announced: Option<String>,
    pub(crate) announcements: u32,
    /// What it says that it has for others.
    pub(crate) blobs: Vec<ContentDigest>,
    pub(crate) epochs: BTreeMap<u64, [u8; 32]>,
    pub(crate) audits: BTreeMap<u64, AuditDetail>,
    pub(crate) answers: Vec<Answer>,
}

pub(crate) struct SimulatedNetwork {
    pub(crate) ledger: Mutex<Ledger>,
    pub(crate) user: SigningKey,
    pub(crate) provider: AccountId,
    pub(crate) node: NodeId,
    pub(crate) away: AtomicBool,
    genesis: Timestamp,
    events: broadcast::Sender<LedgerEvent>,
}

pub(crate) fn now() -> Timestamp {
    use pasture_rt::Clock as _;
    Timestamp(pasture_rt::SystemClock.now_ms())
}

fn params() -> Params {
    Params { epoch: Millis(1_000), heartbeat_work: Millis(5), ..Params::dev() }
}

impl Ledger {
    fn standing(&self) -> DepositView {
        DepositView {
            own: self.deposit,
            sponsored: Amount::ZERO,
            least: Params::dev().min_stake,
            in_use: Amount::ZERO,
            rate_per_hour: Amount::ZERO,
            beginning: if self.newcomer { Beginning::Newcomer } else { Beginning::Deposit },
            withheld: Amount::ZERO,
            forfeited: Amount::ZERO,
            first_fees: Amount::ZERO,
            leaving: vec![],
            sponsors: vec![],
            suspended: None,
        }
    }
}

impl SimulatedNetwork {
    pub(crate) fn new(provider: AccountId, node: NodeId) -> Arc<Self> {
        let genesis = Timestamp(now().0 - 100_000);
        let user = SigningKey::from_seed([9; 32]);
        let events = broadcast::Sender::new(1024);
        let (ledger, away) = (Mutex::default(), AtomicBool::new(false));
        Arc::new(Self { ledger, user, provider, node, away, genesis, events })
    }

    /// Draws the node for a job.
    pub(crate) fn match_lease(&self, manifest: &Manifest, number: u8, max_duration: Millis) -> LeaseId {
        let id = LeaseId([number; 32]);
        let tenure = {
            let ledger = self.ledger.lock().unwrap();
            TenureView { preemptible: ledger.preemptible, term: ledger.term, ..TenureView::default() }
        };
        let view = LeaseView {
            id,
            order: OrderId([number; 32]),
            account: self.user.account(),
            node: self.node,
            provider: self.provider,
            provider_name: "here".into(),
            region: "local".into(),
            generation: 1,
            state: LeaseState::Matched,
            resources: manifest.resources.clone(),
            rate_per_hour: RATE,
            escrow: RATE,
            asset: AssetId::CREDIT,
            max_duration,
            alive: manifest.alive,
            egress: manifest.egress,
            spec_hash: manifest.hash(),
            matched: now(),
            accepted: None,
            closed: None,
            served_ms: Millis(0),
            confirmed_ms: Millis(0),
            paid: Amount::ZERO,
            reason: None,
            settlement: None,
            tenure,
        };
        let matched = Event::LeaseMatched {
            lease: id,
            order: view.order,
            account: view.account,
            node: self.node,
            rate_per_hour: RATE,
            escrow: RATE,
            accept_by: now().plus(Millis(2_000)),
        };
        self.ledger.lock().unwrap().leases.insert(id, view);
        self.emit(matched);
        id
    }

    pub(crate) fn epoch_of(&self, at: Timestamp) -> u64 {
        at.since(self.genesis).0 / params().epoch.0
    }

    pub(crate) fn lease_view(&self, id: LeaseId) -> LeaseView {
        self.ledger.lock().unwrap().leases[&id].clone()
    }

    /// What followers hear, whatever the ledger has.
    pub(crate) fn emit(&self, event: Event) {
        let _ = self.events.send(LedgerEvent { height: Height(1), time: now(), event });
    }

    fn up(&self) -> Result<(), NetworkError> {
        if self.away.load(Ordering::SeqCst) { Err(NetworkError::Unavailable("away".into())) } else { Ok(()) }
    }

    fn record_epoch(&self, ledger: &mut Ledger) {
        let epoch = now().since(self.genesis).0 / params().epoch.0;
        let live = ledger.leases.values().any(|l| matches!(l.state, LeaseState::Accepted | LeaseState::Running));
        if live && !ledger.epochs.contains_key(&epoch) {
            let randomness = derive("test epoch", &[&epoch.to_le_bytes()]);
            ledger.epochs.insert(epoch, randomness);
            self.emit(Event::EpochStarted { epoch, randomness: Hash32(randomness) });
        }
    }

    /// What the ledger's timer does: an epoch begins.
    pub(crate) fn tick(&self) {
        self.record_epoch(&mut self.ledger.lock().unwrap());
    }

    fn apply(&self, ledger: &mut Ledger, auth: Auth, action: &Action) -> Result<(), String> {
        let by_node = auth == Auth::Node(self.node);
        let who = |wanted: bool| if by_node == wanted { Ok(()) } else { Err(format!("not by this right: {action:?}")) };
        match action {
            Action::RegisterProvider { name } => {
                who(false)?;
                ledger.provider = Some(name.clone());
            }
            Action::Stake { amount } => {
                who(false)?;
                ledger.deposit = ledger.deposit.saturating_add(*amount);
            }
            Action::Deposit(DepositAction::Newcomer { stamp }) => {
                who(false)?;
                if !stamp.verify(&ZONE, &self.provider) {
                    return Err("the stamp's work was not done".into());
                }
                ledger.newcomer = true;
            }
            Action::RegisterNode { node, declaration, node_signature } => {
                who(false)?;
                let digest = node_registration_digest(&ZONE, &self.provider, node, declaration);
                PublicKey::from(*node).verify(&digest, node_signature).map_err(|e| e.to_string())?;
                ledger.node = Some(declaration.clone());
            }
            Action::PutOffer { node, number, terms } => {
                who(false)?;
                self.take_offer(ledger, node, *number, terms)?;
            }
            Action::Market(MarketAction::Preempt { lease }) => {
                who(true)?;
                self.take_notice(ledger, lease)?;
            }
            Action::WithdrawOffer { .. } => {
                who(false)?;
                ledger.offer = None;
            }
            Action::AcceptLease { lease } => {
                who(true)?;
                let view = ledger.leases.get_mut(lease).filter(|l| l.state == LeaseState::Matched).ok_or("not matched")?;
                (view.state, view.accepted) = (LeaseState::Accepted, Some(now()));
            }
            Action::RejectLease { lease } => {
                who(true)?;
                ledger.leases.remove(lease);
            }
            Action::SubmitUsage { usage } => {
                who(true)?;
                self.take_usage(ledger, usage)?;
            }
            Action::SubmitHeartbeat { heartbeat } => {
                who(true)?;
                self.take_heartbeat(ledger, heartbeat)?;
            }
            Action::Audit(said) => {
                who(true)?;
                self.take_bundle(ledger, said)?;
            }
            Action::CloseLease { lease, reason } => {
                who(true)?;
                self.take_close(ledger, lease, reason)?;
            }
            other => return Err(format!("a provider has no business with {other:?}")),
        }
        Ok(())
    }

    fn take_close(&self, ledger: &mut Ledger, lease: &LeaseId, reason: &EndReason) -> Result<(), String> {
        let view = ledger.leases.get_mut(lease).ok_or("no such lease")?;
        if !matches!(view.state, LeaseState::Accepted | LeaseState::Running) {
            return Err("it has ended already".into());
        }
        (view.state, view.reason, view.closed) = (LeaseState::Closing, Some(reason.clone()), Some(now()));
        let state = view.state;
        let (account, node) = (view.account, self.node);
        self.emit(Event::LeaseChanged { lease: *lease, account, node, state, reason: Some(reason.clone()) });
        Ok(())
    }

    fn take_usage(&self, ledger: &mut Ledger, signed: &SignedUsage) -> Result<(), String> {
        let usage = &signed.usage;
        PublicKey::from(signed.node).verify(&usage.digest(), &signed.node_signature).map_err(|e| e.to_string())?;
        let view = ledger.leases.get_mut(&usage.lease).ok_or("no such lease")?;
        if view.accepted.is_none_or(|at| usage.started.plus(Millis(2_000)) < at) || usage.served_until() > now().plus(Millis(2_000)) {
            return Err("usage outside the lease's time".into());
        }
        if let Some(last) = ledger.usages.iter().rev().find(|u| u.usage.lease == usage.lease).map(|u| &u.usage) {
            let grows = usage.served_ms >= last.served_ms && usage.log_bytes >= last.log_bytes && usage.epoch >= last.epoch;
            if !grows || usage == last {
                return Err("usage does not grow".into());
            }
        }
        if let Some(counter) = &signed.countersignature {
            if counter.key != self.user.public() {
                return Err("not the user's key".into());
            }
            counter.key.verify(&usage.counter_digest(), &counter.signature).map_err(|e| e.to_string())?;
            view.confirmed_ms = usage.served_ms;
        }
        view.served_ms = usage.served_ms;
        if view.state == LeaseState::Accepted {
            view.state = LeaseState::Running;
        }
        ledger.usages.push(signed.clone());
        Ok(())
    }

    fn take_offer(&self, ledger: &mut Ledger, node: &NodeId, number: u32, terms: &OfferTerms) -> Result<(), String> {
        let declared = ledger.node.as_ref().ok_or("no such node")?;
        if !declared.resources.covers(&terms.resources) {
            return Err("the offer is larger than its node".into());
        }
        ledger.offer = Some(OfferView {
            id: offer_id(node, number),
            node: *node,
            provider: self.provider,
            provider_name: "here".into(),
            terms: terms.clone(),
            free: terms.resources.clone(),
            cpu_model: String::new(),
            reachable: true,
        });
        Ok(())
    }

    fn take_notice(&self, ledger: &mut Ledger, lease: &LeaseId) -> Result<(), String> {
        let view = ledger.leases.get_mut(lease).ok_or("no such lease")?;
        if !view.tenure.preemptible || view.tenure.preempting {
            return Err("no notice can be given".into());
        }
        view.tenure.preempting = true;
        ledger.noticed.push(*lease);
        let (account, node, at) = (view.account, view.node, now().plus(Millis(300)));
        self.emit(Event::Market(MarketEvent::PreemptNotice { lease: *lease, account, node, at }));
        Ok(())
    }

    fn take_bundle(&self, ledger: &mut Ledger, said: &AuditAction) -> Result<(), String> {
        let bundle = match said {
            AuditAction::Heartbeats(bundle) => bundle,
            AuditAction::Answers(answers) => {
                ledger.answers.extend(answers.iter().cloned());
                return Ok(());
            }
            other => return Err(format!("not of a provider: {other:?}")),
        };
        let mut taken = 0;
        for (shares, epoch) in bundle.shares.iter().zip(bundle.first..).filter(|(s, _)| !s.0.is_empty()) {
            let randomness = *ledger.epochs.get(&epoch).ok_or("no such period")?;
            let seed = heartbeat_seed(&randomness, &bundle.node, bundle.class, bundle.device, epoch);
            let mut nonces = shares.unpack().ok_or("the shares are not packed as they must be")?;
            nonces.sort_unstable_by_key(|n| share_hash(&seed, *n));
            let heartbeat = Heartbeat { node: bundle.node, class: bundle.class, device: bundle.device, epoch, nonces };
            self.take_heartbeat(ledger, &heartbeat)?;
            taken += 1;
        }
        ledger.bundles.push(taken);
        Ok(())
    }

    fn take_heartbeat(&self, ledger: &mut Ledger, heartbeat: &Heartbeat) -> Result<(), String> {
        let randomness = ledger.epochs.get(&heartbeat.epoch).ok_or("no such period")?;
        let rate = ledger.node.as_ref().ok_or("no such node")?.cpu_hashes_per_s;
        let seed = heartbeat_seed(randomness, &heartbeat.node, ResourceClass::Cpu, 0, heartbeat.epoch);
        verify_shares(&seed, &heartbeat.nonces, threshold(rate, params().heartbeat_work)).map_err(|e| e.to_string())?;
        if ledger.leases.values().all(|l| matches!(l.state, LeaseState::Matched | LeaseState::Closed)) {
            return Err("heartbeat refused: the node has no lease; nothing is to be proven".into());
        }
        if ledger.heartbeats.insert(heartbeat.epoch) { Ok(()) } else { Err("heartbeat refused: this period's is recorded already".into()) }
    }
}

#[async_trait]
impl Network for SimulatedNetwork {
    async fn status(&self) -> Result<NetworkStatus, NetworkError> {
        self.up()?;
        let (height, patient) = {
            let ledger = self.ledger.lock().unwrap();
            (Height(ledger.height), ledger.patient)
        };
        Ok(NetworkStatus {
            version: "0".into(),
            name: "test".into(),
            zone: ZONE,
            rules_version: 1,
            height,
            time: now(),
            pending_transactions: 0,
            validators: 1,
            mode: "trusted sequencer".into(),
            params: Params { heartbeat_grace_epochs: patient.unwrap_or(params().heartbeat_grace_epochs), ..params() },
            funder: None,
            genesis_time: self.genesis,
            paused: None,
            open_proposals: 0,
        })
    }

    async fn submit(&self, tx: &Envelope) -> Result<TxResult, NetworkError> {
        self.up()?;
        let refused = |detail: String| NetworkError::Refused { code: None, detail };
        let id = tx.verify_signatures().map_err(|e| refused(e.to_string()))?;
        let key = tx.signatures[0].key;
        let sender = match tx.body.auth {
            Auth::Node(node) if key == PublicKey::from(node) => node.0,
            Auth::Single if key.account() == self.provider => self.provider.0,
            _ => return Err(refused("wrong key".into())),
        };
        if tx.body.zone != ZONE || tx.body.account != self.provider || tx.body.valid_until < now() {
            return Err(refused("wrong zone or account, or expired".into()));
        }
        let mut ledger = self.ledger.lock().unwrap();
        let next = ledger.lanes.entry((sender, tx.body.lane)).or_default();
        if *next != tx.body.seq {
            return Err(refused(format!("next is {next}")));
        }
        *next += 1;
        ledger.height += 1;
        let outcome = tx.body.actions.iter().try_for_each(|a| self.apply(&mut ledger, tx.body.auth, a));
        self.record_epoch(&mut ledger);
        let (ok, message) = (outcome.is_ok(), outcome.err().unwrap_or_default());
        // What the rules say of each heartbeat of a bundle; nobody here reads other events of a result.
        let recorded = tx.body.actions.iter().flat_map(|a| match a {
            Action::Audit(said) if ok => {
                let AuditAction::Heartbeats(b) = &**said else { return vec![] };
                let epochs = b.shares.iter().zip(b.first..).filter(|(s, _)| !s.0.is_empty());
                epochs.map(|(_, epoch)| Event::HeartbeatRecorded { node: b.node, epoch }).collect()
            }
            _ => vec![],
        });
        let events = recorded.collect();
        Ok(TxResult { id, height: Height(ledger.height), time: now(), ok, code: u16::from(!ok), message, events })
    }

    async fn account(&self, id: &AccountId) -> Result<Option<AccountView>, NetworkError> {
        self.up()?;
        let ledger = self.ledger.lock().unwrap();
        let is_provider = *id == self.provider;
        let lanes = ledger.lanes.iter().filter(|((who, _), _)| *who == id.0).map(|((_, lane), next)| (*lane, *next)).collect();
        let keys = if *id == self.user.account() { vec![self.user.public().to_string()] } else { vec![] };
        Ok(Some(AccountView {
            id: *id,
            balance: Amount::credits(100),
            on_hold: Amount::ZERO,
            deposit: ledger.deposit,
            lanes,
            keys,
            provider: ledger.provider.clone().filter(|_| is_provider),
            build_allowance_left: Millis(600_000),
            standing: ledger.provider.as_ref().filter(|_| is_provider).map(|_| Box::new(ledger.standing())),
            assets: vec![],
        }))
    }

    async fn holders(&self, _: &ContentDigest) -> Result<Vec<NodeId>, NetworkError> {
        self.up()?;
        Ok(vec![])
    }

    async fn blob(&self, _: &SigningKey, _: &NodeId, _: &ContentDigest, _: u64, _: Option<u64>) -> Result<BlobBytes, NetworkError> {
        Err(NetworkError::Unavailable("there are no others here".into()))
    }

    async fn grants(&self, _: &AccountId) -> Result<Vec<GrantView>, NetworkError> {
        self.up()?;
        Ok(vec![])
    }

    async fn node(&self, id: &NodeId) -> Result<Option<NodeView>, NetworkError> {
        self.up()?;
        let ledger = self.ledger.lock().unwrap();
        Ok(ledger.node.as_ref().filter(|_| *id == self.node).map(|declaration| NodeView {
            id: *id,
            provider: self.provider,
            provider_name: "here".into(),
            resources: declaration.resources.clone(),
            leased: Resources::default(),
            cpu_hashes_per_s: declaration.cpu_hashes_per_s,
            cpu_model: declaration.cpu_model.clone(),
            lanes: ledger.lanes.iter().filter(|((who, _), _)| *who == id.0).map(|((_, lane), next)| (*lane, *next)).collect(),
            reachable: true,
            standing: None,
            dismissed: false,
        }))
    }

    async fn node_offers(&self, _: &NodeId) -> Result<Vec<OfferView>, NetworkError> {
        self.up()?;
        Ok(self.ledger.lock().unwrap().offer.iter().cloned().collect())
    }

    async fn node_leases(&self, _: &NodeId) -> Result<Vec<LeaseView>, NetworkError> {
        self.up()?;
        Ok(self.ledger.lock().unwrap().leases.values().filter(|l| l.state != LeaseState::Closed).cloned().collect())
    }

    async fn lease(&self, id: &LeaseId) -> Result<Option<LeaseView>, NetworkError> {
        self.up()?;
        Ok(self.ledger.lock().unwrap().leases.get(id).cloned())
    }

    async fn epoch(&self, epoch: u64) -> Result<Option<[u8; 32]>, NetworkError> {
        self.up()?;
        Ok(self.ledger.lock().unwrap().epochs.get(&epoch).copied())
    }

    async fn audit(&self, number: u64) -> Result<Option<AuditDetail>, NetworkError> {
        self.up()?;
        Ok(self.ledger.lock().unwrap().audits.get(&number).cloned())
    }

    async fn events(&self, _: &NodeId) -> Result<LedgerEvents, NetworkError> {
        self.up()?;
        let live = tokio_stream::wrappers::BroadcastStream::new(self.events.subscribe());
        Ok(live.map(|e| e.map_err(|e| NetworkError::Unavailable(e.to_string()))).boxed())
    }

    async fn connect(&self, _: &SigningKey, _: &Replica, _: u16, _: BoxStream<'static, Frame>) -> Result<Frames, NetworkError> {
        Err(NetworkError::Unavailable("there is one machine here".into()))
    }

    async fn announce(&self, node: &NodeId, address: &NodeAddress) -> Result<(), NetworkError> {
        self.up()?;
        let path = NodeAddress::signed_path(node, &address.address);
        let key = pasture_api::auth::verify(Some(&address.authorization), "PUT", &path, node, now().0)
            .map_err(|e| NetworkError::Refused { code: None, detail: e.to_string() })?;
        assert_eq!(key, PublicKey::from(*node));
        let mut ledger = self.ledger.lock().unwrap();
        ledger.announced = Some(address.address.clone());
        ledger.announcements += 1;
        ledger.blobs.clone_from(&address.blobs);
        Ok(())
    }
}

/// The reason a lease was closed with.
pub(crate) fn closed_with(network: &SimulatedNetwork, id: LeaseId) -> Option<EndReason> {
    network.lease_view(id).reason
}
