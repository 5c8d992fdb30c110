//! Measures a chain of one validator with a trivial state machine: a lone transaction's latency, saturated
//! throughput, idle cost, and the disk's own floor in the same run.
//!
//! `cargo run --profile dev -p pasture-chain --example lone -- [DIR]`

#[path = "../tests/common/mod.rs"]
mod common;

use common::{ADD, Counter, options, tx};
use pasture_chain::Chain;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

const LONE: u64 = 200;
const GAP: Duration = Duration::from_millis(50);
const IDLE: Duration = Duration::from_secs(20);
const LOAD: Duration = Duration::from_secs(10);
/// Transactions kept waiting while saturated, over all senders.
const DEPTH: u64 = 4_000;
const SENDERS: u8 = 50;

fn cpu() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let mut fields = stat.rsplit(')').next()?.split_whitespace().skip(11);
    let mut tick = || fields.next()?.parse::<f64>().ok();
    Some((tick()? + tick()?) / 100.0)
}

fn rss_mib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? / 1024)
}

fn print_quantiles(what: &str, mut samples: Vec<f64>) {
    let slow: Vec<usize> = samples.iter().enumerate().filter(|(_, ms)| **ms > 25.0).map(|(i, _)| i).collect();
    samples.sort_by(f64::total_cmp);
    let at = |q: f64| samples.get(((samples.len() as f64 - 1.0) * q) as usize).copied().unwrap_or(f64::NAN);
    eprintln!(
        "{what}: p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms ({} samples; over 25 ms: {slow:?})",
        at(0.5),
        at(0.99),
        at(1.0),
        samples.len()
    );
}

fn fsync_floor(dir: &Path) -> std::io::Result<()> {
    let path = dir.join("floor");
    let mut file = std::fs::File::create(&path)?;
    let mut samples = Vec::new();
    for _ in 0..200 {
        let begun = Instant::now();
        file.write_all(&[0; 4096])?;
        file.sync_data()?;
        samples.push(begun.elapsed().as_secs_f64() * 1e3);
        std::thread::sleep(Duration::from_millis(5));
    }
    print_quantiles("fdatasync of a 4 KiB append", samples);
    std::fs::remove_file(path)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let scratch = tempfile::tempdir()?;
    let dir = std::env::args_os().nth(1).map_or_else(|| scratch.path().to_path_buf(), Into::into);
    std::fs::create_dir_all(&dir)?;
    fsync_floor(&dir)?;
    let begun = Instant::now();
    let chain = Chain::start(options(&dir), Arc::new(Counter))?;
    eprintln!("started in {:?}", begun.elapsed());

    let mut samples = Vec::new();
    let (before, begun) = (cpu().unwrap_or(f64::NAN), Instant::now());
    for seq in 0..LONE {
        let submitted = Instant::now();
        chain.submit(tx(1, 0, seq, ADD, &[0; 160]))?.finalized().await?;
        samples.push(submitted.elapsed().as_secs_f64() * 1e3);
        tokio::time::sleep(GAP).await;
    }
    let used = cpu().unwrap_or(f64::NAN) - before;
    print_quantiles("lone transaction, submit to final", samples);
    eprintln!("  {:.3} core at {:.0} tx/s", used / begun.elapsed().as_secs_f64(), LONE as f64 / begun.elapsed().as_secs_f64());

    let (height, before) = (chain.status().height, cpu().unwrap_or(f64::NAN));
    tokio::time::sleep(IDLE).await;
    let idle = (cpu().unwrap_or(f64::NAN) - before) / IDLE.as_secs_f64();
    eprintln!("idle: {idle:.4} core, {} MiB resident, {} blocks", rss_mib().unwrap_or(0), chain.status().height - height);

    let (height, before, begun) = (chain.status().height, cpu().unwrap_or(f64::NAN), Instant::now());
    let mut workers = tokio::task::JoinSet::new();
    for sender in 2..2 + SENDERS {
        let chain = chain.clone();
        workers.spawn(async move {
            let mut waiting = std::collections::VecDeque::new();
            let (mut seq, mut done) = (0, 0u64);
            while begun.elapsed() < LOAD {
                while waiting.len() < (DEPTH / u64::from(SENDERS)) as usize {
                    match chain.submit(tx(sender, 0, seq, ADD, &[0; 160])) {
                        Ok(pending) => waiting.push_back(pending),
                        Err(_) => break,
                    }
                    seq += 1;
                }
                if let Some(pending) = waiting.pop_front()
                    && pending.finalized().await.is_ok()
                {
                    done += 1;
                }
            }
            done
        });
    }
    let done: u64 = workers.join_all().await.into_iter().sum();
    let (took, blocks) = (begun.elapsed().as_secs_f64(), chain.status().height - height);
    let used = (cpu().unwrap_or(f64::NAN) - before) / took;
    eprintln!(
        "saturated: {:.0} tx/s in {:.1} blocks/s, {used:.2} core with the load generator, {} MiB resident",
        done as f64 / took,
        blocks as f64 / took,
        rss_mib().unwrap_or(0)
    );
    chain.shutdown(Duration::from_secs(20)).await?;
    Ok(())
}
