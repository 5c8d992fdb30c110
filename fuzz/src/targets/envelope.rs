//! One transaction's bytes: decoding, the mempool's check, a block. First as they came, then signed by whom they name.

use crate::World;
use pasture_types::codec;
use pasture_types::tx::{Envelope, MAX_TX_BYTES};

thread_local! { static WORLD: World = World::new(); }

/// Takes one input; a broken promise panics.
pub fn run(data: &[u8]) {
    let _ = pasture_ledger::verify_stateless(data);
    let mut world = WORLD.with(World::clone);
    world.submit(data);
    if let Ok(envelope) = codec::decode::<Envelope>(data, MAX_TX_BYTES) {
        assert_eq!(codec::encode(&envelope), data, "a second encoding of the same envelope");
        let envelope = world.repair(envelope);
        world.submit(&codec::encode(&envelope));
    }
}
