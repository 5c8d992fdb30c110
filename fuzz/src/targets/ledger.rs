//! Transactions one after another, by holders of real keys, with time between them: the rules behind the signatures.

use borsh::BorshDeserialize as _;
use crate::{Step, World};

/// Most transactions of one input.
const MAX_STEPS: usize = 12;

thread_local! { static WORLD: World = World::new(); }

/// Takes one input; a broken promise panics.
pub fn run(data: &[u8]) {
    let mut world = WORLD.with(World::clone);
    let mut rest = data;
    for _ in 0..MAX_STEPS {
        let Ok(step) = Step::deserialize(&mut rest) else { break };
        world.step(step);
    }
    world.wait(60_000);
}
