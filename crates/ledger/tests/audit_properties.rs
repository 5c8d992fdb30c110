//! Whatever is said about an audit, and in whatever order: the same verdict, and no invariant broken.

#![cfg(test)]

mod audit_common;
mod common;

use audit_common::*;
use common::*;
use pasture_ledger::*;
use pasture_types::audit::*;
use pasture_types::tx::*;
use proptest::prelude::*;

fn word() -> impl Strategy<Value = Word> {
    prop_oneof![4 => Just(Word::InTime), 1 => Just(Word::Late), 1 => Just(Word::Other), 1 => Just(Word::Silence)]
}

/// What is said about an audit.
#[derive(Clone, Debug)]
struct Talk {
    /// Of each witness: its word, how long it says the burst took, and a second word.
    words: Vec<(Word, u16, Option<Word>)>,
    /// Hashes of the node's answers: none, one, or two that contradict each other.
    answers: Vec<u64>,
    /// Somebody brings a second set that the node signed.
    evidence: bool,
}

fn talk() -> impl Strategy<Value = Talk> {
    let witness = (word(), 400u16..700, proptest::option::weighted(0.1, word()));
    let answers = prop_oneof![6 => Just(vec![BURST_HASHES]), 1 => Just(vec![]), 1 => Just(vec![BURST_HASHES, BURST_HASHES / 2])];
    (proptest::collection::vec(witness, 1..8), answers, proptest::bool::weighted(0.1)).prop_map(|(words, answers, evidence)| Talk {
        words,
        answers,
        evidence,
    })
}

/// Everything that is said, as actions.
fn actions(w: &World, audit: &AuditRecord, talk: &Talk) -> Vec<Action> {
    let mut out: Vec<Action> = vec![];
    let about = w.answer(audit, BURST_HASHES);
    for hashes in &talk.answers {
        out.push(Action::Audit(Box::new(AuditAction::Answers(vec![w.answer(audit, *hashes)]))));
    }
    for (i, (word, took, second)) in talk.words.iter().enumerate() {
        out.extend(w.word(audit, i, &about, *word, *took));
        out.extend(second.and_then(|second| w.word(audit, i, &about, second, *took)));
    }
    if talk.evidence {
        let said = |set: NonceSet| {
            let statement = Statement { set: set.digest(), shares: None };
            SignedStatement { statement, signature: w.node.sign(&statement_digest(&w.zone(), audit, &statement)) }
        };
        let (one, other) = (said(NonceSet { mask: 1, nonces: vec![1] }), said(NonceSet { mask: 1, nonces: vec![2] }));
        out.push(Action::Audit(Box::new(AuditAction::Contradiction { audit: audit.number, one, other })));
    }
    out
}

/// The verdict, and what is known of the node afterwards, when things are said in this order, each in a block of its own.
fn after(talk: &Talk, order: &[prop::sample::Index]) -> (Verdict, NodeAudit) {
    let mut w = world(u8::try_from(talk.words.len()).unwrap(), params());
    let audit = w.drawn();
    let mut all = actions(&w, &audit, talk);
    let mut shuffled = vec![];
    for index in order {
        if all.is_empty() {
            break;
        }
        shuffled.push(all.remove(index.index(all.len())));
    }
    shuffled.append(&mut all);
    for action in shuffled {
        // Some bring nothing new, in one order or another.
        let _ = w.say(action);
    }
    let verdict = w.until(audit.number).verdict.unwrap();
    (verdict, w.of_node())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn any_order_gives_the_same_verdict(talk in talk(), order in proptest::collection::vec(any::<prop::sample::Index>(), 24)) {
        prop_assert_eq!(after(&talk, &[]), after(&talk, &order));
    }

    #[test]
    fn a_verdict_is_what_the_spec_counts(talk in talk()) {
        let (verdict, _) = after(&talk, &[]);
        let n = talk.words.len();
        let contradicts = |a: &Word, b: &Word| !matches!((a, b), (_, Word::Silence) | (Word::Silence, _))
            && std::mem::discriminant(a) != std::mem::discriminant(b);
        let word_of = |(first, took, second): &(Word, u16, Option<Word>)| match second {
            Some(second) if contradicts(first, second) => (Word::Silence, *took),
            Some(second) if matches!(first, Word::Silence) => (*second, *took),
            _ => (*first, *took),
        };
        let words: Vec<_> = talk.words.iter().map(word_of).collect();
        let spoke = words.iter().filter(|(word, _)| !matches!(word, Word::Silence)).count();
        let in_time = words.iter().filter(|(word, took)| matches!(word, Word::InTime) && *took <= 650).count();
        let expected = if talk.evidence || talk.answers.len() == 2 {
            Verdict::Contradicted
        } else if 3 * spoke <= 2 * n {
            Verdict::Void
        } else if talk.answers.len() == 1 && 2 * in_time > n {
            Verdict::Passed
        } else {
            Verdict::Failed
        };
        prop_assert_eq!(verdict, expected);
    }
}

/// Many audits in a row, honest and cheating, with liars: invariants hold after every block (the world checks them).
#[test]
fn a_long_history_breaks_nothing() {
    let mut w = world(7, params());
    let terms = w.order_terms();
    let mut counts = std::collections::BTreeMap::<String, u32>::new();
    for round in 0..60u64 {
        if round % 10 == 0 {
            let order = w.place(terms_at(&w, &terms));
            w.wait(1_000);
            if let Some(lease) = query::lease_of_order(&w.state, &order) {
                let _ = w.node_act(vec![Action::AcceptLease { lease: lease.id }]);
            }
        }
        let audit = w.drawn();
        let word = match round % 12 {
            6 | 7 => Word::Late,
            8 | 9 => Word::Silence,
            10 => Word::Other,
            _ => Word::InTime,
        };
        w.run(&audit, BURST_HASHES, &|i| if i < 2 { Word::Late } else { word });
        let verdict = w.until(audit.number).verdict.unwrap();
        *counts.entry(format!("{verdict:?}")).or_default() += 1;
    }
    assert_eq!(counts.len(), 3, "{counts:?}");
    let r = w.of_node();
    assert!(r.passes >= 20 && r.failures >= 3 && r.voids >= 1 && r.proven_ppm == 1_000_000, "{r:?}");
}

fn terms_at(w: &World, terms: &pasture_types::market::OrderTerms) -> pasture_types::market::OrderTerms {
    pasture_types::market::OrderTerms { expires: w.now.plus(pasture_types::Millis::secs(60)), ..terms.clone() }
}
