//! Beginning without credits: the stamp, the first fees, the standing of a newcomer. Spec: `docs/specs/stake.md` §5.
//!
//! Guarantees: an account begins once; the treasury sets aside no more on a day than its cap; what it set aside pays fees of
//! a provider's own work only and returns when its time is over; a block verifies a bounded number of stamps. Whether a
//! stamp's work was done is checked where signatures are.

use super::{FEE_GRANT, FeeGrant, META_NEWCOMERS, NewcomerCount, Start, not_nothing, provider, set_timer};
use crate::apply::Tx;
use crate::bank;
use crate::env::Env;
use crate::error::TxError;
use crate::settle::DAY_MS;
use crate::tables::{OFFER_OF_PROVIDER, any, get, key, meta, put, put_provider};
use pasture_types::audit::AuditAction;
use pasture_types::event::Event;
use pasture_types::ids::derive;
use pasture_types::market_rules::MarketAction;
use pasture_types::service::ServiceAction;
use pasture_types::stake::{DepositAction, DepositEvent, Stamp};
use pasture_types::state::{StateRead, StateWrite};
use pasture_types::tx::{Action, TxBody};
use pasture_types::{AccountId, Amount, AssetId, ZoneId};

const GRANT_DOMAIN: &str = "pasture 2026-11 newcomer fees v1";

fn stamps(body: &TxBody) -> impl Iterator<Item = &Stamp> {
    body.actions.iter().filter_map(|a| match a {
        Action::Deposit(DepositAction::Newcomer { stamp }) => Some(stamp),
        _ => None,
    })
}

/// What needs no state: at most one stamp, and its work was done.
pub(crate) fn verify_stamp(body: &TxBody) -> Result<(), TxError> {
    let mut all = stamps(body);
    let Some(stamp) = all.next() else { return Ok(()) };
    if all.next().is_some() {
        return Err(TxError::Stamp("a transaction carries one; leave the others out"));
    }
    let zone: &ZoneId = &body.zone;
    if stamp.verify(zone, &body.account) { Ok(()) } else { Err(TxError::Stamp("its work was not done for this network, account and day")) }
}

/// The rules of a stamp that the state decides.
fn fits(env: &Env, stamp: &Stamp) -> Result<(), TxError> {
    let today = env.now().0 / DAY_MS;
    if stamp.day > today || stamp.day.saturating_add(1) < today {
        return Err(TxError::Stamp("it is of another day; make it anew"));
    }
    if stamp.bits() < u32::from(env.zone.params.stake.stamp_bits) {
        return Err(TxError::Stamp("it shows less work than this network asks; search on"));
    }
    Ok(())
}

/// The id under which an account's fees are kept; also that of their timer, so that it differs from a provider's.
pub(crate) fn grant_id(account: &AccountId) -> [u8; 32] {
    derive(GRANT_DOMAIN, &[&account.0])
}

fn grant_key(id: &[u8; 32]) -> Vec<u8> {
    key(FEE_GRANT, &[id])
}

pub(crate) fn grant(s: &dyn StateRead, account: &AccountId) -> Option<FeeGrant> {
    get(s, &grant_key(&grant_id(account)))
}

pub(crate) fn counted(s: &dyn StateRead) -> NewcomerCount {
    get(s, &meta(META_NEWCOMERS)).unwrap_or_default()
}

/// What the treasury can set aside now.
fn available(s: &dyn StateRead, env: &Env) -> Amount {
    let params = &env.zone.params.stake;
    let count = counted(s);
    let spent = if count.day == env.now().0 / DAY_MS { count.fees } else { Amount::ZERO };
    let cap = params.newcomer_fees_per_day.saturating_sub(spent);
    params.newcomer_fees.min(cap).min(bank::treasury(s, AssetId::CREDIT))
}

/// Whether an action is a provider's own work, which its first fees are for.
fn is_own_work(action: &Action) -> bool {
    match action {
        Action::Service(said) => return matches!(**said, ServiceAction::Usage(_)),
        Action::Audit(said) => return matches!(**said, AuditAction::Heartbeats(_)),
        Action::Market(said) => return matches!(said, MarketAction::Preempt { .. }),
        _ => {}
    }
    matches!(
        action,
        Action::RegisterAccount { .. }
            | Action::RegisterProvider { .. }
            | Action::RegisterNode { .. }
            | Action::PutOffer { .. }
            | Action::WithdrawOffer { .. }
            | Action::AcceptLease { .. }
            | Action::RejectLease { .. }
            | Action::SubmitUsage { .. }
            | Action::SubmitHeartbeat { .. }
            | Action::CloseLease { .. }
            | Action::Deposit(_)
    )
}

/// How much of a transaction's fee is paid from what was, or will be, set aside: all or nothing, and only where the payer's
/// balance does not do.
pub(crate) fn covers(s: &dyn StateRead, env: &Env, body: &TxBody, payer: &AccountId, fee: Amount) -> Result<Amount, TxError> {
    let stamp = stamps(body).next();
    if let Some(stamp) = stamp {
        fits(env, stamp)?;
    }
    let own = fee.saturating_add(body.tip) <= bank::balance(s, payer, AssetId::CREDIT);
    if own || *payer != body.account || !body.actions.iter().all(is_own_work) {
        return Ok(Amount::ZERO);
    }
    let left = match (grant(s, payer), stamp) {
        (Some(grant), _) => grant.left,
        (None, Some(_)) => available(s, env),
        (None, None) => Amount::ZERO,
    };
    Ok(if left >= fee { fee } else { Amount::ZERO })
}

/// Counts a stamp, sets its account's fees aside, and takes from them what [`covers`] said; the rest of the fee is the payer's.
pub(crate) fn take(s: &mut dyn StateWrite, env: &Env, body: &TxBody, payer: &AccountId, fee: Amount) -> Result<Amount, TxError> {
    let covered = covers(s, env, body, payer, fee)?;
    if stamps(body).next().is_some() {
        admit(s, env, &body.account)?;
    }
    if covered.is_zero() {
        return Ok(covered);
    }
    let mut grant = grant(s, payer).ok_or(TxError::InsufficientBalance { what: "the fee", needs: fee, has: Amount::ZERO })?;
    grant.left = grant.left.checked_sub(covered).ok_or(TxError::InsufficientBalance { what: "the fee", needs: fee, has: grant.left })?;
    put(s, grant_key(&grant_id(payer)), &grant);
    bank::add_fees(s, covered);
    Ok(covered)
}

/// A stamp is in this block: the block's count, and the first fees if the account has had none.
fn admit(s: &mut dyn StateWrite, env: &Env, account: &AccountId) -> Result<(), TxError> {
    let params = &env.zone.params.stake;
    let mut count = counted(s);
    if count.height != env.clock.height {
        (count.height, count.stamps) = (env.clock.height, 0);
    }
    if count.stamps >= params.newcomers_per_block {
        return Err(TxError::NewcomersFull);
    }
    count.stamps += 1;
    let today = env.now().0 / DAY_MS;
    if grant(s, account).is_none() {
        let left = available(s, env);
        if count.day != today {
            (count.day, count.fees) = (today, Amount::ZERO);
        }
        if not_nothing(left).is_ok() {
            bank::from_treasury(s, AssetId::CREDIT, left)?;
            count.fees = count.fees.saturating_add(left);
            let id = grant_id(account);
            let mut grant = FeeGrant { account: *account, left, timer_shifted: None };
            let end = env.shifted().plus(params.newcomer_fees_for);
            set_timer(s, &id, &mut grant.timer_shifted, Some(end));
            put(s, grant_key(&id), &grant);
        }
    }
    put(s, meta(META_NEWCOMERS), &count);
    Ok(())
}

/// The time of an account's first fees is over: the rest returns.
pub(crate) fn expire(s: &mut dyn StateWrite, id: &[u8; 32]) {
    let Some(mut grant) = get::<FeeGrant>(s, &grant_key(id)) else { return };
    bank::to_treasury(s, AssetId::CREDIT, grant.left);
    grant.left = Amount::ZERO;
    grant.timer_shifted = None;
    put(s, grant_key(id), &grant);
}

/// A provider begins without a deposit. Its stamp was looked at when its fee was taken.
pub(crate) fn begin(s: &mut dyn StateWrite, tx: &mut Tx<'_>, stamp: &Stamp) -> Result<(), TxError> {
    fits(tx.env, stamp)?;
    let mut p = provider(s, &tx.account)?;
    if p.bond.start != Start::Deposit {
        return Err(TxError::Exists("a newcomer's beginning of this provider"));
    }
    if p.stake >= tx.env.zone.params.min_stake {
        return Err(TxError::BadState { what: "the deposit", state: "there".into(), hint: "only who has none begins without" });
    }
    if !p.bond.forfeited.is_zero() {
        return Err(TxError::BadState {
            what: "the provider",
            state: "in debt".into(),
            hint: "post its deposit; a fault is not forgotten",
        });
    }
    // Offers of an earlier time may be paid in what cannot be kept back.
    if any(s, &key(OFFER_OF_PROVIDER, &[&tx.account.0])) {
        return Err(TxError::BadState { what: "the provider", state: "offering".into(), hint: "withdraw its offers first" });
    }
    p.bond.start = Start::Newcomer;
    put_provider(s, &tx.account, &p);
    tx.events.push(Event::Deposit(DepositEvent::NewcomerBegan { provider: tx.account }));
    Ok(())
}
