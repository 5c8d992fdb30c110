//! What a witness and an audited node say to each other. Spec: `docs/specs/audits.md` §1, §10.
//!
//! ```text
//!  witness                                      node
//!     │  GET  /audits/ping                        │  several times: the lowest round trip
//!     │  POST /audits/{n}/nonce  (NonceOffer) ───►│  the clock of the witness begins
//!     │◄─── event `set`     (SignedSet)           │  once more than two thirds of the witnesses have sent theirs
//!     │◄─── event `walk`    (WalkRoot)            │  only where memory is asked: before the hashing
//!     │◄─── event `shares`  (SignedShares)        │  after the burst: the clock stops
//!     │  POST /audits/{n}/open   (BeaconWord) ───►│  only where GPUs or memory are asked: what of them
//!     │◄─── the opened rows of each device, then the walk's proof
//! ```
//! Guarantees: sizes are checked before anything is allocated; what decodes is well formed, and no more: whose signatures these
//! are is the reader's to check. Nothing here is a secret but the nonce, until it is sent.

use pasture_types::audit::{
    Answer, BeaconOffer, GpuClaim, MAX_AUDITED_GPUS, MAX_PACKED, MAX_WITNESSES, MemoryClaim, NonceSet, PackedShares, Statement, Verdict,
};
use pasture_types::event::Hash32;
use pasture_types::keys::{Signature, SignatureText};
use pasture_types::{Millis, NodeId, Timestamp, codec};
use serde::{Deserialize, Serialize};

/// Where a node's door answers at once, for those who measure the way to it.
pub const PING: &str = "/audits/ping";
/// Name of the event that brings a [`SignedSet`].
pub const SET_EVENT: &str = "set";
/// Name of the event that brings a [`WalkRoot`].
pub const WALK_EVENT: &str = "walk";
/// Name of the event that brings [`SignedShares`].
pub const SHARES_EVENT: &str = "shares";
/// Longest encoded set: a mask, a length, and a nonce of each witness.
const MAX_SET: usize = 8 + 4 + 8 * MAX_WITNESSES;

/// Where a node's door takes nonces.
#[must_use]
pub fn nonce_path(audit: u64) -> String {
    format!("/audits/{audit}/nonce")
}

/// Where a node's door opens its GPUs' products.
#[must_use]
pub fn open_path(audit: u64) -> String {
    format!("/audits/{audit}/open")
}

/// What a witness draws the rows with.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BeaconWord {
    /// Its secret.
    pub offer: BeaconOffer,
    /// Its signature over [`BeaconOffer::digest`].
    pub signature: SignatureText,
}

/// The opened rows of each device as one answer: each with its length before it.
#[must_use]
pub fn join_opened(devices: &[Vec<u8>]) -> Vec<u8> {
    let with_length = |bytes: &Vec<u8>| [&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes(), bytes.as_slice()].concat();
    devices.iter().flat_map(with_length).collect()
}

/// What [`join_opened`] joined; `None` if it is not so many devices' rows.
#[must_use]
pub fn split_opened(mut bytes: &[u8], devices: usize) -> Option<Vec<&[u8]>> {
    let mut all = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
        let (rows, rest) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
        all.push(rows);
        bytes = rest;
        if all.len() > devices {
            return None;
        }
    }
    (bytes.is_empty() && all.len() == devices).then_some(all)
}

/// A witness's secret nonce.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NonceOffer {
    /// Who sends it.
    pub witness: NodeId,
    /// It.
    pub nonce: u64,
    /// The witness's signature over [`pasture_types::audit::nonce_digest`].
    pub signature: SignatureText,
}

/// The set that a burst is computed from, signed by the node, with the witnesses' own signatures of their nonces.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SignedSet {
    /// The encoded [`NonceSet`], in hex.
    pub set: String,
    /// The node's signature over the statement without shares.
    pub signature: SignatureText,
    /// The signatures under which the nonces came, in the order of the set's bits.
    pub witnesses: Vec<SignatureText>,
}

/// What [`SignedSet`] says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReadSet {
    /// The set.
    pub set: NonceSet,
    /// The node's signature.
    pub signature: Signature,
    /// The witnesses'.
    pub witnesses: Vec<Signature>,
}

impl SignedSet {
    /// For the wire.
    #[must_use]
    pub fn new(set: &NonceSet, signature: &Signature, witnesses: &[Signature]) -> Self {
        Self {
            set: hex::encode(codec::encode(set)),
            signature: signature.into(),
            witnesses: witnesses.iter().map(SignatureText::from).collect(),
        }
    }
    /// What it says; `None` if it is not well formed.
    #[must_use]
    pub fn read(&self) -> Option<ReadSet> {
        if self.set.len() > 2 * MAX_SET || self.witnesses.len() > MAX_WITNESSES {
            return None;
        }
        let set: NonceSet = codec::decode(&hex::decode(&self.set).ok()?, MAX_SET).ok()?;
        let witnesses = self.witnesses.iter().map(|text| Signature::try_from(text).ok()).collect::<Option<Vec<_>>>()?;
        let signature = Signature::try_from(&self.signature).ok()?;
        (set.nonces.len() == witnesses.len()).then_some(ReadSet { set, signature, witnesses })
    }
}

/// Where a walk over a node's memory led. It counts only as part of the answer, whose signature is over it too.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct WalkRoot {
    /// The root of its states.
    pub root: Hash32,
}

/// What a burst found, signed by the node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SignedShares {
    /// The packed nonces, in hex.
    pub shares: String,
    /// The roots of the products of its GPUs, if they were asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roots: Vec<Hash32>,
    /// The root of the walk over its memory, if that was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub walk: Option<Hash32>,
    /// The node's signature over the statement with set, shares, roots and walk.
    pub signature: SignatureText,
}

impl SignedShares {
    /// For the wire.
    #[must_use]
    pub fn new(answer: &Answer) -> Self {
        let (shares, roots) = (hex::encode(&answer.shares.0), answer.roots.clone());
        Self { shares, roots, walk: answer.walk, signature: (&answer.signature).into() }
    }
    /// The answer that it makes with its set; `None` if it is not well formed.
    #[must_use]
    pub fn read(&self, audit: u64, set: NonceSet) -> Option<Answer> {
        if self.shares.len() > 2 * MAX_PACKED || self.roots.len() > usize::from(MAX_AUDITED_GPUS) {
            return None;
        }
        let shares = PackedShares(hex::decode(&self.shares).ok()?);
        let signature = Signature::try_from(&self.signature).ok()?;
        Some(Answer { audit, set, shares, roots: self.roots.clone(), walk: self.walk, signature })
    }
}

/// What a witness said of an audit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "said")]
pub enum WitnessWord {
    /// Nothing yet.
    Nothing,
    /// No answer came in time.
    Late,
    /// One came.
    Saw {
        /// From the sending of its nonce to the answer's arrival.
        elapsed: Millis,
        /// The lowest round trip that it knows.
        round_trip: Millis,
        /// Names what arrived, in hex.
        tag: u64,
    },
    /// Two different things; neither counts.
    Both,
}

/// A witness and its word.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct WitnessView {
    /// Which validator.
    pub witness: NodeId,
    /// Its word; `None` where an older ledger kept the verdict alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub word: Option<WitnessWord>,
}

/// An audit as the ledger keeps it ("capacity check" on the screen).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AuditDetail {
    /// Its number.
    pub number: u64,
    /// Of which node.
    pub node: NodeId,
    /// 1, or 2 for a repetition before all validators.
    pub attempt: u8,
    /// The epoch of the draw.
    pub epoch: u64,
    /// When it was drawn.
    pub drawn_at: Timestamp,
    /// Until when statements are taken, unless the network halts meanwhile.
    pub until: Timestamp,
    /// Part of the seed.
    pub randomness: Hash32,
    /// Hashes a second that the node is held to.
    pub rate: u64,
    /// How long the burst is.
    pub burst: Millis,
    /// The GPUs that are asked, and what of each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<GpuClaim>,
    /// The memory that is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryClaim>,
    /// Who watches, in the order of the set's bits.
    pub witnesses: Vec<WitnessView>,
    /// What the node signed: digests of its set and of its shares.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<AnswerView>,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// And for the GPUs that it asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu_verdict: Option<Verdict>,
    /// And for the memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_verdict: Option<Verdict>,
}

/// What the ledger keeps of a node's answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AnswerView {
    /// Digest of the witnesses' nonces.
    pub set: Hash32,
    /// Digest of the shares.
    pub shares: Option<Hash32>,
    /// The largest hash of the shares: the smaller, the more work.
    pub largest: u64,
    /// The largest hash that passes.
    pub most: u64,
}

impl AnswerView {
    /// What the node signed.
    #[must_use]
    pub const fn statement(&self) -> Statement {
        Statement { set: self.set, shares: self.shares }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pasture_types::SigningKey;

    #[test]
    fn what_is_said_arrives_as_it_was_and_what_is_too_long_does_not() {
        let key = SigningKey::from_seed([1; 32]);
        let set = NonceSet { mask: 0b1011, nonces: vec![1, u64::MAX, 3] };
        let signatures = vec![key.sign(&[1; 32]); 3];
        let sent = SignedSet::new(&set, &key.sign(&[2; 32]), &signatures);
        let read = sent.read().unwrap();
        assert_eq!((read.set, read.signature, read.witnesses), (set.clone(), key.sign(&[2; 32]), signatures));
        let fewer = SignedSet { witnesses: sent.witnesses[1..].to_vec(), ..sent.clone() };
        assert_eq!(fewer.read(), None);
        let long = SignedSet { set: "00".repeat(MAX_SET + 1), ..sent.clone() };
        assert_eq!(long.read(), None);
        let answer = Answer {
            audit: 7,
            set: set.clone(),
            shares: PackedShares(vec![1, 2, 3]),
            roots: vec![],
            walk: Some(Hash32([6; 32])),
            signature: key.sign(&[3; 32]),
        };
        assert_eq!(SignedShares::new(&answer).read(7, set.clone()), Some(answer.clone()));
        let opened = vec![vec![1, 2, 3], vec![], vec![4]];
        let joined = join_opened(&opened);
        assert_eq!(split_opened(&joined, 3).unwrap(), opened);
        for (bytes, devices) in [(&joined[..], 2), (&joined[..], 4), (&joined[1..], 3), (&joined[..joined.len() - 1], 3), (&[], 1)] {
            assert_eq!(split_opened(bytes, devices), None);
        }
        let long = SignedShares { shares: "00".repeat(MAX_PACKED + 1), ..SignedShares::new(&answer) };
        assert_eq!(long.read(7, set), None);
    }
}
