//! `farm-sim scale`: ten thousand nodes and a hundred thousand leases on the ledger, and what that takes.

use crate::args::{Args, unknown, wrong};
use crate::{Wrong, usage};
use pasture_sim::scale::{Fair, Size};
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Instant;

pub(crate) fn run(mut args: Args) -> Result<ExitCode, Wrong> {
    let (mut size, mut json) = (Size { nodes: 10_000, leases: 100_000, seed: 1 }, false);
    while let Some(name) = args.name() {
        match name.as_str() {
            "--nodes" => size.nodes = args.number(&name)?,
            "--leases" => size.leases = args.number(&name)?,
            "--seed" => size.seed = args.number(&name)?,
            "--json" => json = true,
            other => return Err(unknown(other)),
        }
    }
    if size.nodes == 0 || size.leases == 0 {
        return Err(wrong("at least one node and one lease"));
    }
    let mut err = std::io::stderr();
    writeln!(err, "blocks are ordered by an oracle in place of the engine; everything else is the ledger's own code")?;
    let began = Instant::now();
    let scale = Fair::new(size).run(&mut |fair| {
        let (chain, open, settled) = (&fair.chain, fair.open(), fair.settled());
        let (blocks, transactions, keys) = (chain.height, chain.transactions, chain.state.len());
        let (elapsed, peak) = (began.elapsed().as_secs(), usage::peak_kib() / 1024);
        let line = format!("{blocks} blocks, {transactions} transactions, {open} open leases, {settled} settled, {keys} keys");
        let _ = writeln!(std::io::stderr(), "{line}, {peak} MiB at most, {elapsed} s");
    })?;
    let (wall_ms, cpu_ms, peak_kib) = (began.elapsed().as_millis(), usage::thread_cpu_ms(), usage::peak_kib());
    let mut out = std::io::stdout().lock();
    if json {
        let whole = serde_json::json!({ "scale": scale, "wall_ms": wall_ms, "cpu_ms": cpu_ms, "peak_kib": peak_kib });
        writeln!(out, "{}", serde_json::to_string_pretty(&whole)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(out, "ordering      {}", scale.ordering)?;
    writeln!(out, "nodes         {}", scale.nodes)?;
    writeln!(out, "users         {}", scale.users)?;
    writeln!(out, "leases        {} settled, {} of them paid, {} open at once", scale.leases, scale.paid, scale.open_at_once)?;
    writeln!(out, "blocks        {}", scale.blocks)?;
    writeln!(out, "transactions  {}", scale.transactions)?;
    for (code, times, why) in &scale.refused {
        writeln!(out, "refused       {times} times with code {code}: {why}")?;
    }
    writeln!(out, "invariants    all of the ledger's, checked {} times", scale.checks)?;
    writeln!(out, "virtual time  {} s", scale.virtual_ms / 1_000)?;
    writeln!(out, "state         {} keys at most", scale.keys)?;
    writeln!(out, "memory        {} MiB at most", peak_kib / 1024)?;
    writeln!(out, "time          {:.1} s by the clock, {:.1} s of processor time", secs(wall_ms), secs(cpu_ms.into()))?;
    Ok(ExitCode::SUCCESS)
}

#[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
fn secs(ms: u128) -> f64 {
    ms as f64 / 1e3
}
