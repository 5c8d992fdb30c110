//! What an audit asks of memory: a table as large as what no lease holds, filled from the draw on, and a walk over it in bounded time.
//! Spec: `docs/specs/audits.md` §13, `docs/specs/memory.md`.
//!
//! Guarantees: all that node and witness need follows from the audit's record; exact integers. It fills nothing and walks nowhere.

use crate::Millis;
use crate::governance::{OutOfBounds, within};
use crate::ids::derive;
use crate::{NodeId, event::Hash32};
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

const MEMORY_DOMAIN: &str = "pasture 2026-11 audit memory tag v1";
const ALL_DOMAIN: &str = "pasture 2026-11 audit memory and products tag v1";
const WALK_DOMAIN: &str = "pasture 2026-11 audit walk v1";
const LOT_DOMAIN: &str = "pasture 2026-11 audit memory lot v1";

/// Bytes of a chunk of the table.
pub const MEMORY_CHUNK: u64 = 16 << 10;
/// Most that an audit may ask: a petabyte would not be filled in time by anybody.
const MAX_ASKED: u64 = 1 << 40;
/// Longest time from a witness's nonce to the root: with the longest burst, a receipt's sixteen bits still hold it.
const MAX_WALK: u64 = 5_000;
/// Most cores that walk side by side: each has 1,024 stretches at least then.
const MAX_LANES: u32 = 1_024;
const PPM: u128 = 1_000_000;
const GIB: u128 = 1 << 30;

/// Whether, and how, a zone asks for memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct MemoryAsk {
    /// One audit in so many asks, by lot; the first of a node always, and each while its memory stands failed.
    pub every: u32,
    /// What is asked of the memory that no open lease holds, in parts per million.
    pub part_ppm: u32,
    /// Most that is asked.
    pub most_bytes: u64,
    /// Time that one core has to fill a GiB.
    pub fill_per_gib: Millis,
    /// How long the walk is at the slowest speed that is allowed.
    pub window: Millis,
    /// What it may be later: witnesses' nonces do not come at once, and machines stop for a moment.
    pub grace: Millis,
}

impl MemoryAsk {
    /// Of a development zone that tries it out: small and soon filled, with much time beside all else that its machine does.
    #[must_use]
    pub const fn trial() -> Self {
        Self {
            every: 2,
            part_ppm: 750_000,
            most_bytes: 32 << 20,
            fill_per_gib: Millis(16_000),
            window: Millis(1_000),
            grace: Millis(2_500),
        }
    }
    /// Of a production zone: 64 GiB at most; a core of today fills a GiB in some two seconds.
    #[must_use]
    pub const fn production() -> Self {
        Self { every: 4, part_ppm: 750_000, most_bytes: 64 << 30, fill_per_gib: Millis(6_000), window: Millis(1_000), grace: Millis(250) }
    }
    /// Checks the bounds.
    ///
    /// # Errors
    /// The first one that is broken.
    pub(super) fn check(&self) -> Result<(), OutOfBounds> {
        within("audits.memory.every", self.every, 1u32, 1_000u32)?;
        // The rest is the machine's own: its system needs some.
        within("audits.memory.part_ppm", self.part_ppm, 10_000u32, 950_000u32)?;
        within("audits.memory.most_bytes", self.most_bytes, 1u64 << 20, MAX_ASKED)?;
        within("audits.memory.fill_per_gib", self.fill_per_gib.0, 100u64, 600_000u64)?;
        // Shorter, a verifier's round trip says nothing.
        within("audits.memory.window", self.window.0, 100u64, MAX_WALK)?;
        within("audits.memory.window + grace", self.window.0.saturating_add(self.grace.0), 100u64, MAX_WALK)
    }
    /// What is asked of a node with so much free memory and so many milli-cores, where filling may take `longest`; `None` if that is nothing.
    #[must_use]
    pub fn claim(&self, free_bytes: u64, cpu_millis: u32, longest: Millis) -> Option<MemoryClaim> {
        let lanes = cpu_millis.div_ceil(1_000).clamp(1, MAX_LANES);
        let per_gib = u128::from(self.fill_per_gib.0.max(1));
        let part = u128::from(free_bytes) * u128::from(self.part_ppm) / PPM;
        let in_time = u128::from(longest.0) * u128::from(lanes) * GIB / per_gib;
        let bytes = part.min(in_time).min(u128::from(self.most_bytes));
        let chunks = u32::try_from(bytes / u128::from(MEMORY_CHUNK)).unwrap_or(u32::MAX);
        let filled = u128::from(chunks) * u128::from(MEMORY_CHUNK) * per_gib;
        let fill = Millis(u64::try_from(filled.div_ceil(GIB * u128::from(lanes))).unwrap_or(longest.0));
        let limit = Millis(self.window.0.saturating_add(self.grace.0));
        (chunks > 0).then_some(MemoryClaim { chunks, lanes, window: self.window, limit, fill })
    }
    /// Whether the lot says that an audit asks.
    #[must_use]
    pub fn is_drawn(&self, randomness: &[u8; 32], audit: u64) -> bool {
        let [a, b, c, d, ..] = derive(LOT_DOMAIN, &[randomness, &audit.to_le_bytes()]);
        u32::from_le_bytes([a, b, c, d]).is_multiple_of(self.every.max(1))
    }
}

/// What an audit asks of a node's memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct MemoryClaim {
    /// Chunks of the table, of [`MEMORY_CHUNK`] bytes each.
    pub chunks: u32,
    /// Walks side by side: the node's cores.
    pub lanes: u32,
    /// How long the walk is at the slowest speed.
    pub window: Millis,
    /// Most time from a witness's nonce to the root's arrival, without the round trip.
    pub limit: Millis,
    /// How much later witnesses begin than at the draw: until then the table is filled.
    pub fill: Millis,
}

impl MemoryClaim {
    /// How much memory that is.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.chunks as u64 * MEMORY_CHUNK
    }
}

/// What a witness was shown besides an answer in time.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Shown {
    /// The products of all GPUs that were asked.
    pub products: bool,
    /// A walk over the memory that was asked, in its own time.
    pub memory: bool,
}

/// The tag of an answer with what was shown besides.
#[must_use]
pub fn shown_tag(witness: &NodeId, statement_digest: &[u8; 32], shown: Shown) -> u64 {
    let domain = match shown {
        Shown { products: false, memory: false } => return super::receipt_tag(witness, statement_digest),
        Shown { products: true, memory: false } => return super::proven_tag(witness, statement_digest),
        Shown { products: false, memory: true } => MEMORY_DOMAIN,
        Shown { products: true, memory: true } => ALL_DOMAIN,
    };
    let [a, b, c, d, e, f, g, h, ..] = derive(domain, &[&witness.0, statement_digest]);
    u64::from_le_bytes([a, b, c, d, e, f, g, h]).max(1)
}

/// Adds the walk's root to a digest of what else was found.
pub(super) fn with_walk(found: Hash32, walk: Option<&Hash32>) -> Hash32 {
    walk.map_or(found, |root| Hash32(derive(WALK_DOMAIN, &[&found.0, &root.0])))
}

/// Names all that an answer commits to and has opened: the roots of products, and of a walk.
#[must_use]
pub fn commitments_digest(roots: &[Hash32], walk: Option<&Hash32>) -> Hash32 {
    with_walk(super::roots_digest(roots), walk)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_part_of_the_free_memory_is_asked_as_far_as_it_can_be_filled() {
        let ask = MemoryAsk::production();
        let claim = ask.claim(8 << 30, 4_000, Millis(20_000)).unwrap();
        assert_eq!((claim.bytes(), claim.lanes, claim.fill), (6 << 30, 4, Millis(9_000)));
        assert_eq!((claim.window, claim.limit), (Millis(1_000), Millis(1_250)));
        // One core fills a third of a GiB in two seconds; a whole one counts for a part.
        let little = ask.claim(8 << 30, 500, Millis(2_000)).unwrap();
        assert!(little.bytes() <= (1 << 30) / 3 && little.bytes() > (1 << 30) / 3 - MEMORY_CHUNK && little.fill <= Millis(2_000));
        assert_eq!(ask.claim(1 << 40, 64_000, Millis(20_000)).unwrap().bytes(), 64 << 30);
        assert_eq!(ask.claim(20_000, 1_000, Millis(20_000)), None, "not one chunk");
        assert_eq!(ask.claim(8 << 30, 1_000, Millis(0)), None);
        let huge = MemoryAsk { most_bytes: u64::MAX, fill_per_gib: Millis(1), ..ask };
        assert_eq!(huge.claim(u64::MAX, u32::MAX, Millis(u64::MAX)).unwrap().chunks, u32::MAX);
    }

    #[test]
    fn the_lot_falls_as_often_as_it_says() {
        let ask = MemoryAsk { every: 4, ..MemoryAsk::production() };
        let drawn = (0..4_000).filter(|audit| ask.is_drawn(&[3; 32], *audit)).count();
        // 1,000 on average, standard deviation 27.
        assert!((860..1_140).contains(&drawn), "{drawn}");
        assert!(MemoryAsk { every: 1, ..ask }.is_drawn(&[3; 32], 1));
    }

    #[test]
    fn each_kind_of_tag_and_each_root_is_its_own() {
        let (witness, digest) = (NodeId([1; 32]), [2; 32]);
        let tags = [(false, false), (true, false), (false, true), (true, true)]
            .map(|(products, memory)| shown_tag(&witness, &digest, Shown { products, memory }));
        assert_eq!(BTreeSet::from(tags).len(), 4);
        let (root, other) = (Hash32([3; 32]), Hash32([4; 32]));
        let named = [
            commitments_digest(&[], None),
            commitments_digest(&[], Some(&root)),
            commitments_digest(&[root], None),
            commitments_digest(&[root], Some(&root)),
            commitments_digest(&[root], Some(&other)),
        ];
        assert_eq!(BTreeSet::from(named.map(|hash| hash.0)).len(), 5);
    }

    #[test]
    fn bounds_are_held() {
        assert!(MemoryAsk::production().check().is_ok() && MemoryAsk::trial().check().is_ok());
        let p = MemoryAsk::production();
        for bad in [
            MemoryAsk { every: 0, ..p },
            MemoryAsk { part_ppm: 1_000_000, ..p },
            MemoryAsk { most_bytes: u64::MAX, ..p },
            MemoryAsk { fill_per_gib: Millis(0), ..p },
            MemoryAsk { grace: Millis(4_001), ..p },
            MemoryAsk { window: Millis(1), ..p },
        ] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
    }
}
