//! What stands behind a provider and its machines: deposits, sponsors, capacity checks, certificates.
//!
//! Guarantees: amounts are nano-credits as decimal strings, times are milliseconds and include the halts so far. What a
//! deposit may carry is the ledger's to say (`docs/specs/stake.md` §3); nothing is worked out here.

use pasture_types::audit::{GpuClaim, Verdict};
use pasture_types::stake::Fault;
use pasture_types::{AccountId, Amount, NodeId, Timestamp};
use serde::{Deserialize, Serialize};

/// How a provider began.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Beginning {
    /// With its deposit.
    #[default]
    Deposit,
    /// Without: what it earns is kept for its deposit.
    Newcomer,
    /// Without, and it committed a fault: it needs its deposit before it takes another lease.
    Owing,
    /// Without, and it has had its deposit since or left.
    Over,
}

/// Part of a deposit on its way back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Leaving {
    /// How much.
    pub amount: Amount,
    /// When it is free, unless the network halts meanwhile.
    pub release: Timestamp,
}

/// What somebody posted for a provider.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SponsorView {
    /// Who.
    pub sponsor: AccountId,
    /// What stands.
    pub amount: Amount,
    /// What is on its way back.
    pub leaving: Vec<Leaving>,
}

/// A suspension; it ends when its owner ends it, not before this time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SuspensionView {
    /// Until when at least.
    pub until: Timestamp,
    /// Why.
    pub fault: Fault,
}

/// A provider's deposit.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DepositView {
    /// Its own.
    pub own: Amount,
    /// What sponsors posted.
    pub sponsored: Amount,
    /// The least that the network asks.
    pub least: Amount,
    /// What open leases need of it.
    pub in_use: Amount,
    /// The hourly rate of those leases.
    pub rate_per_hour: Amount,
    /// How it began.
    pub beginning: Beginning,
    /// What was kept back from earnings for it, in all.
    pub withheld: Amount,
    /// What was forfeited, in all.
    pub forfeited: Amount,
    /// What is left of the first fees that the network pays for a newcomer.
    pub first_fees: Amount,
    /// Its own deposit on its way back.
    pub leaving: Vec<Leaving>,
    /// Who posted for it.
    pub sponsors: Vec<SponsorView>,
    /// Its suspension.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspended: Option<SuspensionView>,
}

impl DepositView {
    /// All that counts of it.
    #[must_use]
    pub const fn stands(&self) -> Amount {
        self.own.saturating_add(self.sponsored)
    }
    /// What is missing to the least deposit.
    #[must_use]
    pub const fn missing(&self) -> Amount {
        self.least.saturating_sub(self.stands())
    }
    /// Whether what the provider earns goes to its deposit now.
    #[must_use]
    pub const fn keeps_earnings(&self) -> bool {
        matches!(self.beginning, Beginning::Newcomer | Beginning::Owing) && !self.missing().is_zero()
    }
}

/// What audits know of a machine ("capacity check" on the screen).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AuditView {
    /// Period of the first check that it passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_pass: Option<u64>,
    /// Period of the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_pass: Option<u64>,
    /// From which period on it counts as failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing_from: Option<u64>,
    /// Stretches of failed periods before: from, and the first one after.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<(u64, u64)>,
    /// Number of the check that is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open: Option<u64>,
    /// Its proven share of what it declared, in parts per million.
    pub proven_ppm: u32,
    /// How many it passed.
    pub passes: u32,
    /// How many it failed, repeated ones once.
    pub failures: u32,
    /// The last check and how it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<LastAudit>,
    /// What the last checks show of the declared rate, in parts per million; `None` before the first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measured_ppm: Option<u32>,
    /// Its GPUs, once a check asked them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpus: Option<GpuAuditView>,
    /// Its memory, once a check asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryAuditView>,
}

/// What audits know of a machine's memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MemoryAuditView {
    /// Period of the last check that it passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_pass: Option<u64>,
    /// From which period on it counts as failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing_from: Option<u64>,
    /// Bytes that the last passed check proved: of those that no lease held then.
    pub proven_bytes: u64,
    /// How many it passed.
    pub passes: u32,
    /// How many it failed, repeated ones once.
    pub failures: u32,
}

/// What audits know of a machine's GPUs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GpuAuditView {
    /// Period of the last check that they passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_pass: Option<u64>,
    /// From which period on they count as failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing_from: Option<u64>,
    /// What the last passed check proved.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub proven: Vec<GpuClaim>,
    /// How many they passed.
    pub passes: u32,
    /// How many they failed, repeated ones once.
    pub failures: u32,
}

impl AuditView {
    /// Whether a period counts as failed.
    #[must_use]
    pub fn has_failed(&self, period: u64) -> bool {
        let before = self.failed.iter().any(|(from, after)| (*from..*after).contains(&period));
        before || self.failing_from.is_some_and(|from| period >= from)
    }
}

/// The last check of a machine that is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LastAudit {
    /// Period of its draw.
    pub period: u64,
    /// How it ended.
    pub verdict: Verdict,
}

/// Whether a machine is taken for new leases, and what is known of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StandingView {
    /// Its provider's deposit.
    pub deposit: DepositView,
    /// The highest further rate per hour that the deposit lets it take now.
    pub rate_room: Amount,
    /// It takes no new leases: it or its provider is suspended, or the deposit is missing.
    pub suspended: bool,
    /// What audits found; `None` where it was never on their roster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audits: Option<AuditView>,
    /// Periods of a halt through which it serves the leases that it accepts now.
    pub halt_grace: u32,
    /// Certificates about it or its provider that stand now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub credentials: Vec<CredentialView>,
}

/// A certificate.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CredentialView {
    /// About this node; `None`: about its provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeId>,
    /// What it says.
    pub claim: pasture_types::credential::Assertion,
    /// Who says so.
    pub issuer: AccountId,
    /// Whether the network believes that issuer without being told to.
    pub listed: bool,
    /// Until when.
    pub expires: Timestamp,
}
