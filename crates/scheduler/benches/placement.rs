//! Which share of a cluster's GPUs stays unallocatable as load grows: our fit policy against best fit, random, dot product and
//! FGD, on a production trace, all in one harness.
//!
//! The trace is `cluster-trace-gpu-v2023` of `alibaba/clusterdata` (research use), the one behind FGD ("Beware of
//! Fragmentation", USENIX ATC 2023); the folder with its two CSV files is named by `PASTURE_TRACES` and is no part of this
//! repository. As in that paper, tasks arrive in random order, drawn from the trace again and again until they ask for 130 % of all GPUs;
//! none ends; a task that fits nowhere is lost. What stays free when 130 % was asked could not be allocated.
//! `PASTURE_TRACES=... cargo bench -p pasture-scheduler --bench placement -- [--quick]`

#[path = "../../../bench/report.rs"]
mod report;

use pasture_scheduler::FitPolicy;
use pasture_scheduler::fit::{Demand, Devices, Machine, WHOLE_GPU, fit_part, place};
use pasture_types::market_rules::{MarketParams, TYPICAL_JOBS, TypicalJob};
use report::{Failure, Figure, Report, Spread, quick, say};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const NODES: &str = "openb_node_list_all_node.csv";
const TASKS: &str = "openb_pod_list_default.csv";
/// The folder of the trace, below what `PASTURE_TRACES` names or that itself.
const FOLDER: &str = "alibaba-gpu-2023";
/// Loads at which a figure is taken, in percent of all GPUs; the last is where arrivals end.
const LOADS: [u64; 6] = [80, 90, 100, 110, 120, 130];
const ROUNDS: usize = 10;
const QUICK_ROUNDS: usize = 2;

/// A machine after a placement, and how good that is; the largest wins.
type Choice = (f64, Machine);

/// One of those that are compared.
struct Policy {
    name: &'static str,
    /// Whether the whole cluster is looked at, or so many machines that fit, drawn.
    looks_at: Option<usize>,
    judge: fn(&Trace, &Machine, &Demand) -> Option<Choice>,
}

/// The cluster and what is asked of it.
struct Trace {
    machines: Vec<Machine>,
    /// The largest amounts that one machine has, for dot products.
    largest: (u64, u64, u64),
    tasks: Vec<Demand>,
    /// Every kind of task with its share: what FGD weighs by.
    kinds: Vec<(Demand, f64)>,
    market: MarketParams,
    /// The commonest kinds of task, as many as a zone may call typical.
    commonest: Vec<TypicalJob>,
}

const POLICIES: [Policy; 8] = [
    Policy { name: "ours", looks_at: None, judge: ours },
    Policy {
        name: "ours, among as many offers as a draw scores",
        looks_at: Some(MarketParams::production().candidates as usize),
        judge: ours,
    },
    Policy { name: "ours, told the commonest tasks", looks_at: None, judge: ours_told },
    Policy { name: "FGD", looks_at: None, judge: fgd },
    Policy { name: "best fit", looks_at: None, judge: best_fit },
    Policy { name: "our best fit", looks_at: None, judge: our_best_fit },
    Policy { name: "dot product", looks_at: None, judge: dot_product },
    Policy { name: "random", looks_at: Some(1), judge: any },
];

fn main() -> Result<(), Failure> {
    let quick = quick()?;
    let Some(folder) = folder() else {
        say(
            "placement is left out: set PASTURE_TRACES to the folder that holds alibaba-gpu-2023 (cluster-trace-gpu-v2023 of alibaba/clusterdata)",
        );
        return Ok(());
    };
    let trace = Trace::read(&folder)?;
    let rounds = if quick { QUICK_ROUNDS } else { ROUNDS };
    let mut report = Report::begin("placement", quick, &folder);
    report.plan(json!({
        "trace": "alibaba/clusterdata cluster-trace-gpu-v2023", "machines": trace.machines.len(), "tasks": trace.tasks.len(),
        "gpus": trace.gpu_millis() / u64::from(WHOLE_GPU), "kinds": trace.kinds.len(), "rounds": rounds, "loads": LOADS,
    }));
    let mut all: Vec<Vec<[f64; LOADS.len()]>> = vec![vec![]; POLICIES.len()];
    for round in 0..rounds {
        let arrivals = trace.arrivals(round as u64);
        for (policy, samples) in POLICIES.iter().zip(&mut all) {
            samples.push(run(&trace, policy, &arrivals, round as u64));
        }
        say(&format!("round {} of {rounds}", round + 1));
    }
    let at =
        |samples: &[[f64; LOADS.len()]], n: usize| Spread::median(&samples.iter().filter_map(|s| s.get(n).copied()).collect::<Vec<_>>());
    let peers = |name: &str| POLICIES.iter().position(|p| p.name == name).and_then(|n| all.get(n));
    let fgd = peers("FGD").ok_or("FGD is among the policies")?;
    for (policy, samples) in POLICIES.iter().zip(&all) {
        for (n, load) in LOADS.iter().enumerate() {
            let figure = Figure::new(format!("GPUs left idle with {load} % asked: {}", policy.name), "%", at(samples, n));
            // Nothing is a ratio of nothing.
            let peer = at(fgd, n);
            report.add(if policy.name == "FGD" || peer.value == 0.0 { figure } else { figure.against("FGD", "%", peer) });
        }
    }
    report.finish()
}

fn folder() -> Option<PathBuf> {
    let named = PathBuf::from(std::env::var_os("PASTURE_TRACES")?);
    [named.join(FOLDER), named].into_iter().find(|f| f.join(NODES).is_file() && f.join(TASKS).is_file())
}

impl Trace {
    fn read(folder: &Path) -> Result<Self, Failure> {
        let machines = rows(&folder.join(NODES), |row| {
            let gpus = u16::try_from(row.number("gpu")?)?;
            let devices = if gpus == 0 { vec![] } else { vec![Devices { free_millis: WHOLE_GPU, count: gpus }] };
            Ok(Machine { cpu_millis: row.number("cpu_milli")?, memory_mib: row.number("memory_mib")?, disk_mib: 0, gpus: devices })
        })?;
        let tasks = rows(&folder.join(TASKS), |row| {
            Ok(Demand {
                cpu_millis: row.number("cpu_milli")?,
                memory_mib: row.number("memory_mib")?,
                disk_mib: 0,
                gpus: u16::try_from(row.number("num_gpu")?)?,
                gpu_millis: u16::try_from(row.number("gpu_milli")?)?,
            })
        })?;
        let mut counts = BTreeMap::<_, (Demand, f64)>::new();
        for task in &tasks {
            let kind = (task.cpu_millis, task.memory_mib, task.gpus, task.gpu_millis);
            counts.entry(kind).or_insert((*task, 0.0)).1 += 1.0 / tasks.len() as f64;
        }
        let most = |of: fn(&Machine) -> u64| machines.iter().map(of).max().unwrap_or(1);
        let largest = (most(|m| m.cpu_millis), most(|m| m.memory_mib), most(Machine::gpu_millis));
        let kinds: Vec<_> = counts.into_values().collect();
        let commonest = commonest(&kinds)?;
        // The parameters that a zone begins with, not some that were fitted to this trace.
        Ok(Self { machines, largest, tasks, kinds, market: MarketParams::production(), commonest })
    }

    fn gpu_millis(&self) -> u64 {
        self.machines.iter().map(Machine::gpu_millis).sum()
    }

    /// Tasks drawn until they ask for the last of [`LOADS`].
    fn arrivals(&self, round: u64) -> Vec<Demand> {
        let (mut draw, mut asked, mut out) = (Draw::new(round), 0, vec![]);
        let [.., most] = LOADS;
        while asked * 100 < self.gpu_millis() * most {
            let Some(task) = self.tasks.get(draw.below(self.tasks.len())) else { break };
            asked += asks(task);
            out.push(*task);
        }
        out
    }
}

/// What a zone with this load would call typical: the commonest kinds by their GPUs, each with its most frequent CPU and memory.
fn commonest(kinds: &[(Demand, f64)]) -> Result<Vec<TypicalJob>, Failure> {
    let mut by_gpu = BTreeMap::<(u16, u16), (f64, Demand, f64)>::new();
    for (kind, share) in kinds {
        let entry = by_gpu.entry((kind.gpus, kind.gpu_millis)).or_insert((0.0, *kind, 0.0));
        entry.0 += share;
        if *share > entry.2 {
            (entry.1, entry.2) = (*kind, *share);
        }
    }
    let mut all: Vec<_> = by_gpu.into_values().collect();
    all.sort_by(|a, b| b.0.total_cmp(&a.0));
    let job = |(share, kind, _): (f64, Demand, f64)| -> Result<TypicalJob, Failure> {
        let (cpu_millis, memory_mib) = (u32::try_from(kind.cpu_millis)?, u32::try_from(kind.memory_mib)?);
        Ok(TypicalJob { cpu_millis, memory_mib, gpus: kind.gpus, gpu_millis: kind.gpu_millis, weight: (share * 1e6) as u32 })
    };
    all.into_iter().take(TYPICAL_JOBS).map(job).collect()
}

fn asks(task: &Demand) -> u64 {
    u64::from(task.gpus) * u64::from(task.gpu_millis)
}

/// Reads a table with a line of names.
fn rows<T>(file: &Path, read: impl Fn(&Row<'_>) -> Result<T, Failure>) -> Result<Vec<T>, Failure> {
    let text = std::fs::read_to_string(file)?;
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next().unwrap_or_default().split(',').collect();
    lines.map(|line| read(&Row { names: &names, values: line.split(',').collect() })).collect()
}

struct Row<'a> {
    names: &'a [&'a str],
    values: Vec<&'a str>,
}

impl Row<'_> {
    fn number(&self, name: &str) -> Result<u64, Failure> {
        let at = self.names.iter().position(|n| *n == name).ok_or("a column is missing")?;
        let text = self.values.get(at).copied().unwrap_or_default();
        // A task without GPUs leaves the size of each empty.
        Ok(if text.is_empty() { 0 } else { text.parse::<f64>()?.round() as u64 })
    }
}

/// xorshift64*: the same arrivals on every machine.
struct Draw(u64);

impl Draw {
    fn new(seed: u64) -> Self {
        let mut draw = Self((seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        (0..8).for_each(|_| {
            draw.next();
        });
        draw
    }
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
    fn below(&mut self, end: usize) -> usize {
        ((u128::from(self.next()) * end as u128) >> 64) as usize
    }
}

/// Places all arrivals; the share of GPUs that is idle although it was asked for, at each load, in percent.
fn run(trace: &Trace, policy: &Policy, arrivals: &[Demand], round: u64) -> [f64; LOADS.len()] {
    let mut draw = Draw::new(round + 1_000);
    let mut machines = trace.machines.clone();
    // Ties go to the first, and so the machines stand in another order each round.
    (1..machines.len()).rev().for_each(|n| machines.swap(n, draw.below(n + 1)));
    // What a kind of task would make of each machine; only what a placement changes is judged anew.
    let mut judged = BTreeMap::<(u64, u64, u16, u16), Vec<Option<Choice>>>::new();
    let capacity = trace.gpu_millis();
    let (mut asked, mut used, mut out, mut next) = (0, 0, [0.0; LOADS.len()], 0);
    for task in arrivals {
        let kind = (task.cpu_millis, task.memory_mib, task.gpus, task.gpu_millis);
        let choices = judged.entry(kind).or_insert_with(|| machines.iter().map(|m| (policy.judge)(trace, m, task)).collect::<Vec<_>>());
        if let Some(at) = choose(choices, policy.looks_at, &mut draw)
            && let Some((_, after)) = choices.get(at).cloned().flatten()
            && let Some(machine) = machines.get_mut(at)
        {
            *machine = after;
            used += asks(task);
            for ((cpu_millis, memory_mib, gpus, gpu_millis), choices) in &mut judged {
                let kind = Demand { cpu_millis: *cpu_millis, memory_mib: *memory_mib, disk_mib: 0, gpus: *gpus, gpu_millis: *gpu_millis };
                if let Some(choice) = choices.get_mut(at) {
                    *choice = (policy.judge)(trace, machine, &kind);
                }
            }
        }
        asked += asks(task);
        while let (Some(load), Some(slot)) = (LOADS.get(next), out.get_mut(next))
            && asked * 100 >= capacity * load
        {
            *slot = (asked.min(capacity) - used) as f64 * 100.0 / capacity as f64;
            next += 1;
        }
    }
    out
}

/// The best of all, or of some that fit, drawn; the first of equals.
fn choose(choices: &[Option<Choice>], looks_at: Option<usize>, draw: &mut Draw) -> Option<usize> {
    let fitting = choices.iter().enumerate().filter_map(|(n, choice)| choice.as_ref().map(|(score, _)| (n, *score)));
    let best = |it: &mut dyn Iterator<Item = (usize, f64)>| {
        it.fold(None, |best: Option<(usize, f64)>, one| if best.is_some_and(|b| b.1 >= one.1) { best } else { Some(one) }).map(|b| b.0)
    };
    let Some(count) = looks_at else { return best(&mut { fitting }) };
    let mut some: Vec<(usize, f64)> = fitting.collect();
    let count = count.min(some.len());
    for n in 0..count {
        let other = n + draw.below(some.len() - n);
        some.swap(n, other);
    }
    some.truncate(count);
    best(&mut some.into_iter())
}

fn part(policy: FitPolicy, typical: &[TypicalJob], machine: &Machine, task: &Demand) -> Option<Choice> {
    let after = place(machine, task, policy, typical)?;
    Some((fit_part(policy, typical, machine, &after, task, 0) as f64, after))
}

/// The policy that zones begin with, as the ledger draws by it.
fn ours(trace: &Trace, machine: &Machine, task: &Demand) -> Option<Choice> {
    part(trace.market.fit, &trace.market.typical, machine, task)
}

/// The same where a vote has set what is typical to what is common here.
fn ours_told(trace: &Trace, machine: &Machine, task: &Demand) -> Option<Choice> {
    part(trace.market.fit, &trace.commonest, machine, task)
}

fn our_best_fit(trace: &Trace, machine: &Machine, task: &Demand) -> Option<Choice> {
    part(FitPolicy::BestFit, &trace.market.typical, machine, task)
}

fn any(trace: &Trace, machine: &Machine, task: &Demand) -> Option<Choice> {
    part(FitPolicy::Random, &trace.market.typical, machine, task)
}

/// Least left over all classes, each measured against the largest machine, as FGD's authors compare with.
fn best_fit(trace: &Trace, machine: &Machine, task: &Demand) -> Option<Choice> {
    let after = place(machine, task, FitPolicy::BestFit, &[])?;
    let (cpu, memory, gpus) = trace.largest;
    let left = share(after.cpu_millis, cpu) + share(after.memory_mib, memory) + share(after.gpu_millis(), gpus);
    Some((-left, after))
}

/// The largest product of what is asked and what is free, each measured against the largest machine.
fn dot_product(trace: &Trace, machine: &Machine, task: &Demand) -> Option<Choice> {
    let after = place(machine, task, FitPolicy::BestFit, &[])?;
    let (cpu, memory, gpus) = trace.largest;
    let product = share(task.cpu_millis, cpu) * share(machine.cpu_millis, cpu)
        + share(task.memory_mib, memory) * share(machine.memory_mib, memory)
        + share(asks(task), gpus) * share(machine.gpu_millis(), gpus);
    Some((product, after))
}

fn share(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}

/// FGD as its authors state it (§3, §4): where the expected fragmentation over all kinds of tasks grows least, machine and GPU
/// both; an implementation of its own.
fn fgd(trace: &Trace, machine: &Machine, task: &Demand) -> Option<Choice> {
    let before = expected_fragmentation(trace, machine);
    let candidates: Vec<Machine> = if task.gpus == 1 {
        machine.gpus.iter().filter_map(|group| on_device(machine, task, *group)).collect()
    } else {
        place(machine, task, FitPolicy::BestFit, &[]).into_iter().collect()
    };
    let grown = candidates.into_iter().map(|after| (before - expected_fragmentation(trace, &after), after));
    grown.fold(None, |best: Option<Choice>, one| if best.as_ref().is_some_and(|b| b.0 >= one.0) { best } else { Some(one) })
}

/// The machine after one of these GPUs took the task.
fn on_device(machine: &Machine, task: &Demand, group: Devices) -> Option<Machine> {
    let alone = Machine { gpus: vec![Devices { count: 1, ..group }], ..machine.clone() };
    let mut after = place(&alone, task, FitPolicy::BestFit, &[])?;
    for others in &machine.gpus {
        let count = others.count - u16::from(others.free_millis == group.free_millis);
        match after.gpus.iter_mut().find(|d| d.free_millis == others.free_millis) {
            Some(same) => same.count += count,
            None if count > 0 => after.gpus.push(Devices { count, ..*others }),
            None => {}
        }
    }
    Some(after)
}

fn expected_fragmentation(trace: &Trace, machine: &Machine) -> f64 {
    let of = |millis: &dyn Fn(&Devices) -> bool| {
        machine.gpus.iter().filter(|d| millis(d)).map(|d| f64::from(d.free_millis) * f64::from(d.count)).sum::<f64>()
    };
    let all = of(&|_| true);
    let lost = |kind: &Demand| {
        let enough = machine.gpus.iter().filter(|d| d.free_millis >= kind.gpu_millis).map(|d| u64::from(d.count)).sum::<u64>();
        let fits = kind.cpu_millis <= machine.cpu_millis && kind.memory_mib <= machine.memory_mib && u64::from(kind.gpus) <= enough;
        if kind.gpus == 0 || !fits { all } else { of(&|d| d.free_millis < kind.gpu_millis) }
    };
    trace.kinds.iter().map(|(kind, weight)| weight * lost(kind)).sum()
}
