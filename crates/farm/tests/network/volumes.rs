//! Folders that outlive their jobs: what is in them, how large they get, whose they are, and what a crash leaves.

use crate::support::{Done, Folder, Net, Options, Running, SMALL, User, eventually, shared, until};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

const IMAGE: &str = "pasture/busybox:1";
/// Longest that a snapshot may take on a busy machine.
const COPIED_WITHIN: Duration = Duration::from_secs(300);

/// Runs a shell line in an image as a small job with volumes.
fn start(user: &User, name: &str, volumes: &[&str], script: &str, more: &[&str]) -> Running {
    let mut args = vec!["run", IMAGE, "--name", name];
    args.extend(SMALL);
    for volume in volumes {
        args.extend(["--volume", volume]);
    }
    args.extend(more);
    args.extend(["--", "sh", "-c", script]);
    user.start(&args)
}

#[track_caller]
fn run(user: &User, name: &str, volumes: &[&str], script: &str) -> Done {
    start(user, name, volumes, script, &[]).finish(COPIED_WITHIN)
}

#[track_caller]
fn list(user: &User) -> Vec<Value> {
    user.farm(&["volume", "ls", "--json"]).exits(0).json().as_array().unwrap().clone()
}

#[track_caller]
fn show(user: &User, name: &str) -> Value {
    user.farm(&["volume", "show", name, "--json"]).exits(0).json()
}

fn now_ms() -> u64 {
    u64::try_from(std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap()
}

/// Files that hold file systems of a node's volumes, and drafts of such.
fn stored(net: &Net) -> BTreeSet<PathBuf> {
    let dir = net.data().join("provider/runtime/kept").join(net.node());
    let Ok(entries) = std::fs::read_dir(dir) else { return BTreeSet::new() };
    entries.map(|e| e.unwrap().path()).filter(|p| p.is_file()).collect()
}

fn mounts_below(dir: &Path) -> Vec<String> {
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    mounts.lines().filter(|l| l.split(' ').nth(1).is_some_and(|p| Path::new(p).starts_with(dir))).map(str::to_owned).collect()
}

#[test]
fn what_a_job_wrote_is_there_for_the_next_and_no_larger_than_was_asked() {
    let user = shared().stranger();
    let _ = run(&user, "first", &["data:/data:32Mi"], "test -w /data && test -z \"$(ls /data)\" && echo kept > /data/a").exits(0);
    // Full at its size, from inside, and nothing else of the machine with it.
    let full = "cat /data/a && ! dd if=/dev/zero of=/data/big bs=1M count=64 2>/tmp/e && grep -q 'No space' /tmp/e && \
                test $(du -m /data/big | cut -f1) -lt 32 && df -m /data && rm /data/big";
    let _ = run(&user, "second", &["data:/data"], full).exits(0).says(&["kept"]);
    let volumes = list(&user);
    assert_eq!(volumes.len(), 1, "{volumes:?}");
    let volume = &volumes[0];
    assert_eq!((volume["name"].as_str(), volume["bytes"].as_u64()), (Some("data"), Some(32 << 20)));
    assert!(volume["stored_bytes"].as_u64().unwrap() <= 33 << 20, "{volume}");
    let kept = volume["kept_until"].as_u64().unwrap() - volume["created"].as_u64().unwrap();
    assert!(kept > 7 * 86_400_000 - 1 && kept < 7 * 86_400_000 + 600_000, "a week after its last job: {volume}");
    let _ = user.farm(&["volume", "ls"]).exits(0).says(&["data", "32", "KEPT UNTIL", "UTC"]);

    // Read only: nothing can be written, also not by root inside.
    let _ = run(&user, "reader", &["data:/data:ro"], "cat /data/a; ! touch /data/b").exits(0).says(&["kept"]);
    let _ = run(&user, "other-size", &["data:/data:64Mi"], "true").exits(125).says(&["has 32", "leave the size out"]);
    let _ = run(&user, "nothing", &["nothing:/data:ro"], "true").exits(125).says(&["no volume `nothing` to read"]);
    let _ = user.farm(&["volume", "rm", "data"]).exits(0);
    assert!(list(&user).is_empty());
    let _ = user.farm(&["volume", "show", "data"]).exits(125).says(&["you have no volume `data`"]);
}

#[test]
fn a_job_file_names_volumes_and_mistakes_in_it_are_found_first() {
    let user = shared().stranger();
    let folder = Folder::script("filed", "cat /srv/state/n 2>/dev/null; echo again >> /srv/state/n");
    let spec = "name: filed\nresources: {cpu: 0.2, memory: 32Mi, disk: 64Mi}\nvolumes:\n  - {name: state, path: /srv/state, size: 16Mi}\n";
    folder.write("farm.yaml", spec);
    let _ = user.farm(&["run", folder.arg()]).exits(0);
    let _ = user.farm(&["run", folder.arg()]).exits(0).says(&["again"]);
    for (bad, words) in [
        ("{name: ../up, path: /data}", "is not a name"),
        ("{name: state, path: /etc}", "the system's"),
        ("{name: state, path: /data/../proc}", "is not a place"),
        ("{name: state, path: /farm/out}", "the system's"),
        ("{name: state, path: /data, size: 1Ki}", "16Mi"),
        ("{name: state, pth: /data}", "did you mean `path`?"),
    ] {
        folder.write("farm.yaml", &format!("volumes:\n  - {bad}\n"));
        let _ = user.farm(&["run", folder.arg()]).exits(125).says(&["farm.yaml", words]);
    }
    for bad in ["state", "state:", "../x:/data", "state:data", "state:/a:rw", "a:/x:ro:ro"] {
        let _ = user.farm(&["run", IMAGE, "--volume", bad]).exits(2).says(&["--volume"]);
    }
    let _ = user.farm(&["volume", "rm", "state"]).exits(0);
}

#[test]
fn one_job_writes_and_a_stranger_is_told_nothing() {
    let net = shared();
    let (user, stranger) = (net.stranger(), net.stranger());
    let holder = start(&user, "holder", &["mine:/data:16Mi"], "echo secret > /data/a; sleep 600", &["-d"]);
    let _ = holder.finish(COPIED_WITHIN).exits(0);
    until("the volume is in use", || show(&user, "mine")["used_by"].as_array().is_some_and(|u| u.len() == 1));
    assert!(show(&user, "mine")["kept_until"].is_null());
    for volume in ["mine:/data", "mine:/data:ro"] {
        let _ = run(&user, "second", &[volume], "true").exits(125).says(&["`mine` is in use by lease"]);
    }
    let _ = user.farm(&["volume", "rm", "mine"]).exits(125).says(&["in use"]);
    // Somebody else's `mine` is another volume.
    let _ = run(&stranger, "theirs", &["mine:/data:16Mi"], "test -z \"$(ls /data)\" && echo own > /data/b").exits(0);
    assert_eq!(list(&stranger).len(), 1);
    // And with the user's own path, but another key, the machine says no.
    let (account, node, key) = (user.account(), net.node().parse().unwrap(), stranger.key());
    let refused = stranger
        .try_api(async |api| pasture_api::client::AccountClient::new(api.clone(), key.clone(), account, node, now_ms).volumes().await);
    assert_eq!(refused.unwrap_err().problem().map(|p| p.status), Some(403));
    let unsigned = std::process::Command::new("curl")
        .args(["-sS", "--noproxy", "*", "-X", "DELETE"])
        .arg(format!("{}/v1/nodes/{}/accounts/{account}/volumes/mine", net.url(), net.node()))
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&unsigned.stdout).contains("unauthorized"));
    let _ = user.farm(&["stop", "holder"]).exits(0);
    until("the volume is let go", || show(&user, "mine")["used_by"].as_array().is_some_and(Vec::is_empty));
    let _ = run(&user, "after", &["mine:/data"], "cat /data/a").exits(0).says(&["secret"]);
    for user in [&user, &stranger] {
        let _ = user.farm(&["volume", "rm", "mine"]).exits(0);
    }
}

#[test]
fn what_a_volume_holds_does_not_lead_out_of_it() {
    let user = shared().stranger();
    // Links and device files in it mean nothing to the machine, and the volume's own folder cannot be made another.
    let tricks = "ln -s / /data/root; ln -s ../../../../.. /data/up; ln -s /etc/passwd /data/passwd; mkdir -p /data/sub; \
                  mknod /data/disk b 7 0 && exit 9; ! mv /data /elsewhere 2>/dev/null && ! rmdir /data 2>/dev/null";
    let _ = run(&user, "tricks", &["odd:/data:16Mi"], tricks).exits(0);
    let _ = user.farm(&["volume", "snapshot", "odd", "--as", "s"]).exits(0);
    let _ = user.farm(&["volume", "restore", "odd", "--from", "s", "--to", "copy"]).exits(0);
    // What a link names is looked up inside the next job: its own files, not the machine's.
    let inside = "readlink /data/root; test \"$(cat /data/root/etc/hostname)\" = \"$(hostname)\" && ls /data/up >/dev/null";
    let _ = run(&user, "looker", &["copy:/data"], inside).exits(0);
    for volume in ["odd", "copy"] {
        let _ = user.farm(&["volume", "rm", volume, "--all"]).exits(0);
    }
    for bad in ["..", "../odd", "a/b", "odd@../s", "%2e%2e"] {
        let _ = user.farm(&["volume", "rm", bad]).exits(2).says(&["is not a name"]);
    }
}

#[test]
fn a_snapshot_is_the_content_of_one_moment_and_comes_back() {
    let user = shared().stranger();
    // A file that is always either all of one number or, between, of two: a torn copy would show two.
    let writer = "i=0; while true; do i=$((i+1)); seq 1 2000 | sed s/.*/$i/ > /data/new && sync && mv /data/new /data/n; \
                  echo $i > /data/last; done";
    let _ = start(&user, "writer", &["log:/data:32Mi"], writer, &["-d"]).finish(COPIED_WITHIN).exits(0);
    eventually("it has written", COPIED_WITHIN, || {
        let snapshot = user.farm(&["volume", "snapshot", "log", "--as", "early", "--json"]);
        (snapshot.code == 0).then_some(())
    });
    let _ = user.farm(&["volume", "snapshot", "log", "--as", "early"]).exits(125).says(&["already"]);
    std::thread::scope(|scope| {
        // Two at once: one is made, the other is made or told to come again.
        let codes: Vec<_> = ["x", "y"].map(|s| scope.spawn(|| user.farm(&["volume", "snapshot", "log", "--as", s]))).into();
        let done: Vec<Done> = codes.into_iter().map(|c| c.join().unwrap()).collect();
        assert!(done.iter().any(|d| d.code == 0), "{done:?}");
        assert!(done.iter().all(|d| d.code == 0 || d.all().contains("being copied")), "{done:?}");
    });
    let _ = user.farm(&["volume", "restore", "log", "--from", "early"]).exits(125).says(&["in use"]);
    let _ = user.farm(&["stop", "writer", "--grace", "1s"]).exits(0);
    until("the volume is let go", || show(&user, "log")["used_by"].as_array().is_some_and(Vec::is_empty));

    let _ = user.farm(&["volume", "restore", "log", "--from", "early", "--to", "then"]).exits(0);
    let whole = "test ! -e /data/n || test $(sort -u /data/n | wc -l) = 1; touch /data/mine; cat /data/last 2>/dev/null; true";
    let _ = run(&user, "look", &["then:/data"], whole).exits(0);
    let last = run(&user, "now", &["log:/data"], "cat /data/last").exits(0);
    let _ = user.farm(&["volume", "restore", "log", "--from", "early"]).exits(0);
    let earlier = run(&user, "back", &["log:/data"], "cat /data/last 2>/dev/null || echo 0").exits(0);
    let number = |d: &Done| d.stdout.lines().find_map(|l| l.trim().parse::<u64>().ok()).unwrap();
    assert!(number(&earlier) < number(&last), "{}\n{}", earlier.all(), last.all());
    let _ = user.farm(&["volume", "restore", "log", "--from", "never"]).exits(125).says(&["no snapshot `never`"]);
    let _ = user.farm(&["volume", "rm", "log"]).exits(125).says(&["snapshots", "--all"]);
    let _ = user.farm(&["volume", "rm", "log@early"]).exits(0);
    let _ = user.farm(&["volume", "rm", "log", "--all"]).exits(0);
    let _ = user.farm(&["volume", "rm", "then"]).exits(0);
    assert!(list(&user).is_empty());
}

#[test]
fn there_is_a_limit_for_each_account_and_time_is_up_at_last() {
    let args = ["--volume-space", "96Mi", "--volume-space-each", "64Mi", "--volume-keep", "1s"].map(String::from).to_vec();
    let mut net = Net::start(Options { args, fixed_port: true, ..Options::default() });
    let user = net.stranger();
    let sleeper = "sleep 600";
    let _ = start(&user, "a", &["a:/data:48Mi"], sleeper, &["-d"]).finish(COPIED_WITHIN).exits(0);
    let _ = run(&user, "b", &["b:/data:32Mi"], "true").exits(125).says(&["at most 67108864 bytes"]);
    let _ = user.farm(&["volume", "snapshot", "a", "--as", "s"]).exits(125).says(&["at most", "remove what you no longer need"]);
    // Kept by nobody for longer than a second: the next look removes it, here the one at the start.
    let _ = user.farm(&["stop", "a", "--grace", "1s"]).exits(0);
    until("the volume rests", || mounts_below(&net.data().join("provider/runtime/kept")).is_empty());
    let kept_until = list(&user)[0]["kept_until"].as_u64().unwrap();
    net.kill();
    until("a second has passed", || now_ms() > kept_until);
    net.start_again();
    until("the volume is gone", || stored(&net).is_empty());
    assert!(list(&user).is_empty());
}

#[test]
fn volumes_survive_a_kill_of_the_machines_program_and_half_a_snapshot_does_not() {
    let mut net = Net::start(Options { fixed_port: true, ..Options::default() });
    let user = net.user();
    let _ = user.farm(&["account", "test-credits", "100"]).exits(0);
    let fill = "dd if=/dev/urandom of=/data/big bs=1M count=600 2>/dev/null; md5sum < /data/big > /data/sum; cat /data/sum";
    let sum = run(&user, "fill", &["big:/data:1Gi"], fill).exits(0);
    let sum = sum.stdout.lines().find(|l| l.ends_with('-')).unwrap().to_owned();
    let _ =
        start(&user, "holder", &["small:/data:16Mi"], "while true; do date >> /data/log; sleep 0.2; done", &["-d"]).finish(COPIED_WITHIN);
    let before = stored(&net);
    assert_eq!(before.len(), 2, "{before:?}");

    // Killed while the copy is made: there is no snapshot, and nothing of it is left.
    let snapshot = user.start(&["volume", "snapshot", "big", "--as", "half"]);
    eventually("a draft", COPIED_WITHIN, || stored(&net).iter().any(|p| p.extension().is_some_and(|e| e == "tmp")).then_some(()));
    net.kill();
    drop(snapshot);
    net.start_again();
    assert_eq!(stored(&net), before, "what was half made is gone");
    eventually("the machine answers", COPIED_WITHIN, || (user.farm(&["volume", "ls"]).code == 0).then_some(()));
    assert!(show(&user, "big")["snapshots"].as_array().unwrap().is_empty());
    assert_eq!(show(&user, "small")["used_by"].as_array().unwrap().len(), 1, "its job goes on");

    // Killed again while the small one, in use, is being copied or not: the job must be able to write after that.
    let _ = user.farm(&["volume", "snapshot", "big", "--as", "whole"]).exits(0);
    net.kill();
    net.start_again();
    eventually("the machine answers", COPIED_WITHIN, || (user.farm(&["volume", "ls"]).code == 0).then_some(()));
    assert_eq!(show(&user, "big")["snapshots"][0]["name"], "whole", "what was acknowledged is there");
    let _ = user.farm(&["stop", "holder"]).exits(0);
    let _ = user.farm(&["volume", "restore", "big", "--from", "whole", "--to", "again"]).exits(0);
    let check = run(&user, "check", &["big:/data", "again:/again"], "md5sum < /data/big; md5sum < /again/big; wc -l < /again/sum").exits(0);
    assert_eq!(check.stdout.matches(&sum).count(), 2, "{}", check.all());
    let log = run(&user, "log", &["small:/data:ro"], "test $(wc -l < /data/log) -gt 1").exits(0);
    drop(log);
    until("all of them rest", || mounts_below(&net.data().join("provider/runtime/kept")).is_empty());
    assert_eq!(stored(&net).len(), 4);
    for volume in ["big", "small", "again"] {
        let _ = user.farm(&["volume", "rm", volume, "--all"]).exits(0);
    }
    assert!(stored(&net).is_empty());
}

#[test]
fn a_machine_that_went_away_is_named_and_no_second_volume_is_made() {
    let mut net = Net::start(Options { fixed_port: true, ..Options::default() });
    let user = net.user();
    let _ = user.farm(&["account", "test-credits", "100"]).exits(0);
    let _ = run(&user, "first", &["data:/data:16Mi"], "echo here > /data/a").exits(0);
    let machine = net.node().get(..8).unwrap().to_owned();
    // The network without its machine.
    net.kill();
    let mut alone = net.command();
    alone.arg("--no-provider");
    let mut alone = Running::start(alone);
    alone.shows("http://127.0.0.1");
    eventually("it is said", COPIED_WITHIN, || {
        let done = run(&user, "second", &["data:/data"], "true");
        (done.code == 125 && done.all().contains("does not answer now") && done.all().contains(&machine)).then_some(())
    });
    drop(alone);
    net.start_again();
    let _ = run(&user, "third", &["data:/data"], "cat /data/a").exits(0).says(&["here"]);
    let _ = user.farm(&["volume", "rm", "data"]).exits(0);
}
