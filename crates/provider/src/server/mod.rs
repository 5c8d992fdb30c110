//! The data plane: HTTP on loopback, spoken by clients through a gateway. Routes: see `pasture_api::data`.
//!
//! Guarantees: nothing is done before the request's signature is that of a key of the lease's account or of a device's in its place, or of its watcher's where that may look; every body has a limit
//! before it is stored; a slow reader of events is disconnected, it never holds a lease up. It decides nothing about leases:
//! what changes one goes through its mailbox.

mod access;
mod alive;
mod audits;
pub(crate) mod blobs;
mod channel;
mod delegates;
mod herd;
mod streams;
mod upload;
mod volumes;

use crate::context::Context;
use crate::error::ProviderError;
use crate::lease::Event;
pub(crate) use access::{AccountKeys, KnownNodes};
use access::{Lease, Watched, Who};
use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::StatusCode;
use axum::routing::{get, post, put};
pub(crate) use delegates::Delegates;
use pasture_api::data::{AliveAnswer, CountersignRequest, ImageView, LeaseStatus, Phase, SignedOutput, Statement};
use pasture_api::problem::Problem;
use pasture_api::secrets::SealingKey;
use pasture_net::Service;
use pasture_rt::{TaskHandle, TaskKind};
use pasture_types::keys::{Signature, SignatureText, parse_public_key};
use pasture_types::lease::EndReason;
use pasture_types::market::Term;
use pasture_types::spec::MAX_MANIFEST_BYTES;
use pasture_types::{Millis, Timestamp};
use serde::Deserialize;
use std::net::SocketAddr;
use std::sync::Arc;
pub(crate) use streams::until_shutdown;

/// Largest body that is read as a whole: a manifest, and room to say that it is too long.
const MAX_BODY: usize = MAX_MANIFEST_BYTES + 4096;
/// Grace of a stop that names none.
const DEFAULT_GRACE: u64 = 10_000;

type Ctx = State<Arc<Context>>;

/// Binds the data plane and serves it until shutdown.
pub(crate) async fn start(ctx: Arc<Context>) -> Result<(SocketAddr, TaskHandle<()>), ProviderError> {
    let wanted = ctx.options.listen;
    let listen = |source| ProviderError::Listen { address: wanted, source };
    let listener = tokio::net::TcpListener::bind(wanted).await.map_err(listen)?;
    let address = listener.local_addr().map_err(listen)?;
    let cancel = ctx.cancel.clone();
    let arrivals = ctx.options.endpoint.as_ref().map(|endpoint| endpoint.arrivals(Service::Node));
    let router = Router::new()
        .route("/leases/{id}/manifest", put(manifest))
        .route("/leases/{id}/update", put(update))
        .route("/leases/{id}/sealing-key", get(sealing_key))
        .route("/leases/{id}/secrets", put(put_secrets))
        .route("/leases/{id}/context", get(upload::context_status).put(upload::put_context))
        .route("/leases/{id}/status", get(status))
        .route("/leases/{id}/events", get(streams::events))
        .route("/leases/{id}/logs", get(streams::logs))
        .route("/accounts/{account}/images", get(images))
        .route("/leases/{id}/stats", get(stats))
        .route("/leases/{id}/alive", post(alive))
        .route("/leases/{id}/countersign", post(countersign))
        .route("/leases/{id}/stop", post(stop))
        .route("/leases/{id}/output", get(streams::output))
        .merge(audits::routes())
        .merge(blobs::routes())
        .merge(channel::routes())
        .merge(herd::routes())
        .merge(volumes::routes())
        .fallback(|| async { Problem::not_found("route") })
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(ctx);
    // A herd's words are short and must not wait for each other.
    let listener = axum::serve::ListenerExt::tap_io(listener, |stream| drop(stream.set_nodelay(true)));
    let cancelled = cancel.clone();
    let serve = axum::serve(listener, router.clone()).with_graceful_shutdown(async move { cancelled.requested().await });
    let peers = async move {
        match arrivals {
            Some(arrivals) => axum::serve(arrivals, router).with_graceful_shutdown(async move { cancel.requested().await }).await,
            None => Ok(()),
        }
    };
    let task = pasture_rt::spawn(TaskKind::Server, async move {
        if let (Err(error), _) | (_, Err(error)) = tokio::join!(serve.into_future(), peers) {
            tracing::error!(%error, "the data plane has ended");
        }
    });
    Ok((address, task))
}

async fn update(State(ctx): Ctx, Lease(lease): Lease, body: Bytes) -> Result<StatusCode, Problem> {
    upload::put_update(&ctx, &lease, &body).await?;
    Ok(StatusCode::ACCEPTED)
}

async fn manifest(State(ctx): Ctx, Lease(lease): Lease, body: Bytes) -> Result<StatusCode, Problem> {
    upload::put_manifest(&ctx, &lease, &body).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Anybody with an account may ask before it orders.
async fn images(State(ctx): Ctx, access::Account(_): access::Account) -> Json<Vec<ImageView>> {
    Json(ctx.images.advertised())
}

async fn stats(State(ctx): Ctx, Lease(lease): Lease) -> Result<axum::response::Response, Problem> {
    crate::channels::stats::stats(&ctx, &lease)
}

async fn sealing_key(State(ctx): Ctx, Lease(_): Lease) -> Json<SealingKey> {
    Json(crate::secrets::key(&ctx))
}

#[derive(Deserialize)]
struct Hashed {
    hash: String,
}

/// The request's signature covers the path with this hash, and so what was sealed.
async fn put_secrets(
    State(ctx): Ctx,
    Lease(lease): Lease,
    Query(Hashed { hash }): Query<Hashed>,
    body: Bytes,
) -> Result<StatusCode, Problem> {
    if pasture_types::blob::hash(&body).to_string() != hash {
        return Err(Problem::bad_request("the secrets are not those that were signed: their hash is another"));
    }
    crate::secrets::put(&ctx, &lease, &body).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn status(State(ctx): Ctx, Watched(lease, _): Watched) -> Result<Json<LeaseStatus>, Problem> {
    let mut status = lease.status_at(Timestamp(ctx.clock.now_ms()));
    let (last, output) = {
        let view = lease.view.borrow();
        (view.last_usage.clone(), view.output.filter(|_| status.phase == Phase::Ended))
    };
    let sign = |digest: &[u8; 32]| SignatureText::from(&ctx.options.node_key.sign(digest));
    status.statement = last.map(|usage| Box::new(Statement { node_signature: sign(&usage.digest()), usage }));
    status.output = output.map(|output| SignedOutput { output, node_signature: sign(&output.digest(&lease.id())) });
    Ok(Json(status))
}

async fn alive(State(ctx): Ctx, Watched(lease, _): Watched) -> Result<Json<AliveAnswer>, Problem> {
    Ok(Json(alive::check(&ctx, &lease).await))
}

async fn countersign(State(ctx): Ctx, Watched(lease, _): Watched, body: Bytes) -> Result<StatusCode, Problem> {
    let mut request: CountersignRequest = serde_json::from_slice(&body).map_err(|e| Problem::bad_request(e.to_string()))?;
    let bad = |e: pasture_types::keys::SignatureError| Problem::bad_request(format!("the confirmation is not signed as it must be: {e}"));
    let key = parse_public_key(&request.key).map_err(bad)?;
    let account = match access::confirmer(&ctx, &lease, &key).await? {
        Who::User => lease.terms.account,
        Who::Watcher(account) => account,
    };
    if request.account.is_some_and(|named| named != account) {
        return Err(Problem::forbidden("the key that confirms is not one of the account that is named"));
    }
    request.account = Some(account);
    let signature = Signature::try_from(&request.signature).map_err(bad)?;
    key.verify(&request.usage.counter_digest(), &signature).map_err(bad)?;
    if !lease.view.borrow().offered.contains(&request.usage) {
        return Err(Problem::conflict("this is not a statement that waits for a confirmation; a newer one replaces it"));
    }
    if !lease.tell(Event::Countersigned(Box::new(request))).await {
        return Err(Problem::conflict("the lease is settled"));
    }
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
struct StopQuery {
    grace_ms: Option<u64>,
}

async fn stop(Lease(lease): Lease, Query(query): Query<StopQuery>) -> Result<StatusCode, Problem> {
    // If we closed a rental, we would give up what leaving it early costs.
    if matches!(lease.terms.term, Term::Rental { .. }) {
        return Err(Problem::conflict("a rental is left on the ledger: close the lease there"));
    }
    let grace = Millis(query.grace_ms.unwrap_or(DEFAULT_GRACE));
    // A job that has ended needs no stop: that is no error.
    lease.tell(Event::Stop { reason: EndReason::StoppedByUser, grace, detail: String::new() }).await;
    Ok(StatusCode::ACCEPTED)
}
