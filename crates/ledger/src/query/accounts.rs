//! Reads of grants, key changes, channels and credentials, for the gateway, clients and tests.
//!
//! Guarantees: reads only; lists are bounded by what one account may have, or by [`super::MAX_PAGE`].

use super::MAX_PAGE;
use crate::channels::{self, CHANNEL_OF_CLIENT, CHANNEL_OF_PROVIDER, Channel};
use crate::credentials::{self, Credential};
use crate::env::Env;
use crate::grants::{self, Grant};
use crate::keys::{self, KeyPolicy};
use crate::seams;
use pasture_types::credential::{CredentialQuery, Subject};
use pasture_types::state::StateRead;
use pasture_types::{AccountId, Amount, AssetId, ChannelId, CredentialId, GrantId, NodeId, PublicKey};

/// A grant's record, while it stands.
#[must_use]
pub fn grant(s: &dyn StateRead, id: &GrantId) -> Option<Grant> {
    grants::grant(s, id)
}

/// An account's grants.
#[must_use]
pub fn grants_of_account(s: &dyn StateRead, account: &AccountId) -> Vec<Grant> {
    grants::of_account(s, account)
}

/// How an account's keys change, and what change waits.
#[must_use]
pub fn key_policy(s: &dyn StateRead, account: &AccountId) -> KeyPolicy {
    keys::policy(s, account)
}

/// How much value a watcher may still confirm for an account with a key; `None` if it may not confirm at all.
#[must_use]
pub fn watch_left(s: &dyn StateRead, account: &AccountId, watcher: &AccountId, key: &PublicKey, asset: AssetId) -> Option<Amount> {
    seams::watch_left(s, &Env::load(s)?, account, watcher, key, asset)
}

/// An open channel's record.
#[must_use]
pub fn channel(s: &dyn StateRead, id: &ChannelId) -> Option<Channel> {
    channels::channel(s, id)
}

/// A client's open channels.
#[must_use]
pub fn channels_of_client(s: &dyn StateRead, client: &AccountId) -> Vec<Channel> {
    channels::of(s, CHANNEL_OF_CLIENT, client, MAX_PAGE)
}

/// Open channels of a provider, at most a page.
#[must_use]
pub fn channels_of_provider(s: &dyn StateRead, provider: &AccountId) -> Vec<Channel> {
    channels::of(s, CHANNEL_OF_PROVIDER, provider, MAX_PAGE)
}

/// A credential's record.
#[must_use]
pub fn credential(s: &dyn StateRead, id: &CredentialId) -> Option<Credential> {
    credentials::credential(s, id)
}

/// Credentials about a provider or a node.
#[must_use]
pub fn credentials_of(s: &dyn StateRead, subject: &Subject) -> Vec<Credential> {
    credentials::of_subject(s, subject)
}

/// Whether a node or its provider has a credential that answers a query, at the last block's time.
#[must_use]
pub fn has_credential(s: &dyn StateRead, provider: &AccountId, node: &NodeId, query: &CredentialQuery) -> bool {
    Env::load(s).is_some_and(|env| seams::has_credential(s, &env, provider, node, query))
}
