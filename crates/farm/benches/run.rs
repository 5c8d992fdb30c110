//! What a job costs beyond the container engine's own work, and what an idle `farm dev` costs.
//!
//! Starts a local network with the built `farm` and runs a prebuilt image that does nothing, in turn with the engine's own
//! create, start and wait of the same image with the same kind of network. Both sides clean up outside the measured time.
//! Then a command that does nothing runs in a running job, in turn with the engine's own exec in the same container.
//! Then a job that talks as fast as it can, in turn with the engine's own log of the same.
//! Last a network by production rules, its machine in a process of its own: what that machine costs beside a job, and a job that only
//! calculates, while its machine proves its capacity, in turn with the same container without us.
//! The engine is reached through its socket without any client library. Needs `scripts/engine.sh base`.
//! `cargo bench -p pasture-farm --bench run -- [--quick]`; `FARM_TEST_ENGINE` names the engine's socket.

#[path = "run/process.rs"]
mod process;
#[path = "run/production.rs"]
mod production;
#[path = "../../../bench/report.rs"]
mod report;

use futures::StreamExt as _;
use pasture_api::ApiClient;
use pasture_api::channel::{Frame, Opening, Purpose};
use pasture_api::client::LeaseClient;
use pasture_rt::{Clock as _, SystemClock};
use pasture_store::keys;
use process::{POLL, READY_DEADLINE, STOP_DEADLINE, failed, farm, last_words};
use production::{Production, Shape};
use report::{Failure, Figure, Goal, Report, Spread, cpu_seconds, quick, resident_mib, say};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Output, Stdio};
use std::time::{Duration, Instant};

const IMAGE: &str = "pasture/busybox:1";
const PROGRAM: &str = "true";
/// Where an engine usually listens, ours first.
const SOCKETS: [&str; 2] = ["/run/pasture/docker.sock", "/var/run/docker.sock"];
/// Longest that one answer of the engine may take.
const ENGINE_DEADLINE: Duration = Duration::from_secs(30);
/// Largest answer of the engine that is read.
const MAX_ANSWER: u64 = 4 << 20;

const RUN_GOAL_MS: f64 = 150.0;
const IDLE_GOAL_CORES: f64 = 0.01;
/// A job that calculates may take so many times as long as without us.
const BURDEN_GOAL: f64 = 1.01;
/// The same as a share of the machine's processor that is not the job's: heartbeats, capacity checks, the job's keeping. It has no noise of
/// other programs in it.
const BURDEN_GOAL_PERCENT: f64 = 1.0;
/// Calculates, and says when it began and ended by the machine's own clock.
const CALCULATE: &str =
    "s=$(cut -d' ' -f1 /proc/uptime); i=0; while [ $i -lt COUNT ]; do i=$((i+1)); done; e=$(cut -d' ' -f1 /proc/uptime); echo $s $e";
/// Says so many bytes, in lines of 100.
const TALK: &str =
    "yes 012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678 | head -c BYTES";

/// How much is measured.
struct Plan {
    rounds: usize,
    /// Commands of each kind in a running job.
    execs: usize,
    /// Rounds of the talker.
    jobs: usize,
    /// Rounds of the calculator.
    calculations: usize,
    /// What the talker says, in MiB.
    log_mib: u64,
    /// How far the calculator counts.
    count: u64,
    /// Before an idle measurement: the last job's periods are settled by then.
    settle: Duration,
    idle: Duration,
    /// How long a machine by production rules is looked at beside a job: whole periods, of a minute each.
    beside: Duration,
}

impl Plan {
    const FULL: Self = Self {
        rounds: 11,
        execs: 101,
        jobs: 5,
        calculations: 11,
        log_mib: 64,
        count: 4_000_000,
        settle: Duration::from_secs(20),
        idle: Duration::from_secs(20),
        beside: Duration::from_secs(180),
    };
    const QUICK: Self = Self {
        rounds: 2,
        execs: 5,
        jobs: 1,
        calculations: 1,
        log_mib: 4,
        count: 200_000,
        settle: Duration::from_secs(3),
        idle: Duration::from_secs(3),
        beside: Duration::from_secs(10),
    };
}

fn main() -> Result<(), Failure> {
    let quick = quick()?;
    let plan = if quick { Plan::QUICK } else { Plan::FULL };
    let scratch = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let mut report = Report::begin("run", quick, scratch.path());
    report.plan(json!({ "rounds": plan.rounds, "execs": plan.execs, "jobs": plan.jobs, "calculations": plan.calculations, "log_mib": plan.log_mib, "count": plan.count, "settle_s": plan.settle.as_secs(), "idle_s": plan.idle.as_secs(), "beside_s": plan.beside.as_secs() }));
    let engine = Engine::find()?;
    let mut network = Network::start(scratch.path(), &engine)?;
    let measured = network.wait_ready().and_then(|()| measure(&network, &engine, &plan, &mut report));
    if measured.is_err() {
        say(&last_words(&network.log));
    }
    let stopped = network.stop();
    measured?;
    stopped?;
    let folder = scratch.path().join("production");
    std::fs::create_dir(&folder)?;
    let production = Production::start(&folder, &engine, &Shape { cores: 1, audits: None })?;
    let measured = burden(&production, &engine, &plan, &mut report);
    let stopped = production.stop();
    measured?;
    stopped?;
    report.finish()
}

/// What heartbeats, checks and a job's keeping cost where the periods are a production network's.
fn burden(network: &Production, engine: &Engine, plan: &Plan, report: &mut Report) -> Result<(), Failure> {
    let beside = network.beside(plan.beside)?;
    let cores = std::thread::available_parallelism()?.get() as f64;
    let of_all = |share: f64| Spread::median(&[share / cores * 100.0]);
    let machine = Figure::new("processor of `farm up` beside a running job, of the machine's", "%", of_all(beside.machine));
    report.add(machine.goal(Goal::Most(BURDEN_GOAL_PERCENT)));
    report.add(Figure::new("processor of the only validator meanwhile, of the machine's", "%", of_all(beside.validator)));
    let [alone, burdened] = calculations(network, engine, plan)?;
    let work = Figure::new("a job that only calculates, its machine proving its capacity", "s", Spread::median(&burdened));
    report.add(work.against("the same container without us", "s", Spread::median(&alone)).goal(Goal::Times(BURDEN_GOAL)));
    Ok(())
}

fn measure(network: &Network, engine: &Engine, plan: &Plan, report: &mut Report) -> Result<(), Failure> {
    let fresh = idle(network, plan)?;
    say("one job of each kind to warm up ...");
    let (mut bare, mut closed, mut own, mut open) = (vec![], vec![], vec![], vec![]);
    for round in 0..=plan.rounds {
        let times = [engine.run("none")?, network.run_job("none")?, engine.run_on_own_network()?, network.run_job("open")?];
        // The first round opens the account and fills caches on both sides.
        if round > 0 {
            let columns = [&mut bare, &mut closed, &mut own, &mut open];
            columns.into_iter().zip(times).for_each(|(column, time)| column.push(time));
            say(&format!("round {round} of {}: engine, farm run, the same with a network of its own: {times:.0?} ms", plan.rounds));
        }
    }
    let (execs, beside) = execs(network, engine, plan)?;
    let used = idle(network, plan)?;
    let goal = Goal::Over(RUN_GOAL_MS);
    let closed = Figure::new("`farm run --egress none` of an image that does nothing", "ms", Spread::median(&closed));
    report.add(closed.against("the engine's create, start, wait", "ms", Spread::median(&bare)).goal(goal));
    let open = Figure::new("`farm run` of an image that does nothing", "ms", Spread::median(&open));
    report.add(open.against("the engine's network create, create, start, wait", "ms", Spread::median(&own)).goal(goal));
    let [floor, channel, program] = execs;
    let engines = "the engine's exec create, start, inspect";
    for (name, times) in [("a command in a running job, through the gateway", channel), ("`farm exec`, the whole program", program)] {
        let figure = Figure::new(format!("{name}, p50"), "ms", Spread::median(&times));
        report.add(figure.against(engines, "ms", Spread::median(&floor)));
    }
    let [engines, ours] = talks(network, engine, plan)?;
    let log = Figure::new("log of a job that talks as fast as it can, until it is here", "MiB/s", Spread::median(&ours));
    report.add(log.against("the engine's log of the same, followed", "MiB/s", Spread::median(&engines)));
    let cores = std::thread::available_parallelism()?.get() as f64;
    let all =
        Figure::new("processor of `farm dev` beside a running job, of the machine's", "%", Spread::median(&[beside.cores / cores * 100.0]));
    report.add(all);
    for (cpu, memory, idle) in [
        ("processor of an idle `farm dev`, fresh", "memory of an idle `farm dev`, fresh", fresh),
        ("processor of an idle `farm dev`, after the jobs", "memory of an idle `farm dev`, after the jobs", used),
    ] {
        report.add(Figure::new(cpu, "cores", Spread::median(&[idle.cores])).goal(Goal::Most(IDLE_GOAL_CORES)));
        report.add(Figure::new(memory, "MiB", Spread::median(&[idle.mib])));
    }
    Ok(())
}

/// Commands that do nothing in a running job: the engine's own, ours through a channel, ours as a program. Milliseconds.
/// And what `farm dev` costs beside the job, which itself does nothing.
fn execs(network: &Network, engine: &Engine, plan: &Plan) -> Result<([Vec<f64>; 3], Idle), Failure> {
    let farm = |args: &[&str]| -> Result<Output, Failure> {
        let ran = farm(&network.home).args(args).stdin(Stdio::null()).output()?;
        if ran.status.success() { Ok(ran) } else { Err(failed("farm failed", &ran)) }
    };
    farm(&["run", IMAGE, "-d", "--name", "reached", "--egress", "none", "--yes", "--", "sleep", "600"])?;
    let told: Value = serde_json::from_slice(&farm(&["status", "reached", "--json"])?.stdout)?;
    let text = |pointer: &str| told.pointer(pointer).and_then(Value::as_str).ok_or_else(|| format!("farm status tells no {pointer}"));
    let (container, lease, node) = (text("/machine/container")?, text("/lease/id")?.parse()?, text("/lease/node")?.parse()?);
    let context: Value = serde_json::from_slice(&farm(&["context", "list", "--json"])?.stdout)?;
    let url = find(&context, "http://").ok_or("farm context names no address")?;
    let key = keys::load_or_create(&network.home.join("account.key"))?;
    let client = LeaseClient::new(ApiClient::new(&url)?, key, lease, node, || SystemClock.now_ms());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let (mut floor, mut channel, mut program) = (vec![], vec![], vec![]);
    for round in 0..=plan.execs {
        let bare = engine.exec(container)?;
        let begun = Instant::now();
        runtime.block_on(exec(&client, round))?;
        let ours = millis_since(begun);
        let begun = Instant::now();
        farm(&["exec", "reached", "--", PROGRAM])?;
        // The first round fills caches on all sides.
        if round > 0 {
            floor.push(bare);
            channel.push(ours);
            program.push(millis_since(begun));
        }
    }
    let beside = idle(network, plan)?;
    farm(&["stop", "reached", "--grace", "1s"])?;
    Ok(([floor, channel, program], beside))
}

/// What a talker's bytes take from the first to the last, in MiB a second: the engine's log, ours.
fn talks(network: &Network, engine: &Engine, plan: &Plan) -> Result<[Vec<f64>; 2], Failure> {
    let bytes = plan.log_mib << 20;
    let command = TALK.replace("BYTES", &bytes.to_string());
    let (mut engines, mut ours) = (vec![], vec![]);
    for round in 1..=plan.jobs {
        say(&format!("a job that talks, round {round} of {} ...", plan.jobs));
        engines.push(engine.talk(&command, bytes)?);
        let mut run = farm(&network.home);
        run.args(["run", IMAGE, "--egress", "none", "--yes", "--cpu", "1", "--", "sh", "-c", &command]);
        let mut child = run.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let rate = drain(child.stdout.take().ok_or("no output")?, bytes);
        let ended = child.wait()?;
        ours.push(rate?);
        if !ended.success() {
            return Err(format!("the talker ended with {ended}").into());
        }
    }
    Ok([engines, ours])
}

/// Reads to the end; MiB a second from the first byte on. All that was said must be there.
fn drain(mut from: impl std::io::Read, least: u64) -> Result<f64, Failure> {
    let (mut buffer, mut total, mut begun) = (vec![0; 1 << 16], 0u64, None);
    loop {
        let n = from.read(&mut buffer)?;
        if n == 0 {
            break;
        }
        begun.get_or_insert_with(Instant::now);
        total += u64::try_from(n)?;
    }
    let took = begun.ok_or("nothing was said")?.elapsed().as_secs_f64();
    if total < least {
        return Err(format!("{total} of {least} bytes came").into());
    }
    Ok(total as f64 / f64::from(1 << 20) / took)
}

/// Seconds that a fixed piece of work takes: in a container without us, as a job.
fn calculations(network: &Production, engine: &Engine, plan: &Plan) -> Result<[Vec<f64>; 2], Failure> {
    let command = CALCULATE.replace("COUNT", &plan.count.to_string());
    let (mut alone, mut burdened) = (vec![], vec![]);
    for round in 1..=plan.calculations {
        say(&format!("a job that calculates, round {round} of {} ...", plan.calculations));
        alone.push(between(&engine.says(&command)?)?);
        burdened.push(between(&network.says(&command)?)?);
    }
    Ok([alone, burdened])
}

/// The time between the two that a calculator said.
fn between(said: &str) -> Result<f64, Failure> {
    let mut times = said.split_whitespace().map(str::parse::<f64>);
    match (times.next(), times.next()) {
        (Some(Ok(begun)), Some(Ok(ended))) => Ok(ended - begun),
        _ => Err(format!("the calculator said {said:?}").into()),
    }
}

/// The first text in a value that begins like this.
fn find(value: &Value, start: &str) -> Option<String> {
    match value {
        Value::String(text) if text.starts_with(start) => Some(text.clone()),
        Value::Array(all) => all.iter().find_map(|v| find(v, start)),
        Value::Object(all) => all.values().find_map(|v| find(v, start)),
        _ => None,
    }
}

async fn exec(client: &LeaseClient, round: usize) -> Result<(), Failure> {
    let purpose = Purpose::Exec { command: vec![PROGRAM.into()], env: Default::default(), terminal: None };
    let opening = Opening { salt: format!("{round:032x}"), at_ms: SystemClock.now_ms(), purpose };
    let mut told = client.channel(&opening, futures::stream::pending()).await?;
    while let Some(frame) = told.next().await {
        if frame? == Frame::Exit(0) {
            return Ok(());
        }
    }
    Err("the channel broke off".into())
}

/// What a process costs that does nothing.
struct Idle {
    cores: f64,
    mib: f64,
}

fn idle(network: &Network, plan: &Plan) -> Result<Idle, Failure> {
    say(&format!("leaving the network alone for {} s ...", (plan.settle + plan.idle).as_secs()));
    std::thread::sleep(plan.settle);
    let process = network.child.id().to_string();
    let (before, begun) = (cpu_seconds(&process)?, Instant::now());
    std::thread::sleep(plan.idle);
    let cores = (cpu_seconds(&process)? - before) / begun.elapsed().as_secs_f64();
    Ok(Idle { cores, mib: resident_mib(&process)? })
}

fn millis_since(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64() * 1e3
}

/// A running `farm dev`; killed if it is dropped without [`Network::stop`].
struct Network {
    child: Child,
    home: PathBuf,
    log: PathBuf,
}

impl Network {
    fn start(scratch: &Path, engine: &Engine) -> Result<Self, Failure> {
        let (home, log) = (scratch.join("home"), scratch.join("dev.log"));
        std::fs::create_dir_all(&home)?;
        let child = farm(&home)
            .args(["dev", "--listen", "127.0.0.1:0", "--data"])
            .arg(scratch.join("dev"))
            .arg("--engine")
            .arg(&engine.socket)
            .stdin(Stdio::null())
            .stdout(File::create(scratch.join("dev.out"))?)
            .stderr(File::create(&log)?)
            .spawn()?;
        Ok(Self { child, home, log })
    }

    /// Waits until it has an offer.
    fn wait_ready(&mut self) -> Result<(), Failure> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Err(format!("farm dev ended before it was ready: {status}").into());
            }
            let offers = farm(&self.home).args(["offers", "--json"]).stdin(Stdio::null()).output()?;
            if offers.status.success() && offers.stdout.windows(5).any(|part| part == b"local") {
                say(&format!("the network was ready after {:.1} s", begun.elapsed().as_secs_f64()));
                return Ok(());
            }
            if begun.elapsed() > READY_DEADLINE {
                return Err(failed("no offer in time", &offers));
            }
            std::thread::sleep(POLL);
        }
    }

    /// One job from the start of the program to its end, in milliseconds.
    fn run_job(&self, egress: &str) -> Result<f64, Failure> {
        let begun = Instant::now();
        let ran = farm(&self.home).args(["run", IMAGE, "--egress", egress, "--yes", "--", PROGRAM]).stdin(Stdio::null()).output()?;
        let took = millis_since(begun);
        if ran.status.success() { Ok(took) } else { Err(failed("farm run failed", &ran)) }
    }

    /// Asks it to end, and waits.
    fn stop(mut self) -> Result<(), Failure> {
        let process = Pid::from_raw(i32::try_from(self.child.id())?).ok_or("process 0")?;
        kill_process(process, Signal::TERM)?;
        let begun = Instant::now();
        while begun.elapsed() < STOP_DEADLINE {
            match self.child.try_wait()? {
                None => std::thread::sleep(POLL),
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(format!("farm dev ended with {status}").into()),
            }
        }
        Err(format!("farm dev did not end within {} s", STOP_DEADLINE.as_secs()).into())
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // Both fail only if it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The container engine, spoken to directly.
struct Engine {
    socket: PathBuf,
}

impl Engine {
    fn find() -> Result<Self, Failure> {
        let named = std::env::var_os("FARM_TEST_ENGINE").map(PathBuf::from);
        let candidates = named.map_or_else(|| SOCKETS.iter().map(PathBuf::from).collect(), |named| vec![named]);
        let found = candidates.into_iter().find(|socket| UnixStream::connect(socket).is_ok());
        let engine = Self { socket: found.ok_or("no container engine answers; scripts/engine.sh base starts one")? };
        engine.call("GET", &format!("/images/{IMAGE}/json"), None).map_err(|e| format!("{IMAGE}: {e}; run scripts/engine.sh base"))?;
        Ok(engine)
    }

    /// One request on a connection of its own; HTTP/1.0, so that the answer ends with the connection.
    fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(ENGINE_DEADLINE))?;
        let body = body.map(Value::to_string).unwrap_or_default();
        let head = format!("{method} {path} HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.write_all(format!("{head}{body}").as_bytes())?;
        let mut answer = String::new();
        stream.take(MAX_ANSWER).read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or("the engine's answer has no end of head")?;
        match head.split(' ').nth(1) {
            Some(status) if status.starts_with('2') => Ok(serde_json::from_str(body).unwrap_or(Value::Null)),
            _ => Err(format!("{method} {path}: {}", body.trim()).into()),
        }
    }

    /// Creates, starts and looks after a command in a container, in milliseconds.
    fn exec(&self, container: &str) -> Result<f64, Failure> {
        let begun = Instant::now();
        let body = json!({ "Cmd": [PROGRAM], "AttachStdin": true, "AttachStdout": true, "AttachStderr": true });
        let made = self.call("POST", &format!("/containers/{container}/exec"), Some(&body))?;
        let id = made.get("Id").and_then(Value::as_str).ok_or("the engine made a command without an id")?;
        self.call("POST", &format!("/exec/{id}/start"), Some(&json!({ "Detach": false, "Tty": false })))?;
        let ended = self.call("GET", &format!("/exec/{id}/json"), None)?;
        let took = millis_since(begun);
        match ended.get("ExitCode").and_then(Value::as_i64) {
            Some(0) => Ok(took),
            other => Err(format!("the engine's own command ended with {other:?}").into()),
        }
    }

    /// Creates, starts and waits for a container, in milliseconds; then removes it.
    fn run(&self, network: &str) -> Result<f64, Failure> {
        let begun = Instant::now();
        let body = json!({ "Image": IMAGE, "Cmd": [PROGRAM], "HostConfig": { "NetworkMode": network } });
        let created = self.call("POST", "/containers/create", Some(&body))?;
        let id = created.get("Id").and_then(Value::as_str).ok_or("the engine created a container without an id")?;
        let ended = self
            .call("POST", &format!("/containers/{id}/start"), None)
            .and_then(|_| self.call("POST", &format!("/containers/{id}/wait"), None));
        let took = millis_since(begun);
        self.call("DELETE", &format!("/containers/{id}?force=1"), None)?;
        match ended?.get("StatusCode").and_then(Value::as_i64) {
            Some(0) => Ok(took),
            other => Err(format!("the engine's own run ended with {other:?}").into()),
        }
    }

    /// A container that runs a shell line with one core; started.
    fn begin(&self, command: &str) -> Result<String, Failure> {
        let host = json!({ "NetworkMode": "none", "NanoCpus": 1_000_000_000u64 });
        let body = json!({ "Image": IMAGE, "Cmd": ["sh", "-c", command], "HostConfig": host });
        let created = self.call("POST", "/containers/create", Some(&body))?;
        let id = created.get("Id").and_then(Value::as_str).ok_or("the engine created a container without an id")?.to_owned();
        self.call("POST", &format!("/containers/{id}/start"), None)?;
        Ok(id)
    }

    /// The container's log as it comes.
    fn follow(&self, id: &str) -> Result<UnixStream, Failure> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.write_all(format!("GET /containers/{id}/logs?follow=1&stdout=1 HTTP/1.0\r\n\r\n").as_bytes())?;
        Ok(stream)
    }

    /// Reads what a container says at the rate at which it comes, MiB a second.
    fn talk(&self, command: &str, bytes: u64) -> Result<f64, Failure> {
        let id = self.begin(command)?;
        let rate = self.follow(&id).and_then(|stream| drain(stream, bytes));
        self.call("DELETE", &format!("/containers/{id}?force=1"), None)?;
        rate
    }

    /// What a container says in all.
    fn says(&self, command: &str) -> Result<String, Failure> {
        let id = self.begin(command)?;
        let mut answer = vec![];
        let read = self.follow(&id).and_then(|stream| Ok(stream.take(MAX_ANSWER).read_to_end(&mut answer)?));
        self.call("DELETE", &format!("/containers/{id}?force=1"), None)?;
        read?;
        let text = String::from_utf8_lossy(&answer).into_owned();
        let (_, body) = text.split_once("\r\n\r\n").ok_or("the engine's answer has no end of head")?;
        // Each piece has a head of eight bytes, of which none is a digit.
        Ok(body.chars().filter(|c| c.is_ascii_digit() || matches!(c, '.' | ' ')).collect())
    }

    /// The same on a network made for it, in milliseconds; then removes both.
    fn run_on_own_network(&self) -> Result<f64, Failure> {
        let begun = Instant::now();
        let name = format!("bench-{}", std::process::id());
        self.call("POST", "/networks/create", Some(&json!({ "Name": name, "Driver": "bridge" })))?;
        let made = millis_since(begun);
        let ran = self.run(&name);
        self.call("DELETE", &format!("/networks/{name}"), None)?;
        Ok(made + ran?)
    }
}
