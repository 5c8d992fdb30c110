//! The arguments of `farm provider`.

use clap::{Args, Subcommand};
use std::path::PathBuf;

/// `farm provider`.
#[derive(Args, Debug)]
pub(crate) struct ProviderArgs {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: ProviderCommand,
}

/// What can be done with a machine before it is offered.
#[derive(Subcommand, Debug)]
pub(crate) enum ProviderCommand {
    /// Measure this machine, try what its container engine holds jobs to, and suggest a price; offers nothing
    SelfTest(SelfTestArgs),
}

/// `farm provider self-test`.
#[derive(Args, Debug)]
pub(crate) struct SelfTestArgs {
    /// A folder on the disk that jobs would get [default: where farm keeps its files]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Socket of the container engine [default: found]
    #[arg(long, value_name = "SOCKET")]
    pub(crate) engine: Option<PathBuf>,
}
