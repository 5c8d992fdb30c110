//! What a node answers to a challenge of its computing power: matrix products and memory walks. Against a root that is fixed no
//! bytes hold but the honest ones.

use pasture_proofs::gemm::{Check, Prover, Round, Shape};
use pasture_proofs::memory::{CHUNK_BYTES, CHUNK_WORDS, Table, Walk};
use pasture_proofs::{Beacon, Challenge};
use pasture_types::NodeId;
use pasture_types::proof::ResourceClass;
use std::sync::LazyLock;

const CHUNKS: usize = 2;
const STRETCHES: u32 = 20;
const BEACON: Beacon = Beacon([5; 32]);

/// An honest node's answers; small, so that a change finds every part of them.
struct Honest {
    challenge: Challenge,
    shape: Shape,
    check: Check,
    product: ([u8; 32], Vec<u8>),
    walk: Walk,
    walked: ([u8; 32], Vec<u8>),
}

static HONEST: LazyLock<Honest> = LazyLock::new(|| {
    let challenge =
        Challenge { randomness: [1; 32], node: NodeId([2; 32]), class: ResourceClass::Cpu, device: 0, epoch: 3, nonces: [4; 32] };
    let (shape, round) = (Shape::new(8, 1, 70).expect("within bounds"), Round { randomness: [1; 32], epoch: 3 });
    let prover = Prover::new(shape, &round, &challenge);
    let leaves = prover.all_leaves();
    let product = (prover.root(&leaves), prover.open(&leaves, BEACON));
    let table = Table::new((CHUNKS * CHUNK_BYTES) as u64, &challenge).expect("two chunks");
    let mut memory = vec![0; CHUNKS * CHUNK_WORDS];
    table.fill(0, &mut memory);
    let walk = Walk::new(table, 1, STRETCHES, BEACON).expect("within bounds");
    let mut states = vec![];
    assert!(walk.advance(0, &mut states, &mut memory.as_slice(), STRETCHES));
    let walked = (walk.root(&states), walk.open(&states, BEACON));
    Honest { check: Check::new(shape, &round, BEACON), challenge, shape, product, walk, walked }
});

/// Takes one input; a broken promise panics.
pub fn run(data: &[u8]) {
    let Some((which, data)) = data.split_first() else { return };
    let honest = &*HONEST;
    match which % 4 {
        0 => {
            let (root, proof) = &honest.product;
            assert_eq!(honest.check.verify(honest.shape, &honest.challenge, root, data).is_ok(), data == proof);
        }
        1 => {
            let (root, proof) = &honest.walked;
            assert_eq!(honest.walk.verify(root, BEACON, data).is_ok(), data == proof);
        }
        // A root of the sender's own: nothing may panic.
        2 => {
            if let Some((root, proof)) = data.split_first_chunk() {
                let _ = honest.check.verify(honest.shape, &honest.challenge, root, proof);
            }
        }
        _ => {
            if let Some((root, proof)) = data.split_first_chunk() {
                let _ = honest.walk.verify(root, BEACON, proof);
            }
        }
    }
}

/// The honest answers, alone and behind their roots.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let answers = [(0, &HONEST.product), (1, &HONEST.walked)];
    let tagged = |(tag, (root, proof)): (u8, &([u8; 32], Vec<u8>))| {
        [[&[tag], proof.as_slice()].concat(), [&[tag + 2], root.as_slice(), proof.as_slice()].concat()]
    };
    answers.into_iter().flat_map(tagged).collect()
}
