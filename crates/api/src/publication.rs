//! A port of a job that everybody may reach, by a name of its owner's: what the owner signs. Spec: `docs/specs/ingress.md`.
//!
//! Guarantees: it binds network, lease, name and port, so that it can be shown nowhere else; a name belongs to one account, because the account
//! is part of it. The ledger learns neither ports nor names.

use pasture_types::ids::derive;
use pasture_types::keys::{PublicKey, SignatureError, SignatureText, parse_public_key};
use pasture_types::{AccountId, LeaseId, SigningKey, ZoneId, keys::Signature};
use serde::{Deserialize, Serialize};

const DOMAIN: &str = "pasture 2026-11 publication v1";
const TAG_DOMAIN: &str = "pasture 2026-11 account tag v1";
/// Longest name: with the account's tag it fits into one label of a host name (RFC 1035: 63).
pub const MAX_PUBLIC_NAME: usize = 32;
/// Most ports of one lease that are published.
pub const MAX_PUBLISHED: usize = 8;
/// Characters of an account's tag: 80 bits, so that nobody finds another account with the same.
const TAG: usize = 16;
const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
/// The protocol of the stream that a machine gives for a published port, as `Upgrade` names it.
pub const STREAM_PROTOCOL: &str = "pasture-stream";

/// A port that its owner publishes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Publication {
    /// Whose job it is.
    pub account: AccountId,
    /// Which lease.
    pub lease: LeaseId,
    /// What it is called: small letters, digits and dashes. Leases of one account with one name are replicas of each other.
    pub name: String,
    /// Which port of its container; HTTP/1.1 is spoken there.
    pub port: u16,
}

/// What makes a publication count.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SignedPublication {
    /// What is published.
    #[serde(flatten)]
    pub publication: Publication,
    /// A key of the account, or of a device that stands in for it, as `scheme:hex`.
    pub key: String,
    /// Over [`Publication::digest`].
    pub signature: SignatureText,
}

impl Publication {
    /// What the owner signs.
    #[must_use]
    pub fn digest(&self, zone: &ZoneId) -> [u8; 32] {
        // The name is last, and all before has a fixed length.
        derive(DOMAIN, &[&zone.0, &self.account.0, &self.lease.0, &self.port.to_le_bytes(), self.name.as_bytes()])
    }
    /// Signs it.
    #[must_use]
    pub fn sign(self, zone: &ZoneId, key: &SigningKey) -> SignedPublication {
        let signature = SignatureText::from(&key.sign(&self.digest(zone)));
        SignedPublication { publication: self, key: key.public().to_string(), signature }
    }
    /// The first label of its host name.
    #[must_use]
    pub fn label(&self) -> String {
        format!("{}-{}", self.name, tag(&self.account))
    }
    /// Whether name and port make sense.
    ///
    /// # Errors
    /// What does not, in words.
    pub fn check(&self) -> Result<(), String> {
        let letter = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
        let name = self.name.as_bytes();
        let ends = name.first().is_some_and(|c| letter(*c)) && name.last().is_some_and(|c| letter(*c));
        if !ends || name.len() > MAX_PUBLIC_NAME || !name.iter().all(|c| letter(*c) || *c == b'-') {
            let shown: String = self.name.chars().take(40).collect();
            let shown = shown.escape_debug();
            return Err(format!("`{shown}` is no name: small letters, digits and dashes between them, {MAX_PUBLIC_NAME} at most"));
        }
        if self.port == 0 { Err("port 0 is none".into()) } else { Ok(()) }
    }
}

impl SignedPublication {
    /// The key that signed it.
    ///
    /// # Errors
    /// It is not signed as it must be.
    pub fn signer(&self, zone: &ZoneId) -> Result<PublicKey, SignatureError> {
        let key = parse_public_key(&self.key)?;
        key.verify(&self.publication.digest(zone), &Signature::try_from(&self.signature)?)?;
        Ok(key)
    }
}

/// The end of an account's names.
#[must_use]
pub fn tag(account: &AccountId) -> String {
    let hash = derive(TAG_DOMAIN, &[&account.0]);
    let bit = |n: usize| hash.get(n / 8).map_or(0, |byte| usize::from(byte >> (7 - n % 8) & 1));
    let digit = |at: usize| (0..5).fold(0, |value, n| value << 1 | bit(at * 5 + n));
    (0..TAG).map(|at| char::from(BASE32.get(digit(at)).copied().unwrap_or(b'a'))).collect()
}

/// Where a gateway lets everybody in.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct IngressView {
    /// What names end with.
    pub domain: String,
    /// `http`.
    pub scheme: String,
    /// The port.
    pub port: u16,
}

impl IngressView {
    /// The address of what has this first label.
    #[must_use]
    pub fn url(&self, label: &str) -> String {
        match (self.scheme.as_str(), self.port) {
            ("http", 80) | ("https", 443) => format!("{}://{label}.{}", self.scheme, self.domain),
            (scheme, port) => format!("{scheme}://{label}.{}:{port}", self.domain),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publication(name: &str) -> Publication {
        Publication { account: AccountId([1; 32]), lease: LeaseId([2; 32]), name: name.into(), port: 80 }
    }

    #[test]
    fn names_are_labels() {
        for good in ["a", "shop", "a-b", "9", &"x".repeat(32)] {
            assert_eq!(publication(good).check(), Ok(()), "{good}");
            assert!(publication(good).label().len() <= 63);
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a_b", "ä", "a b", "xn--\u{7f}", &"x".repeat(33)] {
            assert!(publication(bad).check().is_err(), "{bad}");
        }
        assert!(Publication { port: 0, ..publication("a") }.check().is_err());
        assert_ne!(tag(&AccountId([1; 32])), tag(&AccountId([2; 32])));
        assert_eq!((tag(&AccountId([1; 32])).len(), publication("shop").label().starts_with("shop-")), (TAG, true));
    }

    #[test]
    fn what_is_signed_holds_for_nothing_else() {
        let (zone, key) = (ZoneId([7; 32]), SigningKey::from_seed([3; 32]));
        let signed = publication("shop").sign(&zone, &key);
        assert_eq!(signed.signer(&zone).unwrap(), key.public());
        assert!(signed.signer(&ZoneId([8; 32])).is_err());
        let change: [fn(&mut Publication); 4] =
            [|p| p.port = 81, |p| p.name = "bank".into(), |p| p.lease = LeaseId([9; 32]), |p| p.account = AccountId([9; 32])];
        for change in change {
            let mut other = signed.clone();
            change(&mut other.publication);
            assert!(other.signer(&zone).is_err(), "{:?}", other.publication);
        }
        let text = serde_json::to_string(&signed).unwrap();
        assert_eq!(serde_json::from_str::<SignedPublication>(&text).unwrap(), signed);
    }

    #[test]
    fn usual_ports_are_left_out() {
        let view = |scheme: &str, port| IngressView { domain: "example.org".into(), scheme: scheme.into(), port };
        assert_eq!(view("http", 80).url("a"), "http://a.example.org");
        assert_eq!(view("https", 443).url("a"), "https://a.example.org");
        assert_eq!(view("http", 8080).url("a"), "http://a.example.org:8080");
    }
}
