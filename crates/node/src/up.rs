//! The provider role: this machine joins a network through a gateway and earns.
//!
//! Guarantees: nothing is offered before the container engine answered and the account is on the ledger; a shutdown ends
//! the provider in the way that was chosen, before this returns.

use crate::link::ApiLink;
use crate::{Failpoint, NodeError, engine};
use pasture_api::{ApiClient, newcomer};
use pasture_provider::{Options, Provider, ShutdownMode};
use pasture_rt::{Clock as _, ShutdownToken, SystemClock};
use pasture_runtime::{Capabilities, EgressFilter, Runtime};
use pasture_store::keys;
use pasture_types::market::{Egress, OfferTerms, Rates};
use pasture_types::{Amount, AssetId, Millis, NodeId, Resources, SigningKey, Timestamp};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Test credits that a new provider takes for its deposit, in a development zone.
const PROVIDER_TEST_CREDITS: Amount = Amount::credits(1_000);
/// Longest lease that is offered.
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
    /// The provider's name, for people.
    pub name: String,
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
    // Opens the account with test credits where there are any; elsewhere the provider says what it needs.
    let now = Timestamp(clock.now_ms());
    match newcomer::ensure_account(&client, &options.account_key, PROVIDER_TEST_CREDITS, now).await {
        Err(e) if e.problem().is_some_and(|p| p.code == "no-funder") => {}
        other => drop(other?),
    }
    let offer = offer(&options).await;
    let ready_with =
        UpReady { node: NodeId::default(), resources: offer.resources.clone(), rates: offer.rates.clone(), unheld: unheld(&capabilities) };
    let node_key = keys::load_or_create(&options.data.join("node.key"))?;
    let node = node_key.node_id();
    let mut provider = Options::new(options.data.join("provider"), node_key, options.account_key, options.name, offer);
    provider.failpoint = options.failpoint;
    let running = Provider::start(provider, Arc::new(ApiLink::new(client)), runtime, clock).await?;
    // Nobody waiting for it is no error.
    let _ = ready.send(UpReady { node, ..ready_with });
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
    if !capabilities.can_limit_build_pids {
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
        max_duration: MAX_DURATION,
        ..OfferTerms::default()
    }
}
