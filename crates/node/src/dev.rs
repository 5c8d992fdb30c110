//! `farm dev`: a whole network on one machine: in one process, or with several validators in one for each of them.
//!
//! Guarantees: validators and gateway are up before the provider starts, and outlive it at shutdown, so that its last
//! transactions are final. Without a data directory everything is gone afterwards.

use crate::engine::Priority;
use crate::gpus::GpuOffer;
use crate::local::{self, Fleet, LocalProvider, LocalValidator, MAX_LOCAL_VALIDATORS, Machines, Others};
use crate::up::{BlobSettings, OfferLimits, UpOptions, UpReady, half_of, up};
use crate::validator::{Validator, ValidatorOptions};
use crate::{Failpoint, NodeError, PublicOptions};
use pasture_gateway::IngressOptions;
use pasture_light::ValidatorSet;
use pasture_net::Ticket;
use pasture_provider::{Mandate, MissingDeposit, ProductEngine, VolumeOptions};
use pasture_rt::{Shutdown, ShutdownToken, SystemClock};
use pasture_store::{DataDir, keys};
use pasture_types::audit::GpuRate;
use pasture_types::{Millis, Resources, ZoneId};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::oneshot;

/// For how long the machine of a local network keeps a price.
const DEV_PRICE_LOCK: Millis = Millis(366 * 24 * 3_600_000);

/// What the machine of an audited local network declares of its speed, in percent: it shares the computer with the validators, and with
/// whoever works at it.
const DEV_DECLARED_PERCENT: u8 = 10;
/// Multiply-adds a second that an audited local network asks of each simulated GPU: the least that can be asked.
const SIMULATED_MACS_PER_S: u64 = 100_000_000;

/// A local network.
#[derive(Clone)]
pub struct DevOptions {
    /// Its directory; one process at a time.
    pub data: PathBuf,
    /// Where the gateway listens.
    pub listen: SocketAddr,
    /// How machines elsewhere reach it peer to peer, if they shall.
    pub public: Option<PublicOptions>,
    /// Where everybody is let in to what jobs publish.
    pub ingress: Option<IngressOptions>,
    /// Socket of the container engine; `None` looks in the usual places.
    pub engine_socket: Option<PathBuf>,
    /// How many validators it has.
    pub validators: usize,
    /// Whether its machines are audited.
    pub audits: bool,
    /// The program that runs the others, as `PROGRAM validator run` and `PROGRAM up`.
    pub program: PathBuf,
    /// How many providers share this machine; each but the first is a process of its own.
    pub providers: usize,
    /// What they offer together; `None` takes half of the machine.
    pub resources: Option<Resources>,
    /// The GPUs that it offers, if any.
    pub gpus: Option<GpuOffer>,
    /// What computes the products that audits ask of them; without it the CPU does for simulated ones.
    pub product_engine: Option<Arc<dyn ProductEngine>>,
    /// Its region.
    pub region: String,
    /// What its machine keeps of volumes.
    pub volumes: VolumeOptions,
    /// Most bytes of images that it keeps; `None` takes a share of the disk.
    pub image_bytes: Option<u64>,
    /// What is kept of images as they come.
    pub blobs: BlobSettings,
    /// Whether jobs are stopped at shutdown (an ephemeral network must; one with a directory takes them up again).
    pub stop_jobs: bool,
    /// Called at failpoints of the ledger and the provider; for tests.
    pub failpoint: Option<Failpoint>,
}

/// A local network that can be used.
#[derive(Clone, Debug)]
pub struct DevReady {
    /// Base URL of the API.
    pub api_url: String,
    /// The zone.
    pub zone: ZoneId,
    /// What a machine elsewhere needs to join it, if it lets others in.
    pub ticket: Option<Ticket>,
    /// Its validators, for clients that check answers.
    pub trusted: ValidatorSet,
    /// Those that run in processes of their own.
    pub others: Vec<LocalValidator>,
    /// The provider, if there is one.
    pub provider: Option<UpReady>,
    /// Those that run in processes of their own.
    pub providers: Vec<LocalProvider>,
}

/// Runs a local network until shutdown.
///
/// # Errors
/// Why it could not start, or why it ended.
pub async fn dev(options: DevOptions, shutdown: ShutdownToken, ready: oneshot::Sender<DevReady>) -> Result<(), NodeError> {
    let dir = DataDir::open(&options.data)?;
    let rates = simulated_rates(options.gpus.as_ref());
    local::prepare(dir.path(), options.validators, options.audits.then_some(&rates[..]), &SystemClock)?;
    let others = match options.validators {
        0 | 1 => Others::none(),
        count => Others::start(&options.program, dir.path(), count).await?,
    };
    let own = ValidatorOptions {
        failpoint: options.failpoint.clone(),
        public: options.public.clone(),
        ingress: options.ingress.clone(),
        ..ValidatorOptions::new(options.listen)
    };
    let validator = Validator::start(dir.path(), own).await?;
    let outcome = tokio::select! {
        ended = with_provider(&options, &validator, others.validators.clone(), shutdown, ready) => ended,
        error = validator.failed() => Err(error),
    };
    let stopped = validator.stop().await;
    others.stop().await;
    outcome.and(stopped)
}

/// What a local network asks of simulated GPUs, which the processor stands in for: little.
fn simulated_rates(offer: Option<&GpuOffer>) -> Vec<GpuRate> {
    let Some(GpuOffer::Simulated(kinds)) = offer else { return vec![] };
    kinds.iter().map(|kind| GpuRate { model: kind.model.clone(), macs_per_s: SIMULATED_MACS_PER_S }).collect()
}

/// Runs the provider role, if there is one, and waits for shutdown.
async fn with_provider(
    options: &DevOptions,
    validator: &Validator,
    others: Vec<LocalValidator>,
    shutdown: ShutdownToken,
    ready: oneshot::Sender<DevReady>,
) -> Result<(), NodeError> {
    let (api_url, trusted) = (validator.api_url(), validator.trusted().clone());
    let network =
        DevReady { api_url, zone: validator.zone(), ticket: validator.ticket(), trusted, others, provider: None, providers: vec![] };
    if options.providers == 0 {
        // Nobody waiting for it is no error.
        let _ = ready.send(network);
        shutdown.requested().await;
        return Ok(());
    }
    if options.providers > MAX_LOCAL_VALIDATORS {
        return Err(NodeError::Options(format!("a local network has at most {MAX_LOCAL_VALIDATORS} providers")));
    }
    let resources = shares(options).await;
    let announce_to: Vec<String> = network.others.iter().map(|other| other.api_url.clone()).collect();
    let provider = own_machine(options, &network.api_url, &announce_to, resources.clone())?;
    let stop = Shutdown::new();
    let (is_up, up_ready) = oneshot::channel();
    let running = up(provider, stop.token(), is_up);
    tokio::pin!(running);
    let provider = tokio::select! {
        ended = &mut running => return ended,
        ready = up_ready => ready.ok(),
        () = shutdown.requested() => None,
    };
    let machines = match (&resources, options.providers) {
        (Some(resources), count @ 2..) => {
            let fleet = Fleet {
                program: &options.program,
                dir: &options.data,
                api_url: &network.api_url,
                announce_to: &announce_to,
                declared_percent: if options.audits { DEV_DECLARED_PERCENT } else { 100 },
                engine: options.engine_socket.as_deref(),
                region: &options.region,
                resources,
                stop_jobs: options.stop_jobs,
            };
            Machines::start(&fleet, count).await?
        }
        _ => Machines::none(),
    };
    let _ = ready.send(DevReady { provider, providers: machines.providers.clone(), ..network });
    tokio::select! {
        ended = &mut running => return ended,
        () = shutdown.requested() => {}
    }
    stop.trigger();
    let (ended, ()) = tokio::join!(running, machines.stop());
    ended
}

/// The machine that this process offers.
fn own_machine(options: &DevOptions, api_url: &str, announce_to: &[String], resources: Option<Resources>) -> Result<UpOptions, NodeError> {
    let data = options.data.join("provider");
    Ok(UpOptions {
        mandate: Mandate::Key(keys::load_or_create(&data.join("account.key"))?),
        data,
        api_url: api_url.into(),
        ticket: None,
        announce_to: announce_to.to_vec(),
        engine_socket: options.engine_socket.clone(),
        resources,
        rates: None,
        gpus: options.gpus.clone(),
        product_engine: options.product_engine.clone(),
        memory_engine: None,
        gpu_rate: None,
        region: options.region.clone(),
        // A playground: rentals by the month can be tried out as well.
        limits: OfferLimits { price_lock: DEV_PRICE_LOCK, ..OfferLimits::default() },
        volumes: options.volumes,
        // Its gateway is this process.
        trusted: None,
        name: "this machine".into(),
        missing_deposit: MissingDeposit::Post,
        declared_percent: if options.audits { DEV_DECLARED_PERCENT } else { 100 },
        image_bytes: options.image_bytes,
        blobs: options.blobs.clone(),
        priority: Priority::Usual,
        may_leave: false,
        stop_jobs: options.stop_jobs,
        failpoint: options.failpoint.clone(),
    })
}

/// What each provider offers: an equal part of what they offer together.
async fn shares(options: &DevOptions) -> Option<Resources> {
    let count = u32::try_from(options.providers).unwrap_or(u32::MAX);
    if count < 2 {
        return options.resources.clone();
    }
    let all = match &options.resources {
        Some(all) => all.clone(),
        None => half_of(&options.data).await,
    };
    Some(Resources {
        cpu_millis: all.cpu_millis / count,
        memory_bytes: all.memory_bytes / u64::from(count),
        disk_bytes: all.disk_bytes / u64::from(count),
        ..all
    })
}
