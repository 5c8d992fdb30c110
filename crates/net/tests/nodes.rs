//! Nodes that reach each other: the real endpoints, relay and doorway, on loopback.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests: clippy.toml exempts test functions only"
)]

use axum::Router;
use axum::body::Bytes;
use axum::extract::ConnectInfo;
use axum::routing::{get, post};
use pasture_net::{Arrivals, Doorway, Endpoint, Gate, NetError, Options, Place, Relay, RelayServer, Service, Ticket, Way};
use pasture_rt::Shutdown;
use pasture_types::{NodeId, SigningKey, ZoneId};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Within which a condition holds on any machine.
const PATIENCE: Duration = Duration::from_secs(60);

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

struct World {
    stop: Shutdown,
    relay: RelayServer,
}

impl World {
    async fn new() -> Self {
        Self { stop: Shutdown::new(), relay: RelayServer::start(&key(99), LOOPBACK).await.unwrap() }
    }
    fn named(&self) -> Relay {
        self.relay.named("127.0.0.1")
    }
    async fn endpoint(&self, n: u8, relays: Vec<Relay>) -> Endpoint {
        Endpoint::open(Options { key: key(n), listen: LOOPBACK, relays }, self.stop.token()).await.unwrap()
    }
    /// A node that serves its data plane, and waits at the relay.
    async fn serving(&self, n: u8) -> Endpoint {
        let endpoint = self.endpoint(n, vec![self.named()]).await;
        serve(endpoint.arrivals(Service::Node));
        tokio::time::timeout(PATIENCE, endpoint.online()).await.unwrap();
        endpoint
    }
    fn door(&self, endpoint: &Endpoint) -> reqwest::Client {
        let own = endpoint.clone();
        let door = Doorway::start(move || Box::pin(std::future::ready(Ok(own.clone()))), [5; 16], self.stop.token()).unwrap();
        client(door.url())
    }
}

fn key(n: u8) -> SigningKey {
    SigningKey::from_seed([n; 32])
}

fn client(door: &str) -> reqwest::Client {
    let nobody = rustls::ClientConfig::builder_with_provider(std::sync::Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    reqwest::Client::builder().tls_backend_preconfigured(nobody).proxy(reqwest::Proxy::all(door).unwrap()).build().unwrap()
}

fn serve(arrivals: Arrivals) {
    let who = |ConnectInfo(peer): ConnectInfo<Peer>| async move { peer.0.to_string() };
    let app = Router::new().route("/who", get(who)).route("/echo", post(|body: Bytes| async move { body }));
    let app = app.layer(axum::extract::DefaultBodyLimit::disable()).into_make_service_with_connect_info::<Peer>();
    pasture_rt::spawn(pasture_rt::TaskKind::Server, async move { axum::serve(arrivals, app).await.unwrap() });
}

#[derive(Clone)]
struct Peer(NodeId);

impl axum::extract::connect_info::Connected<axum::serve::IncomingStream<'_, Arrivals>> for Peer {
    fn connect_info(stream: axum::serve::IncomingStream<'_, Arrivals>) -> Self {
        Self(*stream.remote_addr())
    }
}

/// Where it is, as who knows its own addresses but no relay says.
fn direct(endpoint: &Endpoint) -> Place {
    Place { direct: vec![SocketAddr::new(LOOPBACK.ip(), endpoint.port().unwrap())], relays: vec![] }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_reached_by_its_name_and_knows_who_calls() {
    let world = World::new().await;
    let (home, caller) = (world.serving(1).await, world.endpoint(2, vec![]).await);
    caller.learn(&home.node(), &direct(&home));
    let http = world.door(&caller);
    let base = Service::Node.url(&home.node());
    let who = http.get(format!("{base}/who")).send().await.unwrap().text().await.unwrap();
    assert_eq!(who, caller.node().to_string());
    let large = vec![0xa5u8; 9 << 20];
    let echoed = http.post(format!("{base}/echo")).body(large.clone()).send().await.unwrap().bytes().await.unwrap();
    assert!(echoed == large, "{} bytes came back", echoed.len());
    let path = caller.path(&home.node()).unwrap();
    assert_eq!(path.way, Way::Direct(direct(&home).direct[0]));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_that_know_only_a_relay_meet_there_and_go_on_without_it() {
    let world = World::new().await;
    let (home, caller) = (world.serving(1).await, world.endpoint(2, vec![world.named()]).await);
    assert_eq!(home.place().relays, [world.named().url]);
    // Nobody said where it is: all that is known is a relay of the network.
    let http = world.door(&caller);
    let url = format!("{}/who", Service::Node.url(&home.node()));
    assert_eq!(http.get(&url).send().await.unwrap().text().await.unwrap(), caller.node().to_string());
    tokio::time::timeout(PATIENCE, async {
        while !matches!(caller.path(&home.node()).map(|path| path.way), Some(Way::Direct(_))) {
            http.get(&url).send().await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .unwrap();
    // The relay is gone, the path is not.
    world.relay.stop().await;
    assert_eq!(http.get(&url).send().await.unwrap().text().await.unwrap(), caller.node().to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_with_another_certificate_is_not_believed() {
    let world = World::new().await;
    let false_one = Relay { pin: [9; 32], ..world.named() };
    let endpoint = world.endpoint(3, vec![false_one]).await;
    let waited = tokio::time::timeout(Duration::from_secs(3), endpoint.online()).await;
    assert!(waited.is_err(), "it waits at a relay that nobody named");
    let right = Ticket { zone: ZoneId([1; 32]), gates: vec![], relays: vec![world.named()], invite: None };
    endpoint.set_network(&right).await;
    tokio::time::timeout(PATIENCE, endpoint.online()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_is_asked_of_whoever_serves_it() {
    let world = World::new().await;
    let (gone, here, caller) = (world.endpoint(4, vec![]).await, world.endpoint(5, vec![]).await, world.endpoint(6, vec![]).await);
    serve(here.arrivals(Service::Api));
    let gates = [&gone, &here].map(|gate| Gate { node: gate.node(), direct: direct(gate).direct });
    let network = Ticket { zone: ZoneId([1; 32]), gates: gates.to_vec(), relays: vec![], invite: None };
    let mut changes = caller.changes();
    caller.set_network(&network).await;
    assert!(changes.has_changed().unwrap() && caller.gates() == [gone.node(), here.node()]);
    gone.close().await;
    let url = format!("{}/who", Doorway::api_url(&ZoneId([1; 32])));
    let door = world.door(&caller);
    let who = door.get(&url).send().await.unwrap().text().await.unwrap();
    assert_eq!(who, caller.node().to_string());
    assert!(caller.path(&here.node()).is_some() && caller.path(&gone.node()).is_none());
    // The one that answered is asked first from now on, also when the network is told again; one that is named no more is not asked.
    changes.mark_unchanged();
    caller.set_network(&network).await;
    assert_eq!(caller.gates(), [here.node(), gone.node()]);
    caller.set_network(&network.clone().first(1)).await;
    assert_eq!(caller.gates(), [gone.node()]);
    // Another client: the first one has a connection that is open.
    assert!(world.door(&caller).get(&url).send().await.is_err());
}

/// A node in a process of its own, so that it can be killed: this test program once more, told by a variable to be the other side.
struct Program(std::process::Child, SocketAddr);

const OTHER_SIDE: &str = "PASTURE_TEST_OTHER_SIDE";
/// Its port follows in its output.
const SERVES: &str = "serves at port ";

impl Program {
    fn start(test: &str) -> Self {
        use std::io::BufRead as _;
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", test, "--nocapture"]).env(OTHER_SIDE, "1");
        let mut child = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::null()).spawn().unwrap();
        let mut lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let port = lines.find_map(|line| line.split(SERVES).nth(1)?.trim().parse().ok()).unwrap();
        Self(child, SocketAddr::new(LOOPBACK.ip(), port))
    }

    /// What it does until it is killed; comes back at once where this is the test itself.
    async fn is_this() {
        use std::io::Write as _;
        #[allow(clippy::disallowed_methods, reason = "which side this is is said from outside")]
        if std::env::var_os(OTHER_SIDE).is_some() {
            let world = World::new().await;
            let node = world.endpoint(7, vec![]).await;
            serve(node.arrivals(Service::Node));
            let mut said = std::io::stdout();
            writeln!(said, "{SERVES}{}", node.port().unwrap()).unwrap();
            std::future::pending().await
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_killed_and_is_back_is_not_waited_for_until_its_first_connection_ends() {
    const NAME: &str = "a_node_that_was_killed_and_is_back_is_not_waited_for_until_its_first_connection_ends";
    Program::is_this().await;
    let world = World::new().await;
    let (caller, node) = (world.endpoint(8, vec![]).await, key(7).node_id());
    let http = world.door(&caller);
    let url = format!("{}/who", Service::Node.url(&node));
    let first = Program::start(NAME);
    caller.learn(&node, &Place { direct: vec![first.1], relays: vec![] });
    assert_eq!(http.get(&url).send().await.unwrap().text().await.unwrap(), caller.node().to_string());
    drop(first);
    let second = Program::start(NAME);
    caller.learn(&node, &Place { direct: vec![second.1], relays: vec![] });
    // The silence that ends the first one is shorter than that.
    let again = async { while !matches!(tokio::time::timeout(Duration::from_secs(2), http.get(&url).send()).await, Ok(Ok(_))) {} };
    tokio::time::timeout(Duration::from_secs(24), again).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_that_is_not_believed_is_asked_after_the_others() {
    let world = World::new().await;
    let (liar, other, caller) = (world.endpoint(4, vec![]).await, world.endpoint(5, vec![]).await, world.endpoint(6, vec![]).await);
    // Each says who it is: two servers of the same kind could not be told apart.
    for gate in [&liar, &other] {
        let me = gate.node().to_string();
        let app = axum::Router::new().route("/me", axum::routing::get(move || async move { me }));
        let arrivals = gate.arrivals(Service::Api);
        pasture_rt::spawn(pasture_rt::TaskKind::Server, async move { axum::serve(arrivals, app).await.unwrap() });
    }
    let gate = |endpoint: &Endpoint| Gate { node: endpoint.node(), direct: direct(endpoint).direct };
    let both = Ticket { zone: ZoneId([1; 32]), gates: vec![gate(&liar), gate(&other)], relays: vec![], invite: None };
    caller.set_network(&both.clone().first(1)).await;
    let url = format!("{}/me", Doorway::api_url(&ZoneId([1; 32])));
    let door = world.door(&caller);
    // A connection that ends may take a request with it; clients ask again.
    let ask = async || loop {
        if let Ok(answer) = door.get(&url).send().await {
            return answer.text().await.unwrap();
        }
    };
    assert_eq!(ask().await, liar.node().to_string());
    assert_eq!(caller.disbelieve(), None, "there is no other");
    assert_eq!(ask().await, liar.node().to_string());
    caller.set_network(&both).await;
    assert_eq!(caller.disbelieve(), Some(liar.node()));
    // The same client, which had a connection to it that was kept.
    assert_eq!(ask().await, other.node().to_string());
    assert_eq!(caller.gates(), [other.node(), liar.node()]);
    // Better that one than none.
    other.close().await;
    let again = async {
        // Until the other's farewell has arrived, it is called.
        loop {
            if let Ok(answer) = world.door(&caller).get(&url).send().await {
                return answer.text().await.unwrap();
            }
        }
    };
    assert_eq!(tokio::time::timeout(PATIENCE, again).await.unwrap(), liar.node().to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_there_and_what_is_not_served_is_an_error_soon() {
    let world = World::new().await;
    let (home, caller) = (world.serving(1).await, world.endpoint(2, vec![]).await);
    let nowhere = caller.dial(key(77).node_id(), Service::Node).await.unwrap_err();
    assert!(matches!(nowhere, NetError::Unreachable { .. }), "{nowhere}");
    // Who announces a relay of its own choice makes nobody call there.
    let elsewhere = key(78).node_id();
    caller.learn(&elsewhere, &Place { direct: vec![], relays: vec!["https://127.0.0.1:1".into()] });
    let uncalled = caller.dial(elsewhere, Service::Node).await.unwrap_err();
    assert!(uncalled.to_string().contains("nobody said where it is"), "{uncalled}");
    // It answers, but not for this; the stream ends at once.
    caller.learn(&home.node(), &direct(&home));
    let mut stream = caller.dial(home.node(), Service::Api).await.unwrap();
    let _ = stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await;
    let ended = tokio::time::timeout(PATIENCE, stream.read(&mut [0; 1])).await.unwrap();
    assert!(ended.is_err(), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_version_is_told_apart_from_nobody() {
    let world = World::new().await;
    let caller = world.endpoint(2, vec![]).await;
    let later = iroh::Endpoint::builder(iroh::endpoint::presets::Minimal)
        .secret_key(iroh::SecretKey::from_bytes(&[8; 32]))
        .alpns(vec![b"pasture/node/2".to_vec()])
        .clear_ip_transports()
        .bind_addr(LOOPBACK)
        .unwrap()
        .bind()
        .await
        .unwrap();
    let accepting = later.clone();
    pasture_rt::spawn(pasture_rt::TaskKind::Server, async move {
        while let Some(incoming) = accepting.accept().await {
            let _ = incoming.await;
        }
    });
    let node = key(8).node_id();
    caller.learn(&node, &Place { direct: later.bound_sockets(), relays: vec![] });
    let refused = caller.dial(node, Service::Node).await.unwrap_err();
    assert!(matches!(refused, NetError::Version { .. }), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doorway_lets_in_who_knows_its_secret_and_leads_to_nodes_alone() {
    let world = World::new().await;
    let (home, caller) = (world.serving(1).await, world.endpoint(2, vec![]).await);
    caller.learn(&home.node(), &direct(&home));
    let own = caller.clone();
    let door = Doorway::start(move || Box::pin(std::future::ready(Ok(own.clone()))), [5; 16], world.stop.token()).unwrap();
    let url = format!("{}/who", Service::Node.url(&home.node()));
    assert!(client(door.url()).get(&url).send().await.is_ok());
    let stranger = door.url().replace("0505", "0506");
    assert!(client(&stranger).get(&url).send().await.is_err());
    for elsewhere in ["http://example.org/", "http://127.0.0.1:1/", "http://abcd.node/", "http://x.other/"] {
        assert!(client(door.url()).get(elsewhere).send().await.unwrap_err().is_connect(), "{elsewhere}");
    }
    // What is no greeting, and one that never ends.
    let address: SocketAddr = door.url().rsplit_once('@').unwrap().1.parse().unwrap();
    for noise in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[5, 1, 0], &[4, 1, 2], &[]] {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream.write_all(noise).await.unwrap();
        let mut said = Vec::new();
        let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut said)).await.unwrap();
        assert!(said.is_empty() || said == [5, 0xff], "{said:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_of_one_node_are_limited() {
    let world = World::new().await;
    let home = world.serving(1).await;
    // One key, many endpoints: what it opens beyond its part is closed.
    let mut held = Vec::new();
    let mut refused = 0;
    for _ in 0..10 {
        let caller = world.endpoint(2, vec![]).await;
        caller.learn(&home.node(), &direct(&home));
        let Ok(mut stream) = caller.dial(home.node(), Service::Node).await else {
            refused += 1;
            continue;
        };
        let asked = stream.write_all(b"GET /who HTTP/1.1\r\nHost: x\r\n\r\n").await;
        let mut first = [0; 8];
        match asked.is_ok() && stream.read_exact(&mut first).await.is_ok() {
            true => held.push((caller, stream)),
            false => refused += 1,
        }
    }
    assert_eq!((held.len(), refused), (8, 2));
}
