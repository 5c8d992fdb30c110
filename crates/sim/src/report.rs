//! What a run shows: a row for each strategy, and what is wrong with it.
//!
//! Guarantees: profit is what accounts really have on the ledger more than at the beginning, less the costs of the world outside.
//! A dishonest strategy that gains as much as an honest one, or a loss beyond its bound, is a finding.

use crate::config::{self, PURSE, zone_params};
use crate::provider::OTHER_NAME_PURSE;
use crate::strategy::{Serving, Using};
use crate::tally::{Nanos, Sums, Worst, excess_bound};
use crate::world::{Node, World};
use pasture_ledger::{Side, query};
use pasture_types::{AccountId, Amount, AssetId};
use serde::Serialize;
use std::fmt::Write as _;

/// The section that states a loss's bound.
const SECTION_DISPUTE: &str = "settlement.md §5, §7";
const SECTION_AUDIT: &str = "audits.md §6";

/// A row of providers.
#[derive(Clone, Debug, Serialize)]
pub struct ProviderRow {
    /// What they do.
    pub strategy: Serving,
    /// How many there are.
    pub agents: u32,
    /// Leases of others that they had.
    pub leases: u64,
    /// What a node's owner has more on the ledger than at the beginning, on average.
    pub revenue: Nanos,
    /// What serving and proving cost it.
    pub cost: Nanos,
    /// The difference.
    pub profit: Nanos,
    /// What an honest node gains at the same prices; at all prices, if no honest one is as cheap.
    pub honest: Nanos,
    /// Profit as a part of that, in parts per million.
    pub of_honest_ppm: Nanos,
    /// Its standing at the end, on average, in parts per million.
    pub standing_ppm: u64,
    /// Profit for what was locked or given away to act so, in parts per million.
    pub per_capital_ppm: Nanos,
    /// Largest loss of a user by one lease, and its bound.
    pub user_loss: Worst,
    /// Largest payment for service that was not there, and its bound.
    pub unearned: Worst,
    /// Where the bound is stated.
    pub bound_in: &'static str,
}

/// A row of users.
#[derive(Clone, Debug, Serialize)]
pub struct UserRow {
    /// What they do.
    pub strategy: Using,
    /// How many there are.
    pub agents: u32,
    /// Leases that they had at honest nodes.
    pub leases: u64,
    /// Leases at nodes that are not honest.
    pub cheated: u64,
    /// What each paid on average, fees included.
    pub paid: Nanos,
    /// By lease: what service of honest nodes was worth at the lease's own rate, less what was paid for it and all fees.
    pub gain: Nanos,
    /// Largest loss of an honest node by one lease, and its bound.
    pub provider_loss: Worst,
}

/// A run's result.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// How it was made.
    pub nodes: u32,
    /// Its length in hours.
    pub hours: u64,
    /// Its seed.
    pub seed: u64,
    /// Honest users who are absent without a watcher.
    pub absent_ppm: u64,
    /// Blocks made.
    pub blocks: u64,
    /// Transactions executed.
    pub transactions: u64,
    /// Transactions that the ledger refused, by code.
    pub refused: Vec<(u16, u64, String)>,
    /// Audits by strategy and verdict.
    pub verdicts: Vec<(Serving, String, u64)>,
    /// Providers.
    pub providers: Vec<ProviderRow>,
    /// Users.
    pub users: Vec<UserRow>,
    /// What must not be.
    pub findings: Vec<String>,
}

fn nanos(a: Amount) -> Nanos {
    Nanos::try_from(a.0).unwrap_or(Nanos::MAX)
}

fn wealth(world: &World, account: &AccountId) -> Nanos {
    let state = &world.chain.state;
    let deposit = query::provider(state, account).map_or(0, |p| {
        let leaving: Nanos = p.bond.leaving.iter().map(|t| nanos(t.amount)).sum();
        nanos(p.stake) + leaving
    });
    nanos(query::balance(state, account, AssetId::CREDIT)) + deposit
}

fn credits(n: Nanos) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "shown with three decimals")]
    let n = n as f64;
    n / 1e9
}

fn standing(world: &World, nodes: &[(usize, &Node)]) -> u64 {
    let score = |(_, n): &(usize, &Node)| {
        query::reputation::reputation(&world.chain.state, Side::Provider, &n.provider.account).map_or(0, |s| s.ppm)
    };
    nodes.iter().map(score).sum::<u64>() / (nodes.len() as u64).max(1)
}

/// What a node's owner has more on the ledger than at the beginning, and what it spent outside.
fn result(world: &World, at: usize, node: &Node) -> (Nanos, Nanos) {
    let began = nanos(PURSE) + other_purses(node);
    let revenue = node.accounts.iter().map(|a| wealth(world, a)).sum::<Nanos>() - began;
    (revenue, world.tally.work.get(&at).copied().unwrap_or_default().cost())
}

/// What a node's other names began with.
fn other_purses(node: &Node) -> Nanos {
    let others = if node.serving == Serving::SelfDeal { node.accounts.len().saturating_sub(1) } else { 0 };
    nanos(OTHER_NAME_PURSE) * Nanos::try_from(others).unwrap_or(0)
}

/// What an honest node gains on average at prices within a range; of all honest nodes, if none is.
fn honest_at(world: &World, prices: (u128, u128)) -> Nanos {
    let all = || world.nodes.iter().enumerate().filter(|(_, n)| n.serving == Serving::Honest);
    let profit = |(at, n): (usize, &Node)| {
        let (revenue, cost) = result(world, at, n);
        revenue - cost
    };
    let within: Vec<Nanos> = all().filter(|(_, n)| (prices.0..=prices.1).contains(&n.price_ppm)).map(profit).collect();
    let within = if within.is_empty() { all().map(profit).collect() } else { within };
    within.iter().sum::<Nanos>() / Nanos::try_from(within.len()).unwrap_or(1).max(1)
}

fn provider_row(world: &World, strategy: Serving) -> ProviderRow {
    let nodes: Vec<(usize, &Node)> = world.nodes.iter().enumerate().filter(|(_, n)| n.serving == strategy).collect();
    let many = Nanos::try_from(nodes.len()).unwrap_or(1).max(1);
    let sums = world.tally.by_serving.get(&strategy).cloned().unwrap_or_default();
    let results: Vec<(Nanos, Nanos)> = nodes.iter().map(|(at, n)| result(world, *at, n)).collect();
    let (revenue, cost) = (results.iter().map(|r| r.0).sum::<Nanos>(), results.iter().map(|r| r.1).sum::<Nanos>());
    let stake = nanos(zone_params().min_stake);
    let capital: Nanos = nodes.iter().map(|(_, n)| stake * Nanos::from(n.name + 1) + other_purses(n)).sum();
    let prices = nodes.iter().map(|(_, n)| n.price_ppm);
    let honest = honest_at(world, (prices.clone().min().unwrap_or(0), prices.max().unwrap_or(0)));
    let (mut loss, mut section) = (sums.worst, SECTION_DISPUTE);
    if strategy == Serving::OverClaim {
        let most = world.tally.excess.values().copied().max().unwrap_or(0);
        let bound = excess_bound(zone_params().audits.interval);
        (loss, section) = (Worst { loss: most, bound, reached_ppm: most * 1_000_000 / bound.max(1) }, SECTION_AUDIT);
    }
    let profit = revenue - cost;
    ProviderRow {
        strategy,
        agents: u32::try_from(nodes.len()).unwrap_or(u32::MAX),
        leases: sums.leases,
        revenue: revenue / many,
        cost: cost / many,
        profit: profit / many,
        honest,
        of_honest_ppm: profit / many * 1_000_000 / honest.abs().max(1),
        standing_ppm: standing(world, &nodes),
        per_capital_ppm: profit * 1_000_000 / capital.max(1),
        user_loss: loss,
        unearned: sums.unearned,
        bound_in: section,
    }
}

fn users(world: &World) -> Vec<UserRow> {
    let purse = Nanos::try_from(Amount::credits(1_000_000).0).unwrap_or(0);
    let mut rows = Vec::new();
    for strategy in Using::ALL {
        let all: Vec<_> = world.users.iter().filter(|u| u.using == strategy).collect();
        let many = Nanos::try_from(all.len()).unwrap_or(1).max(1);
        let paid: Nanos = all.iter().map(|u| purse - wealth(world, &u.signer.account)).sum();
        let sums: Sums = world.tally.by_using.get(&strategy).cloned().unwrap_or_default();
        let cheated = world.tally.cheated.get(&strategy).copied().unwrap_or(0);
        // What left its accounts beyond the leases' charges: fees, here by lease.
        let fees = (paid - world.tally.paid_by(strategy)) / Nanos::from(sums.leases + cheated).max(1);
        let gain = (sums.fair - sums.charged) / Nanos::from(sums.leases).max(1) - fees;
        rows.push(UserRow {
            strategy,
            agents: u32::try_from(all.len()).unwrap_or(u32::MAX),
            leases: sums.leases,
            cheated,
            paid: paid / many,
            gain,
            provider_loss: sums.worst,
        });
    }
    rows
}

fn findings(report: &Report) -> Vec<String> {
    let mut out = Vec::new();
    let honest = report.providers.first().map_or(0, |h| h.profit);
    let per_capital = report.providers.first().map_or(0, |h| h.per_capital_ppm);
    if honest <= 0 {
        out.push("an honest provider gains nothing".into());
    }
    for row in &report.providers {
        let dishonest = row.strategy != Serving::Honest && row.agents > 0;
        if dishonest && (row.profit >= row.honest || row.per_capital_ppm >= per_capital * row.honest / honest.max(1)) {
            out.push(format!("{} gains as much as an honest provider", row.strategy.words()));
        }
        for (what, worst) in [("a user's loss", row.user_loss), ("what was paid for nothing", row.unearned)] {
            if worst.reached_ppm > 1_000_000 {
                out.push(format!("{}: {what} reached {} ppm of its bound", row.strategy.words(), worst.reached_ppm));
            }
        }
    }
    let honest = report.users.first().map_or(0, |h| h.gain);
    for row in &report.users {
        if !row.strategy.is_honest() && row.leases > 0 && row.gain >= honest {
            out.push(format!("{} gains as much as an honest user", row.strategy.words()));
        }
        if row.provider_loss.reached_ppm > 1_000_000 {
            out.push(format!("{}: a provider's loss reached {} ppm of its bound", row.strategy.words(), row.provider_loss.reached_ppm));
        }
    }
    if report.providers.iter().any(|r| r.leases == 0) || report.users.iter().any(|r| r.leases + r.cheated == 0 && r.agents > 0) {
        out.push("a strategy had no lease: the run says nothing about it".into());
    }
    out
}

/// What a run that is over shows.
#[must_use]
pub fn report(world: &World) -> Report {
    let c = &world.config;
    let mut report = Report {
        nodes: c.nodes,
        hours: c.length.0 / config::HOUR_MS,
        seed: c.seed,
        absent_ppm: c.absent_ppm,
        blocks: world.chain.height,
        transactions: world.chain.transactions,
        refused: world.chain.refused.iter().map(|(code, (n, text))| (*code, *n, text.clone())).collect(),
        verdicts: world.tally.verdicts.iter().map(|((s, v), n)| (*s, v.clone(), *n)).collect(),
        providers: Serving::ALL.into_iter().map(|s| provider_row(world, s)).collect(),
        users: users(world),
        findings: Vec::new(),
    };
    report.findings = findings(&report);
    if !world.services.is_empty() {
        report.findings.push(format!("{} leases are not settled at the end", world.services.len()));
    }
    report
}

fn worst(w: &Worst) -> String {
    #[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
    let reached = w.reached_ppm as f64 / 1e4;
    format!("{:.4} of {:.4} ({reached:.1} %)", credits(w.loss), credits(w.bound))
}

impl Report {
    /// The tables for people, in Markdown.
    #[must_use]
    pub fn tables(&self) -> String {
        let mut out = String::new();
        #[expect(clippy::cast_precision_loss, reason = "shown with few decimals")]
        let percent = |ppm: Nanos| ppm as f64 / 1e4;
        let _ = writeln!(
            out,
            "{} nodes, {} hours, seed {}, {} blocks, {} transactions, absent users {:.1} %\n",
            self.nodes,
            self.hours,
            self.seed,
            self.blocks,
            self.transactions,
            percent(Nanos::from(self.absent_ppm))
        );
        let _ = writeln!(
            out,
            "| provider | agents | leases | revenue | cost | profit | honest at that price | of it | profit per capital | standing | largest loss of a user | paid for nothing | bound |"
        );
        let _ = writeln!(out, "|---|---|---|---|---|---|---|---|---|---|---|---|---|");
        for r in &self.providers {
            let _ = writeln!(
                out,
                "| {} | {} | {} | {:.2} | {:.2} | {:.2} | {:.2} | {:.1} % | {:.1} % | {} | {} | {} | {} |",
                r.strategy.words(),
                r.agents,
                r.leases,
                credits(r.revenue),
                credits(r.cost),
                credits(r.profit),
                credits(r.honest),
                percent(r.of_honest_ppm),
                percent(r.per_capital_ppm),
                r.standing_ppm,
                worst(&r.user_loss),
                worst(&r.unearned),
                r.bound_in
            );
        }
        let _ = writeln!(
            out,
            "\n| user | agents | leases at honest nodes | at others | paid by each | gain by lease | largest loss of a provider |"
        );
        let _ = writeln!(out, "|---|---|---|---|---|---|---|");
        for r in &self.users {
            let gain = credits(r.gain);
            let _ = writeln!(
                out,
                "| {} | {} | {} | {} | {:.2} | {gain:.9} | {} |",
                r.strategy.words(),
                r.agents,
                r.leases,
                r.cheated,
                credits(r.paid),
                worst(&r.provider_loss)
            );
        }
        let _ = writeln!(out, "\naudits: {:?}", self.verdicts);
        let _ = writeln!(out, "refused: {:?}", self.refused);
        for f in &self.findings {
            let _ = writeln!(out, "FINDING: {f}");
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(strategy: Serving, profit: Nanos) -> ProviderRow {
        ProviderRow {
            strategy,
            agents: 1,
            leases: 1,
            revenue: profit,
            cost: 0,
            profit,
            honest: 10,
            of_honest_ppm: 0,
            standing_ppm: 0,
            per_capital_ppm: profit,
            user_loss: Worst::default(),
            unearned: Worst::default(),
            bound_in: "",
        }
    }

    fn user(strategy: Using, gain: Nanos) -> UserRow {
        UserRow { strategy, agents: 1, leases: 1, cheated: 0, paid: 0, gain, provider_loss: Worst::default() }
    }

    fn sound() -> Report {
        Report {
            nodes: 2,
            hours: 1,
            seed: 1,
            absent_ppm: 0,
            blocks: 1,
            transactions: 1,
            refused: vec![],
            verdicts: vec![],
            providers: vec![row(Serving::Honest, 10), row(Serving::Pretend, 9)],
            users: vec![user(Using::Attentive, 10), user(Using::Objects, 9)],
            findings: vec![],
        }
    }

    #[test]
    fn what_must_not_be_is_found() {
        assert!(findings(&sound()).is_empty());
        let cases: [fn(&mut Report); 6] = [
            |r| r.providers[1].profit = 10,
            |r| r.providers[1].per_capital_ppm = 10,
            |r| r.providers[1].user_loss.reached_ppm = 1_000_001,
            |r| r.providers[1].unearned.reached_ppm = 1_000_001,
            |r| r.users[1].gain = 10,
            |r| r.users[1].provider_loss.reached_ppm = 1_000_001,
        ];
        for (n, break_it) in cases.into_iter().enumerate() {
            let mut report = sound();
            break_it(&mut report);
            assert_eq!(findings(&report).len(), 1, "case {n}");
            report.findings = findings(&report);
            assert!(report.tables().contains("FINDING"));
        }
    }
}
