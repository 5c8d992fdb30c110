//! The table: chunks of 16 KiB, each the memory of Argon2d after four passes over it.
//!
//! Guarantees: a chunk depends on nothing but seed and number, so that threads can fill any part, and a verifier makes one alone.
//! Each block of the last pass needs the block before it, one that the content chooses, and what stood in its place, so that what
//! is not kept costs (as far as is known) all 64 block computations.

use crate::Challenge;
use argon2::{Algorithm, Argon2, Block, Params, Version};

/// Bytes of a chunk.
pub const CHUNK_BYTES: usize = 16 << 10;
/// Words of a chunk.
pub const CHUNK_WORDS: usize = CHUNK_BYTES / 8;
/// Words that one step reads: a line of the processor's caches.
pub const LINE_WORDS: usize = 8;
/// Argon2 block computations that a chunk costs.
pub const BLOCKS_PER_CHUNK: u64 = KIB as u64 * PASSES as u64;

const KIB: u32 = 16;
const PASSES: u32 = 4;
const LINES_PER_CHUNK: u64 = (CHUNK_WORDS / LINE_WORDS) as u64;
const TABLE_DOMAIN: &str = "pasture 2026-11 memory table v1";

/// What one step reads.
pub type Line = [u64; LINE_WORDS];

/// Something that holds a table: memory, or what pretends to.
pub trait Lines {
    /// The line of this number; any other content where there is none.
    fn line(&mut self, index: u64) -> Line;
}

impl Lines for &[u64] {
    fn line(&mut self, index: u64) -> Line {
        let at = usize::try_from(index).unwrap_or(usize::MAX);
        self.as_chunks().0.get(at).copied().unwrap_or_default()
    }
}

/// A table of some size under one challenge.
#[derive(Clone, Debug)]
pub struct Table {
    pub(super) seed: [u8; 32],
    chunks: u32,
}

impl Table {
    /// The table of the whole chunks in `bytes`; `None` if there are none or 2^32.
    #[must_use]
    pub fn new(bytes: u64, challenge: &Challenge) -> Option<Self> {
        let chunks = u32::try_from(bytes / CHUNK_BYTES as u64).ok().filter(|chunks| *chunks > 0)?;
        let seed = pasture_types::ids::derive(TABLE_DOMAIN, &[&challenge.seed(TABLE_DOMAIN), &chunks.to_le_bytes()]);
        Some(Self { seed, chunks })
    }

    /// How many chunks.
    #[must_use]
    pub const fn chunks(&self) -> u32 {
        self.chunks
    }
    /// How many lines.
    #[must_use]
    pub const fn lines(&self) -> u64 {
        self.chunks as u64 * LINES_PER_CHUNK
    }

    /// Fills `memory`, whole chunks of [`CHUNK_WORDS`], with the chunks from `first` on. Threads may take parts of their own.
    pub fn fill(&self, first: u32, memory: &mut [u64]) {
        let mut maker = Maker::new(self);
        for (number, chunk) in (first..).zip(memory.chunks_exact_mut(CHUNK_WORDS)) {
            for (to, block) in chunk.chunks_exact_mut(CHUNK_WORDS / KIB as usize).zip(maker.chunk(number)) {
                to.copy_from_slice(block.as_ref());
            }
        }
    }
}

/// Makes chunks one at a time, and answers for lines without holding the table.
pub(super) struct Maker {
    seed: [u8; 32],
    argon2: Argon2<'static>,
    blocks: Vec<Block>,
}

impl Maker {
    pub(super) fn new(table: &Table) -> Self {
        // Were they out of bounds, the default would ask for more memory than there is, and the first chunk would say so.
        let params = Params::new(KIB, PASSES, 1, None).unwrap_or_default();
        let argon2 = Argon2::new(Algorithm::Argon2d, Version::V0x13, params);
        Self { seed: table.seed, argon2, blocks: vec![Block::new(); KIB as usize] }
    }

    fn chunk(&mut self, number: u32) -> &[Block] {
        let made = self.argon2.fill_memory(&number.to_le_bytes(), &self.seed, &mut self.blocks);
        assert!(made.is_ok(), "the parameters are constants within Argon2's bounds");
        &self.blocks
    }
}

impl Lines for Maker {
    fn line(&mut self, index: u64) -> Line {
        let (number, within) = (index / LINES_PER_CHUNK, usize::try_from(index % LINES_PER_CHUNK).unwrap_or(0));
        let words = self.chunk(u32::try_from(number).unwrap_or(u32::MAX)).iter().flat_map(|block| block.as_ref());
        let mut line = Line::default();
        words.skip(within * LINE_WORDS).zip(&mut line).for_each(|(word, to)| *to = *word);
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pasture_types::NodeId;
    use pasture_types::proof::ResourceClass;

    fn table() -> Table {
        let challenge =
            Challenge { randomness: [1; 32], node: NodeId([2; 32]), class: ResourceClass::Cpu, device: 0, epoch: 3, nonces: [4; 32] };
        Table::new(100_000, &challenge).unwrap()
    }

    #[test]
    fn a_table_is_the_same_whoever_fills_which_part_of_it() {
        let table = table();
        assert_eq!((table.chunks(), table.lines()), (6, 1_536));
        let mut whole = vec![0; 6 * CHUNK_WORDS];
        table.fill(0, &mut whole);
        let mut part = vec![0; 2 * CHUNK_WORDS];
        table.fill(3, &mut part);
        assert_eq!(part, whole[3 * CHUNK_WORDS..5 * CHUNK_WORDS]);
        let mut maker = Maker::new(&table);
        for index in [0, 255, 256, 1_000, 1_535] {
            assert_eq!(maker.line(index), whole.as_slice().line(index));
            assert_ne!(maker.line(index), Line::default());
        }
        assert_eq!(whole.as_slice().line(1_536), Line::default());
    }

    #[test]
    fn tables_too_small_or_too_large_do_not_exist() {
        let challenge =
            Challenge { randomness: [1; 32], node: NodeId([2; 32]), class: ResourceClass::Gpu, device: 0, epoch: 3, nonces: [4; 32] };
        assert!(Table::new(16_383, &challenge).is_none());
        assert!(Table::new(u64::MAX, &challenge).is_none());
        assert_eq!(Table::new(80 << 30, &challenge).unwrap().chunks(), 5 << 20);
    }
}
