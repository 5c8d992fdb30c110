//! A command in the container, with its streams or on a terminal.
//!
//! Guarantees: what the client says reaches the command in order, what the command says reaches the client in order for each stream;
//! the exit code comes after all output. A command that closes its input is not an error. When the channel ends before the command,
//! the command is ended, where the engine's processes are visible to us.

use super::{Begun, Ended, Incoming, Outgoing, problem};
use crate::context::Context;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use pasture_api::channel::{Cells, Frame, pieces};
use pasture_api::problem::Problem;
use pasture_runtime::{Attached, InstanceId, LogStream, Resize, RuntimeError, Terminal, TerminalSize};
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

const fn size(cells: Cells) -> TerminalSize {
    TerminalSize { columns: cells.columns, rows: cells.rows }
}

pub(super) async fn begin(
    ctx: &Arc<Context>,
    container: &InstanceId,
    command: Vec<String>,
    env: BTreeMap<String, String>,
    terminal: Option<Cells>,
    incoming: Incoming,
    out: Outgoing,
) -> Result<Begun, Problem> {
    let (attached, resize) = match terminal {
        None => (ctx.runtime.attach(container, command, env).await.map_err(|e| problem(&e))?, None),
        Some(cells) => {
            let begun = ctx.runtime.attach_terminal(container, command, env, size(cells)).await;
            let Terminal { command, resize } = begun.map_err(|e| problem(&e))?;
            (command, Some(resize))
        }
    };
    let Attached { input, output, code, kill } = attached;
    // Whether the command has ended by itself; if so there is nothing to kill.
    let ended = Arc::new(AtomicBool::new(false));
    let noted = Arc::clone(&ended);
    let work = async move {
        let told = async {
            tell(output, &out).await?;
            let code = code.await;
            noted.store(code.is_some(), Ordering::Relaxed);
            let code =
                code.ok_or_else(|| Problem::new(500, "engine", "the command has ended, and the container engine does not say how"))?;
            out.tell(&Frame::Exit(code)).await
        };
        tokio::select! {
            done = told => done,
            () = listen(incoming, input, resize) => Err(Ended::Gone),
        }
    };
    let after = async move {
        if !ended.load(Ordering::Relaxed) {
            kill.await;
        }
    };
    Ok(Begun { work: Box::pin(work), after: Box::pin(after) })
}

async fn tell(mut output: BoxStream<'static, Result<(LogStream, Bytes), RuntimeError>>, out: &Outgoing) -> Result<(), Ended> {
    while let Some(item) = output.next().await {
        let (stream, bytes) = item.map_err(|e| problem(&e))?;
        for piece in pieces(bytes) {
            let frame = match stream {
                LogStream::Stdout => Frame::Output(piece),
                LogStream::Stderr => Frame::Error(piece),
            };
            out.tell(&frame).await?;
        }
    }
    Ok(())
}

/// Passes on what the client says, until it is gone.
async fn listen(mut incoming: Incoming, input: Pin<Box<dyn AsyncWrite + Send>>, resize: Option<Resize>) {
    let mut input = Some(input);
    while let Some(frame) = incoming.next().await {
        match frame {
            Frame::Input(bytes) => {
                if let Some(to) = &mut input {
                    let said = async {
                        to.write_all(&bytes).await?;
                        to.flush().await
                    };
                    // A command that reads no more is left to end by itself.
                    if said.await.is_err() {
                        input = None;
                    }
                }
            }
            Frame::InputEnd => {
                if let Some(mut to) = input.take() {
                    let _ = to.shutdown().await;
                }
            }
            Frame::Resize(cells) => {
                if let Some(resize) = &resize {
                    resize(size(cells)).await;
                }
            }
            Frame::Still => {}
            _ => return,
        }
    }
}
