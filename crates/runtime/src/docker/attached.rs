//! Commands inside an instance whose streams stay open.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bollard::{container::LogOutput, errors::Error, exec::StartExecResults, models::ExecConfig};
use bytes::Bytes;
use futures::{
    StreamExt,
    future::BoxFuture,
    stream::{BoxStream, Stream},
};
use tokio::time::{sleep, timeout};

use super::{Inner, instance::start_code, podman};
use crate::{Attached, InstanceId, LogStream, RuntimeError};

/// How long after the end of a command's output the engine may need to note its end.
const END_NOTED_WITHIN: Duration = Duration::from_secs(5);
/// Pauses between looks at a command that is about to end.
const LOOK_AGAIN: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(200));
/// How an engine begins to say, in the command's own output, that there is no such command: Docker, and Podman with either runtime.
const NOT_BEGUN: [&[u8]; 3] = [b"OCI runtime exec failed", b"Error: runc: exec failed", b"Error: crun: "];

pub(super) async fn attach(
    inner: Arc<Inner>,
    id: &InstanceId,
    command: Vec<String>,
    env: BTreeMap<String, String>,
) -> Result<Attached, RuntimeError> {
    let exec = make(&inner, id, command, env, false).await?;
    let started = inner.docker.start_exec(&exec, None).await.map_err(|error| inner.engine_error(error))?;
    let StartExecResults::Attached { output, input } = started else {
        return Err(RuntimeError::Conflict("the engine keeps the command's streams to itself".into()));
    };
    let told = Arc::clone(&inner);
    let output = output.map(move |item| match item {
        Ok(LogOutput::StdErr { message }) => Ok((LogStream::Stderr, message)),
        Ok(LogOutput::StdOut { message } | LogOutput::StdIn { message } | LogOutput::Console { message }) => {
            Ok((LogStream::Stdout, message))
        }
        Err(error) => Err(told.engine_error(error)),
    });
    let output = begun(Arc::clone(&inner), exec.clone(), output.boxed());
    let (code, kill) = endings(&inner, id, exec);
    Ok(Attached { input, output, code, kill })
}

/// Describes a command to the engine.
pub(super) async fn make(
    inner: &Inner,
    id: &InstanceId,
    command: Vec<String>,
    env: BTreeMap<String, String>,
    terminal: bool,
) -> Result<String, RuntimeError> {
    if command.is_empty() {
        return Err(RuntimeError::Invalid { field: "command", why: "is empty".into() });
    }
    let config = ExecConfig {
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        tty: Some(terminal),
        env: Some(env.into_iter().map(|(name, value)| format!("{name}={value}")).collect()),
        cmd: Some(command),
        ..Default::default()
    };
    match inner.docker.create_exec(&id.0, config).await.map_err(podman::as_docker) {
        Ok(exec) => Ok(exec.id),
        Err(Error::DockerResponseServerError { status_code: 404, .. }) => {
            Err(RuntimeError::NotFound { what: "instance", name: id.0.clone() })
        }
        Err(Error::DockerResponseServerError { status_code: 409, message }) => Err(RuntimeError::Conflict(message)),
        Err(error) => Err(inner.engine_error(error)),
    }
}

/// How to learn a command's exit code, and how to end it.
pub(super) fn endings(inner: &Arc<Inner>, id: &InstanceId, exec: String) -> (BoxFuture<'static, Option<i32>>, BoxFuture<'static, ()>) {
    let (asked, ended) = (Arc::clone(inner), exec.clone());
    let code = async move { timeout(END_NOTED_WITHIN, code(&asked, &ended)).await.ok().flatten() };
    let (inner, instance) = (Arc::clone(inner), id.clone());
    let kill = async move { inner.kill_exec(&exec, &instance).await };
    (Box::pin(code), Box::pin(kill))
}

/// The exit code, once the engine has noted the end.
async fn code(inner: &Inner, exec: &str) -> Option<i32> {
    let (mut pause, longest) = LOOK_AGAIN;
    loop {
        let seen = inner.docker.inspect_exec(exec).await.ok()?;
        if seen.running != Some(true) {
            return i32::try_from(seen.exit_code?).ok();
        }
        sleep(pause).await;
        pause = pause.saturating_mul(2).min(longest);
    }
}

/// The output of a command, or that there is no such command: the engine says that as if the command had.
pub(super) fn begun(
    inner: Arc<Inner>,
    exec: String,
    mut output: BoxStream<'static, Result<(LogStream, Bytes), RuntimeError>>,
) -> BoxStream<'static, Result<(LogStream, Bytes), RuntimeError>> {
    let first = async move {
        let first = output.next().await;
        let said = match &first {
            Some(Ok((_, bytes))) if NOT_BEGUN.iter().any(|words| bytes.starts_with(words)) => {
                String::from_utf8_lossy(bytes).trim().to_owned()
            }
            _ => return chained(first, output),
        };
        // A command may print these words too; but then it has begun, and seldom ends like this.
        match (timeout(END_NOTED_WITHIN, code(&inner, &exec)).await.ok().flatten(), start_code(&said)) {
            (Some(126 | 127), Some(code)) => {
                chained(Some(Err(RuntimeError::StartFailed { code, message: said })), futures::stream::empty())
            }
            _ => chained(first, output),
        }
    };
    futures::stream::once(first).flatten().boxed()
}

fn chained<T: Send + 'static>(first: Option<T>, rest: impl Stream<Item = T> + Send + 'static) -> BoxStream<'static, T> {
    futures::stream::iter(first).chain(rest).boxed()
}
