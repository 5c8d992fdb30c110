//! Capacity audits at the node's own door: whose nonces it takes, what it signs, and what it says after a restart.

use crate::support::network::{ZONE, now};
use crate::support::{Bench, script, until};
use futures::StreamExt as _;
use pasture_api::data::Phase;
use pasture_api::{ApiClient, ApiError, AuditDetail, BeaconWord, BurstWord, NonceOffer, SignedSet, SignedShares, WitnessView};
use pasture_proofs::Beacon;
use pasture_proofs::memory::AuditedMemory;
use pasture_provider::{Provider, ShutdownMode};
use pasture_types::audit::{AUDIT_SHARES, BeaconOffer, MemoryClaim, Statement, audit_seed, largest_share, nonce_digest, quorum};
use pasture_types::event::Hash32;
use pasture_types::proof::ResourceClass;
use pasture_types::{Millis, NodeId, PublicKey, SigningKey, Timestamp};

const BURST: Millis = Millis(200);

fn witness(n: u8) -> SigningKey {
    SigningKey::from_seed([100 + n; 32])
}

/// The ledger draws the bench's node, before witnesses 0 to 3.
fn draw(bench: &Bench, number: u64, until: Timestamp) {
    draw_with(bench, number, until, None);
}

fn draw_with(bench: &Bench, number: u64, until: Timestamp, memory: Option<MemoryClaim>) {
    let detail = AuditDetail {
        number,
        node: bench.node_key.node_id(),
        attempt: 1,
        epoch: 3,
        drawn_at: now(),
        until,
        randomness: Hash32([number as u8; 32]),
        rate: 1,
        burst: BURST,
        witnesses: (0..4).map(|n| WitnessView { witness: witness(n).node_id(), word: None }).collect(),
        answer: None,
        verdict: None,
        gpus: vec![],
        memory,
        gpu_verdict: None,
        memory_verdict: None,
    };
    bench.network.ledger.lock().unwrap().audits.insert(number, detail);
}

fn door(provider: &Provider) -> ApiClient {
    ApiClient::new(&format!("http://{}", provider.data_address())).unwrap()
}

fn offer(node: &NodeId, audit: u64, key: &SigningKey, nonce: u64) -> NonceOffer {
    let signature = key.sign(&nonce_digest(&ZONE, audit, node, nonce));
    NonceOffer { witness: key.node_id(), nonce, signature: (&signature).into() }
}

/// All that the node says to a witness.
async fn words(provider: &Provider, node: NodeId, audit: u64, n: u8) -> Result<Vec<BurstWord>, ApiError> {
    let (door, offer) = (door(provider), offer(&node, audit, &witness(n), u64::from(n)));
    let words = loop {
        match door.offer_nonce(audit, &offer).await {
            // It does not ask the ledger for every number that somebody names: a witness tries again.
            Err(ApiError::Problem(p)) if p.status == 503 => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
            other => break other?,
        }
    };
    Ok(words.map(Result::unwrap).collect().await)
}

/// The set and the shares, where nothing else is asked.
async fn hear(provider: &Provider, node: NodeId, audit: u64, n: u8) -> Result<(SignedSet, SignedShares), ApiError> {
    let words = words(provider, node, audit, n).await?;
    let [BurstWord::Set(set), BurstWord::Shares(shares)] = &words[..] else { panic!("{words:?}") };
    Ok((set.clone(), shares.clone()))
}

fn status(said: Result<(SignedSet, SignedShares), ApiError>) -> u16 {
    said.unwrap_err().problem().unwrap().status
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_answers_the_witnesses_of_its_audits_once_and_nobody_else() {
    let bench = Bench::new("audits").await;
    let provider = bench.start().await;
    let node = bench.node_key.node_id();
    // A job runs meanwhile: what the burst takes from it is said.
    let manifest = script("while true; do sleep 0.1; done");
    let lease = bench.network.match_lease(&manifest, 1, Millis(3_600_000));
    let client = bench.client(&provider, lease);
    client.found().await;
    client.ok("PUT", "manifest", manifest.to_bytes()).await;
    client.reach(Phase::Running).await;

    // Half of the time that is left is over at once: nobody else carries the answer.
    draw(&bench, 7, now());
    assert!(door(&provider).round_trip().await.is_ok());
    assert_eq!(status(hear(&provider, node, 8, 0).await), 404, "nobody drew it");
    assert_eq!(status(hear(&provider, node, 7, 9).await), 403, "no witness of it");
    let forged = NonceOffer { nonce: 5, ..offer(&node, 7, &witness(0), 4) };
    assert_eq!(door(&provider).offer_nonce(7, &forged).await.err().unwrap().problem().unwrap().status, 401);

    let heard = futures::future::join_all((0..4).map(|n| hear(&provider, node, 7, n))).await;
    let (set, shares) = heard[0].as_ref().unwrap();
    assert!(heard.iter().all(|h| h.as_ref().unwrap() == &(set.clone(), shares.clone())), "all hear the same");
    let read = set.read().unwrap();
    assert!(read.set.is_sound(4) && read.set.nonces.len() == quorum(4));
    let said = |statement: Statement, signature| PublicKey::from(node).verify(&statement.digest(&ZONE, 7, &node), signature);
    assert_eq!(said(Statement { set: read.set.digest(), shares: None }, &read.signature), Ok(()));
    let answer = shares.read(7, read.set.clone()).unwrap();
    assert_eq!(said(answer.statement(), &answer.signature), Ok(()));
    let seed = audit_seed(&[7; 32], 7, &node, 3, ResourceClass::Cpu, 0, &read.set);
    let nonces = answer.shares.unpack().unwrap();
    assert_eq!(nonces.len(), AUDIT_SHARES);
    // The smallest of so many hashes are far below what 32 random ones reach.
    assert!(largest_share(&seed, &nonces).unwrap() < u64::MAX / 16);
    until("the node carries its answer itself", || async { bench.network.ledger.lock().unwrap().answers == [answer.clone()] }).await;
    client.ok("POST", "stop?grace_ms=100", vec![]).await;
    client.reach(Phase::Ended).await;
    until("the job's account is on the ledger", || async { !bench.network.ledger.lock().unwrap().usages.is_empty() }).await;
    let usage = bench.network.ledger.lock().unwrap().usages.last().unwrap().usage.clone();
    assert!(usage.steal_ms >= BURST && usage.steal_ms <= usage.served_ms, "{usage:?}");

    // A process that follows says the same, whatever nonce it is sent, and computes nothing anew.
    assert!(provider.shutdown(ShutdownMode::Detach).await);
    let provider = bench.start().await;
    assert_eq!(hear(&provider, node, 7, 3).await.unwrap(), (set.clone(), shares.clone()));
    draw(&bench, 9, now().plus(Millis(60_000)));
    let again = futures::future::join_all((0..4).map(|n| hear(&provider, node, 9, n))).await;
    assert!(again.iter().all(|h| h.as_ref().unwrap().0 != *set), "another audit, another set");
    assert!(provider.shutdown(ShutdownMode::Drain).await);
    bench.clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_asked_for_memory_walks_before_it_hashes_and_opens_the_walk() {
    let bench = Bench::new("audit-memory").await;
    let provider = bench.start().await;
    let node = bench.node_key.node_id();
    let claim = MemoryClaim { chunks: 256, lanes: 3, window: Millis(100), limit: Millis(5_000), fill: Millis(1) };
    draw_with(&bench, 9, now().plus(Millis(600_000)), Some(claim));
    let heard = futures::future::join_all((0..4).map(|n| words(&provider, node, 9, n))).await;
    let [BurstWord::Set(set), BurstWord::Walk(walk), BurstWord::Shares(shares)] = &heard[0].as_ref().unwrap()[..] else {
        panic!("{heard:?}")
    };
    let set = set.read().unwrap().set;
    let answer = shares.read(9, set.clone()).unwrap();
    assert_eq!(answer.walk, Some(walk.root), "what it signs is what it said in time");

    let offer = BeaconOffer { witness: witness(0).node_id(), secret: Hash32([8; 32]) };
    let signature = offer.sign(&ZONE, 9, &node, &answer.committed(), &witness(0));
    let word = BeaconWord { offer, signature: (&signature).into() };
    let opened = door(&provider).open_products(9, &word, std::time::Duration::from_secs(60), 64 * 1024).await.unwrap();
    let proof = pasture_api::split_opened(&opened, 1).unwrap()[0];
    let asked =
        AuditedMemory { audit: 9, randomness: [9; 32], epoch: 3, node, chunks: claim.chunks, lanes: claim.lanes, window: claim.window };
    let beacon = Beacon(offer.beacon(&ZONE, 9, &node, &answer.committed()));
    assert_eq!(asked.walk(&set.digest().0).unwrap().verify(&walk.root.0, beacon, proof), Ok(()));
    // Bound to the products alone, a beacon opens nothing.
    let signature = offer.sign(&ZONE, 9, &node, &pasture_types::audit::roots_digest(&[]), &witness(0));
    let word = BeaconWord { offer, signature: (&signature).into() };
    let refused = door(&provider).open_products(9, &word, std::time::Duration::from_secs(60), 64 * 1024).await;
    assert_eq!(refused.unwrap_err().problem().unwrap().status, 401);
    // Who comes later hears the same.
    assert_eq!(words(&provider, node, 9, 3).await.unwrap(), heard[0].as_ref().unwrap().clone());
    assert!(provider.shutdown(ShutdownMode::Drain).await);
}
