//! Tasks with a kind. One table says what the end of each kind means.

use std::future::Future;

/// What a task is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TaskKind {
    /// Accepts and serves connections for the life of the node.
    Server,
    /// Serves one connection or request stream.
    Connection,
    /// Forwards finalized blocks to those who follow.
    BlockFeed,
    /// The provider's reconcile loop.
    Reconciler,
    /// Runs one lease on a provider.
    Lease,
    /// Follows one container's log.
    LogFollower,
    /// Computes heartbeat shares.
    Prover,
    /// Answers a capacity audit, or watches one.
    Audit,
    /// Waits for operating system signals.
    Signals,
    /// A client's background follow-up (log stream, countersigning).
    ClientFollow,
    /// Reads or writes files for somebody who waits.
    Files,
    /// A part of a herd: its queue, its journal, one of its workers.
    Herd,
}

/// What the end of a task means for its process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OnEnd {
    /// Expected at any time.
    Fine,
    /// Worth a warning when it panicked; whoever started it carries on.
    WarnOnPanic,
}

impl TaskKind {
    /// The table.
    #[must_use]
    pub const fn on_end(self) -> OnEnd {
        match self {
            Self::Connection | Self::Signals | Self::ClientFollow | Self::Files => OnEnd::Fine,
            Self::Server
            | Self::BlockFeed
            | Self::Reconciler
            | Self::Lease
            | Self::LogFollower
            | Self::Prover
            | Self::Audit
            | Self::Herd => OnEnd::WarnOnPanic,
        }
    }
}

/// A running task; dropping it lets the task run on, [`TaskHandle::abort`] ends it.
#[derive(Debug)]
pub struct TaskHandle<T = ()>(tokio::task::JoinHandle<T>);

impl<T> TaskHandle<T> {
    /// Waits for its end; `None` if it panicked or was aborted.
    pub async fn join(self) -> Option<T> {
        self.0.await.ok()
    }
    /// The same for who may stop waiting and wait again; not once it has answered.
    pub async fn ended(&mut self) -> Option<T> {
        (&mut self.0).await.ok()
    }
    /// Ends it at its next await point.
    pub fn abort(&self) {
        self.0.abort();
    }
    /// Whether it has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.0.is_finished()
    }
}

/// Starts a task.
#[allow(clippy::disallowed_methods)] // the one place that names it
pub fn spawn<F>(kind: TaskKind, future: F) -> TaskHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let guard = PanicGuard { kind };
    TaskHandle(tokio::spawn(async move {
        let guard = guard;
        let out = future.await;
        std::mem::forget(guard);
        out
    }))
}

/// Runs blocking work on the blocking pool.
pub fn spawn_blocking<F, T>(kind: TaskKind, work: F) -> TaskHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let guard = PanicGuard { kind };
    TaskHandle(tokio::task::spawn_blocking(move || {
        let guard = guard;
        let out = work();
        std::mem::forget(guard);
        out
    }))
}

struct PanicGuard {
    kind: TaskKind,
}

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if std::thread::panicking() && self.kind.on_end() == OnEnd::WarnOnPanic {
            tracing::error!(kind = ?self.kind, "a task panicked");
        }
    }
}
