//! The invariants of this area, for `check`. Spec: `docs/specs/settlement.md` §13.
//!
//! Guarantees: reads only; each violation has a name.

use super::failover::draw_key;
use super::records::{Failover, Model};
use super::{ASSET, DRAW_DUE, FAILOVER, HALT_GRACE, MODEL_OWNER};
use crate::records::{Lease, Role};
use crate::tables::{TimerKind, tail_id, timer_key};
use borsh::BorshDeserialize;
use pasture_types::LeaseId;
use pasture_types::asset::Asset;
use pasture_types::lease::LeaseState;
use pasture_types::market::Failover as Mode;
use pasture_types::state::StateRead;
use std::collections::{BTreeMap, BTreeSet};

/// Names what is broken.
pub(crate) type Broken<'a> = &'a mut dyn FnMut(&'static str, String);

fn scan(state: &dyn StateRead, table: u8, mut visit: impl FnMut(&[u8], &[u8])) {
    state.scan(&[table], &[table + 1], &mut |k, v| {
        visit(k, v);
        true
    });
}

/// Keys of index tables that must exist for this area.
pub(crate) fn wanted(state: &dyn StateRead, want: &mut BTreeSet<Vec<u8>>) {
    scan(state, FAILOVER, |k, v| {
        if let (Some(id), Ok(r)) = (tail_id(k).map(LeaseId), Failover::try_from_slice(v)) {
            want.extend(r.timer_shifted.map(|at| timer_key(at, TimerKind::Service, &id.0)));
            want.extend(r.draw_from.map(|from| draw_key(from, &id)));
        }
    });
}

/// The index tables of this area.
pub(crate) const INDEXES: [u8; 1] = [DRAW_DUE];

/// Checks this area's records against the leases.
pub(crate) fn check(state: &dyn StateRead, leases: &[Lease], broken: Broken<'_>) {
    let by_id: BTreeMap<LeaseId, &Lease> = leases.iter().map(|l| (l.id, l)).collect();
    decodes(state, broken);
    let mut records = 0;
    scan(state, FAILOVER, |k, v| {
        records += 1;
        let (Some(id), Ok(r)) = (tail_id(k).map(LeaseId), Failover::try_from_slice(v)) else { return };
        let root = by_id.get(&id);
        if !root.is_some_and(|l| l.is_live() && l.role == Role::Primary && l.failover != Mode::Off) {
            broken("a failover belongs to a live lease", format!("lease {id}"));
        }
        let standby = r.standby.and_then(|x| by_id.get(&x.lease));
        if r.standby.is_some() && !standby.is_some_and(|l| l.role == Role::Standby { of: id } && l.holds_resources()) {
            broken("a standby is a lease that holds its machine", format!("lease {id}"));
        }
        if r.timer_shifted.is_none() && r.draw_from.is_none() {
            broken("a failover waits for its timer or its draw", format!("lease {id}"));
        }
    });
    let watched = leases.iter().filter(|l| l.is_live() && l.role == Role::Primary && l.failover != Mode::Off).count();
    if watched != records {
        broken("every live lease with failover is watched", format!("{watched} leases, {records} records"));
    }
    for l in leases {
        generations(l, &by_id, broken);
    }
}

/// Generations follow each other without a gap in their numbers and without a common millisecond.
fn generations(l: &Lease, by_id: &BTreeMap<LeaseId, &Lease>, broken: Broken<'_>) {
    match l.role {
        Role::Primary => {
            let mut until = None;
            for g in 1..l.generation {
                let Some(past) = by_id.get(&pasture_types::service::generation_id(&l.id, g)) else {
                    broken("every earlier generation has a record", format!("lease {} generation {g}", l.id));
                    continue;
                };
                if until.is_some_and(|u| past.accepted_at.is_none_or(|a| a < u)) {
                    broken("generations do not overlap", format!("lease {} generation {g}", l.id));
                }
                until = past.closing.as_ref().map(|c| c.at);
            }
            let begins = [l.accepted_at, l.started_at.filter(|_| l.generation > 1)];
            if until.is_some_and(|u| begins.iter().flatten().any(|b| *b < u)) {
                broken("generations do not overlap", format!("lease {} generation {}", l.id, l.generation));
            }
        }
        Role::Past { of } => {
            let follows = by_id.get(&of).is_some_and(|root| root.role == Role::Primary && root.generation > l.generation);
            if !follows || !matches!(l.state, LeaseState::Closing | LeaseState::Closed) {
                broken("an earlier generation is over", format!("lease {}", l.id));
            }
        }
        Role::Standby { of } => {
            let live = by_id.get(&of).is_some_and(|root| root.is_live());
            if l.holds_resources() && !live {
                broken("a standby ends with its lease", format!("lease {}", l.id));
            }
        }
    }
}

fn decodes(state: &dyn StateRead, broken: Broken<'_>) {
    let mut bad = |what: &str| broken("every record decodes", what.into());
    scan(state, FAILOVER, |_, v| {
        if Failover::try_from_slice(v).is_err() {
            bad("failover");
        }
    });
    scan(state, MODEL_OWNER, |_, v| {
        if Model::try_from_slice(v).is_err() {
            bad("model owner");
        }
    });
    scan(state, HALT_GRACE, |_, v| {
        if u32::try_from_slice(v).is_err() {
            bad("halt grace");
        }
    });
    scan(state, ASSET, |_, v| {
        if Asset::try_from_slice(v).is_err() {
            bad("asset");
        }
    });
}
