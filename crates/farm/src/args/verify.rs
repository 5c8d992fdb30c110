//! The command line of checking what the network judged.
//!
//! Guarantees: as for all of [`super`].

use clap::{Args, Subcommand};
use std::path::PathBuf;

/// `farm verify`.
#[derive(Args, Debug)]
pub(crate) struct VerifyArgs {
    /// What to check.
    #[command(subcommand)]
    pub(crate) command: VerifyCommand,
}

/// What can be checked.
#[derive(Subcommand, Debug)]
pub(crate) enum VerifyCommand {
    /// A capacity check: what each witness said, the machine's answer hashed again, and whether the result follows
    #[command(alias = "audit")]
    Check {
        /// Its number, or a file that --save wrote
        #[arg(value_name = "NUMBER|FILE")]
        what: String,
        /// Write what proves it into a file that anybody can check later; it must not exist
        #[arg(long, value_name = "FILE")]
        save: Option<PathBuf>,
        /// Check a file against the network's founding file or a checkpoint [default: against whom the context trusts]
        #[arg(long, value_name = "FILE", conflicts_with = "save")]
        trust: Option<PathBuf>,
    },
}
