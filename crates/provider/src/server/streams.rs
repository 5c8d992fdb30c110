//! What a client reads as it comes: events; the log and the output, which are sealed and go out as they lie here.

use super::access::{Lease, Watched, Who};
use crate::context::Context;
use crate::lease::log::LogSeen;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream::{self, Stream, StreamExt as _};
use pasture_api::data::{HASH_HEADER, LENGTH_HEADER, NodeEvent, Phase};
use pasture_api::problem::Problem;
use pasture_rt::ShutdownToken;
use pasture_store::sealed::SEGMENT_OVERHEAD;
use pasture_types::Timestamp;
use serde::Deserialize;
use std::convert::Infallible;
use std::io::SeekFrom;
use std::sync::Arc;
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio::sync::watch;
use tokio_stream::wrappers::BroadcastStream;

/// Bytes read from a file at once.
const READ_BYTES: u64 = 256 << 10;

/// Ends a stream at shutdown, so that open connections do not hold it up.
pub(crate) fn until_shutdown<T: Send + 'static>(
    cancel: ShutdownToken,
    stream: impl Stream<Item = T> + Send + 'static,
) -> impl Stream<Item = T> + Send {
    stream.take_until(Box::pin(async move { cancel.requested().await }))
}

pub(super) async fn events(State(ctx): State<Arc<Context>>, Watched(lease, who): Watched) -> Result<Response, Problem> {
    // Subscribed before the status is read: a change in between comes twice rather than never.
    let live = BroadcastStream::new(lease.events.subscribe());
    let status = NodeEvent::Status { status: Box::new(lease.status_at(Timestamp(ctx.clock.now_ms()))) };
    let pending = lease.view.borrow().pending.clone();
    // One who is too far behind is disconnected, and begins again with the status.
    let live = live.take_while(|e| std::future::ready(e.is_ok())).filter_map(|e| std::future::ready(e.ok()));
    let all = stream::iter(std::iter::once(status).chain(pending)).chain(live);
    // What a build prints is the user's alone.
    let all = all.filter(move |e| std::future::ready(who == Who::User || !matches!(e, NodeEvent::Output { .. })));
    let all = all
        .map(|event| Ok::<_, Infallible>(Event::default().json_data(&event).unwrap_or_else(|_| Event::default().comment("unprintable"))));
    Ok(Sse::new(until_shutdown(ctx.cancel.clone(), all)).keep_alive(KeepAlive::default()).into_response())
}

#[derive(Deserialize)]
pub(super) struct LogQuery {
    #[serde(default)]
    from: u64,
    #[serde(default)]
    follow: bool,
}

/// Reads a growing file up to what is durable.
struct LogReader {
    file: File,
    at: u64,
    seen: watch::Receiver<LogSeen>,
    follow: bool,
}

impl LogReader {
    async fn next(mut self) -> Option<(std::io::Result<Bytes>, Self)> {
        loop {
            let seen = *self.seen.borrow_and_update();
            if self.at < seen.bytes {
                let length = (seen.bytes - self.at).min(READ_BYTES);
                let mut buffer = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
                return match (&mut self.file).take(length).read_to_end(&mut buffer).await {
                    Ok(0) => None,
                    Ok(n) => {
                        self.at = self.at.saturating_add(n as u64);
                        Some((Ok(buffer.into()), self))
                    }
                    Err(error) => Some((Err(error), self)),
                };
            }
            if !self.follow || seen.done || self.seen.changed().await.is_err() {
                return None;
            }
        }
    }
}

pub(super) async fn logs(State(ctx): State<Arc<Context>>, Lease(lease): Lease, Query(query): Query<LogQuery>) -> Result<Response, Problem> {
    let seen = lease.log.subscribe();
    let bytes = seen.borrow().bytes;
    if query.from > bytes {
        return Err(Problem::bad_request(format!("the log has {bytes} bytes, offset {} lies beyond", query.from)));
    }
    let path = lease.dir.join("log");
    // Whoever begins inside a segment needs its record first.
    let segment = match lease.log_index.of(query.from).filter(|start| *start < query.from) {
        Some(start) => Some(segment_record(&path, start).await?),
        None => None,
    };
    let file = open(&path, query.from).await?;
    let reader = LogReader { file, at: query.from, seen, follow: query.follow };
    let all = stream::iter(segment.map(Ok)).chain(stream::unfold(reader, LogReader::next));
    let body = Body::from_stream(until_shutdown(ctx.cancel.clone(), all));
    Ok(([(CONTENT_TYPE, "application/octet-stream")], body).into_response())
}

async fn segment_record(path: &std::path::Path, start: u64) -> Result<Bytes, Problem> {
    let mut record = vec![];
    let mut file = open(path, start).await?.take(SEGMENT_OVERHEAD as u64);
    file.read_to_end(&mut record).await.map_err(|error| {
        tracing::error!(%error, path = %path.display(), "cannot read a kept file");
        Problem::internal("the node could not read this")
    })?;
    Ok(record.into())
}

async fn open(path: &std::path::Path, at: u64) -> Result<File, Problem> {
    let opened = async {
        let mut file = File::open(path).await?;
        file.seek(SeekFrom::Start(at)).await?;
        Ok::<_, std::io::Error>(file)
    };
    opened.await.map_err(|error| {
        tracing::error!(%error, path = %path.display(), "cannot read a kept file");
        Problem::internal("the node could not read this")
    })
}

#[derive(Deserialize)]
pub(super) struct OutputQuery {
    #[serde(default)]
    offset: u64,
}

pub(super) async fn output(
    State(ctx): State<Arc<Context>>,
    Lease(lease): Lease,
    Query(OutputQuery { offset }): Query<OutputQuery>,
) -> Result<Response, Problem> {
    let (phase, output) = {
        let view = lease.view.borrow();
        (view.status.phase, view.output)
    };
    if phase != Phase::Ended {
        return Err(Problem::conflict("the job has not ended yet"));
    }
    let Some(info) = output else { return Err(Problem::not_found("output: the job left none")) };
    if offset > info.bytes {
        return Err(Problem::bad_request(format!("the output has {} bytes, offset {offset} lies beyond", info.bytes)));
    }
    let rest = info.bytes - offset;
    let file = open(&lease.dir.join("output.sealed"), offset).await?;
    let chunks = stream::unfold((file, rest), |(mut file, rest)| async move {
        let mut buffer = Vec::with_capacity(usize::try_from(rest.min(READ_BYTES)).unwrap_or(0));
        match (&mut file).take(rest.min(READ_BYTES)).read_to_end(&mut buffer).await {
            Ok(0) => None,
            Ok(n) => Some((Ok(Bytes::from(buffer)), (file, rest.saturating_sub(n as u64)))),
            Err(error) => Some((Err(error), (file, 0))),
        }
    });
    let body = Body::from_stream(until_shutdown(ctx.cancel.clone(), chunks));
    let mut response = ([(CONTENT_TYPE, "application/octet-stream")], body).into_response();
    for (name, value) in
        [(HASH_HEADER, info.hash.to_string()), (LENGTH_HEADER, info.bytes.to_string()), (CONTENT_LENGTH.as_str(), rest.to_string())]
    {
        if let (Ok(name), Ok(value)) = (axum::http::HeaderName::try_from(name), axum::http::HeaderValue::try_from(value)) {
            response.headers_mut().insert(name, value);
        }
    }
    Ok(response)
}
