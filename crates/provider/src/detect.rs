//! What this machine has: cores, memory, disk, GPUs.
//!
//! Guarantees: the limits of the process's own control groups are respected, since more than those cannot be had. GPUs are
//! listed here and offered by `gpus`; a machine without their driver simply has none. It measures no speed.

use crate::gpus::{self, nvml::Library};
use pasture_types::{GpuLine, Resources};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Longest CPU model that is declared, in bytes.
const MAX_MODEL: usize = 64;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// All of it; disk is what is free where the provider keeps its data.
    pub resources: Resources,
    /// CPU model.
    pub cpu_model: String,
    /// Architecture, e.g. `x86_64`.
    pub arch: String,
}

/// Looks at this machine. `disk` is a directory on the disk whose space counts.
pub async fn detect(disk: &Path) -> Machine {
    let gpus = gpus().await;
    let root = Path::new("/");
    Machine {
        resources: Resources {
            cpu_millis: cpu_millis(root),
            memory_bytes: memory_bytes(root),
            disk_bytes: free_disk(disk),
            gpus,
            ..Resources::default()
        },
        cpu_model: cpu_model(&read(root, "proc/cpuinfo").unwrap_or_default()),
        arch: std::env::consts::ARCH.to_owned(),
    }
}

fn read(root: &Path, path: &str) -> Option<String> {
    std::fs::read_to_string(root.join(path)).ok()
}

/// Free bytes for an unprivileged user where `path` lies; 0 if that cannot be found out.
pub(crate) fn free_disk(path: &Path) -> u64 {
    rustix::fs::statvfs(path).map_or(0, |s| s.f_bavail.saturating_mul(s.f_frsize))
}

/// The directories whose limits hold for this process, from the innermost group to the root.
fn group_dirs(root: &Path, controller: &str) -> Vec<PathBuf> {
    let own = read(root, "proc/self/cgroup").unwrap_or_default();
    let mut dirs = vec![];
    for line in own.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let base = if controllers.is_empty() {
            root.join("sys/fs/cgroup")
        } else if controllers.split(',').any(|c| c == controller) {
            root.join("sys/fs/cgroup").join(controller)
        } else {
            continue;
        };
        let group = base.join(path.trim_start_matches('/'));
        dirs.extend(group.ancestors().take_while(|dir| dir.starts_with(&base)).map(Path::to_path_buf));
    }
    dirs
}

fn number(dir: &Path, file: &str) -> Option<u64> {
    std::fs::read_to_string(dir.join(file)).ok()?.trim().parse().ok()
}

/// A number in a file that has one in each line, behind its name.
fn field(dir: &Path, file: &str, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(dir.join(file)).ok()?;
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

fn cpu_millis(root: &Path) -> u32 {
    // Respects the affinity mask.
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut millis = u64::try_from(cores).unwrap_or(1).saturating_mul(1000);
    for dir in group_dirs(root, "cpu") {
        let quota = std::fs::read_to_string(dir.join("cpu.max")).ok().and_then(|text| {
            let (quota, period) = text.trim().split_once(' ')?;
            Some((quota.parse::<u64>().ok()?, period.parse::<u64>().ok()?))
        });
        let quota = quota.or_else(|| Some((number(&dir, "cpu.cfs_quota_us")?, number(&dir, "cpu.cfs_period_us")?)));
        if let Some((quota, period)) = quota.filter(|(_, period)| *period > 0) {
            millis = millis.min(quota.saturating_mul(1000) / period);
        }
    }
    u32::try_from(millis).unwrap_or(u32::MAX)
}

/// Cores that this process may use, a part of one counted as one.
pub(crate) fn cpu_cores() -> u32 {
    cpu_millis(Path::new("/")).div_ceil(1_000).max(1)
}

/// A field of the kernel's account of memory, in bytes; 0 if it is not there.
fn meminfo(root: &Path, field: &str) -> u64 {
    read(root, "proc/meminfo")
        .and_then(|text| text.lines().find_map(|l| l.strip_prefix(field)?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()))
        .map_or(0, |kib| kib.saturating_mul(1024))
}

/// Memory that this process may still take without anything else being pushed out, by the kernel's account and its groups' limits.
pub(crate) fn available_memory() -> u64 {
    available_bytes(Path::new("/"))
}

fn available_bytes(root: &Path) -> u64 {
    let room = |dir: &PathBuf| {
        let most = number(dir, "memory.max").or_else(|| number(dir, "memory.limit_in_bytes"))?;
        let held = number(dir, "memory.current").or_else(|| number(dir, "memory.usage_in_bytes"))?;
        // Files that were read count as held, and the kernel drops them for who wants the room.
        let files = field(dir, "memory.stat", "total_inactive_file").or_else(|| field(dir, "memory.stat", "inactive_file"));
        Some(most.saturating_sub(held.saturating_sub(files.unwrap_or(0))))
    };
    group_dirs(root, "memory").iter().filter_map(room).fold(meminfo(root, "MemAvailable:"), u64::min)
}

fn memory_bytes(root: &Path) -> u64 {
    let total = meminfo(root, "MemTotal:");
    group_dirs(root, "memory")
        .iter()
        .filter_map(|dir| number(dir, "memory.max").or_else(|| number(dir, "memory.limit_in_bytes")))
        .fold(total, u64::min)
}

fn cpu_model(cpuinfo: &str) -> String {
    let field = |name: &str| cpuinfo.lines().find_map(|l| l.split_once(':').filter(|(k, _)| k.trim() == name).map(|(_, v)| v.trim()));
    let model = field("model name").or_else(|| field("Model")).or_else(|| field("CPU part")).unwrap_or("unknown");
    let mut out = String::new();
    for c in model.chars().filter(|c| !c.is_control()) {
        if out.len() + c.len_utf8() > MAX_MODEL {
            break;
        }
        out.push(c);
    }
    out
}

async fn gpus() -> Vec<GpuLine> {
    match Library::of_this_machine().inventory().await {
        Ok(inventory) => gpus::lines(&inventory.devices),
        // Where the driver is loaded and does not answer: names without memory.
        Err(_) => gpu_lines(&gpu_names(Path::new("/"))),
    }
}

/// One name a line.
fn gpu_names(root: &Path) -> String {
    let Ok(dir) = std::fs::read_dir(root.join("proc/driver/nvidia/gpus")) else { return String::new() };
    let texts = dir.filter_map(|gpu| std::fs::read_to_string(gpu.ok()?.path().join("information")).ok());
    texts.filter_map(|t| t.lines().find_map(|l| Some(format!("{}\n", l.strip_prefix("Model:")?.trim())))).collect()
}

/// Names, counted by model.
fn gpu_lines(names: &str) -> Vec<GpuLine> {
    let mut found: BTreeMap<String, u16> = BTreeMap::new();
    for model in names.lines().filter_map(pasture_types::gpu::model) {
        let count = found.entry(model).or_default();
        *count = count.saturating_add(1);
    }
    let lines = found.into_iter().map(|(model, count)| GpuLine { model, count, vram_bytes: 0 });
    lines.take(pasture_types::resources::MAX_GPU_LINES).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    #[test]
    fn the_tightest_group_limit_counts() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        write(root, "proc/self/cgroup", "0::/a/b\n");
        write(root, "proc/meminfo", "MemTotal:       16384 kB\nMemFree: 1 kB\n");
        write(root, "sys/fs/cgroup/a/b/cpu.max", "max 100000\n");
        write(root, "sys/fs/cgroup/a/cpu.max", "25000 100000\n");
        write(root, "sys/fs/cgroup/a/b/memory.max", "4194304\n");
        write(root, "sys/fs/cgroup/a/memory.max", "max\n");
        assert_eq!(cpu_millis(root), 250);
        assert_eq!(memory_bytes(root), 4 << 20);
        assert_eq!(available_bytes(root), 0, "the kernel does not say");
        write(root, "proc/meminfo", "MemTotal:       16384 kB\nMemAvailable:    3072 kB\n");
        assert_eq!(available_bytes(root), 3 << 20);
        write(root, "sys/fs/cgroup/a/b/memory.current", "2097152\n");
        assert_eq!(available_bytes(root), 2 << 20);
        write(root, "sys/fs/cgroup/a/b/memory.stat", "anon 1\ninactive_file 524288\n");
        assert_eq!(available_bytes(root), (2 << 20) + (512 << 10), "what was read can be dropped");
    }

    #[test]
    fn the_older_groups_count_too() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        write(root, "proc/self/cgroup", "3:cpu,cpuacct:/x\n2:memory:/x\n");
        write(root, "proc/meminfo", "MemTotal:       16384 kB\n");
        write(root, "sys/fs/cgroup/cpu/x/cpu.cfs_quota_us", "50000\n");
        write(root, "sys/fs/cgroup/cpu/x/cpu.cfs_period_us", "100000\n");
        write(root, "sys/fs/cgroup/memory/x/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(cpu_millis(root), 500);
        assert_eq!(memory_bytes(root), 16 << 20);
    }

    #[test]
    fn gpus_whose_driver_is_silent_are_counted_by_model() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for (n, name) in ["NVIDIA H100 80GB HBM3", "NVIDIA H100 80GB HBM3", "Tesla T4"].iter().enumerate() {
            write(root, &format!("proc/driver/nvidia/gpus/{n}/information"), &format!("Model: \t {name}\nIRQ: 16\n"));
        }
        let lines = gpu_lines(&gpu_names(root));
        assert_eq!(lines.iter().map(|l| (l.model.as_str(), l.count, l.vram_bytes)).collect::<Vec<_>>(), [("H100", 2, 0), ("T4", 1, 0)]);
        assert_eq!(gpu_names(&root.join("none")), "");
        assert_eq!(gpu_lines("\n"), vec![]);
    }

    #[tokio::test]
    async fn this_machine_has_something() {
        let m = detect(&std::env::temp_dir()).await;
        assert!(m.resources.cpu_millis > 0 && m.resources.memory_bytes > 0 && m.resources.disk_bytes > 0, "{m:?}");
        assert!(!m.arch.is_empty() && !m.cpu_model.is_empty());
        assert_eq!(cpu_model("processor : 0\nmodel name\t: Some CPU @ 2.0GHz\n"), "Some CPU @ 2.0GHz");
    }
}
