//! A command inside an instance whose streams stay open: what a herd's worker is to us.

use bytes::Bytes;
use futures::{future::BoxFuture, stream::BoxStream};
use std::pin::Pin;
use tokio::io::AsyncWrite;

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
