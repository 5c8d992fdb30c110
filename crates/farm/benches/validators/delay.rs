//! A longer way to an address: what comes is passed on after a fixed time, in both directions.
//!
//! Guarantees: order and bytes stay; a direction that nobody reads holds as much as the system's buffers and [`CHUNKS`] pieces, and then
//! its sender waits. It adds delay and nothing else: no loss, no limit of bandwidth. It ends with the runtime that it was started on.

use crate::report::Failure;
use pasture_rt::TaskKind;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

/// Pieces on their way in one direction: more than a fast sender has under way in the longest delay.
const CHUNKS: usize = 4_096;
const CHUNK_BYTES: usize = 16 << 10;

/// Listens on a free port of this machine and passes everything on to `to`, each direction `delay` later. Gives where it listens.
pub(crate) async fn longer_way(to: SocketAddr, delay: Duration) -> Result<SocketAddr, Failure> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    pasture_rt::spawn(TaskKind::Server, async move {
        while let Ok((near, _)) = listener.accept().await {
            pasture_rt::spawn(TaskKind::Connection, async move {
                let Ok(far) = TcpStream::connect(to).await else { return };
                // Small messages go at once, as the programs themselves want it.
                if near.set_nodelay(true).and(far.set_nodelay(true)).is_err() {
                    return;
                }
                let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
                tokio::join!(pass(near_in, far_out, delay), pass(far_in, near_out, delay));
            });
        }
    });
    Ok(address)
}

async fn pass(mut from: impl AsyncReadExt + Unpin, mut to: impl AsyncWriteExt + Unpin, delay: Duration) {
    let (sender, mut pieces) = mpsc::channel::<(Instant, Vec<u8>)>(CHUNKS);
    let reading = async move {
        let mut buffer = vec![0; CHUNK_BYTES];
        while let Ok(read @ 1..) = from.read(&mut buffer).await {
            let piece = buffer.get(..read).unwrap_or_default().to_vec();
            if sender.send((Instant::now() + delay, piece)).await.is_err() {
                return;
            }
        }
    };
    let writing = async move {
        while let Some((at, piece)) = pieces.recv().await {
            sleep_until(at).await;
            if to.write_all(&piece).await.is_err() {
                return;
            }
        }
        // The other side hears of the end; that it is gone already is as good.
        let _ = to.shutdown().await;
    };
    tokio::join!(reading, writing);
}
