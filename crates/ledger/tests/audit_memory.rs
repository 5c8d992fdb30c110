//! Memory in audits: when it is asked and for how much, verdicts apart from the CPU's, and what of a lease is paid.

#![cfg(test)]

mod audit_common;
mod common;

use audit_common::*;
use common::*;
use pasture_ledger::*;
use pasture_types::audit::*;
use pasture_types::event::{Event, Hash32};
use pasture_types::genesis::Params;
use pasture_types::tx::*;
use pasture_types::*;

const ASK: MemoryAsk =
    MemoryAsk { every: 1, part_ppm: 500_000, most_bytes: 1 << 40, fill_per_gib: Millis(100), window: Millis(200), grace: Millis(100) };

fn memory_params(ask: MemoryAsk) -> Params {
    let mut params = params();
    params.audits.memory = Some(ask);
    params
}

fn memory_world(validators: u8) -> World {
    world(validators, memory_params(ASK))
}

/// Carries an answer, and what each witness says of it: in time, and whether it was shown a walk.
fn say(w: &mut World, audit: &AuditRecord, answer: &Answer, shown: &dyn Fn(usize) -> bool) {
    let digest = statement_digest(&w.zone(), audit, &answer.statement());
    let mut actions = vec![Action::Audit(Box::new(AuditAction::Answers(vec![answer.clone()])))];
    for (at, witness) in audit.witnesses.iter().enumerate() {
        let tag = shown_tag(witness, &digest, Shown { products: false, memory: shown(at) });
        actions.push(w.receipts(
            audit,
            at,
            Receipt { offset: 0, elapsed_ms: if audit.memory.is_some() { 900 } else { 520 }, rtt_ms: 20, tag },
        ));
    }
    w.user_act(actions).unwrap();
}

fn with_walk(w: &World, audit: &AuditRecord) -> Answer {
    let plain = w.answer(audit, BURST_HASHES);
    Answer::with_found(&w.zone(), audit.number, plain.set, plain.shares, (vec![], Some(Hash32([7; 32]))), &w.node)
}

/// One audit, all of whose witnesses say so.
fn judged(w: &mut World, shown: bool) -> AuditRecord {
    let audit = w.drawn();
    let answer = with_walk(w, &audit);
    say(w, &audit, &answer, &|_| shown);
    w.until(audit.number)
}

fn of_memory(w: &World) -> MemoryAudit {
    w.of_node().memory.unwrap()
}

#[test]
fn half_of_what_no_lease_holds_is_asked_and_its_audit_says_nothing_of_the_rate() {
    let mut w = memory_world(4);
    let declared = declaration().resources;
    let audit = w.drawn();
    let claim = audit.memory.unwrap();
    assert_eq!((claim.bytes(), claim.lanes), (declared.memory_bytes / 2, declared.cpu_millis.div_ceil(1_000)));
    assert_eq!(audit.longest(), Millis(audit.terms.longest().0 + 300));
    let answer = with_walk(&w, &audit);
    // 900 ms: too late for a burst of half a second, and in time where a walk comes before it.
    assert!(audit.terms.longest() < Millis(880));
    say(&mut w, &audit, &answer, &|_| true);
    let record = w.until(audit.number);
    assert_eq!((record.verdict, record.memory_verdict), (Some(Verdict::Passed), Some(Verdict::Passed)));
    let node = w.of_node();
    assert_eq!(node.pool, [], "the walk took a part of the time");
    let memory = of_memory(&w);
    assert_eq!((memory.proven, memory.passes, memory.failures, memory.last_pass), (claim.bytes(), 1, 0, Some(record.epoch)));
    let told = |e: &Event| matches!(e, Event::Audit(AuditEvent::MemoryJudged { verdict: Verdict::Passed, proven: 4, repeated: false, .. }));
    assert!(w.events.iter().any(told), "{:?}", w.events);
    let again = recount(&record, &w.zone()).unwrap();
    assert_eq!((again.memory_verdict, again.count.memory), (Some(Verdict::Passed), 4));
}

#[test]
fn memory_that_is_not_shown_fails_alone_and_after_a_repetition_and_is_asked_until_it_passes() {
    let mut w = world(4, memory_params(MemoryAsk { every: 1_000, ..ASK }));
    let first = judged(&mut w, false);
    assert_eq!((first.verdict, first.memory_verdict), (Some(Verdict::Passed), Some(Verdict::Failed)));
    let waiting = w.of_node();
    assert_eq!((waiting.passes, waiting.failures, waiting.memory), (1, 0, None), "the CPU is settled, the memory waits");
    assert!(waiting.open.is_some_and(|open| open.cpu_settled && !open.memory_settled));
    let second = judged(&mut w, false);
    assert_eq!((second.attempt, second.memory_verdict), (2, Some(Verdict::Failed)));
    let (after, memory) = (w.of_node(), of_memory(&w));
    assert_eq!((memory.failures, memory.failing_from, memory.first_pass), (1, Some(0), None));
    assert_eq!((after.passes, after.failures, after.failing_from), (1, 0, None), "settled once, and not by the repetition");
    assert!(after.roster.is_some(), "it is watched on until it shows what it declares");
    // The lot would hardly ever ask.
    let third = judged(&mut w, true);
    assert_eq!((third.attempt, third.memory_verdict), (1, Some(Verdict::Passed)));
    assert_eq!(of_memory(&w).failing_from, None);
    assert!(w.of_node().roster.is_none());
}

#[test]
fn half_of_the_witnesses_are_not_enough_and_neither_is_an_answer_without_a_walk() {
    let mut w = memory_world(4);
    let audit = w.drawn();
    let answer = with_walk(&w, &audit);
    say(&mut w, &audit, &answer, &|at| at < 2);
    assert_eq!(w.until(audit.number).memory_verdict, Some(Verdict::Failed));
    let audit = w.drawn();
    let plain = w.answer(&audit, BURST_HASHES);
    say(&mut w, &audit, &plain, &|_| true);
    let record = w.until(audit.number);
    assert_eq!((record.verdict, record.memory_verdict), (Some(Verdict::Passed), Some(Verdict::Failed)));
}

#[test]
fn a_walk_that_nobody_asked_for_is_no_answer() {
    let mut w = world(1, params());
    let audit = w.drawn();
    assert_eq!(audit.memory, None);
    let answer = with_walk(&w, &audit);
    let carried = w.say(Action::Audit(Box::new(AuditAction::Answers(vec![answer]))));
    assert!(matches!(carried, Err(TxError::Audit(_))), "{carried:?}");
}

#[test]
fn two_walks_under_one_set_contradict_each_other() {
    let mut w = memory_world(1);
    let audit = w.drawn();
    let one = with_walk(&w, &audit);
    let found = (vec![], Some(Hash32([8; 32])));
    let other = Answer::with_found(&w.zone(), audit.number, one.set.clone(), one.shares.clone(), found, &w.node);
    w.say(Action::Audit(Box::new(AuditAction::Answers(vec![one, other])))).unwrap();
    let record = w.until(audit.number);
    assert_eq!((record.verdict, record.memory_verdict), (Some(Verdict::Contradicted), Some(Verdict::Contradicted)));
}

/// A lease of 20 s whose node answers each audit, and shows its memory or does not; its settlement.
fn served(w: &mut World, shown: bool) -> event::Settlement {
    let terms = w.order_terms();
    let id = w.accepted(terms);
    let (started, end) = (w.now, w.now.plus(Millis(20_000)));
    let mut closed = false;
    for _ in 0..400 {
        w.beat();
        if let Some(audit) = w.open().filter(|a| a.answer.is_none()) {
            let answer = if audit.memory.is_some() { with_walk(w, &audit) } else { w.answer(&audit, BURST_HASHES) };
            say(w, &audit, &answer, &|_| shown);
        }
        if w.now >= end && !closed {
            closed = true;
            w.confirmed(&id, started, 20_000).unwrap();
            w.close_by_node(&id);
        }
        if let Some(settlement) = w.lease(&id).settlement {
            return settlement;
        }
        w.wait(500);
    }
    panic!("it never settles: {:?}", w.of_node());
}

#[test]
fn cpu_and_memory_of_a_lease_are_paid_while_the_memory_stands_and_not_while_it_failed() {
    let mut w = memory_world(4);
    judged(&mut w, true);
    let end = served(&mut w, true);
    assert!(end.audited && end.epochs_proven == end.epochs && end.billed_ms == Millis(20_000), "{end:?}");

    let mut w = memory_world(4);
    judged(&mut w, true);
    let end = served(&mut w, false);
    assert!(end.epochs_proven <= 2 && end.billed_ms < Millis(10_000), "{end:?}");
    assert!(w.of_node().failing_from.is_none(), "its CPU passes all the while");
}
