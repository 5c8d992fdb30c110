//! What comes in while a job is followed, each from a task that reconnects: ledger events, the machine's events, the log,
//! and signals.
//!
//! Guarantees: after a gap a feed says `Again` (or, for the machine's events, begins with the current status), so that
//! nothing is missed by whoever reads the state then; the log continues at the byte where it broke off, so nothing is shown
//! twice. Channels hold little: a slow reader slows the sender. Tasks end when their reader is gone.

use crate::exit::Failure;
use crate::patience::Pause;
use crate::sealed::SealedLog;
use crate::session::Session;
use futures::StreamExt as _;
use pasture_api::LedgerEvent;
use pasture_api::client::{EventFilter, EventStream, LeaseClient};
use pasture_api::data::{NodeEvent, Phase};
use pasture_api::frames::Frame;
use pasture_rt::{TaskKind, spawn};
use pasture_store::sealed::ReaderKey;
use tokio::sync::mpsc;

/// Items that wait for the reader; more would only hide how far behind it is.
const QUEUE: usize = 64;

/// From the ledger.
#[derive(Debug)]
pub(crate) enum FromLedger {
    /// Something happened.
    Event(Box<LedgerEvent>),
    /// Connected again after a gap: read the state.
    Again,
}

/// Follows the ledger. When this returns, nothing that happens from now on is missed.
pub(crate) async fn ledger(session: &Session, filter: EventFilter) -> Result<mpsc::Receiver<FromLedger>, Failure> {
    let first = session.ask(|| session.api.events(filter)).await?;
    let (send, receive) = mpsc::channel(QUEUE);
    let api = session.api.clone();
    spawn(TaskKind::ClientFollow, async move {
        let mut stream = first;
        let mut pause = Pause::new();
        loop {
            if !pass_on(&mut stream, &send).await {
                return;
            }
            stream = loop {
                if send.is_closed() {
                    return;
                }
                pause.wait().await;
                if let Ok(stream) = api.events(filter).await {
                    break stream;
                }
            };
            pause.reset();
            if send.send(FromLedger::Again).await.is_err() {
                return;
            }
        }
    });
    Ok(receive)
}

/// Passes events on until the stream breaks (true) or nobody reads (false).
async fn pass_on(stream: &mut EventStream<LedgerEvent>, send: &mpsc::Sender<FromLedger>) -> bool {
    loop {
        tokio::select! {
            () = send.closed() => return false,
            item = stream.next() => match item {
                Some(Ok(event)) => {
                    if send.send(FromLedger::Event(Box::new(event))).await.is_err() {
                        return false;
                    }
                }
                Some(Err(_)) | None => return true,
            },
        }
    }
}

/// From the machine that runs the job.
#[derive(Debug)]
pub(crate) enum FromNode {
    /// It said something.
    Event(NodeEvent),
    /// It cannot be reached now.
    Away(String),
}

/// Follows the machine's events.
pub(crate) fn node(client: &LeaseClient) -> mpsc::Receiver<FromNode> {
    let (send, receive) = mpsc::channel(QUEUE);
    let client = client.clone();
    spawn(TaskKind::ClientFollow, async move {
        let mut pause = Pause::new();
        loop {
            let away = match client.events().await {
                Ok(mut stream) => {
                    pause.reset();
                    loop {
                        tokio::select! {
                            () = send.closed() => return,
                            item = stream.next() => match item {
                                Some(Ok(event)) => {
                                    if send.send(FromNode::Event(event)).await.is_err() {
                                        return;
                                    }
                                }
                                Some(Err(e)) => break e.to_string(),
                                None => break "the connection ended".into(),
                            },
                        }
                    }
                }
                Err(e) => e.to_string(),
            };
            if send.send(FromNode::Away(away)).await.is_err() {
                return;
            }
            pause.wait().await;
        }
    });
    receive
}

/// From the log.
#[derive(Debug)]
pub(crate) enum FromLog {
    /// A piece.
    Frame(Frame),
    /// All of it was read.
    Done {
        /// The machine had not all of it.
        cut: bool,
    },
    /// It does not open, or is not what the machine stated; nothing more of it comes.
    Failed(Failure),
}

/// Reads the log from an offset on; with `follow` until the job has ended and all of it was read.
pub(crate) fn log(client: &LeaseClient, reader: ReaderKey, from: u64, follow: bool) -> mpsc::Receiver<FromLog> {
    let (send, receive) = mpsc::channel(QUEUE);
    let client = client.clone();
    spawn(TaskKind::ClientFollow, async move {
        let mut log = SealedLog::new(&client, reader, from);
        let last = match read_log(&client, &mut log, follow, &send).await {
            Ok(Some(cut)) => FromLog::Done { cut },
            Ok(None) => return,
            Err(failure) => FromLog::Failed(failure),
        };
        // Nobody left to tell is fine.
        let _ = send.send(last).await;
    });
    receive
}

/// Whether the machine had not all of it, once all that it has was read; nothing where nobody listens any more.
async fn read_log(client: &LeaseClient, log: &mut SealedLog, follow: bool, send: &mpsc::Sender<FromLog>) -> Result<Option<bool>, Failure> {
    let mut pause = Pause::new();
    loop {
        if let Ok(mut stream) = client.logs(log.at(), follow).await {
            log.again();
            loop {
                let item = tokio::select! {
                    () = send.closed() => return Ok(None),
                    item = stream.next() => item,
                };
                let Some(Ok(bytes)) = item else { break };
                pause.reset();
                log.push(&bytes);
                while let Some(frame) = log.next()? {
                    if send.send(FromLog::Frame(frame)).await.is_err() {
                        return Ok(None);
                    }
                }
            }
        }
        // A stream that ends may have ended or broken: the machine knows how long the log is.
        match client.status().await {
            Ok(status) if log.at() >= status.log_bytes && (!follow || status.phase == Phase::Ended) => {
                return log.check(client, &status).map(|()| Some(status.log_cut));
            }
            Err(e) if !e.is_transient() => return Ok(Some(false)),
            _ => {}
        }
        if send.is_closed() {
            return Ok(None);
        }
        pause.wait().await;
    }
}

/// What the operating system wants of us.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Signal {
    /// Ctrl-C.
    Interrupt,
    /// `kill`.
    Terminate,
}

/// Ctrl-C and SIGTERM, as they come.
pub(crate) struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    /// From now on these signals do not end the process by themselves.
    pub(crate) fn listen() -> Result<Self, Failure> {
        use tokio::signal::unix::{SignalKind, signal};
        let failed = |e: std::io::Error| Failure::new("signals", format!("cannot listen for signals: {e}"));
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).map_err(failed)?,
            terminate: signal(SignalKind::terminate()).map_err(failed)?,
        })
    }
    /// The next one.
    pub(crate) async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::Interrupt,
            _ = self.terminate.recv() => Signal::Terminate,
        }
    }
}

/// Returns when standard input ends; never where nobody asked.
pub(crate) async fn parent_gone(asked: bool) {
    if !asked {
        std::future::pending::<()>().await;
    }
    use tokio::io::AsyncReadExt as _;
    let (mut stdin, mut bytes) = (tokio::io::stdin(), [0u8; 64]);
    // What is written there means nothing; an error is an end too.
    while matches!(stdin.read(&mut bytes).await, Ok(n) if n > 0) {}
}
