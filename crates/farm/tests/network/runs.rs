//! What a user sees of a job that runs, and what it costs.

use crate::support::{Folder, SMALL, paid, shared, until};
use pasture_types::event::ConfirmedBy;
use pasture_types::lease::{EndReason, LeaseState};

#[test]
fn a_run_prints_the_jobs_output_and_nothing_else_on_stdout_and_exits_with_its_code() {
    let user = shared().stranger();
    let good = Folder::script("good", "echo first; echo second; echo aside >&2");
    let done = user.run(&good, &[]).exits(0);
    assert_eq!(done.stdout, "first\nsecond\n", "{}", done.all());
    assert!(done.stderr.contains("aside"), "{}", done.all());

    let bad = Folder::script("bad", "echo about to fail; exit 7");
    let done = user.run(&bad, &[]).exits(7).says(&["✗ bad failed", "(exit 7)"]);
    assert_eq!(done.stdout, "about to fail\n");
    let (lease, _) = user.settled();
    assert_eq!(lease.reason, Some(EndReason::Exited { code: 7 }));
    // Both jobs of this user, also the failed one, are accounted for to the last nano-credit.
    for job in user.jobs() {
        until("both are settled", || user.jobs().iter().all(|j| j.lease.as_ref().is_some_and(|l| l.state == LeaseState::Closed)));
        let lease = user.api(async |api| api.lease(&job.lease.as_ref().unwrap().id).await);
        let _ = paid(&lease);
    }
    assert_eq!(user.books().on_hold.0, 0);
}

#[test]
fn before_anything_is_billed_the_user_knows_the_machine_the_price_and_the_most_it_can_cost() {
    let user = shared().stranger();
    let folder = Folder::script("priced", "echo on it");
    let done = user.run(&folder, &[]).exits(0).says(&["per hour", "at most", "local"]);
    // What travels is told as well: how much, and what is largest.
    let _ = done.says(&["2 files", "largest", "Dockerfile", "job.sh"]);
}

#[test]
fn the_receipt_has_the_promised_lines_and_its_json_is_the_ledgers_settlement() {
    let user = shared().stranger();
    let folder = Folder::script("fold", "for i in 1 2 3 4; do echo $i; sleep 1; done");
    let done = user.run(&folder, &[]).exits(0);
    let lines: Vec<&str> = done.stderr.lines().map(str::trim).collect();
    let line = |beginning: &str| {
        lines.iter().find(|l| l.starts_with(beginning)).copied().unwrap_or_else(|| panic!("no line `{beginning}`\n{}", done.all()))
    };
    let head = line("✓ fold finished in ");
    assert!(head.ends_with("s (exit 0)"), "{head}");
    let charged = line("charged ");
    assert!(charged.contains(" cr · on hold returned ") && charged.ends_with("network fee included"), "{charged}");
    let service = line("service confirmed by you");
    assert!(service.contains("capacity checked ") && (service.ends_with(" periods") || service.ends_with(" period")), "{service}");
    let _ = line("test credits, no value");
    let json = user.farm(&["receipt", "fold", "--wait", "--json"]).exits(0).json();
    let handle = json["job"].as_str().unwrap();
    // Unless it was final already, the receipt says when it will be, and where.
    match lines.iter().find(|l| l.starts_with("final in ~")) {
        Some(last) => assert!(last.ends_with(&format!(" s: farm receipt {handle}")), "{last}"),
        None => assert_eq!(user.lease().state, LeaseState::Closed),
    }
    let (lease, settlement) = user.settled();
    let s = paid(&lease);
    assert_eq!(json["settlement"], serde_json::to_value(&settlement).unwrap());
    assert_eq!(json["charged"], serde_json::to_value(s.charged).unwrap());
    assert_eq!(json["returned"], serde_json::to_value(s.refunded).unwrap());
    assert_eq!(json["final"], true);
    assert_eq!((s.confirmed_by, s.epochs_proven), (ConfirmedBy::User, s.epochs), "{s:?}");
    // Four seconds of sleep, with room for a slow machine on both sides.
    assert!((4_000..20_000).contains(&s.billed_ms.0), "{s:?}");
    assert_eq!(s.withheld.0, 0);

    let plain = user.farm(&["receipt", handle]).exits(0);
    assert!(plain.stdout.starts_with("✓ fold finished in ") && !plain.stdout.contains("final in"), "{}", plain.all());
    assert!(!plain.stdout.contains("split"), "{}", plain.all());
    let _ = user.farm(&["receipt", handle, "--details"]).exits(0).says(&["split", "provider", "network fee"]);
}

#[test]
fn the_steps_of_a_dockerfile_really_run() {
    let user = shared().stranger();
    let dockerfile = "FROM pasture/busybox:1\nARG GREETING=hello\nCOPY words.txt /w/\nRUN sort /w/words.txt | sha256sum > /w/sum\n\
        RUN echo \"$GREETING from the build\" > /w/note\nCMD [\"sh\", \"-c\", \"cat /w/note; sort /w/words.txt | sha256sum -c /w/sum\"]\n";
    let folder = Folder::new("steps", &[("Dockerfile", dockerfile), ("words.txt", "pear\napple\n")]);
    let done = user.run(&folder, &[]).exits(0);
    assert_eq!(done.stdout, "hello from the build\n-: OK\n", "{}", done.all());
}

#[test]
fn an_image_runs_with_a_command_of_the_users_and_its_variables() {
    let user = shared().stranger();
    let done =
        user.farm(&[&["run", "pasture/busybox:1", "-e", "WHO=you"], &SMALL[..], &["--", "sh", "-c", "echo it is $WHO"]].concat()).exits(0);
    assert_eq!(done.stdout, "it is you\n", "{}", done.all());
}

#[test]
fn an_image_that_exits_at_once_is_a_job_like_any_other() {
    let user = shared().stranger();
    let folder = Folder::new("brief", &[("Dockerfile", "FROM pasture/busybox:1\nCMD [\"true\"]\n")]);
    let done = user.run(&folder, &[]).exits(0).says(&["✓ brief finished"]);
    assert_eq!(done.stdout, "");
    let (lease, _) = user.settled();
    assert!(paid(&lease).billed_ms.0 < 5_000, "{lease:?}");
}

#[test]
fn without_a_terminal_there_are_plain_lines_only() {
    let user = shared().stranger();
    let folder = Folder::script("piped", "echo plain");
    let done = user.run(&folder, &[]).exits(0);
    for (name, text) in [("stdout", &done.stdout), ("stderr", &done.stderr)] {
        assert!(!text.contains('\u{1b}') && !text.contains('\r'), "{name} moves or is coloured: {text:?}");
    }
    // With --quiet there is the job's output and nothing else.
    let quiet = user.run(&folder, &["--quiet"]).exits(0);
    assert_eq!((quiet.stdout.as_str(), quiet.stderr.as_str()), ("plain\n", ""));
}

#[test]
fn a_detached_job_is_listed_shown_followed_and_stopped() {
    let user = shared().stranger();
    let folder =
        Folder::script("daemon", "trap 'echo asked to stop; exit 0' TERM; n=0; while true; do n=$((n+1)); echo line $n; sleep 0.3; done");
    let started = user.run(&folder, &["-d"]).exits(0);
    assert!(started.all().contains("daemon-"), "{}", started.all());
    // Its machine says so at once; the ledger learns of it with the first statement of service.
    let row = user.farm(&["ps"]).exits(0).says(&["daemon-", "running"]);
    let handle = row.stdout.split_whitespace().find(|w| w.starts_with("daemon-")).unwrap().to_string();
    let _ = user.farm(&["status", "daemon"]).exits(0).says(&[&handle, "running"]);
    let status = user.farm(&["status", "daemon", "--json"]).exits(0).json();
    assert!(status.to_string().contains(&user.lease().id.to_string()), "{status}");

    let mut logs = user.start(&["logs", "-f", "daemon"]);
    logs.shows("line 3\n");
    let stopped = user.farm(&["stop", "daemon"]).exits(0);
    // Following ends by itself, with all that the job had to say.
    let logs = logs.finish(crate::support::PATIENCE).exits(0);
    assert!(
        logs.stdout.starts_with("line 1\nline 2\nline 3\n") && logs.stdout.ends_with("asked to stop\n"),
        "{}\n{}",
        logs.all(),
        stopped.all()
    );
    let (lease, _) = user.settled();
    assert_eq!(lease.reason, Some(EndReason::StoppedByUser));
    let _ = paid(&lease);
    let again = user.farm(&["logs", "daemon"]).exits(0);
    assert_eq!(again.stdout, logs.stdout);
    let _ = user.farm(&["ps", "--all"]).exits(0).says(&[&handle, "stopped"]);
}

#[test]
fn every_listing_is_json_when_asked() {
    let user = shared().stranger().with_credits();
    for args in [&["account"][..], &["offers"], &["ps"], &["ledger", "head"], &["ledger", "check"], &["context", "list"]] {
        let _ = user.farm(&[args, &["--json"]].concat()).exits(0).json();
    }
    let offers = user.farm(&["offers", "--json"]).json();
    assert!(offers.to_string().contains(shared().node()), "{offers}");
    let account = user.farm(&["account", "--json"]).json();
    assert!(account.to_string().contains(&user.account().to_string()), "{account}");
}

#[test]
fn two_jobs_of_one_account_run_side_by_side() {
    let user = shared().stranger().with_credits();
    let folders = [Folder::script("left", "echo left; sleep 2"), Folder::script("right", "echo right; sleep 2")];
    let running: Vec<_> = folders.iter().map(|f| user.start_run(f, &[])).collect();
    for (job, name) in running.into_iter().zip(["left", "right"]) {
        let done = job.finish(crate::support::PATIENCE).exits(0);
        assert_eq!(done.stdout, format!("{name}\n"), "{}", done.all());
    }
}
