//! What audits did, by habit: rows, tables, and what is wrong.
//!
//! Guarantees: a finding is a number that the specs or the promise exclude. It changes nothing.

use super::Config;
use super::chance::real;
use super::who::{Away, DAY, Habit};
use super::zone::{Account, Zone};
use pasture_types::genesis::Params;
use serde::Serialize;
use std::fmt::Write as _;

/// What an over-claim may gain, of the truth (`docs/specs/audits.md` §6 and §7).
const STATED_OVERCLAIM: f64 = 1.32;
/// Honest machines that did what they declared may be de-rated less often than once in so many tests (`docs/specs/audits.md` §6).
const DERATED_AT_EDGE: f64 = 1.1e-7;

/// Machines of one habit.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Which.
    pub name: String,
    /// Plays by the rules.
    pub honest: bool,
    /// Witnesses that lied, of sixteen.
    pub liars: usize,
    /// Machines.
    pub nodes: u64,
    /// Days of one machine.
    pub node_days: f64,
    /// First attempts.
    pub audits: u64,
    /// Passed at the repetition only.
    pub second: u64,
    /// Failed, with the repetition.
    pub failed: u64,
    /// Counted for nobody, with the repetition.
    pub void: u64,
    /// Epochs that were not paid, in parts per million of all.
    pub unpaid_ppm: f64,
    /// Times that a pool convicted it.
    pub derated: u64,
    /// Times that one was suspended.
    pub suspended: u64,
    /// Times that something was forfeited.
    pub slashed: u64,
    /// Machines that an audit had a consequence for.
    pub caught: u64,
    /// Cheated epochs before that: the median of all, and what 99 of 100 do not exceed; none if that many were never caught.
    pub caught_median: Option<u64>,
    /// See `caught_median`.
    pub caught_p99: Option<u64>,
    /// What the ledger paid, of what an honest machine of that size earns if nothing ever happens to it.
    pub paid: f64,
    /// What was earned elsewhere, of the same.
    pub elsewhere: f64,
    /// What was forfeited, of the same.
    pub forfeited: f64,
    /// All of it.
    pub profit: f64,
    /// Names that a machine had on average.
    pub names: f64,
}

/// A run's result.
#[derive(Clone, Debug, Serialize)]
pub struct Audits {
    /// How it came about, for whoever reads the figures alone.
    pub method: &'static str,
    /// The seed.
    pub seed: u64,
    /// What a machine's hour was worth elsewhere, of its hour here.
    pub elsewhere: f64,
    /// Honest machines.
    pub honest: Vec<Row>,
    /// Cheats, beside quiet honest machines.
    pub cheats: Vec<Row>,
    /// What is wrong.
    pub findings: Vec<String>,
}

const METHOD: &str = "draws, verdicts, consequences, pools, payable epochs and deposits by the ledger's functions (pasture_ledger::audit_rules); hashes drawn \
                      from their exact distribution; no blocks, signatures or users";

fn rows(zone: &Zone, epochs: u64) -> Vec<Row> {
    zone.habits()
        .iter()
        .enumerate()
        .map(|(at, habit)| {
            let accounts: Vec<&Account> = zone.nodes.iter().filter(|n| n.habit == at).map(|n| &n.account).collect();
            row(habit, &accounts, epochs, &zone.params)
        })
        .collect()
}

fn row(habit: &Habit, accounts: &[&Account], epochs: u64, params: &Params) -> Row {
    let nodes = accounts.len() as u64;
    let whole = real(epochs) * real(nodes);
    let sum = |of: fn(&Account) -> u64| accounts.iter().map(|a| of(a)).sum::<u64>();
    let part = |of: fn(&Account) -> f64| accounts.iter().map(|a| of(a)).sum::<f64>() / whole;
    // A deposit is all that can be lost under one name: the least that takes leases.
    let hourly = crate::config::LIST_RATE.0;
    let stake = |a: &Account| {
        let epochs = params.min_stake.0 * 3_600_000 / (hourly * u128::from(params.epoch.0));
        a.forfeited.min(real(u64::try_from(epochs).unwrap_or(u64::MAX)) * real(a.names))
    };
    let mut until: Vec<u64> = accounts.iter().filter_map(|a| a.until_caught).collect();
    until.sort_unstable();
    let quantile = |percent: usize| until.get((accounts.len() * percent).div_ceil(100).saturating_sub(1)).copied();
    let forfeited = accounts.iter().map(|a| stake(a)).sum::<f64>() / whole;
    let (paid, elsewhere) = (part(|a| a.paid), part(|a| a.elsewhere));
    Row {
        name: habit.name.to_owned(),
        honest: habit.honest,
        liars: habit.liars,
        nodes,
        node_days: whole / real(DAY),
        audits: sum(|a| a.audits),
        second: sum(|a| a.second),
        failed: sum(|a| a.failed),
        void: sum(|a| a.void),
        unpaid_ppm: real(sum(|a| a.unpaid)) * 1e6 / whole,
        derated: sum(|a| a.derated),
        suspended: sum(|a| a.suspended),
        slashed: sum(|a| a.slashed),
        caught: until.len() as u64,
        caught_median: quantile(50),
        caught_p99: quantile(99),
        paid,
        elsewhere,
        forfeited,
        profit: paid + elsewhere - forfeited,
        names: real(sum(|a| a.names)) / real(nodes),
    }
}

/// Reads what the two zones came to.
#[must_use]
pub fn report(config: &Config, honest: &Zone, cheats: &Zone) -> Audits {
    let machines = honest.nodes.len() as u64;
    let ours = rows(honest, config.node_days.div_ceil(machines) * DAY);
    let theirs = rows(cheats, config.days * DAY);
    let mut findings = Vec::new();
    for (row, habit) in ours.iter().zip(honest.habits()) {
        if row.slashed > 0 {
            findings.push(format!("honest, {}: {} times something was forfeited", named(row), row.slashed));
        }
        // Three more than are due happen to nobody.
        let due = real(row.audits) * DERATED_AT_EDGE;
        if habit.keeps && real(row.derated) > 3.0 + 3.0 * due {
            findings.push(format!("honest, {}: does what it declares and is de-rated {} times", named(row), row.derated));
        }
    }
    let fair = theirs.first().map_or(1.0, |row| row.profit);
    for (row, habit) in theirs.iter().zip(cheats.habits()).filter(|(row, _)| !row.honest) {
        // What the spec grants an over-claim is no discovery.
        let stated = if habit.away == Away::Never && habit.claim > 1.0 { STATED_OVERCLAIM } else { 1.0 };
        if row.profit >= fair * stated {
            findings.push(format!("{}: gains {:.1} % of what honest work does", row.name, row.profit / fair * 100.0));
        }
    }
    Audits { method: METHOD, seed: config.seed, elsewhere: real(config.elsewhere_ppm) / 1e6, honest: ours, cheats: theirs, findings }
}

fn named(row: &Row) -> String {
    if row.liars == 0 { row.name.clone() } else { format!("{}; {} of 16 lie against it", row.name, row.liars) }
}

impl Audits {
    /// For people.
    #[must_use]
    pub fn tables(&self) -> String {
        let mut out = String::new();
        let days: f64 = self.honest.iter().map(|row| row.node_days).sum();
        let _ = writeln!(out, "{}\nseed {}\n\n{days:.0} days of honest machines\n", self.method, self.seed);
        out.push_str("| honest machine | node-days | audits | passed at the repetition | failed | void | epochs unpaid, ppm | de-rated | suspended | slashed |\n");
        out.push_str("|---|---|---|---|---|---|---|---|---|---|\n");
        for row in self.honest.iter().chain(self.cheats.iter().filter(|row| row.honest)) {
            let _ = writeln!(
                out,
                "| {} | {:.0} | {} | {} | {} | {} | {:.0} | {} | {} | {} |",
                named(row),
                row.node_days,
                row.audits,
                row.second,
                row.failed,
                row.void,
                row.unpaid_ppm,
                row.derated,
                row.suspended,
                row.slashed
            );
        }
        let _ = writeln!(
            out,
            "\nIn parts of what an honest machine earns here; an hour elsewhere is worth {:.2} of one here.\n\n\
             | strategy | machines | caught | cheated epochs until then, median | p99 | paid here | elsewhere | forfeited | profit | of honest | names |\n\
             |---|---|---|---|---|---|---|---|---|---|---|",
            self.elsewhere
        );
        let fair = self.cheats.first().map_or(1.0, |row| row.profit);
        let shown = |n: Option<u64>| n.map_or_else(|| "-".into(), |n| n.to_string());
        for row in self.cheats.iter().filter(|row| !row.honest || row.name == "quiet machine") {
            let _ = writeln!(
                out,
                "| {} | {} | {} | {} | {} | {:.4} | {:.4} | {:.4} | {:.4} | {:.1} % | {:.1} |",
                row.name,
                row.nodes,
                row.caught,
                shown(row.caught_median),
                shown(row.caught_p99),
                row.paid,
                row.elsewhere,
                row.forfeited,
                row.profit,
                row.profit / fair * 100.0,
                row.names
            );
        }
        for finding in &self.findings {
            let _ = writeln!(out, "\nFINDING: {finding}");
        }
        out
    }
}
