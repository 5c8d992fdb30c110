//! Starting and stopping.

use crate::world::{World, loopback, newcomer, soon};
use futures::StreamExt as _;
use pasture_api::ApiError;
use pasture_api::client::EventFilter;
use pasture_gateway::{Backend, Gateway, GatewayError, GatewayOptions};
use pasture_rt::{ManualClock, Shutdown};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

#[tokio::test]
async fn a_taken_port_is_named_with_the_way_out() {
    let w = World::new().await;
    let mut options = loopback();
    options.listen = w.gateway.local_addr();
    let backend: Arc<dyn Backend> = w.ledger.clone();
    let error = Gateway::start(options, backend, Arc::new(ManualClock::new(0)), Shutdown::new().token()).await.unwrap_err();
    assert!(matches!(error, GatewayError::PortTaken { .. }));
    let text = error.to_string();
    let port = w.gateway.local_addr().port();
    assert!(text.contains(&format!("port {port} on 127.0.0.1 is taken")), "{text}");
    assert!(text.contains("`--listen 127.0.0.1:"), "{text}");
}

#[tokio::test]
async fn senseless_options_are_refused() {
    let w = World::new().await;
    let mut options = loopback();
    options.max_streams = 0;
    let backend: Arc<dyn Backend> = w.ledger.clone();
    let error = Gateway::start(options, backend, Arc::new(ManualClock::new(0)), Shutdown::new().token()).await.unwrap_err();
    assert!(error.to_string().contains("max_streams is 0"), "{error}");
}

#[tokio::test]
async fn a_transaction_that_no_block_takes_is_a_504() {
    let mut options = loopback();
    options.finality_deadline = Duration::from_millis(20);
    let w = World::with(options).await;
    w.ledger.stuck.store(true, Ordering::SeqCst);
    let error = soon(w.api.submit(&newcomer(None))).await.unwrap_err();
    assert_eq!(error.problem().unwrap().code, "not-final-yet");
    assert!(error.is_transient());
}

#[tokio::test]
async fn a_stop_ends_event_streams_and_refuses_newcomers() {
    let w = World::new().await;
    let mut events = w.api.events(EventFilter::default()).await.unwrap();
    let started = std::time::Instant::now();
    w.stop.trigger();
    assert!(soon(events.next()).await.is_none());
    soon(w.gateway.ended()).await;
    assert!(started.elapsed() < loopback().shutdown_deadline, "it waited for its deadline");
    assert!(matches!(w.api.status().await.unwrap_err(), ApiError::Unreachable { .. } | ApiError::Broken { .. }));
}

#[tokio::test]
async fn a_request_that_hangs_is_cut_at_the_deadline() {
    let mut options = loopback();
    options.shutdown_deadline = Duration::from_millis(50);
    let w = World::with(options).await;
    w.ledger.stuck.store(true, Ordering::SeqCst);
    let tx = pasture_types::codec::encode(&newcomer(None));
    let mut stream = TcpStream::connect(w.gateway.local_addr()).await.unwrap();
    let head = format!("POST /v1/transactions HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", tx.len());
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&tx).await.unwrap();
    soon(w.ledger.asked.notified()).await;
    w.stop.trigger();
    soon(w.gateway.ended()).await;
    // No answer, and the connection is gone: closed, or reset because it was cut.
    let mut answer = vec![];
    let end = soon(stream.read_to_end(&mut answer)).await;
    assert!(answer.is_empty() && (end.is_ok() || end.is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionReset)));
}

#[tokio::test]
async fn a_range_of_addresses_has_its_part_of_the_connections_and_leaves_others_theirs() {
    let mut options = loopback();
    options.max_connections_of_range = 2;
    let w = World::with(options).await;
    let from = async |address: [u8; 4]| {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind((address, 0).into()).unwrap();
        let mut stream = socket.connect(w.gateway.local_addr()).await.unwrap();
        // What is closed at once may take this or not.
        let _ = stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await;
        let mut answer = [0; 12];
        let read = soon(stream.read_exact(&mut answer)).await;
        read.is_ok().then_some(stream)
    };
    let first = from([127, 7, 7, 1]).await.expect("a place");
    let second = from([127, 7, 7, 2]).await.expect("a place");
    assert!(from([127, 7, 7, 3]).await.is_none(), "a third of the range");
    let _other = from([127, 7, 8, 1]).await.expect("another range");
    for _ in 0..4 {
        let _own = from([127, 0, 0, 1]).await.expect("this machine");
    }
    drop(first);
    // Its place is free as soon as the gateway has seen that it is gone.
    let mut again = None;
    while again.is_none() {
        again = soon(from([127, 7, 7, 4])).await;
    }
    drop((second, again));
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_a_slot() {
    let mut options = loopback();
    (options.max_connections, options.max_streams) = (1, 1);
    let w = World::with(options).await;
    let mut first = TcpStream::connect(w.gateway.local_addr()).await.unwrap();
    let mut second = TcpStream::connect(w.gateway.local_addr()).await.unwrap();
    second.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    // The second was there before the first asks, and is not among the open ones.
    first.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    soon(first.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.contains("pasture_gateway_connections 1\n"), "{answer}");
    // The first's slot is free again.
    answer.clear();
    soon(second.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn a_name_that_somebody_else_may_own_is_not_answered_on_a_machine_of_ones_own() {
    async fn asked(w: &World, request: &str) -> String {
        let mut stream = TcpStream::connect(w.gateway.local_addr()).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        soon(stream.read_to_string(&mut answer)).await.unwrap();
        answer
    }
    let w = World::new().await;
    let by = |host: &str| format!("GET /v1/status HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    for own in ["localhost:8730", "127.0.0.1", "[::1]:1", "gateway"] {
        assert!(asked(&w, &by(own)).await.starts_with("HTTP/1.1 200"), "{own}");
    }
    for other in ["evil.example.org", "evil.example.org:8730", "localhost.evil.example.org"] {
        let answer = asked(&w, &by(other)).await;
        assert!(answer.starts_with("HTTP/1.1 421") && answer.contains("other-host"), "{answer}");
        assert!(!answer.contains("genesis"), "{answer}");
    }
    // The target may name a host as well, and it counts before the header.
    let whole = "GET http://evil.example.org/v1/status HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    assert!(asked(&w, whole).await.starts_with("HTTP/1.1 421"));
    // One for everybody asks for no name.
    let w = World::with(GatewayOptions { listen: ([0, 0, 0, 0], 0).into(), ..loopback() }).await;
    let at = std::net::SocketAddr::from(([127, 0, 0, 1], w.gateway.local_addr().port()));
    let mut stream = TcpStream::connect(at).await.unwrap();
    stream.write_all(by("api.example.org").as_bytes()).await.unwrap();
    let mut answer = String::new();
    soon(stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}
