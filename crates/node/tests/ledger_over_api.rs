//! A local zone without a provider, through its API: the spine from signature to final state and back after a restart.

#![cfg(test)]

use pasture_api::{ApiClient, ApiError, newcomer};
use pasture_node::{LedgerMachine, LocalZone, Validator, ValidatorOptions, ledger_replay};
use pasture_rt::{Clock, ManualClock, SystemClock};
use pasture_types::tx::{Action, Auth, ENVELOPE_VERSION, Envelope, TxBody};
use pasture_types::{Amount, AssetId, Millis, SigningKey, Timestamp, TxId, ZoneId};
use std::path::Path;
use std::sync::Arc;

async fn start(dir: &Path) -> (Validator, ApiClient) {
    start_at(dir, Arc::new(SystemClock)).await
}

async fn start_at(dir: &Path, clock: Arc<dyn Clock>) -> (Validator, ApiClient) {
    let validator = Validator::start(dir, ValidatorOptions { clock, ..ValidatorOptions::new(([127, 0, 0, 1], 0).into()) }).await.unwrap();
    let api = ApiClient::new(&validator.api_url()).unwrap();
    (validator, api)
}

fn transfer(zone: ZoneId, key: &SigningKey, to: &SigningKey, seq: u64, now: Timestamp) -> Envelope {
    TxBody {
        version: ENVELOPE_VERSION,
        zone,
        account: key.account(),
        auth: Auth::Single,
        lane: 3,
        seq,
        valid_until: now.plus(Millis::secs(60)),
        max_fee: Amount::credits(1),
        tip: Amount::ZERO,
        fee_asset: AssetId::CREDIT,
        fee_payer: None,
        actions: vec![Action::Transfer { to: to.account(), asset: AssetId::CREDIT, amount: Amount::credits(5) }],
    }
    .sign(key)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn money_moves_survives_a_restart_and_replays_to_the_same_state() {
    let dir = tempfile::tempdir().unwrap();
    let (alice, bob) = (SigningKey::from_seed([11; 32]), SigningKey::from_seed([12; 32]));
    let (validator, api) = start(dir.path()).await;
    let mut status = api.status().await.unwrap();
    status.time = status.time.max(status.genesis_time);
    for key in [&alice, &bob] {
        newcomer::ensure_account(&api, key, Amount::credits(100), status.time).await.unwrap().unwrap();
    }
    let sent = api.submit(&transfer(status.zone, &alice, &bob, 0, api.status().await.unwrap().time)).await.unwrap();
    assert!(sent.ok, "{}", sent.message);
    let looked_up = api.transaction(&sent.id).await.unwrap();
    assert_eq!((looked_up.height, looked_up.result.map(|r| r.ok)), (sent.height, Some(true)));
    let nobody = api.transaction(&TxId([7; 32])).await.unwrap_err();
    assert_eq!(nobody.problem().unwrap().status, 404);
    let bob_has = api.account(&bob.account()).await.unwrap().balance;
    assert_eq!(bob_has, Amount::credits(105));

    // Refusals are precise and change nothing.
    let wrong = api.submit(&transfer(ZoneId([9; 32]), &alice, &bob, 1, status.time)).await.unwrap_err();
    assert!(matches!(&wrong, ApiError::Problem(p) if p.status == 422), "{wrong}");
    let again = api.submit(&transfer(status.zone, &alice, &bob, 0, api.status().await.unwrap().time)).await;
    assert!(again.is_err(), "a replayed number was taken");
    assert_eq!(api.account(&bob.account()).await.unwrap().balance, bob_has);

    let head = api.head().await.unwrap();
    assert!(!head.certificate.is_empty());
    let checked = api.check().await.unwrap();
    assert!(checked.violations.is_empty(), "{:?}", checked.violations);
    validator.stop().await.unwrap();

    let (validator, api) = start(dir.path()).await;
    assert_eq!(api.account(&bob.account()).await.unwrap().balance, bob_has);
    assert!(api.head().await.unwrap().height >= head.height);
    // What a transaction did is forgotten at a restart; that it is in a block is not.
    let looked_up = api.transaction(&sent.id).await.unwrap();
    assert_eq!((looked_up.height, looked_up.time), (sent.height, sent.time));
    assert!(looked_up.result.is_none());
    assert_eq!(api.block(head.height.0).await.unwrap().state_root, head.state_root);
    validator.stop().await.unwrap();

    let path = dir.path().to_path_buf();
    let report = tokio::task::spawn_blocking(move || ledger_replay(&path).unwrap()).await.unwrap();
    assert_eq!(report.difference, None);
    assert!(report.txs >= 3, "{report:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_answered_is_found_at_once_with_what_it_did() {
    let dir = tempfile::tempdir().unwrap();
    let (alice, bob) = (SigningKey::from_seed([31; 32]), SigningKey::from_seed([32; 32]));
    let (validator, api) = start(dir.path()).await;
    let status = api.status().await.unwrap();
    newcomer::ensure_account(&api, &alice, Amount::credits(1_000), status.time.max(status.genesis_time)).await.unwrap().unwrap();
    for seq in 0..100 {
        let now = api.status().await.unwrap().time;
        let sent = api.submit(&transfer(status.zone, &alice, &bob, seq, now)).await.unwrap();
        let found = api.transaction(&sent.id).await.unwrap();
        assert_eq!((found.height, found.result.map(|r| r.ok)), (sent.height, Some(true)), "transfer {seq}");
    }
    validator.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_set_back_stops_nothing_and_turns_no_time_back() {
    const BEGUN: u64 = 1_700_000_000_000;
    const HOUR: u64 = 3_600_000;
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::new(BEGUN);
    let (alice, bob) = (SigningKey::from_seed([21; 32]), SigningKey::from_seed([22; 32]));
    let (validator, api) = start_at(dir.path(), Arc::new(clock.clone())).await;
    for key in [&alice, &bob] {
        newcomer::ensure_account(&api, key, Amount::credits(100), Timestamp(BEGUN)).await.unwrap().unwrap();
    }
    clock.set(BEGUN + HOUR);
    let zone = api.status().await.unwrap().zone;
    let before = api.submit(&transfer(zone, &alice, &bob, 0, Timestamp(BEGUN + HOUR))).await.unwrap();
    assert!(before.ok, "{}", before.message);
    assert!(before.time.0 >= BEGUN + HOUR);
    // Two hours back: before the genesis even. Ledger time stands still and never returns.
    clock.set(BEGUN - HOUR);
    let after = api.submit(&transfer(zone, &alice, &bob, 1, before.time)).await.unwrap();
    assert!(after.ok, "{}", after.message);
    assert!(after.time >= before.time && after.height > before.height, "{after:?} after {before:?}");
    assert!(after.time.0 < BEGUN + 2 * HOUR, "{after:?}");
    // Whoever signs by the wrong clock is refused with a reason, and nothing is lost.
    let stale = api.submit(&transfer(zone, &alice, &bob, 2, Timestamp(BEGUN - HOUR))).await.unwrap_err();
    assert!(matches!(&stale, ApiError::Problem(p) if p.status == 422 && p.ledger_code.is_some()), "{stale}");
    validator.stop().await.unwrap();

    // The same at a start, and once more after the clock was put right.
    let (validator, api) = start_at(dir.path(), Arc::new(clock.clone())).await;
    let restarted = api.submit(&transfer(zone, &alice, &bob, 2, after.time)).await.unwrap();
    assert!(restarted.ok && restarted.time >= after.time, "{restarted:?}");
    clock.set(BEGUN + 2 * HOUR);
    let right = api.submit(&transfer(zone, &alice, &bob, 3, Timestamp(BEGUN + 2 * HOUR))).await.unwrap();
    assert!(right.ok && right.time.0 >= BEGUN + 2 * HOUR, "{right:?}");
    assert_eq!(api.account(&bob.account()).await.unwrap().balance, Amount::credits(120));
    let checked = api.check().await.unwrap();
    assert!(checked.violations.is_empty(), "{:?}", checked.violations);
    validator.stop().await.unwrap();
}

#[test]
fn a_machine_starts_from_its_genesis_alone() {
    use pasture_chain::Machine as _;
    let dir = tempfile::tempdir().unwrap();
    let zone = LocalZone::load_or_create(dir.path(), &SystemClock).unwrap();
    let again = LocalZone::load_or_create(dir.path(), &SystemClock).unwrap();
    assert_eq!(LedgerMachine::new(zone.genesis).genesis(), LedgerMachine::new(again.genesis).genesis());
}
