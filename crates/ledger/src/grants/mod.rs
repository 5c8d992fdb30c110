//! Grants: made, revoked, claimed, pruned; and what a delegate's transaction may do. Spec: `docs/specs/accounts.md` §1.
//!
//! Guarantees: what leaves the account's balance, or is promised from it, by a grant's transactions never exceeds the
//! grant's budget, fees included; a delegate never grants, revokes or changes keys; a revoked, expired or void grant
//! does nothing from that moment on. How an action is applied is the business of its own module.

mod check;
mod records;
mod spend;

use crate::apply::Tx;
use crate::env::Env;
use crate::error::TxError;
use crate::tables::{LANE, TimerKind, get, key, keys_with, mark, put, put_account, tail_id, timer_key};
use crate::validate::at_most;
use crate::{auth, bank, cost, keys, tables};
use pasture_types::event::Event;
use pasture_types::grant::{
    ActionKind, GrantAction, GrantEnd, GrantEvent, GrantTerms, GrantUse, MAX_BUDGETS, MAX_ENROLLED, MAX_GRANT_LANES, MAX_GRANT_LIFE,
    MAX_KINDS, MAX_RECIPIENTS, claim_digest, grant_id,
};
use pasture_types::keys::Signature;
use pasture_types::state::{StateRead, StateWrite};
use pasture_types::tx::{Action, TxBody};
use pasture_types::{AccountId, Amount, AssetId, GrantId, PublicKey};

pub(crate) use check::check;
pub use records::Grant;
pub(crate) use records::{GRANT, GRANT_OF_ACCOUNT, WATCH_GRANT, grant};
pub(crate) use spend::{charge, run};

/// Most standing grants of one account.
pub(crate) const MAX_GRANTS: usize = 32;

/// The measured cost of an action on grants, in microseconds.
pub(crate) const fn cost_us(action: &GrantAction) -> u32 {
    match action {
        GrantAction::Create { .. } | GrantAction::Revoke { .. } => 15,
        GrantAction::Claim { proof, .. } => 20 + cost::signature_us(proof),
    }
}

/// Actions that no grant ever allows: those that would let a delegate outgrow its grant.
fn never_granted(action: &Action) -> bool {
    matches!(action, Action::RegisterAccount { .. } | Action::Grant(_) | Action::Keys(_))
}

/// The families of those actions, to refuse them when a grant is made.
fn never_granted_families() -> [u8; 3] {
    let register = Action::RegisterAccount { keys: Vec::new(), threshold: 0 };
    let grant = Action::Grant(GrantAction::Revoke { grant: GrantId::default() });
    let keys = Action::Keys(pasture_types::account::KeyAction::Cancel);
    [&register, &grant, &keys].map(|a| ActionKind::of(a).family())
}

/// Applies an action on grants.
pub(crate) fn apply(s: &mut dyn StateWrite, tx: &mut Tx<'_>, action: &GrantAction) -> Result<(), TxError> {
    match action {
        GrantAction::Create { terms } => create(s, tx, terms),
        GrantAction::Revoke { grant: id } => {
            let grant = grant(s, id).ok_or_else(|| TxError::unknown("grant", id))?;
            if grant.account != tx.account {
                return Err(TxError::NotYours("the grant"));
            }
            remove(s, &grant, GrantEnd::Revoked, &mut tx.events);
            Ok(())
        }
        GrantAction::Claim { keys, threshold, proof } => claim(s, tx, keys, *threshold, proof),
    }
}

fn create(s: &mut dyn StateWrite, tx: &mut Tx<'_>, terms: &GrantTerms) -> Result<(), TxError> {
    check_terms(tx.env, &tx.account, terms)?;
    let standing = keys_with(s, &key(GRANT_OF_ACCOUNT, &[&tx.account.0]), MAX_GRANTS).len() as u64;
    at_most("standing grants (revoke one first)", standing + 1, MAX_GRANTS as u64)?;
    let id = grant_id(&tx.id, tx.index);
    if let GrantUse::Watch { watcher } = &terms.may {
        let of_watcher = records::watch_key(&tx.account, watcher);
        if s.get(&of_watcher).is_some() {
            return Err(TxError::Exists("a grant for this watcher"));
        }
        put(s, of_watcher, &id);
    }
    let grant = Grant {
        id,
        account: tx.account,
        terms: terms.clone(),
        expires_shifted: tx.env.shift(terms.expires),
        created_at: tx.env.now(),
        key_set: keys::key_set(s, &tx.account),
        spent: vec![Amount::ZERO; terms.budget.len()],
    };
    mark(s, records::of_account_key(&tx.account, &id));
    mark(s, timer_key(grant.expires_shifted, TimerKind::Grant, &id.0));
    records::put_grant(s, &grant);
    tx.events.push(Event::Grant(GrantEvent::Created { grant: id, account: tx.account }));
    Ok(())
}

fn ascending<T: Ord>(list: &[T]) -> bool {
    list.iter().zip(list.iter().skip(1)).all(|(a, b)| a < b)
}

/// The form of a grant.
fn check_terms(env: &Env, account: &AccountId, terms: &GrantTerms) -> Result<(), TxError> {
    let invalid = |why: &str| Err(TxError::Invalid(why.into()));
    if terms.expires <= env.now() {
        return invalid("the grant has expired already; set a later expiry (and check the clock)");
    }
    at_most("milliseconds until the grant expires", terms.expires.since(env.now()).0, MAX_GRANT_LIFE.0)?;
    at_most("assets in the budget", terms.budget.len() as u64, MAX_BUDGETS as u64)?;
    let assets: Vec<AssetId> = terms.budget.iter().map(|b| b.asset).collect();
    if !ascending(&assets) {
        return invalid("a budget's assets must be sorted, each once");
    }
    match &terms.may {
        GrantUse::Act { kinds, recipients, .. } => {
            at_most("kinds of actions", kinds.len() as u64, MAX_KINDS as u64)?;
            at_most("recipients", recipients.len() as u64, MAX_RECIPIENTS as u64)?;
            if kinds.is_empty() {
                return invalid("a grant for acting names at least one kind of action");
            }
            if !ascending(kinds) || !ascending(recipients) {
                return invalid("kinds and recipients must be sorted, each once");
            }
            if kinds.iter().any(|k| never_granted_families().contains(&k.family())) {
                return invalid("opening accounts, grants and keys can never be granted");
            }
        }
        GrantUse::Watch { watcher } => {
            if watcher == account {
                return invalid("an account confirms its own usage without a grant");
            }
            if terms.budget.is_empty() {
                return invalid("a watcher's grant needs a budget: the most that it may confirm");
            }
        }
        GrantUse::Invite => match terms.budget.as_slice() {
            [one] if one.asset == AssetId::CREDIT && !one.amount.is_zero() => {}
            _ => return invalid("an invite carries credits and nothing else"),
        },
        GrantUse::Enroll { nodes } => {
            at_most("machines of one grant", u64::from(*nodes), u64::from(MAX_ENROLLED))?;
            match terms.budget.as_slice() {
                _ if *nodes == 0 => return invalid("a grant that adds machines adds at least one"),
                [one] if one.asset == AssetId::CREDIT && !one.amount.is_zero() => {}
                _ => return invalid("a grant that adds machines has credits for their fees and nothing else"),
            }
        }
    }
    Ok(())
}

/// Whether a delegate may send this transaction, as far as it can be seen before anything is applied.
pub(crate) fn rights(s: &dyn StateRead, env: &Env, body: &TxBody, id: &GrantId, signed_with: &[PublicKey]) -> Result<Grant, TxError> {
    let grant = grant(s, id).ok_or_else(|| TxError::unknown("grant (revoked, expired or used up)", id))?;
    if grant.account != body.account {
        return Err(TxError::NotYours("the grant"));
    }
    standing(s, env, &grant)?;
    at_most("lane of a grant", u64::from(body.lane), u64::from(MAX_GRANT_LANES) - 1)?;
    let whose = "the grant";
    if let Some(key) = signed_with.iter().find(|k| **k != grant.terms.key) {
        return Err(TxError::KeyNotAllowed { key: key.to_string(), whose });
    }
    if signed_with.is_empty() {
        return Err(TxError::SignatureCount { whose, got: 0, want: 1 });
    }
    match &grant.terms.may {
        GrantUse::Act { kinds, max_rate_per_hour, .. } => {
            for action in &body.actions {
                if never_granted(action) || kinds.binary_search(&ActionKind::of(action)).is_err() {
                    return Err(TxError::GrantRefused("this kind of action is not granted; ask the account's owner for it"));
                }
                spend::check_rate(s, action, *max_rate_per_hour)?;
            }
        }
        GrantUse::Watch { .. } => return Err(TxError::GrantRefused("it is for confirming usage only")),
        GrantUse::Invite => {
            if !matches!(body.actions.as_slice(), [Action::Grant(GrantAction::Claim { .. })]) {
                return Err(TxError::GrantRefused("an invite is for opening one account, and nothing else"));
            }
        }
        GrantUse::Enroll { .. } => {
            let [Action::RegisterNode { node, .. }] = body.actions.as_slice() else {
                return Err(TxError::GrantRefused("it is for adding one machine at a time, and nothing else"));
            };
            if tables::node(s, node).is_some() {
                return Err(TxError::GrantRefused("it is for machines that are not registered yet, and this one is"));
            }
        }
    }
    Ok(grant)
}

/// Whether a grant that has a record still counts.
fn standing(s: &dyn StateRead, env: &Env, grant: &Grant) -> Result<(), TxError> {
    if env.shifted() >= grant.expires_shifted {
        return Err(TxError::GrantRefused("it has expired; ask the account's owner for a new one"));
    }
    if grant.key_set != keys::key_set(s, &grant.account) {
        return Err(TxError::GrantRefused("its account changed its keys since; ask the account's owner for a new one"));
    }
    Ok(())
}

/// Opens an account with an invite and hands it what is left.
fn claim(s: &mut dyn StateWrite, tx: &mut Tx<'_>, keys: &[PublicKey], threshold: u8, proof: &Signature) -> Result<(), TxError> {
    let not_an_invite = || TxError::GrantRefused("only an invite can be claimed; send this with the invite's own right");
    let grant = tx.grant.and_then(|id| grant(s, &id)).filter(|g| g.terms.may == GrantUse::Invite).ok_or_else(not_an_invite)?;
    let first = keys.first().ok_or_else(|| TxError::Invalid("an account needs a key".into()))?;
    let id = first.account();
    if tables::account(s, &id).is_some() {
        return Err(TxError::Exists("the account (an invite opens a new one)"));
    }
    let account = auth::new_account(&id, keys, threshold, tx.env.now())?;
    let digest = claim_digest(&tx.env.zone.id, &grant.id, keys, threshold);
    first.verify(&digest, proof).map_err(|source| TxError::Signature { whose: "the new account's proof", source })?;
    let amount = grant.left(AssetId::CREDIT);
    if amount.is_zero() {
        return Err(TxError::GrantRefused("nothing is left of it"));
    }
    bank::debit(s, &grant.account, AssetId::CREDIT, amount, "the invite")?;
    bank::credit(s, &id, AssetId::CREDIT, amount);
    put_account(s, &id, &account);
    tx.events.push(Event::AccountRegistered { account: id });
    tx.events.push(Event::Transferred { from: Some(grant.account), to: id, asset: AssetId::CREDIT, amount });
    remove(s, &grant, GrantEnd::Claimed, &mut tx.events);
    Ok(())
}

/// Removes a grant with its indexes, timer and lanes. Ids are never used again, so nothing can be replayed.
fn remove(s: &mut dyn StateWrite, grant: &Grant, why: GrantEnd, events: &mut Vec<Event>) {
    s.delete(&records::grant_key(&grant.id));
    s.delete(&records::of_account_key(&grant.account, &grant.id));
    s.delete(&timer_key(grant.expires_shifted, TimerKind::Grant, &grant.id.0));
    if let GrantUse::Watch { watcher } = &grant.terms.may {
        s.delete(&records::watch_key(&grant.account, watcher));
    }
    for lane in keys_with(s, &key(LANE, &[&grant.id.0]), usize::from(MAX_GRANT_LANES)) {
        s.delete(&lane);
    }
    events.push(Event::Grant(GrantEvent::Ended { grant: grant.id, account: grant.account, why }));
}

/// A grant's time is over.
pub(crate) fn timer(s: &mut dyn StateWrite, id: &GrantId, events: &mut Vec<Event>) {
    if let Some(grant) = grant(s, id) {
        remove(s, &grant, GrantEnd::Expired, events);
    }
}

/// An account's standing grants.
pub(crate) fn of_account(s: &dyn StateRead, account: &AccountId) -> Vec<Grant> {
    let found = keys_with(s, &key(GRANT_OF_ACCOUNT, &[&account.0]), MAX_GRANTS);
    found.iter().filter_map(|k| grant(s, &GrantId(tail_id(k)?))).collect()
}

/// The grant by which a watcher may confirm an account's usage with a key, if it stands.
fn watch_grant(s: &dyn StateRead, env: &Env, account: &AccountId, watcher: &AccountId, key: &PublicKey) -> Option<Grant> {
    let id: GrantId = get(s, &records::watch_key(account, watcher))?;
    let grant = grant(s, &id)?;
    (grant.terms.key == *key && standing(s, env, &grant).is_ok()).then_some(grant)
}

/// How much value a watcher may still confirm for an account with a key; `None` if it may not confirm at all.
pub(crate) fn watch_left(
    s: &dyn StateRead,
    env: &Env,
    account: &AccountId,
    watcher: &AccountId,
    key: &PublicKey,
    asset: AssetId,
) -> Option<Amount> {
    watch_grant(s, env, account, watcher, key).map(|g| g.left(asset))
}

/// Counts value that a watcher confirmed.
pub(crate) fn watch_spend(
    s: &mut dyn StateWrite,
    env: &Env,
    account: &AccountId,
    watcher: &AccountId,
    key: &PublicKey,
    asset: AssetId,
    amount: Amount,
) -> Result<(), TxError> {
    const NONE: TxError = TxError::GrantRefused("the account has given this watcher no grant for this key; it makes one with `watch`");
    let mut grant = watch_grant(s, env, account, watcher, key).ok_or(NONE)?;
    spend::take(&mut grant, asset, amount)?;
    records::put_grant(s, &grant);
    Ok(())
}
