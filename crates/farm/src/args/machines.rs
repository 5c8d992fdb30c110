//! The command line of those who offer machines: `up`, `dev`, deposits, certificates, what is offered.
//!
//! Guarantees: as for all of [`super`].

use super::IngressArgs;
use clap::{Args, Subcommand, ValueEnum};
use pasture_net::Relay;
use std::net::SocketAddr;
use std::path::PathBuf;

/// `farm offers`.
#[derive(Args, Debug)]
pub(crate) struct OffersArgs {
    /// A machine: its id or its provider's name, or the beginning of either; shows its deposit, capacity checks, certificates. Or
    /// conditions, all of which must hold now: gpu=H100:2 cpu=8 memory=32Gi disk=1Gi region=eu provider=NAME 'price<1.2' LABEL=VALUE;
    /// sizes are what you need at least, and the price is an hour's for them (without a size: for a core and a GiB)
    #[arg(value_name = "MACHINE|CONDITION")]
    pub(crate) what: Vec<String>,
}

/// `farm deposit`.
#[derive(Args, Debug)]
pub(crate) struct DepositArgs {
    /// What to do with it [default: show yours]
    #[command(subcommand)]
    pub(crate) command: Option<DepositCommand>,
}

/// What can be done with deposits.
#[derive(Subcommand, Debug)]
pub(crate) enum DepositCommand {
    /// Show a provider's deposit
    Show {
        /// A machine, or a provider's name or account [default: yours]
        #[arg(value_name = "MACHINE|PROVIDER")]
        of: Option<String>,
    },
    /// Add to your own deposit
    Add {
        /// How many
        #[arg(value_name = "CREDITS")]
        amount: String,
    },
    /// Take some of your own deposit back; it is free after the network's delay
    Back {
        /// How many
        #[arg(value_name = "CREDITS")]
        amount: String,
    },
    /// Post a deposit for somebody else's machine; it answers for what that provider does
    Sponsor {
        /// A machine, or a provider's name or account
        #[arg(value_name = "MACHINE|PROVIDER")]
        of: String,
        /// How many
        #[arg(value_name = "CREDITS")]
        amount: String,
    },
    /// Take back what you posted for somebody else; it is free after the network's delay
    Withdraw {
        /// A machine, or a provider's name or account
        #[arg(value_name = "MACHINE|PROVIDER")]
        of: String,
        /// How many
        #[arg(value_name = "CREDITS")]
        amount: String,
    },
    /// Send somebody away who posted a deposit for you
    Dismiss {
        /// Its account
        #[arg(value_name = "ACCOUNT")]
        sponsor: String,
    },
    /// End your suspension once its time has passed
    Resume {
        /// Only that of this machine of yours
        #[arg(long, value_name = "MACHINE")]
        machine: Option<String>,
    },
}

/// `farm dev`.
#[derive(Args, Debug)]
pub(crate) struct DevArgs {
    /// Keep the network in this folder [default: in a temporary one, gone at the end]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Where the API listens; port 0 takes a free one. At any address but this machine's own, others are let in as well, peer to peer: at the
    /// same port (UDP), with a relay at the next one (TCP and UDP)
    #[arg(long, default_value = "127.0.0.1:8730", default_missing_value = "0.0.0.0:8730", num_args = 0..=1, value_name = "ADDRESS")]
    pub(crate) listen: SocketAddr,
    /// The name or address under which others reach this machine, if it is not the one that it goes out by
    #[arg(long, value_name = "HOST")]
    pub(crate) host: Option<String>,
    /// A relay that somebody runs (farm relay run), to be named beside this node's own
    #[arg(long, value_name = "RELAY")]
    pub(crate) relay: Option<Relay>,
    /// Do not tell this LAN that the network can be joined here
    #[arg(long)]
    pub(crate) no_lan: bool,
    /// Where everybody is let in.
    #[command(flatten)]
    pub(crate) ingress: IngressArgs,
    /// How many validators it has: each but the first is a process of its own
    #[arg(long, default_value_t = 1, value_name = "COUNT")]
    pub(crate) validators: usize,
    /// How many providers share what this machine offers: each but the first is a process of its own, with an account of its own
    #[arg(long, default_value_t = 1, value_name = "COUNT", conflicts_with = "no_provider")]
    pub(crate) providers: usize,
    /// Have the validators check the capacity of its machines, each about every 100 s
    #[arg(long)]
    pub(crate) audits: bool,
    /// No machine offers itself
    #[arg(long)]
    pub(crate) no_provider: bool,
    /// What this machine offers.
    #[command(flatten)]
    pub(crate) machine: MachineArgs,
    /// How it logs.
    #[command(flatten)]
    pub(crate) log: LogArgs,
}

/// How a log is written.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, ValueEnum)]
pub(crate) enum LogFormat {
    /// A line for people.
    #[default]
    Text,
    /// One JSON object a line, for programs.
    Json,
}

/// How a node logs.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct LogArgs {
    /// How the log is written [default: text, or what FARM_LOG_FORMAT says]
    #[arg(long, value_name = "FORMAT")]
    pub(crate) log_format: Option<LogFormat>,
}

/// What a machine offers.
#[derive(Args, Debug)]
pub(crate) struct MachineArgs {
    /// Socket of the container engine (also: FARM_ENGINE) [default: found]
    #[arg(long, value_name = "SOCKET", env = "FARM_ENGINE", hide_env = true)]
    pub(crate) engine: Option<PathBuf>,
    /// Cores to offer [default: half]
    #[arg(long)]
    pub(crate) cpu: Option<String>,
    /// Memory to offer [default: half]
    #[arg(long)]
    pub(crate) memory: Option<String>,
    /// Disk to offer [default: half]
    #[arg(long)]
    pub(crate) disk: Option<String>,
    /// Its GPUs.
    #[command(flatten)]
    pub(crate) gpus: GpuArgs,
    /// Where the machine stands
    #[arg(long, default_value = "local")]
    pub(crate) region: String,
    /// What it keeps of volumes.
    #[command(flatten)]
    pub(crate) volumes: super::VolumeSpaceArgs,
}

/// GPUs that a machine offers.
#[derive(Args, Debug)]
pub(crate) struct GpuArgs {
    /// Offer GPUs of this machine: all, or those with these ids, where the network leases them
    #[arg(long, value_name = "all|ID,ID")]
    pub(crate) gpus: Option<String>,
    /// Offer simulated GPUs, which compute nothing: H100:2:80GB, with ,shows=40GB for some that lie to jobs about their memory; can
    /// be given several times; on development networks only
    #[arg(long, value_name = "MODEL:COUNT:MEMORY", conflicts_with = "gpus")]
    pub(crate) simulated_gpu: Vec<String>,
}

/// `farm up`.
#[derive(Args, Debug)]
pub(crate) struct UpArgs {
    /// The machine's files
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Join the network of this ticket first, as `farm join` does
    #[arg(long, value_name = "TICKET", conflicts_with = "api_url")]
    pub(crate) join: Option<String>,
    /// Earn for the account that made this code (farm provider enroll), whose key is not on this machine; @FILE reads it from a file
    #[arg(long, value_name = "CODE|@FILE", conflicts_with_all = ["name", "no_deposit"])]
    pub(crate) enroll: Option<String>,
    /// Flags that are not given here are read from this file: their names without dashes, and their values, as TOML [default:
    /// /etc/pasture/config.toml, if it is there]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The provider's name, for people
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// What this machine offers.
    #[command(flatten)]
    pub(crate) machine: MachineArgs,
    /// Credits for one core an hour [default: suggested]
    #[arg(long, value_name = "CREDITS", requires_all = ["price_memory", "price_disk"])]
    pub(crate) price_cpu: Option<String>,
    /// Credits for one GiB of memory an hour
    #[arg(long, value_name = "CREDITS", requires = "price_cpu")]
    pub(crate) price_memory: Option<String>,
    /// Credits for one GiB of disk an hour
    #[arg(long, value_name = "CREDITS", requires = "price_cpu")]
    pub(crate) price_disk: Option<String>,
    /// Credits for one GPU an hour [default: suggested]
    #[arg(long, value_name = "CREDITS")]
    pub(crate) price_gpu: Option<String>,
    /// When and what it takes.
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
    /// Let jobs compete with your own programs for the processor [default: they give way]
    #[arg(long)]
    pub(crate) usual_priority: bool,
    /// What power costs.
    #[command(flatten)]
    pub(crate) power: super::PowerArgs,
    /// Begin without a deposit, also if there are credits for it: what is earned goes into the deposit first
    #[arg(long)]
    pub(crate) no_deposit: bool,
    /// Also tell this validator's API where the machine is, so that it can watch capacity checks; can be given several times
    #[arg(long, value_name = "URL")]
    pub(crate) announce: Vec<String>,
    /// Declare this much of the speed that is measured here, in percent: capacity checks hold the machine to it, also while you use it
    #[arg(long, default_value_t = 100, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(1..=100))]
    pub(crate) declare_speed: u8,
    /// Stop the jobs that run when this ends [default: they go on and are taken up again]
    #[arg(long)]
    pub(crate) stop_jobs: bool,
    /// End when standard input does: for a program that starts machines
    #[arg(long)]
    pub(crate) with_parent: bool,
    /// How it logs.
    #[command(flatten)]
    pub(crate) log: LogArgs,
}

/// When a machine takes jobs, and which.
#[derive(Args, Debug)]
pub(crate) struct LimitArgs {
    /// Take jobs at these hours (UTC) only: 22:00-06:00, mon-fri/08:00-18:00; can be given several times
    #[arg(long, value_name = "[DAYS/]FROM-TO")]
    pub(crate) hours: Vec<String>,
    /// Longest job
    #[arg(long, default_value = "24h", value_name = "TIME")]
    pub(crate) longest: String,
    /// Shortest job
    #[arg(long, value_name = "TIME")]
    pub(crate) shortest: Option<String>,
    /// Most jobs at once [default: as many as fit]
    #[arg(long, value_name = "NUMBER")]
    pub(crate) most_jobs: Option<u32>,
    /// For how long you keep a price, and so the longest rental and job without an end; 0 takes neither
    #[arg(long, default_value = "24h", value_name = "TIME")]
    pub(crate) price_lock: String,
    /// What else is to be known of the machine, for jobs that ask for it; can be given several times
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) label: Vec<String>,
}

/// `farm certificate`.
#[derive(Args, Debug)]
pub(crate) struct CertificateArgs {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: CertificateCommand,
}

/// What can be done with certificates.
#[derive(Subcommand, Debug)]
pub(crate) enum CertificateCommand {
    /// Sign one about a provider or a machine, for its owner to put on the ledger
    Issue(IssueArgs),
    /// Put one about your machines on the ledger
    Put {
        /// The certificate, one word
        #[arg(value_name = "CERTIFICATE")]
        code: String,
    },
    /// Take back all that you certified of one kind
    Revoke {
        /// About whom: a machine, or a provider's name or account
        #[arg(value_name = "MACHINE|PROVIDER")]
        of: String,
        /// What it was about
        #[arg(value_enum)]
        kind: CertificateKind,
        /// It was about the machine alone
        #[arg(long)]
        machine: bool,
    },
}

/// What a certificate is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum CertificateKind {
    /// The tier of its data centre
    Tier,
    /// What its power emits
    Carbon,
    /// Where it stands
    Region,
    /// An inspection
    Inspection,
}

/// `farm certificate issue`.
#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("claim").required(true))]
pub(crate) struct IssueArgs {
    /// About whom: a machine, or a provider's name or account
    #[arg(value_name = "MACHINE|PROVIDER")]
    pub(crate) of: String,
    /// About this machine alone, not about all of its provider's
    #[arg(long)]
    pub(crate) machine: bool,
    /// Its data centre is of this tier, 1 to 4
    #[arg(long, group = "claim", value_name = "1-4")]
    pub(crate) tier: Option<u8>,
    /// Its power emits so many grams of CO2 per kWh
    #[arg(long, group = "claim", value_name = "GRAMS")]
    pub(crate) carbon: Option<u32>,
    /// It stands in this region, as its offers name it
    #[arg(long, group = "claim", value_name = "REGION")]
    pub(crate) region: Option<String>,
    /// It was inspected; the hash of this report goes on the ledger
    #[arg(long, group = "claim", value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// How it was checked: for a region 1 by documents, 2 by a visit, 3 by measuring; for a report as you define it
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    pub(crate) level: u8,
    /// How long it holds, at most two years
    #[arg(long, default_value = "365d", value_name = "TIME")]
    pub(crate) expires: String,
}

/// `farm doctor`.
#[derive(Args, Debug)]
pub(crate) struct DoctorArgs {
    /// Install or start what is missing (asks first)
    #[arg(long)]
    pub(crate) fix: bool,
    /// Socket of the container engine (also: FARM_ENGINE) [default: found]
    #[arg(long, value_name = "SOCKET", env = "FARM_ENGINE", hide_env = true)]
    pub(crate) engine: Option<PathBuf>,
}
