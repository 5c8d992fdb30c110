//! Identifiers: 32 bytes each, hex on the screen, one type per meaning.
//!
//! Guarantees: an id of one kind cannot be used as another. It does not check that the thing exists.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// A string is not an id: 64 hex digits are expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an id: 64 hex digits are expected")]
pub struct ParseIdError(pub String);

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, BorshSerialize, BorshDeserialize)]
        pub struct $name(pub [u8; 32]);

        impl $name {
            /// The raw bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
            /// The first eight hex digits, for people.
            #[must_use]
            pub fn short(&self) -> String {
                self.to_string().chars().take(8).collect()
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.short())
            }
        }
        impl FromStr for $name {
            type Err = ParseIdError;
            fn from_str(s: &str) -> Result<Self, Self::Err> {
                let mut out = [0u8; 32];
                hex::decode_to_slice(s, &mut out).map_err(|_| ParseIdError(s.chars().take(80).collect()))?;
                Ok(Self(out))
            }
        }
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(&self.to_string())
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                <String as Deserialize>::deserialize(d)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

id!(
    /// A user's or provider's account: the hash of its first key set, so it never changes when keys do.
    AccountId
);
id!(
    /// A node: its Ed25519 public key.
    NodeId
);
id!(
    /// An order: the id of the transaction that placed it, mixed with the action's index.
    OrderId
);
id!(
    /// A lease: derived from its order and the match's number within the order.
    LeaseId
);
id!(
    /// A standing offer: derived from its node and the node's offer number.
    OfferId
);
id!(
    /// A transaction: the digest that its signatures sign.
    TxId
);
id!(
    /// A zone: the hash of its genesis.
    ZoneId
);
id!(
    /// Content-addressed data: the BLAKE3 hash of its bytes.
    BlobHash
);
id!(
    /// A delegated grant.
    GrantId
);
id!(
    /// A proposal: the id of the transaction that made it, mixed with the action's index.
    ProposalId
);
id!(
    /// A channel: derived from client, provider and asset, so that both know it before it is open.
    ChannelId
);
id!(
    /// A credential: derived from its subject, kind and issuer; a newer one replaces it.
    CredentialId
);

/// Hashes parts under a domain into 32 bytes; each part is length-prefixed, so that parts cannot run into each other.
#[must_use]
pub fn derive(domain: &str, parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key(domain);
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    *hasher.finalize().as_bytes()
}
