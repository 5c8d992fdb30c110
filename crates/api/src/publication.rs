//! A port of a job that everybody may reach, by a name of its owner's: what the owner signs. Spec: `docs/specs/ingress.md`.
//!
//! Guarantees: it binds network, lease, name and port, so that it can be shown nowhere else; a name belongs to one account, because the account
//! is part of it. The ledger learns neither ports nor names.

use borsh::BorshSerialize;
use pasture_types::ids::derive;
use pasture_types::keys::{PublicKey, SignatureError, SignatureText, parse_public_key};
use pasture_types::{AccountId, LeaseId, SigningKey, ZoneId, keys::Signature};
use serde::{Deserialize, Serialize};

const DOMAIN: &str = "pasture 2026-11 publication v2";
const ACCESS_DOMAIN: &str = "pasture 2026-11 access key v1";
const TAG_DOMAIN: &str = "pasture 2026-11 account tag v1";
/// Longest name: with the account's tag it fits into one label of a host name (RFC 1035: 63).
pub const MAX_PUBLIC_NAME: usize = 32;
/// Most ports of one lease that are published.
pub const MAX_PUBLISHED: usize = 8;
/// Most access keys of one publication.
pub const MAX_ACCESS_KEYS: usize = 8;
/// Most domains of its owner's that lead to it.
pub const MAX_DOMAINS: usize = 4;
/// Shortest access key, in bytes: machines and gateways hold its hash, and nobody is to find it from that.
pub const MIN_ACCESS_KEY: usize = 16;
/// Longest access key, in bytes.
pub const MAX_ACCESS_KEY: usize = 256;
/// Longest domain that a client may ask for (RFC 1035).
const MAX_DOMAIN: usize = 253;
/// Where a domain's owner says whose it is: a TXT record at this label below it.
pub const PROOF_LABEL: &str = "_pasture";
/// How a gateway shows a machine the access key that a visitor had.
pub const ACCESS_HEADER: &str = "x-access-key";
/// Characters of an account's tag: 80 bits, so that nobody finds another account with the same.
const TAG: usize = 16;
const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
/// The protocol of the stream that a machine gives for a published port, as `Upgrade` names it.
pub const STREAM_PROTOCOL: &str = "pasture-stream";

/// What is spoken at a published port.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize, BorshSerialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// HTTP/1.1: requests find it by their host.
    #[default]
    Http,
    /// Anything over TCP: it has a port of its own at each gateway.
    Tcp,
}

/// The hash of an access key, in hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, BorshSerialize)]
pub struct AccessHash([u8; 32]);

impl AccessHash {
    /// Of a key.
    #[must_use]
    pub fn of(key: &[u8]) -> Self {
        Self(derive(ACCESS_DOMAIN, &[key]))
    }
}

impl Serialize for AccessHash {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(self.0))
    }
}

impl<'de> Deserialize<'de> for AccessHash {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut hash = [0; 32];
        hex::decode_to_slice(&text, &mut hash).map_err(serde::de::Error::custom)?;
        Ok(Self(hash))
    }
}

/// Who may come, and how much of it. Replicas of one name are meant to have the same rules; each holds for itself.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize, BorshSerialize)]
pub struct Rules {
    /// Only who has one of these keys is let in; empty: everybody. For HTTP.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub access: Vec<AccessHash>,
    /// Most requests (connections, with TCP) a second of one range of addresses, at each gateway; `None`: as many as there is room for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_second: Option<u32>,
    /// Largest body of a request, in bytes. For HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_body: Option<u64>,
}

impl Rules {
    /// Whether this key, or the lack of one, opens it.
    #[must_use]
    pub fn admits(&self, key: Option<&[u8]>) -> bool {
        // Of hashes, so that how long the comparison takes tells nothing of a key.
        self.access.is_empty() || key.is_some_and(|key| self.access.contains(&AccessHash::of(key)))
    }
}

/// A port that its owner publishes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, BorshSerialize)]
pub struct Publication {
    /// Whose job it is.
    pub account: AccountId,
    /// Which lease.
    pub lease: LeaseId,
    /// What it is called: small letters, digits and dashes. Leases of one account with one name are replicas of each other.
    pub name: String,
    /// Which port of its container.
    pub port: u16,
    /// What is spoken there.
    #[serde(default, skip_serializing_if = "is_default")]
    pub protocol: Protocol,
    /// Who may come.
    #[serde(default, skip_serializing_if = "is_default")]
    pub rules: Rules,
    /// Domains of the owner's own that lead to it too, once they say so ([`PROOF_LABEL`]); in small letters. For HTTP.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub domains: Vec<String>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
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
        // Writing into memory does not fail.
        derive(DOMAIN, &[&zone.0, &borsh::to_vec(self).unwrap_or_default()])
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
        if self.port == 0 {
            return Err("port 0 is none".into());
        }
        let Rules { access, per_second, max_body } = &self.rules;
        if access.len() > MAX_ACCESS_KEYS || *per_second == Some(0) || *max_body == Some(0) {
            return Err(format!("at most {MAX_ACCESS_KEYS} access keys, and no limit of nothing, are possible"));
        }
        if self.domains.len() > MAX_DOMAINS {
            return Err(format!("at most {MAX_DOMAINS} domains of your own are possible"));
        }
        if let Some(wrong) = self.domains.iter().find(|domain| !is_domain(domain) || !domain.contains('.')) {
            return Err(format!("`{}` is no domain: www.example.org is one", wrong.escape_debug()));
        }
        if self.protocol == Protocol::Tcp && (!access.is_empty() || max_body.is_some() || !self.domains.is_empty()) {
            return Err("access keys, largest bodies and domains are for HTTP; a TCP port has none".into());
        }
        Ok(())
    }
}

/// Whether a text can be a domain's name, in small letters.
#[must_use]
pub fn is_domain(text: &str) -> bool {
    let letter = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    let is_label = |label: &str| !label.is_empty() && label.len() <= 63 && label.bytes().all(letter);
    // Not an address: the last label of a name is never a number.
    let last = text.rsplit('.').next().unwrap_or_default();
    text.len() <= MAX_DOMAIN && text.split('.').all(is_label) && !last.bytes().all(|c| c.is_ascii_digit())
}

/// Whether an access key is as long as one must be, and can be in a header.
///
/// # Errors
/// What is wrong, in words that do not tell it.
pub fn sound_access_key(key: &str) -> Result<(), String> {
    match (MIN_ACCESS_KEY..=MAX_ACCESS_KEY).contains(&key.len()) && key.bytes().all(|c| c.is_ascii_graphic()) {
        true => Ok(()),
        false => Err(format!("an access key has {MIN_ACCESS_KEY} to {MAX_ACCESS_KEY} letters, digits and signs, and no spaces")),
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
    /// `http` or `https`.
    pub scheme: String,
    /// The port.
    pub port: u16,
    /// The first and the last of the ports that are given to what speaks TCP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<(u16, u16)>,
}

/// What a gateway knows of a name.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NameView {
    /// Where it is reached by HTTP.
    pub url: Option<String>,
    /// The port that it has here, if it speaks TCP.
    pub tcp: Option<u16>,
    /// How many leases have it.
    pub replicas: usize,
    /// Whether a certificate for it is there.
    pub secure: bool,
    /// The domains of its owner's own.
    pub domains: Vec<DomainView>,
}

/// What a gateway knows of a domain of an owner's own.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DomainView {
    /// Which.
    pub domain: String,
    /// Whether it says that it leads to the owner's names.
    pub leads: bool,
    /// Whether a certificate for it is there.
    pub secure: bool,
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
        let (protocol, rules, domains) = (Protocol::Http, Rules::default(), vec![]);
        Publication { account: AccountId([1; 32]), lease: LeaseId([2; 32]), name: name.into(), port: 80, protocol, rules, domains }
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
        let change: [fn(&mut Publication); 7] = [
            |p| p.port = 81,
            |p| p.name = "bank".into(),
            |p| p.lease = LeaseId([9; 32]),
            |p| p.account = AccountId([9; 32]),
            |p| p.protocol = Protocol::Tcp,
            |p| p.rules.access.push(AccessHash::of(b"another key, of a stranger")),
            |p| p.domains.push("www.example.org".into()),
        ];
        for change in change {
            let mut other = signed.clone();
            change(&mut other.publication);
            assert!(other.signer(&zone).is_err(), "{:?}", other.publication);
        }
        let (access, domains) = (vec![AccessHash::of(b"sixteen and more")], vec!["www.example.org".into()]);
        let rules = Rules { access, per_second: Some(5), max_body: Some(1 << 20) };
        let signed = Publication { rules, domains, ..publication("shop") }.sign(&zone, &key);
        let text = serde_json::to_string(&signed).unwrap();
        assert_eq!(serde_json::from_str::<SignedPublication>(&text).unwrap(), signed);
    }

    #[test]
    fn rules_say_who_may_come() {
        let rules = Rules { access: vec![AccessHash::of(b"one key of sixteen")], ..Rules::default() };
        assert!(rules.admits(Some(b"one key of sixteen")) && !rules.admits(Some(b"another")) && !rules.admits(None));
        assert!(Rules::default().admits(None));
        let with = |change: fn(&mut Publication)| {
            let mut publication = publication("shop");
            change(&mut publication);
            publication.check()
        };
        assert_eq!(with(|p| p.domains = vec!["www.example.org".into()]), Ok(()));
        assert!(with(|p| p.rules.per_second = Some(0)).is_err() && with(|p| p.rules.max_body = Some(0)).is_err());
        assert!(with(|p| p.rules.access = vec![AccessHash([0; 32]); MAX_ACCESS_KEYS + 1]).is_err());
        for bad in ["example", "Example.org", "a..b", "a b.org", "", "127.0.0.1"] {
            assert!(Publication { domains: vec![bad.into()], ..publication("shop") }.check().is_err(), "{bad}");
        }
        assert_eq!(with(|p| (p.protocol, p.rules.per_second) = (Protocol::Tcp, Some(5))), Ok(()));
        assert!(with(|p| (p.protocol, p.rules.max_body) = (Protocol::Tcp, Some(5))).is_err());
        assert!(sound_access_key("short").is_err() && sound_access_key("long enough, but spaces").is_err());
        assert_eq!(sound_access_key("0123456789abcdef"), Ok(()));
    }

    #[test]
    fn usual_ports_are_left_out() {
        let view = |scheme: &str, port| IngressView { domain: "example.org".into(), scheme: scheme.into(), port, tcp: None };
        assert_eq!(view("http", 80).url("a"), "http://a.example.org");
        assert_eq!(view("https", 443).url("a"), "https://a.example.org");
        assert_eq!(view("http", 8080).url("a"), "http://a.example.org:8080");
    }
}
