//! The ledger's machine of a zone of this node.
//!
//! Guarantees: begins with the zone's genesis, or with the state that was carried here and whose digest the zone names.

use crate::moving;
use crate::zone::LocalZone;
use pasture_machine::LedgerMachine;

/// The ledger of a zone.
pub(crate) fn of(zone: &LocalZone) -> LedgerMachine {
    let genesis = zone.genesis.clone();
    match &zone.base {
        None => LedgerMachine::new(genesis),
        Some(base) => {
            let (path, digest) = (base.path.clone(), base.chain.entries);
            LedgerMachine::carried(genesis, Box::new(move || moving::entries(&path, &digest)))
        }
    }
}
