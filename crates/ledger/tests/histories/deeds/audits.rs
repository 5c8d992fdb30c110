//! Capacity audits: what audited nodes answer, what witnesses say, who contradicts itself; bundled heartbeats.

use super::Deed;
use super::leases::{busy, shares};
use crate::keys::Keys;
use crate::zone::Zone;
use pasture_ledger::{AuditRecord, query};
use pasture_types::audit::{
    AUDIT_SHARES, Answer, AuditAction, HeartbeatBundle, NonceSet, PackedShares, Placement, Receipt, ReceiptBatch, SignedStatement,
    Statement, audit_seed, full_rate, quorum, receipt_tag,
};
use pasture_types::event::Hash32;
use pasture_types::keys::Signature;
use pasture_types::proof::{ResourceClass, share_hash};
use pasture_types::tx::Action;
use pasture_types::{NodeId, SigningKey};

/// Audits that one transaction is about, at most.
const CARRIED: usize = 4;
/// What a witness's round trip is.
const RTT_MS: u16 = 20;

pub(super) fn any(zone: &mut Zone) -> Option<Deed> {
    match zone.rng.below(20) {
        0 => contradict(zone),
        1 | 2 => place(zone),
        3..=5 => bundle(zone),
        6 => wrong(zone),
        7 => lie(zone),
        8 => twice(zone),
        _ => carry(zone),
    }
}

fn act(action: AuditAction) -> Action {
    Action::Audit(Box::new(action))
}

fn validator(id: &NodeId) -> Option<&'static SigningKey> {
    Keys::all().validators.iter().find(|k| k.node_id() == *id)
}

/// A node's answer with so many of its hashes computed.
fn answer(zone: &Zone, audit: &AuditRecord, nonce: u64, percent: u64) -> Option<Answer> {
    let key = &zone.machine_of(&audit.node)?.key;
    let members = quorum(audit.witnesses.len());
    let set = NonceSet { mask: (1 << members) - 1, nonces: (0..members as u64).map(|n| nonce + n).collect() };
    let seed = audit_seed(&audit.randomness.0, audit.number, &audit.node, audit.epoch, ResourceClass::Cpu, 0, &set);
    let declared = full_rate(&query::node(&zone.state, &audit.node)?.declaration);
    let full = declared * zone.genesis.params.audits.burst.0 / 1_000;
    let mut all: Vec<(u64, u64)> = (0..(full * percent / 100).max(AUDIT_SHARES as u64)).map(|n| (share_hash(&seed, n), n)).collect();
    all.sort_unstable();
    let nonces: Vec<u64> = all.into_iter().take(AUDIT_SHARES).map(|(_, n)| n).collect();
    Some(Answer::signed(&zone.genesis.zone(), audit.number, set, PackedShares::pack(&nonces)?, key))
}

fn receipt(zone: &Zone, audit: &AuditRecord, witness: &NodeId, receipt: Receipt) -> Option<Action> {
    let batch = ReceiptBatch { witness: *witness, base: audit.number, receipts: vec![receipt] };
    let signature = validator(witness)?.sign(&batch.digest(&zone.genesis.zone()));
    Some(act(AuditAction::Receipts { batch, signature }))
}

fn seen(zone: &Zone, audit: &AuditRecord, witness: &NodeId, answer: &Answer, took: u16) -> Option<Action> {
    let digest = answer.statement().digest(&zone.genesis.zone(), audit.number, &audit.node);
    let elapsed_ms = took + RTT_MS;
    receipt(zone, audit, witness, Receipt { offset: 0, elapsed_ms, rtt_ms: RTT_MS, tag: receipt_tag(witness, &digest) })
}

fn missed(zone: &Zone, audit: &AuditRecord, witness: &NodeId) -> Option<Action> {
    receipt(zone, audit, witness, Receipt { offset: 0, elapsed_ms: 0, rtt_ms: RTT_MS, tag: 0 })
}

fn some_open(zone: &mut Zone) -> Option<AuditRecord> {
    let open = query::open_audits(&zone.state);
    let quiet: Vec<_> = open.iter().filter(|a| a.answer.is_none()).cloned().collect();
    if quiet.is_empty() { zone.rng.pick(&open).cloned() } else { zone.rng.pick(&quiet).cloned() }
}

/// Somebody carries answers and what the witnesses say of them.
fn carry(zone: &mut Zone) -> Option<Deed> {
    let who = zone.someone();
    let open: Vec<AuditRecord> = query::open_audits(&zone.state).into_iter().filter(|a| a.answer.is_none()).take(CARRIED).collect();
    let mut actions = vec![];
    for audit in &open {
        actions.extend(one(zone, audit)?);
    }
    if actions.is_empty() { None } else { Some(zone.by(&who, actions)) }
}

fn one(zone: &mut Zone, audit: &AuditRecord) -> Option<Vec<Action>> {
    let boasts = zone.machine_of(&audit.node).is_some_and(|m| m.boasts);
    let (silent, late) = (zone.rng.once_in(12), zone.rng.once_in(10));
    // Who boasts is found out and mends its ways.
    let percent = if boasts && zone.height < 32 { 25 } else { 100 };
    let nonce = zone.rng.next() >> 30;
    let answer = answer(zone, audit, nonce, percent)?;
    let mut actions = vec![];
    if !silent {
        actions.push(act(AuditAction::Answers(vec![answer.clone()])));
    }
    for witness in &audit.witnesses {
        let took = if late { 400 } else { 95 + zone.rng.below(8) as u16 };
        let said = if silent { missed(zone, audit, witness) } else { seen(zone, audit, witness, &answer, took) };
        // One of four may be asleep, seldom more.
        if !zone.rng.once_in(20) {
            actions.extend(said);
        }
    }
    Some(actions)
}

/// A witness says two different things.
fn lie(zone: &mut Zone) -> Option<Deed> {
    let audit = some_open(zone)?;
    let who = zone.someone();
    let witness = *zone.rng.pick(&audit.witnesses)?;
    let one = receipt(zone, &audit, &witness, Receipt { offset: 0, elapsed_ms: 110, rtt_ms: RTT_MS, tag: 5 })?;
    let other = missed(zone, &audit, &witness)?;
    Some(zone.by(&who, vec![one, other]))
}

/// A node answers twice.
fn twice(zone: &mut Zone) -> Option<Deed> {
    let audit = some_open(zone)?;
    if !zone.rng.once_in(4) {
        return carry(zone);
    }
    let who = zone.someone();
    let (one, other) = (answer(zone, &audit, 1, 50)?, answer(zone, &audit, 1_000, 50)?);
    Some(zone.by(&who, vec![act(AuditAction::Answers(vec![one, other]))]))
}

fn said(zone: &Zone, key: &SigningKey, audit: u64, set: u8, shares: Option<u8>) -> SignedStatement {
    let statement = Statement { set: Hash32([set; 32]), shares: shares.map(|n| Hash32([n; 32])) };
    SignedStatement { statement, signature: key.sign(&statement.digest(&zone.genesis.zone(), audit, &key.node_id())) }
}

/// Somebody shows two statements of one node; at times they do not contradict each other, or are not its own.
fn contradict(zone: &mut Zone) -> Option<Deed> {
    let number = zone.recent(|s| &s.audits, 10)?;
    let audit = query::audit(&zone.state, number)?;
    let key = zone.machine_of(&audit.node)?.key.clone();
    let who = zone.someone();
    let one = said(zone, &key, number, 1, Some(1));
    let other = match zone.rng.below(4) {
        0 => said(zone, &key, number, 1, None),
        1 => SignedStatement { signature: Signature::Ed25519([8; 64]), ..said(zone, &key, number, 2, None) },
        _ => said(zone, &key, number, 2, None),
    };
    Some(zone.by(&who, vec![act(AuditAction::Contradiction { audit: number, one, other })]))
}

/// The seated validators say where a node is.
fn place(zone: &mut Zone) -> Option<Deed> {
    let node = zone.machine().key.node_id();
    let epoch = query::zone(&zone.state)?.epoch_of(zone.now).saturating_sub(zone.rng.below(3));
    let place = zone.rng.once_in(2).then(|| Hash32([zone.rng.below(2) as u8; 32]));
    let placement = Placement { node, place, epoch };
    let digest = placement.digest(&zone.genesis.zone());
    let seats = query::validators::term(&zone.state)?.seats;
    let mut signatures: Vec<_> = seats.iter().filter_map(|s| Some((s.validator, validator(&s.validator)?.sign(&digest)))).collect();
    match zone.rng.below(8) {
        0 => signatures.truncate(seats.len() / 2),
        1 => signatures.reverse(),
        _ => {}
    }
    let who = zone.someone();
    Some(zone.by(&who, vec![act(AuditAction::Place { placement, signatures })]))
}

/// Heartbeats of several epochs at once.
fn bundle(zone: &mut Zone) -> Option<Deed> {
    let m = busy(zone);
    let node = m.key.node_id();
    let epochs = query::open_epochs(&zone.state);
    let first = epochs.first()?.number;
    let many = if zone.rng.once_in(20) { 6 } else { 3 };
    let packed = |n: u64| {
        let found = epochs.iter().find(|e| e.number == first + n);
        found.and_then(|e| PackedShares::pack(&shares(zone, &node, &e.randomness.0, e.number))).unwrap_or_default()
    };
    let bundle = HeartbeatBundle { node, class: ResourceClass::Cpu, device: 0, first, shares: (0..many).map(packed).collect() };
    Some(zone.by_node(&m, vec![act(AuditAction::Heartbeats(bundle))]))
}

/// Statements that are nobody's, or about nothing.
fn wrong(zone: &mut Zone) -> Option<Deed> {
    let who = zone.someone();
    let audit = some_open(zone)?;
    let mut spoilt = answer(zone, &audit, 3, 100)?;
    match zone.rng.below(3) {
        0 => spoilt.signature = Signature::Ed25519([6; 64]),
        1 => spoilt.audit += 900,
        _ => drop(spoilt.set.nonces.pop()),
    }
    Some(zone.by(&who, vec![act(AuditAction::Answers(vec![spoilt]))]))
}
