//! The machine's side of the door.
//!
//! Guarantees: see [`super`]. Leaving is handed to whoever runs the machine, since it ends it; everything else is done here.

use super::{Answer, JobHere, LeaveTerms, MAX_LINE, MachineStatus, Request, WaitsFor, reachable, socket_of};
use crate::NodeError;
use crate::believed::Believed;
use pasture_api::data::Phase;
use pasture_provider::ProviderHandle;
use pasture_rt::{ShutdownToken, TaskKind};
use pasture_store::StoreError;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};

/// Clients at once: people and their scripts. Further ones wait.
const MAX_CLIENTS: usize = 16;
/// How long a client may take to say what it wants.
const ASK_DEADLINE: Duration = Duration::from_secs(10);
/// Longest request.
const MAX_REQUEST: u64 = 4096;
/// How long the last word of a machine that ends may take to go out.
const LAST_WORD_DEADLINE: Duration = Duration::from_secs(2);
/// Who may open the socket.
const SOCKET_MODE: u32 = 0o600;
/// Words on their way to a client; who does not read them misses progress, not the answer.
const ANSWERS: usize = 64;

/// Somebody wants the machine to leave.
pub(crate) struct LeaveOrder {
    /// How.
    pub(crate) terms: LeaveTerms,
    /// Where to say how it goes.
    pub(crate) tell: mpsc::Sender<Answer>,
}

/// The open door.
pub(crate) struct Control {
    socket: PathBuf,
    orders: mpsc::Receiver<LeaveOrder>,
}

impl Control {
    /// The next order to leave; never returns while there is none.
    pub(crate) async fn leaving(&mut self) -> LeaveOrder {
        match self.orders.recv().await {
            Some(order) => order,
            None => std::future::pending().await,
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // The next start would replace it; without it nobody waits for an answer in vain.
        let _ = std::fs::remove_file(&self.socket);
    }
}

/// What all conversations share.
struct Door {
    machine: ProviderHandle,
    api_url: String,
    data: PathBuf,
    believed: Option<Believed>,
    may_leave: bool,
    orders: mpsc::Sender<LeaveOrder>,
}

/// Opens the door of a running machine until shutdown. Its data directory is locked by now, so a socket that is there is nobody's.
pub(crate) fn start(
    machine: ProviderHandle,
    api_url: &str,
    data: &Path,
    believed: Option<Believed>,
    may_leave: bool,
    stop: ShutdownToken,
) -> Result<Control, NodeError> {
    let socket = socket_of(data);
    let io = |action: &'static str| {
        let path = socket.clone();
        move |source| NodeError::Store(StoreError::Io { action, path, source })
    };
    match std::fs::remove_file(&socket) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(io("replace")(e)),
        _ => {}
    }
    let (_way, short) = reachable(&socket).map_err(io("open"))?;
    let listener = UnixListener::bind(&short).map_err(io("listen at"))?;
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(SOCKET_MODE)).map_err(io("protect"))?;
    let (orders, received) = mpsc::channel(1);
    let door = Arc::new(Door { machine, api_url: api_url.into(), data: data.into(), believed, may_leave, orders });
    pasture_rt::spawn(TaskKind::Server, serve(listener, door, stop));
    Ok(Control { socket, orders: received })
}

async fn serve(listener: UnixListener, door: Arc<Door>, stop: ShutdownToken) {
    let places = Arc::new(Semaphore::new(MAX_CLIENTS));
    loop {
        let Some(Ok(place)) = stop.guard(Arc::clone(&places).acquire_owned()).await else { return };
        let Some(Ok((client, _))) = stop.guard(listener.accept()).await else { return };
        let door = Arc::clone(&door);
        // Not guarded: who asked to leave is told that it is done after everything else has stopped.
        pasture_rt::spawn(TaskKind::Connection, async move {
            converse(client, door).await;
            drop(place);
        });
    }
}

async fn converse(client: UnixStream, door: Arc<Door>) {
    let (reader, writer) = client.into_split();
    let mut line = vec![];
    let mut reader = BufReader::new(reader.take(MAX_REQUEST));
    let read = tokio::time::timeout(ASK_DEADLINE, reader.read_until(b'\n', &mut line)).await;
    if !matches!(read, Ok(Ok(1..))) {
        return;
    }
    let (tell, answers) = mpsc::channel(ANSWERS);
    let writing = write(writer, answers);
    let doing = async move {
        match serde_json::from_slice::<Request>(&line) {
            Ok(request) => door.answer(request, tell).await,
            Err(e) => {
                let _ = tell.send(Answer::Failed { why: format!("this cannot be understood: {e}") }).await;
            }
        }
    };
    tokio::join!(writing, doing);
}

/// Writes what is said, up to the last word. A client that is gone stops nobody.
async fn write(mut writer: OwnedWriteHalf, mut answers: mpsc::Receiver<Answer>) {
    let mut gone = false;
    while let Some(answer) = answers.recv().await {
        if !gone && let Ok(mut line) = serde_json::to_vec(&answer) {
            line.push(b'\n');
            gone = line.len() as u64 > MAX_LINE || writer.write_all(&line).await.is_err();
        }
        if !matches!(answer, Answer::Progress { .. }) {
            return;
        }
    }
}

impl Door {
    async fn answer(&self, request: Request, tell: mpsc::Sender<Answer>) {
        let mut load = None;
        let outcome = match request {
            Request::Status => {
                load = Some(pasture_provider::monitor::look(&self.data).await);
                Ok(())
            }
            Request::Pause => self.machine.pause(None).await.map(drop),
            Request::Resume => self.machine.resume().await.map(drop),
            Request::Drain { jobs_end_in, wait } => {
                let paused = self.machine.pause(jobs_end_in).await;
                if wait && paused.is_ok() {
                    self.machine.idle(|jobs| progress(&tell, WaitsFor::Jobs(jobs))).await;
                }
                paused.map(drop)
            }
            Request::Block { blocked, end_jobs } => self.machine.block(blocked, end_jobs).await,
            Request::Unblock { account } => self.machine.unblock(account).await,
            Request::Leave(terms) => return self.leave(terms, tell).await,
        };
        let answer = match outcome {
            Ok(()) => Answer::Status { machine: Box::new(MachineStatus { load, ..self.status() }) },
            Err(e) => Answer::Failed { why: e.to_string() },
        };
        // A client that has gone has no more questions.
        let _ = tell.send(answer).await;
    }

    async fn leave(&self, terms: LeaveTerms, tell: mpsc::Sender<Answer>) {
        let refused = if self.may_leave {
            match self.orders.try_send(LeaveOrder { terms, tell }) {
                Ok(()) => return,
                Err(e) => {
                    let order = e.into_inner();
                    (order.tell, "it is leaving already".to_owned())
                }
            }
        } else {
            (tell, "it belongs to a local network, which ends with Ctrl-C in its terminal".to_owned())
        };
        let _ = refused.0.send(Answer::Failed { why: refused.1 }).await;
    }

    fn status(&self) -> MachineStatus {
        let s = self.machine.status();
        let here = |l: &&pasture_api::data::LeaseStatus| l.phase != Phase::Ended;
        let job = |l: &pasture_api::data::LeaseStatus| JobHere {
            lease: l.lease,
            phase: l.phase,
            served_ms: l.served_ms,
            ends: l.ends,
            gpus: l.gpus.clone(),
        };
        MachineStatus {
            node: s.node,
            provider: s.provider,
            api_url: self.api_url.clone(),
            data: self.data.clone(),
            connected: s.connected,
            paused: s.paused,
            offer: s.offer,
            offered: s.offered,
            held: s.held,
            jobs: s.leases.iter().filter(here).map(job).collect(),
            unfinished: s.unfinished,
            images: s.images,
            checked: self.believed.as_ref().map(Believed::checked),
            may_leave: self.may_leave,
            load: None,
        }
    }
}

impl LeaveOrder {
    /// Says the last word and waits, not for long, until it is on its way.
    pub(crate) async fn conclude(self, answer: Answer) {
        // Who asked may have gone.
        let _ = self.tell.send(answer).await;
        let _ = tokio::time::timeout(LAST_WORD_DEADLINE, self.tell.closed()).await;
    }
}

/// Says what is waited for, to whoever listens.
pub(crate) fn progress(tell: &mpsc::Sender<Answer>, waits_for: WaitsFor) {
    // A client that does not read misses progress; the answer waits for it.
    let _ = tell.try_send(Answer::Progress { waits_for });
}
