//! How long a snapshot of a volume takes, resting and in use, beside `cp -a` of the same files to the same disk, both until it is there.
//!
//! Needs root and `scripts/engine.sh base`. `cargo bench -p pasture-runtime --bench volumes -- [--quick]`; `FARM_TEST_ENGINE` names the
//! engine's socket.

#[allow(dead_code, reason = "each bench uses its part")]
#[path = "../../../bench/report.rs"]
mod report;

use pasture_runtime::docker::{DockerConfig, DockerRuntime, KNOWN_SOCKETS, find_socket};
use pasture_runtime::{InstanceId, InstanceKey, Keeper, Limits, Mount, Network, Owner, Runtime, VolumeKey, Workload};
use report::{Failure, Figure, Report, Spread, quick, say};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const IMAGE: &str = "pasture/busybox:1";
const VOLUME_BYTES: u64 = 1 << 30;
/// Half in large files, half in small ones.
const FILL: &str = "cd /data && for n in $(seq 16); do dd if=/dev/urandom of=large$n bs=1M count=8 2>/dev/null; done; mkdir small; \
                    dd if=/dev/urandom of=block bs=16k count=1 2>/dev/null; for n in $(seq 8192); do cp block small/$n; done; sync; \
                    echo filled; exec sleep 100000";
const FULL_ROUNDS: usize = 9;
const QUICK_ROUNDS: usize = 2;
const FILLED_WITHIN: Duration = Duration::from_secs(300);

fn main() -> Result<(), Failure> {
    let quick = quick()?;
    let scratch = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let mut report = Report::begin("volumes", quick, scratch.path());
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    tokio.block_on(async {
        let owner = Owner::parse(&format!("bench-{}", std::process::id()))?;
        let named = std::env::var_os("FARM_TEST_ENGINE").map(PathBuf::from);
        let candidates = named.map_or_else(|| KNOWN_SOCKETS.iter().map(PathBuf::from).collect(), |named| vec![named]);
        let socket = find_socket(candidates).await.ok_or("no container engine answers; scripts/engine.sh base starts one")?;
        let runtime = DockerRuntime::connect(DockerConfig::new(&socket, scratch.path())).await?;
        let rounds = if quick { QUICK_ROUNDS } else { FULL_ROUNDS };
        let measured = measure(&runtime, &owner, scratch.path(), rounds, &mut report).await;
        let swept = runtime.sweep(&owner, &BTreeSet::new()).await;
        if let Some(keeper) = runtime.keeper() {
            keeper.clear(&owner, &BTreeMap::new()).await?;
        }
        measured?;
        swept?;
        Ok::<(), Failure>(())
    })?;
    report.finish()
}

/// An instance that fills the volume and holds it.
async fn filled(runtime: &DockerRuntime, owner: &Owner, volume: &VolumeKey) -> Result<InstanceId, Failure> {
    let workload = Workload {
        instance_key: InstanceKey::parse("filler")?,
        owner: owner.clone(),
        image: IMAGE.into(),
        command: vec!["/bin/sh".into(), "-c".into()],
        args: vec![FILL.into()],
        env: BTreeMap::new(),
        workdir: None,
        limits: Limits { cpu_millis: 2_000, memory_bytes: 256 << 20, pids: 32, disk_bytes: 0, cpuset: None },
        network: Network::None,
        labels: BTreeMap::new(),
        output_dir: None,
        output_of: None,
        read_only_root: false,
        grace: Duration::ZERO,
        mounts: vec![Mount { volume: volume.clone(), path: "/data".into(), read_only: false }],
        gpus: Vec::new(),
        files: Vec::new(),
        secrets: None,
    };
    let id = runtime.create(&workload).await?;
    runtime.start(&id).await?;
    let begun = Instant::now();
    loop {
        let seen = runtime.exec(&id, vec!["/bin/sh".into(), "-c".into(), "ls /data/small | wc -l".into()], FILLED_WITHIN).await?;
        if String::from_utf8_lossy(&seen.stdout).trim() == "8192" {
            return Ok(id);
        }
        if begun.elapsed() > FILLED_WITHIN {
            return Err("the volume was not filled in time".into());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn measure(runtime: &DockerRuntime, owner: &Owner, scratch: &Path, rounds: usize, report: &mut Report) -> Result<(), Failure> {
    let keeper = runtime.keeper().ok_or("volumes need root and an engine on this machine")?;
    let volume = VolumeKey::parse("v")?;
    keeper.make(owner, &volume, VOLUME_BYTES).await?;
    let holder = filled(runtime, owner, &volume).await?;
    let mounted = scratch.join("kept").join(owner.as_str()).join("v");
    let (mut copied, mut used, mut resting) = (vec![], vec![], vec![]);
    for round in 0..=rounds {
        let plain = files_copied(&mounted, &scratch.join("plain"))?;
        let in_use = snapshot(keeper, owner, &volume).await?;
        if round > 0 {
            copied.push(plain);
            used.push(in_use);
            say(&format!("round {round} of {rounds}: cp -a {plain:.0} ms, a snapshot in use {in_use:.0} ms"));
        }
    }
    Runtime::remove(runtime, &holder).await?;
    keeper.rest(owner, &volume).await?;
    for _ in 0..rounds {
        resting.push(snapshot(keeper, owner, &volume).await?);
    }
    let floor = Spread::median(&copied);
    for (name, times) in [("snapshot of 256 MiB in 8,208 files, in use", &used), ("snapshot of 256 MiB in 8,208 files, resting", &resting)]
    {
        report.add(Figure::new(name, "ms", Spread::median(times)).against("cp -a and sync of the same files", "ms", floor));
    }
    Ok(())
}

fn millis_since(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64() * 1_000.0
}

async fn snapshot(keeper: &dyn Keeper, owner: &Owner, volume: &VolumeKey) -> Result<f64, Failure> {
    let copy = VolumeKey::parse("copy")?;
    let begun = Instant::now();
    keeper.copy(owner, volume, &copy).await?;
    let took = millis_since(begun);
    keeper.remove(owner, &copy).await?;
    Ok(took)
}

fn files_copied(from: &Path, to: &Path) -> Result<f64, Failure> {
    let begun = Instant::now();
    for mut command in [Command::new("cp"), Command::new("sync")] {
        if command.get_program() == "cp" {
            command.arg("-a").arg(from).arg(to);
        } else {
            command.arg("-f").arg(to);
        }
        if !command.status()?.success() {
            return Err(format!("{command:?} failed").into());
        }
    }
    let took = millis_since(begun);
    std::fs::remove_dir_all(to)?;
    Ok(took)
}
