//! The keys of all histories, made once: what a key signs depends on the history, the key does not.
//!
//! Guarantees: an account's first key makes its id; its spare keys are for later key sets, grants and channels.

use pasture_types::{PublicKey, SigningKey};
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// Accounts of a history.
pub(crate) const ACCOUNTS: usize = 8;
/// Nodes of a history.
pub(crate) const NODES: usize = 5;
/// Validators that a history may seat or register.
pub(crate) const VALIDATORS: usize = 8;
/// Spare keys of each account.
const SPARE: usize = 3;

/// All keys, by their use.
pub(crate) struct Keys {
    pub(crate) accounts: Vec<SigningKey>,
    /// `SPARE` for each account.
    spare: Vec<SigningKey>,
    pub(crate) nodes: Vec<SigningKey>,
    pub(crate) validators: Vec<SigningKey>,
    of: BTreeMap<PublicKey, SigningKey>,
}

fn key(kind: u8, n: usize) -> SigningKey {
    SigningKey::from_seed([kind.wrapping_mul(31).wrapping_add(n as u8).wrapping_add(1); 32])
}

fn make() -> Keys {
    let many = |kind: u8, count: usize| (0..count).map(|n| key(kind, n)).collect::<Vec<_>>();
    let (accounts, nodes, validators) = (many(1, ACCOUNTS), many(5, NODES), many(7, VALIDATORS));
    let spare = many(2, ACCOUNTS * SPARE);
    let of = accounts.iter().chain(&spare).chain(&validators).map(|k| (k.public(), k.clone())).collect();
    Keys { accounts, spare, nodes, validators, of }
}

static KEYS: LazyLock<Keys> = LazyLock::new(make);

impl Keys {
    /// All of them.
    pub(crate) fn all() -> &'static Self {
        &KEYS
    }
    /// The private half of a key of ours.
    pub(crate) fn private(&self, key: &PublicKey) -> Option<&SigningKey> {
        self.of.get(key)
    }
    /// A spare key of an account.
    pub(crate) fn spare(&self, account: usize, n: u64) -> &SigningKey {
        &self.spare[account * SPARE + n as usize % SPARE]
    }
}
