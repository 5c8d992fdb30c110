//! What can be done with a data directory on which no node runs.

use crate::NodeError;
use crate::machine;
use crate::zone::LocalZone;
use pasture_chain::ReplayReport;
use std::path::Path;
use std::sync::Arc;

/// Executes every stored block again from genesis and compares states; changes nothing.
///
/// # Errors
/// No ledger there, a node that runs on it, or a damaged store.
pub fn ledger_replay(data: &Path) -> Result<ReplayReport, NodeError> {
    let zone = LocalZone::load(data)?.ok_or_else(|| NodeError::NoLedger(data.into()))?;
    let genesis = zone.chain_genesis();
    let machine = Arc::new(machine::of(&zone));
    Ok(pasture_chain::replay(&data.join("ledger"), &genesis, machine)?)
}
