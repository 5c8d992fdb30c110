//! Somebody who opens many connections to a validator and proves no key does not keep the others from it.

#![cfg(test)]

mod common;

use common::{ADD, Counter, Members, tx};
use pasture_chain::Chain;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpSocket, TcpStream};

const SOON: Duration = Duration::from_secs(60);
/// Ranges of 256 addresses that the flood comes from, connections from each, and how long they take to come: more than the places for
/// handshakes, which each holds for five seconds, at a rate that two ranges alone would be enough at if nothing held them back.
const RANGES: u8 = 4;
const EACH: u32 = 1_000;
const PAUSE: Duration = Duration::from_millis(8);

/// Connects from an address of its own, and says nothing.
async fn connect(from: Ipv4Addr, to: SocketAddr) -> Option<TcpStream> {
    let socket = TcpSocket::new_v4().ok()?;
    socket.bind((from, 0).into()).ok()?;
    tokio::time::timeout(SOON, socket.connect(to)).await.ok()?.ok()
}

async fn flood(range: u8, to: SocketAddr) {
    let mut open = std::collections::VecDeque::new();
    for n in 0..EACH {
        let host = u8::try_from(n % 250).unwrap() + 1;
        if let Some(stream) = connect(Ipv4Addr::new(127, 7, range, host), to).await {
            open.push_back(stream);
        }
        // As long as the validator would wait, in connections.
        if open.len() > 150 {
            open.pop_front();
        }
        tokio::time::sleep(PAUSE).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_connections_from_a_few_ranges_do_not_keep_a_validator_out() {
    let (root, members) = (tempfile::tempdir().unwrap(), Members::new(2));
    // The first one dials nobody: it waits for the other.
    let options = members.options_naming(0, &root.path().join("0"), &[0]);
    let door = options.network.as_ref().unwrap().listen;
    let first = Chain::start(options, Arc::new(Counter)).unwrap();
    let floods = futures::future::join_all((0..RANGES).map(|range| flood(range, door)));
    let joined = async {
        // The flood stands: what is beyond the limit is closed at once.
        let mut closed = 0;
        while closed < 32 {
            let Some(probe) = connect(Ipv4Addr::new(127, 7, 0, 251), door).await else { continue };
            closed += u32::from(matches!(tokio::time::timeout(PAUSE, probe.readable()).await, Ok(Ok(()))));
        }
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
