//! Why an order is or is not served: the verdicts of `evaluate`, counted filter by filter.
//!
//! Guarantees: an offer is counted at the first filter that it fails, so that the numbers add up to the offers looked at.
//! It promises nothing about the next block: offers come and go.

use crate::evaluate::{Exclusion, Need, OfferView, evaluate, price_for};
use crate::rank::{Candidate, MAX_CANDIDATES, TOP, sort};
use pasture_types::market::{Constraint, Egress, OrderTerms};
use pasture_types::resources::display_bytes;
use pasture_types::{Amount, Millis, OfferId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What helps where nothing is left to ask for less of.
const FULL: &str = "wait: the machines that fit are full now";

/// One filter's count.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Step {
    /// What is asked, for people.
    pub filter: String,
    /// Offers that passed everything before and fail here.
    pub excluded: u32,
    /// Offers that are left after this filter.
    pub remain: u32,
}

/// The nearest change that would help.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Relaxation {
    /// What to change, for people.
    pub change: String,
    /// How many offers fail nothing but this.
    pub offers: u32,
}

/// Why an order is or is not served.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Explanation {
    /// Why the order itself would be refused, before any offer is looked at.
    pub problem: Option<String>,
    /// Offers looked at.
    pub offers: u32,
    /// There were more than one explanation looks at.
    pub truncated: bool,
    /// Filter by filter.
    pub steps: Vec<Step>,
    /// Offers that serve the order.
    pub matching: u32,
    /// The best of them.
    pub best: Vec<Candidate>,
    /// What would help if none does.
    pub relaxation: Option<Relaxation>,
}

/// What one filter saw among offers that fail nothing else.
#[derive(Default)]
struct Alone {
    offers: u32,
    cpu_millis: u32,
    memory_bytes: u64,
    disk_bytes: u64,
    duration: Millis,
    lowest_rate: Option<Amount>,
}

/// Explains an order against some offers. `offers` is what the ledger would look at in a draw.
#[must_use]
pub fn explain<'a>(need: &Need<'_>, offers: impl IntoIterator<Item = OfferView<'a>>) -> Explanation {
    let mut first: BTreeMap<Exclusion, u32> = BTreeMap::new();
    let mut alone: BTreeMap<Exclusion, Alone> = BTreeMap::new();
    let mut best = Vec::new();
    let (mut seen, mut matching) = (0u32, 0u32);
    for view in offers {
        seen += 1;
        let verdict = evaluate(need, &view);
        match (verdict.excluded.as_slice(), verdict.quote) {
            ([], Some(quote)) => {
                matching += 1;
                if best.len() < MAX_CANDIDATES {
                    best.push(Candidate::new(&view, quote));
                }
            }
            ([], None) => {}
            ([why, rest @ ..], quote) => {
                *first.entry(*why).or_default() += 1;
                if rest.is_empty() {
                    note(alone.entry(*why).or_default(), &view, quote.map(|q| q.rate_per_hour));
                }
            }
        }
    }
    sort(&mut best, &OfferId::default().0);
    best.truncate(TOP);
    let steps = steps(need.terms, seen, &first);
    let relaxation = if matching == 0 { relax(need, &alone) } else { None };
    Explanation { problem: None, offers: seen, truncated: false, steps, matching, best, relaxation }
}

fn note(alone: &mut Alone, view: &OfferView<'_>, rate: Option<Amount>) {
    alone.offers += 1;
    alone.cpu_millis = alone.cpu_millis.max(view.free.cpu_millis);
    alone.memory_bytes = alone.memory_bytes.max(view.free.memory_bytes);
    alone.disk_bytes = alone.disk_bytes.max(view.free.disk_bytes);
    alone.duration = alone.duration.max(view.terms.max_duration);
    alone.lowest_rate = match (alone.lowest_rate, rate) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
}

fn steps(terms: &OrderTerms, seen: u32, first: &BTreeMap<Exclusion, u32>) -> Vec<Step> {
    let mut filters = vec![Exclusion::Ageing, Exclusion::Refused, Exclusion::Suspended, Exclusion::Asset];
    filters.extend((0..terms.constraints.len()).map(Exclusion::Constraint));
    filters.extend([Exclusion::Cpu, Exclusion::Memory, Exclusion::Disk, Exclusion::Gpu]);
    filters.extend([Exclusion::Duration, Exclusion::Deposit, Exclusion::Price, Exclusion::Budget, Exclusion::Balance]);
    let mut remain = seen;
    let mut out = Vec::new();
    for filter in filters {
        let excluded = first.get(&filter).copied().unwrap_or(0);
        remain = remain.saturating_sub(excluded);
        // Filters that the user did not ask for are named only when they bite.
        let silent = matches!(
            filter,
            Exclusion::Ageing
                | Exclusion::Refused
                | Exclusion::Suspended
                | Exclusion::Asset
                | Exclusion::Deposit
                | Exclusion::Balance
                | Exclusion::Budget
        ) || (filter == Exclusion::Gpu && terms.resources.gpus.is_empty());
        if excluded > 0 || !silent {
            out.push(Step { filter: describe(terms, filter), excluded, remain });
        }
    }
    out
}

fn describe(terms: &OrderTerms, filter: Exclusion) -> String {
    match filter {
        Exclusion::Ageing => "offer has stood long enough".into(),
        Exclusion::Refused => "node did not refuse this order".into(),
        Exclusion::Suspended => "provider is not suspended".into(),
        Exclusion::Deposit => "deposit covers a job of this price".into(),
        Exclusion::Asset => "paid in the same asset".into(),
        Exclusion::Constraint(i) => terms.constraints.get(i).map_or_else(String::new, describe_constraint),
        Exclusion::Cpu => format!("{} milli-cores free", terms.resources.cpu_millis),
        Exclusion::Memory => format!("{} memory free", display_bytes(terms.resources.memory_bytes)),
        Exclusion::Disk => format!("{} disk free", display_bytes(terms.resources.disk_bytes)),
        Exclusion::Gpu => "GPUs free".into(),
        Exclusion::Duration => format!("runs of {} s", terms.max_duration.0 / 1000),
        Exclusion::Price => format!("at most {} per hour", terms.max_price_per_hour),
        Exclusion::Budget => "budget covers one period".into(),
        Exclusion::Balance => "balance covers what is put on hold".into(),
    }
}

fn describe_constraint(constraint: &Constraint) -> String {
    match constraint {
        Constraint::Region(region) => format!("region {region}"),
        Constraint::Attribute { name, value } => format!("{name} = {value}"),
        Constraint::Node(node) => format!("node {}", node.short()),
        Constraint::Provider(provider) => format!("provider {}", provider.short()),
        Constraint::NotNode(node) => format!("not node {}", node.short()),
        Constraint::Egress(Egress::None) => "any network policy".into(),
        Constraint::Egress(Egress::Open) => "network access".into(),
    }
}

/// The single filter whose removal would let most offers in, and by how much to move it.
fn relax(need: &Need<'_>, alone: &BTreeMap<Exclusion, Alone>) -> Option<Relaxation> {
    // Of equal counts the first filter wins, so that the answer does not depend on iteration.
    let (why, best) = alone.iter().max_by_key(|(why, a)| (a.offers, std::cmp::Reverse(**why)))?;
    let terms = need.terms;
    let rate = best.lowest_rate.unwrap_or_default();
    let change = match why {
        Exclusion::Ageing => "wait a moment: a new offer can be drawn after two blocks".into(),
        Exclusion::Refused => "wait: the only nodes that fit refused this order, it is drawn again later".into(),
        Exclusion::Suspended => "wait: the only providers that fit are suspended".into(),
        Exclusion::Asset => "pay in another asset".into(),
        Exclusion::Constraint(_) => format!("leave out the condition `{}`", describe(terms, *why)),
        Exclusion::Cpu if best.cpu_millis == 0 => FULL.into(),
        Exclusion::Memory if best.memory_bytes == 0 => FULL.into(),
        Exclusion::Disk if best.disk_bytes == 0 => FULL.into(),
        Exclusion::Cpu => format!("ask for at most {} milli-cores", best.cpu_millis),
        Exclusion::Memory => format!("ask for at most {} of memory", display_bytes(best.memory_bytes)),
        Exclusion::Disk => format!("ask for at most {} of disk", display_bytes(best.disk_bytes)),
        Exclusion::Gpu => "ask for no GPU".into(),
        Exclusion::Duration => format!("ask for at most {} s", best.duration.0 / 1000),
        Exclusion::Deposit => "ask for a smaller machine: the deposits of those that fit cover no more".into(),
        Exclusion::Price => format!("allow {rate} per hour"),
        Exclusion::Budget => format!("raise the budget to {}", price_for(rate, need.epoch.min(terms.max_duration))),
        Exclusion::Balance => "lower the budget or the duration, or add credits".into(),
    };
    Some(Relaxation { change, offers: best.offers })
}
