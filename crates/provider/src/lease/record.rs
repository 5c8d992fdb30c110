//! What a provider remembers of a lease across a crash.
//!
//! Guarantees: the record is replaced as a whole ([`pasture_store::RecordFile`]); what it does not hold is either on the
//! ledger, in the engine, or in the manifest's, context's and log's own files, and found there again. Its texts are sealed, see `words.rs`.

use pasture_api::data::{CountersignRequest, Happening, HeldGpu, OutputInfo, Phase, Said, UpdateState};
use pasture_api::views::LeaseView;
use pasture_types::lease::{EndReason, Usage};
use pasture_types::market::{AliveCheck, Egress, Term};
use pasture_types::{AccountId, Amount, BlobHash, LeaseId, Millis, OrderId, Resources, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// What the ledger says about a lease that does not change, but for the caps.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Terms {
    pub(crate) lease: LeaseId,
    pub(crate) order: OrderId,
    pub(crate) account: AccountId,
    pub(crate) generation: u32,
    pub(crate) resources: Resources,
    pub(crate) rate_per_hour: Amount,
    pub(crate) escrow: Amount,
    pub(crate) max_duration: Millis,
    pub(crate) alive: AliveCheck,
    pub(crate) egress: Egress,
    pub(crate) spec_hash: BlobHash,
    pub(crate) matched: Timestamp,
    /// It may be ended early, with notice.
    #[serde(default)]
    pub(crate) preemptible: bool,
    /// How long it is meant to be.
    #[serde(default)]
    pub(crate) term: Term,
}

impl From<&LeaseView> for Terms {
    fn from(v: &LeaseView) -> Self {
        Self {
            lease: v.id,
            order: v.order,
            account: v.account,
            generation: v.generation,
            resources: v.resources.clone(),
            rate_per_hour: v.rate_per_hour,
            escrow: v.escrow,
            max_duration: v.max_duration,
            alive: v.alive,
            egress: v.egress,
            spec_hash: v.spec_hash,
            matched: v.matched,
            preemptible: v.tenure.preemptible,
            term: v.tenure.term,
        }
    }
}

/// Why a job is being stopped.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct StopOrder {
    pub(crate) reason: EndReason,
    pub(crate) grace_ms: Millis,
    pub(crate) detail: Said,
}

/// What became of the output folder.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Output {
    /// Not copied yet.
    Pending,
    /// There is none, or it could not be kept (the detail says so).
    Nothing,
    /// Copied.
    Ready(OutputInfo),
}

/// A lease on this node.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct LeaseRecord {
    pub(crate) terms: Terms,
    /// When the ledger recorded our acceptance; `None` while that is under way.
    pub(crate) accepted: Option<Timestamp>,
    pub(crate) phase: Phase,
    pub(crate) image: Option<String>,
    pub(crate) container: Option<String>,
    pub(crate) started: Option<Timestamp>,
    /// Served as last measured; while the job runs the truth is further.
    pub(crate) served_ms: Millis,
    pub(crate) build_ms: Millis,
    /// Building beyond the account's allowance: it eats into what the escrow affords.
    pub(crate) billed_build_ms: Millis,
    pub(crate) stop: Option<StopOrder>,
    pub(crate) end: Option<EndReason>,
    pub(crate) detail: Said,
    pub(crate) ended: Option<Timestamp>,
    pub(crate) output: Output,
    /// The last statement of all, once made.
    pub(crate) last_usage: Option<Usage>,
    /// The newest statement that the client confirmed.
    pub(crate) confirmed: Option<CountersignRequest>,
    /// The furthest usage on the ledger, and the epoch it was submitted in.
    pub(crate) recorded: Option<(Millis, u64)>,
    /// The ledger closes or has closed the lease.
    pub(crate) ledger_closing: bool,
    /// Nothing more is to be submitted.
    pub(crate) closed: bool,
    /// Container, network and output volume are gone.
    pub(crate) removed: bool,
    /// What became of the job's instances.
    #[serde(default)]
    pub(crate) upkeep: Upkeep,
    /// What audits took from the job while it ran.
    #[serde(default)]
    pub(crate) stolen_ms: Millis,
    /// The GPUs that are its alone, decided before it was accepted.
    #[serde(default)]
    pub(crate) gpus: Vec<HeldGpu>,
    /// The manifest that took the place of the one that the ledger names.
    #[serde(default)]
    pub(crate) manifest: Option<BlobHash>,
    /// The last change of what it runs.
    #[serde(default)]
    pub(crate) update: Option<Update>,
    /// For whom its texts are sealed, once that is known.
    #[serde(default)]
    pub(crate) reader: Option<[u8; 32]>,
}

/// A change of what a lease runs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Update {
    /// The manifest that is to be run.
    pub(crate) manifest: BlobHash,
    pub(crate) stage: UpdateStage,
    /// Its image, once that is here.
    pub(crate) image: Option<String>,
    /// Why it failed.
    pub(crate) detail: Said,
}

impl Update {
    pub(crate) const fn new(manifest: BlobHash) -> Self {
        Self { manifest, stage: UpdateStage::Fetching, image: None, detail: Said::nothing() }
    }
}

/// How far a change has got.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum UpdateStage {
    /// The image is being fetched; the job goes on.
    Fetching,
    /// The job is being stopped.
    Replacing,
    /// The new manifest is the lease's, and its instance is on its way.
    Starting,
    Done,
    /// It was not fetched; nothing has changed.
    Failed,
    /// It could not be started.
    Broken,
}

impl UpdateStage {
    pub(crate) const fn is_under_way(self) -> bool {
        matches!(self, Self::Fetching | Self::Replacing | Self::Starting)
    }
}

impl From<UpdateStage> for UpdateState {
    fn from(stage: UpdateStage) -> Self {
        match stage {
            UpdateStage::Fetching => Self::Fetching,
            UpdateStage::Replacing | UpdateStage::Starting => Self::Replacing,
            UpdateStage::Done => Self::Done,
            UpdateStage::Failed => Self::Failed,
            UpdateStage::Broken => Self::Broken,
        }
    }
}

/// The instances of a job that is started again, one after the other; the engine never starts one twice.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub(crate) struct Upkeep {
    /// Which one `container` is: 0 the first.
    pub(crate) instance: u32,
    /// When it began.
    pub(crate) began: Option<Timestamp>,
    /// How often the job was started again.
    pub(crate) restarts: u32,
    /// Of these, since it last ran for a while.
    pub(crate) in_a_row: u32,
    /// When the next instance is due; nothing while one is.
    pub(crate) next: Option<Timestamp>,
    /// The container of an earlier one that is still to be removed.
    pub(crate) retiring: Option<String>,
    /// The instance is being stopped for this.
    pub(crate) unhealthy: Option<Said>,
    /// What the log says between the last instance and this one, for after a crash: without what the job said.
    pub(crate) note: String,
    /// What happened, oldest first.
    pub(crate) history: VecDeque<Happening>,
    /// Not all of an instance's log came from the engine.
    #[serde(default)]
    pub(crate) log_cut: bool,
}

impl LeaseRecord {
    pub(crate) const fn new(terms: Terms) -> Self {
        Self {
            terms,
            accepted: None,
            phase: Phase::AwaitingManifest,
            image: None,
            container: None,
            started: None,
            served_ms: Millis(0),
            build_ms: Millis(0),
            billed_build_ms: Millis(0),
            stop: None,
            end: None,
            detail: Said::nothing(),
            ended: None,
            output: Output::Pending,
            last_usage: None,
            confirmed: None,
            recorded: None,
            ledger_closing: false,
            closed: false,
            removed: false,
            stolen_ms: Millis(0),
            upkeep: Upkeep {
                instance: 0,
                began: None,
                restarts: 0,
                in_a_row: 0,
                next: None,
                retiring: None,
                unhealthy: None,
                note: String::new(),
                history: VecDeque::new(),
                log_cut: false,
            },
            gpus: Vec::new(),
            manifest: None,
            update: None,
            reader: None,
        }
    }

    /// Whether nothing is left to do but to keep logs and output for a while.
    pub(crate) fn is_finished(&self) -> bool {
        self.phase == Phase::Ended && self.closed && (self.removed || self.container.is_none()) && self.upkeep.retiring.is_none()
    }
}
