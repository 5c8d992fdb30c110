//! The arguments of what reaches into a running job: `exec`, `cp`, `port-forward`, and `run --publish`.

use clap::Args;
use std::net::SocketAddr;
use std::path::PathBuf;

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
    /// Not HTTP but anything over TCP is spoken there: it gets a port of its own at each gateway
    #[arg(long, requires = "port", conflicts_with_all = ["access_key", "max_body", "domain"])]
    pub(crate) tcp: bool,
    /// Let in only who shows the value of this secret of yours (farm secret), as X-Access-Key, bearer or password
    #[arg(long, value_name = "SECRET", requires = "port")]
    pub(crate) access_key: Option<String>,
    /// Most requests a second of one range of addresses
    #[arg(long, value_name = "N", requires = "port", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) per_second: Option<u32>,
    /// Largest body of a request: 10Mi
    #[arg(long, value_name = "SIZE", requires = "port")]
    pub(crate) max_body: Option<String>,
    /// A domain of your own that leads there too, once it says so; can be given several times
    #[arg(long, value_name = "DOMAIN", requires = "port")]
    pub(crate) domain: Vec<String>,
    /// Close all ports of the job to everybody again
    #[arg(long, conflicts_with_all = ["port", "name"])]
    pub(crate) off: bool,
}

/// At which addresses everybody is let in to what jobs publish.
#[derive(Args, Clone, Debug)]
pub(crate) struct IngressArgs {
    /// Let everybody in at this address, by HTTP, to ports that jobs' owners opened with farm expose
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) ingress: Option<SocketAddr>,
    /// What names there end with: a domain whose subdomains all lead here [default: localhost]
    #[arg(long, value_name = "DOMAIN", requires = "ingress")]
    pub(crate) ingress_domain: Option<String>,
    /// The same over TLS, at this address; what comes without is then sent there
    #[arg(long, value_name = "ADDRESS", requires = "ingress")]
    pub(crate) ingress_tls: Option<SocketAddr>,
    /// The certificate for the domain's names, with those between it and its root, in PEM; read again when it changes
    #[arg(long, value_name = "FILE", requires_all = ["ingress_key", "ingress_tls"])]
    pub(crate) ingress_cert: Option<PathBuf>,
    /// Its key, in PEM
    #[arg(long, value_name = "FILE", requires = "ingress_cert")]
    pub(crate) ingress_key: Option<PathBuf>,
    /// Ask this server (ACME) for certificates that are not there: a URL, or letsencrypt. It must reach port 80 here
    #[arg(long, value_name = "URL", requires = "ingress_tls")]
    pub(crate) ingress_acme: Option<String>,
    /// Whom that server tells when a certificate is about to end: an e-mail address
    #[arg(long, value_name = "ADDRESS", requires = "ingress_acme")]
    pub(crate) ingress_acme_contact: Option<String>,
    /// The root of that server's own certificate, in PEM [default: those that this machine believes]
    #[arg(long, value_name = "FILE", requires = "ingress_acme")]
    pub(crate) ingress_acme_root: Option<PathBuf>,
    /// Ports, at the address of --ingress, for what speaks TCP: 20000-20099
    #[arg(long, value_name = "FIRST-LAST", requires = "ingress")]
    pub(crate) ingress_tcp: Option<String>,
    /// Ask this nameserver about domains of owners' own; can be given several times [default: those of this machine]
    #[arg(long, value_name = "ADDRESS", requires = "ingress")]
    pub(crate) ingress_dns: Vec<SocketAddr>,
}

/// What `farm run` opens on this machine.
#[derive(Args, Default, Debug)]
pub(crate) struct PublishArgs {
    /// Open a port of this machine, on 127.0.0.1 only, that leads to a port of the job; can be given several times
    #[arg(short, long, value_name = "[LOCAL:]PORT", conflicts_with = "detach")]
    pub(crate) publish: Vec<String>,
}
