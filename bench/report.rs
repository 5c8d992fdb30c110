//! What the benches share: samples and their spread, facts about the machine, the table and the result file.
//!
//! Guarantees: a goal that is missed is printed and never fails the run; a result names no host, no user and no path;
//! a quick run leaves the recorded results alone. It measures nothing itself.

use pasture_rt::{Clock as _, SystemClock};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

/// Anything that keeps a bench from measuring.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What Linux counts processor time in, on every architecture that we build for.
#[allow(dead_code, reason = "each bench uses its part")]
const TICKS_PER_SECOND: f64 = 100.0;
const MILLIS_PER_DAY: u64 = 86_400_000;
const RESULTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../bench/results");

/// Whether `--quick` was asked for: few rounds, to see that the program works.
///
/// # Errors
/// Any other argument than that and the one that cargo passes.
pub(crate) fn quick() -> Result<bool, Failure> {
    let mut quick = false;
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--quick" => quick = true,
            "--bench" => {}
            other => return Err(format!("`{other}` is not an argument; there is only --quick").into()),
        }
    }
    Ok(quick)
}

/// Samples of one thing, in short.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spread {
    /// The figure itself: the median, or another quantile.
    pub(crate) value: f64,
    min: f64,
    max: f64,
    count: usize,
}

impl Spread {
    /// The median of some samples.
    pub(crate) fn median(samples: &[f64]) -> Self {
        Self::quantile(samples, 0.5)
    }

    /// A quantile of some samples: the smallest one that so large a part of them does not exceed.
    pub(crate) fn quantile(samples: &[f64], part: f64) -> Self {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let rank = (sorted.len() as f64 * part).ceil() as usize;
        let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
        Self { value: at(rank.saturating_sub(1)), min: at(0), max: at(sorted.len().saturating_sub(1)), count: sorted.len() }
    }

    fn json(&self, unit: &str) -> Value {
        json!({ "unit": unit, "value": self.value, "min": self.min, "max": self.max, "samples": self.count })
    }
}

/// What a figure should be.
#[derive(Clone, Copy, Debug)]
#[allow(dead_code, reason = "each bench uses its part")]
pub(crate) enum Goal {
    /// No less than this.
    Least(f64),
    /// No more than this.
    Most(f64),
    /// No more than this above what it is compared with.
    Over(f64),
    /// No more than so many times what it is compared with.
    Times(f64),
}

/// One row of the table.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    name: String,
    unit: &'static str,
    measured: Spread,
    against: Option<(String, &'static str, Spread)>,
    goal: Option<Goal>,
}

impl Figure {
    /// A figure that stands alone.
    pub(crate) fn new(name: impl Into<String>, unit: &'static str, measured: Spread) -> Self {
        Self { name: name.into(), unit, measured, against: None, goal: None }
    }

    /// Compares it with a floor, or a peer, that was measured in the same run.
    pub(crate) fn against(mut self, name: impl Into<String>, unit: &'static str, floor: Spread) -> Self {
        self.against = Some((name.into(), unit, floor));
        self
    }

    /// Sets what it should be.
    #[allow(dead_code, reason = "each bench uses its part")]
    pub(crate) fn goal(mut self, goal: Goal) -> Self {
        self.goal = Some(goal);
        self
    }

    fn ratio(&self) -> Option<f64> {
        self.against.as_ref().map(|(_, _, floor)| self.measured.value / floor.value)
    }

    /// How far it is above what it is compared with, where that has the same unit.
    fn difference(&self) -> Option<f64> {
        self.against.as_ref().filter(|(_, unit, _)| *unit == self.unit).map(|(_, _, floor)| self.measured.value - floor.value)
    }

    fn met(&self) -> Option<bool> {
        Some(match self.goal? {
            Goal::Least(least) => self.measured.value >= least,
            Goal::Most(most) => self.measured.value <= most,
            Goal::Over(most) => self.difference()? <= most,
            Goal::Times(most) => self.ratio()? <= most,
        })
    }

    fn row(&self) -> String {
        let spread = |s: &Spread, unit: &str| match s.count {
            1 => format!("{} {unit}", number(s.value)),
            n => format!("{} {unit} ({} to {}, n={n})", number(s.value), number(s.min), number(s.max)),
        };
        let against = self.against.as_ref().map_or_else(|| "-".into(), |(name, unit, floor)| format!("{name}: {}", spread(floor, unit)));
        let ratio = match (self.ratio(), self.difference(), self.goal) {
            (Some(ratio), Some(more), Some(Goal::Over(_))) => format!("x{}, {}{} {}", number(ratio), sign(more), number(more), self.unit),
            (Some(ratio), ..) => format!("x{}", number(ratio)),
            (None, ..) => "-".into(),
        };
        let goal = match self.goal {
            None => "-".into(),
            Some(Goal::Least(least)) => format!("at least {} {}", number(least), self.unit),
            Some(Goal::Most(most)) => format!("at most {} {}", number(most), self.unit),
            Some(Goal::Over(most)) => format!("at most +{} {}", number(most), self.unit),
            Some(Goal::Times(most)) => format!("at most x{most}"),
        };
        let met = match self.met() {
            None => "-",
            Some(true) => "met",
            Some(false) => "missed",
        };
        format!("| {} | {} | {against} | {ratio} | {goal} | {met} |", self.name, spread(&self.measured, self.unit))
    }

    fn json(&self) -> Value {
        let goal = self.goal.map(|goal| match goal {
            Goal::Least(least) => json!({ "at_least": least }),
            Goal::Most(most) => json!({ "at_most": most }),
            Goal::Over(most) => json!({ "at_most_over": most }),
            Goal::Times(most) => json!({ "at_most_times": most }),
        });
        json!({
            "name": self.name,
            "measured": self.measured.json(self.unit),
            "against": self.against.as_ref().map(|(name, unit, floor)| json!({ "name": name, "measured": floor.json(unit) })),
            "ratio": self.ratio(),
            "difference": self.difference(),
            "goal": goal,
            "met": self.met(),
        })
    }
}

const fn sign(value: f64) -> &'static str {
    if value.is_sign_negative() { "" } else { "+" }
}

/// A number with three digits that say something.
fn number(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 1.0 || v == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

/// The figures of one bench.
pub(crate) struct Report {
    name: &'static str,
    quick: bool,
    began_ms: u64,
    load: Option<f64>,
    file_system: Option<String>,
    plan: Value,
    figures: Vec<Figure>,
}

impl Report {
    /// Begins a report of a bench that writes below `scratch`.
    pub(crate) fn begin(name: &'static str, quick: bool, scratch: &Path) -> Self {
        let file_system = std::fs::canonicalize(scratch).ok().and_then(|path| file_system(&path));
        Self { name, quick, began_ms: SystemClock.now_ms(), load: load(), file_system, plan: Value::Null, figures: Vec::new() }
    }

    /// Records how much was measured, for whoever measures again.
    #[allow(dead_code, reason = "each bench uses its part")]
    pub(crate) fn plan(&mut self, plan: Value) {
        self.plan = plan;
    }

    /// Adds a row.
    pub(crate) fn add(&mut self, figure: Figure) {
        self.figures.push(figure);
    }

    /// Prints the table and writes the result file.
    ///
    /// # Errors
    /// Output that cannot be written.
    pub(crate) fn finish(self) -> Result<(), Failure> {
        let date = date(self.began_ms);
        let machine = machine(self.file_system.as_deref());
        let loads = [self.load, load()];
        let fact = |name: &str| machine.get(name).map_or_else(|| "?".into(), |v| v.as_str().map_or_else(|| v.to_string(), str::to_owned));
        let shown = |load: Option<f64>| load.map_or_else(|| "?".into(), number);
        let mut table = String::new();
        let [before, after] = loads;
        writeln!(
            table,
            "{}, {date}, {}: {} cores ({}), {} GiB, {}, Linux {}, {}; load {} before, {} after{}\n",
            self.name,
            commit().as_deref().unwrap_or("no commit"),
            fact("cores"),
            fact("cpu"),
            fact("memory_gib"),
            fact("os"),
            fact("kernel"),
            fact("file_system"),
            shown(before),
            shown(after),
            if self.quick { "; QUICK: too few samples to mean anything" } else { "" },
        )?;
        table.push_str("| figure | measured | floor or peer in the same run | ratio | goal | |\n|---|---|---|---|---|---|\n");
        for figure in &self.figures {
            writeln!(table, "{}", figure.row())?;
        }
        writeln!(std::io::stdout().lock(), "\n{table}")?;
        let document = json!({
            "bench": self.name,
            "date": date,
            "commit": commit(),
            "quick": self.quick,
            "plan": self.plan,
            "machine": machine,
            "load": { "before": before, "after": after },
            "figures": self.figures.iter().map(Figure::json).collect::<Vec<_>>(),
        });
        std::fs::create_dir_all(RESULTS)?;
        let file = if self.quick { format!("{}.quick.tmp", self.name) } else { format!("{}.json", self.name) };
        std::fs::write(Path::new(RESULTS).join(file), format!("{document:#}\n"))?;
        Ok(())
    }
}

/// Tells whoever watches what is being done.
pub(crate) fn say(what: &str) {
    // Nobody who watches is no error.
    let _ = writeln!(std::io::stderr().lock(), "{what}");
}

/// Processor seconds that a process (`self`, or its number) has used.
#[allow(dead_code, reason = "each bench uses its part")]
pub(crate) fn cpu_seconds(process: &str) -> Result<f64, Failure> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The program's name comes before and may hold anything but is in brackets.
    let times = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2).map(str::parse::<f64>);
    let ticks = times.sum::<Result<f64, _>>()?;
    Ok(ticks / TICKS_PER_SECOND)
}

/// Memory that a process holds, in MiB.
#[allow(dead_code, reason = "each bench uses its part")]
pub(crate) fn resident_mib(process: &str) -> Result<f64, Failure> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    Ok(kib_after(&status, "VmRSS:").ok_or("/proc tells no VmRSS")? / 1024.0)
}

fn kib_after(text: &str, name: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

fn load() -> Option<f64> {
    std::fs::read_to_string("/proc/loadavg").ok()?.split_whitespace().next()?.parse().ok()
}

/// What the machine is, without saying which one.
fn machine(file_system: Option<&str>) -> Value {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let quoted = |text: String, name: &str| text.lines().find_map(|l| l.strip_prefix(name)).map(|v| v.trim_matches('"').to_owned());
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split(": ").nth(1));
    let memory = kib_after(&read("/proc/meminfo"), "MemTotal:").map(|kib| (kib / f64::from(1 << 20)).round() as u64);
    json!({
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "cpu": model,
        "memory_gib": memory,
        "os": quoted(read("/etc/os-release"), "PRETTY_NAME="),
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
        "file_system": file_system,
    })
}

/// The kind of file system that a path is on.
fn file_system(path: &Path) -> Option<String> {
    let table = std::fs::read_to_string("/proc/self/mounts").ok()?;
    let mounts = table.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        Some((fields.next()?, fields.next()?))
    });
    let around = mounts.filter(|(point, _)| path.starts_with(point));
    // A later mount on the same point hides the earlier one, and `max_by_key` takes the last of equals.
    around.max_by_key(|(point, _)| point.len()).map(|(_, kind)| kind.to_owned())
}

/// What was measured.
fn commit() -> Option<String> {
    let described = Command::new("git").args(["describe", "--always", "--dirty", "--abbrev=12"]).output().ok()?;
    let text = String::from_utf8(described.stdout).ok()?;
    (described.status.success() && !text.trim().is_empty()).then(|| text.trim().to_owned())
}

/// The day of a moment, in UTC (Howard Hinnant's days-to-civil).
fn date(unix_ms: u64) -> String {
    let days = unix_ms / MILLIS_PER_DAY + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}
