//! Validators: candidates, deposits.

use super::Deed;
use crate::keys::{Keys, VALIDATORS};
use crate::zone::Zone;
use pasture_ledger::query;
use pasture_types::genesis::GenesisValidator;
use pasture_types::keys::Signature;
use pasture_types::tx::Action;
use pasture_types::validator::{ValidatorAction, validator_consent_digest};
use pasture_types::votes::{Contradiction, Vote, VoteKind};
use pasture_types::{Amount, NodeId, SigningKey};

/// The first keys are for those that the genesis seats.
const FIRST_CANDIDATE: u64 = 4;

pub(super) fn register(zone: &mut Zone) -> Option<Deed> {
    let n = FIRST_CANDIDATE + zone.rng.below(VALIDATORS as u64 - FIRST_CANDIDATE);
    let key = &Keys::all().validators[n as usize];
    // Each of these keys is one account's.
    let operator = if zone.rng.once_in(10) { zone.someone() } else { zone.accounts[n as usize - FIRST_CANDIDATE as usize].clone() };
    let length = if zone.rng.once_in(16) { 95 } else { 96 };
    let validator = GenesisValidator { key: key.node_id().0, bls_key: vec![1; length], bls_pop: vec![2; 48], operator: operator.account() };
    let digest = validator_consent_digest(&zone.genesis.zone(), &operator.account(), &validator.key, &validator.bls_key);
    let consent = if zone.rng.once_in(16) { Signature::Ed25519([5; 64]) } else { key.sign(&digest) };
    let bond = if zone.rng.once_in(10) { Amount(1) } else { Amount(1_000_000_000 + u128::from(zone.rng.below(1_000_000_000))) };
    let who = if zone.rng.once_in(16) { zone.someone() } else { operator };
    Some(zone.by(&who, vec![Action::RegisterValidator { validator, consent, bond }]))
}

/// One of the validators, with who may act for it.
fn some_validator(zone: &mut Zone) -> Option<(NodeId, SigningKey, Amount)> {
    let n = zone.rng.below(VALIDATORS as u64) as usize;
    let id = Keys::all().validators[n].node_id();
    let record = query::validators::validator(&zone.state, &id);
    let who = record.as_ref().and_then(|v| zone.key_of(&v.operator).cloned()).filter(|_| !zone.rng.once_in(12));
    Some((id, who.unwrap_or_else(|| zone.someone()), record.map_or(Amount::ZERO, |v| v.bond)))
}

pub(super) fn bond(zone: &mut Zone) -> Option<Deed> {
    let (id, who, _) = some_validator(zone)?;
    let amount = Amount(u128::from(zone.rng.below(4)) * 600_000_000);
    Some(zone.by(&who, vec![Action::Validator(ValidatorAction::Bond { key: id.0, amount })]))
}

pub(super) fn unbond(zone: &mut Zone) -> Option<Deed> {
    let (id, who, has) = some_validator(zone)?;
    let amount = if zone.rng.once_in(6) { Amount(has.0 + 1) } else { Amount(has.0 / u128::from(1 + zone.rng.below(4))) };
    Some(zone.by(&who, vec![Action::Validator(ValidatorAction::Unbond { key: id.0, amount })]))
}

/// Ends a suspension, mostly one that is there; its time has passed or not.
pub(super) fn unjail(zone: &mut Zone) -> Option<Deed> {
    let all = Keys::all().validators.iter().filter_map(|k| query::validators::validator(&zone.state, &k.node_id()));
    let jailed: Vec<_> = all.filter(|v| v.jail.is_some()).collect();
    let (id, who) = match zone.rng.pick(&jailed) {
        Some(v) if !zone.rng.once_in(8) => (v.id, zone.key_of(&v.operator).cloned()?),
        _ => some_validator(zone).map(|(id, who, _)| (id, who))?,
    };
    Some(zone.by(&who, vec![Action::Validator(ValidatorAction::Unjail { key: id.0 })]))
}

/// Two votes of one validator in one view; some contradict each other, some are not its own.
pub(super) fn accuse(zone: &mut Zone) -> Option<Deed> {
    let n = zone.rng.below(VALIDATORS as u64) as usize;
    let accused = &Keys::all().validators[n];
    let (term, view) = (zone.rng.below(1_000), 1 + zone.rng.below(100));
    let other = if zone.rng.once_in(8) { VoteKind::Finalize { parent: 0, block: [1; 32] } } else { VoteKind::Nullify };
    let signer = if zone.rng.once_in(8) { Keys::all().validators[(n + 1) % VALIDATORS].clone() } else { accused.clone() };
    let vote = |kind| signed_vote(zone, &signer, kind, term, view);
    let votes = Contradiction { term, view, one: vote(VoteKind::Finalize { parent: 0, block: [1; 32] }), other: vote(other) };
    let who = zone.someone();
    Some(zone.by(&who, vec![Action::Validator(ValidatorAction::Accuse { key: accused.node_id().0, votes: Box::new(votes) })]))
}

fn signed_vote(zone: &Zone, signer: &SigningKey, kind: VoteKind, term: u64, view: u64) -> Vote {
    let unsigned = Vote { kind, signature: [0; 64] };
    let Signature::Ed25519(signature) = signer.sign_message(&unsigned.message(&zone.genesis.zone(), term, view)) else { unreachable!() };
    Vote { kind, signature }
}

/// Replaces a validator's keys by some that nobody has registered, mostly.
pub(super) fn rotate(zone: &mut Zone) -> Option<Deed> {
    let known = |zone: &Zone, key: &SigningKey| query::validators::validator(&zone.state, &key.node_id());
    let standing: Vec<_> = Keys::all().validators.iter().filter_map(|k| known(zone, k)).filter(|v| !v.bond.is_zero()).collect();
    let old = zone.rng.pick(&standing)?.clone();
    let free: Vec<_> = Keys::all().validators.iter().filter(|k| known(zone, k).is_none()).cloned().collect();
    let key = match zone.rng.pick(&free) {
        Some(key) if !zone.rng.once_in(8) => key.clone(),
        _ => Keys::all().validators[0].clone(),
    };
    let operator = zone.key_of(&old.operator).cloned()?;
    let new = GenesisValidator { key: key.node_id().0, bls_key: vec![1; 96], bls_pop: vec![2; 48], operator: operator.account() };
    let digest = validator_consent_digest(&zone.genesis.zone(), &operator.account(), &new.key, &new.bls_key);
    let consent = if zone.rng.once_in(10) { Signature::Ed25519([5; 64]) } else { key.sign(&digest) };
    let who = if zone.rng.once_in(10) { zone.someone() } else { operator };
    Some(zone.by(&who, vec![Action::Validator(ValidatorAction::Rotate { key: old.id.0, new: Box::new(new), consent })]))
}
