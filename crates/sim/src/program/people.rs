//! `farm-sim people`: a month of a zone with honest and dishonest people, and a table of what each gained.

use crate::Wrong;
use crate::args::{Args, unknown, wrong};
use pasture_sim::Config;
use pasture_sim::config::{DAY_MS, HOUR_MS};
use pasture_types::Millis;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Instant;

/// Fewest nodes: each strategy needs two, and honest ones to compare with.
const MIN_NODES: u32 = 40;
/// Shortest run, in hours: a day of orders and the time until all is settled.
const MIN_HOURS: u64 = 24;

fn arguments(mut args: Args) -> Result<(Config, bool), Wrong> {
    let mut config = Config::full(1);
    let mut json = false;
    while let Some(name) = args.name() {
        match name.as_str() {
            "--nodes" => {
                config.nodes = args.number(&name)?;
                config.users = config.nodes / 5 * 3;
            }
            "--users" => config.users = args.number(&name)?,
            "--days" => config.length = Millis(args.number::<u64>(&name)?.saturating_mul(DAY_MS)),
            "--hours" => config.length = Millis(args.number::<u64>(&name)?.saturating_mul(HOUR_MS)),
            "--seed" => config.seed = args.number(&name)?,
            "--absent-ppm" => config.absent_ppm = args.number::<u64>(&name)?.min(700_000),
            "--deceived-ppm" => config.deceived_ppm = args.number::<u64>(&name)?.min(50_000),
            "--look-minutes" => config.look = Millis(args.number::<u64>(&name)?.clamp(1, 1_440) * 60_000),
            "--avoids" => config.avoids = args.number(&name)?,
            "--penalty" => config.penalty = args.number(&name)?,
            "--reputation-weight" => config.reputation_weight = args.number::<u32>(&name)?.min(450_000),
            "--history-weight" => config.history_weight = args.number::<u32>(&name)?.min(350_000),
            "--verify" => config.verify = true,
            "--json" => json = true,
            other => return Err(unknown(other)),
        }
    }
    if config.nodes < MIN_NODES || config.length.0 < MIN_HOURS * HOUR_MS {
        return Err(wrong(format!("at least {MIN_NODES} nodes and {MIN_HOURS} hours, or there is nothing to compare")));
    }
    Ok((config, json))
}

pub(crate) fn run(args: Args) -> Result<ExitCode, Wrong> {
    let (config, json) = arguments(args)?;
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
