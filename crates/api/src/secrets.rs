//! How a lease's secrets travel: sealed for its node and bound to the lease, before the manifest that names them.
//!
//! | request on the data plane | body, answer |
//! |---|---|
//! | `GET sealing-key` | the node's [`SealingKey`] |
//! | `PUT secrets?hash=H` | the sealed [`Secrets`]; `H`, which the signature of the request covers, is their BLAKE3 hash |
//!
//! Guarantees: values are never shown by `Debug`; a key that is not the node's is not taken for it. It seals nothing: see `store`.

use pasture_types::ids::derive;
use pasture_types::keep::check_kept_name;
use pasture_types::keys::{PublicKey, Signature, SignatureError, SignatureText};
use pasture_types::{LeaseId, NodeId, SigningKey, codec};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Most bytes of all secrets of a lease, names and lengths included.
pub const MAX_SECRETS_BYTES: usize = 48 << 10;
/// Most that sealing adds.
pub const SEAL_OVERHEAD: usize = 64;
const CONTEXT: &[u8] = b"pasture 2026-11 lease secrets v1";
const OFFER_DOMAIN: &str = "pasture 2026-11 sealing key v1";

/// A node's key for sealing, signed by the node: anybody can carry it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SealingKey {
    /// X25519, in hex.
    pub key: String,
    /// The node's signature over it.
    pub signature: SignatureText,
}

fn offered(node: &NodeId, key: &[u8; 32]) -> [u8; 32] {
    derive(OFFER_DOMAIN, &[&node.0, key])
}

impl SealingKey {
    /// A node's, signed.
    #[must_use]
    pub fn of(node: &SigningKey, key: &[u8; 32]) -> Self {
        Self { key: hex::encode(key), signature: SignatureText::from(&node.sign(&offered(&node.node_id(), key))) }
    }

    /// The key, if it is this node's.
    ///
    /// # Errors
    /// [`SignatureError`] if it is no key, or another's.
    pub fn verify(&self, node: &NodeId) -> Result<[u8; 32], SignatureError> {
        let mut key = [0; 32];
        hex::decode_to_slice(&self.key, &mut key).map_err(|_| SignatureError::BadKey)?;
        PublicKey::from(*node).verify(&offered(node, &key), &Signature::try_from(&self.signature)?)?;
        Ok(key)
    }
}

/// What the secrets of a lease are bound to.
#[must_use]
pub fn context(node: &NodeId, lease: &LeaseId) -> Vec<u8> {
    [CONTEXT, &node.0, &lease.0].concat()
}

/// Values by their names.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secrets(pub BTreeMap<String, Vec<u8>>);

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({:?})", self.0.keys())
    }
}

impl Secrets {
    /// The bytes that are sealed; `None` if they are more than [`MAX_SECRETS_BYTES`].
    #[must_use]
    pub fn to_bytes(&self) -> Option<Vec<u8>> {
        Some(codec::encode(&self.0)).filter(|bytes| bytes.len() <= MAX_SECRETS_BYTES)
    }

    /// Reads what was sealed; `None` if that are no secrets.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let values: BTreeMap<String, Vec<u8>> = codec::decode(bytes, MAX_SECRETS_BYTES).ok()?;
        values.keys().all(|name| check_kept_name(name).is_ok()).then_some(Self(values))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strangers_sealing_key_is_found_out() {
        let (node, other) = (SigningKey::from_seed([1; 32]), SigningKey::from_seed([2; 32]));
        let offer = SealingKey::of(&node, &[9; 32]);
        assert_eq!(offer.verify(&node.node_id()), Ok([9; 32]));
        assert!(SealingKey::of(&other, &[9; 32]).verify(&node.node_id()).is_err());
        assert!(SealingKey { key: hex::encode([8; 32]), ..offer }.verify(&node.node_id()).is_err());
    }

    #[test]
    fn secrets_read_back_and_show_nothing() {
        let secrets = Secrets(BTreeMap::from([("token".into(), b"sesame".to_vec())]));
        assert_eq!(Secrets::from_bytes(&secrets.to_bytes().unwrap()), Some(secrets.clone()));
        assert!(!format!("{secrets:?}").contains("sesame"));
        assert_eq!(Secrets(BTreeMap::from([("a".into(), vec![0; MAX_SECRETS_BYTES])])).to_bytes(), None);
        assert_eq!(Secrets::from_bytes(&Secrets(BTreeMap::from([("../a".into(), vec![])])).to_bytes().unwrap()), None);
    }
}
