//! Arguments of the commands for several jobs at once.

use clap::Args;

/// `farm deploy`.
#[derive(Args, Debug)]
pub(crate) struct DeployArgs {
    /// A job file, a folder with one, or an https: or file: address [default: the current folder]
    #[arg(value_name = "FILE|DIR|URL", conflicts_with = "file")]
    pub(crate) target: Option<String>,
    /// The same, as a flag
    #[arg(short, long, value_name = "FILE|DIR|URL")]
    pub(crate) file: Option<String>,
    /// Name of the whole [default: the file's, else its folder's]
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Read the file as one of docker compose, whatever its name
    #[arg(long)]
    pub(crate) compose: bool,
    /// Start jobs again that have ended well, too
    #[arg(long)]
    pub(crate) again: bool,
    /// How far to go.
    #[command(flatten)]
    pub(crate) going: GoingArgs,
}

/// How far a deployment goes before the command returns.
#[derive(Args, Clone, Debug)]
pub(crate) struct GoingArgs {
    /// Say what would be done and what it would cost, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Wait until services are healthy and jobs have ended, not only until they run
    #[arg(long)]
    pub(crate) wait: bool,
    /// Longest that this command may take: 90s, 10m; what runs then goes on
    #[arg(long, value_name = "TIME")]
    pub(crate) timeout: Option<String>,
}

/// `farm scale`.
#[derive(Args, Debug)]
pub(crate) struct ScaleArgs {
    /// How many of what: web=3, or shop/web=3 for a service of a deployment
    #[arg(value_name = "NAME=N", required = true)]
    pub(crate) sizes: Vec<String>,
    /// How far to go.
    #[command(flatten)]
    pub(crate) going: GoingArgs,
}

/// `farm update`.
#[derive(Args, Debug)]
pub(crate) struct UpdateArgs {
    /// The deployment, or NAME/SERVICE for one of its services
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// A changed job file [default: what was deployed]
    #[arg(short, long, value_name = "FILE|DIR|URL")]
    pub(crate) file: Option<String>,
    /// Another image
    #[arg(long, value_name = "IMAGE")]
    pub(crate) image: Option<String>,
    /// A variable to set; can be given several times
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub(crate) env: Vec<String>,
    /// Replace by new leases, perhaps on other machines: without a pause, since the old one stays until the new one is ready [default:
    /// what can change within its lease does]
    #[arg(long)]
    pub(crate) new_lease: bool,
    /// How far to go.
    #[command(flatten)]
    pub(crate) going: GoingArgs,
}
