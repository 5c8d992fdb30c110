//! The network of a zone with one validator: none.
//!
//! Guarantees: no socket is opened; the engine sees a peer set of one and channels on which nothing ever arrives.

use commonware_actor::{Feedback, Unreliable};
use commonware_cryptography::ed25519::PublicKey;
use commonware_p2p::{
    BlockedSubscription, Blocker, CheckedSender, LimitedSender, PeerSetSubscription, PeerSetUpdate, Provider, Recipients, TrackedPeers,
};
use commonware_runtime::IoBufs;
use commonware_utils::{
    NZUsize,
    channel::{mpsc, ring},
    ordered::Set,
};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

/// Sends to nobody.
#[derive(Clone, Debug)]
pub(crate) struct Nobody;

impl LimitedSender for Nobody {
    type PublicKey = PublicKey;
    type Checked<'a> = Self;
    fn check(&mut self, _: Recipients<PublicKey>) -> Result<Self, SystemTime> {
        Ok(Self)
    }
}

impl CheckedSender for Nobody {
    type PublicKey = PublicKey;
    fn recipients(&self) -> Vec<PublicKey> {
        Vec::new()
    }
    fn send(self, _: impl Into<IoBufs> + Send, _: bool) -> Unreliable<Feedback> {
        Unreliable::new(Feedback::Ok)
    }
}

/// A peer set of one that never changes, where nobody is blocked.
#[derive(Clone, Debug)]
pub(crate) struct Alone {
    peers: Set<PublicKey>,
    /// Subscriptions end when their senders go, and engine parts stop with them.
    kept: Arc<Mutex<Kept>>,
}

#[derive(Default)]
struct Kept {
    peers: Vec<mpsc::UnboundedSender<PeerSetUpdate<PublicKey>>>,
    blocked: Vec<ring::Sender<Set<PublicKey>>>,
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kept").field("peers", &self.peers.len()).field("blocked", &self.blocked.len()).finish()
    }
}

impl Alone {
    pub(crate) fn new(peers: Set<PublicKey>) -> Self {
        Self { peers, kept: Arc::default() }
    }
}

impl Provider for Alone {
    type PublicKey = PublicKey;
    async fn peer_set(&mut self, _: u64) -> Option<TrackedPeers<PublicKey>> {
        Some(TrackedPeers::primary(self.peers.clone()))
    }
    async fn subscribe(&mut self) -> PeerSetSubscription<PublicKey> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let peers = TrackedPeers::primary(self.peers.clone());
        // The receiver is still here.
        let _ = sender.send(PeerSetUpdate { index: 0, latest: peers.clone(), all: peers });
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).peers.push(sender);
        receiver
    }
}

impl Blocker for Alone {
    type PublicKey = PublicKey;
    fn block(&mut self, _: PublicKey) -> Feedback {
        Feedback::Ok
    }
    fn blocked(&mut self) -> BlockedSubscription<PublicKey> {
        let (sender, receiver) = ring::channel(NZUsize!(1));
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).blocked.push(sender);
        receiver
    }
}
