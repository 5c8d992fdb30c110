//! Memory that is declared and not there: what a capacity check asks of it is made up, or computed when it is asked.

use clap::ValueEnum;
use pasture_node::{Filled, MemoryEngine};
use pasture_proofs::memory::{CHUNK_WORDS, LINE_WORDS, Line, Lines, Table, Walk};

/// Stretches between two looks at the clock.
const STRETCHES: u32 = 64;

/// How a machine lies about its memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Way {
    /// It has half of what it declares, and takes nothing for what lies in the other half.
    MadeUp,
    /// It has none of it, and computes each line that it is asked for.
    Computed,
}

/// A machine that lacks what it declares.
pub(crate) struct Lacking(pub(crate) Way);

/// What it has of a table.
struct Part {
    way: Way,
    table: Table,
    kept: Vec<u64>,
}

impl MemoryEngine for Lacking {
    fn fill(&self, table: &Table, _threads: usize, go_on: &(dyn Fn() -> bool + Sync)) -> Option<Box<dyn Filled>> {
        let chunks = if self.0 == Way::MadeUp { table.chunks() / 2 } else { 0 };
        let mut kept = vec![0; usize::try_from(chunks).ok()? * CHUNK_WORDS];
        table.fill(0, &mut kept);
        eprintln!("cheat: asked for {} chunks of memory, has {chunks}", table.chunks());
        go_on().then(|| Box::new(Part { way: self.0, table: table.clone(), kept }) as Box<dyn Filled>)
    }
}

/// Reads lines of what is there, and does without the rest, or computes it.
struct Reader<'a> {
    part: &'a Part,
    chunk: Vec<u64>,
}

impl Lines for Reader<'_> {
    fn line(&mut self, index: u64) -> Line {
        if self.part.way == Way::MadeUp {
            return self.part.kept.as_slice().line(index);
        }
        let lines = (CHUNK_WORDS / LINE_WORDS) as u64;
        self.part.table.fill(u32::try_from(index / lines).unwrap_or(u32::MAX), &mut self.chunk);
        self.chunk.as_slice().line(index % lines)
    }
}

impl Filled for Part {
    fn walk(&self, walk: &Walk, lane: u32, go_on: &dyn Fn() -> bool) -> Option<Vec<u64>> {
        let mut reader = Reader { part: self, chunk: vec![0; CHUNK_WORDS] };
        let mut states = Vec::new();
        while !walk.advance(lane, &mut states, &mut reader, STRETCHES) {
            if !go_on() {
                eprintln!("cheat: a walk took too long");
                return None;
            }
        }
        Some(states)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pasture_proofs::Beacon;
    use pasture_proofs::memory::{AuditedMemory, MemoryError};
    use pasture_types::{Millis, NodeId};

    #[test]
    fn made_up_states_are_found_and_computed_ones_are_right_and_take_their_time() {
        let asked =
            AuditedMemory { audit: 1, randomness: [2; 32], epoch: 3, node: NodeId([4; 32]), chunks: 64, lanes: 1, window: Millis(1) };
        let (walk, beacon) = (asked.walk(&[5; 32]).unwrap(), Beacon([6; 32]));
        let verdict = |way: Way| {
            let part = Lacking(way).fill(&asked.table().unwrap(), 1, &|| true).unwrap();
            let states = part.walk(&walk, 0, &|| true).unwrap();
            walk.verify(&walk.root(&states), beacon, &walk.open(&states, beacon))
        };
        assert!(matches!(verdict(Way::MadeUp), Err(MemoryError::Stretch(_))));
        assert_eq!(verdict(Way::Computed), Ok(()));
        let part = Lacking(Way::Computed).fill(&asked.table().unwrap(), 1, &|| true).unwrap();
        assert_eq!(part.walk(&walk, 0, &|| false), None);
    }
}
