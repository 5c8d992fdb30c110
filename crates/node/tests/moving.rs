//! A ledger with money and a lease in progress is exported and goes on in a new directory.

#![cfg(test)]

use futures::StreamExt as _;
use pasture_api::{AccountView, ApiClient, newcomer};
use pasture_light::StateProof;
use pasture_node::{
    Imported, Moved, NodeError, Validator, ValidatorOptions, export_stopped, import, ledger_replay, trusted_in_file, verify_export,
};
use pasture_store::export::{ExportHeader, Reader, Writer};
use pasture_types::lease::{EndReason, LeaseState};
use pasture_types::market::{AliveCheck, Disclose, Egress, Failover, Fence, OfferTerms, OrderTerms, Rates, Verification};
use pasture_types::tx::{Action, Auth, ENVELOPE_VERSION, NodeDeclaration, TxBody, node_registration_digest};
use pasture_types::{AccountId, Amount, AssetId, BlobHash, LeaseId, Millis, NodeId, Resources, SigningKey, ZoneId};
use std::path::Path;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(90);

async fn start(dir: &Path) -> (Validator, ApiClient) {
    let validator = Validator::start(dir, ValidatorOptions::new(([127, 0, 0, 1], 0).into())).await.unwrap();
    let api = ApiClient::new(&validator.api_url()).unwrap();
    (validator, api)
}

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed([seed; 32])
}

/// One transaction on an account's or a node's own next number.
async fn act(api: &ApiClient, zone: ZoneId, account: AccountId, auth: Auth, signer: &SigningKey, actions: Vec<Action>) {
    let lanes = match auth {
        Auth::Node(node) => api.node(&node).await.unwrap().lanes,
        _ => api.account(&account).await.unwrap().lanes,
    };
    let lane = 5;
    let body = TxBody {
        version: ENVELOPE_VERSION,
        zone,
        account,
        auth,
        lane,
        seq: lanes.iter().find(|(l, _)| *l == lane).map_or(0, |(_, next)| *next),
        valid_until: api.status().await.unwrap().time.plus(Millis::secs(3_600)),
        max_fee: Amount::credits(1),
        tip: Amount::ZERO,
        fee_asset: AssetId::CREDIT,
        fee_payer: None,
        actions,
    };
    let done = api.submit(&body.sign(signer)).await.unwrap();
    assert!(done.ok, "{}", done.message);
}

fn resources(cores: u32) -> Resources {
    Resources { cpu_millis: cores * 1000, memory_bytes: 1 << 30, disk_bytes: 1 << 30, ..Resources::default() }
}

/// A provider with a node and an offer, and a user whose order it took.
async fn lease(api: &ApiClient, zone: ZoneId) -> LeaseId {
    let (user, provider, node) = (key(21), key(22), key(23));
    let now = api.status().await.unwrap().time;
    for key in [&user, &provider] {
        newcomer::ensure_account(api, key, Amount::credits(100), now).await.unwrap().unwrap();
    }
    let declaration =
        NodeDeclaration { resources: resources(4), cpu_hashes_per_s: 20_000, cpu_model: "test".into(), arch: "x86_64".into() };
    let id = node.node_id();
    let digest = node_registration_digest(&zone, &provider.account(), &id, &declaration);
    let offer = OfferTerms {
        resources: resources(4),
        rates: Rates { cpu_core: Amount(900_000_000), memory_gib: Amount::ZERO, disk_gib: Amount::ZERO, ..Rates::default() },
        asset: AssetId::CREDIT,
        region: "eu-west".into(),
        egress: Egress::Open,
        max_duration: Millis::secs(24 * 3_600),
        attributes: vec![],
        ..OfferTerms::default()
    };
    let actions = vec![
        Action::RegisterProvider { name: "meadow".into() },
        Action::RegisterNode { node: id, declaration, node_signature: node.sign(&digest) },
        Action::Stake { amount: Amount::credits(1) },
        Action::PutOffer { node: id, number: 0, terms: Box::new(offer) },
    ];
    act(api, zone, provider.account(), Auth::Single, &provider, actions).await;
    let order = OrderTerms {
        resources: resources(1),
        constraints: vec![],
        max_price_per_hour: Amount::credits(20),
        max_duration: Millis::secs(3_600),
        budget: Amount::credits(5),
        asset: AssetId::CREDIT,
        priority: 50,
        verification: Verification::None,
        alive: AliveCheck::Exec,
        failover: Failover::Off,
        fence: Fence::Serve,
        disclose: Disclose::Nobody,
        spec_hash: BlobHash([9; 32]),
        model: None,
        watcher: None,
        preferences: vec![],
        expires: api.status().await.unwrap().time.plus(Millis::secs(600)),
        ..OrderTerms::default()
    };
    act(api, zone, user.account(), Auth::Single, &user, vec![Action::PlaceOrder { terms: Box::new(order) }]).await;
    let lease = matched(api, &id).await;
    act(api, zone, provider.account(), Auth::Node(id), &node, vec![Action::AcceptLease { lease }]).await;
    lease
}

async fn matched(api: &ApiClient, node: &NodeId) -> LeaseId {
    let mut events = api.events(Default::default()).await.unwrap();
    let seen = async {
        loop {
            if let Some(lease) = api.node_leases(node).await.unwrap().first() {
                return lease.id;
            }
            events.next().await.unwrap().unwrap();
        }
    };
    tokio::time::timeout(SOON, seen).await.unwrap()
}

/// The export of a running network, as `farm ledger export` fetches it.
async fn fetch(api: &ApiClient, file: &Path) {
    let mut bytes = vec![];
    let mut pieces = api.export().await.unwrap();
    while let Some(piece) = pieces.next().await {
        bytes.extend_from_slice(&piece.unwrap());
    }
    std::fs::write(file, bytes).unwrap();
}

async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

fn bring(file: &Path, data: &Path, keys: Option<&Path>) -> Result<Imported, NodeError> {
    import(file, data, keys, &mut |_| {})
}

/// What an account has, without what every block changes.
fn money(view: &AccountView) -> (Amount, Amount, Vec<(u8, u64)>) {
    (view.balance, view.on_hold, view.lanes.clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_is_carried_to_a_new_directory_and_goes_on() {
    let temp = tempfile::tempdir().unwrap();
    let path = |name: &str| temp.path().join(name);
    let (old, new) = (path("old"), path("new"));
    let (validator, api) = start(&old).await;
    let zone = validator.zone();
    let lease = lease(&api, zone).await;
    let (user, provider) = (key(21), key(22));
    let running = path("running.export");
    fetch(&api, &running).await;
    let before = api.account(&user.account()).await.unwrap();
    assert!(before.on_hold > Amount::ZERO);
    validator.stop().await.unwrap();

    // From the running network: whole, and certified.
    let fetched: Moved = verify_export(&running, &mut |_| {}).unwrap();
    assert_eq!((fetched.zone, fetched.votes), (zone, (1, 1)));
    // From the stopped one: the same or a later block.
    let file = path("stopped.export");
    let (from, to) = (old.clone(), file.clone());
    let moved = off_thread(move || export_stopped(&from, &to).unwrap()).await;
    assert!(moved.height >= fetched.height && moved.entries > 10);

    // Without keys nothing happens; with another network's neither.
    let error = bring(&file, &new, None).unwrap_err().to_string();
    assert!(error.contains("--keys"), "{error}");
    assert!(!new.exists());
    let imported = bring(&file, &new, Some(&old)).unwrap();
    assert_eq!(imported.moved, moved);
    assert!(imported.checked.iter().any(|c| c.contains("nothing negative")));

    let (validator, api) = start(&new).await;
    assert_eq!(validator.zone(), zone, "signatures stay valid");
    let after = api.account(&user.account()).await.unwrap();
    assert_eq!(money(&after), money(&before));
    let there = api.lease(&lease).await.unwrap();
    assert_eq!((there.state, there.account, there.provider), (LeaseState::Accepted, user.account(), provider.account()));
    // It takes transactions signed for the same zone, with the next numbers.
    let pay = vec![Action::Transfer { to: provider.account(), asset: AssetId::CREDIT, amount: Amount::credits(5) }];
    act(&api, zone, user.account(), Auth::Single, &user, pay).await;
    let head = api.head().await.unwrap();
    assert!(head.height.0 > moved.height, "heights go on");
    assert_eq!(api.check().await.unwrap().violations, Vec::<String>::new());
    assert!(api.block(1).await.is_err(), "the blocks stay behind");
    // The lease can still be closed by its node.
    let close = vec![Action::CloseLease { lease, reason: EndReason::StoppedByProvider }];
    act(&api, zone, provider.account(), Auth::Node(key(23).node_id()), &key(23), close).await;
    assert_eq!(api.lease(&lease).await.unwrap().reason, Some(EndReason::StoppedByProvider));
    // A client that trusted the old network's genesis checks the new one's answers with it.
    let trusted = trusted_in_file(&old.join("zone/genesis")).unwrap();
    let record = [&[0x11][..], &lease.0].concat();
    let answer = api.state(&hex::encode(&record)).await.unwrap();
    let proof = StateProof::decode(&hex::decode(answer.proof.unwrap()).unwrap()).unwrap();
    let shown = trusted.verify(&proof).unwrap().about(&record).unwrap();
    assert!(shown.value.is_some() && shown.header.height > moved.height);
    validator.stop().await.unwrap();

    // It restarts, replays from where it began, and can be carried on.
    let (validator, api) = start(&new).await;
    assert!(api.head().await.unwrap().height >= head.height);
    validator.stop().await.unwrap();
    let data = new.clone();
    let report = off_thread(move || ledger_replay(&data).unwrap()).await;
    assert_eq!(report.difference, None);
    let (from, again) = (new.clone(), path("again.export"));
    let twice = off_thread(move || export_stopped(&from, &again).unwrap()).await;
    assert!(twice.height > moved.height && twice.zone == zone);
    refusals(&file, &old, &new, &path("other"));
}

/// What an import must not do. `old` and `new` hold ledgers.
fn refusals(file: &Path, old: &Path, new: &Path, other: &Path) {
    let says = |result: Result<Imported, NodeError>, words: &str| {
        let error = result.unwrap_err().to_string();
        assert!(error.contains(words), "`{error}` does not say `{words}`");
    };
    says(bring(file, new, Some(old)), "holds a ledger already");
    says(bring(file, old, None), "holds a ledger already");
    says(bring(&old.join("zone/genesis"), other, Some(old)), "not an exported ledger");
    let bytes = std::fs::read(file).unwrap();
    let bad = file.with_extension("bad");
    std::fs::write(&bad, &bytes[..bytes.len() / 2]).unwrap();
    says(bring(&bad, other, Some(old)), "ends too early");
    for at in [10, 60, 300, 1_000, bytes.len() / 2, bytes.len() - 70, bytes.len() - 1] {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        std::fs::write(&bad, changed).unwrap();
        bring(&bad, other, Some(old)).unwrap_err();
    }
    // Whole, but nobody signed what it says: the checksum alone is not believed.
    type Forge = fn(&mut ExportHeader);
    let forgeries: [(Forge, &str); 5] = [
        // The height, also within the block's header: behind version and zone.
        (
            |header| {
                header.height += 1;
                header.block_headers[0][34..42].copy_from_slice(&header.height.to_be_bytes());
            },
            "the certificate is for another block",
        ),
        (|header| header.seats[0].key = [7; 32], "not those whom its block names"),
        (|header| header.seats[0].bls_pop[3] ^= 1, "a bad proof of its key"),
        (|header| header.handovers = vec![vec![1; 500]], "change 1 of its validators"),
        (|header| header.seats = vec![], "export the ledger again"),
    ];
    for (forge, words) in forgeries {
        std::fs::write(&bad, forged(file, forge)).unwrap();
        says(bring(&bad, other, Some(old)), words);
    }
    assert!(!other.exists(), "a refusal changed something");
}

/// The same file with another header, and sums that fit.
fn forged(file: &Path, forge: fn(&mut ExportHeader)) -> Vec<u8> {
    let mut reader = Reader::new(std::fs::File::open(file).unwrap()).unwrap();
    let mut header = reader.header().clone();
    forge(&mut header);
    let mut writer = Writer::new(vec![], &header).unwrap();
    while let Some((key, value)) = reader.entry().unwrap() {
        writer.entry(&key, &value).unwrap();
    }
    writer.finish().unwrap().1
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_zone_is_restarted_from_its_export() {
    let temp = tempfile::tempdir().unwrap();
    let (data, file) = (temp.path().join("data"), temp.path().join("file"));
    let (validator, api) = start(&data).await;
    let user = key(31);
    newcomer::ensure_account(&api, &user, Amount::credits(7), api.status().await.unwrap().time).await.unwrap().unwrap();
    validator.stop().await.unwrap();
    let (from, to) = (data.clone(), file.clone());
    let moved = off_thread(move || export_stopped(&from, &to).unwrap()).await;
    // As over an upgrade of the engine that cannot read the old store.
    std::fs::rename(data.join("ledger"), temp.path().join("ledger.old")).unwrap();
    bring(&file, &data, None).unwrap();
    let (validator, api) = start(&data).await;
    assert_eq!(api.account(&user.account()).await.unwrap().balance, Amount::credits(7));
    assert!(api.head().await.unwrap().height.0 >= moved.height);
    validator.stop().await.unwrap();

    // From a file of the first format, which an earlier version imported, it goes on as well.
    std::fs::rename(data.join("ledger"), temp.path().join("ledger.new")).unwrap();
    std::fs::write(data.join("zone/base"), forged(&file, |header| header.seats = vec![])).unwrap();
    let (validator, api) = start(&data).await;
    assert_eq!(api.account(&user.account()).await.unwrap().balance, Amount::credits(7));
    validator.stop().await.unwrap();

    // A file that was damaged since is named, not passed over.
    std::fs::rename(data.join("ledger"), temp.path().join("ledger.newer")).unwrap();
    let base = data.join("zone/base");
    let mut bytes = std::fs::read(&base).unwrap();
    let at = bytes.len() - 200;
    bytes[at] ^= 1;
    std::fs::write(&base, bytes).unwrap();
    let error = Validator::start(&data, ValidatorOptions::new(([127, 0, 0, 1], 0).into())).await.err().unwrap();
    assert!(error.to_string().contains("zone/base"), "{error}");
}
