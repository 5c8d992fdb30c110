//! Who collects a model's share. Spec: `docs/specs/settlement.md` §11.
//!
//! Guarantees: a model has one owner at a time; one whose manifest names its creator has that one for good. What was earned before
//! anybody registered is held and paid at once. Who earns how much is `settle`'s to say.

use super::records::Model;
use super::{MODEL_OWNER, assets};
use crate::apply::Tx;
use crate::bank;
use crate::error::TxError;
use crate::tables::{self, get, key, put};
use crate::validate::at_most;
use pasture_types::event::Event;
use pasture_types::service::{MAX_MANIFEST, ModelClaim, ServiceEvent, manifest_creator, model_digest};
use pasture_types::state::{StateRead, StateWrite};
use pasture_types::{AccountId, BlobHash};

fn owner_key(model: &BlobHash) -> Vec<u8> {
    key(MODEL_OWNER, &[&model.0])
}

pub(crate) fn owner(s: &dyn StateRead, model: &BlobHash) -> Option<Model> {
    get(s, &owner_key(model))
}

/// The account that collects, if there is one.
pub(crate) fn creator(s: &dyn StateRead, model: &BlobHash) -> Option<AccountId> {
    owner(s, model).map(|m| m.account)
}

pub(crate) fn register(s: &mut dyn StateWrite, tx: &mut Tx<'_>, claim: &ModelClaim) -> Result<(), TxError> {
    let digest = model_digest(&tx.env.zone.id, &claim.model, &tx.account);
    claim.key.verify(&digest, &claim.signature).map_err(|source| TxError::Signature { whose: "model claim", source })?;
    let named = match &claim.manifest {
        None => false,
        Some(manifest) => {
            at_most("bytes of the manifest", manifest.len() as u64, MAX_MANIFEST as u64)?;
            names(s, claim, manifest)?;
            true
        }
    };
    if owner(s, &claim.model).is_some_and(|old| old.named || !named) {
        return Err(TxError::Model("it has an owner; only a manifest that names its creator beats the first claim"));
    }
    let model = Model { account: tx.account, key: claim.key, named, registered_at: tx.env.now() };
    put(s, owner_key(&claim.model), &model);
    for asset in assets::ids(s) {
        let held = bank::take_held_for_model(s, &claim.model, asset);
        bank::credit(s, &tx.account, asset, held);
    }
    tx.events.push(Event::Service(ServiceEvent::ModelRegistered { model: claim.model, account: tx.account, named }));
    Ok(())
}

/// Whether the manifest is the model's blob and names an account that the claim's key belongs to.
fn names(s: &dyn StateRead, claim: &ModelClaim, manifest: &[u8]) -> Result<(), TxError> {
    if pasture_types::blob::hash(manifest) != claim.model {
        return Err(TxError::Model("the manifest is not the model's blob: its hash differs"));
    }
    let creator = manifest_creator(manifest).ok_or(TxError::Model("the manifest names no creator; leave it out to claim first come"))?;
    let own = claim.key.account() == creator;
    let registered = tables::account(s, &creator).is_some_and(|a| a.keys.binary_search(&claim.key).is_ok());
    if own || registered { Ok(()) } else { Err(TxError::Model("its manifest names somebody else; sign with a key of theirs")) }
}
