//! Structural limits of what users send: offers, orders, declarations. Spec: `docs/specs/market.md` §1.
//!
//! Guarantees: what passes here fits every table and every sum. It looks at no state.

use crate::env::Env;
use crate::error::TxError;
use crate::service;
use pasture_scheduler::{MAX_RATE_PER_HOUR, least_covered, lock_wanted};
use pasture_types::market::{
    AliveCheck, Constraint, MAX_ATTRIBUTE, MAX_ATTRIBUTES, MAX_CONSTRAINTS, MAX_PREFERENCES, MAX_WINDOWS, OfferTerms, OrderTerms, Term,
    WEEK_MINUTES, Window,
};
use pasture_types::resources::{MAX_GPU_LINES, MAX_GPU_MODEL, MAX_SERVICE_CLASS, MAX_SERVICE_LINES};
use pasture_types::tx::NodeDeclaration;
use pasture_types::{Amount, Millis, Resources, Timestamp};

/// Longest name of a provider, in bytes.
pub(crate) const MAX_NAME: usize = 64;
/// Longest CPU model, in bytes.
const MAX_CPU_MODEL: usize = 128;
/// Longest architecture, in bytes.
const MAX_ARCH: usize = 32;
/// Most CPU, memory or disk of one node: far above any machine, far below overflow of a sum over leases.
const MAX_CPU_MILLIS: u32 = 1_000_000_000;
const MAX_BYTES: u64 = 1 << 60;
/// Most units of a service class: likewise.
const MAX_UNITS: u64 = 1 << 60;
/// Declared hash rates that a heartbeat can tell apart.
const MIN_HASHES_PER_S: u64 = 1_000;
const MAX_HASHES_PER_S: u64 = 1_000_000_000_000;
/// Shortest lease that makes sense.
const MIN_DURATION: Millis = Millis(1_000);
/// How long an order may wait.
const MAX_ORDER_WAIT: Millis = Millis(24 * 3_600_000);
/// Most conditions on certificates in one order: each is looked up at each offer that a draw looks at.
const MAX_CERTIFICATES: u32 = 4;
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
    for (at, gpu) in r.gpus.iter().enumerate() {
        length("bytes of a GPU model", &gpu.model, MAX_GPU_MODEL)?;
        at_most("bytes of memory of a GPU", gpu.vram_bytes, MAX_BYTES)?;
        let again = r.gpus.iter().skip(at + 1).any(|g| g.model == gpu.model && g.vram_bytes == gpu.vram_bytes);
        if gpu.count == 0 || gpu.model.is_empty() || again {
            return Err(invalid("a GPU line names a model and at least one; lines of one model differ in memory"));
        }
    }
    at_most("service lines", r.services.len() as u64, MAX_SERVICE_LINES as u64)?;
    for (at, line) in r.services.iter().enumerate() {
        length("bytes of a service class", &line.class, MAX_SERVICE_CLASS)?;
        at_most("units of a service class", line.units, MAX_UNITS)?;
        let known = line.class.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'.' || b == b'-');
        if line.units == 0 || line.class.is_empty() || !known || r.services.iter().skip(at + 1).any(|l| l.class == line.class) {
            return Err(invalid("a service line names a class (lower-case letters, digits, dots, dashes) once, and at least one unit"));
        }
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

/// Whether the zone leases these GPUs.
fn gpus_are_leased(r: &Resources, env: &Env) -> bool {
    r.gpus.iter().all(|line| env.zone.params.leases_gpu(&line.model))
}

pub(crate) fn offer(t: &OfferTerms, env: &Env) -> Result<(), TxError> {
    resources(&t.resources)?;
    if !gpus_are_leased(&t.resources, env) {
        return Err(TxError::NotActive("offers of these GPUs are"));
    }
    if t.rates.gpus.len() != t.resources.gpus.len() || t.rates.services.len() != t.resources.services.len() {
        return Err(invalid("each GPU line and each service line of an offer needs its own rate, in the same order"));
    }
    if t.resources.cpu_millis == 0 || t.resources.memory_bytes == 0 {
        return Err(invalid("an offer needs CPU and memory"));
    }
    region(&t.region)?;
    if t.max_duration < MIN_DURATION || t.min_duration > t.max_duration {
        return Err(invalid("an offer's longest lease is at least one second, and no shorter than its shortest"));
    }
    at_most("milliseconds of price lock", t.price_lock.0, env.zone.params.market.max_rental.0)?;
    if t.valid_until.is_some_and(|until| until <= env.now()) {
        return Err(invalid("the offer has lapsed already; set a later end (and check the clock)"));
    }
    windows(&t.windows)?;
    at_most("attributes", t.attributes.len() as u64, MAX_ATTRIBUTES as u64)?;
    for (name, value) in &t.attributes {
        length("bytes of an attribute's name", name, MAX_ATTRIBUTE)?;
        length("bytes of an attribute's value", value, MAX_ATTRIBUTE)?;
    }
    let mut pairs = t.attributes.iter().zip(t.attributes.iter().skip(1));
    if !pairs.all(|((a, _), (b, _))| a < b) {
        return Err(invalid("attributes must be sorted by name, each name once"));
    }
    match t.rates.hourly_of(&t.resources, &t.resources) {
        Some(rate) if rate <= MAX_RATE_PER_HOUR => Ok(()),
        _ => Err(TxError::AmountTooLarge),
    }
}

fn windows(windows: &[Window]) -> Result<(), TxError> {
    at_most("intervals of availability", windows.len() as u64, MAX_WINDOWS as u64)?;
    let whole = windows.iter().all(|w| w.from < w.to && w.to <= WEEK_MINUTES);
    let ascending = windows.iter().zip(windows.iter().skip(1)).all(|(a, b)| a.to <= b.from);
    if whole && ascending {
        return Ok(());
    }
    Err(invalid("intervals of availability are minutes of the week (0 to 10080), ascending, without overlap"))
}

pub(crate) fn order(t: &OrderTerms, env: &Env, now: Timestamp) -> Result<(), TxError> {
    order_form(t)?;
    if !gpus_are_leased(&t.resources, env) {
        return Err(TxError::NotActive("jobs with these GPUs are"));
    }
    service::modes::order(t, &env.zone.params.service)?;
    order_term(t, env)?;
    if t.expires <= now {
        return Err(invalid("the order has expired already; set a later expiry (and check the clock)"));
    }
    at_most("milliseconds until the order expires", t.expires.since(now).0, MAX_ORDER_WAIT.0)?;
    let needs = service::modes::least_budget(t, &env.zone.params.service, least_covered(t, env.zone.params.epoch));
    if t.budget < needs {
        return Err(TxError::BudgetTooSmall { needs, has: t.budget });
    }
    Ok(())
}

/// How long a lease may be, by its term.
fn order_term(t: &OrderTerms, env: &Env) -> Result<(), TxError> {
    if t.max_duration < MIN_DURATION {
        return Err(invalid("a lease runs at least one second; ask for a longer duration"));
    }
    let most = match t.term {
        Term::Fixed => env.zone.params.max_lease,
        Term::Open | Term::Rental { .. } => env.zone.params.market.max_rental,
    };
    at_most("milliseconds of duration", t.max_duration.0, most.0)?;
    at_most("milliseconds of price lock", lock_wanted(t).0, env.zone.params.market.max_rental.0)?;
    if let Term::Rental { unit, committed, locked, .. } = t.term {
        let length = unit.length().0.saturating_mul(u64::from(committed));
        if committed == 0 || locked < committed || t.max_duration.0 != length {
            return Err(invalid(
                "a rental's duration is that of its committed units, at least one and at most as many as have the price locked",
            ));
        }
    }
    Ok(())
}

/// How many conditions on certificates an order has.
pub(crate) fn certificates(t: &OrderTerms) -> u32 {
    let asked = t.constraints.iter().filter(|c| matches!(c, Constraint::Credential(_))).count();
    u32::try_from(asked).unwrap_or(u32::MAX)
}

fn order_form(t: &OrderTerms) -> Result<(), TxError> {
    resources(&t.resources)?;
    if t.resources.cpu_millis == 0 || t.resources.memory_bytes == 0 {
        return Err(invalid("an order needs CPU and memory; ask for at least 1m and 1Mi"));
    }
    at_most("conditions", t.constraints.len() as u64, MAX_CONSTRAINTS as u64)?;
    at_most("conditions on certificates", certificates(t).into(), MAX_CERTIFICATES.into())?;
    for constraint in &t.constraints {
        match constraint {
            Constraint::Region(r) => region(r)?,
            Constraint::Attribute { name, value } => {
                length("bytes of an attribute's name", name, MAX_ATTRIBUTE)?;
                length("bytes of an attribute's value", value, MAX_ATTRIBUTE)?;
            }
            Constraint::Node(_) | Constraint::Provider(_) | Constraint::NotNode(_) | Constraint::Egress(_) | Constraint::Credential(_) => {}
        }
    }
    match t.alive {
        AliveCheck::Port(0) => return Err(invalid("no service answers on port 0; name the port that the job listens on")),
        AliveCheck::Log(Millis(0)) => return Err(invalid("no log grows within nothing; name the longest silence that is still alive")),
        AliveCheck::Exec | AliveCheck::Port(_) | AliveCheck::Log(_) => {}
    }
    at_most("preferred nodes", t.preferences.len() as u64, MAX_PREFERENCES as u64)?;
    at_most("priority", u64::from(t.priority), u64::from(MAX_PRIORITY))?;
    at_most("nano-credits per hour", u64::try_from(t.max_price_per_hour.0).unwrap_or(u64::MAX), max_rate())?;
    if t.target_price_per_hour > t.max_price_per_hour {
        return Err(invalid("the target price is above the highest price; lower it, or leave it out"));
    }
    Ok(())
}

fn max_rate() -> u64 {
    u64::try_from(MAX_RATE_PER_HOUR.0).unwrap_or(u64::MAX)
}

/// The most that a match can put on hold: what the balance must cover when the order is placed.
pub(crate) fn largest_hold(t: &OrderTerms) -> Amount {
    pasture_scheduler::hold_for(t, t.max_price_per_hour)
}
