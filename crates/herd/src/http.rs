//! The herd over plain HTTP, for shepherds that want nothing but that. Routes: `docs/specs/herd.md` §3.
//!
//! Guarantees: bodies have a limit before they are read; an answer that is no success is a problem. Who may ask is the caller's
//! to decide.

use crate::herd::{Herd, HerdError};
use crate::limits::{MAX_BATCH, MAX_FRAME_BYTES};
use crate::session;
use crate::task::{Busy, NewTask, Seq, Submitted, TaskId};
use axum::Json;
use axum::body::Body;
use axum::extract::{Query, Request};
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::StreamExt as _;
use pasture_api::Problem;
use pasture_rt::TaskKind;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::convert::Infallible;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// Results that one answer has at most.
const MAX_PAGE: usize = 4096;
/// Bytes of results that one answer has at most, roughly.
const MAX_PAGE_BYTES: usize = 4 << 20;
/// Longest that a question for results may wait for some.
const MAX_WAIT_MS: u64 = 60_000;

impl From<HerdError> for Problem {
    fn from(error: HerdError) -> Self {
        Self::unavailable(error.to_string())
    }
}

/// Tasks as one may post them: a list, or a list in an object.
#[derive(Deserialize)]
#[serde(untagged)]
enum Tasks {
    List(Vec<NewTask>),
    Object { tasks: Vec<NewTask> },
}

#[derive(Deserialize)]
struct Ids {
    ids: Vec<TaskId>,
}

#[derive(Deserialize)]
struct ResultsQuery {
    #[serde(default)]
    after: Seq,
    #[serde(default = "most")]
    max: usize,
    /// Wait so long for a first one.
    #[serde(default)]
    wait_ms: u64,
    /// Go on until the herd ends: JSON lines.
    #[serde(default)]
    follow: bool,
}

const fn most() -> usize {
    MAX_PAGE
}

#[derive(Deserialize)]
struct Upto {
    upto: Seq,
}

fn query<T: DeserializeOwned>(uri: &Uri) -> Result<T, Problem> {
    Query::<T>::try_from_uri(uri).map(|q| q.0).map_err(|e| Problem::bad_request(e.body_text()))
}

async fn body<T: DeserializeOwned>(request: Request) -> Result<T, Problem> {
    let bytes = axum::body::to_bytes(request.into_body(), MAX_FRAME_BYTES).await;
    let bytes = bytes.map_err(|_| Problem::too_large(format!("a body has at most {MAX_FRAME_BYTES} bytes")))?;
    serde_json::from_slice(&bytes).map_err(|e| Problem::bad_request(format!("the body is not the JSON that is expected: {e}")))
}

/// Answers a request; `path` is what follows `…/herd/`.
pub async fn handle(herd: Herd, path: &str, request: Request) -> Response {
    answer(herd, path, request).await.unwrap_or_else(IntoResponse::into_response)
}

async fn answer(herd: Herd, path: &str, request: Request) -> Result<Response, Problem> {
    match (request.method(), path) {
        (&Method::GET, "" | "status") => Ok(Json(herd.status().await?).into_response()),
        (&Method::GET, "receipt") => Ok(Json(herd.receipt().await?).into_response()),
        (&Method::GET, "results") => results(herd, query(request.uri())?).await,
        (&Method::POST, "tasks") => {
            let tasks = match body(request).await? {
                Tasks::List(tasks) | Tasks::Object { tasks } => tasks,
            };
            if tasks.len() > MAX_BATCH {
                return Err(Problem::too_large(format!("{} tasks; at most {MAX_BATCH} fit into one batch", tasks.len())));
            }
            Ok(submitted(herd.submit(tasks).await?))
        }
        (&Method::POST, "acknowledge") => {
            herd.acknowledge(query::<Upto>(request.uri())?.upto).await?;
            Ok(StatusCode::NO_CONTENT.into_response())
        }
        (&Method::POST, "cancel") => {
            let Ids { ids } = body(request).await?;
            let count = herd.cancel(ids).await?;
            Ok(Json(serde_json::json!({ "cancelled": count })).into_response())
        }
        (&Method::POST, "stream") => Ok(stream(herd, request)),
        (_, "" | "status" | "receipt" | "results" | "tasks" | "acknowledge" | "cancel" | "stream") => {
            Err(Problem::new(405, "method-not-allowed", format!("{} is not possible here", request.method())))
        }
        _ => Err(Problem::not_found("route of a herd")),
    }
}

/// 200 if all were looked at, 429 if only the first ones fit, 507 and 503 if the journal is the reason. The body is the same.
fn submitted(submitted: Submitted) -> Response {
    let status = match &submitted.busy {
        None => StatusCode::OK,
        Some(Busy::Full { .. }) => StatusCode::TOO_MANY_REQUESTS,
        Some(Busy::DiskFull { .. }) => StatusCode::INSUFFICIENT_STORAGE,
        Some(Busy::Broken { .. } | Busy::Closing) => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, Json(submitted)).into_response()
}

async fn results(herd: Herd, asked: ResultsQuery) -> Result<Response, Problem> {
    let most = asked.max.clamp(1, MAX_PAGE);
    if asked.follow {
        let lines = futures::stream::unfold(Some((herd, asked.after)), move |state| async move {
            let (herd, after) = state?;
            let page = herd.results(after, most, MAX_PAGE_BYTES).await.ok()?;
            let mut out = vec![];
            for result in &page.results {
                out.extend(serde_json::to_vec(result).unwrap_or_default());
                out.push(b'\n');
            }
            let last = page.results.last().map_or(after, |f| f.seq);
            let more = !(page.closing && last >= page.released);
            Some((Ok::<_, Infallible>(Bytes::from(out)), more.then_some((herd, last))))
        });
        return Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response());
    }
    let wait = Duration::from_millis(asked.wait_ms.min(MAX_WAIT_MS));
    let page = tokio::time::timeout(wait, herd.results(asked.after, most, MAX_PAGE_BYTES)).await;
    let results = match page {
        Ok(page) => page?.results,
        Err(_) => vec![],
    };
    Ok(Json(serde_json::json!({ "results": results })).into_response())
}

/// A long conversation: the request's body is what the shepherd says, the answer's body what the herd says, at the same time.
fn stream(herd: Herd, request: Request) -> Response {
    let (out, told) = mpsc::channel(session::OUTBOX);
    let input = request.into_body().into_data_stream();
    pasture_rt::spawn(TaskKind::Connection, session::serve(herd, input, out));
    let told = ReceiverStream::new(told).map(Ok::<_, Infallible>);
    ([(header::CONTENT_TYPE, "application/octet-stream")], Body::from_stream(told)).into_response()
}
