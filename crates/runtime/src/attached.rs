//! What stays open between an instance and us: commands (a herd's worker, a user's shell) and connections to its ports.

use bytes::Bytes;
use futures::{future::BoxFuture, stream::BoxStream};
use std::{pin::Pin, sync::Arc};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{LogStream, RuntimeError};

/// A running command. Dropping its streams closes its standard input; whether it ends then is up to it.
pub struct Attached {
    /// Its standard input; shutting it down is the end of the input.
    pub input: Pin<Box<dyn AsyncWrite + Send>>,
    /// What it writes, until it ends.
    pub output: BoxStream<'static, Result<(LogStream, Bytes), RuntimeError>>,
    /// Its exit code, once its output has ended; `None` if the engine does not know it.
    pub code: BoxFuture<'static, Option<i32>>,
    /// Ends it, where the engine's processes are visible to us.
    pub kill: BoxFuture<'static, ()>,
}

/// How large a terminal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TerminalSize {
    /// Characters in a line.
    pub columns: u16,
    /// Lines.
    pub rows: u16,
}

/// Tells a terminal its size. One that has ended has none, which is no error.
pub type Resize = Arc<dyn Fn(TerminalSize) -> BoxFuture<'static, ()> + Send + Sync>;

/// A command on a terminal of its own. Its output is one stream, the standard one.
pub struct Terminal {
    /// The command.
    pub command: Attached,
    /// Its terminal.
    pub resize: Resize,
}

/// A connection to a port inside an instance. Dropping both halves closes it.
pub struct Connection {
    /// To the port; shutting it down is the end of what we say.
    pub input: Pin<Box<dyn AsyncWrite + Send>>,
    /// From the port.
    pub output: Pin<Box<dyn AsyncRead + Send>>,
}

/// What lies at a path inside an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathKind {
    /// A folder, or a link to one.
    Folder,
    /// Anything else that is there.
    Other,
}
