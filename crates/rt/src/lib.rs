//! Clock, tasks with a kind, and shutdown: the only crate that names `tokio::spawn` or reads the system's clock.
//!
//! Guarantees: every task has a [`TaskKind`] whose table says what its end means; [`Shutdown`] is ordered and has a
//! deadline. It does not restart anything: components reconcile, tasks do not.

mod clock;
mod shutdown;
mod task;

pub use clock::{Clock, ManualClock, SystemClock};
pub use shutdown::{Shutdown, ShutdownToken};
pub use task::{OnEnd, TaskHandle, TaskKind, spawn, spawn_blocking};
