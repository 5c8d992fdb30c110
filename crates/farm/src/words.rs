//! The words on the screen: one table of the ledger's words and what we say instead, and the sentences made from them.
//!
//! Guarantees: whatever a lease, an order or a settlement can say has one plain sentence here. `cargo xtask tidy` reads the
//! table and holds every other text of this crate to it.

use crate::render::number::{count, credits, duration, each_second, per_hour};
use pasture_api::data::Phase;
use pasture_api::{AuditView, GpuAuditView, JobView, MemoryAuditView, OrderState, RelaxationView, SuspensionView};
use pasture_net::{Path, Way};
use pasture_types::credential::Assertion;
use pasture_types::event::{ConfirmedBy, Settlement};
use pasture_types::governance::PauseKind;
use pasture_types::lease::{EndReason, LeaseState};
use pasture_types::market::{BillingUnit, DAY_MINUTES, Term, Window};
use pasture_types::market_rules::PPM;
use pasture_types::resources::display_bytes;
use pasture_types::stake::Fault;
use pasture_types::{AccountId, Millis, Timestamp};
use std::ops::RangeInclusive;

/// The ledger's word, and ours.
pub(crate) const PLAIN: [(&str, &str); 14] = [
    ("epoch", "period"),
    ("stake", "deposit"),
    ("bond", "deposit"),
    ("slash", "deposit forfeited"),
    ("jail", "suspended"),
    ("escrow", "on hold"),
    ("faucet", "test credits"),
    ("treasury", "network fee"),
    ("zone", "network"),
    ("credential", "certificate"),
    ("gang", "group"),
    ("heartbeat", "capacity check"),
    ("audit", "capacity check"),
    ("verdict", "capacity check"),
];

/// Words that have no place on the screen at all.
#[allow(dead_code)] // read by `cargo xtask tidy`
pub(crate) const NEVER: [&str; 4] = ["trustless", "passive income", "token", "mainnet"];

/// The plain word for a word of the ledger; the word itself where it is plain already.
pub(crate) fn plain(word: &str) -> &str {
    PLAIN.iter().find(|(ledger, _)| *ledger == word).map_or(word, |(_, ours)| ours)
}

/// Says what a server or the ledger wrote in our words, whole words only. What is said nowhere stays: it is not ours.
/// Paths and addresses are names, not words: a piece with a slash in it stays as it is.
pub(crate) fn plainly(text: &str) -> String {
    text.split_inclusive(char::is_whitespace).map(|piece| if piece.contains('/') { piece.into() } else { plain_piece(piece) }).collect()
}

fn plain_piece(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let (word, tail) = rest.split_at(end);
        let (stem, plural) = word.strip_suffix('s').map_or((word, ""), |stem| (stem, "s"));
        match (plain(word), plain(stem)) {
            (ours, _) if ours != word => out.push_str(ours),
            (_, ours) if ours != stem => {
                out.push_str(ours);
                out.push_str(plural);
            }
            _ => out.push_str(word),
        }
        let mut chars = tail.chars();
        out.extend(chars.next());
        rest = chars.as_str();
    }
    out
}

/// How a job ended, after its name: `finished (exit 0)` without the time, which goes between.
pub(crate) struct Ending {
    /// Whether the job itself ran to a good end.
    pub(crate) good: bool,
    /// e.g. `finished`, `failed`, `was stopped`.
    pub(crate) verb: &'static str,
    /// What stands in brackets: `exit 0`, or why.
    pub(crate) why: String,
}

/// Puts the end of a job into words.
pub(crate) fn ending(reason: &EndReason) -> Ending {
    let (good, verb, why) = match reason {
        EndReason::Exited { code: 0 } => (true, "finished", "exit 0".to_string()),
        EndReason::Exited { code } => match signal(*code) {
            Some(name) => (false, "failed", format!("exit {code}: signal {name}")),
            None => (false, "failed", format!("exit {code}")),
        },
        EndReason::OutOfMemory => (false, "was killed", "it used more memory than it asked for".into()),
        EndReason::BuildFailed => (false, "did not start", "its image could not be built or fetched".into()),
        EndReason::StartFailed => (false, "did not start", "its container could not be started".into()),
        EndReason::StoppedByUser => (true, "was stopped", "by you".into()),
        EndReason::CapReached => (false, "was stopped", "the time or money cap was reached".into()),
        EndReason::StoppedByProvider => (false, "was stopped", "by the provider".into()),
        EndReason::Lost => (false, "was lost", "its machine was not heard of any more".into()),
        EndReason::ServiceStopped => (false, "was closed", "it showed no sign of life any more".into()),
        EndReason::Rejected => (false, "did not start", "the machine refused it".into()),
        EndReason::NoSpec => (false, "did not start", "its description never reached the machine".into()),
        EndReason::Derated => (false, "was stopped", "its machine turned out to be smaller than it said".into()),
        EndReason::Preempted => (false, "was stopped", "the machine was needed back, as agreed".into()),
        EndReason::TookOver => (true, "went on", "its standby serves the job itself now".into()),
    };
    Ending { good, verb, why }
}

/// The signal whose end an exit code tells: 128 and its number, as shells and engines have it.
fn signal(code: i32) -> Option<&'static str> {
    /// From 1 on; those after it end nobody by themselves, or are nobody's in particular.
    const NAMES: [&str; 15] =
        ["HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM"];
    NAMES.get(usize::try_from(code.checked_sub(129)?).ok()?).copied()
}

/// The one word for a job's state in lists and in JSON. `phase` is what its machine says, where it was asked: the ledger learns
/// of a start only with the first statement of service.
pub(crate) fn state(job: &JobView, phase: Option<Phase>) -> &'static str {
    match (&job.lease, job.order.state) {
        (None, OrderState::Open) => "matching",
        (None, OrderState::Matched) => "matching",
        (None, OrderState::Expired) => "expired",
        (None, OrderState::Cancelled) => "cancelled",
        (Some(lease), _) => match lease.state {
            LeaseState::Matched => "matching",
            LeaseState::Accepted | LeaseState::Running if phase == Some(Phase::Restarting) => "restarting",
            LeaseState::Accepted if phase >= Some(Phase::Running) => "running",
            LeaseState::Accepted => "starting",
            LeaseState::Running => "running",
            LeaseState::Closing | LeaseState::Closed => lease.reason.as_ref().map_or("ended", ended),
        },
    }
}

/// Whether nothing more can happen to a job: what it cost is final as well.
pub(crate) const fn is_over(job: &JobView) -> bool {
    match &job.lease {
        Some(lease) => matches!(lease.state, LeaseState::Closed),
        None => matches!(job.order.state, OrderState::Expired | OrderState::Cancelled),
    }
}

const fn ended(reason: &EndReason) -> &'static str {
    match reason {
        EndReason::Exited { code: 0 } => "succeeded",
        EndReason::StoppedByUser
        | EndReason::CapReached
        | EndReason::StoppedByProvider
        | EndReason::ServiceStopped
        | EndReason::Preempted => "stopped",
        EndReason::Lost => "lost",
        _ => "failed",
    }
}

/// A machine by its provider and where it stands, as far as that is known.
pub(crate) fn machine(provider: &str, region: &str) -> String {
    if region.is_empty() { provider.into() } else { format!("{provider} · {region}") }
}

/// How a machine is reached.
pub(crate) fn path(path: Path) -> String {
    let took = format!("{:.1} ms there and back", path.rtt.as_secs_f64() * 1_000.0);
    match path.way {
        Way::Direct(address) => format!("directly at {address}, {took}"),
        Way::Relayed => format!("by a relay, {took}: the routers between let no direct path through, or none was found yet"),
    }
}

/// The same for scripts.
pub(crate) fn path_value(path: Path) -> serde_json::Value {
    let direct = match path.way {
        Way::Direct(address) => Some(address.to_string()),
        Way::Relayed => None,
    };
    serde_json::json!({"direct": direct, "rtt_us": u64::try_from(path.rtt.as_micros()).unwrap_or(u64::MAX)})
}

/// Who confirmed the service, for a receipt. `name`: the watcher's, where it has one.
pub(crate) fn confirmed(by: &ConfirmedBy, name: Option<&str>) -> String {
    let watcher = |account: &AccountId| name.map_or_else(|| account.short(), |name| format!("{name} ({})", account.short()));
    match by {
        ConfirmedBy::User => "service confirmed by you".into(),
        ConfirmedBy::Watcher(account) => format!("service confirmed by your watcher {}", watcher(account)),
        ConfirmedBy::NoObjection => "service counted, nobody objected".into(),
        ConfirmedBy::Nothing => "no service was delivered".into(),
        ConfirmedBy::Objection => "you objected to a part of the service".into(),
        ConfirmedBy::Evidence(account) => format!("your watcher {} showed that a part of the service failed", watcher(account)),
    }
}

/// On which terms a machine is taken; nothing for a job of fixed length.
pub(crate) fn term(term: &Term) -> Option<String> {
    match term {
        Term::Fixed => None,
        Term::Open => Some("runs until it is stopped".into()),
        Term::Rental { unit, committed, locked, renew } => {
            let unit = match unit {
                BillingUnit::Hour => "hour",
                BillingUnit::Month => "month",
            };
            let stays = if locked > committed { format!(", at a price that stays for {locked}") } else { String::new() };
            let goes_on = if *renew { ", renewed by itself" } else { "" };
            Some(format!("rented for {}{stays}{goes_on}", count((*committed).into(), unit)))
        }
    }
}

/// A change of an order that would help, and what it costs.
pub(crate) fn way_out(r: &RelaxationView) -> String {
    let price = r.rate_per_hour.map_or_else(String::new, |rate| format!(", from {}", per_hour(rate)));
    let in_all = r.at_most.map_or_else(String::new, |cost| format!(", at most {} cr in all", credits(cost)));
    format!("{} ({}{price}{in_all})", plainly(&r.change), count(r.offers, "offer"))
}

/// What the guardian holds back.
pub(crate) const fn paused(kind: PauseKind) -> &'static str {
    match kind {
        PauseKind::Registrations => "new accounts and machines",
        PauseKind::Offers => "new offers",
        PauseKind::Orders => "new orders and extensions",
        PauseKind::Matches => "matching",
        PauseKind::Transfers => "payments between accounts",
        PauseKind::Withdrawals => "taking deposits back",
        PauseKind::Sessions => "new pay-as-you-go sessions",
    }
}

/// Why a provider or a machine takes no jobs.
pub(crate) fn suspension(s: &SuspensionView, now: Timestamp) -> String {
    let why = match s.fault {
        Fault::FailedAudit => "a capacity check failed twice",
        Fault::LostDispute => "a result was found wrong",
        Fault::Equivocation => "it signed two statements that contradict each other",
        Fault::Absence => "it did not do what its seat asks",
    };
    match s.until.since(now) {
        Millis(0) => format!("until its owner ends it, since {why}"),
        left => format!("for {} at least, since {why}", duration(left)),
    }
}

/// What capacity checks say of a machine.
pub(crate) fn capacity(audits: Option<&AuditView>) -> String {
    let Some(a) = audits.filter(|a| a.passes + a.failures > 0) else {
        return "not checked by others yet: the machine's own benchmark stands in".into();
    };
    let state = match (a.failing_from, a.last_pass) {
        (Some(from), _) => format!("failed: from period {from} on it is not paid until it passes again"),
        (None, Some(last)) => format!("checked, last in period {last}"),
        (None, None) => "not proven yet".into(),
    };
    let share = match a.measured_ppm {
        _ if a.proven_ppm < PPM => format!(", held to {} % of what it declared", a.proven_ppm / 10_000),
        Some(shown) => format!(", {} % of what it declared was measured", shown / 10_000),
        None => String::new(),
    };
    // A stretch that ends after the last pass can only be one that began with it: it was not there at first.
    let lapsed = a.failed.last().filter(|(_, after)| a.failing_from.is_none() && a.last_pass.is_some_and(|last| *after > last));
    let lapse = lapsed.map_or_else(String::new, |(from, after)| {
        format!("; not paid from period {from} to {}: it passed only when asked again", after.saturating_sub(1))
    });
    let gpus = a.gpus.as_ref().map_or_else(String::new, |gpus| format!("; {}", proven_gpus(gpus)));
    let memory = a.memory.as_ref().map_or_else(String::new, |memory| format!("; {}", proven_memory(memory)));
    format!("{state}{share} ({} passed, {} failed){lapse}{gpus}{memory}", a.passes, a.failures)
}

/// What capacity checks say of a machine's memory.
fn proven_memory(a: &MemoryAuditView) -> String {
    let state = match (a.failing_from, a.last_pass) {
        (Some(from), _) => format!("memory failed: from period {from} on CPU and memory are not paid until it passes again"),
        (None, Some(last)) => format!("memory proven, {} that no job had, last in period {last}", display_bytes(a.proven_bytes)),
        (None, None) => "memory not proven yet".into(),
    };
    format!("{state} ({} passed, {} failed)", a.passes, a.failures)
}

/// What capacity checks say of a machine's GPUs.
fn proven_gpus(a: &GpuAuditView) -> String {
    let shown: Vec<String> =
        a.proven.iter().map(|c| format!("{}x {} at {} of multiply-adds", c.count, c.model, each_second(c.macs_per_s))).collect();
    let state = match (a.failing_from, a.last_pass) {
        (Some(from), _) => format!("GPUs failed: from period {from} on they are not paid until they pass again"),
        (None, Some(last)) => format!("GPUs proven, {}, last in period {last}", shown.join(", ")),
        (None, None) => "GPUs not proven yet".into(),
    };
    format!("{state} ({} passed, {} failed)", a.passes, a.failures)
}

/// Why some periods of a settled job were not paid; `None` if all were.
pub(crate) fn unpaid(settlement: &Settlement, mut periods: RangeInclusive<u64>, audits: Option<&AuditView>) -> Option<String> {
    let missing = settlement.epochs.checked_sub(settlement.epochs_proven).filter(|missing| *missing > 0)?;
    let failed = audits.is_some_and(|a| periods.any(|period| a.has_failed(period)));
    let why = if failed { "the machine failed its capacity check" } else { "the machine did not prove its capacity in time" };
    Some(format!("{missing} of {}: {why}", count(settlement.epochs, "period")))
}

/// When a machine takes jobs.
pub(crate) fn hours(windows: &[Window]) -> String {
    const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
    if windows.is_empty() {
        return "always".into();
    }
    let minute = |m: u16| format!("{:02}:{:02}", m / 60, m % 60);
    let day = |m: u16| DAYS.get(usize::from(m / DAY_MINUTES)).copied().unwrap_or_default();
    let one = |w: &Window| {
        let last = w.to.saturating_sub(1);
        let to = minute(w.to - (last / DAY_MINUTES) * DAY_MINUTES);
        let until = if day(w.from) == day(last) { to } else { format!("{} {to}", day(last)) };
        format!("{} {} to {until}", day(w.from), minute(w.from % DAY_MINUTES))
    };
    format!("{} (UTC)", windows.iter().map(one).collect::<Vec<_>>().join(", "))
}

/// What a certificate states.
pub(crate) fn certificate(claim: &Assertion) -> String {
    match claim {
        Assertion::DataCentreTier { tier } => format!("data centre of tier {tier}"),
        Assertion::Carbon { grams_per_kwh } => format!("{grams_per_kwh} g CO2 per kWh"),
        Assertion::Region { region, level } => {
            let how = match level {
                1 => "by documents",
                2 => "by a visit",
                _ => "by measuring",
            };
            format!("stands in {region}, checked {how}")
        }
        Assertion::Audit { level, .. } => format!("was inspected, level {level}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pasture_types::Amount;
    use pasture_types::audit::GpuClaim;

    #[test]
    fn what_the_ledger_says_is_said_plainly() {
        assert_eq!(plain("escrow"), "on hold");
        assert_eq!(plain("price"), "price");
        assert_eq!(plainly("2 epochs of escrow, zone 3f"), "2 periods of on hold, network 3f");
        assert_eq!(plainly("horizon, zones!"), "horizon, networks!");
        assert_eq!(plainly("/data/zone/genesis is damaged, like its zone"), "/data/zone/genesis is damaged, like its network");
        assert_eq!(plainly(""), "");
    }

    fn checks() -> AuditView {
        AuditView {
            first_pass: Some(3),
            last_pass: Some(9),
            failing_from: None,
            failed: vec![(0, 2)],
            open: None,
            proven_ppm: 1_000_000,
            passes: 4,
            failures: 1,
            last: None,
            measured_ppm: Some(1_230_000),
            gpus: None,
            memory: None,
        }
    }

    #[test]
    fn capacity_checks_say_how_they_ended_and_what_was_measured() {
        assert!(capacity(None).contains("benchmark stands in"));
        assert_eq!(capacity(Some(&checks())), "checked, last in period 9, 123 % of what it declared was measured (4 passed, 1 failed)");
        let failed = AuditView { failing_from: Some(10), proven_ppm: 400_000, measured_ppm: None, ..checks() };
        assert_eq!(
            capacity(Some(&failed)),
            "failed: from period 10 on it is not paid until it passes again, held to 40 % of what it declared (4 passed, 1 failed)"
        );
        let lapsed = AuditView { failed: vec![(0, 2), (12, 22)], measured_ppm: None, ..checks() };
        assert!(capacity(Some(&lapsed)).ends_with("(4 passed, 1 failed); not paid from period 12 to 21: it passed only when asked again"));
        let proven = vec![GpuClaim { model: "H100".into(), count: 2, macs_per_s: 2_000_000_000_000 }];
        let gpus = GpuAuditView { last_pass: Some(9), failing_from: None, proven, passes: 3, failures: 0 };
        let shown = capacity(Some(&AuditView { gpus: Some(gpus), ..checks() }));
        let memory = MemoryAuditView { last_pass: Some(9), failing_from: None, proven_bytes: 6 << 30, passes: 2, failures: 1 };
        let with_memory = |memory| capacity(Some(&AuditView { memory: Some(memory), ..checks() }));
        let said = with_memory(memory);
        assert!(said.ends_with("; memory proven, 6 GiB that no job had, last in period 9 (2 passed, 1 failed)"), "{said}");
        let said = with_memory(MemoryAuditView { failing_from: Some(4), ..memory });
        assert!(said.contains("; memory failed: from period 4 on CPU and memory are not paid"), "{said}");
        assert!(shown.ends_with("; GPUs proven, 2x H100 at 2000.0G/s of multiply-adds, last in period 9 (3 passed, 0 failed)"), "{shown}");
        assert!(failed.has_failed(1) && !failed.has_failed(2) && !failed.has_failed(9) && failed.has_failed(10));
    }

    #[test]
    fn a_signal_is_told_from_an_exit_code() {
        let why = |code| ending(&EndReason::Exited { code }).why;
        assert_eq!((why(0), why(1), why(128)), ("exit 0".into(), "exit 1".into(), "exit 128".into()));
        assert_eq!(
            (why(137), why(139), why(143)),
            ("exit 137: signal KILL".into(), "exit 139: signal SEGV".into(), "exit 143: signal TERM".into())
        );
        assert_eq!(
            (why(129), why(144), why(255), why(i32::MIN)),
            ("exit 129: signal HUP".into(), "exit 144".into(), "exit 255".into(), format!("exit {}", i32::MIN))
        );
    }

    #[test]
    fn a_way_out_names_its_price() {
        let change = "allow 0.6 per hour".to_string();
        let r = RelaxationView { change, offers: 2, rate_per_hour: Some(Amount(600_000_000)), at_most: Some(Amount(300_000_000)) };
        assert_eq!(way_out(&r), "allow 0.6 per hour (2 offers, from 0.6000 cr per hour, at most 0.3000 cr in all)");
        let waiting = RelaxationView { change: "wait".into(), offers: 1, rate_per_hour: None, at_most: None };
        assert_eq!(way_out(&waiting), "wait (1 offer)");
    }

    #[test]
    fn a_term_says_what_is_promised() {
        assert_eq!(term(&Term::Fixed), None);
        let rental = Term::Rental { unit: BillingUnit::Hour, committed: 2, locked: 6, renew: true };
        assert_eq!(term(&rental).unwrap(), "rented for 2 hours, at a price that stays for 6, renewed by itself");
        let month = Term::Rental { unit: BillingUnit::Month, committed: 1, locked: 1, renew: false };
        assert_eq!(term(&month).unwrap(), "rented for 1 month");
    }

    #[test]
    fn hours_are_days_and_times() {
        assert_eq!(hours(&[]), "always");
        let night = [Window { from: 1_320, to: 1_800 }, Window { from: 8_640, to: 10_080 }];
        assert_eq!(hours(&night), "Mon 22:00 to Tue 06:00, Sun 00:00 to 24:00 (UTC)");
    }

    #[test]
    fn no_plain_word_is_itself_to_be_avoided() {
        for (_, ours) in PLAIN {
            assert_eq!(plainly(ours), ours);
            assert!(!NEVER.contains(&ours));
        }
    }
}
