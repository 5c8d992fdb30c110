//! The arguments of `farm relay`.

use super::LogArgs;
use clap::{Args, Subcommand};
use std::net::SocketAddr;
use std::path::PathBuf;

/// `farm relay`.
#[derive(Args, Debug)]
pub(crate) struct RelayArgs {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: RelayCommand,
}

impl RelayArgs {
    /// How it logs.
    pub(crate) const fn log(&self) -> LogArgs {
        let RelayCommand::Run(args) = &self.command;
        args.log
    }
}

/// What can be done with a relay.
#[derive(Subcommand, Debug)]
pub(crate) enum RelayCommand {
    /// Run one: a meeting place for machines behind routers, which carries what they have sealed and reads nothing of it
    Run(RelayRunArgs),
}

/// `farm relay run`.
#[derive(Args, Debug)]
pub(crate) struct RelayRunArgs {
    /// Where it listens, TCP and UDP at the same port
    #[arg(long, default_value = "0.0.0.0:8731", value_name = "ADDRESS")]
    pub(crate) listen: SocketAddr,
    /// The name or address under which others reach it, if it is not the one that it listens on
    #[arg(long, value_name = "HOST")]
    pub(crate) host: Option<String>,
    /// Where its key is kept, which its word follows from [default: among your files]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// How it logs.
    #[command(flatten)]
    pub(crate) log: LogArgs,
}
