//! A zone that can vote: one account holds nearly all deposits and passes what it likes.
//!
//! Guarantees: votes go the whole way, proposal to timelock, through blocks that end with `check`.

#![allow(dead_code, unreachable_pub)]

use crate::common::*;
use pasture_ledger::query::governance as gov;
use pasture_ledger::*;
use pasture_types::event::Event;
use pasture_types::genesis::Params;
use pasture_types::governance::Change;
use pasture_types::governance::*;
use pasture_types::tx::*;
use pasture_types::*;

pub fn mayor() -> SigningKey {
    key(90)
}

/// Opens an account with credits.
pub fn resident(w: &mut World, k: &SigningKey, credits: u64) {
    let user = w.user.clone();
    w.act(&user, vec![Action::TestCredits { to: k.account(), amount: Amount::credits(credits) }]).unwrap();
    w.act(k, vec![Action::RegisterAccount { keys: vec![k.public()], threshold: 1 }]).unwrap();
}

/// The mayor deposits as a provider, far more than anybody else.
pub fn found(w: &mut World) {
    let mayor = mayor();
    resident(w, &mayor, 5_000);
    w.act(&mayor, vec![Action::RegisterProvider { name: "mayor".into() }, Action::Stake { amount: Amount::credits(3_000) }]).unwrap();
}

pub fn town(params: Params) -> World {
    let mut w = World::with(params, 1);
    found(&mut w);
    w
}

pub fn params(w: &World) -> Params {
    gov::params(&w.state).unwrap()
}

pub fn propose(w: &mut World, changes: Vec<Change>) -> Result<ProposalId, TxError> {
    let action = GovernanceAction::Propose { title: "better".into(), text: BlobHash([7; 32]), changes };
    let events = w.act(&mayor(), vec![Action::Governance(action)])?;
    let Some(Event::Governance(GovernanceEvent::Proposed { proposal, .. })) = events.first() else { panic!("{events:?}") };
    Ok(*proposal)
}

/// Passes changes; `wait` lets the time of vote and timelock go by.
pub fn pass(w: &mut World, changes: Vec<Change>, wait: impl FnOnce(&mut World, u64)) -> ProposalState {
    let id = propose(w, changes).unwrap();
    w.act(&mayor(), vec![Action::Governance(GovernanceAction::Vote { proposal: id, choice: VoteChoice::Yes })]).unwrap();
    let rules = params(w).governance.rules;
    wait(w, rules.voting.0 + rules.timelock.0 + 1_000);
    gov::proposal(&w.state, &id).unwrap().state
}

/// Passes changes in an idle zone; they must be done.
pub fn enact(w: &mut World, changes: Vec<Change>) {
    let state = pass(w, changes, |w, ms| w.wait(ms));
    assert!(matches!(state, ProposalState::Executed { .. }), "{state:?}");
}
