//! The handle of a herd: what shepherds' sessions and workers' tasks say to its actor, as ordinary methods.

use crate::actor::Actor;
use crate::framing::Format;
use crate::journal::{Journal, JournalError, Place};
use crate::limits::{Limits, MAX_WORKERS};
use crate::queue::{Contradiction, Dispatch, Gone, Queue, Said, WorkerId};
use crate::receipt::{Receipt, Signer};
use crate::task::{Finished, HerdStatus, NewTask, Seq, Submitted, TaskId};
use crate::yard::Yard;
use pasture_rt::{Clock, Shutdown, TaskHandle, TaskKind};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Messages that wait for the actor; senders wait when it is full.
const MAILBOX: usize = 1024;
/// How long closing waits for workers to take their leave.
const LEAVE: Duration = Duration::from_secs(10);

/// What is said to the actor.
pub(crate) enum Message {
    Submit(Vec<NewTask>, oneshot::Sender<Submitted>),
    Cancel(Vec<TaskId>, oneshot::Sender<u64>),
    Acknowledge(Seq, oneshot::Sender<()>),
    Results {
        after: Seq,
        most: usize,
        most_bytes: usize,
        reply: oneshot::Sender<Page>,
    },
    Status(oneshot::Sender<HerdStatus>),
    /// For results up to this one; `None`: all that may be read now.
    Receipt(Option<Seq>, oneshot::Sender<Receipt>),
    WorkerUp(WorkerId, mpsc::UnboundedSender<Order>),
    Answers(WorkerId, Vec<(TaskId, Said)>),
    WorkerDown(WorkerId, Gone),
    NoWorker(String),
    Close(oneshot::Sender<()>),
}

/// What a worker's task is told. Its channel needs no bound of its own: a worker has at most `MAX_WINDOW` tasks in hand.
pub(crate) enum Order {
    Work(Vec<Dispatch>),
    End(String),
}

/// Some results.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Page {
    /// In their order, without a gap, beginning after the number asked for or after what was acknowledged.
    pub results: Vec<Finished>,
    /// The last result that may be read now.
    pub released: Seq,
    /// Up to where results were acknowledged, and are gone.
    pub acknowledged: Seq,
    /// The herd ends: nothing more comes.
    pub closing: bool,
}

/// How a herd is opened.
pub struct Options {
    /// Its limits.
    pub limits: Limits,
    /// How many workers.
    pub workers: u32,
    /// How workers speak.
    pub format: Format,
    /// Where its journal lies; `None`: what it holds ends with the process.
    pub place: Option<Box<dyn Place>>,
    /// Which herd it is if it begins now.
    pub herd: [u8; 16],
    /// Who signs receipts.
    pub signer: Signer,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// Why a herd cannot be opened, or does not answer.
#[derive(Debug, thiserror::Error)]
pub enum HerdError {
    /// The options make no sense.
    #[error("{0}")]
    Options(String),
    /// The journal cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The journal makes no herd.
    #[error(transparent)]
    Contradiction(#[from] Contradiction),
    /// It has ended, or what it promises can no longer be kept.
    #[error("the herd has ended")]
    Ended,
}

/// A herd. Cheap to clone; it runs on until [`Herd::close`], or until every handle is gone.
#[derive(Clone)]
pub struct Herd {
    mailbox: mpsc::Sender<Message>,
    workers: Arc<Workers>,
}

struct Workers {
    stop: Shutdown,
    tasks: std::sync::Mutex<Vec<TaskHandle<()>>>,
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.stop.trigger();
    }
}

impl Herd {
    /// Opens a herd: reads its journal if it has one, and starts its workers.
    ///
    /// # Errors
    /// [`HerdError`]
    pub async fn open(options: Options, yard: Arc<dyn Yard>) -> Result<Self, HerdError> {
        let Options { limits, workers, format, place, herd, signer, clock } = options;
        limits.validate().map_err(HerdError::Options)?;
        if !(1..=MAX_WORKERS).contains(&workers) {
            return Err(HerdError::Options(format!("{workers} workers: 1 to {MAX_WORKERS} are possible")));
        }
        let (queue, journal) = match place {
            None => (Queue::new(limits, herd), None),
            Some(place) => {
                let open = move || {
                    let (journal, entries) = Journal::open(place, || Queue::new(limits.clone(), herd).snapshot())?;
                    Ok::<_, HerdError>((Queue::restore(limits, entries)?, Some(journal)))
                };
                pasture_rt::spawn_blocking(TaskKind::Herd, open).join().await.ok_or(HerdError::Ended)??
            }
        };
        let (mailbox, received) = mpsc::channel(MAILBOX);
        let actor = Actor::new(queue, journal, clock, signer, workers.into());
        pasture_rt::spawn(TaskKind::Herd, actor.run(received));
        let stop = Shutdown::new();
        let numbers = Arc::new(std::sync::atomic::AtomicU64::new(1));
        let tasks = (0..workers).map(|slot| {
            let run = crate::yard::keep_worker(slot, Arc::clone(&yard), format, mailbox.downgrade(), Arc::clone(&numbers), stop.token());
            pasture_rt::spawn(TaskKind::Herd, run)
        });
        let tasks = std::sync::Mutex::new(tasks.collect());
        Ok(Self { mailbox, workers: Arc::new(Workers { stop, tasks }) })
    }

    async fn ask<T>(&self, message: impl FnOnce(oneshot::Sender<T>) -> Message) -> Result<T, HerdError> {
        let (reply, answer) = oneshot::channel();
        self.mailbox.send(message(reply)).await.map_err(|_| HerdError::Ended)?;
        answer.await.map_err(|_| HerdError::Ended)
    }

    /// Submits tasks; the answer comes when those taken are kept. At most [`crate::limits::MAX_BATCH`] are looked at.
    ///
    /// # Errors
    /// [`HerdError::Ended`], as for every method here.
    pub async fn submit(&self, tasks: Vec<NewTask>) -> Result<Submitted, HerdError> {
        self.ask(|reply| Message::Submit(tasks, reply)).await
    }
    /// Calls tasks off; gives how many had not ended.
    ///
    /// # Errors
    /// [`HerdError::Ended`]
    pub async fn cancel(&self, ids: Vec<TaskId>) -> Result<u64, HerdError> {
        self.ask(|reply| Message::Cancel(ids, reply)).await
    }
    /// Lets go of results up to `upto`.
    ///
    /// # Errors
    /// [`HerdError::Ended`]
    pub async fn acknowledge(&self, upto: Seq) -> Result<(), HerdError> {
        self.ask(|reply| Message::Acknowledge(upto, reply)).await
    }
    /// Results after `after`; waits until there is one, or the herd ends.
    ///
    /// # Errors
    /// [`HerdError::Ended`]
    pub async fn results(&self, after: Seq, most: usize, most_bytes: usize) -> Result<Page, HerdError> {
        self.ask(|reply| Message::Results { after, most, most_bytes, reply }).await
    }
    /// The herd in numbers.
    ///
    /// # Errors
    /// [`HerdError::Ended`]
    pub async fn status(&self) -> Result<HerdStatus, HerdError> {
        self.ask(Message::Status).await
    }
    /// A receipt for every result that may be read now.
    ///
    /// # Errors
    /// [`HerdError::Ended`]
    pub async fn receipt(&self) -> Result<Receipt, HerdError> {
        self.ask(|reply| Message::Receipt(None, reply)).await
    }
    /// A receipt for the results up to one of those that may be read and are not acknowledged; for another one, as [`Herd::receipt`].
    ///
    /// # Errors
    /// [`HerdError::Ended`]
    pub async fn receipt_at(&self, seq: Seq) -> Result<Receipt, HerdError> {
        self.ask(|reply| Message::Receipt(Some(seq), reply)).await
    }

    /// Sends the workers away; tasks stay, and results can be read as before.
    pub async fn dismiss(&self) {
        self.workers.stop.trigger();
        let tasks = std::mem::take(&mut *self.workers.tasks.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        let left = async {
            for task in tasks {
                task.join().await;
            }
        };
        if Shutdown::within(LEAVE, left).await.is_none() {
            tracing::warn!("some workers of a herd did not end in time");
        }
    }

    /// Ends the herd: workers are dismissed, what was acknowledged is kept, then the journal is closed. A second call does nothing.
    pub async fn close(&self) {
        self.dismiss().await;
        let _ = self.ask(Message::Close).await;
    }
}
