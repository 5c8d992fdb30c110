//! The best offers for an order: at most 128 that pass every filter are scored, three are kept. Spec: `docs/specs/market.md` §4.
//!
//! Guarantees: the result depends on the offers, the order and the drawn seed only. It does not reserve anything.

use crate::evaluate::{Need, OfferView, evaluate};
use pasture_types::ids::derive;
use pasture_types::market_rules::MAX_CANDIDATES;
use pasture_types::{AccountId, Amount, NodeId, OfferId};
use serde::{Deserialize, Serialize};

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

/// Offers for an order as they are found, until enough of them serve it.
pub struct Ranking<'a> {
    need: Need<'a>,
    found: Vec<Candidate>,
}

impl<'a> Ranking<'a> {
    /// Nothing looked at yet.
    #[must_use]
    pub const fn new(need: Need<'a>) -> Self {
        Self { need, found: Vec::new() }
    }

    /// Looks at an offer; whether there is room for more. Beyond as many as the parameters let a draw score there is none.
    pub fn consider(&mut self, view: &OfferView<'_>) -> bool {
        if let Some(quote) = evaluate(&self.need, view).serves() {
            self.found.push(Candidate::new(view, quote));
        }
        self.found.len() < self.need.market.candidates.min(MAX_CANDIDATES) as usize
    }

    /// The best [`TOP`] of them.
    #[must_use]
    pub fn best(mut self) -> Vec<Candidate> {
        sort(&mut self.found, self.need.seed);
        self.found.truncate(TOP);
        self.found
    }
}

/// The best [`TOP`] offers for an order among the first that pass every filter.
#[must_use]
pub fn rank<'a>(need: &Need<'_>, offers: impl IntoIterator<Item = OfferView<'a>>) -> Vec<Candidate> {
    let mut ranking = Ranking::new(*need);
    for view in offers {
        if !ranking.consider(&view) {
            break;
        }
    }
    ranking.best()
}
