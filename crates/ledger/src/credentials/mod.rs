//! Credentials: put, revoked, withdrawn, pruned, and whether one answers an order. Spec: `docs/specs/accounts.md` §5.
//!
//! Guarantees: a credential stands only by its issuer's signature over this zone and this subject; one per subject, kind and
//! issuer; a revoked one cannot be put again; one whose time is over answers nothing, even before it is removed. Whether a
//! statement is true is its issuer's word.

mod check;
mod records;

use crate::apply::Tx;
use crate::env::Env;
use crate::error::TxError;
use crate::tables::{self, OFFER_OF_NODE, TimerKind, key, keys_with, mark, put, tail_id, timer_key};
use crate::{auth, cost, seams, validate};
use pasture_types::credential::{
    Assertion, CredentialAction, CredentialEvent, CredentialKind, CredentialQuery, IssuerSignature, MAX_CREDENTIAL_LIFE, MAX_CREDENTIALS,
    Statement, Subject, credential_id,
};
use pasture_types::event::Event;
use pasture_types::state::{StateRead, StateWrite};
use pasture_types::{AccountId, CredentialId, Millis, NodeId, OfferId, PublicKey};

pub(crate) use check::check;
pub(crate) use records::{CREDENTIAL_OF, credential, cutoff};
pub use records::{Credential, Cutoff};

/// Highest tier of a data centre.
const MAX_TIER: u8 = 4;
/// How far an issuer's clock may be ahead of the block's.
const ISSUE_SLACK: Millis = Millis(60_000);
/// Offers of a node that are looked at for its region: as many as a node may have.
const MAX_OFFERS_SEEN: usize = 16;

/// The measured cost of an action on credentials, in microseconds.
pub(crate) fn cost_us(action: &CredentialAction) -> u32 {
    match action {
        CredentialAction::Put { signatures, .. } => {
            signatures.iter().map(|s| cost::signature_us(&s.signature)).fold(20, u32::saturating_add)
        }
        CredentialAction::Revoke { .. } | CredentialAction::Withdraw { .. } => 15,
    }
}

/// Applies an action on credentials.
pub(crate) fn apply(s: &mut dyn StateWrite, tx: &mut Tx<'_>, action: &CredentialAction) -> Result<(), TxError> {
    match action {
        CredentialAction::Put { statement, signatures } => put_statement(s, tx, statement, signatures),
        CredentialAction::Revoke { subject, kind } => revoke(s, tx, subject, *kind),
        CredentialAction::Withdraw { credential: id } => {
            let found = credential(s, id).ok_or_else(|| TxError::unknown("certificate", id))?;
            if owner(s, &found.statement.subject) != Some(tx.account) {
                return Err(TxError::NotYours("the certificate's subject"));
            }
            remove(s, &found);
            tx.events.push(Event::Credential(CredentialEvent::Ended { credential: *id, subject: found.statement.subject }));
            Ok(())
        }
    }
}

/// The provider that a subject is, or belongs to.
fn owner(s: &dyn StateRead, subject: &Subject) -> Option<AccountId> {
    match subject {
        Subject::Provider(p) => tables::provider(s, p).map(|p| p.account),
        Subject::Node(n) => tables::node(s, n).map(|n| n.provider),
    }
}

/// The form of a statement, and its times.
fn check_statement(env: &Env, statement: &Statement) -> Result<(), TxError> {
    let refused = |why| Err(TxError::Credential(why));
    match &statement.claim {
        Assertion::DataCentreTier { tier } if *tier == 0 || *tier > MAX_TIER => return refused("a data centre's tier is 1 to 4"),
        Assertion::Region { region, .. } => validate::region(region)?,
        Assertion::DataCentreTier { .. } | Assertion::Carbon { .. } | Assertion::Audit { .. } => {}
    }
    if statement.expires <= env.now() {
        return refused("it has expired; ask its issuer for a new one");
    }
    if statement.issued > env.now().plus(ISSUE_SLACK) {
        return refused("it was issued in the future; wait, or check the issuer's clock");
    }
    if statement.expires.since(statement.issued) > MAX_CREDENTIAL_LIFE {
        return refused("it lasts longer than two years");
    }
    Ok(())
}

fn put_statement(s: &mut dyn StateWrite, tx: &mut Tx<'_>, statement: &Statement, signatures: &[IssuerSignature]) -> Result<(), TxError> {
    let env = tx.env;
    check_statement(env, statement)?;
    let subject = statement.subject;
    let owner = owner(s, &subject).ok_or(TxError::Credential("its subject is not registered"))?;
    if owner == statement.issuer {
        return Err(TxError::Credential("nobody certifies itself"));
    }
    // Anybody may be an issuer, so an unknown one must not fill a stranger's places.
    if tx.account != owner && !(tx.account == statement.issuer && seams::issuer_accepted(s, &statement.issuer)) {
        return Err(TxError::Credential("only its subject, or an issuer that the network accepts, puts it"));
    }
    check_signatures(s, env, statement, signatures)?;
    let id = statement.id();
    if cutoff(s, &id).is_some_and(|c| statement.issued <= c.issued_until) {
        return Err(TxError::Credential("its issuer has taken it back; ask for a new one"));
    }
    match credential(s, &id) {
        Some(old) if statement.issued <= old.statement.issued => {
            return Err(TxError::Credential("the one that stands is as new; ask its issuer for a later one"));
        }
        Some(old) => remove(s, &old),
        None => {
            let standing = keys_with(s, &records::of_subject(&subject), MAX_CREDENTIALS).len() as u64;
            validate::at_most("certificates of this subject (remove one first)", standing + 1, MAX_CREDENTIALS as u64)?;
        }
    }
    let timer_shifted = env.shift(statement.expires);
    records::put_credential(s, &Credential { id, statement: statement.clone(), put_at: env.now(), timer_shifted });
    put(s, records::index_key(&subject, statement.claim.kind(), &id), &statement.issuer);
    mark(s, timer_key(timer_shifted, TimerKind::Credential, &id.0));
    tx.events.push(Event::Credential(CredentialEvent::Put { credential: id, subject, issuer: statement.issuer }));
    Ok(())
}

/// As many of the issuer's keys as its threshold signed this statement for this zone.
fn check_signatures(s: &dyn StateRead, env: &Env, statement: &Statement, signatures: &[IssuerSignature]) -> Result<(), TxError> {
    let whose = "the certificate's issuer";
    let account = tables::account(s, &statement.issuer).ok_or_else(|| TxError::UnknownAccount(statement.issuer.short()))?;
    let keys: Vec<PublicKey> = signatures.iter().map(|x| x.key).collect();
    if keys.iter().enumerate().any(|(i, k)| keys.iter().skip(i + 1).any(|other| other == k)) {
        return Err(TxError::Credential("a key signed twice; each signs once"));
    }
    auth::enough(&account, &keys, whose)?;
    let digest = statement.digest(&env.zone.id);
    for x in signatures {
        x.key.verify(&digest, &x.signature).map_err(|source| TxError::Signature { whose: "certificate", source })?;
    }
    Ok(())
}

fn revoke(s: &mut dyn StateWrite, tx: &mut Tx<'_>, subject: &Subject, kind: CredentialKind) -> Result<(), TxError> {
    let id = credential_id(subject, kind, &tx.account);
    if let Some(standing) = credential(s, &id) {
        remove(s, &standing);
    }
    if let Some(old) = cutoff(s, &id) {
        s.delete(&timer_key(old.timer_shifted, TimerKind::Credential, &id.0));
    }
    // What was issued with a clock that is ahead is void too.
    let issued_until = tx.env.now().plus(ISSUE_SLACK);
    let timer_shifted = tx.env.shift(issued_until.plus(MAX_CREDENTIAL_LIFE));
    put(s, records::cutoff_key(&id), &Cutoff { issued_until, timer_shifted });
    mark(s, timer_key(timer_shifted, TimerKind::Credential, &id.0));
    tx.events.push(Event::Credential(CredentialEvent::Revoked { credential: id, subject: *subject }));
    Ok(())
}

fn remove(s: &mut dyn StateWrite, credential: &Credential) {
    let statement = &credential.statement;
    s.delete(&records::credential_key(&credential.id));
    s.delete(&records::index_key(&statement.subject, statement.claim.kind(), &credential.id));
    s.delete(&timer_key(credential.timer_shifted, TimerKind::Credential, &credential.id.0));
}

/// A credential's or a cutoff's time is over.
pub(crate) fn timer(s: &mut dyn StateWrite, env: &Env, id: &CredentialId, events: &mut Vec<Event>) {
    if let Some(found) = credential(s, id).filter(|c| c.timer_shifted <= env.shifted()) {
        remove(s, &found);
        events.push(Event::Credential(CredentialEvent::Ended { credential: *id, subject: found.statement.subject }));
    }
    if cutoff(s, id).is_some_and(|c| c.timer_shifted <= env.shifted()) {
        s.delete(&records::cutoff_key(id));
    }
}

/// Credentials of a subject.
pub(crate) fn of_subject(s: &dyn StateRead, subject: &Subject) -> Vec<Credential> {
    let found = keys_with(s, &records::of_subject(subject), MAX_CREDENTIALS);
    found.iter().filter_map(|k| credential(s, &CredentialId(tail_id(k)?))).collect()
}

/// Whether a node, or its provider, has a credential that answers a query.
pub(crate) fn has(s: &dyn StateRead, env: &Env, provider: &AccountId, node: &NodeId, query: &CredentialQuery) -> bool {
    [Subject::Node(*node), Subject::Provider(*provider)].iter().any(|subject| {
        let ids: Vec<CredentialId> = match &query.issuer {
            Some(issuer) => vec![credential_id(subject, query.kind, issuer)],
            None => keys_with(s, &records::of_kind(subject, query.kind), MAX_CREDENTIALS)
                .iter()
                .filter(|k| records::index_issuer(s, k).is_some_and(|issuer| seams::issuer_accepted(s, &issuer)))
                .filter_map(|k| tail_id(k).map(CredentialId))
                .collect(),
        };
        ids.iter().filter_map(|id| credential(s, id)).any(|c| answers(s, env, node, query, &c.statement))
    })
}

fn answers(s: &dyn StateRead, env: &Env, node: &NodeId, query: &CredentialQuery, statement: &Statement) -> bool {
    let stands = statement.expires > env.now() && query.kind.answers(statement.claim.number(), query.at_least);
    match &statement.claim {
        Assertion::Region { region, .. } => stands && offers_lie_in(s, node, region),
        Assertion::DataCentreTier { .. } | Assertion::Carbon { .. } | Assertion::Audit { .. } => stands,
    }
}

/// Whether every offer of a node names a region: a machine is in one place.
fn offers_lie_in(s: &dyn StateRead, node: &NodeId, region: &str) -> bool {
    let offers = keys_with(s, &key(OFFER_OF_NODE, &[&node.0]), MAX_OFFERS_SEEN);
    offers.iter().filter_map(|k| tables::offer(s, &OfferId(tail_id(k)?))).all(|o| o.terms.region == region)
}
