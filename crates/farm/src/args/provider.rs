//! The arguments of `farm provider`.

use super::{DrainArgs, UpArgs, WhichMachine};
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
    /// Make a code with which machines add themselves to your provider, without your key
    Enroll(EnrollArgs),
    /// List your machines
    Machines,
    /// Let a machine of yours offer nothing more, wherever it is; its jobs go on to their end
    Dismiss {
        /// Which: the beginning of its id
        #[arg(value_name = "MACHINE")]
        machine: String,
    },
    /// Give an account no more jobs on this machine
    Block(BlockArgs),
    /// Give an account jobs again
    Unblock {
        /// The account
        #[arg(value_name = "ACCOUNT")]
        account: String,
        /// Which machine.
        #[command(flatten)]
        machine: WhichMachine,
    },
    /// List the accounts that get no jobs on this machine
    Blocked {
        /// Which machine.
        #[command(flatten)]
        machine: WhichMachine,
    },
    /// Show who had jobs on this machine, and when: for a report of abuse
    Tenants(TenantsArgs),
    /// Measure this machine, try what its container engine holds jobs to, and suggest a price; offers nothing
    SelfTest(SelfTestArgs),
}

/// `farm provider enroll`.
#[derive(Args, Debug)]
pub(crate) struct EnrollArgs {
    /// How many machines it adds
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=i64::from(pasture_types::grant::MAX_ENROLLED)))]
    pub(crate) nodes: u32,
    /// For how long it is good
    #[arg(long, default_value = "1d", value_name = "TIME")]
    pub(crate) expires: String,
    /// The most that adding them may cost you in fees [default: plenty for each]
    #[arg(long, value_name = "CREDITS")]
    pub(crate) credits: Option<String>,
    /// Your provider's name, for people, if it is new
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Begin without a deposit, if your provider is new: what its machines earn goes into the deposit first
    #[arg(long)]
    pub(crate) no_deposit: bool,
}

/// `farm provider block`.
#[derive(Args, Debug)]
pub(crate) struct BlockArgs {
    /// The account
    #[arg(value_name = "ACCOUNT")]
    pub(crate) account: String,
    /// Why, for your own memory
    #[arg(long, default_value = "", value_name = "TEXT", hide_default_value = true)]
    pub(crate) why: String,
    /// End its jobs that run here as well; it is refunded what was not served
    #[arg(long)]
    pub(crate) now: bool,
    /// Which machine.
    #[command(flatten)]
    pub(crate) machine: WhichMachine,
}

/// `farm provider tenants`.
#[derive(Args, Debug)]
pub(crate) struct TenantsArgs {
    /// Who had a job at this time: 2026-11-23T10:00:00Z, or 90m for that long ago
    #[arg(long, value_name = "TIME", conflicts_with_all = ["from", "to"])]
    pub(crate) at: Option<String>,
    /// From when on
    #[arg(long, default_value = "24h", value_name = "TIME")]
    pub(crate) from: String,
    /// Until when [default: now]
    #[arg(long, value_name = "TIME")]
    pub(crate) to: Option<String>,
    /// Which machine.
    #[command(flatten)]
    pub(crate) machine: WhichMachine,
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
