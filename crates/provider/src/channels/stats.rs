//! What a running job uses, once a second, for its user.
//!
//! Guarantees: it ends with the job's container; a client that is gone stops the engine's samples with it. Bounded in number like the
//! channels, since each has the engine measure.

use super::{Kind, problem, running};
use crate::context::Context;
use crate::lease::Shared;
use crate::server::until_shutdown;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::StreamExt as _;
use pasture_api::data::JobStats;
use pasture_api::problem::Problem;
use std::convert::Infallible;

/// Answers with the samples of a job that runs.
pub(crate) fn stats(ctx: &Context, lease: &Shared) -> Result<Response, Problem> {
    let container = running(lease)?;
    let slot = ctx.channels.slot(lease.id(), Kind::Stats)?;
    let limits = lease.view.borrow().manifest.as_ref().map(|m| m.resources.clone()).unwrap_or_default();
    let samples = ctx.runtime.stats(&container).map(move |sample| {
        // It is free when the stream is dropped.
        let _slot = &slot;
        match sample {
            Ok(s) => {
                let stats = JobStats {
                    at_ms: s.at.as_millis(),
                    cpu_ns: s.cpu_ns,
                    cpu_millis: limits.cpu_millis,
                    memory_bytes: s.memory_bytes,
                    memory_limit_bytes: limits.memory_bytes,
                    received_bytes: s.rx_bytes,
                    sent_bytes: s.tx_bytes,
                    processes: s.pids,
                };
                Event::default().json_data(&stats).unwrap_or_else(|_| Event::default().comment("unprintable"))
            }
            Err(error) => {
                let problem = problem(&error);
                Event::default().event("problem").json_data(&problem).unwrap_or_else(|_| Event::default().comment("unprintable"))
            }
        }
    });
    let samples = until_shutdown(ctx.cancel.clone(), samples.map(Ok::<_, Infallible>));
    Ok(Sse::new(samples).keep_alive(KeepAlive::default()).into_response())
}
