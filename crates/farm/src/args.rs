//! The command line: what can be asked, and nothing else.
//!
//! Guarantees: every flag here is read by a command. Help texts use the words of [`crate::words`].

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::net::SocketAddr;
use std::path::PathBuf;

const AFTER: &str = "\
Exit codes: for `run` the job's own; 2 the command line makes no sense; 124 a cap was reached; 125 farm or the network failed.
Start here: `farm dev` in one terminal, `farm run .` in another.";

/// Run a folder, or an image, on somebody's machine and pay for what was served.
#[derive(Parser, Debug)]
#[command(name = "farm", version, about, after_help = AFTER, disable_help_subcommand = true)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
    /// For every command.
    #[command(flatten)]
    pub(crate) global: Global,
}

/// How to print.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// For scripts: one value, amounts in nano-credits; what is followed is one value a line.
    Json,
}

/// Flags of every command.
#[derive(Args, Clone, Debug)]
pub(crate) struct Global {
    /// Print data as JSON (amounts in nano-credits)
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// How to print data
    #[arg(short = 'o', long, global = true, value_enum, default_value = "table", conflicts_with = "json")]
    pub(crate) output: Format,
    /// Print data and failures only
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// No colour (also: NO_COLOR)
    #[arg(long, global = true)]
    pub(crate) no_color: bool,
    /// Which context to use (also: FARM_CONTEXT)
    #[arg(long, global = true, value_name = "NAME", conflicts_with = "api_url")]
    pub(crate) context: Option<String>,
    /// Address of the network's API (also: FARM_API_URL)
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) api_url: Option<String>,
    /// Answer yes to questions
    #[arg(short, long, global = true)]
    pub(crate) yes: bool,
}

/// What can be done.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Run a folder with a Dockerfile, or an image, and follow it to its end
    Run(Box<RunArgs>),
    /// List your jobs
    #[command(alias = "list")]
    Ps(PsArgs),
    /// Show one job
    Status(JobArg),
    /// Show what a job wrote
    Logs(LogsArgs),
    /// Stop a job
    #[command(alias = "close")]
    Stop(StopArgs),
    /// Show what a job cost
    Receipt(ReceiptArgs),
    /// Give a job more time
    Extend(ExtendArgs),
    /// Show your account, get test credits, or pay somebody
    #[command(alias = "wallet")]
    Account(AccountArgs),
    /// Invite somebody: a code that opens a new account with some of your credits
    Invite(InviteArgs),
    /// List what machines are offered at which price
    Offers,
    /// Say who would run a job, and if nobody, why
    Explain(ExplainArgs),
    /// Run a whole network on this machine, for trying things out
    Dev(DevArgs),
    /// Offer this machine to a network
    Up(UpArgs),
    /// Run thousands of small tasks inside a running job
    Herd(crate::herd_args::HerdArgs),
    /// Look for what keeps farm from working
    Doctor(DoctorArgs),
    /// Read and check the ledger
    Ledger(LedgerArgs),
    /// Choose between networks
    Context(ContextArgs),
    /// Print a completion script for a shell
    Completions(CompletionsArgs),
    /// Print the version
    Version,
}

/// What to run.
#[derive(Args, Clone, Default, Debug)]
pub(crate) struct SpecArgs {
    /// A folder with a Dockerfile, or an image [default: the current folder]
    #[arg(value_name = "DIR|IMAGE")]
    pub(crate) target: Option<String>,
    /// A job file (farm.yaml in the folder is used without being named)
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Name of the job
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Cores: 0.5, 2, 500m
    #[arg(long)]
    pub(crate) cpu: Option<String>,
    /// Memory: 512Mi, 2Gi
    #[arg(long)]
    pub(crate) memory: Option<String>,
    /// Disk: 1Gi
    #[arg(long)]
    pub(crate) disk: Option<String>,
    /// Most processes
    #[arg(long)]
    pub(crate) pids: Option<u32>,
    /// GPUs: H100:1
    #[arg(long)]
    pub(crate) gpu: Option<String>,
    /// Longest run: 90s, 10m, 2h [default: 1h]
    #[arg(long)]
    pub(crate) timeout: Option<String>,
    /// Most to spend, in credits
    #[arg(long, value_name = "CREDITS")]
    pub(crate) budget: Option<String>,
    /// Most to pay, in credits per hour
    #[arg(long, value_name = "CREDITS")]
    pub(crate) max_price: Option<String>,
    /// A variable of the job's environment; can be given several times
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub(crate) env: Vec<String>,
    /// Region, or the beginning of one: eu, eu-west
    #[arg(long)]
    pub(crate) region: Option<String>,
    /// What the job may reach: none, or open (DNS and HTTPS to public addresses)
    #[arg(long, value_name = "none|open")]
    pub(crate) egress: Option<String>,
    /// What must hold for you to confirm the service: exec, port:80, log:30s
    #[arg(long, value_name = "CHECK")]
    pub(crate) alive: Option<String>,
}

/// `farm run`.
#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    /// What to run.
    #[command(flatten)]
    pub(crate) spec: SpecArgs,
    /// Folder for what the job leaves in $FARM_OUTPUT_DIR
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Return once the job runs, and leave it running
    #[arg(short, long, conflicts_with = "out")]
    pub(crate) detach: bool,
    /// Arguments for the image, after --
    #[arg(last = true, value_name = "CMD")]
    pub(crate) command: Vec<String>,
}

/// `farm explain`.
#[derive(Args, Debug)]
pub(crate) struct ExplainArgs {
    /// What to run.
    #[command(flatten)]
    pub(crate) spec: SpecArgs,
}

/// `farm ps`.
#[derive(Args, Debug)]
pub(crate) struct PsArgs {
    /// Also jobs that ended more than a day ago
    #[arg(short, long)]
    pub(crate) all: bool,
}

/// A job.
#[derive(Args, Debug)]
pub(crate) struct JobArg {
    /// The job, or the beginning of its name
    #[arg(value_name = "JOB")]
    pub(crate) job: String,
}

/// `farm logs`.
#[derive(Args, Debug)]
pub(crate) struct LogsArgs {
    /// The job, or the beginning of its name
    #[arg(value_name = "JOB")]
    pub(crate) job: String,
    /// Go on until the job ends
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Begin at this byte of the log
    #[arg(long, value_name = "BYTE", default_value_t = 0)]
    pub(crate) from: u64,
}

/// `farm stop`.
#[derive(Args, Debug)]
pub(crate) struct StopArgs {
    /// The job, or the beginning of its name
    #[arg(value_name = "JOB")]
    pub(crate) job: String,
    /// Time between asking the job to end and killing it
    #[arg(long, default_value = "10s", value_name = "TIME")]
    pub(crate) grace: String,
}

/// `farm receipt`.
#[derive(Args, Debug)]
pub(crate) struct ReceiptArgs {
    /// The job, or the beginning of its name
    #[arg(value_name = "JOB")]
    pub(crate) job: String,
    /// Wait until it is final
    #[arg(long)]
    pub(crate) wait: bool,
    /// Show who got what
    #[arg(long)]
    pub(crate) details: bool,
}

/// `farm extend`.
#[derive(Args, Debug)]
pub(crate) struct ExtendArgs {
    /// The job, or the beginning of its name
    #[arg(value_name = "JOB")]
    pub(crate) job: String,
    /// How much longer: 30m, 1h
    #[arg(long = "for", value_name = "TIME")]
    pub(crate) duration: String,
}

/// `farm account`.
#[derive(Args, Debug)]
pub(crate) struct AccountArgs {
    /// What to do with it [default: show]
    #[command(subcommand)]
    pub(crate) command: Option<AccountCommand>,
}

/// What can be done with the account.
#[derive(Subcommand, Debug)]
pub(crate) enum AccountCommand {
    /// Show balance and what is on hold
    Show,
    /// Get test credits (development networks only; no value)
    TestCredits {
        /// How many
        #[arg(default_value = "1000", value_name = "CREDITS")]
        amount: String,
    },
    /// Pay another account
    Transfer {
        /// Its id
        #[arg(value_name = "ACCOUNT")]
        to: String,
        /// How many credits
        #[arg(value_name = "CREDITS")]
        amount: String,
    },
    /// Open your account with an invite
    Claim {
        /// The invite, one word
        #[arg(value_name = "CODE")]
        code: String,
    },
    /// List what you lent to other keys, invites included
    Grants,
    /// Let another key act for your account, within a budget
    Grant(GrantArgs),
    /// Take back a grant or an invite, at once
    Revoke {
        /// Its id, or the beginning of it
        #[arg(value_name = "ID")]
        id: String,
    },
}

/// `farm account grant`.
#[derive(Args, Debug)]
pub(crate) struct GrantArgs {
    /// Whose signature may use it: ed25519:HEX or secp256k1:HEX
    #[arg(long, value_name = "KEY")]
    pub(crate) key: String,
    /// What it may do: deposit, offer, withdraw-offer, order, cancel, close, extend, transfer
    #[arg(long, value_name = "ACTION", value_delimiter = ',', required = true)]
    pub(crate) allow: Vec<String>,
    /// Most to spend or put on hold, fees included
    #[arg(long, value_name = "CREDITS")]
    pub(crate) credits: String,
    /// How long it holds
    #[arg(long, default_value = "7d", value_name = "TIME")]
    pub(crate) expires: String,
    /// Money may go to this account only; can be given several times
    #[arg(long, value_name = "ACCOUNT")]
    pub(crate) to: Vec<String>,
    /// Most to pay for a machine, in credits per hour
    #[arg(long, value_name = "CREDITS")]
    pub(crate) max_price: Option<String>,
}

/// `farm invite`.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct InviteArgs {
    /// What to do with invites [default: make one]
    #[command(subcommand)]
    pub(crate) command: Option<InviteCommand>,
    /// How many credits it carries, fees included
    #[arg(long, default_value = "5", value_name = "CREDITS")]
    pub(crate) credits: String,
    /// How long it holds
    #[arg(long, default_value = "7d", value_name = "TIME")]
    pub(crate) expires: String,
}

/// What can be done with invites.
#[derive(Subcommand, Debug)]
pub(crate) enum InviteCommand {
    /// List your invites that nobody has used
    List,
    /// Take an invite back
    Revoke {
        /// Its id, or the beginning of it
        #[arg(value_name = "ID")]
        id: String,
    },
}

/// `farm dev`.
#[derive(Args, Debug)]
pub(crate) struct DevArgs {
    /// Keep the network in this folder [default: in a temporary one, gone at the end]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Where the API listens; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:8730", value_name = "ADDRESS")]
    pub(crate) listen: SocketAddr,
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

/// How a node logs.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct LogArgs {
    /// Write the log as JSON
    #[arg(long)]
    pub(crate) log_json: bool,
}

/// What a machine offers.
#[derive(Args, Debug)]
pub(crate) struct MachineArgs {
    /// Socket of the container engine [default: found]
    #[arg(long, value_name = "SOCKET")]
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
    /// Where the machine stands
    #[arg(long, default_value = "local")]
    pub(crate) region: String,
}

/// `farm up`.
#[derive(Args, Debug)]
pub(crate) struct UpArgs {
    /// The machine's files
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
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
    /// How it logs.
    #[command(flatten)]
    pub(crate) log: LogArgs,
}

/// `farm doctor`.
#[derive(Args, Debug)]
pub(crate) struct DoctorArgs {
    /// Install or start what is missing (asks first)
    #[arg(long)]
    pub(crate) fix: bool,
    /// Socket of the container engine [default: found]
    #[arg(long, value_name = "SOCKET")]
    pub(crate) engine: Option<PathBuf>,
}

/// `farm ledger`.
#[derive(Args, Debug)]
pub(crate) struct LedgerArgs {
    /// What to read.
    #[command(subcommand)]
    pub(crate) command: LedgerCommand,
}

/// What can be read.
#[derive(Subcommand, Debug)]
pub(crate) enum LedgerCommand {
    /// The last final block, or the one at a height
    Head {
        /// Height of the block
        height: Option<u64>,
    },
    /// A record: KEY in hex, or `account ID`, `lease ID`, `order ID`, `node ID`
    Get {
        /// A key in hex, or a kind of record
        #[arg(value_name = "KEY|KIND")]
        what: String,
        /// Which one
        id: Option<String>,
        /// Fail unless the answer was checked against trusted validators [default: check where they are known]
        #[arg(long, conflicts_with = "no_verify")]
        verify: bool,
        /// Take the gateway's word
        #[arg(long)]
        no_verify: bool,
        /// Refuse an answer that is older than this block
        #[arg(long, value_name = "HEIGHT", default_value_t = 0, conflicts_with = "no_verify")]
        since: u64,
    },
    /// Check that the books balance
    Check,
    /// Write the whole ledger, as it is at one block, into a file
    Export {
        /// The file; it must not exist
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// The folder of a stopped network [default: ask the running one]
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
    },
    /// Put an exported ledger into a network's folder, where it goes on
    Import {
        /// The file
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// The folder: a new one, or one whose ledger was moved away
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
        /// The folder that the ledger comes from, for the network's keys [default: they are in --data already]
        #[arg(long, value_name = "DIR")]
        keys: Option<PathBuf>,
    },
    /// Execute every block again from a stopped network's folder and compare
    Replay {
        /// The folder that `farm dev --data` was given
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
    },
}

/// `farm context`.
#[derive(Args, Debug)]
pub(crate) struct ContextArgs {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: ContextCommand,
}

/// What can be done with contexts.
#[derive(Subcommand, Debug)]
pub(crate) enum ContextCommand {
    /// List them
    #[command(alias = "ls")]
    List,
    /// Make one the current one
    Use {
        /// Which
        name: String,
    },
    /// Add one, and make it the current one; the address is that of --api-url
    Create {
        /// Its name
        name: String,
        /// The network's founding file, from somebody you believe: answers are checked against the validators in it
        #[arg(long, value_name = "FILE")]
        trust: Option<PathBuf>,
    },
}

/// `farm completions`.
#[derive(Args, Debug)]
pub(crate) struct CompletionsArgs {
    /// For which shell
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    fn parse(line: &str) -> Cli {
        Cli::try_parse_from(line.split_whitespace()).unwrap()
    }

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn run_takes_a_target_flags_and_a_command() {
        let cli = parse("farm run img --cpu 2 -e A=1 -e B=2 --json -- sh -c true");
        let Command::Run(run) = cli.command else { panic!("not run") };
        assert_eq!(run.spec.target.as_deref(), Some("img"));
        assert_eq!(run.spec.env, ["A=1", "B=2"]);
        assert_eq!(run.command, ["sh", "-c", "true"]);
        assert!(cli.global.json);
    }

    #[test]
    fn aliases_and_contradictions() {
        assert!(matches!(parse("farm list -a").command, Command::Ps(PsArgs { all: true })));
        assert!(matches!(parse("farm wallet").command, Command::Account(AccountArgs { command: None })));
        assert!(matches!(parse("farm close x").command, Command::Stop(_)));
        let Command::Invite(invite) = parse("farm invite --credits 2").command else { panic!("not invite") };
        assert_eq!((invite.credits.as_str(), invite.expires.as_str(), invite.command.is_none()), ("2", "7d", true));
        assert!(matches!(parse("farm invite list").command, Command::Invite(InviteArgs { command: Some(InviteCommand::List), .. })));
        for bad in [
            "farm run -d --out x",
            "farm --json -o table ps",
            "farm",
            "farm ps --context a --api-url b",
            "farm extend x",
            "farm invite --credits 2 list",
        ] {
            assert!(Cli::try_parse_from(bad.split_whitespace()).is_err(), "{bad}");
        }
    }
}
