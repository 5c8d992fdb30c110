//! Audits: draws, verdicts, statements that do not count, what follows for leases and payments.

#![cfg(test)]

mod audit_common;
mod common;

use audit_common::*;
use common::*;
use pasture_ledger::*;
use pasture_types::audit::*;
use pasture_types::event::Event;
use pasture_types::genesis::Params;
use pasture_types::lease::{EndReason, LeaseState};
use pasture_types::tx::*;
use pasture_types::*;

fn answers(answer: Answer) -> Action {
    Action::Audit(Box::new(AuditAction::Answers(vec![answer])))
}

fn is_audit_error(result: &Result<Vec<Event>, TxError>) -> bool {
    matches!(result, Err(TxError::Audit(_)))
}

#[test]
fn without_active_audits_nothing_is_drawn_and_an_idle_zone_asks_for_no_block() {
    let mut w = world(1, Params::dev());
    assert_eq!(next_due(&w.state), Due::Never);
    assert_eq!(query::audit_state(&w.state).groups, 1, "the roster is kept all the same");
    w.wait(60_000);
    assert!(query::open_audits(&w.state).is_empty());
}

#[test]
fn ticks_come_only_while_somebody_is_on_the_roster() {
    let mut w = world(1, params());
    assert_ne!(next_due(&w.state), Due::Never);
    let provider = w.provider.clone();
    let offer = offer_id(&w.node.node_id(), 0);
    w.act(&provider, vec![Action::WithdrawOffer { offer }]).unwrap();
    // What was drawn in between runs out; then nothing is due.
    w.wait(60_000);
    assert_eq!((query::audit_state(&w.state).groups, next_due(&w.state)), (0, Due::Never));
    assert!(query::open_audits(&w.state).is_empty());
}

#[test]
fn a_newly_offered_node_passes_and_leaves_the_roster_until_it_has_a_lease() {
    let mut w = world(4, params());
    assert_eq!(w.audited(BURST_HASHES), Verdict::Passed);
    let r = w.of_node();
    assert_eq!((r.passes, r.failures, r.roster, r.open), (1, 0, None, None));
    assert_eq!(r.proven_ppm, 1_000_000);
    let terms = w.order_terms();
    w.accepted(terms);
    assert!(w.of_node().roster.is_some());
}

#[test]
fn one_validator_measures_itself_and_its_own_node() {
    let provider = key(2).account();
    let mut w = world_of(&[provider], params());
    let audit = w.drawn();
    assert_eq!(audit.witnesses, vec![validator_key(0).node_id()]);
    w.run(&audit, BURST_HASHES, &|_| Word::InTime);
    assert_eq!(w.until(audit.number).verdict, Some(Verdict::Passed));
}

#[test]
fn a_validator_of_the_nodes_operator_is_no_witness() {
    let operators = [key(2).account(), operator_key(1).account(), operator_key(2).account(), key(2).account()];
    let mut w = world_of(&operators, params());
    let audit = w.drawn();
    let mut want = vec![validator_key(1).node_id(), validator_key(2).node_id()];
    want.sort_unstable();
    assert_eq!(audit.witnesses, want);
    // What it says all the same is nothing.
    let mut as_if = audit.clone();
    as_if.witnesses = vec![validator_key(0).node_id()];
    let receipt = w.receipts(&as_if, 0, Receipt { offset: 0, elapsed_ms: 500, rtt_ms: 0, tag: 1 });
    assert!(is_audit_error(&w.say(receipt)));
}

#[test]
fn a_third_of_lying_witnesses_cannot_fail_an_honest_node() {
    for n in [4usize, 7, 10, 16] {
        let liars = (n - 1) / 3;
        for lie in [Word::Late, Word::Other, Word::Silence] {
            let mut w = world(u8::try_from(n).unwrap(), params());
            let audit = w.drawn();
            assert_eq!(audit.witnesses.len(), n);
            w.run(&audit, BURST_HASHES, &|i| if i < liars { lie } else { Word::InTime });
            assert_eq!(w.until(audit.number).verdict, Some(Verdict::Passed), "{n} witnesses, {liars} say {lie:?}");
        }
    }
}

#[test]
fn a_third_of_lying_witnesses_cannot_save_a_late_node() {
    for n in [4usize, 7, 10, 16] {
        let liars = (n - 1) / 3;
        let mut w = world(u8::try_from(n).unwrap(), params());
        for attempt in [1, 2] {
            let audit = w.drawn();
            assert_eq!(audit.attempt, attempt);
            w.run(&audit, BURST_HASHES, &|i| if i < liars { Word::InTime } else { Word::Late });
            assert_eq!(w.until(audit.number).verdict, Some(Verdict::Failed), "{n} witnesses");
            assert_eq!(w.of_node().failing_from.is_some(), attempt == 2, "only the repetition costs");
        }
    }
}

#[test]
fn who_is_seen_at_the_repetition_only_is_not_paid_for_a_while() {
    // Of four witnesses: so many saw the first attempt in time. A third of liars can make it two, and costs nobody anything.
    for (seen, lapses) in [(0, true), (1, true), (2, false)] {
        let mut w = world(4, params());
        let first = w.drawn();
        w.run(&first, BURST_HASHES, &|i| if i < seen { Word::InTime } else { Word::Late });
        assert_eq!(w.until(first.number).verdict, Some(Verdict::Failed));
        let second = w.drawn();
        w.run(&second, BURST_HASHES, &|_| Word::InTime);
        assert_eq!(w.until(second.number).verdict, Some(Verdict::Passed));
        let lapse = audit_rules::lapse(&params().audits, params().epoch);
        let failed = w.of_node().failed;
        assert_eq!(failed.first().copied(), lapses.then_some((0, first.epoch + 1)));
        assert_eq!(failed.get(1).map(|(from, after)| after - from), lapses.then_some(lapse), "{seen} of 4 saw the first attempt");
    }
}

#[test]
fn in_time_means_burst_slack_and_a_capped_round_trip() {
    // T = 500, slack 30 %, round trips up to 300: the last elapsed time that is in time, and the first that is not.
    for (rtt, elapsed, verdict) in
        [(0, 650, Verdict::Passed), (0, 651, Verdict::Failed), (300, 950, Verdict::Passed), (9_999, 951, Verdict::Failed)]
    {
        let mut w = world(1, params());
        let audit = w.drawn();
        let answer = w.answer(&audit, BURST_HASHES);
        let tag = receipt_tag(&audit.witnesses[0], &statement_digest(&w.zone(), &audit, &answer.statement()));
        let receipt = w.receipts(&audit, 0, Receipt { offset: 0, elapsed_ms: elapsed, rtt_ms: rtt, tag });
        w.user_act(vec![receipt, answers(answer)]).unwrap();
        assert_eq!(w.until(audit.number).verdict, Some(verdict), "{elapsed} ms with {rtt} ms");
    }
}

#[test]
fn too_little_work_fails_and_less_than_two_fifths_never_pays() {
    let mut w = world(4, params());
    assert_eq!(w.audited(BURST_HASHES / 5), Verdict::Failed);
    assert_eq!(w.audited(BURST_HASHES / 5), Verdict::Failed);
    assert_eq!(w.of_node().failing_from, Some(0));
    assert_eq!(w.audited(BURST_HASHES), Verdict::Passed);
    assert_eq!(w.of_node().failing_from, None);
}

#[test]
fn an_audit_that_too_few_witnesses_speak_of_counts_for_nobody() {
    let mut w = world(4, params());
    for _ in 0..2 {
        let audit = w.drawn();
        w.run(&audit, BURST_HASHES, &|i| if i < 2 { Word::InTime } else { Word::Silence });
        assert_eq!(w.until(audit.number).verdict, Some(Verdict::Void));
    }
    let r = w.of_node();
    assert_eq!((r.passes, r.failures, r.voids, r.failing_from), (0, 0, 1, None));
}

#[test]
fn statements_that_are_late_known_or_foreign_do_not_count() {
    let mut w = world(4, params());
    let audit = w.drawn();
    let answer = w.answer(&audit, BURST_HASHES);
    let word = w.word(&audit, 0, &answer, Word::InTime, 500).unwrap();
    w.say(word.clone()).unwrap();
    assert!(is_audit_error(&w.say(word)), "known");
    w.say(answers(answer.clone())).unwrap();
    assert!(is_audit_error(&w.say(answers(answer.clone()))), "known");

    // Of another audit's number, by another key, for another zone, of a node that is not audited.
    let elsewhere = AuditRecord { number: audit.number + 500, ..audit.clone() };
    let foreign = w.receipts(&elsewhere, 1, Receipt { offset: 0, elapsed_ms: 500, rtt_ms: 0, tag: 7 });
    assert!(is_audit_error(&w.say(foreign)));
    let Some(Action::Audit(said)) = w.word(&audit, 1, &answer, Word::InTime, 500) else { panic!() };
    let AuditAction::Receipts { batch, .. } = *said else { panic!() };
    for signature in [key(9).sign(&batch.digest(&w.zone())), validator_key(1).sign(&batch.digest(&ZoneId([9; 32])))] {
        let forged = Action::Audit(Box::new(AuditAction::Receipts { batch: batch.clone(), signature }));
        assert!(matches!(w.say(forged), Err(TxError::Signature { .. })));
    }
    let mut stolen = w.answer(&audit, BURST_HASHES - 100);
    stolen.set.nonces[0] += 1;
    stolen.signature = key(9).sign(&statement_digest(&w.zone(), &audit, &stolen.statement()));
    assert!(matches!(w.say(answers(stolen)), Err(TxError::Signature { .. })));

    // A stranger's receipt is no witness's.
    let stranger = key(9);
    let batch = ReceiptBatch { witness: stranger.node_id(), base: audit.number, receipts: batch.receipts };
    let signature = stranger.sign(&batch.digest(&w.zone()));
    assert!(is_audit_error(&w.say(Action::Audit(Box::new(AuditAction::Receipts { batch, signature })))));

    // Late: the deadline has passed.
    w.until(audit.number);
    let late = w.word(&audit, 2, &answer, Word::InTime, 500).unwrap();
    assert!(is_audit_error(&w.say(late)));
    assert!(is_audit_error(&w.say(answers(answer))));
}

#[test]
fn an_answer_of_one_audit_is_none_of_the_next() {
    let mut w = world(1, params());
    let first = w.drawn();
    let old = w.answer(&first, BURST_HASHES);
    w.until(first.number);
    let second = w.drawn();
    assert_ne!(first.number, second.number);
    let replayed = Answer { audit: second.number, ..old.clone() };
    assert!(matches!(w.say(answers(replayed)), Err(TxError::Signature { .. })));
    // Signed anew, but its hashes belong to another seed: hardly one of them is small here.
    let mut moved = Answer { audit: second.number, ..old };
    moved.signature = w.node.sign(&statement_digest(&w.zone(), &second, &moved.statement()));
    let word = w.word(&second, 0, &moved, Word::InTime, 500).unwrap();
    w.user_act(vec![answers(moved), word]).unwrap();
    assert_eq!(w.until(second.number).verdict, Some(Verdict::Failed));
}

#[test]
fn sets_and_shares_of_a_wrong_shape_are_refused() {
    let mut w = world(4, params());
    let audit = w.drawn();
    let sign = |w: &World, mut a: Answer| {
        a.signature = w.node.sign(&statement_digest(&w.zone(), &audit, &a.statement()));
        answers(a)
    };
    let good = w.answer(&audit, BURST_HASHES);
    let few = Answer { set: NonceSet { mask: 0b11, nonces: vec![1, 2] }, ..good.clone() };
    let strangers = Answer { set: NonceSet { mask: 0b111_0000, nonces: vec![1, 2, 3] }, ..good.clone() };
    let odd = Answer { set: NonceSet { mask: 0b111, nonces: vec![1, 2, 3, 4] }, ..good.clone() };
    let short = Answer { shares: PackedShares::pack(&[1, 2, 3]).unwrap(), ..good.clone() };
    let junk = Answer { shares: PackedShares(vec![0xff; 100]), ..good };
    for bad in [few, strangers, odd, short, junk] {
        let action = sign(&w, bad);
        assert!(is_audit_error(&w.say(action)));
    }
    assert!(query::audit(&w.state, audit.number).unwrap().answer.is_none());
}

#[test]
fn a_node_that_signs_two_sets_is_convicted_before_and_after_the_verdict() {
    for after in [false, true] {
        let mut w = world(4, params());
        let audit = w.drawn();
        let answer = w.answer(&audit, BURST_HASHES);
        w.run(&audit, BURST_HASHES, &|_| Word::InTime);
        let said =
            |statement: Statement| SignedStatement { statement, signature: w.node.sign(&statement_digest(&w.zone(), &audit, &statement)) };
        let honest = said(answer.statement());
        let begun = said(Statement { set: answer.set.digest(), shares: None });
        let other = said(Statement { set: NonceSet { mask: 7, nonces: vec![5, 6, 7] }.digest(), shares: None });
        let forged = SignedStatement { signature: key(9).sign(&statement_digest(&w.zone(), &audit, &other.statement)), ..other };
        let evidence = |one, other| Action::Audit(Box::new(AuditAction::Contradiction { audit: audit.number, one, other }));
        if after {
            assert_eq!(w.until(audit.number).verdict, Some(Verdict::Passed));
        }
        assert!(is_audit_error(&w.say(evidence(begun, honest))), "an honest node signs both");
        assert!(matches!(w.say(evidence(honest, forged)), Err(TxError::Signature { .. })));
        w.say(evidence(honest, other)).unwrap();
        assert!(is_audit_error(&w.say(evidence(other, honest))), "once");
        assert_eq!(w.until(audit.number).verdict, Some(Verdict::Contradicted));
        assert_eq!((w.of_node().failing_from.is_some(), w.of_node().failures), (true, 1));
    }
}

#[test]
fn two_answers_convict_whoever_carries_the_second() {
    let mut w = world(1, params());
    let audit = w.drawn();
    w.run(&audit, BURST_HASHES, &|_| Word::InTime);
    let second = w.answer(&audit, BURST_HASHES / 2);
    w.say(answers(second)).unwrap();
    assert_eq!(w.until(audit.number).verdict, Some(Verdict::Contradicted));
}

#[test]
fn a_witness_that_says_two_things_has_said_nothing() {
    let mut w = world(4, params());
    let audit = w.drawn();
    w.run(&audit, BURST_HASHES, &|i| if i < 3 { Word::InTime } else { Word::Late });
    let answer = w.answer(&audit, BURST_HASHES);
    let turned = w.word(&audit, 0, &answer, Word::Late, 0).unwrap();
    w.say(turned.clone()).unwrap();
    assert!(is_audit_error(&w.say(turned)));
    assert_eq!(query::audit(&w.state, audit.number).unwrap().said[0], Said::Both);
    // Two of four in time are not more than half.
    assert_eq!(w.until(audit.number).verdict, Some(Verdict::Failed));
}

#[test]
fn a_kept_audit_can_be_counted_again_and_no_other_record_of_it_holds() {
    let mut w = world(4, params());
    let audit = w.drawn();
    let words = [Word::InTime, Word::InTime, Word::InTime, Word::Late];
    w.run(&audit, BURST_HASHES, &|i| words[i]);
    let record = w.until(audit.number);
    let zone = w.zone();
    let again = recount(&record, &zone).unwrap();
    assert_eq!((Some(again.verdict), again.count.in_time, again.count.spoke), (record.verdict, 3, 4));
    assert_eq!(again.count.heard[3], Heard::Late);
    assert!(again.count.heard[..3].iter().all(|h| *h == Heard::InTime { took: Millis(500), proven: false, memory: false }), "{again:?}");
    assert_eq!(again.largest, record.answer.as_ref().map(|a| a.largest));

    // One that a dishonest majority of validators could have written: each part of it is seen.
    let with = |change: &dyn Fn(&mut AuditRecord)| {
        let mut forged = record.clone();
        change(&mut forged);
        recount(&forged, &zone)
    };
    let answered = |r: &mut AuditRecord, change: &dyn Fn(&mut Answered)| change(r.answer.as_mut().unwrap());
    assert_eq!(with(&|r| r.said[0] = Said::Nothing).unwrap().count.in_time, 2, "and then");
    assert_eq!(with(&|r| r.said[0] = Said::Nothing).unwrap().verdict, Verdict::Failed, "two of four are not more than half");
    assert_eq!(with(&|r| r.said[..2].fill(Said::Both)).unwrap().verdict, Verdict::Void);
    assert_eq!(with(&|r| r.rate *= 100).unwrap().verdict, Verdict::Failed, "too little work for such a rate");
    assert_eq!(with(&|r| r.terms.slack_ppm = 0).unwrap().verdict, Verdict::Passed, "500 ms are the burst itself");
    assert_eq!(with(&|r| r.terms.burst = Millis(300)).unwrap().count.heard[0], Heard::Slow { took: Millis(500) });
    assert_eq!(
        with(&|r| answered(r, &|a| a.largest -= 1)),
        Err(RecountError::Largest { recorded: again.largest.unwrap() - 1, found: again.largest.unwrap() })
    );
    assert_eq!(with(&|r| answered(r, &|a| a.answer.signature = key(9).sign(&[1; 32]))), Err(RecountError::Signature));
    assert_eq!(with(&|r| answered(r, &|a| a.answer.set.nonces[0] ^= 1)), Err(RecountError::Signature), "another set");
    assert_eq!(with(&|r| answered(r, &|a| a.answer.set.mask = 1)), Err(RecountError::Set));
    assert_eq!(with(&|r| r.said.truncate(3)), Err(RecountError::Words));
    let other = w.answer(&audit, BURST_HASHES / 2);
    let resigned = with(&|r| answered(r, &|a| a.answer = other.clone()));
    assert!(matches!(resigned, Err(RecountError::Largest { .. })), "{resigned:?}");
    assert_eq!(recount(&record, &ZoneId([7; 32])), Err(RecountError::Signature), "of another zone");
}

#[test]
fn an_answer_held_back_costs_more_than_the_worst_of_luck() {
    let mut w = world(1, params());
    let audit = w.drawn();
    let late = w.answer(&audit, BURST_HASHES);
    let word = w.word(&audit, 0, &late, Word::Late, 0).unwrap();
    w.say(word).unwrap();
    w.until(audit.number);
    let audit = w.drawn();
    assert_eq!(audit.attempt, 2);
    w.run(&audit, BURST_HASHES, &|_| Word::InTime);
    w.until(audit.number);
    let pool = w.of_node().pool;
    assert_eq!((pool.len(), pool[0]), (2, 48 * 1_024), "the missed one counts for half as much work again");
}

#[test]
fn a_halt_lengthens_an_audit() {
    let mut w = world(1, params());
    let audit = w.drawn();
    let answer = w.answer(&audit, BURST_HASHES);
    // Nothing for a minute: the deadline would be long past.
    w.block(60_000, &[]);
    assert!(query::audit(&w.state, audit.number).unwrap().verdict.is_none());
    let word = w.word(&audit, 0, &answer, Word::InTime, 500).unwrap();
    w.user_act(vec![answers(answer), word]).unwrap();
    assert_eq!(w.until(audit.number).verdict, Some(Verdict::Passed));
}

/// A lease of 20 s whose node answers audits with so many hashes; its settlement.
fn served(w: &mut World, hashes: u64) -> event::Settlement {
    let terms = w.order_terms();
    let id = w.accepted(terms);
    let started = w.now;
    let end = w.now.plus(Millis(20_000));
    let mut closed = false;
    for _ in 0..400 {
        w.beat();
        if let Some(audit) = w.open().filter(|a| a.answer.is_none()) {
            w.run(&audit, hashes, &|_| Word::InTime);
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
fn a_lease_of_an_audited_node_says_so_on_its_receipt() {
    let mut w = world(4, params());
    assert_eq!(w.audited(BURST_HASHES), Verdict::Passed);
    let end = served(&mut w, BURST_HASHES);
    assert!(end.audited && end.epochs_proven == end.epochs && end.billed_ms == Millis(20_000), "{end:?}");
}

#[test]
fn a_node_that_fails_its_audits_is_not_paid() {
    let mut w = world(4, params());
    assert_eq!(w.audited(BURST_HASHES), Verdict::Passed);
    let end = served(&mut w, BURST_HASHES / 20);
    assert!(!end.audited && end.epochs_proven <= 2, "{end:?}");
    // What was proven before the first failure is paid, the rest is not.
    assert!(end.billed_ms < Millis(10_000), "{end:?}");
}

#[test]
fn payment_waits_for_an_open_audit_and_not_for_one_to_come() {
    let mut w = world(1, params());
    assert_eq!(w.audited(BURST_HASHES), Verdict::Passed);
    let terms = w.order_terms();
    let id = w.accepted(terms);
    let started = w.now;
    let audit = w.drawn();
    w.beat();
    let served = w.now.since(started).0;
    w.confirmed(&id, started, served).unwrap();
    w.close_by_node(&id);
    w.beat();
    assert_eq!(w.lease(&id).state, LeaseState::Closing, "the audit of this time is open");
    w.run(&audit, BURST_HASHES, &|_| Word::InTime);
    w.until(audit.number);
    w.wait_beating(1_000);
    let end = w.lease(&id).settlement.expect("settled");
    assert_eq!((end.billed_ms, end.audited), (Millis(served), true));
}

#[test]
fn an_over_claimer_is_derated_and_its_youngest_leases_end() {
    let mut w = world(1, params());
    // It claims a quarter more than it has: 0.8 of the work in each burst.
    let real = BURST_HASHES * 8 / 10;
    w.audited(real);
    let mut leases = Vec::new();
    for _ in 0..4 {
        let terms = w.order_terms();
        leases.push(w.accepted(terms));
        w.node_act(vec![]).unwrap_err();
    }
    let mut audits = 1;
    while w.of_node().proven_ppm == 1_000_000 {
        assert_eq!(w.audited(real), Verdict::Passed, "lenient: it is paid meanwhile");
        audits += 1;
        assert!(audits <= 128, "not within the pool: {:?}", w.of_node());
    }
    let r = w.of_node();
    assert!((750_000..850_000).contains(&r.proven_ppm), "{}", r.proven_ppm);
    assert!(r.pool.is_empty());
    let proven = query::proven_cpu_millis(&w.state, &w.node.node_id()).unwrap();
    assert_eq!(proven, 4_000 * r.proven_ppm / 1_000_000);
    let since = w.now;
    // Three of its four cores are proven: the youngest lease goes, the others stay, and no new one is matched.
    w.wait(2 * w.genesis.params.epoch.0);
    let ended: Vec<_> = leases.iter().map(|id| w.lease(id)).filter(|l| l.closing.is_some()).collect();
    assert_eq!(ended.len(), 1);
    assert_eq!((ended[0].id, ended[0].end_reason()), (leases[3], Some(&EndReason::Derated)));
    assert!(ended[0].closing.as_ref().unwrap().at.since(since) <= Millis(2 * w.genesis.params.epoch.0));
    let terms = w.order_terms();
    let order = w.place(terms);
    w.wait(1_000);
    assert!(query::lease_of_order(&w.state, &order).is_none());
    // It is held to what it has now, and passes that.
    assert_eq!(w.audited(real), Verdict::Passed);
}

#[test]
fn a_derated_node_regains_what_a_full_pool_shows() {
    let mut p = params();
    p.audits.pool = 16;
    let mut w = world(1, p);
    w.audited(BURST_HASHES / 2);
    let terms = w.order_terms();
    w.accepted(terms);
    while w.of_node().proven_ppm == 1_000_000 {
        w.audited(BURST_HASHES / 2);
    }
    let low = w.of_node().proven_ppm;
    assert!((400_000..600_000).contains(&low));
    for _ in 0..16 {
        assert_eq!(w.audited(BURST_HASHES), Verdict::Passed);
    }
    assert!(w.of_node().proven_ppm > 800_000, "{}", w.of_node().proven_ppm);
}

#[test]
fn declaring_anew_keeps_what_hashes_have_shown() {
    let mut w = world(1, params());
    while w.of_node().proven_ppm == 1_000_000 {
        let audit = w.drawn();
        // Too little to pass, so that it stays on the roster without a lease.
        w.run(&audit, BURST_HASHES * 38 / 100, &|_| Word::InTime);
        w.until(audit.number);
    }
    let before = u64::from(w.of_node().proven_ppm) * CORE;
    let (provider, node) = (w.provider.clone(), w.node.clone());
    let register = w.register_node(&provider, &node, declared(2 * CORE));
    w.act(&provider, vec![register]).unwrap();
    let after = u64::from(w.of_node().proven_ppm) * 2 * CORE;
    assert!(before.abs_diff(after) <= 2 * CORE, "{before} and {after}");
    assert_eq!(w.of_node().failing_from, None);
}

#[test]
fn an_audit_of_an_earlier_declaration_counts_for_nothing() {
    let mut w = world(1, params());
    let audit = w.drawn();
    let (provider, node) = (w.provider.clone(), w.node.clone());
    let register = w.register_node(&provider, &node, declared(2 * CORE));
    w.act(&provider, vec![register]).unwrap();
    w.run(&audit, BURST_HASHES, &|_| Word::InTime);
    assert_eq!(w.until(audit.number).verdict, Some(Verdict::Void));
    assert_eq!(w.of_node().passes, 0);
}

#[test]
fn audits_switched_off_leave_nothing_behind() {
    let mut w = world(1, params());
    let audit = w.drawn();
    let mut zone = query::zone(&w.state).unwrap();
    zone.params.audits.active = false;
    w.state.0.insert(vec![1, 0], codec::encode(&zone));
    assert_eq!(w.until(audit.number).verdict, Some(Verdict::Void));
    w.wait(60_000);
    assert_eq!((w.of_node().open, query::open_audits(&w.state).len(), next_due(&w.state)), (None, 0, Due::Never));
}
