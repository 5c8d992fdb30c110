//! What capacity audits cost a tenant, and the ledger.
//!
//! Two networks by production rules on this machine, one with audits and one without; each offers all cores. A production zone audits a
//! machine for 4 s every 9 minutes on average (7.5, and the next one is drawn only when the last is judged, 1.5 later): 0.74 % of the time.
//! So that bursts come while somebody waits, both are shorter here, with the same share: 1.1 s every 2.5 minutes ([`pace`]). Then, in turn:
//! a job that only calculates, on both. Then an echo in a job, asked all the time: how long it takes while the machine hashes, and else.
//! Meanwhile what both chains write. `cargo bench -p pasture-farm --bench audits -- [--quick]`; needs `scripts/engine.sh base`.

#[path = "run/process.rs"]
mod process;
#[path = "run/production.rs"]
mod production;
#[path = "../../../bench/report.rs"]
mod report;

use bytes::Bytes;
use futures::StreamExt as _;
use pasture_api::ApiClient;
use pasture_api::channel::{Frame, Opening, Purpose};
use pasture_api::client::LeaseClient;
use pasture_rt::{Clock as _, SystemClock};
use pasture_store::keys;
use pasture_types::audit::AuditParams;
use pasture_types::{LeaseId, Millis, NodeId};
use process::failed;
use production::{Production, Shape};
use report::{Failure, Figure, Goal, Report, Spread, cpu_seconds, quick, say};
use serde_json::{Value, json};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

const IMAGE: &str = "pasture/busybox:1";
/// Where an engine usually listens, ours first.
const SOCKETS: [&str; 2] = ["/run/pasture/docker.sock", "/var/run/docker.sock"];
/// A job with audits may take so many times as long as without.
const BURDEN_GOAL: f64 = 1.01;
/// Bursts a day of a machine that always has a lease, by production parameters: one every 9 minutes.
const AUDITS_A_DAY: f64 = 160.0;
const DAY_S: f64 = 86_400.0;
/// Between two questions to the echo.
const ASK_EVERY: Duration = Duration::from_millis(10);
/// Longest that the echo may take.
const ANSWER_DEADLINE: Duration = Duration::from_secs(30);
/// Between two looks at what the machine's program uses.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// A program that uses more of a core than this, meanwhile, hashes.
const HASHING: f64 = 0.5;
/// Calculates on each core, and says when it began and ended by the machine's own clock.
const CALCULATE: &str = "s=$(cut -d' ' -f1 /proc/uptime); n=0; while [ $n -lt CORES ]; do (i=0; while [ $i -lt COUNT ]; do i=$((i+1)); done) & n=$((n+1)); done; wait; e=$(cut -d' ' -f1 /proc/uptime); echo $s $e";

/// How much is measured.
struct Plan {
    rounds: usize,
    count: u64,
    asked: Duration,
}

impl Plan {
    const FULL: Self = Self { rounds: 11, count: 40_000_000, asked: Duration::from_secs(1_200) };
    const QUICK: Self = Self { rounds: 1, count: 200_000, asked: Duration::from_secs(10) };
}

/// Production's audits, shorter and more often by so much that their share of the time is the same.
fn pace() -> AuditParams {
    AuditParams { active: true, interval: Millis(60_000), burst: Millis(1_100), ..AuditParams::production() }
}

/// Where containers come from.
struct Engine {
    socket: PathBuf,
}

impl Engine {
    fn find() -> Result<Self, Failure> {
        let named = std::env::var_os("FARM_TEST_ENGINE").map(PathBuf::from);
        let candidates = named.map_or_else(|| SOCKETS.iter().map(PathBuf::from).collect(), |named| vec![named]);
        let found = candidates.into_iter().find(|socket| UnixStream::connect(socket).is_ok());
        Ok(Self { socket: found.ok_or("no container engine answers; scripts/engine.sh base starts one")? })
    }
}

fn main() -> Result<(), Failure> {
    let quick = quick()?;
    let plan = if quick { Plan::QUICK } else { Plan::FULL };
    let scratch = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let mut report = Report::begin("audits", quick, scratch.path());
    let (cores, pace) = (std::thread::available_parallelism()?.get(), pace());
    let shape = json!({ "tick_ms": pace.tick.0, "interval_ms": pace.interval.0, "burst_ms": pace.burst.0 });
    report.plan(json!({ "rounds": plan.rounds, "count": plan.count, "asked_s": plan.asked.as_secs(), "cores": cores, "audits": shape }));
    let engine = Engine::find()?;
    let start = |name: &str, audits: Option<AuditParams>| -> Result<(PathBuf, Production), Failure> {
        let folder = scratch.path().join(name);
        std::fs::create_dir(&folder)?;
        let network = Production::start(&folder, &engine, &Shape { cores, audits })?;
        Ok((folder, network))
    };
    let (_, plain) = start("plain", None)?;
    let (folder, audited) = start("audited", Some(pace))?;
    let measured =
        throughput(&plain, &audited, cores, &plan, &mut report).and_then(|()| latency(&audited, &plain, &folder, &plan, &mut report));
    let stopped = [audited.stop(), plain.stop()];
    measured?;
    stopped.into_iter().collect::<Result<Vec<()>, _>>()?;
    report.finish()
}

/// Seconds of a fixed piece of work on all cores, in turn without and with audits. What counts is the sum: a burst hits one round in three.
fn throughput(plain: &Production, audited: &Production, cores: usize, plan: &Plan, report: &mut Report) -> Result<(), Failure> {
    let command = CALCULATE.replace("COUNT", &plan.count.to_string()).replace("CORES", &cores.to_string());
    let took = |network: &Production| -> Result<f64, Failure> {
        let cpu = cores.to_string();
        let ran = network.farm(&["run", IMAGE, "--egress", "none", "--cpu", &cpu, "--", "sh", "-c", &command]).output()?;
        if !ran.status.success() {
            return Err(failed("a job failed", &ran));
        }
        let said = String::from_utf8_lossy(&ran.stdout).into_owned();
        let mut times = said.split_whitespace().map(str::parse::<f64>);
        match (times.next(), times.next()) {
            (Some(Ok(begun)), Some(Ok(ended))) => Ok(ended - begun),
            _ => Err(format!("the calculator said {said:?}").into()),
        }
    };
    let (mut without, mut with) = (0.0, 0.0);
    for round in 1..=plan.rounds {
        say(&format!("a job that calculates, round {round} of {} ...", plan.rounds));
        without += took(plain)?;
        with += took(audited)?;
    }
    let figure = Figure::new("a job that only calculates, audited, all rounds", "s", Spread::median(&[with]));
    report.add(figure.against("without audits", "s", Spread::median(&[without])).goal(Goal::Times(BURDEN_GOAL)));
    Ok(())
}

/// A job that waits, and what is known of it.
struct Echo {
    lease: LeaseId,
    node: NodeId,
}

fn wait_in(network: &Production) -> Result<Echo, Failure> {
    let farm = |args: &[&str]| -> Result<Vec<u8>, Failure> {
        let ran = network.farm(args).output()?;
        if ran.status.success() { Ok(ran.stdout) } else { Err(failed("farm failed", &ran)) }
    };
    let _ = farm(&["run", IMAGE, "-d", "--name", "echo", "--egress", "none", "--", "sleep", "86400"])?;
    let told: Value = serde_json::from_slice(&farm(&["status", "echo", "--json"])?)?;
    let text = |pointer: &str| told.pointer(pointer).and_then(Value::as_str).ok_or_else(|| format!("farm status tells no {pointer}"));
    Ok(Echo { lease: text("/lease/id")?.parse()?, node: text("/lease/node")?.parse()? })
}

/// An echo in a job while bursts come and go, and what both chains write meanwhile.
fn latency(audited: &Production, plain: &Production, folder: &Path, plan: &Plan, report: &mut Report) -> Result<(), Failure> {
    let echo = wait_in(audited)?;
    let _ = wait_in(plain)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let api = ApiClient::new(audited.url())?;
    let judged = || -> Result<u32, Failure> {
        let standing = runtime.block_on(api.node(&echo.node))?.standing.and_then(|s| s.audits);
        Ok(standing.map_or(0, |audits| audits.passes + audits.failures))
    };
    let other = folder.with_file_name("plain");
    let sizes = || -> Result<[u64; 2], Failure> { Ok([size(&folder.join("validator"))?, size(&other.join("validator"))?]) };
    let key = keys::load_or_create(&audited.home().join("account.key"))?;
    let client = LeaseClient::new(ApiClient::new(audited.url())?, key, echo.lease, echo.node, || SystemClock.now_ms());
    say(&format!("an echo in a job, asked for {} s ...", plan.asked.as_secs()));
    let (before, first) = (sizes()?, judged()?);
    let (end, ended) = mpsc::channel::<()>();
    let machine = audited.machine();
    let looking = std::thread::spawn(move || watch(&machine, &ended));
    let asked = runtime.block_on(ask(&client, plan.asked));
    drop(end);
    let bursts = looking.join().map_err(|_| "the watching thread ended early")??;
    let (asked, after) = (asked?, sizes()?);
    let (in_burst, else_): (Vec<_>, Vec<_>) = asked.iter().partition(|(at, _)| bursts.iter().any(|(from, to)| (*from..*to).contains(at)));
    for (name, part) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)] {
        let of = |times: &[&(Instant, f64)]| Spread::quantile(&times.iter().map(|(_, ms)| *ms).collect::<Vec<_>>(), part);
        let figure =
            Figure::new(format!("an echo in a job while its machine hashes, {name}"), "ms", of(&in_burst.iter().collect::<Vec<_>>()));
        report.add(figure.against("the same at other times", "ms", of(&else_.iter().collect::<Vec<_>>())));
    }
    let seconds = plan.asked.as_secs_f64();
    let hashed: f64 = bursts.iter().map(|(from, to)| (*to - *from).as_secs_f64()).sum();
    report.add(Figure::new("the machine's program used half a core or more", "% of the time", Spread::median(&[hashed / seconds * 100.0])));
    let [ours, theirs] = [0, 1].map(|i| after.get(i).zip(before.get(i)).map_or(0.0, |(a, b)| a.saturating_sub(*b) as f64));
    let audits = f64::from(judged()?.saturating_sub(first));
    report.add(Figure::new("audits judged meanwhile", "audits", Spread::median(&[audits])));
    report.add(Figure::new("written by the chain a node-day, without audits", "KB", Spread::median(&[theirs / seconds * DAY_S / 1e3])));
    let more = (ours - theirs) / audits.max(1.0);
    let name = "audits of a node-day on the chain, one witness, at production's pace";
    report.add(Figure::new(name, "KB", Spread::median(&[more * AUDITS_A_DAY / 1e3])));
    Ok(())
}

/// Bytes of all files below a folder.
fn size(folder: &Path) -> Result<u64, Failure> {
    let mut all = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        all += if entry.file_type()?.is_dir() { size(&entry.path())? } else { entry.metadata()?.len() };
    }
    Ok(all)
}

/// When the program hashed, until nobody waits any more.
fn watch(machine: &str, ended: &mpsc::Receiver<()>) -> Result<Vec<(Instant, Instant)>, Failure> {
    let (mut bursts, mut used, mut at) = (Vec::new(), cpu_seconds(machine)?, Instant::now());
    while ended.recv_timeout(LOOK_EVERY) == Err(mpsc::RecvTimeoutError::Timeout) {
        let (now_used, now) = (cpu_seconds(machine)?, Instant::now());
        if now_used - used > HASHING * (now - at).as_secs_f64() {
            bursts.push((at, now));
        }
        (used, at) = (now_used, now);
    }
    Ok(bursts)
}

/// Asks an echo again and again: when, and how many milliseconds it took.
async fn ask(client: &LeaseClient, time: Duration) -> Result<Vec<(Instant, f64)>, Failure> {
    let purpose = Purpose::Exec { command: vec!["cat".into()], env: Default::default(), terminal: None };
    let opening = Opening { salt: format!("{:032x}", 1), at_ms: SystemClock.now_ms(), purpose };
    let (say, said) = futures::channel::mpsc::unbounded();
    let mut told = client.channel(&opening, said).await?;
    let (begun, mut asked) = (Instant::now(), Vec::new());
    while begun.elapsed() < time {
        let at = Instant::now();
        say.unbounded_send(Frame::Input(Bytes::from_static(b"?\n")))?;
        loop {
            match tokio::time::timeout(ANSWER_DEADLINE, told.next()).await?.ok_or("the channel broke off")?? {
                Frame::Output(_) => break,
                Frame::Still => {}
                other => return Err(format!("the echo says {other:?}").into()),
            }
        }
        asked.push((at, at.elapsed().as_secs_f64() * 1e3));
        tokio::time::sleep(ASK_EVERY).await;
    }
    Ok(asked)
}
