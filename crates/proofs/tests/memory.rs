//! Memory against cheats: each keeps less than it claims, or brings what is not its own. What they pay is counted in Argon2 block
//! computations, never in time.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "test code")]

use pasture_proofs::memory::{
    BLOCKS_PER_CHUNK, CHECKED, CHUNK_BYTES, CHUNK_WORDS, LINE_WORDS, Line, Lines, MemoryError, STEPS, Table, Walk,
};
use pasture_proofs::{Beacon, Challenge};
use pasture_types::NodeId;
use pasture_types::proof::ResourceClass;
use proptest::prelude::*;

const START: Beacon = Beacon([5; 32]);
const AFTER: Beacon = Beacon([6; 32]);
const CHUNKS: u32 = 256;
const LINES_PER_CHUNK: u64 = (CHUNK_WORDS / LINE_WORDS) as u64;

fn challenge() -> Challenge {
    Challenge { randomness: [1; 32], node: NodeId([2; 32]), class: ResourceClass::Cpu, device: 0, epoch: 7, nonces: [3; 32] }
}

fn table(challenge: &Challenge) -> Table {
    Table::new(u64::from(CHUNKS) * CHUNK_BYTES as u64, challenge).unwrap()
}

fn walk(stretches: u32) -> Walk {
    Walk::new(table(&challenge()), 2, stretches / 2, START).unwrap()
}

fn filled(table: &Table) -> Vec<u64> {
    let mut memory = vec![0; table.chunks() as usize * CHUNK_WORDS];
    table.fill(0, &mut memory);
    memory
}

fn walked(walk: &Walk, memory: &mut impl Lines) -> Vec<u64> {
    let lane = |lane| {
        let mut states = vec![];
        while !walk.advance(lane, &mut states, memory, 100) {}
        states
    };
    (0..walk.lanes()).flat_map(lane).collect()
}

fn judge(walk: &Walk, states: &[u64]) -> Result<(), MemoryError> {
    walk.verify(&walk.root(states), AFTER, &walk.open(states, AFTER))
}

/// Keeps the chunks below `kept` and computes the others when asked, counting what that costs.
struct OnDemand<'a> {
    table: &'a Table,
    memory: &'a [u64],
    kept: u32,
    blocks: u64,
}

impl Lines for OnDemand<'_> {
    fn line(&mut self, index: u64) -> Line {
        let chunk = u32::try_from(index / LINES_PER_CHUNK).unwrap();
        if chunk < self.kept {
            return self.memory.line(index);
        }
        self.blocks += BLOCKS_PER_CHUNK;
        let mut made = vec![0; CHUNK_WORDS];
        self.table.fill(chunk, &mut made);
        made.as_slice().line(index % LINES_PER_CHUNK)
    }
}

/// Keeps the chunks below `kept` and answers others with what it has.
struct Smaller<'a> {
    memory: &'a [u64],
    kept: u64,
}

impl Lines for Smaller<'_> {
    fn line(&mut self, index: u64) -> Line {
        self.memory.line(index % (self.kept * LINES_PER_CHUNK))
    }
}

#[test]
fn who_has_the_memory_passes_and_computes_nothing() {
    let walk = walk(500);
    let memory = filled(walk.table());
    let states = walked(&walk, &mut memory.as_slice());
    assert_eq!(states.len(), 500);
    assert_eq!(judge(&walk, &states), Ok(()));
    assert!(walk.open(&states, AFTER).len() as u64 <= walk.longest_proof());
    let mut honest = OnDemand { table: walk.table(), memory: &memory, kept: CHUNKS, blocks: 0 };
    assert_eq!((walked(&walk, &mut honest), honest.blocks), (states, 0));
}

#[test]
fn who_lacks_a_part_computes_as_much_for_each_step_as_the_spec_says() {
    let walk = walk(2_000);
    let memory = filled(walk.table());
    let honest = walked(&walk, &mut memory.as_slice());
    // Lacking all, half, a tenth, a thirtieth: 64 blocks for each step that meets what is not there.
    for kept in [0, 128, 230, 248] {
        let mut cheat = OnDemand { table: walk.table(), memory: &memory, kept, blocks: 0 };
        assert_eq!(walked(&walk, &mut cheat), honest, "right in the end, and late");
        let missing = f64::from(CHUNKS - kept) / f64::from(CHUNKS);
        let expected = walk.steps() as f64 * missing * BLOCKS_PER_CHUNK as f64;
        assert!((0.8..1.25).contains(&(cheat.blocks as f64 / expected)), "{kept}: {} of {expected}", cheat.blocks);
        // docs/specs/memory.md §4: at half a microsecond a block the limit leaves time for four; from a tenth missing on, it is more.
        assert!(kept > 230 || cheat.blocks > 5 * walk.steps(), "{kept}: {} blocks", cheat.blocks);
    }
}

#[test]
fn made_up_states_are_found_with_their_share() {
    const TRIALS: u32 = 300;
    let walk = walk(1_000);
    let memory = filled(walk.table());
    // Instead of computing what is missing, write anything and go on from there.
    for (missing, least) in [(13u32, 0.9), (26, 0.99), (128, 1.0)] {
        let (mut states, mut made_up) = (vec![], 0u32);
        for lane in 0..walk.lanes() {
            let (mut mine, mut done) = (vec![], false);
            while !done {
                let mut cheat = OnDemand { table: walk.table(), memory: &memory, kept: CHUNKS - missing, blocks: 0 };
                done = walk.advance(lane, &mut mine, &mut cheat, 1);
                if cheat.blocks > 0 {
                    made_up += 1;
                    *mine.last_mut().unwrap() ^= 0x1234_5678_9abc;
                }
            }
            states.append(&mut mine);
        }
        let root = walk.root(&states);
        let caught = (0..TRIALS)
            .filter(|trial| {
                let mut after = AFTER;
                after.0[..4].copy_from_slice(&trial.to_le_bytes());
                matches!(walk.verify(&root, after, &walk.open(&states, after)), Err(MemoryError::Stretch(_)))
            })
            .count();
        let share = f64::from(made_up) / 1_000.0;
        let bound = 1.0 - (1.0 - share).powi(CHECKED as i32);
        let sd = (f64::from(TRIALS) * bound * (1.0 - bound)).sqrt();
        assert!(caught as f64 >= f64::from(TRIALS) * bound - 4.0 * sd - 1.0, "{missing}: {caught} of {TRIALS}, {bound}");
        assert!(caught as f64 >= f64::from(TRIALS) * (least - 0.05), "{missing}: {caught} of {TRIALS}, share {share}");
        assert_eq!(STEPS, 4);
    }
}

#[test]
fn a_smaller_table_under_a_larger_name_loses() {
    let walk = walk(1_000);
    let memory = filled(walk.table());
    let states = walked(&walk, &mut Smaller { memory: &memory, kept: u64::from(CHUNKS) / 2 });
    assert!(matches!(judge(&walk, &states), Err(MemoryError::Stretch(_))));
}

#[test]
fn another_table_another_start_and_another_time_lose() {
    let mine = walk(500);
    let others = [
        Challenge { randomness: [8; 32], ..challenge() },
        Challenge { node: NodeId([8; 32]), ..challenge() },
        Challenge { class: ResourceClass::Gpu, ..challenge() },
        Challenge { device: 1, ..challenge() },
        Challenge { epoch: 8, ..challenge() },
        Challenge { nonces: [8; 32], ..challenge() },
    ];
    for other in others {
        // A table filled for another node, device or epoch answers this walk wrongly...
        let memory = filled(&table(&other));
        let states = walked(&mine, &mut memory.as_slice());
        assert!(matches!(judge(&mine, &states), Err(MemoryError::Stretch(_))), "{other:?}");
        // ... and what was right there is nothing here.
        let theirs = Walk::new(table(&other), 2, 250, START).unwrap();
        let states = walked(&theirs, &mut memory.as_slice());
        let (root, proof) = (theirs.root(&states), theirs.open(&states, AFTER));
        assert_eq!(theirs.verify(&root, AFTER, &proof), Ok(()));
        assert!(mine.verify(&root, AFTER, &proof).is_err());
    }
    let memory = filled(mine.table());
    let states = walked(&mine, &mut memory.as_slice());
    let (root, proof) = (mine.root(&states), mine.open(&states, AFTER));
    // A walk from before, shown again.
    let later = Walk::new(table(&challenge()), 2, 250, Beacon([7; 32])).unwrap();
    assert!(matches!(judge(&later, &states), Err(MemoryError::Stretch(_))));
    // And one of other lanes or another length.
    for (lanes, length) in [(1, 500), (4, 125), (2, 249)] {
        let other = Walk::new(table(&challenge()), lanes, length, START).unwrap();
        assert!(other.verify(&root, AFTER, &proof).is_err());
    }
    assert!(mine.verify(&root, Beacon([7; 32]), &proof).is_err());
    assert_eq!(mine.verify(&root, AFTER, &proof), Ok(()));
}

#[test]
fn a_walk_cut_into_parts_that_run_side_by_side_loses_at_the_seams() {
    // Every tenth state is guessed, so that many processors could walk at once. Why there are lanes: few guesses are seldom found.
    let walk = walk(1_000);
    let memory = filled(walk.table());
    let mut all = vec![];
    for lane in 0..walk.lanes() {
        let mut states = vec![];
        while !walk.advance(lane, &mut states, &mut memory.as_slice(), 1) {
            if states.len().is_multiple_of(10) {
                *states.last_mut().unwrap() = 77;
            }
        }
        all.append(&mut states);
    }
    assert!(matches!(judge(&walk, &all), Err(MemoryError::Stretch(_))));
}

#[test]
fn the_format_is_frozen() {
    let walk = walk(100);
    let memory = filled(walk.table());
    let states = walked(&walk, &mut memory.as_slice());
    let hex = |bytes: [u8; 32]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let chunk: Vec<u8> = memory[..CHUNK_WORDS].iter().flat_map(|w| w.to_le_bytes()).collect();
    let proof = blake3::hash(&walk.open(&states, AFTER));
    assert_eq!(
        [*blake3::hash(&chunk).as_bytes(), walk.root(&states), *proof.as_bytes()].map(hex),
        [
            "c2fbb0eb0ce85658fd422af2287015b33c07423a4806abc48ce973a5284f2e83",
            "00ae60f357fb7d95b5392444716f455cb7c451c74f4a19d702e54527c8daee82",
            "3092ea04cb21d64d91f52bb32c6b7ddec8c330d52a171ccb51b0f131c31acaa7"
        ]
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn no_change_of_an_honest_proof_holds_and_any_bytes_are_survived(
        at in any::<prop::sample::Index>(), bit in 0u8..8, cut in any::<prop::sample::Index>(), bytes in prop::collection::vec(any::<u8>(), 0..4_000),
    ) {
        let challenge = challenge();
        let walk = Walk::new(Table::new(3 * CHUNK_BYTES as u64, &challenge).unwrap(), 4, 10, START).unwrap();
        let memory = filled(walk.table());
        let states = walked(&walk, &mut memory.as_slice());
        let (root, proof) = (walk.root(&states), walk.open(&states, AFTER));
        let mut changed = proof.clone();
        changed[at.index(proof.len())] ^= 1 << bit;
        prop_assert!(walk.verify(&root, AFTER, &changed).is_err());
        prop_assert!(walk.verify(&root, AFTER, &proof[..cut.index(proof.len())]).is_err());
        prop_assert!(walk.verify(&root, AFTER, &[proof.as_slice(), &[0]].concat()).is_err());
        prop_assert!(walk.verify(&root, AFTER, &bytes).is_err());
        prop_assert_eq!(walk.verify(&root, AFTER, &proof), Ok(()));
    }
}
