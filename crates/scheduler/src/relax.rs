//! What a user could change so that somebody serves an order, nearest first. Spec: `docs/specs/market.md` §7.
//!
//! Guarantees: a change is proposed only after the very evaluation of a draw passed with it; single changes come before
//! pairs; the work is a bounded number of evaluations for each offer looked at. It does not know what the user would rather keep.

use crate::evaluate::{Exclusion, MAX_RATE_PER_HOUR, Need, OfferView, evaluate, least_covered, price_for};
use crate::fit::ONE;
use crate::words;
use pasture_types::market::{Constraint, Egress, OrderTerms, Term, open_for};
use pasture_types::resources::display_bytes;
use pasture_types::{Amount, GpuLine, Millis};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How many ways out are named.
pub const MAX_RELAXATIONS: usize = 3;
/// A pair of changes can make at most so many conditions hold that did not.
const MAX_EXCLUDED: usize = 3;
/// A machine with less than this part of what was asked is no way out.
const LEAST_PART: u64 = 8;
/// The farthest that one change can be.
const FAR: u64 = 10 * ONE;
/// Shortest run that is worth proposing.
const SHORTEST: Millis = Millis(1_000);

/// One change of an order.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Leave out the condition of this index.
    LeaveOut(usize),
    /// Ask for so many milli-cores.
    Cpu(u32),
    /// Ask for so many bytes of memory.
    Memory(u64),
    /// Ask for so many bytes of disk.
    Disk(u64),
    /// Ask for another model of GPU.
    GpuModel(String),
    /// Ask for at most so many GPUs of each kind.
    GpuCount(u16),
    /// Ask for at most so many bytes of memory on each GPU.
    GpuMemory(u64),
    /// Ask for no GPU.
    NoGpu,
    /// Ask for so many units of the service line of this index; none leaves it out.
    Service(usize, u64),
    /// Run for so long.
    Duration(Millis),
    /// Let the node end the job early, with notice.
    Preemptible,
    /// Have the price locked for so many units only.
    Locked(u32),
    /// Ask for a fixed length without a price lock.
    FixedTerm,
    /// Allow this rate per hour.
    Price(Amount),
    /// Raise the budget to this.
    Budget(Amount),
}

impl Change {
    /// The order with this change.
    #[must_use]
    pub fn apply(&self, terms: &OrderTerms) -> OrderTerms {
        let mut t = terms.clone();
        match self {
            Self::LeaveOut(at) if *at < t.constraints.len() => drop(t.constraints.remove(*at)),
            Self::LeaveOut(_) => {}
            Self::Cpu(millis) => t.resources.cpu_millis = *millis,
            Self::Memory(bytes) => t.resources.memory_bytes = *bytes,
            Self::Disk(bytes) => t.resources.disk_bytes = *bytes,
            Self::GpuModel(model) => t.resources.gpus.iter_mut().for_each(|g| g.model.clone_from(model)),
            Self::GpuCount(count) => t.resources.gpus.iter_mut().for_each(|g| g.count = g.count.min(*count)),
            Self::GpuMemory(bytes) => t.resources.gpus.iter_mut().for_each(|g| g.vram_bytes = g.vram_bytes.min(*bytes)),
            Self::NoGpu => t.resources.gpus.clear(),
            Self::Service(at, 0) if *at < t.resources.services.len() => drop(t.resources.services.remove(*at)),
            Self::Service(at, units) => t.resources.services.iter_mut().skip(*at).take(1).for_each(|s| s.units = *units),
            Self::Duration(time) => t.max_duration = *time,
            Self::Preemptible => t.preemptible = true,
            Self::Locked(units) => {
                if let Term::Rental { locked, .. } = &mut t.term {
                    *locked = *units;
                }
            }
            Self::FixedTerm => t.term = Term::Fixed,
            Self::Price(rate) => t.max_price_per_hour = *rate,
            Self::Budget(budget) => t.budget = *budget,
        }
        t
    }

    /// How far it is from what was asked: the change relative to it, in parts per million; leaving something out is a whole.
    fn distance(&self, terms: &OrderTerms) -> u64 {
        let r = &terms.resources;
        let moved = |from: u128, to: u128| -> u64 {
            let ppm = from.abs_diff(to).saturating_mul(u128::from(ONE)).checked_div(from).unwrap_or(u128::from(FAR));
            u64::try_from(ppm).unwrap_or(FAR).min(FAR)
        };
        match self {
            Self::LeaveOut(_) | Self::GpuModel(_) | Self::FixedTerm | Self::Service(_, 0) => ONE,
            Self::NoGpu => 2 * ONE,
            Self::Preemptible => ONE / 2,
            Self::Cpu(to) => moved(r.cpu_millis.into(), (*to).into()),
            Self::Memory(to) => moved(r.memory_bytes.into(), (*to).into()),
            Self::Disk(to) => moved(r.disk_bytes.into(), (*to).into()),
            Self::GpuCount(to) => r.gpus.iter().map(|g| moved(g.count.into(), (*to).min(g.count).into())).max().unwrap_or(0),
            Self::GpuMemory(to) => r.gpus.iter().map(|g| moved(g.vram_bytes.into(), (*to).min(g.vram_bytes).into())).max().unwrap_or(0),
            Self::Service(at, to) => r.services.get(*at).map_or(FAR, |s| moved(s.units.into(), (*to).into())),
            Self::Duration(to) => moved(terms.max_duration.0.into(), to.0.into()),
            Self::Locked(to) => match terms.term {
                Term::Rental { locked, .. } => moved(locked.into(), (*to).into()),
                Term::Fixed | Term::Open => 0,
            },
            Self::Price(to) => moved(terms.max_price_per_hour.0, to.0),
            Self::Budget(to) => moved(terms.budget.0, to.0),
        }
    }

    /// What kind of change it is: of several of one kind only the nearest is named.
    const fn kind(&self) -> (u8, usize) {
        match self {
            Self::LeaveOut(at) => (0, *at),
            Self::Cpu(_) => (1, 0),
            Self::Memory(_) => (2, 0),
            Self::Disk(_) => (3, 0),
            Self::GpuModel(_) => (4, 0),
            Self::GpuCount(_) => (5, 0),
            Self::GpuMemory(_) => (6, 0),
            Self::NoGpu => (7, 0),
            Self::Service(at, _) => (8, *at),
            Self::Duration(_) => (9, 0),
            Self::Preemptible => (10, 0),
            Self::Locked(_) => (11, 0),
            Self::FixedTerm => (12, 0),
            Self::Price(_) => (13, 0),
            Self::Budget(_) => (14, 0),
        }
    }

    /// For people.
    fn words(&self, terms: &OrderTerms) -> String {
        match self {
            Self::LeaveOut(at) => format!("leave out the condition `{}`", words::filter(terms, Exclusion::Constraint(*at))),
            Self::Cpu(millis) => format!("ask for at most {millis} milli-cores"),
            Self::Memory(bytes) => format!("ask for at most {} of memory", display_bytes(*bytes)),
            Self::Disk(bytes) => format!("ask for at most {} of disk", display_bytes(*bytes)),
            Self::GpuModel(model) => format!("ask for {model} instead of {}", words::gpus(&terms.resources.gpus)),
            Self::GpuCount(count) => format!("ask for at most {count} GPU{}", if *count == 1 { "" } else { "s" }),
            Self::GpuMemory(bytes) => format!("ask for at most {} on each GPU", display_bytes(*bytes)),
            Self::NoGpu => "ask for no GPU".into(),
            Self::Service(at, units) => {
                let class = terms.resources.services.get(*at).map_or("", |s| s.class.as_str());
                if *units == 0 { format!("ask for no {class}") } else { format!("ask for at most {units} {class}") }
            }
            Self::Duration(time) if *time > terms.max_duration => format!("ask for at least {}", words::time(*time)),
            Self::Duration(time) => format!("ask for at most {}", words::time(*time)),
            Self::Preemptible => "let the node end it early, with notice (preemptible)".into(),
            Self::Locked(1) => "lock the price for one unit only".into(),
            Self::Locked(units) => format!("lock the price for at most {units} units"),
            Self::FixedTerm => "ask for a fixed length, without a price lock".into(),
            Self::Price(rate) => format!("allow {rate} per hour"),
            Self::Budget(budget) => format!("raise the budget to {budget}"),
        }
    }
}

/// A change, or two, that would help.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Relaxation {
    /// What to change, for people.
    pub change: String,
    /// The same for programs; empty where only waiting helps. Indexes are those of the order as it was asked.
    pub changes: Vec<Change>,
    /// How many of the offers looked at it would admit.
    pub offers: u32,
    /// The cheapest of them.
    pub rate_per_hour: Option<Amount>,
}

impl Relaxation {
    /// The order with these changes.
    #[must_use]
    pub fn apply(&self, terms: &OrderTerms) -> OrderTerms {
        // From the last kind and index to the first, so that leaving one condition out does not renumber another.
        let mut ordered: Vec<&Change> = self.changes.iter().collect();
        ordered.sort_by_key(|c| std::cmp::Reverse(c.kind()));
        ordered.iter().fold(terms.clone(), |t, c| c.apply(&t))
    }
}

/// The order with changes, for judging it: what is left out stays in its place as a condition that always holds, since what
/// is known of an offer's credentials goes by the places of the conditions.
fn judged(changes: &[Change], terms: &OrderTerms) -> OrderTerms {
    changes.iter().fold(terms.clone(), |mut t, change| match change {
        Change::LeaveOut(at) => {
            t.constraints.iter_mut().skip(*at).take(1).for_each(|c| *c = Constraint::Egress(Egress::None));
            t
        }
        Change::Service(at, 0) => {
            t.resources.services.iter_mut().skip(*at).take(1).for_each(|s| s.units = 0);
            t
        }
        other => other.apply(&t),
    })
}

/// The changes that might make an exclusion go away, with the values of this very offer.
fn options(need: &Need<'_>, offer: &OfferView<'_>, rate: Option<Amount>, why: Exclusion) -> Vec<Change> {
    let (terms, asked, free) = (need.terms, &need.terms.resources, &offer.free);
    let enough = |to: u64, from: u64| to > 0 && to >= from / LEAST_PART;
    let when = |fits: bool, change: Change| if fits { vec![change] } else { vec![] };
    match why {
        Exclusion::Constraint(at) => vec![Change::LeaveOut(at)],
        Exclusion::Cpu => when(enough(free.cpu_millis.into(), asked.cpu_millis.into()), Change::Cpu(free.cpu_millis)),
        Exclusion::Memory => when(enough(free.memory_bytes, asked.memory_bytes), Change::Memory(free.memory_bytes)),
        Exclusion::Disk => when(enough(free.disk_bytes, asked.disk_bytes), Change::Disk(free.disk_bytes)),
        Exclusion::Gpu => gpu_options(&asked.gpus, &free.gpus),
        Exclusion::Service(at) => {
            let units = asked.services.get(at).map_or(0, |s| free.units_of(&s.class));
            vec![Change::Service(at, units)]
        }
        Exclusion::Duration => lasting(need, offer.terms.max_duration),
        Exclusion::TooShort => lasting(need, offer.terms.min_duration),
        Exclusion::Window => match open_for(&offer.terms.windows, need.now) {
            Some(left) => {
                let mut out = lasting(need, Millis(left.0 / SHORTEST.0 * SHORTEST.0));
                out.push(Change::Preemptible);
                out
            }
            None => vec![],
        },
        Exclusion::Lock => {
            let mut out = lock_options(terms, offer.terms.price_lock);
            out.extend(when(terms.max_duration <= need.max_lease, Change::FixedTerm));
            out
        }
        Exclusion::Price => rate.map(Change::Price).into_iter().collect(),
        // At the highest price that the order allows: an order with less is not taken at all.
        Exclusion::Budget => {
            let most = terms.max_price_per_hour.min(MAX_RATE_PER_HOUR);
            vec![Change::Budget(price_for(most, least_covered(terms, need.epoch)))]
        }
        Exclusion::Ageing
        | Exclusion::Paused
        | Exclusion::Lapsed
        | Exclusion::Refused
        | Exclusion::Suspended
        | Exclusion::Asset
        | Exclusion::Leases
        | Exclusion::Deposit
        | Exclusion::Balance => vec![],
    }
}

/// Another length, where the order may have it: a rental's follows from its units.
fn lasting(need: &Need<'_>, time: Millis) -> Vec<Change> {
    let may = match need.terms.term {
        Term::Fixed => time <= need.max_lease,
        Term::Open => time <= need.market.max_rental,
        Term::Rental { .. } => false,
    };
    if may && time >= SHORTEST { vec![Change::Duration(time)] } else { vec![] }
}

/// A shorter price lock.
fn lock_options(terms: &OrderTerms, lock: Millis) -> Vec<Change> {
    match terms.term {
        Term::Fixed => vec![],
        Term::Open if lock >= SHORTEST => vec![Change::Duration(lock)],
        Term::Open => vec![],
        Term::Rental { unit, committed, .. } => match u32::try_from(lock.0 / unit.length().0) {
            Ok(units) if units >= committed => vec![Change::Locked(units)],
            _ => vec![],
        },
    }
}

fn gpu_options(asked: &[GpuLine], free: &[GpuLine]) -> Vec<Change> {
    let mut out = vec![Change::NoGpu];
    for line in free {
        if asked.iter().all(|a| a.model != line.model) {
            out.push(Change::GpuModel(line.model.clone()));
            continue;
        }
        out.push(Change::GpuCount(line.count));
        out.push(Change::GpuMemory(line.vram_bytes));
    }
    out
}

/// What was found so far: by kinds of changes, the nearest of each.
type Found = BTreeMap<Vec<(u8, usize)>, (u64, Vec<Change>)>;

fn note(found: &mut Found, terms: &OrderTerms, changes: Vec<Change>) {
    let kinds = changes.iter().map(Change::kind).collect();
    let distance = changes.iter().map(|c| c.distance(terms)).fold(0, u64::saturating_add);
    let best = found.entry(kinds).or_insert_with(|| (distance, changes.clone()));
    if distance < best.0 {
        *best = (distance, changes);
    }
}

/// The nearest single changes that admit somebody or, if there are none, the nearest pairs.
pub(crate) fn relaxations(need: &Need<'_>, offers: &[OfferView<'_>]) -> Vec<Relaxation> {
    let (mut singles, mut pairs) = (Found::new(), Found::new());
    for offer in offers {
        search(need, offer, &mut singles, &mut pairs);
    }
    let found = if singles.is_empty() { pairs } else { singles };
    let mut nearest: Vec<(u64, Vec<Change>)> = found.into_values().collect();
    nearest.sort();
    nearest.truncate(MAX_RELAXATIONS);
    nearest.into_iter().map(|(_, changes)| priced(need, offers, changes)).collect()
}

fn search(need: &Need<'_>, offer: &OfferView<'_>, singles: &mut Found, pairs: &mut Found) {
    let verdict = evaluate(need, offer);
    if verdict.excluded.len() > MAX_EXCLUDED {
        return;
    }
    let rate = verdict.quote.map(|q| q.rate_per_hour);
    for why in &verdict.excluded {
        for change in options(need, offer, rate, *why) {
            let terms = judged(std::slice::from_ref(&change), need.terms);
            let then = evaluate(&Need { terms: &terms, ..*need }, offer);
            if then.serves().is_some() {
                note(singles, need.terms, vec![change]);
                continue;
            }
            // Pairs are of use only while there is no single change.
            if singles.is_empty() {
                second(need, offer, &change, pairs);
            }
        }
    }
}

/// Looks for a second change beside a first one: what still fails then may be what failed before or follow from the first.
fn second(need: &Need<'_>, offer: &OfferView<'_>, first: &Change, pairs: &mut Found) {
    let terms = judged(std::slice::from_ref(first), need.terms);
    let with_first = Need { terms: &terms, ..*need };
    let then = evaluate(&with_first, offer);
    let rate = then.quote.map(|q| q.rate_per_hour);
    for why in &then.excluded {
        for change in options(&with_first, offer, rate, *why) {
            if change.kind() <= first.kind() {
                continue;
            }
            let both = vec![first.clone(), change];
            if evaluate(&Need { terms: &judged(&both, need.terms), ..*need }, offer).serves().is_some() {
                note(pairs, need.terms, both);
            }
        }
    }
}

/// How many offers changes admit, and at which price.
fn priced(need: &Need<'_>, offers: &[OfferView<'_>], changes: Vec<Change>) -> Relaxation {
    let terms = judged(&changes, need.terms);
    let changed = Need { terms: &terms, ..*need };
    let rates: Vec<Amount> = offers.iter().filter_map(|o| evaluate(&changed, o).serves()).map(|q| q.rate_per_hour).collect();
    let change = changes.iter().map(|c| c.words(need.terms)).collect::<Vec<_>>().join(" and ");
    let offers = u32::try_from(rates.len()).unwrap_or(u32::MAX);
    Relaxation { change, changes, offers, rate_per_hour: rates.into_iter().min() }
}
