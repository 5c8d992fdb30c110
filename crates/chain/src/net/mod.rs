//! The engine's network: none with one validator, authenticated and encrypted connections with several.
//!
//! ```text
//!  Link ─► votes, certificates, resolver, backfill, blocks, operations   (the engine's channels)
//!      └─► transactions, joining                                         (ours: `gossip`, `join`)
//! ```
//! Guarantees: one type for both, so that the engine is instantiated once. A connection is only made with a validator, with somebody who
//! could get a seat, or with whom the operator named; it proves that the other holds that key, and belongs to one zone: the zone's id is part of
//! the handshake. Addresses are signed by whose they are and passed on among the connected. Without a network no socket is opened.

mod alone;

use crate::block::Block;
use crate::error::ChainError;
use crate::genesis::{MAX_VALIDATORS, Roster, public_key, raw};
use crate::gossip;
use crate::join;
use crate::stack::{Channel, Channels};
use crate::terms::Track;
use alone::{Alone, Nobody};
use commonware_actor::{Feedback, Unreliable};
use commonware_consensus::{
    marshal::{self, standard::Standard},
    simplex::{self, scheme::ed25519::Scheme},
};
use commonware_cryptography::{
    ChaCha20Poly1305, Signer as _,
    ed25519::{PrivateKey, PublicKey},
};
use commonware_p2p::{
    BlockedSubscription, Blocker, CheckedSender, Ingress, LimitedSender, Manager as _, Message, PeerSetSubscription, Provider, Receiver,
    Recipients, TrackedPeers,
    authenticated::discovery::{self, Oracle},
    utils::mux,
};
use commonware_runtime::{Handle, IoBufs, Quota, Supervisor as _, tokio::Context};
use commonware_stream::{
    SakeCups,
    cups::{self, Cups},
    sake::{self, Sake},
};
use commonware_utils::{NZU32, NZUsize, ordered::Set};
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

/// What a handshake signs, followed by the zone's id: validators of different zones do not understand each other.
const NAMESPACE: &[u8] = b"pasture 2026-11 validators network v1";
/// How far apart two validators' clocks may be for a connection.
const CLOCK_DRIFT: Duration = Duration::from_secs(30);
/// How old a handshake may be: bounds the replay of one, and how slow a path may be.
const HANDSHAKE_AGE: Duration = Duration::from_secs(30);
/// Shortest time between two connections with one validator: one that was restarted is back soon, one that flaps costs little.
const RECONNECT: Duration = Duration::from_millis(500);
/// How often somebody who is not connected is dialled.
const DIAL: Duration = Duration::from_millis(250);
/// How often a connection is tried out, and what is known of the others is passed on.
const PING: Duration = Duration::from_secs(5);
/// Handshakes a second that somebody begins from one address, and from one range of 256 (a /48 of IPv6). Who proves no key is cut off
/// after five seconds, so a range holds 96 of the 512 places for handshakes at most, and one range cannot keep others out.
const HANDSHAKES: NonZeroU32 = NZU32!(16);
/// How long one that sent what cannot be is kept away.
const BLOCKED: Duration = Duration::from_secs(600);
/// Messages between the network's own parts.
const MAILBOX: NonZeroUsize = NZUsize!(256);
/// Messages a second from one validator, and how many of them at once: votes and certificates, of which a view has a handful. Room for
/// what everybody may send at once is taken at the start, on each channel.
const VOTES: (NonZeroU32, NonZeroU32) = (NZU32!(512), NZU32!(64));
/// Most who follow without a seat, and are named by the operator without one.
const MAX_FOLLOWERS: usize = 32;
/// Blocks a second from one validator, new ones or asked for.
const BLOCKS: (NonZeroU32, NonZeroU32) = (NZU32!(128), NZU32!(32));
/// Bundles of transactions a second from one validator; `gossip` sends no more.
const BUNDLES: (NonZeroU32, NonZeroU32) = (NZU32!(256), NZU32!(32));

/// Questions and answers a second from one who joins by state.
const JOINING: (NonZeroU32, NonZeroU32) = (NZU32!(8), NZU32!(8));
/// Requests and answers a second of one who fetches a state: a thousand operations each.
const OPERATIONS: (NonZeroU32, NonZeroU32) = (NZU32!(256), NZU32!(32));

/// How validators reach each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// Where this one listens.
    pub listen: SocketAddr,
    /// Where the others reach this one.
    pub address: SocketAddr,
    /// Where some of the others are: their keys and addresses. The rest is learned from those who are connected.
    pub peers: Vec<([u8; 32], SocketAddr)>,
    /// Whether addresses of private networks are dialled and let in: on one machine or in one house.
    pub private: bool,
}

type NetSender = discovery::Sender<PublicKey, Context>;

/// Sends on one channel.
#[derive(Clone)]
pub(crate) enum Mouth {
    Nobody(Nobody),
    Peers(NetSender),
}

/// Sends to those who may be sent to now.
#[allow(clippy::large_enum_variant, reason = "it lives for one call, and the large one is the usual one")]
pub(crate) enum Checked<'a> {
    Nobody(Nobody),
    Peers(<NetSender as LimitedSender>::Checked<'a>),
}

impl LimitedSender for Mouth {
    type PublicKey = PublicKey;
    type Checked<'a> = Checked<'a>;
    fn check(&mut self, recipients: Recipients<PublicKey>) -> Result<Checked<'_>, SystemTime> {
        match self {
            Self::Nobody(nobody) => nobody.check(recipients).map(Checked::Nobody),
            Self::Peers(peers) => peers.check(recipients).map(Checked::Peers),
        }
    }
}

impl CheckedSender for Checked<'_> {
    type PublicKey = PublicKey;
    fn recipients(&self) -> Vec<PublicKey> {
        match self {
            Self::Nobody(nobody) => nobody.recipients(),
            Self::Peers(peers) => peers.recipients(),
        }
    }
    fn send(self, message: impl Into<IoBufs> + Send, priority: bool) -> Unreliable<Feedback> {
        match self {
            Self::Nobody(nobody) => nobody.send(message, priority),
            Self::Peers(peers) => peers.send(message, priority),
        }
    }
}

/// Receives on one channel.
#[derive(Debug)]
pub(crate) enum Ear {
    Silence,
    Peers(discovery::Receiver<PublicKey>),
}

impl Receiver for Ear {
    type Error = discovery::Error;
    type PublicKey = PublicKey;
    async fn recv(&mut self) -> Result<Message<PublicKey>, discovery::Error> {
        match self {
            Self::Silence => std::future::pending().await,
            Self::Peers(peers) => peers.recv().await,
        }
    }
    fn capacity(&self) -> NonZeroUsize {
        match self {
            Self::Silence => NZUsize!(1),
            Self::Peers(peers) => peers.capacity(),
        }
    }
}

/// Who is there, and who is kept away.
#[derive(Clone, Debug)]
pub(crate) enum Peers {
    Alone(Alone),
    Net(Oracle<PublicKey>),
}

impl Provider for Peers {
    type PublicKey = PublicKey;
    async fn peer_set(&mut self, id: u64) -> Option<TrackedPeers<PublicKey>> {
        match self {
            Self::Alone(alone) => alone.peer_set(id).await,
            Self::Net(oracle) => oracle.peer_set(id).await,
        }
    }
    async fn subscribe(&mut self) -> PeerSetSubscription<PublicKey> {
        match self {
            Self::Alone(alone) => alone.subscribe().await,
            Self::Net(oracle) => oracle.subscribe().await,
        }
    }
}

impl Blocker for Peers {
    type PublicKey = PublicKey;
    fn block(&mut self, peer: PublicKey) -> Feedback {
        tracing::warn!(peer = %hex(&peer), "a validator sent what cannot be, and is kept away for a while");
        match self {
            Self::Alone(alone) => alone.block(peer),
            Self::Net(oracle) => oracle.block(peer),
        }
    }
    fn blocked(&mut self) -> BlockedSubscription<PublicKey> {
        match self {
            Self::Alone(alone) => alone.blocked(),
            Self::Net(oracle) => oracle.blocked(),
        }
    }
}

/// A network that is up.
pub(crate) struct Link {
    pub(crate) channels: Channels<Mouth, Ear>,
    pub(crate) transactions: Channel<Mouth, Ear>,
    pub(crate) peers: Peers,
    /// Told at each term who belongs to the network.
    pub(crate) track: Track,
    /// Ends when the network cannot go on; none with one validator.
    pub(crate) task: Option<Handle<()>>,
}

impl Link {
    /// No network.
    pub(crate) fn none(roster: &Roster) -> Self {
        let channel = || (Mouth::Nobody(Nobody), Ear::Silence);
        Self {
            channels: Channels {
                votes: channel(),
                certificates: channel(),
                resolver: channel(),
                backfill: channel(),
                blocks: channel(),
                joining: channel(),
                operations: channel(),
            },
            transactions: channel(),
            peers: Peers::Alone(Alone::new(roster.founders.participants())),
            track: Box::new(|_, _, _| ()),
            task: None,
        }
    }

    /// Listens, and begins to dial the others.
    pub(crate) fn start(context: &Context, network: &Network, signer: PrivateKey, roster: &Roster) -> Result<Self, ChainError> {
        // The engine's listener would panic; this says what is wrong.
        drop(
            std::net::TcpListener::bind(network.listen)
                .map_err(|e| ChainError::Network(format!("cannot listen on {}: {e}", network.listen)))?,
        );
        let me = signer.public_key();
        let named = bootstrappers(network, &me)?;
        let members = u32::try_from(MAX_VALIDATORS).unwrap_or(u32::MAX);
        let largest = commonware_p2p::max_message_size(&[
            mux::prefixed(simplex::max_payload_size::<Scheme, crate::block::Digest>(members)),
            marshal::max_payload_size::<Standard<Block>, Scheme>(members, &()),
            gossip::MAX_BUNDLE_BYTES,
            join::MAX_ANSWER_BYTES,
            join::largest_answer(),
        ]);
        let first: Vec<PublicKey> = named.iter().map(|(key, _)| key.clone()).collect();
        let (mut net, oracle) = discovery::Network::new(context.child("network"), config(network, signer, roster, named, largest));
        let mut index = 0u64;
        let mut register = |(rate, at_once): (NonZeroU32, NonZeroU32)| {
            let (sender, receiver) = net.register(index, Quota::per_second(rate).allow_burst(at_once));
            index += 1;
            (Mouth::Peers(sender), Ear::Peers(receiver))
        };
        let channels = Channels {
            votes: register(VOTES),
            certificates: register(VOTES),
            resolver: register(VOTES),
            backfill: register(BLOCKS),
            blocks: register(BLOCKS),
            joining: register(JOINING),
            operations: register(OPERATIONS),
        };
        let transactions = register(BUNDLES);
        let tracking = oracle.clone();
        let tracked = AtomicU64::new(u64::MAX);
        let track: Track = Box::new(move |term, seats, candidates| {
            // Who joins by state tells of the first term before it knows which one it is in.
            if tracked.swap(term, Ordering::Relaxed) == term {
                return;
            }
            let followers = first.iter().cloned().chain(candidates).filter(|key| *key != me && seats.position(key).is_none());
            let followers = Set::from_iter_dedup(followers.take(MAX_FOLLOWERS));
            // The oracle is a handle; it lives as long as the network does.
            let _ = tracking.clone().track(term, TrackedPeers::new(seats, followers));
        });
        Ok(Self { channels, transactions, peers: Peers::Net(oracle), track, task: Some(net.start()) })
    }
}

fn config(
    network: &Network,
    signer: PrivateKey,
    roster: &Roster,
    named: Vec<(PublicKey, Ingress)>,
    largest: u32,
) -> discovery::Config<SakeCups<PrivateKey, ChaCha20Poly1305>> {
    let handshake = Cups::<_, ChaCha20Poly1305>::new(
        Sake { signer, synchrony_bound: CLOCK_DRIFT, max_handshake_age: HANDSHAKE_AGE, version: sake::Version::V1 },
        cups::Version::V1,
    );
    let namespace = [NAMESPACE, &roster.zone].concat();
    let most = NZUsize!(MAX_VALIDATORS + MAX_FOLLOWERS + 1);
    let recommended = discovery::Config::recommended(handshake, &namespace, network.listen, network.address, named, most, largest, MAILBOX);
    discovery::Config {
        allow_private_ips: network.private,
        allow_dns: false,
        synchrony_bound: CLOCK_DRIFT,
        allowed_handshake_rate_per_ip: Quota::per_second(HANDSHAKES),
        allowed_handshake_rate_per_subnet: Quota::per_second(HANDSHAKES),
        peer_connection_cooldown: RECONNECT,
        gossip_bit_vec_frequency: PING,
        dial_frequency: DIAL,
        dial_timeout: Duration::from_secs(5),
        tracked_peer_sets: NZUsize!(2),
        block_duration: BLOCKED,
        ..recommended
    }
}

/// Those whose addresses the operator named, this node left out.
fn bootstrappers(network: &Network, me: &PublicKey) -> Result<Vec<(PublicKey, Ingress)>, ChainError> {
    let mut named = Vec::with_capacity(network.peers.len());
    for (key, address) in &network.peers {
        let key = public_key(key).ok_or_else(|| ChainError::Network(format!("what is at {address} is named by what is no key")))?;
        if key != *me {
            named.push((key, Ingress::from(*address)));
        }
    }
    Ok(named)
}

fn hex(key: &PublicKey) -> String {
    raw(key).iter().map(|byte| format!("{byte:02x}")).collect()
}
