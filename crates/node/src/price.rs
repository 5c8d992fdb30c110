//! A price to begin with: what machines like this one are offered for, best those that somebody pays for.
//!
//! Guarantees: the suggestion is a function of what was seen, and lies within a factor of [`MOST_TIMES`] of the fixed prices, whatever others ask, so that a flood of
//! made-up offers moves nobody far. It is a suggestion: the provider decides.

use pasture_api::client::{ApiClient, ApiError};
use pasture_types::market::Rates;
use pasture_types::{AccountId, Amount, Resources};

/// Fewer than this say nothing about a market.
const FEWEST: usize = 3;
/// How far a suggestion may be from the fixed prices.
const MOST_TIMES: u128 = 10;
/// Most machines that are looked at: enough for a middle.
const MOST_SEEN: usize = 64;
/// Digits of a suggested price that are not zero.
const DIGITS: u32 = 3;

/// A machine on offer.
#[derive(Clone, Debug)]
pub struct Seen {
    /// What it asks.
    pub rates: Rates,
    /// Declared speed of a core.
    pub core_hashes: u64,
    /// Whether somebody leases a part of it.
    pub leased: bool,
}

/// A suggestion.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Suggestion {
    /// The prices.
    pub rates: Rates,
    /// Of how many offers they are the middle; none if there were too few.
    pub offers: usize,
    /// Whether those are offers that somebody pays for.
    pub paid: bool,
}

/// What others than `own` offer on a network now.
///
/// # Errors
/// The network does not answer.
pub async fn observed(client: &ApiClient, own: &AccountId) -> Result<Vec<Seen>, ApiError> {
    let mut seen = vec![];
    for offer in client.offers().await?.into_iter().filter(|o| o.provider != *own).take(MOST_SEEN) {
        let node = client.node(&offer.node).await?;
        seen.push(Seen { rates: offer.terms.rates, core_hashes: node.cpu_hashes_per_s, leased: node.leased != Resources::default() });
    }
    Ok(seen)
}

/// Suggests prices for a machine whose core does so many hashes a second: the median of what others ask, for a core in proportion to
/// its speed. Offers that are leased count alone, if there are at least three; with fewer than three offers the fixed prices.
#[must_use]
pub fn suggest(fixed: Rates, seen: &[Seen], core_hashes: u64) -> Suggestion {
    let leased: Vec<&Seen> = seen.iter().filter(|s| s.leased).collect();
    let paid = leased.len() >= FEWEST;
    let of: Vec<&Seen> = if paid { leased } else { seen.iter().collect() };
    if of.len() < FEWEST {
        return Suggestion { rates: fixed, offers: 0, paid: false };
    }
    let middle = |each: &dyn Fn(&Seen) -> Option<u128>, fixed: Amount| {
        let mut all: Vec<u128> = of.iter().filter_map(|s| each(s)).collect();
        all.sort_unstable();
        let Some(median) = all.get(all.len() / 2) else { return fixed };
        let bounded = (*median).clamp(fixed.0 / MOST_TIMES, fixed.0.saturating_mul(MOST_TIMES));
        Amount(rounded(bounded))
    };
    let core = |s: &Seen| s.rates.cpu_core.0.checked_mul(u128::from(core_hashes))?.checked_div(u128::from(s.core_hashes));
    let rates = Rates {
        cpu_core: middle(&core, fixed.cpu_core),
        memory_gib: middle(&|s| Some(s.rates.memory_gib.0), fixed.memory_gib),
        disk_gib: middle(&|s| Some(s.rates.disk_gib.0), fixed.disk_gib),
        ..fixed
    };
    Suggestion { rates, offers: of.len(), paid }
}

/// To so many digits: nobody asks for 0.503118 credits.
fn rounded(amount: u128) -> u128 {
    let unit = 10u128.pow(amount.checked_ilog10().unwrap_or(0).saturating_sub(DIGITS - 1));
    (amount + unit / 2) / unit * unit
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suggested_rates;

    fn seen(core: u128, hashes: u64, leased: bool) -> Seen {
        Seen { rates: Rates { cpu_core: Amount(core), ..suggested_rates() }, core_hashes: hashes, leased }
    }

    #[test]
    fn a_core_costs_in_proportion_to_its_speed() {
        let all = [seen(400_000_000, 1_000, false), seen(800_000_000, 2_000, false), seen(1_000_000_000, 1_000, false)];
        let s = suggest(suggested_rates(), &all, 500);
        assert_eq!((s.rates.cpu_core, s.offers, s.paid), (Amount(200_000_000), 3, false));
        assert_eq!(s.rates.memory_gib, suggested_rates().memory_gib);
    }

    #[test]
    fn what_somebody_pays_counts_alone_and_few_offers_count_for_nothing() {
        let mut all = vec![seen(100_000_000, 1_000, false); 20];
        all.extend(vec![seen(700_000_000, 1_000, true); 3]);
        let s = suggest(suggested_rates(), &all, 1_000);
        assert_eq!((s.rates.cpu_core, s.offers, s.paid), (Amount(700_000_000), 3, true));
        let s = suggest(suggested_rates(), &all[..2], 1_000);
        assert_eq!((s.rates, s.offers), (suggested_rates(), 0));
        let nameless = vec![seen(700_000_000, 0, true); 5];
        assert_eq!(suggest(suggested_rates(), &nameless, 1_000).rates.cpu_core, suggested_rates().cpu_core);
    }

    #[test]
    fn prices_are_round() {
        for (amount, round) in [(0, 0), (7, 7), (123, 123), (1_234, 1_230), (1_235, 1_240), (503_118_000, 503_000_000)] {
            assert_eq!(rounded(amount), round);
        }
    }

    #[test]
    fn nobody_moves_it_far() {
        let fixed = suggested_rates();
        for price in [0, 1, u128::from(u64::MAX), u128::MAX] {
            for (hashes, own) in [(1, u64::MAX), (u64::MAX, 1), (0, 0), (1, 0), (7, 7)] {
                let cpu = suggest(fixed.clone(), &vec![seen(price, hashes, true); 5], own).rates.cpu_core.0;
                assert!(cpu >= fixed.cpu_core.0 / MOST_TIMES && cpu <= fixed.cpu_core.0 * MOST_TIMES, "{price} {hashes} {own}");
            }
        }
    }
}
