//! The arguments of `farm herd`.

use clap::{Args, Subcommand, ValueEnum};
use std::net::SocketAddr;
use std::path::PathBuf;

/// `farm herd`.
#[derive(Args, Debug)]
pub(crate) struct HerdArgs {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: HerdCommand,
}

/// What can be done with a herd.
#[derive(Subcommand, Debug)]
pub(crate) enum HerdCommand {
    /// Start workers in a running job
    Up(UpArgs),
    /// Submit tasks, one a line
    Submit(SubmitArgs),
    /// Show how the herd is
    Status(Which),
    /// Print results as they come, one JSON document a line; receipts are checked
    Results(ResultsArgs),
    /// Open a port or a socket on this machine for a program that submits tasks
    Door(DoorArgs),
    /// End the herd: its workers, its tasks and its results
    Down(Which),
}

/// A job with a herd.
#[derive(Args, Debug)]
pub(crate) struct Which {
    /// The job, or the beginning of its name
    #[arg(value_name = "JOB")]
    pub(crate) job: String,
}

/// How workers speak.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Speech {
    /// A line in, a line out
    Lines,
    /// JSON lines with numbers
    Json,
    /// Binary frames
    Frames,
}

/// `farm herd up`.
#[derive(Args, Debug)]
pub(crate) struct UpArgs {
    /// The job, or the beginning of its name
    #[arg(value_name = "JOB")]
    pub(crate) job: String,
    /// How many workers
    #[arg(long, default_value_t = 2, value_name = "N")]
    pub(crate) workers: u32,
    /// How they speak
    #[arg(long, value_enum, default_value = "lines")]
    pub(crate) format: Speech,
    /// Keep tasks and results on the machine's disk until they are acknowledged
    #[arg(long)]
    pub(crate) durable: bool,
    /// Longest attempt at a task
    #[arg(long, default_value = "60s", value_name = "TIME")]
    pub(crate) task_timeout: String,
    /// Most attempts at a task
    #[arg(long, default_value_t = 3, value_name = "N")]
    pub(crate) attempts: u8,
    /// The worker, inside the job's container, after --
    #[arg(last = true, required = true, value_name = "WORKER")]
    pub(crate) command: Vec<String>,
}

/// `farm herd submit`.
#[derive(Args, Debug)]
pub(crate) struct SubmitArgs {
    /// The job, or the beginning of its name
    #[arg(value_name = "JOB")]
    pub(crate) job: String,
    /// A file with a task a line [default: standard input]
    #[arg(value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Lines are JSON: {"payload":…,"key":…,"priority":…}
    #[arg(long)]
    pub(crate) tasks_json: bool,
    /// Give every line that names none the key PREFIX and its number: what was submitted is then not submitted again
    #[arg(long, value_name = "PREFIX")]
    pub(crate) keys: Option<String>,
}

/// `farm herd results`.
#[derive(Args, Debug)]
pub(crate) struct ResultsArgs {
    /// The job, or the beginning of its name
    #[arg(value_name = "JOB")]
    pub(crate) job: String,
    /// Begin after this number
    #[arg(long, default_value_t = 0, value_name = "NUMBER")]
    pub(crate) after: u64,
    /// Wait for so many results in all [default: those that there are]
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<u64>,
    /// Let go of what was printed: the machine forgets it
    #[arg(long)]
    pub(crate) ack: bool,
}

/// `farm herd door`.
#[derive(Args, Debug)]
pub(crate) struct DoorArgs {
    /// The job, or the beginning of its name
    #[arg(value_name = "JOB")]
    pub(crate) job: String,
    /// A port for HTTP below /v1/herd; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", required_unless_present = "socket")]
    pub(crate) listen: Option<SocketAddr>,
    /// A socket for JSON lines or binary frames
    #[arg(long, value_name = "FILE")]
    pub(crate) socket: Option<PathBuf>,
}
