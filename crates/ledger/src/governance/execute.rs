//! What a proposal does once it passed. Spec: `docs/specs/governance.md` §4.
//!
//! Guarantees: all its changes or none; the set of parameters is checked as it will be, not as it was when it was proposed. A
//! lease keeps the parameters of its match: they are remembered.

use super::{ISSUER, META_LONGEST, PARAMS_BEFORE, pause, rules};
use crate::env::Env;
use crate::error::TxError;
use crate::tables::{self, META_ZONE, get, key, keys_between, meta, put};
use crate::{bank, seams};
use pasture_types::event::Event;
use pasture_types::genesis::Params;
use pasture_types::governance::{Change, GovernanceEvent, Guardian, check_params};
use pasture_types::state::{StateRead, StateWrite};
use pasture_types::{AccountId, Millis, Timestamp};

/// Does every change. The caller gives an overlay and drops it on an error.
pub(crate) fn all(s: &mut dyn StateWrite, env: &Env, changes: &[Change], events: &mut Vec<Event>) -> Result<(), TxError> {
    let mut zone = tables::zone(s).ok_or(TxError::NoGenesis)?;
    let before = zone.params.clone();
    for change in changes {
        if let Change::Guardian(guardian) = change {
            may_change_guardian(env, &before.governance.guardian, guardian)?;
        }
        change.set(&mut zone.params);
        if let Change::Asset { asset, terms } = change {
            seams::set_fee_rate(&mut zone.params.service, *asset, terms.per_credit)?;
        }
    }
    if zone.params != before {
        check_params(&zone.params).map_err(TxError::Bounds)?;
        remember(s, env, &before);
        put(s, meta(META_ZONE), &zone);
    }
    if zone.params.validators != before.validators {
        seams::election_changed(s);
    }
    changes.iter().try_for_each(|change| one(s, env, change, events))?;
    // After all of them: one may have admitted the asset that another names.
    let rates = zone.params.service.fee_rates;
    rates.iter().flatten().filter(|r| !before.service.fee_rates.contains(&Some(**r))).try_for_each(|r| seams::asset_known(s, r.asset))
}

fn one(s: &mut dyn StateWrite, env: &Env, change: &Change, events: &mut Vec<Event>) -> Result<(), TxError> {
    match change {
        Change::Unpause => {
            pause::end(s, env, events);
            Ok(())
        }
        Change::Spend { to, asset, amount } => {
            if amount.is_zero() {
                return Err(TxError::Invalid("the treasury cannot pay nothing; give an amount".into()));
            }
            bank::from_treasury(s, *asset, *amount)?;
            bank::credit(s, to, *asset, *amount);
            events.push(Event::Governance(GovernanceEvent::Spent { to: *to, asset: *asset, amount: *amount }));
            Ok(())
        }
        Change::Asset { asset, terms } => {
            seams::set_asset(s, *asset, terms)?;
            events.push(Event::Governance(GovernanceEvent::AssetSet { asset: *asset }));
            Ok(())
        }
        Change::AcceptIssuer(issuer) => {
            put(s, issuer_key(issuer), &env.now());
            Ok(())
        }
        Change::DropIssuer(issuer) => {
            s.delete(&issuer_key(issuer));
            Ok(())
        }
        Change::Rules { version, height } => rules::plan(s, env, *version, *height),
        _ => Ok(()),
    }
}

/// Members may be replaced at any time, but a guardian is not removed before the zone is mature.
fn may_change_guardian(env: &Env, old: &Guardian, new: &Guardian) -> Result<(), TxError> {
    let mature = env.now().since(env.zone.genesis_at) >= env.zone.params.governance.mature_after;
    if new.members.is_empty() && !old.members.is_empty() && !mature {
        return Err(TxError::BadState {
            what: "the network",
            state: "young".into(),
            hint: "its guardian can be removed once the network is mature",
        });
    }
    Ok(())
}

fn issuer_key(issuer: &AccountId) -> Vec<u8> {
    key(ISSUER, &[&issuer.0])
}

/// Since when an issuer of credentials is believed.
pub(crate) fn issuer_since(s: &dyn StateRead, issuer: &AccountId) -> Option<Timestamp> {
    get(s, &issuer_key(issuer))
}

fn before_key(at: Timestamp) -> Vec<u8> {
    key(PARAMS_BEFORE, &[&at.0.to_be_bytes()])
}

fn remember(s: &mut dyn StateWrite, env: &Env, before: &Params) {
    // Of several changes in one block the first tells what held before all of them.
    if s.get(&before_key(env.now())).is_none() {
        put(s, before_key(env.now()), before);
    }
    let longest = longest_lease(s).max(before.max_lease);
    put(s, meta(META_LONGEST), &longest);
}

/// The longest lease that was ever allowed before a change.
pub(crate) fn longest_lease(s: &dyn StateRead) -> Millis {
    get(s, &meta(META_LONGEST)).unwrap_or_default()
}

/// The parameters that were in force at a time; the current ones if none changed since.
pub(crate) fn params_at(s: &dyn StateRead, env: &Env, at: Timestamp) -> Params {
    let later = before_key(Timestamp(at.0.saturating_add(1)));
    let first = keys_between(s, &later, &[PARAMS_BEFORE + 1], 1);
    first.first().and_then(|k| get(s, k)).unwrap_or_else(|| env.zone.params.clone())
}
