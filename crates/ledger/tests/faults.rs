//! What a failed audit costs: nothing but pay for being late, a suspension for failing again and again, the deposit for work that was
//! shown and was too little. Spec: `docs/specs/stake.md` §4, `docs/specs/audits.md` §5.

#![cfg(test)]

mod audit_common;
mod common;

use audit_common::*;
use common::*;
use pasture_ledger::query::deposits;
use pasture_ledger::*;
use pasture_types::audit::*;
use pasture_types::event::Event;
use pasture_types::lease::LeaseState;
use pasture_types::stake::{DepositAction, DepositEvent, Fault};
use pasture_types::tx::*;
use pasture_types::*;

fn jail(w: &World) -> Option<Jail> {
    deposits::node_bond(&w.state, &w.node.node_id()).jail
}

fn own(w: &World) -> Amount {
    query::provider(&w.state, &w.provider.account()).unwrap().stake
}

/// One audit, and its repetition if it fails, of which the witnesses say the same.
fn audit(w: &mut World, hashes: u64, word: Word) -> Verdict {
    let drawn = w.drawn();
    w.run(&drawn, hashes, &|_| word);
    w.until(drawn.number).verdict.unwrap()
}

fn forfeits(w: &World) -> Vec<Amount> {
    let of = |e: &Event| match e {
        Event::Deposit(DepositEvent::Forfeited { forfeit, fault: Fault::FailedAudit, .. }) => Some(forfeit.taken()),
        _ => None,
    };
    w.events.iter().filter_map(of).collect()
}

#[test]
fn too_little_work_shown_twice_forfeits_what_the_leases_need() {
    let mut w = world(4, params());
    assert_eq!(w.audited(BURST_HASHES), Verdict::Passed);
    let id = w.accepted(w.order_terms());
    let needs = deposits::node_bond(&w.state, &w.node.node_id()).locked;
    let (before, treasury) = (own(&w), query::treasury(&w.state, AssetId::CREDIT));
    assert!(!needs.is_zero() && needs < before);
    assert_eq!(audit(&mut w, BURST_HASHES / 5, Word::InTime), Verdict::Failed);
    assert_eq!((own(&w), jail(&w)), (before, None), "the first attempt costs nothing");
    assert_eq!(audit(&mut w, BURST_HASHES / 5, Word::InTime), Verdict::Failed);
    assert_eq!(own(&w), before.checked_sub(needs).unwrap());
    assert_eq!(query::treasury(&w.state, AssetId::CREDIT), treasury.saturating_add(needs), "nobody reported it");
    assert_eq!(jail(&w).map(|j| j.fault), Some(Fault::FailedAudit));
    assert_eq!(forfeits(&w), vec![needs]);
    assert_ne!(w.lease(&id).state, LeaseState::Closed, "open leases go on");
    // No new lease, until its operator ends the suspension after its time.
    let order = w.place(w.order_terms());
    w.wait(5_000);
    assert!(query::lease_of_order(&w.state, &order).is_none());
    let unjail = Action::Deposit(DepositAction::Unjail { node: Some(w.node.node_id()) });
    let provider = w.provider.clone();
    assert!(w.act(&provider, vec![unjail.clone()]).is_err());
    w.wait(w.genesis.params.stake.suspension.0);
    w.act(&provider, vec![unjail]).unwrap();
    assert_eq!(jail(&w), None);
}

/// Attack: a majority of drawn witnesses lies about an honest node, again and again.
#[test]
fn being_late_or_silent_never_forfeits_and_suspends_only_in_the_long_run() {
    for word in [Word::Late, Word::Silence, Word::Other] {
        let mut w = world(4, params());
        assert_eq!(w.audited(BURST_HASHES), Verdict::Passed);
        w.accepted(w.order_terms());
        let before = own(&w);
        for n in 1..=w.genesis.params.stake.failed_audits {
            let verdict = audit(&mut w, BURST_HASHES, word);
            assert_eq!(audit(&mut w, BURST_HASHES, word), verdict, "and its repetition");
            let counts = verdict == Verdict::Failed;
            assert_eq!(counts, word != Word::Silence, "of whom nobody speaks, nothing is known");
            assert_eq!(w.of_node().in_a_row, if counts { n } else { 0 });
            assert_eq!(jail(&w).is_some(), counts && n == w.genesis.params.stake.failed_audits, "{n} of {word:?}");
        }
        assert_eq!(own(&w), before, "{word:?}");
        assert_eq!(forfeits(&w), vec![]);
    }
}

#[test]
fn one_weak_attempt_and_one_late_one_are_no_fraud() {
    for (first, second) in [(Word::InTime, Word::Late), (Word::Late, Word::InTime)] {
        let mut w = world(4, params());
        assert_eq!(w.audited(BURST_HASHES), Verdict::Passed);
        w.accepted(w.order_terms());
        let before = own(&w);
        for word in [first, second] {
            assert_eq!(audit(&mut w, BURST_HASHES / 5, word), Verdict::Failed);
        }
        assert_eq!((own(&w), jail(&w)), (before, None));
    }
}

#[test]
fn a_pass_begins_the_count_anew() {
    let mut w = world(4, params());
    assert_eq!(w.audited(BURST_HASHES), Verdict::Passed);
    w.accepted(w.order_terms());
    for _ in 0..3 {
        for _ in 0..2 {
            assert_eq!(audit(&mut w, BURST_HASHES, Word::Late), Verdict::Failed);
            assert_eq!(audit(&mut w, BURST_HASHES, Word::Late), Verdict::Failed);
        }
        assert_eq!(audit(&mut w, BURST_HASHES, Word::InTime), Verdict::Passed);
    }
    assert_eq!((jail(&w), w.of_node().failures), (None, 6));
}

/// Attack: no machine at all, under a new key each time, paid on a benchmark's word before anybody looks.
#[test]
fn a_node_that_never_passed_is_not_paid_before_its_first_verdict() {
    let mut w = world(4, params());
    let id = w.accepted(w.order_terms());
    let started = w.now;
    w.wait_beating(20_000);
    w.confirmed(&id, started, 20_000).unwrap();
    w.close_by_node(&id);
    // It is drawn, of course, and stays away: nobody has seen anything of it in time.
    for _ in 0..2 {
        assert_eq!(audit(&mut w, BURST_HASHES, Word::Late), Verdict::Failed);
        assert!(w.lease(&id).paid.provider.is_zero());
    }
    w.wait_beating(20_000);
    let s = w.lease(&id).settlement.unwrap();
    assert_eq!((s.charged, s.epochs_proven), (Amount::ZERO, 0));
}

#[test]
fn a_contradiction_suspends_the_node_besides() {
    let mut w = world(4, params());
    let drawn = w.drawn();
    let one = w.answer(&drawn, BURST_HASHES);
    let other = w.answer_with(&drawn, NonceSet { nonces: vec![1, 2, 3], ..one.set.clone() }, BURST_HASHES);
    let signed = |a: &Answer| SignedStatement { statement: a.statement(), signature: a.signature };
    let action = AuditAction::Contradiction { audit: drawn.number, one: signed(&one), other: signed(&other) };
    w.user_act(vec![Action::Audit(Box::new(action))]).unwrap();
    assert_eq!(jail(&w).map(|j| j.fault), Some(Fault::Equivocation));
}
