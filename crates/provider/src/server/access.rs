//! Who may: each request is signed by a key of the lease's account.

use crate::context::Context;
use crate::lease::Shared;
use axum::extract::{FromRequestParts, Path};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use pasture_api::{Problem, auth};
use pasture_types::keys::parse_public_key;
use pasture_types::{LeaseId, PublicKey};
use std::sync::Arc;

/// How long an account's keys are used before they are read again: the longest that a removed key still works.
const KEYS_FRESH_MS: u64 = 60_000;
/// Least time between two readings because of an unknown key.
const KEYS_PAUSE_MS: u64 = 1_000;

/// The lease of a request, if its signer may ask for it. Nothing is told of leases to those who may not. It comes before the
/// request's query and body, so that nothing of a stranger's is read.
pub(crate) struct Lease(pub(crate) Arc<Shared>);

impl FromRequestParts<Arc<Context>> for Lease {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, ctx: &Arc<Context>) -> Result<Self, Problem> {
        let Path(id) = Path::<String>::from_request_parts(parts, ctx).await.map_err(|e| Problem::bad_request(e.body_text()))?;
        let header = parts.headers.get(AUTHORIZATION).and_then(|h| h.to_str().ok());
        let path = parts.uri.path_and_query().map_or("/", |p| p.as_str());
        let key = auth::verify(header, parts.method.as_str(), path, &ctx.node, ctx.clock.now_ms())
            .map_err(|e| Problem::unauthorized(e.to_string()))?;
        let known = id.parse::<LeaseId>().ok().and_then(|id| ctx.leases.get(&id));
        let lease = known.ok_or_else(|| Problem::not_found("lease on this node"))?;
        check_key(ctx, &lease, &key).await?;
        Ok(Self(lease))
    }
}

/// Whether a key belongs to the lease's account.
pub(crate) async fn check_key(ctx: &Context, lease: &Shared, key: &PublicKey) -> Result<(), Problem> {
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
        Err(error) => Err(Problem::unavailable(format!("whose key this is cannot be looked up now: {error}"))),
    }
}

fn forbidden() -> Problem {
    Problem::forbidden("this key does not belong to the lease's account")
}
