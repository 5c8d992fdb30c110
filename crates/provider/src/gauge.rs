//! How fast this machine is, one figure for each kind of resource: what `farm provider self-test` shows and a price is suggested by.
//!
//! Guarantees: it takes a few seconds and 256 MiB of disk at most, and leaves nothing behind. It measures what a job would get
//! with the machine otherwise idle; the network is not measured, since that needs somebody at the other end. Nothing here is a proof:
//! the ledger believes benchmarks that others co-sign and audits (`docs/specs/audits.md`).

use pasture_proofs::{BENCHMARK_LENGTH, benchmark_cpu};
use pasture_rt::TaskKind;
use serde::Serialize;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

/// Written to the disk for its speed: more than the caches of drives that we know.
const DISK_BYTES: u64 = 256 << 20;
const DISK_CHUNK: usize = 1 << 20;
/// How long small synced writes are counted.
const SYNCS_LENGTH: Duration = Duration::from_millis(500);
const SYNC_BYTES: usize = 4 << 10;
/// Copied for the speed of memory: far more than the processor's caches.
const MEMORY_BYTES: usize = 128 << 20;
const MEMORY_LENGTH: Duration = Duration::from_millis(300);
/// Most cores that are measured together.
const MAX_CORES: usize = 1_024;

/// What a machine does in a second.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Gauge {
    /// Heartbeat hashes of one core that has the machine for itself.
    pub core_hashes: u64,
    /// Heartbeat hashes of all cores together.
    pub cpu_hashes: u64,
    /// Cores that took part.
    pub cores: usize,
    /// Bytes of memory copied by one core.
    pub memory_bytes: u64,
    /// Bytes written to the disk one after another, until they are safe there.
    pub disk_bytes: u64,
    /// Small writes to the disk, each safe before the next.
    pub disk_syncs: u64,
}

impl Gauge {
    /// How much of its own speed a core keeps when all are busy, in percent; below 60 the cores are threads of fewer ones, or shared.
    #[must_use]
    pub fn scaling_percent(&self) -> u64 {
        let alone = u128::from(self.core_hashes) * self.cores as u128;
        u64::try_from(u128::from(self.cpu_hashes) * 100 / alone.max(1)).unwrap_or(u64::MAX)
    }
}

/// Measures this machine; `disk` is a directory on the disk that jobs would get. `step` is told what is measured next.
///
/// # Errors
/// The disk cannot be written, or has no room.
pub async fn gauge(disk: &Path, step: &mut (dyn FnMut(&'static str) + Send)) -> io::Result<Gauge> {
    step("one core");
    let core_hashes = hashes(1).await;
    step("all cores");
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(MAX_CORES);
    let cpu_hashes = hashes(cores).await;
    step("memory");
    let memory_bytes = blocking(memory).await?;
    step("disk");
    let at = disk.to_owned();
    let (disk_bytes, disk_syncs) = blocking(move || disk_speed(&at)).await??;
    Ok(Gauge { core_hashes, cpu_hashes, cores, memory_bytes, disk_bytes, disk_syncs })
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    let done = pasture_rt::spawn_blocking(TaskKind::Prover, work).join().await;
    done.ok_or_else(|| io::Error::other("the measurement was broken off"))
}

/// What so many threads hash together.
async fn hashes(threads: usize) -> u64 {
    let all: Vec<_> = (0..threads)
        .map(|_| {
            pasture_rt::spawn_blocking(TaskKind::Prover, || {
                let begin = Instant::now();
                benchmark_cpu(BENCHMARK_LENGTH, || begin.elapsed())
            })
        })
        .collect();
    let mut sum = 0u64;
    for one in all {
        sum = sum.saturating_add(one.join().await.unwrap_or(0));
    }
    sum
}

fn per_second(amount: u64, time: Duration) -> u64 {
    let rate = u128::from(amount) * 1_000_000_000 / time.as_nanos().max(1);
    u64::try_from(rate).unwrap_or(u64::MAX)
}

fn memory() -> u64 {
    let from = vec![0x5au8; MEMORY_BYTES];
    let mut to = vec![0u8; MEMORY_BYTES];
    // The first copy brings the pages in.
    to.copy_from_slice(&from);
    let (begin, mut copied) = (Instant::now(), 0u64);
    while begin.elapsed() < MEMORY_LENGTH {
        to.copy_from_slice(std::hint::black_box(&from));
        copied = copied.saturating_add(MEMORY_BYTES as u64);
    }
    std::hint::black_box(&to);
    per_second(copied, begin.elapsed())
}

fn disk_speed(dir: &Path) -> io::Result<(u64, u64)> {
    let mut file = Scratch::new(dir)?;
    let chunk: Vec<u8> = (0..DISK_CHUNK).map(|n| (n.wrapping_mul(0x9e37_79b9) >> 11).to_le_bytes()[0]).collect();
    let begin = Instant::now();
    for _ in 0..DISK_BYTES / DISK_CHUNK as u64 {
        file.0.write_all(&chunk)?;
    }
    file.0.sync_data()?;
    let bytes = per_second(DISK_BYTES, begin.elapsed());
    let small = chunk.get(..SYNC_BYTES).unwrap_or_default();
    let (begin, mut syncs) = (Instant::now(), 0u64);
    while begin.elapsed() < SYNCS_LENGTH {
        file.0.write_all(small)?;
        file.0.sync_data()?;
        syncs += 1;
    }
    Ok((bytes, per_second(syncs, begin.elapsed())))
}

/// A file without a name once it is open: it goes with the process, however that ends.
struct Scratch(File);

impl Scratch {
    fn new(dir: &Path) -> io::Result<Self> {
        let path = dir.join(format!("self-test.{}", std::process::id()));
        let file = File::options().write(true).create_new(true).open(&path)?;
        std::fs::remove_file(&path)?;
        Ok(Self(file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_kind_is_measured_and_nothing_stays() {
        let dir = tempfile::tempdir().unwrap();
        let mut steps = vec![];
        let gauge = gauge(dir.path(), &mut |step| steps.push(step)).await.unwrap();
        assert_eq!(steps, ["one core", "all cores", "memory", "disk"]);
        assert!(gauge.core_hashes > 0 && gauge.cores > 0 && gauge.memory_bytes > 0 && gauge.disk_bytes > 0 && gauge.disk_syncs > 0);
        // Others may be busy meanwhile, so that no figure is compared with another one.
        assert!(gauge.cpu_hashes > 0 && gauge.scaling_percent() > 0);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_disk_that_cannot_be_written_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert!(gauge(&dir.path().join("missing"), &mut |_| {}).await.is_err());
    }
}
