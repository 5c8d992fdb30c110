//! What this machine is doing: processor, memory, disk, network, GPUs. For its owner, at the moment of asking.
//!
//! Guarantees: it reads and changes nothing; what cannot be read is left out, not made up. It looks at the whole machine and not at single
//! jobs (their figures come from the engine), and it keeps no history.

use crate::gpus::GpuError;
use crate::gpus::nvml::Library;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::Duration;

/// How long the machine is looked at: two looks make a rate.
const LOOK: Duration = Duration::from_millis(250);

/// What a machine is doing.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Load {
    /// Busy share of all cores, in parts per thousand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_permille: Option<u32>,
    /// Processes that run or want to, on average over the last minute, in hundredths.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting_hundredths: Option<u32>,
    /// Memory, in bytes: what is not available to a new program, and all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Used>,
    /// The disk where the node has its files, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk: Option<Used>,
    /// Bytes a second on all networks but the machine's own: received, sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<Traffic>,
    /// GPUs, as their driver tells; empty without one.
    pub gpus: Vec<GpuLoad>,
}

/// How much of something is used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Used {
    /// In use.
    pub used: u64,
    /// All there is.
    pub total: u64,
}

/// Bytes a second.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Traffic {
    /// Received.
    pub received: u64,
    /// Sent.
    pub sent: u64,
}

/// What one GPU is doing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GpuLoad {
    /// Its vendor's name for it.
    pub uuid: String,
    /// Model.
    pub name: String,
    /// Busy share, in percent; `None` where the device does not tell.
    pub busy_percent: Option<u32>,
    /// Its memory, in bytes.
    pub memory: Option<Used>,
    /// In degrees Celsius.
    pub celsius: Option<u32>,
    /// What it draws, in watts.
    pub watts: Option<u32>,
}

/// Looks at the machine for a quarter of a second. `disk` lies on the disk that counts.
pub async fn look(disk: &Path) -> Load {
    let root = Path::new("/");
    // First, since a slow driver would lengthen what lies between the two looks.
    let gpus = gpus(&Library::of_this_machine()).await;
    let before = (cpu(root), traffic(root));
    let begun = tokio::time::Instant::now();
    tokio::time::sleep(LOOK).await;
    let after = (cpu(root), traffic(root));
    let millis = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
    let rate = |a: u64, b: u64| b.saturating_sub(a).saturating_mul(1000) / millis;
    Load {
        cpu_permille: before.0.zip(after.0).and_then(|(a, b)| busy(a, b)),
        waiting_hundredths: read(root, "proc/loadavg").and_then(|text| hundredths(text.split(' ').next()?)),
        memory: read(root, "proc/meminfo").and_then(|text| memory(&text)),
        disk: disk_use(disk),
        network: before.1.zip(after.1).map(|(a, b)| Traffic { received: rate(a.received, b.received), sent: rate(a.sent, b.sent) }),
        gpus,
    }
}

fn read(root: &Path, path: &str) -> Option<String> {
    std::fs::read_to_string(root.join(path)).ok()
}

/// Ticks of all cores since the machine began: busy, all.
fn cpu(root: &Path) -> Option<(u64, u64)> {
    let text = read(root, "proc/stat")?;
    let mut ticks = vec![];
    for field in text.lines().next()?.strip_prefix("cpu ")?.split_whitespace() {
        ticks.push(field.parse::<u64>().ok()?);
    }
    // user nice system idle iowait irq softirq steal; what follows is in user and nice already.
    let all: u64 = ticks.iter().take(8).sum();
    let idle: u64 = ticks.iter().skip(3).take(2).sum();
    Some((all.saturating_sub(idle), all))
}

fn busy(before: (u64, u64), after: (u64, u64)) -> Option<u32> {
    let all = after.1.checked_sub(before.1).filter(|all| *all > 0)?;
    u32::try_from(after.0.saturating_sub(before.0).min(all).saturating_mul(1000) / all).ok()
}

/// `1.25` as 125.
fn hundredths(text: &str) -> Option<u32> {
    let (whole, part) = text.split_once('.')?;
    let part = part.get(..2).filter(|_| part.len() == 2)?;
    whole.parse::<u32>().ok()?.checked_mul(100)?.checked_add(part.parse().ok()?)
}

fn memory(text: &str) -> Option<Used> {
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
    };
    let total = field("MemTotal")?;
    Some(Used { used: total.saturating_sub(field("MemAvailable")?), total })
}

fn disk_use(path: &Path) -> Option<Used> {
    let s = rustix::fs::statvfs(path).ok()?;
    let total = s.f_blocks.saturating_mul(s.f_frsize);
    Some(Used { used: total.saturating_sub(s.f_bavail.saturating_mul(s.f_frsize)), total })
}

/// All bytes since the machine began.
fn traffic(root: &Path) -> Option<Traffic> {
    let text = read(root, "proc/net/dev")?;
    let mut sum = Traffic { received: 0, sent: 0 };
    for (name, fields) in text.lines().filter_map(|line| line.split_once(':')) {
        // Bridges and the ends of jobs' networks would count everything twice.
        if name.trim() == "lo" || ["veth", "br-", "docker", "podman"].iter().any(|prefix| name.trim().starts_with(prefix)) {
            continue;
        }
        let numbers: Vec<u64> = fields.split_whitespace().map_while(|n| n.parse().ok()).collect();
        sum.received = sum.received.saturating_add(*numbers.first()?);
        sum.sent = sum.sent.saturating_add(*numbers.get(8)?);
    }
    Some(sum)
}

/// GPUs that cannot be looked at are left out, and the log says why.
pub(crate) async fn gpus(library: &Library) -> Vec<GpuLoad> {
    match library.load().await {
        Ok(gpus) => gpus,
        Err(GpuError::NoDriver(_)) => vec![],
        Err(error) => {
            tracing::warn!(%error, "what the GPUs are doing cannot be read");
            vec![]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        dir
    }

    #[test]
    fn shares_are_of_what_passed_between_two_looks() {
        let dir = machine(&[("proc/stat", "cpu  100 0 50 800 50 0 0 0 7 7\ncpu0 1 2 3\n")]);
        assert_eq!(cpu(dir.path()), Some((150, 1000)));
        assert_eq!(busy((150, 1000), (250, 1200)), Some(500));
        assert_eq!(busy((150, 1000), (150, 1000)), None, "no time has passed");
        assert_eq!(cpu(machine(&[("proc/stat", "intr 1\n")]).path()), None);
        assert_eq!((hundredths("1.25"), hundredths("12.5"), hundredths("x.00")), (Some(125), None, None));
    }

    #[test]
    fn memory_is_what_is_not_available() {
        let text = "MemTotal:       1000 kB\nMemFree:  1 kB\nMemAvailable:    400 kB\n";
        assert_eq!(memory(text), Some(Used { used: 600 << 10, total: 1000 << 10 }));
        assert_eq!(memory("MemTotal: 1000 kB\n"), None);
    }

    #[test]
    fn only_the_ways_out_of_the_machine_count() {
        let row = |name: &str, n: u64| format!("{name}: {n} 1 0 0 0 0 0 0 {} 1 0 0 0 0 0 0\n", n * 2);
        let text = format!("Inter-|\n face |bytes\n{}{}{}{}", row("    lo", 5), row("eth0", 10), row("veth12", 7), row("wlan0", 1));
        assert_eq!(traffic(machine(&[("proc/net/dev", &text)]).path()), Some(Traffic { received: 11, sent: 22 }));
    }

    #[tokio::test]
    async fn this_machine_has_memory_and_a_disk() {
        let load = look(Path::new("/")).await;
        assert!(load.memory.unwrap().total > 0 && load.disk.unwrap().total > 0 && load.cpu_permille.unwrap() <= 1000, "{load:?}");
    }
}
