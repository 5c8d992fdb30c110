//! What a validator's operator does: registers it, stands for election, adds to its deposit and takes from it, accuses others, comes back.
//!
//! Guarantees: deposits move only so that seats change hands; whom it accuses is shown by votes that some validator really met.

use super::agent::{Look, Mind};
use super::town::Shared;
use pasture_chain::sim::{Dice, Door};
use pasture_ledger::query;
use pasture_types::genesis::GenesisValidator;
use pasture_types::keys::Signature;
use pasture_types::tx::Action;
use pasture_types::validator::ValidatorAction;
use pasture_types::{Amount, NodeId};
use std::sync::Arc;

/// An operator of one validator.
pub(super) struct Operator {
    key: [u8; 32],
    /// Registers it, if the genesis does not.
    registers: Option<Action>,
    min_bond: Amount,
    slowness: u64,
    dice: Dice,
    /// Contradictions that it has seen.
    seen: usize,
}

impl Operator {
    pub(super) fn new(key: [u8; 32], shared: &Arc<Shared>, dice: Dice) -> Self {
        Self { key, registers: None, min_bond: shared.genesis.params.validators.min_bond, slowness: shared.slowness, dice, seen: 0 }
    }

    /// The same, of a validator that has to be registered.
    pub(super) fn registering(self, new: GenesisValidator, consent: Signature) -> Self {
        let bond = self.min_bond.saturating_add(self.min_bond);
        Self { registers: Some(Action::RegisterValidator { validator: new, consent, bond }), ..self }
    }

    fn accuse(&mut self, look: &Look<'_>, door: &Door) -> Option<ValidatorAction> {
        let found = door.contradictions(self.seen);
        let first = found.first()?;
        self.seen += 1;
        let accused = query::validators::accused(look.state, &NodeId(first.validator));
        let news = accused.is_none_or(|last| first.votes.term > last);
        (news && first.validator != self.key).then(|| ValidatorAction::Accuse { key: first.validator, votes: Box::new(first.votes) })
    }
}

impl Mind for Operator {
    fn pace(&self) -> (u64, u64) {
        (1_500 * self.slowness, 6_000 * self.slowness)
    }

    fn decide(&mut self, look: &Look<'_>, door: &Door) -> Option<(usize, Vec<Action>)> {
        let key = self.key;
        let Some(validator) = query::validators::validator(look.state, &NodeId(key)) else {
            return self.registers.clone().map(|action| (0, vec![action]));
        };
        let some = Amount(u128::from(self.dice.range(1, 20)) * self.min_bond.0 / 4);
        let action = if validator.jail.is_some() && self.dice.percent(30) {
            // Refused until its time has passed.
            ValidatorAction::Unjail { key }
        } else if let Some(accuse) = self.accuse(look, door) {
            accuse
        } else if validator.bond < self.min_bond {
            ValidatorAction::Bond { key, amount: self.min_bond.saturating_add(some) }
        } else if self.dice.percent(6) {
            ValidatorAction::Bond { key, amount: some }
        } else if self.dice.percent(4) {
            ValidatorAction::Unbond { key, amount: some.min(validator.bond) }
        } else {
            return None;
        };
        Some((0, vec![Action::Validator(action)]))
    }
}
