//! Acts for the queue: takes messages, lets it decide, has the journal keep what must be kept, then answers and dispatches.
//!
//! Guarantees: a shepherd is answered, a task begins and a result is shown only when the entries they rest on are on the disk
//! (durable herds); while one batch is being written the next one gathers, so that one fsync serves many. A full disk refuses
//! new tasks and holds results back until there is room; a broken one stops the herd, and it says so.

use crate::herd::{Message, Order, Page};
use crate::journal::{Journal, JournalError};
use crate::limits::MAX_BATCH;
use crate::queue::{Entry, Gone, Queue, WorkerId};
use crate::receipt::{Receipt, Signer};
use crate::task::{Answer, Busy, HerdStatus, NewTask, Seq, Submitted, TaskId};
use pasture_rt::{Clock, TaskKind};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Messages that are taken together.
const TOGETHER: usize = 512;
/// How often what waits for time alone is looked at: late workers, pauses that are over.
const TICK: Duration = Duration::from_millis(20);
/// How long nothing is taken after the disk was found full.
const FULL_PAUSE_MS: u64 = 1_000;
/// A journal is compacted when it has so many times the bytes that it needs…
const COMPACT_FACTOR: u64 = 4;
/// …and more than these: a small one is not worth it.
const COMPACT_BYTES: u64 = 16 << 20;
/// Readers that wait at once; further ones are answered at once, with nothing.
const MAX_READERS: usize = 1024;

/// One write for the journal's thread.
enum Write {
    Append(Vec<Entry>),
    /// A snapshot, or where that does not fit, an ordinary batch.
    Replace(Vec<Entry>, Vec<Entry>),
}

/// What came of it: bytes in the journal, and the entries if they were not kept.
type Written = Result<u64, (JournalError, Vec<Entry>)>;

/// Something that is said once the entries before it are kept.
enum Waiter {
    Submit(Submitted, oneshot::Sender<Submitted>),
    Cancel(u64, oneshot::Sender<u64>),
    Acknowledge(oneshot::Sender<()>),
}

/// What gathers for, or is in, one write.
#[derive(Default)]
struct Batch {
    held: Vec<TaskId>,
    waiters: Vec<Waiter>,
    last_seq: Seq,
}

struct Disk {
    writes: mpsc::Sender<Write>,
    written: mpsc::Receiver<Written>,
    bytes: u64,
    writing: Option<Batch>,
}

struct Reader {
    after: Seq,
    most: usize,
    most_bytes: usize,
    reply: oneshot::Sender<Page>,
}

pub(crate) struct Actor {
    queue: Queue,
    clock: Arc<dyn Clock>,
    signer: Signer,
    disk: Option<Disk>,
    pending: Batch,
    entries: Vec<Entry>,
    /// Results up to here may be shown.
    released: Seq,
    full: Option<(u64, String)>,
    broken: Option<String>,
    readers: Vec<Reader>,
    workers: BTreeMap<WorkerId, mpsc::UnboundedSender<Order>>,
    workers_wanted: u64,
    yard_problem: String,
    receipt: Option<Receipt>,
}

/// Runs the journal on a thread of its own until the actor is gone.
fn run_journal(mut journal: Journal, mut writes: mpsc::Receiver<Write>, written: &mpsc::Sender<Written>) {
    while let Some(write) = writes.blocking_recv() {
        let (outcome, entries) = match write {
            Write::Append(entries) => (journal.append(&entries), entries),
            Write::Replace(snapshot, entries) => match journal.replace(&snapshot) {
                Err(JournalError::Full(_)) => (journal.append(&entries), entries),
                outcome => (outcome, entries),
            },
        };
        let answer = outcome.map(|()| journal.bytes()).map_err(|error| (error, entries));
        if written.blocking_send(answer).is_err() {
            return;
        }
    }
}

impl Actor {
    pub(crate) fn new(queue: Queue, journal: Option<Journal>, clock: Arc<dyn Clock>, signer: Signer, workers_wanted: u64) -> Self {
        let disk = journal.map(|journal| {
            let (writes, received) = mpsc::channel(1);
            let (done, written) = mpsc::channel(1);
            let bytes = journal.bytes();
            pasture_rt::spawn_blocking(TaskKind::Herd, move || run_journal(journal, received, &done));
            Disk { writes, written, bytes, writing: None }
        });
        let released = queue.last_seq();
        Self {
            queue,
            clock,
            signer,
            disk,
            pending: Batch::default(),
            entries: vec![],
            released,
            full: None,
            broken: None,
            readers: vec![],
            workers: BTreeMap::new(),
            workers_wanted,
            yard_problem: String::new(),
            receipt: None,
        }
    }

    /// Runs until it is told to close and everything pending is written, or nobody holds a handle.
    pub(crate) async fn run(mut self, mut mailbox: mpsc::Receiver<Message>) {
        let mut messages = Vec::with_capacity(TOGETHER);
        let mut closed: Vec<oneshot::Sender<()>> = vec![];
        loop {
            let waits = self.queue.waits_for_time() || self.full.is_some();
            let writing = self.disk.as_ref().is_some_and(|d| d.writing.is_some());
            let written = async {
                match &mut self.disk {
                    Some(disk) if writing => disk.written.recv().await,
                    _ => std::future::pending().await,
                }
            };
            tokio::select! {
                written = written => self.on_written(written),
                count = mailbox.recv_many(&mut messages, TOGETHER) => if count == 0 { return },
                () = tokio::time::sleep(TICK), if waits => self.on_tick(),
            }
            for message in messages.drain(..) {
                match message {
                    Message::Close(reply) => closed.push(reply),
                    other => self.on_message(other, !closed.is_empty()),
                }
            }
            self.write();
            if closed.is_empty() {
                self.dispatch();
            }
            self.serve_readers(!closed.is_empty());
            let idle = self.disk.as_ref().is_none_or(|d| d.writing.is_none()) && (self.entries.is_empty() || self.full.is_some());
            if !closed.is_empty() && (idle || self.broken.is_some()) {
                for reply in closed {
                    let _ = reply.send(());
                }
                return;
            }
        }
    }

    fn now(&self) -> u64 {
        self.clock.now_ms()
    }

    fn on_message(&mut self, message: Message, closing: bool) {
        let now = self.now();
        match message {
            Message::Submit(tasks, reply) => self.submit(tasks, reply, closing),
            Message::Cancel(ids, reply) => {
                let count = self.queue.cancel(&ids);
                self.pending.waiters.push(Waiter::Cancel(count, reply));
            }
            Message::Acknowledge(upto, reply) => {
                // Only what was shown can have been seen.
                self.queue.acknowledge(upto.min(self.released));
                self.pending.waiters.push(Waiter::Acknowledge(reply));
            }
            Message::Results { after, most, most_bytes, reply } => self.readers.push(Reader { after, most, most_bytes, reply }),
            Message::Status(reply) => drop(reply.send(self.status())),
            Message::Receipt(at, reply) => drop(reply.send(self.receipt(at))),
            Message::WorkerUp(worker, orders) => {
                self.yard_problem.clear();
                self.workers.insert(worker, orders);
                self.queue.worker_up(worker, now);
            }
            Message::Answers(worker, answers) => {
                for (id, said) in answers {
                    self.queue.answer(worker, id, said, now);
                }
            }
            Message::WorkerDown(worker, gone) => {
                self.workers.remove(&worker);
                self.queue.worker_down(worker, &gone, now);
            }
            Message::NoWorker(problem) => self.yard_problem = problem,
            Message::Close(_) => {}
        }
    }

    fn submit(&mut self, tasks: Vec<NewTask>, reply: oneshot::Sender<Submitted>, closing: bool) {
        let mut answer = Submitted { answers: Vec::with_capacity(tasks.len().min(MAX_BATCH)), busy: self.refuses(closing) };
        if answer.busy.is_none() {
            for task in tasks.into_iter().take(MAX_BATCH) {
                match self.queue.submit(task) {
                    Ok(said) => {
                        if let Answer::New { id } = said {
                            self.pending.held.push(id);
                        }
                        answer.answers.push(said);
                    }
                    Err(busy) => {
                        answer.busy = Some(busy);
                        break;
                    }
                }
            }
        }
        self.pending.waiters.push(Waiter::Submit(answer, reply));
    }

    fn refuses(&self, closing: bool) -> Option<Busy> {
        if closing {
            return Some(Busy::Closing);
        }
        if let Some(detail) = &self.broken {
            return Some(Busy::Broken { detail: detail.clone() });
        }
        self.full.as_ref().map(|(_, detail)| Busy::DiskFull { detail: detail.clone() })
    }

    /// Hands what has gathered to the journal if that is free; without one, everything counts at once.
    fn write(&mut self) {
        let log = self.queue.take_log();
        if self.broken.is_some() {
            // Nothing can be kept any more, so nothing is said to be.
            self.refuse_pending();
            return;
        }
        let Some(disk) = &mut self.disk else {
            let mut batch = std::mem::take(&mut self.pending);
            batch.last_seq = self.queue.last_seq();
            self.release(batch);
            return;
        };
        self.entries.extend(log);
        self.pending.last_seq = self.queue.last_seq();
        if disk.writing.is_some() || self.full.is_some() {
            return;
        }
        let batch = std::mem::take(&mut self.pending);
        let entries = std::mem::take(&mut self.entries);
        if entries.is_empty() {
            self.release(batch);
            return;
        }
        let most = self.queue.live_bytes().saturating_mul(COMPACT_FACTOR).max(COMPACT_BYTES);
        let write = if disk.bytes > most { Write::Replace(self.queue.snapshot(), entries) } else { Write::Append(entries) };
        disk.writing = Some(batch);
        // Its channel holds one write and there is none: this fails only if its thread is gone.
        if disk.writes.try_send(write).is_err() {
            self.on_written(None);
        }
    }

    fn on_written(&mut self, written: Option<Written>) {
        let Some(disk) = &mut self.disk else { return };
        let batch = disk.writing.take().unwrap_or_default();
        match written {
            Some(Ok(bytes)) => {
                disk.bytes = bytes;
                self.release(batch);
            }
            Some(Err((error @ JournalError::Full(_), entries))) => {
                let detail = describe(&error);
                tracing::warn!(detail, "a herd's journal is held up");
                let later = std::mem::take(&mut self.pending);
                self.full = Some((self.now().saturating_add(FULL_PAUSE_MS), detail));
                let held = self.refuse(batch, later);
                // What happened to older tasks is still to be kept, in its order.
                let new = std::mem::take(&mut self.entries);
                let not_held = |e: &Entry| !matches!(e, Entry::Submitted { id, .. } if held.contains(id));
                self.entries = entries.into_iter().chain(new).filter(not_held).collect();
            }
            Some(Err((error, _))) => self.fail(batch, describe(&error)),
            None => self.fail(batch, "the journal's thread has ended".into()),
        }
    }

    fn fail(&mut self, batch: Batch, detail: String) {
        tracing::error!(detail, "a herd's journal has failed; the herd stops");
        self.broken = Some(detail);
        self.entries.clear();
        let later = std::mem::take(&mut self.pending);
        self.refuse(batch, later);
        for (_, orders) in std::mem::take(&mut self.workers) {
            let _ = orders.send(Order::End("the herd stops".into()));
        }
    }

    fn refuse_pending(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        self.refuse(pending, Batch::default());
    }

    /// Takes back what was not kept and says so; what is no submission waits on (or, if the journal is broken, is dropped).
    fn refuse(&mut self, first: Batch, second: Batch) -> std::collections::BTreeSet<TaskId> {
        let busy = self.refuses(false);
        let held: std::collections::BTreeSet<TaskId> = first.held.into_iter().chain(second.held).collect();
        held.iter().for_each(|id| self.queue.withdraw(*id));
        for waiter in first.waiters.into_iter().chain(second.waiters) {
            match waiter {
                Waiter::Submit(_, reply) => drop(reply.send(Submitted { answers: vec![], busy: busy.clone() })),
                other if self.broken.is_none() => self.pending.waiters.push(other),
                // A reply that is dropped is an error for who waits.
                Waiter::Cancel(..) | Waiter::Acknowledge(_) => {}
            }
        }
        held
    }

    /// Everything in a batch is kept: says so.
    fn release(&mut self, batch: Batch) {
        for id in batch.held {
            self.queue.admit(id);
        }
        self.released = self.released.max(batch.last_seq);
        for waiter in batch.waiters {
            // Who asked may have gone.
            match waiter {
                Waiter::Submit(answer, reply) => drop(reply.send(answer)),
                Waiter::Cancel(count, reply) => drop(reply.send(count)),
                Waiter::Acknowledge(reply) => {
                    let _ = reply.send(());
                }
            }
        }
    }

    fn on_tick(&mut self) {
        let now = self.now();
        for worker in self.queue.late(now) {
            let why = "it did not answer in time";
            if let Some(orders) = self.workers.remove(&worker) {
                let _ = orders.send(Order::End(why.into()));
            }
            self.queue.worker_down(worker, &Gone::Lost(why.into()), now);
        }
        if self.full.as_ref().is_some_and(|(until, _)| *until <= now) {
            self.full = None;
        }
    }

    fn dispatch(&mut self) {
        if self.full.is_some() || self.broken.is_some() {
            return;
        }
        let now = self.now();
        let mut orders: BTreeMap<WorkerId, Vec<_>> = BTreeMap::new();
        while let Some(dispatch) = self.queue.next(now) {
            orders.entry(dispatch.worker).or_default().push(dispatch);
        }
        for (worker, work) in orders {
            // If its task is gone, its end is in our mailbox already.
            if let Some(channel) = self.workers.get(&worker) {
                let _ = channel.send(Order::Work(work));
            }
        }
    }

    fn serve_readers(&mut self, closing: bool) {
        if self.readers.is_empty() {
            return;
        }
        let released = self.released;
        let crowded = self.readers.len() > MAX_READERS;
        for reader in std::mem::take(&mut self.readers) {
            if reader.reply.is_closed() {
                continue;
            }
            if released <= reader.after && !closing && !crowded {
                self.readers.push(reader);
                continue;
            }
            let results = self.queue.results(reader.after, released, reader.most, reader.most_bytes);
            let page = Page { results, released, acknowledged: self.queue.acknowledged(), closing };
            let _ = reader.reply.send(page);
        }
    }

    fn receipt(&mut self, at: Option<Seq>) -> Receipt {
        let asked = at.filter(|seq| *seq <= self.released).and_then(|seq| self.queue.chain_at(seq));
        let released = || self.queue.chain_at(self.released).unwrap_or_else(|| self.queue.chain());
        let chain = asked.unwrap_or_else(released);
        if let Some(receipt) = self.receipt.as_ref().filter(|r| r.seq == chain.seq) {
            return receipt.clone();
        }
        let receipt = self.signer.sign(self.queue.herd(), &chain, self.now());
        self.receipt = Some(receipt.clone());
        receipt
    }

    fn status(&self) -> HerdStatus {
        let problem = match (&self.broken, &self.full) {
            (Some(detail), _) => format!("the journal has failed: {detail}"),
            (None, Some((_, detail))) => format!("the journal's disk is full: {detail}"),
            (None, None) => self.yard_problem.clone(),
        };
        HerdStatus {
            durable: self.disk.is_some(),
            last_seq: self.released,
            workers_wanted: self.workers_wanted,
            problem,
            ..self.queue.status()
        }
    }
}

fn describe(error: &JournalError) -> String {
    use std::error::Error as _;
    error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}
