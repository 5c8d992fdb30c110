//! The life of an instance: create, start, look, wait, stop, remove, list, sweep.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::PathBuf,
    time::Duration,
};

use bollard::{
    errors::Error,
    models::{ContainerInspectResponse, ContainerState, ContainerStateStatusEnum, VolumeCreateRequest},
    query_parameters::{
        CreateContainerOptionsBuilder, EventsOptionsBuilder, InspectContainerOptions, KillContainerOptionsBuilder,
        ListContainersOptionsBuilder, ListVolumesOptionsBuilder, RemoveContainerOptionsBuilder, RemoveVolumeOptions, StartContainerOptions,
        StopContainerOptionsBuilder, WaitContainerOptionsBuilder,
    },
};
use futures::StreamExt;
use tokio::time::timeout;

use super::{
    Inner, firewall, gpu, keeper, podman,
    probe::found,
    root,
    secrets::{self, SecretDir},
    volume::LoopVolume,
    workload::{Names, Output, base_labels, check, describe, ulimits},
};
use crate::{
    EgressFilter, EngineTime, Exit, InstanceId, InstanceKey, LABEL_INSTANCE, LABEL_OUTPUT, LABEL_OWNER, ListedInstance, Network, Observed,
    Owner, RuntimeError, Swept, Workload,
};

/// How often an instance is looked at that is neither running nor over, and the pause in between: half a minute in all.
const BETWEEN_LOOKS: u32 = 600;
const BETWEEN_PAUSE: Duration = Duration::from_millis(50);
/// How long to trust that an event tells of a start; then we look again.
const START_LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How long after an end by SIGKILL the engine may still say that it was for want of memory.
const OOM_WORD_AFTER: Duration = Duration::from_millis(500);
/// Where Docker answers names for instances with a network of their own.
const ENGINE_RESOLVER: &str = "nameserver 127.0.0.11\noptions ndots:0\n";
/// The signal of a kill, also of the kernel's when memory is exhausted.
const SIGKILL: i32 = 9;
/// How much longer than the grace a stop may take: killing and clearing up on a busy machine.
const STOP_SLACK: Duration = Duration::from_secs(30);

/// What the engine says about one container.
pub(super) struct Seen {
    pub(super) state: Observed,
    pub(super) labels: BTreeMap<String, String>,
    name: String,
    /// The engine's words about why the last start failed.
    start_error: Option<(i32, String)>,
    created_at: Option<String>,
    has_network: bool,
    has_engine_volume: bool,
    /// Where its writes go on the host.
    held: Option<root::Held>,
    /// The directory that takes its writes, of a driver that we know.
    layer: Option<PathBuf>,
    /// Directories of the host that it has.
    directories: Vec<String>,
}

/// What becomes of an instance's output directory when it is removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum OutputFate {
    Goes,
    /// Another instance goes on with it.
    Stays,
}

impl Seen {
    /// Whose instance it is and which; `None` if it is no instance of ours. Labels alone prove nothing: a container takes
    /// over those of its image, and images are written by strangers. The name is given by us.
    pub(super) fn key(&self) -> Option<(Owner, InstanceKey)> {
        let owner = Owner::parse(self.labels.get(LABEL_OWNER)?).ok()?;
        let key = InstanceKey::parse(self.labels.get(LABEL_INSTANCE)?).ok()?;
        (Names::of(&owner, &key).object == self.name).then_some((owner, key))
    }

    /// Whose its output directory is and the key that goes by: that of an earlier instance, if it follows one.
    fn output_key(&self) -> Option<(Owner, InstanceKey)> {
        let (owner, key) = self.key()?;
        let earlier = self.labels.get(LABEL_OUTPUT).and_then(|text| InstanceKey::parse(text).ok());
        Some((owner, earlier.unwrap_or(key)))
    }
}

pub(super) fn gone(id: &InstanceId) -> RuntimeError {
    RuntimeError::NotFound { what: "instance", name: id.0.clone() }
}

impl Inner {
    pub(super) async fn create(&self, workload: &Workload) -> Result<InstanceId, RuntimeError> {
        check(workload)?;
        match self.create_parts(workload).await {
            Ok(id) => Ok(id),
            Err(error) => {
                // Leave nothing behind, unless an instance of this key exists: then they are its own.
                let names = Names::of(&workload.owner, &workload.instance_key);
                if matches!(self.look(&InstanceId(names.object)).await, Ok(None)) {
                    // What an earlier instance wrote stays: it is still wanted.
                    let fate = if workload.output_of.is_some() { OutputFate::Stays } else { OutputFate::Goes };
                    let cleared = self.remove_parts(&workload.owner, &workload.instance_key, fate).await;
                    if let Err(left) = cleared {
                        tracing::warn!(error = %left, instance = %workload.instance_key, "could not clear up after a failed create");
                    }
                }
                Err(error)
            }
        }
    }

    async fn create_parts(&self, workload: &Workload) -> Result<InstanceId, RuntimeError> {
        let (owner, key) = (&workload.owner, &workload.instance_key);
        let names = Names::of(owner, key);
        let output_key = workload.output_of.as_ref().unwrap_or(key);
        let output_name = Names::of(owner, output_key).object;
        let declared = self.fitting(&workload.image).await?.volumes.unwrap_or_default();
        let network = async {
            match workload.network {
                Network::None => Ok("none".to_owned()),
                Network::Open => self.open_network(owner, key).await,
            }
        };
        let volume = LoopVolume::new(&self.config.state_dir, owner.as_str(), &output_name);
        let out = root::output_dir(&volume);
        let output = async {
            match (&workload.output_dir, workload.limits.disk_bytes) {
                (None, bytes) if bytes == 0 || !self.facts.can_bound_root => Ok(None),
                (None, bytes) => volume.ensure(bytes).await.map(|()| None),
                (Some(_), bytes) if bytes > 0 && self.facts.can_mount => {
                    volume.ensure(bytes).await?;
                    root::make_dir(&out, 0o777)?;
                    Ok(Some(Output::Directory(&out)))
                }
                (Some(_), _) => {
                    self.ensure_engine_volume(&output_name, owner, output_key).await?;
                    Ok::<_, RuntimeError>(Some(Output::Volume(&output_name)))
                }
            }
        };
        // Not `try_join`: whatever one of them has begun must have ended before a failure is cleared up.
        let (network, output) = tokio::join!(network, output);
        let (network, output) = (network?, output?);
        let kept = self.mount_kept(workload).await?;
        let mut body = describe(workload, network, output, self.facts.log_driver, self.config.log_bytes);
        let host = body.host_config.get_or_insert_default();
        host.ulimits = Some(ulimits(self.facts.open_files));
        host.cgroup_parent = self.job_group().await;
        if self.facts.podman {
            podman::adapt(&mut body, self.facts.processes);
        }
        keeper::add(&mut body, kept);
        gpu::add(&mut body, workload, &self.facts.gpus)?;
        let bounded = self.facts.can_bound_root && volume.exists();
        if bounded {
            let resolver = if self.facts.podman { podman::resolver() } else { ENGINE_RESOLVER.to_owned() };
            root::keep_inside(&mut body, &root::place(&volume, &names.object).await?, &names.object, &resolver, &declared)?;
        }
        if let (Some(source), Some(at)) = (self.make_secrets(workload)?, &workload.secrets) {
            secrets::add(&mut body, &source, &at.path);
            if at.variables {
                secrets::wrap(&mut body, &at.path, self.image_command(&workload.image).await?);
            }
        }
        let options = CreateContainerOptionsBuilder::default().name(&names.object).build();
        for _ in 0..BETWEEN_LOOKS {
            match self.docker.create_container(Some(options.clone()), body.clone()).await.map_err(podman::as_docker) {
                Ok(made) if bounded => return self.bound_root(InstanceId(made.id)).await,
                Ok(made) => return Ok(InstanceId(made.id)),
                Err(Error::DockerResponseServerError { status_code: 409, .. }) => match self.existing(&names.object, owner, key).await? {
                    Some(id) => return Ok(id),
                    // Taken and not there: the engine still makes it, or removes it, for a call that was cut off.
                    None => tokio::time::sleep(BETWEEN_PAUSE).await,
                },
                Err(Error::DockerResponseServerError { status_code: 404, .. }) => {
                    return Err(RuntimeError::NotFound { what: "image", name: workload.image.clone() });
                }
                Err(Error::DockerResponseServerError { status_code: 400, message }) => {
                    return Err(RuntimeError::Invalid { field: "workload", why: message });
                }
                Err(error) => return Err(self.engine_error(error)),
            }
        }
        Err(RuntimeError::Conflict(format!("the name {} stays taken by a container that the engine does not show", names.object)))
    }

    /// A network of this instance's own with the filter in place (or known not to be).
    pub(super) async fn open_network(&self, owner: &Owner, key: &InstanceKey) -> Result<String, RuntimeError> {
        let filter = firewall::ensure(&self.facts);
        let network = self.ensure_network(owner, key);
        let (filter, network) = tokio::join!(filter, network);
        if let EgressFilter::NotEnforced(why) = filter {
            tracing::warn!(instance = %key, why, "open network is not filtered");
        }
        network
    }

    /// The instance of this key, if the engine shows a container of that name.
    async fn existing(&self, name: &str, owner: &Owner, key: &InstanceKey) -> Result<Option<InstanceId>, RuntimeError> {
        let Some(container) = self.container(name).await? else { return Ok(None) };
        let id = container.id.clone();
        match (seen(container).key(), id) {
            (Some((its_owner, its_key)), Some(id)) if its_owner == *owner && its_key == *key => Ok(Some(InstanceId(id))),
            _ => Err(RuntimeError::Conflict(format!("the name {name} is taken by a container that is not ours"))),
        }
    }

    async fn ensure_engine_volume(&self, name: &str, owner: &Owner, key: &InstanceKey) -> Result<(), RuntimeError> {
        let request = VolumeCreateRequest { name: Some(name.to_owned()), labels: Some(base_labels(owner, key)), ..Default::default() };
        self.docker.create_volume(request).await.map(drop).map_err(|error| self.engine_error(error))
    }

    pub(super) async fn start(&self, id: &InstanceId) -> Result<(), RuntimeError> {
        let seen = self.look(id).await?.ok_or_else(|| gone(id))?;
        match seen.state {
            Observed::Running { .. } | Observed::Paused { .. } => return Ok(()),
            Observed::Exited(_) => return Err(RuntimeError::AlreadyExited(id.0.clone())),
            Observed::Created => {}
        }
        if let Some((owner, key)) = seen.output_key() {
            // Made before a reboot and not yet started: the file system has to be mounted again.
            let volume = LoopVolume::new(&self.config.state_dir, owner.as_str(), &Names::of(&owner, &key).object);
            volume.remount().await?;
            root::hold(seen.held.as_ref()).await?;
            self.remount_kept(&owner, &seen.directories).await?;
        }
        if self.facts.podman {
            podman::open_root(seen.layer.as_deref())?;
        }
        match self.docker.start_container(&id.0, None::<StartContainerOptions>).await {
            Ok(()) => Ok(()),
            Err(Error::DockerResponseServerError { status_code: 404, message }) if message.contains("No such container") => Err(gone(id)),
            Err(Error::DockerResponseServerError { message, status_code }) => match start_code(&message) {
                Some(code) => {
                    if self.facts.podman {
                        self.failed_starts.note(id, code, &message);
                    }
                    Err(RuntimeError::StartFailed { code, message })
                }
                None => Err(RuntimeError::Engine { status: status_code, message }),
            },
            Err(error) => Err(self.engine_error(error)),
        }
    }

    pub(super) async fn look(&self, id: &InstanceId) -> Result<Option<Seen>, RuntimeError> {
        // What is not ours is not there: nothing here may start, stop or remove it.
        Ok(self.container(&id.0).await?.map(seen).filter(|seen| seen.key().is_some()))
    }

    /// What the engine says about a container, once it is in a state with a name.
    async fn container(&self, name: &str) -> Result<Option<ContainerInspectResponse>, RuntimeError> {
        for _ in 0..BETWEEN_LOOKS {
            match found(self.docker.inspect_container(name, None::<InspectContainerOptions>).await) {
                Err(error) if podman::is_between(&error) => tokio::time::sleep(BETWEEN_PAUSE).await,
                answer => return answer.map_err(|error| self.engine_error(error)),
            }
        }
        Err(RuntimeError::Engine { status: 0, message: "an instance has ended and is not cleared up".into() })
    }

    pub(super) async fn wait(&self, id: &InstanceId) -> Result<Exit, RuntimeError> {
        let mut exit = self.wait_ended(id).await?;
        if exit.signal == Some(SIGKILL) && !exit.oom {
            exit.oom = self.hears_of_exhaustion(id, exit.started_at).await;
        }
        Ok(exit)
    }

    /// On a busy machine the engine may note that want of memory was the cause after it notes the end: gives it a moment.
    async fn hears_of_exhaustion(&self, id: &InstanceId, started_at: Option<EngineTime>) -> bool {
        let filters = HashMap::from([("container", vec![id.0.as_str()]), ("event", vec!["oom"])]);
        let since = started_at.unwrap_or_default().to_string();
        let options = EventsOptionsBuilder::default().filters(&filters).since(&since).build();
        let mut events = std::pin::pin!(self.docker.events(Some(options)));
        matches!(timeout(OOM_WORD_AFTER, events.next()).await, Ok(Some(Ok(_))))
    }

    async fn wait_ended(&self, id: &InstanceId) -> Result<Exit, RuntimeError> {
        loop {
            match self.wait_started(id).await? {
                Observed::Exited(exit) => return Ok(exit),
                Observed::Created | Observed::Running { .. } | Observed::Paused { .. } => {}
            }
            let options = WaitContainerOptionsBuilder::default().condition("not-running").build();
            let answer = self.docker.wait_container(&id.0, Some(options)).next().await;
            match answer {
                // The code in the answer is right, but not whether memory ran out nor when: look again for all of it.
                None | Some(Ok(_) | Err(Error::DockerContainerWaitError { .. } | Error::RequestTimeoutError)) => {}
                Some(Err(Error::DockerResponseServerError { status_code: 404, .. })) => return Err(gone(id)),
                Some(Err(error)) => return Err(self.engine_error(error)),
            }
        }
    }

    /// Waits while the instance is "created" and gives the first other state.
    pub(super) async fn wait_started(&self, id: &InstanceId) -> Result<Observed, RuntimeError> {
        loop {
            let seen = self.look(id).await?.ok_or_else(|| gone(id))?;
            if seen.state != Observed::Created {
                return Ok(seen.state);
            }
            if let Some((code, message)) = seen.start_error.or_else(|| self.failed_starts.of(id)) {
                return Err(RuntimeError::StartFailed { code, message });
            }
            // Asking for events since the creation leaves no gap between the look above and the subscription.
            let filters = HashMap::from([("container", vec![id.0.as_str()]), ("event", vec!["start", "die", "destroy"])]);
            let options = EventsOptionsBuilder::default().filters(&filters);
            let options = match seen.created_at.as_deref().and_then(EngineTime::parse_rfc3339) {
                Some(at) => options.since(&at.to_string()).build(),
                None => options.build(),
            };
            let mut events = std::pin::pin!(self.docker.events(Some(options)));
            if let Ok(Some(Err(error))) = timeout(START_LOOK_INTERVAL, events.next()).await {
                return Err(self.engine_error(error));
            }
        }
    }

    pub(super) async fn stop(&self, id: &InstanceId, grace: Duration) -> Result<(), RuntimeError> {
        let seconds = i32::try_from(grace.as_millis().div_ceil(1000)).unwrap_or(i32::MAX);
        let options = StopContainerOptionsBuilder::default().t(seconds).build();
        let patient = self.docker.clone().with_timeout(grace.saturating_add(STOP_SLACK));
        found(patient.stop_container(&id.0, Some(options)).await).map(drop).map_err(|error| self.engine_error(error))
    }

    pub(super) async fn kill(&self, id: &InstanceId) -> Result<(), RuntimeError> {
        let options = KillContainerOptionsBuilder::default().signal("SIGKILL").build();
        match self.docker.kill_container(&id.0, Some(options)).await.map_err(podman::as_docker) {
            Ok(()) => {}
            // Not there, or not running.
            Err(Error::DockerResponseServerError { status_code: 404 | 409, .. }) => return Ok(()),
            Err(error) => return Err(self.engine_error(error)),
        }
        match timeout(self.config.request_timeout, self.wait_ended(id)).await {
            Ok(Ok(_) | Err(RuntimeError::NotFound { .. })) => Ok(()),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(RuntimeError::Deadline { doing: "kill", after: self.config.request_timeout }),
        }
    }

    pub(super) async fn remove(&self, id: &InstanceId, fate: OutputFate) -> Result<(), RuntimeError> {
        let Some(seen) = self.look(id).await? else { return Ok(()) };
        if matches!(seen.state, Observed::Running { .. } | Observed::Paused { .. }) {
            self.kill(id).await?;
        }
        let output = seen.output_key().filter(|_| fate == OutputFate::Goes).map(|(owner, key)| (Names::of(&owner, &key).object, owner));
        if let Some((owner, key)) = &seen.key() {
            self.secret_dir(owner, key).remove().await?;
            let object = Names::of(owner, key).object;
            let network = async {
                if seen.has_network {
                    self.remove_network(&object, Some(&id.0)).await?;
                }
                Ok::<_, RuntimeError>(())
            };
            root::release(seen.held.as_ref()).await?;
            let volume = async {
                match &output {
                    Some((name, owner)) => LoopVolume::new(&self.config.state_dir, owner.as_str(), name).remove().await,
                    None => Ok(()),
                }
            };
            let (network, volume) = tokio::join!(network, volume);
            network.and(volume)?;
        }
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        self.failed_starts.forget(id);
        for attempt in 1.. {
            match found(self.docker.remove_container(&id.0, Some(options.clone())).await.map_err(podman::as_docker)) {
                Err(Error::DockerResponseServerError { message, .. }) if podman::is_unsettled(&message) && attempt < BETWEEN_LOOKS => {
                    tokio::time::sleep(BETWEEN_PAUSE).await;
                    continue;
                }
                // 409: a removal is under way already.
                Ok(_) | Err(Error::DockerResponseServerError { status_code: 409, .. }) => {}
                Err(error) => return Err(self.engine_error(error)),
            }
            break;
        }
        match output {
            // A volume of the engine cannot go before the container does.
            Some((name, _)) if seen.has_engine_volume => self.remove_engine_volume(&name).await,
            _ => Ok(()),
        }
    }

    /// Network and volumes of an instance that is not there.
    async fn remove_parts(&self, owner: &Owner, key: &InstanceKey, fate: OutputFate) -> Result<(), RuntimeError> {
        let object = Names::of(owner, key).object;
        self.remove_network(&object, None).await?;
        self.secret_dir(owner, key).remove().await?;
        if fate == OutputFate::Stays {
            return Ok(());
        }
        LoopVolume::new(&self.config.state_dir, owner.as_str(), &object).remove().await?;
        self.remove_engine_volume(&object).await
    }

    async fn remove_engine_volume(&self, name: &str) -> Result<(), RuntimeError> {
        found(self.docker.remove_volume(name, None::<RemoveVolumeOptions>).await).map(drop).map_err(|error| self.engine_error(error))
    }

    pub(super) async fn list(&self, owner: &Owner) -> Result<Vec<ListedInstance>, RuntimeError> {
        let filters = HashMap::from([("label", vec![format!("{LABEL_OWNER}={owner}")])]);
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        let containers = self.docker.list_containers(Some(options)).await.map_err(|error| self.engine_error(error))?;
        let mut listed = Vec::with_capacity(containers.len());
        for id in containers.into_iter().filter_map(|container| container.id).map(InstanceId) {
            // The list itself has neither exit code nor times; one that has gone meanwhile is left out.
            let Some(seen) = self.look(&id).await? else { continue };
            if let Some((_, instance_key)) = seen.key() {
                listed.push(ListedInstance { id, instance_key, labels: seen.labels, state: seen.state });
            }
        }
        Ok(listed)
    }

    pub(super) async fn sweep(&self, owner: &Owner, keep: &BTreeSet<InstanceKey>) -> Result<Swept, RuntimeError> {
        let mut swept = Swept::default();
        for instance in self.list(owner).await? {
            if !keep.contains(&instance.instance_key) {
                let output = instance.labels.get(LABEL_OUTPUT).and_then(|text| InstanceKey::parse(text).ok());
                let fate = if output.is_some_and(|key| keep.contains(&key)) { OutputFate::Stays } else { OutputFate::Goes };
                self.remove(&instance.id, fate).await?;
                swept.instances.push(instance.instance_key);
            }
        }
        for (name, key) in self.list_networks(owner).await? {
            if !keep.contains(&key) {
                self.remove_network(&name, None).await?;
                swept.networks += 1;
            }
        }
        let kept: BTreeSet<String> = keep.iter().map(|key| Names::of(owner, key).object).collect();
        for name in SecretDir::list(&self.config.state_dir, owner)? {
            if !kept.contains(&name) {
                SecretDir::new(&self.config.state_dir, owner, &name).remove().await?;
            }
        }
        for name in LoopVolume::list(&self.config.state_dir, owner.as_str())? {
            if !kept.contains(&name) {
                LoopVolume::new(&self.config.state_dir, owner.as_str(), &name).remove().await?;
                swept.volumes += 1;
            }
        }
        let filters = HashMap::from([("label", vec![format!("{LABEL_OWNER}={owner}")])]);
        let options = ListVolumesOptionsBuilder::default().filters(&filters).build();
        let volumes = self.docker.list_volumes(Some(options)).await.map_err(|error| self.engine_error(error))?;
        for volume in volumes.volumes.unwrap_or_default() {
            if !kept.contains(&volume.name) {
                self.remove_engine_volume(&volume.name).await?;
                swept.volumes += 1;
            }
        }
        self.build_groups.clear().await;
        self.forget_layers(1).await;
        Ok(swept)
    }
}

pub(super) fn seen(container: ContainerInspectResponse) -> Seen {
    let (held, layer) = (root::held(&container), root::layer(&container));
    let labels: BTreeMap<String, String> = container.config.and_then(|config| config.labels).unwrap_or_default().into_iter().collect();
    let owner = labels.get(LABEL_OWNER).and_then(|text| Owner::parse(text).ok());
    let output_key = labels.get(LABEL_OUTPUT).or_else(|| labels.get(LABEL_INSTANCE)).and_then(|text| InstanceKey::parse(text).ok());
    let output = owner.zip(output_key).map(|(owner, key)| Names::of(&owner, &key).object);
    let state = container.state.unwrap_or_default();
    let start_error = state.error.clone().filter(|message| !message.is_empty());
    let start_error = start_error.map(|message| (start_code(&message).unwrap_or(exit_code(&state)), message));
    let network_mode = container.host_config.and_then(|host| host.network_mode).unwrap_or_default();
    let name = container.name.unwrap_or_default();
    let name = name.strip_prefix('/').unwrap_or(&name).to_owned();
    let mounts = container.mounts.unwrap_or_default();
    Seen {
        state: observed(&state),
        labels,
        start_error,
        created_at: container.created,
        has_network: network_mode != "none",
        held,
        layer,
        has_engine_volume: mounts.iter().any(|mount| mount.name.is_some() && mount.name == output),
        directories: mounts.into_iter().filter_map(|mount| mount.source).collect(),
        name,
    }
}

fn exit_code(state: &ContainerState) -> i32 {
    state.exit_code.and_then(|code| i32::try_from(code).ok()).unwrap_or(-1)
}

fn observed(state: &ContainerState) -> Observed {
    let time = |text: &Option<String>| text.as_deref().and_then(EngineTime::parse_rfc3339);
    let started_at = time(&state.started_at);
    match state.status {
        Some(ContainerStateStatusEnum::CREATED) => Observed::Created,
        Some(ContainerStateStatusEnum::PAUSED) => Observed::Paused { started_at: started_at.unwrap_or_default() },
        Some(ContainerStateStatusEnum::RUNNING | ContainerStateStatusEnum::RESTARTING | ContainerStateStatusEnum::STOPPING) => {
            Observed::Running { started_at: started_at.unwrap_or_default() }
        }
        _ => {
            let code = exit_code(state);
            let finished_at = time(&state.finished_at).unwrap_or_default();
            Observed::Exited(Exit {
                code,
                signal: (129..=192).contains(&code).then(|| code - 128),
                // The engine says so also of an instance that outlived the loss of one of its processes and ended by itself.
                oom: state.oom_killed == Some(true) && code == 128 + SIGKILL,
                // The engine notes the start of what ends at once after its end.
                started_at: started_at.map(|at| at.min(finished_at)),
                finished_at,
            })
        }
    }
}

/// Tells a command that cannot be started (the workload's fault) from an engine that cannot start anything (ours).
pub(super) fn start_code(message: &str) -> Option<i32> {
    let message = message.to_ascii_lowercase();
    let exec = message.contains("exec:") || message.contains("chdir") || message.contains("starting container process");
    if !exec {
        return None;
    }
    if message.contains("not found") || message.contains("no such file or directory") {
        return Some(127);
    }
    ["permission denied", "is a directory", "exec format error", "not a directory"]
        .iter()
        .any(|words| message.contains(words))
        .then_some(126)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_errors_are_told_apart() {
        let oci = "OCI runtime create failed: container_linux.go:380: starting container process caused: ";
        assert_eq!(start_code(&format!("{oci}exec: \"x\": executable file not found in $PATH: unknown")), Some(127));
        assert_eq!(start_code(&format!("{oci}exec: \"/etc/passwd\": permission denied: unknown")), Some(126));
        assert_eq!(start_code("error creating overlay mount to /var: no such file or directory"), None);
        assert_eq!(start_code("failed to create endpoint: no such file or directory"), None);
    }

    #[test]
    fn signals_are_read_from_codes() {
        let exit = |code| match observed(&ContainerState { exit_code: Some(code), ..Default::default() }) {
            Observed::Exited(exit) => exit.signal,
            other => panic!("{other:?}"),
        };
        assert_eq!([exit(0), exit(128), exit(137), exit(143), exit(255)], [None, None, Some(9), Some(15), None]);
    }
}
