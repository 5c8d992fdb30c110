//! Blocks: a header of fixed size, which the certificate covers through its digest, and the transactions.
//!
//! Guarantees: one encoding per header and per block; the digest commits to every byte of the header, the header
//! to every transaction through [`tx_root`]. Decoding checks sizes before it allocates and never panics.
//! Whether a block is valid is decided in `app`, not here.

use bytes::Bytes;
use commonware_codec::{Buf, EncodeSize, Error as CodecError, FixedSize, RangeCfg, Read, ReadExt as _, Write};
use commonware_consensus::{
    Block as ConsensusBlock, BoundedBlock, CertifiableBlock, Heightable,
    simplex::types::Context,
    types::{Epoch, Height, Round, View},
};
use commonware_cryptography::{Digestible, Hasher as _, Sha256, ed25519, sha256};
use commonware_runtime::BufMut;
use commonware_storage::mmr;
use commonware_utils::range::NonEmptyRange;

/// Version of the header's format.
pub const HEADER_VERSION: u16 = 3;
/// Bytes of an encoded header.
pub const HEADER_SIZE: usize = 2 + 32 * 9 + 48 + 8 * 8;
/// Most transactions in a block.
pub(crate) const MAX_BLOCK_TXS: usize = 20_000;
/// Most bytes of transactions in a block.
pub(crate) const MAX_BLOCK_BYTES: usize = 4 << 20;
/// Most bytes of one transaction on the wire; the pool's limit is lower.
pub(crate) const MAX_TX_BYTES: usize = 1 << 20;

const HEADER_DOMAIN: &[u8] = b"pasture 2026-11 header v3";
const LEAF: &[u8] = &[0];
const NODE: &[u8] = &[1];

pub(crate) type Digest = sha256::Digest;
pub(crate) type Ctx = Context<Digest, ed25519::PublicKey>;
pub(crate) type Location = mmr::Location;

/// What a finality certificate vouches for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Format of the header.
    pub version: u16,
    /// The zone.
    pub zone: [u8; 32],
    /// Height; genesis is 0.
    pub height: u64,
    /// Height that this run of the engine began at: 0, or that of the state it was given (`docs/adr/0007`).
    pub base: u64,
    /// Digest of the parent's header.
    pub parent: [u8; 32],
    /// Ledger time in milliseconds since the Unix epoch.
    pub timestamp_ms: u64,
    /// Root of the state after this block: what proofs are checked against.
    pub state_root: [u8; 32],
    /// Root of the operations log, which a joining node synchronises to.
    pub ops_root: [u8; 32],
    /// First operation a joining node needs.
    pub ops_start: u64,
    /// End of the operations log.
    pub ops_end: u64,
    /// Root over the transactions.
    pub tx_root: [u8; 32],
    /// Hash of the validator set that may certify this block.
    pub validators: [u8; 32],
    /// Hash of the set that may certify the next one: another set only in the last block of a term.
    pub next_validators: [u8; 32],
    /// Ed25519 key of the validator that proposed the block.
    pub proposer: [u8; 32],
    /// `H(parent's randomness, randomness_proof)`.
    pub randomness: [u8; 32],
    /// The proposer's BLS12-381 signature over the parent's randomness and this height.
    pub randomness_proof: [u8; 48],
    /// The engine's term (its own epoch, not the ledger's).
    pub term: u64,
    /// The engine's round within the term.
    pub view: u64,
    /// The view in which the parent was proposed.
    pub parent_view: u64,
}

impl Header {
    /// Whether this is the block that the engine began with: it was executed by nobody here, and no certificate covers it.
    #[must_use]
    pub const fn is_base(&self) -> bool {
        self.height == self.base
    }

    /// Operations that make the state after this block.
    pub(crate) const fn operations(&self) -> u64 {
        self.ops_end.saturating_sub(self.ops_start)
    }

    /// The bytes that [`Header::digest`] covers.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_SIZE);
        self.write(&mut out);
        out
    }

    /// Reads a header from exactly its bytes.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != HEADER_SIZE {
            return None;
        }
        Self::read(&mut Bytes::copy_from_slice(bytes)).ok()
    }

    /// Identity of the block.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        self.id().0
    }

    pub(crate) fn id(&self) -> Digest {
        Sha256::hash(&[HEADER_DOMAIN, &self.encode()])
    }

    pub(crate) fn ops_range(&self) -> Option<NonEmptyRange<Location>> {
        NonEmptyRange::new(Location::new(self.ops_start)..Location::new(self.ops_end)).ok()
    }
}

impl Write for Header {
    fn write(&self, buf: &mut impl BufMut) {
        buf.put_u16(self.version);
        buf.put_slice(&self.zone);
        buf.put_u64(self.height);
        buf.put_u64(self.base);
        buf.put_slice(&self.parent);
        buf.put_u64(self.timestamp_ms);
        buf.put_slice(&self.state_root);
        buf.put_slice(&self.ops_root);
        buf.put_u64(self.ops_start);
        buf.put_u64(self.ops_end);
        buf.put_slice(&self.tx_root);
        buf.put_slice(&self.validators);
        buf.put_slice(&self.next_validators);
        buf.put_slice(&self.proposer);
        buf.put_slice(&self.randomness);
        buf.put_slice(&self.randomness_proof);
        buf.put_u64(self.term);
        buf.put_u64(self.view);
        buf.put_u64(self.parent_view);
    }
}

impl FixedSize for Header {
    const SIZE: usize = HEADER_SIZE;
}

impl Read for Header {
    type Cfg = ();
    fn read_cfg(buf: &mut impl Buf, (): &()) -> Result<Self, CodecError> {
        let header = Self {
            version: u16::read(buf)?,
            zone: <[u8; 32]>::read(buf)?,
            height: u64::read(buf)?,
            base: u64::read(buf)?,
            parent: <[u8; 32]>::read(buf)?,
            timestamp_ms: u64::read(buf)?,
            state_root: <[u8; 32]>::read(buf)?,
            ops_root: <[u8; 32]>::read(buf)?,
            ops_start: u64::read(buf)?,
            ops_end: u64::read(buf)?,
            tx_root: <[u8; 32]>::read(buf)?,
            validators: <[u8; 32]>::read(buf)?,
            next_validators: <[u8; 32]>::read(buf)?,
            proposer: <[u8; 32]>::read(buf)?,
            randomness: <[u8; 32]>::read(buf)?,
            randomness_proof: <[u8; 48]>::read(buf)?,
            term: u64::read(buf)?,
            view: u64::read(buf)?,
            parent_view: u64::read(buf)?,
        };
        if header.version != HEADER_VERSION {
            return Err(CodecError::Invalid("Header", "unknown version"));
        }
        if header.base > header.height {
            return Err(CodecError::Invalid("Header", "height before its base"));
        }
        let (start, end) = (Location::new(header.ops_start), Location::new(header.ops_end));
        if start >= end || !start.is_valid() || !end.is_valid() {
            return Err(CodecError::Invalid("Header", "operations range"));
        }
        Ok(header)
    }
}

/// Root over a block's transactions: a binary tree of SHA-256 with distinct leaves and nodes; an odd node moves up.
#[must_use]
pub fn tx_root(txs: &[Bytes]) -> [u8; 32] {
    let mut level: Vec<Digest> = txs.iter().map(|tx| Sha256::hash(&[LEAF, tx])).collect();
    while level.len() > 1 {
        level = level
            .chunks(2)
            .map(|pair| match pair {
                [left, right] => Sha256::hash(&[NODE, left.as_ref(), right.as_ref()]),
                [odd] => *odd,
                _ => Sha256::hash(&[]),
            })
            .collect();
    }
    level.first().map_or([0; 32], |root| root.0)
}

/// A block as the engine sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) header: Header,
    pub(crate) txs: Vec<Bytes>,
    leader: ed25519::PublicKey,
}

impl Block {
    /// `None` if the header's proposer is not a key.
    pub(crate) fn new(header: Header, txs: Vec<Bytes>) -> Option<Self> {
        let leader = ed25519::PublicKey::read(&mut Bytes::copy_from_slice(&header.proposer)).ok()?;
        Some(Self { header, txs, leader })
    }
}

impl Write for Block {
    fn write(&self, buf: &mut impl BufMut) {
        self.header.write(buf);
        self.txs.write(buf);
    }
}

impl EncodeSize for Block {
    fn encode_size(&self) -> usize {
        HEADER_SIZE + self.txs.encode_size()
    }
}

impl Read for Block {
    type Cfg = ();
    fn read_cfg(buf: &mut impl Buf, (): &()) -> Result<Self, CodecError> {
        let header = Header::read(buf)?;
        let txs = Vec::<Bytes>::read_cfg(buf, &(RangeCfg::from(0..=MAX_BLOCK_TXS), RangeCfg::from(0..=MAX_TX_BYTES)))?;
        Self::new(header, txs).ok_or(CodecError::Invalid("Block", "proposer"))
    }
}

impl Digestible for Block {
    type Digest = Digest;
    fn digest(&self) -> Digest {
        self.header.id()
    }
}

impl Heightable for Block {
    fn height(&self) -> Height {
        // The engine counts from what it began with.
        Height::new(self.header.height.saturating_sub(self.header.base))
    }
}

impl ConsensusBlock for Block {
    fn parent(&self) -> Digest {
        sha256::Digest(self.header.parent)
    }
}

impl CertifiableBlock for Block {
    type Context = Ctx;
    fn context(&self) -> Ctx {
        Context {
            round: Round::new(Epoch::new(self.header.term), View::new(self.header.view)),
            leader: self.leader.clone(),
            parent: (View::new(self.header.parent_view), sha256::Digest(self.header.parent)),
        }
    }
}

impl BoundedBlock for Block {
    fn max_encode_size((): &()) -> usize {
        // Lengths: five bytes for the list and for each transaction at most.
        HEADER_SIZE + MAX_BLOCK_BYTES + 5 * (MAX_BLOCK_TXS + 1)
    }
}
