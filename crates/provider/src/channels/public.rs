//! Ports of a job that everybody may reach: what its owner published, and the streams of whoever comes. Spec: `docs/specs/ingress.md`.
//!
//! Guarantees: only a port that the lease's account published by its signature is let through, and only while the job runs; what is published is
//! on disk before it is answered for. Streams of a lease have a limit of their own, so that strangers take no place of the owner's.

use super::{Kind, LAST_WORDS, problem, running};
use crate::context::Context;
use crate::lease::Shared;
use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{CONNECTION, UPGRADE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use hyper_util::rt::TokioIo;
use pasture_api::Problem;
use pasture_api::data::Phase;
use pasture_api::publication::{ACCESS_HEADER, MAX_PUBLISHED, STREAM_PROTOCOL, SignedPublication};
use pasture_rt::TaskKind;
use pasture_runtime::{Connection, RuntimeError};
use pasture_store::RecordFile;
use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;
use tokio::io::{AsyncWriteExt as _, copy};

/// Beside a lease's other files.
const FILE: &str = "public";
/// Most publications that one announcement carries.
const MAX_ANNOUNCED: usize = 256;
/// Most bytes of them: gateways read no larger announcement.
const MAX_ANNOUNCED_BYTES: usize = 192 << 10;

/// What a lease published before; what cannot be read is published anew by its owner.
pub(crate) fn load(dir: &Path) -> Vec<SignedPublication> {
    RecordFile::new(dir.join(FILE)).load().ok().flatten().unwrap_or_default()
}

/// All that this machine's jobs publish.
pub(crate) fn all(ctx: &Context) -> Vec<SignedPublication> {
    let open = ctx.leases.all().into_iter().filter(|lease| lease.status().phase != Phase::Ended);
    let mut room = MAX_ANNOUNCED_BYTES;
    let fits = |signed: &SignedPublication| {
        let bytes = serde_json::to_vec(signed).map_or(usize::MAX, |text| text.len());
        room.checked_sub(bytes).inspect(|left| room = *left).is_some()
    };
    open.flat_map(|lease| lease.public.borrow().clone()).take(MAX_ANNOUNCED).take_while(fits).collect()
}

/// Publishes what the owner signed, in the place of what was published before.
pub(crate) fn publish(ctx: &Context, lease: &Shared, wanted: &[SignedPublication]) -> Result<(), Problem> {
    if wanted.len() > MAX_PUBLISHED {
        return Err(Problem::new(422, "bad-publication", format!("at most {MAX_PUBLISHED} ports of a job can be published")));
    }
    let names: BTreeSet<&str> = wanted.iter().map(|signed| signed.publication.name.as_str()).collect();
    if names.len() != wanted.len() {
        return Err(Problem::new(422, "bad-publication", "a name leads to one port"));
    }
    for signed in wanted {
        let publication = &signed.publication;
        publication.check().map_err(|why| Problem::new(422, "bad-publication", why))?;
        if publication.lease != lease.id() || publication.account != lease.terms.account {
            return Err(Problem::new(422, "bad-publication", "this publication is another job's"));
        }
        signed.signer(&ctx.facts.zone).map_err(|e| Problem::unauthorized(format!("the publication is not signed as it must be: {e}")))?;
    }
    let file = RecordFile::new(lease.dir.join(FILE));
    let kept = if wanted.is_empty() { file.remove() } else { file.save(&wanted.to_vec()) };
    kept.map_err(|error| {
        tracing::error!(%error, "what a job publishes could not be written down");
        Problem::new(500, "disk", "this machine could not write that down")
    })?;
    lease.public.send_replace(wanted.to_vec());
    ctx.published.notify_one();
    Ok(())
}

/// Lets a stream of anybody in to a published port.
pub(crate) async fn open(ctx: &Arc<Context>, lease: Arc<Shared>, port: u16, mut request: Request) -> Result<Response, Problem> {
    let key = request.headers().get(ACCESS_HEADER).map(|key| key.as_bytes());
    {
        let public = lease.public.borrow();
        let mut of_port = public.iter().map(|signed| &signed.publication).filter(|publication| publication.port == port).peekable();
        if of_port.peek().is_none() {
            return Err(Problem::not_found("published port"));
        }
        if !of_port.any(|publication| publication.rules.admits(key)) {
            return Err(Problem::unauthorized("this port needs an access key"));
        }
    }
    let asked = request.headers().get(UPGRADE).is_some_and(|to| to.as_bytes() == STREAM_PROTOCOL.as_bytes());
    let upgrade = hyper::upgrade::on(&mut request);
    if !asked {
        return Err(Problem::new(426, "upgrade-required", format!("an upgrade to {STREAM_PROTOCOL} is expected")));
    }
    let slot = ctx.channels.slot(lease.id(), Kind::Public)?;
    let container = running(&lease)?;
    let connection = ctx.runtime.connect(&container, port).await.map_err(|error| match &error {
        RuntimeError::Io { source, .. } if source.kind() == io::ErrorKind::ConnectionRefused => {
            Problem::new(409, "port-closed", format!("nothing listens on port {port} of the container"))
        }
        _ => problem(&error),
    })?;
    let cancel = ctx.cancel.clone();
    pasture_rt::spawn(TaskKind::Connection, async move {
        if let Ok(stream) = upgrade.await {
            cancel.guard(carry(&lease, TokioIo::new(stream), connection)).await;
        }
        drop(slot);
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
    response.headers_mut().insert(UPGRADE, HeaderValue::from_static(STREAM_PROTOCOL));
    Ok(response)
}

/// Carries both directions until both have ended, or the job has.
async fn carry(lease: &Shared, stream: TokioIo<hyper::upgrade::Upgraded>, connection: Connection) {
    let Connection { mut input, mut output } = connection;
    let (mut read, mut write) = tokio::io::split(stream);
    let inward = async {
        let _ = copy(&mut read, &mut input).await;
        let _ = input.shutdown().await;
    };
    let outward = async {
        let _ = copy(&mut output, &mut write).await;
        let _ = write.shutdown().await;
    };
    let mut view = lease.view.subscribe();
    let over = async {
        let _ = view.wait_for(|v| v.status.phase == Phase::Ended).await;
        tokio::time::sleep(LAST_WORDS).await;
    };
    tokio::select! {
        _ = async { tokio::join!(inward, outward) } => {}
        () = over => {}
    }
}
