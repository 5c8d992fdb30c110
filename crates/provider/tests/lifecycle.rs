//! A provider on a real container engine, with a ledger in memory: the life of a lease, and what may go wrong with it.
//!
//! The engine's socket comes from `FARM_TEST_ENGINE`. Does not: kill processes (that is the black-box kill test).

#![cfg(test)]

#[path = "cases/audits.rs"]
mod audits;
#[path = "cases/blobs.rs"]
mod blobs;
mod support;
#[path = "cases/updates.rs"]
mod updates;
#[path = "cases/upkeep.rs"]
mod upkeep;

use pasture_api::data::{AliveAnswer, ContextStatus, NodeEvent, Phase};
use pasture_provider::{MissingDeposit, ShutdownMode};
use pasture_runtime::InstanceId;
use pasture_types::lease::{EndReason, LeaseState};
use pasture_types::market::{BillingUnit, Term, Window};
use pasture_types::spec::Source;
use pasture_types::{Millis, SigningKey, blob};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use support::network::closed_with;
use support::{Bench, Client, file_in_tar, script, tar_of, until};

const HOUR: Millis = Millis(3_600_000);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_is_built_run_confirmed_proven_and_closed() {
    let bench = Bench::new("folder").await;
    let provider = bench.start().await;
    {
        let ledger = bench.network.ledger.lock().unwrap();
        assert_eq!(ledger.provider.as_deref(), Some("here"));
        assert!(ledger.offer.is_some() && ledger.node.as_ref().unwrap().cpu_hashes_per_s > 1_000);
        assert_eq!(ledger.announced.as_deref(), Some(format!("http://{}", provider.data_address()).as_str()));
    }
    let dockerfile = format!("FROM {}\nRUN echo built > /made\n", support::BASE);
    let context = tar_of(&[("Dockerfile", dockerfile.as_bytes())]);
    let mut manifest = script(
        "cat /made; echo $GREETING $FARM_NODE_RANK; sleep 0.3; echo oops >&2; sleep 2.2; echo result > $FARM_OUTPUT_DIR/r.txt; exit 3",
    );
    manifest.source = Source::Build {
        context: blob::hash(&context),
        context_bytes: context.len() as u64,
        dockerfile: "Dockerfile".into(),
        args: BTreeMap::new(),
        timeout: Millis(60_000),
    };
    let lease = bench.network.match_lease(&manifest, 1, HOUR);
    let client = bench.client(&provider, lease);
    client.found().await;

    // Strangers, and those who change something on the way, get nothing.
    let mut stranger = client.clone();
    stranger.key = SigningKey::from_seed([77; 32]);
    assert_eq!(stranger.send("GET", "status", vec![]).await.status(), 403);
    let mut other = manifest.clone();
    other.pids += 1;
    assert_eq!(client.send("PUT", "manifest", other.to_bytes()).await.status(), 422);
    assert_eq!(client.send("GET", "context", vec![]).await.status(), 409);

    let events = pasture_rt::spawn(pasture_rt::TaskKind::ClientFollow, {
        let client = client.clone();
        async move { client.follow().await }
    });
    let sent = Instant::now();
    client.ok("PUT", "manifest", manifest.to_bytes()).await;
    // In two pieces, the second of which knows where to go on.
    let (head, tail) = context.split_at(700);
    let status: ContextStatus = serde_json::from_slice(&client.ok("PUT", "context?offset=0", head.to_vec()).await).unwrap();
    assert_eq!((status.received, status.complete), (700, false));
    assert_eq!(client.send("PUT", "context?offset=9", tail.to_vec()).await.status(), 409);
    let status: ContextStatus = serde_json::from_slice(&client.ok("PUT", "context?offset=700", tail.to_vec()).await).unwrap();
    assert!(status.complete);

    let running = client.reach(Phase::Running).await;
    let alive: AliveAnswer = serde_json::from_slice(&client.ok("POST", "alive", vec![]).await).unwrap();
    assert!(alive.alive, "{}", alive.detail);
    while client.status().await.phase == Phase::Running {
        bench.network.tick();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let events = events.join().await.unwrap();
    assert!(events.iter().any(|e| matches!(e, NodeEvent::Output { line } if line.text().contains("RUN echo built"))));
    assert_eq!(client.log().await, "built\nhello 0\noops\n");
    let ended = client.status().await;
    assert_eq!((ended.end, ended.container.clone()), (Some(EndReason::Exited { code: 3 }), running.container));

    check_output(&client).await;
    until("closed", || async { bench.network.lease_view(lease).state == LeaseState::Closing }).await;
    let view = bench.network.lease_view(lease);
    assert_eq!(view.reason, Some(EndReason::Exited { code: 3 }));
    assert_eq!((view.served_ms, view.confirmed_ms), (ended.served_ms, ended.served_ms));
    // At least what the script sleeps; at most what passed here, however busy the machine.
    assert!((2_400..=sent.elapsed().as_millis().try_into().unwrap()).contains(&view.served_ms.0), "{}", view.served_ms);
    let log = client.ok("GET", "logs", vec![]).await;
    {
        let ledger = bench.network.ledger.lock().unwrap();
        assert_eq!(ledger.usages.last().unwrap().usage.log_root, blob::hash(&log));
        assert!(ledger.heartbeats.len() >= 3, "{:?}", ledger.heartbeats);
    }
    until("removed", || async { bench.runtime.list(&bench.owner()).await.unwrap().is_empty() }).await;
    assert!(provider.shutdown(ShutdownMode::Drain).await);
    assert!(bench.network.ledger.lock().unwrap().offer.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_is_announced_again_before_it_lapses() {
    let bench = Bench::new("announced").await;
    let mut options = bench.options();
    options.announce_every = Duration::from_millis(20);
    let provider = bench.start_with(options).await;
    // One before the offer and one of the connection; the others are renewals.
    until("it is announced again", || async { bench.network.ledger.lock().unwrap().announcements >= 4 }).await;
    assert!(provider.shutdown(ShutdownMode::Drain).await);
}

/// The output comes back whole, hashed, and from any offset.
async fn check_output(client: &Client) {
    let output = client.send("GET", "output", vec![]).await;
    let hash = output.headers()["x-blake3"].to_str().unwrap().to_owned();
    let sealed = output.bytes().await.unwrap();
    assert_eq!(blob::hash(&sealed).to_string(), hash);
    assert_eq!(file_in_tar(&client.open_output(&sealed), "r.txt").as_deref(), Some("result\n"));
    let half = client.ok("GET", &format!("output?offset={}", sealed.len() / 2), vec![]).await;
    assert_eq!(half, sealed[sealed.len() / 2..]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_takes_the_same_container_up_and_the_log_goes_on() {
    let bench = Bench::new("restart").await;
    let provider = bench.start().await;
    let manifest = script("i=0; while [ $i -lt 40 ]; do echo line $i; i=$((i+1)); sleep 0.1; done");
    let lease = bench.network.match_lease(&manifest, 2, HOUR);
    let client = bench.client(&provider, lease);
    client.found().await;
    client.ok("PUT", "manifest", manifest.to_bytes()).await;
    let before = client.reach(Phase::Running).await;
    until("some log", || async { client.status().await.log_bytes > 40 }).await;
    assert!(provider.shutdown(ShutdownMode::Detach).await);
    // An orphan of ours is swept, and a lease whose network is away is taken up all the same.
    bench.network.away.store(true, Ordering::SeqCst);
    let provider = bench.start().await;
    bench.network.away.store(false, Ordering::SeqCst);
    let client = bench.client(&provider, lease);
    client.found().await;
    let after = client.reach(Phase::Running).await;
    assert_eq!((before.container, before.started), (after.container, after.started));
    // Whoever reads on from a place inside a segment gets its key as well.
    let sealed = client.ok("GET", "logs?from=0&follow=true", vec![]).await;
    let (chunks, last) = (client.open_log(&sealed, 0), sealed.len() - 21 - 5 - "line 39\n".len());
    let rest = client.ok("GET", &format!("logs?from={last}"), vec![]).await;
    assert_eq!(client.open_log(&rest, last as u64), ["line 39\n"], "{chunks:?}");
    let log = chunks.concat();
    let expected: String = (0..40).map(|i| format!("line {i}\n")).collect();
    assert_eq!(log, expected);
    assert_eq!(client.reach(Phase::Ended).await.end, Some(EndReason::Exited { code: 0 }));
    until("closed", || async { closed_with(&bench.network, lease).is_some() }).await;
    assert!(bench.network.lease_view(lease).served_ms.0 >= 4_000);
    // What has ended is still served after another restart.
    assert!(provider.shutdown(ShutdownMode::Detach).await);
    let provider = bench.start().await;
    assert_eq!(bench.client(&provider, lease).log().await, expected);
    assert!(provider.shutdown(ShutdownMode::Drain).await);
    bench.clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stops_failures_and_caps_end_honestly() {
    let bench = Bench::new("ends").await;
    let provider = bench.start().await;
    let forever = || script("trap 'echo bye; exit 0' TERM; while :; do sleep 0.1; done");

    // The user stops it: SIGTERM first, so that it can say goodbye.
    let lease = bench.network.match_lease(&forever(), 3, HOUR);
    let client = bench.client(&provider, lease);
    client.found().await;
    client.ok("PUT", "manifest", forever().to_bytes()).await;
    client.reach(Phase::Running).await;
    client.ok("POST", "stop?grace_ms=5000", vec![]).await;
    assert_eq!(client.reach(Phase::Ended).await.end, Some(EndReason::StoppedByUser));
    assert_eq!(client.log().await, "bye\n");

    // The cap does the same, and no more than the cap is claimed.
    let lease = bench.network.match_lease(&forever(), 4, Millis(1_500));
    let client = bench.client(&provider, lease);
    client.found().await;
    client.ok("PUT", "manifest", forever().to_bytes()).await;
    let ended = client.reach(Phase::Ended).await;
    assert_eq!((ended.end, ended.served_ms), (Some(EndReason::CapReached), Millis(1_500)));

    // Somebody removes the container: not the job's exit, and told as what it is.
    let lease = bench.network.match_lease(&forever(), 5, HOUR);
    let client = bench.client(&provider, lease);
    client.found().await;
    client.ok("PUT", "manifest", forever().to_bytes()).await;
    let container = InstanceId(client.reach(Phase::Running).await.container.unwrap());
    bench.runtime.remove(&container).await.unwrap();
    let ended = client.reach(Phase::Ended).await;
    assert!(matches!(ended.end, Some(EndReason::StoppedByProvider | EndReason::Exited { code: 137 })), "{ended:?}");

    // A command that is not there.
    let mut missing = script("");
    missing.command = Some(vec!["/no/such".into()]);
    let lease = bench.network.match_lease(&missing, 6, HOUR);
    let client = bench.client(&provider, lease);
    client.found().await;
    client.ok("PUT", "manifest", missing.to_bytes()).await;
    let ended = client.reach(Phase::Ended).await;
    assert_eq!(ended.end, Some(EndReason::StartFailed));
    assert!(ended.detail.text().contains("/no/such"), "{}", ended.detail);

    // More than is offered: refused.
    let mut huge = script("true");
    huge.resources.memory_bytes = 1 << 40;
    let lease = bench.network.match_lease(&huge, 7, HOUR);
    until("refused", || async { !bench.network.ledger.lock().unwrap().leases.contains_key(&lease) }).await;

    // Draining while one runs: stopped by the provider.
    let lease = bench.network.match_lease(&forever(), 8, HOUR);
    let client = bench.client(&provider, lease);
    client.found().await;
    client.ok("PUT", "manifest", forever().to_bytes()).await;
    client.reach(Phase::Running).await;
    assert!(provider.shutdown(ShutdownMode::Drain).await);
    assert_eq!(closed_with(&bench.network, lease), Some(EndReason::StoppedByProvider));
    assert!(bench.runtime.list(&bench.owner()).await.unwrap().is_empty());
    // All five that ran or failed were closed on the ledger.
    for number in [3, 4, 5, 6, 8] {
        let view = bench.network.lease_view(pasture_types::LeaseId([number; 32]));
        assert_eq!(view.state, LeaseState::Closing, "{number}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_is_away_stops_nothing_and_hears_of_it_later() {
    let bench = Bench::new("away").await;
    let provider = bench.start().await;
    let manifest = script("echo one; sleep 1; echo two; exit 5");
    let lease = bench.network.match_lease(&manifest, 9, HOUR);
    let client = bench.client(&provider, lease);
    client.found().await;
    client.ok("PUT", "manifest", manifest.to_bytes()).await;
    client.reach(Phase::Running).await;
    bench.network.away.store(true, Ordering::SeqCst);
    let ended = client.reach(Phase::Ended).await;
    assert_eq!(ended.end, Some(EndReason::Exited { code: 5 }));
    assert_eq!(client.log().await, "one\ntwo\n");
    assert_eq!(closed_with(&bench.network, lease), None);
    bench.network.away.store(false, Ordering::SeqCst);
    until("closed", || async { closed_with(&bench.network, lease).is_some() }).await;
    let usages = bench.network.ledger.lock().unwrap().usages.len();
    assert_eq!(usages, 1, "the statement went there once");
    assert!(provider.shutdown(ShutdownMode::Drain).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_without_a_deposit_begins_with_a_stamp_and_goes_on_with_it() {
    let bench = Bench::new("newcomer").await;
    let options = || pasture_provider::Options { missing_deposit: MissingDeposit::Earn, ..bench.options() };
    let provider = bench.start_with(options()).await;
    {
        let ledger = bench.network.ledger.lock().unwrap();
        assert!(ledger.newcomer && ledger.deposit.is_zero(), "the account has credits, but is to keep them");
        assert!(ledger.offer.is_some());
    }
    assert!(provider.shutdown(ShutdownMode::Detach).await);
    // A second stamp is neither made nor asked for, whatever the options say.
    let again = bench.start_with(pasture_provider::Options { missing_deposit: MissingDeposit::Post, ..bench.options() }).await;
    assert!(bench.network.ledger.lock().unwrap().deposit.is_zero());
    assert!(again.shutdown(ShutdownMode::Drain).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_that_agreed_to_it_are_told_and_ended_when_the_machines_hours_are_over() {
    const WEEK_MINUTES: u64 = 7 * 24 * 60;
    let bench = Bench::new("hours").await;
    // An hour of the week that is not now. 1970 began on a Thursday.
    let minute = (support::network::now().0 / 60_000 + 3 * 24 * 60 + 2_000) % (WEEK_MINUTES - 60);
    let from = u16::try_from(minute).unwrap();
    let mut options = bench.options();
    options.offer.windows = vec![Window { from, to: from + 60 }];
    let provider = bench.start_with(options).await;
    let manifest = script("while true; do sleep 0.1; done");
    let stays = bench.network.match_lease(&manifest, 1, HOUR);
    let client = bench.client(&provider, stays);
    client.found().await;
    client.ok("PUT", "manifest", manifest.to_bytes()).await;
    bench.network.ledger.lock().unwrap().preemptible = true;
    let goes = bench.network.match_lease(&manifest, 2, HOUR);
    let other = bench.client(&provider, goes);
    other.found().await;
    other.ok("PUT", "manifest", manifest.to_bytes()).await;
    until("the lease that agreed is closed", || async { bench.network.lease_view(goes).reason == Some(EndReason::Preempted) }).await;
    assert_eq!(bench.network.ledger.lock().unwrap().noticed, [goes]);
    assert_eq!(bench.network.lease_view(stays).reason, None, "nobody agreed to an early end of this one");
    assert!(provider.shutdown(ShutdownMode::Drain).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heartbeats_go_on_the_ledger_together_where_it_waits_that_long() {
    let bench = Bench::new("bundles").await;
    bench.network.ledger.lock().unwrap().patient = Some(5);
    let provider = bench.start().await;
    let manifest = script("trap 'exit 0' TERM; while true; do sleep 0.1; done");
    let lease = bench.network.match_lease(&manifest, 1, HOUR);
    let client = bench.client(&provider, lease);
    client.found().await;
    client.ok("PUT", "manifest", manifest.to_bytes()).await;
    until("five go together", || async {
        bench.network.tick();
        bench.network.ledger.lock().unwrap().bundles.contains(&5)
    })
    .await;
    // At the end nothing waits for more: what was found goes at once.
    client.ok("POST", "stop", vec![]).await;
    until("the lease is closed", || async { bench.network.lease_view(lease).reason.is_some() }).await;
    let status = client.status().await;
    let started = status.started.unwrap();
    let (first, last) = (bench.network.epoch_of(started), bench.network.epoch_of(started.plus(status.served_ms)));
    until("each period of service is proven", || async {
        let ledger = bench.network.ledger.lock().unwrap();
        ledger.epochs.range(first..=last).all(|(epoch, _)| ledger.heartbeats.contains(epoch))
    })
    .await;
    assert!(provider.shutdown(ShutdownMode::Drain).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rental_is_left_on_the_ledger_alone() {
    let bench = Bench::new("rental").await;
    let provider = bench.start().await;
    bench.network.ledger.lock().unwrap().term = Term::Rental { unit: BillingUnit::Hour, committed: 1, locked: 1, renew: false };
    let manifest = script("trap 'exit 0' TERM; while true; do sleep 0.1; done");
    let lease = bench.network.match_lease(&manifest, 1, HOUR);
    let client = bench.client(&provider, lease);
    client.found().await;
    client.ok("PUT", "manifest", manifest.to_bytes()).await;
    client.reach(Phase::Running).await;
    assert_eq!(client.send("POST", "stop", vec![]).await.status(), 409);
    assert_eq!(bench.network.lease_view(lease).reason, None);
    assert!(provider.shutdown(ShutdownMode::Drain).await);
}
