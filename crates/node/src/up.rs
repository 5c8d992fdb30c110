//! The provider role: this machine joins a network through a gateway and earns.
//!
//! Guarantees: nothing is offered before the container engine answered and the account is on the ledger; a shutdown ends
//! the provider in the way that was chosen, before this returns.

use crate::believed::Believed;
use crate::control::{self, Answer, LeaveTerms};
use crate::engine::{self, Priority};
use crate::gates::{self, with_learned};
use crate::gpus::{self, GpuOffer, look_at_gpus};
use crate::leave::{Left, depart, remove};
use crate::link::{ApiLink, Gates};
use crate::public::{door_of, endpoint_of};
use crate::{Failpoint, NodeError};
use pasture_api::data::HeldGpu;
use pasture_api::{ApiClient, DepositView, newcomer};
use pasture_light::Checkpoint;
use pasture_net::{Doorway, Endpoint, Place, Ticket};
use pasture_provider::{
    BlobOptions, Gpus, Mandate, MemoryEngine, MissingDeposit, Options, Paused, ProductEngine, Provider, RegistryUrl, ShutdownMode,
    VolumeOptions, pause_stopped,
};
use pasture_rt::{Clock as _, Shutdown, ShutdownToken, SystemClock, TaskKind};
use pasture_runtime::{Capabilities, EgressFilter, Runtime};
use pasture_store::keys;
use pasture_types::market::{Egress, OfferTerms, Rates, Window};
use pasture_types::{Amount, AssetId, Millis, NodeId, Resources, Timestamp};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Test credits that a new provider takes for its deposit, in a development zone.
const PROVIDER_TEST_CREDITS: Amount = Amount::credits(1_000);
/// Longest job that is taken, and for how long a price is kept, unless said otherwise.
const MAX_DURATION: Millis = Millis(24 * 3_600_000);
/// The share of the free disk that images may take unless said otherwise: a quarter.
const IMAGE_SHARE: u64 = 4;
/// The most and the least that this comes to: a small disk still holds one usual image, and nobody needs all of a large one.
const IMAGE_BYTES: RangeInclusive<u64> = 4 << 30..=50 << 30;
/// Most disk that is offered unless said otherwise.
const MAX_DISK: u64 = 20 << 30;

/// The machine's key, in its directory.
const NODE_KEY: &str = "node.key";
/// Who serves a network that was joined, as far as it is known.
pub(crate) const LEARNED: &str = "network";
/// Whom it trusts, as far as it followed them.
const TRUSTED: &str = "trusted";
/// Whose fleet a machine belongs to, in its directory, where its account's key is elsewhere.
pub const ENROLLED: &str = "enrolled";
/// How long a start waits for a relay.
const ONLINE: Duration = Duration::from_secs(5);

/// What a provider needs to join.
#[derive(Clone)]
pub struct UpOptions {
    /// Its directory.
    pub data: PathBuf,
    /// Base URL of the gateway; with a ticket, what it is called here.
    pub api_url: String,
    /// What the network is reached with peer to peer; without, by `api_url` alone.
    pub ticket: Option<Ticket>,
    /// Further gateways that are told where the machine is, so that their validators can watch its capacity checks.
    pub announce_to: Vec<String>,
    /// Socket of the container engine; `None` looks in the usual places.
    pub engine_socket: Option<PathBuf>,
    /// What is offered; `None` takes half of CPU and memory.
    pub resources: Option<Resources>,
    /// Prices; `None` takes [`suggested_rates`].
    pub rates: Option<Rates>,
    /// The GPUs that it offers, if any.
    pub gpus: Option<GpuOffer>,
    /// What computes the products that capacity audits ask of them; without it the CPU does for simulated ones.
    pub product_engine: Option<Arc<dyn ProductEngine>>,
    /// Where the tables lie that capacity audits ask of its memory; without it in this machine's memory.
    pub memory_engine: Option<Arc<dyn MemoryEngine>>,
    /// What one of them costs an hour; `None` takes [`crate::SUGGESTED_GPU_RATE`].
    pub gpu_rate: Option<Amount>,
    /// Where the machine stands.
    pub region: String,
    /// When it takes jobs, and which.
    pub limits: OfferLimits,
    /// What is kept of volumes.
    pub volumes: VolumeOptions,
    /// Whom it trusts to say what the ledger has; `None` believes the gateway, as one in the same process.
    pub trusted: Option<Checkpoint>,
    /// The provider's name, for people.
    pub name: String,
    /// What it does about a deposit that is missing.
    pub missing_deposit: MissingDeposit,
    /// How much of its measured speed it declares, in percent.
    pub declared_percent: u8,
    /// For which account it is offered.
    pub mandate: Mandate,
    /// Most bytes of images that are kept; `None` takes the share of the disk that [`image_limit`] names.
    pub image_bytes: Option<u64>,
    /// What is kept of images as they come, for this machine and for others.
    pub blobs: BlobSettings,
    /// Whether jobs give way to the owner's own programs.
    pub priority: Priority,
    /// Whether its owner may have it leave; the machine of a local network ends with that.
    pub may_leave: bool,
    /// Whether a shutdown stops the jobs; otherwise they run on and are taken up again at the next start.
    pub stop_jobs: bool,
    /// Called at the provider's failpoints; for tests.
    pub failpoint: Option<Failpoint>,
}

/// A provider that can be matched.
#[derive(Clone, Debug)]
pub struct UpReady {
    /// The node.
    pub node: NodeId,
    /// What it offers.
    pub resources: Resources,
    /// At which prices.
    pub rates: Rates,
    /// Its GPUs.
    pub gpus: Vec<HeldGpu>,
    /// What this machine does not hold jobs to, in words; empty when all limits hold.
    pub unheld: Vec<String>,
    /// What stands behind it; `None` if the network did not say.
    pub deposit: Option<DepositView>,
    /// Its owner wants it to take no jobs.
    pub paused: Option<Paused>,
    /// Jobs give way to the owner's own programs.
    pub gives_way: bool,
    /// How many validators it asks to have signed what it does work for; `None`: it believes its gateway.
    pub validators: Option<u64>,
}

/// What a machine keeps of images as they come.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BlobSettings {
    /// Most bytes; `None`: half of what images may take, none: it leaves images to its engine.
    pub limit_bytes: Option<u64>,
    /// Whether other machines may have them from it.
    pub shared: bool,
    /// Registries that may have addresses which are not public.
    pub registries: Vec<RegistryUrl>,
}

impl Default for BlobSettings {
    fn default() -> Self {
        Self { limit_bytes: None, shared: true, registries: vec![] }
    }
}

/// When a machine takes jobs, and which.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OfferLimits {
    /// Shortest job.
    pub min_duration: Millis,
    /// Longest job with an end.
    pub max_duration: Millis,
    /// Most jobs at once; zero is no limit but the machine's.
    pub max_leases: u32,
    /// When it is available, ascending and disjoint; empty is always.
    pub windows: Vec<Window>,
    /// For how long it keeps a price: the bound of rentals and of jobs without an end; zero takes neither.
    pub price_lock: Millis,
    /// What else is said of it, sorted by name, each name once.
    pub attributes: Vec<(String, String)>,
}

impl Default for OfferLimits {
    fn default() -> Self {
        Self {
            min_duration: Millis(0),
            max_duration: MAX_DURATION,
            max_leases: 0,
            windows: vec![],
            price_lock: MAX_DURATION,
            attributes: vec![],
        }
    }
}

/// Prices to begin with, in credits per hour: 0.50 a core, 0.10 a GiB of memory, 0.002 a GiB of disk.
#[must_use]
pub const fn suggested_rates() -> Rates {
    Rates {
        cpu_core: Amount(500_000_000),
        memory_gib: Amount(100_000_000),
        disk_gib: Amount(2_000_000),
        gpus: Vec::new(),
        services: Vec::new(),
    }
}

/// How much disk images may take unless said otherwise: a quarter of what is free, at least 4 GiB and at most 50 GiB.
#[must_use]
pub fn image_limit(free_disk_bytes: u64) -> u64 {
    (free_disk_bytes / IMAGE_SHARE).clamp(*IMAGE_BYTES.start(), *IMAGE_BYTES.end())
}

/// Runs a provider on the machine's container engine until shutdown, or until its owner has it leave.
///
/// # Errors
/// Why it could not start, or why it ended.
pub async fn up(options: UpOptions, shutdown: ShutdownToken, ready: oneshot::Sender<UpReady>) -> Result<(), NodeError> {
    let runtime = engine::connect(options.engine_socket.as_deref(), &options.data.join("runtime"), options.priority).await?;
    up_with(options, runtime, shutdown, ready).await
}

/// Has a machine leave that does not run now: starts it without an offer, finishes its jobs, and removes it.
///
/// # Errors
/// As [`up`]; the machine then takes no jobs and is still there.
pub async fn leave(
    options: UpOptions,
    terms: LeaveTerms,
    tell: mpsc::Sender<Answer>,
    shutdown: ShutdownToken,
) -> Result<Option<Left>, NodeError> {
    let runtime = engine::connect(options.engine_socket.as_deref(), &options.data.join("runtime"), options.priority).await?;
    let now = Timestamp(SystemClock.now_ms());
    pause_stopped(&options.data.join("provider"), Some(Paused { since: now, end_by: None }))?;
    let way = Way::open(&options).await?;
    let client = way.client.clone();
    let data = options.data.clone();
    let (provider, ..) = start(options, None, runtime, &way).await?;
    let machine = provider.handle();
    match shutdown.guard(depart(&machine, &client, terms, &tell)).await {
        Some(Ok(left)) => Ok(Some(remove(provider, &data, left).await)),
        Some(Err(error)) => {
            provider.shutdown(ShutdownMode::Detach).await;
            Err(error)
        }
        None => {
            provider.shutdown(ShutdownMode::Detach).await;
            Ok(None)
        }
    }
}

/// Runs a provider on a given runtime until shutdown, or until its owner has it leave.
///
/// # Errors
/// As [`up`].
pub async fn up_with(
    mut options: UpOptions,
    runtime: Arc<dyn Runtime>,
    shutdown: ShutdownToken,
    ready: oneshot::Sender<UpReady>,
) -> Result<(), NodeError> {
    let capabilities = runtime.probe().await?;
    // The engine mounts folders of it by their full path.
    options.data = std::path::absolute(&options.data).map_err(|e| NodeError::Options(format!("{}: {e}", options.data.display())))?;
    let way = Way::open(&options).await?;
    let client = way.client.clone();
    let (data, stop_jobs, may_leave) = (options.data.clone(), options.stop_jobs, options.may_leave);
    let gpus = match &options.gpus {
        Some(offer) => Some(look_at_gpus(offer, &options.data).await?),
        None => None,
    };
    gpus::attachable(gpus.as_ref(), &capabilities)?;
    let devices = gpus.as_ref().map_or_else(Vec::new, |g| g.devices().to_vec());
    let (running, (resources, rates), believed) = start(options, gpus, runtime, &way).await?;
    let validators = believed.as_ref().map(|believed| believed.checked().validators);
    let machine = running.handle();
    let closing = Shutdown::new();
    let mut control = control::start(machine.clone(), client.base(), &data, believed, may_leave, closing.token())?;
    // For the screen alone: a network that goes away in this moment ends nothing.
    let deposit = client.account(&machine.account()).await.ok().and_then(|view| view.standing).map(|standing| *standing);
    let paused = machine.status().paused;
    // Nobody waiting for it is no error.
    let _ = ready.send(UpReady {
        node: machine.node(),
        resources,
        rates,
        gpus: devices,
        unheld: unheld(&capabilities),
        deposit,
        paused,
        gives_way: capabilities.gives_way,
        validators,
    });
    loop {
        let order = tokio::select! {
            () = shutdown.requested() => break,
            order = control.leaving() => order,
        };
        let answer = match shutdown.guard(depart(&machine, &client, order.terms, &order.tell)).await {
            Some(Ok(left)) => {
                closing.trigger();
                drop(control);
                let left = remove(running, &data, left).await;
                way.close().await;
                order.conclude(Answer::Left { left: Box::new(left) }).await;
                return Ok(());
            }
            Some(Err(error)) => error.to_string(),
            None => "the machine was stopped; it takes no jobs, and leaves when it is asked again".into(),
        };
        order.conclude(Answer::Failed { why: answer }).await;
    }
    closing.trigger();
    let mode = if stop_jobs { ShutdownMode::Drain } else { ShutdownMode::Detach };
    running.shutdown(mode).await;
    way.close().await;
    Ok(())
}

/// How the machine reaches its network, and is reached.
struct Way {
    client: ApiClient,
    endpoint: Option<Endpoint>,
    door: Option<Doorway>,
    /// Ends the endpoint, when nothing needs it any more.
    closing: Shutdown,
}

impl Way {
    async fn open(options: &UpOptions) -> Result<Self, NodeError> {
        let closing = Shutdown::new();
        let Some(ticket) = &options.ticket else {
            return Ok(Self { client: ApiClient::new(&options.api_url)?, endpoint: None, door: None, closing });
        };
        let key = keys::load_or_create(&options.data.join(NODE_KEY))?;
        let learned = options.data.join(LEARNED);
        let endpoint = endpoint_of(&with_learned(ticket, &learned), key, closing.token()).await?;
        // What it announces first shall hold its relay; where none answers it is still reached directly.
        if tokio::time::timeout(ONLINE, endpoint.online()).await.is_err() {
            tracing::warn!("no relay of the network answers: machines elsewhere may not reach this one");
        }
        let door = door_of(&endpoint, closing.token())?;
        let client = ApiClient::by(&options.api_url, Some(door.url()))?;
        // Other machines, which its jobs reach in private networks: a gateway says where they are, and who answers has to be the one.
        let api = client.clone();
        door.finding(move |node| {
            let api = api.clone();
            Box::pin(async move { Some(Place::parse(&api.place(&node).await.ok()?.address).ok()?.1) })
        });
        let (following, stop) = (gates::follow(client.clone(), endpoint.clone(), ticket.clone(), learned), closing.token());
        pasture_rt::spawn(TaskKind::Server, async move { stop.guard(following).await });
        Ok(Self { client, endpoint: Some(endpoint), door: Some(door), closing })
    }

    fn door(&self) -> Option<&str> {
        self.door.as_ref().map(Doorway::url)
    }

    async fn close(self) {
        self.closing.trigger();
        if let Some(endpoint) = self.endpoint {
            endpoint.close().await;
        }
    }
}

/// Starts the provider: what it offers, at which prices, and by whom its gateway is checked.
async fn start(
    options: UpOptions,
    gpus: Option<Gpus>,
    runtime: Arc<dyn Runtime>,
    way: &Way,
) -> Result<(Provider, (Resources, Rates), Option<Believed>), NodeError> {
    let (clock, client) = (Arc::new(SystemClock), &way.client);
    // Opens the account with test credits where there are any; elsewhere, or where none are wanted, it begins without.
    if let (MissingDeposit::Post, Mandate::Key(key)) = (options.missing_deposit, &options.mandate) {
        let now = Timestamp(clock.now_ms());
        match newcomer::ensure_account(client, key, PROVIDER_TEST_CREDITS, now).await {
            Err(e) if e.problem().is_some_and(|p| p.code == "no-funder") => {}
            other => drop(other?),
        }
    }
    let mut offer = offer(&options).await;
    if let Some(gpus) = &gpus {
        gpus::add(&mut offer, gpus, options.gpu_rate.unwrap_or(gpus::SUGGESTED_GPU_RATE))?;
    }
    let offered = (offer.resources.clone(), offer.rates.clone());
    let node_key = keys::load_or_create(&options.data.join(NODE_KEY))?;
    let image_bytes = match options.image_bytes {
        Some(bytes) => bytes,
        None => image_limit(pasture_provider::detect(&options.data).await.resources.disk_bytes),
    };
    let mut provider = Options::new(options.data.join("provider"), node_key, options.mandate, options.name, offer);
    provider.gpus = gpus;
    provider.product_engine = options.product_engine;
    provider.memory_engine = options.memory_engine;
    provider.failpoint = options.failpoint;
    provider.missing_deposit = options.missing_deposit;
    provider.declared_percent = options.declared_percent;
    provider.volumes = options.volumes;
    provider.max_images_bytes = image_bytes;
    provider.blobs = BlobOptions {
        limit_bytes: options.blobs.limit_bytes.unwrap_or(image_bytes / 2),
        shared: options.blobs.shared,
        registries: options.blobs.registries,
    };
    provider.endpoint = way.endpoint.clone();
    let also = options.announce_to.iter().map(|url| ApiClient::by(url, way.door())).collect::<Result<Vec<_>, _>>()?;
    let believed = options.trusted.map(|trusted| Believed::load(options.data.join(TRUSTED), trusted));
    let gates = way.endpoint.clone().zip(way.door()).map(|(endpoint, door)| Gates::new(endpoint, door.to_owned()));
    let running = Provider::start(provider, Arc::new(ApiLink::new(client.clone(), also, gates, believed.clone())), runtime, clock).await?;
    Ok((running, offered, believed))
}

/// What is offered of this machine unless its owner says otherwise: half of CPU and memory, and at most 20 GiB of disk.
/// `disk` lies on the disk that counts.
pub async fn half_of(disk: &Path) -> Resources {
    let d = pasture_provider::detect(disk).await;
    Resources {
        cpu_millis: d.resources.cpu_millis / 2,
        memory_bytes: d.resources.memory_bytes / 2,
        disk_bytes: (d.resources.disk_bytes / 2).min(MAX_DISK),
        ..Resources::default()
    }
}

/// What a machine does not hold jobs to, in words; empty when all limits hold.
#[must_use]
pub fn unheld(capabilities: &Capabilities) -> Vec<String> {
    let mut out = vec![];
    if let EgressFilter::NotEnforced(reason) = &capabilities.egress_filter {
        out.push(format!("jobs with a network can reach whatever this machine can: {reason}"));
    }
    if !capabilities.can_limit_disk {
        out.push("what a job leaves in its output folder has no size limit".into());
    }
    if !capabilities.can_limit_root {
        out.push("what a job writes outside its output folder has no size limit".into());
    }
    if !capabilities.can_build {
        out.push(format!("{} builds no images here: jobs with a Dockerfile fail, without a charge", capabilities.engine));
    } else if !capabilities.can_limit_build_pids {
        out.push("a build step has no limit on its processes".into());
    }
    out
}

async fn offer(options: &UpOptions) -> OfferTerms {
    let resources = match &options.resources {
        Some(resources) => resources.clone(),
        None => half_of(&options.data).await,
    };
    OfferTerms {
        resources,
        rates: options.rates.clone().unwrap_or_else(suggested_rates),
        asset: AssetId::CREDIT,
        region: options.region.clone(),
        egress: Egress::Open,
        max_duration: options.limits.max_duration,
        attributes: options.limits.attributes.clone(),
        min_duration: options.limits.min_duration,
        max_leases: options.limits.max_leases,
        windows: options.limits.windows.clone(),
        valid_until: None,
        price_lock: options.limits.price_lock,
    }
}
