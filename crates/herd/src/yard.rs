//! Where workers run: a trait that starts a process somewhere, and the task that keeps one worker up.
//!
//! ```text
//!  start ─▶ up ─▶ work … ─▶ ended by itself, late, or nonsense ─▶ reported lost ─▶ pause ─▶ start
//!                        └▶ told to stop ─▶ dismissed
//! ```
//! Guarantees: a worker whose process cannot be started, or that ends before it has answered, is started again after a pause
//! that doubles; its input is closed before it is ended; what it wrote to its standard error last is part of the reason.

use crate::framing::{self, Decoder, Format};
use crate::herd::{Message, Order};
use crate::queue::{Dispatch, Gone, Said};
use crate::task::TaskId;
use async_trait::async_trait;
use bytes::BytesMut;
use futures::future::BoxFuture;
use pasture_rt::ShutdownToken;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;

/// Pause before a worker that answered nothing is started again; doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// Bytes read from a worker at once.
const READ_BYTES: usize = 64 << 10;
/// Last bytes of standard error that are kept for a reason.
const LAST_WORDS: usize = 512;
/// How long we listen on for them after its end.
const LAST_WORDS_WAIT: Duration = Duration::from_millis(200);
/// How long a worker may take to end by itself once its input is closed.
const FAREWELL: Duration = Duration::from_secs(2);

/// A worker's process.
pub struct Process {
    /// Its standard input.
    pub input: Box<dyn AsyncWrite + Send + Unpin>,
    /// Its standard output.
    pub output: Box<dyn AsyncRead + Send + Unpin>,
    /// Its standard error, if that comes apart.
    pub errors: Box<dyn AsyncRead + Send + Unpin>,
    /// Waits for its end and tells how it ended.
    pub ended: BoxFuture<'static, String>,
    /// Ends it.
    pub kill: BoxFuture<'static, ()>,
}

/// A place that runs workers.
#[async_trait]
pub trait Yard: Send + Sync + 'static {
    /// Starts the worker of a slot.
    async fn start(&self, slot: u32) -> Result<Process, String>;
}

/// Keeps one worker up until it is told to stop or the herd is gone.
pub(crate) async fn keep_worker(
    slot: u32,
    yard: Arc<dyn Yard>,
    format: Format,
    herd: mpsc::WeakSender<Message>,
    numbers: Arc<AtomicU64>,
    stop: ShutdownToken,
) {
    let mut pause = FIRST_PAUSE;
    while !stop.is_requested() {
        let problem = match stop.guard(yard.start(slot)).await {
            None => return,
            Some(Ok(process)) => {
                let worker = numbers.fetch_add(1, Ordering::Relaxed);
                let Some(sender) = herd.upgrade() else { return };
                let (answered, gone) = Life { worker, format, herd: sender.clone() }.live(process, &stop).await;
                let problem = match &gone {
                    Gone::Dismissed => None,
                    Gone::Lost(why) => Some(why.clone()),
                };
                let _ = sender.send(Message::WorkerDown(worker, gone)).await;
                if answered {
                    pause = FIRST_PAUSE;
                }
                problem
            }
            Some(Err(problem)) => Some(problem),
        };
        let Some(problem) = problem else { return };
        tracing::info!(slot, problem, "a herd's worker is started again");
        let Some(sender) = herd.upgrade() else { return };
        let _ = sender.send(Message::NoWorker(format!("a worker ended: {problem}"))).await;
        drop(sender);
        if stop.guard(tokio::time::sleep(pause)).await.is_none() {
            return;
        }
        pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
    }
}

/// One life of a worker.
struct Life {
    worker: u64,
    format: Format,
    herd: mpsc::Sender<Message>,
}

/// How its conversation ended.
enum End {
    Told,
    Late(String),
    Itself(String),
}

impl Life {
    /// Whether it answered anything, and why it is gone.
    async fn live(&self, process: Process, stop: &ShutdownToken) -> (bool, Gone) {
        let Process { mut input, output, errors, ended, kill } = process;
        let (orders, received) = mpsc::unbounded_channel();
        if self.herd.send(Message::WorkerUp(self.worker, orders)).await.is_err() {
            kill.await;
            return (false, Gone::Dismissed);
        }
        let mut last_words = Vec::new();
        let mut answered = false;
        // Ours to share between the two halves: what was sent and is unanswered, for formats without numbers.
        let asked = Mutex::new(VecDeque::new());
        let end = {
            let mut listening = std::pin::pin!(listen(errors, &mut last_words));
            let talk = self.talk(&mut *input, received, &asked);
            let hear = self.hear(output, &asked, &mut answered);
            let (mut talk, mut hear) = (std::pin::pin!(talk), std::pin::pin!(hear));
            let mut silent = false;
            let end = loop {
                tokio::select! {
                    end = &mut talk => break end,
                    end = &mut hear => break end,
                    () = &mut listening, if !silent => silent = true,
                    () = stop.requested() => break End::Told,
                }
            };
            if !silent {
                let _ = tokio::time::timeout(LAST_WORDS_WAIT, listening).await;
            }
            end
        };
        // Its input is closed: a worker that keeps the contract ends.
        let _ = tokio::time::timeout(FAREWELL, input.shutdown()).await;
        drop(input);
        let late = matches!(end, End::Late(_));
        let how = if late { None } else { tokio::time::timeout(FAREWELL, ended).await.ok() };
        if how.is_none() {
            kill.await;
        }
        let gone = match end {
            End::Told => Gone::Dismissed,
            End::Late(why) => Gone::Lost(why),
            End::Itself(what) => {
                let words = String::from_utf8_lossy(&last_words);
                let words = words.trim();
                let mut why = what;
                if let Some(how) = how.filter(|h| !h.is_empty()) {
                    why = format!("{why} ({how})");
                }
                Gone::Lost(if words.is_empty() { why } else { format!("{why}: {words}") })
            }
        };
        (answered, gone)
    }

    async fn talk(
        &self,
        input: &mut (dyn AsyncWrite + Send + Unpin),
        mut orders: mpsc::UnboundedReceiver<Order>,
        asked: &Mutex<VecDeque<TaskId>>,
    ) -> End {
        let mut out = BytesMut::new();
        // A worker may close its input and go on; orders must reach us also then, and while it reads nothing.
        let mut open = true;
        let mut gathered: Vec<Dispatch> = vec![];
        loop {
            while let Ok(order) = orders.try_recv() {
                match order {
                    Order::Work(tasks) => gathered.extend(tasks),
                    Order::End(why) => return End::Late(why),
                }
            }
            for task in gathered.drain(..) {
                framing::encode(self.format, &task, &mut out);
                if self.format == Format::Lines {
                    asked.lock().unwrap_or_else(PoisonError::into_inner).push_back(task.id);
                }
            }
            if out.is_empty() || !open {
                out.clear();
                match orders.recv().await {
                    Some(Order::Work(tasks)) => gathered.extend(tasks),
                    Some(Order::End(why)) => return End::Late(why),
                    None => return End::Told,
                }
                continue;
            }
            let sending = async {
                input.write_all(&out).await?;
                input.flush().await
            };
            let mut sending = std::pin::pin!(sending);
            open = loop {
                tokio::select! {
                    sent = &mut sending => break sent.is_ok(),
                    order = orders.recv() => match order {
                        Some(Order::Work(tasks)) => gathered.extend(tasks),
                        Some(Order::End(why)) => return End::Late(why),
                        None => return End::Told,
                    },
                }
            };
            out.clear();
        }
    }

    async fn hear(&self, mut output: Box<dyn AsyncRead + Send + Unpin>, asked: &Mutex<VecDeque<TaskId>>, answered: &mut bool) -> End {
        let mut decoder = Decoder::new(self.format);
        loop {
            decoder.buffer().reserve(READ_BYTES);
            match output.read_buf(decoder.buffer()).await {
                Ok(0) => return End::Itself("the worker ended".into()),
                Ok(_) => {}
                Err(error) => return End::Itself(format!("the worker's output broke off: {error}")),
            }
            let mut answers: Vec<(TaskId, Said)> = vec![];
            let problem = loop {
                match decoder.next_answer() {
                    Ok(None) => break None,
                    Err(error) => break Some(error.to_string()),
                    Ok(Some((Some(id), said))) => answers.push((id, said)),
                    Ok(Some((None, said))) => {
                        let oldest = asked.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                        match oldest {
                            Some(id) => answers.push((id, said)),
                            None => break Some("a line came that answers nothing".into()),
                        }
                    }
                }
            };
            if !answers.is_empty() {
                *answered = true;
                if self.herd.send(Message::Answers(self.worker, answers)).await.is_err() {
                    return End::Told;
                }
            }
            if let Some(problem) = problem {
                return End::Itself(problem);
            }
        }
    }
}

/// Keeps the last bytes of a stream.
async fn listen(mut stream: Box<dyn AsyncRead + Send + Unpin>, last: &mut Vec<u8>) {
    let mut buffer = vec![0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        last.extend_from_slice(buffer.get(..count).unwrap_or_default());
        let excess = last.len().saturating_sub(LAST_WORDS);
        last.drain(..excess);
    }
}

/// A yard on this machine without a container: for tests, benches, and shepherds that try their worker at home.
pub struct LocalYard(Vec<String>);

impl LocalYard {
    /// Workers run this command.
    #[must_use]
    pub const fn new(command: Vec<String>) -> Self {
        Self(command)
    }
}

#[async_trait]
impl Yard for LocalYard {
    async fn start(&self, slot: u32) -> Result<Process, String> {
        let (program, args) = self.0.split_first().ok_or("the command is empty")?;
        let piped = std::process::Stdio::piped;
        let mut child = tokio::process::Command::new(program)
            .args(args)
            .env("FARM_WORKER", slot.to_string())
            .stdin(piped())
            .stdout(piped())
            .stderr(piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("{program} cannot be started: {error}"))?;
        let (Some(input), Some(output), Some(errors)) = (child.stdin.take(), child.stdout.take(), child.stderr.take()) else {
            return Err("the worker has no standard streams".into());
        };
        let child = Arc::new(tokio::sync::Mutex::new(child));
        let killed = Arc::clone(&child);
        Ok(Process {
            input: Box::new(input),
            output: Box::new(output),
            errors: Box::new(errors),
            ended: Box::pin(async move { child.lock().await.wait().await.map_or_else(|e| e.to_string(), |status| status.to_string()) }),
            kill: Box::pin(async move {
                let _ = killed.lock().await.kill().await;
            }),
        })
    }
}
