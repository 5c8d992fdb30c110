//! Through how long a halt a node serves. Spec: `docs/specs/settlement.md` §9.
//!
//! Guarantees: a lease keeps what its node stated when it accepted. What a halt's epochs pay is `proofs` and `settle`'s to say.

use super::HALT_GRACE;
use crate::apply::Tx;
use crate::env::Env;
use crate::error::TxError;
use crate::tables::{self, get, key, put};
use crate::validate::at_most;
use pasture_types::NodeId;
use pasture_types::event::Event;
use pasture_types::service::{MAX_HALT_GRACE, ServiceEvent};
use pasture_types::state::{StateRead, StateWrite};

/// What a lease that this node accepts now gets.
pub(crate) fn of_node(s: &dyn StateRead, env: &Env, node: &NodeId) -> u32 {
    let stated: Option<u32> = get(s, &key(HALT_GRACE, &[&node.0]));
    stated.unwrap_or(env.zone.params.service.halt_grace_epochs).min(MAX_HALT_GRACE)
}

pub(crate) fn set(s: &mut dyn StateWrite, tx: &mut Tx<'_>, node: &NodeId, epochs: u32) -> Result<(), TxError> {
    let record = tables::node(s, node).ok_or_else(|| TxError::unknown("node", node))?;
    if record.provider != tx.account || tx.node.is_some() {
        return Err(TxError::NotYours("the node"));
    }
    at_most("epochs of a halt", u64::from(epochs), u64::from(MAX_HALT_GRACE))?;
    put(s, key(HALT_GRACE, &[&node.0]), &epochs);
    tx.events.push(Event::Service(ServiceEvent::HaltGraceSet { node: *node, epochs }));
    Ok(())
}
