//! The decisions about updates, event by event.

use super::super::tests::Case;
use super::*;
use crate::lease::event::Event;
use crate::lease::manifest::tests::manifest;
use pasture_types::lease::EndReason;
use pasture_types::spec::Source;
use pasture_types::{Millis, Timestamp};

fn newer() -> Manifest {
    Manifest { salt: [8; 16], source: Source::Image("newer".into()), ..manifest() }
}

fn fetched(image: Result<&str, &str>) -> Event {
    Event::UpdateFetched { manifest: newer().hash(), image: image.map(str::to_owned).map_err(str::to_owned) }
}

fn state(case: &Case) -> UpdateStage {
    case.machine.record.update.as_ref().unwrap().stage
}

/// A job whose update's image is here at 14,000.
fn replacing() -> Case {
    let mut case = Case::running_with(manifest());
    let out = case.at(13_000, Event::Update(Box::new(newer())));
    assert_eq!(out, [Effect::Save, Effect::Publish, Effect::FetchUpdate]);
    assert_eq!((case.phase(), state(&case)), (Phase::Running, UpdateStage::Fetching));
    let out = case.at(14_000, fetched(Ok("j")));
    assert_eq!(out, [Effect::Save, Effect::Publish, Effect::StopContainer { container: "c".into(), grace: manifest().grace }]);
    case
}

#[test]
fn what_runs_is_replaced_within_its_lease_and_the_time_goes_on() {
    let mut case = replacing();
    // Whatever it says at its end, and though it is never to be started again.
    case.exit(14_500, 143);
    assert_eq!((case.phase(), case.machine.record.manifest), (Phase::Restarting, None));
    let out = case.at(14_600, Event::LogDrained { instance: 0 });
    assert_eq!(
        out,
        [Effect::Save, Effect::TakeManifest(Box::new(newer())), Effect::Create { image: "j".into(), instance: 1 }],
        "recorded before it is made"
    );
    assert_eq!(case.machine.record.manifest, Some(newer().hash()));
    case.at(14_700, Event::Created { container: "c1".into() });
    case.at(14_800, Event::Running { started: Timestamp(14_750) });
    let status = case.machine.status(Timestamp(15_000));
    assert_eq!((status.phase, status.restarts, status.served_ms), (Phase::Running, 0, Millis(3_000)));
    assert_eq!(state(&case), UpdateStage::Done);
    let history = case.history();
    assert_eq!(history, ["started", "updated", "started"]);
    // The next end is the job's own.
    case.exit(16_000, 0);
    assert_eq!(case.machine.record.end, Some(EndReason::Exited { code: 0 }));
}

#[test]
fn one_that_ends_at_once_was_started_and_its_end_is_its_own() {
    let mut case = replacing();
    case.exit(14_500, 143);
    case.at(14_600, Event::LogDrained { instance: 0 });
    case.at(14_700, Event::Created { container: "c1".into() });
    case.exit(14_800, 4);
    assert_eq!((state(&case), case.machine.record.end.clone()), (UpdateStage::Done, Some(EndReason::Exited { code: 4 })));
    // One that cannot be started has failed, and its policy decides what follows.
    let mut case = replacing();
    case.exit(14_500, 143);
    case.at(14_600, Event::LogDrained { instance: 0 });
    case.at(14_700, Event::StartFailed { detail: "no such program".into() });
    assert_eq!((state(&case), case.machine.record.end.clone()), (UpdateStage::Broken, Some(EndReason::StartFailed)));
}

#[test]
fn an_image_that_cannot_be_fetched_changes_nothing() {
    let mut case = Case::running_with(manifest());
    case.at(13_000, Event::Update(Box::new(newer())));
    let out = case.at(14_000, fetched(Err("there is no such image")));
    assert_eq!(out, [Effect::Save, Effect::Publish]);
    assert_eq!((case.phase(), state(&case)), (Phase::Running, UpdateStage::Failed));
    // Another one may follow.
    let out = case.at(15_000, Event::Update(Box::new(newer())));
    assert!(out.contains(&Effect::FetchUpdate), "{out:?}");
    // Not while it is under way.
    assert_eq!(case.at(15_100, Event::Update(Box::new(manifest()))), []);
}

#[test]
fn a_stop_wins_over_an_update() {
    let stop = || Event::Stop { reason: EndReason::StoppedByUser, grace: Millis(1_000), detail: String::new() };
    let mut case = Case::running_with(manifest());
    case.at(13_000, Event::Update(Box::new(newer())));
    case.at(13_500, stop());
    assert_eq!(case.at(14_000, fetched(Ok("j"))), [], "it is being stopped");
    let mut case = replacing();
    case.at(14_100, stop());
    case.exit(14_500, 143);
    assert_eq!(case.machine.record.end, Some(EndReason::StoppedByUser));
    let mut case = replacing();
    case.exit(14_500, 143);
    case.at(14_550, stop());
    assert_eq!((case.machine.record.end.clone(), case.machine.record.manifest), (Some(EndReason::StoppedByUser), None));
}

#[test]
fn a_container_that_somebody_removed_meanwhile_is_the_providers_doing() {
    let mut case = replacing();
    case.at(14_200, Event::Vanished { at: Some(Timestamp(14_200)) });
    assert_eq!(case.machine.record.end, Some(EndReason::StoppedByProvider));
}

#[test]
fn an_engine_that_does_not_stop_it_is_asked_again() {
    let mut case = replacing();
    case.at(14_100, Event::StopFailed);
    let out = case.until(25_000);
    assert!(out.contains(&Effect::StopContainer { container: "c".into(), grace: Millis(0) }), "{out:?}");
}

#[test]
fn a_crash_at_any_moment_leaves_the_one_or_the_other() {
    let resumed = |case: &Case, coming: Option<Manifest>| {
        let mut again = Case::of(case.machine.record.clone(), 20_000);
        let mut out = vec![];
        again.machine.resume(Timestamp(20_000), &mut out);
        again.machine.resume_update(coming, Timestamp(20_000), &mut out);
        let current = if again.machine.record.manifest.is_some() { newer() } else { manifest() };
        out.extend(again.at(20_000, Event::Manifest(Box::new(current))));
        (again, out)
    };
    let mut case = Case::running_with(manifest());
    case.at(13_000, Event::Update(Box::new(newer())));
    let (_, out) = resumed(&case, Some(newer()));
    assert!(out.contains(&Effect::FetchUpdate), "{out:?}");
    let (again, _) = resumed(&case, None);
    assert_eq!((again.phase(), state(&again)), (Phase::Running, UpdateStage::Failed));

    let (mut again, out) = resumed(&replacing(), Some(newer()));
    assert!(out.contains(&Effect::Adopt { container: "c".into() }), "{out:?}");
    let out = again.at(20_100, Event::Running { started: Timestamp(12_000) });
    assert!(out.contains(&Effect::StopContainer { container: "c".into(), grace: manifest().grace }), "{out:?}");
    again.exit(20_500, 143);
    let out = again.at(20_600, Event::LogDrained { instance: 0 });
    assert!(out.contains(&Effect::Create { image: "j".into(), instance: 1 }), "{out:?}");

    // Recorded, and not made: it is made now, and is the new one.
    let mut case = replacing();
    case.exit(14_500, 143);
    case.at(14_600, Event::LogDrained { instance: 0 });
    let (mut again, out) = resumed(&case, None);
    assert_eq!(out.iter().filter(|e| matches!(e, Effect::Adopt { .. })).count(), 1, "{out:?}");
    let out = again.at(20_600, Event::LogDrained { instance: 0 });
    assert_eq!(out, [Effect::Create { image: "j".into(), instance: 1 }]);
    assert_eq!(again.machine.record.manifest, Some(newer().hash()));
}
