//! The frozen formats of audits: actions, events, records, and what is signed. A change here breaks every ledger there is.
//!
//! When a format changes on purpose, the new text is in the file that the failure names; copy it over and write an ADR.

#![cfg(test)]

mod audit_common;
mod common;

use audit_common::*;
use common::*;
use pasture_ledger::*;
use pasture_types::audit::*;
use pasture_types::event::{Event, Hash32};
use pasture_types::proof::ResourceClass;
use pasture_types::tx::*;
use pasture_types::*;
use std::fmt::Write as _;

const FROZEN: &str = include_str!("golden/audits.txt");

struct Book(String);

impl Book {
    /// Writes a line, after checking that the bytes decode to the same value.
    fn add<T: borsh::BorshSerialize + borsh::BorshDeserialize + PartialEq + std::fmt::Debug>(&mut self, name: &str, value: &T) {
        let bytes = codec::encode(value);
        assert_eq!(codec::decode::<T>(&bytes, 1 << 20).as_ref(), Ok(value), "{name}");
        self.bytes(name, &bytes);
    }
    fn bytes(&mut self, name: &str, bytes: &[u8]) {
        write!(self.0, "{name} ").unwrap();
        for b in bytes {
            write!(self.0, "{b:02x}").unwrap();
        }
        writeln!(self.0).unwrap();
    }
}

fn set() -> NonceSet {
    NonceSet { mask: 0b1011, nonces: vec![1, 2, 3] }
}

fn actions() -> Vec<(&'static str, AuditAction)> {
    let (node, signature) = (NodeId([3; 32]), key(3).sign(&[0; 32]));
    let receipts =
        vec![Receipt { offset: 1, elapsed_ms: 4_010, rtt_ms: 20, tag: 5 }, Receipt { offset: 2, elapsed_ms: 0, rtt_ms: 9, tag: 0 }];
    let batch = ReceiptBatch { witness: node, base: 7, receipts };
    let shares = PackedShares::pack(&(0..32).map(|n| n * 1_000).collect::<Vec<_>>()).unwrap();
    let one = SignedStatement { statement: Statement { set: Hash32([1; 32]), shares: None }, signature };
    let other = SignedStatement { statement: Statement { set: Hash32([2; 32]), shares: Some(Hash32([3; 32])) }, signature };
    let placement = Placement { node, place: Some(Hash32([4; 32])), epoch: 9 };
    let wrong = WrongProduct { audit: 7, device: 1, row: 2, layer: 3, column: 4, sums: vec![5, 6], path: vec![Hash32([7; 32])] };
    let beats = vec![PackedShares::default(), PackedShares::pack(&(0..16).collect::<Vec<_>>()).unwrap()];
    vec![
        ("receipts", AuditAction::Receipts { batch, signature }),
        (
            "answers",
            AuditAction::Answers(vec![Answer {
                audit: 7,
                set: set(),
                shares,
                roots: vec![Hash32([6; 32])],
                walk: Some(Hash32([7; 32])),
                signature,
            }]),
        ),
        ("contradiction", AuditAction::Contradiction { audit: 7, one, other }),
        ("place", AuditAction::Place { placement, signatures: vec![(node, signature)] }),
        ("heartbeats", AuditAction::Heartbeats(HeartbeatBundle { node, class: ResourceClass::Cpu, device: 0, first: 5, shares: beats })),
        ("wrong_product", AuditAction::WrongProduct(wrong)),
    ]
}

fn events() -> Vec<(&'static str, AuditEvent)> {
    let node = NodeId([3; 32]);
    let (randomness, witnesses) = (Hash32([1; 32]), vec![NodeId([4; 32])]);
    let drawn = AuditEvent::Drawn { audit: 7, node, attempt: 1, epoch: 8, randomness, witnesses, until: Timestamp(START) };
    let judged = AuditEvent::Judged { audit: 7, node, verdict: Verdict::Contradicted, in_time: 9, witnesses: 16, repeated: false };
    let gpus = AuditEvent::GpusJudged { audit: 7, node, verdict: Verdict::Passed, proven: 9, witnesses: 16, repeated: false };
    let memory = AuditEvent::MemoryJudged { audit: 7, node, verdict: Verdict::Failed, proven: 9, witnesses: 16, repeated: true };
    let rated = AuditEvent::Rated { node, proven_ppm: 800_000 };
    vec![("drawn", drawn), ("judged", judged), ("rated", rated), ("gpus_judged", gpus), ("memory_judged", memory)]
}

/// Records as a real run leaves them.
fn records(book: &mut Book) {
    let claims = vec![GpuClaim { model: "H100".into(), count: 2, macs_per_s: 1 << 40 }];
    let mut w = world(4, params());
    let audit = w.drawn();
    book.add("record.audit.open", &audit);
    book.add("record.audit_state", &query::audit_state(&w.state));
    w.run(&audit, BURST_HASHES, &|i| if i == 0 { Word::Late } else { Word::InTime });
    book.add("record.audit.said", &query::audit(&w.state, audit.number).unwrap());
    book.add("record.audit.over", &w.until(audit.number));
    book.add("record.node_audit", &w.of_node());
    book.add("record.gpu_audit", &GpuAudit { first_pass: Some(1), failed: vec![(2, 3)], proven: claims.clone(), ..GpuAudit::default() });
    let memory = MemoryAudit { last_pass: Some(4), proven: 6 << 30, ..MemoryAudit::default() };
    book.add("record.memory_audit", &memory);
    book.add("memory.ask", &MemoryAsk::production());
    book.add("memory.claim", &MemoryAsk::production().claim(8 << 30, 4_000, Millis(20_000)).unwrap());
    book.add("record.drawing", &Drawing { height: 1, groups: 2, drawn: 3 });
    book.add(
        "record.open_audit",
        &OpenAudit {
            audit: None,
            epoch: 4,
            until_shifted: Timestamp(5),
            missed: true,
            weak: true,
            cpu_settled: false,
            gpu_settled: true,
            lacking: true,
            gpu_lacking: false,
            memory_settled: true,
            memory_lacking: false,
        },
    );
    book.add("record.said.both", &Said::Both);
}

#[test]
fn the_formats_of_audits_are_frozen() {
    let mut book = Book(String::new());
    for (name, action) in actions() {
        book.add(&format!("action.{name}"), &Action::Audit(Box::new(action)));
    }
    for (name, event) in events() {
        book.add(&format!("event.{name}"), &Event::Audit(event.clone()));
        writeln!(book.0, "json.{name} {}", serde_json::to_string(&Event::Audit(event)).unwrap()).unwrap();
    }
    book.add("params.production", &AuditParams::production());
    book.add("params.dev", &AuditParams::dev());
    let (zone, node) = (ZoneId([1; 32]), NodeId([2; 32]));
    book.bytes("seed", &audit_seed(&[3; 32], 4, &node, 5, ResourceClass::Cpu, 6, &set()));
    book.bytes("nonce", &nonce_digest(&zone, 4, &node, 5));
    book.bytes("statement", &Statement { set: set().digest(), shares: None }.digest(&zone, 4, &node));
    book.bytes("tag", &receipt_tag(&node, &[1; 32]).to_be_bytes());
    book.bytes("batch", &ReceiptBatch { witness: node, base: 1, receipts: vec![] }.digest(&zone));
    book.bytes("placement", &Placement { node, place: None, epoch: 1 }.digest(&zone));
    records(&mut book);
    if book.0 != FROZEN {
        let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("audits.txt");
        std::fs::write(&path, &book.0).unwrap();
        let name = |l: &str| l.split(' ').next().unwrap_or_default().to_owned();
        let changed: Vec<_> = book.0.lines().filter(|l| !FROZEN.lines().any(|f| f == *l)).map(name).collect();
        panic!("formats changed: {changed:?}; if that is meant, copy {} over tests/golden/audits.txt", path.display());
    }
}

#[test]
fn the_error_code_is_frozen() {
    assert_eq!(TxError::Audit("x").code(), 110);
}
