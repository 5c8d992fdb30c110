//! Why an order is or is not served: the verdicts of `evaluate`, counted filter by filter. Spec: `docs/specs/market.md` §7.
//!
//! Guarantees: an offer is counted at the first filter that it fails, so that the numbers add up to the offers looked at.
//! It promises nothing about the next block: offers come and go.

use crate::evaluate::{Exclusion, Need, OfferView, evaluate};
use crate::rank::{Candidate, TOP, sort};
use crate::relax::{Relaxation, relaxations};
use crate::words;
use pasture_types::Amount;
use pasture_types::market::{OrderTerms, Term};
use pasture_types::market_rules::MAX_CANDIDATES;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

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
    /// What would help if none does: the nearest changes, nearest first, and waiting last.
    pub relaxations: Vec<Relaxation>,
}

/// Explains an order against some offers. `offers` is what the ledger would look at in a draw.
#[must_use]
pub fn explain<'a>(need: &Need<'_>, offers: impl IntoIterator<Item = OfferView<'a>>) -> Explanation {
    let offers: Vec<OfferView<'a>> = offers.into_iter().collect();
    let mut first: BTreeMap<Exclusion, u32> = BTreeMap::new();
    let mut waiting: BTreeMap<Wait, (u32, Option<Amount>)> = BTreeMap::new();
    let mut best = Vec::new();
    let mut matching = 0u32;
    for view in &offers {
        let verdict = evaluate(need, view);
        if let Some(quote) = verdict.serves() {
            matching += 1;
            if best.len() < MAX_CANDIDATES as usize {
                best.push(Candidate::new(view, quote));
            }
        }
        if let Some(why) = verdict.excluded.first() {
            *first.entry(*why).or_default() += 1;
        }
        if let Some(wait) = wait_for(need, view, &verdict.excluded) {
            let entry = waiting.entry(wait).or_default();
            entry.0 += 1;
            entry.1 = [entry.1, verdict.quote.map(|q| q.rate_per_hour)].into_iter().flatten().min();
        }
    }
    sort(&mut best, need.seed);
    best.truncate(TOP);
    let seen = u32::try_from(offers.len()).unwrap_or(u32::MAX);
    let steps = steps(need.terms, seen, &first);
    let mut relaxed = if matching == 0 { relaxations(need, &offers) } else { vec![] };
    // Of equal counts the first reason wins, so that the answer does not depend on iteration.
    let longest = waiting.into_iter().max_by_key(|(why, (offers, _))| (*offers, std::cmp::Reverse(*why)));
    if let Some((why, (offers, rate_per_hour))) = longest.filter(|_| matching == 0) {
        relaxed.truncate(crate::relax::MAX_RELAXATIONS - 1);
        relaxed.push(Relaxation { change: why.words().into(), changes: vec![], offers, rate_per_hour });
    }
    Explanation { problem: None, offers: seen, truncated: false, steps, matching, best, relaxations: relaxed }
}

/// What may become better by itself.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Wait {
    Ageing,
    Full,
    Closed,
    Paused,
    Refused,
    Suspended,
    Deposit,
    Balance,
}

impl Wait {
    const fn words(self) -> &'static str {
        match self {
            Self::Ageing => "wait a moment: a new offer can be drawn after two blocks",
            Self::Full => "wait: the machines that fit are full now",
            Self::Closed => "wait: the machines that fit are not available at this hour",
            Self::Paused => "wait: the offers that fit are paused",
            Self::Refused => "wait: the only nodes that fit refused this order, it is drawn again later",
            Self::Suspended => "wait: the only providers that fit are suspended",
            Self::Deposit => "ask for a smaller machine: the deposits of those that fit cover no more",
            Self::Balance => "lower the budget or the duration, or add credits",
        }
    }
}

/// What an offer that could serve the order waits for, if there is nothing else.
fn wait_for(need: &Need<'_>, view: &OfferView<'_>, excluded: &[Exclusion]) -> Option<Wait> {
    let asked = &need.terms.resources;
    let all = &view.terms.resources;
    let reason = |why: &Exclusion| match why {
        Exclusion::Ageing => Some(Wait::Ageing),
        Exclusion::Paused => Some(Wait::Paused),
        Exclusion::Refused => Some(Wait::Refused),
        Exclusion::Suspended => Some(Wait::Suspended),
        Exclusion::Leases => Some(Wait::Full),
        Exclusion::Cpu | Exclusion::Memory | Exclusion::Disk | Exclusion::Gpu | Exclusion::Service(_) if all.covers(asked) => {
            Some(Wait::Full)
        }
        Exclusion::Window if pasture_types::market::open_for(&view.terms.windows, need.now).is_none() => Some(Wait::Closed),
        Exclusion::Deposit => Some(Wait::Deposit),
        Exclusion::Balance => Some(Wait::Balance),
        _ => None,
    };
    let reasons: Option<Vec<Wait>> = excluded.iter().map(reason).collect();
    reasons?.into_iter().max()
}

fn steps(terms: &OrderTerms, seen: u32, first: &BTreeMap<Exclusion, u32>) -> Vec<Step> {
    let mut filters = vec![Exclusion::Ageing, Exclusion::Paused, Exclusion::Lapsed, Exclusion::Refused, Exclusion::Suspended];
    filters.push(Exclusion::Asset);
    filters.extend((0..terms.constraints.len()).map(Exclusion::Constraint));
    filters.extend([Exclusion::Cpu, Exclusion::Memory, Exclusion::Disk, Exclusion::Gpu]);
    filters.extend((0..terms.resources.services.len()).map(Exclusion::Service));
    filters.extend([Exclusion::Leases, Exclusion::Duration, Exclusion::TooShort, Exclusion::Window, Exclusion::Lock]);
    filters.extend([Exclusion::Deposit, Exclusion::Price, Exclusion::Budget, Exclusion::Balance]);
    let mut remain = seen;
    let mut out = Vec::new();
    for filter in filters {
        let excluded = first.get(&filter).copied().unwrap_or(0);
        remain = remain.saturating_sub(excluded);
        // Filters that the user did not ask for are named only when they bite.
        let asked = match filter {
            Exclusion::Constraint(_) | Exclusion::Cpu | Exclusion::Memory | Exclusion::Disk | Exclusion::Service(_) | Exclusion::Price => {
                true
            }
            Exclusion::Gpu => !terms.resources.gpus.is_empty(),
            Exclusion::Duration => terms.term == Term::Fixed,
            Exclusion::Lock => terms.term != Term::Fixed,
            _ => false,
        };
        if excluded > 0 || asked {
            out.push(Step { filter: words::filter(terms, filter), excluded, remain });
        }
    }
    out
}
