//! The invariants of reputation. Spec: `docs/specs/reputation.md` §6.
//!
//! Guarantees: reads only; for `check`, not for the path of a block.

use super::records::{Pair, Rating, Side, Standing};
use super::{MAX_PAIRS, PAIR, PAIR_BY_AGE, RATING, STANDING, age_key, fade::MAX_VALUE, standing_key};
use crate::tables::{self, keys_between};
use pasture_types::AccountId;
use pasture_types::reputation::MAX_STARS;
use pasture_types::state::StateRead;
use std::collections::{BTreeMap, BTreeSet};

/// Every broken invariant, as rule and detail.
pub(crate) fn check(s: &dyn StateRead, broken: &mut dyn FnMut(&'static str, String)) {
    for k in keys_between(s, &[STANDING], &[STANDING + 1], usize::MAX) {
        let Some(r) = tables::get::<Standing>(s, &k) else {
            broken("every record decodes", "a standing".into());
            continue;
        };
        let stars = r.stars.0 <= r.rated.0.saturating_mul(u128::from(MAX_STARS));
        if !stars || [r.fees, r.harm, r.rated].iter().any(|v| v.0 > MAX_VALUE) || r.pairs > MAX_PAIRS {
            broken("a standing is within its bounds", format!("{r:?}"));
        }
    }
    let (mut ages, mut counted): (BTreeSet<Vec<u8>>, BTreeMap<AccountId, u32>) = Default::default();
    for k in keys_between(s, &[PAIR], &[PAIR + 1], usize::MAX) {
        let ids = k.get(1..33).and_then(|b| b.first_chunk::<32>()).copied().zip(tables::tail_id(&k));
        let Some(((provider, user), pair)) = ids.zip(tables::get::<Pair>(s, &k)) else {
            broken("every record decodes", "a pair".into());
            continue;
        };
        ages.insert(age_key(&AccountId(provider), pair.epoch, &AccountId(user)));
        *counted.entry(AccountId(provider)).or_default() += 1;
    }
    let have: BTreeSet<_> = keys_between(s, &[PAIR_BY_AGE], &[PAIR_BY_AGE + 1], usize::MAX).into_iter().collect();
    if have != ages {
        broken("pairs are indexed by age", format!("{} entries, {} pairs", have.len(), ages.len()));
    }
    for (provider, pairs) in counted {
        let said = tables::get::<Standing>(s, &standing_key(Side::Provider, &provider)).map_or(0, |r| r.pairs);
        if said != pairs {
            broken("a provider's pairs are counted", format!("provider {provider}: {said} counted, {pairs} found"));
        }
    }
    for k in keys_between(s, &[RATING], &[RATING + 1], usize::MAX) {
        let rating = tables::get::<Rating>(s, &k);
        let fits = rating.is_some_and(|r| {
            let paid = tables::lease(s, &r.lease).is_some_and(|l| l.account == r.account && l.provider == r.provider);
            paid && r.account != r.provider && (1..=MAX_STARS).contains(&r.stars)
        });
        if !fits {
            broken("a rating is of a lease that its author paid for", format!("{rating:?}"));
        }
    }
}
