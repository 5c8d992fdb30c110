//! Ledger time: the wall clock, but never backwards.
//!
//! Guarantees: [`LedgerClock::now`] is never before the parent block's time. When the wall clock was set back, ledger time
//! goes on from the parent at the monotonic clock's pace, so that timers still fire, until the wall clock has
//! caught up. It does not correct a clock that was set forward: blocks made meanwhile keep their time.

use pasture_rt::Clock;
use std::sync::{Arc, Mutex, PoisonError};

/// The clock that gives blocks their time.
pub(crate) struct LedgerClock {
    wall: Arc<dyn Clock>,
    /// Set while the wall clock is behind the ledger: ledger time and the moment it was read, by the clock that nobody sets.
    ahead: Mutex<Option<(u64, u64)>>,
}

impl LedgerClock {
    pub(crate) fn new(wall: Arc<dyn Clock>) -> Self {
        Self { wall, ahead: Mutex::new(None) }
    }

    /// Milliseconds now, on a chain whose latest block has this time.
    pub(crate) fn now(&self, latest_ms: u64) -> u64 {
        let wall = self.wall.now_ms();
        let mut ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
        if wall >= latest_ms && ahead.is_none() {
            return wall;
        }
        let (from, since) = *ahead.get_or_insert_with(|| {
            tracing::warn!(behind_ms = latest_ms.saturating_sub(wall), "the clock was set back; ledger time goes on without it");
            (latest_ms, self.wall.elapsed_ms())
        });
        let passed = self.wall.elapsed_ms().saturating_sub(since);
        let ledger = from.saturating_add(passed);
        if wall >= ledger {
            tracing::info!("the clock has caught up with ledger time");
            *ahead = None;
            return wall.max(latest_ms);
        }
        ledger.max(latest_ms)
    }
}
