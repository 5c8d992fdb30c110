//! The invariants of grants and of waiting key changes, over the whole state. Spec: `docs/specs/accounts.md` §6.
//!
//! Guarantees: reads only; reports every broken rule and the index and timer keys that the records call for.

use super::records::{Grant, of_account_key, watch_key};
use super::{GRANT, MAX_GRANTS};
use crate::keys::{KEY_POLICY, KeyPolicy};
use crate::tables::{self, TimerKind, timer_key};
use pasture_types::AccountId;
use pasture_types::grant::GrantUse;
use pasture_types::state::StateRead;
use std::collections::{BTreeMap, BTreeSet};

/// Checks grants and key changes; the keys that must be in indexes and timers.
pub(crate) fn check(s: &dyn StateRead, broken: &mut dyn FnMut(&'static str, String)) -> BTreeSet<Vec<u8>> {
    let mut want = BTreeSet::new();
    let mut of_account: BTreeMap<AccountId, usize> = BTreeMap::new();
    s.scan(&[GRANT], &[GRANT + 1], &mut |k, v| {
        let Ok(g) = borsh::from_slice::<Grant>(v) else {
            broken("every grant decodes", format!("{} bytes", v.len()));
            return true;
        };
        let within = g.spent.len() == g.terms.budget.len() && g.spent.iter().zip(&g.terms.budget).all(|(spent, b)| *spent <= b.amount);
        if !within {
            broken("a grant spends within its budget", format!("grant {}", g.id));
        }
        if matches!(g.terms.may, GrantUse::Enroll { nodes: 0 }) {
            broken("a grant that adds no more machines is gone", format!("grant {}", g.id));
        }
        if !k.ends_with(&g.id.0) {
            broken("a grant is where its id says", format!("grant {}", g.id));
        }
        *of_account.entry(g.account).or_default() += 1;
        want.insert(of_account_key(&g.account, &g.id));
        want.insert(timer_key(g.expires_shifted, TimerKind::Grant, &g.id.0));
        if let GrantUse::Watch { watcher } = &g.terms.may {
            want.insert(watch_key(&g.account, watcher));
        }
        true
    });
    for (account, n) in of_account {
        if n > MAX_GRANTS {
            broken("an account has a bounded number of grants", format!("account {account}: {n}"));
        }
    }
    s.scan(&[KEY_POLICY], &[KEY_POLICY + 1], &mut |k, v| {
        let Some((id, policy)) = tables::tail_id(k).zip(borsh::from_slice::<KeyPolicy>(v).ok()) else {
            broken("every key policy decodes", format!("{} bytes", v.len()));
            return true;
        };
        if tables::account(s, &AccountId(id)).is_none() {
            broken("keys that change are those of an account", format!("account {}", AccountId(id)));
        }
        want.extend(policy.pending.map(|p| timer_key(p.effective_shifted, TimerKind::Keys, &id)));
        true
    });
    want
}
