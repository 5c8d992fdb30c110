//! What this machine has: cores, memory, disk, GPUs.
//!
//! Guarantees: the limits of the process's own control groups are respected, since more than those cannot be had. GPUs are
//! listed here and offered by `gpus`; a machine without the vendor's tools simply has none. It measures no speed.

use crate::gpus::nvidia;
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

fn memory_bytes(root: &Path) -> u64 {
    let total = read(root, "proc/meminfo")
        .and_then(|text| text.lines().find_map(|l| l.strip_prefix("MemTotal:")?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()))
        .map_or(0, |kib| kib.saturating_mul(1024));
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
    if !nvidia::has_driver() {
        return vec![];
    }
    match nvidia::ask(&["--query-gpu=name,memory.total", nvidia::FORM]).await {
        Ok(text) => gpu_lines(&text),
        // The driver is there, its tool is not: names without memory.
        Err(_) => gpu_lines(&gpu_names()),
    }
}

fn gpu_names() -> String {
    let Ok(dir) = std::fs::read_dir("/proc/driver/nvidia/gpus") else { return String::new() };
    let texts = dir.filter_map(|gpu| std::fs::read_to_string(gpu.ok()?.path().join("information")).ok());
    texts.filter_map(|t| t.lines().find_map(|l| Some(format!("{}\n", l.strip_prefix("Model:")?.trim())))).collect()
}

/// Lines of `name, MiB`, counted by model.
fn gpu_lines(text: &str) -> Vec<GpuLine> {
    let mut found: BTreeMap<(String, u64), u16> = BTreeMap::new();
    for line in text.lines().filter(|l| !l.trim().is_empty()) {
        let (name, mib) = line.split_once(',').unwrap_or((line, "0"));
        let Some(model) = pasture_types::gpu::model(name) else { continue };
        let vram = mib.trim().parse::<u64>().unwrap_or(0).saturating_mul(1 << 20);
        let count = found.entry((model, vram)).or_default();
        *count = count.saturating_add(1);
    }
    let lines = found.into_iter().map(|((model, vram_bytes), count)| GpuLine { model, count, vram_bytes });
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
    fn gpus_are_counted_by_model() {
        let lines = gpu_lines("NVIDIA H100 80GB HBM3, 81559\nNVIDIA H100 80GB HBM3, 81559\nTesla T4, 15360\n");
        assert_eq!(lines.len(), 2);
        assert_eq!((lines[0].model.as_str(), lines[0].count, lines[0].vram_bytes), ("H100", 2, 81559 << 20));
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
