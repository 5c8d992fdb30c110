//! Watchers: who may confirm in the user's place, how much, and what their evidence does. Spec: `docs/specs/settlement.md` §7.
//!
//! Guarantees: a watcher shares no operator with the provider whose service it confirms, as far as the ledger can know; it confirms at
//! most `watcher_per_day` a lease and day beyond what counts anyway, and over all leases at most the budget of the user's grant; the user may dismiss it at any time. Its evidence counts only
//! where the node took the lease knowing it. Nobody here moves money.

use super::failover;
use crate::apply::Tx;
use crate::env::Env;
use crate::error::TxError;
use crate::lease::{object_to, set_timer};
use crate::records::{Account, Evidence, Lease, Watch, Watched};
use crate::settle::DAY_MS;
use crate::tables::{self, VALIDATOR, get, key, put_lease};
use crate::{seams, settle};
use pasture_scheduler::price_for;
use pasture_types::event::Event;
use pasture_types::keys::Signature;
use pasture_types::lease::{LeaseState, Usage};
use pasture_types::market::{Failover, OrderTerms};
use pasture_types::service::{FailedCheck, ServiceEvent};
use pasture_types::state::{StateRead, StateWrite};
use pasture_types::{AccountId, LeaseId, Millis, NodeId, PublicKey, Timestamp};

/// Whether an account is run by whoever runs a provider's node, as far as the ledger can know: it is the provider, has a key in
/// common with it or holds the node's key, puts up its deposit or has its own put up by it, or earns for a validator with that key.
pub(crate) fn same_operator(s: &dyn StateRead, provider: &AccountId, node: &NodeId, account: &AccountId) -> bool {
    let keys_of = |id: &AccountId| tables::account(s, id).map(|a: Account| a.keys).unwrap_or_default();
    let (theirs, own) = (keys_of(provider), keys_of(account));
    let earns: Option<AccountId> = get(s, &key(VALIDATOR, &[&node.0]));
    account == provider
        || own.iter().any(|k| theirs.binary_search(k).is_ok() || *k == PublicKey::from(*node))
        || earns == Some(*account)
        || seams::sponsors(s, provider).contains(account)
        || (seams::sponsors(s, account).contains(provider) && !cfg!(mutant_6))
}

/// Whether an order's watcher could never confirm service of this provider's node: such a match helps nobody.
pub(crate) fn conflicts(s: &dyn StateRead, terms: &OrderTerms, provider: &AccountId, node: &NodeId) -> bool {
    terms.watcher.is_some_and(|w| same_operator(s, provider, node, &w))
}

/// An order names a watcher that can sign.
pub(crate) fn must_exist(s: &dyn StateRead, terms: &OrderTerms) -> Result<(), TxError> {
    match terms.watcher {
        Some(watcher) if tables::account(s, &watcher).is_none() => Err(TxError::UnknownAccount(watcher.short())),
        Some(_) | None => Ok(()),
    }
}

pub(crate) fn set(s: &mut dyn StateWrite, tx: &mut Tx<'_>, id: &LeaseId, watcher: Option<AccountId>) -> Result<(), TxError> {
    let mut lease = tables::lease(s, id).ok_or_else(|| TxError::unknown("lease", id))?;
    if tx.node.is_some() || lease.account != tx.account {
        return Err(TxError::NotYours("the lease"));
    }
    if lease.state == LeaseState::Closed {
        return Err(TxError::Watcher("the lease is settled; there is nothing left to confirm"));
    }
    if watcher == lease.watch.map(|w| w.account) {
        return Err(TxError::Watcher("it is the lease's watcher already"));
    }
    lease.watch = match watcher {
        None => None,
        Some(account) => {
            if tables::account(s, &account).is_none() {
                return Err(TxError::UnknownAccount(account.short()));
            }
            if same_operator(s, &lease.provider, &lease.node, &account) {
                return Err(TxError::Watcher("it shares an operator with the provider; name somebody else"));
            }
            Some(Watch { account, named: false })
        }
    };
    put_lease(s, id, &lease);
    // Whoever watches a lease watches its standby.
    if let Some(mut standby) = failover::load(s, id).and_then(|r| r.standby).and_then(|x| tables::lease(s, &x.lease)) {
        standby.watch = lease.watch;
        put_lease(s, &standby.id.clone(), &standby);
    }
    tx.events.push(Event::Service(ServiceEvent::WatcherSet { lease: *id, account: lease.account, watcher }));
    Ok(())
}

const fn today(env: &Env) -> u64 {
    env.now().0 / DAY_MS
}

/// Decides whether a watcher may confirm this usage with this key, and counts it against the lease's cap and against the budget of the
/// grant that the user gave the watcher.
pub(crate) fn confirm(
    s: &mut dyn StateWrite,
    env: &Env,
    lease: &mut Lease,
    usage: &Usage,
    by: &AccountId,
    key: &PublicKey,
) -> Result<(), TxError> {
    if lease.watch.is_none_or(|w| w.account != *by) {
        return Err(TxError::Watcher("it does not watch this lease; the user names its watcher"));
    }
    if same_operator(s, &lease.provider, &lease.node, by) {
        return Err(TxError::Watcher("it shares an operator with the provider; only the user can confirm"));
    }
    let counted = lease.accepted_claim();
    let more = usage.served_ms.0.saturating_sub(counted.served.0).saturating_add(usage.build_ms.0.saturating_sub(counted.build.0));
    let day = today(env);
    // The cap is the lease's, not the watcher's: naming another one resets nothing.
    let used = if lease.watched.day == day { lease.watched.used.0 } else { 0 };
    let used = used.saturating_add(more);
    if used > env.zone.params.service.watcher_per_day.0 {
        return Err(TxError::Watcher("it has confirmed as much as it may today; let the user confirm, or send the usage without it"));
    }
    // Each confirmation rounds up, so that many small ones confirm no more than one.
    seams::watch_spend(s, env, &lease.account, by, key, lease.asset, price_for(lease.rate_per_hour, Millis(more)))?;
    lease.watched = Watched { day, used: Millis(used) };
    Ok(())
}

/// Records a watcher's evidence. For a lease without failover it is an objection in the user's place.
pub(crate) fn report(
    s: &mut dyn StateWrite,
    tx: &mut Tx<'_>,
    report: &FailedCheck,
    key: &PublicKey,
    signature: &Signature,
) -> Result<(), TxError> {
    let env = tx.env;
    let mut lease = tables::lease(s, &report.lease).ok_or_else(|| TxError::unknown("lease", &report.lease))?;
    let no = |why| Err(TxError::Evidence(why));
    let Some(watch) = lease.watch.filter(|w| w.named) else {
        return no("only a watcher that the order names can give evidence: the node took the lease knowing it");
    };
    if !lease.is_live() && lease.state != LeaseState::Closing {
        return no("the lease is not open");
    }
    if report.generation != lease.generation {
        return no("it is of another generation of the lease");
    }
    let asked = tables::order(s, &lease.order).map(|o| o.terms.alive);
    if asked != Some(report.check) {
        return no("it is not the check that the order names");
    }
    let from = env.zone.epoch_of(lease.accepted_at.unwrap_or(lease.matched_at));
    let until = lease.closing.as_ref().map_or(env.now(), |c| c.at);
    if report.epoch < from || report.epoch > env.zone.epoch_of(until) {
        return no("its period lies outside the lease's time");
    }
    let account = tables::account(s, &watch.account).ok_or_else(|| TxError::UnknownAccount(watch.account.short()))?;
    if account.keys.binary_search(key).is_err() {
        return Err(TxError::KeyNotAllowed { key: key.to_string(), whose: "the watcher" });
    }
    if same_operator(s, &lease.provider, &lease.node, &watch.account) || same_user(s, &lease.account, &account) {
        return no("the watcher shares an operator with the provider or the user; its word shows nothing");
    }
    key.verify(&report.digest(), signature).map_err(|source| TxError::Signature { whose: "evidence", source })?;
    // The latest failure is kept: an old one says nothing of what came after it.
    if lease.evidence.is_some_and(|e| e.epoch >= report.epoch) {
        return no("evidence of this period or a later one is recorded already");
    }
    settle::ripen(env, &mut lease);
    lease.evidence = Some(Evidence { watcher: watch.account, epoch: report.epoch });
    tx.events.push(Event::Service(ServiceEvent::CheckFailed { lease: lease.id, watcher: watch.account, epoch: report.epoch }));
    if lease.failover == Failover::Off && !lease.disputed {
        object_to(s, tx, lease);
        return Ok(());
    }
    if lease.state == LeaseState::Closing {
        set_timer(s, &mut lease, Some(env.shifted()));
    }
    put_lease(s, &lease.id.clone(), &lease);
    Ok(())
}

/// Whether a watcher is the user itself, or has a key in common with it.
fn same_user(s: &dyn StateRead, user: &AccountId, watcher: &Account) -> bool {
    let keys = tables::account(s, user).map(|a| a.keys).unwrap_or_default();
    watcher.id == *user || watcher.keys.iter().any(|k| keys.binary_search(k).is_ok())
}

/// The watcher whose evidence shows that service failed in the time that is in dispute: its epoch is touched by what the node claims
/// beyond what is accepted.
pub(crate) fn shown(env: &Env, lease: &Lease, accepted_until: Timestamp, claimed_until: Timestamp) -> Option<AccountId> {
    let evidence = lease.evidence?;
    let within = evidence.epoch >= env.zone.epoch_of(accepted_until) && evidence.epoch <= env.zone.epoch_of(claimed_until);
    within.then_some(evidence.watcher)
}
