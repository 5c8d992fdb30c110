//! Channels into a lease's container on the data plane, for its user alone; what they do is in [`crate::channels`].

use super::access::{Entrant, Lease};
use crate::channels;
use crate::context::Context;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use pasture_api::Problem;
use pasture_api::publication::SignedPublication;
use pasture_rt::TaskKind;
use pasture_types::LeaseId;
use pasture_types::spec::Port;
use serde::Deserialize;
use std::sync::Arc;

/// Most bytes of what a job reaches: 256 parts that all reach each other.
const MAX_PRIVATE_BYTES: usize = 1 << 20;

pub(super) fn routes() -> Router<Arc<Context>> {
    Router::new()
        .route("/leases/{id}/channel", post(channel))
        .route("/leases/{id}/ports", get(ports))
        .route("/leases/{id}/public", get(published).put(publish))
        .route("/leases/{id}/public/{port}", post(enter))
        .route("/leases/{id}/private", put(set_private).layer(DefaultBodyLimit::max(MAX_PRIVATE_BYTES)))
}

#[derive(Deserialize)]
struct Signed {
    hash: String,
}

/// The request's signature covers the path with this hash, and so what the channel is for. A machine of the same deployment comes in to
/// the ports that it was let in to, and to nothing else.
async fn channel(
    State(ctx): State<Arc<Context>>,
    Entrant { lease, machine }: Entrant,
    Query(Signed { hash }): Query<Signed>,
    request: Request,
) -> Result<Response, Problem> {
    let told: Body = channels::open(&ctx, &lease, machine, &hash, request.into_body()).await?;
    Ok(([(CONTENT_TYPE, "application/octet-stream")], told).into_response())
}

async fn ports(Lease(lease): Lease) -> Result<Json<Vec<Port>>, Problem> {
    let manifest = lease.view.borrow().manifest.clone();
    let manifest = manifest.ok_or_else(|| Problem::new(409, "not-running", "the job's description has not arrived yet"))?;
    Ok(Json(manifest.ports.clone()))
}

async fn published(Lease(lease): Lease) -> Json<Vec<SignedPublication>> {
    Json(lease.public.borrow().clone())
}

async fn publish(State(ctx): State<Arc<Context>>, Lease(lease): Lease, body: Bytes) -> Result<StatusCode, Problem> {
    let wanted: Vec<SignedPublication> = serde_json::from_slice(&body).map_err(|e| Problem::bad_request(e.to_string()))?;
    let done = pasture_rt::spawn_blocking(TaskKind::Files, move || channels::public::publish(&ctx, &lease, &wanted)).join().await;
    done.unwrap_or_else(|| Err(Problem::unavailable("this machine's program is being stopped")))?;
    Ok(StatusCode::NO_CONTENT)
}

/// What the job reaches in its deployment's private network, and who reaches it.
async fn set_private(Lease(lease): Lease, Query(Signed { hash }): Query<Signed>, body: Bytes) -> Result<StatusCode, Problem> {
    let done = pasture_rt::spawn_blocking(TaskKind::Files, move || channels::private::set(&lease, &hash, &body)).join().await;
    done.unwrap_or_else(|| Err(Problem::unavailable("this machine's program is being stopped")))?;
    Ok(StatusCode::NO_CONTENT)
}

/// A stream of anybody: nothing is signed, and only what is published is there.
async fn enter(State(ctx): State<Arc<Context>>, Path((lease, port)): Path<(String, u16)>, request: Request) -> Result<Response, Problem> {
    let known = lease.parse::<LeaseId>().ok().and_then(|id| ctx.leases.get(&id));
    channels::public::open(&ctx, known.ok_or_else(|| Problem::not_found("published port"))?, port, request).await
}
