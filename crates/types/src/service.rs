//! Service beyond one node and its user: watchers, evidence, failover, halts, model creators. Spec: `docs/specs/settlement.md` §7-§12.
//!
//! Guarantees: whatever a third party signs binds lease, generation and epoch, so that it cannot be shown again elsewhere or
//! later. It decides nothing: the rules are in `ledger`.

use crate::asset::{FeeRate, MAX_FEE_ASSETS, MAX_PER_CREDIT};
use crate::event::Hash32;
use crate::governance::{OutOfBounds, within};
use crate::ids::derive;
use crate::keys::Signature;
use crate::market::AliveCheck;
use crate::{AccountId, Amount, AssetId, BlobHash, LeaseId, Millis, NodeId, PublicKey, ZoneId};
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

const FAILED_CHECK_DOMAIN: &str = "pasture 2026-11 failed check v1";
const LOSS_DOMAIN: &str = "pasture 2026-11 loss report v1";
const MODEL_DOMAIN: &str = "pasture 2026-11 model registration v1";
const GENERATION_DOMAIN: &str = "pasture 2026-11 lease generation v1";
const STANDBY_DOMAIN: &str = "pasture 2026-11 standby lease v1";

/// Most observers of a lease, and so most signatures in one loss report.
pub const MAX_OBSERVERS: usize = 16;
/// Longest model manifest, in bytes.
pub const MAX_MANIFEST: usize = 4_096;
/// What a model's manifest begins with; the account of its creator follows (32 bytes), then whatever it likes.
pub const MANIFEST_MAGIC: &[u8; 16] = b"pasture model 1\n";
/// Longest halt, in epochs, that a node may state to serve through.
pub const MAX_HALT_GRACE: u32 = 1_440;

/// A zone's parameters of this area.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct ServiceParams {
    /// Most time that watchers of one lease may confirm in a day (UTC).
    pub watcher_per_day: Millis,
    /// Redundant and audited jobs may be ordered: disputes can be executed.
    pub disputes_active: bool,
    /// Epochs that such jobs wait before they pay.
    pub dispute_epochs: u64,
    /// Epochs of a halt that a node serves through if it stated nothing else.
    pub halt_grace_epochs: u32,
    /// Observers that are drawn for a lease with failover.
    pub observers: u8,
    /// Epochs for which an observer's report counts.
    pub report_epochs: u64,
    /// Missing heartbeats in a row after which a node is lost without anyone's report.
    pub lost_epochs: u64,
    /// Epochs after which a copy with `fence: stop` has stopped, and before which nobody takes over from it (T).
    pub fence_epochs: u64,
    /// Rate of a warm standby, in parts per million of its node's full rate.
    pub standby_ppm: u32,
    /// Assets that fees may be paid in besides the credit.
    pub fee_rates: [Option<FeeRate>; MAX_FEE_ASSETS],
}

impl ServiceParams {
    /// Parameters of a development zone.
    #[must_use]
    pub const fn dev() -> Self {
        Self {
            watcher_per_day: Millis(12 * 3_600_000),
            disputes_active: false,
            dispute_epochs: 2,
            halt_grace_epochs: 60,
            observers: 5,
            report_epochs: 3,
            lost_epochs: 3,
            fence_epochs: 3,
            standby_ppm: 300_000,
            fee_rates: [None; MAX_FEE_ASSETS],
        }
    }

    /// Parameters of a production zone.
    #[must_use]
    pub const fn production() -> Self {
        Self { dispute_epochs: 10, lost_epochs: 5, ..Self::dev() }
    }

    /// Checks the bounds of each and of the set.
    ///
    /// # Errors
    /// The first bound that is broken.
    pub fn check(&self) -> Result<(), OutOfBounds> {
        within("service.watcher_per_day", self.watcher_per_day.0, 0u64, 24 * 3_600_000u64)?;
        within("service.dispute_epochs", self.dispute_epochs, 1u64, 1_440u64)?;
        within("service.halt_grace_epochs", self.halt_grace_epochs, 0u32, MAX_HALT_GRACE)?;
        within("service.observers", u64::from(self.observers), 1u64, MAX_OBSERVERS as u64)?;
        within("service.report_epochs", self.report_epochs, 1u64, 60u64)?;
        // Each look at a lease reads so many epochs.
        within("service.lost_epochs", self.lost_epochs, 1u64, 120u64)?;
        within("service.fence_epochs", self.fence_epochs, 1u64, 1_440u64)?;
        within("service.standby_ppm", self.standby_ppm, 1_000u32, 1_000_000u32)?;
        let mut rates: Vec<&FeeRate> = self.fee_rates.iter().flatten().collect();
        for rate in &rates {
            within("service.fee_rates, its asset (credits need no rate),", rate.asset.0, 1u32, u32::MAX)?;
            within("service.fee_rates, what a credit costs,", rate.per_credit.0, 1u32, MAX_PER_CREDIT.0)?;
        }
        rates.sort_unstable_by_key(|r| r.asset);
        let twice = rates.windows(2).any(|pair| matches!(pair, [a, b] if a.asset == b.asset));
        within("service.fee_rates, assets that have two,", u8::from(twice), 0u8, 0u8)
    }
}

/// What a watcher signs when the check that the order names has failed.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct FailedCheck {
    /// Which lease.
    pub lease: LeaseId,
    /// Which generation of it.
    pub generation: u32,
    /// In which settlement epoch.
    pub epoch: u64,
    /// Which check: the one that the order names.
    pub check: AliveCheck,
}

impl FailedCheck {
    /// What the watcher signs.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        derive(FAILED_CHECK_DOMAIN, &[&crate::codec::encode(self)])
    }
}

/// What an observer signs when it finds a lease's node lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct LossReport {
    /// Which lease.
    pub lease: LeaseId,
    /// Which generation of it.
    pub generation: u32,
    /// In which settlement epoch.
    pub epoch: u64,
}

impl LossReport {
    /// What the observer signs.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        derive(LOSS_DOMAIN, &[&crate::codec::encode(self)])
    }
}

/// One observer's signature over a [`LossReport`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct ObserverSignature {
    /// Its validator key.
    pub observer: [u8; 32],
    /// Over [`LossReport::digest`].
    pub signature: Signature,
}

/// A creator's claim to a model's share.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct ModelClaim {
    /// Hash of the model's blob.
    pub model: BlobHash,
    /// The creator's key.
    pub key: PublicKey,
    /// Its signature over [`model_digest`].
    pub signature: Signature,
    /// The blob itself if it is a manifest that names its creator: such a claim beats one that came first.
    pub manifest: Option<Vec<u8>>,
}

/// What a model's creator signs: the account that collects.
#[must_use]
pub fn model_digest(zone: &ZoneId, model: &BlobHash, account: &AccountId) -> [u8; 32] {
    derive(MODEL_DOMAIN, &[&zone.0, &model.0, &account.0])
}

/// The creator that a manifest names, if it is one.
#[must_use]
pub fn manifest_creator(manifest: &[u8]) -> Option<AccountId> {
    let rest = manifest.strip_prefix(MANIFEST_MAGIC)?;
    rest.first_chunk::<32>().map(|id| AccountId(*id))
}

/// The id of the record that settles an earlier generation of a lease.
#[must_use]
pub fn generation_id(lease: &LeaseId, generation: u32) -> LeaseId {
    LeaseId(derive(GENERATION_DOMAIN, &[&lease.0, &generation.to_le_bytes()]))
}

/// The id of a lease's standby; `number` counts those drawn for it.
#[must_use]
pub fn standby_id(lease: &LeaseId, number: u32) -> LeaseId {
    LeaseId(derive(STANDBY_DOMAIN, &[&lease.0, &number.to_le_bytes()]))
}

/// One action of this area. Variants are only ever added at the end.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub enum ServiceAction {
    /// A provider states through how long a halt a node serves; leases accepted from now on.
    SetHaltGrace {
        /// Which node.
        node: NodeId,
        /// How many epochs.
        epochs: u32,
    },
    /// The user names, changes or dismisses the watcher of a lease.
    Watch {
        /// Which lease.
        lease: LeaseId,
        /// Who watches from now on; nobody if empty.
        watcher: Option<AccountId>,
    },
    /// Brings a watcher's evidence that the service failed.
    ReportFailure {
        /// What failed.
        report: FailedCheck,
        /// With which of the watcher's keys it is signed.
        key: PublicKey,
        /// Over [`FailedCheck::digest`].
        signature: Signature,
    },
    /// Brings observers' reports that a lease's node is lost.
    ReportLoss {
        /// Which lease, generation and epoch.
        report: LossReport,
        /// Who says so.
        signatures: Vec<ObserverSignature>,
    },
    /// Claims a model's share for its creator.
    RegisterModel {
        /// Which, by whom.
        claim: ModelClaim,
    },
    /// Mints test money of another asset; development zones only.
    TestAsset {
        /// For whom.
        to: AccountId,
        /// Which asset.
        asset: AssetId,
        /// How much.
        amount: Amount,
    },
    /// Usage of many leases of the acting node.
    Usage(crate::bundle::UsageBundle),
}

/// What this area did.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum ServiceEvent {
    /// A node stated through how long a halt it serves.
    HaltGraceSet {
        /// Which.
        node: NodeId,
        /// How many epochs.
        epochs: u32,
    },
    /// A lease got another watcher.
    WatcherSet {
        /// Which lease.
        lease: LeaseId,
        /// Whose.
        account: AccountId,
        /// Who watches now.
        watcher: Option<AccountId>,
    },
    /// A watcher's evidence was recorded.
    CheckFailed {
        /// For which lease.
        lease: LeaseId,
        /// Whose evidence.
        watcher: AccountId,
        /// Of which epoch.
        epoch: u64,
    },
    /// A lease was settled with service in dispute; it counts against both sides, or against the provider alone where evidence
    /// shows the failure.
    Objected {
        /// Which lease.
        lease: LeaseId,
        /// Who pays for it.
        account: AccountId,
        /// Who earns.
        provider: AccountId,
        /// On which node.
        node: NodeId,
        /// The watcher whose evidence shows it, if there is any.
        watcher: Option<AccountId>,
    },
    /// The observers of a lease were drawn.
    ObserversDrawn {
        /// Which lease.
        lease: LeaseId,
        /// Their validator keys.
        observers: Vec<Hash32>,
    },
    /// A lease's node is found lost; it moves when somebody can take over.
    NodeLost {
        /// Which lease.
        lease: LeaseId,
        /// Whose.
        account: AccountId,
        /// The node.
        node: NodeId,
        /// The generation it served.
        generation: u32,
    },
    /// A lease moved to another node.
    LeaseMoved {
        /// Which lease.
        lease: LeaseId,
        /// Whose.
        account: AccountId,
        /// From which node.
        from: NodeId,
        /// To which node.
        to: NodeId,
        /// Its generation now.
        generation: u32,
        /// The record that settles the generation before.
        past: LeaseId,
    },
    /// A model's share has an owner.
    ModelRegistered {
        /// Which model.
        model: BlobHash,
        /// Who collects.
        account: AccountId,
        /// Its manifest names the owner.
        named: bool,
    },
}

impl ServiceEvent {
    /// The account, node and lease that it is about.
    #[must_use]
    pub const fn concerns(&self) -> (Option<AccountId>, Option<NodeId>, Option<LeaseId>) {
        match self {
            Self::HaltGraceSet { node, .. } => (None, Some(*node), None),
            Self::WatcherSet { lease, account, .. } => (Some(*account), None, Some(*lease)),
            Self::CheckFailed { lease, watcher, .. } => (Some(*watcher), None, Some(*lease)),
            Self::Objected { lease, account, node, .. } | Self::NodeLost { lease, account, node, .. } => {
                (Some(*account), Some(*node), Some(*lease))
            }
            Self::ObserversDrawn { lease, .. } => (None, None, Some(*lease)),
            Self::LeaseMoved { lease, account, to, .. } => (Some(*account), Some(*to), Some(*lease)),
            Self::ModelRegistered { account, .. } => (Some(*account), None, None),
        }
    }
}
