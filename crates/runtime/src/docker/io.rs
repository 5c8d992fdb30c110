//! Usage, commands inside, and files out of an instance.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bollard::{
    container::LogOutput,
    errors::Error,
    exec::StartExecResults,
    models::{ContainerStatsResponse, ExecConfig},
    query_parameters::{DownloadFromContainerOptionsBuilder, StatsOptionsBuilder},
};
use futures::{
    StreamExt,
    stream::{BoxStream, Stream, unfold},
};
use tokio::{io::AsyncWriteExt, time::timeout};

use super::{Inner, podman, volume::LoopVolume, workload::Names};
use crate::{EngineTime, ExecOutput, InstanceId, MAX_EXEC_OUTPUT_BYTES, Observed, RuntimeError, UsageSample};

/// How often the end of a command is looked for after it was killed, and the pause in between: five seconds in all.
const KILL_ATTEMPTS: u32 = 50;
const KILL_PAUSE: Duration = Duration::from_millis(100);
/// Between two samples, where we have to ask for each.
const SAMPLE_PAUSE: Duration = Duration::from_secs(1);

/// Kills a process of an instance.
fn end_process(pid: Option<i64>, id: &InstanceId) {
    let Some(pid) = pid.and_then(|pid| i32::try_from(pid).ok()).and_then(rustix::process::Pid::from_raw) else { return };
    // The number may have passed to somebody else: only what lies in the instance's own cgroup is ours to end.
    let group = std::fs::read_to_string(format!("/proc/{}/cgroup", pid.as_raw_nonzero())).unwrap_or_default();
    if group.contains(&id.0) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}

pub(super) fn stats(inner: Arc<Inner>, id: InstanceId) -> impl Stream<Item = Result<UsageSample, RuntimeError>> + Send {
    let source: Option<BoxStream<'static, Result<ContainerStatsResponse, Error>>> = None;
    unfold((inner, id, source, false), |(inner, id, mut source, failed)| async move {
        if failed {
            return None;
        }
        match next_sample(&inner, &id, &mut source).await {
            Ok(Some(sample)) => Some((Ok(sample), (inner, id, source, false))),
            Ok(None) => None,
            Err(error) => Some((Err(error), (inner, id, source, true))),
        }
    })
}

async fn next_sample(
    inner: &Inner,
    id: &InstanceId,
    source: &mut Option<BoxStream<'static, Result<ContainerStatsResponse, Error>>>,
) -> Result<Option<UsageSample>, RuntimeError> {
    loop {
        let Some(stream) = source else {
            if matches!(inner.wait_started(id).await?, Observed::Exited(_)) {
                return Ok(None);
            }
            // Podman's own pace is five seconds: it is asked for one sample at a time.
            if inner.facts.podman {
                tokio::time::sleep(SAMPLE_PAUSE).await;
            }
            let options = StatsOptionsBuilder::default().stream(!inner.facts.podman).build();
            *source = Some(inner.docker.stats(&id.0, Some(options)).boxed());
            continue;
        };
        match stream.next().await {
            None if inner.facts.podman => *source = None,
            None => return Ok(None),
            Some(Err(Error::DockerResponseServerError { status_code: 404, .. })) => {
                return Err(RuntimeError::NotFound { what: "instance", name: id.0.clone() });
            }
            Some(Err(error)) => return Err(inner.engine_error(error)),
            Some(Ok(response)) => match sample(response) {
                Some(sample) => return Ok(Some(sample)),
                // The engine sends empty samples about what does not run, for ever.
                None if matches!(inner.wait_started(id).await?, Observed::Exited(_)) => return Ok(None),
                None => {}
            },
        }
    }
}

fn sample(response: ContainerStatsResponse) -> Option<UsageSample> {
    let at = EngineTime::parse_rfc3339(response.read.as_deref()?)?;
    let cpu_ns = response.cpu_stats?.cpu_usage?.total_usage?;
    let memory = response.memory_stats.unwrap_or_default();
    let details = memory.stats.unwrap_or_default();
    // Pages that only mirror files; version 1 and version 2 of cgroups name them differently.
    let reclaimable = details.get("total_inactive_file").or_else(|| details.get("inactive_file")).copied().unwrap_or(0);
    let usage = memory.usage?;
    let networks = response.networks.unwrap_or_default();
    Some(UsageSample {
        at,
        cpu_ns,
        memory_bytes: usage.saturating_sub(reclaimable),
        rx_bytes: networks.values().filter_map(|network| network.rx_bytes).sum(),
        tx_bytes: networks.values().filter_map(|network| network.tx_bytes).sum(),
        pids: response.pids_stats.and_then(|pids| pids.current).unwrap_or(0),
    })
}

impl Inner {
    pub(super) async fn exec(&self, id: &InstanceId, command: Vec<String>, limit: Duration) -> Result<ExecOutput, RuntimeError> {
        if command.is_empty() {
            return Err(RuntimeError::Invalid { field: "command", why: "is empty".into() });
        }
        let config = ExecConfig { attach_stdout: Some(true), attach_stderr: Some(true), cmd: Some(command), ..Default::default() };
        let exec = match self.docker.create_exec(&id.0, config).await.map_err(podman::as_docker) {
            Ok(exec) => exec.id,
            Err(Error::DockerResponseServerError { status_code: 404, .. }) => {
                return Err(RuntimeError::NotFound { what: "instance", name: id.0.clone() });
            }
            Err(Error::DockerResponseServerError { status_code: 409, message }) => return Err(RuntimeError::Conflict(message)),
            Err(error) => return Err(self.engine_error(error)),
        };
        let mut output = ExecOutput { code: 0, stdout: Vec::new(), stderr: Vec::new(), truncated: false };
        match timeout(limit, self.run_exec(&exec, &mut output)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(self.engine_error(error)),
            Err(_) => {
                self.kill_exec(&exec, id).await;
                return Err(RuntimeError::Deadline { doing: "finish the command", after: limit });
            }
        }
        let ended = self.docker.inspect_exec(&exec).await.map_err(|error| self.engine_error(error))?;
        output.code = ended.exit_code.and_then(|code| i32::try_from(code).ok()).unwrap_or(-1);
        Ok(output)
    }

    async fn run_exec(&self, exec: &str, output: &mut ExecOutput) -> Result<(), Error> {
        let StartExecResults::Attached { output: mut told, .. } = self.docker.start_exec(exec, None).await? else { return Ok(()) };
        while let Some(item) = told.next().await {
            let (kept, message) = match item? {
                LogOutput::StdErr { message } => (&mut output.stderr, message),
                LogOutput::StdOut { message } | LogOutput::StdIn { message } | LogOutput::Console { message } => {
                    (&mut output.stdout, message)
                }
            };
            let room = MAX_EXEC_OUTPUT_BYTES.saturating_sub(kept.len());
            let (fits, rest) = message.split_at_checked(room).unwrap_or((&message, &[]));
            kept.extend_from_slice(fits);
            output.truncated |= !rest.is_empty();
        }
        Ok(())
    }

    /// The API has no way to end a command, but its process is on this host.
    pub(super) async fn kill_exec(&self, exec: &str, id: &InstanceId) {
        if !self.facts.can_signal {
            return;
        }
        // A busy engine may not answer, and one that has just begun a command does not know its process yet.
        for _ in 0..KILL_ATTEMPTS {
            match self.docker.inspect_exec(exec).await {
                Ok(seen) if seen.running != Some(true) => return,
                Ok(seen) => end_process(seen.pid, id),
                Err(Error::DockerResponseServerError { status_code: 404, .. }) => return,
                Err(error) => tracing::debug!(%error, "the engine does not say where a command runs, asking again"),
            }
            tokio::time::sleep(KILL_PAUSE).await;
        }
        tracing::warn!(instance = %id.0, "a command that nobody reads any more could not be ended");
    }

    pub(super) async fn copy_out(&self, id: &InstanceId, path: &str, dest: &Path, max_bytes: u64) -> Result<u64, RuntimeError> {
        if !path.starts_with('/') {
            return Err(RuntimeError::Invalid { field: "path", why: "must be absolute".into() });
        }
        let seen = self.look(id).await?.ok_or_else(|| RuntimeError::NotFound { what: "instance", name: id.0.clone() })?;
        if let Some((owner, key)) = seen.key() {
            // After a reboot the engine would show the empty directory below the mount.
            LoopVolume::new(&self.config.state_dir, owner.as_str(), &Names::of(&owner, &key).object).remount().await?;
        }
        let failed = |error| RuntimeError::io(format!("write {}", dest.display()), error);
        let mut file = tokio::fs::File::create(dest).await.map_err(failed)?;
        let mut unfinished = RemoveOnDrop(Some(dest.to_owned()));
        let asked = if self.facts.podman { podman::plain_path(path) } else { path };
        let options = DownloadFromContainerOptionsBuilder::default().path(asked).build();
        let mut pieces = std::pin::pin!(self.docker.download_from_container(&id.0, Some(options)));
        let mut total = 0u64;
        while let Some(piece) = pieces.next().await {
            let piece = match piece {
                Ok(piece) => piece,
                Err(Error::DockerResponseServerError { status_code: 404, .. }) => {
                    return Err(RuntimeError::NotFound { what: "path", name: path.to_owned() });
                }
                Err(error) => return Err(self.engine_error(error)),
            };
            total = total.saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
            if total > max_bytes {
                return Err(RuntimeError::TooLarge { limit_bytes: max_bytes });
            }
            file.write_all(&piece).await.map_err(failed)?;
        }
        file.flush().await.map_err(failed)?;
        if self.facts.podman {
            let (dest, path) = (dest.to_owned(), path.to_owned());
            let renaming = pasture_rt::spawn_blocking(pasture_rt::TaskKind::Files, move || podman::rename_entries(&dest, &path));
            total = renaming.join().await.unwrap_or_else(|| Err(std::io::Error::other("whoever renamed it ended"))).map_err(failed)?;
        }
        unfinished.0 = None;
        Ok(total)
    }
}

/// Half an archive is worse than none: it goes also when the copying is cancelled.
struct RemoveOnDrop(Option<PathBuf>);

impl Drop for RemoveOnDrop {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            let _ = std::fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use bollard::models::{ContainerCpuStats, ContainerCpuUsage, ContainerMemoryStats};

    use super::*;

    #[test]
    fn an_empty_sample_is_no_sample_and_page_cache_does_not_count() {
        assert_eq!(sample(ContainerStatsResponse { read: Some("0001-01-01T00:00:00Z".into()), ..Default::default() }), None);
        let full = ContainerStatsResponse {
            read: Some("1970-01-01T00:00:01Z".into()),
            cpu_stats: Some(ContainerCpuStats {
                cpu_usage: Some(ContainerCpuUsage { total_usage: Some(7), ..Default::default() }),
                ..Default::default()
            }),
            memory_stats: Some(ContainerMemoryStats {
                usage: Some(100),
                stats: Some([("total_inactive_file".to_owned(), 30), ("inactive_file".to_owned(), 99)].into()),
                ..Default::default()
            }),
            ..Default::default()
        };
        let sample = sample(full).unwrap();
        assert_eq!((sample.cpu_ns, sample.memory_bytes, sample.pids), (7, 70, 0));
    }
}
