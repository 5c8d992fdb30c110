//! `farm-sim network`: the ledger on the real engine under faults, seed after seed.
//!
//! Guarantees: a seed that fails is named with the command that repeats it. With `--done FILE` each seed that held is written to the file
//! as it ends, and those in it are not run again: a run that was broken off goes on. A line has what checks it again: the same seed gives the
//! same trace with the same revision of the code, which `--revision NAME` names.

use crate::args::{Args, unknown, wrong};
use crate::{Wrong, usage};
use pasture_sim::network::{Bug, Counts, Failed, Held, Options, SECONDS, run as run_seed};
use serde::Serialize;
use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Failed seeds after which no other is begun.
const MAX_FAILED: usize = 20;

struct Plan {
    first: u64,
    seeds: u64,
    options: Options,
    jobs: u64,
    /// No seed is begun after so long.
    length: Option<Duration>,
    done: Option<PathBuf>,
    revision: String,
    json: bool,
}

fn arguments(mut args: Args) -> Result<Plan, Wrong> {
    let options = Options::new(0, SECONDS);
    let mut plan = Plan { first: 0, seeds: 1, options, jobs: 1, length: None, done: None, revision: String::new(), json: false };
    while let Some(name) = args.name() {
        match name.as_str() {
            "--seed" => plan.first = args.number(&name)?,
            "--seeds" => plan.seeds = args.number(&name)?,
            "--seconds" => plan.options.seconds = args.number(&name)?,
            "--nodes" => plan.options.nodes = Some(args.number(&name)?),
            "--jobs" => plan.jobs = args.number::<u64>(&name)?.clamp(1, 64),
            "--minutes" => plan.length = Some(Duration::from_secs(args.number::<u64>(&name)?.saturating_mul(60))),
            "--done" => plan.done = Some(args.value(&name)?.into()),
            "--revision" => plan.revision = args.value(&name)?,
            "--bug" => {
                let bug = args.value(&name)?;
                plan.options.bug = Some(Bug::of(&bug).ok_or_else(|| wrong(format!("there is no bug {bug}")))?);
            }
            "--json" => plan.json = true,
            other => return Err(unknown(other)),
        }
    }
    Ok(plan)
}

/// A line of the file of finished seeds.
#[derive(Serialize)]
struct Line<'a> {
    seed: u64,
    seconds: u64,
    revision: &'a str,
    trace: &'a str,
    blocks: u64,
    transactions: u64,
    leases: u64,
    crashes: u64,
    partitions: u64,
    elections: u64,
    joined_at: Option<u64>,
    virtual_ms: u64,
    cpu_ms: u64,
}

impl<'a> Line<'a> {
    fn new(plan: &'a Plan, held: &'a Held, cpu_ms: u64) -> Self {
        Self {
            seed: held.seed,
            seconds: plan.options.seconds,
            revision: &plan.revision,
            trace: &held.trace,
            blocks: held.blocks,
            transactions: held.counts.transactions,
            leases: held.counts.settled,
            crashes: held.crashes,
            partitions: held.partitions,
            elections: held.counts.elections,
            joined_at: held.joined_at,
            virtual_ms: held.virtual_ms,
            cpu_ms,
        }
    }
}

/// What all seeds came to.
#[derive(Default, Serialize)]
struct Total {
    seeds: u64,
    virtual_s: u64,
    cpu_s: u64,
    blocks: u64,
    acknowledged: u64,
    crashes: u64,
    partitions: u64,
    /// Newcomers, and of them those that took a state.
    joins: u64,
    joined_by_state: u64,
    counts: Counts,
    failed: Vec<u64>,
    /// Seeds that were done before, by the file.
    before: usize,
    peak_kib: u64,
    wall_s: u64,
}

impl Total {
    fn add(&mut self, held: &Held, cpu_ms: u64) {
        self.seeds += 1;
        self.virtual_s += held.virtual_ms / 1_000;
        self.cpu_s += cpu_ms;
        self.blocks += held.blocks;
        self.acknowledged += held.acknowledged as u64;
        self.crashes += held.crashes;
        self.partitions += held.partitions;
        self.joins += u64::from(held.joins);
        self.joined_by_state += u64::from(held.joined_at.is_some());
        self.counts.add(&held.counts);
    }
}

/// Seeds of the same length that are in the file.
fn finished(plan: &Plan) -> Result<BTreeSet<u64>, Wrong> {
    let Some(path) = plan.done.as_ref().filter(|path| path.exists()) else { return Ok(BTreeSet::new()) };
    let mut seeds = BTreeSet::new();
    for line in BufReader::new(File::open(path)?).lines() {
        // The last line may have been broken off.
        let Ok(value) = serde_json::from_str::<serde_json::Value>(&line?) else { continue };
        let number = |name: &str| value.get(name).and_then(serde_json::Value::as_u64);
        if number("seconds") == Some(plan.options.seconds) {
            seeds.extend(number("seed"));
        }
    }
    Ok(seeds)
}

struct Shared {
    total: Total,
    file: Option<File>,
    /// What went wrong with the file.
    error: Option<std::io::Error>,
}

impl Shared {
    fn held(&mut self, plan: &Plan, held: &Held, cpu_ms: u64) {
        self.total.add(held, cpu_ms);
        let mut text = serde_json::to_string(&Line::new(plan, held, cpu_ms)).unwrap_or_default();
        text.push('\n');
        if let Some(file) = &mut self.file
            && let Err(error) = file.write_all(text.as_bytes())
        {
            self.error = Some(error);
        }
        let evil = held.evil.join(", ");
        let what = format!(
            "{} validators ({} dishonest: {evil}), {} nodes, elections {}, {} blocks, {} transactions, {} leases settled",
            held.validators,
            held.evil.len(),
            held.nodes,
            held.counts.elections,
            held.blocks,
            held.counts.transactions,
            held.counts.settled,
        );
        let joined = match (held.joins, held.joined_at) {
            (false, _) => String::new(),
            (true, None) => ", one joined by blocks".to_owned(),
            (true, Some(height)) => format!(", one joined by the state of block {height}"),
        };
        let faults = format!("{} crashes, {} partitions{joined}", held.crashes, held.partitions);
        let _ = writeln!(std::io::stderr(), "seed {} holds: {what}, {faults}, {} ms of processor time", held.seed, cpu_ms);
    }

    fn failed(&mut self, failed: &Failed) {
        self.total.failed.push(failed.seed);
        let _ = writeln!(std::io::stderr(), "{failed}");
    }
}

fn work(plan: &Plan, before: &BTreeSet<u64>, next: &AtomicU64, began: Instant, shared: &Mutex<Shared>) {
    let lock = || shared.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let at = next.fetch_add(1, Ordering::Relaxed);
        let seed = plan.first.saturating_add(at);
        if at >= plan.seeds || plan.length.is_some_and(|length| began.elapsed() >= length) {
            return;
        }
        if before.contains(&seed) {
            continue;
        }
        let from = usage::thread_cpu_ms();
        let result = run_seed(Options { seed, ..plan.options });
        let cpu_ms = usage::thread_cpu_ms().saturating_sub(from);
        let mut shared = lock();
        match result {
            Ok(held) => shared.held(plan, &held, cpu_ms),
            Err(failed) => shared.failed(&failed),
        }
        if shared.error.is_some() || shared.total.failed.len() >= MAX_FAILED {
            return;
        }
    }
}

pub(crate) fn run(args: Args) -> Result<ExitCode, Wrong> {
    let plan = arguments(args)?;
    let before = finished(&plan)?;
    let file = plan.done.as_ref().map(|path| OpenOptions::new().create(true).append(true).open(path)).transpose()?;
    let (next, began) = (AtomicU64::new(0), Instant::now());
    let shared = Mutex::new(Shared { total: Total { before: before.len(), ..Total::default() }, file, error: None });
    std::thread::scope(|scope| {
        for _ in 0..plan.jobs {
            scope.spawn(|| work(&plan, &before, &next, began, &shared));
        }
    });
    let Shared { mut total, error, .. } = shared.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(error) = error {
        return Err(error.into());
    }
    total.cpu_s /= 1_000;
    total.peak_kib = usage::peak_kib();
    total.wall_s = began.elapsed().as_secs();
    total.failed.sort_unstable();
    show(&plan, &total)?;
    Ok(if total.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn show(plan: &Plan, total: &Total) -> Result<(), Wrong> {
    let mut out = std::io::stdout().lock();
    if plan.json {
        writeln!(out, "{}", serde_json::to_string_pretty(total)?)?;
        return Ok(());
    }
    let c = &total.counts;
    writeln!(out, "seeds         {} held, {} failed, {} were done before", total.seeds, total.failed.len(), total.before)?;
    writeln!(out, "virtual time  {} s, at least {} s of faults in each seed", total.virtual_s, plan.options.seconds)?;
    writeln!(out, "faults        {} crashes, {} partitions", total.crashes, total.partitions)?;
    writeln!(out, "blocks        {}, every invariant checked after each", total.blocks)?;
    writeln!(out, "transactions  {}, {} of them failed, {} acknowledged", c.transactions, c.failed, total.acknowledged)?;
    writeln!(out, "leases        {} matched, {} taken, {} settled, {} paid", c.matched, c.accepted, c.settled, c.paid)?;
    writeln!(out, "validators    {} elections, {} deposits forfeited", c.elections, c.forfeits)?;
    writeln!(out, "newcomers     {}, {} of them joined by state", total.joins, total.joined_by_state)?;
    writeln!(out, "memory        {} MiB at most", total.peak_kib / 1024)?;
    writeln!(out, "time          {} s by the clock, {} s of processor time", total.wall_s, total.cpu_s)?;
    for seed in &total.failed {
        writeln!(out, "failed        {}", Options { seed: *seed, ..plan.options }.command())?;
    }
    Ok(())
}
