//! Asking a running machine.
//!
//! Guarantees: nobody there is told apart from somebody who does not answer; every line has a limit.

use super::{Answer, MAX_LINE, Request, reachable, socket_of};
use crate::NodeError;
use std::path::Path;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;

/// A conversation.
#[derive(Debug)]
pub struct Talk {
    reader: BufReader<OwnedReadHalf>,
    _writer: tokio::net::unix::OwnedWriteHalf,
}

/// Whether a machine with this directory runs now.
pub async fn is_running(data: &Path) -> bool {
    connect(data).await.is_some()
}

async fn connect(data: &Path) -> Option<UnixStream> {
    let (_way, socket) = reachable(&socket_of(data)).ok()?;
    UnixStream::connect(&socket).await.ok()
}

/// Asks the machine with this directory; `None` if none runs.
///
/// # Errors
/// It does not take the question.
pub async fn ask(data: &Path, request: &Request) -> Result<Option<Talk>, NodeError> {
    let Some(stream) = connect(data).await else { return Ok(None) };
    let (reader, mut writer) = stream.into_split();
    let mut line = serde_json::to_vec(request).map_err(|e| NodeError::Machine(e.to_string()))?;
    line.push(b'\n');
    writer.write_all(&line).await.map_err(|e| NodeError::Machine(format!("the machine does not take the question: {e}")))?;
    Ok(Some(Talk { reader: BufReader::new(reader), _writer: writer }))
}

impl Talk {
    /// What it says next; `None` once it says no more.
    ///
    /// # Errors
    /// What it says cannot be understood.
    pub async fn next(&mut self) -> Result<Option<Answer>, NodeError> {
        let mut line = vec![];
        let wrong = |why: String| NodeError::Machine(format!("the machine's answer cannot be understood: {why}"));
        let read = (&mut self.reader).take(MAX_LINE).read_until(b'\n', &mut line).await;
        match read {
            Ok(0) => Ok(None),
            Ok(_) => serde_json::from_slice(&line).map(Some).map_err(|e| wrong(e.to_string())),
            Err(e) => Err(wrong(e.to_string())),
        }
    }
}
