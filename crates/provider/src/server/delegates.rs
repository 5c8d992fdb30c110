//! Device keys that stand in for an account: their grants, read from the ledger and used for a moment.
//!
//! Guarantees: a grant that was taken back is good for [`FRESH_MS`] at most while the network answers, one that has expired for no
//! moment; a key that is nobody's does not make this node ask more often than every [`PAUSE_MS`]. It never lets a device key confirm
//! service as the account: the ledger would not take that.

use crate::context::Context;
use pasture_api::delegate::stands_in;
use pasture_api::{GrantView, Problem};
use pasture_types::{AccountId, PublicKey, Timestamp};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// How long an account's grants are used before they are read again: the longest that a lost device still works here.
const FRESH_MS: u64 = 10_000;
/// Least time between two readings because of an unknown key.
const PAUSE_MS: u64 = 1_000;
/// Most accounts whose grants are kept; then all are read again.
const MAX_KNOWN: usize = 4096;

/// Grants of accounts and when they were read. A lock and not an owner task: nobody holds it across an await.
#[derive(Default)]
pub(crate) struct Delegates(Mutex<BTreeMap<AccountId, (Vec<GrantView>, u64)>>);

/// What is known of a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Known {
    /// It stands in.
    Good,
    /// It did when we looked; it is time to look again.
    Was,
    /// It does not.
    Bad,
    /// We have to look.
    Nothing,
}

impl Delegates {
    fn known(&self, account: &AccountId, key: &PublicKey, now: u64) -> Known {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((grants, at)) = all.get(account) else { return Known::Nothing };
        let fits = grants.iter().any(|g| stands_in(g, key, Timestamp(now)));
        match (fits, now.abs_diff(*at)) {
            (true, ..FRESH_MS) => Known::Good,
            (true, _) => Known::Was,
            (false, ..PAUSE_MS) => Known::Bad,
            (false, _) => Known::Nothing,
        }
    }
    fn learn(&self, account: AccountId, grants: Vec<GrantView>, now: u64) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MAX_KNOWN {
            all.clear();
        }
        all.insert(account, (grants, now));
    }
}

/// Whether a key is known to stand in for an account, without a look at the ledger.
pub(super) fn is_known(ctx: &Context, account: &AccountId, key: &PublicKey) -> bool {
    ctx.delegates.known(account, key, ctx.clock.now_ms()) == Known::Good
}

/// Whether a key stands in for an account.
pub(super) async fn stands_in_for(ctx: &Context, account: &AccountId, key: &PublicKey) -> Result<bool, Problem> {
    let now = ctx.clock.now_ms();
    let known = ctx.delegates.known(account, key, now);
    match known {
        Known::Good => return Ok(true),
        Known::Bad => return Ok(false),
        Known::Was | Known::Nothing => {}
    }
    match ctx.network.grants(account).await {
        Ok(grants) => {
            let fits = grants.iter().any(|g| stands_in(g, key, Timestamp(now)));
            ctx.delegates.learn(*account, grants, now);
            Ok(fits)
        }
        // What was known a moment ago still counts while the network is away, but never beyond its end.
        Err(_) if known == Known::Was => Ok(true),
        Err(error) => Err(Problem::unavailable(format!("whose key this is cannot be looked up now: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pasture_api::delegate::daily_kinds;
    use pasture_types::grant::GrantUse;
    use pasture_types::{Amount, GrantId, SigningKey};

    #[test]
    fn a_grant_is_used_for_a_moment_and_never_beyond_its_end() {
        let (account, key) = (AccountId([2; 32]), SigningKey::from_seed([3; 32]).public());
        let grant = GrantView {
            id: GrantId([1; 32]),
            account,
            key: key.to_string(),
            may: GrantUse::Act { kinds: daily_kinds(), recipients: vec![], max_rate_per_hour: None },
            budget: vec![],
            spent: vec![],
            left: Amount::ZERO,
            expires: Timestamp(1_008_000),
            void: false,
            lanes: vec![],
        };
        let delegates = Delegates::default();
        assert_eq!(delegates.known(&account, &key, 1_000_000), Known::Nothing);
        delegates.learn(account, vec![grant.clone()], 1_000_000);
        assert_eq!(delegates.known(&account, &key, 1_007_999), Known::Good);
        assert_ne!(delegates.known(&account, &key, 1_008_000), Known::Good, "expired");
        delegates.learn(account, vec![GrantView { expires: Timestamp(u64::MAX), ..grant }], 1_000_000);
        assert_eq!(delegates.known(&account, &key, 1_000_000 + FRESH_MS), Known::Was);
        delegates.learn(account, vec![], 2_000_000);
        assert_eq!(delegates.known(&account, &key, 2_000_500), Known::Bad);
        assert_eq!(delegates.known(&account, &key, 2_000_000 + PAUSE_MS), Known::Nothing);
    }
}
