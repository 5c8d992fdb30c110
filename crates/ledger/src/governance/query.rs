//! What is shown of votes, power, pauses and parameters.
//!
//! Guarantees: reads only, pages are bounded.

use super::records::{GovernanceCounts, GuardianCall, Pause, PendingRules, Proposal, Vote};
use super::tally;
use super::{PROPOSAL_NUMBER, VOTE, execute, pause, power, rules};
use crate::env::Env;
use crate::load::Load;
use crate::query::MAX_PAGE;
use crate::seams;
use crate::tables::{self, key, keys_between, keys_with, prefix_end, tail_id};
use pasture_types::genesis::Params;
use pasture_types::governance::{PauseKind, Rejection};
use pasture_types::state::StateRead;
use pasture_types::{AccountId, Amount, ProposalId, Timestamp};

/// A proposal's record.
#[must_use]
pub fn proposal(s: &dyn StateRead, id: &ProposalId) -> Option<Proposal> {
    super::proposal(s, id)
}

/// Proposals in the order of their numbers, after one.
#[must_use]
pub fn proposals(s: &dyn StateRead, after: u64, limit: usize) -> Vec<Proposal> {
    let start = key(PROPOSAL_NUMBER, &[&after.saturating_add(1).to_be_bytes()]);
    let found = keys_between(s, &start, &[PROPOSAL_NUMBER + 1], limit.min(MAX_PAGE));
    found.iter().filter_map(|k| super::proposal(s, &ProposalId(tail_id(k)?))).collect()
}

/// How many proposals are open and were ever made.
#[must_use]
pub fn proposal_counts(s: &dyn StateRead) -> GovernanceCounts {
    super::counts(s)
}

/// How a vote would end with what is voted now.
///
/// # Errors
/// Why it would not pass.
pub fn outcome(proposal: &Proposal) -> Result<(), Rejection> {
    tally::outcome(proposal)
}

/// An account's vote; votes are deleted some time after they are counted.
#[must_use]
pub fn vote(s: &dyn StateRead, id: &ProposalId, account: &AccountId) -> Option<Vote> {
    super::vote_of(s, id, account)
}

/// A proposal's votes in the order of accounts, after one.
#[must_use]
pub fn votes(s: &dyn StateRead, id: &ProposalId, after: Option<&AccountId>, limit: usize) -> Vec<(AccountId, Vote)> {
    let prefix = key(VOTE, &[&id.0]);
    let start = after.map_or_else(|| prefix.clone(), |a| key(VOTE, &[&id.0, &a.0, &[0]]));
    let found = keys_between(s, &start, &prefix_end(&prefix), limit.min(MAX_PAGE));
    found.iter().filter_map(|k| Some((AccountId(tail_id(k)?), tables::get(s, k)?))).collect()
}

/// What an account can vote with: on a proposal, or on one that is made now.
#[must_use]
pub fn voting_power(s: &dyn StateRead, account: &AccountId, on: Option<&Proposal>) -> Amount {
    let Some(env) = Env::load(s) else { return Amount::ZERO };
    match on {
        Some(p) => power::at(s, &env, account, p.number),
        None => seams::voting_power(s, &env, account),
    }
}

/// All voting power there is.
#[must_use]
pub fn total_voting_power(s: &dyn StateRead) -> Amount {
    Env::load(s).map_or(Amount::ZERO, |env| seams::total_voting_power(s, &env))
}

/// The guardian's last pause; one that is over names no kinds.
#[must_use]
pub fn pause(s: &dyn StateRead) -> Pause {
    pause::record(s)
}

/// What is held back now.
#[must_use]
pub fn paused_kinds(s: &dyn StateRead) -> Vec<PauseKind> {
    let pause = pause::record(s);
    let running = tables::clock(s).shifted() < pause.until_shifted;
    PauseKind::ALL.into_iter().filter(|k| running && pause.kinds.has(*k)).collect()
}

/// What a member of the guardian asked for, until others ask for it too.
#[must_use]
pub fn guardian_call(s: &dyn StateRead, member: &AccountId) -> Option<GuardianCall> {
    pause::call(s, member)
}

/// Rules that a vote will bring into force.
#[must_use]
pub fn pending_rules(s: &dyn StateRead) -> Option<PendingRules> {
    rules::pending(s)
}

/// What the last blocks cost.
#[must_use]
pub fn block_load(s: &dyn StateRead) -> Load {
    crate::load::load(s)
}

/// The parameters in force.
#[must_use]
pub fn params(s: &dyn StateRead) -> Option<Params> {
    tables::zone(s).map(|z| z.params)
}

/// The parameters that were in force at a time.
#[must_use]
pub fn params_at(s: &dyn StateRead, at: Timestamp) -> Option<Params> {
    Some(execute::params_at(s, &Env::load(s)?, at))
}

/// Since when an issuer of credentials is believed.
#[must_use]
pub fn accepted_issuer(s: &dyn StateRead, issuer: &AccountId) -> Option<Timestamp> {
    execute::issuer_since(s, issuer)
}

/// Issuers of credentials that are believed.
#[must_use]
pub fn accepted_issuers(s: &dyn StateRead) -> Vec<AccountId> {
    keys_with(s, &[super::ISSUER], MAX_PAGE).iter().filter_map(|k| tail_id(k)).map(AccountId).collect()
}
