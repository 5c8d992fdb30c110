//! `farm-sim`: people on the ledger for a month, the ledger on the real engine under faults, very many nodes and leases, and audits.
//!
//! Results are on stdout, progress on stderr. Exit code 1 if a rule or a bound is broken, 2 for wrong arguments.

mod args;
mod audits;
mod network;
mod people;
mod scale;
mod usage;

use std::io::Write as _;
use std::process::ExitCode;

/// A simulated validator lives for seconds and takes megabytes anew each time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const USAGE: &str = "usage: farm-sim people  [--nodes N] [--users N] [--days N | --hours N] [--seed N] [--verify] [--json]
                [--absent-ppm N] [--deceived-ppm N] [--look-minutes N] [--avoids N] [--penalty N] [--reputation-weight N]
                [--history-weight N]
       farm-sim network [--seed N] [--seeds N] [--seconds N] [--nodes N] [--jobs N] [--minutes N] [--done FILE] [--revision NAME]
                [--bug NAME] [--json]
       farm-sim scale   [--nodes N] [--leases N] [--seed N] [--json]
       farm-sim audits  [--nodes N] [--node-days N] [--days N] [--seed N] [--elsewhere-ppm N]
                [--punctual-ppm N] [--confirm-percent N] [--json]";

/// Why the program ends without a result.
type Wrong = Box<dyn std::error::Error + Send + Sync>;

fn run() -> Result<ExitCode, Wrong> {
    let mut args = args::Args::new(std::env::args().skip(1));
    let command = args.word()?;
    match command.as_deref() {
        Some("people") => people::run(args),
        Some("network") => network::run(args),
        Some("scale") => scale::run(args),
        Some("audits") => audits::run_audits(args),
        Some(other) => Err(args::wrong(format!("there is no command {other}"))),
        None => Err(args::wrong("a command is missing")),
    }
}

fn main() -> ExitCode {
    let mut err = std::io::stderr();
    match run() {
        Ok(code) => code,
        Err(error) if error.is::<args::BadArguments>() => {
            let _ = writeln!(err, "{error}\n{USAGE}");
            ExitCode::from(2)
        }
        Err(error) => {
            let _ = writeln!(err, "{error}");
            ExitCode::FAILURE
        }
    }
}
