//! Grants: rights that an account lends to another key, within a budget and until an expiry. Spec: `docs/specs/accounts.md` §1.
//!
//! ```text
//!  created --use--> (spent grows, never shrinks) --expiry, revocation, new keys of the account, last use--> gone
//! ```
//! Guarantees: kinds of actions have stable numbers; a code (an invite's, a fleet's) names its zone and is checked for typing errors. It
//! does not enforce anything: the ledger does.

use crate::ids::derive;
use crate::keys::{Signature, SigningKey};
use crate::tx::Action;
use crate::{AccountId, Amount, AssetId, GrantId, Millis, PublicKey, Timestamp, TxId, ZoneId};
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use std::io;

/// Most kinds of actions in a grant.
pub const MAX_KINDS: usize = 32;
/// Most assets in a budget.
pub const MAX_BUDGETS: usize = 4;
/// Most recipients in a grant.
pub const MAX_RECIPIENTS: usize = 16;
/// Longest life of a grant.
pub const MAX_GRANT_LIFE: Millis = Millis(366 * 24 * 3_600_000);
/// Most machines that one grant adds.
pub const MAX_ENROLLED: u32 = 10_000;
/// Lanes of a grant: 0 to 7. Fewer than an account's, since they are removed with the grant.
pub const MAX_GRANT_LANES: u8 = 8;

const GRANT_DOMAIN: &str = "pasture 2026-11 grant id v1";
const CLAIM_DOMAIN: &str = "pasture 2026-11 invite claim v1";
const INVITE_DOMAIN: &str = "pasture 2026-11 invite code v1";
const ENROLL_DOMAIN: &str = "pasture 2026-11 enrolment code v1";
/// The first action that wraps the actions of one area.
pub(crate) const FIRST_FAMILY: u8 = 18;
/// What an invite's code begins with.
const INVITE_PREFIX: &str = "pasture-invite-";
/// What the code of a fleet begins with.
const ENROLL_PREFIX: &str = "pasture-enroll-";
/// Bytes of a code's part: zone, grant, account, seed.
const PART: usize = 32;
/// Bytes of a code's checksum.
const CHECKSUM: usize = 4;

/// The stable number of a kind of action: its number in the canonical encoding times 256, plus, for actions that wrap those of
/// one area, the number within.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ActionKind(pub u16);

/// Keeps the first two bytes of what is written and refuses the rest.
struct Head {
    bytes: [u8; 2],
    len: usize,
}

impl io::Write for Head {
    fn write(&mut self, more: &[u8]) -> io::Result<usize> {
        match (self.bytes.get_mut(self.len), more.first()) {
            (Some(slot), Some(byte)) => {
                *slot = *byte;
                self.len += 1;
                Ok(1)
            }
            // Nothing taken: the encoder stops here.
            _ => Ok(0),
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl ActionKind {
    /// The kind of an action.
    #[must_use]
    pub fn of(action: &Action) -> Self {
        let mut head = Head { bytes: [0; 2], len: 0 };
        // The writer refuses all but the head; that is no failure.
        let _ = action.serialize(&mut head);
        let [outer, inner] = head.bytes;
        Self(u16::from_be_bytes([outer, if outer < FIRST_FAMILY { 0 } else { inner }]))
    }
    /// The number of the action that it is, or that wraps it.
    #[must_use]
    pub const fn family(self) -> u8 {
        self.0.to_be_bytes()[0]
    }
}

/// What a key may spend of one asset.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Budget {
    /// Which asset.
    pub asset: AssetId,
    /// How much in all. What comes back does not refill it.
    pub amount: Amount,
}

/// What a grant is for.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "use")]
pub enum GrantUse {
    /// Transactions in the account's name.
    Act {
        /// With these kinds of actions, ascending. Those of grants and keys are never among them.
        kinds: Vec<ActionKind>,
        /// Money goes to these accounts only, ascending; empty: to any.
        recipients: Vec<AccountId>,
        /// Orders with at most this price per hour.
        max_rate_per_hour: Option<Amount>,
    },
    /// Countersigning usage of the account's leases in its place, and nothing else; the budget caps the value confirmed.
    Watch {
        /// Who confirms, by name on the receipt.
        watcher: AccountId,
    },
    /// Opening one account that does not exist yet and handing it what is left of the budget, once.
    Invite,
    /// Adding machines that no ledger knows yet to the account's provider, each by a transaction of its own, and nothing else.
    Enroll {
        /// How many more; the grant is gone with the last.
        nodes: u32,
    },
}

/// What is granted.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct GrantTerms {
    /// Whose signature uses it.
    pub key: PublicKey,
    /// For what.
    pub may: GrantUse,
    /// Within which budget, ascending by asset, each once. Fees and tips count as credits.
    pub budget: Vec<Budget>,
    /// Until when.
    pub expires: Timestamp,
}

/// What is done with grants.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub enum GrantAction {
    /// Grants something; the id is [`grant_id`].
    Create {
        /// What.
        terms: Box<GrantTerms>,
    },
    /// Takes a grant back, at once.
    Revoke {
        /// Which.
        grant: GrantId,
    },
    /// Uses an invite: opens an account and hands it what is left. The only action an invite allows.
    Claim {
        /// The new account's keys, ascending; its id is that of the first.
        keys: Vec<PublicKey>,
        /// How many of them must sign.
        threshold: u8,
        /// The first key's signature over [`claim_digest`].
        proof: Signature,
    },
}

/// Why a grant is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GrantEnd {
    /// Its account took it back.
    Revoked,
    /// Its time was over.
    Expired,
    /// The invite was used.
    Claimed,
    /// All machines that it allowed were added.
    UsedUp,
}

/// What became of a grant.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "change")]
pub enum GrantEvent {
    /// It was made.
    Created {
        /// Which.
        grant: GrantId,
        /// By whom.
        account: AccountId,
    },
    /// It is gone.
    Ended {
        /// Which.
        grant: GrantId,
        /// Whose.
        account: AccountId,
        /// Why.
        why: GrantEnd,
    },
}

impl GrantEvent {
    /// Whose grant it is.
    #[must_use]
    pub const fn account(&self) -> AccountId {
        match self {
            Self::Created { account, .. } | Self::Ended { account, .. } => *account,
        }
    }
}

/// The id of the grant made by action `index` of a transaction.
#[must_use]
pub fn grant_id(tx: &TxId, index: u32) -> GrantId {
    GrantId(derive(GRANT_DOMAIN, &[&tx.0, &index.to_le_bytes()]))
}

/// What the first key of an account signs to be opened with an invite: nobody opens an account for another's key.
#[must_use]
pub fn claim_digest(zone: &ZoneId, grant: &GrantId, keys: &[PublicKey], threshold: u8) -> [u8; 32] {
    derive(CLAIM_DOMAIN, &[&zone.0, &grant.0, &crate::codec::encode(&keys.to_vec()), &[threshold]])
}

/// What an invite's code carries. Whoever has it may take what is left of the invite.
#[derive(Clone)]
pub struct InviteCode {
    /// The zone it is for.
    pub zone: ZoneId,
    /// The grant.
    pub grant: GrantId,
    /// The account that invites.
    pub account: AccountId,
    /// The grant's key, as its seed.
    pub seed: [u8; 32],
}

impl std::fmt::Debug for InviteCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "InviteCode({:?}, {:?}, secret)", self.zone, self.grant)
    }
}

/// A text is no invite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InviteError {
    /// It does not look like one.
    #[error("this is not an invite; it begins with `pasture-invite-` and is one word")]
    Form,
    /// Something in it is mistyped.
    #[error("the invite is mistyped or incomplete; copy it whole")]
    Checksum,
}

impl InviteCode {
    /// The key that may use the grant.
    #[must_use]
    pub fn key(&self) -> SigningKey {
        SigningKey::from_seed(self.seed)
    }
    /// The code as one word.
    #[must_use]
    pub fn to_text(&self) -> String {
        to_word(INVITE_PREFIX, INVITE_DOMAIN, &[self.zone.0, self.grant.0, self.account.0, self.seed])
    }
    /// Reads a code.
    ///
    /// # Errors
    /// [`InviteError`] if it is none or was mistyped.
    pub fn parse(text: &str) -> Result<Self, InviteError> {
        let digits = text.trim().strip_prefix(INVITE_PREFIX).ok_or(InviteError::Form)?;
        let [zone, grant, account, seed] = parts(INVITE_DOMAIN, digits).ok_or(InviteError::Checksum)?;
        Ok(Self { zone: ZoneId(zone), grant: GrantId(grant), account: AccountId(account), seed })
    }
}

/// What the code of a fleet carries. Whoever has it may add machines to the account's provider, as many as the grant allows, and nothing else.
#[derive(Clone, PartialEq, Eq)]
pub struct EnrollCode {
    /// The zone it is for.
    pub zone: ZoneId,
    /// The grant.
    pub grant: GrantId,
    /// The account that the machines earn for.
    pub account: AccountId,
    /// The grant's key, as its seed.
    pub seed: [u8; 32],
}

impl std::fmt::Debug for EnrollCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "EnrollCode({:?}, {:?}, secret)", self.zone, self.grant)
    }
}

/// A text is no fleet's code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EnrollError {
    /// It does not look like one.
    #[error("this is not a fleet's code; it begins with `pasture-enroll-` and is one word")]
    Form,
    /// Something in it is mistyped.
    #[error("the fleet's code is mistyped or incomplete; copy it whole")]
    Checksum,
}

impl EnrollCode {
    /// The key that may use the grant.
    #[must_use]
    pub fn key(&self) -> SigningKey {
        SigningKey::from_seed(self.seed)
    }
    /// The code as one word.
    #[must_use]
    pub fn to_text(&self) -> String {
        to_word(ENROLL_PREFIX, ENROLL_DOMAIN, &[self.zone.0, self.grant.0, self.account.0, self.seed])
    }
    /// Reads a code.
    ///
    /// # Errors
    /// [`EnrollError`] if it is none or was mistyped.
    pub fn parse(text: &str) -> Result<Self, EnrollError> {
        let digits = text.trim().strip_prefix(ENROLL_PREFIX).ok_or(EnrollError::Form)?;
        let [zone, grant, account, seed] = parts(ENROLL_DOMAIN, digits).ok_or(EnrollError::Checksum)?;
        Ok(Self { zone: ZoneId(zone), grant: GrantId(grant), account: AccountId(account), seed })
    }
}

/// A code as one word: its parts and a checksum, in hex.
fn to_word(prefix: &str, domain: &str, parts: &[[u8; PART]; 4]) -> String {
    let payload = parts.concat();
    let sum = derive(domain, &[&payload]);
    format!("{prefix}{}{}", hex::encode(&payload), hex::encode(sum.first_chunk::<CHECKSUM>().unwrap_or(&[0; CHECKSUM])))
}

/// The parts of a code from its digits; `None` if its checksum is not theirs.
fn parts(domain: &str, digits: &str) -> Option<[[u8; PART]; 4]> {
    let mut bytes = [0u8; 4 * PART + CHECKSUM];
    hex::decode_to_slice(digits, &mut bytes).ok()?;
    let (payload, sum) = bytes.split_at(4 * PART);
    if !derive(domain, &[payload]).starts_with(sum) {
        return None;
    }
    let part = |n: usize| payload.get(n * PART..).and_then(|rest| rest.first_chunk::<PART>()).copied();
    Some([part(0)?, part(1)?, part(2)?, part(3)?])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::KeyAction;

    #[test]
    fn kinds_are_the_numbers_of_the_encoding() {
        let transfer = Action::Transfer { to: AccountId([7; 32]), asset: AssetId::CREDIT, amount: Amount(9) };
        assert_eq!(ActionKind::of(&transfer), ActionKind(15 << 8));
        let other = Action::Transfer { to: AccountId([200; 32]), asset: AssetId::CREDIT, amount: Amount(9) };
        assert_eq!(ActionKind::of(&other), ActionKind::of(&transfer), "what it carries is not part of its kind");
        let revoke = Action::Grant(GrantAction::Revoke { grant: GrantId([1; 32]) });
        assert_eq!(ActionKind::of(&revoke).0 & 0xff, 1);
        let cancel = Action::Keys(KeyAction::Cancel);
        assert_eq!(ActionKind::of(&cancel).0 & 0xff, 1);
        assert_ne!(ActionKind::of(&cancel).family(), ActionKind::of(&revoke).family());
        assert_eq!(crate::codec::encode(&revoke).first(), Some(&ActionKind::of(&revoke).family()));
    }

    #[test]
    fn an_invite_survives_copying_and_no_typing_error() {
        let code = InviteCode { zone: ZoneId([1; 32]), grant: GrantId([2; 32]), account: AccountId([3; 32]), seed: [4; 32] };
        let text = code.to_text();
        assert_eq!(InviteCode::parse(&format!(" {text}\n")).map(|c| c.to_text()), Ok(text.clone()));
        assert!(!format!("{code:?}").contains("0404"), "no secret in what is printed");
        for at in INVITE_PREFIX.len()..text.len() {
            let mut typo: Vec<char> = text.chars().collect();
            typo[at] = if typo[at] == 'a' { 'b' } else { 'a' };
            assert!(InviteCode::parse(&typo.into_iter().collect::<String>()).is_err(), "at {at}");
        }
        assert_eq!(InviteCode::parse("hello").map(|_| ()), Err(InviteError::Form));
        assert_eq!(InviteCode::parse(&text[..text.len() - 2]).map(|_| ()), Err(InviteError::Checksum));
    }

    #[test]
    fn the_code_of_a_fleet_is_no_invite_and_hides_its_secret() {
        let code = EnrollCode { zone: ZoneId([1; 32]), grant: GrantId([2; 32]), account: AccountId([3; 32]), seed: [4; 32] };
        let text = code.to_text();
        assert_eq!(EnrollCode::parse(&format!("{text}\n")), Ok(code.clone()));
        assert!(!format!("{code:?}").contains("0404"), "no secret in what is printed");
        assert_eq!(EnrollCode::parse(&text[..text.len() - 2]), Err(EnrollError::Checksum));
        assert_eq!(InviteCode::parse(&text).map(|_| ()), Err(InviteError::Form));
        let disguised = text.replace(ENROLL_PREFIX, INVITE_PREFIX);
        assert_eq!(InviteCode::parse(&disguised).map(|_| ()), Err(InviteError::Checksum), "nor with an invite's beginning");
    }
}
