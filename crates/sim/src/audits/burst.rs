//! A burst and its sixteen witnesses, physically: what a machine computes, when its answer arrives, what each witness says of it.
//!
//! Guarantees: whether a receipt is in time, and what the receipts amount to, is asked of the ledger's own functions. Times are those of
//! `docs/specs/audits.md` §1 and §10: a clock runs from the sending of the own nonce, or from the set's arrival.

use super::chance::{largest, largest_twice, real, waiting, whole};
use super::who::{Habit, Power};
use crate::dice::Dice;
use pasture_ledger::Answered;
use pasture_ledger::audit_rules::{Count, in_time};
use pasture_types::Millis;
use pasture_types::audit::{Answer, AuditParams, NonceSet, PackedShares, Receipt, quorum, sample};
use pasture_types::keys::Signature;

/// Witnesses of an audit: as many as are drawn where more are seated.
pub const WITNESSES: usize = 16;
/// How much later than the first a witness learns of a draw, on average, in milliseconds: blocks do not come to all at once.
const NEWS_MS: f64 = 40.0;
/// A round trip of one that makes them look long.
const SHORT_MS: f64 = 10.0;
/// What a node takes to sign and to write down, on average, in milliseconds.
const KEEPING_MS: f64 = 4.0;

/// What a machine made of a burst.
#[derive(Clone, Copy, Debug)]
pub struct Burst {
    /// The largest hash of its shares.
    pub largest: u64,
    /// From the complete set to the answer, in milliseconds.
    pub took: f64,
}

/// What a machine is at a moment.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// How much of it is left to the ledger.
    pub there: f64,
    /// It is throttled.
    pub hot: bool,
}

/// Hashes per second of a machine.
pub const RATE: u64 = 10_000_000;

/// What a machine answers, if it does.
pub fn burst(dice: &mut Dice, habit: &Habit, machine: Machine, params: &AuditParams, held_to: u64) -> Option<Burst> {
    let time = real(params.burst.0) * (1.0 + habit.clock);
    let hashes = |ms: f64, power: f64| whole(real(RATE) * power * ms / 1_000.0);
    if machine.there == 0.0 {
        let (speed, later) = habit.helper?;
        return Some(Burst { largest: largest(dice, hashes(time, 1.0))?, took: later + time / speed });
    }
    if habit.restarts > 0.0 && dice.unit() < habit.restarts {
        return None;
    }
    let keeping = waiting(dice, KEEPING_MS);
    let (power, took) = match habit.power {
        Power::Steady(power) => (power, time),
        Power::Between(low, high) => (low + (high - low) * dice.unit(), time),
        Power::Throttled(by, ..) => (if machine.hot { 1.0 - by } else { 1.0 }, time),
        Power::Late(most) => {
            let longer = 1.0 + (most - 1.0) * dice.unit();
            (1.0 / longer, time * longer)
        }
    };
    let power = power * machine.there;
    if habit.cunning {
        return cunning(dice, params, held_to, |ms| hashes(ms, power));
    }
    Some(Burst { largest: largest(dice, hashes(took, power))?, took: took + keeping })
}

/// Ends at the last punctual moment, or at the last of all if that looks better, by as much later as it made its round trips look longer.
fn cunning(dice: &mut Dice, params: &AuditParams, held_to: u64, hashes: impl Fn(f64) -> u64) -> Option<Burst> {
    let (burst, faked) = (real(params.burst.0), real(params.rtt_cap.0));
    let punctual = burst * (1.0 + f64::from(params.punctual_ppm) / 1e6);
    let longest = real(params.terms().longest().0);
    // Its own trips.
    let margin = SHORT_MS;
    let (early, late) = (punctual + faked - margin, longest + faked - margin);
    let (first, second) = largest_twice(dice, hashes(early), hashes(late) - hashes(early))?;
    let shows = |largest: u64, took: f64| sample(largest, held_to, params.terms().charged(Millis(whole(took))));
    let stay = shows(first, punctual - margin) <= shows(second, longest - margin);
    Some(if stay { Burst { largest: first, took: early } } else { Burst { largest: second, took: late } })
}

/// What the witnesses said, counted by the ledger's rules.
pub fn witnessed(dice: &mut Dice, habit: &Habit, params: &AuditParams, burst: Option<&Burst>) -> Count {
    let (mut took, mut seen) = ([Millis(0); WITNESSES], 0);
    let (mut spoke, mut at) = (0, [(0.0, 0.0, 0.0); WITNESSES]);
    let (least, most) = habit.trips;
    // Whoever makes its trips look long keeps them short when it counts, and its witnesses happen to ask all at once: it need not wait.
    let jitter = if habit.cunning { 0.0 } else { habit.jitter };
    for (sent, trip, arrives) in &mut at {
        let news = if habit.cunning { 0.0 } else { NEWS_MS };
        (*sent, *trip) = (waiting(dice, news), least + (most - least) * dice.unit());
        let now = if habit.cunning { SHORT_MS } else { *trip };
        *arrives = *sent + now / 2.0 + waiting(dice, jitter);
    }
    // The nonces that are dropped are those of witnesses that do not lie for it.
    let dropped = habit.liars.min(WITNESSES)..(habit.liars + habit.drops).min(WITNESSES);
    let begin = begins(&at, &dropped);
    let lie = dice.below(3);
    for (i, (sent, trip, arrives)) in at.into_iter().enumerate() {
        let mut say = |elapsed: f64, rtt: f64, tag: u64| {
            spoke += 1;
            let word = |x: f64| u16::try_from(whole(x)).unwrap_or(u16::MAX);
            let receipt = Receipt { offset: 0, elapsed_ms: word(elapsed), rtt_ms: word(rtt), tag };
            if let (Some(in_time), Some(slot)) = (in_time(&params.terms(), &receipt, 1), took.get_mut(seen)) {
                *slot = in_time;
                seen += 1;
            }
        };
        if i < habit.liars {
            match (habit.honest, burst, lie) {
                // For a cheat: in time, and at once.
                (false, Some(_), _) => say(0.0, 0.0, 1),
                (false, None, _) | (true, _, 0) => say(0.0, 0.0, 0),
                // Against an honest node: as late as still counts.
                (true, _, 1) => say(real(params.terms().longest().0), 0.0, 1),
                (true, ..) => {}
            }
            continue;
        }
        let lost = habit.loss > 0.0 && dice.unit() < habit.loss;
        match burst.filter(|_| !lost && !dropped.contains(&i)) {
            Some(burst) => {
                let now = if habit.cunning { SHORT_MS } else { trip };
                let from = if arrives <= begin { sent } else { sent.max(begin + now / 2.0) };
                let arrived = begin + burst.took + now / 2.0 + waiting(dice, jitter);
                let rtt = if habit.cunning { real(params.rtt_cap.0) } else { trip };
                say(arrived - from, rtt, 1);
            }
            // Half of those who got nothing say so; the others' word is lost on its way.
            None if lost && dice.below(2) == 0 => {}
            None => say(0.0, 0.0, 0),
        }
    }
    Count::new(&params.terms(), WITNESSES, spoke, took.get_mut(..seen).unwrap_or_default())
}

/// An answer of which nothing counts but its largest hash.
#[must_use]
pub fn answered(largest: u64) -> Answered {
    let set = NonceSet { mask: 0, nonces: Vec::new() };
    Answered {
        answer: Answer {
            audit: 0,
            set,
            shares: PackedShares(Vec::new()),
            roots: Vec::new(),
            walk: None,
            signature: Signature::Ed25519([0; 64]),
        },
        largest,
    }
}

/// When the set is complete.
fn begins(at: &[(f64, f64, f64); WITNESSES], dropped: &std::ops::Range<usize>) -> f64 {
    let mut arrivals = [f64::MAX; WITNESSES];
    for (i, ((_, _, arrives), slot)) in at.iter().zip(&mut arrivals).enumerate() {
        if !dropped.contains(&i) {
            *slot = *arrives;
        }
    }
    arrivals.sort_unstable_by(f64::total_cmp);
    arrivals.get(quorum(WITNESSES) - 1).copied().unwrap_or_default()
}
