//! What a chain starts from, and the keys a validator signs with.
//!
//! Guarantees: every validator proved that it holds its BLS key ([`Validator::verify`] is part of starting a
//! chain); secrets do not appear in `Debug`. The zone id is the caller's: it is the hash of everything that the
//! zone's nodes must agree on, of which the validators here are a part.

use crate::block::{Block, HEADER_VERSION, Header};
use crate::error::ChainError;
#[cfg(any(test, feature = "simulation"))]
use crate::sim::memo;
use bytes::Bytes;
use commonware_codec::{Encode as _, FixedSize as _, ReadExt as _};
use commonware_consensus::types::{Epoch, EpochInfo, Epocher, FixedEpocher, Height};
use commonware_cryptography::{
    Hasher as _, Sha256, Signer as _,
    bls12381::primitives::{
        group::{Private, Scalar},
        ops,
        variant::{MinSig, Variant},
    },
    ed25519,
};
use commonware_utils::ordered::Set;
use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU64;
use std::sync::Arc;

const POP_NAMESPACE: &[u8] = b"pasture 2026-11 validator bls v1";
const RANDOMNESS_NAMESPACE: &[u8] = b"pasture 2026-11 randomness v1";
const RANDOMNESS_DOMAIN: &[u8] = b"pasture 2026-11 randomness mix v1";
const VALIDATORS_DOMAIN: &[u8] = b"pasture 2026-11 validators v1";
const BLS_SECRET_DOMAIN: &str = "pasture 2026-11 validator bls secret v1";
const BLS_SCALAR_DST: &[u8] = b"PASTURE_VALIDATOR_BLS_SECRET_V1";

/// Most validators of a term, as many as the ledger seats: bounds certificates, what a vote costs, and the room for messages.
pub(crate) const MAX_VALIDATORS: usize = pasture_types::validator::MAX_SEATS as usize;
/// A term of one block would be the genesis alone; of two it would be mostly changes of term.
const MIN_TERM_BLOCKS: u64 = 4;

pub(crate) type BlsPublic = <MinSig as Variant>::Public;
pub(crate) type BlsSignature = <MinSig as Variant>::Signature;

/// A validator as the genesis names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Validator {
    /// Ed25519 public key: signs votes, identifies the peer.
    pub key: [u8; 32],
    /// BLS12-381 public key (MinSig, 96 bytes): makes the zone's randomness.
    pub bls_key: Vec<u8>,
    /// Proof that the validator holds the BLS key (48 bytes).
    pub bls_pop: Vec<u8>,
}

impl Validator {
    /// Checks the keys and the proof of possession.
    #[must_use]
    pub fn verify(&self) -> bool {
        self.parse().is_some()
    }

    pub(crate) fn parse(&self) -> Option<(ed25519::PublicKey, BlsPublic)> {
        memo::parsed(self, || self.read())
    }

    fn read(&self) -> Option<(ed25519::PublicKey, BlsPublic)> {
        if self.bls_key.len() != BlsPublic::SIZE || self.bls_pop.len() != BlsSignature::SIZE {
            return None;
        }
        let key = ed25519::PublicKey::read(&mut Bytes::copy_from_slice(&self.key)).ok()?;
        let bls = BlsPublic::read(&mut Bytes::copy_from_slice(&self.bls_key)).ok()?;
        let pop = BlsSignature::read(&mut Bytes::copy_from_slice(&self.bls_pop)).ok()?;
        ops::verify_proof_of_possession::<MinSig>(&bls, POP_NAMESPACE, &pop).ok()?;
        Some((key, bls))
    }
}

/// What the first block builds on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Genesis {
    /// The zone's id: the hash of its whole genesis, the state machine's part included.
    pub zone: [u8; 32],
    /// Ledger time of height 0.
    pub timestamp_ms: u64,
    /// Who certifies the blocks of the first term. One key is one vote.
    pub validators: Vec<Validator>,
    /// Blocks of a term of the engine: who certifies changes at the end of one only.
    pub term_blocks: NonZeroU64,
    /// The state that this run begins with, where it is not the zone's first.
    pub base: Option<Base>,
}

/// The last block of another run of the same zone, whose state this run begins with. [`crate::Machine::genesis`] then gives
/// that state's entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Base {
    /// Its height: the next block's is one more.
    pub height: u64,
    /// Its ledger time.
    pub timestamp_ms: u64,
    /// Digest of its header.
    pub digest: [u8; 32],
    /// The zone's randomness after it.
    pub randomness: [u8; 32],
    /// Digest of the entries, by which validators agree what they begin with.
    pub entries: [u8; 32],
    /// The engine's first term of this run: one that the run before never had, so that a vote of then contradicts none of now.
    pub first_term: u64,
}

/// A validator's secrets.
#[derive(Clone)]
pub struct Identity {
    key: ed25519::PrivateKey,
    bls: Private,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("key", &self.key.public_key()).finish_non_exhaustive()
    }
}

impl Identity {
    /// The identity that belongs to a node's 32 secret bytes; the BLS key is derived from them.
    #[must_use]
    pub fn from_secret(secret: &[u8; 32]) -> Option<Self> {
        let key = ed25519::PrivateKey::read(&mut Bytes::copy_from_slice(secret)).ok()?;
        let derived = blake3::derive_key(BLS_SECRET_DOMAIN, secret);
        Some(Self { key, bls: Private::new(Scalar::map(BLS_SCALAR_DST, &derived)) })
    }

    /// The public half, for a genesis.
    #[must_use]
    pub fn validator(&self) -> Validator {
        let pop = ops::sign_proof_of_possession::<MinSig>(&self.bls, POP_NAMESPACE);
        Validator {
            key: self.public_key(),
            bls_key: ops::compute_public::<MinSig>(&self.bls).encode().to_vec(),
            bls_pop: pop.encode().to_vec(),
        }
    }

    /// Ed25519 public key.
    #[must_use]
    pub fn public_key(&self) -> [u8; 32] {
        raw(&self.key.public_key())
    }

    pub(crate) const fn signer(&self) -> &ed25519::PrivateKey {
        &self.key
    }

    /// This validator's contribution to the randomness of a block, and the mix.
    pub(crate) fn randomness(&self, previous: &[u8; 32], height: u64) -> ([u8; 48], [u8; 32]) {
        let signature = ops::sign_message::<MinSig>(&self.bls, RANDOMNESS_NAMESPACE, &randomness_message(previous, height));
        let mut proof = [0u8; 48];
        let encoded = signature.encode();
        if encoded.len() == proof.len() {
            proof.copy_from_slice(&encoded);
        }
        (proof, mix(previous, &proof))
    }
}

/// The 32 bytes of an Ed25519 key.
pub(crate) fn raw(key: &ed25519::PublicKey) -> [u8; 32] {
    let mut out = [0u8; 32];
    let bytes: &[u8] = key.as_ref();
    if bytes.len() == out.len() {
        out.copy_from_slice(bytes);
    }
    out
}

/// The key with these bytes, if they are one.
pub(crate) fn public_key(bytes: &[u8; 32]) -> Option<ed25519::PublicKey> {
    ed25519::PublicKey::read(&mut Bytes::copy_from_slice(bytes)).ok()
}

fn randomness_message(previous: &[u8; 32], height: u64) -> Vec<u8> {
    let mut message = previous.to_vec();
    message.extend_from_slice(&height.to_be_bytes());
    message
}

fn mix(previous: &[u8; 32], proof: &[u8; 48]) -> [u8; 32] {
    Sha256::hash(&[RANDOMNESS_DOMAIN, previous, proof]).0
}

/// Who certifies the blocks of a term, with their keys parsed.
pub(crate) struct Seats {
    /// What headers name it by.
    pub(crate) hash: [u8; 32],
    pub(crate) keys: BTreeMap<ed25519::PublicKey, BlsPublic>,
    /// The same as they were named, ascending by key.
    pub(crate) named: Vec<Validator>,
}

impl Seats {
    /// Checks and orders a set.
    pub(crate) fn new(validators: &[Validator]) -> Result<Self, ChainError> {
        let mut members = BTreeMap::new();
        for (index, validator) in validators.iter().enumerate() {
            let (key, bls) =
                validator.parse().ok_or_else(|| ChainError::Genesis(format!("validator {index} has a bad key or proof of possession")))?;
            if members.insert(key, (bls, validator.clone())).is_some() {
                return Err(ChainError::Genesis(format!("validator {index} is named twice")));
            }
        }
        if members.is_empty() {
            return Err(ChainError::Genesis("it names no validator".into()));
        }
        if members.len() > MAX_VALIDATORS {
            return Err(ChainError::Genesis(format!("it names more than {MAX_VALIDATORS} validators")));
        }
        let mut encoded = Vec::new();
        for (key, (bls, _)) in &members {
            encoded.extend_from_slice(key.as_ref());
            encoded.extend_from_slice(&bls.encode());
        }
        let hash = Sha256::hash(&[VALIDATORS_DOMAIN, &encoded]).0;
        let named = members.values().map(|(_, validator)| validator.clone()).collect();
        Ok(Self { hash, keys: members.into_iter().map(|(key, (bls, _))| (key, bls)).collect(), named })
    }

    /// Whether a list names exactly these.
    pub(crate) fn are(&self, validators: &[Validator]) -> bool {
        let mut sorted: Vec<&Validator> = validators.iter().collect();
        sorted.sort_by_key(|v| v.key);
        sorted.len() == self.named.len() && sorted.iter().zip(&self.named).all(|(a, b)| a.key == b.key && a.bls_key == b.bls_key)
    }

    /// The keys that sign votes.
    pub(crate) fn participants(&self) -> Set<ed25519::PublicKey> {
        Set::from_iter_dedup(self.keys.keys().cloned())
    }

    /// For the store: the keys and proofs one after another.
    pub(crate) fn encode(&self) -> Vec<u8> {
        self.named.iter().flat_map(|v| [&v.key[..], &v.bls_key, &v.bls_pop].concat()).collect()
    }

    /// The inverse of [`Seats::encode`].
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, ChainError> {
        let records = bytes.chunks(32 + BlsPublic::SIZE + BlsSignature::SIZE);
        let validators = records.map(|record| {
            let (key, rest) = record.split_first_chunk::<32>()?;
            let (bls_key, bls_pop) = rest.split_at_checked(BlsPublic::SIZE)?;
            Some(Validator { key: *key, bls_key: bls_key.to_vec(), bls_pop: bls_pop.to_vec() })
        });
        let validators: Option<Vec<Validator>> = validators.collect();
        Self::new(&validators.ok_or_else(|| ChainError::Genesis("a stored validator set is unreadable".into()))?)
    }

    /// Whether a header's randomness is its proposer's and follows from the parent's.
    pub(crate) fn randomness_follows(&self, header: &Header, previous: &[u8; 32], proposer: &ed25519::PublicKey) -> bool {
        let Some(bls) = self.keys.get(proposer) else { return false };
        let Ok(signature) = BlsSignature::read(&mut Bytes::copy_from_slice(&header.randomness_proof)) else { return false };
        let message = randomness_message(previous, header.height);
        let verify = || ops::verify_message::<MinSig>(bls, RANDOMNESS_NAMESPACE, &message, &signature).is_ok();
        memo::verified(&[&bls.encode(), &message, &header.randomness_proof], verify)
            && header.randomness == mix(previous, &header.randomness_proof)
    }
}

/// Which heights of the engine belong to which of its terms: all are of one length, and a run counts them from its first.
#[derive(Clone, Debug)]
pub(crate) struct TermLengths {
    first: u64,
    length: FixedEpocher,
}

impl TermLengths {
    /// The same term of a run whose first is 0.
    fn counted(&self, term: Epoch) -> Option<Epoch> {
        term.get().checked_sub(self.first).map(Epoch::new)
    }
}

impl Epocher for TermLengths {
    fn containing(&self, height: Height) -> Option<EpochInfo> {
        let info = self.length.containing(height)?;
        let term = info.epoch().get().checked_add(self.first)?;
        Some(EpochInfo::new(Epoch::new(term), height, info.first(), info.last()))
    }
    fn first(&self, term: Epoch) -> Option<Height> {
        self.length.first(self.counted(term)?)
    }
    fn last(&self, term: Epoch) -> Option<Height> {
        self.length.last(self.counted(term)?)
    }
}

/// What a run of the engine begins with.
#[derive(Clone)]
pub(crate) struct Roster {
    pub(crate) zone: [u8; 32],
    /// Blocks of a term of the engine.
    pub(crate) term_blocks: NonZeroU64,
    terms: TermLengths,
    /// Who certifies the first term.
    pub(crate) founders: Arc<Seats>,
    pub(crate) genesis: Block,
}

impl Roster {
    /// Checks a genesis. `ops` is the target of an empty state store.
    pub(crate) fn new(genesis: &Genesis, ops_root: [u8; 32], ops: (u64, u64)) -> Result<Self, ChainError> {
        let founders = Seats::new(&genesis.validators)?;
        let first = founders.named.first().map(|v| v.key).unwrap_or_default();
        if genesis.term_blocks.get() < MIN_TERM_BLOCKS {
            return Err(ChainError::Genesis(format!("a term of the engine has at least {MIN_TERM_BLOCKS} blocks")));
        }
        let base = genesis.base.unwrap_or(Base {
            height: 0,
            timestamp_ms: genesis.timestamp_ms,
            digest: [0; 32],
            randomness: mix(&genesis.zone, &[0; 48]),
            entries: ops_root,
            first_term: 0,
        });
        let header = Header {
            version: HEADER_VERSION,
            zone: genesis.zone,
            height: base.height,
            base: base.height,
            parent: base.digest,
            timestamp_ms: base.timestamp_ms,
            state_root: base.entries,
            ops_root,
            ops_start: ops.0,
            ops_end: ops.1,
            tx_root: crate::block::tx_root(&[]),
            validators: founders.hash,
            next_validators: founders.hash,
            proposer: first,
            randomness: base.randomness,
            randomness_proof: [0; 48],
            term: base.first_term,
            view: 0,
            parent_view: 0,
        };
        let block = Block::new(header, Vec::new()).ok_or_else(|| ChainError::Genesis("a validator key is not a key".into()))?;
        let terms = TermLengths { first: base.first_term, length: FixedEpocher::new(genesis.term_blocks) };
        Ok(Self { zone: genesis.zone, term_blocks: genesis.term_blocks, terms, founders: Arc::new(founders), genesis: block })
    }

    /// What the engine calls a height: it counts from the block that this run began with. `None` before that.
    pub(crate) fn engine_height(&self, height: u64) -> Option<Height> {
        height.checked_sub(self.genesis.header.base).map(Height::new)
    }

    /// Which heights of the engine belong to which of its terms.
    pub(crate) fn terms(&self) -> TermLengths {
        self.terms.clone()
    }

    /// Whether a block is the last one of its term.
    pub(crate) fn ends_term(&self, header: &Header) -> bool {
        let terms = self.terms();
        let height = self.engine_height(header.height);
        height.is_some_and(|height| terms.containing(height).is_some_and(|info| info.last() == height))
    }
}

/// What depends on bytes alone is checked each time. A simulated run, whose validators share a thread, remembers it: `sim::memo`.
#[cfg(not(any(test, feature = "simulation")))]
pub(crate) mod memo {
    use super::{BlsPublic, Validator, ed25519};

    pub(super) fn parsed(
        _: &Validator,
        check: impl FnOnce() -> Option<(ed25519::PublicKey, BlsPublic)>,
    ) -> Option<(ed25519::PublicKey, BlsPublic)> {
        check()
    }

    pub(super) fn verified(_: &[&[u8]], check: impl FnOnce() -> bool) -> bool {
        check()
    }

    pub(crate) fn certified(_: &[&[u8]], check: impl FnOnce() -> bool) -> bool {
        check()
    }
}
