//! How full a block is, and what that does to the price. Spec: `docs/specs/ledger.md` §4.
//!
//! Guarantees: the transactions of one block cost at most the block's limit less what its own work may take, whoever proposes
//! it; the price moves at most one step for each window of ledger time, within its bounds, however many blocks there are.

use crate::env::Env;
use crate::error::TxError;
use crate::governance::META_LOAD;
use crate::tables::{self, META_ZONE, get, meta, put};
use borsh::{BorshDeserialize, BorshSerialize};
use pasture_types::Amount;
use pasture_types::genesis::Params;
use pasture_types::governance::FeeParams;
use pasture_types::state::{StateRead, StateWrite};

/// What the named limits of a block's own work add up to at its begin and end, in microseconds: its share of `block_cost_us`.
pub const END_WORK_US: u64 = 80_000;
/// Windows without load that one block makes up for: the price is at its floor long before.
const MAX_IDLE_WINDOWS: u64 = 128;
const PPM: u128 = 1_000_000;

/// What the last blocks cost.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, BorshSerialize, BorshDeserialize)]
pub struct Load {
    /// The last block with transactions.
    pub height: u64,
    /// What they cost, in microseconds.
    pub cost_us: u64,
    /// The window of ledger time that is being measured.
    pub window: u64,
    /// What all before that block cost in it.
    pub window_us: u64,
}

pub(crate) fn load(s: &dyn StateRead) -> Load {
    get(s, &meta(META_LOAD)).unwrap_or_default()
}

/// What the transactions of one block may cost together, in microseconds.
#[must_use]
pub fn block_tx_cost_us(params: &Params) -> u64 {
    params.block_cost_us.saturating_sub(END_WORK_US)
}

fn window_of(env: &Env) -> u64 {
    env.now().since(env.zone.genesis_at).0 / env.zone.params.fees.window.0.max(1)
}

/// Adds a transaction to its block, if there is room.
pub(crate) fn take(s: &mut dyn StateWrite, env: &Env, cost_us: u32) -> Result<(), TxError> {
    let mut load = load(s);
    if load.height != env.clock.height {
        load.height = env.clock.height;
        load.cost_us = 0;
    }
    let (limit, cost) = (block_tx_cost_us(&env.zone.params), load.cost_us.saturating_add(u64::from(cost_us)));
    if cost > limit {
        return Err(TxError::BlockFull { used: load.cost_us, cost: cost_us, limit });
    }
    load.cost_us = cost;
    put(s, meta(META_LOAD), &load);
    Ok(())
}

/// One window's move: up or down by at most `step_ppm`, in proportion to how far the load was from its target.
fn step(f: &FeeParams, price: Amount, used_us: u64) -> Amount {
    let target = u128::from(f.target_us_per_s).saturating_mul(u128::from(f.window.0)) / 1_000;
    let used = u128::from(used_us).min(target.saturating_mul(2));
    let moved = |distance: u128| {
        let scaled = price.0.saturating_mul(u128::from(f.step_ppm)) / PPM;
        scaled.saturating_mul(distance).checked_div(target).unwrap_or(0)
    };
    let next = if used > target {
        // At least by one, or a low price could never rise.
        price.0.saturating_add(moved(used - target).max(1))
    } else {
        price.0.saturating_sub(moved(target - used).max(u128::from(used < target)))
    };
    Amount(next.clamp(f.min_price.0, f.max_price.0.max(f.min_price.0)))
}

/// At the end of a block: moves the price for every window that is over.
pub(crate) fn close(s: &mut dyn StateWrite, env: &Env) {
    let fees = env.zone.params.fees;
    if !fees.adaptive {
        return;
    }
    let before = load(s);
    let own = if before.height == env.clock.height { before.cost_us } else { 0 };
    let now = window_of(env);
    if now <= before.window {
        if own > 0 {
            put(s, meta(META_LOAD), &Load { window_us: before.window_us.saturating_add(own), ..before });
        }
        return;
    }
    let Some(mut zone) = tables::zone(s) else { return };
    let mut price = step(&fees, zone.params.base_price, before.window_us);
    for _ in 0..(now - before.window - 1).min(MAX_IDLE_WINDOWS) {
        price = step(&fees, price, 0);
    }
    put(s, meta(META_LOAD), &Load { window: now, window_us: own, ..before });
    if price != zone.params.base_price {
        zone.params.base_price = price;
        put(s, meta(META_ZONE), &zone);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_full_window_lifts_by_a_step_and_an_empty_one_lowers_by_one() {
        let f = FeeParams::production();
        let target = f.target_us_per_s * f.window.0 / 1_000;
        assert_eq!(step(&f, Amount(1_000), 2 * target), Amount(1_125));
        assert_eq!(step(&f, Amount(1_000), u64::MAX), Amount(1_125), "stuffing beyond that gains nothing");
        assert_eq!(step(&f, Amount(1_000), 0), Amount(875));
        assert_eq!(step(&f, Amount(1_000), target), Amount(1_000));
        assert_eq!(step(&f, f.min_price, 0), f.min_price);
        assert_eq!(step(&f, f.max_price, u64::MAX), f.max_price);
        assert_eq!(step(&f, Amount(10), 2 * target), Amount(11), "a low price can rise");
    }

    proptest! {
        #[test]
        fn a_price_stays_within_its_bounds_and_its_step(price in 10u128..=10_000, used in any::<u64>()) {
            let f = FeeParams::production();
            let next = step(&f, Amount(price), used).0;
            prop_assert!((f.min_price.0..=f.max_price.0).contains(&next));
            prop_assert!(next.abs_diff(price) <= (price * 125_000 / 1_000_000).max(1));
        }
    }
}
