//! Votes on parameters, treasury, rules; the guardian's pause. Spec: `docs/specs/governance.md`.
//!
//! ```text
//!  propose -> Voting --end--> Passed --timelock--> Executed | Failed
//!               |  ^ late turn: the end moves
//!               +--end--> Rejected (no quorum, no majority: deposit back; vetoed: deposit to the treasury)
//! ```
//! Guarantees: power counts once, where it was when the proposal was made; sums run along, so that no tally walks votes; open
//! proposals are few; what passed is done by a timer, all or nothing. It does not say whose deposit is how large.

mod check;
mod execute;
mod pause;
mod power;
pub mod query;
pub(crate) mod records;
mod rules;
mod tally;

pub(crate) use check::{check, held, timers};
pub(crate) use execute::{issuer_since, longest_lease, params_at};
pub(crate) use pause::{matching, paused};
pub(crate) use power::{moved as power_moved, own as own_power, total as total_power};
pub use rules::{SUPPORTED_RULES, UnsupportedRules, supported};
pub(crate) use rules::{activate, known, provider_name};

use crate::apply::Tx;
use crate::bank;
use crate::env::Env;
use crate::error::TxError;
use crate::tables::{META, TimerKind, get, key, keys_with, mark, meta, put, timer_key};
use crate::validate::at_most;
use pasture_types::event::Event;
use pasture_types::governance::{
    Change, GovernanceAction, GovernanceEvent, MAX_CHANGES, MAX_OPEN_PROPOSALS, MAX_TITLE, Rejection, VoteChoice, proposal_id,
};
use pasture_types::state::{Overlay, StateRead, StateWrite, merge};
use pasture_types::{AccountId, AssetId, BlobHash, ProposalId, Timestamp};
use records::{GovernanceCounts, GuardianWish, Proposal, ProposalState, Tally, Vote};

/// proposal -> [`Proposal`]
pub(crate) const PROPOSAL: u8 = 0x50;
/// account, proposal -> nothing, while it is open
pub(crate) const PROPOSAL_OPEN: u8 = 0x51;
/// number, proposal -> nothing, while it is voted on
pub(crate) const VOTING: u8 = 0x52;
/// proposal, account -> [`Vote`]
pub(crate) const VOTE: u8 = 0x53;
/// account -> its former powers that open votes ask for
pub(crate) const POWER: u8 = 0x54;
/// time of a change -> the parameters before it
pub(crate) const PARAMS_BEFORE: u8 = 0x55;
/// number, proposal -> nothing
pub(crate) const PROPOSAL_NUMBER: u8 = 0x56;
/// issuer of credentials -> since when it is believed
pub(crate) const ISSUER: u8 = 0x57;

pub(crate) const META_COUNTS: u8 = 0x50;
pub(crate) const META_PAUSE: u8 = 0x51;
pub(crate) const META_RULES: u8 = 0x52;
pub(crate) const META_POWER: u8 = 0x53;
pub(crate) const META_LONGEST: u8 = 0x54;
pub(crate) const META_LOAD: u8 = 0x55;
/// With a member of the guardian behind it: its wish.
pub(crate) const META_CALL: u8 = 0x56;
/// With a proposal behind it: its votes are over and to be deleted.
pub(crate) const META_ENDED: u8 = 0x57;

/// A vote's end moves at most so often: whoever turns the outcome again and again cannot keep it open for ever.
const MAX_EXTENSIONS: u32 = 8;
/// Most votes of ended proposals that one block deletes.
pub(crate) const MAX_VOTES_PRUNED_PER_BLOCK: usize = 64;

pub(crate) fn counts(s: &dyn StateRead) -> GovernanceCounts {
    get(s, &meta(META_COUNTS)).unwrap_or_default()
}

/// The numbers of the votes that are open, ascending.
pub(crate) fn voting_numbers(s: &dyn StateRead) -> Vec<u64> {
    keys_with(s, &[VOTING], MAX_OPEN_PROPOSALS as usize).iter().filter_map(|k| crate::tables::head_number(k)).collect()
}

fn proposal_key(id: &ProposalId) -> Vec<u8> {
    key(PROPOSAL, &[&id.0])
}

pub(crate) fn proposal(s: &dyn StateRead, id: &ProposalId) -> Option<Proposal> {
    get(s, &proposal_key(id))
}

fn vote_key(id: &ProposalId, account: &AccountId) -> Vec<u8> {
    key(VOTE, &[&id.0, &account.0])
}

pub(crate) fn vote_of(s: &dyn StateRead, id: &ProposalId, account: &AccountId) -> Option<Vote> {
    get(s, &vote_key(id, account))
}

/// What an action costs, its timers and its vote's deletion included.
pub(crate) const fn cost_us(action: &GovernanceAction) -> u32 {
    match action {
        GovernanceAction::Propose { .. } => 50,
        GovernanceAction::Vote { .. } => 15,
        GovernanceAction::Pause { .. } | GovernanceAction::Unpause => 10,
    }
}

/// One action of governance.
pub(crate) fn act(s: &mut dyn StateWrite, tx: &mut Tx<'_>, action: &GovernanceAction) -> Result<(), TxError> {
    match action {
        GovernanceAction::Propose { title, text, changes } => propose(s, tx, title, *text, changes),
        GovernanceAction::Vote { proposal, choice } => vote(s, tx, proposal, *choice),
        GovernanceAction::Pause { kinds, duration } => pause::ask(s, tx, GuardianWish::Pause { kinds: *kinds, duration: *duration }),
        GovernanceAction::Unpause => pause::ask(s, tx, GuardianWish::Unpause),
    }
}

fn propose(s: &mut dyn StateWrite, tx: &mut Tx<'_>, title: &str, text: BlobHash, changes: &[Change]) -> Result<(), TxError> {
    let env = tx.env;
    let rules = env.zone.params.governance.rules;
    at_most("bytes of the title", title.len() as u64, MAX_TITLE as u64)?;
    at_most("changes", changes.len() as u64, MAX_CHANGES as u64)?;
    if title.trim().is_empty() || title.chars().any(char::is_control) || changes.is_empty() {
        return Err(TxError::Invalid("a proposal needs a title in one line and at least one change".into()));
    }
    let power = crate::seams::total_voting_power(s, env);
    if power.is_zero() {
        return Err(TxError::BadState { what: "the network", state: "without deposits".into(), hint: "nobody could vote yet" });
    }
    let mut counts = counts(s);
    let mine = keys_with(s, &key(PROPOSAL_OPEN, &[&tx.account.0]), rules.max_open_each as usize).len() as u64;
    at_most("open proposals of this account", mine.saturating_add(1), u64::from(rules.max_open_each))?;
    at_most("open proposals", u64::from(counts.open).saturating_add(1), u64::from(rules.max_open))?;
    // What could not be done today is not voted on. Done on an overlay that is dropped.
    execute::all(&mut Overlay::new(s), env, changes, &mut Vec::new())?;
    bank::debit(s, &tx.account, AssetId::CREDIT, rules.deposit, "the proposal's deposit")?;
    let id = proposal_id(&tx.id, tx.index);
    counts.open = counts.open.saturating_add(1);
    counts.last = counts.last.saturating_add(1);
    put(s, meta(META_COUNTS), &counts);
    let mut p = Proposal {
        id,
        number: counts.last,
        proposer: tx.account,
        title: title.into(),
        text,
        changes: changes.to_vec(),
        opened_at: env.now(),
        height: env.clock.height,
        rules,
        deposit: rules.deposit,
        power,
        tally: Tally::default(),
        extensions: 0,
        state: ProposalState::Voting { ends_shifted: Timestamp(0) },
    };
    mark(s, key(PROPOSAL_OPEN, &[&tx.account.0, &id.0]));
    mark(s, key(VOTING, &[&p.number.to_be_bytes(), &id.0]));
    mark(s, key(PROPOSAL_NUMBER, &[&p.number.to_be_bytes(), &id.0]));
    enter(s, &mut p, ProposalState::Voting { ends_shifted: env.shifted().plus(rules.voting) });
    tx.events.push(Event::Governance(GovernanceEvent::Proposed { proposal: id, proposer: tx.account }));
    Ok(())
}

/// When a proposal's timer fires, if it has one.
pub(crate) const fn timer_of(p: &Proposal) -> Option<Timestamp> {
    match p.state {
        ProposalState::Voting { ends_shifted } => Some(ends_shifted),
        ProposalState::Passed { executes_shifted } => Some(executes_shifted),
        _ => None,
    }
}

/// Moves a proposal to a state, its timer with it, and writes it.
fn enter(s: &mut dyn StateWrite, p: &mut Proposal, state: ProposalState) {
    if let Some(old) = timer_of(p) {
        s.delete(&timer_key(old, TimerKind::Governance, &p.id.0));
    }
    p.state = state;
    if let Some(at) = timer_of(p) {
        mark(s, timer_key(at, TimerKind::Governance, &p.id.0));
    }
    put(s, proposal_key(&p.id), p);
}

fn vote(s: &mut dyn StateWrite, tx: &mut Tx<'_>, id: &ProposalId, choice: VoteChoice) -> Result<(), TxError> {
    let env = tx.env;
    let mut p = proposal(s, id).ok_or_else(|| TxError::unknown("proposal", id))?;
    let ProposalState::Voting { ends_shifted } = p.state else { return Err(TxError::VoteOver) };
    if env.shifted() >= ends_shifted {
        return Err(TxError::VoteOver);
    }
    let weight = power::at(s, env, &tx.account, p.number);
    if tx.node.is_some() || weight.is_zero() {
        return Err(TxError::NoVotingPower);
    }
    let before = tally::outcome(&p).is_ok();
    if let Some(old) = vote_of(s, id, &tx.account) {
        // Otherwise one account could turn the outcome to and fro until no extension is left.
        if p.extensions > 0 {
            return Err(TxError::VoteFixed);
        }
        let sum = p.tally.of(old.choice);
        if !(cfg!(mutant_11) && old.choice == VoteChoice::Veto) {
            *sum = sum.saturating_sub(old.weight);
        }
    }
    let sum = p.tally.of(choice);
    *sum = sum.saturating_add(weight);
    put(s, vote_key(id, &tx.account), &Vote { choice, weight });
    let turned = before != tally::outcome(&p).is_ok();
    let late = ends_shifted.since(env.shifted()) < p.rules.extension;
    let mut ends = ends_shifted;
    tx.events.push(Event::Governance(GovernanceEvent::Voted { proposal: *id, account: tx.account, choice, weight }));
    if turned && late && p.extensions < MAX_EXTENSIONS {
        p.extensions += 1;
        ends = env.shifted().plus(p.rules.extension);
        tx.events.push(Event::Governance(GovernanceEvent::Extended { proposal: *id }));
    }
    enter(s, &mut p, ProposalState::Voting { ends_shifted: ends });
    Ok(())
}

/// A timer of governance fired: a vote or a timelock ended, or a pause.
pub(crate) fn timer(s: &mut dyn StateWrite, env: &Env, id: &[u8; 32], events: &mut Vec<Event>) {
    if *id == pause::PAUSE_TIMER {
        pause::end(s, env, events);
        return;
    }
    let Some(mut p) = proposal(s, &ProposalId(*id)) else { return };
    match p.state {
        ProposalState::Voting { .. } => close_vote(s, env, &mut p, events),
        ProposalState::Passed { .. } => execute_now(s, env, &mut p, events),
        ProposalState::Rejected { .. } | ProposalState::Executed { .. } | ProposalState::Failed { .. } => {}
    }
}

fn close_vote(s: &mut dyn StateWrite, env: &Env, p: &mut Proposal, events: &mut Vec<Event>) {
    s.delete(&key(VOTING, &[&p.number.to_be_bytes(), &p.id.0]));
    mark(s, key(META, &[&[META_ENDED], &p.id.0]));
    let deposit = std::mem::take(&mut p.deposit);
    let outcome = tally::outcome(p);
    if outcome == Err(Rejection::Vetoed) {
        bank::to_treasury(s, AssetId::CREDIT, deposit);
    } else {
        bank::credit(s, &p.proposer, AssetId::CREDIT, deposit);
    }
    match outcome {
        Ok(()) => {
            events.push(Event::Governance(GovernanceEvent::Passed { proposal: p.id }));
            if p.changes.iter().all(|c| *c == Change::Unpause) {
                execute_now(s, env, p, events);
            } else {
                enter(s, p, ProposalState::Passed { executes_shifted: env.shifted().plus(p.rules.timelock) });
            }
        }
        Err(why) => {
            events.push(Event::Governance(GovernanceEvent::Rejected { proposal: p.id, why }));
            finish(s, p, ProposalState::Rejected { why });
        }
    }
}

fn execute_now(s: &mut dyn StateWrite, env: &Env, p: &mut Proposal, events: &mut Vec<Event>) {
    let mut overlay = Overlay::new(s);
    let mut done = Vec::new();
    match execute::all(&mut overlay, env, &p.changes, &mut done) {
        Ok(()) => {
            let changes = overlay.into_changes();
            merge(s, changes);
            events.extend(done);
            events.push(Event::Governance(GovernanceEvent::Executed { proposal: p.id }));
            finish(s, p, ProposalState::Executed { at: env.now() });
        }
        Err(error) => {
            events.push(Event::Governance(GovernanceEvent::Failed { proposal: p.id, code: error.code() }));
            finish(s, p, ProposalState::Failed { code: error.code(), at: env.now() });
        }
    }
}

/// A proposal that is open no more.
fn finish(s: &mut dyn StateWrite, p: &mut Proposal, state: ProposalState) {
    s.delete(&key(PROPOSAL_OPEN, &[&p.proposer.0, &p.id.0]));
    let mut counts = counts(s);
    counts.open = counts.open.saturating_sub(1);
    put(s, meta(META_COUNTS), &counts);
    enter(s, p, state);
}

/// Deletes votes that are counted and over, a few in each block that comes anyway.
pub(crate) fn prune(s: &mut dyn StateWrite) {
    let Some(mark) = keys_with(s, &meta(META_ENDED), 1).pop() else { return };
    let Some(id) = crate::tables::tail_id(&mark) else { return };
    let votes = keys_with(s, &key(VOTE, &[&id]), MAX_VOTES_PRUNED_PER_BLOCK);
    for k in &votes {
        s.delete(k);
    }
    if votes.len() < MAX_VOTES_PRUNED_PER_BLOCK {
        s.delete(&mark);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pasture_types::Amount;

    fn proposal(changes: Vec<Change>, tally: Tally, power: u128) -> Proposal {
        Proposal {
            id: ProposalId([1; 32]),
            number: 1,
            proposer: AccountId([1; 32]),
            title: "t".into(),
            text: BlobHash([0; 32]),
            changes,
            opened_at: Timestamp(0),
            height: 1,
            rules: pasture_types::governance::GovernanceRules::dev(),
            deposit: Amount::ZERO,
            power: Amount(power),
            tally,
            extensions: 0,
            state: ProposalState::Voting { ends_shifted: Timestamp(1) },
        }
    }

    fn tally(yes: u128, no: u128, veto: u128, abstain: u128) -> Tally {
        Tally { yes: Amount(yes), no: Amount(no), veto: Amount(veto), abstain: Amount(abstain) }
    }

    #[test]
    fn outcomes_follow_the_shares() {
        let plain = || vec![Change::MinStake(Amount(1))];
        let of = |changes, t| tally::outcome(&proposal(changes, t, 1_000));
        assert_eq!(of(plain(), tally(0, 0, 0, 0)), Err(Rejection::NoQuorum));
        assert_eq!(of(plain(), tally(199, 0, 0, 0)), Err(Rejection::NoQuorum));
        assert_eq!(of(plain(), tally(101, 99, 0, 0)), Ok(()));
        assert_eq!(of(plain(), tally(100, 100, 0, 0)), Err(Rejection::NoMajority), "more than half, not half");
        assert_eq!(of(plain(), tally(1, 0, 0, 199)), Ok(()), "those who abstain leave it to others");
        assert_eq!(of(plain(), tally(66, 0, 34, 100)), Ok(()), "17 % of what was voted is no veto");
        assert_eq!(of(plain(), tally(600, 0, 301, 0)), Err(Rejection::Vetoed));
        let grave = || vec![Change::MinStake(Amount(1)), Change::Governance(pasture_types::governance::GovernanceRules::dev())];
        assert_eq!(of(grave(), tally(600, 400, 0, 0)), Err(Rejection::NoMajority));
        assert_eq!(of(grave(), tally(667, 333, 0, 0)), Ok(()));
    }

    #[test]
    fn sums_beyond_any_supply_overflow_nothing() {
        let half = u128::MAX / 2;
        let p = proposal(vec![Change::MinStake(Amount(1))], tally(half, half - 5, 0, 0), u128::MAX);
        assert_eq!(tally::outcome(&p), Err(Rejection::NoMajority), "compared coarsely, a hair is a draw");
    }
}
