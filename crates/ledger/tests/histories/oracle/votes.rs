//! Votes: power as it was when a proposal was made, each account once, and the outcome that follows.
//!
//! Guarantees: powers are read from providers' and validators' own records at the proposal; sums and shares are computed here.

use crate::keys::Keys;
use pasture_ledger::{ProposalState, query};
use pasture_types::event::Event;
use pasture_types::governance::{Change, GovernanceEvent, Rejection, VoteChoice};
use pasture_types::state::MemoryState;
use pasture_types::{AccountId, ProposalId};
use std::collections::BTreeMap;

struct Vote {
    /// What each account could vote with when it was made, and all of it.
    then: BTreeMap<AccountId, u128>,
    power: u128,
    cast: BTreeMap<AccountId, (VoteChoice, u128)>,
}

#[derive(Default)]
pub(super) struct Votes {
    open: BTreeMap<ProposalId, Vote>,
}

/// An account's own deposits: as a provider, and as an operator.
fn power(state: &MemoryState, account: &AccountId) -> u128 {
    let own = query::provider(state, account).map_or(0, |p| p.stake.0);
    let validators = Keys::all().validators.iter().filter_map(|k| query::validators::validator(state, &k.node_id()));
    own + validators.filter(|v| v.operator == *account).map(|v| v.bond.0).sum::<u128>()
}

/// Whoever may have a deposit.
fn all(state: &MemoryState) -> BTreeMap<AccountId, u128> {
    Keys::all().accounts.iter().map(|k| k.account()).map(|a| (a, power(state, &a))).collect()
}

impl Votes {
    pub(super) fn saw(&mut self, state: &MemoryState, event: &Event) {
        let Event::Governance(event) = event else { return };
        match event {
            GovernanceEvent::Proposed { proposal, .. } => {
                let then = all(state);
                let power: u128 = then.values().sum();
                let record = query::governance::proposal(state, proposal).expect("a proposal that was made");
                assert_eq!(record.power.0, power, "all power at a proposal");
                self.open.insert(*proposal, Vote { then, power, cast: BTreeMap::new() });
            }
            GovernanceEvent::Voted { proposal, account, choice, weight } => {
                let vote = self.open.get_mut(proposal).expect("a vote that is open");
                let had = vote.then.get(account).copied().unwrap_or(0);
                assert_eq!(weight.0, had.min(power(state, account)), "the power of a vote");
                vote.cast.insert(*account, (*choice, weight.0));
                let sum: u128 = vote.cast.values().map(|(_, w)| w).sum();
                assert!(sum <= vote.power, "more was voted than there is");
            }
            GovernanceEvent::Passed { proposal } => self.ended(state, proposal, None),
            GovernanceEvent::Rejected { proposal, why } => self.ended(state, proposal, Some(*why)),
            _ => {}
        }
    }

    fn ended(&mut self, state: &MemoryState, id: &ProposalId, why: Option<Rejection>) {
        let vote = self.open.remove(id).expect("a vote ends once");
        let p = query::governance::proposal(state, id).expect("a proposal");
        let sum = |of: &[VoteChoice]| vote.cast.values().filter(|(c, _)| of.contains(c)).map(|(_, w)| *w).sum::<u128>();
        let (yes, no, veto) = (sum(&[VoteChoice::Yes]), sum(&[VoteChoice::No]), sum(&[VoteChoice::Veto]));
        let cast = yes + no + veto + sum(&[VoteChoice::Abstain]);
        let ppm = |n: u32| u128::from(n);
        let majority = if p.changes.iter().any(Change::is_grave) { p.rules.grave_ppm } else { p.rules.majority_ppm };
        let want = if cast == 0 || cast * 1_000_000 < vote.power * ppm(p.rules.quorum_ppm) {
            Some(Rejection::NoQuorum)
        } else if veto * 1_000_000 > cast * ppm(p.rules.veto_ppm) {
            Some(Rejection::Vetoed)
        } else if yes * 1_000_000 <= (yes + no + veto) * ppm(majority) {
            Some(Rejection::NoMajority)
        } else {
            None
        };
        assert_eq!(why, want, "the outcome of a vote: {yes} yes, {no} no, {veto} veto of {cast}, {} in all", vote.power);
    }

    pub(super) fn judge(&self, state: &MemoryState) {
        for id in self.open.keys() {
            let state = query::governance::proposal(state, id).map(|p| p.state);
            assert!(matches!(state, Some(ProposalState::Voting { .. })), "an open vote is voted on");
        }
    }
}
