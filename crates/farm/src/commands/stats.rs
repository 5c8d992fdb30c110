//! `farm stats`: what a running job uses, once a second.
//!
//! Guarantees: reads only. Rates are of the time between two samples; the first sample alone has none and is not shown. It ends when
//! the job does, or with Ctrl-C.

use crate::args::StatsArgs;
use crate::exit::{Exit, Outcome};
use crate::reach::Reached;
use crate::session::App;
use futures::StreamExt as _;
use pasture_api::data::JobStats;
use pasture_types::resources::display_bytes;
use serde::Serialize;

/// What is shown of two samples.
#[derive(Clone, PartialEq, Debug, Serialize)]
struct Shown {
    /// Time of the later one, by the machine's clock.
    at_ms: u64,
    /// Cores in use, in thousandths, and how many it may use.
    cpu_millis: u64,
    cpu_limit_millis: u32,
    memory_bytes: u64,
    memory_limit_bytes: u64,
    /// Bytes a second.
    received_per_s: u64,
    sent_per_s: u64,
    processes: u64,
}

fn between(before: &JobStats, now: &JobStats) -> Option<Shown> {
    let millis = now.at_ms.checked_sub(before.at_ms).filter(|ms| *ms > 0)?;
    let rate = |a: u64, b: u64| b.saturating_sub(a).saturating_mul(1000) / millis;
    Some(Shown {
        at_ms: now.at_ms,
        // A core is a million nanoseconds each millisecond.
        cpu_millis: now.cpu_ns.saturating_sub(before.cpu_ns) / millis / 1000,
        cpu_limit_millis: now.cpu_millis,
        memory_bytes: now.memory_bytes,
        memory_limit_bytes: now.memory_limit_bytes,
        received_per_s: rate(before.received_bytes, now.received_bytes),
        sent_per_s: rate(before.sent_bytes, now.sent_bytes),
        processes: now.processes,
    })
}

fn cores(millis: u64) -> String {
    format!("{}.{:02}", millis / 1000, millis % 1000 / 10)
}

impl Shown {
    fn line(&self) -> String {
        format!(
            "{:>5} of {} CPU   {:>9} of {} memory   {:>9}/s in   {:>9}/s out   {:>4} processes",
            cores(self.cpu_millis),
            cores(self.cpu_limit_millis.into()),
            display_bytes(self.memory_bytes),
            display_bytes(self.memory_limit_bytes),
            display_bytes(self.received_per_s),
            display_bytes(self.sent_per_s),
            self.processes
        )
    }
}

/// Runs the command.
pub(crate) async fn run(app: &App, args: &StatsArgs) -> Outcome {
    let reached = Reached::running(app, &args.job).await?;
    let mut samples = reached.client.stats().await.map_err(|e| reached.failure(e))?;
    let mut before: Option<JobStats> = None;
    while let Some(sample) = samples.next().await {
        let sample = sample.map_err(|e| reached.failure(e))?;
        if let Some(shown) = before.as_ref().and_then(|before| between(before, &sample)) {
            app.out.either(&shown, || shown.line());
            if args.once {
                return Ok(Exit::Ok);
            }
        }
        before = Some(sample);
    }
    app.out.note(&format!("{} runs no more", reached.handle));
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_of_the_time_between_two_samples() {
        let sample = |at_ms, cpu_ns, received_bytes| JobStats {
            at_ms,
            cpu_ns,
            cpu_millis: 500,
            memory_bytes: 3 << 20,
            memory_limit_bytes: 64 << 20,
            received_bytes,
            sent_bytes: 0,
            processes: 2,
        };
        let shown = between(&sample(1_000, 0, 10), &sample(3_000, 500_000_000, 4_106)).unwrap();
        assert_eq!((shown.cpu_millis, shown.received_per_s, shown.sent_per_s), (250, 2_048, 0));
        assert!(shown.line().contains("0.25 of 0.50 CPU") && shown.line().contains("3 MiB of 64 MiB memory"), "{}", shown.line());
        assert_eq!(between(&sample(1_000, 0, 0), &sample(1_000, 5, 5)), None, "no time has passed");
    }
}
