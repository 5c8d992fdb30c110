//! An order that was never placed, as the JSON that the API takes: explaining it answers, whatever it asks.

use crate::World;
use pasture_types::market::OrderTerms;
use pasture_types::tx::MAX_TX_BYTES;
use pasture_types::{Timestamp, codec};

thread_local! { static WORLD: World = World::new(); }

/// Takes one input; a broken promise panics.
pub fn run(data: &[u8]) {
    // JSON begins with a brace; the codec's bytes are the shorter way to odd numbers.
    let terms = match data.first() {
        Some(b'{') => serde_json::from_slice::<OrderTerms>(data).ok(),
        _ => codec::decode::<OrderTerms>(data, MAX_TX_BYTES).ok(),
    };
    let Some(terms) = terms else { return };
    WORLD.with(|w| {
        let _ = pasture_ledger::explain(&w.state, &terms, w.now);
        let _ = pasture_ledger::explain(&w.state, &terms, Timestamp(u64::MAX));
    });
    let text = serde_json::to_vec(&terms).expect("terms are JSON");
    assert_eq!(serde_json::from_slice::<OrderTerms>(&text).expect("it was written a moment ago"), terms);
}
