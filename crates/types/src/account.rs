//! An account's own keys: how they are replaced, and the parameters of what accounts do. Spec: `docs/specs/accounts.md` §2.
//!
//! Guarantees: an account's id never changes, whatever its keys become. It does not judge signatures: see `ledger`.

use crate::governance::{OutOfBounds, within};
use crate::{AccountId, Millis, PublicKey, Timestamp};
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

/// Most issuers of credentials that a zone accepts by itself: the list is part of a record that every transaction reads.
pub const MAX_ISSUERS: usize = 8;

/// What a zone sets for channels and credentials.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct AccountParams {
    /// How long after a channel's end its provider may still cash a voucher.
    pub cash_window: Millis,
    /// Whose credentials count where an order names no issuer.
    pub issuers: [Option<AccountId>; MAX_ISSUERS],
}

impl AccountParams {
    /// Of a development zone: a minute to cash.
    #[must_use]
    pub const fn dev() -> Self {
        Self { cash_window: Millis(60_000), issuers: [None; MAX_ISSUERS] }
    }
    /// Of a production zone: a day to cash.
    #[must_use]
    pub const fn production() -> Self {
        Self { cash_window: Millis(24 * 3_600_000), issuers: [None; MAX_ISSUERS] }
    }
}

impl AccountParams {
    /// Checks their bounds.
    ///
    /// # Errors
    /// The bound that is broken.
    pub fn check(&self, dev: bool) -> Result<(), OutOfBounds> {
        let least = if dev { 1_000u64 } else { 3_600_000 };
        within("accounts.cash_window", self.cash_window.0, least, 30 * 24 * 3_600_000u64)
    }
}

/// What an account does with its keys; each needs the account's current threshold, a grant never suffices.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub enum KeyAction {
    /// Replaces the key set, the threshold and the timelock. Takes effect once the *current* timelock has passed; all grants
    /// of the account end then.
    Set {
        /// The new keys, ascending, each once.
        keys: Vec<PublicKey>,
        /// How many of them must sign.
        threshold: u8,
        /// How long the change after this one must wait.
        timelock: Millis,
    },
    /// Takes a waiting change back.
    Cancel,
}

/// What became of an account's keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "change")]
pub enum KeyEvent {
    /// New keys wait.
    Pending {
        /// Whose.
        account: AccountId,
        /// Until when, unless the network halts meanwhile.
        effective: Timestamp,
    },
    /// A waiting change was taken back.
    Cancelled {
        /// Whose.
        account: AccountId,
    },
    /// New keys hold.
    Changed {
        /// Whose.
        account: AccountId,
    },
}

impl KeyEvent {
    /// Whose keys they are.
    #[must_use]
    pub const fn account(&self) -> AccountId {
        match self {
            Self::Pending { account, .. } | Self::Cancelled { account } | Self::Changed { account } => *account,
        }
    }
}
