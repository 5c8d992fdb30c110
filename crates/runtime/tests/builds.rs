//! What every backend must do about builds, on a real engine: see `behaviour.rs` for how it is run.

#![cfg(test)]

#[macro_use]
mod support;

use std::time::{Duration, Instant};

use pasture_runtime::{BuildError, BuildEvent, BuildRequest, InstanceKey, Network, RuntimeError};
use support::{Bench, command_lines, seconds, until};
use tokio::{sync::mpsc, time::timeout};

on_an_engine!(through where_builds_are_held:
    a_good_build_gives_an_image_that_runs,
    a_failing_step_is_named_with_its_code_and_output,
    a_broken_dockerfile_or_context_is_the_users_fault,
    an_endless_step_is_ended_by_the_deadline,
    a_dropped_build_leaves_no_process,
    a_fork_bomb_is_held,
    memory_of_all_steps_is_held,
    a_step_that_burns_cpu_gets_no_more_than_its_share,
    builds_have_no_network_unless_asked,
    a_step_that_fills_the_disk_is_stopped,
    an_image_over_the_limit_is_refused,
    removed_images_take_no_layers_from_builds_that_run,
);

/// An engine that cannot hold a build refuses it, and says so; then that is all there is to test.
async fn where_builds_are_held<F: Future<Output = ()>>(bench: Bench, test: impl FnOnce(Bench) -> F) {
    if bench.rt.probe().await.unwrap().can_build {
        return test(bench).await;
    }
    let request = bench.build_request(&format!("FROM {}\nRUN true\n", bench.base), &[]);
    match bench.build(request).await.0 {
        Err(BuildError::Runtime(RuntimeError::Conflict(why))) => assert!(why.contains("builds none"), "{why}"),
        other => panic!("{other:?}"),
    }
}

fn failed(result: Result<pasture_runtime::Image, BuildError>) -> (Option<u32>, Option<i32>, String) {
    match result {
        Err(BuildError::Failed { step, code, message, output_tail }) => {
            (step.map(|step| step.number), code, format!("{message}\n{output_tail}"))
        }
        other => panic!("should have failed: {other:?}"),
    }
}

/// No step is cached, so that each really runs.
fn unique(bench: &Bench, steps: &str) -> BuildRequest {
    let stamp = format!("{:?}", Instant::now()) + bench.owner.as_str();
    bench.build_request(&format!("FROM {} AS main\nCOPY stamp /stamp\n{steps}\n", bench.base), &[("stamp", stamp.as_bytes())])
}

async fn a_good_build_gives_an_image_that_runs(bench: Bench) {
    let mut request = unique(&bench, "ARG WORD=none\nRUN echo building $WORD && echo $WORD >/word\nFROM scratch AS other\nCOPY stamp /\n");
    request.build_args.insert("WORD".into(), "hay & straw".into());
    request.target = Some("main".into());
    let (image, events) = bench.build(request.clone()).await;
    let image = image.unwrap();
    assert_eq!(image.tags, [request.tag.clone()]);
    let steps: Vec<u32> =
        events.iter().filter_map(|event| if let BuildEvent::Step(step) = event { Some(step.number) } else { None }).collect();
    assert_eq!(steps, [1, 2, 3, 4]);
    let output: String =
        events.iter().filter_map(|event| if let BuildEvent::Output { text } = event { Some(text.as_str()) } else { None }).collect();
    assert!(output.contains("building hay & straw"), "{output}");
    let mut workload = bench.shell("cat /word");
    workload.image = image.id.clone();
    let id = bench.start(&workload).await;
    assert_eq!(bench.log_text(&id).await, "hay & straw\n");
    assert!(bench.rt.remove_image(&image.id).await.is_err(), "in use");
    bench.rt.remove(&id).await.unwrap();
    bench.rt.remove_image(&request.tag).await.unwrap();
    assert_eq!(bench.rt.image(&request.tag).await.unwrap(), None);
}

async fn a_failing_step_is_named_with_its_code_and_output(bench: Bench) {
    let (result, events) = bench.build(unique(&bench, "RUN echo first\nRUN echo last words >&2; exit 42\nRUN echo never")).await;
    let (step, code, text) = failed(result);
    assert_eq!((step, code), (Some(4), Some(42)));
    assert!(text.contains("last words"), "{text}");
    let told = format!("{events:?}");
    assert!(told.contains("last words") && !told.contains("never"), "{told}");
    // Its layers are gone, the base image is not.
    let layers: Vec<&str> = told.split("---> ").skip(1).map(|rest| &rest[..12]).filter(|id| !id.contains(' ')).collect();
    assert!(layers.len() >= 3, "{told}");
    assert!(bench.rt.image(layers[0]).await.unwrap().is_some());
    for layer in &layers[1..] {
        assert_eq!(bench.rt.image(layer).await.unwrap(), None, "{layer} of {layers:?}");
    }
}

async fn a_broken_dockerfile_or_context_is_the_users_fault(bench: Bench) {
    let (step, code, text) = failed(bench.build(bench.build_request("FROM scratch\nRUNN x\n", &[])).await.0);
    assert_eq!((step, code), (None, None));
    assert!(text.to_lowercase().contains("runn"), "{text}");
    let mut request = bench.build_request("FROM scratch\n", &[]);
    request.dockerfile = "Elsewhere".into();
    assert!(failed(bench.build(request).await.0).2.contains("Elsewhere"));
    let request = bench.build_request("FROM scratch\nCOPY missing /\n", &[]);
    assert_eq!(failed(bench.build(request).await.0).0, Some(2));
    let request = bench.build_request("FROM scratch\n", &[]);
    std::fs::write(&request.context_tar, b"this is no archive, but long enough to be looked at as one ".repeat(40)).unwrap();
    failed(bench.build(request).await.0);
    let mut request = bench.build_request("FROM scratch\n", &[]);
    request.context_tar = "/nowhere/at/all.tar".into();
    assert!(matches!(bench.build(request).await.0, Err(BuildError::Runtime(_))));
}

async fn an_endless_step_is_ended_by_the_deadline(bench: Bench) {
    let before = bench.engine_containers().await;
    let mut request = unique(&bench, "RUN echo going to bed && sleep 86413");
    request.timeout = seconds(6);
    let begun = Instant::now();
    match bench.build(request).await.0 {
        Err(BuildError::TimedOut { step, output_tail, .. }) => {
            assert_eq!(step.unwrap().number, 3);
            assert!(output_tail.contains("going to bed"), "{output_tail}");
        }
        other => panic!("{other:?}"),
    }
    assert!(begun.elapsed() < seconds(16), "{:?}", begun.elapsed());
    // Already gone when the answer comes, not some time later.
    assert!(!command_lines().contains("sleep 86413"));
    until("the step's container is gone", || async { bench.engine_containers().await.iter().all(|id| before.contains(id)) }).await;
}

async fn a_dropped_build_leaves_no_process(bench: Bench) {
    let before = bench.engine_containers().await;
    let (progress, mut told) = mpsc::channel(8);
    let request = unique(&bench, "RUN echo started && sleep 86414");
    {
        let build = bench.rt.build(request, progress);
        let started = async {
            while let Some(event) = told.recv().await {
                if matches!(&event, BuildEvent::Output { text } if text.contains("started")) {
                    return;
                }
            }
        };
        tokio::select! {
            result = build => panic!("{result:?}"),
            () = started => {}
        }
    }
    assert!(command_lines().contains("sleep 86414"), "it was running");
    let begun = Instant::now();
    until("the process of the dropped build is gone", || async { !command_lines().contains("sleep 86414") }).await;
    eprintln!("gone {:?} after the drop", begun.elapsed());
    until("the step's container is gone", || async { bench.engine_containers().await.iter().all(|id| before.contains(id)) }).await;
}

async fn a_fork_bomb_is_held(bench: Bench) {
    if !bench.rt.probe().await.unwrap().can_limit_build_pids {
        eprintln!("not tested: no permission to make cgroups");
        return;
    }
    let mut request = unique(&bench, "RUN bomb() { bomb | bomb & }; bomb; for i in $(seq 200); do sleep 86415 & done; wait");
    request.limits.pids = 40;
    request.timeout = seconds(8);
    let build = bench.build(request);
    // Whole command lines: only the sleepers themselves, which stay, not the shells that come and go while we count.
    let count = || command_lines().lines().filter(|line| line.trim() == "sleep 86415").count();
    let watch = async {
        let mut most = 0;
        loop {
            most = most.max(count());
            tokio::time::sleep(Duration::from_millis(50)).await;
            if most > 40 {
                return most;
            }
        }
    };
    tokio::select! {
        (result, events) = build => {
            assert!(matches!(result, Err(BuildError::Failed { .. } | BuildError::TimedOut { .. })), "{result:?}");
            assert!(format!("{events:?}").contains("can't fork"), "{events:?}");
        }
        most = watch => panic!("{most} processes at once"),
    }
    assert_eq!(count(), 0);
    // The host still starts processes, and builds still work.
    bench.build(unique(&bench, "RUN true")).await.0.unwrap();
}

async fn memory_of_all_steps_is_held(bench: Bench) {
    let mut request = unique(&bench, "RUN dd if=/dev/zero of=/dev/null bs=150M count=1");
    request.limits.memory_bytes = 64 << 20;
    let (step, code, _) = failed(bench.build(request).await.0);
    assert_eq!((step, code), (Some(3), Some(137)));
    bench.build(unique(&bench, "RUN dd if=/dev/zero of=/dev/null bs=150M count=1")).await.0.unwrap();
}

async fn a_step_that_burns_cpu_gets_no_more_than_its_share(bench: Bench) {
    let burn = "while true; do true; done";
    let mut request = unique(&bench, &format!("RUN (timeout 4 sh -c '{burn}' & timeout 4 sh -c '{burn}' & wait; times)"));
    request.limits.cpu_millis = 200;
    let (_, events) = bench.build(request).await;
    // The last line of `times`: user and system time of the children, as 0m0.40s 0m0.00s.
    let output: String =
        events.iter().filter_map(|event| if let BuildEvent::Output { text } = event { Some(text.as_str()) } else { None }).collect();
    let times = output.lines().rfind(|line| line.starts_with("0m")).unwrap_or_else(|| panic!("{output}"));
    let seconds: f64 = times.split(' ').map(|time| time.trim_start_matches("0m").trim_end_matches('s').parse::<f64>().unwrap()).sum();
    // On a machine that is busy with other things it gets less than its share, but some.
    assert!((0.05..1.3).contains(&seconds), "4 s at 200 milli-cores are at most 0.8 s, not {seconds}");
}

async fn builds_have_no_network_unless_asked(bench: Bench) {
    let (result, events) = bench.build(unique(&bench, "RUN echo devices: $(ls /sys/class/net)")).await;
    result.unwrap();
    assert!(format!("{events:?}").contains("devices: lo\\n"), "{events:?}");
    let mut request = unique(&bench, "RUN echo devices: $(ls /sys/class/net)");
    request.network = Network::Open;
    let (result, events) = bench.build(request).await;
    result.unwrap();
    assert!(format!("{events:?}").contains("devices: eth0 lo"), "{events:?}");
    assert_eq!(bench.engine_networks().await, Vec::<String>::new(), "the network went with the build");
}

async fn a_step_that_fills_the_disk_is_stopped(bench: Bench) {
    if !bench.rt.probe().await.unwrap().can_limit_build_pids {
        eprintln!("not tested: no permission to make cgroups");
        return;
    }
    let mut request = unique(&bench, "RUN dd if=/dev/zero of=/big bs=1M count=20 && sleep 86416");
    request.limits.image_bytes = 10 << 20;
    match timeout(seconds(60), bench.build(request)).await.unwrap().0 {
        Err(BuildError::TooLarge { limit_bytes, found_bytes, step, .. }) => {
            assert_eq!((limit_bytes, step.unwrap().number), (10 << 20, 3));
            assert!(found_bytes >= 20 << 20, "{found_bytes}");
        }
        other => panic!("{other:?}"),
    }
    assert!(!command_lines().contains("sleep 86416"));
}

async fn an_image_over_the_limit_is_refused(bench: Bench) {
    let mut request = unique(&bench, "RUN dd if=/dev/zero of=/big bs=1M count=5");
    request.limits.image_bytes = 4 << 20;
    let tag = request.tag.clone();
    let (result, _) = bench.build(request).await;
    assert!(matches!(result, Err(BuildError::TooLarge { step: None, .. })), "{result:?}");
    assert_eq!(bench.rt.image(&tag).await.unwrap(), None);
}

/// Builds that share layers, at once.
const SHARERS: usize = 6;
/// Builds of each of them.
const ROUNDS: usize = 6;

async fn removed_images_take_no_layers_from_builds_that_run(bench: Bench) {
    let shared = unique(&bench, "ENV A=1\nENV B=2\nENV C=3\nENV D=4\n");
    let sharers = (0..SHARERS).map(|sharer| {
        let (bench, mut request) = (&bench, shared.clone());
        request.tag = format!("{}-{sharer}", shared.tag);
        request.instance_key = InstanceKey::parse(&format!("sharer-{sharer}")).unwrap();
        async move {
            for round in 0..ROUNDS {
                let (image, _) = bench.build(request.clone()).await;
                image.unwrap_or_else(|e| panic!("sharer {sharer}, round {round}: {e}"));
                bench.rt.remove_image(&request.tag).await.unwrap();
            }
        }
    });
    futures::future::join_all(sharers).await;
}
