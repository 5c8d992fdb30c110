//! What an audit asks of GPUs: one matrix product a device, as large as the zone says that its model can. Spec: `docs/specs/audits.md` §12.
//!
//! Guarantees: node, witness and ledger make the same claims and digests from the same numbers. It multiplies nothing: the shape
//! of a product is `pasture-proofs`' affair.

use super::shares::PackedShares;
use crate::event::Hash32;
use crate::governance::{OutOfBounds, within};
use crate::ids::derive;
use crate::keys::{Signature, SigningKey};
use crate::resources::GpuLine;
use crate::{Millis, NodeId, ZoneId};
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

const PROVEN_DOMAIN: &str = "pasture 2026-11 audit proven tag v1";
const ROOTS_DOMAIN: &str = "pasture 2026-11 audit roots v1";
const BEACON_DOMAIN: &str = "pasture 2026-11 audit beacon v1";

/// Most models that a zone has rates of.
pub const MAX_GPU_RATES: usize = 32;
/// Most devices of a node that one audit asks; more are not proven, and not leased where that counts.
pub const MAX_AUDITED_GPUS: u16 = 16;
/// Largest rate, multiply-adds a second: a row of sums then fits into the transaction that shows it wrong (8,192 columns of one layer, for
/// bursts of up to 4 s).
pub const MAX_GPU_RATE: u64 = 17_000_000_000_000;
/// Most work of a burst: 2^20 rows of 8,192 columns.
const MAX_GPU_WORK: u64 = 1 << 46;
/// Longest name of a model.
const MAX_MODEL: usize = 32;
/// Most bytes of the sums in evidence: half of a transaction.
pub const MAX_SUMS: usize = 32 * 1024;
/// Most hashes from a leaf to its root: of 2^20 rows.
pub const MAX_PATH: usize = 20;

/// What a zone asks of a model.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct GpuRate {
    /// The model, as in [`GpuLine::model`].
    pub model: String,
    /// Multiply-adds a second that each device has to show.
    pub macs_per_s: u64,
}

/// Checks a zone's table of rates.
///
/// # Errors
/// The first bound that is broken.
pub(super) fn check(rates: &[GpuRate], burst: Millis) -> Result<(), OutOfBounds> {
    within("audits.gpus", rates.len() as u64, 0u64, MAX_GPU_RATES as u64)?;
    for rate in rates {
        within("audits.gpus.model (bytes)", rate.model.len() as u64, 1u64, MAX_MODEL as u64)?;
        // Below, a burst of a tenth of a second is too little to be a product at all.
        within("audits.gpus.macs_per_s", rate.macs_per_s, 100_000_000u64, MAX_GPU_RATE)?;
        let work = rate.macs_per_s.saturating_mul(burst.0) / 1_000;
        within("audits.gpus.macs_per_s x audits.burst", work, 0u64, MAX_GPU_WORK)?;
    }
    let twice = rates.iter().zip(rates.iter().skip(1)).filter(|(a, b)| a.model >= b.model).count();
    within("audits.gpus, models out of order", twice as u64, 0u64, 0u64)
}

/// Devices of one model that an audit asks.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct GpuClaim {
    /// The model.
    pub model: String,
    /// How many of them.
    pub count: u16,
    /// Multiply-adds a second of each.
    pub macs_per_s: u64,
}

/// What an audit asks of a node that declares these lines: those of known models, in their order, [`MAX_AUDITED_GPUS`] devices at most.
#[must_use]
pub fn gpu_claims(lines: &[GpuLine], rates: &[GpuRate]) -> Vec<GpuClaim> {
    let mut left = MAX_AUDITED_GPUS;
    let mut claims: Vec<GpuClaim> = Vec::new();
    for line in lines {
        let Some(rate) = rates.iter().find(|rate| rate.model == line.model) else { continue };
        let count = line.count.min(left);
        left -= count;
        // Lines of one model that differ in memory only are one claim.
        match claims.iter_mut().find(|claim| claim.model == line.model) {
            Some(claim) => claim.count += count,
            None => claims.push(GpuClaim { model: line.model.clone(), count, macs_per_s: rate.macs_per_s }),
        }
    }
    claims.retain(|claim| claim.count > 0);
    claims
}

/// The rate of each device, in the order of devices: claim after claim.
#[must_use]
pub fn gpu_devices(claims: &[GpuClaim]) -> Vec<u64> {
    claims.iter().flat_map(|claim| std::iter::repeat_n(claim.macs_per_s, usize::from(claim.count))).collect()
}

/// Names what a burst found: shares alone, or with roots.
pub(super) fn found_digest(shares: &PackedShares, roots: &[Hash32]) -> Hash32 {
    let shares = shares.digest();
    if roots.is_empty() { shares } else { Hash32(derive(ROOTS_DOMAIN, &[&shares.0, &roots_digest(roots).0])) }
}

/// Names the roots of a node's products, in the order of devices.
#[must_use]
pub fn roots_digest(roots: &[Hash32]) -> Hash32 {
    Hash32(derive(ROOTS_DOMAIN, &[&crate::codec::encode(&roots.to_vec())]))
}

/// The tag of an answer whose products the witness had opened and found right; [`super::receipt_tag`] says only that it came.
#[must_use]
pub fn proven_tag(witness: &NodeId, statement_digest: &[u8; 32]) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = derive(PROVEN_DOMAIN, &[&witness.0, statement_digest]);
    u64::from_le_bytes([a, b, c, d, e, f, g, h]).max(1)
}

/// What a witness draws rows with once it has the signed roots, so that no prover knew it when they were fixed: its own secret, told
/// then.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct BeaconOffer {
    /// Who sends it.
    pub witness: NodeId,
    /// It.
    pub secret: Hash32,
}

impl BeaconOffer {
    /// What the witness signs.
    #[must_use]
    pub fn digest(&self, zone: &ZoneId, audit: u64, node: &NodeId, roots: &Hash32) -> [u8; 32] {
        derive(BEACON_DOMAIN, &[&zone.0, &audit.to_le_bytes(), &node.0, &roots.0, &self.witness.0, &self.secret.0])
    }
    /// Signs it.
    #[must_use]
    pub fn sign(&self, zone: &ZoneId, audit: u64, node: &NodeId, roots: &Hash32, witness: &SigningKey) -> Signature {
        witness.sign(&self.digest(zone, audit, node, roots))
    }
    /// The randomness that rows and test vector are drawn from.
    #[must_use]
    pub fn beacon(&self, zone: &ZoneId, audit: u64, node: &NodeId, roots: &Hash32) -> [u8; 32] {
        derive(BEACON_DOMAIN, &[b"drawn", &self.digest(zone, audit, node, roots)])
    }
}

/// An entry of a committed product that is not what it must be: proof against the node that signed its root.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct WrongProduct {
    /// Which audit.
    pub audit: u64,
    /// Which device.
    pub device: u16,
    /// Which row of its product.
    pub row: u32,
    /// Which layer.
    pub layer: u32,
    /// Which column.
    pub column: u32,
    /// The row's sums, layer by layer, as they were committed to.
    pub sums: Vec<u8>,
    /// The hashes that lead from its leaf to the root.
    pub path: Vec<Hash32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(model: &str, count: u16, vram_bytes: u64) -> GpuLine {
        GpuLine { model: model.into(), count, vram_bytes }
    }

    fn rate(model: &str, macs_per_s: u64) -> GpuRate {
        GpuRate { model: model.into(), macs_per_s }
    }

    #[test]
    fn known_models_are_asked_and_no_more_than_sixteen() {
        let rates = [rate("H100", 1_000_000_000), rate("T4", 500_000_000)];
        let lines = [line("H100", 2, 80), line("A9", 4, 1), line("T4", 3, 16), line("H100", 1, 40)];
        let claims = gpu_claims(&lines, &rates);
        let short: Vec<(&str, u16)> = claims.iter().map(|c| (c.model.as_str(), c.count)).collect();
        assert_eq!(short, [("H100", 3), ("T4", 3)]);
        assert_eq!(gpu_devices(&claims), [vec![1_000_000_000; 3], vec![500_000_000; 3]].concat());
        let many = gpu_claims(&[line("H100", 15, 80), line("T4", 64, 16), line("H100", 9, 40)], &rates);
        assert_eq!(many.iter().map(|c| c.count).collect::<Vec<_>>(), [15, 1]);
        assert!(gpu_claims(&lines, &[]).is_empty());
    }

    #[test]
    fn a_table_of_rates_is_sorted_bounded_and_names_each_model_once() {
        let check = |rates: &[GpuRate]| super::check(rates, Millis(4_000));
        assert!(check(&[rate("H100", MAX_GPU_RATE), rate("T4", 100_000_000)]).is_ok() && check(&[]).is_ok());
        assert!(super::check(&[rate("H100", MAX_GPU_RATE)], Millis(8_000)).is_err(), "a row would not fit into evidence");
        for bad in [
            vec![rate("T4", 1 << 30), rate("H100", 1 << 30)],
            vec![rate("T4", 1 << 30), rate("T4", 1 << 30)],
            vec![rate("", 1 << 30)],
            vec![rate("T4", MAX_GPU_RATE + 1)],
            vec![rate("T4", 1)],
        ] {
            assert!(check(&bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_beacon_is_of_one_witness_audit_node_and_set_of_roots() {
        let offer = BeaconOffer { witness: NodeId([1; 32]), secret: Hash32([2; 32]) };
        let (zone, node, roots) = (ZoneId([3; 32]), NodeId([4; 32]), roots_digest(&[Hash32([5; 32])]));
        let all = [
            offer.beacon(&zone, 6, &node, &roots),
            offer.digest(&zone, 6, &node, &roots),
            offer.beacon(&zone, 7, &node, &roots),
            offer.beacon(&zone, 6, &NodeId([9; 32]), &roots),
            offer.beacon(&zone, 6, &node, &roots_digest(&[])),
            offer.beacon(&ZoneId([9; 32]), 6, &node, &roots),
            BeaconOffer { witness: NodeId([9; 32]), ..offer }.beacon(&zone, 6, &node, &roots),
            BeaconOffer { secret: Hash32([9; 32]), ..offer }.beacon(&zone, 6, &node, &roots),
        ];
        assert_eq!(std::collections::BTreeSet::from(all).len(), all.len());
        assert_ne!(proven_tag(&NodeId([1; 32]), &[2; 32]), super::super::receipt_tag(&NodeId([1; 32]), &[2; 32]));
    }
}
