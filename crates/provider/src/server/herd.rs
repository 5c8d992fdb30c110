//! The herd of a lease on the data plane: beginning and ending it here, everything else in `pasture_herd::http`.

use super::access::Lease;
use crate::context::Context;
use crate::herds;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Query, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use pasture_api::Problem;
use pasture_herd::HerdSpec;
use serde::Deserialize;
use std::sync::Arc;

/// Routes below a herd.
const ROUTES: [&str; 7] = ["status", "receipt", "results", "tasks", "acknowledge", "cancel", "stream"];

pub(super) fn routes() -> Router<Arc<Context>> {
    let herd = Router::new().route("/leases/{id}/herd", get(pass).put(up).delete(down));
    ROUTES.iter().fold(herd, |router, route| router.route(&format!("/leases/{{id}}/herd/{route}"), any(pass)))
}

#[derive(Deserialize)]
struct Named {
    hash: String,
}

/// The request's signature covers the path with this hash, and so the command.
async fn up(
    State(ctx): State<Arc<Context>>,
    Lease(lease): Lease,
    Query(Named { hash }): Query<Named>,
    body: Bytes,
) -> Result<StatusCode, Problem> {
    if pasture_types::blob::hash(&body).to_string() != hash {
        return Err(Problem::bad_request("the herd is not the one that was signed: its hash is another"));
    }
    let spec: HerdSpec = serde_json::from_slice(&body).map_err(|e| Problem::bad_request(format!("this is no herd: {e}")))?;
    spec.check().map_err(|e| Problem::new(422, "bad-herd", e))?;
    herds::begin(&ctx, &lease, spec).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn down(State(ctx): State<Arc<Context>>, Lease(lease): Lease) -> Result<StatusCode, Problem> {
    herds::end(&ctx, &lease).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn pass(State(ctx): State<Arc<Context>>, Lease(lease): Lease, request: Request) -> Response {
    let path = request.uri().path();
    let route = path.rsplit_once("/herd").map_or("", |(_, rest)| rest.trim_start_matches('/')).to_owned();
    match herds::of(&ctx, &lease).await {
        Ok(herd) => pasture_herd::http::handle(herd, &route, request).await,
        Err(problem) => problem.into_response(),
    }
}
