//! An account's own leases with a provider, as a part of the score. Spec: `docs/specs/market.md` §5.
//!
//! Guarantees: one small record for each pair that ever settled a lease; it moves only that account's own draws, so that
//! nobody gains by making history with himself. It is no reputation.

use super::HISTORY;
use super::records::History;
use crate::records::Lease;
use crate::tables::{get, key, put};
use pasture_types::AccountId;
use pasture_types::event::{ConfirmedBy, Settlement};
use pasture_types::lease::EndReason;
use pasture_types::market_rules::PPM;
use pasture_types::state::{StateRead, StateWrite};

/// With so many leases on record both counts are halved, so that what was long ago fades.
const FADES_AT: u32 = 64;
/// A bad lease weighs as much as so many good ones.
const BAD_WEIGHT: u64 = 4;

fn history_key(account: &AccountId, provider: &AccountId) -> Vec<u8> {
    key(HISTORY, &[&account.0, &provider.0])
}

pub(crate) fn of(s: &dyn StateRead, account: &AccountId, provider: &AccountId) -> History {
    get(s, &history_key(account, provider)).unwrap_or_default()
}

/// `(good + 2) / (good + 4 x bad + 4)`: half without history, towards a whole with good leases, quickly down with bad ones.
pub(crate) fn part(history: History) -> u64 {
    let (good, bad) = (u64::from(history.good), u64::from(history.bad));
    u64::from(PPM) * (good + 2) / (good + BAD_WEIGHT * bad + 4)
}

/// A lease was settled.
pub(crate) fn note(s: &mut dyn StateWrite, lease: &Lease, settlement: &Settlement) {
    let fault = matches!(lease.end_reason(), Some(EndReason::Lost | EndReason::StoppedByProvider | EndReason::ServiceStopped));
    let disputed = settlement.confirmed_by == ConfirmedBy::Objection;
    if settlement.billed_ms.0 == 0 && !fault && !disputed {
        return;
    }
    let mut history = of(s, &lease.account, &lease.provider);
    if fault || disputed {
        history.bad = history.bad.saturating_add(1);
    } else {
        history.good = history.good.saturating_add(1);
    }
    if history.good.saturating_add(history.bad) >= FADES_AT {
        history = History { good: history.good / 2, bad: history.bad / 2 };
    }
    put(s, history_key(&lease.account, &lease.provider), &history);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_leases_raise_the_part_and_bad_ones_lower_it_faster() {
        let at = |good, bad| part(History { good, bad });
        assert_eq!(at(0, 0), 500_000);
        assert!(at(10, 0) > at(3, 0) && at(3, 0) > at(0, 0) && at(0, 0) > at(0, 1) && at(0, 1) > at(0, 5));
        assert!(at(4, 1) < at(0, 0) + 1, "four good ones make up for a bad one, no fewer");
        assert!(at(u32::MAX, 0) <= 1_000_000);
    }
}
