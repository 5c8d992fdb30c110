//! Credentials: who may put one, what it answers, and what a replayed, expired or revoked one does not. Spec: `docs/specs/accounts.md` §5.

#![cfg(test)]

mod common;
mod town;

use common::*;
use pasture_ledger::*;
use pasture_types::credential::*;
use pasture_types::event::Event;
use pasture_types::genesis::Params;
use pasture_types::governance::{Change, MAX_CHANGES, MAX_ISSUERS};
use pasture_types::market::Rates;
use pasture_types::tx::*;
use pasture_types::*;

const DAY: Millis = Millis(24 * 3_600_000);

fn code<T: std::fmt::Debug>(r: Result<T, TxError>) -> u16 {
    r.unwrap_err().code()
}

/// The user of these worlds is the issuer.
fn statement(w: &World, claim: Assertion) -> Statement {
    Statement { subject: Subject::Node(w.node.node_id()), claim, issuer: w.user.account(), issued: w.now, expires: w.now.plus(DAY) }
}

fn tier(n: u8) -> Assertion {
    Assertion::DataCentreTier { tier: n }
}

fn signed(w: &World, statement: &Statement) -> Vec<IssuerSignature> {
    vec![IssuerSignature { key: w.user.public(), signature: w.user.sign(&statement.digest(&w.genesis.zone())) }]
}

fn put_action(w: &World, statement: &Statement) -> Action {
    Action::Credential(CredentialAction::Put { statement: Box::new(statement.clone()), signatures: signed(w, statement) })
}

fn put(w: &mut World, statement: &Statement) -> Result<Vec<Event>, TxError> {
    let (provider, action) = (w.provider.clone(), put_action(w, statement));
    w.act(&provider, vec![action])
}

fn has(w: &World, kind: CredentialKind, at_least: u64) -> bool {
    let query = CredentialQuery { issuer: Some(w.user.account()), kind, at_least };
    query::has_credential(&w.state, &w.provider.account(), &w.node.node_id(), &query)
}

#[test]
fn a_credential_answers_queries_of_its_kind_issuer_and_bound() {
    let mut w = World::offered();
    let s = statement(&w, tier(3));
    put(&mut w, &s).unwrap();
    assert!(has(&w, CredentialKind::DataCentreTier, 3) && has(&w, CredentialKind::DataCentreTier, 1));
    assert!(!has(&w, CredentialKind::DataCentreTier, 4) && !has(&w, CredentialKind::Audit, 0));
    let other = CredentialQuery { issuer: Some(w.operator.account()), kind: CredentialKind::DataCentreTier, at_least: 1 };
    assert!(!query::has_credential(&w.state, &w.provider.account(), &w.node.node_id(), &other));
    let anybody = CredentialQuery { issuer: None, ..other };
    assert!(!query::has_credential(&w.state, &w.provider.account(), &w.node.node_id(), &anybody), "the zone accepts nobody's word");
    // Carbon is bounded from above; a provider's credential covers its nodes.
    let mut green = statement(&w, Assertion::Carbon { grams_per_kwh: 120 });
    green.subject = Subject::Provider(w.provider.account());
    put(&mut w, &green).unwrap();
    assert!(has(&w, CredentialKind::Carbon, 120) && has(&w, CredentialKind::Carbon, 400) && !has(&w, CredentialKind::Carbon, 119));
    assert!(!query::has_credential(
        &w.state,
        &key(9).account(),
        &NodeId([9; 32]),
        &CredentialQuery { issuer: Some(w.user.account()), kind: CredentialKind::Carbon, at_least: 400 }
    ));
    assert_eq!(query::credentials_of(&w.state, &green.subject).len(), 1);
}

#[test]
fn an_issuer_that_the_zone_accepts_counts_without_being_named_and_puts_itself() {
    let mut w = town::town(Params::dev());
    w.offer();
    let issuer = w.user.account();
    town::enact(&mut w, vec![Change::AcceptIssuer(issuer)]);
    let s = statement(&w, Assertion::Audit { report: BlobHash([5; 32]), level: 2 });
    let action = put_action(&w, &s);
    w.user_act(vec![action]).unwrap();
    let query = CredentialQuery { issuer: None, kind: CredentialKind::Audit, at_least: 2 };
    assert!(query::has_credential(&w.state, &w.provider.account(), &w.node.node_id(), &query));
    // One list: who is voted off it is believed no more, and what it said before counts for nobody who does not name it.
    town::enact(&mut w, vec![Change::DropIssuer(issuer)]);
    assert!(!query::has_credential(&w.state, &w.provider.account(), &w.node.node_id(), &query));
    let again = Statement { issued: w.now, ..s };
    let action = put_action(&w, &again);
    assert_eq!(code(w.user_act(vec![action])), 80);
    let many: Vec<Change> = (0..MAX_ISSUERS as u8).map(|n| Change::AcceptIssuer(AccountId([n; 32]))).collect();
    for part in many.chunks(MAX_CHANGES) {
        town::enact(&mut w, part.to_vec());
    }
    assert_eq!(code(town::propose(&mut w, vec![Change::AcceptIssuer(issuer)])), 5, "the list has an end");
    town::enact(&mut w, vec![Change::AcceptIssuer(AccountId([1; 32]))]);
    let mut w = World::offered();
    let s = statement(&w, tier(2));
    let action = put_action(&w, &s);
    assert_eq!(code(w.user_act(vec![action])), 80, "anybody is an issuer, so it must not fill a stranger's places");
    let own = Statement { issuer: w.provider.account(), ..s };
    let provider = w.provider.clone();
    let signatures = vec![IssuerSignature { key: provider.public(), signature: provider.sign(&own.digest(&w.genesis.zone())) }];
    let action = Action::Credential(CredentialAction::Put { statement: Box::new(own), signatures });
    assert_eq!(code(w.act(&provider, vec![action])), 80, "nobody certifies itself");
}

#[test]
fn a_statement_holds_for_its_zone_subject_and_words_only() {
    let mut w = World::offered();
    let good = statement(&w, tier(2));
    let signatures = signed(&w, &good);
    let provider = w.provider.clone();
    let changes: [&dyn Fn(&mut Statement); 4] =
        [&|s| s.subject = Subject::Provider(key(2).account()), &|s| s.claim = tier(4), &|s| s.expires = s.expires.plus(Millis(1)), &|s| {
            s.issued = Timestamp(s.issued.0 - 1)
        }];
    for change in changes {
        let mut other = good.clone();
        change(&mut other);
        let action = Action::Credential(CredentialAction::Put { statement: Box::new(other), signatures: signatures.clone() });
        assert_eq!(code(w.act(&provider, vec![action])), 20);
    }
    let abroad = vec![IssuerSignature { key: w.user.public(), signature: w.user.sign(&good.digest(&ZoneId([1; 32]))) }];
    for (signatures, want) in [
        (abroad, 20),
        (vec![], 22),
        (vec![signatures[0], signatures[0]], 80),
        (vec![IssuerSignature { key: key(9).public(), signature: key(9).sign(&good.digest(&w.genesis.zone())) }], 21),
    ] {
        let action = Action::Credential(CredentialAction::Put { statement: Box::new(good.clone()), signatures });
        assert_eq!(code(w.act(&provider, vec![action])), want);
    }
    let stranger = w.operator.clone();
    w.user_act(vec![Action::Transfer { to: stranger.account(), asset: AssetId::CREDIT, amount: Amount::credits(1) }]).unwrap();
    w.act(&stranger, vec![Action::RegisterAccount { keys: vec![stranger.public()], threshold: 1 }]).unwrap();
    let action = put_action(&w, &good);
    assert_eq!(code(w.act(&stranger, vec![action])), 80, "somebody else's certificate");
    put(&mut w, &good).unwrap();
}

#[test]
fn a_credential_ends_with_its_time_even_before_it_is_removed() {
    let mut w = World::offered();
    let mut s = statement(&w, tier(2));
    s.expires = w.now.plus(Millis::secs(60));
    put(&mut w, &s).unwrap();
    assert!(has(&w, CredentialKind::DataCentreTier, 2));
    // A halt lengthens windows, and the record stays; the issuer's word does not get longer by it.
    let lease = w.accepted(w.order_terms());
    w.block(3_600_000, &[]);
    assert!(query::credential(&w.state, &s.id()).is_some());
    assert!(!has(&w, CredentialKind::DataCentreTier, 2));
    w.close_by_node(&lease);
    w.wait(DAY.0);
    assert_eq!(query::credential(&w.state, &s.id()), None);
    assert!(w.events.contains(&Event::Credential(CredentialEvent::Ended { credential: s.id(), subject: s.subject })));
    assert_eq!(code(put(&mut w, &s)), 80);
    for (issued, expires) in [(0, MAX_CREDENTIAL_LIFE.0 + 1), (3_600_000, 7_200_000)] {
        let bad = Statement { issued: w.now.plus(Millis(issued)), expires: w.now.plus(Millis(expires)), ..s.clone() };
        assert_eq!(code(put(&mut w, &bad)), 80);
    }
    let silly = statement(&w, tier(5));
    assert_eq!(code(put(&mut w, &silly)), 80);
}

#[test]
fn a_revoked_credential_does_not_come_back() {
    let mut w = World::offered();
    let (first, mut spare) = (statement(&w, tier(2)), statement(&w, tier(3)));
    spare.issued = w.now.plus(Millis(500));
    put(&mut w, &first).unwrap();
    let revoke = Action::Credential(CredentialAction::Revoke { subject: first.subject, kind: CredentialKind::DataCentreTier });
    let stranger = w.provider.clone();
    w.act(&stranger, vec![revoke.clone()]).unwrap();
    assert!(has(&w, CredentialKind::DataCentreTier, 2), "whoever revokes, revokes its own word");
    w.user_act(vec![revoke.clone()]).unwrap();
    assert!(!has(&w, CredentialKind::DataCentreTier, 2));
    assert_eq!(code(put(&mut w, &first)), 80, "the signed statement still exists, and is void");
    assert_eq!(code(put(&mut w, &spare)), 80, "so is one that was never put");
    w.wait(120_000);
    let later = statement(&w, tier(1));
    put(&mut w, &later).unwrap();
    assert!(has(&w, CredentialKind::DataCentreTier, 1));
    assert_eq!(code(put(&mut w, &later)), 80, "the same one again");
    w.user_act(vec![revoke.clone()]).unwrap();
    w.user_act(vec![revoke]).unwrap();
    assert!(!has(&w, CredentialKind::DataCentreTier, 1));
    // Revocations are forgotten once everything that they void has expired.
    w.wait(MAX_CREDENTIAL_LIFE.0 + 300_000);
    assert_eq!(code(put(&mut w, &first)), 80, "expired");
}

#[test]
fn a_subject_removes_what_is_about_it_and_has_a_bounded_number() {
    let mut w = World::offered();
    let s = statement(&w, tier(2));
    put(&mut w, &s).unwrap();
    let withdraw = Action::Credential(CredentialAction::Withdraw { credential: s.id() });
    assert_eq!(code(w.user_act(vec![withdraw.clone()])), 42);
    let provider = w.provider.clone();
    w.act(&provider, vec![withdraw.clone()]).unwrap();
    assert!(!has(&w, CredentialKind::DataCentreTier, 2));
    assert_eq!(code(w.act(&provider, vec![withdraw])), 40);
    // Sixteen issuers each certify one kind: the next one finds no room, a newer word of one of them does.
    let mut signers = vec![];
    for n in 100..117u8 {
        let issuer = key(n);
        w.user_act(vec![Action::Transfer { to: issuer.account(), asset: AssetId::CREDIT, amount: Amount(10_000_000) }]).unwrap();
        w.act(&issuer, vec![Action::RegisterAccount { keys: vec![issuer.public()], threshold: 1 }]).unwrap();
        signers.push(issuer);
    }
    let by = |w: &World, issuer: &SigningKey, at: Timestamp| {
        let s = Statement { issuer: issuer.account(), issued: at, ..statement(w, tier(1)) };
        let signatures = vec![IssuerSignature { key: issuer.public(), signature: issuer.sign(&s.digest(&w.genesis.zone())) }];
        vec![Action::Credential(CredentialAction::Put { statement: Box::new(s), signatures })]
    };
    for (n, issuer) in signers.iter().enumerate() {
        let actions = by(&w, issuer, w.now);
        assert_eq!(w.act(&provider, actions).is_ok(), n < MAX_CREDENTIALS, "issuer {n}");
    }
    let newer = by(&w, &signers[0], w.now);
    w.act(&provider, newer).unwrap();
}

#[test]
fn a_region_counts_only_where_the_node_says_it_stands() {
    let mut w = World::offered();
    let s = statement(&w, Assertion::Region { region: "eu-west".into(), level: 2 });
    put(&mut w, &s).unwrap();
    assert!(has(&w, CredentialKind::Region, 2) && !has(&w, CredentialKind::Region, 3));
    let mut elsewhere = offer_terms();
    (elsewhere.region, elsewhere.rates) = ("us-east".into(), Rates::default());
    let (provider, node) = (w.provider.clone(), w.node.node_id());
    w.act(&provider, vec![Action::PutOffer { node, number: 1, terms: Box::new(elsewhere) }]).unwrap();
    assert!(!has(&w, CredentialKind::Region, 2), "a machine is in one place");
    let bad = statement(&w, Assertion::Region { region: "EU West".into(), level: 2 });
    assert_eq!(code(put(&mut w, &bad)), 6);
}
