//! What a block did, as typed events: the feed that providers, gateways and clients follow.
//!
//! Guarantees: every change of a lease's state has an event. Events are derived, not state: replay makes them again.

use crate::audit::AuditEvent;
use crate::governance::GovernanceEvent;
use crate::lease::{EndReason, LeaseState};
use crate::market_rules::MarketEvent;
use crate::proof::ResourceClass;
use crate::reputation::ReputationEvent;
use crate::service::ServiceEvent;
use crate::stake::DepositEvent;
use crate::validator::ValidatorEvent;
use crate::{AccountId, Amount, AssetId, LeaseId, Millis, NodeId, OfferId, OrderId, Timestamp};
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

/// Who confirmed a lease's service.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConfirmedBy {
    /// The user countersigned.
    User,
    /// A watcher countersigned.
    Watcher(AccountId),
    /// Nobody objected in time.
    NoObjection,
    /// Nothing was served.
    Nothing,
    /// The user objected: what was in dispute was withheld.
    Objection,
    /// The user, or this watcher in its place, objected, and the watcher's evidence shows the failure: what was in dispute
    /// returned to the user.
    Evidence(AccountId),
}

/// What one class of resources came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct SettledLine {
    /// Which class; memory, disk and network are in that of the CPU.
    pub class: ResourceClass,
    /// Its rate per hour.
    pub rate_per_hour: Amount,
    /// Milliseconds that were paid.
    pub billed_ms: Millis,
    /// What they cost.
    pub charged: Amount,
    /// Epochs in which the class was proven.
    pub epochs_proven: u64,
    /// Whether an audit stood behind all of them.
    pub audited: bool,
}

/// A lease's final account. All times and amounts are totals over the lease.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Settlement {
    /// Asset of all amounts.
    pub asset: AssetId,
    /// The lease's rate per hour.
    pub rate_per_hour: Amount,
    /// Milliseconds that were paid.
    pub billed_ms: Millis,
    /// Milliseconds of building that were paid, beyond the allowance.
    pub billed_build_ms: Millis,
    /// What the user paid, all shares included.
    pub charged: Amount,
    /// What went back to the user.
    pub refunded: Amount,
    /// The provider's share.
    pub to_provider: Amount,
    /// The treasury's share (the network fee).
    pub to_treasury: Amount,
    /// The model creator's share.
    pub to_model: Amount,
    /// Withheld after an objection: charged, paid to the treasury.
    pub withheld: Amount,
    /// Epochs the service touched.
    pub epochs: u64,
    /// Of them, epochs with a valid heartbeat.
    pub epochs_proven: u64,
    /// Who confirmed the service.
    pub confirmed_by: ConfirmedBy,
    /// Whether an audit stood behind the capacity of every class (false: co-signed benchmark only).
    pub audited: bool,
    /// Which generation of the lease this settles.
    pub generation: u32,
    /// Time that capacity checks took from the job: in none of the billed times.
    pub steal_ms: Millis,
    /// What each class came to.
    pub lines: Vec<SettledLine>,
}

/// One thing a block did.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum Event {
    /// An account was opened.
    AccountRegistered {
        /// Which.
        account: AccountId,
    },
    /// An account became a provider.
    ProviderRegistered {
        /// Which.
        account: AccountId,
    },
    /// A node was added.
    NodeRegistered {
        /// Which.
        node: NodeId,
        /// Whose.
        provider: AccountId,
    },
    /// Money moved.
    Transferred {
        /// From whom (`None`: minted test credits).
        from: Option<AccountId>,
        /// To whom.
        to: AccountId,
        /// Which asset.
        asset: AssetId,
        /// How much.
        amount: Amount,
    },
    /// A deposit grew.
    Staked {
        /// Whose.
        account: AccountId,
        /// By how much.
        amount: Amount,
    },
    /// An offer stands.
    OfferPut {
        /// Which.
        offer: OfferId,
        /// Of which node.
        node: NodeId,
    },
    /// An offer is gone.
    OfferWithdrawn {
        /// Which.
        offer: OfferId,
    },
    /// An order waits for its draw.
    OrderPlaced {
        /// Which.
        order: OrderId,
        /// Whose.
        account: AccountId,
    },
    /// An order lapsed, was cancelled, or nobody took it.
    OrderEnded {
        /// Which.
        order: OrderId,
        /// Whose.
        account: AccountId,
        /// Whether it was cancelled by its owner.
        cancelled: bool,
    },
    /// A lease was drawn; the node has until `accept_by` to take it.
    LeaseMatched {
        /// Which.
        lease: LeaseId,
        /// For which order.
        order: OrderId,
        /// Whose.
        account: AccountId,
        /// On which node.
        node: NodeId,
        /// At which rate for the whole lease per hour.
        rate_per_hour: Amount,
        /// Put on hold.
        escrow: Amount,
        /// Deadline for the node.
        accept_by: Timestamp,
    },
    /// A lease changed its state.
    LeaseChanged {
        /// Which.
        lease: LeaseId,
        /// Whose.
        account: AccountId,
        /// On which node.
        node: NodeId,
        /// Its state now.
        state: LeaseState,
        /// Why it ended, from `Closing` on.
        reason: Option<EndReason>,
    },
    /// A lease got more time and money.
    LeaseExtended {
        /// Which.
        lease: LeaseId,
        /// On which node.
        node: NodeId,
        /// When it ends now at the latest.
        ends: Timestamp,
    },
    /// Usage was recorded.
    UsageRecorded {
        /// For which lease.
        lease: LeaseId,
        /// Whose.
        account: AccountId,
        /// Served in all.
        served_ms: Millis,
        /// Whether it was countersigned.
        countersigned: bool,
        /// By whom: the user, or a watcher by its account.
        confirmed_by: Option<AccountId>,
    },
    /// An epoch began; nodes with leases compute their shares from its randomness.
    EpochStarted {
        /// Its number.
        epoch: u64,
        /// Its randomness.
        randomness: Hash32,
    },
    /// An epoch's shares were accepted.
    HeartbeatRecorded {
        /// Of which node.
        node: NodeId,
        /// For which epoch.
        epoch: u64,
    },
    /// A lease's final account.
    LeaseSettled {
        /// Which.
        lease: LeaseId,
        /// Whose.
        account: AccountId,
        /// On which node.
        node: NodeId,
        /// The account.
        settlement: Box<Settlement>,
    },
    /// Something about votes, the guardian's pause or the rules.
    Governance(GovernanceEvent),
    /// Something about ratings.
    Reputation(ReputationEvent),
    /// Of deposits.
    Deposit(DepositEvent),
    /// Of validators.
    Validator(ValidatorEvent),
    /// Something about capacity audits.
    Audit(AuditEvent),
    /// What the market did besides.
    Market(MarketEvent),
    /// Watchers, evidence, failover, models.
    Service(ServiceEvent),
    /// A grant changed.
    Grant(crate::grant::GrantEvent),
    /// An account's keys changed.
    Keys(crate::account::KeyEvent),
    /// A channel changed.
    Channel(crate::channel::ChannelEvent),
    /// A credential changed.
    Credential(crate::credential::CredentialEvent),
}

/// 32 bytes that JSON shows as hex.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Hash32(pub [u8; 32]);

impl Serialize for Hash32 {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&hex::encode(self.0))
    }
}
impl<'de> Deserialize<'de> for Hash32 {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let mut out = [0u8; 32];
        hex::decode_to_slice(<String as Deserialize>::deserialize(d)?, &mut out).map_err(serde::de::Error::custom)?;
        Ok(Self(out))
    }
}
