//! Following ledger events.

use crate::world::{FEED, LEASE, NOBODY, World, loopback, node_key, soon, user};
use futures::StreamExt as _;
use pasture_api::client::EventFilter;
use pasture_types::event::{Event, Hash32};
use pasture_types::{AccountId, Amount, AssetId, Height, Millis};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

fn transfer(to: AccountId, amount: u128) -> Event {
    Event::Transferred { from: None, to, asset: AssetId::CREDIT, amount: Amount(amount) }
}

/// Follows through a bare socket, and returns it once `ready` has arrived.
async fn follow_raw(socket: TcpSocket, w: &World) -> TcpStream {
    let mut stream = socket.connect(w.gateway.local_addr()).await.unwrap();
    stream.write_all(b"GET /v1/events HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    soon(read_until(&mut stream, "event: ready")).await;
    stream
}

/// Reads until a text has come; `None` if the stream ended before.
async fn read_until(stream: &mut TcpStream, wanted: &str) -> Option<String> {
    let (mut seen, mut buffer) = (String::new(), vec![0; 64 * 1024]);
    while !seen.contains(wanted) {
        match stream.read(&mut buffer).await.unwrap() {
            0 => return None,
            n => seen.push_str(&String::from_utf8_lossy(&buffer[..n])),
        }
    }
    Some(seen)
}

#[tokio::test]
async fn after_ready_nothing_is_missed_and_filters_hold() {
    let w = World::new().await;
    let mut all = w.api.events(EventFilter::default()).await.unwrap();
    let mine = EventFilter { account: Some(user().account()), ..EventFilter::default() };
    let mut mine = w.api.events(mine).await.unwrap();
    let node = EventFilter { node: Some(node_key().node_id()), ..EventFilter::default() };
    let mut node = w.api.events(node).await.unwrap();
    let lease = EventFilter { lease: Some(LEASE), ..EventFilter::default() };
    let mut lease = w.api.events(lease).await.unwrap();

    let usage = Event::UsageRecorded { lease: LEASE, account: user().account(), served_ms: Millis(5), countersigned: true, confirmed_by: Some(user().account()) };
    let beat = Event::HeartbeatRecorded { node: node_key().node_id(), epoch: 3 };
    let epoch = Event::EpochStarted { epoch: 4, randomness: Hash32([4; 32]) };
    w.ledger.publish(8, vec![transfer(NOBODY, 1), transfer(user().account(), 2), usage.clone()]);
    w.ledger.publish(9, vec![beat.clone(), epoch.clone()]);
    let next = async |stream: &mut pasture_api::client::EventStream<pasture_api::LedgerEvent>| {
        let event = soon(stream.next()).await.unwrap().unwrap();
        (event.height, event.event)
    };
    assert_eq!(next(&mut all).await, (Height(8), transfer(NOBODY, 1)));
    assert_eq!(next(&mut all).await, (Height(8), transfer(user().account(), 2)));
    assert_eq!(next(&mut all).await, (Height(8), usage.clone()));
    assert_eq!(next(&mut all).await, (Height(9), beat.clone()));
    assert_eq!(next(&mut all).await, (Height(9), epoch.clone()));
    assert_eq!(next(&mut mine).await, (Height(8), transfer(user().account(), 2)));
    assert_eq!(next(&mut mine).await, (Height(8), usage.clone()));
    assert_eq!(next(&mut mine).await, (Height(9), epoch.clone()));
    assert_eq!(next(&mut node).await, (Height(9), beat));
    assert_eq!(next(&mut node).await, (Height(9), epoch.clone()));
    assert_eq!(next(&mut lease).await, (Height(8), usage));
    assert_eq!(next(&mut lease).await, (Height(9), epoch));
}

#[tokio::test]
async fn ready_tells_the_height_and_quiet_streams_are_kept_alive() {
    let mut options = loopback();
    options.keep_alive = Duration::from_millis(20);
    let w = World::with(options).await;
    let mut stream = TcpStream::connect(w.gateway.local_addr()).await.unwrap();
    stream.write_all(b"GET /v1/events? HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let seen = soon(read_until(&mut stream, ": keep-alive\n\n")).await.unwrap();
    assert!(seen.contains("content-type: text/event-stream"), "{seen}");
    assert!(seen.contains("event: ready\ndata: {\"height\":7}\n\n"), "{seen}");
}

#[tokio::test]
async fn a_reader_that_falls_behind_is_cut_and_the_other_is_not() {
    const BLOCKS: u64 = 24;
    const EVENTS: u128 = 2_000;
    let w = World::new().await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(16 * 1024).unwrap();
    let mut slow = follow_raw(socket, &w).await;
    let mut quick = w.api.events(EventFilter::default()).await.unwrap();
    // The slow one reads nothing, the quick one everything; far more is sent than sockets and feed hold together.
    for height in 1..=BLOCKS {
        w.ledger.publish(height, (0..EVENTS).map(|i| transfer(NOBODY, i)).collect());
        for i in 0..EVENTS {
            let event = soon(quick.next()).await.unwrap().unwrap();
            assert_eq!((event.height, event.event), (Height(height), transfer(NOBODY, i)));
        }
    }
    assert!(w.text("/metrics").await.contains("pasture_gateway_event_subscribers 2"));
    // Now the slow one reads on: what was on its way, then the end of the stream before the last block.
    let seen = soon(read_until(&mut slow, "\r\n0\r\n\r\n")).await.unwrap();
    assert!(seen.contains("\"height\":1,"));
    assert!(!seen.contains(&format!("\"height\":{BLOCKS},")), "the reader was not cut");
    let metrics = w.text("/metrics").await;
    assert!(metrics.contains("pasture_gateway_event_subscribers 1"), "{metrics}");
    assert!(metrics.contains("pasture_gateway_event_subscribers_lagged_total 1"), "{metrics}");
    w.ledger.publish(BLOCKS + 1, vec![transfer(NOBODY, 1)]);
    assert_eq!(soon(quick.next()).await.unwrap().unwrap().height, Height(BLOCKS + 1));
}

#[tokio::test]
async fn blocks_beyond_the_feed_end_a_stream_at_once() {
    let w = World::new().await;
    let mut events = w.api.events(EventFilter::default()).await.unwrap();
    // On this test's one thread the gateway does not run in between: its reader loses the first block.
    for height in 0..=FEED as u64 {
        w.ledger.publish(height, vec![transfer(NOBODY, 1)]);
    }
    assert!(soon(events.next()).await.is_none());
}
