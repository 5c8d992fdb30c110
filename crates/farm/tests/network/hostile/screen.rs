//! Jobs that write to the terminal of whoever looks at them, and outputs that are larger than they are.

use crate::support::{Folder, PATIENCE, SMALL, shared};
use pasture_types::lease::EndReason;

/// Sets the title, clears the screen, asks the terminal for its answer, writes over the line, and hides what follows.
const TRICKS: &str = "printf '\\033]0;owned\\007\\033[2J\\033[6n\\233 12\\r34\\033[8m hidden'; echo; echo plain";

#[test]
fn escape_sequences_do_nothing_on_a_terminal_and_reach_a_pipe_as_they_are() {
    let user = shared().stranger();
    let folder = Folder::script("tricks", TRICKS);
    // A name that would do the same in the list of what travels.
    folder.write("\u{1b}]0;named\u{7}.bin", &"x".repeat(10_000));
    let done = user.run(&folder, &[]).exits(0);
    assert!(done.stdout.starts_with("\u{1b}]0;owned\u{7}\u{1b}[2J\u{1b}[6n"), "a pipe gets the bytes: {:?}", done.stdout);

    let args = [&["run", folder.arg()], &SMALL[..]].concat();
    let mut running = user.on_terminal(&args);
    running.shows("plain");
    let done = running.finish(PATIENCE * 2).exits(0);
    for shown in ["^[]0;owned^G^[[2J^[[6n\\x9b 12", "34^[[8m hidden", "^[]0;named^G.bin"] {
        assert!(done.stdout.contains(shown), "{shown} is missing in {:?}", done.stdout);
    }
    // Nothing but our own colours and the moving line.
    for code in ["\u{1b}]0;", "\u{1b}[6n", "\u{1b}[8m", "\u{7}", "\u{1b}[2J"] {
        assert!(!done.stdout.contains(code), "{code:?} is in {:?}", done.stdout);
    }
    // The same from the log that is kept.
    let handle = user.api(async |api| api.jobs(&user.account()).await)[0].order.id.to_string();
    let logs = user.on_terminal(&["logs", &handle]).finish(PATIENCE).exits(0);
    assert!(logs.stdout.contains("^[]0;owned^G") && !logs.stdout.contains("\u{1b}]0;"), "{:?}", logs.stdout);
    assert!(user.farm(&["logs", &handle]).exits(0).stdout.contains("\u{1b}]0;owned\u{7}"));
}

#[test]
fn an_output_of_holes_is_not_written_out_and_the_job_keeps_its_exit_code() {
    let user = shared().stranger();
    // 6 GiB of nothing in a volume of 64 MiB: its archive would have all the zeros.
    let folder =
        Folder::script("hollow", "dd if=/dev/zero of=$FARM_OUTPUT_DIR/hollow bs=1 count=1 seek=6442450944 2> /dev/null; echo made; exit 6");
    let out = user.home().join("out");
    let done = user.run(&folder, &["--out", out.to_str().unwrap()]);
    let _ = done.says(&["made", "(exit 6)", "the output is larger than", "was not kept"]);
    assert!(!out.join("hollow").exists());
    let (lease, _) = user.settled();
    assert_eq!(lease.reason, Some(EndReason::Exited { code: 6 }));
}
