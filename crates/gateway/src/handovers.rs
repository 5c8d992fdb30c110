//! `GET /v1/ledger/handovers`: how a client gets from the validators that it trusts to today's.
//!
//! Guarantees: an answer has a bounded number of handovers; a set that this network never had is an error with a code of its own,
//! since it means another network or another history, and not a mistake in the request. What is answered proves itself: nothing here
//! is checked, or needs to be believed.

use crate::server::App;
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use pasture_api::{HandoversView, Problem};
use serde::Deserialize;
use std::sync::Arc;

/// What is asked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asked {
    from: Option<String>,
}

/// The handovers since a set.
pub(crate) async fn list(State(app): State<Arc<App>>, asked: Result<Query<Asked>, QueryRejection>) -> Result<Json<HandoversView>, Problem> {
    let Query(asked) = asked.map_err(|e| Problem::bad_request(e.body_text()))?;
    let digits = asked.from.unwrap_or_default();
    let mut from = [0; 32];
    hex::decode_to_slice(&digits, &mut from)
        .map_err(|_| Problem::bad_request("`from` is expected: the hash of a set of validators, 64 digits in hex"))?;
    let view = app.backend.handovers(from).await?;
    view.map(Json).ok_or_else(|| {
        Problem::new(
            404,
            "unknown-validators",
            format!("the validators {digits} never had the seats of this network, as far as is known here"),
        )
    })
}
