//! The gateway's view of the node: chain and ledger behind one trait.
//!
//! Guarantees: every answer is read from one final snapshot; an event is sent after the views show its block. In a
//! development zone it also co-signs newcomers, and nothing but newcomers.

use crate::recent::Recent;
use crate::zone::LocalZone;
use crate::{checkpoint, moving, seats, standing, views, votes};
use async_trait::async_trait;
use bytes::Bytes;
use pasture_api::{
    AccountView, AuditDetail, CheckView, EpochView, ExplainView, GrantView, HandoversView, HeadView, JobView, LeaseView, MAX_HANDOVERS,
    NetworkStatus, NodePage, NodeView, OfferView, OrderView, Problem, ProposalView, StateValue, ThisValidator, TransactionView, TxResult,
    ValidatorsView,
};
use pasture_chain::{Chain, ChainError, Dropped, FinalizedBlock, Header, NextBlock, Snapshot, SubmitError, TxOutcome, Validator};
use pasture_gateway::{Backend, BlockEvents, ExportStream};
use pasture_ledger::{Ordering, query};
use pasture_light::{Handover, StateProof};
use pasture_machine::decode_events;
use pasture_rt::{Clock, ShutdownToken, TaskHandle, TaskKind, spawn, spawn_blocking};
use pasture_types::genesis::Genesis;
use pasture_types::market::OrderTerms;
use pasture_types::tx::{Action, Auth, Envelope, MAX_TX_BYTES};
use pasture_types::{AccountId, Amount, GrantId, Height, LeaseId, NodeId, OrderId, SigningKey, Timestamp, TxId, codec};
use std::io::BufWriter;
use std::sync::Arc;
use tokio::sync::{Semaphore, broadcast, mpsc};

/// Blocks that a slow event stream may lag behind before it is cut.
const EVENT_LAG: usize = 256;
/// Bytes of a piece of an export, and pieces that wait for a slow reader.
const EXPORT_PIECE: usize = 256 << 10;
const EXPORT_PIECES: usize = 4;
/// Most test credits that a newcomer's first transaction may take.
const NEWCOMER_CREDITS: Amount = Amount::credits(10_000);
/// Most that the funder pays as fee for a newcomer.
const NEWCOMER_FEE: Amount = Amount::credits(1);
/// Blocks that are read back for a transaction that this process does not remember: what a client whose answer was lost asks
/// for is seconds old.
const BLOCKS_LOOKED_AT: u64 = 512;
/// Look-ups that read blocks at once; more wait.
const LOOK_UPS: usize = 2;

/// Chain and ledger, as the gateway sees them.
pub(crate) struct NodeBackend {
    chain: Chain,
    clock: Arc<dyn Clock>,
    events: broadcast::Sender<Arc<BlockEvents>>,
    genesis: Genesis,
    funder: Option<SigningKey>,
    this: NodeId,
    recent: Arc<Recent>,
    look_ups: Semaphore,
    /// Whom the engine began with, and how the genesis's validators handed over to them.
    began: Vec<Validator>,
    lineage: Vec<Handover>,
}

/// Hands on what is written.
struct Pieces(mpsc::Sender<Result<Bytes, std::io::Error>>);

impl std::io::Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let gone = |_| std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        self.0.blocking_send(Ok(Bytes::copy_from_slice(bytes))).map_err(gone)?;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl NodeBackend {
    /// The backend of a zone's running chain. The validator's operator pays for newcomers in a development zone, if the
    /// genesis gave it anything.
    #[must_use]
    pub(crate) fn new(chain: Chain, zone: LocalZone, clock: Arc<dyn Clock>) -> Self {
        let (events, look_ups) = (broadcast::Sender::new(EVENT_LAG), Semaphore::new(LOOK_UPS));
        let (began, lineage, this) = (zone.chain_genesis().validators, zone.lineage().to_vec(), NodeId(zone.identity.public_key()));
        let LocalZone { genesis, operator, .. } = zone;
        let public = operator.public();
        let funder = Some(operator).filter(|_| genesis.accounts.iter().any(|a| a.key == public));
        Self { chain, clock, events, genesis, funder, this, recent: Arc::default(), look_ups, began, lineage }
    }

    /// Starts forwarding final blocks' events until shutdown.
    pub(crate) fn feed(&self, shutdown: ShutdownToken) -> TaskHandle {
        self.recent.begin(self.chain.status().height);
        let mut blocks = self.chain.subscribe();
        let (events, recent) = (self.events.clone(), Arc::clone(&self.recent));
        spawn(TaskKind::BlockFeed, async move {
            // A missed block is missed by all streams: they are cut by their own lag and read state afresh.
            while let Some(Some(next)) = shutdown.guard(blocks.next()).await {
                if let NextBlock::Block(block) = next {
                    recent.remember(&block);
                    // No receiver is no error: nobody is listening.
                    let _ = events.send(Arc::new(block_events(&block)));
                }
            }
        })
    }

    fn snapshot(&self) -> Result<Snapshot, Problem> {
        self.chain.state().map_err(|e| chain_problem(&e))
    }

    fn now(&self, snapshot: &Snapshot) -> Timestamp {
        Timestamp(self.clock.now_ms().max(snapshot.header().timestamp_ms))
    }

    fn result_of(&self, id: TxId) -> Option<TransactionView> {
        let result = self.recent.find(&id)?;
        Some(TransactionView { id, height: result.height, time: result.time, result: Some(result) })
    }

    /// Looks for a transaction in the last blocks on disk, newest first.
    async fn find_in_blocks(&self, id: TxId) -> Result<Option<TransactionView>, Problem> {
        // Closed only at the end of the process.
        let Ok(_one) = self.look_ups.acquire().await else { return Ok(None) };
        let height = self.snapshot()?.height();
        for height in (height.saturating_sub(BLOCKS_LOOKED_AT)..=height).rev() {
            let Some(block) = self.chain.block(height).await.map_err(|e| chain_problem(&e))? else { continue };
            let is_it = |tx: &Bytes| codec::decode::<Envelope>(tx, MAX_TX_BYTES).is_ok_and(|envelope| envelope.body.id() == id);
            if block.txs.iter().any(is_it) {
                let time = Timestamp(block.header.timestamp_ms);
                return Ok(Some(TransactionView { id, height: Height(height), time, result: None }));
            }
        }
        Ok(None)
    }

    /// How a set of validators that this run of the engine knows handed over to others; `None` if it does not know it.
    async fn handovers_since_start(&self, from: [u8; 32], most: usize) -> Result<Option<Vec<Handover>>, Problem> {
        let Some(found) = self.chain.handovers(from, most).await.map_err(|e| chain_problem(&e))? else { return Ok(None) };
        let handovers = found.into_iter().map(checkpoint::handover).collect::<Option<_>>();
        Ok(Some(handovers.ok_or_else(|| Problem::internal("a handover has another form than it should"))?))
    }

    /// The same of a set that sat before the state was carried here.
    async fn handovers_before_start(&self, from: &[u8; 32]) -> Result<Option<Vec<Handover>>, Problem> {
        let of = |handover: &Handover| Header::decode(&handover.header).is_some_and(|header| header.validators == *from);
        let Some(at) = self.lineage.iter().rposition(of) else { return Ok(None) };
        let mut found: Vec<Handover> = self.lineage.iter().skip(at).cloned().collect();
        if let Some(last) = found.last() {
            let since = self.handovers_since_start(*last.next.hash(), MAX_HANDOVERS).await?;
            found.extend(since.unwrap_or_default());
        }
        Ok(Some(found))
    }

    async fn head_view(&self, header: &Header, digest: [u8; 32], transactions: u32) -> HeadView {
        let certificate = self.chain.finality(header.height).await.ok().flatten().unwrap_or_default();
        HeadView {
            height: Height(header.height),
            time: Timestamp(header.timestamp_ms),
            digest: hex::encode(digest),
            parent: hex::encode(header.parent),
            state_root: hex::encode(header.state_root),
            randomness: hex::encode(header.randomness),
            proposer: hex::encode(header.proposer),
            transactions,
            certificate: hex::encode(certificate),
        }
    }
}

fn block_events(block: &FinalizedBlock) -> BlockEvents {
    let from_txs = block.txs.iter().flat_map(|tx| match &tx.outcome {
        TxOutcome::Applied { events, .. } => events.as_slice(),
        TxOutcome::NotIncludable { .. } => &[],
    });
    let all = block.begin_events.iter().chain(from_txs).chain(&block.end_events);
    BlockEvents { height: Height(block.header.height), time: Timestamp(block.header.timestamp_ms), events: decode_events(all) }
}

fn chain_problem(error: &ChainError) -> Problem {
    Problem::unavailable(error.to_string())
}

fn refused(code: u16, message: String) -> Problem {
    Problem { ledger_code: Some(code), ..Problem::new(422, "refused-by-ledger", message) }
}

#[async_trait]
impl Backend for NodeBackend {
    async fn submit(&self, tx: Bytes) -> Result<TxResult, Problem> {
        let chain = self.chain.clone();
        // Signatures are checked here: off the threads that serve requests.
        let submitted = spawn_blocking(TaskKind::Connection, move || chain.submit(tx)).join().await;
        let pending = match submitted {
            None => return Err(Problem::internal("the check of the transaction did not end")),
            Some(Ok(pending)) => pending,
            Some(Err(SubmitError::Rejected { code, message })) => return Err(refused(code, message)),
            Some(Err(e @ SubmitError::Refused(_))) => return Err(Problem::new(429, "too-many-waiting", e.to_string())),
            Some(Err(e @ SubmitError::Stopped)) => return Err(Problem::unavailable(e.to_string())),
        };
        let receipt = pending.finalized().await.map_err(|e| match e {
            Dropped::Rejected { code, message } => refused(code, message),
            Dropped::Expired | Dropped::Replaced => Problem::conflict(e.to_string()),
            Dropped::Stopped => Problem::unavailable(e.to_string()),
        })?;
        let (height, time) = (Height(receipt.height), Timestamp(receipt.timestamp_ms));
        match receipt.outcome {
            TxOutcome::Applied { id, ok, code, message, events } => {
                Ok(TxResult { id: TxId(id), height, time, ok, code, message, events: decode_events(&events) })
            }
            TxOutcome::NotIncludable { code, message, .. } => Err(refused(code, message)),
        }
    }

    async fn transaction(&self, id: TxId) -> Result<Option<TransactionView>, Problem> {
        if let Some(known) = self.result_of(id) {
            return Ok(Some(known));
        }
        let Some(found) = self.find_in_blocks(id).await? else { return Ok(None) };
        self.recent.reach(found.height).await;
        Ok(Some(self.result_of(id).unwrap_or(found)))
    }

    fn cosign_newcomer(&self, tx: Envelope) -> Result<Envelope, Problem> {
        let funder = self.funder.as_ref().ok_or_else(|| Problem::not_found("funder: this network gives no test credits"))?;
        let fits = |action: &Action| match action {
            Action::RegisterAccount { .. } => true,
            Action::TestCredits { to, amount } => *to == tx.body.account && *amount <= NEWCOMER_CREDITS,
            _ => false,
        };
        let body = &tx.body;
        let fine = body.fee_payer == Some(funder.account())
            && matches!(body.auth, Auth::Single)
            && body.max_fee.saturating_add(body.tip) <= NEWCOMER_FEE
            && !body.actions.is_empty()
            && body.actions.len() <= 2
            && body.actions.iter().all(fits);
        if !fine {
            return Err(Problem::forbidden(format!(
                "the funder signs only for opening an account and taking up to {NEWCOMER_CREDITS} test credits for it"
            )));
        }
        Ok(tx.and_sign(funder.account(), funder))
    }

    fn status(&self) -> Result<NetworkStatus, Problem> {
        let snapshot = self.snapshot()?;
        let status = self.chain.status();
        let zone = query::zone(&snapshot).ok_or_else(|| Problem::internal("the ledger has no zone record"))?;
        Ok(NetworkStatus {
            version: env!("CARGO_PKG_VERSION").into(),
            name: zone.name,
            zone: zone.id,
            rules_version: zone.rules_version,
            height: Height(snapshot.height()),
            time: Timestamp(snapshot.header().timestamp_ms),
            pending_transactions: status.waiting as u64,
            validators: zone.validators,
            mode: match query::validators::ordering(&snapshot) {
                Some(Ordering::TrustedSequencer) | None => "trusted sequencer",
                Some(Ordering::Permissioned) => "permissioned",
                Some(Ordering::ByStake) => "by stake",
            }
            .into(),
            paused: standing::pause(&snapshot),
            open_proposals: query::governance::proposal_counts(&snapshot).open,
            funder: self.funder.as_ref().filter(|_| zone.params.dev).map(SigningKey::account),
            params: zone.params,
            genesis_time: zone.genesis_at,
        })
    }

    fn account(&self, id: AccountId) -> Result<Option<AccountView>, Problem> {
        Ok(views::account(&self.snapshot()?, &id))
    }
    fn jobs(&self, account: AccountId) -> Result<Vec<JobView>, Problem> {
        Ok(views::jobs(&self.snapshot()?, &account))
    }
    fn grants(&self, account: AccountId) -> Result<Vec<GrantView>, Problem> {
        Ok(views::grants(&self.snapshot()?, &account))
    }
    fn grant(&self, id: GrantId) -> Result<Option<GrantView>, Problem> {
        Ok(views::grant(&self.snapshot()?, &id))
    }
    fn node(&self, id: NodeId) -> Result<Option<NodeView>, Problem> {
        Ok(views::node(&self.snapshot()?, &id))
    }
    fn nodes(&self, provider: AccountId, after: Option<NodeId>) -> Result<NodePage, Problem> {
        Ok(views::nodes(&self.snapshot()?, &provider, after.as_ref()))
    }
    fn node_leases(&self, node: NodeId) -> Result<Vec<LeaseView>, Problem> {
        Ok(views::node_leases(&self.snapshot()?, &node))
    }
    fn offers(&self) -> Result<Vec<OfferView>, Problem> {
        Ok(views::offers(&self.snapshot()?))
    }
    fn order(&self, id: OrderId) -> Result<Option<OrderView>, Problem> {
        Ok(views::order(&self.snapshot()?, &id))
    }
    fn lease(&self, id: LeaseId) -> Result<Option<LeaseView>, Problem> {
        Ok(views::lease(&self.snapshot()?, &id))
    }
    fn epoch(&self, epoch: u64) -> Result<Option<EpochView>, Problem> {
        Ok(views::epoch(&self.snapshot()?, epoch))
    }
    fn audit(&self, number: u64) -> Result<Option<AuditDetail>, Problem> {
        Ok(standing::audit(&self.snapshot()?, number))
    }
    fn proposals(&self) -> Result<Vec<ProposalView>, Problem> {
        Ok(votes::proposals(&self.snapshot()?))
    }
    fn explain(&self, terms: OrderTerms) -> Result<ExplainView, Problem> {
        let snapshot = self.snapshot()?;
        let now = self.now(&snapshot);
        Ok(views::explain(&snapshot, &terms, now))
    }

    async fn validators(&self) -> Result<ValidatorsView, Problem> {
        let peers = self.chain.peers().await.map_err(|e| chain_problem(&e))?;
        let status = self.chain.status();
        let this = ThisValidator {
            key: self.this,
            certifies: status.seated,
            certifiers: u32::try_from(status.validators).unwrap_or(u32::MAX),
            engine_term: status.term,
            peers: u32::try_from(peers).unwrap_or(u32::MAX),
        };
        seats::validators(&self.snapshot()?, this).ok_or_else(|| Problem::internal("the ledger has no zone record"))
    }

    fn entries(&self) -> u64 {
        self.chain.status().entries as u64
    }

    fn genesis(&self) -> Vec<u8> {
        pasture_types::codec::encode(&self.genesis)
    }

    async fn head(&self) -> Result<HeadView, Problem> {
        let snapshot = self.snapshot()?;
        let height = snapshot.height();
        let transactions = match self.chain.block(height).await.map_err(|e| chain_problem(&e))? {
            Some(block) => u32::try_from(block.txs.len()).unwrap_or(u32::MAX),
            None => 0,
        };
        Ok(self.head_view(snapshot.header(), snapshot.digest(), transactions).await)
    }

    async fn block(&self, height: Height) -> Result<Option<HeadView>, Problem> {
        let Some(block) = self.chain.block(height.0).await.map_err(|e| chain_problem(&e))? else { return Ok(None) };
        let transactions = u32::try_from(block.txs.len()).unwrap_or(u32::MAX);
        Ok(Some(self.head_view(&block.header, block.digest, transactions).await))
    }

    async fn state(&self, key: Vec<u8>) -> Result<StateValue, Problem> {
        let proved = self.chain.prove(&key).await.map_err(|e| chain_problem(&e))?;
        let height = Height(proved.header.height);
        let headers = proved.finality.headers.iter().map(|h| h.encode().try_into()).collect::<Result<_, _>>();
        let headers = headers.map_err(|_| Problem::internal("a header has another size than it should"))?;
        let proof = StateProof { headers, certificate: proved.finality.certificate, key, value: proved.value, store: proved.proof };
        Ok(StateValue {
            key: hex::encode(&proof.key),
            value: proof.value.as_ref().map(hex::encode),
            height,
            proof: Some(hex::encode(proof.encode())),
        })
    }

    async fn handovers(&self, from: [u8; 32]) -> Result<Option<HandoversView>, Problem> {
        let today = hex::encode(self.snapshot()?.header().next_validators);
        let found = match self.handovers_since_start(from, MAX_HANDOVERS).await? {
            Some(found) => found,
            None => match self.handovers_before_start(&from).await? {
                Some(found) => found,
                None => return Ok(None),
            },
        };
        let handovers = found.iter().take(MAX_HANDOVERS).map(|handover| hex::encode(handover.encode())).collect();
        Ok(Some(HandoversView { today, handovers }))
    }

    async fn export(&self) -> Result<ExportStream, Problem> {
        let snapshot = self.snapshot()?;
        if snapshot.header().is_base() {
            return Err(Problem::conflict("there is no block yet, so there is nothing that could be exported"));
        }
        let finality = self.chain.certified(snapshot.height()).await.map_err(|e| chain_problem(&e))?;
        let began = moving::set(snapshot.header().zone, &self.began).ok_or_else(|| Problem::internal("the first validators are none"))?;
        let since = self.chain.handovers(*began.hash(), usize::MAX).await.map_err(|e| chain_problem(&e))?.unwrap_or_default();
        let line = moving::Line::to(snapshot.header(), &self.lineage, &self.began, since);
        let line = line.ok_or_else(|| Problem::unavailable("a term of the engine ends at this moment: ask again"))?;
        let (send, pieces) = mpsc::channel(EXPORT_PIECES);
        let genesis = self.genesis.clone();
        // It ends with its reader: whoever reads no more makes the next write fail.
        let _writing = spawn_blocking(TaskKind::Connection, move || {
            let out = BufWriter::with_capacity(EXPORT_PIECE, Pieces(send.clone()));
            if let Err(e) = moving::write_state(out, &genesis, &snapshot, &finality, &line) {
                // Nobody left to tell is no error.
                let _ = send.blocking_send(Err(std::io::Error::other(e.to_string())));
            }
        });
        Ok(ExportStream { pieces })
    }

    async fn check(&self) -> Result<CheckView, Problem> {
        let snapshot = self.snapshot()?;
        let checked = spawn_blocking(TaskKind::Connection, move || {
            let height = Height(snapshot.height());
            match pasture_ledger::check(&snapshot) {
                Ok(report) => CheckView { height, checked: views::checked(&report), violations: vec![] },
                Err(violations) => CheckView { height, checked: vec![], violations: violations.iter().map(ToString::to_string).collect() },
            }
        });
        checked.join().await.ok_or_else(|| Problem::internal("the check did not end"))
    }

    fn events(&self) -> broadcast::Receiver<Arc<BlockEvents>> {
        self.events.subscribe()
    }
}
