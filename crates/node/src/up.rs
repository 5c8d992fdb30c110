//! The provider role: this machine joins a network through a gateway and earns.
//!
//! Guarantees: nothing is offered before the container engine answered and the account is on the ledger; a shutdown ends
//! the provider in the way that was chosen, before this returns.

use crate::link::ApiLink;
use crate::{Failpoint, NodeError, engine};
use pasture_api::{ApiClient, DepositView, newcomer};
use pasture_provider::{MissingDeposit, Options, Provider, ShutdownMode};
use pasture_rt::{Clock as _, ShutdownToken, SystemClock};
use pasture_runtime::{Capabilities, EgressFilter, Runtime};
use pasture_store::keys;
use pasture_types::market::{Egress, OfferTerms, Rates, Window};
use pasture_types::{Amount, AssetId, Millis, NodeId, Resources, SigningKey, Timestamp};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Test credits that a new provider takes for its deposit, in a development zone.
const PROVIDER_TEST_CREDITS: Amount = Amount::credits(1_000);
/// Longest job that is taken, and for how long a price is kept, unless said otherwise.
const MAX_DURATION: Millis = Millis(24 * 3_600_000);
/// Most disk that is offered unless said otherwise.
const MAX_DISK: u64 = 20 << 30;

/// What a provider needs to join.
#[derive(Clone)]
pub struct UpOptions {
    /// Its directory.
    pub data: PathBuf,
    /// Base URL of the gateway.
    pub api_url: String,
    /// Socket of the container engine; `None` looks in the usual places.
    pub engine_socket: Option<PathBuf>,
    /// What is offered; `None` takes half of CPU and memory.
    pub resources: Option<Resources>,
    /// Prices; `None` takes [`suggested_rates`].
    pub rates: Option<Rates>,
    /// Where the machine stands.
    pub region: String,
    /// When it takes jobs, and which.
    pub limits: OfferLimits,
    /// The provider's name, for people.
    pub name: String,
    /// What it does about a deposit that is missing.
    pub missing_deposit: MissingDeposit,
    /// A key of the account that earns.
    pub account_key: SigningKey,
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
    /// What this machine does not hold jobs to, in words; empty when all limits hold.
    pub unheld: Vec<String>,
    /// What stands behind it; `None` if the network did not say.
    pub deposit: Option<DepositView>,
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

/// Runs a provider on the machine's container engine until shutdown.
///
/// # Errors
/// Why it could not start, or why it ended.
pub async fn up(options: UpOptions, shutdown: ShutdownToken, ready: oneshot::Sender<UpReady>) -> Result<(), NodeError> {
    let runtime = engine(options.engine_socket.as_deref(), &options.data.join("runtime")).await?;
    up_with(options, runtime, shutdown, ready).await
}

/// Runs a provider on a given runtime until shutdown.
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
    let clock = Arc::new(SystemClock);
    let client = ApiClient::new(&options.api_url)?;
    // Opens the account with test credits where there are any; elsewhere, or where none are wanted, it begins without.
    if options.missing_deposit == MissingDeposit::Post {
        let now = Timestamp(clock.now_ms());
        match newcomer::ensure_account(&client, &options.account_key, PROVIDER_TEST_CREDITS, now).await {
            Err(e) if e.problem().is_some_and(|p| p.code == "no-funder") => {}
            other => drop(other?),
        }
    }
    let offer = offer(&options).await;
    let (resources, rates, account) = (offer.resources.clone(), offer.rates.clone(), options.account_key.account());
    let node_key = keys::load_or_create(&options.data.join("node.key"))?;
    let node = node_key.node_id();
    let mut provider = Options::new(options.data.join("provider"), node_key, options.account_key, options.name, offer);
    provider.failpoint = options.failpoint;
    provider.missing_deposit = options.missing_deposit;
    let running = Provider::start(provider, Arc::new(ApiLink::new(client.clone())), runtime, clock).await?;
    // For the screen alone: a network that goes away in this moment ends nothing.
    let deposit = client.account(&account).await.ok().and_then(|view| view.standing).map(|standing| *standing);
    // Nobody waiting for it is no error.
    let _ = ready.send(UpReady { node, resources, rates, unheld: unheld(&capabilities), deposit });
    shutdown.requested().await;
    let mode = if options.stop_jobs { ShutdownMode::Drain } else { ShutdownMode::Detach };
    running.shutdown(mode).await;
    Ok(())
}

fn unheld(capabilities: &Capabilities) -> Vec<String> {
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
        None => {
            let d = pasture_provider::detect(&options.data).await;
            Resources {
                cpu_millis: d.resources.cpu_millis / 2,
                memory_bytes: d.resources.memory_bytes / 2,
                disk_bytes: (d.resources.disk_bytes / 2).min(MAX_DISK),
                ..Resources::default()
            }
        }
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
