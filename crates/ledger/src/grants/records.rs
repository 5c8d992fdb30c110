//! What the ledger keeps of a grant, and where. Spec: `docs/specs/accounts.md` §1.
//!
//! Guarantees: frozen by golden fixtures. A grant holds no money: its budget is a bound, not a pot.

use crate::tables::{get, key, put};
use borsh::{BorshDeserialize, BorshSerialize};
use pasture_types::grant::GrantTerms;
use pasture_types::state::{StateRead, StateWrite};
use pasture_types::{AccountId, Amount, AssetId, GrantId, Timestamp};

/// grant -> [`Grant`]
pub(crate) const GRANT: u8 = 0x20;
/// account, grant -> nothing
pub(crate) const GRANT_OF_ACCOUNT: u8 = 0x21;
/// account, watcher -> grant
pub(crate) const WATCH_GRANT: u8 = 0x22;

/// A right that an account lent to a key.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Grant {
    /// Which.
    pub id: GrantId,
    /// Whose.
    pub account: AccountId,
    /// What is granted.
    pub terms: GrantTerms,
    /// When it ends, less halts.
    pub expires_shifted: Timestamp,
    /// Since when.
    pub created_at: Timestamp,
    /// Under which key set of the account it was made; void under a later one.
    pub key_set: u32,
    /// What was spent, in the order of the budget.
    pub spent: Vec<Amount>,
}

impl Grant {
    /// What may still be spent of an asset.
    #[must_use]
    pub fn left(&self, asset: AssetId) -> Amount {
        let mut both = self.terms.budget.iter().zip(&self.spent);
        both.find(|(b, _)| b.asset == asset).map_or(Amount::ZERO, |(b, spent)| b.amount.saturating_sub(*spent))
    }
}

pub(crate) fn grant_key(id: &GrantId) -> Vec<u8> {
    key(GRANT, &[&id.0])
}

pub(crate) fn grant(s: &dyn StateRead, id: &GrantId) -> Option<Grant> {
    get(s, &grant_key(id))
}

pub(crate) fn put_grant(s: &mut dyn StateWrite, grant: &Grant) {
    put(s, grant_key(&grant.id), grant);
}

pub(crate) fn of_account_key(account: &AccountId, id: &GrantId) -> Vec<u8> {
    key(GRANT_OF_ACCOUNT, &[&account.0, &id.0])
}

pub(crate) fn watch_key(account: &AccountId, watcher: &AccountId) -> Vec<u8> {
    key(WATCH_GRANT, &[&account.0, &watcher.0])
}
