//! What the specs derive, beside what comes out when it is tried: false failures, false passes, detection, over-claims, drawn witnesses.
//!
//! Guarantees: each row names its spec, says how many trials it rests on, and holds only if the derived figure is within (or, for a bound, not
//! below) what the trials leave open with a doubt of 1 in 10,000. Thresholds, tests and draws are the product's functions.

use super::burst::{Burst, RATE, WITNESSES, answered, witnessed};
use super::chance::{gamma_above, largest, marked_at_least, real, whole};
use super::who::{Habit, honest};
use crate::dice::Dice;
use pasture_ledger::AuditRecord;
use pasture_ledger::NodeAudit;
use pasture_ledger::audit_rules::{Rated, chance_before_payout_ppm, drawn_slot, draws, pooled, verdict, witnesses};
use pasture_types::audit::{AUDIT_SHARES, AuditParams, Verdict, audit_threshold, overclaims, sample};
use pasture_types::event::Hash32;
use pasture_types::genesis::Params;
use pasture_types::{AccountId, Millis, NodeId, Timestamp};
use serde::Serialize;
use std::fmt::Write as _;

/// Standard deviations that a chance of 1 in 10,000 leaves outside.
const DOUBT: f64 = 3.89;
/// Half of that chance.
const HALF_DOUBT: f64 = 5e-5;
/// Fewer hits than these are rare events.
const RARE: u64 = 30;
const K: u64 = AUDIT_SHARES as u64;

/// What the derived figure says of the simulated one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Claim {
    /// It is that.
    Equal,
    /// It is no more.
    AtMost,
    /// It is no less.
    AtLeast,
}

/// One figure.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    /// What of.
    pub what: String,
    /// Where it is derived.
    pub spec: &'static str,
    /// What the derived figure claims.
    pub claim: Claim,
    /// The derived figure.
    pub derived: f64,
    /// Its share of the trials.
    pub simulated: f64,
    /// Trials.
    pub trials: u64,
    /// The least that the trials leave open.
    pub low: f64,
    /// The most that they leave open.
    pub high: f64,
    /// Whether both agree.
    pub holds: bool,
}

impl Figure {
    /// From so many hits.
    fn new(what: impl Into<String>, spec: &'static str, claim: Claim, derived: f64, hits: u64, trials: u64) -> Self {
        let (low, high) = if hits * 2 > trials {
            let (low, high) = left_open(trials - hits, trials);
            (1.0 - high, 1.0 - low)
        } else {
            left_open(hits, trials)
        };
        let p = real(hits) / real(trials.max(1));
        let holds = match claim {
            Claim::Equal => low <= derived && derived <= high,
            Claim::AtMost => low <= derived,
            Claim::AtLeast => high >= derived,
        };
        Self { what: what.into(), spec, claim, derived, simulated: p, trials, low, high, holds }
    }
}

/// What so few hits of so many trials leave open: counted as rare events where they are few, else E. B. Wilson's interval (1927).
fn left_open(hits: u64, trials: u64) -> (f64, f64) {
    let n = real(trials.max(1));
    if hits >= RARE {
        let (p, z2) = (real(hits) / n, DOUBT * DOUBT);
        let middle = (p + z2 / (2.0 * n)) / (1.0 + z2 / n);
        let half = DOUBT * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt() / (1.0 + z2 / n);
        return (middle - half, middle + half);
    }
    // The mean at which so few, or so many, are seen with half of the doubt.
    let mean = |seen_rarely: &dyn Fn(f64) -> bool| {
        let (mut low, mut high) = (0.0, 4.0 * real(RARE) + 40.0);
        for _ in 0..60 {
            let middle = (low + high) / 2.0;
            if seen_rarely(middle) { high = middle } else { low = middle }
        }
        high
    };
    let least = if hits == 0 { 0.0 } else { mean(&|x| 1.0 - gamma_above(hits, x) > HALF_DOUBT) };
    (least / n, (mean(&|x| gamma_above(hits + 1, x) < HALF_DOUBT) / n).min(1.0))
}

/// The trials of all figures.
struct Trials {
    dice: Dice,
    /// In percent of the full number.
    scale: u64,
    params: Params,
}

/// Tries all figures; `scale` is how many trials, in percent.
#[must_use]
pub fn confirm(scale: u64, seed: u64) -> Vec<Figure> {
    let params = Params { audits: AuditParams { active: true, places: false, ..AuditParams::production() }, ..Params::production() };
    let mut trials = Trials { dice: Dice::new(seed ^ 0xc0f1), scale, params };
    let mut out = Vec::new();
    trials.threshold(&mut out);
    trials.pools(&mut out);
    trials.power(&mut out);
    trials.overclaim(&mut out);
    trials.lying(&mut out);
    trials.seats(&mut out);
    trials.chances(&mut out);
    trials.products(&mut out);
    trials.memory(&mut out);
    out
}

impl Trials {
    fn many(&self, full: u64) -> u64 {
        (full * self.scale / 100).max(100)
    }

    /// How often something happens.
    fn hits(&mut self, trials: u64, mut happens: impl FnMut(&mut Dice) -> bool) -> u64 {
        (0..trials).filter(|_| happens(&mut self.dice)).count() as u64
    }

    fn burst(&self) -> Millis {
        self.params.audits.burst
    }

    /// `audits.md` §4 and `stake.md` §4: too little work in one burst.
    fn threshold(&mut self, out: &mut Vec<Figure>) {
        let limit = audit_threshold(RATE, self.burst());
        let all = RATE * self.burst().0 / 1_000;
        for (percent, full) in [(100, 5_000_000), (80, 5_000_000), (60, 400_000), (40, 100_000)] {
            let trials = self.many(full);
            let failed = self.hits(trials, |dice| largest(dice, all * percent / 100).is_none_or(|h| h > limit));
            let derived = gamma_above(K, real(K) * 2.5 * real(percent) / 100.0);
            out.push(Figure::new(
                format!("{percent} % of the work is too little"),
                "audits.md §4, stake.md §4",
                Claim::Equal,
                derived,
                failed,
                trials,
            ));
            if percent == 100 {
                let stated = (-real(K) * (1.5 - 2.5f64.ln())).exp();
                out.push(Figure::new("the same, as bounded: 8e-9", "audits.md §4", Claim::AtMost, stated, failed, trials));
            }
        }
        let trials = self.many(200_000);
        let twice = |dice: &mut Dice| (0..2).all(|_| largest(dice, all * 4 / 10).is_some_and(|h| h > limit));
        let failed = self.hits(trials, twice);
        let derived = gamma_above(K, real(K)).powi(2);
        out.push(Figure::new(
            "40 % of the work, both attempts: a deposit is forfeited",
            "stake.md §4",
            Claim::Equal,
            derived,
            failed,
            trials,
        ));
    }

    /// `audits.md` §6: false convictions by pools, at exponents small enough to be seen; the rule's own is computed.
    fn pools(&mut self, out: &mut Vec<Figure>) {
        for (exponent, size) in [(2u32, 8u64), (4, 8), (4, 32), (4, 128)] {
            let params = AuditParams { error_exponent: exponent, ..self.params.audits.clone() };
            let (trials, edge) = (self.many(40_000), RATE * (1_000_000 - u64::from(params.tolerance_ppm)) / 1_000_000);
            let convicted = self.hits(trials, |dice| {
                let sum = (0..size).map(|_| u64::from(shown(dice, edge, RATE, &params))).sum();
                overclaims(sum, usize::try_from(size).unwrap_or(1), &params)
            });
            let what = format!("a node at the edge, a pool of {size}, L = {exponent}");
            out.push(Figure::new(
                format!("{what}: convicted"),
                "audits.md §6",
                Claim::Equal,
                convicts(size, exponent, 1.0),
                convicted,
                trials,
            ));
            let bound = (-f64::from(exponent)).exp();
            out.push(Figure::new(format!("{what}: at most exp(-L)"), "audits.md §6", Claim::AtMost, bound, convicted, trials));
        }
        // Nothing is drawn for these two: the distribution's tail at the rule's own exponent, at the worst pool.
        let params = &self.params.audits;
        let worst = |keeps: f64| (2..=u64::from(params.pool)).map(|size| convicts(size, params.error_exponent, keeps)).fold(0.0, f64::max);
        let kept = f64::from(1_000_000 - params.tolerance_ppm) / 1e6;
        for (what, stated, exact) in
            [("a node at the edge, the worst pool, one test", 1.1e-7, worst(1.0)), ("one that keeps its rate", 1.1e-10, worst(kept))]
        {
            let holds = exact <= stated * 1.05;
            let what = format!("{what} (computed, not drawn)");
            let row = Figure {
                simulated: exact,
                low: exact,
                high: exact,
                holds,
                ..Figure::new(what, "audits.md §6", Claim::AtMost, stated, 0, 0)
            };
            out.push(row);
        }
    }

    /// `audits.md` §6: how soon an over-claim is convicted.
    fn power(&mut self, out: &mut Vec<Figure>) {
        for (percent, by, stated) in [(120u64, 56usize, 0.5), (120, 128, 0.99), (200, 8, 0.99)] {
            let trials = self.many(4_000);
            let params = self.params.audits.clone();
            let convicted = self.hits(trials, |dice| convicted_by(by, &params, || shown(dice, RATE, RATE * percent / 100, &params)));
            let what = format!("claims {percent} % of its rate, convicted by audit {by}");
            out.push(Figure::new(what, "audits.md §6", Claim::AtLeast, stated, convicted, trials));
        }
    }

    /// `audits.md` §6: the largest over-claim, where one full pool convicts half the time.
    fn overclaim(&mut self, out: &mut Vec<Figure>) {
        let params = self.params.audits.clone();
        let (l, all) = (f64::from(params.error_exponent), real(K) * f64::from(params.pool));
        let d = (l + (l * l + 2.0 * l * all).sqrt()) / all;
        let kept = f64::from(1_000_000 - params.tolerance_ppm) / 1e6;
        let punctual = f64::from(params.punctual_ppm) / 1e6;
        for (what, more) in
            [("true round trips", punctual), ("round trips faked for a day", punctual + real(params.rtt_cap.0) / real(params.burst.0))]
        {
            let claim = (1.0 + d) / kept * (1.0 + more);
            let held_to = whole(real(RATE) * claim);
            let does = whole(real(RATE) * (1.0 + more));
            let trials = self.many(4_000);
            let convicted = self.hits(trials, |dice| {
                let sum = (0..params.pool).map(|_| u64::from(shown(dice, does, held_to, &params))).sum();
                overclaims(sum, usize::from(params.pool), &params)
            });
            let derived = gamma_above(whole(all), all);
            let what = format!("claims {claim:.3} of its rate, {what}: one full pool convicts");
            out.push(Figure::new(what, "audits.md §6", Claim::Equal, derived, convicted, trials));
        }
        for (claim, claimed, stated) in [(1.36, Claim::AtLeast, 0.9), (1.26, Claim::AtMost, 0.1)] {
            let habit = Habit {
                honest: false,
                cunning: true,
                liars: 5,
                claim,
                power: super::who::Power::Steady(1.0),
                restarts: 0.0,
                loss: 0.0,
                ..quiet()
            };
            let trials = self.many(1_000);
            let convicted = self.hits(trials, |dice| cunning_convicted(dice, &habit, &params));
            let what = format!("claims {claim:.2}, every slack, 5 of 16 lie for it: convicted within a pool");
            out.push(Figure::new(what, "audits.md §6", claimed, stated, convicted, trials));
        }
    }

    /// `audits.md` §4: less than a third of sixteen lies.
    fn lying(&mut self, out: &mut Vec<Figure>) {
        let params = self.params.audits.clone();
        let (trials, record) = (self.many(300_000), record());
        let good = Habit { liars: 5, loss: 0.0, ..quiet() };
        let on_time = Burst { largest: 0, took: 4_003.0 };
        let failed = self.hits(trials, |dice| verdict(&record, &witnessed(dice, &good, &params, Some(&on_time))) != Verdict::Passed);
        out.push(Figure::new(
            "honest, 5 of 16 lie against it: first attempt not passed",
            "audits.md §4",
            Claim::AtMost,
            0.0,
            failed,
            trials,
        ));
        let late = Burst { largest: 0, took: 5_800.0 };
        let bad = Habit { honest: false, liars: 5, loss: 0.0, ..quiet() };
        let passed = self.hits(trials, |dice| verdict(&record, &witnessed(dice, &bad, &params, Some(&late))) == Verdict::Passed);
        out.push(Figure::new("0.3 s too late, 5 of 16 lie for it: passed", "audits.md §4", Claim::AtMost, 0.0, passed, trials));
    }

    /// `audits.md` §4: sixteen drawn of many, a third of whom lie.
    fn seats(&mut self, out: &mut Vec<Figure>) {
        let cases = [(100u16, 33u16, 16u64, 9u64, 0.033, 0.10), (1_000, 333, 16, 9, 0.050, 0.127), (1_000, 333, 64, 33, 0.002, 0.004)];
        for (seats, liars, drawn, majority, stated_late, stated_fail) in cases {
            let seated: Vec<(NodeId, AccountId)> = (0..seats).map(|n| (NodeId(named(n)), AccountId(named(n)))).collect();
            let (trials, stranger) = (self.many(if drawn > 16 { 10_000 } else { 40_000 }), AccountId([255; 32]));
            let (mut majorities, mut vetoes) = (0, 0);
            for audit in 0..trials {
                let mix = named(u16::try_from(self.dice.below(60_000)).unwrap_or(0));
                let all = witnesses(&seated, &stranger, usize::try_from(drawn).unwrap_or(16), &mix, audit);
                let lying = all.iter().filter(|key| u16::from_be_bytes([key.0[0], key.0[1]]) < liars).count() as u64;
                majorities += u64::from(lying >= majority);
                vetoes += u64::from(lying + 1 >= majority);
            }
            let (all, marked) = (u64::from(seats), u64::from(liars));
            for (what, least, hits, stated) in [
                ("a majority", majority, majorities, stated_late),
                ("half, who can fail an honest attempt", majority - 1, vetoes, stated_fail),
            ] {
                let exact = marked_at_least(least, all, marked, drawn);
                let what = format!("{drawn} of {seats}, a third lies: {what} (spec {:.1} %)", stated * 100.0);
                out.push(Figure::new(what, "audits.md §4", Claim::Equal, exact, hits, trials));
            }
        }
    }

    /// `audits.md` §2: the chance of an audit before a payout.
    fn chances(&mut self, out: &mut Vec<Figure>) {
        let groups = 1_000u32;
        let ticks = 15 * self.params.epoch.0 / self.params.audits.tick.0.max(1);
        let (windows, mut missed) = (self.many(400), 0u64);
        for _ in 0..windows {
            let mut seen = vec![false; groups as usize];
            for _ in 0..ticks {
                let mut mix = [0; 32];
                mix.chunks_exact_mut(8).for_each(|part| part.copy_from_slice(&self.dice.next().to_le_bytes()));
                for index in 0..draws(&self.params.audits, groups, &mix) {
                    if let Some(slot) = seen.get_mut(drawn_slot(groups, &mix, index) as usize) {
                        *slot = true;
                    }
                }
            }
            missed += seen.iter().filter(|seen| !**seen).count() as u64;
        }
        let trials = windows * u64::from(groups);
        let derived = f64::from(chance_before_payout_ppm(&self.params)) / 1e6;
        // What the ledger says is rounded down by up to 6 in 10,000.
        out.push(Figure::new("audited before a payout (spec 86.4 %)", "audits.md §2", Claim::AtLeast, derived, trials - missed, trials));
    }

    /// `gemm.md` §4 and §5.
    fn products(&mut self, out: &mut Vec<Figure>) {
        let (rows, opened) = (4_096u64, 64u64);
        for (percent, full) in [(99u64, 60_000), (96, 60_000), (90, 200_000)] {
            let (trials, good) = (self.many(full), rows * percent / 100);
            let caught = self.hits(trials, |dice| {
                let mut drawn = std::collections::BTreeSet::new();
                while (drawn.len() as u64) < opened {
                    drawn.insert(dice.below(rows));
                }
                drawn.iter().any(|row| *row >= good)
            });
            let missed = marked_at_least(opened, rows, good, opened);
            let what = format!("computes {percent} % of the rows: caught");
            out.push(Figure::new(what, "gemm.md §5", Claim::Equal, 1.0 - missed, caught, trials));
        }
        // The same test with a modulus small enough that a false pass is seen.
        let (p, trials) = (127u64, self.many(400_000));
        let passed = self.hits(trials, |dice| {
            let wrong = [1 + dice.below(p - 1), dice.below(p), dice.below(p)];
            wrong.iter().map(|d| d * (dice.below(p + 1) % p)).sum::<u64>().is_multiple_of(p)
        });
        out.push(Figure::new(
            "a wrong row passes, p = 2^7 - 1: at most 2 / 2^7 (p = 2^31 - 1: 2^-30)",
            "gemm.md §4",
            Claim::AtMost,
            2.0 / 128.0,
            passed,
            trials,
        ));
    }

    /// `memory.md` §4.
    fn memory(&mut self, out: &mut Vec<Figure>) {
        for (percent, full) in [(5u64, 60_000), (10, 200_000), (50, 20_000)] {
            let trials = self.many(full);
            let caught = self.hits(trials, |dice| (0..64).any(|_| dice.below(100) < percent));
            let derived = 1.0 - (1.0 - real(percent) / 100.0).powi(64);
            let what = format!("makes up states for {percent} % of the lines: caught");
            out.push(Figure::new(what, "memory.md §4", Claim::Equal, derived, caught, trials));
        }
    }
}

/// What a burst at one rate adds to a pool that is held to another.
fn shown(dice: &mut Dice, does: u64, held_to: u64, params: &AuditParams) -> u32 {
    let hashes = u128::from(does) * u128::from(params.burst.0) / 1_000;
    largest(dice, u64::try_from(hashes).unwrap_or(u64::MAX)).map_or(u32::MAX, |h| sample(h, held_to, params.burst))
}

/// The chance that one pool convicts a node whose scaled sum is `keeps` of a gamma distribution's.
fn convicts(size: u64, exponent: u32, keeps: f64) -> f64 {
    let (a, l) = (real(size * K), f64::from(exponent));
    gamma_above(size * K, (a + l + (l * l + 2.0 * l * a).sqrt()) / keeps)
}

fn convicted_by(audits: usize, params: &AuditParams, mut sample: impl FnMut() -> u32) -> bool {
    let mut node = NodeAudit::new(NodeId([0; 32]));
    (0..audits).any(|_| pooled(&mut node, params, sample()) == Some(Rated::Less))
}

/// Whether a node that uses every slack is convicted within a pool.
fn cunning_convicted(dice: &mut Dice, habit: &Habit, params: &AuditParams) -> bool {
    let held_to = whole(real(RATE) * habit.claim);
    let machine = super::burst::Machine { there: 1.0, hot: false };
    convicted_by(usize::from(params.pool), params, || {
        let Some(done) = super::burst::burst(dice, habit, machine, params, held_to) else { return u32::MAX };
        let count = witnessed(dice, habit, params, Some(&done));
        sample(done.largest, held_to, count.charged)
    })
}

fn quiet() -> Habit {
    honest().swap_remove(0)
}

/// An audit by sixteen.
fn record() -> AuditRecord {
    let zero = Hash32([0; 32]);
    AuditRecord {
        number: 0,
        node: NodeId([0; 32]),
        declared: 0,
        attempt: 1,
        epoch: 0,
        drawn_at: Timestamp(0),
        randomness: zero,
        rate: RATE,
        terms: AuditParams::production().terms(),
        witnesses: vec![NodeId([0; 32]); WITNESSES],
        until_shifted: Timestamp(0),
        said: Vec::new(),
        answer: Some(answered(0)),
        contradicted: false,
        voided: None,
        verdict: None,
        memory: None,
        gpu_verdict: None,
        memory_verdict: None,
        gpus: Vec::new(),
    }
}

/// A key by its number.
fn named(n: u16) -> [u8; 32] {
    let mut key = [0; 32];
    let [a, b] = n.to_be_bytes();
    let [first, second, ..] = &mut key;
    (*first, *second) = (a, b);
    key
}

/// For people.
#[must_use]
pub fn table(figures: &[Figure]) -> String {
    let mut out = String::from("| figure | spec | derived | simulated | trials | 99.99 % within | |\n|---|---|---|---|---|---|---|\n");
    for f in figures {
        let claim = match f.claim {
            Claim::Equal => "",
            Claim::AtMost => "at most ",
            Claim::AtLeast => "at least ",
        };
        let _ = writeln!(
            out,
            "| {} | {} | {claim}{} | {} | {} | {} to {} | {} |",
            f.what,
            f.spec,
            shown_as(f.derived),
            shown_as(f.simulated),
            f.trials,
            shown_as(f.low),
            shown_as(f.high),
            if f.holds { "holds" } else { "FAILS" }
        );
    }
    out
}

fn shown_as(x: f64) -> String {
    if x == 0.0 || (x >= 1e-3) { format!("{x:.4}") } else { format!("{x:.1e}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_figure_is_found() {
        assert!(Figure::new("", "", Claim::Equal, 0.5, 5_000, 10_000).holds);
        assert!(!Figure::new("", "", Claim::Equal, 0.5, 5_300, 10_000).holds);
        assert!(!Figure::new("", "", Claim::AtMost, 0.5, 5_300, 10_000).holds);
        assert!(!Figure::new("", "", Claim::AtLeast, 0.5, 4_700, 10_000).holds);
        assert!(!Figure::new("", "", Claim::AtMost, 0.0, 1, 10_000).holds);
        // Six where 1.35 are due happen once in 350 tries, sixteen once in ten billion.
        assert!(Figure::new("", "", Claim::Equal, 1.35 / 800.0, 6, 800).holds);
        assert!(!Figure::new("", "", Claim::Equal, 1.35 / 800.0, 16, 800).holds);
        assert!(!Figure::new("", "", Claim::Equal, 1.0 - 1.35 / 800.0, 784, 800).holds);
    }
}
