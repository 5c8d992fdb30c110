//! Keys and signatures: Ed25519 (ZIP-215 rules) and secp256k1 with EIP-191 for wallets.
//!
//! Guarantees: single and batch verification of Ed25519 agree, so validators cannot fork over a
//! signature; secp256k1 signatures must have a low `s`. It does not store keys: see `store`.

use crate::ids::{AccountId, NodeId, derive};
use borsh::{BorshDeserialize, BorshSerialize};
use ed25519_zebra as ed;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

const ACCOUNT_DOMAIN: &str = "pasture 2026-11 account id v1";

/// A public key with its scheme.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, BorshSerialize, BorshDeserialize)]
pub enum PublicKey {
    /// Ed25519, 32 bytes.
    Ed25519([u8; 32]),
    /// secp256k1, compressed, 33 bytes.
    Secp256k1([u8; 33]),
}

/// A signature with its scheme.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub enum Signature {
    /// Ed25519 over the 32-byte digest.
    Ed25519([u8; 64]),
    /// secp256k1 over the EIP-191 personal message that shows the digest in hex.
    Eip191([u8; 64]),
    /// secp256k1 over the EIP-712 typed data of a transaction (`eip712`); good for transactions only.
    Eip712([u8; 64]),
}

/// Why a signature was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The key bytes are not a key.
    #[error("the public key is malformed")]
    BadKey,
    /// The signature's scheme does not fit the key's.
    #[error("the signature's scheme does not fit the key's")]
    SchemeMismatch,
    /// Typed data exists for transactions only.
    #[error("typed data is for transactions; sign this with the key itself or as a personal message")]
    TransactionsOnly,
    /// The signature does not verify.
    #[error("the signature does not verify")]
    Invalid,
}

impl PublicKey {
    /// Verifies a signature of this key over a 32-byte digest.
    ///
    /// # Errors
    /// [`SignatureError`] says why it was refused.
    pub fn verify(&self, digest: &[u8; 32], signature: &Signature) -> Result<(), SignatureError> {
        match (self, signature) {
            (Self::Ed25519(key), Signature::Ed25519(sig)) => {
                let key = ed::VerificationKey::try_from(*key).map_err(|_| SignatureError::BadKey)?;
                key.verify(&ed::Signature::from_bytes(sig), digest).map_err(|_| SignatureError::Invalid)
            }
            (Self::Secp256k1(key), Signature::Eip191(sig)) => verify_secp256k1(key, &eip191_hash(digest), sig),
            (Self::Secp256k1(_), Signature::Eip712(_)) => Err(SignatureError::TransactionsOnly),
            _ => Err(SignatureError::SchemeMismatch),
        }
    }

    /// Verifies an Ed25519 signature of this key over a message of any length: what other protocols sign.
    ///
    /// # Errors
    /// [`SignatureError`] says why it was refused.
    pub fn verify_message(&self, message: &[u8], signature: &Signature) -> Result<(), SignatureError> {
        let (Self::Ed25519(key), Signature::Ed25519(sig)) = (self, signature) else { return Err(SignatureError::SchemeMismatch) };
        let key = ed::VerificationKey::try_from(*key).map_err(|_| SignatureError::BadKey)?;
        key.verify(&ed::Signature::from_bytes(sig), message).map_err(|_| SignatureError::Invalid)
    }

    /// Verifies a wallet's signature over typed data, given its hash.
    ///
    /// # Errors
    /// [`SignatureError`] says why it was refused.
    pub fn verify_typed(&self, hash: &[u8; 32], signature: &[u8; 64]) -> Result<(), SignatureError> {
        match self {
            Self::Secp256k1(key) => verify_secp256k1(key, hash, signature),
            Self::Ed25519(_) => Err(SignatureError::SchemeMismatch),
        }
    }

    /// The account that a fresh key opens.
    #[must_use]
    pub fn account(&self) -> AccountId {
        AccountId(derive(ACCOUNT_DOMAIN, &[&crate::codec::encode(self)]))
    }
}

fn verify_secp256k1(key: &[u8; 33], hash: &[u8; 32], sig: &[u8; 64]) -> Result<(), SignatureError> {
    use k256::ecdsa::signature::hazmat::PrehashVerifier as _;
    let key = k256::ecdsa::VerifyingKey::from_sec1_bytes(key).map_err(|_| SignatureError::BadKey)?;
    let sig = k256::ecdsa::Signature::from_slice(sig).map_err(|_| SignatureError::Invalid)?;
    if sig.normalize_s() != sig {
        return Err(SignatureError::Invalid);
    }
    key.verify_prehash(hash, &sig).map_err(|_| SignatureError::Invalid)
}

/// The hash a wallet signs when it is shown the digest as a personal message (EIP-191, version 0x45).
#[must_use]
pub fn eip191_hash(digest: &[u8; 32]) -> [u8; 32] {
    let text = format!("Pasture\n0x{}", hex::encode(digest));
    crate::eip712::keccak(&[format!("\x19Ethereum Signed Message:\n{}", text.len()).as_bytes(), text.as_bytes()])
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ed25519(k) => write!(f, "ed25519:{}", hex::encode(k)),
            Self::Secp256k1(k) => write!(f, "secp256k1:{}", hex::encode(k)),
        }
    }
}

impl FromStr for PublicKey {
    type Err = ParseKeyError;
    fn from_str(text: &str) -> Result<Self, ParseKeyError> {
        let wrong = || ParseKeyError(text.chars().take(80).collect());
        let (scheme, digits) = text.split_once(':').ok_or_else(wrong)?;
        match scheme {
            "ed25519" => {
                let mut key = [0u8; 32];
                hex::decode_to_slice(digits, &mut key).map_err(|_| wrong())?;
                Ok(Self::Ed25519(key))
            }
            "secp256k1" => {
                let mut key = [0u8; 33];
                hex::decode_to_slice(digits, &mut key).map_err(|_| wrong())?;
                Ok(Self::Secp256k1(key))
            }
            _ => Err(wrong()),
        }
    }
}

/// A text that names no key.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{0}` is not a public key: it looks like ed25519:3f2a... or secp256k1:02ab...")]
pub struct ParseKeyError(String);

impl From<NodeId> for PublicKey {
    fn from(node: NodeId) -> Self {
        Self::Ed25519(node.0)
    }
}

/// An Ed25519 private key. Its debug form shows no secret.
#[derive(Clone)]
pub struct SigningKey(ed::SigningKey);

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public())
    }
}

impl SigningKey {
    /// The key that a 32-byte seed makes.
    #[must_use]
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(ed::SigningKey::from_bytes(&seed))
    }
    /// The public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey::Ed25519(self.node_id().0)
    }
    /// The account this key opens.
    #[must_use]
    pub fn account(&self) -> AccountId {
        self.public().account()
    }
    /// The node this key is.
    #[must_use]
    pub fn node_id(&self) -> NodeId {
        NodeId(self.0.verification_key().into())
    }
    /// The seed that it was made from: for a transport that proves with the same key who it is. The key itself: not to be written anywhere.
    #[must_use]
    pub fn seed(&self) -> [u8; 32] {
        self.0.to_bytes()
    }
    /// A secret for another purpose, which only the holder of this key can make; it tells nothing of the key.
    #[must_use]
    pub fn derive_secret(&self, domain: &str) -> [u8; 32] {
        derive(domain, &[&self.0.to_bytes()])
    }
    /// Signs a message of any length, as other protocols do.
    #[must_use]
    pub fn sign_message(&self, message: &[u8]) -> Signature {
        Signature::Ed25519(self.0.sign(message).to_bytes())
    }
    /// Signs a 32-byte digest.
    #[must_use]
    pub fn sign(&self, digest: &[u8; 32]) -> Signature {
        Signature::Ed25519(self.0.sign(digest).to_bytes())
    }
}

/// A signature in JSON and HTTP headers: `scheme:hex`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SignatureText(pub String);

impl From<&Signature> for SignatureText {
    fn from(s: &Signature) -> Self {
        Self(match s {
            Signature::Ed25519(b) => format!("ed25519:{}", hex::encode(b)),
            Signature::Eip191(b) => format!("eip191:{}", hex::encode(b)),
            Signature::Eip712(b) => format!("eip712:{}", hex::encode(b)),
        })
    }
}

impl TryFrom<&SignatureText> for Signature {
    type Error = SignatureError;
    fn try_from(t: &SignatureText) -> Result<Self, Self::Error> {
        let (scheme, digits) = t.0.split_once(':').ok_or(SignatureError::Invalid)?;
        let mut bytes = [0u8; 64];
        hex::decode_to_slice(digits, &mut bytes).map_err(|_| SignatureError::Invalid)?;
        match scheme {
            "ed25519" => Ok(Self::Ed25519(bytes)),
            "eip191" => Ok(Self::Eip191(bytes)),
            "eip712" => Ok(Self::Eip712(bytes)),
            _ => Err(SignatureError::SchemeMismatch),
        }
    }
}

impl From<&PublicKey> for String {
    fn from(k: &PublicKey) -> Self {
        k.to_string()
    }
}

/// Reads a key from its `scheme:hex` text.
///
/// # Errors
/// [`SignatureError::BadKey`] if the text is not a key.
pub fn parse_public_key(text: &str) -> Result<PublicKey, SignatureError> {
    let (scheme, digits) = text.split_once(':').ok_or(SignatureError::BadKey)?;
    match scheme {
        "ed25519" => {
            let mut b = [0u8; 32];
            hex::decode_to_slice(digits, &mut b).map_err(|_| SignatureError::BadKey)?;
            Ok(PublicKey::Ed25519(b))
        }
        "secp256k1" => {
            let mut b = [0u8; 33];
            hex::decode_to_slice(digits, &mut b).map_err(|_| SignatureError::BadKey)?;
            Ok(PublicKey::Secp256k1(b))
        }
        _ => Err(SignatureError::BadKey),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_verifies_only_for_its_key_and_digest() {
        let key = SigningKey::from_seed([7; 32]);
        let sig = key.sign(&[1; 32]);
        assert_eq!(key.public().verify(&[1; 32], &sig), Ok(()));
        assert_eq!(key.public().verify(&[2; 32], &sig), Err(SignatureError::Invalid));
        let other = SigningKey::from_seed([8; 32]);
        assert_eq!(other.public().verify(&[1; 32], &sig), Err(SignatureError::Invalid));
    }

    #[test]
    fn a_wallet_signature_verifies_and_a_high_s_does_not() {
        use k256::ecdsa::signature::hazmat::PrehashSigner as _;
        let secret = k256::ecdsa::SigningKey::from_slice(&[9; 32]).unwrap();
        let mut key = [0u8; 33];
        key.copy_from_slice(secret.verifying_key().to_sec1_point(true).as_bytes());
        let sig: k256::ecdsa::Signature = secret.sign_prehash(&eip191_hash(&[3; 32])).unwrap();
        let low = sig.normalize_s();
        let bytes: [u8; 64] = low.to_bytes().into();
        assert_eq!(PublicKey::Secp256k1(key).verify(&[3; 32], &Signature::Eip191(bytes)), Ok(()));
        let (r, s) = low.split_scalars();
        let high = k256::ecdsa::Signature::from_scalars(r.to_bytes(), (-*s).to_bytes()).unwrap();
        let bytes: [u8; 64] = high.to_bytes().into();
        assert_eq!(PublicKey::Secp256k1(key).verify(&[3; 32], &Signature::Eip191(bytes)), Err(SignatureError::Invalid));
    }

    #[test]
    fn texts_round_trip() {
        let key = SigningKey::from_seed([7; 32]);
        assert_eq!(parse_public_key(&key.public().to_string()), Ok(key.public()));
        let sig = key.sign(&[1; 32]);
        assert_eq!(Signature::try_from(&SignatureText::from(&sig)), Ok(sig));
    }
}
