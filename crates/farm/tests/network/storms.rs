//! A storm: the machine's program and the container engine under it are killed at random, again and again, while jobs, a herd and
//! volumes are at work.
//!
//! `STORM=200 cargo test --package pasture-farm --test network -- storms` (what `make storm` does) is the whole promise; without it
//! there are a few deaths. The machine (`farm up`) is a process apart from its network, and the engine is one of the test's own.
//! At the end: what was acknowledged is there (what a job said that it wrote, what a herd took), each receipt is what the ledger
//! paid, and neither container nor mount nor process is left.

use crate::support::{Engine, Folder, Net, Options, PATIENCE, Running, SMALL, Signal, User, eventually, paid, random, until};
use pasture_api::{JobView, OfferView};
use pasture_types::lease::LeaseState;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Deaths where nobody asked for more.
const FEW: usize = 10;
/// Each so many-th death is the engine's.
const ENGINE_EVERY: usize = 3;
/// A death comes at most so long after the last.
const LONGEST_LIFE_MS: u64 = 3_000;
/// How often the engine is started after one death before that is a failure.
const STARTS: u32 = 5;
/// Jobs that write to a volume of their own.
const WRITERS: usize = 2;
/// Tasks of one submission.
const TASKS: u64 = 20;
/// So that a failure can be repeated.
const SEED: u64 = 0x5eed_0f9a_5700_0002;
/// Longest that a machine may take to be itself again after the storm: what it lost has to be settled and started again.
const CALM_WITHIN: Duration = Duration::from_secs(360);
const IMAGE: &str = "pasture/busybox:1";

fn deaths() -> usize {
    #[allow(clippy::disallowed_methods, reason = "how long a test runs is set from outside")]
    let asked = std::env::var("STORM").ok();
    asked.map_or(FEW, |n| n.parse().expect("STORM is a number of deaths"))
}

/// A container engine of the test's own, with the base image. Its jobs have no network, and it is in one of its own.
struct OwnEngine {
    dir: PathBuf,
    process: Option<Running>,
    engine: Engine,
}

impl OwnEngine {
    fn start(dir: &Path) -> Self {
        let dir = dir.to_owned();
        std::fs::create_dir_all(&dir).unwrap();
        let mut this = Self { engine: Engine { socket: dir.join("docker.sock") }, dir, process: None };
        this.launch();
        this.wait();
        Engine::find().give_image(IMAGE, &this.engine);
        this
    }
    fn launch(&mut self) {
        assert!(self.process.is_none(), "it runs");
        let of = |name: &str| self.dir.join(name).to_str().unwrap().to_owned();
        let _ = std::fs::remove_file(of("docker.pid"));
        // In a network of its own: an engine without a bridge removes the default one, which is the other engine's.
        let mut command = Command::new("unshare");
        command.args([
            "--net",
            "dockerd",
            "--iptables=false",
            "--ip6tables=false",
            "--bridge=none",
            "--live-restore",
            "--log-level",
            "error",
        ]);
        command.args(["-H", &format!("unix://{}", of("docker.sock")), "--data-root", &of("data")]);
        command.args(["--exec-root", &of("run"), "--pidfile", &of("docker.pid")]);
        self.process = Some(Running::start(command));
    }
    fn wait(&mut self) {
        for _ in 0..STARTS {
            let (engine, process) = (&self.engine, self.process.as_mut().unwrap());
            let answers = eventually("the engine answers, or gives up", PATIENCE, || {
                let ended = process.ended().is_some();
                (ended || engine.answers()).then_some(!ended)
            });
            if answers {
                return;
            }
            // What the system's keeper of services does with one that does not find its own after a crash.
            let _ = self.process.take().unwrap().finish(PATIENCE);
            self.launch();
        }
        panic!("the engine does not come back: {}", self.process.as_ref().unwrap().stderr());
    }
    /// Kills it as a crash would, and what it has running for itself; containers go on.
    fn kill(&mut self) {
        let process = self.process.take().unwrap();
        process.signal(Signal::KILL);
        let _ = process.finish(PATIENCE);
        let pid = std::fs::read_to_string(self.dir.join("run/containerd/containerd.pid")).unwrap_or_default();
        let own = std::fs::read(format!("/proc/{}/cmdline", pid.trim())).unwrap_or_default();
        if String::from_utf8_lossy(&own).contains(self.dir.to_str().unwrap()) {
            let _ = Command::new("kill").args(["-KILL", pid.trim()]).status();
        }
    }
}

impl Drop for OwnEngine {
    fn drop(&mut self) {
        if let Some(process) = self.process.take() {
            self.engine.clear_all();
            process.signal(Signal::TERM);
            let _ = process.finish(PATIENCE);
        }
        crate::support::unmount_below(&self.dir);
    }
}

/// A network, a machine apart from it, and who has jobs there.
struct Storm {
    net: Net,
    engine: OwnEngine,
    operator: User,
    data: PathBuf,
    machine: Option<Running>,
    node: String,
    user: User,
    /// Tasks that the herd took.
    taken: u64,
    log: String,
    _dir: tempfile::TempDir,
}

impl Storm {
    fn gather() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let engine = OwnEngine::start(&dir.path().join("engine"));
        let net = Net::start(Options { args: vec!["--no-provider".into()], ..Options::default() });
        let (operator, user) = (net.stranger(), net.stranger());
        let data = operator.home().join("machine");
        let mut this =
            Self { net, engine, operator, data, machine: None, node: String::new(), user, taken: 0, log: String::new(), _dir: dir };
        this.start_machine();
        this.node = eventually("its offer can be reached", PATIENCE, || {
            let offers: Vec<OfferView> = this.net.api(async |api| api.offers().await);
            offers.into_iter().find(|o| o.provider_name == "stormy" && o.reachable).map(|o| o.node.to_string())
        });
        let _ = this.user.farm(&["account", "test-credits", "1000"]).exits(0);
        this
    }
    fn start_machine(&mut self) {
        let mut command = self.operator.command(&["up", "--name", "stormy", "--cpu", "1", "--memory", "512Mi", "--disk", "4Gi"]);
        command.arg("--data").arg(&self.data).arg("--engine").arg(&self.engine.engine.socket);
        command.env("FARM_LOG", "warn,pasture_provider=debug");
        self.machine = Some(Running::start(command));
    }
    /// Waits for the machine; one that gave up because the engine was away is started again.
    fn machine_is_up(&mut self) {
        let began = Instant::now();
        loop {
            let machine = self.machine.as_mut().unwrap();
            if machine.stderr().contains("this machine is offered") {
                return;
            }
            assert!(began.elapsed() < CALM_WITHIN, "the machine does not come back: {}", machine.stderr());
            if machine.ended().is_some() {
                let done = self.machine.take().unwrap().finish(PATIENCE);
                self.log += &done.stderr;
                self.start_machine();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    fn kill_machine(&mut self) {
        let machine = self.machine.take().unwrap();
        machine.signal(Signal::KILL);
        self.log += &machine.finish(PATIENCE).stderr;
    }

    /// Each writes a number, makes sure that it is on the disk, and only then says it; after a death it goes on where it was.
    fn begin_writers(&self) {
        let script = "trap 'exit 0' TERM; n=$(cat /keep/n 2> /dev/null || echo 0); while true; do n=$((n+1)); echo $n >> /keep/all; \
                      echo $n > /keep/n.new; mv /keep/n.new /keep/n; sync; echo wrote $n; sleep 0.2; done";
        for n in 0..WRITERS {
            let (name, volume) = (format!("writer-{n}"), format!("kept-{n}:/keep:32Mi"));
            let args = ["run", IMAGE, "-d", "--name", &name, "--egress", "none", "--timeout", "2h", "--volume", &volume];
            let _ = self.user.farm(&[&args, &SMALL[..], &["--", "sh", "-c", script]].concat()).exits(0);
        }
    }

    fn begin_herd(&self) {
        let wait = "trap 'exit 0' TERM; while true; do sleep 60 & wait $!; done";
        let args = [&["run", IMAGE, "-d", "--name", "herd", "--egress", "none", "--timeout", "2h"], &SMALL[..], &["--", "sh", "-c", wait]];
        let _ = self.user.farm(&args.concat()).exits(0);
        let worker = "while read -r n; do echo $((n * 2)); done";
        until("the job takes a herd", || {
            let up = self.user.farm(&["herd", "up", "herd", "--workers", "1", "--durable", "--", "sh", "-c", worker]);
            up.stderr.contains("has a herd")
        });
    }

    /// Hands the next tasks in, in the middle of it all. What is not acknowledged is handed in again: its keys are the same.
    fn submit(&mut self) {
        let tasks: String = (self.taken..self.taken + TASKS).map(|n| format!("{n}\n")).collect();
        let folder = Folder::new("tasks", &[("tasks", &tasks)]);
        let file = folder.path().join("tasks");
        let keys = format!("t{}-", self.taken);
        let done = self.user.farm(&["herd", "submit", "herd", file.to_str().unwrap(), "--keys", &keys, "--json"]);
        if done.code == 0 {
            self.taken += TASKS;
        }
    }

    fn rage(&mut self) {
        let mut state = SEED;
        for death in 1..=deaths() {
            let life = Duration::from_millis(random(&mut state) % LONGEST_LIFE_MS);
            let began = Instant::now();
            self.submit();
            if let Some(rest) = life.checked_sub(began.elapsed()) {
                std::thread::sleep(rest);
            }
            if death.is_multiple_of(ENGINE_EVERY) {
                self.engine.kill();
                self.engine.launch();
                self.engine.wait();
            } else {
                self.kill_machine();
                self.start_machine();
            }
            // Also into its beginning, but not always.
            if random(&mut state).is_multiple_of(2) {
                self.machine_is_up();
            }
        }
        self.machine_is_up();
    }

    fn names(&self) -> Vec<String> {
        (0..WRITERS).map(|n| format!("writer-{n}")).chain(["herd".to_owned()]).collect()
    }
}

fn numbers(text: &str, before: &str) -> Vec<u64> {
    text.lines().filter_map(|line| line.strip_prefix(before)?.trim().parse().ok()).collect()
}

#[test]
fn nothing_acknowledged_is_lost_while_machine_and_engine_die_at_random() {
    let mut storm = Storm::gather();
    storm.begin_writers();
    storm.begin_herd();
    storm.rage();

    // Everything works again: more is written, more tasks are done.
    let before: Vec<Vec<u64>> = (0..WRITERS).map(|n| said(&storm.user, n)).collect();
    for (n, before) in before.iter().enumerate() {
        eventually("the writer goes on", CALM_WITHIN, || (said(&storm.user, n).last() > before.last()).then_some(()));
    }
    let count = storm.taken;
    eventually("the herd takes tasks", CALM_WITHIN, || {
        storm.submit();
        (storm.taken > count).then_some(())
    });
    let tasks = storm.taken;
    assert!(tasks >= TASKS, "tasks were taken in the storm");
    let all = storm.user.start(&["herd", "results", "herd", "--count", &tasks.to_string()]).finish(CALM_WITHIN).exits(0);
    let results: Vec<Value> = all.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let keys: BTreeSet<&str> = results.iter().map(|r| r["key"].as_str().unwrap()).collect();
    assert_eq!((results.len() as u64, keys.len() as u64), (tasks, tasks), "each task that was taken has one result");

    // What a writer said is in its volume, each number once and in order.
    for n in 0..WRITERS {
        let said = said(&storm.user, n);
        let _ = storm.user.farm(&["stop", &format!("writer-{n}"), "--grace", "5s"]).exits(0);
        let look = eventually("its volume can be read", CALM_WITHIN, || {
            let mut args = vec!["run", IMAGE, "--egress", "none"];
            args.extend(SMALL);
            let (name, volume) = (format!("look-{n}"), format!("kept-{n}:/keep:ro"));
            args.extend(["--name", &name, "--volume", &volume, "--", "cat", "/keep/all"]);
            let done = storm.user.farm(&args);
            (done.code == 0).then_some(done)
        });
        let kept = numbers(&look.stdout, "");
        let missing: Vec<&u64> = said.iter().filter(|n| !kept.contains(n)).collect();
        assert!(missing.is_empty(), "writer {n} said that it wrote {missing:?}");
        let mut once = kept.clone();
        once.dedup();
        assert!(once.is_sorted() && !said.is_empty(), "{kept:?}");
    }
    let _ = storm.user.farm(&["stop", "herd"]).exits(0);
    calm(&mut storm);
}

/// The numbers that a writer said.
fn said(user: &User, n: usize) -> Vec<u64> {
    let log = user.farm(&["logs", &format!("writer-{n}")]);
    numbers(&log.stdout, "wrote ")
}

/// Every receipt is what the ledger paid, and nothing is left.
fn calm(storm: &mut Storm) {
    let over = |j: &JobView| j.lease.as_ref().is_none_or(|l| l.state == LeaseState::Closed);
    let jobs = eventually("every job is settled", CALM_WITHIN, || Some(storm.user.jobs()).filter(|jobs| jobs.iter().all(over)));
    assert!(jobs.len() >= storm.names().len(), "{jobs:?}");
    for job in &jobs {
        let Some(lease) = &job.lease else { continue };
        let json = storm.user.farm(&["receipt", &job.order.id.to_string(), "--json"]).exits(0).json();
        assert_eq!(json["settlement"], serde_json::to_value(paid(lease)).unwrap(), "the receipt is what the ledger paid");
    }
    assert_eq!(storm.user.books().on_hold.0, 0);
    let _ = storm.user.farm(&["ledger", "check"]).exits(0);
    until("no container, network or volume is left", || storm.engine.engine.leftovers(&storm.node).is_empty());
    let machine = storm.machine.take().unwrap();
    machine.signal(Signal::TERM);
    let _ = machine.finish(PATIENCE);
    let left = Command::new("grep").arg("-c").arg(&storm.data).arg("/proc/mounts").stdin(Stdio::null()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&left.stdout).trim(), "0", "file systems of jobs are still mounted");
}
