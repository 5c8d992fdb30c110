//! The command line of `farm keys`.
//!
//! Guarantees: as for all of [`super`]; no passphrase is ever an argument.

use clap::{Args, Subcommand};
use std::path::PathBuf;

/// `farm keys`.
#[derive(Args, Debug)]
pub(crate) struct KeysArgs {
    /// What to do [default: list].
    #[command(subcommand)]
    pub(crate) command: Option<KeysCommand>,
}

/// What can be done with keys.
#[derive(Subcommand, Debug)]
pub(crate) enum KeysCommand {
    /// Show your keys, and what is left of today's limit
    #[command(alias = "ls")]
    List,
    /// Lock your main key with a passphrase; daily commands go on with a key of this device
    Lock {
        /// Most that this device may spend or put on hold in a day, fees included [default: 10]
        #[arg(long, value_name = "CREDITS")]
        daily: Option<String>,
    },
    /// Unlock your main key for good, and take this device's right back
    Unlock,
    /// Change the passphrase of your main key
    Passphrase {
        /// A file whose first line is the new passphrase [default: you are asked]
        #[arg(long, value_name = "FILE")]
        new_passphrase_file: Option<PathBuf>,
    },
    /// Change this device's daily limit, or renew its right now
    Device {
        /// Most to spend or put on hold in a day, fees included [default: as it is]
        #[arg(long, value_name = "CREDITS")]
        daily: Option<String>,
    },
    /// Write an encrypted copy of your main key
    Backup {
        /// Where to; a file that is there is not replaced
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Take your main key from an encrypted copy
    Restore {
        /// The copy
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Even if another key is here, which is kept beside it
        #[arg(long)]
        force: bool,
    },
    /// Take a device's right back, at once
    Revoke {
        /// The device's key or one of its grants, or the beginning of either; `this` for this device
        #[arg(value_name = "DEVICE|GRANT")]
        which: String,
    },
}
