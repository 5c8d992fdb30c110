//! One cgroup around all `RUN` steps of a build, because the build API limits no processes and each step only by itself.
//!
//! Guarantees: limits are set before the first step can run; a group lives no longer than its build and the processes in
//! it. Does not: work without root (then the caller falls back to what the API limits).
//! Tried on cgroup version 1; version 2 and systemd follow their documentation and have not run on such a machine.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::{Instant, sleep};

use super::tool::run_tool;
use crate::{BuildLimits, RuntimeError};

pub(super) const ROOT: &str = "/sys/fs/cgroup";
/// All builds of all nodes of this host lie in here.
pub(super) const BUILDS: &str = "pasture-build";
/// Period that CPU quotas are counted in.
const CPU_PERIOD_MICROS: u64 = 100_000;
/// After a cancel the engine ends the step itself; what still lives then is killed by us.
const ENGINE_KILL_TIME: Duration = Duration::from_secs(3);
/// Then the processes must be gone, or the kernel holds them.
const KILL_TIME: Duration = Duration::from_secs(5);
/// How often to look whether they are.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// Numbers the groups of this process. Global because their names are: two runtimes of one process (a network of nodes for
/// development) must not share a group.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// How cgroups are managed here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GroupKind {
    /// A directory in each controller's hierarchy.
    V1,
    /// A directory in the one hierarchy.
    V2,
    /// A slice of systemd's, also on version 2 with the engine's usual driver there.
    Systemd,
}

/// Makes groups, and clears those that could not go with their build.
pub(super) struct BuildGroups {
    kind: Option<GroupKind>,
    /// A lock and not an owner task: pushed to from `Drop`, held for no longer than a push or a take.
    leftover: Mutex<Vec<String>>,
}

impl BuildGroups {
    pub(super) fn new(kind: Option<GroupKind>) -> Self {
        Self { kind, leftover: Mutex::new(Vec::new()) }
    }

    /// A group with these limits; `None` where groups cannot be made.
    pub(super) async fn make(&self, limits: &BuildLimits) -> Result<Option<BuildGroup<'_>>, RuntimeError> {
        self.clear().await;
        let Some(kind) = self.kind else { return Ok(None) };
        // No name is used twice, also not by another process: the engine would put steps into a group without limits.
        let name = format!("b{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let group = BuildGroup { groups: self, kind, name };
        match kind {
            GroupKind::V1 => group.make_v1(limits)?,
            GroupKind::V2 => group.make_v2(limits)?,
            GroupKind::Systemd => group.make_slice(limits).await?,
        }
        Ok(Some(group))
    }

    /// Really makes and removes one.
    pub(super) async fn try_group(&self) -> bool {
        let limits = BuildLimits { cpu_millis: 100, memory_bytes: 64 << 20, pids: 16, cpuset: None, image_bytes: 0 };
        match self.make(&limits).await {
            Ok(made) => {
                let works = made.is_some();
                drop(made);
                self.clear().await;
                works
            }
            Err(error) => {
                tracing::info!(%error, cause = ?std::error::Error::source(&error), "builds cannot be held together in a cgroup");
                false
            }
        }
    }

    /// Tries again to remove groups that still had processes when their build ended, and those of processes of ours
    /// that died in mid-build.
    pub(super) async fn clear(&self) {
        let mut names = std::mem::take(&mut *self.leftover.lock().unwrap_or_else(PoisonError::into_inner));
        names.extend(orphans());
        for name in names {
            if self.kind == Some(GroupKind::Systemd) {
                // Gone already is as good as stopped.
                let _ = run_tool("systemctl", &["stop", &slice(&name)]).await;
            } else if !remove_dirs(&name) {
                self.leftover.lock().unwrap_or_else(PoisonError::into_inner).push(name);
            }
        }
    }
}

/// Limits around one build. Dropping it removes the group, later if something still runs in it.
pub(super) struct BuildGroup<'a> {
    groups: &'a BuildGroups,
    kind: GroupKind,
    name: String,
}

impl Drop for BuildGroup<'_> {
    fn drop(&mut self) {
        if self.kind == GroupKind::Systemd || !remove_dirs(&self.name) {
            self.groups.leftover.lock().unwrap_or_else(PoisonError::into_inner).push(std::mem::take(&mut self.name));
        }
    }
}

impl BuildGroup<'_> {
    /// What the engine calls the group.
    pub(super) fn engine_name(&self) -> String {
        match self.kind {
            GroupKind::Systemd => slice(&self.name),
            GroupKind::V1 | GroupKind::V2 => format!("/{BUILDS}/{}", self.name),
        }
    }

    fn make_v1(&self, limits: &BuildLimits) -> Result<(), RuntimeError> {
        let dir = |controller: &str| Path::new(ROOT).join(controller).join(BUILDS).join(&self.name);
        for controller in ["cpu", "memory", "pids"] {
            let dir = dir(controller);
            make_new_dir(&dir)?;
        }
        write(&dir("cpu").join("cpu.cfs_period_us"), CPU_PERIOD_MICROS)?;
        write(&dir("cpu").join("cpu.cfs_quota_us"), cpu_quota_micros(limits))?;
        write(&dir("memory").join("memory.limit_in_bytes"), limits.memory_bytes)?;
        // Only there if the kernel counts swap; without it nothing can be swapped beyond the limit that matters.
        let swap = dir("memory").join("memory.memsw.limit_in_bytes");
        if swap.exists() {
            write(&swap, limits.memory_bytes)?;
        }
        write(&dir("pids").join("pids.max"), limits.pids)
    }

    fn make_v2(&self, limits: &BuildLimits) -> Result<(), RuntimeError> {
        let parent = Path::new(ROOT).join(BUILDS);
        let dir = parent.join(&self.name);
        make_new_dir(&dir)?;
        for above in [Path::new(ROOT), &parent] {
            write(&above.join("cgroup.subtree_control"), "+cpu +memory +pids")?;
        }
        write(&dir.join("cpu.max"), format!("{} {CPU_PERIOD_MICROS}", cpu_quota_micros(limits)))?;
        write(&dir.join("memory.max"), limits.memory_bytes)?;
        let swap = dir.join("memory.swap.max");
        if swap.exists() {
            write(&swap, 0)?;
        }
        write(&dir.join("pids.max"), limits.pids)
    }

    async fn make_slice(&self, limits: &BuildLimits) -> Result<(), RuntimeError> {
        let slice = slice(&self.name);
        run_tool("systemctl", &["start", &slice]).await?;
        let settings = [
            format!("CPUQuota={}%", limits.cpu_millis.div_ceil(10)),
            format!("MemoryMax={}", limits.memory_bytes),
            "MemorySwapMax=0".to_owned(),
            format!("TasksMax={}", limits.pids),
        ];
        let mut args = vec!["set-property", "--runtime", &slice];
        args.extend(settings.iter().map(String::as_str));
        run_tool("systemctl", &args).await
    }

    /// Waits until nothing runs in the group after its build was cut off; kills what the engine leaves.
    pub(super) async fn emptied(&self) -> bool {
        let begun = Instant::now();
        while begun.elapsed() < ENGINE_KILL_TIME + KILL_TIME {
            let processes = self.processes();
            if processes.is_empty() {
                return true;
            }
            if begun.elapsed() > ENGINE_KILL_TIME {
                for pid in processes.into_iter().filter_map(rustix::process::Pid::from_raw) {
                    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                }
            }
            sleep(LOOK_INTERVAL).await;
        }
        false
    }

    fn processes(&self) -> Vec<i32> {
        let mut found = Vec::new();
        let hierarchy = if self.kind == GroupKind::V1 { Path::new(ROOT).join("pids") } else { PathBuf::from(ROOT) };
        let dir = match self.kind {
            GroupKind::Systemd => hierarchy.join("pasture.slice").join(format!("{BUILDS}.slice")).join(slice(&self.name)),
            GroupKind::V1 | GroupKind::V2 => hierarchy.join(BUILDS).join(&self.name),
        };
        collect_processes(&dir, &mut found);
        found
    }
}

/// A group of the build and one of the step's container below it.
fn collect_processes(dir: &Path, found: &mut Vec<i32>) {
    let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    found.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect_processes(&entry.path(), found);
        }
    }
}

fn cpu_quota_micros(limits: &BuildLimits) -> u64 {
    u64::from(limits.cpu_millis) * CPU_PERIOD_MICROS / 1000
}

/// systemd reads the dashes as a path: pasture.slice, pasture-build.slice, and this below.
fn slice(name: &str) -> String {
    format!("{BUILDS}-{}.slice", name.replace('-', "_"))
}

/// Fails if it exists: then it is not ours.
fn make_new_dir(dir: &Path) -> Result<(), RuntimeError> {
    let made = fs::create_dir_all(dir.parent().unwrap_or(dir)).and_then(|()| fs::create_dir(dir));
    made.map_err(|error| RuntimeError::io(format!("make {}", dir.display()), error))
}

pub(super) fn write(path: &Path, value: impl ToString) -> Result<(), RuntimeError> {
    fs::write(path, value.to_string()).map_err(|error| RuntimeError::io(format!("set {}", path.display()), error))
}

/// Directories of one name, in each hierarchy there may be: the engine adds those that we did not make.
fn remove_dirs(name: &str) -> bool {
    let mut all_gone = true;
    for base in hierarchies() {
        match fs::remove_dir(base.join(BUILDS).join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => all_gone = false,
            _ => {}
        }
    }
    all_gone
}

fn hierarchies() -> Vec<PathBuf> {
    let below = fs::read_dir(ROOT).into_iter().flatten().flatten().map(|entry| entry.path());
    std::iter::once(PathBuf::from(ROOT)).chain(below).collect()
}

/// Groups whose maker is no more.
fn orphans() -> Vec<String> {
    let names = hierarchies().into_iter().flat_map(|base| fs::read_dir(base.join(BUILDS)).into_iter().flatten().flatten());
    let orphaned = names.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let (pid, _) = name.strip_prefix('b')?.split_once('-')?;
        (!Path::new("/proc").join(pid).exists()).then_some(name)
    });
    orphaned.collect::<std::collections::BTreeSet<_>>().into_iter().collect()
}
