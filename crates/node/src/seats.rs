//! Validators as the API shows them.
//!
//! Guarantees: reads one snapshot; a bounded number, those who are seated or stand first. It elects nobody.

use crate::standing::{leaving, suspension};
use pasture_api::{TermView, ThisValidator, ValidatorView, ValidatorsView};
use pasture_chain::Snapshot;
use pasture_ledger::query;
use pasture_ledger::query::validators as ledger;
use pasture_types::{Height, Timestamp};
use std::cmp::Reverse;

/// Most validators that are read: those of all terms so far, where an election compares at most 256.
const MAX_READ: usize = 4_096;
/// Most that are shown: every seat, everybody who stands, and as many others.
const MAX_SHOWN: usize = 640;

/// The validators, as `this` one knows them; `None` if the ledger has no zone.
pub(crate) fn validators(state: &Snapshot, this: ThisValidator) -> Option<ValidatorsView> {
    let params = query::zone(state)?.params.validators;
    let term = ledger::term(state)?;
    let halted = query::clock(state).halted;
    let all = ledger::all(state, MAX_READ);
    let mut more = all.len() >= MAX_READ;
    let mut shown: Vec<ValidatorView> = all
        .into_iter()
        .map(|v| ValidatorView {
            seated: term.seats.iter().any(|seat| seat.validator == v.id),
            stands: ledger::stands(state, &v.id),
            proposed: ledger::proposed(state, &v.id),
            leaving: leaving(&v.leaving, halted),
            suspended: v.jail.as_ref().map(|jail| suspension(jail, halted)),
            key: v.id,
            operator: v.operator,
            bond: v.bond,
            forfeited: v.forfeited,
            registered: v.registered_at,
        })
        .collect();
    shown.sort_by_key(|v| (Reverse(v.seated), Reverse(v.stands), Reverse(v.bond), v.key));
    more |= shown.len() > MAX_SHOWN;
    shown.truncate(MAX_SHOWN);
    Some(ValidatorsView {
        height: Height(state.height()),
        time: Timestamp(state.header().timestamp_ms),
        this,
        term: TermView {
            number: term.number,
            began: term.began_at,
            height: Height(term.height),
            ends: ledger::term_ends(state)?,
            seating: term.seating,
            seats: u32::try_from(term.seats.len()).unwrap_or(u32::MAX),
            blocks: shown.iter().fold(0, |sum, v| sum.saturating_add(v.proposed)),
        },
        seats: params.seats,
        elections: params.seats as usize >= ledger::LEAST_SEATS,
        min_bond: params.min_bond,
        unbond_delay: params.unbond_delay,
        validators: shown,
        more,
    })
}
