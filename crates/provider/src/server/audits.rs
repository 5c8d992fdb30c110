//! Where witnesses of audits call. Paths and words: `pasture_api::burst`.
//!
//! Guarantees: a nonce is looked at only under its witness's signature; everything else is decided in `crate::audits`.

use super::Ctx;
use super::streams::until_shutdown;
use crate::context::Context;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use futures::StreamExt as _;
use pasture_api::burst::{SET_EVENT, SHARES_EVENT, WALK_EVENT};
use pasture_api::{BeaconWord, BurstWord, NonceOffer, Problem};
use pasture_types::PublicKey;
use pasture_types::audit::nonce_digest;
use pasture_types::keys::Signature;
use std::convert::Infallible;
use std::sync::Arc;
use tokio_stream::wrappers::ReceiverStream;

/// Longest nonce with its signature, as JSON.
const MAX_OFFER: usize = 1_024;

pub(super) fn routes() -> Router<Arc<Context>> {
    Router::new()
        .route("/audits/ping", get(|| async { StatusCode::NO_CONTENT }))
        .route("/audits/{number}/nonce", post(nonce))
        .route("/audits/{number}/open", post(open))
}

async fn open(State(ctx): Ctx, Path(number): Path<u64>, body: Bytes) -> Result<Response, Problem> {
    if body.len() > MAX_OFFER {
        return Err(Problem::bad_request("this is too long for a beacon"));
    }
    let word: BeaconWord = serde_json::from_slice(&body).map_err(|e| Problem::bad_request(e.to_string()))?;
    Ok(ctx.bursts.open(number, word).await?.into_response())
}

async fn nonce(State(ctx): Ctx, Path(number): Path<u64>, body: Bytes) -> Result<Response, Problem> {
    if body.len() > MAX_OFFER {
        return Err(Problem::bad_request("this is too long for a nonce"));
    }
    let offer: NonceOffer = serde_json::from_slice(&body).map_err(|e| Problem::bad_request(e.to_string()))?;
    let bad = |_| Problem::unauthorized("the nonce is not signed by the witness that it names");
    let signature = Signature::try_from(&offer.signature).map_err(bad)?;
    let digest = nonce_digest(&ctx.facts.zone, number, &ctx.node, offer.nonce);
    PublicKey::from(offer.witness).verify(&digest, &signature).map_err(bad)?;
    let words = ctx.bursts.offer(number, offer.witness, offer.nonce, signature).await?;
    let events = ReceiverStream::new(words).map(|word| Ok::<_, Infallible>(event(&word)));
    Ok(Sse::new(until_shutdown(ctx.cancel.clone(), events)).into_response())
}

fn event(word: &BurstWord) -> Event {
    let said = match word {
        BurstWord::Set(set) => Event::default().event(SET_EVENT).json_data(set),
        BurstWord::Walk(walk) => Event::default().event(WALK_EVENT).json_data(walk),
        BurstWord::Shares(shares) => Event::default().event(SHARES_EVENT).json_data(shares),
    };
    said.unwrap_or_else(|_| Event::default().comment("unprintable"))
}
