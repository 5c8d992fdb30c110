//! The data plane: what a client and the node that serves its lease say to each other, directly or through a gateway.
//!
//! Every request is signed, see [`crate::auth`]. Paths on the node (`/leases/{id}/...`; behind a gateway
//! `/v1/leases/{id}/data/...`, signed over the node's form of the path):
//!
//! | request | body, answer |
//! |---|---|
//! | `GET sealing-key`, `PUT secrets?hash=H` | the job's secrets, sealed; before the manifest that names them: see [`crate::secrets`] |
//! | `PUT manifest` | the manifest's bytes; their hash must be the lease's `spec_hash` |
//! | `PUT update` | a manifest that is to run in its place, within the same lease; see [`UpdateStatus`] |
//! | `GET context` | [`ContextStatus`]: how much of the build context has arrived |
//! | `PUT context?offset=N` | tar bytes from N on; resumable; the hash is checked when complete |
//! | `GET status` | [`LeaseStatus`] |
//! | `GET events` | server-sent [`NodeEvent`]s, beginning with the current [`LeaseStatus`] |
//! | `GET logs?from=N&follow=true` | the log from the sealed record at N on, and before it the record of its segment if that begins earlier; ends when the job has ended. Inside: [`crate::frames`] |
//! | `POST alive` | [`AliveAnswer`]: the order's check, made now |
//! | `POST countersign` | [`CountersignRequest`] |
//! | `POST stop?grace_ms=N` | SIGTERM, grace, SIGKILL; answers at once |
//! | `GET ports` | the ports that the manifest names, as JSON |
//! | `POST channel?hash=H` | a command, a port or files of the container: see [`crate::channel`] |
//! | `GET output?offset=N` | tar of the output folder, sealed, after the end; `x-blake3` and `x-length` headers |
//!
//! Log, output and all that is said in words ([`Said`]) are sealed for the manifest's reader: see `docs/specs/sealing.md`. Offsets, lengths and
//! hashes are those of the sealed bytes.

pub use crate::said::Said;
use pasture_types::ids::derive;
use pasture_types::lease::{EndReason, Usage};
use pasture_types::{AccountId, BlobHash, LeaseId, Millis, Timestamp};
use serde::{Deserialize, Serialize};

/// Where a job finds the folder for what it leaves.
pub const OUTPUT_DIR: &str = "/farm/out";
/// Header with the BLAKE3 hash of the whole body.
pub const HASH_HEADER: &str = "x-blake3";
/// Header with the whole length in bytes.
pub const LENGTH_HEADER: &str = "x-length";

/// What a node is doing for a lease.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Waits for the manifest.
    AwaitingManifest,
    /// Waits for the build context.
    AwaitingContext,
    /// Builds the image.
    Building,
    /// Fetches the image.
    Pulling,
    /// Creates and starts the container.
    Starting,
    /// The job's process runs.
    Running,
    /// It ended or was not well, and is started again inside the same lease.
    Restarting,
    /// The job is being stopped.
    Stopping,
    /// The job has ended; its logs and output can be fetched.
    Ended,
}

/// How much of the build context a node has.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct ContextStatus {
    /// Bytes stored so far.
    pub received: u64,
    /// Whether all of it is there and its hash was right.
    pub complete: bool,
}

/// An image that a machine has: a job that asks for it by this name starts without fetching it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ImageView {
    /// Its name, as jobs ask for it.
    pub name: String,
    /// Its size.
    pub bytes: u64,
}

/// What a running job has used since it began, and what it may.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct JobStats {
    /// The machine's clock, in milliseconds since 1970.
    pub at_ms: u64,
    /// Processor time of all its processes, in nanoseconds.
    pub cpu_ns: u64,
    /// Thousandths of a core that it may use.
    pub cpu_millis: u32,
    /// Memory in use now.
    pub memory_bytes: u64,
    /// Memory that it may use.
    pub memory_limit_bytes: u64,
    /// Received since it began.
    pub received_bytes: u64,
    /// Sent since it began.
    pub sent_bytes: u64,
    /// Processes and threads now.
    pub processes: u64,
}

/// How far a change of what a lease runs has got.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct UpdateStatus {
    /// Hash of the manifest that is to be run.
    pub manifest: BlobHash,
    /// How far.
    pub state: UpdateState,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Said::is_empty")]
    pub detail: Said,
}

/// States of an update.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpdateState {
    /// The image is being fetched; what ran before goes on.
    Fetching,
    /// What ran before is stopped and the new instance started.
    Replacing,
    /// The new instance was started; whether it is well is its own affair.
    Done,
    /// It could not be fetched, and what ran before goes on.
    Failed,
    /// It took the place of what ran before, and could not be started.
    Broken,
}

/// A lease as its node sees it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LeaseStatus {
    /// Which lease.
    pub lease: LeaseId,
    /// What the node is doing for it.
    pub phase: Phase,
    /// When the process began.
    pub started: Option<Timestamp>,
    /// Served so far.
    pub served_ms: Millis,
    /// Built so far.
    pub build_ms: Millis,
    /// Bytes of the sealed log so far: the next offset.
    pub log_bytes: u64,
    /// The container engine did not give all of the log: its end may be missing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub log_cut: bool,
    /// Container id of the engine, for re-adoption checks.
    pub container: Option<String>,
    /// How the job ended.
    pub end: Option<EndReason>,
    /// One sentence about the end, e.g. the failing build step.
    #[serde(default, skip_serializing_if = "Said::is_empty")]
    pub detail: Said,
    /// Size of the sealed output, once it can be fetched; 0 when the job wrote nothing.
    pub output_bytes: Option<u64>,
    /// When the time or money cap stops the job.
    pub ends: Option<Timestamp>,
    /// How often it was started again.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub restarts: u32,
    /// What its health check says; nothing where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthStatus>,
    /// What happened to it, oldest first; the oldest are dropped when there are many.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<Happening>,
    /// The last change of what it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update: Option<UpdateStatus>,
    /// The GPUs that are its alone until it ends.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<HeldGpu>,
    /// The machine's last statement of all, once it is made: what the log is compared with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statement: Option<Box<Statement>>,
    /// What it left, once that can be fetched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<SignedOutput>,
}

/// A kept output, signed by the machine that keeps it: nobody on the way puts in another.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SignedOutput {
    /// Which bytes.
    pub output: OutputInfo,
    /// The node's signature over [`OutputInfo::digest`], as text.
    pub node_signature: pasture_types::keys::SignatureText,
}

/// What a machine says that it served, signed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Statement {
    /// What it says.
    pub usage: Usage,
    /// The node's signature over it, as text.
    pub node_signature: pasture_types::keys::SignatureText,
}

/// A GPU that a lease holds.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HeldGpu {
    /// The vendor's name for this very device.
    pub uuid: String,
    /// Model as in the offer.
    pub model: String,
    /// Its memory in bytes.
    pub vram_bytes: u64,
    /// It is a file that says what a GPU would say: for trying things out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub simulated: bool,
}

const fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// What a health check says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wellness {
    /// It was not passed yet, and it is not too late.
    Starting,
    /// It was passed.
    Healthy,
    /// It failed too often.
    Unhealthy,
    /// The job's image has nothing to make the check with.
    Unknown,
}

/// A job's health.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HealthStatus {
    /// In one word.
    pub state: Wellness,
    /// What was seen last; it may hold what the job itself said.
    pub detail: Said,
}

/// Something that happened to a job inside its lease.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Happening {
    /// When, by the machine's clock.
    pub at: Timestamp,
    /// What, in one sentence; it may hold what the job itself said.
    pub text: Said,
}

/// What a node tells the client about a lease.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum NodeEvent {
    /// The lease's status changed.
    Status {
        /// Now.
        status: Box<LeaseStatus>,
    },
    /// A line of build or pull output.
    Output {
        /// The line, without its end.
        line: Said,
    },
    /// Usage that waits for the client's confirmation.
    Usage {
        /// The node's statement.
        usage: Box<Usage>,
        /// The node's signature over it, as text.
        node_signature: pasture_types::keys::SignatureText,
        /// Whether it is the last one.
        last: bool,
    },
    /// 80 % of the time or money is used, or the cap was reached.
    Cap {
        /// Seconds left; 0 at the cap.
        seconds_left: u64,
    },
}

/// The answer to an alive check.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AliveAnswer {
    /// Whether the check passed.
    pub alive: bool,
    /// What was seen, in the machine's own words and codes: its watcher reads it as well, so nothing that the job said is in it.
    pub detail: String,
}

/// The client, or the lease's watcher, confirms a usage.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct CountersignRequest {
    /// What is confirmed.
    pub usage: Usage,
    /// For which account it is signed: the watcher's; `None`: the lease's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<AccountId>,
    /// With which key of the account, as text.
    pub key: String,
    /// Over [`Usage::counter_digest`].
    pub signature: pasture_types::keys::SignatureText,
}

const OUTPUT_DOMAIN: &str = "pasture 2026-11 kept output v1";

impl OutputInfo {
    /// What its node signs.
    #[must_use]
    pub fn digest(&self, lease: &LeaseId) -> [u8; 32] {
        derive(OUTPUT_DOMAIN, &[&lease.0, &self.hash.0, &self.bytes.to_le_bytes()])
    }
}

/// A stored output, by its sealed bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OutputInfo {
    /// Its hash.
    pub hash: BlobHash,
    /// Its size in bytes.
    pub bytes: u64,
}
