//! Every area's parameters by vote: what may be set, what is refused and why, and what goes on under those it began with. Spec:
//! `docs/specs/governance.md` §4.

#![cfg(test)]

mod common;
mod town;

use common::*;
use pasture_ledger::query::governance as gov;
use pasture_ledger::*;
use pasture_types::account::AccountParams;
use pasture_types::asset::FeeRate;
use pasture_types::audit::AuditParams;
use pasture_types::genesis::Params;
use pasture_types::governance::Change;
use pasture_types::governance::*;
use pasture_types::lease::EndReason;
use pasture_types::market::{BillingUnit, OfferTerms, OrderTerms, Term};
use pasture_types::market_rules::{MAX_DRAW_COST_US, MarketParams};
use pasture_types::service::ServiceParams;
use pasture_types::stake::StakeParams;
use pasture_types::tx::*;
use pasture_types::validator::ValidatorParams;
use pasture_types::*;
use town::*;

fn market(change: impl FnOnce(&mut MarketParams)) -> Change {
    let mut p = MarketParams::dev();
    change(&mut p);
    Change::Market(Box::new(p))
}
fn service(change: impl FnOnce(&mut ServiceParams)) -> Change {
    let mut p = ServiceParams::dev();
    change(&mut p);
    Change::Service(Box::new(p))
}
fn audits(change: impl FnOnce(&mut AuditParams)) -> Change {
    let mut p = AuditParams::dev();
    change(&mut p);
    Change::Audits(Box::new(p))
}
fn stake(change: impl FnOnce(&mut StakeParams)) -> Change {
    let mut p = StakeParams::dev();
    change(&mut p);
    Change::Stake(Box::new(p))
}
fn validators(change: impl FnOnce(&mut ValidatorParams)) -> Change {
    let mut p = ValidatorParams::dev();
    change(&mut p);
    Change::Validators(Box::new(p))
}
fn accounts(change: impl FnOnce(&mut AccountParams)) -> Change {
    let mut p = AccountParams::dev();
    change(&mut p);
    Change::Accounts(Box::new(p))
}

#[test]
fn what_zones_begin_with_is_within_the_bounds_of_votes() {
    for p in [Params::dev(), Params::production()] {
        assert_eq!(check_params(&p), Ok(()));
    }
}

#[test]
fn each_areas_parameters_can_be_voted_and_wait_for_the_timelock() {
    let mut w = town(Params::dev());
    let changes = vec![
        market(|p| p.draw_price = Amount(5)),
        service(|p| p.observers = 3),
        audits(|p| p.interval = Millis(200_000)),
        stake(|p| p.reporter_ppm = 1),
        validators(|p| p.min_bond = Amount(7)),
        accounts(|p| p.cash_window = Millis(30_000)),
    ];
    let before = params(&w);
    let id = propose(&mut w, changes).unwrap();
    w.act(&mayor(), vec![Action::Governance(GovernanceAction::Vote { proposal: id, choice: VoteChoice::Yes })]).unwrap();
    let rules = before.governance.rules;
    w.wait(rules.voting.0 + rules.timelock.0 / 2);
    assert_eq!(params(&w), before, "the timelock runs");
    w.wait(rules.timelock.0);
    let p = params(&w);
    assert_eq!((p.market.draw_price, p.service.observers, p.audits.interval), (Amount(5), 3, Millis(200_000)));
    assert_eq!((p.stake.reporter_ppm, p.validators.min_bond, p.accounts.cash_window), (1, Amount(7), Millis(30_000)));
}

/// Attack: proposals of nonsense in any area. Each is refused at once, by name.
#[test]
fn nonsense_is_refused_by_its_name() {
    let mut w = town(Params::dev());
    let rate = |asset, nanos| Some(FeeRate { asset: AssetId(asset), per_credit: Amount(nanos) });
    let bad: Vec<(&str, Change)> = vec![
        ("the sum of market.weights", market(|p| p.weights.price += 1)),
        ("the sum of market.weights", market(|p| p.weights.price = u32::MAX)),
        ("market.candidates", market(|p| p.candidates = 0)),
        ("market.candidates", market(|p| p.candidates = 257)),
        ("market.draw_cost_us", market(|p| p.draw_cost_us = 0)),
        ("market.draw_cost_us", market(|p| p.draw_cost_us = MAX_DRAW_COST_US + 1)),
        ("market.priority_price", market(|p| p.priority_price = Amount(u128::MAX))),
        ("market.free_draws", market(|p| p.free_draws = u32::MAX)),
        ("market.draw_price", market(|p| p.draw_price = Amount::credits(2))),
        ("market.max_rental", market(|p| p.max_rental = Millis(u64::MAX))),
        ("market.early_cancel_ppm", market(|p| p.early_cancel_ppm = 1_000_001)),
        ("market.low_ppm", market(|p| p.low_ppm = 0)),
        ("market.preempt_notice", market(|p| p.preempt_notice = Millis(0))),
        ("market.typical, weight,", market(|p| p.typical[0].weight = u32::MAX)),
        ("market.typical, GPUs,", market(|p| p.typical[0].gpus = u16::MAX)),
        ("market.typical, thousandths of each GPU,", market(|p| p.typical[0].gpu_millis = 1_001)),
        ("service.watcher_per_day", service(|p| p.watcher_per_day = Millis(u64::MAX))),
        ("service.dispute_epochs", service(|p| p.dispute_epochs = u64::MAX)),
        ("service.halt_grace_epochs", service(|p| p.halt_grace_epochs = u32::MAX)),
        ("service.observers", service(|p| p.observers = 0)),
        ("service.observers", service(|p| p.observers = 17)),
        ("service.report_epochs", service(|p| p.report_epochs = 0)),
        ("service.lost_epochs", service(|p| p.lost_epochs = 0)),
        ("service.lost_epochs", service(|p| p.lost_epochs = u64::MAX)),
        ("service.fence_epochs", service(|p| p.fence_epochs = u64::MAX)),
        ("service.standby_ppm", service(|p| p.standby_ppm = 0)),
        ("service.fee_rates, its asset (credits need no rate),", service(|p| p.fee_rates[0] = rate(0, 5))),
        ("service.fee_rates, what a credit costs,", service(|p| p.fee_rates[0] = rate(7, 0))),
        ("service.fee_rates, what a credit costs,", service(|p| p.fee_rates[0] = rate(7, u128::MAX))),
        ("service.fee_rates, assets that have two,", service(|p| (p.fee_rates[0], p.fee_rates[3]) = (rate(7, 1), rate(7, 2)))),
        ("audits.interval", audits(|p| p.interval = Millis(0))),
        ("audits.tick", audits(|p| p.tick = Millis(0))),
        ("audits.tick", audits(|p| p.tick = Millis(100_001))),
        ("audits.burst", audits(|p| p.burst = Millis(2_001))),
        ("audits.slack_ppm", audits(|p| p.slack_ppm = u32::MAX)),
        ("audits.punctual_ppm", audits(|p| p.punctual_ppm = p.slack_ppm + 1)),
        ("audits.rtt_cap", audits(|p| p.rtt_cap = Millis(60_000))),
        ("audits.witnesses", audits(|p| p.witnesses = 65)),
        ("audits.pool", audits(|p| p.pool = u16::MAX)),
        ("audits.tolerance_ppm", audits(|p| p.tolerance_ppm = 1_000_000)),
        ("audits.error_exponent", audits(|p| p.error_exponent = 1)),
        ("audits.stands_epochs", audits(|p| p.stands_epochs = u64::MAX)),
        ("stake.unbond_delay, which outlasts the longest lease and its windows,", stake(|p| p.unbond_delay = Millis(0))),
        ("stake.audit_chance_ppm", stake(|p| p.audit_chance_ppm = 0)),
        ("stake.reporter_ppm", stake(|p| p.reporter_ppm = 1_000_000)),
        ("stake.equivocation_ppm", stake(|p| p.equivocation_ppm = 1_000_001)),
        ("stake.min_sponsorship", stake(|p| p.min_sponsorship = Amount::ZERO)),
        ("stake.newcomer_rate, in production at most min_stake,", stake(|p| p.newcomer_rate = Amount(u128::MAX))),
        ("stake.newcomer_fees", stake(|p| p.newcomer_fees = Amount::credits(2))),
        ("stake.newcomers_per_block", stake(|p| p.newcomers_per_block = 1_000)),
        ("stake.stamp_bits", stake(|p| p.stamp_bits = 255)),
        ("validators.seats", validators(|p| p.seats = 0)),
        ("validators.seats", validators(|p| p.seats = 65)),
        ("validators.term", validators(|p| p.term = Millis(0))),
        ("validators.min_bond", validators(|p| p.min_bond = Amount::ZERO)),
        ("accounts.cash_window", accounts(|p| p.cash_window = Millis(0))),
        ("accounts.cash_window", accounts(|p| p.cash_window = Millis(u64::MAX))),
    ];
    for (name, change) in bad {
        match propose(&mut w, vec![change.clone()]) {
            Err(TxError::Bounds(error)) => assert_eq!(error.name, name, "{change:?}"),
            other => panic!("{change:?}: {other:?}"),
        }
    }
    let unlisted = service(|p| p.fee_rates[0] = rate(7, 1));
    assert_eq!(propose(&mut w, vec![unlisted]).unwrap_err().code(), 40, "fees in an asset that does not exist");
    assert_eq!(gov::proposal_counts(&w.state), GovernanceCounts::default());
}

/// Attack: in production, take the ground from under what others rely on.
#[test]
fn production_zones_have_narrower_bounds() {
    let production = Params::production;
    let name = |p: Params| check_params(&p).map_err(|e| e.name);
    assert_eq!(
        name(Params { max_lease: Millis(10 * 24 * 3_600_000), ..production() }),
        Err("stake.unbond_delay, which outlasts the longest lease and its windows,")
    );
    let stake = |change: &dyn Fn(&mut StakeParams)| {
        let mut p = production();
        change(&mut p.stake);
        name(p)
    };
    assert_eq!(stake(&|p| p.newcomer_rate = Amount::credits(101)), Err("stake.newcomer_rate, in production at most min_stake,"));
    let mut p = production();
    p.market.gpu_leases = true;
    assert_eq!(name(p), Err("market.gpu_leases, outside development,"));
    let mut p = production();
    p.validators.unbond_delay = Millis(3_600_000);
    assert_eq!(name(p), Err("validators.unbond_delay, which outlasts a term,"));
    let mut p = production();
    p.accounts.cash_window = Millis(60_000);
    assert_eq!(name(p), Err("accounts.cash_window"));
    assert!(Change::Validators(Box::new(ValidatorParams::production())).is_grave(), "seats are the zone's");
}

/// Attack: raise what leaving a rental costs once it is taken.
#[test]
fn a_rental_is_left_on_the_terms_of_its_match() {
    let mut w = town(Params::dev());
    w.offer();
    let (provider, node) = (w.provider.clone(), w.node.node_id());
    let terms = OfferTerms { price_lock: Millis::secs(10 * 3600), ..offer_terms() };
    w.act(&provider, vec![Action::PutOffer { node, number: 0, terms: Box::new(terms) }]).unwrap();
    w.idle();
    let term = Term::Rental { unit: BillingUnit::Hour, committed: 4, locked: 4, renew: false };
    let id = w.accepted(OrderTerms { term, max_duration: Millis::secs(4 * 3600), budget: Amount::credits(9), ..w.order_terms() });
    let started = w.now;
    w.wait_beating(6_000);
    w.confirmed(&id, started, 5_000).unwrap();
    let change = market(|p| p.early_cancel_ppm = 1_000_000);
    assert!(matches!(pass(&mut w, vec![change], World::wait_beating), ProposalState::Executed { .. }));
    assert_eq!(params(&w).market.early_cancel_ppm, 1_000_000);
    let rest = started.plus(Millis::secs(4 * 3600)).since(w.now.plus(Millis(10)));
    w.user_act(vec![Action::CloseLease { lease: id, reason: EndReason::StoppedByUser }]).unwrap();
    let fee = w.lease(&id).tenure.cancel_fee;
    let price = w.lease(&id).rate_per_hour.per_hour_for(rest.0).unwrap();
    assert_eq!(fee, Amount(price.0 / 5), "a fifth, as when it was taken");
}

/// Attack: raise the work of a heartbeat while nodes hash, so that honest ones miss the period.
#[test]
fn a_heartbeat_is_held_against_the_work_of_its_period() {
    let mut w = town(Params::dev());
    w.offer();
    w.accepted(w.order_terms());
    let id = propose(&mut w, vec![Change::HeartbeatWork(Millis(250))]).unwrap();
    w.act(&mayor(), vec![Action::Governance(GovernanceAction::Vote { proposal: id, choice: VoteChoice::Yes })]).unwrap();
    let mut last = None;
    // The node hashes by what holds when the period begins, and sends it when the vote is done.
    while params(&w).heartbeat_work == Millis(50) {
        w.beat();
        w.wait(500);
        let epoch = query::open_epochs(&w.state).last().copied().unwrap();
        if params(&w).heartbeat_work == Millis(50) {
            last = Some(epoch.number);
        }
    }
    let epoch = last.unwrap();
    if !query::has_heartbeat(&w.state, &w.node.node_id(), epoch) {
        let heartbeat = w.shares(epoch);
        w.node_act(vec![Action::SubmitHeartbeat { heartbeat }]).unwrap();
    }
    assert!(query::has_heartbeat(&w.state, &w.node.node_id(), epoch));
}

/// A vote on the length of a term neither runs numbers backwards nor stops terms.
#[test]
fn a_longer_term_begins_where_the_last_one_stands() {
    let mut w = town(Params::dev());
    let number = |w: &World| query::validators::term(&w.state).unwrap().number;
    w.wait(3_600_000);
    w.block(10, &[]);
    let before = number(&w);
    assert!(before >= 6, "{before}");
    enact(&mut w, vec![validators(|p| p.term = Millis(1_800_000))]);
    w.wait(1_800_000);
    w.block(10, &[]);
    let after = number(&w);
    assert!(after > before && after <= before + 2, "{before} {after}");
    enact(&mut w, vec![validators(|p| p.term = Millis(10_000))]);
    w.wait(30_000);
    w.block(10, &[]);
    assert!(number(&w) > after && number(&w) < after + 1_000, "{after} {}", number(&w));
}
