//! Blobs of images that a machine has for others.

use crate::support::network::now;
use crate::support::{Bench, until};
use futures::StreamExt as _;
use pasture_api::{auth, blobs};
use pasture_provider::{BlobOptions, Provider, ShutdownMode};
use pasture_types::{ContentDigest, NodeId, SigningKey};

const LAYER: ContentDigest = ContentDigest([7; 32]);
/// More than the buffers of one connection hold.
const LARGE: usize = 24 << 20;
/// Reads at once.
const MOST: usize = 16;

struct Reader<'a> {
    provider: &'a Provider,
    node: NodeId,
    http: reqwest::Client,
}

impl Reader<'_> {
    async fn get(&self, key: &SigningKey, path: &str) -> reqwest::Response {
        let header = auth::authorize(key, "GET", path, &self.node, now().0);
        let url = format!("http://{}{path}", self.provider.data_address());
        self.http.get(url).header("authorization", header).send().await.unwrap()
    }
    async fn code(&self, key: &SigningKey, path: &str) -> (u16, String) {
        let answer = self.get(key, path).await;
        let status = answer.status().as_u16();
        let problem: serde_json::Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        (status, problem["code"].as_str().unwrap().to_owned())
    }
}

fn large() -> Vec<u8> {
    (0..LARGE).map(|n| (n / 251 + n) as u8).collect()
}

/// A machine that has the blob; what it was told to keep.
async fn machine(bench: &Bench, options: BlobOptions) -> Provider {
    let folder = bench.dir.path().join("provider/blobs/sha256");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(LAYER.digits()), large()).unwrap();
    let mut all = bench.options();
    all.blobs = options;
    bench.start_with(all).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_read_what_a_machine_has_and_nobody_else_does() {
    let bench = Bench::new("blobs").await;
    let provider = machine(&bench, BlobOptions::default()).await;
    let reader =
        Reader { provider: &provider, node: bench.node_key.node_id(), http: pasture_api::door::http(None).unwrap().build().unwrap() };
    let key = &bench.node_key;
    until("it says what it has", || async { bench.network.ledger.lock().unwrap().blobs == [LAYER] }).await;
    let whole = large();
    for (from, length) in [(0, None), (LARGE as u64 - 3, None), (1_000_000, Some(300_000)), (5, Some(u64::MAX)), (LARGE as u64, None)] {
        let answer = reader.get(key, &blobs::path(&LAYER, from, length)).await;
        assert_eq!(answer.status(), 200, "{from} {length:?}");
        let expected = &whole[from as usize..];
        let expected = &expected[..length.map_or(expected.len(), |l| usize::try_from(l).unwrap().min(expected.len()))];
        assert_eq!(answer.content_length(), Some(expected.len() as u64));
        assert!(answer.bytes().await.unwrap() == expected, "{from} {length:?}");
    }
    assert_eq!(reader.code(key, &blobs::path(&LAYER, LARGE as u64 + 1, None)).await.0, 400);
    assert_eq!(reader.code(key, &blobs::path(&ContentDigest([8; 32]), 0, None)).await.0, 404);
    for wrong in ["/blobs/x?from=0", "/blobs/..%2f..%2fnode.key", &format!("/blobs/{}?from=-1", LAYER.digits())] {
        assert!([400, 404].contains(&reader.get(key, wrong).await.status().as_u16()), "{wrong}");
    }
    // A user's key is no node's, nor is one that the ledger does not know.
    assert_eq!(reader.code(&bench.network.user, &blobs::path(&LAYER, 0, None)).await.0, 403);
    let unsigned = format!("http://{}{}", provider.data_address(), blobs::path(&LAYER, 0, None));
    assert_eq!(reader.http.get(unsigned).send().await.unwrap().status(), 401);
    assert!(provider.shutdown(ShutdownMode::Detach).await);
    bench.clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_many_read_at_once_and_the_next_asks_elsewhere() {
    let bench = Bench::new("blobs busy").await;
    let provider = machine(&bench, BlobOptions::default()).await;
    let reader =
        Reader { provider: &provider, node: bench.node_key.node_id(), http: pasture_api::door::http(None).unwrap().build().unwrap() };
    let path = blobs::path(&LAYER, 0, None);
    // They take a little and then stand still.
    let mut slow = vec![];
    for _ in 0..MOST {
        let mut bytes = reader.get(&bench.node_key, &path).await.bytes_stream();
        assert!(!bytes.next().await.unwrap().unwrap().is_empty());
        slow.push(bytes);
    }
    assert_eq!(reader.code(&bench.node_key, &path).await, (503, "busy".into()));
    // One goes away: its place is free.
    drop(slow.pop());
    let one = blobs::path(&LAYER, 9, Some(1));
    until("there is room again", || async { reader.get(&bench.node_key, &one).await.status() == 200 }).await;
    // One that goes on gets all of it.
    let mut rest = slow.pop().unwrap();
    let mut more = 0;
    while let Some(chunk) = rest.next().await {
        more += chunk.unwrap().len();
    }
    assert!(more > LARGE / 2 && more < LARGE, "{more}");
    drop(slow);
    assert!(provider.shutdown(ShutdownMode::Detach).await);
    bench.clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_shares_nothing_says_nothing_and_gives_nothing() {
    let bench = Bench::new("blobs kept").await;
    for options in [BlobOptions { shared: false, ..BlobOptions::default() }, BlobOptions { limit_bytes: 0, ..BlobOptions::default() }] {
        let provider = machine(&bench, options).await;
        let reader =
            Reader { provider: &provider, node: bench.node_key.node_id(), http: pasture_api::door::http(None).unwrap().build().unwrap() };
        until("it is announced", || async { bench.network.ledger.lock().unwrap().announced.is_some() }).await;
        assert!(bench.network.ledger.lock().unwrap().blobs.is_empty());
        assert_eq!(reader.code(&bench.node_key, &blobs::path(&LAYER, 0, None)).await.0, 404);
        assert!(provider.shutdown(ShutdownMode::Detach).await);
        bench.network.ledger.lock().unwrap().announced = None;
    }
    bench.clean().await;
}
