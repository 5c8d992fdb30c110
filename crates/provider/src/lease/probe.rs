//! A job's health check, made now: what the job's user asked for, inside the job and on its processor time.
//!
//! Guarantees: a check ends within its time, whatever the job does; it says what was seen in words without control characters.
//! An image that has nothing to make the check with is told apart from a job that is not well. It decides nothing.

use super::event::{Event, Seen};
use super::shared::Shared;
use super::work::chain;
use crate::context::Context;
use pasture_runtime::{ExecOutput, InstanceId, RuntimeError};
use pasture_types::life::{Health, Probe};
use std::sync::Arc;
use std::time::Duration;

/// Exit codes of a shell for a command that is not there or cannot be run.
const NO_SUCH_COMMAND: [i32; 2] = [126, 127];
/// Exit codes above this say that a signal ended a command.
const SIGNALLED: i32 = 128;
/// Longest piece of a check's output that is shown.
const MAX_SAID: usize = 160;
/// How much longer than its own limit a check may take: starting it, on a busy machine.
const SLACK: Duration = Duration::from_secs(5);

/// Makes the check and tells the lease.
pub(crate) async fn make(ctx: Arc<Context>, shared: Arc<Shared>, container: String, instance: u32, health: Health) {
    let limit = Duration::from_millis(health.timeout.0);
    let seen = match tokio::time::timeout(limit + SLACK, look(&ctx, &InstanceId(container), &health.probe, limit)).await {
        Ok(seen) => seen,
        Err(_) => Seen::Failing(format!("no answer within {:.1} s", limit.as_secs_f64())),
    };
    shared.tell(Event::Probed { instance, seen }).await;
}

async fn look(ctx: &Context, id: &InstanceId, probe: &Probe, limit: Duration) -> Seen {
    match probe {
        Probe::Exec(command) => judge(ctx.runtime.exec(id, command.clone(), limit).await, limit),
        Probe::Port(port) => {
            let table = ["cat", "/proc/net/tcp", "/proc/net/tcp6"].map(str::to_owned);
            match ctx.runtime.exec(id, table.into(), limit).await {
                Ok(out) if NO_SUCH_COMMAND.contains(&out.code) => nothing_to("look at ports"),
                // `cat` says 1 where there is no IPv6; what it printed counts.
                Ok(out) if listens(&String::from_utf8_lossy(&out.stdout), *port) => Seen::Well(format!("port {port} accepts connections")),
                Ok(_) => Seen::Failing(format!("nothing listens on port {port}")),
                Err(RuntimeError::StartFailed { .. }) => nothing_to("look at ports"),
                Err(error) => failed(&error, limit),
            }
        }
        Probe::Http { port, path } => http(ctx, id, *port, path, limit).await,
    }
}

/// Asks with whichever of the usual programs the image has. One that breaks down is as good as none: static builds of some do.
async fn http(ctx: &Context, id: &InstanceId, port: u16, path: &str, limit: Duration) -> Seen {
    let url = format!("http://127.0.0.1:{port}{path}");
    let (seconds, port) = (limit.as_secs().max(1).to_string(), port.to_string());
    // The path has nothing in it that a shell would read, and is no part of the script anyway.
    let raw = "printf 'GET %s HTTP/1.0\\r\\nHost: localhost\\r\\n\\r\\n' \"$1\" | nc -w \"$2\" 127.0.0.1 \"$3\" | head -n 1";
    let asks: [&[&str]; 3] = [
        &["wget", "-q", "-T", &seconds, "-O", "/dev/null", &url],
        &["curl", "-fsS", "-m", &seconds, "-o", "/dev/null", &url],
        &["sh", "-c", raw, "probe", path, &seconds, &port],
    ];
    for ask in asks {
        let words = ask.iter().map(|w| (*w).to_owned()).collect();
        let answer = match ctx.runtime.exec(id, words, limit).await {
            Ok(out) if NO_SUCH_COMMAND.contains(&out.code) || out.code > SIGNALLED => continue,
            Err(RuntimeError::StartFailed { .. }) => continue,
            answer => answer,
        };
        match answer {
            Ok(out) if ask.first() == Some(&"sh") => match status_of(&String::from_utf8_lossy(&out.stdout)) {
                Some(200..=399) => {}
                Some(status) => return Seen::Failing(format!("it answers with {status}")),
                // No `nc`, or nothing that speaks HTTP: these look the same from here.
                None if out.stderr.is_empty() => return Seen::Failing(format!("no answer on port {port}")),
                None => continue,
            },
            Ok(out) if out.code == 0 => {}
            answer => return judge(answer, limit),
        }
        return Seen::Well(format!("port {port} answers on {path}"));
    }
    nothing_to("ask over HTTP (wget, curl or nc)")
}

/// The status in the first line of an answer.
fn status_of(line: &str) -> Option<u16> {
    let mut words = line.split_whitespace();
    words.next().filter(|w| w.starts_with("HTTP/"))?;
    words.next()?.parse().ok()
}

fn nothing_to(what: &str) -> Seen {
    Seen::Nothing(format!("the image has nothing to {what}"))
}

fn judge(answer: Result<ExecOutput, RuntimeError>, limit: Duration) -> Seen {
    match answer {
        Ok(out) if out.code == 0 => Seen::Well("the check passed".into()),
        Ok(out) => {
            let said = if out.stderr.is_empty() { out.stdout } else { out.stderr };
            let said = said_in_one_line(&String::from_utf8_lossy(&said));
            let gap = if said.is_empty() { "" } else { ": " };
            Seen::Failing(format!("exit code {}{gap}{said}", out.code))
        }
        Err(RuntimeError::StartFailed { .. }) => Seen::Failing("there is no such command in the image".into()),
        Err(error) => failed(&error, limit),
    }
}

fn failed(error: &RuntimeError, limit: Duration) -> Seen {
    match error {
        RuntimeError::Deadline { .. } => Seen::Failing(format!("no answer within {:.1} s", limit.as_secs_f64())),
        // Not the job's fault; it is asked again.
        error if error.is_transient() => Seen::Nothing(format!("the container engine does not answer: {}", chain(error))),
        error => Seen::Failing(said_in_one_line(&chain(error))),
    }
}

/// What a job says is hostile, and ends on a terminal.
fn said_in_one_line(text: &str) -> String {
    let line = text.lines().map(str::trim).find(|l| !l.is_empty()).unwrap_or_default();
    line.chars().filter(|c| !c.is_control()).take(MAX_SAID).collect()
}

/// Whether a table of sockets as the kernel prints it has a listener on a port.
pub(crate) fn listens(table: &str, port: u16) -> bool {
    const LISTEN: &str = "0A";
    table.lines().any(|line| {
        let mut columns = line.split_whitespace().skip(1);
        let (local, state) = (columns.next(), columns.nth(1));
        let number = local.and_then(|l| l.rsplit_once(':')).and_then(|(_, p)| u16::from_str_radix(p, 16).ok());
        number == Some(port) && state == Some(LISTEN)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_are_read_from_the_kernels_table() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue\n   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000\n   \
                     1: 0100007F:0050 0100007F:9999 01 00000000:00000000\n";
        assert!(listens(table, 8080));
        assert!(!listens(table, 80));
        assert!(!listens(table, 0x9999));
        assert!(!listens("", 1));
    }

    #[test]
    fn what_a_check_says_is_one_clean_line() {
        let out =
            |code, stderr: &str| Ok(ExecOutput { code, stdout: b"out".to_vec(), stderr: stderr.as_bytes().to_vec(), truncated: false });
        let limit = Duration::from_secs(3);
        assert_eq!(judge(out(0, ""), limit), Seen::Well("the check passed".into()));
        assert_eq!(judge(out(2, "\n \u{1b}[31mno\nmore"), limit), Seen::Failing("exit code 2: [31mno".into()));
        assert_eq!(judge(out(1, ""), limit), Seen::Failing("exit code 1: out".into()));
        assert_eq!(said_in_one_line(&"x".repeat(999)).len(), MAX_SAID);
        assert_eq!(
            [status_of("HTTP/1.1 404 Not Found\r\n"), status_of("HTTP/1.0 200"), status_of("SSH-2.0"), status_of("")],
            [Some(404), Some(200), None, None]
        );
    }
}
