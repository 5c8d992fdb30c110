//! Views made from records that a client has proven to itself, to hold a gateway's answer against.
//!
//! Guarantees: reads nothing but what [`Proven::insert`] was given, so a view from here is as true as those records. Fields that no
//! bounded number of records determines are left out of the comparison, and [`RecordKind::unproven`] names them. It verifies
//! nothing itself: that is `pasture-light`'s, and the caller's.

use crate::views;
use pasture_ledger::query;
use pasture_types::state::{MemoryState, StateWrite as _};
use pasture_types::{AccountId, AssetId, LeaseId, NodeId, OrderId};
use serde_json::Value;
use std::collections::BTreeSet;

/// Where the ledger keeps each kind of record: the first byte of its keys (`docs/specs/ledger.md`; a test here holds the two together).
const ACCOUNT: u8 = 0x02;
const BALANCE: u8 = 0x03;
const PROVIDER: u8 = 0x05;
const NODE: u8 = 0x06;
const OFFER: u8 = 0x07;
const ORDER: u8 = 0x0c;
const LEASE: u8 = 0x11;

/// A kind of record that can be asked for by its id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RecordKind {
    /// An account.
    Account,
    /// A lease.
    Lease,
    /// A node.
    Node,
    /// An order.
    Order,
}

impl RecordKind {
    /// Fields of its view that stay the gateway's word: sums over many records, and what only the gateway knows.
    #[must_use]
    pub const fn unproven(self) -> &'static [&'static str] {
        match self {
            Self::Account => &["on_hold", "lanes", "build_allowance_left", "standing", "assets"],
            Self::Node => &["lanes", "reachable", "standing"],
            Self::Lease | Self::Order => &[],
        }
    }

    /// A view as JSON without those fields: what two views are compared by.
    #[must_use]
    pub fn comparable(self, mut view: Value) -> Value {
        if let Value::Object(fields) = &mut view {
            fields.retain(|name, _| !self.unproven().contains(&name.as_str()));
        }
        view
    }

    const fn table(self) -> u8 {
        match self {
            Self::Account => ACCOUNT,
            Self::Lease => LEASE,
            Self::Node => NODE,
            Self::Order => ORDER,
        }
    }
}

fn key(table: u8, id: &[u8; 32]) -> Vec<u8> {
    [&[table], &id[..]].concat()
}

/// Records that were proven, each to be there or not to be.
#[derive(Default, Debug)]
pub struct Proven {
    known: MemoryState,
    asked: BTreeSet<Vec<u8>>,
}

impl Proven {
    /// Takes a proven record in; `None` if it was proven that there is none.
    pub fn insert(&mut self, key: Vec<u8>, value: Option<Vec<u8>>) {
        self.asked.insert(key.clone());
        match value {
            Some(value) => self.known.put(key, value),
            None => {
                self.known.0.remove(&key);
            }
        }
    }

    /// The keys that are still to be proven before [`Proven::view`] can answer; more may follow once these are known.
    #[must_use]
    pub fn missing(&self, kind: RecordKind, id: &[u8; 32]) -> Vec<Vec<u8>> {
        let mut needed = vec![key(kind.table(), id)];
        match kind {
            RecordKind::Account => {
                needed.push([&key(BALANCE, id)[..], &AssetId::CREDIT.0.to_be_bytes()].concat());
                needed.push(key(PROVIDER, id));
            }
            RecordKind::Lease => {
                if let Some(lease) = query::lease(&self.known, &LeaseId(*id)) {
                    needed.extend([key(ORDER, &lease.order.0), key(OFFER, &lease.offer.0), key(PROVIDER, &lease.provider.0)]);
                }
            }
            RecordKind::Node => {
                if let Some(node) = query::node(&self.known, &NodeId(*id)) {
                    needed.push(key(PROVIDER, &node.provider.0));
                }
            }
            RecordKind::Order => {}
        }
        needed.retain(|key| !self.asked.contains(key));
        needed
    }

    /// The view that the records make, without the fields that they do not determine; `None` if there is no such record.
    #[must_use]
    pub fn view(&self, kind: RecordKind, id: &[u8; 32]) -> Option<Value> {
        let view = match kind {
            RecordKind::Account => views::account(&self.known, &AccountId(*id)).map(serde_json::to_value),
            RecordKind::Lease => views::lease(&self.known, &LeaseId(*id)).map(serde_json::to_value),
            RecordKind::Node => views::node(&self.known, &NodeId(*id)).map(serde_json::to_value),
            RecordKind::Order => views::order(&self.known, &OrderId(*id)).map(serde_json::to_value),
        };
        // Views are plain structs: turning one into JSON cannot fail.
        Some(kind.comparable(view?.unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pasture_types::genesis::{Genesis, GenesisAccount, Params, RULES_VERSION};
    use pasture_types::{Amount, SigningKey, Timestamp};

    /// Keys of the ledger's own state, by their table.
    fn ledger() -> (MemoryState, AccountId) {
        let user = SigningKey::from_seed([1; 32]);
        let accounts = vec![GenesisAccount { key: user.public(), balance: Amount::credits(7) }];
        let params = Params::dev();
        let genesis = Genesis {
            name: "t".into(),
            time: Timestamp(1),
            rules_version: RULES_VERSION,
            params,
            validators: vec![],
            accounts,
            assets: vec![],
        };
        (pasture_ledger::genesis(&genesis), user.account())
    }

    #[test]
    fn an_account_is_shown_from_its_records_alone() {
        let (state, id) = ledger();
        let mut proven = Proven::default();
        let needed = proven.missing(RecordKind::Account, &id.0);
        assert_eq!(needed.len(), 3);
        for key in needed {
            let value = state.0.get(&key).cloned();
            assert_eq!(value.is_some(), key[0] != PROVIDER, "{key:?}");
            proven.insert(key, value);
        }
        assert!(proven.missing(RecordKind::Account, &id.0).is_empty());
        let view = proven.view(RecordKind::Account, &id.0).unwrap();
        assert_eq!(view["balance"], "7000000000");
        let whole = serde_json::to_value(views::account(&state, &id).unwrap()).unwrap();
        assert_eq!(RecordKind::Account.comparable(whole.clone()), view);
        assert_ne!(whole, view, "what is not proven is left out");
        assert_eq!(proven.view(RecordKind::Account, &[9; 32]), None);
    }

    #[test]
    fn the_tables_are_the_ledgers() {
        // A record put where this file says is found by the ledger's own readers.
        let mut state = MemoryState::default();
        let id = [3; 32];
        // Whatever a table's record is, a reader that finds undecodable bytes answers as if there were none; so the bytes come
        // from the ledger's own tests of formats, by kind.
        let frozen = include_str!("../../ledger/tests/golden/formats.txt");
        let record = |name: &str| {
            let line = frozen.lines().find(|line| line.split_whitespace().next() == Some(name));
            line.and_then(|line| line.split_whitespace().last()).map(|digits| hex::decode(digits).unwrap())
        };
        let kinds = [
            ("record.provider", PROVIDER),
            ("record.node", NODE),
            ("record.offer", OFFER),
            ("record.order", ORDER),
            ("record.lease", LEASE),
        ];
        for (name, table) in kinds {
            let bytes = record(name).unwrap_or_else(|| panic!("{name} is not among the frozen formats"));
            state.put(key(table, &id), bytes);
        }
        assert!(query::provider(&state, &AccountId(id)).is_some());
        assert!(query::node(&state, &NodeId(id)).is_some());
        assert!(query::offer(&state, &pasture_types::OfferId(id)).is_some());
        assert!(query::order(&state, &OrderId(id)).is_some());
        assert!(query::lease(&state, &LeaseId(id)).is_some());
    }
}
