//! Finding out what the engine is and what we may do on its machine, by asking and by trying.

use std::{path::PathBuf, time::Duration};

use bollard::{
    API_DEFAULT_VERSION, Docker,
    errors::Error,
    models::{SystemInfo, SystemInfoCgroupDriverEnum, SystemInfoCgroupVersionEnum, SystemVersion},
};
use tokio::{net::UnixStream, time::timeout};

use super::{Inner, cgroup::GroupKind, config::DockerConfig, firewall, gpu, image::image_architecture, podman, priority, root, volume};
use crate::{Capabilities, GpuSupport, RuntimeError};

/// An engine that needs longer than this to answer at all is not usable.
const PROBE_DEADLINE: Duration = Duration::from_secs(5);
/// How long one that answers may take to say what it is: Podman asks other programs, which takes seconds on a busy machine.
const WORDS_DEADLINE: Duration = Duration::from_secs(30);
/// What a build leaves free on the engine's disk; looked at once a second, in which it can write about as much.
const LEAST_FREE_BYTES: u64 = 1 << 30;
/// Log drivers we can read back, best first. `json-file` replaces what is not UTF-8, also a character that a line of
/// over 16 KiB was cut in; `local` keeps bytes.
const LOG_DRIVERS: [&str; 2] = ["local", "json-file"];

/// What does not change while an engine runs.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    /// It is Podman and no Docker Engine.
    pub(super) podman: bool,
    pub(super) log_driver: &'static str,
    /// Of the engine's machine, as images name it.
    pub(super) architecture: String,
    /// How builds can be held together; `None` if they cannot.
    pub(super) build_groups: Option<GroupKind>,
    /// We are root and see the mounts that the engine sees.
    pub(super) can_mount: bool,
    /// The layers that take writes can be moved into the instances' volumes.
    pub(super) can_bound_root: bool,
    /// Where the engine keeps everything, if we see that.
    root_dir: Option<PathBuf>,
    /// We are root and in the engine's network.
    pub(super) can_filter: bool,
    /// Files that the engine's own processes may hold open at most, and so those of its instances.
    pub(super) open_files: Option<i64>,
    /// The same of its user's processes.
    pub(super) processes: Option<i64>,
    /// How it attaches GPUs.
    pub(super) gpus: GpuSupport,
    /// Process ids that the engine tells are ours too, and we may signal them.
    pub(super) can_signal: bool,
}

impl Facts {
    /// An error when the engine's disk is as good as full: what it writes for a build has limits, but what is free may be less.
    pub(super) fn room_on_disk(&self) -> Result<(), RuntimeError> {
        let Some(Ok(disk)) = self.root_dir.as_deref().map(rustix::fs::statvfs) else { return Ok(()) };
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        if free >= LEAST_FREE_BYTES {
            return Ok(());
        }
        Err(RuntimeError::Engine { status: 0, message: format!("no space left on device: {free} bytes are free, the build was stopped") })
    }
}

pub(super) async fn connect(config: &DockerConfig) -> Result<(Docker, Facts), RuntimeError> {
    let unreachable = |why: String| RuntimeError::Unreachable { socket: config.socket.clone(), why };
    let path = config.socket.to_str().ok_or_else(|| unreachable("its path is not UTF-8".into()))?;
    let peer = match timeout(PROBE_DEADLINE, UnixStream::connect(path)).await {
        Ok(Ok(stream)) => stream.peer_cred().ok().and_then(|cred| cred.pid()),
        Ok(Err(error)) => return Err(unreachable(error.to_string())),
        Err(_) => return Err(unreachable("it accepts no connection".into())),
    };
    let docker = Docker::connect_with_unix(path, config.request_timeout.as_secs().max(1), API_DEFAULT_VERSION)
        .map_err(|error| unreachable(error.to_string()))?;
    let ask = async {
        let (docker, info) = (docker.clone().negotiate_version().await?, docker.info().await?);
        let version = docker.version().await?;
        Ok::<_, Error>((docker, info, version))
    };
    let (docker, info, version) = patiently(&docker, ask).await?.map_err(|error| unreachable(error.to_string()))?;
    let facts = facts(&info, podman::is(component(&version)), peer);
    Ok((docker, facts))
}

/// Waits for long words, but only from an engine that answers.
async fn patiently<T>(docker: &Docker, words: impl Future<Output = Result<T, Error>>) -> Result<Result<T, Error>, RuntimeError> {
    let late = |after| move |_| RuntimeError::Deadline { doing: "say what it is", after };
    match timeout(PROBE_DEADLINE, docker.ping()).await.map_err(late(PROBE_DEADLINE))? {
        Ok(_) => timeout(WORDS_DEADLINE, words).await.map_err(late(WORDS_DEADLINE)),
        Err(error) => Ok(Err(error)),
    }
}

/// What answers, by its own name.
fn component(version: &SystemVersion) -> Option<&str> {
    version.components.as_ref()?.first().map(|component| component.name.as_str())
}

fn facts(info: &SystemInfo, podman: bool, engine_pid: Option<i32>) -> Facts {
    let drivers = info.plugins.as_ref().and_then(|plugins| plugins.log.clone()).unwrap_or_default();
    let log_driver = LOG_DRIVERS.into_iter().find(|name| drivers.iter().any(|known| known == name));
    let log_driver = log_driver.or_else(|| podman::log_driver(&drivers)).unwrap_or("json-file");
    let root = rustix::process::geteuid().is_root();
    let same = |namespace: &str| engine_pid.is_some_and(|pid| same_namespace(pid, namespace));
    let build_groups = (root && same("cgroup") && same("mnt") && same("pid")).then(|| group_kind(info)).flatten();
    let can_mount = root && same("mnt");
    Facts {
        podman,
        log_driver,
        architecture: image_architecture(info.architecture.as_deref().unwrap_or_default()).to_owned(),
        build_groups,
        can_mount,
        can_bound_root: root::can_bound(info, can_mount),
        root_dir: info.docker_root_dir.as_deref().map(PathBuf::from).filter(|dir| same("mnt") && dir.is_dir()),
        can_filter: root && same("net"),
        open_files: engine_pid.filter(|_| same("pid")).and_then(|pid| hard_limit(pid, "Max open files")),
        processes: engine_pid.filter(|_| same("pid")).and_then(|pid| hard_limit(pid, "Max processes")),
        gpus: gpu::support(info, podman),
        can_signal: root && same("pid"),
    }
}

/// The hard limit of a process.
fn hard_limit(pid: i32, of: &str) -> Option<i64> {
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    match limits.lines().find_map(|line| line.strip_prefix(of))?.split_whitespace().nth(1)? {
        "unlimited" => Some(i64::MAX),
        number => number.parse().ok(),
    }
}

fn same_namespace(pid: i32, namespace: &str) -> bool {
    let theirs = std::fs::read_link(format!("/proc/{pid}/ns/{namespace}"));
    let ours = std::fs::read_link(format!("/proc/self/ns/{namespace}"));
    matches!((theirs, ours), (Ok(a), Ok(b)) if a == b)
}

fn group_kind(info: &SystemInfo) -> Option<GroupKind> {
    match (info.cgroup_driver?, info.cgroup_version?) {
        (SystemInfoCgroupDriverEnum::SYSTEMD, _) => Some(GroupKind::Systemd),
        (SystemInfoCgroupDriverEnum::CGROUPFS, SystemInfoCgroupVersionEnum::_1) => Some(GroupKind::V1),
        (SystemInfoCgroupDriverEnum::CGROUPFS, SystemInfoCgroupVersionEnum::_2) => Some(GroupKind::V2),
        _ => None,
    }
}

impl Inner {
    pub(super) async fn probe(&self) -> Result<Capabilities, RuntimeError> {
        let ask = async {
            let version = self.docker.version().await?;
            let info = self.docker.info().await?;
            Ok::<_, Error>((version, info))
        };
        let (version, info) = patiently(&self.docker, ask).await?.map_err(|error| self.engine_error(error))?;
        let engine = match component(&version) {
            None | Some("" | "Engine") => "Docker Engine".to_owned(),
            Some(name) => name.to_owned(),
        };
        let security = info.security_options.clone().unwrap_or_default();
        let has = |name: &str| security.iter().any(|option| option.contains(&format!("name={name}")));
        let api = self.docker.client_version();
        let gpus = gpu::support(&info, self.facts.podman);
        let _alone = self.probing.lock().await;
        Ok(Capabilities {
            reports_oom: !self.facts.podman,
            engine,
            version: version.version.unwrap_or_default(),
            api: format!("{}.{}", api.major_version, api.minor_version),
            kernel: info.kernel_version.unwrap_or_default(),
            architecture: version.arch.unwrap_or_default(),
            cpus: info.ncpu.and_then(|n| u32::try_from(n).ok()).unwrap_or(0),
            memory_bytes: info.mem_total.and_then(|n| u64::try_from(n).ok()).unwrap_or(0),
            cgroup_version: if info.cgroup_version == Some(SystemInfoCgroupVersionEnum::_2) { 2 } else { 1 },
            cgroup_driver: info.cgroup_driver.map(|driver| driver.to_string()).unwrap_or_default(),
            storage_driver: info.driver.unwrap_or_default(),
            log_driver: self.facts.log_driver.to_owned(),
            user_namespaces: has("userns") || has("rootless"),
            seccomp: has("seccomp"),
            can_limit_disk: self.facts.can_mount && self.try_volume().await,
            can_limit_root: self.facts.can_bound_root,
            can_build: !self.facts.podman,
            can_limit_build_pids: self.build_groups.try_group().await,
            gives_way: self.job_group().await.is_some(),
            gpus,
            egress_filter: firewall::ensure(&self.facts).await,
            warnings: info.warnings.unwrap_or_default(),
        })
    }

    /// The group that jobs lie in so that they give way, made once; `None` if they do not.
    pub(super) async fn job_group(&self) -> Option<String> {
        let make = async {
            let kind = self.facts.build_groups.filter(|_| self.config.gives_way)?;
            match priority::ensure(kind).await {
                Ok(group) => Some(group),
                Err(error) => {
                    tracing::info!(%error, cause = ?std::error::Error::source(&error), "jobs run with the usual weight");
                    None
                }
            }
        };
        self.job_group.get_or_init(|| make).await.clone()
    }

    /// Really makes, mounts and removes a small volume.
    async fn try_volume(&self) -> bool {
        let volume = volume::LoopVolume::new(&self.config.state_dir, "probe", "probe");
        let made = volume.ensure(volume::MIN_VOLUME_BYTES).await;
        let removed = volume.remove().await;
        match made.and(removed) {
            Ok(()) => true,
            Err(error) => {
                tracing::info!(%error, cause = ?std::error::Error::source(&error), "output volumes cannot be limited");
                false
            }
        }
    }

    /// Sorts an error of the client: not there, too slow, or an answer.
    pub(super) fn engine_error(&self, error: Error) -> RuntimeError {
        let unreachable = |why: String| RuntimeError::Unreachable { socket: self.config.socket.clone(), why };
        match error {
            Error::DockerResponseServerError { status_code, message } => RuntimeError::Engine { status: status_code, message },
            Error::RequestTimeoutError => RuntimeError::Deadline { doing: "answer", after: self.config.request_timeout },
            Error::DockerStreamError { error } => RuntimeError::Engine { status: 0, message: error },
            Error::SocketNotFoundError(_) => unreachable("no such socket".into()),
            Error::IOError { err } => unreachable(err.to_string()),
            Error::HyperResponseError { err } => unreachable(root_cause(&err)),
            Error::HyperLegacyError { err } => unreachable(root_cause(&err)),
            other => RuntimeError::Engine { status: 0, message: other.to_string() },
        }
    }
}

/// The innermost cause: "No such file or directory" says more than "client error (Connect)".
fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

/// 404 as absence.
pub(super) fn found<T>(result: Result<T, Error>) -> Result<Option<T>, Error> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
