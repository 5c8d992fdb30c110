//! Offers and orders: what a node stands for and what a user asks. Spec: `docs/specs/market.md`.
//!
//! Guarantees: these are the frozen formats; private matters (image, command, environment) never appear here,
//! only the hash of the job's spec. It does not match: see `scheduler`.

use crate::{AccountId, Amount, AssetId, BlobHash, Millis, NodeId, Resources, Timestamp};
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

/// Most constraints in an order.
pub const MAX_CONSTRAINTS: usize = 16;
/// Most attributes of an offer.
pub const MAX_ATTRIBUTES: usize = 32;
/// Longest attribute name or value, in bytes.
pub const MAX_ATTRIBUTE: usize = 64;
/// Most nodes in an order's preference list.
pub const MAX_PREFERENCES: usize = 16;

/// Prices in nano-credits per hour of one unit.
#[derive(Clone, PartialEq, Eq, Default, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Rates {
    /// One core for an hour.
    pub cpu_core: Amount,
    /// One GiB of memory for an hour.
    pub memory_gib: Amount,
    /// One GiB of disk for an hour.
    pub disk_gib: Amount,
    /// One GPU for an hour, in the order of the offer's GPU lines.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<Amount>,
}

impl Rates {
    /// The hourly rate for a resource vector without GPUs, each class rounded down; `None` on overflow.
    #[must_use]
    pub fn hourly(&self, r: &Resources) -> Option<Amount> {
        const GIB: u128 = 1 << 30;
        let cpu = self.cpu_core.mul_div(u128::from(r.cpu_millis), 1000)?;
        let memory = self.memory_gib.mul_div(u128::from(r.memory_bytes), GIB)?;
        let disk = self.disk_gib.mul_div(u128::from(r.disk_bytes), GIB)?;
        cpu.checked_add(memory)?.checked_add(disk)
    }
}

/// What a job may reach on the network.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Egress {
    /// Nothing.
    None,
    /// DNS and HTTPS to public addresses; never the host or private ranges.
    #[default]
    Open,
}

/// A node's standing terms.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct OfferTerms {
    /// What the node offers in all.
    pub resources: Resources,
    /// Its prices.
    pub rates: Rates,
    /// In which asset it is paid.
    pub asset: AssetId,
    /// Where it stands, e.g. `eu-west`; free text, not proven.
    pub region: String,
    /// What its jobs may reach.
    pub egress: Egress,
    /// Longest lease it takes.
    pub max_duration: Millis,
    /// Free attributes, sorted by name, each name once.
    pub attributes: Vec<(String, String)>,
}

/// How a result is checked.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verification {
    /// The service is metered and the capacity proven; the result is not recomputed.
    #[default]
    None,
    /// Run by this many providers.
    Replicate(u8),
    /// Re-executed with this probability in parts per million.
    Audit(u32),
    /// A zero-knowledge proof (later rules).
    Zk,
    /// Hardware attestation (later rules).
    Tee,
}

/// What the countersigner looks at before it confirms an epoch's service.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AliveCheck {
    /// The job's process answers an `exec` of a no-op.
    #[default]
    Exec,
    /// A port accepts connections.
    Port(u16),
    /// The log grew within this time.
    Log(Millis),
}

/// What happens when the node of a lease is lost.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Failover {
    /// The job ends.
    #[default]
    Off,
    /// Started anew elsewhere.
    Cold,
    /// A paid standby takes over.
    Warm,
}

/// What the old copy does once it has lost contact.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fence {
    /// It keeps running; only the highest generation is routed.
    #[default]
    Serve,
    /// It stops.
    Stop,
}

/// Who may see a job's inputs so that a check can be made.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Disclose {
    /// Nobody.
    #[default]
    Nobody,
    /// A drawn committee.
    Committee,
    /// Probing watchers.
    Probe,
}

/// A condition that an offer must meet.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Constraint {
    /// The offer's region is this, or begins with it and a dash.
    Region(String),
    /// The offer has this attribute with this value.
    Attribute {
        /// Attribute name.
        name: String,
        /// Wanted value.
        value: String,
    },
    /// Only this node.
    Node(NodeId),
    /// Only nodes of this provider.
    Provider(AccountId),
    /// Never this node.
    NotNode(NodeId),
    /// The offer's egress policy is at least this.
    Egress(Egress),
}

/// What a user asks for.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct OrderTerms {
    /// The machine wanted.
    pub resources: Resources,
    /// Conditions, all of which must hold.
    pub constraints: Vec<Constraint>,
    /// Most for the whole lease per hour.
    pub max_price_per_hour: Amount,
    /// Longest run; at this cap the job is stopped.
    pub max_duration: Millis,
    /// Most to put on hold; the escrow is the lower of this and rate x duration.
    pub budget: Amount,
    /// Paid in this asset.
    pub asset: AssetId,
    /// 0 (lowest) to 100.
    pub priority: u8,
    /// How the result is checked.
    pub verification: Verification,
    /// What the countersigner checks.
    pub alive: AliveCheck,
    /// Failover mode.
    pub failover: Failover,
    /// Fence mode.
    pub fence: Fence,
    /// Who may see the inputs.
    pub disclose: Disclose,
    /// Hash of the (salted) job spec that the client hands to the node.
    pub spec_hash: BlobHash,
    /// The model whose creator gets the model share.
    pub model: Option<BlobHash>,
    /// A watcher who may countersign in the user's place.
    pub watcher: Option<AccountId>,
    /// The client's ranking of nodes by what only it can see (latency, cached image); best first.
    pub preferences: Vec<NodeId>,
    /// When the order lapses if it was not matched.
    pub expires: Timestamp,
}
