//! An account's volumes on the data plane. Routes: see `pasture_api::volumes`.
//!
//! Guarantees: only a key of the account sees and changes its volumes; names are checked before anything is looked up; what was begun
//! goes on when its client leaves.

use super::access::Account;
use crate::context::Context;
use crate::volumes::{self, VolumeError};
use axum::extract::{FromRequestParts, Path, Query, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::routing::{delete, get, post, put};
use axum::{Json, Router};
use pasture_api::Problem;
use pasture_api::volumes::VolumeView;
use pasture_rt::TaskKind;
use pasture_types::keep::check_kept_name;
use serde::Deserialize;
use std::sync::Arc;

type Ctx = State<Arc<Context>>;

pub(super) fn routes() -> Router<Arc<Context>> {
    Router::new()
        .route("/accounts/{account}/volumes", get(list))
        .route("/accounts/{account}/volumes/{name}", delete(remove))
        .route("/accounts/{account}/volumes/{name}/restore", post(restore))
        .route("/accounts/{account}/volumes/{name}/snapshots/{snapshot}", put(snapshot).delete(remove_snapshot))
}

/// The names in a path, checked.
struct Names {
    name: String,
    snapshot: String,
}

#[derive(Deserialize)]
struct RawNames {
    name: String,
    #[serde(default)]
    snapshot: Option<String>,
}

impl FromRequestParts<Arc<Context>> for Names {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, ctx: &Arc<Context>) -> Result<Self, Problem> {
        let Path(raw) = Path::<RawNames>::from_request_parts(parts, ctx).await.map_err(|e| Problem::bad_request(e.body_text()))?;
        for name in std::iter::once(&raw.name).chain(&raw.snapshot) {
            check_kept_name(name).map_err(Problem::bad_request)?;
        }
        Ok(Self { name: raw.name, snapshot: raw.snapshot.unwrap_or_default() })
    }
}

/// Has something done to its end, whether or not somebody still waits for it.
async fn to_the_end(work: impl Future<Output = Result<(), VolumeError>> + Send + 'static) -> Result<StatusCode, Problem> {
    match pasture_rt::spawn(TaskKind::Connection, work).join().await {
        Some(Ok(())) => Ok(StatusCode::NO_CONTENT),
        Some(Err(error)) => Err(error.problem()),
        None => Err(Problem::internal("the node could not do this")),
    }
}

async fn list(State(ctx): Ctx, Account(account): Account) -> Result<Json<Vec<VolumeView>>, Problem> {
    volumes::list(&ctx, &account).await.map(Json).map_err(|e| e.problem())
}

#[derive(Deserialize)]
struct RemoveQuery {
    #[serde(default)]
    all: bool,
}

async fn remove(
    State(ctx): Ctx,
    Account(account): Account,
    names: Names,
    Query(RemoveQuery { all }): Query<RemoveQuery>,
) -> Result<StatusCode, Problem> {
    to_the_end(async move { volumes::remove(&ctx, &account, &names.name, all).await }).await
}

async fn snapshot(State(ctx): Ctx, Account(account): Account, names: Names) -> Result<StatusCode, Problem> {
    to_the_end(async move { volumes::snapshot(&ctx, &account, &names.name, &names.snapshot).await }).await
}

async fn remove_snapshot(State(ctx): Ctx, Account(account): Account, names: Names) -> Result<StatusCode, Problem> {
    to_the_end(async move { volumes::remove_snapshot(&ctx, &account, &names.name, &names.snapshot).await }).await
}

#[derive(Deserialize)]
struct RestoreQuery {
    from: String,
    to: Option<String>,
}

async fn restore(
    State(ctx): Ctx,
    Account(account): Account,
    names: Names,
    Query(RestoreQuery { from, to }): Query<RestoreQuery>,
) -> Result<StatusCode, Problem> {
    for name in std::iter::once(&from).chain(&to) {
        check_kept_name(name).map_err(Problem::bad_request)?;
    }
    to_the_end(async move { volumes::restore(&ctx, &account, &names.name, &from, to.as_deref()).await }).await
}
