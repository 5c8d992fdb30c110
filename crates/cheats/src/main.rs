//! `farm-cheat`: a provider that kills its tenants' containers and goes on proving capacity and claiming service.
//!
//! It is the honest provider around a dishonest runtime ([`lying::LyingRuntime`]), a separate implementation, so that no
//! failure injection lives in the product. Or, with `--declare-cores`, it serves its tenants and declares more than it has
//! ([`boastful`]); or, with `--gpus`, it offers simulated GPUs that do not compute what they are asked ([`products`]); or,
//! with `--memory`, it lacks the memory that it declares ([`memory`]). For tests and the demo's third act; never shipped.

mod boastful;
mod lying;
mod memory;
mod products;

use clap::Parser;
use lying::LyingRuntime;
use pasture_runtime::Runtime;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// A dishonest provider, for tests and demonstrations.
#[derive(Parser)]
struct Args {
    /// Data directory of this node.
    #[arg(long)]
    data: PathBuf,
    /// Gateway of the network to join.
    #[arg(long)]
    api_url: String,
    /// Socket of the container engine.
    #[arg(long)]
    engine: Option<PathBuf>,
    /// Kill each container this many milliseconds after its start, and say nothing.
    #[arg(long, default_value_t = 6_000)]
    kill_after_ms: u64,
    /// Declare so many cores, and kill nothing.
    #[arg(long)]
    declare_cores: Option<u32>,
    /// Offer a simulated GPU that cheats in this way, and kill nothing.
    #[arg(long, conflicts_with = "declare_cores")]
    gpus: Option<products::Way>,
    /// Lack memory, hide it in this way, and kill nothing.
    #[arg(long, conflicts_with_all = ["declare_cores", "gpus"])]
    memory: Option<memory::Way>,
    /// Region to claim.
    #[arg(long, default_value = "local-cheat")]
    region: String,
}

/// What it offers for it.
fn cheating_gpu() -> pasture_node::SimulatedGpu {
    const GIB: u64 = 1 << 30;
    pasture_node::SimulatedGpu { model: "H100".into(), count: 1, vram_bytes: 80 * GIB, shows_bytes: 80 * GIB }
}

fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let args = Args::parse();
    tokio::runtime::Runtime::new()?.block_on(run(args))
}

async fn run(args: Args) -> anyhow::Result<()> {
    let shutdown = pasture_rt::Shutdown::new();
    let honest = pasture_node::engine(args.engine.as_deref(), &args.data.join("runtime")).await?;
    let account_key = pasture_store::keys::load_or_create(&args.data.join("account.key"))?;
    let runtime: Arc<dyn Runtime> = match args.declare_cores {
        None if args.gpus.is_some() || args.memory.is_some() => honest,
        Some(cores) => {
            boastful::register(&args.api_url, &args.data, &account_key, cores).await?;
            honest
        }
        None => Arc::new(LyingRuntime::new(honest, Duration::from_millis(args.kill_after_ms))),
    };
    let options = pasture_node::UpOptions {
        data: args.data,
        api_url: args.api_url,
        ticket: None,
        announce_to: vec![],
        engine_socket: args.engine,
        resources: None,
        rates: None,
        gpus: args.gpus.map(|_| pasture_node::GpuOffer::Simulated(vec![cheating_gpu()])),
        product_engine: args.gpus.map(|way| Arc::new(products::CheatingGpus(way)) as Arc<dyn pasture_node::ProductEngine>),
        memory_engine: args.memory.map(|way| Arc::new(memory::Lacking(way)) as Arc<dyn pasture_node::MemoryEngine>),
        gpu_rate: None,
        region: args.region,
        limits: pasture_node::OfferLimits::default(),
        volumes: pasture_node::VolumeOptions::default(),
        trusted: None,
        name: "cheat".into(),
        missing_deposit: pasture_node::MissingDeposit::Post,
        // Where its GPUs or its memory are the lie, its processor is honest, beside whoever else works here.
        declared_percent: if args.gpus.is_some() || args.memory.is_some() { 10 } else { 100 },
        mandate: pasture_node::Mandate::Key(account_key),
        image_bytes: None,
        blobs: pasture_node::BlobSettings::default(),
        priority: pasture_node::Priority::Usual,
        may_leave: false,
        stop_jobs: true,
        failpoint: None,
    };
    let (ready, is_ready) = tokio::sync::oneshot::channel();
    let up = pasture_node::up_with(options, runtime, shutdown.token(), ready);
    tokio::pin!(up);
    tokio::select! {
        ended = &mut up => return Ok(ended?),
        ready = is_ready => {
            let ready = ready?;
            eprintln!("cheating provider {} is up", ready.node);
        }
    }
    let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        ended = &mut up => return Ok(ended?),
        _ = tokio::signal::ctrl_c() => {}
        _ = term.recv() => {}
    }
    shutdown.trigger();
    Ok(up.await?)
}
