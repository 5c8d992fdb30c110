//! Ticks and draws: when somebody is audited, who, and by whom. Spec: `docs/specs/audits.md` §2, §3.
//!
//! Guarantees: what a tick draws is decided by randomness from after the tick; a node that joined the roster since is not
//! drawn; nobody watches a node of its own while others are seated. It does not judge: see `judge`.

use super::records::{AuditRecord, AuditState, Drawing, NodeAudit, OpenAudit, Said};
use super::{
    AUDIT_DUE, EXCESS, KEEP, REPEAT, audit_key, due_keys, excess, judge, memory, node_audit, put_audit, put_node_audit, put_state,
    queue_key, rate, roster, state, tail_number,
};
use crate::block::Due;
use crate::env::Env;
use crate::seams;
use crate::tables::{self, head_number, key, keys_with, mark, tail_id};
use pasture_types::audit::{AuditEvent, AuditParams, MAX_WITNESSES, gpu_claims};
use pasture_types::event::{Event, Hash32};
use pasture_types::ids::derive;
use pasture_types::state::{StateRead, StateWrite};
use pasture_types::{AccountId, Millis, NodeId, Timestamp};

/// Most audits that one block opens, give or take one group.
const MAX_OPENED_PER_BLOCK: usize = 256;
/// Most nodes of drawn groups that one block looks at, give or take one group: those that are not to be audited cost a look, too.
const MAX_LOOKED_PER_BLOCK: usize = 4_096;
/// Most groups that one tick draws: enough for 46,000 groups every 7.5 minutes.
const MAX_GROUPS_PER_TICK: u32 = 512;
/// Most failed audits that one block repeats.
const MAX_REPEATS_PER_BLOCK: usize = 64;
/// Most records that one block deletes.
const MAX_PRUNED_PER_BLOCK: usize = 256;

const COUNT_DOMAIN: &str = "pasture 2026-11 audit count v1";
const GROUP_DOMAIN: &str = "pasture 2026-11 audit group draw v1";
const WITNESS_DOMAIN: &str = "pasture 2026-11 audit witness draw v1";

/// When audits need a block.
pub(crate) fn due(s: &dyn StateRead, env: &Env) -> Option<Due> {
    let all = state(s);
    let active = env.zone.params.audits.active;
    // The draw waits for the randomness of later blocks.
    if all.drawing.is_some() || (all.queued > 0 && tables::any(s, &[REPEAT])) {
        return Some(Due::Now);
    }
    let mut first = (active && all.groups > 0).then_some(all.tick_shifted);
    if all.queued > 0 {
        for table in [AUDIT_DUE, EXCESS] {
            let at = keys_with(s, &[table], 1).first().and_then(|k| head_number(k)).map(Timestamp);
            first = first.into_iter().chain(at).min();
        }
    }
    let at = first?.plus(env.clock.halted);
    Some(if at <= env.now() { Due::Now } else { Due::At(at) })
}

/// A block's work for audits: verdicts first, then draws.
pub(crate) fn end_block(s: &mut dyn StateWrite, env: &Env, events: &mut Vec<Event>) {
    let before = state(s);
    let active = env.zone.params.audits.active;
    if before.queued == 0 && before.drawing.is_none() && !(active && before.groups > 0) {
        return;
    }
    let mut all = before.clone();
    if all.queued > 0 {
        judge::judge_due(s, env, &mut all, events);
        excess::end_due(s, env, &mut all, events);
        repeat(s, env, &mut all, events);
        prune(s, env, &mut all);
    }
    if active {
        finish_draw(s, env, &mut all, events);
        all.groups = state(s).groups;
        tick(env, &mut all);
    } else {
        all.drawing = None;
    }
    // Ended leases may have emptied groups meanwhile.
    all.groups = state(s).groups;
    if all != before {
        put_state(s, &all);
    }
}

pub(super) fn enqueue(s: &mut dyn StateWrite, all: &mut AuditState, k: Vec<u8>) {
    if s.get(&k).is_none() {
        all.queued = all.queued.saturating_add(1);
        mark(s, k);
    }
}

pub(super) fn dequeue(s: &mut dyn StateWrite, all: &mut AuditState, k: &[u8]) {
    all.queued = all.queued.saturating_sub(1);
    s.delete(k);
}

/// Notes a tick that is due; its draw comes with the next blocks.
fn tick(env: &Env, all: &mut AuditState) {
    if all.groups == 0 || all.drawing.is_some() || env.shifted() < all.tick_shifted {
        return;
    }
    let length = env.zone.params.audits.tick.0.max(1);
    // A late tick is not made up for: the next one is a whole tick away.
    all.tick_shifted = env.shifted().plus(Millis(length));
    all.drawing = Some(Drawing { height: env.clock.height, groups: all.groups, drawn: 0 });
}

fn number(domain: &str, mix: &[u8; 32], index: u64) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = derive(domain, &[mix, &index.to_le_bytes()]);
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

/// How many groups a tick draws: `groups x tick / interval`, the fraction by lot.
#[must_use]
pub fn draws(params: &AuditParams, groups: u32, mix: &[u8; 32]) -> u32 {
    let interval = u128::from(params.interval.0.max(1));
    let all = u128::from(groups) * u128::from(params.tick.0);
    let lot = (u128::from(number(COUNT_DOMAIN, mix, 0)) * interval) >> 64;
    let draws = all / interval + u128::from(lot < all % interval);
    u32::try_from(draws).unwrap_or(u32::MAX).min(MAX_GROUPS_PER_TICK)
}

/// The slot of a tick's draw number `index`.
#[must_use]
pub fn drawn_slot(groups: u32, mix: &[u8; 32], index: u32) -> u32 {
    let slot = (u128::from(number(GROUP_DOMAIN, mix, u64::from(index))) * u128::from(groups)) >> 64;
    u32::try_from(slot).unwrap_or(u32::MAX)
}

fn finish_draw(s: &mut dyn StateWrite, env: &Env, all: &mut AuditState, events: &mut Vec<Event>) {
    let Some(mut drawing) = all.drawing else { return };
    if drawing.height < seams::first_with_beacon(env) {
        // Its randomness never comes, or is gone: what is left of it is drawn anew, as if the tick came now.
        all.drawing = Some(Drawing { height: env.clock.height, groups: state(s).groups, drawn: drawing.drawn });
        return;
    }
    let Some(mix) = seams::beacon(s, drawing.height) else { return };
    let wanted = draws(&env.zone.params.audits, drawing.groups, &mix);
    let seated = seams::seated(s);
    let (mut room, mut looks) = (MAX_OPENED_PER_BLOCK, MAX_LOOKED_PER_BLOCK);
    while drawing.drawn < wanted && room > 0 && looks > 0 {
        looks -= 1;
        let slot = drawn_slot(drawing.groups, &mix, drawing.drawn);
        let point = derive(GROUP_DOMAIN, &[&mix, &u64::from(drawing.drawn).to_le_bytes(), b"point"]);
        for node in roster::group(s, env.zone.params.audits.places, slot, &point) {
            looks = looks.saturating_sub(1);
            let Some(record) = node_audit(s, &node) else { continue };
            // One that joined after the tick could have known, or bent, what is drawn.
            let eligible = record.open.is_none() && record.roster.is_some_and(|since| since <= drawing.height);
            if eligible && !seams::audit_exempt(s, &node) {
                open(s, env, all, &seated, &mix, record, 1, events);
                room = room.saturating_sub(1);
            }
        }
        drawing.drawn += 1;
    }
    all.drawing = (drawing.drawn < wanted).then_some(drawing);
}

/// Failed audits are repeated before all validators.
fn repeat(s: &mut dyn StateWrite, env: &Env, all: &mut AuditState, events: &mut Vec<Event>) {
    let keys = keys_with(s, &[REPEAT], MAX_REPEATS_PER_BLOCK);
    if keys.is_empty() {
        return;
    }
    let seated = seams::seated(s);
    let mut known: Option<(u64, [u8; 32])> = None;
    for k in keys {
        let (Some(height), Some(node)) = (head_number(&k), tail_id(&k).map(NodeId)) else { continue };
        // One that waited too long takes the oldest randomness there is. To wait for new one would never end in a long queue.
        let height = height.max(seams::first_with_beacon(env));
        let mix = match known {
            Some((of, mix)) if of == height => mix,
            _ => {
                let Some(mix) = seams::beacon(s, height) else { return };
                known = Some((height, mix));
                mix
            }
        };
        dequeue(s, all, &k);
        let Some(mut record) = node_audit(s, &node) else { continue };
        if env.zone.params.audits.active {
            open(s, env, all, &seated, &mix, record, 2, events);
        } else {
            record.open = None;
            put_node_audit(s, &record);
        }
    }
}

/// Witnesses of an audit: seated validators of other operators, all or a drawn part; all seated ones if there are no others.
#[must_use]
pub fn witnesses(seated: &[(NodeId, AccountId)], provider: &AccountId, most: usize, mix: &[u8; 32], audit: u64) -> Vec<NodeId> {
    let others = seated.iter().any(|(_, operator)| operator != provider);
    let mut pool: Vec<NodeId> = seated.iter().filter(|(_, o)| !others || o != provider).map(|(key, _)| *key).collect();
    if pool.len() <= most {
        return pool;
    }
    let seed = derive(WITNESS_DOMAIN, &[mix, &audit.to_le_bytes()]);
    for i in 0..most {
        let left = (pool.len() - i) as u128;
        let j = i + usize::try_from((u128::from(number(WITNESS_DOMAIN, &seed, i as u64)) * left) >> 64).unwrap_or(0);
        pool.swap(i, j);
    }
    pool.truncate(most);
    pool.sort_unstable();
    pool
}

#[allow(clippy::too_many_arguments, reason = "one call from the draw and one from the repetition")]
fn open(
    s: &mut dyn StateWrite,
    env: &Env,
    all: &mut AuditState,
    seated: &[(NodeId, AccountId)],
    mix: &[u8; 32],
    mut record: NodeAudit,
    attempt: u8,
    events: &mut Vec<Event>,
) {
    let Some(node) = tables::node(s, &record.node) else { return };
    let most = if attempt == 1 { usize::from(env.zone.params.audits.witnesses).clamp(1, MAX_WITNESSES) } else { MAX_WITNESSES };
    let audit = all.next;
    let witnesses = witnesses(seated, &node.provider, most, mix, audit);
    if witnesses.is_empty() {
        record.open = None;
        put_node_audit(s, &record);
        return;
    }
    all.next = audit.saturating_add(1);
    let epoch = env.epoch();
    // The whole next epoch is left for statements.
    let until = env.zone.epoch_start(epoch.saturating_add(2));
    let until_shifted = env.shift(until);
    let asked = record.open.is_none_or(|open| !open.memory_settled).then(|| memory::asked(env, &node, &record, mix, audit)).flatten();
    let first = record.open.unwrap_or(OpenAudit { memory_settled: asked.is_none(), ..OpenAudit::new(None, epoch, until_shifted) });
    record.open = Some(OpenAudit { audit: Some(audit), until_shifted, ..first });
    put_node_audit(s, &record);
    let opened = AuditRecord {
        number: audit,
        node: record.node,
        declared: record.declared,
        attempt,
        epoch,
        drawn_at: env.now(),
        randomness: Hash32(*mix),
        rate: rate::proven(&node.declaration, record.proven_ppm),
        terms: env.zone.params.audits.terms(),
        gpus: gpu_claims(&node.declaration.resources.gpus, &env.zone.params.audits.gpus),
        memory: asked,
        said: vec![Said::Nothing; witnesses.len()],
        witnesses: witnesses.clone(),
        until_shifted,
        answer: None,
        contradicted: false,
        voided: None,
        verdict: None,
        gpu_verdict: None,
        memory_verdict: None,
    };
    put_audit(s, &opened);
    enqueue(s, all, queue_key(AUDIT_DUE, until_shifted, &audit.to_be_bytes()));
    let randomness = opened.randomness;
    events.push(Event::Audit(AuditEvent::Drawn { audit, node: record.node, attempt, epoch, randomness, witnesses, until }));
}

fn prune(s: &mut dyn StateWrite, env: &Env, all: &mut AuditState) {
    for k in due_keys(s, KEEP, env.shifted().0, MAX_PRUNED_PER_BLOCK) {
        dequeue(s, all, &k);
        if let Some(number) = tail_number(&k) {
            s.delete(&audit_key(number));
        }
    }
}

/// The key of a node that waits for its repetition.
pub(super) fn repeat_key(height: u64, node: &NodeId) -> Vec<u8> {
    key(REPEAT, &[&height.to_be_bytes(), &node.0])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn witnesses_are_of_other_operators_and_each_as_often_as_the_next() {
        let seated: Vec<_> = (0..40u8).map(|n| (NodeId([n; 32]), AccountId([n % 10; 32]))).collect();
        let mut seen: BTreeMap<NodeId, u32> = BTreeMap::new();
        for audit in 0..1_000 {
            let drawn = witnesses(&seated, &AccountId([3; 32]), 16, &[7; 32], audit);
            assert_eq!(drawn.len(), 16);
            assert!(drawn.windows(2).all(|w| w[0] < w[1]), "sorted, each once");
            drawn.iter().for_each(|w| *seen.entry(*w).or_default() += 1);
        }
        assert_eq!(seen.len(), 36, "not the four of operator 3");
        // 1,000 x 16 / 36 = 444 each, standard deviation 16.
        assert!(seen.values().all(|n| (364..=524).contains(n)), "{seen:?}");
    }

    #[test]
    fn where_all_validators_are_the_operators_own_they_watch() {
        let one = vec![(NodeId([1; 32]), AccountId([3; 32]))];
        assert_eq!(witnesses(&one, &AccountId([3; 32]), 16, &[7; 32], 0), vec![NodeId([1; 32])]);
        let two = [one, vec![(NodeId([2; 32]), AccountId([4; 32]))]].concat();
        assert_eq!(witnesses(&two, &AccountId([3; 32]), 16, &[7; 32], 0), vec![NodeId([2; 32])]);
        assert_eq!(witnesses(&two, &AccountId([5; 32]), 16, &[7; 32], 0).len(), 2);
    }
}
