//! What a job may use, and what happens to one that wants more.

use crate::support::{Done, Folder, Net, Options, PATIENCE, SMALL, User, cpu_ticks, eventually, paid, shared, until};
use pasture_types::lease::EndReason;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

#[test]
fn a_container_has_exactly_the_limits_that_were_asked_and_no_privileges() {
    let (net, user) = (shared(), shared().stranger());
    let folder = Folder::script("bounded", "trap 'exit 0' TERM; while true; do sleep 0.1; done");
    let _ = user
        .start(&["run", folder.arg(), "-d", "--cpu", "0.25", "--memory", "48Mi", "--disk", "64Mi", "--pids", "77"])
        .finish(crate::support::PATIENCE)
        .exits(0);
    let lease = user.lease();
    let mine = |c: &crate::support::Container| c.instance.starts_with(&lease.id.to_string());
    let container = net.engine.containers(net.node()).into_iter().find(mine).expect("the container bears its lease");
    let host = net.engine.inspect(&container.id)["HostConfig"].take();
    let number = |field: &str| host[field].as_i64().unwrap_or_default();
    let cpu_millis = match number("NanoCpus") {
        0 => number("CpuQuota") * 1000 / number("CpuPeriod").max(1),
        nanos => nanos / 1_000_000,
    };
    assert_eq!(cpu_millis, 250, "{host}");
    assert_eq!((number("Memory"), number("MemorySwap"), number("PidsLimit")), (48 << 20, 48 << 20, 77), "{host}");
    assert_eq!((&host["Privileged"], &host["CapDrop"]), (&false.into(), &serde_json::json!(["ALL"])), "{host}");
    assert!(host["SecurityOpt"].to_string().contains("no-new-privileges"), "{host}");
    let network = host["NetworkMode"].as_str().unwrap();
    assert!(!["default", "bridge", "host"].contains(&network), "a network of its own: {network}");
    let _ = user.farm(&["stop", "bounded"]).exits(0);
    until("its container is gone", || !net.engine.containers(net.node()).iter().any(mine));
}

#[test]
fn a_job_that_wants_more_memory_than_it_asked_for_is_told_so() {
    let user = shared().stranger();
    let folder = Folder::new(
        "hungry",
        &[("Dockerfile", "FROM pasture/busybox:1\nCMD [\"dd\", \"if=/dev/zero\", \"of=/dev/null\", \"bs=200M\", \"count=1\"]\n")],
    );
    let _ = user.run(&folder, &[]).exits(137).says(&["it used more memory than it asked for"]);
    let (lease, _) = user.settled();
    assert_eq!(lease.reason, Some(EndReason::OutOfMemory));
}

#[test]
fn a_build_that_sleeps_for_a_day_or_breeds_processes_is_held_and_leaves_nothing_behind() {
    // Both builds are limited by the job's own limits; the network goes on serving others meanwhile.
    let net = Net::start(Options::default());
    let user = net.stranger().with_credits();
    let marks = ["PASTURE_SLEEPER", "PASTURE_BREEDER"].map(|m| format!("{m}_{}", std::process::id()));
    let steps = ["sleep 86400", "breed() { while true; do breed & done; }; breed; wait"];
    let mut running = vec![];
    let folders: Vec<Folder> = ["sleeper", "breeder"]
        .iter()
        .zip(steps)
        .zip(&marks)
        .map(|((name, step), mark)| {
            let folder = Folder::new(name, &[("Dockerfile", &format!("FROM pasture/busybox:1\nENV MARK={mark}\nRUN {step}\n"))]);
            folder.write("farm.yaml", "build:\n  timeout: 8s\n");
            folder
        })
        .collect();
    let began = Instant::now();
    for folder in &folders {
        running.push(user.start(&["run", folder.arg(), "--cpu", "0.2", "--memory", "32Mi", "--disk", "64Mi", "--pids", "30"]));
    }
    let breeding = eventually("the build's container", PATIENCE, || net.engine.marked(&marks[1]).into_iter().next());
    assert_eq!(breeding["HostConfig"]["Memory"], 32 << 20, "{}", breeding["HostConfig"]);
    // Somebody else is served at the same time.
    let other = net.stranger();
    let _ = other.run(&Folder::script("bystander", "echo served"), &[]).exits(0).says(&["served"]);
    for (running, words) in running.into_iter().zip(["8s", ""]) {
        let _ = running.finish(PATIENCE).exits(125).says(&["did not start", words]);
    }
    assert!(began.elapsed() >= Duration::from_secs(8));
    until("the builds' containers are gone", || marks.iter().all(|mark| net.engine.marked(mark).is_empty()));
    until("both are settled", || user.jobs().iter().all(|j| j.lease.as_ref().is_some_and(|l| l.settlement.is_some())));
    for job in user.jobs() {
        let lease = job.lease.unwrap();
        assert_eq!(lease.reason, Some(EndReason::BuildFailed));
        let s = paid(&lease);
        assert_eq!((s.charged.0, s.billed_build_ms.0), (0, 0), "within the allowance: {s:?}");
    }
    let id = user.account();
    let left = user.api(async |api| api.account(&id).await).build_allowance_left;
    let whole = net.api(async |api| api.status().await).params.build_allowance;
    assert!(left.0 + 8_000 <= whole.0, "the allowance was charged: {left} of {whole} left");
    let _ = user.farm(&["ledger", "check"]).exits(0);
}

#[test]
fn a_tenant_that_burns_processor_and_memory_bandwidth_fails_no_capacity_check() {
    let net = Net::start(Options::default());
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    // As many loops as there are cores, and copies through memory, for over four periods of five seconds.
    let script = format!(
        "for i in $(seq {cores}); do (while true; do :; done) & done; (while true; do dd if=/dev/zero of=/dev/null bs=16M count=64 2>/dev/null; done) & \
         sleep 23; echo burnt"
    );
    let folder = Folder::script("burner", &script);
    fails_no_check(&net, |user| {
        let args = ["run", folder.arg(), "--cpu", &cores.to_string(), "--memory", "256Mi", "--disk", SMALL[5]];
        let done = user.start(&args).finish(crate::support::PATIENCE * 2);
        assert!(done.code != 0 || done.stdout == "burnt\n", "{}", done.all());
        done
    });
}

/// Held by who burns whole machines on purpose: two of them at once are more than one tenant.
static BURNING: Mutex<()> = Mutex::new(());

/// Runs a job that takes all it can, and sees that every check of its time was passed: those of capacity and those of life. Tests beside this one take
/// processor time too, and that is not the tenant's doing: one run of three without a miss is enough, since a tenant that keeps a machine from its
/// checks does so each time.
fn fails_no_check(net: &Net, run: impl Fn(&User) -> Done) {
    // A test that failed with it leaves nothing half done.
    let _alone = BURNING.lock().unwrap_or_else(PoisonError::into_inner);
    let mut missed = vec![];
    while missed.len() < 3 {
        let user = net.stranger();
        let done = run(&user);
        let (lease, _) = user.settled();
        let s = paid(&lease);
        if done.code == 0 && s.epochs_proven == s.epochs {
            assert!(s.epochs >= 4, "{s:?}");
            return;
        }
        missed.push(format!("{} of {} periods, {}", s.epochs_proven, s.epochs, done.all()));
    }
    panic!("checks were missed each time: {missed:#?}");
}

#[test]
fn a_build_that_mines_gets_the_cores_that_were_asked_and_uses_up_the_allowance() {
    let net = shared();
    let user = net.stranger().with_credits();
    let mark = format!("PASTURE_MINER_{}", std::process::id());
    // More loops than there are cores, for ever.
    let step = format!(": {mark}; for i in 1 2 3 4 5 6 7 8; do (while :; do :; done) & done; wait");
    let folder = Folder::new("miner", &[("Dockerfile", &format!("FROM pasture/busybox:1\nENV MARK={mark}\nRUN {step}\n"))]);
    folder.write("farm.yaml", "build:\n  timeout: 9s\n");
    let id = user.account();
    let before = user.api(async |api| api.account(&id).await).build_allowance_left;
    let running = user.start(&["run", folder.arg(), "--cpu", "0.3", "--memory", "32Mi", "--disk", "64Mi"]);
    let first = eventually("it burns", PATIENCE, || Some(cpu_ticks(&mark)).filter(|ticks| *ticks > 20));
    let began = Instant::now();
    let mut last = (first, Duration::ZERO);
    eventually("it has burnt for four seconds", PATIENCE, || {
        // What is counted goes with the processes, which end with the build.
        let now = cpu_ticks(&mark);
        last = if now >= last.0 { (now, began.elapsed()) } else { last };
        (now < last.0 || began.elapsed() >= Duration::from_secs(4)).then_some(())
    });
    let seconds = last.1.as_secs_f64();
    let cores = (last.0 - first) as f64 / 100.0 / seconds;
    // 0.3 cores, with room for the slice of time that is under way at either end; fewer where others need them.
    assert!(seconds > 2.0 && cores > 0.0 && cores < 0.4, "{cores} cores in {seconds} s");
    let _ = running.finish(PATIENCE).exits(125).says(&["did not start", "9s"]);
    until("the build's container is gone", || net.engine.marked(&mark).is_empty());
    let (lease, s) = user.settled();
    assert_eq!(lease.reason, Some(EndReason::BuildFailed));
    let _ = paid(&lease);
    assert_eq!((s.charged.0, s.billed_build_ms.0), (0, 0), "within the allowance: {s:?}");
    let left = user.api(async |api| api.account(&id).await).build_allowance_left;
    assert!(left.0 + 9_000 <= before.0, "the allowance was charged: {left} of {before} left");
}

#[test]
fn a_tenant_that_floods_the_network_and_burns_the_processor_fails_no_capacity_check() {
    let net = Net::start(Options::default());
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    // Streams through loopback as fast as they go, connections to addresses where everything is dropped, and all cores busy.
    let script = format!(
        "for p in 1 2 3 4; do (while true; do nc -l -p 999$p < /dev/zero > /dev/null; done) & \
         (while true; do nc 127.0.0.1 999$p < /dev/zero > /dev/null 2>&1; done) & done; \
         for i in $(seq 8); do (while true; do echo x | nc -w 1 192.0.2.$i 9 2> /dev/null; done) & done; \
         for i in $(seq {cores}); do (while true; do :; done) & done; \
         sleep 23; grep 'lo:' /proc/net/dev | tr -s ' ' | cut -d : -f 2 | cut -d ' ' -f 2; echo flooded"
    );
    let folder = Folder::script("flooder", &script);
    let args = ["run", folder.arg(), "--cpu", &cores.to_string(), "--memory", "256Mi", "--disk", SMALL[5], "--egress", "open"];
    fails_no_check(&net, |user| {
        let done = user.start(&args).finish(crate::support::PATIENCE * 2);
        if done.code == 0 {
            let (sent, last) = done.stdout.trim().split_once('\n').unwrap_or_else(|| panic!("{}", done.all()));
            assert_eq!(last, "flooded");
            assert!(sent.parse::<u64>().unwrap() > 100 << 20, "that is no flood: {sent} bytes");
        }
        done
    });
}

#[test]
fn what_a_job_uses_is_told_once_a_second_to_its_user_alone() {
    let user = crate::support::shared().stranger();
    let folder = crate::support::Folder::script("counted", "trap 'exit 0' TERM; (while true; do :; done) & while true; do sleep 0.2; done");
    let _ = user.run(&folder, &["-d"]).exits(0);
    crate::support::until("it runs", || user.farm(&["stats", "counted", "--once"]).code == 0);
    let one = user.farm(&["stats", "counted", "--once", "--json"]).exits(0).json();
    let used = one["cpu_millis"].as_u64().unwrap();
    // It burns what it has; the engine holds it to its share in slices of a tenth of a second.
    assert!((50..=300).contains(&used) && one["cpu_limit_millis"] == 200, "{one}");
    assert!(one["memory_bytes"].as_u64() <= one["memory_limit_bytes"].as_u64() && one["processes"].as_u64() >= Some(2), "{one}");
    let mut watching = user.start(&["stats", "counted"]);
    watching.shows("of 0.20 CPU");
    let stranger = crate::support::shared().stranger();
    let _ = stranger.farm(&["stats", "counted"]).exits(125);
    let _ = user.farm(&["stop", "counted", "--grace", "1s"]).exits(0);
    let _ = watching.finish(crate::support::PATIENCE).exits(0).says(&["runs no more"]);
    let _ = user.farm(&["stats", "counted"]).exits(125).says(&["has ended"]);
}
