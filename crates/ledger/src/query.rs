//! Typed reads for the gateway, the provider and tests.
//!
//! Guarantees: reads only, pages are bounded by [`MAX_PAGE`]. It shows the state as it is, not what may become of it.

mod accounts;

pub use crate::audits::query::{audit, audit_key, audit_state, node_audit, open_audits, proven_cpu_millis};

use crate::market::records::History;
use crate::records::{Account, Clock, Counts, Epoch, Lease, Node, Offer, Order, Provider, Zone};
use crate::tables::{
    self, LEASE_OF_ACCOUNT, LEASE_OF_NODE, LEASE_OPEN, OFFER, OFFER_OF_NODE, ORDER_OF_ACCOUNT, key, keys_between, keys_with, lane_key,
    prefix_end, tail_id,
};
use crate::{bank, offers as standing, proofs};

pub use crate::stake::query as deposits;
pub use crate::validators::query as validators;
use pasture_types::state::StateRead;
use pasture_types::{AccountId, Amount, AssetId, LeaseId, Millis, NodeId, OfferId, OrderId, Resources};

pub use crate::governance::query as governance;
pub use crate::reputation::query as reputation;
pub use accounts::*;

/// Most entries of one page.
pub const MAX_PAGE: usize = 500;

/// What a zone is and how it is set.
#[must_use]
pub fn zone(s: &dyn StateRead) -> Option<Zone> {
    tables::zone(s)
}

/// The last block's height and time, and all halts so far.
#[must_use]
pub fn clock(s: &dyn StateRead) -> Clock {
    tables::clock(s)
}

/// How many leases are live and open.
#[must_use]
pub fn counts(s: &dyn StateRead) -> Counts {
    tables::counts(s)
}

/// An account's record.
#[must_use]
pub fn account(s: &dyn StateRead, id: &AccountId) -> Option<Account> {
    tables::account(s, id)
}

/// What an account has of an asset.
#[must_use]
pub fn balance(s: &dyn StateRead, id: &AccountId, asset: AssetId) -> Amount {
    bank::balance(s, id, asset)
}

/// The next number of an account's lane (or, with `node` auth, of a node's).
#[must_use]
pub fn next_seq(s: &dyn StateRead, owner: &[u8; 32], lane: u8) -> u64 {
    tables::get(s, &lane_key(owner, lane)).unwrap_or(0)
}

/// A provider's record.
#[must_use]
pub fn provider(s: &dyn StateRead, id: &AccountId) -> Option<Provider> {
    tables::provider(s, id)
}

/// A node's record.
#[must_use]
pub fn node(s: &dyn StateRead, id: &NodeId) -> Option<Node> {
    tables::node(s, id)
}

/// Whether a node may offer nothing until its provider registers it again.
#[must_use]
pub fn is_dismissed(s: &dyn StateRead, id: &NodeId) -> bool {
    crate::registry::is_dismissed(s, id)
}

/// A provider's nodes by id, those after one first: at most `limit`, found among at most `looked` of all. The second value is where to go
/// on; `None` at the end.
#[must_use]
pub fn nodes_of_provider(
    s: &dyn StateRead,
    provider: &AccountId,
    after: Option<&NodeId>,
    limit: usize,
    looked: usize,
) -> (Vec<Node>, Option<NodeId>) {
    let from = after.map_or_else(|| vec![tables::NODE], |id| [key(tables::NODE, &[&id.0]), vec![0]].concat());
    let (mut found, mut last, mut left) = (vec![], None, looked);
    s.scan(&from, &[tables::NODE + 1], &mut |k, v| {
        if left == 0 || found.len() >= limit {
            return false;
        }
        left -= 1;
        last = tables::tail_id(k).map(NodeId);
        found.extend(borsh::from_slice::<Node>(v).ok().filter(|n| n.provider == *provider));
        true
    });
    let ended = left > 0 && found.len() < limit;
    (found, last.filter(|_| !ended))
}

/// What a node declared less what its leases hold.
#[must_use]
pub fn free_resources(s: &dyn StateRead, id: &NodeId) -> Option<Resources> {
    let node = tables::node(s, id)?;
    node.declaration.resources.checked_sub(&node.committed)
}

/// An offer's record.
#[must_use]
pub fn offer(s: &dyn StateRead, id: &OfferId) -> Option<Offer> {
    tables::offer(s, id)
}

/// What is free of an offer now.
#[must_use]
pub fn free_of_offer(s: &dyn StateRead, id: &OfferId) -> Option<Resources> {
    let offer = tables::offer(s, id)?;
    Some(standing::free(&offer, &tables::node(s, &offer.node)?))
}

/// Offers in the order of their ids, after one.
#[must_use]
pub fn offers(s: &dyn StateRead, after: Option<&OfferId>, limit: usize) -> Vec<Offer> {
    let start = after.map_or_else(|| vec![OFFER], |id| just_after(key(OFFER, &[&id.0])));
    let found = keys_between(s, &start, &[OFFER + 1], limit.min(MAX_PAGE));
    found.iter().filter_map(|k| tables::get(s, k)).collect()
}

/// A node's offers.
#[must_use]
pub fn offers_of_node(s: &dyn StateRead, node: &NodeId) -> Vec<Offer> {
    let found = keys_with(s, &key(OFFER_OF_NODE, &[&node.0]), MAX_PAGE);
    found.iter().filter_map(|k| tables::offer(s, &OfferId(tail_id(k)?))).collect()
}

/// How many leases hold an offer's machine now.
#[must_use]
pub fn leases_of_offer(s: &dyn StateRead, id: &OfferId) -> u32 {
    crate::market::index::leases_of_offer(s, id)
}

/// How an account's own leases with a provider went.
#[must_use]
pub fn history(s: &dyn StateRead, account: &AccountId, provider: &AccountId) -> History {
    crate::market::history::of(s, account, provider)
}

/// An order's record.
#[must_use]
pub fn order(s: &dyn StateRead, id: &OrderId) -> Option<Order> {
    tables::order(s, id)
}

/// An account's orders, newest last; `after` is the last one of the page before.
#[must_use]
pub fn orders_of_account(s: &dyn StateRead, account: &AccountId, after: Option<&Order>, limit: usize) -> Vec<Order> {
    let prefix = key(ORDER_OF_ACCOUNT, &[&account.0]);
    let start =
        after.map_or_else(|| prefix.clone(), |o| just_after(key(ORDER_OF_ACCOUNT, &[&account.0, &o.placed_at.0.to_be_bytes(), &o.id.0])));
    let found = keys_between(s, &start, &prefix_end(&prefix), limit.min(MAX_PAGE));
    found.iter().filter_map(|k| tables::order(s, &OrderId(tail_id(k)?))).collect()
}

/// A lease's record.
#[must_use]
pub fn lease(s: &dyn StateRead, id: &LeaseId) -> Option<Lease> {
    tables::lease(s, id)
}

/// The lease that serves an order, or is offered to a node for it.
#[must_use]
pub fn lease_of_order(s: &dyn StateRead, id: &OrderId) -> Option<Lease> {
    match tables::order(s, id)?.state {
        crate::OrderState::Drawn { lease } | crate::OrderState::Served { lease } => tables::lease(s, &lease),
        _ => None,
    }
}

fn leases_of(s: &dyn StateRead, table: u8, owner: &[u8; 32], after: Option<&Lease>, limit: usize) -> Vec<Lease> {
    let prefix = key(table, &[owner]);
    let start = after.map_or_else(|| prefix.clone(), |l| just_after(key(table, &[owner, &l.matched_at.0.to_be_bytes(), &l.id.0])));
    let found = keys_between(s, &start, &prefix_end(&prefix), limit.min(MAX_PAGE));
    found.iter().filter_map(|k| tables::lease(s, &LeaseId(tail_id(k)?))).collect()
}

/// An account's leases as a user, newest last; `after` is the last one of the page before.
#[must_use]
pub fn leases_of_account(s: &dyn StateRead, account: &AccountId, after: Option<&Lease>, limit: usize) -> Vec<Lease> {
    leases_of(s, LEASE_OF_ACCOUNT, &account.0, after, limit)
}

/// A node's leases, newest last; `after` is the last one of the page before.
#[must_use]
pub fn leases_of_node(s: &dyn StateRead, node: &NodeId, after: Option<&Lease>, limit: usize) -> Vec<Lease> {
    leases_of(s, LEASE_OF_NODE, &node.0, after, limit)
}

/// A node's leases that are not closed: what its agent reconciles against.
#[must_use]
pub fn open_leases_of_node(s: &dyn StateRead, node: &NodeId) -> Vec<Lease> {
    let found = keys_with(s, &key(LEASE_OPEN, &[&node.0]), MAX_PAGE);
    found.iter().filter_map(|k| tables::lease(s, &LeaseId(tail_id(k)?))).collect()
}

/// A recorded epoch.
#[must_use]
pub fn epoch(s: &dyn StateRead, number: u64) -> Option<Epoch> {
    tables::epoch(s, number)
}

/// The randomness of an epoch, if it was recorded.
#[must_use]
pub fn epoch_randomness(s: &dyn StateRead, number: u64) -> Option<[u8; 32]> {
    tables::epoch(s, number).map(|e| e.randomness.0)
}

/// The last epochs that were recorded, newest last: those a node may still answer.
#[must_use]
pub fn open_epochs(s: &dyn StateRead) -> Vec<Epoch> {
    let shifted = tables::clock(s).shifted();
    let now = tables::zone(s).map_or(0, |z| z.epoch_of(tables::clock(s).time));
    let grace = tables::zone(s).map_or(0, |z| z.params.heartbeat_grace_epochs);
    let start = tables::epoch_key(now.saturating_sub(grace.saturating_mul(4).saturating_add(64)));
    let found = keys_between(s, &start, &[tables::EPOCH + 1], MAX_PAGE);
    found.iter().filter_map(|k| tables::get::<Epoch>(s, k)).filter(|e| e.deadline_shifted >= shifted).collect()
}

/// Whether a node's heartbeat of an epoch is recorded.
#[must_use]
pub fn has_heartbeat(s: &dyn StateRead, node: &NodeId, epoch: u64) -> bool {
    proofs::has_heartbeat(s, node, epoch)
}

/// All money of an asset.
#[must_use]
pub fn supply(s: &dyn StateRead, asset: AssetId) -> Amount {
    bank::supply(s, asset)
}

/// What the treasury has.
#[must_use]
pub fn treasury(s: &dyn StateRead, asset: AssetId) -> Amount {
    bank::treasury(s, asset)
}

/// What an account may still build for free today.
#[must_use]
pub fn build_allowance_left(s: &dyn StateRead, account: &AccountId) -> Millis {
    let day = tables::clock(s).time.0 / crate::settle::DAY_MS;
    let used: u64 = tables::get(s, &key(tables::ALLOWANCE, &[&day.to_be_bytes(), &account.0])).unwrap_or(0);
    Millis(tables::zone(s).map_or(0, |z| z.params.build_allowance.0.saturating_sub(used)))
}

fn just_after(mut key: Vec<u8>) -> Vec<u8> {
    key.push(0);
    key
}
