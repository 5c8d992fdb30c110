//! `farm herd`: many small tasks inside a running job.
//!
//! Guarantees: the worker's command is part of what is signed; a submission that is told `busy` waits and goes on where it was, so
//! nothing is submitted twice; results are printed only in their order, and the node's receipts are checked against exactly what was
//! printed. A connection that breaks off is an error, and the same command goes on from where it was (`--keys`, `--after`).

use crate::exit::{Exit, Failure, Outcome};
use crate::feeds::Signals;
use crate::herd_args::{DoorArgs, HerdArgs, HerdCommand, ResultsArgs, Speech, SubmitArgs, UpArgs, Which};
use crate::render::Table;
use crate::session::{App, Session};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{StreamExt as _, stream};
use pasture_api::client::{EventStream, HerdAnswer, LeaseClient};
use pasture_api::{LeaseView, Problem};
use pasture_herd::door::{Answered, Outgoing, Way};
use pasture_herd::limits::MAX_BATCH;
use pasture_herd::protocol::{Ask, Form, Frames, HELLO, Tell, encoded};
use pasture_herd::{Answer, Busy, Chain, Format, HerdSpec, HerdStatus, Limits, NewTask, Receipt};
use pasture_rt::{Shutdown, TaskKind};
use pasture_types::spec::parse_duration;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, BufReader};
use tokio::sync::mpsc;

/// Tasks in one message of ours.
const BATCH: usize = if MAX_BATCH < 1000 { MAX_BATCH } else { 1000 };
/// Pause before tasks that did not fit are offered again.
const BUSY_PAUSE: Duration = Duration::from_millis(100);
/// Largest answer that is no stream.
const MAX_ANSWER: usize = 1 << 20;
/// Who may open the door's socket.
const SOCKET_MODE: u32 = 0o600;

/// Runs the command.
pub(crate) async fn run(app: &App, args: &HerdArgs) -> Outcome {
    match &args.command {
        HerdCommand::Up(args) => up(app, args).await,
        HerdCommand::Submit(args) => submit(app, args).await,
        HerdCommand::Status(which) => status(app, which).await,
        HerdCommand::Results(args) => results(app, args).await,
        HerdCommand::Door(args) => door(app, args).await,
        HerdCommand::Down(which) => down(app, which).await,
    }
}

/// A job's machine.
async fn machine(app: &App, job: &str) -> Result<(Session, String, LeaseView, LeaseClient), Failure> {
    let session = Session::open(app).await?;
    session.ready().await?;
    let job = session.job(job).await?;
    let lease = job.lease()?.clone();
    let client = session.lease_client(&lease);
    Ok((session, job.handle, lease, client))
}

/// A short request and its whole answer.
async fn call(client: &LeaseClient, method: &str, rest: &str, body: Vec<u8>) -> Result<Vec<u8>, Failure> {
    let HerdAnswer { status, mut body, .. } = client.herd(method, rest, stream::iter([Ok(Bytes::from(body))])).await?;
    let mut bytes = vec![];
    while let Some(piece) = body.next().await {
        bytes.extend_from_slice(&piece?);
        if bytes.len() > MAX_ANSWER {
            return Err(Failure::new("unexpected-answer", "the machine's answer has no end"));
        }
    }
    if (200..300).contains(&status) {
        return Ok(bytes);
    }
    Err(match serde_json::from_slice::<Problem>(&bytes) {
        Ok(problem) => Failure::new(&problem.code, problem.detail),
        Err(_) => Failure::new("unexpected-answer", format!("the machine answered with status {status}")),
    })
}

async fn up(app: &App, args: &UpArgs) -> Outcome {
    let timeout = parse_duration(&args.task_timeout).map_err(|e| Failure::usage(format!("--task-timeout: {e}")))?;
    let format = match args.format {
        Speech::Lines => Format::Lines,
        Speech::Json => Format::Json,
        Speech::Frames => Format::Frames,
    };
    let limits = Limits { timeout_ms: timeout.0, attempts: args.attempts, lines: format == Format::Lines, ..Limits::default() };
    let spec = HerdSpec { command: args.command.clone(), workers: args.workers, format, durable: args.durable, limits };
    spec.check().map_err(Failure::usage)?;
    let (session, handle, _, client) = machine(app, &args.job).await?;
    let (bytes, hash) = spec.to_wire();
    call(&client, "PUT", &format!("?hash={hash}"), bytes).await?;
    session.out.note(&format!("✓ {handle} has a herd with {} workers; submit tasks:  farm herd submit {handle} FILE", args.workers));
    Ok(Exit::Ok)
}

async fn down(app: &App, which: &Which) -> Outcome {
    let (session, handle, _, client) = machine(app, &which.job).await?;
    call(&client, "DELETE", "", vec![]).await?;
    session.out.note(&format!("✓ the herd of {handle} has ended; the job goes on"));
    Ok(Exit::Ok)
}

async fn status(app: &App, which: &Which) -> Outcome {
    let (session, .., client) = machine(app, &which.job).await?;
    let bytes = call(&client, "GET", "", vec![]).await?;
    let status: HerdStatus = serde_json::from_slice(&bytes).map_err(|e| Failure::new("unexpected-answer", e.to_string()))?;
    session.out.either(&status, || {
        let mut table = Table::pairs();
        let mut row = |name: &str, text: String| table.row([name.into(), text]);
        row("workers", format!("{} of {}, {} lost so far", status.workers, status.workers_wanted, status.workers_lost));
        row("tasks", format!("{} wait, {} run", status.waiting, status.running));
        row(
            "ended",
            format!("{} done, {} failed, {} cancelled; {} attempts repeated", status.done, status.failed, status.cancelled, status.retried),
        );
        row("results", format!("{} kept, acknowledged up to {}", status.unacknowledged, status.acknowledged));
        row("durable", if status.durable { "yes" } else { "no" }.into());
        if !status.problem.is_empty() {
            row("problem", crate::words::plainly(&status.problem));
        }
        table.text()
    });
    Ok(Exit::Ok)
}

/// A conversation with a herd.
struct Talk {
    say: mpsc::Sender<io::Result<Bytes>>,
    told: EventStream<Bytes>,
    frames: Frames<Tell>,
}

impl Talk {
    async fn begin(client: &LeaseClient) -> Result<Self, Failure> {
        let (say, said) = mpsc::channel(8);
        // It never waits: the channel is empty.
        let _ = say.send(Ok(Bytes::from_static(&HELLO))).await;
        let answer = client.herd("POST", "stream", tokio_stream_of(said)).await?;
        if answer.status != 200 {
            // The problem is in the body; a plain request says it in our words.
            call(client, "GET", "", vec![]).await?;
            return Err(Failure::new("unexpected-answer", format!("the machine answered with status {}", answer.status)));
        }
        Ok(Self { say, told: answer.body, frames: Frames::of(Form::Binary) })
    }

    async fn say(&self, ask: &Ask) -> Result<(), Failure> {
        self.say.send(Ok(encoded(Form::Binary, ask))).await.map_err(|_| broken())
    }

    /// The next word; `None` when the herd has ended.
    async fn hear(&mut self) -> Result<Option<Tell>, Failure> {
        loop {
            match self.frames.next_frame() {
                Ok(Some(Tell::Ended)) => return Ok(None),
                Ok(Some(Tell::Problem { detail })) => return Err(Failure::new("refused", detail)),
                Ok(Some(tell)) => return Ok(Some(tell)),
                Ok(None) => {}
                Err(error) => return Err(Failure::new("unexpected-answer", error.to_string())),
            }
            let piece = self.told.next().await.ok_or_else(broken)??;
            self.frames.buffer().extend_from_slice(&piece);
        }
    }
}

fn broken() -> Failure {
    Failure::new("broken-connection", "the connection to the herd broke off").next("say the same again; it goes on where it was")
}

fn ended() -> Failure {
    Failure::new("ended", "the herd has ended")
}

fn tokio_stream_of(mut channel: mpsc::Receiver<io::Result<Bytes>>) -> impl futures::Stream<Item = io::Result<Bytes>> + Send + 'static {
    stream::poll_fn(move |context| channel.poll_recv(context))
}

/// Reads up to a batch of tasks.
async fn read_batch(lines: &mut (dyn AsyncBufRead + Send + Unpin), args: &SubmitArgs, number: &mut u64) -> Result<Vec<NewTask>, Failure> {
    let mut batch = vec![];
    let mut line = String::new();
    while batch.len() < BATCH {
        line.clear();
        let read = lines.read_line(&mut line).await.map_err(|e| Failure::new("io", format!("cannot read the tasks: {e}")))?;
        if read == 0 {
            break;
        }
        let text = line.trim_end_matches(['\n', '\r']);
        let mut task = if args.tasks_json {
            serde_json::from_str(text).map_err(|e| Failure::usage(format!("line {}: {e}", number.saturating_add(1))))?
        } else {
            NewTask::of(text.to_owned())
        };
        *number = number.saturating_add(1);
        if let Some(prefix) = args.keys.as_ref().filter(|_| task.key.is_empty()) {
            task.key = format!("{prefix}{number}");
        }
        batch.push(task);
    }
    Ok(batch)
}

async fn submit(app: &App, args: &SubmitArgs) -> Outcome {
    let mut lines: Box<dyn AsyncBufRead + Send + Unpin> = match &args.file {
        Some(path) => Box::new(BufReader::new(tokio::fs::File::open(path).await.map_err(|e| Failure::io("read", path, &e))?)),
        None => Box::new(BufReader::new(tokio::io::stdin())),
    };
    let (session, _, _, client) = machine(app, &args.job).await?;
    let mut talk = Talk::begin(&client).await?;
    let (mut number, mut new, mut known) = (0u64, 0u64, 0u64);
    loop {
        let mut batch = read_batch(&mut *lines, args, &mut number).await?;
        if batch.is_empty() {
            break;
        }
        while !batch.is_empty() {
            talk.say(&Ask::Submit { tag: number, tasks: batch.clone() }).await?;
            let Tell::Submitted { submitted, .. } = talk.hear().await?.ok_or_else(ended)? else { continue };
            let taken = submitted.answers.len().min(batch.len());
            for (task, answer) in batch.drain(..taken).zip(submitted.answers) {
                match answer {
                    Answer::New { .. } => new = new.saturating_add(1),
                    Answer::Known { .. } => known = known.saturating_add(1),
                    Answer::Conflict { id } => {
                        return Err(Failure::new("conflict", format!("the key `{}` is that of task {id}, which is another", task.key)));
                    }
                    Answer::Refused { why } => return Err(Failure::new("refused", why)),
                }
            }
            match submitted.busy {
                None => {}
                Some(Busy::Full { .. }) => tokio::time::sleep(BUSY_PAUSE).await,
                Some(Busy::DiskFull { detail } | Busy::Broken { detail }) => {
                    return Err(Failure::new("disk", format!("the machine cannot keep more tasks: {detail}")));
                }
                Some(Busy::Closing) => return Err(ended()),
            }
        }
    }
    let value = serde_json::json!({"submitted": new, "known": known});
    session.out.either(&value, || format!("{new} tasks submitted, {known} were there already"));
    Ok(Exit::Ok)
}

async fn results(app: &App, args: &ResultsArgs) -> Outcome {
    let (session, _, lease, client) = machine(app, &args.job).await?;
    let last = match args.count {
        Some(count) => args.after.saturating_add(count),
        None => {
            let bytes = call(&client, "GET", "", vec![]).await?;
            let status: HerdStatus = serde_json::from_slice(&bytes).map_err(|e| Failure::new("unexpected-answer", e.to_string()))?;
            status.last_seq
        }
    };
    let mut seen = Seen { chain: (args.after == 0).then(Chain::default), last: args.after, receipt: None };
    if last > args.after {
        let mut talk = Talk::begin(&client).await?;
        talk.say(&Ask::Results { after: args.after }).await?;
        while seen.receipt.as_ref().is_none_or(|r| r.seq < last) {
            match talk.hear().await?.ok_or_else(ended)? {
                Tell::Results { results } => {
                    for result in results {
                        seen.add(&result)?;
                        if result.seq <= last {
                            session.out.data(&serde_json::to_string(&result).unwrap_or_default());
                        }
                    }
                }
                Tell::Receipt { receipt } => seen.check(receipt, &lease)?,
                _ => {}
            }
        }
        if args.ack {
            talk.say(&Ask::Acknowledge { upto: last }).await?;
            while !matches!(talk.hear().await?.ok_or_else(ended)?, Tell::Acknowledged { .. }) {}
        }
    }
    match (&seen.receipt, &seen.chain) {
        (Some(r), Some(_)) => session.out.note(&format!(
            "✓ {} results ({} done, {} failed, {} cancelled), signed by the machine's key",
            r.seq, r.done, r.failed, r.cancelled
        )),
        (Some(_), None) => session.out.note("the receipt was not checked: only who reads from the first result can"),
        (None, _) => session.out.note("no results"),
    }
    Ok(Exit::Ok)
}

/// What was read of a herd's results.
struct Seen {
    /// `None` where the beginning was not read.
    chain: Option<Chain>,
    last: u64,
    receipt: Option<Receipt>,
}

impl Seen {
    fn add(&mut self, result: &pasture_herd::Finished) -> Result<(), Failure> {
        let next = self.last.saturating_add(1);
        let fits = match &mut self.chain {
            Some(chain) => chain.push(result),
            None => result.seq == next,
        };
        if !fits {
            return Err(Failure::new("results", format!("result {} comes where {next} was expected", result.seq))
                .next("results that were acknowledged are gone: begin with --after NUMBER"));
        }
        self.last = result.seq;
        Ok(())
    }

    fn check(&mut self, receipt: Receipt, lease: &LeaseView) -> Result<(), Failure> {
        if let Some(chain) = &self.chain {
            receipt.verify(&lease.node, &lease.id.0, chain).map_err(|e| {
                Failure::new("receipt", e.to_string()).next("the machine, or somebody on the way, changed a result: do not use these")
            })?;
        }
        self.receipt = Some(receipt);
        Ok(())
    }
}

/// The way from the door to the machine.
struct Through(LeaseClient);

impl Way for Through {
    fn send(&self, method: String, rest: String, body: Outgoing) -> BoxFuture<'static, Result<Answered, Problem>> {
        let client = self.0.clone();
        Box::pin(async move {
            match client.herd(&method, &rest, body).await {
                Ok(answer) => Ok((answer.status, answer.kind, answer.body.map(|p| p.map_err(io::Error::other)).boxed())),
                Err(error) => Err(error.problem().cloned().unwrap_or_else(|| Problem::new(502, "broken-connection", error.to_string()))),
            }
        })
    }
}

fn private(path: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(SOCKET_MODE)).map_err(|e| Failure::io("close to others", path, &e))
}

async fn door(app: &App, args: &DoorArgs) -> Outcome {
    let (session, handle, _, client) = machine(app, &args.job).await?;
    // Says now, and not at the first task, if there is no herd.
    call(&client, "GET", "", vec![]).await?;
    let way: Arc<dyn Way> = Arc::new(Through(client));
    let stop = Shutdown::new();
    let mut signals = Signals::listen()?;
    let mut opened = serde_json::Map::new();
    if let Some(address) = args.listen {
        if !address.ip().is_loopback() {
            return Err(Failure::usage(format!("--listen {address}: only this machine's own address (127.0.0.1) is possible")));
        }
        let failed = |e: io::Error| Failure::new("listen", format!("cannot listen on {address}: {e}"));
        let listener = tokio::net::TcpListener::bind(address).await.map_err(failed)?;
        let url = format!("http://{}/v1/herd", listener.local_addr().map_err(failed)?);
        opened.insert("url".into(), url.into());
        pasture_rt::spawn(TaskKind::Server, pasture_herd::door::serve_port(listener, Arc::clone(&way), stop.token()));
    }
    if let Some(path) = &args.socket {
        let listener = tokio::net::UnixListener::bind(path).map_err(|e| Failure::io("listen on", path, &e))?;
        private(path)?;
        opened.insert("socket".into(), path.display().to_string().into());
        pasture_rt::spawn(TaskKind::Server, pasture_herd::door::serve_socket(listener, way, stop.token()));
    }
    let places: Vec<String> = opened.values().filter_map(|v| v.as_str().map(str::to_owned)).collect();
    session.out.either(&opened, || format!("the herd of {handle} is open at {}", places.join(" and ")));
    signals.next().await;
    stop.trigger();
    if let Some(path) = &args.socket {
        let _ = std::fs::remove_file(path);
    }
    Ok(Exit::Ok)
}
