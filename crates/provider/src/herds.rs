//! The herds of this node's leases: which there are, where they lie, when they end.
//!
//! ```text
//!  leases/<id>/herd/spec       HerdSpec, replaced as a whole
//!                   journal.N  of a durable one
//! ```
//! Guarantees: a herd that was begun is taken up again at the next start, a durable one with its tasks, another one empty and under
//! another name; it runs only while its job does. When the job has ended, results can be read for [`AFTER_END`]. It decides nothing
//! about leases.

use crate::context::Context;
use crate::lease::Shared;
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use pasture_api::data::Phase;
use pasture_api::problem::Problem;
use pasture_herd::journal::{Directory, Place};
use pasture_herd::{Herd, HerdSpec, Options, Process, Signer, Yard};
use pasture_rt::TaskKind;
use pasture_runtime::{Attached, InstanceId, LogStream, RuntimeError};
use pasture_store::RecordFile;
use pasture_types::LeaseId;
use pasture_types::ids::derive;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncWriteExt as _, DuplexStream};

/// How long results can be read after the job has ended: they lie in memory.
const AFTER_END: Duration = Duration::from_secs(600);
/// Bytes of a worker's output that wait for us.
const PIPE_BYTES: usize = 64 << 10;

/// A lease's herd. A lock and not an owner task: held only while one is begun or ended, so that two requests do not begin two.
type Slot = Arc<tokio::sync::Mutex<Option<(HerdSpec, Herd)>>>;

/// The herds of this node. A lock and not an owner task, because the data plane asks on every request and nobody holds it across
/// an await.
#[derive(Default)]
pub(crate) struct Herds(Mutex<BTreeMap<LeaseId, Slot>>);

impl Herds {
    fn slot(&self, lease: &LeaseId) -> Slot {
        Arc::clone(self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(*lease).or_default())
    }
    fn forget(&self, lease: &LeaseId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(lease);
    }
}

fn folder(lease: &Shared) -> PathBuf {
    lease.dir.join("herd")
}

fn spec_file(lease: &Shared) -> RecordFile<HerdSpec> {
    RecordFile::new(folder(lease).join("spec"))
}

fn kept(error: &dyn std::fmt::Display) -> Problem {
    tracing::error!(%error, "a herd cannot be kept");
    Problem::internal("the node could not keep this herd")
}

fn none() -> Problem {
    Problem::new(404, "no-herd", "this job has no herd; begin one:  farm herd up JOB -- WORKER")
}

fn running(lease: &Shared) -> Result<(), Problem> {
    match lease.status().phase {
        Phase::Running => Ok(()),
        phase => Err(Problem::conflict(format!("the job does not run now: {phase:?}").to_lowercase())),
    }
}

/// Begins a herd, or finds it begun. Another one must be ended first.
pub(crate) async fn begin(ctx: &Arc<Context>, lease: &Arc<Shared>, spec: HerdSpec) -> Result<(), Problem> {
    running(lease)?;
    let slot = ctx.herds.slot(&lease.id());
    let mut slot = slot.lock().await;
    let known = match &*slot {
        Some((known, _)) => Some(known.clone()),
        None => spec_file(lease).load().map_err(|e| kept(&e))?,
    };
    match known {
        Some(known) if known != spec => {
            return Err(Problem::conflict("this job has another herd; end that first:  farm herd down JOB"));
        }
        Some(_) if slot.is_some() => return Ok(()),
        _ => {}
    }
    std::fs::create_dir_all(folder(lease)).map_err(|e| kept(&e))?;
    spec_file(lease).save(&spec).map_err(|e| kept(&e))?;
    open(ctx, lease, spec, &mut slot).await.map(drop)
}

/// A lease's herd; one that a former process left is opened.
pub(crate) async fn of(ctx: &Arc<Context>, lease: &Arc<Shared>) -> Result<Herd, Problem> {
    let slot = ctx.herds.slot(&lease.id());
    let mut slot = slot.lock().await;
    if let Some((_, herd)) = &*slot {
        return Ok(herd.clone());
    }
    let Some(spec) = spec_file(lease).load().map_err(|e| kept(&e))? else {
        drop(slot);
        ctx.herds.forget(&lease.id());
        return Err(none());
    };
    running(lease)?;
    open(ctx, lease, spec, &mut slot).await
}

/// Ends a herd and forgets what it held.
pub(crate) async fn end(ctx: &Arc<Context>, lease: &Arc<Shared>) -> Result<(), Problem> {
    let slot = ctx.herds.slot(&lease.id());
    let mut slot = slot.lock().await;
    let there = folder(lease).is_dir();
    if let Some((_, herd)) = slot.take() {
        herd.close().await;
    }
    if there {
        std::fs::remove_dir_all(folder(lease)).map_err(|e| kept(&e))?;
    }
    if there { Ok(()) } else { Err(none()) }
}

async fn open(ctx: &Arc<Context>, lease: &Arc<Shared>, spec: HerdSpec, slot: &mut Option<(HerdSpec, Herd)>) -> Result<Herd, Problem> {
    let id = lease.id();
    let fresh = derive("pasture 2026-11 herd name v1", &[&id.0, &ctx.node.0, &ctx.clock.now_ms().to_le_bytes()]);
    let mut name = [0; 16];
    name.copy_from_slice(fresh.first_chunk::<16>().unwrap_or(&[0; 16]));
    let options = Options {
        limits: spec.limits.clone(),
        workers: spec.workers,
        format: spec.format,
        place: spec.durable.then(|| Box::new(Directory::new(folder(lease))) as Box<dyn Place>),
        herd: name,
        signer: Signer::new(ctx.options.node_key.clone(), id.0),
        clock: Arc::clone(&ctx.clock),
    };
    let yard = LeaseYard { ctx: Arc::clone(ctx), lease: Arc::clone(lease), command: spec.command.clone() };
    let herd = Herd::open(options, Arc::new(yard)).await.map_err(|e| {
        tracing::error!(error = %crate::lease::chain(&e), lease = %id, "a herd cannot be opened");
        Problem::new(500, "herd-unreadable", e.to_string())
    })?;
    *slot = Some((spec, herd.clone()));
    let (ctx, lease, watched) = (Arc::clone(ctx), Arc::clone(lease), herd.clone());
    pasture_rt::spawn(TaskKind::Herd, async move { watch(&ctx, &lease, watched).await });
    Ok(herd)
}

/// Ends a herd with its job, or with this process.
async fn watch(ctx: &Context, lease: &Shared, herd: Herd) {
    let mut view = lease.view.subscribe();
    let over = async {
        let _ = view.wait_for(|v| matches!(v.status.phase, Phase::Stopping | Phase::Ended)).await;
        herd.dismiss().await;
        let _ = view.wait_for(|v| v.status.phase == Phase::Ended).await;
        tokio::time::sleep(AFTER_END).await;
        ctx.herds.forget(&lease.id());
    };
    let _: Option<()> = ctx.cancel.guard(over).await;
    herd.close().await;
}

/// Opens the herds that a former process left, once their jobs are seen to run.
pub(crate) fn take_up(ctx: &Arc<Context>) {
    for lease in ctx.leases.all().into_iter().filter(|l| folder(l).join("spec").is_file()) {
        let ctx = Arc::clone(ctx);
        pasture_rt::spawn(TaskKind::Herd, async move {
            let mut view = lease.view.subscribe();
            let seen = view.wait_for(|v| matches!(v.status.phase, Phase::Running | Phase::Stopping | Phase::Ended));
            if !matches!(ctx.cancel.guard(seen).await, Some(Ok(_))) {
                return;
            }
            if let Err(problem) = of(&ctx, &lease).await {
                tracing::warn!(%problem, lease = %lease.id(), "a herd is not taken up again");
            }
        });
    }
}

/// Workers as commands inside the lease's container.
struct LeaseYard {
    ctx: Arc<Context>,
    lease: Arc<Shared>,
    command: Vec<String>,
}

#[async_trait]
impl Yard for LeaseYard {
    async fn start(&self, slot: u32) -> Result<Process, String> {
        let status = self.lease.status();
        let (Phase::Running, Some(container)) = (status.phase, status.container) else {
            return Err(format!("the job does not run now: {:?}", status.phase).to_lowercase());
        };
        let env = BTreeMap::from([("FARM_WORKER".to_owned(), slot.to_string())]);
        let attached = self.ctx.runtime.attach(&InstanceId(container), self.command.clone(), env).await;
        let Attached { input, output, code, kill } = attached.map_err(|e| crate::lease::chain(&e))?;
        let (out, heard) = tokio::io::duplex(PIPE_BYTES);
        let (errors, last_words) = tokio::io::duplex(PIPE_BYTES);
        pasture_rt::spawn(TaskKind::Herd, part(output, out, errors));
        let ended = async move { code.await.map_or_else(String::new, |code| format!("exit code {code}")) };
        Ok(Process { input: Box::new(input), output: Box::new(heard), errors: Box::new(last_words), ended: Box::pin(ended), kill })
    }
}

/// Parts what a worker writes into its two streams, until it ends or nobody listens.
async fn part(
    mut output: futures::stream::BoxStream<'static, Result<(LogStream, Bytes), RuntimeError>>,
    mut out: DuplexStream,
    mut errors: DuplexStream,
) {
    while let Some(item) = output.next().await {
        let (stream, bytes) = match item {
            Ok(item) => item,
            // Why it did not begin is the last that is heard of it.
            Err(error) => {
                let _ = errors.write_all(crate::lease::chain(&error).as_bytes()).await;
                return;
            }
        };
        let written = match stream {
            LogStream::Stdout => out.write_all(&bytes).await,
            LogStream::Stderr => errors.write_all(&bytes).await,
        };
        if written.is_err() {
            return;
        }
    }
}
