//! Usage of many leases in one action. Spec: `docs/specs/settlement.md` §1.
//!
//! Guarantees: each usage is held to the same rules as one that comes alone; the node's signature of the envelope stands for its
//! signatures of the usages, and every confirmation is checked over the whole usage. A usage that is refused leaves no trace and
//! keeps no other from being taken: a lease that closed meanwhile must not cost its neighbours their pay.

use crate::apply::Tx;
use crate::cost::signature_us;
use crate::error::TxError;
use crate::lease::take_usage;
use crate::records::Lease;
use crate::tables::{self, LEASE_OPEN, key, keys_with, tail_id};
use pasture_types::bundle::{BundledUsage, Confirmed, Confirmer, Known, MAX_BUNDLED_USAGES, UsageBundle};
use pasture_types::lease::Countersignature;
use pasture_types::state::{StateRead, StateWrite};
use pasture_types::{LeaseId, NodeId};

/// Reading and writing a lease, and finding it.
const USAGE_US: u32 = 12;

/// In microseconds, like so many usages that come alone, less their nodes' signatures.
pub(crate) fn cost_us(bundle: &UsageBundle) -> u32 {
    let one = |u: &BundledUsage| USAGE_US + u.confirmed.map_or(0, |c| signature_us(&c.signature));
    bundle.usages.iter().map(one).fold(0, u32::saturating_add)
}

pub(crate) fn submit(s: &mut dyn StateWrite, tx: &mut Tx<'_>, bundle: &UsageBundle) -> Result<(), TxError> {
    let Some(node) = tx.node else { return Err(TxError::Usage("a bundle is signed with the node's own key")) };
    if bundle.usages.is_empty() {
        return Err(TxError::Usage("the bundle holds none"));
    }
    crate::validate::at_most("usages in a bundle", bundle.usages.len() as u64, MAX_BUNDLED_USAGES as u64)?;
    let (mut refused, mut taken) = (None, false);
    for usage in &bundle.usages {
        match take(s, tx, node, bundle.epoch, usage) {
            Ok(()) => taken = true,
            Err(why) => refused = refused.or(Some(why)),
        }
    }
    match refused {
        Some(why) if !taken => Err(why),
        Some(_) | None => Ok(()),
    }
}

fn take(s: &mut dyn StateWrite, tx: &mut Tx<'_>, node: NodeId, epoch: u64, bundled: &BundledUsage) -> Result<(), TxError> {
    let lease = named(s, node, bundled)?;
    let known = Known { lease: lease.id, generation: lease.generation, started: lease.started_at, last: lease.last.as_ref() };
    let Some(usage) = bundled.unpack(epoch, &known) else {
        return Err(TxError::Usage("it leaves out what is not recorded yet"));
    };
    let countersignature = bundled.confirmed.map(|c| whose(s, &lease, &c)).transpose()?;
    take_usage(s, tx, &usage, node, None, countersignature.as_ref())
}

/// The one open lease of the node whose id begins so.
fn named(s: &dyn StateRead, node: NodeId, bundled: &BundledUsage) -> Result<Lease, TxError> {
    match keys_with(s, &key(LEASE_OPEN, &[&node.0, &bundled.lease]), 2).as_slice() {
        [only] => tail_id(only).and_then(|id| tables::lease(s, &LeaseId(id))).ok_or(TxError::Usage("its lease is not recorded")),
        [] => Err(TxError::Usage("the node has no open lease whose id begins so")),
        _ => Err(TxError::Usage("several open leases begin so; send it alone")),
    }
}

fn whose(s: &dyn StateRead, lease: &Lease, confirmed: &Confirmed) -> Result<Countersignature, TxError> {
    let account = match (confirmed.by, lease.watch) {
        (Confirmer::User, _) => lease.account,
        (Confirmer::Watcher, Some(watch)) => watch.account,
        (Confirmer::Watcher, None) => return Err(TxError::Watcher("it does not watch this lease; the user names its watcher")),
    };
    let keys = tables::account(s, &account).map(|a| a.keys).unwrap_or_default();
    let key = keys.get(usize::from(confirmed.key)).copied().ok_or(TxError::Usage("it is confirmed with a key that the account has not"))?;
    Ok(Countersignature { account, key, signature: confirmed.signature })
}
