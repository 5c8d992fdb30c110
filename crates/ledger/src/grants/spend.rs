//! What a delegate's transaction takes from its account, measured. Spec: `docs/specs/accounts.md` §1.3.
//!
//! Guarantees: each action is measured by itself against the balances before it, in every asset, so that what one action
//! returns hides nothing of what another takes; what an order may later put on hold counts when it is placed. It knows no
//! action's rules, but for whom its money is.

use super::records::{Grant, put_grant};
use super::{GrantUse, grant, remove};
use crate::apply::{Tx, one};
use crate::error::TxError;
use crate::tables::{self, BALANCE, get, key, prefix_end};
use crate::{channels, validate};
use pasture_types::channel::ChannelAction;
use pasture_types::grant::GrantEnd;
use pasture_types::market::Constraint;
use pasture_types::state::{Changes, Overlay, StateRead, StateWrite, merge};
use pasture_types::tx::Action;
use pasture_types::{AccountId, Amount, AssetId, GrantId};
use std::collections::BTreeMap;

/// Adds to what was spent of an asset.
pub(super) fn take(grant: &mut Grant, asset: AssetId, amount: Amount) -> Result<(), TxError> {
    let left = grant.left(asset);
    if amount > left {
        return Err(TxError::GrantBudget { needs: amount, left });
    }
    if let Some(at) = grant.terms.budget.iter().position(|b| b.asset == asset)
        && let Some(spent) = grant.spent.get_mut(at)
    {
        *spent = spent.saturating_add(amount);
    }
    Ok(())
}

/// Counts fee and tip that the account pays for its delegate, whether or not the actions succeed.
pub(crate) fn charge(s: &mut dyn StateWrite, id: &GrantId, asset: AssetId, amount: Amount) -> Result<(), TxError> {
    let mut grant = grant(s, id).ok_or_else(|| TxError::unknown("grant", id))?;
    take(&mut grant, asset, amount)?;
    put_grant(s, &grant);
    Ok(())
}

/// Applies one action of a delegate and counts what it took.
pub(crate) fn run(s: &mut dyn StateWrite, tx: &mut Tx<'_>, id: &GrantId, action: &Action) -> Result<(), TxError> {
    let before = grant(s, id).ok_or_else(|| TxError::unknown("grant", id))?;
    if before.terms.may == GrantUse::Invite {
        // A claim hands over exactly what is left, and ends the grant.
        return one(s, tx, action);
    }
    let to = recipient(s, action);
    let mut overlay = Overlay::new(s);
    one(&mut overlay, tx, action)?;
    let changes = overlay.into_changes();
    let mut taken = decreases(s, &tx.account, &changes);
    merge(s, changes);
    if let Action::PlaceOrder { terms } = action {
        let now = taken.get(&terms.asset).copied().unwrap_or_default();
        let all = now.checked_add(validate::largest_hold(terms)).ok_or(TxError::AmountTooLarge)?;
        taken.insert(terms.asset, all);
    }
    let mut grant = grant(s, id).ok_or_else(|| TxError::unknown("grant", id))?;
    for (asset, amount) in taken {
        if amount.is_zero() || (cfg!(mutant_8) && asset != AssetId::CREDIT) {
            continue;
        }
        check_recipient(&grant, to)?;
        take(&mut grant, asset, amount)?;
    }
    if let GrantUse::Enroll { nodes } = &mut grant.terms.may {
        *nodes = nodes.saturating_sub(1);
        if *nodes == 0 {
            remove(s, &grant, GrantEnd::UsedUp, &mut tx.events);
            return Ok(());
        }
    }
    put_grant(s, &grant);
    Ok(())
}

/// What an account has less of after changes, per asset.
fn decreases(s: &dyn StateRead, account: &AccountId, changes: &Changes) -> BTreeMap<AssetId, Amount> {
    let prefix = key(BALANCE, &[&account.0]);
    let mut out = BTreeMap::new();
    for (k, after) in changes.range(prefix.clone()..prefix_end(&prefix)) {
        let Some(asset) = k.last_chunk::<4>().map(|b| AssetId(u32::from_be_bytes(*b))) else { continue };
        let before: Amount = get(s, k).unwrap_or_default();
        let after: Amount = after.as_ref().and_then(|v| borsh::from_slice(v).ok()).unwrap_or_default();
        out.insert(asset, before.saturating_sub(after));
    }
    out
}

/// To whom an action's money goes, where that is one account.
fn recipient(s: &dyn StateRead, action: &Action) -> Option<AccountId> {
    match action {
        Action::Transfer { to, .. } => Some(*to),
        Action::PlaceOrder { terms } => terms.constraints.iter().find_map(|c| match c {
            Constraint::Provider(p) => Some(*p),
            _ => None,
        }),
        Action::Extend { lease, .. } => tables::lease(s, lease).map(|l| l.provider),
        Action::Channel(ChannelAction::Open { provider, .. }) => Some(*provider),
        Action::Channel(ChannelAction::TopUp { channel, .. }) => channels::channel(s, channel).map(|c| c.provider),
        _ => None,
    }
}

/// Money goes to the named recipients only; what has no single recipient goes to none of them.
fn check_recipient(grant: &Grant, to: Option<AccountId>) -> Result<(), TxError> {
    let GrantUse::Act { recipients, .. } = &grant.terms.may else { return Ok(()) };
    if recipients.is_empty() || to.is_some_and(|to| recipients.binary_search(&to).is_ok()) {
        return Ok(());
    }
    Err(TxError::GrantRefused("money may go to the named recipients only"))
}

/// Orders, and extensions of leases, cost at most the granted rate.
pub(super) fn check_rate(s: &dyn StateRead, action: &Action, limit: Option<Amount>) -> Result<(), TxError> {
    let Some(limit) = limit else { return Ok(()) };
    let rate = match action {
        Action::PlaceOrder { terms } => Some(terms.max_price_per_hour),
        Action::Extend { lease, .. } => tables::lease(s, lease).map(|l| l.rate_per_hour),
        _ => None,
    };
    if rate.is_some_and(|rate| rate > limit) {
        return Err(TxError::GrantRefused("the price per hour is above what is granted"));
    }
    Ok(())
}
