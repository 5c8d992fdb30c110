//! Reaching into a running job: finding its machine, opening a channel to its container.
//!
//! Guarantees: a channel is opened once and never again by itself, since what it asked for may have begun; a channel that falls
//! silent for [`SILENCE`] is broken, and one that merely stops was cut off.

use crate::exit::Failure;
use crate::session::{App, Session, now_ms, random};
use futures::StreamExt as _;
use pasture_api::channel::{Frame, Opening, Purpose};
use pasture_api::client::{EventStream, LeaseClient};
use pasture_api::{ApiError, Problem};
use pasture_types::lease::LeaseState;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Frames of ours that wait for the machine.
const OUTBOX: usize = 4;
/// Longest silence of a machine that is there: it says every 30 s that it is.
const SILENCE: Duration = Duration::from_secs(100);

/// A job whose machine can be asked.
pub(crate) struct Reached {
    /// The network and our account.
    pub(crate) session: Session,
    /// The job's name for people.
    pub(crate) handle: String,
    /// Its machine.
    pub(crate) client: LeaseClient,
    /// Whether the ledger says that it is over.
    pub(crate) over: bool,
}

impl Reached {
    /// A job by the beginning of its name.
    pub(crate) async fn find(app: &App, job: &str) -> Result<Self, Failure> {
        let session = Session::open(app).await?;
        session.ready().await?;
        let job = session.job(job).await?;
        let lease = job.lease()?;
        let (client, over) = (session.lease_client(lease), matches!(lease.state, LeaseState::Closing | LeaseState::Closed));
        Ok(Self { client, over, handle: job.handle, session })
    }

    /// The same, of a job that is not over.
    pub(crate) async fn running(app: &App, job: &str) -> Result<Self, Failure> {
        let reached = Self::find(app, job).await?;
        if reached.over { Err(ended(&reached.handle)) } else { Ok(reached) }
    }

    /// What the machine refused, in words about this job.
    pub(crate) fn failure(&self, error: ApiError) -> Failure {
        match error.problem() {
            Some(problem) => refused(&self.handle, problem),
            None => error.into(),
        }
    }
}

/// A job that has ended cannot be reached any more.
pub(crate) fn ended(handle: &str) -> Failure {
    Failure::new("job-ended", format!("{handle} has ended, so nothing in it can be reached any more"))
        .next(format!("what it wrote:  farm logs {handle}"))
        .next(format!("what it left:  farm cp {handle}:. out"))
}

/// A problem that a machine told, before a channel began or in it.
pub(crate) fn refused(handle: &str, problem: &Problem) -> Failure {
    match problem.code.as_str() {
        "job-ended" => ended(handle),
        "not-running" => Failure::new(&problem.code, format!("{handle} does not run yet, so nothing in it can be reached"))
            .next(format!("see what it is doing:  farm status {handle}")),
        _ => Failure::new(&problem.code, problem.detail.escape_debug().to_string().replace("\\\"", "\"").replace("\\'", "'")),
    }
}

/// A conversation with a container.
pub(crate) struct Talk {
    /// What we say. The conversation is over when this is dropped.
    pub(crate) say: mpsc::Sender<Frame>,
    told: EventStream<Frame>,
}

impl Talk {
    /// Opens a channel.
    pub(crate) async fn open(client: &LeaseClient, purpose: Purpose) -> Result<Self, ApiError> {
        let salt = random::<16>().map_err(|f| Problem::internal(f.message))?;
        let opening = Opening { salt: hex::encode(salt), at_ms: now_ms(), purpose };
        let (say, mut said) = mpsc::channel(OUTBOX);
        let said = futures::stream::poll_fn(move |context| said.poll_recv(context));
        Ok(Self { say, told: client.channel(&opening, said).await? })
    }

    /// The next word. A problem is one too.
    pub(crate) async fn hear(&mut self) -> Result<Frame, Failure> {
        loop {
            match timeout(SILENCE, self.told.next()).await {
                Ok(Some(Ok(Frame::Still))) => {}
                Ok(Some(Ok(frame))) => return Ok(frame),
                Ok(Some(Err(error))) => return Err(error.into()),
                Ok(None) | Err(_) => return Err(broken()),
            }
        }
    }
}

/// A channel that did not end as channels do.
pub(crate) fn broken() -> Failure {
    Failure::new("broken-connection", "the connection to the machine broke off; what was asked may have been done in part")
}

/// What a channel's last word says that ended it early.
pub(crate) fn problem(bytes: &[u8]) -> Problem {
    serde_json::from_slice(bytes).unwrap_or_else(|_| Problem::internal("the machine ended the channel, and does not say why"))
}
