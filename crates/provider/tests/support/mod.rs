//! What the suite shares: a provider on a real engine with a ledger in memory, and a client that signs its requests.

pub(crate) mod network;

use futures::StreamExt as _;
use network::SimulatedNetwork;
use pasture_api::auth;
use pasture_api::data::{CountersignRequest, LeaseStatus, NodeEvent, Phase, Said};
use pasture_api::frames::Decoder;
use pasture_api::sse::SseDecoder;
use pasture_provider::{Mandate, Network, Options, Provider};
use pasture_rt::SystemClock;
use pasture_runtime::docker::{DockerConfig, DockerRuntime};
use pasture_runtime::{BuildLimits, BuildRequest, InstanceKey, Network as Reach, Owner, Runtime};
use pasture_store::said::open_text;
use pasture_store::sealed::{Binding, Content, OpenReader, Opener, ReaderKey};
use pasture_types::keys::SignatureText;
use pasture_types::lease::Usage;
use pasture_types::market::{AliveCheck, Egress, OfferTerms, Rates};
use pasture_types::spec::{JobType, Manifest, Source};
use pasture_types::{AssetId, LeaseId, Millis, NodeId, Resources, SigningKey};
use std::collections::BTreeMap;
use std::future::Future;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// Longest that anything here may take; all of it takes moments on an idle machine.
const PATIENCE: Duration = Duration::from_secs(60);
pub(crate) const BASE: &str = "pasture-test/base:1";

pub(crate) struct Bench {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) network: Arc<SimulatedNetwork>,
    pub(crate) node_key: SigningKey,
    provider_key: SigningKey,
}

/// A tar of some files.
pub(crate) fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o755);
        header.set_cksum();
        tar.append_data(&mut header, name, *bytes).unwrap();
    }
    tar.into_inner().unwrap()
}

pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let looks = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, looks).await.unwrap_or_else(|_| panic!("not within {PATIENCE:?}: {what}"));
}

impl Bench {
    pub(crate) async fn new(name: &str) -> Self {
        let socket = std::env::var_os("FARM_TEST_ENGINE").expect(
            "these tests need a container engine: run FARM_TEST_ENGINE=$(scripts/engine.sh) cargo test -p pasture-provider\n\
             (without one: cargo test -p pasture-provider --lib)",
        );
        let dir = tempfile::tempdir().unwrap();
        let runtime = DockerRuntime::connect(DockerConfig::new(socket, dir.path().join("engine"))).await.unwrap();
        let seed =
            |part: &str| pasture_types::ids::derive("test key", &[name.as_bytes(), part.as_bytes(), &std::process::id().to_le_bytes()]);
        let (node_key, provider_key) = (SigningKey::from_seed(seed("node")), SigningKey::from_seed(seed("provider")));
        let network = SimulatedNetwork::new(provider_key.account(), node_key.node_id());
        let this = Self { dir, runtime: Arc::new(runtime), network, node_key, provider_key };
        this.ensure_base().await;
        this
    }

    async fn ensure_base(&self) {
        if self.runtime.image(BASE).await.unwrap().is_some() {
            return;
        }
        let dockerfile = "FROM scratch\nCOPY busybox /bin/busybox\n\
            RUN [\"/bin/busybox\", \"mkdir\", \"-p\", \"/sbin\", \"/usr/bin\", \"/usr/sbin\", \"/tmp\", \"/etc\"]\n\
            RUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]\n";
        let busybox = std::fs::read("/bin/busybox").unwrap();
        let context_tar = self.dir.path().join("base.tar");
        std::fs::write(&context_tar, tar_of(&[("busybox", &busybox), ("Dockerfile", dockerfile.as_bytes())])).unwrap();
        let request = BuildRequest {
            instance_key: InstanceKey::parse("base").unwrap(),
            owner: self.owner(),
            context_tar,
            dockerfile: "Dockerfile".into(),
            build_args: BTreeMap::new(),
            tag: BASE.into(),
            target: None,
            limits: BuildLimits { cpu_millis: 2000, memory_bytes: 256 << 20, pids: 64, cpuset: None, image_bytes: 64 << 20 },
            network: Reach::None,
            timeout: PATIENCE,
        };
        let (progress, mut told) = tokio::sync::mpsc::channel(8);
        let (built, ()) = tokio::join!(self.runtime.build(request, progress), async { while told.recv().await.is_some() {} });
        built.unwrap();
    }

    pub(crate) fn owner(&self) -> Owner {
        Owner::parse(&self.node_key.node_id().to_string()).unwrap()
    }

    pub(crate) fn options(&self) -> Options {
        let offer = OfferTerms {
            resources: Resources { cpu_millis: 1000, memory_bytes: 256 << 20, disk_bytes: 64 << 20, ..Resources::default() },
            rates: Rates::default(),
            asset: AssetId::CREDIT,
            region: "local".into(),
            egress: Egress::None,
            max_duration: Millis::secs(3600),
            ..OfferTerms::default()
        };
        let data = self.dir.path().join("provider");
        Options::new(data, self.node_key.clone(), Mandate::Key(self.provider_key.clone()), "here".into(), offer)
    }

    pub(crate) async fn start(&self) -> Provider {
        self.start_with(self.options()).await
    }

    pub(crate) async fn start_with(&self, options: Options) -> Provider {
        let network: Arc<dyn Network> = self.network.clone();
        Provider::start(options, network, Arc::clone(&self.runtime), Arc::new(SystemClock)).await.unwrap()
    }

    pub(crate) fn client(&self, provider: &Provider, lease: LeaseId) -> Client {
        let http = pasture_api::door::http(None).unwrap().build().unwrap();
        Client {
            http,
            base: format!("http://{}", provider.data_address()),
            lease,
            node: self.node_key.node_id(),
            key: self.network.user.clone(),
        }
    }

    /// Removes what a failed test may have left.
    pub(crate) async fn clean(&self) {
        self.runtime.sweep(&self.owner(), &Default::default()).await.unwrap();
    }
}

/// A job that runs a script on the base image.
pub(crate) fn script(text: &str) -> Manifest {
    Manifest {
        salt: [1; 16],
        name: "test".into(),
        kind: JobType::Job,
        source: Source::Image(BASE.into()),
        command: Some(vec!["/bin/sh".into(), "-c".into()]),
        args: Some(vec![text.into()]),
        env: BTreeMap::from([("GREETING".into(), "hello".into())]),
        resources: Resources { cpu_millis: 500, memory_bytes: 32 << 20, disk_bytes: 0, ..Resources::default() },
        pids: 32,
        egress: Egress::None,
        alive: AliveCheck::Exec,
        grace: Millis(1_000),
        ports: vec![],
        life: Default::default(),
        volumes: vec![],
        secrets: vec![],
        reader: reader().public(),
    }
}

/// Who reads the logs and outputs of tests.
pub(crate) fn reader() -> ReaderKey {
    ReaderKey::derived(&[5; 32])
}

#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: String,
    lease: LeaseId,
    node: NodeId,
    pub(crate) key: SigningKey,
}

impl Client {
    pub(crate) async fn send(&self, method: &str, rest: &str, body: Vec<u8>) -> reqwest::Response {
        let path = format!("/leases/{}/{rest}", self.lease);
        let header = auth::authorize(&self.key, method, &path, &self.node, network::now().0);
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let request = self.http.request(method, format!("{}{path}", self.base)).header("authorization", header).body(body);
        request.send().await.unwrap()
    }

    pub(crate) async fn ok(&self, method: &str, rest: &str, body: Vec<u8>) -> Vec<u8> {
        let response = self.send(method, rest, body).await;
        let status = response.status();
        let bytes = response.bytes().await.unwrap().to_vec();
        assert!(status.is_success(), "{method} {rest}: {status} {}", String::from_utf8_lossy(&bytes));
        bytes
    }

    /// As the user reads it. Once the description is here, all that is said is sealed.
    fn open(&self, said: &mut Said) {
        said.open(|sealed| open_text(&reader(), &self.lease, sealed).unwrap());
    }

    pub(crate) async fn status(&self) -> LeaseStatus {
        let mut status: LeaseStatus = serde_json::from_slice(&self.ok("GET", "status", vec![]).await).unwrap();
        status.each_text(|said| self.open(said));
        status
    }

    /// Which lease it is about.
    pub(crate) const fn lease(&self) -> LeaseId {
        self.lease
    }

    /// Waits until the node knows the lease.
    pub(crate) async fn found(&self) {
        until("the node knows the lease", || async { self.send("GET", "status", vec![]).await.status().is_success() }).await;
    }

    pub(crate) async fn reach(&self, phase: Phase) -> LeaseStatus {
        until(&format!("{phase:?}"), || async { self.status().await.phase >= phase }).await;
        self.status().await
    }

    /// All of the log, followed to its end.
    pub(crate) async fn log(&self) -> String {
        let bytes = timeout(PATIENCE, self.ok("GET", "logs?from=0&follow=true", vec![])).await.expect("the log ends");
        self.open_log(&bytes, 0).concat()
    }

    /// The chunks of a sealed log that was read from an offset on.
    pub(crate) fn open_log(&self, sealed: &[u8], from: u64) -> Vec<String> {
        let mut opener = Opener::new(reader(), Binding { content: Content::Log, lease: self.lease }, from);
        opener.push(sealed);
        let mut texts = vec![];
        while let Some(chunk) = opener.next_chunk().unwrap() {
            let (mut decoder, mut text) = (Decoder::default(), String::new());
            decoder.push(&chunk);
            while let Some(frame) = decoder.next_frame().unwrap() {
                text.push_str(&String::from_utf8_lossy(&frame.data));
            }
            texts.push(text);
        }
        texts
    }

    /// The archive in a sealed output.
    pub(crate) fn open_output(&self, sealed: &[u8]) -> Vec<u8> {
        let mut tar = vec![];
        let mut reader = OpenReader::new(sealed, reader(), Binding { content: Content::Output, lease: self.lease });
        reader.read_to_end(&mut tar).unwrap();
        tar
    }

    pub(crate) async fn countersign(&self, usage: &Usage) -> reqwest::StatusCode {
        let signature = SignatureText::from(&self.key.sign(&usage.counter_digest()));
        let request = CountersignRequest { usage: usage.clone(), account: None, key: self.key.public().to_string(), signature };
        self.send("POST", "countersign", serde_json::to_vec(&request).unwrap()).await.status()
    }

    /// Follows events, confirming what comes, until the job has ended and its last statement is confirmed.
    pub(crate) async fn follow(&self) -> Vec<NodeEvent> {
        let response = self.send("GET", "events", vec![]).await;
        assert!(response.status().is_success());
        let work = async {
            let (mut bytes, mut decoder, mut seen) = (response.bytes_stream(), SseDecoder::default(), vec![]);
            let (mut ended, mut confirmed) = (false, false);
            while !(ended && confirmed) {
                decoder.push(&bytes.next().await.expect("the stream goes on").unwrap());
                while let Some(event) = decoder.next_event().unwrap() {
                    let mut event: NodeEvent = serde_json::from_str(&event.data).unwrap();
                    // The description is here before anybody follows: from then on no text is clear.
                    event.each_text(|said| assert!(said.is_empty() || said.boxes().count() > 0, "{said:?}"));
                    event.each_text(|said| self.open(said));
                    match &event {
                        NodeEvent::Status { status } => ended |= status.phase == Phase::Ended,
                        NodeEvent::Usage { usage, last, .. } => {
                            // An older one may have been replaced meanwhile; the last one may not.
                            let taken = self.countersign(usage).await.is_success();
                            assert!(taken || !last);
                            confirmed |= *last;
                        }
                        _ => {}
                    }
                    seen.push(event);
                }
            }
            seen
        };
        timeout(PATIENCE, work).await.expect("the job ends")
    }
}

/// Whether a path exists in a tar, and with which content.
pub(crate) fn file_in_tar(tar: &[u8], name: &str) -> Option<String> {
    use std::io::Read as _;
    let mut archive = tar::Archive::new(tar);
    archive.entries().unwrap().find_map(|entry| {
        let mut entry = entry.unwrap();
        let found = entry.path().unwrap().file_name() == Path::new(name).file_name();
        let mut text = String::new();
        found.then(|| entry.read_to_string(&mut text).unwrap())?;
        Some(text)
    })
}
