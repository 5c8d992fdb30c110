//! Conditions and changes in words for people. Spec: `docs/specs/market.md` §7.
//!
//! Guarantees: no number that means "no limit" or that no machine, price or time can have is ever written out. It decides nothing.

use crate::evaluate::{Exclusion, MAX_RATE_PER_HOUR, lock_wanted};
use pasture_types::credential::{CredentialKind, CredentialQuery};
use pasture_types::market::{Constraint, Egress, OrderTerms, Term};
use pasture_types::resources::display_bytes;
use pasture_types::{Amount, GpuLine, Millis};

/// More CPU than any machine has.
const ANY_CPU_MILLIS: u32 = 1_000_000_000;
/// More bytes than any machine has.
const ANY_BYTES: u64 = 1 << 60;
/// Longer than any lease.
const ANY_TIME: Millis = Millis(10 * 366 * 24 * 3_600_000);

pub(crate) fn cpu(millis: u32) -> String {
    if millis > ANY_CPU_MILLIS { "more CPU than any machine has".into() } else { format!("{millis} milli-cores") }
}

pub(crate) fn bytes(bytes: u64, what: &str) -> String {
    if bytes > ANY_BYTES { format!("more {what} than any machine has") } else { format!("{} {what}", display_bytes(bytes)) }
}

pub(crate) fn time(time: Millis) -> String {
    match time.0 {
        _ if time > ANY_TIME => "any length".into(),
        ms if ms.is_multiple_of(1_000) => format!("{} s", ms / 1_000),
        ms => format!("{ms} ms"),
    }
}

pub(crate) fn gpus(lines: &[GpuLine]) -> String {
    let one = |g: &GpuLine| {
        let memory = if g.vram_bytes == 0 { String::new() } else { format!(" with {}", bytes(g.vram_bytes, "memory")) };
        format!("{}x {}{memory}", g.count, g.model)
    };
    lines.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn price(most: Amount) -> String {
    if most >= MAX_RATE_PER_HOUR { "any price".into() } else { format!("at most {most} per hour") }
}

/// One filter of an order.
pub(crate) fn filter(terms: &OrderTerms, filter: Exclusion) -> String {
    let r = &terms.resources;
    match filter {
        Exclusion::Ageing => "offer has stood long enough".into(),
        Exclusion::Paused => "offer is not paused".into(),
        Exclusion::Lapsed => "offer is still valid".into(),
        Exclusion::Refused => "node did not refuse this order".into(),
        Exclusion::Suspended => "provider is not suspended".into(),
        Exclusion::Deposit => "deposit covers a job of this price".into(),
        Exclusion::Asset => "paid in the same asset".into(),
        Exclusion::Constraint(i) => terms.constraints.get(i).map_or_else(String::new, constraint),
        Exclusion::Cpu => format!("{} free", cpu(r.cpu_millis)),
        Exclusion::Memory => format!("{} free", bytes(r.memory_bytes, "memory")),
        Exclusion::Disk => format!("{} free", bytes(r.disk_bytes, "disk")),
        Exclusion::Gpu => format!("{} free", gpus(&r.gpus)),
        Exclusion::Service(i) => r.services.get(i).map_or_else(String::new, |s| format!("{} {} free", s.units, s.class)),
        Exclusion::Leases => "offer takes another job".into(),
        Exclusion::Duration => format!("runs of {}", time(terms.max_duration)),
        Exclusion::TooShort => format!("runs as short as {}", time(terms.max_duration)),
        Exclusion::Window if terms.preemptible => "available now".into(),
        Exclusion::Window => format!("available now and for {}", time(terms.max_duration)),
        Exclusion::Lock => format!("keeps its price for {}", time(lock_wanted(terms))),
        Exclusion::Price => price(terms.max_price_per_hour),
        Exclusion::Budget if matches!(terms.term, Term::Rental { .. }) => "budget covers the committed term".into(),
        Exclusion::Budget => "budget covers one period".into(),
        Exclusion::Balance => "balance covers what is put on hold".into(),
    }
}

/// One condition of an order.
pub(crate) fn constraint(constraint: &Constraint) -> String {
    match constraint {
        Constraint::Region(region) => format!("region {region}"),
        Constraint::Attribute { name, value } => format!("{name} = {value}"),
        Constraint::Node(node) => format!("node {}", node.short()),
        Constraint::Provider(provider) => format!("provider {}", provider.short()),
        Constraint::NotNode(node) => format!("not node {}", node.short()),
        Constraint::Egress(Egress::None) => "any network policy".into(),
        Constraint::Egress(Egress::Open) => "network access".into(),
        Constraint::Credential(query) => credential(query),
    }
}

fn credential(query: &CredentialQuery) -> String {
    let from = query.issuer.map_or_else(String::new, |i| format!(" from {}", i.short()));
    let bound = if query.at_least > u64::from(u32::MAX) { "any number".into() } else { query.at_least.to_string() };
    match query.kind {
        CredentialKind::DataCentreTier => format!("certificate of data-centre tier {bound} or better{from}"),
        CredentialKind::Carbon => format!("certificate of at most {bound} g CO2 per kWh{from}"),
        CredentialKind::Region => format!("certificate of its region, level {bound} or better{from}"),
        CredentialKind::Audit => format!("certificate of an audit, level {bound} or better{from}"),
    }
}
