//! What a runtime keeps beyond its instances, on a real engine: the size that holds, copies of one moment, what a broken copy leaves.
//!
//! The engine's socket comes from `FARM_TEST_ENGINE`; root is needed, as for volumes themselves.

#![cfg(test)]

#[macro_use]
mod support;

use pasture_runtime::{Keeper, Mount, RuntimeError, Use, VolumeKey, Workload};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;
use support::{Bench, seconds};
use tokio::time::timeout;

/// Its volumes go with a test.
async fn with_nothing_left<F: Future<Output = ()>>(bench: Bench, test: impl FnOnce(Bench) -> F) {
    let (keep, owner) = (bench.rt.clone(), bench.owner.clone());
    test(bench).await;
    keep.keeper().unwrap().clear(&owner, &BTreeMap::new()).await.unwrap();
}

on_an_engine!(through with_nothing_left:
    a_volume_has_its_size_and_outlives_instances,
    a_copy_is_of_one_moment_and_a_broken_one_lets_writers_go_on,
    what_is_not_kept_is_cleared_and_nothing_else,
    an_instance_without_its_volume_is_refused,
);

const SIZE: u64 = 32 << 20;

fn key(text: &str) -> VolumeKey {
    VolumeKey::parse(text).unwrap()
}

fn keeper(bench: &Bench) -> &dyn Keeper {
    bench.rt.keeper().expect("these tests run as root, beside the engine")
}

fn with(mut workload: Workload, volume: &str, read_only: bool) -> Workload {
    workload.mounts = vec![Mount { volume: key(volume), path: "/data".into(), read_only }];
    workload
}

/// Runs a script with a volume to its end; its exit code.
async fn script(bench: &Bench, volume: &str, read_only: bool, script: &str) -> i32 {
    let id = bench.start(&with(bench.shell(script), volume, read_only)).await;
    let code = bench.rt.wait(&id).await.unwrap().code;
    if code != 0 {
        eprintln!("{}", bench.log_text(&id).await);
    }
    bench.rt.remove(&id).await.unwrap();
    keeper(bench).rest(&bench.owner, &key(volume)).await.unwrap();
    code
}

/// Files that hold file systems, and drafts.
fn stored(bench: &Bench) -> Vec<String> {
    let dir: PathBuf = bench.dir.path().join("kept").join(bench.owner.as_str());
    let mut names: Vec<String> =
        std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).filter(|n| n.contains('.')).collect();
    names.sort();
    names
}

async fn a_volume_has_its_size_and_outlives_instances(bench: Bench) {
    let keep = keeper(&bench);
    keep.make(&bench.owner, &key("v"), SIZE).await.unwrap();
    assert!(matches!(keep.make(&bench.owner, &key("v"), SIZE).await, Err(RuntimeError::Conflict(_))));
    assert!(keep.stored(&bench.owner, &key("v")).await.unwrap() < SIZE, "it is sparse");
    let full = "test -z \"$(ls -A /data)\" && echo x > /data/a && ! dd if=/dev/zero of=/data/big bs=1M count=64 2>/dev/null && \
                test $(du -m /data/big | cut -f1) -lt 32";
    assert_eq!(script(&bench, "v", false, full).await, 0);
    // A sweep of instances takes nothing of it.
    bench.rt.sweep(&bench.owner, &std::collections::BTreeSet::new()).await.unwrap();
    assert_eq!(script(&bench, "v", true, "cat /data/a && ! touch /data/b && ! mknod /data/disk b 7 0").await, 0);
    assert_eq!(script(&bench, "v", false, "rm /data/big && cat /data/a").await, 0);
    assert!(keep.stored(&bench.owner, &key("v")).await.unwrap() < SIZE / 2, "what was deleted is the machine's again");
    keep.remove(&bench.owner, &key("v")).await.unwrap();
    keep.remove(&bench.owner, &key("v")).await.unwrap();
    assert_eq!(stored(&bench), Vec::<String>::new());
}

async fn a_copy_is_of_one_moment_and_a_broken_one_lets_writers_go_on(bench: Bench) {
    let keep = keeper(&bench);
    keep.make(&bench.owner, &key("v"), 256 << 20).await.unwrap();
    let writer = "dd if=/dev/urandom of=/data/ballast bs=1M count=128 2>/dev/null; i=0; \
                  while true; do i=$((i+1)); for f in a b; do echo $i > /data/new-$f; mv /data/new-$f /data/$f; done; test $i = 50 && echo wrote; done";
    let id = bench.start(&with(bench.shell(writer), "v", false)).await;
    bench.wait_for_log(&id, "wrote").await;
    keep.copy(&bench.owner, &key("v"), &key("copy")).await.unwrap();
    assert!(matches!(keep.copy(&bench.owner, &key("v"), &key("copy")).await, Err(RuntimeError::Conflict(_))));
    // Dropped in the middle, at several moments: the file system is thawed each time.
    for after in [5, 30, 80] {
        let _ = timeout(Duration::from_millis(after), keep.copy(&bench.owner, &key("v"), &key("broken"))).await;
        let told =
            bench.rt.exec(&id, vec!["/bin/sh".into(), "-c".into(), "echo > /data/new && sync && rm /data/new".into()], seconds(20)).await;
        assert_eq!(told.unwrap().code, 0, "writing goes on");
        keep.remove(&bench.owner, &key("broken")).await.unwrap();
    }
    bench.rt.remove(&id).await.unwrap();
    keep.rest(&bench.owner, &key("v")).await.unwrap();
    assert_eq!(stored(&bench), ["copy.img", "v.img"]);
    // `b` is written after `a`: at any one moment it is the same or one behind.
    let whole = "a=$(cat /data/a); b=$(cat /data/b); echo $a $b; test -s /data/ballast && test $a -gt 1 && test $((a-b)) -ge 0 && test $((a-b)) -le 1";
    assert_eq!(script(&bench, "copy", false, whole).await, 0);
}

async fn what_is_not_kept_is_cleared_and_nothing_else(bench: Bench) {
    let keep = keeper(&bench);
    for name in ["held", "resting", "nobodys"] {
        keep.make(&bench.owner, &key(name), SIZE).await.unwrap();
    }
    let id = bench.start(&with(bench.shell("while sleep 0.1; do date >> /data/log; done"), "held", false)).await;
    let dir = bench.dir.path().join("kept").join(bench.owner.as_str());
    std::fs::write(dir.join("half.tmp"), "x").unwrap();
    // As after a crash in the middle of a copy.
    let frozen = std::process::Command::new("fsfreeze").arg("-f").arg(dir.join("held")).status().unwrap();
    assert!(frozen.success());
    let kept = BTreeMap::from([(key("held"), Use::Held), (key("resting"), Use::Resting)]);
    assert_eq!(keep.clear(&bench.owner, &kept).await.unwrap(), 2, "one of nobody's, one that was never finished");
    assert_eq!(stored(&bench), ["held.img", "resting.img"]);
    let told = bench.rt.exec(&id, vec!["/bin/sh".into(), "-c".into(), "echo > /data/new && sync".into()], seconds(20)).await;
    assert_eq!(told.unwrap().code, 0, "what was frozen is not any more");
    bench.rt.remove(&id).await.unwrap();
    assert_eq!(keep.clear(&bench.owner, &BTreeMap::new()).await.unwrap(), 2);
    assert_eq!(stored(&bench), Vec::<String>::new());
}

async fn an_instance_without_its_volume_is_refused(bench: Bench) {
    let refused = bench.rt.create(&with(bench.shell("true"), "missing", false)).await;
    assert!(matches!(refused, Err(RuntimeError::NotFound { what: "volume", .. })), "{refused:?}");
    assert!(bench.rt.list(&bench.owner).await.unwrap().is_empty());
    let mut nested = with(bench.shell("true"), "missing", false);
    nested.output_dir = Some("/data/out".into());
    assert!(matches!(bench.rt.create(&nested).await, Err(RuntimeError::Invalid { field: "mounts", .. })));
}
