//! Images from a real registry (the distribution project's), from machines that have them, and from both.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)] // a test fails by panicking

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use pasture_blobs::{Blob, Fetcher, ImageError, OriginError, Peers, Pieces, Progress, Registries, RegistryError, Store};
use pasture_types::{ContentDigest, NodeId};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const MIB: usize = 1 << 20;

fn client() -> reqwest::Client {
    pasture_api::door::http(None).unwrap().build().unwrap()
}

/// A registry on loopback, until it is dropped.
struct Registry {
    child: Child,
    url: String,
    dir: tempfile::TempDir,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Registry {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let config = dir.path().join("config.yml");
        let root = dir.path().join("data");
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: {address}}}\n",
            root.display()
        );
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&config).env("OTEL_TRACES_EXPORTER", "none").stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("docker-registry is installed by scripts/setup.sh");
        let this = Self { child, url: format!("http://{address}"), dir };
        let deadline = Instant::now() + Duration::from_secs(20);
        while client().get(format!("{}/v2/", this.url)).send().await.is_err() {
            assert!(Instant::now() < deadline, "the registry does not answer");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        this
    }
    /// How images of it begin.
    fn host(&self) -> &str {
        self.url.trim_start_matches("http://")
    }
    async fn put_blob(&self, repository: &str, bytes: &[u8]) -> ContentDigest {
        let client = client();
        let begun = client.post(format!("{}/v2/{repository}/blobs/uploads/", self.url)).send().await.unwrap();
        let place = begun.headers()["location"].to_str().unwrap().to_owned();
        let digest = ContentDigest(Sha256::digest(bytes).into());
        let joint = if place.contains('?') { '&' } else { '?' };
        let put = client.put(format!("{place}{joint}digest={digest}")).header("content-type", "application/octet-stream");
        assert_eq!(put.body(bytes.to_vec()).send().await.unwrap().status(), 201);
        digest
    }
    /// An image of these layers, under a tag; its manifest's digest.
    async fn put_image(&self, repository: &str, layers: &[Vec<u8>]) -> ContentDigest {
        const CONFIG: &[u8] = br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#;
        let part = |kind: &str, digest: ContentDigest, size: usize| {
            format!(r#"{{"mediaType":"application/vnd.oci.image.{kind}","digest":"{digest}","size":{size}}}"#)
        };
        let config = part("config.v1+json", self.put_blob(repository, CONFIG).await, CONFIG.len());
        let mut all = vec![];
        for layer in layers {
            all.push(part("layer.v1.tar", self.put_blob(repository, layer).await, layer.len()));
        }
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let manifest = format!(r#"{{"schemaVersion":2,"mediaType":"{kind}","config":{config},"layers":[{}]}}"#, all.join(","));
        let digest = ContentDigest(Sha256::digest(&manifest).into());
        let put = client().put(format!("{}/v2/{repository}/manifests/1", self.url)).header("content-type", kind);
        assert_eq!(put.body(manifest).send().await.unwrap().status(), 201);
        digest
    }
}

/// Machines by their caches; one of them may lie.
#[derive(Default)]
struct Machines {
    stores: Mutex<BTreeMap<NodeId, Arc<Store>>>,
    liar: Option<NodeId>,
    asked: Mutex<BTreeMap<NodeId, usize>>,
}

impl Machines {
    fn asked(&self, node: u8) -> usize {
        self.asked.lock().unwrap().get(&NodeId([node; 32])).copied().unwrap_or(0)
    }
}

#[async_trait]
impl Peers for Machines {
    async fn holders(&self, digest: &ContentDigest) -> Vec<NodeId> {
        let stores = self.stores.lock().unwrap();
        stores.iter().filter(|(_, store)| store.has(digest).is_some()).map(|(node, _)| *node).collect()
    }
    async fn read(&self, node: &NodeId, digest: &ContentDigest, from: u64, length: Option<u64>) -> Result<Pieces, OriginError> {
        *self.asked.lock().unwrap().entry(*node).or_default() += 1;
        let store = Arc::clone(&self.stores.lock().unwrap()[node]);
        let (mut file, size) = store.read(digest).map_err(|e| OriginError(e.to_string()))?;
        file.seek(SeekFrom::Start(from)).unwrap();
        let mut bytes = vec![];
        file.take(length.unwrap_or(size)).read_to_end(&mut bytes).unwrap();
        if self.liar == Some(*node) {
            bytes[0] ^= 1;
        }
        Ok(futures::stream::iter([Ok(Bytes::from(bytes))]).boxed())
    }
}

/// Where bytes came from: machines and registry.
#[derive(Default)]
struct Told(Mutex<(u64, u64)>);

impl Progress for Told {
    fn came(&self, _: &Blob, _: u64) {}
    fn whole(&self, _: &Blob, machines: u64, registry: u64) {
        let mut told = self.0.lock().unwrap();
        *told = (told.0 + machines, told.1 + registry);
    }
}

struct Machine {
    _dir: tempfile::TempDir,
    fetcher: Fetcher,
    told: Told,
}

fn machine(registry: &Registry, peers: &Arc<Machines>, node: u8) -> Machine {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(dir.path(), 64 << 20).unwrap());
    peers.stores.lock().unwrap().insert(NodeId([node; 32]), Arc::clone(&store));
    let registries = Registries::new(&[registry.url.parse().unwrap()], |_| false).unwrap();
    let fetcher = Fetcher::new(store, registries, Arc::clone(peers) as Arc<dyn Peers>, 32 << 20);
    Machine { _dir: dir, fetcher, told: Told::default() }
}

impl Machine {
    async fn fetch(&self, name: &str) -> Result<Vec<(String, Vec<u8>)>, ImageError> {
        let archive = self.fetcher.image(name, "amd64", &self.told).await?;
        let bytes: Vec<Bytes> = archive.stream(vec!["docker.io/a/b:1".into()]).map(Result::unwrap).collect().await;
        let bytes = bytes.concat();
        let mut tar = tar::Archive::new(bytes.as_slice());
        let files = tar.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let (path, mut content) = (entry.path().unwrap().display().to_string(), vec![]);
            entry.read_to_end(&mut content).unwrap();
            (path, content)
        });
        Ok(files.collect())
    }
    fn came(&self) -> (u64, u64) {
        std::mem::take(&mut *self.told.0.lock().unwrap())
    }
}

/// Bytes that repeat nowhere.
fn unlike(size: usize, key: u8) -> Vec<u8> {
    let mut out = vec![0; size];
    blake3::Hasher::new().update(&[key]).finalize_xof().fill(&mut out);
    out
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_comes_from_its_registry_and_then_from_machines_that_have_it() {
    let registry = Registry::start().await;
    let layers = [unlike(5 * MIB + 3, 1), unlike(70_000, 2)];
    let digest = registry.put_image("lib/tool", &layers).await;
    let name = format!("{}/lib/tool:1", registry.host());
    let peers = Arc::new(Machines::default());
    let total = (5 * MIB + 3 + 70_000) as u64;

    let first = machine(&registry, &peers, 1);
    let files = first.fetch(&name).await.unwrap();
    assert_eq!(first.came(), (0, total));
    let manifest: serde_json::Value = serde_json::from_slice(&files.last().unwrap().1).unwrap();
    assert_eq!(manifest[0]["RepoTags"][0], "docker.io/a/b:1");
    for (layer, path) in layers.iter().zip(manifest[0]["Layers"].as_array().unwrap()) {
        assert_eq!(files.iter().find(|(name, _)| name == path.as_str().unwrap()).map(|(_, bytes)| bytes), Some(layer));
    }
    assert_eq!(first.fetch(&name).await.unwrap().len(), files.len());
    assert_eq!(first.came(), (0, 0), "it is here");

    // The registry's own blobs go: only what a name means is still to be had there.
    std::fs::remove_dir_all(registry.dir.path().join("data/docker/registry/v2/blobs/sha256").join(layer_folder(&layers[0]))).unwrap();
    let second = machine(&registry, &peers, 2);
    second.fetch(&name).await.unwrap();
    let (machines, upstream) = second.came();
    assert_eq!(machines + upstream, total);
    assert!(machines > 5 * MIB as u64, "{machines}");

    // And by its digest there need not be a registry at all.
    let by_digest = format!("{}/lib/tool@{digest}", registry.host());
    drop(registry);
    let registry = Registry::start().await;
    peers.stores.lock().unwrap().remove(&NodeId([1; 32]));
    let third = machine(&registry, &peers, 3);
    third.fetch(&by_digest).await.unwrap();
    assert_eq!(third.came(), (total, 0));
    assert!(peers.asked(2) > 0);
}

/// Where the registry keeps a blob.
fn layer_folder(layer: &[u8]) -> std::path::PathBuf {
    let digits = ContentDigest(Sha256::digest(layer).into()).digits();
    std::path::Path::new(&digits[..2]).join(&digits)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_sends_wrong_bytes_is_found_out_and_asked_no_more() {
    let registry = Registry::start().await;
    registry.put_image("a", &[unlike(9 * MIB, 1)]).await;
    registry.put_image("b", &[unlike(9 * MIB, 1), unlike(3 * MIB, 2)]).await;
    let peers = Arc::new(Machines { liar: Some(NodeId([1; 32])), ..Machines::default() });
    let liar = machine(&registry, &peers, 1);
    liar.fetch(&format!("{}/b:1", registry.host())).await.unwrap();
    let other = machine(&registry, &peers, 2);
    other.fetch(&format!("{}/a:1", registry.host())).await.unwrap();
    let asked = peers.asked(1);
    assert!(asked > 0);
    other.fetch(&format!("{}/b:1", registry.host())).await.unwrap();
    assert_eq!(peers.asked(1), asked, "it was found out");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_or_not_wanted_is_said() {
    let registry = Registry::start().await;
    registry.put_image("big", &vec![unlike(MIB, 1); 33]).await;
    let peers = Arc::new(Machines::default());
    let asking = machine(&registry, &peers, 1);
    let error = asking.fetch(&format!("{}/nothing:1", registry.host())).await.unwrap_err();
    assert!(matches!(error, ImageError::Registry(RegistryError::NotFound { .. })), "{error}");
    let error = asking.fetch(&format!("{}/big:1", registry.host())).await.unwrap_err();
    assert!(matches!(error, ImageError::TooLarge { .. }), "{error}");
    // Another port of this machine: nobody named it.
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = asking.fetch(&format!("{closed}/a")).await.unwrap_err().to_string();
    assert!(error.contains("not encrypted") || error.contains("not a public one") || error.contains("another port"), "{error}");
}
