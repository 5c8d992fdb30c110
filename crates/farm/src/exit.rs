//! How the program ends: one enum of exit codes, and the one error type of the binary.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done; for `run`, the job ended with 0 |
//! | 1-255 | for `run`: the job's own exit code (137: out of memory, 143: stopped, 124: time or money cap) |
//! | 2 | the command line makes no sense |
//! | 125 | farm or the network failed, not the job |
//!
//! Guarantees: `main` is the only place that ends the process. Every failure says what is wrong and what to do next.

use pasture_api::{ApiError, Problem};
use pasture_jobfile::FileError;
use pasture_store::StoreError;
use pasture_types::lease::EndReason;
use std::path::Path;

/// The exit codes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Exit {
    /// Done.
    Ok,
    /// The command line makes no sense.
    Usage,
    /// We or the network failed, not the job.
    Failed,
    /// The job's own code.
    Job(u8),
}

/// What `timeout` says when time is up.
const CAP: u8 = 124;
/// What a shell shows for SIGKILL, which is how the kernel ends what uses too much memory.
const KILLED: u8 = 137;
/// What a shell shows for SIGTERM.
const TERMINATED: u8 = 143;

impl Exit {
    /// The number the process ends with.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Usage => 2,
            Self::Failed => 125,
            Self::Job(code) => code,
        }
    }

    /// The exit code of a job that ended like this.
    pub(crate) fn of(reason: &EndReason) -> Self {
        match reason {
            // An exit code is a byte wherever a process can end; what is not one is a failure all the same.
            EndReason::Exited { code } => Self::Job(u8::try_from(*code).unwrap_or(255)),
            EndReason::OutOfMemory => Self::Job(KILLED),
            EndReason::StoppedByUser => Self::Job(TERMINATED),
            EndReason::CapReached => Self::Job(CAP),
            EndReason::BuildFailed
            | EndReason::StartFailed
            | EndReason::StoppedByProvider
            | EndReason::Lost
            | EndReason::ServiceStopped
            | EndReason::Rejected
            | EndReason::NoSpec
            | EndReason::Derated
            | EndReason::Preempted
            | EndReason::TookOver => Self::Failed,
        }
    }
}

/// What a command returns.
pub(crate) type Outcome = Result<Exit, Failure>;

/// Something went wrong: what, and what to do next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Failure {
    /// How the process ends.
    pub(crate) exit: Exit,
    /// Short and stable, for scripts.
    pub(crate) code: String,
    /// What is wrong, in a sentence; further lines may follow.
    pub(crate) message: String,
    /// What to do, one way a line.
    pub(crate) next: Vec<String>,
}

/// What the codes of the ledger's own refusals begin with.
pub(crate) const LEDGER: &str = "ledger-";

impl Failure {
    /// A failure of ours or of the network.
    pub(crate) fn new(code: &str, message: impl Into<String>) -> Self {
        Self { exit: Exit::Failed, code: code.into(), message: message.into(), next: vec![] }
    }
    /// A command line that makes no sense.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, code: "usage".into(), message: message.into(), next: vec![] }
    }
    /// Adds a next step.
    pub(crate) fn next(mut self, step: impl Into<String>) -> Self {
        self.next.push(step.into());
        self
    }
    /// Something in a file that makes no sense.
    pub(crate) fn in_file(shown: &str, error: &FileError) -> Self {
        Self { next: error.next.clone(), ..Self::new("spec", format!("{shown}:{error}")) }
    }
    /// A file operation that failed.
    pub(crate) fn io(what: &str, path: &Path, error: &std::io::Error) -> Self {
        Self::new("io", format!("cannot {what} {}: {error}", path.display()))
    }
    /// Whether the ledger said no: what was asked was not done, for sure.
    pub(crate) fn is_refusal(&self) -> bool {
        self.code.starts_with(LEDGER)
    }
    /// Whether no network answered at all.
    pub(crate) fn is_unreachable(&self) -> bool {
        self.code == "no-network"
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        match &error {
            ApiError::Unreachable { url, .. } => Self::new("no-network", format!("no network answers at {url}"))
                .next("start a local one in another terminal:  farm dev")
                .next("or join one:  farm context create NAME --api-url URL"),
            // The ledger's own number says more than that it was the ledger.
            ApiError::Problem(Problem { ledger_code: Some(number), detail, .. }) => {
                Self::new(&format!("{LEDGER}{number}"), crate::words::plainly(detail))
            }
            ApiError::Problem(p) => Self::new(&p.code, p.detail.clone()),
            ApiError::Broken { .. } => {
                Self::new("broken-connection", error.to_string()).next("try again; `farm doctor` looks for the cause")
            }
            ApiError::Malformed { .. } => Self::new("unexpected-answer", error.to_string())
                .next("is it the right address, and of the same version? `farm doctor` tells"),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        // It says its own layer only; people need the system's reason as well.
        let why = std::error::Error::source(&error).map_or(String::new(), |cause| format!(": {cause}"));
        Self::new("files", format!("{error}{why}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_is_the_jobs_and_ours_is_125() {
        assert_eq!(Exit::of(&EndReason::Exited { code: 0 }).code(), 0);
        assert_eq!(Exit::of(&EndReason::Exited { code: 3 }).code(), 3);
        assert_eq!(Exit::of(&EndReason::Exited { code: -1 }).code(), 255);
        assert_eq!(Exit::of(&EndReason::OutOfMemory).code(), 137);
        assert_eq!(Exit::of(&EndReason::StoppedByUser).code(), 143);
        assert_eq!(Exit::of(&EndReason::CapReached).code(), 124);
        for ours in [EndReason::BuildFailed, EndReason::StartFailed, EndReason::Lost, EndReason::ServiceStopped, EndReason::NoSpec] {
            assert_eq!(Exit::of(&ours).code(), 125, "{ours:?}");
        }
        assert_eq!(Failure::usage("x").exit.code(), 2);
    }
}
