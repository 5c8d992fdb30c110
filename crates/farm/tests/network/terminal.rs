//! What a person at a terminal is asked, and what the answers do.

use crate::support::{Folder, PATIENCE, Running, SMALL, User, paid, shared};
use pasture_types::lease::EndReason;

const CTRL_C: &str = "\x03";
const QUESTION: &str = "[s]top [d]etach [c]ontinue?";
const COUNTS: &str = "trap 'echo asked to stop; exit 0' TERM; n=0; while true; do n=$((n+1)); echo line $n; sleep 0.2; done";

fn run(user: &User, name: &str) -> Running {
    let folder = Folder::script(name, COUNTS);
    let mut running = user.on_terminal(&[&["run", folder.arg()], &SMALL[..]].concat());
    // The folder has been packed by the time that its job speaks.
    running.shows("line 2");
    running
}

/// Waits for a number of questions.
fn asked(running: &mut Running, times: usize) {
    crate::support::until("the question is on the screen", || running.stdout().matches(QUESTION).count() >= times);
}

#[test]
fn ctrl_c_asks_with_the_price_and_a_job_that_goes_on_can_be_detached() {
    let user = shared().stranger();
    let mut running = run(&user, "kept");
    running.type_in(CTRL_C);
    asked(&mut running, 1);
    assert!(running.stdout().contains("kept") && running.stdout().contains("per hour: [s]top"), "{}", running.stdout());
    running.type_in("c\n");
    // Nothing of the log is lost while the question stands.
    running.shows("line 12");
    running.type_in(CTRL_C);
    asked(&mut running, 2);
    running.type_in("d\n");
    let done = running.finish(PATIENCE).exits(0).says(&["runs on at", "farm logs -f kept"]);
    for n in 1..=12 {
        // A terminal ends lines with both.
        assert_eq!(done.stdout.matches(&format!("line {n}\r\n")).count(), 1, "{n}: {}", done.stdout);
    }
    let _ = user.farm(&["ps"]).exits(0).says(&["kept-", "running"]);
    let _ = user.farm(&["stop", "kept"]).exits(0);
    let _ = user.settled();
}

#[test]
fn stop_stops_and_so_does_a_second_ctrl_c() {
    for answer in ["s\n", CTRL_C] {
        let user = shared().stranger();
        let mut running = run(&user, "halted");
        running.type_in(CTRL_C);
        asked(&mut running, 1);
        running.type_in(answer);
        let _ = running.finish(PATIENCE).exits(143).says(&["asked to stop", "halted was stopped", "on hold returned "]);
        let (lease, _) = user.settled();
        assert_eq!(lease.reason, Some(EndReason::StoppedByUser));
        let _ = paid(&lease);
    }
}
