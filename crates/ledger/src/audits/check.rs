//! The invariants of audits over the whole state. Spec: `docs/specs/audits.md` §8.
//!
//! Guarantees: reads only; what is broken is named. Not for the path of a block.

use super::records::{AuditRecord, NodeAudit};
use super::recount::{count, gpu_verdict, memory_verdict, verdict};
use super::{AUDIT, AUDIT_DUE, EXCESS, GROUP, KEEP, MEMBER, NEIGHBOUR, NODE_AUDIT, REPEAT, rate, roster, state};
use crate::tables::{self, get, key};
use pasture_types::NodeId;
use pasture_types::state::StateRead;
use std::collections::BTreeSet;

fn entries(s: &dyn StateRead, table: u8) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut out = Vec::new();
    s.scan(&[table], &[table + 1], &mut |k, v| {
        out.push((k.to_vec(), v.to_vec()));
        true
    });
    out
}

/// Broken invariants, each with where.
pub(crate) fn check(s: &dyn StateRead) -> Vec<(&'static str, String)> {
    let mut broken = Vec::new();
    let mut hold = |holds: bool, rule: &'static str, detail: &dyn Fn() -> String| {
        if !holds {
            broken.push((rule, detail()));
        }
    };
    let all = state(s);
    let queues = [AUDIT_DUE, EXCESS, REPEAT, KEEP].map(|t| entries(s, t).len() as u64);
    hold(all.queued == queues.iter().sum::<u64>(), "queues of audits are counted", &|| format!("{} != {queues:?}", all.queued));
    hold(roster::is_dense(s, &all), "groups are numbered without a gap", &|| format!("{} groups", all.groups));
    let (mut members, mut neighbours, mut groups) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for (k, v) in entries(s, NODE_AUDIT) {
        let Ok(r) = borsh::from_slice::<NodeAudit>(&v) else {
            hold(false, "every record decodes", &|| format!("table {NODE_AUDIT:#04x}"));
            continue;
        };
        hold(k == super::node_audit_key(&r.node), "a record lies under its key", &|| format!("node {}", r.node));
        let Some(node) = tables::node(s, &r.node) else { continue };
        let wanted = roster::wanted(s, &node, r.is_shown());
        hold(r.roster.is_some() == wanted, "who holds leases or waits for a first one is on the roster", &|| format!("node {}", r.node));
        if r.roster.is_some() {
            members.insert(key(MEMBER, &[&node.provider.0, &r.node.0]));
            groups.insert(key(GROUP, &[&node.provider.0]));
            neighbours.extend(r.place.map(|place| key(NEIGHBOUR, &[&place.0, &r.node.0])));
        }
        let waits = entries(s, EXCESS).iter().any(|(k, _)| k.ends_with(&r.node.0));
        let fits = node.committed.cpu_millis <= rate::proven_cpu(s, &node);
        hold(fits || waits, "no node holds more than it has proven, but for the notice", &|| format!("node {}", r.node));
        let intact = match r.open.and_then(|o| o.audit) {
            Some(number) => super::audit(s, number).is_some_and(|a| a.node == r.node && a.verdict.is_none()),
            None => r.open.is_none() || entries(s, REPEAT).iter().any(|(k, _)| k.ends_with(&r.node.0)),
        };
        hold(intact, "an open audit has a record or waits for its repetition", &|| format!("node {}", r.node));
        let ordered = r.failed.iter().zip(r.failed.iter().skip(1)).all(|(a, b)| a.1 <= b.0) && r.failed.iter().all(|(a, b)| a <= b);
        hold(ordered, "failed stretches ascend", &|| format!("node {}: {:?}", r.node, r.failed));
    }
    for (table, want) in [(MEMBER, members), (NEIGHBOUR, neighbours), (GROUP, groups)] {
        let have: BTreeSet<Vec<u8>> = entries(s, table).into_iter().map(|(k, _)| k).collect();
        hold(have == want, "the roster agrees with its nodes", &|| format!("table {table:#04x}"));
    }
    let zone = tables::zone(s).map(|zone| zone.id);
    for (k, _) in entries(s, AUDIT) {
        let Some(r) = get::<AuditRecord>(s, &k) else {
            hold(false, "every record decodes", &|| format!("table {AUDIT:#04x}"));
            continue;
        };
        let queue = if r.verdict.is_none() { AUDIT_DUE } else { KEEP };
        let timed = entries(s, queue).iter().any(|(k, _)| k.ends_with(&r.number.to_be_bytes()));
        hold(timed, "an audit has a deadline, then a time to go", &|| format!("audit {}", r.number));
        hold(r.said.len() == r.witnesses.len(), "an audit's record fits its state", &|| format!("audit {}", r.number));
        let follows = |zone| {
            let count = count(&r, zone);
            let apart = r.gpu_verdict == gpu_verdict(&r, &count) && r.memory_verdict == memory_verdict(&r, &count);
            r.verdict.is_none_or(|stands| stands == verdict(&r, &count) && apart)
        };
        let follows = zone.as_ref().is_none_or(follows);
        hold(follows, "a verdict follows from what was said", &|| format!("audit {}", r.number));
        let open = get::<NodeAudit>(s, &super::node_audit_key(&NodeId(r.node.0))).and_then(|n| n.open);
        let named = r.verdict.is_some() || open.is_some_and(|o| o.audit == Some(r.number));
        hold(named, "a node has at most one open audit", &|| format!("audit {}", r.number));
    }
    broken
}
