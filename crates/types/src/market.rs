//! Offers and orders: what a node stands for and what a user asks. Spec: `docs/specs/market.md`.
//!
//! Guarantees: these are the frozen formats; private matters (image, command, environment) never appear here,
//! only the hash of the job's spec. It does not match: see `scheduler`.

use crate::credential::CredentialQuery;
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
/// Most intervals of an offer's availability: two a day.
pub const MAX_WINDOWS: usize = 14;
/// Minutes of a day.
pub const DAY_MINUTES: u16 = 24 * 60;
/// Minutes of a week.
pub const WEEK_MINUTES: u16 = 7 * DAY_MINUTES;

const MINUTE_MS: u64 = 60_000;
const DAY_MS: u64 = 24 * 60 * MINUTE_MS;
const WEEK_MS: u64 = 7 * DAY_MS;
/// 1970-01-01 was a Thursday: three days after a Monday.
const EPOCH_WEEKDAY_MS: u64 = 3 * DAY_MS;

/// Prices in nano-credits per hour of one unit. A price per unit-second is 3600 of these; for a class that counts units per
/// hour (tokens an hour, say) it is the price of one unit.
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
    /// One unit of a service class for an hour, in the order of the offer's service lines.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<Amount>,
}

/// What a line of a lease is for.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LineClass {
    /// Milli-cores.
    Cpu,
    /// Bytes of memory.
    Memory,
    /// Bytes of disk.
    Disk,
    /// GPUs of this model.
    Gpu(String),
    /// Units of this service class.
    Service(String),
}

/// One resource class of a lease with its own rate.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct LeaseLine {
    /// Which class.
    pub class: LineClass,
    /// How much of it.
    pub units: u64,
    /// What all of it costs per hour.
    pub rate_per_hour: Amount,
}

impl Rates {
    /// What CPU, memory and disk of a vector cost per hour, each class rounded down; `None` on overflow.
    #[must_use]
    pub fn hourly(&self, r: &Resources) -> Option<Amount> {
        let [cpu, memory, disk] = self.basic(r)?;
        cpu.checked_add(memory)?.checked_add(disk)
    }

    /// CPU, memory and disk of a vector per hour, each rounded down.
    fn basic(&self, r: &Resources) -> Option<[Amount; 3]> {
        const GIB: u128 = 1 << 30;
        let cpu = self.cpu_core.mul_div(u128::from(r.cpu_millis), 1000)?;
        let memory = self.memory_gib.mul_div(u128::from(r.memory_bytes), GIB)?;
        let disk = self.disk_gib.mul_div(u128::from(r.disk_bytes), GIB)?;
        Some([cpu, memory, disk])
    }

    /// The priced lines of `taken`, whose GPU and service lines are lines of `offered` (see [`Resources::place`]); `None` on
    /// overflow or for a line that has no price.
    #[must_use]
    pub fn lines(&self, offered: &Resources, taken: &Resources) -> Option<Vec<LeaseLine>> {
        let [cpu, memory, disk] = self.basic(taken)?;
        let mut out = Vec::with_capacity(3);
        let mut add = |class, units, rate_per_hour| {
            if units > 0 {
                out.push(LeaseLine { class, units, rate_per_hour });
            }
        };
        add(LineClass::Cpu, u64::from(taken.cpu_millis), cpu);
        add(LineClass::Memory, taken.memory_bytes, memory);
        add(LineClass::Disk, taken.disk_bytes, disk);
        for line in &taken.gpus {
            let at = offered.gpus.iter().position(|g| g.model == line.model && g.vram_bytes == line.vram_bytes)?;
            let rate = self.gpus.get(at)?.mul_div(u128::from(line.count), 1)?;
            add(LineClass::Gpu(line.model.clone()), u64::from(line.count), rate);
        }
        for line in taken.services.iter().filter(|s| s.units > 0) {
            let at = offered.services.iter().position(|s| s.class == line.class)?;
            let rate = self.services.get(at)?.mul_div(u128::from(line.units), 1)?;
            add(LineClass::Service(line.class.clone()), line.units, rate);
        }
        Some(out)
    }

    /// What a whole vector costs per hour: the sum of its lines.
    #[must_use]
    pub fn hourly_of(&self, offered: &Resources, taken: &Resources) -> Option<Amount> {
        let basic = self.hourly(taken)?;
        if taken.gpus.is_empty() && taken.services.is_empty() {
            return Some(basic);
        }
        let lines = self.lines(offered, taken)?;
        lines.iter().try_fold(Amount::ZERO, |sum, line| sum.checked_add(line.rate_per_hour))
    }
}

/// A weekly interval in which an offer is available, in minutes of the week (UTC; Monday 00:00 is 0), `from` before `to`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Window {
    /// First minute.
    pub from: u16,
    /// First minute after it, at most [`WEEK_MINUTES`].
    pub to: u16,
}

impl Window {
    /// The same hours every day, from one minute of the day to another; over midnight if `to` is not after `from`.
    #[must_use]
    pub fn daily(from: u16, to: u16) -> Vec<Self> {
        let (from, to) = (from.min(DAY_MINUTES), to.min(DAY_MINUTES));
        let mut out = Vec::new();
        for day in 0..7u16 {
            let start = day * DAY_MINUTES;
            if from < to {
                out.push(Self { from: start + from, to: start + to });
                continue;
            }
            out.push(Self { from: start, to: start + to });
            out.push(Self { from: start + from, to: start + DAY_MINUTES });
        }
        out.retain(|w| w.from < w.to);
        out
    }
}

/// How long intervals stay open from a time on: `None` if they are closed then, everything if there are none. Intervals that
/// touch are one, also over the end of the week.
#[must_use]
pub fn open_for(windows: &[Window], now: Timestamp) -> Option<Millis> {
    if windows.is_empty() {
        return Some(Millis(u64::MAX));
    }
    let in_week = now.0.wrapping_add(EPOCH_WEEKDAY_MS) % WEEK_MS;
    let ends_after = |at: u64| {
        let inside = |w: &&Window| u64::from(w.from) * MINUTE_MS <= at && at < u64::from(w.to) * MINUTE_MS;
        windows.iter().find(inside).map(|w| u64::from(w.to) * MINUTE_MS)
    };
    let mut end = ends_after(in_week)?;
    let mut passed = 0;
    // Each step goes to the end of another interval; after one round of the week they have no gap at all.
    for _ in 0..=windows.len() {
        let at = end % WEEK_MS;
        passed += end - at;
        match ends_after(at) {
            Some(next) => end = next,
            None => return Some(Millis(passed + at - in_week)),
        }
    }
    Some(Millis(u64::MAX))
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
#[derive(Clone, PartialEq, Eq, Default, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
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
    /// Shortest lease it takes.
    #[serde(default)]
    pub min_duration: Millis,
    /// Most leases at once; zero is no limit but the machine's.
    #[serde(default)]
    pub max_leases: u32,
    /// When it is available, ascending and disjoint; empty is always.
    #[serde(default)]
    pub windows: Vec<Window>,
    /// Until when it is drawn; `None` is until it is withdrawn.
    #[serde(default)]
    pub valid_until: Option<Timestamp>,
    /// For how long it keeps a price: the bound of rentals and of leases without an end. Zero: it takes neither.
    #[serde(default)]
    pub price_lock: Millis,
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

/// Whether a region is the wanted one or lies within it (`eu` holds `eu-west`, not `europe`).
#[must_use]
pub fn region_within(region: &str, wanted: &str) -> bool {
    region == wanted || region.strip_prefix(wanted).is_some_and(|rest| rest.starts_with('-'))
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
    /// Its provider or node has a credential that answers this.
    Credential(CredentialQuery),
}

/// How a rental is counted.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BillingUnit {
    /// An hour.
    #[default]
    Hour,
    /// Thirty days.
    Month,
}

impl BillingUnit {
    /// How long it is.
    #[must_use]
    pub const fn length(self) -> Millis {
        match self {
            Self::Hour => Millis(3_600_000),
            Self::Month => Millis(30 * DAY_MS),
        }
    }
}

/// How long a lease is meant to be.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Term {
    /// Until `max_duration`.
    #[default]
    Fixed,
    /// Until it is stopped: `max_duration` is what the first hold pays for, more is added while it runs.
    Open,
    /// For whole units at a locked price; `max_duration` is the committed ones.
    Rental {
        /// What is counted.
        unit: BillingUnit,
        /// Units that are on hold from the start; leaving before their end costs.
        committed: u32,
        /// Units, the committed ones included, for which the price is locked.
        locked: u32,
        /// Further units are put on hold by the ledger, up to the locked ones and within the budget.
        renew: bool,
    },
}

/// What a user asks for.
#[derive(Clone, PartialEq, Eq, Default, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
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
    /// The low end of the price range: nothing is gained by an offer below it.
    #[serde(default)]
    pub target_price_per_hour: Amount,
    /// How long the lease is meant to be.
    #[serde(default)]
    pub term: Term,
    /// Its node may end it early with notice; in exchange it may reach over the end of an offer's availability.
    #[serde(default)]
    pub preemptible: bool,
    /// Capacity checks leave its machine alone while it runs. Nothing is checked there meanwhile, so that its node needs the more
    /// deposit for it.
    #[serde(default)]
    pub uninterrupted: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Monday 2026-11-23 00:00 UTC.
    const MONDAY: u64 = 1_795_392_000_000;

    #[test]
    fn windows_open_and_close_by_the_minute_of_the_week() {
        let office: Vec<_> = (0..5).map(|d| Window { from: d * DAY_MINUTES + 480, to: d * DAY_MINUTES + 1_080 }).collect();
        let at = |minute: u64| open_for(&office, Timestamp(MONDAY + minute * MINUTE_MS));
        assert_eq!(at(479), None);
        assert_eq!(at(480), Some(Millis(600 * MINUTE_MS)));
        assert_eq!(at(1_079), Some(Millis(MINUTE_MS)));
        assert_eq!(at(1_080), None);
        assert_eq!(at(5 * 1_440 + 600), None, "Saturday");
        assert_eq!(at(7 * 1_440 + 480), Some(Millis(600 * MINUTE_MS)), "and again next Monday");
        assert_eq!(open_for(&[], Timestamp(MONDAY)), Some(Millis(u64::MAX)));
    }

    #[test]
    fn windows_that_touch_are_one_also_over_midnight_and_sunday() {
        let night = Window::daily(1_320, 360);
        assert_eq!(night.len(), 14);
        let at = |minute: u64| open_for(&night, Timestamp(MONDAY + minute * MINUTE_MS));
        assert_eq!(at(1_320), Some(Millis(480 * MINUTE_MS)));
        assert_eq!(at(720), None);
        assert_eq!(at(6 * 1_440 + 1_380), Some(Millis(420 * MINUTE_MS)), "from Sunday into Monday");
        let whole = [Window { from: 0, to: 3_000 }, Window { from: 3_000, to: WEEK_MINUTES }];
        assert_eq!(open_for(&whole, Timestamp(MONDAY + 1)), Some(Millis(u64::MAX)), "no gap in the week");
    }
}
