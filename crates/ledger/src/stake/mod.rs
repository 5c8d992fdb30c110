//! Deposits: taking them back, posting them for others, suspension. Spec: `docs/specs/stake.md`.
//!
//! ```text
//!  balance --Stake / kept earnings--> own deposit --Unbond--> leaving --delay--> balance
//!  balance ------- Sponsor ---------> sponsor's ---Withdraw / Dismiss--> leaving --delay--> balance
//!                                     all of them: forfeit -> treasury, reporter's part
//! ```
//! Guarantees: a deposit on its way back answers like one that stands; what a provider has in tranches and sponsors is
//! bounded, so that a forfeit looks at all of it; a provider has at most one timer. It does not find faults: audits and
//! disputes do.

pub(crate) mod check;
pub(crate) mod forfeit;
pub(crate) mod newcomers;
pub mod query;
mod records;
#[cfg(test)]
mod tests;
pub(crate) mod value;

pub use records::{Bond, FeeGrant, Jail, LeaseNeed, NewcomerCount, NodeBond, Sponsorship, Start, Tranche};

use crate::apply::Tx;
use crate::env::Env;
use crate::error::TxError;
use crate::records::Provider;
use crate::tables::{self, TimerKind, get, key, keys_with, mark, put, put_provider, tail_id, timer_key};
use crate::validate::at_most;
use crate::{bank, market, validators};
use pasture_types::event::Event;
use pasture_types::stake::{DepositAction, DepositEvent};
use pasture_types::state::{StateRead, StateWrite};
use pasture_types::{AccountId, Amount, AssetId, NodeId, Timestamp};

/// provider, sponsor -> [`Sponsorship`]
pub(crate) const SPONSOR: u8 = 0x38;
/// node -> [`NodeBond`]
pub(crate) const NODE_BOND: u8 = 0x39;
/// lease -> [`LeaseNeed`]
pub(crate) const LEASE_NEED: u8 = 0x3a;
/// hash of the account -> [`FeeGrant`]
pub(crate) const FEE_GRANT: u8 = 0x3b;
/// -> [`NewcomerCount`]
pub(crate) const META_NEWCOMERS: u8 = 0x38;

/// Most sponsors of a provider, those on their way out included: a forfeit looks at each.
pub(crate) const MAX_SPONSORS: usize = 16;
/// Most parts of one deposit that are on their way back at a time.
pub(crate) const MAX_TRANCHES: usize = 8;

pub(crate) fn act(s: &mut dyn StateWrite, tx: &mut Tx<'_>, action: &DepositAction) -> Result<(), TxError> {
    match action {
        DepositAction::Unbond { amount } => unbond(s, tx, *amount),
        DepositAction::Sponsor { provider, amount } => sponsor(s, tx, provider, *amount),
        DepositAction::WithdrawSponsorship { provider, amount } => {
            let sponsor = tx.account;
            withdraw(s, tx, provider, &sponsor, Some(*amount))
        }
        DepositAction::DismissSponsor { sponsor } => dismiss(s, tx, sponsor),
        DepositAction::Unjail { node } => unjail(s, tx, node.as_ref()),
        DepositAction::Newcomer { stamp } => newcomers::begin(s, tx, stamp),
    }
}

/// A timer of deposits fired; ids of providers, of first fees and of validators differ.
pub(crate) fn timer(s: &mut dyn StateWrite, env: &Env, id: &[u8; 32], events: &mut Vec<Event>) {
    release(s, env, &AccountId(*id), events);
    newcomers::expire(s, id);
    validators::release(s, env, &NodeId(*id), events);
}

/// Microseconds of an action; a stamp's verification is nearly all of a newcomer's.
pub(crate) const fn cost_us(action: &DepositAction) -> u32 {
    match action {
        DepositAction::Unbond { .. } | DepositAction::Unjail { .. } => 20,
        // They look at every sponsor.
        DepositAction::Sponsor { .. } | DepositAction::WithdrawSponsorship { .. } | DepositAction::DismissSponsor { .. } => 50,
        DepositAction::Newcomer { .. } => 10_000,
    }
}

pub(crate) fn provider(s: &dyn StateRead, id: &AccountId) -> Result<Provider, TxError> {
    tables::provider(s, id).ok_or_else(|| TxError::unknown("provider", id))
}

pub(crate) fn not_nothing(amount: Amount) -> Result<(), TxError> {
    if amount.is_zero() { Err(TxError::Invalid("an amount of nothing; give an amount".into())) } else { Ok(()) }
}

/// Adds a part that returns at a time; parts that return at the same time are one.
pub(crate) fn leave(leaving: &mut Vec<Tranche>, amount: Amount, release_shifted: Timestamp) -> Result<(), TxError> {
    if let Some(last) = leaving.last_mut()
        && last.release_shifted == release_shifted
    {
        last.amount = last.amount.saturating_add(amount);
        return Ok(());
    }
    at_most("parts of a deposit on their way back (wait until one has returned)", leaving.len() as u64 + 1, MAX_TRANCHES as u64)?;
    leaving.push(Tranche { amount, release_shifted });
    // The delay may have been shortened by a vote meanwhile.
    leaving.sort_by_key(|t| t.release_shifted);
    Ok(())
}

/// Takes out the parts that are due.
pub(crate) fn due(leaving: &mut Vec<Tranche>, now_shifted: Timestamp) -> Amount {
    let free = leaving.iter().filter(|t| t.release_shifted <= now_shifted).fold(Amount::ZERO, |a, t| a.saturating_add(t.amount));
    leaving.retain(|t| t.release_shifted > now_shifted);
    free
}

pub(crate) fn total(leaving: &[Tranche]) -> Amount {
    leaving.iter().fold(Amount::ZERO, |a, t| a.saturating_add(t.amount))
}

/// Moves a timer of deposits.
pub(crate) fn set_timer(s: &mut dyn StateWrite, id: &[u8; 32], slot: &mut Option<Timestamp>, at: Option<Timestamp>) {
    if *slot == at {
        return;
    }
    if let Some(old) = *slot {
        s.delete(&timer_key(old, TimerKind::Deposit, id));
    }
    if let Some(at) = at {
        mark(s, timer_key(at, TimerKind::Deposit, id));
    }
    *slot = at;
}

pub(crate) fn sponsor_key(provider: &AccountId, sponsor: &AccountId) -> Vec<u8> {
    key(SPONSOR, &[&provider.0, &sponsor.0])
}

pub(crate) fn sponsorship(s: &dyn StateRead, provider: &AccountId, sponsor: &AccountId) -> Option<Sponsorship> {
    get(s, &sponsor_key(provider, sponsor))
}

/// All sponsors of a provider, at most [`MAX_SPONSORS`].
pub(crate) fn sponsors(s: &dyn StateRead, provider: &AccountId) -> Vec<Sponsorship> {
    let found = keys_with(s, &key(SPONSOR, &[&provider.0]), MAX_SPONSORS);
    found.iter().filter_map(|k| sponsorship(s, provider, &AccountId(tail_id(k)?))).collect()
}

/// Writes a sponsorship, or drops it when nothing is left, and keeps the provider's count of them.
pub(crate) fn save_sponsorship(s: &mut dyn StateWrite, p: &mut Provider, sponsorship: &Sponsorship) {
    let k = sponsor_key(&sponsorship.provider, &sponsorship.sponsor);
    let was = s.get(&k).is_some();
    let is = !sponsorship.amount.is_zero() || !sponsorship.leaving.is_empty();
    if is {
        put(s, k, sponsorship);
        p.bond.sponsors += u32::from(!was);
    } else {
        s.delete(&k);
        p.bond.sponsors = p.bond.sponsors.saturating_sub(u32::from(was));
    }
}

/// Sets a provider's timer to its first tranche and writes its record.
pub(crate) fn save(s: &mut dyn StateWrite, p: &mut Provider) {
    let theirs = if p.bond.sponsors > 0 { sponsors(s, &p.account) } else { Vec::new() };
    let all = p.bond.leaving.iter().chain(theirs.iter().flat_map(|x| x.leaving.iter()));
    let first = all.map(|t| t.release_shifted).min();
    set_timer(s, &p.account.0, &mut p.bond.timer_shifted, first);
    crate::registry::save_provider(s, p);
}

fn unbond(s: &mut dyn StateWrite, tx: &mut Tx<'_>, amount: Amount) -> Result<(), TxError> {
    not_nothing(amount)?;
    let mut p = provider(s, &tx.account)?;
    let left = p.stake.checked_sub(amount).ok_or(TxError::InsufficientBalance { what: "the deposit", needs: amount, has: p.stake })?;
    value::may_lower(&p, left.saturating_add(p.bond.sponsored))?;
    p.stake = left;
    // Who takes back what was kept for its deposit needs a deposit from now on.
    if matches!(p.bond.start, Start::Newcomer | Start::Owing) {
        value::may_leave(&p)?;
        p.bond.start = Start::Over;
    }
    let delay = tx.env.zone.params.stake.unbond_delay;
    leave(&mut p.bond.leaving, amount, tx.env.shifted().plus(delay))?;
    save(s, &mut p);
    let release = tx.env.now().plus(delay);
    tx.events.push(Event::Deposit(DepositEvent::Unbonding { provider: tx.account, owner: tx.account, amount, release }));
    Ok(())
}

fn sponsor(s: &mut dyn StateWrite, tx: &mut Tx<'_>, id: &AccountId, amount: Amount) -> Result<(), TxError> {
    if *id == tx.account {
        return Err(TxError::Invalid("nobody sponsors itself; add to your own deposit instead".into()));
    }
    let mut p = provider(s, id)?;
    let mut record = match sponsorship(s, id, &tx.account) {
        Some(record) => record,
        None => {
            at_most("sponsors of one provider", u64::from(p.bond.sponsors) + 1, MAX_SPONSORS as u64)?;
            Sponsorship { provider: *id, sponsor: tx.account, amount: Amount::ZERO, leaving: Vec::new() }
        }
    };
    let after = record.amount.checked_add(amount).ok_or(TxError::AmountTooLarge)?;
    let least = tx.env.zone.params.stake.min_sponsorship;
    if amount.is_zero() || after < least {
        return Err(TxError::StakeTooSmall { needs: least, has: after });
    }
    bank::debit(s, &tx.account, AssetId::CREDIT, amount, "the deposit")?;
    record.amount = after;
    p.bond.sponsored = p.bond.sponsored.saturating_add(amount);
    save_sponsorship(s, &mut p, &record);
    save(s, &mut p);
    market::wake(s);
    tx.events.push(Event::Deposit(DepositEvent::Sponsored { provider: *id, sponsor: tx.account, amount }));
    Ok(())
}

/// Takes a sponsorship back, all of it or a part. Open leases do not hold it: it answers for them while it leaves.
fn withdraw(s: &mut dyn StateWrite, tx: &mut Tx<'_>, id: &AccountId, sponsor: &AccountId, part: Option<Amount>) -> Result<(), TxError> {
    let mut p = provider(s, id)?;
    let mut record = sponsorship(s, id, sponsor).ok_or_else(|| TxError::unknown("sponsor", sponsor))?;
    let amount = part.unwrap_or(record.amount);
    not_nothing(amount)?;
    let has = record.amount;
    let left = has.checked_sub(amount).ok_or(TxError::InsufficientBalance { what: "the deposit", needs: amount, has })?;
    let params = &tx.env.zone.params.stake;
    if !left.is_zero() && left < params.min_sponsorship {
        return Err(TxError::StakeTooSmall { needs: params.min_sponsorship, has: left });
    }
    record.amount = left;
    p.bond.sponsored = p.bond.sponsored.saturating_sub(amount);
    leave(&mut record.leaving, amount, tx.env.shifted().plus(params.unbond_delay))?;
    save_sponsorship(s, &mut p, &record);
    save(s, &mut p);
    let release = tx.env.now().plus(params.unbond_delay);
    tx.events.push(Event::Deposit(DepositEvent::Unbonding { provider: *id, owner: *sponsor, amount, release }));
    Ok(())
}

fn dismiss(s: &mut dyn StateWrite, tx: &mut Tx<'_>, sponsor: &AccountId) -> Result<(), TxError> {
    let p = provider(s, &tx.account)?;
    let record = sponsorship(s, &tx.account, sponsor).ok_or_else(|| TxError::unknown("sponsor", sponsor))?;
    let after = p.stake.saturating_add(p.bond.sponsored).saturating_sub(record.amount);
    value::may_lower(&p, after)?;
    let id = tx.account;
    withdraw(s, tx, &id, sponsor, None)
}

/// A provider's timer fired: what is due goes back to whoever posted it.
pub(crate) fn release(s: &mut dyn StateWrite, env: &Env, id: &AccountId, events: &mut Vec<Event>) {
    let Some(mut p) = tables::provider(s, id) else { return };
    p.bond.timer_shifted = None;
    let now = env.shifted();
    let mut back = vec![(*id, due(&mut p.bond.leaving, now))];
    if p.bond.sponsors > 0 {
        for mut record in sponsors(s, id) {
            let free = due(&mut record.leaving, now);
            if !free.is_zero() {
                save_sponsorship(s, &mut p, &record);
                back.push((record.sponsor, free));
            }
        }
    }
    for (owner, amount) in back.into_iter().filter(|(_, a)| !a.is_zero()) {
        bank::credit(s, &owner, AssetId::CREDIT, amount);
        events.push(Event::Deposit(DepositEvent::Released { provider: *id, owner, amount }));
    }
    save(s, &mut p);
}

pub(crate) fn node_bond_key(node: &NodeId) -> Vec<u8> {
    key(NODE_BOND, &[&node.0])
}

pub(crate) fn node_bond(s: &dyn StateRead, node: &NodeId) -> NodeBond {
    get(s, &node_bond_key(node)).unwrap_or_default()
}

pub(crate) fn put_node_bond(s: &mut dyn StateWrite, node: &NodeId, bond: &NodeBond) {
    if *bond == NodeBond::default() {
        s.delete(&node_bond_key(node));
    } else {
        put(s, node_bond_key(node), bond);
    }
}

/// Whether a suspension may end now.
pub(crate) fn time_served(env: &Env, jail: Option<Jail>) -> Result<(), TxError> {
    let what = "the suspension";
    match jail {
        None => Err(TxError::BadState { what, state: "over".into(), hint: "nothing is suspended" }),
        Some(jail) if env.shifted() < jail.until_shifted => {
            let until = jail.until_shifted.plus(env.clock.halted);
            Err(TxError::BadState { what, state: format!("in force until {until}"), hint: "end it after that time" })
        }
        Some(_) => Ok(()),
    }
}

fn unjail(s: &mut dyn StateWrite, tx: &mut Tx<'_>, node: Option<&NodeId>) -> Result<(), TxError> {
    match node {
        None => {
            let mut p = provider(s, &tx.account)?;
            time_served(tx.env, p.bond.jail)?;
            p.bond.jail = None;
            put_provider(s, &tx.account, &p);
        }
        Some(node) => {
            let record = tables::node(s, node).ok_or_else(|| TxError::unknown("node", node))?;
            if record.provider != tx.account {
                return Err(TxError::NotYours("the node"));
            }
            let mut bond = node_bond(s, node);
            time_served(tx.env, bond.jail)?;
            bond.jail = None;
            put_node_bond(s, node, &bond);
        }
    }
    market::wake(s);
    tx.events.push(Event::Deposit(DepositEvent::Reinstated { provider: tx.account, node: node.copied() }));
    Ok(())
}
