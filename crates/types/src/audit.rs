//! Capacity audits: what witnesses and audited nodes sign, and the arithmetic that judges it. Spec: `docs/specs/audits.md`.
//!
//! Guarantees: every statement is bound to its zone, audit and signer by one digest; hashes, thresholds and the test of the
//! declared rate live here, in exact integers, so that node, witness and ledger cannot disagree. It judges no audit: the
//! ledger does, and it sends nothing: bursts are the machines' affair.

mod gpu;
mod memory;
mod shares;
mod terms;
mod test_of_rate;

pub use gpu::{
    BeaconOffer, GpuClaim, GpuRate, MAX_AUDITED_GPUS, MAX_GPU_RATE, MAX_GPU_RATES, MAX_PATH, MAX_SUMS, WrongProduct, gpu_claims,
    gpu_devices, proven_tag, roots_digest,
};
pub use memory::{MEMORY_CHUNK, MemoryAsk, MemoryClaim, Shown, commitments_digest, shown_tag};
pub use shares::{MAX_NONCE, MAX_PACKED, PackedShares};
pub use terms::AuditTerms;
pub use test_of_rate::{AUDIT_SHARES, SAMPLE_UNIT, audit_threshold, full_rate, largest_share, overclaims, pooled_rate_ppm, sample};

use crate::event::Hash32;
use crate::governance::{OutOfBounds, within};
use crate::ids::derive;
use crate::keys::{Signature, SigningKey};
use crate::proof::ResourceClass;
use crate::{Millis, NodeId, Timestamp, ZoneId};
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

const SEED_DOMAIN: &str = "pasture 2026-11 audit seed v1";
const NONCE_DOMAIN: &str = "pasture 2026-11 audit nonce v1";
const SET_DOMAIN: &str = "pasture 2026-11 audit nonce set v1";
const STATEMENT_DOMAIN: &str = "pasture 2026-11 audit statement v1";
const TAG_DOMAIN: &str = "pasture 2026-11 audit receipt tag v1";
const RECEIPTS_DOMAIN: &str = "pasture 2026-11 audit receipts v1";
const PLACE_DOMAIN: &str = "pasture 2026-11 audit group v1";

/// Most witnesses of one audit: a set of them is a 64-bit mask.
pub const MAX_WITNESSES: usize = 64;
/// Most receipts in one batch: some 7 KiB.
pub const MAX_RECEIPTS: usize = 512;
/// Most answers in one action: each costs a signature and 32 hashes to check.
pub const MAX_ANSWERS: usize = 16;
/// Most epochs whose heartbeats go on the ledger together.
pub const MAX_BUNDLED_EPOCHS: usize = 5;

/// How a zone audits.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct AuditParams {
    /// Whether ticks draw at all; without, co-signed benchmarks stand in and receipts say so.
    pub active: bool,
    /// How often groups are drawn.
    pub tick: Millis,
    /// Mean time between two audits of a group.
    pub interval: Millis,
    /// Length of a burst at full capacity (T).
    pub burst: Millis,
    /// A burst may take this much longer, in parts per million of it.
    pub slack_ppm: u32,
    /// A burst that the witness in the middle saw this much longer, in parts per million of it, counts as a slow one.
    pub punctual_ppm: u32,
    /// Most of a witness's lowest round trip that counts.
    pub rtt_cap: Millis,
    /// Witnesses that are drawn where more are seated.
    pub witnesses: u16,
    /// Most audits whose shares are pooled to test the declared rate (M).
    pub pool: u16,
    /// A node this far below its declared rate, in parts per million, still counts as honest.
    pub tolerance_ppm: u32,
    /// A node at that edge is de-rated by one test with probability below `e` to minus this (L).
    pub error_exponent: u32,
    /// A passed audit stands for so many epochs.
    pub stands_epochs: u64,
    /// Whether nodes are also grouped by where they are (address range, round trips), not only by operator.
    pub places: bool,
    /// What GPUs have to show, by model in ascending order; others are not audited.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<GpuRate>,
    /// Whether memory is asked, and how; without, it follows the CPU's verdict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryAsk>,
}

impl AuditParams {
    /// Of a development zone: short bursts, off.
    #[must_use]
    pub fn dev() -> Self {
        Self { interval: Millis(100_000), burst: Millis(1_000), places: false, ..Self::production() }
    }
    /// Of a development zone that tries them out: each machine about once in 100 s, the first time at once, and a little of its memory.
    /// Twice the burst is still in time, since such a machine does much else.
    #[must_use]
    pub fn trial() -> Self {
        Self {
            active: true,
            tick: Millis(100_000),
            burst: Millis(2_000),
            slack_ppm: 1_000_000,
            memory: Some(MemoryAsk::trial()),
            ..Self::dev()
        }
    }
    /// Of a production zone: 4 s every 7.5 minutes on average, 0.9 % of the time.
    #[must_use]
    pub const fn production() -> Self {
        Self {
            active: false,
            tick: Millis(5_000),
            interval: Millis(450_000),
            burst: Millis(4_000),
            slack_ppm: 300_000,
            punctual_ppm: 75_000,
            rtt_cap: Millis(300),
            witnesses: 16,
            pool: 128,
            tolerance_ppm: 50_000,
            error_exponent: 16,
            stands_epochs: 60,
            places: true,
            gpus: Vec::new(),
            memory: None,
        }
    }
    /// Checks the bounds of each and of the set, in a zone with this epoch.
    ///
    /// # Errors
    /// The first bound that is broken.
    pub fn check(&self, epoch: Millis) -> Result<(), OutOfBounds> {
        within("audits.interval", self.interval.0, 1_000u64, 24 * 3_600_000u64)?;
        within("audits.tick", self.tick.0, 1_000u64, self.interval.0)?;
        // A burst takes the machine from its tenants: a fiftieth of the time at most. A receipt's time has sixteen bits.
        within("audits.burst", self.burst.0, 100u64, (self.interval.0 / 50).min(epoch.0).min(30_000))?;
        within("audits.slack_ppm", self.slack_ppm, 10_000u32, 1_000_000u32)?;
        within("audits.punctual_ppm", self.punctual_ppm, 1_000u32, self.slack_ppm)?;
        within("audits.rtt_cap", self.rtt_cap.0, 1u64, 1_000u64)?;
        within("audits.witnesses", u64::from(self.witnesses), 1u64, MAX_WITNESSES as u64)?;
        // Each node's record holds so many samples.
        within("audits.pool", self.pool, 8u16, 256u16)?;
        within("audits.tolerance_ppm", self.tolerance_ppm, 0u32, 500_000u32)?;
        // Below, honest nodes would be convicted; above, nobody.
        within("audits.error_exponent", self.error_exponent, 8u32, 64u32)?;
        within("audits.stands_epochs", self.stands_epochs, 1u64, 10_080u64)?;
        self.memory.map_or(Ok(()), |ask| ask.check())?;
        gpu::check(&self.gpus, self.burst)
    }
    /// What an audit is held to from its draw to its verdict.
    #[must_use]
    pub const fn terms(&self) -> AuditTerms {
        AuditTerms { burst: self.burst, slack_ppm: self.slack_ppm, punctual_ppm: self.punctual_ppm, rtt_cap: self.rtt_cap }
    }
}

/// How many nonces a set must hold at least: more than two thirds of the witnesses.
#[must_use]
pub const fn quorum(witnesses: usize) -> usize {
    witnesses * 2 / 3 + 1
}

/// The witnesses' nonces that a burst is computed from; the node signs it before it begins.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct NonceSet {
    /// Bit `i`: witness `i` of the audit is in the set.
    pub mask: u64,
    /// Their nonces, in the order of the bits.
    pub nonces: Vec<u64>,
}

impl NonceSet {
    /// Whether it has one nonce for each of its witnesses, all of them among the first `witnesses`, and enough of them.
    #[must_use]
    pub fn is_sound(&self, witnesses: usize) -> bool {
        let beyond = witnesses < MAX_WITNESSES && self.mask >> witnesses != 0;
        let members = self.mask.count_ones() as usize;
        !beyond && self.nonces.len() == members && members >= quorum(witnesses)
    }
    /// Its digest.
    #[must_use]
    pub fn digest(&self) -> Hash32 {
        Hash32(derive(SET_DOMAIN, &[&crate::codec::encode(self)]))
    }
}

/// What a burst's shares are computed from; unknown to everybody before the witnesses in the set have spoken.
#[must_use]
pub fn audit_seed(
    randomness: &[u8; 32],
    audit: u64,
    node: &NodeId,
    epoch: u64,
    class: ResourceClass,
    device: u16,
    set: &NonceSet,
) -> [u8; 32] {
    let (audit, epoch, device) = (audit.to_le_bytes(), epoch.to_le_bytes(), device.to_le_bytes());
    derive(SEED_DOMAIN, &[randomness, &audit, &node.0, &epoch, &[class as u8], &device, &set.digest().0])
}

/// What a witness signs when it sends its secret nonce to a node (never on the ledger).
#[must_use]
pub fn nonce_digest(zone: &ZoneId, audit: u64, node: &NodeId, nonce: u64) -> [u8; 32] {
    derive(NONCE_DOMAIN, &[&zone.0, &audit.to_le_bytes(), &node.0, &nonce.to_le_bytes()])
}

/// What an audited node signs: first the set alone, then the set with its shares. Two that disagree are proven fraud.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Statement {
    /// [`NonceSet::digest`].
    pub set: Hash32,
    /// Digest of the shares, once there are any.
    pub shares: Option<Hash32>,
}

impl Statement {
    /// What the node signs.
    #[must_use]
    pub fn digest(&self, zone: &ZoneId, audit: u64, node: &NodeId) -> [u8; 32] {
        derive(STATEMENT_DOMAIN, &[&zone.0, &audit.to_le_bytes(), &node.0, &crate::codec::encode(self)])
    }
    /// Whether an honest node cannot have signed both.
    #[must_use]
    pub fn contradicts(&self, other: &Self) -> bool {
        self.set != other.set || matches!((self.shares, other.shares), (Some(a), Some(b)) if a != b)
    }
}

/// A statement with its node's signature: evidence.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct SignedStatement {
    /// What was said.
    pub statement: Statement,
    /// The node's signature over [`Statement::digest`].
    pub signature: Signature,
}

/// A node's answer to an audit as it goes on the ledger, by whoever carries it.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Answer {
    /// Which audit.
    pub audit: u64,
    /// What the shares are computed from.
    pub set: NonceSet,
    /// The smallest hashes' nonces, [`AUDIT_SHARES`] of them.
    pub shares: PackedShares,
    /// The roots of the products of the GPUs that were asked, in the order of devices; none if it does not prove them.
    pub roots: Vec<Hash32>,
    /// The root of the walk over its memory, if that was asked and is proven.
    pub walk: Option<Hash32>,
    /// The node's signature over the digest of [`Answer::statement`].
    pub signature: Signature,
}

impl Answer {
    /// A node's answer, under its signature.
    #[must_use]
    pub fn signed(zone: &ZoneId, audit: u64, set: NonceSet, shares: PackedShares, node: &SigningKey) -> Self {
        Self::with_found(zone, audit, set, shares, (Vec::new(), None), node)
    }
    /// The same with the products of its GPUs, and the walk over its memory.
    #[must_use]
    pub fn with_found(
        zone: &ZoneId,
        audit: u64,
        set: NonceSet,
        shares: PackedShares,
        (roots, walk): (Vec<Hash32>, Option<Hash32>),
        node: &SigningKey,
    ) -> Self {
        let found = memory::with_walk(gpu::found_digest(&shares, &roots), walk.as_ref());
        let statement = Statement { set: set.digest(), shares: Some(found) };
        let signature = node.sign(&statement.digest(zone, audit, &node.node_id()));
        Self { audit, set, shares, roots, walk, signature }
    }
    /// What the node signed.
    #[must_use]
    pub fn statement(&self) -> Statement {
        let found = memory::with_walk(gpu::found_digest(&self.shares, &self.roots), self.walk.as_ref());
        Statement { set: self.set.digest(), shares: Some(found) }
    }
    /// Names all that it commits to and has opened.
    #[must_use]
    pub fn committed(&self) -> Hash32 {
        commitments_digest(&self.roots, self.walk.as_ref())
    }
}

/// A witness's word on one audit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Receipt {
    /// The audit's number less the batch's base.
    pub offset: u16,
    /// From the sending of its nonce to the answer's arrival; 0 if none came in time.
    pub elapsed_ms: u16,
    /// The lowest round trip to the node that it saw in 24 h.
    pub rtt_ms: u16,
    /// [`receipt_tag`] of what arrived in time; 0 if nothing did.
    pub tag: u64,
}

/// Names an answer in a receipt, differently for each witness. The shares of a burst are not known at its deadline to one who
/// has not done the work, so a forger needs a second preimage at every honest witness that counts: 64 bits at least.
#[must_use]
pub fn receipt_tag(witness: &NodeId, statement_digest: &[u8; 32]) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = derive(TAG_DOMAIN, &[&witness.0, statement_digest]);
    u64::from_le_bytes([a, b, c, d, e, f, g, h]).max(1)
}

/// What a witness saw of many audits, under one signature.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct ReceiptBatch {
    /// The validator's key.
    pub witness: NodeId,
    /// Added to each offset.
    pub base: u64,
    /// One for each audit.
    pub receipts: Vec<Receipt>,
}

impl ReceiptBatch {
    /// What the witness signs.
    #[must_use]
    pub fn digest(&self, zone: &ZoneId) -> [u8; 32] {
        derive(RECEIPTS_DOMAIN, &[&zone.0, &crate::codec::encode(self)])
    }
}

/// Where the seated validators find a node: those found in one place are audited together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Placement {
    /// Which node.
    pub node: NodeId,
    /// The place (a hash of an address range or of a round-trip cluster); `None` if it shares none.
    pub place: Option<Hash32>,
    /// The epoch of this word; a later one replaces it.
    pub epoch: u64,
}

impl Placement {
    /// What more than half of the seated validators sign.
    #[must_use]
    pub fn digest(&self, zone: &ZoneId) -> [u8; 32] {
        derive(PLACE_DOMAIN, &[&zone.0, &crate::codec::encode(self)])
    }
}

/// Heartbeats of consecutive epochs under one envelope.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct HeartbeatBundle {
    /// Which node.
    pub node: NodeId,
    /// Which class.
    pub class: ResourceClass,
    /// Which device of the class.
    pub device: u16,
    /// The first epoch.
    pub first: u64,
    /// Its shares and those of the epochs after it; empty where an epoch is left out.
    pub shares: Vec<PackedShares>,
}

/// What transactions say about audits. Variants are only ever added at the end.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub enum AuditAction {
    /// What a witness saw; anyone may carry it.
    Receipts {
        /// The batch.
        batch: ReceiptBatch,
        /// The witness's signature over [`ReceiptBatch::digest`].
        signature: Signature,
    },
    /// What audited nodes answered; anyone may carry it.
    Answers(Vec<Answer>),
    /// Two statements of one node about one audit that contradict each other.
    Contradiction {
        /// Which audit.
        audit: u64,
        /// One.
        one: SignedStatement,
        /// The other.
        other: SignedStatement,
    },
    /// Where a node is, by more than half of the seated validators.
    Place {
        /// The statement.
        placement: Placement,
        /// Signatures over [`Placement::digest`], ascending by key.
        signatures: Vec<(NodeId, Signature)>,
    },
    /// Up to five epochs of heartbeats.
    Heartbeats(HeartbeatBundle),
    /// A product that a node signed the root of and that is wrong; anyone may carry it.
    WrongProduct(WrongProduct),
}

/// How an audit ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// In time before more than half of the witnesses, with enough work.
    Passed,
    /// Not so.
    Failed,
    /// Too few witnesses spoke; it counts for nobody.
    Void,
    /// The node signed two statements that contradict each other.
    Contradicted,
}

/// What happened around audits.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "audit_event")]
pub enum AuditEvent {
    /// A node was drawn: its witnesses send their nonces now.
    Drawn {
        /// The audit's number.
        audit: u64,
        /// Which node.
        node: NodeId,
        /// 1, or 2 when it repeats a failure before all validators.
        attempt: u8,
        /// The epoch of the draw.
        epoch: u64,
        /// Part of the seed.
        randomness: Hash32,
        /// The witnesses' keys, in the order of the set's bits.
        witnesses: Vec<NodeId>,
        /// Until when statements are taken (ledger time, if no halt comes).
        until: Timestamp,
    },
    /// An audit ended.
    Judged {
        /// The audit's number.
        audit: u64,
        /// Which node.
        node: NodeId,
        /// How.
        verdict: Verdict,
        /// Witnesses that said it was in time.
        in_time: u8,
        /// Of so many.
        witnesses: u8,
        /// Whether it is repeated before all validators.
        repeated: bool,
    },
    /// A node's proven rate changed.
    Rated {
        /// Which node.
        node: NodeId,
        /// Its proven share of what it declared, in parts per million.
        proven_ppm: u32,
    },
    /// An audit ended for the node's GPUs.
    GpusJudged {
        /// The audit's number.
        audit: u64,
        /// Which node.
        node: NodeId,
        /// How.
        verdict: Verdict,
        /// Witnesses that had the products opened, and found them right and in time.
        proven: u8,
        /// Of so many.
        witnesses: u8,
        /// Whether it is repeated before all validators.
        repeated: bool,
    },
    /// An audit ended for the node's memory.
    MemoryJudged {
        /// The audit's number.
        audit: u64,
        /// Which node.
        node: NodeId,
        /// How.
        verdict: Verdict,
        /// Witnesses that had the walk opened, and found it right and in time.
        proven: u8,
        /// Of so many.
        witnesses: u8,
        /// Whether it is repeated before all validators.
        repeated: bool,
    },
}

impl AuditEvent {
    /// The node concerned.
    #[must_use]
    pub const fn node(&self) -> &NodeId {
        match self {
            Self::Drawn { node, .. }
            | Self::Judged { node, .. }
            | Self::Rated { node, .. }
            | Self::GpusJudged { node, .. }
            | Self::MemoryJudged { node, .. } => node,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_needs_more_than_two_thirds_of_its_witnesses_and_nobody_else() {
        for (witnesses, least) in [(1, 1), (2, 2), (3, 3), (4, 3), (6, 5), (7, 5), (16, 11), (64, 43)] {
            assert_eq!(quorum(witnesses), least);
            let set = |n: usize| NonceSet { mask: if n == 64 { u64::MAX } else { (1 << n) - 1 }, nonces: vec![7; n] };
            assert!(set(least).is_sound(witnesses) && set(witnesses).is_sound(witnesses));
            assert!(!set(least - 1).is_sound(witnesses));
            let stranger = NonceSet { mask: set(witnesses).mask << 1, nonces: vec![7; witnesses] };
            assert_eq!(stranger.is_sound(witnesses), witnesses == 64 && stranger.nonces.len() == 63);
            assert!(!NonceSet { nonces: vec![7; least + 1], ..set(least) }.is_sound(witnesses));
        }
    }

    #[test]
    fn the_seed_binds_everything() {
        let set = NonceSet { mask: 1, nonces: vec![1] };
        let other = NonceSet { mask: 1, nonces: vec![2] };
        let node = NodeId([1; 32]);
        let seeds = [
            audit_seed(&[0; 32], 1, &node, 1, ResourceClass::Cpu, 0, &set),
            audit_seed(&[1; 32], 1, &node, 1, ResourceClass::Cpu, 0, &set),
            audit_seed(&[0; 32], 2, &node, 1, ResourceClass::Cpu, 0, &set),
            audit_seed(&[0; 32], 1, &NodeId([2; 32]), 1, ResourceClass::Cpu, 0, &set),
            audit_seed(&[0; 32], 1, &node, 2, ResourceClass::Cpu, 0, &set),
            audit_seed(&[0; 32], 1, &node, 1, ResourceClass::Gpu, 0, &set),
            audit_seed(&[0; 32], 1, &node, 1, ResourceClass::Cpu, 1, &set),
            audit_seed(&[0; 32], 1, &node, 1, ResourceClass::Cpu, 0, &other),
        ];
        assert_eq!(std::collections::BTreeSet::from(seeds).len(), seeds.len());
    }

    #[test]
    fn only_statements_that_cannot_both_be_honest_contradict() {
        let (a, b) = (Hash32([1; 32]), Hash32([2; 32]));
        let said = |set, shares| Statement { set, shares };
        assert!(!said(a, None).contradicts(&said(a, Some(b))));
        assert!(!said(a, Some(b)).contradicts(&said(a, Some(b))));
        assert!(said(a, None).contradicts(&said(b, None)));
        assert!(said(a, Some(a)).contradicts(&said(a, Some(b))));
    }
}
