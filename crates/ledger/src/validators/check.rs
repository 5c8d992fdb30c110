//! The invariants of validators, terms and randomness. Spec: `docs/specs/stake.md` §10.
//!
//! Guarantees: reads only; names the record that breaks one.

use super::beacon::BEACONS_KEPT;
use super::election::{LEAST_SEATS, operator_cap};
use super::{BEACON, MAX_STANDING, STANDING, VALIDATORS, Validator, terms};
use crate::env::Env;
use crate::stake::check::{Found, all};
use crate::stake::{MAX_TRANCHES, total};
use crate::tables::{TimerKind, VALIDATOR, timer_key};
use pasture_types::state::StateRead;
use pasture_types::validator::Seating;
use pasture_types::{AccountId, NodeId};
use std::collections::BTreeMap;

pub(crate) fn check(s: &dyn StateRead, found: &mut Found) {
    let Some(env) = Env::load(s) else { return };
    let validators: BTreeMap<NodeId, Validator> = all::<Validator>(s, VALIDATORS, found).into_iter().map(|(_, v)| (v.id, v)).collect();
    for v in validators.values() {
        found.money.push(v.bond.saturating_add(total(&v.leaving)));
        let first = v.leaving.iter().map(|t| t.release_shifted).min();
        let full = v.leaving.len() <= MAX_TRANCHES && v.leaving.iter().all(|t| !t.amount.is_zero());
        found.hold(full && v.timer_shifted == first, "a deposit on its way back has a timer", || format!("validator {}", v.id));
        found.timers.extend(v.timer_shifted.map(|at| timer_key(at, TimerKind::Deposit, &v.id.0)));
    }
    let mut standing = 0;
    s.scan(&[STANDING], &[STANDING + 1], &mut |k, _| {
        standing += 1;
        let v = crate::tables::tail_id(k).and_then(|id| validators.get(&NodeId(id)));
        // A vote may have raised the least deposit since; the election looks again.
        found.hold(v.is_some_and(|v| v.jail.is_none() && !v.bond.is_zero()), "who stands for election may", || "a validator".into());
        true
    });
    found.hold(standing <= MAX_STANDING, "who stands for election is bounded", || format!("{standing}"));
    seats(s, &env, found);
    let mut beacons = 0;
    s.scan(&[BEACON], &[BEACON + 1], &mut |_, _| {
        beacons += 1;
        true
    });
    found.hold(beacons <= BEACONS_KEPT, "randomness is kept for a bounded time", || format!("{beacons} blocks"));
}

fn seats(s: &dyn StateRead, env: &Env, found: &mut Found) {
    let Some(term) = terms::current(s) else { return };
    let mut table: Vec<([u8; 32], AccountId)> = all::<AccountId>(s, VALIDATOR, found);
    table.sort_unstable();
    let seats: Vec<_> = term.seats.iter().map(|x| (x.validator.0, x.operator)).collect();
    let fits = table == seats && env.zone.validators as usize == seats.len();
    found.hold(fits, "the seats are those of the term", || format!("{} of {}", table.len(), seats.len()));
    if term.seating == Seating::Elected {
        let mut by_operator: BTreeMap<AccountId, usize> = BTreeMap::new();
        for x in &term.seats {
            *by_operator.entry(x.operator).or_default() += 1;
        }
        let spread = by_operator.values().all(|n| *n <= operator_cap(seats.len())) && seats.len() >= LEAST_SEATS;
        found.hold(spread, "no operator has a third of the elected seats", || format!("{by_operator:?}"));
    }
}
