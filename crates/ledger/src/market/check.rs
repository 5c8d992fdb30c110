//! The market's own invariants. Spec: `docs/specs/market.md` §8.
//!
//! Guarantees: reads only; every violation is named. It is called by `check`, which counts the money.

use super::index::keys_of;
use super::{OFFER_BY_CPU, OFFER_BY_MEMORY, OFFER_LEASES, OFFER_WITH_ATTRIBUTE, OFFER_WITH_GPU, OFFER_WITH_SERVICE};
use crate::records::{Lease, Node, Offer};
use crate::tables::{get, key};
use pasture_types::market::Term;
use pasture_types::market_rules::MarketParams;
use pasture_types::state::StateRead;
use pasture_types::{Amount, NodeId, OfferId};
use std::collections::{BTreeMap, BTreeSet};

/// Checks what the market adds to the records; `broken` takes the rule and where it is broken.
pub(crate) fn check(
    s: &dyn StateRead,
    market: Option<&MarketParams>,
    nodes: &BTreeMap<NodeId, Node>,
    offers: &[Offer],
    leases: &[Lease],
    broken: &mut dyn FnMut(&'static str, String),
) {
    if let Some(Err(why)) = market.map(MarketParams::check) {
        broken("the market's parameters make sense", why.to_string());
    }
    let want: BTreeSet<Vec<u8>> = offers.iter().filter_map(|o| Some(keys_of(o, nodes.get(&o.node)?))).flatten().collect();
    let mut have = BTreeSet::new();
    for table in [OFFER_BY_CPU, OFFER_BY_MEMORY, OFFER_WITH_ATTRIBUTE, OFFER_WITH_GPU, OFFER_WITH_SERVICE] {
        s.scan(&[table], &[table + 1], &mut |k, _| have.insert(k.to_vec()));
    }
    for k in want.symmetric_difference(&have) {
        let what = if want.contains(k) { "missing" } else { "left over" };
        broken("the buckets of offers agree with what is free", format!("table {:#04x}: {what}", k.first().copied().unwrap_or(0)));
    }
    let mut counts: BTreeMap<OfferId, u32> = BTreeMap::new();
    for l in leases.iter().filter(|l| l.holds_resources()) {
        *counts.entry(l.offer).or_default() += 1;
    }
    let want: BTreeSet<(Vec<u8>, Option<u32>)> = counts.iter().map(|(offer, n)| (key(OFFER_LEASES, &[&offer.0]), Some(*n))).collect();
    let mut have = BTreeSet::new();
    s.scan(&[OFFER_LEASES], &[OFFER_LEASES + 1], &mut |k, _| have.insert((k.to_vec(), get::<u32>(s, k))));
    if want != have {
        broken("an offer counts its leases", format!("{} counted, {} found", have.len(), want.len()));
    }
    for l in leases {
        let sum = l.tenure.lines.iter().try_fold(Amount::ZERO, |sum, line| sum.checked_add(line.rate_per_hour));
        if sum != Some(l.rate_per_hour) {
            broken("a lease's lines are its rate", format!("lease {}", l.id));
        }
        let goes_on = l.is_live() && l.tenure.term != Term::Fixed;
        if l.tenure.timer_shifted.is_some() && !goes_on {
            broken("only a lease that goes on is watched", format!("lease {} is {:?}", l.id, l.state));
        }
    }
}
