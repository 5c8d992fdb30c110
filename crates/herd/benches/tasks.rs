//! A small task in a running herd: time from submission to result and tasks a second, in memory and durable, beside Ray and Dask.
//!
//! Guarantees: herd, workers and shepherd share this machine's cores, as the peers' parts do; the shepherd speaks over a unix
//! socket, two workers are processes that echo; every result is read and acknowledged, and its receipt checked. A peer that is
//! not installed is said to be absent, and its rows are missing. `FARM_BENCH_PYTHON` names the peers' interpreter.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a bench that cannot set its scene must stop, and is told its surroundings by the environment"
)]

#[path = "../../../bench/report.rs"]
#[allow(dead_code, reason = "each bench uses its part")]
mod report;

use bytes::Bytes;
use futures::stream;
use pasture_herd::journal::Directory;
use pasture_herd::protocol::{Ask, Form, Frames, HELLO, Tell, encoded};
use pasture_herd::{Chain, Format, Herd, Limits, LocalYard, NewTask, Options, Signer, session};
use pasture_rt::{SystemClock, TaskKind};
use pasture_types::SigningKey;
use report::{Failure, Figure, Goal, Report, Spread, say};
use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::OwnedReadHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;

/// What turns this program into a worker.
const WORKER: &str = "--echo-worker";
const LEASE: [u8; 32] = [4; 32];
const WORKERS: u32 = 2;
/// Tasks for each figure of ours: (concurrency 1, more), in memory and durable.
const TASKS: [(usize, usize); 2] = [(3_000, 60_000), (1_000, 30_000)];
/// Tasks of each kind for a peer.
const PEER_TASKS: usize = 4_000;
const CONCURRENCY: [usize; 3] = [1, 10, 100];
/// Bulk: so many tasks in a message.
const BULK: usize = 1_000;
const QUICK: usize = 20;

/// Echoes frames until the input ends: what is here is answered with one write.
fn echo() {
    let (mut input, mut output) = (std::io::stdin().lock(), std::io::stdout().lock());
    let (mut buffer, mut kept) = (vec![0; 64 << 10], Vec::new());
    while let Ok(count @ 1..) = input.read(&mut buffer) {
        kept.extend_from_slice(&buffer[..count]);
        let (mut at, mut out) = (0, Vec::new());
        while let Some(head) = kept[at..].first_chunk::<4>() {
            let length = u32::from_le_bytes(*head) as usize;
            let Some(frame) = kept.get(at + 4..at + 4 + length) else { break };
            out.extend_from_slice(&(length as u32 - 3).to_le_bytes());
            out.extend_from_slice(&frame[..8]);
            out.push(0);
            out.extend_from_slice(&frame[12..]);
            at += 4 + length;
        }
        kept.drain(..at);
        if output.write_all(&out).and_then(|()| output.flush()).is_err() {
            return;
        }
    }
}

/// The herd's side of a unix socket.
async fn serve(herd: Herd, listener: UnixListener) {
    while let Ok((connection, _)) = listener.accept().await {
        let (reader, mut writer) = connection.into_split();
        let (out, mut told) = mpsc::channel(session::OUTBOX);
        let input = stream::unfold(reader, |mut reader| async move {
            let mut buffer = bytes::BytesMut::with_capacity(64 << 10);
            match reader.read_buf(&mut buffer).await {
                Ok(1..) => Some((Ok::<Bytes, std::io::Error>(buffer.freeze()), reader)),
                _ => None,
            }
        });
        pasture_rt::spawn(TaskKind::Connection, session::serve(herd.clone(), Box::pin(input), out));
        pasture_rt::spawn(TaskKind::Connection, async move {
            while let Some(piece) = told.recv().await {
                if writer.write_all(&piece).await.is_err() {
                    return;
                }
            }
        });
    }
}

/// What a peer said of itself: p50 and p99 in milliseconds, tasks a second.
type PeerRow = (f64, f64, f64);

/// What was measured once.
struct Run {
    latencies_ms: Vec<f64>,
    per_second: f64,
}

struct Shepherd {
    /// Written by a task of its own: who writes and does not read meanwhile is not read from either.
    say: mpsc::UnboundedSender<Bytes>,
    socket: OwnedReadHalf,
    frames: Frames<Tell>,
    chain: Chain,
    node: pasture_types::NodeId,
    receipts: u64,
}

impl Shepherd {
    async fn connect(path: &Path, node: pasture_types::NodeId) -> Self {
        let (socket, mut writer) = UnixStream::connect(path).await.unwrap().into_split();
        let (say, mut said) = mpsc::unbounded_channel::<Bytes>();
        pasture_rt::spawn(TaskKind::Connection, async move {
            while let Some(bytes) = said.recv().await {
                writer.write_all(&bytes).await.unwrap();
            }
        });
        say.send(Bytes::from_static(&HELLO)).unwrap();
        say.send(encoded(Form::Binary, &Ask::Results { after: 0 })).unwrap();
        Self { say, socket, frames: Frames::of(Form::Binary), chain: Chain::default(), node, receipts: 0 }
    }
    fn say(&self, ask: &Ask) {
        self.say.send(encoded(Form::Binary, ask)).unwrap();
    }
    async fn hear(&mut self) -> Tell {
        loop {
            if let Some(tell) = self.frames.next_frame().unwrap() {
                return tell;
            }
            assert!(self.socket.read_buf(self.frames.buffer()).await.unwrap() > 0, "the herd has gone");
        }
    }
    /// Results that came, each checked to be the next; acknowledged now and then.
    async fn results(&mut self) -> usize {
        loop {
            match self.hear().await {
                Tell::Results { results } => {
                    let before = self.chain.seq;
                    for result in &results {
                        assert!(self.chain.push(result));
                    }
                    if before / 1000 != self.chain.seq / 1000 {
                        let upto = before;
                        self.say(&Ask::Acknowledge { upto });
                    }
                    return results.len();
                }
                Tell::Receipt { receipt } => {
                    receipt.verify(&self.node, &LEASE, &self.chain).unwrap();
                    self.receipts += 1;
                }
                Tell::Submitted { submitted, .. } => assert_eq!(submitted.busy, None),
                Tell::Acknowledged { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }
    /// Keeps `width` tasks under way until `total` have ended.
    async fn measure(&mut self, width: usize, total: usize) -> Run {
        let (began, mut sent, mut done) = (Instant::now(), 0, 0);
        // Results come in the order of their ends; with echoing workers that is near enough the order of submission, and each
        // latency is that of the oldest: what is measured is no better than what was.
        let (mut at, mut latencies_ms) = (VecDeque::new(), Vec::with_capacity(total));
        while done < total {
            let batch = width.saturating_sub(sent - done).min(total - sent);
            if batch > 0 {
                let tasks = (0..batch).map(|n| NewTask::of((sent + n).to_string())).collect();
                at.extend(std::iter::repeat_n(Instant::now(), batch));
                self.say(&Ask::Submit { tag: 0, tasks });
                sent += batch;
            }
            let came = self.results().await;
            let now = Instant::now();
            latencies_ms.extend(at.drain(..came).map(|t: Instant| (now - t).as_secs_f64() * 1e3));
            done += came;
        }
        Run { latencies_ms, per_second: total as f64 / began.elapsed().as_secs_f64() }
    }
    /// All at once, in large messages.
    async fn bulk(&mut self, total: usize) -> f64 {
        let began = Instant::now();
        let (mut sent, mut done) = (0, 0);
        while done < total {
            while sent < total && sent - done < 20 * BULK {
                let tasks = (0..BULK).map(|n| NewTask::of((sent + n).to_string())).collect();
                self.say(&Ask::Submit { tag: 0, tasks });
                sent += BULK;
            }
            done += self.results().await;
        }
        total as f64 / began.elapsed().as_secs_f64()
    }
}

/// Everything about one kind of herd.
async fn ours(scratch: &Path, durable: bool, command: Vec<String>, format: Format, counts: (usize, usize)) -> Vec<Run> {
    let key = SigningKey::from_seed([8; 32]);
    let node = key.node_id();
    let folder = tempfile::tempdir_in(scratch).unwrap();
    let options = Options {
        limits: Limits::default(),
        workers: WORKERS,
        format,
        place: durable.then(|| Box::new(Directory::new(folder.path().to_owned())) as Box<_>),
        herd: [1; 16],
        signer: Signer::new(key, LEASE),
        clock: Arc::new(SystemClock),
    };
    let herd = Herd::open(options, Arc::new(LocalYard::new(command))).await.unwrap();
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let server = pasture_rt::spawn(TaskKind::Server, serve(herd.clone(), listener));
    let mut shepherd = Shepherd::connect(&path, node).await;
    shepherd.measure(10, 200).await;
    let mut runs = vec![];
    for width in CONCURRENCY {
        runs.push(shepherd.measure(width, if width == 1 { counts.0 } else { counts.1 }).await);
    }
    runs.push(Run { latencies_ms: vec![], per_second: shepherd.bulk(counts.1.next_multiple_of(BULK)).await });
    server.abort();
    herd.close().await;
    runs
}

/// A peer's figures, in the same order; `None` if it is not installed.
fn peer(name: &str, count: usize) -> Option<Vec<PeerRow>> {
    let python = std::env::var("FARM_BENCH_PYTHON").unwrap_or_else(|_| "python3".into());
    let module = if name == "ray" { "ray" } else { "distributed" };
    let there = Command::new(&python).args(["-c", &format!("import {module}")]).output().is_ok_and(|o| o.status.success());
    if !there {
        say(&format!("ABSENT: {name} is not installed for {python}; its rows are missing. FARM_BENCH_PYTHON names another interpreter"));
        return None;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../bench/peers/tasks_{name}.py"));
    let output = Command::new(&python).arg(script).arg(count.to_string()).output().ok()?;
    if !output.status.success() {
        say(&format!("ABSENT: {name} failed here: {}", String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or_default()));
        return None;
    }
    let number = |line: &serde_json::Value, name: &str| line[name].as_f64().unwrap_or(f64::NAN);
    let lines = String::from_utf8_lossy(&output.stdout);
    let rows = lines.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    Some(rows.map(|row| (number(&row, "p50_ms"), number(&row, "p99_ms"), number(&row, "per_second"))).collect())
}

const NAMES: [[&str; 10]; 3] = [
    [
        "in memory, concurrency 1, p50",
        "in memory, concurrency 1, p99",
        "in memory, concurrency 1",
        "in memory, concurrency 10, p50",
        "in memory, concurrency 10, p99",
        "in memory, concurrency 10",
        "in memory, concurrency 100, p50",
        "in memory, concurrency 100, p99",
        "in memory, concurrency 100",
        "in memory, in bulk",
    ],
    [
        "durable, concurrency 1, p50",
        "durable, concurrency 1, p99",
        "durable, concurrency 1",
        "durable, concurrency 10, p50",
        "durable, concurrency 10, p99",
        "durable, concurrency 10",
        "durable, concurrency 100, p50",
        "durable, concurrency 100, p99",
        "durable, concurrency 100",
        "durable, in bulk",
    ],
    [
        "Python worker, concurrency 1, p50",
        "Python worker, concurrency 1, p99",
        "Python worker, concurrency 1",
        "Python worker, concurrency 10, p50",
        "Python worker, concurrency 10, p99",
        "Python worker, concurrency 10",
        "Python worker, concurrency 100, p50",
        "Python worker, concurrency 100, p99",
        "Python worker, concurrency 100",
        "Python worker, in bulk",
    ],
];

fn rows(report: &mut Report, kind: usize, runs: &[Run], peers: &[(&'static str, Vec<PeerRow>)]) {
    let against = |figure: Figure, unit: &'static str, pick: fn(&PeerRow) -> f64, at: usize| {
        // The better of the peers.
        let values = peers.iter().filter_map(|(name, rows)| Some((*name, pick(rows.get(at)?)))).filter(|(_, v)| v.is_finite());
        let better = if unit == "ms" { values.min_by(|a, b| a.1.total_cmp(&b.1)) } else { values.max_by(|a, b| a.1.total_cmp(&b.1)) };
        match better {
            Some((name, value)) => figure.against(name, unit, Spread::median(&[value])),
            None => figure,
        }
    };
    for (at, run) in runs.iter().enumerate() {
        let name = |part: usize| NAMES[kind][if at == 3 { 9 } else { at * 3 + part }];
        if at < 3 {
            let p50 = Figure::new(name(0), "ms", Spread::median(&run.latencies_ms));
            let p50 = if kind == 0 && at == 0 { p50.goal(Goal::Most(1.0)) } else { p50 };
            report.add(against(p50, "ms", |r| r.0, at));
            report.add(against(Figure::new(name(1), "ms", Spread::quantile(&run.latencies_ms, 0.99)), "ms", |r| r.1, at));
        }
        let rate = Figure::new(name(2), "/s", Spread::median(&[run.per_second]));
        let rate = match (kind, at) {
            (0, 2 | 3) => rate.goal(Goal::Least(10_000.0)),
            (1, 2 | 3) => rate.goal(Goal::Least(3_000.0)),
            _ => rate,
        };
        report.add(against(rate, "/s", |r| r.2, at));
    }
}

fn main() -> Result<(), Failure> {
    if std::env::args().nth(1).as_deref() == Some(WORKER) {
        echo();
        return Ok(());
    }
    let quick = report::quick()?;
    let scratch = std::env::current_exe()?.parent().ok_or("no build folder")?.to_owned();
    let mut report = Report::begin("herd", quick, &scratch);
    let less = |count: usize| if quick { (count / QUICK).next_multiple_of(10) } else { count };
    let [memory, durable] = TASKS.map(|(one, many)| (less(one), less(many)));
    report.plan(serde_json::json!({ "workers": WORKERS, "tasks": { "memory": memory, "durable": durable, "peers": less(PEER_TASKS) } }));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let this = std::env::current_exe()?.to_string_lossy().into_owned();
    let rust = vec![this, WORKER.to_owned()];
    say("in memory");
    let in_memory = runtime.block_on(ours(&scratch, false, rust.clone(), Format::Frames, memory));
    say("durable");
    let on_disk = runtime.block_on(ours(&scratch, true, rust, Format::Frames, durable));
    say("with Python workers");
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/herd/worker.py").to_string_lossy().into_owned();
    let python = runtime.block_on(ours(&scratch, false, vec!["python3".into(), example], Format::Json, (less(2_000), less(20_000))));
    let mut peers = vec![];
    for (name, title) in [("ray", "Ray"), ("dask", "Dask")] {
        say(title);
        peers.extend(peer(name, less(PEER_TASKS)).map(|rows| (title, rows)));
    }
    rows(&mut report, 0, &in_memory, &peers);
    rows(&mut report, 1, &on_disk, &[]);
    rows(&mut report, 2, &python, &peers);
    report.finish()
}
