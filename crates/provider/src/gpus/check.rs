//! Whether a job's container sees exactly the GPUs that its lease holds, asked from inside it. Spec: `docs/specs/gpu.md` §4.
//!
//! Guarantees: an answer within a deadline; engines that drop requests for devices without a word are found out before anything is
//! billed; what the container says is hostile and shown without control characters. A job that ended before it could be asked is
//! told apart: nothing speaks against it.

use crate::context::Context;
use crate::lease::chain;
use pasture_api::data::HeldGpu;
use pasture_runtime::{InstanceId, RuntimeError};
use pasture_types::resources::display_bytes;
use std::time::Duration;

/// Longest that a container may take to say what it sees: the vendor's tool wakes devices that sleep.
const ASKED_WITHIN: Duration = Duration::from_secs(20);
/// How often an engine is asked that fails for its own reasons, and the pause in between.
const ATTEMPTS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(500);
/// How long an engine may take to note that a job has ended.
const NOTED_WITHIN: Duration = Duration::from_secs(1);
/// Exit codes for a command that is not there or cannot be run.
const NO_SUCH_COMMAND: [i32; 2] = [126, 127];

/// What came out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// It sees its devices and no others.
    Fine,
    /// It ended before it could be asked.
    Ended,
    /// It does not, or nobody can tell.
    Failed(String),
}

/// Looks into a running container.
pub(crate) async fn look(ctx: &Context, id: &InstanceId, held: &[HeldGpu]) -> Verdict {
    let Some(gpus) = &ctx.options.gpus else {
        return Verdict::Failed("this machine's owner offers its GPUs no more".into());
    };
    let mut attempt = 1;
    let why = loop {
        match ctx.runtime.exec(id, gpus.source().check_command(), ASKED_WITHIN).await {
            Ok(out) if out.code == 0 => {
                let text = String::from_utf8_lossy(&out.stdout);
                return match gpus.source().seen(&text).and_then(|seen| compare(held, &seen)) {
                    Ok(()) => Verdict::Fine,
                    Err(why) => Verdict::Failed(why),
                };
            }
            Ok(out) if NO_SUCH_COMMAND.contains(&out.code) => break cannot_run(gpus.source().check_command().first()),
            Ok(out) => break format!("asked for its GPUs, it ended with code {}", out.code),
            Err(RuntimeError::StartFailed { .. }) => break cannot_run(gpus.source().check_command().first()),
            Err(RuntimeError::Deadline { .. }) => break format!("it did not say within {} s which GPUs it sees", ASKED_WITHIN.as_secs()),
            Err(error) if error.is_transient() && attempt < ATTEMPTS => {
                attempt += 1;
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) => break chain(&error),
        }
    };
    // The end of a job ends what was asked inside it; the engine may note it a moment later.
    match tokio::time::timeout(NOTED_WITHIN, ctx.runtime.wait(id)).await {
        Ok(Ok(_)) => Verdict::Ended,
        _ => Verdict::Failed(why),
    }
}

fn cannot_run(command: Option<&String>) -> String {
    let command = command.map_or("the check", String::as_str);
    format!("its image cannot run {command}, so that nobody can see which GPUs it has; use an image with glibc")
}

/// Whether what is seen is what is held.
fn compare(held: &[HeldGpu], seen: &[HeldGpu]) -> Result<(), String> {
    if seen.len() != held.len() {
        return Err(format!("it sees {} GPUs where {} were promised", seen.len(), held.len()));
    }
    for device in held {
        let Some(found) = seen.iter().find(|s| s.uuid == device.uuid) else {
            return Err(format!("it sees another GPU than {}", device.uuid));
        };
        if found.model != device.model {
            let plain: String = found.model.chars().filter(|c| !c.is_control()).take(40).collect();
            return Err(format!("its GPU is {plain} where {} was promised", device.model));
        }
        if found.vram_bytes < device.vram_bytes {
            let [sees, promised] = [found, device].map(|d| display_bytes(d.vram_bytes));
            return Err(format!("its {} has {sees} of memory where {promised} was promised", device.model));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpu(uuid: &str, model: &str, gib: u64) -> HeldGpu {
        HeldGpu { uuid: uuid.into(), model: model.into(), vram_bytes: gib << 30, simulated: false }
    }

    #[test]
    fn only_the_very_devices_will_do() {
        let held = [gpu("GPU-1", "H100", 80), gpu("GPU-2", "H100", 80)];
        let fine = |seen: &[HeldGpu]| compare(&held, seen);
        assert_eq!(fine(&[held[1].clone(), held[0].clone()]), Ok(()), "in any order");
        assert_eq!(fine(&[gpu("GPU-1", "H100", 96), held[1].clone()]), Ok(()), "more memory is no fault");
        for (seen, words) in [
            (vec![], "sees 0 GPUs where 2"),
            (vec![held[0].clone()], "sees 1 GPUs"),
            (vec![held[0].clone(), held[1].clone(), gpu("GPU-3", "H100", 80)], "sees 3 GPUs"),
            (vec![held[0].clone(), held[0].clone()], "another GPU than GPU-2"),
            (vec![held[0].clone(), gpu("GPU-3", "H100", 80)], "another GPU than GPU-2"),
            (vec![held[0].clone(), gpu("GPU-2", "A\u{1b}100", 80)], "is A100 where H100"),
            (vec![gpu("GPU-1", "H100", 40), held[1].clone()], "40 GiB of memory where 80 GiB"),
        ] {
            let why = fine(&seen).unwrap_err();
            assert!(why.contains(words), "{why}");
        }
    }
}
