//! The decisions of a lease, event by event.

use super::*;
use crate::lease::manifest::tests::{READER, manifest, terms};
use crate::lease::record::Terms;
use pasture_store::said::open_text;
use pasture_store::sealed::ReaderKey;
use pasture_types::keys::SignatureText;
use pasture_types::{Amount, BlobHash};
use std::collections::BTreeMap;

const EPOCHS: Epochs = Epochs { genesis: Timestamp(0), length: Millis(5_000) };
const WAITS: Waits = Waits { manifest: Millis(60_000), context: Millis(600_000) };
const LOG: LogState = LogState { bytes: 10, root: BlobHash([4; 32]) };

pub(super) struct Case {
    pub(super) machine: Machine,
    out: Vec<Effect>,
}

impl Case {
    pub(super) fn of(record: LeaseRecord, now: u64) -> Self {
        Self { machine: Machine::new(record, EPOCHS, WAITS, LOG, Timestamp(now)), out: vec![] }
    }
    fn new() -> Self {
        Self::of(LeaseRecord::new(terms(&manifest())), 10_000)
    }
    /// A job that runs since 12,000.
    fn running() -> Self {
        Self::running_with(manifest())
    }
    /// Another one.
    pub(super) fn running_with(manifest: Manifest) -> Self {
        let mut case = Self::new();
        case.at(10_000, Event::Accepted(Timestamp(10_000)));
        case.at(10_100, Event::Manifest(Box::new(manifest)));
        case.at(10_200, Event::ImageReady { image: "i".into(), build: Millis(0), billed: Millis(0) });
        case.at(11_900, Event::Created { container: "c".into() });
        case.at(12_001, Event::Running { started: Timestamp(12_000) });
        case
    }
    /// Applies an event and gives what it led to.
    pub(super) fn at(&mut self, now: u64, event: Event) -> Vec<Effect> {
        self.out.clear();
        self.machine.step(event, Timestamp(now), &mut self.out);
        self.out.clone()
    }
    pub(super) fn exit(&mut self, at: u64, code: i32) -> Vec<Effect> {
        self.at(at, Event::Exited { end: EndReason::Exited { code }, started: Some(Timestamp(12_000)), finished: Timestamp(at) })
    }
    /// Ticks as the actor would until a time, and gives everything that came of it.
    pub(super) fn until(&mut self, now: u64) -> Vec<Effect> {
        let mut all = vec![];
        while let Some(next) = self.machine.next_tick().filter(|t| t.0 <= now) {
            all.extend(self.at(next.0, Event::Tick));
            assert!(self.machine.next_tick() != Some(next), "a tick at {next} leads to itself");
        }
        all
    }
    /// What only the job's reader can read: nothing of it is clear.
    pub(super) fn read(&self, said: &Said) -> String {
        let (mut said, lease) = (said.clone(), self.machine.record.terms.lease);
        assert!(said.is_empty() || said.text() == "(sealed)", "{said:?}");
        said.open(|sealed| open_text(&ReaderKey::derived(&READER), &lease, sealed).unwrap());
        said.text().to_owned()
    }
    /// What happened, as its user reads it.
    pub(super) fn history(&self) -> Vec<String> {
        self.machine.record.upkeep.history.iter().map(|h| self.read(&h.text)).collect()
    }
    pub(super) fn phase(&self) -> Phase {
        self.machine.record.phase
    }
}

fn confirm(usage: &Usage) -> Event {
    Event::Countersigned(Box::new(CountersignRequest {
        usage: usage.clone(),
        account: None,
        key: "k".into(),
        signature: SignatureText("s".into()),
    }))
}

fn offered(effects: &[Effect]) -> Vec<(Usage, bool)> {
    effects.iter().filter_map(|e| if let Effect::Offer { usage, last } = e { Some((usage.clone(), *last)) } else { None }).collect()
}

/// Served time of each usage and whether it is confirmed; the reason of the close.
pub(super) type Closed = (Vec<(u64, bool)>, Option<EndReason>);

pub(super) fn close_of(effects: &[Effect]) -> Option<Closed> {
    effects.iter().find_map(|e| {
        let Effect::Close { usages, close } = e else { return None };
        Some((usages.iter().map(|s| (s.usage.served_ms.0, s.confirmed.is_some())).collect(), close.clone()))
    })
}

#[test]
fn a_job_runs_is_confirmed_and_closed() {
    let mut case = Case::running();
    assert_eq!(case.phase(), Phase::Running);
    case.machine.followers = 1;
    let first = offered(&case.until(15_000));
    assert_eq!(first.len(), 1);
    assert_eq!((first[0].0.served_ms, first[0].0.epoch, first[0].0.started), (Millis(3_000), 3, Timestamp(12_000)));
    // The first statement goes on the ledger as soon as it is confirmed, so that the ledger shows the lease running.
    let out = case.at(15_010, confirm(&first[0].0));
    assert!(matches!(&out[..], [Effect::Save, Effect::SubmitUsage { usages }] if usages[0].confirmed.is_some()), "{out:?}");
    case.at(15_020, Event::UsageSubmitted { recorded: Some(Millis(3_000)) });
    let out = case.exit(16_500, 7);
    assert!(out.contains(&Effect::CopyOutput { container: "c".into() }));
    let out = case.at(16_510, Event::LogDrained { instance: 0 });
    let last = offered(&out);
    assert_eq!((last[0].0.served_ms, last[0].1), (Millis(4_500), true));
    let out = case.at(16_520, Event::OutputDone { output: None, problem: None });
    assert_eq!(case.phase(), Phase::Ended);
    assert!(out.contains(&Effect::Remove { container: "c".into() }));
    let out = case.at(16_530, confirm(&last[0].0));
    assert_eq!(close_of(&out), Some((vec![(4_500, true)], Some(EndReason::Exited { code: 7 }))));
    case.at(16_540, Event::CloseSubmitted { taken: true });
    case.at(16_550, Event::Removed);
    assert!(case.machine.record.is_finished());
    assert_eq!(case.machine.status(Timestamp(99_000)).served_ms, Millis(4_500));
}

#[test]
fn without_a_confirmation_the_close_waits_two_seconds_and_goes_bare() {
    let mut case = Case::running();
    case.machine.followers = 1;
    case.exit(13_000, 0);
    assert_eq!(close_of(&case.at(13_010, Event::LogDrained { instance: 0 })), None);
    assert_eq!(close_of(&case.until(15_009)), None);
    assert_eq!(close_of(&case.until(15_010)), Some((vec![(1_000, false)], Some(EndReason::Exited { code: 0 }))));
    // Nobody follows: there is nobody to wait for.
    let mut case = Case::running();
    case.exit(13_000, 0);
    assert!(close_of(&case.at(13_010, Event::LogDrained { instance: 0 })).is_some());
}

#[test]
fn usage_goes_on_the_ledger_every_fifteen_epochs_and_never_shrinks() {
    let mut case = Case::running();
    let mut submitted = vec![];
    let mut last = Millis(0);
    for epoch in 3..40u64 {
        let out = case.until(epoch * 5_000 + 2_500);
        for (usage, _) in offered(&out) {
            assert!(usage.served_ms > last);
            last = usage.served_ms;
        }
        if let Some(Effect::SubmitUsage { usages }) = out.iter().find(|e| matches!(e, Effect::SubmitUsage { .. })) {
            submitted.push(epoch);
            case.at(epoch * 5_000 + 2_600, Event::UsageSubmitted { recorded: Some(usages[0].usage.served_ms) });
        }
        if case.phase() != Phase::Running {
            break;
        }
    }
    assert_eq!(submitted, [3, 18]);
}

#[test]
fn the_cap_warns_stops_and_bounds_what_is_claimed() {
    let mut case = Case::running();
    // 100,000 nano at 1 nano a millisecond: money for 100 s, the same as the time cap.
    assert_eq!(case.machine.cap(), Millis(100_000));
    let out = case.until(92_000);
    assert!(out.contains(&Effect::Emit(NodeEvent::Cap { seconds_left: 20 })), "{out:?}");
    let out = case.until(112_000);
    assert!(out.contains(&Effect::Emit(NodeEvent::Cap { seconds_left: 0 })));
    assert!(out.contains(&Effect::StopContainer { container: "c".into(), grace: Millis(2_000) }));
    // It used its grace: not billed, and the reason is the cap, not the exit.
    case.exit(113_900, 143);
    assert_eq!(case.machine.record.served_ms, Millis(100_000));
    assert_eq!(case.machine.record.end, Some(EndReason::CapReached));
}

#[test]
fn an_extension_moves_the_cap() {
    let mut case = Case::running();
    case.until(100_000);
    case.at(100_000, Event::Extended { max_duration: Millis(200_000), escrow: Amount(200_000) });
    assert_eq!(case.machine.cap(), Millis(200_000));
    case.until(120_000);
    assert_eq!(case.phase(), Phase::Running);
    // Building beyond the allowance eats into the money.
    case.machine.record.billed_build_ms = Millis(50_000);
    assert_eq!(case.machine.cap(), Millis(150_000));
}

#[test]
fn a_failed_build_is_told_and_billed() {
    let mut case = Case::new();
    case.at(10_000, Event::Accepted(Timestamp(10_000)));
    let mut m = manifest();
    m.source = pasture_types::spec::Source::Build {
        context: BlobHash([1; 32]),
        context_bytes: 5,
        dockerfile: "Dockerfile".into(),
        args: BTreeMap::new(),
        timeout: Millis(1_000),
    };
    case.at(10_100, Event::Manifest(Box::new(m)));
    assert_eq!(case.phase(), Phase::AwaitingContext);
    assert!(case.at(10_200, Event::ContextComplete).contains(&Effect::FetchImage));
    assert_eq!(case.phase(), Phase::Building);
    let out = case.at(12_200, Event::ImageFailed { detail: "Step 2/2: RUN false failed".into(), build: Millis(2_000) });
    assert_eq!(case.phase(), Phase::Ended);
    assert_eq!(offered(&out)[0].0.build_ms, Millis(2_000));
    assert_eq!(close_of(&out), Some((vec![(0, false)], Some(EndReason::BuildFailed))));
    let status = case.machine.status(Timestamp(13_000));
    assert_eq!((status.end, status.output_bytes), (Some(EndReason::BuildFailed), Some(0)));
    assert!(case.read(&status.detail).contains("Step 2/2"));
}

#[test]
fn a_client_that_never_sends_its_manifest_ends_the_lease() {
    let mut case = Case::new();
    assert_eq!(case.machine.next_tick(), None, "nothing is waited for before the lease is ours");
    case.at(10_000, Event::Accepted(Timestamp(10_000)));
    let out = case.until(70_000);
    // Nothing was used: the lease is closed without a statement.
    assert_eq!(close_of(&out), Some((vec![], Some(EndReason::NoSpec))));
    assert_eq!(case.phase(), Phase::Ended);
}

#[test]
fn a_stop_is_honoured_in_every_phase() {
    let stop = || Event::Stop { reason: EndReason::StoppedByUser, grace: Millis(999_999), detail: String::new() };
    let mut case = Case::new();
    case.at(10_000, Event::Accepted(Timestamp(10_000)));
    case.at(10_100, Event::Manifest(Box::new(manifest())));
    let out = case.at(10_300, stop());
    assert!(out.contains(&Effect::CancelWork));
    assert_eq!((case.phase(), case.machine.record.end.clone()), (Phase::Ended, Some(EndReason::StoppedByUser)));
    // A build that ends all the same starts nothing.
    assert_eq!(case.at(10_400, Event::ImageReady { image: "i".into(), build: Millis(0), billed: Millis(0) }), []);

    let mut case = Case::running();
    let out = case.at(13_000, stop());
    assert!(out.contains(&Effect::StopContainer { container: "c".into(), grace: MAX_GRACE }));
    assert_eq!(case.at(13_100, stop()), [], "once is enough");
    // The engine failed: tried again, without another grace.
    case.at(13_200, Event::StopFailed);
    assert_eq!(case.until(18_200), [Effect::StopContainer { container: "c".into(), grace: Millis(0) }]);
    case.exit(18_300, 137);
    assert_eq!(case.machine.record.end, Some(EndReason::StoppedByUser));

    // While the container is being started, the stop follows the start.
    let mut case = Case::new();
    case.at(10_000, Event::Accepted(Timestamp(10_000)));
    case.at(10_100, Event::Manifest(Box::new(manifest())));
    case.at(10_200, Event::ImageReady { image: "i".into(), build: Millis(0), billed: Millis(0) });
    case.at(10_250, stop());
    case.at(10_300, Event::Created { container: "c".into() });
    assert!(case.at(10_400, Event::Running { started: Timestamp(10_390) }).iter().any(|e| matches!(e, Effect::StopContainer { .. })));
}

#[test]
fn a_lease_that_the_ledger_closes_is_stopped_and_told_the_rest() {
    let mut case = Case::running();
    case.machine.followers = 1;
    let out = case.at(14_000, Event::LedgerClosed { reason: Some(EndReason::StoppedByUser), settled: false });
    assert!(out.iter().any(|e| matches!(e, Effect::StopContainer { .. })));
    case.exit(14_100, 143);
    let last = offered(&case.at(14_110, Event::LogDrained { instance: 0 }))[0].0.clone();
    // Confirmed: that says by itself that nothing more comes.
    assert_eq!(close_of(&case.at(14_120, confirm(&last))), Some((vec![(2_100, true)], None)));
    // Bare: the close has to say it.
    let mut case = Case::running();
    case.at(14_000, Event::LedgerClosed { reason: Some(EndReason::StoppedByUser), settled: false });
    case.exit(14_100, 143);
    assert_eq!(close_of(&case.at(14_110, Event::LogDrained { instance: 0 })), Some((vec![(2_100, false)], Some(EndReason::StoppedByUser))));
    // Refused all the way: it is closed there, so nothing is left to do.
    for at in [14_120, 14_130, 14_140, 14_150] {
        case.at(at, Event::CloseSubmitted { taken: false });
        case.until(at + 5_000);
    }
    assert!(case.machine.record.closed);
}

#[test]
fn what_a_user_saw_no_service_for_is_not_claimed() {
    let mut case = Case::running();
    case.at(14_000, Event::LedgerClosed { reason: Some(EndReason::ServiceStopped), settled: false });
    case.exit(14_100, 143);
    assert_eq!(close_of(&case.at(14_110, Event::LogDrained { instance: 0 })), Some((vec![], Some(EndReason::ServiceStopped))));
    // Not after refusals either.
    for at in [14_120, 14_130] {
        let mut out = case.at(at, Event::CloseSubmitted { taken: false });
        out.extend(case.until(at + 5_000));
        assert!(close_of(&out).is_none_or(|(claims, _)| claims.is_empty()));
    }
}

#[test]
fn a_refused_close_is_tried_with_less_and_then_for_ever() {
    let mut case = Case::running();
    case.exit(13_000, 0);
    let mut tried = vec![close_of(&case.at(13_010, Event::LogDrained { instance: 0 })).unwrap().0.len()];
    let mut now = 13_010;
    for _ in 0..5 {
        case.at(now, Event::CloseSubmitted { taken: false });
        now += 5_000;
        tried.push(close_of(&case.until(now)).unwrap().0.len());
    }
    assert_eq!(tried, [1, 1, 1, 0, 0, 0]);
}

#[test]
fn a_crash_takes_up_where_the_record_stands() {
    // While it ran: adopted, and the engine's times say how much was served.
    let record = Case::running().machine.record;
    let mut case = Case::of(record.clone(), 33_000);
    case.machine.resume(Timestamp(33_000), &mut case.out);
    assert_eq!(case.out, [Effect::Adopt { container: "c".into() }]);
    case.at(33_010, Event::Running { started: Timestamp(12_000) });
    assert_eq!(case.machine.served(Timestamp(34_000)), Millis(22_000));
    case.exit(34_500, 0);
    assert_eq!(case.machine.record.served_ms, Millis(22_500));
    // It exited while we were away: its own end counts.
    let mut case = Case::of(record.clone(), 90_000);
    case.machine.resume(Timestamp(90_000), &mut case.out);
    case.exit(20_000, 3);
    assert_eq!((case.machine.record.served_ms, case.machine.record.end.clone()), (Millis(8_000), Some(EndReason::Exited { code: 3 })));
    // It is gone: only what was measured before counts.
    let mut gone = Case::of(LeaseRecord { served_ms: Millis(3_000), ..record }, 90_000);
    gone.machine.resume(Timestamp(90_000), &mut gone.out);
    let out = gone.at(90_010, Event::Vanished { at: None });
    assert_eq!(offered(&out)[0].0.served_ms, Millis(3_000));
    assert_eq!(gone.machine.record.end, Some(EndReason::StoppedByProvider));
    gone.at(90_020, Event::OutputDone { output: None, problem: None });
    assert_eq!(gone.phase(), Phase::Ended);
}

#[test]
fn a_crash_after_the_exit_makes_the_same_last_statement_again() {
    let mut case = Case::running();
    case.machine.followers = 1;
    case.exit(13_000, 0);
    let before = offered(&case.at(13_010, Event::LogDrained { instance: 0 }));
    let mut again = Case::of(case.machine.record.clone(), 20_000);
    again.machine.log = LogState { bytes: 99, root: BlobHash([9; 32]) };
    again.machine.resume(Timestamp(20_000), &mut again.out);
    assert_eq!(again.out, [Effect::CopyOutput { container: "c".into() }, Effect::Adopt { container: "c".into() }]);
    assert_eq!(again.exit(21_000, 9), [], "an exit is told once");
    let out = again.at(20_100, Event::LogDrained { instance: 0 });
    assert_eq!(offered(&out), before);
    // A crash between the end without a container and its phase.
    let mut record = LeaseRecord::new(terms(&manifest()));
    (record.accepted, record.end) = (Some(Timestamp(10_000)), Some(EndReason::BuildFailed));
    let mut case = Case::of(record, 20_000);
    case.machine.resume(Timestamp(20_000), &mut case.out);
    assert_eq!(case.phase(), Phase::Ended);
    assert_eq!(close_of(&case.out), Some((vec![], Some(EndReason::BuildFailed))));
}

#[test]
fn a_clock_that_is_set_back_claims_nothing_twice() {
    let mut case = Case::running();
    case.until(20_000);
    let served = case.machine.record.served_ms;
    assert_eq!(served, Millis(8_000));
    assert_eq!(case.machine.served(Timestamp(1_000)), served);
    case.exit(1_500, 0);
    assert_eq!(case.machine.record.served_ms, served);
    // An engine whose clock is behind the ledger's acceptance serves nothing before it.
    let mut case = Case::new();
    case.at(10_000, Event::Accepted(Timestamp(10_000)));
    case.at(10_000, Event::Manifest(Box::new(manifest())));
    case.at(10_000, Event::ImageReady { image: "i".into(), build: Millis(0), billed: Millis(0) });
    case.at(10_000, Event::Created { container: "c".into() });
    case.at(10_000, Event::Running { started: Timestamp(4_000) });
    assert_eq!(case.machine.record.started, Some(Timestamp(10_000)));
}

#[test]
fn a_match_that_somebody_else_got_is_forgotten() {
    let mut case = Case::new();
    case.at(10_000, Event::Manifest(Box::new(manifest())));
    assert_eq!(case.phase(), Phase::AwaitingManifest, "nothing begins before the lease is ours");
    assert_eq!(case.at(12_000, Event::NotAccepted), [Effect::Forget]);
    let free = Terms { rate_per_hour: Amount::ZERO, ..terms(&manifest()) };
    assert_eq!(Case::of(LeaseRecord::new(free), 0).machine.cap(), Millis(100_000));
}

#[test]
fn a_confirmation_of_something_never_offered_is_ignored() {
    let mut case = Case::running();
    let mut usage = offered(&case.until(15_000))[0].0.clone();
    usage.served_ms = Millis(90_000);
    assert_eq!(case.at(15_010, confirm(&usage)), []);
    assert!(case.machine.record.confirmed.is_none());
}

#[test]
fn gpus_are_free_at_the_end_of_the_process_and_one_that_nobody_looked_into_costs_nothing() {
    let gpu = pasture_api::data::HeldGpu { uuid: "GPU-1".into(), model: "H100".into(), vram_bytes: 1, simulated: false };
    let starting = || {
        let mut case = Case::of(LeaseRecord { gpus: vec![gpu.clone()], ..LeaseRecord::new(terms(&manifest())) }, 10_000);
        case.at(10_000, Event::Accepted(Timestamp(10_000)));
        case.at(10_100, Event::Manifest(Box::new(manifest())));
        case.at(10_200, Event::ImageReady { image: "i".into(), build: Millis(0), billed: Millis(0) });
        case.at(11_900, Event::Created { container: "c".into() });
        case
    };
    let held = |case: &Case, now| case.machine.status(Timestamp(now)).gpus;
    // It ended before its GPUs were seen.
    let mut case = starting();
    assert_eq!(held(&case, 12_000), std::slice::from_ref(&gpu));
    case.at(13_000, Event::Exited { end: EndReason::Exited { code: 3 }, started: None, finished: Timestamp(13_000) });
    assert_eq!(held(&case, 13_000), [], "its output is still to be copied, and its process is gone");
    let end = case.at(13_001, Event::LogDrained { instance: 0 });
    assert_eq!(close_of(&end), Some((vec![], Some(EndReason::Exited { code: 3 }))));
    assert_eq!((case.machine.record.served_ms, offered(&end)), (Millis(0), vec![]));
    // It had others than were promised; by then it was killed.
    let mut case = starting();
    let end = case.at(14_000, Event::StartFailed { detail: "40 GiB".into() });
    assert_eq!(close_of(&end), Some((vec![], Some(EndReason::StartFailed))));
    assert_eq!(
        (case.machine.record.served_ms, case.read(&case.machine.record.detail).as_str(), held(&case, 14_000)),
        (Millis(0), "40 GiB", vec![])
    );
    assert!(end.contains(&Effect::Remove { container: "c".into() }));
    // A crash forgets nothing of what it holds.
    let record = serde_json::to_vec(&starting().machine.record).unwrap();
    assert_eq!(held(&Case::of(serde_json::from_slice(&record).unwrap(), 20_000), 20_000), std::slice::from_ref(&gpu));
}
