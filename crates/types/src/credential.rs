//! Credentials: signed statements of an issuer about a provider or one of its nodes. Spec: `docs/specs/accounts.md` §5.
//!
//! Guarantees: what an order may ask of them has one meaning per kind. It does not judge who may be believed: the order
//! names the issuer, or the zone's accepted list does.

use crate::ids::derive;
use crate::keys::Signature;
use crate::{AccountId, BlobHash, CredentialId, Millis, NodeId, PublicKey, Timestamp, ZoneId};
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

/// Longest life of a credential, from issue to expiry.
pub const MAX_CREDENTIAL_LIFE: Millis = Millis(2 * 366 * 24 * 3_600_000);
/// Most credentials about one provider or one node.
pub const MAX_CREDENTIALS: usize = 16;

const CREDENTIAL_DOMAIN: &str = "pasture 2026-11 credential id v1";
const STATEMENT_DOMAIN: &str = "pasture 2026-11 credential statement v1";

/// What a credential states. The number that it carries means, by kind:
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CredentialKind {
    /// The tier of the data centre, 1 to 4. A query asks for this tier or a higher one.
    DataCentreTier,
    /// Grams of CO2 per kWh of its power. A query's bound is an upper one: at most so much.
    Carbon,
    /// The region was verified; the number is the level of that check (1: documents, 2: visited, 3: measured). The credential
    /// names the region, and it counts only while the offer is in that very region. A query asks for this level or a higher one.
    Region,
    /// An audit report; the number is its level, the credential carries the report's hash. A query asks for this level or a higher one.
    Audit,
}

/// What an order asks of a provider's or node's credentials.
///
/// It holds if a credential of this kind stands (neither expired nor revoked), is about the node or about its provider, and
/// comes from `issuer` or, if none is named, from an issuer that the zone accepts; and its number is at least `at_least`
/// (for [`CredentialKind::Carbon`]: at most).
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct CredentialQuery {
    /// Whose word counts; `None`: that of every issuer the zone accepts.
    pub issuer: Option<AccountId>,
    /// What it must state.
    pub kind: CredentialKind,
    /// The bound on its number: a lower one, for carbon an upper one.
    pub at_least: u64,
}

impl CredentialKind {
    /// Whether a stated number answers a query's bound.
    #[must_use]
    pub const fn answers(self, stated: u64, bound: u64) -> bool {
        match self {
            Self::Carbon => stated <= bound,
            Self::DataCentreTier | Self::Region | Self::Audit => stated >= bound,
        }
    }
}

/// About whom.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// A provider: all of its nodes.
    Provider(AccountId),
    /// One node.
    Node(NodeId),
}

/// What is stated.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Assertion {
    /// The data centre's tier, 1 to 4.
    DataCentreTier {
        /// Which.
        tier: u8,
    },
    /// What its power emits.
    Carbon {
        /// Grams of CO2 per kWh.
        grams_per_kwh: u32,
    },
    /// Where it stands.
    Region {
        /// The region's name as offers write it.
        region: String,
        /// How it was checked: 1 by documents, 2 by a visit, 3 by measuring.
        level: u8,
    },
    /// It was audited.
    Audit {
        /// Hash of the report.
        report: BlobHash,
        /// The report's level, as its issuer defines it.
        level: u8,
    },
}

impl Assertion {
    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> CredentialKind {
        match self {
            Self::DataCentreTier { .. } => CredentialKind::DataCentreTier,
            Self::Carbon { .. } => CredentialKind::Carbon,
            Self::Region { .. } => CredentialKind::Region,
            Self::Audit { .. } => CredentialKind::Audit,
        }
    }
    /// The number that queries compare.
    #[must_use]
    pub fn number(&self) -> u64 {
        match self {
            Self::DataCentreTier { tier } => u64::from(*tier),
            Self::Carbon { grams_per_kwh } => u64::from(*grams_per_kwh),
            Self::Region { level, .. } | Self::Audit { level, .. } => u64::from(*level),
        }
    }
}

/// A statement of an issuer about a subject.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Statement {
    /// About whom.
    pub subject: Subject,
    /// What.
    pub claim: Assertion,
    /// By whom.
    pub issuer: AccountId,
    /// Since when; a later one of the same issuer, kind and subject replaces an earlier one.
    pub issued: Timestamp,
    /// Until when, at most [`MAX_CREDENTIAL_LIFE`] after it was issued. A halt of the network does not lengthen it.
    pub expires: Timestamp,
}

impl Statement {
    /// What the issuer's keys sign: it binds the zone and everything stated.
    #[must_use]
    pub fn digest(&self, zone: &ZoneId) -> [u8; 32] {
        derive(STATEMENT_DOMAIN, &[&zone.0, &crate::codec::encode(self)])
    }
    /// The credential that it is, or replaces.
    #[must_use]
    pub fn id(&self) -> CredentialId {
        credential_id(&self.subject, self.claim.kind(), &self.issuer)
    }
}

/// The credential of one kind that one issuer gave one subject: there is one at a time.
#[must_use]
pub fn credential_id(subject: &Subject, kind: CredentialKind, issuer: &AccountId) -> CredentialId {
    CredentialId(derive(CREDENTIAL_DOMAIN, &[&crate::codec::encode(subject), &crate::codec::encode(&kind), &issuer.0]))
}

/// One key's signature over a statement.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct IssuerSignature {
    /// One of the issuer's keys.
    pub key: PublicKey,
    /// Over [`Statement::digest`].
    pub signature: Signature,
}

/// What is done with credentials.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub enum CredentialAction {
    /// Puts a statement on the ledger: by the provider that it is about (or whose node it is about), or by its issuer if the
    /// zone accepts that issuer's word.
    Put {
        /// The statement.
        statement: Box<Statement>,
        /// As many of the issuer's keys as its threshold, each once.
        signatures: Vec<IssuerSignature>,
    },
    /// The issuer takes its word back: nothing that it issued so far of this kind about this subject counts any more.
    Revoke {
        /// About whom.
        subject: Subject,
        /// What kind.
        kind: CredentialKind,
    },
    /// The subject's provider removes a credential.
    Withdraw {
        /// Which.
        credential: CredentialId,
    },
}

/// What became of a credential.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "change")]
pub enum CredentialEvent {
    /// It stands.
    Put {
        /// Which.
        credential: CredentialId,
        /// About whom.
        subject: Subject,
        /// By whom.
        issuer: AccountId,
    },
    /// Its issuer took it back.
    Revoked {
        /// Which.
        credential: CredentialId,
        /// About whom.
        subject: Subject,
    },
    /// Its subject removed it, or it expired.
    Ended {
        /// Which.
        credential: CredentialId,
        /// About whom.
        subject: Subject,
    },
}

impl CredentialEvent {
    /// About whom the credential is.
    #[must_use]
    pub const fn subject(&self) -> Subject {
        match self {
            Self::Put { subject, .. } | Self::Revoked { subject, .. } | Self::Ended { subject, .. } => *subject,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn carbon_is_bounded_from_above_and_the_rest_from_below() {
        assert!(CredentialKind::Carbon.answers(120, 200) && !CredentialKind::Carbon.answers(201, 200));
        assert!(CredentialKind::DataCentreTier.answers(3, 3) && !CredentialKind::DataCentreTier.answers(2, 3));
    }
}
