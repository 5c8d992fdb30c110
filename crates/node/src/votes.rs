//! Proposals and votes as the API shows them.
//!
//! Guarantees: reads one snapshot; a bounded number of the newest. It counts nothing itself.

use pasture_api::{ProposalState, ProposalView};
use pasture_ledger::{Proposal, ProposalState as State, query};
use pasture_types::Millis;
use pasture_types::state::StateRead;

/// Most proposals that are shown.
const MAX_SHOWN: usize = 100;

/// The newest proposals, newest first.
pub(crate) fn proposals(state: &dyn StateRead) -> Vec<ProposalView> {
    let after = query::governance::proposal_counts(state).last.saturating_sub(MAX_SHOWN as u64);
    let halted = query::clock(state).halted;
    let mut all: Vec<_> = query::governance::proposals(state, after, MAX_SHOWN).into_iter().map(|p| view(p, halted)).collect();
    all.reverse();
    all
}

fn view(p: Proposal, halted: Millis) -> ProposalView {
    let passing = match p.state {
        State::Voting { .. } => query::governance::outcome(&p).is_ok(),
        State::Passed { .. } | State::Executed { .. } | State::Failed { .. } => true,
        State::Rejected { .. } => false,
    };
    ProposalView {
        id: p.id,
        number: p.number,
        proposer: p.proposer,
        title: p.title,
        text: p.text,
        changes: p.changes,
        opened: p.opened_at,
        power: p.power,
        yes: p.tally.yes,
        no: p.tally.no,
        veto: p.tally.veto,
        abstain: p.tally.abstain,
        state: match p.state {
            State::Voting { ends_shifted } => ProposalState::Voting { until: ends_shifted.plus(halted) },
            State::Passed { executes_shifted } => ProposalState::Passed { done_at: executes_shifted.plus(halted) },
            State::Rejected { why } => ProposalState::Rejected { why },
            State::Executed { at } => ProposalState::Executed { at },
            State::Failed { code, at } => ProposalState::Failed { code, at },
        },
        passing,
    }
}
