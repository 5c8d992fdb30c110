//! Commands inside an instance whose streams stay open.

use std::{collections::BTreeMap, sync::Arc};

use bollard::{container::LogOutput, errors::Error, exec::StartExecResults, models::ExecConfig};
use futures::StreamExt;

use super::{Inner, podman};
use crate::{Attached, InstanceId, LogStream, RuntimeError};

pub(super) async fn attach(
    inner: Arc<Inner>,
    id: &InstanceId,
    command: Vec<String>,
    env: BTreeMap<String, String>,
) -> Result<Attached, RuntimeError> {
    if command.is_empty() {
        return Err(RuntimeError::Invalid { field: "command", why: "is empty".into() });
    }
    let config = ExecConfig {
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        env: Some(env.into_iter().map(|(name, value)| format!("{name}={value}")).collect()),
        cmd: Some(command),
        ..Default::default()
    };
    let exec = match inner.docker.create_exec(&id.0, config).await.map_err(podman::as_docker) {
        Ok(exec) => exec.id,
        Err(Error::DockerResponseServerError { status_code: 404, .. }) => {
            return Err(RuntimeError::NotFound { what: "instance", name: id.0.clone() });
        }
        Err(Error::DockerResponseServerError { status_code: 409, message }) => return Err(RuntimeError::Conflict(message)),
        Err(error) => return Err(inner.engine_error(error)),
    };
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
    let (asked, ended) = (Arc::clone(&inner), exec.clone());
    let code = async move {
        let seen = asked.docker.inspect_exec(&ended).await.ok()?;
        i32::try_from(seen.exit_code?).ok()
    };
    let instance = id.clone();
    let kill = async move { inner.kill_exec(&exec, &instance).await };
    Ok(Attached { input, output: output.boxed(), code: Box::pin(code), kill: Box::pin(kill) })
}
