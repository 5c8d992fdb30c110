//! The command line of those who make a network and run its validators.
//!
//! Guarantees: as for all of [`super`].

use super::LogArgs;
use clap::{Args, Subcommand};
use std::net::SocketAddr;
use std::path::PathBuf;

/// `farm genesis`.
#[derive(Args, Debug)]
pub(crate) struct GenesisArgs {
    /// Show what a genesis says instead of making one
    #[arg(long, value_name = "FILE", conflicts_with_all = ["name", "validator", "account", "dev", "out"])]
    pub(crate) show: Option<PathBuf>,
    /// Name of the network
    #[arg(long, required_unless_present = "show")]
    pub(crate) name: Option<String>,
    /// A validator: the file that `farm validator init` wrote; once for each
    #[arg(long, value_name = "FILE", required_unless_present = "show")]
    pub(crate) validator: Vec<PathBuf>,
    /// Who has money at the beginning: a public key and credits, as ed25519:3f2a...=1000; once for each
    #[arg(long, value_name = "KEY=CREDITS")]
    pub(crate) account: Vec<String>,
    /// A network for trying things out: test credits for everybody, no value
    #[arg(long)]
    pub(crate) dev: bool,
    /// The folder to write genesis, network.toml and LAUNCH.md to
    #[arg(long, value_name = "DIR", required_unless_present = "show")]
    pub(crate) out: Option<PathBuf>,
}

/// `farm validator`.
#[derive(Args, Debug)]
pub(crate) struct ValidatorArgs {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: ValidatorCommand,
}

impl ValidatorArgs {
    /// How it logs, if it runs.
    pub(crate) const fn log(&self) -> Option<LogArgs> {
        match &self.command {
            ValidatorCommand::Run(args) => Some(args.log),
            _ => None,
        }
    }
}

/// What can be done with a validator.
#[derive(Subcommand, Debug)]
pub(crate) enum ValidatorCommand {
    /// Make a validator's keys, and the file for whoever makes the genesis
    Init(ValidatorInitArgs),
    /// Put a network's genesis and addresses into a validator's folder
    Join(ValidatorJoinArgs),
    /// Run a validator with its API until it is told to stop
    Run(ValidatorRunArgs),
}

/// `farm validator init`.
#[derive(Args, Debug)]
pub(crate) struct ValidatorInitArgs {
    /// The validator's folder; its keys stay there
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// Where the other validators reach it
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) address: SocketAddr,
    /// Where to write what the others must know [default: to the screen]
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

/// `farm validator join`.
#[derive(Args, Debug)]
pub(crate) struct ValidatorJoinArgs {
    /// The validator's folder
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// The network's genesis
    #[arg(long, value_name = "FILE")]
    pub(crate) genesis: PathBuf,
    /// Where its validators are
    #[arg(long, value_name = "FILE")]
    pub(crate) network: PathBuf,
}

/// `farm validator run`.
#[derive(Args, Debug)]
pub(crate) struct ValidatorRunArgs {
    /// The validator's folder
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// Where the API listens; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:8730", value_name = "ADDRESS")]
    pub(crate) listen: SocketAddr,
    /// End when standard input does: for a program that starts validators
    #[arg(long)]
    pub(crate) with_parent: bool,
    /// How it logs.
    #[command(flatten)]
    pub(crate) log: LogArgs,
}
