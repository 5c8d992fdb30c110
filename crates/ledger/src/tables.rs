//! The key layout: narrow tables, told apart by a key's first byte, and typed access to them.
//!
//! Guarantees: numbers in keys are big-endian, so that keys sort as their numbers do; a record has one key. An
//! undecodable record reads as absent here and is reported by `check`. It decides nothing.

use crate::records::{Account, Clock, Counts, Epoch, Lease, Node, Offer, Order, Provider, Zone};
use borsh::{BorshDeserialize, BorshSerialize};
use pasture_types::state::{StateRead, StateWrite};
use pasture_types::{AccountId, AssetId, LeaseId, NodeId, OfferId, OrderId, Timestamp};

/// Single values: the second byte says which.
pub(crate) const META: u8 = 0x01;
/// account -> [`Account`]
pub(crate) const ACCOUNT: u8 = 0x02;
/// account, asset -> amount
pub(crate) const BALANCE: u8 = 0x03;
/// account or node, lane -> next sequence number
pub(crate) const LANE: u8 = 0x04;
/// account -> [`Provider`]
pub(crate) const PROVIDER: u8 = 0x05;
/// node -> [`Node`]
pub(crate) const NODE: u8 = 0x06;
/// offer -> [`Offer`]
pub(crate) const OFFER: u8 = 0x07;
/// node, offer -> nothing
pub(crate) const OFFER_OF_NODE: u8 = 0x08;
/// provider, offer -> nothing
pub(crate) const OFFER_OF_PROVIDER: u8 = 0x09;
/// region, zero byte, offer -> nothing
pub(crate) const OFFER_IN_REGION: u8 = 0x0a;
/// first height at which it may be drawn, offer -> nothing
pub(crate) const OFFER_AGEING: u8 = 0x0b;
/// order -> [`Order`]
pub(crate) const ORDER: u8 = 0x0c;
/// account, time placed, order -> nothing
pub(crate) const ORDER_OF_ACCOUNT: u8 = 0x0d;
/// account, order -> nothing, while it is open
pub(crate) const ORDER_OPEN: u8 = 0x0e;
/// 255 - priority, first height of its draw, order -> nothing
pub(crate) const ORDER_PENDING: u8 = 0x0f;
/// order -> nothing, while nobody serves it
pub(crate) const ORDER_WAITING: u8 = 0x10;
/// lease -> [`Lease`]
pub(crate) const LEASE: u8 = 0x11;
/// account, time matched, lease -> nothing
pub(crate) const LEASE_OF_ACCOUNT: u8 = 0x12;
/// node, time matched, lease -> nothing
pub(crate) const LEASE_OF_NODE: u8 = 0x13;
/// node, lease -> nothing, until it is closed
pub(crate) const LEASE_OPEN: u8 = 0x14;
/// epoch -> [`Epoch`]
pub(crate) const EPOCH: u8 = 0x15;
/// epoch, node, class, device -> height
pub(crate) const HEARTBEAT: u8 = 0x16;
/// shifted time, kind, id -> nothing
pub(crate) const TIMER: u8 = 0x17;
/// day, account -> milliseconds of free building used
pub(crate) const ALLOWANCE: u8 = 0x18;
/// model -> amount held for its creator
pub(crate) const MODEL: u8 = 0x19;
/// validator key -> operator
pub(crate) const VALIDATOR: u8 = 0x1a;
/// node -> nothing, while its provider lets it offer nothing
pub(crate) const DISMISSED: u8 = 0x1b;
// Ranges of the modules, each with its own constants: 0x20 grants, 0x28 channels, 0x30 credentials, 0x38 deposits and
// validators, 0x48 reputation, 0x50 governance, 0x58 audits, 0x68 market, 0x70 service, 0x78 assets (eight or sixteen each).
// Single values (second byte behind META): the same numbers.
/// One more than the last table.
pub(crate) const TABLES_END: u8 = 0x80;

pub(crate) const META_ZONE: u8 = 0;
pub(crate) const META_CLOCK: u8 = 1;
pub(crate) const META_COUNTS: u8 = 2;
pub(crate) const META_SUPPLY: u8 = 3;
pub(crate) const META_TREASURY: u8 = 4;
pub(crate) const META_FEES: u8 = 5;
pub(crate) const META_TIPS: u8 = 6;
pub(crate) const META_POOL: u8 = 7;
pub(crate) const META_WAKE: u8 = 8;

/// What a timer is for; part of its key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum TimerKind {
    Order = 1,
    Lease = 2,
    Governance = 8,
    // Of the modules: 3 grants, 4 channels, 5 credentials, 6 deposits, 7 reputation, 9 audits, 10 market, 11 service.
    Deposit = 6,
    // Of the modules: 3 grants, 4 channels, 5 credentials, 7 reputation, 8 governance, 9 audits, 10 market, 11 service.
    Market = 10,
    // Of the modules: 3 grants, 4 channels, 5 credentials, 6 deposits, 7 reputation, 8 governance, 9 audits, 10 market, 11 service.
    Service = 11,
    // Of the modules: 3 grants, 4 channels, 5 credentials, 6 deposits, 7 reputation, 8 governance, 9 audits, 10 market.
    Grant = 3,
    Channel = 4,
    Credential = 5,
    /// Beside the grants: new keys of an account.
    Keys = 35,
    // Of the modules: 6 deposits, 7 reputation, 8 governance, 9 audits, 10 market, 11 service.
}

/// A key of a table.
pub(crate) fn key(table: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + parts.iter().map(|p| p.len()).sum::<usize>());
    out.push(table);
    for part in parts {
        out.extend_from_slice(part);
    }
    out
}

/// The first key after all keys that begin with a prefix.
pub(crate) fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    // Only for a prefix of 255s, which no table has.
    vec![u8::MAX; prefix.len() + 1]
}

pub(crate) fn get<T: BorshDeserialize>(s: &dyn StateRead, key: &[u8]) -> Option<T> {
    borsh::from_slice(&s.get(key)?).ok()
}

pub(crate) fn put<T: BorshSerialize>(s: &mut dyn StateWrite, key: Vec<u8>, value: &T) {
    s.put(key, pasture_types::codec::encode(value));
}

/// Marks a key of an index.
pub(crate) fn mark(s: &mut dyn StateWrite, key: Vec<u8>) {
    s.put(key, Vec::new());
}

pub(crate) fn meta(which: u8) -> Vec<u8> {
    vec![META, which]
}

/// Keys in `start <= key < end`, at most `limit`.
pub(crate) fn keys_between(s: &dyn StateRead, start: &[u8], end: &[u8], limit: usize) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    if limit > 0 {
        s.scan(start, end, &mut |k, _| {
            out.push(k.to_vec());
            out.len() < limit
        });
    }
    out
}

/// Keys that begin with a prefix, at most `limit`.
pub(crate) fn keys_with(s: &dyn StateRead, prefix: &[u8], limit: usize) -> Vec<Vec<u8>> {
    keys_between(s, prefix, &prefix_end(prefix), limit)
}

/// Whether any key begins with a prefix.
pub(crate) fn any(s: &dyn StateRead, prefix: &[u8]) -> bool {
    let mut found = false;
    s.scan(prefix, &prefix_end(prefix), &mut |_, _| {
        found = true;
        false
    });
    found
}

/// The last 32 bytes of a key: the id that every index ends with.
pub(crate) fn tail_id(key: &[u8]) -> Option<[u8; 32]> {
    key.last_chunk::<32>().copied()
}

/// The big-endian number behind the table byte.
pub(crate) fn head_number(key: &[u8]) -> Option<u64> {
    key.get(1..9)?.first_chunk::<8>().map(|b| u64::from_be_bytes(*b))
}

macro_rules! table {
    ($($get:ident, $put:ident, $key:ident: $table:ident, $id:ty, $record:ty;)*) => {$(
        pub(crate) fn $key(id: &$id) -> Vec<u8> {
            key($table, &[&id.0])
        }
        pub(crate) fn $get(s: &dyn StateRead, id: &$id) -> Option<$record> {
            get(s, &$key(id))
        }
        pub(crate) fn $put(s: &mut dyn StateWrite, id: &$id, record: &$record) {
            put(s, $key(id), record);
        }
    )*};
}

table! {
    account, put_account, account_key: ACCOUNT, AccountId, Account;
    provider, put_provider, provider_key: PROVIDER, AccountId, Provider;
    node, put_node, node_key: NODE, NodeId, Node;
    offer, put_offer, offer_key: OFFER, OfferId, Offer;
    order, put_order, order_key: ORDER, OrderId, Order;
    lease, put_lease, lease_key: LEASE, LeaseId, Lease;
}

pub(crate) fn zone(s: &dyn StateRead) -> Option<Zone> {
    get(s, &meta(META_ZONE))
}

pub(crate) fn clock(s: &dyn StateRead) -> Clock {
    get(s, &meta(META_CLOCK)).unwrap_or_default()
}

pub(crate) fn counts(s: &dyn StateRead) -> Counts {
    get(s, &meta(META_COUNTS)).unwrap_or_default()
}

pub(crate) fn update_counts(s: &mut dyn StateWrite, change: impl FnOnce(&mut Counts)) {
    let mut counts = counts(s);
    change(&mut counts);
    put(s, meta(META_COUNTS), &counts);
}

pub(crate) fn epoch_key(number: u64) -> Vec<u8> {
    key(EPOCH, &[&number.to_be_bytes()])
}

pub(crate) fn epoch(s: &dyn StateRead, number: u64) -> Option<Epoch> {
    get(s, &epoch_key(number))
}

pub(crate) fn balance_key(account: &AccountId, asset: AssetId) -> Vec<u8> {
    key(BALANCE, &[&account.0, &asset.0.to_be_bytes()])
}

/// A lane belongs to an account or, with `node` auth, to a node.
pub(crate) fn lane_key(owner: &[u8; 32], lane: u8) -> Vec<u8> {
    key(LANE, &[owner, &[lane]])
}

pub(crate) fn asset_meta(which: u8, asset: AssetId) -> Vec<u8> {
    key(META, &[&[which], &asset.0.to_be_bytes()])
}

pub(crate) fn timer_key(at: Timestamp, kind: TimerKind, id: &[u8; 32]) -> Vec<u8> {
    key(TIMER, &[&at.0.to_be_bytes(), &[kind as u8], id])
}

pub(crate) fn region_key(region: &str, offer: &OfferId) -> Vec<u8> {
    key(OFFER_IN_REGION, &[region.as_bytes(), &[0], &offer.0])
}

pub(crate) fn ageing_key(height: u64, offer: &OfferId) -> Vec<u8> {
    key(OFFER_AGEING, &[&height.to_be_bytes(), &offer.0])
}

pub(crate) fn pending_key(priority: u8, height: u64, order: &OrderId) -> Vec<u8> {
    key(ORDER_PENDING, &[&[u8::MAX - priority], &height.to_be_bytes(), &order.0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_before_the_next_one() {
        assert_eq!(prefix_end(&[1, 2]), vec![1, 3]);
        assert_eq!(prefix_end(&[1, 255]), vec![2]);
        assert_eq!(prefix_end(&[255]), vec![255, 255]);
    }

    #[test]
    fn timers_sort_by_time() {
        let early = timer_key(Timestamp(255), TimerKind::Lease, &[255; 32]);
        let late = timer_key(Timestamp(256), TimerKind::Order, &[0; 32]);
        assert!(early < late);
        assert_eq!(head_number(&late), Some(256));
        assert_eq!(tail_id(&early), Some([255; 32]));
    }
}
