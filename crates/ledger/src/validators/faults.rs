//! What a validator answers for: votes that contradict each other, a long absence; and its keys' replacement, which frees it of nothing.
//! Spec: `docs/specs/stake.md` §7.
//!
//! Guarantees: nobody is punished for votes that an honest validator casts; a term's contradictions cost once; who replaced its keys
//! answers for what the old ones signed for as long as a deposit does. It does not find contradictions: the engine does.

use super::{PROPOSED, Validator, fresh, jail, save, slash, stand, standing_key, validator};
use crate::apply::Tx;
use crate::env::Env;
use crate::error::TxError;
use crate::tables::{get, key, put};
use pasture_types::event::Event;
use pasture_types::genesis::GenesisValidator;
use pasture_types::keys::Signature;
use pasture_types::stake::Fault;
use pasture_types::state::{StateRead, StateWrite};
use pasture_types::validator::ValidatorEvent;
use pasture_types::votes::Contradiction;
use pasture_types::{Millis, NodeId};

/// validator -> the last term of the engine for which it was punished
pub(crate) const ACCUSED: u8 = 0x41;
/// validator -> what replaced its keys
pub(crate) const SUCCESSOR: u8 = 0x42;

/// Keys can be replaced once in this part of the time that a deposit answers.
const ROTATIONS_ANSWERED: u64 = 32;
/// Most replacements that are followed: more than there can be while a deposit answers.
const MAX_STEPS: usize = 40;
/// Blocks of a term below which nobody's absence is told: the engine follows the seats up to a term of its own later, which is at most a
/// quarter of this.
const ABSENCE_BLOCKS: u64 = 1_024;
/// And so many turns that each seat would have had.
const ABSENCE_TURNS: u64 = 16;

/// Verifying two votes.
pub(crate) const ACCUSE_US: u32 = 100;

/// Who answers for what a key signed: the validator it belongs to, or what its keys were replaced by.
fn liable(s: &dyn StateRead, id: &NodeId) -> NodeId {
    let mut at = *id;
    for _ in 0..MAX_STEPS {
        match get::<NodeId>(s, &key(SUCCESSOR, &[&at.0])) {
            Some(next) => at = next,
            None => break,
        }
    }
    at
}

pub(super) fn accused(s: &dyn StateRead, id: &NodeId) -> Option<u64> {
    get(s, &key(ACCUSED, &[&id.0]))
}

pub(super) fn accuse(s: &mut dyn StateWrite, tx: &mut Tx<'_>, signer: &NodeId, votes: &Contradiction) -> Result<(), TxError> {
    if !votes.is_one() {
        return Err(TxError::Invalid("these two votes do not contradict each other".into()));
    }
    if validator(s, signer).is_none() {
        return Err(TxError::unknown("validator", signer));
    }
    if accused(s, signer).is_some_and(|last| votes.term <= last) {
        return Err(TxError::Exists("the punishment for this term"));
    }
    let wrong = |source| TxError::Signature { whose: "validator's votes", source };
    votes.verify(&tx.env.zone.id, &signer.0).map_err(wrong)?;
    put(s, key(ACCUSED, &[&signer.0]), &votes.term);
    let (at, stake) = (liable(s, signer), tx.env.zone.params.stake);
    let _ = slash(s, tx.env, &at, stake.equivocation_ppm, Fault::Equivocation, Some(&tx.account), &mut tx.events);
    jail(s, tx.env, &at, stake.suspension, Fault::Equivocation, &mut tx.events);
    Ok(())
}

pub(super) fn rotate(
    s: &mut dyn StateWrite,
    tx: &mut Tx<'_>,
    mut old: Validator,
    new: &GenesisValidator,
    consent: &Signature,
) -> Result<(), TxError> {
    let what = "the validator";
    if old.jail.is_some() {
        return Err(TxError::BadState { what, state: "suspended".into(), hint: "end the suspension first" });
    }
    let params = tx.env.zone.params.validators;
    let from = old.registered_at.plus(Millis(params.unbond_delay.0 / ROTATIONS_ANSWERED));
    if tx.env.now() < from {
        let state = format!("as it is since {}", old.registered_at);
        return Err(TxError::BadState { what, state, hint: "a validator's keys are replaced once in a while: try again later" });
    }
    super::may_be_new(s, tx, new, consent)?;
    let id = NodeId(new.key);
    let mut next = fresh(new, tx.env.now());
    next.bond = old.bond;
    next.leaving = std::mem::take(&mut old.leaving);
    next.forfeited = old.forfeited;
    old.bond = pasture_types::Amount::ZERO;
    put(s, key(SUCCESSOR, &[&old.id.0]), &id);
    s.delete(&standing_key(&old.id));
    save(s, &mut old);
    stand(s, tx.env, &next)?;
    save(s, &mut next);
    tx.events.push(Event::Validator(ValidatorEvent::Rotated { validator: old.id, successor: id }));
    Ok(())
}

/// Suspends those who sat in a long term and proposed nothing. Called while the term's blocks are counted.
pub(super) fn absent(s: &mut dyn StateWrite, env: &Env, seats: &[super::Seat], events: &mut Vec<Event>) {
    let blocks = |s: &dyn StateRead, id: &NodeId| get::<u64>(s, &key(PROPOSED, &[&id.0])).unwrap_or(0);
    let all = seats.iter().fold(0u64, |all, seat| all.saturating_add(blocks(s, &seat.validator)));
    let turns = ABSENCE_TURNS.saturating_mul(seats.len() as u64);
    if all < ABSENCE_BLOCKS.saturating_add(turns) {
        return;
    }
    for seat in seats {
        let free = validator(s, &seat.validator).is_some_and(|v| v.jail.is_none() && !v.bond.is_zero());
        if free && blocks(s, &seat.validator) == 0 {
            jail(s, env, &seat.validator, env.zone.params.stake.suspension, Fault::Absence, events);
        }
    }
}
