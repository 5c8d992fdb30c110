//! Shutdown: one signal asks, a second one insists.

use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The side that ends things.
#[derive(Clone, Default, Debug)]
pub struct Shutdown(CancellationToken);

/// The side that is told.
#[derive(Clone, Debug)]
pub struct ShutdownToken(CancellationToken);

impl Shutdown {
    /// Not yet triggered.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
    /// A token to hand to components.
    #[must_use]
    pub fn token(&self) -> ShutdownToken {
        ShutdownToken(self.0.clone())
    }
    /// Tells everyone. Telling twice does nothing.
    pub fn trigger(&self) {
        self.0.cancel();
    }
    /// Waits for work to end, at most `deadline`; says whether it did.
    pub async fn within<F: Future>(deadline: Duration, work: F) -> Option<F::Output> {
        tokio::time::timeout(deadline, work).await.ok()
    }
}

impl ShutdownToken {
    /// Returns once shutdown was triggered.
    pub async fn requested(&self) {
        self.0.cancelled().await;
    }
    /// Whether it was triggered.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        self.0.is_cancelled()
    }
    /// Runs `work` until it ends or shutdown is triggered.
    pub async fn guard<F: Future>(&self, work: F) -> Option<F::Output> {
        self.0.run_until_cancelled(work).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_guarded_future_ends_on_request() {
        let shutdown = Shutdown::new();
        let token = shutdown.token();
        assert!(!token.is_requested());
        shutdown.trigger();
        assert_eq!(token.guard(std::future::pending::<()>()).await, None);
        token.requested().await;
    }
}
