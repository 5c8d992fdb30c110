//! The command line of a machine's owner who pauses it, or leaves.
//!
//! Guarantees: as for all of [`super`].

use clap::Args;
use std::path::PathBuf;

/// Which machine is meant.
#[derive(Args, Clone, Default, Debug)]
pub(crate) struct WhichMachine {
    /// The machine's files, if it was started with --data [default: the machine of this computer]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
}

/// `farm pause`, `farm resume`.
#[derive(Args, Debug)]
pub(crate) struct PauseArgs {
    /// Which.
    #[command(flatten)]
    pub(crate) machine: WhichMachine,
}

/// When jobs that still run are ended.
#[derive(Args, Clone, Default, Debug)]
pub(crate) struct EndingArgs {
    /// End the jobs that still run after this time: 30m, 2h [default: they run to their own ends]
    #[arg(long, value_name = "TIME")]
    pub(crate) within: Option<String>,
    /// End all jobs now: those that agreed to it get their notice, the others are stopped
    #[arg(long, conflicts_with = "within")]
    pub(crate) now: bool,
}

/// `farm drain`.
#[derive(Args, Debug)]
pub(crate) struct DrainArgs {
    /// When jobs are ended.
    #[command(flatten)]
    pub(crate) ending: EndingArgs,
    /// Return once the last job is over
    #[arg(long)]
    pub(crate) wait: bool,
    /// Which.
    #[command(flatten)]
    pub(crate) machine: WhichMachine,
}

/// `farm down`.
#[derive(Args, Debug)]
pub(crate) struct DownArgs {
    /// When jobs are ended.
    #[command(flatten)]
    pub(crate) ending: EndingArgs,
    /// Leave the deposit where it is, for a later farm up
    #[arg(long)]
    pub(crate) keep_deposit: bool,
    /// Socket of the container engine, if the machine does not run now [default: found]
    #[arg(long, value_name = "SOCKET")]
    pub(crate) engine: Option<PathBuf>,
    /// Which.
    #[command(flatten)]
    pub(crate) machine: WhichMachine,
}

/// What the power of a machine costs, to compare with what it earns.
#[derive(Args, Clone, Default, Debug)]
pub(crate) struct PowerArgs {
    /// What a kWh costs you, in credits: shows what would be left of the price
    #[arg(long, value_name = "CREDITS")]
    pub(crate) power_price: Option<String>,
    /// What the machine draws more when all that is offered is busy [default: 10 for each core]
    #[arg(long, value_name = "WATTS")]
    pub(crate) watts: Option<u32>,
}

/// `farm error`.
#[derive(Args, Debug)]
pub(crate) struct ErrorArgs {
    /// The code, as it was printed [default: list them]
    #[arg(value_name = "CODE")]
    pub(crate) code: Option<String>,
}
