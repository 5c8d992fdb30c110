//! Every route once, and what bad input is answered.

use crate::world::{GRANT, LEASE, NOBODY, NOW, OFFER, ORDER, World, announcement, funder, newcomer, node_key, soon, tx_id, user};
use futures::StreamExt as _;
use pasture_api::{NodeAddress, auth};
use pasture_types::grant::GrantUse;
use pasture_types::market::{AliveCheck, Disclose, Failover, Fence, OrderTerms, Verification};
use pasture_types::{Amount, AssetId, BlobHash, Height, Millis, Resources, Timestamp, codec};
use std::sync::atomic::Ordering;

fn terms() -> OrderTerms {
    OrderTerms {
        resources: Resources::default(),
        constraints: vec![],
        max_price_per_hour: Amount(99),
        max_duration: Millis(1),
        budget: Amount(1),
        asset: AssetId::CREDIT,
        priority: 0,
        verification: Verification::None,
        alive: AliveCheck::Exec,
        failover: Failover::Off,
        fence: Fence::Serve,
        disclose: Disclose::Nobody,
        spec_hash: BlobHash([0; 32]),
        model: None,
        watcher: None,
        preferences: vec![],
        expires: Timestamp(NOW),
        ..OrderTerms::default()
    }
}

#[tokio::test]
async fn every_view_answers() {
    let w = World::new().await;
    let (account, node) = (user().account(), node_key().node_id());
    assert_eq!(w.api.status().await.unwrap().height, Height(7));
    assert_eq!(w.api.account(&account).await.unwrap().balance, Amount::credits(5));
    assert_eq!(w.api.jobs(&account).await.unwrap()[0].order.id, ORDER);
    assert_eq!(w.api.jobs(&NOBODY).await.unwrap().len(), 0);
    assert_eq!(w.api.grants(&account).await.unwrap()[0].next_seq(0), 3);
    assert_eq!(w.api.grants(&NOBODY).await.unwrap().len(), 0);
    let grant = w.api.grant(&GRANT).await.unwrap();
    assert_eq!((grant.may, grant.left, grant.account), (GrantUse::Invite, Amount(7), account));
    assert_eq!(w.api.node(&node).await.unwrap().provider_name, "meadow");
    assert_eq!(w.api.node_leases(&node).await.unwrap()[0].id, LEASE);
    assert_eq!(w.api.offers().await.unwrap()[0].id, OFFER);
    assert_eq!(w.api.order(&ORDER).await.unwrap().lease, Some(LEASE));
    assert_eq!(w.api.lease(&LEASE).await.unwrap().rate_per_hour, Amount(7));
    assert_eq!(w.api.epoch(3).await.unwrap().epoch, 3);
    assert_eq!(w.api.explain(&terms()).await.unwrap().best[0].rate_per_hour, Amount(99));
    assert_eq!(w.api.head().await.unwrap().height, Height(7));
    assert_eq!(w.api.block(2).await.unwrap().height, Height(2));
    let value = w.api.state("00ff").await.unwrap();
    assert_eq!((value.key.as_str(), value.value.as_deref()), ("00ff", Some("2a")));
    assert_eq!(w.api.check().await.unwrap().checked, ["money"]);
}

#[tokio::test]
async fn an_export_that_breaks_off_is_not_taken_for_a_whole_one_and_there_is_one_at_a_time() {
    let w = World::new().await;
    let mut seen = vec![];
    // So short an answer may break off before it has begun.
    let broken = match w.api.export().await {
        Err(_) => true,
        Ok(pieces) => {
            let pieces: Vec<_> = pieces.collect().await;
            seen.extend(pieces.iter().flatten().flatten());
            pieces.iter().any(Result::is_err)
        }
    };
    assert!(broken, "a state that could not be read to its end came as if it were whole");
    assert!("the whole state".as_bytes().starts_with(&seen));
    // The slot of a reader that is gone is free again.
    soon(async {
        while let Err(e) = w.api.export().await
            && e.problem().is_some_and(|p| p.code == "busy")
        {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn transactions_reach_the_ledger_as_they_are() {
    let w = World::new().await;
    let tx = newcomer(None);
    let result = w.api.submit(&tx).await.unwrap();
    assert!(result.ok);
    assert_eq!(result.id, tx_id(&tx));
    assert_eq!(*w.ledger.submitted.lock().unwrap(), [codec::encode(&tx)]);
    assert_eq!(w.api.transaction(&result.id).await.unwrap().height, result.height);

    let tx = newcomer(Some(funder().account()));
    w.api.test_credits(&tx).await.unwrap();
    let cosigned = tx.and_sign(funder().account(), &funder());
    assert_eq!(w.ledger.submitted.lock().unwrap()[1], codec::encode(&cosigned));
    let refused = w.api.test_credits(&newcomer(None)).await.unwrap_err();
    assert_eq!(refused.problem().unwrap().status, 403);
}

#[tokio::test]
async fn what_is_not_there_is_a_404_that_names_it() {
    let w = World::new().await;
    let none = "ee".repeat(32);
    for (path, detail) in [
        (format!("/v1/accounts/{none}"), "account"),
        (format!("/v1/grants/{none}"), "grant"),
        (format!("/v1/nodes/{none}"), "node"),
        (format!("/v1/orders/{none}"), "order"),
        (format!("/v1/transactions/{none}"), "transaction in a recent block"),
        (format!("/v1/leases/{none}"), "lease"),
        (format!("/v1/leases/{none}/data/logs"), "lease"),
        ("/v1/epochs/4".into(), "epoch"),
        ("/v1/audits/4".into(), "audit"),
        ("/v1/ledger/blocks/8".into(), "block"),
    ] {
        let problem = w.refused("GET", &path, "").await;
        assert_eq!((problem.status, problem.code.as_str()), (404, "not-found"), "{path}");
        assert_eq!(problem.detail, format!("there is no such {detail}"), "{path}");
    }
    for path in ["/", "/v2/status", "/v1/status/", "/v1/accounts", "/v1/leases/x/y"] {
        let problem = w.refused("POST", path, "").await;
        assert_eq!((problem.status, problem.code.as_str()), (404, "no-such-route"), "{path}");
    }
}

#[tokio::test]
async fn a_wrong_method_is_a_405_that_says_which_is_right() {
    let w = World::new().await;
    for (method, path) in [("DELETE", "/v1/status"), ("GET", "/v1/transactions"), ("POST", "/v1/events"), ("GET", "/v1/explain")] {
        let problem = w.refused(method, path, "").await;
        assert_eq!((problem.status, problem.code.as_str()), (405, "method-not-allowed"), "{path}");
    }
    let response = w.http.delete(w.url("/v1/transactions")).send().await.unwrap();
    assert_eq!(response.headers()["allow"], "POST");
}

#[tokio::test]
async fn handovers_are_listed_and_a_set_that_never_was_has_a_code() {
    let w = World::new().await;
    let followed = w.api.handovers(&"0a".repeat(32)).await.unwrap();
    assert_eq!((followed.handovers, followed.today), (vec!["01".to_string(), "02".to_string()], "0b".repeat(32)));
    assert!(w.api.handovers(&"0b".repeat(32)).await.unwrap().handovers.is_empty());
    let problem = w.refused("GET", &format!("/v1/ledger/handovers?from={}", "0c".repeat(32)), "").await;
    assert_eq!((problem.status, problem.code.as_str()), (404, "unknown-validators"));
}

#[tokio::test]
async fn bad_arguments_say_what_is_expected() {
    let w = World::new().await;
    let short = "ab".repeat(31);
    for (path, expected) in [
        ("/v1/accounts/me".to_string(), "64 hex digits are expected"),
        (format!("/v1/accounts/{short}/jobs"), "64 hex digits are expected"),
        (format!("/v1/nodes/{short}"), "64 hex digits are expected"),
        ("/v1/nodes/zz/leases".into(), "64 hex digits are expected"),
        ("/v1/orders/%ff".into(), "UTF-8"),
        (format!("/v1/leases/0x{short}"), "64 hex digits are expected"),
        ("/v1/leases/7/data/logs".into(), "64 hex digits are expected"),
        (format!("/v1/leases/{LEASE}/data/a%2e%2e"), "words of letters"),
        ("/v1/epochs/-1".into(), "decimal digits"),
        ("/v1/ledger/blocks/latest".into(), "decimal digits"),
        ("/v1/ledger/state/xyz".into(), "bytes in hex"),
        ("/v1/ledger/handovers".into(), "64 digits in hex"),
        (format!("/v1/ledger/handovers?from={short}"), "64 digits in hex"),
        (format!("/v1/ledger/handovers?from={short}zz"), "64 digits in hex"),
        (format!("/v1/ledger/handovers?form={short}"), "unknown field"),
        ("/v1/events?account=7".into(), "64 hex digits are expected"),
        (format!("/v1/events?acount={}", "ab".repeat(32)), "unknown field"),
    ] {
        let problem = w.refused("GET", &path, "").await;
        assert_eq!((problem.status, problem.code.as_str()), (400, "bad-request"), "{path}");
        assert!(problem.detail.contains(expected), "{path}: {}", problem.detail);
    }
    let problem = w.refused("PUT", "/v1/nodes/zz/address", "{}").await;
    assert_eq!(problem.status, 400);
    for body in ["", "{", "[]", r#"{"resources": 7}"#] {
        let problem = w.refused("POST", "/v1/explain", body).await;
        assert_eq!(problem.status, 400, "{body}");
        assert!(problem.detail.contains("not the JSON that is expected"), "{}", problem.detail);
    }
    for path in ["/v1/transactions", "/v1/test-credits"] {
        assert_eq!(w.refused("POST", path, "no borsh").await.status, 400);
        assert_eq!(w.refused("POST", path, "").await.status, 400);
    }
    assert!(w.ledger.submitted.lock().unwrap().is_empty());
}

#[tokio::test]
async fn bodies_over_the_limit_are_refused() {
    let w = World::new().await;
    let streamed = |n: usize| {
        let chunks = (0..n / 1000).map(|_| Ok::<_, std::io::Error>(vec![b' '; 1000]));
        reqwest::Body::wrap_stream(futures::stream::iter(chunks))
    };
    for (method, path, limit) in [
        ("POST", "/v1/transactions".to_string(), 64 * 1024),
        ("POST", "/v1/test-credits".into(), 64 * 1024),
        ("POST", "/v1/explain".into(), 256 * 1024),
        ("PUT", format!("/v1/nodes/{}/address", node_key().node_id()), 256 * 1024),
    ] {
        let bodies = [vec![b' '; limit + 1].into(), vec![b' '; 3 << 20].into(), streamed(limit + 1001), streamed(3 << 20)];
        for body in bodies {
            let problem = w.refused(method, &path, body).await;
            assert_eq!((problem.status, problem.code.as_str()), (413, "too-large"), "{path}");
            assert!(problem.detail.contains(&limit.to_string()), "{}", problem.detail);
        }
        let fits = w.refused(method, &path, vec![b' '; limit]).await;
        assert_eq!(fits.status, 400, "{path}: what fits is looked at");
    }
}

#[tokio::test]
async fn a_node_announces_itself_under_its_own_key() {
    let w = World::new().await;
    let node = node_key().node_id();
    let path = NodeAddress::signed_path(&node, "http://127.0.0.1:4711");
    let good = announcement(&node_key(), "http://127.0.0.1:4711");
    let refused = async |announced| {
        let problem = soon(w.api.announce(&node, &announced)).await.unwrap_err().problem().unwrap().clone();
        assert!(!w.api.node(&node).await.unwrap().reachable);
        problem
    };
    let stranger = refused(announcement(&user(), "http://127.0.0.1:4711")).await;
    assert_eq!(stranger.status, 403);
    let mut broken = good.clone();
    broken.authorization = broken.authorization.replace(&format!("time={NOW}"), &format!("time={}", NOW + 1));
    assert_eq!(refused(broken).await.status, 401);
    let mut old = good.clone();
    old.authorization = auth::authorize(&node_key(), "PUT", &path, &node, NOW - 200_000);
    let old = refused(old).await;
    assert_eq!(old.status, 401);
    assert!(old.detail.contains("check both clocks"));
    let swapped = NodeAddress { address: "http://127.0.0.1:4712".into(), ..good.clone() };
    assert_eq!(refused(swapped).await.status, 401);
    let elsewhere = refused(announcement(&node_key(), "http://192.0.2.1:80")).await;
    assert_eq!(elsewhere.status, 400);
    assert!(elsewhere.detail.contains("loopback"));
    // Signed well, but by a node that is not on the ledger.
    let other = user().node_id();
    let mut unknown = good.clone();
    unknown.authorization = auth::authorize(&user(), "PUT", &NodeAddress::signed_path(&other, &good.address), &other, NOW);
    assert_eq!(w.api.announce(&other, &unknown).await.unwrap_err().problem().unwrap().status, 404);

    assert!(!w.api.offers().await.unwrap()[0].reachable);
    w.api.announce(&node, &good).await.unwrap();
    assert!(w.api.node(&node).await.unwrap().reachable);
    assert!(w.api.offers().await.unwrap()[0].reachable);
}

#[tokio::test]
async fn health_and_counters_can_be_read() {
    let w = World::new().await;
    assert_eq!(w.text("/healthz").await, "ok\n");
    assert_eq!(w.text("/readyz").await, "ready\n");
    w.refused("GET", "/nowhere", "").await;
    w.refused("DELETE", "/v1/offers", "").await;
    w.api.offers().await.unwrap();
    w.api.offers().await.unwrap();
    let text = w.text("/metrics").await;
    for line in [
        "pasture_ledger_height 7",
        "pasture_ledger_time_seconds 1700000000",
        "pasture_ledger_entries 77",
        "pasture_term_number 4",
        "pasture_term_blocks 5",
        "pasture_validators_seated 2",
        "pasture_validators_standing 3",
        "pasture_validators_suspended 0",
        "pasture_validator_seated 1",
        "pasture_peers 1",
        "pasture_engine_term_number 3",
        "pasture_engine_certifiers 2",
        "pasture_engine_certifies 1",
        "pasture_validator_term_blocks 1",
        "pasture_validator_term_blocks_share 2",
        "pasture_mempool_transactions 3",
        "pasture_gateway_event_subscribers 0",
        "pasture_gateway_requests_total{route=\"/v1/offers\",status=\"200\"} 2",
        "pasture_gateway_requests_total{route=\"/v1/offers\",status=\"405\"} 1",
        "pasture_gateway_requests_total{route=\"unknown\",status=\"404\"} 1",
    ] {
        assert!(text.lines().any(|l| l == line), "no `{line}` in\n{text}");
    }
    let value = |text: &str, name: &str| -> f64 {
        let line = text.lines().find_map(|l| l.strip_prefix(&format!("{name} "))).unwrap_or_else(|| panic!("no {name} in\n{text}"));
        line.parse().unwrap()
    };
    assert!(value(&text, "pasture_ledger_lag_seconds") >= 0.0);
    assert!(value(&text, "pasture_process_resident_memory_bytes") > 1e6 && value(&text, "pasture_process_open_files") >= 1.0);
    // Each figure has its help and its kind, and is listed with its meaning where operators read.
    let guide = include_str!("../../../../docs/guides/operate.md");
    for line in text.lines().filter(|l| !l.starts_with('#')) {
        let name = line.split(['{', ' ']).next().unwrap();
        assert!(text.contains(&format!("# HELP {name} ")) && text.contains(&format!("# TYPE {name} ")), "{name}");
        assert!(guide.contains(&format!("`{name}`")), "docs/guides/operate.md does not tell what {name} means");
    }
    w.ledger.broken.store(true, Ordering::SeqCst);
    assert_eq!(w.refused("GET", "/readyz", "").await.status, 503);
    assert_eq!(w.text("/healthz").await, "ok\n");
    assert!(!w.text("/metrics").await.contains("pasture_ledger_height"));
}
