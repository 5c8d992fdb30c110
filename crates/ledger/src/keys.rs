//! An account's keys: replaced by its own threshold, after a timelock where it chose one. Spec: `docs/specs/accounts.md` §2.
//!
//! ```text
//!  Set --no timelock--> changed        Set --timelock--> pending --time--> changed
//!                                                           +--Cancel (current threshold)--> as before
//! ```
//! Guarantees: the account's id stays; one change waits at a time; a shorter timelock waits for the longer one; a changed key
//! set makes every grant void that was made under an earlier one. It checks no signatures: `auth` does, against the keys of the moment.

use crate::apply::Tx;
use crate::auth;
use crate::env::Env;
use crate::error::TxError;
use crate::tables::{self, TimerKind, get, key, mark, put, put_account, timer_key};
use crate::validate::at_most;
use borsh::{BorshDeserialize, BorshSerialize};
use pasture_types::account::{KeyAction, KeyEvent};
use pasture_types::event::Event;
use pasture_types::state::{StateRead, StateWrite};
use pasture_types::{AccountId, Millis, PublicKey, Timestamp};

/// account -> [`KeyPolicy`], once it ever changed its keys
pub(crate) const KEY_POLICY: u8 = 0x23;
/// Longest timelock: a longer one would rather lock the owner out.
pub(crate) const MAX_TIMELOCK: Millis = Millis(30 * 24 * 3_600_000);

/// New keys that wait.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct PendingKeys {
    /// The new keys, ascending.
    pub keys: Vec<PublicKey>,
    /// How many of them must sign.
    pub threshold: u8,
    /// The timelock from then on.
    pub timelock: Millis,
    /// When they hold, less halts.
    pub effective_shifted: Timestamp,
}

/// How an account's keys change.
#[derive(Clone, PartialEq, Eq, Default, Debug, BorshSerialize, BorshDeserialize)]
pub struct KeyPolicy {
    /// How long a change waits.
    pub timelock: Millis,
    /// How often the keys changed.
    pub key_set: u32,
    /// What waits.
    pub pending: Option<PendingKeys>,
}

/// The measured cost of an action on keys, in microseconds.
pub(crate) const fn cost_us(_: &KeyAction) -> u32 {
    10
}

fn policy_key(account: &AccountId) -> Vec<u8> {
    key(KEY_POLICY, &[&account.0])
}

/// How an account's keys change.
pub(crate) fn policy(s: &dyn StateRead, account: &AccountId) -> KeyPolicy {
    get(s, &policy_key(account)).unwrap_or_default()
}

/// How often an account's keys changed.
pub(crate) fn key_set(s: &dyn StateRead, account: &AccountId) -> u32 {
    policy(s, account).key_set
}

/// Applies an action on keys.
pub(crate) fn apply(s: &mut dyn StateWrite, tx: &mut Tx<'_>, action: &KeyAction) -> Result<(), TxError> {
    match action {
        KeyAction::Set { keys, threshold, timelock } => set(s, tx, keys, *threshold, *timelock),
        KeyAction::Cancel => cancel(s, tx),
    }
}

fn set(s: &mut dyn StateWrite, tx: &mut Tx<'_>, keys: &[PublicKey], threshold: u8, timelock: Millis) -> Result<(), TxError> {
    auth::key_set_form(keys, threshold)?;
    at_most("milliseconds of timelock", timelock.0, MAX_TIMELOCK.0)?;
    let mut policy = policy(s, &tx.account);
    if policy.pending.is_some() {
        return Err(TxError::BadState { what: "a change of keys", state: "waiting".into(), hint: "cancel it first" });
    }
    let effective_shifted = tx.env.shifted().plus(policy.timelock);
    let new = PendingKeys { keys: keys.to_vec(), threshold, timelock, effective_shifted };
    if policy.timelock.0 == 0 {
        return change(s, &tx.account, policy, new, &mut tx.events);
    }
    policy.pending = Some(new);
    mark(s, timer_key(effective_shifted, TimerKind::Keys, &tx.account.0));
    put(s, policy_key(&tx.account), &policy);
    let effective = effective_shifted.plus(tx.env.clock.halted);
    tx.events.push(Event::Keys(KeyEvent::Pending { account: tx.account, effective }));
    Ok(())
}

fn cancel(s: &mut dyn StateWrite, tx: &mut Tx<'_>) -> Result<(), TxError> {
    let mut policy = policy(s, &tx.account);
    let nothing = TxError::BadState { what: "a change of keys", state: "not waiting".into(), hint: "there is nothing to cancel" };
    let pending = policy.pending.take().ok_or(nothing)?;
    s.delete(&timer_key(pending.effective_shifted, TimerKind::Keys, &tx.account.0));
    put(s, policy_key(&tx.account), &policy);
    tx.events.push(Event::Keys(KeyEvent::Cancelled { account: tx.account }));
    Ok(())
}

/// The new keys hold from here on, also for what waits in a mempool.
fn change(s: &mut dyn StateWrite, id: &AccountId, old: KeyPolicy, new: PendingKeys, events: &mut Vec<Event>) -> Result<(), TxError> {
    let mut account = tables::account(s, id).ok_or_else(|| TxError::UnknownAccount(id.short()))?;
    (account.keys, account.threshold) = (new.keys, new.threshold);
    put_account(s, id, &account);
    let policy = KeyPolicy { timelock: new.timelock, key_set: old.key_set.saturating_add(1), pending: None };
    put(s, policy_key(id), &policy);
    events.push(Event::Keys(KeyEvent::Changed { account: *id }));
    Ok(())
}

/// A waiting change is due.
pub(crate) fn timer(s: &mut dyn StateWrite, env: &Env, id: &AccountId, events: &mut Vec<Event>) {
    let mut policy = policy(s, id);
    if let Some(new) = policy.pending.take()
        && new.effective_shifted <= env.shifted()
    {
        // An account with a policy has a record; without one there is nothing to change.
        let _ = change(s, id, policy, new, events);
    }
}
