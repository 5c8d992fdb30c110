//! Who may vote with how much: power as it was when a proposal was made. Spec: `docs/specs/governance.md` §2.
//!
//! Guarantees: a deposit that moves after a proposal was made counts for it where it was, and nowhere else; an account keeps at
//! most one former power for each vote that is open. It holds no deposits: whoever does, tells of every change.

use super::records::PowerThen;
use super::{META_POWER, POWER, counts, voting_numbers};
use crate::env::Env;
use crate::seams;
use crate::tables::{get, key, meta, put};
use pasture_types::state::{StateRead, StateWrite};
use pasture_types::{AccountId, Amount};

/// account -> what it may vote with now. In the range that no other module has.
pub(crate) const VOTES: u8 = 0x7f;

fn votes_key(account: &AccountId) -> Vec<u8> {
    key(VOTES, &[&account.0])
}

/// What an account may vote with now: its deposits as a provider and as a validator's operator.
pub(crate) fn own(s: &dyn StateRead, account: &AccountId) -> Amount {
    get(s, &votes_key(account)).unwrap_or_default()
}

/// Told after each change of one of an account's deposits.
pub(crate) fn moved(s: &mut dyn StateWrite, account: &AccountId, from: Amount, to: Amount) {
    let before = own(s, account);
    let after = before.saturating_sub(from).saturating_add(to);
    if after.is_zero() {
        s.delete(&votes_key(account));
    } else {
        put(s, votes_key(account), &after);
    }
    changed(s, account, before, after);
}

fn power_key(account: &AccountId) -> Vec<u8> {
    key(POWER, &[&account.0])
}

/// All voting power there is.
pub(crate) fn total(s: &dyn StateRead) -> Amount {
    get(s, &meta(META_POWER)).unwrap_or_default()
}

fn changed(s: &mut dyn StateWrite, account: &AccountId, before: Amount, after: Amount) {
    if before == after {
        return;
    }
    let all = total(s).saturating_sub(before).saturating_add(after);
    put(s, meta(META_POWER), &all);
    let open = voting_numbers(s);
    let last = counts(s).last;
    let mut then: Vec<PowerThen> = get(s, &power_key(account)).unwrap_or_default();
    if then.last().is_none_or(|t| t.number < last) {
        then.push(PowerThen { number: last, power: before });
    }
    // Only what answers for an open vote is kept: the first entry at or after its number.
    let mut kept: Vec<PowerThen> = Vec::new();
    for number in open {
        if let Some(t) = then.iter().find(|t| t.number >= number)
            && kept.last() != Some(t)
        {
            kept.push(*t);
        }
    }
    if kept.is_empty() {
        s.delete(&power_key(account));
    } else {
        put(s, power_key(account), &kept);
    }
}

/// What an account could vote with when a proposal was made, and still can.
pub(crate) fn at(s: &dyn StateRead, env: &Env, account: &AccountId, number: u64) -> Amount {
    let now = seams::voting_power(s, env, account);
    let then: Vec<PowerThen> = get(s, &power_key(account)).unwrap_or_default();
    then.iter().find(|t| t.number >= number).map_or(now, |t| t.power.min(now))
}
