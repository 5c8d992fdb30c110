//! A lease as other parts see it: the data plane's handlers, the reconciler, the prover.
//!
//! Guarantees: reading never waits for the lease's actor; everything that changes a lease goes through its mailbox.

use super::event::Event;
use super::log::{LogIndex, LogSeen};
use super::record::Terms;
use super::words;
use pasture_api::data::{HeldGpu, LeaseStatus, NodeEvent, OutputInfo, Phase};
use pasture_api::private::PrivateNetwork;
use pasture_api::publication::SignedPublication;
use pasture_types::lease::Usage;
use pasture_types::spec::Manifest;
use pasture_types::{AccountId, LeaseId, PublicKey, Timestamp};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use tokio::sync::{Mutex, broadcast, mpsc, watch};

/// Events that wait for an actor; senders wait when it is full.
const MAILBOX: usize = 64;
/// Events that a follower may be behind before it is disconnected.
const BROADCAST: usize = 1024;

/// What the actor shows. Replaced as a whole, so that a reader never sees half of a change.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) status: LeaseStatus,
    pub(crate) accepted: bool,
    pub(crate) manifest: Option<Arc<Manifest>>,
    pub(crate) context_complete: bool,
    pub(crate) output: Option<OutputInfo>,
    /// The last statement of all, once it is made.
    pub(crate) last_usage: Option<Usage>,
    /// Statements that a client may confirm.
    pub(crate) offered: Vec<Usage>,
    /// The newest statement that waits for a confirmation, for clients that connect later.
    pub(crate) pending: Option<NodeEvent>,
    /// Nothing is left to do.
    pub(crate) finished: bool,
}

/// Who may confirm in the user's place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Watcher {
    pub(crate) account: AccountId,
    pub(crate) keys: Vec<PublicKey>,
}

/// One lease.
pub(crate) struct Shared {
    pub(crate) terms: Terms,
    /// The GPUs that are its alone until it ends.
    pub(crate) gpus: Vec<HeldGpu>,
    pub(crate) dir: PathBuf,
    pub(crate) view: watch::Sender<View>,
    pub(crate) log: watch::Sender<LogSeen>,
    /// Where its log can be read from.
    pub(crate) log_index: LogIndex,
    pub(crate) events: broadcast::Sender<NodeEvent>,
    pub(crate) mailbox: mpsc::Sender<Event>,
    /// Keys of the lease's account and when they were read (milliseconds). Kept for when the network is away.
    pub(crate) keys: watch::Sender<(Vec<PublicKey>, u64)>,
    /// Its watcher with its keys and when they were read, in the same manner.
    pub(crate) watcher: watch::Sender<(Option<Watcher>, u64)>,
    /// This process has asked the ledger to accept the lease.
    pub(crate) accepting: AtomicBool,
    /// This process has given notice of its early end, or knows that it was given.
    pub(crate) noticed: AtomicBool,
    /// Its early end is on its way.
    pub(crate) ending: AtomicBool,
    /// One upload at a time.
    pub(crate) upload: Mutex<()>,
    /// Ports that everybody may reach, as its owner signed them.
    pub(crate) public: watch::Sender<Vec<SignedPublication>>,
    /// What it reaches in its deployment's private network, and who reaches it.
    pub(crate) private: watch::Sender<PrivateNetwork>,
}

impl Shared {
    pub(crate) fn new(
        terms: Terms,
        gpus: Vec<HeldGpu>,
        dir: PathBuf,
        status: LeaseStatus,
        (log, log_index): (LogSeen, LogIndex),
    ) -> (Self, mpsc::Receiver<Event>) {
        let (mailbox, receiver) = mpsc::channel(MAILBOX);
        let view = View {
            status,
            accepted: false,
            manifest: None,
            context_complete: false,
            output: None,
            last_usage: None,
            offered: vec![],
            pending: None,
            finished: false,
        };
        let public = watch::Sender::new(crate::channels::public::load(&dir));
        let private = watch::Sender::new(crate::channels::private::load(&dir));
        let this = Self {
            terms,
            gpus,
            dir,
            view: watch::Sender::new(view),
            log: watch::Sender::new(log),
            log_index,
            events: broadcast::Sender::new(BROADCAST),
            mailbox,
            keys: watch::Sender::new((vec![], 0)),
            watcher: watch::Sender::new((None, 0)),
            accepting: AtomicBool::new(false),
            noticed: AtomicBool::new(false),
            ending: AtomicBool::new(false),
            upload: Mutex::new(()),
            public,
            private,
        };
        (this, receiver)
    }

    pub(crate) fn id(&self) -> LeaseId {
        self.terms.lease
    }

    /// Status as last published.
    pub(crate) fn status(&self) -> LeaseStatus {
        self.view.borrow().status.clone()
    }

    /// Status as it is now.
    pub(crate) fn status_at(&self, now: Timestamp) -> LeaseStatus {
        let mut status = self.status();
        status.log_bytes = self.log.borrow().bytes;
        if let (Phase::Running | Phase::Restarting | Phase::Stopping, None, Some(started)) = (status.phase, &status.end, status.started) {
            let cap = status.ends.map_or(now.since(started), |ends| ends.since(started));
            status.served_ms = now.since(started).min(cap).max(status.served_ms);
        }
        status
    }

    pub(crate) fn is_accepted(&self) -> bool {
        self.view.borrow().accepted
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.view.borrow().finished
    }

    /// Hands an event to the actor; `false` if it has ended.
    pub(crate) async fn tell(&self, event: Event) -> bool {
        self.mailbox.send(event).await.is_ok()
    }

    /// Tells those who follow a line that a build or a pull printed, sealed for the job's reader.
    pub(crate) fn emit_line(&self, text: &str) {
        // Sealing takes a while, and what nobody hears is kept nowhere.
        if self.events.receiver_count() > 0 {
            let reader = self.view.borrow().manifest.as_ref().map(|m| m.reader);
            self.emit(NodeEvent::Output { line: words::say(reader.as_ref(), &self.terms.lease, text.trim_end()) });
        }
    }

    /// Tells those who follow; nobody may be there.
    pub(crate) fn emit(&self, event: NodeEvent) {
        let _ = self.events.send(event);
    }
}
