//! `farm-sim audits`: a thousand machines under audits, honest for a million days and dishonest for a month; and the specs' figures.

use crate::args::{Args, unknown, wrong};
use crate::{Wrong, usage};
use pasture_sim::audits::{Config, confirm, run};
use std::io::Write as _;
use std::process::ExitCode;

fn arguments(mut args: Args) -> Result<(Config, u64, bool), Wrong> {
    let (mut config, mut scale, mut json) = (Config::full(1), 100, false);
    while let Some(name) = args.name() {
        match name.as_str() {
            "--nodes" => config.nodes = args.number(&name)?,
            "--node-days" => config.node_days = args.number(&name)?,
            "--days" => config.days = args.number(&name)?,
            "--seed" => config.seed = args.number(&name)?,
            "--elsewhere-ppm" => config.elsewhere_ppm = args.number::<u64>(&name)?.min(1_000_000),
            "--punctual-ppm" => config.audits.punctual_ppm = args.number::<u32>(&name)?.clamp(1_000, config.audits.slack_ppm),
            "--confirm-percent" => scale = args.number::<u64>(&name)?.min(1_000),
            "--json" => json = true,
            other => return Err(unknown(other)),
        }
    }
    if config.nodes == 0 || config.node_days == 0 || config.days == 0 {
        return Err(wrong("at least one node and one day"));
    }
    Ok((config, scale, json))
}

pub(crate) fn run_audits(args: Args) -> Result<ExitCode, Wrong> {
    let (config, scale, json) = arguments(args)?;
    let mut err = std::io::stderr();
    let audits = run(&config, &mut |what, part| {
        if part % 10 == 0 {
            let _ = writeln!(err, "{what}: {part} %");
        }
    });
    let confirmed = confirm(scale, config.seed);
    let cpu_ms = usage::thread_cpu_ms();
    let wrong = confirmed.iter().filter(|row| !row.holds).count();
    let mut out = std::io::stdout().lock();
    if json {
        let whole = serde_json::json!({ "audits": audits, "confirmed": confirmed, "cpu_ms": cpu_ms });
        writeln!(out, "{}", serde_json::to_string_pretty(&whole)?)?;
    } else {
        writeln!(out, "{}\n{}", audits.tables(), pasture_sim::audits::confirm::table(&confirmed))?;
        writeln!(out, "{wrong} of {} figures of the specs do not hold\n{} s of processor time", confirmed.len(), cpu_ms / 1_000)?;
    }
    Ok(if audits.findings.is_empty() && wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
