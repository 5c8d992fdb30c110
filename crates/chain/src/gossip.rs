//! Spreads waiting transactions among validators, so that whoever leads next has them.
//!
//! ```text
//!  submit ─► Core ─► outbox ─► bundle ─► every validator ─► admit there ─► its pool
//!                      ▲
//!                      └── what has waited for long here: once more
//! ```
//! Guarantees: each transaction is sent on by the node that it was handed to and by no other, so that a full mesh carries it once to
//! each; one that was lost on the way, or met a validator that was away, is sent again until it is final or expired. What comes is
//! checked like what a client hands in; how much of one validator's may wait is bounded ([`crate::Limits::per_peer`]). Whoever sends
//! what is no bundle is kept away. Nothing is remembered across a restart.

use crate::core::Core;
use crate::genesis::raw;
use crate::net::{Ear, Mouth, Peers};
use bytes::Bytes;
use commonware_codec::{Decode as _, Encode as _, RangeCfg};
use commonware_cryptography::ed25519::PublicKey;
use commonware_p2p::{Blocker as _, Receiver as _, Recipients, Sender as _};
use commonware_runtime::{Clock as _, IoBuf, Spawner as _, Supervisor as _, tokio::Context};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Largest bundle on the wire. One transaction always fits.
pub(crate) const MAX_BUNDLE_BYTES: usize = 512 << 10;
/// Most transactions in one bundle.
const MAX_BUNDLE_TXS: usize = 512;
/// Transactions that wait to be sent; what finds no place goes with those that have waited for long.
pub(crate) const OUTBOX: usize = 8_192;
/// How long a transaction waits before it is sent again, and how often that is looked at.
const AGAIN: Duration = Duration::from_secs(1);
/// Most bytes that are sent again at one time.
const AGAIN_BYTES: usize = 1 << 20;
/// Transactions that are known again without checking their signatures once more: what waits for long is sent each second. Twice as
/// many are remembered at most, by 32 bytes each.
const REMEMBERED: usize = 32_768;

/// Starts both directions.
pub(crate) fn start(context: &Context, core: &Arc<Core>, outbox: mpsc::Receiver<Bytes>, (mouth, ear): (Mouth, Ear), peers: Peers) {
    let sending = Arc::clone(core);
    context.child("spread").spawn(move |context| spread(context, sending, outbox, mouth));
    let receiving = Arc::clone(core);
    // Signatures are checked here: on a thread of its own, so that votes do not wait for them.
    context.child("gather").dedicated().spawn(move |_| gather(receiving, ear, peers));
}

async fn spread(context: Context, core: Arc<Core>, mut outbox: mpsc::Receiver<Bytes>, mut mouth: Mouth) {
    loop {
        let mut bundle = Vec::new();
        tokio::select! {
            taken = outbox.recv_many(&mut bundle, MAX_BUNDLE_TXS) => {
                if taken == 0 {
                    return;
                }
            }
            () = context.sleep(AGAIN) => bundle = core.waiting_since(AGAIN, AGAIN_BYTES),
        }
        for part in bundles(bundle) {
            // Whoever is not connected hears of it when it is sent again.
            let _ = mouth.send(Recipients::All, IoBuf::from(part.encode()), false);
        }
    }
}

/// Cuts transactions into bundles that fit.
fn bundles(txs: Vec<Bytes>) -> Vec<Vec<Bytes>> {
    let (mut out, mut size): (Vec<Vec<Bytes>>, usize) = (Vec::new(), usize::MAX);
    for tx in txs {
        // Five bytes for the list's length and for each transaction's.
        let more = tx.len().saturating_add(5);
        size = size.saturating_add(more);
        match out.last_mut() {
            Some(last) if size <= MAX_BUNDLE_BYTES && last.len() < MAX_BUNDLE_TXS => last.push(tx),
            _ => {
                size = more.saturating_add(5);
                out.push(vec![tx]);
            }
        }
    }
    out
}

async fn gather(core: Arc<Core>, mut ear: Ear, mut peers: Peers) {
    core.ready().await;
    let mut taken = Taken::default();
    while let Ok((from, message)) = ear.recv().await {
        let limits = (RangeCfg::from(0..=MAX_BUNDLE_TXS), RangeCfg::from(0..=MAX_BUNDLE_BYTES));
        let Ok(txs) = Vec::<Bytes>::decode_cfg(message, &limits) else {
            let _ = peers.block(from);
            continue;
        };
        take(&core, &from, txs, &mut taken);
    }
}

/// Hashes of what was taken in, in two generations.
#[derive(Default)]
struct Taken {
    new: HashSet<blake3::Hash>,
    old: HashSet<blake3::Hash>,
}

impl Taken {
    fn has(&self, hash: &blake3::Hash) -> bool {
        self.new.contains(hash) || self.old.contains(hash)
    }
    fn add(&mut self, hash: blake3::Hash) {
        if self.new.len() >= REMEMBERED {
            self.old = std::mem::take(&mut self.new);
        }
        self.new.insert(hash);
    }
}

/// What is refused here is refused silently: its sender will hear of it from its own pool.
fn take(core: &Core, from: &PublicKey, txs: Vec<Bytes>, taken: &mut Taken) {
    let from = raw(from);
    for tx in txs {
        let hash = blake3::hash(&tx);
        if !taken.has(&hash) && core.hear(tx, from).is_ok() {
            taken.add(hash);
        }
    }
}
