//! Watchers and their evidence, lost nodes, halts, models.

use super::Deed;
use super::leases::{LIVE, some_lease};
use crate::keys::Keys;
use crate::zone::Zone;
use pasture_ledger::{Role, query};
use pasture_types::keys::Signature;
use pasture_types::lease::LeaseState;
use pasture_types::market::{AliveCheck, Failover};
use pasture_types::service::{FailedCheck, LossReport, MANIFEST_MAGIC, ModelClaim, ObserverSignature, ServiceAction, model_digest};
use pasture_types::tx::Action;
use pasture_types::{BlobHash, PublicKey, SigningKey};

/// The account that a manifest of ours names.
const CREATOR: usize = 4;

fn act(action: ServiceAction) -> Vec<Action> {
    vec![Action::Service(Box::new(action))]
}

pub(super) fn any(zone: &mut Zone) -> Option<Deed> {
    match zone.rng.below(12) {
        0 => halt_grace(zone),
        1 => register_model(zone),
        2..=8 => report_failure(zone),
        _ => report_loss(zone),
    }
}

fn manifest(zone: &Zone) -> Vec<u8> {
    [MANIFEST_MAGIC.as_slice(), &zone.accounts[CREATOR].account().0].concat()
}

/// One of three models; the first one's blob is a manifest.
pub(super) fn model(zone: &mut Zone) -> BlobHash {
    match zone.rng.below(3) {
        0 => pasture_types::blob::hash(&manifest(zone)),
        n => BlobHash([n as u8; 32]),
    }
}

fn register_model(zone: &mut Zone) -> Option<Deed> {
    let model = model(zone);
    let with = zone.rng.once_in(2).then(|| manifest(zone));
    let who = if with.is_some() && !zone.rng.once_in(6) { zone.accounts[CREATOR].clone() } else { zone.someone() };
    let key: SigningKey = zone.signer(&who.account())?;
    let mut signature = key.sign(&model_digest(&zone.genesis.zone(), &model, &who.account()));
    if zone.rng.once_in(16) {
        signature = Signature::Ed25519([2; 64]);
    }
    let claim = ModelClaim { model, key: key.public(), signature, manifest: with };
    Some(zone.by(&who, act(ServiceAction::RegisterModel { claim })))
}

fn halt_grace(zone: &mut Zone) -> Option<Deed> {
    let m = zone.machine();
    let owner = if zone.rng.once_in(6) { zone.someone() } else { zone.accounts[m.owner].clone() };
    let epochs = if zone.rng.once_in(8) { 5_000 } else { zone.rng.below(80) as u32 };
    Some(zone.by(&owner, act(ServiceAction::SetHaltGrace { node: m.key.node_id(), epochs })))
}

pub(super) fn watch(zone: &mut Zone) -> Option<Deed> {
    let lease = some_lease(zone, |l| l.state != LeaseState::Closed)?;
    let who = if zone.rng.once_in(10) { zone.someone() } else { zone.key_of(&lease.account).cloned()? };
    let watcher = if zone.rng.once_in(4) { None } else { Some(zone.someone().account()) };
    Some(zone.by(&who, act(ServiceAction::Watch { lease: lease.id, watcher })))
}

fn report_failure(zone: &mut Zone) -> Option<Deed> {
    let named = |l: &pasture_ledger::Lease| l.watch.is_some_and(|w| w.named) && l.evidence.is_none();
    let served = |l: &pasture_ledger::Lease| l.state == LeaseState::Running && l.last_claim() != l.accepted_claim();
    let lease = if zone.rng.once_in(3) {
        some_lease(zone, |l| named(l) && (l.state == LeaseState::Running || l.state == LeaseState::Closing))?
    } else {
        some_lease(zone, |l| named(l) && served(l))?
    };
    let watcher = lease.watch?.account;
    let alive = query::order(&zone.state, &lease.order).map_or(AliveCheck::Exec, |o| o.terms.alive);
    let check = if zone.rng.once_in(10) { AliveCheck::Port(9) } else { alive };
    let epoch = query::zone(&zone.state)?.epoch_of(lease.closing.as_ref().map_or(zone.now, |c| c.at));
    let report = FailedCheck { lease: lease.id, generation: lease.generation, epoch, check };
    let key = if zone.rng.once_in(12) { zone.someone() } else { zone.signer(&watcher)? };
    let signature = key.sign(&report.digest());
    let carrier = if zone.rng.once_in(2) { zone.someone() } else { zone.key_of(&watcher).cloned()? };
    Some(zone.by(&carrier, act(ServiceAction::ReportFailure { report, key: key.public(), signature })))
}

fn report_loss(zone: &mut Zone) -> Option<Deed> {
    let lease = some_lease(zone, |l| LIVE.contains(&l.state) && l.failover != Failover::Off && l.role == Role::Primary)?;
    let record = pasture_ledger::service::query::failover(&zone.state, &lease.id)?;
    let epoch = query::zone(&zone.state)?.epoch_of(zone.now).saturating_sub(if zone.rng.once_in(8) { 4 } else { 0 });
    let report = LossReport { lease: lease.id, generation: lease.generation, epoch };
    let mut signatures: Vec<ObserverSignature> = record
        .observers
        .iter()
        .filter_map(|o| Keys::all().validators.iter().find(|k| k.public() == PublicKey::Ed25519(*o)).map(|k| (o, k)))
        .map(|(observer, key)| ObserverSignature { observer: *observer, signature: key.sign(&report.digest()) })
        .collect();
    match zone.rng.below(6) {
        0 => signatures.truncate(1),
        1 => signatures.push(ObserverSignature { observer: [1; 32], signature: Signature::Ed25519([1; 64]) }),
        _ => {}
    }
    let who = zone.someone();
    Some(zone.by(&who, act(ServiceAction::ReportLoss { report, signatures })))
}
