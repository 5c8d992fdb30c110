//! Channels into a lease's container on the data plane, for its user alone; what they do is in [`crate::channels`].

use super::access::Lease;
use crate::channels;
use crate::context::Context;
use axum::body::Body;
use axum::extract::{Query, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use pasture_api::Problem;
use pasture_types::spec::Port;
use serde::Deserialize;
use std::sync::Arc;

pub(super) fn routes() -> Router<Arc<Context>> {
    Router::new().route("/leases/{id}/channel", post(channel)).route("/leases/{id}/ports", get(ports))
}

#[derive(Deserialize)]
struct Signed {
    hash: String,
}

/// The request's signature covers the path with this hash, and so what the channel is for.
async fn channel(
    State(ctx): State<Arc<Context>>,
    Lease(lease): Lease,
    Query(Signed { hash }): Query<Signed>,
    request: Request,
) -> Result<Response, Problem> {
    let told: Body = channels::open(&ctx, &lease, &hash, request.into_body()).await?;
    Ok(([(CONTENT_TYPE, "application/octet-stream")], told).into_response())
}

async fn ports(Lease(lease): Lease) -> Result<Json<Vec<Port>>, Problem> {
    let manifest = lease.view.borrow().manifest.clone();
    let manifest = manifest.ok_or_else(|| Problem::new(409, "not-running", "the job's description has not arrived yet"))?;
    Ok(Json(manifest.ports.clone()))
}
