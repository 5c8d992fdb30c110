//! What the ledger keeps of a credential, and where. Spec: `docs/specs/accounts.md` §5.
//!
//! Guarantees: frozen by golden fixtures; one record per subject, kind and issuer.

use crate::tables::{get, key, put};
use borsh::{BorshDeserialize, BorshSerialize};
use pasture_types::credential::{CredentialKind, Statement, Subject};
use pasture_types::state::{StateRead, StateWrite};
use pasture_types::{AccountId, CredentialId, Timestamp};

/// credential -> [`Credential`]
pub(crate) const CREDENTIAL: u8 = 0x30;
/// subject, kind, credential -> issuer
pub(crate) const CREDENTIAL_OF: u8 = 0x31;
/// credential -> [`Cutoff`]
pub(crate) const CUTOFF: u8 = 0x32;

/// A statement that stands.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Credential {
    /// Which.
    pub id: CredentialId,
    /// What is stated.
    pub statement: Statement,
    /// Since when it is on the ledger.
    pub put_at: Timestamp,
    /// When it is removed, less halts.
    pub timer_shifted: Timestamp,
}

/// An issuer's word taken back: nothing it issued until then counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Cutoff {
    /// Statements issued until then are void.
    pub issued_until: Timestamp,
    /// When it is removed, less halts: whatever it voids has expired by then.
    pub timer_shifted: Timestamp,
}

pub(crate) fn credential_key(id: &CredentialId) -> Vec<u8> {
    key(CREDENTIAL, &[&id.0])
}

pub(crate) fn credential(s: &dyn StateRead, id: &CredentialId) -> Option<Credential> {
    get(s, &credential_key(id))
}

pub(crate) fn put_credential(s: &mut dyn StateWrite, credential: &Credential) {
    put(s, credential_key(&credential.id), credential);
}

pub(crate) fn cutoff_key(id: &CredentialId) -> Vec<u8> {
    key(CUTOFF, &[&id.0])
}

pub(crate) fn cutoff(s: &dyn StateRead, id: &CredentialId) -> Option<Cutoff> {
    get(s, &cutoff_key(id))
}

/// All index entries of a subject begin with this.
pub(crate) fn of_subject(subject: &Subject) -> Vec<u8> {
    match subject {
        Subject::Provider(p) => key(CREDENTIAL_OF, &[&[0], &p.0]),
        Subject::Node(n) => key(CREDENTIAL_OF, &[&[1], &n.0]),
    }
}

/// All index entries of a subject and a kind begin with this.
pub(crate) fn of_kind(subject: &Subject, kind: CredentialKind) -> Vec<u8> {
    let mut k = of_subject(subject);
    k.push(kind as u8);
    k
}

pub(crate) fn index_key(subject: &Subject, kind: CredentialKind, id: &CredentialId) -> Vec<u8> {
    let mut k = of_kind(subject, kind);
    k.extend_from_slice(&id.0);
    k
}

/// The issuer that an index entry names.
pub(crate) fn index_issuer(s: &dyn StateRead, k: &[u8]) -> Option<AccountId> {
    get(s, k)
}
