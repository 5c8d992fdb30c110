//! The best offers for an order: at most 256 that pass every filter are scored, three are kept.
//!
//! Guarantees: the result depends on the offers, the order and the drawn seed only. It does not reserve anything.

use crate::evaluate::{Need, OfferView, evaluate};
use pasture_types::ids::derive;
use pasture_types::{AccountId, Amount, NodeId, OfferId};
use serde::{Deserialize, Serialize};

/// Most offers that are scored for one order.
pub const MAX_CANDIDATES: usize = 256;
/// How many candidates an order keeps.
pub const TOP: usize = 3;

const TIE_DOMAIN: &str = "pasture 2026-11 candidate tie v1";

/// An offer that serves an order.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Candidate {
    /// Which offer.
    pub offer: OfferId,
    /// On which node.
    pub node: NodeId,
    /// Whose.
    pub provider: AccountId,
    /// Where.
    pub region: String,
    /// Rate of the whole lease per hour.
    pub rate_per_hour: Amount,
    /// What would be put on hold.
    pub escrow: Amount,
    /// How good it is, in parts per million.
    pub score: u64,
}

impl Candidate {
    pub(crate) fn new(view: &OfferView<'_>, quote: crate::Quote) -> Self {
        Self {
            offer: view.offer,
            node: view.node,
            provider: view.provider,
            region: view.terms.region.clone(),
            rate_per_hour: quote.rate_per_hour,
            escrow: quote.escrow,
            score: quote.score,
        }
    }
}

/// Sorts by score, best first; equal scores in an order drawn with the seed, so that nobody can choose an id that wins ties.
pub(crate) fn sort(candidates: &mut [Candidate], seed: &[u8; 32]) {
    candidates.sort_by_cached_key(|c| (std::cmp::Reverse(c.score), derive(TIE_DOMAIN, &[seed, &c.offer.0])));
}

/// The best [`TOP`] offers for an order among the first [`MAX_CANDIDATES`] that pass every filter.
#[must_use]
pub fn rank<'a>(need: &Need<'_>, offers: impl IntoIterator<Item = OfferView<'a>>, seed: &[u8; 32]) -> Vec<Candidate> {
    let mut found: Vec<Candidate> = offers
        .into_iter()
        .filter_map(|view| {
            let verdict = evaluate(need, &view);
            let quote = verdict.quote.filter(|_| verdict.excluded.is_empty())?;
            Some(Candidate::new(&view, quote))
        })
        .take(MAX_CANDIDATES)
        .collect();
    sort(&mut found, seed);
    found.truncate(TOP);
    found
}
