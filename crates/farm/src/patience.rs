//! Trying again: pauses that grow, and an end to it.
//!
//! Guarantees: only what may help a moment later is tried again, and never for longer than [`LIMIT`] without progress.

use pasture_api::ApiError;
use std::time::Duration;
use tokio::time::Instant;

/// How long a network or machine may be away before a call to it fails: a restart takes seconds.
const LIMIT: Duration = Duration::from_secs(90);
/// First and longest pause between two attempts.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Pauses that grow until something works.
#[derive(Debug)]
pub(crate) struct Pause(Duration);

impl Pause {
    /// The first pause is short.
    pub(crate) const fn new() -> Self {
        Self(FIRST_PAUSE)
    }
    /// Waits, and will wait longer the next time.
    pub(crate) async fn wait(&mut self) {
        tokio::time::sleep(self.0).await;
        self.0 = (self.0 * 2).min(LONGEST_PAUSE);
    }
    /// It worked: the next pause is short again.
    pub(crate) const fn reset(&mut self) {
        self.0 = FIRST_PAUSE;
    }
}

/// How long to go on.
#[derive(Debug)]
pub(crate) struct Patience {
    until: Instant,
    pause: Pause,
}

impl Patience {
    /// From now on.
    pub(crate) fn new() -> Self {
        Self { until: Instant::now() + LIMIT, pause: Pause::new() }
    }
    /// Something moved forward.
    pub(crate) fn renew(&mut self) {
        *self = Self::new();
    }
    /// Waits before the next attempt; gives the error back if there is no sense in one.
    pub(crate) async fn after(&mut self, error: ApiError) -> Result<(), ApiError> {
        if !error.is_transient() || Instant::now() >= self.until {
            return Err(error);
        }
        self.pause.wait().await;
        Ok(())
    }
}

/// Makes a call until it is answered.
pub(crate) async fn patiently<T, F>(mut call: impl FnMut() -> F) -> Result<T, ApiError>
where
    F: Future<Output = Result<T, ApiError>>,
{
    let mut patience = Patience::new();
    loop {
        match call().await {
            Ok(answer) => return Ok(answer),
            Err(e) => patience.after(e).await?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pasture_api::Problem;

    #[tokio::test]
    async fn only_what_may_help_is_tried_again() {
        let mut left = vec![Ok(7), Err(Problem::unavailable("away")), Err(Problem::unavailable("away"))];
        assert_eq!(patiently(|| std::future::ready(left.pop().unwrap().map_err(ApiError::from))).await.unwrap(), 7);
        let mut calls = 0;
        let refused: Result<(), _> = patiently(|| {
            calls += 1;
            std::future::ready(Err(Problem::bad_request("no").into()))
        })
        .await;
        assert!(refused.is_err());
        assert_eq!(calls, 1);
    }
}
