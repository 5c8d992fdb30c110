//! What a node signs about a herd: one chain over all results in their order, and receipts for places in it.
//!
//! Guarantees: the format is that of `docs/specs/herd.md` §6, frozen by `tests/golden/receipt.txt`; whoever read every result
//! finds out by [`Chain`] alone whether a receipt is about exactly these. A receipt says what the node did and answered, not
//! that the answer is right.

use crate::task::{Finished, Outcome, Seq};
use borsh::{BorshDeserialize, BorshSerialize};
use pasture_types::keys::{Signature, SignatureText};
use pasture_types::{NodeId, PublicKey, SigningKey};
use serde::{Deserialize, Serialize};
use std::sync::LazyLock;

const LINK_DOMAIN: &str = "pasture 2026-11 herd result v1";
const RECEIPT_DOMAIN: &str = "pasture 2026-11 herd receipt v1";

/// Setting up a domain costs as much as hashing a result.
static LINK: LazyLock<blake3::Hasher> = LazyLock::new(|| blake3::Hasher::new_derive_key(LINK_DOMAIN));

/// A running hash over results 1 to `seq`, with how many of each outcome.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, BorshSerialize, BorshDeserialize)]
pub struct Chain {
    /// The last result in it.
    pub seq: Seq,
    /// Results that are done.
    pub done: u64,
    /// Results that failed.
    pub failed: u64,
    /// Results that were called off.
    pub cancelled: u64,
    /// The hash; zeros before the first result.
    pub hash: [u8; 32],
}

impl Chain {
    /// Adds the next result; `false` (and nothing changes) if it is not the next.
    #[must_use]
    pub fn push(&mut self, result: &Finished) -> bool {
        if self.seq.checked_add(1) != Some(result.seq) {
            return false;
        }
        let outcome = match result.outcome {
            Outcome::Done => 0u8,
            Outcome::Failed => 1,
            Outcome::Cancelled => 2,
        };
        let mut hasher = LINK.clone();
        hasher.update(&self.hash);
        hasher.update(&result.seq.to_le_bytes());
        hasher.update(&result.id.to_le_bytes());
        hasher.update(&[outcome, result.attempts]);
        hasher.update(&result.payload_hash);
        hasher.update(&(result.key.len() as u64).to_le_bytes());
        hasher.update(result.key.as_bytes());
        hasher.update(&(result.result.len() as u64).to_le_bytes());
        hasher.update(&result.result);
        self.hash = *hasher.finalize().as_bytes();
        self.seq = result.seq;
        let counter = match result.outcome {
            Outcome::Done => &mut self.done,
            Outcome::Failed => &mut self.failed,
            Outcome::Cancelled => &mut self.cancelled,
        };
        *counter = counter.saturating_add(1);
        true
    }
}

/// A place in a herd's chain, signed by the node.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Receipt {
    /// The node that signed.
    pub node: String,
    /// The lease, in hex.
    pub lease: String,
    /// The herd, in hex.
    pub herd: String,
    /// The last result it is about.
    pub seq: Seq,
    /// Results up to there that are done.
    pub done: u64,
    /// Results up to there that failed.
    pub failed: u64,
    /// Results up to there that were called off.
    pub cancelled: u64,
    /// The chain's hash there, in hex.
    pub chain: String,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// Over all of the above.
    pub signature: String,
}

/// Why a receipt does not hold.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ReceiptError {
    /// It is about something else.
    #[error("the receipt is about another {0}")]
    Other(&'static str),
    /// It is not about the results that were read.
    #[error("the receipt at result {seq} is not about the results that were read")]
    Differs {
        /// Where.
        seq: Seq,
    },
    /// The signature is not the node's.
    #[error("the receipt at result {seq} is not signed by the node")]
    Unsigned {
        /// Where.
        seq: Seq,
    },
}

/// Who signs receipts, and about what.
#[derive(Clone, Debug)]
pub struct Signer {
    key: SigningKey,
    lease: [u8; 32],
}

fn digest(lease: &[u8; 32], herd: &[u8; 16], chain: &Chain, at_ms: u64) -> [u8; 32] {
    let number = |n: u64| n.to_le_bytes();
    let counts = [chain.seq, chain.done, chain.failed, chain.cancelled, at_ms].map(number).concat();
    pasture_types::ids::derive(RECEIPT_DOMAIN, &[lease, herd, &counts, &chain.hash])
}

impl Signer {
    /// A signer with the node's key, for one lease.
    #[must_use]
    pub const fn new(key: SigningKey, lease: [u8; 32]) -> Self {
        Self { key, lease }
    }

    /// Signs a place in a herd's chain.
    #[must_use]
    pub fn sign(&self, herd: &[u8; 16], chain: &Chain, at_ms: u64) -> Receipt {
        let signature = self.key.sign(&digest(&self.lease, herd, chain, at_ms));
        Receipt {
            node: self.key.node_id().to_string(),
            lease: hex::encode(self.lease),
            herd: hex::encode(herd),
            seq: chain.seq,
            done: chain.done,
            failed: chain.failed,
            cancelled: chain.cancelled,
            chain: hex::encode(chain.hash),
            at_ms,
            signature: SignatureText::from(&signature).0,
        }
    }
}

impl Receipt {
    /// Checks it against the results that were read, for a node and a lease that the caller knows.
    ///
    /// # Errors
    /// [`ReceiptError`] says what does not hold.
    pub fn verify(&self, node: &NodeId, lease: &[u8; 32], chain: &Chain) -> Result<(), ReceiptError> {
        if self.node != node.to_string() {
            return Err(ReceiptError::Other("node"));
        }
        if self.lease != hex::encode(lease) {
            return Err(ReceiptError::Other("lease"));
        }
        let seq = self.seq;
        let said = (self.seq, self.done, self.failed, self.cancelled, self.chain.as_str());
        if said != (chain.seq, chain.done, chain.failed, chain.cancelled, hex::encode(chain.hash).as_str()) {
            return Err(ReceiptError::Differs { seq });
        }
        let unsigned = ReceiptError::Unsigned { seq };
        let mut herd = [0u8; 16];
        hex::decode_to_slice(&self.herd, &mut herd).map_err(|_| unsigned.clone())?;
        let signature = Signature::try_from(&SignatureText(self.signature.clone())).map_err(|_| unsigned.clone())?;
        PublicKey::from(*node).verify(&digest(lease, &herd, chain, self.at_ms), &signature).map_err(|_| unsigned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn result(seq: Seq, outcome: Outcome) -> Finished {
        Finished {
            seq,
            id: seq + 10,
            key: format!("k{seq}"),
            outcome,
            attempts: 1,
            payload_hash: *blake3::hash(b"payload").as_bytes(),
            result: "r".into(),
        }
    }

    fn chain() -> Chain {
        let mut chain = Chain::default();
        for (seq, outcome) in [(1, Outcome::Done), (2, Outcome::Failed), (3, Outcome::Cancelled)] {
            assert!(chain.push(&result(seq, outcome)));
        }
        chain
    }

    #[test]
    fn a_receipt_is_about_exactly_these_results() {
        let key = SigningKey::from_seed([3; 32]);
        let (node, lease) = (key.node_id(), [9; 32]);
        let receipt = Signer::new(key, lease).sign(&[5; 16], &chain(), 77);
        assert_eq!(receipt.verify(&node, &lease, &chain()), Ok(()));
        let mut other = Chain::default();
        for (seq, outcome) in [(1, Outcome::Done), (2, Outcome::Failed), (3, Outcome::Cancelled)] {
            assert!(other.push(&Finished { result: "x".into(), ..result(seq, outcome) }));
        }
        assert_eq!(receipt.verify(&node, &lease, &other), Err(ReceiptError::Differs { seq: 3 }));
        assert_eq!(receipt.verify(&node, &[8; 32], &chain()), Err(ReceiptError::Other("lease")));
        assert_eq!(receipt.verify(&NodeId([1; 32]), &lease, &chain()), Err(ReceiptError::Other("node")));
        for forged in [
            Receipt { at_ms: 78, ..receipt.clone() },
            Receipt { herd: "00".repeat(16), ..receipt.clone() },
            Receipt { herd: "x".into(), ..receipt.clone() },
        ] {
            assert_eq!(forged.verify(&node, &lease, &chain()), Err(ReceiptError::Unsigned { seq: 3 }));
        }
        assert!(!other.push(&result(5, Outcome::Done)), "a gap is no chain");
    }

    #[test]
    fn the_format_is_frozen() {
        let receipt = Signer::new(SigningKey::from_seed([3; 32]), [9; 32]).sign(&[5; 16], &chain(), 77);
        let shown = format!("{}\n", serde_json::to_string_pretty(&receipt).unwrap());
        assert_eq!(shown, include_str!("../tests/golden/receipt.txt"));
    }
}
