//! What can go wrong, one enum per thing asked. `Display` says this layer only; `source()` carries the cause.

use std::{io, path::PathBuf, time::Duration};

use thiserror::Error;

use crate::build::Step;

/// A call to a runtime failed.
#[derive(Debug, Error)]
pub enum RuntimeError {
    /// Nothing answers: the engine is not running, or we may not talk to it.
    #[error("the container engine at {socket} does not answer ({why})")]
    Unreachable {
        /// Where we looked for it.
        socket: PathBuf,
        /// What happened.
        why: String,
    },
    /// The engine took longer than it may.
    #[error("the container engine did not {doing} within {after:?}")]
    Deadline {
        /// What it was asked.
        doing: &'static str,
        /// The limit.
        after: Duration,
    },
    /// There is no such thing, or no longer.
    #[error("no such {what}: {name}")]
    NotFound {
        /// `instance`, `image`, `path`.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// The request cannot be carried out by any engine; the caller has to change it.
    #[error("{field}: {why}")]
    Invalid {
        /// Which field.
        field: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// Something else is in the way: an image in use, a name taken by somebody else.
    #[error("{0}")]
    Conflict(String),
    /// The engine could not start the command: not in the image, not executable, wrong working directory.
    #[error("cannot start: {message}")]
    StartFailed {
        /// 127 not found, 126 not executable, as a shell would say.
        code: i32,
        /// The engine's words.
        message: String,
    },
    /// The instance has run and ended; instances are not run twice.
    #[error("instance {0} has already run")]
    AlreadyExited(String),
    /// What was to be copied is over the limit.
    #[error("larger than {limit_bytes} bytes")]
    TooLarge {
        /// The limit.
        limit_bytes: u64,
    },
    /// The engine refused or failed.
    #[error("the container engine answered {status}: {message}")]
    Engine {
        /// HTTP status; 0 if there was none.
        status: u16,
        /// Its words.
        message: String,
    },
    /// A file or process of our own failed.
    #[error("cannot {doing}")]
    Io {
        /// What we were doing.
        doing: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

impl RuntimeError {
    /// The same call may succeed later with nothing changed by the caller.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Deadline { .. } | Self::Io { .. } => true,
            Self::Engine { status, .. } => *status == 0 || *status >= 500,
            _ => false,
        }
    }

    /// The workload or its description is at fault, not this node.
    pub fn is_workload_fault(&self) -> bool {
        matches!(self, Self::Invalid { .. } | Self::StartFailed { .. } | Self::TooLarge { .. })
    }

    pub(crate) fn io(doing: impl Into<String>, source: io::Error) -> Self {
        Self::Io { doing: doing.into(), source }
    }
}

/// A build did not give an image. In every case its processes and containers are gone.
#[derive(Debug, Error)]
pub enum BuildError {
    /// The Dockerfile is wrong or a step failed.
    #[error("{message}")]
    Failed {
        /// Where; `None` before the first step (a Dockerfile that does not parse, a context that is no tar archive).
        step: Option<Step>,
        /// Exit code of the step's command, if it ran.
        code: Option<i32>,
        /// The engine's words.
        message: String,
        /// The last output, at most [`MAX_OUTPUT_TAIL_BYTES`].
        output_tail: String,
    },
    /// The build took too long and was stopped.
    #[error("the build took longer than {after:?}")]
    TimedOut {
        /// The limit.
        after: Duration,
        /// The step that was running.
        step: Option<Step>,
        /// The last output.
        output_tail: String,
    },
    /// The image, or what one step wrote, is over the limit.
    #[error("the image is larger than {limit_bytes} bytes")]
    TooLarge {
        /// The limit.
        limit_bytes: u64,
        /// What was measured.
        found_bytes: u64,
        /// The step that was running; `None` if only the finished image was too large.
        step: Option<Step>,
        /// The last output.
        output_tail: String,
    },
    /// The runtime failed; not the build's fault unless the error says so.
    #[error("the build could not be carried out")]
    Runtime(#[from] RuntimeError),
}

impl BuildError {
    /// The Dockerfile or context is at fault, not this node.
    pub fn is_workload_fault(&self) -> bool {
        match self {
            Self::Failed { .. } | Self::TimedOut { .. } | Self::TooLarge { .. } => true,
            Self::Runtime(error) => error.is_workload_fault(),
        }
    }
}

/// Most bytes of output kept inside a [`BuildError`].
pub const MAX_OUTPUT_TAIL_BYTES: usize = 16 << 10;

/// An image could not be fetched.
#[derive(Debug, Error)]
pub enum PullError {
    /// The registry has no such image, or shows it only to those it knows.
    #[error("no registry gives {reference}: {message}")]
    NotFound {
        /// What was asked for.
        reference: String,
        /// The engine's words.
        message: String,
    },
    /// The registry could not be reached or broke off.
    #[error("the registry of {reference} could not be reached: {message}")]
    Registry {
        /// What was asked for.
        reference: String,
        /// The engine's words.
        message: String,
    },
    /// The runtime failed.
    #[error("the image could not be fetched")]
    Runtime(#[from] RuntimeError),
}
