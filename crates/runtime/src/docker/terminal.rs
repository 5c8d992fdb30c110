//! Commands on a terminal of their own.
//!
//! The engine is spoken to directly here: what a terminal gives has no frames, and a client library that guesses at some would
//! believe lengths that a hostile workload writes. Guarantees: bytes pass as they are; memory is one buffer.

use std::{
    collections::BTreeMap,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bollard::query_parameters::ResizeExecOptionsBuilder;
use bytes::{Buf as _, Bytes, BytesMut};
use futures::StreamExt;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf},
    net::UnixStream,
    time::timeout,
};
use tokio_util::io::ReaderStream;

use super::{Inner, attached};
use crate::{Attached, InstanceId, LogStream, Resize, RuntimeError, Terminal, TerminalSize};

/// Longest head of an answer of the engine.
const MAX_HEAD: usize = 16 << 10;
/// Bytes of a terminal's output that are taken at once.
const READ_BYTES: usize = 16 << 10;
/// How often a size is told to a terminal that may not be there yet, and the pause between.
const RESIZE_ATTEMPTS: (u32, Duration) = (10, Duration::from_millis(20));

pub(super) async fn attach(
    inner: Arc<Inner>,
    id: &InstanceId,
    command: Vec<String>,
    env: BTreeMap<String, String>,
    size: TerminalSize,
) -> Result<Terminal, RuntimeError> {
    let exec = attached::make(&inner, id, command, env, true).await?;
    let limit = inner.config.request_timeout;
    let started = timeout(limit, start(&inner, &exec)).await;
    let stream = started.map_err(|_| RuntimeError::Deadline { doing: "start the command", after: limit })??;
    let resize = resize(&inner, &exec);
    resize(size).await;
    let (output, input) = tokio::io::split(stream);
    let told = Arc::clone(&inner);
    let output = ReaderStream::with_capacity(output, READ_BYTES).map(move |item| match item {
        Ok(bytes) => Ok((LogStream::Stdout, bytes)),
        Err(error) => Err(told.engine_error(error.into())),
    });
    let output = attached::begun(Arc::clone(&inner), exec.clone(), output.boxed());
    let (code, kill) = attached::endings(&inner, id, exec);
    Ok(Terminal { command: Attached { input: Box::pin(input), output, code, kill }, resize })
}

fn resize(inner: &Arc<Inner>, exec: &str) -> Resize {
    let (inner, exec) = (Arc::clone(inner), exec.to_owned());
    Arc::new(move |size: TerminalSize| {
        let (inner, exec) = (Arc::clone(&inner), exec.clone());
        Box::pin(async move {
            let (attempts, pause) = RESIZE_ATTEMPTS;
            for _ in 0..attempts {
                let options = ResizeExecOptionsBuilder::default().w(i32::from(size.columns)).h(i32::from(size.rows)).build();
                if inner.docker.resize_exec(&exec, options).await.is_ok() {
                    return;
                }
                tokio::time::sleep(pause).await;
            }
        })
    })
}

/// Starts a command and keeps the connection, which is the terminal from then on.
async fn start(inner: &Inner, exec: &str) -> Result<Stream, RuntimeError> {
    let failed = |error: io::Error| inner.engine_error(error.into());
    let mut stream = UnixStream::connect(&inner.config.socket).await.map_err(failed)?;
    let body = r#"{"Detach":false,"Tty":true}"#;
    let head = format!(
        "POST /exec/{exec}/start HTTP/1.1\r\nHost: engine\r\nContent-Type: application/json\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.map_err(failed)?;
    let mut read = BytesMut::new();
    let end = loop {
        if let Some(end) = read.windows(4).position(|w| w == b"\r\n\r\n") {
            break end;
        }
        if read.len() > MAX_HEAD || stream.read_buf(&mut read).await.map_err(failed)? == 0 {
            return Err(RuntimeError::Engine { status: 0, message: "the engine's answer has no head".into() });
        }
    };
    let head = String::from_utf8_lossy(read.get(..end).unwrap_or_default()).into_owned();
    read.advance(end + 4);
    let status = head.split(' ').nth(1).and_then(|code| code.parse::<u16>().ok()).unwrap_or(0);
    match status {
        // The engine upgrades; older ones just go on.
        101 | 200 => Ok(Stream { begun: read.freeze(), stream }),
        404 | 409 => Err(RuntimeError::Conflict("the instance does not run".into())),
        status => Err(RuntimeError::Engine { status, message: String::from_utf8_lossy(&read).trim().to_owned() }),
    }
}

/// The connection, behind what came together with its head.
struct Stream {
    begun: Bytes,
    stream: UnixStream,
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.begun.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let first = self.begun.len().min(buf.remaining());
        buf.put_slice(&self.begun.split_to(first));
        Poll::Ready(Ok(()))
    }
}

impl tokio::io::AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
