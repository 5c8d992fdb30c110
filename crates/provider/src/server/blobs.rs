//! Blobs of images for other machines. Paths: `pasture_api::blobs`.
//!
//! Guarantees: only a node of the ledger that signs is answered, so many at once; nothing is given but what any job of this machine may have.
//! A blob stays as long as somebody reads it.

use super::access::Machine;
use crate::context::Context;
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::header::CONTENT_LENGTH;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use bytes::Bytes;
use futures::StreamExt as _;
use pasture_api::blobs::MAX_LENGTH;
use pasture_api::problem::Problem;
use pasture_rt::TaskKind;
use pasture_types::ContentDigest;
use serde::Deserialize;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// Reads at once, of all machines: what more would ask for finds others, or comes again.
pub(crate) const READS: usize = 16;
/// Bytes of a chunk, and chunks that wait for the reader.
const CHUNK: usize = 1 << 18;
const AHEAD: usize = 2;

pub(super) fn routes() -> Router<Arc<Context>> {
    Router::new().route("/blobs/{digest}", get(blob))
}

#[derive(Deserialize)]
struct Range {
    #[serde(default)]
    from: u64,
    length: Option<u64>,
}

async fn blob(
    State(ctx): State<Arc<Context>>,
    _: Machine,
    Path(digits): Path<String>,
    Query(range): Query<Range>,
) -> Result<Response, Problem> {
    let digest = ContentDigest::of_digits(&digits).map_err(|e| Problem::bad_request(e.to_string()))?;
    let absent = || Problem::not_found("blob on this node");
    let store = ctx.pool.as_ref().and_then(|pool| pool.store()).cloned().ok_or_else(absent)?;
    let size = store.has(&digest).ok_or_else(absent)?;
    let left = size.checked_sub(range.from).ok_or_else(|| Problem::bad_request(format!("the blob has {size} bytes")))?;
    let length = range.length.unwrap_or(left).min(left).min(MAX_LENGTH);
    let slot = Arc::clone(&ctx.blob_reads).try_acquire_owned();
    let slot =
        slot.map_err(|_| Problem::new(503, "busy", format!("{READS} blobs are being read here, which is the most: ask another machine")))?;
    let (sender, receiver) = mpsc::channel(AHEAD);
    let reading = pasture_rt::spawn_blocking(TaskKind::Files, move || {
        let (_slot, _pin) = (slot, store.pin(vec![digest]));
        let sent = store.read(&digest).and_then(|(mut file, _)| {
            file.seek(SeekFrom::Start(range.from))?;
            let mut left = length;
            while left > 0 {
                let mut chunk = vec![0; CHUNK.min(usize::try_from(left).unwrap_or(CHUNK))];
                file.read_exact(&mut chunk)?;
                left = left.saturating_sub(chunk.len() as u64);
                // Nobody listens any more.
                if sender.blocking_send(Ok(Bytes::from(chunk))).is_err() {
                    return Ok(());
                }
            }
            Ok(())
        });
        if let Err(error) = sent {
            let _ = sender.blocking_send(Err(error));
        }
    });
    drop(reading);
    let cancel = ctx.cancel.clone();
    let stream = super::until_shutdown(cancel, ReceiverStream::new(receiver)).map(|chunk: std::io::Result<Bytes>| chunk);
    Ok(([(CONTENT_LENGTH, length)], Body::from_stream(stream)).into_response())
}
