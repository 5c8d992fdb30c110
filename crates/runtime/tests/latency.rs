//! What the trait costs over the bare engine: create, start, wait and remove of a program that does nothing, both ways in
//! turn in one run. Slow and about numbers, so it runs only when asked for:
//! `FARM_TEST_ENGINE=… cargo test -p pasture-runtime --test latency -- --ignored --nocapture`

#![cfg(test)]

mod support;

use std::time::{Duration, Instant};

use bollard::{
    models::{ContainerCreateBody, HostConfig},
    query_parameters::{CreateContainerOptions, RemoveContainerOptionsBuilder, StartContainerOptions, WaitContainerOptions},
};
use futures::StreamExt;
use pasture_runtime::Network;
use support::Bench;

const ROUNDS: usize = 21;
/// Goal of the product for a whole `farm run` over the engine; the trait may take a part of it.
const GOAL: Duration = Duration::from_millis(75);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures; run it alone"]
async fn the_trait_costs_little_over_the_engine() {
    support::run("latency", compare).await;
}

async fn compare(bench: Bench) {
    let (mut raw, mut ours, mut output, mut network) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        raw.push(engine_alone(&bench).await);
        ours.push(through_the_trait(&bench, |_| ()).await);
        output.push(
            through_the_trait(&bench, |workload| {
                workload.output_dir = Some("/out".into());
                workload.limits.disk_bytes = 64 << 20;
            })
            .await,
        );
        network.push(through_the_trait(&bench, |workload| workload.network = Network::Open).await);
    }
    for (name, times) in
        [("engine alone", &mut raw), ("trait", &mut ours), ("trait, output volume", &mut output), ("trait, open network", &mut network)]
    {
        times.sort();
        eprintln!("{name:22} median {:?}  min {:?}  max {:?}", times[ROUNDS / 2], times[0], times[ROUNDS - 1]);
    }
    let cost = ours[ROUNDS / 2].saturating_sub(raw[ROUNDS / 2]);
    assert!(cost < GOAL, "the trait costs {cost:?}");
}

async fn engine_alone(bench: &Bench) -> Duration {
    let begun = Instant::now();
    let docker = bench.raw();
    let body = ContainerCreateBody {
        image: Some(bench.base.clone()),
        cmd: Some(vec!["/bin/true".into()]),
        host_config: Some(HostConfig { network_mode: Some("none".into()), ..Default::default() }),
        ..Default::default()
    };
    let id = docker.create_container(None::<CreateContainerOptions>, body).await.unwrap().id;
    docker.start_container(&id, None::<StartContainerOptions>).await.unwrap();
    docker.wait_container(&id, None::<WaitContainerOptions>).next().await.unwrap().unwrap();
    docker.remove_container(&id, Some(RemoveContainerOptionsBuilder::default().force(true).build())).await.unwrap();
    begun.elapsed()
}

async fn through_the_trait(bench: &Bench, change: impl FnOnce(&mut pasture_runtime::Workload)) -> Duration {
    let mut workload = bench.shell("");
    workload.command = vec!["/bin/true".into()];
    workload.args.clear();
    change(&mut workload);
    let begun = Instant::now();
    let id = bench.start(&workload).await;
    assert_eq!(bench.rt.wait(&id).await.unwrap().code, 0);
    bench.rt.remove(&id).await.unwrap();
    begun.elapsed()
}
