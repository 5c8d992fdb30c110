//! How good an offer is for an order: a weighted sum of parts in fixed point. Spec: `docs/specs/market.md` §5.
//!
//! Guarantees: a score is at most a million if the weights add up to that; nothing enters but the ledger's own state and the
//! client's signed list. It excludes nothing: see `evaluate`.

use crate::evaluate::{Need, OfferView};
use crate::fit::{Demand, Machine, ONE, fit_part};
use pasture_types::ids::derive;
use pasture_types::market::{Constraint, MAX_PREFERENCES, OrderTerms};
use pasture_types::market_rules::FitPolicy;
use pasture_types::{Amount, NodeId};

const FIT_DOMAIN: &str = "pasture 2026-11 random fit v1";

/// The score: each part lies between 0 and [`ONE`].
pub(crate) fn score(need: &Need<'_>, offer: &OfferView<'_>, rate: Amount) -> u64 {
    let (terms, w) = (need.terms, &need.market.weights);
    let parts = [
        (w.price, price_part(terms.target_price_per_hour, terms.max_price_per_hour, rate)),
        (w.preference, preference_part(&terms.preferences, &offer.node)),
        (w.fit, fit(need, offer)),
        (w.region, region_part(terms, &offer.terms.region)),
        (w.reputation, offer.reputation_ppm.min(ONE)),
        (w.history, offer.history_ppm.min(ONE)),
    ];
    parts.iter().map(|(weight, part)| u64::from(*weight) * part / ONE).sum()
}

/// 1 up to the target, then `(max - rate) / (max - target)`: cheaper is better, but not below what was hoped for.
fn price_part(target: Amount, max: Amount, rate: Amount) -> u64 {
    if rate <= target {
        return ONE;
    }
    let (saved, range) = (max.saturating_sub(rate), max.saturating_sub(target));
    // Shift both so that the product fits whatever the order's maximum is.
    let shift = 128u32.saturating_sub(range.0.leading_zeros()).saturating_sub(100);
    let (saved, range) = (saved.0 >> shift, range.0 >> shift);
    (saved * u128::from(ONE)).checked_div(range).map_or(ONE, |v| u64::try_from(v).unwrap_or(ONE).min(ONE))
}

/// First in the client's list is a whole, each further place a sixteenth less; not listed is nothing.
fn preference_part(preferences: &[NodeId], node: &NodeId) -> u64 {
    match preferences.iter().take(MAX_PREFERENCES).position(|p| p == node) {
        Some(rank) => (MAX_PREFERENCES - rank) as u64 * ONE / MAX_PREFERENCES as u64,
        None => 0,
    }
}

fn fit(need: &Need<'_>, offer: &OfferView<'_>) -> u64 {
    let asked = &need.terms.resources;
    let (policy, demand) = (need.market.fit, Demand::of(asked));
    let before = Machine::of(&offer.free);
    let looks_ahead = policy == FitPolicy::Fragmentation && !before.gpus.is_empty();
    let after = match offer.free.place(asked) {
        Some(taken) if looks_ahead => Machine::of(&offer.free.saturating_sub(&taken)),
        _ => Machine::default(),
    };
    let draw = match policy {
        FitPolicy::Random => derive(FIT_DOMAIN, &[need.seed, &offer.offer.0]).first_chunk::<8>().map_or(0, |b| u64::from_be_bytes(*b)),
        _ => 0,
    };
    fit_part(policy, &need.market.typical, &before, &after, &demand, draw)
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
