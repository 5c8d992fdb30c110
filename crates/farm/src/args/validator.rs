//! The command line of those who make a network and run its validators.
//!
//! Guarantees: as for all of [`super`].

use super::IngressArgs;
use super::LogArgs;
use clap::{Args, Subcommand};
use pasture_net::Relay;
use std::net::SocketAddr;
use std::path::PathBuf;

/// `farm genesis`.
#[derive(Args, Debug)]
pub(crate) struct GenesisArgs {
    /// Show what a genesis says instead of making one
    #[arg(long, value_name = "FILE", conflicts_with_all = ["name", "validator", "account", "dev", "audits", "out", "seats", "term", "deposit_delay", "min_deposit"])]
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
    /// Have the validators check the capacity of machines from the beginning
    #[arg(long)]
    pub(crate) audits: bool,
    /// Have capacity checks ask for memory as well: one in four, for three quarters of what no job has
    #[arg(long, requires = "audits")]
    pub(crate) prove_memory: bool,
    /// Lease GPUs of this model where a capacity check showed so many int8 multiply-adds a second of each, as H100=2T; once for each
    #[arg(long, value_name = "MODEL=RATE", requires = "audits")]
    pub(crate) gpu_rate: Vec<String>,
    /// Most seats of a term; from four on they are elected by deposit
    #[arg(long, value_name = "N")]
    pub(crate) seats: Option<u32>,
    /// How long a term is, as 24h
    #[arg(long, value_name = "DURATION")]
    pub(crate) term: Option<String>,
    /// How long a validator's deposit that is taken back still answers for what it signed
    #[arg(long, alias = "unbond-delay", value_name = "DURATION")]
    pub(crate) deposit_delay: Option<String>,
    /// The least deposit with which a validator stands for election
    #[arg(long, alias = "min-bond", value_name = "CREDITS")]
    pub(crate) min_deposit: Option<String>,
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
    Run(Box<ValidatorRunArgs>),
    /// Post a deposit for a validator that the genesis does not name, so that it may be elected
    Register(ValidatorRegisterArgs),
    /// Add to a validator's deposit
    #[command(name = "deposit", alias = "bond")]
    Bond(ValidatorBondArgs),
    /// Take part of a validator's deposit back
    #[command(name = "back", alias = "unbond")]
    Unbond(ValidatorBondArgs),
    /// End a validator's suspension whose time has passed
    #[command(name = "resume", alias = "unjail")]
    Unjail(ValidatorUnjailArgs),
    /// List seats, those who stand for election, and who is suspended
    Ls,
    /// Show how far a validator is, whether it is seated, and what it missed
    Status(ValidatorStatusArgs),
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
    /// Where the others reach this validator, if the file does not say it
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) address: Option<SocketAddr>,
    /// A checkpoint from somebody you believe, as `farm context checkpoint` writes it: what others show when this validator joins by state must come by it
    #[arg(long, value_name = "FILE")]
    pub(crate) checkpoint: Option<PathBuf>,
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
    /// Let others in peer to peer at this address (UDP), with a relay one port higher (TCP and UDP), and show a ticket
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) public: Option<SocketAddr>,
    /// The name or address under which others reach the relay, if it is not the one that it listens on
    #[arg(long, value_name = "HOST", requires = "public")]
    pub(crate) host: Option<String>,
    /// A relay that somebody runs (farm relay run), to be named beside this node's own
    #[arg(long, value_name = "RELAY", requires = "public")]
    pub(crate) relay: Option<Relay>,
    /// Do not tell this LAN that the network can be joined here
    #[arg(long)]
    pub(crate) no_lan: bool,
    /// Where everybody is let in.
    #[command(flatten)]
    pub(crate) ingress: IngressArgs,
    /// How it comes to today's state if it has none: by fetching the state after a recent block, or all blocks [default: state if the
    /// genesis does not name it, or with a checkpoint]
    #[arg(long, value_enum, value_name = "HOW")]
    pub(crate) join: Option<JoinArg>,
    /// How many of the latest blocks to keep, at least those of two terms of the engine [default: all]
    #[arg(long, value_name = "N")]
    pub(crate) keep_blocks: Option<u64>,
    /// End when standard input does: for a program that starts validators
    #[arg(long)]
    pub(crate) with_parent: bool,
    /// How it logs.
    #[command(flatten)]
    pub(crate) log: LogArgs,
}

/// How a validator without blocks comes to today's state.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum JoinArg {
    /// Fetch the state after a recent block, checked by its validators' signatures, and the blocks from there on: minutes
    State,
    /// Fetch and execute every block since the genesis: takes long, and can be checked by anybody afterwards
    Blocks,
}

/// `farm validator register`.
#[derive(Args, Debug)]
pub(crate) struct ValidatorRegisterArgs {
    /// The validator's folder
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// Its deposit, in credits
    #[arg(long, alias = "bond", value_name = "CREDITS")]
    pub(crate) deposit: String,
    /// Who its operator is.
    #[command(flatten)]
    pub(crate) operator: OperatorArgs,
}

/// Whose account acts for a validator.
#[derive(Args, Debug)]
pub(crate) struct OperatorArgs {
    /// Act as the operator whose key lies in this validator's folder, instead of with your account
    #[arg(long, value_name = "DIR")]
    pub(crate) operator: Option<PathBuf>,
}

/// `farm validator deposit` and `back`.
#[derive(Args, Debug)]
pub(crate) struct ValidatorBondArgs {
    /// The validator: its public key, or the beginning of it
    pub(crate) key: String,
    /// How much, in credits
    pub(crate) amount: String,
    /// Who its operator is.
    #[command(flatten)]
    pub(crate) operator: OperatorArgs,
}

/// `farm validator resume`.
#[derive(Args, Debug)]
pub(crate) struct ValidatorUnjailArgs {
    /// The validator: its public key, or the beginning of it
    pub(crate) key: String,
    /// Who its operator is.
    #[command(flatten)]
    pub(crate) operator: OperatorArgs,
}

/// `farm validator status`.
#[derive(Args, Debug)]
pub(crate) struct ValidatorStatusArgs {
    /// The validator: its public key, or the beginning of it [default: the one that answers]
    #[arg(conflicts_with = "data")]
    pub(crate) key: Option<String>,
    /// The validator of this folder
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Keep it on the screen as it changes
    #[arg(long)]
    pub(crate) watch: bool,
}
