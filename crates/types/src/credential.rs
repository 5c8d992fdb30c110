//! Credentials: signed statements of an issuer about a provider or one of its nodes. Spec: `docs/specs/accounts.md` §5.
//!
//! Guarantees: what an order may ask of them has one meaning per kind. It does not judge who may be believed: the order
//! names the issuer, or the zone's accepted list does.

use crate::AccountId;
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn carbon_is_bounded_from_above_and_the_rest_from_below() {
        assert!(CredentialKind::Carbon.answers(120, 200) && !CredentialKind::Carbon.answers(201, 200));
        assert!(CredentialKind::DataCentreTier.answers(3, 3) && !CredentialKind::DataCentreTier.answers(2, 3));
    }
}
