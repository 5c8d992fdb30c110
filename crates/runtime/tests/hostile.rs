//! What every backend must hold against a hostile tenant, on a real engine: see `behaviour.rs` for how it is run.

#![cfg(test)]

#[macro_use]
mod support;

use std::process::{Command, Stdio};

use pasture_runtime::{BuildError, Exit, Observed};
use support::Bench;

on_an_engine!(
    all_that_is_written_to_disk_has_one_limit,
    the_limit_holds_after_a_restart_of_the_host,
    losing_a_process_for_want_of_memory_is_not_losing_the_instance,
    archives_that_add_would_unpack_are_weighed_first,
);

const DISK: u64 = 16 << 20;
/// Fills a place, says how much went in, and empties it again.
const FILL: &str = "fill() { dd if=/dev/zero of=$1 bs=64k count=1000 2>/dev/null; echo $1 $(wc -c <$1); : >$1; }";

fn sizes(log: &str) -> Vec<(&str, u64)> {
    log.lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(place, bytes)| (place, bytes.parse().unwrap_or_else(|_| panic!("{log}"))))
        .collect()
}

async fn all_that_is_written_to_disk_has_one_limit(bench: Bench) {
    if !bench.rt.probe().await.unwrap().can_limit_root {
        eprintln!("not tested: this engine's layers cannot be moved");
        return;
    }
    if !bench.rt.probe().await.unwrap().can_build {
        eprintln!("not tested: this engine builds no image with volumes");
        return;
    }
    let dockerfile = format!("FROM {}\nRUN mkdir /kept && echo original >/kept/file\nVOLUME /kept\nVOLUME [\"/also\"]\n", bench.base);
    let image = bench.build(bench.build_request(&dockerfile, &[])).await.0.unwrap();
    for output_dir in [Some("/out".to_owned()), None] {
        let with_output = if output_dir.is_some() { "fill $FARM_OUTPUT_DIR/f" } else { "true" };
        let names = "cat /etc/hostname /etc/hosts >/tmp/names && grep -q localhost /tmp/names || echo no names";
        let mut workload = bench.shell(&format!(
            "{FILL}; {names}; cat /kept/file; for place in /f /tmp/f /kept/f /also/f /etc/hosts /etc/hostname /etc/resolv.conf; do fill $place; done; {with_output}"
        ));
        workload.image = image.id.clone();
        workload.output_dir = output_dir;
        workload.limits.disk_bytes = DISK;
        let id = bench.start(&workload).await;
        assert_eq!(bench.rt.wait(&id).await.unwrap().code, 0);
        let log = bench.log_text(&id).await;
        let rest = log.strip_prefix("original\n").unwrap_or_else(|| panic!("what the image has in its volume is missing: {log}"));
        for (place, bytes) in sizes(rest) {
            assert!((DISK / 2..DISK).contains(&bytes), "{bytes} bytes in {place}");
        }
        assert_eq!(sizes(rest).len(), 7 + usize::from(workload.output_dir.is_some()), "{log}");
        bench.rt.remove(&id).await.unwrap();
        assert_eq!((bench.mounts(), bench.volume_files(), bench.engine_volumes().await), (vec![], vec![], vec![]));
    }
}

async fn the_limit_holds_after_a_restart_of_the_host(bench: Bench) {
    if !bench.rt.probe().await.unwrap().can_limit_root {
        eprintln!("not tested: this engine's layers cannot be moved");
        return;
    }
    let mut workload = bench.shell(&format!("{FILL}; fill /f; fill $FARM_OUTPUT_DIR/f"));
    (workload.output_dir, workload.limits.disk_bytes) = (Some("/out".into()), DISK);
    let id = bench.rt.create(&workload).await.unwrap();
    // A restart undoes all mounts.
    for place in mounts_of_the_same_device(&bench.mounts()[0]) {
        assert!(Command::new("umount").arg(&place).status().unwrap().success(), "{place}");
    }
    assert_eq!(bench.rt.create(&workload).await.unwrap(), id);
    bench.rt.start(&id).await.unwrap();
    bench.rt.wait(&id).await.unwrap();
    let log = bench.log_text(&id).await;
    assert!(sizes(&log).len() == 2 && sizes(&log).iter().all(|(_, bytes)| *bytes < DISK), "{log}");
    bench.rt.remove(&id).await.unwrap();
    assert_eq!((bench.mounts(), bench.volume_files()), (vec![], vec![]));
}

/// Mount points of the file system that is mounted here, the newest first.
fn mounts_of_the_same_device(place: &str) -> Vec<String> {
    let table = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let rows: Vec<(&str, &str)> =
        table.lines().filter_map(|line| line.split_once(' ')).map(|(device, rest)| (device, rest.split(' ').next().unwrap())).collect();
    let device = rows.iter().find(|(_, at)| *at == place).unwrap().0;
    rows.iter().rev().filter(|(of, _)| *of == device).map(|(_, at)| (*at).to_owned()).collect()
}

async fn losing_a_process_for_want_of_memory_is_not_losing_the_instance(bench: Bench) {
    let id = bench.start(&bench.shell("dd if=/dev/zero of=/dev/null bs=100M count=1 2>/dev/null; echo lost with $?; exit 5")).await;
    let exit = bench.rt.wait(&id).await.unwrap();
    assert_eq!((exit.code, exit.oom), (5, false));
    assert_eq!(bench.log_text(&id).await, "lost with 137\n");
    assert!(matches!(bench.rt.inspect(&id).await.unwrap(), Some(Observed::Exited(Exit { code: 5, oom: false, .. }))));
}

/// So many zeros, packed by this program.
fn packed(program: &str, megabytes: u32) -> Vec<u8> {
    let script = format!("dd if=/dev/zero bs=1M count={megabytes} 2>/dev/null | busybox {program} -c");
    let done = Command::new("sh").args(["-c", &script]).stdout(Stdio::piped()).output().unwrap();
    assert!(done.status.success());
    done.stdout
}

async fn archives_that_add_would_unpack_are_weighed_first(bench: Bench) {
    if !bench.rt.probe().await.unwrap().can_build {
        eprintln!("not tested: this engine builds nothing");
        return;
    }
    let (bomb, fine, other) = (packed("gzip", 100), packed("gzip", 1), packed("bzip2", 1));
    let files: [(&str, &[u8]); 3] = [("bomb.gz", &bomb), ("fine.gz", &fine), ("other", &other)];
    let build = |steps: &str| bench.build_request(&format!("FROM {}\n{steps}\n", bench.base), &files);
    for steps in ["ADD bomb.gz /", "ADD *.gz /", "ADD --chown=0:0 [\"fine.gz\", \"./bomb.gz\", \"/\"]"] {
        match bench.build(build(steps)).await.0 {
            Err(BuildError::TooLarge { limit_bytes, found_bytes, .. }) => assert!(found_bytes > limit_bytes, "{steps}"),
            result => panic!("{steps}: {result:?}"),
        }
    }
    match bench.build(build("ADD other /")).await.0 {
        Err(BuildError::Failed { message, .. }) => assert!(message.contains("bzip2") && message.contains("RUN step"), "{message}"),
        result => panic!("{result:?}"),
    }
    // Nothing is unpacked here.
    for steps in ["ADD fine.gz /", "COPY bomb.gz other /"] {
        assert!(bench.build(build(steps)).await.0.is_ok(), "{steps}");
    }
}
