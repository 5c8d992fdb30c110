//! How a job ends that does not end by itself.

use crate::support::{Folder, PATIENCE, Signal, paid, shared};
use pasture_types::lease::EndReason;

const TRAPS: &str = "trap 'echo asked to stop; exit 0' TERM; echo begun; while true; do sleep 0.1; done";

#[test]
fn a_signal_without_a_terminal_stops_the_job_and_prints_the_receipt() {
    for signal in [Signal::INT, Signal::TERM] {
        let user = shared().stranger();
        let folder = Folder::script("quitter", TRAPS);
        let mut running = user.start_run(&folder, &[]);
        running.shows("begun\n");
        running.signal(signal);
        let done = running.finish(PATIENCE).exits(143).says(&["quitter was stopped", "charged ", "on hold returned "]);
        assert_eq!(done.stdout, "begun\nasked to stop\n", "{}", done.all());
        let (lease, _) = user.settled();
        assert_eq!(lease.reason, Some(EndReason::StoppedByUser));
        let _ = paid(&lease);
    }
}

#[test]
fn a_job_that_ignores_the_first_signal_is_killed_after_the_grace() {
    let user = shared().stranger();
    let folder = Folder::script("stubborn", "trap '' TERM; echo begun; while true; do sleep 0.1; done");
    let _ = user.run(&folder, &["-d"]).exits(0);
    let began = std::time::Instant::now();
    let _ = user.farm(&["stop", "stubborn", "--grace", "2s"]).exits(0);
    let (lease, _) = user.settled();
    assert!(began.elapsed().as_secs() >= 2, "it was not given its time");
    assert_eq!(lease.reason, Some(EndReason::StoppedByUser));
}

#[test]
fn at_the_time_cap_a_job_gets_a_signal_and_the_user_a_reason_and_a_hint() {
    let user = shared().stranger();
    let done = user.run(&Folder::script("capped", TRAPS), &["--timeout", "6s"]).exits(124);
    let done = done.says(&["the time or money cap was reached", "farm extend", "--timeout"]);
    assert_eq!(done.stdout, "begun\nasked to stop\n", "{}", done.all());
    let (lease, _) = user.settled();
    assert_eq!(lease.reason, Some(EndReason::CapReached));
    let s = paid(&lease);
    assert!(s.billed_ms.0 <= 6_000, "more than the cap was billed: {s:?}");
}

#[test]
fn an_extension_gives_a_running_job_more_time() {
    let user = shared().stranger();
    let folder = Folder::script("longer", "echo begun; sleep 9; echo made it");
    let mut running = user.start_run(&folder, &["--timeout", "6s"]);
    running.shows("begun\n");
    let held = user.books().on_hold;
    let _ = user.farm(&["extend", "longer", "--for", "30s"]).exits(0);
    assert!(user.books().on_hold > held, "more is on hold");
    let done = running.finish(PATIENCE).exits(0);
    assert_eq!(done.stdout, "begun\nmade it\n", "{}", done.all());
    let (lease, _) = user.settled();
    assert!(paid(&lease).billed_ms.0 > 8_000, "{lease:?}");
}
