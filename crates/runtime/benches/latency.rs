//! What the [`Runtime`] trait costs over the bare engine: create, start, wait and remove of a program that does nothing.
//!
//! Both ways in turn, round by round, on the same engine and image; the engine's way through the same client library.
//! Needs `scripts/engine.sh base`. `cargo bench -p pasture-runtime --bench latency -- [--quick]`; `FARM_TEST_ENGINE` names
//! the engine's socket.

#[allow(dead_code, reason = "each bench uses its part")]
#[path = "../../../bench/report.rs"]
mod report;

use bollard::models::{ContainerCreateBody, HostConfig};
use bollard::query_parameters::{CreateContainerOptions, RemoveContainerOptionsBuilder, StartContainerOptions, WaitContainerOptions};
use bollard::{API_DEFAULT_VERSION, Docker};
use futures::StreamExt as _;
use pasture_runtime::docker::{DockerConfig, DockerRuntime, KNOWN_SOCKETS, find_socket};
use pasture_runtime::{InstanceKey, Limits, Network, Owner, Runtime, Workload};
use report::{Failure, Figure, Goal, Report, Spread, quick, say};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const IMAGE: &str = "pasture/busybox:1";
const PROGRAM: &str = "/bin/true";
/// The goal for a whole `farm run` is 150 ms over the engine; the trait may take half of it.
const GOAL_MS: f64 = 75.0;
const FULL_ROUNDS: usize = 21;
const QUICK_ROUNDS: usize = 3;
/// Seconds that the client waits for one answer of the engine.
const ENGINE_DEADLINE_S: u64 = 60;

fn main() -> Result<(), Failure> {
    let quick = quick()?;
    let scratch = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let mut report = Report::begin("latency", quick, scratch.path());
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    tokio.block_on(async {
        let subject = Subject::connect(scratch.path()).await?;
        let measured = measure(&subject, if quick { QUICK_ROUNDS } else { FULL_ROUNDS }, &mut report).await;
        let swept = subject.trait_side.sweep(&subject.owner, &BTreeSet::new()).await;
        measured?;
        swept?;
        Ok::<(), Failure>(())
    })?;
    report.finish()
}

async fn measure(subject: &Subject, rounds: usize, report: &mut Report) -> Result<(), Failure> {
    let (mut engine, mut plain, mut output, mut open) = (vec![], vec![], vec![], vec![]);
    for round in 0..=rounds {
        let times = [
            subject.engine_alone().await?,
            subject.through_the_trait(round, Shape::Plain).await?,
            subject.through_the_trait(round, Shape::Output).await?,
            subject.through_the_trait(round, Shape::Open).await?,
        ];
        // The first round fills caches on both sides.
        if round > 0 {
            let columns = [&mut engine, &mut plain, &mut output, &mut open];
            columns.into_iter().zip(times).for_each(|(column, time)| column.push(time));
            say(&format!("round {round} of {rounds}: engine, trait, with an output volume, with a network: {times:.1?} ms"));
        }
    }
    let floor = Spread::median(&engine);
    for (name, times, goal) in [
        ("create, start, wait, remove through the trait", &plain, Some(Goal::Over(GOAL_MS))),
        ("the same with an output volume", &output, None),
        ("the same with a network of its own", &open, None),
    ] {
        let figure = Figure::new(name, "ms", Spread::median(times)).against("the engine alone, without either", "ms", floor);
        report.add(if let Some(goal) = goal { figure.goal(goal) } else { figure });
    }
    Ok(())
}

/// What a workload has beyond its program.
#[derive(Clone, Copy, Debug)]
enum Shape {
    Plain,
    Output,
    Open,
}

/// One engine, reached both ways.
struct Subject {
    bare: Docker,
    trait_side: DockerRuntime,
    owner: Owner,
}

impl Subject {
    async fn connect(scratch: &Path) -> Result<Self, Failure> {
        let named = std::env::var_os("FARM_TEST_ENGINE").map(PathBuf::from);
        let candidates = named.map_or_else(|| KNOWN_SOCKETS.iter().map(PathBuf::from).collect(), |named| vec![named]);
        let socket = find_socket(candidates).await.ok_or("no container engine answers; scripts/engine.sh base starts one")?;
        let path = socket.to_str().ok_or("the socket's path is not text")?;
        let bare = Docker::connect_with_unix(path, ENGINE_DEADLINE_S, API_DEFAULT_VERSION)?.negotiate_version().await?;
        let trait_side = DockerRuntime::connect(DockerConfig::new(&socket, scratch)).await?;
        if trait_side.image(IMAGE).await?.is_none() {
            return Err(format!("the engine has no {IMAGE}; run scripts/engine.sh base").into());
        }
        Ok(Self { bare, trait_side, owner: Owner::parse(&format!("bench-{}", std::process::id()))? })
    }

    /// In milliseconds.
    async fn engine_alone(&self) -> Result<f64, Failure> {
        let begun = Instant::now();
        let body = ContainerCreateBody {
            image: Some(IMAGE.into()),
            cmd: Some(vec![PROGRAM.into()]),
            host_config: Some(HostConfig { network_mode: Some("none".into()), ..Default::default() }),
            ..Default::default()
        };
        let id = self.bare.create_container(None::<CreateContainerOptions>, body).await?.id;
        self.bare.start_container(&id, None::<StartContainerOptions>).await?;
        self.bare.wait_container(&id, None::<WaitContainerOptions>).next().await.ok_or("the engine waited for nothing")??;
        self.bare.remove_container(&id, Some(RemoveContainerOptionsBuilder::default().force(true).build())).await?;
        Ok(millis_since(begun))
    }

    /// In milliseconds.
    async fn through_the_trait(&self, round: usize, shape: Shape) -> Result<f64, Failure> {
        let workload = Workload {
            instance_key: InstanceKey::parse(&format!("{shape:?}-{round}"))?,
            owner: self.owner.clone(),
            image: IMAGE.into(),
            command: vec![PROGRAM.into()],
            args: Vec::new(),
            env: BTreeMap::new(),
            workdir: None,
            limits: Limits {
                cpu_millis: 1_000,
                memory_bytes: 64 << 20,
                pids: 32,
                disk_bytes: if matches!(shape, Shape::Output) { 64 << 20 } else { 0 },
                cpuset: None,
            },
            network: if matches!(shape, Shape::Open) { Network::Open } else { Network::None },
            labels: BTreeMap::new(),
            output_dir: matches!(shape, Shape::Output).then(|| "/out".into()),
            output_of: None,
            read_only_root: false,
            grace: Duration::from_secs(2),
            mounts: Vec::new(),
            gpus: Vec::new(),
            files: Vec::new(),
            secrets: None,
        };
        let begun = Instant::now();
        let id = self.trait_side.create(&workload).await?;
        self.trait_side.start(&id).await?;
        let exit = self.trait_side.wait(&id).await?;
        self.trait_side.remove(&id).await?;
        if exit.code == 0 { Ok(millis_since(begun)) } else { Err(format!("{PROGRAM} exited with {}", exit.code).into()) }
    }
}

fn millis_since(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64() * 1e3
}
