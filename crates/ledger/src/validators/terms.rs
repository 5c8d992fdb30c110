//! Terms: who is seated, and the pool's fees at a term's end. Spec: `docs/specs/stake.md` §8.
//!
//! Guarantees: a term's work is bounded by the seats and by those who stand; the pool is paid out whole; an election that
//! could not fill four seats changes nothing, so that no few newcomers can take over a zone. The engine's own seats follow
//! this record, not the other way round.

use super::election::{Contender, LEAST_SEATS, MAX_SEATS, elect};
use super::{META_ELECTION, META_TERM, PROPOSED, Seat, SeatTerm, TERM, may_stand, standing, validator};
use crate::bank;
use crate::env::Env;
use crate::records::Zone;
use crate::tables::{META_ZONE, VALIDATOR, get, key, keys_with, meta, put, tail_id};
use pasture_types::event::Event;
use pasture_types::genesis::Genesis;
use pasture_types::state::{StateRead, StateWrite};
use pasture_types::validator::{Seating, ValidatorEvent};
use pasture_types::{Amount, Millis, NodeId, Timestamp};

/// Terms that are kept after they are over.
const TERMS_KEPT: u64 = 128;
/// Most seats that a genesis can give: what is read back when its seats are replaced.
const MAX_GENESIS_SEATS: usize = 1_024;

pub(crate) fn current(s: &dyn StateRead) -> Option<SeatTerm> {
    get(s, &meta(META_TERM))
}

pub(crate) fn past(s: &dyn StateRead, number: u64) -> Option<SeatTerm> {
    get(s, &key(TERM, &[&number.to_be_bytes()]))
}

/// The first term: the genesis's validators sit.
pub(crate) fn first(s: &mut dyn StateWrite, genesis: &Genesis) {
    let mut seats: Vec<Seat> =
        genesis.validators.iter().map(|v| Seat { validator: NodeId(v.key), operator: v.operator, bond: Amount::ZERO }).collect();
    seats.sort_unstable_by_key(|x| x.validator);
    let term = SeatTerm { number: 0, began_at: genesis.time, height: 0, seating: Seating::Kept, seats };
    put(s, meta(META_TERM), &term);
}

fn length(env: &Env) -> u64 {
    env.zone.params.validators.term.0.max(1)
}

/// How many whole terms of today's length lie before a time.
fn terms_before(env: &Env, at: Timestamp) -> u64 {
    at.since(env.zone.genesis_at).0 / length(env)
}

/// The term of now: as many after the last one as beginnings have passed since it began. A vote on the length moves beginnings,
/// never numbers backwards.
fn number_of_now(env: &Env, last: &SeatTerm) -> u64 {
    let passed = terms_before(env, env.now()).saturating_sub(terms_before(env, last.began_at));
    last.number.saturating_add(passed)
}

/// When the next term must begin, if anything waits for it: fees in the pool, or another outcome of the election.
pub(crate) fn due(s: &dyn StateRead, env: &Env) -> Option<Timestamp> {
    if bank::pools(s).is_empty() && s.get(&meta(META_ELECTION)).is_none() {
        return None;
    }
    let next = terms_before(env, current(s)?.began_at).saturating_add(1).max(terms_before(env, env.now()));
    Some(env.zone.genesis_at.plus(Millis(next.saturating_mul(length(env)))))
}

/// When the term after this one begins, by today's length.
pub(crate) fn ends(zone: &Zone, term: &SeatTerm) -> Option<Timestamp> {
    let length = zone.params.validators.term.0.max(1);
    let next = (term.began_at.since(zone.genesis_at).0 / length).checked_add(1)?;
    Some(zone.genesis_at.plus(Millis(next.checked_mul(length)?)))
}

/// Counts a block for its proposer and begins a term when its time has come.
pub(crate) fn advance(s: &mut dyn StateWrite, env: &Env, proposer: &[u8; 32], events: &mut Vec<Event>) {
    // With one validator nothing is shared out, so nothing is counted.
    if env.zone.validators > 1 && s.get(&key(VALIDATOR, &[proposer])).is_some() {
        let k = key(PROPOSED, &[proposer]);
        let blocks: u64 = get(s, &k).unwrap_or(0);
        put(s, k, &blocks.saturating_add(1));
    }
    let Some(old) = current(s) else { return };
    let number = number_of_now(env, &old);
    if number <= old.number {
        return;
    }
    // Without elections a suspension would empty a seat for good.
    if env.zone.params.validators.seats as usize >= LEAST_SEATS {
        super::faults::absent(s, env, &old.seats, events);
    }
    pay_pool(s, &old, events);
    s.delete(&meta(META_ELECTION));
    let (seating, seats) = match election(s, env) {
        Some(seats) => (Seating::Elected, seats),
        None => (Seating::Kept, old.seats.clone()),
    };
    if seating == Seating::Elected {
        seat(s, env, &seats);
    }
    // One validator's terms differ in nothing, so nobody is told of them.
    if seating == Seating::Elected || seats.len() > 1 {
        put(s, key(TERM, &[&old.number.to_be_bytes()]), &old);
        prune(s, number);
        let count = u32::try_from(seats.len()).unwrap_or(u32::MAX);
        events.push(Event::Validator(ValidatorEvent::TermBegan { term: number, seats: count, seating }));
    }
    put(s, meta(META_TERM), &SeatTerm { number, began_at: env.now(), height: env.clock.height, seating, seats });
}

/// Drops the terms that are too old; at most two a term, so that those a lapse left behind go too.
fn prune(s: &mut dyn StateWrite, number: u64) {
    for k in keys_with(s, &[TERM], 2) {
        if crate::tables::head_number(&k).is_some_and(|n| n.saturating_add(TERMS_KEPT) < number) {
            s.delete(&k);
        }
    }
}

/// The seats that an election gives; none if there is none, or if it cannot fill the least number.
fn election(s: &dyn StateRead, env: &Env) -> Option<Vec<Seat>> {
    let most = env.zone.params.validators.seats as usize;
    if most < LEAST_SEATS {
        return None;
    }
    let contenders: Vec<Contender> = standing(s)
        .iter()
        .filter(|v| may_stand(env, v))
        .map(|v| Contender { validator: v.id, operator: v.operator, bond: v.bond })
        .collect();
    let seats = elect(&contenders, most.min(MAX_SEATS));
    let seats: Vec<Seat> = seats.iter().map(|c| Seat { validator: c.validator, operator: c.operator, bond: c.bond }).collect();
    if seats.is_empty() { None } else { Some(seats) }
}

/// Replaces the seats.
fn seat(s: &mut dyn StateWrite, env: &Env, seats: &[Seat]) {
    for k in keys_with(s, &[VALIDATOR], MAX_GENESIS_SEATS) {
        s.delete(&k);
    }
    for x in seats {
        put(s, key(VALIDATOR, &[&x.validator.0]), &x.operator);
    }
    let mut zone = env.zone.clone();
    zone.validators = u32::try_from(seats.len()).unwrap_or(u32::MAX);
    put(s, meta(META_ZONE), &zone);
}

/// Pays the pool to the term's seats by the blocks that each proposed, rounded down; the rest, and everything if nobody may
/// have it, goes to the treasury.
fn pay_pool(s: &mut dyn StateWrite, term: &SeatTerm, events: &mut Vec<Event>) {
    let counted = keys_with(s, &[PROPOSED], MAX_GENESIS_SEATS);
    let mut blocks: Vec<(Seat, u64)> = Vec::new();
    for k in &counted {
        let n: u64 = get(s, k).unwrap_or(0);
        s.delete(k);
        let Some(id) = tail_id(k).map(NodeId) else { continue };
        let free = validator(s, &id).is_some_and(|v| v.jail.is_none());
        if let Some(x) = term.seats.iter().find(|x| x.validator == id).filter(|_| free) {
            blocks.push((*x, n));
        }
    }
    let all = blocks.iter().fold(0u128, |a, (_, n)| a.saturating_add(u128::from(*n)));
    for asset in bank::pools(s) {
        let pool = bank::empty_pool(s, asset);
        let mut rest = pool;
        for (x, n) in &blocks {
            let amount = pool.mul_div(u128::from(*n), all).unwrap_or(Amount::ZERO).min(rest);
            rest = rest.saturating_sub(amount);
            bank::credit(s, &x.operator, asset, amount);
            let (term, validator, operator) = (term.number, x.validator, x.operator);
            events.push(Event::Validator(ValidatorEvent::FeesPaid { term, validator, operator, asset, amount }));
        }
        bank::to_treasury(s, asset, rest);
    }
}
