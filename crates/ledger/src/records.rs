//! What the tables hold. Public, so that the gateway and the provider read the same records that the rules write.
//!
//! Guarantees: borsh, frozen by golden fixtures; every amount that a record holds is counted by `check`. Times named
//! `..._at` are ledger time; times named `..._shifted` are ledger time less all halts so far (`docs/specs/ledger.md` §6).

pub use crate::market::records::{History, Tenure};
use crate::stake::Bond;
use borsh::{BorshDeserialize, BorshSerialize};
use pasture_types::event::{Hash32, Settlement};
use pasture_types::genesis::Params;
use pasture_types::lease::{EndReason, LeaseState, Usage};
use pasture_types::market::{Failover, Fence, OfferTerms, OrderTerms, Verification};
use pasture_types::tx::NodeDeclaration;
use pasture_types::{
    AccountId, Amount, AssetId, BlobHash, LeaseId, Millis, NodeId, OfferId, OrderId, PublicKey, Resources, Timestamp, ZoneId,
};
use serde::{Deserialize, Serialize};

/// What a zone is.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Zone {
    /// The hash of its genesis.
    pub id: ZoneId,
    /// Its name, for people.
    pub name: String,
    /// When it began; epochs count from here.
    pub genesis_at: Timestamp,
    /// The rules it runs.
    pub rules_version: u32,
    /// Its parameters.
    pub params: Params,
    /// How many validators are seated.
    pub validators: u32,
}

impl Zone {
    /// The settlement epoch that a time lies in.
    #[must_use]
    pub fn epoch_of(&self, at: Timestamp) -> u64 {
        at.since(self.genesis_at).0 / self.params.epoch.0.max(1)
    }
    /// When an epoch begins.
    #[must_use]
    pub fn epoch_start(&self, epoch: u64) -> Timestamp {
        self.genesis_at.plus(Millis(epoch.saturating_mul(self.params.epoch.0.max(1))))
    }
    /// The length of several epochs.
    #[must_use]
    pub fn epochs(&self, n: u64) -> Millis {
        Millis(self.params.epoch.0.saturating_mul(n))
    }
}

/// The last block's time.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Clock {
    /// Its height.
    pub height: u64,
    /// Its timestamp.
    pub time: Timestamp,
    /// All halts so far, summed.
    pub halted: Millis,
}

impl Clock {
    /// Ledger time less all halts: what windows and expiries are measured in.
    #[must_use]
    pub const fn shifted(&self) -> Timestamp {
        Timestamp(self.time.0.saturating_sub(self.halted.0))
    }
}

/// How much there is of what needs blocks.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Counts {
    /// Leases that are accepted or running.
    pub live: u64,
    /// Leases that are not closed.
    pub open: u64,
}

/// An account.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize)]
pub struct Account {
    /// Which.
    pub id: AccountId,
    /// Its keys, ascending.
    #[serde(serialize_with = "keys_as_text")]
    pub keys: Vec<PublicKey>,
    /// How many of them must sign.
    pub threshold: u8,
    /// Since when.
    pub registered_at: Timestamp,
}

fn keys_as_text<S: serde::Serializer>(keys: &[PublicKey], s: S) -> Result<S::Ok, S::Error> {
    s.collect_seq(keys.iter().map(ToString::to_string))
}

/// A provider.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Provider {
    /// Its account.
    pub account: AccountId,
    /// Its name, for people.
    pub name: String,
    /// Its deposit.
    pub stake: Amount,
    /// How many nodes it has.
    pub nodes: u32,
    /// Since when.
    pub registered_at: Timestamp,
    /// What else stands behind it, and what its leases need of it.
    pub bond: Bond,
}

/// A node.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Node {
    /// Which.
    pub id: NodeId,
    /// Whose.
    pub provider: AccountId,
    /// What it declared.
    pub declaration: NodeDeclaration,
    /// What its matched, accepted and running leases hold.
    pub committed: Resources,
    /// Leases that are not closed.
    pub open_leases: u32,
    /// Since when.
    pub registered_at: Timestamp,
}

/// A standing offer.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Offer {
    /// Which.
    pub id: OfferId,
    /// Of which node.
    pub node: NodeId,
    /// Whose.
    pub provider: AccountId,
    /// The node's own number for it.
    pub number: u32,
    /// Its terms.
    pub terms: OfferTerms,
    /// The block that put it.
    pub height: u64,
    /// When that was.
    pub put_at: Timestamp,
    /// Its provider lets it rest.
    pub paused: bool,
}

/// Where an order is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum OrderState {
    /// It is drawn from this height on.
    Pending {
        /// First height.
        from: u64,
    },
    /// Nobody serves it now; it is drawn again when something changes or its timer fires.
    Waiting,
    /// A node was drawn and has not answered.
    Drawn {
        /// The lease offered.
        lease: LeaseId,
    },
    /// A node took it.
    Served {
        /// The lease.
        lease: LeaseId,
    },
    /// It lapsed, or nobody took it.
    Expired,
    /// Its owner took it away.
    Cancelled,
}

/// A candidate that was drawn for an order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Drawn {
    /// Which offer.
    pub offer: OfferId,
    /// On which node.
    pub node: NodeId,
    /// Its rate for this order per hour, when it was drawn.
    pub rate_per_hour: Amount,
    /// Its score in parts per million.
    pub score: u64,
}

/// An order.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Order {
    /// Which.
    pub id: OrderId,
    /// Whose.
    pub account: AccountId,
    /// What is asked.
    pub terms: OrderTerms,
    /// When it was placed.
    pub placed_at: Timestamp,
    /// When it lapses, less halts.
    pub expires_shifted: Timestamp,
    /// Where it is.
    pub state: OrderState,
    /// What it still locks.
    pub deposit: Amount,
    /// The best three of its last draw, best first.
    pub drawn: Vec<Drawn>,
    /// How many of them were tried.
    pub tried: u32,
    /// Nodes that refused it or let it lapse since its last pause.
    pub refused: Vec<NodeId>,
    /// Leases that were drawn for it.
    pub attempts: u32,
    /// Draws that found nobody, in a row.
    pub fruitless: u32,
    /// Draws after a pause of its own, in a row without a match; what wakes it meanwhile is not counted.
    pub retries: u32,
    /// Its timer, less halts.
    pub timer_shifted: Option<Timestamp>,
}

/// Who acts on a lease.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Party {
    /// The account that pays.
    User,
    /// The node, or its provider.
    Node,
    /// The ledger's own timer.
    Ledger,
}

/// Time that was served and time that was spent building.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Claim {
    /// Service.
    pub served: Millis,
    /// Building.
    pub build: Millis,
    /// Service that capacity checks took.
    pub steal: Millis,
}

impl Claim {
    /// The larger of both, part by part.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self { served: self.served.max(other.served), build: self.build.max(other.build), steal: self.steal.max(other.steal) }
    }
    /// What a usage claims.
    #[must_use]
    pub const fn of(usage: &Usage) -> Self {
        Self { served: usage.served_ms, build: usage.build_ms, steal: usage.steal_ms }
    }
}

/// Bare usage that waits for its objection window to pass.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Ripening {
    /// What was claimed.
    pub claim: Claim,
    /// When, less halts.
    pub since_shifted: Timestamp,
}

/// How much of a lease's service one class of resources stood behind.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Proven {
    /// Milliseconds in proven epochs.
    pub ms: Millis,
    /// Of them to be paid: without what capacity checks took. Only grows.
    pub billed: Millis,
    /// Epochs proven.
    pub epochs: u64,
    /// Of them, those with a standing audit behind them.
    pub audited: u64,
}

/// How far a lease's service was held against its node's heartbeats.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Metered {
    /// Service until here was counted.
    pub until: Timestamp,
    /// Epochs touched.
    pub epochs: u64,
    /// CPU, and memory, disk and network with it.
    pub cpu: Proven,
    /// GPUs.
    pub gpu: Proven,
}

/// What left a lease's escrow so far.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Paid {
    /// To the provider.
    pub provider: Amount,
    /// To the treasury.
    pub treasury: Amount,
    /// For the model's creator.
    pub model: Amount,
}

/// How a lease closes.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Closing {
    /// Why.
    pub reason: EndReason,
    /// By whom.
    pub by: Party,
    /// When; no service after it is paid.
    pub at: Timestamp,
    /// Until when the node may add usage that is not countersigned, less halts.
    pub final_shifted: Timestamp,
    /// Until when the user may object, less halts.
    pub objection_shifted: Timestamp,
    /// The node said that nothing more comes, or the user confirmed after the close.
    pub complete: bool,
}

/// What a record in the table of leases stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The lease itself, in its current generation.
    Primary,
    /// A machine that is kept ready for it, or asked to take over.
    Standby {
        /// For which lease.
        of: LeaseId,
    },
    /// An earlier generation of a lease, which settles by itself.
    Past {
        /// Of which lease.
        of: LeaseId,
    },
}

/// Who may confirm a lease's service in the user's place.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Watch {
    /// Its account.
    pub account: AccountId,
    /// The order named it, so that the node took the lease knowing it: its evidence counts.
    pub named: bool,
}

/// What watchers of a lease confirmed in a day beyond what counted already.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Watched {
    /// Which day (UTC).
    pub day: u64,
    /// How much time.
    pub used: Millis,
}

/// What a watcher's signature shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Evidence {
    /// Whose.
    pub watcher: AccountId,
    /// The epoch in which the check failed.
    pub epoch: u64,
}

/// A lease.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Lease {
    /// Which.
    pub id: LeaseId,
    /// For which order.
    pub order: OrderId,
    /// Who pays.
    pub account: AccountId,
    /// Who earns.
    pub provider: AccountId,
    /// Who serves.
    pub node: NodeId,
    /// Under which offer.
    pub offer: OfferId,
    /// Which match of the order this was.
    pub attempt: u32,
    /// Fencing token: raised with each move to another node; begins with 1.
    pub generation: u32,
    /// What it holds.
    pub resources: Resources,
    /// Asset of all its amounts.
    pub asset: AssetId,
    /// Its rate per hour.
    pub rate_per_hour: Amount,
    /// Longest service; within what the escrow pays.
    pub max_duration: Millis,
    /// Longest service that the offer takes: the bound of extensions.
    pub offer_max_duration: Millis,
    /// Hash of the sealed job spec.
    pub spec_hash: BlobHash,
    /// The model whose creator gets the model share.
    pub model: Option<BlobHash>,
    /// Where it is.
    pub state: LeaseState,
    /// When it was drawn.
    pub matched_at: Timestamp,
    /// Until when the node may take it, less halts.
    pub accept_shifted: Timestamp,
    /// When the node took it.
    pub accepted_at: Option<Timestamp>,
    /// When its process began.
    pub started_at: Option<Timestamp>,
    /// How it closes, from `Closing` on.
    pub closing: Option<Closing>,
    /// When it was closed.
    pub closed_at: Option<Timestamp>,
    /// All that was ever put on hold.
    pub escrow: Amount,
    /// What is still on hold.
    pub held: Amount,
    /// The last usage, whoever confirmed it.
    pub last: Option<Usage>,
    /// The last countersigned usage.
    pub confirmed: Option<Usage>,
    /// Usage to which nobody objected in time.
    pub ripened: Claim,
    /// Usage that waits for that.
    pub ripening: Option<Ripening>,
    /// The user objected.
    pub disputed: bool,
    /// How far its service is proven.
    pub metered: Metered,
    /// What was paid.
    pub paid: Paid,
    /// The epoch of its last interim payment, or of its acceptance.
    pub interim_epoch: u64,
    /// Its timer, less halts.
    pub timer_shifted: Option<Timestamp>,
    /// Its final account, once closed.
    pub settlement: Option<Settlement>,
    /// On which terms it was taken, and how it goes on.
    pub tenure: Tenure,
    /// What this record stands for.
    pub role: Role,
    /// How its result is checked.
    pub verification: Verification,
    /// What happens when its node is lost.
    pub failover: Failover,
    /// What a copy does that lost contact.
    pub fence: Fence,
    /// Epochs of a halt through which its node serves; fixed when it accepted.
    pub halt_grace: u32,
    /// Who may confirm in the user's place.
    pub watch: Option<Watch>,
    /// What watchers confirmed lately.
    pub watched: Watched,
    /// The watcher whose word the last countersigned usage is; the user's own if empty.
    pub confirmed_by: Option<AccountId>,
    /// A watcher's evidence of failed service.
    pub evidence: Option<Evidence>,
    /// Its machine is not audited while it holds it.
    pub uninterrupted: bool,
}

impl Lease {
    /// The lease that this record is, is kept ready for, or was a generation of.
    #[must_use]
    pub const fn root(&self) -> LeaseId {
        match self.role {
            Role::Primary => self.id,
            Role::Standby { of } | Role::Past { of } => of,
        }
    }
    /// What its usage names: a standby's own id, else the lease.
    #[must_use]
    pub const fn usage_id(&self) -> LeaseId {
        match self.role {
            Role::Primary | Role::Standby { .. } => self.id,
            Role::Past { of } => of,
        }
    }
    /// Usage that is paid for once its epochs are proven: countersigned, or ripened.
    #[must_use]
    pub fn accepted_claim(&self) -> Claim {
        self.ripened.max(self.confirmed.as_ref().map(Claim::of).unwrap_or_default())
    }
    /// Usage that the node claims.
    #[must_use]
    pub fn last_claim(&self) -> Claim {
        self.accepted_claim().max(self.last.as_ref().map(Claim::of).unwrap_or_default())
    }
    /// Why it ended, if it did.
    #[must_use]
    pub fn end_reason(&self) -> Option<&EndReason> {
        self.closing.as_ref().map(|c| &c.reason)
    }
    /// Whether it is accepted or running.
    #[must_use]
    pub const fn is_live(&self) -> bool {
        matches!(self.state, LeaseState::Accepted | LeaseState::Running)
    }
    /// Whether it holds its node's resources.
    #[must_use]
    pub const fn holds_resources(&self) -> bool {
        matches!(self.state, LeaseState::Matched | LeaseState::Accepted | LeaseState::Running)
    }
}

/// A recorded settlement epoch.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Epoch {
    /// Its number.
    pub number: u64,
    /// What its shares are computed from.
    pub randomness: Hash32,
    /// The block time that recorded it.
    pub recorded_at: Timestamp,
    /// Until when its heartbeats are taken, less halts.
    pub deadline_shifted: Timestamp,
}
