//! The invariants of credentials, over the whole state. Spec: `docs/specs/accounts.md` §6.
//!
//! Guarantees: reads only; reports every broken rule and the index and timer keys that the records call for.

use super::records::{CREDENTIAL, CUTOFF, Credential, Cutoff, cutoff, index_key};
use crate::tables::{TimerKind, tail_id, timer_key};
use pasture_types::state::StateRead;
use std::collections::BTreeSet;

/// Checks credentials; the keys that must be in indexes and timers.
pub(crate) fn check(s: &dyn StateRead, broken: &mut dyn FnMut(&'static str, String)) -> BTreeSet<Vec<u8>> {
    let mut want = BTreeSet::new();
    s.scan(&[CREDENTIAL], &[CREDENTIAL + 1], &mut |k, v| {
        let Ok(c) = borsh::from_slice::<Credential>(v) else {
            broken("every credential decodes", format!("{} bytes", v.len()));
            return true;
        };
        if !k.ends_with(&c.id.0) || c.id != c.statement.id() {
            broken("a credential is where its statement says", format!("credential {}", c.id));
        }
        if cutoff(s, &c.id).is_some_and(|cut| c.statement.issued <= cut.issued_until) {
            broken("no revoked credential stands", format!("credential {}", c.id));
        }
        want.insert(index_key(&c.statement.subject, c.statement.claim.kind(), &c.id));
        want.insert(timer_key(c.timer_shifted, TimerKind::Credential, &c.id.0));
        true
    });
    s.scan(&[CUTOFF], &[CUTOFF + 1], &mut |k, v| {
        match (tail_id(k), borsh::from_slice::<Cutoff>(v)) {
            (Some(id), Ok(cut)) => {
                want.insert(timer_key(cut.timer_shifted, TimerKind::Credential, &id));
            }
            _ => broken("every revocation decodes", format!("{} bytes", v.len())),
        }
        true
    });
    want
}
