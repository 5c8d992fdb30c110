//! The values that cross the [`Runtime`](crate::Runtime) trait: what to run, what was seen, what it used.
//! Guarantees: names are checked when made, units are in the field names. Does not: talk to any engine.

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{error::RuntimeError, keeper::Mount, time::EngineTime};

/// Longest owner or instance key. Both become labels and parts of names in the engine.
pub const MAX_NAME_LEN: usize = 96;

macro_rules! checked_name {
    ($(#[$doc:meta])* $name:ident, $field:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks the name: 1 to 96 of `a-z A-Z 0-9 . _ -`, first a letter or digit.
            pub fn parse(text: &str) -> Result<Self, RuntimeError> {
                let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
                let first_is_plain = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
                if first_is_plain && text.len() <= MAX_NAME_LEN && text.bytes().all(legal) {
                    return Ok(Self(text.to_owned()));
                }
                let why = format!("must be 1 to {MAX_NAME_LEN} of a-z A-Z 0-9 . _ - and begin with a letter or digit");
                Err(RuntimeError::Invalid { field: $field, why })
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = RuntimeError;
            fn try_from(text: String) -> Result<Self, RuntimeError> {
                Self::parse(&text)
            }
        }

        impl std::str::FromStr for $name {
            type Err = RuntimeError;
            fn from_str(text: &str) -> Result<Self, RuntimeError> {
                Self::parse(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }
    };
}

checked_name! {
    /// Whose instance it is: the node's id. Two nodes may share one engine and do not see each other's instances.
    Owner, "owner"
}
checked_name! {
    /// The caller's name for one instance, unique within its owner, never used again: `<lease>.<generation>`.
    InstanceKey, "instance_key"
}

checked_name! {
    /// The caller's name for one kept volume, unique within its owner.
    VolumeKey, "volume"
}

/// The engine's name for an instance. Stable for the instance's life, meaningless elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InstanceId(pub String);

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What an instance may use. Enforced exactly; there is no "unlimited" for CPU, memory or processes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// CPU time per second, in thousandths of a core. At least 10.
    pub cpu_millis: u32,
    /// Memory, with no swap on top. At least 6 MiB (the engine's own floor).
    pub memory_bytes: u64,
    /// Processes and threads. At least 1.
    pub pids: u32,
    /// Size of all that the instance may write, its output and what it changes of its image (file-system overhead included), where
    /// the engine's host lets us limit it (see [`Capabilities::can_limit_disk`] and [`Capabilities::can_limit_root`]); 0 is "no
    /// limit asked".
    pub disk_bytes: u64,
    /// CPUs the instance may run on, as the kernel writes them (`0-2,4`); `None` for all. Lets a node keep a core for
    /// its own proofs.
    pub cpuset: Option<String>,
}

/// What an instance may reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// Nothing but its own loopback.
    None,
    /// A network of its own with DNS and HTTPS to public IPv4 addresses; not the host, not private ranges, not other
    /// instances. How much of that is enforced: [`Capabilities::egress_filter`].
    Open,
}

/// What to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workload {
    /// Name of this instance; see [`InstanceKey`].
    pub instance_key: InstanceKey,
    /// Whose it is.
    pub owner: Owner,
    /// Image name or id; must be in the engine already (build or pull first).
    pub image: String,
    /// Replaces the image's entry point if not empty.
    pub command: Vec<String>,
    /// Arguments: replaces the image's own if not empty.
    pub args: Vec<String>,
    /// Environment on top of the image's. Names are not empty and have no `=`; nothing has a NUL.
    pub env: BTreeMap<String, String>,
    /// Working directory, absolute; `None` for the image's.
    pub workdir: Option<String>,
    /// What it may use.
    pub limits: Limits,
    /// What it may reach.
    pub network: Network,
    /// Further labels. None of them may begin with `pasture.`.
    pub labels: BTreeMap<String, String>,
    /// Absolute path of a writable directory, empty at first, for what the workload hands back; `FARM_OUTPUT_DIR`
    /// points there. `None`: no such directory.
    pub output_dir: Option<String>,
    /// The earlier instance of the same owner whose output directory this one goes on with, if it is not the first of its job;
    /// that one must have exited. Of several in a row it is always the first.
    pub output_of: Option<InstanceKey>,
    /// Makes the root file system read-only and gives a small `/tmp` in memory.
    pub read_only_root: bool,
    /// Time between the stop signal and the kill when the *engine* stops the instance (its own shutdown);
    /// [`Runtime::stop`](crate::Runtime::stop) takes its own.
    pub grace: Duration,
    /// Kept volumes; see [`Keeper`](crate::Keeper).
    #[serde(default)]
    pub mounts: Vec<Mount>,
    /// Vendor's ids of the GPUs that it alone gets; an engine that cannot attach them refuses (see [`Capabilities::gpus`]).
    #[serde(default)]
    pub gpus: Vec<String>,
    /// Files of the host that it can read and not write.
    #[serde(default)]
    pub files: Vec<HostFile>,
    /// Where its secrets lie; what they are comes with [`Runtime::give_secrets`](crate::Runtime::give_secrets).
    #[serde(default)]
    pub secrets: Option<SecretsAt>,
}

/// A file of the host that an instance can read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostFile {
    /// Where it lies on the host.
    pub source: PathBuf,
    /// Absolute path in the instance.
    pub path: String,
}

/// How an engine attaches GPUs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "by", content = "detail")]
pub enum GpuSupport {
    /// By the container device interface; these devices are described to it.
    Cdi(Vec<String>),
    /// By the vendor's container runtime.
    Nvidia,
    /// Not at all, for this reason.
    Missing(String),
}

impl Default for GpuSupport {
    fn default() -> Self {
        Self::Missing("nobody has looked".into())
    }
}

/// Where an instance finds its secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretsAt {
    /// Absolute path of a directory, read-only for the instance.
    pub path: String,
    /// Some are variables: the command is started by the image's `/bin/sh`, which reads them.
    pub variables: bool,
}

/// A secret that is a file. Its debug form shows no content.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretFile {
    /// Its name in the directory.
    pub name: String,
    /// Its content.
    pub content: Vec<u8>,
}

impl fmt::Debug for SecretFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretFile({})", self.name)
    }
}

/// An image the engine has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// The engine's content id, `sha256:…`: the exact thing to run.
    pub id: String,
    /// Size on disk, layers shared with other images included.
    pub size_bytes: u64,
    /// `amd64`, `arm64`, ….
    pub architecture: String,
    /// `linux`.
    pub os: String,
    /// Names it goes by here; may be empty.
    pub tags: Vec<String>,
}

impl Image {
    /// Whether it goes by this name, which the beginning of its id is not: whoever was given a name by a stranger asks this.
    pub fn is_called(&self, reference: &str) -> bool {
        // A digest is one of the content itself; no id begins like that.
        reference.contains('@') || self.tags.iter().any(|tag| short_name(tag) == short_name(reference))
    }
}

/// A name as one may write it shortest: without the usual registry, and with the tag that is meant where none is said.
fn short_name(reference: &str) -> String {
    let mut name = reference;
    for usual in ["docker.io/", "localhost/", "library/"] {
        name = name.strip_prefix(usual).unwrap_or(name);
    }
    let tagged = name.rsplit('/').next().is_some_and(|last| last.contains(':'));
    if tagged { name.to_owned() } else { format!("{name}:latest") }
}

/// How an instance ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Exit code as the engine tells it: 0-255, 128 + n for signal n.
    pub code: i32,
    /// The signal, if the code says there was one. A process can also `exit(137)`; nobody can tell these apart.
    pub signal: Option<i32>,
    /// The kernel killed a process of it for want of memory.
    pub oom: bool,
    /// When it started, if it did.
    pub started_at: Option<EngineTime>,
    /// When it ended.
    pub finished_at: EngineTime,
}

/// What an instance is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum Observed {
    /// Made, never started.
    Created,
    /// Running.
    Running {
        /// Since when.
        started_at: EngineTime,
    },
    /// Frozen by somebody; its processes exist and do not run.
    Paused {
        /// When it started (not when it was frozen).
        started_at: EngineTime,
    },
    /// Over.
    Exited(Exit),
}

/// One entry of [`Runtime::list`](crate::Runtime::list).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedInstance {
    /// The engine's id.
    pub id: InstanceId,
    /// The caller's name for it.
    pub instance_key: InstanceKey,
    /// All its labels.
    pub labels: BTreeMap<String, String>,
    /// What it was doing a moment ago.
    pub state: Observed,
}

/// What [`Runtime::sweep`](crate::Runtime::sweep) removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Instances, each with its network and volume.
    pub instances: Vec<InstanceKey>,
    /// Networks without an instance.
    pub networks: usize,
    /// Output volumes without an instance.
    pub volumes: usize,
}

/// Standard output or standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A piece of log: what the engine recorded at once, a line or a part of a long one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogChunk {
    /// Which stream it was written to.
    pub stream: LogStream,
    /// The engine's clock when it was read. Can step back between chunks.
    pub at: EngineTime,
    /// The bytes, with the line's end if it has one.
    pub bytes: Bytes,
    /// Continue from here to get what follows this chunk.
    pub cursor: LogCursor,
    /// The engine had thrown away (rotated) something between the previous chunk and this one.
    pub lost_before: bool,
}

/// A place in an instance's log, to be stored by the caller.
///
/// Counts entries from the beginning rather than trusting clocks: timestamps of the two streams interleave, repeat and
/// step back when the clock is set. The marks serve only when the engine has rotated the beginning away.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogCursor {
    /// Entries before this place.
    pub entries: u64,
    /// Time of the very first entry: tells whether the engine still has the beginning.
    pub first_at: Option<EngineTime>,
    /// A short sum of that entry, for engines whose times are whole seconds; 0 where it is not known.
    #[serde(default)]
    pub first_sum: u32,
    /// The last entry of standard output before this place.
    pub stdout: LogMark,
    /// The last entry of standard error before this place.
    pub stderr: LogMark,
}

/// The last entry of one stream: its time, and how many entries of the stream have that very time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogMark {
    /// Time of the last entry; 0 if there was none.
    pub at: EngineTime,
    /// Entries with exactly that time, so far.
    pub count: u32,
}

/// What an instance has used since its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageSample {
    /// The engine's clock.
    pub at: EngineTime,
    /// CPU time of all its processes, nanoseconds.
    pub cpu_ns: u64,
    /// Memory in use now, page cache that can be dropped left out.
    pub memory_bytes: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Processes and threads now.
    pub pids: u64,
}

/// What a command inside an instance did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecOutput {
    /// Its exit code.
    pub code: i32,
    /// Standard output, at most [`MAX_EXEC_OUTPUT_BYTES`].
    pub stdout: Vec<u8>,
    /// Standard error, at most [`MAX_EXEC_OUTPUT_BYTES`].
    pub stderr: Vec<u8>,
    /// Something beyond the limit was thrown away.
    pub truncated: bool,
}

/// Most bytes kept of each output of a command run inside an instance. The rest is read and dropped, so that the
/// command does not block on it.
pub const MAX_EXEC_OUTPUT_BYTES: usize = 1 << 20;

/// Whether [`Network::Open`] is held to what it promises.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EgressFilter {
    /// Packet filter rules are in place: only DNS and HTTPS to public IPv4 addresses leave.
    Enforced,
    /// Instances on an open network can reach whatever the host can, for this reason. Isolation between instances is
    /// the engine's alone. A node should then offer no network, or say so.
    NotEnforced(String),
}

/// What a runtime can do here, found out by asking and trying.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// `Docker Engine`, `Podman Engine`.
    pub engine: String,
    /// Its version.
    pub version: String,
    /// API version in use between us.
    pub api: String,
    /// Kernel of the machine that runs the work.
    pub kernel: String,
    /// `amd64`, `arm64`.
    pub architecture: String,
    /// Cores the engine sees.
    pub cpus: u32,
    /// Memory the engine sees.
    pub memory_bytes: u64,
    /// 1 or 2.
    pub cgroup_version: u8,
    /// `cgroupfs` or `systemd`.
    pub cgroup_driver: String,
    /// `overlay2`, ….
    pub storage_driver: String,
    /// Driver that keeps the logs. With `local` any bytes survive; with `json-file` those that are not UTF-8 do not.
    pub log_driver: String,
    /// Root inside is nobody outside.
    pub user_namespaces: bool,
    /// The default system call filter is on.
    pub seccomp: bool,
    /// The engine tells when a process was killed for want of memory; otherwise [`Exit::oom`] is never set.
    pub reports_oom: bool,
    /// Output volumes have a size that holds.
    pub can_limit_disk: bool,
    /// What an instance writes outside of its output volume counts towards the same size. If not, its root file system can grow
    /// until the host's disk is full, unless it is read-only.
    pub can_limit_root: bool,
    /// Images can be built: the steps of a build are held to its network and its limits. If not, [`crate::Runtime::build`] refuses.
    pub can_build: bool,
    /// Builds are held to their number of processes (and as a whole to memory and CPU). If not, each `RUN` is held to
    /// memory and CPU only.
    pub can_limit_build_pids: bool,
    /// Jobs give way to other programs of the machine when both want the processor, as was asked.
    #[serde(default)]
    pub gives_way: bool,
    /// How GPUs are attached to instances, if they can be.
    #[serde(default)]
    pub gpus: GpuSupport,
    /// Whether open networks are filtered.
    pub egress_filter: EgressFilter,
    /// The engine's own complaints about its host.
    pub warnings: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_also_when_read_back() {
        for good in ["a", "7", "lease-1.0", "A_b.c-9", &"x".repeat(MAX_NAME_LEN)] {
            assert_eq!(InstanceKey::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", ".a", "-a", "a b", "a/b", "a\n", "é", &"x".repeat(MAX_NAME_LEN + 1)] {
            assert!(InstanceKey::parse(bad).is_err(), "{bad:?}");
            let json = serde_json::to_string(bad).unwrap();
            assert!(serde_json::from_str::<Owner>(&json).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_image_is_called_by_its_names_and_not_by_its_id() {
        let image = |tag: &str| Image {
            id: "sha256:0ca7f0".into(),
            size_bytes: 1,
            architecture: String::new(),
            os: String::new(),
            tags: vec![tag.into(), "other:2".into()],
        };
        for name in ["busybox", "busybox:latest", "docker.io/library/busybox", "library/busybox:latest", "other:2", "other@sha256:00"] {
            assert!(image("busybox:latest").is_called(name), "{name}");
        }
        for name in ["0ca7", "sha256:0ca7f0", "busybox:1", "a/busybox", "other"] {
            assert!(!image("busybox:latest").is_called(name), "{name}");
        }
        assert!(image("localhost/pasture/busybox:1").is_called("pasture/busybox:1"), "as Podman names what was built");
    }

    #[test]
    fn a_cursor_survives_being_stored() {
        let mark = LogMark { at: EngineTime(u64::MAX), count: 3 };
        let cursor = LogCursor { entries: 9, first_at: Some(EngineTime(1)), first_sum: 7, stdout: mark, stderr: LogMark::default() };
        let text = serde_json::to_string(&cursor).unwrap();
        assert_eq!(serde_json::from_str::<LogCursor>(&text).unwrap(), cursor);
    }
}
