//! Restarts and health checks on a real container engine: what a job's user asked for happens while nobody is looking.

use crate::support::{Bench, Client, file_in_tar, script, until};
use pasture_api::data::{LeaseStatus, Phase, Wellness};
use pasture_provider::{Provider, ShutdownMode};
use pasture_types::event::Event;
use pasture_types::lease::{EndReason, LeaseState};
use pasture_types::life::{Health, Life, Probe, Restart};
use pasture_types::spec::Manifest;
use pasture_types::{LeaseId, Millis};

const HOUR: Millis = Millis(3_600_000);

fn living(text: &str, life: Life) -> Manifest {
    let mut manifest = script(text);
    // With a size, the output is a file system of its own.
    manifest.resources.disk_bytes = 8 << 20;
    Manifest { life, ..manifest }
}

async fn begin(bench: &Bench, provider: &Provider, manifest: &Manifest, number: u8) -> (Client, LeaseId) {
    let lease = bench.network.match_lease(manifest, number, HOUR);
    let client = bench.client(provider, lease);
    client.found().await;
    client.ok("PUT", "manifest", manifest.to_bytes()).await;
    (client, lease)
}

fn told(status: &LeaseStatus) -> Vec<&str> {
    status.history.iter().map(|h| h.text.text()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_fails_is_started_again_with_its_output_and_its_log() {
    let bench = Bench::new("retry").await;
    let provider = bench.start().await;
    let text =
        "cd $FARM_OUTPUT_DIR; echo x >>tries; echo try $FARM_RESTART of $(hostname); test $(wc -l <tries) -ge 3 || exit 7; echo done";
    let life = Life { restart: Restart::OnFailure, retry: Some(5), ..Life::default() };
    let (client, _) = begin(&bench, &provider, &living(text, life), 1).await;
    let log = client.log().await;
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(lines.len(), 6, "{log}");
    assert!(lines[0].starts_with("try 0 of") && lines[2].starts_with("try 1 of") && lines[4].starts_with("try 2 of"), "{log}");
    assert_eq!(lines[1], "[farm] the job ended with exit code 7; restart 1 of 5 in 0.5 s");
    assert_eq!(lines[3], "[farm] the job ended with exit code 7; restart 2 of 5 in 1.0 s");
    assert_eq!(lines[5], "done");
    assert!(lines[0] != lines[2].replace("try 1", "try 0"), "each time a container of its own: {log}");
    let ended = client.status().await;
    assert_eq!((ended.end.clone(), ended.restarts), (Some(EndReason::Exited { code: 0 }), 2));
    assert_eq!(told(&ended).last(), Some(&"ended with exit code 0"));
    let output = client.ok("GET", "output?offset=0", vec![]).await;
    assert_eq!(file_in_tar(&client.open_output(&output), "tries").as_deref(), Some("x\nx\nx\n"));
    until("nothing is left in the engine", || async { bench.runtime.list(&bench.owner()).await.unwrap().is_empty() }).await;
    assert!(provider.shutdown(ShutdownMode::Detach).await);
    bench.clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_whose_health_check_fails_is_replaced_and_gets_well() {
    let bench = Bench::new("health").await;
    let provider = bench.start().await;
    // The first one is well for a moment; the second one stays so.
    let text = "cd $FARM_OUTPUT_DIR; echo x >>runs; touch /tmp/up; n=$(wc -l <runs); \
                if [ $n -lt 2 ]; then sleep 2; rm /tmp/up; fi; trap 'exit 0' TERM; while true; do sleep 0.1; done";
    let health = Health {
        probe: Probe::Exec(vec!["test".into(), "-f".into(), "/tmp/up".into()]),
        interval: Millis(500),
        timeout: Millis(3_000),
        retries: 2,
        start: Millis(0),
    };
    let life = Life { restart: Restart::Always, health: Some(health), ..Life::default() };
    let (client, _) = begin(&bench, &provider, &living(text, life), 1).await;
    let healthy = |s: &LeaseStatus| s.health.as_ref().is_some_and(|h| h.state == Wellness::Healthy);
    until("healthy at first", || async { healthy(&client.status().await) }).await;
    until("replaced", || async { client.status().await.restarts == 1 }).await;
    until("well again", || async {
        let s = client.status().await;
        s.phase == Phase::Running && healthy(&s)
    })
    .await;
    // A provider that comes back finds the second instance, and goes on looking after it.
    assert!(provider.shutdown(ShutdownMode::Detach).await);
    let provider = bench.start().await;
    let client = bench.client(&provider, client.lease());
    until("looked after again", || async { healthy(&client.status().await) }).await;
    client.ok("POST", "stop?grace_ms=2000", vec![]).await;
    let log = client.log().await;
    assert_eq!(log.matches("[farm] the job stopped, since its health check failed: exit code 1; restart 1 in 0.5 s").count(), 1, "{log}");
    let ended = client.status().await;
    assert_eq!((ended.end.clone(), ended.restarts), (Some(EndReason::StoppedByUser), 1), "{:?}", told(&ended));
    assert!(provider.shutdown(ShutdownMode::Detach).await);
    bench.clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ports_and_http_are_checked_from_inside() {
    let bench = Bench::new("probes").await;
    let provider = bench.start().await;
    let serve = "mkdir -p /tmp/www; echo ok >/tmp/www/up; exec httpd -f -p 8080 -h /tmp/www";
    let check = |probe| Health { probe, interval: Millis(500), timeout: Millis(2_000), retries: 2, start: Millis(0) };
    for (number, probe, well) in [
        (1, Probe::Port(8080), true),
        (2, Probe::Http { port: 8080, path: "/up".into() }, true),
        (3, Probe::Http { port: 8080, path: "/missing".into() }, false),
        (4, Probe::Port(9), false),
    ] {
        let life = Life { health: Some(check(probe.clone())), ..Life::default() };
        let (client, _) = begin(&bench, &provider, &living(serve, life), number).await;
        if well {
            until("healthy", || async { client.status().await.health.is_some_and(|h| h.state == Wellness::Healthy) }).await;
            client.ok("POST", "stop?grace_ms=0", vec![]).await;
        }
        let ended = client.reach(Phase::Ended).await;
        assert_eq!(ended.detail.text().contains("health check failed"), !well, "{probe:?}: {ended:?}");
        assert_eq!(ended.end == Some(EndReason::StoppedByUser), well, "{probe:?}: {ended:?}");
    }
    assert!(provider.shutdown(ShutdownMode::Detach).await);
    bench.clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateways_false_word_of_an_end_ends_nothing() {
    let bench = Bench::new("false-word").await;
    let provider = bench.start().await;
    let manifest = script("trap 'exit 0' TERM; while :; do sleep 0.1; done");
    let (client, lease) = begin(&bench, &provider, &manifest, 21).await;
    client.reach(Phase::Running).await;
    let (account, node) = {
        let view = bench.network.lease_view(lease);
        (view.account, view.node)
    };
    for state in [LeaseState::Closing, LeaseState::Closed] {
        bench.network.emit(Event::LeaseChanged { lease, account, node, state, reason: Some(EndReason::Lost) });
    }
    // Events come in order: whoever knows the next one has heard of these.
    let (other, _) = begin(&bench, &provider, &manifest, 22).await;
    other.reach(Phase::Running).await;
    assert_eq!(client.status().await.phase, Phase::Running);
    for client in [client, other] {
        client.ok("POST", "stop?grace_ms=5000", vec![]).await;
        assert_eq!(client.reach(Phase::Ended).await.end, Some(EndReason::StoppedByUser));
    }
    assert!(provider.shutdown(ShutdownMode::Drain).await);
    bench.clean().await;
}
