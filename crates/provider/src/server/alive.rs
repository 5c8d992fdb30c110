//! The order's alive check, made now.
//!
//! Guarantees: the answer is what was seen at this moment, in words. Where an image has nothing to look with (a static binary
//! on an empty image), the engine's view of the process stands in, and the answer says so.

use crate::context::Context;
use crate::lease::Shared;
use crate::lease::probe::listens;
use pasture_api::data::{AliveAnswer, Phase};
use pasture_runtime::{InstanceId, Observed, RuntimeError};
use pasture_types::Timestamp;
use pasture_types::market::AliveCheck;
use std::time::Duration;

/// How long a job may take to answer.
const EXEC_DEADLINE: Duration = Duration::from_secs(5);
/// How long the lease may take to hear that its container ended.
const DECIDED_WITHIN: Duration = Duration::from_secs(3);
/// Exit codes of a shell for a command that is not there or cannot be run.
const NO_SUCH_COMMAND: [i32; 2] = [126, 127];

fn answer(alive: bool, detail: impl Into<String>) -> AliveAnswer {
    AliveAnswer { alive, detail: detail.into() }
}

pub(super) async fn check(ctx: &Context, lease: &Shared) -> AliveAnswer {
    loop {
        let status = lease.status();
        if status.phase == Phase::Restarting {
            // As its user asked; how long and how often that may be has limits.
            return answer(true, "the job is being started again, as its restart policy says");
        }
        let (Phase::Running, Some(container)) = (status.phase, status.container) else {
            return answer(false, format!("the job does not run now: {:?}", status.phase).to_lowercase());
        };
        let id = InstanceId(container);
        let found = look(ctx, lease, &id, status.started).await;
        if found.alive || !is_over(ctx, &id).await {
            return found;
        }
        // The lease hears of it a moment later, and then says whether the job is over or is started again.
        let mut view = lease.view.subscribe();
        let decided = view.wait_for(|v| v.status.phase != Phase::Running || v.status.container.as_ref() != Some(&id.0));
        match tokio::time::timeout(DECIDED_WITHIN, decided).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) | Err(_) => return found,
        }
    }
}

/// Whether a container does not run any more.
async fn is_over(ctx: &Context, id: &InstanceId) -> bool {
    matches!(ctx.runtime.inspect(id).await, Ok(Some(Observed::Exited(_)) | None))
}

/// Looks at a container that the lease says is running.
async fn look(ctx: &Context, lease: &Shared, id: &InstanceId, started: Option<Timestamp>) -> AliveAnswer {
    // Also sees a container that was frozen, or ended a moment ago.
    match ctx.runtime.inspect(id).await {
        Ok(Some(Observed::Running { .. })) => {}
        Ok(Some(Observed::Paused { .. })) => return answer(false, "the container is frozen"),
        Ok(Some(Observed::Exited(exit))) => return answer(false, format!("the process has ended with exit code {}", exit.code)),
        Ok(Some(Observed::Created)) => return answer(false, "the process has not begun"),
        Ok(None) => return answer(false, "the container is gone"),
        Err(error) => return answer(false, format!("the container engine does not answer: {error}")),
    }
    match lease.terms.alive {
        AliveCheck::Exec => exec(ctx, id).await,
        AliveCheck::Port(port) => self::port(ctx, id, port).await,
        AliveCheck::Log(within) => {
            let last = lease.log.borrow().last_at.or(started).unwrap_or_default();
            let quiet = Timestamp(ctx.clock.now_ms()).since(last);
            answer(quiet <= within, format!("the last output was {:.1} s ago", quiet.0 as f64 / 1000.0))
        }
    }
}

/// Runs a program inside; `None`: the image has no such program.
async fn run(ctx: &Context, id: &InstanceId, command: &[&str]) -> Result<Option<(i32, Vec<u8>)>, RuntimeError> {
    let command = command.iter().map(|c| (*c).to_owned()).collect();
    match ctx.runtime.exec(id, command, EXEC_DEADLINE).await {
        Ok(out) if NO_SUCH_COMMAND.contains(&out.code) => Ok(None),
        Ok(out) => Ok(Some((out.code, out.stdout))),
        Err(RuntimeError::StartFailed { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn exec(ctx: &Context, id: &InstanceId) -> AliveAnswer {
    match run(ctx, id, &["true"]).await {
        Ok(Some((0, _))) => answer(true, "a command inside the job answered"),
        Ok(Some((code, _))) => answer(false, format!("a command inside the job failed with exit code {code}")),
        Ok(None) => answer(true, "the process runs (its image has no command to answer with)"),
        Err(error) => answer(false, format!("no command could be run inside the job: {error}")),
    }
}

/// The job's own table of sockets: also right where nothing can connect from outside.
async fn port(ctx: &Context, id: &InstanceId, port: u16) -> AliveAnswer {
    match run(ctx, id, &["cat", "/proc/net/tcp", "/proc/net/tcp6"]).await {
        // `cat` says 1 where there is no IPv6; what it printed counts.
        Ok(Some((_, table))) if listens(&String::from_utf8_lossy(&table), port) => answer(true, format!("port {port} accepts connections")),
        Ok(Some(_)) => answer(false, format!("nothing listens on port {port}")),
        Ok(None) => answer(true, format!("the process runs; its image has nothing to look at port {port} with")),
        Err(error) => answer(false, format!("port {port} could not be looked at: {error}")),
    }
}
