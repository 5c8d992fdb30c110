//! Crashes: the network's process is killed between every two durable writes, and at random, over running jobs.
//!
//! `FARM_FAILPOINT=name:count` makes `farm dev` kill itself (SIGKILL) when it passes that point for the count-th time. After
//! each death it is started again on the same folder and address. At the end every job's container is the one it began with
//! or its end has a reason, no line of a log is missing or doubled, each receipt is what the ledger paid, and nothing is left.

use crate::support::{Ended, Folder, Net, Options, Running, User, eventually, paid, random, until};
use pasture_api::{JobView, OrderState};
use pasture_types::OrderId;
use pasture_types::lease::{EndReason, LeaseState};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Fewest deaths that the promise is about.
const LEAST_KILLS: usize = 40;
/// Deaths at random times, besides one at each named point.
const RANDOM_KILLS: usize = 16;
/// A random death comes at most so long after the start: also before the network is ready.
const LONGEST_LIFE_MS: u64 = 3_000;
/// So that a failure can be repeated.
const SEED: u64 = 0x5eed_0f9a_5700_0001;
/// Longest that a point may take to be passed: two periods, a confirmation that does not come, a slow machine.
const PASSED_WITHIN: Duration = Duration::from_secs(120);
/// Longest that the last lease may take to settle: a job whose description never arrived is given a minute for it.
const SETTLED_WITHIN: Duration = Duration::from_secs(300);
/// Jobs that run when the deaths are over.
const STILL_RUNNING: usize = 4;
/// What a process shows that was killed by SIGKILL.
const KILLED: i32 = 137;

/// Points that a lease passes on its way to running, in order.
const STARTING: [&str; 10] = [
    "provider.lease.before_record",
    "provider.lease.after_record",
    "provider.accept.before_submit",
    "provider.accept.after_submit",
    "provider.manifest.after_store",
    "provider.context.after_append",
    "provider.context.after_store",
    "provider.image.after_fetch",
    "provider.container.after_create",
    "provider.container.after_start",
];
/// Points that are passed while a fresh job runs.
const FRESH: [&str; 4] =
    ["provider.state.before_save", "provider.state.after_save", "provider.usage.before_submit", "provider.usage.after_submit"];
/// Points that are passed as long as anything runs.
const RUNNING: [&str; 8] = [
    "provider.log.after_append",
    "provider.log.after_mark",
    "provider.heartbeat.before_submit",
    "provider.heartbeat.after_submit",
    "chain.proposed",
    "chain.before_apply",
    "chain.after_apply",
    "chain.after_finalized",
];
/// Points that are passed when a job is stopped.
const ENDING: [&str; 4] =
    ["provider.output.after_copy", "provider.close.before_submit", "provider.close.after_submit", "provider.container.after_remove"];

/// Every point that the sources name, read from them so that none is forgotten here.
fn named_points() -> Vec<&'static str> {
    let provider = include_str!("../../../provider/src/failpoint.rs");
    let chain = include_str!("../../../chain/src/app.rs");
    let quoted = |text: &'static str, prefix: &'static str| text.split('"').filter(move |word| word.starts_with(prefix));
    let mut all: Vec<&str> = quoted(provider, "provider.").chain(quoted(chain, "chain.")).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// A network that keeps dying, and what was seen of it.
struct Mortal {
    net: Net,
    user: User,
    folder: Folder,
    mark: String,
    /// Programs that start or stop jobs while the network dies; they must cope.
    clients: Vec<Running>,
    started: usize,
    stopped: Vec<OrderId>,
    kills: Vec<String>,
    /// The container of each lease, as first seen.
    containers: BTreeMap<String, String>,
}

impl Mortal {
    fn new() -> Self {
        let mut net = Net::start(Options { fixed_port: true, ..Options::default() });
        let user = net.user();
        let _ = user.farm(&["account", "test-credits", "1000"]).exits(0);
        net.kill();
        let mark = format!("PASTURE_MORTAL_{}", std::process::id());
        let script = "trap 'echo end; exit 0' TERM; n=0; while true; do n=$((n+1)); echo $n; sleep 0.5; done";
        let dockerfile =
            format!("FROM pasture/busybox:1\nENV MARK={mark}\nCOPY job.sh /\nRUN test -s /job.sh\nCMD [\"sh\", \"/job.sh\"]\n");
        let folder = Folder::new("mortal", &[("Dockerfile", &dockerfile), ("job.sh", script)]);
        Self { net, user, folder, mark, clients: vec![], started: 0, stopped: vec![], kills: vec![], containers: BTreeMap::new() }
    }

    /// A further job, by a client that goes on while the network dies.
    fn start_job(&mut self) {
        self.started += 1;
        let name = format!("mortal-{}", self.started);
        let args = ["run", self.folder.arg(), "-d", "--name", &name, "--cpu", "0.05", "--memory", "16Mi", "--disk", "64Mi"];
        self.clients.push(self.user.start(&args));
    }

    /// Starts jobs until enough of them run: deaths in the middle of a client's first calls may have ended some.
    fn refill(&mut self, want: usize) {
        self.net.start_again();
        let alive = self.user.jobs().iter().filter(|j| lives(j)).count();
        for _ in alive..want {
            self.start_job();
        }
        let running = || self.net.engine.containers(self.net.node()).into_iter().filter(|c| c.running).count();
        until("enough jobs run", || running() >= want);
        self.net.kill();
        self.kills.push("refilled".into());
        self.look();
    }

    /// Stops the oldest job that has a running container and was not stopped yet.
    fn stop_job(&mut self) {
        let account = self.user.account();
        // What is under way from before may pass the point by itself, and then nobody answers any more.
        let Ok(jobs) = self.user.try_api(async |api| api.jobs(&account).await) else { return };
        let running: Vec<String> =
            self.net.engine.containers(self.net.node()).into_iter().filter(|c| c.running).map(|c| c.instance).collect();
        let runs = |j: &JobView| lives(j) && j.lease.as_ref().is_some_and(|l| running.iter().any(|i| i.starts_with(&l.id.to_string())));
        let jobs: Vec<OrderId> = jobs.iter().rev().filter(|j| runs(j)).map(|j| j.order.id).collect();
        let job = jobs.into_iter().find(|id| !self.stopped.contains(id));
        let job = job.unwrap_or_else(|| panic!("no job is left to be stopped after {:?}", self.kills));
        self.stopped.push(job);
        self.clients.push(self.user.start(&["stop", &job.to_string()]));
    }

    /// Notes new containers, and that the known ones are what they were.
    fn look(&mut self) {
        for container in self.net.engine.containers(self.net.node()) {
            let first = self.containers.entry(container.instance.clone()).or_insert_with(|| container.id.clone());
            assert_eq!(*first, container.id, "another container for lease {} after {:?}", container.instance, self.kills);
        }
    }

    /// Starts the network so that it dies at a point; `provoke` does what makes it pass there.
    fn die_at(&mut self, point: &str, provoke: impl FnOnce(&mut Self)) {
        self.net.launch(Some(&format!("{point}:1")));
        let ended = match self.net.ready() {
            Err(ended) => ended,
            Ok(()) => {
                self.look();
                provoke(self);
                eventually(&format!("the network dies at {point} (after {:?})", self.kills.last()), PASSED_WITHIN, || self.net.ended())
            }
        };
        self.died(point, &ended);
    }

    fn died(&mut self, when: &str, ended: &Ended) {
        let kills = &self.kills;
        assert_eq!(ended.code, KILLED, "it ended by itself ({when}, after {kills:?})\n{}", ended.stderr);
        self.kills.push(when.into());
        self.look();
    }

    fn die_after(&mut self, life: Duration) {
        let born = Instant::now();
        self.net.launch(None);
        while born.elapsed() < life {
            if let Some(ended) = self.net.ended() {
                panic!("it ended by itself with {} after {:?}\n{}", ended.code, self.kills, ended.stderr);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.net.kill();
        self.kills.push(format!("random, {} ms", life.as_millis()));
        self.look();
    }

    /// Every client must come to an end; how many failed.
    fn clients_end(&mut self) -> usize {
        let ends: Vec<_> = self.clients.drain(..).map(|c| c.finish(SETTLED_WITHIN)).collect();
        let failed: Vec<_> = ends.iter().filter(|done| done.code != 0).collect();
        for done in &failed {
            assert_eq!(done.code, 125, "{}\n{}", done.what, done.all());
            eprintln!("a client gave up: {}\n{}", done.what, done.all());
        }
        failed.len()
    }
}

fn lives(job: &JobView) -> bool {
    job.order.state == OrderState::Open || job.lease.as_ref().is_some_and(|l| l.state < LeaseState::Closing)
}

#[test]
fn a_network_that_is_killed_at_every_point_and_at_random_loses_and_doubles_nothing() {
    let mut all: Vec<&str> = [&STARTING[..], &FRESH, &RUNNING, &ENDING].concat();
    all.sort_unstable();
    assert_eq!(all, named_points(), "the points of this test are those of the sources");

    let mut m = Mortal::new();
    for point in STARTING {
        m.die_at(point, Mortal::start_job);
    }
    for point in FRESH {
        m.die_at(point, Mortal::start_job);
    }
    for point in RUNNING {
        m.die_at(point, |_| ());
    }
    let mut state = SEED;
    for _ in 0..RANDOM_KILLS {
        let life = random(&mut state) % LONGEST_LIFE_MS;
        m.die_after(Duration::from_millis(life));
    }
    m.refill(ENDING.len() + STILL_RUNNING);
    for point in ENDING {
        m.die_at(point, Mortal::stop_job);
    }
    assert!(m.kills.len() >= LEAST_KILLS, "{} deaths", m.kills.len());

    m.net.start_again();
    let alive = m.user.start(&["account", "test-credits", "1"]).finish(PASSED_WITHIN);
    assert_eq!(alive.code, 0, "the ledger takes no transaction after {:?}\n{}", m.kills, alive.all());
    let gave_up = m.clients_end();
    assert!(gave_up * 4 <= m.started + m.stopped.len(), "{gave_up} of {} clients did not live through it", m.started + m.stopped.len());
    // What still runs runs in the container that it began in, and more is served.
    m.look();
    let jobs = m.user.jobs();
    assert!(jobs.iter().filter(|j| lives(j)).count() >= STILL_RUNNING, "{jobs:?}");
    for job in jobs.iter().filter(|j| lives(j)) {
        let _ = m.user.farm(&["stop", &job.order.id.to_string()]).exits(0);
    }
    everything_is_accounted_for(&m);
}

fn everything_is_accounted_for(m: &Mortal) {
    let over = |j: &JobView| match &j.lease {
        Some(lease) => lease.state == LeaseState::Closed,
        None => matches!(j.order.state, OrderState::Expired | OrderState::Cancelled),
    };
    let jobs = eventually("every job is settled", SETTLED_WITHIN, || Some(m.user.jobs()).filter(|jobs| jobs.iter().all(over)));
    let mut ran = 0;
    for job in &jobs {
        let Some(lease) = &job.lease else { continue };
        let s = paid(lease);
        let id = job.order.id.to_string();
        let json = m.user.farm(&["receipt", &id, "--json"]).exits(0).json();
        assert_eq!(json["settlement"], serde_json::to_value(s).unwrap(), "the receipt is what the ledger paid");
        let shown = m.user.farm(&["logs", &id]);
        let of_lease = lease.id.to_string();
        let said = || m.net.log().lines().filter(|l| l.contains(&of_lease)).collect::<Vec<_>>().join("\n");
        assert_eq!(shown.code, 0, "{}\n{lease:?}\n{}", shown.all(), said());
        let log = shown.stdout;
        let mut lines: Vec<&str> = log.lines().collect();
        if lines.last() == Some(&"end") {
            lines.pop();
        }
        let numbered: Vec<String> = (1..=lines.len()).map(|n| n.to_string()).collect();
        assert_eq!(lines, numbered, "the log of {id} has a gap or says something twice");
        match lease.reason.as_ref().unwrap() {
            EndReason::StoppedByUser if !lines.is_empty() => ran += 1,
            EndReason::Exited { .. } | EndReason::BuildFailed | EndReason::StartFailed | EndReason::OutOfMemory => {
                panic!("job {id} ended as it never would: {:?}", lease.reason)
            }
            honest => eprintln!("job {id} ended early: {honest:?}"),
        }
    }
    assert!(ran * 4 >= jobs.len() * 3, "{ran} of {} jobs ran to the end", jobs.len());
    assert_eq!(m.user.books().on_hold.0, 0);
    until("no container, network or volume is left", || m.net.engine.leftovers(m.net.node()).is_empty());
    let unlabelled = m.net.engine.marked(&m.mark);
    assert!(unlabelled.is_empty(), "containers without a label: {unlabelled:?}");
    let _ = m.user.farm(&["ledger", "check"]).exits(0);
}

#[test]
fn a_client_that_follows_a_job_lives_through_the_networks_death() {
    let mut net = Net::start(Options { fixed_port: true, ..Options::default() });
    let user = net.user();
    let script = "trap 'exit 0' TERM; n=0; while [ $n -lt 24 ]; do n=$((n+1)); echo $n; sleep 0.5; done; echo left > $FARM_OUTPUT_DIR/x";
    let out = user.home().join("out");
    let folder = Folder::script("followed", script);
    let mut running = user.start_run(&folder, &["--out", out.to_str().unwrap()]);
    for seen in ["3\n", "9\n"] {
        running.shows(seen);
        net.kill();
        net.start_again();
    }
    let done = running.finish(crate::support::PATIENCE).exits(0).says(&["✓ followed finished"]);
    let numbered: String = (1..=24).map(|n| format!("{n}\n")).collect();
    assert_eq!(done.stdout, numbered, "{}", done.all());
    assert_eq!(std::fs::read_to_string(out.join("x")).unwrap(), "left\n");
    let (lease, _) = user.settled();
    let _ = paid(&lease);
    until("nothing is left behind", || net.engine.leftovers(net.node()).is_empty());
    let stop = net.stop();
    assert_eq!(stop.code, 0, "{}", stop.stderr);
}
