//! `pasture-sim`: a month of a zone with honest and dishonest people, and a table of what each gained.
//!
//! The table is on stdout, progress on stderr. Exit code 1 if a dishonest strategy gains as much as an honest one or a loss
//! exceeds its bound, 2 for wrong arguments.

use pasture_sim::Config;
use pasture_sim::config::{DAY_MS, HOUR_MS};
use pasture_types::Millis;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Instant;

const USAGE: &str = "usage: pasture-sim [--nodes N] [--users N] [--days N | --hours N] [--seed N] [--verify] [--json]
       [--absent-ppm N] [--deceived-ppm N] [--look-minutes N] [--avoids N] [--penalty N] [--reputation-weight N] [--history-weight N]";
/// Fewest nodes: each strategy needs two, and honest ones to compare with.
const MIN_NODES: u32 = 40;
/// Shortest run, in hours: a day of orders and the time until all is settled.
const MIN_HOURS: u64 = 24;

type Wrong = Box<dyn std::error::Error>;

fn arguments(mut args: impl Iterator<Item = String>) -> Result<(Config, bool), Wrong> {
    let mut config = Config::full(1);
    let mut json = false;
    while let Some(name) = args.next() {
        let mut number = || -> Result<u64, Wrong> { Ok(args.next().ok_or("a number is missing")?.parse()?) };
        match name.as_str() {
            "--nodes" => {
                config.nodes = u32::try_from(number()?)?;
                config.users = config.nodes / 5 * 3;
            }
            "--users" => config.users = u32::try_from(number()?)?,
            "--days" => config.length = Millis(number()?.saturating_mul(DAY_MS)),
            "--hours" => config.length = Millis(number()?.saturating_mul(HOUR_MS)),
            "--seed" => config.seed = number()?,
            "--absent-ppm" => config.absent_ppm = number()?.min(700_000),
            "--deceived-ppm" => config.deceived_ppm = number()?.min(50_000),
            "--look-minutes" => config.look = Millis(number()?.clamp(1, 1_440) * 60_000),
            "--avoids" => config.avoids = usize::try_from(number()?)?,
            "--penalty" => config.penalty = u32::try_from(number()?)?,
            "--reputation-weight" => config.reputation_weight = u32::try_from(number()?)?.min(450_000),
            "--history-weight" => config.history_weight = u32::try_from(number()?)?.min(350_000),
            "--verify" => config.verify = true,
            "--json" => json = true,
            other => return Err(format!("unknown argument {other}").into()),
        }
    }
    if config.nodes < MIN_NODES || config.length.0 < MIN_HOURS * HOUR_MS {
        return Err(format!("at least {MIN_NODES} nodes and {MIN_HOURS} hours, or there is nothing to compare").into());
    }
    Ok((config, json))
}

fn run() -> Result<ExitCode, Wrong> {
    let (config, json) = match arguments(std::env::args().skip(1)) {
        Ok(ok) => ok,
        Err(error) => {
            writeln!(std::io::stderr(), "{error}\n{USAGE}")?;
            return Ok(ExitCode::from(2));
        }
    };
    let began = Instant::now();
    let report = pasture_sim::run(config, &mut |world| {
        let day = world.chain.now.since(pasture_sim::world::START).0 / DAY_MS;
        let (chain, open) = (&world.chain, world.services.len());
        let elapsed = began.elapsed().as_secs();
        let _ = writeln!(
            std::io::stderr(),
            "day {day:>2}: {} blocks, {} transactions, {open} open leases, {} keys, {elapsed} s",
            chain.height,
            chain.transactions,
            chain.state.len()
        );
    })?;
    let mut out = std::io::stdout().lock();
    if json {
        writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
    } else {
        writeln!(out, "{}\n{} s", report.tables(), began.elapsed().as_secs())?;
    }
    Ok(if report.findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}
