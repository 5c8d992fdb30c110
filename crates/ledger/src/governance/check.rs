//! The invariants of governance. Spec: `docs/specs/governance.md` §7.
//!
//! Guarantees: reads only; for `check`, not for the path of a block.

use super::records::{Proposal, ProposalState, Tally, Vote};
use super::{PARAMS_BEFORE, PROPOSAL, PROPOSAL_NUMBER, PROPOSAL_OPEN, VOTE, VOTING, counts, pause, timer_of};
use crate::env::Env;
use crate::seams;
use crate::tables::{self, ACCOUNT, PROVIDER, TimerKind, key, keys_between, keys_with, timer_key};
use pasture_types::genesis::Params;
use pasture_types::governance::{MAX_OPEN_PROPOSALS, PauseSet, check_params};
use pasture_types::state::StateRead;
use pasture_types::{AccountId, Amount};
use std::collections::BTreeSet;

fn proposals(s: &dyn StateRead) -> Vec<Proposal> {
    let keys = keys_between(s, &[PROPOSAL], &[PROPOSAL + 1], usize::MAX);
    keys.iter().filter_map(|k| tables::get(s, k)).collect()
}

/// Deposits that proposals lock.
pub(crate) fn held(s: &dyn StateRead) -> Amount {
    proposals(s).iter().fold(Amount::ZERO, |sum, p| sum.saturating_add(p.deposit))
}

/// The timers that must be there.
pub(crate) fn timers(s: &dyn StateRead) -> Vec<Vec<u8>> {
    let of = |p: &Proposal| timer_of(p).map(|at| timer_key(at, TimerKind::Governance, &p.id.0));
    let mut all: Vec<_> = proposals(s).iter().filter_map(of).collect();
    let pause = pause::record(s);
    if pause.kinds != PauseSet::default() {
        all.push(timer_key(pause.until_shifted, TimerKind::Governance, &pause::PAUSE_TIMER));
    }
    all
}

/// Every broken invariant, as rule and detail.
pub(crate) fn check(s: &dyn StateRead, broken: &mut dyn FnMut(&'static str, String)) {
    let Some(env) = Env::load(s) else { return };
    let (all, counts) = (proposals(s), counts(s));
    let (mut open, mut voting) = (BTreeSet::new(), BTreeSet::new());
    for p in &all {
        let (is_voting, is_open) = match p.state {
            ProposalState::Voting { .. } => (true, true),
            ProposalState::Passed { .. } => (false, true),
            _ => (false, false),
        };
        if is_open {
            open.insert(key(PROPOSAL_OPEN, &[&p.proposer.0, &p.id.0]));
        }
        if is_voting {
            voting.insert(key(VOTING, &[&p.number.to_be_bytes(), &p.id.0]));
            if votes(s, p) != p.tally {
                broken("a tally is the sum of its votes", format!("proposal {}", p.id));
            }
        } else if !p.deposit.is_zero() {
            broken("a vote that is over locks nothing", format!("proposal {}", p.id));
        }
        if p.tally.cast() > p.power {
            broken("no power votes twice", format!("proposal {}: {} of {}", p.id, p.tally.cast().0, p.power.0));
        }
        if s.get(&key(PROPOSAL_NUMBER, &[&p.number.to_be_bytes(), &p.id.0])).is_none() || p.number > counts.last {
            broken("proposals are numbered", format!("proposal {}", p.id));
        }
    }
    for (table, want) in [(PROPOSAL_OPEN, &open), (VOTING, &voting)] {
        let have: BTreeSet<_> = keys_between(s, &[table], &[table + 1], usize::MAX).into_iter().collect();
        if have != *want {
            broken("indexes of proposals agree with them", format!("table {table:#04x}"));
        }
    }
    if counts.open as usize != open.len() || open.len() > MAX_OPEN_PROPOSALS as usize {
        broken("open proposals are counted and few", format!("{} counted, {} found", counts.open, open.len()));
    }
    power(s, &env, broken);
    parameters(s, &env, broken);
}

fn votes(s: &dyn StateRead, p: &Proposal) -> Tally {
    let mut sum = Tally::default();
    for k in keys_with(s, &key(VOTE, &[&p.id.0]), usize::MAX) {
        if let Some(vote) = tables::get::<Vote>(s, &k) {
            let part = sum.of(vote.choice);
            *part = part.saturating_add(vote.weight);
        }
    }
    sum
}

/// Whoever holds deposits must have told of every change.
fn power(s: &dyn StateRead, env: &Env, broken: &mut dyn FnMut(&'static str, String)) {
    let mut accounts: BTreeSet<AccountId> = BTreeSet::new();
    for table in [ACCOUNT, PROVIDER] {
        let keys = keys_between(s, &[table], &[table + 1], usize::MAX);
        accounts.extend(keys.iter().filter_map(|k| tables::tail_id(k)).map(AccountId));
    }
    let sum = accounts.iter().fold(Amount::ZERO, |sum, a| sum.saturating_add(seams::voting_power(s, env, a)));
    let total = seams::total_voting_power(s, env);
    if sum != total {
        broken("all voting power is the sum over accounts", format!("{} counted, {} found", total.0, sum.0));
    }
}

fn parameters(s: &dyn StateRead, env: &Env, broken: &mut dyn FnMut(&'static str, String)) {
    // A genesis may be stranger than any vote; what a vote made may not.
    let before = keys_between(s, &[PARAMS_BEFORE], &[PARAMS_BEFORE + 1], usize::MAX);
    if before.iter().any(|k| tables::get::<Params>(s, k).is_none()) {
        broken("every record decodes", "former parameters".into());
    }
    if !before.is_empty()
        && let Err(error) = check_params(&env.zone.params)
    {
        broken("voted parameters are within their bounds", error.to_string());
    }
}
