//! The command line of backups.
//!
//! Guarantees: as for all of [`super`].

use clap::Args;
use std::path::PathBuf;

/// `farm backup`.
#[derive(Args, Debug)]
pub(crate) struct BackupArgs {
    /// The file to write; locked with a passphrase
    pub(crate) file: PathBuf,
    /// The node's folder; the node must be stopped, or take --keys-only
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// Only keys, genesis and addresses, also of a running node; after a restore it fetches all blocks again
    #[arg(long)]
    pub(crate) keys_only: bool,
}

/// `farm restore`.
#[derive(Args, Debug)]
pub(crate) struct RestoreArgs {
    /// The file that `farm backup` wrote
    pub(crate) file: PathBuf,
    /// Where the node goes: a folder that is not there yet, or is empty
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
}
