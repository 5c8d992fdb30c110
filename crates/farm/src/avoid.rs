//! Machines that failed this user lately: new orders keep away from them where another machine fits.
//!
//! Guarantees: a machine is noted when a job of ours was closed because its service stopped, at most [`MAX_AVOIDED`] of them and
//! each once, the newest last; a file that cannot be read means nobody is avoided, never that a job cannot run. Why it
//! matters: a machine that only pretends is drawn again as soon as the dispute is over, and its lower price outweighs what the
//! ledger holds against it (docs/SIMULATION.md).

use pasture_store::RecordFile;
use pasture_types::market::{Constraint, MAX_CONSTRAINTS};
use pasture_types::{NodeId, ZoneId};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Most machines that are kept in mind: an order has room for sixteen conditions.
pub(crate) const MAX_AVOIDED: usize = MAX_CONSTRAINTS - 1;
const FILE: &str = "avoided.json";

#[derive(Default, Serialize, Deserialize)]
struct Kept {
    machines: Vec<Machine>,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Machine {
    network: ZoneId,
    node: NodeId,
}

fn load(folder: &Path) -> Kept {
    RecordFile::<Kept>::new(folder.join(FILE)).load().ok().flatten().unwrap_or_default()
}

/// Notes a machine that stopped serving; failing to do so is no reason to fail.
pub(crate) fn note(folder: &Path, network: ZoneId, node: NodeId) {
    let mut kept = load(folder);
    let failed = Machine { network, node };
    kept.machines.retain(|m| *m != failed);
    kept.machines.push(failed);
    let surplus = kept.machines.len().saturating_sub(MAX_AVOIDED);
    kept.machines.drain(..surplus);
    let _ = crate::config::make_private(folder).map(|()| RecordFile::new(folder.join(FILE)).save(&kept));
}

/// Those of a network, the newest first.
pub(crate) fn machines(folder: &Path, network: &ZoneId) -> Vec<NodeId> {
    load(folder).machines.iter().rev().filter(|m| m.network == *network).map(|m| m.node).collect()
}

/// The conditions with as many of these machines shut out as there is room for; nothing where the user named a machine or
/// nobody is to be avoided.
pub(crate) fn without(conditions: &[Constraint], machines: &[NodeId]) -> Option<Vec<Constraint>> {
    if machines.is_empty() || conditions.iter().any(|c| matches!(c, Constraint::Node(_))) {
        return None;
    }
    let room = MAX_CONSTRAINTS.saturating_sub(conditions.len());
    let more = machines.iter().take(room).map(|node| Constraint::NotNode(*node));
    Some(conditions.iter().cloned().chain(more).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(n: u8) -> NodeId {
        NodeId([n; 32])
    }

    #[test]
    fn the_newest_failures_of_a_network_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let (here, elsewhere) = (ZoneId([1; 32]), ZoneId([2; 32]));
        assert!(machines(dir.path(), &here).is_empty());
        for n in 0..20 {
            note(dir.path(), here, node(n));
        }
        note(dir.path(), here, node(10));
        note(dir.path(), elsewhere, node(99));
        let kept = machines(dir.path(), &here);
        assert_eq!((kept.len(), kept[0], kept[1]), (MAX_AVOIDED - 1, node(10), node(19)));
        assert_eq!(machines(dir.path(), &elsewhere), [node(99)]);
        std::fs::write(dir.path().join(FILE), "{").unwrap();
        assert!(machines(dir.path(), &here).is_empty(), "a damaged file stops nobody");
    }

    #[test]
    fn conditions_of_the_user_come_first() {
        let bad: Vec<NodeId> = (0..15).map(node).collect();
        assert_eq!(without(&[], &[]), None);
        assert_eq!(without(&[Constraint::Node(node(3))], &bad), None, "whoever names a machine means it");
        let many = vec![Constraint::NotNode(node(77)); 14];
        let all = without(&many, &bad).unwrap();
        assert_eq!((all.len(), all.last()), (MAX_CONSTRAINTS, Some(&Constraint::NotNode(node(1)))));
    }
}
