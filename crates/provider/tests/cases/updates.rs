//! What a lease runs is changed within it, on a real container engine.

use crate::support::{Bench, Client, script, until};
use pasture_api::data::{LeaseStatus, Phase, UpdateState};
use pasture_provider::{Provider, ShutdownMode};
use pasture_types::lease::EndReason;
use pasture_types::spec::{Manifest, Source};
use pasture_types::{LeaseId, Millis};

const SERVE: &str =
    "trap 'exit 0' TERM; echo version $VERSION on $(hostname); echo $VERSION >>$FARM_OUTPUT_DIR/seen; while true; do sleep 0.1; done";

fn version(number: u8) -> Manifest {
    let mut manifest = script(SERVE);
    manifest.salt = [number; 16];
    manifest.resources.disk_bytes = 8 << 20;
    manifest.env.insert("VERSION".into(), number.to_string());
    manifest
}

fn done(status: &LeaseStatus, manifest: &Manifest) -> bool {
    status.update.as_ref().is_some_and(|u| u.manifest == manifest.hash() && u.state == UpdateState::Done)
}

async fn begin(bench: &Bench, provider: &Provider) -> (Client, LeaseId) {
    let first = version(1);
    let lease = bench.network.match_lease(&first, 1, Millis(3_600_000));
    let client = bench.client(provider, lease);
    client.found().await;
    client.ok("PUT", "manifest", first.to_bytes()).await;
    client.reach(Phase::Running).await;
    (client, lease)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_lease_runs_is_changed_and_a_provider_that_dies_meanwhile_goes_on_with_it() {
    let bench = Bench::new("updates").await;
    let provider = bench.start().await;
    let (client, lease) = begin(&bench, &provider).await;
    client.ok("PUT", "update", version(2).to_bytes()).await;
    // The same again, as after an answer that was lost.
    client.ok("PUT", "update", version(2).to_bytes()).await;
    until("the second version runs", || async { done(&client.status().await, &version(2)) }).await;
    client.ok("PUT", "update", version(3).to_bytes()).await;
    assert!(provider.shutdown(ShutdownMode::Detach).await);
    let provider = bench.start().await;
    let client = bench.client(&provider, lease);
    until("the third version runs", || async { done(&client.status().await, &version(3)) }).await;
    // What is current after that is what a further start takes up.
    assert!(provider.shutdown(ShutdownMode::Detach).await);
    let provider = bench.start().await;
    let client = bench.client(&provider, lease);
    client.reach(Phase::Running).await;
    client.ok("POST", "stop?grace_ms=2000", vec![]).await;
    let ended = client.reach(Phase::Ended).await;
    assert_eq!((ended.end.clone(), ended.restarts), (Some(EndReason::StoppedByUser), 0), "{ended:?}");
    let log = client.log().await;
    let said: Vec<&str> = log.lines().map(|l| l.split(" on ").next().unwrap()).collect();
    assert_eq!(said, ["version 1", "[farm] the job is updated", "version 2", "[farm] the job is updated", "version 3"], "{log}");
    let output = client.ok("GET", "output?offset=0", vec![]).await;
    assert_eq!(crate::support::file_in_tar(&client.open_output(&output), "seen").as_deref(), Some("1\n2\n3\n"), "the output is one");
    until("nothing is left in the engine", || async { bench.runtime.list(&bench.owner()).await.unwrap().is_empty() }).await;
    assert!(provider.shutdown(ShutdownMode::Detach).await);
    bench.clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_changed_is_refused_and_stops_nothing() {
    let bench = Bench::new("not-updates").await;
    let provider = bench.start().await;
    let (client, _) = begin(&bench, &provider).await;
    type Change = fn(&mut Manifest);
    let wrong: [(&str, Change); 4] = [
        ("the lease holds", |m| m.resources.cpu_millis *= 2),
        ("can change within a lease", |m| m.pids += 1),
        ("FARM_", |m| drop(m.env.insert("FARM_X".into(), String::new()))),
        ("network access", |m| m.egress = pasture_types::market::Egress::Open),
    ];
    for (words, change) in wrong {
        let mut manifest = version(2);
        change(&mut manifest);
        let answer = client.send("PUT", "update", manifest.to_bytes()).await;
        assert_eq!(answer.status(), 422, "{words}");
        let text = answer.text().await.unwrap();
        assert!(text.contains(words), "{words}: {text}");
    }
    assert_eq!(client.send("PUT", "update", vec![7; 40]).await.status(), 422);
    let nowhere = Manifest { source: Source::Image("pasture/nowhere:1".into()), ..version(2) };
    client.ok("PUT", "update", nowhere.to_bytes()).await;
    until("it is told", || async { client.status().await.update.is_some_and(|u| u.state == UpdateState::Failed && !u.detail.is_empty()) })
        .await;
    let status = client.status().await;
    assert_eq!((status.phase, status.restarts), (Phase::Running, 0));
    // Another one may follow one that failed.
    client.ok("PUT", "update", version(2).to_bytes()).await;
    until("it runs", || async { done(&client.status().await, &version(2)) }).await;
    client.ok("POST", "stop?grace_ms=2000", vec![]).await;
    client.reach(Phase::Ended).await;
    assert_eq!(client.send("PUT", "update", version(3).to_bytes()).await.status(), 409);
    assert!(provider.shutdown(ShutdownMode::Detach).await);
    bench.clean().await;
}
