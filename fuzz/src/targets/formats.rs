//! Manifests and geneses: what decodes has one encoding. And JSON that a peer answers with: it is read or refused.

use borsh::{BorshDeserialize, BorshSerialize};
use pasture_api::data::{CountersignRequest, LeaseStatus, NodeEvent};
use pasture_types::codec;
use pasture_types::event::Event;
use pasture_types::genesis::Genesis;
use pasture_types::spec::{MAX_MANIFEST_BYTES, Manifest};

/// As the node reads it.
const MAX_GENESIS_BYTES: usize = 1 << 20;

fn one_encoding<T: BorshDeserialize + BorshSerialize>(data: &[u8], limit: usize) -> Option<T> {
    let value = codec::decode::<T>(data, limit).ok()?;
    assert_eq!(codec::encode(&value), data, "a second encoding of the same value");
    Some(value)
}

/// Takes one input; a broken promise panics.
pub fn run(data: &[u8]) {
    let Some((which, data)) = data.split_first() else { return };
    match which % 4 {
        0 => {
            one_encoding::<Manifest>(data, MAX_MANIFEST_BYTES).map(|m| m.hash());
        }
        1 => {
            one_encoding::<Genesis>(data, MAX_GENESIS_BYTES)
                .map(|g| (g.zone(), pasture_ledger::check(&pasture_ledger::genesis(&g)).is_ok()));
        }
        2 => {
            one_encoding::<Event>(data, MAX_MANIFEST_BYTES);
        }
        _ => {
            let _ = serde_json::from_slice::<NodeEvent>(data).map(|e| serde_json::to_vec(&e).expect("it was JSON"));
            let _ = serde_json::from_slice::<CountersignRequest>(data);
            let _ = serde_json::from_slice::<LeaseStatus>(data);
            let _ = serde_json::from_slice::<pasture_api::Problem>(data);
            let _ = serde_json::from_slice::<Manifest>(data).map(|m| one_encoding::<Manifest>(&m.to_bytes(), usize::MAX));
        }
    }
}
