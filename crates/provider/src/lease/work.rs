//! The long calls of one lease: building, pulling, starting, waiting, following the log, copying the output, removing.
//!
//! Guarantees: each function ends by handing one outcome to the lease's mailbox; a call that failed for the engine's own
//! reasons is tried again, with a limit or until it no longer matters. It decides nothing about the lease.

use super::event::{Event, LogState};
use super::log::{LogPlace, LogReader, LogSeen, LogWriter, Piece};
use super::manifest;
use super::record::{LeaseRecord, Terms};
use super::shared::Shared;
use crate::context::Context;
use crate::detect;
use crate::gpus::{self, check::Verdict};
use crate::images::Origin;
use crate::secrets;
use crate::volumes;
use futures::StreamExt as _;
use pasture_api::data::{OUTPUT_DIR, OutputInfo};
use pasture_api::frames;
use pasture_rt::{TaskHandle, TaskKind};
use pasture_runtime::{
    BUILT_IMAGES, BuildError, BuildEvent, BuildLimits, BuildRequest, Exit, Image, InstanceId, InstanceKey, Limits, LogChunk, LogStream,
    Mount, Network, Observed, PullEvent, RuntimeError, Step, Workload,
};
use pasture_store::sealed::{Binding, Content, seal_all};
use pasture_store::{StoreError, hash_file};
use pasture_types::lease::EndReason;
use pasture_types::market::Egress;
use pasture_types::resources::display_bytes;
use pasture_types::spec::{Manifest, Source};
use pasture_types::{Millis, Timestamp};
use std::collections::BTreeMap;
use std::io::Seek as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// What is in it: the archive then has no folder of its own around the files.
const OUTPUT_CONTENT: &str = "/farm/out/.";
/// Disk that a job gets which asked for less: none at all would be no limit at all for the engine.
const LEAST_DISK_BYTES: u64 = 4 << 20;
/// How much larger than the job's disk the archive of its output may be.
const ARCHIVE_FACTOR: u64 = 2;
/// How often a call that failed for the engine's reasons is tried before the lease ends over it.
const ENGINE_ATTEMPTS: u32 = 5;
/// Pause between such attempts.
const ENGINE_PAUSE: Duration = Duration::from_millis(500);
/// How often in a row the engine's log may break off before what is missing is given up.
const LOG_ATTEMPTS: u32 = 20;
/// Least time between two flushes of a log: bounds the fsyncs of a chatty job.
const LOG_FLUSH_GAP: Duration = Duration::from_millis(25);
/// Most bytes that one flush of a log takes together; what comes while that is written waits here, the rest in the engine.
const LOG_FLUSH_BYTES: usize = 4 << 20;
/// What an entry takes here besides its bytes: a job that writes single letters shall not fill the memory.
const LOG_ENTRY_COST: usize = 256;
/// Most entries of a log that are taken at once when they are there: with the engine's longest, 2 MiB.
const LOG_READY: usize = 128;
/// Longest line of build output that is sent on as one.
const MAX_OUTPUT_LINE: usize = 4096;
/// Most base images of one build that are noted: a Dockerfile has few stages.
const MAX_BASES: usize = 64;
/// How long the account is looked up for its build allowance.
const ALLOWANCE_DEADLINE: Duration = Duration::from_secs(2);

/// The engine's key of a lease's instance: of the first one, or of one that follows it.
fn instance_key(terms: &Terms, instance: u32) -> Result<InstanceKey, RuntimeError> {
    match instance {
        0 => InstanceKey::parse(&format!("{}.{}", terms.lease, terms.generation)),
        n => InstanceKey::parse(&format!("{}.{}.{n}", terms.lease, terms.generation)),
    }
}

/// The keys that a lease may have something under: the instance that there is, the one after it, and the first one, whose key
/// the output goes by.
pub(crate) fn instance_keys(record: &LeaseRecord) -> Result<[InstanceKey; 3], RuntimeError> {
    let now = record.upkeep.instance;
    let key = |instance| instance_key(&record.terms, instance);
    Ok([key(0)?, key(now)?, key(now.saturating_add(1))?])
}

/// The name of an image that was built for a lease.
pub(crate) fn image_tag(terms: &Terms) -> String {
    format!("{BUILT_IMAGES}{}:{}", terms.lease, terms.generation)
}

const fn network(egress: Egress) -> Network {
    match egress {
        Egress::None => Network::None,
        Egress::Open => Network::Open,
    }
}

/// An error with its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// Builds or pulls.
pub(crate) async fn fetch_image(ctx: Arc<Context>, shared: Arc<Shared>, manifest: Arc<Manifest>) {
    let event = match &manifest.source {
        Source::Image(reference) => pull(&ctx, &shared, reference).await,
        Source::Build { .. } => build(&ctx, &shared, &manifest).await,
    };
    ctx.failpoints.hit("provider.image.after_fetch");
    shared.tell(event).await;
}

/// Fetches the image of an update.
pub(crate) async fn fetch_update(ctx: Arc<Context>, shared: Arc<Shared>, coming: Manifest) {
    let hash = coming.hash();
    let image = match &coming.source {
        Source::Image(reference) => match pull(&ctx, &shared, reference).await {
            Event::ImageReady { image, .. } => Ok(image),
            Event::ImageFailed { detail, .. } => Err(detail),
            other => Err(format!("the pull gave {other:?}")),
        },
        Source::Build { .. } => Err("what is built needs a lease of its own".into()),
    };
    shared.tell(Event::UpdateFetched { manifest: hash, image }).await;
}

async fn pull(ctx: &Arc<Context>, shared: &Shared, reference: &str) -> Event {
    let ready = |image: String| Event::ImageReady { image, build: Millis(0), billed: Millis(0) };
    let mut attempt = 0;
    loop {
        attempt += 1;
        match ctx.runtime.image(reference).await {
            // The engine also takes the beginning of an id for a name, and then it is anybody's image.
            Ok(Some(image)) if image.is_called(reference) => {
                note_use(ctx, shared, reference).await;
                return ready(image.id);
            }
            Ok(_) => break,
            Err(error) if error.is_transient() && attempt < ENGINE_ATTEMPTS => tokio::time::sleep(ENGINE_PAUSE).await,
            Err(error) => return Event::ImageFailed { detail: chain(&error), build: Millis(0) },
        }
    }
    let (progress, mut told) = mpsc::channel::<PullEvent>(64);
    let tell = async {
        let mut last = BTreeMap::new();
        while let Some(event) = told.recv().await {
            // One line for each change, not for each byte.
            if last.insert(event.layer.clone(), event.status.clone()).as_ref() != Some(&event.status) {
                shared.emit_line(&format!("{} {}", event.layer, event.status));
            }
        }
    };
    let (pulled, ()) = tokio::join!(ctx.runtime.pull(reference, progress), tell);
    match pulled {
        Ok(image) => {
            note_fetched(ctx, shared, reference, &image, Origin::Pulled).await;
            ready(image.id)
        }
        Err(error) => Event::ImageFailed { detail: chain(&error), build: Millis(0) },
    }
}

async fn build(ctx: &Arc<Context>, shared: &Shared, manifest: &Manifest) -> Event {
    let began = ctx.clock.now_ms();
    let request = match build_request(ctx, shared, manifest) {
        Ok(request) => request,
        Err(error) => return Event::ImageFailed { detail: error.to_string(), build: Millis(0) },
    };
    let (progress, told) = mpsc::channel(256);
    let (built, bases) = tokio::join!(ctx.runtime.build(request, progress), tell_build(shared, told));
    let took = Millis(ctx.clock.now_ms().saturating_sub(began));
    // What a build fetched stays, also when it failed.
    for base in bases {
        if let Ok(Some(image)) = ctx.runtime.image(&base).await {
            note_fetched(ctx, shared, &base, &image, Origin::Pulled).await;
        }
    }
    match built {
        Ok(image) => {
            note_fetched(ctx, shared, &image_tag(&shared.terms), &image, Origin::Built).await;
            Event::ImageReady { image: image.id, build: took, billed: billed(ctx, shared, took).await }
        }
        Err(error) => {
            // What the node could not do is not the user's to pay.
            let build = if error.is_workload_fault() { took } else { Millis(0) };
            Event::ImageFailed { detail: build_detail(&error), build }
        }
    }
}

fn build_request(ctx: &Context, shared: &Shared, manifest: &Manifest) -> Result<BuildRequest, RuntimeError> {
    let Source::Build { dockerfile, args, timeout, .. } = &manifest.source else {
        return Err(RuntimeError::Invalid { field: "source", why: "is not a build".into() });
    };
    Ok(BuildRequest {
        instance_key: instance_key(&shared.terms, 0)?,
        owner: ctx.owner.clone(),
        context_tar: shared.dir.join("context.tar"),
        dockerfile: dockerfile.clone(),
        build_args: args.clone(),
        tag: image_tag(&shared.terms),
        target: None,
        limits: BuildLimits {
            cpu_millis: manifest.resources.cpu_millis,
            memory_bytes: manifest.resources.memory_bytes,
            pids: manifest.pids,
            cpuset: None,
            image_bytes: ctx.options.max_image_bytes,
        },
        network: network(manifest.egress),
        timeout: Duration::from_millis(timeout.0).min(ctx.options.max_build_time),
    })
}

/// Building beyond what is free for the account today.
async fn billed(ctx: &Context, shared: &Shared, took: Millis) -> Millis {
    match tokio::time::timeout(ALLOWANCE_DEADLINE, ctx.network.account(&shared.terms.account)).await {
        Ok(Ok(Some(account))) => Millis(took.0.saturating_sub(account.build_allowance_left.0)),
        // Only the cap depends on it; the ledger counts for itself.
        _ => Millis(0),
    }
}

/// An image came here through us: it is counted, and others may have to go for it.
async fn note_fetched(ctx: &Arc<Context>, shared: &Shared, name: &str, image: &Image, origin: Origin) {
    let (owner, name, image, lease) = (Arc::clone(ctx), name.to_owned(), image.clone(), shared.id());
    let note = move || owner.images.fetched(&name, &image, origin, lease, owner.now());
    pasture_rt::spawn_blocking(TaskKind::Lease, note).join().await;
    ctx.images.evict(&*ctx.runtime, &ctx.leases.all()).await;
    // Others may have it from here.
    ctx.published.notify_one();
}

/// An image that is here is used.
async fn note_use(ctx: &Arc<Context>, shared: &Shared, name: &str) {
    let (owner, name, lease) = (Arc::clone(ctx), name.to_owned(), shared.id());
    pasture_rt::spawn_blocking(TaskKind::Lease, move || owner.images.used(&name, lease, owner.now())).join().await;
}

/// Sends build output on, line by line, and keeps none of it. Gives the base images that were fetched for it.
async fn tell_build(shared: &Shared, mut told: mpsc::Receiver<BuildEvent>) -> Vec<String> {
    let mut bases = vec![];
    let mut line = String::new();
    let tell = |text: &str| shared.emit_line(text);
    while let Some(event) = told.recv().await {
        match event {
            BuildEvent::Step(step) => tell(&step_text(&step)),
            BuildEvent::Output { text } => {
                for c in text.chars() {
                    if c == '\n' || line.len() >= MAX_OUTPUT_LINE {
                        tell(&std::mem::take(&mut line));
                    }
                    if c != '\n' {
                        line.push(c);
                    }
                }
            }
            BuildEvent::OutputTruncated => tell("[farm] more output was dropped; the build goes on"),
            BuildEvent::Fetched { reference } if bases.len() < MAX_BASES => bases.push(reference),
            BuildEvent::Fetched { .. } => {}
        }
    }
    if !line.is_empty() {
        tell(&line);
    }
    bases
}

/// Without control characters: output is hostile, and ends on a terminal.
fn clean(text: &str) -> String {
    text.trim_end().chars().filter(|c| *c == '\t' || !c.is_control()).collect()
}

fn step_text(step: &Step) -> String {
    match step.total {
        0 => format!("Step {}: {}", step.number, step.text),
        total => format!("Step {}/{total}: {}", step.number, step.text),
    }
}

fn build_detail(error: &BuildError) -> String {
    match error {
        BuildError::Failed { step: Some(step), code: Some(code), .. } => format!("{} failed with exit code {code}", step_text(step)),
        BuildError::Failed { step: Some(step), message, .. } => format!("{} failed: {}", step_text(step), clean(message)),
        BuildError::TimedOut { step: Some(step), .. } | BuildError::TooLarge { step: Some(step), .. } => {
            format!("{error}, in {}", step_text(step))
        }
        _ => clean(&chain(error)),
    }
}

/// What the engine is asked to run.
pub(crate) fn workload(
    ctx: &Context,
    shared: &Shared,
    manifest: &Manifest,
    image: String,
    instance: u32,
    mounts: Vec<Mount>,
) -> Result<Workload, RuntimeError> {
    let terms = &shared.terms;
    let mut env = manifest.env.clone();
    env.extend([
        ("FARM_JOB_ID".to_owned(), terms.order.to_string()),
        ("FARM_LEASE_ID".to_owned(), terms.lease.to_string()),
        ("FARM_NODE_RANK".to_owned(), "0".to_owned()),
        ("FARM_NODES".to_owned(), "1".to_owned()),
        ("FARM_RESTART".to_owned(), instance.to_string()),
    ]);
    if let Some(member) = manifest.life.member {
        env.insert("FARM_ARRAY_INDEX".to_owned(), member.index.to_string());
        env.insert("FARM_ARRAY_COUNT".to_owned(), member.count.to_string());
    }
    let mut workload = Workload {
        instance_key: instance_key(terms, instance)?,
        owner: ctx.owner.clone(),
        image,
        command: manifest.command.clone().unwrap_or_default(),
        args: manifest.args.clone().unwrap_or_default(),
        env,
        workdir: None,
        limits: Limits {
            cpu_millis: manifest.resources.cpu_millis,
            memory_bytes: manifest.resources.memory_bytes,
            pids: manifest.pids,
            // The lease pays for its volumes, too; the border left something for the output.
            disk_bytes: manifest.resources.disk_bytes.saturating_sub(manifest::volume_bytes(manifest)).max(LEAST_DISK_BYTES),
            cpuset: None,
        },
        network: network(manifest.egress),
        labels: BTreeMap::from([("farm.job".to_owned(), terms.order.to_string()), ("farm.lease".to_owned(), terms.lease.to_string())]),
        output_dir: Some(OUTPUT_DIR.to_owned()),
        output_of: (instance > 0).then(|| instance_key(terms, 0)).transpose()?,
        read_only_root: false,
        grace: Duration::from_millis(manifest.grace.0),
        mounts,
        gpus: vec![],
        files: vec![],
        secrets: secrets::place(manifest),
    };
    if !shared.gpus.is_empty() {
        let invalid = || RuntimeError::Conflict("this machine's owner offers its GPUs no more".into());
        ctx.options.gpus.as_ref().ok_or_else(invalid)?.source().attach(&shared.gpus, &mut workload);
    }
    Ok(workload)
}

/// Makes the container, or finds the one that exists.
pub(crate) async fn create(ctx: Arc<Context>, shared: Arc<Shared>, manifest: Arc<Manifest>, image: String, instance: u32) {
    let event = match create_with_volumes(&ctx, &shared, &manifest, image, instance).await {
        Ok(container) => Event::Created { container },
        Err(detail) => {
            volumes::release(&ctx, &shared.id()).await;
            Event::StartFailed { detail }
        }
    };
    ctx.failpoints.hit("provider.container.after_create");
    shared.tell(event).await;
}

async fn create_with_volumes(ctx: &Context, shared: &Shared, manifest: &Manifest, image: String, instance: u32) -> Result<String, String> {
    let mounts = volumes::attach(ctx, shared, manifest).await.map_err(|e| chain(&e))?;
    let workload = workload(ctx, shared, manifest, image, instance, mounts).map_err(|e| chain(&e))?;
    insist(|| ctx.runtime.create(&workload)).await.map(|id| id.0).map_err(|e| chain(&e))
}

/// Calls the engine a few times while it fails for its own reasons.
async fn insist<T, F: Future<Output = Result<T, RuntimeError>>>(mut call: impl FnMut() -> F) -> Result<T, RuntimeError> {
    let mut attempt = 1;
    loop {
        match call().await {
            Err(error) if error.is_transient() && attempt < ENGINE_ATTEMPTS => {
                attempt += 1;
                tokio::time::sleep(ENGINE_PAUSE).await;
            }
            outcome => return outcome,
        }
    }
}

/// Whether a container that was made may be started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mode {
    Start,
    Adopt,
}

/// Starts the container (unless it is only adopted), tells that it runs, waits for its end.
pub(crate) async fn run(ctx: Arc<Context>, shared: Arc<Shared>, container: String, mode: Mode) {
    let id = InstanceId(container);
    if mode == Mode::Start {
        if let Err(detail) = secrets::give(&ctx, &shared, &id).await {
            shared.tell(Event::StartFailed { detail }).await;
            return;
        }
        match insist(|| ctx.runtime.start(&id)).await {
            Ok(()) | Err(RuntimeError::AlreadyExited(_)) => {}
            Err(error) => {
                end_for_good(&ctx, &shared, &id).await;
                shared.tell(Event::StartFailed { detail: chain(&error) }).await;
                return;
            }
        }
        ctx.failpoints.hit("provider.container.after_start");
    }
    // Once billed, the devices were seen.
    let unseen = !shared.gpus.is_empty() && shared.status().started.is_none();
    let exited = |exit: &Exit| if unseen { exited_unseen(exit) } else { exited(exit) };
    loop {
        match ctx.runtime.inspect(&id).await {
            Ok(Some(Observed::Running { .. } | Observed::Paused { .. })) if unseen => {
                match gpus::check::look(&ctx, &id, &shared.gpus).await {
                    // Billing begins now, not when the container did.
                    Verdict::Fine => {
                        shared.tell(Event::Running { started: Timestamp(ctx.clock.now_ms()) }).await;
                        return wait(&ctx, &shared, &id).await;
                    }
                    Verdict::Ended => {}
                    Verdict::Failed(why) => {
                        end_for_good(&ctx, &shared, &id).await;
                        let detail = format!("the job's container has not the GPUs that were promised: {why}; nothing was charged");
                        shared.tell(Event::StartFailed { detail }).await;
                        return;
                    }
                }
            }
            Ok(Some(Observed::Running { started_at } | Observed::Paused { started_at })) => {
                shared.tell(Event::Running { started: Timestamp(started_at.as_millis()) }).await;
                return wait(&ctx, &shared, &id).await;
            }
            Ok(Some(Observed::Exited(exit))) => {
                shared.tell(exited(&exit)).await;
                return;
            }
            // A container that ran cannot be "created" again; whoever made this one, it is not the job's.
            Ok(Some(Observed::Created) | None) => {
                shared.tell(Event::Vanished { at: None }).await;
                return;
            }
            Err(error) => {
                tracing::warn!(error = %chain(&error), lease = %shared.id(), "cannot look at the container, trying again");
                tokio::time::sleep(ENGINE_PAUSE).await;
            }
        }
    }
}

/// What a lease's GPUs are used by must have ended before they are somebody else's; tries until it has.
async fn end_for_good(ctx: &Context, shared: &Shared, id: &InstanceId) {
    if shared.gpus.is_empty() {
        return;
    }
    while let Err(error) = ctx.runtime.kill(id).await {
        tracing::warn!(error = %chain(&error), lease = %shared.id(), "cannot end the container, trying again");
        tokio::time::sleep(ENGINE_PAUSE).await;
    }
}

/// Waits for the end of a container that runs.
async fn wait(ctx: &Context, shared: &Shared, id: &InstanceId) {
    loop {
        match ctx.runtime.wait(id).await {
            Ok(exit) => {
                shared.tell(exited(&exit)).await;
                return;
            }
            Err(RuntimeError::NotFound { .. }) => {
                let at = Some(Timestamp(ctx.clock.now_ms()));
                shared.tell(Event::Vanished { at }).await;
                return;
            }
            Err(error) => {
                tracing::warn!(error = %chain(&error), lease = %shared.id(), "cannot wait for the container, trying again");
                tokio::time::sleep(ENGINE_PAUSE).await;
            }
        }
    }
}

fn exited(exit: &Exit) -> Event {
    let end = if exit.oom { EndReason::OutOfMemory } else { EndReason::Exited { code: exit.code } };
    let started = exit.started_at.map(|t| Timestamp(t.as_millis()));
    Event::Exited { end, started, finished: Timestamp(exit.finished_at.as_millis()) }
}

/// It ended before anybody could see whether it had its GPUs: its end counts, and nothing is billed.
fn exited_unseen(exit: &Exit) -> Event {
    match exited(exit) {
        Event::Exited { end, finished, .. } => Event::Exited { end, started: None, finished },
        other => other,
    }
}

impl From<LogChunk> for Piece {
    fn from(c: LogChunk) -> Self {
        let stream = match c.stream {
            LogStream::Stdout => frames::LogStream::Stdout,
            LogStream::Stderr => frames::LogStream::Stderr,
        };
        Self { stream, bytes: c.bytes, cursor: c.cursor, lost_before: c.lost_before }
    }
}

/// Copies the engine's log of one instance into the lease's file until its end.
pub(crate) async fn follow(
    ctx: Arc<Context>,
    shared: Arc<Shared>,
    writer: Option<LogWriter>,
    reader: LogReader,
    place: LogPlace,
    container: String,
) {
    let (id, instance) = (InstanceId(container), place.instance);
    let copied = match open_log(&ctx, &shared, writer, reader, place).await {
        Ok(Some(writer)) => copy_log(&ctx, &shared, writer, &id, instance).await,
        Ok(None) => return,
        Err(error) => Err(error),
    };
    if let Err(error) = copied {
        tracing::error!(error = %chain(&error), lease = %shared.id(), "the log cannot be written");
        let detail = format!("the log could not be written on the provider's machine ({error})");
        shared.tell(Event::Stop { reason: EndReason::StoppedByProvider, grace: Millis(10_000), detail }).await;
    }
    shared.tell(Event::LogDrained { instance }).await;
}

/// The log, ready for an instance: after a restart it is opened anew, since whoever wrote it until then may still hold it.
async fn open_log(
    ctx: &Arc<Context>,
    shared: &Arc<Shared>,
    writer: Option<LogWriter>,
    reader: LogReader,
    place: LogPlace,
) -> Result<Option<LogWriter>, StoreError> {
    let (ctx, its) = (Arc::clone(ctx), Arc::clone(shared));
    let opened = pasture_rt::spawn_blocking(TaskKind::LogFollower, move || {
        let mut writer = match writer {
            Some(writer) => writer,
            None => LogWriter::open(&its.dir, ctx.options.max_log_bytes, its.log_index.clone(), ctx.failpoints.clone())?,
        };
        let seen = writer.begin(reader, &place, Timestamp(ctx.clock.now_ms()))?;
        Ok((writer, seen))
    });
    // `None` only if the blocking pool is gone, which is the end of the process.
    let Some(opened) = opened.join().await else { return Ok(None) };
    let (writer, seen) = opened?;
    shared.log.send_replace(seen);
    Ok(Some(writer))
}

/// A log that is being written while more of it comes in.
struct LogCopy<'a> {
    shared: &'a Shared,
    /// Not there while it is at work.
    writer: Option<LogWriter>,
    at_work: Option<TaskHandle<(LogWriter, Result<LogSeen, StoreError>)>>,
    pieces: Vec<Piece>,
    bytes: usize,
    /// When the next flush may be.
    due: tokio::time::Instant,
}

impl LogCopy<'_> {
    fn take(&mut self, chunk: LogChunk) {
        self.bytes = self.bytes.saturating_add(chunk.bytes.len()).saturating_add(LOG_ENTRY_COST);
        self.pieces.push(chunk.into());
    }

    /// Hands what has come to the writer, if that has nothing to do.
    fn flush(&mut self) {
        let Some(mut writer) = self.writer.take_if(|_| !self.pieces.is_empty()) else { return };
        let pieces = std::mem::take(&mut self.pieces);
        self.bytes = 0;
        self.at_work = Some(pasture_rt::spawn_blocking(TaskKind::LogFollower, move || {
            let seen = writer.append(&pieces);
            (writer, seen)
        }));
    }

    /// Waits for the writer; never, if that has nothing to do. False if the process ends.
    async fn written(&mut self) -> Result<bool, StoreError> {
        let Some(at_work) = &mut self.at_work else { return std::future::pending().await };
        let done = at_work.ended().await;
        self.at_work = None;
        let Some((writer, seen)) = done else { return Ok(false) };
        self.writer = Some(writer);
        self.shared.log.send_replace(seen?);
        self.due = tokio::time::Instant::now() + LOG_FLUSH_GAP;
        Ok(true)
    }

    /// Writes all that has come. False if the process ends.
    async fn settle(&mut self) -> Result<bool, StoreError> {
        while self.at_work.is_some() || !self.pieces.is_empty() {
            self.flush();
            if !self.written().await? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

async fn copy_log(ctx: &Context, shared: &Shared, writer: LogWriter, id: &InstanceId, instance: u32) -> Result<(), StoreError> {
    let (mut failures, due) = (0, tokio::time::Instant::now());
    let mut copy = LogCopy { shared, writer: Some(writer), at_work: None, pieces: vec![], bytes: 0, due };
    loop {
        let Some(cursor) = copy.writer.as_ref().map(|w| w.cursor().clone()) else { return Ok(()) };
        let mut stream = ctx.runtime.logs(id, cursor).ready_chunks(LOG_READY);
        // A first line goes at once; what follows closely goes together; an end waits for nothing. A flood is read all the while, also
        // while it is written: what is not read in time the engine throws away.
        let broken = loop {
            let (idle, due) = (copy.at_work.is_none() && !copy.pieces.is_empty(), copy.due);
            let room = copy.bytes < LOG_FLUSH_BYTES;
            let some = tokio::select! {
                biased;
                going_on = copy.written() => if going_on? { continue } else { return Ok(()) },
                () = tokio::time::sleep_until(due), if idle => {
                    copy.flush();
                    continue;
                }
                some = stream.next(), if room => some,
            };
            let Some(some) = some else { break None };
            let mut failed = None;
            for item in some {
                match item {
                    Ok(chunk) => copy.take(chunk),
                    Err(error) => failed = Some(error),
                }
            }
            failures = if copy.pieces.is_empty() { failures } else { 0 };
            if failed.is_some() {
                break failed;
            }
        };
        if !copy.settle().await? {
            return Ok(());
        }
        match broken {
            None | Some(RuntimeError::NotFound { .. }) => return Ok(()),
            Some(error) => {
                failures += 1;
                if failures > LOG_ATTEMPTS {
                    tracing::error!(error = %chain(&error), lease = %shared.id(), "the rest of the log is given up");
                    shared.tell(Event::LogCut { instance }).await;
                    return Ok(());
                }
                tokio::time::sleep(ENGINE_PAUSE).await;
            }
        }
    }
}

/// The output folder as a sealed tar, synced, hashed and in its place.
pub(crate) async fn copy_output(ctx: Arc<Context>, shared: Arc<Shared>, container: String) {
    let id = InstanceId(container);
    let partial = shared.dir.join("output.partial");
    // For a moment it is there twice, as it is and sealed.
    let free = detect::free_disk(&shared.dir).saturating_sub(ctx.options.reserve_disk_bytes) / 2;
    // The archive of a volume is larger than what is in it: each entry has a head. A file with holes can be larger than anything,
    // and would be written out here with all its zeros.
    let held = shared.terms.resources.disk_bytes.max(LEAST_DISK_BYTES).saturating_mul(ARCHIVE_FACTOR);
    let limit = ctx.options.max_output_bytes.min(free).min(held);
    let reader = shared.view.borrow().manifest.as_ref().map(|m| m.reader).unwrap_or_default();
    let binding = Binding { content: Content::Output, lease: shared.id() };
    let copied = insist(|| ctx.runtime.copy_out(&id, OUTPUT_CONTENT, &partial, limit)).await;
    let dir = shared.dir.clone();
    let kept = pasture_rt::spawn_blocking(TaskKind::Lease, move || {
        let kept = copied.map(|_| keep_output(&dir, reader, binding));
        // Whatever became of it: as it is it does not stay.
        let _ = std::fs::remove_file(dir.join("output.partial"));
        kept
    });
    let (output, problem) = match kept.join().await {
        Some(Ok(Ok(kept))) => (kept, None),
        Some(Ok(Err(error))) => (None, Some(format!("the output could not be kept: {}", chain(&error)))),
        None => (None, Some("the output could not be kept".to_owned())),
        Some(Err(RuntimeError::NotFound { .. })) => (None, None),
        Some(Err(RuntimeError::TooLarge { limit_bytes })) => {
            (None, Some(format!("the output is larger than {} and was not kept", display_bytes(limit_bytes))))
        }
        Some(Err(error)) => (None, Some(format!("the output could not be copied: {}", chain(&error)))),
    };
    ctx.failpoints.hit("provider.output.after_copy");
    shared.tell(Event::OutputDone { output, problem }).await;
}

fn keep_output(dir: &Path, reader: [u8; 32], binding: Binding) -> Result<Option<OutputInfo>, StoreError> {
    let (partial, draft, path) = (dir.join("output.partial"), dir.join("output.draft"), dir.join("output.sealed"));
    let io = |action: &'static str| move |source| StoreError::Io { action, path: dir.into(), source };
    let file = std::fs::File::open(&partial).map_err(io("open the output in"))?;
    let mut entries = 0u64;
    let mut archive = tar::Archive::new(file);
    for entry in archive.entries().map_err(io("read the output in"))? {
        let entry = entry.map_err(io("read the output in"))?;
        // The folder itself is the first entry.
        entries += if entry.header().entry_type().is_dir() { 1 } else { 2 };
        if entries > 1 {
            break;
        }
    }
    if entries <= 1 {
        return Ok(None);
    }
    let mut file = archive.into_inner();
    file.rewind().map_err(io("read the output in"))?;
    let mut sealed = std::fs::File::create(&draft).map_err(io("write the output in"))?;
    seal_all(reader, binding, file, &mut sealed).map_err(io("seal the output in"))?;
    sealed.sync_all().map_err(io("sync the output in"))?;
    let (hash, bytes) = hash_file(&draft)?;
    std::fs::rename(&draft, &path).map_err(io("rename the output in"))?;
    std::fs::File::open(dir).and_then(|d| d.sync_all()).map_err(io("sync"))?;
    Ok(Some(OutputInfo { hash, bytes }))
}

/// The job has ended: what it was built from goes.
pub(crate) fn forget_context(dir: &Path) {
    for name in ["context.tar", "context.partial"] {
        let path = dir.join(name);
        if let Err(error) = std::fs::remove_file(&path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%error, path = %path.display(), "what an ended job was built from stays");
        }
    }
}

/// Removes container, network and volume; tries until it works.
pub(crate) async fn remove(ctx: Arc<Context>, shared: Arc<Shared>, container: String) {
    let id = InstanceId(container);
    let mut pause = ENGINE_PAUSE;
    while let Err(error) = ctx.runtime.remove(&id).await {
        tracing::warn!(error = %chain(&error), lease = %shared.id(), "cannot remove the container, trying again");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(30));
    }
    volumes::release(&ctx, &shared.id()).await;
    ctx.failpoints.hit("provider.container.after_remove");
    shared.tell(Event::Removed).await;
}

/// Removes the container of an instance that another one follows; the output stays. Tries until it works.
pub(crate) async fn retire(ctx: Arc<Context>, shared: Arc<Shared>, container: String) {
    let id = InstanceId(container);
    let mut pause = ENGINE_PAUSE;
    while let Err(error) = ctx.runtime.retire(&id).await {
        tracing::warn!(error = %chain(&error), lease = %shared.id(), "cannot remove an earlier container, trying again");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(30));
    }
    shared.tell(Event::Retired).await;
}

/// Stops the container; the end itself is seen by [`run`].
pub(crate) async fn stop(ctx: Arc<Context>, shared: Arc<Shared>, container: String, grace: Millis) {
    let id = InstanceId(container);
    if let Err(error) = insist(|| ctx.runtime.stop(&id, Duration::from_millis(grace.0))).await {
        tracing::warn!(error = %chain(&error), lease = %shared.id(), "cannot stop the container");
        shared.tell(Event::StopFailed).await;
    }
}

impl From<super::log::LogSeen> for LogState {
    fn from(seen: super::log::LogSeen) -> Self {
        Self { bytes: seen.bytes, root: seen.root }
    }
}
