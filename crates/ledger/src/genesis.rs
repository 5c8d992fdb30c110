//! The state before the first block. Spec: `docs/specs/ledger.md` §1.
//!
//! Guarantees: it depends on the genesis alone, so that every node of a zone begins alike. It checks no signatures: whoever
//! runs a zone trusts its genesis.

use crate::bank;
use crate::records::{Account, Clock, Zone};
use crate::service;
use crate::tables::{META_CLOCK, META_ZONE, VALIDATOR, key, meta, put, put_account};
use pasture_types::AssetId;
use pasture_types::genesis::Genesis;
use pasture_types::state::{MemoryState, StateWrite};

/// The state of a zone before its first block.
#[must_use]
pub fn genesis(genesis: &Genesis) -> MemoryState {
    let mut state = MemoryState::default();
    write(&mut state, genesis);
    state
}

/// The same as ordered entries.
#[must_use]
pub fn genesis_entries(genesis_of: &Genesis) -> Vec<(Vec<u8>, Vec<u8>)> {
    genesis(genesis_of).0.into_iter().collect()
}

fn write(s: &mut dyn StateWrite, genesis: &Genesis) {
    let zone = Zone {
        id: genesis.zone(),
        name: genesis.name.clone(),
        genesis_at: genesis.time,
        rules_version: genesis.rules_version,
        params: genesis.params.clone(),
        validators: u32::try_from(genesis.validators.len()).unwrap_or(u32::MAX),
    };
    put(s, meta(META_ZONE), &zone);
    let clock = Clock { height: 0, time: genesis.time, ..Clock::default() };
    put(s, meta(META_CLOCK), &clock);
    for validator in &genesis.validators {
        put(s, key(VALIDATOR, &[&validator.key]), &validator.operator);
    }
    crate::validators::at_genesis(s, genesis);
    for entry in &genesis.accounts {
        let id = entry.key.account();
        let account = Account { id, keys: vec![entry.key], threshold: 1, registered_at: genesis.time };
        put_account(s, &id, &account);
        // An overflow of the first money is a genesis nobody can have meant; the entry then has none.
        let _ = bank::mint(s, &id, AssetId::CREDIT, entry.balance);
    }
    service::assets::at_genesis(s, &genesis.assets);
}
