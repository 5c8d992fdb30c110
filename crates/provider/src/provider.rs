//! The running provider: start, status, leaving.
//!
//! ```text
//!  start: lock the data directory -> read records -> sweep the engine of what no record knows -> take leases up again
//!         -> serve the data plane -> register and offer -> reconcile
//!  leave: Detach: everything stays as it is and is taken up at the next start
//!         Drain:  no new leases, offer withdrawn, jobs stopped, leases closed, images removed
//! ```

use crate::config::{Mandate, NODE_LANES, Options};
use crate::context::{Context, Counters, Facts, Leases};
use crate::error::ProviderError;
use crate::failpoint::Failpoints;
use crate::handle::ProviderHandle;
use crate::images::{Images, ImagesSummary};
use crate::lease::{self, LeaseRecord, Started, image_tag};
use crate::network::Network;
use crate::pause::{OfferState, Pause, Paused};
use crate::pool::Pool;
use crate::submit::{LedgerClock, Signer, Submitter};
use crate::tenants::Tenants;
use crate::{audits, prover, reconcile, register, server};
use pasture_api::data::{LeaseStatus, Phase};
use pasture_rt::{Clock, Shutdown, TaskHandle, TaskKind};
use pasture_runtime::{Owner, Runtime};
use pasture_store::{DataDir, RecordFile, StoreError};
use pasture_types::tx::Auth;
use pasture_types::{AccountId, LeaseId, NodeId, Resources, Timestamp};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How often kept leases are looked at for the end of their retention.
const COLLECT_EVERY: Duration = Duration::from_secs(600);
/// How long a detaching shutdown lets leases finish whose jobs have ended already.
const DETACH_DEADLINE: Duration = Duration::from_secs(5);
/// How long servers and tasks may take to end.
const TASK_DEADLINE: Duration = Duration::from_secs(5);

/// How to leave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ShutdownMode {
    /// Containers keep running; the next start takes them up again.
    Detach,
    /// Jobs are stopped with their grace, leases closed, containers removed.
    Drain,
}

/// What a provider is doing.
#[derive(Clone, Debug)]
pub struct ProviderStatus {
    /// The node.
    pub node: NodeId,
    /// Its provider's account.
    pub provider: AccountId,
    /// Where the data plane listens.
    pub data_address: SocketAddr,
    /// Whether ledger events are coming in now.
    pub connected: bool,
    /// No further leases are taken.
    pub draining: bool,
    /// Because its owner said so.
    pub paused: Option<Paused>,
    /// How far the network knows.
    pub offer: OfferState,
    /// What is offered.
    pub offered: Resources,
    /// What leases hold of it.
    pub held: Resources,
    /// Leases that are running or kept.
    pub leases: Vec<LeaseStatus>,
    /// How many of them are not over.
    pub unfinished: usize,
    /// The images that it pulled and built.
    pub images: ImagesSummary,
    /// Heartbeats recorded and refused since the start.
    pub heartbeats: (u64, u64),
}

/// A running provider.
pub struct Provider {
    ctx: Arc<Context>,
    address: SocketAddr,
    stop: Shutdown,
    tasks: Vec<TaskHandle<()>>,
    /// Held for its lock.
    _dir: DataDir,
}

impl Provider {
    /// Starts a provider: takes up what a former process left, serves, registers, offers.
    ///
    /// # Errors
    /// [`ProviderError`] says what has to be changed first. A network that is merely away is an error only at the very first
    /// start; later the provider goes on with what it has and connects when it can.
    pub async fn start(
        options: Options,
        network: Arc<dyn Network>,
        runtime: Arc<dyn Runtime>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ProviderError> {
        options.validate()?;
        let dir = DataDir::open(&options.data_dir)?;
        let stop = Shutdown::new();
        let (facts, reached) = facts(&options, &*network).await?;
        crate::gpus::allowed(options.gpus.as_ref(), &facts.params)?;
        let (prover, queue) = prover::channel();
        let (bursts, nonces) = audits::channel();
        let ctx = Arc::new(context(options, facts, network, runtime, clock, (prover, bursts), &dir, &stop)?);
        take_up(&ctx).await?;
        crate::herds::take_up(&ctx);
        let (address, server) = server::start(Arc::clone(&ctx)).await?;
        let mut this = Self { ctx, address, stop, tasks: vec![server], _dir: dir };
        let outcome = this.connect((queue, nonces), reached).await;
        if outcome.is_err() {
            this.stop.trigger();
        }
        outcome.map(|()| this)
    }

    async fn connect(&mut self, (queue, nonces): (prover::ProverQueue, audits::BurstQueue), reached: bool) -> Result<(), ProviderError> {
        let ctx = &self.ctx;
        // Before the offer stands: it may be drawn in that very block.
        self.tasks.push(pasture_rt::spawn(TaskKind::Audit, audits::run(Arc::clone(ctx), nonces, self.stop.token())));
        let mut registered = false;
        if reached {
            register::ensure(ctx, self.address).await?;
            registered = true;
        }
        let (prover_ctx, cancel) = (Arc::clone(ctx), self.stop.token());
        self.tasks.push(pasture_rt::spawn(TaskKind::Prover, prover::run(prover_ctx, queue, cancel)));
        self.tasks.push(pasture_rt::spawn(TaskKind::Reconciler, reconcile::run(Arc::clone(ctx), self.address, registered)));
        self.tasks.push(pasture_rt::spawn(TaskKind::Reconciler, collect(Arc::clone(ctx))));
        Ok(())
    }

    /// Where the data plane listens.
    #[must_use]
    pub const fn data_address(&self) -> SocketAddr {
        self.address
    }

    /// What it is doing now.
    #[must_use]
    pub fn status(&self) -> ProviderStatus {
        self.handle().status()
    }

    /// For its owner's wishes.
    #[must_use]
    pub fn handle(&self) -> ProviderHandle {
        ProviderHandle { ctx: Arc::clone(&self.ctx), address: self.address }
    }

    /// Takes no further leases and withdraws the offer; what runs goes on to its end.
    pub async fn drain(&self) {
        if !self.ctx.draining.swap(true, Ordering::Relaxed) {
            register::withdraw(&self.ctx).await;
        }
    }

    /// Returns once no lease is left to finish. Useful after [`Provider::drain`].
    pub async fn idle(&self) {
        self.handle().idle(|_| ()).await;
    }

    /// Leaves. [`ShutdownMode::Drain`] has a deadline ([`Options::drain_deadline`]); what is not done by then is taken up at
    /// the next start. Says whether everything was done.
    pub async fn shutdown(self, mode: ShutdownMode) -> bool {
        let done = match mode {
            ShutdownMode::Detach => Shutdown::within(DETACH_DEADLINE, self.finish_ended()).await.is_some(),
            ShutdownMode::Drain => {
                let work = async {
                    tokio::join!(self.drain(), reconcile::stop_all(&self.ctx));
                    for shared in self.ctx.leases.all() {
                        remove_image(&self.ctx, &image_tag(&shared.terms)).await;
                    }
                };
                Shutdown::within(self.ctx.options.drain_deadline, work).await.is_some()
            }
        };
        self.stop.trigger();
        let ended = async {
            for task in self.tasks {
                task.join().await;
            }
        };
        Shutdown::within(TASK_DEADLINE, ended).await.is_some() && done
    }
}

impl Provider {
    /// Lets leases whose jobs have ended finish: their containers should not wait for the next start.
    async fn finish_ended(&self) {
        let now = Timestamp(self.ctx.clock.now_ms());
        for shared in self.ctx.leases.all().iter().filter(|l| l.status_at(now).end.is_some()) {
            let _ = shared.view.subscribe().wait_for(|v| v.finished).await;
        }
    }
}

/// What the network is, from the network or from the last time; and whether it answered.
async fn facts(options: &Options, network: &dyn Network) -> Result<(Facts, bool), ProviderError> {
    let file = RecordFile::<Facts>::new(options.data_dir.join("network"));
    let known = file.load()?;
    let found = match (network.status().await, &known) {
        (Ok(status), _) => Facts::from(&status),
        (Err(error), Some(known)) if error.is_transient() => {
            tracing::warn!(%error, "the network is away; going on with what is known of it");
            return Ok((known.clone(), false));
        }
        (Err(error), _) => return Err(error.into()),
    };
    if let Some(known) = known.as_ref().filter(|k| k.zone != found.zone) {
        return Err(ProviderError::OtherZone { path: options.data_dir.clone(), known: known.zone, found: found.zone });
    }
    if known.as_ref() != Some(&found) {
        file.save(&found)?;
    }
    Ok((found, true))
}

#[allow(clippy::too_many_arguments)] // the parts of one provider come together here and nowhere else
fn context(
    options: Options,
    facts: Facts,
    network: Arc<dyn Network>,
    runtime: Arc<dyn Runtime>,
    clock: Arc<dyn Clock>,
    (prover, bursts): (prover::ProverHandle, audits::BurstHandle),
    dir: &DataDir,
    stop: &Shutdown,
) -> Result<Context, ProviderError> {
    let node = options.node_key.node_id();
    let account = options.mandate.account();
    let ledger_clock = LedgerClock::new(Arc::clone(&clock));
    let submitter = |auth, key: &pasture_types::SigningKey, first_lane, lanes| {
        let signer = Signer { zone: facts.zone, account, auth, key: key.clone(), max_fee: options.max_fee, first_lane, lanes };
        Submitter::new(Arc::clone(&network), ledger_clock.clone(), signer, stop.token())
    };
    let pool = Pool::open(dir.path(), &options.blobs, options.max_image_bytes, Arc::clone(&network), &options.node_key);
    let pool = pool.map_err(|source| ProviderError::Blobs { path: dir.path().join("blobs"), source })?.map(Arc::new);
    if let Some(pool) = &pool {
        runtime.fetch_images_from(Arc::clone(pool) as Arc<dyn pasture_runtime::ImageSource>);
    }
    Ok(Context {
        node,
        owner: Owner::parse(&node.to_string())?,
        submitter: submitter(Auth::Node(node), &options.node_key, 0, NODE_LANES),
        account_submitter: match &options.mandate {
            Mandate::Key(key) => submitter(Auth::Single, key, options.provider_lane, 1),
            Mandate::Enrolled { .. } => submitter(Auth::Node(node), &options.node_key, NODE_LANES, 1),
        },
        leases_dir: dir.sub("leases")?,
        pause: Pause::load(dir.path())?,
        tenants: Tenants::load(dir.path())?,
        images: Arc::new(Images::load(dir.path(), options.max_images_bytes)?),
        failpoints: Failpoints(options.failpoint.clone()),
        options,
        facts,
        network,
        runtime,
        channels: crate::channels::Channels::new(clock.now_ms()),
        published: tokio::sync::Notify::new(),
        clock,
        ledger_clock,
        prover,
        bursts,
        leases: Leases::default(),
        herds: crate::herds::Herds::default(),
        volumes: crate::volumes::Volumes::open(dir.path())?,
        account_keys: server::AccountKeys::default(),
        known_nodes: server::KnownNodes::default(),
        pool,
        blob_reads: Arc::new(tokio::sync::Semaphore::new(server::blobs::READS)),
        delegates: server::Delegates::default(),
        counters: Counters::default(),
        draining: AtomicBool::new(false),
        cancel: stop.token(),
    })
}

/// Reads the records, removes from the engine what none of them needs, and runs the leases on.
async fn take_up(ctx: &Arc<Context>) -> Result<(), ProviderError> {
    let dir = ctx.leases_dir.clone();
    let read = pasture_rt::spawn_blocking(TaskKind::Reconciler, move || read_records(&dir));
    let records = read.join().await.unwrap_or_else(|| Ok(vec![]))?;
    let mut keep = BTreeSet::new();
    // One that ended or was stopped before its container was noted needs none; everything else may have one.
    for r in records.iter().filter(|r| !r.removed && (r.container.is_some() || (r.end.is_none() && r.stop.is_none()))) {
        keep.extend(lease::instance_keys(r)?);
    }
    let swept = ctx.runtime.sweep(&ctx.owner, &keep).await?;
    if !swept.instances.is_empty() {
        tracing::warn!(instances = ?swept.instances, "removed containers of this node that no lease knows");
    }
    let volumes = crate::volumes::take_up(ctx, &records).await.map_err(|e| ProviderError::Volumes(Box::new(e)))?;
    let (count, owner) = (records.len(), Arc::clone(ctx));
    let run = pasture_rt::spawn_blocking(TaskKind::Reconciler, move || {
        records.into_iter().try_for_each(|r| lease::spawn(&owner, r, Started::Resumed).map(drop))
    });
    run.join().await.unwrap_or(Ok(()))?;
    drop(volumes);
    if count > 0 {
        tracing::info!(count, "leases taken up again");
    }
    Ok(())
}

fn read_records(dir: &Path) -> Result<Vec<LeaseRecord>, StoreError> {
    let io = |action: &'static str, path: &Path| {
        let path = path.to_path_buf();
        move |source| StoreError::Io { action, path, source }
    };
    let mut records = vec![];
    for entry in std::fs::read_dir(dir).map_err(io("read", dir))? {
        let path = entry.map_err(io("read", dir))?.path();
        if path.file_name().and_then(|n| n.to_str()).is_none_or(|n| n.parse::<LeaseId>().is_err()) {
            continue;
        }
        match RecordFile::<LeaseRecord>::new(path.join("state")).load()? {
            Some(record) => records.push(record),
            // A crash between making the directory and its record; nothing refers to it.
            None => std::fs::remove_dir_all(&path).map_err(io("remove", &path))?,
        }
    }
    Ok(records)
}

async fn remove_image(ctx: &Context, tag: &str) {
    ctx.images.forgotten(tag).await;
    if let Err(error) = ctx.runtime.remove_image(tag).await {
        tracing::debug!(%error, tag, "the image stays");
    }
}

/// Deletes what was kept long enough.
async fn collect(ctx: Arc<Context>) {
    let retention = u64::try_from(ctx.options.retention.as_millis()).unwrap_or(u64::MAX);
    let work = async {
        let mut timer = tokio::time::interval(COLLECT_EVERY);
        loop {
            timer.tick().await;
            crate::volumes::collect(&ctx).await;
            let now = ctx.clock.now_ms();
            for shared in ctx.leases.all().into_iter().filter(|l| l.is_finished()) {
                let status = shared.status();
                let ended = status.started.unwrap_or(shared.terms.matched).0.saturating_add(status.served_ms.0);
                if status.phase == Phase::Ended && now.saturating_sub(ended) > retention {
                    remove_image(&ctx, &image_tag(&shared.terms)).await;
                    if let Err(error) = ctx.tenants.note(&shared.dir) {
                        tracing::warn!(%error, lease = %shared.id(), "whose job it was could not be noted, so it is kept");
                        continue;
                    }
                    ctx.leases.remove(&shared.id());
                    if let Err(error) = std::fs::remove_dir_all(&shared.dir) {
                        tracing::warn!(%error, path = %shared.dir.display(), "a kept lease could not be deleted");
                    }
                }
            }
        }
    };
    let _: Option<()> = ctx.cancel.guard(work).await;
}
