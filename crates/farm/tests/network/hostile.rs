//! Hostile tenants: real jobs that take all they can get, reach for what is not theirs, and lie about what they are.
//!
//! Each test says what such a job sees, how it ends, and that neither the node nor a neighbour notices. Everything is bounded:
//! in bytes by the job's own limits, in seconds by the attack itself. What a single crate promises of this (packet filter,
//! cgroups, unpacking) is tested there in more depth.

mod builds;
mod contained;
mod floods;
mod screen;

use crate::support::{Folder, Net, PATIENCE, User, eventually, paid};
use pasture_types::lease::EndReason;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

/// How often a neighbour gives a sign of life.
const BEAT_EVERY_MS: u64 = 100;
/// Longest that it may be silent. Its share of a core is a fifth, the machine has few, and the tests share them.
const MOST_SILENCE_MS: u64 = 2_500;
/// Of all beats there could have been, how many there must be at least, in percent: starting `sleep` takes its time as well.
const FEWEST_BEATS_PERCENT: u64 = 40;

/// A job that does what it should, beside those that do not.
struct Neighbour {
    user: User,
}

impl Neighbour {
    #[track_caller]
    fn move_in(net: &Net) -> Self {
        let user = net.stranger();
        let folder =
            Folder::script("neighbour", "trap 'exit 0' TERM; while true; do read t _ < /proc/uptime; echo beat $t; sleep 0.1; done");
        let _ = user.run(&folder, &["-d"]).exits(0);
        let this = Self { user };
        let _ = eventually("the neighbour's first sign of life", PATIENCE, || this.beats().first().copied());
        this
    }

    /// Its signs of life, in milliseconds of the machine's own clock.
    fn beats(&self) -> Vec<u64> {
        let log = self.user.farm(&["logs", "neighbour"]).exits(0).stdout;
        let seconds = log.lines().filter_map(|line| line.strip_prefix("beat ")?.parse::<f64>().ok());
        seconds.map(|s| (s * 1000.0) as u64).collect()
    }

    /// It moves out, and has noticed nothing; nor has the node.
    #[track_caller]
    fn has_noticed_nothing(self) {
        let _ = self.user.farm(&["stop", "neighbour"]).exits(0);
        let (lease, _) = self.user.settled();
        assert_eq!(lease.reason, Some(EndReason::StoppedByUser));
        let s = paid(&lease);
        assert_eq!(s.epochs_proven, s.epochs, "the node missed a capacity check: {s:?}");
        let beats = self.beats();
        let (first, last) = (beats.first().unwrap(), beats.last().unwrap());
        let silence = beats.windows(2).map(|w| w[1] - w[0]).max().unwrap_or(0);
        let possible = (last - first) / BEAT_EVERY_MS;
        eprintln!("the neighbour was silent for at most {silence} ms, {} beats of {possible}", beats.len());
        assert!(silence <= MOST_SILENCE_MS, "the neighbour was silent for {silence} ms");
        assert!(beats.len() as u64 * 100 >= possible * FEWEST_BEATS_PERCENT, "{} beats of {possible}", beats.len());
    }
}

/// The program of attacks that need more than a shell, compiled once for all tests: static, so that it runs in any image.
fn attacks() -> &'static Path {
    static PROGRAM: OnceLock<std::path::PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/network/hostile/attacks.c");
        let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("attacks-{}", std::process::id()));
        let made = Command::new("cc").args(["-static", "-O1", "-Wall", "-Werror", "-o"]).arg(&program).arg(&source).output();
        let made = made.expect("a C compiler: scripts/setup.sh installs one");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        program
    })
}

/// A folder whose image has the program of attacks at `/attacks`, set-user-id.
fn armed(name: &str, rest: &str) -> Folder {
    let dockerfile = format!("FROM pasture/busybox:1\nCOPY attacks /attacks\nRUN chmod 4755 /attacks\n{rest}\n");
    let folder = Folder::new(name, &[("Dockerfile", &dockerfile)]);
    std::fs::copy(attacks(), folder.path().join("attacks")).unwrap();
    folder
}
