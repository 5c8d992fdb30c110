//! Reads of deposits, for the gateway, the provider and tests.
//!
//! Guarantees: reads only, bounded. It shows the state as it is.

pub use super::records::{Bond, FeeGrant, Jail, LeaseNeed, NewcomerCount, NodeBond, Sponsorship, Start, Tranche};
use super::{newcomers, value};
use crate::env::Env;
use crate::tables;
use pasture_types::state::StateRead;
use pasture_types::{AccountId, Amount, LeaseId, NodeId};

/// What stands behind a provider: its own deposit and its sponsors', without what is on its way back.
#[must_use]
pub fn deposit(s: &dyn StateRead, provider: &AccountId) -> Amount {
    tables::provider(s, provider).map_or(Amount::ZERO, |p| value::deposit(&p))
}

/// Who posted for a provider.
#[must_use]
pub fn sponsors(s: &dyn StateRead, provider: &AccountId) -> Vec<Sponsorship> {
    super::sponsors(s, provider)
}

/// What somebody posted for a provider.
#[must_use]
pub fn sponsorship(s: &dyn StateRead, provider: &AccountId, sponsor: &AccountId) -> Option<Sponsorship> {
    super::sponsorship(s, provider, sponsor)
}

/// What a node holds of its provider's deposit, and its own suspension.
#[must_use]
pub fn node_bond(s: &dyn StateRead, node: &NodeId) -> NodeBond {
    super::node_bond(s, node)
}

/// What an open lease needs of the deposit behind it.
#[must_use]
pub fn lease_need(s: &dyn StateRead, lease: &LeaseId) -> Option<LeaseNeed> {
    value::lease_need(s, lease)
}

/// What is left of what the treasury set aside for an account's first fees; none if it never did.
#[must_use]
pub fn first_fees(s: &dyn StateRead, account: &AccountId) -> Option<Amount> {
    newcomers::grant(s, account).map(|g| g.left)
}

/// How many newcomers began on the last day and in the last block with one.
#[must_use]
pub fn newcomers(s: &dyn StateRead) -> NewcomerCount {
    newcomers::counted(s)
}

/// The highest further rate per hour that a node may take on now; none without genesis or node.
#[must_use]
pub fn rate_room(s: &dyn StateRead, node: &NodeId) -> Option<Amount> {
    let record = tables::node(s, node)?;
    Some(value::backing(s, &Env::load(s)?, &record.provider, node, None).room)
}

/// Whether a node takes no new leases now: it or its provider is suspended, or the deposit is missing.
#[must_use]
pub fn is_suspended(s: &dyn StateRead, node: &NodeId) -> bool {
    let Some(record) = tables::node(s, node) else { return false };
    Env::load(s).is_some_and(|env| value::backing(s, &env, &record.provider, node, None).suspended)
}
