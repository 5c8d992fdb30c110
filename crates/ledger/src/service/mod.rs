//! Service beyond one node and its user: watchers and evidence, failover, halts, modes of verification, models, assets.
//! Spec: `docs/specs/settlement.md` §7-§12, `docs/specs/assets.md`.
//!
//! Guarantees: every table and timer of this area is named here; each action is one of its modules' rules. What a lease pays is
//! `settle`'s to say.

pub(crate) mod assets;
pub(crate) mod billing;
pub(crate) mod bundle;
pub(crate) mod check;
pub(crate) mod failover;
pub(crate) mod halts;
pub(crate) mod models;
pub(crate) mod modes;
pub(crate) mod observers;
pub mod query;
pub mod records;
pub(crate) mod takeover;
pub(crate) mod watch;

use crate::apply::Tx;
use crate::cost::ED25519_US;
use crate::error::TxError;
use pasture_types::service::ServiceAction;
use pasture_types::state::StateWrite;

/// lease -> [`records::Failover`]
pub(crate) const FAILOVER: u8 = 0x70;
/// first height of its draw, lease -> nothing
pub(crate) const DRAW_DUE: u8 = 0x71;
/// model -> [`records::Model`]
pub(crate) const MODEL_OWNER: u8 = 0x72;
/// node -> epochs
pub(crate) const HALT_GRACE: u8 = 0x73;
/// asset -> [`pasture_types::asset::Asset`]
pub(crate) const ASSET: u8 = 0x78;

pub(crate) fn act(s: &mut dyn StateWrite, tx: &mut Tx<'_>, action: &ServiceAction) -> Result<(), TxError> {
    match action {
        ServiceAction::SetHaltGrace { node, epochs } => halts::set(s, tx, node, *epochs),
        ServiceAction::Watch { lease, watcher } => watch::set(s, tx, lease, *watcher),
        ServiceAction::ReportFailure { report, key, signature } => watch::report(s, tx, report, key, signature),
        ServiceAction::ReportLoss { report, signatures } => observers::report(s, tx, report, signatures),
        ServiceAction::RegisterModel { claim } => models::register(s, tx, claim),
        ServiceAction::TestAsset { to, asset, amount } => assets::test_money(s, tx, to, *asset, *amount),
        ServiceAction::Usage(bundle) => bundle::submit(s, tx, bundle),
    }
}

/// Cost in microseconds: reading and writing a few records, and a check for each signature inside.
pub(crate) fn cost_us(action: &ServiceAction) -> u32 {
    match action {
        ServiceAction::SetHaltGrace { .. } | ServiceAction::TestAsset { .. } => 5,
        ServiceAction::Watch { .. } => 15,
        ServiceAction::ReportFailure { .. } => 20 + ED25519_US,
        // As many as there are, even where the rules take fewer: they are counted before they are looked at.
        ServiceAction::ReportLoss { signatures, .. } => 40 + ED25519_US * (signatures.len() as u32),
        ServiceAction::RegisterModel { .. } => 30 + ED25519_US,
        ServiceAction::Usage(bundle) => bundle::cost_us(bundle),
    }
}
