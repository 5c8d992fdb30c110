//! A connection to a port of the container.
//!
//! Guarantees: each direction ends by itself (`input end`, `output end`), so that a half-closed connection stays one; the last word
//! comes when both have ended. A connection that is reset on one side is broken off on the other.

use super::{Begun, Ended, Incoming, Outgoing, problem};
use crate::context::Context;
use bytes::BytesMut;
use pasture_api::channel::{Frame, MAX_FRAME};
use pasture_api::problem::Problem;
use pasture_runtime::{Connection, InstanceId, RuntimeError};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::oneshot;

pub(super) async fn begin(
    ctx: &Arc<Context>,
    container: &InstanceId,
    port: u16,
    incoming: Incoming,
    out: Outgoing,
) -> Result<Begun, Problem> {
    let Connection { input, output } = ctx.runtime.connect(container, port).await.map_err(|error| match &error {
        RuntimeError::Io { source, .. } if source.kind() == io::ErrorKind::ConnectionRefused => {
            Problem::new(409, "port-closed", format!("nothing listens on port {port} of the container"))
        }
        RuntimeError::Io { source, .. } if source.kind() == io::ErrorKind::TimedOut => {
            Problem::new(409, "port-silent", format!("port {port} of the container does not answer"))
        }
        _ => problem(&error),
    })?;
    let work = async move {
        let (all, said) = oneshot::channel();
        let told = async {
            tell(output, &out).await?;
            // It never fails: the listener outlives this.
            let _ = said.await;
            out.tell(&Frame::Exit(0)).await
        };
        tokio::select! {
            done = told => done,
            () = listen(incoming, input, all) => Err(Ended::Gone),
        }
    };
    Ok(Begun { work: Box::pin(work), after: Box::pin(async {}) })
}

/// Passes on what the client says until it is gone; `all`: told when it has said all.
async fn listen(mut incoming: Incoming, mut input: Pin<Box<dyn AsyncWrite + Send>>, all: oneshot::Sender<()>) {
    let mut open = true;
    let mut all = Some(all);
    loop {
        match incoming.next().await {
            // One who reads no more has perhaps still something to say.
            Some(Frame::Input(bytes)) => open = open && input.write_all(&bytes).await.is_ok(),
            Some(Frame::InputEnd) => {
                open = false;
                let _ = input.shutdown().await;
                all.take().map(|all| all.send(()));
            }
            Some(Frame::Still) => {}
            Some(_) | None => return,
        }
    }
}

async fn tell(mut output: Pin<Box<dyn AsyncRead + Send>>, out: &Outgoing) -> Result<(), Ended> {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(MAX_FRAME);
        match (&mut output).take(MAX_FRAME as u64).read_buf(&mut buffer).await {
            Ok(0) => return out.tell(&Frame::OutputEnd).await,
            Ok(_) => out.tell(&Frame::Output(buffer.split().freeze())).await?,
            Err(error) => return Err(Problem::new(409, "port-broken", format!("the container broke the connection off: {error}")).into()),
        }
    }
}
