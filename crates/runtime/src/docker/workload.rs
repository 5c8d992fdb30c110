//! From a [`Workload`] to what the engine is told: checks, names, labels, container description. Pure.
//! Guarantees: what passes [`check`] sets every limit; two instances never share a name.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use bollard::models::{
    ContainerCreateBody, HostConfig, HostConfigLogConfig, Mount, MountType, ResourcesUlimits, RestartPolicy, RestartPolicyNameEnum,
};

use crate::{InstanceKey, LABEL_CREATED_BY, LABEL_INSTANCE, LABEL_OUTPUT, LABEL_OWNER, Limits, Owner, RuntimeError, Workload};

/// Below this the kernel schedules nothing sensible (the engine's own floor).
const MIN_CPU_MILLIS: u32 = 10;
/// The engine refuses less.
const MIN_MEMORY_BYTES: u64 = 6 << 20;
/// Environment, command, arguments and labels together: the kernel's limit for one string, well under that for all.
const MAX_TEXT_BYTES: usize = 128 << 10;
/// `/tmp` of an instance with a read-only root lies in its memory; it gets at most this and a quarter of the memory.
const MAX_TMP_BYTES: u64 = 64 << 20;
/// Files that logs are spread over; the engine drops the oldest.
const LOG_FILES: u64 = 4;
/// Files that one process may hold open. The engine passes on what its own service has, from 1,024 to a thousand million; this is
/// what databases ask for.
const OPEN_FILES: i64 = 1 << 16;
/// Labels that only we write.
const RESERVED_LABELS: &str = "pasture.";

/// Names in the engine and on the host for one instance.
pub(super) struct Names {
    /// Of container, network and volume.
    pub(super) object: String,
    /// 12 characters for names that the kernel keeps short.
    pub(super) bridge_suffix: String,
    /// Spreads subnets.
    pub(super) number: u64,
}

impl Names {
    pub(super) fn of(owner: &Owner, key: &InstanceKey) -> Self {
        // The slash cannot be part of either, so no two pairs give the same text.
        let hash = blake3::hash(format!("{owner}/{key}").as_bytes());
        let hex = hash.to_hex();
        let (short, _) = hex.split_at_checked(24).unwrap_or((&hex, ""));
        let (bridge, _) = hex.split_at_checked(12).unwrap_or((&hex, ""));
        let number = hash.as_bytes().iter().take(8).fold(0, |number, byte| (number << 8) | u64::from(*byte));
        Self { object: format!("pasture-{short}"), bridge_suffix: bridge.to_owned(), number }
    }
}

pub(super) fn base_labels(owner: &Owner, key: &InstanceKey) -> HashMap<String, String> {
    HashMap::from([
        (LABEL_OWNER.to_owned(), owner.to_string()),
        (LABEL_INSTANCE.to_owned(), key.to_string()),
        (LABEL_CREATED_BY.to_owned(), concat!("pasture ", env!("CARGO_PKG_VERSION")).to_owned()),
    ])
}

fn invalid(field: &'static str, why: impl Into<String>) -> RuntimeError {
    RuntimeError::Invalid { field, why: why.into() }
}

/// Refuses what no engine should be asked.
pub(super) fn check(workload: &Workload) -> Result<(), RuntimeError> {
    let limits = &workload.limits;
    check_limits(limits.cpu_millis, limits.memory_bytes, limits.pids, limits.cpuset.as_deref())?;
    if limits.disk_bytes != 0 && limits.disk_bytes < super::volume::MIN_VOLUME_BYTES {
        return Err(invalid("disk_bytes", format!("must be 0 or at least {}", super::volume::MIN_VOLUME_BYTES)));
    }
    if workload.image.is_empty() {
        return Err(invalid("image", "is empty"));
    }
    for (field, path) in [("workdir", &workload.workdir), ("output_dir", &workload.output_dir)] {
        if let Some(path) = path {
            check_path(field, path)?;
        }
    }
    let mut places: Vec<&str> = workload.output_dir.iter().map(String::as_str).collect();
    if let Some(secrets) = &workload.secrets {
        check_path("secrets", &secrets.path)?;
        places.push(&secrets.path);
    }
    for mount in &workload.mounts {
        check_path("mounts", &mount.path)?;
        if places.iter().any(|other| nested(other, &mount.path)) {
            return Err(invalid("mounts", "lie inside each other"));
        }
        places.push(&mount.path);
    }
    super::gpu::check(&workload.gpus)?;
    for file in &workload.files {
        check_path("files", &file.path)?;
        if places.iter().any(|other| nested(other, &file.path)) {
            return Err(invalid("files", "lie inside each other or a mount"));
        }
        places.push(&file.path);
    }
    let mut total = 0;
    for (field, text) in texts(workload) {
        if text.contains('\0') {
            return Err(invalid(field, "contains a NUL character"));
        }
        total += text.len();
    }
    if total > MAX_TEXT_BYTES {
        return Err(invalid(
            "workload",
            format!("command, arguments, environment and labels have {total} bytes, at most {MAX_TEXT_BYTES} are possible"),
        ));
    }
    if let Some(name) = workload.env.keys().find(|name| name.is_empty() || name.contains('=')) {
        return Err(invalid("env", format!("{name:?} is not a name")));
    }
    if let Some(name) = workload.labels.keys().find(|name| name.starts_with(RESERVED_LABELS)) {
        return Err(invalid("labels", format!("{name} is reserved")));
    }
    Ok(())
}

pub(super) fn check_limits(cpu_millis: u32, memory_bytes: u64, pids: u32, cpuset: Option<&str>) -> Result<(), RuntimeError> {
    if cpu_millis < MIN_CPU_MILLIS {
        return Err(invalid("cpu_millis", format!("must be at least {MIN_CPU_MILLIS}")));
    }
    if memory_bytes < MIN_MEMORY_BYTES || i64::try_from(memory_bytes).is_err() {
        return Err(invalid("memory_bytes", format!("must be at least {MIN_MEMORY_BYTES}")));
    }
    if pids == 0 {
        return Err(invalid("pids", "must be at least 1"));
    }
    let legal = |set: &str| !set.is_empty() && set.bytes().all(|b| b.is_ascii_digit() || matches!(b, b',' | b'-'));
    if cpuset.is_some_and(|set| !legal(set)) {
        return Err(invalid("cpuset", "must be written as 0-2,4"));
    }
    Ok(())
}

fn check_path(field: &'static str, path: &str) -> Result<(), RuntimeError> {
    let plain = path.starts_with('/') && path.len() > 1 && !path.split('/').any(|part| part == "..") && !path.contains(['\0', '\n']);
    if plain { Ok(()) } else { Err(invalid(field, "must be an absolute path other than / without ..")) }
}

/// The engine would make the inner one inside the outer, through whatever links are there.
fn nested(one: &str, other: &str) -> bool {
    let inside = |inner: &str, outer: &str| inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    inside(one, other) || inside(other, one)
}

fn texts(workload: &Workload) -> impl Iterator<Item = (&'static str, &str)> {
    let command = workload.command.iter().map(|text| ("command", text.as_str()));
    let args = workload.args.iter().map(|text| ("args", text.as_str()));
    let env = workload.env.iter().flat_map(|(name, value)| [("env", name.as_str()), ("env", value.as_str())]);
    let labels = workload.labels.iter().flat_map(|(name, value)| [("labels", name.as_str()), ("labels", value.as_str())]);
    command.chain(args).chain(env).chain(labels)
}

/// The engine's description of a checked workload. `output` is where its output directory comes from.
pub(super) fn describe(
    workload: &Workload,
    network: String,
    output: Option<Output<'_>>,
    log_driver: &str,
    log_bytes: u64,
) -> ContainerCreateBody {
    let mut labels = base_labels(&workload.owner, &workload.instance_key);
    labels.extend(workload.labels.clone());
    // Always written: an image may bring a label of this name.
    let output_key = workload.output_of.as_ref().unwrap_or(&workload.instance_key);
    labels.insert(LABEL_OUTPUT.to_owned(), output_key.to_string());
    let mut env: Vec<String> = workload.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    if let Some(dir) = &workload.output_dir {
        env.push(format!("FARM_OUTPUT_DIR={dir}"));
    }
    let some = |list: &Vec<String>| (!list.is_empty()).then(|| list.clone());
    let grace_seconds = workload.grace.as_millis().div_ceil(1000);
    ContainerCreateBody {
        image: Some(workload.image.clone()),
        entrypoint: some(&workload.command),
        cmd: some(&workload.args),
        env: Some(env),
        working_dir: workload.workdir.clone(),
        labels: Some(labels),
        stop_timeout: Some(i64::try_from(grace_seconds).unwrap_or(i64::MAX)),
        tty: Some(false),
        host_config: Some(host_config(workload, network, output, log_driver, log_bytes)),
        ..Default::default()
    }
}

/// A kept volume that is mounted.
pub(super) struct Kept {
    /// Where on the host.
    pub(super) source: PathBuf,
    /// Where in the instance.
    pub(super) target: String,
    /// The instance cannot write to it.
    pub(super) read_only: bool,
}

/// Where an output directory lies.
#[derive(Clone, Copy)]
pub(super) enum Output<'a> {
    /// A directory of the host.
    Directory(&'a Path),
    /// A volume of the engine.
    Volume(&'a str),
}

/// What the kernel counts for each process. `open_files`: what the engine may allow at most, if that is known.
pub(super) fn ulimits(open_files: Option<i64>) -> Vec<ResourcesUlimits> {
    // No core dumps: the host's handler for them would run outside of all limits.
    let core = Some(ulimit("core", 0));
    core.into_iter().chain(open_files.map(|most| ulimit("nofile", most.min(OPEN_FILES)))).collect()
}

fn ulimit(name: &str, limit: i64) -> ResourcesUlimits {
    ResourcesUlimits { name: Some(name.to_owned()), soft: Some(limit), hard: Some(limit) }
}

fn host_config(workload: &Workload, network: String, output: Option<Output<'_>>, log_driver: &str, log_bytes: u64) -> HostConfig {
    let Limits { cpu_millis, memory_bytes, pids, ref cpuset, .. } = workload.limits;
    let memory = i64::try_from(memory_bytes).unwrap_or(i64::MAX);
    let log_config = HashMap::from([
        ("max-size".to_owned(), (log_bytes / LOG_FILES).max(1).to_string()),
        ("max-file".to_owned(), LOG_FILES.to_string()),
        // Compressing takes CPU from the job for files that are read once.
        ("compress".to_owned(), "false".to_owned()),
    ]);
    let mounts = output.zip(workload.output_dir.clone()).map(|(output, target)| {
        let (typ, source) = match output {
            Output::Directory(path) => (MountType::BIND, path.to_string_lossy().into_owned()),
            Output::Volume(name) => (MountType::VOLUME, name.to_owned()),
        };
        vec![Mount { target: Some(target), source: Some(source), typ: Some(typ), ..Default::default() }]
    });
    let tmp_bytes = (memory_bytes / 4).min(MAX_TMP_BYTES);
    HostConfig {
        nano_cpus: Some(i64::from(cpu_millis) * 1_000_000),
        memory: Some(memory),
        memory_swap: Some(memory),
        pids_limit: Some(i64::from(pids)),
        cpuset_cpus: cpuset.clone(),
        cap_drop: Some(vec!["ALL".into()]),
        security_opt: Some(vec!["no-new-privileges".into()]),
        privileged: Some(false),
        readonly_rootfs: Some(workload.read_only_root),
        tmpfs: workload.read_only_root.then(|| HashMap::from([("/tmp".to_owned(), format!("rw,nosuid,nodev,mode=1777,size={tmp_bytes}"))])),
        network_mode: Some(network),
        mounts,
        auto_remove: Some(false),
        restart_policy: Some(RestartPolicy { name: Some(RestartPolicyNameEnum::NO), maximum_retry_count: None }),
        log_config: Some(HostConfigLogConfig { typ: Some(log_driver.to_owned()), config: Some(log_config) }),
        ..Default::default()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use super::*;
    use crate::Network;

    pub(in super::super) fn workload() -> Workload {
        Workload {
            instance_key: InstanceKey::parse("lease.1").unwrap(),
            owner: Owner::parse("node").unwrap(),
            image: "x".into(),
            command: Vec::new(),
            args: vec!["a".into()],
            env: BTreeMap::from([("A".into(), "b=c".into())]),
            workdir: None,
            limits: Limits { cpu_millis: 250, memory_bytes: 64 << 20, pids: 8, disk_bytes: 0, cpuset: Some("0-1".into()) },
            network: Network::None,
            labels: BTreeMap::new(),
            output_dir: Some("/out".into()),
            output_of: None,
            read_only_root: true,
            grace: Duration::from_millis(1500),
            mounts: Vec::new(),
            gpus: Vec::new(),
            files: Vec::new(),
            secrets: None,
        }
    }

    #[test]
    fn a_description_sets_every_limit_and_no_privilege() {
        let body = describe(&workload(), "none".into(), Some(Output::Directory(Path::new("/host"))), "local", 400);
        let host = body.host_config.unwrap();
        assert_eq!(host.nano_cpus, Some(250_000_000));
        assert_eq!((host.memory, host.memory_swap), (Some(64 << 20), Some(64 << 20)));
        assert_eq!(host.pids_limit, Some(8));
        assert_eq!(host.cpuset_cpus.as_deref(), Some("0-1"));
        assert_eq!(host.cap_drop, Some(vec!["ALL".to_owned()]));
        assert_eq!(ulimits(None), [ulimit("core", 0)]);
        assert_eq!(ulimits(Some(500)), [ulimit("core", 0), ulimit("nofile", 500)]);
        assert_eq!(ulimits(Some(i64::MAX)), [ulimit("core", 0), ulimit("nofile", OPEN_FILES)]);
        assert_eq!((host.auto_remove, host.privileged, host.readonly_rootfs), (Some(false), Some(false), Some(true)));
        assert_eq!(host.log_config.unwrap().config.unwrap()["max-size"], "100");
        assert_eq!(body.env.unwrap(), ["A=b=c", "FARM_OUTPUT_DIR=/out"]);
        assert_eq!(body.entrypoint, None);
        assert_eq!(body.stop_timeout, Some(2));
        check(&workload()).unwrap();
    }

    fn mount(path: &str) -> crate::Mount {
        crate::Mount { volume: crate::VolumeKey::parse("v").unwrap(), path: path.into(), read_only: false }
    }

    #[test]
    fn bad_workloads_are_refused_and_the_field_is_named() {
        type Break = fn(&mut Workload);
        let cases: [(&str, Break); 17] = [
            ("gpus", |w| w.gpus = vec!["all".into()]),
            ("files", |w| w.files = vec![crate::HostFile { source: "/x".into(), path: "/out/x".into() }]),
            ("cpu_millis", |w| w.limits.cpu_millis = 9),
            ("memory_bytes", |w| w.limits.memory_bytes = 1 << 20),
            ("memory_bytes", |w| w.limits.memory_bytes = u64::MAX),
            ("pids", |w| w.limits.pids = 0),
            ("cpuset", |w| w.limits.cpuset = Some("0;rm".into())),
            ("disk_bytes", |w| w.limits.disk_bytes = 4096),
            ("image", |w| w.image.clear()),
            ("workdir", |w| w.workdir = Some("relative".into())),
            ("output_dir", |w| w.output_dir = Some("/a/../etc".into())),
            ("args", |w| w.args = vec!["a\0b".into()]),
            ("mounts", |w| w.mounts = vec![mount("/out/deeper")]),
            ("mounts", |w| w.mounts = vec![mount("/a/../etc")]),
            ("env", |w| drop(w.env.insert("A=B".into(), String::new()))),
            ("labels", |w| drop(w.labels.insert(LABEL_OWNER.into(), "me".into()))),
            ("workload", |w| w.args = vec!["x".repeat(MAX_TEXT_BYTES + 1)]),
        ];
        for (expected, change) in cases {
            let mut workload = workload();
            change(&mut workload);
            match check(&workload) {
                Err(RuntimeError::Invalid { field, .. }) => assert_eq!(field, expected),
                other => panic!("{expected}: {other:?}"),
            }
        }
    }

    #[test]
    fn names_differ_by_owner_and_key() {
        let names = |owner: &str, key: &str| Names::of(&Owner::parse(owner).unwrap(), &InstanceKey::parse(key).unwrap());
        assert_ne!(names("a", "b.1").object, names("a.1", "b").object);
        assert_eq!(names("a", "b").object, names("a", "b").object);
        assert_eq!(names("a", "b").bridge_suffix.len(), 12);
    }
}
