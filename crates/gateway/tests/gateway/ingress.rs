//! The public's door: a real gateway and real connections; a small machine stands for the one with the container.

use crate::world::{LEASE, World, announcement, loopback, node_key, soon, user};
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, post};
use axum::{Json, Router};
use hyper_util::rt::TokioIo;
use pasture_api::publication::{AccessHash, IngressView, NameView, Protocol, Publication, Rules, tag};
use pasture_api::{ApiError, NodeAddress};
use pasture_gateway::{AcmeOptions, CertificateOptions, GatewayOptions, IngressOptions, TlsOptions};
use pasture_rt::TaskKind;
use pasture_types::ZoneId;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const KEY: &str = "an-access-key-of-some-length";

/// A machine that gives streams to three ports: at 80 HTTP with connections that stay open, at 81 what comes is said again, at 82 HTTP from
/// who answers one request of a connection and goes away at the second.
#[derive(Clone, Default)]
struct Machine {
    streams: Arc<Mutex<Vec<Option<String>>>>,
}

impl Machine {
    /// The access keys that its streams were asked for with.
    fn streams(&self) -> Vec<Option<String>> {
        self.streams.lock().unwrap().clone()
    }
}

/// What the job says: its headers, and how long the body was.
async fn job(request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let of = |name: &str| parts.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    let names = ["host", "x-access-key", "authorization", "x-forwarded-proto"];
    let heard: BTreeMap<&str, String> = names.into_iter().filter_map(|name| Some((name, of(name)?))).collect();
    match axum::body::to_bytes(body, usize::MAX).await {
        Ok(body) => Json(serde_json::json!({"heard": heard, "bytes": body.len()})).into_response(),
        Err(_) => StatusCode::BAD_REQUEST.into_response(),
    }
}

async fn once(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<()> {
    let mut head = [0; 4_096];
    let _ = stream.read(&mut head).await?;
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nonce").await?;
    let _ = stream.read(&mut head).await?;
    Ok(())
}

async fn stream(
    State((machine, site)): State<(Machine, SocketAddr)>,
    Path((_, port)): Path<(String, u16)>,
    mut request: Request,
) -> Response {
    let key = request.headers().get("x-access-key").map(|key| key.to_str().unwrap().to_owned());
    machine.streams.lock().unwrap().push(key);
    let upgrade = hyper::upgrade::on(&mut request);
    pasture_rt::spawn(TaskKind::Connection, async move {
        let mut stream = TokioIo::new(upgrade.await.unwrap());
        if port == 82 {
            let _ = soon(once(&mut stream)).await;
        } else if port == 80 {
            let mut there = TcpStream::connect(site).await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut stream, &mut there).await;
        } else {
            let (mut read, mut write) = tokio::io::split(stream);
            let _ = tokio::io::copy(&mut read, &mut write).await;
        }
    });
    (StatusCode::SWITCHING_PROTOCOLS, [("connection", "upgrade"), ("upgrade", "pasture-stream")]).into_response()
}

fn published(port: u16, rules: Rules, domains: Vec<String>) -> Publication {
    let protocol = if port == 81 { Protocol::Tcp } else { Protocol::Http };
    Publication { account: user().account(), lease: LEASE, name: format!("p{port}"), port, protocol, rules, domains }
}

fn options(ingress: IngressOptions) -> GatewayOptions {
    GatewayOptions { ingress: Some(ingress), ..loopback() }
}

fn ingress() -> IngressOptions {
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    IngressOptions { listen, domain: "gate.test".into(), tls: None, tcp: None, nameservers: vec![listen] }
}

/// A gateway with a door, and a machine that publishes this.
async fn open(asked: IngressOptions, all: Vec<Publication>) -> (World, Machine, IngressView) {
    let site = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = site.local_addr().unwrap();
    let router = Router::new().fallback(any(job));
    pasture_rt::spawn(TaskKind::Server, async move { axum::serve(site, router).await.unwrap() });
    let machine = Machine::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let node = listener.local_addr().unwrap();
    let router = Router::new().route("/leases/{lease}/public/{port}", post(stream)).with_state((machine.clone(), at));
    pasture_rt::spawn(TaskKind::Server, async move { axum::serve(listener, router).await.unwrap() });
    let world = World::with(options(asked)).await;
    let public = all.into_iter().map(|publication| publication.sign(&ZoneId([5; 32]), &user())).collect();
    let announced = NodeAddress { public, ..announcement(&node_key(), &format!("http://{node}")) };
    soon(world.api.announce(&node_key().node_id(), &announced)).await.unwrap();
    let view = soon(world.api.ingress()).await.unwrap();
    (world, machine, view)
}

/// Asks again until something holds.
async fn until<T>(what: &str, asked: impl AsyncFn() -> Option<T>) -> T {
    for _ in 0..1_800 {
        if let Some(found) = asked().await {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{what}: nothing for three minutes");
}

async fn name(world: &World, port: u16) -> NameView {
    soon(world.api.public_name(&published(port, Rules::default(), vec![]).label())).await.unwrap()
}

fn host(port: u16) -> String {
    format!("{}.gate.test", published(port, Rules::default(), vec![]).label())
}

/// The whole answer to these bytes, whose connection is to be closed.
async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, sent: &str) -> String {
    let mut all = Vec::new();
    soon(async {
        stream.write_all(sent.as_bytes()).await.unwrap();
        let _ = stream.read_to_end(&mut all).await;
    })
    .await;
    String::from_utf8(all).unwrap()
}

async fn ask(view: &IngressView, headers: &str, body: &str) -> String {
    let stream = TcpStream::connect(("127.0.0.1", view.port)).await.unwrap();
    exchange(stream, &format!("POST / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{headers}\r\n{body}", host(80))).await
}

#[tokio::test]
async fn a_connection_to_a_job_is_kept_for_the_next_request() {
    let (_world, machine, view) = open(ingress(), vec![published(80, Rules::default(), vec![])]).await;
    for n in 0..5 {
        let answer = ask(&view, "Content-Length: 3\r\n", "abc").await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"bytes\":3"), "{n}: {answer}");
    }
    // One that is not given back yet when the next request comes is not waited for.
    assert!(machine.streams().len() < 5, "{:?}", machine.streams());
}

#[tokio::test]
async fn a_request_that_was_lost_on_a_kept_connection_is_sent_again_if_that_does_no_harm() {
    let (_world, machine, view) = open(ingress(), vec![published(82, Rules::default(), vec![])]).await;
    let ask = async |method: &str| {
        let stream = TcpStream::connect(("127.0.0.1", view.port)).await.unwrap();
        exchange(stream, &format!("{method} / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", host(82))).await
    };
    for n in 0..6 {
        let answer = ask("GET").await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("once"), "{n}: {answer}");
    }
    assert_eq!(machine.streams().len(), 6, "each answered one request");
    // What may have been done is not done twice: told as lost, unless its connection was new.
    let mut codes = std::collections::BTreeSet::new();
    for _ in 0..6 {
        codes.insert(ask("POST").await.split(' ').nth(1).unwrap().to_owned());
    }
    assert!(codes.contains("502"), "{codes:?}");
}

#[tokio::test]
async fn who_has_no_access_key_is_not_let_in_and_the_key_goes_no_further_than_the_machine() {
    let rules = Rules { access: vec![AccessHash::of(KEY.as_bytes())], ..Rules::default() };
    let (_world, machine, view) = open(ingress(), vec![published(80, rules, vec![])]).await;
    for wrong in ["", "X-Access-Key: another-access-key\r\n", "Authorization: Bearer nothing\r\n"] {
        let answer = ask(&view, &format!("Content-Length: 0\r\n{wrong}"), "").await;
        assert!(answer.starts_with("HTTP/1.1 401") && answer.to_lowercase().contains("www-authenticate: basic"), "{answer}");
    }
    assert_eq!(machine.streams(), [], "the machine was not asked");
    let basic = data_encoding::BASE64.encode(format!("me:{KEY}").as_bytes());
    let [own, bearer, basic] =
        [format!("X-Access-Key: {KEY}"), format!("Authorization: Bearer {KEY}"), format!("Authorization: Basic {basic}")];
    for line in [&own, &bearer, &basic] {
        let answer = ask(&view, &format!("Content-Length: 0\r\n{line}\r\n"), "").await;
        assert!(answer.starts_with("HTTP/1.1 200") && !answer.contains(KEY) && !answer.contains("authorization"), "{answer}");
    }
    // What is the job's own stays.
    let answer = ask(&view, &format!("Content-Length: 0\r\n{own}\r\nAuthorization: Bearer the-jobs-own\r\n"), "").await;
    assert!(answer.contains("Bearer the-jobs-own"), "{answer}");
    assert!(machine.streams().iter().all(|key| key.as_deref() == Some(KEY)), "{:?}", machine.streams());
}

#[tokio::test]
async fn limits_of_a_name_hold() {
    let rules = Rules { per_second: Some(1), max_body: Some(10), ..Rules::default() };
    let (_world, _machine, view) = open(ingress(), vec![published(80, rules, vec![])]).await;
    let too_large = ask(&view, "Content-Length: 11\r\n", "12345678901").await;
    assert!(too_large.starts_with("HTTP/1.1 413"), "{too_large}");
    let asked = (0..40).map(|_| ask(&view, "Content-Length: 10\r\n", "1234567890"));
    let answers = futures::future::join_all(asked).await;
    let codes: Vec<String> = answers.iter().map(|answer| answer.split(' ').nth(1).unwrap().to_owned()).collect();
    assert!(codes.contains(&"200".to_owned()) && codes.contains(&"429".to_owned()), "{codes:?}");
    // In pieces nobody knows before how long it is.
    let pieces = until("a turn", async || {
        let answer = ask(&view, "Transfer-Encoding: chunked\r\n", "6\r\n123456\r\n6\r\n123456\r\n0\r\n\r\n").await;
        (!answer.starts_with("HTTP/1.1 429")).then_some(answer)
    })
    .await;
    assert!(pieces.starts_with("HTTP/1.1 413"), "{pieces}");
}

#[tokio::test]
async fn what_speaks_tcp_has_a_port_of_its_own_while_it_is_published() {
    let free = free_port();
    let asked = IngressOptions { tcp: Some((free, free)), ..ingress() };
    let (world, machine, view) = open(asked, vec![published(81, Rules::default(), vec![])]).await;
    assert_eq!(view.tcp, Some((free, free)));
    let port = until("a port", async || name(&world, 81).await.tcp).await;
    assert_eq!((port, name(&world, 81).await.url), (free, None));
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.write_all(b"anything").await.unwrap();
    let mut heard = [0; 8];
    soon(stream.read_exact(&mut heard)).await.unwrap();
    assert_eq!((&heard, machine.streams().len()), (b"anything", 1));
    let nothing = NodeAddress { public: vec![], ..announcement(&node_key(), "http://127.0.0.1:1") };
    soon(world.api.announce(&node_key().node_id(), &nothing)).await.unwrap();
    until("the port is closed", async || TcpStream::connect(("127.0.0.1", port)).await.err()).await;
    assert!(matches!(world.api.public_name(&published(81, Rules::default(), vec![]).label()).await, Err(ApiError::Problem(_))));
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// TLS to a name, believing only these certificates.
async fn secure(port: u16, name: &str, roots: &[u8]) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let mut store = rustls::RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(roots) {
        store.add(root.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config.with_root_certificates(store).with_no_client_auth()));
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    connector.connect(ServerName::try_from(name.to_owned()).unwrap(), stream).await
}

fn tls(certificate: Option<CertificateOptions>, acme: Option<AcmeOptions>) -> Option<TlsOptions> {
    Some(TlsOptions { listen: SocketAddr::from(([127, 0, 0, 1], 0)), certificate, acme })
}

#[tokio::test]
async fn tls_is_spoken_with_a_made_certificate_and_what_comes_without_is_sent_there() {
    let folder = tempfile::tempdir().unwrap();
    let made = CertificateOptions::SelfSigned { folder: folder.path().into() };
    let asked = IngressOptions { tls: tls(Some(made), None), ..ingress() };
    let listen = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let asked = IngressOptions { listen, ..asked };
    let (world, _machine, view) = open(asked, vec![published(80, Rules::default(), vec![])]).await;
    assert_eq!(view.scheme, "https");
    let plain = TcpStream::connect(listen).await.unwrap();
    let answer = exchange(plain, &format!("GET /a?b HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", host(80))).await;
    let there = format!("location: https://{}:{}/a?b\r\n", host(80), view.port);
    assert!(answer.starts_with("HTTP/1.1 308") && answer.contains(&there), "{answer}");
    let roots = std::fs::read(folder.path().join("authority.pem")).unwrap();
    let stream = soon(secure(view.port, &host(80), &roots)).await.unwrap();
    let answer = exchange(stream, &format!("GET / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", host(80))).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(r#""x-forwarded-proto":"https""#), "{answer}");
    assert!(soon(secure(view.port, "gate.example.org", &roots)).await.is_err(), "it is for no other name");
    assert!(name(&world, 80).await.secure);
}

#[tokio::test]
async fn a_given_certificate_is_read_again_and_a_wrong_one_refused() {
    let folder = tempfile::tempdir().unwrap();
    let [chain, key] = ["chain.pem", "key.pem"].map(|file| folder.path().join(file));
    let write = |names: Vec<String>| {
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        std::fs::write(&chain, made.cert.pem()).unwrap();
        made.cert.pem()
    };
    let given = CertificateOptions::Given { chain: chain.clone(), key: key.clone() };
    let asked = IngressOptions { tls: tls(Some(given), None), ..ingress() };
    assert!(matches!(failed(asked.clone()).await, pasture_gateway::GatewayError::Certificate { path, .. } if path == chain));
    let first = write(vec!["*.gate.test".into()]);
    let (_world, _machine, view) = open(asked, vec![published(80, Rules::default(), vec![])]).await;
    assert!(soon(secure(view.port, &host(80), first.as_bytes())).await.is_ok());
    let second = write(vec!["*.gate.test".into()]);
    until("the second is shown", async || secure(view.port, &host(80), second.as_bytes()).await.ok()).await;
}

async fn failed(asked: IngressOptions) -> pasture_gateway::GatewayError {
    World::try_with(options(asked)).await.err().unwrap()
}

/// A process that is ended with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(program: &str, args: &[&str]) -> Running {
    let started = Command::new(program).args(args).env("PEBBLE_VA_NOSLEEP", "1").stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    Running(started.unwrap_or_else(|e| panic!("{program}: {e}; scripts/setup.sh installs it")))
}

#[tokio::test]
async fn certificates_are_had_for_names_and_for_domains_whose_owners_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let [http, dns, say, directory, manage] = [(); 5].map(|()| free_port());
    // A real ACME server with a real nameserver, which asks at every name on our port.
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let [root, key, config] = ["root.pem", "key.pem", "config.json"].map(|file| folder.path().join(file));
    std::fs::write(&root, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let of = |port: u16| format!("127.0.0.1:{port}");
    let pebble = serde_json::json!({"pebble": {
        "listenAddress": of(directory), "managementListenAddress": of(manage), "certificate": root, "privateKey": key,
        "httpPort": http, "tlsPort": 1, "ocspResponderURL": "", "externalAccountBindingRequired": false,
    }});
    std::fs::write(&config, pebble.to_string()).unwrap();
    let _names = start(
        "pebble-challtestsrv",
        &["-defaultIPv6", "", "-dns01", &of(dns), "-http01", "", "-https01", "", "-tlsalpn01", "", "-management", &of(say)],
    );
    let _server = start("pebble", &["-config", config.to_str().unwrap(), "-dnsserver", &of(dns)]);
    let own = "www.example.test".to_owned();
    let acme = AcmeOptions {
        directory: format!("https://localhost:{directory}/dir"),
        contact: Some("owner@example.test".into()),
        root: Some(root.clone()),
        folder: folder.path().join("acme"),
    };
    let listen = SocketAddr::from(([127, 0, 0, 1], http));
    let nameservers = vec![of(dns).parse().unwrap()];
    let asked = IngressOptions { listen, tls: tls(None, Some(acme)), nameservers, ..ingress() };
    let (world, _machine, view) = open(asked, vec![published(80, Rules::default(), vec![own.clone()])]).await;
    until("a certificate for the name", async || name(&world, 80).await.secure.then_some(())).await;
    let before = name(&world, 80).await;
    assert!(!before.domains[0].leads && !before.domains[0].secure, "nobody said that the domain leads here: {before:?}");
    let plain = || async {
        let stream = TcpStream::connect(listen).await.unwrap();
        exchange(stream, &format!("GET / HTTP/1.1\r\nHost: {own}\r\nConnection: close\r\n\r\n")).await
    };
    assert!(plain().await.starts_with("HTTP/1.1 404"));

    let text = serde_json::json!({"host": format!("_pasture.{own}."), "value": tag(&user().account())});
    let said = world.http.post(format!("http://{}/set-txt", of(say))).body(text.to_string()).send();
    assert!(soon(said).await.unwrap().status().is_success());
    until("a certificate for the domain", async || name(&world, 80).await.domains[0].secure.then_some(())).await;
    assert!(plain().await.starts_with("HTTP/1.1 308"));

    // The server's own root, from the server.
    let stream = soon(secure(manage, "localhost", made.cert.pem().as_bytes())).await.unwrap();
    let answer = exchange(stream, "GET /roots/0 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
    let issued = &answer[answer.find("-----BEGIN").unwrap()..];
    for host in [host(80), own] {
        let stream = soon(secure(view.port, &host, issued.as_bytes())).await.unwrap();
        let answer = exchange(stream, &format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(&format!("\"host\":\"{host}\"")), "{answer}");
    }
    assert!(soon(secure(view.port, "other.example.test", issued.as_bytes())).await.is_err(), "no other name has one");
}
