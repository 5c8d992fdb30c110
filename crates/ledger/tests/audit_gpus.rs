//! GPUs in audits: real products under signed roots, verdicts apart from the CPU's, leases of what is proven, and the entry that convicts.

#![cfg(test)]

mod audit_common;
mod common;

use audit_common::*;
use common::*;
use pasture_ledger::*;
use pasture_proofs::gemm::{Prover, Round, Shape, WrongEntry, find_wrong_entry};
use pasture_proofs::{Beacon, Challenge};
use pasture_types::audit::*;
use pasture_types::event::{Event, Hash32};
use pasture_types::genesis::Params;
use pasture_types::market::OrderTerms;
use pasture_types::proof::ResourceClass;
use pasture_types::stake::DepositEvent;
use pasture_types::tx::*;
use pasture_types::*;

/// The least that a table may ask: 762 rows of 256 columns in half a second.
const RATE: u64 = 100_000_000;

fn gpu_params() -> Params {
    let mut params = params();
    params.market.gpu_leases = false;
    params.audits.gpus = vec![GpuRate { model: "H100".into(), macs_per_s: RATE }];
    params
}

fn line(count: u16) -> Vec<GpuLine> {
    vec![GpuLine { model: "H100".into(), count, vram_bytes: 80 << 30 }]
}

/// A world whose node declares and offers so many GPUs.
fn gpu_world(validators: u8, count: u16) -> World {
    let mut w = world(validators, gpu_params());
    let (provider, node) = (w.provider.clone(), w.node.clone());
    let offer = offer_id(&node.node_id(), 0);
    w.act(&provider, vec![Action::WithdrawOffer { offer }]).unwrap();
    while w.open().is_some() {
        w.wait(1_000);
    }
    let mut declared = declared(CORE);
    declared.resources.gpus = line(count);
    let mut terms = offer_terms();
    terms.resources.gpus = line(count);
    terms.rates.gpus = vec![Amount::credits(1)];
    let register = w.register_node(&provider, &node, declared);
    let put = Action::PutOffer { node: node.node_id(), number: 0, terms: Box::new(terms) };
    w.act(&provider, vec![register, put]).unwrap();
    w.settle_down();
    w
}

/// What a device of the audit computes.
struct Device {
    shape: Shape,
    round: Round,
    challenge: Challenge,
}

impl Device {
    fn of(audit: &AuditRecord, set: &NonceSet, device: u16) -> Self {
        let rate = gpu_devices(&audit.gpus)[usize::from(device)];
        let shape = Shape::filling(ResourceClass::Gpu, rate, audit.terms.burst).unwrap();
        let (randomness, epoch) = (audit.randomness.0, audit.epoch);
        let nonces = set.digest().0;
        let challenge = Challenge { randomness, node: audit.node, class: ResourceClass::Gpu, device, epoch, nonces };
        Self { shape, round: Round { randomness, epoch }, challenge }
    }
    fn prover(&self) -> Prover {
        Prover::new(self.shape, &self.round, &self.challenge)
    }
}

/// The node's answer with honest products of all devices.
fn answered(w: &World, audit: &AuditRecord) -> Answer {
    let plain = w.answer(audit, BURST_HASHES);
    let devices = u16::try_from(gpu_devices(&audit.gpus).len()).unwrap();
    let root = |device| {
        let prover = Device::of(audit, &plain.set, device).prover();
        Hash32(prover.root(&prover.all_leaves()))
    };
    with_roots(w, audit, &plain, (0..devices).map(root).collect())
}

fn with_roots(w: &World, audit: &AuditRecord, plain: &Answer, roots: Vec<Hash32>) -> Answer {
    Answer::with_found(&w.zone(), audit.number, plain.set.clone(), plain.shares.clone(), (roots, None), &w.node)
}

/// Carries an answer, and what each witness says of it: in time, and whether its products are right.
fn say(w: &mut World, audit: &AuditRecord, answer: &Answer, proven: &dyn Fn(usize) -> bool) {
    let digest = statement_digest(&w.zone(), audit, &answer.statement());
    let mut actions = vec![Action::Audit(Box::new(AuditAction::Answers(vec![answer.clone()])))];
    for (at, witness) in audit.witnesses.iter().enumerate() {
        let tag = if proven(at) { proven_tag(witness, &digest) } else { receipt_tag(witness, &digest) };
        actions.push(w.receipts(audit, at, Receipt { offset: 0, elapsed_ms: 520, rtt_ms: 20, tag }));
    }
    w.user_act(actions).unwrap();
}

/// One audit of its GPUs, all of whose witnesses say so.
fn judged(w: &mut World, proven: bool) -> AuditRecord {
    let audit = w.drawn();
    let answer = answered(w, &audit);
    say(w, &audit, &answer, &|_| proven);
    w.until(audit.number)
}

fn gpu_order(w: &World, count: u16) -> OrderTerms {
    let mut terms = w.order_terms();
    terms.resources.gpus = line(count);
    terms
}

fn matches(w: &mut World, count: u16) -> bool {
    let terms = gpu_order(w, count);
    let order = w.place(terms);
    w.idle();
    query::lease_of_order(&w.state, &order).is_some()
}

#[test]
fn gpus_are_leased_once_an_audit_proves_them() {
    let mut w = gpu_world(4, 2);
    let terms = gpu_order(&w, 1);
    let waiting = w.place(terms);
    w.idle();
    assert!(query::lease_of_order(&w.state, &waiting).is_none(), "nothing proves them yet");
    let record = judged(&mut w, true);
    assert_eq!((record.verdict, record.gpu_verdict), (Some(Verdict::Passed), Some(Verdict::Passed)));
    let gpu = w.of_node().gpu.unwrap();
    assert_eq!((gpu.first_pass, gpu.last_pass, gpu.passes, gpu.failures), (Some(record.epoch), Some(record.epoch), 1, 0));
    assert!(w.of_node().roster.is_some(), "on offer with GPUs, it is watched on");
    // What waited for it is served now.
    for _ in 0..60 {
        if query::lease_of_order(&w.state, &waiting).is_some() {
            return;
        }
        w.wait(1_000);
    }
    panic!("nobody serves it");
}

#[test]
fn gpus_that_are_not_proven_fail_alone_and_after_a_repetition() {
    let mut w = gpu_world(4, 1);
    let first = judged(&mut w, false);
    assert_eq!((first.verdict, first.gpu_verdict), (Some(Verdict::Passed), Some(Verdict::Failed)));
    let waiting = w.of_node();
    assert_eq!((waiting.passes, waiting.failures, waiting.gpu), (1, 0, None), "the CPU is settled, the GPUs wait");
    assert!(waiting.open.is_some_and(|open| open.cpu_settled && !open.gpu_settled));
    let second = judged(&mut w, false);
    assert_eq!((second.attempt, second.gpu_verdict), (2, Some(Verdict::Failed)));
    let after = w.of_node();
    let gpu = after.gpu.clone().unwrap();
    assert_eq!((gpu.failures, gpu.failing_from, gpu.first_pass), (1, Some(0), None));
    assert_eq!((after.passes, after.failures, after.failing_from), (1, 0, None), "settled once, and not by the repetition");
    assert!(!matches(&mut w, 1));
    // They pass later on.
    let third = judged(&mut w, true);
    assert_eq!(third.gpu_verdict, Some(Verdict::Passed));
    assert!(matches(&mut w, 1));
}

#[test]
fn half_of_the_witnesses_are_not_enough_and_neither_is_an_answer_without_products() {
    let mut w = gpu_world(4, 1);
    let audit = w.drawn();
    let answer = answered(&w, &audit);
    say(&mut w, &audit, &answer, &|at| at < 2);
    assert_eq!(w.until(audit.number).gpu_verdict, Some(Verdict::Failed));
    // A plain answer: whatever its witnesses say, there is nothing that could be held against it.
    let audit = w.drawn();
    let plain = w.answer(&audit, BURST_HASHES);
    say(&mut w, &audit, &plain, &|_| true);
    let record = w.until(audit.number);
    assert_eq!((record.verdict, record.gpu_verdict), (Some(Verdict::Passed), Some(Verdict::Failed)));
    let again = recount(&record, &w.zone()).unwrap();
    assert_eq!((again.gpu_verdict, again.count.proven), (Some(Verdict::Failed), 4));
}

#[test]
fn an_answer_has_one_product_for_each_device_that_was_asked() {
    let mut w = gpu_world(1, 2);
    let audit = w.drawn();
    let plain = w.answer(&audit, BURST_HASHES);
    for roots in [vec![Hash32([1; 32])], vec![Hash32([1; 32]); 3]] {
        let answer = with_roots(&w, &audit, &plain, roots);
        let carried = w.say(Action::Audit(Box::new(AuditAction::Answers(vec![answer]))));
        assert!(matches!(carried, Err(TxError::Audit(_))), "{carried:?}");
    }
}

/// What a node committed to that is no product, and a row of it as evidence.
fn cheat(w: &World, audit: &AuditRecord) -> (Answer, WrongEntry) {
    let plain = w.answer(audit, BURST_HASHES);
    let device = Device::of(audit, &plain.set, 0);
    // Its rows by another round's matrix, under this audit's tree: sums that nobody can tell from right ones by looking at them.
    let liar = Prover::new(device.shape, &Round { epoch: device.round.epoch + 1, ..device.round }, &device.challenge);
    let (leaves, beacon) = (liar.all_leaves(), Beacon([9; 32]));
    let (root, proof) = (liar.root(&leaves), liar.open(&leaves, beacon));
    let wrong = find_wrong_entry(device.shape, &device.round, &device.challenge, &root, beacon, &proof).unwrap();
    (with_roots(w, audit, &plain, vec![Hash32(root)]), wrong)
}

fn evidence(audit: u64, wrong: &WrongEntry) -> Action {
    let path = wrong.path.iter().map(|hash| Hash32(*hash)).collect();
    let WrongEntry { row, layer, column, ref sums, .. } = *wrong;
    Action::Audit(Box::new(AuditAction::WrongProduct(WrongProduct { audit, device: 0, row, layer, column, sums: sums.clone(), path })))
}

#[test]
fn a_node_that_signed_a_wrong_product_forfeits_before_and_after_the_verdict() {
    for after in [false, true] {
        let mut w = gpu_world(4, 1);
        let audit = w.drawn();
        let (answer, wrong) = cheat(&w, &audit);
        // Even where all its witnesses are its friends.
        say(&mut w, &audit, &answer, &|_| true);
        if after {
            assert_eq!(w.until(audit.number).gpu_verdict, Some(Verdict::Passed));
        }
        for harmless in [
            WrongEntry { row: wrong.row ^ 1, ..wrong.clone() },
            WrongEntry { column: (wrong.column + 1) % 256, sums: vec![0; wrong.sums.len()], ..wrong.clone() },
            WrongEntry { path: vec![], ..wrong.clone() },
        ] {
            assert!(matches!(w.say(evidence(audit.number, &harmless)), Err(TxError::Audit(_))));
        }
        let long = WrongEntry { sums: vec![0; MAX_SUMS + 1], ..wrong.clone() };
        assert!(w.say(evidence(audit.number, &long)).is_err());
        let before = w.balance(&w.user.clone());
        let events = w.say(evidence(audit.number, &wrong)).unwrap();
        let forfeited = events.iter().any(|e| matches!(e, Event::Deposit(DepositEvent::Forfeited { .. })));
        assert!(forfeited, "{events:?}");
        assert!(w.balance(&w.user.clone()) > before, "who shows it gets a part");
        assert!(matches!(w.say(evidence(audit.number, &wrong)), Err(TxError::Audit(_))), "once");
        let record = w.until(audit.number);
        assert_eq!((record.verdict, record.gpu_verdict), (Some(Verdict::Contradicted), Some(Verdict::Contradicted)));
        assert!(w.of_node().gpu.is_some_and(|gpu| gpu.failing_from.is_some()));
    }
}

#[test]
fn nothing_convicts_a_node_that_computed() {
    let mut w = gpu_world(1, 1);
    let audit = w.drawn();
    let answer = answered(&w, &audit);
    say(&mut w, &audit, &answer, &|_| true);
    let device = Device::of(&audit, &answer.set, 0);
    let prover = device.prover();
    let leaves = prover.all_leaves();
    let beacon = Beacon([4; 32]);
    let (root, proof) = (prover.root(&leaves), prover.open(&leaves, beacon));
    assert_eq!(find_wrong_entry(device.shape, &device.round, &device.challenge, &root, beacon, &proof), None);
    // A wrong row that is not under its root.
    let (_, wrong) = cheat(&w, &audit);
    let said = w.say(evidence(audit.number, &wrong));
    assert!(matches!(said, Err(TxError::Audit(_))), "{said:?}");
    assert_eq!(w.until(audit.number).gpu_verdict, Some(Verdict::Passed));
}
