//! Forwarding to the machine that serves a lease.

use crate::world::{LEASE, NOW, World, loopback, node_key, now, soon, user};
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use pasture_api::client::LeaseClient;
use pasture_api::data::{CountersignRequest, Phase};
use pasture_api::{ApiError, Problem, auth, problem};
use pasture_rt::{TaskHandle, TaskKind};
use pasture_types::keys::SignatureText;
use pasture_types::lease::Usage;
use pasture_types::{BlobHash, Timestamp};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, mpsc, watch};

type Chunks = mpsc::Receiver<Result<Bytes, std::io::Error>>;

/// A node's data plane that plays what a test wants.
struct TinyNode {
    address: SocketAddr,
    server: TaskHandle,
    shared: Arc<Shared>,
    log: mpsc::Sender<Result<Bytes, std::io::Error>>,
}

struct Shared {
    log: Mutex<Option<Chunks>>,
    uploaded: watch::Sender<u64>,
    seen: std::sync::Mutex<Vec<String>>,
}

impl TinyNode {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (log, chunks) = mpsc::channel(1);
        let shared = Arc::new(Shared { log: Mutex::new(Some(chunks)), uploaded: watch::Sender::new(0), seen: std::sync::Mutex::default() });
        let router = Router::new().fallback(any(serve)).with_state(Arc::clone(&shared));
        let server = pasture_rt::spawn(TaskKind::Server, async move { axum::serve(listener, router).await.unwrap() });
        Self { address, server, shared, log }
    }
    fn seen(&self) -> Vec<String> {
        self.shared.seen.lock().unwrap().clone()
    }
}

async fn serve(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().unwrap().to_string();
    let header = |name: &str| parts.headers.get(name).map(|v| v.to_str().unwrap().to_string());
    let key = auth::verify(header("authorization").as_deref(), parts.method.as_str(), &path, &node_key().node_id(), NOW);
    if key != Ok(user().public()) {
        let problem = Problem::unauthorized("not signed by the lease's account");
        let body = serde_json::to_vec(&problem).unwrap();
        return (StatusCode::UNAUTHORIZED, [("content-type", problem::CONTENT_TYPE)], body).into_response();
    }
    let kind = header("content-type").unwrap_or_default();
    let framing = header("content-length").or(header("transfer-encoding")).unwrap_or_default();
    let hash = header("x-blake3").unwrap_or_default();
    shared.seen.lock().unwrap().push(format!("{} {path} {kind} {framing} {hash}", parts.method));
    let rest = path.split('/').nth(3).unwrap();
    match (parts.method.as_str(), rest.split('?').next().unwrap()) {
        ("PUT", "context") => {
            let mut body = body.into_data_stream();
            while let Some(chunk) = body.next().await {
                let n = chunk.unwrap().len() as u64;
                shared.uploaded.send_modify(|all| *all += n);
            }
            let all = *shared.uploaded.borrow();
            axum::Json(serde_json::json!({"received": all, "complete": true})).into_response()
        }
        ("GET", "logs") => played(&shared).await.into_response(),
        ("GET", "sized") => ([("content-length", "8")], played(&shared).await).into_response(),
        ("GET", "output") => {
            let headers = [("x-blake3", "ab12"), ("x-length", "4096"), ("x-private", "no")];
            (headers, vec![7; 4096]).into_response()
        }
        ("GET", "away") => (StatusCode::FOUND, [("location", "http://192.0.2.1/")]).into_response(),
        ("GET", "status") => {
            let text = serde_json::json!({
                "lease": LEASE, "phase": "running", "started": 1, "served_ms": 2, "build_ms": 3, "log_bytes": 4,
                "container": null, "end": null, "output_bytes": null, "ends": null,
            });
            axum::Json(text).into_response()
        }
        _ => {
            let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
            (StatusCode::ACCEPTED, body).into_response()
        }
    }
}

/// A body that the test sends chunk by chunk.
async fn played(shared: &Shared) -> Body {
    let chunks = shared.log.lock().await.take().unwrap();
    Body::from_stream(stream::unfold(chunks, |mut c| async move { Some((c.recv().await?, c)) }))
}

fn lease(w: &World) -> LeaseClient {
    LeaseClient::new(w.api.clone(), user(), LEASE, node_key().node_id(), now)
}

async fn with_node() -> (World, TinyNode) {
    let (w, node) = (World::new().await, TinyNode::start().await);
    w.announce(node.address).await;
    (w, node)
}

#[tokio::test]
async fn method_path_query_headers_and_signature_pass_unchanged() {
    let (w, node) = with_node().await;
    let client = lease(&w);
    assert_eq!(soon(client.status()).await.unwrap().phase, Phase::Running);
    soon(client.put_manifest(b"manifest".to_vec())).await.unwrap();
    soon(client.stop(250)).await.unwrap();
    let usage = Usage {
        lease: LEASE,
        generation: 1,
        epoch: 1,
        started: Timestamp(1),
        served_ms: pasture_types::Millis(1),
        build_ms: pasture_types::Millis(0),
        log_root: BlobHash([0; 32]),
        log_bytes: 0,
        steal_ms: pasture_types::Millis(0),
    };
    let request =
        CountersignRequest { usage, account: None, key: user().public().to_string(), signature: SignatureText("ed25519:00".into()) };
    let length = serde_json::to_vec(&request).unwrap().len();
    soon(client.countersign(&request)).await.unwrap();
    assert_eq!(
        node.seen(),
        [
            format!("GET /leases/{LEASE}/status   "),
            format!("PUT /leases/{LEASE}/manifest  8 "),
            format!("POST /leases/{LEASE}/stop?grace_ms=250   "),
            format!("POST /leases/{LEASE}/countersign application/json {length} "),
        ]
    );

    // The status and the headers of the answer pass too; others do not.
    let path = format!("/leases/{LEASE}/output?offset=0");
    let signed = auth::authorize(&user(), "GET", &path, &node_key().node_id(), NOW);
    let get = |rest: &str, signed: &str| {
        w.http.get(w.url(&format!("/v1/leases/{LEASE}/data/{rest}"))).header("authorization", signed).header("x-blake3", "cd").send()
    };
    let output = soon(get("output?offset=0", &signed)).await.unwrap();
    assert_eq!(output.status(), 200);
    assert_eq!(output.headers()["x-blake3"], "ab12");
    assert_eq!(output.headers()["x-length"], "4096");
    assert_eq!(output.headers()["content-length"], "4096");
    assert!(!output.headers().contains_key("x-private"));
    assert_eq!(output.bytes().await.unwrap(), vec![7; 4096]);
    assert!(node.seen()[4].ends_with(" cd"));

    // A signature for another path is the node's to refuse, and its problem passes as it is.
    let refused = soon(get("status", &signed)).await.unwrap();
    assert_eq!(refused.status(), 401);
    assert_eq!(refused.headers()["content-type"], "application/problem+json");
    assert!(refused.text().await.unwrap().contains("not signed by the lease's account"));

    // Nobody leads the gateway elsewhere.
    let signed = auth::authorize(&user(), "GET", &format!("/leases/{LEASE}/away"), &node_key().node_id(), NOW);
    assert_eq!(soon(get("away", &signed)).await.unwrap().status(), 302);
}

#[tokio::test]
async fn an_upload_arrives_as_it_is_sent() {
    let (w, node) = with_node().await;
    let (sender, chunks) = mpsc::channel::<Result<Bytes, std::io::Error>>(1);
    let body = stream::unfold(chunks, |mut c| async move { Some((c.recv().await?, c)) });
    let client = lease(&w);
    let upload = pasture_rt::spawn(TaskKind::ClientFollow, async move { client.put_context(0, body).await.unwrap() });
    let mut uploaded = node.shared.uploaded.subscribe();
    let mut sent = 0;
    for size in [10, 100_000, 1] {
        sent += size as u64;
        sender.send(Ok(vec![3; size].into())).await.unwrap();
        // The next chunk is only sent when the node has this one: nothing waits for the whole.
        soon(uploaded.wait_for(|n| *n == sent)).await.unwrap();
    }
    drop(sender);
    assert_eq!(soon(upload.join()).await.unwrap().received, sent);
    assert_eq!(node.seen(), [format!("PUT /leases/{LEASE}/context?offset=0  chunked ")]);
}

#[tokio::test]
async fn a_followed_log_arrives_as_it_is_written_and_ends_with_the_job() {
    let (w, node) = with_node().await;
    let mut log = soon(lease(&w).logs(0, true)).await.unwrap();
    for line in ["one\n", "two\n", "three\n"] {
        node.log.send(Ok(line.into())).await.unwrap();
        assert_eq!(soon(log.next()).await.unwrap().unwrap(), line);
    }
    assert!(w.text("/metrics").await.contains("pasture_gateway_forwards 1"));
    let TinyNode { log: sender, .. } = node;
    drop(sender);
    assert!(soon(log.next()).await.is_none());
    assert!(w.text("/metrics").await.contains("pasture_gateway_forwards 0"));
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_forward() {
    let (w, node) = with_node().await;
    let log = soon(lease(&w).logs(0, true)).await.unwrap();
    drop(log);
    soon(node.log.closed()).await;
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_not_taken_for_whole() {
    for rest in ["logs", "sized"] {
        let (w, node) = with_node().await;
        let signed = auth::authorize(&user(), "GET", &format!("/leases/{LEASE}/{rest}"), &node_key().node_id(), NOW);
        let url = w.url(&format!("/v1/leases/{LEASE}/data/{rest}"));
        node.log.send(Ok(Bytes::from_static(b"half"))).await.unwrap();
        let mut answer = soon(w.http.get(url).header("authorization", signed).send()).await.unwrap();
        assert_eq!(soon(answer.chunk()).await.unwrap().unwrap(), "half");
        node.log.send(Err(std::io::Error::other("the disk failed"))).await.unwrap();
        assert!(soon(answer.chunk()).await.is_err(), "{rest}");
    }
}

#[tokio::test]
async fn a_stop_breaks_a_forward_off_so_that_its_client_resumes() {
    let (w, node) = with_node().await;
    let mut log = soon(lease(&w).logs(0, true)).await.unwrap();
    node.log.send(Ok(Bytes::from_static(b"one\n"))).await.unwrap();
    soon(log.next()).await.unwrap().unwrap();
    w.stop.trigger();
    assert!(matches!(soon(log.next()).await, Some(Err(ApiError::Broken { .. }))));
    soon(w.gateway.ended()).await;
}

#[tokio::test]
async fn a_machine_that_is_not_connected_is_a_503_and_can_come_back() {
    let w = World::new().await;
    let client = lease(&w);
    let unreachable = async || {
        let error = soon(client.status()).await.unwrap_err();
        assert!(error.is_transient());
        let problem = error.problem().unwrap().clone();
        assert_eq!((problem.status, problem.code.as_str()), (503, "node-unreachable"));
        assert!(problem.detail.contains("it keeps running; try again"), "{}", problem.detail);
    };
    let is_reachable = async || w.api.node(&node_key().node_id()).await.unwrap().reachable;
    unreachable().await;

    // A node that has gone: its address is forgotten at the first failure.
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gone = free.local_addr().unwrap();
    drop(free);
    w.announce(gone).await;
    assert!(is_reachable().await);
    unreachable().await;
    assert!(!is_reachable().await);

    let node = TinyNode::start().await;
    w.announce(node.address).await;
    soon(client.status()).await.unwrap();
    node.server.abort();
    assert_eq!(node.server.join().await, None);
}

#[tokio::test]
async fn a_machine_that_hangs_up_is_a_502() {
    let w = World::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    w.announce(listener.local_addr().unwrap()).await;
    let node = pasture_rt::spawn(TaskKind::Server, async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut buffer = [0; 4096];
        assert!(stream.read(&mut buffer).await.unwrap() > 0);
    });
    let error = soon(lease(&w).status()).await.unwrap_err();
    assert_eq!(error.problem().unwrap().code, "node-broke-off");
    assert!(error.is_transient());
    soon(node.join()).await.unwrap();
}

#[tokio::test]
async fn a_path_cannot_climb_out_of_its_lease() {
    let (w, node) = with_node().await;
    for rest in ["../../v1/status", "%2e%2e/%2e%2e/x", "..", "logs/..", "a%00b"] {
        let mut stream = TcpStream::connect(w.gateway.local_addr()).await.unwrap();
        let request = format!("GET /v1/leases/{LEASE}/data/{rest} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        soon(stream.read_to_string(&mut answer)).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 "), "{rest}: {answer}");
    }
    assert_eq!(node.seen(), [""; 0]);
}

#[tokio::test]
async fn streams_beyond_the_limit_are_refused_until_one_ends() {
    let mut options = loopback();
    options.max_streams = 1;
    let (w, node) = (World::with(options).await, TinyNode::start().await);
    w.announce(node.address).await;
    let log = soon(lease(&w).logs(0, true)).await.unwrap();
    let busy = |e: ApiError| e.problem().is_some_and(|p| p.status == 503 && p.code == "busy");
    assert!(busy(soon(lease(&w).status()).await.unwrap_err()));
    assert!(busy(soon(w.api.events(Default::default())).await.err().unwrap()));
    w.api.status().await.unwrap();
    drop(log);
    soon(async { while lease(&w).status().await.is_err() {} }).await;
}
