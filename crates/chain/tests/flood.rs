//! Somebody who opens many connections to a validator and proves no key does not keep the others from it.

#![cfg(test)]

mod common;

use common::{ADD, Counter, Members, tx};
use pasture_chain::Chain;
use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::net::{TcpSocket, TcpStream};

const SOON: Duration = Duration::from_secs(120);
/// Ranges of 256 addresses that the flood comes from, connections from each, and the time between two. At four times the engine's own limit of
/// a range they would take all places for handshakes, which each keeps for five seconds.
const RANGES: u8 = 4;
const EACH: u32 = 1_500;
const PAUSE: Duration = Duration::from_millis(8);
/// Open at once of one range: more of all ranges than there are places.
const OPEN: usize = 135;
/// Sent by all before the flood stands: as many as take three seconds, in which no place is free again.
const STANDS: u32 = 1_500;
/// Connections of somebody else, none of which may be turned away.
const PROBES: u8 = 12;
/// Within this one is closed that is turned away.
const TURNED_AWAY: Duration = Duration::from_millis(500);

/// Connects from an address of its own, and says nothing.
async fn connect(from: Ipv4Addr, to: SocketAddr) -> Option<TcpStream> {
    let socket = TcpSocket::new_v4().ok()?;
    socket.bind((from, 0).into()).ok()?;
    tokio::time::timeout(SOON, socket.connect(to)).await.ok()?.ok()
}

async fn flood(range: u8, to: SocketAddr, sent: &AtomicU32) {
    let (mut open, mut pace) = (VecDeque::new(), tokio::time::interval(PAUSE));
    for n in 0..EACH {
        let host = u8::try_from(n % 250).unwrap() + 1;
        open.extend(connect(Ipv4Addr::new(127, 7, range, host), to).await);
        // Those that were turned away are not counted.
        open.retain(|stream: &TcpStream| stream.try_read(&mut [0]).is_err_and(|e| e.kind() == ErrorKind::WouldBlock));
        if open.len() > OPEN {
            open.pop_front();
        }
        sent.fetch_add(1, Ordering::Relaxed);
        pace.tick().await;
    }
}

/// Whether somebody of another range is turned away.
async fn turned_away(host: u8, to: SocketAddr) -> bool {
    let stream = connect(Ipv4Addr::new(127, 9, 9, host), to).await.unwrap();
    // Who is listened to hears nothing before it has said who it is.
    tokio::time::timeout(TURNED_AWAY, stream.readable()).await.is_ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_connections_from_a_few_ranges_do_not_keep_a_validator_out() {
    let (root, members) = (tempfile::tempdir().unwrap(), Members::new(2));
    // The first one dials nobody: it waits for the other.
    let options = members.options_naming(0, &root.path().join("0"), &[0]);
    let door = options.network.as_ref().unwrap().listen;
    let first = Chain::start(options, Arc::new(Counter)).unwrap();
    let sent = AtomicU32::new(0);
    let floods = futures::future::join_all((0..RANGES).map(|range| flood(range, door, &sent)));
    let joined = async {
        let mut pace = tokio::time::interval(PAUSE);
        while sent.load(Ordering::Relaxed) < STANDS {
            pace.tick().await;
        }
        let turned_away = futures::future::join_all((1..=PROBES).map(|host| turned_away(host, door))).await;
        assert_eq!(turned_away.iter().filter(|away| **away).count(), 0, "of {PROBES} from another range");
        let second = Chain::start(members.options(1, &root.path().join("1")), Arc::new(Counter)).unwrap();
        let done = second.submit(tx(1, 0, 0, ADD, b"")).unwrap().finalized();
        (tokio::time::timeout(SOON, done).await.unwrap().unwrap(), second)
    };
    let (done, second) = tokio::select! {
        _ = floods => panic!("the flood was over before the other was there"),
        joined = joined => joined,
    };
    assert!(done.height > 0 && first.peers().await.unwrap() == 1);
    for chain in [second, first] {
        chain.shutdown(SOON).await.unwrap();
    }
}
