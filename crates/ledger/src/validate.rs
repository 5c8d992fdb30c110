//! Structural limits of what users send: offers, orders, declarations. Spec: `docs/specs/market.md` §1.
//!
//! Guarantees: what passes here fits every table and every sum. It looks at no state.

use crate::env::Env;
use crate::error::TxError;
use pasture_scheduler::{MAX_RATE_PER_HOUR, price_for};
use pasture_types::market::{
    Constraint, Disclose, Failover, Fence, MAX_ATTRIBUTE, MAX_ATTRIBUTES, MAX_CONSTRAINTS, MAX_PREFERENCES, OfferTerms, OrderTerms,
    Verification,
};
use pasture_types::resources::{MAX_GPU_LINES, MAX_GPU_MODEL};
use pasture_types::tx::NodeDeclaration;
use pasture_types::{Amount, AssetId, Millis, Resources, Timestamp};

/// Longest name of a provider, in bytes.
pub(crate) const MAX_NAME: usize = 64;
/// Longest CPU model, in bytes.
const MAX_CPU_MODEL: usize = 128;
/// Longest architecture, in bytes.
const MAX_ARCH: usize = 32;
/// Most CPU, memory or disk of one node: far above any machine, far below overflow of a sum over leases.
const MAX_CPU_MILLIS: u32 = 1_000_000_000;
const MAX_BYTES: u64 = 1 << 60;
/// Declared hash rates that a heartbeat can tell apart.
const MIN_HASHES_PER_S: u64 = 1_000;
const MAX_HASHES_PER_S: u64 = 1_000_000_000_000;
/// Shortest lease that makes sense.
const MIN_DURATION: Millis = Millis(1_000);
/// How long an order may wait.
const MAX_ORDER_WAIT: Millis = Millis(24 * 3_600_000);
/// Highest priority.
pub(crate) const MAX_PRIORITY: u8 = 100;

pub(crate) fn at_most(what: &'static str, got: u64, limit: u64) -> Result<(), TxError> {
    if got > limit { Err(TxError::Limit { what, got, limit }) } else { Ok(()) }
}

fn length(what: &'static str, text: &str, limit: usize) -> Result<(), TxError> {
    at_most(what, text.len() as u64, limit as u64)?;
    if text.chars().any(char::is_control) {
        return Err(TxError::Invalid(format!("{what} holds a control character; leave it out")));
    }
    Ok(())
}

fn invalid(text: &str) -> TxError {
    TxError::Invalid(text.into())
}

pub(crate) fn name(text: &str) -> Result<(), TxError> {
    length("bytes of the name", text, MAX_NAME)
}

fn resources(r: &Resources) -> Result<(), TxError> {
    at_most("milli-cores", u64::from(r.cpu_millis), u64::from(MAX_CPU_MILLIS))?;
    at_most("bytes of memory", r.memory_bytes, MAX_BYTES)?;
    at_most("bytes of disk", r.disk_bytes, MAX_BYTES)?;
    at_most("GPU lines", r.gpus.len() as u64, MAX_GPU_LINES as u64)?;
    for gpu in &r.gpus {
        length("bytes of a GPU model", &gpu.model, MAX_GPU_MODEL)?;
    }
    Ok(())
}

pub(crate) fn declaration(d: &NodeDeclaration) -> Result<(), TxError> {
    resources(&d.resources)?;
    length("bytes of the CPU model", &d.cpu_model, MAX_CPU_MODEL)?;
    length("bytes of the architecture", &d.arch, MAX_ARCH)?;
    at_most("hashes per second", d.cpu_hashes_per_s, MAX_HASHES_PER_S)?;
    if d.cpu_hashes_per_s < MIN_HASHES_PER_S {
        return Err(invalid("the declared hash rate is below 1000 per second; run the benchmark"));
    }
    if d.resources.cpu_millis == 0 || d.resources.memory_bytes == 0 {
        return Err(invalid("a node without CPU or memory cannot be registered"));
    }
    Ok(())
}

pub(crate) fn region(text: &str) -> Result<(), TxError> {
    length("bytes of the region", text, MAX_ATTRIBUTE)?;
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        return Err(invalid("a region is lower-case letters, digits and dashes, e.g. eu-west"));
    }
    Ok(())
}

pub(crate) fn offer(t: &OfferTerms) -> Result<(), TxError> {
    resources(&t.resources)?;
    if !t.resources.gpus.is_empty() || !t.rates.gpus.is_empty() {
        return Err(TxError::NotActive("GPU offers are"));
    }
    if t.resources.cpu_millis == 0 || t.resources.memory_bytes == 0 {
        return Err(invalid("an offer needs CPU and memory"));
    }
    credit_only(t.asset)?;
    region(&t.region)?;
    if t.max_duration < MIN_DURATION {
        return Err(invalid("an offer's longest lease is at least one second"));
    }
    at_most("attributes", t.attributes.len() as u64, MAX_ATTRIBUTES as u64)?;
    for (name, value) in &t.attributes {
        length("bytes of an attribute's name", name, MAX_ATTRIBUTE)?;
        length("bytes of an attribute's value", value, MAX_ATTRIBUTE)?;
    }
    let mut pairs = t.attributes.iter().zip(t.attributes.iter().skip(1));
    if !pairs.all(|((a, _), (b, _))| a < b) {
        return Err(invalid("attributes must be sorted by name, each name once"));
    }
    match t.rates.hourly(&t.resources) {
        Some(rate) if rate <= MAX_RATE_PER_HOUR => Ok(()),
        _ => Err(TxError::AmountTooLarge),
    }
}

pub(crate) fn credit_only(asset: AssetId) -> Result<(), TxError> {
    if asset == AssetId::CREDIT { Ok(()) } else { Err(TxError::NotActive("other assets than credits are")) }
}

pub(crate) fn order(t: &OrderTerms, env: &Env, now: Timestamp) -> Result<(), TxError> {
    order_form(t)?;
    order_not_yet(t)?;
    if t.max_duration < MIN_DURATION {
        return Err(invalid("a lease runs at least one second; ask for a longer duration"));
    }
    at_most("milliseconds of duration", t.max_duration.0, env.zone.params.max_lease.0)?;
    if t.expires <= now {
        return Err(invalid("the order has expired already; set a later expiry (and check the clock)"));
    }
    at_most("milliseconds until the order expires", t.expires.since(now).0, MAX_ORDER_WAIT.0)?;
    let epoch = env.zone.params.epoch.min(t.max_duration);
    let needs = price_for(t.max_price_per_hour, epoch);
    if t.budget < needs {
        return Err(TxError::BudgetTooSmall { needs, has: t.budget });
    }
    Ok(())
}

fn order_form(t: &OrderTerms) -> Result<(), TxError> {
    resources(&t.resources)?;
    if t.resources.cpu_millis == 0 || t.resources.memory_bytes == 0 {
        return Err(invalid("an order needs CPU and memory; ask for at least 1m and 1Mi"));
    }
    at_most("conditions", t.constraints.len() as u64, MAX_CONSTRAINTS as u64)?;
    for constraint in &t.constraints {
        match constraint {
            Constraint::Region(r) => region(r)?,
            Constraint::Attribute { name, value } => {
                length("bytes of an attribute's name", name, MAX_ATTRIBUTE)?;
                length("bytes of an attribute's value", value, MAX_ATTRIBUTE)?;
            }
            Constraint::Node(_) | Constraint::Provider(_) | Constraint::NotNode(_) | Constraint::Egress(_) => {}
        }
    }
    at_most("preferred nodes", t.preferences.len() as u64, MAX_PREFERENCES as u64)?;
    at_most("priority", u64::from(t.priority), u64::from(MAX_PRIORITY))?;
    at_most("nano-credits per hour", u64::try_from(t.max_price_per_hour.0).unwrap_or(u64::MAX), max_rate())?;
    credit_only(t.asset)
}

fn max_rate() -> u64 {
    u64::try_from(MAX_RATE_PER_HOUR.0).unwrap_or(u64::MAX)
}

/// What the format knows and the rules do not take yet.
fn order_not_yet(t: &OrderTerms) -> Result<(), TxError> {
    if !t.resources.gpus.is_empty() {
        return Err(TxError::NotActive("GPU jobs are"));
    }
    match t.verification {
        Verification::None => {}
        Verification::Replicate(_) => return Err(TxError::NotActive("redundant execution (verify: replicate) is")),
        Verification::Audit(_) => return Err(TxError::NotActive("re-execution (verify: audit) is")),
        Verification::Zk => return Err(TxError::NotActive("zero-knowledge proofs (verify: zk) are")),
        Verification::Tee => return Err(TxError::NotActive("hardware attestation (verify: tee) is")),
    }
    if t.failover != Failover::Off {
        return Err(TxError::NotActive("failover is"));
    }
    if t.fence != Fence::Serve {
        return Err(TxError::NotActive("fence: stop is"));
    }
    if t.disclose != Disclose::Nobody {
        return Err(TxError::NotActive("disclosing inputs to checkers is"));
    }
    if t.watcher.is_some() {
        return Err(TxError::NotActive("confirmation by a watcher is"));
    }
    Ok(())
}

/// The most that a match can put on hold: what the balance must cover when the order is placed.
pub(crate) fn largest_hold(t: &OrderTerms) -> Amount {
    pasture_scheduler::hold_for(t, t.max_price_per_hour)
}
