//! What travels to a machine, and what comes back.

use crate::support::{Folder, paid, shared};
use pasture_types::lease::EndReason;

#[test]
fn what_a_job_leaves_comes_back_also_after_a_failure() {
    let user = shared().stranger();
    let folder = Folder::script(
        "maker",
        "mkdir -p $FARM_OUTPUT_DIR/deep/er; echo whole > $FARM_OUTPUT_DIR/a.txt; seq 20000 > $FARM_OUTPUT_DIR/deep/er/b; \
         ln -s a.txt $FARM_OUTPUT_DIR/link; exit 3",
    );
    let out = user.home().join("out");
    let _ = user.run(&folder, &["--out", out.to_str().unwrap()]).exits(3);
    assert_eq!(std::fs::read_to_string(out.join("a.txt")).unwrap(), "whole\n");
    let numbers: String = (1..=20_000).map(|n| format!("{n}\n")).collect();
    assert_eq!(std::fs::read_to_string(out.join("deep/er/b")).unwrap(), numbers);
    assert_eq!(std::fs::read_link(out.join("link")).unwrap().to_str(), Some("a.txt"));
    let (lease, _) = user.settled();
    assert_eq!(lease.reason, Some(EndReason::Exited { code: 3 }));
}

#[test]
fn a_job_that_left_nothing_is_no_failure() {
    let user = shared().stranger();
    let folder = Folder::script("idle", "echo nothing to leave");
    let out = user.home().join("out");
    let _ = user.run(&folder, &["--out", out.to_str().unwrap()]).exits(0);
    assert!(!out.exists() || std::fs::read_dir(&out).unwrap().next().is_none());
}

#[test]
fn a_job_cannot_write_outside_the_folder_that_was_named() {
    let user = shared().stranger();
    let out = user.home().join("out");
    let prize = user.home().join("prize");
    std::fs::create_dir(&prize).unwrap();
    let script =
        format!("echo fine > $FARM_OUTPUT_DIR/a; ln -s {} $FARM_OUTPUT_DIR/way-out; ln -s ../../.. $FARM_OUTPUT_DIR/up", prize.display());
    let done = user.run(&Folder::script("sneaky", &script), &["--out", out.to_str().unwrap()]);
    // Our own failure, not the job's: what was refused is named.
    let done = done.exits(125).says(&["leads out of the folder"]);
    for link in ["way-out", "up"] {
        assert!(std::fs::symlink_metadata(out.join(link)).is_err(), "{link} was made\n{}", done.all());
    }
    assert_eq!(std::fs::read_dir(&prize).unwrap().count(), 0);
    // The job itself ended well and is paid.
    let (lease, _) = user.settled();
    assert_eq!(lease.reason, Some(EndReason::Exited { code: 0 }));
}

#[test]
fn secrets_and_history_stay_at_home_and_are_named() {
    let user = shared().stranger();
    let folder = Folder::new(
        "open",
        &[
            ("Dockerfile", "FROM pasture/busybox:1\nCOPY . /sent\nCMD [\"find\", \"/sent\", \"-type\", \"f\"]\n"),
            ("src/main.txt", "source"),
            (".env", "PASSWORD=1"),
            (".git/config", "[core]"),
            (".aws/credentials", "[default]"),
            ("deploy.txt", "-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n-----END OPENSSH PRIVATE KEY-----\n"),
            ("id_ed25519", "anything"),
            ("notes/skip.log", "ignored by the user"),
            (".dockerignore", "*.log\n**/*.log\n"),
        ],
    );
    let done = user.run(&folder, &[]).exits(0).says(&["left out", ".env", ".git/", ".aws", "deploy.txt", "id_ed25519"]);
    assert!(done.stdout.contains("/sent/src/main.txt"), "{}", done.all());
    for secret in [".env", ".git", ".aws", "deploy.txt", "id_ed25519", "skip.log"] {
        assert!(!done.stdout.contains(secret), "{secret} was sent\n{}", done.all());
    }
    // Asked for by name, one of them travels.
    folder.write(".dockerignore", "!.env\n");
    let done = user.run(&folder, &[]).exits(0);
    assert!(done.stdout.contains("/sent/.env") && !done.stdout.contains("id_ed25519"), "{}", done.all());
}

#[test]
fn a_folder_over_the_limit_is_refused_before_anything_is_sent() {
    let user = shared().stranger().with_credits();
    let folder = Folder::script("huge", "true");
    // Sparse: nobody reads it.
    std::fs::File::create(folder.path().join("model.bin")).unwrap().set_len((1 << 30) + 1).unwrap();
    let before = user.books();
    let _ = user.run(&folder, &[]).exits(125).says(&["at most", "model.bin", ".dockerignore"]);
    assert_eq!(user.books(), before);
    assert_eq!(user.jobs().len(), 0);
}

#[test]
fn a_folder_without_a_dockerfile_is_told_what_to_write() {
    let user = shared().stranger();
    let _ = user.run(&Folder::new("empty", &[("readme", "")]), &[]).exits(125).says(&["no Dockerfile", "farm run IMAGE"]);
    let _ = user.farm(&["run", "./nowhere"]).exits(2).says(&["./nowhere"]);
}

#[test]
fn a_dockerfile_that_fails_shows_its_output_and_costs_nothing_within_the_allowance() {
    let user = shared().stranger().with_credits();
    let before = user.books();
    let dockerfile = "FROM pasture/busybox:1\nRUN echo working on it && echo the reason is 42 >&2 && exit 9\n";
    let folder = Folder::new("broken", &[("Dockerfile", dockerfile)]);
    let _ = user.run(&folder, &[]).exits(125).says(&["working on it", "the reason is 42", "did not start", "9"]);
    let (lease, _) = user.settled();
    assert_eq!(lease.reason, Some(EndReason::BuildFailed));
    let s = paid(&lease);
    assert_eq!((s.charged.0, s.billed_ms.0, s.billed_build_ms.0), (0, 0, 0), "{s:?}");
    let after = user.books();
    assert_eq!(after.on_hold.0, 0);
    // Nothing but the fee of the order.
    assert!(before.free.saturating_sub(after.free).0 < 10_000_000, "{before:?} {after:?}");
}
