//! The command line: what can be asked, and nothing else.
//!
//! Guarantees: every flag here is read by a command. Help texts use the words of [`crate::words`].

mod backup;
mod deploy;
mod keep;
mod keys;
mod machines;
mod own;
mod provider;
mod reach;
mod relay;
mod validator;
mod verify;

pub(crate) use backup::*;
pub(crate) use deploy::*;
pub(crate) use keep::*;
pub(crate) use keys::*;
pub(crate) use machines::*;
pub(crate) use own::*;
pub(crate) use provider::*;
pub(crate) use reach::*;
pub(crate) use relay::*;
pub(crate) use validator::*;
pub(crate) use verify::*;

use crate::project::Language;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

const AFTER: &str = "\
Exit codes: for `run` the job's own; 2 the command line makes no sense; 124 a cap was reached; 125 farm or the network failed.
Start here: `farm dev` in one terminal, `farm run .` in another.";

/// Run a folder, or an image, on somebody's machine and pay for what was served; or offer a machine and earn
#[derive(Parser, Debug)]
#[command(name = "farm", version, after_help = AFTER, disable_help_subcommand = true)]
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
    /// The same as YAML: one document for each value.
    Yaml,
    /// The same with one value a line: a list is one line for each of its entries.
    Jsonl,
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
    /// Print each call to the network on stderr: method, address, status, time
    #[arg(long, global = true)]
    pub(crate) show_http: bool,
    /// Take the gateway's word for everything [default: check it where the context trusts somebody]
    #[arg(long, global = true, alias = "no-verify")]
    pub(crate) skip_verification: bool,
    /// Which context to use (also: FARM_CONTEXT)
    #[arg(long, global = true, value_name = "NAME", conflicts_with = "api_url")]
    pub(crate) context: Option<String>,
    /// Address of the network's API (also: FARM_API_URL)
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) api_url: Option<String>,
    /// A file whose first line is the passphrase of your main key, if it is locked (also: FARM_PASSPHRASE_FILE)
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// Answer yes to questions
    #[arg(short, long, global = true)]
    pub(crate) yes: bool,
}

/// What can be done.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Run a folder with a Dockerfile, or an image, and follow it to its end
    Run(Box<RunArgs>),
    /// Run what a job file asks for, several services as well, and keep it so
    #[command(alias = "apply")]
    Deploy(DeployArgs),
    /// Change how many replicas of a service run
    Scale(ScaleArgs),
    /// Change what is deployed, one replica after the other
    Update(UpdateArgs),
    /// Print what can be in a job file, as a JSON Schema
    Schema,
    /// List your jobs
    #[command(alias = "list")]
    Ps(PsArgs),
    /// Show one job, or without one the network and what you have on it
    Status(StatusArgs),
    /// Show what a job wrote
    Logs(LogsArgs),
    /// Show what a running job uses, once a second
    Stats(StatsArgs),
    /// Run a command in a running job
    Exec(ExecArgs),
    /// Copy files out of a job, or into one that runs
    Cp(CpArgs),
    /// Open ports of this machine that lead into a running job
    PortForward(ForwardArgs),
    /// Let everybody reach a port of a running job, by a name
    Expose(ExposeArgs),
    /// Stop a job
    #[command(alias = "close")]
    Stop(StopArgs),
    /// Confirm the service of somebody's job that named you its watcher
    Watch(WatchArgs),
    /// Name who confirms a job's service in your place, or nobody
    Watcher(WatcherArgs),
    /// Show what a job cost
    Receipt(ReceiptArgs),
    /// Give a job more time
    Extend(ExtendArgs),
    /// Put more on hold for a job that runs until it is stopped
    TopUp(TopUpArgs),
    /// Show your account, get test credits, or pay somebody
    #[command(alias = "wallet")]
    Account(AccountArgs),
    /// Lock your main key and give this device a daily limit; copies, lost devices
    Keys(KeysArgs),
    /// Invite somebody: a code that opens a new account with some of your credits
    Invite(InviteArgs),
    /// List what machines are offered at which price, or show one
    Offers(OffersArgs),
    /// Say who would run a job, and if nobody, why
    Explain(ExplainArgs),
    /// Run a whole network on this machine, for trying things out
    Dev(DevArgs),
    /// Make a network from what its validators announce, or show what a genesis says
    Genesis(GenesisArgs),
    /// Copy what must not be lost of a node into one file, locked with a passphrase
    Backup(BackupArgs),
    /// Put a backup of a node into a new folder
    Restore(RestoreArgs),
    /// Make a validator's keys, put it into a network, run it
    Validator(ValidatorArgs),
    /// Run a relay, where machines behind routers meet
    Relay(RelayArgs),
    /// Join a network with a ticket that somebody gave you
    Join(JoinArgs),
    /// Show the ticket with which others join this network
    Ticket,
    /// Offer this machine to a network
    Up(UpArgs),
    /// Measure this machine, offer it, see how it is doing
    Provider(ProviderArgs),
    /// Take no more jobs on this machine; those that run go on
    Pause(PauseArgs),
    /// Take jobs on this machine again
    Resume(PauseArgs),
    /// Take no more jobs, and say when the last one is over
    Drain(DrainArgs),
    /// Finish the jobs, leave the network for good, and keep nothing but your key
    Down(DownArgs),
    /// Show what stands behind a provider, post a deposit for one, take it back
    Deposit(DepositArgs),
    /// Certify somebody's machines, or put a certificate about yours on the ledger
    Certificate(CertificateArgs),
    /// Vote on changes of the network, or propose one
    Vote(VoteArgs),
    /// Keep what jobs must know and nobody else
    Secret(SecretArgs),
    /// List, copy and remove the folders that outlive your jobs
    Volume(VolumeArgs),
    /// Run thousands of small tasks inside a running job
    Herd(crate::herd_args::HerdArgs),
    /// Look for what keeps farm from working
    Doctor(DoctorArgs),
    /// Read and check the ledger
    Ledger(LedgerArgs),
    /// Count again what the network judged, from records that its validators certified
    Verify(VerifyArgs),
    /// Say what an error's code means, what was charged, and what to do
    Error(ErrorArgs),
    /// Choose between networks
    Context(ContextArgs),
    /// Write a Dockerfile and a .dockerignore for a Python, Node.js or Rust project
    Init(InitArgs),
    /// Print a completion script for a shell
    Completions(CompletionsArgs),
    /// Write the manual pages
    Man(ManArgs),
    /// Print the version
    Version,
}

/// What to run.
#[derive(Args, Clone, Default, Debug)]
pub(crate) struct SpecArgs {
    /// A folder with a Dockerfile, or an image [default: the current folder]
    #[arg(value_name = "DIR|IMAGE")]
    pub(crate) target: Option<String>,
    /// A job file, or its https: address (farm.yaml in the folder is used without being named)
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
    /// GPUs: H100, H100:2, or H100:1,vram=80GB,driver=535,cuda=12.2 for at least so much memory and no older driver or CUDA
    #[arg(long, value_name = "MODEL[:COUNT][,..]")]
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
    /// What the machine must say of itself; can be given several times
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) label: Vec<String>,
    /// A certificate that the machine or its provider must have: tier:3 or better, carbon:200 or less, region:2, inspection:1; with
    /// @ACCOUNT only of that issuer; can be given several times
    #[arg(long, value_name = "KIND:NUMBER[@ACCOUNT]")]
    pub(crate) certificate: Vec<String>,
    /// What the job may reach: none, or open (DNS and HTTPS to public addresses)
    #[arg(long, value_name = "none|open")]
    pub(crate) egress: Option<String>,
    /// What must hold for you to confirm the service: exec, port:80, log:30s
    #[arg(long, value_name = "CHECK")]
    pub(crate) alive: Option<String>,
    /// What it has of volumes and secrets.
    #[command(flatten)]
    pub(crate) keep: KeepArgs,
    /// When it runs, for how long, and on which terms.
    #[command(flatten)]
    pub(crate) terms: TermArgs,
}

/// On which terms a machine is taken.
#[derive(Args, Clone, Default, Debug)]
pub(crate) struct TermArgs {
    /// What you hope to pay, in credits per hour: below it a lower price counts for nothing in the choice
    #[arg(long, value_name = "CREDITS")]
    pub(crate) target_price: Option<String>,
    /// Go before jobs of a lower one, 0 to 100; each point costs a little [default: 0]
    #[arg(long, value_name = "0-100")]
    pub(crate) priority: Option<u8>,
    /// Run until stopped; --timeout is what is paid for at first, more with farm top-up
    #[arg(long, conflicts_with_all = ["hourly", "monthly"])]
    pub(crate) open: bool,
    /// Rent the machine for so many hours at a price that stays
    #[arg(long, value_name = "HOURS", conflicts_with = "monthly")]
    pub(crate) hourly: Option<u32>,
    /// Rent the machine for so many months of 30 days at a price that stays
    #[arg(long, value_name = "MONTHS")]
    pub(crate) monthly: Option<u32>,
    /// Have the price of a rental stay for so many hours or months [default: the rented ones]
    #[arg(long, value_name = "NUMBER")]
    pub(crate) lock: Option<u32>,
    /// Let a rental go on by itself, an hour or month at a time, as far as --lock and --budget allow
    #[arg(long)]
    pub(crate) renew: bool,
    /// Allow the machine's owner to end the job early, with notice
    #[arg(long)]
    pub(crate) preemptible: bool,
    /// An account that may confirm the service in your place, while you are away
    #[arg(long, value_name = "ACCOUNT")]
    pub(crate) watch: Option<String>,
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
    /// What is opened here.
    #[command(flatten)]
    pub(crate) ports: PublishArgs,
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
    /// Go on showing it as it changes
    #[arg(short, long)]
    pub(crate) watch: bool,
}

/// `farm status`.
#[derive(Args, Debug)]
pub(crate) struct StatusArgs {
    /// The job, or the beginning of its name [default: the network and your account]
    #[arg(value_name = "JOB")]
    pub(crate) job: Option<String>,
    /// Go on showing it as it changes, until the job is over
    #[arg(short, long)]
    pub(crate) watch: bool,
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
    /// Begin at this byte of the log, one that `log_bytes` in `farm status --json` has been
    #[arg(long, value_name = "BYTE", default_value_t = 0)]
    pub(crate) from: u64,
}

/// `farm stats`.
#[derive(Args, Debug)]
pub(crate) struct StatsArgs {
    /// The job, or the beginning of its name
    #[arg(value_name = "JOB")]
    pub(crate) job: String,
    /// Show one sample only
    #[arg(long)]
    pub(crate) once: bool,
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
    /// Do not renew a rental: it runs to the end of what is paid
    #[arg(long, conflicts_with = "grace")]
    pub(crate) at_the_end: bool,
}

/// `farm watch`.
#[derive(Args, Debug)]
pub(crate) struct WatchArgs {
    /// The lease, as its user is told it
    #[arg(value_name = "LEASE")]
    pub(crate) lease: String,
}

/// `farm watcher`.
#[derive(Args, Debug)]
pub(crate) struct WatcherArgs {
    /// The job, or the beginning of its name
    #[arg(value_name = "JOB")]
    pub(crate) job: String,
    /// The account that watches from now on [default: nobody]
    #[arg(value_name = "ACCOUNT")]
    pub(crate) account: Option<String>,
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

/// `farm top-up`.
#[derive(Args, Debug)]
pub(crate) struct TopUpArgs {
    /// The job, or the beginning of its name
    #[arg(value_name = "JOB")]
    pub(crate) job: String,
    /// At most how many credits to add
    #[arg(value_name = "CREDITS")]
    pub(crate) amount: String,
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

/// `farm join`.
#[derive(Args, Debug)]
pub(crate) struct JoinArgs {
    /// The ticket, one word; with an invite in it, your account is opened with the credits of that. Or the name of a network in this LAN
    /// [default: the one that is found in this LAN]
    #[arg(value_name = "TICKET|NAME")]
    pub(crate) ticket: Option<String>,
    /// What to call the network here [default: its own name]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
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

/// `farm vote`.
#[derive(Args, Debug)]
pub(crate) struct VoteArgs {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: VoteCommand,
}

/// What can be done with proposals.
#[derive(Subcommand, Debug)]
pub(crate) enum VoteCommand {
    /// List proposals
    #[command(alias = "ls")]
    List,
    /// Vote, with what you have as deposits; a later vote replaces an earlier one
    Cast {
        /// The proposal's number
        #[arg(value_name = "NUMBER")]
        number: u64,
        /// How
        #[arg(value_enum)]
        choice: Choice,
    },
    /// Propose changes; puts a deposit on hold, which comes back unless the proposal is vetoed
    Propose {
        /// What it is, in a line
        #[arg(value_name = "TITLE")]
        title: String,
        /// The changes, as a JSON list: [{"change": "min_stake", "to": "2000000000"}]
        #[arg(long, value_name = "FILE")]
        changes: PathBuf,
        /// The text that explains it; its hash goes on the ledger, the text is yours to publish
        #[arg(long, value_name = "FILE")]
        text: PathBuf,
    },
}

/// How to vote.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Choice {
    /// For it
    Yes,
    /// Against it
    No,
    /// Against it, and its deposit shall be forfeited
    Veto,
    /// Neither; counts as having voted
    Abstain,
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
        #[arg(long)]
        verify: bool,
        /// Refuse an answer that is older than this block
        #[arg(long, value_name = "HEIGHT", default_value_t = 0)]
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
        /// The network's founding file or a checkpoint, from somebody you believe: answers are checked against the validators in it
        #[arg(long, value_name = "FILE")]
        trust: Option<PathBuf>,
    },
    /// Write whom the context trusts, as far as it followed the network, into a file for somebody who believes you
    Checkpoint {
        /// The file; it must not exist
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

/// `farm init`.
#[derive(Args, Debug)]
pub(crate) struct InitArgs {
    /// The project's folder [default: the current folder]
    #[arg(value_name = "DIR")]
    pub(crate) folder: Option<PathBuf>,
    /// What it is written in, where the folder leaves a doubt
    #[arg(long, value_enum)]
    pub(crate) language: Option<Language>,
    /// Print the Dockerfile and write nothing
    #[arg(long, conflicts_with = "force")]
    pub(crate) print: bool,
    /// Replace files that are there
    #[arg(long)]
    pub(crate) force: bool,
}

/// `farm man`.
#[derive(Args, Debug)]
pub(crate) struct ManArgs {
    /// Where to: a folder; `man -M DIR farm` reads them there
    #[arg(value_name = "DIR")]
    pub(crate) folder: PathBuf,
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
        assert!(matches!(parse("farm list -a").command, Command::Ps(PsArgs { all: true, watch: false })));
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
