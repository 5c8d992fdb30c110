//! Files out of and into a container that runs.
//!
//! Guarantees: what comes out is bounded, and an end that was not told is a broken copy; what goes in is gathered in a file without a
//! name, compared with the length and hash that were signed, and looked through as a whole before the container sees a byte of it.

use super::{Begun, Ended, Incoming, Outgoing, archive, problem};
use crate::context::Context;
use crate::detect;
use crate::lease::Shared;
use bytes::Bytes;
use futures::StreamExt as _;
use pasture_api::channel::{Frame, ROOT, pieces};
use pasture_api::problem::Problem;
use pasture_rt::{TaskKind, spawn_blocking};
use pasture_runtime::{InstanceId, PathKind, Runtime};
use pasture_types::BlobHash;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::sync::Arc;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// An archive is a little larger than what is in it: headers and padding of every entry.
const OVERHEAD: u64 = 64 << 20;
/// Bytes that go to the engine at once.
const WRITE_BYTES: usize = 256 << 10;
/// Such pieces that wait for the engine.
const WAITING: usize = 4;

/// The archive of a path, as it comes.
pub(super) async fn read(
    ctx: &Arc<Context>,
    container: &InstanceId,
    path: &str,
    mut incoming: Incoming,
    out: Outgoing,
) -> Result<Begun, Problem> {
    let limit = ctx.options.max_output_bytes.saturating_add(OVERHEAD);
    let mut files = ctx.runtime.read_files(container, path);
    // A path that is not there is an answer, not a broken copy.
    let first = files.next().await.transpose().map_err(|e| problem(&e))?;
    let work = async move {
        let tell = async {
            let mut total = 0u64;
            let mut next = first.map(Ok);
            while let Some(piece) = next {
                let piece = piece.map_err(|e| problem(&e))?;
                total = total.saturating_add(piece.len() as u64);
                if total > limit {
                    return Err(Problem::too_large(format!("this is larger than {limit} bytes, which is the most that is copied")).into());
                }
                for piece in pieces(piece) {
                    out.tell(&Frame::Output(piece)).await?;
                }
                next = files.next().await;
            }
            out.tell(&Frame::OutputEnd).await?;
            out.tell(&Frame::Exit(0)).await
        };
        let gone = async { while let Some(Frame::Still | Frame::InputEnd) = incoming.next().await {} };
        tokio::select! {
            done = tell => done,
            () = gone => Err(Ended::Gone),
        }
    };
    Ok(Begun { work: Box::pin(work), after: Box::pin(async {}) })
}

/// What a client wants written.
pub(super) struct Asked {
    pub(super) path: String,
    pub(super) name: String,
    pub(super) bytes: u64,
    pub(super) hash: BlobHash,
}

/// Folder and name in it that a path means.
async fn place(runtime: &dyn Runtime, container: &InstanceId, asked: &Asked) -> Result<(String, String), Problem> {
    let path = asked.path.as_str();
    let kind = runtime.look_at(container, path).await.map_err(|e| problem(&e))?;
    if kind == Some(PathKind::Folder) {
        return Ok((path.to_owned(), asked.name.clone()));
    }
    let no_folder = |path: &str| Problem::new(404, "no-such-path", format!("there is no folder {path} in the container"));
    let (parent, name) = path.rsplit_once('/').ok_or_else(|| no_folder(path))?;
    // `a/` means a folder, and there is none.
    if name.is_empty() || name == "." {
        return Err(no_folder(path));
    }
    let parent = if parent.is_empty() { "/" } else { parent };
    match runtime.look_at(container, parent).await.map_err(|e| problem(&e))? {
        Some(PathKind::Folder) => Ok((parent.to_owned(), name.to_owned())),
        Some(PathKind::Other) | None => Err(no_folder(parent)),
    }
}

/// Takes an archive and has it unpacked.
pub(super) async fn write(
    ctx: &Arc<Context>,
    lease: &Arc<Shared>,
    container: &InstanceId,
    asked: Asked,
    mut incoming: Incoming,
    out: Outgoing,
) -> Result<Begun, Problem> {
    let limit = lease.terms.resources.disk_bytes;
    if asked.bytes > limit.saturating_add(OVERHEAD) {
        return Err(Problem::too_large(format!("this has {} bytes; the job asked for a disk of {limit}", asked.bytes)));
    }
    if detect::free_disk(&lease.dir) < asked.bytes.saturating_mul(2).saturating_add(ctx.options.reserve_disk_bytes) {
        return Err(Problem::new(507, "disk-full", "this node has no room for what is to be copied"));
    }
    let (folder, name) = place(ctx.runtime.as_ref(), container, &asked).await?;
    let spool = tempfile::tempfile_in(&lease.dir).map_err(|e| kept(&e))?;
    let (runtime, container) = (Arc::clone(&ctx.runtime), container.clone());
    let work = async move {
        let spool = gather(&mut incoming, spool, &asked).await?;
        let spool = look_through(spool, name.clone(), limit).await?;
        let (send, pieces) = mpsc::channel(WAITING);
        let writing = spawn_blocking(TaskKind::Connection, move || pass_on(spool, &name, limit, send));
        runtime.write_files(&container, &folder, ReceiverStream::new(pieces).boxed()).await.map_err(|e| problem(&e))?;
        // It has ended, since the engine has read it to its end.
        drop(writing);
        out.tell(&Frame::Exit(0)).await
    };
    Ok(Begun { work: Box::pin(work), after: Box::pin(async {}) })
}

fn kept(error: &io::Error) -> Problem {
    if error.kind() == io::ErrorKind::StorageFull {
        return Problem::new(507, "disk-full", "this node's disk is full");
    }
    tracing::error!(%error, "what is to be copied cannot be kept");
    Problem::internal("the node could not keep what is to be copied")
}

/// Writes what the client says to a file, as long as it was announced.
async fn gather(incoming: &mut Incoming, spool: File, asked: &Asked) -> Result<File, Ended> {
    let mut file = tokio::fs::File::from_std(spool);
    let (mut hasher, mut got) = (blake3::Hasher::new(), 0u64);
    loop {
        match incoming.next().await {
            Some(Frame::Input(bytes)) => {
                got = got.saturating_add(bytes.len() as u64);
                if got > asked.bytes {
                    return Err(Problem::bad_request("the archive is longer than announced").into());
                }
                hasher.update(&bytes);
                file.write_all(&bytes).await.map_err(|e| kept(&e))?;
            }
            Some(Frame::InputEnd) => break,
            Some(Frame::Still) => {}
            Some(_) | None => return Err(Ended::Gone),
        }
    }
    file.flush().await.map_err(|e| kept(&e))?;
    if got != asked.bytes || BlobHash(*hasher.finalize().as_bytes()) != asked.hash {
        return Err(Problem::bad_request("the archive is not the one that was announced").into());
    }
    Ok(file.into_std().await)
}

async fn look_through(mut spool: File, name: String, limit: u64) -> Result<File, Problem> {
    let looked =
        spawn_blocking(TaskKind::Connection, move || archive::rewrite(&mut spool, (ROOT, &name), limit, io::sink()).map(|()| spool));
    let looked = looked.join().await.unwrap_or_else(|| Err(io::Error::other("looking through it failed")));
    looked.map_err(|e| Problem::new(422, "bad-archive", e.to_string()))
}

/// Writes to the engine, at its pace.
struct Pipe(mpsc::Sender<io::Result<Bytes>>);

impl Write for Pipe {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(Ok(Bytes::copy_from_slice(buf)));
        sent.map(|()| buf.len()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn pass_on(mut spool: File, name: &str, limit: u64, send: mpsc::Sender<io::Result<Bytes>>) {
    let sink = BufWriter::with_capacity(WRITE_BYTES, Pipe(send.clone()));
    // An engine that reads no more says why itself; a file that cannot be read breaks its archive off.
    if let Err(error) = archive::rewrite(&mut spool, (ROOT, name), limit, sink) {
        let _ = send.blocking_send(Err(error));
    }
}
