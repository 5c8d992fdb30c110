//! Typed reads of this area.
//!
//! Guarantees: reads only; lists are bounded by what a zone may have.

use super::records::{Failover, Model};
use super::{assets, billing, failover, halts, models};
use crate::env::Env;
use crate::records::Lease;
use crate::tables;
use pasture_types::asset::Asset;
use pasture_types::service::generation_id;
use pasture_types::state::StateRead;
use pasture_types::{Amount, AssetId, BlobHash, LeaseId, NodeId};

/// Listed assets besides the credit, ascending.
#[must_use]
pub fn assets(s: &dyn StateRead) -> Vec<Asset> {
    assets::list(s)
}

/// A listed asset.
#[must_use]
pub fn asset(s: &dyn StateRead, id: AssetId) -> Option<Asset> {
    assets::find(s, id)
}

/// Who collects a model's share.
#[must_use]
pub fn model(s: &dyn StateRead, model: &BlobHash) -> Option<Model> {
    models::owner(s, model)
}

/// What is held for a model's creator.
#[must_use]
pub fn held_for_model(s: &dyn StateRead, model: &BlobHash, asset: AssetId) -> Amount {
    tables::get(s, &crate::bank::model_key(model, asset)).unwrap_or_default()
}

/// A lease's failover: observers, standby, whether its node is lost.
#[must_use]
pub fn failover(s: &dyn StateRead, lease: &LeaseId) -> Option<Failover> {
    failover::load(s, lease)
}

/// The earlier generations of a lease, oldest first, each with its own account.
#[must_use]
pub fn generations(s: &dyn StateRead, lease: &Lease) -> Vec<Lease> {
    (1..lease.generation).filter_map(|g| tables::lease(s, &generation_id(&lease.id, g))).collect()
}

/// Epochs of a halt through which a node serves the leases that it accepts now.
#[must_use]
pub fn halt_grace(s: &dyn StateRead, node: &NodeId) -> Option<u32> {
    Some(halts::of_node(s, &Env::load(s)?, node))
}

/// What a lease pays per hour for its GPUs.
#[must_use]
pub fn gpu_rate(lease: &Lease) -> Amount {
    billing::gpu_rate(lease)
}
