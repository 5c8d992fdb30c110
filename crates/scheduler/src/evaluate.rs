//! One order against one offer: which conditions fail, what it costs, how good it is.
//!
//! Guarantees: every failed condition is named (so that an explanation can count them), and money is computed here only.
//! It does not choose among offers: see `rank`.

use pasture_types::market::{Constraint, MAX_PREFERENCES, OfferTerms, OrderTerms};
use pasture_types::{AccountId, Amount, Millis, NodeId, OfferId, Resources};

/// Highest rate of a lease per hour; keeps every product of rate and time far from overflow.
pub const MAX_RATE_PER_HOUR: Amount = Amount::credits(1_000_000_000);

/// Milliseconds in an hour.
const HOUR_MS: u128 = 3_600_000;
/// A whole in fixed point.
const ONE: u64 = 1_000_000;
/// Weight of a low price, in parts per million of the score.
const WEIGHT_PRICE: u64 = 400_000;
/// Weight of the client's own ranking.
const WEIGHT_PREFERENCE: u64 = 350_000;
/// Weight of a tight fit, which keeps large gaps for large jobs.
const WEIGHT_FIT: u64 = 200_000;
/// Weight of a region that is exactly the one asked.
const WEIGHT_REGION: u64 = 50_000;

/// What is asked, with what the ledger knows of the asker.
#[derive(Clone, Copy, Debug)]
pub struct Need<'a> {
    /// The order.
    pub terms: &'a OrderTerms,
    /// The settlement epoch: the least that a hold must cover.
    pub epoch: Millis,
    /// What the account has, if known.
    pub balance: Option<Amount>,
}

/// A standing offer as it is now.
#[derive(Clone, Debug)]
pub struct OfferView<'a> {
    /// Which.
    pub offer: OfferId,
    /// On which node.
    pub node: NodeId,
    /// Whose.
    pub provider: AccountId,
    /// Its terms.
    pub terms: &'a OfferTerms,
    /// What is not leased of it.
    pub free: Resources,
    /// It has not stood long enough to be drawn.
    pub ageing: bool,
    /// Its node has refused this order, or let it lapse.
    pub refused: bool,
    /// Its node or provider is suspended.
    pub suspended: bool,
    /// Highest rate per hour that its deposit still covers; `None` without a bound.
    pub rate_room: Option<Amount>,
    /// Its provider's standing in parts per million.
    pub reputation_ppm: u64,
}

/// Why an offer does not serve an order, in the order in which an explanation counts them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Exclusion {
    /// It has not stood long enough.
    Ageing,
    /// Its node refused this order before.
    Refused,
    /// It is suspended.
    Suspended,
    /// It is paid in another asset.
    Asset,
    /// The order's constraint of this index does not hold.
    Constraint(usize),
    /// Too little CPU is free.
    Cpu,
    /// Too little memory is free.
    Memory,
    /// Too little disk is free.
    Disk,
    /// No such GPUs are free.
    Gpu,
    /// It takes only shorter leases.
    Duration,
    /// Its deposit does not cover a lease of this value.
    Deposit,
    /// It costs more than the order allows.
    Price,
    /// The budget does not cover one settlement epoch.
    Budget,
    /// The balance does not cover what would be put on hold.
    Balance,
}

/// What a match would mean.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quote {
    /// Rate of the whole lease per hour.
    pub rate_per_hour: Amount,
    /// What is put on hold.
    pub escrow: Amount,
    /// How good it is, in parts per million.
    pub score: u64,
}

/// The outcome for one offer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verdict {
    /// The price, where it can be computed.
    pub quote: Option<Quote>,
    /// Every condition that fails, ascending; empty if the offer serves the order.
    pub excluded: Vec<Exclusion>,
}

/// What a rate costs for a time, rounded up: what must be held so that the whole time is covered.
#[must_use]
pub fn price_for(rate: Amount, time: Millis) -> Amount {
    let product = rate.0.saturating_mul(u128::from(time.0));
    Amount(product.div_ceil(HOUR_MS))
}

/// What is put on hold for a rate: `min(budget, ceil(rate x max_duration))`.
#[must_use]
pub fn hold_for(terms: &OrderTerms, rate: Amount) -> Amount {
    price_for(rate, terms.max_duration).min(terms.budget)
}

/// How long a hold lasts at a rate: `floor(escrow x hour / rate)`; without limit if it costs nothing.
#[must_use]
pub fn affordable(escrow: Amount, rate: Amount) -> Millis {
    if rate.is_zero() {
        return Millis(u64::MAX);
    }
    let ms = escrow.mul_div(HOUR_MS, rate.0).map_or(u64::MAX, |a| u64::try_from(a.0).unwrap_or(u64::MAX));
    Millis(ms)
}

/// Judges one offer for one order.
#[must_use]
pub fn evaluate(need: &Need<'_>, offer: &OfferView<'_>) -> Verdict {
    let terms = need.terms;
    let mut excluded = Vec::new();
    let mut exclude = |when: bool, why: Exclusion| {
        if when {
            excluded.push(why);
        }
    };
    exclude(offer.ageing, Exclusion::Ageing);
    exclude(offer.refused, Exclusion::Refused);
    exclude(offer.suspended, Exclusion::Suspended);
    exclude(offer.terms.asset != terms.asset, Exclusion::Asset);
    for (index, constraint) in terms.constraints.iter().enumerate() {
        exclude(!holds(constraint, offer), Exclusion::Constraint(index));
    }
    exclude(offer.free.cpu_millis < terms.resources.cpu_millis, Exclusion::Cpu);
    exclude(offer.free.memory_bytes < terms.resources.memory_bytes, Exclusion::Memory);
    exclude(offer.free.disk_bytes < terms.resources.disk_bytes, Exclusion::Disk);
    exclude(!gpus_fit(&offer.free, &terms.resources), Exclusion::Gpu);
    exclude(offer.terms.max_duration < terms.max_duration, Exclusion::Duration);
    let rate = offer.terms.rates.hourly(&terms.resources).filter(|r| *r <= MAX_RATE_PER_HOUR);
    exclude(rate.is_some_and(|r| offer.rate_room.is_some_and(|room| r > room)), Exclusion::Deposit);
    exclude(rate.is_none_or(|r| r > terms.max_price_per_hour), Exclusion::Price);
    let Some(rate) = rate else {
        return Verdict { quote: None, excluded };
    };
    let escrow = hold_for(terms, rate);
    exclude(terms.budget < price_for(rate, need.epoch.min(terms.max_duration)), Exclusion::Budget);
    exclude(need.balance.is_some_and(|b| b < escrow), Exclusion::Balance);
    let score = score(terms, offer, rate);
    Verdict { quote: Some(Quote { rate_per_hour: rate, escrow, score }), excluded }
}

fn gpus_fit(free: &Resources, need: &Resources) -> bool {
    let only = |r: &Resources| Resources { gpus: r.gpus.clone(), ..Resources::default() };
    need.gpus.is_empty() || only(free).covers(&only(need))
}

/// Whether a region is the wanted one or lies within it (`eu` holds `eu-west`, not `europe`).
fn region_within(region: &str, wanted: &str) -> bool {
    region == wanted || region.strip_prefix(wanted).is_some_and(|rest| rest.starts_with('-'))
}

fn holds(constraint: &Constraint, offer: &OfferView<'_>) -> bool {
    match constraint {
        Constraint::Region(wanted) => region_within(&offer.terms.region, wanted),
        Constraint::Attribute { name, value } => offer.terms.attributes.iter().any(|(n, v)| n == name && v == value),
        Constraint::Node(node) => offer.node == *node,
        Constraint::Provider(provider) => offer.provider == *provider,
        Constraint::NotNode(node) => offer.node != *node,
        Constraint::Egress(egress) => offer.terms.egress >= *egress,
    }
}

/// The score: a weighted sum of parts that each lie between 0 and [`ONE`].
fn score(terms: &OrderTerms, offer: &OfferView<'_>, rate: Amount) -> u64 {
    let parts = [
        (WEIGHT_PRICE, price_part(terms.max_price_per_hour, rate)),
        (WEIGHT_PREFERENCE, preference_part(&terms.preferences, &offer.node)),
        (WEIGHT_FIT, fit_part(&offer.free, &terms.resources)),
        (WEIGHT_REGION, region_part(terms, &offer.terms.region)),
    ];
    parts.iter().map(|(weight, part)| weight * part / ONE).sum()
}

/// `(max - rate) / max`: cheaper is better.
fn price_part(max: Amount, rate: Amount) -> u64 {
    let saved = max.saturating_sub(rate);
    // Shift both so that the product fits whatever the order's maximum is.
    let shift = 128u32.saturating_sub(max.0.leading_zeros()).saturating_sub(100);
    let (saved, max) = (saved.0 >> shift, max.0 >> shift);
    (saved * u128::from(ONE)).checked_div(max).map_or(ONE, |v| u64::try_from(v).unwrap_or(ONE).min(ONE))
}

/// First in the client's list is a whole, each further place a sixteenth less; not listed is nothing.
fn preference_part(preferences: &[NodeId], node: &NodeId) -> u64 {
    match preferences.iter().take(MAX_PREFERENCES).position(|p| p == node) {
        Some(rank) => (MAX_PREFERENCES - rank) as u64 * ONE / MAX_PREFERENCES as u64,
        None => 0,
    }
}

/// The used share of what is free, averaged over CPU, memory and disk.
fn fit_part(free: &Resources, need: &Resources) -> u64 {
    let share = |need: u64, free: u64| -> u64 {
        let part = (u128::from(need) * u128::from(ONE)).checked_div(u128::from(free)).unwrap_or(u128::from(ONE));
        u64::try_from(part).unwrap_or(ONE).min(ONE)
    };
    let cpu = share(u64::from(need.cpu_millis), u64::from(free.cpu_millis));
    let memory = share(need.memory_bytes, free.memory_bytes);
    let disk = share(need.disk_bytes, free.disk_bytes);
    (cpu + memory + disk) / 3
}

/// A whole if no region was asked or it is exactly the one; half if it lies within it.
fn region_part(terms: &OrderTerms, region: &str) -> u64 {
    let asked = terms.constraints.iter().find_map(|c| match c {
        Constraint::Region(wanted) => Some(wanted.as_str()),
        _ => None,
    });
    match asked {
        Some(wanted) if wanted != region => ONE / 2,
        _ => ONE,
    }
}
