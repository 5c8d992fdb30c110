//! One order against one offer: which conditions fail, what it costs, how good it is. Spec: `docs/specs/market.md` §4.
//!
//! Guarantees: every failed condition is named (so that an explanation can count them), and money is computed here only.
//! It does not choose among offers: see `rank`.

use crate::score::score;
use pasture_types::market::{Constraint, OfferTerms, OrderTerms, Term, open_for, region_within};
use pasture_types::market_rules::MarketParams;
use pasture_types::{AccountId, Amount, Millis, NodeId, OfferId, Resources, Timestamp};

/// Highest rate of a lease per hour; keeps every product of rate and time far from overflow.
pub const MAX_RATE_PER_HOUR: Amount = Amount::credits(1_000_000_000);

/// Milliseconds in an hour.
const HOUR_MS: u128 = 3_600_000;

/// What is asked, with what the ledger knows of the asker and of the moment.
#[derive(Clone, Copy, Debug)]
pub struct Need<'a> {
    /// The order.
    pub terms: &'a OrderTerms,
    /// The settlement epoch: the least that a hold must cover.
    pub epoch: Millis,
    /// Ledger time.
    pub now: Timestamp,
    /// The zone's longest lease of fixed length.
    pub max_lease: Millis,
    /// What the account has, if known.
    pub balance: Option<Amount>,
    /// The market's parameters.
    pub market: &'a MarketParams,
    /// The drawn seed.
    pub seed: &'a [u8; 32],
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
    /// Leases that it has now.
    pub leases: u32,
    /// It has not stood long enough to be drawn.
    pub ageing: bool,
    /// Its provider lets it rest.
    pub paused: bool,
    /// Its node has refused this order, or let it lapse.
    pub refused: bool,
    /// Its node or provider is suspended.
    pub suspended: bool,
    /// Highest rate per hour that its deposit still covers; `None` without a bound.
    pub rate_room: Option<Amount>,
    /// Its provider's standing in parts per million.
    pub reputation_ppm: u64,
    /// How the asker's own leases with this provider went, in parts per million.
    pub history_ppm: u64,
    /// Bit `i`: the order's constraint `i` is about a credential, and there is one.
    pub credentials: u16,
}

/// Why an offer does not serve an order, in the order in which an explanation counts them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Exclusion {
    /// It has not stood long enough.
    Ageing,
    /// Its provider lets it rest.
    Paused,
    /// It is not valid any more.
    Lapsed,
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
    /// Too few units of the order's service line of this index are free.
    Service(usize),
    /// It has as many leases as it takes.
    Leases,
    /// It takes only shorter leases.
    Duration,
    /// It takes only longer leases.
    TooShort,
    /// It is not available now, or not for so long.
    Window,
    /// It does not keep its price for so long.
    Lock,
    /// Its deposit does not cover a lease of this value.
    Deposit,
    /// It costs more than the order allows.
    Price,
    /// The budget does not cover one settlement epoch, or a rental's committed term.
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
    /// How good it is, in parts per million; nothing for an offer that is excluded.
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

impl Verdict {
    /// The quote of an offer that serves the order.
    #[must_use]
    pub fn serves(&self) -> Option<Quote> {
        self.quote.filter(|_| self.excluded.is_empty())
    }
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

/// For how long an order wants its price kept; nothing for a lease of fixed length.
#[must_use]
pub fn lock_wanted(terms: &OrderTerms) -> Millis {
    match terms.term {
        Term::Fixed => Millis(0),
        Term::Open => terms.max_duration,
        Term::Rental { unit, locked, .. } => Millis(unit.length().0.saturating_mul(u64::from(locked))),
    }
}

/// The shortest time that a hold must pay for: a settlement epoch, or a rental's whole committed term.
#[must_use]
pub fn least_covered(terms: &OrderTerms, epoch: Millis) -> Millis {
    match terms.term {
        Term::Fixed | Term::Open => epoch.min(terms.max_duration),
        Term::Rental { .. } => terms.max_duration,
    }
}

/// Judges one offer for one order.
#[must_use]
pub fn evaluate(need: &Need<'_>, offer: &OfferView<'_>) -> Verdict {
    let (terms, standing) = (need.terms, offer.terms);
    let mut excluded = Vec::new();
    let mut exclude = |when: bool, why: Exclusion| {
        if when {
            excluded.push(why);
        }
    };
    exclude(offer.ageing, Exclusion::Ageing);
    exclude(offer.paused, Exclusion::Paused);
    exclude(standing.valid_until.is_some_and(|until| need.now > until), Exclusion::Lapsed);
    exclude(offer.refused, Exclusion::Refused);
    exclude(offer.suspended, Exclusion::Suspended);
    exclude(standing.asset != terms.asset, Exclusion::Asset);
    for (index, constraint) in terms.constraints.iter().enumerate() {
        exclude(!holds(constraint, index, offer), Exclusion::Constraint(index));
    }
    let asked = &terms.resources;
    exclude(offer.free.cpu_millis < asked.cpu_millis, Exclusion::Cpu);
    exclude(offer.free.memory_bytes < asked.memory_bytes, Exclusion::Memory);
    exclude(offer.free.disk_bytes < asked.disk_bytes, Exclusion::Disk);
    exclude(!asked.gpus.is_empty() && offer.free.place_gpus(&asked.gpus).is_none(), Exclusion::Gpu);
    for (index, line) in asked.services.iter().enumerate() {
        exclude(offer.free.units_of(&line.class) < line.units, Exclusion::Service(index));
    }
    exclude(standing.max_leases > 0 && offer.leases >= standing.max_leases, Exclusion::Leases);
    exclude(terms.term == Term::Fixed && standing.max_duration < terms.max_duration, Exclusion::Duration);
    exclude(terms.max_duration < standing.min_duration, Exclusion::TooShort);
    let open = open_for(&standing.windows, need.now);
    exclude(open.is_none_or(|left| left < terms.max_duration && !terms.preemptible), Exclusion::Window);
    exclude(terms.term != Term::Fixed && standing.price_lock < lock_wanted(terms).max(Millis(1)), Exclusion::Lock);
    let Some(rate) = rate(offer, asked) else {
        // What it does not have at all has no price; a rate beyond the limit is one that nobody may pay.
        exclude(has_all_lines(standing, asked), Exclusion::Price);
        return Verdict { quote: None, excluded };
    };
    exclude(offer.rate_room.is_some_and(|room| rate > room), Exclusion::Deposit);
    exclude(rate > terms.max_price_per_hour, Exclusion::Price);
    let escrow = hold_for(terms, rate);
    exclude(terms.budget < price_for(rate, least_covered(terms, need.epoch)), Exclusion::Budget);
    exclude(need.balance.is_some_and(|b| b < escrow), Exclusion::Balance);
    let score = if excluded.is_empty() { score(need, offer, rate) } else { 0 };
    Verdict { quote: Some(Quote { rate_per_hour: rate, escrow, score }), excluded }
}

/// Whether an offer has lines for all GPUs and service classes that are asked, free or not.
fn has_all_lines(standing: &OfferTerms, asked: &Resources) -> bool {
    standing.resources.place_gpus(&asked.gpus).is_some()
        && asked.services.iter().all(|s| s.units == 0 || standing.resources.units_of(&s.class) > 0)
}

/// The rate of a whole lease: with the GPUs that are free, else with those that the offer has in all.
fn rate(offer: &OfferView<'_>, asked: &Resources) -> Option<Amount> {
    let all = &offer.terms.resources;
    let rates = &offer.terms.rates;
    let rate = if asked.gpus.is_empty() {
        rates.hourly_of(all, asked)
    } else {
        let gpus = offer.free.place_gpus(&asked.gpus).or_else(|| all.place_gpus(&asked.gpus))?;
        rates.hourly_of(all, &Resources { gpus, ..asked.clone() })
    };
    rate.filter(|r| *r <= MAX_RATE_PER_HOUR)
}

fn holds(constraint: &Constraint, index: usize, offer: &OfferView<'_>) -> bool {
    match constraint {
        Constraint::Region(wanted) => region_within(&offer.terms.region, wanted),
        Constraint::Attribute { name, value } => offer.terms.attributes.iter().any(|(n, v)| n == name && v == value),
        Constraint::Node(node) => offer.node == *node,
        Constraint::Provider(provider) => offer.provider == *provider,
        Constraint::NotNode(node) => offer.node != *node,
        Constraint::Egress(egress) => offer.terms.egress >= *egress,
        Constraint::Credential(_) => u32::try_from(index).ok().and_then(|i| offer.credentials.checked_shr(i)).is_some_and(|b| b & 1 == 1),
    }
}
