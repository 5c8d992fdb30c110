//! What differs between histories: how many validators sit, whether audits run, which rules a zone begins with.
//!
//! Guarantees: a seed has one climate; every window is short enough that a history of this length sees its end.

use crate::keys::{ACCOUNTS, Keys};
use pasture_types::asset::{Allocation, Asset, FeeRate, GenesisAsset};
use pasture_types::audit::AuditParams;
use pasture_types::genesis::{Genesis, GenesisAccount, GenesisValidator, Params, RULES_VERSION};
use pasture_types::governance::Guardian;
use pasture_types::service::ServiceParams;
use pasture_types::{AccountId, Amount, AssetId, Millis, Timestamp};

pub(crate) const START: u64 = 1_800_000_000_000;
/// An asset that pays leases and fees.
pub(crate) const DOLLAR: AssetId = AssetId(1);
/// An asset that pays leases but no fees.
pub(crate) const TOKEN: AssetId = AssetId(2);
/// Each asset that there is.
pub(crate) const ASSETS: [AssetId; 3] = [AssetId::CREDIT, DOLLAR, TOKEN];
/// What one credit costs in dollars at the beginning.
const DOLLARS_PER_CREDIT: Amount = Amount(333_333_333);
/// The account whose credentials every history believes.
pub(crate) const ISSUER: usize = 3;
/// Guardians, by account.
pub(crate) const GUARDIANS: [usize; 3] = [5, 6, 7];
const FIRST_MONEY: Amount = Amount::credits(50);

/// The climate of a seed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Climate {
    /// Four validators of four operators with elections, or one.
    pub(crate) many_validators: bool,
    /// Capacity audits run.
    pub(crate) audits: bool,
    /// Test money may be minted.
    dev: bool,
    /// Redundant jobs may be ordered.
    disputes: bool,
    /// The price of a fee follows the load.
    adaptive: bool,
    /// It begins with providers, nodes and offers.
    pub(crate) opened: bool,
    /// Few audits decide about a node's rate; fewer than a vote may set, so that no vote changes parameters there.
    small_pools: bool,
    /// It begins with the oldest rules.
    old_rules: bool,
    /// Blocks have room for little, so that transactions find them full.
    narrow: bool,
}

impl Climate {
    pub(crate) const fn of(seed: u64) -> Self {
        // Each choice from bits of its own, so that all of them meet.
        Self {
            many_validators: seed & 1 == 1,
            audits: (seed >> 1) & 1 == 1,
            disputes: (seed >> 2) & 3 == 0,
            adaptive: (seed >> 4) & 3 == 0,
            small_pools: (seed >> 3) & 1 == 1,
            old_rules: (seed >> 6) & 1 == 0,
            dev: !seed.is_multiple_of(17),
            opened: !seed.is_multiple_of(9),
            narrow: seed.is_multiple_of(13),
        }
    }

    fn params(self) -> Params {
        let account = |n: usize| Keys::all().accounts[n].account();
        let mut guardians: Vec<AccountId> = GUARDIANS.iter().map(|n| account(*n)).collect();
        guardians.sort_unstable();
        let mut p = Params::dev();
        p.dev = self.dev;
        p.max_open_orders = 3;
        if self.narrow {
            p.block_cost_us = pasture_ledger::END_WORK_US + 4_000;
        }
        p.accept_window = Millis::secs(4);
        p.start_window = Millis::secs(45);
        p.build_allowance = Millis::secs(20);
        p.min_stake = Amount(100_000_000);
        p.fees.adaptive = self.adaptive;
        p.fees.target_us_per_s = 2_000;
        p.fees.window = Millis::secs(5);
        let rules = &mut p.governance.rules;
        (rules.voting, rules.timelock, rules.extension) = (Millis::secs(15), Millis::secs(4), Millis::secs(6));
        (rules.max_pause, rules.pause_gap) = (Millis::secs(10), Millis::secs(10));
        (rules.max_open, rules.deposit) = (6, Amount(100_000_000));
        p.governance.guardian = Guardian { members: guardians, threshold: 2 };
        p.governance.mature_after = Millis::secs(120);
        p.stake.unbond_delay = Millis::secs(15);
        p.stake.suspension = Millis::secs(5);
        p.stake.min_sponsorship = Amount(20_000_000);
        p.stake.newcomers_per_block = 1;
        p.stake.newcomer_fees_for = Millis::secs(30);
        p.validators.min_bond = Amount(500_000_000);
        p.validators.unbond_delay = Millis::secs(15);
        p.validators.term = Millis::secs(20);
        p.validators.seats = if self.many_validators { 4 } else { 1 };
        p.audits = AuditParams {
            active: self.audits,
            interval: Millis(8_000),
            burst: Millis(100),
            places: true,
            pool: if self.small_pools && self.audits { 3 } else { 8 },
            ..AuditParams::dev()
        };
        p.market.low_ppm = 999_000;
        p.market.free_draws = 1;
        p.market.preempt_notice = Millis::secs(5);
        p.service = ServiceParams {
            watcher_per_day: Millis::secs(40),
            disputes_active: self.disputes,
            fee_rates: [Some(FeeRate { asset: DOLLAR, per_credit: DOLLARS_PER_CREDIT }), None, None, None, None, None, None, None],
            ..ServiceParams::dev()
        };
        p.accounts.cash_window = Millis::secs(8);
        p.reputation.min_age = Millis::secs(1);
        p.reputation.rating_window = Millis::secs(60);
        p
    }

    pub(crate) fn genesis(self) -> Genesis {
        let keys = Keys::all();
        let seats = if self.many_validators { 4 } else { 1 };
        let mut validators: Vec<GenesisValidator> = (0..seats)
            .map(|n| GenesisValidator {
                key: keys.validators[n].node_id().0,
                bls_key: vec![1; 96],
                bls_pop: vec![2; 48],
                operator: keys.accounts[ACCOUNTS - 1 - n].account(),
            })
            .collect();
        validators.sort_by_key(|v| v.key);
        let asset = |id: AssetId, symbol: &str, bridged: bool| GenesisAsset {
            asset: Asset { id, symbol: symbol.into(), decimals: 6, bridged },
            allocations: keys.accounts.iter().map(|k| Allocation { account: k.account(), amount: FIRST_MONEY }).collect(),
        };
        Genesis {
            name: "history".into(),
            time: Timestamp(START),
            rules_version: if self.old_rules { RULES_VERSION - 1 } else { RULES_VERSION },
            params: self.params(),
            validators,
            accounts: keys.accounts.iter().map(|k| GenesisAccount { key: k.public(), balance: FIRST_MONEY }).collect(),
            assets: vec![asset(DOLLAR, "USD", true), asset(TOKEN, "TOK", false)],
        }
    }
}
