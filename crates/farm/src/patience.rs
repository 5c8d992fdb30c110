//! Trying again: pauses that grow, and an end to it.
//!
//! Guarantees: only what may help a moment later is tried again, and never for longer than [`LIMIT`] without progress; whoever
//! waits for a network is told so, once.

use crate::render::Output;
use crate::render::number::duration;
use crate::words::plainly;
use pasture_api::ApiError;
use pasture_types::Millis;
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
    /// Whom to tell that we wait; nobody any more once it was said.
    tell: Option<Output>,
}

impl Patience {
    /// From now on.
    pub(crate) fn new() -> Self {
        Self { until: Instant::now() + LIMIT, pause: Pause::new(), tell: None }
    }
    /// The same, and says so when there is something to wait for.
    pub(crate) fn telling(out: Output) -> Self {
        Self { tell: Some(out), ..Self::new() }
    }
    /// Something moved forward.
    pub(crate) fn renew(&mut self) {
        *self = Self { tell: self.tell, ..Self::new() };
    }
    /// Waits before the next attempt; gives the error back if there is no sense in one.
    pub(crate) async fn after(&mut self, error: ApiError) -> Result<(), ApiError> {
        if !error.is_transient() || Instant::now() >= self.until {
            return Err(error);
        }
        if let Some(out) = self.tell.take() {
            let limit = duration(Millis::secs(LIMIT.as_secs()));
            out.note(&format!("! {}; trying again for up to {limit}", plainly(&error.to_string())));
        }
        self.pause.wait().await;
        Ok(())
    }
}

/// Makes a call until it is answered.
pub(crate) async fn patiently<T, F>(call: impl FnMut() -> F) -> Result<T, ApiError>
where
    F: Future<Output = Result<T, ApiError>>,
{
    repeat(Patience::new(), ApiError::is_transient, call).await
}

/// The same, and says when it waits.
pub(crate) async fn patiently_telling<T, F>(out: Output, call: impl FnMut() -> F) -> Result<T, ApiError>
where
    F: Future<Output = Result<T, ApiError>>,
{
    repeat(Patience::telling(out), ApiError::is_transient, call).await
}

/// The same while the network is away; an answer that says that somebody behind it is away is an answer.
pub(crate) async fn while_away<T, F>(out: Output, call: impl FnMut() -> F) -> Result<T, ApiError>
where
    F: Future<Output = Result<T, ApiError>>,
{
    repeat(Patience::telling(out), |e| e.is_transient() && e.problem().is_none(), call).await
}

/// The first call of a command. Where nobody listens there is probably no network, and that is said at once; a connection that
/// breaks off is that of a network which is going, and may come again.
pub(crate) async fn first_call<T, F>(out: Output, mut call: impl FnMut() -> F) -> Result<T, ApiError>
where
    F: Future<Output = Result<T, ApiError>>,
{
    match call().await {
        Err(ApiError::Broken { .. }) => patiently_telling(out, call).await,
        other => other,
    }
}

/// How a call is repeated that is both a command's first and a later one, depending on the command.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Calls {
    /// Nobody answered yet: [`first_call`].
    First(Output),
    /// The network answered before, so there is one: [`patiently_telling`].
    Later(Output),
}

impl Calls {
    /// Makes the call.
    pub(crate) async fn make<T, F>(self, call: impl FnMut() -> F) -> Result<T, ApiError>
    where
        F: Future<Output = Result<T, ApiError>>,
    {
        match self {
            Self::First(out) => first_call(out, call).await,
            Self::Later(out) => patiently_telling(out, call).await,
        }
    }
}

async fn repeat<T, F>(mut patience: Patience, helps: impl Fn(&ApiError) -> bool, mut call: impl FnMut() -> F) -> Result<T, ApiError>
where
    F: Future<Output = Result<T, ApiError>>,
{
    loop {
        match call().await {
            Ok(answer) => return Ok(answer),
            Err(e) if helps(&e) => patience.after(e).await?,
            Err(e) => return Err(e),
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

    #[tokio::test]
    async fn a_machine_that_is_away_is_an_answer_of_a_network_that_is_not() {
        let mut calls = 0;
        let out = Output::new(crate::args::Format::Table, true, true, false);
        let away: Result<(), _> = while_away(out, || {
            calls += 1;
            std::future::ready(Err(Problem::unavailable("the machine is away").into()))
        })
        .await;
        assert_eq!((away.is_err(), calls), (true, 1));
    }
}
