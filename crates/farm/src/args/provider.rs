//! The arguments of `farm provider`.

use super::{DrainArgs, UpArgs};
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// `farm provider`.
#[derive(Args, Debug)]
pub(crate) struct ProviderArgs {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: ProviderCommand,
}

/// What can be done with this machine.
#[derive(Subcommand, Debug)]
pub(crate) enum ProviderCommand {
    /// Offer this machine to a network: the same as `farm up`
    Join(Box<UpArgs>),
    /// Show what this machine offers, runs and does
    Status(ProviderStatusArgs),
    /// Take no more jobs, and say when the last one is over: the same as `farm drain`
    Drain(DrainArgs),
    /// Measure this machine, try what its container engine holds jobs to, and suggest a price; offers nothing
    SelfTest(SelfTestArgs),
}

/// `farm provider status`.
#[derive(Args, Debug)]
pub(crate) struct ProviderStatusArgs {
    /// Go on showing it as it changes
    #[arg(short, long)]
    pub(crate) watch: bool,
}

/// `farm provider self-test`.
#[derive(Args, Debug)]
pub(crate) struct SelfTestArgs {
    /// A folder on the disk that jobs would get [default: where farm keeps its files]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Socket of the container engine (also: FARM_ENGINE) [default: found]
    #[arg(long, value_name = "SOCKET", env = "FARM_ENGINE", hide_env = true)]
    pub(crate) engine: Option<PathBuf>,
    /// Measure what Vulkan finds to compute on instead: graphics cards, and adapters in software, which are none. Needs no engine
    #[arg(long, conflicts_with = "data")]
    pub(crate) gpu: bool,
}
