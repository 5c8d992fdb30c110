//! What the [`Runtime`] trait costs over the bare engine: create, start, wait and remove of a program that does nothing; and of one
//! with a disk and a network of its own, as a job of a machine has them, step by step.
//!
//! Both ways in turn, round by round, on the same engine and image; the engine's way through the same client library.
//! Needs `scripts/engine.sh base`. `cargo bench -p pasture-runtime --bench latency -- [--quick]`; `FARM_TEST_ENGINE` names
//! the engine's socket.

#[allow(dead_code, reason = "each bench uses its part")]
#[path = "../../../bench/report.rs"]
mod report;

use bollard::models::{ContainerCreateBody, HostConfig, NetworkCreateRequest};
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
/// Disk of a workload that has some.
const DISK: u64 = 1 << 30;
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
    let mut rows: [Vec<Took>; 6] = Default::default();
    for round in 0..=rounds {
        let took = [
            subject.engine_alone(round, false).await?,
            subject.through_the_trait(round, Shape::Plain).await?,
            subject.through_the_trait(round, Shape::Output).await?,
            subject.through_the_trait(round, Shape::Open).await?,
            subject.engine_alone(round, true).await?,
            subject.through_the_trait(round, Shape::Job).await?,
        ];
        // The first round fills caches on both sides.
        if round > 0 {
            rows.iter_mut().zip(took).for_each(|(row, took)| row.push(took));
            let all = took.map(|one| one.all());
            say(&format!(
                "round {round} of {rounds}: engine, trait, with an output volume, with a network, engine with one, a job: {all:.1?} ms"
            ));
        }
    }
    let [engine, plain, output, open, engine_open, job] = rows;
    let spread = |row: &[Took], part: fn(&Took) -> f64| Spread::median(&row.iter().map(part).collect::<Vec<_>>());
    let floor = spread(&engine, Took::all);
    for (name, row, goal) in [
        ("create, start, wait, remove through the trait", &plain, Some(Goal::Over(GOAL_MS))),
        ("the same with an output volume", &output, None),
        ("the same with a network of its own", &open, None),
    ] {
        let figure = Figure::new(name, "ms", spread(row, Took::all)).against("the engine alone, without either", "ms", floor);
        report.add(if let Some(goal) = goal { figure.goal(goal) } else { figure });
    }
    let figure = Figure::new("a job with disk and network: create, start, wait", "ms", spread(&job, Took::until_end));
    let floor = spread(&engine_open, Took::until_end);
    report.add(figure.against("the engine's network create, create, start, wait", "ms", floor).goal(Goal::Over(GOAL_MS)));
    for (name, part) in [
        ("its create", (|took| took.create) as fn(&Took) -> f64),
        ("its start", |took| took.start),
        ("its wait", |took| took.wait),
        ("its remove", |took| took.remove),
    ] {
        let floor = spread(&engine_open, part);
        report.add(Figure::new(name, "ms", spread(&job, part)).against("the engine's", "ms", floor));
    }
    Ok(())
}

/// What the steps of one life took, in milliseconds.
#[derive(Clone, Copy, Default, Debug)]
struct Took {
    create: f64,
    start: f64,
    wait: f64,
    remove: f64,
}

impl Took {
    fn until_end(&self) -> f64 {
        self.create + self.start + self.wait
    }

    fn all(&self) -> f64 {
        self.until_end() + self.remove
    }
}

/// What a workload has beyond its program.
#[derive(Clone, Copy, Debug)]
enum Shape {
    Plain,
    Output,
    Open,
    /// Both, and of a usual size: as a machine's jobs are.
    Job,
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

    async fn engine_alone(&self, round: usize, open: bool) -> Result<Took, Failure> {
        let mut clock = Laps::begin();
        let network = if open { format!("pasture-bench-{}-{round}", std::process::id()) } else { "none".into() };
        if open {
            let request = NetworkCreateRequest { name: network.clone(), driver: Some("bridge".into()), ..Default::default() };
            self.bare.create_network(request).await?;
        }
        let body = ContainerCreateBody {
            image: Some(IMAGE.into()),
            cmd: Some(vec![PROGRAM.into()]),
            host_config: Some(HostConfig { network_mode: Some(network.clone()), ..Default::default() }),
            ..Default::default()
        };
        let id = self.bare.create_container(None::<CreateContainerOptions>, body).await?.id;
        let create = clock.lap();
        self.bare.start_container(&id, None::<StartContainerOptions>).await?;
        let start = clock.lap();
        self.bare.wait_container(&id, None::<WaitContainerOptions>).next().await.ok_or("the engine waited for nothing")??;
        let wait = clock.lap();
        self.bare.remove_container(&id, Some(RemoveContainerOptionsBuilder::default().force(true).build())).await?;
        if open {
            self.bare.remove_network(&network).await?;
        }
        Ok(Took { create, start, wait, remove: clock.lap() })
    }

    async fn through_the_trait(&self, round: usize, shape: Shape) -> Result<Took, Failure> {
        let (has_output, has_network) = match shape {
            Shape::Plain => (false, false),
            Shape::Output => (true, false),
            Shape::Open => (false, true),
            Shape::Job => (true, true),
        };
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
                disk_bytes: if has_output { DISK } else { 0 },
                cpuset: None,
            },
            network: if has_network { Network::Open } else { Network::None },
            labels: BTreeMap::new(),
            output_dir: has_output.then(|| "/out".into()),
            output_of: None,
            read_only_root: false,
            grace: Duration::from_secs(2),
            mounts: Vec::new(),
            gpus: Vec::new(),
            files: Vec::new(),
            secrets: None,
        };
        let mut clock = Laps::begin();
        let id = self.trait_side.create(&workload).await?;
        let create = clock.lap();
        self.trait_side.start(&id).await?;
        let start = clock.lap();
        let exit = self.trait_side.wait(&id).await?;
        let wait = clock.lap();
        self.trait_side.remove(&id).await?;
        let took = Took { create, start, wait, remove: clock.lap() };
        if exit.code == 0 { Ok(took) } else { Err(format!("{PROGRAM} exited with {}", exit.code).into()) }
    }
}

/// Times of steps one after the other.
struct Laps(Instant);

impl Laps {
    fn begin() -> Self {
        Self(Instant::now())
    }

    /// Milliseconds since the one before.
    fn lap(&mut self) -> f64 {
        let before = std::mem::replace(&mut self.0, Instant::now());
        self.0.duration_since(before).as_secs_f64() * 1e3
    }
}
