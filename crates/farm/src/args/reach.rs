//! The arguments of what reaches into a running job: `exec`, `cp`, `port-forward`, and `run --publish`.

use clap::Args;

/// `farm exec`.
#[derive(Args, Debug)]
pub(crate) struct ExecArgs {
    /// The job, or the beginning of its name
    #[arg(value_name = "JOB")]
    pub(crate) job: String,
    /// Give the command a terminal [default: when you are at one]
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// Give it none: plain streams
    #[arg(short = 'T', long, conflicts_with = "tty")]
    pub(crate) no_tty: bool,
    /// A variable of the command's environment; can be given several times
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub(crate) env: Vec<String>,
    /// The command, after --
    #[arg(last = true, required = true, value_name = "CMD")]
    pub(crate) command: Vec<String>,
}

/// `farm cp`.
#[derive(Args, Debug)]
#[command(after_help = "\
One of the two is JOB:PATH; a relative PATH lies in the folder that the job finds in $FARM_OUTPUT_DIR.
Of a job that has ended, what it left in that folder can be copied.
A file or folder here whose name has a colon is written with a ./ before it.")]
pub(crate) struct CpArgs {
    /// What to copy: JOB:PATH, or a file or folder here
    #[arg(value_name = "FROM")]
    pub(crate) from: String,
    /// Where to: a file or folder here, or JOB:PATH; into it, if it is a folder that is there
    #[arg(value_name = "TO")]
    pub(crate) to: String,
    /// Replace a folder that is there
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Most to take: 512Mi, 20Gi
    #[arg(long, value_name = "SIZE", default_value = "10Gi")]
    pub(crate) limit: String,
}

/// `farm port-forward`.
#[derive(Args, Debug)]
pub(crate) struct ForwardArgs {
    /// The job, or the beginning of its name
    #[arg(value_name = "JOB")]
    pub(crate) job: String,
    /// A port of the job, by number or by its name in the job file, and the port of this machine that leads there (0: a free one)
    /// [default: all ports of the job file]
    #[arg(value_name = "[LOCAL:]PORT")]
    pub(crate) ports: Vec<String>,
}

/// `farm expose`.
#[derive(Args, Debug)]
pub(crate) struct ExposeArgs {
    /// The job, or the beginning of its name
    #[arg(value_name = "JOB")]
    pub(crate) job: String,
    /// A port of the job where HTTP is spoken [default: show what is open already]
    #[arg(value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) port: Option<u16>,
    /// What it is called: small letters, digits and dashes. Jobs of yours with one name share its visitors [default: the job's name]
    #[arg(long, value_name = "NAME", requires = "port")]
    pub(crate) name: Option<String>,
    /// Close all ports of the job to everybody again
    #[arg(long, conflicts_with_all = ["port", "name"])]
    pub(crate) off: bool,
}

/// At which address everybody is let in to what jobs publish.
#[derive(Args, Clone, Debug)]
pub(crate) struct IngressArgs {
    /// Let everybody in at this address, by HTTP, to ports that jobs' owners opened with farm expose
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) ingress: Option<std::net::SocketAddr>,
    /// What names there end with: a domain whose subdomains all lead here [default: localhost]
    #[arg(long, value_name = "DOMAIN", requires = "ingress")]
    pub(crate) ingress_domain: Option<String>,
}

/// What `farm run` opens on this machine.
#[derive(Args, Default, Debug)]
pub(crate) struct PublishArgs {
    /// Open a port of this machine, on 127.0.0.1 only, that leads to a port of the job; can be given several times
    #[arg(short, long, value_name = "[LOCAL:]PORT", conflicts_with = "detach")]
    pub(crate) publish: Vec<String>,
}
