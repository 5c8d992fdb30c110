//! The walk over a table: steps of which each needs the content that the one before found, and their proof.
//!
//! Guarantees: as `memory` says; the stretches to be checked come after the root, so a stretch that was made up is found with its
//! share, sixteen times.

use super::table::{Line, Lines, Maker, Table};
use crate::challenge::pick;
use crate::merkle::{DIGEST, Digest, Tree};
use crate::{Beacon, Challenge};
use pasture_types::Millis;
use pasture_types::ids::derive;
use pasture_types::proof::ResourceClass;
use std::collections::{BTreeMap, BTreeSet};

/// Steps of a stretch: between two states that are committed to.
pub const STEPS: u32 = 4;
/// Stretches that a verifier walks itself.
pub const CHECKED: u32 = 16;
/// Most stretches of all lanes: 32 MiB of leaves.
pub const MAX_STRETCHES: u32 = 1 << 20;

/// Most time that a step may take, on average over the walk. A read that misses every cache and the address tables takes a tenth
/// to a fifth of it on a machine of its own, and half of it where others want the same processor.
const RAM_STEP_NS: u64 = 2_000;
/// The same for a GPU, whose memory answers later.
const VRAM_STEP_NS: u64 = 4_000;
const WALK_DOMAIN: &str = "pasture 2026-11 memory walk v1";
const START_DOMAIN: &str = "pasture 2026-11 memory lane v1";
/// Bytes of a state in a proof.
const STATE: usize = 8;

/// Why a proof is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MemoryError {
    /// Not as long as the walk and the drawn stretches say.
    #[error("the proof has a wrong length")]
    Length,
    /// A stretch that the table does not lead along.
    #[error("stretch {0} is not what the table leads along")]
    Stretch(u32),
    /// States that were not committed to.
    #[error("the states are not what was committed to")]
    Commitment,
}

/// Walks of some length side by side over a table, each from where a beacon says.
///
/// Side by side, because whoever guesses states can walk so anyway: the cheat's processors are worth no more than the honest
/// node's then, as long as there are no more of them than lanes.
#[derive(Clone, Debug)]
pub struct Walk {
    table: Table,
    lanes: u32,
    /// Stretches of each lane.
    length: u32,
    seed: [u8; 32],
    /// Part of every step, so that no stretch of another walk is one of this.
    salt: u64,
    tree: Tree,
}

impl Walk {
    /// `lanes` walks (a node's declared cores) of `length` stretches each; `None` unless there are 16 to [`MAX_STRETCHES`] in all.
    #[must_use]
    pub fn new(table: Table, lanes: u32, length: u32, start: Beacon) -> Option<Self> {
        let stretches = lanes.checked_mul(length).filter(|all| (CHECKED..=MAX_STRETCHES).contains(all))?;
        let seed = derive(WALK_DOMAIN, &[&table.seed, &start.0, &lanes.to_le_bytes(), &length.to_le_bytes()]);
        Some(Self { table, lanes, length, salt: word(&seed), tree: Tree::new(&seed, stretches), seed })
    }

    /// The walk that fills `window` over the whole chunks of `bytes`; `None` if those are none, or the lanes.
    #[must_use]
    pub fn over(bytes: u64, challenge: &Challenge, lanes: u32, window: Millis, start: Beacon) -> Option<Self> {
        let length = Self::filling(challenge.class, lanes, window);
        Self::new(Table::new(bytes, challenge)?, lanes, length, start)
    }

    /// How many stretches of each lane take no more than `window` at the slowest speed allowed to this class.
    #[must_use]
    pub fn filling(class: ResourceClass, lanes: u32, window: Millis) -> u32 {
        let stretches = u128::from(window.0) * 1_000_000 / u128::from(u64::from(STEPS) * step_ns(class));
        let lanes = lanes.max(1);
        u32::try_from(stretches).unwrap_or(u32::MAX).min(MAX_STRETCHES / lanes).max(CHECKED.div_ceil(lanes))
    }

    /// Most time from the beacon's arrival to the root's, without the round trip: rounded up.
    #[must_use]
    pub const fn limit(&self, class: ResourceClass) -> Millis {
        Millis((self.length as u64 * STEPS as u64 * step_ns(class)).div_ceil(1_000_000))
    }

    /// The table that is walked over.
    #[must_use]
    pub const fn table(&self) -> &Table {
        &self.table
    }
    /// How many walks go side by side.
    #[must_use]
    pub const fn lanes(&self) -> u32 {
        self.lanes
    }
    /// Stretches of each lane.
    #[must_use]
    pub const fn length(&self) -> u32 {
        self.length
    }
    /// Part of every step, for whoever walks elsewhere (on a graphics card).
    #[must_use]
    pub const fn salt(&self) -> u64 {
        self.salt
    }
    /// Reads of all lanes.
    #[must_use]
    pub const fn steps(&self) -> u64 {
        self.lanes as u64 * self.length as u64 * STEPS as u64
    }

    /// Walks a lane at most `stretches` further and writes down each stretch's end. `true` says that it is done. The states of all
    /// lanes, one lane after another, make the proof.
    pub fn advance(&self, lane: u32, states: &mut Vec<u64>, memory: &mut impl Lines, stretches: u32) -> bool {
        let mut state = states.last().copied().unwrap_or_else(|| self.start(lane));
        for _ in 0..stretches {
            let done = u32::try_from(states.len()).unwrap_or(u32::MAX);
            if done >= self.length {
                return true;
            }
            state = self.stretch(lane * self.length + done, state, memory);
            states.push(state);
        }
        states.len() >= self.length as usize
    }

    /// Where a lane begins.
    #[must_use]
    pub fn start(&self, lane: u32) -> u64 {
        word(&derive(START_DOMAIN, &[&self.seed, &lane.to_le_bytes()]))
    }

    fn stretch(&self, number: u32, state: u64, memory: &mut impl Lines) -> u64 {
        (0..STEPS).fold(state, |state, step| {
            // The place is drawn from all bits of the state, without bias that matters: 2^40 lines at most of 2^64.
            let index = (u128::from(state) * u128::from(self.table.lines())) >> 64;
            let position = u64::from(number) * u64::from(STEPS) + u64::from(step);
            mix(state ^ self.salt ^ position, &memory.line(u64::try_from(index).unwrap_or(0)))
        })
    }

    /// The commitment to all states; sent within the time limit.
    #[must_use]
    pub fn root(&self, states: &[u64]) -> [u8; 32] {
        self.tree.root(&self.leaves(states))
    }

    fn leaves(&self, states: &[u64]) -> Vec<Digest> {
        (0..).zip(states).map(|(place, state)| self.leaf(place, *state)).collect()
    }

    fn leaf(&self, place: u32, state: u64) -> Digest {
        *self.tree.leaf(place).update(&state.to_le_bytes()).finalize().as_bytes()
    }

    /// The drawn stretches, and the places of the states that show them: each one's end, and the end before it in its lane.
    fn drawn(&self, root: &[u8; 32], after: Beacon) -> (Vec<u32>, BTreeSet<u32>) {
        let stretches = pick(&self.seed, root, after, self.lanes * self.length, CHECKED);
        let before = stretches.iter().filter_map(|stretch| self.before(*stretch));
        let places = stretches.iter().copied().chain(before).collect();
        (stretches, places)
    }

    fn before(&self, stretch: u32) -> Option<u32> {
        if stretch.is_multiple_of(self.length) { None } else { stretch.checked_sub(1) }
    }

    /// The proof's bytes: the states that show the drawn stretches, ascending by place, then the tree's hashes.
    #[must_use]
    pub fn open(&self, states: &[u64], after: Beacon) -> Vec<u8> {
        let leaves = self.leaves(states);
        let (_, places) = self.drawn(&self.tree.root(&leaves), after);
        let shown = places.iter().filter_map(|place| states.get(*place as usize)).flat_map(|state| state.to_le_bytes());
        let places: Vec<u32> = places.iter().copied().collect();
        shown.chain(self.tree.open(&leaves, &places).into_iter().flatten()).collect()
    }

    /// The longest proof: refuse more before reading it.
    #[must_use]
    pub fn longest_proof(&self) -> u64 {
        let states = 2 * CHECKED;
        u64::from(states) * STATE as u64 + Tree::longest_path(self.lanes * self.length, states) * DIGEST as u64
    }

    /// Checks a proof's bytes against the root that came in time, with the beacon that came after it. Cheap tests come first: the
    /// chunks are made only for states that were committed to.
    ///
    /// # Errors
    /// [`MemoryError`] says what is wrong with it.
    pub fn verify(&self, root: &[u8; 32], after: Beacon, proof: &[u8]) -> Result<(), MemoryError> {
        if proof.len() as u64 > self.longest_proof() {
            return Err(MemoryError::Length);
        }
        let (stretches, places) = self.drawn(root, after);
        let (shown, path) = proof.split_at_checked(places.len() * STATE).ok_or(MemoryError::Length)?;
        let states: BTreeMap<u32, u64> = places.into_iter().zip(shown.as_chunks().0.iter().map(|s| u64::from_le_bytes(*s))).collect();
        let leaves = states.iter().map(|(place, state)| (*place, self.leaf(*place, *state))).collect();
        if self.tree.lead(leaves, path).ok_or(MemoryError::Length)? != *root {
            return Err(MemoryError::Commitment);
        }
        let mut maker = Maker::new(&self.table);
        for stretch in stretches {
            let from = match self.before(stretch) {
                None => self.start(stretch / self.length),
                Some(before) => states.get(&before).copied().unwrap_or_default(),
            };
            if Some(self.stretch(stretch, from, &mut maker)) != states.get(&stretch).copied() {
                return Err(MemoryError::Stretch(stretch));
            }
        }
        Ok(())
    }
}

const fn step_ns(class: ResourceClass) -> u64 {
    match class {
        ResourceClass::Cpu => RAM_STEP_NS,
        ResourceClass::Gpu => VRAM_STEP_NS,
    }
}

fn word(bytes: &[u8; 32]) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *bytes;
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

/// The next state: every bit of the line counts (multiply and rotate, with the odd constant of Fibonacci hashing).
fn mix(state: u64, line: &Line) -> u64 {
    line.iter().fold(state, |state, word| {
        let mixed = (state ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed ^ (mixed >> 32)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_fills_its_window_at_the_slowest_speed() {
        let filling = |class, lanes, ms| Walk::filling(class, lanes, Millis(ms));
        assert_eq!(filling(ResourceClass::Cpu, 1, 1_000), 125_000);
        assert_eq!(filling(ResourceClass::Gpu, 1, 1_000), 62_500);
        assert_eq!(filling(ResourceClass::Cpu, 1, 0), CHECKED);
        assert_eq!(filling(ResourceClass::Cpu, 1, u64::MAX), MAX_STRETCHES);
        assert_eq!(filling(ResourceClass::Cpu, 16, 1_000), 65_536);
        assert_eq!(filling(ResourceClass::Cpu, u32::MAX, 1_000), 1);
        let challenge = Challenge {
            randomness: [1; 32],
            node: pasture_types::NodeId([2; 32]),
            class: ResourceClass::Cpu,
            device: 0,
            epoch: 3,
            nonces: [4; 32],
        };
        for (lanes, limit) in [(1, 1_000), (4, 1_000), (16, 525), (1 << 20, 1)] {
            let walk = Walk::over(1 << 30, &challenge, lanes, Millis(1_000), Beacon([0; 32])).unwrap();
            assert_eq!(walk.limit(ResourceClass::Cpu), Millis(limit));
        }
        assert!(Walk::over(1 << 30, &challenge, 0, Millis(1_000), Beacon([0; 32])).is_none());
        assert!(Walk::over(1 << 30, &challenge, u32::MAX, Millis(1_000), Beacon([0; 32])).is_none());
    }

    #[test]
    fn every_bit_of_a_line_and_of_the_state_counts() {
        let line = [1, 2, 3, 4, 5, 6, 7, 8];
        for bit in 0..64 {
            assert_ne!(mix(0, &line), mix(1 << bit, &line));
            for word in 0..line.len() {
                let mut other = line;
                other[word] ^= 1 << bit;
                assert_ne!(mix(0, &line), mix(0, &other));
            }
        }
    }
}
