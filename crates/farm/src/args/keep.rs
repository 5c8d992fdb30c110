//! The command line of what outlives a job or must not be seen with it: volumes and secrets.
//!
//! Guarantees: as for all of [`super`].

use clap::{Args, Subcommand};
use std::path::PathBuf;

/// What a job gets of the user's volumes and secrets.
#[derive(Args, Clone, Default, Debug)]
pub(crate) struct KeepArgs {
    /// A folder that outlives the job: NAME:/PATH, with :ro it is only read, with :2Gi it is made that large; can be given several times
    #[arg(long, value_name = "NAME:/PATH[:ro|:SIZE]")]
    pub(crate) volume: Vec<String>,
    /// A secret of yours: NAME is the file /run/secrets/NAME, NAME=VARIABLE a variable, NAME=/run/secrets/FILE another file; can be given
    /// several times
    #[arg(long, value_name = "NAME[=VARIABLE|=/PATH]")]
    pub(crate) secret: Vec<String>,
}

/// What a machine keeps of its users' volumes.
#[derive(Args, Debug)]
pub(crate) struct VolumeSpaceArgs {
    /// How long a volume is kept after the last job that had it; you are not paid for that
    #[arg(long, default_value = "7d", value_name = "TIME")]
    pub(crate) volume_keep: String,
    /// Disk for volumes and snapshots of all users together; 0 keeps none
    #[arg(long, default_value = "16Gi", value_name = "SIZE")]
    pub(crate) volume_space: String,
    /// The same for one account
    #[arg(long, default_value = "8Gi", value_name = "SIZE")]
    pub(crate) volume_space_each: String,
}

/// `farm secret`.
#[derive(Args, Debug)]
pub(crate) struct SecretArgs {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: SecretCommand,
}

/// What can be done with secrets.
#[derive(Subcommand, Debug)]
pub(crate) enum SecretCommand {
    /// Keep a value, from a file or from standard input (without its last line end)
    Set {
        /// Its name
        #[arg(value_name = "NAME")]
        name: String,
        /// The file that has the value, taken as it is
        #[arg(long, value_name = "FILE")]
        from_file: Option<PathBuf>,
    },
    /// List the names of your secrets
    #[command(alias = "ls")]
    List,
    /// Forget one
    Rm {
        /// Its name
        #[arg(value_name = "NAME")]
        name: String,
    },
}

/// `farm volume`.
#[derive(Args, Debug)]
pub(crate) struct VolumeArgs {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: VolumeCommand,
}

/// Where a volume is.
#[derive(Args, Clone, Debug)]
pub(crate) struct OnArgs {
    /// Only on this machine: its id or its provider's name, or the beginning of either [default: wherever you had jobs]
    #[arg(long, value_name = "MACHINE")]
    pub(crate) node: Option<String>,
}

/// What can be done with volumes.
#[derive(Subcommand, Debug)]
pub(crate) enum VolumeCommand {
    /// List your volumes, where they are and until when they are kept
    #[command(alias = "ls")]
    List {
        /// Where.
        #[command(flatten)]
        on: OnArgs,
    },
    /// Show one volume and its snapshots
    Show {
        /// Its name
        #[arg(value_name = "NAME")]
        name: String,
        /// Where.
        #[command(flatten)]
        on: OnArgs,
    },
    /// Remove a volume, or one snapshot of it
    Rm {
        /// The volume, or the snapshot
        #[arg(value_name = "NAME[@SNAPSHOT]")]
        name: String,
        /// Also if it has snapshots: they go with it
        #[arg(long)]
        all: bool,
        /// Where.
        #[command(flatten)]
        on: OnArgs,
    },
    /// Keep the content of a volume as it is now; a job that writes to it meanwhile waits
    Snapshot {
        /// The volume
        #[arg(value_name = "NAME")]
        name: String,
        /// Name of the snapshot [default: the time]
        #[arg(long = "as", value_name = "SNAPSHOT")]
        snapshot: Option<String>,
        /// Where.
        #[command(flatten)]
        on: OnArgs,
    },
    /// Give a volume that no job uses, or a new one, the content of a snapshot
    Restore {
        /// The volume
        #[arg(value_name = "NAME")]
        name: String,
        /// The snapshot
        #[arg(long, value_name = "SNAPSHOT")]
        from: String,
        /// A new volume, instead of this one
        #[arg(long, value_name = "NEWNAME")]
        to: Option<String>,
        /// Where.
        #[command(flatten)]
        on: OnArgs,
    },
}
