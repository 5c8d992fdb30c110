//! Who may: each request is signed by a key of the lease's account.

use crate::context::Context;
use crate::lease::Shared;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use pasture_api::auth;
use pasture_api::problem::{self, Problem};
use pasture_types::keys::parse_public_key;
use pasture_types::{LeaseId, PublicKey};
use std::sync::Arc;

/// How long an account's keys are used before they are read again: the longest that a removed key still works.
const KEYS_FRESH_MS: u64 = 60_000;
/// Least time between two readings because of an unknown key.
const KEYS_PAUSE_MS: u64 = 1_000;

/// A refusal as it goes out.
#[derive(Debug)]
pub(crate) struct Failure(pub(crate) Problem);

impl From<Problem> for Failure {
    fn from(p: Problem) -> Self {
        Self(p)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, axum::Json(self.0)).into_response();
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(problem::CONTENT_TYPE));
        response
    }
}

/// The lease of a request, if its signer may ask for it. Nothing is told of leases to those who may not.
pub(crate) async fn lease_of(ctx: &Context, id: &str, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<Arc<Shared>, Failure> {
    let header = headers.get(AUTHORIZATION).and_then(|h| h.to_str().ok());
    let path = uri.path_and_query().map_or("/", |p| p.as_str());
    let key =
        auth::verify(header, method.as_str(), path, &ctx.node, ctx.clock.now_ms()).map_err(|e| Problem::unauthorized(e.to_string()))?;
    let known = id.parse::<LeaseId>().ok().and_then(|id| ctx.leases.get(&id));
    let lease = known.ok_or_else(|| Problem::not_found("lease on this node"))?;
    check_key(ctx, &lease, &key).await?;
    Ok(lease)
}

/// Whether a key belongs to the lease's account.
pub(crate) async fn check_key(ctx: &Context, lease: &Shared, key: &PublicKey) -> Result<(), Failure> {
    let now = ctx.clock.now_ms();
    let (known, age) = {
        let keys = lease.keys.borrow();
        (keys.0.contains(key), if keys.0.is_empty() { u64::MAX } else { now.abs_diff(keys.1) })
    };
    if known && age < KEYS_FRESH_MS {
        return Ok(());
    }
    if age < KEYS_PAUSE_MS {
        return Err(forbidden());
    }
    match ctx.network.account(&lease.terms.account).await {
        Ok(account) => {
            let keys: Vec<PublicKey> =
                account.map(|a| a.keys.iter().filter_map(|k| parse_public_key(k).ok()).collect()).unwrap_or_default();
            let allowed = keys.contains(key);
            lease.keys.send_replace((keys, now));
            if allowed { Ok(()) } else { Err(forbidden()) }
        }
        // What was known a while ago still counts while the network is away.
        Err(_) if known => Ok(()),
        Err(error) => Err(Problem::unavailable(format!("whose key this is cannot be looked up now: {error}")).into()),
    }
}

fn forbidden() -> Failure {
    Problem::forbidden("this key does not belong to the lease's account").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_a_problem_document() {
        let response = Failure(Problem::conflict("no")).into_response();
        assert_eq!(response.status(), StatusCode::CONFLICT);
        assert_eq!(response.headers()[CONTENT_TYPE], problem::CONTENT_TYPE);
    }
}
