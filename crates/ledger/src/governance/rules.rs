//! Versions of the rules: which this program knows, what differs, when the next comes into force. Spec: `docs/specs/governance.md` §6.
//!
//! Guarantees: the version in force is part of the state and changes at the begin of a block only; a program that does not
//! know it writes nothing and says so, rather than going on with other rules. Validity of a proposal never depends on what
//! this program knows, or programs of different age would disagree.
//!
//! | version | what differs |
//! |---|---|
//! | 1 | a provider may have an empty name |
//! | 2 | a provider's name has at least one visible character |

use super::META_RULES;
use super::records::PendingRules;
use crate::env::Env;
use crate::error::TxError;
use crate::tables::{self, META_ZONE, get, meta, put};
use pasture_types::event::Event;
use pasture_types::governance::GovernanceEvent;
use pasture_types::state::{StateRead, StateWrite};
use std::ops::RangeInclusive;

/// The versions of the rules that this program knows.
pub const SUPPORTED_RULES: RangeInclusive<u32> = 1..=2;

/// This program does not know the rules of the next block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "from block {height} on this network runs rules {version}, and this program knows up to {}; install a newer version and start again",
    SUPPORTED_RULES.end()
)]
pub struct UnsupportedRules {
    /// What is in force then.
    pub version: u32,
    /// From which height on.
    pub height: u64,
}

pub(crate) fn pending(s: &dyn StateRead) -> Option<PendingRules> {
    get(s, &meta(META_RULES))
}

/// The rules of the block after a state.
fn next(s: &dyn StateRead) -> Option<(u32, u64)> {
    let height = tables::clock(s).height.saturating_add(1);
    let active = tables::zone(s)?.rules_version;
    Some(pending(s).filter(|p| p.height <= height).map_or((active, height), |p| (p.version, height)))
}

/// Whether this program can execute the block that follows a state. A node asks at its start and before each block, and
/// stops with this error: going on would fork it from the network.
///
/// # Errors
/// [`UnsupportedRules`].
pub fn supported(state: &dyn StateRead) -> Result<(), UnsupportedRules> {
    match next(state) {
        Some((version, height)) if !SUPPORTED_RULES.contains(&version) => Err(UnsupportedRules { version, height }),
        _ => Ok(()),
    }
}

/// Whether the rules in force are known here.
pub(crate) const fn known(env: &Env) -> bool {
    *SUPPORTED_RULES.start() <= env.zone.rules_version && env.zone.rules_version <= *SUPPORTED_RULES.end()
}

/// Sets when a version comes into force.
pub(crate) fn plan(s: &mut dyn StateWrite, env: &Env, version: u32, height: u64) -> Result<(), TxError> {
    let active = tables::zone(s).map_or(env.zone.rules_version, |z| z.rules_version);
    if active.checked_add(1) != Some(version) {
        return Err(TxError::Invalid(format!("rules follow one another: after {active} comes {}", active.saturating_add(1))));
    }
    put(s, meta(META_RULES), &PendingRules { version, height: height.max(env.clock.height.saturating_add(1)) });
    Ok(())
}

/// At the begin of a block: puts rules in force whose height has come.
pub(crate) fn activate(s: &mut dyn StateWrite, env: &mut Env, events: &mut Vec<Event>) {
    let Some(p) = pending(s).filter(|p| p.height <= env.clock.height) else { return };
    s.delete(&meta(META_RULES));
    env.zone.rules_version = p.version;
    put(s, meta(META_ZONE), &env.zone);
    events.push(Event::Governance(GovernanceEvent::RulesActivated { version: p.version }));
}

/// What differs: whether a provider must have a name.
pub(crate) fn provider_name(env: &Env, name: &str) -> Result<(), TxError> {
    if env.zone.rules_version >= 2 && name.trim().is_empty() {
        return Err(TxError::Invalid("a provider needs a name; give one that people recognise".into()));
    }
    Ok(())
}
