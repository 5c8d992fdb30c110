//! The table and the walk that an audit asks of a node's memory. Spec: `docs/specs/audits.md` §13.
//!
//! Guarantees: node and witness make the same from the audit's record; the table is known at the draw, the walk not before the witnesses
//! have spoken, and no two audits have one in common.

use super::{CHUNK_BYTES, Table, Walk};
use crate::{Beacon, Challenge};
use pasture_types::ids::derive;
use pasture_types::proof::ResourceClass;
use pasture_types::{Millis, NodeId};

const TABLE_DOMAIN: &str = "pasture 2026-11 audit memory table v1";
const START_DOMAIN: &str = "pasture 2026-11 audit memory walk v1";

/// What an audit asks of a node's memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AuditedMemory {
    /// The audit's number.
    pub audit: u64,
    /// Its randomness.
    pub randomness: [u8; 32],
    /// The epoch of its draw.
    pub epoch: u64,
    /// Of which node.
    pub node: NodeId,
    /// Chunks of the table.
    pub chunks: u32,
    /// Walks side by side.
    pub lanes: u32,
    /// How long they are at the slowest speed.
    pub window: Millis,
}

impl AuditedMemory {
    /// The table; `None` if it has no chunks.
    #[must_use]
    pub fn table(&self) -> Option<Table> {
        let Self { audit, randomness, epoch, node, chunks, .. } = *self;
        let nonces = derive(TABLE_DOMAIN, &[&audit.to_le_bytes()]);
        let challenge = Challenge { randomness, node, class: ResourceClass::Cpu, device: 0, epoch, nonces };
        Table::new(u64::from(chunks) * CHUNK_BYTES as u64, &challenge)
    }
    /// The walk over it that the nonces of a set begin; `None` if there is none so long.
    #[must_use]
    pub fn walk(&self, set: &[u8; 32]) -> Option<Walk> {
        let length = Walk::filling(ResourceClass::Cpu, self.lanes, self.window);
        Walk::new(self.table()?, self.lanes, length, Beacon(derive(START_DOMAIN, &[set])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_is_of_one_audit_and_one_set() {
        let asked =
            AuditedMemory { audit: 7, randomness: [1; 32], epoch: 3, node: NodeId([2; 32]), chunks: 4, lanes: 2, window: Millis(100) };
        let begins = |asked: &AuditedMemory, set: u8| asked.walk(&[set; 32]).unwrap().start(0);
        let walk = asked.walk(&[9; 32]).unwrap();
        assert_eq!((walk.table().chunks(), walk.lanes(), walk.length()), (4, 2, 12_500));
        let others = [
            begins(&asked, 9),
            begins(&asked, 8),
            begins(&AuditedMemory { audit: 8, ..asked }, 9),
            begins(&AuditedMemory { randomness: [3; 32], ..asked }, 9),
            begins(&AuditedMemory { chunks: 5, ..asked }, 9),
        ];
        assert_eq!(std::collections::BTreeSet::from(others).len(), others.len());
        assert!(AuditedMemory { chunks: 0, ..asked }.table().is_none() && AuditedMemory { lanes: 0, ..asked }.walk(&[9; 32]).is_none());
    }
}
