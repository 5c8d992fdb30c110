//! What every rule may know besides the state: the zone, the block's time and height.
//!
//! Guarantees: read once for each transaction or block step. It holds no randomness: draws get theirs from the block.

use crate::block::BlockCtx;
use crate::records::{Clock, Zone};
use crate::tables;
use pasture_types::state::StateRead;
use pasture_types::{Millis, Timestamp};

/// The surroundings of a rule.
#[derive(Clone, Debug)]
pub(crate) struct Env {
    pub(crate) zone: Zone,
    pub(crate) clock: Clock,
}

impl Env {
    /// The surroundings in a block; `None` without genesis.
    pub(crate) fn within(s: &dyn StateRead, ctx: &BlockCtx) -> Option<Self> {
        let mut env = Self::load(s)?;
        (env.clock.height, env.clock.time) = (ctx.height, ctx.now);
        Some(env)
    }
    /// The surroundings as of the last block; `None` without genesis.
    pub(crate) fn load(s: &dyn StateRead) -> Option<Self> {
        Some(Self { zone: tables::zone(s)?, clock: tables::clock(s) })
    }
    /// Ledger time.
    pub(crate) const fn now(&self) -> Timestamp {
        self.clock.time
    }
    /// Ledger time less all halts.
    pub(crate) const fn shifted(&self) -> Timestamp {
        self.clock.shifted()
    }
    /// A ledger time less all halts so far.
    pub(crate) const fn shift(&self, at: Timestamp) -> Timestamp {
        Timestamp(at.0.saturating_sub(self.clock.halted.0))
    }
    /// The epoch of now.
    pub(crate) fn epoch(&self) -> u64 {
        self.zone.epoch_of(self.now())
    }
    /// The length of several epochs.
    pub(crate) fn epochs(&self, n: u64) -> Millis {
        self.zone.epochs(n)
    }
}
