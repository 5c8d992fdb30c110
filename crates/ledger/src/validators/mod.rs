//! Validators: registering, deposits, suspension. Spec: `docs/specs/stake.md` §7.
//!
//! Guarantees: a validator belongs to one operator for good, with its consensus key's consent; its deposit is apart from any
//! provider's and answers until it is back; who stands for election is a bounded set. Whether the proof of possession of its
//! BLS key holds is checked where signatures are ([`proofs_of_possession`]), since that needs the curve.

pub(crate) mod beacon;
pub(crate) mod check;
pub(crate) mod election;
pub(crate) mod faults;
pub mod query;
mod records;
pub(crate) mod terms;
#[cfg(test)]
mod tests;

pub use records::{Beacon, Ordering, Seat, SeatTerm, Validator};

use crate::apply::Tx;
use crate::cost::ED25519_US;
use crate::env::Env;
use crate::error::TxError;
use crate::stake::forfeit::{jail_for, part, pay_out, take, take_leaving};
use crate::stake::{Tranche, due, leave, not_nothing, set_timer, time_served};
use crate::tables::{get, key, keys_with, mark, meta, put, tail_id};
use crate::{auth, bank};
use pasture_types::event::Event;
use pasture_types::genesis::{Genesis, GenesisValidator};
use pasture_types::keys::Signature;
use pasture_types::stake::{Fault, Forfeit};
use pasture_types::state::{StateRead, StateWrite};
use pasture_types::tx::Action;
use pasture_types::validator::{BLS_KEY_BYTES, BLS_PROOF_BYTES, ValidatorAction, ValidatorEvent, validator_consent_digest};
use pasture_types::{AccountId, Amount, AssetId, Millis, NodeId, PublicKey, Timestamp};

/// validator -> [`Validator`]
pub(crate) const VALIDATORS: u8 = 0x3c;
/// validator -> nothing, while it stands for election
pub(crate) const STANDING: u8 = 0x3d;
/// number -> [`SeatTerm`], of terms that are over
pub(crate) const TERM: u8 = 0x3e;
/// validator -> blocks it proposed in this term
pub(crate) const PROPOSED: u8 = 0x3f;
/// height -> [`Beacon`]
pub(crate) const BEACON: u8 = 0x40;
/// -> the [`SeatTerm`] of now
pub(crate) const META_TERM: u8 = 0x39;
/// -> nothing, when the next term may have other seats
pub(crate) const META_ELECTION: u8 = 0x3a;

/// Most validators that stand for election; a larger deposit takes the place of the smallest.
pub(crate) const MAX_STANDING: usize = 256;

/// Microseconds of an action, and what its timer does later.
const COST_US: u32 = 20;
/// Verifying a proof of possession: two pairings.
const POSSESSION_US: u32 = 2_000;

/// The cost of an action in microseconds.
pub(crate) const fn cost_us(action: &ValidatorAction) -> u32 {
    match action {
        ValidatorAction::Bond { .. } | ValidatorAction::Unbond { .. } | ValidatorAction::Unjail { .. } => COST_US,
        ValidatorAction::Accuse { .. } => COST_US + faults::ACCUSE_US,
        ValidatorAction::Rotate { .. } => COST_US + REGISTRATION_US,
    }
}

/// The cost of a registration on top of an action's: a consent and a proof of possession.
const REGISTRATION_US: u32 = ED25519_US + POSSESSION_US;

/// The cost of a registration in microseconds.
pub(crate) const fn register_cost_us() -> u32 {
    COST_US + REGISTRATION_US
}

pub(crate) fn validator_key(id: &NodeId) -> Vec<u8> {
    key(VALIDATORS, &[&id.0])
}

pub(crate) fn validator(s: &dyn StateRead, id: &NodeId) -> Option<Validator> {
    get(s, &validator_key(id))
}

/// The proofs of possession that a transaction carries. They depend on its bytes alone: whoever verifies its signatures, at
/// admission and in another's block, verifies these too.
///
/// # Errors
/// The bytes are not an envelope.
pub fn proofs_of_possession(tx: &[u8]) -> Result<Vec<GenesisValidator>, TxError> {
    let envelope = auth::decode(tx)?;
    let found = envelope.body.actions.into_iter().filter_map(|a| match a {
        Action::RegisterValidator { validator, .. } => Some(validator),
        Action::Validator(ValidatorAction::Rotate { new, .. }) => Some(*new),
        _ => None,
    });
    Ok(found.collect())
}

/// The validators of the genesis: seated without a deposit.
pub(crate) fn at_genesis(s: &mut dyn StateWrite, genesis: &Genesis) {
    for v in &genesis.validators {
        save(s, &mut fresh(v, genesis.time));
    }
    terms::first(s, genesis);
}

fn fresh(v: &GenesisValidator, registered_at: Timestamp) -> Validator {
    Validator {
        id: NodeId(v.key),
        bls_key: v.bls_key.clone(),
        bls_pop: v.bls_pop.clone(),
        operator: v.operator,
        bond: Amount::ZERO,
        leaving: Vec::new(),
        jail: None,
        forfeited: Amount::ZERO,
        registered_at,
        timer_shifted: None,
    }
}

fn save(s: &mut dyn StateWrite, v: &mut Validator) {
    let first = v.leaving.iter().map(|t: &Tranche| t.release_shifted).min();
    set_timer(s, &v.id.0, &mut v.timer_shifted, first);
    let before = validator(s, &v.id).map_or(Amount::ZERO, |old| old.bond);
    put(s, validator_key(&v.id), v);
    crate::seams::deposit_moved(s, &v.operator, before, v.bond);
}

fn standing_key(id: &NodeId) -> Vec<u8> {
    key(STANDING, &[&id.0])
}

/// Everybody who stands for election.
pub(crate) fn standing(s: &dyn StateRead) -> Vec<Validator> {
    let found = keys_with(s, &[STANDING], MAX_STANDING);
    found.iter().filter_map(|k| validator(s, &NodeId(tail_id(k)?))).collect()
}

pub(crate) fn may_stand(env: &Env, v: &Validator) -> bool {
    v.jail.is_none() && !v.bond.is_zero() && v.bond >= env.zone.params.validators.min_bond
}

/// What elections go by was changed: the next term is to come.
pub(crate) fn election_changed(s: &mut dyn StateWrite) {
    mark(s, meta(META_ELECTION));
}

/// Puts a validator among those who stand, or takes it out, as its deposit and suspension say.
fn stand(s: &mut dyn StateWrite, env: &Env, v: &Validator) -> Result<(), TxError> {
    let stands = s.get(&standing_key(&v.id)).is_some();
    let may = may_stand(env, v);
    if may && !stands {
        // Their records are read only when there is no place left.
        if keys_with(s, &[STANDING], MAX_STANDING).len() >= MAX_STANDING {
            let all = standing(s);
            let smallest = all.iter().min_by(|a, b| a.bond.cmp(&b.bond).then_with(|| b.id.cmp(&a.id)));
            match smallest.filter(|x| x.bond < v.bond) {
                Some(x) => s.delete(&standing_key(&x.id)),
                None => {
                    let limit = MAX_STANDING as u64;
                    return Err(TxError::Limit {
                        what: "validators that stand for election (a larger deposit takes a place)",
                        got: limit + 1,
                        limit,
                    });
                }
            }
        }
        mark(s, standing_key(&v.id));
    }
    if !may && stands {
        s.delete(&standing_key(&v.id));
    }
    if env.zone.params.validators.seats as usize >= election::LEAST_SEATS {
        mark(s, meta(META_ELECTION));
    }
    Ok(())
}

/// Whether these keys may be a new validator of the account.
fn may_be_new(s: &dyn StateRead, tx: &Tx<'_>, new: &GenesisValidator, consent: &Signature) -> Result<(), TxError> {
    if new.operator != tx.account {
        return Err(TxError::NotYours("the validator"));
    }
    if new.bls_key.len() != BLS_KEY_BYTES || new.bls_pop.len() != BLS_PROOF_BYTES {
        return Err(TxError::Invalid("a validator's BLS key has 96 bytes and its proof of possession 48".into()));
    }
    let id = NodeId(new.key);
    if validator(s, &id).is_some() {
        return Err(TxError::Exists("the validator"));
    }
    let digest = validator_consent_digest(&tx.env.zone.id, &tx.account, &new.key, &new.bls_key);
    PublicKey::from(id).verify(&digest, consent).map_err(|source| TxError::Signature { whose: "validator's consent", source })
}

pub(crate) fn register(
    s: &mut dyn StateWrite,
    tx: &mut Tx<'_>,
    new: &GenesisValidator,
    consent: &Signature,
    bond: Amount,
) -> Result<(), TxError> {
    let id = NodeId(new.key);
    let needs = tx.env.zone.params.validators.min_bond;
    if bond < needs {
        return Err(TxError::StakeTooSmall { needs, has: bond });
    }
    may_be_new(s, tx, new, consent)?;
    bank::debit(s, &tx.account, AssetId::CREDIT, bond, "the deposit")?;
    let mut v = fresh(new, tx.env.now());
    v.bond = bond;
    stand(s, tx.env, &v)?;
    save(s, &mut v);
    tx.events.push(Event::Validator(ValidatorEvent::Registered { validator: id, operator: tx.account }));
    tx.events.push(Event::Validator(ValidatorEvent::Bonded { validator: id, amount: bond }));
    Ok(())
}

pub(crate) fn act(s: &mut dyn StateWrite, tx: &mut Tx<'_>, action: &ValidatorAction) -> Result<(), TxError> {
    let key = match action {
        ValidatorAction::Accuse { key, votes } => return faults::accuse(s, tx, &NodeId(*key), votes),
        ValidatorAction::Bond { key, .. }
        | ValidatorAction::Unbond { key, .. }
        | ValidatorAction::Unjail { key }
        | ValidatorAction::Rotate { key, .. } => key,
    };
    let id = NodeId(*key);
    let mut v = validator(s, &id).ok_or_else(|| TxError::unknown("validator", &id))?;
    if v.operator != tx.account {
        return Err(TxError::NotYours("the validator"));
    }
    let event = match action {
        // Anybody may, and did above.
        ValidatorAction::Accuse { .. } => return Ok(()),
        ValidatorAction::Rotate { new, consent, .. } => return faults::rotate(s, tx, v, new, consent),
        ValidatorAction::Bond { amount, .. } => {
            not_nothing(*amount)?;
            bank::debit(s, &tx.account, AssetId::CREDIT, *amount, "the deposit")?;
            v.bond = v.bond.checked_add(*amount).ok_or(TxError::AmountTooLarge)?;
            ValidatorEvent::Bonded { validator: id, amount: *amount }
        }
        ValidatorAction::Unbond { amount, .. } => {
            not_nothing(*amount)?;
            let short = TxError::InsufficientBalance { what: "the deposit", needs: *amount, has: v.bond };
            v.bond = v.bond.checked_sub(*amount).ok_or(short)?;
            let delay = tx.env.zone.params.validators.unbond_delay;
            leave(&mut v.leaving, *amount, tx.env.shifted().plus(delay))?;
            ValidatorEvent::Unbonding { validator: id, amount: *amount, release: tx.env.now().plus(delay) }
        }
        ValidatorAction::Unjail { .. } => {
            time_served(tx.env, v.jail)?;
            v.jail = None;
            ValidatorEvent::Reinstated { validator: id }
        }
    };
    stand(s, tx.env, &v)?;
    save(s, &mut v);
    tx.events.push(Event::Validator(event));
    Ok(())
}

/// A validator's timer fired: what is due goes back to its operator.
pub(crate) fn release(s: &mut dyn StateWrite, env: &Env, id: &NodeId, events: &mut Vec<Event>) {
    let Some(mut v) = validator(s, id) else { return };
    v.timer_shifted = None;
    let amount = due(&mut v.leaving, env.shifted());
    if !amount.is_zero() {
        bank::credit(s, &v.operator, AssetId::CREDIT, amount);
        events.push(Event::Validator(ValidatorEvent::Released { validator: *id, operator: v.operator, amount }));
    }
    save(s, &mut v);
}

/// Forfeits a part of a validator's deposit, what of it is on its way back included, in parts per million.
pub(crate) fn slash(
    s: &mut dyn StateWrite,
    env: &Env,
    id: &NodeId,
    amount_ppm: u32,
    fault: Fault,
    reporter: Option<&AccountId>,
    events: &mut Vec<Event>,
) -> Forfeit {
    let mut forfeit = Forfeit::default();
    let Some(mut v) = validator(s, id) else { return forfeit };
    let mut rest = part(v.bond.saturating_add(crate::stake::total(&v.leaving)), amount_ppm);
    forfeit.own = take(&mut v.bond, &mut rest);
    forfeit.unbonding = take_leaving(&mut v.leaving, &mut rest);
    v.forfeited = v.forfeited.saturating_add(forfeit.taken());
    leave_if_short(s, env, &v);
    save(s, &mut v);
    pay_out(s, env, &mut forfeit, reporter.filter(|r| **r != v.operator));
    events.push(Event::Validator(ValidatorEvent::Forfeited { validator: *id, fault, forfeit }));
    forfeit
}

/// Suspends a validator: it is not elected and earns nothing of the pool until its operator ends that after the time.
pub(crate) fn jail(s: &mut dyn StateWrite, env: &Env, id: &NodeId, length: Millis, fault: Fault, events: &mut Vec<Event>) {
    let Some(mut v) = validator(s, id) else { return };
    let jail = jail_for(env, v.jail, length, fault);
    v.jail = Some(jail);
    leave_if_short(s, env, &v);
    save(s, &mut v);
    let until = jail.until_shifted.plus(env.clock.halted);
    events.push(Event::Validator(ValidatorEvent::Suspended { validator: *id, until, fault }));
}

/// Less deposit or a suspension only ever takes a validator out of the election, which has no limit to break.
fn leave_if_short(s: &mut dyn StateWrite, env: &Env, v: &Validator) {
    if !may_stand(env, v) {
        let _ = stand(s, env, v);
    }
}
