//! What happens to a lease and what is to be done about it: the words between `state.rs` and `actor.rs`.
//!
//! Guarantees: plain values; whoever hands them on changes nothing. Their texts are clear, and are sealed before they are kept or shown.

use pasture_api::data::{CountersignRequest, NodeEvent, OutputInfo};
use pasture_types::lease::{EndReason, Usage};
use pasture_types::life::Health;
use pasture_types::spec::Manifest;
use pasture_types::{BlobHash, Millis, Timestamp};

/// The settlement epochs of the zone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Epochs {
    pub(crate) genesis: Timestamp,
    pub(crate) length: Millis,
}

impl Epochs {
    pub(crate) fn of(&self, at: Timestamp) -> u64 {
        at.since(self.genesis).0 / self.length.0.max(1)
    }
    pub(crate) fn start(&self, epoch: u64) -> Timestamp {
        self.genesis.plus(Millis(epoch.saturating_mul(self.length.0.max(1))))
    }
}

/// How long a client may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waits {
    pub(crate) manifest: Millis,
    pub(crate) context: Millis,
}

/// What a health check saw.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Seen {
    /// The job is well.
    Well(String),
    /// It is not.
    Failing(String),
    /// The check cannot be made.
    Nothing(String),
}

/// What happened.
#[derive(Debug)]
pub(crate) enum Event {
    /// Our acceptance is on the ledger.
    Accepted(Timestamp),
    /// The match went to somebody else, or lapsed.
    NotAccepted,
    /// A manifest that was checked against the terms.
    Manifest(Box<Manifest>),
    /// Another one, that is to take its place; checked as well.
    Update(Box<Manifest>),
    /// The image of an update is here, or the reason why not.
    UpdateFetched { manifest: BlobHash, image: Result<String, String> },
    /// An audit used all cores for so long while the job ran.
    Stolen(Millis),
    /// Some of the build context arrived.
    ContextProgress,
    /// All of it, and its hash was right.
    ContextComplete,
    /// The image is here.
    ImageReady { image: String, build: Millis, billed: Millis },
    /// It will not be.
    ImageFailed { detail: String, build: Millis },
    /// The container exists.
    Created { container: String },
    /// Its process runs.
    Running { started: Timestamp },
    /// It could not be created or started.
    StartFailed { detail: String },
    /// It has exited.
    Exited { end: EndReason, started: Option<Timestamp>, finished: Timestamp },
    /// It was removed by somebody else; `at` if we saw it happen.
    Vanished { at: Option<Timestamp> },
    /// The engine could not stop it.
    StopFailed,
    /// All of an instance's log is in the file, or what there will be of it.
    LogDrained { instance: u32 },
    /// The engine did not give all of an instance's log; `LogDrained` follows.
    LogCut { instance: u32 },
    /// A health check was made.
    Probed { instance: u32, seen: Seen },
    /// The container of an instance that ended is gone; its output is the next one's.
    Retired,
    /// The output folder was copied, or there is none.
    OutputDone { output: Option<OutputInfo>, problem: Option<String> },
    /// The client confirmed a statement.
    Countersigned(Box<CountersignRequest>),
    /// Somebody wants the job to end.
    Stop { reason: EndReason, grace: Millis, detail: String },
    /// The ledger closes the lease, or has closed it (`settled`).
    LedgerClosed { reason: Option<EndReason>, settled: bool },
    /// The lease got more time and money.
    Extended { max_duration: Millis, escrow: pasture_types::Amount },
    /// A usage was submitted while the job runs; `None`: refused.
    UsageSubmitted { recorded: Option<Millis> },
    /// The final transaction was taken or refused.
    CloseSubmitted { taken: bool },
    /// Container, network and volume are gone.
    Removed,
    /// Time passed.
    Tick,
}

/// What is to be done.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Effect {
    /// Replace the record on disk before anything that follows.
    Save,
    /// Tell those who follow about the new status.
    Publish,
    /// Tell those who follow.
    Emit(NodeEvent),
    /// Build or pull.
    FetchImage,
    /// Fetch the image of the update.
    FetchUpdate,
    /// The manifest of the update is the lease's from now on.
    TakeManifest(Box<Manifest>),
    /// Give up building or pulling.
    CancelWork,
    /// Make the container of an instance.
    Create { image: String, instance: u32 },
    /// Remove the container of an instance that another one follows, without its output.
    Retire { container: String },
    /// Make the health check.
    Probe { container: String, instance: u32, health: Health },
    /// Follow its log, start it and wait for its end; a running one is only followed and waited for.
    Start { container: String },
    /// Follow a container that was running before we crashed; never start it.
    Adopt { container: String },
    /// Stop it.
    StopContainer { container: String, grace: Millis },
    /// Sign a statement and show it to the client.
    Offer { usage: Usage, last: bool },
    /// Put a usage on the ledger while the job runs.
    SubmitUsage { usages: Vec<Statement> },
    /// Put the last usage on the ledger and close the lease there.
    Close { usages: Vec<Statement>, close: Option<EndReason> },
    /// Copy the output folder.
    CopyOutput { container: String },
    /// Remove container, network and volume.
    Remove { container: String },
    /// Drop everything about this lease.
    Forget,
}

/// A usage for the ledger, confirmed or bare.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Statement {
    pub(crate) usage: Usage,
    pub(crate) confirmed: Option<CountersignRequest>,
}

/// The log as far as it is durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct LogState {
    pub(crate) bytes: u64,
    pub(crate) root: BlobHash,
}
