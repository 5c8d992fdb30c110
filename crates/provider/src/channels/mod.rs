//! Channels from a lease's user into its container: commands, connections to ports, files. Contract: `docs/specs/channel.md`.
//!
//! ```text
//!  request ─▶ opening: signed hash, once, in time ─▶ a slot of the lease ─▶ begin ─▶ answer 200, frames both ways ─▶ exit | problem
//! ```
//! Guarantees: an opening is taken once, also if somebody on the way sends it again; a lease has a bounded number of channels, and
//! each holds a bounded number of bytes: who reads slowly is written to slowly. A channel ends with its job, with this process, and
//! when its client is gone; a command is ended with its channel. What begins to fail after the answer has begun is told in the
//! channel. It decides nothing about leases.

mod archive;
mod exec;
mod files;
mod port;
pub(crate) mod private;
pub(crate) mod public;
pub(crate) mod stats;

use crate::context::Context;
use crate::lease::Shared;
use axum::body::{Body, BodyDataStream};
use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use pasture_api::auth::MAX_SKEW_MS;
use pasture_api::channel::{Decoder, Frame, Opening, Purpose};
use pasture_api::data::Phase;
use pasture_api::problem::Problem;
use pasture_rt::TaskKind;
use pasture_runtime::{InstanceId, RuntimeError};
use pasture_types::{BlobHash, LeaseId, NodeId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// How long a client may take to say what it wants.
const OPENING_WITHIN: Duration = Duration::from_secs(10);
/// Frames that wait for a slow client before nothing more is read for it.
const OUTBOX: usize = 4;
/// How often a silent channel says that it lives, so that a client that is gone is noticed.
const STILL_EVERY: Duration = Duration::from_secs(30);
/// How long a channel may outlive its job: a command's last words and its exit code are on their way.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// How long the last word may take to leave.
const FAREWELL: Duration = Duration::from_secs(5);
/// Openings that are remembered so that none is taken twice, over all leases; each for as long as it could come again.
const MAX_REMEMBERED: usize = 131_072;

/// What a channel costs us.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Kind {
    Exec,
    Port,
    /// A connection of anybody to a port that is published.
    Public,
    /// A connection of another job of the same deployment.
    Private,
    Copy,
    Stats,
}

impl Kind {
    const fn of(purpose: &Purpose) -> Self {
        match purpose {
            Purpose::Exec { .. } => Self::Exec,
            Purpose::Port { .. } => Self::Port,
            Purpose::Read { .. } | Purpose::Write { .. } => Self::Copy,
        }
    }
    /// Most of one lease at once: people and scripts, connections of a few programs, disks that are busy.
    const fn most(self) -> u32 {
        match self {
            Self::Exec => 16,
            Self::Port => 64,
            Self::Public | Self::Private => 256,
            Self::Copy => 4,
            Self::Stats => 8,
        }
    }
    const fn name(self) -> &'static str {
        match self {
            Self::Exec => "commands",
            Self::Port => "connections",
            Self::Public => "connections of everybody",
            Self::Private => "connections of its deployment",
            Self::Copy => "copies",
            Self::Stats => "watches of what it uses",
        }
    }
}

#[derive(Default)]
struct State {
    open: BTreeMap<(LeaseId, Kind), u32>,
    seen: BTreeSet<BlobHash>,
    /// The same, by when each is forgotten.
    forgotten_at: VecDeque<(u64, BlobHash)>,
}

/// The channels of this node. A lock and not an owner task, because every request asks and nobody holds it across an await.
pub(crate) struct Channels {
    state: Arc<Mutex<State>>,
    /// When this process began to remember openings.
    began_ms: u64,
}

/// A channel's place; free again when it is dropped.
struct Slot {
    state: Arc<Mutex<State>>,
    key: (LeaseId, Kind),
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        if let Some(count) = state.open.get_mut(&self.key) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                state.open.remove(&self.key);
            }
        }
    }
}

impl Channels {
    pub(crate) fn new(now_ms: u64) -> Self {
        Self { state: Arc::default(), began_ms: now_ms }
    }

    fn slot(&self, lease: LeaseId, kind: Kind) -> Result<Slot, Problem> {
        let mut state = lock(&self.state);
        let count = state.open.entry((lease, kind)).or_default();
        if *count >= kind.most() {
            let detail = format!("this job has {} {} open, which is the most: end one first", kind.most(), kind.name());
            return Err(Problem::new(429, "too-many-channels", detail));
        }
        *count += 1;
        Ok(Slot { state: Arc::clone(&self.state), key: (lease, kind) })
    }

    /// Takes an opening, which is not taken again.
    fn take(&self, opening: &Opening, hash: BlobHash, now_ms: u64) -> Result<(), Problem> {
        let off = opening.at_ms.abs_diff(now_ms);
        if off > MAX_SKEW_MS {
            return Err(Problem::unauthorized(format!("the channel was opened {off} ms away from this machine's time: check both clocks")));
        }
        // What came before we began is not remembered, so it may have been taken.
        if opening.at_ms < self.began_ms {
            return Err(Problem::unavailable("this machine's program has just begun, or your clock is late: try again in a moment"));
        }
        let mut state = lock(&self.state);
        while state.forgotten_at.front().is_some_and(|(at, _)| *at < now_ms) {
            if let Some((_, hash)) = state.forgotten_at.pop_front() {
                state.seen.remove(&hash);
            }
        }
        if state.seen.len() >= MAX_REMEMBERED {
            return Err(Problem::unavailable("too many channels were opened here within minutes: try again in a moment"));
        }
        if !state.seen.insert(hash) {
            return Err(Problem::new(409, "opened-before", "this channel was opened before; each opening counts once"));
        }
        state.forgotten_at.push_back((now_ms.saturating_add(2 * MAX_SKEW_MS), hash));
        Ok(())
    }
}

/// What a client says.
struct Incoming {
    body: BodyDataStream,
    decoder: Decoder,
}

impl Incoming {
    /// The next frame; `None` when the client is gone or talks nonsense.
    async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.decoder.next_frame().ok()? {
                return Some(frame);
            }
            self.decoder.push(&self.body.next().await?.ok()?);
        }
    }
}

/// What a client is told.
#[derive(Clone)]
struct Outgoing(mpsc::Sender<Bytes>);

impl Outgoing {
    /// Waits until there is room; an error when nobody listens any more.
    async fn tell(&self, frame: &Frame) -> Result<(), Ended> {
        self.0.send(frame.encoded()).await.map_err(|_| Ended::Gone)
    }
}

/// Why a channel ended early.
enum Ended {
    /// Its client is gone.
    Gone,
    /// Something failed.
    Failed(Problem),
}

impl From<Problem> for Ended {
    fn from(problem: Problem) -> Self {
        Self::Failed(problem)
    }
}

/// A channel that has begun.
struct Begun {
    /// Ends when all is said, the last word included.
    work: BoxFuture<'static, Result<(), Ended>>,
    /// Done after the work, also if that was cut short.
    after: BoxFuture<'static, ()>,
}

/// What the engine says, as a problem.
fn problem(error: &RuntimeError) -> Problem {
    match error {
        RuntimeError::NotFound { what: "path", name } => Problem::new(404, "no-such-path", format!("there is no {name} in the container")),
        RuntimeError::NotFound { .. } => Problem::new(409, "not-running", "the job does not run now"),
        RuntimeError::StartFailed { code: 126, message } => Problem::new(422, "cannot-run", message.clone()),
        RuntimeError::StartFailed { message, .. } => Problem::new(422, "no-such-command", message.clone()),
        RuntimeError::Conflict(why) | RuntimeError::Invalid { why, .. } => Problem::conflict(why.clone()),
        RuntimeError::TooLarge { limit_bytes } => Problem::too_large(format!("this is larger than {limit_bytes} bytes")),
        error => {
            // Its words may name paths of this machine.
            tracing::warn!(error = %crate::lease::chain(error), "the engine failed a channel");
            Problem::new(500, "engine", "the container engine of the machine could not do this")
        }
    }
}

/// The container of a job that runs.
fn running(lease: &Shared) -> Result<InstanceId, Problem> {
    let status = lease.status();
    match (status.phase, status.container) {
        (Phase::Running | Phase::Stopping, Some(container)) => Ok(InstanceId(container)),
        (Phase::Ended, _) => Err(Problem::new(409, "job-ended", "the job has ended")),
        (phase, _) => Err(Problem::new(409, "not-running", format!("the job does not run yet: {phase:?}").to_lowercase())),
    }
}

/// Opens a channel; what the answer's body carries. `machine`: who asks, if it is a machine of the same deployment.
pub(crate) async fn open(
    ctx: &Arc<Context>,
    lease: &Arc<Shared>,
    machine: Option<NodeId>,
    hash: &str,
    body: Body,
) -> Result<Body, Problem> {
    let mut incoming = Incoming { body: body.into_data_stream(), decoder: Decoder::default() };
    let first = tokio::time::timeout(OPENING_WITHIN, incoming.next()).await;
    let Ok(Some(Frame::Open(bytes))) = first else {
        return Err(Problem::bad_request("a channel begins with a frame that says what it is for"));
    };
    let found = pasture_types::blob::hash(&bytes);
    if found.to_string() != hash {
        return Err(Problem::bad_request("the channel is not the one that was signed: its hash is another"));
    }
    let opening: Opening = serde_json::from_slice(&bytes).map_err(|e| Problem::bad_request(format!("this opens no channel: {e}")))?;
    opening.check().map_err(|e| Problem::new(422, "bad-channel", e))?;
    ctx.channels.take(&opening, found, ctx.clock.now_ms())?;
    let kind = match (machine, &opening.purpose) {
        (None, purpose) => Kind::of(purpose),
        (Some(machine), Purpose::Port { port }) if lease.private.borrow().admits(&machine, *port) => Kind::Private,
        (Some(_), _) => return Err(Problem::forbidden("this machine may come in to ports of the private network only")),
    };
    let slot = ctx.channels.slot(lease.id(), kind)?;
    let container = running(lease)?;
    let (say, told) = mpsc::channel(OUTBOX);
    let out = Outgoing(say);
    let begun = match opening.purpose {
        Purpose::Exec { command, env, terminal } => exec::begin(ctx, &container, command, env, terminal, incoming, out.clone()).await?,
        Purpose::Port { port } => port::begin(ctx, &container, port, incoming, out.clone()).await?,
        Purpose::Read { path } => files::read(ctx, &container, &path, incoming, out.clone()).await?,
        Purpose::Write { path, name, bytes, hash } => {
            let asked = files::Asked { path, name, bytes, hash };
            files::write(ctx, lease, &container, asked, incoming, out.clone()).await?
        }
    };
    let (ctx, lease) = (Arc::clone(ctx), Arc::clone(lease));
    pasture_rt::spawn(TaskKind::Connection, async move {
        serve(&ctx, &lease, begun, out).await;
        drop(slot);
    });
    Ok(Body::from_stream(ReceiverStream::new(told).map(Ok::<_, Infallible>)))
}

/// Keeps a channel going until its work, its job, its client or this process ends.
async fn serve(ctx: &Context, lease: &Shared, begun: Begun, out: Outgoing) {
    let Begun { mut work, after } = begun;
    let mut view = lease.view.subscribe();
    let over = async {
        let _ = view.wait_for(|v| v.status.phase == Phase::Ended).await;
        tokio::time::sleep(LAST_WORDS).await;
    };
    tokio::pin!(over);
    let mut still = tokio::time::interval_at(tokio::time::Instant::now() + STILL_EVERY, STILL_EVERY);
    let ended = loop {
        tokio::select! {
            done = &mut work => break done,
            () = &mut over => break Err(Problem::new(409, "job-ended", "the job has ended").into()),
            () = ctx.cancel.requested() => break Err(Problem::unavailable("this machine's program is being stopped").into()),
            () = out.0.closed() => break Err(Ended::Gone),
            // A full queue is sign of life enough.
            _ = still.tick() => drop(out.0.try_send(Frame::Still.encoded())),
        }
    };
    drop(work);
    after.await;
    if let Err(Ended::Failed(problem)) = ended {
        let words = Frame::Problem(serde_json::to_vec(&problem).unwrap_or_default().into());
        let _ = tokio::time::timeout(FAREWELL, out.tell(&words)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opening(at_ms: u64) -> Opening {
        Opening { salt: "0".repeat(32), at_ms, purpose: Purpose::Port { port: 1 } }
    }

    #[test]
    fn an_opening_counts_once_and_in_time() {
        let channels = Channels::new(1_000_000);
        let code = |at, hash, now| channels.take(&opening(at), BlobHash([hash; 32]), now).map_err(|p| p.status);
        assert_eq!(code(1_000_000, 1, 1_000_500), Ok(()));
        assert_eq!(code(1_000_000, 1, 1_000_600), Err(409), "sent again");
        assert_eq!(code(1_000_000, 2, 1_000_600), Ok(()), "another one");
        assert_eq!(code(1_000_000, 1, 1_000_000 + MAX_SKEW_MS), Err(409), "sent again as late as it may be");
        assert_eq!(code(1_000_000, 1, 1_000_001 + MAX_SKEW_MS), Err(401), "sent again later");
        assert_eq!(code(999_999, 3, 1_000_600), Err(503), "written before we remembered");
        let later = 1_000_000 + 3 * MAX_SKEW_MS;
        assert_eq!(code(later, 4, later), Ok(()));
        assert_eq!(lock(&channels.state).seen.len(), 1, "what cannot come again is forgotten");
    }

    #[test]
    fn a_lease_has_so_many_of_each_kind() {
        let channels = Channels::new(0);
        let (one, two) = (LeaseId([1; 32]), LeaseId([2; 32]));
        let held: Vec<Slot> = (0..16).map(|_| channels.slot(one, Kind::Exec).unwrap()).collect();
        assert_eq!(channels.slot(one, Kind::Exec).err().unwrap().code, "too-many-channels");
        let other = (channels.slot(two, Kind::Exec).unwrap(), channels.slot(one, Kind::Port).unwrap());
        drop(held);
        assert!(channels.slot(one, Kind::Exec).is_ok());
        drop(other);
        assert!(lock(&channels.state).open.is_empty());
    }
}
