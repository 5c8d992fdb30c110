//! Proposals, votes, the guardian.

use super::Deed;
use crate::climate::{DOLLAR, GUARDIANS};
use crate::zone::Zone;
use pasture_ledger::{ProposalState, query};
use pasture_types::account::AccountParams;
use pasture_types::audit::AuditParams;
use pasture_types::governance::{AssetTerms, Change, GovernanceAction, Guardian, PauseKind, PauseSet, VoteChoice};
use pasture_types::market_rules::MarketParams;
use pasture_types::service::ServiceParams;
use pasture_types::stake::StakeParams;
use pasture_types::tx::Action;
use pasture_types::validator::ValidatorParams;
use pasture_types::{Amount, AssetId, BlobHash, Millis};

fn change(zone: &mut Zone) -> Change {
    let params = query::zone(&zone.state).expect("a zone").params;
    let version = query::zone(&zone.state).expect("a zone").rules_version;
    match zone.rng.below(24) {
        0 => Change::Shares { provider_ppm: 700_000, treasury_ppm: 200_000, model_ppm: 100_000 },
        1 => Change::Shares { provider_ppm: 800_000, treasury_ppm: 150_000, model_ppm: 60_000 },
        2 => Change::OrderDeposit(Amount(2_000_000)),
        3 => Change::BuildAllowance(Millis::secs(zone.rng.below(40))),
        4 => Change::MaxOpenOrders(2 + zone.rng.below(3) as u32),
        5 => Change::AcceptWindow(Millis::secs(1 + zone.rng.below(3))),
        6 => Change::StartWindow(Millis::secs(1)),
        7 | 8 => Change::Unpause,
        9..=11 => {
            // All of it is too much for two such proposals.
            let has = query::treasury(&zone.state, AssetId::CREDIT);
            let amount = if zone.rng.once_in(3) { has } else { Amount(has.0 / 3) };
            Change::Spend { to: zone.someone().account(), asset: AssetId::CREDIT, amount }
        }
        12 => {
            let per_credit = zone.rng.once_in(2).then_some(Amount(250_000_000));
            Change::Asset { asset: DOLLAR, terms: AssetTerms { symbol: "USD".into(), decimals: 6, bridged: true, per_credit } }
        }
        20 if zone.rng.once_in(2) => Change::Asset {
            asset: AssetId(3 + zone.rng.below(2) as u32),
            terms: AssetTerms { symbol: format!("N{}", zone.rng.below(3)), decimals: 2, bridged: false, per_credit: None },
        },
        21 => match zone.rng.below(6) {
            0 => Change::Market(Box::new(MarketParams { free_draws: 2, ..params.market })),
            1 => Change::Service(Box::new(ServiceParams { lost_epochs: 2, ..params.service })),
            2 => Change::Audits(Box::new(AuditParams { pool: 9, ..params.audits })),
            3 => Change::Stake(Box::new(StakeParams { newcomer_fees_for: Millis::secs(20), ..params.stake })),
            4 => Change::Validators(Box::new(ValidatorParams { min_bond: Amount(400_000_000), ..params.validators })),
            _ => Change::Accounts(Box::new(AccountParams { cash_window: Millis::secs(6) })),
        },
        13 => Change::AcceptIssuer(zone.someone().account()),
        14 => Change::DropIssuer(zone.someone().account()),
        15 => Change::Guardian(Guardian::default()),
        16 => Change::Governance(params.governance.rules),
        17 | 18 if version == 1 || !zone.rng.once_in(3) => Change::Rules { version: version + 1, height: zone.height + zone.rng.below(20) },
        17 => Change::Rules { version: version + 2, height: 0 },
        19 => Change::Reputation(params.reputation),
        20 => Change::MinStake(Amount(90_000_000 + u128::from(zone.rng.below(20_000_000)))),
        _ => Change::MaxLease(Millis::secs(3_600 * (1 + zone.rng.below(48)))),
    }
}

pub(super) fn propose(zone: &mut Zone) -> Option<Deed> {
    let who = zone.someone();
    let changes: Vec<_> = (0..1 + zone.rng.below(2)).map(|_| change(zone)).collect();
    zone.next.extend([vote as super::Maker; 2]);
    let title = if zone.rng.once_in(20) { "" } else { "a change" };
    let action = GovernanceAction::Propose { title: title.into(), text: BlobHash([4; 32]), changes };
    Some(zone.by(&who, vec![Action::Governance(action)]))
}

pub(super) fn vote(zone: &mut Zone) -> Option<Deed> {
    let ids: Vec<_> = zone.seen.proposals.iter().rev().take(6).copied().collect();
    let all: Vec<_> = ids.iter().filter_map(|id| query::governance::proposal(&zone.state, id)).collect();
    let open: Vec<_> = all.iter().filter(|p| matches!(p.state, ProposalState::Voting { .. })).cloned().collect();
    let p = if zone.rng.once_in(16) { zone.rng.pick(&all)?.clone() } else { zone.rng.pick(&open)?.clone() };
    // Mostly those who have a deposit.
    let who = if zone.rng.once_in(6) { zone.someone() } else { voter(zone) };
    let choice = match zone.rng.below(10) {
        0 | 1 => VoteChoice::No,
        2 | 3 => VoteChoice::Veto,
        4 => VoteChoice::Abstain,
        _ => VoteChoice::Yes,
    };
    Some(zone.by(&who, vec![Action::Governance(GovernanceAction::Vote { proposal: p.id, choice })]))
}

fn voter(zone: &mut Zone) -> pasture_types::SigningKey {
    let with: Vec<_> =
        zone.accounts.iter().filter(|k| query::provider(&zone.state, &k.account()).is_some_and(|p| !p.stake.is_zero())).cloned().collect();
    zone.rng.pick(&with).cloned().unwrap_or_else(|| zone.accounts[0].clone())
}

fn guardian(zone: &mut Zone) -> pasture_types::SigningKey {
    let n = *zone.rng.pick(&GUARDIANS).unwrap_or(&GUARDIANS[0]);
    if zone.rng.once_in(8) { zone.someone() } else { zone.accounts[n].clone() }
}

pub(super) fn pause(zone: &mut Zone) -> Option<Deed> {
    let who = guardian(zone);
    // One kind at a time, so that a history goes on beside it; and so that others ask for the same.
    let kind = PauseKind::ALL[(zone.height / 16) as usize % PauseKind::ALL.len()];
    let kinds = if zone.rng.once_in(12) { PauseSet(0) } else { PauseSet::default().with(kind) };
    let action = GovernanceAction::Pause { kinds, duration: Millis::secs(8) };
    if zone.rng.once_in(2) {
        zone.next.push_back(pause);
    }
    Some(zone.by(&who, vec![Action::Governance(action)]))
}

pub(super) fn unpause(zone: &mut Zone) -> Option<Deed> {
    let who = guardian(zone);
    if zone.rng.once_in(2) {
        zone.next.push_back(unpause);
    }
    Some(zone.by(&who, vec![Action::Governance(GovernanceAction::Unpause)]))
}
