//! What a client hands over: the manifest, then the build context in as many pieces as it takes.

use super::access::Lease;
use crate::context::Context;
use crate::detect;
use crate::lease::{Event, Shared, manifest};
use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use futures::StreamExt as _;
use pasture_api::data::{ContextStatus, Phase, UpdateState};
use pasture_api::problem::Problem;
use pasture_rt::TaskKind;
use pasture_store::{PartialBlob, StoreError, write_atomic};
use pasture_types::BlobHash;
use pasture_types::spec::{MAX_MANIFEST_BYTES, Source};
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;

/// Bytes of a context that are written together.
const WRITE_BYTES: usize = 1 << 20;
/// Longest that an upload may stand still.
const STALL: Duration = Duration::from_secs(60);

fn stored(error: &StoreError) -> Problem {
    match error {
        StoreError::Mismatch { detail, .. } => Problem::new(409, "context-mismatch", detail.clone()),
        e if e.is_disk_full() => Problem::new(507, "disk-full", "this node's disk is full"),
        e => {
            tracing::error!(error = %e, "cannot store what a client sent");
            Problem::internal("the node could not store this")
        }
    }
}

fn bounded(body: &Bytes) -> Result<(), Problem> {
    match body.len() {
        0..=MAX_MANIFEST_BYTES => Ok(()),
        _ => Err(Problem::too_large(format!("a manifest has at most {MAX_MANIFEST_BYTES} bytes"))),
    }
}

/// Writes a small file of a lease.
async fn keep(lease: &Shared, name: &str, body: &Bytes) -> Result<(), Problem> {
    let (path, bytes) = (lease.dir.join(name), body.clone());
    let written = pasture_rt::spawn_blocking(TaskKind::Connection, move || write_atomic(&path, &bytes)).join().await;
    written.unwrap_or(Ok(())).map_err(|e| stored(&e))
}

/// Checks and keeps a manifest, then tells the lease.
pub(super) async fn put_manifest(ctx: &Context, lease: &Arc<Shared>, body: &Bytes) -> Result<(), Problem> {
    bounded(body)?;
    let manifest = manifest::check(body, &lease.terms, &ctx.options).map_err(|e| Problem::new(422, "bad-manifest", e))?;
    // The same again, after an answer that was lost, is fine; another one cannot have the same hash.
    if lease.view.borrow().manifest.is_some() {
        return Ok(());
    }
    crate::secrets::all_here(ctx, lease, &manifest)?;
    keep(lease, "manifest", body).await?;
    ctx.failpoints.hit("provider.manifest.after_store");
    let manifest = Arc::new(manifest);
    // Shown at once: the client's next request is for the context.
    lease.view.send_modify(|v| v.manifest = Some(Arc::clone(&manifest)));
    if !lease.tell(Event::Manifest(Box::new((*manifest).clone()))).await {
        return Err(Problem::conflict("the lease has ended"));
    }
    Ok(())
}

/// Checks and keeps a manifest that is to take the place of the one that runs, then tells the lease.
pub(super) async fn put_update(ctx: &Context, lease: &Arc<Shared>, body: &Bytes) -> Result<(), Problem> {
    bounded(body)?;
    let _one_at_a_time = lease.upload.lock().await;
    let (current, status) = {
        let view = lease.view.borrow();
        (view.manifest.clone(), view.status.clone())
    };
    let hash = pasture_types::blob::hash(body);
    match &status.update {
        // The same again, after an answer that was lost.
        Some(update) if update.manifest == hash && update.state != UpdateState::Failed => return Ok(()),
        Some(update) if matches!(update.state, UpdateState::Fetching | UpdateState::Replacing) => {
            return Err(Problem::conflict("another update of this job is under way"));
        }
        _ => {}
    }
    let runs = matches!(status.phase, Phase::Running | Phase::Restarting) && status.end.is_none();
    let Some(current) = current.filter(|_| runs) else {
        return Err(Problem::new(409, "not-running", "the job does not run now, so nothing of it can be changed"));
    };
    let manifest = manifest::check_update(body, &current, &lease.terms, &ctx.options).map_err(|e| Problem::new(422, "bad-manifest", e))?;
    keep(lease, manifest::COMING, body).await?;
    if !lease.tell(Event::Update(Box::new(manifest))).await {
        return Err(Problem::conflict("the lease has ended"));
    }
    Ok(())
}

struct Expected {
    hash: BlobHash,
    bytes: u64,
}

/// What context a lease needs; the manifest says it.
fn expected(lease: &Shared) -> Result<Expected, Problem> {
    let view = lease.view.borrow();
    match view.manifest.as_deref().map(|m| &m.source) {
        Some(Source::Build { context, context_bytes, .. }) => Ok(Expected { hash: *context, bytes: *context_bytes }),
        Some(Source::Image(_)) => Err(Problem::conflict("this job runs an image and has no build context")),
        None => Err(Problem::conflict("the manifest comes first")),
    }
}

pub(super) async fn context_status(Lease(lease): Lease) -> Result<Json<ContextStatus>, Problem> {
    let expected = expected(&lease)?;
    if lease.dir.join("context.tar").is_file() {
        return Ok(Json(ContextStatus { received: expected.bytes, complete: true }));
    }
    let received = std::fs::metadata(lease.dir.join("context.partial")).map_or(0, |m| m.len());
    Ok(Json(ContextStatus { received, complete: false }))
}

#[derive(Deserialize)]
pub(super) struct Offset {
    #[serde(default)]
    offset: u64,
}

pub(super) async fn put_context(
    State(ctx): State<Arc<Context>>,
    Lease(lease): Lease,
    Query(Offset { offset }): Query<Offset>,
    body: Body,
) -> Result<Json<ContextStatus>, Problem> {
    let expected = expected(&lease)?;
    let Ok(_one) = lease.upload.try_lock() else {
        return Err(Problem::conflict("another upload of this context is under way"));
    };
    let path = lease.dir.join("context.tar");
    if path.is_file() {
        return Ok(Json(ContextStatus { received: expected.bytes, complete: true }));
    }
    if !matches!(lease.status().phase, Phase::AwaitingManifest | Phase::AwaitingContext) {
        return Err(Problem::conflict("the lease no longer waits for a context"));
    }
    let missing = expected.bytes.saturating_sub(offset);
    if detect::free_disk(&lease.dir) < missing.saturating_add(ctx.options.reserve_disk_bytes) {
        return Err(Problem::new(507, "disk-full", "this node has no room for the build context"));
    }
    let mut blob = PartialBlob::open(&path, expected.hash, expected.bytes).map_err(|e| stored(&e))?;
    let mut stream = body.into_data_stream();
    let (mut at, mut buffer) = (offset, Vec::with_capacity(WRITE_BYTES));
    loop {
        let chunk = match tokio::time::timeout(STALL, stream.next()).await {
            Ok(Some(Ok(chunk))) => Some(chunk),
            Ok(None) => None,
            // What has arrived is kept; the client asks how far it got and goes on from there.
            Ok(Some(Err(_))) | Err(_) => {
                return Err(Problem::new(408, "upload-broken", "the upload broke off; go on from what has arrived"));
            }
        };
        let last = chunk.is_none();
        buffer.extend_from_slice(&chunk.unwrap_or_default());
        if buffer.len() >= WRITE_BYTES || (last && !buffer.is_empty()) {
            let piece = std::mem::replace(&mut buffer, Vec::with_capacity(WRITE_BYTES));
            let length = piece.len() as u64;
            blob = blocking(blob, move |blob| blob.append(at, &piece)).await?.0;
            at = at.saturating_add(length);
            ctx.failpoints.hit("provider.context.after_append");
            lease.tell(Event::ContextProgress).await;
        }
        if last {
            break;
        }
    }
    let (blob, complete) = blocking(blob, PartialBlob::finish).await?;
    if complete {
        ctx.failpoints.hit("provider.context.after_store");
        lease.tell(Event::ContextComplete).await;
    }
    Ok(Json(ContextStatus { received: blob.received(), complete }))
}

async fn blocking<T: Send + 'static>(
    mut blob: PartialBlob,
    work: impl FnOnce(&mut PartialBlob) -> Result<T, StoreError> + Send + 'static,
) -> Result<(PartialBlob, T), Problem> {
    let done = pasture_rt::spawn_blocking(TaskKind::Connection, move || work(&mut blob).map(|out| (blob, out))).join().await;
    match done {
        Some(Ok(done)) => Ok(done),
        Some(Err(error)) => Err(stored(&error)),
        None => Err(Problem::internal("the node is shutting down")),
    }
}
