//! What every backend of the `Runtime` trait must do, as functions over `Arc<dyn Runtime>`, run on a real engine.
//!
//! The engine's socket comes from `FARM_TEST_ENGINE`. Images are built here from a static busybox. Each test has its own
//! owner and directory and leaves nothing in the engine but the cached base image.
//! Does not: pull from a registry, test version 2 of cgroups on a machine with version 1.

#![cfg(test)]

#[macro_use]
mod support;

use std::{
    collections::BTreeSet,
    io::Read,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt, TryStreamExt};
use pasture_runtime::{
    BuildError, EgressFilter, Exit, InstanceKey, LABEL_OWNER, LogChunk, LogCursor, LogStream, Network, Observed, PullError, Runtime,
    RuntimeError, Workload,
    docker::{DockerConfig, DockerRuntime, find_socket},
};
use support::{Bench, seconds, until};
use tokio::{
    net::{TcpListener, UnixListener},
    sync::mpsc,
    time::timeout,
};

on_an_engine!(
    probe_says_what_the_engine_is,
    exit_codes_and_signals_are_told_also_late,
    waiting_may_begin_before_the_start,
    create_is_idempotent_and_nothing_runs_twice,
    what_cannot_start_says_why,
    limits_are_exactly_those_asked,
    memory_exhaustion_is_told_from_a_kill,
    instances_have_no_privileges,
    no_network_means_loopback_only,
    an_open_network_does_not_reach_the_host,
    many_networks_at_once,
    a_creation_that_is_cut_off_is_in_no_later_ones_way,
    logs_are_exact_binary_and_followed_from_before_the_start,
    a_log_resumed_anywhere_repeats_and_loses_nothing,
    a_log_dropped_in_mid_flow_resumes,
    a_rotated_log_says_so_and_goes_on,
    stats_grow_and_end,
    commands_run_inside,
    output_comes_back_also_after_a_failure,
    the_output_volume_has_its_size,
    an_instance_goes_on_with_the_output_of_an_earlier_one,
    stopping_is_graceful_then_firm,
    list_and_sweep_find_everything,
    containers_that_only_claim_to_be_ours_are_left_alone,
    builds_are_refused_where_they_cannot_be_held,
    images_are_found_and_absent_ones_are_not,
);

#[tokio::test]
async fn an_engine_that_is_not_there_or_does_not_answer_is_told_within_seconds() {
    let dir = tempfile::tempdir().unwrap();
    let connect = |name: &str| DockerRuntime::connect(DockerConfig::new(dir.path().join(name), dir.path()));
    let absent = connect("absent.sock").await.err().unwrap();
    assert!(matches!(absent, RuntimeError::Unreachable { .. }) && absent.is_transient(), "{absent:?}");
    let _nobody = UnixListener::bind(dir.path().join("mute.sock")).unwrap();
    let begun = Instant::now();
    let mute = connect("mute.sock").await.err().unwrap();
    assert!(matches!(mute, RuntimeError::Deadline { .. }) && begun.elapsed() < seconds(8), "{mute:?}");
    let sockets = ["absent.sock", "mute.sock"].map(|name| dir.path().join(name));
    assert_eq!(find_socket(&sockets).await.as_ref(), Some(&sockets[1]));
}

async fn probe_says_what_the_engine_is(bench: Bench) {
    let capabilities = bench.rt.probe().await.unwrap();
    assert!(!capabilities.version.is_empty() && !capabilities.api.is_empty(), "{capabilities:?}");
    assert!(capabilities.cpus > 0 && capabilities.memory_bytes > 0 && [1, 2].contains(&capabilities.cgroup_version), "{capabilities:?}");
    assert!(capabilities.seccomp, "{capabilities:?}");
    // Asking twice, and at once, is harmless.
    let (a, b) = tokio::join!(bench.rt.probe(), bench.rt.probe());
    assert_eq!((a.unwrap(), b.unwrap()), (capabilities.clone(), capabilities));
}

async fn exit_codes_and_signals_are_told_also_late(bench: Bench) {
    for (script, code, signal) in
        [("exit 0", 0, None), ("exit 7", 7, None), ("kill -TERM $$; sleep 5", 143, Some(15)), ("exit 255", 255, None)]
    {
        // A process 1 ignores signals that it does not handle, so the shell that ends is a child.
        let id = bench.start(&bench.shell(&format!("sh -c '{script}'; exit $?"))).await;
        let exit = bench.rt.wait(&id).await.unwrap();
        assert_eq!((exit.code, exit.signal, exit.oom), (code, signal, false), "{script}");
        assert!(exit.started_at.unwrap() <= exit.finished_at, "{exit:?}");
        assert_eq!(bench.rt.wait(&id).await.unwrap(), exit, "asked again");
        assert_eq!(bench.rt.inspect(&id).await.unwrap(), Some(Observed::Exited(exit)));
        bench.rt.remove(&id).await.unwrap();
        assert_eq!(bench.rt.inspect(&id).await.unwrap(), None);
        assert!(matches!(bench.rt.wait(&id).await, Err(RuntimeError::NotFound { .. })));
    }
}

async fn waiting_may_begin_before_the_start(bench: Bench) {
    let id = bench.rt.create(&bench.shell("exit 3")).await.unwrap();
    assert_eq!(bench.rt.inspect(&id).await.unwrap(), Some(Observed::Created));
    let wait = bench.rt.wait(&id);
    let start = async {
        // "Created" must not look like an exit.
        assert!(timeout(Duration::from_millis(300), bench.rt.wait(&id)).await.is_err());
        bench.rt.start(&id).await.unwrap();
    };
    let (exit, ()) = tokio::join!(wait, start);
    assert_eq!(exit.unwrap().code, 3);
}

async fn create_is_idempotent_and_nothing_runs_twice(bench: Bench) {
    let mut workload = bench.shell("echo once; sleep 0.2");
    workload.network = Network::Open;
    let first = bench.rt.create(&workload).await.unwrap();
    assert_eq!(bench.rt.create(&workload).await.unwrap(), first);
    bench.rt.start(&first).await.unwrap();
    bench.rt.start(&first).await.unwrap();
    assert_eq!(bench.rt.create(&workload).await.unwrap(), first);
    bench.rt.wait(&first).await.unwrap();
    assert!(matches!(bench.rt.start(&first).await, Err(RuntimeError::AlreadyExited(_))));
    assert_eq!(bench.rt.create(&workload).await.unwrap(), first);
    assert_eq!(bench.log_text(&first).await, "once\n");
}

async fn what_cannot_start_says_why(bench: Bench) {
    for (command, expected) in [("/no/such/program", 127), ("/etc", 126)] {
        let mut workload = bench.shell("");
        workload.command = vec![command.into()];
        workload.args.clear();
        let id = bench.rt.create(&workload).await.unwrap();
        let error = bench.rt.start(&id).await.unwrap_err();
        assert!(error.is_workload_fault() && !error.is_transient(), "{error:?}");
        assert!(matches!(error, RuntimeError::StartFailed { code, .. } if code == expected), "{command}: {error:?}");
        assert!(matches!(bench.rt.wait(&id).await, Err(RuntimeError::StartFailed { .. })), "waiting does not hang");
        bench.rt.remove(&id).await.unwrap();
    }
    let mut workload = bench.shell("true");
    workload.image = "pasture-test/no-such-image:1".into();
    assert!(matches!(bench.rt.create(&workload).await, Err(RuntimeError::NotFound { what: "image", .. })));
    assert_eq!(bench.rt.list(&bench.owner).await.unwrap(), []);
    workload.limits.pids = 0;
    assert!(matches!(bench.rt.create(&workload).await, Err(RuntimeError::Invalid { field: "pids", .. })));
}

async fn limits_are_exactly_those_asked(bench: Bench) {
    let script = "cd /sys/fs/cgroup; if [ -e memory.max ]; then cat memory.max memory.swap.max cpu.max pids.max cpuset.cpus;
        else cat memory/memory.limit_in_bytes; echo 0; echo $(cat cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us);
        cat pids/pids.max cpuset/cpuset.cpus; fi;
        sleep 30 & for i in 1 2 3 4 5 6 7 8 9; do sleep 30 & done 2>&1; echo survived";
    let mut workload = bench.shell(script);
    workload.limits.cpu_millis = 350;
    workload.limits.memory_bytes = 33 << 20;
    workload.limits.pids = 6;
    workload.limits.cpuset = Some("0".into());
    let id = bench.start(&workload).await;
    bench.rt.wait(&id).await.unwrap();
    let log = bench.log_text(&id).await;
    assert!(log.starts_with(&format!("{}\n0\n35000 100000\n6\n0\n", 33 << 20)), "{log}");
    assert!(log.contains("can't fork") && !log.contains("survived"), "{log}");
}

async fn memory_exhaustion_is_told_from_a_kill(bench: Bench) {
    if !bench.rt.probe().await.unwrap().reports_oom {
        return;
    }
    for _ in 0..5 {
        let mut workload = bench.shell("a=x; while true; do a=$a$a; done");
        workload.limits.memory_bytes = 16 << 20;
        let id = bench.start(&workload).await;
        let exit = bench.rt.wait(&id).await.unwrap();
        assert_eq!((exit.code, exit.signal, exit.oom), (137, Some(9), true));
        bench.rt.remove(&id).await.unwrap();
    }
    let id = bench.start(&bench.shell("sleep 60")).await;
    bench.rt.kill(&id).await.unwrap();
    let exit = bench.rt.wait(&id).await.unwrap();
    assert_eq!((exit.code, exit.oom), (137, false));
    bench.rt.kill(&id).await.unwrap();
}

async fn instances_have_no_privileges(bench: Bench) {
    let script = "grep -E 'CapEff|CapBnd|NoNewPrivs|Seccomp:' /proc/self/status; touch /x || echo read-only; touch /tmp/x && echo tmp;
        unshare -m true || echo no-unshare; mount -t tmpfs x /tmp || echo no-mount; echo $FARM_OUTPUT_DIR; touch $FARM_OUTPUT_DIR/x && echo out";
    let mut workload = bench.shell(script);
    workload.read_only_root = true;
    workload.output_dir = Some("/out".into());
    let id = bench.start(&workload).await;
    assert_eq!(bench.rt.wait(&id).await.unwrap().code, 0);
    let log = bench.log_text(&id).await;
    for line in [
        "CapEff:\t0000000000000000",
        "CapBnd:\t0000000000000000",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
        "read-only",
        "tmp",
        "no-unshare",
        "no-mount",
        "/out",
        "out",
    ] {
        assert!(log.lines().any(|found| found == line), "{line} missing in\n{log}");
    }
}

async fn no_network_means_loopback_only(bench: Bench) {
    let id = bench.start(&bench.shell("ls /sys/class/net; cat /proc/net/route")).await;
    bench.rt.wait(&id).await.unwrap();
    let log = bench.log_text(&id).await;
    assert_eq!(log.lines().next(), Some("lo"), "{log}");
    assert_eq!(log.lines().count(), 2, "only the heading of the routes: {log}");
}

async fn an_open_network_does_not_reach_the_host(bench: Bench) {
    let capabilities = bench.rt.probe().await.unwrap();
    if let EgressFilter::NotEnforced(why) = &capabilities.egress_filter {
        eprintln!("not tested: {why}");
        return;
    }
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    // The gateway is the host's own address on the instance's network.
    let script = format!(
        "set -- $(awk '$2 == \"00000000\" {{ print $3 }}' /proc/net/route); g=$1;
         ip=$((0x${{g#??????}})).$((0x$(echo $g | cut -c5-6))).$((0x$(echo $g | cut -c3-4))).$((0x$(echo $g | cut -c1-2)));
         echo gateway $ip; nc -w 3 $ip {port} </dev/null && echo reached
         for a in 10.0.0.1 169.254.169.254 192.168.0.1; do for n in 1 2 3 4 5 6 7 8 9 10; do
         nc -w 2 $a 443 </dev/null 2>&1 | grep refused && break; done; done; echo done"
    );
    let mut workload = bench.shell(&script);
    workload.network = Network::Open;
    let id = bench.start(&workload).await;
    let accepted = tokio::select! {
        accepted = listener.accept() => Some(accepted.unwrap().1),
        exit = bench.rt.wait(&id) => { exit.unwrap(); None }
    };
    assert_eq!(accepted, None, "the instance reached the host");
    let log = bench.log_text(&id).await;
    assert!(log.contains("gateway 10.213.") && log.contains("done") && !log.contains("reached"), "{log}");
    // A moment of silence is possible while the engine changes its own rules, but not ten times.
    assert_eq!(log.matches("Connection refused").count(), 4, "host and private ranges are refused, not just silent: {log}");
    // The same script on a network without the filter does reach it, or the above proves nothing.
    let reached = bench.on_default_network(&script, async { timeout(seconds(20), listener.accept()).await.is_ok() }).await;
    assert!(reached, "the host cannot be reached even without the filter");
}

async fn many_networks_at_once(bench: Bench) {
    // More than Docker's own address pools hold. Podman's hold more than can be tried here, and it is slow at this.
    let count = if bench.rt.probe().await.unwrap().engine.contains("Podman") { 4 } else { 36 };
    let mut workload = bench.shell("true");
    workload.network = Network::Open;
    for n in 0..count {
        workload.instance_key = InstanceKey::parse(&format!("net-{n}")).unwrap();
        bench.rt.create(&workload).await.unwrap();
    }
    assert_eq!(bench.engine_networks().await.len(), count);
    let swept = bench.rt.sweep(&bench.owner, &BTreeSet::new()).await.unwrap();
    assert_eq!(swept.instances.len(), count);
    assert_eq!(bench.engine_networks().await, Vec::<String>::new());
}

async fn a_creation_that_is_cut_off_is_in_no_later_ones_way(bench: Bench) {
    let mut workload = bench.shell("true");
    workload.network = Network::Open;
    for cut_ms in (0..120).step_by(6) {
        // The engine goes on with what it was asked for, beside what comes next.
        let _ = timeout(Duration::from_millis(cut_ms), bench.rt.create(&workload)).await;
        bench.rt.create(&workload).await.unwrap_or_else(|error| panic!("after {cut_ms} ms: {error}"));
        let swept = bench.rt.sweep(&bench.owner, &BTreeSet::new()).await.unwrap();
        assert_eq!(swept.instances.len(), 1, "after {cut_ms} ms");
    }
    assert_eq!(bench.engine_networks().await, Vec::<String>::new());
}

/// Writes random bytes, a long line, lines, and errors; then their digests.
const CHATTER: &str = "dd if=/dev/urandom of=/tmp/r bs=4k count=300 2>/dev/null; cat /tmp/r; echo; echo err1 >&2;
    i=0; while [ $i -lt 3000 ]; do echo line $i; [ $((i % 100)) = 0 ] && echo err $i >&2; i=$((i+1)); done; md5sum </tmp/r >&2";

fn joined(chunks: &[LogChunk], stream: LogStream) -> Vec<u8> {
    chunks.iter().filter(|chunk| chunk.stream == stream).flat_map(|chunk| chunk.bytes.to_vec()).collect()
}

/// Checks what `CHATTER` said.
fn check_chatter(chunks: &[LogChunk]) {
    let out = joined(chunks, LogStream::Stdout);
    let err = String::from_utf8(joined(chunks, LogStream::Stderr)).unwrap();
    let (random, rest) = out.split_at(300 * 4096);
    let lines: String = (0..3000).map(|n| format!("line {n}\n")).collect();
    assert_eq!(String::from_utf8_lossy(rest), format!("\n{lines}"));
    let errors: String = (0..30).map(|n| format!("err {}\n", n * 100)).collect();
    assert_eq!(err, format!("err1\n{errors}{}  -\n", support::md5(random)));
    assert!(chunks.iter().all(|chunk| !chunk.lost_before));
}

async fn collect(rt: &Arc<dyn Runtime>, id: &pasture_runtime::InstanceId, from: LogCursor) -> Vec<LogChunk> {
    rt.logs(id, from).try_collect().await.unwrap()
}

async fn logs_are_exact_binary_and_followed_from_before_the_start(bench: Bench) {
    if bench.rt.probe().await.unwrap().log_driver != "local" {
        eprintln!("not tested: the engine's log driver does not keep bytes");
        return;
    }
    let id = bench.rt.create(&bench.shell(CHATTER)).await.unwrap();
    let follower = collect(&bench.rt, &id, LogCursor::default());
    let (followed, ()) = tokio::join!(follower, async { bench.rt.start(&id).await.unwrap() });
    check_chatter(&followed);
    let afterwards = collect(&bench.rt, &id, LogCursor::default()).await;
    assert_eq!(followed, afterwards, "read after the end");
}

async fn a_log_resumed_anywhere_repeats_and_loses_nothing(bench: Bench) {
    let id = bench.start(&bench.shell(CHATTER)).await;
    bench.rt.wait(&id).await.unwrap();
    let whole = collect(&bench.rt, &id, LogCursor::default()).await;
    for at in [0, 1, 74, 75, 76, 77, 500, whole.len() - 2, whole.len() - 1] {
        // As another process would: from what was stored.
        let stored = serde_json::to_string(&whole[at].cursor).unwrap();
        let rest = collect(&bench.rt, &id, serde_json::from_str(&stored).unwrap()).await;
        assert_eq!(rest, whole[at + 1..], "resumed after entry {at}");
    }
}

async fn a_log_dropped_in_mid_flow_resumes(bench: Bench) {
    // Slow enough to be followed live, in bursts so that entries wait when the follower is cut off.
    let script = "i=0; while [ $i -lt 4000 ]; do echo line $i; echo err $i >&2; i=$((i+1)); [ $((i % 400)) = 0 ] && sleep 0.1; done";
    let id = bench.start(&bench.shell(script)).await;
    let (mut got, mut cursor, mut pieces) = (Vec::new(), LogCursor::default(), 0);
    loop {
        let part: Vec<LogChunk> = bench.rt.logs(&id, cursor.clone()).take(97 + pieces * 13).try_collect().await.unwrap();
        let Some(last) = part.last() else { break };
        cursor = last.cursor.clone();
        got.extend(part);
        pieces += 1;
    }
    let text = |stream| String::from_utf8(joined(&got, stream)).unwrap();
    assert_eq!(text(LogStream::Stdout), (0..4000).map(|n| format!("line {n}\n")).collect::<String>());
    assert_eq!(text(LogStream::Stderr), (0..4000).map(|n| format!("err {n}\n")).collect::<String>());
    assert!(pieces > 10 && got.iter().all(|chunk| !chunk.lost_before), "{pieces} pieces");
}

async fn a_rotated_log_says_so_and_goes_on(bench: Bench) {
    let bench = bench.with_log_bytes(64 << 10).await;
    // Talks on once the first line was read.
    let script = "echo first; until [ -e /tmp/go ]; do sleep 0.1; done; i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done; sleep 1; echo end";
    let id = bench.start(&bench.shell(script)).await;
    let early: Vec<LogChunk> = bench.rt.logs(&id, LogCursor::default()).take(1).try_collect().await.unwrap();
    assert_eq!(&early[0].bytes[..], b"first\n");
    bench.rt.exec(&id, vec!["touch".into(), "/tmp/go".into()], seconds(20)).await.unwrap();
    bench.rt.wait(&id).await.unwrap();
    let rest = collect(&bench.rt, &id, early[0].cursor.clone()).await;
    assert!(rest[0].lost_before, "the gap is told");
    assert_eq!(rest.iter().filter(|chunk| chunk.lost_before).count(), 1);
    assert_eq!(&rest.last().unwrap().bytes[..], b"end\n");
    let near_end = &rest[rest.len() - 3];
    let again = collect(&bench.rt, &id, near_end.cursor.clone()).await;
    assert_eq!(again, rest[rest.len() - 2..]);
}

async fn stats_grow_and_end(bench: Bench) {
    let id = bench.start(&bench.shell("i=0; while [ $i -lt 400000 ]; do i=$((i+1)); done; sleep 2; exit 4")).await;
    let samples: Vec<_> =
        timeout(seconds(60), bench.rt.stats(&id).try_collect()).await.expect("the stream ends with the instance").unwrap();
    assert!(samples.len() >= 2, "{samples:?}");
    assert!(samples.windows(2).all(|pair| pair[0].cpu_ns <= pair[1].cpu_ns && pair[0].at < pair[1].at), "{samples:?}");
    let last = samples.last().unwrap();
    assert!(last.cpu_ns > 100_000_000 && last.memory_bytes > 0 && last.memory_bytes < 64 << 20 && last.pids >= 1, "{last:?}");
    assert!(timeout(seconds(20), bench.rt.stats(&id).try_collect::<Vec<_>>()).await.unwrap().unwrap().is_empty(), "nothing after the exit");
}

async fn commands_run_inside(bench: Bench) {
    let id = bench.start(&bench.shell("sleep 60")).await;
    let run = |script: &str, limit| bench.rt.exec(&id, vec!["sh".into(), "-c".into(), script.into()], limit);
    let output = run("echo out; echo err >&2; exit 7", seconds(20)).await.unwrap();
    assert_eq!((output.code, &output.stdout[..], &output.stderr[..], output.truncated), (7, &b"out\n"[..], &b"err\n"[..], false));
    let flood = run("dd if=/dev/zero bs=1k count=1100 2>/dev/null", seconds(30)).await.unwrap();
    assert_eq!((flood.code, flood.stdout.len(), flood.truncated), (0, pasture_runtime::MAX_EXEC_OUTPUT_BYTES, true));
    let late = run("exec sleep 4321", Duration::from_millis(500)).await;
    assert!(matches!(late, Err(RuntimeError::Deadline { .. })), "{late:?}");
    until("the late command is gone", || async { !support::command_lines().contains("sleep 4321") }).await;
    bench.rt.kill(&id).await.unwrap();
    assert!(matches!(run("true", seconds(5)).await, Err(RuntimeError::Conflict(_))));
    bench.rt.remove(&id).await.unwrap();
    assert!(matches!(run("true", seconds(5)).await, Err(RuntimeError::NotFound { .. })));
}

async fn output_comes_back_also_after_a_failure(bench: Bench) {
    let mut workload = bench.shell("mkdir $FARM_OUTPUT_DIR/d; echo result >$FARM_OUTPUT_DIR/d/f; sleep 1; exit 9");
    workload.output_dir = Some("/var/out".into());
    workload.limits.disk_bytes = 8 << 20;
    let id = bench.start(&workload).await;
    let tar = bench.dir.path().join("out.tar");
    until("the file is there while it runs", || async {
        matches!(bench.rt.copy_out(&id, "/var/out/d/f", &tar, 1 << 20).await, Ok(size) if size > 0)
    })
    .await;
    assert_eq!(bench.rt.wait(&id).await.unwrap().code, 9);
    let size = bench.rt.copy_out(&id, "/var/out", &tar, 1 << 20).await.unwrap();
    assert_eq!(std::fs::metadata(&tar).unwrap().len(), size);
    let mut files = Vec::new();
    for entry in tar::Archive::new(std::fs::File::open(&tar).unwrap()).entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        files.push((entry.path().unwrap().display().to_string(), text));
    }
    files.sort();
    let expected = [("out/", ""), ("out/d/", ""), ("out/d/f", "result\n")].map(|(name, text)| (name.to_owned(), text.to_owned()));
    assert_eq!(files, expected, "nothing else lies in a fresh volume");
    let error = bench.rt.copy_out(&id, "/var/out", &tar, 1024).await.unwrap_err();
    assert!(matches!(error, RuntimeError::TooLarge { limit_bytes: 1024 }));
    assert!(!tar.exists(), "no half archive");
    assert!(matches!(bench.rt.copy_out(&id, "/nowhere", &tar, 1024).await, Err(RuntimeError::NotFound { what: "path", .. })));
}

async fn the_output_volume_has_its_size(bench: Bench) {
    if !bench.rt.probe().await.unwrap().can_limit_disk {
        eprintln!("not tested: no permission to mount");
        return;
    }
    let mut workload = bench.shell("dd if=/dev/zero of=$FARM_OUTPUT_DIR/f bs=64k count=1000; wc -c <$FARM_OUTPUT_DIR/f");
    workload.output_dir = Some("/out".into());
    workload.limits.disk_bytes = 8 << 20;
    workload.read_only_root = true;
    let id = bench.start(&workload).await;
    bench.rt.wait(&id).await.unwrap();
    let log = bench.log_text(&id).await;
    assert!(log.contains("No space left on device"), "{log}");
    let written: u64 = log.lines().filter_map(|line| line.trim().parse().ok()).next_back().unwrap();
    assert!((6 << 20..8 << 20).contains(&written), "{written} bytes written");
    assert_eq!(bench.mounts().len(), 1);
    bench.rt.remove(&id).await.unwrap();
    assert_eq!(bench.mounts(), Vec::<String>::new());
    assert_eq!(bench.volume_files(), Vec::<String>::new());
}

async fn an_instance_goes_on_with_the_output_of_an_earlier_one(bench: Bench) {
    // With a size (a file system of its own, where we may mount) and without (the engine's volume).
    for disk_bytes in [8 << 20, 0] {
        let append = "echo line >>$FARM_OUTPUT_DIR/f; wc -l <$FARM_OUTPUT_DIR/f";
        let next = |first: Option<&Workload>| {
            let mut workload = bench.shell(append);
            workload.output_dir = Some("/out".into());
            workload.output_of = first.map(|w| w.instance_key.clone());
            workload.limits.disk_bytes = disk_bytes;
            workload
        };
        let first = next(None);
        let mut before = bench.start(&first).await;
        bench.rt.wait(&before).await.unwrap();
        for count in ["2", "3"] {
            let following = next(Some(&first));
            let id = bench.rt.create(&following).await.unwrap();
            bench.rt.retire(&before).await.unwrap();
            bench.rt.retire(&before).await.unwrap();
            bench.rt.start(&id).await.unwrap();
            bench.rt.wait(&id).await.unwrap();
            assert_eq!(bench.log_text(&id).await.trim(), count);
            // What sweeps up keeps the output for as long as its key is wanted.
            let keep = BTreeSet::from([first.instance_key.clone(), following.instance_key.clone()]);
            assert_eq!(bench.rt.sweep(&bench.owner, &keep).await.unwrap().volumes, 0);
            before = id;
        }
        let tar = bench.dir.path().join("out.tar");
        assert!(bench.rt.copy_out(&before, "/out/f", &tar, 1 << 20).await.unwrap() > 0);
        bench.rt.remove(&before).await.unwrap();
        assert_eq!(bench.mounts(), Vec::<String>::new());
        assert_eq!(bench.volume_files(), Vec::<String>::new());
        assert_eq!(bench.rt.sweep(&bench.owner, &BTreeSet::new()).await.unwrap().volumes, 0, "the engine's volume is gone as well");
    }
}

async fn stopping_is_graceful_then_firm(bench: Bench) {
    let polite = bench.start(&bench.shell("trap 'echo bye; exit 5' TERM; echo up; while true; do sleep 0.1; done")).await;
    bench.wait_for_log(&polite, "up").await;
    bench.rt.stop(&polite, seconds(20)).await.unwrap();
    let Exit { code, oom, .. } = bench.rt.wait(&polite).await.unwrap();
    assert_eq!((code, oom), (5, false));
    assert_eq!(bench.log_text(&polite).await, "up\nbye\n");
    let deaf = bench.start(&bench.shell("trap '' TERM; echo up; while true; do sleep 0.1; done")).await;
    bench.wait_for_log(&deaf, "up").await;
    bench.rt.stop(&deaf, seconds(1)).await.unwrap();
    assert_eq!(bench.rt.wait(&deaf).await.unwrap().code, 137);
    // Harmless on what is not running or not there.
    bench.rt.stop(&deaf, seconds(1)).await.unwrap();
    bench.rt.remove(&deaf).await.unwrap();
    bench.rt.stop(&deaf, seconds(1)).await.unwrap();
    bench.rt.kill(&deaf).await.unwrap();
    bench.rt.remove(&deaf).await.unwrap();
}

async fn list_and_sweep_find_everything(bench: Bench) {
    let mut keep = bench.shell("sleep 60");
    keep.labels.insert("my.label".into(), "x".into());
    keep.output_dir = Some("/out".into());
    keep.limits.disk_bytes = 4 << 20;
    let kept = bench.start(&keep).await;
    let mut drop = bench.shell("sleep 60");
    drop.network = Network::Open;
    drop.output_dir = Some("/out".into());
    drop.limits.disk_bytes = 4 << 20;
    bench.start(&drop).await;
    let done = bench.start(&bench.shell("exit 6")).await;
    bench.rt.wait(&done).await.unwrap();
    let mut plain = bench.shell("true");
    plain.output_dir = Some("/out".into());
    plain.limits.disk_bytes = 0;
    bench.rt.create(&plain).await.unwrap();

    let listed = bench.rt.list(&bench.owner).await.unwrap();
    assert_eq!(listed.len(), 4);
    let find = |key: &InstanceKey| listed.iter().find(|one| one.instance_key == *key).unwrap();
    assert_eq!((&find(&keep.instance_key).id, &find(&keep.instance_key).labels["my.label"][..]), (&kept, "x"));
    assert_eq!(find(&keep.instance_key).labels[LABEL_OWNER], bench.owner.as_str());
    assert!(matches!(find(&keep.instance_key).state, Observed::Running { .. }));
    assert_eq!(find(&plain.instance_key).state, Observed::Created);
    assert!(listed.iter().any(|one| one.id == done && matches!(&one.state, Observed::Exited(exit) if exit.code == 6)));

    let swept = bench.rt.sweep(&bench.owner, &BTreeSet::from([keep.instance_key.clone()])).await.unwrap();
    assert_eq!(swept.instances.len(), 3);
    let left = bench.rt.list(&bench.owner).await.unwrap();
    assert_eq!(left.iter().map(|one| &one.id).collect::<Vec<_>>(), [&kept]);
    assert_eq!(bench.engine_networks().await, Vec::<String>::new());
    assert_eq!(bench.engine_volumes().await, Vec::<String>::new());
    let limited = bench.rt.probe().await.unwrap().can_limit_disk;
    assert_eq!(bench.mounts().len(), usize::from(limited), "only the kept one's");
    bench.rt.remove(&kept).await.unwrap();
    assert_eq!(bench.rt.list(&bench.owner).await.unwrap(), []);
    assert_eq!(bench.mounts(), Vec::<String>::new());
    assert_eq!(bench.engine_volumes().await, Vec::<String>::new());
}

async fn containers_that_only_claim_to_be_ours_are_left_alone(bench: Bench) {
    // As a container does whose image was given our labels by its author.
    let stranger = bench.container_with_our_labels().await;
    assert_eq!(bench.rt.list(&bench.owner).await.unwrap(), []);
    assert_eq!(bench.rt.inspect(&stranger).await.unwrap(), None);
    assert!(matches!(bench.rt.start(&stranger).await, Err(RuntimeError::NotFound { .. })));
    assert_eq!(bench.rt.sweep(&bench.owner, &BTreeSet::new()).await.unwrap().instances, []);
    bench.rt.remove(&stranger).await.unwrap();
    assert!(bench.remove_container(&stranger).await, "it was still there");
}

async fn builds_are_refused_where_they_cannot_be_held(bench: Bench) {
    // Where they can be, `builds.rs` has the tests.
    if bench.rt.probe().await.unwrap().can_build {
        return;
    }
    let request = bench.build_request(&format!("FROM {}\nRUN true\n", bench.base), &[]);
    match bench.build(request).await.0 {
        Err(BuildError::Runtime(RuntimeError::Conflict(why))) => assert!(why.contains("builds none"), "{why}"),
        other => panic!("{other:?}"),
    }
}

async fn images_are_found_and_absent_ones_are_not(bench: Bench) {
    let image = bench.rt.image(&bench.base).await.unwrap().unwrap();
    assert!(image.id.starts_with("sha256:") && image.size_bytes > 500_000 && image.os == "linux", "{image:?}");
    assert_eq!(bench.rt.image(&image.id).await.unwrap().as_ref(), Some(&image));
    assert_eq!(bench.rt.image("pasture-test/absent:1").await.unwrap(), None);
    bench.rt.remove_image("pasture-test/absent:1").await.unwrap();
    assert!(matches!(bench.rt.image("../containers/json").await, Err(RuntimeError::Invalid { .. })));
    let (progress, _told) = mpsc::channel(16);
    let error = bench.rt.pull("registry.invalid/absent:1", progress.clone()).await.unwrap_err();
    assert!(matches!(error, PullError::Registry { .. }), "{error:?}");
    // The engine would ask this from the host's own network.
    for inside in ["127.0.0.1:1/absent:1", "localhost:1/absent:1", "169.254.169.254/absent:1"] {
        let error = bench.rt.pull(inside, progress.clone()).await.unwrap_err();
        assert!(matches!(error, PullError::Runtime(RuntimeError::Invalid { field: "image", .. })), "{error:?}");
    }
}
