//! The decisions about restarts and health, event by event.

use super::super::tests::{Case, close_of};
use super::*;
use crate::lease::event::Event;
use crate::lease::manifest::tests::manifest;
use pasture_types::life::{Health, Probe};
use pasture_types::spec::Manifest;

fn living(life: Life) -> Manifest {
    Manifest { life, ..manifest() }
}

fn policy(restart: Restart, retry: Option<u32>) -> Manifest {
    living(Life { restart, retry, ..Life::default() })
}

fn checked(restart: Restart, start: u64) -> Manifest {
    let health = Health { probe: Probe::Port(80), interval: Millis(1_000), timeout: Millis(500), retries: 3, start: Millis(start) };
    living(Life { restart, health: Some(health), ..Life::default() })
}

/// What becomes of an exit, through the end of the log and the pause, up to the next instance's start.
fn again(case: &mut Case, at: u64, code: i32) -> Option<u64> {
    case.exit(at, code);
    let instance = case.machine.record.upkeep.instance;
    let due = case.machine.record.upkeep.next?.0;
    assert_eq!(case.phase(), Phase::Restarting);
    let drained = case.at(at + 1, Event::LogDrained { instance });
    assert!(!drained.iter().any(|e| matches!(e, Effect::Create { .. })), "not before its time");
    let made = case.until(due);
    assert_eq!(made.iter().filter(|e| matches!(e, Effect::Create { .. })).count(), 1, "{made:?}");
    assert!(made.contains(&Effect::Create { image: "i".into(), instance: instance + 1 }));
    let name = format!("c{}", instance + 1);
    let out = case.at(due + 10, Event::Created { container: name.clone() });
    let old = if instance == 0 { "c".to_owned() } else { format!("c{instance}") };
    assert_eq!(out, [Effect::Save, Effect::Retire { container: old }, Effect::Start { container: name }]);
    case.at(due + 20, Event::Retired);
    case.at(due + 30, Event::Running { started: Timestamp(due + 25) });
    assert_eq!(case.phase(), Phase::Running);
    Some(due + 25)
}

#[test]
fn a_job_is_started_again_as_often_as_it_asks() {
    let mut case = Case::running_with(policy(Restart::OnFailure, Some(2)));
    let began = again(&mut case, 13_000, 3).unwrap();
    assert_eq!(began, 13_525, "half a second after the first failure");
    let began = again(&mut case, began + 100, 4).unwrap();
    assert_eq!(case.machine.status(Timestamp(began)).restarts, 2);
    assert_eq!(again(&mut case, began + 100, 5), None, "that was all it asked for");
    assert_eq!(case.machine.record.end, Some(EndReason::Exited { code: 5 }));
    case.at(began + 200, Event::LogDrained { instance: 2 });
    let out = case.at(began + 210, Event::OutputDone { output: None, problem: None });
    assert!(out.contains(&Effect::Remove { container: "c2".into() }), "{out:?}");
    // The machine was its user's from the first start to the last end.
    assert_eq!(case.machine.record.served_ms, Millis(began + 100 - 12_000));
    let history = case.history();
    assert_eq!(
        history,
        [
            "started",
            "ended with exit code 3; restart 1 of 2 in 0.5 s",
            "started again",
            "ended with exit code 4; restart 2 of 2 in 1.0 s",
            "started again",
            "ended with exit code 5; given up after 2 restarts"
        ]
    );
}

#[test]
fn the_policy_says_which_ends_count() {
    for (restart, code, comes_back) in [
        (Restart::Never, 1, false),
        (Restart::OnFailure, 0, false),
        (Restart::OnFailure, 1, true),
        (Restart::Always, 0, true),
        (Restart::Always, 1, true),
    ] {
        let mut case = Case::running_with(policy(restart, None));
        assert_eq!(again(&mut case, 13_000, code).is_some(), comes_back, "{restart:?} {code}");
        assert_eq!(case.machine.record.end.is_none(), comes_back);
    }
    let mut case = Case::running_with(policy(Restart::OnFailure, None));
    case.at(13_000, Event::Exited { end: EndReason::OutOfMemory, started: None, finished: Timestamp(13_000) });
    assert_eq!(case.phase(), Phase::Restarting);
    let mut case = Case::running_with(policy(Restart::Always, None));
    case.at(13_000, Event::Vanished { at: Some(Timestamp(13_000)) });
    assert_eq!(case.machine.record.end, Some(EndReason::StoppedByProvider), "that was the provider's doing");
}

#[test]
fn pauses_grow_to_a_limit_and_a_hopeless_job_is_given_up() {
    let mut case = Case::running_with(policy(Restart::Always, None));
    case.machine.record.terms.max_duration = Millis(10_000_000);
    case.machine.record.terms.escrow = pasture_types::Amount(100_000_000);
    let (mut at, mut pauses) = (13_000, vec![]);
    while let Some(began) = again(&mut case, at, 1) {
        pauses.push(began - 25 - at);
        at = began + 10;
    }
    assert_eq!(pauses, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000, 30_000]);
    assert!(case.history().last().unwrap().contains("given up after 10 restarts, each time soon"));
    assert!(case.machine.record.upkeep.history.len() <= MAX_HISTORY);
    // A run of a minute makes up for what went before.
    let mut case = Case::running_with(policy(Restart::Always, None));
    let began = again(&mut case, 13_000, 1).unwrap();
    case.exit(began + 60_000, 1);
    assert_eq!(case.machine.record.upkeep.in_a_row, 1);
}

#[test]
fn a_stop_ends_a_job_in_any_part_of_a_restart() {
    let stop = || Event::Stop { reason: EndReason::StoppedByUser, grace: Millis(1_000), detail: String::new() };
    // In the pause: there is nothing to stop, and the output of the last instance is kept.
    let mut case = Case::running_with(policy(Restart::Always, None));
    case.exit(13_000, 1);
    let out = case.at(13_100, stop());
    assert!(out.contains(&Effect::CopyOutput { container: "c".into() }), "{out:?}");
    assert_eq!(case.machine.record.end, Some(EndReason::StoppedByUser));
    assert!(case.until(20_000).iter().all(|e| !matches!(e, Effect::Create { .. })));
    // While the next one is made: it is stopped once it runs.
    let mut case = Case::running_with(policy(Restart::Always, None));
    case.exit(13_000, 1);
    case.at(13_100, Event::LogDrained { instance: 0 });
    case.until(13_500);
    assert_eq!(case.at(13_550, stop()), [Effect::Save]);
    case.at(13_600, Event::Created { container: "c1".into() });
    let out = case.at(13_700, Event::Running { started: Timestamp(13_650) });
    assert!(out.contains(&Effect::StopContainer { container: "c1".into(), grace: Millis(1_000) }), "{out:?}");
    case.exit(13_800, 143);
    assert_eq!(case.machine.record.end, Some(EndReason::StoppedByUser));
    // The cap counts in the pause as well.
    let mut case = Case::running_with(policy(Restart::Always, None));
    case.exit(111_900, 1);
    case.until(112_001);
    assert_eq!(case.machine.record.end, Some(EndReason::CapReached));
}

#[test]
fn an_instance_that_cannot_be_made_is_a_failure_like_others() {
    let mut case = Case::running_with(policy(Restart::OnFailure, Some(2)));
    case.exit(13_000, 1);
    case.at(13_001, Event::LogDrained { instance: 0 });
    case.until(13_500);
    case.at(13_600, Event::StartFailed { detail: "no space".into() });
    assert_eq!((case.phase(), case.machine.record.upkeep.restarts), (Phase::Restarting, 2));
    case.until(14_600);
    let out = case.at(14_700, Event::StartFailed { detail: "no space".into() });
    assert_eq!(
        (case.machine.record.end.clone(), case.read(&case.machine.record.detail).as_str()),
        (Some(EndReason::StartFailed), "no space")
    );
    assert!(out.contains(&Effect::CopyOutput { container: "c".into() }), "what the first one wrote is kept: {out:?}");
}

#[test]
fn a_crash_anywhere_in_a_restart_is_taken_up() {
    let reborn = |case: &Case, now| {
        let mut again = Case::of(case.machine.record.clone(), now);
        let mut out = vec![];
        again.machine.resume(Timestamp(now), &mut out);
        again.at(now, Event::Manifest(Box::new(policy(Restart::Always, None))));
        (again, out)
    };
    let mut case = Case::running_with(policy(Restart::Always, None));
    case.exit(13_000, 1);
    let (mut case, out) = reborn(&case, 13_200);
    assert_eq!(out, [Effect::Adopt { container: "c".into() }], "for the rest of its log");
    assert_eq!(case.exit(13_210, 1), [], "that it ended is known");
    case.at(13_220, Event::LogDrained { instance: 0 });
    assert!(case.until(13_500).contains(&Effect::Create { image: "i".into(), instance: 1 }));
    // The container was made, and perhaps started: nothing but the record is known.
    case.at(13_600, Event::Created { container: "c1".into() });
    let (mut case, out) = reborn(&case, 13_700);
    assert_eq!(out, [Effect::Start { container: "c1".into() }, Effect::Retire { container: "c".into() }]);
    case.at(13_800, Event::Running { started: Timestamp(13_750) });
    assert_eq!(case.phase(), Phase::Running);
    // A late end of the first one's log is not the second one's.
    case.at(13_900, Event::LogDrained { instance: 0 });
    case.exit(14_000, 0);
    assert_eq!(case.phase(), Phase::Restarting);
    assert!(case.until(15_100).iter().all(|e| !matches!(e, Effect::Create { .. })), "its log is not complete");
}

fn probes(effects: &[Effect]) -> usize {
    effects.iter().filter(|e| matches!(e, Effect::Probe { .. })).count()
}

#[test]
fn an_unhealthy_job_is_stopped_and_started_again() {
    let mut case = Case::running_with(checked(Restart::OnFailure, 0));
    let health = |case: &Case, now| case.machine.status(Timestamp(now)).health.unwrap().state;
    assert_eq!(health(&case, 12_500), Wellness::Starting);
    assert_eq!(probes(&case.until(13_001)), 1);
    assert_eq!(probes(&case.until(14_900)), 0, "not while one is under way");
    case.at(14_900, Event::Probed { instance: 0, seen: Seen::Well("up".into()) });
    assert_eq!(health(&case, 14_900), Wellness::Healthy);
    let failing = || Event::Probed { instance: 0, seen: Seen::Failing("down".into()) };
    let mut now = 14_900;
    for n in 1..=3 {
        now += 1_000;
        assert_eq!(probes(&case.until(now)), 1);
        let out = case.at(now, failing());
        let stopped = out.contains(&Effect::StopContainer { container: "c".into(), grace: Millis(2_000) });
        assert_eq!(stopped, n == 3, "{out:?}");
        assert_eq!(health(&case, now), if n == 3 { Wellness::Unhealthy } else { Wellness::Healthy });
    }
    assert_eq!(probes(&case.until(now + 2_000)), 0);
    // The engine would not: asked again, without a grace.
    case.at(now + 2_000, Event::StopFailed);
    let out = case.until(now + 7_000);
    assert!(out.contains(&Effect::StopContainer { container: "c".into(), grace: Millis(0) }), "{out:?}");
    let began = again(&mut case, now + 7_100, 0).expect("that it ended well after the signal is no health");
    assert_eq!(health(&case, began), Wellness::Starting);
    let said = case.history();
    assert!(said.iter().any(|h| h.starts_with("stopped, since its health check failed: down; restart 1 in")), "{said:?}");
    // An answer about the instance before says nothing about this one.
    assert_eq!(case.at(began + 10, failing()), []);
}

#[test]
fn an_unhealthy_job_that_does_not_come_back_has_failed() {
    let mut case = Case::running_with(checked(Restart::Never, 0));
    for n in 1..=3 {
        case.until(12_001 + n * 1_000);
        case.at(12_001 + n * 1_000, Event::Probed { instance: 0, seen: Seen::Failing("exit code 1".into()) });
    }
    case.exit(16_000, 0);
    assert_eq!(case.machine.record.end, Some(EndReason::Exited { code: 143 }));
    assert_eq!(case.read(&case.machine.record.detail), "its health check failed: exit code 1");
    let out = case.at(16_100, Event::LogDrained { instance: 0 });
    assert_eq!(close_of(&out).unwrap().1, Some(EndReason::Exited { code: 143 }));
}

#[test]
fn early_failures_and_checks_that_cannot_be_made_do_not_count() {
    let mut case = Case::running_with(checked(Restart::OnFailure, 10_000));
    let mut now = 12_001;
    for _ in 0..8 {
        now += 1_000;
        case.until(now);
        case.at(now, Event::Probed { instance: 0, seen: Seen::Failing("down".into()) });
    }
    assert_eq!(case.machine.status(Timestamp(now)).health.unwrap().state, Wellness::Starting);
    for n in 1..=3 {
        now += 2_000;
        case.until(now);
        case.at(now, Event::Probed { instance: 0, seen: Seen::Nothing("no wget".into()) });
        case.until(now + 1_000);
        case.at(now + 1_000, Event::Probed { instance: 0, seen: Seen::Failing("down".into()) });
        assert_eq!(case.machine.record.upkeep.unhealthy.is_some(), n == 3, "{n}");
        now += 1_000;
    }
}

#[test]
fn what_a_check_saw_is_sealed_at_once_and_still_told_after_a_crash() {
    const SECRET: &str = "what the job said";
    let mut case = Case::running_with(checked(Restart::Always, 0));
    let sealed = |case: &Case| {
        let (record, status) = (serde_json::to_string(&case.machine.record).unwrap(), case.machine.status(Timestamp(20_000)));
        assert!(!record.contains(SECRET) && !serde_json::to_string(&status).unwrap().contains(SECRET), "{record}");
    };
    let mut published = vec![];
    for n in 1..=3 {
        case.until(12_001 + n * 1_000);
        let out = case.at(12_001 + n * 1_000, Event::Probed { instance: 0, seen: Seen::Failing(SECRET.into()) });
        published.push(out.contains(&Effect::Publish));
        sealed(&case);
    }
    assert_eq!(published, [true, false, true], "the same again is no news, sealed anew or not");
    assert_eq!(case.read(&case.machine.status(Timestamp(15_500)).health.unwrap().detail), SECRET);
    // The process that saw it is gone; the instance's end is seen by the next one.
    let mut after = Case::of(case.machine.record.clone(), 15_500);
    after.machine.resume(Timestamp(15_500), &mut vec![]);
    after.at(15_500, Event::Manifest(Box::new(checked(Restart::Always, 0))));
    for (case, note) in
        [(&mut case, "its health check failed: what the job said; restart 1"), (&mut after, "its health check failed; restart 1")]
    {
        case.exit(16_000, 0);
        sealed(case);
        let last = case.history().pop().unwrap();
        assert_eq!(last, "stopped, since its health check failed: what the job said; restart 1 in 0.5 s");
        assert_eq!(case.machine.note(), format!("[farm] the job stopped, since {note} in 0.5 s\n"));
    }
    case.at(16_100, Event::Stop { reason: EndReason::StoppedByUser, grace: Millis(0), detail: String::new() });
    case.at(16_200, Event::LogDrained { instance: 0 });
    case.at(16_300, Event::OutputDone { output: None, problem: None });
    assert_eq!((case.phase(), case.machine.record.upkeep.note.as_str()), (Phase::Ended, ""), "no text is clear after the end");
    // One that is not started again says so in its detail.
    let mut case = Case::running_with(checked(Restart::Never, 0));
    for n in 1..=3 {
        case.until(12_001 + n * 1_000);
        case.at(12_001 + n * 1_000, Event::Probed { instance: 0, seen: Seen::Failing(SECRET.into()) });
    }
    case.exit(16_000, 0);
    case.at(16_010, Event::OutputDone { output: None, problem: Some("no room".into()) });
    sealed(&case);
    assert_eq!(case.read(&case.machine.record.detail), "its health check failed: what the job said; no room");
}

#[test]
fn a_log_whose_rest_does_not_come_is_said_to_be_cut() {
    const CUT: &str = "the end of its log may be missing";
    let cut = |case: &Case| (case.machine.status(Timestamp(50_000)).log_cut, case.history().iter().filter(|h| h.starts_with(CUT)).count());
    // At the end of the job.
    let mut case = Case::running_with(policy(Restart::Never, None));
    case.exit(13_000, 0);
    case.at(13_100, Event::OutputDone { output: None, problem: None });
    case.until(42_999);
    assert_eq!((cut(&case), case.phase()), ((false, 0), Phase::Stopping));
    let out = case.until(43_000);
    assert_eq!((cut(&case), case.phase()), ((true, 1), Phase::Ended));
    assert!(out.contains(&Effect::Save) && out.contains(&Effect::Publish), "{out:?}");
    case.at(43_100, Event::LogDrained { instance: 0 });
    assert_eq!(cut(&case), (true, 1), "what comes now is not taken");
    // Before another instance.
    let mut case = Case::running_with(policy(Restart::Always, None));
    case.exit(13_000, 1);
    assert!(case.until(43_000).contains(&Effect::Create { image: "i".into(), instance: 1 }));
    assert_eq!(cut(&case), (true, 1));
    // The engine gave it up; what it says of another instance's log is not this one's.
    let mut case = Case::running_with(policy(Restart::Never, None));
    case.at(12_500, Event::LogCut { instance: 7 });
    assert_eq!(cut(&case), (false, 0));
    case.at(12_500, Event::LogCut { instance: 0 });
    case.at(12_500, Event::LogDrained { instance: 0 });
    case.exit(13_000, 0);
    assert_eq!(cut(&case), (true, 1));
    // All of it came.
    let mut case = Case::running_with(policy(Restart::Never, None));
    case.exit(13_000, 0);
    case.at(13_010, Event::LogDrained { instance: 0 });
    case.until(60_000);
    assert_eq!(cut(&case), (false, 0));
}
